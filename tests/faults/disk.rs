//! Disks that can be cut off, filled and locked: file systems in files, and in memory.
//!
//! A power cut is `xfs_io -x -c shutdown`: from that moment on nothing reaches the file behind the loop device, and what
//! was not synced is gone when it is mounted again. That is a disk which keeps what it has acknowledged; one that lies is
//! another fault (D9).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Fallible;
use crate::cleanup::{Leftover, Owed, owe};
use crate::load::eventually;

/// Runs a program that has to succeed.
pub(crate) fn run(program: &str, words: &[&str]) -> Fallible<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into())
}

fn text(path: &Path) -> Fallible<&str> {
    path.to_str().ok_or_else(|| "a path that is no text".into())
}

/// A file system in a file.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    image: PathBuf,
    pub(crate) at: PathBuf,
    mounted: Option<Owed>,
}

impl LoopDisk {
    /// Makes and mounts one of 512 MiB in this folder; the file takes only what is written.
    pub(crate) fn make(folder: &Path, kind: &str) -> Fallible<Self> {
        let (image, at) = (folder.join(format!("{kind}.img")), folder.join(kind));
        std::fs::create_dir_all(&at)?;
        std::fs::File::create(&image)?.set_len(512 << 20)?;
        run(&format!("mkfs.{kind}"), &["-q", text(&image)?])?;
        let mut disk = Self { image, at, mounted: None };
        disk.mount(&[])?;
        Ok(disk)
    }

    fn mount(&mut self, more: &[&str]) -> Fallible<()> {
        let owed = owe(Leftover::Mount(self.at.clone()));
        let mut words = vec!["-o", "loop"];
        words.extend(more);
        words.extend([text(&self.image)?, text(&self.at)?]);
        run("mount", &words)?;
        self.mounted = Some(owed);
        Ok(())
    }

    /// The power fails: nothing is written any more.
    pub(crate) fn cut(&self) -> Fallible<()> {
        run("xfs_io", &["-x", "-c", "shutdown", text(&self.at)?]).map(drop)
    }

    /// The power is back. Whoever had files open must be gone.
    pub(crate) fn power_on(&mut self) -> Fallible<()> {
        self.unmount()?;
        self.mount(&[])
    }

    /// Mounted again, and nothing may be written.
    pub(crate) fn read_only(&mut self) -> Fallible<()> {
        self.unmount()?;
        self.mount(&["-r"])
    }

    fn unmount(&mut self) -> Fallible<()> {
        let at = text(&self.at)?;
        // A process that was just killed may hold it for a moment.
        let done = eventually(Duration::from_secs(10), || run("umount", &[at]).ok());
        done.ok_or_else(|| format!("{at} cannot be unmounted"))?;
        self.mounted.take().iter().for_each(Owed::settled);
        Ok(())
    }
}

/// A file system in memory, of a size that can be changed.
#[derive(Debug)]
pub(crate) struct MemoryDisk {
    pub(crate) at: PathBuf,
    _mounted: Owed,
}

impl MemoryDisk {
    pub(crate) fn make(folder: &Path, mebibytes: u64) -> Fallible<Self> {
        let at = folder.join("memory");
        std::fs::create_dir_all(&at)?;
        let mounted = owe(Leftover::Mount(at.clone()));
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs", text(&at)?])?;
        Ok(Self { at, _mounted: mounted })
    }

    /// Makes it larger or smaller.
    pub(crate) fn resize(&self, mebibytes: u64) -> Fallible<()> {
        run("mount", &["-o", &format!("remount,size={mebibytes}m"), text(&self.at)?]).map(drop)
    }

    /// Bytes that are free.
    pub(crate) fn free(&self) -> Fallible<u64> {
        let seen = rustix::fs::statvfs(&self.at)?;
        Ok(seen.f_bavail * seen.f_frsize)
    }
}

/// The same folder in another place.
pub(crate) fn bind(folder: &Path, at: &Path) -> Fallible<Owed> {
    std::fs::create_dir_all(at)?;
    let owed = owe(Leftover::Mount(at.to_owned()));
    run("mount", &["--bind", text(folder)?, text(at)?])?;
    Ok(owed)
}

/// Where control groups of this controller are made, in either version.
pub(crate) fn group_home(controller: &str) -> Option<PathBuf> {
    let first = Path::new("/sys/fs/cgroup").join(controller);
    if first.join("cgroup.procs").is_file() {
        return Some(first);
    }
    let second = Path::new("/sys/fs/cgroup");
    let has = std::fs::read_to_string(second.join("cgroup.subtree_control")).unwrap_or_default();
    has.split_whitespace().any(|name| name == controller).then(|| second.to_owned())
}

/// A control group that processes are put into.
#[derive(Debug)]
pub(crate) struct Group {
    at: PathBuf,
    _owed: Owed,
}

impl Group {
    pub(crate) fn make(controller: &str) -> Fallible<Self> {
        let home = group_home(controller).ok_or_else(|| format!("there is no control group for {controller}"))?;
        let at = home.join(format!("streamgate-faults-{}", std::process::id()));
        let owed = owe(Leftover::Group(at.clone()));
        std::fs::create_dir(&at)?;
        Ok(Self { at, _owed: owed })
    }

    /// Sets the first of these files that is there: the two versions name them differently.
    pub(crate) fn set(&self, settings: &[(&str, &str)]) -> Fallible<()> {
        let found = settings.iter().filter(|(name, _)| self.at.join(name).exists());
        for (name, value) in found {
            std::fs::write(self.at.join(name), value)?;
        }
        Ok(())
    }

    pub(crate) fn take_in(&self, process: u32) -> Fallible<()> {
        Ok(std::fs::write(self.at.join("cgroup.procs"), process.to_string())?)
    }
}
