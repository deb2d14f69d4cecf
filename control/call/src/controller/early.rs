//! What a caller hears of a phone before it answers: early media, or that it rings.

use sip::{
    message::{Response, StatusCode},
    stack::{ClientTxn, DialogKey},
};

use super::{
    Controller, Now,
    calling::{answer_of, described, read_answer},
    rounds::branch_of,
};
use crate::{
    call::{CallId, Side, Stage},
    leg::{Exchange, Invite},
};

impl Controller {
    /// A phone rings, or is heard before it answers.
    pub(super) fn branch_progress(
        &mut self,
        now: Now,
        id: CallId,
        txn: ClientTxn,
        dialog: Option<DialogKey>,
        response: &Response,
    ) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        // Who waits in a queue hears its music until an agent answers.
        let is_direct = call.round.as_ref().is_some_and(|round| round.offer.is_none());
        let is_ringing = call.stage == Stage::Ringing;
        let way = call.way;
        let Some(leg) = branch_of(call, txn) else { return };
        leg.state.on_ringing();
        let begun = dialog.filter(|dialog| !leg.early.contains(dialog));
        leg.early.extend(begun);
        let media = read_answer(leg, &response.body).ok();
        let endpoint = leg.endpoint.clone();
        if let Some(media) = media.filter(|_| is_direct && is_ringing) {
            let agreed = leg.endpoint_for(&media);
            leg.media = Some(media.clone());
            call.plan.put(&endpoint, agreed);
            call.early.get_or_insert(endpoint);
            self.follow(id, &media);
            self.send_media(now, id);
        }
        if let (Some(dialog), Some(way)) = (begun, way) {
            // It may ask for the password for a PRACK.
            self.join_trunk(dialog, way.trunk);
        }
        if is_ringing {
            self.tell_progress(now, id);
        }
    }

    /// The caller learns that somebody is rung, or where to hear what that phone sends.
    fn tell_progress(&mut self, now: Now, id: CallId) {
        self.tell_transferor(now, id, StatusCode::RINGING);
        let session = self.new_session_id();
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Invite::Received(txn) = call.caller.invite else {
            return;
        };
        // RFC 3261 §13.2.1: an answer in a provisional response is the answer; without an offer there is none to give.
        let may_describe = call.early.is_some()
            && !call.caller.is_described
            && call.caller.state.is_pending()
            && matches!(call.caller.exchange, Exchange::Theirs { .. });
        if let Some(description) = may_describe
            .then(|| answer_of(call, Side::Caller, session))
            .flatten()
        {
            call.caller.is_described = true;
            let progress = described(StatusCode::SESSION_PROGRESS, &description);
            // Reliably if the caller can: a lost answer would leave it without sound (RFC 3262).
            let _answered = self.stack.respond_reliable(now.mono, txn, progress);
            self.send_media(now, id);
        } else {
            self.ring_back(now, id);
        }
    }

    /// A phone that was heard before it answered is gone: another one may be heard, or the caller hears ringback.
    pub(super) fn early_gone(&mut self, now: Now, id: CallId, endpoint: &str) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if call.early.as_deref() != Some(endpoint) {
            return;
        }
        let others = call.round.iter().flat_map(|round| &round.branches);
        let mut heard = others.filter(|leg| leg.state.is_pending() && leg.media.is_some());
        call.early = heard.next().map(|leg| leg.endpoint.clone());
        self.send_media(now, id);
    }
}
