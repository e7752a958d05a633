//! A consumer that knows nothing but the public protocol of NATS (docs.nats.io, "Client protocol" and "JetStream wire API"):
//! text over a plain TCP socket.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// An answer that takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) subject: String,
    /// What stands before the first header: `NATS/1.0`, and maybe a status.
    pub(crate) status: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A connection.
pub(crate) struct Consumer {
    stream: BufReader<TcpStream>,
    next: usize,
}

impl Consumer {
    /// Connects as nobody.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, json!({}))
    }

    /// Connects with these members of `CONNECT` besides: who it is.
    pub(crate) fn connect_as(address: SocketAddr, login: Value) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        let mut consumer = Self { stream: BufReader::new(stream), next: 0 };
        assert!(consumer.line().expect("a greeting").starts_with("INFO "));
        let mut connect = json!({"verbose": false, "pedantic": false, "headers": true, "no_responders": true,
            "lang": "tests", "version": "1", "protocol": 1, "echo": true});
        connect.as_object_mut().expect("an object").extend(login.as_object().expect("an object").clone());
        consumer.say(format!("CONNECT {connect}\r\nPING\r\n").as_bytes());
        assert_eq!(consumer.line().expect("a pong"), "PONG");
        consumer
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("sent");
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(1..) => Some(line.trim_end().to_owned()),
            Ok(0) | Err(_) => None,
        }
    }

    /// The next message; `None` where none comes in time.
    pub(crate) fn message(&mut self) -> Option<Message> {
        loop {
            let line = self.line()?;
            let words: Vec<&str> = line.split(' ').collect();
            // `MSG subject sid [reply] bytes`, `HMSG subject sid [reply] header-bytes all-bytes`
            let (header_bytes, all_bytes) = match words.as_slice() {
                ["PING"] => {
                    self.say(b"PONG\r\n");
                    continue;
                }
                ["MSG", _, _, .., all] => (0, all.parse().expect("a number")),
                ["HMSG", _, _, .., header, all] => (header.parse().expect("a number"), all.parse().expect("a number")),
                ["PONG"] | ["INFO", ..] => continue,
                _ => panic!("unexpected: {line}"),
            };
            let mut bytes = vec![0; all_bytes + 2];
            self.stream.read_exact(&mut bytes).expect("a whole message");
            let head = String::from_utf8(bytes[..header_bytes].to_vec()).expect("text");
            let mut lines = head.split("\r\n");
            let status = lines.next().unwrap_or_default().to_owned();
            let headers = lines.filter_map(|line| line.split_once(':'));
            return Some(Message {
                subject: words[1].to_owned(),
                status,
                headers: headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
                body: bytes[header_bytes..all_bytes].to_vec(),
            });
        }
    }

    fn inbox(&mut self) -> String {
        self.next += 1;
        format!("_INBOX.tests{}.{}", std::process::id(), self.next)
    }

    /// Publishes with headers, and waits for an answer.
    pub(crate) fn request(&mut self, subject: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Message> {
        let inbox = self.inbox();
        let sid = self.next;
        let mut head = "NATS/1.0\r\n".to_owned();
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        let frame = format!(
            "SUB {inbox} {sid}\r\nUNSUB {sid} 1\r\nHPUB {subject} {inbox} {} {}\r\n",
            head.len(),
            head.len() + body.len()
        );
        self.say(&[frame.as_bytes(), head.as_bytes(), body, b"\r\n"].concat());
        // What comes late answers an earlier question.
        loop {
            let message = self.message()?;
            if message.subject == inbox {
                return Some(message);
            }
        }
    }

    /// Asks the JetStream API; `None` where it does not answer, or with an error.
    pub(crate) fn ask(&mut self, what: &str, body: &Value) -> Option<Value> {
        let answer = self.request(&format!("$JS.API.{what}"), &[], body.to_string().as_bytes())?;
        if answer.body.is_empty() {
            return None;
        }
        Some(answer.json()).filter(|answer| answer.get("error").is_none())
    }

    /// Makes a stream.
    pub(crate) fn make_stream(&mut self, name: &str, settings: Value) {
        let mut config = json!({"name": name, "retention": "limits", "discard": "new", "storage": "file", "num_replicas": 1,
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0});
        config.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
        // The same question again changes nothing: an answer that took too long may have been a yes.
        let made = (0..6).any(|_| self.ask(&format!("STREAM.CREATE.{name}"), &config).is_some());
        assert!(made, "the stream {name} was not made");
    }

    /// The stream as it is: its settings, its state, its replicas.
    pub(crate) fn stream(&mut self, name: &str) -> Option<Value> {
        self.ask(&format!("STREAM.INFO.{name}"), &json!({}))
    }

    /// Every message of a stream, in its order.
    pub(crate) fn read_all(&mut self, name: &str) -> Vec<Message> {
        let inbox = self.inbox();
        let sid = self.next;
        self.say(format!("SUB {inbox} {sid}\r\n").as_bytes());
        let config = json!({"deliver_subject": inbox, "deliver_policy": "all", "ack_policy": "none", "replay_policy": "instant"});
        let answer_to = self.inbox();
        let body = json!({"stream_name": name, "config": config}).to_string();
        let answer_sid = self.next;
        self.say(
            format!(
                "SUB {answer_to} {answer_sid}\r\nPUB $JS.API.CONSUMER.CREATE.{name} {answer_to} {}\r\n{body}\r\n",
                body.len()
            )
            .as_bytes(),
        );
        let (mut messages, mut pending) = (Vec::new(), None);
        // The answer and the first messages may come in any order.
        while pending.is_none_or(|pending| messages.len() < pending) {
            let message = self.message().expect("a message or the answer");
            if message.subject == answer_to {
                let made = message.json();
                let waiting = made["num_pending"].as_u64().unwrap_or_else(|| panic!("no consumer: {made}"));
                let delivered = made["delivered"]["consumer_seq"].as_u64().unwrap_or(0);
                pending = Some(usize::try_from(waiting + delivered).expect("a number"));
            } else {
                messages.push(message);
            }
        }
        self.say(format!("UNSUB {sid}\r\nUNSUB {answer_sid}\r\n").as_bytes());
        messages
    }
}
