//! Limits of calls: how many at once, and how many begin in a second.

use std::time::{Duration, Instant};

/// Lets through so many a second; a second's worth may come at once.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    per_s: u32,
    /// When the next one would be due if they came evenly; it may lie in the past by a second at most.
    due: Option<Instant>,
}

impl Rate {
    /// 0: no limit.
    pub(crate) fn new(per_s: u32) -> Self {
        Self { per_s, due: None }
    }

    /// Another limit from now on; the same one goes on as it stands.
    pub(crate) fn set(&mut self, per_s: u32) {
        if self.per_s != per_s {
            *self = Self::new(per_s);
        }
    }

    /// One more now, or how long to wait for it.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if self.per_s == 0 {
            return Ok(());
        }
        let step = Duration::from_secs(1) / self.per_s;
        // The cell rate algorithm of ATM: a burst of a second less one step is allowed ahead of time.
        let burst = Duration::from_secs(1) - step;
        let due = self.due.map_or(now, |due| due.max(now));
        let early = due.saturating_duration_since(now);
        if early > burst {
            return Err(early - burst);
        }
        self.due = Some(due + step);
        Ok(())
    }
}

/// Why no call more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Too many at once.
    Calls,
    /// Too many in this second.
    Rate,
    /// There is no such way any more.
    TakenOut,
}

/// Calls of one kind: at once, and each second.
#[derive(Debug, Clone)]
pub(crate) struct Gauge {
    calls: usize,
    calls_max: usize,
    rate: Rate,
    /// How often it was full.
    pub(crate) refused: u64,
}

impl Gauge {
    /// 0: no limit.
    pub(crate) fn new(calls_max: usize, per_s: u32) -> Self {
        Self {
            calls: 0,
            calls_max,
            rate: Rate::new(per_s),
            refused: 0,
        }
    }

    /// Other limits from now on; calls that are more than allowed go on.
    pub(crate) fn set(&mut self, calls_max: usize, per_s: u32) {
        self.calls_max = calls_max;
        self.rate.set(per_s);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    /// One call more; [`Gauge::give_back`] when it is over.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Full> {
        let full = if self.calls_max > 0 && self.calls >= self.calls_max {
            Err(Full::Calls)
        } else {
            self.rate.take(now).map_err(|_| Full::Rate)
        };
        match full {
            Ok(()) => self.calls += 1,
            Err(_) => self.refused += 1,
        }
        full
    }

    /// One call more, whose rate is another's business.
    pub(crate) fn take_untimed(&mut self) -> Result<(), Full> {
        if self.calls_max > 0 && self.calls >= self.calls_max {
            self.refused += 1;
            return Err(Full::Calls);
        }
        self.calls += 1;
        Ok(())
    }

    /// A call that was let through before a restart.
    pub(crate) fn adopt(&mut self) {
        self.calls += 1;
    }

    pub(crate) fn give_back(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "only differences count")]
    fn beginning() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_rate_lets_a_seconds_worth_through_and_then_its_share() {
        let start = beginning();
        let mut rate = Rate::new(10);
        let taken =
            |rate: &mut Rate, at: Duration| (0..100).filter(|_| rate.take(start + at).is_ok()).count();
        assert_eq!(taken(&mut rate, Duration::ZERO), 10);
        assert_eq!(taken(&mut rate, Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut rate, Duration::from_millis(300)), 3);
        assert_eq!(
            taken(&mut rate, Duration::from_secs(60)),
            10,
            "no more for a long pause"
        );
        let wait = rate.take(start + Duration::from_secs(60)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(taken(&mut Rate::new(0), Duration::ZERO), 100, "no limit");
    }

    #[test]
    fn calls_at_once_are_counted() {
        let start = beginning();
        let mut gauge = Gauge::new(2, 0);
        assert_eq!(gauge.take(start), Ok(()));
        assert_eq!(gauge.take(start), Ok(()));
        assert_eq!(gauge.take(start), Err(Full::Calls));
        gauge.give_back();
        assert_eq!(gauge.take(start), Ok(()));
        assert_eq!((gauge.calls(), gauge.refused), (2, 1));
    }
}
