//! Routing rules in files: every fault, every warning, and how values are read.

use super::*;
use crate::domain::catalog::WorkStream;
use crate::domain::rules::{ColumnPath, Mapping};

/// An organization with two queues and a work stream with four context variables. The rest goes on on line 29.
const BEFORE: &str = r#"[organization]
id = "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10"
unique_name = "contoso"
[[queues]]
name = "Default queue"
default = true
[[queues]]
name = "Escalations"
priority = 7
[[work_streams]]
id = "7c2e9d54-41a8-ea11-a812-000d3a579c31"
name = "Cases"
[[work_streams.context_variables]]
display_name = "Risk"
kind = "number"
column = "new_risk"
[[work_streams.context_variables]]
display_name = "Site"
column = "site/name"
[[work_streams.context_variables]]
display_name = "Off"
column = "x"
state = "inactive"
[[work_streams.context_variables]]
display_name = "Unmapped"

[[work_streams.rules]]
name = "One"
"#;

fn file(rest: &str) -> Files {
    Files::new("", &[("contoso.toml", &format!("{BEFORE}{rest}"))])
}

/// A rule with this condition.
fn condition(when: &str) -> Files {
    file(&format!("when = {when}\nqueue = \"Escalations\"\n"))
}

fn warnings(files: &Files) -> Vec<String> {
    files.load().expect("no fault").warnings.iter().map(|warning| files.short(warning)).collect()
}

#[test]
fn every_fault_of_a_condition_has_its_place() {
    let cases = [
        ("{ column = \"a\", operator = \"is\", value = 1 }", "`operator` cannot be `is`"),
        ("{ colum = \"a\", operator = \"equals\", value = 1 }", "unknown key `colum`"),
        ("{ column = \"a\", value = 1 }", "`operator` is missing"),
        ("{ column = \"a\", operator = \"equals\" }", "`value` is missing"),
        ("{ column = \"a\", operator = \"is-empty\", value = 1 }", "`is-empty` takes no `value`"),
        ("{ column = \"a\", operator = \"equals\", value = [1] }", "takes one `value`, not a list"),
        ("{ column = \"a\", operator = \"is-one-of\", value = 1 }", "takes a list of values"),
        ("{ column = \"a\", operator = \"is-one-of\", value = [] }", "must be a list of 1 to 500 values"),
        ("{ column = \"a\", operator = \"is-one-of\", value = [[]] }", "not a list"),
        ("{ column = \"a\", operator = \"contains\", value = 1 }", "`value` must be text for this operator"),
        ("{ column = \"a\", operator = \"ends-with\", value = true }", "`value` must be text for this operator"),
        ("{ column = \"a\", operator = \"less-than\", value = \"soon\" }", "must be a number or a date"),
        ("{ column = \"a\", operator = \"less-than\", value = true }", "must be a number or a date"),
        ("{ column = \"a\", operator = \"equals\", value = \"\" }", "`value` is an empty text"),
        ("{ column = \"a\", operator = \"equals\", value = {} }", "`value` must be text, a number"),
        ("{ column = \"a\", operator = \"equals\", value = nan }", "`nan` is not a number"),
        ("{ column = \"a\", operator = \"equals\", value = 1e400 }", "has more digits than can be kept"),
        ("{ column = \"a\", operator = \"equals\", value = 18446744073709551616 }", "has more digits"),
        ("{ column = \"a\", operator = \"equals\", value = 07:30:00 }", "not a time of day"),
        ("{ column = \"a//b\", operator = \"is-empty\" }", "has an empty name in it"),
        ("{ column = \"a/b/c/d/e\", operator = \"is-empty\" }", "more than 4 names"),
        ("{ column = 1, operator = \"is-empty\" }", "`column` must be a string"),
        ("{ label = \"a\", operator = \"equals\", value = 1 }", "must be text, as what it is compared with"),
        ("{ record = \"recordid\", operator = \"is-empty\" }", "`record` cannot be `recordid`"),
        ("{ record = \"recordId\", operator = \"equals\", value = 1 }", "must be text, as what"),
        ("{ variable = \"rsk\", operator = \"is-empty\" }", "there is no context variable `rsk`"),
        ("{ variable = \"risk\", operator = \"equals\", value = \"1\" }", "must be a number, as what"),
        ("{ variable = \"risk\", operator = \"is-one-of\", value = [1, \"1\"] }", "must be a number, as what"),
        ("{ variable = \"risk\", operator = \"contains\", value = \"1\" }", "must be a number, as what"),
        ("{ variable = \"site\", operator = \"greater-than\", value = 1 }", "must be text, as what"),
        ("{ column = \"a\", label = \"a\", operator = \"is-empty\" }", "cannot have `column` and `label` at once"),
        ("{ column = \"a\", any = [{ column = \"a\", operator = \"is-empty\" }] }", "`any` and `column` at once"),
        ("{ any = [], all = [] }", "`all` and `any` at once"),
        ("{ operator = \"is-empty\" }", "does not say what it looks at"),
        ("{}", "does not say what it looks at"),
        ("{ any = [{}] }", "does not say what it looks at"),
        ("{ all = [] }", "`all` is empty"),
        ("{ any = { column = \"a\", operator = \"is-empty\" } }", "`any` must be a list of tables"),
        ("{ any = [1] }", "`any` must be a table"),
        ("{ any = [{ column = \"a\", operator = \"is-empty\" }], value = 1 }", "`value` cannot stand beside `any`"),
        ("[]", "`when` must be a table"),
        ("true", "`when` must be a table"),
    ];
    for (when, part) in cases {
        let found = condition(when).faults();
        let [fault] = found.as_slice() else { panic!("{when}\nnot one fault but {found:#?}") };
        assert!(fault.starts_with("organizations/contoso.toml:29: ") && fault.contains(part), "{when}\n{fault}");
    }
}

#[test]
fn every_fault_of_a_rule_has_its_place() {
    for (rest, line, part) in [
        ("", 27, "`queue` is missing in [[work_streams.rules]]"),
        ("queue = \"Escalation\"", 29, "there is no queue `Escalation`"),
        ("queue = \"\"", 29, "must be 1 to 64 characters"),
        ("queue = \"Escalations\"\nstate = \"off\"", 30, "`state` cannot be `off`"),
        ("queue = \"Escalations\"\nwhere = 1", 30, "unknown key `where` in [[work_streams.rules]]"),
        (
            "queue = \"Escalations\"\n[[work_streams.rules]]\nname = \"One\"\nqueue = \"Escalations\"",
            31,
            "`One` is there twice",
        ),
        (
            "queue = \"Escalations\"\n[[work_streams.rules]]\nname = \" \"\nqueue = \"Escalations\"",
            31,
            "`name` is empty",
        ),
        ("queue = \"Escalations\"\n[[work_streams.rules]]\nqueue = \"Escalations\"", 30, "`name` is missing"),
    ] {
        let found = file(rest).faults();
        let [fault] = found.as_slice() else { panic!("{rest}\nnot one fault but {found:#?}") };
        assert!(fault.starts_with(&format!("organizations/contoso.toml:{line}: ")), "{rest}\n{fault}");
        assert!(fault.contains(part), "{rest}\n{fault}");
    }
    let long = format!(
        "queue = \"Escalations\"\n[[work_streams.rules]]\nname = \"{}\"\nqueue = \"Escalations\"",
        "n".repeat(101)
    );
    assert!(file(&long).faults()[0].contains("longer than 100 characters"));
}

#[test]
fn hints_name_what_was_meant() {
    for (when, hint) in [
        ("{ column = \"a\", operator = \"is_one_of\", value = [1] }", "did you mean `is-one-of`?"),
        ("{ variable = \"rissk\", operator = \"is-empty\" }", "did you mean `risk`?"),
        ("{ recrod = \"recordId\", operator = \"is-empty\" }", "did you mean `record`?"),
        ("{ record = \"RecordID\", operator = \"is-empty\" }", "did you mean `recordId`?"),
    ] {
        let faults = condition(when).load().expect_err("faults");
        assert!(faults.iter().any(|fault| fault.hint.as_deref() == Some(hint)), "{when}: {faults}");
    }
    let faults = file("queue = \"escalation\"").load().expect_err("faults");
    assert!(faults.to_string().contains("did you mean `Escalations`?"), "{faults}");
}

#[test]
fn faults_come_all_at_once_and_without_echoes() {
    let bad = "queue = \"x\"\nwhen = { any = [ { column = \"\", operator = \"is\" }, { label = \"a\", operator = \"equals\", value = 1 } ] }\n\
               [[work_streams.rules]]\nqueue = \"y\"\nwhen = {}";
    assert_eq!(file(bad).faults().len(), 7);

    let without_queues = BEFORE.replace("default = true", "default = false");
    let text = format!("{without_queues}queue = \"whatever\"");
    assert_eq!(Files::new("", &[("contoso.toml", &text)]).faults().len(), 1, "the queues have the fault");
    let without_variable = BEFORE.replace("display_name = \"Risk\"", "");
    let text =
        format!("{without_variable}queue = \"Escalations\"\nwhen = {{ variable = \"risk\", operator = \"is-empty\" }}");
    assert_eq!(Files::new("", &[("contoso.toml", &text)]).faults().len(), 1, "the context variable has the fault");
}

#[test]
fn lists_groups_and_conditions_are_bounded() {
    let test = "{ column = \"a\", operator = \"is-empty\" }";
    let nested = |levels: usize| format!("{}{test}{}", "{ all = [ ".repeat(levels), " ] }".repeat(levels));
    assert_eq!(condition(&nested(8)).faults(), [""; 0]);
    assert!(condition(&nested(9)).faults()[0].contains("nested deeper than 8 levels"));
    let many = |count: usize| format!("{{ any = [ {} ] }}", [test].repeat(count).join(", "));
    assert_eq!(condition(&many(100)).faults(), [""; 0]);
    assert!(condition(&many(101)).faults()[0].contains("101 comparisons, more than 100"));
    let rules = |count: usize| {
        let rule = |n| format!("[[work_streams.rules]]\nname = \"{n}\"\nqueue = \"Escalations\"\nwhen = {test}\n");
        format!("queue = \"Escalations\"\nwhen = {test}\n{}", (1..count).map(rule).collect::<String>())
    };
    assert_eq!(file(&rules(200)).faults(), [""; 0]);
    assert!(file(&rules(201)).faults()[0].contains("201 rules, more than 200"));
}

#[test]
fn what_works_and_should_be_looked_at_is_a_warning() {
    let tail = "[[work_streams.rules]]\nname = \"Two\"\nqueue = \"Escalations\"\n";
    let two = format!("queue = \"Escalations\"\n{tail}");
    let expected = "organizations/contoso.toml:30: rule `Two` is never reached".to_owned();
    assert_eq!(warnings(&file(&two)), [expected]);
    assert_eq!(warnings(&file(&format!("{two}state = \"inactive\""))), [""; 0]);
    assert_eq!(warnings(&file(&format!("state = \"inactive\"\n{two}"))), [""; 0]);

    let uses = |name: &str| format!("{{ variable = \"{name}\", operator = \"is-empty\" }}");
    assert_eq!(warnings(&condition(&uses("risk"))), [""; 0]);
    for (name, part) in [("off", "`off` is inactive"), ("unmapped", "`unmapped` has no value")] {
        let found = warnings(&condition(&uses(name)));
        let [warning] = found.as_slice() else { panic!("{name}: {found:#?}") };
        assert!(warning.contains(part), "{warning}");
    }
}

#[test]
fn context_variables_say_where_their_value_is() {
    let with = |lines: &str| {
        let text = format!(
            "{CONTOSO}[[work_streams]]\nid = \"7c2e9d54-41a8-ea11-a812-000d3a579c31\"\nname = \"Cases\"\n\
                            [[work_streams.context_variables]]\ndisplay_name = \"Risk\"\n{lines}"
        );
        Files::new("", &[("contoso.toml", &text)])
    };
    for (lines, part) in [
        ("column = \"a\"\nlabel = \"a\"", "`column` and `label` are both set"),
        ("kind = \"number\"\nlabel = \"a\"", "a label is text"),
        ("column = \"/\"", "has an empty name in it"),
        ("column = 1", "`column` must be a string"),
    ] {
        let found = with(lines).faults();
        assert!(found.len() == 1 && found[0].contains(part), "{lines}: {found:#?}");
    }
    let mapping = |lines: &str| only_stream(&with(lines)).context_variables[0].mapping.clone();
    let path = |text: &str| ColumnPath::parse(text).expect("a path");
    assert_eq!(mapping(""), None);
    assert_eq!(mapping("column = \"a/b\""), Some(Mapping::Column(path("a/b"))));
    assert_eq!(mapping("label = \"a\""), Some(Mapping::Label(path("a"))));
}

fn only_stream(files: &Files) -> WorkStream {
    let config = files.load().unwrap_or_else(|faults| panic!("{faults}"));
    let organization = config.effective.catalog.organizations().next().expect("an organization");
    organization.work_streams.values().next().expect("a work stream").clone()
}

#[test]
fn dates_are_text_and_numbers_are_decimal_however_they_are_written() {
    let value = |text: &str| {
        let operator = if text.starts_with('[') { "is-one-of" } else { "equals" };
        let stream =
            only_stream(&condition(&format!("{{ column = \"a\", operator = \"{operator}\", value = {text} }}")));
        serde_json::to_value(&stream.rules).expect("JSON")[0]["when"]["value"].to_string()
    };
    for (given, kept) in [
        ("2022-04-15", "\"2022-04-15\""),
        ("2022-04-15 10:00:00.5+02:00", "\"2022-04-15T10:00:00.5+02:00\""),
        ("1_000", "1000"),
        ("0xff", "255"),
        ("+1.50", "1.5"),
        ("-0.0", "0"),
        ("98.60000000000001", "98.60000000000001"),
        ("18446744073709551615", "18446744073709551615"),
        ("[1, \"a\", true, 2022-04-15]", "[1,\"a\",true,\"2022-04-15\"]"),
    ] {
        assert_eq!(value(given), kept);
    }
}
