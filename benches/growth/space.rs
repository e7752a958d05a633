//! Disk space: how much a data directory takes up while records come, are delivered, are let go, and others come in their
//! place.
//!
//! A configuration keeps what was delivered for a day at least. Here nothing is kept: the store is open in this process,
//! with times of keeping of zero, and retention is left to itself.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::chart::{Chart, Shape, amount};
use super::ground::Ground;
use super::rig::fill::Filler;
use super::rig::machine::disk_bytes;

/// How many records come each time, on the full scale.
const RECORDS: u64 = 1_000_000;
/// How often it is looked.
const EVERY: Duration = Duration::from_millis(250);
/// Once everything was let go and the size has not changed for so long, nothing more is given back.
const STILL: Duration = Duration::from_secs(3);
/// It is not waited for longer than this.
const LONGEST: Duration = Duration::from_secs(600);

/// The size over time.
struct Watch<'a> {
    data_dir: &'a Path,
    began: Instant,
    points: Mutex<Vec<(f64, f64)>>,
    marks: Vec<(f64, &'static str)>,
}

impl Watch<'_> {
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    fn look(&self) -> f64 {
        let mb = disk_bytes(self.data_dir) as f64 / 1e6;
        self.points.lock().expect("no panic").push((self.began.elapsed().as_secs_f64(), mb));
        mb
    }

    /// Does something, and looks meanwhile; the size at its end.
    fn during(&mut self, what: &'static str, act: impl FnOnce() + Send) -> f64 {
        self.marks.push((self.began.elapsed().as_secs_f64(), what));
        std::thread::scope(|scope| {
            let acting = scope.spawn(act);
            while !acting.is_finished() {
                self.look();
                std::thread::park_timeout(EVERY);
            }
            acting.join().expect("done");
        });
        self.look()
    }

    /// Lets everything go, and looks until it is gone and nothing changes any more.
    fn letting_go(&mut self, filler: &Filler) -> f64 {
        let began = Instant::now();
        self.marks.push((self.began.elapsed().as_secs_f64(), "let go"));
        filler.let_go();
        while filler.has_delivered() {
            assert!(began.elapsed() < LONGEST, "retention has not come to its end");
            self.look();
            std::thread::park_timeout(EVERY);
        }
        self.marks.push((self.began.elapsed().as_secs_f64(), "gone"));
        let (mut last, mut since) = (self.look(), Instant::now());
        while since.elapsed() < STILL && began.elapsed() < LONGEST {
            std::thread::park_timeout(EVERY);
            let mb = self.look();
            if (mb - last).abs() > 0.5 {
                (last, since) = (mb, Instant::now());
            }
        }
        last
    }
}

/// The size of a data directory over a fill, a drain, retention and another fill.
pub(crate) fn measure(ground: &mut Ground) -> Vec<Chart> {
    ground.prepare();
    let (data_dir, config) = (ground.path("space"), ground.config());
    let records = ground.scale.of(RECORDS);
    let details = serde_json::json!({ "statecode": 0, "description": "She tried it at the till. ".repeat(37) });
    let details = Value::to_string(&details);
    let filler = Filler::open_keeping_nothing(&config, &data_dir);
    let mut watch =
        Watch { data_dir: &data_dir, began: Instant::now(), points: Mutex::new(Vec::new()), marks: Vec::new() };
    let filled = watch.during("filled", || filler.append(0..records, &details));
    watch.during("delivered", || filler.settle_everything());
    let given_back = watch.letting_go(&filler);
    let refilled = watch.during("filled again", || filler.append(records..2 * records, &details));
    filler.close();
    std::fs::remove_dir_all(&data_dir).expect("removed");
    vec![Chart {
        name: "space",
        title: format!(
            "Disk space over time: {} records of 1 KB come, are delivered, let go; as many come again",
            amount(records)
        ),
        ratios: vec![
            ("space_after_drain_over_full".to_owned(), given_back / filled),
            ("space_filled_again_over_full".to_owned(), refilled / filled),
        ],
        shape: Shape::Line { points: watch.points.into_inner().expect("no panic"), marks: watch.marks },
    }]
}
