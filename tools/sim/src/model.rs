//! The naive judge's idea of the world: what was asked for, in maps, and who may hear whom by it.
//!
//! Nothing here comes from the engine: no plan, no spec, no check of the code under test.

use std::{collections::BTreeMap, net::SocketAddr, rc::Rc, time::Instant};

use media_engine::command::SessionKey;

use crate::cipher::Sdes;

/// What a phone may put into a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sound {
    /// G.711 µ-law, payload type 0.
    Ulaw,
    /// G.711 A-law, payload type 8.
    Alaw,
    /// G.722, payload type 9: nobody can translate it.
    G722,
}

impl Sound {
    /// Its static payload type (RFC 3551 §6).
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Ulaw => 0,
            Self::Alaw => 8,
            Self::G722 => 9,
        }
    }

    /// The listener's format in which this speaker's packets may arrive; `None`: not without a decoder.
    pub fn towards(self, listener: &[Self]) -> Option<Self> {
        if listener.contains(&self) {
            return Some(self);
        }
        let other = match self {
            Self::Ulaw => Self::Alaw,
            Self::Alaw => Self::Ulaw,
            Self::G722 => return None,
        };
        listener.contains(&other).then_some(other)
    }
}

/// How a peer's address is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Probation, then locked.
    Learn,
    /// Only as signalled.
    Signalled,
    /// First come.
    Immediate,
}

/// Where RTCP goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rtcp {
    /// A port of its own.
    Separate,
    /// RTP's.
    Mux,
    /// Nowhere.
    Off,
}

/// A transport as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// The phone at its other end, for life.
    pub phone: usize,
    /// Address told to the host.
    pub remote: Option<SocketAddr>,
    /// Whom to trust.
    pub policy: Policy,
    /// Where RTCP goes.
    pub rtcp: Rtcp,
    /// Local port asked for; 0 is any.
    pub requested_port: u16,
    /// Media interface.
    pub interface: &'static str,
    /// SRTP, for life; its keys and suite change.
    pub sdes: Option<Sdes>,
}

/// Which way media may go, as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// The host takes what the phone sends.
    pub receives: bool,
    /// The host sends to the phone.
    pub sends: bool,
}

/// A node as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The transport it rides on.
    pub transport: String,
    /// Formats both ways, best first.
    pub sounds: Vec<Sound>,
    /// Payload type of telephone-events; `None`: not negotiated.
    pub digits: Option<u8>,
    /// Hold and one-way.
    pub direction: Direction,
}

/// An edge as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Nothing passes.
    pub muted: bool,
    /// Digits do not pass.
    pub block_digits: bool,
}

/// A session's graph as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// By id.
    pub transports: BTreeMap<String, Transport>,
    /// By id.
    pub nodes: BTreeMap<String, Node>,
    /// By speaker and listener.
    pub edges: BTreeMap<(String, String), Edge>,
}

impl Graph {
    /// Whether `listener` may hear `speaker` at all.
    pub fn may_hear(&self, speaker: &str, listener: &str) -> bool {
        let edge = self.edges.get(&(speaker.to_owned(), listener.to_owned()));
        let (Some(edge), Some(from), Some(to)) = (edge, self.nodes.get(speaker), self.nodes.get(listener))
        else {
            return false;
        };
        !edge.muted && from.direction.receives && to.direction.sends
    }

    /// The node on a transport.
    pub fn node_on(&self, transport: &str) -> Option<(&String, &Node)> {
        self.nodes.iter().find(|(_, node)| node.transport == transport)
    }

    /// The node whose peer is `phone`.
    pub fn node_of(&self, phone: usize) -> Option<(&String, &Node)> {
        let transport = self
            .transports
            .iter()
            .find(|(_, transport)| transport.phone == phone)?
            .0;
        self.node_on(transport)
    }

    /// The phone behind a node.
    pub fn phone_of(&self, node: &str) -> Option<usize> {
        Some(self.transports.get(&self.nodes.get(node)?.transport)?.phone)
    }

    /// Whom a listener hears unmuted, whatever the directions.
    pub fn source_of(&self, listener: &str) -> Option<&String> {
        self.edges
            .iter()
            .find(|((_, to), edge)| to == listener && !edge.muted)
            .map(|((from, _), _)| from)
    }

    /// Drops a node with its edges.
    pub fn remove_node(&mut self, id: &str) {
        self.nodes.remove(id);
        self.edges.retain(|(from, to), _| from != id && to != id);
    }
}

/// One life of a session: from its creation to its end, under one boot id.
#[derive(Debug)]
pub struct Life {
    /// The caller's name.
    pub name: String,
    /// The host's handle.
    pub key: SessionKey,
    /// Where it was placed.
    pub worker: usize,
    /// Who owns it, under which epoch.
    pub owner: (String, u64),
    /// Counts edits.
    pub revision: u64,
    /// As committed by the host.
    pub asked: Rc<Graph>,
    /// As taken in by the worker, with the time; newest last. `None` after its end.
    pub in_force: Vec<(Instant, Option<Rc<Graph>>)>,
    /// SSRCs promised for each node, newest last.
    pub ssrc: BTreeMap<String, Vec<u32>>,
    /// Local RTP address of each transport.
    pub local: BTreeMap<String, SocketAddr>,
    /// The host has ended it.
    pub ended: bool,
}

impl Life {
    /// The graph the worker carries out now.
    pub fn now(&self) -> Option<&Rc<Graph>> {
        self.in_force.last()?.1.as_ref()
    }

    /// The graphs in force at one moment: one, or two when it is the moment of an edit.
    pub fn at(&self, at: Instant) -> impl Iterator<Item = &Rc<Graph>> {
        self.between(at, at)
    }

    /// The graphs in force at any moment from `since` to `to`.
    pub fn between(&self, since: Instant, to: Instant) -> impl Iterator<Item = &Rc<Graph>> {
        let until = |index: usize| self.in_force.get(index + 1).map(|(next, _)| *next);
        self.in_force
            .iter()
            .enumerate()
            .filter(move |(index, (from, _))| *from <= to && until(*index).is_none_or(|end| since <= end))
            .filter_map(|(_, (_, graph))| graph.as_ref())
    }
}

/// What a local address was used for, and when.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Index into [`Model::lives`].
    pub life: usize,
    /// Which transport.
    pub transport: String,
    /// The port of RTCP alone.
    pub rtcp: bool,
    /// When it was bound.
    pub since: Instant,
}

/// Everything that was asked for, ever.
#[derive(Debug, Default)]
pub struct Model {
    /// Every session in every boot, oldest first.
    pub lives: Vec<Life>,
    /// Every use of a local address, oldest first.
    pub bindings: BTreeMap<SocketAddr, Vec<Binding>>,
}

impl Model {
    /// The life in service under a name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.lives
            .iter()
            .rposition(|life| life.name == name && !life.ended)
    }

    /// The life with a handle, of the present boot.
    pub fn by_key(&self, key: SessionKey) -> Option<usize> {
        self.lives.iter().rposition(|life| life.key == key)
    }

    /// Lives in service.
    pub fn in_service(&self) -> Vec<usize> {
        (0..self.lives.len())
            .filter(|at| !self.lives[*at].ended)
            .collect()
    }

    /// What an address was used for at a moment.
    pub fn binding(&self, local: SocketAddr, at: Instant) -> Option<&Binding> {
        self.bindings
            .get(&local)?
            .iter()
            .rev()
            .find(|binding| binding.since <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(transport: &str) -> Node {
        let direction = Direction {
            receives: true,
            sends: true,
        };
        Node {
            transport: transport.into(),
            sounds: vec![Sound::Ulaw],
            digits: None,
            direction,
        }
    }

    #[test]
    fn an_edge_is_heard_unless_muted_held_or_gone() {
        let mut graph = Graph::default();
        graph.nodes.insert("a".into(), node("t"));
        graph.nodes.insert("b".into(), node("u"));
        assert!(!graph.may_hear("a", "b"));
        graph.edges.insert(
            ("a".into(), "b".into()),
            Edge {
                muted: false,
                block_digits: false,
            },
        );
        assert!(graph.may_hear("a", "b") && !graph.may_hear("b", "a"));
        graph.nodes.get_mut("b").expect("put above").direction.sends = false;
        assert!(!graph.may_hear("a", "b"));
        graph.nodes.get_mut("b").expect("put above").direction.sends = true;
        graph.edges.values_mut().for_each(|edge| edge.muted = true);
        assert!(!graph.may_hear("a", "b"));
        graph.remove_node("a");
        assert!(graph.edges.is_empty());
    }

    #[test]
    fn laws_become_each_other_and_nothing_else() {
        assert_eq!(
            Sound::Ulaw.towards(&[Sound::Alaw, Sound::Ulaw]),
            Some(Sound::Ulaw)
        );
        assert_eq!(
            Sound::Alaw.towards(&[Sound::G722, Sound::Ulaw]),
            Some(Sound::Ulaw)
        );
        assert_eq!(Sound::G722.towards(&[Sound::Ulaw, Sound::Alaw]), None);
    }
}
