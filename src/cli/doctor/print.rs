//! How findings are shown: for people grouped, aligned and coloured (on a terminal only), for machines as one object.

use std::io::{self, IsTerminal as _};

use serde::Serialize;

use super::finding::{Finding, Group, Severity};
use crate::cli::output::{Output, printable};

/// Longer lines are broken.
const WIDTH: usize = 110;
/// Where the text of a finding begins: behind two blanks, the longest severity and two more.
const INDENT: usize = 11;

/// What was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Heading {
    pub(super) version: &'static str,
    /// Which configuration; `None` where it has faults.
    pub(super) configuration: Option<String>,
    pub(super) data_dir: Option<String>,
}

/// Prints everything.
pub(super) fn print(heading: &Heading, findings: &[Finding], output: &Output) -> io::Result<()> {
    if output.is_json() {
        return output.json(&machine_form(heading, findings));
    }
    let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    output.line(human_form(heading, findings, coloured))
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

fn machine_form(heading: &Heading, findings: &[Finding]) -> serde_json::Value {
    let counts: serde_json::Map<String, serde_json::Value> = Severity::ALL
        .into_iter()
        .map(|severity| (severity.name().to_owned(), count(findings, severity).into()))
        .collect();
    serde_json::json!({
        "ok": count(findings, Severity::Fault) == 0,
        "lookedAt": heading,
        "counts": counts,
        "findings": findings,
    })
}

fn human_form(heading: &Heading, findings: &[Finding], coloured: bool) -> String {
    let mut lines = vec![format!("streamgate {}", heading.version)];
    for (name, value) in [("configuration", &heading.configuration), ("data directory", &heading.data_dir)] {
        if let Some(value) = value {
            lines.push(format!("  {name:<14}  {}", printable(value)));
        }
    }
    for group in Group::ALL {
        let of_group: Vec<_> = findings.iter().filter(|finding| finding.group == group).collect();
        if of_group.is_empty() {
            continue;
        }
        lines.push(String::new());
        lines.push(group.name().to_owned());
        for finding in of_group {
            push_finding(&mut lines, finding, coloured);
        }
    }
    lines.push(String::new());
    lines.push(summary(findings));
    lines.join("\n")
}

fn push_finding(lines: &mut Vec<String>, finding: &Finding, coloured: bool) {
    let Finding { check, severity, subject, found, consequence, mend, .. } = finding;
    let name = check.map_or(String::new(), |check| check.name().to_owned());
    let name = match subject {
        Some(subject) if name.is_empty() => subject.clone(),
        Some(subject) => format!("{name} ({subject})"),
        None => name,
    };
    let text = if name.is_empty() { found.clone() } else { format!("{name}: {found}") };
    let mut first = true;
    for line in text.lines().flat_map(|line| wrapped(&printable(line), WIDTH - INDENT)) {
        let margin = if first { severity_word(*severity, coloured) } else { " ".repeat(INDENT) };
        lines.push(format!("{margin}{line}"));
        first = false;
    }
    let further = [("so", consequence), ("do", mend)];
    for (word, text) in further.iter().filter_map(|(word, text)| text.as_ref().map(|text| (word, text))) {
        for (number, line) in wrapped(&printable(text), WIDTH - INDENT - 4).iter().enumerate() {
            let word = if number == 0 { format!("{word}:") } else { String::new() };
            lines.push(format!("{}{word:<4}{line}", " ".repeat(INDENT)));
        }
    }
}

/// The severity as wide as every other, in its colour.
fn severity_word(severity: Severity, coloured: bool) -> String {
    let word = format!("{:<7}", severity.name());
    if !coloured {
        return format!("  {word}  ");
    }
    let colour = match severity {
        Severity::Ok => "32",
        Severity::Note => "36",
        Severity::Warning => "33",
        Severity::Fault => "1;31",
    };
    format!("  \u{1b}[{colour}m{word}\u{1b}[0m  ")
}

/// The text in lines of at most so many characters, broken at blanks; a longer word stays whole, so that it can be copied.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let leading: String = text.chars().take_while(|c| *c == ' ').collect();
    line.push_str(&leading);
    let mut is_fresh = true;
    for word in text.split_whitespace() {
        if !is_fresh && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    lines.push(line);
    lines
}

fn summary(findings: &[Finding]) -> String {
    let counted = |severity: Severity| {
        let number = count(findings, severity);
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {}{plural}", severity.name())
    };
    let rest = format!("{}, {}", counted(Severity::Warning), counted(Severity::Note));
    match count(findings, Severity::Fault) {
        0 => format!("No fault; {rest}."),
        _ => format!("{}; {rest}.", counted(Severity::Fault)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Check;

    fn heading() -> Heading {
        Heading { version: "1", configuration: Some("a.toml".to_owned()), data_dir: None }
    }

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok(Check::Lock, "nobody holds it"),
            Finding::fault(Check::FileSystem, "tmpfs\u{1b}[2J", "it is lost", "take a disk").about("/tmp"),
            Finding::of_group(Group::Issuers, Severity::Note, ["not looked at", "unknown", "mend the rest first"]),
        ]
    }

    #[test]
    fn people_see_groups_consequences_and_mends() {
        let shown = human_form(&heading(), &findings(), false);
        let expected = "streamgate 1\n  configuration   a.toml\n\ndisk\n  fault    file-system (/tmp): tmpfs\u{fffd}[2J\n           so: it is lost\n           do: take a disk\n\ndata-directory\n  ok       lock: nobody holds it\n\nissuers\n  note     not looked at\n           so: unknown\n           do: mend the rest first\n\n1 fault; 0 warnings, 1 note.";
        assert_eq!(shown, expected);
        assert!(!shown.contains('\u{1b}'), "nothing but our own colours drives a terminal");
        let coloured = human_form(&heading(), &findings(), true);
        assert!(coloured.contains("\u{1b}[1;31mfault  \u{1b}[0m  file-system"), "{coloured}");
    }

    #[test]
    fn machines_see_the_same() {
        let form = machine_form(&heading(), &findings());
        assert_eq!((&form["ok"], &form["counts"]["fault"]), (&false.into(), &1.into()));
        let expected = serde_json::json!({
            "group": "disk", "check": "file-system", "severity": "fault", "subject": "/tmp",
            "found": "tmpfs\u{1b}[2J", "consequence": "it is lost", "mend": "take a disk",
        });
        assert_eq!(form["findings"][1], expected);
    }

    #[test]
    fn long_lines_are_broken_at_blanks() {
        assert_eq!(wrapped("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrapped("a-very-long-word b", 5), ["a-very-long-word", "b"]);
        assert_eq!(wrapped("", 5), [""]);
    }
}
