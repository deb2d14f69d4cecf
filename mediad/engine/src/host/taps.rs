//! The rings of taps, and how a program finds them.

use std::sync::Arc;

use super::{Event, Happening, Host};
use crate::{
    command::{EngineEvent, EventKind, SessionKey, TapRings},
    refusal::Refusal,
    spec::{Name, NodeKind, NodeSpec, SessionSpec},
    tap::{TapFigures, TapPort},
};

/// Where a program attaches.
#[derive(Debug, Clone)]
pub struct TapPlace {
    /// The worker of the session, which is to be told [`Command::Attend`](crate::command::Command::Attend).
    pub worker: usize,
    /// The session.
    pub session: SessionKey,
    /// The rings.
    pub port: Arc<TapPort>,
}

/// State and counters of a tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapReport {
    /// Which node.
    pub node: Name,
    /// Its rate.
    pub sample_rate_hz: u32,
    /// What its rings say.
    pub figures: TapFigures,
}

impl Host {
    /// The rings of a tap, for a program.
    ///
    /// # Errors
    /// Session or node not there, or the node is no tap.
    pub fn tap(&self, session: &Name, node: &Name) -> Result<TapPlace, Refusal> {
        let entry = self.sessions.by_name(session)?;
        let port = match (entry.spec.node(node), tap_of(&entry.taps, node)) {
            (None, _) => {
                return Err(Refusal::UnknownNode {
                    session: session.clone(),
                    node: node.clone(),
                });
            }
            (Some(_), None) => return Err(Refusal::NotTap(node.clone())),
            (Some(_), Some(port)) => port.clone(),
        };
        Ok(TapPlace {
            worker: entry.worker,
            session: entry.key,
            port,
        })
    }

    /// An event of somebody who talks, and the taps that hear it, by an edge or in a room; `None`: it is no such event, or no
    /// tap does. Its number is 0: it is counted where all events are.
    pub fn talk_for_taps(&self, event: &EngineEvent) -> Option<(Event, Vec<Name>)> {
        if !matches!(event.kind, EventKind::TalkStarted | EventKind::TalkStopped { .. }) {
            return None;
        }
        let entry = self
            .sessions
            .by_key(event.session)
            .filter(|entry| !entry.taps.is_empty())?;
        let (spec, node) = (&entry.spec, event.subject.as_ref()?);
        let hears = |from: &Name, to: &Name| spec.edge(from, to).is_some_and(|edge| !edge.muted);
        let is_room = |node: &&Arc<NodeSpec>| matches!(node.kind, NodeKind::Room(_));
        let rooms = spec.nodes.iter().filter(is_room).map(|room| &room.id);
        let rooms: Vec<&Name> = rooms.filter(|room| hears(node, room)).collect();
        let taps = entry.taps.iter().map(|rings| &rings.node);
        let taps = taps.filter(|tap| hears(node, tap) || rooms.iter().any(|room| hears(room, tap)));
        let taps: Vec<Name> = taps.cloned().collect();
        let event = Event {
            sequence: 0,
            at: event.at,
            session: entry.name.clone(),
            subject: event.subject.clone(),
            kind: Happening::Engine(event.kind.clone()),
        };
        (!taps.is_empty()).then_some((event, taps))
    }
}

/// The rings of the taps of `spec`: those of `before` that still fit, and new ones. What is left of `before` is closed.
pub(super) fn rings(spec: &SessionSpec, mut before: Vec<TapRings>) -> Vec<TapRings> {
    let mut rings = Vec::new();
    for node in &spec.nodes {
        let NodeKind::Tap(tap) = &node.kind else { continue };
        let fits = |old: &TapRings| old.node == node.id && old.port.sample_rate_hz() == tap.sample_rate_hz;
        rings.push(match before.iter().position(fits) {
            Some(at) => before.swap_remove(at),
            None => TapRings {
                node: node.id.clone(),
                port: TapPort::new(tap.sample_rate_hz),
            },
        });
    }
    before.iter().for_each(|old| old.port.close());
    rings
}

/// What the rings say.
pub(super) fn reports(rings: &[TapRings]) -> Vec<TapReport> {
    let report = |rings: &TapRings| TapReport {
        node: rings.node.clone(),
        sample_rate_hz: rings.port.sample_rate_hz(),
        figures: rings.port.figures(),
    };
    rings.iter().map(report).collect()
}

fn tap_of<'a>(rings: &'a [TapRings], node: &Name) -> Option<&'a Arc<TapPort>> {
    rings
        .iter()
        .find(|rings| rings.node == *node)
        .map(|rings| &rings.port)
}
