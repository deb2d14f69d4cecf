//! What a player plays: its items one after another, at the session's sampling rate.

use std::sync::Arc;

use codecs::{mix::Gain, resample::Resampler, tone::ToneGenerator};

use crate::{
    command::Prompt,
    spec::{NodeKind, NodeSpec, PlayItem, PlaySource, PlayerSpec},
};

/// Progress of one player.
#[derive(Debug)]
pub(crate) struct Playback {
    pub(crate) node: Arc<NodeSpec>,
    rate_hz: u32,
    /// One for each item that is a prompt, in their order.
    prompts: Box<[Arc<Prompt>]>,
    gain: Gain,
    /// Times the items were played.
    rounds: u32,
    item: usize,
    /// Samples of the item that were played, at the rate of `rate_hz`.
    played: u64,
    tone: Option<ToneGenerator>,
    /// Prompts are kept at 8 and 16 kHz: from 16 to 48 where that is asked for.
    resampler: Option<Resampler>,
    finished: bool,
}

/// What a tick of a player was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Played {
    /// There is something to hear, or silence that belongs to the items.
    Sound,
    /// Paused, or over for some time.
    Nothing,
    /// The last item ended in this tick.
    Finished,
}

impl Playback {
    pub(crate) fn new(node: Arc<NodeSpec>, prompts: Box<[Arc<Prompt>]>, rate_hz: u32) -> Self {
        let mut playback = Self {
            gain: Gain::new(codecs::mix::gain_from_db(
                spec(&node).map_or(0.0, |player| player.gain_db),
            )),
            node,
            rate_hz,
            prompts,
            rounds: 0,
            item: 0,
            played: 0,
            tone: None,
            resampler: Resampler::new(16_000, rate_hz).ok().filter(|_| rate_hz > 16_000),
            finished: false,
        };
        playback.begin_item();
        playback
    }

    /// Goes on where `before` was, if it played the same.
    pub(crate) fn resume(mut self, before: &Self) -> Self {
        let same = match (spec(&self.node), spec(&before.node)) {
            (Some(new), Some(old)) => new.items == old.items && new.repeat == old.repeat,
            (Some(_) | None, _) => false,
        };
        if !same {
            return self;
        }
        self.rounds = before.rounds;
        self.finished = before.finished;
        self.item = before.item;
        self.begin_item();
        self.played = before.played * u64::from(self.rate_hz) / u64::from(before.rate_hz);
        if before.rate_hz == self.rate_hz {
            self.tone = before.tone.clone();
        } else if let Some(tone) = &mut self.tone {
            // A cadence goes on where it was.
            let mut left = self.played;
            let mut skipped = [0; 480];
            while left > 0 {
                let step = left.min(skipped.len() as u64);
                tone.generate(&mut skipped[..step as usize]);
                left -= step;
            }
        }
        let mut gain = before.gain;
        gain.set(codecs::mix::gain_from_db(
            spec(&self.node).map_or(0.0, |player| player.gain_db),
        ));
        self.gain = gain;
        self
    }

    /// Nothing will come of itself.
    pub(crate) fn is_idle(&self) -> bool {
        self.finished || spec(&self.node).is_none_or(|player| player.paused)
    }

    /// The next tick.
    pub(crate) fn play(&mut self, frame: &mut [i16]) -> Played {
        frame.fill(0);
        if self.is_idle() {
            return Played::Nothing;
        }
        let mut written = 0;
        // Items without a sample in them must not be gone through for ever.
        let mut empty = 0;
        while written < frame.len() && !self.finished {
            let count = self.play_item(&mut frame[written..]);
            written += count;
            empty = if count == 0 { empty + 1 } else { 0 };
            if written < frame.len() {
                self.next_item();
            }
            self.finished |= empty > crate::limits::PLAY_ITEMS_MAX;
        }
        self.gain.apply(frame);
        if self.finished {
            Played::Finished
        } else {
            Played::Sound
        }
    }

    /// Writes what is left of the item, as far as there is room; returns the samples.
    fn play_item(&mut self, room: &mut [i16]) -> usize {
        let Some(item) = spec(&self.node).and_then(|player| player.items.get(self.item)) else {
            return 0;
        };
        let count = match &item.source {
            PlaySource::Tone(..) => match &mut self.tone {
                Some(tone) => {
                    tone.generate(room);
                    room.len()
                }
                None => 0,
            },
            PlaySource::Silence(ms) => {
                let samples = u64::from(*ms) * u64::from(self.rate_hz) / 1_000;
                room.len().min(samples.saturating_sub(self.played) as usize)
            }
            PlaySource::Prompt(name) => match self.prompts.iter().find(|prompt| prompt.name == *name) {
                Some(prompt) => play_prompt(prompt, self.rate_hz, self.played, self.resampler.as_mut(), room),
                None => 0,
            },
        };
        self.played += count as u64;
        count
    }

    fn next_item(&mut self) {
        let Some(player) = spec(&self.node) else { return };
        self.item += 1;
        if self.item >= player.items.len() {
            self.item = 0;
            self.rounds = self.rounds.saturating_add(1);
            self.finished = player.repeat.is_some_and(|repeat| self.rounds >= repeat);
        }
        self.begin_item();
    }

    fn begin_item(&mut self) {
        let Some(PlayItem { source, start_ms }) =
            spec(&self.node).and_then(|player| player.items.get(self.item))
        else {
            return;
        };
        self.played = u64::from(*start_ms) * u64::from(self.rate_hz) / 1_000;
        self.tone = match source {
            PlaySource::Tone(country, tone) => {
                Some(ToneGenerator::call_progress(*country, *tone, self.rate_hz))
            }
            PlaySource::Silence(_) | PlaySource::Prompt(_) => None,
        };
    }
}

fn spec(node: &NodeSpec) -> Option<&PlayerSpec> {
    match &node.kind {
        NodeKind::Player(player) => Some(player),
        NodeKind::Endpoint(_) | NodeKind::Room(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => None,
    }
}

/// Writes samples of a prompt from `played` on.
fn play_prompt(
    prompt: &Prompt,
    rate_hz: u32,
    played: u64,
    resampler: Option<&mut Resampler>,
    room: &mut [i16],
) -> usize {
    let Some(resampler) = resampler else {
        let pcm = if rate_hz == 8_000 {
            &prompt.pcm_8k
        } else {
            &prompt.pcm_16k
        };
        let left = pcm.get(played as usize..).unwrap_or_default();
        let count = left.len().min(room.len());
        room[..count].copy_from_slice(&left[..count]);
        return count;
    };
    let left = prompt.pcm_16k.get(played as usize / 3..).unwrap_or_default();
    let count = left.len().min(room.len() / 3);
    resampler.process(&left[..count], room).unwrap_or(0)
}
