//! Prior keys: what it costs to recognize repeats among more and more records that were delivered long ago.

use serde_json::json;

use super::chart::{Chart, Row, Shape, amount};
use super::ground::Ground;
use super::rig::contestant::{Contestant, Kind};
use super::rig::figures::rounded;
use super::rig::machine;
use super::rig::records::DETAILS_BYTES;
use super::stock::Filling;
use super::turns::{Turns, in_turns};

/// How many, on the full scale.
const KEYS: [u64; 3] = [0, 1_000_000, 10_000_000];
/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 64;

/// Accepts a second with no, some and many prior keys.
pub(crate) fn measure(ground: &mut Ground) -> Vec<Chart> {
    let fillings = KEYS.map(|keys| Filling { settled: ground.scale.of(keys), pending: 0 });
    let [few, some, many] = fillings.map(|filling| ground.stock.copy(filling));
    // Nothing else begins with the smaller ones.
    for filling in &fillings[..2] {
        std::fs::remove_dir_all(ground.stock.take(*filling)).expect("removed");
    }
    let dirs = [few, some, many];
    let (chart, _) = compare(ground, &dirs, "keys", &fillings.map(|filling| filling.settled));
    for dir in dirs {
        std::fs::remove_dir_all(dir).expect("removed");
    }
    vec![Chart { title: "Accepts a second by prior keys, as part of those without any".to_owned(), ..chart }]
}

/// Loads a gateway on each of these data directories in turns. Besides the chart, how many megabytes of memory each has
/// afterwards.
pub(crate) fn compare(
    ground: &Ground,
    data_dirs: &[std::path::PathBuf],
    name: &'static str,
    counts: &[u64],
) -> (Chart, Vec<f64>) {
    let gateways: Vec<_> = data_dirs.iter().map(|dir| ground.start(Kind::Durable, dir)).collect();
    let loader = ground.loader(DETAILS_BYTES);
    ground.begin();
    let turns = in_turns(ground.scale, &gateways, |it| loader.closed(it, CONNECTIONS, ground.scale.turn));
    ground.prepare();
    let resident: Vec<_> = gateways.iter().map(|it| machine::resident_mb(it.pid())).collect();
    gateways.into_iter().for_each(Contestant::stop);
    let numbered = || counts.iter().enumerate();
    let ratios = numbered().skip(1).map(|(at, count)| (format!("{name}_{count}_over_0"), turns.rate_ratio(at, 0)));
    let chart = Chart {
        name,
        title: String::new(),
        ratios: ratios.collect(),
        shape: Shape::Bars(numbered().map(|(at, count)| row(&turns, at, *count, resident[at])).collect()),
    };
    (chart, resident)
}

fn row(turns: &Turns, at: usize, count: u64, resident_mb: f64) -> Row {
    let (ratio, mut figures) = (turns.rate_ratio(at, 0), turns.figures(at));
    figures["over_0"] = json!(rounded(ratio, 3));
    figures["rss_mb"] = json!(resident_mb.round());
    Row {
        label: amount(count),
        height: ratio,
        words: vec![
            format!("{ratio:.2}"),
            format!("{:.1} k/s", turns.median(at, |it| it.seen.rate()) / 1e3),
            format!("p99 {:.1} ms", turns.median(at, |it| it.seen.p99_us / 1e3)),
        ],
        figures,
    }
}
