//! A media host that answers like mediad: atomic patches, each mistake refused, ports that are not given twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use proto::mediad::v1 as pb;

#[derive(Default, Clone)]
pub struct Session {
    revision: u64,
    transports: BTreeMap<String, (pb::UdpTransport, u16)>,
    pub nodes: BTreeMap<String, pb::Endpoint>,
    pub edges: BTreeSet<(String, String)>,
}

pub struct MediaHost {
    pub sessions: BTreeMap<String, Session>,
    pub acts: Vec<pb::ActRequest>,
    /// The next commands fail with this.
    pub fail: Option<&'static str>,
    /// It takes commands and says nothing.
    pub silent: bool,
    next_port: u16,
}

impl MediaHost {
    pub fn new() -> Self {
        Self {
            sessions: BTreeMap::new(),
            acts: Vec::new(),
            fail: None,
            silent: false,
            next_port: 20_000,
        }
    }

    /// What a host says that takes no more.
    pub fn full(id: u64) -> pb::CommandReply {
        let message = "the host carries 1000 sessions, its limit; use another host".to_owned();
        let error = pb::Error {
            code: 8,
            message,
            subject: String::new(),
        };
        pb::CommandReply {
            id,
            result: Some(pb::command_reply::Result::Error(error)),
        }
    }

    pub fn handle(&mut self, command: pb::Command) -> Option<pb::CommandReply> {
        use pb::{command::Kind, command_reply::Result as Reply};
        let result = match command.kind.expect("a command is something") {
            Kind::Apply(request) => match self.fail {
                Some(message) => Err(message.to_owned()),
                None => self.apply(&request).map(Reply::Apply),
            },
            Kind::Delete(request) => self.delete(&request).map(Reply::Delete),
            Kind::Act(request) => {
                let session = self.sessions.get(&request.session);
                let is_there = session.is_some_and(|session| session.nodes.contains_key(&request.node));
                let reply = pb::ActReply {
                    request: request.request.clone(),
                };
                self.acts.push(request);
                is_there
                    .then_some(Reply::Act(reply))
                    .ok_or_else(|| "no such node".to_owned())
            }
            Kind::Adopt(_) => Err("not asked for".to_owned()),
        };
        let error = |message| {
            Reply::Error(pb::Error {
                code: 9,
                message,
                subject: String::new(),
            })
        };
        let result = Some(result.unwrap_or_else(error));
        (!self.silent).then_some(pb::CommandReply {
            id: command.id,
            result,
        })
    }

    fn apply(&mut self, request: &pb::ApplyRequest) -> Result<pb::ApplyReply, String> {
        let current = self.sessions.get(&request.session).cloned().unwrap_or_default();
        if request
            .if_revision
            .is_some_and(|expected| expected != current.revision)
        {
            return Err(format!("revision is {}", current.revision));
        }
        if request
            .owner
            .as_ref()
            .is_none_or(|owner| owner.controller.is_empty() || owner.epoch == 0)
        {
            return Err("no owner".to_owned());
        }
        let mut next = current;
        for id in &request.remove_nodes {
            next.nodes.remove(id).ok_or(format!("node {id} does not exist"))?;
            next.edges.retain(|(from, to)| from != id && to != id);
        }
        for id in &request.remove_transports {
            next.transports
                .remove(id)
                .ok_or(format!("transport {id} does not exist"))?;
        }
        for transport in &request.put_transports {
            let Some(pb::transport::Kind::Udp(udp)) = &transport.kind else {
                return Err("only udp".to_owned());
            };
            let known = next.transports.get(&transport.id).map(|(_, port)| *port);
            let port = known.unwrap_or_else(|| {
                self.next_port += 2;
                self.next_port
            });
            next.transports.insert(transport.id.clone(), (udp.clone(), port));
        }
        for node in &request.put_nodes {
            let Some(pb::node::Kind::Endpoint(endpoint)) = &node.kind else {
                return Err("only endpoints".to_owned());
            };
            check_endpoint(&node.id, endpoint, &next)?;
            next.nodes.insert(node.id.clone(), endpoint.clone());
        }
        for edge in &request.remove_edges {
            let key = (edge.from.clone(), edge.to.clone());
            if !next.edges.remove(&key) {
                return Err(format!("edge {key:?} does not exist"));
            }
        }
        for edge in &request.put_edges {
            if !next.nodes.contains_key(&edge.from)
                || !next.nodes.contains_key(&edge.to)
                || edge.from == edge.to
            {
                return Err(format!("edge {}>{} has no ends", edge.from, edge.to));
            }
            next.edges.insert((edge.from.clone(), edge.to.clone()));
        }
        next.revision += 1;
        let reply = reply_of(&next);
        self.sessions.insert(request.session.clone(), next);
        Ok(reply)
    }

    fn delete(&mut self, request: &pb::DeleteRequest) -> Result<pb::DeleteReply, String> {
        let session = self.sessions.remove(&request.session).ok_or("no such session")?;
        let stats = session.nodes.keys().map(|node| pb::EndpointStats {
            node: node.clone(),
            ingress: Some(pb::StreamStats {
                packets: 500,
                lost: 1,
                jitter_ms: 2.5,
                ..pb::StreamStats::default()
            }),
            egress: Some(pb::StreamStats {
                packets: 499,
                ..pb::StreamStats::default()
            }),
            mos_ingress: 4.3,
            ..pb::EndpointStats::default()
        });
        Ok(pb::DeleteReply {
            endpoints: stats.collect(),
        })
    }

    /// Where audio that arrives at this port goes.
    pub fn listeners(&self, at: SocketAddr) -> Vec<SocketAddr> {
        let mut heard_at = Vec::new();
        for session in self.sessions.values() {
            let here = |transport: &str| {
                session
                    .transports
                    .get(transport)
                    .is_some_and(|(_, port)| address(*port) == at)
            };
            let speakers = session
                .nodes
                .iter()
                .filter(|(_, node)| here(&node.transport) && receives(node));
            for (speaker, _) in speakers {
                let to = session
                    .edges
                    .iter()
                    .filter(|(from, _)| from == speaker)
                    .map(|(_, to)| to);
                for listener in to
                    .filter_map(|to| session.nodes.get(to))
                    .filter(|node| sends(node))
                {
                    let (udp, _) = &session.transports[&listener.transport];
                    let remote = udp.remote.as_ref();
                    heard_at.extend(remote.map(|to| SocketAddr::new(to.ip.parse().unwrap(), to.port as u16)));
                }
            }
        }
        heard_at
    }
}

fn receives(node: &pb::Endpoint) -> bool {
    matches!(
        node.direction(),
        pb::Direction::Sendrecv | pb::Direction::Recvonly | pb::Direction::Unspecified
    )
}

fn sends(node: &pb::Endpoint) -> bool {
    matches!(
        node.direction(),
        pb::Direction::Sendrecv | pb::Direction::Sendonly | pb::Direction::Unspecified
    )
}

fn check_endpoint(id: &str, endpoint: &pb::Endpoint, session: &Session) -> Result<(), String> {
    if !session.transports.contains_key(&endpoint.transport) {
        return Err(format!(
            "node {id}: transport {} does not exist",
            endpoint.transport
        ));
    }
    let numbers: BTreeSet<u32> = endpoint
        .formats
        .iter()
        .map(|format| format.payload_type)
        .collect();
    if numbers.len() != endpoint.formats.len() {
        return Err(format!("node {id}: a payload type is given to two formats"));
    }
    let is_audio = |format: &pb::PayloadFormat| format.codec() != pb::Codec::TelephoneEvent;
    if !endpoint.formats.iter().any(is_audio) {
        return Err(format!("node {id}: no audio format"));
    }
    Ok(())
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::new([10, 0, 0, 2].into(), port)
}

fn reply_of(session: &Session) -> pb::ApplyReply {
    let local = |port: u16| {
        Some(pb::Address {
            ip: "10.0.0.2".into(),
            port: port.into(),
        })
    };
    let transports = session
        .transports
        .iter()
        .map(|(id, (_, port))| pb::TransportState {
            id: id.clone(),
            local: local(*port),
            local_rtcp: local(*port + 1),
            ..pb::TransportState::default()
        });
    pb::ApplyReply {
        boot_id: "boot-1".into(),
        revision: session.revision,
        transports: transports.collect(),
        ..pb::ApplyReply::default()
    }
}
