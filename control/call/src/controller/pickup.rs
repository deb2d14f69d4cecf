//! Call pick-up: an INVITE with Replaces that names the dialog of a phone that still rings (RFC 3891 §3). Who sent it
//! takes the call, and the phone stops ringing.

use sip::{header::Reason, message::StatusCode, stack::DialogKey};

use super::{
    Controller, Now,
    calling::{answer_of, with_description},
};
use crate::{
    call::{Call, CallId, Newcomer, Side, Stage},
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

    /// Who sent the INVITE takes the call once the media host has its endpoint. Until then the phone rings on: who picks up
    /// may change its mind, or somebody may answer.
    pub(super) fn pick_up(&mut self, now: Now, id: CallId, leg: Leg, wanted: Endpoint) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.plan.put(&leg.endpoint, wanted);
        if let Some(dialog) = leg.dialog {
            self.by_dialog.insert(dialog, (id, Side::Newcomer));
        }
        let replaces = Side::Callee;
        call.newcomer = Some(Newcomer {
            leg,
            replaces,
            waits: None,
        });
        self.settle(now, id);
    }

    /// Who picked up has its endpoint: it is answered, before the caller is, and the phone stops ringing.
    pub(super) fn seat_pick_up(&mut self, now: Now, id: CallId) {
        let session = self.new_session_id();
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if call.newcomer.is_none() || !call.plan.is_settled() {
            return;
        }
        let Some(answer) = answer_of(call, Side::Newcomer, session) else {
            self.newcomer_gone(now, id, Some(StatusCode::SERVER_INTERNAL_ERROR));
            return;
        };
        if !call.stage.on_answered() {
            return;
        }
        let Some(Newcomer { mut leg, waits, .. }) = call.newcomer.take() else {
            return;
        };
        leg.state.on_answered();
        (leg.is_described, leg.joined_unix_us) = (true, super::unix_us(now.wall));
        let (invite, dialog) = (leg.invite, leg.dialog);
        call.withdraw_endpoints(|_| false);
        call.early = None;
        call.callee = Some(leg);
        self.by_dialog
            .extend(dialog.map(|dialog| (dialog, (id, Side::Callee))));
        self.waits_no_more(now, waits);
        if let Invite::Received(txn) = invite {
            self.respond(now, txn, with_description(&answer));
        }
        self.follow_callee(id);
        self.record_if_wanted(id);
        let reason = Reason::new("SIP", 200, "Call completed elsewhere");
        self.cancel_round(now, id, &reason, StatusCode::OK);
        self.settle(now, id);
    }
}
