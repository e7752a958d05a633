//! The connection under the HTTP parser: what actix cannot do by itself.
//!
//! * **Deadlines for every head.** actix times only the first head of a connection. Here every head has one, on a
//!   re-used connection too, and so has an idle connection and a reader who does not read.
//! * **Framework errors as JSON.** A request that does not even parse is answered by actix with an empty body. Those
//!   answers are recognized on their way out (`content-length: 0`, which no answer of ours has) and given a problem
//!   body and the headers that every answer has.
//! * **Readers who never read.** Behind 128 KiB of pipelined requests the framework wakes itself over and over while an
//!   answer waits to be sent. A connection that is polled like that without getting a byte out is cut.
//! * **Endless extensions.** What the parser reads without a bound is bounded, and fragments do not get to where they
//!   would be cut off: [`super::framing`].
//!
//! The application tells the connection when a request begins and ends, through [`Connection`].

use std::cell::{Cell, RefCell};
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::framing::Framing;
use super::peers::PeerGuard;
use super::problem::{Code, Problem};
use super::request_id::RequestId;
use super::socket::Socket;

/// How long the parts of a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From connecting to the end of the first head.
    pub first_head: Duration,
    /// From the first byte of a request to the last.
    pub request: Duration,
    /// From the end of an answer to the first byte of the next request.
    pub idle: Duration,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// For the first byte of a head.
    Idle,
    /// For the rest of a head.
    Head,
    /// For the application.
    Application,
}

/// What the application and the transport tell each other about one connection.
#[derive(Debug)]
pub struct Connection {
    deadlines: Deadlines,
    phase: Cell<Phase>,
    deadline: Cell<Instant>,
    request_began: Cell<Instant>,
    framing: RefCell<Framing>,
    used: Cell<bool>,
}

impl Connection {
    fn new(deadlines: Deadlines, connected: Instant) -> Self {
        Self {
            deadlines,
            phase: Cell::new(Phase::Idle),
            deadline: Cell::new(connected + deadlines.first_head),
            request_began: Cell::new(connected),
            framing: RefCell::default(),
            used: Cell::new(false),
        }
    }

    /// A head has been read: the application takes over.
    pub fn request_begins(&self) {
        self.phase.set(Phase::Application);
        self.used.set(true);
    }

    /// When the whole request must have arrived.
    pub fn request_deadline(&self) -> Instant {
        self.request_began.get() + self.deadlines.request
    }

    /// The answer is on its way: the next head may come.
    pub fn request_ends(&self) {
        let now = Instant::now();
        // A part of the next head may have come already, behind the request that ends.
        let inside = self.framing.borrow().is_inside_a_head();
        let (phase, within) =
            if inside { (Phase::Head, self.deadlines.request) } else { (Phase::Idle, self.deadlines.idle) };
        self.phase.set(phase);
        self.deadline.set(now + within);
        self.request_began.set(now);
    }

    /// Nothing follows but the end, for which the peer gets this long.
    fn ends_within(&self, grace: Duration) {
        self.phase.set(Phase::Idle);
        self.deadline.set(Instant::now() + grace);
    }

    /// Bytes came in. Those that are over a bound are made unreadable.
    fn received(&self, bytes: &mut [u8]) {
        self.framing.borrow_mut().advance(bytes);
        if self.phase.get() == Phase::Idle {
            let now = Instant::now();
            self.phase.set(Phase::Head);
            self.request_began.set(now);
            self.deadline.set(self.deadline.get().min(now + self.deadlines.request));
        }
    }
}

/// Longest request line that is answered with 400 when it does not parse; a longer one is 414.
const LONGEST_LINE_BYTES: usize = 8 * 1_024;

/// A connection with deadlines, whose bare framework errors leave as JSON.
pub struct GuardedStream {
    io: Socket,
    connection: Rc<Connection>,
    timer: RefCell<Pin<Box<Sleep>>>,
    /// Bytes that replace what the framework wrote and have not left yet.
    replaced: BytesMut,
    ended: bool,
    closing: bool,
    /// How often in a row nothing could be written.
    blocked_writes: u32,
    _peer: PeerGuard,
}

/// Blocked writes in a row after which a connection is cut. The peer's acknowledgements wake a waiting writer a few times
/// at most; only one that floods without reading comes near this.
const MAX_BLOCKED_WRITES: u32 = 1_000;

/// How long the last bytes of a connection, and the word that it ends, may take to leave.
const CLOSING: Duration = Duration::from_secs(1);

impl GuardedStream {
    /// Takes over a connection, whose first head is timed from when it `connected`; its place among its peer's connections
    /// is freed when it goes.
    pub fn new(io: Socket, deadlines: Deadlines, connected: Instant, peer: PeerGuard) -> Self {
        let connection = Rc::new(Connection::new(deadlines, connected));
        let timer = RefCell::new(Box::pin(tokio::time::sleep_until(connection.deadline.get())));
        Self {
            io,
            connection,
            timer,
            replaced: BytesMut::new(),
            ended: false,
            closing: false,
            blocked_writes: 0,
            _peer: peer,
        }
    }

    /// The side that the application sees.
    pub fn connection(&self) -> Rc<Connection> {
        Rc::clone(&self.connection)
    }

    /// Whether the present deadline has passed; if not, the task is woken when it does.
    fn timed_out(&self, cx: &mut Context<'_>) -> bool {
        if self.connection.phase.get() == Phase::Application {
            return false;
        }
        let mut timer = self.timer.borrow_mut();
        loop {
            let deadline = self.connection.deadline.get();
            if Instant::now() >= deadline {
                return true;
            }
            // The timer is only moved when it fires: re-arming it for every request would cost more than it saves.
            if timer.as_mut().poll(cx).is_pending() {
                if timer.deadline() > deadline {
                    timer.as_mut().reset(deadline);
                    continue;
                }
                return false;
            }
            timer.as_mut().reset(deadline);
        }
    }

    /// Answers a request that never reached the application, and reads no more.
    fn refuse(&mut self, cx: &mut Context<'_>, problem: Problem) {
        self.replaced.extend_from_slice(&raw_answer(problem));
        self.ended = true;
        // What does not leave now does before the connection ends. The peer may be gone, and there is nobody else to tell.
        let _sent = self.poll_replaced(cx);
    }

    /// Writes to the socket: the one way out. A reader who does not read holds the connection no longer than one who does
    /// not write.
    fn poll_send(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        if outcome.is_ready() {
            self.blocked_writes = 0;
            return outcome;
        }
        self.blocked(cx)
    }

    /// Bytes wait to leave: they do so until the deadline, and only so often.
    fn blocked<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.blocked_writes += 1;
        if self.blocked_writes > MAX_BLOCKED_WRITES || self.timed_out(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Sends replaced bytes that are still waiting.
    fn poll_replaced(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replaced.is_empty() {
            let waiting = std::mem::take(&mut self.replaced);
            let outcome = self.poll_send(cx, &waiting);
            self.replaced = waiting;
            match ready!(outcome)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.replaced.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let received = buf.filled_mut().get_mut(before..).unwrap_or_default();
                if !received.is_empty() {
                    self.connection.received(received);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(fault)) => Poll::Ready(Err(fault)),
            Poll::Pending if self.timed_out(cx) => {
                // A connection that has been used and is merely idle closes without a word.
                if self.connection.phase.get() == Phase::Head || !self.connection.used.get() {
                    self.refuse(cx, head_too_slow());
                }
                self.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

fn head_too_slow() -> Problem {
    Problem::new(
        Code::RequestTimeout,
        "The request's head did not arrive in time.",
        "Send the whole request without pauses; repeating is safe.",
    )
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_replaced(cx))?;
        if let Some(bare) = find_bare_answer(buf) {
            let answer = bare.replacement(&self.connection.framing.borrow());
            self.replaced.extend_from_slice(buf.get(..bare.start).unwrap_or_default());
            self.replaced.extend_from_slice(&answer);
            let rest = buf.get(bare.end..).unwrap_or_default();
            self.replaced.extend_from_slice(rest);
            return match self.poll_replaced(cx) {
                Poll::Ready(Err(fault)) => Poll::Ready(Err(fault)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(buf.len())),
            };
        }
        self.poll_send(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replaced(cx))?;
        // TLS takes bytes that the socket does not take yet, so that a reader who does not read shows here.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_ready() { flushed } else { self.blocked(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            self.closing = true;
            self.connection.ends_within(CLOSING);
        }
        // Bytes that cannot be sent any more do not keep the connection from ending.
        let _sent = ready!(self.poll_replaced(cx));
        let ended = Pin::new(&mut self.io).poll_shutdown(cx);
        if ended.is_ready() { ended } else { self.blocked(cx) }
    }
}

/// An answer that the framework made by itself: where it stands in the bytes to be written, and its status.
#[derive(Debug, PartialEq, Eq)]
struct BareAnswer {
    start: usize,
    end: usize,
    status: u16,
}

impl BareAnswer {
    /// The same answer with a body.
    fn replacement(&self, framing: &Framing) -> Vec<u8> {
        let problem = match self.status {
            _ if framing.request_line_bytes() > LONGEST_LINE_BYTES => Problem::new(
                Code::UriTooLong,
                "The path and query are too long.",
                "Send the record in the body; no operation needs a long query.",
            ),
            408 => head_too_slow(),
            431 => Problem::new(
                Code::HeadTooLarge,
                "The request's head has too many or too large header fields.",
                "Send at most 96 header fields and 16 KiB in all.",
            ),
            413 => Problem::new(Code::BodyTooLarge, "The body is too large.", "Send a smaller record."),
            _ if framing.has_fragment() => Problem::new(
                Code::BadRequest,
                "The request line holds a `#`; a fragment is never sent to a server.",
                "Send the path and query only.",
            ),
            _ => Problem::new(
                Code::BadRequest,
                "The request is not valid HTTP/1.1: its request line, a header field or its body's framing is malformed.",
                "Send one well-formed request with either Content-Length or Transfer-Encoding: chunked.",
            ),
        };
        raw_answer(problem)
    }
}

/// Finds an answer without a body in what is about to be written. No answer of the application's has an empty body,
/// and an interim `100 Continue` has no length at all.
fn find_bare_answer(buf: &[u8]) -> Option<BareAnswer> {
    const MARK: &[u8] = b"content-length: 0\r\n";
    // Framework answers are the last thing written and have short heads, so only the end needs a look.
    let tail_start = buf.len().saturating_sub(512);
    let tail = buf.get(tail_start..)?;
    let mark = tail.windows(MARK.len()).rposition(|window| window == MARK)?;
    // The framework answers in the version of the request before, which may be 1.0.
    let is_start = |window: &[u8]| matches!(window, b"HTTP/1.1 " | b"HTTP/1.0 ");
    let head_start = tail.get(..mark)?.windows(9).rposition(is_start)?;
    let status = tail.get(head_start + 9..head_start + 12)?;
    let status: u16 = std::str::from_utf8(status).ok()?.parse().ok()?;
    let after = tail.get(mark..)?;
    let head_end = mark + after.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    Some(BareAnswer { start: tail_start + head_start, end: tail_start + head_end, status })
}

/// A whole HTTP/1.1 answer, for where no application made one. The connection closes after it.
pub fn raw_answer(problem: Problem) -> Vec<u8> {
    let request_id = RequestId::new();
    let status = problem.code().status();
    tracing::info!(
        http.status = status.as_u16(),
        code = problem.code().name(),
        request.id = %request_id,
        "refused before it was a request"
    );
    let body = problem.body(request_id.as_str());
    let retry_after = if matches!(status.as_u16(), 429 | 503) { "retry-after: 5\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nx-request-id: {request_id}\r\n{retry_after}connection: close\r\n\r\n{body}",
        body.len(),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_answers_are_found_and_nothing_else() {
        let bare = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: x\r\n\r\n";
        assert_eq!(find_bare_answer(bare), Some(BareAnswer { start: 0, end: bare.len(), status: 400 }));
        let old = b"HTTP/1.0 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(find_bare_answer(old), Some(BareAnswer { start: 0, end: old.len(), status: 400 }));
        let ours = b"HTTP/1.1 202 Accepted\r\ncontent-length: 12\r\n\r\n{\"a\":\"HTTP\"}";
        assert_eq!(find_bare_answer(ours), None);
        let both = [&ours[..], &bare[..]].concat();
        assert_eq!(find_bare_answer(&both), Some(BareAnswer { start: ours.len(), end: both.len(), status: 400 }));
        assert_eq!(find_bare_answer(b"HTTP/1.1 100 Continue\r\n\r\n"), None);
        assert_eq!(find_bare_answer(b""), None);
    }

    #[test]
    fn the_replacement_is_a_whole_json_answer() {
        let bare = BareAnswer { start: 0, end: 0, status: 431 };
        let framing_of = |line: &str| {
            let mut framing = Framing::default();
            framing.advance(&mut line.as_bytes().to_vec());
            framing
        };
        let answer = String::from_utf8(bare.replacement(&framing_of("GET / HTTP/1.1"))).expect("text");
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["code"], "head-too-large");
        let long_line = String::from_utf8(bare.replacement(&framing_of(&"a".repeat(70_000)))).expect("text");
        assert!(long_line.starts_with("HTTP/1.1 414 "), "{long_line}");
    }
}
