//! Who the gateway is to the servers: TLS, certificates, passwords, tokens, keys, and what is said where they are wrong.

use std::path::Path;

use serde_json::json;

use super::consumer::Consumer;
use super::{MADE, program, publishing, publishing_to, why_it_waits};
use crate::support::gateway::{Setup, TestGateway, write_configuration};
use crate::support::nats::NatsServer;
use crate::support::records::nth_incident;
use crate::support::tls::{self, authority};

/// A user's NKey and its seed, as NATS' own documentation shows them.
const NKEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
const NKEY_SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

/// A gateway on this configuration whose data directory has a secret.
fn with_secret(setup: &Setup, name: &str, secret: &str) -> TestGateway {
    let folder = tempfile::tempdir().expect("a folder");
    write_configuration(folder.path(), setup);
    std::fs::create_dir(folder.path().join("data")).expect("a folder");
    tls::replace(&folder.path().join("data").join(name), secret);
    TestGateway::start_on(folder)
}

fn delivers(gateway: &TestGateway) {
    let id = gateway.post(nth_incident(1)).text("receiptId");
    gateway.wait_for_state(&id, "delivered");
}

#[test]
fn each_way_to_log_in_works_and_a_wrong_secret_is_told_without_it() {
    let Some(program) = program() else { return };
    for (server, lines, [right, wrong]) in [
        (
            "authorization { user: gate, password: \"s3cret-password\" }".to_owned(),
            "user = \"gate\"\npassword_file = \"secret\"",
            ["s3cret-password\n", "wr0ng-password"],
        ),
        (
            "authorization { token: \"s3cret-token\" }".to_owned(),
            "token_file = \"secret\"",
            ["s3cret-token", "wr0ng-token"],
        ),
        (
            format!("authorization {{ users: [{{ nkey: {NKEY} }}] }}"),
            "nkey_seed_file = \"secret\"",
            [NKEY_SEED, "SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY"],
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let server = NatsServer::start(&program, folder.path(), &server);
        let setup = publishing_to(std::slice::from_ref(&server), &format!("{MADE}\n{lines}"));
        let gateway = with_secret(&setup, "secret", wrong);
        let id = gateway.post(nth_incident(2)).text("receiptId");
        let why = why_it_waits(&gateway, &id);
        assert!(why.contains("uthorization"), "{why}");
        assert!(!why.contains(wrong), "a secret is never shown: {why}");
        // The right secret counts as soon as it is there, and what waited is delivered.
        tls::replace(&gateway.folder().join("data/secret"), right);
        gateway.wait_for_state(&id, "delivered");
        delivers(&gateway);
    }
}

#[test]
fn a_user_who_may_not_publish_is_told_what_the_server_says() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let users = "authorization { users: [\n\
         { user: gate, password: \"pw\", permissions: { publish: { deny: [\"streamgate.>\"] } } },\n\
         { user: root, password: \"pw\" } ] }";
    let server = NatsServer::start(&program, folder.path(), users);
    let mut root = Consumer::connect_as(server.address, json!({"user": "root", "pass": "pw"}));
    root.make_stream("RECORDS", json!({"subjects": ["streamgate.>"]}));
    let setup =
        publishing_to(std::slice::from_ref(&server), "replicas = 1\nuser = \"gate\"\npassword_file = \"secret\"");
    let gateway = with_secret(&setup, "secret", "pw");
    let id = gateway.post(nth_incident(1)).text("receiptId");
    let why = why_it_waits(&gateway, &id).to_ascii_lowercase();
    assert!(why.contains("the server said") && why.contains("permissions violation"), "{why}");
}

#[test]
fn the_permissions_that_the_manual_names_are_enough() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let users = "authorization { users: [ { user: gate, password: \"pw\", permissions: {\n\
         publish: [\"streamgate.>\", \"$JS.API.STREAM.INFO.RECORDS\", \"$JS.API.STREAM.CREATE.RECORDS\"],\n\
         subscribe: [\"_INBOX.>\"] } } ] }";
    let server = NatsServer::start(&program, folder.path(), users);
    let lines = format!("{MADE}\nuser = \"gate\"\npassword_file = \"secret\"");
    delivers(&with_secret(&publishing_to(std::slice::from_ref(&server), &lines), "secret", "pw"));
}

fn tls_block(folder: &Path, verify: bool) -> String {
    let (certificate, key) = authority().issue(2_999);
    let (certificate_file, key_file, authority_file) =
        (folder.join("server.pem"), folder.join("server-key.pem"), folder.join("authority.pem"));
    tls::replace(&certificate_file, &certificate);
    tls::replace(&key_file, &key);
    tls::replace(&authority_file, &authority().pem);
    format!(
        "tls {{ cert_file: {certificate_file:?}, key_file: {key_file:?}, ca_file: {authority_file:?}, verify: {verify} }}"
    )
}

#[test]
fn by_tls_only_the_right_authority_is_believed_and_a_certificate_can_be_shown() {
    let Some(program) = program() else { return };
    for verify in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let server = NatsServer::start(&program, folder.path(), &tls_block(folder.path(), verify));
        let lines = |more: &str| {
            publishing(&format!(
                "servers = [\"tls://127.0.0.1:{}\"]\n{MADE}\ntls_authorities_file = \"tls/authorities.pem\"\n{more}",
                server.address.port()
            ))
        };
        let start = |setup: &Setup, trusted: &str| {
            let folder = tempfile::tempdir().expect("a folder");
            write_configuration(folder.path(), setup);
            authority().write_pair(folder.path());
            tls::replace(&folder.path().join("tls/authorities.pem"), trusted);
            TestGateway::start_on(folder)
        };
        let shown = "tls_certificate_file = \"tls/certificate.pem\"\ntls_private_key_file = \"tls/key.pem\"";
        delivers(&start(&lines(if verify { shown } else { "" }), &authority().pem));

        let stranger = start(&lines(shown), &tls::own_authority().0);
        let id = stranger.post(nth_incident(1)).text("receiptId");
        let why = why_it_waits(&stranger, &id);
        assert!(why.contains("certificate"), "{why}");
        // Trusted from now on: nothing has to be started anew.
        tls::replace(&stranger.folder().join("tls/authorities.pem"), &authority().pem);
        stranger.wait_for_state(&id, "delivered");
        if verify {
            let nobody = start(&lines(""), &authority().pem);
            let id = nobody.post(nth_incident(1)).text("receiptId");
            assert_ne!(why_it_waits(&nobody, &id), "");
        }
    }
}
