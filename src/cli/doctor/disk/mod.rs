//! The disk under the data directory: how long a sync takes, and how far it can be believed.
//!
//! A 202 is worth what a sync is worth. No software can prove that a device keeps what it says it has: that takes a power
//! cut. What can be seen is whatever is known to make a sync worth nothing: file systems in memory or over a network,
//! mount options, a switched-off cache flush, libraries that swallow the call, and latencies that no device has.

mod device;
pub(super) mod measure;
mod mount;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use self::device::Device;
use self::measure::Latencies;
use self::mount::Mount;
use super::finding::{Check, Finding, Group, list_in_words};
use super::{Scene, Tell, without_configuration};

/// How long the disk is measured at most.
const BUDGET: Duration = Duration::from_secs(2);
/// A median above it makes callers wait noticeably.
const SLOW: Duration = Duration::from_millis(20);
/// A single sync above it is a stall.
const STALL: Duration = Duration::from_secs(1);
/// No turning disk syncs faster than a turn takes, about 4 ms at the best; a cache in it that is lost with the power does.
const TURNING_AT_LEAST: Duration = Duration::from_millis(2);
/// The fastest flash with power-loss protection needs about 10 µs for a write; memory answers far sooner.
const FLASH_AT_LEAST: Duration = Duration::from_micros(5);

/// What is known about the disk.
#[derive(Debug)]
struct Facts {
    mount: Option<Mount>,
    devices: Vec<Device>,
    preloaded: Vec<String>,
}

/// Tells about the disk.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let Some(dir) = &scene.data_dir else { return tell.one(without_configuration(Group::Disk)) };
    // A directory that is yet to be made will be on the file system of its parent.
    let Some(place) = existing(dir) else {
        let [consequence, mend] = ["the data directory cannot be made", "name another one with --data-dir"];
        let found = format!("nothing of {} exists", dir.display());
        return tell.one(Finding::fault(Check::FileSystem, found, consequence, mend));
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = place.canonicalize().ok().and_then(|path| mount::of(&path, &mount::parse(&mounts)));
    let devices = mount.as_ref().map(device::under).unwrap_or_default();
    let preloaded = super::machine::preloaded(scene.running);
    let facts = Facts { mount, devices, preloaded };
    tell.all(judge(&facts));
    let latencies = measure::measure(&place, BUDGET);
    // A host says of nearly every disk that it turns.
    let turning = !in_virtual_machine() && facts.devices.iter().any(|device| device.rotational == Some(true));
    tell.one(judge_latencies(latencies.map_err(|fault| fault.to_string()), turning, &place));
}

/// The directory itself, or the nearest one above it that is there.
pub(super) fn existing(dir: &Path) -> Option<PathBuf> {
    let above = |dir: &Path| if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() };
    dir.ancestors().map(above).find(|dir| dir.is_dir())
}

fn in_virtual_machine() -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("flags")).any(|line| line.split(' ').any(|flag| flag == "hypervisor"))
}

fn judge(facts: &Facts) -> Vec<Finding> {
    vec![
        facts.mount.as_ref().map_or_else(unknown_mount, file_system),
        facts.mount.as_ref().map_or_else(
            || Finding::note(Check::MountOptions, "unknown", "options that weaken a sync would go unnoticed"),
            mount_options,
        ),
        write_cache(&facts.devices),
        preloaded(&facts.preloaded),
    ]
}

fn unknown_mount() -> Finding {
    let found = "unknown: the list of mounts cannot be read";
    Finding::note(Check::FileSystem, found, "whether it keeps what it syncs cannot be told")
}

/// What kind of file system it is.
fn file_system(mount: &Mount) -> Finding {
    let check = Check::FileSystem;
    let found = format!("{} at {}", mount.kind, mount.point.display());
    let local = "put the data directory on a local disk with ext4, XFS, Btrfs or ZFS";
    match mount.kind.as_str() {
        "tmpfs" | "ramfs" | "devtmpfs" => Finding::fault(
            check,
            format!("{found}, which is memory"),
            "every record is gone after a power cut or restart of the machine, though it was answered with 202",
            local,
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "afs" | "ceph" | "glusterfs" | "lustre" | "ncpfs"
        | "fuse.sshfs" | "fuse.s3fs" | "fuse.gcsfuse" | "fuse.rclone" | "fuse.glusterfs" | "fuse.blobfuse2" => {
            Finding::fault(
                check,
                format!("{found}, which is a network file system"),
                "locks and shared memory of the database are not reliable over a network, and a sync proves little: \
             records can be lost or damaged",
                local,
            )
        }
        "9p" | "virtiofs" | "vboxsf" | "drvfs" | "vmhgfs" | "fuse.vmhgfs-fuse" => Finding::warning(
            check,
            format!("{found}, which is shared by the host of a virtual machine"),
            "whether a sync reaches the host's disk, and whether the database's locks work, is up to the host",
            local,
        ),
        "overlay" | "aufs" => Finding::warning(
            check,
            format!("{found}, the writable layer of a container"),
            "all records go when the container is removed",
            "mount a volume or a directory of the host there",
        ),
        kind if kind.starts_with("fuse") => Finding::warning(
            check,
            format!("{found}, a file system in a program"),
            "whether a sync is one is up to that program",
            local,
        ),
        "zfs" => Finding::ok(check, found)
            .so("its property `sync` cannot be seen from here: with `sync=disabled` a sync is none (`zfs get sync`)"),
        "vfat" | "exfat" | "ntfs" | "ntfs3" | "fuseblk" => Finding::warning(
            check,
            format!("{found}, which knows no permissions of its own"),
            "keys and records cannot be protected from other users, and a crash can damage the file system itself",
            local,
        ),
        _ => Finding::ok(check, found),
    }
}

/// Options with which a sync does not reach the medium, or less than that.
fn mount_options(mount: &Mount) -> Finding {
    let check = Check::MountOptions;
    let has = |wanted: &[&str]| mount.options.iter().find(|option| wanted.contains(&option.as_str())).cloned();
    if let Some(option) = has(&["volatile", "fsync=volatile"]).filter(|_| mount.kind == "overlay") {
        let found = format!("`{option}`: this overlay ignores every sync");
        let consequence = "records that were answered with 202 are lost in a crash of the machine";
        return Finding::fault(check, found, consequence, format!("mount {} without it", mount.point.display()));
    }
    if let Some(option) = has(&["nobarrier", "barrier=0", "barrier=none", "fsync_mode=nobarrier"]) {
        let found = format!("`{option}`: a sync does not flush the device's cache");
        let consequence =
            "records that were answered with 202 are lost in a power cut, unless the device's cache survives one";
        let mend = format!("mount {} without it", mount.point.display());
        return Finding::fault(check, found, consequence, mend);
    }
    if let Some(option) = has(&["data=writeback"]) {
        let found = format!("`{option}`: data is not written before what refers to it");
        let consequence = "after a crash, old content of the disk can show up in files that had grown; the store notices by its checksums and is damaged";
        return Finding::warning(check, found, consequence, "mount with data=ordered, the default");
    }
    Finding::ok(check, format!("none that weakens a sync ({})", list_in_words(&mount.options)))
}

/// Whether the kernel sends flushes, and what stands where a device should.
fn write_cache(devices: &[Device]) -> Finding {
    let check = Check::WriteCache;
    if devices.is_empty() {
        return Finding::note(
            check,
            "unknown: the block device cannot be seen from here",
            "whether its cache is flushed cannot be told",
        );
    }
    let named = |with: &dyn Fn(&Device) -> bool| -> Vec<&str> {
        devices.iter().filter(|device| with(device)).map(|device| device.name.as_str()).collect()
    };
    let in_memory = named(&|device| ["zram", "ram"].iter().any(|name| device.name.starts_with(name)));
    if !in_memory.is_empty() {
        let found = format!("{} is memory", list_in_words(&in_memory));
        let consequence = "every record is gone after a power cut, though it was answered with 202";
        return Finding::fault(check, found, consequence, "put the data directory on a disk");
    }
    let loops = named(&|device| device.name.starts_with("loop"));
    if !loops.is_empty() {
        let found = format!("{} is a file on another file system", list_in_words(&loops));
        return Finding::note(check, found, "a sync is worth what it is worth there; look at that one too");
    }
    let through = named(&|device| device.write_cache.as_deref() == Some("write through"));
    if !through.is_empty() {
        let found = format!("{}: write through, so the kernel flushes nothing", list_in_words(&through));
        let consequence = "right where the device has no volatile cache (power-loss protection, most cloud volumes); \
                           on a disk that has one, or on a virtual disk that hides it, records are lost in a power cut";
        return Finding::note(check, found, consequence);
    }
    let back = named(&|device| device.write_cache.as_deref() == Some("write back"));
    let proof = "whether the device obeys, or the host of a virtual machine passes it on, no software can prove";
    match back.is_empty() {
        true => Finding::note(check, "the device does not say", proof),
        false => Finding::ok(check, format!("{}: write back, so each sync is a flush", list_in_words(&back))).so(proof),
    }
}

/// Libraries that are known to make syncs or clocks untrue.
fn preloaded(libraries: &[String]) -> Finding {
    let check = Check::Preloaded;
    let named = |part: &str| libraries.iter().find(|library| library.contains(part));
    if let Some(library) = named("eatmydata").or_else(|| named("nosync")) {
        let consequence =
            "every sync is swallowed: records that were answered with 202 are lost in a crash of the machine";
        return Finding::fault(
            check,
            format!("{library} is loaded"),
            consequence,
            "run the gateway without LD_PRELOAD",
        );
    }
    if let Some(library) = named("faketime") {
        let consequence = "the clock is made up: tokens, retention and retries go by a wrong time";
        return Finding::fault(
            check,
            format!("{library} is loaded"),
            consequence,
            "run the gateway without LD_PRELOAD",
        );
    }
    match libraries {
        [] => Finding::ok(check, "none"),
        others => Finding::note(
            check,
            format!("{} (LD_PRELOAD)", list_in_words(others)),
            "it can change what system calls do",
        ),
    }
}

fn judge_latencies(latencies: Result<Latencies, String>, turning: bool, place: &Path) -> Finding {
    let check = Check::SyncLatency;
    let latencies = match latencies {
        Ok(latencies) => latencies,
        Err(fault) => {
            let found = format!("not measured: no file can be written in {}: {fault}", place.display());
            let consequence = "a gateway could write nothing either, and would not start or not take records";
            return Finding::fault(check, found, consequence, "let the gateway's user write there, and make room");
        }
    };
    let Latencies { median, p99, worst, tries } = latencies;
    let (median_text, p99_text, worst_text) = (in_words(median), in_words(p99), in_words(worst));
    let found = format!(
        "{median_text} for a write of 4 KiB with its sync (p99 {p99_text}, worst {worst_text}, {tries} tries in {})",
        place.display()
    );
    let a_second = 1.0 / median.as_secs_f64().max(1e-9);
    let follows = format!(
        "a 202 takes at least that: a caller that waits for each answer gets about {} a second; callers at the same time \
         share a sync",
        rounded(a_second)
    );
    let measured = json!({
        "medianMicroseconds": micros(median), "p99Microseconds": micros(p99), "worstMicroseconds": micros(worst),
        "tries": tries,
    });
    let finding = if median < if turning { TURNING_AT_LEAST } else { FLASH_AT_LEAST } {
        let consequence = format!(
            "{follows}. No device is that fast: what is synced is probably not on the medium, and lost in a power cut"
        );
        let mend = "find out what swallows the sync: a cache without battery, a host that ignores flushes, a file system in memory";
        Finding::warning(check, found, consequence, mend)
    } else if worst >= STALL || median > SLOW {
        let consequence = format!(
            "{follows}. While a sync stalls nobody gets an answer, and beyond store.max_waiting_appends callers get 503"
        );
        let mend =
            "use a faster disk (flash, better with power-loss protection), or one that other programs leave alone";
        Finding::warning(check, found, consequence, mend)
    } else {
        Finding::ok(check, found).so(follows)
    };
    finding.measured(measured)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn in_words(duration: Duration) -> String {
    match micros(duration) {
        micros @ ..1_000 => format!("{micros} µs"),
        micros @ 1_000..10_000 => format!("{:.1} ms", micros as f64 / 1_000.0),
        micros => format!("{} ms", micros / 1_000),
    }
}

/// Two digits that mean something, and zeros.
fn rounded(number: f64) -> u64 {
    let number = number.clamp(1.0, 1e9);
    let unit = 10_f64.powf((number.log10().floor() - 1.0).max(0.0));
    ((number / unit).round() * unit) as u64
}

#[cfg(test)]
mod tests;
