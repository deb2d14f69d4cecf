//! One queue for every timer of a stack.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Instant;

/// Deadlines by key. A stopped timer leaves nothing behind; every operation is O(log n).
#[derive(Debug, Clone)]
pub struct TimerQueue<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K> Default for TimerQueue<K> {
    fn default() -> Self {
        Self {
            by_time: BTreeSet::new(),
            by_key: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy> TimerQueue<K> {
    /// Starts a timer, or moves one that runs.
    pub fn start(&mut self, key: K, due: Instant) {
        if let Some(old) = self.by_key.insert(key, due) {
            self.by_time.remove(&(old, key));
        }
        self.by_time.insert((due, key));
    }

    /// Stops a timer; true when it ran.
    pub fn stop(&mut self, key: K) -> bool {
        let due = self.by_key.remove(&key);
        due.is_some_and(|due| self.by_time.remove(&(due, key)))
    }

    /// Stops every timer whose key lies in the range.
    pub fn stop_range(&mut self, range: RangeInclusive<K>) {
        while let Some((&key, _)) = self.by_key.range(range.clone()).next() {
            self.stop(key);
        }
    }

    /// When a timer fires, if it runs.
    pub fn due(&self, key: K) -> Option<Instant> {
        self.by_key.get(&key).copied()
    }

    /// The earliest deadline.
    pub fn next_due(&self) -> Option<Instant> {
        self.by_time.first().map(|&(due, _)| due)
    }

    /// Takes the earliest timer that is due. Equal deadlines come in the order of their keys.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let &(due, key) = self.by_time.first()?;
        if due > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_key.remove(&key);
        Some(key)
    }

    /// Timers that run.
    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    /// True when none runs.
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }
}
