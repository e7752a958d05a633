//! Recovering: a damaged store becomes one that starts, with everything that is readable in it, and with what is not
//! written down.
//!
//! Nothing is guessed. A record is kept if its checksum says that it is what was written. What became of it is kept if
//! the store says one thing about it; otherwise it becomes a dead letter with that reason, and a person decides. A number
//! whose record cannot be kept is lost: it goes into the table `lost` (`lost.rs`), so that its receipt says so.
//!
//! ```text
//! <data directory>/recovery-20261129T011500Z/
//! ├── report.json      what was found, kept, given up and lost
//! ├── manifest.jsonl   each record that was lost or given up, and each row that was left out
//! ├── quarantine.bin   the bytes of damaged records; the manifest says where each lies
//! └── original/        the files as they were found, untouched
//! ```
//!
//! The new database is made beside the old one, is verified, and takes its place by renaming (`swap.rs`): a process that
//! dies meanwhile leaves the one or the other.

mod fate;
mod quarantine;
mod rebuild;
pub(super) mod swap;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::fate::{Fate, fates};
use self::quarantine::Quarantine;
use self::rebuild::Rebuild;
use super::error::OpenError;
use super::keys::{Index, KEYS};
use super::lock::DirectoryLock;
use super::mark::{MARK, MarkFile};
use super::schema::{self, RECORDS, with_suffix};
use super::survey::Survey;
use super::survey::ground::{self, Ground};
use super::survey::unchanged::Unchanged;
use super::verify::{self, Options, Progress};
use crate::domain::time::Timestamp;
use crate::store::verification::{Findings, Kind, Report};

/// Room that a recovery leaves on the disk, in bytes.
const SPARE_BYTES: u64 = 16 << 20;
/// Single losses that a report names; the manifest has all.
const NAMED: usize = 1_000;

/// Records that are lost for one reason, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LostRecords {
    /// The first.
    pub from: i64,
    /// The last.
    pub to: i64,
    /// Why, and what had become of them.
    pub why: String,
    /// Their receipts, where these can still be told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<String>,
}

/// A record that is kept as a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenUp {
    /// Its number.
    pub number: i64,
    /// Its receipt.
    pub receipt: String,
    /// Why.
    pub reason: String,
}

/// What becomes of the records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Losses {
    /// Records that are kept as they are.
    pub kept: u64,
    /// Records that are kept, and become dead letters since nobody knows what had become of them.
    pub given_up: u64,
    /// Records that are lost.
    pub lost: u64,
    /// The first of those that are given up.
    pub given_up_records: Vec<GivenUp>,
    /// The first of those that are lost.
    pub lost_records: Vec<LostRecords>,
}

/// What a recovery came to, or would.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// What was found.
    pub found: Report,
    /// Whether there is anything to recover.
    pub needed: bool,
    /// What becomes of the records; nothing where these need no recovery.
    pub losses: Losses,
    /// Where the original, the report and the manifest are; none where nothing was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// What was found of the store that was made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<Report>,
}

impl Recovery {
    /// Whether something is damaged that a recovery leaves as it is.
    pub fn left_to_others(&self) -> bool {
        is_damaged(&self.found, |kind| !is_about_records(kind))
    }
}

/// Says what a recovery would do, and changes nothing.
///
/// # Errors
/// [`OpenError`], as verifying has it, and where the store is beyond what can be recovered.
pub fn plan(data_dir: &Path, options: &Options, tell: &mut dyn FnMut(Progress)) -> Result<Recovery, OpenError> {
    // Held over both looks, so that they see the same.
    let _lock = DirectoryLock::share(data_dir)?;
    let found = verify::verify(data_dir, options, tell)?;
    let mut losses = Losses::default();
    if is_of_records(&found) {
        walk(data_dir, &mut |_, _, fate| {
            losses.count(&fate);
            Ok(())
        })?;
    }
    Ok(Recovery { needed: is_needed(&found), found, losses, folder: None, made: None })
}

/// Recovers the store in a directory. Where nothing is damaged nothing is changed.
///
/// # Errors
/// [`OpenError`]: a gateway has the directory, there is no room, or the store is beyond what can be recovered. The store
/// is as it was then.
pub fn recover(data_dir: &Path, options: &Options, tell: &mut dyn FnMut(Progress)) -> Result<Recovery, OpenError> {
    swap::check_there(data_dir)?;
    let _lock = DirectoryLock::take(data_dir)?;
    swap::finish(data_dir)?;
    schema::check_records(data_dir)?;
    let found = verify::look(data_dir, options, tell)?;
    if !is_needed(&found) {
        return Ok(Recovery { needed: false, found, losses: Losses::default(), folder: None, made: None });
    }
    let of_records = is_of_records(&found);
    if of_records {
        check_room(data_dir)?;
    }
    let folder = make_folder(data_dir)?;
    let mut losses = Losses::default();
    let made = if of_records {
        let made = rebuild(data_dir, &folder, options, (&mut losses, tell))?;
        write_report(&folder, &found, &losses)?;
        swap::swap(data_dir, &folder)?;
        made
    } else {
        // What is derived is moved away, and made again at the next start.
        write_report(&folder, &found, &losses)?;
        swap::move_derived(data_dir, &folder)?;
        verify::look(data_dir, options, tell)?
    };
    Ok(Recovery { needed: true, found, losses, folder: Some(folder), made: Some(made) })
}

fn is_about_records(kind: Kind) -> bool {
    !matches!(kind, Kind::Catalog | Kind::Subscriptions)
}

fn is_needed(found: &Report) -> bool {
    is_damaged(found, is_about_records)
}

/// Whether more than what is derived is damaged.
fn is_of_records(found: &Report) -> bool {
    is_damaged(found, |kind| is_about_records(kind) && !matches!(kind, Kind::Index | Kind::Mark))
}

fn is_damaged(found: &Report, kinds: impl Fn(Kind) -> bool) -> bool {
    found.totals.iter().any(|(kind, total)| total.damage > 0 && kinds(*kind))
}

impl Losses {
    fn count(&mut self, fate: &Fate<'_>) {
        match fate {
            Fate::Kept { .. } => self.kept += 1,
            Fate::GivenUp { place, receipt, reason } => {
                self.given_up += 1;
                if self.given_up_records.len() < NAMED {
                    let (receipt, reason) = (receipt.clone(), reason.clone());
                    self.given_up_records.push(GivenUp { number: place.seq, receipt, reason });
                }
            }
            Fate::Lost { range, why, receipt, .. } => {
                self.lost += range.count();
                let is_full = self.lost_records.len() >= NAMED;
                match self.lost_records.last_mut() {
                    Some(last) if last.to + 1 == range.first && last.why == *why => {
                        last.to = range.last;
                        last.receipts.extend(receipt.clone().filter(|_| last.receipts.len() < NAMED));
                    }
                    _ if is_full => {}
                    _ => self.lost_records.push(LostRecords {
                        from: range.first,
                        to: range.last,
                        why: why.clone(),
                        receipts: receipt.clone().into_iter().collect(),
                    }),
                }
            }
            Fate::Dropped { .. } => {}
        }
    }
}

/// Goes through the store and says what becomes of each number.
fn walk(
    data_dir: &Path,
    each: &mut dyn FnMut(&Ground, &super::survey::Window, Fate<'_>) -> Result<(), OpenError>,
) -> Result<i64, OpenError> {
    let file = data_dir.join(RECORDS);
    let failed = OpenError::sqlite(&file);
    let records = Unchanged::open(&file)?;
    let conn = records.conn();
    // They were told when the store was verified.
    let mut told = Findings::keeping(0);
    let Some(secret) = ground::secret(conn).map_err(&failed)? else {
        let why = "the secret that makes receipt IDs cannot be read, so no receipt that was given out could be found; \
                   restore records.db from a backup";
        return Err(OpenError::NotRecoverable { file, why });
    };
    let merged_to = Index::open_unchanged(data_dir, &secret, &mut told)?.merged_to();
    let ground = Ground::read(conn, data_dir, merged_to, &mut told)?;
    let mut survey = Survey::start(conn, &ground);
    while let Some(window) = survey.window(&mut told).map_err(&failed)? {
        for fate in fates(&window, &ground) {
            each(&ground, &window, fate)?;
        }
    }
    Ok(ground.newest)
}

/// Makes the new database in the folder, and verifies it.
fn rebuild(
    data_dir: &Path,
    folder: &Path,
    options: &Options,
    (losses, tell): (&mut Losses, &mut dyn FnMut(Progress)),
) -> Result<Report, OpenError> {
    let new = folder.join(swap::NEW);
    private_directory(&new)?;
    let mut quarantine = Quarantine::create(folder)?;
    let mut made = Rebuild::create(&new)?;
    let mut done = 0_u64;
    let newest = walk(data_dir, &mut |ground, window, fate| {
        losses.count(&fate);
        quarantine.take(ground, window, &fate)?;
        made.take(ground, window, &fate)?;
        done += 1;
        if done.is_multiple_of(10_000) {
            tell(Progress { stage: "recovering records", done, of: ground.newest.cast_unsigned() });
        }
        Ok(())
    })?;
    quarantine.finish()?;
    made.finish(newest)?;
    let mark = MarkFile::open(&new)?;
    mark.write(newest).and_then(|()| mark.sync()).map_err(OpenError::io("cannot write", mark.path()))?;
    schema::sync_directory(&new)?;
    let report = verify::look(&new, options, tell)?;
    if !report.sound {
        let what = report.findings.first().map(|finding| finding.what.clone()).unwrap_or_default();
        let why =
            format!("what was recovered is not sound ({what}); nothing was changed, and it lies in {}", new.display());
        return Err(OpenError::inconsistent(&data_dir.join(RECORDS), why));
    }
    Ok(report)
}

/// The new database takes about as much as the old one.
fn check_room(data_dir: &Path) -> Result<(), OpenError> {
    let file = data_dir.join(RECORDS);
    let bytes_of = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let needed = bytes_of(&file) + bytes_of(&with_suffix(&file, "-wal")) + SPARE_BYTES;
    let disk = rustix::fs::statvfs(data_dir)
        .map_err(|fault| OpenError::io("cannot tell how much disk space is free around", data_dir)(fault.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed { Err(OpenError::NoRoom { directory: data_dir.to_owned(), needed, free }) } else { Ok(()) }
}

fn private_directory(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new().mode(0o700).create(path).map_err(OpenError::io("cannot make", path))
}

/// A folder for this recovery, named after the moment.
fn make_folder(data_dir: &Path) -> Result<PathBuf, OpenError> {
    clear_unfinished(data_dir)?;
    let name: String = Timestamp::now().to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let folder = data_dir.join(format!("{}{name}", swap::FOLDER_PREFIX));
    private_directory(&folder)?;
    private_directory(&folder.join(swap::ORIGINAL))?;
    schema::sync_directory(&folder)?;
    schema::sync_directory(data_dir)?;
    Ok(folder)
}

/// Removes what a recovery left that was cut short before it was decided. The lock is held, and nothing is pending.
fn clear_unfinished(data_dir: &Path) -> Result<(), OpenError> {
    let failed = OpenError::io("cannot read", data_dir);
    let folders = fs::read_dir(data_dir).and_then(|all| all.collect::<std::io::Result<Vec<_>>>()).map_err(failed)?;
    for folder in folders.into_iter().map(|entry| entry.path()) {
        let is_one = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(swap::FOLDER_PREFIX));
        let has_original = fs::read_dir(folder.join(swap::ORIGINAL)).is_ok_and(|mut files| files.next().is_some());
        if is_one && folder.join(swap::NEW).is_dir() && !has_original {
            fs::remove_dir_all(&folder).map_err(OpenError::io("cannot remove", &folder))?;
        }
    }
    Ok(())
}

/// What was found, and what becomes of it, durably.
fn write_report(folder: &Path, found: &Report, losses: &Losses) -> Result<(), OpenError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written<'a> {
        at: Timestamp,
        found: &'a Report,
        losses: &'a Losses,
    }
    let path = folder.join("report.json");
    let failed = OpenError::io("cannot write", &path);
    let mut text = serde_json::to_string_pretty(&Written { at: Timestamp::now(), found, losses })
        .map_err(std::io::Error::from)
        .and_then(|text| {
            let file = schema::open_private(&path)?;
            Ok((text, file))
        })
        .map_err(failed)?;
    text.0.push('\n');
    std::io::Write::write_all(&mut text.1, text.0.as_bytes())
        .and_then(|()| text.1.sync_all())
        .map_err(OpenError::io("cannot write", &path))?;
    schema::sync_directory(folder)
}

/// Files that are derived, or tell of the newest record: a recovered store has them anew.
const DERIVED: [&str; 2] = [KEYS, MARK];
