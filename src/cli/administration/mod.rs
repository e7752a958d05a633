//! The commands that administer a running gateway: one file per kind of resource, and this page for what they share.
//!
//! They ask the administration API and nothing else, so they can do what it can do and no more. Names are resolved
//! through its lists: an organization by its unique name or ID, a work stream by its name or ID, an entity configuration by
//! the entity or its ID. What was read before a change is sent along as `If-Match`, so nobody's change is lost.

pub(super) mod apply;
pub(super) mod audit;
pub(super) mod dead_letters;
pub(super) mod entities;
pub(super) mod export;
pub(super) mod gateways;
pub(super) mod keys;
pub(super) mod organizations;
pub(super) mod queues;
pub(super) mod rules;
pub(super) mod subscriptions;
pub(super) mod variables;
pub(super) mod work_streams;

mod condition;
mod fields;
mod toml_form;

use std::io::Read as _;
use std::path::Path;

use reqwest::Method;
use serde_json::{Map, Value};

use super::client::{Answer, Client, ClientArgs, Listener, fault_in_words};
use super::output::{Output, columns, printable};
use super::{Exit, Failure};
use crate::config::strict;
use crate::domain::ids::Guid;

/// The administration of a running gateway, as commands see it.
pub(super) struct Desk<'o> {
    client: Client,
    output: &'o Output,
}

/// A resource that a name was resolved to.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// Its path in the administration.
    pub(super) path: String,
    /// What it is.
    pub(super) resource: Value,
}

/// A path of the administration of these segments, names escaped.
pub(super) fn path(segments: &[&str]) -> String {
    let mut path = "/admin/v1".to_owned();
    for segment in segments {
        path.push('/');
        for byte in segment.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
                _ => path.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    path
}

/// A path with a query parameter more.
pub(super) fn with(path: &str, name: &str, value: &str) -> String {
    let escaped = self::path(&[value]);
    let value = escaped.strip_prefix("/admin/v1/").unwrap_or_default();
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}{name}={value}")
}

/// A part of a path, before its query.
pub(super) fn under(path: &str, segments: &[&str]) -> String {
    let more = self::path(segments);
    let more = more.strip_prefix("/admin/v1").unwrap_or_default();
    match path.split_once('?') {
        Some((path, query)) => format!("{path}{more}?{query}"),
        None => format!("{path}{more}"),
    }
}

/// Whether a request changes what every gateway serves; of the others there is nothing to wait for.
fn changes_the_configuration(method: &Method, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let changing = ["organizations", "work-streams", "api-keys", "reload"];
    let first = path.strip_prefix("/admin/v1/").and_then(|rest| rest.split('/').next());
    *method != Method::GET && first.is_some_and(|first| changing.contains(&first)) && !path.ends_with("/rules/preview")
}

/// A member of a resource as text.
pub(super) fn text(resource: &Value, member: &str) -> String {
    match resource.get(member) {
        None | Some(Value::Null) => String::new(),
        Some(when @ Value::Object(_)) if member == "when" => printable(&condition::words(when)),
        Some(Value::String(text)) => printable(text),
        Some(Value::Array(elements)) if elements.iter().all(Value::is_string) => {
            elements.iter().filter_map(Value::as_str).map(printable).collect::<Vec<_>>().join(", ")
        }
        Some(other) => printable(&other.to_string()),
    }
}

impl<'o> Desk<'o> {
    pub(super) fn new(args: &ClientArgs, output: &'o Output) -> Result<Self, Failure> {
        Ok(Self { client: Client::new(args)?, output })
    }

    pub(super) const fn output(&self) -> &'o Output {
        self.output
    }

    /// One request, whose refusal is a failure.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Answer, Failure> {
        let answer = self.attempt(method, path, body, if_match).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(answer.refusal()) }
    }

    /// One request, whatever comes of it.
    pub(super) async fn attempt(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Answer, Failure> {
        let body = body.map(|body| body.to_string().into_bytes());
        let path = if self.client.waits_for_all() && changes_the_configuration(&method, path) {
            with(path, "wait", "all")
        } else {
            path.to_owned()
        };
        self.client.send_if(Listener::Admin, method, &path, (body, if_match)).await
    }

    /// A whole list, page by page.
    pub(super) async fn all(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let page = match &next {
                None => with(path, "limit", "500"),
                Some(after) => with(&with(path, "limit", "500"), "after", after),
            };
            let mut body = self.ask(Method::GET, &page, None, None).await?.body;
            if let Some(Value::Array(value)) = body.get_mut("value") {
                all.append(value);
            }
            next = body.get("next").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    /// The organization of this unique name or ID.
    pub(super) async fn organization(&self, named: &str) -> Result<Named, Failure> {
        const NEXT: &str = "`streamgate organizations create NAME` makes one";
        let resource = self.found("/admin/v1/organizations", named, ("organization", "uniqueName", NEXT)).await?;
        Ok(Named { path: path(&["organizations", &text(&resource, "id")]), resource })
    }

    /// The work stream of this name or ID, in one organization or in any.
    pub(super) async fn work_stream(&self, named: &str, organization: Option<&str>) -> Result<Named, Failure> {
        let list = match organization {
            None => "/admin/v1/work-streams".to_owned(),
            Some(organization) => {
                let found = self.organization(organization).await?;
                with("/admin/v1/work-streams", "organizationId", &text(&found.resource, "id"))
            }
        };
        const NEXT: &str =
            "`streamgate work-streams list` shows them; where a name is not unique, give the ID or --organization";
        let resource = self.found(&list, named, ("work stream", "name", NEXT)).await?;
        let of = path(&["work-streams", &text(&resource, "id")]);
        Ok(Named { path: with(&of, "organizationId", &text(&resource, "organizationId")), resource })
    }

    /// The entity configuration of this entity or ID.
    pub(super) async fn entity(&self, work_stream: &Named, named: &str) -> Result<Named, Failure> {
        let list = under(&work_stream.path, &["entity-configurations"]);
        const NEXT: &str = "`streamgate entities add` makes one";
        let resource = self.found(&list, named, ("entity configuration", "entityLogicalName", NEXT)).await?;
        Ok(Named { path: under(&list, &[&text(&resource, "id")]), resource })
    }

    /// The only resource of a list with this ID, or with this name in the member that has it.
    async fn found(&self, list: &str, named: &str, (noun, member, next): (&str, &str, &str)) -> Result<Value, Failure> {
        let id = Guid::parse(named.trim()).ok().map(|id| id.to_string());
        // The gateway looks for parts of names, so that a long list need not come whole; it does not look for IDs.
        let narrowed = if id.is_none() { with(list, "name", named.trim()) } else { list.to_owned() };
        let similar = self.all(&narrowed).await?;
        let fault = match one_of(&similar, id.as_deref().unwrap_or(named), &["id", member]) {
            Ok(found) => return Ok(found),
            Err(fault) => fault,
        };
        let all = if id.is_none() { self.all(list).await? } else { similar };
        Err(fault.told(noun, named, &names(&all, member), next))
    }

    /// Reads a resource, so that a change of it can say what it was.
    pub(super) async fn tag_of(&self, path: &str) -> Result<Option<String>, Failure> {
        Ok(self.ask(Method::GET, path, None, None).await?.etag)
    }

    /// Prints a list as a table.
    pub(super) fn table(&self, resources: &[Value], shown: &[(&str, &str)]) -> Result<Exit, Failure> {
        if self.output.is_json() {
            self.output.json(&serde_json::json!({ "value": resources }))?;
            return Ok(Exit::Done);
        }
        if resources.is_empty() {
            self.output.note("There are none.")?;
            return Ok(Exit::Done);
        }
        let mut rows = vec![shown.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>()];
        rows.extend(resources.iter().map(|resource| shown.iter().map(|(_, member)| text(resource, member)).collect()));
        for line in columns(&rows) {
            self.output.line(line)?;
        }
        Ok(Exit::Done)
    }

    /// Prints a resource, member by member, and its warnings.
    pub(super) fn resource(&self, resource: &Value) -> Result<Exit, Failure> {
        if self.output.is_json() {
            self.output.json(resource)?;
            return Ok(Exit::Done);
        }
        let members = resource.as_object().into_iter().flatten().filter(|(name, _)| *name != "warnings");
        let rows: Vec<_> = members.map(|(name, _)| vec![name.clone(), text(resource, name)]).collect();
        for line in columns(&rows) {
            self.output.line(line)?;
        }
        self.warnings(resource)
    }

    /// Tells the warnings of an answer.
    pub(super) fn warnings(&self, answer: &Value) -> Result<Exit, Failure> {
        for warning in answer.get("warnings").and_then(Value::as_array).into_iter().flatten() {
            self.output.note(format!("warning:{}", fault_in_words(warning)))?;
        }
        Ok(Exit::Done)
    }

    /// Says that something is done, with the generation in which it counts.
    pub(super) fn done(&self, answer: &Value, what: &str) -> Result<Exit, Failure> {
        if self.output.is_json() {
            self.output.json(answer)?;
            return Ok(Exit::Done);
        }
        self.output.line(format!("{what} It counts from generation {} on.", text(answer, "catalogGeneration")))?;
        self.warnings(answer)
    }
}

/// Why a name was not resolved.
enum Unresolved {
    None,
    Several,
}

impl Unresolved {
    fn told(&self, noun: &str, named: &str, known: &[String], next: &str) -> Failure {
        let named = printable(named);
        let known =
            if known.is_empty() { "There is none.".to_owned() } else { format!("There are: {}.", known.join(", ")) };
        let message = match self {
            Self::None => format!("there is no {noun} `{named}` for this credential. {known} {next}."),
            Self::Several => format!("`{named}` is the name of more than one {noun}. {next}."),
        };
        Failure::new(Exit::Refused, message)
    }
}

/// The only resource that one of these members calls so, exactly or else in another case: the first member that anything
/// is called by counts.
fn one_of(all: &[Value], named: &str, members: &[&str]) -> Result<Value, Unresolved> {
    let named = named.trim();
    for member in members {
        let exactly = all.iter().any(|resource| text(resource, member) == named);
        let called = |resource: &&Value| {
            let name = text(resource, member);
            if exactly { name == named } else { name.to_lowercase() == named.to_lowercase() }
        };
        let mut found = all.iter().filter(called);
        match (found.next(), found.next()) {
            (Some(only), None) => return Ok(only.clone()),
            (Some(_), Some(_)) => return Err(Unresolved::Several),
            (None, _) => {}
        }
    }
    Err(Unresolved::None)
}

/// What resources are called, as many as fit into a message.
fn names(all: &[Value], member: &str) -> Vec<String> {
    const SHOWN: usize = 10;
    let mut names: Vec<_> = all.iter().take(SHOWN).map(|resource| text(resource, member)).collect();
    if all.len() > SHOWN {
        names.push(format!("and {} more", all.len() - SHOWN));
    }
    names
}

/// The value of a flag that every one of these commands needs; clap cannot demand it, since it may stand anywhere.
pub(super) fn needed<'v>(flag: &str, value: &'v str) -> Result<&'v str, Failure> {
    if value.trim().is_empty() {
        return Err(Failure::new(Exit::Usage, format!("--{flag} is missing: say which one is meant")));
    }
    Ok(value)
}

/// What is in a file, or standard input where it is `-`.
pub(super) fn read_bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut content)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut content))
    };
    read.map_err(|fault| Failure::new(Exit::Usage, format!("{} cannot be read: {fault}", file.display())))?;
    Ok(content)
}

/// JSON from a file, or from standard input where it is `-`.
pub(super) fn read_json(file: &Path) -> Result<Value, Failure> {
    let wrong = |fault| Failure::new(Exit::Usage, format!("{} {fault}", file.display()));
    strict::parse(&read_bytes(file)?).map_err(wrong)
}

/// A JSON object from a file.
pub(super) fn read_object(file: &Path) -> Result<Map<String, Value>, Failure> {
    match read_json(file)? {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Failure::new(Exit::Usage, format!("{}: is not a JSON object", file.display())))
        }
    }
}
