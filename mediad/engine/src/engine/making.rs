//! How a mixer is made out of a plan and the mixer before it.

use std::collections::BTreeMap;

use codecs::mix::{Limiter, gain_from_db};

use super::{
    decoding::Decoding,
    encoding::Encoding,
    group::{Begin, Common, Group, Listener, Term, TermOf},
    inband::Clamp,
    mixer::{Feed, Mixer, Parts, Relayed, Source, Tap},
    observer::Observer,
    plan::{self, Mix, Tones, Voice},
    playback::Playback,
    playing::Player,
    shared::SharedPlayers,
    slab::Key,
    sum::{Input, Sum},
    tapping::Tapping,
    tick::TICK_MS,
};
use crate::{
    command::TapRings,
    spec::{Name, NodeKind, RoomSpec, SessionSpec},
};

/// Makes one mixer.
pub(crate) struct Maker<'a> {
    mix: &'a Mix,
    spec: &'a SessionSpec,
    endpoints: &'a [Key],
    players: &'a [Player],
    departed: Vec<(Key, Box<Decoding>)>,
    left: Vec<(Name, Box<Playback>)>,
    relayed: BTreeMap<Key, Relayed>,
    /// Which sources are there for more than the first tick.
    lasting: Vec<bool>,
    samples: usize,
    past: Past,
    sources: Vec<Source>,
    source_of: BTreeMap<VoiceName, u32>,
    sums: Vec<Sum>,
    tappings: Vec<(&'a plan::Tap, Tapping)>,
}

/// What somebody hears, by its name: a room or a node of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Room(RoomName),
    Node(VoiceName),
}

/// A node, and whether it is heard without the tones of digits.
type VoiceName = (Name, bool);
/// A room, and what becomes of tones in its sum.
type RoomName = (Name, Tones);

/// What a listener heard until now: of a mix, or as packets.
type HeardBefore = (Option<BTreeMap<Heard, i32>>, Option<Relayed>);

/// What of a mixer outlives an edit.
#[derive(Default)]
struct Past {
    sources: BTreeMap<VoiceName, Source>,
    tappings: BTreeMap<Name, Tapping>,
    /// Members of each room, how loud they were in it and whether they had a place among the loudest.
    sums: BTreeMap<RoomName, BTreeMap<VoiceName, (i32, bool)>>,
    /// What each group heard, and how loud.
    heard: Vec<BTreeMap<Heard, i32>>,
    /// Listeners who wait for what they did not hear yet.
    waits: BTreeMap<Key, Relayed>,
    /// The group of each listener.
    group_of: BTreeMap<Key, usize>,
    /// Encoders with a memory, by group and by listener, with what they were made for.
    shared: BTreeMap<usize, (plan::Format, Encoding)>,
    own: BTreeMap<Key, (plan::Format, Box<Encoding>, bool)>,
    /// Listeners who heard the encoder of a shared player.
    tuned: BTreeMap<Key, Common>,
}

impl<'a> Maker<'a> {
    pub(crate) fn new(mix: &'a Mix, parts: Parts<'a>, players: &'a [Player], before: Option<Mixer>) -> Self {
        let Parts {
            spec,
            endpoints,
            rings,
            departed,
            left,
            relayed,
        } = parts;
        let mut maker = Self {
            mix,
            spec,
            endpoints,
            players,
            departed,
            left,
            relayed,
            lasting: mix.lasting(),
            samples: (mix.rate_hz / 1_000 * TICK_MS) as usize,
            past: Past::of(before, mix.rate_hz),
            sources: Vec::with_capacity(mix.sources.len()),
            source_of: BTreeMap::new(),
            sums: Vec::with_capacity(mix.sums.len()),
            tappings: Vec::new(),
        };
        for tap in &mix.taps {
            let tapping = maker.tapping(tap, rings);
            maker.tappings.extend(tapping.map(|tapping| (tap, tapping)));
        }
        for at in 0..mix.sources.len() {
            let source = maker.source(at);
            maker.source_of.insert(source.name(), at as u32);
            maker.sources.push(source);
        }
        for sum in &mix.sums {
            let sum = maker.sum(sum);
            maker.sums.push(sum);
        }
        maker
    }

    pub(crate) fn finish(mut self) -> (Box<[Source]>, Box<[Sum]>) {
        for sum in self.sums.iter().filter(|sum| sum.is_ranked()) {
            for input in &sum.inputs {
                self.sources[input.source as usize].ranked = true;
            }
        }
        (self.sources.into(), self.sums.into())
    }

    fn tapping(&mut self, plan: &plan::Tap, rings: &[TapRings]) -> Option<Tapping> {
        let node = &self.spec.nodes[plan.listener.node as usize].id;
        let port = &rings.iter().find(|rings| rings.node == *node)?.port;
        let rate_hz = self.mix.rate_hz;
        let kept = self
            .past
            .tappings
            .remove(node)
            .filter(|tap| tap.fits(port, rate_hz));
        kept.or_else(|| Tapping::new(node.clone(), port.clone(), rate_hz))
    }

    fn tap_of(&self, node: &Name) -> Option<Feed> {
        let at = self
            .tappings
            .iter()
            .position(|(_, tapping)| tapping.node == *node)?;
        Some(Feed::Tap(at as u32))
    }

    /// The taps of the plan.
    pub(crate) fn taps(&mut self) -> Box<[Tap]> {
        let tappings = std::mem::take(&mut self.tappings);
        let tap = |(plan, tapping): (&plan::Tap, Tapping)| {
            let terms = self.terms(&plan.terms, None);
            Tap {
                tapping,
                own: self.own(&plan.listener, &terms).into(),
                terms: terms.into(),
                limiter: Limiter::new(),
            }
        };
        tappings.into_iter().map(tap).collect()
    }

    fn player_of(&self, node: &Name) -> Option<Feed> {
        let at = self.players.iter().position(|player| player.node().id == *node)?;
        Some(Feed::Player(at as u32))
    }

    fn source(&mut self, at: usize) -> Source {
        let Voice { node, clamps } = self.mix.sources[at];
        let spec = &self.spec.nodes[node as usize];
        let before = self.past.sources.remove(&(spec.id.clone(), clamps.is_some()));
        let loudness = before.as_ref().map_or(0.0, |before| before.loudness);
        let (observer, waits) = match before {
            Some(Source {
                feed: Feed::Clamp(clamp, _),
                ..
            }) => (None, Some(clamp).filter(|clamp| clamp.fits(self.samples))),
            Some(before) => (before.observer, None),
            None => (None, None),
        };
        let clamp = clamps.map(|of| {
            let clamp = waits.unwrap_or_else(|| Box::new(Clamp::new(self.samples)));
            Feed::Clamp(clamp, Some(of))
        });
        let feed = match self.endpoints.get(node as usize).filter(|key| **key != Key::NONE) {
            _ if clamp.is_some() => clamp.unwrap_or(Feed::None),
            Some(key) => Feed::Endpoint(*key),
            None if matches!(spec.kind, NodeKind::Tap(_)) => self.tap_of(&spec.id).unwrap_or(Feed::None),
            None => self.player_of(&spec.id).unwrap_or(Feed::None),
        };
        let watches = &self.mix.watches;
        let watch = watches
            .binary_search_by_key(&(at as u32), |(source, _)| *source)
            .ok();
        Source {
            observer: watch.map(|at| {
                let before = observer.map(|observer| *observer);
                Box::new(Observer::new(watches[at].1, self.mix.rate_hz, before))
            }),
            node: spec.clone(),
            feed,
            frame: vec![0; self.samples].into(),
            heard: false,
            ranked: false,
            sounds: false,
            silent: false,
            begun: 0,
            played: None,
            loudness,
            ghost: !self.lasting[at],
            polished: 0,
            still: 0,
            rests: false,
        }
    }

    /// The place of a node's source; one that the plan does not ask for any more is kept as a ghost.
    fn place_of(&mut self, voice: &VoiceName) -> Option<u32> {
        if let Some(at) = self.source_of.get(voice) {
            return Some(*at);
        }
        let mut source = self.past.sources.remove(voice)?;
        let (node, _) = voice;
        if source.ghost || source.frame.len() != self.samples {
            return None;
        }
        source.ghost = true;
        source.observer = None;
        (source.still, source.rests) = (0, false);
        if let Feed::Clamp(_, of) = &mut source.feed {
            // What waits is more than it has to fade.
            *of = None;
        }
        if let Feed::Tap(_) = source.feed {
            source.feed = self.tap_of(node)?;
        }
        if let Feed::Player(_) = source.feed {
            let left = self.left.iter().position(|(left, _)| left == node);
            source.feed = match left {
                Some(at) => Feed::Left(self.left.swap_remove(at).1),
                None => self.player_of(node)?,
            };
        }
        if let Feed::Endpoint(key) = source.feed
            && let Some(at) = self.departed.iter().position(|(departed, _)| *departed == key)
        {
            source.feed = Feed::Departed(self.departed.swap_remove(at).1);
        }
        let at = self.sources.len() as u32;
        self.source_of.insert(voice.clone(), at);
        self.sources.push(source);
        Some(at)
    }

    fn sum(&mut self, plan: &plan::Sum) -> Sum {
        let room = &self.spec.nodes[plan.room as usize];
        let top = match &room.kind {
            NodeKind::Room(RoomSpec { top_talkers, .. }) => *top_talkers,
            NodeKind::Endpoint(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => None,
        };
        let mut past = self.past.sums.remove(&(room.id.clone(), plan.tones));
        let was_summed = past.is_some();
        let mut talked = Vec::new();
        let mut inputs = Vec::with_capacity(plan.inputs.len());
        for (place, (source, db)) in (0..).zip(&plan.inputs) {
            let member = self.sources[*source as usize].name();
            let before = past.as_mut().and_then(|past| past.remove(&member));
            if before.is_some_and(|(_, talked)| talked) {
                talked.push(place);
            }
            // Who is new in a room that sounds, or has to be chosen first, comes in softly.
            let softly = (was_summed || top.is_some()).then_some(0);
            let from = before.map(|(gain, _)| gain).or(softly);
            inputs.push(Input::new(*source, gain_from_db(*db), from));
        }
        self.fade(&mut inputs, past.unwrap_or_default());
        Sum::new((room.id.clone(), plan.tones), inputs, top, &talked, self.samples)
    }

    /// Members who left their room are heard for one more tick.
    fn fade(&mut self, inputs: &mut Vec<Input>, past: BTreeMap<VoiceName, (i32, bool)>) {
        for (member, (gain, _)) in past.into_iter().filter(|(_, (gain, _))| *gain > 0) {
            if let Some(source) = self.place_of(&member) {
                inputs.push(Input::new(source, 0, Some(gain)));
            }
        }
    }

    /// Where something that was heard is now, so that it can fade.
    fn ghost_of(&mut self, heard: &Heard) -> Option<TermOf> {
        match heard {
            Heard::Node(node) => self.place_of(node).map(TermOf::Source),
            Heard::Room(room) => {
                if let Some(at) = self.sums.iter().position(|sum| sum.room == *room) {
                    return Some(TermOf::Sum(at as u32));
                }
                let past = self.past.sums.remove(room)?;
                let mut inputs = Vec::new();
                for (member, (gain, _)) in past.into_iter().filter(|(_, (gain, _))| *gain > 0) {
                    if let Some(source) = self.place_of(&member) {
                        inputs.push(Input::new(source, gain, None));
                    }
                }
                let mut sum = Sum::new(room.clone(), inputs, None, &[], self.samples);
                sum.ghost = true;
                self.sums.push(sum);
                Some(TermOf::Sum(self.sums.len() as u32 - 1))
            }
        }
    }

    /// The groups of the plan. Listeners of one that heard something else before glide from there, apart from the others
    /// until the next edit.
    pub(crate) fn groups(&mut self, shared: &mut SharedPlayers) -> Box<[Group]> {
        let mut groups = Vec::with_capacity(self.mix.groups.len());
        for plan in &self.mix.groups {
            let mut by_past: BTreeMap<HeardBefore, Vec<&plan::Listener>> = BTreeMap::new();
            for listener in &plan.listeners {
                let key = self.key(listener);
                let relayed = self.relayed.get(&key).or(self.past.waits.get(&key)).copied();
                let past = self
                    .past
                    .group_of
                    .get(&key)
                    .map(|group| self.past.heard[*group].clone());
                by_past.entry((past, relayed)).or_default().push(listener);
            }
            for ((past, relayed), listeners) in by_past {
                let terms = self.terms(&plan.terms, past);
                let begin = relayed.and_then(|relayed| self.begin(&terms, relayed));
                let mut group = self.group(plan, terms, &listeners, shared);
                group.begin = begin;
                groups.push(group);
            }
        }
        groups.into()
    }

    /// Who was sent a source's packets hears it decoded from the next one on.
    fn begin(&self, terms: &[Term], relayed: Relayed) -> Option<Begin> {
        let is_it =
            |at: u32| matches!(self.sources[at as usize].feed, Feed::Endpoint(key) if key == relayed.source);
        let mut heard = terms.iter().flat_map(|term| {
            let (source, sum) = match term.of {
                TermOf::Source(source) => (Some(source), None),
                TermOf::Sum(sum) => (None, Some(&self.sums[sum as usize].inputs)),
            };
            source
                .into_iter()
                .chain(sum.into_iter().flatten().map(|input| input.source))
        });
        let source = heard.find(|at| is_it(*at))?;
        Some(Begin { source, relayed })
    }

    fn terms(&mut self, plan: &[plan::Term], past: Option<BTreeMap<Heard, i32>>) -> Vec<Term> {
        let heard_before = past.is_some();
        let mut past = past.unwrap_or_default();
        let mut terms = Vec::with_capacity(plan.len());
        for term in plan {
            let (of, heard, db) = match term {
                plan::Term::Sum(sum, db) => {
                    let room = self.sums[*sum as usize].room.clone();
                    (TermOf::Sum(*sum), Heard::Room(room), *db)
                }
                plan::Term::Source(source, db) => {
                    let voice = self.sources[*source as usize].name();
                    (TermOf::Source(*source), Heard::Node(voice), *db)
                }
            };
            let gain = gain_from_db(db);
            let fresh = if heard_before { 0 } else { gain };
            terms.push(Term::new(of, past.remove(&heard).unwrap_or(fresh), gain));
        }
        for (heard, gain) in past.into_iter().filter(|(_, gain)| *gain > 0) {
            if let Some(of) = self.ghost_of(&heard) {
                terms.push(Term::new(of, gain, 0));
            }
        }
        terms
    }

    /// Where the player plays that a group is to hear and nothing else, as it is, if many sessions hear it.
    fn common_of(&self, plan: &plan::Group, shared: &mut SharedPlayers) -> Option<Common> {
        // Who is sent less than all, or hears it for the last time, needs an encoder of its own.
        if plan.silence != plan::Silence::Encoded || plan.is_last {
            return None;
        }
        let [plan::Term::Source(source, 0.0)] = plan.terms[..] else {
            return None;
        };
        let Feed::Player(at) = self.sources[source as usize].feed else {
            return None;
        };
        let slot = self.players.get(at as usize)?.shared()?;
        Some(Common {
            source,
            slot,
            encoding: shared.expect_encoding(slot, plan)?,
        })
    }

    fn group(
        &mut self,
        plan: &plan::Group,
        terms: Vec<Term>,
        listeners: &[&plan::Listener],
        shared: &mut SharedPlayers,
    ) -> Group {
        let common = self.common_of(plan, shared);
        // Who hears nothing else from the first tick on needs no encoder of its own.
        let only_common = common.is_some() && matches!(&terms[..], [term] if term.gain.is_unity());
        let format = plan.made_for();
        let known = self.largest_before(listeners, &format);
        let kept = match plan.is_last {
            true => None,
            false => known.and_then(|group| self.past.shared.remove(&group)),
        };
        let mut encoding = match only_common {
            true => None,
            false => kept
                .map(|(_, encoding)| encoding)
                .or_else(|| Encoding::new(plan, self.mix.rate_hz)),
        };
        let tuned = self.tuned(listeners);
        let has_memory = encoding.as_ref().is_some_and(|encoding| !encoding.is_stateless());
        let mut others = false;
        let listeners = listeners
            .iter()
            .map(|listener| {
                let endpoint = self.key(listener);
                let own = self.own(listener, &terms);
                let had_own = self.past.own.get(&endpoint).is_some_and(|(.., spoke)| *spoke);
                let kept =
                    self.past.own.remove(&endpoint).filter(|(made, ..)| {
                        *made == format && has_memory && !own.is_empty() && !plan.is_last
                    });
                // Who speaks through the edit goes on hearing its own encoder.
                let spoke = kept.as_ref().is_some_and(|(.., spoke)| *spoke);
                let encoding = match kept {
                    Some((_, encoding, _)) => Some(encoding),
                    None if has_memory && !own.is_empty() => {
                        Encoding::new(plan, self.mix.rate_hz).map(Box::new)
                    }
                    None => None,
                };
                let before = self.past.group_of.get(&endpoint);
                let heard_other = before.map_or(self.relayed.contains_key(&endpoint), |group| {
                    had_own || Some(*group) != known
                });
                others |= heard_other && !spoke;
                Listener::new(endpoint, own, encoding, spoke)
            })
            .collect();
        if let Some(encoding) = encoding.as_mut().filter(|_| others) {
            encoding.refresh();
        }
        Group::new(plan, terms, listeners, (encoding, self.samples), (common, tuned))
    }

    /// The group before whose encoder most of `listeners` know.
    fn largest_before(&self, listeners: &[&plan::Listener], format: &plan::Format) -> Option<usize> {
        let groups = listeners
            .iter()
            .filter_map(|listener| self.past.group_of.get(&self.key(listener)).copied());
        let mut known: BTreeMap<usize, usize> = BTreeMap::new();
        groups.for_each(|group| *known.entry(group).or_default() += 1);
        let is_kept = |group: &usize| {
            let shared = self.past.shared.get(group);
            shared.is_some_and(|(made, _)| made == format)
        };
        let largest = known
            .into_iter()
            .filter(|(group, _)| is_kept(group))
            .max_by_key(|(_, count)| *count);
        largest.map(|(group, _)| group)
    }

    /// The shared player whose encoder all of `listeners` heard.
    fn tuned(&self, listeners: &[&plan::Listener]) -> Option<Common> {
        let tuned = |listener: &&plan::Listener| self.past.tuned.get(&self.key(listener)).copied();
        let first = tuned(listeners.first()?)?;
        let all = listeners.iter().all(|listener| tuned(listener) == Some(first));
        all.then_some(first)
    }

    /// Its own voice in what it hears: as planned, and where it fades.
    fn own(&self, listener: &plan::Listener, terms: &[Term]) -> Vec<(u32, u32)> {
        let mut own = listener.own.clone();
        let name = &self.spec.nodes[listener.node as usize].id;
        let voices = [false, true].map(|clamps| self.source_of.get(&(name.clone(), clamps)).copied());
        if voices == [None, None] {
            return own;
        }
        for term in terms {
            let TermOf::Sum(sum) = term.of else { continue };
            if own.iter().any(|(planned, _)| *planned == sum) {
                continue;
            }
            let planned = self.mix.sums.get(sum as usize).map_or(0, |sum| sum.inputs.len());
            let ghosts = &self.sums[sum as usize].inputs[planned..];
            if let Some(at) = ghosts
                .iter()
                .position(|input| voices.contains(&Some(input.source)))
            {
                own.push((sum, (planned + at) as u32));
            }
        }
        own
    }

    fn key(&self, listener: &plan::Listener) -> Key {
        let key = self.endpoints.get(listener.node as usize);
        key.copied().unwrap_or(Key::NONE)
    }
}

impl Source {
    /// What it is known by from one mixer to the next.
    fn name(&self) -> VoiceName {
        (self.node.id.clone(), matches!(self.feed, Feed::Clamp(..)))
    }
}

impl Past {
    fn of(before: Option<Mixer>, rate_hz: u32) -> Self {
        let mut past = Self::default();
        let Some(before) = before else { return past };
        let names: Vec<VoiceName> = before.sources.iter().map(Source::name).collect();
        let rooms: Vec<RoomName> = before.sums.iter().map(|sum| sum.room.clone()).collect();
        // What fades and did not yet, goes on fading.
        let faded = !before.fading;
        for sum in before.sums.into_iter().filter(|sum| !(sum.ghost && faded)) {
            let member = |(place, input): (u32, &Input)| {
                let talked = sum.talkers().contains(&place);
                (names[input.source as usize].clone(), (input.gain(), talked))
            };
            let members = (0..).zip(&sum.inputs).map(member).collect();
            past.sums.insert(sum.room.clone(), members);
        }
        let taps = before.taps.into_iter();
        past.tappings = taps.map(|tap| (tap.tapping.node.clone(), tap.tapping)).collect();
        for mut source in before.sources {
            source.ghost &= faded;
            past.sources.insert(source.name(), source);
        }
        for (at, group) in before.groups.into_iter().enumerate() {
            let heard = |term: &Term| {
                let heard = match term.of {
                    TermOf::Sum(sum) => Heard::Room(rooms[sum as usize].clone()),
                    TermOf::Source(source) => Heard::Node(names[source as usize].clone()),
                };
                (heard, term.gain.value())
            };
            // What has faded was not heard any more.
            let terms = group.terms.iter().filter(|term| !term.gain.is_muted());
            past.heard.push(terms.map(heard).collect());
            let format = group.format;
            let waits = group.begin.map(|begin| begin.relayed);
            for listener in group.listeners.into_iter().filter(|listener| !listener.parted) {
                past.tuned
                    .extend(group.tuned.map(|tuned| (listener.endpoint, tuned)));
                past.waits.extend(waits.map(|waits| (listener.endpoint, waits)));
                past.group_of.insert(listener.endpoint, at);
                if let Some(encoding) = listener.encoding.filter(|_| before.rate_hz == rate_hz) {
                    let own = (format.clone(), encoding, listener.spoke);
                    past.own.insert(listener.endpoint, own);
                }
            }
            if let Some(encoding) = group.encoding.filter(|_| before.rate_hz == rate_hz) {
                past.shared.insert(at, (format, encoding));
            }
        }
        past
    }
}
