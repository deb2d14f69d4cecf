//! What is told about a source beside its being heard: that its peer talks, how loud, and which digits sound.
//!
//! An observer sees every tick of its source, decoded, whether or not anybody hears it.

use codecs::{
    dtmf::DtmfEvent,
    level,
    vad::{self, TalkChange, Vad},
};

use super::{inband::Tones, plan::Watch, tick::TICK_MS};

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
    talk: Option<Talk>,
    tones: Option<Box<Tones>>,
}

/// Who talks, and how loud.
#[derive(Debug)]
pub(crate) struct Talk {
    vad: Vad,
    /// Length of the running talk so far.
    talk_ms: u64,
    /// Mean square, full scale being one.
    power: f64,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It talks.
    TalkStarted,
    /// It talks no more.
    TalkStopped {
        /// From the first to the last sound.
        duration_ms: u64,
    },
    /// A digit sounds, or no more.
    Digit(DtmfEvent),
}

impl Observer {
    /// What `watch` asks for, going on from `before`.
    pub(crate) fn new(watch: Watch, rate_hz: u32, before: Option<Self>) -> Self {
        let Watch { talk, digits } = watch;
        let (talked, tones) = before.map_or((None, None), |before| (before.talk, before.tones));
        let tones = tones.filter(|tones| digits && tones.rate_hz() == rate_hz);
        Self {
            talk: talk.then(|| talked.unwrap_or_else(Talk::new)),
            tones: match digits {
                true => tones.or_else(|| Tones::new(rate_hz).map(Box::new)),
                false => None,
            },
        }
    }

    /// Takes the next tick in; `silent`: it is the noise of a silence that the peer told.
    pub(crate) fn observe(&mut self, pcm: &[i16], silent: bool, mut tell: impl FnMut(Notice)) {
        let dbov = match silent {
            true => SILENCE_DBOV,
            false => level::dbov(pcm).max(SILENCE_DBOV),
        };
        if let Some(notice) = self.talk.as_mut().and_then(|talk| talk.observe(dbov)) {
            tell(notice);
        }
        if let Some(tones) = &mut self.tones {
            tones.look(pcm, |event| tell(Notice::Digit(event)));
        }
    }

    /// No more ticks come for now: it is silent.
    pub(crate) fn rest(&mut self) {
        if let Some(talk) = &mut self.talk {
            talk.power = 0.0;
        }
    }

    pub(crate) fn talk(&self) -> Option<&Talk> {
        self.talk.as_ref()
    }

    pub(crate) fn tones(&self) -> Option<&Tones> {
        self.tones.as_deref()
    }
}

impl Talk {
    fn new() -> Self {
        Self {
            vad: Vad::new(VAD_HZ),
            talk_ms: 0,
            power: 0.0,
        }
    }

    fn observe(&mut self, dbov: f64) -> Option<Notice> {
        self.power += (10_f64.powf(dbov / 10.0) - self.power) * LEVEL_FOLLOWS;
        self.talk_ms += u64::from(TICK_MS);
        match self.vad.process_level(dbov, VAD_TICK_SAMPLES)? {
            TalkChange::Started => {
                self.talk_ms = vad::START_MS.into();
                Some(Notice::TalkStarted)
            }
            TalkChange::Stopped => Some(Notice::TalkStopped {
                duration_ms: self.talk_ms.saturating_sub(vad::HANGOVER_MS.into()),
            }),
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
