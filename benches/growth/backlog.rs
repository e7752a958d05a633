//! Backlog: what it costs to accept while more and more records wait, and how much memory that takes, always with the same
//! many prior keys.

use serde_json::json;

use super::chart::{Chart, Row, Shape, amount};
use super::ground::Ground;
use super::keys::compare;
use super::stock::Filling;

/// Records that were delivered before, on the full scale.
pub(crate) const KEYS: u64 = 10_000_000;
/// Records that nobody has fetched.
pub(crate) const BACKLOGS: [u64; 3] = [0, 1_000_000, 5_000_000];

/// Accepts a second, and memory, with no, some and many records undelivered.
pub(crate) fn measure(ground: &mut Ground) -> Vec<Chart> {
    let settled = ground.scale.of(KEYS);
    let fillings = BACKLOGS.map(|pending| Filling { settled, pending: ground.scale.of(pending) });
    // All before any: each is made of the one before.
    for filling in &fillings {
        ground.stock.keep(*filling);
    }
    let dirs = fillings.map(|filling| ground.stock.take(filling));
    let counts = fillings.map(|filling| filling.pending);
    let (chart, resident) = compare(ground, &dirs, "backlog", &counts);
    for dir in dirs {
        std::fs::remove_dir_all(dir).expect("removed");
    }
    let keys = amount(settled);
    let title = format!("Accepts a second by records undelivered, as part of those without any; {keys} prior keys");
    vec![Chart { title, ..chart }, memory(&counts, &resident, &keys)]
}

fn memory(counts: &[u64], resident: &[f64], keys: &str) -> Chart {
    let row = |(count, mb): (&u64, &f64)| Row {
        label: amount(*count),
        height: *mb,
        words: vec![format!("{mb:.0} MB")],
        figures: json!({ "rss_mb": mb.round() }),
    };
    let ratios = counts.iter().zip(resident).skip(1).map(|(count, mb)| {
        let least = resident.first().copied().unwrap_or(f64::NAN);
        (format!("memory_{count}_over_0"), mb / least)
    });
    Chart {
        name: "memory",
        title: format!("Memory after the load, 64 connections, by records undelivered; {keys} prior keys"),
        ratios: ratios.collect(),
        shape: Shape::Bars(counts.iter().zip(resident).map(row).collect()),
    }
}
