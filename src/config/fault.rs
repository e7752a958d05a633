//! What is wrong with a configuration: every fault of every file, each with its place and what to do about it.
//!
//! A fault never holds a secret: it quotes what stands in a configuration file, and secrets never stand there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

/// One thing that is wrong, and where. Faults compare by place: file, line, column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The file, as the operator named it.
    pub file: String,
    /// The line, from 1; 0 where the whole file is meant (it cannot be read).
    pub line: usize,
    /// The column in characters, from 1; 0 where the whole file is meant.
    pub column: usize,
    /// For a document in JSON, which has no lines: the pointer (RFC 6901) to the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is more than the message says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Fault {
    /// A fault of a whole file.
    pub(super) fn of_file(file: impl Into<String>, message: impl Into<String>, hint: &str) -> Self {
        let hint = if hint.is_empty() { None } else { Some(hint.to_owned()) };
        Self { file: file.into(), line: 0, column: 0, pointer: None, message: message.into(), hint }
    }
}

impl fmt::Display for Fault {
    /// `file:line:column: message`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if let Some(pointer) = &self.pointer {
            write!(f, "#{pointer}")?;
        }
        write!(f, ": {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

/// Everything that is wrong with a configuration, by place. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl Faults {
    /// These, in the order in which they are shown; `None` where there are none.
    pub fn of(mut faults: Vec<Fault>) -> Option<Self> {
        faults.sort();
        faults.dedup();
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// The faults in the order in which they are shown.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// One line: `3 faults in 2 files`.
    pub fn summary(&self) -> String {
        let files: BTreeSet<_> = self.0.iter().map(|fault| &fault.file).collect();
        format!("{} in {}", counted(self.0.len(), "fault"), counted(files.len(), "file"))
    }

    /// The faults themselves.
    pub fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    /// Every fault, then the summary.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Faults {}

fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// What one reading found so far. Shared by everything that checks, so that no check stops another.
#[derive(Debug, Default)]
pub(super) struct Report {
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
}

impl Report {
    /// Most faults that are kept: whoever has more finds the rest after mending these.
    pub(super) const MOST: usize = 1_000;

    /// Whether more faults would not be kept.
    pub(super) fn is_full(&self) -> bool {
        self.faults.borrow().len() >= Self::MOST
    }

    /// Notes a fault: the configuration will not be used.
    pub(super) fn fault(&self, fault: Fault) {
        if !self.is_full() {
            self.faults.borrow_mut().push(fault);
        }
    }

    /// Notes a warning: the configuration will be used, and somebody should look at it.
    pub(super) fn warning(&self, warning: Fault) {
        if self.warnings.borrow().len() < Self::MOST {
            self.warnings.borrow_mut().push(warning);
        }
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.faults.borrow().is_empty()
    }

    /// The warnings of a clean reading, or the faults. The same complaint about the same place is made once.
    pub(super) fn outcome(self) -> Result<Vec<Fault>, Faults> {
        let sorted = |found: RefCell<Vec<Fault>>| {
            let mut found = found.into_inner();
            found.sort();
            found.dedup();
            found
        };
        let faults = sorted(self.faults);
        if faults.is_empty() { Ok(sorted(self.warnings)) } else { Err(Faults(faults)) }
    }
}

/// The candidate that somebody who wrote `word` most likely meant, if one is close.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    const CLOSE: f64 = 0.6;
    // Nobody mistypes a name of this length, and comparing takes the product of the two lengths.
    const LONGEST_CHARS: usize = 128;
    if word.len() > LONGEST_CHARS {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(closeness, _)| *closeness >= CLOSE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The hint for a word that is none of the candidates: the nearest one, or all of them.
pub(super) fn meant(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("possible: {}", candidates.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(file: &str, line: usize) -> Fault {
        Fault { file: file.to_owned(), line, column: 3, pointer: None, message: "is wrong".to_owned(), hint: None }
    }

    #[test]
    fn faults_are_shown_by_place_once_each_and_counted() {
        let report = Report::default();
        for (file, line) in [("b.toml", 1), ("a.toml", 10), ("a.toml", 9), ("a.toml", 10)] {
            report.fault(fault(file, line));
        }
        report.fault(Fault::of_file("c.toml", "cannot be read", "check the path"));
        let faults = report.outcome().expect_err("faults");
        assert_eq!(
            faults.to_string(),
            "a.toml:9:3: is wrong\na.toml:10:3: is wrong\nb.toml:1:3: is wrong\n\
             c.toml: cannot be read\n  hint: check the path\n4 faults in 3 files"
        );
    }

    #[test]
    fn faults_serialize_as_a_list() {
        let report = Report::default();
        report.fault(fault("a.toml", 1));
        let json = serde_json::to_string(&report.outcome().expect_err("faults")).expect("json");
        assert_eq!(json, r#"[{"file":"a.toml","line":1,"column":3,"message":"is wrong"}]"#);
    }

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        assert_eq!(meant("lisen", &["listen", "store"]), "did you mean `listen`?");
        assert_eq!(meant("xyz", &["listen", "store"]), "possible: listen, store");
        assert_eq!(nearest(&"x".repeat(1_000_000), ["listen"]), None);
    }
}
