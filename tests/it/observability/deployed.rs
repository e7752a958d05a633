//! The alerts and the dashboard under `deploy/`: every metric that they name is really shown, every alert has its section
//! in `docs/operating.md` and its test, and the dashboard is put together as Grafana wants it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use streamgate::telemetry::Exposition;

use super::{everything, file, metrics_in};

/// The names of our metrics in an expression, without the endings that histograms have.
fn named_in(expression: &str) -> BTreeSet<String> {
    let known = metrics_in(&everything(Exposition::Classic));
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("streamgate_") || word.starts_with("process_"));
    ours.map(|word| {
        let shorter = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        shorter.filter(|name| known.contains_key(*name)).unwrap_or(word).to_owned()
    })
    .collect()
}

/// Asserts that every metric in these expressions exists; answers which they are.
fn all_exist(what: &str, expressions: &[String]) -> BTreeSet<String> {
    let known = metrics_in(&everything(Exposition::Classic));
    let named: BTreeSet<String> = expressions.iter().flat_map(|expression| named_in(expression)).collect();
    let missing: Vec<&String> = named.iter().filter(|name| !known.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{what} names {missing:?}, which no gateway shows");
    named
}

/// The alerts: name, expression, runbook.
fn alerts() -> Vec<(String, String, String)> {
    let text = file("deploy/prometheus/alerts.yml");
    let mut alerts: Vec<(String, String, String)> = Vec::new();
    let mut in_expression = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alerts.push((name.to_owned(), String::new(), String::new()));
        }
        let Some((_, expression, runbook)) = alerts.last_mut() else { continue };
        if let Some(begun) = line.strip_prefix("expr: ") {
            in_expression = true;
            expression.push_str(begun);
        } else if line.starts_with("for: ") || line.starts_with("labels: ") {
            in_expression = false;
        } else if in_expression {
            expression.push(' ');
            expression.push_str(line);
        }
        if let Some(at) = line.strip_prefix("runbook: ") {
            *runbook = at.trim_matches('"').to_owned();
        }
    }
    alerts
}

#[test]
fn alerts_name_what_is_shown_and_have_a_section_and_a_test() {
    let (alerts, tests, manual) = (alerts(), file("deploy/prometheus/alerts_test.yml"), file("docs/operating.md"));
    assert!(alerts.len() >= 20, "{}", alerts.len());
    let expressions: Vec<String> = alerts.iter().map(|(_, expression, _)| expression.clone()).collect();
    all_exist("alerts.yml", &expressions);
    let sections: Vec<&str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("#### "))
        .filter(|name| name.starts_with("Streamgate"))
        .collect();
    let names: Vec<&str> = alerts.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(sections, names, "docs/operating.md has one section for each alert, in the same order");
    for (name, expression, runbook) in &alerts {
        assert!(!expression.is_empty(), "{name}");
        assert_eq!(*runbook, format!("docs/operating.md#{}", name.to_lowercase()), "{name}");
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} has no test");
    }
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().expect("panels").iter().collect()
}

#[test]
fn the_dashboard_names_what_is_shown_and_leaves_little_out() {
    let dashboard: Value = serde_json::from_str(&file("deploy/grafana/streamgate.json")).expect("JSON");
    let targets = panels(&dashboard).into_iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<String> =
        targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect();
    let mut named = all_exist("the dashboard", &expressions);
    for (_, expression, _) in alerts() {
        named.extend(named_in(&expression));
    }
    // What a number alone says little about, or another panel says better.
    let elsewhere = [
        "process_threads",
        "process_virtual_memory_bytes",
        "streamgate_jwks_fetches_total",
        "streamgate_jwks_keys",
        "streamgate_store_refusing",
    ];
    let known = metrics_in(&everything(Exposition::Classic));
    let unseen: Vec<&String> =
        known.keys().filter(|name| !named.contains(*name) && !elsewhere.contains(&name.as_str())).collect();
    assert!(unseen.is_empty(), "neither the dashboard nor an alert looks at {unseen:?}");
}

#[test]
fn the_dashboard_is_put_together_as_grafana_wants_it() {
    let dashboard: Value = serde_json::from_str(&file("deploy/grafana/streamgate.json")).expect("JSON");
    for key in ["title", "uid", "schemaVersion", "time", "templating", "panels"] {
        assert!(!dashboard[key].is_null(), "{key}");
    }
    assert_eq!(dashboard["id"], Value::Null, "Grafana gives the ID");
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
        .iter()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    assert_eq!(variables, ["datasource", "instance"]);
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeMap::new());
    for panel in panels(&dashboard) {
        let (id, title) = (panel["id"].as_u64().expect("an ID"), panel["title"].as_str().expect("a title"));
        assert!(ids.insert(id), "the ID of `{title}` is there twice");
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        assert!(w > 0 && h > 0 && x + w <= 24, "`{title}` does not fit");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            if let Some(other) = taken.insert(cell, title) {
                panic!("`{title}` lies over `{other}`");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(matches!(panel["type"].as_str(), Some("stat" | "timeseries")), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().expect("targets");
        let refs: BTreeSet<&str> = targets.iter().filter_map(|target| target["refId"].as_str()).collect();
        assert!(!targets.is_empty() && refs.len() == targets.len(), "{title}: {refs:?}");
    }
    let first = &panels(&dashboard)[0];
    assert_eq!((&first["type"], &first["title"]), (&"row".into(), &"Is anything stuck?".into()));
}
