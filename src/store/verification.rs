//! What verifying comes to: counts, and findings that name what is wrong, where, what it means and what to do.
//!
//! A store can have more damage than anybody reads, so of each kind only so many findings are kept; all are counted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many findings of each kind are kept; the others are counted.
    pub findings: usize,
    /// For how long repeats are recognized, as the gateway is configured.
    pub duplicate_window: Duration,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is done at the moment.
    pub stage: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is; 0 where that is not known.
    pub of: u64,
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Records that were accepted are neither there nor deleted.
    Lost,
    /// A record is there, and is not what was written.
    DamagedRecord,
    /// A record is there and nothing says what became of it.
    NoState,
    /// A record is in two states, or twice in one, or in another lane's.
    ContradictoryState,
    /// A state of a record that is not there.
    StrayState,
    /// SQLite cannot read a part of a table.
    Unreadable,
    /// SQLite's own check of a database finds something.
    Database,
    /// A figure, or a list that is kept beside the records, is not what it should be.
    Figures,
    /// The high-water mark outside the database.
    Mark,
    /// The index of duplicate keys.
    Index,
    /// `catalog.db`.
    Catalog,
    /// `subscriptions.db`.
    Subscriptions,
}

impl Kind {
    /// What it means for whoever relies on the store.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Lost => "these records were accepted, and the store has nothing of them any more",
            Self::DamagedRecord => "the record cannot be delivered or shown as it was accepted",
            Self::NoState => "the record is there, and whether it was delivered cannot be told",
            Self::ContradictoryState => "whether the record was delivered cannot be told",
            Self::StrayState => "something says what became of a record that is not there",
            Self::Unreadable => "what stands there cannot be read",
            Self::Database => "the file is damaged, be it where no record is",
            Self::Figures => "the gateway would refuse to start, or read a wrong list",
            Self::Mark => "whether the newest records are complete cannot be told from outside the database",
            Self::Index => "repeats of records might not be recognized; the gateway puts that right when it meets this",
            Self::Catalog => "what was configured through the administration is not as it was written",
            Self::Subscriptions => "who is told of records is not as it was written",
        }
    }

    /// What to do about a database.
    const fn action_in_database(self) -> &'static str {
        if matches!(self, Self::Subscriptions) {
            return "restore the database to a moment before it, or have the flows subscribe again";
        }
        "look for what wrote to the tables besides the gateways; restore the database to a moment before it"
    }

    /// What to do about files.
    const fn action_on_files(self) -> &'static str {
        match self {
            Self::Lost
            | Self::DamagedRecord
            | Self::NoState
            | Self::ContradictoryState
            | Self::StrayState
            | Self::Unreadable
            | Self::Database
            | Self::Figures => {
                "check the disk; restore records.db from a backup, or run `streamgate recover` to go on with what is readable"
            }
            Self::Mark => "the next start writes it anew; check the disk if nobody removed it",
            Self::Index => {
                "run `streamgate recover`, or delete the folder `keys`: the next start makes the index again of the records"
            }
            Self::Catalog => "restore catalog.db from a backup",
            Self::Subscriptions => "restore subscriptions.db from a backup, or have the flows subscribe again",
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; nothing is missing.
    Remark,
    /// Something is not as it was written.
    Damage,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// In which file of the data directory, or table of the database.
    pub file: &'static str,
    /// The first record that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
    /// The receipts of these records as far as they can be told, and as far as there is room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<String>,
    /// What is wrong, in words.
    pub what: String,
}

impl Finding {
    /// Damage of this kind, in this file.
    pub(in crate::store) fn damage(kind: Kind, file: &'static str, what: impl Into<String>) -> Self {
        Self { kind, severity: Severity::Damage, file, from: None, to: None, receipts: Vec::new(), what: what.into() }
    }

    /// Something worth knowing.
    pub(in crate::store) fn remark(kind: Kind, file: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Remark, ..Self::damage(kind, file, what) }
    }

    /// About these records.
    pub(in crate::store) const fn of(mut self, from: i64, to: i64) -> Self {
        self.from = Some(from);
        self.to = Some(to);
        self
    }

    /// With this receipt, where it is known.
    pub(in crate::store) fn with_receipt(mut self, receipt: Option<String>) -> Self {
        self.receipts.extend(receipt);
        self
    }

    /// What to do.
    pub fn action(&self) -> &'static str {
        let is_table = self.file.starts_with("table ");
        if is_table { self.kind.action_in_database() } else { self.kind.action_on_files() }
    }

    /// How many records it is about, at least one.
    pub fn records(&self) -> u64 {
        match (self.from, self.to) {
            (Some(from), Some(to)) => to.saturating_sub(from).saturating_add(1).max(1).cast_unsigned(),
            _ => 1,
        }
    }

    /// Whether another one is about the next records, and says the same.
    fn goes_on_in(&self, next: &Self) -> bool {
        let follows = self.to.is_some_and(|to| Some(to.saturating_add(1)) == next.from);
        follows
            && (self.kind, self.severity, self.file) == (next.kind, next.severity, next.file)
            && self.what == next.what
    }
}

/// How many findings of a kind there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Findings.
    pub findings: u64,
    /// Of these: damage, and not remarks.
    pub damage: u64,
    /// Records that they are about, or single things where they are about none.
    pub records: u64,
}

/// Findings as they come, of each kind as many as are wanted.
#[derive(Debug)]
pub(in crate::store) struct Findings {
    limit: usize,
    list: Vec<Finding>,
    totals: BTreeMap<Kind, Total>,
    /// The latest finding of each kind, and where it is in the list if it is kept: what comes next may go on in it.
    latest: BTreeMap<Kind, (Finding, Option<usize>)>,
}

impl Findings {
    /// Keeps so many of each kind.
    pub(in crate::store) const fn keeping(limit: usize) -> Self {
        Self { limit, list: Vec::new(), totals: BTreeMap::new(), latest: BTreeMap::new() }
    }

    /// Takes one in.
    pub(in crate::store) fn note(&mut self, finding: Finding) {
        let total = self.totals.entry(finding.kind).or_default();
        total.records = total.records.saturating_add(finding.records());
        if let Some((latest, at)) = self.latest.get_mut(&finding.kind).filter(|(latest, _)| latest.goes_on_in(&finding))
        {
            latest.to = finding.to;
            if let Some(kept) = at.and_then(|at| self.list.get_mut(at)) {
                kept.to = finding.to;
                let room = self.limit.saturating_sub(kept.receipts.len());
                kept.receipts.extend(finding.receipts.into_iter().take(room));
            }
            return;
        }
        total.findings += 1;
        total.damage += u64::from(finding.severity == Severity::Damage);
        let is_kept = usize::try_from(total.findings).is_ok_and(|findings| findings <= self.limit);
        let latest = Finding { receipts: Vec::new(), ..finding.clone() };
        self.latest.insert(finding.kind, (latest, is_kept.then_some(self.list.len())));
        if is_kept {
            self.list.push(finding);
        }
    }

    /// Whether any of them is damage.
    pub(in crate::store) fn is_damage(&self) -> bool {
        self.totals.values().any(|total| total.damage > 0)
    }

    /// The list, by kind and in the order in which they came, and how many there were of each kind.
    pub(in crate::store) fn into_parts(mut self) -> (Vec<Finding>, BTreeMap<Kind, Total>) {
        self.list.sort_by_key(|finding| finding.kind);
        (self.list, self.totals)
    }
}

/// How many records there are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Numbers that were given to records.
    pub accepted: u64,
    /// Records that are there and are what was written, with their receipts.
    pub verified: u64,
    /// To be delivered.
    pub pending: u64,
    /// Of these: never handed out yet.
    pub untried: u64,
    /// Waiting with their consumer.
    pub waiting: u64,
    /// Delivered.
    pub delivered: u64,
    /// Given up, with a reason.
    pub dead_lettered: u64,
    /// Dead letters that were put away.
    pub discarded: u64,
    /// Deleted when they were kept long enough.
    pub deleted: u64,
    /// Lost to damage, which was written down by a recovery.
    pub lost_and_written_down: u64,
    /// Keys in the index of duplicates.
    pub duplicate_keys: u64,
}

/// Records that an earlier recovery has written down as lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenDown {
    /// The first one.
    pub from: i64,
    /// The last one.
    pub to: i64,
    /// When it was written down.
    pub at: String,
    /// Why, and what had become of them.
    pub why: String,
}

/// What verifying came to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether everything is as it was written. Remarks do not count.
    pub sound: bool,
    /// Which store: a directory, or a database.
    pub store: String,
    /// The newest number that was given to a record, as far as that can be told.
    pub newest: i64,
    /// What there is.
    pub counts: Counts,
    /// What is wrong; of each kind as many as were wanted.
    pub findings: Vec<Finding>,
    /// How many findings there are of each kind.
    pub totals: BTreeMap<Kind, Total>,
    /// Losses that were written down before; the first ones.
    pub written_down: Vec<WrittenDown>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_one_finding_and_what_is_too_much_is_counted() {
        let mut findings = Findings::keeping(2);
        let damaged = |seq| Finding::damage(Kind::DamagedRecord, "records.db", "torn").of(seq, seq);
        for seq in [1, 2, 3, 7, 9, 10] {
            findings.note(damaged(seq).with_receipt(Some(format!("r{seq}"))));
        }
        assert!(findings.is_damage());
        let (list, totals) = findings.into_parts();
        let ranges: Vec<_> = list.iter().map(|finding| (finding.from, finding.to)).collect();
        assert_eq!(ranges, [(Some(1), Some(3)), (Some(7), Some(7))]);
        assert_eq!(list[0].receipts, ["r1", "r2"]);
        assert_eq!(totals[&Kind::DamagedRecord], Total { findings: 3, damage: 3, records: 6 });
    }

    #[test]
    fn a_remark_is_no_damage() {
        let mut findings = Findings::keeping(9);
        findings.note(Finding::remark(Kind::Mark, "high-water.mark", "it is missing"));
        assert!(!findings.is_damage());
    }
}
