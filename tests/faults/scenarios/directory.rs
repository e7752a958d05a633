//! Whose data directory it is: two gateways, stale locks, the wrong owner, nothing but reading.

use std::time::Duration;

use crate::Fallible;
use crate::cleanup::Owed;
use crate::client::Client;
use crate::disk::{LoopDisk, bind};
use crate::gateway::{Ended, Gateway, open_to_others};
use crate::scenario::{Findings, How, Need, Run, Scenario};
use crate::world::{Configuration, Tenant, World, record};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        id: "D14",
        what: "two gateways on one directory, directly, through a link and through a bind mount; a stale lock",
        required: "the second ends within 2 s with code 5 and names the first; a stale lock holds nobody up",
        needs: &[Need::Mounts],
        how: How::Run(two_gateways),
    },
    Scenario {
        id: "D16",
        what: "a directory that is read-only, or somebody else's",
        required: "the start fails with code 3 or 5 and names the path",
        needs: &[Need::Mounts, Need::Tool("mkfs.ext4"), Need::Tool("setpriv")],
        how: How::Run(no_access),
    },
];

fn two_gateways(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let world = World::new(run, &Configuration::default())?;
    let first = world.start().up()?;
    let link = world.folder.join("link");
    std::os::unix::fs::symlink(&world.data, &link)?;
    let bound = world.folder.join("bound");
    let mount: Owed = bind(&world.data, &bound)?;
    let mut slowest = Duration::ZERO;
    let mut world = world;
    for place in [world.data.clone(), link, bound.clone()] {
        world = world.with_data(place.clone());
        match world.start().attempt()? {
            Ok(_) => findings.faults.push(format!("two gateways run on {}", place.display())),
            Err(ended) => {
                slowest = slowest.max(ended.took);
                let names = ended.said.contains(&first.id().to_string());
                findings.require(ended.code == Some(5) && names, || format!("{}: {ended:?}", place.display()));
            }
        }
        findings.runs += 1;
    }
    findings.require(slowest < Duration::from_secs(2), || format!("the second took {slowest:?} to give up"));
    findings.figure(format!("both running: 0; the second gave up after {:.2} s at most", slowest.as_secs_f64()));
    // What a killed process left behind.
    first.kill()?;
    let gateway = world.with_data(bound);
    let gateway = gateway.start().up()?;
    let answer = Client::patient(gateway.public).post(&record(Tenant::Contoso, 1, 0))?;
    findings.require(answer.status == 202, || "a stale lock holds the next gateway up".to_owned());
    gateway.kill()?;
    drop(mount);
    Ok(findings)
}

fn refused(findings: &mut Findings, what: &str, path: &std::path::Path, outcome: Result<Gateway, Ended>) {
    match outcome {
        Ok(_) => findings.faults.push(format!("{what}: it starts")),
        Err(ended) => {
            let names = ended.said.contains(&path.display().to_string());
            // 3: what was configured is read first, with the configuration.
            findings.require(matches!(ended.code, Some(3 | 5)) && names, || format!("{what}: {ended:?}"));
        }
    }
    findings.runs += 1;
}

fn no_access(run: &Run) -> Fallible<Findings> {
    let mut findings = Findings::of(run);
    findings.seed = None;
    let world = World::new(run, &Configuration::default())?;
    let mut disk = LoopDisk::make(&world.folder, "ext4")?;
    let data = disk.at.join("data");
    let world = world.with_data(data.clone());
    world.start().up()?.terminate()?;
    disk.read_only()?;
    refused(&mut findings, "read-only, with a store", &data, world.start().attempt()?);
    let none = disk.at.join("none");
    let world = world.with_data(none.clone());
    refused(&mut findings, "read-only, without a store", &none, world.start().attempt()?);

    // Root's directory, and a gateway that runs as nobody. The program itself must be within nobody's reach.
    let world = World::new(run, &Configuration::default())?;
    world.start().up()?.terminate()?;
    open_to_others(&world.folder)?;
    let copy = world.folder.join("streamgate");
    std::fs::copy(&world.binary, &copy)?;
    let world = world.with_binary(&copy);
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    refused(&mut findings, "root's directory", &world.data, world.start().through(as_nobody).attempt()?);
    // The directory is nobody's, the file in it is not.
    std::os::unix::fs::chown(&world.data, Some(65_534), Some(65_534))?;
    refused(&mut findings, "root's files", &world.data, world.start().through(as_nobody).attempt()?);
    let mine = world.folder.join("mine");
    std::fs::create_dir(&mine)?;
    std::os::unix::fs::chown(&mine, Some(65_534), Some(65_534))?;
    let world = world.with_data(mine.join("data"));
    let gateway = world.start().through(as_nobody).up()?;
    gateway.kill()?;
    findings.control("nobody's own directory is taken", true);
    findings.figure("each refusal names its path");
    Ok(findings)
}
