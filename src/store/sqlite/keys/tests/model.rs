//! Random additions, merges, starts and crashes, held to a table in memory.

use std::collections::HashMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// What happens to an index.
#[derive(Debug, Clone)]
enum Event {
    /// Records with these keys are frozen, so many seconds later.
    Freeze(Vec<u8>, i64),
    /// The merge thread does all that there is to do.
    Carry,
    /// It does, and a crash brings back what it had removed.
    CarryAndCrash,
    /// The process ends and starts again: what was frozen only is read from the records.
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let freeze =
        (prop::collection::vec(0..60_u8, 1..9), 0..30_i64).prop_map(|(keys, later)| Event::Freeze(keys, later));
    let event = prop_oneof![
        8 => freeze,
        5 => Just(Event::Carry),
        1 => Just(Event::CarryAndCrash),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 1..120)
}

/// Entries count so many seconds.
const WINDOW: Duration = Duration::from_secs(100);

struct Index {
    dir: tempfile::TempDir,
    carrier: Carrier,
    _arrivals: Sender<Arc<Frozen>>,
    /// What the writer would still have in memory.
    frozen: VecDeque<Arc<Frozen>>,
    newest: i64,
    now: i64,
    model: HashMap<DuplicateKey, Seen>,
}

impl Index {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (carrier, arrivals) = carrier(dir.path(), 4, WINDOW);
        Self { dir, carrier, _arrivals: arrivals, frozen: VecDeque::new(), newest: 0, now: 0, model: HashMap::new() }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Freeze(keys, later) => self.freeze(keys, *later),
            Event::Carry => self.carrier.carry().unwrap(),
            Event::CarryAndCrash => {
                let before = self.files();
                self.carrier.carry().unwrap();
                for (path, content) in before {
                    if !path.exists() {
                        fs::write(path, content).unwrap();
                    }
                }
                self.restart();
            }
            Event::Restart => self.restart(),
        }
    }

    fn freeze(&mut self, keys: &[u8], later: i64) {
        // A day is the slack of a merge.
        self.now += later * 2_000;
        let mut map = KeyMap::default();
        let from = self.newest + 1;
        for key in keys {
            self.newest += 1;
            let seen = Seen { seq: self.newest, accepted_at_seconds: self.now };
            map.insert(key_of(u64::from(*key)), seen);
            self.model.insert(key_of(u64::from(*key)), seen);
        }
        let frozen = Arc::new(Frozen { from, to: self.newest, keys: map });
        self.frozen.push_back(Arc::clone(&frozen));
        self.carrier.waiting.push_back(frozen);
    }

    fn restart(&mut self) {
        let waiting = std::mem::take(&mut self.carrier.waiting);
        (self.carrier, self._arrivals) = carrier(self.dir.path(), 4, WINDOW);
        let merged_to = self.carrier.runs.now().merged_to();
        let tail = waiting.iter().filter(|frozen| frozen.to > merged_to).cloned();
        self.carrier.waiting = tail.collect();
        assert_eq!(self.carrier.waiting.front().map_or(self.newest, |frozen| frozen.from - 1), merged_to);
    }

    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(self.dir.path().join(KEYS)).unwrap().map(|file| file.unwrap().path());
        files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    fn check(&mut self) {
        let set = self.carrier.runs.now();
        while self.frozen.front().is_some_and(|frozen| frozen.to <= set.merged_to()) {
            self.frozen.pop_front();
        }
        let active = KeyMap::default();
        let lookup = Lookup { active: &active, frozen: &self.frozen, runs: set };
        let counts = Timestamp::from_millis(self.now * 1_000);
        for key in (0..60).map(key_of) {
            let (found, expected) = (lookup.find(&key).unwrap(), self.model.get(&key).copied());
            match expected {
                Some(seen) if seen.counts(counts, WINDOW) => assert_eq!(found, expected),
                // One that is too old may be there or not, or an older one with the same key.
                Some(seen) => assert!(found.is_none_or(|found| found.seq <= seen.seq)),
                None => assert_eq!(found, None),
            }
        }
        let mut next = lookup.runs.merged_to();
        for run in lookup.runs.newest_first() {
            assert_eq!(run.header.to, next, "without a gap");
            next = run.header.from - 1;
        }
        assert_eq!(next, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_record_is_found_whatever_happened(events in events()) {
        let mut index = Index::new();
        for event in &events {
            index.happen(event);
            index.check();
        }
    }
}

#[test]
fn old_entries_leave_and_their_range_stays_covered() {
    let mut index = Index::new();
    for round in 0..200_u8 {
        index.freeze(&[4 * (round % 10), 1 + 4 * (round % 10), 2 + 4 * (round % 10), 3 + 4 * (round % 10)], 1);
        index.carrier.carry().unwrap();
        index.check();
    }
    let set = index.carrier.runs.now();
    assert_eq!(set.merged_to(), 800);
    // A day and 100 seconds, at 2,000 seconds for four keys: 176 count, and the oldest run that has one of these.
    assert!((176..600).contains(&set.entries()), "{} entries", set.entries());
    assert_eq!(index.files().len(), set.newest_first().len(), "what was merged is gone");
    drop(set);
    index.freeze(&[50], 1_000_000);
    index.carrier.carry().unwrap();
    index.check();
    let set = index.carrier.runs.now();
    assert_eq!((set.merged_to(), set.entries(), set.newest_first().len()), (801, 1, 2));
}
