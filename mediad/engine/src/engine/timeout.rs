//! What happens by itself: reports, silence, digits.

use std::time::Instant;

use rtp::{
    header::{FIXED_HEADER_BYTES, RtpHeader},
    time::Now,
    units::PayloadType,
};

use super::{
    Egress, Engine,
    dialling::Step,
    endpoint::Endpoint,
    media::{digit_event, event_format},
    session_timer,
    slab::Key,
    wheel::Wake,
};
use crate::command::{DropReason, EventKind, SessionKey};

impl Engine {
    /// Do what is due at `now`. Never allocates.
    pub fn handle_timeout(&mut self, now: Now, tx: &mut impl Egress) {
        while let Some(timer) = self.wheel.expire(now.mono) {
            let index = timer >> 1;
            if timer & 1 == 1 {
                if let Some((key, _)) = self.sessions.at_mut(index) {
                    self.check_silence(now, key);
                }
            } else if let Some((key, _)) = self.endpoints.at_mut(index) {
                self.check_endpoint(now, key, tx);
            }
        }
    }

    fn check_endpoint(&mut self, now: Now, key: Key, tx: &mut impl Egress) {
        self.check_received_digit(now, key);
        self.check_media(now, key);
        let Some(endpoint) = self.endpoints.get(key) else {
            return;
        };
        let report_due = endpoint.participant.due().is_some_and(|due| due <= now.mono);
        let digit_due = endpoint
            .dialling
            .as_ref()
            .and_then(|dialling| dialling.due())
            .is_some_and(|due| due <= now.mono);
        if digit_due {
            self.dial(now, key, tx);
        }
        if report_due {
            self.send_report(now, key, tx);
        }
        self.arm(now.mono, key);
    }

    fn check_received_digit(&mut self, now: Now, key: Key) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        let Some(format) = event_format(endpoint) else {
            return;
        };
        let Some(handle) = self.sessions.get(endpoint.session).map(|session| session.handle) else {
            return;
        };
        let Endpoint { digits, node, .. } = endpoint;
        let outbox = &mut self.outbox;
        digits.on_timeout(now.mono, |observation| {
            if let Some(kind) = digit_event(observation, &format) {
                outbox.event(handle, Some(&node.id), now.wall, kind);
            }
        });
    }

    fn check_media(&mut self, now: Now, key: Key) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        let ingress = &mut endpoint.ingress;
        if !ingress.receives || ingress.timed_out {
            return;
        }
        let silent = now.mono.saturating_duration_since(ingress.silent_since());
        if silent < endpoint.media_timeout {
            return;
        }
        ingress.timed_out = true;
        ingress.running = false;
        if let Some(session) = self.sessions.get(endpoint.session) {
            let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
            let kind = EventKind::MediaTimeout {
                silent_ms,
                never_started: ingress.last_rx.is_none(),
            };
            self.outbox
                .event(session.handle, Some(&endpoint.node.id), now.wall, kind);
        }
    }

    /// The next packet of a digit we send. RFC 4733 §2.5.1.2: no audio overlaps it.
    fn dial(&mut self, now: Now, key: Key, tx: &mut impl Egress) {
        let Some(Endpoint {
            dialling: slot,
            egress,
            transport,
            ..
        }) = self.endpoints.get_mut(key)
        else {
            return;
        };
        let Some(dialling) = slot else { return };
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
        egress.payload_type = payload_type;
        egress.packets += 1;
        egress.bytes += payload.len() as u64;
        egress.wire_bytes += len as u64;
        self.totals.tx_packets += 1;
        self.totals.tx_bytes += len as u64;
    }

    pub(super) fn set_orphaned(&mut self, now: Now, handle: SessionKey, orphaned: bool) {
        let Some(key) = self.keys.get(&handle).copied() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.orphaned = orphaned;
        session.silent = false;
        if orphaned {
            self.check_silence(now, key);
        } else {
            self.wheel.disarm(session_timer(key));
        }
    }

    /// Raise `Silent` once an orphaned session has been silent for the media time-out; else look again then.
    fn check_silence(&mut self, now: Now, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if !session.orphaned || session.silent {
            return;
        }
        let heard = session
            .endpoints
            .iter()
            .filter_map(|key| self.endpoints.get(*key)?.ingress.last_rx);
        let latest: Instant = heard.fold(session.created(), Instant::max);
        let due = latest + session.spec.options.media_timeout;
        if due <= now.mono {
            session.silent = true;
            self.outbox
                .event(session.handle, None, now.wall, EventKind::Silent);
        } else {
            self.wheel.arm(session_timer(key), due, now.mono, Wake::Session);
        }
    }
}
