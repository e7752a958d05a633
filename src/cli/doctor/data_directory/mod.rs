//! The data directory: is it there, who may read and write it, is there room, who has it, and would a start take it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};

use super::disk::existing;
use super::finding::{Check, Finding, Group, bytes_in_words, count_in_words, list_in_words};
use super::{Scene, Tell, without_configuration};
use crate::app::{Inspection, Moved, RecordsFile};

/// What a gateway keeps free where nobody says otherwise.
const USUAL_RESERVE_BYTES: u64 = 64 << 20;
/// What a first start fills the log with, and what else it makes.
const START_BYTES: u64 = 40 << 20;
/// What a record of a small case takes, with its details.
const RECORD_BYTES: u64 = 1_400;
/// A gateway makes about a dozen files, and more while keys are merged.
const FEW_INODES: u64 = 200;
/// Permissions that are looked at.
const OTHERS_READ: u32 = 0o044;
const OTHERS_WRITE: u32 = 0o022;

/// What there is where the data directory should be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Nothing, below this directory.
    Missing { above: PathBuf },
    /// Something else.
    NoDirectory,
    /// A directory, with its mode and owner.
    Directory { mode: u32, owner: u32 },
    /// Nobody lets us look.
    Unknown(String),
}

/// A file in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    mode: u32,
    owner: u32,
}

/// Figures of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    free_bytes: u64,
    total_bytes: u64,
    free_inodes: u64,
    /// Zero where the file system has no fixed number.
    total_inodes: u64,
    read_only: bool,
}

#[derive(Debug)]
struct Facts<'a> {
    dir: &'a Path,
    place: Place,
    /// Why it, or the directory above it, cannot be written.
    unwritable: Option<String>,
    entries: Vec<Entry>,
    room: Option<Room>,
    /// Who asks.
    user: u32,
    reserve_bytes: u64,
}

/// Tells about the data directory.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let Some(dir) = &scene.data_dir else { return tell.one(without_configuration(Group::DataDirectory)) };
    let reserve_bytes = scene.config().map_or(USUAL_RESERVE_BYTES, |config| config.process.store.disk_reserve_bytes);
    let facts = gather(dir, reserve_bytes);
    tell.all(judge(&facts));
    match &scene.inspection {
        Some(inspection) => {
            let in_database = scene.config().is_some_and(|config| config.process.database.is_some());
            tell.all(judge_files(dir, &facts, inspection, in_database));
        }
        None => tell.one(Finding::fault(
            Check::Lock,
            "unknown: looking at the files of the data directory came to no end",
            "a gateway would hang there too",
            "look at the disk, or at the server of the file system",
        )),
    }
}

fn gather(dir: &Path, reserve_bytes: u64) -> Facts<'_> {
    let above = existing(dir);
    let place = match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Place::Directory { mode: found.mode() & 0o7777, owner: found.uid() },
        Ok(_) => Place::NoDirectory,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            Place::Missing { above: above.clone().unwrap_or_default() }
        }
        Err(fault) => Place::Unknown(fault.to_string()),
    };
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let unwritable = above.as_ref().and_then(|above| rustix::fs::access(above, access).err());
    let room = above.as_ref().and_then(|above| rustix::fs::statvfs(above).ok()).map(|stat| Room {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_inodes: stat.f_favail,
        total_inodes: stat.f_files,
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    });
    let entries = if matches!(place, Place::Directory { .. }) { entries(dir) } else { Vec::new() };
    let unwritable = unwritable.map(|fault| io::Error::from(fault).to_string());
    let user = rustix::process::geteuid().as_raw();
    Facts { dir, place, unwritable, entries, room, user, reserve_bytes }
}

/// The files of the directory, by name.
fn entries(dir: &Path) -> Vec<Entry> {
    let listed = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut entries: Vec<_> = listed
        .filter_map(|entry| {
            let found = std::fs::symlink_metadata(entry.path()).ok()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            found.is_file().then_some(Entry { name, mode: found.mode() & 0o7777, owner: found.uid() })
        })
        .collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = vec![directory(facts)];
    findings.extend(permissions(facts));
    match facts.room {
        Some(room) => findings.push(inodes(room)),
        None => findings.push(Finding::note(Check::Inodes, "unknown", "the file system does not say what is free")),
    }
    findings
}

fn directory(facts: &Facts<'_>) -> Finding {
    let check = Check::Directory;
    let shown = facts.dir.display();
    if let Some(room) = facts.room.filter(|room| room.read_only) {
        let found = format!("{shown} is on a file system that is mounted read-only");
        let consequence = "a gateway does not start; one that runs stops taking records (503)";
        let mend = if room.total_bytes == 0 {
            "take a directory on a disk"
        } else {
            "mount it for writing; if the kernel made it read-only after an error, check the disk first (dmesg)"
        };
        return Finding::fault(check, found, consequence, mend);
    }
    let refused = facts.unwritable.as_ref().map(|fault| {
        let found = format!("{shown} cannot be used by user {}: {fault}", facts.user);
        let consequence = "a gateway of this user does not start (exit code 5)";
        let mend = format!(
            "run the gateway, and doctor, as the user that owns it, or give it to this one: chown {} {shown}",
            facts.user
        );
        Finding::fault(check, found, consequence, mend)
    });
    match &facts.place {
        Place::NoDirectory => {
            let mend = "name another place with `data_dir` or --data-dir, or move what is there away";
            Finding::fault(check, format!("{shown} is not a directory"), "a gateway does not start", mend)
        }
        Place::Unknown(fault) => {
            let mend = "let the gateway's user enter the directories above it";
            Finding::fault(check, format!("{shown} cannot be looked at: {fault}"), "a gateway does not start", mend)
        }
        Place::Missing { above } => {
            refused.map(|finding| finding.about(above.display().to_string())).unwrap_or_else(|| {
                let found = format!("{shown} is not there yet");
                Finding::ok(check, found).so("a start makes it, with mode 0700, and an empty store in it")
            })
        }
        Place::Directory { .. } => refused.unwrap_or_else(|| Finding::ok(check, format!("{shown} can be written"))),
    }
}

fn permissions(facts: &Facts<'_>) -> Vec<Finding> {
    let check = Check::Permissions;
    let Place::Directory { mode, owner } = facts.place else {
        return vec![Finding::ok(check, "nothing is there yet; what a gateway makes, only its own user can read")];
    };
    let shown = facts.dir.display();
    let mut findings = Vec::new();
    if mode & OTHERS_WRITE != 0 {
        let found = format!("others can write to {shown} (mode {mode:04o})");
        let consequence = "they can replace records, keys and secrets";
        findings.push(Finding::fault(check, found, consequence, format!("chmod 700 {shown}")));
    } else if mode & OTHERS_READ != 0 {
        let found = format!("others can list {shown} (mode {mode:04o})");
        let consequence = "they see which files there are, and read each whose own permissions let them";
        findings.push(Finding::warning(check, found, consequence, format!("chmod 700 {shown}")));
    }
    let is_secret = |name: &str| [".secret", ".key", ".pem"].iter().any(|ending| name.ends_with(ending));
    let names = |with: &dyn Fn(&Entry) -> bool| -> Vec<String> {
        facts.entries.iter().filter(|entry| with(entry)).map(|entry| entry.name.clone()).collect()
    };
    let open_secrets = names(&|entry| entry.mode & 0o077 != 0 && is_secret(&entry.name));
    if !open_secrets.is_empty() {
        let found = format!("others can read {}", list_in_words(&open_secrets));
        let consequence = "whoever has them signs events, or calls, in the gateway's name; a gateway that needs them refuses to start";
        let mend = format!("chmod 600 the files in {shown}, and replace the secrets if somebody may have read them");
        findings.push(Finding::fault(check, found, consequence, mend));
    }
    let open = names(&|entry| entry.mode & 0o066 != 0 && !is_secret(&entry.name));
    if !open.is_empty() {
        let found = format!("others can read {}", list_in_words(&open));
        let consequence = if mode & 0o011 == 0 {
            "only the directory's own mode keeps them from it"
        } else {
            "they can read records, and what callbacks and keys are known by"
        };
        findings.push(Finding::warning(check, found, consequence, format!("chmod 600 the files in {shown}")));
    }
    let foreign = names(&|entry| entry.owner != owner);
    if !foreign.is_empty() {
        let found = format!("{} belong to others than {shown} does (user {owner})", list_in_words(&foreign));
        let consequence =
            "a gateway of the directory's owner cannot open them; this comes of a command that was run as another user";
        findings.push(Finding::fault(check, found, consequence, format!("chown {owner} the files in {shown}")));
    }
    if facts.user == 0 && owner != 0 {
        let found = format!("{shown} belongs to user {owner}, and doctor runs as root");
        let consequence = "root may everything: whether the gateway's user may is not told by this run";
        findings.push(Finding::note(check, found, consequence).mend(format!("run doctor as user {owner}")));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, format!("only user {owner} can read and write {shown} (mode {mode:04o})")));
    }
    findings
}

fn inodes(room: Room) -> Finding {
    let check = Check::Inodes;
    match room {
        Room { total_inodes: 0, .. } => Finding::ok(check, "the file system has no fixed number"),
        Room { free_inodes, .. } if free_inodes < FEW_INODES => {
            let found = format!("only {free_inodes} inodes are free");
            let consequence = "files of the index cannot be made: records get 503 before the disk is full";
            Finding::fault(check, found, consequence, "remove files, or use a file system with more inodes")
        }
        Room { free_inodes, .. } => Finding::ok(check, format!("{free_inodes} are free")),
    }
}

/// What is in it, and what room that needs.
fn judge_files(dir: &Path, facts: &Facts<'_>, inspection: &Inspection, in_database: bool) -> Vec<Finding> {
    let records = inspection.records.as_ref().ok().copied().flatten();
    let is_held = matches!(&inspection.holder, Ok(Some(_)));
    let store = moved(inspection, in_database).unwrap_or_else(|| store(dir, inspection, is_held, facts.room));
    vec![free_space(facts, records), lock(inspection), store]
}

/// Room on the disk, and inside the records' file, as the store counts it where its log is empty.
fn free_space(facts: &Facts<'_>, records: Option<RecordsFile>) -> Finding {
    let check = Check::FreeSpace;
    let Some(room) = facts.room else {
        return Finding::note(check, "unknown", "the file system does not say what is free");
    };
    let reserve = facts.reserve_bytes;
    let inside = records.map_or(0, |records| records.free_bytes);
    let to_make = if records.is_none() { START_BYTES } else { 0 };
    let left = room.free_bytes.saturating_add(inside).saturating_sub(reserve).saturating_sub(to_make);
    let (free_text, reserve_text) = (bytes_in_words(room.free_bytes), bytes_in_words(reserve));
    let found = format!(
        "{free_text} of {} are free, {reserve_text} are kept in reserve{}",
        bytes_in_words(room.total_bytes),
        if inside > 0 { format!(", {} are free inside records.db", bytes_in_words(inside)) } else { String::new() }
    );
    let mend = "make room, shorten retention.delivered_days or delivered_details_days, or take a larger disk";
    let measured = serde_json::json!({
        "freeBytes": room.free_bytes, "reserveBytes": reserve, "insideBytes": inside, "leftBytes": left,
    });
    let many = count_in_words(left / RECORD_BYTES);
    let finding = if room.free_bytes <= reserve / 4 || left == 0 {
        let consequence = "new records get 503 store-full; deliveries go on";
        Finding::fault(check, found, consequence, mend)
    } else if left < reserve.saturating_mul(4) {
        let consequence =
            format!("room for about {many} records with details of 1 KiB; then new ones get 503 store-full");
        Finding::warning(check, found, consequence, mend)
    } else {
        Finding::ok(check, found).so(format!("room for about {many} records with details of 1 KiB"))
    };
    finding.measured(measured)
}

fn lock(inspection: &Inspection) -> Finding {
    let check = Check::Lock;
    match &inspection.holder {
        Ok(None) => Finding::ok(check, "nobody has the directory"),
        Ok(Some(holder)) => {
            let consequence = "a second gateway on this directory exits at once (code 5)";
            Finding::note(check, format!("a gateway has the directory: {holder}"), consequence)
        }
        Err(fault) => {
            let consequence = "a gateway could not take it either, and would not start (exit code 5)";
            let mend =
                "let the gateway's user read and write gateway.lock; a file system without locks (flock) will not do";
            Finding::fault(check, format!("the lock cannot be looked at: {fault}"), consequence, mend)
        }
    }
}

/// What there is to say of a store that is in a database now; `in_database`: the gateways of this configuration go there.
fn moved(inspection: &Inspection, in_database: bool) -> Option<Finding> {
    let check = Check::Store;
    match &inspection.moved {
        Ok(None) => None,
        Ok(Some(Moved { file, says })) if in_database => {
            let found = format!("the files are not used any more, as {} says: {says}", file.display());
            Some(Finding::ok(check, found).so("key and secret files beside them still are"))
        }
        Ok(Some(Moved { file, says })) => {
            let file = file.display();
            let found = format!("the store has moved, as {file} says: {says}");
            let consequence = "a gateway of this configuration does not start on the files (exit code 5)";
            let mend = format!(
                "set `[store] kind = \"postgres\"`; or delete {file} to go back on purpose, without the records that were \
                 taken since"
            );
            Some(Finding::fault(check, found, consequence, mend))
        }
        Err(fault) => {
            let mend = "let the gateway's user enter the directory";
            Some(Finding::fault(
                check,
                super::super::with_causes(fault),
                "a gateway does not start (exit code 5)",
                mend,
            ))
        }
    }
}

/// Whether a start would take the files.
fn store(dir: &Path, inspection: &Inspection, is_held: bool, room: Option<Room>) -> Finding {
    let check = Check::Store;
    if let Err(refused) = &inspection.records {
        let consequence = "a start is refused (exit code 5), and changes nothing";
        let mend = "docs/operating.md, section 10, says what each of these means; restore from a backup where records are lost";
        return Finding::fault(check, super::super::with_causes(refused), consequence, mend);
    }
    if !inspection.missing.is_empty() {
        let missing: Vec<_> = inspection.missing.iter().map(|path| path.display().to_string()).collect();
        let consequence = "a start is refused: what was configured, or subscribed to, would be gone without a word";
        let mend = format!("restore it from a backup; if it is to be gone, remove its .mark in {} too", dir.display());
        return Finding::fault(check, format!("{} is missing", list_in_words(&missing)), consequence, mend);
    }
    match inspection.records.as_ref().ok().copied().flatten() {
        None => Finding::ok(check, "there is none yet; a start makes an empty one"),
        Some(RecordsFile { bytes, is_old: true, .. }) if !is_held => {
            let found = format!("records.db ({}) has an older format", bytes_in_words(bytes));
            let needs = format!(
                "the next start writes it again, for which it needs as much free disk ({})",
                bytes_in_words(bytes)
            );
            let mend = "take a backup first: there is no way back to the older version but that";
            match room.is_some_and(|room| room.free_bytes > bytes) {
                true => Finding::warning(check, found, needs, mend),
                false => {
                    Finding::fault(check, found, format!("{needs}, and there is less"), "make room before the start")
                }
            }
        }
        Some(RecordsFile { bytes, .. }) => {
            Finding::ok(check, format!("records.db and its log take {}", bytes_in_words(bytes)))
                .so("whether every record in it is whole, a start finds out")
        }
    }
}

#[cfg(test)]
mod tests;
