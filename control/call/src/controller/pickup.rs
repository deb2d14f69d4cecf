//! Call pick-up: an INVITE with Replaces that names the dialog of a phone that still rings (RFC 3891 §3). Who sent it
//! takes the call, and the phone stops ringing.

use sip::{
    header::Reason,
    message::{Response, StatusCode},
    stack::DialogKey,
};

use super::{
    Controller, Now,
    calling::{answer_of, with_description},
};
use crate::{
    call::{Call, CallId, Side, Stage},
    leg::{Invite, Leg},
    media::Endpoint,
};

impl Controller {
    /// The call in whose round a phone rings in this dialog.
    pub(super) fn rings_in(&self, dialog: DialogKey) -> Option<CallId> {
        let rings = |call: &Call| {
            let branches = call.round.iter().flat_map(|round| &round.branches);
            let mut pending = branches.filter(|leg| leg.state.is_pending());
            pending.any(|leg| leg.early.contains(&dialog))
        };
        let mut calls = self.calls.iter();
        calls.find(|(_, call)| rings(call)).map(|(id, _)| *id)
    }

    /// Whether a call that rings may be picked up. One that a queue brought goes to the agent that the queue chose, and
    /// one that rings elsewhere is not ours to stop for free.
    pub(super) fn may_be_picked_up(&self, id: CallId) -> Result<(), StatusCode> {
        let call = self.calls.get(&id).ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
        if call.stage != Stage::Ringing || call.transfer.is_some() || call.newcomer.is_some() {
            return Err(StatusCode::CALL_DOES_NOT_EXIST);
        }
        let is_queued = call.round.as_ref().is_none_or(|round| round.offer.is_some());
        // Who is called by a machine's wish takes the caller's seat, not the callee's.
        if is_queued || call.way.is_some() || call.summons.is_some() {
            return Err(StatusCode::FORBIDDEN);
        }
        Ok(())
    }

    /// Takes the call for who sent the INVITE; it is answered once the media host has its endpoint.
    pub(super) fn pick_up(&mut self, now: Now, id: CallId, mut leg: Leg, wanted: Endpoint) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if !call.stage.on_answered() {
            return;
        }
        leg.joined_unix_us = super::unix_us(now.wall);
        call.withdraw_endpoints(|_| false);
        call.early = None;
        call.plan.put(&leg.endpoint, wanted);
        if let Some(dialog) = leg.dialog {
            self.by_dialog.insert(dialog, (id, Side::Callee));
        }
        call.callee = Some(leg);
        self.follow_callee(id);
        self.record_if_wanted(id);
        let reason = Reason::new("SIP", 200, "Call completed elsewhere");
        self.cancel_round(now, id, &reason, StatusCode::OK);
        self.settle(now, id);
    }

    /// The answer to who picked the call up, before the caller gets its own. False: there is none, and the call ended.
    pub(super) fn answer_pick_up(&mut self, now: Now, id: CallId) -> bool {
        let session = self.new_session_id();
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        let waits = call.callee.as_ref().filter(|leg| leg.state.is_pending());
        let Some(Invite::Received(txn)) = waits.map(|leg| leg.invite) else {
            return true;
        };
        let Some(answer) = answer_of(call, Side::Callee, session) else {
            let (status, reason) = (
                StatusCode::SERVER_INTERNAL_ERROR,
                "no description for the called party",
            );
            self.end(now, id, crate::journal::EndedBy::System, status, reason);
            return false;
        };
        if let Some(leg) = &mut call.callee {
            leg.state.on_answered();
            leg.is_described = true;
        }
        self.respond(now, txn, with_description(&answer));
        true
    }

    /// Who picked up is told that the call is over before it was answered.
    pub(super) fn refuse_pick_up(&mut self, now: Now, id: CallId, status: StatusCode) {
        let callee = self.calls.get_mut(&id).and_then(|call| call.callee.as_mut());
        let Some(leg) = callee.filter(|leg| leg.state.is_pending()) else {
            return;
        };
        leg.state.on_ended();
        if let Invite::Received(txn) = leg.invite {
            let status = if status.is_success() {
                StatusCode::REQUEST_TERMINATED
            } else {
                status
            };
            self.respond(now, txn, Response::new(status));
        }
    }
}
