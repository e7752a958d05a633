//! A listener with its workers: connections are counted and guarded before the HTTP parser sees them.
//!
//! This is what `actix_web::HttpServer` does, with our own stream under the parser ([`super::transport`]).

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use actix_http::{HttpService, Request};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::web::Data;
use actix_web::{Error, HttpResponse};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::door::Door;
use super::frame::{closing, with_common_headers};
use super::peers::{PeerGuard, Peers};
use super::problem::{Code, Problem};
use super::request_id::RequestId;
use super::socket::Socket;
use super::tls;
use super::transport::{Deadlines, GuardedStream, raw_answer};
use crate::config::settings::LimitSettings;
use crate::domain::ids::excerpt;

/// What a listener needs besides its application.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Its name in logs.
    pub name: &'static str,
    /// How many workers serve it, each on a thread of its own.
    pub workers: usize,
    /// What a client may use up.
    pub limits: LimitSettings,
    /// How it speaks TLS, if it does.
    pub tls: Option<Arc<ServerConfig>>,
    /// Where its connections are counted.
    pub peers: Arc<Peers>,
}

/// Serves an application on a bound socket. The server runs while it is polled and stops through its handle.
///
/// A client that asks first (`Expect: 100-continue`) is told to go on only if `door` knows its credential.
///
/// # Errors
/// When the socket cannot be used.
pub fn serve<F, A, S, B>(
    listener: TcpListener,
    settings: &ServerSettings,
    door: &Data<Door>,
    app: F,
) -> io::Result<Server>
where
    F: Fn() -> A + Send + Clone + 'static,
    A: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::InitError: std::fmt::Debug,
    S::Service: 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    let (limits, tls) = (settings.limits.clone(), settings.tls.clone());
    let peers = Arc::clone(&settings.peers);
    let deadlines = Deadlines {
        first_head: limits.request_deadline.min(FIRST_HEAD),
        request: limits.request_deadline,
        idle: limits.keep_alive,
    };
    let builder = Server::build()
        .workers(settings.workers)
        .disable_signals()
        .shutdown_timeout(limits.shutdown_grace.as_secs())
        .max_concurrent_connections(limits.max_connections);
    let stopping = builder.graceful_shutdown_signal();
    let door = door.clone();
    let server = builder.listen(settings.name, listener, move || {
        let peers = Arc::clone(&peers);
        let (stopping, stops_handshakes) = (stopping.clone(), stopping.clone());
        let (door, tls) = (door.clone(), tls.clone());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            // So are idle connections, and end in order; this is for one that does not.
            .keep_alive(limits.keep_alive + std::time::Duration::from_secs(1))
            // Heads are timed by the stream, the first one as well.
            .client_request_timeout(std::time::Duration::ZERO)
            .expect(fn_service(move |request: Request| {
                let answer = match door.turns_away(request.head()) {
                    None => Ok(request),
                    Some((problem, why)) => {
                        let peer = request.head().peer_addr;
                        Err(actix_http::Response::from(turned_away(problem, peer, &why)))
                    }
                };
                std::future::ready(answer)
            }))
            .on_connect_ext(|stream: &GuardedStream, data| {
                data.insert(stream.connection());
            })
            .h1(map_config(app().into_factory().map_err(|fault| fault.error_response()), |()| AppConfig::default()));
        fn_service(move |io: TcpStream| {
            let connected = Instant::now();
            let admitted = admit(io, &peers, tls.is_none());
            let handshake = tls.clone().map(|config| (config, stops_handshakes.clone()));
            async move {
                let (io, peer, place) = admitted?;
                let socket = match handshake {
                    None => Socket::Plain(io),
                    Some((config, stopping)) => {
                        secured(io, config, connected + deadlines.first_head, &stopping).await.map_err(|why| {
                            let peer = peer.map(|peer| tracing::field::display(peer.ip()));
                            tracing::info!(peer, reason = %excerpt(&why), "a TLS handshake failed");
                        })?
                    }
                };
                Ok((GuardedStream::new(socket, deadlines, connected, place), peer))
            }
        })
        .and_then(http.map_err(|fault| tracing::debug!(%fault, "a connection ended early")))
    })?;
    Ok(server.run())
}

/// A client that has connected sends its first head within this time, the handshake included.
const FIRST_HEAD: std::time::Duration = std::time::Duration::from_secs(5);

/// Finds a place for a connection, or turns it away with the advice to come back.
fn admit(
    io: TcpStream,
    peers: &Arc<Peers>,
    in_the_clear: bool,
) -> Result<(TcpStream, Option<SocketAddr>, PeerGuard), ()> {
    let peer = io.peer_addr().ok();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let Some(place) = peers.admit(address) else {
        let answer = raw_answer(Problem::new(
            Code::Overloaded,
            "There are too many connections, in all or from this address.",
            "Close idle connections, or try again later; repeating is safe.",
        ));
        // Who speaks TLS would take these bytes for a broken handshake. Otherwise straight to the socket, since the runtime
        // does not know yet that it is writable. Best effort: the peer learns of it either way, since the connection closes.
        let _written = if in_the_clear { io.into_std().and_then(|mut io| io.write_all(&answer)) } else { Ok(()) };
        return Err(());
    };
    // Small answers must not wait for the acknowledgement of the one before. Where it cannot be set, they may.
    let _set = io.set_nodelay(true);
    Ok((io, peer, place))
}

/// The connection with TLS over it, or why there is none. A stop does not wait for a handshake.
async fn secured(
    io: TcpStream,
    config: Arc<ServerConfig>,
    deadline: Instant,
    stopping: &GracefulShutdownSignal,
) -> Result<Socket, String> {
    tokio::select! {
        made = tokio::time::timeout_at(deadline, tls::handshake(config, io)) => match made {
            Ok(Ok(secured)) => Ok(Socket::Tls(secured)),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(_elapsed) => Err("it took too long".to_owned()),
        },
        () = stopping.notified() => Err("the gateway is stopping".to_owned()),
    }
}

/// A refusal before the body was sent: with the headers of every answer, and the end of the connection, since whether
/// the body follows is up to the client.
fn turned_away(problem: Problem, peer: Option<SocketAddr>, why: &str) -> HttpResponse {
    let id = RequestId::new();
    tracing::info!(
        request.id = %id,
        http.route = "expectation",
        http.status = problem.code().status().as_u16(),
        code = problem.code().name(),
        remark = why,
        peer = peer.map(|peer| tracing::field::display(peer.ip())),
        "request"
    );
    closing(with_common_headers(problem.into_response(id.as_str()), &id))
}
