//! An engine, its clock and its wire.

use std::{
    cell::RefCell,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use media_engine::{
    command::{
        Command, Commit, DropReason, EndpointReport, EndpointStream, EngineEvent, EventKind, LinkId,
        PlayerPrompts, Prompt, PromptSound, RecorderFeed, Reply, ReplyToken, SampleStream, SendingKey,
        SessionKey, SessionReport, SocketId, TapRings, TransportLink, TransportReport, TransportSockets,
    },
    engine::{Egress, Engine, EngineConfig},
    explain::{self, Finding},
    graph::Owner,
    host::{Described, Summary},
    spec::{
        Codec, DigitPolicy, Direction, EdgeSpec, EndpointSpec, InbandDigits, LinkSpec, MasterKey, Name,
        NodeKind, NodeSpec, PayloadFormat, PlayItem, PlaySource, PlayerSpec, PolishSpec, RoomSpec, RtcpMode,
        SdesSpec, Security, SessionOptions, SessionSpec, SourcePolicy, TransportKind, TransportSpec, UdpSpec,
    },
};
use rtp::{
    header::{RtpHeader, RtpReader},
    time::Now,
    units::{ClockRate, PayloadType, RtpTimestamp, Ssrc},
};

/// The one reading of a clock; everything else is virtual.
#[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A datagram the engine sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) socket: SocketId,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn is_rtcp(&self) -> bool {
        rtp::demux::classify(&self.bytes) == rtp::demux::Kind::Rtcp
    }

    pub(crate) fn header(&self) -> RtpHeader {
        RtpReader::parse(&self.bytes)
            .expect("the engine sends valid RTP")
            .header()
    }

    pub(crate) fn payload(&self) -> &[u8] {
        RtpReader::parse(&self.bytes)
            .expect("the engine sends valid RTP")
            .payload()
    }
}

/// Keeps what is sent.
#[derive(Debug)]
pub(crate) struct Wire {
    slot: Vec<u8>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) full: bool,
    /// Sockets that hints were of.
    pub(crate) hinted: RefCell<Vec<SocketId>>,
    /// Addresses that hints were of.
    pub(crate) lines: RefCell<Vec<usize>>,
}

impl Egress for Wire {
    fn slot(&mut self) -> Option<&mut [u8]> {
        (!self.full).then_some(&mut self.slot[..])
    }

    fn commit(&mut self, len: usize, socket: SocketId, to: SocketAddr) {
        self.sent.push(Sent {
            socket,
            to,
            bytes: self.slot[..len].to_vec(),
        });
    }

    fn prefetch_socket(&self, socket: SocketId) {
        self.hinted.borrow_mut().push(socket);
    }

    fn prefetch(&self, address: *const u8) {
        self.lines.borrow_mut().push(address.addr());
    }
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    pub(crate) wire: Wire,
    /// Given with every commit to the players that play them.
    pub(crate) prompts: Vec<Arc<Prompt>>,
    /// Given with the next commit.
    pub(crate) recordings: Vec<RecorderFeed>,
    /// Given with every commit.
    pub(crate) taps: Vec<TapRings>,
    /// Given with the next commit: player, index of its item, stream.
    pub(crate) streams: Vec<(&'static str, usize, Box<dyn SampleStream>)>,
    tokens: u64,
}

pub(crate) const SESSION: SessionKey = SessionKey(1);

impl World {
    pub(crate) fn new() -> Self {
        Self::seeded(7)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            engine: Engine::new(EngineConfig::default(), seed),
            now: Now {
                mono: *BASE,
                wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
            },
            wire: Wire {
                slot: vec![0; 2048],
                sent: Vec::new(),
                full: false,
                hinted: RefCell::default(),
                lines: RefCell::default(),
            },
            prompts: Vec::new(),
            recordings: Vec::new(),
            taps: Vec::new(),
            streams: Vec::new(),
            tokens: 0,
        }
    }

    /// Commits `graph`, giving sockets and streams to everything in it that has none yet.
    pub(crate) fn commit(&mut self, session: SessionKey, graph: &Graph) {
        let before = self.report(session);
        let (sockets, streams) = graph.resources(before.as_ref());
        let spec = Arc::new(graph.spec());
        let commit = Commit {
            session,
            name: "s".into(),
            spec,
            sockets,
            streams,
            links: graph.links(before.as_ref()),
            prompts: self.prompts_for(graph),
            recordings: std::mem::take(&mut self.recordings),
            taps: self.taps.clone(),
            keys: graph.keys(),
        };
        self.engine
            .handle_command(self.now, Command::Commit(Box::new(commit)), &mut self.wire);
    }

    /// The prompts that the players of `graph` play, of those the world has.
    fn prompts_for(&mut self, graph: &Graph) -> Vec<PlayerPrompts> {
        let players = graph
            .others
            .iter()
            .filter_map(|node| Some((node, node.player()?)));
        let given = players.map(|(node, player)| {
            let named = player.items.iter().filter_map(|item| match &item.source {
                PlaySource::Prompt(name) => self.prompts.iter().find(|prompt| prompt.name == *name),
                PlaySource::Tone(..) | PlaySource::Silence(_) => None,
            });
            PlayerPrompts {
                node: node.id.clone(),
                prompts: named.cloned().collect(),
                streams: Vec::new(),
            }
        });
        let mut given: Vec<_> = given.collect();
        for (node, index, stream) in self.streams.drain(..) {
            let of_node = given.iter_mut().find(|given| *given.node == *node);
            of_node.expect("a player").streams.push((index, stream));
        }
        given
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command, &mut self.wire);
    }

    pub(crate) fn report(&mut self, session: SessionKey) -> Option<SessionReport> {
        self.tokens += 1;
        let token = ReplyToken(self.tokens);
        self.command(Command::Report(session, token));
        match self.engine.poll_reply() {
            Some((to, Reply::Report(report))) if to == token => report.map(|report| *report),
            other => panic!("a report was asked for, not {other:?}"),
        }
    }

    /// What is said about why `to` hears `from`, or does not.
    pub(crate) fn explain(&mut self, graph: &Graph, from: &str, to: &str) -> Vec<Finding> {
        let described = Described {
            summary: Summary {
                name: "s".into(),
                owner: Owner {
                    controller: "c".into(),
                    epoch: 1,
                },
                revision: 1,
                created: self.now.wall,
                worker: 0,
                endpoints: graph.endpoints.len(),
                edges: graph.edges.len(),
                labels: Box::default(),
                orphaned: false,
            },
            spec: Arc::new(graph.spec()),
            locals: Vec::new(),
            taps: Vec::new(),
            report: self.report(SESSION).expect("the session is there"),
        };
        explain::explain(&described, Some(&from.into()), Some(&to.into()), self.now.wall)
            .expect("both are there")
    }

    pub(crate) fn transport(&mut self, id: &str) -> TransportReport {
        let report = self.report(SESSION).expect("the session is there");
        report
            .transports
            .into_iter()
            .find(|t| &*t.transport == id)
            .expect("the transport is there")
    }

    pub(crate) fn endpoint(&mut self, id: &str) -> EndpointReport {
        let report = self.report(SESSION).expect("the session is there");
        report
            .endpoints
            .into_iter()
            .find(|e| &*e.node == id)
            .expect("the endpoint is there")
    }

    pub(crate) fn drops(&mut self, transport: &str, reason: DropReason) -> u64 {
        self.transport(transport).drops[reason as usize]
    }

    pub(crate) fn receive(&mut self, socket: SocketId, from: SocketAddr, datagram: &[u8]) {
        let mut data = datagram.to_vec();
        self.engine.prefetch(std::iter::once(socket), &self.wire);
        self.engine
            .handle_datagram(self.now, socket, from, &mut data, &mut self.wire);
    }

    /// Lets `duration` pass, firing the engine's timers on the way.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while let Some((at, _)) = self.engine.poll_timeout().filter(|(at, _)| *at <= end.mono) {
            if at > self.now.mono {
                self.now = self.now.after(at - self.now.mono);
            }
            self.engine.handle_timeout(self.now, &mut self.wire);
        }
        self.now = end;
        self.engine.handle_timeout(self.now, &mut self.wire);
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    /// What was sent since the last call.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.wire.sent)
    }

    /// RTP sent since the last call.
    pub(crate) fn sent_rtp(&mut self) -> Vec<Sent> {
        self.sent().into_iter().filter(|sent| !sent.is_rtcp()).collect()
    }

    pub(crate) fn events(&mut self) -> Vec<EngineEvent> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }

    pub(crate) fn event_kinds(&mut self) -> Vec<EventKind> {
        self.events().into_iter().map(|event| event.kind).collect()
    }

    pub(crate) fn releases(&mut self) -> Vec<SocketId> {
        std::iter::from_fn(|| self.engine.poll_release()).collect()
    }
}

/// A session to be, in a form that is easy to edit. Endpoint `n` rides on transport `t-<n>` with sockets `2 n` and
/// `2 n + 1`, and its peer is at [`peer`].
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    pub(crate) endpoints: Vec<Party>,
    /// Rooms and players.
    pub(crate) others: Vec<NodeSpec>,
    pub(crate) edges: Vec<EdgeSpec>,
    pub(crate) options: SessionOptions,
}

#[derive(Debug, Clone)]
pub(crate) struct Party {
    pub(crate) id: &'static str,
    pub(crate) number: u32,
    pub(crate) receive: Vec<PayloadFormat>,
    pub(crate) send: Vec<PayloadFormat>,
    pub(crate) direction: Direction,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) remote_rtcp: Option<SocketAddr>,
    pub(crate) rtcp: RtcpMode,
    pub(crate) source: SourcePolicy,
    pub(crate) ptime_ms: u8,
    pub(crate) detect_talk: bool,
    pub(crate) inband_digits: InbandDigits,
    pub(crate) polish: PolishSpec,
    pub(crate) suppress_silence: bool,
    /// It rides on this end of a link rather than on a socket.
    pub(crate) link: Option<LinkId>,
    pub(crate) sdes: Option<SdesSpec>,
    /// Only its transport is there.
    pub(crate) away: bool,
    /// The key it is sent to with.
    pub(crate) sending: Option<Arc<MasterKey>>,
}

impl Party {
    pub(crate) fn new(id: &'static str, number: u32) -> Self {
        Self {
            id,
            number,
            receive: vec![pcmu(), events(101)],
            send: vec![pcmu(), events(101)],
            direction: Direction::SendRecv,
            remote: Some(peer(number)),
            remote_rtcp: None,
            rtcp: RtcpMode::Separate,
            source: SourcePolicy::Learn,
            ptime_ms: 20,
            detect_talk: false,
            inband_digits: InbandDigits::Auto,
            polish: PolishSpec::default(),
            suppress_silence: false,
            link: None,
            sdes: None,
            away: false,
            sending: None,
        }
    }

    /// On an end of a link.
    pub(crate) fn linked(id: &'static str, number: u32, link: u64) -> Self {
        Self {
            link: Some(LinkId(link)),
            ..Self::new(id, number)
        }
    }

    pub(crate) fn with_formats(mut self, formats: Vec<PayloadFormat>) -> Self {
        self.receive = formats.clone();
        self.send = formats;
        self
    }

    pub(crate) fn rtp(&self) -> SocketId {
        rtp_socket(self.number)
    }
}

pub(crate) fn rtp_socket(number: u32) -> SocketId {
    SocketId(2 * number)
}

pub(crate) fn rtcp_socket(number: u32) -> SocketId {
    SocketId(2 * number + 1)
}

pub(crate) fn ssrc(number: u32) -> Ssrc {
    Ssrc(0xE000_0000 + number)
}

/// Where the peer of endpoint `number` sends from and receives.
pub(crate) fn peer(number: u32) -> SocketAddr {
    format!("192.0.2.{}:{}", 1 + number / 100, 4000 + 2 * (number % 100))
        .parse()
        .expect("an address")
}

pub(crate) fn pcmu() -> PayloadFormat {
    format(0, Codec::Pcmu, 8000)
}

pub(crate) fn pcma() -> PayloadFormat {
    format(8, Codec::Pcma, 8000)
}

pub(crate) fn events(payload_type: u8) -> PayloadFormat {
    format(payload_type, Codec::TelephoneEvent, 8000)
}

pub(crate) fn format(payload_type: u8, codec: Codec, hz: u32) -> PayloadFormat {
    PayloadFormat {
        payload_type: PayloadType::new(payload_type).expect("seven bits"),
        codec,
        clock: ClockRate::new(hz).expect("not zero"),
        channels: 1,
        fmtp: "".into(),
    }
}

pub(crate) fn edge(from: &str, to: &str) -> EdgeSpec {
    EdgeSpec {
        from: from.into(),
        to: to.into(),
        gain_db: 0.0,
        muted: false,
        digits: DigitPolicy::Pass,
        right: false,
    }
}

/// A room of at most `sample_rate_hz`.
pub(crate) fn room(id: &str, sample_rate_hz: u32) -> NodeSpec {
    NodeSpec {
        id: id.into(),
        kind: NodeKind::Room(RoomSpec {
            sample_rate_hz,
            top_talkers: None,
            talk_events: false,
        }),
    }
}

/// A player that plays `items` once.
pub(crate) fn player(id: &str, items: &[PlaySource]) -> NodeSpec {
    let item = |source: &PlaySource| PlayItem {
        source: source.clone(),
        start_ms: 0,
    };
    NodeSpec {
        id: id.into(),
        kind: NodeKind::Player(PlayerSpec {
            items: items.iter().map(item).collect(),
            repeat: Some(1),
            gain_db: 0.0,
            paused: false,
            barge_in: None,
            shared_group: None,
        }),
    }
}

/// A prompt of which all is known.
pub(crate) fn prompt(name: &str, rate_hz: u32, pcm: Vec<i16>) -> Arc<Prompt> {
    Arc::new(Prompt {
        name: name.into(),
        version: 1,
        native_hz: rate_hz,
        sound: PromptSound::Whole {
            rate_hz,
            pcm: pcm.into(),
        },
    })
}

impl Graph {
    /// `a` and `b` hear each other.
    pub(crate) fn call() -> Self {
        Self::of(
            vec![Party::new("a", 0), Party::new("b", 1)],
            &[("a", "b"), ("b", "a")],
        )
    }

    pub(crate) fn of(endpoints: Vec<Party>, edges: &[(&str, &str)]) -> Self {
        Self {
            endpoints,
            others: Vec::new(),
            edges: edges.iter().map(|(from, to)| edge(from, to)).collect(),
            options: SessionOptions {
                media_timeout: Duration::from_secs(30),
                orphan_max: Duration::from_secs(3600),
                relearn_after: Duration::from_secs(3),
            },
        }
    }

    pub(crate) fn party(&mut self, id: &str) -> &mut Party {
        self.endpoints
            .iter_mut()
            .find(|party| party.id == id)
            .expect("the party is there")
    }

    pub(crate) fn hear(&mut self, edges: &[(&str, &str)]) {
        self.edges = edges.iter().map(|(from, to)| edge(from, to)).collect();
    }

    fn transport_id(party: &Party) -> Name {
        format!("t-{}", party.id).into()
    }

    pub(crate) fn spec(&self) -> SessionSpec {
        let mut transports: Vec<_> = self
            .endpoints
            .iter()
            .map(|party| Arc::new(transport(party)))
            .collect();
        transports.sort_by(|a, b| a.id.cmp(&b.id));
        let here = self.endpoints.iter().filter(|party| !party.away);
        let mut nodes: Vec<_> = here.map(|party| Arc::new(node(party))).collect();
        nodes.extend(self.others.iter().cloned().map(Arc::new));
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let mut edges = self.edges.clone();
        edges.retain(|edge| {
            [&edge.from, &edge.to]
                .into_iter()
                .all(|id| nodes.iter().any(|node| node.id == *id))
        });
        edges.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        SessionSpec {
            transports,
            nodes,
            edges,
            options: self.options,
        }
    }

    fn links(&self, before: Option<&SessionReport>) -> Vec<TransportLink> {
        let is_new =
            |id: &Name| !before.is_some_and(|before| before.transports.iter().any(|t| t.transport == *id));
        let link = |party: &Party| {
            let transport = Self::transport_id(party);
            let link = party.link.filter(|_| is_new(&transport))?;
            Some(TransportLink { transport, link })
        };
        self.endpoints.iter().filter_map(link).collect()
    }

    fn keys(&self) -> Vec<SendingKey> {
        let key = |party: &Party| {
            Some(SendingKey {
                transport: Self::transport_id(party),
                key: party.sending.clone()?,
            })
        };
        self.endpoints.iter().filter_map(key).collect()
    }

    pub(crate) fn resources(
        &self,
        before: Option<&SessionReport>,
    ) -> (Vec<TransportSockets>, Vec<EndpointStream>) {
        let has_transport =
            |id: &Name| before.is_some_and(|before| before.transports.iter().any(|t| t.transport == *id));
        let has_node =
            |id: &str| before.is_some_and(|before| before.endpoints.iter().any(|e| &*e.node == id));
        let new_transports = self
            .endpoints
            .iter()
            .filter(|party| party.link.is_none() && !has_transport(&Self::transport_id(party)));
        let sockets = new_transports.map(|party| TransportSockets {
            transport: Self::transport_id(party),
            rtp: party.rtp(),
            rtcp: (party.rtcp == RtcpMode::Separate).then(|| rtcp_socket(party.number)),
        });
        let new_nodes = self
            .endpoints
            .iter()
            .filter(|party| !party.away && !has_node(party.id));
        let streams = new_nodes.map(|party| EndpointStream {
            node: party.id.into(),
            ssrc: ssrc(party.number),
            cname: format!("{}@host", party.id).into(),
        });
        (sockets.collect(), streams.collect())
    }
}

fn transport(party: &Party) -> TransportSpec {
    if party.link.is_some() {
        return TransportSpec {
            id: Graph::transport_id(party),
            kind: TransportKind::Link(LinkSpec {
                peer_session: "far".into(),
                peer_transport: "end".into(),
            }),
        };
    }
    TransportSpec {
        id: Graph::transport_id(party),
        kind: TransportKind::Udp(UdpSpec {
            interface: "media".into(),
            family: None,
            rtcp: party.rtcp,
            requested_port: None,
            remote: party.remote,
            remote_rtcp: party.remote_rtcp,
            source: party.source,
            dscp: None,
            security: party.sdes.clone().map(Security::Sdes),
        }),
    }
}

fn node(party: &Party) -> NodeSpec {
    NodeSpec {
        id: party.id.into(),
        kind: NodeKind::Endpoint(EndpointSpec {
            transport: Graph::transport_id(party),
            receive: party.receive.clone().into(),
            send: party.send.clone().into(),
            ptime_ms: party.ptime_ms,
            direction: party.direction,
            ssrc: None,
            cname: None,
            jitter_ms_max: 200,
            detect_talk: party.detect_talk,
            inband_digits: party.inband_digits,
            polish: party.polish,
            suppress_silence: party.suppress_silence,
        }),
    }
}

/// A peer's stream: knows its next sequence number and timestamp.
#[derive(Debug, Clone)]
pub(crate) struct Speaker {
    pub(crate) ssrc: Ssrc,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: u8,
    pub(crate) step: u32,
}

impl Speaker {
    pub(crate) fn new(ssrc: u32) -> Self {
        Self {
            ssrc: Ssrc(ssrc),
            sequence: 65_530,
            timestamp: u32::MAX - 1000,
            payload_type: 0,
            step: 160,
        }
    }

    /// The next packet, with `payload`.
    pub(crate) fn packet(&mut self, payload: &[u8]) -> Vec<u8> {
        let header = self.header(false);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.step);
        rtp(&header, payload)
    }

    pub(crate) fn header(&self, marker: bool) -> RtpHeader {
        RtpHeader {
            marker,
            payload_type: PayloadType::from_low_bits(self.payload_type),
            sequence: self.sequence,
            timestamp: RtpTimestamp(self.timestamp),
            ssrc: self.ssrc,
        }
    }
}

pub(crate) fn rtp(header: &RtpHeader, payload: &[u8]) -> Vec<u8> {
    let mut packet = header.to_bytes().to_vec();
    packet.extend_from_slice(payload);
    packet
}
