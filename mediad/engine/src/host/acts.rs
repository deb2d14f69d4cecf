//! Acts: things done once, whose reply is remembered so that a repeat does nothing twice.

use std::collections::VecDeque;

use rtp::time::Now;

use super::Host;
use crate::{
    command::{Command, SendDigit},
    graph::Owner,
    limits,
    refusal::Refusal,
    spec::{Name, NodeKind},
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
    pub kind: SendDigits,
}

/// Digits to send to an endpoint's peer, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct SendDigits(pub Box<[SendDigit]>);

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
        match entry.spec.node(&act.node).map(|node| &node.kind) {
            Some(NodeKind::Endpoint(_)) => {}
            Some(NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_)) => {
                return Err(Refusal::NotEndpoint(act.node));
            }
            None => {
                return Err(Refusal::UnknownNode {
                    session: act.session,
                    node: act.node,
                });
            }
        }
        if !entry.acts.remember(&act.request) {
            return Ok(ActOutcome::Repeated);
        }
        let SendDigits(digits) = act.kind;
        Ok(ActOutcome::Order(
            entry.worker,
            Command::SendDigits(entry.key, act.node, digits),
        ))
    }
}
