//! Sizes of records: what is left of the door's speed when every record is safe, from 0.3 KB of details to 200 KB.

use serde_json::json;

use super::chart::{Chart, Row, Shape};
use super::ground::Ground;
use super::keys::CONNECTIONS;
use super::rig::contestant::{Contestant, Kind};
use super::rig::figures::rounded;
use super::turns::in_turns;

/// Bytes of details, and how they are called.
const SIZES: [(u32, &str); 5] =
    [(307, "0.3 KB"), (1_024, "1 KB"), (5_120, "5 KB"), (30_720, "30 KB"), (204_800, "200 KB")];

/// Durable ÷ ceiling by size.
pub(crate) fn measure(ground: &mut Ground) -> Vec<Chart> {
    let dirs = [Kind::Durable, Kind::Ceiling].map(|kind| (kind, ground.path(kind.name())));
    let gateways = dirs.clone().map(|(kind, dir)| ground.start(kind, &dir));
    let loaders = SIZES.map(|(bytes, _)| ground.loader(usize::try_from(bytes).expect("64 bits")));
    let everybody: Vec<_> = loaders.iter().flat_map(|loader| gateways.iter().map(move |it| (loader, it))).collect();
    ground.begin();
    let turns = in_turns(ground.scale, &everybody, |(loader, it)| loader.closed(it, CONNECTIONS, ground.scale.turn));
    ground.prepare();
    let (mut ratios, mut rows) = (Vec::new(), Vec::new());
    for (at, (bytes, label)) in SIZES.into_iter().enumerate() {
        let (durable, ceiling) = (2 * at, 2 * at + 1);
        let ratio = turns.rate_ratio(durable, ceiling);
        let per_second = turns.median(durable, |it| it.seen.rate());
        let mb = per_second * f64::from(bytes) / 1e6;
        ratios.push((format!("durable_over_ceiling_{bytes}_bytes"), ratio));
        rows.push(Row {
            label: label.to_owned(),
            height: ratio,
            words: vec![format!("{ratio:.2}"), format!("{:.1} k/s", per_second / 1e3), format!("{mb:.0} MB/s")],
            figures: json!({
                "details_bytes": bytes,
                "durable_over_ceiling": rounded(ratio, 3),
                "durable_mb_per_second": rounded(mb, 1),
                "durable": turns.figures(durable),
                "ceiling": turns.figures(ceiling),
            }),
        });
    }
    gateways.into_iter().for_each(Contestant::stop);
    for (_, dir) in dirs {
        std::fs::remove_dir_all(dir).expect("removed");
    }
    vec![Chart {
        name: "sizes",
        title: "Accepts a second, durable ÷ ceiling, by size of the details; 64 connections".to_owned(),
        ratios,
        shape: Shape::Bars(rows),
    }]
}
