//! What is done to the sound of a peer, if its endpoint asks for it, before anybody hears it: noise suppressed, then its level
//! made even. Digits and talk are looked for before that, in the sound as it came.

use codecs::{gain_control::GainControl, noise::NoiseSuppressor};

use crate::spec::PolishSpec;

/// See the module. Nothing in it allocates once it is made, by the thread that uses it.
#[derive(Debug)]
pub(crate) struct Polish {
    spec: PolishSpec,
    rate_hz: u32,
    noise: Option<NoiseSuppressor>,
    gain: Option<GainControl>,
    /// It sounded in the tick before: what the suppressor holds back is still to come.
    holds: bool,
}

impl Polish {
    /// What `spec` asks for, going on from `before`; `None` if that is nothing.
    pub(crate) fn new(spec: PolishSpec, rate_hz: u32, before: Option<Box<Self>>) -> Option<Box<Self>> {
        if spec == PolishSpec::default() {
            return None;
        }
        let (noise, gain, holds) = match before {
            Some(before) if before.rate_hz == rate_hz => (before.noise, before.gain, before.holds),
            Some(before) => (None, before.gain, false),
            None => (None, None, false),
        };
        // Rates of mixes are ones it knows.
        let noise = match spec.suppress_noise {
            true => noise.or_else(|| NoiseSuppressor::new(rate_hz).ok()),
            false => None,
        };
        let gain = spec.gain.map(|settings| match gain {
            Some(gain) => gain.adapted(settings, rate_hz),
            None => GainControl::new(settings, rate_hz),
        });
        Some(Box::new(Self {
            spec,
            rate_hz,
            noise,
            gain,
            holds,
        }))
    }

    /// It does what `spec` asks for at this rate.
    pub(crate) fn fits(&self, spec: PolishSpec, rate_hz: u32) -> bool {
        self.spec == spec && self.rate_hz == rate_hz
    }

    /// Works on the next tick, which `sounds` or is silent; true if there is something to hear then.
    pub(crate) fn apply(&mut self, frame: &mut [i16], sounds: bool) -> bool {
        if !sounds && !self.holds {
            return false;
        }
        if let Some(noise) = &mut self.noise {
            noise.process(frame);
        }
        if let Some(gain) = &mut self.gain {
            gain.process(frame);
        }
        self.holds = sounds && self.noise.is_some();
        true
    }

    /// It holds sound back that is still to come.
    pub(crate) fn is_idle(&self) -> bool {
        !self.holds
    }

    /// How much later the sound comes out.
    pub(crate) fn delay_samples(&self) -> usize {
        self.noise.as_ref().map_or(0, NoiseSuppressor::delay_samples)
    }
}
