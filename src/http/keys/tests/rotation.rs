//! Keys that come, go and stay away: J1 to J4 of the fault matrix, T204, T249, and what a reload keeps.

use super::*;

/// Fetches so often that a test need not wait.
fn restless() -> Timings {
    let pause = Duration::from_millis(5);
    Timings { refresh: pause, first_pause: pause, longest_pause: pause, ..PATIENT }
}

fn good_token() -> String {
    RSA.token(&claims(json!({})))
}

fn unavailable() -> Result<Arc<Caller>, AuthError> {
    Err(AuthError::KeysUnavailable { issuer: "entra".into() })
}

/// Waits, fetch by fetch, until `reached`.
async fn until(gate: &Gate, reached: impl Fn(&JwksStatus) -> bool) {
    let waiting = async {
        loop {
            let status = gate.watched().status();
            if reached(&status) {
                return;
            }
            gate.fetched(status.fetches + 1).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the state is reached");
}

/// Waits until a fetch that began after this call has ended.
async fn one_more_whole_fetch(gate: &Gate) {
    let fetches = gate.watched().status().fetches;
    gate.fetched(fetches + 2).await;
}

async fn fetches_at(server: &MockServer) -> usize {
    server.received_requests().await.expect("requests are recorded").len()
}

/// J1: nothing answers at the start; tokens cannot be judged, and once somebody answers they can.
#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_is_tried_again_until_it_is_up() {
    let server = publish(&[]).await;
    republish(&server, ResponseTemplate::new(503)).await;
    let gate = Gate::open(vec![entra(&server.uri())], restless()).await;
    gate.fetched(3).await;
    assert_eq!(bearer(&gate.authenticator, &good_token(), NOW), unavailable());
    // What is wrong without any key is wrong now.
    assert_eq!(fault(&gate.authenticator, &RSA.token(&claims(json!({ "aud": "x" })))), Some(TokenFault::Audience));
    republish(&server, ResponseTemplate::new(200).set_body_json(issuer::jwks(&[RSA.jwk()]))).await;
    until(&gate, |status| status.usable).await;
    assert!(bearer(&gate.authenticator, &good_token(), NOW).is_ok());
    let status = &gate.jwks.status()[0];
    assert!(status.last_error.is_none() && status.last_success.is_some() && status.keys == 1);
}

/// J1: a port where nobody listens, and API keys all the while.
#[tokio::test]
async fn api_keys_need_no_issuer() {
    install_tls_provider();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = format!("http://{}", free.local_addr().expect("is bound"));
    drop(free);
    let key = ApiKeySettings {
        name: "flow".into(),
        sha256: hash("sg_good"),
        permissions: BTreeSet::from([Permission::RecordsWrite]),
        organizations: OrganizationScope::All,
        expires: None,
    };
    let credentials = Arc::new(CredentialSettings {
        api_keys: vec![key],
        issuers: vec![entra(&address)],
        ..CredentialSettings::default()
    });
    let jwks = JwksService::new(Handle::current());
    let door = Authenticator::new(credentials, Arc::clone(&jwks));
    let with_key = Presented { api_keys: &[b"sg_good"], authorization: &[] };
    assert!(door.authenticate(with_key, at(NOW)).is_ok());
    assert_eq!(bearer(&door, &good_token(), NOW), unavailable(), "before the first answer");
    jwks.tried().await;
    assert!(jwks.status()[0].last_error.is_some());
    assert_eq!(bearer(&door, &good_token(), NOW), unavailable(), "after a failure");
    assert!(door.authenticate(with_key, at(NOW)).is_ok());
}

/// J2: an issuer that goes down later; its last good keys are believed for 24 hours.
#[tokio::test]
async fn the_last_good_keys_are_kept_for_a_day() {
    let server = publish(&[RSA.jwk()]).await;
    let gate = Gate::open(vec![entra(&server.uri())], restless()).await;
    for outage in [ResponseTemplate::new(500), ResponseTemplate::new(200).set_body_json(issuer::jwks(&[]))] {
        republish(&server, outage).await;
        until(&gate, |status| status.last_error.is_some()).await;
        gate.fetched(gate.watched().status().fetches + 3).await;
        let status = gate.watched().status();
        assert!(status.usable && status.keys == 1 && status.last_error.is_some());
        let fresh = RSA.token(&claims(json!({ "jti": status.fetches })));
        assert!(bearer(&gate.authenticator, &fresh, NOW).is_ok());
    }
    let day = Duration::from_secs(24 * 60 * 60);
    let age = gate.watched().status().age.expect("was fetched");
    let fetched_at = Instant::now().checked_sub(age).expect("the machine runs longer than the test");
    assert!(gate.watched().usable_at(fetched_at + day - Duration::from_secs(60)).is_some());
    assert!(gate.watched().usable_at(fetched_at + day + Duration::from_secs(60)).is_none());
}

#[tokio::test]
async fn keys_that_are_too_old_judge_nothing() {
    let server = publish(&[RSA.jwk()]).await;
    let timings = Timings { max_age: Duration::ZERO, ..PATIENT };
    let gate = Gate::open(vec![entra(&server.uri())], timings).await;
    assert_eq!(bearer(&gate.authenticator, &good_token(), NOW), unavailable());
    assert_eq!((gate.jwks.status()[0].usable, gate.jwks.status()[0].keys), (false, 1));
}

/// J3, T249: after the next fetch a withdrawn key is refused, tokens that were accepted before included.
#[tokio::test]
async fn a_withdrawn_key_is_refused_after_the_next_fetch() {
    let server = publish(&[RSA.jwk()]).await;
    let gate = Gate::open(vec![entra(&server.uri())], restless()).await;
    let (old, new) = (good_token(), OTHER_RSA.token(&claims(json!({}))));
    assert!(bearer(&gate.authenticator, &old, NOW).is_ok());
    assert_eq!(fault(&gate.authenticator, &new), Some(TokenFault::UnknownKey));

    republish(&server, ResponseTemplate::new(200).set_body_json(issuer::jwks(&[RSA.jwk(), OTHER_RSA.jwk()]))).await;
    one_more_whole_fetch(&gate).await;
    assert!(bearer(&gate.authenticator, &old, NOW).is_ok(), "both work while both are published");
    assert!(bearer(&gate.authenticator, &new, NOW).is_ok());

    republish(&server, ResponseTemplate::new(200).set_body_json(issuer::jwks(&[OTHER_RSA.jwk()]))).await;
    one_more_whole_fetch(&gate).await;
    assert_eq!(fault(&gate.authenticator, &old), Some(TokenFault::UnknownKey));
    assert!(bearer(&gate.authenticator, &new, NOW).is_ok());

    // Another key under the ID of one whose token is in the cache.
    let mut impostor = RSA.jwk();
    merge(&mut impostor, json!({ "kid": "rsa-2" }));
    republish(&server, ResponseTemplate::new(200).set_body_json(issuer::jwks(&[impostor]))).await;
    one_more_whole_fetch(&gate).await;
    assert_eq!(fault(&gate.authenticator, &new), Some(TokenFault::Signature));
}

/// T204: an unknown key is refused, and fetched out of turn.
#[tokio::test]
async fn an_unknown_key_is_looked_for() {
    let server = publish(&[RSA.jwk()]).await;
    let gate = Gate::open(vec![entra(&server.uri())], PATIENT).await;
    let new = OTHER_RSA.token(&claims(json!({})));
    republish(&server, ResponseTemplate::new(200).set_body_json(issuer::jwks(&[OTHER_RSA.jwk()]))).await;
    assert_eq!(fault(&gate.authenticator, &new), Some(TokenFault::UnknownKey));
    gate.fetched(2).await;
    assert!(bearer(&gate.authenticator, &new, NOW).is_ok());
}

/// One question, one fetch: what was asked is forgotten once somebody goes to look.
#[tokio::test]
async fn an_unknown_key_is_looked_for_once() {
    let server = publish(&[RSA.jwk()]).await;
    let gate = Gate::open(vec![entra(&server.uri())], Timings { unknown_kid_pause: Duration::ZERO, ..PATIENT }).await;
    let unknown = OTHER_RSA.token(&claims(json!({})));
    for fetches in 2..5 {
        assert_eq!(fault(&gate.authenticator, &unknown), Some(TokenFault::UnknownKey));
        gate.fetched(fetches).await;
        other_traffic().await;
        assert_eq!(gate.watched().status().fetches, fetches);
    }
}

/// Real traffic on this one thread: whatever a background task wants to do, it can do meanwhile.
async fn other_traffic() {
    let elsewhere = publish(&[]).await;
    let probe = Gate::open(vec![entra(&elsewhere.uri())], PATIENT).await;
    assert_eq!(probe.watched().status().fetches, 1);
}

/// J4: a flood of unknown keys causes one fetch, and whoever has a good token notices nothing.
#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_fetch() {
    let server = publish(&[RSA.jwk()]).await;
    let gate = Gate::open(vec![entra(&server.uri())], PATIENT).await;
    let good = claims(json!({})).to_string();
    let flood = |round: u32| {
        for n in 0..1_000 {
            let forged = issuer::forge(&header(json!({ "kid": format!("unknown-{round}-{n}") })), &good, &[0; 256]);
            assert_eq!(fault(&gate.authenticator, &forged), Some(TokenFault::UnknownKey));
        }
    };
    flood(0);
    gate.fetched(2).await;
    for round in 1..4 {
        flood(round);
        assert!(bearer(&gate.authenticator, &good_token(), NOW).is_ok());
        other_traffic().await;
    }
    assert_eq!(fetches_at(&server).await, 2, "one at the start, one because of the flood");
}

/// An issuer that answers nothing useful cannot be made to be asked more often than it would be anyway.
#[tokio::test]
async fn tokens_of_an_issuer_without_keys_ask_for_nothing() {
    let server = publish(&[]).await;
    let gate = Gate::open(vec![entra(&server.uri())], Timings { first_pause: HOUR, ..long_pauses() }).await;
    for n in 0..100 {
        let token = RSA.token(&claims(json!({ "jti": n })));
        assert_eq!(bearer(&gate.authenticator, &token, NOW), unavailable());
    }
    other_traffic().await;
    assert_eq!(fetches_at(&server).await, 1);
}

const HOUR: Duration = Duration::from_secs(60 * 60);

fn long_pauses() -> Timings {
    Timings { longest_pause: HOUR, ..PATIENT }
}

/// A new configuration finds the keys that are there, and forgets the verdicts of the old one.
#[tokio::test]
async fn a_reload_keeps_the_keys_of_issuers_that_stay() {
    let server = publish(&[RSA.jwk()]).await;
    let Gate { authenticator: old, jwks } = Gate::open(vec![entra(&server.uri())], PATIENT).await;
    let token = good_token();
    assert!(bearer(&old, &token, NOW).is_ok());

    let changed = IssuerSettings { permissions: BTreeSet::from([Permission::Admin]), ..entra(&server.uri()) };
    let credentials =
        Arc::new(CredentialSettings { api_keys: vec![], issuers: vec![changed], ..CredentialSettings::default() });
    let new = Authenticator::new(credentials, Arc::clone(&jwks));
    drop(old);
    assert_eq!(fault(&new, &token), Some(TokenFault::NoPermission));
    let admin = RSA.token(&claims(json!({ "roles": ["admin"] })));
    assert!(bearer(&new, &admin, NOW).is_ok(), "without another fetch");
    assert_eq!((fetches_at(&server).await, jwks.status().len()), (1, 1));

    // Another address is another source of keys.
    let moved = entra(&format!("{}/moved", server.uri()));
    let credentials =
        Arc::new(CredentialSettings { api_keys: vec![], issuers: vec![moved], ..CredentialSettings::default() });
    let moved = Authenticator::new(credentials, Arc::clone(&jwks));
    assert_eq!(bearer(&moved, &token, NOW), unavailable());
    drop(new);
    jwks.tried().await;
    assert!(bearer(&moved, &token, NOW).is_ok());
    assert_eq!((fetches_at(&server).await, jwks.status().len()), (2, 1));

    drop(moved);
    assert!(jwks.status().is_empty(), "nobody is watched for nobody");
}
