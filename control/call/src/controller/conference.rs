//! Joining and leaving conferences. A member's call is its own: it has a record as every call, and no counterpart.

use proto::mediad::v1 as pb;
use sdp::{Description, LocalSession, assign_payload_types};
use sip::{
    header::{NameAddr, Reason},
    message::{HeaderName, Method, Request, Response, StatusCode},
    stack::{Content, DialogKey, DialogRequest, ServerTxn},
};
use std::time::{Duration, Instant};

use super::{
    CHECK_EVERY, ConferenceLive, Controller, Due, MemberLive, Now, Purpose,
    calling::{answer_leg, read_answer, text, with_description},
    detail::media_detail,
    live::{display_name, ms},
    message::info_refusal,
    unix_us,
    within_dialog::{digits_of, take_back},
};
use crate::{
    call::{CallId, End, Side},
    cdr::{CallDetail, CallOrigin, LegDetail},
    conference::{Conference, Member, MemberStage, scene},
    domain::Name,
    journal::{EndedBy, RecordKind},
    leg::{Exchange, Invite, Leg, LegState},
    media::{Applied, Endpoint, MediaPlan},
    trunk::{TargetId, TrunkId, Trunks},
};

impl Controller {
    /// Somebody dialled a room: the first one makes it. Its trunk, if it came by one, counts it already.
    pub(super) fn join_conference(
        &mut self,
        now: Now,
        room: &Name,
        (from, to, sip_call_id): (NameAddr, String, String),
        (rx_trunk, way): (Option<TrunkId>, Option<TargetId>),
        mut leg: Leg,
        endpoint: Endpoint,
    ) -> Result<(), Box<Response>> {
        let conference = self.conference_for(now, room);
        if conference.is_err() {
            self.trunks.release(rx_trunk, way);
        }
        let conference = conference?;
        let beginning = self.beginning(now, &sip_call_id, &text(from.uri.as_bytes()));
        let (id, name) = (beginning.id, beginning.name);
        leg.endpoint = format!("member-{}", id.0);
        let found = self
            .conferences
            .get_mut(&conference)
            .expect("found or made above");
        found.plan.put(&leg.endpoint, endpoint);
        found.members.insert(id);
        self.counters.calls_started += 1;
        if let Some(dialog) = leg.dialog {
            self.by_dialog.insert(dialog, (id, Side::Member));
            // RFC 4579 §5.1: so that a phone knows that it talks to a room.
            self.stack.add_contact_param(dialog, "isfocus");
            if let Some(trunk) = rx_trunk.or(way.map(|way| way.trunk)) {
                self.join_trunk(dialog, trunk);
            }
        }
        let check_at = now.mono + CHECK_EVERY;
        self.deadlines.insert((check_at, Due::Check(id)));
        let member = Member {
            name,
            stage: MemberStage::Preparing,
            conference,
            from,
            to,
            sip_call_id,
            leg,
            rx_trunk,
            way,
            is_muted: false,
            gate: self.gate_of(room),
            started: beginning.at.0,
            started_unix_us: beginning.at.1,
            answered: None,
            ended: None,
            check_at,
        };
        if !beginning.is_recorded {
            self.note_member_started(now, &member);
        }
        self.members.insert(id, Box::new(member));
        self.send_conference(now, conference);
        Ok(())
    }

    /// The caller of a call, who has a dialog already, becomes a member: a re-INVITE brings its audio to the room. Gives
    /// the name of its call there.
    pub(super) fn move_to_room(
        &mut self,
        now: Now,
        id: CallId,
        room: &Name,
    ) -> Result<String, Box<Response>> {
        if let Some(offer) = self.take_back_reoffer(id, Side::Caller) {
            // It is made an offer in a moment, and its own may come after that.
            self.respond(now, offer, Response::new(StatusCode::REQUEST_PENDING));
        }
        let call = self
            .calls
            .get_mut(&id)
            .filter(|call| call.caller.dialog.is_some());
        let call = call.ok_or_else(|| Box::new(Response::new(StatusCode::CALL_DOES_NOT_EXIST)))?;
        let said = (call.from.clone(), call.to.clone(), call.sip_call_id.clone());
        let caller_way = call.caller_way.filter(|_| !call.has_left_trunks);
        let trunk = (call.caller.rx_trunk, caller_way);
        let caller = &call.caller;
        let security = caller.security;
        let mut leg = Leg::new(Invite::Adopted, caller.address.clone(), caller.peer, "", security);
        (leg.state, leg.dialog, leg.user) = (caller.state, caller.dialog, caller.user.clone());
        (leg.session, leg.joined_unix_us) = (caller.session.clone(), unix_us(now.wall));
        leg.trunk = caller.trunk.clone();
        // What it agreed on before says whether it stays encrypted.
        leg.media = caller.media.clone();
        leg.exchange = caller.exchange.clone();
        let formats = assign_payload_types(&self.policy.offered(&leg.party(), None, false), &[]);
        let suites = self.security.offered_again(security, leg.suite().is_some());
        let endpoint = Endpoint::offered(&formats, leg.peer, suites);
        self.trunks.adopt(trunk.0, trunk.1);
        self.join_conference(now, room, said, trunk, leg, endpoint)?;
        if let Some(call) = self.calls.get_mut(&id) {
            (call.caller.dialog, call.caller.state) = (None, LegState::Ended);
        }
        let member = self.members.get(&CallId(self.last_call));
        Ok(member.map_or_else(String::new, |member| member.name.clone()))
    }

    /// The conference of a room, made if there is none.
    fn conference_for(&mut self, now: Now, room: &Name) -> Result<CallId, Box<Response>> {
        let refuse = |status, reason: &str| {
            let mut response = Response::new(status);
            response.set_reason(reason);
            Box::new(response)
        };
        let settings = &self.config.conferences;
        if let Some(id) = self.rooms.get(room) {
            if self.conferences[id].members.len() >= settings.members_max {
                return Err(refuse(StatusCode::BUSY_HERE, "The conference is full"));
            }
            return Ok(*id);
        }
        if self.rooms.len() >= settings.count_max {
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "Too many conferences"));
        }
        let host = self.pool.take();
        let host = host.ok_or_else(|| refuse(StatusCode::SERVICE_UNAVAILABLE, "No media host"))?;
        self.last_call += 1;
        let id = CallId(self.last_call);
        let session = id.name(&self.stack.random_token());
        let media = &self.config.media;
        let conference = Conference {
            room: room.clone(),
            plan: MediaPlan::new(&session, &self.config.controller, media, host),
            mix: self.config.conferences.node(),
            members: [].into(),
            displaced: None,
            last: Vec::new(),
            lacks_prompt: false,
            sounds: Vec::new(),
            sounds_made: 0,
            lacks_sounds: false,
            started: now.mono,
            started_unix_us: unix_us(now.wall),
        };
        self.rooms.insert(room.clone(), id);
        self.conferences.insert(id, conference);
        self.save_conference(now, id);
        Ok(id)
    }

    /// Sends the next command of a conference's plan, if one is due.
    pub(super) fn send_conference(&mut self, now: Now, id: CallId) {
        let Some(conference) = self.conferences.get_mut(&id) else {
            return;
        };
        let members = conference.members.iter().filter_map(|id| self.members.get(id));
        let has_prompt = !conference.lacks_prompt;
        let scene = scene(
            members,
            &self.config.conferences,
            conference.mix,
            has_prompt,
            &conference.sounds,
        );
        conference.plan.set_scene(scene);
        if let Some(kind) = conference.plan.next_command() {
            let host = conference.plan.host().clone();
            self.command(now, host, Some(id), kind);
        } else if conference.plan.is_gone() && conference.members.is_empty() {
            self.forget_conference(now, id, &[]);
        }
    }

    pub(super) fn conference_reply(
        &mut self,
        now: Now,
        id: CallId,
        result: Option<pb::command_reply::Result>,
    ) {
        let Some(conference) = self.conferences.get_mut(&id) else {
            return;
        };
        let epoch = conference.plan.epoch();
        let applied = conference.plan.on_reply(result);
        let is_taken_over = conference.plan.epoch() != epoch;
        let may_lack = !conference.lacks_prompt;
        if is_taken_over {
            self.save_conference(now, id);
        }
        match applied {
            Applied::Settled | Applied::Behind => {
                let conference = self.conferences.get_mut(&id);
                if let Some(conference) = conference.filter(|it| it.plan.may_exist()) {
                    conference.displaced = None;
                }
                self.answer_members(now, id);
                self.tell_members_moved(now, id);
                self.send_conference(now, id);
            }
            Applied::Refused { subject, .. } if may_lack && subject.starts_with("node:question-") => {
                // Better another question than none.
                if let Some(conference) = self.conferences.get_mut(&id) {
                    conference.lacks_prompt = true;
                }
                self.counters.prompts_missing += 1;
                self.send_conference(now, id);
            }
            Applied::Refused { subject, .. } if self.sound_refused(now, id, &subject) => {}
            Applied::Refused { message, .. } => self.conference_refused(now, id, &message),
            Applied::Contested => self.take_over(now, id),
            Applied::Deleted(stats) => self.forget_conference(now, id, &stats),
            Applied::Lost => self.displace_conference(now, id, "the media host lost the session"),
        }
    }

    pub(super) fn conference_refused(&mut self, now: Now, id: CallId, message: &str) {
        if self.replace_conference_later(now, id) {
            return;
        }
        let Some(conference) = self.conferences.get_mut(&id) else {
            return;
        };
        // Who is in stays; who comes, or wants something else, is refused.
        let members: Vec<CallId> = conference.members.iter().copied().collect();
        conference.plan.revert();
        let there = members.iter().filter_map(|id| self.members.get(id));
        let there: Vec<&str> = there.map(|member| member.leg.endpoint.as_str()).collect();
        conference
            .plan
            .keep_endpoints(|endpoint| there.contains(&endpoint));
        let reason = format!("media: {message}");
        for member in members {
            let Some(found) = self.members.get_mut(&member) else {
                continue;
            };
            if found.stage == MemberStage::Preparing {
                self.member_leaves(
                    now,
                    member,
                    EndedBy::System,
                    StatusCode::SERVICE_UNAVAILABLE,
                    &reason,
                );
            } else if let Some(reoffer) = found.leg.reoffer.take() {
                (found.leg.media, found.leg.exchange) = (reoffer.media, reoffer.exchange);
                self.respond(now, reoffer.txn, Response::new(StatusCode::SERVER_INTERNAL_ERROR));
            }
        }
        self.send_conference(now, id);
    }

    /// Those whose endpoints the media host has get their answers.
    fn answer_members(&mut self, now: Now, id: CallId) {
        let Some(conference) = self.conferences.get(&id) else {
            return;
        };
        let members: Vec<CallId> = conference.members.iter().copied().collect();
        for member in members {
            let Some(found) = self.members.get(&member) else {
                continue;
            };
            if found.stage == MemberStage::Preparing {
                self.answer_member(now, member);
            } else if let (true, Some(dialog)) = (found.leg.unheard.is_some(), found.leg.dialog) {
                self.answer_unheard(now, dialog);
            } else if found.leg.reoffer.is_some() {
                self.answer_member_again(now, member);
            }
        }
    }

    fn answer_member(&mut self, now: Now, id: CallId) {
        let session = self.new_session_id();
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Some(local) = self.conferences[&member.conference]
            .plan
            .local(&member.leg.endpoint)
        else {
            return;
        };
        let leg = &mut member.leg;
        // Who comes from a call of two is made an offer, whoever made the last one there.
        let is_moved = leg.invite == Invite::Adopted;
        let (is_late, description) = match leg.exchange {
            Exchange::Theirs { .. } if !is_moved => (false, answer_leg(leg, &local, session)),
            Exchange::Theirs { .. } | Exchange::None | Exchange::Ours { .. } => {
                let formats = assign_payload_types(&self.policy.offered(&leg.party(), None, false), &[]);
                let address = local.address;
                let lines = leg.lines_again(leg.offered_audio(formats, local));
                let session = leg
                    .session
                    .get_or_insert_with(|| LocalSession::new(session, address));
                let offer = sdp::write_offer(&lines, session);
                leg.exchange = Exchange::Ours {
                    offer: offer.clone().into(),
                };
                (true, Some(offer))
            }
        };
        if let (Some(description), Invite::Adopted, Some(dialog)) = (&description, leg.invite, leg.dialog) {
            leg.is_described = true;
            member.stage.on_late_offer();
            let content = Content::sdp(description.text());
            let invite = DialogRequest::new(Method::Invite).with_content(content);
            match self.stack.dialog_request(now.mono, dialog, invite) {
                Ok(txn) => {
                    self.by_client.insert(txn, Purpose::Refresh(id, Side::Member));
                    self.member_is_asked(id);
                }
                // It makes an offer of its own just now, or its ACK has not come yet.
                Err(_) if self.stack.dialog(dialog).is_some() => self.reinvite_soon(now, dialog),
                Err(_) => {
                    let (status, reason) =
                        (StatusCode::CALL_DOES_NOT_EXIST, "it cannot be moved to the room");
                    self.member_leaves(now, id, EndedBy::System, status, reason);
                }
            }
            return;
        }
        let (Some(description), Invite::Received(txn)) = (description, leg.invite) else {
            let (status, reason) = (StatusCode::SERVER_INTERNAL_ERROR, "no description for the member");
            self.member_leaves(now, id, EndedBy::System, status, reason);
            return;
        };
        leg.state.on_answered();
        leg.is_described = true;
        if is_late {
            member.stage.on_late_offer();
        } else {
            self.member_joined(now, id);
        }
        self.respond(now, txn, with_description(&description));
    }

    fn member_joined(&mut self, now: Now, id: CallId) {
        let Some(member) = self
            .members
            .get_mut(&id)
            .filter(|member| member.stage != MemberStage::Left)
        else {
            return;
        };
        if !member.stage.on_joined() {
            return;
        }
        member.answered = Some((now.mono, unix_us(now.wall)));
        let record = RecordKind::CallAnswered {
            call: member.name.clone(),
            user: self.conferences[&member.conference].room.to_string(),
        };
        self.counters.calls_answered += 1;
        self.record(now, record);
        self.begin_gate(now, id);
        if self.members.get(&id).is_some_and(|member| member.gate.is_none()) {
            self.announce_join(now, id);
        }
    }

    fn answer_member_again(&mut self, now: Now, id: CallId) {
        let session = self.new_session_id();
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let conference = &self.conferences[&member.conference];
        let local = conference
            .plan
            .local(&member.leg.endpoint)
            .filter(|_| conference.plan.is_settled());
        let Some(local) = local else { return };
        let Some(reoffer) = member.leg.reoffer.take() else {
            return;
        };
        let response = match answer_leg(&mut member.leg, &local, session) {
            Some(answer) => with_description(&answer),
            None => Response::new(StatusCode::SERVER_INTERNAL_ERROR),
        };
        self.respond(now, reoffer.txn, response);
    }

    /// A request in a member's dialog.
    pub(super) fn member_request(&mut self, now: Now, id: CallId, txn: ServerTxn, request: &Request) {
        let status = match request.method {
            Method::Invite if request.body.is_empty() => {
                self.offer_member(now, id, txn);
                return;
            }
            Method::Invite | Method::Update if !request.body.is_empty() => {
                if let Err(refusal) = self.member_reoffers(now, id, txn, request) {
                    self.respond(now, txn, *refusal);
                }
                return;
            }
            Method::Refer => {
                self.member_refers(now, id, txn, request);
                return;
            }
            Method::Info => {
                if let Some(refusal) = info_refusal(request) {
                    self.respond(now, txn, refusal);
                    return;
                }
                if let Some((digits, _)) = digits_of(request) {
                    self.member_digit(now, id, &digits);
                }
                StatusCode::OK
            }
            Method::Message => {
                self.counters.messages_refused += 1;
                let refusal = Self::no_messages();
                self.respond(now, txn, *refusal);
                return;
            }
            Method::Update | Method::Options | Method::Prack => StatusCode::OK,
            _ => StatusCode::METHOD_NOT_ALLOWED,
        };
        self.respond(now, txn, Response::new(status));
    }

    fn member_reoffers(
        &mut self,
        now: Now,
        id: CallId,
        txn: ServerTxn,
        request: &Request,
    ) -> Result<(), Box<Response>> {
        let refuse = |status| Box::new(Response::new(status));
        let gone = || refuse(StatusCode::CALL_DOES_NOT_EXIST);
        let member = self.members.get(&id).ok_or_else(gone)?;
        if member.stage != MemberStage::Joined {
            return Err(refuse(StatusCode::REQUEST_PENDING));
        }
        let codecs = member.leg.offerable(self.policy.of(&member.leg.party()));
        let security = member.leg.security;
        let (offer, selections, media) = self.read_offer(&request.body, codecs, security)?;
        let member = self.members.get_mut(&id).ok_or_else(gone)?;
        let leg = &mut member.leg;
        let endpoint = leg.take_offer(txn, (offer.into(), selections), media);
        let (conference, name) = (member.conference, leg.endpoint.clone());
        if let Some(found) = self.conferences.get_mut(&conference) {
            found.plan.put(&name, endpoint);
            // Its answer waits for whatever else is wanted.
            found.plan.forgive();
        }
        self.send_conference(now, conference);
        self.answer_member_again(now, id);
        Ok(())
    }

    /// A member took its re-INVITE back, and the stack answered that. False: it is the first INVITE that was cancelled.
    pub(super) fn forget_members_reoffer(&mut self, now: Now, id: CallId) -> bool {
        let member = self.members.get_mut(&id);
        let Some(member) = member.filter(|member| !member.leg.state.is_pending()) else {
            return false;
        };
        let conference = member.conference;
        if let Some(found) = self.conferences.get_mut(&conference)
            && take_back(&mut member.leg, &mut found.plan).is_some()
        {
            self.send_conference(now, conference);
        }
        true
    }

    /// Something that its media host noticed.
    pub(super) fn conference_event(&mut self, now: Now, id: CallId, event: &pb::Event) {
        match &event.kind {
            Some(pb::event::Kind::SessionEnded(_)) => {
                self.displace_conference(now, id, "the media host ended the session");
            }
            Some(pb::event::Kind::PlayFinished(_)) => self.sound_finished(now, id, &event.node),
            Some(pb::event::Kind::EndpointRemoved(removed)) => self.figures_came(now, id, removed),
            kind => {
                let is_about = |member: &&CallId| {
                    let member = self.members.get(member);
                    member.is_some_and(|member| member.leg.endpoint == event.node)
                };
                let members = self.conferences.get(&id).into_iter().flat_map(|it| &it.members);
                if let Some(member) = members.into_iter().find(is_about).copied() {
                    self.member_event(now, member, event.time_unix_us, kind);
                }
            }
        }
    }

    /// Something that the media host noticed of a member.
    fn member_event(&mut self, now: Now, id: CallId, at_unix_us: u64, kind: &Option<pb::event::Kind>) {
        match kind {
            Some(pb::event::Kind::DigitEnded(digit)) => self.member_digit(now, id, &digit.digit),
            Some(pb::event::Kind::MediaTimeout(_)) => {
                let member = self.members.get_mut(&id);
                let asked = member.and_then(|member| {
                    member.leg.fell_silent(at_unix_us);
                    member.leg.dialog.filter(|_| member.leg.is_missed())
                });
                if let Some(dialog) = asked {
                    self.ask_whether_there(now, id, dialog);
                }
            }
            Some(pb::event::Kind::MediaStarted(_)) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.leg.is_silent = false;
                }
            }
            _ => {}
        }
    }

    /// A re-INVITE without offer asks for ours.
    fn offer_member(&mut self, now: Now, id: CallId, txn: ServerTxn) {
        let response = match self.member_offer(id) {
            Some(offer) => {
                let response = with_description(&offer);
                if let Some(member) = self.members.get_mut(&id) {
                    member.leg.awaits_answer = true;
                    member.leg.exchange = Exchange::Ours { offer: offer.into() };
                }
                response
            }
            None => Response::new(StatusCode::SERVER_INTERNAL_ERROR),
        };
        self.respond(now, txn, response);
    }

    /// What is agreed with a member, as an offer of ours.
    pub(super) fn member_offer(&mut self, id: CallId) -> Option<Description> {
        let session = self.new_session_id();
        let member = self.members.get_mut(&id)?;
        let local = self.conferences[&member.conference]
            .plan
            .local(&member.leg.endpoint)?;
        let leg = &mut member.leg;
        let address = local.address;
        let lines = leg.lines_again(leg.audio_again(local)?);
        let session = leg
            .session
            .get_or_insert_with(|| LocalSession::new(session, address));
        Some(sdp::write_offer(&lines, session))
    }

    /// The ACK of a 200 of ours, which may hold the answer to an offer in it.
    pub(super) fn member_acknowledged(&mut self, now: Now, id: CallId, request: &Request) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.leg.state.on_acknowledged();
        let is_late = member.stage == MemberStage::AwaitingAnswer;
        if !is_late && !std::mem::take(&mut member.leg.awaits_answer) {
            return;
        }
        match read_answer(&member.leg, &request.body) {
            Ok(media) => {
                self.member_agreed(now, id, media);
                self.member_joined(now, id);
            }
            Err(reason) if is_late => {
                self.member_leaves(now, id, EndedBy::System, StatusCode::NOT_ACCEPTABLE_HERE, &reason);
            }
            // What stood before stands.
            Err(_) => {}
        }
    }

    fn member_agreed(&mut self, now: Now, id: CallId, media: sdp::NegotiatedMedia) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let conference = member.conference;
        if let Some(found) = self.conferences.get_mut(&conference) {
            let endpoint = member.leg.endpoint_for(&media);
            found.plan.put(&member.leg.endpoint, endpoint);
        }
        member.leg.media = Some(media);
        self.send_conference(now, conference);
    }

    pub(super) fn member_refreshed(
        &mut self,
        now: Now,
        id: CallId,
        response: &Response,
        dialog: Option<DialogKey>,
    ) {
        let comes = self
            .members
            .get(&id)
            .is_some_and(|member| member.stage == MemberStage::AwaitingAnswer);
        if !comes && self.moved_member_refused(now, id, response.status) {
            return;
        }
        if comes && response.status == StatusCode::REQUEST_PENDING {
            // Two offers crossed, and `glare_over` is told when ours may go again.
            return;
        }
        let Some(dialog) = dialog.filter(|_| response.status.is_success()) else {
            if comes && response.status.is_final() {
                let reason = "it did not follow to the room";
                self.member_leaves(now, id, EndedBy::Callee, response.status, reason);
            }
            return;
        };
        let _gone = self.stack.ack(dialog, None);
        let media = self
            .members
            .get(&id)
            .map(|member| read_answer(&member.leg, &response.body));
        match media {
            Some(Ok(media)) => {
                self.member_agreed(now, id, media);
                if comes {
                    self.member_joined(now, id);
                }
                self.member_agrees(now, id);
            }
            Some(Err(reason)) if comes => {
                self.member_leaves(now, id, EndedBy::System, StatusCode::NOT_ACCEPTABLE_HERE, &reason);
            }
            Some(Err(_)) | None => {}
        }
    }

    /// A member leaves, whoever wants it. The last one takes the room with it.
    pub(super) fn member_leaves(
        &mut self,
        now: Now,
        id: CallId,
        by: EndedBy,
        status: StatusCode,
        reason: &str,
    ) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        let status = if member.answered.is_some() {
            StatusCode::OK
        } else {
            status
        };
        let end = End {
            by,
            status,
            reason: reason.to_owned(),
            at_unix_us: unix_us(now.wall),
        };
        let record = RecordKind::CallEnded {
            call: member.name.clone(),
            by,
            status: status.code(),
            reason: reason.to_owned(),
        };
        self.record(now, record);
        self.member_ends(now, id, (now.mono, end));
    }

    /// As [`Controller::member_leaves`], with an end that is recorded already.
    pub(super) fn member_ends(&mut self, now: Now, id: CallId, ended: (Instant, End)) {
        let Some(mut member) = self.members.remove(&id) else {
            return;
        };
        member.stage.on_left();
        self.deadlines.remove(&(member.check_at, Due::Check(id)));
        let gate = member.gate.take();
        let was_in = gate.is_none();
        if let Some(until) = gate.and_then(|gate| gate.until) {
            self.deadlines.remove(&(until, Due::Gate(id)));
        }
        self.counters.calls_ended += 1;
        self.trunks.release(member.rx_trunk, member.way);
        let end = &ended.1;
        let plan = self.conferences.get(&member.conference).map(|it| &it.plan);
        let found_lost = plan.is_some_and(MediaPlan::is_gone);
        let cause = match end.by {
            // ITU-T Q.850: temporary failure, normal call clearing.
            EndedBy::System if found_lost => 41,
            EndedBy::System | EndedBy::Caller | EndedBy::Callee => 16,
        };
        self.say_goodbye(
            now,
            &mut member,
            end.status,
            &Reason::new("Q.850", cause, &end.reason),
        );
        member.ended = Some(ended);
        let conference = member.conference;
        let Some(found) = self.conferences.get_mut(&conference) else {
            return;
        };
        found.members.remove(&id);
        if found.members.is_empty() {
            // Its endpoint goes with the session, which tells what it counted.
            found.plan.end();
            found.last.push(*member);
            let room = found.room.clone();
            self.rooms.remove(&room);
        } else {
            let counted = found.plan.local(&member.leg.endpoint).is_some();
            found.plan.remove(&member.leg.endpoint);
            let announced = member.answered.is_some() && was_in;
            match counted {
                true => self.await_figures(now, conference, *member),
                false => self.member_detail(now, conference, &member, &[]),
            }
            if announced {
                self.announce_leave(now, conference);
            }
        }
        self.send_conference(now, conference);
    }

    fn say_goodbye(&mut self, now: Now, member: &mut Member, status: StatusCode, reason: &Reason) {
        let was_confirmed = member.leg.state.is_confirmed();
        let was_open = member.leg.state.on_ended();
        let dialog = member.leg.dialog;
        if let Some(dialog) = dialog {
            self.by_dialog.remove(&dialog);
        }
        if let (true, Some(dialog)) = (was_confirmed, dialog) {
            let bye = DialogRequest::new(Method::Bye).with_value(HeaderName::Reason, reason);
            self.send_plain(now, dialog, bye);
            if let Some(txn) = member.leg.unheard.take() {
                // It may not know what that is about.
                self.respond(now, txn, Response::new(StatusCode::REQUEST_TERMINATED));
            }
        } else if let (true, Invite::Received(txn)) = (was_open, member.leg.invite) {
            self.respond(now, txn, Response::new(status));
        }
    }

    pub(super) fn member_detail(
        &mut self,
        now: Now,
        conference: CallId,
        member: &Member,
        stats: &[pb::EndpointStats],
    ) {
        if let Some(id) = CallId::of_name(&member.name) {
            self.deadlines.remove(&(member.check_at, Due::Check(id)));
        }
        let Some(found) = self.conferences.get(&conference) else {
            return;
        };
        let detail = detail(found, member, stats, &self.trunks);
        self.record(now, RecordKind::CallDetail(Box::new(detail)));
    }

    /// Nothing is left of it at the media host.
    fn forget_conference(&mut self, now: Now, id: CallId, stats: &[pb::EndpointStats]) {
        let last = match self.conferences.get_mut(&id) {
            Some(conference) => std::mem::take(&mut conference.last),
            None => return,
        };
        for member in &last {
            self.member_detail(now, id, member, stats);
        }
        if let Some(conference) = self.conferences.remove(&id) {
            self.pool.give_back(conference.plan.host());
        }
    }

    /// Its session is gone, and there is no other for it: all leave.
    pub(super) fn end_conference(&mut self, now: Now, id: CallId, reason: &str) {
        let Some(conference) = self.conferences.get_mut(&id) else {
            return;
        };
        conference.plan.give_up();
        let members: Vec<CallId> = conference.members.iter().copied().collect();
        for member in members {
            self.member_leaves(
                now,
                member,
                EndedBy::System,
                StatusCode::SERVICE_UNAVAILABLE,
                reason,
            );
        }
        self.send_conference(now, id);
    }

    /// A member without dialog, or in for too long, leaves.
    pub(super) fn check_member(&mut self, now: Now, id: CallId) {
        let longest = Duration::from_secs(self.config.calls.duration_max_s);
        let Some(member) = self.members.get_mut(&id) else {
            return self.figures_are_late(now, id);
        };
        member.check_at = now.mono + CHECK_EVERY;
        self.deadlines.insert((member.check_at, Due::Check(id)));
        let lost = member
            .leg
            .dialog
            .is_none_or(|dialog| self.stack.dialog(dialog).is_none());
        let silent = member.leg.dialog.filter(|_| member.leg.is_silent);
        let reason = if lost {
            "a dialog is gone"
        } else if now.mono.saturating_duration_since(member.started) >= longest {
            "the call is too long"
        } else {
            let conference = member.conference;
            if let Some(dialog) = silent {
                self.ask_whether_there(now, id, dialog);
            }
            if let Some(found) = self.conferences.get_mut(&conference) {
                found.plan.forgive();
                self.send_conference(now, conference);
            }
            return;
        };
        self.member_leaves(now, id, EndedBy::System, StatusCode::SERVER_TIMEOUT, reason);
    }

    /// Conferences as they are.
    pub(super) fn conferences_live(&self, now: Now) -> Vec<ConferenceLive> {
        let member = |id: &CallId| {
            let member = self.members.get(id)?;
            Some(MemberLive {
                call: member.name.clone(),
                from: text(member.from.uri.as_bytes()),
                from_name: display_name(&member.from),
                user: member.leg.user.as_ref().map(ToString::to_string),
                muted: member.is_muted,
                on_hold: member.leg.holds(),
                codec: member.leg.codec(),
                age_ms: ms(now.mono.saturating_duration_since(member.started)),
            })
        };
        let conferences = self.conferences.values().map(|conference| ConferenceLive {
            room: conference.room.to_string(),
            host: conference.plan.host().to_string(),
            age_ms: ms(now.mono.saturating_duration_since(conference.started)),
            members: conference.members.iter().filter_map(member).collect(),
        });
        conferences.collect()
    }

    /// A member is heard no more, or again. False when there is no such member.
    pub fn mute_member(&mut self, now: Now, call: &str, muted: bool) -> bool {
        let Some(member) = self.member_named(call).and_then(|id| self.members.get_mut(&id)) else {
            return false;
        };
        member.is_muted = muted;
        let conference = member.conference;
        self.send_conference(now, conference);
        self.advance(now);
        true
    }

    /// The member that a call of this name is.
    pub(super) fn member_named(&self, call: &str) -> Option<CallId> {
        let id = CallId::of_name(call)?;
        self.members
            .get(&id)
            .filter(|member| member.name == call)
            .map(|_| id)
    }
}

fn detail(
    conference: &Conference,
    member: &Member,
    stats: &[pb::EndpointStats],
    trunks: &Trunks,
) -> CallDetail {
    let (ended, end) = member.ended.clone().expect("it is told of after it left");
    let counted = stats.iter().find(|stats| stats.node == member.leg.endpoint);
    let media = counted.map(media_detail);
    let answered = member.answered;
    let leg = LegDetail {
        called: false,
        address: text(member.from.uri.as_bytes()),
        user: member.leg.user.as_ref().map(ToString::to_string),
        joined_unix_us: member.started_unix_us,
        left_unix_us: end.at_unix_us,
        codec: member.leg.codec(),
        srtp: member.leg.srtp().to_owned(),
        media,
    };
    let waited = answered.map_or(ended, |(at, _)| at);
    CallDetail {
        call: member.name.clone(),
        sip_call_id: member.sip_call_id.clone(),
        from: text(member.from.uri.as_bytes()),
        to: member.to.clone(),
        queue: None,
        room: Some(conference.room.to_string()),
        answered_by: None,
        rung: Vec::new(),
        started_unix_us: member.started_unix_us,
        answered_unix_us: answered.map(|(_, unix_us)| unix_us),
        ended_unix_us: end.at_unix_us,
        wait_ms: ms(waited.saturating_duration_since(member.started)),
        talk_ms: answered.map_or(0, |(at, _)| ms(ended.saturating_duration_since(at))),
        ended_by: end.by,
        status: end.status.code(),
        reason: end.reason,
        host: conference.plan.host().to_string(),
        caller_codec: member.leg.codec(),
        callee_codec: String::new(),
        caller_media: media,
        callee_media: None,
        choices: Vec::new(),
        origin: CallOrigin::default(),
        caller_trunk: member
            .rx_trunk
            .or(member.way.map(|way| way.trunk))
            .map(|trunk| trunks.get(trunk).name.to_string()),
        callee_trunk: None,
        recordings: Vec::new(),
        legs: vec![leg],
    }
}
