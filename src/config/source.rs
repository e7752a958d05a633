//! One configuration file as text, and the places in it: every fault can say its line. Or a document in JSON, whose
//! faults say a pointer.
//!
//! Any bytes may stand in a file. What is no UTF-8, no TOML, too large or nested without reason ends as a fault, never
//! as a panic and never as a stack that overflows.

use std::cell::OnceCell;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use super::fault::{Fault, Report};
use super::json::{self, Pointers};

/// Largest configuration file, in bytes. Some seventy thousand entity configurations fit; a disk image does not.
pub(super) const LARGEST_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// A configuration file, read.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// The file, as the operator named it.
    pub(super) name: String,
    /// What stands in it.
    pub(super) text: String,
    line_starts: OnceCell<Vec<usize>>,
    /// For a document in JSON: where its values are.
    pointers: OnceCell<Pointers>,
}

impl SourceFile {
    /// A file of this name and content.
    pub(super) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), line_starts: OnceCell::new(), pointers: OnceCell::new() }
    }

    /// A document in JSON, whose table [`Self::json_table`] gives.
    pub(super) fn of_json(name: impl Into<String>, document: &serde_json::Map<String, serde_json::Value>) -> Self {
        Self::new(name, json::digits(document))
    }

    /// The members of the document that this file was made of.
    pub(super) fn json_table<'a>(&'a self, document: &'a serde_json::Map<String, serde_json::Value>) -> DeTable<'a> {
        let (table, pointers) = json::table(document, &self.text);
        // Asked again, it would find the same.
        let _first = self.pointers.set(pointers);
        table
    }

    /// Reads a file; what is wrong with it goes into the report.
    pub(super) fn read(path: &Path, report: &Report) -> Option<Self> {
        let name = path.display().to_string();
        let unreadable = |message: String| {
            report.fault(Fault::of_file(name.clone(), message, "check that the file is there and may be read"));
        };
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                unreadable(format!("cannot be read: {error}"));
                return None;
            }
        };
        Self::from_bytes(name, bytes, report)
    }

    /// A file of these bytes, if they are text of a bearable size.
    pub(super) fn from_bytes(name: String, bytes: Vec<u8>, report: &Report) -> Option<Self> {
        if bytes.len() as u64 > LARGEST_FILE_BYTES {
            let message = format!("is larger than {LARGEST_FILE_BYTES} bytes");
            report.fault(Fault::of_file(name, message, "split it: one file per organization"));
            return None;
        }
        match String::from_utf8(bytes) {
            Ok(text) => Some(Self::new(name, text)),
            Err(error) => {
                let offset = error.utf8_error().valid_up_to();
                let file = Self::new(name, String::from_utf8_lossy(error.as_bytes()));
                file.at(offset, report).hinted("is not UTF-8 text from here on", "save the file as UTF-8");
                None
            }
        }
    }

    /// The place of a byte of the text.
    pub(super) const fn at<'a>(&'a self, offset: usize, report: &'a Report) -> Place<'a> {
        Place { file: self, report, offset }
    }

    /// The tables of the file; `None`, and the faults in the report, when it is not TOML.
    pub(super) fn parse<'a>(&'a self, report: &'a Report) -> Option<Spanned<DeTable<'a>>> {
        if let Some(offset) = too_many_dots(&self.text) {
            self.at(offset, report).fault("a key has more parts than any that is known");
            return None;
        }
        let (root, errors) = DeTable::parse_recoverable(&self.text);
        if errors.is_empty() {
            return Some(root);
        }
        // The parser goes on after a fault, and then often stumbles over the rest of the same line.
        let mut faulty_lines = std::collections::BTreeSet::new();
        for error in errors {
            let offset = error.span().map_or(self.text.len(), |span| span.start);
            if faulty_lines.insert(self.position(offset).0) {
                self.at(offset, report).fault(format!("is not valid TOML: {}", error.message()));
            }
        }
        None
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let starts = self.line_starts.get_or_init(|| {
            let after_breaks = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(after_breaks).collect()
        });
        let line = starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| starts.get(index)).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
        // A byte that continues a character is no character of its own.
        let column = before.iter().filter(|byte| (**byte & 0xc0) != 0x80).count() + 1;
        (line, column)
    }
}

/// A place in a file, and where to complain about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    file: &'a SourceFile,
    report: &'a Report,
    offset: usize,
}

impl<'a> Place<'a> {
    /// Another place in the same file.
    pub(super) const fn moved_to(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// Notes a fault here.
    pub(super) fn fault(self, message: impl Into<String>) {
        if self.report.is_full() {
            return;
        }
        self.report.fault(self.complaint(message.into(), None));
    }

    /// Notes a fault here, and what to do about it.
    pub(super) fn hinted(self, message: impl Into<String>, hint: impl Into<String>) {
        if self.report.is_full() {
            return;
        }
        self.report.fault(self.complaint(message.into(), Some(hint.into())));
    }

    /// Notes a warning here.
    pub(super) fn warning(self, message: impl Into<String>, hint: impl Into<String>) {
        self.report.warning(self.complaint(message.into(), Some(hint.into())));
    }

    /// The place as `file:line`, for faults elsewhere that refer to it.
    pub(super) fn as_reference(self) -> String {
        match self.file.pointers.get() {
            Some(pointers) => format!("{}#{}", self.file.name, pointers.pointer(self.offset)),
            None => format!("{}:{}", self.file.name, self.file.position(self.offset).0),
        }
    }

    /// A key as this file writes it.
    pub(super) fn key(self, word: &str) -> String {
        let member = self.file.pointers.get().and_then(|pointers| pointers.member(self.offset));
        match member {
            // In JSON's quotes, so that it is not taken for the key that it looks like.
            Some(member) if member.contains('_') => format!("\"{member}\""),
            Some(member) => member,
            None => word.to_owned(),
        }
    }

    /// The file, as the operator named it.
    pub(super) fn file_name(self) -> &'a str {
        &self.file.name
    }

    /// The report that this place complains to.
    pub(super) const fn report(self) -> &'a Report {
        self.report
    }

    fn complaint(self, message: String, hint: Option<String>) -> Fault {
        if let Some(pointers) = self.file.pointers.get() {
            return Fault {
                pointer: Some(pointers.pointer(self.offset)),
                hint: hint.as_deref().map(json::hint_in_json_words),
                ..Fault::of_file(&*self.file.name, json::in_json_words(&message), "")
            };
        }
        let (line, column) = self.file.position(self.offset);
        Fault { file: self.file.name.clone(), line, column, pointer: None, message, hint }
    }
}

/// The content of a regular file, one byte more than allowed at most.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    // Asked first: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where a key stands that has more dotted parts than any known key.
///
/// Each part becomes a table in a table, and the parser bounds the nesting of brackets but not of dots: a line of a
/// million dots would overflow the stack when the tables are dropped.
fn too_many_dots(text: &str) -> Option<usize> {
    // The deepest key is that of a condition within eight groups of an entity configuration's rule.
    const MOST_DOTS: usize = 12;
    let bytes = text.as_bytes();
    let mut dots = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = end_of_string(bytes, at);
                continue;
            }
            b'#' => {
                at += bytes.iter().skip(at).position(|byte| *byte == b'\n').unwrap_or(bytes.len());
                continue;
            }
            b'.' => dots += 1,
            b'\n' | b'=' | b',' | b'[' | b']' | b'{' | b'}' => dots = 0,
            _ => {}
        }
        if dots > MOST_DOTS {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// The offset after the string that opens at `start`: after its closing quote, or at the end of its line.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let quote = bytes.get(start).copied().unwrap_or(b'"');
    let quotes_at = |at: usize| bytes.iter().skip(at).take_while(|byte| **byte == quote).count();
    let multi_line = quotes_at(start) >= 3;
    let mut at = start + if multi_line { 3 } else { 1 };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !multi_line => return at,
            byte if *byte == quote && !multi_line => return at + 1,
            // Up to two quotes may stand right before the three that close.
            byte if *byte == quote && quotes_at(at) >= 3 => return at + quotes_at(at).min(5),
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<(usize, usize, String)> {
        let report = Report::default();
        let parsed = SourceFile::new("f", text).parse(&report).is_some();
        let faults = report.outcome().map(|_| Vec::new()).unwrap_or_else(super::super::fault::Faults::into_vec);
        assert_eq!(parsed, faults.is_empty(), "{text}");
        faults.into_iter().map(|fault| (fault.line, fault.column, fault.message)).collect()
    }

    #[test]
    fn columns_count_characters() {
        let file = SourceFile::new("f", "å = 1\nøø = 2\n");
        assert_eq!(file.position(0), (1, 1));
        assert_eq!(file.position(3), (1, 3));
        assert_eq!(file.position(file.text.find('2').expect("there")), (2, 6));
        assert_eq!(file.position(file.text.len()), (3, 1));
        assert_eq!(file.position(usize::MAX), (3, 1));
    }

    #[test]
    fn syntax_faults_come_all_at_once_one_a_line() {
        let found = places("a = \nb = 1\nb = 2\nc = [1,,]\n");
        let lines: Vec<_> = found.iter().map(|(line, ..)| *line).collect();
        assert_eq!(lines, [1, 3, 4], "{found:?}");
        assert!(found.iter().all(|(.., message)| message.contains("not valid TOML")));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_at_their_place() {
        let report = Report::default();
        assert!(SourceFile::from_bytes("f".to_owned(), b"a = 1\nb = \"\xff\"\n".to_vec(), &report).is_none());
        let faults = report.outcome().expect_err("faults").into_vec();
        assert_eq!((faults[0].line, faults[0].column), (2, 6));
    }

    #[test]
    fn keys_without_end_are_refused_before_they_are_tables() {
        for text in [format!("a{} = 1", ".a".repeat(1_000_000)), format!("[a{}]", ".a".repeat(1_000_000))] {
            assert_eq!(places(&text).len(), 1);
        }
        let hidden = format!("x = \"\"\"\n' \"\"\"\"\ny = {{ a{} = 1 }}", ".a".repeat(1_000_000));
        assert_eq!(places(&hidden).len(), 1);
        let in_strings = "x = [\"127.0.0.1.1.1.1.1.1.1.1.1.1\", '1.1.1.1.1.1.1.1.1.1.1'] # 1.1.1.1.1.1.1.1.1.1.1.1\n";
        assert_eq!(places(in_strings), []);
    }

    #[test]
    fn the_deepest_nesting_that_is_read_is_dropped_without_harm() {
        let text = format!("a = {}1{}", "{ a.a.a.a.a.a.a.a.a = ".repeat(80), " }".repeat(80));
        assert_eq!(places(&text), []);
    }

    #[test]
    fn a_file_that_is_not_regular_is_refused() {
        let report = Report::default();
        assert!(SourceFile::read(&std::env::temp_dir(), &report).is_none());
        assert!(report.outcome().expect_err("faults").to_string().contains("not a regular file"));
    }
}
