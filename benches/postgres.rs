//! What does a promise cost on PostgreSQL: records through the gateway's intake, against the bare statement that inserts the
//! same rows; and what do two gateways take on one database, against one?
//!
//! `cargo bench --bench postgres` starts a server of its own from what is installed, loads the contestants in turns, and prints
//! medians and ratios; the last line is JSON. `-- --quick` takes less than a minute once it is built.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark reports, and stops where it cannot run"
)]

#[path = "../tests/support/postgres.rs"]
mod postgres;
#[path = "rig/mod.rs"]
mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rig::figures::{median, ratio, rounded};
use rig::records::{DETAILS_BYTES, Template, configure};
use streamgate::app::load_config;
use streamgate::config::settings::{DatabaseSettings, DatabaseTrust};
use streamgate::config::{Config, Overrides};
use streamgate::domain::access::{Caller, OrganizationScope, Permission};
use streamgate::domain::record::RecordCreated;
use streamgate::domain::time::Timestamp;
use streamgate::intake::Intake;
use streamgate::store::TraceContext;
use streamgate::store::postgres::{Database, PostgresStore};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

/// Records under way at once, as of so many connections.
const AT_ONCE: usize = 256;
/// The same where there is much to do.
const MANY_AT_ONCE: usize = 1_024;

/// What is loaded.
struct Bench {
    config: Config,
    caller: Caller,
    templates: Vec<Template>,
    settings: DatabaseSettings,
    runtime: Runtime,
    next: u64,
}

impl Bench {
    /// The next so many records, ready to be taken.
    fn events(&mut self, count: usize) -> Vec<RecordCreated> {
        let mut request = Vec::new();
        let mut event = |number: u64, template: &Template| {
            template.fill(number, &mut request);
            let head = request.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
            RecordCreated::parse(&request[head + 4..]).expect("a record")
        };
        let first = self.next;
        self.next += count as u64;
        (first..self.next)
            .zip(self.templates.iter().cycle())
            .map(|(number, template)| event(number, template))
            .collect()
    }

    fn store(&self) -> Arc<PostgresStore> {
        let database = Database::open(&self.settings).expect("a database");
        let process = &self.config.process;
        PostgresStore::open(database, &process.store, &process.retention).expect("a store")
    }

    /// Records a second through the intakes of these stores, which share them.
    fn accept(&mut self, stores: &[Arc<PostgresStore>], at_once: usize, count: usize) -> f64 {
        let events = self.events(count);
        let intakes: Vec<_> = stores.iter().map(|store| Intake::new(store.clone(), Arc::new(|| {}))).collect();
        let (catalog, caller) = (&self.config.effective.catalog, &self.caller);
        let appends = events
            .into_iter()
            .zip(intakes.iter().cycle())
            .map(|(event, intake)| intake.accept(catalog, caller, event, TraceContext::default()));
        self.runtime.block_on(async {
            let began = Instant::now();
            let mut answers = futures_util::stream::iter(appends).buffer_unordered(at_once);
            while let Some(answer) = answers.next().await {
                answer.expect("accepted");
            }
            rate(count, began.elapsed())
        })
    }

    /// Rows a second by one statement for as many records as are under way, committed each: into a table like that of
    /// records alone, or into tables like all that a record needs.
    fn insert(&mut self, count: usize, at_once: usize, all_tables: bool) -> f64 {
        let bodies: Vec<Vec<u8>> = (0..at_once).map(|_| vec![b'x'; BODY_BYTES]).collect();
        let first = i64::try_from(self.next).expect("a number");
        self.next += count as u64;
        let connection = self.settings.connection.clone();
        self.runtime.block_on(async move {
            let (client, connection) = connection.connect(NoTls).await.expect("connected");
            let driven = tokio::spawn(connection);
            let statement = client.prepare(if all_tables { ALL_ROWS } else { ONE_ROW }).await.expect("prepared");
            let began = Instant::now();
            let mut from = first;
            for _ in 0..count / at_once {
                let seqs: Vec<i64> = (from..).take(at_once).collect();
                from += i64::try_from(at_once).expect("a number");
                let now = Timestamp::now().millis();
                client.execute(&statement, &[&seqs, &now, &bodies]).await.expect("inserted");
            }
            let rate = rate(count, began.elapsed());
            drop(client);
            let _ended = driven.await;
            rate
        })
    }
}

/// What a record of that size has in the table.
const BODY_BYTES: usize = DETAILS_BYTES + 300;

const TABLES: &str = "create table bare_records (like records including all); \
     create table bare_pending (like pending including all); create table bare_keys (like keys including all)";
const ONE_ROW: &str = "insert into bare_records (organization_id, seq, lane, accepted_at, random, key, crc, body) \
     select md5((w.seq % 10)::text)::uuid, w.seq, 1, $2::bigint, decode(md5(w.seq::text), 'hex'), \
     decode(md5(w.seq::text), 'hex'), 1, w.body from unnest($1::bigint[], $3::bytea[]) as w (seq, body)";
const ALL_ROWS: &str = "with given as (select md5((w.seq % 10)::text)::uuid as organization_id, w.seq, \
     decode(md5(w.seq::text), 'hex') as key, w.body from unnest($1::bigint[], $3::bytea[]) as w (seq, body)), \
     r as (insert into bare_records (organization_id, seq, lane, accepted_at, random, key, crc, body) \
     select organization_id, seq, 1, $2::bigint, key, key, 1, body from given), \
     p as (insert into bare_pending (organization_id, lane, seq, due_at, attempts) \
     select organization_id, 1, seq, 0, 0 from given) \
     insert into bare_keys (organization_id, key, seq, accepted_at) select organization_id, key, seq, $2::bigint from given";

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, count) = if is_quick { (5, 8 * 1_024) } else { (9, 32 * 1_024) };
    let Some(server) = postgres::Server::start(&["shared_buffers=256MB", "max_wal_size=4GB"]) else { return };
    let mut connection = tokio_postgres::Config::new();
    connection.host_path(server.folder()).port(server.port).user(postgres::USER).dbname(server.create_database());
    connection.ssl_mode(tokio_postgres::config::SslMode::Disable);
    let statement_timeout = Duration::from_secs(30);
    let settings =
        DatabaseSettings { connection, trust: DatabaseTrust::InTheClear, max_connections: 10, statement_timeout };
    let folder = tempfile::tempdir().expect("a folder");
    configure(folder.path());
    let overrides = Overrides { data_dir: Some(folder.path().join("data")), ..Overrides::default() };
    let config = load_config(Some(&folder.path().join("streamgate.toml")), &overrides).expect("a configuration");
    let caller = Caller {
        credential: "bench".into(),
        permissions: [Permission::RecordsWrite].into(),
        organizations: OrganizationScope::All,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut bench = Bench { config, caller, templates: Template::all(DETAILS_BYTES), settings, runtime, next: 0 };
    let stores = [bench.store(), bench.store()];
    let database = bench.settings.connection.get_dbname().expect("a name").to_owned();
    server.psql(&database, TABLES);
    let names = [
        "one gateway, 256 at once",
        "one gateway, 1,024 at once",
        "two gateways, 256 at once",
        "bare, the rows of records, 256 at once",
        "bare, all rows of a record, 256 at once",
        "bare, all rows of a record, 1,024 at once",
    ];
    let mut rates: [Vec<f64>; 6] = Default::default();
    // The first one fills caches, and does not count.
    for round in 0..=rounds {
        for turn in 0..names.len() {
            let at = (turn + round) % names.len();
            let figure = match at {
                0 => bench.accept(&stores[..1], AT_ONCE, count),
                1 => bench.accept(&stores[..1], MANY_AT_ONCE, count),
                2 => bench.accept(&stores, AT_ONCE, count),
                3 => bench.insert(count, AT_ONCE, false),
                4 => bench.insert(count, AT_ONCE, true),
                _ => bench.insert(count, MANY_AT_ONCE, true),
            };
            if round > 0 {
                rates[at].push(figure);
            }
        }
        println!("round {round} of {rounds}");
    }
    for (name, rates) in names.iter().zip(&rates) {
        println!("{:>8.0}/s  {name}", median(rates.iter().copied()));
    }
    let [one, one_of_many, two, records, all, all_of_many] = &rates;
    let report = serde_json::json!({
        "rounds": rounds,
        "records_a_round": count,
        "accept_over_bare_records": rounded(ratio(one, records), 3),
        "accept_over_bare_all_rows": rounded(ratio(one, all), 3),
        "accept_over_bare_all_rows_1024_at_once": rounded(ratio(one_of_many, all_of_many), 3),
        "two_gateways_over_one": rounded(ratio(two, one), 3),
    });
    println!("{report}");
}
