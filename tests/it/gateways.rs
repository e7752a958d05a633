//! Several gateways on one database (promises P1 and P2): none loses what it answered 202 to, none stores twice what all
//! are sent, and what happens to one of them or to the database heals without anybody's help.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::scope;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::crash::try_exchange;
use crate::lifecycle::Receiver;
use crate::support::gateway::{KEY, Setup, write_configuration};
use crate::support::postgres::{Server, USER};
use crate::support::process::Process;
use crate::support::raw::{exchange, request};
use crate::support::records::nth_incident;
use crate::support::{eventually, store};

/// Folders of gateways that share a database of this server, and send what they accept to this receiver.
fn folders(server: &Server, count: usize, receiver: Option<&Receiver>, more: &str) -> Vec<TempDir> {
    let url = store::url(server, &store::fresh(server));
    let mut setup = Setup::with(more);
    if let Some(receiver) = receiver {
        setup.process.push_str(&receiver.routing_queue());
        // A lease lasts as long as a request may take, and a minute: what a killed gateway had in hand waits for its end.
        setup.process.push_str("timeout_seconds = 1\n");
        setup.organizations[0].1 =
            setup.organizations[0].1.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    }
    let make = |_| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("database.url"), &url).expect("written");
        write_configuration(folder.path(), &setup);
        folder
    };
    (0..count).map(make).collect()
}

/// What became of one post: the receipt of a 202, or the status.
fn post(address: SocketAddr, number: usize) -> Option<String> {
    post_body(address, &nth_incident(number))
}

fn post_body(address: SocketAddr, body: &str) -> Option<String> {
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let answer = try_exchange(address, &request("POST", "/api/v1/records", &headers, body.as_bytes()))?;
    answer["receiptId"].as_str().map(str::to_owned)
}

fn state(address: SocketAddr, receipt: &str) -> String {
    let path = format!("/api/v1/receipts/{receipt}");
    let answer = exchange(address, &request("GET", &path, &[("X-Api-Key", KEY)], b""));
    answer.text("state")
}

fn is_ready(gateway: &Process) -> bool {
    exchange(gateway.admin, &request("GET", "/health/ready", &[], b"")).status == 200
}

/// Clients that post to whatever gateway is there, each record until somebody says 202 to it.
pub(crate) struct Load<'a> {
    /// The body of each record.
    body: fn(usize) -> String,
    addresses: &'a Mutex<Vec<Option<SocketAddr>>>,
    next: AtomicUsize,
    pub(crate) stop: AtomicBool,
    receipts: Mutex<BTreeMap<usize, String>>,
}

impl<'a> Load<'a> {
    fn new(addresses: &'a Mutex<Vec<Option<SocketAddr>>>) -> Self {
        Self::of(nth_incident, addresses)
    }

    pub(crate) fn of(body: fn(usize) -> String, addresses: &'a Mutex<Vec<Option<SocketAddr>>>) -> Self {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { body, addresses, next, stop, receipts: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) fn client(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            for turn in number.. {
                let address = {
                    let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
                    addresses[turn % addresses.len()]
                };
                if let Some(receipt) = address.and_then(|address| post_body(address, &(self.body)(number))) {
                    self.receipts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, receipt);
                    break;
                }
                if self.stop.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::yield_now();
            }
        }
    }

    fn done(&self) -> usize {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn wait_for_more(&self, more: usize) {
        let enough = self.done() + more;
        eventually("more records to be taken", || (self.done() >= enough).then_some(()));
    }
}

/// Everything that was noted is stored once, and delivered.
pub(crate) fn nothing_is_lost_or_doubled(
    gateway: &Process,
    server: &Server,
    folder: &TempDir,
    load: &Load<'_>,
    receiver: &Receiver,
) {
    let receipts = load.receipts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let distinct: BTreeSet<&String> = receipts.values().collect();
    assert_eq!(distinct.len(), receipts.len(), "two records have one receipt");
    for receipt in &distinct {
        let deadline = Instant::now() + Duration::from_secs(120);
        while state(gateway.public, receipt) != "delivered" {
            assert!(Instant::now() < deadline, "{receipt} is not delivered");
            std::thread::yield_now();
        }
    }
    let url = std::fs::read_to_string(folder.path().join("database.url")).expect("there");
    let database = url.strip_prefix("postgres:///").and_then(|rest| rest.split('?').next()).expect("a database");
    let twice = "select count(*) from (select key from records group by organization_id, key having count(*) > 1) t";
    assert_eq!(server.psql(database, twice), "0", "stored twice");
    let gaps = "select (select high_water from counter) - (select count(*) from records)";
    assert_eq!(server.psql(database, gaps), "0", "numbers without a record");
    let seen: BTreeSet<String> = receiver
        .events
        .try_iter()
        .filter_map(|(_, body)| {
            let event: serde_json::Value = serde_json::from_slice(&body).ok()?;
            Some(event["id"].as_str()?.to_owned())
        })
        .collect();
    assert!(distinct.iter().all(|receipt| seen.contains(*receipt)), "delivered, and never seen by the receiver");
}

/// kill -9 of one gateway after the other, under load on all.
#[test]
fn whichever_gateway_is_killed_nothing_is_lost_and_nothing_is_stored_twice() {
    let Some(server) = Server::start(&[]) else { return };
    let receiver = Receiver::start();
    let folders = folders(&server, 3, Some(&receiver), "");
    let start = |folder: &TempDir| Process::start(folder.path(), None);
    let mut gateways: Vec<Option<Process>> = folders.iter().map(|folder| Some(start(folder))).collect();
    let addresses = Mutex::new(gateways.iter().map(|one| one.as_ref().map(|one| one.public)).collect());
    let load = Load::new(&addresses);
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load.client());
        }
        for round in 0..9 {
            load.wait_for_more(60 + 7 * round);
            let at = round % gateways.len();
            gateways[at].take().expect("it runs").kill();
            addresses.lock().unwrap_or_else(PoisonError::into_inner)[at] = None;
            load.wait_for_more(40);
            let again = start(&folders[at]);
            addresses.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(again.public);
            gateways[at] = Some(again);
        }
        load.stop.store(true, Ordering::Relaxed);
    });
    let last = gateways[0].as_ref().expect("it runs");
    nothing_is_lost_or_doubled(last, &server, &folders[0], &load, &receiver);
}

/// The database is restarted, crashes, and loses its connections, under load on all gateways, which are not touched.
#[test]
fn whatever_happens_to_the_database_gateways_go_on_by_themselves() {
    let Some(mut server) = Server::start(&[]) else { return };
    let receiver = Receiver::start();
    let folders = folders(&server, 2, Some(&receiver), "");
    let gateways: Vec<Process> = folders.iter().map(|folder| Process::start(folder.path(), None)).collect();
    let addresses = Mutex::new(gateways.iter().map(|one| Some(one.public)).collect());
    let load = Load::new(&addresses);
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load.client());
        }
        for signal in ["INT", "QUIT", "KILL"] {
            load.wait_for_more(100);
            let cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'streamgate'";
            server.psql(USER, cut);
            load.wait_for_more(100);
            server.stop(signal);
            for gateway in &gateways {
                eventually("readiness to say it", || (!is_ready(gateway)).then_some(()));
                let answer = exchange(
                    gateway.public,
                    &request(
                        "POST",
                        "/api/v1/records",
                        &[("X-Api-Key", KEY), ("Content-Type", "application/json")],
                        nth_incident(9_999_999).as_bytes(),
                    ),
                );
                assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
                assert!(answer.header("retry-after").is_some());
            }
            server.run();
            for gateway in &gateways {
                eventually("readiness to say that it is back", || is_ready(gateway).then_some(()));
            }
        }
        load.wait_for_more(100);
        load.stop.store(true, Ordering::Relaxed);
    });
    nothing_is_lost_or_doubled(&gateways[0], &server, &folders[0], &load, &receiver);
}

/// A gateway that hangs in the middle of a commit holds the others up for as long as the server lets it, and no longer.
#[test]
fn a_gateway_that_hangs_does_not_stop_the_others() {
    let Some(server) = Server::start(&[]) else { return };
    let folders = folders(&server, 2, None, "");
    let gateways: Vec<Process> = folders.iter().map(|folder| Process::start(folder.path(), None)).collect();
    let addresses = Mutex::new(gateways.iter().map(|one| Some(one.public)).collect());
    let load = Load::new(&addresses);
    let signal = |name: &str| {
        let pid = gateways[1].id().to_string();
        let sent = std::process::Command::new("kill").args([name, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    };
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load.client());
        }
        for _ in 0..3 {
            load.wait_for_more(50);
            signal("-STOP");
            addresses.lock().unwrap_or_else(PoisonError::into_inner)[1] = None;
            for number in 1_000_000..1_000_020 {
                eventually("the other one to take a record", || post(gateways[0].public, number));
            }
            signal("-CONT");
            addresses.lock().unwrap_or_else(PoisonError::into_inner)[1] = Some(gateways[1].public);
        }
        load.stop.store(true, Ordering::Relaxed);
    });
    for receipt in load.receipts.lock().unwrap_or_else(PoisonError::into_inner).values() {
        assert_eq!(state(gateways[0].public, receipt), "accepted");
    }
}

/// The same record at the same moment to all gateways, thousands of times.
#[test]
fn a_record_that_all_gateways_are_sent_at_once_is_stored_once_with_one_receipt() {
    const RECORDS: usize = 10_000;
    let Some(server) = Server::start(&[]) else { return };
    let folders = folders(&server, 3, None, "");
    let gateways: Vec<Process> = folders.iter().map(|folder| Process::start(folder.path(), None)).collect();
    let (started, answers) = (AtomicUsize::new(0), Mutex::new(Vec::<Vec<String>>::new()));
    let addresses: Vec<SocketAddr> = gateways.iter().map(|gateway| gateway.public).collect();
    scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let number = started.fetch_add(1, Ordering::Relaxed);
                    if number >= RECORDS {
                        return;
                    }
                    let receipts = at_once(&addresses, number);
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push(receipts);
                }
            });
        }
    });
    let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(answers.len(), RECORDS);
    let mut all = BTreeSet::new();
    for receipts in &answers {
        assert_eq!(receipts.len(), addresses.len());
        assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
        all.insert(&receipts[0]);
    }
    assert_eq!(all.len(), RECORDS);
    let url = std::fs::read_to_string(folders[0].path().join("database.url")).expect("there");
    let database = url.strip_prefix("postgres:///").and_then(|rest| rest.split('?').next()).expect("a database");
    assert_eq!(server.psql(database, "select count(*) from records"), RECORDS.to_string());
}

/// Sends a record to every gateway before any answer is read.
fn at_once(addresses: &[SocketAddr], number: usize) -> Vec<String> {
    use std::io::Write as _;
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json"), ("Connection", "close")];
    let body = nth_incident(number);
    let bytes = request("POST", "/api/v1/records", &headers, body.as_bytes());
    let sent: Vec<std::net::TcpStream> = addresses
        .iter()
        .map(|address| {
            let mut stream = std::net::TcpStream::connect(address).expect("connected");
            stream.write_all(&bytes).expect("sent");
            stream
        })
        .collect();
    sent.into_iter().map(receipt_of).collect()
}

fn receipt_of(mut stream: std::net::TcpStream) -> String {
    use std::io::Read as _;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    body["receiptId"].as_str().expect("a receipt").to_owned()
}

/// A change at one gateway is effective at all when the answer says so, and receipts are known at all.
#[test]
fn what_is_changed_at_one_gateway_is_so_at_all() {
    let Some(server) = Server::start(&[]) else { return };
    let folders = folders(&server, 2, None, "");
    let gateways: Vec<Process> = folders.iter().map(|folder| Process::start(folder.path(), None)).collect();
    let receipt = post(gateways[0].public, 1).expect("taken");
    assert_eq!(state(gateways[1].public, &receipt), "accepted");
    let create =
        serde_json::json!({ "name": "made-here", "permissions": ["records.read"], "organizations": ["contoso"] });
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let bytes = request("POST", "/admin/v1/api-keys?wait=all", &headers, create.to_string().as_bytes());
    let made = exchange(gateways[0].admin, &bytes);
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    let key = made.text("key");
    let path = format!("/api/v1/receipts/{receipt}");
    let answer = exchange(gateways[1].public, &request("GET", &path, &[("X-Api-Key", &key)], b""));
    assert_eq!(answer.status, 200, "the other one knows the key at once");
    let listed = exchange(gateways[1].admin, &request("GET", "/admin/v1/gateways", &[("X-Api-Key", KEY)], b""));
    assert_eq!(listed.json()["value"].as_array().map(Vec::len), Some(2), "{}", String::from_utf8_lossy(&listed.body));
}

/// The URL comes from a file, the server asks for a password and proves who it is.
#[test]
fn a_database_is_reached_by_tls_with_a_password() {
    let folder = tempfile::tempdir().expect("a folder");
    crate::support::tls::authority().write_pair(folder.path());
    let Some(mut server) = Server::start(&[]) else { return };
    let tls: PathBuf = server.folder().join("tls");
    std::fs::create_dir(&tls).expect("a folder");
    for name in ["certificate.pem", "key.pem"] {
        std::fs::copy(folder.path().join("tls").join(name), tls.join(name)).expect("copied");
    }
    server.own(&tls);
    server.stop("INT");
    for setting in ["ssl=on".to_owned(), format!("ssl_cert_file={}", tls.join("certificate.pem").display())] {
        server.set(setting);
    }
    server.set(format!("ssl_key_file={}", tls.join("key.pem").display()));
    server.run();
    server.psql(USER, "create user gateway password 'correct horse'");
    server.psql(USER, "create database over_tls owner gateway");
    write_configuration(folder.path(), &Setup::default());
    let own = folder.path().join("data");
    std::fs::create_dir_all(&own).expect("a folder");
    let url = |password: &str| format!("postgres://gateway:{password}@127.0.0.1:{}/over_tls", server.port);
    let secret = own.join("database.url");
    std::fs::write(&secret, url("correct%20horse")).expect("written");
    std::os::unix::fs::chown(&secret, None, None).expect("ours");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
    let authority = folder.path().join("tls/authority.pem");
    let table = format!("tls = \"verify\"\nca_file = \"{}\"", authority.display());
    let config =
        store::on_database(&Setup::default().process, "-").replace("url = \"-\"", "url_file = \"database.url\"");
    std::fs::write(folder.path().join("streamgate.toml"), format!("{config}{table}\n")).expect("written");
    let gateway = Process::start(folder.path(), None);
    assert!(post(gateway.public, 1).is_some());
    let encrypted = "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'gateway'";
    assert_eq!(server.psql(USER, encrypted), "t");
    assert_eq!(gateway.terminate(), Some(0));
}
