//! When more comes than can be handled, some new calls are refused at once, so that those that are taken do not wait.
//!
//! What tells is how long things wait for us, or we for what we cannot do without. Any hiccup makes somebody wait for
//! long; so it is the shortest wait of a window that counts (RFC 8289, CoDel): when even that is long, there is a queue
//! that does not empty. Then the share of calls that are refused grows, window by window, and shrinks again, more slowly,
//! while there is none. Which calls those are is spread evenly.
//!
//! Of a call that is refused the key of its transaction is kept: its caller may have asked again meanwhile, and a copy
//! that was taken would ring somebody for a caller who was told no.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::transaction::ServerKey;

/// How long a wait may be on and on: half of T1, after which phones say everything a second time.
pub const WAIT_MAX: Duration = Duration::from_millis(250);
/// Over which the shortest wait is taken.
const WINDOW: Duration = Duration::from_millis(100);
/// Fewer waits than this in a window tell nothing.
const WAITS_MIN: u32 = 5;
/// Of 1 000 calls, so many more are refused after a window with waits just too long; up to four times as many after
/// longer ones.
const STEP_UP: u32 = 30;
/// So many fewer after a window without.
const STEP_DOWN: u32 = 10;
const ALL: u32 = 1_000;
/// A copy of an INVITE comes so late at most (RFC 3261 §17.1.1.2, timer B).
const COPIES: Duration = Duration::from_secs(32);
/// So many refused calls are kept in mind, some 150 bytes each. With more the oldest is forgotten.
const REFUSED_MAX: usize = 32_768;

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Messages, to be handled.
    Messages,
    /// We, for replies of others without whom no call can be set up.
    Replies,
}

#[derive(Debug, Default)]
pub(super) struct Overload {
    window_start: Option<Instant>,
    /// The shortest wait in this window, of each kind, and how many there were.
    least: [(Duration, u32); 2],
    /// Refused, of [`ALL`].
    share: u32,
    /// What is still to be refused of the calls since the last one that was.
    owed: u32,
    refused: BTreeSet<ServerKey>,
    /// The same, with when they were refused.
    refused_at: VecDeque<(Instant, ServerKey)>,
}

impl Overload {
    pub(super) fn waited(&mut self, now: Instant, who: Waiting, wait: Duration) {
        self.close(now);
        let (least, count) = &mut self.least[who as usize];
        *least = if *count == 0 { wait } else { wait.min(*least) };
        *count += 1;
    }

    /// The new call that came now is to be refused, or was already.
    pub(super) fn refuses(&mut self, now: Instant, key: &ServerKey) -> bool {
        self.refused.contains(key) || self.is_due(now)
    }

    fn is_due(&mut self, now: Instant) -> bool {
        self.close(now);
        self.owed += self.share;
        let refuses = self.owed >= ALL;
        if refuses {
            self.owed -= ALL;
        }
        refuses
    }

    /// A new call is refused.
    pub(super) fn keep_in_mind(&mut self, now: Instant, key: ServerKey) {
        let gone = |(at, _): &(Instant, ServerKey)| now.saturating_duration_since(*at) > COPIES;
        while self.refused_at.len() >= REFUSED_MAX || self.refused_at.front().is_some_and(gone) {
            if let Some((_, key)) = self.refused_at.pop_front() {
                self.refused.remove(&key);
            }
        }
        if self.refused.insert(key.clone()) {
            self.refused_at.push_back((now, key));
        }
    }

    /// Judges the windows that are over.
    fn close(&mut self, now: Instant) {
        let start = *self.window_start.get_or_insert(now);
        let windows = now.saturating_duration_since(start).as_millis() / WINDOW.as_millis();
        if windows == 0 {
            return;
        }
        let told = std::mem::take(&mut self.least).into_iter();
        let told = told.filter(|(_, count)| *count >= WAITS_MIN);
        let least = told.map(|(least, _)| least).max().unwrap_or_default();
        let times = (least.as_millis() / WAIT_MAX.as_millis()).min(4) as u32;
        // Of the windows after the first nothing was heard.
        let quiet = u32::try_from(windows).unwrap_or(ALL) - u32::from(times > 0);
        self.share = (self.share + STEP_UP * times).min(ALL);
        self.share = self.share.saturating_sub(STEP_DOWN.saturating_mul(quiet));
        if self.share == 0 {
            self.owed = 0;
        }
        self.window_start = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(10);

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from")]
        Instant::now()
    }

    /// A second in which a call and a message come every 10 ms and messages wait like this; gives how many are refused.
    fn second(overload: &mut Overload, from: Instant, wait: impl Fn(u32) -> Duration) -> usize {
        let refused = |step: &u32| {
            let now = from + STEP * *step;
            overload.waited(now, Waiting::Messages, wait(*step));
            overload.is_due(now)
        };
        (0..100).filter(refused).count()
    }

    #[test]
    fn a_queue_that_stays_has_calls_refused_until_it_is_gone() {
        let (mut overload, now) = (Overload::default(), start());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(second(&mut overload, at(0), |_| WAIT_MAX / 2), 0);
        let some = second(&mut overload, at(1), |_| WAIT_MAX * 3 / 2);
        assert!((5..30).contains(&some), "{some}");
        let more = second(&mut overload, at(2), |_| WAIT_MAX * 20);
        assert!((50..100).contains(&more), "{more}");
        assert_eq!(second(&mut overload, at(3), |_| WAIT_MAX * 20), 100);
        let fewer = second(&mut overload, at(4), |_| Duration::ZERO);
        assert!((90..100).contains(&fewer), "{fewer}");
        for seconds in 5..14 {
            second(&mut overload, at(seconds), |_| Duration::ZERO);
        }
        assert_eq!(second(&mut overload, at(14), |_| Duration::ZERO), 0);
    }

    #[test]
    fn a_hiccup_refuses_nobody() {
        let (mut overload, now) = (Overload::default(), start());
        let long_now_and_then = |step: u32| WAIT_MAX * if step.is_multiple_of(5) { 0 } else { 30 };
        assert_eq!(second(&mut overload, now, long_now_and_then), 0);
    }

    #[test]
    fn waits_for_others_count_and_are_forgotten_when_nothing_is_heard() {
        let (mut overload, now) = (Overload::default(), start());
        for step in 0..100 {
            let at = now + STEP * step;
            overload.waited(at, Waiting::Messages, Duration::ZERO);
            overload.waited(at, Waiting::Replies, WAIT_MAX * 10);
        }
        let at = now + Duration::from_secs(1);
        assert!((0..10).any(|_| overload.is_due(at)));
        let later = at + Duration::from_secs(60);
        assert!(!(0..10).any(|_| overload.is_due(later)));
    }
}
