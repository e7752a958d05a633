//! Where commands print: data to standard output, the rest to standard error. A reader who closes the pipe has seen
//! enough, which is no failure.

use std::io::{self, Write as _};

use serde::Serialize;

use super::Failure;

/// How a command talks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether data is to be JSON.
    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// A line of data.
    pub(super) fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        ignoring_closed_pipe(writeln!(io::stdout().lock(), "{}", text.as_ref()))
    }

    /// Data as one line of JSON.
    pub(super) fn json(self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        self.line(text)
    }

    /// A remark for the person at the terminal.
    pub(super) fn note(self, text: impl AsRef<str>) -> io::Result<()> {
        ignoring_closed_pipe(writeln!(io::stderr().lock(), "{}", text.as_ref()))
    }

    /// Why the command failed. There is nobody left to tell if even this cannot be written.
    pub(super) fn failure(self, failure: &Failure) {
        let Failure { message, problem, .. } = failure;
        let _written = match problem {
            _ if !self.json => writeln!(io::stderr().lock(), "error: {message}"),
            None => writeln!(io::stderr().lock(), "{}", serde_json::json!({ "error": message })),
            Some(problem) => {
                writeln!(io::stderr().lock(), "{}", serde_json::json!({ "error": message, "problem": problem }))
            }
        };
    }
}

fn ignoring_closed_pipe(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Text from outside, safe on a terminal: control characters cannot move the cursor or fake a line.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Rows as aligned columns.
pub(super) fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(columns(&rows), ["a    bb", "ccc  d"]);
    }
}
