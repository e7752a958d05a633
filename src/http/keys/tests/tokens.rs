//! Bearer tokens: group T of the input catalogue. Each forgery is refused for its own reason, not for another one by
//! accident; each table ends with what must be accepted.

use super::*;
use issuer::{forge, sign_hs256};

async fn gate() -> (MockServer, Gate) {
    let server = publish(&[RSA.jwk(), P256.jwk()]).await;
    let other = SigningKey::p256("other-1");
    // The second issuer publishes other keys at another path.
    Mock::given(wiremock::matchers::path("/other"))
        .respond_with(ResponseTemplate::new(200).set_body_json(issuer::jwks(&[other.jwk(), OTHER_RSA.jwk()])))
        .with_priority(1)
        .mount(&server)
        .await;
    let uri = server.uri();
    let gate = Gate::open(vec![entra(&uri), plain(&format!("{uri}/other"))], PATIENT).await;
    assert!(gate.jwks.status().iter().all(|issuer| issuer.usable));
    (server, gate)
}

fn refuse_all(gate: &Gate, cases: Vec<(&str, String, TokenFault)>) {
    for (id, token, expected) in cases {
        assert_eq!(fault(&gate.authenticator, &token), Some(expected), "{id}");
    }
}

#[tokio::test]
async fn the_form_of_a_token() {
    let (_server, gate) = gate().await;
    let good = RSA.token(&claims(json!({})));
    let (signed, signature) = good.rsplit_once('.').expect("has a signature");
    let (header_part, claims_part) = signed.split_once('.').expect("has two parts");
    let broken_header = TokenFault::NotAnObject { part: "header" };
    let broken_claims = TokenFault::NotAnObject { part: "claims" };
    let long = RSA.token(&claims(json!({ "filler": "x".repeat(9 * 1024) })));
    let spaced = format!(" {good}");
    refuse_all(
        &gate,
        vec![
            ("T199 no signature part", signed.to_owned(), TokenFault::NotThreeParts),
            ("T199 empty signature", format!("{signed}."), TokenFault::Signature),
            ("T213 JWE", format!("{header_part}.a.b.c.d"), TokenFault::NotThreeParts),
            ("T214 JWE zip bomb", format!("{header_part}..{}.c.d", "A".repeat(4096)), TokenFault::NotThreeParts),
            ("T215 four parts", format!("{good}.x"), TokenFault::NotThreeParts),
            ("T215 four parts, last empty", format!("{good}."), TokenFault::NotThreeParts),
            ("T216 two parts", format!("{header_part}.{claims_part}"), TokenFault::NotThreeParts),
            ("one part", header_part.to_owned(), TokenFault::NotThreeParts),
            ("only dots", "..".to_owned(), broken_header),
            ("T217 9 KiB", long, TokenFault::TooLong),
            ("T218 padded signature", format!("{good}=="), TokenFault::Signature),
            ("T218 padded header", format!("{header_part}=.{claims_part}.{signature}"), broken_header),
            ("T219 leading space", spaced, broken_header),
            ("T219 trailing space", format!("{good} "), TokenFault::Signature),
            ("header is an array", RSA.sign(r#"["RS256"]"#, "{}"), broken_header),
            ("header is no UTF-8", format!("_w.{claims_part}.{signature}"), broken_header),
            ("claims are an array", RSA.sign(&header(json!({})), "[1]"), broken_claims),
            ("claims are no JSON", RSA.sign(&header(json!({})), "{"), broken_claims),
            ("claims, then more", RSA.sign(&header(json!({})), "{}{}"), broken_claims),
            ("claims are half a surrogate", RSA.sign(&header(json!({})), r#"{"\ud800":1}"#), broken_claims),
            ("claims are deep", RSA.sign(&header(json!({})), &"[".repeat(4000)), broken_claims),
            ("T247 bit flipped", flip(&good), TokenFault::Signature),
            ("a signature of another token", swap_claims(&good), TokenFault::Signature),
        ],
    );
    assert!(bearer(&gate.authenticator, &good, NOW).is_ok());
}

/// The same token with one bit of its signature changed.
fn flip(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("has a signature");
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{other}{}", &signature[1..])
}

/// The same token, saying something else.
fn swap_claims(token: &str) -> String {
    let (header, rest) = token.split_once('.').expect("has three parts");
    let (_, signature) = rest.split_once('.').expect("has three parts");
    let changed = claims(json!({ "roles": ["records.write", "records.read"] })).to_string();
    format!("{header}.{}.{signature}", issuer::encode(changed.as_bytes()))
}

#[tokio::test]
async fn the_header_of_a_token() {
    let (server, gate) = gate().await;
    let good = claims(json!({})).to_string();
    let with = |changes: Value| RSA.sign(&header(changes), &good);
    let member = |member| TokenFault::HeaderMember { member };
    let attacker = format!("{}/attacker", server.uri());
    let fetches_before = server.received_requests().await.map_or(0, |requests| requests.len());
    let mut cases = vec![
        ("T200 HS256 with the public key", hs256(&good), TokenFault::Algorithm),
        ("T201 not on the list", P256.sign(&P256.header().to_string(), &good), TokenFault::Algorithm),
        ("T202 PS256", RSA.sign_ps256(&header(json!({ "alg": "PS256" })), &good), TokenFault::Algorithm),
        ("T202 PS256 that says RS256", RSA.sign_ps256(&header(json!({})), &good), TokenFault::Signature),
        ("alg missing", with(json!({ "alg": null })), TokenFault::Algorithm),
        ("alg array", with(json!({ "alg": ["RS256"] })), TokenFault::Algorithm),
        ("alg lower case", with(json!({ "alg": "rs256" })), TokenFault::Algorithm),
        ("T203 kid missing", with(json!({ "kid": null })), TokenFault::KeyId),
        ("T203 kid empty", with(json!({ "kid": "" })), TokenFault::KeyId),
        ("T203 kid number", with(json!({ "kid": 1 })), TokenFault::KeyId),
        ("T204 kid unknown", with(json!({ "kid": "rsa-9" })), TokenFault::UnknownKey),
        ("T205 path", with(json!({ "kid": "../../etc/passwd" })), TokenFault::UnknownKey),
        ("T205 SQL", with(json!({ "kid": "' OR 1=1--" })), TokenFault::UnknownKey),
        ("T205 long", with(json!({ "kid": "k".repeat(257) })), TokenFault::KeyId),
        ("T205 NUL", with(json!({ "kid": "rsa-1\u{0}" })), TokenFault::KeyId),
        ("T206 kid of another issuer", OTHER_RSA.sign(&OTHER_RSA.header().to_string(), &good), TokenFault::UnknownKey),
        ("T206 key of another issuer", OTHER_RSA.sign(&header(json!({})), &good), TokenFault::Signature),
        ("T207 jku", with(json!({ "jku": attacker })), member("jku")),
        ("T208 x5u", with(json!({ "x5u": attacker })), member("x5u")),
        ("T209 jwk", OTHER_RSA.sign(&header(json!({ "jwk": OTHER_RSA.jwk() })), &good), member("jwk")),
        ("T210 x5c", with(json!({ "x5c": ["MIIB"] })), member("x5c")),
        ("T211 crit", with(json!({ "crit": ["b64"] })), member("crit")),
        ("T211 crit empty", with(json!({ "crit": [] })), member("crit")),
        ("T212 b64", with(json!({ "b64": false })), member("b64")),
        ("T240 id+jwt", with(json!({ "typ": "id+jwt" })), TokenFault::Type),
        ("T240 logout+jwt", with(json!({ "typ": "logout+jwt" })), TokenFault::Type),
        ("T240 typ number", with(json!({ "typ": 7 })), TokenFault::Type),
    ];
    for none in ["none", "None", "nOnE"] {
        cases.push(("T198", forge(&header(json!({ "alg": none })), &good, b""), TokenFault::Algorithm));
    }
    let twice = TokenFault::NotAnObject { part: "header" };
    cases.push(("T246", RSA.sign(r#"{"alg":"none","alg":"RS256","kid":"rsa-1"}"#, &good), twice));
    cases.push(("T246 escaped", RSA.sign(r#"{"alg":"RS256","kid":"rsa-1","\u0061lg":"RS256"}"#, &good), twice));
    refuse_all(&gate, cases);

    for typ in [json!(null), json!("JWT"), json!("jwt"), json!("at+jwt"), json!("AT+JWT"), json!("application/at+jwt")]
    {
        let token = with(json!({ "typ": typ, "x5t": "thumbprint", "nonce": "n" }));
        assert!(bearer(&gate.authenticator, &token, NOW).is_ok(), "{typ}");
    }
    // T207, T208: the unknown key IDs above may have caused one fetch of the issuer's own document; nothing else did.
    let requests = server.received_requests().await.expect("requests are recorded");
    assert!(requests.iter().all(|request| request.url.path() != "/attacker"));
    assert!(requests.len() <= fetches_before + 1);
}

fn hs256(claims: &str) -> String {
    sign_hs256(&RSA.public_der(), &header(json!({ "alg": "HS256" })), claims)
}

#[tokio::test]
async fn whose_a_token_is_and_for_whom() {
    let (_server, gate) = gate().await;
    let with = |changes: Value| RSA.token(&claims(changes));
    let claim = |claim| TokenFault::Claim { claim };
    let raw = |text: &str| {
        let good = claims(json!({ "iss": null, "aud": null })).to_string();
        RSA.sign(&header(json!({})), &good.replacen('{', &format!("{{{text},"), 1))
    };
    let foreign = "https://login.example.com/99999999-2222-3333-4444-555555555555/v2.0";
    let twice = TokenFault::NotAnObject { part: "claims" };
    refuse_all(
        &gate,
        vec![
            ("T220 iss missing", with(json!({ "iss": null })), claim("iss")),
            ("T221 iss number", with(json!({ "iss": 7 })), claim("iss")),
            ("T222 iss array", with(json!({ "iss": ["https://evil.example.com", ISSUER] })), claim("iss")),
            ("T222 iss array of one", with(json!({ "iss": [ISSUER] })), claim("iss")),
            ("T223 iss with slash", with(json!({ "iss": format!("{ISSUER}/") })), TokenFault::Issuer),
            ("T223 iss upper case", with(json!({ "iss": ISSUER.to_uppercase() })), TokenFault::Issuer),
            ("T224 iss of another tenant", with(json!({ "iss": foreign })), TokenFault::Issuer),
            ("tid of another tenant", with(json!({ "tid": TENANT.replace('1', "9") })), TokenFault::Tenant),
            ("tid missing", with(json!({ "tid": null })), claim("tid")),
            ("T225 tid no GUID", with(json!({ "tid": "contoso" })), TokenFault::Tenant),
            ("T225 tid number", with(json!({ "tid": 1 })), claim("tid")),
            ("T226 version 1", with(json!({ "ver": "1.0" })), TokenFault::Version),
            ("T226 version missing", with(json!({ "ver": null })), claim("ver")),
            ("T226 version 1 issuer", with(json!({ "iss": "https://sts.windows.net/t/" })), TokenFault::Issuer),
            ("T227 aud missing", with(json!({ "aud": null })), claim("aud")),
            ("T228 aud number", with(json!({ "aud": 5 })), claim("aud")),
            ("T228 aud object", with(json!({ "aud": { AUDIENCE: true } })), claim("aud")),
            ("T228 aud array of odd", with(json!({ "aud": [AUDIENCE, 5] })), claim("aud")),
            ("aud empty array", with(json!({ "aud": [] })), TokenFault::Audience),
            ("T229 aud of Graph", with(json!({ "aud": "https://graph.microsoft.com" })), TokenFault::Audience),
            ("aud with slash", with(json!({ "aud": format!("{AUDIENCE}/") })), TokenFault::Audience),
            ("T245 aud twice", raw(&format!(r#""iss":"{ISSUER}","aud":"x","aud":"{AUDIENCE}""#)), twice),
            ("T245 iss twice", raw(&format!(r#""iss":"x","iss":"{ISSUER}","aud":"{AUDIENCE}""#)), twice),
            ("iss null", raw(&format!(r#""iss":null,"aud":"{AUDIENCE}""#)), claim("iss")),
        ],
    );
    for audience in [json!(AUDIENCE), json!(["x", AUDIENCE]), json!("6b1c7a52-0c0f-4f0a-9a52-3d6f2f3f9d11")] {
        assert!(bearer(&gate.authenticator, &with(json!({ "aud": audience })), NOW).is_ok(), "T230 {audience}");
    }
}

#[tokio::test]
async fn when_a_token_is_valid() {
    let (_server, gate) = gate().await;
    let with = |changes: Value| RSA.token(&claims(changes));
    let claim = |claim| TokenFault::Claim { claim };
    let earlier = |exp: i64| with(json!({ "exp": exp, "nbf": NOW - 9000, "iat": NOW - 9000 }));
    let day = 24 * 60 * 60;
    refuse_all(
        &gate,
        vec![
            ("T231 exp missing", with(json!({ "exp": null })), claim("exp")),
            ("T232 exp string", with(json!({ "exp": "1800003600" })), claim("exp")),
            ("T232 exp float", with(json!({ "exp": 1_800_003_600.5 })), claim("exp")),
            ("T233 exp negative", with(json!({ "exp": -5 })), TokenFault::Expired),
            ("T233 exp smallest", with(json!({ "exp": i64::MIN })), TokenFault::Expired),
            ("exp beyond i64", with(json!({ "exp": u64::MAX })), claim("exp")),
            ("T234 exp 31 s ago", earlier(NOW - 31), TokenFault::Expired),
            ("T234 exp 30 s ago", earlier(NOW - 30), TokenFault::Expired),
            ("T235 exp in 2999", with(json!({ "exp": 32_472_144_000_i64 })), TokenFault::Lifetime),
            ("T235 exp largest", with(json!({ "exp": i64::MAX, "iat": i64::MIN })), TokenFault::Lifetime),
            ("T235 a second too long", with(json!({ "exp": NOW + day + 1 })), TokenFault::Lifetime),
            ("ends before it was made", with(json!({ "exp": NOW + 10, "iat": NOW + 20 })), TokenFault::Lifetime),
            ("nbf missing", with(json!({ "nbf": null })), claim("nbf")),
            ("T236 nbf future", with(json!({ "nbf": NOW + 31 })), TokenFault::NotYetValid),
            ("T236 nbf 2099", with(json!({ "nbf": 4_070_908_800_i64 })), TokenFault::NotYetValid),
            ("T237 nbf string", with(json!({ "nbf": "0" })), claim("nbf")),
            ("iat missing", with(json!({ "iat": null })), claim("iat")),
            ("T238 iat future", with(json!({ "iat": NOW + 31 })), TokenFault::IssuedInFuture),
        ],
    );
    for (id, token) in [
        ("29 s ago", earlier(NOW - 29)),
        ("nbf in 30 s", with(json!({ "nbf": NOW + 30 }))),
        ("iat in 30 s", with(json!({ "iat": NOW + 30 }))),
        ("a whole day", with(json!({ "exp": NOW + day }))),
    ] {
        assert!(bearer(&gate.authenticator, &token, NOW).is_ok(), "{id}");
    }
    // C1: no clock makes it panic.
    for now in [i64::MIN, -1, 0, 29, i64::MAX] {
        assert!(bearer(&gate.authenticator, &with(json!({ "jti": now })), now).is_err(), "clock at {now}");
    }
}

#[tokio::test]
async fn what_a_token_allows() {
    let (_server, gate) = gate().await;
    let with = |changes: Value| RSA.token(&claims(changes));
    let claim = |claim| TokenFault::Claim { claim };
    refuse_all(
        &gate,
        vec![
            ("T239 ID token", with(json!({ "nonce": "n", "roles": null })), TokenFault::IdToken),
            ("T239 ID token with roles", with(json!({ "nonce": "n" })), TokenFault::IdToken),
            ("T239 at_hash", with(json!({ "at_hash": "h", "scp": "records.write" })), TokenFault::IdToken),
            ("T239 c_hash", with(json!({ "c_hash": "h", "scp": "records.write" })), TokenFault::IdToken),
            ("T241 no roles, no scp", with(json!({ "roles": null })), TokenFault::NoPermission),
            ("T241 empty roles", with(json!({ "roles": [], "scp": "" })), TokenFault::NoPermission),
            ("T242 scp array", with(json!({ "roles": null, "scp": ["records.write"] })), claim("scp")),
            ("roles string", with(json!({ "roles": "records.write" })), claim("roles")),
            ("roles of odd types", with(json!({ "roles": ["records.write", 1] })), claim("roles")),
            ("T243 longer name", with(json!({ "roles": ["record.write.all.not"] })), TokenFault::NoPermission),
            ("T243 other case", with(json!({ "roles": ["Records.Write"] })), TokenFault::NoPermission),
            (
                "a permission that the issuer may not give",
                with(json!({ "roles": ["admin"] })),
                TokenFault::NoPermission,
            ),
            ("T244 idtyp user", with(json!({ "idtyp": "user" })), TokenFault::NotAnApplication),
            ("T244 idtyp missing", with(json!({ "idtyp": null })), TokenFault::NotAnApplication),
            ("T244 idtyp array", with(json!({ "idtyp": ["app"] })), TokenFault::NotAnApplication),
            ("azp unknown", with(json!({ "azp": "client-2" })), TokenFault::Client),
            ("azp missing", with(json!({ "azp": null })), TokenFault::Client),
            ("azp number", with(json!({ "azp": 1 })), claim("azp")),
            ("appid disagrees", with(json!({ "appid": "client-2" })), TokenFault::Client),
        ],
    );
    let token = with(json!({ "roles": ["records.write", "admin", "x"], "scp": "records.read other", "nonce": "n" }));
    let caller = bearer(&gate.authenticator, &token, NOW).expect("is accepted");
    assert_eq!(caller.permissions, BTreeSet::from([Permission::RecordsWrite, Permission::RecordsRead]));
    assert_eq!(&*caller.credential, "entra/client-1");
    let version_1 = with(json!({ "azp": null, "appid": "client-1" }));
    assert!(bearer(&gate.authenticator, &version_1, NOW).is_ok());
}

/// T248, and that an issuer which asks for less gets less, but not nothing.
#[tokio::test]
async fn an_issuer_on_p256_without_tenant_and_clients() {
    let server = publish(&[P256.jwk()]).await;
    let gate = Gate::open(vec![plain(&server.uri())], PATIENT).await;
    let plain_claims = |changes: Value| {
        let mut claims = json!({
            "iss": "https://plain.example.com", "aud": AUDIENCE, "exp": NOW + 60, "nbf": NOW, "iat": NOW,
            "scp": "records.read",
        });
        merge(&mut claims, changes);
        claims
    };
    let good = P256.token(&plain_claims(json!({})));
    let caller = bearer(&gate.authenticator, &good, NOW).expect("is accepted");
    assert_eq!(&*caller.credential, "plain");
    let signed = (P256.header().to_string(), plain_claims(json!({})).to_string());
    let mut cases = vec![("T247 flipped", flip(&good), TokenFault::Signature)];
    for length in [0, 1, 63, 64, 65, 72] {
        cases.push(("T248 r = s = 0", forge(&signed.0, &signed.1, &vec![0; length]), TokenFault::Signature));
    }
    let says_rsa = header(json!({ "kid": "p256-1" }));
    cases.push(("RS256 with a P-256 key", P256.sign(&says_rsa, &signed.1), TokenFault::Algorithm));
    refuse_all(&gate, cases);
    let named = P256.token(&plain_claims(json!({ "azp": "a\u{1b}[2J\nb" })));
    let caller = bearer(&gate.authenticator, &named, NOW).expect("is accepted");
    assert_eq!(&*caller.credential, "plain/a\u{fffd}[2J\u{fffd}b");
}

/// K263 and T251, and what the cache must not change.
#[tokio::test]
async fn a_token_is_accepted_again_until_it_ends() {
    let (_server, gate) = gate().await;
    let token = RSA.token(&claims(json!({})));
    let first = bearer(&gate.authenticator, &token, NOW).expect("is accepted");
    let second = bearer(&gate.authenticator, &token, NOW + 3599).expect("T251: is accepted again");
    assert!(Arc::ptr_eq(&first, &second), "the second time from the cache");
    for scheme in ["bearer", "BEARER"] {
        let authorization = format!("{scheme} {token}");
        let presented = Presented { api_keys: &[], authorization: &[authorization.as_bytes()] };
        assert!(gate.authenticator.authenticate(presented, at(NOW)).is_ok(), "K263 {scheme}");
    }
    assert!(bearer(&gate.authenticator, &token, NOW + 3629).is_ok(), "within the leeway");
    for (now, expected) in [(NOW + 3630, TokenFault::Expired), (NOW - 31, TokenFault::NotYetValid)] {
        let refused = bearer(&gate.authenticator, &token, now);
        let cause = Cause::Token { issuer: Some("entra".into()), fault: expected };
        assert_eq!(refused, Err(cause.into()), "the cache does not outlive the token");
    }
    assert_eq!(fault(&gate.authenticator, &flip(&token)), Some(TokenFault::Signature));
}
