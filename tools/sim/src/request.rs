//! From the model's graphs to the contract's requests.

use std::net::SocketAddr;

use media_engine::graph::Owner;
use proto::mediad::v1 as pb;

use crate::cipher::Sdes;
use crate::model::{Edge, Graph, Node, Policy, Rtcp, Sound, Transport};

pub(crate) fn owner((controller, epoch): &(String, u64)) -> Owner {
    Owner {
        controller: controller.as_str().into(),
        epoch: *epoch,
    }
}

pub(crate) fn owner_of((controller, epoch): &(String, u64)) -> pb::Owner {
    pb::Owner {
        controller: controller.clone(),
        epoch: *epoch,
    }
}

/// The whole graph in one request.
pub(crate) fn whole(name: &str, owner: &(String, u64), graph: &Graph) -> pb::ApplyRequest {
    patch(name, owner, &Graph::default(), graph, &[])
}

/// The step from one graph to another.
pub(crate) fn patch(
    name: &str,
    owner: &(String, u64),
    from: &Graph,
    to: &Graph,
    anew: &[String],
) -> pb::ApplyRequest {
    let put_transports = to
        .transports
        .iter()
        .filter(|(id, wish)| from.transports.get(*id) != Some(wish) || anew.contains(id));
    let remove_transports = from
        .transports
        .keys()
        .filter(|id| !to.transports.contains_key(*id) || anew.contains(id));
    let put_nodes = to
        .nodes
        .iter()
        .filter(|(id, wish)| from.nodes.get(*id) != Some(wish));
    let put_edges = to
        .edges
        .iter()
        .filter(|(key, wish)| from.edges.get(*key) != Some(wish));
    let stays = |id: &String| to.nodes.contains_key(id);
    let remove_edges = from
        .edges
        .keys()
        .filter(|key| !to.edges.contains_key(*key) && stays(&key.0) && stays(&key.1));
    pb::ApplyRequest {
        session: name.into(),
        owner: Some(owner_of(owner)),
        put_transports: put_transports
            .map(|(id, wish)| put_transport(id, wish, is_v6(wish)))
            .collect(),
        remove_transports: remove_transports.cloned().collect(),
        put_nodes: put_nodes.map(|(id, wish)| put_node(id, wish)).collect(),
        remove_nodes: from.nodes.keys().filter(|id| !stays(id)).cloned().collect(),
        put_edges: put_edges
            .map(|((from, to), wish)| put_edge(from, to, *wish))
            .collect(),
        remove_edges: remove_edges
            .map(|(from, to)| pb::EdgeKey {
                from: from.clone(),
                to: to.clone(),
            })
            .collect(),
        ..pb::ApplyRequest::default()
    }
}

/// Phones 3, 7 and 11 speak IPv6.
pub(crate) fn is_v6(transport: &Transport) -> bool {
    transport.phone % 4 == 3
}

pub(crate) fn put_transport(id: &str, wish: &Transport, v6: bool) -> pb::Transport {
    let udp = pb::UdpTransport {
        interface: wish.interface.into(),
        family: if v6 {
            pb::AddressFamily::Ipv6.into()
        } else {
            pb::AddressFamily::Ipv4.into()
        },
        rtcp: match wish.rtcp {
            Rtcp::Separate => pb::RtcpMode::Separate.into(),
            Rtcp::Mux => pb::RtcpMode::Mux.into(),
            Rtcp::Off => pb::RtcpMode::Off.into(),
        },
        requested_port: wish.requested_port.into(),
        remote: wish.remote.map(|at| pb::Address {
            ip: at.ip().to_string(),
            port: at.port().into(),
        }),
        source: match wish.policy {
            Policy::Learn => pb::SourcePolicy::Learn.into(),
            Policy::Signalled => pb::SourcePolicy::Signalled.into(),
            Policy::Immediate => pb::SourcePolicy::Immediate.into(),
        },
        security: wish.sdes.map(Sdes::security),
        ..pb::UdpTransport::default()
    };
    pb::Transport {
        id: id.into(),
        kind: Some(pb::transport::Kind::Udp(udp)),
    }
}

pub(crate) fn put_node(id: &str, wish: &Node) -> pb::Node {
    let audio = wish.sounds.iter().map(|sound| {
        let codec = match sound {
            Sound::Ulaw => pb::Codec::Pcmu,
            Sound::Alaw => pb::Codec::Pcma,
            Sound::G722 => pb::Codec::G722,
        };
        (sound.payload_type(), codec)
    });
    let digits = wish.digits.map(|number| (number, pb::Codec::TelephoneEvent));
    let formats = audio.chain(digits).map(|(number, codec)| pb::PayloadFormat {
        payload_type: number.into(),
        codec: codec.into(),
        ..pb::PayloadFormat::default()
    });
    let direction = match (wish.direction.receives, wish.direction.sends) {
        (true, true) => pb::Direction::Sendrecv,
        (false, true) => pb::Direction::Sendonly,
        (true, false) => pb::Direction::Recvonly,
        (false, false) => pb::Direction::Inactive,
    };
    let endpoint = pb::Endpoint {
        transport: wish.transport.clone(),
        formats: formats.collect(),
        direction: direction.into(),
        ..pb::Endpoint::default()
    };
    pb::Node {
        id: id.into(),
        kind: Some(pb::node::Kind::Endpoint(endpoint)),
    }
}

pub(crate) fn put_edge(from: &str, to: &str, wish: Edge) -> pb::Edge {
    let dtmf = if wish.block_digits {
        pb::DtmfPolicy::Block
    } else {
        pb::DtmfPolicy::Pass
    };
    pb::Edge {
        from: from.into(),
        to: to.into(),
        muted: wish.muted,
        dtmf: dtmf.into(),
        ..pb::Edge::default()
    }
}

pub(crate) fn socket_address(at: &pb::Address) -> SocketAddr {
    let ip = at.ip.parse().expect("the host gives addresses");
    SocketAddr::new(ip, u16::try_from(at.port).expect("the host gives ports"))
}

/// Suite and keys in a few letters.
fn cipher(transport: &Transport) -> String {
    let sdes = transport.sdes.map(|sdes| {
        let (suite, seed) = (sdes.suite(), sdes.seed & 0xffff);
        format!(" {suite:?} {seed:04x}/{}", sdes.generation)
    });
    sdes.unwrap_or_default()
}

/// A graph in a line.
pub(crate) fn text(graph: &Graph) -> String {
    let nodes = graph.nodes.iter().map(|(id, node)| {
        let way = match (node.direction.receives, node.direction.sends) {
            (true, true) => "",
            (false, true) => " sendonly",
            (true, false) => " recvonly",
            (false, false) => " inactive",
        };
        let transport = &graph.transports[&node.transport];
        let (phone, policy, sounds, digits) = (transport.phone, transport.policy, &node.sounds, node.digits);
        format!(
            "{id}({}: phone {phone} {policy:?} {:?}{way} {sounds:?} {digits:?}{})",
            node.transport,
            transport.remote,
            cipher(transport)
        )
    });
    let edges = graph.edges.iter().map(|((from, to), edge)| {
        format!(
            "{from}>{to}{}{}",
            if edge.muted { " muted" } else { "" },
            if edge.block_digits { " no digits" } else { "" }
        )
    });
    nodes.chain(edges).collect::<Vec<_>>().join(", ")
}
