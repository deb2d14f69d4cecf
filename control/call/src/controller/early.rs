//! What a caller hears of a phone before it answers: early media, or that it rings.

use sip::{
    message::{Method, Request, Response, StatusCode},
    stack::{ClientTxn, DialogKey, ServerTxn},
};

use super::{
    Controller, Now,
    calling::{answer_leg, answer_of, described, read_answer, with_description},
    message::info_refusal,
    rounds::branch_of,
};
use crate::{
    call::{Call, CallId, Side, Stage},
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
        if let Some(media) = media.filter(|_| is_ringing) {
            let agreed = leg.endpoint_for(&media);
            leg.media = Some(media.clone());
            if is_direct {
                call.plan.put(&endpoint, agreed);
                call.early.get_or_insert(endpoint);
                self.follow(id, &media);
                self.send_media(now, id);
            }
        }
        if let (Some(dialog), Some(way)) = (begun, way) {
            // It may ask for the password for a PRACK.
            self.join_trunk(dialog, way.trunk);
        }
        if is_ringing {
            self.tell_progress(now, id);
        }
    }

    /// A request of a phone that rings, in the dialog that its ringing made.
    pub(super) fn request_while_ringing(
        &mut self,
        now: Now,
        txn: ServerTxn,
        request: &Request,
        dialog: DialogKey,
    ) {
        let status = match (&request.method, self.rings_in(dialog)) {
            (_, None) => StatusCode::CALL_DOES_NOT_EXIST,
            (Method::Update, Some(id)) if !request.body.is_empty() => {
                match self.take_early_offer(id, dialog, txn, &request.body) {
                    Ok(()) => {
                        self.send_media(now, id);
                        self.answer_early_offers(now, id);
                    }
                    Err(refusal) => self.respond(now, txn, *refusal),
                }
                return;
            }
            (Method::Info, Some(_)) => {
                let refusal = info_refusal(request);
                self.respond(now, txn, refusal.unwrap_or_else(|| Response::new(StatusCode::OK)));
                return;
            }
            (Method::Update | Method::Options | Method::Prack, Some(_)) => StatusCode::OK,
            (_, Some(_)) => StatusCode::METHOD_NOT_ALLOWED,
        };
        self.respond(now, txn, Response::new(status));
    }

    /// RFC 3311: a phone that gave its answer by a 183 changes what it said before it is picked up, as a gateway does whose
    /// call goes on to another line.
    fn take_early_offer(
        &mut self,
        id: CallId,
        dialog: DialogKey,
        txn: ServerTxn,
        body: &[u8],
    ) -> Result<(), Box<Response>> {
        let refuse = |status| Box::new(Response::new(status));
        let call = self
            .calls
            .get(&id)
            .ok_or_else(|| refuse(StatusCode::CALL_DOES_NOT_EXIST))?;
        let spoken = call.caller.media.as_ref();
        let spoken = spoken.and_then(|media| media.formats.first());
        let mut branches = call.round.iter().flat_map(|round| &round.branches);
        let leg = branches.find(|leg| leg.early.contains(&dialog) && leg.media.is_some());
        // Our own offer has no answer yet.
        let leg = leg.ok_or_else(|| refuse(StatusCode::REQUEST_PENDING))?;
        let codecs = self
            .policy
            .beside(&leg.party(), spoken.map(|format| &format.codec));
        let security = leg.security;
        let (offer, selections, media) = self.read_offer(body, codecs, security)?;
        let Some(call) = self.calls.get_mut(&id) else {
            return Ok(());
        };
        let mut branches = call.round.iter_mut().flat_map(|round| &mut round.branches);
        if let Some(leg) = branches.find(|leg| leg.early.contains(&dialog)) {
            let endpoint = leg.take_offer(txn, (offer.into(), selections), media);
            call.plan.put(&leg.endpoint, endpoint);
        }
        Ok(())
    }

    /// Answers them once the media host has carried them out.
    pub(super) fn answer_early_offers(&mut self, now: Now, id: CallId) {
        let is_due = |call: &Call| {
            let mut branches = call.round.iter().flat_map(|round| &round.branches);
            branches.any(|leg| leg.reoffer.is_some()) && call.plan.is_settled()
        };
        if !self.calls.get(&id).is_some_and(is_due) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let mut answers = Vec::new();
        for leg in call.round.iter_mut().flat_map(|round| &mut round.branches) {
            // Without an address there is no answer yet, and the offer stays.
            let Some(local) = call.plan.local(&leg.endpoint) else {
                continue;
            };
            let Some(reoffer) = leg.reoffer.take() else {
                continue;
            };
            // It has a session since its INVITE.
            let response = match answer_leg(leg, &local, 0) {
                Some(answer) => with_description(&answer),
                None => Response::new(StatusCode::SERVER_INTERNAL_ERROR),
            };
            answers.push((reoffer.txn, response));
        }
        for (txn, response) in answers {
            self.respond(now, txn, response);
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
