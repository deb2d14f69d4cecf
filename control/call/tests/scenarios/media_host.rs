//! A media host that answers like mediad: atomic patches, each mistake refused, ports that are not given twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use call_control::SessionFound;
use proto::mediad::v1 as pb;

/// What audio is encrypted with: the suite by its registered name, and the key.
pub type Cipher = (String, Vec<u8>);

#[derive(Default, Clone)]
pub struct Session {
    revision: u64,
    /// Of its owner; 0 before there is one.
    pub epoch: u64,
    transports: BTreeMap<String, (pb::UdpTransport, u16)>,
    /// Our own keys, by transport: one for each suite asked for.
    keys: BTreeMap<String, Vec<(pb::SrtpSuite, Vec<u8>)>>,
    pub nodes: BTreeMap<String, pb::node::Kind>,
    pub edges: BTreeMap<(String, String), pb::Edge>,
}

impl Session {
    fn endpoint(&self, name: &str) -> Option<&pb::Endpoint> {
        match self.nodes.get(name) {
            Some(pb::node::Kind::Endpoint(endpoint)) => Some(endpoint),
            _ => None,
        }
    }

    /// Where an endpoint sends to.
    fn remote(&self, name: &str) -> Option<SocketAddr> {
        let endpoint = self.endpoint(name).filter(|endpoint| sends(endpoint))?;
        let to = self.transports[&endpoint.transport].0.remote.as_ref()?;
        Some(SocketAddr::new(to.ip.parse().unwrap(), to.port as u16))
    }

    fn sdes(&self, transport: &str) -> Option<&pb::SdesSecurity> {
        match self.transports.get(transport)?.0.security.as_ref()? {
            pb::udp_transport::Security::Sdes(sdes) => Some(sdes),
            pb::udp_transport::Security::Dtls(_) => None,
        }
    }

    /// What an endpoint opens its peer's packets with, and encrypts its own with; `Err`: it does neither yet.
    fn ciphers(&self, name: &str) -> Result<(Option<Cipher>, Option<Cipher>), ()> {
        let endpoint = self.endpoint(name).ok_or(())?;
        let Some(sdes) = self.sdes(&endpoint.transport) else {
            return Ok((None, None));
        };
        let remote = sdes.remote.as_ref().ok_or(())?;
        let own = self.keys[&endpoint.transport]
            .iter()
            .find(|(suite, _)| *suite == remote.suite());
        let cipher = |suite: pb::SrtpSuite, key: &[u8]| (suite_name(suite), key.to_vec());
        let (suite, key) = own.ok_or(())?;
        Ok((
            Some(cipher(remote.suite(), &remote.key_salt)),
            Some(cipher(*suite, key)),
        ))
    }

    /// As mediad does: a key for each suite asked for, those that are there kept.
    fn make_keys(&mut self, next_key: &mut u32) -> Result<(), String> {
        self.keys.retain(|id, _| self.transports.contains_key(id));
        let ids: Vec<String> = self.transports.keys().cloned().collect();
        for id in ids {
            let Some(sdes) = self.sdes(&id).cloned() else {
                self.keys.remove(&id);
                continue;
            };
            if let Some(remote) = &sdes.remote {
                let length = suite_bytes(remote.suite());
                if !sdes.suites.contains(&remote.suite) || remote.key_salt.len() != length {
                    return Err(format!("transport {id}: the remote key fits no suite"));
                }
            }
            let kept = self.keys.remove(&id).unwrap_or_default();
            let own = sdes.suites().map(|suite| {
                let known = kept.iter().find(|(of, _)| *of == suite).cloned();
                known.unwrap_or_else(|| {
                    *next_key += 1;
                    let bytes = next_key.to_le_bytes().into_iter().cycle();
                    (suite, bytes.take(suite_bytes(suite)).collect())
                })
            });
            let own = own.collect();
            self.keys.insert(id, own);
        }
        Ok(())
    }

    /// As mediad's: everything by name, and no key.
    fn description(&self) -> pb::SessionDescription {
        let transport = |(id, (udp, _)): (&String, &(pb::UdpTransport, u16))| {
            let mut udp = udp.clone();
            if let Some(pb::udp_transport::Security::Sdes(sdes)) = &mut udp.security
                && let Some(remote) = &mut sdes.remote
            {
                remote.key_salt.clear();
            }
            pb::Transport {
                id: id.clone(),
                kind: Some(pb::transport::Kind::Udp(udp)),
            }
        };
        let node = |(id, kind): (&String, &pb::node::Kind)| pb::Node {
            id: id.clone(),
            kind: Some(kind.clone()),
        };
        pb::SessionDescription {
            transports: self.transports.iter().map(transport).collect(),
            nodes: self.nodes.iter().map(node).collect(),
            edges: self.edges.values().cloned().collect(),
            ..pb::SessionDescription::default()
        }
    }

    /// Who hears this node, rooms passed through: nobody hears itself in a room.
    fn heard_by(&self, speaker: &str) -> BTreeSet<&str> {
        let from = |node: &str| {
            let node = node.to_owned();
            let open = self.edges.iter().filter(|(_, edge)| !edge.muted);
            open.filter(move |((from, _), _)| *from == node)
                .map(|((_, to), _)| to.as_str())
        };
        let mut heard_by = BTreeSet::new();
        for to in from(speaker) {
            match self.nodes[to] {
                pb::node::Kind::Room(_) => heard_by.extend(from(to).filter(|listener| *listener != speaker)),
                _ => drop(heard_by.insert(to)),
            }
        }
        heard_by
    }
}

pub struct MediaHost {
    pub sessions: BTreeMap<String, Session>,
    pub acts: Vec<pb::ActRequest>,
    /// The next commands fail with this.
    pub fail: Option<&'static str>,
    /// It takes commands and says nothing.
    pub silent: bool,
    /// Its process stands still, and these commands wait.
    pub stopped: Option<Vec<pb::Command>>,
    /// Nothing reaches it.
    pub is_cut: bool,
    /// Commands that it was sent and has not answered.
    pub unanswered: BTreeSet<u64>,
    starts: u32,
    /// It knows no recorders.
    pub no_recorders: bool,
    /// Prompts it has.
    pub prompts: Vec<&'static str>,
    next_key: u32,
    next_port: u16,
    /// It gives none below, nor ten thousand above.
    first_port: u16,
    /// Ports that are asked for are given.
    ports_are_free: bool,
    /// What it tells of endpoints that an edit took out, unless its events are lost.
    pub removed: Vec<pb::Event>,
    pub loses_events: bool,
    /// When endpoints were heard last, in microseconds since the Unix epoch, where that is told.
    pub last_rx: BTreeMap<String, u64>,
}

impl MediaHost {
    pub fn new() -> Self {
        Self::with_ports_from(20_000)
    }

    pub fn with_ports_from(next_port: u16) -> Self {
        Self {
            sessions: BTreeMap::new(),
            acts: Vec::new(),
            fail: None,
            silent: false,
            stopped: None,
            is_cut: false,
            unanswered: BTreeSet::new(),
            starts: 1,
            no_recorders: false,
            prompts: Vec::new(),
            next_key: 0x80,
            next_port,
            first_port: next_port,
            ports_are_free: true,
            removed: Vec::new(),
            loses_events: false,
            last_rx: BTreeMap::new(),
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
        if let Some(waiting) = &mut self.stopped {
            waiting.push(command);
            return None;
        }
        let session = match &command.kind {
            Some(Kind::Apply(request)) => request.session.clone(),
            _ => String::new(),
        };
        let result = match command.kind.expect("a command is something") {
            Kind::Apply(request) => match self.fail {
                Some(message) => Err(message.to_owned()),
                None => match self.missing_prompt(&request) {
                    Some(error) => {
                        let result = Some(Reply::Error(error));
                        return Some(pb::CommandReply {
                            id: command.id,
                            result,
                        });
                    }
                    None => self.apply(&request).map(Reply::Apply),
                },
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
            Kind::Adopt(request) => self.adopt(&request).map(Reply::Adopt),
        };
        let error = |message: String| {
            let is_of_session = message.starts_with("revision is") || message.starts_with("owner's epoch");
            Reply::Error(pb::Error {
                code: if message == "no such session" { 5 } else { 9 },
                message,
                subject: match is_of_session {
                    true => format!("session:{session}"),
                    false => String::new(),
                },
            })
        };
        let result = Some(result.unwrap_or_else(error));
        (!self.silent).then_some(pb::CommandReply {
            id: command.id,
            result,
        })
    }

    fn missing_prompt(&self, request: &pb::ApplyRequest) -> Option<pb::Error> {
        let players = request.put_nodes.iter().filter_map(|node| match &node.kind {
            Some(pb::node::Kind::Player(player)) => Some((node, player)),
            _ => None,
        });
        let mut missing = players.filter(|(_, player)| {
            let prompts = player.items.iter().filter_map(|item| match &item.source {
                Some(pb::play_item::Source::Prompt(prompt)) => Some(prompt),
                _ => None,
            });
            let mut prompts = prompts.into_iter();
            prompts.any(|prompt| !self.prompts.contains(&prompt.as_str()))
        });
        let recorder = request
            .put_nodes
            .iter()
            .find(|node| matches!(node.kind, Some(pb::node::Kind::Recorder(_))));
        if let Some(node) = recorder.filter(|_| self.no_recorders) {
            return Some(pb::Error {
                code: 12,
                message: "no recorders here".to_owned(),
                subject: format!("node:{}", node.id),
            });
        }
        missing.next().map(|(node, _)| pb::Error {
            code: 5,
            message: "no such prompt".to_owned(),
            subject: format!("node:{}", node.id),
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
        let owner = request
            .owner
            .as_ref()
            .filter(|owner| !owner.controller.is_empty());
        let epoch = owner.map_or(0, |owner| owner.epoch);
        if epoch == 0 || (current.epoch != 0 && current.epoch != epoch) {
            return Err(format!("owner's epoch is {}, not {epoch}", current.epoch));
        }
        let mut next = current;
        next.epoch = epoch;
        if request.replace {
            next.edges.clear();
            next.nodes
                .retain(|id, _| request.put_nodes.iter().any(|node| node.id == *id));
            next.transports
                .retain(|id, _| request.put_transports.iter().any(|transport| transport.id == *id));
        }
        for id in &request.remove_nodes {
            next.nodes.remove(id).ok_or(format!("node {id} does not exist"))?;
            next.edges.retain(|(from, to), _| from != id && to != id);
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
            let asked = u16::try_from(udp.requested_port).ok().filter(|port| *port != 0);
            let is_given = |port: u16| port.checked_sub(self.first_port).is_some_and(|at| at < 10_000);
            if asked.is_some_and(|port| !is_given(port)) {
                return Err(format!(
                    "requested port {} is not of this host",
                    udp.requested_port
                ));
            }
            if asked.is_some() && !self.ports_are_free {
                return Err(format!("requested port {} is in quarantine", udp.requested_port));
            }
            let port = known.or(asked).unwrap_or_else(|| {
                self.next_port += 2;
                self.next_port
            });
            next.transports.insert(transport.id.clone(), (udp.clone(), port));
        }
        for node in &request.put_nodes {
            let kind = node.kind.as_ref().ok_or("a node is something")?;
            if let pb::node::Kind::Endpoint(endpoint) = kind {
                check_endpoint(&node.id, endpoint, &next)?;
            }
            let known = next.nodes.insert(node.id.clone(), kind.clone());
            if known.is_some_and(|known| std::mem::discriminant(&known) != std::mem::discriminant(kind)) {
                return Err(format!("node {} becomes another kind", node.id));
            }
        }
        for edge in &request.remove_edges {
            let key = (edge.from.clone(), edge.to.clone());
            if next.edges.remove(&key).is_none() {
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
            next.edges
                .insert((edge.from.clone(), edge.to.clone()), edge.clone());
        }
        next.make_keys(&mut self.next_key)?;
        next.revision += 1;
        let reply = reply_of(&next);
        if let Some(before) = self.sessions.insert(request.session.clone(), next) {
            let after = &self.sessions[&request.session];
            let gone = before
                .nodes
                .keys()
                .filter(|node| before.endpoint(node).is_some() && !after.nodes.contains_key(*node));
            let removed = gone.map(|node| pb::Event {
                session: request.session.clone(),
                node: node.clone(),
                kind: Some(pb::event::Kind::EndpointRemoved(pb::EndpointRemoved {
                    stats: Some(counted(node)),
                })),
                ..pb::Event::default()
            });
            self.removed.extend(removed.filter(|_| !self.loses_events));
        }
        Ok(reply)
    }

    fn adopt(&mut self, request: &pb::AdoptRequest) -> Result<pb::AdoptReply, String> {
        let session = self.sessions.get_mut(&request.session).ok_or("no such session")?;
        let epoch = request.owner.as_ref().map_or(0, |owner| owner.epoch);
        if epoch <= session.epoch {
            return Err(format!("stale epoch {epoch}"));
        }
        session.epoch = epoch;
        let heard = self.last_rx.iter().map(|(node, at)| pb::EndpointStats {
            node: node.clone(),
            last_rx_unix_us: *at,
            ..pb::EndpointStats::default()
        });
        let mut description = session.description();
        description.endpoint_stats = heard.collect();
        Ok(pb::AdoptReply {
            boot_id: "boot-1".into(),
            revision: session.revision,
            description: Some(description),
        })
    }

    /// What it says of its sessions when it is greeted.
    pub fn found(&self) -> Vec<SessionFound> {
        let found = self.sessions.iter().map(|(name, session)| SessionFound {
            session: name.clone(),
            epoch: session.epoch,
        });
        found.collect()
    }

    /// It lost everything, and gives these ports again.
    pub fn restart(&mut self, ports_are_free: bool) {
        self.die();
        self.is_cut = false;
        self.ports_are_free = ports_are_free;
    }

    /// It loses everything; who comes in its place is another start.
    pub fn die(&mut self) {
        self.sessions.clear();
        (self.stopped, self.removed) = (None, Vec::new());
        self.unanswered.clear();
        self.starts += 1;
    }

    /// Of this start.
    pub fn boot_id(&self) -> String {
        format!("boot-{}", self.starts)
    }

    fn delete(&mut self, request: &pb::DeleteRequest) -> Result<pb::DeleteReply, String> {
        let session = self.sessions.remove(&request.session).ok_or("no such session")?;
        let endpoints = session
            .nodes
            .keys()
            .filter(|node| session.endpoint(node).is_some());
        let stats = endpoints.map(|node| counted(node));
        Ok(pb::DeleteReply {
            endpoints: stats.collect(),
        })
    }

    /// Where audio that arrives at this port goes, when it is encrypted so, and how it is encrypted there.
    pub fn listeners(&self, at: SocketAddr, under: Option<&Cipher>) -> Vec<(SocketAddr, Option<Cipher>)> {
        let mut heard_at = Vec::new();
        for session in self.sessions.values() {
            let here = |transport: &str| {
                session
                    .transports
                    .get(transport)
                    .is_some_and(|(_, port)| address(*port) == at)
            };
            for speaker in session.nodes.keys() {
                let node = session.endpoint(speaker);
                if node.is_none_or(|node| !here(&node.transport) || !receives(node)) {
                    continue;
                }
                if session
                    .ciphers(speaker)
                    .map_or(true, |(rx, _)| rx.as_ref() != under)
                {
                    continue;
                }
                let heard_by = session.heard_by(speaker);
                heard_at.extend(heard_by.iter().filter_map(|to| {
                    let (_, tx) = session.ciphers(to).ok()?;
                    Some((session.remote(to)?, tx))
                }));
            }
        }
        heard_at
    }

    /// What recorders hear: who, by node, in which channel.
    pub fn recorded(&self) -> Vec<(String, u32)> {
        let mut recorded = Vec::new();
        for session in self.sessions.values() {
            let into = session
                .edges
                .iter()
                .filter(|((_, to), _)| matches!(session.nodes[to], pb::node::Kind::Recorder(_)));
            recorded.extend(into.map(|((from, _), edge)| (from.clone(), edge.channel)));
        }
        recorded.sort_by_key(|(_, channel)| *channel);
        recorded
    }

    /// The session and the node of an endpoint that receives there.
    pub fn endpoint_at(&self, at: SocketAddr) -> Option<(String, String)> {
        self.sessions.iter().find_map(|(name, session)| {
            let mut nodes = session.nodes.keys().filter(|node| {
                let endpoint = session.endpoint(node);
                endpoint.is_some_and(|endpoint| address(session.transports[&endpoint.transport].1) == at)
            });
            nodes.next().map(|node| (name.clone(), node.clone()))
        })
    }

    /// What players play for ever to who receives there: `tone:NAME` or `prompt:NAME`.
    pub fn played_to(&self, at: SocketAddr) -> Vec<String> {
        self.played(at, 0)
    }

    /// What players play once to who receives there.
    pub fn asked(&self, at: SocketAddr) -> Vec<String> {
        self.played(at, 1)
    }

    /// The session and the name of the player that plays once to who receives there.
    pub fn player_to(&self, at: SocketAddr) -> Option<(String, String)> {
        let mut players = self.players(at, 1);
        players
            .next()
            .map(|(session, name, _)| (session.to_owned(), name.to_owned()))
    }

    fn played(&self, at: SocketAddr, repeat: u32) -> Vec<String> {
        let items = self.players(at, repeat).flat_map(|(.., player)| &player.items);
        items
            .map(|item| match &item.source {
                Some(pb::play_item::Source::Tone(tone)) => format!("tone:{tone}"),
                Some(pb::play_item::Source::Prompt(prompt)) => format!("prompt:{prompt}"),
                Some(pb::play_item::Source::SilenceMs(ms)) => format!("silence:{ms}"),
                None => panic!("an item without source"),
            })
            .collect()
    }

    /// Session, name and player, of those that play so often to who receives there.
    fn players(&self, at: SocketAddr, repeat: u32) -> impl Iterator<Item = (&str, &str, &pb::Player)> {
        let players = self.sessions.iter().flat_map(move |(session, it)| {
            let players = it.nodes.iter().filter_map(move |(name, node)| match node {
                pb::node::Kind::Player(player) => Some((name, player)),
                _ => None,
            });
            let hears = move |name: &str| it.heard_by(name).iter().any(|to| it.remote(to) == Some(at));
            let heard = players.filter(move |(name, _)| hears(name));
            heard.map(move |(name, player)| (session.as_str(), name.as_str(), player))
        });
        players.filter(move |(.., player)| player.repeat == Some(repeat))
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

fn suite_name(suite: pb::SrtpSuite) -> String {
    suite.as_str_name().trim_start_matches("SRTP_SUITE_").to_owned()
}

fn suite_bytes(suite: pb::SrtpSuite) -> usize {
    match suite {
        pb::SrtpSuite::AeadAes128Gcm => 28,
        pb::SrtpSuite::AeadAes256Gcm => 44,
        pb::SrtpSuite::Aes256CmHmacSha180 => 46,
        _ => 30,
    }
}

/// RFC 4568 §5.1.3: an answer's key has the tag of the offer's.
fn local_keys(session: &Session, transport: &str) -> Vec<pb::SdesKey> {
    let chosen = session.sdes(transport).and_then(|sdes| sdes.remote.as_ref());
    let keys = session.keys.get(transport).map_or(&[][..], Vec::as_slice);
    let key = |(index, (suite, key)): (usize, &(pb::SrtpSuite, Vec<u8>))| pb::SdesKey {
        suite: (*suite).into(),
        key_salt: key.clone(),
        tag: match chosen {
            Some(remote) if remote.suite() == *suite => remote.tag,
            Some(remote) if remote.tag == index as u32 + 1 => keys.len() as u32 + 1,
            _ => index as u32 + 1,
        },
    };
    keys.iter().enumerate().map(key).collect()
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
            local_sdes: local_keys(session, id),
            ..pb::TransportState::default()
        });
    pb::ApplyReply {
        boot_id: "boot-1".into(),
        revision: session.revision,
        transports: transports.collect(),
        ..pb::ApplyReply::default()
    }
}

/// What it counted of an endpoint.
fn counted(node: &str) -> pb::EndpointStats {
    pb::EndpointStats {
        node: node.to_owned(),
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
        mos_ingress_mean: 4.1,
        mos_ingress_min: 2.9,
        ..pb::EndpointStats::default()
    }
}
