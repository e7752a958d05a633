//! The rules again, written as plainly as possible over `serde_json::Value`, and held against the real ones.
//!
//! The values come from a small space, so that matches, and near misses, happen all the time.

use serde_json::Value;

use super::*;

/// Texts, some of which are the same GUID, or the same moment, in other words.
const TEXTS: [&str; 16] = [
    "",
    "High",
    "hIGH",
    "High risk",
    "risk",
    "ÅØ",
    "åø",
    "5",
    "true",
    "5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5",
    "{5E1F0C9A-7B2D-EA11-A810-000D3A3BE0A5}",
    "5e1f0c9a7b2dea11a810000d3a3be0a6",
    "2022-04-15",
    "2022-04-15T02:00:00+02:00",
    "2022-04-15t00:00:00.000Z",
    "2022-04-16T00:00:00",
];

/// Numbers that a double holds exactly, so that the reference may compare doubles.
const NUMBERS: [&str; 6] = ["0", "1", "5", "-1", "0.5", "50e-1"];

const COLUMNS: [&str; 6] = ["a", "b", "a/b", "a/b/a", "b/a", "new_risk"];

const KEYS: [&str; 8] = [
    "a",
    "b",
    "_a_label",
    "a@OData.Community.Display.V1.FormattedValue",
    "_new_risk_label",
    "new_risk@OData.Community.Display.V1.FormattedValue",
    "new_risk",
    "other",
];

fn meets(condition: &Condition, details: &Value) -> bool {
    match condition {
        Condition::All(conditions) => conditions.iter().all(|condition| meets(condition, details)),
        Condition::Any(conditions) => conditions.iter().any(|condition| meets(condition, details)),
        Condition::Test(test) => {
            let found = operand(&test.operand, details).filter(|value| !is_empty(value));
            let value = serde_json::to_value(test).expect("JSON")["value"].clone();
            compare(test.operator.name(), found.as_ref(), &value)
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty)
}

fn at(details: &Value, path: &str) -> Option<Value> {
    let mut value = details;
    for name in path.split('/') {
        value = value.as_object()?.get(name)?;
    }
    Some(value.clone())
}

fn label(details: &Value, path: &str) -> Option<Value> {
    let (above, column) =
        path.rsplit_once('/').map_or((String::new(), path), |(above, last)| (format!("{above}/"), last));
    let named = |name: String| at(details, &format!("{above}{name}")).filter(|value| !is_empty(value));
    named(format!("{column}@OData.Community.Display.V1.FormattedValue")).or_else(|| named(format!("_{column}_label")))
}

fn operand(operand: &Operand, details: &Value) -> Option<Value> {
    match operand {
        Operand::Column(path) => at(details, path.as_str()),
        Operand::Label(path) => label(details, path.as_str()),
        Operand::Record(property) => {
            let incident: Value = serde_json::from_str(INCIDENT).expect("JSON");
            Some(incident[property.name()].clone())
        }
        Operand::Variable(name) => match &**name {
            "risk" => at(details, "new_risk").filter(Value::is_number),
            "risk_in_words" => label(details, "new_risk").filter(Value::is_string),
            "risk_as_text" => at(details, "new_risk").filter(Value::is_string),
            _ => None,
        },
    }
}

fn compare(operator: &str, found: Option<&Value>, value: &Value) -> bool {
    let text = |holds: fn(&str, &str) -> bool| {
        let both = found.and_then(Value::as_str).zip(value.as_str());
        both.is_some_and(|(a, b)| holds(&a.to_lowercase(), &b.to_lowercase()))
    };
    let order = found.and_then(|found| order(found, value));
    match operator {
        "equals" => found.is_some_and(|found| equal(found, value)),
        "not-equals" => !compare("equals", found, value),
        "contains" => match found.and_then(Value::as_array) {
            Some(list) => list.iter().any(|element| equal(element, value)),
            None => text(|a, b| a.contains(b)),
        },
        "does-not-contain" => !compare("contains", found, value),
        "begins-with" => text(|a, b| a.starts_with(b)),
        "ends-with" => text(|a, b| a.ends_with(b)),
        "is-one-of" => value.as_array().expect("a list").iter().any(|value| compare("equals", found, value)),
        "is-not-one-of" => !compare("is-one-of", found, value),
        "greater-than" => order.is_some_and(|order| order > 0),
        "greater-or-equal" => order.is_some_and(|order| order >= 0),
        "less-than" => order.is_some_and(|order| order < 0),
        "less-or-equal" => order.is_some_and(|order| order <= 0),
        "is-empty" => found.is_none(),
        "is-not-empty" => found.is_some(),
        other => panic!("{other}"),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => {
            a.to_lowercase() == b.to_lowercase()
                || guid(a).is_some_and(|a| guid(b) == Some(a))
                || minutes(a).is_some_and(|a| minutes(b) == Some(a))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Bool(a), Value::Bool(b)) => a == b,
        _ => false,
    }
}

fn order(a: &Value, b: &Value) -> Option<i8> {
    let order = match (a, b) {
        (Value::String(a), Value::String(b)) => minutes(a)?.cmp(&minutes(b)?),
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?)?,
        _ => return None,
    };
    Some(order as i8)
}

fn guid(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    (digits.len() == 32).then(|| digits.to_lowercase())
}

/// The minutes from the first date among [`TEXTS`].
fn minutes(text: &str) -> Option<i32> {
    let first = TEXTS.iter().position(|known| *known == "2022-04-15")?;
    let at = TEXTS.iter().position(|known| *known == text)?.checked_sub(first)?;
    Some(if at == 3 { 1_440 } else { 0 })
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => prop::sample::select(TEXTS.to_vec()).prop_map(|text| serde_json::json!(text).to_string()),
        3 => prop::sample::select(NUMBERS.to_vec()).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["null", "true", "false", " [ ] ", "{}"]).prop_map(str::to_owned),
        1 => any::<String>().prop_map(|text| serde_json::json!(text).to_string()),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let member = (prop::sample::select(KEYS.to_vec()), inner.clone());
        prop_oneof![
            // Keys may stand twice.
            2 => prop::collection::vec(member, 0..4).prop_map(|members| {
                let members: Vec<_> = members.into_iter().map(|(key, value)| format!("\"{key}\" : {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
            1 => prop::collection::vec(inner, 0..4).prop_map(|elements| format!("[{}]", elements.join(" ,"))),
        ]
    })
}

fn any_details() -> impl Strategy<Value = String> {
    let member = (prop::sample::select(KEYS.to_vec()), any_json());
    prop::collection::vec(member, 0..8).prop_map(|members| {
        let members: Vec<_> = members.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(" , "))
    })
}

fn any_literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        4 => prop::sample::select(TEXTS.to_vec()).prop_filter_map("not empty", Literal::text),
        2 => prop::sample::select(NUMBERS.to_vec()).prop_map(super::number),
        1 => any::<bool>().prop_map(Literal::Boolean),
    ]
}

fn any_operand() -> impl Strategy<Value = Operand> {
    let column = || prop::sample::select(COLUMNS.to_vec()).prop_map(super::path);
    let variables = ["risk", "risk_in_words", "risk_as_text", "off", "unmapped"];
    prop_oneof![
        4 => column().prop_map(Operand::Column),
        2 => column().prop_map(Operand::Label),
        1 => prop::sample::select(RecordProperty::ALL.to_vec()).prop_map(Operand::Record),
        1 => prop::sample::select(variables.to_vec()).prop_map(|name| Operand::Variable(name.into())),
    ]
}

pub(crate) fn any_condition() -> impl Strategy<Value = Condition> {
    let operator = prop::sample::select(Operator::ALL.to_vec());
    let values = prop::collection::vec(any_literal(), 1..4);
    let leaf =
        (any_operand(), operator, values).prop_map(|(operand, operator, values)| test(operand, operator, values));
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Condition::All),
            prop::collection::vec(inner, 1..4).prop_map(Condition::Any),
        ]
    })
}

fn any_rules(name: &'static str) -> impl Strategy<Value = Vec<Rule>> {
    let rule = (prop::option::weighted(0.95, any_condition()), prop::bool::weighted(0.9));
    prop::collection::vec(rule, 0..6).prop_map(move |rules| {
        let rules = rules.into_iter().enumerate().map(|(n, (when, active))| {
            let state = if active { State::Active } else { State::Inactive };
            Rule { state, ..super::rule(&format!("{name} {n}"), when) }
        });
        rules.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_048, ..ProptestConfig::default() })]

    #[test]
    fn a_condition_means_what_the_reference_says(condition in any_condition(), details in any_details()) {
        let read: Value = serde_json::from_str(&details).expect("JSON");
        prop_assert_eq!(Posted::with(&details).meets(condition.clone()), meets(&condition, &read));
    }

    #[test]
    fn the_first_match_decides(entity in any_rules("entity"), stream in any_rules("stream"), details in any_details()) {
        let read: Value = serde_json::from_str(&details).expect("JSON");
        let active: Vec<&Rule> = entity.iter().chain(&stream).filter(|rule| rule.state.is_active()).collect();
        let first = active.iter().position(|rule| rule.when.as_ref().is_none_or(|when| meets(when, &read)));

        let [entity_set, stream_set] = [&entity, &stream].map(|rules| RuleSet::new(rules.clone(), &variables()));
        let record = Posted::with(&details);
        let outcome = evaluate(&entity_set, &stream_set, &record.subject());
        prop_assert_eq!(outcome.matched, first.map(|first| active[first]));

        let tried = outcome.trace.as_deref().map_or(&[] as &[_], RouteTrace::tried);
        let expected: Vec<_> = active.iter().take(first.map_or(active.len(), |first| first + 1)).collect();
        prop_assert_eq!(tried.len(), expected.len());
        for (at, (tried, rule)) in tried.iter().zip(&expected).enumerate() {
            prop_assert_eq!((&tried.rule, tried.matched), (&rule.name, Some(at) == first));
        }
        prop_assert_eq!(outcome.trace.is_none(), active.is_empty());
    }
}

#[test]
fn matches_and_misses_both_happen() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut verdicts = [0; 2];
    for _ in 0..500 {
        let mut draw = |_: ()| (any_condition(), any_details()).new_tree(&mut runner).expect("a case").current();
        let (condition, details) = draw(());
        verdicts[usize::from(Posted::with(&details).meets(condition))] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 50), "{verdicts:?}");
}
