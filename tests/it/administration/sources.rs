//! Two sources, one catalog: what files provide, what the store holds, and moving from one to the other.

use serde_json::{Value, json};

use super::{LITWARE, STREAM, empty, make_litware, record};
use crate::support::eventually;
use crate::support::gateway::{KEY, TestGateway};

const CONTOSO: &str = "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10";

#[test]
fn what_a_file_provides_is_shown_and_not_changed() {
    let gateway = TestGateway::start();
    let path = format!("/organizations/{CONTOSO}");
    let shown = gateway.change("GET", &path, &Value::Null, 200);
    assert!(shown["provisionedFrom"].as_str().expect("a file").ends_with("contoso.toml"), "{shown}");
    for (method, path, body) in [
        ("PATCH", path.clone(), json!({ "name": "x" })),
        ("DELETE", path.clone(), Value::Null),
        ("POST", format!("{path}/queues"), json!({ "name": "x" })),
        ("POST", "/work-streams/7c2e9d54-41a8-ea11-a812-000d3a579c31/deactivate".to_owned(), Value::Null),
        ("DELETE", "/api-keys/everything".to_owned(), Value::Null),
    ] {
        let answer = gateway.admin_call((method, &path), KEY, &[], &body);
        assert_eq!((answer.status, answer.text("code")), (409, "provisioned".to_owned()), "{method} {path}");
    }
}

#[test]
fn an_organization_moves_into_the_store_without_a_moment_of_absence() {
    let gateway = TestGateway::start();
    let path = format!("/organizations/{CONTOSO}/document");
    let mut document = gateway.change("GET", &path, &Value::Null, 200);
    // Another content than the file's is refused, since the file would hide it.
    document["organization"]["name"] = "Somebody else".into();
    let refused = gateway.admin_call(("PUT", &path), KEY, &[], &document);
    assert_eq!((refused.status, refused.text("code")), (409, "provisioned".to_owned()));
    document["organization"]["name"] = "Contoso, Ltd.".into();
    let taken = gateway.change("PUT", &path, &document, 200);
    assert_eq!((&taken["shadowed"], &taken["differences"]), (&json!(true), &json!([])));

    std::fs::remove_file(gateway.organization_file("contoso.toml")).expect("removed");
    let own = format!("/organizations/{CONTOSO}");
    eventually("the store's organization to count", || {
        let shown = gateway.change("GET", &own, &Value::Null, 200);
        shown.get("provisionedFrom").is_none().then_some(())
    });
    let changed = gateway.change("PATCH", &own, &json!({ "name": "Contoso" }), 200);
    assert_eq!(changed["id"], CONTOSO);
    // A file that comes back counts again, and says so where it is checked.
    std::fs::write(gateway.organization_file("contoso.toml"), crate::support::gateway::ORGANIZATION).expect("written");
    eventually("the file to count", || {
        (gateway.change("GET", &own, &Value::Null, 200)["name"] == "Contoso, Ltd.").then_some(())
    });
    let stored_copy = gateway.change("DELETE", &format!("{own}?storedCopy=true"), &Value::Null, 200);
    assert_eq!(stored_copy["deleted"], true);
    assert_eq!(gateway.change("GET", &own, &Value::Null, 200)["name"], "Contoso, Ltd.");
}

#[test]
fn a_document_makes_an_organization_be_exactly_this() {
    let gateway = empty();
    make_litware(&gateway);
    let path = format!("/organizations/{LITWARE}/document");
    let document = gateway.change("GET", &path, &Value::Null, 200);
    let mut other = document.clone();
    other["workStreams"][0]["capacity"] = 50.into();
    other["queues"].as_array_mut().expect("queues").push(json!({ "name": "Urgent", "priority": 3 }));

    let compared = gateway.change("PUT", &format!("{path}?dryRun=true"), &other, 200);
    let paths: Vec<_> =
        compared["differences"].as_array().expect("differences").iter().map(|d| d["path"].clone()).collect();
    assert_eq!(paths, [json!("queues/Urgent"), json!(format!("workStreams/{STREAM}/capacity"))]);
    assert_eq!(gateway.change("GET", &path, &Value::Null, 200), document, "a comparison changes nothing");

    let applied = gateway.change("PUT", &path, &other, 200);
    assert_eq!(applied["differences"], compared["differences"]);
    let again = gateway.change("PUT", &path, &other, 200);
    assert_eq!((&again["differences"], &again["catalogGeneration"]), (&json!([]), &applied["catalogGeneration"]));

    gateway.change("DELETE", &format!("/organizations/{LITWARE}"), &Value::Null, 200);
    assert_eq!(gateway.post(record(1)).status, 404);
    assert_eq!(gateway.change("PUT", &path, &other, 201)["created"], true);
    assert_eq!(gateway.change("GET", &path, &Value::Null, 200), other);
    assert_eq!(gateway.post(record(1)).status, 202);
}

#[test]
fn an_organization_that_a_credential_of_the_files_needs_stays() {
    let gateway = TestGateway::start();
    let fabrikam = gateway.organization_file("fabrikam.toml");
    let id = "b7a5c9d0-2222-4b6f-8f7a-9c0de1f2a3b4";
    let path = format!("/organizations/{id}/document");
    let document = gateway.change("GET", &path, &Value::Null, 200);
    gateway.change("PUT", &path, &document, 200);
    std::fs::remove_file(fabrikam).expect("removed");
    eventually("the store's organization to count", || {
        let shown = gateway.change("GET", &format!("/organizations/{id}"), &Value::Null, 200);
        shown.get("provisionedFrom").is_none().then_some(())
    });
    let answer = gateway.admin_call(("DELETE", &format!("/organizations/{id}")), KEY, &[], &Value::Null);
    assert_eq!((answer.status, answer.text("code")), (409, "in-use".to_owned()));
    let renamed =
        gateway.admin_call(("PATCH", &format!("/organizations/{id}")), KEY, &[], &json!({ "uniqueName": "fabrikam2" }));
    assert_eq!((renamed.status, renamed.text("code")), (409, "in-use".to_owned()));
    // And the gateway starts again with the credential that names it.
    let gateway = gateway.restart();
    assert_eq!(gateway.change("GET", &format!("/organizations/{id}"), &Value::Null, 200)["uniqueName"], "fabrikam");
}

#[test]
fn a_name_that_waits_behind_a_file_is_taken() {
    let gateway = TestGateway::start();
    let path = format!("/organizations/{CONTOSO}/document");
    let document = gateway.change("GET", &path, &Value::Null, 200);
    gateway.change("PUT", &path, &document, 200);
    let file = gateway.organization_file("contoso.toml");
    let text = std::fs::read_to_string(&file).expect("readable").replacen("\"contoso\"", "\"contoso-two\"", 1);
    std::fs::write(&file, text).expect("written");
    gateway.change("POST", "/reload", &Value::Null, 200);
    let answer = gateway.admin_call(("POST", "/organizations"), KEY, &[], &json!({ "uniqueName": "contoso" }));
    assert_eq!((answer.status, answer.text("code")), (422, "resource-invalid".to_owned()));
}

#[test]
fn a_catalog_that_is_gone_is_told_and_not_made_anew() {
    if crate::support::store::is_postgres() {
        // It is about a file.
        return;
    }
    let gateway = empty();
    make_litware(&gateway);
    let data = gateway.folder().join("data");
    let keep = tempfile::tempdir().expect("a folder");
    let folder = gateway.stop();
    let path = data.join("catalog.db");
    std::fs::rename(&path, keep.path().join("catalog.db")).expect("moved");
    let config = |expected: &str| {
        let overrides = streamgate::config::Overrides { data_dir: Some(data.clone()), ..Default::default() };
        let faults = streamgate::app::load_config(Some(&folder.path().join("streamgate.toml")), &overrides);
        let faults = faults.expect_err("refused").to_string();
        assert!(faults.contains("catalog.db") && faults.contains(expected), "{faults}");
    };
    config("missing");
    std::fs::write(&path, b"").expect("written");
    config("empty");
    std::fs::rename(keep.path().join("catalog.db"), &path).expect("moved back");
    let gateway = TestGateway::start_on(folder);
    assert_eq!(gateway.post(record(1)).status, 202);
}

#[test]
fn what_another_gateway_changed_while_this_one_was_starting_counts() {
    let gateway = empty();
    make_litware(&gateway);
    let folder = gateway.stop();
    let overrides = streamgate::config::Overrides {
        data_dir: Some(folder.path().join("data")),
        listen: Some(([127, 0, 0, 1], 0).into()),
        admin_listen: Some(([127, 0, 0, 1], 0).into()),
        read_only: false,
    };
    // Read before, built after another one has answered a change.
    let early =
        streamgate::app::load_config(Some(&folder.path().join("streamgate.toml")), &overrides).expect("no fault");
    let other = TestGateway::start_on(folder);
    let changed = other.change("PATCH", &format!("/organizations/{LITWARE}"), &json!({ "name": "Answered" }), 200);
    let folder = other.stop();
    let app = streamgate::app::App::build(early).expect("built");
    let effective = app.live().snapshot();
    let organization = effective.catalog.organization_named("litware").expect("there");
    assert_eq!(&*organization.name, "Answered");
    assert!(effective.catalog.generation() > changed["catalogGeneration"].as_u64().expect("a generation"));
    drop((app, folder));
}
