//! What reviewers and wizards refuse and no schema knows: a package held to the rules, each finding with its place and
//! with what to do.
//!
//! | part | looks at |
//! |---|---|
//! | `definition` | the definition as a whole: version, size, title, description, host, security, references |
//! | `operations` | each operation: name, texts, parameters, answers, the trigger |
//! | `schemas` | each property: label, description, visibility, what OpenAPI 2.0 does not have |
//! | `choices` | what fills drop-downs |
//! | `companions` | the other files: properties, settings, icon, readme |
//!
//! The rules come from the templates, the pull request template and the reviewers' remarks in Microsoft's repository of
//! connectors, and from the documentation of the extensions. What cannot be known here, such as whether a host answers,
//! is not asked.

mod choices;
mod companions;
mod definition;
mod operations;
mod schemas;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use serde::Serialize;

use super::json::Json;
use super::package::{DEFINITION_FILE, ENTRA_PROPERTIES_FILE, ICON_FILE, PROPERTIES_FILE, README_FILE, SETTINGS_FILE};

/// One thing that is wrong with a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule, by a stable name.
    pub rule: &'static str,
    /// The file.
    pub file: &'static str,
    /// Where in it (RFC 6901); empty for the file as a whole.
    pub place: String,
    /// What is wrong.
    pub wrong: String,
    /// How to mend it.
    pub mend: String,
}

/// Looks at the package in a folder.
///
/// # Errors
/// The folder or a file in it cannot be read. A file that is not there is a finding.
pub fn check(folder: &Path) -> io::Result<Vec<Finding>> {
    std::fs::read_dir(folder)?;
    let mut report = Report { file: DEFINITION_FILE, findings: Vec::new() };
    let mut definition = None;
    if let Some(bytes) = read(folder, DEFINITION_FILE)? {
        definition = report.json(&bytes);
        definition::size(&bytes, &mut report);
    } else {
        report.missing("Export the package again.");
    }
    if let Some(definition) = &definition {
        definition::check(definition, &mut report);
        operations::check(definition, &mut report);
        schemas::check(definition, &mut report);
        choices::check(definition, &mut report);
    }
    for file in [PROPERTIES_FILE, ENTRA_PROPERTIES_FILE] {
        report.file = file;
        match read(folder, file)? {
            Some(bytes) => {
                if let Some(properties) = report.json(&bytes) {
                    companions::properties(&properties, definition.as_ref(), &mut report);
                }
            }
            None if file == PROPERTIES_FILE => report.missing("Export the package again."),
            None => {}
        }
    }
    report.file = SETTINGS_FILE;
    if let Some(settings) = read(folder, SETTINGS_FILE)?.and_then(|bytes| report.json(&bytes)) {
        companions::settings(&settings, folder, &mut report);
    }
    report.file = ICON_FILE;
    match read(folder, ICON_FILE)? {
        Some(bytes) => companions::icon(&bytes, &mut report),
        None => report.missing("Add a PNG of 230 by 230 pixels."),
    }
    report.file = README_FILE;
    match read(folder, README_FILE)? {
        Some(bytes) => companions::readme(&String::from_utf8_lossy(&bytes), definition.as_ref(), &mut report),
        None => report.missing("Add a readme after Microsoft's template."),
    }
    Ok(report.findings)
}

fn read(folder: &Path, file: &str) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(folder.join(file)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(io::Error::new(fault.kind(), format!("{file}: {fault}"))),
    }
}

/// What was found so far, and in which file is looked.
struct Report {
    file: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding. What two operations share is found once.
    fn add(&mut self, rule: &'static str, place: &str, wrong: impl Into<String>, mend: impl Into<String>) {
        let (wrong, mend) = (wrong.into(), mend.into());
        let finding = Finding { rule, file: self.file, place: place.to_owned(), wrong, mend };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn missing(&mut self, mend: &str) {
        self.add("file", "", "the file is not there", mend);
    }

    /// Reads JSON, and looks for members that stand twice.
    fn json(&mut self, bytes: &[u8]) -> Option<Json> {
        let text = std::str::from_utf8(bytes).ok().map(|text| text.trim_start_matches('\u{feff}'));
        let read = text.ok_or_else(|| "it is not UTF-8".to_owned()).and_then(|text| {
            let tree = Json::parse(text).map_err(|fault| fault.to_string())?;
            if tree.is_object() { Ok(tree) } else { Err("it is no JSON object".to_owned()) }
        });
        match read {
            Ok(tree) => {
                self.twice("", &tree);
                Some(tree)
            }
            Err(fault) => {
                self.add("json", "", format!("the file is not JSON: {fault}"), "Correct it at that place.");
                None
            }
        }
    }

    fn twice(&mut self, place: &str, tree: &Json) {
        for (at, (name, value)) in tree.members().iter().enumerate() {
            let inside = below(place, name);
            if tree.members().iter().skip(at + 1).any(|(it, _)| it == name) {
                let mend = "Keep one of them: readers take either.";
                self.add("duplicate-member", &inside, format!("`{name}` stands here twice"), mend);
            }
            self.twice(&inside, value);
        }
        for (at, item) in tree.items().iter().enumerate() {
            self.twice(&below(place, &at.to_string()), item);
        }
    }
}

/// The pointer to a member or an item of what another points to.
fn below(place: &str, name: &str) -> String {
    format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The methods that an operation may have.
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// An operation with the place where it stands.
struct Placed<'a> {
    place: String,
    operation: &'a Json,
}

/// Every operation of a definition.
fn operations_of(definition: &Json) -> Vec<Placed<'_>> {
    let mut all = Vec::new();
    for (path, item) in definition.get("paths").map(Json::members).unwrap_or_default() {
        let place = below("/paths", path);
        for (method, operation) in item.members().iter().filter(|(name, _)| METHODS.contains(&name.as_str())) {
            all.push(Placed { place: below(&place, method), operation });
        }
    }
    all
}

/// The parameters of an operation.
fn parameters_of(operation: &Json) -> &[Json] {
    operation.get("parameters").map(Json::items).unwrap_or_default()
}

/// The schema behind a reference; the schema itself where it is none. `None` where the reference leads nowhere.
fn resolved<'a>(definition: &'a Json, schema: &'a Json) -> Option<&'a Json> {
    let mut schema = schema;
    // A reference to a reference is legal; a ring of them is not, and ends here.
    for _ in 0..8 {
        let Some(reference) = schema.text_of("$ref") else { return Some(schema) };
        schema = definition.get("definitions")?.get(reference.strip_prefix("#/definitions/")?)?;
    }
    None
}
