//! A client on a bare socket: one connection, one request after the other, and nothing done unasked.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::world::KEY;

/// A connection that is opened when it is needed.
#[derive(Debug)]
pub(crate) struct Client {
    to: SocketAddr,
    timeout: Duration,
    stream: Option<TcpStream>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A text in the body.
    pub(crate) fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    /// One that waits so long for each answer.
    pub(crate) const fn new(to: SocketAddr, timeout: Duration) -> Self {
        Self { to, timeout, stream: None }
    }

    /// One for questions.
    pub(crate) const fn patient(to: SocketAddr) -> Self {
        Self::new(to, Duration::from_secs(30))
    }

    /// Sends a request and reads the answer. A connection that failed is not used again.
    ///
    /// # Errors
    /// No connection, no answer, or half of one.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.write_all(&request(method, path, body))?;
        let (answer, keeps) = read_answer(&mut stream)?;
        if keeps {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// GET.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.call("GET", path, b"")
    }

    /// Posts a record.
    pub(crate) fn post(&mut self, body: &str) -> io::Result<Answer> {
        self.call("POST", "/api/v1/records", body.as_bytes())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.to, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The bytes of a request with the key.
pub(crate) fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let content = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: gateway.test\r\nX-Api-Key: {KEY}\r\n{content}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The answer, and whether the connection can be used again.
fn read_answer(stream: &mut TcpStream) -> io::Result<(Answer, bool)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let mut more = |bytes: &mut Vec<u8>| match stream.read(&mut buffer) {
        Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        Ok(read) => {
            bytes.extend_from_slice(&buffer[..read]);
            Ok(())
        }
        Err(fault) => Err(fault),
    };
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        more(&mut bytes)?;
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while bytes.len() < head_end + 4 + length {
        more(&mut bytes)?;
    }
    let keeps = header(&head, "connection") != Some("close");
    Ok((Answer { status, body: bytes[head_end + 4..head_end + 4 + length].to_vec() }, keeps))
}

/// A header field of a head in lower case.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| *key == name).map(|(_, value)| value.trim())
}
