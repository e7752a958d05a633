//! The `streamgate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    streamgate::cli::main()
}
