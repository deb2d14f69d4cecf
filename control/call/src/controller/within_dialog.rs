//! Requests inside a dialog: hold and other new offers, session refreshes, INFO, OPTIONS.

use std::time::Duration;

use proto::mediad::v1 as pb;
use sdp::LocalSession;
use sip::{
    message::{Method, Request, Response, StatusCode},
    stack::{ClientTxn, Content, DialogKey, DialogRequest, ServerTxn},
};

use super::{
    Controller, Due, Now, Purpose,
    calling::{answer_of, with_description},
    media::REOFFERING,
};
use crate::{
    call::{Call, CallId, Side, Stage},
    leg::{Exchange, Invite, Leg, Reoffer},
    media::MediaPlan,
};

/// How long after a refresh that was refused it is tried again: often enough within the half of an interval that is left.
pub(super) const REFRESH_AGAIN: Duration = Duration::from_secs(15);
/// And after one that could not go out, most often because another exchange was open: of the shortest interval a sixth is
/// left (RFC 4028 §5, §10).
const REFRESH_SOON: Duration = Duration::from_secs(2);

impl Controller {
    pub(super) fn request_within(&mut self, now: Now, txn: ServerTxn, request: &Request, dialog: DialogKey) {
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else {
            self.request_while_ringing(now, txn, request, dialog);
            return;
        };
        if side == Side::Member {
            self.member_request(now, id, txn, request);
            return;
        }
        match request.method {
            Method::Invite | Method::Update => self.reoffered(now, id, side, txn, request),
            // RFC 3262 §5: its 200 holds the answer.
            Method::Prack if !request.body.is_empty() => self.reoffered(now, id, side, txn, request),
            Method::Info => self.info_within(now, (id, side), txn, request),
            Method::Refer => self.referred(now, id, side, txn, request),
            Method::Message => self.message_within(now, (id, side), txn, request),
            Method::Options | Method::Prack => self.respond(now, txn, Response::new(StatusCode::OK)),
            _ => self.respond(now, txn, Response::new(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    /// Digits that come by INFO go on as telephone-events, or as whatever the media host sends to the other party.
    pub(super) fn pass_digits(&mut self, now: Now, id: CallId, side: Side, request: &Request) {
        let Some((digits, duration_ms)) = digits_of(request) else {
            return;
        };
        if self.chooses(id, side) {
            self.keys_pressed(now, id, &digits);
            return;
        }
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

    /// A re-INVITE or UPDATE, or an offer in a PRACK. The other party need not know: what changes is this one's endpoint.
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
            .beside(&leg.party(), spoken.map(|format| &format.codec));
        let codecs = leg.offerable(codecs);
        let security = leg.security;
        let (offer, selections, media) = self.read_offer(body, codecs, security)?;
        let call = self.calls.get_mut(&id).ok_or_else(gone)?;
        let leg = call.leg_mut(side).ok_or_else(gone)?;
        let endpoint = leg.take_offer(txn, (offer.into(), selections), media);
        let name = leg.endpoint.clone();
        call.plan.put(&name, endpoint);
        // Its answer waits for whatever else is wanted.
        call.plan.forgive();
        Ok(())
    }

    /// Answers a new offer once the media host has carried it out.
    pub(super) fn answer_reoffer(&mut self, now: Now, id: CallId, side: Side) {
        // Most calls have none when their media settles.
        let is_due = |call: &Call| {
            let leg = call.leg(side);
            leg.is_some_and(|leg| leg.reoffer.is_some()) && call.plan.is_settled()
        };
        if !self.calls.get(&id).is_some_and(is_due) {
            return;
        }
        let session = self.new_session_id();
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(Reoffer { txn, .. }) = call.leg_mut(side).and_then(|leg| leg.reoffer.take()) else {
            return;
        };
        let response = match answer_of(call, side, session) {
            Some(answer) => with_description(&answer),
            None => Response::new(StatusCode::SERVER_INTERNAL_ERROR),
        };
        self.respond(now, txn, response);
    }

    /// What stood before new offers stands again. False when there were none.
    pub(super) fn refuse_reoffers(&mut self, now: Now, id: CallId) -> bool {
        let mut refused: Vec<ServerTxn> = REOFFERING
            .into_iter()
            .filter_map(|side| self.take_back_reoffer(id, side))
            .collect();
        if let Some(call) = self.calls.get_mut(&id) {
            let branches = call.round.iter_mut().flat_map(|round| &mut round.branches);
            refused.extend(branches.filter_map(|leg| take_back(leg, &mut call.plan)));
        }
        for txn in &refused {
            self.respond(now, *txn, Response::new(StatusCode::SERVER_INTERNAL_ERROR));
        }
        !refused.is_empty()
    }

    pub(super) fn take_back_reoffer(&mut self, id: CallId, side: Side) -> Option<ServerTxn> {
        let call = self.calls.get_mut(&id)?;
        let leg = match side {
            Side::Caller => Some(&mut call.caller),
            Side::Callee => call.callee.as_mut(),
            Side::Transferor => call.transfer.as_mut().map(|transfer| &mut transfer.leg),
            Side::Newcomer | Side::Member => None,
        };
        take_back(leg?, &mut call.plan)
    }

    /// The party took its re-INVITE back, and the stack answered that. False: it is the first INVITE that was cancelled.
    pub(super) fn forget_reoffer(&mut self, now: Now, id: CallId, side: Side) -> bool {
        let leg = self.calls.get(&id).and_then(|call| call.leg(side));
        if leg.is_none_or(|leg| leg.state.is_pending()) {
            return false;
        }
        if self.take_back_reoffer(id, side).is_some() {
            self.send_media(now, id);
        }
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
        let medias = leg.lines_again(leg.audio_again(transport)?);
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
        let updates = self
            .stack
            .dialog(dialog)
            .is_some_and(|dialog| dialog.peer_allows(&Method::Update));
        if !updates {
            self.reinvite_soon(now, dialog);
            return;
        }
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else {
            return;
        };
        let update = DialogRequest::new(Method::Update);
        match self.stack.dialog_request(now.mono, dialog, update) {
            Ok(txn) => drop(self.by_client.insert(txn, Purpose::Refresh(id, side))),
            Err(_) => self.refresh_later(now, dialog, REFRESH_SOON),
        }
    }

    /// RFC 4028 §7.4: the interval was too short for somebody on the way. True when it is tried again with a longer one.
    pub(super) fn longer_session(
        &mut self,
        now: Now,
        txn: ClientTxn,
        (id, side): (CallId, Side),
        response: &Response,
    ) -> bool {
        if response.status != StatusCode::SESSION_INTERVAL_TOO_SMALL {
            return false;
        }
        let again = self.stack.retry_with_session_interval(now.mono, txn, response);
        let again = again.map(|again| self.by_client.insert(again, Purpose::Refresh(id, side)));
        again.is_ok()
    }

    pub(super) fn refresh_later(&mut self, now: Now, dialog: DialogKey, after: Duration) {
        if self.refreshed_later.insert(dialog) {
            self.deadlines.insert((now.mono + after, Due::Refresh(dialog)));
        }
    }

    /// A refresh was refused, though the session stands, or did not go out. A re-INVITE is what every phone knows.
    pub(super) fn refresh_again(&mut self, now: Now, dialog: DialogKey) {
        self.refreshed_later.remove(&dialog);
        self.reinvite_soon(now, dialog);
    }

    /// Tells a party again what is agreed with it, now or as soon as that can be.
    pub(super) fn reinvite_soon(&mut self, now: Now, dialog: DialogKey) {
        if !self.reinvite(now, dialog) && self.by_dialog.contains_key(&dialog) {
            self.refresh_later(now, dialog, REFRESH_SOON);
        }
    }

    /// Tells a party again what is agreed with it. False when that cannot be now.
    pub(super) fn reinvite(&mut self, now: Now, dialog: DialogKey) -> bool {
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else {
            return false;
        };
        if !self.stack.may_reinvite(dialog) {
            return false;
        }
        let offer = match side {
            Side::Member => self.member_offer(id),
            Side::Caller | Side::Callee | Side::Transferor | Side::Newcomer => self.current_offer(id, side),
        };
        let Some(offer) = offer else {
            return false;
        };
        let invite = DialogRequest::new(Method::Invite).with_content(Content::sdp(offer.to_string()));
        let Ok(txn) = self.stack.dialog_request(now.mono, dialog, invite) else {
            return false;
        };
        self.by_client.insert(txn, Purpose::Refresh(id, side));
        let exchange = Exchange::Ours { offer: offer.into() };
        if let Some(member) = self.members.get_mut(&id).filter(|_| side == Side::Member) {
            member.leg.exchange = exchange;
            self.member_is_asked(id);
        } else if let Some(call) = self.calls.get_mut(&id)
            && let Some(leg) = call.leg_mut(side)
        {
            leg.exchange = exchange;
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
        // It may have another seat by now, or have left.
        let (id, side) = match dialog.map(|dialog| self.by_dialog.get(&dialog).copied()) {
            Some(Some(seat)) => seat,
            None => (id, side),
            Some(None) => {
                self.stray_response(now, response, dialog);
                return;
            }
        };
        if let Some(dialog) = dialog.filter(|_| is_to_be_tried_again(response)) {
            self.refresh_later(now, dialog, REFRESH_AGAIN);
        }
        if !is_about(response, &Method::Invite) {
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

fn is_about(response: &Response, method: &Method) -> bool {
    response.headers.cseq().is_ok_and(|cseq| cseq.method == *method)
}

/// A refresh that was refused for another reason than that the session is gone: by a phone that says it knows UPDATE and
/// does not, or that has something else to do.
fn is_to_be_tried_again(response: &Response) -> bool {
    match response.status.code() {
        // The first ends the dialog, and the stack tells when the other may go again.
        481 | 491 => false,
        408 | 500..=599 => true,
        400..=499 => is_about(response, &Method::Update),
        _ => false,
    }
}

/// What stood before a party's new offer stands again.
pub(super) fn take_back(leg: &mut Leg, plan: &mut MediaPlan) -> Option<ServerTxn> {
    let reoffer = leg.reoffer.take()?;
    (leg.media, leg.exchange) = (reoffer.media, reoffer.exchange);
    if let Some(media) = &leg.media {
        plan.put(&leg.endpoint, leg.endpoint_for(media));
    }
    Some(reoffer.txn)
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
    // Gateways write the codes of telephone-events (RFC 4733 §3.2).
    let digit = match digit {
        "10" => "*",
        "11" => "#",
        other => other,
    };
    let is_digit = matches!(digit.as_bytes(), [b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D']);
    let duration = duration.and_then(|ms| ms.parse().ok()).unwrap_or(100_u32);
    is_digit.then(|| (digit.to_owned(), duration.clamp(40, 10_000)))
}
