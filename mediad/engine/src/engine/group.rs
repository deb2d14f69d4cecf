//! Listeners that hear the same in the same format: one mix and one encoding for all, and for those who are part of
//! what they hear one of their own while they speak.

use std::time::Duration;

use codecs::mix::{Gain, Limiter, Ramp};

use super::{
    encoding::{Encoding, Payload},
    mixer::{Moment, Relayed, Source},
    plan,
    shared::SharedPlayers,
    slab::Key,
    sum::{Own, Sum},
    tick::TICK_MS,
};
use crate::spec::{Codec, PayloadFormat};

use rtp::units::PayloadType;

/// A member who was heard so many ticks ago still gets a mix of its own where encoders have a memory.
const SPEAKING_TICKS: u32 = 50;
/// So much is encoded for nobody by an encoder that begins in the middle.
const RECENT_TICKS: usize = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) format: plan::Format,
    pub(crate) terms: Box<[Term]>,
    pub(crate) encoding: Option<Encoding>,
    common: Option<Common>,
    /// It heard the encoder of that player in the latest packet.
    pub(crate) tuned: Option<Common>,
    limiter: Limiter,
    /// What it heard in the latest ticks, where encoders need that to begin in the middle …
    recent: Box<[i16]>,
    /// … if its encoder had so many since the latest edit.
    recent_ticks: usize,
    pub(crate) listeners: Box<[Listener]>,
    /// Set until the first packet for those who got packets themselves before.
    pub(crate) begin: Option<Begin>,
}

/// Where listeners begin who were sent the packets of a source until now. Decoding is behind packets, so that what is
/// decoded first was heard before. Until that has passed nothing is sent: to the listener's own buffer the source was late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begin {
    pub(crate) source: u32,
    pub(crate) relayed: Relayed,
}

/// Nothing is sent in ticks up to so long after the latest packet, so that nobody has to wait longer than 60 ms for the next …
const BEGIN_GAP_MAX: Duration = Duration::from_millis(40);
/// … and those in which it is silence, until what a source that paused left waiting is given up.
const BEGIN_SILENT_TICKS_MAX: u32 = 5;

impl Begin {
    /// From which sample of this tick on nothing was heard yet, if any was not.
    fn is_reached(&self, sources: &[Source]) -> Option<usize> {
        let source = &sources[self.source as usize];
        if self.relayed.ticks >= BEGIN_SILENT_TICKS_MAX {
            return Some(0);
        }
        let (stream, played) = source.played.filter(|_| source.sounds)?;
        match stream == self.relayed.stream {
            true => (played > self.relayed.newest).then_some(source.begun),
            false => Some(0),
        }
    }
}

/// A player that many sessions hear, as part of what a group hears: while it is all of it, what was encoded for the others
/// is sent to these as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Common {
    /// Its source.
    pub(crate) source: u32,
    /// Its place among the shared players.
    pub(crate) slot: usize,
    /// Its encoder for listeners like these.
    pub(crate) encoding: usize,
}

/// Part of what a group hears.
#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) of: TermOf,
    pub(crate) gain: Gain,
    /// The gain's course in this tick.
    ramp: Ramp,
}

/// What a term is, by its place in the mixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TermOf {
    Sum(u32),
    Source(u32),
}

impl Term {
    /// From `before` to `gain`.
    pub(crate) fn new(of: TermOf, before: i32, gain: i32) -> Self {
        let mut course = Gain::new(before);
        course.set(gain);
        Self {
            of,
            gain: course,
            ramp: Ramp::UNITY,
        }
    }
}

/// Somebody who hears a group's mix.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) endpoint: Key,
    /// Its own voice in the sums it hears, which it is not to hear: sum and place among its inputs.
    pub(crate) own: Box<[(u32, u32)]>,
    /// For its own mix while it speaks; unset where encoders have no memory.
    pub(crate) encoding: Option<Box<Encoding>>,
    limiter: Limiter,
    /// It had a mix of its own in the latest tick.
    pub(crate) spoke: bool,
    /// It hears nothing of it any more.
    pub(crate) parted: bool,
    /// Share of what it was sent that it told to be lost, in percent.
    loss_percent: u8,
}

impl Listener {
    pub(crate) fn new(
        endpoint: Key,
        own: Vec<(u32, u32)>,
        encoding: Option<Box<Encoding>>,
        spoke: bool,
    ) -> Self {
        Self {
            endpoint,
            own: own.into(),
            encoding,
            limiter: Limiter::new(),
            spoke,
            parted: false,
            loss_percent: 0,
        }
    }

    /// The mix of all is what it hears in this tick.
    fn hears_shared(&self) -> bool {
        !self.spoke && !self.parted
    }

    /// It hears a mix of its own in this tick.
    fn hears_own(&self) -> bool {
        self.spoke && !self.parted
    }
}

/// One payload for one listener.
pub(crate) struct Outgoing<'a> {
    pub(crate) listener: Key,
    /// Who has the turn after it.
    pub(crate) after: &'a [Listener],
    pub(crate) format: &'a PayloadFormat,
    /// Its length on the clock of the format.
    pub(crate) ticks: u32,
    pub(crate) payload: &'a [u8],
    /// It says what a silence is like, and goes under this type.
    pub(crate) silence: Option<PayloadType>,
}

impl<'a> Outgoing<'a> {
    fn new(
        (listener, after): (Key, &'a [Listener]),
        format: &'a plan::Format,
        ticks: u32,
        payload: Payload<'a>,
    ) -> Self {
        let silence = match &format.silence {
            plan::Silence::Described(noise) => Some(noise.payload_type),
            plan::Silence::Discontinuous => Some(format.audio.payload_type),
            plan::Silence::Encoded => None,
        };
        Self {
            listener,
            after,
            format: &format.audio,
            ticks,
            payload: payload.bytes,
            silence: silence.filter(|_| payload.is_silence),
        }
    }
}

/// Space for one mix.
#[derive(Debug)]
pub(crate) struct Work {
    total: Box<[i32]>,
    frame: Box<[i16]>,
}

impl Work {
    pub(crate) fn new(samples: usize) -> Self {
        Self {
            total: vec![0; samples].into(),
            frame: vec![0; samples].into(),
        }
    }

    /// A sum on its own.
    pub(crate) fn limited(&mut self, sum: &[i32], limiter: &mut Limiter) -> &[i16] {
        limiter.all(sum, &mut self.frame);
        &self.frame
    }
}

impl From<plan::Term> for TermOf {
    fn from(term: plan::Term) -> Self {
        match term {
            plan::Term::Sum(sum, _) => Self::Sum(sum),
            plan::Term::Source(source, _) => Self::Source(source),
        }
    }
}

impl Group {
    pub(crate) fn new(
        plan: &plan::Group,
        terms: Vec<Term>,
        listeners: Vec<Listener>,
        (encoding, samples): (Option<Encoding>, usize),
        (common, tuned): (Option<Common>, Option<Common>),
    ) -> Self {
        let has_speakers = listeners.iter().any(|listener| listener.encoding.is_some());
        let needs_recent = has_speakers && encoding.as_ref().is_some_and(|encoding| !encoding.can_go_on());
        let recent = if needs_recent { RECENT_TICKS * samples } else { 0 };
        Self {
            recent: vec![0; recent].into(),
            recent_ticks: 0,
            format: plan.made_for(),
            terms: terms.into(),
            encoding,
            common,
            tuned,
            limiter: Limiter::new(),
            listeners: listeners.into(),
            begin: None,
        }
    }

    /// Encodes what every listener hears in this tick and gives it to `send`. Gives the time that encoders of Opus are to be
    /// taken for, ns.
    pub(crate) fn encode(
        &mut self,
        sources: &[Source],
        sums: &[Sum],
        work: &mut Work,
        (shared, moment): (&mut SharedPlayers, Moment),
        send: &mut impl FnMut(Outgoing<'_>),
    ) -> u64 {
        if self.listeners.iter().all(|listener| listener.parted) {
            return 0;
        }
        let mut first = First::Whole;
        if let Some(begin) = &mut self.begin {
            // Where a packet has to be whole, what is nearer.
            let whole = self
                .encoding
                .as_ref()
                .is_none_or(|encoding| !encoding.is_stateless());
            let half = work.frame.len() / 2;
            match begin.is_reached(sources).filter(|from| !whole || *from <= half) {
                Some(from) => {
                    first = if whole { First::Whole } else { First::From(from) };
                    self.begin = None;
                }
                None => {
                    begin.relayed.ticks += 1;
                    if moment.now.saturating_duration_since(begin.relayed.at) <= BEGIN_GAP_MAX {
                        self.wait(send);
                        return 0;
                    }
                    first = First::Silent;
                }
            }
        }
        advance(&mut self.terms, work);
        match self.common.filter(|common| is_all(&self.terms, common.source)) {
            Some(common) => {
                let begins = self.tuned != Some(common);
                let at = (common.slot, common.encoding, begins);
                shared.payloads(at, moment, |ticks, payload| {
                    self.tuned = Some(common);
                    each_with_rest(&self.listeners, |listener, after| {
                        send(Outgoing {
                            listener: listener.endpoint,
                            after,
                            format: &self.format.audio,
                            ticks,
                            payload,
                            silence: None,
                        });
                    });
                })
            }
            None => {
                if self.tuned.take().is_some() {
                    self.start_anew();
                }
                self.encode_own(sources, sums, work, (first, moment.opus_complexity), send)
            }
        }
    }

    /// The encoder that `listener` hears, if there is one, and whether nobody else does.
    pub(crate) fn encoding_of(&mut self, listener: Key) -> Option<(&mut Encoding, bool)> {
        let alone = self.listeners.len() == 1;
        let own = self.listeners.iter_mut().find(|one| one.endpoint == listener)?;
        match own.encoding.as_deref_mut().filter(|_| own.spoke) {
            Some(own) => Some((own, true)),
            None => self.encoding.as_mut().map(|shared| (shared, alone)),
        }
    }

    /// `listener` tells how much it loses, in percent. The encoder that many share makes up for the loss of who loses most.
    /// Only Opus can.
    pub(crate) fn loses(&mut self, listener: Key, percent: u8) {
        if self.format.audio.codec != Codec::Opus {
            return;
        }
        for one in self.listeners.iter_mut().filter(|one| one.endpoint == listener) {
            one.loss_percent = percent;
            if let Some(own) = &mut one.encoding {
                own.encoder().set_packet_loss(percent);
            }
        }
        let most = self.listeners.iter().map(|one| one.loss_percent).max();
        if let (Some(encoding), Some(most)) = (&mut self.encoding, most) {
            encoding.encoder().set_packet_loss(most);
        }
    }

    /// Every listener heard the encoder of a shared player until now.
    fn start_anew(&mut self) {
        let kept = self
            .listeners
            .iter_mut()
            .filter_map(|one| one.encoding.as_deref_mut());
        for encoding in kept.chain(&mut self.encoding) {
            encoding.start_anew();
            encoding.clear();
        }
        self.recent_ticks = 0;
    }

    /// A tick passes in which nothing is sent.
    fn wait(&self, send: &mut impl FnMut(Outgoing<'_>)) {
        each_with_rest(&self.listeners, |listener, after| {
            send(Outgoing {
                listener: listener.endpoint,
                after,
                format: &self.format.audio,
                ticks: self.format.audio.clock.hz() / 1_000 * TICK_MS,
                payload: &[],
                silence: None,
            });
        });
    }

    /// Finds out who speaks in this tick and so hears a mix of its own: what encodes that goes on from what encodes for all.
    fn tell_speakers(&mut self, sums: &[Sum], tick_samples: usize, opus_complexity: u8) {
        let Some(shared) = &self.encoding else { return };
        // A packet may be longer or shorter than a tick: encoders that wait for it to be full are fed always.
        let limit = if shared.is_stateless() { 0 } else { SPEAKING_TICKS };
        let recent = Some(&*self.recent).filter(|_| self.recent_ticks >= RECENT_TICKS);
        let speaks =
            |(sum, place): &(u32, u32)| sums[*sum as usize].inputs[*place as usize].silent_ticks <= limit;
        for listener in &mut self.listeners {
            let spoke = std::mem::replace(&mut listener.spoke, listener.own.iter().any(speaks));
            if listener.spoke && !spoke {
                listener.limiter = self.limiter;
                if let Some(encoding) = &mut listener.encoding {
                    encoding.set_complexity(opus_complexity);
                    encoding.take_over(shared, recent, tick_samples);
                }
            }
        }
    }

    /// As [`Self::encode`], with one mix for all, and one for each who speaks.
    fn encode_own(
        &mut self,
        sources: &[Source],
        sums: &[Sum],
        work: &mut Work,
        (first, opus_complexity): (First, u8),
        send: &mut impl FnMut(Outgoing<'_>),
    ) -> u64 {
        self.tell_speakers(sums, work.frame.len(), opus_complexity);
        let Self {
            format,
            terms,
            encoding: Some(shared),
            limiter,
            recent,
            recent_ticks,
            listeners,
            ..
        } = self
        else {
            return 0;
        };
        shared.set_complexity(opus_complexity);
        let ticks = shared.ticks(format.ptime_ms);
        hear(terms, &[], sources, sums, work, limiter);
        first.apply(&mut work.frame);
        if !recent.is_empty() {
            shift_in(recent, &work.frame);
            *recent_ticks += 1;
        }
        first.encode(shared, &work.frame, |payload| {
            each_with_rest(listeners, |listener, after| {
                if listener.hears_shared() {
                    send(Outgoing::new((listener.endpoint, after), format, ticks, payload));
                }
            });
        });
        let mut spent_ns = shared.take_spent();
        for at in 0..listeners.len() {
            let (until, after) = listeners.split_at_mut(at + 1);
            let Some(listener) = until.last_mut().filter(|one| one.hears_own()) else {
                continue;
            };
            hear(terms, &listener.own, sources, sums, work, &mut listener.limiter);
            first.apply(&mut work.frame);
            let outgoing = (listener.endpoint, &after[..]);
            let encoding = listener.encoding.as_deref_mut().unwrap_or(shared);
            encoding.set_complexity(opus_complexity);
            first.encode(encoding, &work.frame, |payload| {
                send(Outgoing::new(outgoing, format, ticks, payload));
            });
            spent_ns += encoding.take_spent();
        }
        spent_ns
    }
}

/// The oldest samples of `recent` give way to `frame`.
fn shift_in(recent: &mut [i16], frame: &[i16]) {
    recent.copy_within(frame.len().., 0);
    let newest = recent.len() - frame.len();
    recent[newest..].copy_from_slice(frame);
}

/// Each with those after it.
fn each_with_rest<'a>(listeners: &'a [Listener], mut each: impl FnMut(&'a Listener, &'a [Listener])) {
    for (at, listener) in listeners.iter().enumerate() {
        each(listener, &listeners[at + 1..]);
    }
}

/// What of a tick is for listeners who may begin in it.
#[derive(Debug, Clone, Copy)]
enum First {
    Whole,
    /// From this sample on.
    From(usize),
    /// It is not for them yet.
    Silent,
}

impl First {
    fn apply(self, frame: &mut [i16]) {
        if let Self::Silent = self {
            frame.fill(0);
        }
    }

    /// Encodes a tick; a part of it as a packet of its own.
    fn encode(self, encoding: &mut Encoding, frame: &[i16], mut each: impl FnMut(Payload<'_>)) {
        if let Self::From(from @ 1..) = self {
            if let Some(bytes) = encoding.encode_rest(&frame[from.min(frame.len())..]) {
                each(Payload {
                    bytes,
                    is_silence: false,
                });
            }
            return;
        }
        encoding.feed(frame);
        while let Some(payload) = encoding.poll_payload() {
            each(payload);
        }
    }
}

/// In this tick `source` is all that is heard, as it is.
fn is_all(terms: &[Term], source: u32) -> bool {
    let mut live = terms.iter().filter(|term| !term.ramp.is_muted());
    matches!((live.next(), live.next()), (Some(term), None) if term.of == TermOf::Source(source) && term.ramp.is_unity())
}

/// A tick begins.
pub(crate) fn advance(terms: &mut [Term], work: &Work) {
    for term in terms {
        term.ramp = term.gain.advance(work.frame.len());
    }
}

/// Mixes `terms` without the listener's `own` parts.
pub(crate) fn hear<'a>(
    terms: &[Term],
    own: &[(u32, u32)],
    sources: &[Source],
    sums: &[Sum],
    work: &'a mut Work,
    limiter: &mut Limiter,
) -> &'a [i16] {
    let own_part = |sum: u32| {
        let place = own.iter().find(|(of, _)| *of == sum).map(|(_, place)| *place);
        place.map_or(Own::Nothing, |place| sums[sum as usize].part(place, sources))
    };
    let mut live = terms.iter().filter(|term| !term.ramp.is_muted());
    if let (Some(term), None) = (live.next(), live.next())
        && term.ramp.is_unity()
    {
        match term.of {
            TermOf::Sum(sum) => {
                let total = &sums[sum as usize].total;
                match own_part(sum) {
                    Own::Nothing => limiter.all(total, &mut work.frame),
                    Own::Plain(own) => limiter.all_but(total, own, &mut work.frame),
                    Own::Scaled(own) => limiter.all_but(total, own, &mut work.frame),
                }
            }
            TermOf::Source(source) => work.frame.copy_from_slice(&sources[source as usize].frame),
        }
        return &work.frame;
    }
    work.total.fill(0);
    for Term { of, ramp, .. } in terms.iter().filter(|term| !term.ramp.is_muted()) {
        match of {
            TermOf::Sum(sum) => {
                ramp.add(&mut work.total, &sums[*sum as usize].total);
                own_part(*sum).subtract(*ramp, &mut work.total);
            }
            TermOf::Source(source) => {
                let source = &sources[*source as usize];
                if source.heard {
                    ramp.add(&mut work.total, &source.frame);
                }
            }
        }
    }
    limiter.all(&work.total, &mut work.frame);
    &work.frame
}
