//! The clock: is the time likely, does something keep it, and has it gone back.
//!
//! Tokens, retention, retries and signatures go by the wall clock. Whether it is right cannot be known without another
//! one; whether a service keeps it in time can be seen by the files that such services make. Time zones play no part.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::finding::{Check, Finding, list_in_words};
use super::{Scene, Tell};
use crate::domain::time::Timestamp;

/// 2026-01-01: no version of this gateway is older.
const EARLIEST: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// 2100-01-01: certificates and tokens of today have all ended.
const LATEST: Timestamp = Timestamp::from_millis(4_102_444_800_000);
/// How far the two clocks may come apart while they are looked at.
const STEP: Duration = Duration::from_secs(1);
/// How long they are looked at.
const WATCHED: Duration = Duration::from_millis(300);
/// File systems round, and clocks are slewed.
const AHEAD: Duration = Duration::from_secs(2);

/// Files that tell of a service that keeps the clock, and who makes them.
const KEEPERS: [(&str, &str); 8] = [
    ("/run/chrony/chronyd.pid", "chrony"),
    ("/run/chrony/chronyd.sock", "chrony"),
    ("/run/chronyd.pid", "chrony"),
    ("/run/ntpd.pid", "ntpd"),
    ("/run/ntpd/ntpd.pid", "ntpd"),
    ("/run/ntpsec/ntpd.pid", "ntpsec"),
    ("/run/openntpd.pid", "OpenNTPD"),
    ("/run/ptp4l", "PTP"),
];
/// Made once the clock has been set from a server.
const TIMESYNCD_DONE: &str = "/run/systemd/timesync/synchronized";
/// There while systemd's client runs.
const TIMESYNCD: &str = "/run/systemd/timesync";

/// How the clock is kept, as far as files tell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    /// It has been set from a server.
    Synchronized,
    /// A client runs and has not reached its server yet.
    Waiting,
    /// This service runs; whether it has reached a server is not told.
    By(&'static str),
    /// Nothing is to be seen.
    Unknown,
}

/// Tells about the clock.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let (wall, steady) = (SystemTime::now(), Instant::now());
    tell.one(synchronization(&kept(|path| Path::new(path).exists())));
    let ahead = scene.data_dir.as_ref().map(|dir| files_ahead(dir, SystemTime::now()));
    tell.one(went_back(ahead.as_deref()));
    std::thread::sleep(WATCHED.saturating_sub(steady.elapsed()));
    let passed = steady.elapsed();
    let stepped = match SystemTime::now().duration_since(wall) {
        Ok(on_the_wall) => on_the_wall.abs_diff(passed),
        Err(back) => back.duration() + passed,
    };
    tell.one(wall_clock(Timestamp::now(), stepped));
}

fn kept(exists: impl Fn(&str) -> bool) -> Kept {
    if exists(TIMESYNCD_DONE) {
        return Kept::Synchronized;
    }
    match KEEPERS.into_iter().find(|(file, _)| exists(file)) {
        Some((_, name)) => Kept::By(name),
        None if exists(TIMESYNCD) => Kept::Waiting,
        None => Kept::Unknown,
    }
}

fn wall_clock(now: Timestamp, stepped: Duration) -> Finding {
    let check = Check::WallClock;
    let mend = "set the clock, and let a service keep it (systemd-timesyncd, chrony)";
    if now < EARLIEST || now > LATEST {
        let consequence = "certificates and tokens do not hold, receivers refuse signatures, and retention may delete what is not old";
        return Finding::fault(check, format!("it says {now}, which cannot be"), consequence, mend);
    }
    if stepped >= STEP {
        let found = format!("it was set while doctor looked, by {:.1} s", stepped.as_secs_f64());
        let consequence = "moments in receipts jump; retries and tokens go by a time that changes";
        return Finding::warning(check, found, consequence, "find out what sets it; let one service keep it");
    }
    Finding::ok(check, format!("it says {now}"))
}

fn synchronization(kept: &Kept) -> Finding {
    let check = Check::Synchronization;
    match kept {
        Kept::Synchronized => Finding::ok(check, "systemd-timesyncd has set it from a server"),
        Kept::By(name) => Finding::ok(check, format!("{name} runs"))
            .so("whether it reaches its servers is not told here (`chronyc tracking`, `ntpq -p`)"),
        Kept::Waiting => Finding::warning(
            check,
            "systemd-timesyncd runs and has not reached a server yet",
            "the clock drifts: tokens and signatures are refused once it is minutes off",
            "let it reach a time server (UDP port 123), or name one in /etc/systemd/timesyncd.conf",
        ),
        Kept::Unknown => Finding::note(
            check,
            "no service is to be seen that keeps the clock",
            "a clock that drifts by minutes makes bearer tokens and signatures fail; in a container or a virtual machine \
             the host may keep it",
        )
        .mend("on a machine of its own: install systemd-timesyncd or chrony"),
    }
}

/// The store's files that were written in the future.
fn files_ahead(dir: &Path, now: SystemTime) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut ahead: Vec<_> = entries
        .filter(|entry| {
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            written.is_ok_and(|written| written.duration_since(now).is_ok_and(|ahead| ahead > AHEAD))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    ahead.sort();
    ahead
}

fn went_back(ahead: Option<&[String]>) -> Finding {
    let check = Check::ClockWentBack;
    match ahead {
        None => Finding::note(check, "not looked at: the data directory is not known", "mend the configuration first"),
        Some([]) => Finding::ok(check, "no file in the data directory is from the future"),
        Some(files) => Finding::warning(
            check,
            format!("{} in the data directory were written in the future", list_in_words(files)),
            "the clock was ahead, or is behind now: moments in receipts are wrong, and repeats, retries and retention go by them",
            "set the clock before a gateway is started",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Severity;

    #[test]
    fn impossible_and_jumping_clocks_are_told() {
        let today = Timestamp::from_millis(1_790_000_000_000);
        assert_eq!(wall_clock(today, Duration::from_millis(3)).severity, Severity::Ok);
        assert_eq!(wall_clock(today, Duration::from_secs(5)).severity, Severity::Warning);
        for odd in [0, 4_200_000_000_000] {
            assert_eq!(wall_clock(Timestamp::from_millis(odd), Duration::ZERO).severity, Severity::Fault);
        }
    }

    #[test]
    fn whoever_keeps_the_clock_is_found_by_its_files() {
        let with = |there: &'static [&'static str]| kept(|path| there.contains(&path));
        assert_eq!(with(&[TIMESYNCD, TIMESYNCD_DONE]), Kept::Synchronized);
        assert_eq!(with(&[TIMESYNCD]), Kept::Waiting);
        assert_eq!(with(&["/run/chrony/chronyd.pid"]), Kept::By("chrony"));
        assert_eq!(with(&[]), Kept::Unknown);
        assert_eq!(synchronization(&Kept::Waiting).severity, Severity::Warning);
        assert_eq!(synchronization(&Kept::Unknown).severity, Severity::Note);
    }

    #[test]
    fn files_from_the_future_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("records.db"), "").expect("written");
        assert!(files_ahead(dir.path(), SystemTime::now()).is_empty());
        let earlier = SystemTime::now() - Duration::from_secs(3_600);
        let ahead = files_ahead(dir.path(), earlier);
        assert_eq!(ahead, ["records.db"]);
        assert_eq!(went_back(Some(&ahead)).severity, Severity::Warning);
        assert!(files_ahead(Path::new("/nonexistent"), earlier).is_empty());
    }
}
