//! Group I: what comes in must not get out where it was not meant to: header fields, logs, metrics, pages, addresses.

use super::{Case, check_invariants, post, run};
use crate::lifecycle::Receiver;
use crate::support::eventually;
use crate::support::gateway::{KEY, ORGANIZATION, Setup, TestGateway, write_configuration};
use crate::support::process::Process;
use crate::support::raw::{exchange, request};
use crate::support::records::{ORGANIZATION_ID, incident, nth_incident, record_id};

/// A line that would pass for another one, if it got into the log as it stands.
const LOG_LINE: &str = r#"\n{\"level\":\"INFO\",\"message\":\"forged\"}"#;

/// A post with a user agent of these bytes.
fn agent(id: &'static str, n: usize, expected: &'static [u16], agent: &[u8]) -> Case {
    let body = nth_incident(n);
    let head = format!(
        "POST /api/v1/records HTTP/1.1\r\nHost: g\r\nX-Api-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nUser-Agent: a",
        body.len()
    );
    Case { id, bytes: [head.as_bytes(), agent, b"\r\n\r\n", body.as_bytes()].concat(), expected }
}

/// The cases of this group that are one exchange each and stand in no other group.
pub(crate) fn cases() -> Vec<Case> {
    let details = |n: usize, text: &str| incident(&record_id(n), &format!(r#"{{"title":"{text}"}}"#));
    let name = nth_incident(1).replacen("\"incident\"", &format!("\"incident{LOG_LINE}\""), 1);
    vec![
        agent("I289 escape in the user agent", 1, &[400], b"\x1b[2J"),
        agent("I289 eight-bit escape", 289, &[202], b"\xc2\x9b2J\x9b2J"),
        post("I290 log line in details", &[202], details(290, LOG_LINE)),
        post("I290 log line in a name", &[400], name),
        post("I291 templates in details", &[202], details(291, "${jndi:ldap://x}{{7*7}}")),
        post("I292 script", &[202], details(292, "<script>alert(1)</script>")),
        post("I293 formula", &[202], details(293, "=cmd|' /C calc'!A0")),
    ]
}

#[test]
fn i_outward() {
    run(&TestGateway::start(), &cases());
}

#[test]
fn i284_i285_i286_i287_i288_only_what_is_ours_goes_out() {
    let receiver = Receiver::start();
    let mut setup = Setup::default();
    setup.process.push_str(&receiver.routing_queue());
    setup.organizations[0].1 =
        ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"receiver\"", 1);
    let gateway = TestGateway::start_with(&setup);
    let long = "t".repeat(5_000);
    let headers = [
        ("X-Api-Key", KEY),
        ("Content-Type", "application/json"),
        ("x-ms-client-tracking-id", &long),
        ("x-ms-workflow-run-id", "not-to-travel"),
        ("traceparent", "garbage"),
        ("tracestate", "a=b"),
        ("webhook-id", "mine"),
        ("webhook-signature", "v1,mine"),
        ("X-Internal-Admin", "1"),
        ("Connection", "X-Api-Key"),
    ];
    let details = r#"{"Authorization":"Bearer x","X-Evil":"1\r\nX-Worse: 2","webhook-id":"y"}"#;
    let answer = exchange(
        gateway.public,
        &request("POST", "/api/v1/records", &headers, incident(&record_id(1), details).as_bytes()),
    );
    assert_eq!(answer.status, 202, "I288: {answer:?}");
    let (fields, body) = receiver.events.recv().expect("an event");
    let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let ours = [
        "accept",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
        "x-ms-client-tracking-id",
    ];
    assert_eq!(names, ours);
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(field("x-ms-client-tracking-id"), Some(&long[..256]), "I285");
    assert_eq!(field("webhook-id"), Some(answer.text("receiptId").as_str()), "I287");
    let body = String::from_utf8(body).expect("text");
    assert!(body.contains(&format!(r#""recordDetails":{details}"#)), "I284: {body}");
}

#[test]
fn i289_i290_one_request_is_one_line_of_the_log_whatever_it_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::default();
    setup.process.push_str("\n[log]\nformat = \"json\"\n");
    write_configuration(folder.path(), &setup);
    let process = Process::start_logging(folder.path(), &folder.path().join("log"));
    let cases = cases();
    for case in &cases {
        let answer = exchange(process.public, &case.bytes);
        assert!(case.expected.contains(&answer.status), "{}: {answer:?}", case.id);
    }
    assert_eq!(process.terminate(), Some(0));
    let log = std::fs::read(folder.path().join("log")).expect("a log");
    assert!(!log.iter().any(|byte| byte.is_ascii_control() && *byte != b'\n'), "control characters");
    let log = String::from_utf8(log).expect("UTF-8");
    assert!(!log.contains('\u{9b}'), "I289: an eight-bit escape got into the log");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|fault| panic!("{fault}: {line}"))).collect();
    let requests = lines.iter().filter(|line| line["http.status"].is_u64()).count();
    assert_eq!(requests, cases.len(), "{log}");
    assert!(lines.iter().all(|line| line["message"] != "forged"), "{log}");
}

#[test]
fn i292_i293_markup_and_formulas_come_back_as_json_and_nothing_else() {
    let gateway = TestGateway::start();
    for (n, text) in [(1, "<script>alert(1)</script>"), (2, "=cmd|' /C calc'!A0"), (3, "\u{202e}{{7*7}}")] {
        let details = format!(r#"{{"title":"{text}"}}"#);
        let receipt = gateway.post(incident(&record_id(n), &details)).text("receiptId");
        let shown = gateway.administer("GET", &format!("/admin/v1/records/{receipt}?details=true"));
        assert_eq!(shown.status, 200);
        assert_eq!(shown.header("content-type"), Some("application/json"));
        assert_eq!(shown.header("x-content-type-options"), Some("nosniff"));
        let shown = String::from_utf8(shown.body).expect("text");
        assert!(shown.contains(&format!(r#""recordDetails":{details}"#)), "{shown}");
    }
    let page = exchange(gateway.public, &request("GET", "/openapi", &[], b""));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
}

#[test]
fn i294_i295_i296_strangers_make_no_metric_series() {
    let gateway = TestGateway::start();
    let series = || {
        let text = exchange(gateway.admin, &request("GET", "/metrics", &[], b"")).body;
        String::from_utf8(text).expect("text").lines().filter(|line| !line.starts_with('#')).count()
    };
    let knock = |n: usize| {
        let unknown = nth_incident(n).replace(ORGANIZATION_ID, &format!("ffffffff-2222-4b6f-8f7a-{n:012x}"));
        let answer = gateway.post(unknown);
        assert!(matches!(answer.status, 404 | 429), "{answer:?}");
        assert_eq!(gateway.call("GET", &format!("/nowhere/{n}"), KEY, b"").status, 404);
        let agent = format!("agent/{n}");
        let fields = [("X-Api-Key", KEY), ("User-Agent", agent.as_str())];
        assert_eq!(exchange(gateway.public, &request("GET", "/api/v1/connection", &fields, b"")).status, 200);
    };
    knock(0);
    // The first scrape makes the series of the scrapes themselves.
    series();
    let before = series();
    for n in 1..500 {
        knock(n);
    }
    assert_eq!(series(), before);
}

#[test]
fn i297_i299_i300_addresses_that_lead_inside_are_refused_as_configuration() {
    let gateway = TestGateway::start();
    let file = gateway.folder().join("streamgate.toml");
    let usual = std::fs::read_to_string(&file).expect("written");
    for (id, url) in [
        ("I297", "https://127.1/"),
        ("I297", "https://0x7f.1/"),
        ("I297", "https://2130706433/"),
        ("I297", "https://[::ffff:127.0.0.1]/"),
        ("I297", "https://[64:ff9b::7f00:1]/"),
        ("I297", "https://169.254.169.254/latest/meta-data"),
        ("I297", "https://10.0.0.1/"),
        ("I297", "https://[fd00::1]/"),
        ("I297", "https://localhost./"),
        ("I297", "http://example.com/"),
        ("I299", "file:///etc/passwd"),
        ("I299", "gopher://example.com/"),
        ("I299", "ftp://example.com/"),
        ("I300", "https://user:secret@example.com/"),
        ("I300", "https://user@example.com/"),
    ] {
        let queue = format!(
            "\n[routing_queues.inside]\nkind = \"http\"\nurl = \"{url}\"\nsecret_file = \"s\"\ncreate_secret = true\n"
        );
        std::fs::write(&file, format!("{usual}{queue}")).expect("written");
        let answer = gateway.administer("POST", "/admin/v1/reload");
        check_invariants(id, &answer);
        assert_eq!((answer.status, answer.text("code").as_str()), (422, "configuration-invalid"), "{id} {url}");
        assert!(!answer.text("detail").contains("secret@"), "{id} {url}: {answer:?}");
    }
    assert_eq!(gateway.post(nth_incident(1)).status, 202, "the last good configuration stays");
}

/// A name is as good as what it resolves to at the moment of connecting: this one leads to an address that is not among
/// the permitted ones.
#[test]
fn i298_a_name_that_leads_inside_is_refused_at_connect() {
    let inside = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    inside.set_nonblocking(true).expect("non-blocking");
    let address = inside.local_addr().expect("an address");
    let mut setup = Setup::default();
    setup.process.push_str(&format!(
        "\n[routing_queues.inside]\nkind = \"http\"\nurl = \"http://localhost:{}/\"\nsecret_file = \"s\"\ncreate_secret = true\nallow_networks = [\"127.0.0.77/32\"]\n",
        address.port()
    ));
    setup.organizations[0].1 = ORGANIZATION.replacen("[organization]", "[organization]\nrouting_queue = \"inside\"", 1);
    let gateway = TestGateway::start_with(&setup);
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    let tried = eventually("a try", || {
        let answer = gateway.call("GET", &format!("/api/v1/receipts/{receipt}"), KEY, b"");
        Some(answer.text("lastError")).filter(|error| !error.is_empty())
    });
    assert!(tried.contains("address is private or special"), "{tried}");
    assert!(inside.accept().is_err(), "nobody came");
}

#[test]
fn i301_what_was_sent_is_not_handed_back_at_length() {
    let gateway = TestGateway::start();
    let long = format!(r#"{{"organizationId":"x","{}":1}}"#, "k".repeat(900_000));
    let answer = gateway.call("POST", "/api/v1/work-items/lease", KEY, long.as_bytes());
    check_invariants("I301", &answer);
    assert_eq!(answer.status, 400);
    let answer = gateway.administer("GET", &format!("/admin/v1/records?limit={}", "z".repeat(3_000)));
    check_invariants("I301", &answer);
    assert_eq!(answer.status, 400);
}
