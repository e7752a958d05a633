//! Rules over the sample records: what each operator means, in which order rules are tried, what the trace says.

mod bounds;
mod reference;
mod traces;

use std::time::Instant;

use proptest::prelude::*;

use super::condition::{Comparand, Operator, Test, Wants};
use super::literal::Literal;
use super::*;
use crate::domain::ids::QueueName;
use crate::domain::record::{RecordCreated, RecordDetails};

const INCIDENT: &str = include_str!("../../../../tests/fixtures/records/incident.json");
const LEAD: &str = include_str!("../../../../tests/fixtures/records/lead.json");
const INSPECTION: &str = include_str!("../../../../tests/fixtures/records/inspection.json");

/// A record in the form in which a flow posts it.
pub(super) struct Posted(RecordCreated, RecordDetails);

impl Posted {
    pub(super) fn new(body: &str) -> Self {
        let event = RecordCreated::parse(body.as_bytes()).expect("well formed");
        let details = event.details.clone().expect("details");
        Self(event, details)
    }

    /// An incident with these details, whatever they are.
    pub(super) fn with(details: &str) -> Self {
        Self(Self::new(INCIDENT).0, RecordDetails::stored(details.to_owned()))
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::of(&self.0, &self.1)
    }

    /// The name of the rule that matches.
    pub(super) fn matched(&self, entity: &RuleSet, work_stream: &RuleSet) -> Option<String> {
        evaluate(entity, work_stream, &self.subject()).matched.map(|rule| rule.name.to_string())
    }

    fn meets(&self, when: Condition) -> bool {
        self.matched(&RuleSet::default(), &RuleSet::new(vec![rule("it", Some(when))], &variables())).is_some()
    }
}

pub(super) fn queue(name: &str, priority: u32) -> Queue {
    Queue { name: QueueName::parse(name).expect("a name"), priority }
}

pub(super) fn rule(name: &str, when: Option<Condition>) -> Rule {
    let queue_name: String = format!("Queue of {name}").chars().filter(|c| !c.is_control()).take(64).collect();
    Rule { name: name.into(), queue: queue(&queue_name, 3), state: State::Active, when }
}

pub(super) fn text(value: &str) -> Literal {
    Literal::text(value).expect("a text")
}

pub(super) fn number(value: &str) -> Literal {
    Literal::number(value).expect("a number")
}

pub(super) fn path(text: &str) -> ColumnPath {
    ColumnPath::parse(text).expect("a path")
}

fn test(operand: Operand, operator: Operator, values: Vec<Literal>) -> Condition {
    let value = match operator.wants() {
        Wants::Nothing => Comparand::Nothing,
        Wants::One => Comparand::One(values.into_iter().next().expect("a value")),
        Wants::List => Comparand::List(values),
    };
    Condition::Test(Test::new(operand, operator, value))
}

/// `column title equals "x"` and the like.
pub(super) fn when(operand: &str, operator: Operator, value: Literal) -> Condition {
    let (key, name) = operand.split_once(' ').expect("a key and a name");
    let operand = match key {
        "column" => Operand::Column(path(name)),
        "label" => Operand::Label(path(name)),
        "variable" => Operand::Variable(name.into()),
        _ => {
            let property = RecordProperty::ALL.into_iter().find(|property| property.name() == name);
            Operand::Record(property.expect("a property"))
        }
    };
    test(operand, operator, vec![value])
}

fn variable(name: &str, kind: ContextVariableKind, mapping: Option<Mapping>, state: State) -> ContextVariable {
    ContextVariable { name: name.into(), display_name: name.into(), kind, mapping, state }
}

pub(super) fn variables() -> Vec<ContextVariable> {
    use ContextVariableKind::{Number, Text};
    vec![
        variable("risk", Number, Some(Mapping::Column(path("new_risk"))), State::Active),
        variable("risk_in_words", Text, Some(Mapping::Label(path("new_risk"))), State::Active),
        variable("risk_as_text", Text, Some(Mapping::Column(path("new_risk"))), State::Active),
        variable("off", Number, Some(Mapping::Column(path("new_risk"))), State::Inactive),
        variable("unmapped", Number, None, State::Active),
    ]
}

#[test]
fn the_sample_records_meet_what_is_true_of_them() {
    use Operator::*;
    let [incident, lead, inspection] = [INCIDENT, LEAD, INSPECTION].map(Posted::new);
    for (record, operand, operator, value) in [
        (&incident, "column prioritycode", Equals, number("1.0")),
        (&incident, "label prioritycode", Equals, text("HIGH")),
        (&incident, "column title", Contains, text("PARCEL")),
        (&incident, "column title", BeginsWith, text("parcel ")),
        (&incident, "column title", EndsWith, text("Damaged")),
        (&incident, "column description", Contains, text("\r\nsecond line with \"quotes\"")),
        (&incident, "column description", EndsWith, text("& a slash /.")),
        (&incident, "column isescalated", Equals, Literal::Boolean(false)),
        (&incident, "column versionnumber", GreaterThan, number("7391203.5")),
        (&incident, "column createdon", GreaterThan, text("2024-05-06")),
        (&incident, "column createdon", LessThan, text("2024-05-06T09:08:10+02:00")),
        (&incident, "column createdon", Equals, text("2024-05-06 07:08:09.000Z")),
        (&incident, "column _customerid_value", Equals, text("{B3A1D6F8-1C2E-E911-A960-000D3A34A1BD}")),
        (&incident, "column followupby", NotEquals, text("2024-05-06")),
        (&incident, "column @odata.etag", Contains, text("7391204")),
        (&incident, "column _customerid_value@Microsoft.Dynamics.CRM.lookuplogicalname", Equals, text("account")),
        (&incident, "record entityLogicalName", Equals, text("Incident")),
        (&incident, "record recordId", Equals, text("6a2d1b8c3c4eea11a811000d3a4cf1b6")),
        (&lead, "label leadqualitycode", Equals, text("warm")),
        (&lead, "column budgetamount", GreaterThan, number("12500.49")),
        (&lead, "column RowVersion", Equals, text("9007199254740993")),
        (&lead, "record relationshipName", BeginsWith, text("lead_")),
        (&inspection, "column new_site", Contains, text("øST – 日本")),
        (&inspection, "column new_channels", Contains, text("100000003")),
        (&inspection, "column new_reading", GreaterThan, number("98.6")),
        (&inspection, "column new_reading", Equals, number("98.60000000000001")),
        (&inspection, "column new_big", GreaterThan, number("18446744073709551614")),
        (&inspection, "column new_exponent", Equals, number("150")),
        (&inspection, "label new_risk", Equals, text("critical")),
        (&inspection, "variable risk", GreaterOrEqual, number("100000002")),
        (&inspection, "variable risk_in_words", EndsWith, text("cal")),
        (&inspection, "column new_inspectionid", Equals, text("e3a8bad219c5ec11983f0022482c2d88")),
        (&inspection, "record entitySetName", Equals, text("new_inspections")),
    ] {
        let condition = when(operand, operator, value);
        assert!(record.meets(condition.clone()), "{condition:?}");
    }
}

#[test]
fn types_are_kept_apart() {
    use Operator::*;
    let record = Posted::with(r#"{"n":5,"t":"5","b":true,"o":{"x":1},"l":["High",5,null],"d":"2022-04-15","e":[]}"#);
    for (operand, operator, value) in [
        ("column n", Equals, text("5")),
        ("column t", Equals, number("5")),
        ("column t", GreaterThan, number("4")),
        ("column n", Contains, text("5")),
        ("column n", GreaterThan, text("2022-04-15")),
        ("column b", Equals, text("true")),
        ("column b", Equals, number("1")),
        ("column o", Equals, text("x")),
        ("column o", Contains, text("x")),
        ("column o", IsEmpty, text("-")),
        ("column l", Equals, text("High")),
        ("column l", BeginsWith, text("High")),
        ("column l", Contains, text("Hig")),
        ("column l", Contains, text("5")),
        ("column d", LessThan, text("not a date")),
        ("column d", GreaterThan, text("2022-04-15T00:00:00Z")),
        ("column l/0", Equals, text("High")),
    ] {
        let condition = when(operand, operator, value);
        assert!(!record.meets(condition.clone()), "{condition:?}");
    }
    assert!(record.meets(when("column l", Contains, text("HIGH"))));
    assert!(record.meets(when("column e", IsEmpty, text("-"))));
    assert!(record.meets(when("column o/x", LessOrEqual, number("1"))));
    assert!(record.meets(when("column d", LessOrEqual, text("2022-04-14T20:00:00-04:00"))));
}

#[test]
fn emptiness_fails_every_positive_operator_and_passes_every_negation() {
    let record = Posted::with(r#"{"null":null,"text":"","list":[ ]}"#);
    for operand in ["column null", "column text", "column list", "column absent", "label null", "variable unmapped"] {
        for operator in Operator::ALL {
            use Operator::{DoesNotContain, IsEmpty, IsNotOneOf, NotEquals};
            let holds = record.meets(when(operand, operator, text("2022-04-15")));
            assert_eq!(
                holds,
                matches!(operator, IsEmpty | NotEquals | DoesNotContain | IsNotOneOf),
                "{operand} {operator:?}"
            );
        }
    }
}

#[test]
fn labels_are_looked_for_in_both_forms() {
    let annotation = "x@OData.Community.Display.V1.FormattedValue";
    for (details, label) in [
        (format!(r#"{{"{annotation}":"A","_x_label":"B"}}"#), "a"),
        (format!(r#"{{"{annotation}":null,"_x_label":"B"}}"#), "b"),
        (r#"{"x":1,"_x_label":"B"}"#.to_owned(), "b"),
    ] {
        assert!(Posted::with(&details).meets(when("label x", Operator::Equals, text(label))), "{details}");
    }
    let nested = Posted::with(r#"{"contact":{"x":1,"_x_label":"B"}}"#);
    assert!(nested.meets(when("label contact/x", Operator::Equals, text("b"))));
}

#[test]
fn the_first_rule_that_matches_decides_and_the_entity_s_come_first() {
    let record = Posted::new(INCIDENT);
    let high = || Some(when("label prioritycode", Operator::Equals, text("High")));
    let other = || Some(when("label prioritycode", Operator::Equals, text("Low")));
    let set = |rules: Vec<Rule>| RuleSet::new(rules, &[]);
    let stream = set(vec![rule("low", other()), rule("high", high()), rule("rest", None)]);
    assert_eq!(record.matched(&RuleSet::default(), &stream).as_deref(), Some("high"));
    assert_eq!(record.matched(&set(vec![rule("own", None)]), &stream).as_deref(), Some("own"));
    assert_eq!(record.matched(&set(vec![rule("own", other())]), &stream).as_deref(), Some("high"));
    let off = set(vec![Rule { state: State::Inactive, ..rule("off", None) }, rule("on", high())]);
    assert_eq!(record.matched(&RuleSet::default(), &off).as_deref(), Some("on"));
    assert_eq!(record.matched(&set(vec![rule("own", other())]), &RuleSet::default()), None);
}

#[test]
fn groups_join_their_conditions() {
    let record = Posted::new(INCIDENT);
    let yes = || when("column prioritycode", Operator::Equals, number("1"));
    let no = || when("column prioritycode", Operator::Equals, number("2"));
    assert!(record.meets(Condition::Any(vec![no(), Condition::All(vec![yes(), yes()])])));
    assert!(!record.meets(Condition::All(vec![yes(), Condition::Any(vec![no(), no()])])));
}

#[test]
fn details_that_are_damaged_hold_nothing() {
    for details in ["", "[]", r#"{"title":"x""#, "\u{0}"] {
        assert!(Posted::with(details).meets(when("column title", Operator::IsEmpty, text("-"))), "{details}");
    }
    let no_text = RecordDetails::stored(b"{\"title\":\"\xff\"}".to_vec());
    let event = Posted::new(INCIDENT).0;
    let rules = RuleSet::new(vec![rule("it", Some(when("column title", Operator::IsNotEmpty, text("-"))))], &[]);
    assert!(evaluate(&rules, &rules, &Subject::of(&event, &no_text)).matched.is_none());
}

#[test]
fn rules_are_written_as_the_document_has_them() {
    let condition = Condition::Any(vec![
        when("column prioritycode", Operator::Equals, number("1")),
        test(Operand::Label(path("prioritycode")), Operator::IsOneOf, vec![text("High"), text("Urgent")]),
        Condition::All(vec![
            when("column title", Operator::Contains, text("declined")),
            when("variable risk", Operator::GreaterThan, number("3.5")),
            when("record entityLogicalName", Operator::IsNotEmpty, text("-")),
            when("column on", Operator::Equals, Literal::Boolean(true)),
        ]),
    ]);
    let rules = vec![rule("One", Some(condition)), Rule { state: State::Inactive, ..rule("Two", None) }];
    let written = serde_json::to_value(RuleSet::new(rules, &variables())).expect("JSON");
    let expected = serde_json::json!([
        { "name": "One", "queue": "Queue of One", "state": "active", "when": { "any": [
            { "column": "prioritycode", "operator": "equals", "value": 1 },
            { "label": "prioritycode", "operator": "is-one-of", "value": ["High", "Urgent"] },
            { "all": [
                { "column": "title", "operator": "contains", "value": "declined" },
                { "variable": "risk", "operator": "greater-than", "value": 3.5 },
                { "record": "entityLogicalName", "operator": "is-not-empty" },
                { "column": "on", "operator": "equals", "value": true },
            ] },
        ] } },
        { "name": "Two", "queue": "Queue of Two", "state": "inactive" },
    ]);
    assert_eq!(written, expected);
}

proptest! {
    #[test]
    fn any_text_as_details_ends_in_a_verdict(details in "\\PC{0,120}", jsonish in "[{}\\[\\]\",:0-9eE.+-ntru ]{0,120}") {
        for details in [details.clone(), jsonish, format!(r#"{{"title":{details}}}"#)] {
            for operator in Operator::ALL {
                let _verdict = Posted::with(&details).meets(when("column title", operator, text("2022-04-15")));
            }
        }
    }

    #[test]
    fn odd_numbers_end_in_a_verdict(number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][-+]?[0-9]{1,30})?") {
        let record = Posted::with(&format!(r#"{{"n":{number}}}"#));
        let is = |operator| record.meets(when("column n", operator, super::tests::number("12500.5")));
        let orders = [Operator::LessThan, Operator::Equals, Operator::GreaterThan].map(is);
        prop_assert_eq!(orders.into_iter().filter(|holds| *holds).count(), 1, "{}", number);
        prop_assert_eq!(is(Operator::LessOrEqual), !is(Operator::GreaterThan));
        prop_assert_eq!(is(Operator::GreaterOrEqual), !is(Operator::LessThan));
    }
}

/// Run by hand: `cargo test --release --lib cost_of_twenty_rules -- --ignored --nocapture`.
#[test]
#[ignore = "prints a duration; asserts nothing"]
fn cost_of_twenty_rules() {
    const ROUNDS: u32 = 100_000;
    let twenty = (0..20).map(|n| {
        let tests = vec![
            when("column prioritycode", Operator::Equals, number(&format!("{}", n + 2))),
            when("label prioritycode", Operator::Equals, text(&format!("Level {n}"))),
            when("column title", Operator::Contains, text(&format!("declined {n}"))),
            when("record entityLogicalName", Operator::Equals, text("lead")),
        ];
        rule(&format!("Rule number {n}"), Some(Condition::Any(tests)))
    });
    let twenty = RuleSet::new(twenty.collect(), &[]);
    let record = Posted::new(INCIDENT);
    for (name, rules) in [("20 rules", &twenty), ("no rules", &RuleSet::default())] {
        let began = Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(evaluate(&RuleSet::default(), std::hint::black_box(rules), &record.subject()));
        }
        println!("{name}: {:?} each", began.elapsed() / ROUNDS);
    }
}
