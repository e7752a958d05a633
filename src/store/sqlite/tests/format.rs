//! Stores of an older format: brought up to date whole, or left as they were.

use std::fs;

use super::*;
use crate::domain::fixtures::admitted;
use crate::domain::ids::ReceiptId;
use crate::store::contract::{Bench, at, day, dead, receipts};
use crate::store::sqlite::format::VERSION;
use crate::store::sqlite::{OpenError, row};
use crate::store::{DeadLetters, DeliveryState, Details, ListQuery, Outcome, ReceiptStatus, StoreError};

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

/// What format 2 added, as it was published.
const FORMAT_2: &str = "
alter table delivered add column trimmed integer;
alter table delivered add column closed_after_minutes integer;
create table waiting (seq integer primary key, lane integer not null, since integer not null,
    closes_at integer not null, attempts integer not null, last_error text);
create index waiting_by_end on waiting (closes_at);
create table discarded (seq integer primary key, lane integer not null, at integer not null,
    attempts integer not null, reason text not null, discarded_at integer not null, discarded_by text not null,
    discarded_for text not null);
create table deleted (first integer primary key, last integer not null);
pragma user_version = 2;
";

/// Turns the closed store into one of an older format with the same records.
fn make_older(dir: &Path, format: u32) {
    let path = dir.join("records.db");
    let old = dir.join("old.db");
    let conn = Connection::open(&old).unwrap();
    conn.execute_batch("pragma page_size = 16384; pragma journal_mode = wal;").unwrap();
    conn.execute_batch(FORMAT_1).unwrap();
    conn.execute("attach ?1 as new", [path.to_str().unwrap()]).unwrap();
    conn.execute_batch(
        "insert into main.meta select id, receipt_secret, receipt_secret_crc, high_water, delivered_count, \
         delivered_sum from new.meta;
         insert into main.lanes select id, organization, work_stream, queue from new.lanes;
         insert into main.pending select * from new.pending;
         insert into main.dead_letters select * from new.dead_letters;
         insert into main.delivered select seq, lane, at, attempts, last_error from new.delivered;",
    )
    .unwrap();
    let new = Connection::open(&path).unwrap();
    let secret: [u8; 32] = new.query_row("select receipt_secret from meta", [], |row| row.get(0)).unwrap();
    let mask = crate::store::receipt_id::ReceiptMask::new(&secret);
    for block in blocks(&new) {
        for (seq, head, _) in block.iter() {
            let lane = row::lane(&new, head.lane).unwrap();
            let record = row::decode(&block, seq, lane.as_ref(), &mask).unwrap().record;
            let details: rusqlite::types::Value = match record.details {
                Details::Kept(details) => details.as_bytes().to_vec().into(),
                Details::Trimmed { sha256 } => {
                    sha256.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
                }
            };
            conn.execute(
                "insert into main.records values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
                rusqlite::params![
                    seq,
                    head.lane.0,
                    head.random,
                    head.key,
                    record.entity_logical_name.as_str(),
                    record.entity_set_name.as_str(),
                    record.record_id.guid().as_bytes(),
                    record.relationship_name.as_str(),
                    record.route.to_stored(),
                    record.catalog_generation.cast_signed(),
                    record.accepted_at.millis(),
                    record.trace.traceparent,
                    record.trace.client_tracking_id,
                    i64::from(head.crc),
                    details
                ],
            )
            .unwrap();
            // What was never tried had a row like all that is pending.
            conn.execute(
                "insert into main.pending select ?1, ?2, 0, 0, null, null where exists \
                 (select 1 from new.lanes where id = ?1 and untried_from <= ?2)",
                [head.lane.0, seq],
            )
            .unwrap();
        }
    }
    if format > 1 {
        conn.execute_batch(FORMAT_2).unwrap();
    }
    conn.execute_batch("detach new").unwrap();
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
    filled_as(1).await
}

pub(super) async fn filled_as(format: u32) -> (InDirectory, Vec<(ReceiptId, ReceiptStatus)>) {
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
    make_older(&engine.path(), format);
    assert_eq!(version_in(&engine.path()), format);
    (engine, page.records.into_iter().map(|status| (status.summary.receipt, status)).collect())
}

#[tokio::test]
async fn a_store_of_format_1_is_brought_up_to_date_with_everything_in_it() {
    brought_up_to_date_from(1).await;
}

#[tokio::test]
async fn a_store_of_format_2_is_brought_up_to_date_with_everything_in_it() {
    brought_up_to_date_from(2).await;
}

async fn brought_up_to_date_from(format: u32) {
    let (engine, before) = filled_as(format).await;
    let bench = Bench(engine.start());
    assert_eq!(version_in(&engine.path()), VERSION, "the header says so at once");
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
    assert_eq!(version_in(&engine.path()), VERSION);
}

#[tokio::test]
async fn what_was_damaged_in_an_older_format_stays_damaged_and_holes_stay_holes() {
    let engine = InDirectory::new();
    let bench = Bench(engine.start());
    let mut ids = Vec::new();
    for record in 1..=600 {
        ids.push(bench.append(admitted(record)).await.id());
    }
    bench.0.close().await;
    make_older(&engine.path(), 2);
    tamper(
        &engine.path(),
        "update records set details = x'7b7d' where seq = 3; update records set receipt = 7 where seq = 4; \
         delete from records where seq = 5; delete from records where seq between 100 and 200",
    );
    let bench = Bench(engine.start());
    for seq in [3, 4, 5, 100, 150, 200] {
        let damaged = bench.0.receipt(ids[seq - 1]).await;
        assert!(matches!(damaged, Err(StoreError::Damaged(_))), "{seq}: {damaged:?}");
    }
    for seq in [1, 2, 6, 99, 201, 600] {
        assert_eq!(bench.status(ids[seq - 1]).await.state, DeliveryState::Accepted, "{seq}");
    }
    bench.0.close().await;
}
