//! How much effort the Opus encoders of a worker make: as much as there is time for.
//!
//! Encoding is most of what a call with Opus costs, and with little effort it costs half as much. So a worker that gets
//! busy makes less effort before its audio gets late and before it refuses new sessions, and more again when it has time for a
//! while. Less effort makes a worker less busy: whether there is time for more is told by what that would cost.

use codecs::opus::{COMPLEXITY_MAX, encoding_ns};

/// The efforts that are worth theirs: those between cost as much as the next, or sound no better than the one before.
const STEPS: [u8; 5] = [0, 2, 5, 7, 9];
/// From this share of what a worker may be busy on, its encoders make less effort …
const FALL_AT: f32 = 0.83;
/// … so much that it is no busier than this; and they make more where it is no busier than this with it.
const AIM: f32 = 0.67;
/// Who is as busy as this does not tell how much there is to do.
const SATURATED: f32 = 0.95;
/// Less effort that saves no more than this is made for nothing.
const SAVING_MIN: f32 = 0.02;
/// How slow the machine may be, against the one that [`encoding_ns`] is of, that effort is not raised too far.
const SLOWER_MAX: f32 = 2.0;
/// So many measurements in a row have to say that there is time for more effort.
const PATIENCE: u32 = 16;
/// It doubles, up to this, when more effort turns out to have been too much …
const PATIENCE_MAX: u32 = 16 * PATIENCE;
/// … within so many measurements.
const REGRET: u32 = 4 * PATIENCE;

/// Between which bounds the effort of Opus encoders is chosen: what libopus calls complexity, 0 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffortRange {
    /// When there is time.
    pub most: u8,
    /// When there is none. As `most`: load changes nothing.
    pub least: u8,
}

impl EffortRange {
    /// There is no more.
    pub const TOP: u8 = COMPLEXITY_MAX;
}

impl Default for EffortRange {
    /// See the table in SPECIFICATION.md that the bounds are chosen by.
    fn default() -> Self {
        Self { most: 5, least: 0 }
    }
}

/// Shares of its time, 0 to 1, that a worker uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Busy {
    /// For its media.
    pub media: f32,
    /// Of that, for encoding Opus, by [`crate::engine::Totals::opus_ns`].
    pub opus: f32,
}

impl Busy {
    /// With `factor` times as much to do.
    pub(super) fn times(self, factor: f32) -> Self {
        Self {
            media: self.media * factor,
            opus: self.opus * factor,
        }
    }

    /// With another effort.
    pub(super) fn with_effort(self, from: u8, to: u8) -> Self {
        let before = self.opus.min(self.media);
        let opus = before * cost(to) / cost(from);
        Self {
            media: self.media - before + opus,
            opus,
        }
    }
}

/// The effort of one worker. Counts measurements, not time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Governor {
    range: EffortRange,
    effort: u8,
    /// What is measured next holds work from before the latest change.
    settling: bool,
    /// Measurements in a row with time for more effort.
    calm: u32,
    /// So many of them are wanted.
    patience: u32,
    /// Measurements since it was raised.
    since_rise: u32,
}

impl Governor {
    pub(super) fn new(range: EffortRange) -> Self {
        Self {
            range,
            effort: range.most,
            settling: false,
            calm: 0,
            patience: PATIENCE,
            since_rise: REGRET,
        }
    }

    /// The effort as it is.
    pub(super) fn effort(&self) -> u8 {
        self.effort
    }

    /// How busy the worker would be if there were no time for effort.
    pub(super) fn at_least(&self, load: Busy) -> f32 {
        load.with_effort(self.effort, self.range.least).media
    }

    /// Other bounds. Gives the effort, if it is another one.
    pub(super) fn set_range(&mut self, range: EffortRange) -> Option<u8> {
        let to = match range == self.range {
            true => self.effort,
            false if self.effort == self.range.most => range.most,
            false => self.effort.clamp(range.least, range.most),
        };
        self.range = range;
        self.change(to)
    }

    /// The worker was measured; it may be busy for `max` of its time. Gives the effort, if it is another one.
    pub(super) fn measured(&mut self, load: Busy, max: f32) -> Option<u8> {
        // Half of it may be from before the change: who has no time at all has none with the new effort either.
        if std::mem::take(&mut self.settling) && load.media < SATURATED {
            return None;
        }
        self.since_rise = self.since_rise.saturating_add(1);
        if self.since_rise > PATIENCE_MAX {
            self.patience = PATIENCE;
        }
        if load.media >= max * FALL_AT {
            return self.fall(load, max);
        }
        let more = self.more()?;
        self.calm = match self.with_more(load, more) <= max * AIM {
            true => self.calm + 1,
            false => 0,
        };
        if self.calm < self.patience {
            return None;
        }
        self.since_rise = 0;
        self.change(more)
    }

    /// The worker will be as busy as this with what it was given. Gives the effort, if it is another one.
    pub(super) fn expected(&mut self, load: Busy, max: f32) -> Option<u8> {
        (load.media >= max * FALL_AT)
            .then(|| self.fall(load, max))
            .flatten()
    }

    fn fall(&mut self, load: Busy, max: f32) -> Option<u8> {
        self.calm = 0;
        if load.media - self.at_least(load) < SAVING_MIN {
            return None;
        }
        if self.since_rise < REGRET {
            self.patience = (2 * self.patience).min(PATIENCE_MAX);
        }
        let least = self.range.least;
        let fits = |to: &u8| load.with_effort(self.effort, *to).media <= max * AIM;
        let steps = STEPS.into_iter().rev();
        let to = match load.media >= SATURATED {
            true => least,
            false => steps
                .filter(|step| (least..self.effort).contains(step))
                .find(fits)
                .unwrap_or(least),
        };
        self.change(to)
    }

    /// The next more effort.
    fn more(&self) -> Option<u8> {
        let step = STEPS.into_iter().find(|step| *step > self.effort);
        let most = self.range.most;
        (self.effort < most).then(|| step.map_or(most, |step| step.min(most)))
    }

    /// How busy the worker would be with effort `more`, on a slow machine.
    fn with_more(&self, load: Busy, more: u8) -> f32 {
        let opus = load.opus * SLOWER_MAX;
        Busy { opus, ..load }.with_effort(self.effort, more).media
    }

    fn change(&mut self, to: u8) -> Option<u8> {
        if to == self.effort {
            return None;
        }
        self.effort = to;
        self.calm = 0;
        self.settling = true;
        Some(to)
    }
}

/// What an effort costs, for comparison with others.
fn cost(complexity: u8) -> f32 {
    encoding_ns(160, complexity) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: f32 = 0.9;
    const RANGE: EffortRange = EffortRange { most: 5, least: 0 };

    /// A worker whose load is what it has to do, and its governor.
    struct Worker {
        governor: Governor,
        /// What is no encoding.
        rest: f32,
        /// What encoding costs at the most effort …
        opus: f32,
        /// … on a machine that takes so many times as long as it is taken to.
        slower: f32,
        /// Efforts, each with the measurement it came with.
        changes: Vec<(usize, u8)>,
        measurements: usize,
    }

    impl Worker {
        fn new(rest: f32, opus: f32) -> Self {
            Self {
                governor: Governor::new(RANGE),
                rest,
                opus,
                slower: 1.0,
                changes: Vec::new(),
                measurements: 0,
            }
        }

        fn busy(&self) -> Busy {
            let opus = self.opus * cost(self.governor.effort()) / cost(RANGE.most);
            Busy {
                media: (self.rest + opus).min(1.0),
                opus: (opus / self.slower).min(1.0),
            }
        }

        fn measure(&mut self, count: usize) -> u8 {
            for _ in 0..count {
                self.measurements += 1;
                let changed = self.governor.measured(self.busy(), MAX);
                self.changes.extend(changed.map(|to| (self.measurements, to)));
            }
            self.governor.effort()
        }
    }

    #[test]
    fn with_time_it_is_the_most_and_stays() {
        let mut worker = Worker::new(0.2, 0.5);
        assert_eq!((worker.measure(1_000), worker.changes.len()), (5, 0));
    }

    #[test]
    fn it_falls_no_further_than_it_has_to_and_rises_step_by_step() {
        let mut worker = Worker::new(0.1, 0.68);
        let fell = worker.measure(10);
        assert!((1..5).contains(&fell), "{fell}");
        assert_eq!(worker.changes.len(), 1, "{:?}", worker.changes);
        assert!(worker.busy().media <= MAX * AIM);
        // Even more: no less than the least.
        worker.opus = 1.9;
        assert_eq!(worker.measure(10), 0);
        let before = worker.changes.len();
        worker.opus = 0.3;
        assert_eq!(worker.measure(PATIENCE as usize - 1), 0, "not at once");
        assert_eq!(worker.measure(1_000), 5);
        let rises: Vec<u8> = worker.changes[before..].iter().map(|(_, to)| *to).collect();
        assert_eq!(rises, [2, 5]);
        let times = worker.changes[before..].windows(2);
        assert!(
            times
                .into_iter()
                .all(|pair| pair[1].0 - pair[0].0 > PATIENCE as usize)
        );
    }

    #[test]
    fn who_is_saturated_falls_to_the_least_at_once() {
        let mut worker = Worker::new(0.2, 1.5);
        assert_eq!((worker.measure(1), worker.changes.len()), (0, 1));
        // Also where it fell a moment ago, and not far enough.
        let mut worker = Worker::new(0.1, 0.7);
        assert_eq!(worker.measure(1), 2);
        worker.opus = 2.0;
        assert_eq!(worker.measure(1), 0);
    }

    #[test]
    fn any_steady_load_leads_to_a_steady_effort() {
        for slower in [0.5, 1.0, 1.5, 2.0] {
            for opus in (0..40).map(|n| n as f32 * 0.05) {
                for rest in [0.0, 0.2, 0.4, 0.6] {
                    let mut worker = Worker::new(rest, opus);
                    worker.slower = slower;
                    worker.measure(400);
                    let settled = worker.changes.len();
                    worker.measure(4_000);
                    assert_eq!(
                        worker.changes.len(),
                        settled,
                        "{rest} and {opus} at {slower}: {:?}",
                        worker.changes
                    );
                }
            }
        }
    }

    #[test]
    fn a_machine_that_is_not_as_it_is_taken_to_be_swings_ever_more_rarely() {
        // What is told of encoding is a tenth of what it takes, so that every rise is too much.
        let mut worker = Worker::new(0.0, 0.9);
        worker.slower = 10.0;
        worker.measure(10 * PATIENCE_MAX as usize);
        let (early, late): (Vec<usize>, Vec<usize>) = worker
            .changes
            .iter()
            .map(|(at, _)| *at)
            .partition(|at| *at < 5 * PATIENCE_MAX as usize);
        assert!(
            late.len() <= 12 && late.len() <= early.len(),
            "{early:?} {late:?}"
        );
    }

    #[test]
    fn where_there_is_no_opus_to_speak_of_it_stays() {
        let mut worker = Worker::new(0.95, 0.01);
        assert_eq!((worker.measure(100), worker.changes.len()), (5, 0));
    }

    #[test]
    fn equal_bounds_switch_it_off_and_other_bounds_hold_at_once() {
        let mut worker = Worker::new(0.0, 0.8);
        let fixed = EffortRange { most: 3, least: 3 };
        assert_eq!(worker.governor.set_range(fixed), Some(3));
        assert_eq!((worker.measure(100), worker.changes.len()), (3, 0));
        assert_eq!(
            worker.governor.set_range(EffortRange { most: 10, least: 8 }),
            Some(10)
        );
        worker.opus = 2.0;
        assert_eq!(worker.measure(10), 8);
        assert_eq!(
            worker.governor.set_range(EffortRange { most: 7, least: 0 }),
            Some(7)
        );
        assert_eq!(worker.governor.set_range(EffortRange { most: 7, least: 0 }), None);
    }

    #[test]
    fn what_is_expected_lowers_it_before_it_is_measured() {
        let mut governor = Governor::new(RANGE);
        let half = Busy {
            media: 0.5,
            opus: 0.4,
        };
        assert_eq!(governor.expected(half, MAX), None);
        let fell = governor.expected(half.times(1.6), MAX).expect("it is too much");
        assert!(fell < 5);
        // That was measured before.
        assert_eq!(governor.measured(half.times(1.6), MAX), None);
    }
}
