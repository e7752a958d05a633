//! Each schema and property: what people see of it, and what OpenAPI 2.0 does not have.

use super::{Report, below};
use crate::connector::json::Json;

/// What newer versions have and this one has not.
const NEWER: [&str; 10] =
    ["oneOf", "anyOf", "not", "nullable", "const", "if", "examples", "deprecated", "writeOnly", "$defs"];

pub(super) fn check(definition: &Json, report: &mut Report) {
    for (name, schema) in definition.get("definitions").map(Json::members).unwrap_or_default() {
        walk(schema, &below("/definitions", name), report);
    }
    inline(definition.get("paths").unwrap_or(&Json::Null), "/paths", report);
    for member in ["components", "servers", "openapi"] {
        if definition.get(member).is_some() {
            let mend = "Convert the definition to OpenAPI 2.0.";
            report.add("version", &below("", member), format!("`{member}` belongs to OpenAPI 3"), mend);
        }
    }
}

/// Finds the schemas that stand in operations.
fn inline(value: &Json, place: &str, report: &mut Report) {
    for (name, member) in value.members() {
        let place = below(place, name);
        if name == "schema" && member.is_object() {
            walk(member, &place, report);
        } else {
            inline(member, &place, report);
        }
    }
    for (at, item) in value.items().iter().enumerate() {
        inline(item, &below(place, &at.to_string()), report);
    }
}

fn walk(schema: &Json, place: &str, report: &mut Report) {
    for name in NEWER {
        if schema.get(name).is_some() {
            let mend = "Say it in the words of OpenAPI 2.0, or leave it out; for `null` there is `x-nullable`.";
            report.add("newer", &below(place, name), format!("`{name}` is not in OpenAPI 2.0"), mend);
        }
    }
    if schema.get("type").is_some_and(|it| it.text().is_none()) {
        let mend = "Write one type; for `null` there is `x-nullable`.";
        report.add("newer", &below(place, "type"), "a schema has one type in OpenAPI 2.0", mend);
    }
    if schema.text_of("type") == Some("array") && schema.get("items").is_none() {
        report.add("items", place, "it is not said what is in the list", "Add `items`.");
    }
    let required = schema.get("required").map(Json::items).unwrap_or_default();
    let properties = schema.get("properties").map(Json::members).unwrap_or_default();
    for name in required.iter().filter_map(Json::text) {
        if !properties.iter().any(|(it, _)| it == name) {
            let mend = "Declare it, or do not require it.";
            report.add("required", &below(place, "required"), format!("`{name}` is required but not declared"), mend);
        }
    }
    for (name, property) in properties {
        let place = below(&below(place, "properties"), name);
        let is_required = required.iter().any(|it| it.text() == Some(name));
        // A reference says nothing of its own; its target describes itself.
        if property.get("$ref").is_none() {
            label(property, &place, report);
            if property.text_of("description").is_none_or(str::is_empty) {
                report.add("description", &below(&place, "description"), "the property has no description", "Add one.");
            }
            visibility(property, &place, report);
            internal_default(property, is_required, &place, report);
        }
        walk(property, &place, report);
    }
    if let Some(items) = schema.get("items") {
        walk(items, &below(place, "items"), report);
    }
}

/// What people see instead of the name, with a capital at each word.
pub(super) fn label(what: &Json, place: &str, report: &mut Report) {
    let place = below(place, "x-ms-summary");
    let label = what.text_of("x-ms-summary").unwrap_or_default();
    // Small words stay small, as in a title.
    const SMALL: [&str; 12] = ["a", "an", "and", "at", "by", "for", "in", "of", "on", "or", "the", "to"];
    let small = |word: &&str| SMALL.contains(word) || *word == "with";
    if label.is_empty() {
        report.add("label", &place, "there is no label", "Add `x-ms-summary`, with a capital at each word.");
    } else if let Some(word) = label
        .split_whitespace()
        .filter(|word| !small(word))
        .find(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
    {
        report.add("label", &place, format!("`{word}` begins with a small letter"), "Begin each word with a capital.");
    }
}

pub(super) fn visibility(what: &Json, place: &str, report: &mut Report) {
    if let Some(visibility) = what.get("x-ms-visibility")
        && !matches!(visibility.text(), Some("important" | "advanced" | "internal"))
    {
        let mend = "Write `important`, `advanced` or `internal`, or leave it out.";
        report.add("visibility", &below(place, "x-ms-visibility"), "this visibility is none", mend);
    }
}

/// What nobody sees and everybody must send has a value. The address of a trigger is filled in by the platform.
pub(super) fn internal_default(what: &Json, required: bool, place: &str, report: &mut Report) {
    let internal = what.text_of("x-ms-visibility") == Some("internal");
    if internal && required && what.get("default").is_none() && !what.is_true("x-ms-notification-url") {
        let mend = "Add a `default`, or let people see it.";
        report.add("internal-default", place, "it is required and internal, but has no default", mend);
    }
}
