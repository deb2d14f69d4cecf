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
    /// Moves a player to a place in one of its items, also one that had come to its end.
    Seek {
        /// Which session.
        session: SessionKey,
        /// Which player.
        node: Name,
        /// Index of the item.
        item: usize,
        /// How far into it.
        position_ms: u32,
    },
    /// A player, or the program at a tap, throws away what it still has to play.
    Flush(SessionKey, Name),
    /// Another effort of all Opus encoders, 0 to 10, of those that sessions have and those to come.
    OpusComplexity(u8),
    /// Gathers digits of an endpoint's peer; ends in [`EventKind::DigitsCollected`].
    Collect {
        /// Which session.
        session: SessionKey,
        /// Which endpoint.
        node: Name,
        /// The caller's id, given back with the result.
        request: Name,
        /// What is wanted.
        wish: CollectWish,
    },
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
    /// One for each player of `spec` that plays prompts.
    pub prompts: Vec<PlayerPrompts>,
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

/// What a player needs beside its spec.
#[derive(Debug)]
pub struct PlayerPrompts {
    /// Which player.
    pub node: Name,
    /// One for each of its items that is a prompt, in their order.
    pub prompts: Box<[Arc<Prompt>]>,
    /// For items whose prompt is streamed and that the player does not have yet: the item's index, and its stream.
    pub streams: Vec<(usize, Box<dyn SampleStream>)>,
}

/// A prompt, ready to be played.
#[derive(PartialEq, Eq)]
pub struct Prompt {
    /// Its name in the prompt directory.
    pub name: Name,
    /// Differs whenever the file does.
    pub version: u64,
    /// The rate at which nothing of it is lost.
    pub native_hz: u32,
    /// Its samples.
    pub sound: PromptSound,
}

/// Where the samples of a prompt are.
#[derive(PartialEq, Eq)]
pub enum PromptSound {
    /// In memory, at one rate.
    Whole {
        /// 8 000, 16 000 or 48 000.
        rate_hz: u32,
        /// All of them.
        pcm: Box<[i16]>,
    },
    /// In the file, which is read while it plays.
    Streamed,
}

impl std::fmt::Debug for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.sound {
            PromptSound::Whole { rate_hz, pcm } => {
                let ms = pcm.len() as u64 * 1_000 / u64::from(*rate_hz);
                write!(f, "Prompt({:?}, {ms} ms at {rate_hz} Hz)", self.name)
            }
            PromptSound::Streamed => write!(f, "Prompt({:?}, streamed)", self.name),
        }
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

/// Samples that somebody else reads from a file, ahead of when they are played. Called on the tick: nothing here waits,
/// allocates or calls the system.
pub trait SampleStream: Send + std::fmt::Debug {
    /// The rate of its samples: 8 000, 16 000 or 48 000.
    fn rate_hz(&self) -> u32;

    /// Takes the samples that come next.
    fn read(&mut self, pcm: &mut [i16]) -> StreamRead;

    /// Goes on at this sample as soon as it is there.
    fn seek(&mut self, sample: u64);
}

/// What a stream gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRead {
    /// Samples written.
    pub samples: usize,
    /// Why they are not more.
    pub state: StreamState,
}

/// See [`StreamRead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// All that was asked for.
    Ready,
    /// More is to come, and is not there yet.
    Late,
    /// These were the last. What is read next is the beginning again.
    End,
    /// The file cannot be read any further.
    Broken,
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

/// Which digits are gathered, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectWish {
    /// So many are enough: with fewer, a terminator is passed over.
    pub digits_min: u8,
    /// So many are all: 1 to [`CollectedDigits::MAX`].
    pub digits_max: u8,
    /// Digits that end it and do not belong to it: bit n for event n.
    pub terminators: u16,
    /// How long the first may take; 0: for ever.
    pub first_digit_ms: u32,
    /// How long each of the others may take; 0: for ever.
    pub inter_digit_ms: u32,
}

/// Digits that were gathered, as numbers of RFC 4733.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectedDigits {
    count: u8,
    events: [u8; Self::MAX],
}

impl CollectedDigits {
    /// No more are gathered at once.
    pub const MAX: usize = 64;

    /// In the order they came.
    pub fn events(&self) -> &[u8] {
        &self.events[..usize::from(self.count)]
    }

    /// Adds one, if there is room.
    pub(crate) fn push(&mut self, event: u8) {
        if let Some(free) = self.events.get_mut(usize::from(self.count)) {
            *free = event;
            self.count += 1;
        }
    }
}

impl Default for CollectedDigits {
    fn default() -> Self {
        Self {
            count: 0,
            events: [0; Self::MAX],
        }
    }
}

/// Why gathering came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectEnd {
    /// As many as wanted, or time ran out on what was enough.
    Complete,
    /// A digit that ends it.
    Terminator,
    /// Time ran out.
    Timeout,
    /// Another collection took its place, or the endpoint is gone.
    Cancelled,
}

/// How a digit was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigitSource {
    /// RFC 4733.
    TelephoneEvent,
    /// A tone in the audio.
    Inband,
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
    /// A digit began.
    DigitStarted {
        /// RFC 4733 event number, 0-16.
        event: u8,
        /// How it was heard.
        source: DigitSource,
    },
    /// A digit ended.
    DigitEnded {
        /// RFC 4733 event number, 0-16.
        event: u8,
        /// How it was heard.
        source: DigitSource,
        /// Its length.
        duration_ms: u32,
        /// All end packets were lost.
        inferred: bool,
        /// How loud it was in -dBm0, as the peer told or as was measured; `None`: a tone that was lost sight of.
        volume: Option<u8>,
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
        /// A time-out was before it.
        resumed: bool,
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
    /// Gathering digits came to its end.
    DigitsCollected {
        /// The caller's id of the act.
        request: Name,
        /// What was gathered.
        digits: Box<CollectedDigits>,
        /// Why it ended.
        end: CollectEnd,
    },
    /// A player plays no more.
    PlayFinished(PlayEnd),
    /// An edit took an endpoint out of a session that goes on: what it counted.
    EndpointRemoved(Box<EndpointReport>),
    /// An orphaned session is silent; the host decides what becomes of it.
    Silent,
}

/// Why a player came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlayEnd {
    /// It has played its items.
    End,
    /// Somebody pressed a key or spoke.
    BargeIn,
    /// It was taken away, was given something else to play, or was flushed.
    Removed,
    /// A file could not be read any further.
    Error,
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

/// Mean opinion scores of an endpoint's streams, 1.0 to 4.5 (ITU-T G.107); `None` before some 50 packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualityReport {
    /// Of what we received up to the latest of our RTCP reports, since the one before.
    pub ingress: Option<f64>,
    /// Of what we received from the beginning until now.
    pub ingress_mean: Option<f64>,
    /// In the worst stretch between two reports.
    pub ingress_min: Option<f64>,
    /// At the peer, by its latest report.
    pub egress: Option<f64>,
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
    /// How it sounds.
    pub quality: QualityReport,
    /// Digits heard.
    pub digits: u64,
    /// First RTP.
    pub first_rx: Option<SystemTime>,
    /// Latest RTP.
    pub last_rx: Option<SystemTime>,
    /// In media time-out.
    pub timed_out: bool,
    /// The peer described its silence, and has not spoken since.
    pub silent: bool,
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
