//! The list of inputs, `docs/input-catalogue.md`, and the tests, held to each other in both directions.

use std::collections::{BTreeMap, BTreeSet};

use super::every_case;

const LIST: &str = include_str!("../../../docs/input-catalogue.md");

/// How many inputs there are, and how they are shared out: the letter of a group and its last number.
const GROUPS: [(char, u16); 12] = [
    ('J', 45),
    ('D', 61),
    ('G', 83),
    ('U', 96),
    ('F', 151),
    ('H', 182),
    ('C', 197),
    ('T', 251),
    ('K', 268),
    ('X', 282),
    ('I', 301),
    ('S', 312),
];

/// The ID at the start of a text: `F121` of `F121 100 KB extension`.
fn id(text: &str) -> Option<String> {
    let letter = text.chars().next().filter(char::is_ascii_alphabetic)?.to_ascii_uppercase();
    let digits: String = text[1..].chars().take_while(char::is_ascii_digit).collect();
    let ends = !text[1 + digits.len()..].starts_with(|c: char| c.is_alphanumeric());
    (ends && !digits.is_empty() && GROUPS.iter().any(|(group, _)| *group == letter))
        .then(|| format!("{letter}{digits}"))
}

/// The statuses that a text names.
fn statuses(text: &str) -> BTreeSet<u16> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|word| word.len() == 3)
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Each row of the list: ID, and the statuses that it promises.
fn listed() -> Vec<(String, BTreeSet<u16>)> {
    let list = LIST.split("## Where one might expect something else").next().unwrap_or_default();
    let rows = list.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let id = id(cells.first()?)?;
        assert_eq!(cells.len(), 3, "{id}: {row}");
        Some((id, statuses(cells[2])))
    })
    .collect()
}

/// The IDs in the names of tests of the catalogue.
fn tests_by_name() -> BTreeSet<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/catalogue");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[test]") {
            let name = pair[1].trim_start_matches("fn ").split('(').next().unwrap_or_default();
            found.extend(name.split('_').filter_map(id));
        }
    }
    found
}

#[test]
fn the_list_has_every_id_once_in_order() {
    let expected: Vec<String> = GROUPS
        .iter()
        .scan(1, |next, &(group, last)| {
            let ids: Vec<String> = (*next..=last).map(|number| format!("{group}{number}")).collect();
            *next = last + 1;
            Some(ids)
        })
        .flatten()
        .collect();
    assert_eq!(expected.len(), 312);
    let listed: Vec<String> = listed().into_iter().map(|(id, _)| id).collect();
    assert_eq!(listed, expected);
}

#[test]
fn every_input_is_tried_and_nothing_else_is() {
    let mut cases: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for case in every_case() {
        assert!(names.insert(case.id), "two cases are called {}", case.id);
        let id = id(case.id).unwrap_or_else(|| panic!("{} has no ID", case.id));
        cases.entry(id).or_default().extend(case.expected);
    }
    let by_name = tests_by_name();
    let list: BTreeMap<_, _> = listed().into_iter().collect();
    let mut wrong = Vec::new();
    for (id, promised) in &list {
        match cases.get(id) {
            // What a scenario expects, its own test says.
            _ if by_name.contains(id) => {}
            Some(expected) if expected != promised => wrong.push(format!("{id}: {expected:?}, listed as {promised:?}")),
            Some(_) => {}
            None => wrong.push(format!("{id} is listed, and not tried")),
        }
    }
    let unlisted = cases.keys().chain(&by_name).filter(|id| !list.contains_key(*id));
    wrong.extend(unlisted.map(|id| format!("{id} is tried, and not listed")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
