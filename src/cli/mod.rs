//! The command line: one file per command, and this page for what they have in common.
//!
//! Data goes to standard output, everything else to standard error. With `--json`, data is JSON for machines. A failed
//! command says what is wrong, where, and what to do next; its exit code says which kind of failure it was
//! ([`Exit`]).

mod administration;
mod check;
mod client;
mod completions;
mod connector;
mod doctor;
mod health;
mod keys;
mod listen;
mod migrate;
mod migrate_store;
mod output;
mod progress;
mod records;
mod recover;
mod redelivery;
mod serve;
mod test_connection;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use output::Output;

/// Takes created records from flows, answers a truthful 202 or 404, and never loses what it accepted.
#[derive(Debug, Parser)]
#[command(
    name = "streamgate",
    version,
    max_term_width = 110,
    after_help = "Start here:\n  streamgate                    start with config/streamgate.toml, or with a built-in example\n  \
                  streamgate check              find every fault in the configuration\n  \
                  streamgate doctor             find what is wrong with the machine around it\n  \
                  streamgate test-connection    run the test operation until it earns a 202\n  \
                  streamgate listen             receive events on this machine and check their signatures\n\n\
                  Exit codes: 0 done, 1 refused or faulty, 2 wrong usage, 3 configuration faults,\n  \
                  4 gateway not reachable, 5 store not usable."
)]
struct Cli {
    /// Print data as JSON, for machines.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    serve: serve::ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the gateway (the default).
    Serve(serve::ServeArgs),
    /// Check the configuration: all faults at once, with file, line and hint.
    Check(check::CheckArgs),
    /// Find what is wrong with this machine and this configuration: disk, limits, clock, keys, destinations, and more.
    Doctor(doctor::DoctorArgs),
    /// Write the package that Power Automate imports, or check one.
    Connector(connector::ConnectorArgs),
    /// Run the connector's test operation until it earns a 202, saying why each time it does not.
    TestConnection(test_connection::TestConnectionArgs),
    /// Ask whether a running gateway takes records; needs no key.
    Health(health::HealthArgs),
    /// Receive events on this machine, check their signatures, and print them.
    Listen(listen::ListenArgs),
    /// Look at stored records, ask what would become of one, requeue dead letters or what was delivered.
    Records(records::RecordsArgs),
    /// Make API keys; list and revoke those of a running gateway.
    Keys(keys::KeysArgs),
    /// Administer organizations: list, show, create, update, delete.
    Organizations(administration::organizations::OrganizationsArgs),
    /// Administer work streams.
    WorkStreams(administration::work_streams::WorkStreamsArgs),
    /// Say which entities' records may enter a work stream.
    Entities(administration::entities::EntitiesArgs),
    /// Administer the queues of an organization.
    Queues(administration::queues::QueuesArgs),
    /// Administer context variables, whose values rules may use.
    Variables(administration::variables::VariablesArgs),
    /// Administer routing rules, and see beforehand what they would change.
    Rules(administration::rules::RulesArgs),
    /// List dead letters, requeue or discard many at once.
    DeadLetters(administration::dead_letters::DeadLettersArgs),
    /// See who is told of records, and what could not be told; end a subscription.
    Subscriptions(administration::subscriptions::SubscriptionsArgs),
    /// Show who changed what, when, from what to what.
    Audit(administration::audit::AuditArgs),
    /// List the gateways on the same catalog, and which configuration each of them serves.
    Gateways(administration::gateways::GatewaysArgs),
    /// Write organizations as files.
    Export(administration::export::ExportArgs),
    /// Make organizations of the store be what files say.
    Apply(administration::apply::ApplyArgs),
    /// Prove that every receipt of a store is accounted for: of files that no gateway has open, or of a database. Changes
    /// nothing.
    Verify(verify::VerifyArgs),
    /// Bring the tables of the database up to date, before a gateway does.
    Migrate(migrate::MigrateArgs),
    /// Make of a damaged store one that starts, and write down what was lost; says what it would do first.
    Recover(recover::RecoverArgs),
    /// Copy the store of a stopped gateway from its files into PostgreSQL, which several gateways can share.
    MigrateStore(migrate_store::MigrateStoreArgs),
    /// Print a completion script for your shell.
    Completions(completions::CompletionsArgs),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The gateway refused, or what was looked at is faulty.
    Refused = 1,
    /// The command line is wrong (clap's own code).
    Usage = 2,
    /// The configuration has faults.
    Configuration = 3,
    /// The gateway cannot be reached.
    Unreachable = 4,
    /// The store cannot be used: held by another process, damaged, or not writable.
    Store = 5,
}

/// Why a command failed: what is wrong and what to do, for a person.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    /// What the gateway said, for machines.
    problem: Option<Box<serde_json::Value>>,
}

impl Failure {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), problem: None }
    }
}

impl From<std::io::Error> for Failure {
    fn from(fault: std::io::Error) -> Self {
        Self::new(Exit::Refused, fault.to_string())
    }
}

/// An error and everything behind it, on one line.
fn with_causes(fault: &dyn std::error::Error) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(behind) = cause {
        let behind_text = behind.to_string();
        // Some errors already say their cause.
        if !text.ends_with(&behind_text) {
            text.push_str(": ");
            text.push_str(&behind_text);
        }
        cause = behind.source();
    }
    text
}

/// Runs the command line and says how it ended.
pub fn main() -> ExitCode {
    crate::app::install_crypto_provider();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return wrong_usage(&usage),
    };
    let output = Output::new(cli.json);
    let outcome = match cli.command {
        None => serve::run(&cli.serve, &output),
        Some(Command::Serve(args)) => serve::run(&args, &output),
        Some(Command::Check(args)) => check::run(&args, &output),
        Some(Command::Doctor(args)) => doctor::run(&args, &output),
        Some(Command::Connector(args)) => connector::run(&args, &output),
        Some(Command::TestConnection(args)) => test_connection::run(&args, &output),
        Some(Command::Health(args)) => health::run(&args, &output),
        Some(Command::Listen(args)) => listen::run(&args, &output),
        Some(Command::Records(args)) => records::run(&args, &output),
        Some(Command::Keys(args)) => keys::run(&args, &output),
        Some(Command::Organizations(args)) => administration::organizations::run(&args, &output),
        Some(Command::WorkStreams(args)) => administration::work_streams::run(&args, &output),
        Some(Command::Entities(args)) => administration::entities::run(&args, &output),
        Some(Command::Queues(args)) => administration::queues::run(&args, &output),
        Some(Command::Variables(args)) => administration::variables::run(&args, &output),
        Some(Command::Rules(args)) => administration::rules::run(&args, &output),
        Some(Command::DeadLetters(args)) => administration::dead_letters::run(&args, &output),
        Some(Command::Subscriptions(args)) => administration::subscriptions::run(&args, &output),
        Some(Command::Audit(args)) => administration::audit::run(&args, &output),
        Some(Command::Gateways(args)) => administration::gateways::run(&args, &output),
        Some(Command::Export(args)) => administration::export::run(&args, &output),
        Some(Command::Apply(args)) => administration::apply::run(&args, &output),
        Some(Command::Verify(args)) => verify::run(&args, &output),
        Some(Command::Migrate(args)) => migrate::run(&args, &output),
        Some(Command::Recover(args)) => recover::run(&args, &output),
        Some(Command::MigrateStore(args)) => migrate_store::run(&args, &output),
        Some(Command::Completions(args)) => completions::run(&args, Cli::command(), &output),
    };
    match outcome {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// What clap has to say: help and versions as they are; faults as JSON for whoever asked for JSON.
fn wrong_usage(usage: &clap::Error) -> ExitCode {
    // It could not be parsed, so the flag is looked for by hand; after `--` it would be none.
    let wants_json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    if usage.use_stderr() && wants_json {
        let text = usage.render().to_string();
        Output::new(true).failure(&Failure::new(Exit::Usage, text.trim().trim_start_matches("error: ")));
    } else {
        // There is nobody left to tell if even this cannot be written.
        let _written = usage.print();
    }
    ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(Exit::Usage as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
