//! The definition as a whole.

use super::super::title;
use super::{Report, below, operations_of, resolved};
use crate::connector::json::Json;
use crate::connector::package::Host;

/// The largest file that the wizard imports.
const LARGEST_BYTES: usize = 1_000_000;
/// The most operations of one connector.
const MOST_OPERATIONS: usize = 256;

pub(super) fn size(bytes: &[u8], report: &mut Report) {
    if bytes.len() >= LARGEST_BYTES {
        let mend = "Leave out operations or examples; the wizard takes less than 1 MB.";
        report.add("size", "", format!("the file has {} bytes", bytes.len()), mend);
    }
}

pub(super) fn check(definition: &Json, report: &mut Report) {
    if definition.text_of("swagger") != Some("2.0") {
        let mend = "Custom connectors take OpenAPI 2.0 only: write `\"swagger\": \"2.0\"`, and convert what is newer.";
        report.add("version", "/swagger", "the definition is not OpenAPI 2.0", mend);
    }
    info(definition.get("info").unwrap_or(&Json::Null), report);
    address(definition, report);
    security(definition, report);
    paths(definition, report);
    references(definition, definition, "", report);
    capabilities(definition, report);
}

fn info(info: &Json, report: &mut Report) {
    if let Some(fault) = title::fault(info.text_of("title").unwrap_or_default()) {
        let mend = format!(
            "Choose a title of at most {} characters, without `API`, `Connector` and names of Power Platform products, that ends with a letter or a digit.",
            title::LONGEST
        );
        report.add("title", "/info/title", fault, mend);
    }
    let length = info.text_of("description").unwrap_or_default().chars().count();
    if !(30..=500).contains(&length) {
        let wrong = format!("the description has {length} characters");
        report.add("description-length", "/info/description", wrong, "Describe the service in 30 to 500 characters.");
    }
    if info.text_of("version").is_none_or(str::is_empty) {
        report.add("version", "/info/version", "there is no version", "Add one as text, such as `\"1.0\"`.");
    }
    for member in ["name", "url", "email"] {
        if info.at(&["contact", member]).and_then(Json::text).is_none_or(str::is_empty) {
            let place = format!("/info/contact/{member}");
            report.add("contact", &place, format!("the contact has no {member}"), "Say who answers questions.");
        }
    }
}

fn address(definition: &Json, report: &mut Report) {
    match definition.text_of("host") {
        None => report.add("host", "/host", "there is no host", "Add the gateway's host, without scheme and path."),
        Some(host) => {
            if let Err(fault) = Host::parse(host) {
                let mend = "Write the host alone; the scheme belongs to `schemes`, the path to `basePath`.";
                report.add("host", "/host", format!("`{host}` {fault}"), mend);
            }
        }
    }
    if definition.text_of("basePath").is_some_and(|path| path != "/") {
        let mend =
            "Write `/` and put the rest into the paths: with an address that people type, a base path may get lost.";
        report.add("base-path", "/basePath", "the base path is not `/`", mend);
    }
    let schemes = definition.get("schemes").map(Json::items).unwrap_or_default();
    let known = |scheme: &Json| matches!(scheme.text(), Some("http" | "https"));
    if schemes.is_empty() || !schemes.iter().all(known) {
        report.add("schemes", "/schemes", "the schemes are not `http` and `https`", "Write `[\"https\"]`.");
    }
}

fn security(definition: &Json, report: &mut Report) {
    let schemes = definition.get("securityDefinitions").map(Json::members).unwrap_or_default();
    if schemes.is_empty() {
        let mend = "Say how people sign in, as `securityDefinitions`: an API key in the header `X-Api-Key`.";
        report.add("security", "/securityDefinitions", "there is no security definition", mend);
    }
    for (name, scheme) in schemes {
        let place = below("/securityDefinitions", name);
        if scheme.text_of("type") == Some("apiKey") && scheme.text_of("in") != Some("header") {
            let mend = "Send the key in a header: a query ends up in logs.";
            report.add("security", &place, "the key is not sent in a header", mend);
        }
        if scheme.text_of("type") == Some("apiKey") && scheme.text_of("name") == Some("Authorization") {
            let mend = "Use a header of its own, or people have to type the prefix themselves.";
            report.add("security", &place, "the key is sent as `Authorization`", mend);
        }
    }
    let mut required = vec![("/security".to_owned(), definition.get("security"))];
    required.extend(
        operations_of(definition).into_iter().map(|it| (below(&it.place, "security"), it.operation.get("security"))),
    );
    for (place, requirements) in required {
        for (name, _) in requirements.map(Json::items).unwrap_or_default().iter().flat_map(Json::members) {
            if !schemes.iter().any(|(it, _)| it == name) {
                let wrong = format!("there is no security definition `{name}`");
                report.add("security", &place, wrong, "Name one of `securityDefinitions`.");
            }
        }
    }
    if definition.get("security").map(Json::items).unwrap_or_default().is_empty() {
        report.add("security", "/security", "no security is required", "Require a security definition.");
    }
}

fn paths(definition: &Json, report: &mut Report) {
    let paths = definition.get("paths").map(Json::members).unwrap_or_default();
    if paths.is_empty() {
        report.add("paths", "/paths", "there is no path", "Export the package again.");
    }
    for (at, (path, _)) in paths.iter().enumerate() {
        let place = below("/paths", path);
        if paths.iter().take(at).any(|(it, _)| it.eq_ignore_ascii_case(path)) {
            let mend = "Rename one: paths are compared without regard to case.";
            report.add("paths-differ", &place, format!("there is another path `{path}`, but for case"), mend);
        }
        if !path.starts_with('/') {
            report.add("paths", &place, "the path does not begin with `/`", "Begin it with `/`.");
        }
    }
    let count = operations_of(definition).len();
    if count > MOST_OPERATIONS {
        let mend = format!("Leave some out: a connector has at most {MOST_OPERATIONS}.");
        report.add("operation-count", "/paths", format!("there are {count} operations"), mend);
    }
}

/// Every reference leads to a definition.
fn references(definition: &Json, value: &Json, place: &str, report: &mut Report) {
    if let Some(reference) = value.text_of("$ref")
        && resolved(definition, value).is_none()
    {
        let mend = "Refer to a schema as `#/definitions/Name`, or add it.";
        report.add("reference", &below(place, "$ref"), format!("`{reference}` leads nowhere"), mend);
    }
    for (name, member) in value.members() {
        references(definition, member, &below(place, name), report);
    }
    for (at, item) in value.items().iter().enumerate() {
        references(definition, item, &below(place, &at.to_string()), report);
    }
}

/// The operation that tests connections is one without parameters.
fn capabilities(definition: &Json, report: &mut Report) {
    const PLACE: &str = "/x-ms-capabilities/testConnection/operationId";
    let Some(test) = definition.at(&["x-ms-capabilities", "testConnection", "operationId"]).and_then(Json::text) else {
        return;
    };
    match operations_of(definition).into_iter().find(|it| it.operation.text_of("operationId") == Some(test)) {
        None => {
            report.add("test-connection", PLACE, format!("there is no operation `{test}`"), "Name one that is there.")
        }
        Some(found) => {
            if super::parameters_of(found.operation).iter().any(|parameter| parameter.is_true("required")) {
                let mend = "Name an operation without required parameters.";
                report.add("test-connection", PLACE, format!("`{test}` has required parameters"), mend);
            }
        }
    }
}
