//! The listeners by TLS: the whole story, certificates that change while connections go on, and what is no TLS at all.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use serde_json::json;

use crate::catalogue::{check_invariants, framing, pressure, run};
use crate::command_line::{against_with, text};
use crate::support::gateway::{FABRIKAM_KEY, KEY, Setup, TestGateway, write_configuration};
use crate::support::process::Process;
use crate::support::raw::{Connection, request};
use crate::support::records::nth_incident;
use crate::support::tls::{self, Stream, authority, client, client_of, replace};
use crate::support::{eventually, metric, skipped};

const JSON: [(&str, &str); 2] = [("X-Api-Key", KEY), ("Content-Type", "application/json")];

fn post(n: usize) -> Vec<u8> {
    request("POST", "/api/v1/records", &JSON, nth_incident(n).as_bytes())
}

/// The certificate that a fresh connection is shown.
fn shown(address: SocketAddr) -> CertificateDer<'static> {
    of(&Connection::open(address))
}

fn of(connection: &Connection) -> CertificateDer<'static> {
    let shown = connection.stream.session().peer_certificates().expect("certificates");
    shown[0].clone().into_owned()
}

#[test]
fn the_whole_story_by_tls() {
    let gateway = TestGateway::start_with(&Setup::over_tls());
    let mut connection = Connection::open(gateway.public);
    connection.send(&post(1));
    let answer = connection.answer().expect("an answer");
    check_invariants("TLS", &answer);
    assert_eq!(answer.status, 202);
    assert!(answer.text("statusUrl").starts_with("https://gateway.test/"), "{}", answer.text("statusUrl"));
    assert!(answer.header("strict-transport-security").is_none(), "it would count for other ports of the host, too");
    let session = connection.stream.session();
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));

    let receipt = answer.text("receiptId");
    let lease = json!({ "organizationId": crate::support::records::ORGANIZATION_ID }).to_string();
    let leased = gateway.call("POST", "/api/v1/work-items/lease", KEY, lease.as_bytes()).json();
    assert_eq!(leased["value"][0]["event"]["id"], *receipt, "{leased}");
    let token = json!({ "leaseToken": leased["value"][0]["leaseToken"] }).to_string();
    let path = format!("/api/v1/work-items/{receipt}/complete");
    assert_eq!(gateway.call("POST", &path, KEY, token.as_bytes()).status, 200);
    gateway.wait_for_state(&receipt, "delivered");

    let metrics = String::from_utf8(gateway.administer("GET", "/metrics").body).expect("text");
    // 2999-01-01T00:00:00Z.
    for listener in ["public", "admin"] {
        let line =
            format!("streamgate_tls_certificate_expires_timestamp_seconds{{listener=\"{listener}\"}} 32472144000\n");
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
}

#[test]
fn versions_1_2_and_1_3_are_spoken_with_http_1_1_inside() {
    let gateway = TestGateway::start_with(&Setup::over_tls());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = client_of(&[version]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(gateway.public).expect("connected");
        let mut connection = Connection::over(Stream::secured(tcp, config));
        assert_eq!(connection.stream.session().alpn_protocol(), Some(&b"http/1.1"[..]));
        connection.send(&post(1));
        assert_eq!(connection.answer().expect("an answer").status, 202, "{version:?}");
    }
    let mut config = client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(gateway.public).expect("connected");
    let refused = Stream::try_secured(tcp, config).err().expect("refused").to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

/// The first message of a client that knows this version at most (RFC 5246 §7.4.1.2), with what older ones had.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    // No session; ECDHE and RSA suites of TLS 1.0 to 1.2; no compression.
    body.extend([0, 0, 8, 0xc0, 0x13, 0xc0, 0x14, 0xc0, 0x2f, 0, 0x2f, 1, 0]);
    // P-256 uncompressed, RSA and ECDSA with SHA-256.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 6, 0, 4, 4, 1, 4, 3];
    body.extend([0, extensions.len() as u8]);
    body.extend(extensions);
    let mut handshake = vec![1, 0, 0, body.len() as u8];
    handshake.extend(body);
    let mut record = vec![0x16, 3, 1, 0, handshake.len() as u8];
    record.extend(handshake);
    record
}

#[test]
fn older_versions_are_refused() {
    let gateway = TestGateway::start_with(&Setup::over_tls());
    for version in [[3, 0], [3, 1], [3, 2]] {
        let mut tcp = TcpStream::connect(gateway.public).expect("connected");
        tcp.write_all(&client_hello(version)).expect("sent");
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).expect("an alert, and the end");
        // An alert (21), fatal (2), protocol_version (70).
        assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]), "{version:?}: {answer:?}");
    }
}

#[test]
fn the_basics_of_the_catalogue_hold_by_tls() {
    run(&TestGateway::start_with(&Setup::over_tls()), &framing::within_bounds());
    for check in [framing::what_follows_a_short_length, framing::pipelined_requests, pressure::half_closed] {
        check(&TestGateway::start_with(&Setup::over_tls()));
    }
    pressure::slow_clients(&pressure::impatient(Setup::over_tls()));
}

#[test]
fn a_flood_that_is_never_read_is_cut_by_tls_too() {
    let mut setup = Setup::over_tls();
    setup.process.push_str("\n[limits]\nrequest_deadline_seconds = 300\nkeep_alive_seconds = 300\n");
    let gateway = TestGateway::start_with(&setup);
    let mut flood = Connection::open(gateway.public);
    flood.stream.tcp().set_nonblocking(true).expect("non-blocking");
    // A long answer, so that what waits to be sent fills the sockets' buffers soon.
    let one = request("GET", "/openapi/openapi.json", &[], b"");
    eventually("the connection to be cut", || match flood.stream.write(&one) {
        Ok(_) => None,
        Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(_cut) => Some(()),
    });
    assert_eq!(gateway.post(nth_incident(1)).status, 202);
}

#[test]
fn another_certificate_counts_at_the_next_handshake_and_open_connections_go_on() {
    let gateway = TestGateway::start_with(&Setup::over_tls());
    let mut pinned = Connection::open(gateway.public);
    let first = of(&pinned);
    assert_eq!(shown(gateway.admin), first);

    // Noticed by itself.
    authority().write_pair(gateway.folder());
    let second = eventually("another certificate", || Some(shown(gateway.public)).filter(|shown| *shown != first));
    assert_eq!(shown(gateway.admin), second);
    for n in 0..3 {
        pinned.send(&post(n));
        assert_eq!(pinned.answer().expect("an answer").status, 202);
    }

    // Asked for.
    authority().write_pair(gateway.folder());
    let reloaded = gateway.administer("POST", "/admin/v1/reload");
    assert_eq!(reloaded.status, 200);
    let third = shown(gateway.public);
    assert!(third != second && shown(gateway.admin) == third);
    pinned.send(&post(9));
    assert_eq!(pinned.answer().expect("an answer").status, 202);
    assert_eq!(of(&pinned), first);
}

#[test]
fn a_bad_pair_keeps_the_last_good_one_and_shows() {
    let gateway = TestGateway::start_with(&Setup::over_tls());
    let good = shown(gateway.public);
    let ready = || gateway.administer("GET", "/health/ready");
    let file = |name: &str| gateway.folder().join("tls").join(name);
    let (other, _) = authority().issue(2_999);
    let (expired, its_key) = authority().issue(2_001);
    let good_key = std::fs::read_to_string(file("key.pem")).expect("the key");
    for (certificate, key, part) in [
        (other.as_str(), good_key.as_str(), "does not belong to the certificate"),
        ("garbage", &good_key, "holds no certificate"),
        (&expired, &its_key, "has expired at 2001-01-01"),
    ] {
        replace(&file("key.pem"), key);
        replace(&file("certificate.pem"), certificate);
        let answer = gateway.administer("POST", "/admin/v1/reload");
        assert_eq!((answer.status, answer.text("code").as_str()), (422, "configuration-invalid"));
        assert!(answer.text("detail").contains(part), "{}", answer.text("detail"));
        assert_eq!(ready().status, 200, "records are still taken");
        assert_eq!(ready().text("configuration"), "last-good");
        let metrics = String::from_utf8(gateway.administer("GET", "/metrics").body).expect("text");
        assert_eq!(metric(&metrics, "streamgate_config_reload_ok"), 0, "{metrics}");
        assert_eq!(shown(gateway.public), good);
        assert_eq!(gateway.post(nth_incident(1)).status, 202);
    }
    authority().write_pair(gateway.folder());
    eventually("the fault to be mended", || (ready().text("configuration") == "good").then_some(()));
    assert_ne!(shown(gateway.public), good);
}

#[test]
fn sighup_reads_the_certificate_again() {
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), &Setup::over_tls());
    let gateway = Process::start(folder.path(), None);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.id())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("there");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "a core would hold the key");
    let mut pinned = Connection::open(gateway.public);
    let first = of(&pinned);
    authority().write_pair(folder.path());
    gateway.hang_up();
    eventually("another certificate", || (shown(gateway.public) != first).then_some(()));
    pinned.send(&post(1));
    assert_eq!(pinned.answer().expect("an answer").status, 202);
    drop(pinned);
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn handshakes_that_never_end_are_ended_and_hold_no_place() {
    let mut setup = Setup::over_tls();
    setup.process.push_str("\n[limits]\nrequest_deadline_seconds = 1\nmax_connections_per_peer = 8\n");
    let gateway = TestGateway::start_with(&setup);
    let hello = client_hello([3, 3]);
    let mut held: Vec<TcpStream> = (0..8)
        .map(|n| {
            let mut tcp = TcpStream::connect(gateway.public).expect("connected");
            tcp.set_read_timeout(Some(Duration::from_secs(40))).expect("a time-out");
            // Nothing; a byte; half a message; a whole one, after which nothing follows.
            tcp.write_all(&hello[..[0, 1, 50, hello.len()][n % 4]]).expect("sent");
            tcp
        })
        .collect();
    // There is no place now, and no answer in the clear to somebody who expects TLS.
    let mut ninth = TcpStream::connect(gateway.public).expect("connected");
    ninth.set_read_timeout(Some(Duration::from_secs(40))).expect("a time-out");
    let mut answer = Vec::new();
    let _closed = ninth.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    // All of them are ended, though nobody closed them.
    for tcp in &mut held {
        let _closed = tcp.read_to_end(&mut Vec::new());
    }
    assert_eq!(gateway.post(nth_incident(1)).status, 202);
}

#[test]
fn a_stop_does_not_wait_for_handshakes() {
    let mut setup = Setup::over_tls();
    setup.process.push_str("\n[limits]\nrequest_deadline_seconds = 60\nshutdown_grace_seconds = 60\n");
    let gateway = TestGateway::start_with(&setup);
    let mut idle = Connection::open(gateway.public);
    idle.send(&post(1));
    assert_eq!(idle.answer().expect("an answer").status, 202);
    let mut half = TcpStream::connect(gateway.public).expect("connected");
    half.write_all(&client_hello([3, 3])[..20]).expect("sent");
    // The half one is known to the gateway when a later one has been served.
    assert_eq!(gateway.post(nth_incident(2)).status, 202);
    let began = Instant::now();
    drop(gateway.stop());
    assert!(began.elapsed() < FIRST_HEAD, "{:?}", began.elapsed());
    assert!(idle.closes());
}

/// How long a handshake may take at most.
const FIRST_HEAD: Duration = Duration::from_secs(5);

#[test]
fn whoever_comes_in_the_clear_is_told_to_use_tls() {
    let gateway = TestGateway::start_with(&Setup::over_tls());
    for address in [gateway.public, gateway.admin] {
        let mut connection = Connection::open_in_the_clear(address);
        connection.send(&post(1));
        let answer = connection.answer().expect("an answer");
        check_invariants("in the clear", &answer);
        assert_eq!(answer.status, 400);
        assert!(answer.text("action").contains("https://"), "{}", answer.text("action"));
        assert!(connection.closes());
    }
    assert_eq!(crate::catalogue::stored(&gateway), 0);
    for noise in [&b"\x00\x01\x02"[..], b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01\x00\x02", &[0xff; 4_096]] {
        let mut tcp = TcpStream::connect(gateway.public).expect("connected");
        let _sent = tcp.write_all(noise);
        let _ended = tcp.shutdown(std::net::Shutdown::Write);
        let _closed = tcp.read_to_end(&mut Vec::new());
    }
    assert_eq!(gateway.post(nth_incident(1)).status, 202);
}

#[test]
fn a_tls_client_on_a_port_without_tls_gets_an_end() {
    let gateway = TestGateway::start();
    let mut tcp = TcpStream::connect(gateway.public).expect("connected");
    tcp.write_all(&client_hello([3, 3])).expect("sent");
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).expect("an answer, and the end");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(gateway.post(nth_incident(1)).status, 202);
}

#[test]
fn sessions_are_resumed_and_authorization_is_not() {
    let gateway = TestGateway::start_with(&Setup::over_tls());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = client_of(&[version]);
        let kinds: Vec<_> = [KEY, FABRIKAM_KEY, "sg_wrong"]
            .into_iter()
            .map(|key| {
                let tcp = TcpStream::connect(gateway.public).expect("connected");
                let mut connection = Connection::over(Stream::secured(tcp, config.clone()));
                connection.send(&request("GET", "/api/v1/connection", &[("X-Api-Key", key)], b""));
                let status = connection.answer().expect("an answer").status;
                (connection.stream.session().handshake_kind(), status)
            })
            .collect();
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [(Some(Full), 200), (Some(Resumed), 200), (Some(Resumed), 401)], "{version:?}");
    }
}

#[test]
fn commands_trust_the_authority_that_they_are_given() {
    let gateway = TestGateway::start_with(&Setup::over_tls());
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    let ca = gateway.folder().join("tls/authority.pem");
    let with = |ca: &Path, arguments: &[&str]| {
        let urls = [gateway.public, gateway.admin].map(|address| format!("https://{address}"));
        against_with(&urls, &[("STREAMGATE_CA", ca)], arguments)
    };
    let shown = with(&ca, &["records", "show", &receipt]);
    assert!(shown.status.success() && text(&shown.stdout).contains(&receipt), "{shown:?}");
    assert!(with(&ca, &["test-connection"]).status.success());

    // An authority's certificate, as openssl makes them unless it is told not to.
    let folder = gateway.folder().to_owned();
    let (authority, its_key) = tls::own_authority();
    replace(&folder.join("tls/key.pem"), &its_key);
    replace(&folder.join("tls/certificate.pem"), &authority);
    eventually("the authority's certificate", || {
        let mismatch = with(&folder.join("tls/certificate.pem"), &["records", "list"]);
        text(&mismatch.stderr).contains("CA:FALSE").then_some(())
    });
    tls::authority().write_pair(&folder);

    let urls = [gateway.public, gateway.admin].map(|address| format!("https://{address}"));
    // Once the gateway shows its own certificate again.
    eventually("the advice to trust the authority", || {
        let untrusted = against_with(&urls, &[], &["records", "list"]);
        assert_eq!(untrusted.status.code(), Some(4));
        text(&untrusted.stderr).contains("--ca").then_some(())
    });
    for (name, content) in [("missing.pem", None), ("empty.pem", Some("")), ("key.pem", Some("no certificate"))] {
        let path = gateway.folder().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).expect("written");
        }
        let refused = with(&path, &["records", "list"]);
        assert_eq!(refused.status.code(), Some(2), "{name}: {refused:?}");
    }
}

#[test]
fn the_printed_requests_work_by_tls() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is missing");
        skipped("curl is not installed, so the requests that a start by TLS prints were not run");
        return;
    }
    // Without a credential, so that there is a development key; its own issuer, and for a name that leads nowhere.
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup { process: tls::SETTINGS.to_owned(), ..Setup::over_tls() };
    write_configuration(folder.path(), &setup);
    let own = rcgen::generate_simple_self_signed(vec!["gateway.invalid".to_owned()]).expect("made");
    replace(&folder.path().join("tls/certificate.pem"), &own.cert.pem());
    replace(&folder.path().join("tls/key.pem"), &own.signing_key.serialize_pem());
    let gateway = Process::start(folder.path(), None);
    for (name, status) in [("curlAccepted", "HTTP/1.1 202"), ("curlRefused", "HTTP/1.1 404")] {
        let curl = gateway.greeting[name].as_str().expect("a request");
        assert!(curl.contains(" --cacert ") && curl.contains("https://gateway.invalid:"), "{curl}");
        let output = Command::new("sh").args(["-c", &format!("{curl} -s")]).output().expect("ran");
        let answer = text(&output.stdout);
        assert!(answer.starts_with(status), "{curl}\n{answer}\n{}", text(&output.stderr));
    }
    assert_eq!(gateway.terminate(), Some(0));
}
