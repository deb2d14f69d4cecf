//! What a player plays: its items one after another, at the session's sampling rate.

use std::sync::Arc;

use codecs::{
    mix::{self, Gain},
    resample::Resampler,
    tone::ToneGenerator,
};

use crate::{
    command::{PlayEnd, PlayerPrompts, Prompt, PromptSound, SampleStream, StreamRead, StreamState},
    limits,
    spec::{NodeSpec, PlayItem, PlaySource, PlayerSpec},
};

/// Longest piece that is converted at a time: 10 ms at the highest rate.
const PIECE: usize = 480;
/// Positions in a tone are taken in this, so that finding one has a bound: a whole number of every cadence's periods but
/// for those whose place nobody can tell.
const LONGEST_CADENCE_S: u64 = 60;
/// Rates of mixes, and so of prompts.
const RATES_HZ: [u32; 3] = [8_000, 16_000, 48_000];

/// Progress of one player. Nothing in it allocates once it is made.
#[derive(Debug)]
pub(crate) struct Playback {
    pub(crate) node: Arc<NodeSpec>,
    rate_hz: u32,
    /// One for each item.
    clips: Box<[Clip]>,
    gain: Gain,
    /// Times the items were played.
    rounds: u32,
    item: usize,
    /// Samples of the item that were taken, at its clip's rate.
    taken: u64,
    /// The item gives no more.
    item_ended: bool,
    /// From each rate of [`RATES_HZ`] that is not the session's, where a clip has it.
    converters: [Option<Box<Resampler>>; 3],
    /// Converted and not yet played.
    spare: Box<[i16]>,
    spare_from: usize,
    spare_to: usize,
    ended: bool,
}

/// What an item is played from.
#[derive(Debug)]
enum Clip {
    Tone(ToneGenerator),
    Silence,
    Whole(Arc<Prompt>),
    /// A file that is read ahead; `fresh`: it stands where the item begins.
    Stream {
        stream: Box<dyn SampleStream>,
        fresh: bool,
    },
    /// The host did not give what it needs.
    Missing,
}

/// What a tick of a player was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Played {
    /// There is something to hear, or silence that belongs to the items.
    Sound,
    /// A stream had nothing ready for the end of the tick, or all of it: silence, and it goes on from there.
    Late,
    /// Paused, or over for some time.
    Nothing,
    /// It ended in this tick.
    Finished(PlayEnd),
}

impl Playback {
    /// `before` is what played for the node until now.
    pub(crate) fn new(
        node: Arc<NodeSpec>,
        given: Option<&mut PlayerPrompts>,
        rate_hz: u32,
        before: Option<Self>,
    ) -> Self {
        let before = before.filter(|before| match (node.player(), before.node.player()) {
            (Some(new), Some(old)) => new.continues(old),
            (Some(_) | None, _) => false,
        });
        let mut playback = Self {
            clips: Box::default(),
            gain: Gain::new(gain_of(&node)),
            node,
            rate_hz: 0,
            rounds: 0,
            item: 0,
            taken: 0,
            item_ended: false,
            converters: [const { None }; 3],
            spare: vec![0; 6 * PIECE].into_boxed_slice(),
            spare_from: 0,
            spare_to: 0,
            ended: false,
        };
        let fresh = before.is_none();
        if let Some(before) = before {
            playback.go_on(before, given);
        } else {
            playback.clips = clips(&playback.node, given, Vec::new());
        }
        playback.retune(rate_hz);
        if fresh {
            playback.begin_item();
        }
        playback
    }

    /// Goes on where `before` was, with its streams.
    fn go_on(&mut self, before: Self, given: Option<&mut PlayerPrompts>) {
        let items_before = before.clips.len();
        let rate_before = before.clip_hz();
        self.rounds = before.rounds;
        self.item = before.item;
        self.taken = before.taken;
        self.item_ended = before.item_ended;
        self.ended = before.ended;
        self.rate_hz = before.rate_hz;
        self.gain = before.gain;
        self.gain.set(gain_of(&self.node));
        self.clips = clips(&self.node, given, before.clips.into_vec());
        // What they remember of the sound before goes on into what follows.
        self.converters = before.converters;
        self.spare = before.spare;
        (self.spare_from, self.spare_to) = (before.spare_from, before.spare_to);
        let rate = self.clip_hz();
        if rate != rate_before {
            self.taken = self.taken * u64::from(rate) / u64::from(rate_before);
        }
        if self.ended && self.clips.len() > items_before {
            // What was added to a list that is over is played once.
            self.ended = false;
            self.item = items_before;
            self.begin_item();
        }
    }

    /// Plays at `rate_hz` from now on.
    pub(crate) fn retune(&mut self, rate_hz: u32) {
        if self.rate_hz != rate_hz {
            let tone = matches!(self.clips.get(self.item), Some(Clip::Tone(_) | Clip::Silence));
            if tone && self.rate_hz != 0 {
                self.taken = self.taken * u64::from(rate_hz) / u64::from(self.rate_hz);
            }
            self.rate_hz = rate_hz;
            self.converters = [const { None }; 3];
            (self.spare_from, self.spare_to) = (0, 0);
            if tone && rate_hz != 0 {
                let position_ms = self.taken * 1_000 / u64::from(rate_hz);
                self.begin_item_at(u32::try_from(position_ms).unwrap_or(u32::MAX));
            }
        }
        for clip in &self.clips {
            let from_hz = clip.rate_hz(rate_hz);
            let place = RATES_HZ.iter().position(|hz| *hz == from_hz);
            if let Some(place) = place.filter(|_| from_hz != rate_hz) {
                let converter = &mut self.converters[place];
                if converter.is_none() {
                    *converter = Resampler::new(from_hz, rate_hz).ok().map(Box::new);
                }
            }
        }
    }

    /// The rate of what it plays.
    pub(crate) fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Nothing will come of itself.
    pub(crate) fn is_idle(&self) -> bool {
        self.ended || self.node.player().is_none_or(|player| player.paused)
    }

    /// It came to its end.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Plays no more; false if it did not play any more before.
    pub(crate) fn stop(&mut self) -> bool {
        !std::mem::replace(&mut self.ended, true)
    }

    /// Goes on in another place.
    pub(crate) fn seek(&mut self, item: usize, position_ms: u32) {
        if item >= self.clips.len() {
            return;
        }
        if std::mem::take(&mut self.ended) {
            self.rounds = 0;
        }
        self.item = item;
        self.begin_item_at(position_ms);
    }

    /// The next tick.
    pub(crate) fn play(&mut self, frame: &mut [i16]) -> Played {
        if self.is_idle() {
            frame.fill(0);
            return Played::Nothing;
        }
        let mut written = 0;
        // Items without a sample in them must not be gone through for ever.
        let mut empty = 0;
        let mut played = Played::Sound;
        while written < frame.len() {
            if empty > limits::PLAY_ITEMS_MAX {
                self.ended = true;
                played = Played::Finished(PlayEnd::End);
                break;
            }
            if self.item_ended && self.spare_from == self.spare_to {
                empty += 1;
                if !self.next_item() {
                    self.ended = true;
                    played = Played::Finished(PlayEnd::End);
                    break;
                }
                continue;
            }
            match self.take(&mut frame[written..]) {
                Ok(0) if !self.item_ended => {
                    played = Played::Late;
                    break;
                }
                Ok(0) => {}
                Ok(count) => {
                    written += count;
                    empty = 0;
                }
                Err(Broken) => {
                    self.ended = true;
                    played = Played::Finished(PlayEnd::Error);
                    break;
                }
            }
        }
        frame[written..].fill(0);
        self.gain.apply(frame);
        played
    }

    /// Takes samples of the item, as many as there is room for and are at hand.
    fn take(&mut self, room: &mut [i16]) -> Result<usize, Broken> {
        let from_hz = self.clip_hz();
        if from_hz == self.rate_hz {
            return self.read_clip(room);
        }
        if self.spare_from == self.spare_to {
            let mut piece = [0; PIECE];
            let read = self.read_clip(&mut piece[..(from_hz / 100) as usize])?;
            let place = RATES_HZ.iter().position(|hz| *hz == from_hz);
            let converter = place.and_then(|place| self.converters[place].as_deref_mut());
            self.spare_from = 0;
            self.spare_to = match converter {
                Some(converter) => converter.process(&piece[..read], &mut self.spare).unwrap_or(0),
                None => 0,
            };
        }
        let ready = &self.spare[self.spare_from..self.spare_to];
        let count = ready.len().min(room.len());
        room[..count].copy_from_slice(&ready[..count]);
        self.spare_from += count;
        Ok(count)
    }

    fn read_clip(&mut self, room: &mut [i16]) -> Result<usize, Broken> {
        let Some(clip) = self.clips.get_mut(self.item) else {
            return Err(Broken);
        };
        let item = self.node.player().and_then(|player| player.items.get(self.item));
        let read = match clip {
            Clip::Tone(tone) => {
                let samples = tone.generate(room);
                let state = match tone.is_finished() {
                    true => StreamState::End,
                    false => StreamState::Ready,
                };
                StreamRead { samples, state }
            }
            Clip::Silence => {
                let ms = match item.map(|item| &item.source) {
                    Some(PlaySource::Silence(ms)) => *ms,
                    Some(PlaySource::Tone(..) | PlaySource::Prompt(_)) | None => 0,
                };
                let samples = u64::from(ms) * u64::from(self.rate_hz) / 1_000;
                let left = samples.saturating_sub(self.taken);
                let count = left.min(room.len() as u64) as usize;
                room[..count].fill(0);
                read_of(count, left)
            }
            Clip::Whole(prompt) => {
                let pcm = samples(prompt);
                let left =
                    usize::try_from(self.taken).map_or(&[][..], |at| pcm.get(at..).unwrap_or_default());
                let count = left.len().min(room.len());
                room[..count].copy_from_slice(&left[..count]);
                read_of(count, left.len() as u64)
            }
            Clip::Stream { stream, fresh } => {
                let read = stream.read(room);
                *fresh = read.state == StreamState::End || (*fresh && read.samples == 0);
                read
            }
            Clip::Missing => return Err(Broken),
        };
        self.taken += read.samples as u64;
        match read.state {
            StreamState::Ready | StreamState::Late => {}
            StreamState::End => self.item_ended = true,
            StreamState::Broken => return Err(Broken),
        }
        Ok(read.samples)
    }

    /// False when all items were played as often as they should.
    fn next_item(&mut self) -> bool {
        let Some(player) = self.node.player() else {
            return false;
        };
        self.item += 1;
        if self.item >= self.clips.len() {
            self.item = 0;
            self.rounds = self.rounds.saturating_add(1);
            if player.repeat.is_some_and(|repeat| self.rounds >= repeat) {
                return false;
            }
        }
        self.begin_item();
        true
    }

    fn begin_item(&mut self) {
        let item = self.node.player().and_then(|player| player.items.get(self.item));
        let start_ms = item.map_or(0, |item| item.start_ms);
        self.begin_item_at(start_ms);
    }

    fn begin_item_at(&mut self, position_ms: u32) {
        let rate_hz = self.clip_hz();
        let item = self.node.player().and_then(|player| player.items.get(self.item));
        let start_ms = item.map_or(0, |item| item.start_ms);
        self.taken = u64::from(position_ms) * u64::from(rate_hz) / 1_000;
        self.item_ended = false;
        (self.spare_from, self.spare_to) = (0, 0);
        for converter in self.converters.iter_mut().flatten() {
            converter.reset();
        }
        match self.clips.get_mut(self.item) {
            Some(Clip::Tone(tone)) => {
                if let Some(PlaySource::Tone(country, progress)) = item.map(|item| &item.source) {
                    *tone = ToneGenerator::call_progress(*country, *progress, self.rate_hz);
                    skip(tone, self.taken % (LONGEST_CADENCE_S * u64::from(self.rate_hz)));
                }
            }
            Some(Clip::Stream { stream, fresh }) => {
                if !*fresh || position_ms != start_ms {
                    stream.seek(self.taken);
                }
                *fresh = position_ms == start_ms;
            }
            Some(Clip::Silence | Clip::Whole(_) | Clip::Missing) | None => {}
        }
    }

    fn clip_hz(&self) -> u32 {
        let clip = self.clips.get(self.item);
        clip.map_or(self.rate_hz, |clip| clip.rate_hz(self.rate_hz))
    }
}

/// The item cannot be played any further.
struct Broken;

/// Goes on as many samples further on.
fn skip(tone: &mut ToneGenerator, mut samples: u64) {
    let mut skipped = [0; PIECE];
    while samples > 0 {
        let step = samples.min(PIECE as u64);
        tone.generate(&mut skipped[..step as usize]);
        samples -= step;
    }
}

fn read_of(samples: usize, left: u64) -> StreamRead {
    let state = if samples as u64 == left {
        StreamState::End
    } else {
        StreamState::Ready
    };
    StreamRead { samples, state }
}

fn samples(prompt: &Prompt) -> &[i16] {
    match &prompt.sound {
        PromptSound::Whole { pcm, .. } => pcm,
        PromptSound::Streamed => &[],
    }
}

impl Clip {
    /// The rate of its samples, in a session of `rate_hz`.
    fn rate_hz(&self, rate_hz: u32) -> u32 {
        match self {
            Self::Whole(prompt) => match &prompt.sound {
                PromptSound::Whole { rate_hz, .. } => *rate_hz,
                PromptSound::Streamed => rate_hz,
            },
            Self::Stream { stream, .. } => stream.rate_hz(),
            Self::Tone(_) | Self::Silence | Self::Missing => rate_hz,
        }
    }
}

fn gain_of(node: &NodeSpec) -> i32 {
    mix::gain_from_db(node.player().map_or(0.0, |player| player.gain_db))
}

/// What the items of `node` are played from; what `before` played for those it had goes on.
fn clips(node: &NodeSpec, given: Option<&mut PlayerPrompts>, before: Vec<Clip>) -> Box<[Clip]> {
    let items: &[PlayItem] = node.player().map_or(&[], |player: &PlayerSpec| &player.items);
    let (mut prompts, mut streams) = (Vec::new(), Vec::new());
    if let Some(given) = given {
        prompts.extend(given.prompts.iter().cloned());
        streams = std::mem::take(&mut given.streams);
    }
    let (mut prompts, mut before) = (prompts.into_iter(), before.into_iter());
    let clip = |(index, item): (usize, &PlayItem)| {
        let before = before.next();
        let prompt = match &item.source {
            PlaySource::Tone(country, tone) => {
                // Begun, at the right rate, with the item.
                let begun = || Clip::Tone(ToneGenerator::call_progress(*country, *tone, RATES_HZ[0]));
                return before.unwrap_or_else(begun);
            }
            PlaySource::Silence(_) => return Clip::Silence,
            PlaySource::Prompt(_) => prompts.next(),
        };
        let stream = streams.iter().position(|(of, _)| *of == index);
        match (before, prompt, stream) {
            (Some(Clip::Stream { stream, fresh }), ..) => Clip::Stream { stream, fresh },
            (_, _, Some(at)) => Clip::Stream {
                stream: streams.swap_remove(at).1,
                fresh: true,
            },
            (_, Some(prompt), None) if prompt.sound != PromptSound::Streamed => Clip::Whole(prompt),
            (Some(before), ..) => before,
            (None, ..) => Clip::Missing,
        }
    };
    items.iter().enumerate().map(clip).collect()
}
