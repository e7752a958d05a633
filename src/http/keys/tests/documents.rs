//! JWKS documents, and the servers that serve them, at their worst: J5 of the fault matrix, T250.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::key_set::{KeyRules, KeySet};
use super::*;

fn rules() -> KeyRules {
    KeyRules {
        issuer: ISSUER.into(),
        tenant: Some(Guid::parse(TENANT).expect("is a GUID")),
        algorithms: vec![TokenAlgorithm::Rs256, TokenAlgorithm::Es256],
    }
}

fn read(document: &Value) -> Result<KeySet, String> {
    KeySet::read(document.to_string().as_bytes(), &rules()).map_err(|error| error.to_string())
}

/// The good RSA key, changed, under the ID `odd`.
fn odd(changes: Value) -> Value {
    let mut jwk = RSA.jwk();
    merge(&mut jwk, json!({ "kid": "odd" }));
    merge(&mut jwk, changes);
    jwk
}

fn odd_ec(changes: Value) -> Value {
    let mut jwk = P256.jwk();
    merge(&mut jwk, json!({ "kid": "odd" }));
    merge(&mut jwk, changes);
    jwk
}

/// An odd number of this many bits.
fn modulus(bits: usize) -> String {
    let mut bytes = vec![0xff; bits.div_ceil(8)];
    bytes[0] >>= (8 - bits % 8) % 8;
    issuer::encode(&bytes)
}

/// Each bad key is skipped, and the good one beside it goes on working.
#[test]
fn a_bad_key_is_skipped_and_never_empties_the_set() {
    let personal_accounts = "https://login.example.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0";
    let bad = [
        ("no object", json!("key")),
        ("null", json!(null)),
        ("empty", json!({})),
        ("no kid", odd(json!({ "kid": null }))),
        ("kid number", odd(json!({ "kid": 5 }))),
        ("kid long", odd(json!({ "kid": "k".repeat(257) }))),
        ("kid control", odd(json!({ "kid": "a\nb" }))),
        ("no kty", odd(json!({ "kty": null }))),
        ("oct", json!({ "kid": "odd", "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" })),
        ("oct that says RS256", odd(json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "RS256" }))),
        ("OKP", json!({ "kid": "odd", "kty": "OKP", "crv": "Ed25519", "x": issuer::encode(&[7; 32]) })),
        ("alg none", odd(json!({ "alg": "none" }))),
        ("alg HS256", odd(json!({ "alg": "HS256" }))),
        ("alg PS256", odd(json!({ "alg": "PS256" }))),
        ("alg number", odd(json!({ "alg": 5 }))),
        ("RSA that says ES256", odd(json!({ "alg": "ES256" }))),
        ("use enc", odd(json!({ "use": "enc" }))),
        ("use array", odd(json!({ "use": ["sig"] }))),
        ("key_ops sign", odd(json!({ "key_ops": ["sign"] }))),
        ("key_ops string", odd(json!({ "key_ops": "verify" }))),
        ("private", odd(json!({ "d": "AQAB" }))),
        ("512 bits", odd(json!({ "n": modulus(512) }))),
        ("2047 bits", odd(json!({ "n": modulus(2047) }))),
        ("2048 bits by zeros", odd(json!({ "n": issuer::encode(&[&[0; 128][..], &[0xff; 128][..]].concat()) }))),
        ("4097 bits", odd(json!({ "n": modulus(4097) }))),
        ("16384 bits", odd(json!({ "n": modulus(16_384) }))),
        ("even", odd(json!({ "n": issuer::encode(&[0xfe; 256]) }))),
        ("no modulus", odd(json!({ "n": null }))),
        ("modulus empty", odd(json!({ "n": "" }))),
        ("modulus no base64url", odd(json!({ "n": "+/==" }))),
        ("exponent 1", odd(json!({ "e": "AQ" }))),
        ("exponent 3", odd(json!({ "e": "Aw" }))),
        ("exponent 0", odd(json!({ "e": "AA" }))),
        ("exponent even", odd(json!({ "e": "AQAA" }))),
        ("exponent huge", odd(json!({ "e": issuer::encode(&[0xff; 64]) }))),
        ("P-384", odd_ec(json!({ "crv": "P-384" }))),
        ("x short", odd_ec(json!({ "x": issuer::encode(&[1; 31]) }))),
        ("y long", odd_ec(json!({ "y": issuer::encode(&[1; 33]) }))),
        ("no y", odd_ec(json!({ "y": null }))),
        ("EC that says RS256", odd_ec(json!({ "alg": "RS256" }))),
        ("T250 personal accounts", odd(json!({ "issuer": personal_accounts }))),
        ("issuer number", odd(json!({ "issuer": 5 }))),
        ("issuer without tenant", odd(json!({ "issuer": "https://login.example.com/v2.0" }))),
    ];
    for (id, key) in bad {
        let set = read(&issuer::jwks(&[key.clone(), RSA.jwk()])).expect("the good key counts");
        assert_eq!((set.len(), set.skipped()), (1, 1), "{id}");
        assert!(set.get("rsa-1").is_some() && set.get("odd").is_none(), "{id}");
        let alone = read(&issuer::jwks(&[key])).expect_err("a set without a key replaces none");
        assert!(alone.contains("none of the 1 keys in the document is usable"), "{id}: {alone}");
    }
}

#[test]
fn good_keys_come_in_many_forms() {
    let n = RSA.jwk()["n"].as_str().expect("has a modulus").to_owned();
    let with_zero = {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&n).expect("is base64url");
        issuer::encode(&[&[0], bytes.as_slice()].concat())
    };
    let good = [
        ("plain", odd(json!({}))),
        ("no use", odd(json!({ "use": null }))),
        ("key_ops", odd(json!({ "key_ops": ["verify", "wrapKey"] }))),
        ("alg", odd(json!({ "alg": "RS256" }))),
        ("4096 bits", odd(json!({ "n": modulus(4096) }))),
        ("zero in front", odd(json!({ "n": with_zero }))),
        ("its issuer", odd(json!({ "issuer": ISSUER }))),
        ("template", odd(json!({ "issuer": "https://login.example.com/{tenantid}/v2.0" }))),
        ("certificates", odd(json!({ "x5t": "t", "x5c": ["MIIB"], "x5u": "https://evil.example.com" }))),
        ("EC", odd_ec(json!({ "alg": "ES256" }))),
    ];
    for (id, key) in good {
        let set = read(&issuer::jwks(&[key])).expect(id);
        assert!(set.get("odd").is_some(), "{id}");
    }
    let plain = read(&issuer::jwks(&[odd(json!({}))])).expect("is usable");
    let zero = read(&issuer::jwks(&[odd(json!({ "n": with_zero }))])).expect("is usable");
    let print = |set: &KeySet| set.get("odd").map(|key| *key.fingerprint());
    assert_eq!(print(&plain), print(&zero), "it is the same key");
}

#[test]
fn of_two_keys_with_one_id_the_first_counts() {
    let mut second = OTHER_RSA.jwk();
    merge(&mut second, json!({ "kid": "rsa-1" }));
    let alone = read(&issuer::jwks(&[RSA.jwk()])).expect("is usable");
    // An unusable one does not take the place of a usable one.
    let both = read(&issuer::jwks(&[odd(json!({ "kid": "rsa-1", "use": "enc" })), RSA.jwk(), second]));
    let both = both.expect("is usable");
    assert_eq!((both.len(), both.skipped()), (1, 2));
    let print = |set: &KeySet| set.get("rsa-1").map(|key| *key.fingerprint());
    assert_eq!(print(&alone), print(&both));
}

#[test]
fn only_the_issuers_algorithms_count() {
    let rules = KeyRules { algorithms: vec![TokenAlgorithm::Rs256], ..rules() };
    let document = issuer::jwks(&[RSA.jwk(), P256.jwk()]).to_string();
    let set = KeySet::read(document.as_bytes(), &rules).expect("is usable");
    assert!(set.get("rsa-1").is_some() && set.get("p256-1").is_none());
}

#[test]
fn what_is_no_document_is_refused_whole() {
    let key = RSA.jwk().to_string();
    let good = format!(r#"{{"keys":[{key}]}}"#);
    let many = issuer::jwks(&vec![RSA.jwk(); 1_001]).to_string();
    let just_enough = issuer::jwks(&vec![RSA.jwk(); 1_000]).to_string();
    let hostile = [
        String::new(),
        "<html>Sign in</html>".to_owned(),
        "{}".to_owned(),
        r#"{"keys":[]}"#.to_owned(),
        r#"{"keys":{}}"#.to_owned(),
        r#"{"keys":null}"#.to_owned(),
        format!(r#"{{"keys":[],"keys":[{key}]}}"#),
        format!("{good}{good}"),
        good[..good.len() - 1].to_owned(),
        format!("{{\"keys\":{}", "[".repeat(100_000)),
        // A member that stands twice makes a key unusable.
        format!(r#"{{"keys":[{}]}}"#, key.replacen('{', r#"{"kid":"x","#, 1)),
        many,
    ];
    for document in hostile {
        let outcome = KeySet::read(document.as_bytes(), &rules());
        assert!(outcome.is_err(), "{}", document.chars().take(80).collect::<String>());
    }
    assert!(KeySet::read(b"{\"keys\":[\xff]}", &rules()).is_err());
    assert!(KeySet::read(just_enough.as_bytes(), &rules()).is_ok());
}

/// What the issuer's address answers, and what the status says then.
#[tokio::test]
async fn a_hostile_answer_is_a_failed_fetch() {
    let elsewhere = publish(&[RSA.jwk()]).await;
    let document = issuer::jwks(&[RSA.jwk()]).to_string();
    let padded = format!("{document}{}", " ".repeat(300 * 1024));
    let answers = [
        ("has status 302", ResponseTemplate::new(302).insert_header("Location", elsewhere.uri())),
        ("has status 308", ResponseTemplate::new(308).insert_header("Location", elsewhere.uri())),
        ("has status 500", ResponseTemplate::new(500).set_body_string(&*document)),
        ("has status 404", ResponseTemplate::new(404)),
        ("has status 204", ResponseTemplate::new(204)),
        ("larger than 262144 bytes", ResponseTemplate::new(200).set_body_string(padded)),
        ("not a JSON object", ResponseTemplate::new(200).set_body_string("<html>")),
    ];
    let server = MockServer::start().await;
    for (expected, answer) in answers {
        republish(&server, answer).await;
        let gate = Gate::open(vec![entra(&server.uri())], PATIENT).await;
        let status = gate.watched().status();
        let error = status.last_error.expect("the fetch failed");
        assert!(error.contains(expected), "{error}");
        assert_eq!((status.usable, status.keys, status.fetches), (false, 0, 1), "{expected}");
    }
    let requests = elsewhere.received_requests().await.expect("requests are recorded");
    assert!(requests.is_empty(), "no redirect is followed");
}

/// A server of one connection that answers with `head` and then writes `body` over and over until nobody listens.
fn drip(head: &'static str, body: &'static [u8]) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = format!("http://{}", listener.local_addr().expect("is bound"));
    let serving = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("somebody connects");
        let mut request = [0; 1024];
        let _read = connection.read(&mut request).expect("sends a request");
        let mut alive = connection.write_all(head.as_bytes()).is_ok();
        while alive && !body.is_empty() {
            alive = connection.write_all(body).is_ok();
        }
        // With nothing to write: until the other side hangs up.
        while alive && connection.read(&mut request).is_ok_and(|count| count > 0) {}
    });
    (address, serving)
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    static BLANKS: [u8; 65_536] = [b' '; 65_536];
    let (address, serving) = drip("HTTP/1.1 200 OK\r\n\r\n", &BLANKS);
    let gate = Gate::open(vec![entra(&address)], PATIENT).await;
    let error = gate.watched().status().last_error.expect("the fetch failed");
    assert!(error.contains("larger than"), "{error}");
    serving.join().expect("the server noticed that nobody listens any more");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up() {
    for head in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"] {
        let (address, serving) = drip(head, &[]);
        let timings = Timings { fetch_deadline: Duration::from_millis(50), ..PATIENT };
        let gate = Gate::open(vec![entra(&address)], timings).await;
        let error = gate.watched().status().last_error.expect("the fetch failed");
        assert!(error.contains("no whole answer within 0.05 s"), "{error}");
        drop(gate);
        // On a busy machine the fetch may have been given up before it connected; then this is whom the server serves.
        drop(std::net::TcpStream::connect(address.trim_start_matches("http://")));
        serving.join().expect("the server noticed that nobody listens any more");
    }
}
