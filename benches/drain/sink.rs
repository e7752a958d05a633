//! The receiver: one thread that takes every request, counts it and its events, and answers 204.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// How every event begins.
const EVENT: &[u8] = b"{\"specversion\"";
/// Nothing is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// What it has counted.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    events: AtomicU64,
    /// The latest body, as an example of what is sent.
    example: Mutex<Vec<u8>>,
}

/// What was counted by some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Requests.
    pub(crate) requests: u64,
    /// Events in them.
    pub(crate) events: u64,
}

/// A running sink; it runs as long as the process.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

impl Sink {
    /// Starts it.
    pub(crate) fn start() -> Self {
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let address = listener.local_addr().expect("an address");
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let poll = Poll::new().expect("a poll");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
        std::thread::spawn(move || serve(poll, &listener, &counted));
        Self { address, counts }
    }

    /// Counts from zero.
    pub(crate) fn reset(&self) {
        self.counts.requests.store(0, Ordering::Relaxed);
        self.counts.events.store(0, Ordering::Relaxed);
    }

    /// Events so far.
    pub(crate) fn events(&self) -> u64 {
        self.counts.events.load(Ordering::Relaxed)
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// A body that it got.
    pub(crate) fn example(&self) -> Vec<u8> {
        self.counts.example.lock().expect("no panic").clone()
    }

    /// Waits until so many events are in; when that was.
    pub(crate) fn wait_for(&self, events: u64) -> Instant {
        let began = Instant::now();
        while self.events() < events {
            assert!(began.elapsed() < PATIENCE, "{} of {events} events came", self.events());
            std::thread::sleep(Duration::from_millis(1));
        }
        Instant::now()
    }

    /// Waits until nothing comes any more; what is in by then.
    pub(crate) fn settle(&self) -> Counted {
        let counted = || Counted { requests: self.requests(), events: self.events() };
        loop {
            let before = counted();
            std::thread::sleep(Duration::from_millis(100));
            if counted() == before {
                return before;
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    /// How long the request is, once its head is in.
    length: Option<usize>,
}

fn serve(mut poll: Poll, listener: &TcpListener, counts: &Counts) {
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let (mut events, mut chunk) = (Events::with_capacity(256), vec![0; 256 * 1_024]);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.expect("polled"),
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let token = Token(connections.len());
                    poll.registry().register(&mut stream, token, Interest::READABLE).expect("registered");
                    connections.push(Some(Connection { stream, request: Vec::new(), length: None }));
                }
            } else if let Some(slot) = connections.get_mut(event.token().0)
                && let Some(connection) = slot
                && !connection.read(&mut chunk, counts)
            {
                *slot = None;
            }
        }
    }
}

impl Connection {
    /// Reads what is there; whether the connection lives on.
    fn read(&mut self, chunk: &mut [u8], counts: &Counts) -> bool {
        loop {
            match self.stream.read(chunk) {
                Ok(0) => return false,
                Ok(read) => self.request.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
            if self.length.is_none() {
                self.length = length(&self.request);
            }
            if self.length.is_some_and(|length| self.request.len() >= length) {
                self.count(counts);
                // One request at a time, and the answer is shorter than any buffer.
                if self.stream.write_all(ANSWER).is_err() {
                    return false;
                }
            }
        }
    }

    fn count(&mut self, counts: &Counts) {
        let head = self.request.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_default();
        let body = &self.request[head + 4..];
        if let Ok(mut example) = counts.example.try_lock()
            && example.len() != body.len()
        {
            example.clear();
            example.extend_from_slice(body);
        }
        counts.requests.fetch_add(1, Ordering::Relaxed);
        counts.events.fetch_add(events_in(body), Ordering::Relaxed);
        self.request.clear();
        self.length = None;
    }
}

fn events_in(body: &[u8]) -> u64 {
    let (mut count, mut rest) = (0, body);
    while let Some(at) = rest.iter().position(|byte| *byte == b'{') {
        count += u64::from(rest[at..].starts_with(EVENT));
        rest = &rest[at + 1..];
    }
    count
}

/// The length of a request whose head is in.
fn length(request: &[u8]) -> Option<usize> {
    let head = request.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&request[..head]).ok()?.to_ascii_lowercase();
    let body: usize = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok())?;
    Some(head + 4 + body)
}
