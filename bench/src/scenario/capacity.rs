//! The most calls a server carries cleanly.

use std::time::Duration;

use super::{Lab, Which};
use crate::load::{LoadSpec, Payload};
use crate::peer::Media;

/// Beyond this share of lost packets a server is past its limit.
pub(super) const LOSS_MAX: f64 = 0.001;
/// Beyond this delay a server is past its limit, however little it loses: one packet time.
pub(super) const DELAY_P99_US_MAX: f64 = 20_000.0;
/// More calls than the generator can drive from one core.
pub(super) const CALLS_MAX: u32 = 2_800;
/// The search ends when the first count that fails is at most this much above the last that passes.
const STEP: f64 = 1.04;
/// Growth while no limit is known.
const STRIDE: f64 = 1.3;

/// Searches with a fresh process for every step, because rtpengine does not recover from a collapse.
#[derive(Debug)]
pub(super) struct CapacitySearch {
    which: Which,
    start: u32,
    last: Option<u32>,
}

impl CapacitySearch {
    pub(super) fn new(which: Which, start: u32) -> CapacitySearch {
        CapacitySearch {
            which,
            start,
            last: None,
        }
    }

    /// One search; later ones begin where the one before ended.
    pub(super) fn round(&mut self, lab: &mut Lab, quick: bool) -> anyhow::Result<u32> {
        let which = self.which;
        let found = search(self.last, self.start, if quick { 1.3 } else { STEP }, |calls| {
            fits(lab, which, calls, quick)
        })?;
        self.last = Some(found);
        Ok(found)
    }
}

fn fits(lab: &mut Lab, which: Which, calls: u32, quick: bool) -> anyhow::Result<bool> {
    let spec = LoadSpec {
        payload: Payload::SignStamp,
        warm: Duration::from_millis(if quick { 300 } else { 1_000 }),
        window: Duration::from_millis(if quick { 700 } else { 2_000 }),
        ..LoadSpec::new(Vec::new())
    };
    let report = lab.measure("pcmu_pcma", which, Media::PcmuPcma, calls, &spec)?;
    Ok(report.loss() < LOSS_MAX && report.delay_us.p99 < DELAY_P99_US_MAX)
}

/// The largest count that fits, to within the factor `step`; 0 when not even a tenth of `start` does.
pub(super) fn search(
    last: Option<u32>,
    start: u32,
    step: f64,
    mut fits: impl FnMut(u32) -> anyhow::Result<bool>,
) -> anyhow::Result<u32> {
    let times = |calls: u32, factor: f64| ((f64::from(calls) * factor).round() as u32).clamp(1, CALLS_MAX);
    let stride = if last.is_some() { step } else { STRIDE };
    let (mut good, mut bad);
    let mut calls = last.unwrap_or(start).max(1);
    if fits(calls)? {
        good = calls;
        loop {
            if good == CALLS_MAX {
                return Ok(good);
            }
            calls = times(good, stride).max(good + 1);
            if !fits(calls)? {
                bad = calls;
                break;
            }
            good = calls;
        }
    } else {
        loop {
            bad = calls;
            calls = times(bad, 1.0 / stride).min(bad.saturating_sub(1));
            if calls < start / 10 || calls == 0 {
                return Ok(0);
            }
            if fits(calls)? {
                good = calls;
                break;
            }
        }
    }
    while f64::from(bad) > f64::from(good) * step + 1.0 {
        let middle = good + (bad - good) / 2;
        if fits(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: u32, last: Option<u32>, start: u32) -> (u32, u32) {
        let mut steps = 0;
        let calls = search(last, start, STEP, |calls| {
            steps += 1;
            Ok(calls <= limit)
        });
        (calls.unwrap(), steps)
    }

    #[test]
    fn the_limit_is_found_from_below_and_above_within_four_percent() {
        for (limit, start) in [(300, 200), (300, 1000), (2100, 1000), (57, 200)] {
            let (calls, steps) = found(limit, None, start);
            assert!(
                calls <= limit && f64::from(calls) * STEP + 2.0 >= f64::from(limit),
                "{calls} of {limit}"
            );
            assert!(steps < 14, "{steps} steps to {limit}");
        }
        assert!(
            found(300, Some(295), 200).1 <= 3,
            "a later round begins where the last one ended"
        );
        assert_eq!(found(0, None, 200).0, 0);
        assert_eq!(found(u32::MAX, None, 1000).0, CALLS_MAX);
    }
}
