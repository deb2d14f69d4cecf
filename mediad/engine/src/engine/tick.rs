//! The tick of sessions that decode: every 20 ms, in one of twenty phases, so that their work is spread over the time.

use std::time::{Duration, Instant};

use super::slab::Key;

/// Length of a tick.
pub(crate) const TICK_MS: u32 = 20;
/// One phase begins after another.
const PHASE_MS: u64 = 1;
const PHASE: Duration = Duration::from_millis(PHASE_MS);
const PHASES: u64 = TICK_MS as u64;
/// What is later than this is not made up for: whole ticks are left out.
const CATCH_UP_PHASES: u64 = 3 * PHASES;

/// Sessions by phase. Time is counted in phases since the first moment seen.
#[derive(Debug)]
pub(crate) struct Ticks {
    origin: Option<Instant>,
    /// The phase that is run next, or is being run.
    cursor: u64,
    /// Place in its list.
    at: usize,
    phases: [Vec<Key>; PHASES as usize],
    /// Where the next session goes.
    turn: u64,
}

impl Ticks {
    pub(crate) fn new() -> Self {
        Self {
            origin: None,
            cursor: 0,
            at: 0,
            phases: std::array::from_fn(|_| Vec::new()),
            turn: 0,
        }
    }

    /// A phase for one more session, with room for it. May allocate.
    pub(crate) fn assign(&mut self) -> u8 {
        // Seven has no factor in common with twenty: neighbours are far apart, and every phase has its turn.
        self.turn = (self.turn + 7) % PHASES;
        let phase = self.turn as usize;
        // Twice over, for those that come and go between two ticks.
        let len = self.phases[phase].len();
        self.phases[phase].reserve(len + 8);
        phase as u8
    }

    /// `session` ticks from now on. Gives the number of its first tick.
    pub(crate) fn begin(&mut self, session: Key, phase: u8, now: Instant) -> u64 {
        let reached = self.reached(now);
        if self.phases.iter().all(Vec::is_empty) {
            self.cursor = self.cursor.max(reached + 1);
            self.at = 0;
        }
        self.phases[usize::from(phase)].push(session);
        let ahead = (u64::from(phase) + PHASES - self.cursor % PHASES) % PHASES;
        (self.cursor + ahead) / PHASES
    }

    /// The next session whose tick is due, the tick's number and its phase; tell [`Self::leave`] if it is the last.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<(Key, u64, u8)> {
        let reached = self.reached(now);
        if self.at == 0 && reached > self.cursor + CATCH_UP_PHASES {
            let late = reached - self.cursor - CATCH_UP_PHASES;
            self.cursor += late.div_ceil(PHASES) * PHASES;
        }
        if self.phases.iter().all(Vec::is_empty) {
            return None;
        }
        while self.cursor <= reached {
            let phase = &self.phases[(self.cursor % PHASES) as usize];
            if let Some(session) = phase.get(self.at) {
                self.at += 1;
                return Some((*session, self.cursor / PHASES, (self.cursor % PHASES) as u8));
            }
            self.at = 0;
            self.cursor += 1;
        }
        None
    }

    /// The session given last ticks no more.
    pub(crate) fn leave(&mut self) {
        self.at -= 1;
        self.phases[(self.cursor % PHASES) as usize].swap_remove(self.at);
    }

    /// When [`Self::expire`] has something to give.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let origin = self.origin?;
        let due = (self.cursor..self.cursor + PHASES)
            .find(|slot| !self.phases[(slot % PHASES) as usize].is_empty())?;
        // 32 bits of phases are 50 days.
        Some(origin + Duration::from_millis(due * PHASE_MS))
    }

    fn reached(&mut self, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        let nanos = now.saturating_duration_since(origin).as_nanos();
        u64::try_from(nanos / PHASE.as_nanos()).unwrap_or(u64::MAX >> 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::slab::Slab;

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    fn keys(count: usize) -> Vec<Key> {
        let mut slab = Slab::new();
        (0..count).map(|_| slab.insert(())).collect()
    }

    #[test]
    fn every_session_ticks_once_in_twenty_milliseconds_and_they_are_spread() {
        let start = base();
        let mut ticks = Ticks::new();
        let keys = keys(40);
        let first: Vec<u64> = keys
            .iter()
            .map(|key| {
                let phase = ticks.assign();
                ticks.begin(*key, phase, start)
            })
            .collect();
        let mut seen = vec![Vec::new(); keys.len()];
        let (mut now, mut most) = (start, 0);
        while let Some(at) = ticks
            .next_deadline()
            .filter(|at| *at <= start + Duration::from_millis(200))
        {
            assert!(at > now, "time goes on");
            now = at;
            let mut count = 0;
            while let Some((key, tick, _)) = ticks.expire(now) {
                seen[keys.iter().position(|k| *k == key).expect("one of them")].push(tick);
                count += 1;
            }
            most = most.max(count);
        }
        assert_eq!(most, 2, "two in each phase");
        for (ticks, first) in seen.iter().zip(first) {
            assert_eq!(*ticks, (first..first + 10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_stall_is_caught_up_with_in_part_and_the_rest_is_left_out() {
        let start = base();
        let mut ticks = Ticks::new();
        let key = keys(1)[0];
        let phase = ticks.assign();
        let first = ticks.begin(key, phase, start);
        let stalled = start + Duration::from_millis(1_000);
        let caught: Vec<u64> = std::iter::from_fn(|| ticks.expire(stalled))
            .map(|(_, tick, _)| tick)
            .collect();
        assert!((3..=4).contains(&caught.len()), "{caught:?}");
        assert!(caught[0] > first + 40, "{caught:?} after {first}");
        assert!(
            ticks
                .next_deadline()
                .is_some_and(|at| at > stalled && at <= stalled + Duration::from_millis(20))
        );
    }

    #[test]
    fn who_leaves_is_not_called_again_and_nobody_means_no_deadline() {
        let start = base();
        let mut ticks = Ticks::new();
        let keys = keys(3);
        for key in &keys {
            ticks.begin(*key, 5, start);
        }
        let mut called = 0;
        while let Some((key, ..)) = ticks.expire(start + Duration::from_millis(25)) {
            called += 1;
            if key != keys[1] {
                ticks.leave();
            }
        }
        assert!((3..=4).contains(&called), "{called}");
        assert_eq!(
            ticks
                .expire(start + Duration::from_millis(45))
                .map(|(key, ..)| key),
            Some(keys[1])
        );
        ticks.leave();
        assert_eq!(ticks.next_deadline(), None);
    }

    #[test]
    fn a_tick_is_still_to_come_after_months() {
        let start = base();
        let mut ticks = Ticks::new();
        assert_eq!(ticks.expire(start), None);
        let now = start + Duration::from_secs(60 * 86_400);
        ticks.begin(keys(1)[0], 5, now);
        let next = ticks.next_deadline().expect("one ticks");
        assert!(
            next > now && next <= now + Duration::from_millis(20),
            "{:?}",
            now - next
        );
    }
}
