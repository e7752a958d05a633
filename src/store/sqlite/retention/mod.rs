//! The thread that does what time brings about: it closes what has waited, gives up what has become too old, lets
//! details go, and deletes.
//!
//! It looks for what is due on a connection of its own and asks the writer in slices, as everybody else asks: one slice
//! at a time, so that a commit never carries more than one, and with a rest behind each while records wait for the
//! disk. Nothing that is pending or waiting is ever deleted here; what a round misses, because a clock was changed or
//! the store was full, a later one finds.

mod moment;
mod patrol;
mod room;
mod round;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub(super) use self::moment::{Clock, Moment};
use self::patrol::{Ages, Patrol};
use self::room::Room;
use super::board::BreakOnPanic;
use super::command::{Command, Job};
use super::reader::Reader;
use super::sweep::{Shelf, Slice};
use crate::config::settings::RetentionSettings;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
pub(crate) use crate::store::observer::Swept;

/// How often it looks for what is to be closed, and whether the disk is full.
const TICK: Duration = Duration::from_secs(1);
/// How often it goes looking for what is old.
const ROUND: Duration = Duration::from_secs(60);
/// The longest rest behind a slice while records wait for the disk.
const LONGEST_REST: Duration = Duration::from_millis(50);
/// The rest between two looks meanwhile.
const SHORTEST_REST: Duration = Duration::from_millis(2);

/// When the thread works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// When it is time.
    ByClock,
    /// When a test says so.
    #[cfg(test)]
    ByHand,
}

/// What the thread is told.
pub(super) enum Call {
    /// To end.
    Stop,
    /// To do all that is due at this moment.
    #[cfg(test)]
    Sweep(Moment, tokio::sync::oneshot::Sender<Swept>),
}

/// The running thread.
pub(super) struct Retention {
    calls: Sender<Call>,
    thread: JoinHandle<()>,
}

impl Retention {
    /// Starts the thread.
    pub(super) fn start(keeper: impl FnOnce(Receiver<Call>) -> Keeper) -> std::io::Result<Self> {
        let (calls, called) = channel();
        let keeper = keeper(called);
        let builder = std::thread::Builder::new().name("store-retention".to_owned());
        Ok(Self { calls, thread: builder.spawn(move || keeper.run())? })
    }

    /// Where tests say what time it is.
    #[cfg(test)]
    pub(super) fn calls(&self) -> Sender<Call> {
        self.calls.clone()
    }

    /// Stops the thread, after the slice that it may wait for.
    pub(super) fn stop(self) {
        // It fails only if the thread is gone already.
        let _gone = self.calls.send(Call::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the retention thread panicked");
        }
    }
}

/// What the thread owns.
pub(super) struct Keeper {
    reader: Reader,
    /// Weak: a store that is dropped ends although this thread is there.
    writer: mpsc::WeakSender<Command>,
    calls: Receiver<Call>,
    pace: Pace,
    accepted: Option<Duration>,
    room: Option<Room>,
    patrols: Vec<Patrol>,
    /// Where the round is: which lane is looked at for what is to be given up, then which patrol goes its way.
    lane: usize,
    patrol: usize,
    swept: Swept,
}

/// How far the work has come.
struct Progress {
    /// There is more to do at once.
    more: bool,
    /// A round has come to its end.
    round_over: bool,
}

/// Why the work stops for now.
enum Halt {
    /// The store is closing.
    Stop,
    /// The writer refused a slice.
    Refused(StoreError),
    /// Something could not be read.
    Unread(rusqlite::Error),
}

impl From<rusqlite::Error> for Halt {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unread(error)
    }
}

/// What the thread works with.
pub(super) struct Tools {
    /// Its own connection.
    pub(super) reader: Reader,
    /// The writer's ear.
    pub(super) writer: mpsc::WeakSender<Command>,
    /// When it works.
    pub(super) pace: Pace,
}

impl Keeper {
    /// Goes by these settings.
    pub(super) fn new(
        tools: Tools,
        rules: &RetentionSettings,
        duplicate_window: Duration,
        calls: Receiver<Call>,
    ) -> Self {
        let Tools { reader, writer, pace } = tools;
        let delivered = Ages {
            delete: rules.delivered,
            trim: Some(rules.delivered_details).filter(|age| *age < rules.delivered),
            duplicate_window,
        };
        let dead = Ages { delete: rules.dead_letters, trim: None, duplicate_window };
        Self {
            reader,
            writer,
            calls,
            pace,
            accepted: rules.accepted,
            room: rules.trim_when_full.then(Room::default),
            patrols: vec![
                Patrol::new(Shelf::Delivered, delivered),
                Patrol::new(Shelf::DeadLetters, dead),
                Patrol::new(Shelf::Discarded, dead),
            ],
            lane: 0,
            patrol: 0,
            swept: Swept::default(),
        }
    }

    fn run(mut self) {
        let _guard = BreakOnPanic(Arc::clone(&self.reader.board), "retention");
        match self.pace {
            Pace::ByClock => self.by_clock(),
            #[cfg(test)]
            Pace::ByHand => self.by_hand(),
        }
    }

    fn by_clock(&mut self) {
        let clock = Clock::start();
        let mut next_round = Instant::now();
        let mut pause = Duration::ZERO;
        loop {
            match self.calls.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.reader.board.is_broken() {
                pause = TICK;
                continue;
            }
            // A round before it is known what is wanted would find nothing, and the next one is a while off.
            let round_due = next_round <= Instant::now() && self.reader.board.wanted().is_known();
            let progress = match self.work(clock.now(), round_due) {
                Ok(progress) => progress,
                Err(Halt::Stop) => return,
                Err(halt) => {
                    report(&halt);
                    Progress { more: false, round_over: true }
                }
            };
            pause = match progress.more {
                true if self.reader.board.is_busy() => SHORTEST_REST,
                true => Duration::ZERO,
                false => TICK,
            };
            if progress.round_over {
                next_round = Instant::now() + ROUND;
                self.report_round();
            }
        }
    }

    /// What is urgent, and a piece of the round if one is due.
    fn work(&mut self, now: Moment, round_due: bool) -> Result<Progress, Halt> {
        self.close_waiting(now.wall)?;
        let more_room = self.make_room()?;
        let round_over = round_due && self.piece_of_round(now.steady)?;
        Ok(Progress { more: more_room || (round_due && !round_over), round_over })
    }

    fn report_round(&mut self) {
        let swept = std::mem::take(&mut self.swept);
        if let Some(observer) = self.reader.board.observer() {
            observer.retention_round_ended(&swept);
        }
        swept.log();
    }

    /// Closes everything that has waited until now.
    fn close_waiting(&mut self, now: Timestamp) -> Result<(), Halt> {
        loop {
            let first: Option<i64> = self
                .reader
                .conn
                .prepare_cached("select min(closes_at) from waiting")?
                .query_row([], |row| row.get(0))?;
            if first.is_none_or(|first| first > now.millis()) {
                return Ok(());
            }
            self.swept.closed += self.write(Slice::Close { now })?;
        }
    }

    /// Has the writer do a slice, and lets it rest afterwards if there is a crowd.
    fn write(&self, slice: Slice) -> Result<u64, Halt> {
        let began = Instant::now();
        let writer = self.writer.upgrade().ok_or(Halt::Stop)?;
        let (job, answer) = Job::new(slice);
        writer.blocking_send(Command::Sweep(job)).map_err(|_closed| Halt::Stop)?;
        drop(writer);
        let count = answer.blocking_recv().map_err(|_gone| Halt::Stop)?.map_err(Halt::Refused)?;
        if self.pace == Pace::ByClock && self.reader.board.is_busy() {
            match self.calls.recv_timeout((began.elapsed() * 4).min(LONGEST_REST)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return Err(Halt::Stop),
            }
        }
        Ok(count)
    }
}

fn report(halt: &Halt) {
    match halt {
        // What broke or closes the store was told by then.
        Halt::Stop | Halt::Refused(StoreError::Broken { .. } | StoreError::Unavailable) => {}
        Halt::Refused(error) => tracing::warn!(%error, "retention could not go on; it will try again"),
        Halt::Unread(error) => tracing::warn!(%error, "retention could not read the store; it will try again"),
    }
}

#[cfg(test)]
impl Keeper {
    /// Does all that is due, whenever a test says what time it is.
    fn by_hand(&mut self) {
        while let Ok(Call::Sweep(now, reply)) = self.calls.recv() {
            match self.everything(now) {
                Ok(()) => {}
                Err(Halt::Stop) => return,
                Err(Halt::Refused(error)) => panic!("{error}"),
                Err(Halt::Unread(error)) => panic!("{error}"),
            }
            let _gone = reply.send(std::mem::take(&mut self.swept));
        }
    }

    fn everything(&mut self, now: Moment) -> Result<(), Halt> {
        self.close_waiting(now.wall)?;
        while self.make_room()? {}
        while !self.piece_of_round(now.steady)? {}
        Ok(())
    }
}
