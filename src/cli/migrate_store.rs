//! `streamgate migrate-store`: copies the store of one gateway on files into a database, which any number of gateways can
//! share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::output::Output;
use super::progress::Line;
use super::verify::{print, with_advice};
use super::{Exit, Failure, with_causes};
use crate::app::upkeep::{self, Copied, CopyError, Options};
use crate::config::settings::DatabaseSettings;
use crate::config::{self, Overrides};

/// Where the URL is that a command line should not show.
const VARIABLE: &str = "STREAMGATE_DATABASE_URL";

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    export STREAMGATE_DATABASE_URL='postgres://streamgate:PASSWORD@db.example.com/streamgate'\n  \
    streamgate migrate-store --from sqlite:/var/lib/streamgate --to postgres\n  \
    streamgate migrate-store --from sqlite:/var/lib/streamgate --config /etc/streamgate/streamgate.toml\n\n\
    Stop the gateway first. The files are read and stay as they are; the database must be an empty one. A copy that was cut \
    short goes on when the same command is run again, and no gateway starts on half of one. In the end everything is read back \
    and compared, and the data directory gets a file, moved-to-postgres, with which no gateway starts on it any more. Then set \
    `[store] kind = \"postgres\"`, and start.\n\n\
    Exit codes: 0 copied and compared, 1 not copied (the store is not sound, the database is not empty, …), 5 the store or \
    the database cannot be used.")]
pub(super) struct MigrateStoreArgs {
    /// The store to copy: `sqlite:` and the data directory of a gateway that does not run.
    #[arg(long, value_name = "sqlite:DIR")]
    from: String,
    /// The database to copy it to: `postgres:` and its URL, or `postgres` alone where STREAMGATE_DATABASE_URL has the URL,
    /// which nobody else on this machine sees then.
    #[arg(long, value_name = "postgres:URL", required_unless_present = "config")]
    to: Option<String>,
    /// The configuration whose [store.postgres] says where the database is; its `kind` must be "postgres" already.
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    config: Option<PathBuf>,
    /// For how long repeats are recognized, where it is configured other than by default (store.duplicate_window_days).
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    duplicate_window_days: u32,
}

impl std::fmt::Debug for MigrateStoreArgs {
    /// Without the URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrateStoreArgs")
            .field("from", &self.from)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

pub(super) fn run(args: &MigrateStoreArgs, output: &Output) -> Result<Exit, Failure> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let from = directory(&args.from)?;
    let database = database(args, output)?;
    // Findings that are shown; `verify` shows the others.
    let options = Options { findings: 20, duplicate_window: DAY.saturating_mul(args.duplicate_window_days) };
    let mut line = Line::start(output.is_json());
    let copied = upkeep::copy_store(from, &database, &options, &mut |progress| line.show(progress));
    line.end();
    let place = database.place();
    match copied {
        Ok(copied) if output.is_json() => {
            let mut value = serde_json::to_value(&copied).unwrap_or_default();
            if let Some(members) = value.as_object_mut() {
                members.insert("done".to_owned(), true.into());
                members.insert("from".to_owned(), from.to_string_lossy().into());
                members.insert("to".to_owned(), place.into());
            }
            output.json(&value)?;
            Ok(Exit::Done)
        }
        Ok(copied) => {
            tell(&copied, (from, &place), output)?;
            Ok(Exit::Done)
        }
        Err(CopyError::NotSound(report)) => {
            if output.is_json() {
                output.json(&json!({ "done": false, "found": with_advice(&report) }))?;
            } else {
                print(&report, false, output)?;
            }
            Err(failure(&CopyError::NotSound(report)))
        }
        Err(fault) => Err(failure(&fault)),
    }
}

fn failure(fault: &CopyError) -> Failure {
    let exit = match fault {
        CopyError::Source(_) | CopyError::Target(_) | CopyError::Database { .. } | CopyError::NotMarked(_) => {
            Exit::Store
        }
        CopyError::NotSound(_)
        | CopyError::Damaged(_)
        | CopyError::NotEmpty(_)
        | CopyError::AlreadyThere(_)
        | CopyError::SourceAhead { .. }
        | CopyError::AnotherSource(_)
        | CopyError::SourceChanged
        | CopyError::Gateways(_)
        | CopyError::NotAlone(_)
        | CopyError::Differs(_)
        | CopyError::Unfit(_) => Exit::Refused,
    };
    Failure::new(exit, with_causes(fault))
}

/// The data directory in `sqlite:DIR`.
fn directory(from: &str) -> Result<&Path, Failure> {
    match from.strip_prefix("sqlite:") {
        Some(directory) if !directory.is_empty() => Ok(Path::new(directory)),
        _ => {
            let message = "--from takes `sqlite:` and a data directory, such as sqlite:/var/lib/streamgate";
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

/// Which database is meant. Nothing that is said here shows its URL.
fn database(args: &MigrateStoreArgs, output: &Output) -> Result<DatabaseSettings, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let Some(to) = &args.to else { return configured(args.config.as_deref()) };
    if to == "postgres" {
        let url = std::env::var(VARIABLE)
            .map_err(|_| usage(format!("--to postgres takes the URL from {VARIABLE}, which is not set")))?;
        return config::database_at(&url).map_err(|fault| usage(format!("{VARIABLE}: {fault}")));
    }
    let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| to.starts_with(scheme));
    let url = if is_url { Some(to.as_str()) } else { to.strip_prefix("postgres:") };
    let url = url.ok_or_else(|| {
        usage(format!("--to takes `postgres:` and a URL, a postgres:// URL, or `postgres` with the URL in {VARIABLE}"))
    })?;
    let database = config::database_at(url).map_err(|fault| usage(format!("--to: {fault}")))?;
    if database.connection.get_password().is_some() {
        output.note(format!(
            "warning: others on this machine can see a command line; put the URL into {VARIABLE}, and say --to postgres"
        ))?;
    }
    Ok(database)
}

/// The database of a configuration. What is stored in it is not asked for: it may be half a copy.
fn configured(path: Option<&Path>) -> Result<DatabaseSettings, Failure> {
    let overrides = Overrides { read_only: true, ..Overrides::default() };
    let config =
        config::load(path, &overrides).map_err(|faults| Failure::new(Exit::Configuration, faults.to_string()))?;
    config.process.database.ok_or_else(|| {
        let message = format!("{}: `[store] kind` is not \"postgres\", so it names no database", config.origin);
        Failure::new(Exit::Configuration, message)
    })
}

fn tell(copied: &Copied, (from, to): (&Path, &str), output: &Output) -> Result<(), Failure> {
    output.line(format!("{} was copied to the {to}, read back and compared.", from.display()))?;
    if let Some(after) = copied.resumed_after {
        output.line(format!("An earlier run had come to record {after}; this one went on from there."))?;
    }
    let figures = [
        ("records accepted", copied.newest.cast_unsigned()),
        ("there, with their receipts", copied.rows("records")),
        ("pending", copied.rows("pending")),
        ("waiting", copied.rows("waiting")),
        ("delivered", copied.rows("delivered")),
        ("dead letters", copied.rows("dead_letters")),
        ("discarded dead letters", copied.rows("discarded")),
        ("deleted by retention", copied.gone.saturating_sub(copied.lost_and_written_down)),
        ("lost, and written down", copied.lost_and_written_down),
        ("duplicate keys", copied.duplicate_keys),
        ("organizations in the store", copied.rows("catalog_organizations")),
        ("API keys in the store", copied.rows("catalog_api_keys")),
        ("entries of the audit trail", copied.rows("audit")),
        ("subscriptions", copied.rows("subscriptions")),
        ("notices", copied.rows("notices")),
    ];
    for (name, count) in figures {
        output.line(format!("  {name:<28} {count:>12}"))?;
    }
    if copied.texts_changed > 0 {
        let changed = copied.texts_changed;
        output
            .line(format!("In {changed} texts, such as error messages, a NUL became U+FFFD: PostgreSQL takes none."))?;
    }
    output.line("\nNext: set `[store] kind = \"postgres\"`, say in [store.postgres] where the database is, and start the gateway.")?;
    output.line(format!(
        "The files in {} are as they were, and {} was put beside them: no gateway starts on them any more. It would deliver \
         again what the other one delivers, and the two would know nothing of each other.",
        from.display(),
        copied.marked
    ))?;
    Ok(())
}
