//! `streamgate listen`: a receiver on this machine that checks what it gets and prints it, for integrators who want to
//! see an event before they write a consumer.
//!
//! It takes single events and batches. It answers 204 where the signature is right and 401 to anything else, so that a wrong
//! secret shows at the sender as well.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use actix_web::http::header::HeaderMap;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::output::{Output, printable};
use super::{Exit, Failure};
use crate::config::settings::WebhookSecret;
use crate::domain::time::Timestamp;
use crate::routing_queue::signature::SignedHeaders;

#[derive(Debug, clap::Args)]
pub(super) struct ListenArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// A file with the signing secret. The gateway makes this one for the sample routing queue `listener`.
    #[arg(long, value_name = "FILE", default_value = "streamgate-data/listener.secret")]
    secret_file: PathBuf,
    /// Stop after this many events.
    #[arg(long, value_name = "EVENTS")]
    count: Option<usize>,
}

/// What the handler needs.
#[derive(Clone)]
struct Receiver {
    secrets: Vec<WebhookSecret>,
    output: Output,
    received: tokio::sync::mpsc::UnboundedSender<usize>,
}

pub(super) fn run(args: &ListenArgs, output: &Output) -> Result<Exit, Failure> {
    let secret = std::fs::read_to_string(&args.secret_file).map_err(|fault| {
        Failure::new(
            Exit::Usage,
            format!(
                "the signing secret {} cannot be read ({fault}). Start the gateway once, which makes it, or name another \
                 file with --secret-file.",
                args.secret_file.display()
            ),
        )
    })?;
    let secret = WebhookSecret::parse(&secret)
        .map_err(|fault| Failure::new(Exit::Usage, format!("{} {fault}", args.secret_file.display())))?;
    let listener = TcpListener::bind(args.listen).map_err(|fault| {
        Failure::new(
            Exit::Usage,
            format!("cannot listen on {}: {fault}. Choose another address with --listen.", args.listen),
        )
    })?;
    let address = listener.local_addr()?;
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Receiver { secrets: vec![secret], output: *output, received: sender };
    output.note(format!("listening on http://{address}/ (stop with Ctrl-C)"))?;
    let count = args.count;
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(receiver.clone()))
                .app_data(web::PayloadConfig::new(16 * 1_024 * 1_024))
                .default_service(web::to(receive))
        })
        .workers(1)
        .listen(listener)?
        .shutdown_timeout(1)
        .run();
        let handle = server.handle();
        actix_web::rt::spawn(async move {
            let mut events = 0;
            while let Some(more) = received.recv().await {
                events += more;
                if count.is_some_and(|count| events >= count) {
                    handle.stop(true).await;
                }
            }
        });
        server.await
    })?;
    Ok(Exit::Done)
}

async fn receive(request: HttpRequest, body: Bytes, receiver: web::Data<Receiver>) -> HttpResponse {
    match verified(request.headers(), &body, &receiver.secrets) {
        Ok(()) => match print(&body, request.headers(), receiver.output) {
            Ok(events) => {
                // The counter may be gone while the server stops; they have been printed all the same.
                let _counted = receiver.received.send(events);
                HttpResponse::NoContent().finish()
            }
            Err(fault) => {
                let _printed = receiver.output.note(format!("a message could not be printed: {}", fault.message));
                HttpResponse::ServiceUnavailable().finish()
            }
        },
        Err(why) => {
            let _printed = receiver.output.note(format!("REFUSED: {why}"));
            HttpResponse::Unauthorized().body(why)
        }
    }
}

fn verified(headers: &HeaderMap, body: &[u8], secrets: &[WebhookSecret]) -> Result<(), String> {
    let text = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).ok_or_else(|| format!("the header `{name}` is missing"))
    };
    let signed = SignedHeaders {
        id: text("webhook-id")?,
        timestamp: text("webhook-timestamp")?,
        signature: text("webhook-signature")?,
    };
    signed.verify(body, secrets, Timestamp::now()).map_err(|fault| fault.to_string())
}

/// Prints the events of a message: each as it came, on a line of its own (`--json`), or laid out for a person with the
/// record details on a line of their own. Answers how many they were.
fn print(body: &[u8], headers: &HeaderMap, output: Output) -> Result<usize, Failure> {
    let text = std::str::from_utf8(body)
        .map_err(|fault| Failure::new(Exit::Refused, format!("the message is not UTF-8: {fault}")))?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !header("content-type").starts_with("application/cloudevents-batch+json") {
        print_event(text, "", output)?;
        return Ok(1);
    }
    let events: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|fault| Failure::new(Exit::Refused, format!("this is no batch of a gateway: {fault}")))?;
    for (event, number) in events.iter().zip(1_usize..) {
        let place = format!(" {number} of {} in {}", events.len(), printable(header("webhook-id")));
        print_event(event.get(), &place, output)?;
    }
    Ok(events.len())
}

fn print_event(text: &str, place: &str, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(output.line(text)?);
    }
    let event: Event<'_> = serde_json::from_str(text)
        .map_err(|fault| Failure::new(Exit::Refused, format!("this is no event of a gateway: {fault}")))?;
    output.line(format!("{} {}{place} (signature verified)", printable(&event.time), printable(&event.r#type)))?;
    output.line(format!("  id       {}", printable(&event.id)))?;
    output.line(format!("  subject  {}", printable(&event.subject)))?;
    output.line(format!("  source   {}", printable(&event.source)))?;
    output.line(format!("  route    {}", printable(event.data.route.get())))?;
    output.line(format!("  details  {}", printable(event.data.record_details.get())))?;
    Ok(())
}

#[derive(serde::Deserialize)]
struct Event<'a> {
    id: String,
    r#type: String,
    source: String,
    subject: String,
    time: String,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow)]
    route: &'a RawValue,
    #[serde(borrow)]
    record_details: &'a RawValue,
}
