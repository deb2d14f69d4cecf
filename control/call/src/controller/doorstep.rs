//! New calls while no media host is up: at the start, and after the last one was lost. They wait a moment for one, for a
//! call that is refused is lost, and a proxy in front takes every such refusal for a failure of ours.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use sip::{
    message::Request,
    stack::{DialogKey, Flow, ServerTxn},
};

use super::{Controller, Due, Now};
use crate::limits;

/// First INVITEs that wait.
#[derive(Debug, Default)]
pub(super) struct Doorstep {
    invites: VecDeque<Waiting>,
    /// A media host may be up by then.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    txn: ServerTxn,
    request: Request,
    flow: Flow,
    dialog: DialogKey,
}

impl Controller {
    /// There was none yet, or the last one was lost just now.
    pub(super) fn hope_for_host(&mut self, now: Now) {
        if self.pool.is_any_up() {
            return;
        }
        let until = now.mono + Duration::from_secs(self.config.media.wait_for_host_s);
        self.doorstep.until = Some(until);
        self.deadlines.insert((until, Due::Doorstep));
    }

    /// True: it waits, and its sender knows from the stack that it has come.
    pub(super) fn waits_for_host(
        &mut self,
        now: Now,
        txn: ServerTxn,
        request: &Request,
        flow: Flow,
        dialog: DialogKey,
    ) -> bool {
        let doorstep = &mut self.doorstep;
        let has_hope = doorstep.until.is_some_and(|until| now.mono < until) && !self.pool.is_any_up();
        if !has_hope || self.is_stopping || doorstep.invites.len() >= limits::INVITES_WAITING_MAX {
            return false;
        }
        doorstep.invites.push_back(Waiting {
            txn,
            request: request.clone(),
            flow,
            dialog,
        });
        true
    }

    /// A media host is up, or nobody waits for one any more.
    pub(super) fn open_door(&mut self, now: Now) {
        for waiting in std::mem::take(&mut self.doorstep.invites) {
            self.receive_invite(now, waiting.txn, &waiting.request, waiting.flow, waiting.dialog);
        }
    }

    /// Who waited gave up.
    pub(super) fn leaves_door(&mut self, dialog: DialogKey) {
        self.doorstep.invites.retain(|waiting| waiting.dialog != dialog);
    }
}
