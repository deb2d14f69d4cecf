//! Players that many sessions share, such as music on hold: played once a tick for all, and encoded once for all who
//! take the same codec and packet time.
//!
//! A tick has one number in every session of an engine, whatever its phase. The first session that asks in a tick makes
//! the frame, or the payload; all others of that tick get the same.

use std::sync::Arc;

use codecs::{CodecKind, mix, opus, resample::Resampler};

use super::{
    encoding::Encoding,
    mixer::Moment,
    plan,
    playback::{Playback, Played},
    tick::TICK_MS,
};
use crate::{command::PlayerPrompts, limits, spec::NodeSpec};

/// Most packets of one encoder in a tick: of 10 ms.
const PAYLOADS_MAX: usize = 2;
const PAYLOAD_BYTES_MAX: usize = 1_500;

/// One source for all sessions of an engine that have its player. Ticks do not allocate.
#[derive(Debug, Default)]
pub(crate) struct SharedPlayers(Vec<Option<Slot>>);

/// A player in use.
#[derive(Debug)]
struct Slot {
    playback: Playback,
    /// Sessions that have it.
    users: usize,
    /// The tick that was played last.
    tick: Option<u64>,
    sounds: bool,
    /// At its own rate first.
    views: Vec<View>,
    encodings: Vec<SharedEncoding>,
}

/// The sound of a tick at one rate.
#[derive(Debug)]
struct View {
    rate_hz: u32,
    /// From the player's own rate.
    converter: Option<Resampler>,
    frame: Box<[i16]>,
    tick: Option<u64>,
}

/// An encoder for all who want the same.
#[derive(Debug)]
struct SharedEncoding {
    kind: CodecKind,
    ptime_ms: u8,
    /// What listeners ask of Opus; none do of others.
    settings: Option<opus::Settings>,
    encoding: Encoding,
    packets: Packets,
    /// What those hear first who heard another encoder until now, where that matters.
    starter: Option<Box<(Encoding, Packets)>>,
}

/// What an encoder made of a tick.
#[derive(Debug)]
struct Packets {
    tick: Option<u64>,
    payloads: Box<[u8]>,
    /// Bytes of each payload.
    lengths: [usize; PAYLOADS_MAX],
    count: usize,
}

impl View {
    fn new(own_hz: u32, rate_hz: u32) -> Option<Self> {
        let converter = match own_hz == rate_hz {
            true => None,
            false => Some(Resampler::new(own_hz, rate_hz).ok()?),
        };
        Some(Self {
            rate_hz,
            converter,
            frame: vec![0; (rate_hz / 1_000 * TICK_MS) as usize].into_boxed_slice(),
            tick: None,
        })
    }
}

impl SharedPlayers {
    /// One more session has the player `node`. May allocate.
    pub(crate) fn join(
        &mut self,
        node: &Arc<NodeSpec>,
        given: Option<&mut PlayerPrompts>,
        rate_hz: u32,
    ) -> usize {
        // One that came to its end, or broke, is silent for good: who comes begins another.
        let same = |slot: &Slot| match (slot.playback.node.player(), node.player()) {
            (Some(playing), Some(wanted)) => wanted.shares_with(playing) && !slot.playback.is_ended(),
            (Some(_) | None, _) => false,
        };
        if let Some(at) = self.0.iter().position(|slot| slot.as_ref().is_some_and(same)) {
            if let Some(slot) = &mut self.0[at] {
                slot.users += 1;
            }
            return at;
        }
        let slot = Slot {
            playback: Playback::new(running(node), given, rate_hz, None),
            users: 1,
            tick: None,
            sounds: false,
            views: View::new(rate_hz, rate_hz).into_iter().collect(),
            encodings: Vec::new(),
        };
        match self.0.iter().position(Option::is_none) {
            Some(at) => {
                self.0[at] = Some(slot);
                at
            }
            None => {
                self.0.push(Some(slot));
                self.0.len() - 1
            }
        }
    }

    /// One session fewer has it; the last takes it away.
    pub(crate) fn leave(&mut self, at: usize) {
        let Some(slot) = self.0.get_mut(at) else { return };
        if let Some(playing) = slot {
            playing.users -= 1;
            if playing.users == 0 {
                *slot = None;
            }
        }
    }

    /// Its sound will be wanted at `rate_hz`. May allocate.
    pub(crate) fn expect_rate(&mut self, at: usize, rate_hz: u32) {
        if let Some(Some(slot)) = self.0.get_mut(at)
            && slot.views.iter().all(|view| view.rate_hz != rate_hz)
        {
            let own_hz = slot.views.first().map_or(rate_hz, |own| own.rate_hz);
            slot.views.extend(View::new(own_hz, rate_hz));
        }
    }

    /// The encoder for listeners like those of `group`; none where there are as many as there may be. May allocate.
    pub(crate) fn expect_encoding(&mut self, at: usize, group: &plan::Group) -> Option<usize> {
        let slot = self.0.get_mut(at)?.as_mut()?;
        let settings = (group.kind == CodecKind::Opus).then(|| opus::Settings {
            // Nobody tells a shared encoder what is lost, so there are no copies of anything.
            inband_fec: false,
            ..opus::Settings::asked(&group.format.fmtp)
        });
        let wanted = (group.kind, group.ptime_ms, settings);
        let same = |one: &SharedEncoding| (one.kind, one.ptime_ms, one.settings) == wanted;
        if let Some(at) = slot.encodings.iter().position(same) {
            return Some(at);
        }
        if slot.encodings.len() >= limits::SHARED_ENCODINGS_MAX {
            return None;
        }
        let own_hz = slot.views.first()?.rate_hz;
        let encoding = Encoding::new(group, own_hz)?;
        let starter = match encoding.can_go_on() {
            true => None,
            false => Some(Box::new((Encoding::new(group, own_hz)?, Packets::new()))),
        };
        slot.encodings.push(SharedEncoding {
            kind: group.kind,
            ptime_ms: group.ptime_ms,
            settings,
            encoding,
            packets: Packets::new(),
            starter,
        });
        Some(slot.encodings.len() - 1)
    }

    /// The player came to its end.
    pub(crate) fn is_ended(&self, at: usize) -> bool {
        let slot = self.0.get(at).and_then(Option::as_ref);
        slot.is_none_or(|slot| slot.playback.is_ended())
    }

    /// Writes its sound of a tick; false, and zeros, when there is none.
    pub(crate) fn hear(&mut self, at: usize, tick: u64, rate_hz: u32, frame: &mut [i16]) -> bool {
        let Some(Some(slot)) = self.0.get_mut(at) else {
            frame.fill(0);
            return false;
        };
        slot.play(tick);
        match slot.view(tick, rate_hz) {
            Some(sound) if sound.len() == frame.len() => frame.copy_from_slice(sound),
            Some(_) | None => frame.fill(0),
        }
        slot.sounds
    }

    /// Gives each payload of a tick, and its length on the clock of the codec, of the player and encoder in these places; for
    /// those who begin to hear it or for those who go on. Gives the time that encoders of Opus are to be taken for, ns.
    pub(crate) fn payloads(
        &mut self,
        (at, encoding, begins): (usize, usize, bool),
        moment: Moment,
        mut each: impl FnMut(u32, &[u8]),
    ) -> u64 {
        let Some(Some(slot)) = self.0.get_mut(at) else {
            return 0;
        };
        slot.play(moment.number);
        let Slot { views, encodings, .. } = slot;
        let (Some(own), Some(shared)) = (views.first(), encodings.get_mut(encoding)) else {
            return 0;
        };
        shared.set_complexity(moment.opus_complexity);
        let ticks = shared.encoding.ticks(shared.ptime_ms);
        let packets = shared.encode(moment.number, &own.frame, begins);
        for (at, length) in packets.lengths[..packets.count].iter().enumerate() {
            each(ticks, &packets.payloads[at * PAYLOAD_BYTES_MAX..][..*length]);
        }
        shared.take_spent()
    }
}

impl Slot {
    /// Plays the tick, if that was not done yet. Ticks in which nobody listened are not missed.
    fn play(&mut self, tick: u64) {
        if self.tick == Some(tick) {
            return;
        }
        self.tick = Some(tick);
        if let Some(own) = self.views.first_mut() {
            let played = self.playback.play(&mut own.frame);
            own.tick = Some(tick);
            self.sounds = played != Played::Nothing && mix::peak(&own.frame) > 0;
        }
    }

    fn view(&mut self, tick: u64, rate_hz: u32) -> Option<&[i16]> {
        let at = self.views.iter().position(|view| view.rate_hz == rate_hz)?;
        let (own, others) = self.views.split_first_mut()?;
        let Some(at) = at.checked_sub(1) else {
            return Some(&own.frame);
        };
        let view = others.get_mut(at)?;
        if view.tick != Some(tick) {
            view.tick = Some(tick);
            let converter = view.converter.as_mut()?;
            converter.process(&own.frame, &mut view.frame).ok()?;
        }
        Some(&view.frame)
    }
}

impl SharedEncoding {
    fn set_complexity(&mut self, complexity: u8) {
        self.encoding.set_complexity(complexity);
        if let Some((starter, _)) = self.starter.as_deref_mut() {
            starter.set_complexity(complexity);
        }
    }

    /// See [`Encoding::take_spent`].
    fn take_spent(&mut self) -> u64 {
        let starter = self.starter.as_deref_mut();
        self.encoding.take_spent() + starter.map_or(0, |(starter, _)| starter.take_spent())
    }

    fn encode(&mut self, tick: u64, frame: &[i16], begins: bool) -> &Packets {
        if self.packets.tick != Some(tick) {
            if let Some((starter, _)) = self.starter.as_deref_mut() {
                // It is ready where its sound is not asked for either.
                starter.skip();
                starter.feed(frame);
            }
            self.encoding.feed(frame);
            self.packets.fill(tick, &mut self.encoding);
        }
        match self.starter.as_deref_mut() {
            Some((starter, packets)) if begins => {
                if packets.tick != Some(tick) {
                    starter.start_anew();
                    packets.fill(tick, starter);
                }
                packets
            }
            Some(_) | None => &self.packets,
        }
    }
}

impl Packets {
    fn new() -> Self {
        Self {
            tick: None,
            payloads: vec![0; PAYLOADS_MAX * PAYLOAD_BYTES_MAX].into_boxed_slice(),
            lengths: [0; PAYLOADS_MAX],
            count: 0,
        }
    }

    fn fill(&mut self, tick: u64, encoding: &mut Encoding) {
        self.tick = Some(tick);
        self.count = 0;
        while self.count < PAYLOADS_MAX {
            let Some(payload) = encoding.poll_payload() else {
                return;
            };
            let room = &mut self.payloads[self.count * PAYLOAD_BYTES_MAX..][..PAYLOAD_BYTES_MAX];
            let length = payload.bytes.len().min(PAYLOAD_BYTES_MAX);
            room[..length].copy_from_slice(&payload.bytes[..length]);
            self.lengths[self.count] = length;
            self.count += 1;
        }
    }
}

/// Pausing it is each session's own matter.
fn running(node: &Arc<NodeSpec>) -> Arc<NodeSpec> {
    let mut node = NodeSpec::clone(node);
    if let crate::spec::NodeKind::Player(player) = &mut node.kind {
        player.paused = false;
    }
    Arc::new(node)
}
