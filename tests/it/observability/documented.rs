//! The table in `docs/operating.md` and what is really shown, compared both ways.

use std::collections::{BTreeMap, BTreeSet};

use streamgate::telemetry::Exposition;

use super::{delivering_to, everything, file, metrics_in, shown};
use crate::lifecycle::Receiver;
use crate::support::gateway::TestGateway;
use crate::support::records::nth_incident;

/// The words in backticks.
fn words(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The metrics of the table, each with what is said to be its labels; `None` where that is said of the line before.
fn documented() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let text = file("docs/operating.md");
    let table = text
        .split_once("| metric | labels | meaning | what to do when |\n")
        .and_then(|(_, rest)| rest.split_once("\n\n"))
        .expect("the table of metrics")
        .0;
    let mut documented = BTreeMap::new();
    for line in table.lines().skip(1) {
        let inside = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).expect("a line of the table");
        let cells: Vec<&str> = inside.split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "name, labels, meaning, what to do: {line}");
        assert!(!cells[2].is_empty(), "a metric without a meaning: {line}");
        for name in words(cells[0]) {
            let labels = (cells[1] != "as above").then(|| words(cells[1]).map(str::to_owned).collect());
            assert!(documented.insert(name.to_owned(), labels).is_none(), "{name} is there twice");
        }
    }
    documented
}

#[test]
fn every_metric_is_in_the_table_and_every_line_of_it_is_a_metric() {
    let (documented, real) = (documented(), metrics_in(&everything(Exposition::Classic)));
    let names = |map: Vec<&String>| map.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(documented.keys().collect()), names(real.keys().collect()));
    for (name, labels) in &real {
        if let Some(said) = &documented[name] {
            assert!(labels.is_subset(said), "{name} has the labels {labels:?}, and the table says {said:?}");
            assert_eq!(labels.is_empty(), said.is_empty(), "{name} has no labels, and the table says {said:?}");
        }
    }
}

#[test]
fn a_running_gateway_shows_nothing_else() {
    let receiver = Receiver::start();
    let gateway = TestGateway::start_with(&delivering_to(&receiver));
    let receipt = gateway.post(nth_incident(1)).text("receiptId");
    gateway.post("{}");
    gateway.wait_for_state(&receipt, "delivered");
    let (documented, real) = (documented(), metrics_in(&shown(&gateway, "").1));
    let unknown: Vec<&String> = real.keys().filter(|name| !documented.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    // What needs an issuer or a certificate is missing here, and nothing else.
    let missing = documented.keys().filter(|name| !real.contains_key(*name));
    let unexpected: Vec<&String> = missing.filter(|name| !name.contains("_jwks_") && !name.contains("_tls_")).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}
