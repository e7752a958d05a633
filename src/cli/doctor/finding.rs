//! What doctor says: findings, each of one check, with its consequence and its mend.
//!
//! Whatever is not fine says what follows from it and what to do; the constructors ask for both. Names of groups and
//! checks are part of the JSON, for machines to look for; `docs/operating.md` lists them.

use serde::{Serialize, Serializer};
use serde_json::Value;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// Good to know; nothing has to be done.
    Note,
    /// It works, and something is at risk.
    Warning,
    /// It does not work, or what the gateway promises does not hold.
    Fault,
}

impl Severity {
    /// Every severity, the mildest first.
    pub(super) const ALL: [Self; 4] = [Self::Ok, Self::Note, Self::Warning, Self::Fault];

    /// The word for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// Checks of one kind, which are asked for, and left out, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Group {
    /// What stands in the configuration: faults, and settings with a risk.
    Configuration,
    /// How fast the disk syncs, and whether it can be believed.
    Disk,
    /// Room, permissions, lock and files of the data directory.
    DataDirectory,
    /// The database, where records are kept in one.
    Database,
    /// Limits of the process: files, memory, processors; who it runs as.
    Machine,
    /// Whether the clock can be believed.
    Clock,
    /// The keys of token issuers.
    Issuers,
    /// Whether destinations can be reached.
    Destinations,
    /// Certificate files.
    Certificates,
    /// A gateway that runs already.
    Gateway,
}

impl Group {
    /// Every group, in the order in which they are shown.
    pub(super) const ALL: [Self; 10] = [
        Self::Configuration,
        Self::Disk,
        Self::DataDirectory,
        Self::Database,
        Self::Machine,
        Self::Clock,
        Self::Issuers,
        Self::Destinations,
        Self::Certificates,
        Self::Gateway,
    ];

    /// The name, as in `--only` and in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Disk => "disk",
            Self::DataDirectory => "data-directory",
            Self::Database => "database",
            Self::Machine => "machine",
            Self::Clock => "clock",
            Self::Issuers => "issuers",
            Self::Destinations => "destinations",
            Self::Certificates => "certificates",
            Self::Gateway => "gateway",
        }
    }
}

/// Declares every check once: its variant, its group, its name.
macro_rules! checks {
    ($($(#[$about:meta])* $variant:ident = $group:ident $name:literal,)*) => {
        /// One thing that is looked at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Check { $($(#[$about])* $variant,)* }

        impl Check {
            /// Every check.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name, as in JSON.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The group that it belongs to.
            pub(super) const fn group(self) -> Group {
                match self { $(Self::$variant => Group::$group,)* }
            }
        }
    };
}

checks! {
    /// What `streamgate check` finds.
    Faults = Configuration "faults",
    /// Who can reach the listeners, and what they can read on the way.
    Listeners = Configuration "listeners",
    /// Whether the development key counts.
    DevelopmentKey = Configuration "development-key",
    /// What the configured credentials may do, and until when.
    Credentials = Configuration "credentials",
    /// Where records are posted, and how well protected.
    RoutingQueues = Configuration "routing-queues",
    /// Which networks callbacks may be in.
    Callbacks = Configuration "callbacks",
    /// Limits that are none.
    Limits = Configuration "limits",
    /// How long things are kept and tried.
    Retention = Configuration "retention",
    /// What is logged.
    Log = Configuration "log",
    /// Who may read and write the files of the configuration.
    ConfigurationFiles = Configuration "configuration-files",
    /// How long a sync takes.
    SyncLatency = Disk "sync-latency",
    /// Which file system, and whether it keeps what it syncs.
    FileSystem = Disk "file-system",
    /// Mount options that make a sync worth less.
    MountOptions = Disk "mount-options",
    /// Whether the kernel flushes the device's cache.
    WriteCache = Disk "write-cache",
    /// Libraries that swallow syncs, or make the clock up.
    Preloaded = Disk "preloaded-libraries",
    /// Whether it is there, is a directory, and can be written.
    Directory = DataDirectory "directory",
    /// Who may read and write it.
    Permissions = DataDirectory "permissions",
    /// Free space against the reserve.
    FreeSpace = DataDirectory "free-space",
    /// Free inodes.
    Inodes = DataDirectory "inodes",
    /// Who holds the lock.
    Lock = DataDirectory "lock",
    /// Whether a start would take the files.
    Store = DataDirectory "store",
    /// Whether the database answers.
    DatabaseConnection = Database "database-connection",
    /// What a 202 promises on it.
    DatabaseDurability = Database "durability",
    /// Whether there is room for our connections.
    DatabaseConnections = Database "database-connections",
    /// Whether a start would take its tables.
    DatabaseFormat = Database "format",
    /// Whether its clock and ours agree.
    DatabaseClock = Database "database-clock",
    /// Open files against connections.
    FileDescriptors = Machine "file-descriptors",
    /// Memory against what the limits allow.
    Memory = Machine "memory",
    /// Processors, and their quota.
    Processors = Machine "processors",
    /// Whether a crash writes memory to the disk.
    CoreDumps = Machine "core-dumps",
    /// Who it runs as.
    User = Machine "user",
    /// Whether this is a container.
    Container = Machine "container",
    /// Whether the clock has a likely time, and keeps it.
    WallClock = Clock "wall-clock",
    /// Whether something keeps the clock in time.
    Synchronization = Clock "synchronization",
    /// Whether the store has seen a later time.
    ClockWentBack = Clock "went-back",
    /// Whether an issuer's keys can be fetched and used.
    IssuerKeys = Issuers "issuer-keys",
    /// Whether what an issuer says about itself fits the configuration.
    IssuerMetadata = Issuers "issuer-metadata",
    /// Whether the environment names a proxy, which is ignored.
    Proxy = Issuers "proxy",
    /// Where a destination's name leads, and whether that is permitted.
    Address = Destinations "address",
    /// Whether a destination takes connections.
    Connection = Destinations "connection",
    /// A destination's certificate.
    PeerCertificate = Destinations "peer-certificate",
    /// What a destination answers to a test event.
    TestEvent = Destinations "test-event",
    /// A certificate file and its key.
    Certificate = Certificates "certificate",
    /// Whether a gateway answers, and whether it takes records.
    Ready = Gateway "ready",
    /// Whether the configuration on disk is the one in force.
    Reload = Gateway "reload",
    /// What is still to be delivered, and what could not be.
    Backlog = Gateway "backlog",
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) group: Group,
    /// `None` for a group as a whole, such as one that did not come to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) check: Option<Check>,
    pub(super) severity: Severity,
    /// What it is about, where a check is about several things.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consequence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
    /// Figures, for machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) measured: Option<Value>,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(check: Check, found: impl Into<String>) -> Self {
        Self {
            group: check.group(),
            check: Some(check),
            severity: Severity::Ok,
            subject: None,
            found: found.into(),
            consequence: None,
            mend: None,
            measured: None,
        }
    }

    /// Something to know that asks for nothing.
    pub(super) fn note(check: Check, found: impl Into<String>, consequence: impl Into<String>) -> Self {
        Self { severity: Severity::Note, consequence: Some(consequence.into()), ..Self::ok(check, found) }
    }

    /// Something is at risk.
    pub(super) fn warning(
        check: Check,
        found: impl Into<String>,
        consequence: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let note = Self::note(check, found, consequence);
        Self { severity: Severity::Warning, mend: Some(mend.into()), ..note }
    }

    /// Something does not work.
    pub(super) fn fault(
        check: Check,
        found: impl Into<String>,
        consequence: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Fault, ..Self::warning(check, found, consequence, mend) }
    }

    /// A group that could not be looked at, or did not come to an end.
    pub(super) fn of_group(group: Group, severity: Severity, [found, consequence, mend]: [&str; 3]) -> Self {
        Self {
            group,
            check: None,
            severity,
            subject: None,
            found: found.to_owned(),
            consequence: Some(consequence.to_owned()),
            mend: Some(mend.to_owned()),
            measured: None,
        }
    }

    /// What it is about.
    pub(super) fn about(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// What to do about it, where that is not asked for already.
    pub(super) fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }

    /// What follows, where nothing has to be done.
    pub(super) fn so(self, consequence: impl Into<String>) -> Self {
        Self { consequence: Some(consequence.into()), ..self }
    }

    /// Figures, for machines.
    pub(super) fn measured(self, measured: Value) -> Self {
        Self { measured: Some(measured), ..self }
    }
}

/// Bytes in the unit that people would say them in.
pub(super) fn bytes_in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if value < 1_024.0 {
            break;
        }
        value /= 1_024.0;
        unit = next;
    }
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A number of things, as it would be said: no more digits than mean something.
pub(super) fn count_in_words(count: u64) -> String {
    match count {
        ..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{} thousand", count / 1_000),
        1_000_000.. => format!("{} million", count / 1_000_000),
    }
}

/// Text from outside, cut where it gets too long to be read.
pub(super) fn capped(text: &str) -> String {
    const MOST_CHARS: usize = 250;
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Some names, and how many more there are.
pub(super) fn list_in_words<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_told_apart_and_documented() {
        let manual = include_str!("../../../docs/operating.md");
        let names: BTreeSet<_> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(names.len(), Check::ALL.len());
        for check in Check::ALL {
            let row = format!("| `{}` | `{}` |", check.group().name(), check.name());
            assert!(manual.contains(&row), "docs/operating.md has no row {row}");
        }
    }

    #[test]
    fn bytes_and_lists_read_well() {
        assert_eq!(bytes_in_words(17), "17 bytes");
        assert_eq!(bytes_in_words(64 << 20), "64 MiB");
        assert_eq!(bytes_in_words(1_536), "1.5 KiB");
        assert_eq!(bytes_in_words(u64::MAX), "16384 PiB");
        assert_eq!((capped("é"), capped(&"é".repeat(300)).chars().count()), ("é".to_owned(), 251));
        assert_eq!((count_in_words(999), count_in_words(39_758_063)), ("999".to_owned(), "39 million".to_owned()));
        assert_eq!(list_in_words(&["a", "b"]), "a, b");
        assert_eq!(list_in_words(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
    }
}
