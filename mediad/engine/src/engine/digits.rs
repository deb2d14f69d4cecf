//! Digits in and out: the engine's side of [`Hearing`](super::hearing::Hearing) and
//! [`Dialling`](super::dialling::Dialling).

use std::time::Duration;

use codecs::dtmf::DtmfEvent;
use rtp::{
    event::BLOCKS_PER_PACKET_MAX,
    header::{FIXED_HEADER_BYTES, RtpHeader},
    time::Now,
    units::{ClockRate, PayloadType},
};

use super::{
    Egress, Engine,
    collect::Collected,
    dialling::{Carrier, Dialling, Manner, Sound, Step, Wish},
    endpoint::Endpoint,
    endpoint_timer,
    hearing::Hearing,
    links,
    plan::{self, Mapping, Op},
    playing::Interruption,
    slab::Key,
    wheel::Wake,
};
use crate::{
    command::{CollectEnd, CollectWish, DigitSource, DropReason, EventKind, SendDigit, SessionKey},
    spec::{DigitPolicy, EndpointSpec, Name, SessionSpec},
};

/// Level, in -dBm0, of a digit of which none is known: what is usual.
const VOLUME_UNKNOWN: u8 = 10;

/// A digit that is over.
#[derive(Debug, Clone, Copy)]
struct Pressed {
    event: u8,
    duration_ms: u32,
    source: DigitSource,
    volume: Option<u8>,
}

impl Pressed {
    /// As it is passed on: as loud as it came.
    fn again(self) -> SendDigit {
        SendDigit {
            event: Some(self.event),
            duration_ms: self.duration_ms.clamp(40, 10_000) as u16,
            gap_ms: 40,
            volume: self.volume.unwrap_or(VOLUME_UNKNOWN),
        }
    }
}

/// What one packet, or one look at the audio, comes to.
#[derive(Debug, Default)]
struct Heard {
    /// Each of several in a packet.
    begun: [Option<u8>; BLOCKS_PER_PACKET_MAX],
    /// Digits that ended at once: one that was overtaken, and those that overtook it.
    ended: [Option<Pressed>; BLOCKS_PER_PACKET_MAX + 1],
}

/// Puts one more behind those that are there, if there is room.
fn put<T>(places: &mut [Option<T>], one: T) {
    if let Some(free) = places.iter_mut().find(|place| place.is_none()) {
        *free = Some(one);
    }
}

impl Heard {
    fn note(&mut self, kind: &EventKind) {
        match *kind {
            EventKind::DigitStarted { event, .. } => put(&mut self.begun, event),
            EventKind::DigitEnded {
                event,
                duration_ms,
                source,
                volume,
                ..
            } => {
                let pressed = Pressed {
                    event,
                    duration_ms,
                    source,
                    volume,
                };
                put(&mut self.ended, pressed);
            }
            _ => {}
        }
    }
}

impl Endpoint {
    /// Where digits to the peer wait, as it wants them now; `None` if it takes none. Tones go as what it is sent now.
    fn dialling_for(&mut self) -> Option<&mut Dialling> {
        self.dialling_as(self.egress.payload_type_sent())
    }

    /// Packets come to it no more, while `source` sends the `digit` of that number.
    pub(super) fn note_begun(&mut self, source: Key, digit: u32) {
        if self.spec().takes_events()
            && let Some(dialling) = self.dialling_for()
        {
            dialling.note_begun(source, digit);
        }
    }

    fn dialling_as(&mut self, payload_type: Option<u8>) -> Option<&mut Dialling> {
        let manner = manner(self.node.endpoint(), payload_type)?;
        let dialling = self
            .dialling
            .get_or_insert_with(|| Box::new(Dialling::new(manner)));
        dialling.retarget(manner);
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
        let endpoint = self.endpoints.get(key);
        let audio = endpoint.and_then(|endpoint| endpoint.ingress.current_format());
        let clocks = (clock, audio.map_or(clock, |audio| audio.clock));
        self.hear(now, key, |hearing, now, tell| {
            hearing.on_packet(now, header, clocks, payload, tell);
        });
        // Later packets move the deadline away; the timer finds that out when it fires.
        let due = self
            .endpoints
            .get(key)
            .and_then(|endpoint| endpoint.hearing.due());
        let armed = self.wheel.armed(endpoint_timer(key));
        if let Some(due) = due
            && armed.is_none_or(|armed| armed > due)
        {
            self.wheel.arm(endpoint_timer(key), due, now.mono, Wake::Digit);
        }
    }

    pub(super) fn check_received_digit(&mut self, now: Now, key: Key) {
        self.hear(now, key, Hearing::on_timeout);
    }

    /// A tone was found in the audio of `key`, or is over.
    #[cold]
    pub(super) fn on_tone(&mut self, now: Now, key: Key, found: DtmfEvent) {
        self.hear(now, key, |hearing, now, tell| hearing.on_tone(now, found, tell));
    }

    /// Nobody looks for tones of `key` any more.
    pub(super) fn end_tone(&mut self, now: Now, key: Key) {
        self.hear(now, key, Hearing::lose_tone);
    }

    /// A digit whose source went away has ended.
    pub(super) fn end_digit(&mut self, now: Now, key: Key) {
        self.hear(now, key, Hearing::finish);
    }

    /// Tells what `listen` hears, and does what has to be done about it.
    fn hear(
        &mut self,
        now: Now,
        key: Key,
        listen: impl FnOnce(&mut Hearing, Now, &mut dyn FnMut(EventKind)),
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
        // A digit out of a link was told where it came into the host.
        let linked = links::is_link(egress.socket);
        let mut heard = Heard::default();
        listen(hearing, now, &mut |kind| {
            heard.note(&kind);
            if !linked {
                outbox.event(session.handle, Some(&node.id), now.wall, kind);
            }
        });
        for event in heard.begun.into_iter().flatten() {
            self.on_digit(now, key, event);
        }
        for pressed in heard.ended.into_iter().flatten() {
            self.pass_digit(now, key, pressed);
        }
    }

    /// Gives a digit to whoever hears `key` and is not sent its packets: as telephone-event, or as tone.
    fn pass_digit(&mut self, now: Now, key: Key, pressed: Pressed) {
        let Some(source) = self.endpoints.get_mut(key) else {
            return;
        };
        let (session, node) = (source.session, source.node.clone());
        let digit = source.hearing.count();
        // Taken out while the listeners, who live beside them, are written to.
        let hops = std::mem::take(&mut source.ingress.hops);
        for listener in &hops {
            self.pass_digit_to(now, (session, &node.id), *listener, pressed, true);
        }
        let Some(source) = self.endpoints.get_mut(key) else {
            return;
        };
        source.ingress.hops = hops;
        if source.ingress.decoding.is_none() {
            return;
        }
        let session_of = self.sessions.get_mut(session);
        let Some(mixer) = session_of.and_then(|session| session.mixer.take()) else {
            return;
        };
        for listener in mixer.listeners() {
            let dialling = self.endpoints.get(listener).and_then(|one| one.dialling.as_ref());
            if dialling.is_some_and(|dialling| dialling.has_begun(key, digit)) {
                continue;
            }
            self.pass_digit_to(now, (session, &node.id), listener, pressed, false);
        }
        if let Some(session) = self.sessions.get_mut(session) {
            session.mixer = Some(mixer);
        }
    }

    fn pass_digit_to(
        &mut self,
        now: Now,
        (session, source): (Key, &Name),
        key: Key,
        pressed: Pressed,
        relayed: bool,
    ) {
        let (Some(session), Some(listener)) = (self.sessions.get(session), self.endpoints.get_mut(key))
        else {
            return;
        };
        let wanted = passes(
            &session.spec,
            source,
            listener.node.endpoint(),
            &listener.node.id,
            pressed.source,
        );
        // Packets of events are passed on by a relay as they come.
        if !wanted || relayed && listener.spec().takes_events() {
            return;
        }
        let Some(dialling) = listener.dialling.as_mut() else {
            return;
        };
        dialling.pass(now.mono, pressed.again());
        self.arm(now.mono, key);
    }

    /// Makes room for digits that are passed on to a listener whose plan decodes, if it takes any; as tones only where
    /// somebody may send events.
    pub(super) fn expect_digits(&mut self, key: Key, with_events: bool) {
        let Some(listener) = self.endpoints.get_mut(key) else {
            return;
        };
        if !with_events && !listener.spec().takes_events() {
            return;
        }
        if let Some(dialling) = listener.dialling_for() {
            dialling.reserve();
        }
    }

    /// Makes room for tones towards `listener`, who is sent what `speaker` sends and takes no events.
    pub(super) fn expect_tones(&mut self, speaker: Key, listener: Key, mappings: &[Mapping]) {
        let sends_events = self
            .endpoints
            .get(speaker)
            .is_some_and(|speaker| speaker.spec().sends_events());
        let Some(listener) = self.endpoints.get_mut(listener) else {
            return;
        };
        if !sends_events || listener.spec().takes_events() {
            return;
        }
        let sent = mappings.iter().find(|mapping| mapping.op != Op::Withhold);
        if let Some(dialling) = listener.dialling_as(sent.map(|mapping| mapping.payload_type)) {
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
        if let Some(session) = self.keys.get(&handle).copied() {
            self.watch_digits(now, session, key);
        }
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
        self.interrupt(now, session, &node.id, Interruption::Digit);
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
        let sounded = endpoint
            .dialling
            .as_ref()
            .is_some_and(|dialling| dialling.is_sounding());
        if !sounded {
            self.lend_encoder(key, false);
        }
        self.dial_step(now, key, sends, tx);
        let dialling = self
            .endpoints
            .get(key)
            .and_then(|endpoint| endpoint.dialling.as_ref());
        if sounded && dialling.is_some_and(|dialling| !dialling.is_sounding()) {
            self.lend_encoder(key, true);
        }
    }

    fn dial_step(&mut self, now: Now, key: Key, sends: bool, tx: &mut impl Egress) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
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
        let payload_type = dialling.payload_type();
        dialling.set_complexity(self.config.opus_complexity);
        let step = dialling.step(now.mono, &egress.line);
        egress.suppressed = matches!(step, Step::Packet(_) | Step::Sound(_));
        let event;
        let (marker, timestamp, payload, length) = match step {
            Step::Packet(packet) => {
                event = packet.payload.to_bytes();
                (packet.marker, packet.timestamp, &event[..], None)
            }
            Step::Sound(Sound {
                payload,
                timestamp,
                ticks,
                first,
            }) => (first, timestamp, payload, Some(ticks)),
            Step::Pause | Step::Done => return,
        };
        let Some(destination) = egress.destination.filter(|_| !payload.is_empty()) else {
            return;
        };
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
            marker,
            payload_type: PayloadType::from_low_bits(payload_type),
            sequence: match length {
                None => egress.line.own(now.mono, timestamp),
                Some(length) => egress.line.own_sound(now.mono, timestamp, length),
            },
            timestamp,
            ssrc: egress.ssrc,
        };
        let (head, body) = buffer[..len].split_at_mut(FIXED_HEADER_BYTES);
        head.copy_from_slice(&header.to_bytes());
        body.copy_from_slice(payload);
        let bytes = payload.len();
        let Some(len) = egress.seal(buffer, len) else {
            return;
        };
        tx.commit(len, egress.socket, destination);
        egress.count(Some(payload_type), bytes, &mut self.totals);
    }
}

/// A digit of `source` that came in this form is to be passed on to `listener`.
fn passes(spec: &SessionSpec, source: &Name, listener: &EndpointSpec, id: &Name, form: DigitSource) -> bool {
    let speaker = || spec.node(source).map(|node| node.endpoint());
    match (form, plan::digit_policy(spec, source, id)) {
        (DigitSource::TelephoneEvent, Some(policy)) => policy.passes_events(),
        // What is not converted is heard as the sound it is.
        (DigitSource::Inband, Some(DigitPolicy::Convert)) => {
            listener.takes_events() && speaker().is_some_and(plan::may_send_tones)
        }
        (DigitSource::Inband, Some(DigitPolicy::Pass | DigitPolicy::Block | DigitPolicy::Clamp)) => false,
        (_, None) => false,
    }
}

/// How the peer of `spec` takes digits, if it does: as events, or else as tones in the audio with this payload type, or
/// the one that it prefers.
pub(super) fn manner(spec: &EndpointSpec, payload_type: Option<u8>) -> Option<Manner> {
    if let Some(wish) = wish(spec) {
        return Some(Manner::Events(wish));
    }
    let sent = spec
        .send
        .iter()
        .find(|format| Some(format.payload_type.value()) == payload_type);
    let carrier = sent.and_then(|format| Some((format, plan::codec_kind(format)?)));
    let (format, kind) = carrier.or_else(|| plan::encodable(spec))?;
    Some(Manner::Tones(Carrier {
        payload_type: format.payload_type.value(),
        kind,
        ptime_ms: plan::ptime(kind, spec.ptime_ms),
    }))
}

/// How the peer of `spec` takes telephone-events, if it does.
fn wish(spec: &EndpointSpec) -> Option<Wish> {
    let format = plan::events(spec)?;
    Some(Wish {
        payload_type: format.payload_type.value(),
        clock: format.clock,
        interval: Duration::from_millis(u64::from(spec.ptime_ms.max(10))),
    })
}
