//! A client that sends exactly the bytes it is given and reads whole answers, so that tests can say what no well-behaved
//! client would.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::tls::{self, Stream};

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The header's value, if it is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let first = values.next()?;
        assert!(values.next().is_none(), "{name} is there more than once");
        Some(&first.1)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|fault| panic!("{fault}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// A member of the JSON body, as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pending: Vec<u8>,
}

impl Connection {
    /// Connects, by TLS where the listener speaks it; reads give up after 40 seconds, so that a hanging gateway fails a
    /// test and does not hang it.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let in_the_clear = Self::open_in_the_clear(address);
        match (tls::speaks(address), in_the_clear.stream) {
            (true, Stream::Plain(tcp)) => Self::over(Stream::secured(tcp, tls::client())),
            (_, stream) => Self::over(stream),
        }
    }

    /// Connects without TLS, whatever the listener speaks.
    pub(crate) fn open_in_the_clear(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).expect("connected");
        tcp.set_read_timeout(Some(Duration::from_secs(40))).expect("a time-out");
        tcp.set_nodelay(true).expect("no delay");
        Self::over(Stream::Plain(tcp))
    }

    /// A connection that is there.
    pub(crate) fn over(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Sends these bytes. A gateway that has closed already is no fault: the answer says why.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _sent = self.stream.write_all(bytes);
    }

    /// Ends the sending side.
    pub(crate) fn finish_sending(&mut self) {
        self.stream.finish_sending();
    }

    /// The next answer; `None` when the connection closed instead.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = find(&self.pending, b"\r\n\r\n") {
                break at;
            }
            if self.more() == 0 {
                assert!(self.pending.is_empty(), "half an answer: {:?}", String::from_utf8_lossy(&self.pending));
                return None;
            }
        };
        let head = String::from_utf8(self.pending[..head_end].to_vec()).expect("a head in ASCII");
        let mut lines = head.split("\r\n");
        let status_line = lines.next().expect("a status line");
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').expect("a header field"))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        self.pending.drain(..head_end + 4);
        let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map_or(0, |(_, value)| value.parse().expect("a length"));
        while self.pending.len() < length {
            assert_ne!(self.more(), 0, "the answer's body was cut short");
        }
        let body = self.pending.drain(..length).collect();
        Some(Answer { status, headers, body })
    }

    /// Whether the gateway closes the connection; waits for that or for bytes.
    pub(crate) fn closes(&mut self) -> bool {
        self.pending.is_empty() && self.more() == 0
    }

    /// Reads what comes next; 0 when the connection ended.
    fn more(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(read) => {
                self.pending.extend_from_slice(&buffer[..read]);
                read
            }
            Err(fault) if matches!(fault.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => 0,
            // A TLS connection that ended without saying so.
            Err(fault) if fault.kind() == ErrorKind::UnexpectedEof => 0,
            Err(fault) => panic!("no answer: {fault}"),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A request's bytes: method, path, header fields and a body with its length.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() || method == "POST" {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Sends these bytes on a fresh connection and reads one answer.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut connection = Connection::open(address);
    connection.send(bytes);
    let answer = connection.answer().expect("an answer");
    hold_to_description(bytes, &answer);
    answer
}

/// Holds an exchange with the public listener to the connector's description, as far as the request was one.
fn hold_to_description(bytes: &[u8], answer: &Answer) {
    let Some(head_end) = find(bytes, b"\r\n\r\n") else { return };
    let Ok(head) = std::str::from_utf8(&bytes[..head_end]) else { return };
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    if let (Some(method), Some(path)) = (words.next(), words.next()) {
        super::connector::check(method, path, &bytes[head_end + 4..], answer);
    }
}
