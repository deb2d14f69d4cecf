//! From "who hears whom" to what is done for each packet, decided when the graph changes and never again.
//!
//! A listener has exactly one plan; a source fans out to all plans that name it. Plans that forward single packets are
//! [`Plan`]s with a source; those that decode are part of the session's [`Mix`]: their sources' packets go into a jitter
//! buffer as well, and the listener's line is written on a tick.
//!
//! Rooms are kept as sums while compiling, never spelled out member by member: a room of a thousand is a thousand
//! inputs and one sum, not a million pairs.

use codecs::CodecKind;

use crate::{
    command::PlanKind,
    spec::{
        Codec, DigitPolicy, EdgeSpec, EndpointSpec, InbandDigits, NodeKind, PayloadFormat, PolishSpec,
        RoomSpec, SessionSpec, TapSpec,
    },
};

/// What happens to a payload on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// It stays as it is.
    Forward,
    /// µ-law becomes A-law.
    UlawToAlaw,
    /// A-law becomes µ-law.
    AlawToUlaw,
    /// Telephone-events become those of another clock.
    Rescale,
    /// The listener is not to get it.
    Withhold,
}

/// How one format of a source reaches one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Payload type towards the listener.
    pub(crate) payload_type: u8,
    /// What happens to the payload.
    pub(crate) op: Op,
}

/// Nothing of a format reaches the listener.
pub(crate) const WITHHELD: Mapping = Mapping {
    payload_type: 0,
    op: Op::Withhold,
};

/// The plan towards one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What kind of work it is.
    pub(crate) kind: PlanKind,
    /// Index of the node whose packets it gets, when it forwards.
    pub(crate) source: Option<u32>,
    /// One for each format of the source.
    pub(crate) mappings: Box<[Mapping]>,
    /// What is forwarded is mixed for one more tick, in which the others who were heard fade.
    pub(crate) parts: bool,
}

impl Plan {
    fn silent() -> Self {
        Self::decoding(PlanKind::Silent)
    }

    fn decoding(kind: PlanKind) -> Self {
        Self {
            kind,
            source: None,
            mappings: Box::default(),
            parts: false,
        }
    }
}

/// Who heard others, as a mix was before an edit, than the one who is forwarded now.
#[derive(Clone, Copy)]
pub(crate) struct Parting<'a> {
    /// Rate of that mix.
    pub(crate) rate_hz: u32,
    /// Listener and speaker, by index of their nodes.
    pub(crate) parts_with: &'a dyn Fn(u32, u32) -> bool,
}

impl Parting<'_> {
    /// Nobody: there was no mix.
    pub(crate) const NONE: Self = Self {
        rate_hz: 0,
        parts_with: &|_, _| false,
    };
}

/// What a session decodes, sums and encodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mix {
    /// Sampling rate of everything between decoders and encoders.
    pub(crate) rate_hz: u32,
    /// What is decoded or played, each once.
    pub(crate) sources: Vec<Voice>,
    /// Listeners who are forwarded to from the next tick on.
    pub(crate) parting: Vec<u32>,
    /// One for each room that is heard.
    pub(crate) sums: Vec<Sum>,
    /// Listeners by what they hear and in which format.
    pub(crate) groups: Vec<Group>,
    /// What recorders hear.
    pub(crate) branches: Vec<Branch>,
    /// Every tap of the session, heard or not.
    pub(crate) taps: Vec<Tap>,
    /// Sources that are looked at beside, or instead of, being heard; indices into `sources`, ascending.
    pub(crate) watches: Vec<(u32, Watch)>,
}

/// The sound of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Voice {
    pub(crate) node: u32,
    /// Without the tones of digits, which are looked for in this source before it.
    pub(crate) clamps: Option<u32>,
}

impl Mix {
    /// Which of the sources are heard, or looked at, beyond the tick in which listeners part.
    pub(crate) fn lasting(&self) -> Vec<bool> {
        let lasts = |group: &&Group| {
            let mut listeners = group.listeners.iter();
            self.parting.is_empty() || listeners.any(|listener| !self.parting.contains(&listener.node))
        };
        let heard = self.groups.iter().filter(lasts).flat_map(|group| &group.terms);
        let tapped = self.taps.iter().flat_map(|tap| &tap.terms);
        let recorded = self.branches.iter().map(|branch| &branch.term);
        let mut lasting = vec![false; self.sources.len()];
        for term in heard.chain(tapped).chain(recorded) {
            match term {
                Term::Source(source, _) => lasting[*source as usize] = true,
                Term::Sum(sum, _) => {
                    let inputs = self.sums[*sum as usize].inputs.iter();
                    inputs.for_each(|(source, _)| lasting[*source as usize] = true);
                }
            }
        }
        self.watches
            .iter()
            .for_each(|(source, _)| lasting[*source as usize] = true);
        // What is heard without its tones comes from the sound with them.
        for (at, voice) in self.sources.iter().enumerate() {
            if let Some(of) = voice.clamps.filter(|_| lasting[at]) {
                lasting[of as usize] = true;
            }
        }
        lasting
    }
}

/// What a source is watched for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// Tell when it talks.
    pub(crate) talk: bool,
    /// Look for digits in its sound.
    pub(crate) digits: bool,
}

impl Watch {
    fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// A tap: a listener that takes samples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tap {
    pub(crate) terms: Vec<Term>,
    pub(crate) listener: Listener,
}

/// The sum of a room.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sum {
    pub(crate) room: u32,
    /// What becomes of tones in it.
    pub(crate) tones: Tones,
    /// Highest rate of its inputs.
    hz: u32,
    /// Indices into [`Mix::sources`], with the gain of their edge in dB; by index.
    pub(crate) inputs: Vec<(u32, f64)>,
}

/// What becomes of the tones of digits on the way out of a room: one of its sums for each that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tones {
    /// [`DigitPolicy::Pass`], [`DigitPolicy::Convert`] or [`DigitPolicy::Clamp`].
    policy: DigitPolicy,
    /// They are to be telephone-events, where some are to be converted.
    events: bool,
}

/// Listeners that hear the same terms in the same format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) terms: Vec<Term>,
    pub(crate) format: PayloadFormat,
    pub(crate) kind: CodecKind,
    pub(crate) ptime_ms: u8,
    pub(crate) silence: Silence,
    /// They hear it for the last time, by an encoder of their own: what they hear then is another's, and their decoders are
    /// to forget this one.
    pub(crate) is_last: bool,
    pub(crate) listeners: Vec<Listener>,
}

impl Group {
    /// What its encoders are made for.
    pub(crate) fn made_for(&self) -> Format {
        Format {
            audio: self.format.clone(),
            ptime_ms: self.ptime_ms,
            silence: self.silence.clone(),
        }
    }
}

/// How silence is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Silence {
    /// As any sound.
    Encoded,
    /// By descriptions in this format (RFC 3389).
    Described(PayloadFormat),
    /// By the codec's own discontinuous transmission.
    Discontinuous,
}

/// A mix that a recorder hears.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Branch {
    /// Index into the spec's edges.
    pub(crate) edge: u32,
    /// What it hears by that edge, before the edge's gain.
    pub(crate) term: Term,
}

/// What encoders are made for: one goes on only where this stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) audio: PayloadFormat,
    pub(crate) ptime_ms: u8,
    pub(crate) silence: Silence,
}

/// Part of what a listener hears.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Term {
    /// A room, by its index in [`Mix::sums`].
    Sum(u32, f64),
    /// A source, by its index in [`Mix::sources`].
    Source(u32, f64),
}

/// Who hears a list of terms.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listener {
    /// Its node.
    pub(crate) node: u32,
    /// Its own voice in the sums it hears, which it is not to hear: sum and place among its inputs.
    pub(crate) own: Vec<(u32, u32)>,
}

/// What a graph comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Compiled {
    /// One for each node, in the order of the spec.
    pub(crate) plans: Box<[Plan]>,
    /// Unset when nothing is decoded.
    pub(crate) mix: Option<Box<Mix>>,
}

/// The rate at which nothing of the prompts of a player is lost, by the index of its node; 0 where there are none.
pub(crate) type NativeHz<'a> = &'a dyn Fn(u32) -> u32;

/// Whether digits are gathered from a node, by its index.
pub(crate) type Gathers<'a> = &'a dyn Fn(u32) -> bool;

/// The lowest rate of mixes at which nothing is lost of what has `native_hz`.
pub(crate) fn rate_over(native_hz: u32) -> u32 {
    match native_hz {
        ..=8_000 => 8_000,
        8_001..=16_000 => 16_000,
        16_001.. => 48_000,
    }
}

/// The rate at which `spec` is mixed, if anything of it is.
pub(crate) fn mix_rate(spec: &SessionSpec, native_hz: NativeHz<'_>) -> Option<u32> {
    let mix = compile(spec, native_hz, &|_| false, Parting::NONE).mix;
    mix.map(|mix| mix.rate_hz)
}

/// The plan of every node of `spec`, in its order.
///
/// From the nodes that `gathers` names digits are gathered now.
pub(crate) fn compile(
    spec: &SessionSpec,
    native_hz: NativeHz<'_>,
    gathers: Gathers<'_>,
    parting: Parting<'_>,
) -> Compiled {
    let mut compiler = Compiler::new(spec, native_hz);
    compiler.parting = parting;
    let plans = (0..spec.nodes.len() as u32)
        .map(|node| compiler.plan(node))
        .collect();
    compiler.record();
    for (node, at) in spec.nodes.iter().zip(0..) {
        if let NodeKind::Tap(tap) = &node.kind {
            compiler.tap(at, tap);
        }
    }
    Compiled {
        plans,
        mix: compiler.finish(gathers),
    }
}

/// One way from a speaker to a listener or into a room.
#[derive(Debug, Clone, Copy)]
struct Way {
    from: u32,
    gain_db: f64,
    digits: DigitPolicy,
}

struct Compiler<'a> {
    spec: &'a SessionSpec,
    native_hz: NativeHz<'a>,
    parting: Parting<'a>,
    /// What comes into each node by edges that are not muted; in the order of the speakers.
    into: Vec<Vec<Way>>,
    /// Rooms into which some way converts digits.
    converts: Vec<bool>,
    mix: Mix,
    /// Index into [`Mix::sources`] of each node, as it is and without tones.
    source_of: Vec<[Option<u32>; 2]>,
}

impl<'a> Compiler<'a> {
    fn new(spec: &'a SessionSpec, native_hz: NativeHz<'a>) -> Self {
        let mut into = vec![Vec::new(); spec.nodes.len()];
        // Muted edges keep their place and carry nothing.
        for edge in spec.edges.iter().filter(|edge| !edge.muted) {
            if let (Some(from), Some(to)) = (position(spec, &edge.from), position(spec, &edge.to))
                && speaks(&spec.nodes[from].kind)
                && listens(&spec.nodes[to].kind)
            {
                into[to].push(Way::of(from as u32, edge));
            }
        }
        let converts = |way: &Way| way.digits == DigitPolicy::Convert;
        Self {
            spec,
            native_hz,
            converts: into.iter().map(|ways| ways.iter().any(converts)).collect(),
            parting: Parting::NONE,
            into,
            mix: Mix {
                rate_hz: 0,
                sources: Vec::new(),
                parting: Vec::new(),
                sums: Vec::new(),
                groups: Vec::new(),
                watches: Vec::new(),
                branches: Vec::new(),
                taps: Vec::new(),
            },
            source_of: vec![[None; 2]; spec.nodes.len()],
        }
    }

    fn plan(&mut self, node: u32) -> Plan {
        let NodeKind::Endpoint(listener) = &self.spec.nodes[node as usize].kind else {
            return Plan::silent();
        };
        match self.voices(node) {
            Voices::None => Plan::silent(),
            Voices::One(way) => self.plan_one(node, listener, way),
            Voices::Several => self.plan_mix(node, listener, PlanKind::Mix),
        }
    }

    /// How many voices a listener hears, and the one if it is one.
    fn voices(&self, node: u32) -> Voices {
        let mut found = Voices::None;
        for way in &self.into[node as usize] {
            let direct = [*way];
            let (ways, gain_db, digits) = match self.spec.nodes[way.from as usize].kind {
                NodeKind::Room(_) => (&self.into[way.from as usize][..], way.gain_db, way.digits),
                NodeKind::Endpoint(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => {
                    (&direct[..], 0.0, DigitPolicy::Pass)
                }
            };
            // Two others are enough to know, however many more there are.
            for other in ways.iter().filter(|other| other.from != node).take(2) {
                found = match found {
                    Voices::None => Voices::One(Way {
                        from: other.from,
                        gain_db: other.gain_db + gain_db,
                        digits: other.digits.max(digits),
                    }),
                    Voices::One(_) | Voices::Several => return Voices::Several,
                };
            }
        }
        found
    }

    fn plan_one(&mut self, node: u32, listener: &EndpointSpec, way: Way) -> Plan {
        let NodeKind::Endpoint(speaker) = &self.spec.nodes[way.from as usize].kind else {
            return self.plan_mix(node, listener, PlanKind::Mix);
        };
        if way.gain_db != 0.0 {
            return self.plan_mix(node, listener, PlanKind::Mix);
        }
        // Only what is decoded can be made better.
        let is_polished = speaker.polish != PolishSpec::default() && decodable(speaker);
        let is_decoded = is_polished || self.clamps(way, listener.takes_events());
        if can_relay(speaker, listener) && !(is_decoded && encodable(listener).is_some()) {
            let mut plan = relay(way.from, speaker, listener, way.digits);
            if [speaker, listener].iter().any(|end| is_protected(self.spec, end)) {
                plan.kind = PlanKind::Rewrite;
            }
            plan.parts =
                decodable(speaker) && (self.parting.parts_with)(node, way.from) && self.part(node, listener);
            return plan;
        }
        self.plan_mix(node, listener, PlanKind::Transcode)
    }

    fn plan_mix(&mut self, node: u32, listener: &EndpointSpec, kind: PlanKind) -> Plan {
        let Some((format, codec)) = encodable(listener) else {
            return Plan::silent();
        };
        let silence = silence(listener, format);
        let (terms, listener, heard_hz) = self.hear(node, listener.takes_events());
        self.mix.rate_hz = self.mix.rate_hz.max(heard_hz.min(codec.sample_rate_hz()));
        self.join(terms, listener, (format, codec), (silence, false));
        Plan::decoding(kind)
    }

    /// A listener who is forwarded to hears a mix once more. The mix's rate is no matter of that.
    fn part(&mut self, node: u32, listener: &EndpointSpec) -> bool {
        let Some(format) = encodable(listener) else {
            return false;
        };
        let silence = silence(listener, format.0);
        let (terms, listener, _) = self.hear(node, listener.takes_events());
        // Of the others every encoder goes on where the one before stood.
        let is_last = format.1 == CodecKind::Opus;
        self.join(terms, listener, format, (silence, is_last));
        self.mix.parting.push(node);
        true
    }

    fn join(
        &mut self,
        terms: Vec<Term>,
        listener: Listener,
        (format, codec): (&PayloadFormat, CodecKind),
        (silence, is_last): (Silence, bool),
    ) {
        let node = listener.node;
        let ptime_ms = ptime(codec, listener_ptime(self.spec, node));
        let same = |group: &&mut Group| {
            group.terms == terms
                && group.format == *format
                && group.ptime_ms == ptime_ms
                && group.silence == silence
                && group.is_last == is_last
        };
        match self.mix.groups.iter_mut().find(same) {
            Some(group) => group.listeners.push(listener),
            None => self.mix.groups.push(Group {
                terms,
                format: format.clone(),
                kind: codec,
                ptime_ms,
                silence,
                is_last,
                listeners: vec![listener],
            }),
        }
    }

    /// What recorders hear of rooms and players is mixed for them; of endpoints they get the packets.
    fn record(&mut self) {
        for (edge, at) in self.spec.edges.iter().zip(0..).filter(|(edge, _)| !edge.muted) {
            let ends = (self.spec.node(&edge.to), position(self.spec, &edge.from));
            let (Some(to), Some(from)) = ends else { continue };
            if !matches!(to.kind, NodeKind::Recorder(_)) {
                continue;
            }
            let (term, hz) = match &self.spec.nodes[from].kind {
                NodeKind::Room(room) => {
                    let tones = self.tones(Way::of(from as u32, edge), false);
                    let (sum, hz) = self.sum(from as u32, tones);
                    (Term::Sum(sum, 0.0), hz.min(room.sample_rate_hz))
                }
                NodeKind::Player(_) | NodeKind::Tap(_) => (
                    Term::Source(self.source(from as u32), 0.0),
                    self.rate_of(from as u32),
                ),
                NodeKind::Endpoint(speaker) if is_recorded_decoded(edge, speaker) => (
                    Term::Source(self.clamped(from as u32), 0.0),
                    self.rate_of(from as u32),
                ),
                NodeKind::Endpoint(_) | NodeKind::Recorder(_) => continue,
            };
            self.mix.rate_hz = self.mix.rate_hz.max(hz);
            self.mix.branches.push(Branch { edge: at, term });
        }
    }

    /// A tap hears a mix, whatever it is of.
    fn tap(&mut self, node: u32, tap: &TapSpec) {
        let (terms, listener, heard_hz) = self.hear(node, false);
        self.mix.rate_hz = self.mix.rate_hz.max(heard_hz.min(tap.sample_rate_hz));
        self.mix.taps.push(Tap { terms, listener });
    }

    /// What a node hears when it hears a mix, and the rate at which nothing of it is lost.
    fn hear(&mut self, node: u32, takes_events: bool) -> (Vec<Term>, Listener, u32) {
        let (mut terms, mut own, mut heard_hz) = (Vec::new(), Vec::new(), 8_000);
        for at in 0..self.into[node as usize].len() {
            let way = self.into[node as usize][at];
            if let NodeKind::Room(room) = &self.spec.nodes[way.from as usize].kind {
                let tones = self.tones(way, takes_events);
                let (sum, hz) = self.sum(way.from, tones);
                let inputs = &self.mix.sums[sum as usize].inputs;
                let mut sources = self.source_of[node as usize].iter().flatten();
                let place =
                    sources.find_map(|input| inputs.binary_search_by_key(input, |(source, _)| *source).ok());
                own.extend(place.map(|place| (sum, place as u32)));
                terms.push(Term::Sum(sum, way.gain_db));
                heard_hz = heard_hz.max(hz.min(room.sample_rate_hz));
            } else {
                terms.push(Term::Source(self.voice(way, takes_events), way.gain_db));
                heard_hz = heard_hz.max(self.rate_of(way.from));
            }
        }
        (terms, Listener { node, own }, heard_hz)
    }

    /// The tones of what comes this way are taken out of it.
    fn clamps(&self, way: Way, takes_events: bool) -> bool {
        let NodeKind::Endpoint(speaker) = &self.spec.nodes[way.from as usize].kind else {
            return false;
        };
        decodable(speaker)
            && match way.digits {
                DigitPolicy::Pass | DigitPolicy::Block => false,
                DigitPolicy::Convert => takes_events && may_send_tones(speaker),
                DigitPolicy::Clamp => true,
            }
    }

    /// What becomes of tones on a way out of a room.
    fn tones(&self, way: Way, takes_events: bool) -> Tones {
        let converts = takes_events
            && match way.digits {
                DigitPolicy::Pass => self.converts[way.from as usize],
                DigitPolicy::Convert => true,
                DigitPolicy::Block | DigitPolicy::Clamp => false,
            };
        let policy = match way.digits {
            DigitPolicy::Clamp => DigitPolicy::Clamp,
            DigitPolicy::Convert if converts => DigitPolicy::Convert,
            DigitPolicy::Pass | DigitPolicy::Convert | DigitPolicy::Block => DigitPolicy::Pass,
        };
        let events = converts;
        Tones { policy, events }
    }

    /// The source of what comes this way.
    fn voice(&mut self, way: Way, takes_events: bool) -> u32 {
        match self.clamps(way, takes_events) {
            true => self.clamped(way.from),
            false => self.source(way.from),
        }
    }

    /// The sum of a room and the highest rate of its inputs.
    fn sum(&mut self, room: u32, tones: Tones) -> (u32, u32) {
        let rate = |compiler: &Self| {
            let ways = &compiler.into[room as usize];
            ways.iter()
                .map(|way| compiler.rate_of(way.from))
                .max()
                .unwrap_or(8_000)
        };
        if let Some(at) = self
            .mix
            .sums
            .iter()
            .position(|sum| (sum.room, sum.tones) == (room, tones))
        {
            return (at as u32, self.mix.sums[at].hz);
        }
        let ways = self.into[room as usize].clone();
        let input = |way: &Way| {
            let digits = way.digits.max(tones.policy);
            let source = self.voice(Way { digits, ..*way }, tones.events);
            (source, way.gain_db)
        };
        let mut inputs: Vec<_> = ways.iter().map(input).collect();
        inputs.sort_by_key(|(source, _)| *source);
        let hz = rate(self);
        self.mix.sums.push(Sum {
            room,
            tones,
            hz,
            inputs,
        });
        (self.mix.sums.len() as u32 - 1, hz)
    }

    fn source(&mut self, node: u32) -> u32 {
        *self.source_of[node as usize][0].get_or_insert_with(|| {
            self.mix.sources.push(Voice { node, clamps: None });
            self.mix.sources.len() as u32 - 1
        })
    }

    /// The source of a node without tones; always behind the one as it is.
    fn clamped(&mut self, node: u32) -> u32 {
        let clamps = Some(self.source(node));
        *self.source_of[node as usize][1].get_or_insert_with(|| {
            self.mix.sources.push(Voice { node, clamps });
            self.mix.sources.len() as u32 - 1
        })
    }

    /// The rate at which nothing of a node's sound is lost.
    fn rate_of(&self, node: u32) -> u32 {
        match &self.spec.nodes[node as usize].kind {
            NodeKind::Endpoint(endpoint) => {
                let rates = endpoint.receive.iter().filter_map(codec_kind);
                rates.map(CodecKind::sample_rate_hz).max().unwrap_or(8_000)
            }
            NodeKind::Player(_) => rate_over((self.native_hz)(node)),
            NodeKind::Tap(tap) => tap.sample_rate_hz,
            NodeKind::Room(_) | NodeKind::Recorder(_) => 8_000,
        }
    }

    /// Sources that are watched are decoded on the side: how they reach their listeners does not change.
    fn watch(&mut self, gathers: Gathers<'_>) {
        let mut watches = vec![Watch::default(); self.spec.nodes.len()];
        for ((node, watch), at) in self.spec.nodes.iter().zip(&mut watches).zip(0..) {
            if let NodeKind::Endpoint(endpoint) = &node.kind {
                watch.talk = endpoint.detect_talk;
                watch.digits = match endpoint.inband_digits {
                    InbandDigits::Auto => gathers(at),
                    InbandDigits::On => true,
                    InbandDigits::Off => false,
                };
            }
        }
        for (node, ways) in self.spec.nodes.iter().zip(&self.into) {
            if let NodeKind::Room(RoomSpec {
                talk_events: true, ..
            }) = node.kind
            {
                ways.iter().for_each(|way| watches[way.from as usize].talk = true);
            }
            let Some(barge_in) = node.player().and_then(|player| player.barge_in.as_ref()) else {
                continue;
            };
            let Some(by) = position(self.spec, &barge_in.node) else {
                continue;
            };
            watches[by].talk |= barge_in.on_speech;
            if let NodeKind::Endpoint(endpoint) = &self.spec.nodes[by].kind {
                watches[by].digits |= barge_in.on_digit && endpoint.inband_digits != InbandDigits::Off;
            }
        }
        for voice in self.mix.sources.iter().filter(|voice| voice.clamps.is_some()) {
            watches[voice.node as usize].digits = true;
        }
        for (node, watch) in (0..).zip(watches).filter(|(_, watch)| !watch.is_none()) {
            let NodeKind::Endpoint(endpoint) = &self.spec.nodes[node as usize].kind else {
                continue;
            };
            if endpoint.direction.receives() && decodable(endpoint) {
                let source = self.source(node);
                self.mix.watches.push((source, watch));
            }
        }
        self.mix.watches.sort_unstable_by_key(|(source, _)| *source);
    }

    fn finish(mut self, gathers: Gathers<'_>) -> Option<Box<Mix>> {
        self.watch(gathers);
        if self.mix.groups.is_empty()
            && self.mix.taps.is_empty()
            && self.mix.watches.is_empty()
            && self.mix.branches.is_empty()
        {
            return None;
        }
        self.mix.rate_hz = match self.mix.rate_hz {
            // Nothing but what is mixed for the last time.
            0 if !self.mix.parting.is_empty() => self.parting.rate_hz,
            hz => rate_over(hz),
        };
        Some(Box::new(self.mix))
    }
}

enum Voices {
    None,
    One(Way),
    Several,
}

impl Way {
    fn of(from: u32, edge: &EdgeSpec) -> Self {
        Self {
            from,
            gain_db: edge.gain_db,
            digits: edge.digits,
        }
    }
}

fn speaks(kind: &NodeKind) -> bool {
    match kind {
        NodeKind::Endpoint(endpoint) => endpoint.direction.receives(),
        NodeKind::Player(_) | NodeKind::Room(_) | NodeKind::Tap(_) => true,
        NodeKind::Recorder(_) => false,
    }
}

fn listens(kind: &NodeKind) -> bool {
    match kind {
        NodeKind::Endpoint(endpoint) => endpoint.direction.sends(),
        NodeKind::Room(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => true,
        NodeKind::Player(_) => false,
    }
}

fn position(spec: &SessionSpec, id: &str) -> Option<usize> {
    spec.nodes.binary_search_by(|node| (*node.id).cmp(id)).ok()
}

/// The codec of a format that can be decoded and encoded.
pub(crate) fn codec_kind(format: &PayloadFormat) -> Option<CodecKind> {
    let mono = format.channels == 1;
    match format.codec {
        Codec::Pcmu => mono.then_some(CodecKind::Pcmu),
        Codec::Pcma => mono.then_some(CodecKind::Pcma),
        Codec::G722 => mono.then_some(CodecKind::G722),
        // Signalled with two channels always (RFC 7587 §7); mono is what is decoded.
        Codec::Opus => Some(CodecKind::Opus),
        Codec::L16 => {
            let sample_rate_hz = format.clock.hz();
            let known = matches!(sample_rate_hz, 8_000 | 16_000 | 24_000 | 32_000 | 48_000);
            (mono && known).then_some(CodecKind::L16 { sample_rate_hz })
        }
        Codec::TelephoneEvent | Codec::ComfortNoise | Codec::Opaque => None,
    }
}

/// What is encoded for a listener: the format it prefers, if it can be.
pub(crate) fn encodable(listener: &EndpointSpec) -> Option<(&PayloadFormat, CodecKind)> {
    let format = listener.send_audio()?;
    Some((format, codec_kind(format)?))
}

/// Something that a speaker may send can be decoded.
pub(crate) fn decodable(speaker: &EndpointSpec) -> bool {
    speaker.receive.iter().any(|format| codec_kind(format).is_some())
}

/// How digits of `from` are to reach `to`: by an edge, or by edges into and out of a room; of several ways by the one that
/// lets most through. `None`: there is none.
pub(crate) fn digit_policy(spec: &SessionSpec, from: &str, to: &str) -> Option<DigitPolicy> {
    if from == to {
        return None;
    }
    let policy = |from: &str, to: &str| {
        let edge = spec.edge(from, to).filter(|edge| !edge.muted)?;
        Some(edge.digits)
    };
    let rooms = spec
        .nodes
        .iter()
        .filter(|node| matches!(node.kind, NodeKind::Room(_)));
    let by_room = rooms.filter_map(|room| Some(policy(from, &room.id)?.max(policy(&room.id, to)?)));
    policy(from, to).into_iter().chain(by_room).min()
}

/// Digits of the speaker may come as tones: its peer knows no telephone-events, or it is said that they do.
pub(crate) fn may_send_tones(speaker: &EndpointSpec) -> bool {
    match speaker.inband_digits {
        InbandDigits::Auto => !speaker.sends_events(),
        InbandDigits::On => true,
        InbandDigits::Off => false,
    }
}

/// A recorder gets decoded sound of the speaker by this edge, rather than packets.
pub(crate) fn is_recorded_decoded(edge: &EdgeSpec, speaker: &EndpointSpec) -> bool {
    edge.digits == DigitPolicy::Clamp && speaker.direction.receives() && decodable(speaker)
}

/// The highest sampling rate of what a recorder hears; `None` when nobody speaks to it.
pub(crate) fn recorded_rate(spec: &SessionSpec, recorder: &str) -> Option<u32> {
    // A recording is of calls: what is played to them is kept as wideband, whatever its file is.
    let native_hz = |node: u32| match spec.nodes[node as usize].player() {
        Some(player) if player.plays_prompts() => 16_000,
        Some(_) | None => 0,
    };
    let compiler = Compiler::new(spec, &native_hz);
    let node = position(spec, recorder)?;
    let rate = |way: &Way| match spec.nodes[way.from as usize].kind {
        NodeKind::Room(_) => {
            let members = compiler.into[way.from as usize].iter();
            members.map(|member| compiler.rate_of(member.from)).max()
        }
        NodeKind::Endpoint(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => {
            Some(compiler.rate_of(way.from))
        }
    };
    compiler.into[node].iter().filter_map(rate).max()
}

fn listener_ptime(spec: &SessionSpec, node: u32) -> u8 {
    match &spec.nodes[node as usize].kind {
        NodeKind::Endpoint(endpoint) => endpoint.ptime_ms,
        NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => 20,
    }
}

/// Payloads stay below this, so that no packet is fragmented.
const PAYLOAD_BYTES_MAX: usize = 1_400;

/// The packet time asked for, or the nearest below that the codec has and a packet can carry.
pub(crate) fn ptime(codec: CodecKind, asked: u8) -> u8 {
    let fits = |ms: &u8| {
        let ms = u32::from(*ms);
        codec.has_ptime(ms) && (codec == CodecKind::Opus || codec.payload_bytes_max(ms) <= PAYLOAD_BYTES_MAX)
    };
    [asked, 20, 10].into_iter().find(fits).unwrap_or(10)
}

/// How silence is sent to `listener` in the place of `format`: suppressed if it asks for that and agreed on how.
fn silence(listener: &EndpointSpec, format: &PayloadFormat) -> Silence {
    let describes = |other: &&PayloadFormat| {
        // RFC 3389 §4: the clocks of both are one.
        other.codec == Codec::ComfortNoise && other.clock == format.clock && other.channels == 1
    };
    match format.codec {
        _ if !listener.suppress_silence => Silence::Encoded,
        // RFC 7587 §6.1: the peer prefers it.
        Codec::Opus => {
            let mut parameters = format.fmtp.split(';').map(str::trim);
            match parameters.any(|parameter| parameter == "usedtx=1") {
                true => Silence::Discontinuous,
                false => Silence::Encoded,
            }
        }
        Codec::Pcmu
        | Codec::Pcma
        | Codec::G722
        | Codec::L16
        | Codec::TelephoneEvent
        | Codec::ComfortNoise
        | Codec::Opaque => {
            let described = listener.send.iter().find(describes);
            described.map_or(Silence::Encoded, |format| Silence::Described(format.clone()))
        }
    }
}

/// Something the speaker may send can reach the listener without decoding.
pub(crate) fn can_relay(speaker: &EndpointSpec, listener: &EndpointSpec) -> bool {
    let law = |codec| matches!(codec, Codec::Pcmu | Codec::Pcma);
    speaker
        .receive
        .iter()
        .filter(|format| format.codec.is_audio())
        .any(|from| {
            listener.send.iter().any(|to| {
                let same = to.codec == from.codec && to.clock == from.clock && to.channels == from.channels;
                same || (law(from.codec) && law(to.codec))
            })
        })
}

/// Its packets are encrypted.
fn is_protected(spec: &SessionSpec, endpoint: &EndpointSpec) -> bool {
    let transport = spec.transport(&endpoint.transport);
    transport.is_some_and(|transport| transport.sdes().is_some())
}

fn relay(source: u32, speaker: &EndpointSpec, listener: &EndpointSpec, digits: DigitPolicy) -> Plan {
    let mappings: Box<[Mapping]> = speaker
        .receive
        .iter()
        .map(|from| mapping(from, listener, digits))
        .collect();
    let changes = |(from, to): (&PayloadFormat, &Mapping)| match to.op {
        Op::Withhold => false,
        Op::UlawToAlaw | Op::AlawToUlaw | Op::Rescale => true,
        Op::Forward => from.payload_type.value() != to.payload_type,
    };
    let rewrites = speaker.receive.iter().zip(&mappings).any(changes);
    let kind = if rewrites {
        PlanKind::Rewrite
    } else {
        PlanKind::Relay
    };
    Plan {
        kind,
        source: Some(source),
        mappings,
        parts: false,
    }
}

fn mapping(from: &PayloadFormat, listener: &EndpointSpec, digits: DigitPolicy) -> Mapping {
    if from.codec == Codec::TelephoneEvent && !digits.passes_events() {
        return WITHHELD;
    }
    let forward = |to: &PayloadFormat| Mapping {
        payload_type: to.payload_type.value(),
        op: Op::Forward,
    };
    let candidates = || listener.send.iter().filter(|to| is_same(from, to));
    // The same number, where the listener has it, tells apart what only its parameters distinguish.
    let exact = candidates().find(|to| to.payload_type == from.payload_type);
    if let Some(to) = exact
        .or_else(|| candidates().find(|to| to.fmtp == from.fmtp))
        .or_else(|| candidates().next())
    {
        return forward(to);
    }
    let other_law = |codec| {
        listener
            .send
            .iter()
            .find(|to| to.codec == codec && to.clock == from.clock)
    };
    let (op, to) = match from.codec {
        Codec::Pcmu => (Op::UlawToAlaw, other_law(Codec::Pcma)),
        Codec::Pcma => (Op::AlawToUlaw, other_law(Codec::Pcmu)),
        Codec::TelephoneEvent => (Op::Rescale, events(listener)),
        Codec::G722 | Codec::Opus | Codec::L16 | Codec::ComfortNoise | Codec::Opaque => {
            return WITHHELD;
        }
    };
    to.map_or(WITHHELD, |to| Mapping { op, ..forward(to) })
}

/// How telephone-events are sent to `listener`, if it takes them. RFC 4733 §2.5.1.1: on the clock of the audio, where it takes
/// that.
pub(crate) fn events(listener: &EndpointSpec) -> Option<&PayloadFormat> {
    let clock = listener.send_audio().map(|audio| audio.clock);
    let mut events = listener
        .send
        .iter()
        .filter(|format| format.codec == Codec::TelephoneEvent);
    let beside = events.clone().find(|format| Some(format.clock) == clock);
    beside.or_else(|| events.next())
}

fn is_same(a: &PayloadFormat, b: &PayloadFormat) -> bool {
    a.codec == b.codec && a.clock == b.clock && a.channels == b.channels
}
