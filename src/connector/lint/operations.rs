//! Each operation: its name, its texts, its parameters, its answers; and the trigger.

use super::{Placed, Report, below, operations_of, parameters_of, resolved};
use crate::connector::json::Json;

/// The longest summary.
const LONGEST_SUMMARY: usize = 80;

pub(super) fn check(definition: &Json, report: &mut Report) {
    let operations = operations_of(definition);
    for (at, placed) in operations.iter().enumerate() {
        name(placed, operations.iter().take(at), report);
        texts(placed, report);
        super::schemas::visibility(placed.operation, &placed.place, report);
        for (number, parameter) in parameters_of(placed.operation).iter().enumerate() {
            let place = below(&below(&placed.place, "parameters"), &number.to_string());
            self::parameter(placed, parameter, &place, report);
        }
        answers(placed, report);
    }
    for (path, item) in definition.get("paths").map(Json::members).unwrap_or_default() {
        trigger(definition, &below("/paths", path), item, report);
    }
}

fn name<'a>(placed: &Placed<'_>, mut before: impl Iterator<Item = &'a Placed<'a>>, report: &mut Report) {
    let place = below(&placed.place, "operationId");
    let Some(id) = placed.operation.text_of("operationId").filter(|id| !id.is_empty()) else {
        report.add(
            "operation-id",
            &place,
            "there is no operation ID",
            "Add one in Pascal case, such as `RouteRecord`.",
        );
        return;
    };
    if !id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        report.add("operation-id", &place, format!("`{id}` is no name"), "Use letters, digits, `_` and `-` only.");
    }
    let same =
        |other: &Placed<'_>| other.operation.text_of("operationId").is_some_and(|it| it.eq_ignore_ascii_case(id));
    if before.any(same) {
        report.add("operation-id", &place, format!("there is another operation `{id}`"), "Give one another name.");
    }
}

fn texts(placed: &Placed<'_>, report: &mut Report) {
    let place = below(&placed.place, "summary");
    let summary = placed.operation.text_of("summary").unwrap_or_default().trim();
    let length = summary.chars().count();
    if length == 0 {
        report.add("summary", &place, "there is no summary", "Add one: it is the name that people see.");
    } else if length > LONGEST_SUMMARY {
        let mend = format!("Shorten it to {LONGEST_SUMMARY}; the description has more room.");
        report.add("summary", &place, format!("the summary has {length} characters"), mend);
    } else if !summary.ends_with(|c: char| c.is_alphanumeric() || c == ')') {
        report.add("summary", &place, "the summary ends with a period or the like", "Leave the last character out.");
    }
    let description = placed.operation.text_of("description").unwrap_or_default().trim();
    let place = below(&placed.place, "description");
    if description.is_empty() {
        report.add("description", &place, "there is no description", "Say what the operation does.");
    } else if description.trim_end_matches('.').eq_ignore_ascii_case(summary) {
        report.add("description", &place, "the description repeats the summary", "Say what the summary does not.");
    }
}

fn parameter(placed: &Placed<'_>, parameter: &Json, place: &str, report: &mut Report) {
    if parameter.text_of("description").is_none_or(str::is_empty) {
        report.add("description", &below(place, "description"), "the parameter has no description", "Add one.");
    }
    if !matches!(parameter.text_of("in"), Some("query" | "path" | "header" | "body")) {
        let mend = "A parameter is in `query`, `path`, `header` or `body`.";
        report.add("parameter", &below(place, "in"), "the parameter is nowhere", mend);
    }
    if parameter.text_of("in") == Some("body") {
        return;
    }
    super::schemas::label(parameter, place, report);
    super::schemas::visibility(parameter, place, report);
    super::schemas::internal_default(parameter, parameter.is_true("required"), place, report);
    if parameter.text_of("in") == Some("path") {
        let name = parameter.text_of("name").unwrap_or_default();
        // The slashes of a path in a pointer are `~1`, its braces are themselves.
        if !placed.place.contains(&format!("{{{name}}}")) || !parameter.is_true("required") {
            let mend = "Put `{name}` into the path, and say that the parameter is required.";
            report.add(
                "parameter",
                place,
                format!("the path parameter `{name}` is not in the path, or not required"),
                mend,
            );
        }
    }
}

fn answers(placed: &Placed<'_>, report: &mut Report) {
    let place = below(&placed.place, "responses");
    let responses = placed.operation.get("responses").map(Json::members).unwrap_or_default();
    if !responses.iter().any(|(status, _)| status.starts_with('2')) {
        report.add("responses", &place, "no answer is a success", "Declare the answer that is a 2xx, with its schema.");
    }
    for (status, response) in responses {
        let place = below(&place, status);
        if response.text_of("description").is_none_or(str::is_empty) {
            report.add("description", &below(&place, "description"), "the answer has no description", "Add one.");
        }
        if status != "204" && response.get("schema").is_none() {
            let mend = "Declare what is in its body; flows offer only what is declared.";
            report.add("response-schema", &below(&place, "schema"), format!("the answer {status} has no schema"), mend);
        }
    }
}

/// A webhook trigger has an address that the platform fills in, says what it is sent, and answers where to end it.
fn trigger(definition: &Json, place: &str, item: &Json, report: &mut Report) {
    let content = item.get("x-ms-notification-content");
    let mut triggers = 0;
    for (method, operation) in item.members().iter().filter(|(name, _)| super::METHODS.contains(&name.as_str())) {
        let Some(kind) = operation.get("x-ms-trigger") else { continue };
        triggers += 1;
        let place = below(place, method);
        if !matches!(kind.text(), Some("single" | "batch")) {
            let mend = "Write `single` for one event per call, `batch` for a list.";
            report.add("trigger", &below(&place, "x-ms-trigger"), "the kind of trigger is none", mend);
        }
        if content.is_none() {
            let mend = "Say what is sent, as `x-ms-notification-content` beside the method.";
            report.add("trigger", &place, "it is not said what the trigger is sent", mend);
        }
        if callbacks(definition, operation) != 1 {
            let mend =
                "Mark the one property of the body that takes the address with `\"x-ms-notification-url\": true`.";
            report.add("trigger", &place, "the trigger has not one address to be called at", mend);
        }
        if operation.at(&["responses", "201", "headers", "Location"]).is_none() {
            let mend = "Declare 201 with the header `Location`, the address that ends the subscription.";
            report.add("trigger", &place, "it is not said how the trigger ends", mend);
        }
    }
    if let Some(content) = content {
        let place = below(place, "x-ms-notification-content");
        if triggers == 0 {
            let mend = "Mark the operation that subscribes with `x-ms-trigger`.";
            report.add("trigger", &place, "there is content for a trigger, but no trigger", mend);
        }
        if content.get("schema").is_none() {
            report.add("trigger", &place, "the content has no schema", "Declare what is in the event.");
        }
    }
}

/// How many properties of the body take the address.
fn callbacks(definition: &Json, operation: &Json) -> usize {
    let bodies = parameters_of(operation).iter().filter(|parameter| parameter.text_of("in") == Some("body"));
    let schemas = bodies.filter_map(|body| resolved(definition, body.get("schema")?)?.get("properties"));
    schemas.flat_map(Json::members).filter(|(_, property)| property.is_true("x-ms-notification-url")).count()
}
