//! Connections: what is left of the door's speed when every record is safe, from one connection to a thousand.

use serde_json::json;

use super::chart::{Chart, Row, Shape};
use super::ground::Ground;
use super::rig::contestant::{Contestant, Kind};
use super::rig::figures::rounded;
use super::rig::records::DETAILS_BYTES;
use super::turns::in_turns;

const CONNECTIONS: [usize; 5] = [1, 16, 64, 256, 1_000];

/// Durable ÷ ceiling by connections.
pub(crate) fn measure(ground: &mut Ground) -> Vec<Chart> {
    let dirs = [Kind::Durable, Kind::Ceiling].map(|kind| (kind, ground.path(kind.name())));
    let gateways = dirs.clone().map(|(kind, dir)| ground.start(kind, &dir));
    let loader = ground.loader(DETAILS_BYTES);
    let everybody: Vec<_> = CONNECTIONS.iter().flat_map(|many| gateways.iter().map(|it| (it, *many))).collect();
    ground.begin();
    let turns = in_turns(ground.scale, &everybody, |(it, many)| loader.closed(it, *many, ground.scale.turn));
    ground.prepare();
    let mut chart = Chart {
        name: "connections",
        title: "Accepts a second, durable ÷ ceiling, by connections".to_owned(),
        ratios: Vec::new(),
        shape: Shape::Bars(Vec::new()),
    };
    let mut rows = Vec::new();
    for (at, many) in CONNECTIONS.iter().enumerate() {
        let (durable, ceiling) = (2 * at, 2 * at + 1);
        let ratio = turns.rate_ratio(durable, ceiling);
        chart.ratios.push((format!("durable_over_ceiling_{many}_connections"), ratio));
        rows.push(Row {
            label: many.to_string(),
            height: ratio,
            words: vec![
                format!("{ratio:.2}"),
                format!("{:.1} k/s", turns.median(durable, |it| it.seen.rate()) / 1e3),
                format!("p99 {:.1} ms", turns.median(durable, |it| it.seen.p99_us / 1e3)),
            ],
            figures: json!({
                "durable_over_ceiling": rounded(ratio, 3),
                "durable": turns.figures(durable),
                "ceiling": turns.figures(ceiling),
            }),
        });
    }
    chart.shape = Shape::Bars(rows);
    gateways.into_iter().for_each(Contestant::stop);
    for (_, dir) in dirs {
        std::fs::remove_dir_all(dir).expect("removed");
    }
    vec![chart]
}
