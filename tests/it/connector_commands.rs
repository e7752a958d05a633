//! `streamgate connector`: the package of the sample organization is exported, checked, and says what is wrong with it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::command_line::{json, text};

fn connector(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate"));
    for name in ["STREAMGATE_CONFIG", "STREAMGATE_DATA_DIR"] {
        command.env_remove(name);
    }
    command.current_dir(root).arg("connector").args(arguments).output().expect("ran")
}

fn definition(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("apiDefinition.swagger.json")).expect("readable");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn the_sample_organization_s_package_is_right_as_it_comes() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("connector");
    let out = folder.to_str().expect("a path");
    let exported = connector(&["export", "--organization", "Contoso", "--host", "gateway.contoso.com", "--out", out]);
    assert_eq!(exported.status.code(), Some(0), "{exported:?}");
    for file in ["apiDefinition.swagger.json", "apiProperties.json", "settings.json", "icon.png", "readme.md"] {
        assert!(folder.join(file).is_file(), "{file}");
        assert!(text(&exported.stdout).contains(file), "{exported:?}");
    }
    let made = definition(&folder);
    assert_eq!((&made["host"], &made["schemes"]), (&"gateway.contoso.com".into(), &serde_json::json!(["https"])));
    assert_eq!(made["info"]["title"], "Streamgate Contoso Ltd");
    let organization = &made["definitions"]["Record"]["properties"]["organizationId"];
    assert_eq!(organization["default"], "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10");
    let checked = connector(&["check", out]);
    assert_eq!(
        (checked.status.code(), text(&checked.stdout).contains("nothing to mend")),
        (Some(0), true),
        "{checked:?}"
    );

    // Again over the same: an earlier export is replaced. For this machine it is http.
    let local = connector(&["export", "--host", "127.0.0.1:8080", "--out", out, "--json"]);
    assert_eq!(json(&local)["gateway"], "http://127.0.0.1:8080");
    assert_eq!(definition(&folder)["schemes"], serde_json::json!(["http"]));
    let certified = connector(&["export", "--host", "gateway.contoso.com", "--out", out, "--certification"]);
    assert_eq!(certified.status.code(), Some(0), "{certified:?}");
    assert!(definition(&folder)["definitions"]["Record"]["properties"]["organizationId"].get("default").is_none());
    assert!(!folder.join("apiProperties.entra.json").exists(), "a certified connector brings no registration along");
    assert_eq!(connector(&["check", out]).status.code(), Some(0));
}

#[test]
fn what_was_put_into_an_earlier_export_stays_and_foreign_packages_do_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("a path");
    let export = || connector(&["export", "--host", "gateway.contoso.com", "--out", out]);
    assert_eq!(export().status.code(), Some(0));
    let settings = r#"{"connectorId": "shared_streamgate", "apiDefinition": "apiDefinition.swagger.json"}"#;
    std::fs::write(folder.path().join("settings.json"), settings).expect("written");
    std::fs::write(folder.path().join("readme.md"), "edited").expect("written");
    let again = export();
    assert!(text(&again.stderr).contains("settings.json: what was put into it"), "{again:?}");
    let now = |file: &str| std::fs::read_to_string(folder.path().join(file)).expect("readable");
    assert_eq!(now("settings.json"), settings);
    assert!(now("readme.md").starts_with("# Streamgate"), "what nobody is asked to fill in is made anew");

    // A registration goes over to the new host, and is not given away with a package for everybody.
    let entra = now("apiProperties.entra.json")
        .replace("00000000-0000-0000-0000-000000000000", "5f0c1d9e-8b7a-4432-9c1d-0e2f3a4b5c6d");
    std::fs::write(folder.path().join("apiProperties.entra.json"), entra).expect("written");
    connector(&["export", "--host", "new.contoso.com", "--out", out]);
    let entra = now("apiProperties.entra.json");
    assert!(
        entra.contains("5f0c1d9e") && entra.contains("new.contoso.com") && !entra.contains("gateway.contoso.com"),
        "{entra}"
    );
    let certified = connector(&["export", "--host", "new.contoso.com", "--out", out, "--certification"]);
    assert_eq!(certified.status.code(), Some(1), "{certified:?}");
    assert_eq!(now("apiProperties.entra.json"), entra);

    let foreign = r#"{"swagger": "2.0", "paths": {}}"#;
    std::fs::write(folder.path().join("apiDefinition.swagger.json"), foreign).expect("written");
    let refused = export();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert_eq!(now("apiDefinition.swagger.json"), foreign);
}

#[test]
fn what_was_edited_is_found_with_its_place_and_how_to_mend_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("a path");
    connector(&["export", "--host", "gateway.contoso.com", "--out", out]);
    let mut edited = definition(folder.path());
    edited["host"] = "https://gateway.contoso.com".into();
    edited["info"]["title"] = "The Contoso API".into();
    std::fs::write(folder.path().join("apiDefinition.swagger.json"), edited.to_string()).expect("written");
    let checked = connector(&["check", out]);
    assert_eq!(checked.status.code(), Some(1));
    let told = text(&checked.stdout);
    for part in ["apiDefinition.swagger.json/host: ", "/info/title: ", "mend: ", "2 findings"] {
        assert!(told.contains(part), "`{part}` is not in\n{told}");
    }
    let machine = json(&connector(&["check", out, "--json"]));
    assert_eq!((&machine["ok"], machine["findings"][0]["rule"].is_string()), (&false.into(), true), "{machine}");
}

#[test]
fn what_cannot_be_exported_says_what_to_do() {
    let parent = tempfile::tempdir().expect("a folder");
    let taken = parent.path().to_str().expect("a path");
    std::fs::write(parent.path().join("letter.txt"), "dear").expect("written");
    for (arguments, exit, part) in [
        (vec!["export", "--organization", "fabrikam", "--host", "x.example", "--out", taken], 1, "it has contoso"),
        (vec!["export", "--out", taken], 2, "--host gateway.contoso.com"),
        (vec!["export", "--host", "https://x.example", "--out", taken], 2, "has a scheme"),
        (vec!["export", "--host", "x.example", "--out", taken], 1, "something else in it"),
        (vec!["check", "/no/such/folder"], 1, "cannot be read"),
        (vec!["export", "--host", "x.example", "--config", "/no/such/file.toml"], 3, "/no/such/file.toml"),
    ] {
        let refused = connector(&arguments);
        assert_eq!(refused.status.code(), Some(exit), "{arguments:?}: {refused:?}");
        assert!(text(&refused.stderr).contains(part), "`{part}` is not in {refused:?}");
    }
    assert_eq!(std::fs::read_dir(parent.path()).expect("listed").count(), 1, "nothing was written");
}
