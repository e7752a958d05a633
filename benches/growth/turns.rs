//! Everybody in turns, several rounds, and what comes of comparing within rounds.

use serde_json::{Value, json};

use super::ground::Scale;
use super::rig::figures::{median, ratio, rounded};
use super::rig::load::Measured;

/// What everybody's turns came to: by who, then by round.
pub(crate) struct Turns(Vec<Vec<Measured>>);

/// Gives everybody a turn in each round, and before the first one that does not count.
pub(crate) fn in_turns<T>(scale: Scale, everybody: &[T], mut measure: impl FnMut(&T) -> Measured) -> Turns {
    let mut order: Vec<usize> = (0..everybody.len()).collect();
    for at in &order {
        measure(&everybody[*at]);
    }
    let mut turns: Vec<_> = everybody.iter().map(|_| Vec::new()).collect();
    for _ in 0..scale.rounds {
        for at in &order {
            turns[*at].push(measure(&everybody[*at]));
        }
        // Another one begins each round: whoever follows the disk's pause has it easier.
        order.rotate_left(1);
    }
    Turns(turns)
}

impl Turns {
    fn all(&self, of: usize, figure: impl Fn(&Measured) -> f64) -> Vec<f64> {
        self.0[of].iter().map(figure).collect()
    }

    /// The median of a figure.
    pub(crate) fn median(&self, of: usize, figure: impl Fn(&Measured) -> f64) -> f64 {
        median(self.all(of, figure))
    }

    /// Records a second of one by those of another, within rounds.
    pub(crate) fn rate_ratio(&self, of: usize, to: usize) -> f64 {
        let rate = |it: &Measured| it.seen.rate();
        ratio(&self.all(of, rate), &self.all(to, rate))
    }

    /// Everything about one, for a table.
    pub(crate) fn figures(&self, of: usize) -> Value {
        json!({
            "per_second": self.median(of, |it| it.seen.rate()).round(),
            "p50_ms": rounded(self.median(of, |it| it.seen.p50_us / 1e3), 3),
            "p99_ms": rounded(self.median(of, |it| it.seen.p99_us / 1e3), 2),
            "p999_ms": rounded(self.median(of, |it| it.seen.p999_us / 1e3), 2),
            "cpu_us_per_request": rounded(self.median(of, Measured::cpu_us_per_request), 1),
            "bytes_per_record": self.bytes_per_record(of).round(),
        })
    }

    /// Over all rounds: what one leaves to be folded in is paid for in a later one.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn bytes_per_record(&self, of: usize) -> f64 {
        let written: u64 = self.0[of].iter().map(|it| it.used.written_bytes).sum();
        let records: u64 = self.0[of].iter().map(|it| it.seen.requests).sum();
        written as f64 / records as f64
    }
}
