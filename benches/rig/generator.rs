//! A load at a given rate: one thread, many connections, one request at a time on each.
//!
//! Every request has a moment at which it should be sent. When it is due and a connection is free, it is sent; when none
//! is, it waits for one, and its latency goes on counting from the moment that it should have been sent. So a gateway that
//! stalls is charged with everybody who would have come meanwhile (no coordinated omission).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::load::Seen;
use super::records::Template;

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each after the answer to the one before.
    Closed,
    /// So many a second, evenly.
    Open {
        /// How many.
        per_second: f64,
    },
}

/// How long after its end a load still sends what is due, and waits for answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// Closer than this to the next send it does not sleep, unless the gateway needs the core.
const AWAKE: Duration = Duration::from_millis(2);

/// A connection, and the request that is under way on it.
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
    /// When it should have been sent.
    due: Instant,
}

/// The load.
pub(crate) struct Generator<'a> {
    poll: Poll,
    connections: Vec<Connection>,
    free: VecDeque<usize>,
    templates: &'a [Template],
    number: u64,
    latencies: Histogram<u64>,
    failed: u64,
    has_a_core: bool,
    /// Whether a connection has ended: then the load ends too.
    broken_off: bool,
}

impl<'a> Generator<'a> {
    /// Connects. The first record has this number.
    pub(crate) fn connect(to: SocketAddr, connections: usize, (templates, first): (&'a [Template], u64)) -> Self {
        let poll = Poll::new().expect("a poll");
        let connections: Vec<_> = (0..connections)
            .map(|at| {
                let stream = std::net::TcpStream::connect(to).expect("connected");
                stream.set_nodelay(true).expect("no delay");
                stream.set_nonblocking(true).expect("without blocking");
                let mut stream = TcpStream::from_std(stream);
                let both = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, Token(at), both).expect("registered");
                Connection { stream, request: Vec::new(), written: 0, answer: Vec::new(), due: Instant::now() }
            })
            .collect();
        let free = (0..connections.len()).collect();
        let latencies = Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds");
        Self {
            poll,
            connections,
            free,
            templates,
            number: first,
            latencies,
            failed: 0,
            has_a_core: false,
            broken_off: false,
        }
    }

    /// Whether it has a core of its own: then it never sleeps through an answer, and waking up costs it nothing.
    pub(crate) fn on_a_core_of_its_own(self, has_a_core: bool) -> Self {
        Self { has_a_core, ..self }
    }

    /// Loads for so long. When the gateway ends a connection the load ends too, and what was under way counts as failed.
    pub(crate) fn run(mut self, pace: Pace, duration: Duration) -> Seen {
        let began = Instant::now();
        let end = began + duration;
        let mut events = Events::with_capacity(self.connections.len());
        let mut sent = 0_u32;
        let moment = |sent: u32| match pace {
            Pace::Closed => None,
            Pace::Open { per_second } => Some(began + Duration::from_secs_f64(f64::from(sent) / per_second)),
        };
        let stopped = loop {
            let now = Instant::now();
            let mut due = moment(sent).unwrap_or(now);
            while due <= now && due < end && !self.free.is_empty() {
                self.send(due);
                sent += 1;
                due = moment(sent).unwrap_or(now);
            }
            let all_answered = self.free.len() == self.connections.len();
            if self.broken_off || (due >= end && all_answered) || now > end + PATIENCE {
                break now;
            }
            let next = if self.free.is_empty() { PATIENCE } else { due.saturating_duration_since(now) };
            let pause = if self.has_a_core && (next < AWAKE || !all_answered) {
                Duration::ZERO
            } else {
                next.saturating_sub(AWAKE / 2)
            };
            self.poll.poll(&mut events, Some(pause)).expect("polled");
            for event in &events {
                let Token(at) = event.token();
                if event.is_writable() {
                    self.write(at);
                }
                if event.is_readable() {
                    self.read(at);
                }
            }
        };
        if self.broken_off {
            self.failed += u64::try_from(self.connections.len() - self.free.len()).expect("64 bits");
        } else {
            self.charge_what_is_left(stopped, (sent, end), &moment);
        }
        self.seen(began, stopped)
    }

    /// Sends the next record on a free connection.
    fn send(&mut self, due: Instant) {
        let at = self.free.pop_front().expect("a free connection");
        let connection = &mut self.connections[at];
        let template = usize::try_from(self.number).expect("64 bits") % self.templates.len();
        self.templates[template].fill(self.number, &mut connection.request);
        self.number += 1;
        connection.written = 0;
        connection.due = due;
        self.write(at);
    }

    fn write(&mut self, at: usize) {
        self.broken_off |= self.connections[at].write().is_err();
    }

    fn read(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let status = match connection.read() {
            Ok(Some(status)) => status,
            Ok(None) => return,
            Err(_ended) => {
                self.broken_off = true;
                return;
            }
        };
        let took = connection.due.elapsed();
        self.record(took);
        self.failed += u64::from(status != *b"202");
        self.free.push_back(at);
    }

    fn record(&mut self, took: Duration) {
        self.latencies.saturating_record(u64::try_from(took.as_nanos() / 100).unwrap_or(u64::MAX));
    }

    /// What was due and never answered took at least until now.
    fn charge_what_is_left(
        &mut self,
        now: Instant,
        (mut sent, end): (u32, Instant),
        moment: &dyn Fn(u32) -> Option<Instant>,
    ) {
        for at in 0..self.connections.len() {
            if !self.free.contains(&at) {
                self.record(now.saturating_duration_since(self.connections[at].due));
            }
        }
        while let Some(due) = moment(sent).filter(|due| *due < end) {
            self.record(now.saturating_duration_since(due));
            sent += 1;
        }
    }

    fn seen(&self, began: Instant, stopped: Instant) -> Seen {
        let at = |quantile| {
            // Tenths of a microsecond; 600 s are far below the 32 bits that convert without loss.
            f64::from(u32::try_from(self.latencies.value_at_quantile(quantile)).unwrap_or(u32::MAX)) / 10.0
        };
        Seen {
            requests: self.latencies.len(),
            seconds: (stopped - began).as_secs_f64(),
            failed: self.failed,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
        }
    }
}

impl Connection {
    /// Writes what it can.
    fn write(&mut self) -> std::io::Result<()> {
        while self.written < self.request.len() {
            match self.stream.write(&self.request[self.written..]) {
                Ok(wrote) => self.written += wrote,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there; the status, when the answer is complete.
    fn read(&mut self) -> std::io::Result<Option<[u8; 3]>> {
        let mut chunk = [0; 4_096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.answer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            if let Some(status) = complete(&self.answer) {
                self.answer.clear();
                return Ok(Some(status));
            }
        }
    }
}

/// The status of an answer, once it is complete.
fn complete(answer: &[u8]) -> Option<[u8; 3]> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let length = answer[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        let value = name.eq_ignore_ascii_case(b"content-length:").then_some(value)?;
        std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok()
    });
    let status = answer.get(9..12)?.try_into().ok()?;
    (answer.len() >= head + 4 + length.unwrap_or(0)).then_some(status)
}
