//! `streamgate connector export` and `check`: the package that Power Automate imports.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::output::Output;
use super::{Exit, Failure};
use crate::config::{Config, Overrides};
use crate::connector::lint;
use crate::connector::package::{
    DEFINITION_FILE, ENTRA_PROPERTIES_FILE, FILES, Host, Package, Scheme, Subject, carried_over, for_organization,
    is_filled_in, is_ours,
};
use crate::domain::catalog::Organization;
use crate::domain::ids::Guid;

#[derive(Debug, clap::Args)]
pub(super) struct ConnectorArgs {
    #[command(subcommand)]
    command: ConnectorCommand,
}

#[derive(Debug, Subcommand)]
enum ConnectorCommand {
    /// Write the connector package of an organization: import it as it is.
    #[command(
        after_help = "Examples:\n  streamgate connector export --organization contoso --host gateway.contoso.com\n  \
                            streamgate connector export --organization contoso --host 127.0.0.1:8080 --out local\n\n\
                            The host is the one that Power Automate calls, without scheme and path. It is called by https, \
                            and by http where it is this machine."
    )]
    Export(ExportArgs),
    /// Look at a package: what reviewers and import dialogs would refuse, and how to mend it.
    Check {
        /// The folder of the package.
        folder: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// Whose package, by unique name or ID; the only one there is unless given.
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// The host that callers use; as `public_host` says unless given.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Where to write it.
    #[arg(long, value_name = "FOLDER", default_value = "connector")]
    out: PathBuf,
    /// Make the variant for Microsoft's certification: for every organization, and people type their gateway's address.
    #[arg(long)]
    certification: bool,
    /// The configuration file that has the organization.
    #[arg(long, env = "STREAMGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory, for organizations that are administered live; as configured unless given.
    #[arg(long, env = "STREAMGATE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) fn run(args: &ConnectorArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        ConnectorCommand::Export(args) => export(args, output),
        ConnectorCommand::Check { folder } => check(folder, output),
    }
}

fn export(args: &ExportArgs, output: &Output) -> Result<Exit, Failure> {
    let overrides = Overrides { read_only: true, data_dir: args.data_dir.clone(), ..Overrides::default() };
    let config = crate::app::load_config(args.config.as_deref(), &overrides)
        .map_err(|faults| Failure::new(Exit::Configuration, faults.to_string()))?;
    let organization = organization(&config, args.organization.as_deref())?;
    let host = host(&config, organization, args.host.as_deref())?;
    let scheme = if is_this_machine(&host) { Scheme::Http } else { Scheme::Https };
    let package = for_organization(&Subject {
        organization: organization.id,
        unique_name: &organization.unique_name,
        name: &organization.name,
        scheme,
        host: host.clone(),
        certification: args.certification,
    });
    let kept = write(&package, &args.out)?;
    let paths = |names: &[&str]| names.iter().map(|name| args.out.join(name).display().to_string()).collect::<Vec<_>>();
    let files = paths(&package.files().map(|(name, _)| name).filter(|name| !kept.contains(name)).collect::<Vec<_>>());
    let kept = paths(&kept);
    if output.is_json() {
        let address = format!("{}://{host}", scheme.as_str());
        output.json(
            &json!({ "organization": &*organization.unique_name, "gateway": address, "files": files, "kept": kept }),
        )?;
        return Ok(Exit::Done);
    }
    files.iter().try_for_each(|file| output.line(file))?;
    kept.iter()
        .try_for_each(|file| output.note(format!("{file}: what was put into it after the earlier export is kept")))?;
    output.note(format!(
        "The connector of {} at {}://{host}. Import {}: docs/power-automate.md",
        organization.unique_name,
        scheme.as_str(),
        args.out.join(DEFINITION_FILE).display(),
    ))?;
    Ok(Exit::Done)
}

/// The organization of this unique name or ID; without one, the only one there is.
fn organization<'c>(config: &'c Config, named: Option<&str>) -> Result<&'c Organization, Failure> {
    let all: Vec<&Organization> = config.effective.catalog.organizations().map(|one| &**one).collect();
    let names = || all.iter().map(|one| &*one.unique_name).collect::<Vec<_>>().join(", ");
    let Some(named) = named.map(str::trim) else {
        return match all.as_slice() {
            [only] => Ok(only),
            [] => Err(Failure::new(Exit::Configuration, "no organization is configured")),
            _ => Err(Failure::new(Exit::Usage, format!("say with --organization whose package: {}", names()))),
        };
    };
    let id = Guid::parse(named).ok();
    let found =
        all.iter().find(|one| one.unique_name.eq_ignore_ascii_case(named) || id.is_some_and(|id| one.id.guid() == id));
    found.copied().ok_or_else(|| {
        let message = format!("{} has no organization `{named}`; it has {}", config.origin, names());
        Failure::new(Exit::Refused, message)
    })
}

/// The host that callers use.
fn host(config: &Config, organization: &Organization, given: Option<&str>) -> Result<Host, Failure> {
    let text = match (given, &config.process.public_host) {
        (Some(given), _) => given.to_owned(),
        (None, Some(pattern)) => pattern.host_of(&organization.unique_name),
        (None, None) => {
            let message = "say with --host where Power Automate reaches the gateway, such as --host gateway.contoso.com \
                           (or set `public_host` in the configuration)";
            return Err(Failure::new(Exit::Usage, message));
        }
    };
    Host::parse(&text).map_err(|fault| Failure::new(Exit::Usage, format!("the host `{text}` {fault}")))
}

/// Whether nobody but this machine reaches a host: then nothing ends TLS in front of the gateway.
fn is_this_machine(host: &Host) -> bool {
    let name = host.as_str().split(':').next().unwrap_or_default();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Writes the files, into an empty folder or over an earlier export. Answers which stay as they are, since somebody has put
/// something into them.
fn write(package: &Package, folder: &Path) -> Result<Vec<&'static str>, Failure> {
    let failed = |what: &Path| {
        let what = what.display().to_string();
        move |fault: std::io::Error| Failure::new(Exit::Refused, format!("{what}: {fault}"))
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let is_empty = std::fs::read_dir(folder).map_err(failed(folder))?.next().is_none();
    let is_earlier = || std::fs::read(folder.join(DEFINITION_FILE)).is_ok_and(|there| is_ours(&there));
    if !is_empty && !is_earlier() {
        let message = format!("{} has something else in it; choose an empty folder with --out", folder.display());
        return Err(Failure::new(Exit::Refused, message));
    }
    let made_for_all = !package.files().any(|(name, _)| name == ENTRA_PROPERTIES_FILE);
    let registration = folder.join(ENTRA_PROPERTIES_FILE);
    if made_for_all && std::fs::read(&registration).is_ok_and(|there| is_filled_in(ENTRA_PROPERTIES_FILE, &there)) {
        let message = format!(
            "{} holds a registration, which a package for certification cannot have; choose another folder with --out",
            registration.display()
        );
        return Err(Failure::new(Exit::Refused, message));
    }
    let mut kept = Vec::new();
    for name in FILES {
        let file = folder.join(name);
        let made = package.files().find(|(it, _)| *it == name).map(|(_, bytes)| bytes);
        let there = std::fs::read(&file);
        let carried = made.and_then(|made| carried_over(name, there.as_deref().ok()?, made));
        if carried.is_some() {
            kept.push(name);
        }
        match (carried.as_deref().or(made), there) {
            (Some(made), Ok(there)) if there == made => {}
            (Some(made), _) => std::fs::write(&file, made).map_err(failed(&file))?,
            // Of an earlier export of the other variant.
            (None, Ok(_)) => std::fs::remove_file(&file).map_err(failed(&file))?,
            (None, Err(_)) => {}
        }
    }
    Ok(kept)
}

fn check(folder: &Path, output: &Output) -> Result<Exit, Failure> {
    let findings = lint::check(folder)
        .map_err(|fault| Failure::new(Exit::Refused, format!("{} cannot be read: {fault}", folder.display())))?;
    if output.is_json() {
        output.json(&json!({ "ok": findings.is_empty(), "findings": findings }))?;
    } else if findings.is_empty() {
        output.line(format!("{}: nothing to mend", folder.display()))?;
    } else {
        for finding in &findings {
            output.line(format!("{}{}: {} [{}]", finding.file, finding.place, finding.wrong, finding.rule))?;
            output.line(format!("  mend: {}", finding.mend))?;
        }
        output.line(format!("{} findings", findings.len()))?;
    }
    Ok(if findings.is_empty() { Exit::Done } else { Exit::Refused })
}
