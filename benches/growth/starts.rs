//! Starts: from the moment at which the binary is started until it says that it takes records; with nothing there, with
//! much there, and with much there after it was killed under load.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::backlog::{BACKLOGS, KEYS};
use super::chart::{Chart, Row, Shape, amount};
use super::ground::Ground;
use super::keys::CONNECTIONS;
use super::rig::contestant::{Contestant, Kind};
use super::rig::figures::{median, rounded};
use super::rig::load::Loader;
use super::rig::records::DETAILS_BYTES;
use super::stock::Filling;

/// How long it was loaded before it was stopped, or killed.
const LOADED: Duration = Duration::from_millis(700);

/// Milliseconds until ready.
pub(crate) fn measure(ground: &mut Ground) -> Vec<Chart> {
    let [_, pending, _] = BACKLOGS;
    let filling = Filling { settled: ground.scale.of(KEYS), pending: ground.scale.of(pending) };
    let empty = ground.path("empty");
    let dirs = [empty, ground.stock.copy(filling), ground.stock.copy(filling)];
    let [empty, stopped, killed] = &dirs;
    let loader = ground.loader(DETAILS_BYTES);
    let mut took_ms = [Vec::new(), Vec::new(), Vec::new()];
    // The first start makes the files.
    ground.start(Kind::Durable, empty).stop();
    ground.begin();
    let mut order = [(0, empty), (1, stopped), (2, killed)];
    for _ in 0..ground.scale.rounds {
        for (at, dir) in order {
            match at {
                0 => {}
                1 => stop_after_load(ground, dir, &loader),
                _ => kill_under_load(ground, dir, &loader),
            }
            let (started, took) = Contestant::start_and_wait((&ground.config(), dir), ground.cores);
            took_ms[at].push(took.as_secs_f64() * 1e3);
            started.stop();
        }
        order.rotate_left(1);
    }
    ground.prepare();
    for dir in &dirs {
        std::fs::remove_dir_all(dir).expect("removed");
    }
    let medians = took_ms.map(median);
    let [least, stopped, killed] = medians;
    let row = |(label, ms): (&str, f64)| Row {
        label: label.to_owned(),
        height: ms,
        words: vec![format!("{ms:.0} ms")],
        figures: json!({ "ready_after_ms": rounded(ms, 1) }),
    };
    let labels = ["empty", "full, stopped", "full, killed under load"];
    let (keys, pending) = (amount(filling.settled), amount(filling.pending));
    vec![Chart {
        name: "starts",
        title: format!("From start to ready; full: {keys} prior keys and {pending} records undelivered"),
        ratios: vec![
            ("ready_ms_empty".to_owned(), least),
            ("ready_ms_full".to_owned(), stopped),
            ("ready_ms_after_kill".to_owned(), killed),
            ("ready_full_over_empty".to_owned(), stopped / least),
            ("ready_after_kill_over_full".to_owned(), killed / stopped),
        ],
        shape: Shape::Bars(labels.into_iter().zip(medians).map(row).collect()),
    }]
}

fn stop_after_load(ground: &Ground, data_dir: &Path, loader: &Loader) {
    let loaded = ground.start(Kind::Durable, data_dir);
    loader.closed(&loaded, CONNECTIONS, LOADED);
    loaded.stop();
}

fn kill_under_load(ground: &Ground, data_dir: &Path, loader: &Loader) {
    let victim = ground.start(Kind::Durable, data_dir);
    loader.until_killed(&victim, CONNECTIONS, LOADED);
}
