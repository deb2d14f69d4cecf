//! The background of a party that is silent and said how that sounds (RFC 3389), for its leg of a recording.

use codecs::{
    comfort_noise::{NoiseGenerator, Sid},
    resample::Resampler,
};

use super::ring::Placing;
use crate::limits;

/// See the module.
#[derive(Debug)]
pub(super) struct Background {
    generator: NoiseGenerator,
    clock_hz: u32,
    /// To the file's rate.
    resampler: Option<Resampler>,
    placing: Placing,
    /// Heard for so many samples of the file more, unless it is told again.
    left: usize,
}

/// It is made in pieces of this length.
const PIECE_MS: u32 = 20;

impl Background {
    /// As `payload` describes it, going on from `before`. Unset where there is nothing to describe.
    pub(super) fn new(
        payload: &[u8],
        clock_hz: u32,
        file_hz: u32,
        placing: Placing,
        before: Option<Self>,
    ) -> Option<Self> {
        let sid = Sid::parse(payload).ok()?;
        let left = (file_hz / 1_000) as usize * limits::COMFORT_NOISE_MS_MAX as usize;
        if let Some(mut before) = before.filter(|before| before.clock_hz == clock_hz) {
            before.generator.go_on(&sid);
            return Some(Self {
                placing,
                left,
                ..before
            });
        }
        let mut generator = NoiseGenerator::new(placing.leg.into());
        generator.begin(&sid);
        let resampler = match clock_hz == file_hz {
            true => None,
            false => Some(Resampler::new(clock_hz, file_hz).ok()?),
        };
        Some(Self {
            generator,
            clock_hz,
            resampler,
            placing,
            left,
        })
    }

    pub(super) fn placing(&self) -> Placing {
        self.placing
    }

    /// Makes some samples of the file in `out`, at most `most`; none when it has gone on for long enough.
    pub(super) fn make(&mut self, most: usize, own: &mut [i16], out: &mut [i16]) -> usize {
        if self.left == 0 {
            return 0;
        }
        let own = &mut own[..(self.clock_hz / 1_000 * PIECE_MS) as usize];
        self.generator.generate(own);
        let made = match &mut self.resampler {
            Some(resampler) => resampler.process(own, out).unwrap_or(0),
            None => {
                out[..own.len()].copy_from_slice(own);
                own.len()
            }
        };
        let made = made.min(most).min(self.left);
        self.left -= made;
        made
    }
}
