//! The ring of numbered events, so that a controller can go on where it left off.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use super::recordings::RecordingOutcome;
use crate::{command::EventKind, limits, spec::Name};

/// Something that happened on this host, numbered.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Counts up by one for each event of the host.
    pub sequence: u64,
    /// When.
    pub at: SystemTime,
    /// The session's name.
    pub session: Name,
    /// Node or transport it is about; `None` for the session.
    pub subject: Option<Name>,
    /// What.
    pub kind: Happening,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// A worker's engine saw it.
    Engine(EventKind),
    /// The session is gone.
    SessionEnded(EndReason),
    /// A recording has ended.
    RecordingFinalised(Box<RecordingOutcome>),
    /// The session was adopted.
    OwnerChanged {
        /// Its new owner.
        controller: Name,
        /// And epoch.
        epoch: u64,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its owner said so on its control stream, where the reply tells it.
    Deleted,
    /// Deleted too, but by a tool that speaks in its owner's name, or because the host stops.
    Removed,
    /// Its owner's lease expired and no media arrived.
    Orphaned,
    /// Its owner's lease expired and the hard cap was reached.
    OrphanCap,
}

/// Events since a number, or the reason why they cannot be told.
#[derive(Debug, PartialEq)]
pub enum Events {
    /// Those after the number asked for, oldest first, at most as many as asked for, and the number to ask for next
    /// time (events that are not asked for are skipped but counted).
    After(Vec<Event>, u64),
    /// Some of them are gone: the caller needs a snapshot.
    Lost(String),
}

#[derive(Debug)]
pub(super) struct EventRing {
    keep: Duration,
    next: u64,
    ring: VecDeque<Kept>,
    /// Numbers at or below this one cannot be resumed from: events were lost before they got a number.
    broken_at: u64,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    controller: Name,
    event: Event,
}

impl EventRing {
    pub(super) fn new(keep: Duration) -> Self {
        Self {
            keep,
            next: 1,
            ring: VecDeque::new(),
            broken_at: 0,
        }
    }

    /// Numbers the event and keeps it.
    pub(super) fn push(
        &mut self,
        now: Instant,
        at: SystemTime,
        controller: Name,
        session: Name,
        subject: Option<Name>,
        kind: Happening,
    ) {
        let event = Event {
            sequence: self.next,
            at,
            session,
            subject,
            kind,
        };
        self.next += 1;
        self.forget(now);
        if self.ring.len() == limits::EVENT_RING_MAX {
            self.ring.pop_front();
        }
        self.ring.push_back(Kept {
            at: now,
            controller,
            event,
        });
    }

    /// Events were lost on their way here: nobody can resume across this point.
    pub(super) fn break_here(&mut self) {
        self.next += 1;
        self.ring.clear();
        self.broken_at = self.next - 1;
    }

    pub(super) fn forget(&mut self, now: Instant) {
        while self.ring.front().is_some_and(|kept| kept.at + self.keep < now) {
            self.ring.pop_front();
        }
    }

    /// Number of the next event.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Number of the oldest event kept; equal to [`Self::next`] when none is.
    pub(super) fn oldest(&self) -> u64 {
        self.ring.front().map_or(self.next, |kept| kept.event.sequence)
    }

    /// Events numbered above `after`, of `controller` or of all, that `takes` says yes to.
    pub(super) fn after(
        &self,
        after: u64,
        controller: Option<&str>,
        takes: impl Fn(&Happening) -> bool,
        count_max: usize,
    ) -> Events {
        if after >= self.next {
            return Events::Lost(format!(
                "event {after} has not happened yet; the next is {}",
                self.next
            ));
        }
        if after < self.broken_at {
            return Events::Lost(format!(
                "events before {} were lost under load",
                self.broken_at + 1
            ));
        }
        if after + 1 < self.oldest() {
            return Events::Lost(format!(
                "event {} is no longer kept; the oldest is {}",
                after + 1,
                self.oldest()
            ));
        }
        let skip = (after + 1 - self.oldest().min(after + 1)) as usize;
        let mut told = Vec::new();
        let mut last = after;
        for kept in self.ring.iter().skip(skip) {
            if told.len() == count_max {
                break;
            }
            last = kept.event.sequence;
            if controller.is_none_or(|c| *kept.controller == *c) && takes(&kept.event.kind) {
                told.push(kept.event.clone());
            }
        }
        Events::After(told, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring_with(count: u64, now: Instant) -> EventRing {
        let mut ring = EventRing::new(Duration::from_secs(60));
        for number in 0..count {
            let controller: Name = if number % 2 == 0 {
                "even".into()
            } else {
                "odd".into()
            };
            let kind = Happening::SessionEnded(EndReason::Deleted);
            ring.push(
                now + Duration::from_secs(number),
                SystemTime::UNIX_EPOCH,
                controller,
                "s".into(),
                None,
                kind,
            );
        }
        ring
    }

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from")]
        Instant::now()
    }

    fn numbers(events: Events) -> (Vec<u64>, u64) {
        match events {
            Events::After(events, last) => (events.iter().map(|e| e.sequence).collect(), last),
            Events::Lost(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn resumes_after_a_number() {
        let ring = ring_with(5, start());
        assert_eq!(
            numbers(ring.after(0, None, |_| true, 100)),
            (vec![1, 2, 3, 4, 5], 5)
        );
        assert_eq!(numbers(ring.after(3, None, |_| true, 100)), (vec![4, 5], 5));
        assert_eq!(numbers(ring.after(5, None, |_| true, 100)), (vec![], 5));
        assert_eq!(numbers(ring.after(1, None, |_| true, 2)), (vec![2, 3], 3));
        assert_eq!(
            numbers(ring.after(0, Some("odd"), |_| true, 100)),
            (vec![2, 4], 5)
        );
    }

    #[test]
    fn what_is_too_old_or_not_yet_is_said() {
        let now = start();
        let mut ring = ring_with(5, now);
        ring.forget(now + Duration::from_secs(63));
        assert_eq!(ring.oldest(), 4);
        assert!(matches!(ring.after(2, None, |_| true, 9), Events::Lost(why) if why.contains("oldest is 4")));
        assert_eq!(numbers(ring.after(3, None, |_| true, 9)), (vec![4, 5], 5));
        assert!(
            matches!(ring.after(6, None, |_| true, 9), Events::Lost(why) if why.contains("not happened"))
        );
        ring.forget(now + Duration::from_secs(1_000));
        assert_eq!(numbers(ring.after(5, None, |_| true, 9)), (vec![], 5));
        assert!(matches!(ring.after(4, None, |_| true, 9), Events::Lost(_)));
    }

    #[test]
    fn a_break_forces_a_snapshot() {
        let mut ring = ring_with(3, start());
        ring.break_here();
        assert!(
            matches!(ring.after(3, None, |_| true, 9), Events::Lost(why) if why.contains("lost under load"))
        );
        let last = ring.next() - 1;
        assert_eq!(numbers(ring.after(last, None, |_| true, 9)), (vec![], last));
    }

    #[test]
    fn the_ring_is_bounded() {
        let now = start();
        let mut ring = EventRing::new(Duration::from_secs(60));
        for _ in 0..limits::EVENT_RING_MAX + 10 {
            let kind = Happening::SessionEnded(EndReason::Deleted);
            ring.push(now, SystemTime::UNIX_EPOCH, "c".into(), "s".into(), None, kind);
        }
        assert_eq!(ring.oldest(), 11);
    }
}
