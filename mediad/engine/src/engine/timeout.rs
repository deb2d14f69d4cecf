//! What happens by itself: reports, silence, digits.

use std::time::Instant;

use rtp::time::Now;

use super::{Egress, Engine, links, session_timer, slab::Key, wheel::Wake};
use crate::command::{EventKind, SessionKey};

impl Engine {
    /// Do what is due at `now`. Never allocates.
    pub fn handle_timeout(&mut self, now: Now, tx: &mut impl Egress) {
        let mut exits = self.open_exits(tx);
        let tx = &mut exits;
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
        while let Some((session, number, phase)) = self.ticks.expire(now.mono) {
            self.tick(now, session, number, phase, tx);
            self.carry(now, tx, 0);
        }
        self.carry(now, tx, 0);
        self.close_exits(exits);
    }

    fn check_endpoint(&mut self, now: Now, key: Key, tx: &mut impl Egress) {
        self.check_received_digit(now, key);
        self.check_collection(now, key);
        self.check_media(now, key);
        self.check_source(now, key);
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
        self.set_timer(now.mono, key);
    }

    /// Where the peer was before it moved nothing comes from any more.
    fn check_source(&mut self, now: Now, key: Key) {
        let Some(transport) = self.endpoints.get(key).map(|endpoint| endpoint.transport) else {
            return;
        };
        let source = self
            .transports
            .get_mut(transport)
            .map(|transport| &mut transport.source);
        if let Some((to, from)) = source.and_then(|source| source.on_timeout(now.mono)) {
            self.on_learned(now, transport, to, Some(from), false);
        }
    }

    fn check_media(&mut self, now: Now, key: Key) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        let after = endpoint.media_timeout();
        let ingress = &mut endpoint.ingress;
        if !ingress.receives || ingress.timed_out || links::is_link(endpoint.egress.socket) {
            return;
        }
        let silent = now.mono.saturating_duration_since(ingress.silent_since());
        if silent < after {
            return;
        }
        ingress.timed_out = true;
        ingress.running = false;
        ingress.silence_told = true;
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
