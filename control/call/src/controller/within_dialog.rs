//! Requests inside a dialog: hold and other new offers, session refreshes, INFO, OPTIONS.

use proto::mediad::v1 as pb;
use sdp::{LocalSession, OfferedMedia, Selection};
use sip::{
    message::{Method, Request, Response, StatusCode},
    stack::{ClientTxn, Content, DialogKey, DialogRequest, ServerTxn},
};

use super::{
    Controller, Now, Purpose,
    calling::{answer_of, with_description},
};
use crate::{
    call::{CallId, Side, Stage},
    leg::{Exchange, Invite, Leg, Reoffer},
};

impl Controller {
    pub(super) fn request_within(&mut self, now: Now, txn: ServerTxn, request: &Request, dialog: DialogKey) {
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else {
            self.respond(now, txn, Response::new(StatusCode::CALL_DOES_NOT_EXIST));
            return;
        };
        if side == Side::Member {
            self.member_request(now, id, txn, request);
            return;
        }
        match request.method {
            Method::Invite | Method::Update => self.reoffered(now, id, side, txn, request),
            Method::Info => {
                self.pass_digits(now, id, side, request);
                self.respond(now, txn, Response::new(StatusCode::OK));
            }
            Method::Refer => self.referred(now, id, side, txn, request),
            Method::Options | Method::Prack => self.respond(now, txn, Response::new(StatusCode::OK)),
            _ => self.respond(now, txn, Response::new(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    /// Digits that come by INFO go on as telephone-events, or as whatever the media host sends to the other party.
    fn pass_digits(&mut self, now: Now, id: CallId, side: Side, request: &Request) {
        let Some((digits, duration_ms)) = digits_of(request) else {
            return;
        };
        let Some(call) = self.calls.get(&id).filter(|call| call.stage == Stage::Talking) else {
            return;
        };
        let Some(other) = call.counterpart(side) else {
            return;
        };
        if let Some(dialog) = self.takes_info(other) {
            self.send_digit(now, dialog, &digits, duration_ms);
            return;
        }
        let (host, session, node) = (
            call.plan.host().clone(),
            call.name.clone(),
            other.endpoint.clone(),
        );
        let epoch = call.plan.epoch();
        let act = pb::ActRequest {
            session,
            owner: Some(self.owner(epoch)),
            node,
            request: format!("info-{}", self.stack.random_token()),
            act: Some(pb::act_request::Act::SendDigits(pb::SendDigits {
                digits,
                duration_ms,
                ..pb::SendDigits::default()
            })),
        };
        self.command(now, host, None, pb::command::Kind::Act(act));
    }

    /// The dialog of a party that digits reach by INFO only: it agreed on no telephone-events.
    pub(super) fn takes_info(&self, leg: &Leg) -> Option<DialogKey> {
        let dialog = leg.dialog.filter(|_| !leg.takes_events())?;
        let knows = self.stack.dialog(dialog)?.peer_allows(&Method::Info);
        knows.then_some(dialog)
    }

    fn send_digit(&mut self, now: Now, dialog: DialogKey, digit: &str, duration_ms: u32) {
        let body = format!("Signal={digit}\r\nDuration={duration_ms}\r\n");
        let info =
            DialogRequest::new(Method::Info).with_content(Content::new("application/dtmf-relay", body));
        self.send_plain(now, dialog, info);
    }

    /// A digit that came as telephone-event goes on by INFO to a party that knows no telephone-events.
    pub(super) fn pass_digit_by_info(&mut self, now: Now, id: CallId, from: &str, digit: &pb::DigitEnded) {
        let Some(call) = self.calls.get(&id).filter(|call| call.stage == Stage::Talking) else {
            return;
        };
        let side = if call.caller.endpoint == from {
            Side::Caller
        } else {
            Side::Callee
        };
        let other = call.counterpart(side);
        if let Some(dialog) = other.and_then(|leg| self.takes_info(leg)) {
            self.send_digit(now, dialog, &digit.digit, digit.duration_ms.clamp(40, 10_000));
        }
    }

    /// A re-INVITE or UPDATE. The other party need not know: what changes is this one's endpoint.
    fn reoffered(&mut self, now: Now, id: CallId, side: Side, txn: ServerTxn, request: &Request) {
        let is_update = request.method == Method::Update;
        // Who is on hold with music, or is being transferred, may change its description too.
        let may = self.calls.get(&id).is_some_and(|call| {
            let is_agreed = call
                .leg(side)
                .is_some_and(|leg| leg.is_described && leg.media.is_some());
            is_agreed && !matches!(call.stage, Stage::Preparing | Stage::Ended)
        });
        if request.body.is_empty() {
            if is_update {
                self.respond(now, txn, Response::new(StatusCode::OK));
            } else {
                self.offer_ours(now, id, side, txn);
            }
            return;
        }
        if !may {
            // RFC 3311 §5.2: it may try again when the call stands.
            let mut response = Response::new(StatusCode::SERVER_INTERNAL_ERROR);
            let _digits = response.headers.set(sip::message::HeaderName::RetryAfter, "2");
            self.respond(now, txn, response);
            return;
        }
        if let Err(refusal) = self.take_reoffer(id, side, txn, &request.body) {
            self.respond(now, txn, *refusal);
            return;
        }
        self.send_media(now, id);
        self.answer_reoffer(now, id, side);
    }

    fn take_reoffer(
        &mut self,
        id: CallId,
        side: Side,
        txn: ServerTxn,
        body: &[u8],
    ) -> Result<(), Box<Response>> {
        let gone = || Box::new(Response::new(StatusCode::CALL_DOES_NOT_EXIST));
        let call = self.calls.get_mut(&id).ok_or_else(gone)?;
        let other = call.counterpart(side);
        let spoken = other
            .and_then(|leg| leg.media.as_ref())
            .and_then(|media| media.formats.first());
        let leg = call.leg(side).ok_or_else(gone)?;
        let codecs = self
            .policy
            .beside(leg.user.as_ref(), spoken.map(|format| &format.codec));
        let security = leg.security;
        let (offer, selections, media) = self.read_offer(body, codecs, security)?;
        let call = self.calls.get_mut(&id).ok_or_else(gone)?;
        let leg = call.leg_mut(side).ok_or_else(gone)?;
        let offer = offer.into();
        let exchange = std::mem::replace(&mut leg.exchange, Exchange::Theirs { offer, selections });
        let endpoint = leg.endpoint_for(&media);
        let media = leg.media.replace(media);
        leg.reoffer = Some(Reoffer { txn, media, exchange });
        let name = leg.endpoint.clone();
        call.plan.put(&name, endpoint);
        Ok(())
    }

    /// Answers a new offer once the media host has carried it out.
    pub(super) fn answer_reoffer(&mut self, now: Now, id: CallId, side: Side) {
        let session = self.new_session_id();
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if !call.plan.is_settled() {
            return;
        }
        let Some(Reoffer { txn, .. }) = call.leg_mut(side).and_then(|leg| leg.reoffer.take()) else {
            return;
        };
        let response = match answer_of(call, side, session) {
            Some(answer) => with_description(&answer),
            None => Response::new(StatusCode::SERVER_INTERNAL_ERROR),
        };
        self.respond(now, txn, response);
    }

    pub(super) fn refuse_reoffers(&mut self, now: Now, id: CallId) {
        for side in [Side::Caller, Side::Callee] {
            let leg = self.calls.get_mut(&id).and_then(|call| call.leg_mut(side));
            let Some((leg, reoffer)) =
                leg.and_then(|leg| Some(leg.reoffer.take()).flatten().map(|it| (leg, it)))
            else {
                continue;
            };
            (leg.media, leg.exchange) = (reoffer.media, reoffer.exchange);
            self.respond(now, reoffer.txn, Response::new(StatusCode::SERVER_INTERNAL_ERROR));
        }
    }

    /// The party took its new offer back, and the stack answered it. True when there was one.
    pub(super) fn forget_reoffer(&mut self, now: Now, id: CallId, side: Side) -> bool {
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        let Some(leg) = call.leg_mut(side) else {
            return false;
        };
        let Some(reoffer) = leg.reoffer.take() else {
            return leg.is_described;
        };
        (leg.media, leg.exchange) = (reoffer.media, reoffer.exchange);
        let name = leg.endpoint.clone();
        if let Some(agreed) = leg.media.as_ref().map(|media| leg.endpoint_for(media)) {
            call.plan.put(&name, agreed);
        }
        self.send_media(now, id);
        true
    }

    /// A re-INVITE without offer asks for ours.
    fn offer_ours(&mut self, now: Now, id: CallId, side: Side, txn: ServerTxn) {
        let description = self.current_offer(id, side);
        let leg = self.calls.get_mut(&id).and_then(|call| call.leg_mut(side));
        let response = match (description, leg) {
            (Some(offer), Some(leg)) => {
                leg.awaits_answer = true;
                leg.exchange = Exchange::Ours {
                    offer: offer.clone().into(),
                };
                with_description(&offer)
            }
            _ => Response::new(StatusCode::SERVER_INTERNAL_ERROR),
        };
        self.respond(now, txn, response);
    }

    /// What is agreed with a party, as an offer of ours.
    fn current_offer(&mut self, id: CallId, side: Side) -> Option<sdp::Description> {
        let session = self.new_session_id();
        let call = self.calls.get_mut(&id)?;
        let endpoint = call.leg_mut(side)?.endpoint.clone();
        let transport = call.plan.local(&endpoint)?;
        let leg = call.leg_mut(side)?;
        let mut medias = vec![leg.audio_again(transport)?];
        medias.extend(refused_lines(&leg.exchange));
        let session = leg
            .session
            .get_or_insert_with(|| LocalSession::new(session, std::net::Ipv4Addr::UNSPECIFIED.into()));
        Some(sdp::write_offer(&medias, session))
    }

    /// The ACK of a re-INVITE's 200. True when it was one.
    pub(super) fn reoffer_acknowledged(
        &mut self,
        now: Now,
        id: CallId,
        side: Side,
        request: &Request,
    ) -> bool {
        let leg = self.calls.get_mut(&id).and_then(|call| call.leg_mut(side));
        let Some(leg) = leg.filter(|leg| leg.awaits_answer) else {
            return false;
        };
        leg.awaits_answer = false;
        // Without a usable answer what stood before stands.
        if self.take_answer(id, side, &request.body).is_ok() {
            self.send_media(now, id);
        }
        true
    }

    /// RFC 4028 §7.4: UPDATE if the party knows it, else a re-INVITE that changes nothing.
    pub(super) fn refresh_session(&mut self, now: Now, dialog: DialogKey) {
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else {
            return;
        };
        if side == Side::Member {
            self.refresh_member(now, id, dialog);
            return;
        }
        let updates = self
            .stack
            .dialog(dialog)
            .is_some_and(|dialog| dialog.peer_allows(&Method::Update));
        if !updates {
            // Should it not go out now, the stack's expiry ends the call in time.
            let _sent = self.reinvite(now, dialog);
            return;
        }
        // Should it not go out now, the stack's expiry ends the call in time.
        let update = DialogRequest::new(Method::Update);
        if let Ok(txn) = self.stack.dialog_request(now.mono, dialog, update) {
            self.by_client.insert(txn, Purpose::Refresh(id, side));
        }
    }

    /// Tells a party again what is agreed with it. False when that cannot be now.
    pub(super) fn reinvite(&mut self, now: Now, dialog: DialogKey) -> bool {
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else {
            return false;
        };
        let Some(offer) = self.current_offer(id, side) else {
            return false;
        };
        let invite = DialogRequest::new(Method::Invite).with_content(Content::sdp(offer.to_string()));
        let Ok(txn) = self.stack.dialog_request(now.mono, dialog, invite) else {
            return false;
        };
        self.by_client.insert(txn, Purpose::Refresh(id, side));
        if let Some(call) = self.calls.get_mut(&id)
            && let Some(leg) = call.leg_mut(side)
        {
            leg.exchange = Exchange::Ours { offer: offer.into() };
            let endpoint = leg.endpoint.clone();
            call.plan.ask(&endpoint);
        }
        true
    }

    pub(super) fn refreshed(
        &mut self,
        now: Now,
        id: CallId,
        side: Side,
        response: &Response,
        dialog: Option<DialogKey>,
    ) {
        let invites = response
            .headers
            .cseq()
            .is_ok_and(|cseq| cseq.method == Method::Invite);
        if !invites {
            return;
        }
        if side == Side::Member {
            self.member_refreshed(now, id, response, dialog);
            return;
        }
        if let (true, Some(dialog)) = (response.status.is_success(), dialog) {
            let _gone = self.stack.ack(dialog, None);
            if self.take_answer(id, side, &response.body).is_ok() {
                self.send_media(now, id);
            }
        }
        self.moved_party_answered(now, id, side, response);
    }

    pub(super) fn replace_branch(&mut self, id: CallId, old: ClientTxn, new: ClientTxn) {
        let branches = self
            .calls
            .get_mut(&id)
            .and_then(|call| call.round.as_mut())
            .map(|round| &mut round.branches);
        let leg =
            branches.and_then(|branches| branches.iter_mut().find(|leg| leg.invite == Invite::Sent(old)));
        if let Some(leg) = leg {
            leg.invite = Invite::Sent(new);
        }
    }
}

/// RFC 3264 §8: lines of an earlier offer that we refused keep their place, switched off.
pub(super) fn refused_lines(exchange: &Exchange) -> Vec<OfferedMedia> {
    let Exchange::Theirs { offer, selections } = exchange else {
        return Vec::new();
    };
    let lines = offer.session().medias.iter().zip(selections);
    let refused = lines.filter(|(_, selection)| !matches!(selection, Selection::Audio(_)));
    let switched_off = refused.map(|(line, _)| {
        let mut line = line.clone();
        line.port = 0;
        line.attributes.clear();
        OfferedMedia::Opaque(line)
    });
    switched_off.collect()
}

/// The digit of an INFO, and its length in milliseconds: `application/dtmf-relay` ("Signal=5", "Duration=160") or
/// `application/dtmf` ("5").
pub(super) fn digits_of(request: &Request) -> Option<(String, u32)> {
    let kind = request.headers.content_type().ok().flatten()?;
    let body = std::str::from_utf8(&request.body).ok()?;
    let field = |name: &str| {
        let lines = body.lines().filter_map(|line| line.split_once('='));
        let mut found = lines.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    };
    let (digit, duration) = if kind.is("application", "dtmf-relay") {
        (field("Signal")?, field("Duration"))
    } else if kind.is("application", "dtmf") {
        (body.trim(), None)
    } else {
        return None;
    };
    let is_digit = matches!(digit.as_bytes(), [b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D']);
    let duration = duration.and_then(|ms| ms.parse().ok()).unwrap_or(100_u32);
    is_digit.then(|| (digit.to_owned(), duration.clamp(40, 10_000)))
}
