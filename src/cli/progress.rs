//! How far long work has come: one line at the bottom of a terminal that is written over, and nothing anywhere else.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::app::upkeep::Progress;

/// How often the line changes at most.
const EVERY: Duration = Duration::from_millis(200);

/// The line.
pub(super) struct Line {
    wanted: bool,
    shown: Option<(Instant, &'static str)>,
}

impl Line {
    /// Nothing is shown yet, and never where no person looks.
    pub(super) fn start(for_machines: bool) -> Self {
        Self { wanted: !for_machines && io::stderr().is_terminal(), shown: None }
    }

    /// Shows how far it is.
    pub(super) fn show(&mut self, progress: Progress) {
        let Progress { stage, done, of } = progress;
        let is_fresh = self.shown.is_some_and(|(at, before)| before == stage && at.elapsed() < EVERY);
        if !self.wanted || is_fresh {
            return;
        }
        self.shown = Some((Instant::now(), stage));
        let share = done.saturating_mul(100).checked_div(of).map(|share| format!(": {done} of {of} ({share} %)"));
        self.write(&format!("\r\x1b[K{stage}{}", share.unwrap_or_default()));
    }

    /// Takes the line away.
    pub(super) fn end(&mut self) {
        if self.shown.take().is_some() {
            self.write("\r\x1b[K");
        }
    }

    /// A terminal that went away wants no progress.
    fn write(&mut self, text: &str) {
        let mut out = io::stderr().lock();
        self.wanted &= out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok();
    }
}
