//! `streamgate migrate`: brings the tables of the database up to date, without a gateway. A start does the same; this is for
//! whoever wants it done at a moment of their choosing, or by a role that may do it.

use std::path::PathBuf;

use serde::Serialize;

use super::output::Output;
use super::{Exit, Failure, with_causes};
use crate::app::upkeep;
use crate::config::Overrides;

#[derive(Debug, clap::Args)]
pub(super) struct MigrateArgs {
    /// The configuration file, which says where the database is.
    #[arg(long, env = "STREAMGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Migrated {
    from: i32,
    to: i32,
}

pub(super) fn run(args: &MigrateArgs, output: &Output) -> Result<Exit, Failure> {
    let overrides = Overrides { read_only: true, ..Overrides::default() };
    let config = crate::app::load_config(args.config.as_deref(), &overrides)
        .map_err(|faults| Failure::new(Exit::Configuration, format!("the configuration has faults\n{faults}")))?;
    let Some(database) = &config.process.database else {
        let message =
            "the configuration names no database: [store] kind is \"sqlite\", and a start brings files up to date";
        return Err(Failure::new(Exit::Configuration, message));
    };
    let (from, to) = upkeep::migrate(database).map_err(|fault| Failure::new(Exit::Store, with_causes(&fault)))?;
    if output.is_json() {
        output.json(&Migrated { from, to })?;
    } else if from == to {
        output.line(format!("Nothing to do: the tables have format {to} already."))?;
    } else if from == 0 {
        output.line(format!("Made the tables, in format {to}."))?;
    } else {
        output.line(format!("Brought the tables from format {from} to {to}. Older gateways cannot start any more."))?;
    }
    Ok(Exit::Done)
}
