//! Group T: bearer tokens, over the wire. Every forgery gets the same 401, and a good token a 202; what each forgery is
//! refused *for* is tested where tokens are judged (`src/http/keys/tests`).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::{Value, json};

use super::{Case, check_invariants, run, stored};
use crate::support::eventually;
use crate::support::gateway::{KEY, Setup, TestGateway};
use crate::support::issuer::{SigningKey, encode, forge, jwks, sign_hs256};
use crate::support::raw::{Answer, exchange, request};
use crate::support::records::nth_incident;

const ISSUER: &str = "https://login.example.com/11111111-2222-3333-4444-555555555555/v2.0";
const OTHER_TENANT: &str = "66666666-2222-3333-4444-555555555555";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const AUDIENCE: &str = "api://streamgate";

static RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rsa("rsa-1"));
static STRANGER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rsa("rsa-1"));
static P256: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::p256("p256-1"));

/// A server that publishes a JWKS document and counts how often it is asked.
pub(crate) struct Publisher {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    document: Arc<Mutex<Value>>,
}

impl Publisher {
    /// One with the keys that the good tokens here are signed with.
    pub(crate) fn of_the_issuer() -> Self {
        Self::start(jwks(&[RSA.jwk(), P256.jwk()]))
    }

    fn start(document: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let document = Arc::new(Mutex::new(document));
        let (counter, published) = (Arc::clone(&asked), Arc::clone(&document));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                counter.fetch_add(1, Ordering::Relaxed);
                let mut buffer = [0; 4_096];
                let _read = stream.read(&mut buffer);
                let document = published.lock().expect("no panic").to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    document.len()
                );
                let _answered = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(document.as_bytes()));
            }
        });
        Self { address, asked, document }
    }
}

/// The lines that configure an Entra-like issuer whose keys are at this address.
pub(crate) fn issuer(jwks_address: SocketAddr) -> String {
    format!(
        "\n[[issuers]]\nname = \"entra\"\nissuer = \"{ISSUER}\"\njwks_url = \"http://{jwks_address}/keys\"\nalgorithms = [\"RS256\", \"ES256\"]\n\
         audiences = [\"{AUDIENCE}\"]\ntenant = \"{TENANT}\"\nversion = \"2.0\"\npermissions = [\"records.write\"]\norganizations = \"*\"\n"
    )
}

/// A gateway that trusts that issuer, with more lines about it.
fn trusting(jwks_address: SocketAddr, more: &str) -> TestGateway {
    let mut setup = Setup::default();
    setup.process.push_str(&issuer(jwks_address));
    setup.process.push_str(more);
    TestGateway::start_with(&setup)
}

fn now() -> i64 {
    streamgate::domain::time::Timestamp::now().seconds()
}

/// The claims of a good token with these changed; `null` takes one away.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "exp": now() + 3_600, "nbf": now(), "iat": now(), "tid": TENANT, "ver": "2.0",
        "azp": "client-1", "roles": ["records.write"],
    });
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn bearer(token: &str, n: usize) -> Vec<u8> {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    request("POST", "/api/v1/records", &headers, nth_incident(n).as_bytes())
}

fn post(gateway: &TestGateway, token: &str, n: usize) -> Answer {
    exchange(gateway.public, &bearer(token, n))
}

/// Waits until the issuer's keys have arrived: before that, tokens cannot be judged and get 503.
fn ready(gateway: &TestGateway) {
    wait_for_keys(gateway.public);
}

/// Waits until a gateway at this address has the issuer's keys.
pub(crate) fn wait_for_keys(address: SocketAddr) {
    let good = RSA.token(&claims(&json!({})));
    eventually("the issuer's keys", || (exchange(address, &bearer(&good, 0)).status == 202).then_some(()));
}

#[test]
fn t230_t251_k263_good_tokens_are_accepted() {
    let publisher = Publisher::of_the_issuer();
    let gateway = trusting(publisher.address, "");
    ready(&gateway);
    assert_eq!(post(&gateway, &P256.token(&claims(&json!({}))), 1).status, 202, "ES256");
    let several = claims(&json!({ "aud": ["api://other", AUDIENCE] }));
    assert_eq!(post(&gateway, &RSA.token(&several), 2).status, 202, "T230 an array of audiences");
    let delegated = claims(&json!({ "roles": null, "scp": "openid records.write" }));
    assert_eq!(post(&gateway, &RSA.token(&delegated), 3).status, 202, "scp");
    let token = RSA.token(&claims(&json!({})));
    assert_eq!(post(&gateway, &token, 4).status, 202);
    assert_eq!(post(&gateway, &token, 5).status, 202, "T251 a replay");
    let lower = String::from_utf8(bearer(&token, 6)).expect("text").replacen("Bearer", "bearer", 1);
    assert_eq!(exchange(gateway.public, lower.as_bytes()).status, 202, "K263");
}

/// Tokens that are signed as they should be, and say what they should not.
fn forged_claims() -> Vec<(&'static str, String)> {
    let with_claims = |changes: Value| RSA.token(&claims(&changes));
    vec![
        ("T220 no iss", with_claims(json!({ "iss": null }))),
        ("T221 iss number", with_claims(json!({ "iss": 7 }))),
        ("T222 iss array", with_claims(json!({ "iss": [ISSUER] }))),
        ("T223 iss with slash", with_claims(json!({ "iss": format!("{ISSUER}/") }))),
        ("T224 iss of another tenant", with_claims(json!({ "iss": ISSUER.replace(TENANT, OTHER_TENANT) }))),
        ("T225 tid", with_claims(json!({ "tid": "contoso" }))),
        ("T226 version", with_claims(json!({ "ver": "1.0" }))),
        ("T227 no aud", with_claims(json!({ "aud": null }))),
        ("T228 aud number", with_claims(json!({ "aud": 5 }))),
        ("T229 aud of another", with_claims(json!({ "aud": "https://graph.microsoft.com" }))),
        ("T231 no exp", with_claims(json!({ "exp": null }))),
        ("T232 exp string", with_claims(json!({ "exp": "9999999999" }))),
        ("T233 exp negative", with_claims(json!({ "exp": -5 }))),
        ("T234 expired", with_claims(json!({ "exp": now() - 60, "iat": now() - 600, "nbf": now() - 600 }))),
        ("T235 year 2999", with_claims(json!({ "exp": 32_472_144_000_i64 }))),
        ("T236 not yet", with_claims(json!({ "nbf": now() + 600 }))),
        ("T237 nbf string", with_claims(json!({ "nbf": "0" }))),
        ("T238 iat future", with_claims(json!({ "iat": now() + 600 }))),
        ("T239 ID token", with_claims(json!({ "nonce": "n", "roles": null }))),
        ("T241 no permission", with_claims(json!({ "roles": null }))),
        ("T242 scp array", with_claims(json!({ "roles": null, "scp": ["records.write"] }))),
        ("T243 longer role", with_claims(json!({ "roles": ["record.write.all.not"] }))),
    ]
}

/// Tokens that are no good, for a gateway that trusts the [`issuer`].
pub(crate) fn cases() -> Vec<Case> {
    let good = claims(&json!({})).to_string();
    let header = |changes: &Value| {
        let mut header = RSA.header();
        for (name, value) in changes.as_object().expect("an object") {
            header[name] = value.clone();
        }
        header.to_string()
    };
    let with_header = |changes: Value| RSA.sign(&header(&changes), &good);
    let with_claims = |changes: Value| RSA.token(&claims(&changes));
    let valid = RSA.token(&claims(&json!({})));
    let parts: Vec<&str> = valid.split('.').collect();
    // A header that announces compression, and a body that would be large if somebody believed it.
    let jwe_header = r#"{"alg":"RSA-OAEP","enc":"A256GCM","zip":"DEF","kid":"rsa-1"}"#;
    let jwe = format!(
        "{}.{}.{}.{}.{}",
        encode(jwe_header.as_bytes()),
        "A".repeat(342),
        "A".repeat(16),
        "A".repeat(6_000),
        "A".repeat(22)
    );
    let evil = "http://127.0.0.1:1/keys";
    let mut tokens: Vec<(&'static str, String)> = vec![
        ("T198 none", forge(r#"{"alg":"none","kid":"rsa-1"}"#, &good, b"")),
        ("T198 nOnE", forge(r#"{"alg":"nOnE","kid":"rsa-1"}"#, &good, b"")),
        ("T199 no signature", format!("{}.{}.", parts[0], parts[1])),
        ("T200 HS256 with the public key", sign_hs256(&RSA.public_der(), r#"{"alg":"HS256","kid":"rsa-1"}"#, &good)),
        ("T201 right key, other algorithm", RSA.sign(r#"{"alg":"RS512","kid":"rsa-1"}"#, &good)),
        ("T202 PS256", RSA.sign_ps256(&header(&json!({ "alg": "PS256" })), &good)),
        ("T203 no kid", RSA.sign(r#"{"alg":"RS256"}"#, &good)),
        ("T204 unknown kid", with_header(json!({ "kid": "rsa-9" }))),
        ("T205 odd kid", with_header(json!({ "kid": "../../etc/passwd" }))),
        ("T206 another's key", STRANGER.token(&claims(&json!({})))),
        ("T207 jku", with_header(json!({ "jku": evil }))),
        ("T208 x5u", with_header(json!({ "x5u": evil }))),
        ("T209 jwk", STRANGER.sign(&header(&json!({ "jwk": STRANGER.jwk() })), &good)),
        ("T210 x5c", STRANGER.sign(&header(&json!({ "x5c": [encode(&STRANGER.public_der())] })), &good)),
        ("T211 crit", with_header(json!({ "crit": ["b64"] }))),
        ("T212 b64", with_header(json!({ "b64": false }))),
        ("T213 JWE", format!("{}.a.b.c.d", parts[0])),
        ("T214 JWE that would inflate", jwe),
        ("T215 four parts", format!("{valid}.x")),
        ("T216 two parts", format!("{}.{}", parts[0], parts[1])),
        ("T217 9 KiB", with_claims(json!({ "pad": "p".repeat(9_000) }))),
        ("T218 padding", format!("{valid}==")),
        ("T219 leading blank", format!(" {valid}")),
        ("T240 id+jwt", with_header(json!({ "typ": "id+jwt" }))),
        ("T245 aud twice", RSA.sign(&RSA.header().to_string(), &good.replacen('{', r#"{"aud":"x","#, 1))),
        ("T246 alg twice", RSA.sign(r#"{"alg":"none","alg":"RS256","kid":"rsa-1"}"#, &good)),
        ("T247 bit flipped", format!("{}A{}", &valid[..valid.len() - 20], &valid[valid.len() - 19..])),
        ("T248 r = s = 0", forge(&P256.header().to_string(), &good, &[0; 64])),
        ("T247 not base64", format!("{}.%%%.{}", parts[0], parts[2])),
        ("T246 header is no JSON", format!("{}.{}.{}", encode(b"nonsense"), parts[1], parts[2])),
    ];
    tokens.extend(forged_claims());
    tokens.iter().map(|(id, token)| Case { id, bytes: bearer(token, 1), expected: &[401] }).collect()
}

#[test]
fn t_forgeries_get_401() {
    let publisher = Publisher::of_the_issuer();
    let gateway = trusting(publisher.address, "");
    ready(&gateway);
    run(&gateway, &cases());
    assert!(publisher.asked.load(Ordering::Relaxed) <= 2, "T204: unknown key IDs caused more than one fetch");
}

#[test]
fn t244_a_user_cannot_act_as_an_application() {
    let publisher = Publisher::of_the_issuer();
    let gateway = trusting(publisher.address, "clients = [\"client-1\"]\n");
    let app = RSA.token(&claims(&json!({ "idtyp": "app" })));
    eventually("the issuer's keys", || (post(&gateway, &app, 0).status == 202).then_some(()));
    let user = RSA.token(&claims(&json!({ "idtyp": "user" })));
    let stranger = RSA.token(&claims(&json!({ "idtyp": "app", "azp": "client-2" })));
    let cases = [
        Case { id: "T244 idtyp user", bytes: bearer(&user, 1), expected: &[401] },
        Case { id: "T244 another client", bytes: bearer(&stranger, 1), expected: &[401] },
    ];
    run(&gateway, &cases);
}

#[test]
fn t249_a_withdrawn_key_is_refused_once_the_keys_were_fetched_again() {
    let publisher = Publisher::of_the_issuer();
    let gateway = trusting(publisher.address, "");
    ready(&gateway);
    let token = RSA.token(&claims(&json!({})));
    assert_eq!(post(&gateway, &token, 1).status, 202);
    *publisher.document.lock().expect("no panic") = jwks(&[P256.jwk()]);
    // An unknown key ID has the keys fetched before their hour is over.
    let unknown = RSA.sign(r#"{"alg":"RS256","kid":"rsa-9"}"#, &claims(&json!({})).to_string());
    assert_eq!(post(&gateway, &unknown, 2).status, 401);
    let refused =
        eventually("the withdrawal to count", || Some(post(&gateway, &token, 1)).filter(|answer| answer.status != 202));
    check_invariants("T249", &refused);
    assert_eq!(refused.status, 401);
    assert_eq!(post(&gateway, &P256.token(&claims(&json!({}))), 3).status, 202, "the other key goes on");
}

#[test]
fn t250_a_key_of_another_tenant_in_the_same_document_does_not_count() {
    let mut foreign = STRANGER.jwk();
    foreign["kid"] = json!("personal");
    foreign["issuer"] = json!("https://login.example.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0");
    let publisher = Publisher::start(jwks(&[RSA.jwk(), foreign]));
    let gateway = trusting(publisher.address, "");
    ready(&gateway);
    let token = STRANGER.sign(r#"{"alg":"RS256","kid":"personal"}"#, &claims(&json!({})).to_string());
    run(&gateway, &[Case { id: "T250 key of personal accounts", bytes: bearer(&token, 1), expected: &[401] }]);
}

#[test]
fn without_keys_tokens_wait_and_api_keys_go_on() {
    // A port where nobody answers: bound once and given back.
    let nowhere = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let gateway = trusting(nowhere, "");
    let answer = post(&gateway, &RSA.token(&claims(&json!({}))), 1);
    check_invariants("no keys", &answer);
    assert_eq!((answer.status, answer.text("code").as_str()), (503, "keys-unavailable"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(gateway.call("POST", "/api/v1/records", KEY, nth_incident(1).as_bytes()).status, 202);
    assert_eq!(stored(&gateway), 1);
}
