//! Where spans are sent: `[telemetry.otlp]`.

use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::Input;
use super::routing_queue::{is_localhost, literal, secret_source};
use crate::config::keys;
use crate::config::raw::Table;
use crate::config::secret::{self, SecretKind, SecretSource};
use crate::config::settings::{OtlpSettings, SecretText};
use crate::domain::ids::excerpt;

/// Header fields that the exporter sets itself, or that the connection is made of.
const OWN_HEADERS: [&str; 7] =
    ["content-type", "content-length", "host", "user-agent", "connection", "transfer-encoding", "content-encoding"];

/// The settings without the values of their header fields, which are read when everything else is known to be good.
pub(super) struct Draft<'a> {
    settings: OtlpSettings,
    /// The name of each header field, and where its value is.
    pub(super) headers: Vec<(Box<str>, SecretSource<'a>)>,
}

/// Checks `[telemetry.otlp]`; `None` where nothing is to be sent.
pub(super) fn otlp<'a>(main: &Table<'a>, data_dir: &Path) -> Option<Draft<'a>> {
    let table = main.table("telemetry", keys::TELEMETRY)?.table("otlp", keys::OTLP)?;
    let endpoint = endpoint(&table);
    let sampling_ratio = table.number("sampling_ratio", 0.0..=1.0).unwrap_or(1.0);
    let timeout = table.duration("timeout_seconds", Duration::from_secs(1), 0.1..=60.0);
    let resource = resource(&table);
    let headers: Vec<_> =
        table.tables("headers", keys::OTLP_HEADER).iter().filter_map(|header| self::header(header, data_dir)).collect();
    let endpoint = endpoint?;
    let host = endpoint.host_str().unwrap_or_default();
    let stays_here = literal(host).map_or_else(|| is_localhost(host), |address| address.to_canonical().is_loopback());
    if endpoint.scheme() == "http" && !stays_here && !headers.is_empty() {
        let hint = "use https, or a collector on this machine";
        table.place_of("endpoint").warning("the header fields for the collector travel in the clear", hint);
    }
    let timeout = timeout.unwrap_or(Duration::from_secs(10));
    let settings = OtlpSettings { endpoint, sampling_ratio, timeout, resource, headers: Vec::new() };
    Some(Draft { settings, headers })
}

impl Draft<'_> {
    /// The settings, with their secrets.
    pub(super) fn with_secrets(self, input: &Input<'_>) -> OtlpSettings {
        let Self { mut settings, headers } = self;
        for (name, source) in headers {
            let Some(text) = secret::read_text(&source, input.outside.environment, false) else { continue };
            let text = text.trim();
            if HeaderValue::from_str(text).is_err() {
                let message = format!("what {} holds cannot stand in a header field", source.place);
                source.at.hinted(message, "it must be one line of visible characters");
                continue;
            }
            settings.headers.push((name, SecretText::new(text)));
        }
        settings
    }
}

fn endpoint(table: &Table<'_>) -> Option<Url> {
    let field = table.string("endpoint")?;
    let url = match Url::parse(field.value) {
        Ok(url) => url,
        Err(error) => {
            field.at.fault(format!("`endpoint`: `{}` is not a URL: {error}", excerpt(field.value)));
            return None;
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        field.at.fault(format!("`endpoint` must be http or https, not {}", excerpt(url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "put the credential into `[[telemetry.otlp.headers]]`, which reads it from a file";
        field.at.hinted("`endpoint` holds a user name or a password", hint);
    }
    if url.query().is_some() || url.fragment().is_some() {
        field.at.hinted("`endpoint` has a query or a fragment", "`/v1/traces` is added to its path");
    }
    if url.port() == Some(4317) {
        let hint = "4318 is the usual port for OTLP over HTTP";
        field.at.warning("port 4317 is the usual one for gRPC, which is not spoken here", hint);
    }
    Some(url)
}

/// `name=value`, each at most once; the service names itself unless it is named here.
fn resource(table: &Table<'_>) -> Vec<(Box<str>, Box<str>)> {
    let mut resource: Vec<(Box<str>, Box<str>)> = Vec::new();
    for field in table.strings("resource_attributes").unwrap_or_default() {
        let pair = field.value.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let Some((name, value)) = pair.filter(|(name, value)| !name.is_empty() && value.len() <= 256) else {
            let message = format!("`resource_attributes`: `{}` is not `name=value`", excerpt(field.value));
            field.at.hinted(message, "such as \"deployment.environment.name=production\", the value 256 bytes at most");
            continue;
        };
        if resource.iter().any(|(known, _)| **known == *name) {
            field.at.fault(format!("`resource_attributes`: `{}` is there twice", excerpt(name)));
        }
        resource.push((name.into(), value.into()));
    }
    for (name, value) in [("service.name", env!("CARGO_PKG_NAME")), ("service.version", env!("CARGO_PKG_VERSION"))] {
        if !resource.iter().any(|(known, _)| **known == *name) {
            resource.push((name.into(), value.into()));
        }
    }
    resource
}

fn header<'a>(table: &Table<'a>, data_dir: &Path) -> Option<(Box<str>, SecretSource<'a>)> {
    let name = table.required_string("name");
    let source = secret_source(table, data_dir, ["value_file", "value_env"]);
    if source.is_none() && !table.has("value_file") && !table.has("value_env") {
        let message = format!("`value_file` or `value_env` is missing in {}", keys::OTLP_HEADER.table);
        table.at.hinted(message, "the value is a secret: name the file or the environment variable that holds it");
    }
    let field = name?;
    let known = HeaderName::try_from(field.value);
    if !known.is_ok_and(|name| !OWN_HEADERS.contains(&name.as_str())) {
        field.at.fault(format!("`name`: `{}` cannot be the name of a header field here", excerpt(field.value)));
        return None;
    }
    let (place, at) = source?;
    Some((
        field.value.to_ascii_lowercase().into(),
        SecretSource { kind: SecretKind::Header, place, at, create: false, previous: false },
    ))
}
