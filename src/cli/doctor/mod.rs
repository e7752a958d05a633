//! `streamgate doctor`: what is wrong with this machine and this configuration, before a gateway runs on it or while one
//! does.
//!
//! Checks come in groups, a file or folder each. A group gathers facts and then judges them, in functions that see nothing
//! but the facts, so that judgement can be tested without the machine. Groups run beside each other, each in a thread, with
//! a deadline: one that is stuck is reported as such, with what it had found. The disk comes first and alone, since its
//! figures would suffer.
//!
//! A running gateway is not disturbed: nothing in the store is opened for writing, the lock is looked at for a
//! microsecond, and the one file that is made (`disk::measure`) is removed again.

mod certificate;
mod clock;
mod configuration;
mod data_directory;
mod database;
mod destinations;
mod disk;
mod finding;
mod gateway;
mod issuers;
mod machine;
mod print;
mod rounds;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::signal::unix::{SignalKind, signal};

use self::finding::{Finding, Group, Severity};
use self::print::Heading;
use self::rounds::{Round, Tell};
use super::output::Output;
use super::{Exit, Failure};
use crate::app::Inspection;
use crate::config::{Config, Faults, Overrides};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct DoctorArgs {
    /// The configuration file. Without it: config/streamgate.toml where there is one, else a built-in example.
    #[arg(long, env = "STREAMGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where records are kept.
    #[arg(long, env = "STREAMGATE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Look at this only; more than once for more groups.
    #[arg(long, value_name = "GROUP")]
    only: Vec<Group>,
    /// Leave this out; more than once for more groups.
    #[arg(long, value_name = "GROUP")]
    skip: Vec<Group>,
    /// Deliver a signed test event to every routing queue, and report the answer.
    #[arg(long)]
    send_test_event: bool,
    /// Look at this certificate chain (PEM) too, such as the one of the proxy in front.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The key of that certificate (PEM): does it match, and who may read it?
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_key: Option<PathBuf>,
    /// The administration address of a running gateway. Without it: as configured.
    #[arg(long, env = "STREAMGATE_ADMIN_URL", value_name = "URL")]
    admin_url: Option<Url>,
    /// Give up on a group of checks after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

/// What every group may ask about.
#[derive(Debug)]
struct Scene {
    args: DoctorArgs,
    /// The configuration, or all its faults; `None` where reading it came to no end.
    loaded: Option<Result<Config, Faults>>,
    /// Where records are, or would be; unknown where the configuration has faults and nobody says.
    data_dir: Option<PathBuf>,
    /// How that looks from outside.
    inspection: Option<Inspection>,
    /// The gateway that has the data directory, where its process can be looked at.
    running: Option<u32>,
}

impl Scene {
    /// The configuration, if it has no fault.
    fn config(&self) -> Option<&Config> {
        self.loaded.as_ref()?.as_ref().ok()
    }

    /// The file with the certificate of the second listener, whose issuer need not be known here.
    fn admin_certificate(&self) -> Option<PathBuf> {
        let identity = self.config()?.effective.identities.admin.as_ref()?;
        Some(identity.certificate_file().to_owned())
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(self.args.timeout)
    }
}

pub(super) fn run(args: &DoctorArgs, output: &Output) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|fault| Failure::new(Exit::Refused, format!("the runtime cannot start: {fault}")))?;
    let given = args.clone();
    let (done, examined) = tokio::sync::oneshot::channel();
    // Not awaited in the end: a stuck check may never come back, and the process does not wait for it.
    std::thread::Builder::new().name("doctor".to_owned()).spawn(move || {
        // Nobody is left to tell where the command was stopped meanwhile.
        let _told = done.send(examine(given));
    })?;
    let outcome = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            examined = examined => Ok(examined.ok()),
            _ = terminate.recv() => Ok(None),
            _ = interrupt.recv() => Ok(None),
        }
    });
    // Also what a stuck check has left, or one that was cut short.
    disk::measure::remove_own_probe();
    let stopped = || Failure::new(Exit::Refused, "stopped before everything was looked at");
    let (heading, findings) = outcome.map_err(|fault: std::io::Error| Failure::from(fault))?.ok_or_else(stopped)?;
    print::print(&heading, &findings, output)?;
    let is_faulty = findings.iter().any(|finding| finding.severity == Severity::Fault);
    Ok(if is_faulty { Exit::Refused } else { Exit::Done })
}

/// Looks at everything that is asked for.
fn examine(args: DoctorArgs) -> (Heading, Vec<Finding>) {
    let is_wanted = |group: &Group| (args.only.is_empty() || args.only.contains(group)) && !args.skip.contains(group);
    let groups: Vec<_> = Group::ALL.into_iter().filter(is_wanted).collect();
    let scene = Arc::new(scene(args));
    let heading = Heading {
        version: env!("CARGO_PKG_VERSION"),
        configuration: scene.config().map(|config| config.origin.to_string()),
        data_dir: scene.data_dir.as_ref().map(|dir| dir.display().to_string()),
    };
    let (alone, beside): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(|group| *group == Group::Disk);
    let mut findings = Vec::new();
    for groups in [alone, beside] {
        let rounds = groups.into_iter().map(|group| round(group, &scene)).collect();
        findings.extend(rounds::run(rounds));
    }
    (heading, findings)
}

/// Reads the configuration, and looks at who has the data directory.
fn scene(args: DoctorArgs) -> Scene {
    let overrides = Overrides { read_only: true, data_dir: args.data_dir.clone(), ..Overrides::default() };
    let (path, deadline) = (args.config.clone(), Duration::from_secs(args.timeout));
    let loaded = rounds::within(deadline, move || crate::app::load_config(path.as_deref(), &overrides));
    let configured = loaded.as_ref().and_then(|loaded| loaded.as_ref().ok());
    let data_dir = configured.map(|config| config.process.data_dir.clone()).or_else(|| args.data_dir.clone());
    let looked_at = data_dir.clone();
    let inspection = rounds::within(deadline, move || looked_at.as_deref().map(crate::app::inspect)).flatten();
    let holder = inspection.as_ref().and_then(|inspection| inspection.holder.as_ref().ok()?.as_deref());
    let running = holder.and_then(machine::running_gateway);
    Scene { args, loaded, data_dir, inspection, running }
}

/// What there is to do for a group.
fn round(group: Group, scene: &Arc<Scene>) -> Round {
    // A destination has the time for an answer that deliveries give it.
    let for_answers = if group == Group::Destinations { destinations::time_for_answers(scene) } else { Duration::ZERO };
    let deadline = scene.deadline() + for_answers;
    let (scene, examine): (_, fn(&Scene, &Tell)) = (
        Arc::clone(scene),
        match group {
            Group::Configuration => configuration::examine,
            Group::Disk => disk::examine,
            Group::DataDirectory => data_directory::examine,
            Group::Database => database::examine,
            Group::Machine => machine::examine,
            Group::Clock => clock::examine,
            Group::Issuers => issuers::examine,
            Group::Destinations => destinations::examine,
            Group::Certificates => certificate::examine,
            Group::Gateway => gateway::examine,
        },
    );
    Round { group, deadline, work: Box::new(move |tell| examine(&scene, tell)) }
}

/// What a group says that needs a configuration without faults.
fn without_configuration(group: Group) -> Finding {
    let consequence = "nobody knows what there is to look at";
    let words = ["not looked at: the configuration has faults", consequence, "mend the configuration first"];
    Finding::of_group(group, Severity::Note, words)
}
