//! What a session that decodes does on its tick: every source once, every room summed once, every mix encoded once for
//! all who hear it.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use codecs::mix::{self, UNITY};

use super::{
    decoding::Scratch,
    encoding::Encoding,
    endpoint::Endpoint,
    observer::Observer,
    plan::{self, Mix, Term},
    playback::{Playback, Played},
    slab::{Key, Slab},
    tick::TICK_MS,
};
use crate::{
    command::{EventKind, Prompt},
    recording::{Placing, RecordingFeed},
    spec::{Name, NodeSpec, SessionSpec},
};

/// Up to this a source is silent: the smallest steps of G.711.
const FLOOR: u16 = 8;
/// A member who was heard so many ticks ago still gets a mix of its own where encoders have a memory.
const SPEAKING_TICKS: u32 = 50;
/// Without anything from any source for so many ticks the session sends no more.
const QUIET_TICKS: u32 = 50;

/// See the module. Nothing in it allocates once it is made.
#[derive(Debug)]
pub(crate) struct Mixer {
    pub(crate) phase: u8,
    /// The number of the next tick.
    pub(crate) next_tick: u64,
    /// Nothing came for so long that the tick rests.
    pub(crate) asleep: bool,
    quiet_ticks: u32,
    rate_hz: u32,
    pub(crate) sources: Box<[Source]>,
    sums: Box<[Sum]>,
    pub(crate) groups: Box<[Group]>,
    /// What recorders hear.
    pub(crate) branches: Box<[MixBranch]>,
    work: Work,
}

/// A mix on its way to a recorder.
#[derive(Debug)]
pub(crate) struct MixBranch {
    term: Term,
    feed: RecordingFeed,
    placing: Placing,
}

impl MixBranch {
    pub(crate) fn new(term: Term, feed: RecordingFeed, placing: Placing) -> Self {
        Self { term, feed, placing }
    }
}

/// Space for one mix.
#[derive(Debug)]
struct Work {
    total: Box<[i32]>,
    frame: Box<[i16]>,
}

/// A node that is heard by somebody.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) node: Arc<NodeSpec>,
    pub(crate) feed: Feed,
    pub(crate) observer: Option<Box<Observer>>,
    frame: Box<[i16]>,
    /// There is something to hear in this tick.
    heard: bool,
    /// Ticks since that was so.
    silent_ticks: u32,
}

/// Where a source's sound comes from.
#[derive(Debug)]
pub(crate) enum Feed {
    /// The decoding of an endpoint.
    Endpoint(Key),
    /// A player.
    Player(Box<Playback>),
}

#[derive(Debug)]
struct Sum {
    inputs: Box<[Input]>,
    total: Box<[i32]>,
}

#[derive(Debug)]
struct Input {
    source: u32,
    gain: i32,
    /// As it was added, to take out again; empty at unity.
    scaled: Box<[i16]>,
}

/// Listeners that share a mix and its encoding.
#[derive(Debug)]
pub(crate) struct Group {
    plan: plan::Group,
    terms: Box<[(Term, i32)]>,
    encoding: Option<Encoding>,
    pub(crate) listeners: Box<[Listener]>,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) endpoint: Key,
    own: Box<[(u32, u32)]>,
    /// For its own mix while it speaks; unset where encoders have no memory.
    encoding: Option<Box<Encoding>>,
}

/// One payload for one listener.
pub(crate) struct Outgoing<'a> {
    pub(crate) listener: Key,
    pub(crate) format: &'a crate::spec::PayloadFormat,
    /// Its length on the clock of the format.
    pub(crate) ticks: u32,
    pub(crate) payload: &'a [u8],
}

impl Mixer {
    /// What `mix` asks for, going on with what `before` played and encoded.
    pub(crate) fn new(
        mix: Mix,
        spec: &SessionSpec,
        endpoints: &[Key],
        prompts: &[Arc<Prompt>],
        before: Option<Self>,
    ) -> Self {
        let rate_hz = mix.rate_hz;
        let samples = (rate_hz / 1_000 * TICK_MS) as usize;
        let (phase, next_tick) = before
            .as_ref()
            .map_or((0, 0), |before| (before.phase, before.next_tick));
        let asleep = before.as_ref().is_none_or(|before| before.asleep);
        let mut past = Past::of(before, rate_hz);
        let sources = mix.sources.iter().enumerate().map(|(at, node)| {
            let spec = &spec.nodes[*node as usize];
            let watch = mix
                .watches
                .binary_search_by_key(&(at as u32), |(source, _)| *source);
            let feed = match endpoints.get(*node as usize).filter(|key| **key != Key::NONE) {
                Some(key) => Feed::Endpoint(*key),
                None => {
                    let playback = Playback::new(spec.clone(), prompts.into(), rate_hz);
                    Feed::Player(Box::new(match past.players.get(&*spec.id) {
                        Some(before) => playback.resume(before),
                        None => playback,
                    }))
                }
            };
            Source {
                observer: watch.ok().map(|at| match past.observers.remove(&*spec.id) {
                    Some(observer) => observer,
                    None => Box::new(Observer::new(mix.watches[at].1)),
                }),
                node: spec.clone(),
                feed,
                frame: vec![0; samples].into_boxed_slice(),
                heard: false,
                silent_ticks: 0,
            }
        });
        let sources = sources.collect();
        let groups = mix
            .groups
            .into_iter()
            .map(|group| Group::new(group, endpoints, rate_hz, &mut past));
        Self {
            phase,
            next_tick,
            asleep,
            quiet_ticks: 0,
            rate_hz,
            sources,
            groups: groups.collect(),
            branches: Box::default(),
            sums: mix.sums.iter().map(|sum| Sum::new(sum, samples)).collect(),
            work: Work {
                total: vec![0; samples].into_boxed_slice(),
                frame: vec![0; samples].into_boxed_slice(),
            },
        }
    }

    /// Takes the next tick of every source; tells of players that came to their end, and of who talks.
    pub(crate) fn gather(
        &mut self,
        now: Instant,
        missed: u32,
        endpoints: &mut Slab<Endpoint>,
        scratch: &mut Scratch,
        mut tell: impl FnMut(&Name, EventKind),
    ) {
        let mut idle = true;
        for source in &mut self.sources {
            let sounds = match &mut source.feed {
                Feed::Endpoint(key) => {
                    let endpoint = endpoints.get_mut(*key);
                    match endpoint.and_then(|endpoint| endpoint.ingress.decoding.as_mut()) {
                        Some(decoding) => {
                            if missed > 0 {
                                decoding.miss(missed);
                            }
                            let sounds = decoding.pull(now, &mut source.frame, scratch);
                            idle &= decoding.is_idle();
                            sounds
                        }
                        None => false,
                    }
                }
                Feed::Player(playback) => {
                    let played = playback.play(&mut source.frame);
                    if played == Played::Finished {
                        tell(&source.node.id, EventKind::PlayFinished);
                    }
                    idle &= playback.is_idle();
                    played != Played::Nothing
                }
            };
            source.heard = sounds && !mix::is_silent(&source.frame, FLOOR);
            source.silent_ticks = if source.heard {
                0
            } else {
                source.silent_ticks.saturating_add(1)
            };
            if let Some(observer) = &mut source.observer {
                observer.observe(&source.frame, |kind| tell(&source.node.id, kind));
            }
        }
        self.quiet_ticks = if idle { self.quiet_ticks + 1 } else { 0 };
        for sum in &mut self.sums {
            sum.add_up(&self.sources);
        }
    }

    /// Encodes what every listener hears and gives it to `send`.
    pub(crate) fn encode(&mut self, mut send: impl FnMut(Outgoing<'_>)) {
        let Self {
            groups,
            sources,
            sums,
            work,
            ..
        } = self;
        for group in groups {
            group.encode(sources, sums, work, &mut send);
        }
    }

    /// Copies to recorders what they hear of the tick `number`. Where nothing sounds, nothing is written.
    pub(crate) fn record(&mut self, now: Instant, number: u64) {
        let millis = number * u64::from(TICK_MS) + u64::from(self.phase);
        let Self {
            branches,
            sources,
            sums,
            work,
            rate_hz,
            ..
        } = self;
        for MixBranch { term, feed, placing } in branches {
            hear(&[(*term, UNITY)], &[], sources, sums, work);
            if !mix::is_silent(&work.frame, 0) {
                feed.frame(*placing, now, millis, *rate_hz, &work.frame);
            }
        }
    }

    /// Everybody who hears something of it.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = Key> {
        let groups = self.groups.iter();
        groups.flat_map(|group| group.listeners.iter().map(|listener| listener.endpoint))
    }

    /// Nothing came for so long that the tick may rest.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet_ticks >= QUIET_TICKS
    }

    /// The tick goes on.
    pub(crate) fn wake(&mut self) {
        self.asleep = false;
        self.quiet_ticks = 0;
    }
}

/// What of a mixer outlives an edit.
#[derive(Default)]
struct Past {
    players: BTreeMap<Box<str>, Box<Playback>>,
    observers: BTreeMap<Name, Box<Observer>>,
    /// Encoders with a memory, by who listens to them.
    shared: BTreeMap<Key, (plan::Group, Encoding)>,
    own: BTreeMap<Key, (plan::Group, Box<Encoding>)>,
}

impl Past {
    fn of(before: Option<Mixer>, rate_hz: u32) -> Self {
        let mut past = Self::default();
        let Some(before) = before else { return past };
        let same_rate = before.rate_hz == rate_hz;
        for source in before.sources {
            if let Some(observer) = source.observer {
                past.observers.insert(source.node.id.clone(), observer);
            }
            if let Feed::Player(playback) = source.feed {
                past.players.insert((&*playback.node.id).into(), playback);
            }
        }
        for group in before.groups.into_iter().filter(|_| same_rate) {
            let plan = plan::Group {
                terms: Vec::new(),
                listeners: Vec::new(),
                ..group.plan
            };
            let first = group.listeners.first().map(|listener| listener.endpoint);
            for listener in group.listeners {
                if let Some(encoding) = listener.encoding {
                    past.own.insert(listener.endpoint, (plan.clone(), encoding));
                }
            }
            if let (Some(first), Some(encoding)) = (first, group.encoding) {
                past.shared.insert(first, (plan, encoding));
            }
        }
        past
    }
}

impl Group {
    fn new(plan: plan::Group, endpoints: &[Key], rate_hz: u32, past: &mut Past) -> Self {
        let same = |other: &plan::Group| other.format == plan.format && other.ptime_ms == plan.ptime_ms;
        let key = |listener: &plan::Listener| {
            endpoints
                .get(listener.node as usize)
                .copied()
                .unwrap_or(Key::NONE)
        };
        let first = plan.listeners.first().map_or(Key::NONE, key);
        let kept = past.shared.remove(&first).filter(|(other, _)| same(other));
        let encoding = kept
            .map(|(_, encoding)| encoding)
            .or_else(|| Encoding::new(&plan, rate_hz));
        let stateless = encoding.as_ref().is_some_and(Encoding::is_stateless);
        let listeners = plan.listeners.iter().map(|listener| {
            let endpoint = key(listener);
            let kept = past.own.remove(&endpoint).filter(|(other, _)| same(other));
            let needed = !stateless && !listener.own.is_empty();
            Listener {
                endpoint,
                own: listener.own.clone().into(),
                encoding: needed
                    .then(|| {
                        kept.map(|(_, encoding)| encoding)
                            .or_else(|| Encoding::new(&plan, rate_hz).map(Box::new))
                    })
                    .flatten(),
            }
        });
        let listeners = listeners.collect();
        let terms = plan.terms.iter().map(|term| match term {
            Term::Sum(_, db) | Term::Source(_, db) => (*term, mix::gain_from_db(*db)),
        });
        Self {
            terms: terms.collect(),
            encoding,
            listeners,
            plan,
        }
    }

    fn encode(
        &mut self,
        sources: &[Source],
        sums: &[Sum],
        work: &mut Work,
        send: &mut impl FnMut(Outgoing<'_>),
    ) {
        let Self {
            plan,
            terms,
            encoding: Some(shared),
            listeners,
        } = self
        else {
            return;
        };
        let format = &plan.format;
        let ticks = shared.ticks(plan.ptime_ms);
        // A packet may be longer or shorter than a tick: encoders that wait for it to be full are fed always.
        let stateless = shared.is_stateless();
        let own_turn = |listener: &Listener| {
            let limit = if stateless { 0 } else { SPEAKING_TICKS };
            let speaks = |(sum, place): &(u32, u32)| {
                let source = sums[*sum as usize].inputs[*place as usize].source;
                sources[source as usize].silent_ticks <= limit
            };
            listener.own.iter().any(speaks)
        };
        hear(terms, &[], sources, sums, work);
        shared.feed(&work.frame);
        while let Some(payload) = shared.poll_payload() {
            for listener in listeners.iter().filter(|listener| !own_turn(listener)) {
                send(Outgoing {
                    listener: listener.endpoint,
                    format,
                    ticks,
                    payload,
                });
            }
        }
        for listener in listeners.iter_mut().filter(|listener| own_turn(listener)) {
            hear(terms, &listener.own, sources, sums, work);
            let encoding = listener.encoding.as_deref_mut().unwrap_or(shared);
            encoding.feed(&work.frame);
            while let Some(payload) = encoding.poll_payload() {
                send(Outgoing {
                    listener: listener.endpoint,
                    format,
                    ticks,
                    payload,
                });
            }
        }
    }
}

impl Sum {
    fn new(plan: &plan::Sum, samples: usize) -> Self {
        let input = |(source, db): &(u32, f64)| {
            let gain = mix::gain_from_db(*db);
            let scaled = if gain == UNITY { 0 } else { samples };
            Input {
                source: *source,
                gain,
                scaled: vec![0; scaled].into_boxed_slice(),
            }
        };
        Self {
            inputs: plan.inputs.iter().map(input).collect(),
            total: vec![0; samples].into_boxed_slice(),
        }
    }

    fn add_up(&mut self, sources: &[Source]) {
        self.total.fill(0);
        for input in &mut self.inputs {
            let source = &sources[input.source as usize];
            if input.scaled.is_empty() {
                if source.heard {
                    mix::add(&mut self.total, &source.frame);
                }
            } else if source.heard {
                input.scaled.copy_from_slice(&source.frame);
                mix::Gain::new(input.gain).apply(&mut input.scaled);
                mix::add(&mut self.total, &input.scaled);
            } else {
                input.scaled.fill(0);
            }
        }
    }

    /// What the input in `place` gave to the total; `None` when it gave nothing.
    fn part<'a>(&'a self, place: u32, sources: &'a [Source]) -> Option<&'a [i16]> {
        let input = &self.inputs[place as usize];
        let source = &sources[input.source as usize];
        let part = if input.scaled.is_empty() {
            &source.frame
        } else {
            &input.scaled
        };
        source.heard.then_some(part)
    }
}

/// Mixes `terms` without the listener's `own` parts into the frame of `work`.
fn hear(terms: &[(Term, i32)], own: &[(u32, u32)], sources: &[Source], sums: &[Sum], work: &mut Work) {
    let own_part = |sum: u32| {
        let place = own.iter().find(|(of, _)| *of == sum).map(|(_, place)| *place)?;
        sums[sum as usize].part(place, sources)
    };
    match terms {
        [(Term::Sum(sum, _), UNITY)] => {
            let total = &sums[*sum as usize].total;
            match own_part(*sum) {
                Some(own) => mix::all_but(total, own, &mut work.frame),
                None => mix::all(total, &mut work.frame),
            }
            return;
        }
        [(Term::Source(source, _), UNITY)] => {
            work.frame.copy_from_slice(&sources[*source as usize].frame);
            return;
        }
        _ => work.total.fill(0),
    }
    for (term, gain) in terms {
        match term {
            Term::Sum(sum, _) => {
                add_scaled(&mut work.total, sums[*sum as usize].total.iter().copied(), *gain);
                if let Some(own) = own_part(*sum) {
                    add_scaled(
                        &mut work.total,
                        own.iter().map(|sample| i32::from(*sample)),
                        -*gain,
                    );
                }
            }
            Term::Source(source, _) => {
                let source = &sources[*source as usize];
                if source.heard {
                    add_scaled(
                        &mut work.total,
                        source.frame.iter().map(|sample| i32::from(*sample)),
                        *gain,
                    );
                }
            }
        }
    }
    mix::all(&work.total, &mut work.frame);
}

fn add_scaled(total: &mut [i32], samples: impl Iterator<Item = i32>, gain: i32) {
    for (total, sample) in total.iter_mut().zip(samples) {
        *total += (i64::from(sample) * i64::from(gain) / i64::from(UNITY)) as i32;
    }
}
