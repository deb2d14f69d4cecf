//! The tick of a session that decodes, and how its mixer comes and goes with edits.

use rtp::{
    header::{FIXED_HEADER_BYTES, RtpHeader},
    time::Now,
};

use super::{
    Egress, Engine, Totals,
    decoding::{Decoding, Scratch},
    endpoint::Endpoint,
    group::Outgoing,
    line::Stride,
    media::forward,
    mixer::{Mixer, Moment, Parts, Speakers},
    plan::{Mapping, Mix},
    slab::Key,
    tick::TICK_MS,
};
use crate::command::DropReason;

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
        };
        let speakers = Speakers {
            endpoints: &mut self.endpoints,
            players: self.players.get_mut(&key).map_or(&mut [], Vec::as_mut_slice),
            shared: &mut self.shared,
            scratch,
        };
        let late = mixer.gather(moment, speakers, |node, kind| {
            outbox.event(handle, Some(node), now.wall, kind);
        });
        self.totals.late_prompt_ticks += u64::from(late);
        let endpoints = &mut self.endpoints;
        let (transports, totals) = (&mut self.transports, &mut self.totals);
        mixer.encode(number, &mut self.shared, |outgoing| {
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
        mixer.record(now.mono, number);
        self.tapped |= mixer.tap();
        if mixer.is_quiet() {
            self.ticks.leave();
            mixer.asleep = true;
            self.mark_asleep(&mixer);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.mixer = Some(mixer);
        }
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

    /// A packet came for a session whose tick rests.
    #[cold]
    pub(super) fn wake(&mut self, now: Now, key: Key) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        if let Some(decoding) = &mut endpoint.ingress.decoding {
            decoding.asleep = false;
        }
        let session = endpoint.session;
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
    pub(super) fn install_mixer(&mut self, now: Now, key: Key, mix: Option<Box<Mix>>, parts: Parts<'_>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let before = session.mixer.take();
        let endpoints = parts.endpoints;
        let Some(mix) = mix else {
            return self.decode(endpoints, None);
        };
        let is_new = before.is_none();
        let branches = self.mix_branches(key, parts.spec, &mix.branches);
        let players = self.players.get(&key).map_or(&[][..], Vec::as_slice);
        let before = before.map(|before| *before);
        let mut mixer = Mixer::new(&mix, parts, players, &mut self.shared, before);
        mixer.branches = branches;
        self.decode(endpoints, Some(&mixer));
        if is_new {
            mixer.phase = self.ticks.assign();
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let listeners: Vec<Key> = mixer.listeners().collect();
        session.mixer = Some(Box::new(mixer));
        for listener in listeners {
            self.expect_digits(listener);
        }
        self.scratch.get_or_insert_with(Scratch::new);
        self.wake_session(now, key);
    }

    /// Gives those of `endpoints` that are sources of `mixer` what decodes them, and takes it from all others.
    fn decode(&mut self, endpoints: &[Key], mixer: Option<&Mixer>) {
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
                _ => Box::new(Decoding::new(spec, rate_hz)),
            });
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
        ..
    } = outgoing;
    let stride = Stride {
        clock: format.clock,
        ticks: *ticks,
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
    let stamp = egress.line.stride(now.mono, stride);
    let header = RtpHeader {
        marker: stamp.marker,
        payload_type: format.payload_type,
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
    egress.count(format.payload_type.value(), payload.len(), totals);
    true
}
