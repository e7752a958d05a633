//! The configuration under fuzzing: whatever stands in the files, checking it ends, says the same twice, and complains of
//! places that are there. What is taken can be written as a document and read back.

use super::fault::{Faults, Report};
use super::load::{Outside, Overrides};
use super::raw::Table;
use super::source::SourceFile;
use super::stored::Stored;
use super::{Fault, check, keys, view};
use crate::domain::catalog::Organization;
use crate::domain::ids::{Guid, LogicalName};
use crate::domain::record::{RecordDetails, each_member};
use crate::domain::rules::{Subject, evaluate};

/// The files of `rules`, but for the rules.
const MAIN: &str = "[[api_keys]]\nname = \"a\"\nsha256 = \"5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5\"\npermissions = [\"records.write\"]\norganizations = \"*\"\n";
const ORGANIZATION: &str = r#"
[organization]
id = "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10"
unique_name = "contoso"
[[queues]]
name = "Default queue"
default = true
[[work_streams]]
id = "7c2e9d54-41a8-ea11-a812-000d3a579c31"
name = "Cases"
context_variables = [
    { display_name = "Risk", kind = "number", column = "risk" },
    { display_name = "Site", label = "site" },
]
"#;

/// What checking came to.
struct Judged {
    organizations: Vec<Organization>,
    outcome: Result<Vec<Fault>, Faults>,
    /// The organizations that are the same when they are read back from a document.
    read_back: Vec<Option<Organization>>,
}

/// Checks `streamgate.toml` and the file of one organization, as a start does.
fn judged(main: &[u8], organization: &[u8]) -> Judged {
    let report = Report::default();
    let file = |name: &str, bytes: &[u8]| SourceFile::from_bytes(name.to_owned(), bytes.to_vec(), &report);
    let files = [file("streamgate.toml", main), file("organizations/it.toml", organization)];
    let [main_file, organization_file] = &files;
    let unread = SourceFile::new("streamgate.toml", "");
    let roots = [main_file, organization_file].map(|file| file.as_ref().and_then(|file| file.parse(&report)));
    let [main_root, organization_root] = &roots;
    let nothing = toml::de::DeTable::new();
    let at = main_file.as_ref().unwrap_or(&unread).at(0, &report);
    let main = Table::open(main_root.as_ref().map_or(&nothing, |root| root.get_ref()), at, keys::PROCESS);
    let of_organization = organization_file.as_ref().zip(organization_root.as_ref());
    let organizations = of_organization
        .map(|(file, root)| Table::open(root.get_ref(), file.at(0, &report), keys::ORGANIZATION_FILE))
        .into_iter()
        .collect();
    // Secrets that are to be made are made in memory.
    let overrides = Overrides { read_only: true, ..Overrides::default() };
    let outside = Outside { environment: &|_| None, stored: &|_| Ok(Stored::default()) };
    let input = check::Input {
        main,
        main_was_read: main_root.is_some(),
        organizations,
        all_were_read: organization_root.is_some(),
        overrides: &overrides,
        outside: &outside,
    };
    let checked = check::check(&input);
    let surroundings = &checked.layers.surroundings;
    let back = |organization: &Organization| {
        let (report, document) = (Report::default(), view::document(organization));
        let file = SourceFile::of_json("document", &document);
        let root = file.json_table(&document);
        let table = Table::open(&root, file.at(0, &report), keys::ORGANIZATION_FILE);
        check::organization_alone(&table, surroundings)
    };
    let read_back = checked.organizations.iter().map(back).collect();
    drop(input);
    Judged { organizations: checked.organizations, read_back, outcome: report.outcome() }
}

/// Both files.
pub(crate) fn configuration(main: &[u8], organization: &[u8]) {
    let (first, second) = (judged(main, organization), judged(main, organization));
    assert_eq!(first.outcome, second.outcome, "twice the same files, and not the same faults");
    if first.outcome.is_ok() {
        let wanted: Vec<_> = first.organizations.into_iter().map(Some).collect();
        assert_eq!(first.read_back, wanted, "what was taken does not read back");
        return;
    }
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    let most = lines(main).max(lines(organization));
    for fault in first.outcome.err().iter().flat_map(Faults::iter) {
        assert!(!fault.message.is_empty() && fault.line <= most, "{fault}");
    }
}

/// Rules of a work stream, and the details of a record.
pub(crate) fn rules(rules: &[u8], details: &[u8]) {
    let organization = [ORGANIZATION.as_bytes(), rules].concat();
    configuration(MAIN.as_bytes(), &organization);
    let judged = judged(MAIN.as_bytes(), &organization);
    let is_object = std::str::from_utf8(details).is_ok_and(|text| each_member(text, |_, _| {}).is_ok());
    if judged.outcome.is_err() || !is_object {
        return;
    }
    let (Ok(name), details) = (LogicalName::parse("incident"), RecordDetails::stored(details.to_vec())) else { return };
    let subject = Subject {
        entity_logical_name: &name,
        entity_set_name: &name,
        record_id: Guid::from_bytes([1; 16]).into(),
        relationship_name: &name,
        details: &details,
    };
    for stream in judged.organizations.iter().flat_map(|organization| organization.work_streams.values()) {
        let none = crate::domain::rules::RuleSet::default();
        let (first, second) = (evaluate(&none, &stream.rules, &subject), evaluate(&none, &stream.rules, &subject));
        assert_eq!(first.matched, second.matched);
        assert_eq!(first.trace, second.trace);
        let active = stream.rules.rules().iter().filter(|rule| rule.state.is_active());
        let unconditional = active.clone().any(|rule| rule.when.is_none());
        assert!(first.matched.is_some() || !unconditional, "a rule without a condition matches every record");
    }
}
