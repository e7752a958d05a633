//! The 3.1 description as a page: every operation with its parameters, bodies and answers, and a request to paste.
//!
//! Made once, from the description alone, so it cannot say anything else. It has no scripts and asks no other host for
//! anything: its policy allows the one style sheet inside it, by its hash, and nothing besides.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::OPENAPI_3;
use super::json::{Json, object};

/// Where the schemas are.
const SCHEMAS: &str = "#/components/schemas/";
/// The only media type.
const MEDIA_TYPE: &str = "application/json";
/// The style sheet. What stands in the page is this, to the byte: its hash is in the policy.
const STYLE: &str = include_str!("../../templates/api.css");

/// The page.
pub fn html() -> &'static str {
    static PAGE: LazyLock<String> = LazyLock::new(|| {
        let description = Json::parse(OPENAPI_3).unwrap_or(Json::Null);
        // Writing to memory fails only if the template could; a test renders it.
        Page::of(&description).render().unwrap_or_default()
    });
    &PAGE
}

/// The `Content-Security-Policy` to serve it with.
pub fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

#[derive(Template)]
#[template(path = "api.html")]
struct Page<'a> {
    style: &'static str,
    title: &'a str,
    description: &'a str,
    version: &'static str,
    tags: Vec<Tag<'a>>,
    schemas: Vec<Schema<'a>>,
}

struct Tag<'a> {
    name: &'a str,
    anchor: String,
    description: &'a str,
    operations: Vec<Operation<'a>>,
}

struct Operation<'a> {
    id: &'a str,
    method: String,
    path: &'a str,
    summary: &'a str,
    description: &'a str,
    parameters: Vec<Parameter<'a>>,
    body: Option<TypeName<'a>>,
    curl: String,
    answers: Vec<Answer<'a>>,
    callback: Option<Callback<'a>>,
}

struct Parameter<'a> {
    name: &'a str,
    place: &'a str,
    required: bool,
    description: &'a str,
}

struct Answer<'a> {
    status: &'a str,
    description: &'a str,
    body: Option<TypeName<'a>>,
    success: bool,
    example: Option<String>,
}

struct Callback<'a> {
    description: &'a str,
    headers: Vec<Parameter<'a>>,
    body: Option<TypeName<'a>>,
    example: String,
    answers: Vec<Answer<'a>>,
}

struct Schema<'a> {
    name: &'a str,
    description: &'a str,
    properties: Vec<Property<'a>>,
}

struct Property<'a> {
    name: &'a str,
    required: bool,
    type_name: TypeName<'a>,
    description: &'a str,
    values: Vec<&'a str>,
}

/// A type in words, and the schema that it leads to, if any.
struct TypeName<'a> {
    before: &'static str,
    schema: Option<&'a str>,
    words: String,
}

impl<'a> Page<'a> {
    fn of(description: &'a Json) -> Self {
        let info = description.get("info").unwrap_or(&Json::Null);
        let paths = description.get("paths").map(Json::members).unwrap_or_default();
        let operations: Vec<(&str, Operation<'a>)> = paths
            .iter()
            .flat_map(|(path, item)| item.members().iter().map(move |(method, it)| (path, method, it)))
            .map(|(path, method, it)| {
                let tag = it.get("tags").and_then(|tags| tags.items().first()).and_then(Json::text);
                (tag.unwrap_or_default(), Operation::of(description, path, method, it))
            })
            .collect();
        let mut tags: Vec<Tag<'a>> = description
            .get("tags")
            .map(Json::items)
            .unwrap_or_default()
            .iter()
            .map(|tag| {
                let name = tag.text_of("name").unwrap_or_default();
                let anchor = name.to_lowercase().replace(' ', "-");
                Tag {
                    name,
                    anchor,
                    description: tag.text_of("description").unwrap_or_default(),
                    operations: Vec::new(),
                }
            })
            .collect();
        for (name, operation) in operations {
            if let Some(tag) = tags.iter_mut().find(|tag| tag.name == name) {
                tag.operations.push(operation);
            }
        }
        let schemas = description.at(&["components", "schemas"]).map(Json::members).unwrap_or_default();
        Self {
            style: STYLE,
            title: info.text_of("title").unwrap_or_default(),
            description: info.text_of("description").unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION"),
            tags,
            schemas: schemas.iter().map(|(name, schema)| Schema::of(name, schema)).collect(),
        }
    }
}

impl<'a> Operation<'a> {
    fn of(description: &'a Json, path: &'a str, method: &str, it: &'a Json) -> Self {
        let body = it.get("requestBody").and_then(schema_of);
        let answers = it.get("responses").map(Json::members).unwrap_or_default();
        let callback = it.get("callbacks").and_then(|it| {
            let (_, by_address) = it.members().first()?;
            by_address.members().first()?.1.get("post")
        });
        Self {
            id: it.text_of("operationId").unwrap_or_default(),
            method: method.to_ascii_uppercase(),
            path,
            summary: it.text_of("summary").unwrap_or_default(),
            description: it.text_of("description").unwrap_or_default(),
            parameters: Parameter::all(it),
            body: body.map(TypeName::of),
            curl: curl(description, path, method, it, body),
            answers: answers.iter().map(|(status, answer)| Answer::of(description, status, answer)).collect(),
            callback: callback.map(|post| Callback::of(description, post)),
        }
    }
}

/// A request to paste.
fn curl(description: &Json, path: &str, method: &str, operation: &Json, body: Option<&Json>) -> String {
    let required =
        Parameter::all(operation).into_iter().filter(|parameter| parameter.place == "query" && parameter.required);
    let query: Vec<String> = required.map(|parameter| format!("{}=…", parameter.name)).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let mut text = String::from("curl");
    if method != "get" && !(method == "post" && body.is_some()) {
        text.push_str(&format!(" -X {}", method.to_ascii_uppercase()));
    }
    text.push_str(&format!(" \"$GATEWAY{path}{query}\" \\\n  -H \"X-Api-Key: $KEY\""));
    if let Some(schema) = body {
        let example = example(description, schema, 0).to_file();
        // An apostrophe would end the shell's quotes.
        text.push_str(" \\\n  -H 'Content-Type: application/json' \\\n  -d '");
        text.push_str(&example.trim_end().replace('\'', "'\\''"));
        text.push('\'');
    }
    text
}

impl<'a> Parameter<'a> {
    fn all(operation: &'a Json) -> Vec<Self> {
        let parameters = operation.get("parameters").map(Json::items).unwrap_or_default();
        parameters
            .iter()
            .map(|it| Self {
                name: it.text_of("name").unwrap_or_default(),
                place: it.text_of("in").unwrap_or_default(),
                required: it.is_true("required"),
                description: it.text_of("description").unwrap_or_default(),
            })
            .collect()
    }
}

impl<'a> Answer<'a> {
    fn of(description: &Json, status: &'a str, answer: &'a Json) -> Self {
        let schema = schema_of(answer);
        let success = status.starts_with('2');
        Self {
            status,
            description: answer.text_of("description").unwrap_or_default(),
            body: schema.map(TypeName::of),
            success,
            example: schema.filter(|_| success).map(|schema| example(description, schema, 0).to_file()),
        }
    }
}

impl<'a> Callback<'a> {
    fn of(description: &Json, post: &'a Json) -> Self {
        let schema = post.get("requestBody").and_then(schema_of);
        let answers = post.get("responses").map(Json::members).unwrap_or_default();
        Self {
            description: post.text_of("description").unwrap_or_default(),
            headers: Parameter::all(post),
            body: schema.map(TypeName::of),
            example: schema.map(|schema| example(description, schema, 0).to_file()).unwrap_or_default(),
            answers: answers.iter().map(|(status, answer)| Answer::of(description, status, answer)).collect(),
        }
    }
}

impl<'a> Schema<'a> {
    fn of(name: &'a str, schema: &'a Json) -> Self {
        let required = schema.get("required").map(Json::items).unwrap_or_default();
        let properties = schema.get("properties").map(Json::members).unwrap_or_default();
        let property = |(name, it): &'a (String, Json)| Property {
            name,
            required: required.iter().any(|it| it.text() == Some(name)),
            type_name: TypeName::of(it),
            description: it.text_of("description").unwrap_or_default(),
            values: it.get("enum").map(Json::items).unwrap_or_default().iter().filter_map(Json::text).collect(),
        };
        Self {
            name,
            description: schema.text_of("description").unwrap_or_default(),
            properties: properties.iter().map(property).collect(),
        }
    }
}

impl<'a> TypeName<'a> {
    fn of(schema: &'a Json) -> Self {
        if let Some(items) = schema.get("items") {
            return Self { before: "list of ", ..Self::of(items) };
        }
        if let Some(reference) = schema.text_of("$ref") {
            return Self { before: "", schema: reference.strip_prefix(SCHEMAS), words: String::new() };
        }
        let types = schema.get("type");
        let named: Vec<&str> = match types {
            Some(Json::Text(one)) => vec![one],
            several => several.map(Json::items).unwrap_or_default().iter().filter_map(Json::text).collect(),
        };
        let format = schema.text_of("format").map(|format| format!(", {format}")).unwrap_or_default();
        Self { before: "", schema: None, words: named.join(" or ") + &format }
    }
}

/// The schema of a body.
fn schema_of(holder: &Json) -> Option<&Json> {
    holder.at(&["content", MEDIA_TYPE, "schema"])
}

/// A value that the schema allows, made of the examples of its parts.
fn example(description: &Json, schema: &Json, depth: usize) -> Json {
    const DEEPEST: usize = 16;
    if depth > DEEPEST {
        return Json::Null;
    }
    if let Some(name) = schema.text_of("$ref").and_then(|reference| reference.strip_prefix(SCHEMAS)) {
        return description
            .at(&["components", "schemas", name])
            .map_or(Json::Null, |it| example(description, it, depth + 1));
    }
    let first = |name| schema.get(name).map(Json::items).unwrap_or_default().first().cloned();
    if let Some(given) = first("examples").or_else(|| schema.get("default").cloned()).or_else(|| first("enum")) {
        return given;
    }
    if let Some(items) = schema.get("items") {
        return Json::List(vec![example(description, items, depth + 1)]);
    }
    let mut made = object([]);
    for (name, property) in schema.get("properties").map(Json::members).unwrap_or_default() {
        // What is there only in some cases would tell of all of them at once.
        let rare = [
            "discarded",
            "waiting",
            "remark",
            "shortened",
            "lastError",
            "nextAttemptAt",
            "endedAt",
            "endedBecause",
            "secret",
        ];
        let required = schema.get("required").map(Json::items).unwrap_or_default();
        if required.iter().any(|it| it.text() == Some(name)) || !rare.contains(&name.as_str()) {
            made.set(name, example(description, property, depth + 1));
        }
    }
    if made.members().is_empty() { Json::from("contoso") } else { made }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_every_schema_is_on_the_page() {
        let description = Json::parse(OPENAPI_3).expect("JSON");
        for (path, item) in description.get("paths").expect("there").members() {
            assert!(html().contains(path.as_str()), "{path}");
            for (_, operation) in item.members() {
                let id = operation.text_of("operationId").expect("a name");
                assert!(html().contains(&format!("id=\"{id}\"")), "{id}");
            }
        }
        for (name, _) in description.at(&["components", "schemas"]).expect("there").members() {
            assert!(html().contains(&format!("id=\"schema-{name}\"")), "{name}");
        }
    }

    #[test]
    fn the_page_asks_nobody_for_anything() {
        for part in ["<script", "<link", "<img", "<iframe", "@import", "url(", "style=\"", " onclick", "src="] {
            assert!(!html().contains(part), "{part}");
        }
        assert!(html().contains(&format!("<style>{STYLE}</style>")), "what is hashed is what stands there");
        assert!(content_security_policy().starts_with("default-src 'none'; style-src 'sha256-"));
    }

    #[test]
    fn links_lead_somewhere() {
        for link in html().split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(html().contains(&format!("id=\"{link}\"")), "{link}");
        }
    }

    #[test]
    fn examples_are_what_the_schemas_allow() {
        let description: serde_json::Value = serde_json::from_str(OPENAPI_3).expect("JSON");
        let tree = Json::parse(OPENAPI_3).expect("JSON");
        for (name, schema) in tree.at(&["components", "schemas"]).expect("there").members() {
            let made = serde_json::to_value(example(&tree, schema, 0)).expect("JSON");
            let mut whole = description["components"].clone();
            whole["$ref"] = format!("#/schemas/{name}").into();
            let text = serde_json::to_string(&whole).expect("text").replace("#/components/schemas/", "#/schemas/");
            let validator = jsonschema::validator_for(&serde_json::from_str(&text).expect("JSON")).expect("a schema");
            let faults: Vec<String> = validator.iter_errors(&made).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{name}: {faults:?} in {made}");
        }
    }
}
