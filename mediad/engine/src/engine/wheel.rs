//! Timers of endpoints and sessions: a wheel of 10 ms slots with intrusive lists, so that arming, disarming and
//! finding the next one are O(1) and never allocate once a timer has its node.

use std::time::{Duration, Instant};

/// Length of a slot.
const SLOT_MS: u64 = 10;
const SLOT: Duration = Duration::from_millis(SLOT_MS);
/// Slots of the wheel; a power of two.
const SLOTS: u64 = 1024;
/// Deadlines further away are looked at again after this many slots.
const HORIZON: u64 = SLOTS - 8;
/// Deadlines nobody can hear are rounded up to this many slots, so that wake-ups coalesce.
const COARSE_SLOTS: u64 = 5;
/// List of nodes taken from their slot and not yet handed out.
const PENDING: u32 = SLOTS as u32;
const NONE: u32 = u32::MAX;

/// Why the engine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// An RTCP report is due.
    Rtcp,
    /// An endpoint may have gone silent.
    Media,
    /// A digit is being sent, or one being received may have ended.
    Digit,
    /// An orphaned session may be silent.
    Session,
    /// A session that decodes is to send its next frame.
    Tick,
}

impl Wake {
    /// Every reason, in order.
    pub const ALL: [Self; 5] = [Self::Rtcp, Self::Media, Self::Digit, Self::Session, Self::Tick];

    /// Label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rtcp => "rtcp",
            Self::Media => "media",
            Self::Digit => "digit",
            Self::Session => "session",
            Self::Tick => "tick",
        }
    }

    const fn is_coarse(self) -> bool {
        match self {
            Self::Rtcp | Self::Media | Self::Session => true,
            Self::Digit | Self::Tick => false,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Node {
    due: u64,
    prev: u32,
    next: u32,
    /// Which list it is in; `NONE` when unarmed.
    list: u32,
    wake: Wake,
}

const UNARMED: Node = Node {
    due: 0,
    prev: NONE,
    next: NONE,
    list: NONE,
    wake: Wake::Rtcp,
};

/// See the module. Timers are numbered by their owner; each number is armed at most once.
#[derive(Debug)]
pub(crate) struct Wheel {
    origin: Option<Instant>,
    /// First slot not yet looked at.
    cursor: u64,
    heads: Box<[u32]>,
    occupied: [u64; (SLOTS / 64) as usize],
    nodes: Vec<Node>,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self {
            origin: None,
            cursor: 0,
            heads: vec![NONE; SLOTS as usize + 1].into_boxed_slice(),
            occupied: [0; (SLOTS / 64) as usize],
            nodes: Vec::new(),
        }
    }

    /// Makes room for timer `id`. The only call that may allocate.
    pub(crate) fn reserve(&mut self, id: u32) {
        if self.nodes.len() <= id as usize {
            self.nodes.resize(id as usize + 1, UNARMED);
        }
    }

    /// Arms timer `id`, replacing an earlier deadline. It fires at `at` or up to a slot later.
    pub(crate) fn arm(&mut self, id: u32, at: Instant, now: Instant, wake: Wake) {
        self.disarm(id);
        let due = self.slot_after(at, now);
        let due = if wake.is_coarse() {
            due.next_multiple_of(COARSE_SLOTS)
        } else {
            due
        };
        let Some(node) = self.nodes.get_mut(id as usize) else {
            return;
        };
        node.due = due;
        node.wake = wake;
        self.link(id);
    }

    /// When timer `id` is armed for, rounded as it was.
    pub(crate) fn armed(&self, id: u32) -> Option<Instant> {
        let node = self.nodes.get(id as usize).filter(|node| node.list != NONE)?;
        Some(self.origin? + begin_of(node.due))
    }

    pub(crate) fn disarm(&mut self, id: u32) {
        let Some(&Node { prev, next, list, .. }) = self.nodes.get(id as usize) else {
            return;
        };
        if list == NONE {
            return;
        }
        match prev {
            NONE => self.heads[list as usize] = next,
            prev => self.nodes[prev as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        if list != PENDING && self.heads[list as usize] == NONE {
            self.occupied[list as usize / 64] &= !(1 << (list % 64));
        }
        self.nodes[id as usize].list = NONE;
    }

    /// The next timer whose time has come, unarmed by this.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<u32> {
        let reached = self.slot_reached(now);
        // After a stall longer than the wheel one turn sees every slot.
        self.cursor = self.cursor.max((reached + 1).saturating_sub(SLOTS));
        loop {
            while self.heads[PENDING as usize] != NONE {
                let id = self.heads[PENDING as usize];
                self.disarm(id);
                if self.nodes[id as usize].due <= reached {
                    return Some(id);
                }
                self.link(id);
            }
            if self.cursor > reached {
                return None;
            }
            self.take_slot((self.cursor % SLOTS) as u32);
            self.cursor += 1;
        }
    }

    /// The earliest slot with a timer in it, and the reason of one of them. A timer further away than the wheel
    /// is wide shows up early and is put back.
    pub(crate) fn next_deadline(&self) -> Option<(Instant, Wake)> {
        let origin = self.origin?;
        let start = (self.cursor % SLOTS) as usize;
        let words = self.occupied.len();
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mask = match step {
                0 => u64::MAX << (start % 64),
                step if step == words => !(u64::MAX << (start % 64)),
                _ => u64::MAX,
            };
            let bits = self.occupied[word] & mask;
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let distance = (slot + SLOTS as usize - start) as u64 % SLOTS;
                let wake = self.nodes[self.heads[slot] as usize].wake;
                return Some((origin + begin_of(self.cursor + distance), wake));
            }
        }
        None
    }

    fn take_slot(&mut self, slot: u32) {
        let head = std::mem::replace(&mut self.heads[slot as usize], NONE);
        self.occupied[slot as usize / 64] &= !(1 << (slot % 64));
        self.heads[PENDING as usize] = head;
        let mut id = head;
        while id != NONE {
            self.nodes[id as usize].list = PENDING;
            id = self.nodes[id as usize].next;
        }
    }

    fn link(&mut self, id: u32) {
        let due = self.nodes[id as usize]
            .due
            .max(self.cursor)
            .min(self.cursor + HORIZON);
        let list = (due % SLOTS) as u32;
        let next = self.heads[list as usize];
        if next != NONE {
            self.nodes[next as usize].prev = id;
        }
        let node = &mut self.nodes[id as usize];
        node.prev = NONE;
        node.next = next;
        node.list = list;
        self.heads[list as usize] = id;
        self.occupied[list as usize / 64] |= 1 << (list % 64);
    }

    /// First slot that begins at or after `at`.
    fn slot_after(&mut self, at: Instant, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        let nanos = at.saturating_duration_since(origin).as_nanos();
        u64::try_from(nanos.div_ceil(SLOT.as_nanos())).unwrap_or(u64::MAX >> 1)
    }

    /// Last slot that has begun at `now`.
    fn slot_reached(&mut self, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        let nanos = now.saturating_duration_since(origin).as_nanos();
        u64::try_from(nanos / SLOT.as_nanos()).unwrap_or(u64::MAX >> 1)
    }
}

/// When a slot begins, since the first; 32 bits of slots are 497 days.
fn begin_of(slot: u64) -> Duration {
    Duration::from_millis(slot.saturating_mul(SLOT_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "one base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    #[test]
    fn fires_in_time_and_tells_when_it_will() {
        let start = base();
        let mut wheel = Wheel::new();
        wheel.reserve(1);
        assert_eq!(wheel.next_deadline(), None);
        wheel.arm(0, start + Duration::from_millis(41), start, Wake::Digit);
        wheel.arm(1, start + Duration::from_millis(41), start, Wake::Rtcp);
        assert_eq!(
            wheel.next_deadline().map(|(at, _)| at - start),
            Some(Duration::from_millis(50))
        );
        assert_eq!(wheel.expire(start + Duration::from_millis(49)), None);
        assert!(wheel.expire(start + Duration::from_millis(50)).is_some());
        assert!(wheel.expire(start + Duration::from_millis(50)).is_some());
        assert_eq!(wheel.expire(start + Duration::from_millis(50)), None);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_deadline_beyond_the_wheel_is_not_early() {
        let start = base();
        let mut wheel = Wheel::new();
        wheel.reserve(0);
        wheel.arm(0, start + Duration::from_secs(65), start, Wake::Media);
        let mut turns = 0;
        loop {
            let (at, wake) = wheel.next_deadline().expect("armed");
            assert_eq!(wake, Wake::Media);
            turns += 1;
            if wheel.expire(at) == Some(0) {
                assert_eq!(at - start, Duration::from_secs(65));
                break;
            }
        }
        assert!(turns < 10, "{turns} wake-ups for one deadline");
    }

    #[test]
    fn a_deadline_is_still_to_come_after_years() {
        let start = base();
        let mut wheel = Wheel::new();
        wheel.reserve(0);
        assert_eq!(wheel.expire(start), None);
        let now = start + Duration::from_secs(600 * 86_400);
        assert_eq!(wheel.expire(now), None);
        wheel.arm(0, now + Duration::from_millis(100), now, Wake::Digit);
        let next = wheel.next_deadline().map(|(at, _)| at);
        assert_eq!(next, Some(now + Duration::from_millis(100)));
        assert_eq!(wheel.armed(0), next);
    }

    proptest! {
        #[test]
        fn every_armed_timer_fires_once_never_early(
            delays in proptest::collection::vec(0u64..30_000, 1..40),
            steps in proptest::collection::vec(1u64..20_000, 1..40),
            disarmed in 0usize..40,
        ) {
            let start = base();
            let mut wheel = Wheel::new();
            wheel.reserve(delays.len() as u32);
            for (id, delay) in delays.iter().enumerate() {
                wheel.arm(id as u32, start + Duration::from_millis(*delay), start, Wake::Digit);
            }
            wheel.disarm(disarmed as u32);
            let mut fired = vec![0; delays.len()];
            let mut now = start;
            for step in steps.into_iter().chain([40_000]) {
                now += Duration::from_millis(step);
                while let Some(id) = wheel.expire(now) {
                    prop_assert!(start + Duration::from_millis(delays[id as usize]) <= now);
                    fired[id as usize] += 1;
                }
                if let Some((at, _)) = wheel.next_deadline() {
                    prop_assert!(at > now);
                }
            }
            for (id, count) in fired.into_iter().enumerate() {
                prop_assert_eq!(count, u32::from(id != disarmed));
            }
        }
    }
}
