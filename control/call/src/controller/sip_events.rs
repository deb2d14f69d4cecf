//! What the SIP stack tells, and whom it concerns.

use sip::{
    header::Reason,
    message::{Method, Request, Response, StatusCode},
    stack::{ClientTxn, DialogKey, EndReason, Event, Flow, ServerTxn},
};

use super::{Controller, Now, Purpose};
use crate::{
    call::{CallId, Side},
    journal::EndedBy,
};

/// Why a call ended whose caller took its INVITE back.
pub(super) const CANCELLED: &str = "the caller cancelled";

impl Controller {
    pub(super) fn sip_event(&mut self, now: Now, event: Event) {
        self.follow_sender(&event);
        match event {
            Event::Request {
                txn,
                request,
                flow,
                dialog,
                initial,
                replaces,
            } => match (dialog, replaces) {
                (Some(dialog), Some(replaced)) if initial => {
                    self.receive_replacement(now, txn, &request, flow, (dialog, replaced));
                    self.keep_invite(dialog, &request, flow);
                }
                (Some(dialog), _) if initial => self.receive_invite(now, txn, &request, flow, dialog),
                (Some(dialog), _) => {
                    self.request_within(now, txn, &request, dialog);
                    self.keep_reoffer(dialog, &request, flow);
                }
                (None, _) => self.request_outside(now, txn, &request, flow),
            },
            Event::UnknownDialog { txn, .. } => {
                if let Some(txn) = txn {
                    self.respond(now, txn, Response::new(StatusCode::CALL_DOES_NOT_EXIST));
                }
            }
            Event::Cancelled { dialog, .. } => self.cancelled(now, dialog),
            Event::Ack { dialog, request } => self.acknowledged(now, dialog, &request),
            Event::AckTimedOut { dialog } => self.lost(now, dialog, "no ACK came"),
            Event::Bye { dialog, .. } => self.bye(now, dialog),
            Event::Response {
                txn,
                response,
                dialog,
                cancelled: _,
                needs_prack,
            } => {
                if let (true, Some(dialog)) = (needs_prack, dialog) {
                    // Our INVITEs hold the offer, so this is none we could answer: acknowledge it.
                    let _gone = self.stack.prack(now.mono, dialog, None);
                }
                self.response(now, txn, &response, dialog);
            }
            Event::Timeout { txn, dialog } => {
                self.no_response(now, txn, dialog, StatusCode::REQUEST_TIMEOUT);
            }
            Event::TransportFailed { txn, dialog } => {
                self.no_response(now, txn, dialog, StatusCode::SERVICE_UNAVAILABLE);
            }
            Event::Trying { dialog } => self.repeats_no_more(now, dialog),
            Event::SequenceMark { dialog } => self.save_again(dialog),
            Event::SessionRefreshDue { dialog } => self.refresh_session(now, dialog),
            Event::SessionExpired { dialog } => self.lost(now, dialog, "the session was not refreshed"),
            Event::DialogEnded { dialog, reason } => self.dialog_ended(now, dialog, reason),
            // The dialog's end or another answer follows, and only that matters to a call.
            Event::ProvisionalAcknowledged { .. }
            | Event::ProvisionalTimedOut { .. }
            | Event::AnswerTimedOut { .. } => {}
            Event::GlareOver { dialog, .. } => self.glare_over(now, dialog),
        }
    }

    /// What it sent may hold a Contact.
    fn follow_sender(&mut self, event: &Event) {
        if let Event::Request {
            dialog: Some(dialog), ..
        }
        | Event::Response {
            dialog: Some(dialog), ..
        } = event
        {
            self.follow_device(*dialog);
        }
    }

    /// The party took its INVITE back, and the stack answered that.
    fn cancelled(&mut self, now: Now, dialog: DialogKey) {
        let (status, reason) = (StatusCode::REQUEST_TERMINATED, CANCELLED);
        let is_within = self.stack.dialog(dialog).is_some();
        match self.by_dialog.get(&dialog).copied() {
            Some((id, Side::Newcomer)) => self.newcomer_gone(now, id, None),
            // A re-INVITE was cancelled: what stood before stands. A first INVITE takes its dialog along.
            Some((id, Side::Member)) if is_within && self.forget_members_reoffer(now, id) => {}
            Some((id, Side::Member)) => self.member_leaves(now, id, EndedBy::Caller, status, reason),
            Some((id, side)) if is_within && self.forget_reoffer(now, id, side) => {}
            Some((id, Side::Caller)) => self.end(now, id, EndedBy::Caller, status, reason),
            // Their first INVITEs have their answers.
            Some((_, Side::Callee | Side::Transferor)) => {}
            None => self.leaves_door(now, dialog),
        }
    }

    fn request_outside(&mut self, now: Now, txn: ServerTxn, request: &Request, flow: Flow) {
        match request.method {
            Method::Register => self.receive_register(now, txn, request, flow),
            Method::Refer => self.referred_outside(now, txn, request, flow),
            Method::Message => self.receive_message(now, txn, request, flow),
            Method::Options => {
                let ours = request.uri().is_ok_and(|uri| self.routing.is_ours(&uri));
                let status = if ours {
                    StatusCode::OK
                } else {
                    StatusCode::NOT_FOUND
                };
                self.respond(now, txn, Response::new(status));
            }
            _ => self.respond(now, txn, Response::new(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    fn receive_register(&mut self, now: Now, txn: ServerTxn, request: &Request, flow: Flow) {
        let user = match self.registrar.authenticate(now, request) {
            Ok(user) => user,
            Err((response, wrong)) => {
                if wrong {
                    self.wrong_password(flow);
                }
                self.respond(now, txn, response);
                return;
            }
        };
        let random = self.stack.random_token();
        let is_new_way = !self.registrar.is_reached_over(&user, flow);
        let done = self
            .registrar
            .register(now, &user, request, flow, (&self.routing, random));
        if is_new_way && done.response.status.is_success() {
            self.follow_phone(&user, flow);
        }
        self.record_all(now, done.records);
        self.counters.registrations_accepted += u64::from(done.response.status.is_success());
        self.respond(now, txn, done.response);
        if let Some(user) = done.user {
            self.presence_changed(now, &user);
        }
    }

    fn acknowledged(&mut self, now: Now, dialog: DialogKey, request: &Request) {
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else {
            return;
        };
        if let Some(leg) = self.leg_of_dialog(dialog) {
            leg.arrived = None;
        }
        self.heard_again(now, id, dialog);
        if self.reoffer_acknowledged(now, id, side, request) {
            return;
        }
        match side {
            Side::Member => self.member_acknowledged(now, id, request),
            Side::Caller => self.caller_acknowledged(now, id, request),
            Side::Callee | Side::Transferor | Side::Newcomer => {
                let leg = self.call_mut(id).and_then(|call| call.leg_mut(side));
                leg.map(|leg| leg.state.on_acknowledged());
            }
        }
    }

    fn bye(&mut self, now: Now, dialog: DialogKey) {
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else {
            return;
        };
        self.left(now, id, side, StatusCode::REQUEST_TERMINATED, "hung up");
    }

    /// A party is gone. Without one of the two there is no call; who stands aside is not one of the two.
    fn left(&mut self, now: Now, id: CallId, side: Side, status: StatusCode, how: &str) {
        match side {
            Side::Transferor => return self.transferor_gone(now, id),
            Side::Newcomer => return self.newcomer_gone(now, id, None),
            Side::Member => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.leg.state.on_ended();
                }
                self.member_leaves(now, id, EndedBy::Caller, status, &format!("the caller {how}"));
                return;
            }
            Side::Callee if self.transferor_left(now, id) => return,
            Side::Caller | Side::Callee if self.asker_left(now, id, side) => return,
            Side::Caller | Side::Callee => {}
        }
        let Some(call) = self.call_mut(id) else { return };
        if let Some(leg) = call.leg_mut(side) {
            leg.state.on_ended();
        }
        let by = call.ended_by(side);
        let who = match by {
            EndedBy::Caller => "the caller",
            EndedBy::Callee => "the called party",
            EndedBy::System => "somebody",
        };
        self.end(now, id, by, status, &format!("{who} {how}"));
    }

    /// A party is not there any more, though it said nothing.
    pub(super) fn lost(&mut self, now: Now, dialog: DialogKey, reason: &str) {
        match self.by_dialog.get(&dialog).copied() {
            Some((id, Side::Transferor)) => self.transferor_gone(now, id),
            Some((id, Side::Member)) => {
                self.member_leaves(now, id, EndedBy::System, StatusCode::REQUEST_TIMEOUT, reason);
            }
            Some((id, _)) => self.end(now, id, EndedBy::System, StatusCode::REQUEST_TIMEOUT, reason),
            None => {}
        }
    }

    fn dialog_ended(&mut self, now: Now, dialog: DialogKey, reason: EndReason) {
        self.trunk_dialogs.remove(&dialog);
        let Some((id, side)) = self.by_dialog.remove(&dialog) else {
            self.leaves_door(now, dialog);
            return;
        };
        let (status, text) = match reason {
            EndReason::RemoteBye => {
                self.left(now, id, side, StatusCode::REQUEST_TERMINATED, "hung up");
                return;
            }
            EndReason::Unknown => {
                // It has gone, whether its BYE was lost or found nobody.
                self.left(now, id, side, StatusCode::CALL_DOES_NOT_EXIST, "had gone");
                return;
            }
            EndReason::Failed(status) => (status, "the call was not answered in time"),
            EndReason::LocalBye | EndReason::OtherFork | EndReason::NoResponse | EndReason::Forgotten => {
                (StatusCode::REQUEST_TERMINATED, "a dialog ended")
            }
        };
        match side {
            Side::Transferor => self.transferor_gone(now, id),
            Side::Newcomer => self.newcomer_gone(now, id, None),
            Side::Member => self.member_leaves(now, id, EndedBy::System, status, text),
            Side::Caller | Side::Callee => {
                if let Some(leg) = self.call_mut(id).and_then(|call| call.leg_mut(side)) {
                    leg.state.on_ended();
                }
                self.end(now, id, EndedBy::System, status, text);
            }
        }
    }

    fn response(&mut self, now: Now, txn: ClientTxn, response: &Response, dialog: Option<DialogKey>) {
        self.answered(now, txn, response, dialog);
        if response.status.is_final() {
            self.tried.remove(&txn);
        }
    }

    fn answered(&mut self, now: Now, txn: ClientTxn, response: &Response, dialog: Option<DialogKey>) {
        let status = response.status;
        if self.challenged_within(now, txn, response, dialog) {
            return;
        }
        match self.by_client.get(&txn).copied() {
            Some(Purpose::Plain(_)) if status.is_final() => drop(self.by_client.remove(&txn)),
            Some(Purpose::Registration(trunk)) => self.registration_answered(now, trunk, txn, response),
            Some(Purpose::Farewell(trunk)) => self.farewell_answered(now, trunk, txn, response),
            Some(Purpose::Probe(target)) => self.probe_answered(now, target, txn, response),
            Some(Purpose::Branch(id)) => {
                self.heard(now, id);
                if status.is_success() {
                    if let Some(dialog) = dialog {
                        self.branch_answered(now, id, txn, dialog, response);
                    }
                } else if status.is_final() {
                    self.branch_failed(now, id, txn, dialog, response);
                } else if status != StatusCode::TRYING {
                    self.branch_progress(now, id, txn, dialog, response);
                }
            }
            Some(Purpose::Refresh(id, side)) if status.is_final() => {
                self.by_client.remove(&txn);
                if !self.longer_session(now, txn, (id, side), response) {
                    self.refreshed(now, id, side, response, dialog);
                }
            }
            Some(Purpose::Alive(_)) if status.is_final() => drop(self.by_client.remove(&txn)),
            Some(Purpose::Refresh(..) | Purpose::Alive(_) | Purpose::Plain(_)) => {}
            Some(Purpose::Ping(id)) => self.pinged(now, txn, id, response),
            Some(Purpose::Message(id)) => self.message_answered(now, id, txn, response),
            Some(Purpose::Carried(asked)) => self.carried(now, txn, asked, response),
            Some(Purpose::Informed(asked)) => self.informed(now, txn, asked, response),
            None => self.stray_response(now, response, dialog),
        }
    }

    fn branch_failed(
        &mut self,
        now: Now,
        id: CallId,
        txn: ClientTxn,
        dialog: Option<DialogKey>,
        response: &Response,
    ) {
        if response.status == StatusCode::SESSION_INTERVAL_TOO_SMALL
            && let Ok(again) = self.stack.retry_with_session_interval(now.mono, txn, response)
        {
            self.by_client.remove(&txn);
            self.by_client.insert(again, Purpose::Branch(id));
            self.replace_branch(id, txn, again);
            return;
        }
        if let Some(way) = self.calls.get(&id).and_then(|call| call.way) {
            self.asked_to_wait(now, way, response);
        }
        self.does_not_move(dialog);
        if response.status == StatusCode::REQUEST_PENDING && self.moves_later(id, txn) {
            self.by_client.remove(&txn);
            return;
        }
        if self.try_other_profile(now, id, txn, response.status) {
            return;
        }
        if response.status.class() == 3 {
            self.note_redirection(id, txn, response);
        }
        if !self.branch_challenged(now, id, txn, response) {
            self.branch_refused(now, id, txn, response.status);
        }
    }

    /// A 2xx that nobody waits for: another fork of an INVITE that has its answer.
    pub(super) fn stray_response(&mut self, now: Now, response: &Response, dialog: Option<DialogKey>) {
        let invites = response
            .headers
            .cseq()
            .is_ok_and(|cseq| cseq.method == Method::Invite);
        if let (true, true, Some(dialog)) = (invites, response.status.is_success(), dialog) {
            self.hang_up(now, dialog, &Reason::new("SIP", 200, "Call completed elsewhere"));
        }
    }

    fn no_response(&mut self, now: Now, txn: ClientTxn, dialog: Option<DialogKey>, status: StatusCode) {
        self.tried.remove(&txn);
        match self.by_client.get(&txn).copied() {
            Some(Purpose::Plain(_)) => drop(self.by_client.remove(&txn)),
            Some(Purpose::Branch(id)) => self.branch_refused(now, id, txn, status),
            Some(Purpose::Registration(trunk)) => {
                self.by_client.remove(&txn);
                self.registration_failed(now, trunk, status, None);
            }
            Some(Purpose::Farewell(trunk)) => {
                self.by_client.remove(&txn);
                self.registration_ended(now, trunk);
            }
            Some(Purpose::Probe(target)) => {
                self.by_client.remove(&txn);
                self.target_missed(now, target);
            }
            Some(Purpose::Refresh(..) | Purpose::Alive(_)) => {
                self.by_client.remove(&txn);
                if let Some(dialog) = dialog {
                    self.unheard(now, dialog, status);
                }
            }
            Some(Purpose::Ping(id)) => {
                self.by_client.remove(&txn);
                self.ping_missed(now, id);
            }
            Some(Purpose::Message(id)) => self.message_lost(now, id, txn),
            Some(Purpose::Carried(asked)) => self.carried(now, txn, asked, &Response::new(status)),
            Some(Purpose::Informed(asked)) => self.informed(now, txn, asked, &Response::new(status)),
            None => {}
        }
    }
}
