//! Acts: things done once, whose reply is remembered so that a repeat does nothing twice.

use std::collections::VecDeque;

use rtp::time::Now;

use super::Host;
use crate::{
    command::{CollectWish, Command, SendDigit},
    graph::Owner,
    limits,
    refusal::Refusal,
    spec::{Name, NodeKind, NodeSpec},
};

/// Something to do once to a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// The session.
    pub session: Name,
    /// Who asks.
    pub owner: Owner,
    /// The node.
    pub node: Name,
    /// The caller's id of this act.
    pub request: Name,
    /// What.
    pub kind: ActKind,
}

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub enum ActKind {
    /// Digits are sent to an endpoint's peer, in order.
    SendDigits(Box<[SendDigit]>),
    /// Digits of an endpoint's peer are gathered.
    Collect(CollectWish),
    /// A player moves to a place in one of its items.
    Seek {
        /// Index of the item.
        item: usize,
        /// How far into it.
        position_ms: u32,
    },
    /// A player, or the program at a tap, throws away what it still has to play.
    Flush,
}

/// What became of an act.
#[derive(Debug)]
pub enum ActOutcome {
    /// To be told to the worker.
    Order(usize, Command),
    /// Done before; the reply is the same.
    Repeated,
}

/// Request ids of the latest acts.
#[derive(Debug, Default)]
pub(super) struct ActReplies(VecDeque<Name>);

impl ActReplies {
    fn remember(&mut self, request: &Name) -> bool {
        if self.0.contains(request) {
            return false;
        }
        if self.0.len() == limits::ACT_REPLIES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(request.clone());
        true
    }
}

impl Host {
    /// Checks an act and gives the order for the worker, unless it was done before.
    ///
    /// # Errors
    /// Session or node not there, not the caller's, stale epoch.
    pub fn act(&mut self, now: Now, act: Act) -> Result<ActOutcome, Refusal> {
        self.check_owner(now, &act.session, &act.owner)?;
        let entry = self.sessions.by_name_mut(&act.session)?;
        let Some(node) = entry.spec.node(&act.node) else {
            return Err(Refusal::UnknownNode {
                session: act.session,
                node: act.node,
            });
        };
        check(node, &act.kind)?;
        if !entry.acts.remember(&act.request) {
            return Ok(ActOutcome::Repeated);
        }
        let (session, node) = (entry.key, act.node);
        let command = match act.kind {
            ActKind::SendDigits(digits) => Command::SendDigits(session, node, digits),
            ActKind::Collect(wish) => Command::Collect {
                session,
                node,
                request: act.request,
                wish,
            },
            ActKind::Seek { item, position_ms } => Command::Seek {
                session,
                node,
                item,
                position_ms,
            },
            ActKind::Flush => Command::Flush(session, node),
        };
        Ok(ActOutcome::Order(entry.worker, command))
    }
}

/// The node is one to which this can be done.
fn check(node: &NodeSpec, act: &ActKind) -> Result<(), Refusal> {
    let player = || match &node.kind {
        NodeKind::Player(player) if player.shared_group.is_some() => {
            Err(Refusal::SharedPlayer(node.id.clone()))
        }
        NodeKind::Player(player) => Ok(player),
        NodeKind::Endpoint(_) | NodeKind::Room(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => {
            Err(Refusal::NotPlayer(node.id.clone()))
        }
    };
    match act {
        ActKind::SendDigits(_) | ActKind::Collect(_) => match &node.kind {
            NodeKind::Endpoint(_) => Ok(()),
            NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => {
                Err(Refusal::NotEndpoint(node.id.clone()))
            }
        },
        ActKind::Seek { item, .. } => {
            let items = player()?.items.len();
            if *item < items {
                return Ok(());
            }
            Err(Refusal::NoSuchItem {
                node: node.id.clone(),
                item: *item,
                items,
            })
        }
        ActKind::Flush => match &node.kind {
            NodeKind::Tap(_) => Ok(()),
            _ => player().map(drop),
        },
    }
}
