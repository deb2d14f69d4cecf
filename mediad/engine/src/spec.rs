//! The validated graph of a session. Whatever holds one of these types holds a valid value; the checks are in
//! `graph` and `api`. Specs are immutable and shared between the host and a worker.

use std::{net::SocketAddr, sync::Arc, time::Duration};

pub use codecs::{
    gain_control::GainSettings,
    tone::{CallProgress, Country},
};
use rtp::units::{ClockRate, PayloadType, Ssrc};
pub use srtp::{MasterKey, Suite};

/// A caller's identifier for a session, transport or node: 1 to 128 bytes of UTF-8.
pub type Name = Arc<str>;

/// Everything a session is asked to be. Vectors are sorted by id (edges by `(from, to)`), without duplicates.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionSpec {
    /// What carries RTP.
    pub transports: Vec<Arc<TransportSpec>>,
    /// What produces and consumes audio.
    pub nodes: Vec<Arc<NodeSpec>>,
    /// Who is heard by whom.
    pub edges: Vec<EdgeSpec>,
    /// Time-outs, with the host's defaults filled in.
    pub options: SessionOptions,
}

impl SessionSpec {
    /// The transport called `id`.
    pub fn transport(&self, id: &str) -> Option<&Arc<TransportSpec>> {
        self.transports
            .binary_search_by(|t| (*t.id).cmp(id))
            .ok()
            .map(|at| &self.transports[at])
    }

    /// The node called `id`.
    pub fn node(&self, id: &str) -> Option<&Arc<NodeSpec>> {
        self.nodes
            .binary_search_by(|n| (*n.id).cmp(id))
            .ok()
            .map(|at| &self.nodes[at])
    }

    /// How many of the nodes are endpoints.
    pub fn endpoint_count(&self) -> usize {
        let is_endpoint = |node: &&Arc<NodeSpec>| matches!(node.kind, NodeKind::Endpoint(_));
        self.nodes.iter().filter(is_endpoint).count()
    }

    /// The edge from `from` to `to`.
    pub fn edge(&self, from: &str, to: &str) -> Option<&EdgeSpec> {
        self.edges
            .binary_search_by(|e| (&*e.from, &*e.to).cmp(&(from, to)))
            .ok()
            .map(|at| &self.edges[at])
    }
}

/// Time-outs of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// An endpoint that should receive and got no RTP for this long raises a media time-out.
    pub media_timeout: Duration,
    /// Longest life after the owner's lease expired.
    pub orphan_max: Duration,
    /// A locked source silent for this long may be replaced.
    pub relearn_after: Duration,
}

/// What carries RTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportSpec {
    /// Unique in the session.
    pub id: Name,
    /// How it does.
    pub kind: TransportKind,
}

impl TransportSpec {
    /// The port it is, if it is one.
    pub fn udp(&self) -> Option<&UdpSpec> {
        match &self.kind {
            TransportKind::Udp(udp) => Some(udp),
            TransportKind::Link(_) => None,
        }
    }

    /// Its keys from the signalling, if it is protected by them.
    pub fn sdes(&self) -> Option<&SdesSpec> {
        match &self.udp()?.security {
            Some(Security::Sdes(sdes)) => Some(sdes),
            None => None,
        }
    }

    /// The link it is, if it is one.
    pub fn link(&self) -> Option<&LinkSpec> {
        match &self.kind {
            TransportKind::Udp(_) => None,
            TransportKind::Link(link) => Some(link),
        }
    }
}

/// Kinds of transports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportKind {
    /// A socket of the host.
    Udp(UdpSpec),
    /// Another session of the host.
    Link(LinkSpec),
}

/// A UDP port or port pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpSpec {
    /// Configured media interface.
    pub interface: Name,
    /// Wanted address family; `None` is the interface's first address.
    pub family: Option<Family>,
    /// Where RTCP goes.
    pub rtcp: RtcpMode,
    /// Wanted local RTP port, when the caller restores a session.
    pub requested_port: Option<u16>,
    /// Where the peer said it receives RTP.
    pub remote: Option<SocketAddr>,
    /// Where the peer said it receives RTCP; `None` is `remote` port + 1.
    pub remote_rtcp: Option<SocketAddr>,
    /// Whose packets are accepted.
    pub source: SourcePolicy,
    /// Code point of sent packets; `None` is the interface's.
    pub dscp: Option<u8>,
    /// How it is protected; `None`: not at all.
    pub security: Option<Security>,
}

/// How packets of a transport are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// SRTP with keys that the signalling carries.
    Sdes(SdesSpec),
}

/// SRTP with keys in SDP (RFC 4568). Local keys are not here: the host makes them and keeps them to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdesSpec {
    /// There is a local key for each, best first. At least one; each once.
    pub suites: Box<[Suite]>,
    /// The peer's key, for one of the suites. Until it is known nothing is sent and nothing taken.
    pub remote: Option<RemoteKey>,
    /// Another value than before asks for fresh local keys.
    pub key_generation: u32,
    /// Whose local key is sent with: this generation or the one before.
    pub send_generation: u32,
}

/// A key that the peer sends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteKey {
    /// The key.
    pub key: MasterKey,
    /// Tag of its crypto attribute.
    pub tag: u32,
}

/// Half of a connection to another session, without sockets. Both ends name each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// The session at the other end.
    pub peer_session: Name,
    /// Its transport.
    pub peer_transport: Name,
}

/// IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Where RTCP goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcpMode {
    /// The odd port after RTP's even one (RFC 3550 §11).
    Separate,
    /// RTP's port (RFC 5761).
    Mux,
    /// Nowhere.
    Off,
}

/// Whose packets are accepted, and where packets are sent. See `SourcePolicy` in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePolicy {
    /// Probation of several consecutive packets, then locked.
    Learn,
    /// Only the signalled address.
    Signalled,
    /// The first valid packet, then locked.
    Immediate,
}

/// A node of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSpec {
    /// Unique among the nodes of the session.
    pub id: Name,
    /// What it is.
    pub kind: NodeKind,
}

impl NodeSpec {
    /// The endpoint that this node is.
    ///
    /// # Panics
    /// It is something else: only for nodes that were found to be endpoints.
    pub(crate) fn endpoint(&self) -> &EndpointSpec {
        match &self.kind {
            NodeKind::Endpoint(endpoint) => endpoint,
            NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => {
                panic!("node {} is no endpoint", self.id)
            }
        }
    }
}

impl NodeSpec {
    /// The player, if it is one.
    pub fn player(&self) -> Option<&PlayerSpec> {
        match &self.kind {
            NodeKind::Player(player) => Some(player),
            NodeKind::Endpoint(_) | NodeKind::Room(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => None,
        }
    }
}

/// Kinds of nodes the engine carries out.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// One RTP stream pair.
    Endpoint(EndpointSpec),
    /// An N-1 mixer.
    Room(RoomSpec),
    /// Plays files, tones and silence to whoever hears it.
    Player(PlayerSpec),
    /// Full-duplex audio with a program.
    Tap(TapSpec),
    /// Writes what it hears to a file.
    Recorder(RecorderSpec),
}

/// Full-duplex audio with a program: it hears a mix of what comes in, and is heard as one voice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapSpec {
    /// Sampling rate towards the program: 8 000, 16 000, 24 000 or 48 000 Hz.
    pub sample_rate_hz: u32,
}

/// An N-1 mixer: each member hears the sum of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSpec {
    /// Highest sampling rate of the mix: 8 000, 16 000 or 48 000 Hz. It runs lower when nothing would be gained.
    pub sample_rate_hz: u32,
    /// Only so many of the loudest are heard; `None`: all.
    pub top_talkers: Option<u16>,
    /// Tell when an endpoint that is heard in it talks.
    pub talk_events: bool,
}

/// Plays its items, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct PlayerSpec {
    /// At least one; a tone, which never ends, only at the end.
    pub items: Box<[PlayItem]>,
    /// Times the items are played; `None`: for ever.
    pub repeat: Option<u32>,
    /// -60 to +20 dB.
    pub gain_db: f64,
    /// Silent, and where it is.
    pub paused: bool,
    /// Who stops it.
    pub barge_in: Option<BargeIn>,
    /// Players with the same group, items, repeats and gain are one, whatever session they are in.
    pub shared_group: Option<Name>,
}

impl PlayerSpec {
    /// What plays for this player plays for that one as well.
    pub fn shares_with(&self, other: &Self) -> bool {
        self.shared_group.is_some()
            && self.shared_group == other.shared_group
            && self.items == other.items
            && self.repeat == other.repeat
            && self.gain_db == other.gain_db
    }

    /// Some of its items are files.
    pub fn plays_prompts(&self) -> bool {
        let mut items = self.items.iter();
        items.any(|item| matches!(item.source, PlaySource::Prompt(_)))
    }

    /// It goes on as `before` went: the same items, and perhaps more after them.
    pub fn continues(&self, before: &Self) -> bool {
        self.items.starts_with(&before.items) && self.shared_group == before.shared_group
    }
}

/// What makes a player stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BargeIn {
    /// This endpoint's peer …
    pub node: Name,
    /// … by a digit …
    pub on_digit: bool,
    /// … or by beginning to talk. At least one of the two.
    pub on_speech: bool,
}

/// One thing to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayItem {
    /// What.
    pub source: PlaySource,
    /// Where to begin.
    pub start_ms: u32,
}

/// What is played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaySource {
    /// A file of the prompt directory, by its relative name.
    Prompt(Name),
    /// A call-progress tone, for ever unless it [ends](CallProgress::ends).
    Tone(Country, CallProgress),
    /// Nothing, for this many ms.
    Silence(u32),
}

/// Writes what it hears to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderSpec {
    /// The caller's id of the recording.
    pub recording: Name,
    /// The caller's id of the call; may be empty.
    pub call: Name,
    /// Number within the recording.
    pub segment: u32,
    /// What is written.
    pub format: RecordingFormat,
    /// Nothing is heard, and the time passes.
    pub paused: bool,
    /// Ends by itself after this long.
    pub duration_max: Option<Duration>,
    /// Ends by itself when the file has this size.
    pub size_bytes_max: Option<u64>,
}

impl RecorderSpec {
    /// Both write to the same file: only what can change under way differs.
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.recording == other.recording && self.segment == other.segment && self.format == other.format
    }
}

/// What a recorder writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingFormat {
    /// WAV, everything mixed.
    WavMono,
    /// WAV, left and right by [`EdgeSpec::right`].
    WavStereo,
    /// Ogg Opus, everything mixed.
    OggMono,
    /// Ogg Opus, left and right by [`EdgeSpec::right`].
    OggStereo,
}

impl RecordingFormat {
    /// Left and right are kept apart.
    pub fn is_stereo(self) -> bool {
        matches!(self, Self::WavStereo | Self::OggStereo)
    }
}

/// One RTP stream pair with one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSpec {
    /// Id of the transport it rides on.
    pub transport: Name,
    /// What the peer may send. At least one; payload types are unique.
    pub receive: Arc<[PayloadFormat]>,
    /// What we may send. At least one; payload types are unique.
    pub send: Arc<[PayloadFormat]>,
    /// Packet time of what we encode.
    pub ptime_ms: u8,
    /// What flows.
    pub direction: Direction,
    /// SSRC asked for.
    pub ssrc: Option<Ssrc>,
    /// RTCP CNAME asked for.
    pub cname: Option<Name>,
    /// Bound of the jitter buffer.
    pub jitter_ms_max: u16,
    /// Tell when the peer talks.
    pub detect_talk: bool,
    /// Look for digits in the audio of the peer.
    pub inband_digits: InbandDigits,
    /// What is done to the sound of the peer before it is heard.
    pub polish: PolishSpec,
    /// What we encode is not sent while it is silence, where the peer agreed on how to be told of that.
    pub suppress_silence: bool,
}

/// What is done to the sound of a peer before it is heard; by default nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PolishSpec {
    /// What is no speech becomes quiet.
    pub suppress_noise: bool,
    /// Speech comes to one level.
    pub gain: Option<GainSettings>,
}

impl EndpointSpec {
    /// The peer has a format for telephone-events, and we may send them.
    pub fn takes_events(&self) -> bool {
        has_events(&self.send)
    }

    /// The peer may send telephone-events.
    pub fn sends_events(&self) -> bool {
        has_events(&self.receive)
    }

    /// The audio format we send by preference: the first that is neither telephone-event nor comfort noise.
    pub fn send_audio(&self) -> Option<&PayloadFormat> {
        self.send.iter().find(|f| f.codec.is_audio())
    }
}

fn has_events(formats: &[PayloadFormat]) -> bool {
    formats.iter().any(|format| format.codec == Codec::TelephoneEvent)
}

/// Whether digits are looked for in the audio of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InbandDigits {
    /// Where something asks for its digits.
    Auto,
    /// Always.
    On,
    /// Only to take tones out where they are not to be heard.
    Off,
}

/// What flows, seen from the host (RFC 3264).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// We only send.
    SendOnly,
    /// We only receive.
    RecvOnly,
    /// Nothing.
    Inactive,
}

impl Direction {
    /// We send.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// We receive.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// One negotiated payload format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFormat {
    /// Number on the wire.
    pub payload_type: PayloadType,
    /// What the payload is.
    pub codec: Codec,
    /// RTP clock.
    pub clock: ClockRate,
    /// Channels as signalled.
    pub channels: u8,
    /// Format parameters, verbatim.
    pub fmtp: Box<str>,
}

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    /// G.711 mu-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s.
    G722,
    /// Opus (RFC 7587).
    Opus,
    /// Linear 16 bit (RFC 3551 §4.5.11).
    L16,
    /// RFC 4733.
    TelephoneEvent,
    /// RFC 3389.
    ComfortNoise,
    /// Never looked at.
    Opaque,
}

impl Codec {
    /// Carries the stream itself, rather than events beside it.
    pub fn is_audio(self) -> bool {
        !matches!(self, Self::TelephoneEvent | Self::ComfortNoise)
    }
}

/// "`from` is heard by `to`".
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSpec {
    /// Speaker.
    pub from: Name,
    /// Listener.
    pub to: Name,
    /// -60 to +20 dB; 0 leaves the sound as it is.
    pub gain_db: f64,
    /// Nothing passes, digits included.
    pub muted: bool,
    /// How digits pass.
    pub digits: DigitPolicy,
    /// The channel of a stereo recorder.
    pub right: bool,
}

/// How digits pass along an edge; of two on one way the later here counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DigitPolicy {
    /// As they come; telephone-events as tones where the listener takes none.
    Pass,
    /// The same, and tones as telephone-events where the listener takes them.
    Convert,
    /// Telephone-events are observed, not forwarded.
    Block,
    /// Neither telephone-events nor tones.
    Clamp,
}

impl DigitPolicy {
    /// Telephone-events reach the listener, in whatever form.
    pub fn passes_events(self) -> bool {
        matches!(self, Self::Pass | Self::Convert)
    }
}
