//! The same operations in OpenAPI 3.1, for generators of clients and for everybody who does not import connectors.
//!
//! Converted from the 2.0 source and committed as `openapi/openapi.json`; a test holds the file to the conversion, and
//! `cargo test --lib rewrite_openapi_json -- --ignored` writes it anew. What 2.0 could not say is said here: bearer tokens, `null`
//! as a type, the webhook as a callback with its signature. What only connectors need (`x-ms-…`) stays behind.

use super::json::{Json, object};

/// Where the schemas are.
const OLD_SCHEMAS: &str = "#/definitions/";
/// Where they go.
const NEW_SCHEMAS: &str = "#/components/schemas/";
/// The only media type.
const MEDIA_TYPE: &str = "application/json";

/// Converts a definition in OpenAPI 2.0, of the shape that ours has, into OpenAPI 3.1.
pub fn convert(definition: &Json) -> Json {
    let mut info = without_extensions(definition.get("info").unwrap_or(&Json::Null));
    info.set("license", object([("name", "Apache-2.0 OR MIT".into()), ("identifier", "Apache-2.0 OR MIT".into())]));
    let paths = definition.get("paths").map(Json::members).unwrap_or_default();
    let schemas = definition.get("definitions").map(Json::members).unwrap_or_default();
    object([
        ("openapi", "3.1.0".into()),
        ("info", info),
        ("servers", servers(definition)),
        ("security", vec![object([("apiKey", vec![].into())]), object([("bearer", vec![].into())])].into()),
        ("tags", definition.get("tags").cloned().unwrap_or(Json::List(Vec::new()))),
        ("paths", Json::Object(paths.iter().map(|(path, item)| (path.clone(), path_item(item))).collect())),
        (
            "components",
            object([
                ("securitySchemes", security_schemes(definition)),
                ("schemas", Json::Object(schemas.iter().map(|(name, it)| (name.clone(), schema(it))).collect())),
            ]),
        ),
    ])
}

fn servers(definition: &Json) -> Json {
    let scheme = definition.get("schemes").and_then(|schemes| schemes.items().first()).and_then(Json::text);
    let host = definition.text_of("host").unwrap_or_default();
    let base = definition.text_of("basePath").unwrap_or_default().trim_end_matches('/');
    let server = |url: String, what: &str| object([("url", url.into()), ("description", what.into())]);
    vec![
        server(format!("{}://{host}{base}", scheme.unwrap_or("https")), "Your gateway: replace the host by its own"),
        server("http://127.0.0.1:8080".to_owned(), "A gateway on this machine, as it starts without any setting"),
    ]
    .into()
}

fn security_schemes(definition: &Json) -> Json {
    let api_key = definition.at(&["securityDefinitions", "api_key"]).cloned().unwrap_or(Json::Null);
    let bearer = object([
        ("type", "http".into()),
        ("scheme", "bearer".into()),
        ("bearerFormat", "JWT".into()),
        ("description", "A signed token of an issuer that the gateway is configured for.".into()),
    ]);
    object([("apiKey", api_key), ("bearer", bearer)])
}

fn path_item(item: &Json) -> Json {
    let notification = item.get("x-ms-notification-content");
    let operations = item.members().iter().filter(|(name, _)| !name.starts_with("x-"));
    Json::Object(operations.map(|(method, it)| (method.clone(), operation(it, notification))).collect())
}

fn operation(old: &Json, notification: Option<&Json>) -> Json {
    let mut new = Json::Object(Vec::new());
    for name in ["operationId", "summary", "description", "tags"] {
        if let Some(value) = old.get(name) {
            new.set(name, value.clone());
        }
    }
    let (body, others): (Vec<_>, Vec<_>) = old
        .get("parameters")
        .map(Json::items)
        .unwrap_or_default()
        .iter()
        .partition(|parameter| parameter.text_of("in") == Some("body"));
    if !others.is_empty() {
        new.set("parameters", others.into_iter().map(parameter).collect::<Vec<_>>());
    }
    if let Some(body) = body.first() {
        let mut request = object([("required", body.is_true("required").into()), ("content", content(body))]);
        if let Some(description) = body.get("description") {
            request.set("description", description.clone());
        }
        new.set("requestBody", request);
    }
    let responses = old.get("responses").map(Json::members).unwrap_or_default();
    new.set("responses", Json::Object(responses.iter().map(|(status, it)| (status.clone(), response(it))).collect()));
    if let (Some(_), Some(notification)) = (old.get("x-ms-trigger"), notification) {
        new.set("callbacks", callbacks(old, notification));
    }
    new
}

/// A query or path parameter: what 2.0 says of its type goes into a schema.
fn parameter(old: &Json) -> Json {
    let mut new = Json::Object(Vec::new());
    for name in ["name", "in", "required", "description"] {
        if let Some(value) = old.get(name) {
            new.set(name, value.clone());
        }
    }
    let of_type = ["type", "format", "enum", "default", "minimum", "maximum"];
    let members = old.members().iter().filter(|(name, _)| of_type.contains(&name.as_str()));
    new.set("schema", Json::Object(members.cloned().collect()));
    new
}

fn content(old: &Json) -> Json {
    object([(MEDIA_TYPE, object([("schema", schema(old.get("schema").unwrap_or(&Json::Null)))]))])
}

fn response(old: &Json) -> Json {
    let mut new = object([("description", old.get("description").cloned().unwrap_or(Json::Null))]);
    let headers = old.get("headers").map(Json::members).unwrap_or_default();
    if !headers.is_empty() {
        let header = |old: &Json| {
            let mut new = parameter(old);
            new.remove("required");
            new
        };
        new.set("headers", Json::Object(headers.iter().map(|(name, it)| (name.clone(), header(it))).collect()));
    }
    if old.get("schema").is_some() {
        new.set("content", content(old));
    }
    new
}

/// The webhook: what is posted to the address in the subscription's body.
fn callbacks(subscribe: &Json, notification: &Json) -> Json {
    let header = |name: &str, description: &str| {
        object([
            ("name", name.into()),
            ("in", "header".into()),
            ("required", true.into()),
            ("description", description.into()),
            ("schema", object([("type", "string".into())])),
        ])
    };
    let answer = |description: &str| object([("description", description.into())]);
    let mut body = object([("required", true.into()), ("content", content(notification))]);
    if let Some(description) = notification.get("description") {
        body.set("description", description.clone());
    }
    let post = object([
        ("summary", subscribe.get("summary").cloned().unwrap_or(Json::Null)),
        ("description", "Sent by the gateway, at least once, and signed as Standard Webhooks 1.0 says.".into()),
        ("security", vec![].into()),
        (
            "parameters",
            vec![
                header("webhook-id", "The receipt ID of the record, the same on every try."),
                header("webhook-timestamp", "Seconds since 1970, when this try was sent."),
                header(
                    "webhook-signature",
                    "The letters v1, a comma, and the base64 of the HMAC-SHA256 of ID, timestamp and body under the subscription's secret.",
                ),
            ]
            .into(),
        ),
        ("requestBody", body),
        (
            "responses",
            object([
                ("2XX", answer("The event has arrived.")),
                ("410", answer("The subscription ends.")),
                ("default", answer("The event is sent again, or given up, as for every destination.")),
            ]),
        ),
    ]);
    object([("recordReachedQueue", object([("{$request.body#/callbackUrl}", object([("post", post)]))]))])
}

/// A schema: references to their new place, `null` as a type, examples in a list, no extensions.
fn schema(old: &Json) -> Json {
    let mut new = Json::Object(Vec::new());
    for (name, value) in old.members() {
        match name.as_str() {
            "$ref" => new.set(name, value.text().unwrap_or_default().replacen(OLD_SCHEMAS, NEW_SCHEMAS, 1)),
            "type" if old.is_true("x-nullable") => new.set(name, vec![value.clone(), "null".into()]),
            "example" => new.set("examples", vec![value.clone()]),
            "items" | "additionalProperties" if value.is_object() => new.set(name, schema(value)),
            "properties" => {
                new.set(name, Json::Object(value.members().iter().map(|(it, of)| (it.clone(), schema(of))).collect()));
            }
            extension if extension.starts_with("x-") => {}
            _ => new.set(name, value.clone()),
        }
    }
    new
}

fn without_extensions(old: &Json) -> Json {
    Json::Object(old.members().iter().filter(|(name, _)| !name.starts_with("x-")).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::{DEFINITION, OPENAPI_3};

    fn converted() -> Json {
        convert(&Json::parse(DEFINITION).expect("JSON"))
    }

    #[test]
    fn the_committed_description_is_the_conversion() {
        assert!(
            converted().to_file() == OPENAPI_3,
            "openapi/openapi.json is not what the definition converts to; write it anew with \
             `cargo test --lib rewrite_openapi_json -- --ignored`"
        );
    }

    #[test]
    #[ignore = "writes openapi/openapi.json anew"]
    fn rewrite_openapi_json() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
        std::fs::write(file, converted().to_file()).expect("written");
    }

    #[test]
    fn nothing_of_connectors_is_left() {
        let text = converted().to_file();
        for part in ["x-ms-", "x-nullable", "#/definitions/", "\"example\"", "\"in\": \"body\""] {
            assert!(!text.contains(part), "{part}");
        }
    }

    #[test]
    fn null_is_a_type_and_the_trigger_a_callback() {
        let converted = converted();
        let rule = converted.at(&["components", "schemas", "Route", "properties", "rule", "type"]);
        assert_eq!(rule, Some(&vec!["string".into(), "null".into()].into()));
        let subscribe = converted.at(&["paths", "/api/v1/subscriptions", "post"]).expect("there");
        let callback = subscribe.at(&["callbacks", "recordReachedQueue", "{$request.body#/callbackUrl}", "post"]);
        let event = callback.expect("there").at(&["requestBody", "content", "application/json", "schema", "$ref"]);
        assert_eq!(event, Some(&"#/components/schemas/RecordEvent".into()));
    }

    #[test]
    fn no_operation_and_no_status_is_lost() {
        let (old, new) = (Json::parse(DEFINITION).expect("JSON"), converted());
        let operations = |tree: &Json| -> Vec<(String, String, Vec<String>)> {
            let methods = ["get", "post", "delete"];
            let mut all = Vec::new();
            for (path, item) in tree.get("paths").expect("there").members() {
                for (method, it) in item.members().iter().filter(|(name, _)| methods.contains(&name.as_str())) {
                    let statuses = it.get("responses").expect("there").members().iter().map(|(it, _)| it.clone());
                    all.push((path.clone(), method.clone(), statuses.collect()));
                }
            }
            all
        };
        assert_eq!(operations(&old), operations(&new));
        assert_eq!(operations(&new).len(), 16);
    }
}
