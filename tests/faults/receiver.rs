//! A receiver on bare sockets, written for this programme alone: it notes every delivery before it answers, and answers,
//! breaks off or keeps silent as the scenario says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Fallible;

/// One request that arrived whole.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    /// The receipts of the events in it.
    pub(crate) receipts: Vec<String>,
    /// The `webhook-id`.
    pub(crate) message: String,
    /// The record IDs, in the order of the events.
    pub(crate) records: Vec<String>,
    pub(crate) at: Instant,
    /// Whether the answer was a 2xx, so that the gateway may count it as delivered.
    pub(crate) taken: bool,
}

/// What the receiver does with a request.
pub(crate) enum Behave {
    /// Sends these bytes; the connection stays.
    Answer(Vec<u8>),
    /// Sends these bytes, then closes.
    AnswerAndClose(Vec<u8>),
    /// Talks to the gateway itself until it returns, then closes.
    Act(Box<dyn FnOnce(&mut TcpStream) + Send>),
    /// Takes it and forgets to note it: the receiver that a control needs.
    Forget,
    /// Closes with what was sent still unread, which resets the connection; the request counts as processed.
    Reset,
}

impl Behave {
    /// A plain answer.
    pub(crate) fn status(line: &str) -> Self {
        let length = if line.starts_with("204") { "" } else { "content-length: 0\r\n" };
        Self::Answer(format!("HTTP/1.1 {line}\r\n{length}\r\n").into_bytes())
    }

    /// It is taken.
    pub(crate) fn take() -> Self {
        Self::status("204 No Content")
    }

    fn takes(&self) -> bool {
        matches!(self, Self::Answer(bytes) | Self::AnswerAndClose(bytes) if bytes.starts_with(b"HTTP/1.1 2"))
    }
}

type Rule = dyn Fn(&Delivered, usize) -> Behave + Send + Sync;

struct Shared {
    rule: Mutex<Arc<Rule>>,
    notes: Mutex<Vec<Delivered>>,
    connections: AtomicUsize,
    ended: AtomicBool,
    /// How long an idle connection stays open; for ever where there is none.
    idle: Option<Duration>,
}

/// A receiver. It ends when it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    /// One that behaves like this. The rule gets the request, and how many there were before it.
    pub(crate) fn start(rule: impl Fn(&Delivered, usize) -> Behave + Send + Sync + 'static) -> Fallible<Self> {
        Self::start_at("127.0.0.1:0", None, rule)
    }

    /// One on this address, which closes idle connections after `idle`.
    pub(crate) fn start_at(
        address: &str,
        idle: Option<Duration>,
        rule: impl Fn(&Delivered, usize) -> Behave + Send + Sync + 'static,
    ) -> Fallible<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            rule: Mutex::new(Arc::new(rule)),
            notes: Mutex::default(),
            connections: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            idle,
        });
        let mine = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if mine.ended.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                mine.connections.fetch_add(1, Ordering::Relaxed);
                let mine = Arc::clone(&mine);
                std::thread::spawn(move || serve(stream, &mine));
            }
        });
        Ok(Self { address, shared })
    }

    /// From now on it behaves like this.
    pub(crate) fn behave(&self, rule: impl Fn(&Delivered, usize) -> Behave + Send + Sync + 'static) {
        *locked(&self.shared.rule) = Arc::new(rule);
    }

    /// Every request so far.
    pub(crate) fn notes(&self) -> Vec<Delivered> {
        locked(&self.shared.notes).clone()
    }

    /// The receipts of what was taken.
    pub(crate) fn taken(&self) -> BTreeSet<String> {
        let notes = locked(&self.shared.notes);
        notes.iter().filter(|note| note.taken).flat_map(|note| note.receipts.iter().cloned()).collect()
    }

    /// How often each event came.
    pub(crate) fn copies(&self) -> BTreeMap<String, usize> {
        let mut copies = BTreeMap::new();
        for receipt in locked(&self.shared.notes).iter().flat_map(|note| &note.receipts) {
            *copies.entry(receipt.clone()).or_default() += 1;
        }
        copies
    }

    /// Ends it. What it noted stays.
    pub(crate) fn close(&self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes the listener, so that its thread ends and the port is free.
        let _woken = TcpStream::connect_timeout(&self.address, Duration::from_millis(200));
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let _set = stream.set_read_timeout(shared.idle).and_then(|()| stream.set_nodelay(true));
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        // What is only looked at stays unread, so that a close of the connection resets it.
        let Ok(read @ 1..) = stream.peek(&mut buffer) else { return };
        if shared.ended.load(Ordering::Acquire) {
            return;
        }
        let whole = whole_request(&[&bytes[..], &buffer[..read]].concat());
        let behave = whole.as_ref().map(|(delivered, _)| {
            let number = locked(&shared.notes).len();
            let rule = Arc::clone(&locked(&shared.rule));
            let behave = rule(delivered, number);
            if !matches!(behave, Behave::Forget) {
                locked(&shared.notes).push(Delivered { taken: behave.takes(), ..delivered.clone() });
            }
            behave
        });
        if matches!(behave, Some(Behave::Reset)) {
            return;
        }
        let Ok(()) = stream.read_exact(&mut buffer[..read]) else { return };
        bytes.extend_from_slice(&buffer[..read]);
        if let Some((_, length)) = whole {
            bytes.drain(..length);
        }
        let goes_on = match behave {
            None => true,
            Some(Behave::Answer(answer)) => stream.write_all(&answer).is_ok(),
            Some(Behave::Forget) => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_ok(),
            Some(Behave::AnswerAndClose(answer)) => {
                let _written = stream.write_all(&answer);
                false
            }
            Some(Behave::Act(act)) => {
                act(&mut stream);
                false
            }
            Some(Behave::Reset) => false,
        };
        if !goes_on || shared.ended.load(Ordering::Acquire) {
            return;
        }
    }
}

/// The first request, if all of it is there, and its length.
fn whole_request(bytes: &[u8]) -> Option<(Delivered, usize)> {
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let length: usize = crate::client::header(&head, "content-length")?.parse().ok()?;
    let body: Value = serde_json::from_slice(bytes.get(head_end + 4..head_end + 4 + length)?).unwrap_or_default();
    let events: Vec<&Value> = body.as_array().map_or_else(|| vec![&body], |events| events.iter().collect());
    let of = |path: &str| events.iter().filter_map(|event| event.pointer(path)?.as_str()).map(str::to_owned).collect();
    let delivered = Delivered {
        receipts: of("/id"),
        records: of("/data/recordId"),
        message: crate::client::header(&head, "webhook-id").unwrap_or_default().to_owned(),
        at: Instant::now(),
        taken: false,
    };
    Some((delivered, head_end + 4 + length))
}
