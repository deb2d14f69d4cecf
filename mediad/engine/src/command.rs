//! The messages between the host and a worker's engine. Commands cannot fail: whatever could fail was done by the
//! host before (ports taken, sockets bound, graph valid).

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use rtp::units::{PayloadType, Ssrc};

use crate::{
    recording::RecordingFeed,
    spec::{Codec, MasterKey, Name, SessionSpec},
    tap::TapPort,
};

/// A session's handle inside one process life: given by the host, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// A socket of one worker, dense and reused, given by its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

impl SocketId {
    /// No socket.
    pub const NONE: Self = Self(u32::MAX);
}

/// One end of a link between two sessions: given by the host, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// The other end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkPeer {
    /// Which end.
    pub link: LinkId,
    /// Its worker; `None`: the same one.
    pub worker: Option<usize>,
}

/// A packet on its way from a worker's session to one of another worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkPacket<'a> {
    /// The worker of the end it goes to.
    pub worker: usize,
    /// The end it left by.
    pub from: LinkId,
    /// The end it goes to.
    pub link: LinkId,
    /// Links it has passed.
    pub hops: u8,
    /// RTP.
    pub data: &'a [u8],
}

/// Where a reply goes back to; made by whoever sends the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// What a host tells a worker's engine.
#[derive(Debug)]
pub enum Command {
    /// Makes the session be `spec`, creating it if need be.
    Commit(Box<Commit>),
    /// Ends the session: BYE to the peers, sockets released; answered with [`Reply::Ended`].
    End(SessionKey, ReplyToken),
    /// Asks for the session's state; answered with [`Reply::Report`].
    Report(SessionKey, ReplyToken),
    /// The owner's lease expired (true) or it is owned again (false). While expired the engine raises
    /// [`EventKind::Silent`] once no endpoint has received media for the media time-out.
    Orphaned(SessionKey, bool),
    /// A program is attached to a tap of the session: its tick does not rest while it is.
    Attend(SessionKey),
    /// The other end of a link came, or went (`None`).
    Link(LinkId, Option<LinkPeer>),
    /// Sends telephone-events to an endpoint's peer, in order, after what is still being sent.
    SendDigits(SessionKey, Name, Box<[SendDigit]>),
}

/// One edit of a session, complete: the new graph and what new transports and endpoints need.
#[derive(Debug)]
pub struct Commit {
    /// Which session.
    pub session: SessionKey,
    /// The caller's name of it.
    pub name: Name,
    /// The whole graph after the edit. What kept its spec keeps its state.
    pub spec: Arc<SessionSpec>,
    /// Sockets of the transports that are new in `spec`. Transports keep theirs for life.
    pub sockets: Vec<TransportSockets>,
    /// The ends that transports new in `spec` are, where they are links.
    pub links: Vec<TransportLink>,
    /// Streams of the endpoints that are new in `spec`.
    pub streams: Vec<EndpointStream>,
    /// Every prompt that a player of `spec` plays.
    pub prompts: Vec<Arc<Prompt>>,
    /// Where recorders of `spec` that are new, or have a new file, write to.
    pub recordings: Vec<RecorderFeed>,
    /// The rings of every tap of `spec`.
    pub taps: Vec<TapRings>,
    /// The key that each protected transport of `spec` sends with, once its suite is settled. The same one again is
    /// no change; another one replaces it for good.
    pub keys: Vec<SendingKey>,
}

/// The rings of one tap.
#[derive(Debug, Clone)]
pub struct TapRings {
    /// Which node.
    pub node: Name,
    /// To and from its program.
    pub port: Arc<TapPort>,
}

/// The local key that a transport sends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingKey {
    /// Which transport.
    pub transport: Name,
    /// The key.
    pub key: Arc<MasterKey>,
}

/// A prompt, ready to be played.
#[derive(PartialEq, Eq)]
pub struct Prompt {
    /// Its name in the prompt directory.
    pub name: Name,
    /// Its samples at 8 kHz.
    pub pcm_8k: Box<[i16]>,
    /// Its samples at 16 kHz.
    pub pcm_16k: Box<[i16]>,
}

impl std::fmt::Debug for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prompt({:?}, {} ms)", self.name, self.pcm_8k.len() / 8)
    }
}

/// Where a recorder writes to.
#[derive(Debug, Clone)]
pub struct RecorderFeed {
    /// Which recorder.
    pub node: Name,
    /// The way to the file thread.
    pub feed: RecordingFeed,
}

/// The sockets of one transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportSockets {
    /// Which transport.
    pub transport: Name,
    /// Receives and sends RTP, and RTCP when muxed.
    pub rtp: SocketId,
    /// Receives and sends RTCP when it has a port of its own.
    pub rtcp: Option<SocketId>,
}

/// The end of a link that a transport is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportLink {
    /// Which transport.
    pub transport: Name,
    /// Which end.
    pub link: LinkId,
}

/// The identity of an endpoint's outgoing stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStream {
    /// Which endpoint.
    pub node: Name,
    /// SSRC for life.
    pub ssrc: Ssrc,
    /// RTCP CNAME.
    pub cname: Name,
}

/// One digit to send; `event` is RFC 4733's number, `None` a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendDigit {
    /// Event number.
    pub event: Option<u8>,
    /// Length.
    pub duration_ms: u16,
    /// Silence after it.
    pub gap_ms: u16,
    /// Level in -dBm0.
    pub volume: u8,
}

/// What an engine answers.
#[derive(Debug)]
pub enum Reply {
    /// State of a session, `None` if it is not there.
    Report(Option<Box<SessionReport>>),
    /// Last state of an ended session, `None` if it was not there.
    Ended(Option<Box<SessionReport>>),
}

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineEvent {
    /// Which session.
    pub session: SessionKey,
    /// Node or transport it is about; `None` for the session.
    pub subject: Option<Name>,
    /// When.
    pub at: SystemTime,
    /// What.
    pub kind: EventKind,
}

/// Kinds of events an engine raises.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// A telephone-event began.
    DigitStarted {
        /// RFC 4733 event number, 0-16.
        event: u8,
    },
    /// A telephone-event ended.
    DigitEnded {
        /// RFC 4733 event number, 0-16.
        event: u8,
        /// Its length.
        duration_ms: u32,
        /// All end packets were lost.
        inferred: bool,
    },
    /// First RTP of an endpoint, or first after a time-out.
    MediaStarted {
        /// SSRC received.
        ssrc: Ssrc,
        /// Payload type received.
        payload_type: PayloadType,
        /// Its codec.
        codec: Codec,
        /// Its source.
        from: SocketAddr,
    },
    /// No RTP for the media time-out.
    MediaTimeout {
        /// Silent for.
        silent_ms: u64,
        /// Never received anything.
        never_started: bool,
    },
    /// Packets now go to an address learned from what arrived.
    SourceLearned {
        /// The new address.
        address: SocketAddr,
        /// The one before.
        previous: Option<SocketAddr>,
        /// RTCP's address rather than RTP's.
        rtcp: bool,
    },
    /// RTCP BYE from the peer.
    PeerBye {
        /// The reason given, as UTF-8, cut at 64 bytes.
        reason: Box<str>,
    },
    /// MOS of an ingress crossed a threshold.
    QualityChanged {
        /// MOS in hundredths now.
        mos: u16,
        /// Before.
        previous: u16,
    },
    /// An endpoint that is watched talks.
    TalkStarted,
    /// It talks no more.
    TalkStopped {
        /// From the first to the last sound.
        duration_ms: u64,
    },
    /// A player has played its items.
    PlayFinished,
    /// An orphaned session is silent; the host decides what becomes of it.
    Silent,
}

/// Why a datagram was dropped. The order is that of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// Not RTP or RTCP, or an inconsistent header.
    Malformed,
    /// Not from the locked or signalled source.
    WrongSource,
    /// Not one of the formats.
    PayloadType,
    /// The direction does not allow receiving.
    Direction,
    /// Duplicate or too old.
    Replay,
    /// SRTP authentication failed.
    Authentication,
    /// Waited too long after a stall.
    Stale,
    /// The send side took no more.
    EgressFull,
    /// No endpoint on the transport.
    NoEndpoint,
    /// New source, not trusted yet.
    Probation,
    /// STUN or DTLS where there is none.
    UnexpectedProtocol,
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = 11;

    /// Every reason, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Malformed,
        Self::WrongSource,
        Self::PayloadType,
        Self::Direction,
        Self::Replay,
        Self::Authentication,
        Self::Stale,
        Self::EgressFull,
        Self::NoEndpoint,
        Self::Probation,
        Self::UnexpectedProtocol,
    ];

    /// Label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongSource => "wrong_source",
            Self::PayloadType => "payload_type",
            Self::Direction => "direction",
            Self::Replay => "replay",
            Self::Authentication => "authentication",
            Self::Stale => "stale",
            Self::EgressFull => "egress_full",
            Self::NoEndpoint => "no_endpoint",
            Self::Probation => "probation",
            Self::UnexpectedProtocol => "unexpected_protocol",
        }
    }
}

/// A session as its engine sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionReport {
    /// Which session.
    pub session: SessionKey,
    /// One for each transport, in the order of the spec.
    pub transports: Vec<TransportReport>,
    /// One for each endpoint, in the order of the spec.
    pub endpoints: Vec<EndpointReport>,
    /// One for each listener, in the order of the spec.
    pub plans: Vec<PlanReport>,
}

/// State and counters of a transport.
#[derive(Debug, Clone, PartialEq)]
pub struct TransportReport {
    /// Which transport.
    pub transport: Name,
    /// Where RTP is sent.
    pub remote: Option<SocketAddr>,
    /// Where RTCP is sent.
    pub remote_rtcp: Option<SocketAddr>,
    /// How `remote` was found.
    pub source: SourceState,
    /// When it was learned.
    pub learned_at: Option<SystemTime>,
    /// Times it was learned anew.
    pub relearned: u32,
    /// Datagrams received, before any drop.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Datagrams sent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Drops by [`DropReason`].
    pub drops: [u64; DropReason::COUNT],
    /// Those since RTP was last taken; each counts up to 65 535.
    pub drops_since_rx: [u64; DropReason::COUNT],
    /// Last refused source.
    pub refused: Option<SocketAddr>,
    /// A link whose other end is there.
    pub linked: bool,
}

/// How a transport's destination was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// As signalled, or unknown.
    Signalled,
    /// Packets arrive from a source not trusted yet.
    Probation,
    /// Learned or confirmed.
    Locked,
}

/// State and counters of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointReport {
    /// Which endpoint.
    pub node: Name,
    /// What we receive.
    pub ingress: StreamReport,
    /// What we send.
    pub egress: StreamReport,
    /// From RTCP.
    pub round_trip_ms: Option<f32>,
    /// MOS of what we receive.
    pub mos_ingress: Option<f32>,
    /// MOS at the peer.
    pub mos_egress: Option<f32>,
    /// Digits heard.
    pub digits: u64,
    /// First RTP.
    pub first_rx: Option<SystemTime>,
    /// Latest RTP.
    pub last_rx: Option<SystemTime>,
    /// In media time-out.
    pub timed_out: bool,
    /// How loud the peer is, in dBov; `None` where nobody watches it.
    pub level_dbov: Option<f32>,
    /// It talks, and is watched.
    pub talking: bool,
}

/// Counters of one RTP stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamReport {
    /// Its SSRC; `None` before the first packet.
    pub ssrc: Option<Ssrc>,
    /// Latest payload type.
    pub payload_type: Option<PayloadType>,
    /// Its codec.
    pub codec: Option<Codec>,
    /// Packets.
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// By sequence number, or as the peer reports.
    pub lost: i64,
    /// Packets seen twice.
    pub duplicates: u64,
    /// Packets out of order.
    pub reordered: u64,
    /// RFC 3550 A.8.
    pub jitter_ms: f32,
    /// Largest.
    pub jitter_ms_max: f32,
    /// Changes of SSRC.
    pub ssrc_changes: u32,
}

/// The plan towards one listener.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanReport {
    /// Who listens.
    pub node: Name,
    /// What is done for it.
    pub kind: PlanKind,
    /// Whom it hears.
    pub sources: Vec<Name>,
}

/// The cheapest way to make "who hears whom" true for one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanKind {
    /// Nothing is sent.
    Silent,
    /// Header rewrite.
    Relay,
    /// As relay, with another payload type or G.711 law, or encrypted on one side or both.
    Rewrite,
    /// One source, decoded and encoded anew.
    Transcode,
    /// Several sources, gain, or sound of our own.
    Mix,
}
