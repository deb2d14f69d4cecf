//! Answering requests.

use bytes::Bytes;
use std::time::Instant;

use super::dialogs::Unacknowledged;
use super::event::{EndReason, ServerTxn, StackError};
use super::server::{Open, Reliable, ServerMachine};
use super::{DialogTimer, Due, ServerTimer, Stack};
use crate::dialog::{DialogState, SessionAnswer};
use crate::header::{OptionTags, SessionExpires};
use crate::message::{Header, HeaderName, Method, Response, StatusCode};

impl Stack {
    /// Answers a request, provisionally or finally. [`Response::new`] with what is special is enough: the stack adds
    /// every field that is missing and that RFC 3261 asks for (Via, From, To with its tag, Call-ID, CSeq, Record-Route,
    /// Contact, Allow, Supported, Session-Expires).
    ///
    /// A provisional answer to an INVITE that requires 100rel is sent reliably by itself.
    ///
    /// # Errors
    /// [`StackError::Answered`]: there is a final answer already, perhaps from the stack (cancelled, timed out).
    pub fn respond(&mut self, now: Instant, txn: ServerTxn, response: Response) -> Result<(), StackError> {
        let open = self.unanswered(txn)?;
        let status = response.status;
        if status.is_final() {
            return self.respond_finally(now, txn.0, response);
        }
        if open.requires_100rel && status != StatusCode::TRYING {
            return self.respond_reliable(now, txn, response);
        }
        let response = self.complete(txn.0, response);
        self.send_provisional(now, txn.0, &response);
        Ok(())
    }

    /// Answers an INVITE provisionally, so that the peer acknowledges it by PRACK (RFC 3262). When the peer does not
    /// know 100rel, it is sent as an ordinary one; while another is not acknowledged, it waits for its turn.
    ///
    /// # Errors
    /// [`StackError::Answered`] as for [`Stack::respond`]; [`StackError::Overloaded`] when too many wait;
    /// [`StackError::WrongState`] for a final status, for 100, or for a request that is no first INVITE.
    pub fn respond_reliable(
        &mut self,
        now: Instant,
        txn: ServerTxn,
        response: Response,
    ) -> Result<(), StackError> {
        let open = self.unanswered(txn)?;
        let status = response.status;
        if open.method != Method::Invite || status.is_final() || status == StatusCode::TRYING {
            return Err(StackError::WrongState);
        }
        if !open.supports_100rel {
            let response = self.complete(txn.0, response);
            self.send_provisional(now, txn.0, &response);
            return Ok(());
        }
        // Random, and far enough from the end of the range that counting up never wraps.
        let first = u32::try_from(self.random.up_to(0x0fff_ffff)).unwrap_or(0) + 1;
        let open = self.open_mut(txn.0).ok_or(StackError::Answered)?;
        let reliable = open.reliable.get_or_insert_default();
        match reliable.sender.push(response, || first) {
            Err(_) => Err(StackError::Overloaded),
            Ok(None) => Ok(()),
            Ok(Some((rseq, response))) => {
                self.send_reliable(now, txn.0, rseq, response);
                Ok(())
            }
        }
    }

    fn unanswered(&self, txn: ServerTxn) -> Result<&Open, StackError> {
        let server = self.servers.get(&txn.0).filter(|server| !server.answered);
        let open = server.and_then(|server| server.open.as_deref());
        open.ok_or(StackError::Answered)
    }

    fn send_provisional(&mut self, now: Instant, id: u64, response: &Response) {
        let wire = response.to_bytes();
        self.count_response_sent(response);
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        server.last = Some(wire);
        let (is_invite, actions) = match &mut server.machine {
            ServerMachine::Invite(machine) => (true, machine.on_send_provisional()),
            ServerMachine::NonInvite(machine) => (false, machine.on_send_provisional()),
        };
        let dialog = server.dialog;
        self.run_server(now, id, actions);
        if !is_invite {
            return;
        }
        self.timers.start(
            Due::Server(id, ServerTimer::Refresh),
            now + super::server::REFRESH_EVERY,
        );
        let entry = dialog.and_then(|dialog| self.dialogs.get_mut(&dialog));
        if let Some(entry) = entry
            && response.status != StatusCode::TRYING
            && entry.dialog.state == DialogState::Invited
        {
            entry.dialog.state = DialogState::Early;
        }
    }

    fn send_reliable(&mut self, now: Instant, id: u64, rseq: u32, response: Response) {
        let mut response = self.complete(id, response);
        add_tag(&mut response, HeaderName::Require, "100rel");
        let field = Header::from_typed(HeaderName::RSeq, rseq.to_string());
        response.headers.set_field(field);
        self.send_provisional(now, id, &response);
        let t1 = self.config.timing.t1;
        let give_up = self.config.timing.give_up();
        let wire = self.servers.get(&id).and_then(|server| server.last.clone());
        if let Some(open) = self.open_mut(id)
            && let Some(reliable) = open.reliable.as_deref_mut()
        {
            *reliable = Reliable {
                sender: std::mem::take(&mut reliable.sender),
                wire: wire.unwrap_or_default(),
                interval: t1,
                has_body: !response.body.is_empty(),
            };
            self.timers
                .start(Due::Server(id, ServerTimer::Reliable), now + t1);
            self.timers
                .start(Due::Server(id, ServerTimer::ReliableGiveUp), now + give_up);
        }
    }

    /// After a PRACK: the next reliable response, or the 2xx that waited.
    pub(super) fn continue_reliable(&mut self, now: Instant, id: u64) {
        let Some(sender) = self.reliable_sender(id) else {
            return;
        };
        if let Some(response) = sender.next_waiting() {
            // Nothing is outstanding now, so that this one goes at once.
            if let Ok(Some((rseq, response))) = sender.push(response, || 1) {
                self.send_reliable(now, id, rseq, response);
            }
        } else if let Some(response) = sender.take_final() {
            self.finish(now, id, &response);
        }
    }

    fn reliable_sender(&mut self, id: u64) -> Option<&mut crate::dialog::ReliableSender> {
        let reliable = self.open_mut(id)?.reliable.as_mut();
        reliable.map(|reliable| &mut reliable.sender)
    }

    fn respond_finally(&mut self, now: Instant, id: u64, response: Response) -> Result<(), StackError> {
        let response = self.complete(id, response);
        let is_success = response.status.is_success();
        let server = self.servers.get_mut(&id).ok_or(StackError::Answered)?;
        server.answered = true;
        let open = server.open.as_deref_mut().filter(|_| is_success);
        if let Some(reliable) = open.and_then(|open| open.reliable.as_mut())
            && reliable.sender.outstanding().is_some()
        {
            reliable.sender.hold_final(response);
            return Ok(());
        }
        self.finish(now, id, &response);
        Ok(())
    }

    /// An answer of the stack's own; nothing when there is one already.
    pub(super) fn answer_own(&mut self, now: Instant, id: u64, status: StatusCode) {
        self.finish_own(now, id, Response::new(status));
    }

    pub(super) fn finish_own(&mut self, now: Instant, id: u64, response: Response) {
        let response = self.complete(id, response);
        let is_held = self.holds_answer(id);
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        if server.answered && !is_held {
            return;
        }
        server.answered = true;
        self.finish(now, id, &response);
    }

    /// A 2xx waits for a PRACK: it has not been sent, and can still be replaced by a refusal.
    pub(super) fn holds_answer(&self, id: u64) -> bool {
        let open = self.servers.get(&id).and_then(|server| server.open.as_ref());
        let reliable = open.and_then(|open| open.reliable.as_ref());
        reliable.is_some_and(|reliable| reliable.sender.holds_final())
    }

    /// Sends a final response and does what follows from it.
    fn finish(&mut self, now: Instant, id: u64, response: &Response) {
        let wire = response.to_bytes();
        self.count_response_sent(response);
        let status = response.status;
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        // What is left only absorbs repetitions.
        let Some(open) = server.open.take() else { return };
        server.last = Some(wire.clone());
        let actions = match &mut server.machine {
            ServerMachine::Invite(machine) if status.is_success() => machine.on_send_success(&server.path),
            ServerMachine::Invite(machine) => machine.on_send_failure(&server.path),
            ServerMachine::NonInvite(machine) => machine.on_send_final(&server.path),
        };
        let dialog = server.dialog;
        self.run_server(now, id, actions);
        for timer in [
            ServerTimer::Answer,
            ServerTimer::Reliable,
            ServerTimer::ReliableGiveUp,
            ServerTimer::Refresh,
        ] {
            self.timers.stop(Due::Server(id, timer));
        }
        let Some(dialog) = dialog else { return };
        match open.method {
            Method::Invite if status.is_success() => self.invite_accepted(now, id, dialog, &open, wire),
            Method::Invite => self.invite_refused(id, dialog, open.initial, status),
            Method::Update => {
                if let Some(entry) = self.dialogs.get_mut(&dialog) {
                    entry.dialog.offers.update_received = false;
                }
                if status.is_success() {
                    self.agree_session_as_uas(now, open.session, dialog);
                }
            }
            Method::Refer if status.is_success() => {
                if let Some(entry) = self.dialogs.get_mut(&dialog).filter(|_| open.subscribes) {
                    entry.subscriptions = entry.subscriptions.saturating_add(1);
                }
            }
            // One that was to be made for its subscription.
            Method::Refer => self.settle(dialog),
            _ => {}
        }
    }

    fn invite_accepted(&mut self, now: Instant, id: u64, dialog: u64, open: &Open, wire: Bytes) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        let reply = server.reply.clone();
        // The dialog repeats it.
        server.last = None;
        let timing = self.config.timing;
        let Some(entry) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        entry.invite_server = None;
        entry.dialog.offers.invite_received = false;
        entry.dialog.offers.offer_received = false;
        if matches!(entry.dialog.state, DialogState::Invited | DialogState::Early) {
            entry.dialog.state = DialogState::Confirmed;
        }
        // RFC 3261 §13.3.1.4: repeated whatever the transport is, from T1 up to T2, until the ACK comes.
        entry.unacknowledged = Some(Unacknowledged {
            cseq: open.cseq,
            wire,
            reply,
            interval: timing.t1,
        });
        self.timers
            .start(Due::Dialog(dialog, DialogTimer::Repeat2xx), now + timing.t1);
        self.timers.start(
            Due::Dialog(dialog, DialogTimer::AckGiveUp),
            now + timing.give_up(),
        );
        self.agree_session_as_uas(now, open.session, dialog);
    }

    fn invite_refused(&mut self, id: u64, dialog: u64, initial: bool, status: StatusCode) {
        let Some(entry) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        if entry.invite_server == Some(id) {
            entry.invite_server = None;
        }
        entry.dialog.offers.invite_received = false;
        entry.dialog.offers.offer_received = false;
        if initial && entry.dialog.state != DialogState::Ending {
            self.remove_dialog(dialog, EndReason::Failed(status));
        }
    }

    fn agree_session_as_uas(&mut self, now: Instant, answer: SessionAnswer, dialog: u64) {
        if let Some(entry) = self.dialogs.get_mut(&dialog) {
            entry.dialog.session.agree_as_uas(answer);
        }
        self.start_session_timer(now, dialog);
    }

    /// Adds what is missing in a response.
    fn complete(&self, id: u64, mut response: Response) -> Response {
        let Some(server) = self.servers.get(&id) else {
            return response;
        };
        let Some(open) = server.open.as_deref() else {
            return response;
        };
        if !response.headers.contains(HeaderName::Via) {
            let mut headers = open.skeleton.headers.clone();
            for field in &response.headers {
                headers.push_field(field.clone());
            }
            response.headers = headers;
        }
        let status = response.status;
        if status == StatusCode::TRYING {
            return response;
        }
        if open.initial {
            response.set_to_tag(&String::from_utf8_lossy(&server.to_tag));
        }
        let is_invite = open.method == Method::Invite;
        let keeps = status.code() < 300;
        let headers = &mut response.headers;
        // RFC 3261 §12.1.1; RFC 3515 §2.4.4 for a REFER outside of dialogs.
        let is_refer = open.method == Method::Refer;
        let makes_dialog = open.initial && (is_invite || (is_refer && server.dialog.is_some()));
        if makes_dialog && keeps && !headers.contains(HeaderName::RecordRoute) {
            for field in &open.record_routes {
                headers.push_field(field.clone());
            }
        }
        let refreshes = is_invite || open.method == Method::Update;
        if is_refer && status.is_success() && !open.subscribes && !headers.contains(HeaderName::ReferSub) {
            // RFC 4488 §4.
            headers.push_field(Header::from_typed(HeaderName::ReferSub, b"false"));
        }
        if (refreshes || makes_dialog) && keeps && !headers.contains(HeaderName::Contact) {
            let contact = server.dialog.and_then(|dialog| self.dialogs.get(&dialog));
            if let Some(entry) = contact {
                headers.push_field(Header::from_typed(HeaderName::Contact, &entry.dialog.contact));
            }
        }
        if keeps && (refreshes || open.method == Method::Options) {
            self.name_capabilities(headers);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED && !headers.contains(HeaderName::Allow) {
            // RFC 3261 §21.4.6 MUST: those that are.
            let methods = self.config.methods.iter();
            let others = methods.filter(|method| **method != open.method);
            let names: Vec<&str> = others.map(Method::as_str).collect();
            headers.push_field(Header::from_typed(HeaderName::Allow, names.join(", ")));
        }
        if refreshes && status.is_success() {
            write_session(&mut response, open.session);
        }
        self.write_server_name(&mut response);
        response
    }
}

fn write_session(response: &mut Response, session: SessionAnswer) {
    if let SessionAnswer::Agreed {
        interval,
        refresher,
        require,
    } = session
    {
        let value = SessionExpires {
            seconds: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX),
            refresher: Some(refresher),
        };
        response.headers.set_value(HeaderName::SessionExpires, &value);
        if require {
            add_tag(response, HeaderName::Require, "timer");
        }
    }
}

fn add_tag(response: &mut Response, name: HeaderName, tag: &'static str) {
    let present = match name {
        HeaderName::Require => response.headers.require(),
        _ => response.headers.supported(),
    };
    if !present.is_ok_and(|tags| tags.contains(tag)) {
        response.headers.push_value(name, &OptionTags::new(&[tag]));
    }
}
