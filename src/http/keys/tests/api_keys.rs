//! API keys and the two headers together: group K of the input catalogue.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn key(name: &str, text: &str, expires: Option<i64>) -> ApiKeySettings {
    ApiKeySettings {
        name: name.into(),
        sha256: hash(text),
        permissions: BTreeSet::from([Permission::RecordsWrite]),
        organizations: OrganizationScope::All,
        expires: expires.map(at),
    }
}

/// No issuers, so nothing is ever fetched and no runtime is entered.
fn authenticator(api_keys: Vec<ApiKeySettings>) -> (tokio::runtime::Runtime, Authenticator) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime is made");
    let jwks = JwksService::new(runtime.handle().clone());
    let authenticator = Authenticator::new(
        Arc::new(CredentialSettings { api_keys, issuers: vec![], ..CredentialSettings::default() }),
        jwks,
    );
    (runtime, authenticator)
}

fn present(authenticator: &Authenticator, keys: &[&[u8]], authorization: &[&[u8]]) -> Result<String, AuthError> {
    let caller = authenticator.authenticate(Presented { api_keys: keys, authorization }, at(NOW))?;
    Ok(caller.credential.to_string())
}

fn unauthorized(cause: Cause) -> Result<String, AuthError> {
    Err(AuthError::Unauthorized { cause })
}

#[test]
fn keys_that_are_not_right_are_refused_with_their_cause() {
    let good = generate().expect("there is randomness").text;
    let (_runtime, door) = authenticator(vec![key("flow", &good, None), key("old", "sg_old", Some(NOW))]);
    let last = good.len() - 1;
    let almost = format!("{}{}", &good[..last], if good.ends_with('A') { 'B' } else { 'A' });
    let cases: Vec<(&str, Vec<u8>, Cause)> = vec![
        ("K253 empty", vec![], Cause::ApiKeyMalformed),
        ("K254 wrong, right length", almost.into_bytes(), Cause::ApiKeyUnknown),
        ("K255 newline", format!("{good}\n").into_bytes(), Cause::ApiKeyMalformed),
        ("K255 space", format!("{good} ").into_bytes(), Cause::ApiKeyMalformed),
        ("K255 leading space", format!(" {good}").into_bytes(), Cause::ApiKeyMalformed),
        ("K256 expired", b"sg_old".to_vec(), Cause::ApiKeyExpired { name: "old".into() }),
        ("K265 non-ASCII", "sg_ключ".into(), Cause::ApiKeyMalformed),
        ("K265 not even UTF-8", vec![b's', 0xff, 0xfe], Cause::ApiKeyMalformed),
        ("K265 NUL", vec![b's', 0], Cause::ApiKeyMalformed),
        ("K266 10 KB", vec![b'a'; 10_240], Cause::ApiKeyMalformed),
        ("K266 one too long", vec![b'a'; 257], Cause::ApiKeyMalformed),
        ("K266 longest", vec![b'a'; 256], Cause::ApiKeyUnknown),
        ("K267 SQL", b"'OR/**/1=1--".to_vec(), Cause::ApiKeyUnknown),
        ("K267 format string", b"%s%n".to_vec(), Cause::ApiKeyUnknown),
        ("the hash itself", hex(&hash(&good)).into_bytes(), Cause::ApiKeyUnknown),
        ("other case", good.to_ascii_uppercase().into_bytes(), Cause::ApiKeyUnknown),
    ];
    for (id, text, cause) in cases {
        assert_eq!(present(&door, &[&text], &[]), unauthorized(cause), "{id}");
    }
    assert_eq!(present(&door, &[good.as_bytes()], &[]), Ok("flow".to_owned()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// K252, K259 to K264: which headers there are.
#[test]
fn exactly_one_credential_is_presented() {
    let (_runtime, door) = authenticator(vec![key("flow", "sg_good", None)]);
    let good: &[u8] = b"sg_good";
    assert_eq!(present(&door, &[], &[]), unauthorized(Cause::Missing), "K252");
    type Values<'a> = &'a [&'a [u8]];
    let ambiguous: [(&str, Values<'_>, Values<'_>); 6] = [
        ("K259 two keys", &[good, b"sg_other"], &[]),
        ("K259 the same key twice", &[good, good], &[]),
        ("K260 key and bearer", &[good], &[b"Bearer x.y.z"]),
        ("K260 key and something", &[good], &[b"Basic eDp5"]),
        ("K261 two Authorization", &[], &[b"Bearer x.y.z", b"Bearer x.y.z"]),
        ("all twice", &[good, good], &[b"Bearer x.y.z", b"Bearer x.y.z"]),
    ];
    for (id, keys, authorization) in ambiguous {
        assert!(matches!(present(&door, keys, authorization), Err(AuthError::Ambiguous { .. })), "{id}");
    }
    let not_bearer: [(&str, &[u8]); 9] = [
        ("K262 Basic", b"Basic eDp5"),
        ("K262 our key as Basic", b"Basic sg_good"),
        ("K264 no token", b"Bearer"),
        ("K264 blank, no token", b"Bearer "),
        ("empty", b""),
        ("only a blank", b" "),
        ("not ASCII", b"Bearer\xff x"),
        ("another scheme", b"BearerX abc"),
        ("a key without scheme", b"sg_good"),
    ];
    for (id, authorization) in not_bearer {
        assert_eq!(present(&door, &[], &[authorization]), unauthorized(Cause::NotBearer), "{id}");
    }
}

/// K256, K257: a key ends at its moment; while two overlap both work, also under one hash.
#[test]
fn keys_overlap_during_a_rotation() {
    let keys = vec![
        key("ended", "sg_twice", Some(NOW - 1)),
        key("old", "sg_old", Some(NOW + 1)),
        key("new", "sg_new", None),
        key("again", "sg_twice", None),
    ];
    let (_runtime, door) = authenticator(keys);
    assert_eq!(present(&door, &[b"sg_old"], &[]), Ok("old".to_owned()), "K257");
    assert_eq!(present(&door, &[b"sg_new"], &[]), Ok("new".to_owned()));
    assert_eq!(present(&door, &[b"sg_twice"], &[]), Ok("again".to_owned()));
    let later = door.authenticate(Presented { api_keys: &[b"sg_old"], authorization: &[] }, at(NOW + 1));
    assert_eq!(later, Err(Cause::ApiKeyExpired { name: "old".into() }.into()), "K256");
}

#[test]
fn generated_keys_have_the_promised_form_and_never_repeat() {
    let made: Vec<NewApiKey> = (0..64).map(|_| generate().expect("there is randomness")).collect();
    let distinct: BTreeSet<&str> = made.iter().map(|key| key.text.as_str()).collect();
    assert_eq!(distinct.len(), made.len());
    for key in &made {
        let random = key.text.strip_prefix("sg_").expect("has the prefix");
        assert!(random.len() == 43 && random.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(key.sha256, hash(&key.text));
        assert!(!format!("{key:?}").contains(random));
    }
}

proptest! {
    /// Whatever the two headers hold, it is an answer and never a panic.
    #[test]
    fn noise_is_never_a_caller(text in vec(any::<u8>(), 0..300), token in vec(any::<u8>(), 0..300), form in 0..3) {
        static DOOR: LazyLock<(tokio::runtime::Runtime, Authenticator)> =
            LazyLock::new(|| authenticator(vec![key("flow", "sg_good", None)]));
        let parts = || token.split(|&byte| byte == 7).map(issuer::encode).collect::<Vec<_>>().join(".");
        let authorization = match form {
            0 => token.clone(),
            1 => [b"Bearer ", token.as_slice()].concat(),
            _ => format!("Bearer {}", parts()).into_bytes(),
        };
        prop_assert!(present(&DOOR.1, &[&text], &[]).is_err());
        prop_assert!(present(&DOOR.1, &[], &[&authorization]).is_err());
    }
}
