//! Stores of an older format: brought up to date whole, or left as they were.

use std::fs;

use super::*;
use crate::domain::fixtures::admitted;
use crate::domain::ids::ReceiptId;
use crate::store::contract::{Bench, at, day, dead, receipts};
use crate::store::sqlite::OpenError;
use crate::store::{DeadLetters, ListQuery, Outcome, ReceiptStatus};

/// Format 1 as it was published. Stores in it exist, so it never changes.
const FORMAT_1: &str = "
create table meta (id integer primary key check (id = 1), receipt_secret blob not null,
    receipt_secret_crc integer not null, high_water integer not null, delivered_count integer not null,
    delivered_sum integer not null);
create table lanes (id integer primary key, organization blob not null, work_stream blob not null, queue text not null,
    unique (organization, work_stream, queue));
create table records (seq integer primary key, lane integer not null, receipt blob not null,
    duplicate_key blob not null, entity_logical_name text not null, entity_set_name text not null,
    record_id blob not null, relationship_name text not null, route text not null, catalog_generation integer not null,
    accepted_at integer not null, traceparent text, client_tracking_id text, crc integer not null,
    details blob not null);
create table pending (lane integer not null, seq integer not null, due_at integer not null, attempts integer not null,
    lease_token blob, last_error text, primary key (lane, seq)) without rowid;
create table delivered (seq integer primary key, lane integer not null, at integer not null, attempts integer not null,
    last_error text);
create table dead_letters (seq integer primary key, lane integer not null, at integer not null,
    attempts integer not null, reason text not null);
pragma application_id = 0x53475253;
pragma user_version = 1;
";

/// Turns the closed store into one of format 1 with the same records.
fn make_format_1(dir: &Path) {
    let path = dir.join("records.db");
    let old = dir.join("old.db");
    let conn = Connection::open(&old).unwrap();
    conn.execute_batch("pragma page_size = 16384; pragma journal_mode = wal;").unwrap();
    conn.execute_batch(FORMAT_1).unwrap();
    conn.execute("attach ?1 as new", [path.to_str().unwrap()]).unwrap();
    for table in ["meta", "lanes", "records", "pending", "dead_letters"] {
        conn.execute_batch(&format!("insert into main.{table} select * from new.{table}")).unwrap();
    }
    conn.execute_batch(
        "insert into main.delivered select seq, lane, at, attempts, last_error from new.delivered; detach new;",
    )
    .unwrap();
    conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
    drop(conn);
    fs::rename(old, path).unwrap();
}

fn version_in(dir: &Path) -> u32 {
    let header = fs::read(dir.join("records.db")).unwrap();
    u32::from_be_bytes(header[60..64].try_into().unwrap())
}

/// A closed store of format 1 with a record in every state, and what their receipts said.
async fn filled() -> (InDirectory, Vec<(ReceiptId, ReceiptStatus)>) {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    for record in 1..=5 {
        bench.append(admitted(record)).await;
    }
    bench.settle_next(at(1), Outcome::Delivered).await;
    bench.settle_next(at(1), dead("400")).await;
    bench.settle_next(at(1), Outcome::Retry { due: at(9), error: "503".to_owned() }).await;
    bench.lease(at(1), 1).await;
    let page = bench.list(ListQuery { limit: 9, ..ListQuery::default() }).await;
    bench.0.close().await;
    make_format_1(&engine.path());
    assert_eq!(version_in(&engine.path()), 1);
    (engine, page.records.into_iter().map(|status| (status.summary.receipt, status)).collect())
}

#[tokio::test]
async fn a_store_of_format_1_is_brought_up_to_date_with_everything_in_it() {
    let (engine, before) = filled().await;
    let bench = Bench(engine.start());
    assert_eq!(version_in(&engine.path()), 2, "the header says so at once");
    for (id, status) in &before {
        assert_eq!(bench.status(*id).await, *status);
    }
    let [fifth, .., first] = before.as_slice() else { panic!("five records") };
    assert_eq!(bench.append(admitted(1)).await.id(), first.0, "repeats are known");
    assert_eq!(receipts(&bench.lease(at(2), 9).await), [fifth.0]);
    assert_eq!(bench.discard(DeadLetters::One(before[3].0), at(3)).await.count, 1);
    // What is new works on what is old.
    assert_eq!(engine.sweep(day(45)).await, Swept { deleted: 1, ..Swept::default() });
    let bench = bench.reopen(&engine).await;
    assert_eq!(bench.0.receipt(first.0).await.unwrap(), None);
    assert_eq!((bench.0.stats().pending, bench.0.stats().dead_lettered), (3, 0));
    bench.0.close().await;
}

#[tokio::test]
async fn an_upgraded_store_has_the_tables_of_a_new_one() {
    let (upgraded, _) = filled().await;
    upgraded.start().close().await;
    let fresh = InDirectory::new();
    fresh.start().close().await;
    let columns = |engine: &InDirectory| -> Vec<(String, String, String, i64, i64)> {
        let conn = Connection::open(engine.path().join("records.db")).unwrap();
        let mut select = conn
            .prepare(
                "select t.name, c.name, c.type, c.\"notnull\", c.pk from sqlite_schema t, pragma_table_info(t.name) c \
                 order by t.name, c.cid",
            )
            .unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
        select.query_map([], row).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(columns(&upgraded), columns(&fresh));
}

#[tokio::test]
async fn an_upgrade_that_was_cut_short_leaves_format_1_as_it_was() {
    let (engine, before) = filled().await;
    // The last of the new tables is in the way, so the upgrade fails when most of it is done.
    tamper(&engine.path(), "create table deleted (in_the_way integer)");
    assert!(matches!(refusal(&engine.path()), OpenError::Sqlite { .. }));
    assert_eq!(version_in(&engine.path()), 1);
    let tables = |dir: &Path| -> i64 {
        let conn = Connection::open(dir.join("records.db")).unwrap();
        conn.query_row("select count(*) from sqlite_schema where name in ('waiting', 'discarded')", [], |row| {
            row.get(0)
        })
        .unwrap()
    };
    assert_eq!(tables(&engine.path()), 0);
    tamper(&engine.path(), "drop table deleted");
    let bench = Bench(engine.start());
    for (id, status) in &before {
        assert_eq!(bench.status(*id).await, *status);
    }
    bench.0.close().await;
}

#[tokio::test]
async fn a_damaged_store_of_format_1_is_refused_as_it_is() {
    let (engine, _) = filled().await;
    tamper(&engine.path(), "delete from pending where seq = 4");
    let refused = refusal(&engine.path());
    assert!(refused.to_string().contains("record 4 is in none of these states"), "{refused}");
    assert_eq!(version_in(&engine.path()), 1);
}

#[tokio::test]
async fn an_upgrade_that_is_only_in_the_log_is_not_done_again() {
    let (engine, before) = filled().await;
    // As if the process had died behind the commit: the log has the new format, the header the old one.
    let conn = Connection::open(engine.path().join("records.db")).unwrap();
    conn.execute_batch("begin").unwrap();
    super::super::format::upgrade(&conn, 1).unwrap();
    conn.execute_batch("commit").unwrap();
    assert_eq!(version_in(&engine.path()), 1);
    let bench = Bench(engine.start());
    drop(conn);
    assert_eq!(bench.status(before[0].0).await, before[0].1);
    bench.0.close().await;
    assert_eq!(version_in(&engine.path()), 2);
}
