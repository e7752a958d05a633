//! `streamgate completions SHELL`.

use clap_complete::Shell;

use super::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell to complete for.
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, mut command: clap::Command) -> Result<Exit, Failure> {
    clap_complete::generate(args.shell, &mut command, "streamgate", &mut std::io::stdout());
    Ok(Exit::Done)
}
