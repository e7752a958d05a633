//! Routing rules that are written as TOML and as JSON read back the same.

use proptest::prelude::*;
use serde::Serialize;

use super::*;
use crate::config::stored::{Document, check_document};
use crate::config::view;
use crate::domain::catalog::{ContextVariableKind, Queue, State};
use crate::domain::ids::QueueName;
use crate::domain::rules::condition::{Comparand, Condition, Operand, Operator, RecordProperty, Test, Wants};
use crate::domain::rules::literal::Literal;
use crate::domain::rules::{ColumnPath, Rule, RuleSet};

/// Rules as they stand in an organization's file.
#[derive(Serialize)]
struct Written<'a> {
    organization: serde_json::Value,
    queues: serde_json::Value,
    work_streams: [WrittenStream<'a>; 1],
}

#[derive(Serialize)]
struct WrittenStream<'a> {
    id: &'static str,
    name: &'static str,
    context_variables: serde_json::Value,
    rules: &'a RuleSet,
    entities: [WrittenEntity<'a>; 1],
}

#[derive(Serialize)]
struct WrittenEntity<'a> {
    id: &'static str,
    entity_logical_name: &'static str,
    entity_set_name: &'static str,
    rules: &'a RuleSet,
}

fn written<'a>(rules: &'a RuleSet, entity_rules: &'a RuleSet) -> Written<'a> {
    let entity = WrittenEntity {
        id: "c6d0a4f2-8b1e-4f3c-a5d7-2e9b0c1f4a61",
        entity_logical_name: "incident",
        entity_set_name: "incidents",
        rules: entity_rules,
    };
    let stream = WrittenStream {
        id: "7c2e9d54-41a8-ea11-a812-000d3a579c31",
        name: "Cases",
        context_variables: serde_json::json!([
            { "display_name": "Risk", "kind": "number", "column": "new_risk" },
            { "display_name": "Site", "label": "site" },
        ]),
        rules,
        entities: [entity],
    };
    Written {
        organization: serde_json::json!({ "id": "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10", "unique_name": "contoso" }),
        queues: serde_json::json!([{ "name": "Default queue", "default": true }, { "name": "Escalations", "priority": 7 }]),
        work_streams: [stream],
    }
}

/// The document with JSON's names.
fn in_camel_case(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(members) => {
            let renamed =
                members.into_iter().map(|(name, value)| (crate::config::camel_case(&name), in_camel_case(value)));
            renamed.collect::<serde_json::Map<_, _>>().into()
        }
        serde_json::Value::Array(elements) => elements.into_iter().map(in_camel_case).collect(),
        other @ (serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_)) => other,
    }
}

/// Reads the rules back from TOML, from JSON and from the view of the organization, and compares.
fn comes_back(rules: Vec<Rule>, entity_rules: Vec<Rule>) {
    let [rules, entity_rules] = [rules, entity_rules].map(|rules| RuleSet::new(rules, &[]));
    let document = written(&rules, &entity_rules);
    let text = toml::to_string(&document).expect("TOML");
    let files = Files::new("", &[("contoso.toml", &text)]);
    let config = files.load().unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    let json = in_camel_case(serde_json::to_value(&document).expect("JSON"));
    let json: Document = serde_json::from_str(&json.to_string()).expect("an object");
    let from_json = check_document(&config.effective, "contoso", &json);
    let (from_json, _) = from_json.unwrap_or_else(|faults| panic!("{faults}\n{json:?}"));
    let from_toml = config.effective.catalog.organizations().next().expect("an organization");
    assert_eq!(**from_toml, from_json);
    let viewed = check_document(&config.effective, "contoso", &view::document(from_toml));
    assert_eq!(viewed.map(|(organization, _)| organization), Ok(from_json.clone()));
    let stream = from_json.work_streams.values().next().expect("a work stream");
    assert_eq!(stream.rules, rules, "{text}");
    assert_eq!(stream.entities.values().next().expect("an entity").rules, entity_rules, "{text}");
}

fn any_literal(holds: Option<ContextVariableKind>, operator: Operator) -> BoxedStrategy<Literal> {
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| format!("{number:e}")),
    ];
    let number = number.prop_map(|text| Literal::number(&text).expect("a number"));
    let date = "[0-9]{4}-0[1-9]-[012][1-8](T[01][0-9]:[0-5][0-9]:[0-5][0-9]Z)?";
    let text = prop_oneof![Just(" ".to_owned()), "\\PC{1,12}", "[\\x00-\\x7f]{1,6}", date];
    let text = text.prop_filter_map("a text", |text| Literal::text(&text));
    prop_oneof![number, text, any::<bool>().prop_map(Literal::Boolean)]
        .prop_filter("fitting", move |literal| operator.check(literal, holds).is_ok())
        .boxed()
}

fn any_test() -> impl Strategy<Value = Condition> {
    let path = "[a-z_@.]{1,9}(/[a-zØ ]{0,3}[a-z]){0,3}".prop_map(|text| ColumnPath::parse(&text).expect("a path"));
    let text = Some(ContextVariableKind::Text);
    let operand = prop_oneof![
        path.clone().prop_map(|path| (Operand::Column(path), None)),
        path.prop_map(move |path| (Operand::Label(path), text)),
        prop::sample::select(RecordProperty::ALL.to_vec()).prop_map(move |part| (Operand::Record(part), text)),
        Just((Operand::Variable("risk".into()), Some(ContextVariableKind::Number))),
        Just((Operand::Variable("site".into()), text)),
    ];
    let operator = prop::sample::select(Operator::ALL.to_vec());
    (operand, operator).prop_flat_map(|((operand, holds), operator)| {
        let fits = |operator: Operator| {
            let samples = [Literal::text("2022-04-15"), Literal::number("1").ok()];
            samples.into_iter().flatten().any(|sample| operator.check(&sample, holds).is_ok())
        };
        let operator = if fits(operator) { operator } else { Operator::Equals };
        let values = prop::collection::vec(any_literal(holds, operator), 1..3);
        values.prop_map(move |mut values| {
            let value = match operator.wants() {
                Wants::Nothing => Comparand::Nothing,
                Wants::One => Comparand::One(values.remove(0)),
                Wants::List => Comparand::List(values),
            };
            Condition::Test(Test::new(operand.clone(), operator, value))
        })
    })
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let when = any_test().prop_recursive(6, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Condition::All),
            prop::collection::vec(inner, 1..4).prop_map(Condition::Any),
        ]
    });
    let rule = (prop::option::of(when), any::<bool>(), "[^\\p{C}\\s]{1,8}");
    prop::collection::vec(rule, 0..4).prop_map(|rules| {
        let rules = rules.into_iter().enumerate().map(|(n, (when, active, name))| Rule {
            name: format!("{n}{name}").into(),
            queue: if active { queue("Escalations", 7) } else { queue("Default queue", 1) },
            state: if active { State::Active } else { State::Inactive },
            when,
        });
        rules.collect()
    })
}

fn queue(name: &str, priority: u32) -> Queue {
    Queue { name: QueueName::parse(name).expect("a name"), priority }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back_the_same(rules in any_rules(), entity_rules in any_rules()) {
        comes_back(rules, entity_rules);
    }
}

#[test]
fn the_deepest_condition_reads_back_the_same() {
    let column = Operand::Column(ColumnPath::parse("a").expect("a path"));
    let mut when = Condition::Test(Test::new(column, Operator::IsEmpty, Comparand::Nothing));
    for level in 0..Condition::MOST_LEVELS {
        when = if level % 2 == 0 { Condition::Any(vec![when]) } else { Condition::All(vec![when]) };
    }
    let rule = Rule { name: "Deep".into(), queue: queue("Escalations", 7), state: State::Active, when: Some(when) };
    comes_back(vec![rule.clone()], vec![rule]);
}
