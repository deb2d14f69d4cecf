//! What is told about a source beside its being heard: that its peer talks, and how loud.
//!
//! An observer sees every tick of its source, decoded, whether or not anybody hears it.

use codecs::{
    level,
    vad::{self, TalkChange, Vad},
};

use super::{plan::Watch, tick::TICK_MS};
use crate::command::EventKind;

/// The detector counts at this rate whatever the session's.
const VAD_HZ: u32 = 8_000;
const VAD_TICK_SAMPLES: u32 = VAD_HZ / 1_000 * TICK_MS;
/// The told level follows the sound over some 200 ms.
const LEVEL_FOLLOWS: f64 = 0.1;
/// The level of silence (RFC 6464).
const SILENCE_DBOV: f64 = -127.0;

/// See the module. Nothing in it allocates once it is made.
#[derive(Debug)]
pub(crate) struct Observer {
    vad: Vad,
    /// Length of the running talk so far.
    talk_ms: u64,
    /// Mean square, full scale being one.
    power: f64,
}

impl Observer {
    pub(crate) fn new(watch: Watch) -> Self {
        let Watch { talk: _ } = watch;
        Self {
            vad: Vad::new(VAD_HZ),
            talk_ms: 0,
            power: 0.0,
        }
    }

    /// Takes the next tick in.
    pub(crate) fn observe(&mut self, pcm: &[i16], mut tell: impl FnMut(EventKind)) {
        let dbov = level::dbov(pcm).max(SILENCE_DBOV);
        self.power += (10_f64.powf(dbov / 10.0) - self.power) * LEVEL_FOLLOWS;
        self.talk_ms += u64::from(TICK_MS);
        match self.vad.process_level(dbov, VAD_TICK_SAMPLES) {
            Some(TalkChange::Started) => {
                self.talk_ms = vad::START_MS.into();
                tell(EventKind::TalkStarted);
            }
            Some(TalkChange::Stopped) => tell(EventKind::TalkStopped {
                duration_ms: self.talk_ms.saturating_sub(vad::HANGOVER_MS.into()),
            }),
            None => {}
        }
    }

    /// It talks, since it was told.
    pub(crate) fn is_talking(&self) -> bool {
        self.vad.is_talking()
    }

    pub(crate) fn level_dbov(&self) -> f32 {
        (10.0 * self.power.log10()).max(SILENCE_DBOV) as f32
    }
}
