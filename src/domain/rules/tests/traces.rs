//! What the trace of a decision says, and that it stays short.

use super::*;
use crate::domain::routing::{Route, RoutingTables, decide};

fn route_of(record: &Posted, entity: &RuleSet, work_stream: &RuleSet) -> Route {
    let default_queue = queue("Default queue", 2);
    decide(
        &RoutingTables { entity_rules: entity, work_stream_rules: work_stream, default_queue: &default_queue },
        &record.subject(),
    )
}

fn tried(route: &Route) -> Vec<(String, RuleList, bool)> {
    let trace = route.trace.as_deref().expect("a trace");
    trace.tried().iter().map(|tried| (tried.rule.to_string(), tried.on, tried.matched)).collect()
}

fn values(route: &Route) -> Vec<(&str, &str)> {
    route.trace.as_deref().expect("a trace").values().collect()
}

/// The route, after a store kept it.
fn kept(route: &Route) -> Route {
    let stored = route.to_stored();
    let read = Route::from_stored(&stored).expect("a route");
    assert_eq!(read, *route, "{stored}");
    read
}

#[test]
fn without_active_rules_there_is_no_trace() {
    let off = RuleSet::new(vec![Rule { state: State::Inactive, ..rule("off", None) }], &[]);
    for rules in [RuleSet::default(), off] {
        let route = route_of(&Posted::new(INCIDENT), &rules, &rules);
        assert_eq!(route, Route::by_default(&queue("Default queue", 2)));
        assert_eq!(route.reason(), "There is no active routing rule, so the default queue takes it.");
        kept(&route);
    }
}

#[test]
fn the_trace_tells_what_was_tried_and_seen_in_order() {
    use Operator::{Contains, Equals, GreaterThan, IsEmpty};
    let entity = RuleSet::new(vec![rule("own", Some(when("column title", Contains, text("declined"))))], &[]);
    let any = Condition::Any(vec![
        when("column title", Equals, text("x")),
        when("variable risk_as_text", Equals, text("x")),
        when("variable off", GreaterThan, number("1")),
        when("variable unmapped", GreaterThan, number("1")),
        when("variable gone", GreaterThan, number("1")),
        when("column new_passed", Equals, text("x")),
        when("record recordId", Equals, text("x")),
        when("column new_reading", GreaterThan, number("98.6")),
        when("column never looked at", IsEmpty, text("-")),
    ]);
    let stream = RuleSet::new(vec![rule("any", Some(any)), rule("rest", None)], &variables());
    let route = kept(&route_of(&Posted::new(INSPECTION), &entity, &stream));
    assert_eq!(route.reason(), "Routing rule `any` of the work stream matched.");
    assert_eq!((route.queue.as_str(), route.priority), ("Queue of any", 3));
    let expected = [("own", RuleList::EntityConfiguration, false), ("any", RuleList::WorkStream, true)]
        .map(|(n, l, m)| (n.to_owned(), l, m));
    assert_eq!(tried(&route), expected);
    let expected = [
        ("column title", "missing"),
        ("variable risk_as_text", "wrong type: 100000002"),
        ("variable off", "missing: the context variable is inactive"),
        ("variable unmapped", "missing: the context variable has no column"),
        ("variable gone", "missing: there is no such context variable"),
        ("column new_passed", "missing"),
        ("record recordId", "\"e3a8bad2-19c5-ec11-983f-0022482c2d88\""),
        ("column new_reading", "98.60000000000001"),
    ];
    assert_eq!(values(&route), expected);
    assert!(!route.trace.as_deref().expect("a trace").is_shortened());
}

#[test]
fn no_match_is_told_too() {
    let rules = RuleSet::new(vec![rule("no", Some(when("column title", Operator::Equals, text("x"))))], &[]);
    let route = kept(&route_of(&Posted::new(INCIDENT), &RuleSet::default(), &rules));
    assert_eq!((route.queue.as_str(), route.rule.as_deref()), ("Default queue", None));
    assert_eq!(route.reason(), "No routing rule matched, so the default queue takes it.");
    assert_eq!(tried(&route), [("no".to_owned(), RuleList::WorkStream, false)]);
    assert_eq!(values(&route), [("column title", "\"Parcel arrived damaged\"")]);
}

#[test]
fn long_values_are_cut() {
    let long = format!(r#"{{"title":"{}","list":[{}1]}}"#, "ø".repeat(101), "1, ".repeat(100));
    let condition = Condition::Any(vec![
        when("column title", Operator::Equals, text("x")),
        when("column list", Operator::Equals, text("x")),
    ]);
    let rules = RuleSet::new(vec![rule("no", Some(condition))], &[]);
    let route = kept(&route_of(&Posted::with(&long), &RuleSet::default(), &rules));
    let shown: Vec<_> = values(&route).into_iter().map(|(_, value)| value.to_owned()).collect();
    assert_eq!(shown, [format!("\"{}…\"", "ø".repeat(100)), format!("[{}…", "1, ".repeat(33))]);
}

#[test]
fn a_trace_is_short_however_many_rules_there_are() {
    let long = |n: usize, c: &str| format!("{n:03}{}", c.repeat(97));
    for character in ["a", "日", "\u{1f600}", "\"", "\u{1}"] {
        let rules = (0..RuleSet::MOST_RULES).map(|n| {
            let column = Operand::Column(path(&long(n, &character.replace('\u{1}', "b"))));
            rule(&long(n, character), Some(test(column, Operator::Equals, vec![text("x")])))
        });
        let last = rule(&long(999, character), None);
        let rules = RuleSet::new(rules.chain([last]).collect(), &[]);
        let members: Vec<String> = (0..RuleSet::MOST_RULES)
            .map(|n| format!("{}:{}", serde_json::json!(long(n, character)), serde_json::json!(character.repeat(200))))
            .collect();
        let record = Posted::with(&format!("{{{}}}", members.join(",")));
        let route = kept(&route_of(&record, &rules, &rules));
        let without = Route { trace: None, ..route.clone() };
        let trace_bytes = route.to_stored().len() - without.to_stored().len();
        assert!(trace_bytes <= RouteTrace::MOST_BYTES, "{character:?}: {trace_bytes}");
        let trace = route.trace.as_deref().expect("a trace");
        assert!(trace.is_shortened());
        assert!(trace.tried().len() > 2 && trace.values().count() >= 1, "{character:?}: {trace:?}");
        let last = trace.tried().last().expect("rules");
        assert!(last.matched && last.rule.starts_with("999") && route.rule.is_some());
    }
}

#[test]
fn routes_of_before_there_were_traces_are_read() {
    let route = Route::from_stored(r#"{"priority":2,"queue":"Default queue","rule":null}"#).expect("a route");
    assert_eq!(route, Route::by_default(&queue("Default queue", 2)));
    let route = Route::from_stored(r#"{"priority":1,"queue":"Escalations","rule":"Vip"}"#).expect("a route");
    assert_eq!(route.reason(), "Routing rule `Vip` matched.");
    assert_eq!(Route::from_stored(""), None);
    assert_eq!(Route::from_stored(r#"{"queue":"","priority":1,"rule":null}"#), None);
}

#[test]
fn neither_consumers_nor_logs_are_told_the_values() {
    let rules = RuleSet::new(vec![rule("all", None)], &[]);
    let route = route_of(&Posted::new(INCIDENT), &rules, &RuleSet::default());
    assert!(route.trace.is_some());
    let seen = RuleSet::new(vec![rule("no", Some(when("column title", Operator::Equals, text("x"))))], &[]);
    let debug = format!("{:?}", route_of(&Posted::new(INCIDENT), &seen, &seen));
    assert!(debug.contains("RouteTrace(2 rules, 1 values)") && !debug.contains("Parcel"), "{debug}");
    let told = serde_json::to_string(&route).expect("JSON");
    assert_eq!(told, r#"{"queue":"Queue of all","priority":3,"rule":"all"}"#);
}
