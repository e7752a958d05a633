//! Two network namespaces with a cable between them and no way out of either: the gateway in one, everything else in the
//! other. Whatever happens to that cable happens to nobody else.
//!
//! A scenario that needs this runs in a process of its own, which this programme starts within the first namespace; what
//! it found comes back in a file.

use std::process::{Command, Stdio};

use crate::Fallible;
use crate::cleanup::{Leftover, Owed, owe};
use crate::disk::run;
use crate::scenario::{Findings, Run};

/// Where the clients and the receiver are.
pub(crate) const OUTSIDE_ADDRESS: &str = "10.99.0.1";
/// Where the gateway is.
pub(crate) const GATEWAY_ADDRESS: &str = "10.99.0.2";

/// The name of the gateway's namespace, for the process that runs in the other one.
pub(crate) const VARIABLE: &str = "STREAMGATE_FAULTS_NAMESPACE";

fn make(name: &str) -> Fallible<Owed> {
    let owed = owe(Leftover::Namespace(name.to_owned()));
    run("ip", &["netns", "add", name])?;
    run("ip", &["-n", name, "link", "set", "lo", "up"])?;
    Ok(owed)
}

/// Runs the scenario in a process within the namespaces.
pub(crate) fn inside(run_outside: &Run) -> Fallible<Findings> {
    let here = format!("sgf-out-{}", std::process::id());
    let there = format!("sgf-gw-{}", std::process::id());
    let (_here, _there) = (make(&here)?, make(&there)?);
    run("ip", &["-n", &here, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &there])?;
    for (name, address) in [(&here, OUTSIDE_ADDRESS), (&there, GATEWAY_ADDRESS)] {
        run("ip", &["-n", name, "address", "add", &format!("{address}/24"), "dev", "cable"])?;
        run("ip", &["-n", name, "link", "set", "cable", "up"])?;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("findings");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &here]).arg(std::env::current_exe()?);
    command.args(["--inside", "--only", run_outside.id, "--seed", &run_outside.seed.to_string(), "--json"]);
    command.arg(&file).arg("--binary").arg(&run_outside.binary);
    if run_outside.long {
        command.arg("--long");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env(VARIABLE, &there).env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let owed = owe(Leftover::Inside(child.id()));
    child.wait()?;
    owed.settled();
    let found = std::fs::read(&file).map_err(|_missing| "the scenario ended without findings; see above")?;
    Ok(Findings::from_json(&serde_json::from_slice(&found)?))
}

/// The words that start a program in the gateway's namespace.
pub(crate) fn through() -> Fallible<Vec<String>> {
    let name = std::env::var(VARIABLE).map_err(|_missing| "this scenario runs within a namespace only")?;
    Ok(["ip", "netns", "exec", &name].map(str::to_owned).to_vec())
}
