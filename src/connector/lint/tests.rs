//! Every rule is broken once, in a package that is right otherwise; the rule, the place and nothing else is found.

use serde_json::{Value, json};

use super::*;
use crate::connector::package::{Host, Scheme, Subject, for_organization};
use crate::domain::ids::Guid;

/// A package in a folder of its own.
fn package() -> tempfile::TempDir {
    let subject = Subject {
        organization: Guid::parse("11111111-2222-4333-8444-555555555555").expect("a GUID").into(),
        unique_name: "fabrikam",
        name: "Fabrikam",
        scheme: Scheme::Https,
        host: Host::parse("gateway.fabrikam.example").expect("a host"),
        certification: false,
    };
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in for_organization(&subject).files() {
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    folder
}

/// The rules and places that a change of a JSON file breaks.
fn broken(file: &str, change: impl FnOnce(&mut Value)) -> Vec<(&'static str, String)> {
    let folder = package();
    let path = folder.path().join(file);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
    change(&mut value);
    std::fs::write(&path, value.to_string()).expect("written");
    found(folder.path())
}

fn found(folder: &Path) -> Vec<(&'static str, String)> {
    let findings = check(folder).expect("read");
    assert!(findings.iter().all(|finding| !finding.wrong.is_empty() && !finding.mend.is_empty()), "{findings:?}");
    findings.into_iter().map(|finding| (finding.rule, finding.place)).collect()
}

#[test]
fn the_package_as_it_is_made_has_nothing_to_mend() {
    assert_eq!(found(package().path()), []);
}

/// What breaks a rule: where, what stands there then (null: nothing), the rule, and the place that is told: the same (=),
/// the one around it (^), or another.
const BREAKS: &str = r##"
/swagger                                                | "3.0.1"                          | version            | =
/info/title                                             | "Contoso API"                    | title              | =
/info/title                                             | "A title far longer than thirty." | title             | =
/info/title                                             | "Power Automate hub"             | title              | =
/info/description                                       | "Too short."                     | description-length | =
/info/contact/email                                     | null                             | contact            | =
/info/version                                           | ""                               | version            | =
/host                                                   | "https://gateway.example.com"    | host               | =
/host                                                   | "gateway.example.com/path"       | host               | =
/host                                                   | null                             | host               | =
/basePath                                               | "/api"                           | base-path          | =
/schemes                                                | ["ws"]                           | schemes            | =
/security                                               | []                               | security           | =
/security                                               | [{"other": []}]                  | security           | =
/securityDefinitions/api_key/in                         | "query"                          | security           | ^
/securityDefinitions/api_key/name                       | "Authorization"                  | security           | ^
/components                                             | {}                               | version            | =
/x-ms-capabilities/testConnection/operationId           | "Ping"                           | test-connection    | =
ROUTE/operationId                                       | null                             | operation-id       | =
ROUTE/operationId                                       | "Route record"                   | operation-id       | =
ROUTE/operationId                                       | "getreceipt"                     | operation-id       | =
ROUTE/summary                                           | null                             | summary            | =
ROUTE/summary                                           | "Route a record."                | summary            | =
ROUTE/description                                       | ""                               | description        | =
ROUTE/description                                       | "Route a record."                | description        | =
ROUTE/x-ms-visibility                                   | "hidden"                         | visibility         | =
ROUTE/responses/202                                     | null                             | responses          | ^
ROUTE/responses/404/schema                              | null                             | response-schema    | =
ROUTE/responses/404/schema/$ref                         | "#/definitions/Nothing"          | reference          | =
RECEIPT/parameters/0/required                           | false                            | parameter          | ^
RECEIPT/parameters/0/x-ms-summary                       | "receipt id"                     | label              | =
RECORD/recordId/x-ms-summary                            | null                             | label              | =
RECORD/recordId/description                             | null                             | description        | =
RECORD/recordId/x-ms-visibility                         | "internal"                       | internal-default   | ^
RECORD/recordId/nullable                                | true                             | newer              | =
RECORD/recordId/type                                    | ["string", "null"]               | newer              | =
/definitions/Record/required/0                          | "nothing"                        | required           | ^
/definitions/WorkStreamList/properties/value/items      | null                             | items              | ^
RECORD/workStreamId/x-ms-dynamic-list                   | null                             | choices            | ^
RECORD/workStreamId/x-ms-dynamic-list/operationId       | "ListNothing"                    | choices            | =
RECORD/workStreamId/x-ms-dynamic-list/parameters/organizationId | {"parameterReference": "body/organization"} | choices | =
RECORD/workStreamId/x-ms-dynamic-list/parameters/nothing | {"value": "1"}                  | choices            | =
RECORD/workStreamId/x-ms-dynamic-values/value-path      | "guid"                           | choices            | =
RECORD/workStreamId/x-ms-dynamic-values/value-collection | "items"                         | choices            | =
SUBSCRIBE/x-ms-trigger                                  | "once"                           | trigger            | =
SUBSCRIBE/responses/201/headers                         | null                             | trigger            | SUBSCRIBE
SUBSCRIPTIONS/x-ms-notification-content                 | null                             | trigger            | SUBSCRIBE
SUBSCRIPTIONS/x-ms-notification-content/schema          | null                             | trigger            | ^
"##;

/// The short names in [`BREAKS`].
const PLACES: [(&str, &str); 5] = [
    ("ROUTE", "/paths/~1api~1v1~1records/post"),
    ("RECEIPT", "/paths/~1api~1v1~1receipts~1{receiptId}/get"),
    ("SUBSCRIBE", "/paths/~1api~1v1~1subscriptions/post"),
    ("SUBSCRIPTIONS", "/paths/~1api~1v1~1subscriptions"),
    ("RECORD", "/definitions/Record/properties"),
];

#[test]
fn what_is_wrong_with_the_definition_is_found() {
    let whole = |short: &str| {
        let (first, rest) = short.split_once('/').unwrap_or((short, ""));
        match PLACES.iter().find(|(name, _)| *name == first) {
            Some((_, place)) if rest.is_empty() => (*place).to_owned(),
            Some((_, place)) => format!("{place}/{rest}"),
            None => short.to_owned(),
        }
    };
    for line in BREAKS.lines().filter(|line| !line.is_empty()) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [at, value, rule, told] = columns[..] else { panic!("{line}") };
        let (at, value) = (whole(at), serde_json::from_str::<Value>(value).expect("JSON"));
        let (around, name) = at.rsplit_once('/').expect("a pointer");
        let told = match told {
            "=" => at.clone(),
            "^" => around.to_owned(),
            other => whole(other),
        };
        let found = broken(DEFINITION_FILE, |definition| {
            let parent = definition.pointer_mut(around).unwrap_or_else(|| panic!("{around} is not there"));
            match (parent.as_object_mut(), name.parse::<usize>()) {
                (Some(members), _) if value.is_null() => drop(members.remove(name).expect("it was there")),
                (Some(members), _) => drop(members.insert(name.to_owned(), value.clone())),
                (None, at) => parent[at.expect("a number")] = value.clone(),
            }
        });
        let expected = found.iter().any(|(found, place)| *found == rule && *place == told);
        assert!(expected, "{at} = {value}: {rule} at {told} is not in {found:?}");
    }
    let found = broken(DEFINITION_FILE, |it| it["info"]["title"] = Value::from("x".repeat(31)));
    assert_eq!(found, [("title", "/info/title".to_owned())]);
}

#[test]
fn two_paths_that_differ_only_in_case_are_found() {
    let found = broken(DEFINITION_FILE, |definition| {
        let connection = definition["paths"]["/api/v1/connection"].clone();
        definition["paths"]["/api/v1/Connection"] = connection;
    });
    assert!(found.iter().any(|(rule, _)| *rule == "paths-differ"), "{found:?}");
    assert!(found.iter().any(|(rule, _)| *rule == "operation-id"), "{found:?}");
}

#[test]
fn what_is_wrong_with_the_other_files_is_found() {
    let properties = |change: fn(&mut Value)| broken(PROPERTIES_FILE, |file| change(&mut file["properties"]));
    for (change, rule) in [
        ((|it: &mut Value| it["iconBrandColor"] = json!("#007ee5")) as fn(&mut Value), "brand-color"),
        (|it| it["iconBrandColor"] = json!("teal"), "brand-color"),
        (|it| it["connectionParameters"] = json!({}), "connection"),
        (|it| it["connectionParameters"]["api_key"]["type"] = json!("string"), "connection"),
        (|it| it["connectionParameters"]["api_key"]["uiDefinition"]["description"] = json!(""), "connection"),
        (
            |it| it["connectionParameters"]["api_key"]["uiDefinition"]["constraints"]["required"] = json!(true),
            "connection",
        ),
        (
            |it| {
                it["policyTemplateInstances"][0]["parameters"]["x"] = json!("@connectionParameters('nothing')");
            },
            "policy",
        ),
    ] {
        let found = properties(change);
        assert!(found.iter().any(|(found, _)| *found == rule), "{rule} is not in {found:?}");
    }
    assert_eq!(broken(SETTINGS_FILE, |it| it["icon"] = json!("gone.png")), [("settings", "/icon".to_owned())]);

    let with = |file: &str, bytes: &[u8]| {
        let folder = package();
        std::fs::write(folder.path().join(file), bytes).expect("written");
        found(folder.path()).into_iter().map(|(rule, _)| rule).collect::<Vec<_>>()
    };
    assert!(with(README_FILE, b"# Streamgate\n\n## Publisher\n").contains(&"readme"));
    assert_eq!(with(ICON_FILE, b"GIF89a"), ["icon"]);
    let mut wide = crate::connector::ICON.to_vec();
    wide[19] = 64;
    assert_eq!(with(ICON_FILE, &wide), ["icon"]);
    assert!(with(PROPERTIES_FILE, b"{\"properties\":{}, \"properties\":{}}").contains(&"duplicate-member"));
    assert!(with(DEFINITION_FILE, b"swagger: '2.0'").contains(&"json"));
    let large = crate::connector::DEFINITION.to_owned() + &" ".repeat(1_000_000);
    assert_eq!(with(DEFINITION_FILE, large.as_bytes()), ["size"]);
    for file in [DEFINITION_FILE, PROPERTIES_FILE, ICON_FILE, README_FILE] {
        let folder = package();
        std::fs::remove_file(folder.path().join(file)).expect("it was there");
        assert!(found(folder.path()).contains(&("file", String::new())), "{file}");
    }
    assert!(check(Path::new("/no/such/folder")).is_err());
}
