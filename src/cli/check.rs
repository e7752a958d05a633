//! `streamgate check`: every fault of the configuration at once.

use std::path::PathBuf;

use serde::Serialize;

use super::output::Output;
use super::{Exit, Failure};
use crate::config::{self, Overrides};

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The configuration file; its `organizations` folder is checked with it.
    #[arg(long, env = "STREAMGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &CheckArgs, output: &Output) -> Result<Exit, Failure> {
    match crate::app::load_config(args.config.as_deref(), &Overrides { read_only: true, ..Overrides::default() }) {
        Ok(config) => {
            let organizations = config.effective.catalog.organizations();
            let (mut work_streams, mut entities, mut count) = (0, 0, 0);
            for organization in organizations {
                count += 1;
                work_streams += organization.work_streams.len();
                entities += organization.work_streams.values().map(|stream| stream.entities.len()).sum::<usize>();
            }
            if output.is_json() {
                #[derive(Serialize)]
                #[serde(rename_all = "camelCase")]
                struct Body<'a> {
                    ok: bool,
                    organizations: usize,
                    work_streams: usize,
                    entity_configurations: usize,
                    warnings: &'a [config::Fault],
                }
                let warnings = &config.warnings;
                output.json(&Body {
                    ok: true,
                    organizations: count,
                    work_streams,
                    entity_configurations: entities,
                    warnings,
                })?;
            } else {
                for warning in &config.warnings {
                    output.note(format!("warning: {warning}"))?;
                }
                output.line(format!(
                    "{}: no faults; {count} organizations, {work_streams} work streams, {entities} entity configurations",
                    config.origin
                ))?;
            }
            Ok(Exit::Done)
        }
        Err(faults) => {
            if output.is_json() {
                output.json(&serde_json::json!({ "ok": false, "faults": faults.into_vec() }))?;
            } else {
                output.line(faults.to_string())?;
            }
            Ok(Exit::Configuration)
        }
    }
}
