//! The wanted media graph of a call, and the commands that make it so.
//!
//! A call says what it wants; [`MediaPlan::next_command`] gives the difference to what the media host has, one command
//! at a time, so that a lost or refused one leaves no doubt about what stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use proto::mediad::v1 as pb;
use sdp::{Codec, Direction, LocalTransport, NegotiatedFormat, NegotiatedMedia};

use crate::pool::HostId;

/// The codec a configuration names.
pub(crate) fn codec_named(name: &str) -> Option<Codec> {
    let known = [Codec::pcmu(), Codec::pcma(), Codec::g722(), Codec::opus(None)];
    known
        .into_iter()
        .find(|codec| codec.name.eq_ignore_ascii_case(name))
}

/// What may be spoken, and what one side's choice leaves for the other.
#[derive(Debug, Clone)]
pub(crate) struct CodecPolicy {
    audio: Vec<Codec>,
}

impl CodecPolicy {
    pub(crate) fn new(names: &[String]) -> Self {
        let audio = names.iter().filter_map(|name| codec_named(name)).collect();
        Self { audio }
    }

    /// Everything we would speak, with telephone-events at each clock rate.
    pub(crate) fn all(&self) -> Vec<Codec> {
        with_events(self.audio.clone())
    }

    /// What the other side may speak when this side speaks `chosen`: the same, or its G.711 sibling, which a media
    /// host translates by table.
    pub(crate) fn beside(&self, chosen: &Codec) -> Vec<Codec> {
        let mut codecs: Vec<Codec> = self
            .audio
            .iter()
            .filter(|codec| codec.matches(chosen))
            .cloned()
            .collect();
        if is_g711(chosen) {
            let siblings = self
                .audio
                .iter()
                .filter(|codec| is_g711(codec) && !codec.matches(chosen));
            codecs.extend(siblings.cloned());
        }
        with_events(codecs)
    }
}

fn is_g711(codec: &Codec) -> bool {
    codec.matches(&Codec::pcmu()) || codec.matches(&Codec::pcma())
}

fn with_events(mut codecs: Vec<Codec>) -> Vec<Codec> {
    let clocks: BTreeSet<u32> = codecs.iter().map(|codec| codec.clock_hz).collect();
    codecs.extend(clocks.into_iter().map(Codec::telephone_event));
    codecs
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
}

impl Endpoint {
    /// Before the peer's description is known: it gets a port and hears nothing.
    pub(crate) fn offered(formats: &[sdp::Format], peer: IpAddr) -> Self {
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
        }
    }

    /// As agreed with the peer. `peer` is where its signalling comes from, for a peer that holds by address.
    pub(crate) fn agreed(media: &NegotiatedMedia, peer: IpAddr) -> Self {
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
        }
    }

    fn transport(&self, name: &str, interface: &str) -> pb::Transport {
        let udp = pb::UdpTransport {
            interface: interface.to_owned(),
            family: self.family.into(),
            remote: self.remote.map(address),
            remote_rtcp: self.remote_rtcp.map(address),
            ..pb::UdpTransport::default()
        };
        pb::Transport {
            id: name.to_owned(),
            kind: Some(pb::transport::Kind::Udp(udp)),
        }
    }

    fn node(&self, name: &str) -> pb::Node {
        let endpoint = pb::Endpoint {
            transport: name.to_owned(),
            formats: self.formats.clone(),
            send_formats: self.send_formats.clone(),
            direction: self.direction.into(),
            ..pb::Endpoint::default()
        };
        pb::Node {
            id: name.to_owned(),
            kind: Some(pb::node::Kind::Endpoint(endpoint)),
        }
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
    ];
    let kind = kinds
        .iter()
        .find(|(name, _)| codec.name.eq_ignore_ascii_case(name));
    pb::PayloadFormat {
        payload_type: payload_type.into(),
        codec: kind.map_or(pb::Codec::Opaque, |(_, kind)| *kind).into(),
        clock_rate_hz: codec.clock_hz,
        channels: codec.channels.into(),
        fmtp: codec.fmtp.clone().unwrap_or_default(),
    }
}

/// Endpoints and who hears whom.
#[derive(Debug, Clone, PartialEq, Default)]
struct Graph {
    endpoints: BTreeMap<String, Endpoint>,
    /// (from, to)
    edges: BTreeSet<(String, String)>,
}

/// How a session stands at its host.
#[derive(Debug, Clone, PartialEq)]
enum Standing {
    /// Nothing was asked yet.
    Absent,
    /// It has this graph.
    Applied(Graph),
    /// It was given up: the host lost it, or it was deleted.
    Gone,
}

/// What is under way.
#[derive(Debug, Clone, PartialEq)]
enum Flight {
    Apply(Graph),
    Delete,
}

/// A call's session on its media host.
#[derive(Debug)]
pub(crate) struct MediaPlan {
    session: String,
    owner: String,
    interface: String,
    host: HostId,
    wanted: Graph,
    standing: Standing,
    flight: Option<Flight>,
    is_over: bool,
    /// Where the host receives, by endpoint: RTP, and RTCP when it is not the next port.
    local: BTreeMap<String, (SocketAddr, Option<u16>)>,
}

/// What a reply means for the call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Applied {
    /// The host has what is wanted.
    Settled,
    /// Another command is needed.
    Behind,
    /// The host refused; what stood before stands.
    Refused(String),
    /// The session is deleted, with its counts.
    Deleted(Vec<pb::EndpointStats>),
}

impl MediaPlan {
    pub(crate) fn new(session: &str, owner: &str, interface: &str, host: HostId) -> Self {
        Self {
            session: session.to_owned(),
            owner: owner.to_owned(),
            interface: interface.to_owned(),
            host,
            wanted: Graph::default(),
            standing: Standing::Absent,
            flight: None,
            is_over: false,
            local: BTreeMap::new(),
        }
    }

    pub(crate) fn host(&self) -> &HostId {
        &self.host
    }

    /// The host may have something of the session.
    pub(crate) fn may_exist(&self) -> bool {
        self.standing != Standing::Absent
    }

    /// Another host is to have it; only before one has it.
    pub(crate) fn move_to(&mut self, host: HostId) {
        self.host = host;
    }

    pub(crate) fn put(&mut self, name: &str, endpoint: Endpoint) {
        self.wanted.endpoints.insert(name.to_owned(), endpoint);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.wanted.endpoints.remove(name);
        self.wanted.edges.retain(|(from, to)| from != name && to != name);
    }

    /// The two hear each other.
    pub(crate) fn join(&mut self, a: &str, b: &str) {
        self.wanted.edges.insert((a.to_owned(), b.to_owned()));
        self.wanted.edges.insert((b.to_owned(), a.to_owned()));
    }

    /// After a refusal: want no more than there is.
    pub(crate) fn revert(&mut self) {
        if let Standing::Applied(graph) = &self.standing {
            self.wanted = graph.clone();
        }
    }

    /// Wants the session gone.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
    }

    /// The host lost the session, or does not answer.
    pub(crate) fn give_up(&mut self) {
        self.is_over = true;
        self.standing = Standing::Gone;
        self.flight = None;
    }

    /// The command under way got no reply: nobody knows whether it was carried out.
    pub(crate) fn on_silence(&mut self) {
        match (self.flight.take(), &self.standing) {
            (Some(Flight::Delete), _) => self.standing = Standing::Gone,
            // It may be there, so it must be deleted.
            (Some(Flight::Apply(_)), Standing::Absent) => self.standing = Standing::Applied(Graph::default()),
            (Some(Flight::Apply(_)) | None, _) => {}
        }
    }

    /// The host has the wanted graph.
    pub(crate) fn is_settled(&self) -> bool {
        self.flight.is_none()
            && !self.is_over
            && matches!(&self.standing, Standing::Applied(graph) if *graph == self.wanted)
    }

    /// Nothing of the session is left, and no command is under way.
    pub(crate) fn is_gone(&self) -> bool {
        let nothing = matches!(self.standing, Standing::Absent | Standing::Gone);
        self.is_over && self.flight.is_none() && nothing
    }

    /// What we write into SDP for an endpoint.
    pub(crate) fn local(&self, name: &str) -> Option<LocalTransport> {
        let (rtp, rtcp) = self.local.get(name)?;
        let mut local = LocalTransport::plain(rtp.ip(), rtp.port());
        local.rtcp_port = *rtcp;
        local.ptime_ms = Some(20);
        Some(local)
    }

    /// The next command, unless one is under way or nothing is to be done.
    pub(crate) fn next_command(&mut self) -> Option<pb::command::Kind> {
        if self.flight.is_some() {
            return None;
        }
        let has = match &self.standing {
            Standing::Gone => return None,
            Standing::Absent if self.is_over => return None,
            Standing::Absent => None,
            Standing::Applied(_) if self.is_over => {
                self.flight = Some(Flight::Delete);
                return Some(pb::command::Kind::Delete(pb::DeleteRequest {
                    session: self.session.clone(),
                    owner: Some(self.owner()),
                }));
            }
            Standing::Applied(graph) if *graph == self.wanted => return None,
            Standing::Applied(graph) => Some(graph),
        };
        let request = self.difference(has);
        self.flight = Some(Flight::Apply(self.wanted.clone()));
        Some(pb::command::Kind::Apply(request))
    }

    /// A reply to the command under way.
    pub(crate) fn on_reply(&mut self, result: Option<pb::command_reply::Result>) -> Applied {
        use pb::command_reply::Result as Reply;
        match (self.flight.take(), result) {
            (Some(Flight::Apply(graph)), Some(Reply::Apply(reply))) => {
                self.learn(&reply);
                self.standing = Standing::Applied(graph);
                if self.is_settled() {
                    Applied::Settled
                } else {
                    Applied::Behind
                }
            }
            (Some(Flight::Delete), Some(Reply::Delete(reply))) => {
                self.standing = Standing::Gone;
                Applied::Deleted(reply.endpoints)
            }
            // Whatever is wrong with it: we want nothing of the session any more.
            (Some(Flight::Delete), _) => {
                self.standing = Standing::Gone;
                Applied::Deleted(Vec::new())
            }
            (Some(Flight::Apply(_)), Some(Reply::Error(error))) => Applied::Refused(error.message),
            (Some(Flight::Apply(_)) | None, _) => {
                Applied::Refused("the media host's reply makes no sense".to_owned())
            }
        }
    }

    fn learn(&mut self, reply: &pb::ApplyReply) {
        for state in &reply.transports {
            let Some(rtp) = state.local.as_ref().and_then(socket) else {
                continue;
            };
            let rtcp = state.local_rtcp.as_ref().and_then(socket).map(|rtcp| rtcp.port());
            let rtcp = rtcp.filter(|port| Some(*port) != rtp.port().checked_add(1));
            self.local.insert(state.id.clone(), (rtp, rtcp));
        }
    }

    fn difference(&self, has: Option<&Graph>) -> pb::ApplyRequest {
        let empty = Graph::default();
        let has = has.unwrap_or(&empty);
        let is_new = matches!(self.standing, Standing::Absent);
        let changed = self
            .wanted
            .endpoints
            .iter()
            .filter(|(name, endpoint)| has.endpoints.get(*name) != Some(endpoint));
        let gone = has
            .endpoints
            .keys()
            .filter(|name| !self.wanted.endpoints.contains_key(*name));
        let gone: Vec<String> = gone.cloned().collect();
        // Edges of a node that goes away go with it.
        let cut = has
            .edges
            .difference(&self.wanted.edges)
            .filter(|(from, to)| !gone.contains(from) && !gone.contains(to));
        let edge = |(from, to): &(String, String)| pb::Edge {
            from: from.clone(),
            to: to.clone(),
            ..pb::Edge::default()
        };
        let (mut put_transports, mut put_nodes) = (Vec::new(), Vec::new());
        for (name, endpoint) in changed {
            put_transports.push(endpoint.transport(name, &self.interface));
            put_nodes.push(endpoint.node(name));
        }
        pb::ApplyRequest {
            session: self.session.clone(),
            owner: Some(self.owner()),
            if_revision: is_new.then_some(0),
            put_transports,
            put_nodes,
            put_edges: self.wanted.edges.difference(&has.edges).map(edge).collect(),
            remove_edges: cut
                .map(|(from, to)| pb::EdgeKey {
                    from: from.clone(),
                    to: to.clone(),
                })
                .collect(),
            remove_transports: gone.clone(),
            remove_nodes: gone,
            ..pb::ApplyRequest::default()
        }
    }

    fn owner(&self) -> pb::Owner {
        pb::Owner {
            controller: self.owner.clone(),
            epoch: 1,
        }
    }
}

fn socket(address: &pb::Address) -> Option<SocketAddr> {
    let port = u16::try_from(address.port).ok()?;
    Some(SocketAddr::new(address.ip.parse().ok()?, port))
}
