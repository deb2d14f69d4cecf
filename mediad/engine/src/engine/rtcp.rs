//! RTCP in and out: the engine's side of [`Participant`](super::participant::Participant).

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rtp::{rtcp::Compound, time::Now};

use super::{
    Egress, Engine,
    commit::Session,
    endpoint::Endpoint,
    links,
    slab::{Key, Slab},
    source::Verdict,
    transport::Flow,
};
use crate::{
    command::{DropReason, EventKind},
    spec::RtcpMode,
};

impl Engine {
    pub(super) fn on_rtcp(
        &mut self,
        now: Now,
        flow: Flow,
        from: SocketAddr,
        data: &[u8],
    ) -> Result<(), DropReason> {
        let transport = self
            .transports
            .get_mut(flow.transport)
            .ok_or(DropReason::NoEndpoint)?;
        if transport.rtcp_mode() == RtcpMode::Off {
            return Err(DropReason::UnexpectedProtocol);
        }
        let compound = Compound::parse(data).map_err(|_| DropReason::Malformed)?;
        let verdict = if flow.rtcp {
            transport
                .rtcp_source
                .judge(now.mono, from, &transport.source, transport.remote_rtcp())
        } else if transport.source.is_peer(from) {
            // Muxed, or sent to RTP's port by a peer that muxes unasked: true all the same.
            Verdict::Accept
        } else {
            Verdict::Refuse(DropReason::WrongSource)
        };
        let endpoint = transport.endpoint;
        match verdict {
            Verdict::Accept => {}
            Verdict::Refuse(reason) => return Err(reason),
            Verdict::Learned { previous } => self.on_learned(now, flow.transport, from, previous, true),
        }
        let key = endpoint.ok_or(DropReason::NoEndpoint)?;
        let endpoint = self.endpoints.get_mut(key).ok_or(DropReason::NoEndpoint)?;
        let Endpoint {
            participant,
            ingress,
            egress,
            hearing,
            node,
            session,
            ..
        } = endpoint;
        let session = *session;
        let passed = age(&self.sessions, session, now.mono);
        let heard = participant.hear(now, passed, &compound, ingress, egress);
        if heard.goodbye.is_none() {
            ingress.is_alive(now.mono);
        }
        if let Some(reason) = heard.goodbye
            && hearing.allows(now.mono)
            && let Some(session) = self.sessions.get(session)
        {
            self.outbox.bye(session.handle, &node.id, now.wall, reason);
        }
        if let Some(percent) = heard.loss_percent {
            self.on_loss_told(session, key, percent);
        }
        Ok(())
    }

    /// A report is due: judge the quality, tell the peer what we have.
    pub(super) fn send_report(&mut self, now: Now, key: Key, tx: &mut impl Egress) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        let Endpoint {
            participant,
            ingress,
            egress,
            node,
            session,
            transport,
            ..
        } = endpoint;
        let has_received = participant.has_received_rtp(ingress);
        if !links::is_link(egress.socket)
            && let Some(crossing) = participant.evaluate(ingress, egress, &self.config.mos)
            && let Some(session) = self.sessions.get(*session)
        {
            let kind = EventKind::QualityChanged {
                mos: crossing.mos,
                previous: crossing.previous,
            };
            self.outbox.event(session.handle, Some(&node.id), now.wall, kind);
        }
        let passed = age(&self.sessions, *session, now.mono);
        let we_sent = participant.has_sent_rtp(egress);
        participant.schedule(now.mono, we_sent, self.random.next() as u32);
        let Some(transport) = self.transports.get_mut(*transport) else {
            return;
        };
        let Some((socket, to)) = transport.rtcp_destination() else {
            if !has_received {
                participant.rest(now.mono);
            }
            return;
        };
        let Some(slot) = tx.slot() else {
            transport.count(DropReason::EgressFull);
            self.totals.drops[DropReason::EgressFull as usize] += 1;
            return;
        };
        // Only a slot shorter than any datagram has no space; then the report is left out.
        let Ok(len) = participant.report(now, passed, slot, ingress, egress) else {
            return;
        };
        let Some(len) = egress.seal_rtcp(slot, len) else {
            return;
        };
        tx.commit(len, socket, to);
        transport.tx_packets += 1;
        transport.tx_bytes += len as u64;
        self.totals.tx_packets += 1;
        self.totals.tx_bytes += len as u64;
    }

    /// Tell the peer that our stream ends.
    pub(super) fn say_goodbye(&mut self, now: Now, key: Key, reason: &str, tx: &mut impl Egress) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        let Endpoint {
            participant,
            ingress,
            egress,
            transport,
            ..
        } = endpoint;
        let Some(transport) = self.transports.get_mut(*transport) else {
            return;
        };
        let Some((socket, to)) = transport.rtcp_destination() else {
            return;
        };
        let Some(slot) = tx.slot() else { return };
        let Ok(Some(len)) = participant.goodbye(now, slot, ingress, egress, reason) else {
            return;
        };
        let Some(len) = egress.seal_rtcp(slot, len) else {
            return;
        };
        tx.commit(len, socket, to);
        transport.tx_packets += 1;
        transport.tx_bytes += len as u64;
        self.totals.tx_packets += 1;
        self.totals.tx_bytes += len as u64;
    }
}

/// How long ago a session began.
fn age(sessions: &Slab<Session>, session: Key, now: Instant) -> Duration {
    let began = sessions.get(session).map(Session::created);
    began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
}
