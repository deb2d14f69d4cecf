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
    dialling::{Dialling, Step, Wish},
    endpoint::Endpoint,
    endpoint_timer,
    slab::Key,
    wheel::Wake,
};
use crate::{
    command::{DropReason, SendDigit, SessionKey},
    spec::{Codec, EndpointSpec, Name},
};

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
        hearing.on_packet(now, header, clock, payload, |kind| {
            outbox.event(session.handle, Some(&node.id), now.wall, kind);
        });
        // Later packets move the deadline away; the timer finds that out when it fires.
        let armed = self.wheel.armed(endpoint_timer(key));
        if let Some(due) = hearing.due()
            && armed.is_none_or(|armed| armed > due)
        {
            self.wheel.arm(endpoint_timer(key), due, now.mono, Wake::Digit);
        }
    }

    pub(super) fn check_received_digit(&mut self, now: Now, key: Key) {
        let Some(Endpoint {
            hearing,
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
        hearing.on_timeout(now, |kind| {
            outbox.event(session.handle, Some(&node.id), now.wall, kind)
        });
    }

    /// A digit whose source went away has ended.
    pub(super) fn end_digit(&mut self, now: Now, key: Key) {
        let Some(Endpoint {
            hearing,
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
        hearing.finish(now, |kind| {
            outbox.event(session.handle, Some(&node.id), now.wall, kind)
        });
    }

    pub(super) fn send_digits(&mut self, now: Now, handle: SessionKey, node: &Name, digits: &[SendDigit]) {
        let session = self.keys.get(&handle).and_then(|key| self.sessions.get(*key));
        let Some(key) = session.and_then(|session| {
            let at = session.spec.nodes.binary_search_by(|n| n.id.cmp(node)).ok()?;
            session.endpoints.get(at).copied()
        }) else {
            return;
        };
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        let spec = endpoint.spec();
        if !spec.direction.sends() {
            return;
        }
        let Some(wish) = wish(spec) else {
            return;
        };
        let dialling = endpoint
            .dialling
            .get_or_insert_with(|| Box::new(Dialling::new(wish)));
        dialling.retarget(wish);
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
        let Some(buffer) = tx.slot().and_then(|buffer| buffer.get_mut(..len)) else {
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
        let (head, body) = buffer.split_at_mut(FIXED_HEADER_BYTES);
        head.copy_from_slice(&header.to_bytes());
        body.copy_from_slice(&payload);
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
