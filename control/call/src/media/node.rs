//! What a session is made of: endpoints, rooms, players and recorders, and who hears whom.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use proto::mediad::v1 as pb;
use sdp::{Codec, Crypto, CryptoSuite, Direction, NegotiatedFormat, NegotiatedMedia};

use crate::security::to_wire;

/// A thing in the graph.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Endpoint(Endpoint),
    Room(pb::Room),
    Player(pb::Player),
    Recorder(pb::Recorder),
}

impl Node {
    pub(super) fn is_endpoint(&self) -> bool {
        matches!(self, Self::Endpoint(_))
    }

    /// For the host; `suppress_silence`: endpoints are sent no silence where that was agreed.
    pub(super) fn described(&self, name: &str, suppress_silence: bool) -> pb::Node {
        let kind = match self {
            Self::Endpoint(endpoint) => endpoint.kind(name, suppress_silence),
            Self::Room(room) => pb::node::Kind::Room(*room),
            Self::Player(player) => pb::node::Kind::Player(player.clone()),
            Self::Recorder(recorder) => pb::node::Kind::Recorder(recorder.clone()),
        };
        pb::Node {
            id: name.to_owned(),
            kind: Some(kind),
        }
    }
}

/// How one node is heard by another.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Edge {
    pub(crate) gain_db: f64,
    pub(crate) muted: bool,
    /// Of a stereo recorder: 0 left, 1 right.
    pub(crate) channel: u32,
    pub(crate) digits: Digits,
}

/// What becomes of the digits of who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Digits {
    /// As they come, or as tones for who takes no telephone-events.
    #[default]
    Pass,
    /// They reach the listener another way.
    Block,
    /// Tones become telephone-events.
    Convert,
    /// Neither tones nor telephone-events are heard.
    Clamp,
}

impl Digits {
    fn policy(self) -> pb::DtmfPolicy {
        match self {
            Self::Pass => pb::DtmfPolicy::Unspecified,
            Self::Block => pb::DtmfPolicy::Block,
            Self::Convert => pb::DtmfPolicy::Convert,
            Self::Clamp => pb::DtmfPolicy::Clamp,
        }
    }
}

impl Edge {
    pub(super) fn described(self, (from, to): &(String, String)) -> pb::Edge {
        pb::Edge {
            from: from.clone(),
            to: to.clone(),
            gain_db: self.gain_db,
            muted: self.muted,
            channel: self.channel,
            dtmf: self.digits.policy().into(),
        }
    }
}

/// Who hears whom, and what is there beside the parties: players, rooms, recorders. Made anew from the state of a call
/// each time something changes, so that nothing of an earlier state can stay behind.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Scene {
    pub(super) nodes: BTreeMap<String, Node>,
    /// By (from, to).
    pub(super) edges: BTreeMap<(String, String), Edge>,
}

impl Scene {
    /// The two hear each other.
    pub(crate) fn join(&mut self, a: &str, b: &str) {
        self.hear(a, b);
        self.hear(b, a);
    }

    /// `from` is heard by `to`.
    pub(crate) fn hear(&mut self, from: &str, to: &str) {
        self.edge(from, to, Edge::default());
    }

    /// As [`Scene::hear`], where digits need care.
    pub(crate) fn hear_digits(&mut self, from: &str, to: &str, digits: Digits) {
        let edge = Edge {
            digits,
            ..Edge::default()
        };
        self.edge(from, to, edge);
    }

    fn edge(&mut self, from: &str, to: &str, edge: Edge) {
        self.edges.insert((from.to_owned(), to.to_owned()), edge);
    }

    pub(crate) fn room(&mut self, name: &str, room: pb::Room) {
        self.nodes.insert(name.to_owned(), Node::Room(room));
    }

    /// Writes what its parties say, one to each channel. Tones that its counterpart does not hear are not written either.
    pub(crate) fn record(&mut self, name: &str, recorder: pb::Recorder, channels: [Option<&str>; 2]) {
        self.nodes.insert(name.to_owned(), Node::Recorder(recorder));
        for (channel, from) in channels.into_iter().enumerate() {
            let Some(from) = from else { continue };
            let own = self.edges.iter().filter(|((speaker, _), _)| speaker == from);
            let is_converted = own.clone().any(|(_, edge)| edge.digits == Digits::Convert);
            let edge = Edge {
                channel: channel as u32,
                digits: if is_converted { Digits::Clamp } else { Digits::Pass },
                ..Edge::default()
            };
            self.edge(from, name, edge);
        }
    }

    /// `to` hears what a player plays.
    pub(crate) fn play(&mut self, name: &str, player: pb::Player, to: &str) {
        self.nodes.insert(name.to_owned(), Node::Player(player));
        self.hear(name, to);
    }
}

/// One endpoint as a call wants it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    /// What the peer may send.
    formats: Vec<pb::PayloadFormat>,
    /// What we send, where the numbers differ.
    send_formats: Vec<pb::PayloadFormat>,
    remote: Option<SocketAddr>,
    remote_rtcp: Option<SocketAddr>,
    family: pb::AddressFamily,
    direction: pb::Direction,
    /// Milliseconds a packet of what the host encodes for the peer.
    ptime_ms: u32,
    /// What we have keys for, preferred first: empty when nothing is encrypted.
    suites: Vec<CryptoSuite>,
    /// The peer's key. One that only the host knows, after a restart of ours, is written without.
    remote_key: Option<Crypto>,
}

impl Endpoint {
    /// Before the peer's description is known: it gets a port, and keys for these suites, and hears nothing.
    pub(crate) fn offered(formats: &[sdp::Format], peer: IpAddr, suites: &[CryptoSuite]) -> Self {
        let formats = formats
            .iter()
            .map(|format| payload_format(format.payload_type, &format.codec));
        Self {
            formats: formats.collect(),
            send_formats: Vec::new(),
            remote: None,
            remote_rtcp: None,
            family: family_of(peer),
            direction: pb::Direction::Sendrecv,
            ptime_ms: 0,
            suites: suites.to_vec(),
            remote_key: None,
        }
    }

    /// As agreed with the peer. `peer` is where its signalling comes from, for a peer that holds by address. `suites`:
    /// those that were offered, of which another answer may choose another.
    pub(crate) fn agreed(media: &NegotiatedMedia, peer: IpAddr, suites: Vec<CryptoSuite>) -> Self {
        let numbered = |number: fn(&NegotiatedFormat) -> u8| {
            let formats = media.formats.iter();
            formats
                .map(|format| payload_format(number(format), &format.codec))
                .collect::<Vec<_>>()
        };
        let formats = numbered(|format| format.rx_payload_type);
        let send_formats = numbered(|format| format.tx_payload_type);
        Self {
            send_formats: if send_formats == formats {
                Vec::new()
            } else {
                send_formats
            },
            formats,
            remote: media.remote,
            remote_rtcp: media.remote_rtcp,
            family: family_of(media.remote.map_or(peer, |remote| remote.ip())),
            direction: match media.direction {
                Direction::SendRecv => pb::Direction::Sendrecv,
                Direction::SendOnly => pb::Direction::Sendonly,
                Direction::RecvOnly => pb::Direction::Recvonly,
                Direction::Inactive => pb::Direction::Inactive,
            },
            ptime_ms: u32::from(media.ptime_ms).clamp(10, 60),
            suites,
            remote_key: media.sdes.as_ref().map(|sdes| sdes.remote.clone()),
        }
    }

    /// Its peer's key is at the host only: the transport there must stay as it is.
    pub(super) fn is_kept(&self) -> bool {
        self.remote_key.as_ref().is_some_and(|key| !key.has_key())
    }

    pub(super) fn is_encrypted(&self) -> bool {
        !self.suites.is_empty()
    }

    /// The suite in use.
    pub(super) fn suite(&self) -> Option<CryptoSuite> {
        self.remote_key.as_ref().map(|key| key.suite)
    }

    /// It begins anew: what its peer sends under the key of before cannot be followed any more.
    pub(super) fn forget_key(&mut self) {
        self.remote_key = None;
    }

    fn security(&self) -> Option<pb::udp_transport::Security> {
        let wire = |suite: &CryptoSuite| to_wire(*suite).map(i32::from);
        let remote = |key: &Crypto| {
            Some(pb::SdesKey {
                suite: to_wire(key.suite)?.into(),
                key_salt: key.key.clone(),
                tag: key.tag,
            })
        };
        self.is_encrypted().then(|| {
            pb::udp_transport::Security::Sdes(pb::SdesSecurity {
                suites: self.suites.iter().filter_map(wire).collect(),
                remote: self.remote_key.as_ref().and_then(remote),
                ..pb::SdesSecurity::default()
            })
        })
    }

    /// Nobody is there any more: kept for its counts only.
    pub(crate) fn mute(&mut self) {
        self.direction = pb::Direction::Inactive;
    }

    pub(super) fn transport(&self, name: &str, interface: &str, port: Option<u16>) -> pb::Transport {
        let udp = pb::UdpTransport {
            interface: interface.to_owned(),
            family: self.family.into(),
            requested_port: port.unwrap_or(0).into(),
            remote: self.remote.map(address),
            remote_rtcp: self.remote_rtcp.map(address),
            security: self.security(),
            ..pb::UdpTransport::default()
        };
        pb::Transport {
            id: name.to_owned(),
            kind: Some(pb::transport::Kind::Udp(udp)),
        }
    }

    fn kind(&self, name: &str, suppress_silence: bool) -> pb::node::Kind {
        let endpoint = pb::Endpoint {
            transport: name.to_owned(),
            formats: self.formats.clone(),
            send_formats: self.send_formats.clone(),
            direction: self.direction.into(),
            ptime_ms: self.ptime_ms,
            suppress_silence,
            ..pb::Endpoint::default()
        };
        pb::node::Kind::Endpoint(endpoint)
    }
}

fn family_of(address: IpAddr) -> pb::AddressFamily {
    if address.to_canonical().is_ipv4() {
        pb::AddressFamily::Ipv4
    } else {
        pb::AddressFamily::Ipv6
    }
}

fn address(address: SocketAddr) -> pb::Address {
    pb::Address {
        ip: address.ip().to_string(),
        port: address.port().into(),
    }
}

fn payload_format(payload_type: u8, codec: &Codec) -> pb::PayloadFormat {
    let kinds = [
        ("PCMU", pb::Codec::Pcmu),
        ("PCMA", pb::Codec::Pcma),
        ("G722", pb::Codec::G722),
        ("opus", pb::Codec::Opus),
        ("telephone-event", pb::Codec::TelephoneEvent),
        ("CN", pb::Codec::ComfortNoise),
    ];
    let kind = kinds
        .iter()
        .find(|(name, _)| codec.name.eq_ignore_ascii_case(name));
    pb::PayloadFormat {
        payload_type: payload_type.into(),
        codec: kind.map_or(pb::Codec::Opaque, |(_, kind)| *kind).into(),
        clock_rate_hz: codec.clock_hz,
        channels: codec.channels.into(),
        fmtp: codec.fmtp.as_deref().unwrap_or_default().to_owned(),
    }
}
