//! The database that gateways share: `[store] kind = "postgres"`, and `[store.postgres]`.
//!
//! Where it is and as whom to come is one text, as every hosting service gives it. It holds a password mostly, so it comes
//! from a file or from the environment; without one it may stand in the configuration. It is read at once, since what is
//! stored there is part of the configuration.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_postgres::config::{Host, SslMode};

use super::routing_queue::{is_localhost, literal, secret_source};
use super::tls::read_certificates;
use crate::config::keys;
use crate::config::load::Environment;
use crate::config::raw::Table;
use crate::config::secret::{self, SecretKind, SecretSource};
use crate::config::settings::{DatabaseSettings, DatabaseTrust};
use crate::config::source::Place;

/// A gateway appends, leases, settles, follows the catalog and answers questions at the same time.
const CONNECTIONS: std::ops::RangeInclusive<usize> = 4..=1_000;
const USUAL_CONNECTIONS: usize = 10;
const USUAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of the database, where records are kept in one. Files to watch are added to `files`.
pub(super) fn database(
    store: &Table<'_>,
    data_dir: &Path,
    environment: Environment<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<DatabaseSettings> {
    let is_used = store.choice("kind", &[("sqlite", false), ("postgres", true)]).unwrap_or(false);
    let table = store.table("postgres", keys::POSTGRES);
    if is_used && table.is_none() && !store.has("postgres") {
        let hint = "add it, with `url_file` or `url_env`: where the database is";
        store.place_of("kind").hinted("`[store.postgres]` is missing", hint);
    }
    let table = table?;
    let max_connections = table.integer("max_connections", CONNECTIONS).unwrap_or(USUAL_CONNECTIONS);
    let statement_timeout = table.duration("statement_timeout_seconds", Duration::from_secs(1), 1.0..=300.0);
    let wanted = table.choice("tls", &[("verify", true), ("off", false)]);
    // Elsewhere the table is kept for later, and its secret need not be there yet.
    let (mut connection, at) = is_used.then(|| connection(&table, data_dir, environment, files)).flatten()?;
    let is_verified = is_verified(&mut connection, wanted, at)?;
    let trust = if is_verified { trust(&table, data_dir, files)? } else { DatabaseTrust::InTheClear };
    if !is_verified && table.has("ca_file") {
        table
            .place_of("ca_file")
            .warning("`ca_file` is not used: the connection is in the clear", "set tls = \"verify\"");
    }
    let statement_timeout = statement_timeout.unwrap_or(USUAL_TIMEOUT);
    Some(DatabaseSettings { connection, trust, max_connections, statement_timeout })
}

/// Where the database is, and where the configuration says so.
fn connection<'a>(
    table: &Table<'a>,
    data_dir: &Path,
    environment: Environment<'_>,
    files: &mut Vec<PathBuf>,
) -> Option<(tokio_postgres::Config, Place<'a>)> {
    let source = secret_source(table, data_dir, ["url_file", "url_env"]);
    if table.has("url") && (table.has("url_file") || table.has("url_env")) {
        table.place_of("url").fault("`url` is set, and `url_file` or `url_env` too; only one can be");
        return None;
    }
    if let Some(field) = table.string("url") {
        let connection = parse(field.value, "`url`", field.at)?;
        if connection.get_password().is_some() {
            let hint =
                "move the whole URL into a file that only the gateway may read (`url_file`), or into the environment";
            field.at.hinted("`url` holds a password", hint);
        }
        return Some((connection, field.at));
    }
    let Some((place, at)) = source else {
        if !["url", "url_file", "url_env"].iter().any(|key| table.has(key)) {
            let hint = "name the file or the environment variable that holds postgres://USER:PASSWORD@HOST/DATABASE";
            table.at.hinted("`url_file` or `url_env` is missing in [store.postgres]", hint);
        }
        return None;
    };
    files.extend(place.file());
    let shown = format!("the URL in {place}");
    let source = SecretSource { kind: SecretKind::Url, place, at, create: false, previous: false };
    let text = secret::read_text(&source, environment, false)?;
    Some((parse(text.trim(), &shown, at)?, at))
}

/// What is wrong is told without the text, which may hold a password.
fn parse(text: &str, shown: &str, at: Place<'_>) -> Option<tokio_postgres::Config> {
    read(text, shown).map_err(|(fault, hint)| at.hinted(fault, hint)).ok()
}

/// Reads a URL; otherwise what is wrong with it, and what to do.
fn read(text: &str, shown: &str) -> Result<tokio_postgres::Config, (String, &'static str)> {
    let hint = "such as postgres://streamgate:PASSWORD@db.example.com:5432/streamgate; %-encode what is special in it";
    let connection: tokio_postgres::Config = match text.parse() {
        Ok(connection) => connection,
        Err(error) => {
            let behind = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            let is_about_tls = behind.contains("ssl");
            let hint =
                if is_about_tls { "leave `ssl…` out of it; say `tls` and `ca_file` here instead" } else { hint };
            return Err((format!("{shown} is not a connection to PostgreSQL{behind}"), hint));
        }
    };
    if connection.get_hosts().is_empty() && connection.get_hostaddrs().is_empty() {
        return Err((format!("{shown} names no host"), hint));
    }
    if connection.get_dbname().is_none_or(str::is_empty) {
        return Err((format!("{shown} names no database"), hint));
    }
    Ok(connection)
}

/// The settings of a database of which only its URL is known, as on a command line: with every other at its default, and
/// TLS as a configuration has it that does not say.
///
/// # Errors
/// What is wrong, and what to do, without the URL.
pub fn database_at(url: &str) -> Result<DatabaseSettings, String> {
    let mut connection = read(url.trim(), "the URL").map_err(|(fault, hint)| format!("{fault}; {hint}"))?;
    let is_verified = must_be_verified(&connection);
    connection.ssl_mode(if is_verified { SslMode::Require } else { SslMode::Disable });
    let trust = if is_verified { DatabaseTrust::System } else { DatabaseTrust::InTheClear };
    Ok(DatabaseSettings { connection, trust, max_connections: USUAL_CONNECTIONS, statement_timeout: USUAL_TIMEOUT })
}

/// Whether every server that is named is reached without leaving this machine.
fn stays_here(connection: &tokio_postgres::Config) -> bool {
    let is_here = |address: IpAddr| address.to_canonical().is_loopback();
    if !connection.get_hostaddrs().is_empty() {
        return connection.get_hostaddrs().iter().copied().all(is_here);
    }
    connection.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => literal(name).map_or_else(|| is_localhost(name), is_here),
        Host::Unix(_) => true,
    })
}

/// Whether the server has to prove who it is where nobody says: as the URL has it, or else whenever the connection leaves
/// this machine.
fn must_be_verified(connection: &tokio_postgres::Config) -> bool {
    let mode = connection.get_ssl_mode();
    mode == SslMode::Require || (mode != SslMode::Disable && !stays_here(connection))
}

/// Whether the server has to prove who it is: as asked for, or else whenever the connection leaves this machine.
fn is_verified(connection: &mut tokio_postgres::Config, wanted: Option<bool>, at: Place<'_>) -> Option<bool> {
    if wanted == Some(false) && connection.get_ssl_mode() == SslMode::Require {
        at.hinted("the URL says `sslmode=require`, and `tls` is \"off\"", "leave one of them out");
        return None;
    }
    let stays_here = stays_here(connection);
    let is_verified = wanted.unwrap_or_else(|| must_be_verified(connection));
    if is_verified && connection.get_hosts().iter().any(|host| matches!(host, Host::Unix(_))) {
        at.hinted("TLS is not spoken over a socket of this machine", "set tls = \"off\"");
        return None;
    }
    if !is_verified && !stays_here {
        let hint = "set tls = \"verify\", and `ca_file` where the server's certificate is not of a public issuer";
        at.warning("the password and the records travel to the database in the clear", hint);
    }
    connection.ssl_mode(if is_verified { SslMode::Require } else { SslMode::Disable });
    Some(is_verified)
}

fn trust(table: &Table<'_>, data_dir: &Path, files: &mut Vec<PathBuf>) -> Option<DatabaseTrust> {
    let Some(field) = table.string("ca_file") else { return Some(DatabaseTrust::System) };
    let path = data_dir.join(field.value);
    files.push(path.clone());
    let text = read_certificates(&path, field.at)?;
    let issuers: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match issuers {
        Ok(issuers) if !issuers.is_empty() => Some(DatabaseTrust::Issuers(issuers)),
        Ok(_) | Err(_) => {
            let hint = "one or more blocks of -----BEGIN CERTIFICATE-----";
            field.at.hinted(format!("{} holds no certificates in PEM", path.display()), hint);
            None
        }
    }
}
