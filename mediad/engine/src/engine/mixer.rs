//! What a session that decodes does on its tick: every source once, every room summed once, every mix encoded once for
//! all who hear it.
//!
//! An edit makes a new mixer that goes on from the one before: gains glide, and what is heard no more is heard for one
//! more tick, fading. Such ghosts stay behind what the plan asked for until the next edit, and cost nothing.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use codecs::{
    level,
    mix::{self, Limiter},
};
use rtp::units::ExtendedSeq;

use super::{
    Egress,
    decoding::{Decoding, Pulled, Scratch},
    endpoint::Endpoint,
    group::{self, Group, Outgoing, Term, TermOf, Work},
    inband::Clamp,
    line::StreamId,
    making::Maker,
    observer::{Notice, Observer},
    plan::{Mapping, Mix},
    playback::{Playback, Played},
    playing::Player,
    polish::Polish,
    prefetch::{FAR, FARTHEST, NEAR, prefetch, prefetch_all},
    shared::SharedPlayers,
    slab::{Key, Slab},
    sum::Sum,
    tapping::Tapping,
    tick::TICK_MS,
};
use crate::{
    command::{EventKind, TapRings},
    recording::{Placing, RecordingFeed},
    spec::{Codec, Name, NodeSpec, SessionSpec},
};

/// Up to this a source is silent: the smallest steps of G.711.
const FLOOR: u16 = 8;
/// Without anything from any source for so many ticks the session sends no more.
const QUIET_TICKS: u32 = 50;
/// What can be seen of one source in a tick: four looks for digits, each of which may end one and begin another, and talk.
const NOTICES_MAX: usize = 9;
/// What is left of the loudness of a source after a tick of silence: 1.25 dB less.
const LOUDNESS_KEPT: f32 = 0.75;
/// Less than one step of a sample: nobody is heard for it.
const LOUDNESS_STILL: f32 = 1.0;
/// Without anything from a source for so many ticks it rests: longer than the pauses of discontinuous transmission (0.4 s), for
/// it costs something to find it again.
const STILL_TICKS: u32 = 100;

/// See the module. Nothing in it allocates once it is made.
#[derive(Debug)]
pub(crate) struct Mixer {
    pub(crate) phase: u8,
    /// The number of the next tick.
    pub(crate) next_tick: u64,
    /// Nothing came for so long that the tick rests.
    pub(crate) asleep: bool,
    quiet_ticks: u32,
    pub(crate) rate_hz: u32,
    pub(crate) sources: Box<[Source]>,
    pub(crate) sums: Box<[Sum]>,
    pub(crate) groups: Box<[Group]>,
    /// What recorders hear.
    pub(crate) branches: Box<[MixBranch]>,
    pub(crate) taps: Box<[Tap]>,
    /// What was seen of endpoints in this tick, for the engine; room for all there can be.
    pub(crate) noticed: Vec<(Key, Notice)>,
    /// Listeners who hear it for the last time.
    pub(crate) farewells: Vec<Farewell>,
    work: Work,
    /// The first tick after an edit is still to come.
    pub(crate) fading: bool,
}

/// A mix on its way to a recorder.
#[derive(Debug)]
pub(crate) struct MixBranch {
    of: TermOf,
    limiter: Limiter,
    feed: RecordingFeed,
    placing: Placing,
}

impl MixBranch {
    pub(crate) fn new(of: TermOf, feed: RecordingFeed, placing: Placing) -> Self {
        Self {
            of,
            limiter: Limiter::new(),
            feed,
            placing,
        }
    }
}

/// A listener who is forwarded to after the first tick: what it heard beside its source fades in that.
#[derive(Debug)]
pub(crate) struct Farewell {
    pub(crate) listener: Key,
    pub(crate) source: Key,
    /// Its place among the listeners that the source's packets go to …
    pub(crate) hop: usize,
    /// … and how they go there.
    pub(crate) mappings: Box<[Mapping]>,
    pub(crate) is_over: bool,
}

/// A tap and what it hears.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) tapping: Tapping,
    pub(crate) terms: Box<[Term]>,
    /// Its own voice in that.
    pub(crate) own: Box<[(u32, u32)]>,
    pub(crate) limiter: Limiter,
}

/// What a mixer is made from, beside its plan.
pub(crate) struct Parts<'a> {
    pub(crate) spec: &'a SessionSpec,
    pub(crate) endpoints: &'a [Key],
    pub(crate) rings: &'a [TapRings],
    /// Of endpoints that are gone.
    pub(crate) departed: Vec<(Key, Box<Decoding>)>,
    /// Of players that are gone.
    pub(crate) left: Vec<(Name, Box<Playback>)>,
    /// Listeners who got packets until now.
    pub(crate) relayed: BTreeMap<Key, Relayed>,
}

/// Whose packets a listener got, and up to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Relayed {
    pub(crate) source: Key,
    pub(crate) stream: StreamId,
    pub(crate) newest: ExtendedSeq,
    /// When the latest packet was sent.
    pub(crate) at: Instant,
    /// Ticks that it waits already for what comes next.
    pub(crate) ticks: u32,
}

impl Relayed {
    /// Packets of `source`; stream, number and time of the latest.
    pub(crate) fn new(source: Key, (stream, newest, at): (StreamId, ExtendedSeq, Instant)) -> Self {
        Self {
            source,
            stream,
            newest,
            at,
            ticks: 0,
        }
    }
}

/// A tick of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    /// The tick's number, the same in all sessions.
    pub(crate) number: u64,
    /// Ticks left out before it.
    pub(crate) missed: u32,
    /// The effort of Opus encoders.
    pub(crate) opus_complexity: u8,
}

/// What the sources of a tick are taken from.
pub(crate) struct Speakers<'a> {
    pub(crate) endpoints: &'a mut Slab<Endpoint>,
    /// The session's.
    pub(crate) players: &'a mut [Player],
    pub(crate) shared: &'a mut SharedPlayers,
    pub(crate) scratch: &'a mut Scratch,
}

/// A node that is heard by somebody, or watched.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) node: Arc<NodeSpec>,
    pub(crate) feed: Feed,
    pub(crate) observer: Option<Box<Observer>>,
    pub(crate) frame: Box<[i16]>,
    /// There is something to hear in this tick.
    pub(crate) heard: bool,
    /// Something is played in this tick, be it silence.
    pub(crate) sounds: bool,
    /// That is the noise of a silence that was told: nobody talks.
    pub(crate) silent: bool,
    /// So many samples of the frame are of a packet that was begun in the tick before.
    pub(crate) begun: usize,
    /// The latest packet that is played, where packets are.
    pub(crate) played: Option<(StreamId, ExtendedSeq)>,
    /// How loud it is is asked for.
    pub(crate) ranked: bool,
    /// Mean square, at once up and slowly down.
    pub(crate) loudness: f32,
    /// Heard no more but in the first tick after an edit.
    pub(crate) ghost: bool,
    /// So many samples later its sound comes out of what makes it better.
    pub(crate) polished: usize,
    /// So many ticks in a row nothing came of it …
    pub(crate) still: u32,
    /// … and so it is not looked at before its next packet, which is to say so.
    pub(crate) rests: bool,
}

/// Where a source's sound comes from.
#[derive(Debug)]
pub(crate) enum Feed {
    /// The decoding of an endpoint.
    Endpoint(Key),
    /// What an endpoint that is gone left.
    Departed(Box<Decoding>),
    /// A player, by its place among those of the session.
    Player(u32),
    /// What a player that is gone left.
    Left(Box<Playback>),
    /// A tap, by its index in the mixer's.
    Tap(u32),
    /// The source in this place before it without the tones of digits; of one that is gone, what waits.
    Clamp(Box<Clamp>, Option<u32>),
    /// Nothing: a tap whose program cannot be reached.
    None,
}

impl Mixer {
    /// What `mix` asks for, going on from `before`.
    pub(crate) fn new(
        mix: &Mix,
        parts: Parts<'_>,
        players: &[Player],
        shared: &mut SharedPlayers,
        before: Option<Self>,
    ) -> Self {
        let rate_hz = mix.rate_hz;
        let samples = (rate_hz / 1_000 * TICK_MS) as usize;
        let (phase, next_tick, asleep) = before.as_ref().map_or((0, 0, true), |before| {
            (before.phase, before.next_tick, before.asleep)
        });
        let mut maker = Maker::new(mix, parts, players, before);
        let groups = maker.groups(shared);
        let taps = maker.taps();
        let (sources, sums) = maker.finish();
        let watched = sources.iter().filter(|source| source.observer.is_some()).count();
        Self {
            noticed: Vec::with_capacity(NOTICES_MAX * watched),
            phase,
            next_tick,
            asleep,
            quiet_ticks: 0,
            rate_hz,
            sources,
            sums,
            groups,
            branches: Box::default(),
            taps,
            farewells: Vec::new(),
            work: Work::new(samples),
            fading: true,
        }
    }

    /// Takes the next tick of every source; tells of players that came to their end. Gives how many players had to wait for
    /// their file.
    pub(crate) fn gather(
        &mut self,
        moment: Moment,
        mut speakers: Speakers<'_>,
        tx: &impl Egress,
        mut tell: impl FnMut(&Name, EventKind),
    ) -> u32 {
        let (mut idle, mut late) = (true, 0);
        for tap in &mut self.taps {
            tap.tapping.pull();
            idle &= tap.tapping.is_idle();
        }
        for at in 0..self.sources.len() {
            self.prefetch(at, speakers.endpoints, tx);
            if self.sources[at].rests {
                continue;
            }
            let (before, rest) = self.sources.split_at_mut(at);
            let Some(source) = rest.first_mut() else { break };
            if source.ghost && !self.fading {
                source.retire(speakers.endpoints);
                continue;
            }
            let taken = match &mut source.feed {
                Feed::Clamp(clamp, of) => clamped(clamp, *of, before, &mut source.frame),
                _ => source.take_tick(moment, self.rate_hz, &mut speakers, &self.taps, &mut tell),
            };
            idle &= taken.idle;
            late += u32::from(taken.late);
            // Digits and talk as they came.
            if let (Some(observer), Feed::Endpoint(key)) = (&mut source.observer, &source.feed) {
                observer.observe(&source.frame, taken.silent, |notice| {
                    self.noticed.push((*key, notice));
                });
            }
            source.sounds = match polish(&mut source.feed, speakers.endpoints) {
                Some(polish) => {
                    source.polished = polish.delay_samples();
                    polish.apply(&mut source.frame, taken.sounds)
                }
                None => taken.sounds,
            };
            source.silent = taken.silent;
            source.heard = source.sounds && !mix::is_silent(&source.frame, FLOOR);
            if source.ranked {
                let power = match source.heard && !source.silent {
                    true => level::energy(&source.frame) as f32 / source.frame.len() as f32,
                    false => 0.0,
                };
                source.loudness = power.max(source.loudness * LOUDNESS_KEPT);
            }
            source.come_to_rest(&taken, speakers.endpoints);
        }
        self.quiet_ticks = if idle { self.quiet_ticks + 1 } else { 0 };
        for sum in self.sums.iter_mut().filter(|sum| self.fading || !sum.ghost) {
            sum.add_up(&self.sources);
        }
        self.fading = false;
        late
    }

    /// A hint: the sources after the one in place `at` have their turn soon.
    fn prefetch(&self, at: usize, endpoints: &Slab<Endpoint>, tx: &impl Egress) {
        let after = |distance: usize| {
            let source = self.sources.get(at + distance).filter(|source| !source.rests)?;
            let Feed::Endpoint(key) = source.feed else {
                return None;
            };
            Some((source, key))
        };
        let decoding = |key: Key| endpoints.get(key)?.ingress.decoding.as_deref();
        if let Some(address) = after(FARTHEST).and_then(|(_, key)| endpoints.address(key)) {
            prefetch(tx, address, Endpoint::RECEIVING);
        }
        if let Some((source, key)) = after(FAR) {
            prefetch_all(tx, &*source.frame);
            if let Some(decoding) = decoding(key) {
                prefetch_all(tx, decoding);
            }
        }
        if let Some(decoding) = after(NEAR).and_then(|(_, key)| decoding(key)) {
            decoding.prefetch(tx);
        }
    }

    /// Encodes what every listener hears in this tick and gives it to `send`. Gives the time that encoders of Opus are to be
    /// taken for, ns.
    pub(crate) fn encode(
        &mut self,
        moment: Moment,
        shared: &mut SharedPlayers,
        mut send: impl FnMut(Outgoing<'_>),
    ) -> u64 {
        let Self {
            groups,
            sources,
            sums,
            work,
            ..
        } = self;
        let encode = |group: &mut Group| group.encode(sources, sums, work, (shared, moment), &mut send);
        groups.iter_mut().map(encode).sum()
    }

    /// Copies to recorders what they hear of the tick `number`. Where nothing sounds, nothing is written.
    pub(crate) fn record(&mut self, now: Instant, number: u64) {
        let millis = number * u64::from(TICK_MS) + u64::from(self.phase);
        for branch in &mut self.branches {
            let frame = match branch.of {
                TermOf::Sum(sum) => {
                    let total = &self.sums[sum as usize].total;
                    self.work.limited(total, &mut branch.limiter)
                }
                TermOf::Source(source) => &self.sources[source as usize].frame,
            };
            if !mix::is_silent(frame, 0) {
                branch
                    .feed
                    .frame(branch.placing, now, millis, self.rate_hz, frame);
            }
        }
    }

    /// Gives programs what their taps hear; true if there is a program.
    pub(crate) fn tap(&mut self) -> bool {
        let Self {
            taps,
            sources,
            sums,
            work,
            ..
        } = self;
        let mut any = false;
        for tap in taps {
            group::advance(&mut tap.terms, work);
            let heard = group::hear(&tap.terms, &tap.own, sources, sums, work, &mut tap.limiter);
            any |= tap.tapping.push(heard);
        }
        any
    }

    /// `listener` is to hear it once more when it is forwarded to: it was to before, or it [`hears
    /// more`](Self::hears_more).
    pub(crate) fn parts_with(&self, listener: Key, speaker: &Name, is_begun: bool) -> bool {
        let mut pending = self.farewells.iter().filter(|farewell| !farewell.is_over);
        pending.any(|farewell| farewell.listener == listener) || self.hears_more(listener, speaker, is_begun)
    }

    /// `listener` hears more, or otherwise, than it will when it is sent what `speaker` says, or half a packet of that
    /// (`is_begun`).
    fn hears_more(&self, listener: Key, speaker: &Name, is_begun: bool) -> bool {
        let hears = |group: &&Group| {
            group
                .listeners
                .iter()
                .any(|one| one.endpoint == listener && !one.parted)
        };
        let Some(group) = self.groups.iter().find(hears).filter(|_| !self.asleep) else {
            return false;
        };
        if group.format.audio.codec == Codec::Opus {
            // Its decoder has to forget the mix's encoder.
            return true;
        }
        let own = group
            .listeners
            .iter()
            .find(|one| one.endpoint == listener)
            .map(|one| &one.own);
        let differs = |source: u32, is_unity: bool| {
            let source = &self.sources[source as usize];
            source.heard && (source.node.id != *speaker || !is_unity || is_begun)
        };
        let mut terms = group.terms.iter().filter(|term| !term.gain.is_muted());
        terms.any(|term| match term.of {
            TermOf::Source(source) => differs(source, term.gain.is_unity()),
            TermOf::Sum(sum) => (0..).zip(&self.sums[sum as usize].inputs).any(|(place, input)| {
                let is_own = own.is_some_and(|own| own.contains(&(sum, place)));
                let is_unity = term.gain.is_unity() && input.gain() == mix::UNITY;
                !is_own && input.gain() > 0 && differs(input.source, is_unity)
            }),
        })
    }

    /// Encodes for `listener` alone what is left of a packet that was played in part.
    pub(crate) fn encode_rest(&mut self, listener: Key, pcm: &[i16], send: impl FnOnce(Outgoing<'_>)) {
        let hears = |group: &&mut Group| {
            let mut listeners = group.listeners.iter();
            listeners.any(|one| one.endpoint == listener && !one.parted)
        };
        let Some(Group { encoding, format, .. }) = self.groups.iter_mut().find(hears) else {
            return;
        };
        if let Some(payload) = encoding.as_mut().and_then(|encoding| encoding.encode_rest(pcm)) {
            send(Outgoing {
                listener,
                after: &[],
                format: &format.audio,
                // Where it begins is what matters: a tick behind the packet before.
                ticks: format.audio.clock.hz() / 1_000 * TICK_MS,
                payload,
                silence: None,
            });
        }
    }

    /// `listener` hears it no more.
    pub(crate) fn part(&mut self, listener: Key) {
        let listeners = self.groups.iter_mut().flat_map(|group| &mut group.listeners);
        for one in listeners.filter(|one| one.endpoint == listener) {
            one.parted = true;
        }
    }

    /// Everybody who hears something of it, and did not part with it.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = Key> {
        let listeners = self.groups.iter().flat_map(|group| &group.listeners);
        listeners
            .filter(|listener| !listener.parted)
            .map(|listener| listener.endpoint)
    }

    /// Endpoints whose packets it decodes.
    pub(crate) fn decoded(&self) -> impl Iterator<Item = Key> {
        self.sources.iter().filter_map(|source| match source.feed {
            Feed::Endpoint(key) => Some(key),
            Feed::Departed(_)
            | Feed::Player(_)
            | Feed::Left(_)
            | Feed::Tap(_)
            | Feed::Clamp(..)
            | Feed::None => None,
        })
    }

    /// Nothing came for so long that the tick may rest.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet_ticks >= QUIET_TICKS
    }

    /// The tick rests.
    pub(crate) fn rest(&mut self) {
        self.asleep = true;
        let observers = self.sources.iter_mut();
        observers
            .filter_map(|source| source.observer.as_deref_mut())
            .for_each(Observer::rest);
    }

    /// Digits are looked for in the sound of `endpoint`.
    pub(crate) fn looks_for_digits(&self, endpoint: Key) -> bool {
        let of = |source: &&Source| matches!(source.feed, Feed::Endpoint(key) if key == endpoint);
        let observers = self
            .sources
            .iter()
            .filter(of)
            .filter_map(|source| source.observer.as_ref());
        observers.into_iter().any(|observer| observer.tones().is_some())
    }

    /// A packet came of `endpoint`, which may rest.
    pub(crate) fn rouse(&mut self, endpoint: Key) {
        let mut sources = self.sources.iter_mut();
        let found = sources.find(|source| matches!(source.feed, Feed::Endpoint(key) if key == endpoint));
        if let Some(source) = found {
            (source.still, source.rests) = (0, false);
        }
    }

    /// The rings of its taps.
    pub(crate) fn rings(&self) -> Vec<TapRings> {
        self.taps.iter().map(|tap| tap.tapping.rings()).collect()
    }

    /// The tick goes on.
    pub(crate) fn wake(&mut self) {
        self.asleep = false;
        self.quiet_ticks = 0;
    }
}

/// A tick of a source.
struct Taken {
    /// There is something in it.
    sounds: bool,
    /// Nothing will come of itself.
    idle: bool,
    /// Its file had not been read in time.
    late: bool,
    /// It is the noise of a silence that was told.
    silent: bool,
}

impl Taken {
    fn of(sounds: bool, idle: bool) -> Self {
        Self {
            sounds,
            idle,
            late: false,
            silent: false,
        }
    }
}

/// What makes the sound of an endpoint better, if anything does.
fn polish<'a>(feed: &'a mut Feed, endpoints: &'a mut Slab<Endpoint>) -> Option<&'a mut Polish> {
    let decoding = match feed {
        Feed::Endpoint(key) => endpoints.get_mut(*key)?.ingress.decoding.as_deref_mut()?,
        Feed::Departed(decoding) => decoding,
        Feed::Player(_) | Feed::Left(_) | Feed::Tap(_) | Feed::Clamp(..) | Feed::None => return None,
    };
    decoding.polish.as_deref_mut()
}

/// The tick of a source without tones, out of the one that it is.
fn clamped(clamp: &mut Clamp, of: Option<u32>, before: &[Source], frame: &mut [i16]) -> Taken {
    let whole = of.and_then(|of| before.get(of as usize));
    let tones = whole.and_then(|whole| whole.observer.as_deref()?.tones());
    match (whole, tones) {
        (Some(whole), Some(tones)) => clamp.pass(&whole.frame, whole.polished, tones, frame),
        (Some(_) | None, _) => clamp.drain(frame),
    }
    // It follows another, which says whether more will come.
    Taken {
        silent: whole.is_some_and(|whole| whole.silent),
        ..Taken::of(true, true)
    }
}

impl Source {
    /// The next tick in its frame.
    fn take_tick(
        &mut self,
        moment: Moment,
        rate_hz: u32,
        speakers: &mut Speakers<'_>,
        taps: &[Tap],
        tell: &mut impl FnMut(&Name, EventKind),
    ) -> Taken {
        let Moment {
            now, number, missed, ..
        } = moment;
        let Speakers {
            endpoints,
            players,
            shared,
            scratch,
        } = speakers;
        let decoding = match &mut self.feed {
            Feed::Endpoint(key) => {
                let endpoint = endpoints.get_mut(*key);
                endpoint.and_then(|endpoint| endpoint.ingress.decoding.as_deref_mut())
            }
            Feed::Departed(decoding) => Some(&mut **decoding),
            Feed::Tap(at) => {
                let tapping = &taps[*at as usize].tapping;
                self.frame.copy_from_slice(&tapping.spoken);
                return Taken::of(tapping.speaks, true);
            }
            Feed::None | Feed::Clamp(..) => None,
            Feed::Left(playback) => {
                // Who fades was taken out: its end is nobody's.
                let played = playback.play(&mut self.frame);
                return Taken::of(played != Played::Nothing, playback.is_idle());
            }
            Feed::Player(at) => match players.get_mut(*at as usize) {
                Some(player) => {
                    let played = player.play(number, rate_hz, shared, &mut self.frame);
                    if let Played::Finished(end) = played {
                        tell(&self.node.id, EventKind::PlayFinished(end));
                    }
                    return Taken {
                        sounds: played != Played::Nothing,
                        idle: player.is_idle(shared),
                        late: played == Played::Late,
                        silent: false,
                    };
                }
                None => None,
            },
        };
        let Some(decoding) = decoding else {
            self.frame.fill(0);
            return Taken::of(false, true);
        };
        if missed > 0 {
            decoding.miss(missed);
        }
        self.begun = decoding.rest_samples().min(self.frame.len());
        let pulled = decoding.pull(now, &mut self.frame, scratch);
        self.played = Some(decoding.played());
        Taken {
            silent: pulled == Pulled::Silence,
            ..Taken::of(pulled != Pulled::Nothing, decoding.is_idle())
        }
    }

    /// Of most members of a large room nothing comes: each would cost the memory of its decoding in every tick.
    fn come_to_rest(&mut self, taken: &Taken, endpoints: &mut Slab<Endpoint>) {
        let is_still =
            taken.idle && !self.sounds && self.observer.is_none() && self.loudness < LOUDNESS_STILL;
        self.still = if is_still { self.still.saturating_add(1) } else { 0 };
        if self.still < STILL_TICKS {
            return;
        }
        let Feed::Endpoint(key) = self.feed else { return };
        let endpoint = endpoints.get_mut(key);
        let decoding = endpoint.and_then(|endpoint| endpoint.ingress.decoding.as_deref_mut());
        if let Some(decoding) = decoding.filter(|decoding| decoding.polish.is_none()) {
            decoding.asleep = true;
            (self.loudness, self.rests) = (0.0, true);
        }
    }

    /// It has faded: its packets are not looked at any more.
    fn retire(&mut self, endpoints: &mut Slab<Endpoint>) {
        self.heard = false;
        if let Feed::Endpoint(key) = self.feed
            && let Some(decoding) = endpoints
                .get_mut(key)
                .and_then(|endpoint| endpoint.ingress.decoding.as_deref_mut())
        {
            decoding.retired = true;
        }
    }
}
