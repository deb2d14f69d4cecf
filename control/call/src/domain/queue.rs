//! One queue: who waits, in which order, and what became of those who waited.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::EntryId;

/// How a queue treats its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// An agent's phone rings this long.
    pub ring_timeout: Duration,
    /// A caller waits this long.
    pub timeout: Duration,
    /// Callers waiting at once.
    pub entries_max: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            ring_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            entries_max: 1_000,
        }
    }
}

/// A queue as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    /// Waiting now, offered ones included.
    pub waiting: usize,
    /// Reached an agent.
    pub answered: u64,
    /// Hung up while waiting.
    pub abandoned: u64,
    /// Waited too long.
    pub overdue: u64,
    /// Were waiting when we ended their calls.
    pub turned_away: u64,
    /// Sum of the waits of those who reached an agent.
    pub waited: Duration,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) config: QueueConfig,
    /// It was taken out: nobody comes any more.
    pub(super) is_retired: bool,
    /// Highest priority first, then in the order they came: ids count up.
    order: BTreeSet<(Reverse<u32>, EntryId)>,
    /// Places last told.
    told: BTreeMap<EntryId, usize>,
    pub(super) answered: u64,
    pub(super) abandoned: u64,
    pub(super) overdue: u64,
    pub(super) turned_away: u64,
    pub(super) waited: Duration,
}

impl Queue {
    pub(super) fn new(config: QueueConfig) -> Self {
        Self {
            config,
            is_retired: false,
            order: BTreeSet::new(),
            told: BTreeMap::new(),
            answered: 0,
            abandoned: 0,
            overdue: 0,
            turned_away: 0,
            waited: Duration::ZERO,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.order.len()
    }

    pub(super) fn join(&mut self, entry: EntryId, priority: u32) {
        self.order.insert((Reverse(priority), entry));
    }

    pub(super) fn part(&mut self, entry: EntryId, priority: u32) {
        self.order.remove(&(Reverse(priority), entry));
        self.told.remove(&entry);
    }

    /// Everybody in the queue, next first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = EntryId> {
        self.order.iter().map(|(_, entry)| *entry)
    }

    /// Calls `tell` for every caller whose place is not the one told before.
    pub(super) fn changed_positions(&mut self, mut tell: impl FnMut(EntryId, usize)) {
        for (at, (_, entry)) in self.order.iter().enumerate() {
            if self.told.insert(*entry, at + 1) != Some(at + 1) {
                tell(*entry, at + 1);
            }
        }
    }

    pub(super) fn view(&self) -> QueueView {
        QueueView {
            waiting: self.order.len(),
            answered: self.answered,
            abandoned: self.abandoned,
            overdue: self.overdue,
            turned_away: self.turned_away,
            waited: self.waited,
        }
    }
}
