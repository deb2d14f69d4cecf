//! How busy a worker may be and take new sessions: as configured, or less where it is late all the same.
//!
//! The CPU time of a worker does not say whether it gets the CPU when it needs it. Another process on its core, a quota, or the
//! machine below a virtual one keep it away, and its audio is late while it is half busy: then what it does is more than it can do.
//! So one that is late for a while takes new sessions only up to somewhat less than it was busy with, and its encoders, whose effort
//! goes by the same bound, make less. When it has kept its time for a while it takes more again, little by little, until it is late again.

/// Late for more than this share of its time: more than one packet of a hundred waits too long.
const LATE_SHARE: f32 = 0.01;
/// A measurement that is late counts so much, one that is not takes one away: late in a fifth of all, it lasts …
const STRIKE: u32 = 4;
/// … from this on, which is ten of them in a row: a hiccup is no load …
const LASTING: u32 = 10 * STRIKE;
/// … and from this on where it was late before and tries how much more it can do.
const AGAIN: u32 = 3 * STRIKE;
/// What it was busy with while it was late, it could do this much of.
const BACK_OFF: f32 = 0.85;
/// So much it takes however late it is: a worker that does next to nothing is not late by what it does, and to refuse all calls
/// would help nobody.
const LEAST: f32 = 0.1;
/// So many measurements in a row have to be in time before it takes more than that …
const PATIENCE: u32 = 20;
/// … twice as many each time that it was too much, up to this …
const PATIENCE_MAX: u32 = 16 * PATIENCE;
/// … unless the time before is as long ago as this, in measurements.
const FORGET: u32 = 4 * PATIENCE_MAX;
/// And with each further one it takes so much more.
const RISE: f32 = 0.005;

/// The bound of one worker. Counts measurements, not time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceiling {
    /// Up to this share of its time; `None`: as configured.
    share: Option<f32>,
    /// What it was late with, last.
    met: Met,
    /// Measurements that were late, see [`STRIKE`].
    strikes: u32,
    /// It was late for long enough, and since then not in time for long enough.
    lasts: bool,
    /// Measurements in time, in a row, of which `patience` are wanted.
    calm: u32,
    patience: u32,
    /// Measurements since it began to last.
    since: u32,
}

/// A worker that is late for long.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Met {
    /// Share of its time, 0 to 1.
    pub(super) late: f32,
    /// See [`super::Busy::media`].
    pub(super) busy: f32,
}

/// What a measurement of a worker changes about the new sessions it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Taking {
    /// It is late for long: it takes them up to this share of its time only.
    Less(f32),
    /// As configured again.
    AsConfigured,
}

impl Ceiling {
    pub(super) fn new() -> Self {
        Self {
            share: None,
            met: Met::default(),
            strikes: 0,
            lasts: false,
            calm: 0,
            patience: PATIENCE,
            since: FORGET,
        }
    }

    /// Up to which share of its time the worker takes new sessions, where `configured` is the most.
    pub(super) fn max(&self, configured: f32) -> f32 {
        self.share.map_or(configured, |share| share.min(configured))
    }

    /// What it was late with, where that is why it takes less than `configured`.
    pub(super) fn met(&self, configured: f32) -> Option<Met> {
        self.share
            .is_some_and(|share| share < configured)
            .then_some(self.met)
    }

    /// The worker was busy with its media, and late, for these shares of its time.
    pub(super) fn measured(&mut self, busy: f32, late: f32, configured: f32) -> Option<Taking> {
        let is_late = late > LATE_SHARE;
        self.since = self.since.saturating_add(1);
        self.strikes = match is_late {
            true => (self.strikes + STRIKE).min(LASTING),
            false => self.strikes.saturating_sub(1),
        };
        if is_late {
            self.calm = 0;
            let enough = self.share.map_or(LASTING, |_| AGAIN);
            self.lasts |= self.strikes >= enough && self.begin();
            return self.lasts.then(|| self.fall(Met { late, busy })).flatten();
        }
        let share = self.share?;
        self.calm += 1;
        if self.calm <= self.patience {
            return None;
        }
        (self.lasts, self.strikes) = (false, 0);
        self.share = Some(share + RISE).filter(|share| *share < configured);
        self.share.is_none().then_some(Taking::AsConfigured)
    }

    /// It begins to last.
    fn begin(&mut self) -> bool {
        if !self.lasts {
            self.patience = match self.since < FORGET {
                true => (2 * self.patience).min(PATIENCE_MAX),
                false => PATIENCE,
            };
            self.since = 0;
        }
        true
    }

    fn fall(&mut self, met: Met) -> Option<Taking> {
        self.met = met;
        let share = (met.busy * BACK_OFF).max(LEAST);
        let before = self.share.replace(self.share.map_or(share, |now| now.min(share)));
        before.is_none().then_some(Taking::Less(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: f32 = 0.9;
    /// Measurements in a minute.
    const MINUTE: usize = 120;

    /// A worker that gets `gets` of a core, has `wants` to do, and is late when that is more.
    struct Worker {
        ceiling: Ceiling,
        gets: f32,
        wants: f32,
        late: usize,
        told: Vec<Taking>,
    }

    impl Worker {
        fn new(gets: f32, wants: f32) -> Self {
            Self {
                ceiling: Ceiling::new(),
                gets,
                wants,
                late: 0,
                told: Vec::new(),
            }
        }

        fn measure(&mut self) {
            let is_late = self.wants >= self.gets;
            self.late += usize::from(is_late);
            let busy = self.wants.min(self.gets);
            let told = self.ceiling.measured(busy, if is_late { 0.4 } else { 0.0 }, MAX);
            self.told.extend(told);
        }

        /// So many measurements, in each of which sessions end, and come as far as they are let in.
        fn serve(&mut self, count: usize) -> &mut Self {
            for _ in 0..count {
                self.wants *= 0.998;
                if self.wants.min(self.gets) < self.ceiling.max(MAX) {
                    self.wants += 0.004;
                }
                self.measure();
            }
            self
        }
    }

    #[test]
    fn a_hiccup_changes_nothing() {
        let mut ceiling = Ceiling::new();
        for _ in 0..50 {
            // Four seconds of the five that it takes, and again after twenty.
            let late = [0.9; 8].into_iter().chain([0.0; 40]);
            for late in late {
                assert_eq!(ceiling.measured(0.5, late, MAX), None);
            }
        }
        assert_eq!((ceiling.max(MAX), ceiling.met(MAX)), (MAX, None));
    }

    #[test]
    fn one_packet_in_a_thousand_changes_nothing() {
        let mut ceiling = Ceiling::new();
        assert!((0..1_000).all(|_| ceiling.measured(0.8, 0.001, MAX).is_none()));
    }

    #[test]
    fn who_is_late_for_long_takes_less_than_it_is_busy_with() {
        let mut worker = Worker::new(0.5, 0.6);
        (0..9).for_each(|_| worker.measure());
        assert_eq!((worker.ceiling.max(MAX), worker.told.len()), (MAX, 0));
        worker.measure();
        let max = worker.ceiling.max(MAX);
        assert_eq!(worker.told, [Taking::Less(0.5 * BACK_OFF)]);
        assert_eq!(max, 0.5 * BACK_OFF);
        let met = Met { late: 0.4, busy: 0.5 };
        assert_eq!(worker.ceiling.met(MAX), Some(met));
        // It goes on being late with the same: that is no reason to take even less …
        (0..MINUTE).for_each(|_| worker.measure());
        assert_eq!((worker.ceiling.max(MAX), worker.told.len()), (max, 1));
        // … but that it is late with less.
        (worker.gets, worker.wants) = (0.3, 0.3);
        worker.measure();
        assert_eq!(worker.ceiling.max(MAX), 0.3 * BACK_OFF);
    }

    #[test]
    fn who_does_next_to_nothing_takes_some_however_late_it_is() {
        let mut ceiling = Ceiling::new();
        let told: Vec<Taking> = (0..100)
            .filter_map(|_| ceiling.measured(0.01, 0.9, MAX))
            .collect();
        assert_eq!((told, ceiling.max(MAX)), (vec![Taking::Less(LEAST)], LEAST));
    }

    #[test]
    fn late_in_a_sixth_of_the_time_does_not_last_and_in_a_third_it_does() {
        let run = |late: &[f32]| {
            let mut ceiling = Ceiling::new();
            let each = late.iter().cycle().take(3 * MINUTE);
            each.filter_map(|late| ceiling.measured(0.5, *late, MAX)).count()
        };
        let sixth = [0.3, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!((run(&sixth), run(&sixth[..3])), (0, 1));
    }

    #[test]
    fn it_takes_more_again_when_it_has_kept_its_time_and_not_at_once() {
        let mut worker = Worker::new(0.5, 0.6);
        (0..10).for_each(|_| worker.measure());
        let max = worker.ceiling.max(MAX);
        // Nobody else is on its core any more.
        worker.gets = 1.0;
        (0..PATIENCE).for_each(|_| worker.measure());
        assert_eq!(worker.ceiling.max(MAX), max, "not yet");
        worker.measure();
        let mut before = worker.ceiling.max(MAX);
        assert!(before > max);
        for _ in 0..2 * MINUTE {
            worker.measure();
            let now = worker.ceiling.max(MAX);
            assert!(now - before < 1.1 * RISE, "little by little: {before} {now}");
            before = now;
        }
        assert_eq!(worker.ceiling.max(MAX), MAX);
        assert_eq!(worker.told.last(), Some(&Taking::AsConfigured));
        assert_eq!((worker.told.len(), worker.ceiling.met(MAX)), (2, None));
    }

    #[test]
    fn no_steady_load_makes_it_swing() {
        for gets in [0.2, 0.4, 0.5, 0.7, 0.85] {
            let mut worker = Worker::new(gets, 0.0);
            // Until it has learnt; then for an hour.
            worker.serve(20 * MINUTE);
            let (late, told) = (worker.late, worker.told.len());
            let mut least = f32::MAX;
            for _ in 0..60 * MINUTE {
                worker.serve(1);
                least = least.min(worker.wants);
            }
            let late = (worker.late - late) as f32 / (60 * MINUTE) as f32;
            assert!(late < 0.1, "of {gets}: late for {late} of the hour");
            assert!(least > 0.7 * gets, "of {gets}: no more than {least} is done");
            // Who can do nearly as much as it is asked for tries so every three minutes.
            let told = worker.told.len() - told;
            assert!(
                told <= if gets < 0.8 { 0 } else { 40 },
                "of {gets}: {told} changes"
            );
        }
    }

    #[test]
    fn a_worker_with_enough_of_a_core_is_never_asked() {
        let mut worker = Worker::new(0.95, 0.0);
        worker.serve(60 * MINUTE);
        assert!(worker.told.is_empty() && worker.wants > 0.85, "{}", worker.wants);
    }

    #[test]
    fn another_configuration_holds_at_once() {
        let mut worker = Worker::new(0.5, 0.6);
        (0..10).for_each(|_| worker.measure());
        assert_eq!(worker.ceiling.max(0.3), 0.3);
        assert_eq!(worker.ceiling.met(0.3), None, "that is not why");
    }
}
