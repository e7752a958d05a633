//! What the index costs, with up to ten million keys. Not a test: it prints.
//!
//! `cargo test --release --lib store::sqlite::keys::tests::measure -- --ignored --nocapture`

use std::hint::black_box;
use std::time::Instant;

use super::*;

/// A number of `/proc/self/io` or `/proc/self/status`.
fn figure(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn micros(times: u64, mut what: impl FnMut(u64)) -> f64 {
    let began = Instant::now();
    for n in 0..times {
        what(n);
    }
    began.elapsed().as_secs_f64() * 1e6 / times as f64
}

fn report(keys: &Keys, count: u64, written: u64) {
    const TIMES: u64 = 300_000;
    let lookup = keys.look_up();
    let miss = micros(TIMES, |n| assert_eq!(black_box(lookup.find(&key_of(1 << 40 | n)).unwrap()), None));
    let hit = match count {
        0 => 0.0,
        _ => micros(TIMES, |n| {
            let n = n * 7_919 % count;
            assert_eq!(lookup.find(&key_of(n)).unwrap().map(|seen| seen.seq), Some(1 + n.cast_signed()));
        }),
    };
    let runs = lookup.runs.newest_first().len();
    println!(
        "{count:>9} keys: {miss:.2} µs a miss, {hit:.2} µs a hit; {runs} runs with {:.1} MB in memory, {} keys in tables; \
         {:.0} bytes written a key; the process has {} MB",
        lookup.runs.memory_bytes() as f64 / 1e6,
        keys.in_memory(),
        written as f64 / count.max(1) as f64,
        figure("status", "VmRSS:") / 1_000,
    );
}

fn settle(keys: &mut Keys, newest: i64) {
    let mut quiet = 0;
    let mut last = Vec::new();
    while quiet < 5 {
        std::thread::park_timeout(Duration::from_millis(100));
        let now: Vec<_> = keys.runs.now().newest_first().iter().map(|run| run.range()).collect();
        let draft = fs::read_dir(keys_dir(keys))
            .unwrap()
            .any(|file| file.unwrap().path().extension().is_some_and(|extension| extension == "new"));
        quiet = if now == last && !draft { quiet + 1 } else { 0 };
        last = now;
    }
    keys.committed(KeyMap::default(), newest);
}

fn keys_dir(keys: &Keys) -> std::path::PathBuf {
    keys.runs.now().newest_first().first().and_then(|run| run.path.parent()).unwrap().to_owned()
}

#[test]
#[ignore = "it measures, for a minute"]
fn up_to_ten_million_keys() {
    let dir = tempfile::tempdir_in(std::env::var("MEASURE_IN").unwrap_or_else(|_| "target".to_owned())).unwrap();
    let (mut keys, _board) = start(dir.path(), FREEZE_AT_KEYS);
    report(&keys, 0, 0);
    let before = figure("io", "wchar:");
    let mut took = Vec::new();
    for million in 1..=10_u64 {
        for batch in 0..4_000 {
            let first = (million - 1) * 1_000_000 + batch * 250;
            let mut new = KeyMap::default();
            for n in first..first + 250 {
                new.insert(key_of(n), Seen { seq: 1 + n.cast_signed(), accepted_at_seconds: 1_000 });
            }
            let began = Instant::now();
            keys.committed(new, (first + 250).cast_signed());
            took.push(began.elapsed());
            // As in a gateway, keys come no faster than they can be carried away.
            while keys.in_memory() > 2 * FREEZE_AT_KEYS {
                std::thread::park_timeout(Duration::from_millis(1));
                keys.committed(KeyMap::default(), (first + 250).cast_signed());
            }
        }
        if matches!(million, 1 | 3 | 10) {
            settle(&mut keys, (million * 1_000_000).cast_signed());
            report(&keys, million * 1_000_000, figure("io", "wchar:") - before);
        }
    }
    took.sort_unstable();
    let at = |of_10_000: usize| took.get((took.len() - 1) * of_10_000 / 10_000).map_or(0, Duration::as_micros);
    println!(
        "the writer's part of a commit of 250 keys: median {} µs, 99.9 % {} µs, longest {} µs",
        at(5_000),
        at(9_990),
        at(10_000)
    );
    keys.stop();
    for _ in 0..2 {
        let began = Instant::now();
        let set = directory::open(&directory::path_in(dir.path()), &STORE).unwrap();
        println!(
            "{} keys in {} runs opened in {} ms",
            set.entries(),
            set.newest_first().len(),
            began.elapsed().as_millis()
        );
    }
    let on_disk: u64 =
        fs::read_dir(directory::path_in(dir.path())).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    println!("{} MB on disk", on_disk / 1_000_000);
}

#[test]
#[ignore = "it measures"]
fn merges() {
    for (each, what) in [(8_192_u64, "64 k"), (131_072, "1 M"), (FREEZE_AT_KEYS as u64 * 8, "3.6 M")] {
        let dir = tempfile::tempdir_in(std::env::var("MEASURE_IN").unwrap_or_else(|_| "target".to_owned())).unwrap();
        let (mut carrier, _arrivals) = carrier(dir.path(), usize::try_from(each).unwrap(), Duration::MAX);
        for run in 0..8 {
            let keys = (run * each..(run + 1) * each).map(|n| (key_of(n), seen(1 + n.cast_signed()))).collect();
            let (from, to) = (1 + (run * each).cast_signed(), ((run + 1) * each).cast_signed());
            carrier.waiting.push_back(Arc::new(Frozen { from, to, keys }));
            let began = Instant::now();
            carrier.write_waiting().unwrap();
            if run == 7 {
                println!("a run of {each} keys: {} ms", began.elapsed().as_millis());
            }
        }
        let began = Instant::now();
        carrier.carry().unwrap();
        assert_eq!(carrier.runs.now().newest_first().len(), 1);
        println!("a merge of 8 runs to {what} keys: {} ms", began.elapsed().as_millis());
    }
}
