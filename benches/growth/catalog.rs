//! Catalog: accepts for the same ten entity configurations with ten, a thousand and a hundred thousand configured.
//! `benches/catalog.rs` goes further: posts to all of them, and changes of the whole catalog under load.

use serde_json::json;

use super::chart::{Chart, Row, Shape, amount};
use super::ground::Ground;
use super::rig::figures::{median, ratio, rounded};
use super::support::{Gateway, round_of};

/// Organizations, and entity configurations in each, on the full scale.
const CATALOGS: [(u32, u32); 3] = [(1, 10), (10, 100), (1_000, 100)];
/// On the small one.
const SMALL_CATALOGS: [(u32, u32); 3] = [(1, 10), (1, 100), (100, 100)];
/// Posts go to the first organization's first ten.
const SPREAD: (u32, u32) = (1, 10);

/// Accepts a second by what is configured beside.
pub(crate) fn measure(ground: &mut Ground) -> Vec<Chart> {
    ground.prepare();
    let catalogs = if ground.scale.quick { SMALL_CATALOGS } else { CATALOGS };
    let gateways = catalogs.map(|(organizations, entities)| Gateway::start(organizations, entities));
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    let mut order = [0, 1, 2];
    for number in 0..=ground.scale.rounds {
        for at in order {
            let (rate, _longest) = round_of(ground.scale.turn, &gateways[at], SPREAD);
            // The first round is a warm-up.
            if number > 0 {
                rates[at].push(rate);
            }
        }
        order.rotate_left(1);
    }
    let counts = catalogs.map(|(organizations, entities)| u64::from(organizations * entities));
    let least = counts[0];
    let row = |(count, of): (&u64, &Vec<f64>)| {
        let (part, rate) = (ratio(of, &rates[0]), median(of.iter().copied()));
        Row {
            label: amount(*count),
            height: part,
            words: vec![format!("{part:.2}"), format!("{:.1} k/s", rate / 1e3)],
            figures: json!({ "per_second": rate.round(), format!("over_{least}"): rounded(part, 3) }),
        }
    };
    let both = || counts.iter().zip(&rates);
    vec![Chart {
        name: "catalog",
        title: "Accepts a second by entity configurations, as part of those with ten".to_owned(),
        ratios: both().skip(1).map(|(n, of)| (format!("catalog_{n}_over_{least}"), ratio(of, &rates[0]))).collect(),
        shape: Shape::Bars(both().map(row).collect()),
    }]
}
