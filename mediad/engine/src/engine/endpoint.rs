//! One RTP stream pair: what arrives from the peer and the line towards it.

use std::{
    mem::offset_of,
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use rtp::{
    header::{FIXED_HEADER_BYTES, RtpHeader},
    receive::{ReceiveStats, SeqVerdict},
    time::Now,
    units::{ClockRate, ExtendedSeq, PayloadType, Ssrc},
};
use srtp::Outbound;

use super::{
    Totals,
    decoding::Decoding,
    dialling::Dialling,
    digits,
    hearing::Hearing,
    line::{Arrival, Line, StreamId},
    links,
    participant::Participant,
    plan::Mapping,
    prefetch::{prefetch_all, prefetch_first},
    recorders::Branch,
    silence::Description,
    slab::Key,
    unix::UnixMicros,
    wheel::Wake,
};
use crate::{
    command::{DropReason, SocketId},
    spec::{Codec, EndpointSpec, Name, NodeSpec, PayloadFormat},
};

/// A packet of the SSRC that was replaced this shortly ago is late, not a change back.
pub(crate) const SSRC_OVERLAP: Duration = Duration::from_millis(200);

/// An endpoint in use. Hot fields first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Endpoint {
    pub(crate) ingress: Ingress,
    pub(crate) egress: Egress,
    pub(crate) hearing: Hearing,
    pub(crate) dialling: Option<Box<Dialling>>,
    pub(crate) transport: Key,
    pub(crate) session: Key,
    /// Small, for every endpoint has it: see [`Endpoint::media_timeout`].
    media_timeout_ms: u32,
    pub(crate) participant: Participant,
    pub(crate) node: Arc<NodeSpec>,
}

/// What arrives from the peer.
#[derive(Debug)]
pub(crate) struct Ingress {
    pub(crate) stats: ReceiveStats,
    pub(crate) ssrc: Option<Ssrc>,
    pub(crate) stream: StreamId,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) last_rx: Option<Instant>,
    /// One for each format the peer may send.
    pub(crate) formats: Box<[IngressFormat]>,
    /// Listeners that get packets as they come.
    pub(crate) hops: Box<[Key]>,
    /// For hop h and format f: `mappings[h * formats.len() + f]`.
    pub(crate) mappings: Box<[Mapping]>,
    /// Recorders that get a copy of every packet.
    pub(crate) branches: Box<[Branch]>,
    /// For listeners whose plans decode.
    pub(crate) decoding: Option<Box<Decoding>>,
    /// How the peer described its silence, for those who come to decode it; only where it may.
    pub(crate) description: Option<Box<Description>>,
    /// Index of the format of the latest packet.
    pub(crate) format: u8,
    pub(crate) receives: bool,
    /// Media runs: it started and has not timed out.
    pub(crate) running: bool,
    pub(crate) timed_out: bool,
    /// The peer described its silence with the latest packet that was not of a digit.
    pub(crate) silent: bool,
    /// A time-out was told, and no packet since.
    pub(crate) silence_told: bool,
    pub(crate) jitter_ticks_max: u32,
    /// From when silence counts.
    pub(crate) expected_since: Instant,
    /// The SSRC before, and when it changed. Apart, which takes less room.
    previous_ssrc: Ssrc,
    changed_at: Option<Instant>,
    /// When the first packet came.
    pub(crate) first_rx: UnixMicros,
    pub(crate) past: Past,
}

/// Sums of streams that ended with a change of SSRC.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Past {
    pub(crate) lost: i32,
    pub(crate) duplicates: u32,
    pub(crate) reordered: u32,
    pub(crate) ssrc_changes: u32,
}

/// A format as the packet path needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IngressFormat {
    pub(crate) clock: ClockRate,
    pub(crate) payload_type: u8,
    pub(crate) codec: Codec,
}

impl Ingress {
    /// A hint: a packet follows.
    pub(super) fn prefetch(&self, tx: &impl super::Egress) {
        prefetch_all(tx, &*self.formats);
        prefetch_all(tx, &*self.hops);
        prefetch_all(tx, &*self.mappings);
        prefetch_all(tx, &*self.branches);
        if let Some(decoding) = self.decoding.as_deref() {
            prefetch_all(tx, decoding);
        }
    }

    /// Media begins; true when silence was told before.
    pub(crate) fn begins(&mut self, now: Now) -> bool {
        (self.running, self.timed_out) = (true, false);
        if self.first_rx.get().is_none() {
            self.first_rx = UnixMicros::of(now.wall);
        }
        std::mem::take(&mut self.silence_told)
    }

    fn new(spec: &EndpointSpec, stream: StreamId, now: Instant) -> Self {
        Self {
            stats: ReceiveStats::with_probation(1),
            ssrc: None,
            stream,
            packets: 0,
            bytes: 0,
            last_rx: None,
            formats: formats(&spec.receive),
            hops: Box::default(),
            mappings: Box::default(),
            branches: Box::default(),
            decoding: None,
            description: Description::room(&spec.receive, now),
            format: 0,
            receives: spec.direction.receives(),
            running: false,
            timed_out: false,
            silent: false,
            silence_told: false,
            jitter_ticks_max: 0,
            expected_since: now,
            previous_ssrc: Ssrc(0),
            changed_at: None,
            first_rx: UnixMicros::default(),
            past: Past::default(),
        }
    }

    /// Index of the format with this payload type.
    #[inline]
    pub(crate) fn format_of(&self, payload_type: PayloadType) -> Option<usize> {
        let wanted = payload_type.value();
        match self.formats.get(usize::from(self.format)) {
            Some(format) if format.payload_type == wanted => Some(usize::from(self.format)),
            _ => self
                .formats
                .iter()
                .position(|format| format.payload_type == wanted),
        }
    }

    /// The format of the latest packet, or the first.
    pub(crate) fn current_format(&self) -> Option<&IngressFormat> {
        self.formats.get(usize::from(self.format))
    }

    /// Begin a new stream: another SSRC, other statistics.
    pub(crate) fn change_ssrc(&mut self, ssrc: Ssrc, stream: StreamId, now: Instant) {
        if let Some(previous) = self.ssrc {
            (self.previous_ssrc, self.changed_at) = (previous, Some(now));
            self.past.lost = self.past.lost.saturating_add(self.stats.lost());
            self.past.duplicates = self.past.duplicates.saturating_add(self.stats.duplicates());
            self.past.reordered = self.past.reordered.saturating_add(self.stats.reordered());
            self.past.ssrc_changes = self.past.ssrc_changes.saturating_add(1);
            self.stats = ReceiveStats::with_probation(1);
        }
        self.ssrc = Some(ssrc);
        self.stream = stream;
    }

    /// Packets of this format under another SSRC are telephone-events beside the audio, and no change of SSRC; but for those
    /// of the SSRC before, overtaken by the change.
    pub(crate) fn is_beside(&self, ssrc: Ssrc, format: usize, now: Instant) -> bool {
        self.ssrc.is_some()
            && !self.is_overtaken(ssrc, now)
            && self
                .formats
                .get(format)
                .is_some_and(|format| format.codec == Codec::TelephoneEvent)
    }

    /// A packet of the SSRC before, overtaken by the change.
    #[inline]
    pub(crate) fn is_overtaken(&self, ssrc: Ssrc, now: Instant) -> bool {
        let just_now = |at: Instant| now.saturating_duration_since(at) < SSRC_OVERLAP;
        self.previous_ssrc == ssrc && self.changed_at.is_some_and(just_now)
    }

    /// A packet that nobody is to hear, of a peer on hold or in a format that was not agreed on: it came all the same,
    /// and is not to be told as lost once others of its stream are taken. Gives its number, if it is the newest.
    pub(crate) fn pass_over(&mut self, header: &RtpHeader, last_stream: &mut u64) -> Option<ExtendedSeq> {
        if self.ssrc != Some(header.ssrc) {
            return None;
        }
        match self.stats.on_untimed_packet(header.sequence) {
            SeqVerdict::Accepted { ext } => Some(ext),
            SeqVerdict::Restarted { ext } => {
                *last_stream += 1;
                self.stream = StreamId(*last_stream);
                Some(ext)
            }
            SeqVerdict::Late { .. }
            | SeqVerdict::Duplicate
            | SeqVerdict::BadSequence
            | SeqVerdict::Probation => None,
        }
    }

    /// A telephone-event that the peer sends under another SSRC than its audio, whose stream it is no part of.
    pub(crate) fn take_aside(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        clock: ClockRate,
        payload_bytes: usize,
    ) -> Arrival {
        self.packets += 1;
        self.bytes += payload_bytes as u64;
        self.last_rx = Some(now);
        Arrival {
            stream: StreamId::ASIDE,
            ext: ExtendedSeq(header.sequence.into()),
            timestamp: header.timestamp,
            clock,
            marker: header.marker,
            late: false,
            event: true,
            segment: 0,
            silence: false,
        }
    }

    /// Count a packet of the current SSRC and say where it stands in its stream.
    #[inline]
    pub(crate) fn take(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        index: usize,
        payload_bytes: usize,
        last_stream: &mut u64,
    ) -> Result<Arrival, DropReason> {
        let format = *self.formats.get(index).ok_or(DropReason::PayloadType)?;
        let event = format.codec == Codec::TelephoneEvent;
        let silence = format.codec == Codec::ComfortNoise;
        let RtpHeader {
            sequence,
            timestamp,
            marker,
            ..
        } = *header;
        let before = self.clock_before(index, format.codec);
        let verdict = if event || before.is_some() {
            self.stats.on_untimed_packet(sequence)
        } else {
            self.stats.on_packet(sequence, timestamp, now, format.clock)
        };
        let (ext, late) = match verdict {
            SeqVerdict::Accepted { ext } => (ext, false),
            SeqVerdict::Late { ext } => (ext, true),
            SeqVerdict::Restarted { ext } => {
                *last_stream += 1;
                self.stream = StreamId(*last_stream);
                (ext, false)
            }
            SeqVerdict::Duplicate | SeqVerdict::BadSequence => return Err(DropReason::Replay),
            SeqVerdict::Probation => return Err(DropReason::Probation),
        };
        self.packets += 1;
        self.bytes += payload_bytes as u64;
        self.last_rx = Some(now);
        if !event {
            self.silent = silence;
            if !silence {
                self.format = index as u8;
            }
            if let Some(before) = before {
                self.change_clock(before, format.clock);
            }
            self.jitter_ticks_max = self.jitter_ticks_max.max(self.stats.jitter_ticks());
        }
        Ok(Arrival {
            stream: self.stream,
            ext,
            timestamp,
            clock: format.clock,
            marker,
            late,
            event,
            segment: 0,
            silence,
        })
    }

    /// The clock of the audio until now, where another one comes with a packet of the format in place `index`.
    #[inline]
    fn clock_before(&self, index: usize, codec: Codec) -> Option<ClockRate> {
        if index == usize::from(self.format) || matches!(codec, Codec::TelephoneEvent | Codec::ComfortNoise) {
            return None;
        }
        let (before, now) = (self.current_format()?.clock, self.formats.get(index)?.clock);
        (before != now).then_some(before)
    }

    /// The audio has another clock: what was told of its jitter stays as long as it was.
    #[cold]
    fn change_clock(&mut self, from: ClockRate, to: ClockRate) {
        self.stats.change_clock(from, to);
        self.jitter_ticks_max = from.convert(self.jitter_ticks_max, to);
    }

    /// The formats that the peer may send are others.
    fn change_formats(&mut self, formats: Box<[IngressFormat]>) {
        let current = self.current_format().copied();
        let kept = current.and_then(|current| formats.iter().position(|format| *format == current));
        self.format = kept.unwrap_or(0) as u8;
        self.formats = formats;
        if let (Some(before), Some(now)) = (current, self.current_format().copied())
            && before.clock != now.clock
        {
            self.change_clock(before.clock, now.clock);
        }
    }

    /// The peer reports: one that said that it is silent has nothing else to send.
    pub(crate) fn is_alive(&mut self, now: Instant) {
        if self.silent && !self.timed_out {
            self.expected_since = now;
        }
    }

    /// Since when nothing has come although it should.
    pub(crate) fn silent_since(&self) -> Instant {
        self.last_rx
            .map_or(self.expected_since, |last| last.max(self.expected_since))
    }
}

fn formats(formats: &[PayloadFormat]) -> Box<[IngressFormat]> {
    let compact = |format: &PayloadFormat| IngressFormat {
        clock: format.clock,
        payload_type: format.payload_type.value(),
        codec: format.codec,
    };
    formats.iter().map(compact).collect()
}

/// The line towards the peer.
#[derive(Debug)]
pub(crate) struct Egress {
    pub(crate) line: Line,
    pub(crate) ssrc: Ssrc,
    pub(crate) socket: SocketId,
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) payload_type: u8,
    /// A digit is being sent: nothing else is.
    pub(crate) suppressed: bool,
    /// The plan decodes: it sends on the session's tick.
    pub(crate) decoded: bool,
    pub(crate) packets: u64,
    /// Of payload.
    pub(crate) bytes: u64,
    /// With headers.
    pub(crate) wire_bytes: u64,
    /// Packets and bytes with headers that went out by transports it rode on before, which count them themselves.
    pub(crate) before_transport: (u64, u64),
    /// Whom the plan forwards.
    pub(crate) source: Option<Key>,
    /// Encrypts, where the transport does; the transport keeps it while no endpoint rides there.
    pub(crate) sealer: Option<Box<Outbound>>,
}

impl Egress {
    /// A hint: a packet follows.
    pub(super) fn prefetch(&self, tx: &impl super::Egress) {
        tx.prefetch_socket(self.socket);
        if let Some(sealer) = self.sealer.as_deref() {
            prefetch_first(tx, sealer);
        }
    }

    /// Packets and bytes with headers sent by the transport it rides on now.
    pub(crate) fn sent_by_transport(&self) -> (u64, u64) {
        let (packets, bytes) = self.before_transport;
        (self.packets - packets, self.wire_bytes - bytes)
    }

    /// It rides on another transport from now on. Gives what it sent by the old one.
    pub(crate) fn leave_transport(&mut self) -> (u64, u64) {
        let sent = self.sent_by_transport();
        self.before_transport = (self.packets, self.wire_bytes);
        sent
    }

    /// What it is sent as now, if anything was sent.
    pub(crate) fn payload_type_sent(&self) -> Option<u8> {
        (self.packets > 0).then_some(self.payload_type)
    }

    /// What encryption will add to a packet.
    #[inline]
    pub(crate) fn trailer_bytes(&self) -> usize {
        self.sealer
            .as_ref()
            .map_or(0, |sealer| sealer.suite().rtp_trailer_bytes())
    }

    /// Encrypts the packet in `slot[..len]`, if it is to be; its length then. `None`: it must not be sent.
    #[inline]
    pub(crate) fn seal(&mut self, slot: &mut [u8], len: usize) -> Option<usize> {
        match &mut self.sealer {
            None => Some(len),
            Some(sealer) => sealer.protect_rtp(slot, len).ok(),
        }
    }

    /// As [`seal`](Self::seal) for RTCP.
    pub(crate) fn seal_rtcp(&mut self, slot: &mut [u8], len: usize) -> Option<usize> {
        match &mut self.sealer {
            None => Some(len),
            Some(sealer) => sealer.protect_rtcp(slot, len).ok(),
        }
    }

    /// Count a packet that was sent. One without a payload type of its own does not say what is sent.
    #[inline]
    pub(crate) fn count(&mut self, payload_type: Option<u8>, payload_bytes: usize, totals: &mut Totals) {
        let wire_bytes = (FIXED_HEADER_BYTES + payload_bytes + self.trailer_bytes()) as u64;
        self.payload_type = payload_type.unwrap_or(self.payload_type);
        self.packets += 1;
        self.bytes += payload_bytes as u64;
        self.wire_bytes += wire_bytes;
        if !links::is_link(self.socket) {
            totals.tx_packets += 1;
            totals.tx_bytes += wire_bytes;
        }
    }
}

/// What makes an endpoint, beside its spec.
pub(crate) struct Identity {
    pub(crate) session: Key,
    pub(crate) transport: Key,
    pub(crate) ssrc: Ssrc,
    pub(crate) cname: Name,
    pub(crate) stream: StreamId,
    pub(crate) random: u64,
}

impl Endpoint {
    /// What a packet from its peer needs of it, from its place in a [`Slab`](super::slab::Slab) on …
    pub(super) const RECEIVING: Range<usize> = 0..offset_of!(Endpoint, egress) + size_of::<Key>();
    /// … and one to its peer.
    pub(super) const SENDING: Range<usize> =
        offset_of!(Endpoint, egress)..offset_of!(Endpoint, hearing) + size_of::<Key>();

    pub(crate) fn new(
        node: Arc<NodeSpec>,
        identity: Identity,
        media_timeout: Duration,
        now: Instant,
    ) -> Self {
        let spec = node.endpoint();
        let clock = spec
            .send_audio()
            .map_or(ClockRate::HZ_8000, |format| format.clock);
        let mut endpoint = Self {
            ingress: Ingress::new(spec, identity.stream, now),
            egress: Egress {
                line: Line::new(identity.random, clock, spec.ptime_ms),
                ssrc: identity.ssrc,
                socket: SocketId::NONE,
                destination: None,
                payload_type: 0,
                suppressed: false,
                decoded: false,
                packets: 0,
                bytes: 0,
                wire_bytes: 0,
                before_transport: (0, 0),
                source: None,
                sealer: None,
            },
            hearing: Hearing::new(),
            dialling: None,
            transport: identity.transport,
            session: identity.session,
            media_timeout_ms: 0,
            participant: Participant::new(identity.cname),
            node,
        };
        endpoint.set_media_timeout(media_timeout);
        endpoint
    }

    /// After so long a silence of the peer its media has timed out.
    pub(crate) fn media_timeout(&self) -> Duration {
        Duration::from_millis(self.media_timeout_ms.into())
    }

    pub(crate) fn set_media_timeout(&mut self, after: Duration) {
        self.media_timeout_ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    }

    pub(crate) fn spec(&self) -> &EndpointSpec {
        self.node.endpoint()
    }

    /// It rides on a link: what comes has come into the host elsewhere, and was told and judged there.
    pub(crate) fn is_linked(&self) -> bool {
        links::is_link(self.egress.socket)
    }

    /// Take a changed spec; streams, statistics and the line stay.
    pub(crate) fn update(&mut self, node: Arc<NodeSpec>, now: Instant) {
        let spec = node.endpoint();
        let receives = spec.direction.receives();
        if receives && !self.ingress.receives {
            self.ingress.expected_since = now;
        }
        if !receives {
            self.ingress.timed_out = false;
        }
        self.ingress.receives = receives;
        let formats = formats(&spec.receive);
        if formats != self.ingress.formats {
            self.ingress.change_formats(formats);
            self.ingress.description = Description::room(&spec.receive, now);
        }
        self.egress.line.set_frame(spec.ptime_ms);
        let sent = self.egress.payload_type_sent();
        match (&mut self.dialling, digits::manner(spec, sent)) {
            (Some(dialling), Some(manner)) => dialling.retarget(manner),
            (Some(dialling), None) => {
                // The peer takes no digits any more: audio flows again.
                dialling.stop();
                self.egress.suppressed = false;
            }
            (None, _) => {}
        }
        self.node = node;
    }

    /// When this endpoint next needs attention, and why.
    pub(crate) fn next_due(&self) -> Option<(Instant, Wake)> {
        let digit_rx = self.hearing.due();
        let digit_tx = self.dialling.as_ref().and_then(|dialling| dialling.due());
        let expects = self.ingress.receives && !self.ingress.timed_out && !self.is_linked();
        let silence = expects.then(|| self.ingress.silent_since() + self.media_timeout());
        [
            (digit_rx, Wake::Digit),
            (digit_tx, Wake::Digit),
            (silence, Wake::Media),
            (self.participant.due(), Wake::Rtcp),
        ]
        .into_iter()
        .filter_map(|(at, wake)| Some((at?, wake)))
        .min()
    }
}
