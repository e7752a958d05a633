//! Issuers and destinations that are down, redirect, or have a certificate that nobody should trust.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use streamgate::config::settings::WebhookSecret;
use streamgate::domain::time::Timestamp;
use streamgate::routing_queue::signature::SignedHeaders;

use super::{Patient, Told, silent_port, text};
use crate::lifecycle::{Event, Receiver};
use crate::support::issuer::{SigningKey, jwks};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A routing queue `receiver` at this address, to which contoso routes, with its secret in place.
fn routing_to(url: &str, more: &str) -> Patient {
    let queue = format!(
        "[routing_queues.receiver]\nkind = \"http\"\nurl = \"{url}\"\nsecret_file = \"receiver.secret\"\nallow_networks = [\"127.0.0.0/8\", \"::1/128\"]\n{more}"
    );
    let patient = Patient::with("", &queue).with_data();
    let secret = patient.data().join("receiver.secret");
    std::fs::write(&secret, SECRET).expect("written");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    let file = patient.folder.path().join("organizations/contoso.toml");
    let organization = std::fs::read_to_string(&file).expect("read");
    let routed = organization.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    std::fs::write(&file, routed).expect("written");
    patient
}

#[test]
fn a_destination_that_is_down_is_a_fault_only_where_something_is_routed_there() {
    let (_held, nobody) = silent_port();
    let url = format!("http://{nobody}/");
    let told = routing_to(&url, "").examined(&["destinations"], &[]);
    let down = told.the("connection", "fault");
    assert_eq!(down["subject"], "receiver");
    assert!(text(down, "consequence").contains("dead letters") && text(down, "mend").contains("firewall"), "{down}");

    let unused = Patient::with(
        "",
        &format!(
            "[routing_queues.spare]\nkind = \"http\"\nurl = \"{url}\"\nsecret_file = \"s.secret\"\ncreate_secret = true\nallow_networks = [\"127.0.0.0/8\"]\n"
        ),
    );
    let told = unused.examined(&["destinations"], &["--send-test-event"]);
    assert!(text(told.the("connection", "note"), "consequence").contains("no organization"));
    assert!(text(told.the("test-event", "note"), "found").contains("is made by the first start"));
    assert!(!unused.data().exists(), "looking makes no secret");
}

#[test]
fn a_test_event_is_signed_marked_and_its_answer_told() {
    let receiver = Receiver::start();
    let patient = routing_to(&format!("http://{}/", receiver.address), "");
    assert!(patient.examined(&["destinations"], &[]).the("test-event", "ok")["consequence"].is_string());
    assert!(receiver.events.try_recv().is_err(), "without the flag nothing is sent");

    let told = patient.examined(&["destinations"], &["--send-test-event"]);
    assert_eq!(text(told.the("test-event", "ok"), "found"), "taken");
    let (headers, body): Event = receiver.events.recv().expect("an event");
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let signed = SignedHeaders {
        id: header("webhook-id").expect("an ID"),
        timestamp: header("webhook-timestamp").expect("a time"),
        signature: header("webhook-signature").expect("a signature"),
    };
    let secret = WebhookSecret::parse(SECRET).expect("a secret");
    signed.verify(&body, &[secret], Timestamp::now()).expect("signed with the destination's secret");
    let event: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&event["type"], &event["data"]["test"]), (&"streamgate.test.v1".into(), &true.into()));

    let batched = routing_to(&format!("http://{}/", receiver.address), "batch_max_events = 10\n");
    batched.examined(&["destinations"], &["--send-test-event"]).the("test-event", "ok");
    let (_, body) = receiver.events.recv().expect("an event");
    assert_eq!(serde_json::from_slice::<Vec<serde_json::Value>>(&body).expect("a batch").len(), 1);
}

#[test]
fn refusing_and_redirecting_receivers_are_told() {
    for (answer, severity, said) in [
        ("302 Found", "fault", "redirect"),
        ("401 Unauthorized", "fault", "401"),
        ("500 Internal Server Error", "fault", "500"),
        ("400 Bad Request", "warning", "400"),
    ] {
        let receiver = Receiver::answering(move |_| answer);
        let patient = routing_to(&format!("http://{}/", receiver.address), "");
        let told = patient.examined(&["destinations"], &["--send-test-event"]);
        let finding = told.the("test-event", severity);
        assert!(text(finding, "found").contains(said), "{finding}");
    }
}

/// A TLS server on this machine with a certificate of an authority of its own.
struct Secured {
    address: SocketAddr,
    authority: String,
}

impl Secured {
    /// A server for this host name, until this day.
    fn start(host: &str, last_day: (i32, u8, u8)) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // Of a name of its own, so that another one is not taken for it.
        authority.distinguished_name.push(DnType::CommonName, format!("Test authority {}", address.port()));
        let (authority_key, own_key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let mut own = CertificateParams::new(vec![host.to_owned()]).expect("names");
        own.not_before = date_time_ymd(2020, 1, 1);
        own.not_after = date_time_ymd(last_day.0, last_day.1, last_day.2);
        let issued = own.signed_by(&own_key, &Issuer::from_params(&authority, &authority_key)).expect("signed");
        let key = PrivateKeyDer::try_from(own_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![issued.der().clone()], key)
            .expect("a certificate");
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
                // Whoever does not trust it hangs up.
                while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
                let _flushed = stream.flush().and_then(|()| stream.read(&mut [0; 1]));
            }
        });
        Self { address, authority: authority.self_signed(&authority_key).expect("signed").pem() }
    }

    /// What is said about it as `localhost`, by a machine that trusts its authority.
    fn examined(&self) -> Told {
        let patient = routing_to(&format!("https://localhost:{}/", self.address.port()), "");
        let trusted: PathBuf = patient.folder.path().join("authority.pem");
        std::fs::write(&trusted, &self.authority).expect("written");
        let mut command = patient.command(&["--json", "--only", "destinations"]);
        Told::by(command.env("SSL_CERT_FILE", &trusted).env_remove("SSL_CERT_DIR"))
    }
}

#[test]
fn certificates_of_destinations_are_judged_as_deliveries_judge_them() {
    let good = Secured::start("localhost", (2090, 1, 1)).examined();
    let fine = good.the("peer-certificate", "ok");
    assert!(text(fine, "found").contains("for localhost"), "{fine}");
    assert!(fine["measured"]["daysLeft"].as_i64().is_some_and(|days| days > 1_000), "{fine}");

    let expired = Secured::start("localhost", (2021, 1, 1)).examined();
    let fault = expired.the("peer-certificate", "fault");
    assert!(text(fault, "found").contains("expired") && text(fault, "mend").contains("renew"), "{fault}");

    let other_name = Secured::start("other.example.com", (2090, 1, 1)).examined();
    let fault = other_name.the("peer-certificate", "fault");
    assert!(text(fault, "found").contains("other.example.com") && text(fault, "mend").contains("host name"), "{fault}");

    let server = Secured::start("localhost", (2090, 1, 1));
    let strange = Secured { authority: Secured::start("localhost", (2090, 1, 1)).authority, ..server }.examined();
    let fault = strange.the("peer-certificate", "fault");
    assert!(text(fault, "found").contains("UnknownIssuer") && text(fault, "mend").contains("authority"), "{fault}");
}

#[test]
fn a_destination_that_speaks_no_tls_is_told() {
    let receiver = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = receiver.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in receiver.incoming() {
            let _answered = stream.and_then(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    let told = routing_to(&format!("https://localhost:{port}/"), "").examined(&["destinations"], &[]);
    assert!(text(told.the("peer-certificate", "fault"), "mend").contains("TLS"));
}

#[test]
fn a_certificate_file_and_its_key_are_looked_at() {
    let patient = Patient::sound();
    let (chain, key) = (patient.folder.path().join("chain.pem"), patient.folder.path().join("key.pem"));
    let pair = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(vec!["gateway.example.com".to_owned()]).expect("names");
    std::fs::write(&chain, own.self_signed(&pair).expect("signed").pem()).expect("written");
    std::fs::write(&key, pair.serialize_pem()).expect("written");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("set");
    let (chain, key) = (chain.to_string_lossy(), key.to_string_lossy());
    let told = patient.examined(&["certificates"], &["--certificate", &chain, "--certificate-key", &key]);
    let readable = told.the("certificate", "fault");
    assert!(text(readable, "found").contains("others can read the key (mode 0644)"), "{readable}");
    assert!(text(told.the("certificate", "warning"), "found").contains("signed by itself"));
    assert!(told.of("certificate").iter().any(|finding| text(finding, "found").contains("gateway.example.com")));
}

/// An issuer whose name and keys are at this address.
fn trusting(address: SocketAddr) -> Patient {
    Patient::with(
        "",
        &format!(
            "[[issuers]]\nname = \"test\"\nissuer = \"http://{address}\"\njwks_url = \"http://{address}/keys\"\nalgorithms = [\"ES256\"]\n\
             audiences = [\"a\"]\npermissions = [\"records.write\"]\norganizations = [\"contoso\"]\n"
        ),
    )
}

#[test]
fn keys_of_issuers_are_fetched_counted_and_missed() {
    let (_held, nobody) = silent_port();
    let down = trusting(nobody).examined(&["issuers"], &[]);
    let fault = down.the("issuer-keys", "fault");
    assert_eq!(fault["subject"], "test");
    assert!(
        text(fault, "consequence").contains("keys-unavailable") && text(fault, "mend").contains("jwks_url"),
        "{fault}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let rsa_too = serde_json::json!({ "kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB" });
    let keys = jwks(&[SigningKey::p256("p").jwk(), rsa_too]).to_string();
    let metadata = serde_json::json!({ "issuer": "http://other", "jwks_uri": format!("http://{address}/keys") });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4_096];
            let read = stream.read(&mut buffer).unwrap_or(0);
            let body = if buffer[..read].starts_with(b"GET /keys ") { keys.clone() } else { metadata.to_string() };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _answered = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    let up = trusting(address);
    let told = Told::by(up.command(&["--json", "--only", "issuers"]).env("HTTPS_PROXY", "http://127.0.0.1:1"));
    let fetched = told.of("issuer-keys")[0];
    assert_eq!((&fetched["measured"]["usable"], &fetched["measured"]["skipped"]), (&1.into(), &1.into()), "{fetched}");
    let metadata = told.the("issuer-metadata", "warning");
    assert!(
        text(metadata, "found").contains("http://other") && text(metadata, "consequence").contains("401"),
        "{metadata}"
    );
    assert!(text(told.the("proxy", "note"), "found").contains("HTTPS_PROXY"));
}
