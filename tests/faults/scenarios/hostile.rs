//! Destinations that want something: a request elsewhere, memory, a detour through a proxy.

use std::io::Write as _;
use std::time::Duration;

use crate::Fallible;
use crate::client::Client;
use crate::load::eventually;
use crate::receiver::{Behave, Receiver};
use crate::scenario::{Findings, How, Run, Scenario};
use crate::world::{Configuration, Tenant, World, destination, record};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "N5",
        what: "a destination redirects: 301, 302, 303, 307, 308",
        required: "not followed; a dead letter; nothing reaches the other place",
        needs: &[],
        how: How::Run(redirects),
    },
    Scenario {
        id: "N6",
        what: "hostile answers: a body without end, a gzip bomb, 10^5 header fields, endless 1xx, wrong lengths",
        required: "memory stays flat, and the next record is delivered",
        needs: &[],
        how: How::Run(answers),
    },
    Scenario { id: "N10", what: "proxies in the environment", required: "ignored", needs: &[], how: How::Run(proxies) },
];

fn leading_to(receiver: &Receiver) -> Configuration {
    Configuration {
        destinations: destination("receiver", receiver.address, "timeout_seconds = 3"),
        delivery: "breaker_failures = 1000\nlongest_pause_seconds = 1".to_owned(),
        contoso: "receiver",
        ..Configuration::default()
    }
}

fn redirects(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let elsewhere = Receiver::start(|_, _| Behave::take())?;
    let receiver = Receiver::start(|_, _| Behave::take())?;
    let world = World::new(run, &leading_to(&receiver))?;
    let gateway = world.start().up()?;
    let mut client = Client::patient(gateway.public);
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let answer =
            format!("HTTP/1.1 {status}\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", elsewhere.address);
        receiver.behave(move |_, _| Behave::Answer(answer.clone().into_bytes()));
        let receipt = client.post(&record(Tenant::Contoso, world.number(), 0))?.text("receiptId");
        let mut state = || {
            let stand = client.get(&format!("/api/v1/receipts/{receipt}")).ok()?.text("state");
            (stand == "dead-lettered").then_some(())
        };
        let dead = eventually(Duration::from_secs(10), &mut state);
        findings.require(dead.is_some(), || format!("{status}: no dead letter"));
        findings.runs += 1;
    }
    let followed = elsewhere.connections();
    findings.figure(format!("{followed} connections to where the redirects led"));
    findings.require(followed == 0, || format!("{followed} redirects were followed"));
    Ok(findings)
}

/// Sends pieces until the gateway has enough, at most this many bytes.
fn flood(first: &'static [u8], piece: Vec<u8>, most: usize) -> Behave {
    Behave::Act(Box::new(move |stream| {
        let mut sent = 0;
        let mut goes_on = stream.write_all(first).is_ok();
        while goes_on && sent < most {
            goes_on = stream.write_all(&piece).is_ok();
            sent += piece.len();
        }
    }))
}

/// 1 MiB of zeros in a few hundred bytes, many times over: nobody asked for it, so nobody may unpack it.
fn bomb() -> Vec<u8> {
    let mut block = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    block.extend(std::iter::repeat_n(0xed, 4_096));
    block
}

fn hostile_answer(kind: usize) -> (&'static str, Behave) {
    match kind {
        0 => (
            "a body of 1 GiB",
            flood(b"HTTP/1.1 500 No\r\ncontent-length: 1073741824\r\n\r\n", vec![b'x'; 1 << 16], 1 << 30),
        ),
        1 => (
            "a body without end",
            flood(
                b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n",
                [&b"10000\r\n"[..], &vec![b'x'; 1 << 16], b"\r\n"].concat(),
                1 << 30,
            ),
        ),
        2 => (
            "gzip",
            flood(
                b"HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\ncontent-length: 100000000\r\n\r\n",
                bomb(),
                100_000_000,
            ),
        ),
        3 => ("10^5 header fields", flood(b"HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n".to_vec(), 18 * 100_000)),
        4 => ("endless 1xx", flood(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".to_vec(), 1 << 28)),
        5 => ("one header field without end", flood(b"HTTP/1.1 200 OK\r\nx-long: ", vec![b'y'; 1 << 16], 1 << 28)),
        6 => (
            "less than its length",
            Behave::AnswerAndClose(b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\nshort".to_vec()),
        ),
        7 => (
            "two lengths",
            Behave::AnswerAndClose(b"HTTP/1.1 500 No\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nshort".to_vec()),
        ),
        8 => ("no HTTP", Behave::AnswerAndClose(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello".to_vec())),
        _ => ("a cookie", Behave::Answer(b"HTTP/1.1 500 No\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n".to_vec())),
    }
}

const KINDS: usize = 10;

fn answers(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let receiver = Receiver::start(|_, _| Behave::take())?;
    let world = World::new(run, &leading_to(&receiver))?;
    let gateway = world.start().up()?;
    // Each on a connection of its own: the gateway closes one that was idle for as long as some of these take.
    let post = || Client::patient(gateway.public).post(&record(Tenant::Contoso, world.number(), 0));
    // Warm, so that growth is growth.
    post()?;
    eventually(Duration::from_secs(10), || (receiver.taken().len() == 1).then_some(()));
    let before = gateway.memory_kib().0;
    for kind in 0..KINDS {
        receiver.behave(move |_, _| hostile_answer(kind).1);
        let seen = receiver.notes().len();
        let receipt = post()?.text("receiptId");
        let tried = || {
            let stand = Client::patient(gateway.public).get(&format!("/api/v1/receipts/{receipt}")).ok()?.json();
            // An answer that counts by its head alone may settle it.
            (receiver.notes().len() > seen && (stand["lastError"].is_string() || stand["state"] == "delivered"))
                .then_some(())
        };
        let tried = eventually(Duration::from_secs(15), tried);
        findings.require(tried.is_some(), || format!("{}: no try ended", hostile_answer(kind).0));
        receiver.behave(|_, _| Behave::take());
        let delivered = eventually(Duration::from_secs(15), || {
            (gateway.metric("streamgate_store_pending_records").ok()? < 0.5).then_some(())
        });
        findings
            .require(delivered.is_some(), || format!("after {} the record is not delivered", hostile_answer(kind).0));
        findings.runs += 1;
    }
    let growth = gateway.memory_kib().1.saturating_sub(before);
    findings.figure(format!("most memory: {growth} KiB more than before, with up to 1 GiB sent"));
    findings.require(growth < 24 * 1_024, || format!("memory grew by {growth} KiB"));
    Ok(findings)
}

fn proxies(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let proxy = Receiver::start(|_, _| Behave::take())?;
    let receiver = Receiver::start(|_, _| Behave::take())?;
    let world = World::new(run, &leading_to(&receiver))?;
    let mut start = world.start();
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        start = start.variable(name, format!("http://{}", proxy.address));
    }
    let gateway = start.variable("NO_PROXY", "").variable("no_proxy", "").up()?;
    let mut client = Client::patient(gateway.public);
    for _ in 0..5 {
        client.post(&record(Tenant::Contoso, world.number(), 0))?;
    }
    let delivered = eventually(Duration::from_secs(10), || (receiver.taken().len() == 5).then_some(()));
    findings.require(delivered.is_some(), || "not delivered".to_owned());
    let asked = proxy.connections();
    findings.figure(format!("{asked} connections to the proxy"));
    findings.require(asked == 0, || format!("the proxy was asked {asked} times"));
    findings.runs = 1;
    Ok(findings)
}
