//! A receiver that misbehaves on purpose, on a free loopback port.
//!
//! It reads each request to its end, notes its `webhook-id`, and then does what it was told. Dropping it closes it and
//! its connections.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What happens once a request is in.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing, for ever.
    Hang,
    /// The connection is reset: the request was processed, the answer is lost.
    Reset,
    /// These bytes, then nothing for ever.
    SayAndHang(Vec<u8>),
    /// These bytes, then the connection is closed.
    SayAndClose(Vec<u8>),
    /// These bytes, then one byte a tick for ever.
    SayAndDrip(Vec<u8>),
    /// These bytes again and again for ever.
    Repeat(Vec<u8>),
    /// These bytes, then the connection serves the next request.
    Say(Vec<u8>),
    /// The first request of a connection gets these bytes, the second a closed connection: what a client sees whose
    /// pooled connection was closed while it wrote.
    OnceThenClose(Vec<u8>),
}

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// The server. Its accept loop ends when it is dropped.
pub(crate) struct FaultServer {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<String>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl FaultServer {
    pub(crate) async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(listener, fault, Arc::clone(&seen)));
        Self { url, seen, accepting }
    }

    /// The `webhook-id` of each request so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, fault: Fault, seen: Arc<Mutex<Vec<String>>>) {
    // Dropped with the loop, and its connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, fault.clone(), Arc::clone(&seen)));
    }
}

/// The client hanging up ends a connection; that is no failure of the server.
async fn serve(mut stream: TcpStream, fault: Fault, seen: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut served = 0;
    while let Some(id) = read_request(&mut stream).await? {
        seen.lock().unwrap().push(id);
        served += 1;
        match &fault {
            Fault::Hang => std::future::pending().await,
            Fault::Reset => {
                stream.set_zero_linger()?;
                return Ok(());
            }
            Fault::SayAndHang(bytes) => {
                stream.write_all(bytes).await?;
                std::future::pending::<()>().await;
            }
            Fault::SayAndClose(bytes) => {
                stream.write_all(bytes).await?;
                return stream.shutdown().await;
            }
            Fault::SayAndDrip(bytes) => {
                stream.write_all(bytes).await?;
                let mut tick = tokio::time::interval(Duration::from_millis(20));
                loop {
                    tick.tick().await;
                    stream.write_all(b"x").await?;
                }
            }
            Fault::Repeat(bytes) => loop {
                stream.write_all(bytes).await?;
            },
            Fault::Say(bytes) => stream.write_all(bytes).await?,
            Fault::OnceThenClose(_) if served > 1 => return Ok(()),
            Fault::OnceThenClose(bytes) => stream.write_all(bytes).await?,
        }
    }
    Ok(())
}

/// Reads one request; answers its `webhook-id`, or `None` when the client hung up.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 4_096];
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            read => request.extend_from_slice(&chunk[..read]),
        }
        let Some(head_end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..head_end]).to_ascii_lowercase();
        let length: usize = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if request.len() >= head_end + 4 + length {
            let original = String::from_utf8_lossy(&request[..head_end]).into_owned();
            return Ok(Some(header(&original, "webhook-id").unwrap_or_default().to_owned()));
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
