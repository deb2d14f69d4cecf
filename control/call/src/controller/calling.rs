//! A call from its INVITE to its detail record: everything but the ringing of phones.

use proto::mediad::v1 as pb;
use sdp::{
    Answer, Description, LocalSession, LocalTransport, NegotiationError, Selection, assign_payload_types,
};
use sip::{
    header::{Reason, Warning},
    message::{Header, HeaderName, Request, Response, StatusCode},
    stack::{Content, DialogKey, DialogRequest, Flow, ServerTxn},
};
use std::time::Duration;

use super::{CHECK_EVERY, Controller, Due, Now, arrival::Arrival, unix_us};
use crate::{
    call::{Call, CallId, End, Side, Stage},
    domain::{DomainError, Leave, Name, Race},
    journal::{EndedBy, RecordKind},
    leg::{Exchange, Invite, Leg, Offer},
    media::{Endpoint, MediaPlan},
    pool::HostId,
    routing::Destination,
    security::{Security, Srtp, is_safe},
    trunk::TrunkId,
};

impl Controller {
    /// A first INVITE.
    pub(super) fn receive_invite(
        &mut self,
        now: Now,
        txn: ServerTxn,
        request: &Request,
        flow: Flow,
        dialog: DialogKey,
    ) {
        if self.waits_for_host(now, txn, request, flow, dialog) {
            return;
        }
        match self.admit(now, txn, request, flow, dialog) {
            Ok(()) => self.keep_invite(dialog, request, flow),
            Err(refusal) => self.refuse_invite(now, txn, request, *refusal),
        }
    }

    pub(super) fn refuse_invite(&mut self, now: Now, txn: ServerTxn, request: &Request, refusal: Response) {
        self.counters.calls_refused += 1;
        let status = refusal.status;
        // Who is asked for a password sends it again.
        if status != StatusCode::UNAUTHORIZED {
            let reason = "refused after the controller was restarted";
            self.begun_ends(now, request, (EndedBy::System, status), reason);
        }
        self.respond(now, txn, refusal);
    }

    fn admit(
        &mut self,
        now: Now,
        txn: ServerTxn,
        request: &Request,
        flow: Flow,
        dialog: DialogKey,
    ) -> Result<(), Box<Response>> {
        self.has_room()?;
        let Arrival {
            account,
            trunk,
            uri,
            from,
            address,
            max_forwards,
            destination,
        } = self.arrive(now, request, flow)?;
        let security = self.security_of(trunk, account.as_ref(), flow);
        let mut caller = Leg::new(
            Invite::Received(txn),
            address,
            flow.remote.ip(),
            "caller",
            security,
        );
        caller.dialog = Some(dialog);
        caller.user = account;
        caller.trunk = trunk.map(|trunk| self.trunks.get(trunk).name.clone());
        caller.joined_unix_us = unix_us(now.wall);
        let endpoint = self.read_first_offer(request, &mut caller)?;
        let to = String::from_utf8_lossy(uri.as_bytes()).into_owned();
        let sip_call_id =
            String::from_utf8_lossy(&request.headers.call_id().unwrap_or_default()).into_owned();
        self.limit(now, trunk)?;
        if let Destination::Room(room) = &destination {
            let said = (from, to, sip_call_id);
            return self.join_conference(now, room, said, (trunk, None), caller, endpoint);
        }
        let host = self.host_for_call(trunk)?;
        let beginning = self.beginning(now, &sip_call_id, &text(from.uri.as_bytes()));
        let (id, name) = (beginning.id, beginning.name);
        let media = &self.config.media;
        let mut plan = MediaPlan::new(&name, &self.config.controller, media, host);
        plan.put(&caller.endpoint, endpoint);
        let mut call = Call::new(name, destination, caller, plan, beginning.at);
        call.from = from;
        (call.to, call.sip_call_id) = (to, sip_call_id);
        (call.max_forwards, call.check_at) = (max_forwards, now.mono + CHECK_EVERY);
        (call.rx_trunk, call.caller.rx_trunk) = (trunk, trunk);
        call.instance = self.device_of(&uri);
        if let Some(trunk) = trunk {
            self.join_trunk(dialog, trunk);
        }
        call.said = self.said(request);
        self.by_dialog.insert(dialog, (id, Side::Caller));
        if !beginning.is_recorded {
            self.note_started(now, &call);
        }
        self.begin(now, id, call);
        Ok(())
    }

    fn has_room(&self) -> Result<(), Box<Response>> {
        self.is_going_on()?;
        if self.calls.len() + self.members.len() >= self.config.calls.count_max {
            return Err(unavailable("too many calls"));
        }
        Ok(())
    }

    pub(super) fn is_going_on(&self) -> Result<(), Box<Response>> {
        match self.is_stopping {
            true => Err(unavailable("the controller is stopping")),
            false => Ok(()),
        }
    }

    /// A media host; without one the call counts for its trunk no more.
    fn host_for_call(&mut self, trunk: Option<TrunkId>) -> Result<HostId, Box<Response>> {
        let host = self.pool.take();
        if let (None, Some(trunk)) = (&host, trunk) {
            self.trunks.get_mut(trunk).gauge.give_back();
        }
        host.ok_or_else(|| unavailable("no media host"))
    }

    pub(super) fn note_started(&mut self, now: Now, call: &Call) {
        let started = RecordKind::CallStarted {
            call: call.name.clone(),
            sip_call_id: call.sip_call_id.clone(),
            from: text(call.from.uri.as_bytes()),
            to: call.to.clone(),
            queue: call.queue.as_ref().map(ToString::to_string),
            host: call.plan.host().to_string(),
        };
        self.record(now, started);
    }

    pub(super) fn begin(&mut self, now: Now, id: CallId, call: Box<Call>) {
        self.counters.calls_started += 1;
        self.deadlines.insert((call.check_at, Due::Check(id)));
        self.calls.insert(id, call);
        self.foresee_round(id);
        self.send_media(now, id);
    }

    /// Whether the audio of a party that calls is to be encrypted.
    pub(super) fn security_of(&self, trunk: Option<TrunkId>, user: Option<&Name>, flow: Flow) -> Security {
        let trunk = trunk.map(|trunk| &self.trunks.get(trunk).config);
        self.security
            .of(trunk, user.map(|user| &**user), is_safe(flow.transport))
    }

    /// The caller's endpoint, from its offer or from all that we can do.
    pub(super) fn read_first_offer(
        &mut self,
        request: &Request,
        caller: &mut Leg,
    ) -> Result<Endpoint, Box<Response>> {
        if request.body.is_empty() && !caller.security.is_in_vain() {
            let codecs = self.policy.offered(&caller.party(), None, false);
            let formats = assign_payload_types(&codecs, &[]);
            let suites = self.security.offered(caller.security);
            return Ok(Endpoint::offered(&formats, caller.peer, suites));
        }
        let codecs = self.policy.of(&caller.party());
        let (offer, selections, media) = self.read_offer(&request.body, codecs, caller.security)?;
        let offer = Offer::received(offer, request.body.clone());
        caller.exchange = Exchange::Theirs { offer, selections };
        let endpoint = caller.endpoint_for(&media);
        caller.media = Some(media);
        Ok(endpoint)
    }

    /// What becomes of a party's offer: its audio, or why it is refused.
    pub(super) fn read_offer(
        &mut self,
        body: &[u8],
        codecs: Vec<sdp::Codec>,
        security: Security,
    ) -> Result<(Description, Vec<Selection>, sdp::NegotiatedMedia), Box<Response>> {
        if security.is_in_vain() {
            self.counters.srtp_refusals += 1;
            return Err(not_acceptable(
                399,
                "SRTP is required, and its keys would go in clear: call over TLS",
            ));
        }
        let offer = read_description(body)?;
        let selected = sdp::select(&offer, &self.security.capabilities(codecs, security));
        let selections = selected.map_err(|error| {
            let is_about_keys = matches!(
                error,
                NegotiationError::NoCommonEncryption | NegotiationError::EncryptionRequired
            );
            self.counters.srtp_refusals += u64::from(is_about_keys);
            misfit(&error, security)
        })?;
        let media = audio_of(&selections)
            .cloned()
            .ok_or_else(|| misfit(&NegotiationError::NoCommonMedia, security))?;
        self.counters.srtp_keys_in_clear += u64::from(media.sdes.is_some() && !security.keys_are_safe);
        Ok((offer, selections, media))
    }

    /// The caller's endpoint is there: go where the dialled address leads.
    pub(super) fn prepared(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if call.stage.on_prepared() {
            self.proceed(now, id);
        }
    }

    /// Goes where the call's destination is.
    pub(super) fn proceed(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        match call.destination.clone() {
            Destination::User(user) => self.start_round(now, id, user, None),
            Destination::Out(number) => self.go_out(now, id, &number),
            // Who is transferred there is where it was to go: who asked need not wait for an agent, and may be one.
            Destination::Queue(queue) => {
                if self.enqueue(now, id, &queue, 0) {
                    self.transfer_done(now, id);
                }
            }
            Destination::Menu(menu) => {
                self.enter_menu(now, id, &menu);
                self.transfer_done(now, id);
            }
            Destination::Room(room) => self.enter_room(now, id, &room),
        }
    }

    /// The caller waits in a queue. `priority` is 0 for those who come, more for those who come back. False: the queue does
    /// not take it.
    pub(super) fn enqueue(&mut self, now: Now, id: CallId, queue: &Name, priority: u32) -> bool {
        let caller = self.calls.get(&id).and_then(|call| call.caller.user.clone());
        match self.domain.enqueue_from(now.mono, queue, priority, caller) {
            Ok(entry) => {
                self.by_entry.insert(entry, id);
                if let Some(call) = self.calls.get_mut(&id) {
                    call.entry = Some(entry);
                    (call.queue, call.queued_turned) = (Some(queue.clone()), call.is_turned);
                    if call.displaced.is_some() || call.plan.is_away() {
                        // No agent is rung for who could not be heard.
                        self.domain.set_aside(now.mono, entry);
                    }
                }
                if self.config.calls.answer_before_music {
                    self.answer_early(now, id);
                } else {
                    self.ring_back(now, id);
                }
                true
            }
            Err(error) => {
                let reason = error.to_string();
                let status = match error {
                    DomainError::UnknownQueue(_) | DomainError::UnknownAgent(_) => {
                        StatusCode::TEMPORARILY_UNAVAILABLE
                    }
                    // As a full conference: 503 would say that this whole server takes no calls.
                    DomainError::QueueFull { .. } => StatusCode::BUSY_HERE,
                };
                self.nobody_came(now, id, EndedBy::System, status, &reason);
                false
            }
        }
    }

    /// The caller is answered though nobody is there yet, and hears music, or a question, once the media host plays it.
    pub(super) fn answer_early(&mut self, now: Now, id: CallId) {
        let is_open = self
            .calls
            .get(&id)
            .is_some_and(|call| call.caller.state.is_pending());
        if !is_open {
            self.send_media(now, id);
            return;
        }
        let Some((_, description)) = self.description_for_caller(now, id) else {
            return;
        };
        self.describe_caller(now, id, with_description(&description));
        self.send_media(now, id);
    }

    /// Sends the caller its 200.
    fn describe_caller(&mut self, now: Now, id: CallId, response: Response) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let (Invite::Received(txn), true) = (call.caller.invite, call.caller.state.on_answered()) {
            call.caller.is_described = true;
            self.respond(now, txn, response);
        }
    }

    /// Our answer to the caller's offer, or (true) an offer to a caller who made none. Without either the call ends.
    pub(super) fn description_for_caller(&mut self, now: Now, id: CallId) -> Option<(bool, Description)> {
        let session = self.new_session_id();
        let call = self.calls.get_mut(&id)?;
        let (is_late, description) = match call.caller.exchange {
            Exchange::Theirs { .. } => (false, answer_of(call, Side::Caller, session)),
            Exchange::None | Exchange::Ours { .. } => (true, self.late_offer(id, session)),
        };
        if description.is_none() {
            let (status, reason) = (StatusCode::SERVER_INTERNAL_ERROR, "no description for the caller");
            self.end(now, id, EndedBy::System, status, reason);
        }
        Some((is_late, description?))
    }

    /// The caller hears its own phone's ringback.
    pub(super) fn ring_back(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let (Invite::Received(txn), true) = (call.caller.invite, call.caller.state.on_ringing()) {
            self.respond(now, txn, Response::new(StatusCode::RINGING));
        }
    }

    /// Both ends are made and joined (or, for a late offer, made): the caller gets its 200, unless it has it already.
    pub(super) fn connect(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        if call.caller.state.is_confirmed() {
            // Answered before: with music, or because the call was transferred.
            if call.caller.media.is_some() {
                self.joined(now, id);
            } else if let Some(call) = self.calls.get_mut(&id) {
                call.stage.on_late_offer();
            }
            return;
        }
        let Some((is_late, description)) = self.description_for_caller(now, id) else {
            return;
        };
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if is_late {
            call.stage.on_late_offer();
        } else {
            self.joined(now, id);
        }
        self.describe_caller(now, id, with_description(&description));
    }

    fn late_offer(&mut self, id: CallId, session: u64) -> Option<Description> {
        let call = self.calls.get_mut(&id)?;
        let callee = call.callee.as_ref().and_then(|leg| leg.media.as_ref());
        let chosen = callee
            .and_then(|media| media.formats.first())
            .map(|format| &format.codec);
        let party = call.caller.party();
        // The numbers are those the endpoint was made with.
        let numbered = assign_payload_types(&self.policy.offered(&party, None, false), &[]);
        let preferred = self.policy.offered(&party, chosen, false);
        let fits = |codec: &sdp::Codec| {
            let same = |format: &&sdp::Format| format.codec.matches(codec);
            numbered.iter().find(same).cloned()
        };
        let formats = preferred.iter().filter_map(fits).collect();
        let transport = call.plan.local(&call.caller.endpoint)?;
        let address = transport.address;
        let media = call.caller.offered_audio(formats, transport);
        let session = call
            .caller
            .session
            .get_or_insert_with(|| LocalSession::new(session, address));
        let offer = sdp::write_offer(&[media], session);
        call.caller.exchange = Exchange::Ours {
            offer: offer.clone().into(),
        };
        Some(offer)
    }

    /// The two are connected.
    pub(super) fn joined(&mut self, now: Now, id: CallId) {
        let is_first = self.calls.get_mut(&id).is_some_and(|call| {
            let is_joined = call.caller.media.is_some() && call.stage.on_joined();
            if is_joined {
                call.menu = None;
            }
            is_joined && call.answered.is_none()
        });
        if is_first {
            self.note_answered(now, id);
        }
    }

    fn note_answered(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.answered = Some(now.mono);
        call.answered_unix_us = Some(unix_us(now.wall));
        let user = call.callee.as_ref().and_then(|leg| leg.user.as_ref());
        let record = RecordKind::CallAnswered {
            call: call.name.clone(),
            user: user.map_or_else(String::new, |user| user.to_string()),
        };
        self.counters.calls_answered += 1;
        self.record(now, record);
    }

    /// The caller acknowledged our 200.
    pub(super) fn caller_acknowledged(&mut self, now: Now, id: CallId, request: &Request) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let is_late = matches!(call.caller.exchange, Exchange::Ours { .. }) && call.caller.media.is_none();
        if !call.caller.state.on_acknowledged() || !is_late || call.stage == Stage::Ended {
            return;
        }
        match self.take_answer(id, Side::Caller, &request.body) {
            Ok(()) => self.settle(now, id),
            Err(reason) => self.end(now, id, EndedBy::System, StatusCode::NOT_ACCEPTABLE_HERE, &reason),
        }
    }

    /// Reads a party's answer to our offer into its endpoint.
    pub(super) fn take_answer(&mut self, id: CallId, side: Side, body: &[u8]) -> Result<(), String> {
        let call = self.calls.get_mut(&id).ok_or("the call is over")?;
        let leg = call.leg_mut(side).ok_or("the party is gone")?;
        let media = read_answer(leg, body)?;
        let endpoint = leg.endpoint_for(&media);
        leg.media = Some(media);
        let name = leg.endpoint.clone();
        call.plan.put(&name, endpoint);
        Ok(())
    }

    /// Ends a call, whatever it is doing. Only the first to ask does anything.
    pub(super) fn end(&mut self, now: Now, id: CallId, by: EndedBy, status: StatusCode, reason: &str) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if !call.stage.on_ended() {
            return;
        }
        let is_failure = by == EndedBy::System && !status.is_success();
        let status = if call.answered.is_some() {
            StatusCode::OK
        } else {
            status
        };
        // ITU-T Q.850: normal call clearing, temporary failure.
        let cause = match (status.is_success(), is_failure) {
            (true, false) => Reason::new("Q.850", 16, reason),
            (true, true) => Reason::new("Q.850", 41, reason),
            (false, _) => Reason::new("SIP", status.code(), reason),
        };
        let end = End {
            by,
            status,
            reason: reason.to_owned(),
            at_unix_us: unix_us(now.wall),
        };
        call.ended = Some((now.mono, end));
        call.plan.end();
        let goes_to = call.goes_to.take();
        let record = RecordKind::CallEnded {
            call: call.name.clone(),
            by,
            status: status.code(),
            reason: reason.to_owned(),
        };
        self.counters.calls_ended += 1;
        self.record(now, record);
        let told = if status.is_success() {
            StatusCode::REQUEST_TERMINATED
        } else {
            status
        };
        self.tell_inviter(now, id, told);
        let leave = match by {
            EndedBy::Caller | EndedBy::Callee => Leave::GaveUp,
            EndedBy::System => Leave::TurnedAway,
        };
        self.leave_domain(now, id, leave);
        self.leave_trunks(id);
        self.end_legs(now, id, status, &cause);
        self.send_media(now, id);
        if let Some(to) = goes_to {
            let reason = Reason::new("SIP", 487, "It hung up");
            self.give_up_round(now, to, &reason, StatusCode::TEMPORARILY_UNAVAILABLE);
        }
    }

    fn leave_domain(&mut self, now: Now, id: CallId, why: Leave) {
        for side in [Side::Caller, Side::Callee, Side::Transferor, Side::Newcomer] {
            self.release(now, id, side);
        }
        let entry = self.calls.get_mut(&id).and_then(|call| call.entry.take());
        if let Some(entry) = entry {
            self.by_entry.remove(&entry);
            // Lost is no news: somebody else ended it.
            let _lost: Race<()> = self.domain.leave(now.mono, entry, why);
        }
    }

    /// The agent of this leg is free again.
    pub(super) fn release(&mut self, now: Now, id: CallId, side: Side) {
        let leg = self.calls.get_mut(&id).and_then(|call| call.leg_mut(side));
        if let Some(offer) = leg.and_then(|leg| leg.conversation.take()) {
            self.by_offer.remove(&offer);
            let _lost: Race<()> = self.domain.release(now.mono, offer);
        }
    }

    fn end_legs(&mut self, now: Now, id: CallId, status: StatusCode, cause: &Reason) {
        self.cancel_round(
            now,
            id,
            &Reason::new("SIP", 487, "Caller gone"),
            StatusCode::REQUEST_TERMINATED,
        );
        self.end_transfer(now, id, status);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let mut goodbyes = Vec::new();
        let unheard =
            [Some(&mut call.caller), call.callee.as_mut()].map(|leg| leg.and_then(|leg| leg.unheard.take()));
        let (was_confirmed, invite) = (call.caller.state.is_confirmed(), call.caller.invite);
        let was_open = call.caller.state.on_ended();
        if was_confirmed {
            goodbyes.extend(call.caller.dialog);
        }
        if let Some(callee) = &mut call.callee
            && callee.state.is_confirmed()
        {
            callee.state.on_ended();
            goodbyes.extend(callee.dialog);
        }
        if let (Invite::Received(txn), true, false) = (invite, was_open, was_confirmed) {
            let mut response = Response::new(if status.is_success() {
                StatusCode::REQUEST_TERMINATED
            } else {
                status
            });
            if status == StatusCode::SERVICE_UNAVAILABLE {
                let _digits = response.headers.set(HeaderName::RetryAfter, "5");
            }
            self.respond(now, txn, response);
        }
        for dialog in goodbyes {
            let bye = DialogRequest::new(sip::message::Method::Bye).with_value(HeaderName::Reason, cause);
            self.send_plain(now, dialog, bye);
        }
        // Who had no answer from the process before does not know what our BYE is about.
        for txn in unheard.into_iter().flatten() {
            self.respond(now, txn, Response::new(StatusCode::REQUEST_TERMINATED));
        }
    }

    /// Everything is over and counted: the detail record is written and the call forgotten.
    pub(super) fn finish(&mut self, now: Now, id: CallId, stats: &[pb::EndpointStats]) {
        if self.awaits_recording(now, id, stats) {
            return;
        }
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        self.deadlines.remove(&(call.check_at, Due::Check(id)));
        if let Some(until) = call.ring_until {
            self.deadlines.remove(&(until, Due::Ring(id)));
        }
        if let Some(at) = call.next_devices_at {
            self.deadlines.remove(&(at, Due::NextDevices(id)));
        }
        if let Some(until) = call.menu.as_ref().and_then(|menu| menu.until) {
            self.deadlines.remove(&(until, Due::Menu(id)));
        }
        for dialog in call.all_dialogs() {
            self.by_dialog.remove(&dialog);
        }
        self.pool.give_back(call.plan.host());
        let detail = super::detail::detail(&call, stats, &self.trunks);
        self.record(now, RecordKind::CallDetail(Box::new(detail)));
    }

    /// Nothing may be stuck: a call that lost its dialogs, its place in the queue or its conversation, or that is too
    /// long, ends.
    pub(super) fn check(&mut self, now: Now, id: CallId) {
        self.check_member(now, id);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.check_at = now.mono + CHECK_EVERY;
        self.deadlines.insert((call.check_at, Due::Check(id)));
        let call = &self.calls[&id];
        if call.stage == Stage::Ended {
            return;
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.plan.forgive();
            self.send_media(now, id);
        }
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        // Who sends nothing may be on hold, or gone.
        let both = [Side::Caller, Side::Callee]
            .into_iter()
            .filter_map(|side| call.leg(side));
        let silent = both.filter(|leg| leg.is_silent && leg.state.is_confirmed());
        let silent: Vec<DialogKey> = silent.filter_map(|leg| leg.dialog).collect();
        for dialog in silent {
            self.ask_whether_there(now, id, dialog);
        }
        let call = &self.calls[&id];
        let longest = Duration::from_secs(self.config.calls.duration_max_s);
        let lost_dialog = call.dialogs().any(|dialog| self.stack.dialog(dialog).is_none());
        let lost_place = call.entry.is_some_and(|entry| !self.domain.is_waiting(entry));
        let sides = [Side::Caller, Side::Callee, Side::Transferor];
        let legs = sides.into_iter().filter_map(|side| call.leg(side));
        let conversations: Vec<_> = legs.filter_map(|leg| leg.conversation).collect();
        let mut swept = false;
        // Each is confirmed, whatever becomes of the others.
        for offer in conversations {
            swept |= self.domain.still_talking(now.mono, offer) == Race::Lost;
        }
        let reason = if now.mono.saturating_duration_since(self.calls[&id].started) >= longest {
            "the call is too long"
        } else if lost_dialog {
            "a dialog is gone"
        } else if lost_place {
            "the place in the queue is gone"
        } else if swept {
            "the conversation is not known any more"
        } else {
            return;
        };
        self.end(now, id, EndedBy::System, StatusCode::SERVER_TIMEOUT, reason);
    }

    /// Answers; the stack may have answered before us, and then that stands.
    pub(super) fn respond(&mut self, now: Now, txn: ServerTxn, response: Response) {
        let _answered = self.stack.respond(now.mono, txn, response);
    }

    /// A number for the origin line of a description.
    pub(super) fn new_session_id(&mut self) -> u64 {
        self.stack.random_number()
    }
}

/// Our answer to the offer of a party.
pub(super) fn answer_of(call: &mut Call, side: Side, session: u64) -> Option<Description> {
    let endpoint = call.leg_mut(side)?.endpoint.clone();
    let local = call.plan.local(&endpoint)?;
    let answer = answer_leg(call.leg_mut(side)?, &local, session)?;
    call.plan.follow(&endpoint);
    Some(answer)
}

/// As [`answer_of`], where `local` is where its endpoint receives.
pub(super) fn answer_leg(leg: &mut Leg, local: &LocalTransport, session: u64) -> Option<Description> {
    let Exchange::Theirs { offer, selections } = &leg.exchange else {
        return None;
    };
    let answer = |selection: &Selection| match selection {
        Selection::Audio(_) => Answer::Audio(local),
        Selection::Opaque | Selection::Rejected => Answer::Rejected,
    };
    let answers: Vec<Answer<'_>> = selections.iter().map(answer).collect();
    let session = leg
        .session
        .get_or_insert_with(|| LocalSession::new(session, local.address));
    sdp::write_answer(offer, selections, &answers, session).ok()
}

/// The party's answer to the offer it was sent.
pub(super) fn read_answer(leg: &Leg, body: &[u8]) -> Result<sdp::NegotiatedMedia, String> {
    let Exchange::Ours { offer } = &leg.exchange else {
        return Err("no offer of ours is outstanding".to_owned());
    };
    if body.is_empty() {
        return Err("the answer holds no description".to_owned());
    }
    let answer = Description::parse(body).map_err(|error| error.to_string())?;
    let agreed = sdp::apply_answer(offer, &answer).map_err(|error| error.to_string())?;
    agreed
        .into_iter()
        .flatten()
        .next()
        .ok_or_else(|| "the answer refuses the audio".to_owned())
}

pub(super) fn read_description(body: &[u8]) -> Result<Description, Box<Response>> {
    Description::parse(body).map_err(|error| {
        let mut response = Response::new(StatusCode::BAD_REQUEST);
        response.set_reason(&error.to_string());
        Box::new(response)
    })
}

pub(super) fn audio_of(selections: &[Selection]) -> Option<&sdp::NegotiatedMedia> {
    selections.iter().find_map(|selection| match selection {
        Selection::Audio(media) => Some(&**media),
        Selection::Opaque | Selection::Rejected => None,
    })
}

pub(super) fn with_description(description: &Description) -> Response {
    described(StatusCode::OK, description)
}

pub(super) fn described(status: StatusCode, description: &Description) -> Response {
    let mut response = Response::new(status);
    put_content(&mut response, Content::sdp(description.text()));
    response
}

fn put_content(response: &mut Response, content: Content) {
    // The type is our own text, which holds no line break.
    if let Ok(field) = Header::new(HeaderName::ContentType, &content.content_type) {
        response.headers.set_field(field);
    }
    response.body = content.body;
}

fn misfit(error: &NegotiationError, security: Security) -> Box<Response> {
    match (error, security.srtp) {
        (NegotiationError::EncryptionRequired, _) => {
            not_acceptable(399, "SRTP is required: offer RTP/SAVP with a=crypto")
        }
        (NegotiationError::NoCommonEncryption, Srtp::Off) => not_acceptable(399, "SRTP is switched off here"),
        (NegotiationError::NoCommonEncryption, Srtp::Optional | Srtp::Required) => {
            not_acceptable(399, "No common SRTP suite with its key in a=crypto")
        }
        _ => not_acceptable(305, "Incompatible media format"),
    }
}

/// RFC 3261 §21.4.26, with the reason for people.
fn not_acceptable(code: u16, reason: &str) -> Box<Response> {
    let mut response = Response::new(StatusCode::NOT_ACCEPTABLE_HERE);
    let warning = format!("{code} controld \"{reason}\"");
    if let Ok(warning) = Warning::parse(&bytes::Bytes::from(warning)) {
        response.headers.push_value(HeaderName::Warning, &warning);
    }
    Box::new(response)
}

pub(super) fn unavailable(reason: &str) -> Box<Response> {
    let mut response = Response::new(StatusCode::SERVICE_UNAVAILABLE);
    response.set_reason(&format!("Service Unavailable: {reason}"));
    let _digits = response.headers.set(HeaderName::RetryAfter, "5");
    Box::new(response)
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
