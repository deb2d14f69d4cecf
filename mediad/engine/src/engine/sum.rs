//! The sum of a room: who is in it, how loud, and the loudest few where only they are to be heard.

use codecs::{
    level,
    mix::{self, Gain, Ramp, UNITY},
};

use super::{mixer::Source, plan::Tones};
use crate::spec::Name;

/// Who is not in the sum takes the place of one who is only when it is four times (6 dB) as loud …
const LOUDER: f32 = 4.0;
/// … and the other had its place for so many ticks, or it is sixteen times (12 dB) as loud.
const KEPT_TICKS: u32 = 10;
const MUCH_LOUDER: f32 = 16.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sum {
    /// And what becomes of tones in it.
    pub(crate) room: (Name, Tones),
    pub(crate) inputs: Box<[Input]>,
    /// Of this tick.
    pub(crate) total: Box<[i32]>,
    /// Inputs as they were added, where that is not as they came: one tick each.
    scaled: Box<[i32]>,
    talkers: Option<Talkers>,
    /// Of those who say that they are silent, the one whose background is heard: all of them together would be a storm.
    background: Option<u32>,
    /// Nobody hears it any more but while it fades.
    pub(crate) ghost: bool,
}

/// A source in the sum.
#[derive(Debug)]
pub(crate) struct Input {
    /// Its place among the mixer's sources.
    pub(crate) source: u32,
    /// Gain of its edge; 0 for one that left and fades.
    edge: i32,
    /// What that comes to now.
    gain: Gain,
    part: Part,
    /// Ticks since it was in the sum.
    pub(crate) silent_ticks: u32,
}

/// What an input gave to this tick's total.
#[derive(Debug, Clone, Copy)]
enum Part {
    Nothing,
    /// Its source's frame.
    Plain,
    /// What is in this place of the scaled.
    Scaled(u32),
}

/// What an input gave to the total, to take out again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Own<'a> {
    Nothing,
    Plain(&'a [i16]),
    Scaled(&'a [i32]),
}

impl Input {
    /// `before`: how loud it was until now; `None`: there was no sum, so that nothing changes.
    pub(crate) fn new(source: u32, edge: i32, before: Option<i32>) -> Self {
        let mut gain = Gain::new(before.unwrap_or(edge));
        gain.set(edge);
        Self {
            source,
            edge,
            gain,
            part: Part::Nothing,
            silent_ticks: u32::MAX,
        }
    }

    /// How loud it is now.
    pub(crate) fn gain(&self) -> i32 {
        self.gain.value()
    }
}

impl Sum {
    /// A sum of `inputs`, the loudest `top` of which are heard. `talked` are the places of those that were.
    pub(crate) fn new(
        room: (Name, Tones),
        mut inputs: Vec<Input>,
        top: Option<u16>,
        talked: &[u32],
        samples: usize,
    ) -> Self {
        let talkers = top.map(|top| Talkers::new(top.into(), talked, &mut inputs));
        let is_scaled = |input: &&Input| input.edge != UNITY || input.gain() != UNITY;
        let scaled = match &talkers {
            // Those who are heard, as many who just were, and who left.
            Some(talkers) => {
                let left = inputs.iter().filter(|input| input.edge == 0).count();
                (2 * talkers.top + left).min(inputs.len())
            }
            None => inputs.iter().filter(is_scaled).count(),
        };
        Self {
            room,
            inputs: inputs.into(),
            total: vec![0; samples].into(),
            scaled: vec![0; samples * scaled].into(),
            talkers,
            background: None,
            ghost: false,
        }
    }

    /// Places of those who are heard, where only the loudest are.
    pub(crate) fn talkers(&self) -> &[u32] {
        self.talkers.as_ref().map_or(&[], |talkers| &talkers.places)
    }

    pub(crate) fn is_ranked(&self) -> bool {
        self.talkers.is_some()
    }

    /// Sums this tick up.
    pub(crate) fn add_up(&mut self, sources: &[Source]) {
        let Self {
            inputs,
            total,
            scaled,
            talkers,
            background,
            ..
        } = self;
        *background = loudest_silent(inputs, sources, *background);
        if let Some(talkers) = talkers {
            talkers.choose(inputs, sources);
        }
        total.fill(0);
        let samples = total.len();
        let mut places = scaled.chunks_exact_mut(samples).zip(0..);
        for (input, at) in inputs.iter_mut().zip(0..) {
            let source = &sources[input.source as usize];
            let is_muted = input.gain.is_muted();
            let is_hidden = source.silent && *background != Some(at);
            let ramp = input.gain.advance(samples);
            input.part = if !source.heard || is_muted || is_hidden {
                Part::Nothing
            } else if ramp.is_unity() {
                mix::add(total, &source.frame);
                Part::Plain
            } else if let Some((part, place)) = places.next() {
                ramp.scale(&source.frame, part);
                mix::add(total, part);
                Part::Scaled(place)
            } else {
                Part::Nothing
            };
            input.silent_ticks = match input.part {
                Part::Nothing => input.silent_ticks.saturating_add(1),
                Part::Plain | Part::Scaled(_) => 0,
            };
        }
    }

    /// What the input in `place` gave.
    pub(crate) fn part<'a>(&'a self, place: u32, sources: &'a [Source]) -> Own<'a> {
        let input = &self.inputs[place as usize];
        match input.part {
            Part::Nothing => Own::Nothing,
            Part::Plain => Own::Plain(&sources[input.source as usize].frame),
            Part::Scaled(at) => {
                let from = at as usize * self.total.len();
                Own::Scaled(&self.scaled[from..from + self.total.len()])
            }
        }
    }
}

/// The place of the loudest background of those who say that they are silent. Whose is heard goes on being heard until
/// another is twice (3 dB) as loud.
fn loudest_silent(inputs: &[Input], sources: &[Source], before: Option<u32>) -> Option<u32> {
    let mut loudest: Option<(u32, f32)> = None;
    for (input, at) in inputs.iter().zip(0..) {
        let source = &sources[input.source as usize];
        if !(source.silent && source.heard) || input.gain.is_muted() {
            continue;
        }
        let kept = if before == Some(at) { 2.0 } else { 1.0 };
        let power = level::energy(&source.frame) as f32 * kept;
        if loudest.is_none_or(|(_, loud)| power > loud) {
            loudest = Some((at, power));
        }
    }
    loudest.map(|(at, _)| at)
}

impl Own<'_> {
    /// Takes it out of a sum to which its room was added through `ramp`.
    pub(crate) fn subtract(self, ramp: Ramp, sum: &mut [i32]) {
        match self {
            Self::Nothing => {}
            Self::Plain(part) => ramp.subtract(sum, part),
            Self::Scaled(part) => ramp.subtract(sum, part),
        }
    }
}

/// The loudest few of a room. Whoever has a place keeps it through the pauses between words.
#[derive(Debug)]
struct Talkers {
    top: usize,
    /// Places among the inputs of those who are heard; room for `top`.
    places: Vec<u32>,
    /// Ticks that each has been.
    kept: Vec<u32>,
}

impl Talkers {
    /// Those who `talked` before are heard, as far as there is room; all others are silent or fade.
    fn new(top: usize, talked: &[u32], inputs: &mut [Input]) -> Self {
        let mut places = Vec::with_capacity(top);
        places.extend(talked.iter().take(top));
        let mut kept = Vec::with_capacity(top);
        kept.resize(places.len(), 0);
        for (place, input) in (0..).zip(inputs) {
            if !places.contains(&place) {
                input.gain.set(0);
            }
        }
        Self { top, places, kept }
    }

    fn choose(&mut self, inputs: &mut [Input], sources: &[Source]) {
        for kept in &mut self.kept {
            *kept = kept.saturating_add(1);
        }
        while let Some(loudest) = self.loudest_other(inputs, sources) {
            let loudness = |place: u32| sources[inputs[place as usize].source as usize].loudness;
            if self.places.len() < self.top {
                self.places.push(loudest);
                self.kept.push(0);
            } else {
                let held = (0..self.places.len()).min_by(|a, b| {
                    let [a, b] = [a, b].map(|at| loudness(self.places[*at]));
                    a.total_cmp(&b)
                });
                let Some(held) = held.filter(|held| {
                    let (new, old) = (loudness(loudest), loudness(self.places[*held]));
                    new > LOUDER * old && (self.kept[*held] >= KEPT_TICKS || new > MUCH_LOUDER * old)
                }) else {
                    return;
                };
                inputs[self.places[held] as usize].gain.set(0);
                self.places[held] = loudest;
                self.kept[held] = 0;
            }
            let input = &mut inputs[loudest as usize];
            input.gain.set(input.edge);
        }
    }

    /// Of those who speak and are not heard.
    fn loudest_other(&self, inputs: &[Input], sources: &[Source]) -> Option<u32> {
        let mut loudest = None;
        for (place, input) in (0..).zip(inputs) {
            let source = &sources[input.source as usize];
            if source.heard
                && input.edge != 0
                && loudest.is_none_or(|(_, loudness)| source.loudness > loudness)
                && !self.places.contains(&place)
            {
                loudest = Some((place, source.loudness));
            }
        }
        loudest.map(|(place, _)| place)
    }
}
