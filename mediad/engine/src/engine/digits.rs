//! Digits in and out: the engine's side of [`Hearing`](super::hearing::Hearing) and
//! [`Dialling`](super::dialling::Dialling).

use std::time::Duration;

use rtp::{
    header::{FIXED_HEADER_BYTES, RtpHeader},
    time::Now,
    units::{ClockRate, PayloadType},
};

use super::{
    Egress, Engine,
    collect::Collected,
    dialling::{Dialling, Step, Wish},
    endpoint::Endpoint,
    endpoint_timer, links, plan,
    slab::Key,
    wheel::Wake,
};
use crate::{
    command::{CollectEnd, CollectWish, DropReason, EventKind, SendDigit, SessionKey},
    spec::{Codec, EndpointSpec, Name},
};

/// Digits that ended at once: one that was overtaken, and the one that overtook it.
#[derive(Debug, Default)]
struct Ended([Option<(u8, u32)>; 2]);

impl Ended {
    fn note(&mut self, kind: &EventKind) {
        if let EventKind::DigitEnded {
            event, duration_ms, ..
        } = kind
            && let Some(free) = self.0.iter_mut().find(|place| place.is_none())
        {
            *free = Some((*event, *duration_ms));
        }
    }

    fn digits(&self) -> impl Iterator<Item = SendDigit> {
        self.0.iter().flatten().map(|(event, duration_ms)| SendDigit {
            event: Some(*event),
            duration_ms: (*duration_ms).clamp(40, 10_000) as u16,
            gap_ms: 40,
            volume: 10,
        })
    }
}

impl Endpoint {
    /// Where digits to the peer wait, as it wants them now; `None` if it takes none.
    fn dialling_for(&mut self) -> Option<&mut Dialling> {
        let wish = wish(self.node.endpoint())?;
        let dialling = self.dialling.get_or_insert_with(|| Box::new(Dialling::new(wish)));
        dialling.retarget(wish);
        Some(dialling)
    }
}

impl Engine {
    #[cold]
    pub(super) fn on_event_packet(
        &mut self,
        now: Now,
        key: Key,
        header: &RtpHeader,
        clock: ClockRate,
        payload: &[u8],
    ) {
        let Some(Endpoint {
            hearing,
            egress,
            node,
            session,
            ..
        }) = self.endpoints.get_mut(key)
        else {
            return;
        };
        let Some(session) = self.sessions.get(*session) else {
            return;
        };
        let outbox = &mut self.outbox;
        let mut ended = Ended::default();
        // A digit out of a link was told where it came into the host.
        let linked = links::is_link(egress.socket);
        let mut begun = None;
        hearing.on_packet(now, header, clock, payload, |kind| {
            ended.note(&kind);
            if let EventKind::DigitStarted { event, .. } = &kind {
                begun = Some(*event);
            }
            if !linked {
                outbox.event(session.handle, Some(&node.id), now.wall, kind);
            }
        });
        // Later packets move the deadline away; the timer finds that out when it fires.
        let armed = self.wheel.armed(endpoint_timer(key));
        if let Some(due) = hearing.due()
            && armed.is_none_or(|armed| armed > due)
        {
            self.wheel.arm(endpoint_timer(key), due, now.mono, Wake::Digit);
        }
        if let Some(event) = begun {
            self.on_digit(now, key, event);
        }
        self.pass_digits(now, key, &ended);
    }

    pub(super) fn check_received_digit(&mut self, now: Now, key: Key) {
        let Some(Endpoint {
            hearing,
            egress,
            node,
            session,
            ..
        }) = self.endpoints.get_mut(key)
        else {
            return;
        };
        let Some(session) = self.sessions.get(*session) else {
            return;
        };
        let outbox = &mut self.outbox;
        let mut ended = Ended::default();
        let linked = links::is_link(egress.socket);
        hearing.on_timeout(now, |kind| {
            ended.note(&kind);
            if !linked {
                outbox.event(session.handle, Some(&node.id), now.wall, kind);
            }
        });
        self.pass_digits(now, key, &ended);
    }

    /// Plans that decode write telephone-events of their own: each digit once it has ended, for whoever hears its source.
    fn pass_digits(&mut self, now: Now, key: Key, ended: &Ended) {
        let source = self
            .endpoints
            .get(key)
            .filter(|source| source.ingress.decoding.is_some());
        let Some((source, mixer)) = source.and_then(|source| {
            let mixer = self.sessions.get_mut(source.session)?.mixer.take()?;
            Some(((source.session, source.node.clone()), mixer))
        }) else {
            return;
        };
        let (session, source) = source;
        for digit in ended.digits() {
            for listener in mixer.listeners() {
                self.pass_digit(now, session, &source.id, listener, digit);
            }
        }
        if let Some(session) = self.sessions.get_mut(session) {
            session.mixer = Some(mixer);
        }
    }

    fn pass_digit(&mut self, now: Now, session: Key, source: &Name, key: Key, digit: SendDigit) {
        let Some(session) = self.sessions.get(session) else {
            return;
        };
        let Some(listener) = self.endpoints.get_mut(key) else {
            return;
        };
        if !plan::passes_digits(&session.spec, source, &listener.node.id) {
            return;
        }
        let Some(dialling) = listener.dialling.as_mut() else {
            return;
        };
        dialling.pass(now.mono, digit);
        self.arm(now.mono, key);
    }

    /// Makes room for digits that are passed on to a listener whose plan decodes, if it takes any.
    pub(super) fn expect_digits(&mut self, key: Key) {
        let Some(listener) = self.endpoints.get_mut(key) else {
            return;
        };
        if let Some(dialling) = listener.dialling_for() {
            dialling.reserve();
        }
    }

    /// Gathers digits of `node` from now on, in the place of what is gathered there.
    pub(super) fn collect(
        &mut self,
        now: Now,
        handle: SessionKey,
        node: &Name,
        request: Name,
        wish: CollectWish,
    ) {
        let Some(key) = self.endpoint_called(handle, node) else {
            return;
        };
        self.end_collection(now, key, CollectEnd::Cancelled);
        let collecting = self.collections.entry(key).or_default();
        collecting.begin(request, wish, now.mono);
        self.arm(now.mono, key);
    }

    /// A digit of `key` began: players stop for it, and it may be one of those that are gathered.
    fn on_digit(&mut self, now: Now, key: Key, event: u8) {
        let Some(endpoint) = self.endpoints.get(key) else {
            return;
        };
        let collecting = self.collections.get_mut(&key);
        let end = collecting.and_then(|collecting| collecting.on_digit(now.mono, event));
        let (session, node) = (endpoint.session, endpoint.node.clone());
        match end {
            Some(end) => self.end_collection(now, key, end),
            None => self.arm(now.mono, key),
        }
        self.interrupt(now, session, &node.id);
    }

    pub(super) fn check_collection(&mut self, now: Now, key: Key) {
        let collecting = self.collections.get(&key);
        if let Some(end) = collecting.and_then(|collecting| collecting.on_timeout(now.mono)) {
            self.end_collection(now, key, end);
        }
    }

    /// Tells what was gathered, if anything was being.
    pub(super) fn end_collection(&mut self, now: Now, key: Key, end: CollectEnd) {
        let Some(endpoint) = self.endpoints.get(key) else {
            return;
        };
        let collecting = self.collections.get_mut(&key);
        let Some(Collected { request, digits, end }) = collecting.and_then(|collecting| collecting.end(end))
        else {
            return;
        };
        if let Some(session) = self.sessions.get(endpoint.session) {
            let kind = EventKind::DigitsCollected { request, digits, end };
            self.outbox
                .event(session.handle, Some(&endpoint.node.id), now.wall, kind);
        }
    }

    fn endpoint_called(&self, handle: SessionKey, node: &Name) -> Option<Key> {
        let session = self.sessions.get(*self.keys.get(&handle)?)?;
        let at = session.spec.nodes.binary_search_by(|n| n.id.cmp(node)).ok()?;
        session.endpoints.get(at).copied()
    }

    /// A digit whose source went away has ended.
    pub(super) fn end_digit(&mut self, now: Now, key: Key) {
        let Some(Endpoint {
            hearing,
            egress,
            node,
            session,
            ..
        }) = self.endpoints.get_mut(key)
        else {
            return;
        };
        let Some(session) = self.sessions.get(*session) else {
            return;
        };
        let outbox = &mut self.outbox;
        let linked = links::is_link(egress.socket);
        hearing.finish(now, |kind| {
            if !linked {
                outbox.event(session.handle, Some(&node.id), now.wall, kind);
            }
        });
    }

    pub(super) fn send_digits(&mut self, now: Now, handle: SessionKey, node: &Name, digits: &[SendDigit]) {
        let Some(key) = self.endpoint_called(handle, node) else {
            return;
        };
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        if !endpoint.spec().direction.sends() {
            return;
        }
        let Some(dialling) = endpoint.dialling_for() else {
            return;
        };
        dialling.push(now.mono, digits);
        self.arm(now.mono, key);
    }

    /// The next packet of a digit we send. RFC 4733 §2.5.1.2: no audio overlaps it.
    pub(super) fn dial(&mut self, now: Now, key: Key, tx: &mut impl Egress) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        let sends = endpoint.spec().direction.sends();
        let Endpoint {
            dialling: Some(dialling),
            egress,
            transport,
            ..
        } = endpoint
        else {
            return;
        };
        if !sends {
            dialling.stop();
            egress.suppressed = false;
            return;
        }
        let step = dialling.step(now.mono, egress.line.timestamp_at(now.mono));
        let payload_type = dialling.payload_type();
        egress.suppressed = matches!(step, Step::Packet(_));
        let packet = match step {
            Step::Packet(packet) => packet,
            Step::Pause | Step::Done => return,
        };
        let Some(destination) = egress.destination else {
            return;
        };
        let payload = packet.payload.to_bytes();
        let len = FIXED_HEADER_BYTES + payload.len();
        let room = len + egress.trailer_bytes();
        let Some(buffer) = tx.slot().and_then(|buffer| buffer.get_mut(..room)) else {
            self.totals.drops[DropReason::EgressFull as usize] += 1;
            if let Some(transport) = self.transports.get_mut(*transport) {
                transport.count(DropReason::EgressFull);
            }
            return;
        };
        let header = RtpHeader {
            marker: packet.marker,
            payload_type: PayloadType::from_low_bits(payload_type),
            sequence: egress.line.own(now.mono, packet.timestamp),
            timestamp: packet.timestamp,
            ssrc: egress.ssrc,
        };
        let (head, body) = buffer[..len].split_at_mut(FIXED_HEADER_BYTES);
        head.copy_from_slice(&header.to_bytes());
        body.copy_from_slice(&payload);
        let Some(len) = egress.seal(buffer, len) else {
            return;
        };
        tx.commit(len, egress.socket, destination);
        egress.count(payload_type, payload.len(), &mut self.totals);
    }
}

/// How the peer of `spec` takes telephone-events, if it does. RFC 4733 §2.5.1.1: on the clock of the audio, where it
/// takes that.
pub(super) fn wish(spec: &EndpointSpec) -> Option<Wish> {
    let clock = spec.send_audio().map(|audio| audio.clock);
    let events = || {
        spec.send
            .iter()
            .filter(|format| format.codec == Codec::TelephoneEvent)
    };
    let format = events()
        .find(|format| Some(format.clock) == clock)
        .or_else(|| events().next())?;
    Some(Wish {
        payload_type: format.payload_type.value(),
        clock: format.clock,
        interval: Duration::from_millis(u64::from(spec.ptime_ms.max(10))),
    })
}
