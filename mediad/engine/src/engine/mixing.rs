//! The tick of a session that decodes, and how its mixer comes and goes with edits.

use std::collections::BTreeMap;

use rtp::{
    header::{FIXED_HEADER_BYTES, RtpHeader},
    time::Now,
};

use super::{
    Egress, Engine, Totals,
    decoding::{Decoding, Scratch},
    endpoint::Endpoint,
    group::{Group, Outgoing},
    line::Stride,
    media::forward,
    mixer::{Farewell, Mixer, Moment, Parts, Speakers},
    observer::Notice,
    plan::{self, Mapping, Mix},
    playing::Interruption,
    prefetch::prefetch_listeners,
    slab::Key,
    tick::TICK_MS,
};
use crate::{
    command::{DropReason, EventKind},
    limits,
    spec::{NodeKind, SessionSpec},
};

impl Engine {
    /// The tick of a session.
    pub(super) fn tick(&mut self, now: Now, key: Key, number: u64, phase: u8, tx: &mut impl Egress) {
        let Some(session) = self.sessions.get_mut(key) else {
            return self.ticks.leave();
        };
        let is_its_tick = |mixer: &Mixer| !mixer.asleep && mixer.phase == phase && mixer.next_tick <= number;
        if !session.mixer.as_deref().is_some_and(is_its_tick) {
            // Left over from before an edit.
            return self.ticks.leave();
        }
        // Taken out while the endpoints, who live beside it, are written to.
        let (Some(mut mixer), Some(scratch)) = (session.mixer.take(), self.scratch.as_mut()) else {
            return;
        };
        let handle = session.handle;
        let missed = u32::try_from(number - mixer.next_tick)
            .unwrap_or(u32::MAX)
            .min(50);
        mixer.next_tick = number + 1;
        let outbox = &mut self.outbox;
        let moment = Moment {
            now: now.mono,
            number,
            missed,
            opus_complexity: self.config.opus_complexity,
        };
        let speakers = Speakers {
            endpoints: &mut self.endpoints,
            players: self.players.get_mut(&key).map_or(&mut [], Vec::as_mut_slice),
            shared: &mut self.shared,
            scratch,
        };
        mixer.noticed.clear();
        let late = mixer.gather(moment, speakers, tx, |node, kind| {
            outbox.event(handle, Some(node), now.wall, kind);
        });
        self.totals.late_prompt_ticks += u64::from(late);
        let (endpoints, transports, totals) = (&mut self.endpoints, &mut self.transports, &mut self.totals);
        let opus_ns = mixer.encode(moment, &mut self.shared, |outgoing| {
            let after = |place: usize| outgoing.after.get(place).map(|after| after.endpoint);
            prefetch_listeners(tx, endpoints, after);
            let Some(listener) = endpoints.get_mut(outgoing.listener) else {
                return;
            };
            if !send(now, listener, &outgoing, missed, tx, totals) {
                totals.drops[DropReason::EgressFull as usize] += 1;
                if let Some(transport) = transports.get_mut(listener.transport) {
                    transport.count(DropReason::EgressFull);
                }
            }
        });
        self.totals.opus_ns += opus_ns;
        mixer.record(now.mono, number);
        self.tapped |= mixer.tap();
        self.part(now, &mut mixer, tx);
        if mixer.is_quiet() {
            self.ticks.leave();
            mixer.rest();
            self.mark_asleep(&mixer);
        }
        self.put_back(now, key, mixer);
    }

    /// A mixer has done its tick: what it noticed is told.
    fn put_back(&mut self, now: Now, key: Key, mut mixer: Box<Mixer>) {
        let noticed = std::mem::take(&mut mixer.noticed);
        if let Some(session) = self.sessions.get_mut(key) {
            session.mixer = Some(mixer);
        }
        for (endpoint, notice) in &noticed {
            self.on_notice(now, *endpoint, *notice);
        }
        if let Some(mixer) = self
            .sessions
            .get_mut(key)
            .and_then(|session| session.mixer.as_mut())
        {
            mixer.noticed = noticed;
        }
    }

    /// Where codecs remember what went before, tones towards `listener` go on from what its mix was encoded with, and where
    /// nobody else hears that, it goes `back` to the mix. Those that cannot go on start anew.
    pub(super) fn lend_encoder(&mut self, listener: Key, back: bool) {
        let Some(endpoint) = self.endpoints.get_mut(listener) else {
            return;
        };
        let tones = endpoint.dialling.as_mut().and_then(|dialling| dialling.encoder());
        let session = self.sessions.get_mut(endpoint.session);
        let mixer = session.and_then(|session| session.mixer.as_deref_mut());
        let (Some(tones), Some(mixer)) = (tones, mixer) else {
            return;
        };
        let hears = |group: &&mut Group| group.listeners.iter().any(|of| of.endpoint == listener);
        let Some(group) = mixer.groups.iter_mut().find(hears) else {
            return;
        };
        let Some((mix, alone)) = group.encoding_of(listener) else {
            return;
        };
        let mix = mix.encoder();
        if !back {
            tones.continue_from(mix);
        } else if !alone {
            mix.refresh();
        } else if !mix.continue_from(tones) {
            mix.start_anew();
        }
    }

    /// An endpoint's peer told what it loses: what encodes for it makes up for that, where it can. Told with every report,
    /// since an edit may have given it another encoder.
    pub(super) fn on_loss_told(&mut self, session: Key, listener: Key, percent: u8) {
        let session = self.sessions.get_mut(session);
        if let Some(mixer) = session.and_then(|session| session.mixer.as_deref_mut()) {
            mixer
                .groups
                .iter_mut()
                .for_each(|group| group.loses(listener, percent));
        }
    }

    /// Something was seen of an endpoint in its audio.
    fn on_notice(&mut self, now: Now, key: Key, notice: Notice) {
        let kind = match notice {
            Notice::Digit(found) => return self.on_tone(now, key, found),
            Notice::TalkStarted => EventKind::TalkStarted,
            Notice::TalkStopped { duration_ms } => EventKind::TalkStopped { duration_ms },
        };
        let Some(endpoint) = self.endpoints.get(key) else {
            return;
        };
        let (session, node) = (endpoint.session, endpoint.node.clone());
        if let Some(session) = self.sessions.get(session) {
            self.outbox.event(session.handle, Some(&node.id), now.wall, kind);
        }
        if notice == Notice::TalkStarted {
            self.interrupt(now, session, &node.id, Interruption::Speech);
        }
    }

    /// Listeners who have heard the mix for the last time get their source's packets from here on.
    fn part(&mut self, now: Now, mixer: &mut Mixer, tx: &mut impl Egress) {
        for at in 0..mixer.farewells.len() {
            self.part_one(now, mixer, at, tx);
        }
    }

    fn part_one(&mut self, now: Now, mixer: &mut Mixer, at: usize, tx: &mut impl Egress) {
        let farewell = &mut mixer.farewells[at];
        if std::mem::replace(&mut farewell.is_over, true) {
            return;
        }
        let Farewell {
            listener,
            source,
            hop,
            ref mappings,
            ..
        } = *farewell;
        if let Some(ingress) = self.endpoints.get_mut(source).map(|source| &mut source.ingress) {
            let from = hop * ingress.formats.len();
            ingress.mappings[from..from + mappings.len()].copy_from_slice(mappings);
        }
        if let Some(listener) = self.endpoints.get_mut(listener) {
            listener.egress.decoded = false;
        }
        let decoding = self
            .endpoints
            .get(source)
            .and_then(|source| source.ingress.decoding.as_deref());
        if let (Some(decoding), Some(scratch)) = (decoding, self.scratch.as_mut()) {
            // A packet that was begun is ended.
            let rest = decoding.copy_rest(&mut scratch.pcm);
            let pcm = &scratch.pcm[..rest];
            let (endpoints, totals) = (&mut self.endpoints, &mut self.totals);
            mixer.encode_rest(listener, pcm, |outgoing| {
                if let Some(listener) = endpoints.get_mut(outgoing.listener) {
                    send(now, listener, &outgoing, 0, tx, totals);
                    // What is encoded in part needs no other rate: its samples are ticks.
                    listener.egress.line.end_after(pcm.len() as u32);
                }
            });
        }
        let mappings = &mixer.farewells[at].mappings;
        self.hand_over(now, source, listener, mappings, tx);
        mixer.part(listener);
    }

    /// The next packet of any source is to wake the tick.
    fn mark_asleep(&mut self, mixer: &Mixer) {
        for key in mixer.decoded() {
            let endpoint = self.endpoints.get_mut(key);
            if let Some(decoding) = endpoint.and_then(|endpoint| endpoint.ingress.decoding.as_mut()) {
                decoding.asleep = true;
            }
        }
    }

    /// A packet came of a source that rests, or for a session whose tick rests.
    #[cold]
    pub(super) fn wake(&mut self, now: Now, key: Key) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        let session = endpoint.session;
        let mixer = self.sessions.get_mut(session).and_then(|it| it.mixer.as_mut());
        // While it is at its tick the next packet has to say so again.
        let Some(mixer) = mixer else { return };
        mixer.rouse(key);
        if let Some(decoding) = &mut endpoint.ingress.decoding {
            decoding.asleep = false;
        }
        self.wake_session(now, session);
    }

    pub(super) fn wake_session(&mut self, now: Now, key: Key) {
        if let Some(mixer) = self
            .sessions
            .get_mut(key)
            .and_then(|session| session.mixer.as_deref_mut())
            && mixer.asleep
        {
            mixer.wake();
            mixer.next_tick = self.ticks.begin(key, mixer.phase, now.mono);
        }
    }

    /// Gives the session the mixer that `mix` asks for, and its sources their decodings.
    pub(super) fn install_mixer(
        &mut self,
        now: Now,
        key: Key,
        mix: Option<Box<Mix>>,
        parts: Parts<'_>,
        farewells: Vec<Farewell>,
    ) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let before = session.mixer.take();
        let endpoints = parts.endpoints;
        let Some(mix) = mix else {
            self.decode(now, endpoints, None);
            return self.lose_tones(now, endpoints, None);
        };
        let is_new = before.is_none();
        let with_events = has_events(parts.spec);
        let branches = self.mix_branches(key, parts.spec, &mix.branches);
        let players = self.players.get(&key).map_or(&[][..], Vec::as_slice);
        let before = before.map(|before| *before);
        let mut mixer = Mixer::new(&mix, parts, players, &mut self.shared, before);
        mixer.branches = branches;
        mixer.farewells = farewells;
        self.decode(now, endpoints, Some(&mixer));
        self.lose_tones(now, endpoints, Some(&mixer));
        if is_new {
            mixer.phase = self.ticks.assign();
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let listeners: Vec<Key> = mixer.listeners().collect();
        session.mixer = Some(Box::new(mixer));
        for listener in listeners {
            self.expect_digits(listener, with_events);
        }
        self.scratch.get_or_insert_with(Scratch::new);
        self.wake_session(now, key);
    }

    /// Looks for digits of `endpoint` in its audio from now on, where it is not done yet. Until the session's next edit, which
    /// finds out whether it is still wanted.
    pub(super) fn watch_digits(&mut self, now: Now, key: Key, endpoint: Key) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let mixer = session.mixer.as_deref();
        if mixer.is_some_and(|mixer| mixer.looks_for_digits(endpoint)) {
            return;
        }
        let (spec, endpoints) = (session.spec.clone(), session.endpoints.clone());
        let rings = mixer.map(Mixer::rings).unwrap_or_default();
        let native_hz = self.native_hz.get(&key).map_or(&[][..], |rates| rates);
        let plan::Compiled { mix, .. } = self.compile(key, &spec, &endpoints, native_hz);
        let session = self.sessions.get_mut(key);
        let mixer = session.and_then(|session| session.mixer.as_deref_mut());
        let mut farewells = mixer
            .map(|mixer| std::mem::take(&mut mixer.farewells))
            .unwrap_or_default();
        farewells.retain(|farewell| !farewell.is_over);
        let parts = Parts {
            spec: &spec,
            endpoints: &endpoints,
            rings: &rings,
            departed: Vec::new(),
            left: Vec::new(),
            relayed: BTreeMap::new(),
        };
        self.install_mixer(now, key, mix, parts, farewells);
    }

    /// Digits that sound where nobody looks for them any more have ended.
    fn lose_tones(&mut self, now: Now, endpoints: &[Key], mixer: Option<&Mixer>) {
        for key in endpoints {
            let sounds = self
                .endpoints
                .get(*key)
                .is_some_and(|endpoint| endpoint.hearing.has_tone());
            if sounds && !mixer.is_some_and(|mixer| mixer.looks_for_digits(*key)) {
                self.end_tone(now, *key);
            }
        }
    }

    /// Gives those of `endpoints` that are sources of `mixer` what decodes them, and takes it from all others.
    fn decode(&mut self, now: Now, endpoints: &[Key], mixer: Option<&Mixer>) {
        let mut sources: Vec<Key> = mixer.iter().flat_map(|mixer| mixer.decoded()).collect();
        sources.sort_unstable();
        let rate_hz = mixer.map_or(0, |mixer| mixer.rate_hz);
        for key in endpoints {
            let Some(endpoint) = self.endpoints.get_mut(*key) else {
                continue;
            };
            let spec = endpoint.node.endpoint();
            let kept = endpoint.ingress.decoding.take();
            endpoint.ingress.decoding = sources.binary_search(key).ok().map(|_| match kept {
                Some(kept) if !kept.retired => Box::new(kept.adapted(spec, rate_hz)),
                _ => {
                    let mut new = Decoding::new(spec, rate_hz, u64::from(endpoint.egress.ssrc.0));
                    // It was silent before anybody had to know what that sounds like.
                    let ingress = &endpoint.ingress;
                    if let Some(description) = ingress.description.as_ref().filter(|_| ingress.silent) {
                        let (format, payload, gone_ms) = description.get(now.mono);
                        new.begin_silent(format, payload, gone_ms);
                    }
                    Box::new(new)
                }
            });
        }
    }

    /// `listener` comes to be sent what `source` says, who said that it is silent and may say nothing else for long.
    pub(super) fn tell_silence(
        &mut self,
        now: Now,
        source: Key,
        listener: Key,
        mappings: &[Mapping],
        tx: &mut impl Egress,
    ) {
        let ingress = self.endpoints.get_mut(source).map(|source| &mut source.ingress);
        let Some(ingress) = ingress.filter(|ingress| ingress.silent) else {
            return;
        };
        let Some(description) = ingress.description.take() else {
            return;
        };
        let (arrival, payload, gone_ms) = description.again(now.mono);
        let mapping = mappings.get(description.format());
        if let (Some(listener), Some(mapping)) = (self.endpoints.get_mut(listener), mapping)
            && gone_ms < limits::COMFORT_NOISE_MS_MAX
        {
            forward(now, listener, *mapping, &arrival, payload, tx, &mut self.totals);
        }
        if let Some(source) = self.endpoints.get_mut(source) {
            source.ingress.description = Some(description);
        }
    }

    /// What waited to be decoded for a listener who now gets the packets themselves.
    pub(super) fn hand_over(
        &mut self,
        now: Now,
        source: Key,
        listener: Key,
        mappings: &[Mapping],
        tx: &mut impl Egress,
    ) {
        let decoding = self
            .endpoints
            .get_mut(source)
            .and_then(|source| source.ingress.decoding.take());
        let Some(decoding) = decoding else { return };
        if let Some(listener) = self.endpoints.get_mut(listener) {
            decoding.waiting(|arrival, format, payload| {
                if let Some(mapping) = mappings.get(usize::from(format)) {
                    forward(now, listener, *mapping, arrival, payload, tx, &mut self.totals);
                }
            });
        }
        if let Some(source) = self.endpoints.get_mut(source) {
            source.ingress.decoding = Some(decoding);
        }
    }
}

/// Somebody may send telephone-events.
fn has_events(spec: &SessionSpec) -> bool {
    spec.nodes.iter().any(|node| match &node.kind {
        NodeKind::Endpoint(endpoint) => endpoint.sends_events(),
        NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => false,
    })
}

/// Sends one payload of ours to one listener; false if there was no room.
#[inline]
fn send(
    now: Now,
    listener: &mut Endpoint,
    outgoing: &Outgoing<'_>,
    missed: u32,
    tx: &mut impl Egress,
    totals: &mut Totals,
) -> bool {
    let egress = &mut listener.egress;
    let Outgoing {
        format,
        payload,
        ticks,
        silence,
        ..
    } = *outgoing;
    let stride = Stride {
        clock: format.clock,
        ticks,
        missed: format.clock.hz() / 1_000 * TICK_MS * missed,
    };
    let Some(destination) = egress.destination else {
        return true;
    };
    if egress.suppressed || payload.is_empty() {
        egress.line.lapse(now.mono, stride);
        return true;
    }
    let len = FIXED_HEADER_BYTES + payload.len();
    let room = len + egress.trailer_bytes();
    let Some(slot) = tx.slot().and_then(|slot| slot.get_mut(..room)) else {
        egress.line.lapse(now.mono, stride);
        return false;
    };
    let (stamp, payload_type) = match silence {
        None => (egress.line.stride(now.mono, stride), format.payload_type),
        Some(noise) => (egress.line.stride_silent(now.mono, stride), noise),
    };
    let header = RtpHeader {
        marker: stamp.marker,
        payload_type,
        sequence: stamp.sequence,
        timestamp: stamp.timestamp,
        ssrc: egress.ssrc,
    };
    let (head, body) = slot[..len].split_at_mut(FIXED_HEADER_BYTES);
    head.copy_from_slice(&header.to_bytes());
    body.copy_from_slice(payload);
    let Some(len) = egress.seal(slot, len) else {
        return false;
    };
    tx.commit(len, egress.socket, destination);
    let says = silence.is_none().then_some(payload_type.value());
    egress.count(says, payload.len(), totals);
    true
}
