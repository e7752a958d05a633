//! `streamgate completions SHELL`.

use clap_complete::Shell;

use super::output::Output;
use super::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell to complete for.
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, mut command: clap::Command, output: &Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "streamgate", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
