//! What is other between two documents of an organization, told by identity and not by place: a work stream that only
//! moved in its file has not changed.

use std::collections::HashMap;

use serde_json::Value;

use crate::config::stored::Document;
use crate::store::catalog::Difference;

/// The most that one entry of the trail says, in bytes of JSON.
const MOST_BYTES: usize = 64 * 1024;

/// The differences as far as they fit into an entry of the trail, and how many are left out.
pub(super) fn shortened(differences: &[Difference]) -> Vec<Difference> {
    let mut left = MOST_BYTES;
    let mut kept: Vec<Difference> = Vec::new();
    for difference in differences {
        let value = |value: &Option<Value>| value.as_ref().map_or(0, |value| value.to_string().len());
        let bytes = difference.path.len() + value(&difference.from) + value(&difference.to) + 32;
        let Some(rest) = left.checked_sub(bytes) else { break };
        left = rest;
        kept.push(difference.clone());
    }
    let more = differences.len() - kept.len();
    if more > 0 {
        let to = Some(Value::from(format!("{more} more differences, too large for the trail")));
        kept.push(Difference { path: "…".to_owned(), from: None, to });
    }
    kept
}

/// What is other in `after`. A document that is not there has nothing in it.
pub(super) fn between(before: Option<&Document>, after: Option<&Document>) -> Vec<Difference> {
    let mut found = Vec::new();
    let members = before.into_iter().chain(after).flat_map(Document::keys);
    let mut members: Vec<_> = members.collect();
    members.sort();
    members.dedup();
    for member in members {
        let before = before.and_then(|document| document.get(member));
        compare(member.clone(), before, after.and_then(|document| document.get(member)), &mut found);
    }
    found
}

fn compare(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let mut members: Vec<_> = one.keys().chain(other.keys()).collect();
            members.sort();
            members.dedup();
            for member in members {
                compare(format!("{path}/{member}"), one.get(member), other.get(member), found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) if are_resources(one) && are_resources(other) => {
            compare_lists(&path, one, other, found);
        }
        (before, after) => found.push(Difference { path, from: before.cloned(), to: after.cloned() }),
    }
}

/// What tells a resource from others in its list.
fn identity(element: &Value) -> Option<&str> {
    element.get("id").or_else(|| element.get("name")).and_then(Value::as_str)
}

fn are_resources(list: &[Value]) -> bool {
    list.iter().all(|element| identity(element).is_some())
}

fn by_identity(list: &[Value]) -> HashMap<&str, &Value> {
    list.iter().filter_map(|element| Some((identity(element)?, element))).collect()
}

fn compare_lists(path: &str, one: &[Value], other: &[Value], found: &mut Vec<Difference>) {
    let (had, has) = (by_identity(one), by_identity(other));
    for name in one.iter().filter_map(identity) {
        compare(format!("{path}/{name}"), had.get(name).copied(), has.get(name).copied(), found);
    }
    for name in other.iter().filter_map(identity).filter(|name| !had.contains_key(name)) {
        compare(format!("{path}/{name}"), None, has.get(name).copied(), found);
    }
    // The order of work streams and entities is made by us and the same on both sides; that of the others is theirs.
    let kept = |list: &[Value], elsewhere: &HashMap<&str, &Value>| -> Vec<String> {
        list.iter().filter_map(identity).filter(|name| elsewhere.contains_key(name)).map(str::to_owned).collect()
    };
    let (before, after) = (kept(one, &has), kept(other, &had));
    let has_order = ["rules", "contextVariables", "queues"].iter().any(|list| path.ends_with(list));
    if has_order && before != after {
        found.push(Difference { path: format!("{path}/order"), from: Some(before.into()), to: Some(after.into()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn differences(before: Value, after: Value) -> Vec<(String, Option<Value>, Option<Value>)> {
        let found = between(before.as_object(), after.as_object());
        found.into_iter().map(|difference| (difference.path, difference.from, difference.to)).collect()
    }

    #[test]
    fn resources_are_told_by_identity() {
        let before = json!({ "workStreams": [{ "id": "a", "capacity": 30 }, { "id": "b", "state": "active" }] });
        let after = json!({ "workStreams": [{ "id": "b", "state": "inactive" }, { "id": "c" }] });
        assert_eq!(
            differences(before, after),
            [
                ("workStreams/a".to_owned(), Some(json!({ "id": "a", "capacity": 30 })), None),
                ("workStreams/b/state".to_owned(), Some(json!("active")), Some(json!("inactive"))),
                ("workStreams/c".to_owned(), None, Some(json!({ "id": "c" }))),
            ]
        );
    }

    #[test]
    fn a_moved_rule_is_a_change_of_order() {
        let rules =
            |names: &[&str]| json!({ "rules": names.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>() });
        let found = differences(rules(&["a", "b", "c"]), rules(&["c", "a", "b"]));
        assert_eq!(found, [("rules/order".to_owned(), Some(json!(["a", "b", "c"])), Some(json!(["c", "a", "b"])))]);
        assert_eq!(differences(rules(&["a"]), rules(&["a"])), []);
        let found = differences(rules(&["a", "b"]), rules(&["a", "x", "b"]));
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn everything_of_something_new_is_told() {
        assert_eq!(between(None, json!({ "queues": [] }).as_object()).len(), 1);
        assert_eq!(between(json!({ "queues": [] }).as_object(), None)[0].to, None);
    }
}
