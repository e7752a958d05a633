//! The administration from the command line, as an operator uses it: the real binary against a running gateway.

use serde_json::Value;

use crate::administration::empty;
use crate::command_line::{against, json, text};
use crate::support::gateway::{KEY, TestGateway};
use crate::support::records::ORGANIZATION_ID;

const CONTOSO: &str = "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10";
const STREAM: &str = "7c2e9d54-41a8-ea11-a812-000d3a579c31";

const SAMPLES: [&str; 3] = [
    include_str!("../fixtures/records/incident.json"),
    include_str!("../fixtures/records/lead.json"),
    include_str!("../fixtures/records/inspection.json"),
];

fn done(gateway: &TestGateway, arguments: &[&str]) -> String {
    let output = against(gateway, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn refused(gateway: &TestGateway, arguments: &[&str], code: i32) -> String {
    let output = against(gateway, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    text(&output.stderr)
}

/// Everything that the samples need, one command after the other.
fn configure(gateway: &TestGateway) {
    for arguments in [
        &["organizations", "create", "contoso", "--id", CONTOSO, "--name", "Contoso Ltd."][..],
        &["queues", "create", "Escalations", "--organization", "contoso", "--priority", "1"],
        &["queues", "create", "Sales & Co/1", "--organization", "Contoso", "--priority", "3"],
        &["work-streams", "create", "Website chat", "--organization", "contoso", "--stream-source", "live-chat"],
        &["work-streams", "create", "Cases", "--organization", "contoso", "--id", STREAM, "--capacity", "20"],
        &["entities", "add", "incident", "--work-stream", "cases", "--set", "incidents", "--state", "inactive"],
        &["entities", "activate", "incident", "--work-stream", "Cases"],
        &["entities", "add", "lead", "--work-stream", "Cases", "--set", "leads"],
        &["entities", "add", "new_inspection", "--work-stream", "Cases", "--set", "new_inspections"],
        &["variables", "add", "Reading", "--work-stream", "Cases", "--kind", "number", "--column", "new_reading"],
        &[
            "rules",
            "add",
            "High",
            "--work-stream",
            "Cases",
            "--queue",
            "Escalations",
            "--if",
            "label:prioritycode equals high",
        ],
        &[
            "rules",
            "add",
            "Leads",
            "--work-stream",
            "Cases",
            "--queue",
            "Sales & Co/1",
            "--if",
            "record:entityLogicalName equals lead",
        ],
        &[
            "rules",
            "add",
            "Hot",
            "--work-stream",
            "Cases",
            "--queue",
            "Escalations",
            "--if",
            "variable:reading greater-than 98.6",
        ],
    ] {
        done(gateway, arguments);
    }
}

/// Posts the samples; each with its queue and the rule that sent it there.
fn routes(gateway: &TestGateway) -> Vec<(String, String)> {
    let routes = SAMPLES.iter().map(|sample| {
        let receipt = gateway.post(sample).text("receiptId");
        let shown = json(&against(gateway, &["records", "show", &receipt, "--json"]));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&shown["queue"]), text(&shown["trace"]["rule"]))
    });
    routes.collect()
}

#[test]
fn an_operator_s_whole_story() {
    let gateway = empty();
    configure(&gateway);
    let expected = [("Escalations", "High"), ("Sales & Co/1", "Leads"), ("Escalations", "Hot")];
    let expected = expected.map(|(queue, rule)| (queue.to_owned(), rule.to_owned()));
    assert_eq!(routes(&gateway), expected);

    // A rule is changed with a preview first.
    let folder = tempfile::tempdir().expect("a folder");
    let draft = folder.path().join("rules.toml");
    let rules = "[[rules]]\nname = \"All\"\nqueue = \"Default queue\"\nwhen = { column = \"statecode\", operator = \"equals\", value = 0 }\n";
    std::fs::write(&draft, rules).expect("written");
    let draft = draft.to_str().expect("a path");
    let told = done(&gateway, &["rules", "preview", draft, "--work-stream", "Cases"]);
    assert!(told.contains("3 of the last 3 records would go elsewhere"), "{told}");
    assert!(told.contains("Sales & Co/1 (Leads)") && told.contains("Default queue (All)"), "{told}");
    assert_eq!(routes(&gateway), expected, "a preview changes nothing");
    done(&gateway, &["rules", "update", "Hot", "--work-stream", "Cases", "--if", "variable:reading less-than 50"]);
    done(&gateway, &["rules", "move", "Leads", "1", "--work-stream", "Cases"]);
    let listed = done(&gateway, &["rules", "list", "--work-stream", "Cases"]);
    let order: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(order, ["Leads", "High", "Hot"]);

    // Exported, deleted, applied: where it was.
    let file = folder.path().join("contoso.toml");
    let exported = done(&gateway, &["export", "contoso"]);
    std::fs::write(&file, &exported).expect("written");
    let file = file.to_str().expect("a path");
    assert_eq!(done(&gateway, &["apply", file]), format!("{file}: nothing to change\n"));
    let gone = done(&gateway, &["organizations", "delete", "contoso"]);
    assert!(gone.contains("is gone"), "{gone}");
    assert_eq!(gateway.post(SAMPLES[0]).status, 404);
    let asked = refused(&gateway, &["apply", file], 2);
    assert!(asked.contains("--yes"), "{asked}");
    let looked = done(&gateway, &["apply", file, "--dry-run"]);
    assert!(looked.contains("+ organization"), "{looked}");
    assert_eq!(gateway.post(SAMPLES[0]).status, 404);
    done(&gateway, &["apply", file, "--yes"]);
    assert_eq!(gateway.post(SAMPLES[0]).status, 202);
    assert_eq!(done(&gateway, &["export", "contoso"]), exported);
    assert_eq!(done(&gateway, &["apply", file, "--yes"]), format!("{file}: nothing to change\n"));

    // And what was done is known.
    let trail = done(&gateway, &["audit", "--organization", "contoso", "--limit", "500"]);
    assert!(trail.contains("everything  delete  organization"), "{trail}");
    assert!(trail.contains(&format!("~ workStreams/{STREAM}/rules/Hot/when")), "{trail}");
}

#[test]
fn what_is_exported_is_a_file_of_the_configuration() {
    let gateway = empty();
    configure(&gateway);
    let exported = done(&gateway, &["export", "contoso"]);
    let document = json(&against(&gateway, &["work-streams", "show", "Cases", "--json"]));
    std::fs::write(gateway.organization_file("contoso.toml"), &exported).expect("written");
    crate::support::eventually("the file to count", || {
        let shown = json(&against(&gateway, &["organizations", "show", "contoso", "--json"]));
        shown.get("provisionedFrom").is_some().then_some(())
    });
    let mut again = json(&against(&gateway, &["work-streams", "show", "Cases", "--json"]));
    assert!(again.as_object_mut().expect("a stream").remove("provisionedFrom").is_some());
    assert_eq!(document, again);
    // What comes from a file says so, and what to do.
    let refusal = refused(&gateway, &["work-streams", "update", "Cases", "--capacity", "5"], 1);
    assert!(refusal.contains("409 provisioned") && refusal.contains("contoso.toml"), "{refusal}");
}

#[test]
fn faults_say_what_where_and_what_to_do() {
    let gateway = empty();
    configure(&gateway);
    let unknown = refused(&gateway, &["entities", "list", "--work-stream", "Casses"], 1);
    assert!(unknown.contains("no work stream `Casses`") && unknown.contains("Cases, Website chat"), "{unknown}");
    let missing = refused(&gateway, &["queues", "list"], 2);
    assert!(missing.contains("--organization is missing"), "{missing}");
    let nothing = refused(&gateway, &["work-streams", "update", "Cases"], 2);
    assert!(nothing.contains("nothing to change"), "{nothing}");
    let faulty = refused(
        &gateway,
        &["rules", "add", "x", "--work-stream", "Cases", "--queue", "Escalation", "--if", "a equal 1"],
        1,
    );
    for part in [
        "422 resource-invalid",
        "/queue: there is no queue `Escalation`",
        "did you mean `Escalations`?",
        "/when/operator",
    ] {
        assert!(faulty.contains(part), "`{part}` is not in\n{faulty}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("contoso.toml");
    let text = done(&gateway, &["export", "contoso"]).replace("capacity = 20", "capacity = -20\ncapcity = 5");
    std::fs::write(&file, &text).expect("written");
    let told = refused(&gateway, &["apply", file.to_str().expect("a path")], 3);
    let line = 1 + text.lines().position(|line| line.starts_with("capacity = -20")).expect("there");
    assert!(told.contains(&format!("contoso.toml:{line}:12: ")), "{told}");
    assert!(told.contains("2 faults in 1 file; nothing was applied"), "{told}");
    // Machines get JSON, also of wrong usage.
    let usage = against(&gateway, &["queues", "--json", "no-such-verb"]);
    assert_eq!(usage.status.code(), Some(2));
    let said: Value = serde_json::from_slice(&usage.stderr).expect("JSON");
    assert!(said["error"].as_str().expect("text").contains("no-such-verb"));
    let ftp = against(&gateway, &["organizations", "--admin-url", "ftp://127.0.0.1/", "list"]);
    assert_eq!(ftp.status.code(), Some(2), "{ftp:?}");
}

#[test]
fn keys_are_made_listed_and_ended() {
    let gateway = empty();
    configure(&gateway);
    let key =
        done(&gateway, &["keys", "create", "my flow/1", "--organization", "contoso", "--permission", "records.write"]);
    let key = key.trim();
    let post = || gateway.call("POST", "/api/v1/records", key, SAMPLES[0].as_bytes()).status;
    assert_eq!(post(), 202);
    let listed = done(&gateway, &["keys", "list"]);
    assert!(listed.contains("my flow/1") && listed.contains("records.write") && !listed.contains(key), "{listed}");
    done(&gateway, &["keys", "revoke", "my flow/1"]);
    assert_eq!(post(), 401);
    let again = refused(&gateway, &["keys", "revoke", "my flow/1"], 1);
    assert!(again.contains("404 resource-unknown"), "{again}");
}

/// Commands that were refused at the terminal must not have reached anything else.
#[test]
fn names_that_are_dots_lead_nowhere_else() {
    let gateway = empty();
    configure(&gateway);
    for arguments in [
        ["variables", "deactivate", "..", "--work-stream", "Cases"],
        ["rules", "remove", ".", "--work-stream", "Cases"],
        ["rules", "show", "", "--work-stream", "Cases"],
    ] {
        refused(&gateway, &arguments, 2);
    }
    let stream = json(&against(&gateway, &["work-streams", "show", "Cases", "--json"]));
    assert_eq!(stream["state"], "active");
}

#[test]
fn numbers_are_kept_exactly_or_refused() {
    let gateway = empty();
    configure(&gateway);
    let add = ["rules", "add", "n", "--work-stream", "Cases", "--queue", "Escalations", "--if"];
    for (number, code) in [("18446744073709551616", 2), ("0.12345678901234567890", 2), ("18446744073709551615", 0)] {
        let condition = format!("a equals {number}");
        let output = against(&gateway, &[&add[..], &[&condition]].concat());
        assert_eq!(output.status.code(), Some(code), "{number}: {output:?}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("contoso.toml");
    let exported = done(&gateway, &["export", "contoso"]);
    for (written, told) in
        [("18446744073709551616", "digits"), ("0.12345678901234567890", "digits"), ("07:30:00", "time of day")]
    {
        std::fs::write(&file, exported.replace("18446744073709551615", written)).expect("written");
        let output = refused(&gateway, &["apply", file.to_str().expect("a path"), "--yes"], 3);
        assert!(output.contains("contoso.toml:") && output.contains(told), "{written}: {output}");
    }
}

#[test]
fn unset_knows_its_fields() {
    let gateway = empty();
    configure(&gateway);
    let typo = refused(&gateway, &["work-streams", "update", "Cases", "--unset", "capcity"], 2);
    assert!(typo.contains("capacity"), "{typo}");
    done(&gateway, &["work-streams", "update", "Cases", "--auto-close-after-inactivity-minutes", "7"]);
    for spelling in ["auto-close-after-inactivity-minutes", "autoCloseAfterInactivityMinutes"] {
        done(&gateway, &["work-streams", "update", "Cases", "--unset", spelling]);
        let stream = json(&against(&gateway, &["work-streams", "show", "Cases", "--json"]));
        assert_eq!(stream["autoCloseAfterInactivityMinutes"], 1_440, "{spelling}");
        done(&gateway, &["work-streams", "update", "Cases", "--auto-close-after-inactivity-minutes", "7"]);
    }
    // A variable has one source: a label takes the place of the column.
    done(&gateway, &["variables", "add", "Risk", "--work-stream", "Cases", "--column", "new_risk"]);
    done(&gateway, &["variables", "update", "risk", "--work-stream", "Cases", "--label", "new_risk"]);
    let risk = json(&against(&gateway, &["variables", "show", "risk", "--work-stream", "Cases", "--json"]));
    assert_eq!((&risk["label"], risk.get("column")), (&Value::from("new_risk"), None));
}

#[test]
fn several_files_are_judged_together_and_exports_overwrite_nothing() {
    let gateway = empty();
    configure(&gateway);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let exported = done(&gateway, &["export", "contoso"]);
    for (name, content) in [
        ("good.toml", exported.replace("capacity = 20", "capacity = 21")),
        ("bad.toml", exported.replace(CONTOSO, STREAM).replace("capacity = 20", "capacity = 0")),
        ("broken.toml", "[organization\n[queues".to_owned()),
        ("camel.toml", format!("[organization]\nid = \"{}\"\nuniqueName = \"x\"\n", CONTOSO.replace('0', "1"))),
    ] {
        std::fs::write(path(name), content).expect("written");
    }
    let told = refused(
        &gateway,
        &["apply", &path("good.toml"), &path("good.toml"), &path("broken.toml"), &path("camel.toml"), "--yes"],
        3,
    );
    for part in ["good.toml:", "is in", "broken.toml:1:", "camel.toml:3:1: unknown key `uniqueName`", "`unique_name`"] {
        assert!(told.contains(part), "`{part}` is not in\n{told}");
    }
    let told = refused(&gateway, &["apply", &path("good.toml"), &path("bad.toml"), "--yes"], 3);
    assert!(told.contains("bad.toml:") && told.contains("`capacity` must be"), "{told}");
    assert_eq!(done(&gateway, &["export", "contoso"]), exported, "nothing was applied");

    let out = path("out");
    done(&gateway, &["export", "--out", &out]);
    let file = folder.path().join("out/contoso.toml");
    std::fs::write(&file, format!("# by hand\n{exported}")).expect("written");
    let kept = refused(&gateway, &["export", "--out", &out], 1);
    assert!(kept.contains("--force"), "{kept}");
    assert!(std::fs::read_to_string(&file).expect("readable").starts_with("# by hand"));
    done(&gateway, &["export", "--out", &out, "--force"]);
    assert_eq!(std::fs::read_to_string(&file).expect("readable"), exported);
}

#[test]
fn what_a_file_provides_is_taken_in_once() {
    let gateway = TestGateway::start();
    let file = gateway.organization_file("contoso.toml");
    let file = file.to_str().expect("a path");
    assert!(done(&gateway, &["apply", file]).contains("in the store now"));
    assert!(done(&gateway, &["apply", file]).contains("nothing to change"));
}

#[test]
fn the_next_step_is_a_command() {
    let gateway = empty();
    configure(&gateway);
    let default = refused(&gateway, &["queues", "delete", "Default queue", "--organization", "contoso"], 1);
    assert!(default.contains("streamgate queues update"), "{default}");
    let unknown = refused(&gateway, &["rules", "show", "Nothing", "--work-stream", "Cases"], 1);
    assert!(unknown.contains("`list`"), "{unknown}");
    let faulty = against(&gateway, &["work-streams", "update", "Cases", "--capacity", "0", "--json"]);
    let said: Value = serde_json::from_slice(&faulty.stderr).expect("JSON");
    assert_eq!(said["problem"]["faults"][0]["pointer"], "/capacity");
}

#[test]
fn subscriptions_are_seen_and_ended_by_commands() {
    let gateway = TestGateway::start();
    let wish = format!(r#"{{"organizationId":"{ORGANIZATION_ID}","callbackUrl":"https://8.8.8.8/never-called"}}"#);
    let id = gateway.call("POST", "/api/v1/subscriptions", KEY, wish.as_bytes()).text("id");
    let listed = done(&gateway, &["subscriptions", "list", "--organization", "contoso"]);
    assert!(listed.contains(&id) && listed.contains("active") && listed.contains("8.8.8.8"), "{listed}");
    assert!(!listed.contains("never-called"), "{listed}");
    assert!(done(&gateway, &["subscriptions", "show", &id]).contains("createdBy"));
    assert!(done(&gateway, &["subscriptions", "requeue", &id]).contains("0 records are told again."));
    assert!(done(&gateway, &["subscriptions", "discard", &id, "--reason", "x"]).contains("0 dead letters"));
    assert_eq!(done(&gateway, &["subscriptions", "dead-letters", &id]), "");
    assert!(done(&gateway, &["subscriptions", "end", &id]).contains("ended at"));
    assert!(done(&gateway, &["subscriptions", "list"]).contains("ended"));
    let unknown = refused(&gateway, &["subscriptions", "end", "nobody"], 1);
    assert!(unknown.contains("There is no such subscription"), "{unknown}");
}
