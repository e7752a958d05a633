//! `[routing_queues.NAME]` of kind `nats`: servers, stream, subjects, and who the gateway is to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::routing_queue::{Around, is_localhost, literal, secret_source};
use super::tls::read_certificates;
use crate::config::identity::TlsIdentity;
use crate::config::load::Environment;
use crate::config::raw::{Field, Table};
use crate::config::secret::{self, SecretKind, SecretSource};
use crate::config::settings::{NatsLogin, NatsServer, NatsSettings, NatsTls, NewStream, SecretText};
use crate::config::source::Place;
use crate::config::subject::{DEFAULT_TEMPLATE, SubjectTemplate};
use crate::domain::ids::excerpt;

/// The port of NATS servers for clients, where none is said.
const DEFAULT_PORT: u16 = 4222;

/// The settings without what is read from secret files.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    settings: NatsSettings,
    login: Option<(LoginKind<'a>, SecretSource<'a>)>,
    authorities: Option<PathBuf>,
    /// The certificate to show: its file, where that is said, and its key.
    identity: Option<(PathBuf, Place<'a>, SecretSource<'a>)>,
}

/// How a secret is used.
#[derive(Debug, Clone, Copy)]
enum LoginKind<'a> {
    Token,
    Password(&'a str),
    NkeySeed,
    Credentials,
}

impl Draft<'_> {
    /// The files that hold secrets and certificates.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let login = self.login.iter().filter_map(|(_, source)| source.place.file());
        let identity = self.identity.iter().flat_map(|(file, _, key)| [Some(file.clone()), key.place.file()]).flatten();
        login.chain(identity).chain(self.authorities.clone()).collect()
    }

    /// The settings with what is in those files.
    pub(super) fn with_secrets(self, environment: Environment<'_>) -> Option<NatsSettings> {
        let Self { mut settings, login, identity, .. } = self;
        if let Some((kind, source)) = login {
            settings.login = read_login(kind, &source, environment)?;
        }
        if let Some((file, at, source)) = identity {
            let (certificates, key) = (read_certificates(&file, at), secret::read_text(&source, environment, false));
            let (certificates, key) = (certificates?, key?);
            match TlsIdentity::read(&file, &certificates, &key) {
                Ok(identity) => settings.tls.identity = Some(Arc::new(identity)),
                Err(fault) if fault.is_about_the_certificate() => {
                    at.hinted(format!("the certificate file {} {fault}", file.display()), fault.hint());
                }
                Err(fault) => {
                    let of = format!(
                        "the private key in {} {fault} (the certificate is in {})",
                        source.place,
                        file.display()
                    );
                    source.at.hinted(of, fault.hint());
                }
            }
        }
        Some(settings)
    }
}

/// Checks one table. `timeout` is that of a try.
pub(super) fn draft<'a>(table: &Table<'a>, around: Around<'_>, timeout: Duration) -> Option<Draft<'a>> {
    let servers = servers(table);
    let stream = table.required_string("stream").and_then(stream);
    let subject = match table.string("subject") {
        Some(field) => field.parsed("subject", SubjectTemplate::parse),
        None => SubjectTemplate::parse(DEFAULT_TEMPLATE).ok(),
    };
    let replicas = table.integer("replicas", 1..=5).unwrap_or(3);
    let create = create(table);
    let monitoring_url = monitoring_url(table);
    let login = login(table, around.data_dir);
    let (authorities, trusted) = authorities(table).unzip();
    let identity = identity(table);
    let settings = NatsSettings {
        servers: servers?,
        login: NatsLogin::Nothing,
        tls: NatsTls { authorities: trusted.flatten(), identity: None },
        stream: stream?,
        subject: subject?,
        replicas,
        create,
        monitoring_url,
        max_body_bytes: around.max_body_bytes,
        retry_span: around.longest_pause + timeout,
    };
    Some(Draft { settings, login, authorities, identity })
}

fn servers(table: &Table<'_>) -> Option<Vec<NatsServer>> {
    let clear_text = table.boolean("allow_clear_text").unwrap_or(false);
    let fields = table.some_strings("servers");
    let servers: Vec<_> = fields.iter().filter_map(|field| server(*field, clear_text)).collect();
    if let Some(first) = servers.first().filter(|first| servers.iter().any(|server| server.tls != first.tls)) {
        let scheme = if first.tls { "tls" } else { "nats" };
        let message = "`servers`: some are reached by TLS and some are not";
        table.place_of("servers").hinted(message, format!("write all of them with {scheme}://, as the first"));
    }
    (!servers.is_empty() && servers.len() == fields.len()).then_some(servers)
}

fn server(field: Field<'_, &str>, clear_text: bool) -> Option<NatsServer> {
    let url = field.parsed("servers", |text| Url::parse(text).map_err(|fault| format!("is not a URL: {fault}")))?;
    let tls = match url.scheme() {
        "tls" => true,
        "nats" => false,
        other => {
            let message = format!("`servers`: a server is tls://… or nats://…, not {}", excerpt(other));
            field.at.hinted(message, "such as \"tls://nats-1.example.com:4222\"");
            return None;
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "name the file or the environment variable that holds the secret (`password_file`, `token_env`, …)";
        field.at.hinted("`servers` holds a user name, a password or a token", hint);
        return None;
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        field.at.fault("`servers`: a server is a host and a port, and nothing behind it");
        return None;
    }
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        field.at.fault(format!("`servers`: `{}` names no host", excerpt(field.value)));
        return None;
    };
    let stays_here = literal(host).map_or_else(|| is_localhost(host), |address| address.to_canonical().is_loopback());
    if !tls && !stays_here && !clear_text {
        let hint = "use tls://, or say allow_clear_text = true where the network itself keeps others out";
        field.at.hinted("`servers`: records would travel to another machine in the clear", hint);
    }
    Some(NatsServer { host: host.into(), port: url.port().unwrap_or(DEFAULT_PORT), tls })
}

/// A stream's name, as JetStream takes it (ADR-6): no blank, dot, wildcard, slash or control character.
fn stream(field: Field<'_, &str>) -> Option<Box<str>> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '.' | '*' | '>' | '/' | '\\');
    if field.value.is_empty() || field.value.len() > 255 || !field.value.chars().all(plain) {
        let message = format!("`stream`: `{}` is not a name for a stream", excerpt(field.value));
        field
            .at
            .hinted(message, "1 to 255 visible ASCII characters, none of them a dot, `*`, `>`, a slash or a backslash");
        return None;
    }
    Some(field.value.into())
}

fn create(table: &Table<'_>) -> Option<NewStream> {
    let create = table.boolean("create_stream").unwrap_or(false);
    let work_queue = table.choice("new_stream_retention", &[("limits", false), ("workqueue", true)]);
    let window = table.duration("new_stream_duplicate_window_seconds", Duration::from_secs(1), 1.0..=7.0 * 86_400.0);
    if !create {
        for key in ["new_stream_retention", "new_stream_duplicate_window_seconds"] {
            if table.has(key) {
                table
                    .place_of(key)
                    .hinted(format!("`{key}` does nothing"), "say create_stream = true, or leave it out");
            }
        }
        return None;
    }
    let duplicate_window = window.unwrap_or(Duration::from_secs(120));
    Some(NewStream { work_queue: work_queue.unwrap_or(false), duplicate_window })
}

fn monitoring_url(table: &Table<'_>) -> Option<Url> {
    let field = table.string("monitoring_url")?;
    let url =
        field.parsed("monitoring_url", |text| Url::parse(text).map_err(|fault| format!("is not a URL: {fault}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        field.at.fault(format!("`monitoring_url` must be http or https, not {}", excerpt(url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        field.at.fault("`monitoring_url` holds a user name, a password, a query or a fragment; leave it out");
    }
    Some(url)
}

/// The one way to log in, and where its secret is.
fn login<'a>(table: &Table<'a>, data_dir: &Path) -> Option<(LoginKind<'a>, SecretSource<'a>)> {
    let user = table.string("user");
    let ways = [
        (LoginKind::Token, ["token_file", "token_env"]),
        (LoginKind::Password(user.map_or("", |field| field.value)), ["password_file", "password_env"]),
        (LoginKind::NkeySeed, ["nkey_seed_file", "nkey_seed_env"]),
        (LoginKind::Credentials, ["credentials_file", "credentials_env"]),
    ];
    let mut named = ways.into_iter().filter(|(_, keys)| keys.iter().any(|key| table.has(key)));
    let first = named.next();
    if let (Some((_, [one, _])), Some((_, others))) = (first, named.next()) {
        let at = others.iter().find(|key| table.has(key)).map_or(table.at, |key| table.place_of(key));
        let shown = one.trim_end_matches("_file");
        at.hinted(format!("there is a {shown} too; the gateway logs in one way"), "leave one of them out");
    }
    match (user, first) {
        (Some(field), Some((LoginKind::Password(_), _))) if field.value.is_empty() => field.at.fault("`user` is empty"),
        (None, Some((LoginKind::Password(_), _))) => {
            table.at.fault("`user` is missing: a password belongs to one");
        }
        (Some(field), None | Some((LoginKind::Token | LoginKind::NkeySeed | LoginKind::Credentials, _))) => {
            field.at.hinted("`user` has no password", "name it by `password_file` or `password_env`");
        }
        (_, _) => {}
    }
    let (kind, keys) = first?;
    let (place, at) = secret_source(table, data_dir, keys)?;
    Some((kind, SecretSource { kind: SecretKind::Login, place, at, create: false, previous: false }))
}

fn read_login(kind: LoginKind<'_>, source: &SecretSource<'_>, environment: Environment<'_>) -> Option<NatsLogin> {
    let text = secret::read_text(source, environment, false)?;
    let secret = SecretText::new(text.trim());
    match kind {
        LoginKind::Token => Some(NatsLogin::Token(secret)),
        LoginKind::Password(user) => Some(NatsLogin::Password { user: user.into(), password: secret }),
        // A user's seed (NATS, NKeys): `SU` and 56 characters of base32.
        LoginKind::NkeySeed => {
            let base32 = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
            if secret.text().len() != 58 || !secret.text().starts_with("SU") || !secret.text().bytes().all(base32) {
                let message = format!("what {} holds is not the seed of a user's NKey", source.place);
                source
                    .at
                    .hinted(message, "it is one line of 58 characters that begins with `SU`: `nk -gen user` makes one");
                return None;
            }
            Some(NatsLogin::NkeySeed(secret))
        }
        LoginKind::Credentials => {
            let is_whole = ["BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"].iter().all(|part| text.contains(part));
            if !is_whole {
                let message = format!("what {} holds are not NATS credentials", source.place);
                source.at.hinted(message, "it must be a whole `.creds` file: the user's JWT and the seed");
                return None;
            }
            Some(NatsLogin::Credentials(secret))
        }
    }
}

/// Certificates are found as those of the listeners: relative to the folder of the configuration file.
fn folder<'a>(table: &Table<'a>) -> &'a Path {
    Path::new(table.at.file_name()).parent().unwrap_or_else(|| Path::new(""))
}

/// The file of the authorities, and what is in it unless that cannot be used.
fn authorities(table: &Table<'_>) -> Option<(PathBuf, Option<Vec<CertificateDer<'static>>>)> {
    let field = table.string("tls_authorities_file")?;
    let path = folder(table).join(field.value);
    let Some(bytes) = read_certificates(&path, field.at) else { return Some((path, None)) };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let usable = read.ok().filter(|found| {
        let mut roots = rustls::RootCertStore::empty();
        !found.is_empty() && found.iter().all(|one| roots.add(one.clone()).is_ok())
    });
    if usable.is_none() {
        let message = format!("the file {} holds no certificates of authorities, or others too", path.display());
        field.at.hinted(message, "it must hold them in PEM (-----BEGIN CERTIFICATE-----), and nothing else");
    }
    Some((path, usable))
}

fn identity<'a>(table: &Table<'a>) -> Option<(PathBuf, Place<'a>, SecretSource<'a>)> {
    let certificate = table.string("tls_certificate_file");
    let keys = ["tls_private_key_file", "tls_private_key_env"];
    let has_key = keys.iter().any(|key| table.has(key));
    let key = secret_source(table, folder(table), keys);
    if let (Some(field), false) = (certificate, has_key) {
        let hint =
            "name the file (`tls_private_key_file`) or the environment variable (`tls_private_key_env`) of its key";
        field.at.hinted("`tls_certificate_file` is there without its private key", hint);
    }
    if certificate.is_none() && has_key && !table.has("tls_certificate_file") {
        table.at.hinted("there is a private key without its certificate", "name it by `tls_certificate_file`");
    }
    let (field, (place, at)) = (certificate?, key?);
    let source = SecretSource { kind: SecretKind::PrivateKey, place, at, create: false, previous: false };
    Some((folder(table).join(field.value), field.at, source))
}
