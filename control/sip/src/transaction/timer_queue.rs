//! One queue for every timer of a stack.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::id_map::IdMap;

/// Runs at once. Timers are started for a few times only, so that they come in order of time in as many runs.
const RUN_COUNT_MAX: usize = 16;
/// Stopped timers that may wait in runs besides as many as there are running ones.
const STOPPED_SPARE: usize = 64;

/// Room for so many timers is kept in a run that has grown short.
const ROOM_KEPT: usize = 1_024;

/// What a timer is known by.
pub trait TimerKey: Copy + Ord {
    /// The number of whose timer it is.
    fn owner(&self) -> u64;
}

/// Deadlines by key.
///
/// Timers are many, most of them are for the same few times from when they are started, and most are stopped. So they stand
/// in queues, each in the order of time: a new one goes behind the last of a queue. A stopped one is passed over when it
/// comes to the front.
#[derive(Debug, Clone)]
pub struct TimerQueue<K> {
    runs: Vec<Run<K>>,
    /// Those that would follow the last of no run.
    rest: BTreeSet<(Instant, K)>,
    /// Those that run, by owner.
    running: IdMap<Vec<(K, Instant)>>,
    count: usize,
    /// How many of those in runs do not run any more.
    stopped: usize,
}

/// Timers in the order of time and keys. The first of them runs.
#[derive(Debug, Clone)]
struct Run<K> {
    queue: VecDeque<(Instant, K)>,
    /// Of the first and the last in the queue, at hand for who goes through all runs.
    first: Option<Instant>,
    last: Option<Instant>,
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            rest: BTreeSet::new(),
            running: IdMap::default(),
            count: 0,
            stopped: 0,
        }
    }
}

impl<K: TimerKey> TimerQueue<K> {
    /// Starts a timer, or moves one that runs.
    pub fn start(&mut self, key: K, due: Instant) {
        let timers = self.running.entry(key.owner()).or_default();
        let moved = match timers.iter_mut().find(|(running, _)| *running == key) {
            Some((_, old)) if *old == due => return,
            Some((_, old)) => Some(std::mem::replace(old, due)),
            None => {
                timers.push((key, due));
                self.count += 1;
                None
            }
        };
        self.insert(key, due);
        if let Some(old) = moved {
            self.discard(key, old);
        }
    }

    /// Stops a timer; true when it ran.
    pub fn stop(&mut self, key: K) -> bool {
        let due = self.take(key);
        if let Some(due) = due {
            self.discard(key, due);
        }
        due.is_some()
    }

    /// Stops every timer of an owner.
    pub fn stop_all(&mut self, owner: u64) {
        while let Some(&(key, _)) = self.running.get(&owner).and_then(|timers| timers.last()) {
            self.stop(key);
        }
    }

    /// When a timer fires, if it runs.
    pub fn due(&self, key: K) -> Option<Instant> {
        let timers = self.running.get(&key.owner())?;
        timers
            .iter()
            .find(|(running, _)| *running == key)
            .map(|(_, due)| *due)
    }

    /// The earliest deadline.
    pub fn next_due(&self) -> Option<Instant> {
        let firsts = self.runs.iter().filter_map(|run| run.first);
        firsts.chain(self.rest.first().map(|(due, _)| *due)).min()
    }

    /// Takes the earliest timer that is due. Equal deadlines come in the order of their keys.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let runs = self.runs.iter().filter(|run| run.first == Some(due));
        let firsts = runs.filter_map(|run| run.queue.front());
        let (_, key) = *firsts.chain(self.rest.first()).min()?;
        self.take(key);
        self.discard(key, due);
        Some(key)
    }

    /// Timers that run.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when none runs.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// It does not run any more.
    fn take(&mut self, key: K) -> Option<Instant> {
        let timers = self.running.get_mut(&key.owner())?;
        let at = timers.iter().position(|(running, _)| *running == key)?;
        let (_, due) = timers.swap_remove(at);
        if timers.is_empty() {
            self.running.remove(&key.owner());
        }
        self.count -= 1;
        Some(due)
    }

    /// Behind the last that comes closest before it.
    fn insert(&mut self, key: K, due: Instant) {
        let fits = |run: &Run<K>| match run.last {
            Some(last) if last == due => run.queue.back().is_some_and(|(_, last)| *last <= key),
            last => last < Some(due),
        };
        let runs = self.runs.iter().enumerate().filter(|(_, run)| fits(run));
        let closest = runs.max_by_key(|(_, run)| run.last).map(|(at, _)| at);
        match closest {
            Some(at) => self.runs[at].push(key, due),
            None if self.runs.len() < RUN_COUNT_MAX => self.runs.push(Run::of(VecDeque::from([(due, key)]))),
            None => drop(self.rest.insert((due, key))),
        }
    }

    /// Where it stands nothing runs any more.
    fn discard(&mut self, key: K, due: Instant) {
        if !self.rest.remove(&(due, key)) {
            self.stopped += 1;
        }
        // Stopped and started again for the same moment, it stands in more than one place.
        for at in 0..self.runs.len() {
            if self.runs[at].first == Some(due) && self.runs[at].queue.front() == Some(&(due, key)) {
                self.pass_over(at);
            }
        }
        if self.stopped > self.count + STOPPED_SPARE {
            self.sweep();
        }
    }

    /// What does not run goes from the front of a run.
    fn pass_over(&mut self, at: usize) {
        let mut queue = std::mem::take(&mut self.runs[at].queue);
        while let Some((due, key)) = queue.front().copied()
            && self.due(key) != Some(due)
        {
            queue.pop_front();
            self.stopped -= 1;
        }
        give_back(&mut queue);
        self.runs[at] = Run::of(queue);
    }

    /// What does not run goes from everywhere.
    fn sweep(&mut self) {
        let mut kept = self.rest.len();
        for run in std::mem::take(&mut self.runs) {
            let mut queue = run.queue;
            queue.retain(|(due, key)| self.due(*key) == Some(*due));
            give_back(&mut queue);
            kept += queue.len();
            self.runs.push(Run::of(queue));
        }
        self.stopped = kept - self.count;
    }
}

/// Room of a busier hour goes: which run is long changes, and each would keep what its longest hour took.
fn give_back<K>(queue: &mut VecDeque<(Instant, K)>) {
    let room = queue.capacity();
    if room > ROOM_KEPT && queue.len() < room / 4 {
        queue.shrink_to((room / 2).max(ROOM_KEPT));
    }
}

impl<K> Run<K> {
    fn of(queue: VecDeque<(Instant, K)>) -> Self {
        Self {
            first: queue.front().map(|(due, _)| *due),
            last: queue.back().map(|(due, _)| *due),
            queue,
        }
    }

    fn push(&mut self, key: K, due: Instant) {
        self.queue.push_back((due, key));
        self.first.get_or_insert(due);
        self.last = Some(due);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a starting point for virtual time")]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    impl TimerKey for (u64, u8) {
        fn owner(&self) -> u64 {
            self.0
        }
    }

    /// A thousand steps of what a stack does, and of what it does not, beside a table that is searched through.
    #[test]
    fn it_does_what_a_plain_table_does() {
        for seed in 1..40_u64 {
            let mut random = seed;
            let mut up_to = |bound: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % bound
            };
            let (mut queue, mut table) = (TimerQueue::default(), BTreeMap::new());
            let mut now = Instant::now();
            // Few moments and few keys, so that the same come again; or many, for which there are not runs enough.
            let (moments, owners) = if seed % 2 == 0 { (4, 3) } else { (5_000, 300) };
            for _ in 0..1_000 {
                let key = (up_to(owners), up_to(3) as u8);
                match up_to(8) {
                    0..4 => {
                        let due = now + Duration::from_millis(up_to(moments));
                        queue.start(key, due);
                        table.insert(key, due);
                    }
                    4 => assert_eq!(queue.stop(key), table.remove(&key).is_some()),
                    5 => {
                        queue.stop_all(key.0);
                        table.retain(|(owner, _), _| *owner != key.0);
                    }
                    _ => now += Duration::from_millis(up_to(moments / 2)),
                }
                let in_order = |table: &BTreeMap<_, _>| table.iter().map(|(key, due)| (*due, *key)).min();
                while let Some((due, key)) = in_order(&table).filter(|(due, _)| *due <= now) {
                    assert_eq!((queue.next_due(), queue.pop_due(now)), (Some(due), Some(key)));
                    table.remove(&key);
                }
                assert_eq!(queue.pop_due(now), None);
                assert_eq!(queue.next_due(), in_order(&table).map(|(due, _)| due));
                assert_eq!(queue.due(key), table.get(&key).copied());
                assert_eq!(queue.len(), table.len());
            }
            let kept: usize = queue.runs.iter().map(|run| run.queue.len()).sum();
            assert!(
                kept <= 2 * queue.len() + STOPPED_SPARE + 1,
                "{kept} for {}",
                queue.len()
            );
        }
    }

    /// Timers of one hour stand in one run, those of the next in another.
    #[test]
    fn a_busy_hour_leaves_no_room_taken() {
        let start = Instant::now();
        let mut queue = TimerQueue::default();
        let room =
            |queue: &TimerQueue<(u64, u8)>| queue.runs.iter().map(|run| run.queue.capacity()).sum::<usize>();
        for owner in 0..100_000 {
            queue.start((owner, 0), start + Duration::from_millis(owner));
        }
        assert!(room(&queue) >= 100_000, "{}", room(&queue));
        let mut now = start;
        while queue.len() > 10 {
            now += Duration::from_millis(1);
            queue.pop_due(now);
        }
        assert!(room(&queue) <= RUN_COUNT_MAX * ROOM_KEPT, "{}", room(&queue));
        assert_eq!(queue.next_due(), Some(start + Duration::from_millis(99_990)));
    }
}
