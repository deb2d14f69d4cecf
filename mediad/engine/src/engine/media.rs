//! The packet path: from a datagram to the copies that listeners get.

use std::net::SocketAddr;

use codecs::g711;
use rtp::{
    demux::{Kind, classify},
    header::{FIXED_HEADER_BYTES, RtpHeader, RtpReader},
    time::Now,
    units::{PayloadType, Ssrc},
};

use super::{
    Egress, Engine, Totals,
    endpoint::Endpoint,
    line::Arrival,
    plan::{Mapping, Op},
    prefetch::prefetch_listeners,
    retelling::{self, Place},
    slab::Key,
    source::Verdict,
    transport::Flow,
};
use crate::{
    command::{DropReason, EventKind, SocketId},
    spec::Codec,
};

impl Engine {
    /// Take in a datagram that `socket` received. Never allocates; `data` may be written to.
    pub fn handle_datagram(
        &mut self,
        now: Now,
        socket: SocketId,
        from: SocketAddr,
        data: &mut [u8],
        tx: &mut impl Egress,
    ) {
        let mut exits = self.open_exits(tx);
        self.receive(now, socket, from, data, &mut exits);
        self.carry(now, &mut exits, 0);
        self.close_exits(exits);
    }

    fn receive(
        &mut self,
        now: Now,
        socket: SocketId,
        from: SocketAddr,
        data: &mut [u8],
        tx: &mut impl Egress,
    ) {
        self.totals.rx_packets += 1;
        self.totals.rx_bytes += data.len() as u64;
        let Some(flow) = self.flow(socket) else {
            // A socket that was released a moment ago.
            self.totals.drops[DropReason::NoEndpoint as usize] += 1;
            return;
        };
        let kind = classify(data);
        let mut opened = Ok(data.len());
        if let Some(transport) = self.transports.get_mut(flow.transport) {
            transport.rx_packets += 1;
            transport.rx_bytes += data.len() as u64;
            if transport.security.is_some() {
                opened = transport.open(now.mono, kind, flow.rtcp, from, data);
            }
        }
        let outcome = match (opened, kind) {
            (Err(reason), _) => Err(reason),
            (Ok(len), Kind::Rtp) if !flow.rtcp => self.on_rtp(now, flow, from, &data[..len], tx),
            (Ok(len), Kind::Rtcp) => self.on_rtcp(now, flow, from, &data[..len]),
            (_, Kind::Rtp | Kind::Stun | Kind::Dtls | Kind::Zrtp | Kind::TurnChannel) => {
                Err(DropReason::UnexpectedProtocol)
            }
            (_, Kind::Unknown) => Err(DropReason::Malformed),
        };
        let Some(transport) = self.transports.get_mut(flow.transport) else {
            return;
        };
        match outcome {
            Ok(()) if kind == Kind::Rtp => transport.take(),
            Ok(()) => {}
            Err(reason) => {
                self.totals.drops[reason as usize] += 1;
                transport.drop(reason, from);
            }
        }
    }

    fn on_rtp(
        &mut self,
        now: Now,
        flow: Flow,
        from: SocketAddr,
        data: &[u8],
        tx: &mut impl Egress,
    ) -> Result<(), DropReason> {
        let packet = RtpReader::parse(data).map_err(|_| DropReason::Malformed)?;
        let header = packet.header();
        let transport = self
            .transports
            .get_mut(flow.transport)
            .ok_or(DropReason::NoEndpoint)?;
        let key = transport.endpoint.ok_or(DropReason::NoEndpoint)?;
        let endpoint = self.endpoints.get_mut(key).ok_or(DropReason::NoEndpoint)?;
        let format = endpoint.ingress.format_of(header.payload_type);
        let verdict = match transport.source.recognise(now.mono, from) {
            Some(verdict) => verdict,
            // What is not even one of the formats teaches nothing.
            None if format.is_none() => return Err(DropReason::PayloadType),
            None => transport
                .source
                .judge(now, from, &header, flow.transport, &mut self.probation),
        };
        match verdict {
            Verdict::Accept => {}
            Verdict::Refuse(reason) => return Err(reason),
            Verdict::Learned { previous } => self.on_learned(now, flow.transport, from, previous, false),
        }
        self.on_accepted(now, key, Some(from), &header, format, packet.payload(), tx)
    }

    /// RTP of the peer of `key`, `from` its source or out of a link.
    #[expect(clippy::too_many_arguments, reason = "one packet, taken apart once")]
    pub(super) fn on_accepted(
        &mut self,
        now: Now,
        key: Key,
        from: Option<SocketAddr>,
        header: &RtpHeader,
        format: Option<usize>,
        payload: &[u8],
        tx: &mut impl Egress,
    ) -> Result<(), DropReason> {
        let ingress = &mut self.endpoints.get_mut(key).ok_or(DropReason::NoEndpoint)?.ingress;
        let index = match format {
            Some(index) if ingress.receives => index,
            Some(_) | None => {
                let reason = match ingress.receives {
                    true => DropReason::PayloadType,
                    false => DropReason::Direction,
                };
                self.pass_over(key, header);
                return Err(reason);
            }
        };
        if ingress.ssrc != Some(header.ssrc) {
            if ingress.is_beside(header.ssrc, index, now.mono) {
                return self.on_event_aside(now, key, from, (header, index, payload), tx);
            }
            self.on_other_ssrc(now, key, header.ssrc)?;
        }
        let ingress = &mut self.endpoints.get_mut(key).ok_or(DropReason::NoEndpoint)?.ingress;
        let format = *ingress.formats.get(index).ok_or(DropReason::PayloadType)?;
        let arrival = ingress.take(now.mono, header, index, payload.len(), &mut self.last_stream)?;
        let wakes = match &mut ingress.decoding {
            Some(decoding) => decoding.push(now.mono, &arrival, index, payload),
            None => false,
        };
        if arrival.silence
            && !arrival.late
            && let Some(description) = &mut ingress.description
        {
            description.keep(now.mono, &arrival, index, payload);
        }
        for branch in &ingress.branches {
            branch.packet(now.mono, &arrival, index, payload);
        }
        if !ingress.running {
            self.on_media_started(now, key, from, header, format.codec);
        }
        if arrival.event {
            self.on_event_packet(now, key, header, format.clock, payload);
        }
        self.fan_out(now, key, index, &arrival, payload, tx);
        if wakes {
            self.wake(now, key);
        }
        Ok(())
    }

    /// Nobody is to hear a packet: listeners who are sent its stream see no gap where it was.
    #[cold]
    fn pass_over(&mut self, key: Key, header: &RtpHeader) {
        let Some(source) = self.endpoints.get_mut(key) else {
            return;
        };
        let Some(ext) = source.ingress.pass_over(header, &mut self.last_stream) else {
            return;
        };
        let stream = source.ingress.stream;
        // Taken out while the listeners, who live beside it, are told.
        let hops = std::mem::take(&mut source.ingress.hops);
        for listener in &hops {
            if let Some(listener) = self.endpoints.get_mut(*listener) {
                listener.egress.line.pass_over(stream, ext);
            }
        }
        if let Some(source) = self.endpoints.get_mut(key) {
            source.ingress.hops = hops;
        }
    }

    /// The peer sends digits under an SSRC of their own: audio goes on beside them.
    #[cold]
    fn on_event_aside(
        &mut self,
        now: Now,
        key: Key,
        from: Option<SocketAddr>,
        (header, index, payload): (&RtpHeader, usize, &[u8]),
        tx: &mut impl Egress,
    ) -> Result<(), DropReason> {
        let ingress = &mut self.endpoints.get_mut(key).ok_or(DropReason::NoEndpoint)?.ingress;
        let format = *ingress.formats.get(index).ok_or(DropReason::PayloadType)?;
        let arrival = ingress.take_aside(now.mono, header, format.clock, payload.len());
        if !ingress.running {
            self.on_media_started(now, key, from, header, format.codec);
        }
        self.on_event_packet(now, key, header, format.clock, payload);
        self.fan_out(now, key, index, &arrival, payload, tx);
        Ok(())
    }

    /// The peer changed its SSRC: a new stream, unless it is a packet of the one before that was overtaken.
    #[cold]
    fn on_other_ssrc(&mut self, now: Now, key: Key, ssrc: Ssrc) -> Result<(), DropReason> {
        let stream = self.next_stream();
        let ingress = &mut self.endpoints.get_mut(key).ok_or(DropReason::NoEndpoint)?.ingress;
        if ingress.is_overtaken(ssrc, now.mono) {
            return Err(DropReason::Replay);
        }
        // A digit that is being sent may go on beside the new stream; else it ends by time, or with the next one.
        ingress.change_ssrc(ssrc, stream, now.mono);
        Ok(())
    }

    /// Forward a packet to every listener of `key`.
    #[inline]
    fn fan_out(
        &mut self,
        now: Now,
        key: Key,
        format: usize,
        arrival: &Arrival,
        payload: &[u8],
        tx: &mut impl Egress,
    ) {
        let Some(source) = self.endpoints.get_mut(key) else {
            return;
        };
        let place = match arrival.event {
            true => source.hearing.place_of(arrival.timestamp, payload),
            false => None,
        };
        // Taken out while the listeners, who live beside it, are written to.
        let hops = std::mem::take(&mut source.ingress.hops);
        let mappings = std::mem::take(&mut source.ingress.mappings);
        let formats = source.ingress.formats.len();
        for (hop, listener) in hops.iter().enumerate() {
            prefetch_listeners(tx, &self.endpoints, |ahead| hops.get(hop + ahead).copied());
            let (Some(&mapping), Some(listener)) = (
                mappings.get(hop * formats + format),
                self.endpoints.get_mut(*listener),
            ) else {
                continue;
            };
            let totals = &mut self.totals;
            let sent = match arrival.event {
                false => forward(now, listener, mapping, arrival, payload, tx, totals),
                true => forward_event(now, listener, mapping, (arrival, payload, place), tx, totals),
            };
            if !sent {
                self.totals.drops[DropReason::EgressFull as usize] += 1;
                if let Some(transport) = self.transports.get_mut(listener.transport) {
                    transport.count(DropReason::EgressFull);
                }
            }
        }
        if let Some(source) = self.endpoints.get_mut(key) {
            source.ingress.hops = hops;
            source.ingress.mappings = mappings;
        }
    }

    /// The address of a transport was learned.
    #[cold]
    pub(super) fn on_learned(
        &mut self,
        now: Now,
        transport: Key,
        address: SocketAddr,
        previous: Option<SocketAddr>,
        rtcp: bool,
    ) {
        let Some(learned) = self.transports.get_mut(transport) else {
            return;
        };
        let endpoint = learned.endpoint;
        if !rtcp {
            learned.rtcp_source.forget();
            if let Some(endpoint) = learned.endpoint.and_then(|key| self.endpoints.get_mut(key)) {
                endpoint.egress.destination = Some(address);
            }
        }
        let Some(session) = self.sessions.get(learned.session) else {
            return;
        };
        let kind = EventKind::SourceLearned {
            address,
            previous,
            rtcp,
        };
        self.outbox
            .event(session.handle, Some(&learned.spec.id), now.wall, kind);
        // Whether it stays there may have to be looked at.
        if let Some(endpoint) = endpoint {
            self.arm(now.mono, endpoint);
        }
    }

    #[cold]
    fn on_media_started(
        &mut self,
        now: Now,
        key: Key,
        from: Option<SocketAddr>,
        header: &RtpHeader,
        codec: Codec,
    ) {
        let Some(endpoint) = self.endpoints.get_mut(key) else {
            return;
        };
        let resumed = endpoint.ingress.begins(now);
        // What comes out of a link was told where it came into the host.
        if let (Some(from), Some(session)) = (from, self.sessions.get(endpoint.session)) {
            let RtpHeader {
                ssrc, payload_type, ..
            } = *header;
            let kind = EventKind::MediaStarted {
                ssrc,
                payload_type,
                codec,
                from,
                resumed,
            };
            self.outbox
                .event(session.handle, Some(&endpoint.node.id), now.wall, kind);
        }
        self.arm(now.mono, key);
    }
}

/// Sends one packet of a source to one listener; false if there was no room.
#[inline]
pub(super) fn forward(
    now: Now,
    listener: &mut Endpoint,
    mapping: Mapping,
    arrival: &Arrival,
    payload: &[u8],
    tx: &mut impl Egress,
    totals: &mut Totals,
) -> bool {
    let egress = &mut listener.egress;
    if mapping.op == Op::Withhold || egress.suppressed || egress.line.is_covered(arrival) {
        egress.line.withhold(arrival);
        return true;
    }
    let Some(destination) = egress.destination else {
        return true;
    };
    let len = FIXED_HEADER_BYTES + payload.len();
    let room = len + egress.trailer_bytes();
    let Some(slot) = tx.slot().and_then(|slot| slot.get_mut(..room)) else {
        return false;
    };
    let Some(stamp) = egress.line.place(now.mono, arrival) else {
        return true;
    };
    let header = RtpHeader {
        marker: stamp.marker,
        payload_type: PayloadType::from_low_bits(mapping.payload_type),
        sequence: stamp.sequence,
        timestamp: stamp.timestamp,
        ssrc: egress.ssrc,
    };
    let (head, body) = slot[..len].split_at_mut(FIXED_HEADER_BYTES);
    head.copy_from_slice(&header.to_bytes());
    match mapping.op {
        Op::Forward | Op::Withhold | Op::Rescale => body.copy_from_slice(payload),
        Op::UlawToAlaw => translate(payload, body, &g711::ULAW_TO_ALAW),
        Op::AlawToUlaw => translate(payload, body, &g711::ALAW_TO_ULAW),
    }
    let Some(len) = egress.seal(slot, len) else {
        return false;
    };
    tx.commit(len, egress.socket, destination);
    let says = (!arrival.silence).then_some(mapping.payload_type);
    egress.count(says, payload.len(), totals);
    true
}

/// Sends one packet of a telephone-event to one listener; false if there was no room.
#[cold]
fn forward_event(
    now: Now,
    listener: &mut Endpoint,
    mapping: Mapping,
    (arrival, payload, place): (&Arrival, &[u8], Option<Place>),
    tx: &mut impl Egress,
    totals: &mut Totals,
) -> bool {
    let line = &mut listener.egress.line;
    if !retelling::is_needed(mapping, arrival, line) {
        return forward(now, listener, mapping, arrival, payload, tx, totals);
    }
    let mut formats = listener.node.endpoint().send.iter();
    let format = formats.find(|format| format.payload_type.value() == mapping.payload_type);
    let clocks = (format.map_or(arrival.clock, |format| format.clock), line.clock());
    match retelling::retell(arrival, payload, place, clocks) {
        Some(retold) => {
            let payload = retold.payload();
            forward(now, listener, mapping, &retold.arrival, payload, tx, totals)
        }
        None => {
            line.withhold(arrival);
            true
        }
    }
}

/// Copies and translates in one pass.
#[inline]
fn translate(payload: &[u8], body: &mut [u8], table: &[u8; 256]) {
    for (to, &from) in body.iter_mut().zip(payload) {
        *to = table[usize::from(from)];
    }
}
