//! `streamgate recover`: makes of a damaged store one that starts, and writes down what was lost. Without `--yes` it only
//! says what it would do.

use super::output::{Output, printable};
use super::progress::Line;
use super::verify::{StoreArgs, print, records, with_advice};
use super::{Exit, Failure, with_causes};
use crate::app::upkeep::{self, Losses, Recovery};

/// Single losses that are shown unless all are wanted.
const SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct RecoverArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Do it. Without this nothing is changed.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only say what would be done, which is the default.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &RecoverArgs, output: &Output) -> Result<Exit, Failure> {
    let (dir, options) = (&args.store.data_dir, args.store.options());
    let mut line = Line::start(output.is_json());
    let recovery = if args.yes {
        // What this makes, nobody else reads.
        let _previous = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        upkeep::recover(dir, &options, &mut |progress| line.show(progress))
    } else {
        upkeep::plan_recovery(dir, &options, &mut |progress| line.show(progress))
    };
    line.end();
    let recovery = recovery.map_err(|fault| Failure::new(Exit::Store, with_causes(&fault)))?;
    if output.is_json() {
        let mut value = serde_json::to_value(&recovery).unwrap_or_default();
        if let Some(members) = value.as_object_mut() {
            members.insert("found".to_owned(), with_advice(&recovery.found));
            members.insert("done".to_owned(), recovery.folder.is_some().into());
        }
        output.json(&value)?;
    } else {
        tell(&recovery, args, output)?;
    }
    Ok(verdict(&recovery))
}

/// Done where nothing is left to do.
fn verdict(recovery: &Recovery) -> Exit {
    let is_left = match &recovery.made {
        Some(_) => recovery.left_to_others(),
        None => !recovery.found.sound,
    };
    if is_left { Exit::Refused } else { Exit::Done }
}

fn tell(recovery: &Recovery, args: &RecoverArgs, output: &Output) -> Result<(), Failure> {
    print(&recovery.found, args.store.all, output)?;
    if !recovery.needed {
        output.line("\nThere is nothing to recover of the records.")?;
        return Ok(());
    }
    let shown = if args.store.all { usize::MAX } else { SHOWN };
    tell_losses(&recovery.losses, shown, output)?;
    match &recovery.folder {
        Some(folder) => {
            output
                .line(format!("\nRecovered. The original, the report and the manifest are in {}.", folder.display()))?;
            output.line("Start the gateway. Keep the folder until you need it no more.")?;
        }
        None => output.line("\nNothing was changed. To do it: the same command with --yes. Check the disk first.")?,
    }
    if recovery.left_to_others() {
        output.line("What is found of catalog.db and subscriptions.db stays: restore these from a backup.")?;
    }
    Ok(())
}

fn tell_losses(losses: &Losses, shown: usize, output: &Output) -> Result<(), Failure> {
    output.line("\nWhat becomes of the records:")?;
    let Losses { kept, given_up, lost, given_up_records, lost_records } = losses;
    output.line(format!("  {kept} are kept as they are"))?;
    output.line(format!("  {given_up} are kept as dead letters, since what had become of them cannot be told"))?;
    for one in given_up_records.iter().take(shown) {
        output.line(format!("    - record {} [{}]: {}", one.number, one.receipt, printable(&one.reason)))?;
    }
    output.line(format!("  {lost} are lost, and written down"))?;
    for lost in lost_records.iter().take(shown) {
        let records = records(lost.from, lost.to);
        let receipts = lost.receipts.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        let receipts = if receipts.is_empty() { receipts } else { format!(" [{receipts}]") };
        output.line(format!("    - {records}{receipts}: {}", printable(&lost.why)))?;
    }
    if given_up_records.len() > shown || lost_records.len() > shown {
        output.note("there are more; --all shows them, and the manifest of a recovery has each")?;
    }
    Ok(())
}
