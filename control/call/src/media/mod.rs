//! The wanted media graph of a session, and the commands that make it so.
//!
//! A call says what it wants; [`MediaPlan::next_command`] gives the difference to what the media host has, one command
//! at a time, so that a lost or refused one leaves no doubt about what stands.

mod codecs;
mod node;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Instant,
};

use proto::mediad::v1 as pb;
use sdp::{Crypto, LocalTransport};

use self::node::{Edge, Node};
pub(crate) use self::{
    codecs::{CodecPolicy, Party, codec_named},
    node::{Digits, Endpoint, Scene},
};
use crate::{config, limits, pool::HostId, security::from_wire};

/// Everything a session holds.
#[derive(Debug, Clone, PartialEq, Default)]
struct Graph {
    nodes: BTreeMap<String, Node>,
    /// By (from, to).
    edges: BTreeMap<(String, String), Edge>,
}

/// How a session stands at its host.
#[derive(Debug, Clone, PartialEq)]
enum Standing {
    /// Nothing was asked yet.
    Absent,
    /// It has this graph.
    Applied(Graph),
    /// It has a graph that a process before this one made, and does not take our commands yet.
    Away,
    /// It has such a graph, of which this is there, and takes our commands: the next one says everything.
    Found(Inventory),
    /// Nobody knows: the way to the host broke while a command was under way, or its reply did not come.
    Unsure {
        since: Instant,
        /// The host had the session before that.
        was_there: bool,
        /// As it was then, where that is known.
        graph: Option<Graph>,
    },
    /// It lost the session, which is to be had again.
    Lost,
    /// It was given up: the host lost it, or it was deleted.
    Gone,
}

/// What a session holds, by name, that another process made.
#[derive(Debug, Clone, PartialEq, Default)]
struct Inventory {
    transports: BTreeSet<String>,
    nodes: BTreeSet<String>,
    /// By (from, to).
    edges: BTreeSet<(String, String)>,
}

impl Inventory {
    fn of(description: pb::SessionDescription) -> Self {
        Self {
            transports: description.transports.into_iter().map(|it| it.id).collect(),
            nodes: description.nodes.into_iter().map(|it| it.id).collect(),
            edges: description.edges.into_iter().map(|it| (it.from, it.to)).collect(),
        }
    }

    fn of_graph(graph: &Graph) -> Self {
        let endpoints = graph.nodes.iter().filter(|(_, node)| node.is_endpoint());
        Self {
            transports: endpoints.map(|(name, _)| name.clone()).collect(),
            nodes: graph.nodes.keys().cloned().collect(),
            edges: graph.edges.keys().cloned().collect(),
        }
    }
}

/// Where an offer wants audio, and under which keys ours comes.
#[derive(Debug, Clone)]
struct Asked {
    rtp: SocketAddr,
    keys: Option<Vec<Crypto>>,
}

/// What is under way.
#[derive(Debug, Clone, PartialEq)]
enum Flight {
    Apply(Graph),
    /// Under this epoch.
    Adopt(u64),
    Delete,
}

/// A call's session on its media host.
#[derive(Debug)]
pub(crate) struct MediaPlan {
    session: String,
    owner: String,
    interface: String,
    suppress_silence: bool,
    host: HostId,
    wanted: Graph,
    standing: Standing,
    flight: Option<Flight>,
    /// The host refused this graph: it is not asked for it again and again.
    refused: Option<Graph>,
    is_over: bool,
    /// Where the host receives, by endpoint: RTP, and RTCP when it is not the next port.
    local: BTreeMap<String, (SocketAddr, Option<u16>)>,
    /// Where the parties were told to send.
    told: BTreeMap<String, SocketAddr>,
    /// What offers say that have no answer yet: the host may be another one by then.
    asked: BTreeMap<String, Asked>,
    /// Our keys, by endpoint, and those that the parties were told. Never in a journal or a log.
    keys: BTreeMap<String, Vec<Crypto>>,
    told_keys: BTreeMap<String, Vec<Crypto>>,
    /// Fences off processes that owned the session before.
    epoch: u64,
    /// Ask for the ports that the parties were told.
    wants_ports: bool,
    /// How often in a row the host had what was to be made.
    contests: u32,
}

/// What a reply means for the call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Applied {
    /// The host has what is wanted.
    Settled,
    /// Another command is needed.
    Behind,
    /// The host has the session that was to be made, by a command of a process before this one that came there late: it
    /// is to be taken over.
    Contested,
    /// The host does not have the session it was asked to hand over.
    Lost,
    /// The host refused because of `subject` (`node:music`); what stood before stands.
    Refused { subject: String, message: String },
    /// The session is deleted, with its counts.
    Deleted(Vec<pb::EndpointStats>),
}

impl MediaPlan {
    pub(crate) fn new(session: &str, owner: &str, config: &config::Media, host: HostId) -> Self {
        Self {
            session: session.to_owned(),
            owner: owner.to_owned(),
            interface: config.interface.clone(),
            suppress_silence: config.suppress_silence,
            host,
            wanted: Graph::default(),
            standing: Standing::Absent,
            flight: None,
            refused: None,
            is_over: false,
            local: BTreeMap::new(),
            told: BTreeMap::new(),
            asked: BTreeMap::new(),
            keys: BTreeMap::new(),
            told_keys: BTreeMap::new(),
            epoch: 1,
            wants_ports: false,
            contests: 0,
        }
    }

    /// A session that a process before this one made, as the journal has it. `elsewhere`: [`MediaPlan::told_elsewhere`].
    pub(crate) fn restore(
        &mut self,
        epoch: u64,
        local: BTreeMap<String, (SocketAddr, Option<u16>)>,
        elsewhere: BTreeMap<String, SocketAddr>,
    ) {
        self.told = local
            .iter()
            .map(|(name, (rtp, _))| (name.clone(), *rtp))
            .chain(elsewhere)
            .collect();
        self.local = local;
        self.epoch = epoch;
        self.standing = Standing::Away;
    }

    /// Its name at the host.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// Under which epoch we own it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where parties were told to send, or may follow an offer to, that is not where the host receives.
    pub(crate) fn told_elsewhere(&self) -> BTreeMap<String, SocketAddr> {
        let is_other = |(name, told): &(&String, &SocketAddr)| {
            self.local.get(*name).is_some_and(|(rtp, _)| rtp != *told)
        };
        let asked = self.asked.iter().map(|(name, asked)| (name, &asked.rtp));
        let told = self.told.iter().chain(asked).filter(is_other);
        told.map(|(name, told)| (name.clone(), *told)).collect()
    }

    /// Where the host receives, by endpoint.
    pub(crate) fn addresses(&self) -> &BTreeMap<String, (SocketAddr, Option<u16>)> {
        &self.local
    }

    /// Whether the host has it, and how, is to be asked: a process before this one made it, or a command has no reply.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.standing, Standing::Away | Standing::Unsure { .. }) && self.flight.is_none()
    }

    /// A command has no reply, and the host may never have had the session.
    pub(crate) fn is_unborn(&self) -> bool {
        matches!(self.standing, Standing::Unsure { was_there: false, .. }) && self.flight.is_none()
    }

    /// Since when nobody knows what became of a command, unless that is being asked.
    pub(crate) fn unsure_since(&self) -> Option<Instant> {
        match self.standing {
            Standing::Unsure { since, .. } if self.flight.is_none() => Some(since),
            Standing::Unsure { .. }
            | Standing::Absent
            | Standing::Applied(_)
            | Standing::Away
            | Standing::Found(_)
            | Standing::Lost
            | Standing::Gone => None,
        }
    }

    /// The host does not have what it may never have had. True when it is still wanted.
    pub(crate) fn begin_again(&mut self) -> bool {
        self.standing = if self.is_over {
            Standing::Gone
        } else {
            Standing::Absent
        };
        !self.is_over
    }

    /// The host told that it has the session under this epoch: make it ours.
    pub(crate) fn adopt(&mut self, epoch: u64) -> pb::command::Kind {
        let epoch = epoch + 1;
        self.flight = Some(Flight::Adopt(epoch));
        pb::command::Kind::Adopt(pb::AdoptRequest {
            session: self.session.clone(),
            owner: Some(pb::Owner {
                controller: self.owner.clone(),
                epoch,
            }),
        })
    }

    /// The host told that it has a session of this name, by a process before this one, while it is to be made: it will be
    /// taken over from under this epoch.
    pub(crate) fn hear_of(&mut self, epoch: u64) {
        if self.standing == Standing::Absent {
            self.epoch = self.epoch.max(epoch);
        }
    }

    /// The host lost the session; it is to be had again.
    pub(crate) fn lose(&mut self) {
        self.standing = Standing::Lost;
        self.flight = None;
    }

    /// The host was lost, and is back with the session.
    pub(crate) fn regain(&mut self) {
        self.standing = Standing::Away;
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.standing == Standing::Lost
    }

    /// It was taken over and not brought into order yet.
    pub(crate) fn is_found(&self) -> bool {
        matches!(self.standing, Standing::Found(_))
    }

    /// Has it made anew on this host. `same`: the one it was on, where the ports may be free.
    pub(crate) fn place(&mut self, host: HostId, same: bool) {
        self.host = host;
        self.standing = Standing::Absent;
        self.flight = None;
        self.epoch = 1;
        self.wants_ports = same;
        // RFC 4568 §7.1.4: elsewhere means other keys, of both sides; and the host that is gone took the counts with it
        // without which the peer's present key opens nothing.
        for (name, node) in &mut self.wanted.nodes {
            if let Node::Endpoint(endpoint) = node
                && endpoint.is_encrypted()
            {
                endpoint.forget_key();
                self.keys.remove(name);
                self.told_keys.insert(name.clone(), Vec::new());
            }
        }
    }

    /// The host receives elsewhere than the party was told, or sends under another key.
    pub(crate) fn has_moved(&self, name: &str) -> bool {
        let local = self.local.get(name).map(|(rtp, _)| rtp);
        local.is_some() && (local != self.told.get(name) || self.is_rekeyed(name))
    }

    fn is_rekeyed(&self, name: &str) -> bool {
        let (Some(keys), Some(told)) = (self.keys.get(name), self.told_keys.get(name)) else {
            return false;
        };
        let suite = match self.wanted.nodes.get(name) {
            Some(Node::Endpoint(endpoint)) => endpoint.suite(),
            Some(Node::Room(_) | Node::Player(_) | Node::Recorder(_)) | None => None,
        };
        let in_use = |key: &&Crypto| suite.is_none_or(|suite| suite == key.suite);
        let is_told = |key: &Crypto| {
            told.iter()
                .any(|told| told.suite == key.suite && told.key == key.key)
        };
        keys.iter().filter(in_use).any(|key| !is_told(key))
    }

    /// The party was told.
    pub(crate) fn follow(&mut self, name: &str) {
        if let Some((rtp, _)) = self.local.get(name) {
            self.told.insert(name.to_owned(), *rtp);
        }
        if let Some(keys) = self.keys.get(name) {
            self.told_keys.insert(name.to_owned(), keys.clone());
        }
    }

    /// The party is being told by an offer, which it has not answered.
    pub(crate) fn ask(&mut self, name: &str) {
        let rtp = self.local.get(name).map(|(rtp, _)| *rtp);
        let keys = self.keys.get(name).cloned();
        let asked = rtp.map(|rtp| (name.to_owned(), Asked { rtp, keys }));
        self.asked.extend(asked);
    }

    /// The party is asked to go to another session, which receives there.
    pub(crate) fn ask_away(&mut self, name: &str, rtp: SocketAddr) {
        let asked = Asked { rtp, keys: None };
        self.asked.insert(name.to_owned(), asked);
    }

    /// The party refused what it was asked.
    pub(crate) fn stays(&mut self, name: &str) {
        self.asked.remove(name);
    }

    /// The party agreed to what the last offer said, which need not be where the host is by now.
    pub(crate) fn follow_offer(&mut self, name: &str) {
        let Some(asked) = self.asked.remove(name) else {
            return;
        };
        self.told.insert(name.to_owned(), asked.rtp);
        if let Some(keys) = asked.keys {
            self.told_keys.insert(name.to_owned(), keys);
        }
    }

    /// Audio of the party is encrypted, and the host cannot open it before the party is asked again.
    pub(crate) fn lacks_key(&self, name: &str) -> bool {
        match self.wanted.nodes.get(name) {
            Some(Node::Endpoint(endpoint)) => endpoint.is_encrypted() && endpoint.suite().is_none(),
            Some(Node::Room(_) | Node::Player(_) | Node::Recorder(_)) | None => false,
        }
    }

    /// It has this name at this host.
    pub(crate) fn is_at(&self, session: &str, host: &HostId) -> bool {
        self.session == session && self.host == *host
    }

    pub(crate) fn host(&self) -> &HostId {
        &self.host
    }

    /// The host may have something of the session.
    pub(crate) fn may_exist(&self) -> bool {
        self.standing != Standing::Absent
    }

    /// Another host is to have it; only before one has it for certain.
    pub(crate) fn move_to(&mut self, host: HostId) {
        self.host = host;
        (self.standing, self.epoch) = (Standing::Absent, 1);
    }

    pub(crate) fn put(&mut self, name: &str, endpoint: Endpoint) {
        self.wanted
            .nodes
            .insert(name.to_owned(), Node::Endpoint(endpoint));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.told.remove(name);
        self.asked.remove(name);
        self.local.remove(name);
        self.keys.remove(name);
        self.told_keys.remove(name);
        self.wanted.nodes.remove(name);
        self.wanted
            .edges
            .retain(|(from, to), _| from != name && to != name);
    }

    /// The endpoint keeps its place and its counts, and neither hears nor is heard.
    pub(crate) fn mute(&mut self, name: &str) {
        if let Some(Node::Endpoint(endpoint)) = self.wanted.nodes.get_mut(name) {
            endpoint.mute();
        }
    }

    /// Who hears whom from now on, and what is there beside the endpoints. An edge with an end that is not there is
    /// left out.
    pub(crate) fn set_scene(&mut self, scene: Scene) {
        let nodes = &mut self.wanted.nodes;
        nodes.retain(|_, node| node.is_endpoint());
        nodes.extend(scene.nodes);
        let is_there = |(from, to): &(String, String)| nodes.contains_key(from) && nodes.contains_key(to);
        self.wanted.edges = scene
            .edges
            .into_iter()
            .filter(|(ends, _)| is_there(ends))
            .collect();
    }

    /// After a refusal: want no more than there is.
    pub(crate) fn revert(&mut self) {
        if let Standing::Applied(graph)
        | Standing::Unsure {
            graph: Some(graph), ..
        } = &self.standing
        {
            self.wanted = graph.clone();
        }
    }

    /// What the host refused may be asked for again.
    pub(crate) fn forgive(&mut self) {
        self.refused = None;
    }

    /// Wants no endpoints but those.
    pub(crate) fn keep_endpoints(&mut self, stays: impl Fn(&str) -> bool) {
        let nodes = self.wanted.nodes.iter();
        let gone = nodes.filter(|(name, node)| node.is_endpoint() && !stays(name));
        let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.remove(&name);
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

    /// The command under way got no reply: nobody knows whether it was carried out. `since` then.
    pub(crate) fn interrupt(&mut self, since: Instant) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        if let Flight::Adopt(epoch) = flight {
            // It may be ours under this one: the next one is above.
            self.epoch = self.epoch.max(epoch);
        }
        self.standing = match std::mem::replace(&mut self.standing, Standing::Absent) {
            Standing::Absent => Standing::Unsure {
                since,
                was_there: false,
                graph: None,
            },
            Standing::Applied(graph) => Standing::Unsure {
                since,
                was_there: true,
                graph: Some(graph),
            },
            Standing::Away | Standing::Found(_) => Standing::Unsure {
                since,
                was_there: true,
                graph: None,
            },
            already @ (Standing::Unsure { .. } | Standing::Lost | Standing::Gone) => already,
        };
    }

    /// The host has the wanted graph.
    pub(crate) fn is_settled(&self) -> bool {
        self.flight.is_none()
            && !self.is_over
            && matches!(&self.standing, Standing::Applied(graph) if *graph == self.wanted)
    }

    /// Nothing of the session is left, and no command is under way.
    pub(crate) fn is_gone(&self) -> bool {
        // What the host still has when it comes back is deleted as a stray.
        let nothing = !matches!(
            self.standing,
            Standing::Applied(_) | Standing::Found(_) | Standing::Unsure { .. }
        );
        self.is_over && self.flight.is_none() && nothing
    }

    /// What we write into SDP for an endpoint.
    pub(crate) fn local(&self, name: &str) -> Option<LocalTransport> {
        let (rtp, rtcp) = self.local.get(name)?;
        let mut local = LocalTransport::plain(rtp.ip(), rtp.port());
        local.rtcp_port = *rtcp;
        local.sdes = self.keys.get(name).cloned().unwrap_or_default();
        local.ptime_ms = Some(20);
        Some(local)
    }

    /// The next command, unless one is under way or nothing is to be done.
    pub(crate) fn next_command(&mut self) -> Option<pb::command::Kind> {
        if self.flight.is_some() {
            return None;
        }
        let (has, found) = match &self.standing {
            Standing::Gone | Standing::Away | Standing::Unsure { .. } | Standing::Lost => return None,
            Standing::Absent if self.is_over => return None,
            Standing::Applied(_) | Standing::Found(_) if self.is_over => {
                self.flight = Some(Flight::Delete);
                return Some(pb::command::Kind::Delete(pb::DeleteRequest {
                    session: self.session.clone(),
                    owner: Some(self.owner()),
                }));
            }
            Standing::Absent => (None, Inventory::default()),
            // What is known of it is what it has, not how it is: all is said again, which changes nothing of what is so.
            Standing::Found(found) => (None, found.clone()),
            Standing::Applied(graph) if *graph == self.wanted => return None,
            Standing::Applied(_) if self.refused.as_ref() == Some(&self.wanted) => return None,
            Standing::Applied(graph) => (Some(graph), Inventory::of_graph(graph)),
        };
        let request = self.difference(has, &found);
        self.flight = Some(Flight::Apply(self.wanted.clone()));
        Some(pb::command::Kind::Apply(request))
    }

    /// A reply to the command under way.
    pub(crate) fn on_reply(&mut self, result: Option<pb::command_reply::Result>) -> Applied {
        use pb::command_reply::Result as Reply;
        if let (Some(Flight::Adopt(_)), Some(Reply::Error(error))) = (&self.flight, &result) {
            self.flight = None;
            if error.code == NOT_FOUND && self.is_unborn() {
                return match self.begin_again() {
                    true => Applied::Behind,
                    false => Applied::Deleted(Vec::new()),
                };
            }
            return Applied::Lost;
        }
        match (self.flight.take(), result) {
            (Some(Flight::Apply(graph)), Some(Reply::Apply(reply))) => {
                self.learn(&reply);
                (self.refused, self.contests) = (None, 0);
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
            (Some(Flight::Adopt(epoch)), Some(Reply::Adopt(reply))) => {
                self.epoch = epoch;
                self.standing = Standing::Found(reply.description.map(Inventory::of).unwrap_or_default());
                Applied::Behind
            }
            (Some(Flight::Adopt(_)), _) => Applied::Lost,
            (Some(Flight::Apply(_)), Some(Reply::Error(error))) if self.is_contested(&error) => {
                self.contests += 1;
                // It has its ports.
                (self.standing, self.wants_ports) = (Standing::Away, false);
                Applied::Contested
            }
            // The ports are not free any more: others will do, and the parties are told.
            (Some(Flight::Apply(_)), Some(Reply::Error(_))) if self.wants_ports => {
                self.wants_ports = false;
                Applied::Behind
            }
            (Some(Flight::Apply(graph)), Some(Reply::Error(error))) => {
                self.refused = Some(graph);
                Applied::Refused {
                    subject: error.subject,
                    message: error.message,
                }
            }
            (Some(Flight::Apply(_)) | None, _) => Applied::Refused {
                subject: String::new(),
                message: "the media host's reply makes no sense".to_owned(),
            },
        }
    }

    /// The host refuses to make the session because there is one.
    fn is_contested(&self, error: &pb::Error) -> bool {
        let is_of_session = error.subject == format!("session:{}", self.session);
        let is_there = error.code == FAILED_PRECONDITION && is_of_session;
        is_there && self.standing == Standing::Absent && self.contests < limits::CONTESTS_MAX
    }

    fn learn(&mut self, reply: &pb::ApplyReply) {
        for state in &reply.transports {
            let Some(rtp) = state.local.as_ref().and_then(socket) else {
                continue;
            };
            let rtcp = state.local_rtcp.as_ref().and_then(socket).map(|rtcp| rtcp.port());
            let rtcp = rtcp.filter(|port| Some(*port) != rtp.port().checked_add(1));
            self.local.insert(state.id.clone(), (rtp, rtcp));
            self.told.entry(state.id.clone()).or_insert(rtp);
            let keys: Vec<Crypto> = state.local_sdes.iter().filter_map(local_key).collect();
            if !keys.is_empty() {
                self.told_keys
                    .entry(state.id.clone())
                    .or_insert_with(|| keys.clone());
            }
            self.keys.insert(state.id.clone(), keys);
        }
    }

    /// From what the host has, `there` by name and `has` as it is, to what is wanted.
    fn difference(&self, has: Option<&Graph>, there: &Inventory) -> pb::ApplyRequest {
        let empty = Graph::default();
        let has = has.unwrap_or(&empty);
        let is_new = matches!(self.standing, Standing::Absent);
        let wanted = &self.wanted;
        let changed = wanted
            .nodes
            .iter()
            .filter(|(name, node)| has.nodes.get(*name) != Some(node));
        let (mut put_transports, mut put_nodes) = (Vec::new(), Vec::new());
        for (name, node) in changed {
            match node {
                Node::Endpoint(endpoint) if !endpoint.is_kept() => {
                    let port = self.told.get(name).filter(|_| self.wants_ports);
                    put_transports.push(endpoint.transport(
                        name,
                        &self.interface,
                        port.map(SocketAddr::port),
                    ));
                }
                Node::Endpoint(_) | Node::Room(_) | Node::Player(_) | Node::Recorder(_) => {}
            }
            put_nodes.push(node.described(name, self.suppress_silence));
        }
        let is_endpoint = |name: &str| wanted.nodes.get(name).is_some_and(Node::is_endpoint);
        let gone = there.transports.iter().filter(|name| !is_endpoint(name));
        let remove_transports = gone.cloned().collect();
        let gone = there
            .nodes
            .iter()
            .filter(|name| !wanted.nodes.contains_key(*name));
        let remove_nodes: BTreeSet<String> = gone.cloned().collect();
        let put_edges = wanted
            .edges
            .iter()
            .filter(|(ends, edge)| has.edges.get(*ends) != Some(edge));
        // Edges of a node that goes away go with it.
        let cut = there.edges.iter().filter(|ends| {
            let (from, to) = ends;
            !wanted.edges.contains_key(*ends) && !remove_nodes.contains(from) && !remove_nodes.contains(to)
        });
        pb::ApplyRequest {
            session: self.session.clone(),
            owner: Some(self.owner()),
            if_revision: is_new.then_some(0),
            put_transports,
            put_nodes,
            put_edges: put_edges.map(|(ends, edge)| edge.described(ends)).collect(),
            remove_edges: cut
                .map(|(from, to)| pb::EdgeKey {
                    from: from.clone(),
                    to: to.clone(),
                })
                .collect(),
            remove_transports,
            remove_nodes: remove_nodes.into_iter().collect(),
            ..pb::ApplyRequest::default()
        }
    }

    fn owner(&self) -> pb::Owner {
        pb::Owner {
            controller: self.owner.clone(),
            epoch: self.epoch,
        }
    }
}

/// As gRPC numbers them.
const NOT_FOUND: i32 = 5;
const FAILED_PRECONDITION: i32 = 9;

/// A key of ours as descriptions have it.
fn local_key(key: &pb::SdesKey) -> Option<Crypto> {
    Crypto::new(key.tag, from_wire(key.suite())?, key.key_salt.clone())
}

fn socket(address: &pb::Address) -> Option<SocketAddr> {
    let port = u16::try_from(address.port).ok()?;
    Some(SocketAddr::new(address.ip.parse().ok()?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32) -> Option<pb::command_reply::Result> {
        Some(pb::command_reply::Result::Error(pb::Error {
            code,
            message: "no".to_owned(),
            subject: "session:s".to_owned(),
        }))
    }

    /// A host that says by turns that it has a session and that it has none is not asked for ever.
    #[test]
    fn a_host_that_contradicts_itself_refuses() {
        let mut plan = MediaPlan::new("s", "c", &config::Media::default(), "m1".into());
        let mut contests = 0;
        loop {
            assert!(matches!(plan.next_command(), Some(pb::command::Kind::Apply(_))));
            match plan.on_reply(error(FAILED_PRECONDITION)) {
                Applied::Contested => contests += 1,
                applied => {
                    assert!(matches!(applied, Applied::Refused { .. }), "{applied:?}");
                    break;
                }
            }
            let _adopt = plan.adopt(plan.epoch());
            assert_eq!(plan.on_reply(error(NOT_FOUND)), Applied::Lost);
            plan.lose();
            plan.place("m1".into(), false);
        }
        assert_eq!(contests, limits::CONTESTS_MAX);
    }
}
