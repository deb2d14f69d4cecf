//! Which ends of links belong together, and that no sound can come back to where it came from.

use std::collections::BTreeMap;

use crate::{
    command::{Command, LinkId, LinkPeer, TransportLink},
    limits,
    refusal::Refusal,
    spec::{EdgeSpec, LinkSpec, Name, NodeKind, NodeSpec, SessionSpec},
};

/// A session's name and a transport of it.
type Place = (Name, Name);

/// The ends of all links of the host.
#[derive(Debug, Default)]
pub(super) struct Links {
    ends: BTreeMap<Place, End>,
    last: u64,
}

#[derive(Debug)]
struct End {
    id: LinkId,
    worker: usize,
    peer: Place,
    /// The end it is joined with: it is there and names this one.
    joined: Option<Place>,
}

impl Links {
    /// The links of `session` become those of `spec`. Ends in `anew` begin afresh. Gives the ends that are new to the
    /// worker; what the workers of both sides are to be told goes to `tell`.
    pub(super) fn update(
        &mut self,
        session: &Name,
        worker: usize,
        spec: &SessionSpec,
        anew: &[Name],
        tell: &mut impl FnMut(usize, Command),
    ) -> Vec<TransportLink> {
        let stays = |transport: &Name| {
            !anew.contains(transport) && spec.transport(transport).is_some_and(|t| t.link().is_some())
        };
        for gone in self
            .of(session)
            .filter(|place| !stays(&place.1))
            .collect::<Vec<_>>()
        {
            self.remove(&gone, tell);
        }
        let mut fresh = Vec::new();
        for transport in &spec.transports {
            let Some(LinkSpec {
                peer_session,
                peer_transport,
            }) = transport.link()
            else {
                continue;
            };
            let place = (session.clone(), transport.id.clone());
            let peer = (peer_session.clone(), peer_transport.clone());
            if let Some(end) = self.ends.get_mut(&place) {
                if end.peer != peer {
                    end.peer = peer;
                    self.part(&place, tell);
                }
            } else {
                self.last += 1;
                let id = LinkId(self.last);
                fresh.push(TransportLink {
                    transport: transport.id.clone(),
                    link: id,
                });
                let end = End {
                    id,
                    worker,
                    peer,
                    joined: None,
                };
                self.ends.insert(place.clone(), end);
            }
            self.join(&place, tell);
        }
        fresh
    }

    /// The session ends.
    pub(super) fn end(&mut self, session: &Name, tell: &mut impl FnMut(usize, Command)) {
        for gone in self.of(session).collect::<Vec<_>>() {
            self.remove(&gone, tell);
        }
    }

    /// How many ends there are.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// How many of them are `session`'s.
    pub(super) fn count_of(&self, session: &Name) -> usize {
        self.of(session).count()
    }

    fn of(&self, session: &Name) -> impl Iterator<Item = Place> {
        let first = (session.clone(), Name::from(""));
        let ends = self.ends.range(first..);
        ends.map(|(place, _)| place.clone())
            .take_while(|place| place.0 == *session)
    }

    fn remove(&mut self, place: &Place, tell: &mut impl FnMut(usize, Command)) {
        self.part(place, tell);
        self.ends.remove(place);
    }

    /// Joins the end with the one it names, if that is there and names it.
    fn join(&mut self, place: &Place, tell: &mut impl FnMut(usize, Command)) {
        let Some(end) = self.ends.get(place).filter(|end| end.joined.is_none()) else {
            return;
        };
        let (peer, this) = (end.peer.clone(), (end.id, end.worker));
        let Some(other) = self.ends.get(&peer).filter(|other| other.peer == *place) else {
            return;
        };
        let that = (other.id, other.worker);
        for (place, other, own, far) in [(place, &peer, this, that), (&peer, place, that, this)] {
            if let Some(end) = self.ends.get_mut(place) {
                end.joined = Some(other.clone());
            }
            let peer = LinkPeer {
                link: far.0,
                worker: (own.1 != far.1).then_some(far.1),
            };
            tell(own.1, Command::Link(own.0, Some(peer)));
        }
    }

    /// The end and the one it was joined with are on their own.
    fn part(&mut self, place: &Place, tell: &mut impl FnMut(usize, Command)) {
        let Some(end) = self.ends.get_mut(place) else {
            return;
        };
        let Some(other) = end.joined.take() else { return };
        tell(end.worker, Command::Link(end.id, None));
        if let Some(end) = self.ends.get_mut(&other) {
            end.joined = None;
            tell(end.worker, Command::Link(end.id, None));
        }
    }
}

/// Follows sound through the links of the host's sessions.
pub(super) struct Walk<'a, F> {
    /// The graph of a session.
    graph: F,
    /// Nodes on the way.
    way: Vec<Node<'a>>,
    /// Nodes from which nothing comes back.
    done: BTreeMap<Node<'a>, Done<'a>>,
    /// Who rides on which transport, of sessions seen.
    riders: BTreeMap<&'a Name, BTreeMap<&'a Name, &'a Name>>,
}

/// A node, by the names of its session and itself.
type Node<'a> = (&'a Name, &'a Name);

/// What is known of a node.
struct Done<'a> {
    /// The most links beyond it.
    beyond: usize,
    /// Of a room: the one who was not followed, because the sound came from there.
    left_out: Option<&'a Name>,
}

impl<'a, F: Fn(&Name) -> Option<(&'a Name, &'a SessionSpec)>> Walk<'a, F> {
    /// Sound that comes out of a link of `session` never comes back to it, and passes a bounded number of links.
    ///
    /// # Errors
    /// Names the first transport where that is not so.
    pub(super) fn check(session: &'a Name, spec: &'a SessionSpec, graph: F) -> Result<(), Refusal> {
        let mut walk = Self {
            graph,
            way: Vec::new(),
            done: BTreeMap::new(),
            riders: BTreeMap::new(),
        };
        for node in &spec.nodes {
            let NodeKind::Endpoint(endpoint) = &node.kind else {
                continue;
            };
            if let Some(transport) = spec.transport(&endpoint.transport).filter(|t| t.link().is_some()) {
                walk.hear(session, spec, &node.id, None)
                    .map_err(|lost| match lost {
                        Lost::Circle => Refusal::LinkCircle {
                            transport: transport.id.clone(),
                        },
                        Lost::TooFar => Refusal::LinkChain {
                            transport: transport.id.clone(),
                            max: limits::LINK_HOPS_MAX.into(),
                        },
                    })?;
            }
        }
        Ok(())
    }

    /// Follows the sound of `node` to everybody who hears it, but for `not`, from whom a room has it. Gives the most links
    /// beyond it.
    fn hear(
        &mut self,
        session: &'a Name,
        spec: &'a SessionSpec,
        node: &'a Name,
        not: Option<&'a Name>,
    ) -> Result<usize, Lost> {
        if self.way.contains(&(session, node)) {
            return Err(Lost::Circle);
        }
        if self.way.len() > 2 * usize::from(limits::LINK_HOPS_MAX) {
            return Err(Lost::TooFar);
        }
        let (mut most, only) = match self.done.get(&(session, node)) {
            Some(done) if done.left_out.is_none() || done.left_out == not => return Ok(done.beyond),
            Some(done) => (done.beyond, done.left_out),
            None => (0, None),
        };
        self.way.push((session, node));
        let follow = |to: &Name| only.map_or(Some(to) != not, |only| only == to);
        for edge in heard_from(spec, node).filter(|edge| !edge.muted && follow(&edge.to)) {
            most = most.max(self.arrive(session, spec, node, &edge.to)?);
        }
        self.way.pop();
        if most > usize::from(limits::LINK_HOPS_MAX) {
            return Err(Lost::TooFar);
        }
        let done = Done {
            beyond: most,
            left_out: not.filter(|_| only.is_none()),
        };
        self.done.insert((session, node), done);
        Ok(most)
    }

    /// Sound of `from` comes to `to`.
    fn arrive(
        &mut self,
        session: &'a Name,
        spec: &'a SessionSpec,
        from: &'a Name,
        to: &'a Name,
    ) -> Result<usize, Lost> {
        match spec.node(to).map(|node| &node.kind) {
            Some(NodeKind::Room(_)) => self.hear(session, spec, to, Some(from)),
            Some(NodeKind::Endpoint(listener)) if listener.direction.sends() => {
                let link = spec.transport(&listener.transport).and_then(|t| t.link());
                let Some((session, spec, node)) = link.and_then(|link| self.other_end(link)) else {
                    return Ok(0);
                };
                Ok(1 + self.hear(session, spec, node, None)?)
            }
            Some(NodeKind::Endpoint(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_))
            | None => Ok(0),
        }
    }

    /// The endpoint that rides on the other end of a link, if what comes out of it is heard.
    fn other_end(&mut self, link: &LinkSpec) -> Option<(&'a Name, &'a SessionSpec, &'a Name)> {
        let (session, spec) = (self.graph)(&link.peer_session)?;
        spec.transport(&link.peer_transport)?.link()?;
        let riders = self.riders.entry(session).or_insert_with(|| riders(spec));
        Some((session, spec, *riders.get(&link.peer_transport)?))
    }
}

/// The endpoints that are spoken through, by the transports they ride on.
fn riders(spec: &SessionSpec) -> BTreeMap<&Name, &Name> {
    let rider = |node: &'_ std::sync::Arc<NodeSpec>| match &node.kind {
        NodeKind::Endpoint(endpoint) => endpoint.direction.receives(),
        NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => false,
    };
    let riders = spec.nodes.iter().filter(|node| rider(node));
    riders
        .map(|node| (&node.endpoint().transport, &node.id))
        .collect()
}

enum Lost {
    Circle,
    TooFar,
}

/// The edges at which `node` is heard: edges are sorted by their speaker.
fn heard_from<'a>(spec: &'a SessionSpec, node: &Name) -> impl Iterator<Item = &'a EdgeSpec> {
    let first = spec.edges.partition_point(|edge| edge.from < *node);
    let node = node.clone();
    spec.edges[first..]
        .iter()
        .take_while(move |edge| edge.from == node)
}
