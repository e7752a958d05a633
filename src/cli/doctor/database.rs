//! The database that gateways share: does it answer, does it keep what it commits, is there room for our connections, and
//! would a start take its tables.

use std::time::Duration;

use super::finding::{Check, Finding, Group};
use super::{Scene, Tell, without_configuration};
use crate::app::upkeep::{DatabaseFacts, look_at_database};

/// An answer that takes longer slows every commit down.
const SLOW: Duration = Duration::from_millis(20);
/// Leases and retention go by the gateways' clocks, and who is there by the server's.
const CLOCKS_APART_MILLIS: i64 = 2_000;

/// Every check of the group.
const ALL: [Check; 5] = [
    Check::DatabaseConnection,
    Check::DatabaseDurability,
    Check::DatabaseConnections,
    Check::DatabaseFormat,
    Check::DatabaseClock,
];

/// Tells about the database.
pub(super) fn examine(scene: &Scene, tell: &Tell) {
    let Some(config) = scene.config() else { return tell.one(without_configuration(Group::Database)) };
    let Some(settings) = &config.process.database else {
        let found = "records are kept in files: there is no database";
        return tell.all(ALL.map(|check| Finding::ok(check, found)));
    };
    match look_at_database(settings) {
        Err(fault) => {
            let consequence =
                "a gateway does not start (exit code 5); one that runs answers 503 until it can be reached";
            let mend = "look at the URL, at the way to the server (firewall, DNS, TLS), and at its pg_hba.conf and log";
            tell.one(Finding::fault(Check::DatabaseConnection, fault.to_string(), consequence, mend));
        }
        Ok(facts) => tell.all(judge(&facts, settings.max_connections)),
    }
}

fn judge(facts: &DatabaseFacts, own_connections: usize) -> Vec<Finding> {
    vec![connection(facts), durability(facts), connections(facts, own_connections), format(facts), clocks(facts)]
}

fn connection(facts: &DatabaseFacts) -> Finding {
    let check = Check::DatabaseConnection;
    let millis = facts.took.as_millis();
    let how = if facts.is_encrypted { "encrypted" } else { "in the clear" };
    let found = format!("PostgreSQL {} answers in {millis} ms, {how}", facts.version);
    let measured = serde_json::json!({ "milliseconds": u64::try_from(millis).unwrap_or(u64::MAX) });
    let finding = if facts.version_number < 150_000 {
        let consequence = "a gateway does not start: 15 is the oldest that is supported";
        Finding::fault(check, found, consequence, "upgrade the server")
    } else if facts.encoding != "UTF8" {
        let found = format!("{found}; the database has the encoding {}", facts.encoding);
        let consequence = "a gateway does not start: not every text can be stored in it";
        let mend = "take a database that was made with: create database … encoding 'UTF8' template template0";
        Finding::fault(check, found, consequence, mend)
    } else if facts.is_superuser {
        let consequence = "whoever gets at the URL can do anything on that server";
        let mend = "make a role that owns this database and nothing else: create role streamgate login password '…'";
        Finding::warning(check, format!("{found}, as a superuser"), consequence, mend)
    } else if facts.took > SLOW {
        let consequence = "connecting is part of it; if answers take as long, each batch of records waits for two";
        Finding::note(check, found, consequence).mend("put gateways near the database")
    } else {
        Finding::ok(check, found)
    };
    finding.measured(measured)
}

/// What a 202 promises on this server (PostgreSQL manual, "Asynchronous Commit", "Synchronous Replication").
fn durability(facts: &DatabaseFacts) -> Finding {
    let check = Check::DatabaseDurability;
    for (setting, value) in [
        ("fsync", &facts.fsync),
        ("synchronous_commit", &facts.synchronous_commit),
        ("full_page_writes", &facts.full_page_writes),
    ] {
        if value == "off" {
            let consequence = "a record that was answered with 202 can be lost; a gateway does not start";
            let mend = format!("set {setting} = on, for the server and for the gateway's role and database");
            return Finding::fault(check, format!("{setting} is off"), consequence, mend);
        }
    }
    let level = &facts.synchronous_commit;
    let found = format!("fsync is on, synchronous_commit is {level}");
    if facts.synchronous_standby_names.is_empty() || level == "local" {
        let consequence = "a 202 survives a crash of the primary, not the loss of its disk: after a failover to a standby \
             that was behind, the newest records are missing";
        return Finding::note(check, format!("{found}, without synchronous standbys"), consequence)
            .mend("where that is too little, set synchronous_standby_names");
    }
    let names = &facts.synchronous_standby_names;
    let promise = match level.as_str() {
        "remote_write" => {
            "a 202 is on the primary's disk and in the memory of standbys: it survives the loss of either"
        }
        "remote_apply" => "a 202 is on the disks of standbys too, and can be read there",
        _ => "a 202 is on the disks of standbys too: it survives the loss of the primary",
    };
    let cost = "without enough of them nothing is accepted: callers get 503";
    Finding::ok(check, format!("{found}, with synchronous standbys ({names})")).so(format!("{promise}; {cost}"))
}

fn connections(facts: &DatabaseFacts, own: usize) -> Finding {
    let check = Check::DatabaseConnections;
    // One more listens.
    let needed = i64::try_from(own).unwrap_or(i64::MAX).saturating_add(1);
    let (most, used, gateways) = (facts.max_connections, facts.connections, facts.gateways);
    let found = format!("{used} of {most} are in use; {gateways} gateways are there, and each may take {needed}");
    let measured = serde_json::json!({ "limit": most, "used": used, "gateways": gateways, "perGateway": needed });
    let of_all = needed.saturating_mul(gateways.max(1));
    let finding = if needed > most {
        let consequence = "under load a gateway finds no connection, and callers get 503";
        let mend = "raise the server's max_connections, or lower `store.postgres.max_connections`";
        Finding::fault(check, found, consequence, mend)
    } else if of_all > most || used.saturating_add(needed) > most {
        let consequence = "when all of them are busy, some find no connection, and their callers get 503";
        let mend = "raise the server's max_connections, or lower `store.postgres.max_connections`";
        Finding::warning(check, found, consequence, mend)
    } else {
        Finding::ok(check, found)
    };
    finding.measured(measured)
}

fn format(facts: &DatabaseFacts) -> Finding {
    let check = Check::DatabaseFormat;
    let known = i32::try_from(facts.known_format).unwrap_or(i32::MAX);
    let found = facts.format;
    if let Some(says) = &facts.half_copied {
        let mend = "run that command again, to its end; or take an empty database";
        return Finding::fault(check, says, "a gateway does not start on it (exit code 5)", mend);
    }
    match found {
        0 => Finding::ok(check, "there are no tables yet").so("the first gateway makes them, or `streamgate migrate`"),
        _ if found > known => {
            let found = format!("the tables have format {found}, and this version knows {known}");
            Finding::fault(check, found, "a gateway of this version does not start", "use the newer version")
        }
        _ if found < known => {
            let found = format!("the tables have format {found}, and this version knows {known}");
            let consequence = "the next start brings them up to date; older gateways cannot start then";
            Finding::note(check, found, consequence).mend("`streamgate migrate` does it beforehand")
        }
        _ if !facts.may_write => {
            let consequence = "a gateway does not start, or answers every record with 503";
            let mend = "grant select, insert, update, delete on all tables in the schema to the gateway's role";
            Finding::fault(check, "the role may not read and write every table", consequence, mend)
        }
        _ => Finding::ok(check, format!("the tables have format {found}, as this version does")),
    }
}

fn clocks(facts: &DatabaseFacts) -> Finding {
    let check = Check::DatabaseClock;
    let ahead = facts.clock_ahead_millis;
    let measured = serde_json::json!({ "aheadMilliseconds": ahead });
    let finding = if ahead.abs() >= CLOCKS_APART_MILLIS {
        let seconds = ahead.abs() / 1_000;
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let found = format!("the server's clock is {seconds} s {way} this machine's");
        let consequence = "gateways whose clocks differ hand records out again too early, or too late";
        Finding::warning(check, found, consequence, "keep the clocks of all machines in time")
    } else {
        Finding::ok(check, "the server's clock and this machine's agree within two seconds")
    };
    finding.measured(measured)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn facts() -> DatabaseFacts {
        DatabaseFacts {
            version: "15.9".to_owned(),
            version_number: 150_009,
            took: Duration::from_millis(2),
            is_encrypted: true,
            is_superuser: false,
            encoding: "UTF8".to_owned(),
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            synchronous_standby_names: "ANY 1 (a, b)".to_owned(),
            max_connections: 97,
            connections: 12,
            gateways: 2,
            format: 1,
            known_format: 1,
            may_write: true,
            half_copied: None,
            clock_ahead_millis: 3,
        }
    }

    #[test]
    fn each_check_tells_what_it_is_for() {
        use Severity::{Fault, Note, Ok, Warning};
        let judged = |change: fn(&mut DatabaseFacts), own| {
            let mut facts = facts();
            change(&mut facts);
            judge(&facts, own).iter().map(|finding| finding.severity).collect::<Vec<_>>()
        };
        for (change, own, expected) in [
            ((|_| ()) as fn(&mut DatabaseFacts), 10, [Ok, Ok, Ok, Ok, Ok]),
            (|facts| facts.version_number = 140_000, 10, [Fault, Ok, Ok, Ok, Ok]),
            (|facts| facts.encoding = "LATIN1".to_owned(), 10, [Fault, Ok, Ok, Ok, Ok]),
            (|facts| facts.is_superuser = true, 10, [Warning, Ok, Ok, Ok, Ok]),
            (|facts| facts.took = Duration::from_millis(90), 10, [Note, Ok, Ok, Ok, Ok]),
            (|facts| facts.fsync = "off".to_owned(), 10, [Ok, Fault, Ok, Ok, Ok]),
            (|facts| facts.synchronous_commit = "off".to_owned(), 10, [Ok, Fault, Ok, Ok, Ok]),
            (|facts| facts.synchronous_commit = "local".to_owned(), 10, [Ok, Note, Ok, Ok, Ok]),
            (|facts| facts.synchronous_standby_names.clear(), 10, [Ok, Note, Ok, Ok, Ok]),
            (|facts| facts.gateways = 20, 10, [Ok, Ok, Warning, Ok, Ok]),
            (|_| (), 97, [Ok, Ok, Fault, Ok, Ok]),
            (|facts| facts.format = 0, 10, [Ok, Ok, Ok, Ok, Ok]),
            (|facts| facts.format = 2, 10, [Ok, Ok, Ok, Fault, Ok]),
            (|facts| facts.may_write = false, 10, [Ok, Ok, Ok, Fault, Ok]),
            (|facts| facts.half_copied = Some("half".to_owned()), 10, [Ok, Ok, Ok, Fault, Ok]),
            (|facts| facts.known_format = 2, 10, [Ok, Ok, Ok, Note, Ok]),
            (|facts| facts.clock_ahead_millis = -5_000, 10, [Ok, Ok, Ok, Ok, Warning]),
        ] {
            assert_eq!(judged(change, own), expected);
        }
    }
}
