//! Bringing somebody to a caller: the devices of one user rung in parallel, those it prefers less after them, one user
//! after the other.

use sdp::{LocalSession, assign_payload_types};
use sip::{
    header::{NameAddr, Reason},
    message::{Header, HeaderName, Method, Request, Response, StatusCode},
    stack::{ClientTxn, DialogKey, Hop},
    uri::{Host, Uri},
};
use std::{collections::BTreeMap, time::Duration};

use super::{
    Controller, Due, Now, Purpose,
    calling::{audio_of, read_answer, text},
    unix_us,
};
use crate::{
    call::{Call, CallId, Round, Side, Stage},
    domain::{Decline, EntryId, Name, OfferId, Output, Race, WithdrawReason},
    journal::{EndedBy, RecordKind},
    leg::{Exchange, Invite, Leg, Offer},
    media::{Endpoint, Party},
    registrar::Binding,
    routing::Destination,
    security::{Security, is_safe_uri},
    trunk::TargetId,
};

/// A device that is to be rung, and its place at the media host.
struct Seat {
    endpoint: String,
    audio: Endpoint,
    binding: Binding,
}

impl Controller {
    /// What the domain of queues and agents wants.
    pub(super) fn domain_output(&mut self, now: Now, output: Output) {
        match output {
            Output::Offer {
                offer,
                entry,
                agent,
                ring: _,
            } => self.offered(now, offer, entry, agent),
            Output::Withdraw { offer, reason } => self.withdrawn(now, offer, reason),
            Output::Overdue { entry } => self.overdue(now, entry),
            Output::Position { entry, position } => {
                let call = self.by_entry.get(&entry).and_then(|id| self.calls.get_mut(id));
                if let Some(call) = call {
                    call.position = Some(position);
                }
            }
        }
    }

    fn offered(&mut self, now: Now, offer: OfferId, entry: EntryId, agent: Name) {
        match self.by_entry.get(&entry).copied() {
            Some(id) => {
                self.by_offer.insert(offer, id);
                self.start_round(now, id, agent, Some(offer));
            }
            // The caller hung up a moment ago; the domain knows or will.
            None => {
                let _lost: Race<()> = self.domain.decline(now.mono, offer, Decline::Refused);
            }
        }
    }

    fn withdrawn(&mut self, now: Now, offer: OfferId, reason: WithdrawReason) {
        let Some(id) = self.by_offer.remove(&offer) else {
            return;
        };
        let (cause, status) = match reason {
            WithdrawReason::RingTimeout => (
                Reason::new("SIP", 408, "Not answered in time"),
                StatusCode::REQUEST_TIMEOUT,
            ),
            WithdrawReason::CallerGone => (
                Reason::new("SIP", 487, "Caller gone"),
                StatusCode::REQUEST_TERMINATED,
            ),
            WithdrawReason::AgentGone => (
                Reason::new("SIP", 487, "Agent takes no calls"),
                StatusCode::REQUEST_TERMINATED,
            ),
        };
        let is_current = self
            .calls
            .get(&id)
            .and_then(|call| call.round.as_ref())
            .is_some_and(|round| round.offer == Some(offer));
        if is_current {
            self.cancel_round(now, id, &cause, status);
            if let Some(call) = self.call_mut(id) {
                call.stage.on_round_over();
            }
            self.send_media(now, id);
        }
    }

    fn overdue(&mut self, now: Now, entry: EntryId) {
        let Some(id) = self.by_entry.remove(&entry) else {
            return;
        };
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        (call.entry, call.position) = (None, None);
        let name = call.queue.clone();
        let queue = self.queue_named(name.as_ref());
        let status = queue.and_then(|queue| StatusCode::new(queue.timeout_status));
        let status = status.unwrap_or(StatusCode::TEMPORARILY_UNAVAILABLE);
        self.nobody_came(now, id, EndedBy::System, status, "nobody answered in time");
    }

    /// Nobody takes the caller, and nobody else is to be tried.
    pub(super) fn nobody_came(
        &mut self,
        now: Now,
        id: CallId,
        by: EndedBy,
        status: StatusCode,
        reason: &str,
    ) {
        let call = self.calls.get(&id);
        let is_transfer = call.is_some_and(|call| call.transfer.is_some());
        let is_sent_on = call.is_some_and(Call::is_sent_on);
        let by = match by {
            // It is the caller-to-be who was called and did not come.
            EndedBy::Callee if call.is_some_and(|call| call.summons.is_some()) => EndedBy::Caller,
            by => by,
        };
        if is_transfer {
            self.transfer_failed(now, id, status);
        } else if is_sent_on {
            self.abandoned(now, id, status);
        } else if call.is_some_and(|call| call.menu.is_some()) {
            self.ask_again(now, id, (by, status, reason));
        } else {
            self.end(now, id, by, status, reason);
        }
    }

    /// The first command of a call that goes to a user makes room for its phones too: they ring a message earlier.
    pub(super) fn foresee_round(&mut self, id: CallId) {
        let user = match self.calls.get(&id) {
            Some(call) if call.summons.is_none() => match &call.destination {
                Destination::User(user) => user.clone(),
                Destination::Queue(_) | Destination::Menu(_) | Destination::Room(_) | Destination::Out(_) => {
                    return;
                }
            },
            Some(_) | None => return,
        };
        let seats = self.seats(id, &user, true);
        if let Some(call) = self.calls.get_mut(&id) {
            for seat in seats {
                call.plan.put(&seat.endpoint, seat.audio);
                call.offered.push(seat.endpoint);
            }
        }
    }

    /// The devices of a user, each with an endpoint of its own for the next round. `dialled`: the one that was dialled, if
    /// it was one alone.
    fn seats(&self, id: CallId, user: &Name, dialled: bool) -> Vec<Seat> {
        let formats = self.formats_for(id, &party_of(user));
        let Some(call) = self.calls.get(&id) else {
            return Vec::new();
        };
        let name = call.endpoint_of_round(call.rounds + 1);
        let only = call.instance.as_ref().filter(|_| dialled);
        let mut bindings = self.registrar.devices(user);
        bindings.retain(|binding| only.is_none_or(|instance| binding.is_instance(instance)));
        let seat = |(index, binding): (usize, Binding)| {
            let security = self.security.of(None, Some(user), binding.is_safe());
            let suites = self.security.offered(security);
            Seat {
                endpoint: match index {
                    0 => name.clone(),
                    _ => format!("{name}.{}", index + 1),
                },
                audio: Endpoint::offered(&formats, binding.peer(), suites),
                binding,
            }
        };
        bindings.into_iter().enumerate().map(seat).collect()
    }

    /// Makes room for a user's answer at the media host, unless it was foreseen; the phones ring once there is a port to
    /// offer.
    pub(super) fn start_round(&mut self, now: Now, id: CallId, user: Name, offer: Option<OfferId>) {
        let seats = self.seats(id, &user, offer.is_none());
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if !call.stage.on_offer() {
            if let Some(offer) = offer {
                self.by_offer.remove(&offer);
                let _lost: Race<()> = self.domain.decline(now.mono, offer, Decline::Refused);
            }
            return;
        }
        call.rounds += 1;
        // A port of its own for each round: what somebody rung before still sends is heard by nobody.
        call.withdraw_endpoints(|name| seats.iter().any(|seat| seat.endpoint == name));
        let mut devices = Vec::with_capacity(seats.len());
        for seat in seats {
            call.plan.put(&seat.endpoint, seat.audio);
            call.offered.push(seat.endpoint.clone());
            devices.push((seat.endpoint, seat.binding));
        }
        let is_nowhere = devices.is_empty();
        call.round = Some(Round {
            user,
            offer,
            devices,
            branches: Vec::new(),
            others: BTreeMap::new(),
            refusal: None,
            moved_to: None,
        });
        if is_nowhere {
            self.round_over(now, id, StatusCode::TEMPORARILY_UNAVAILABLE);
        } else {
            self.settle(now, id);
        }
    }

    /// What is offered to who is called: what the caller chose first, if that is the policy.
    pub(super) fn formats_for(&self, id: CallId, party: &Party) -> Vec<sdp::Format> {
        let media = self.calls.get(&id).and_then(|call| call.caller.media.as_ref());
        let formats = media.map_or(&[][..], |media| &media.formats);
        let chosen = formats.first().map(|format| &format.codec);
        let describes_silence = formats.iter().any(|format| format.codec.is_comfort_noise());
        let codecs = self.policy.offered(party, chosen, describes_silence);
        assign_payload_types(&codecs, &[])
    }

    /// The port is there: every device of the user gets its INVITE.
    pub(super) fn send_invites(&mut self, now: Now, id: CallId) {
        if self.move_of(id).is_some() {
            self.send_move(now, id);
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(round) = call.round.as_mut().filter(|_| call.stage.on_offer_ready()) else {
            return;
        };
        let (user, offer) = (round.user.clone(), round.offer);
        let devices = match offer {
            // An agent is asked on all at once: the queue's caller has waited.
            Some(_) => std::mem::take(&mut round.devices),
            None => round.next_devices(),
        };
        call.rung.push(user.to_string());
        if offer.is_none() {
            let summons = call.summons.as_ref().map(|summons| summons.ring);
            let ring = summons.unwrap_or(Duration::from_secs(self.config.calls.ring_timeout_s));
            let until = now.mono + ring;
            call.ring_until = Some(until);
            self.deadlines.insert((until, Due::Ring(id)));
        }
        let record = RecordKind::CallRinging {
            call: call.name.clone(),
            user: user.to_string(),
            devices: devices.len(),
        };
        self.record(now, record);
        for (endpoint, binding) in &devices {
            self.invite(now, id, &user, endpoint, binding, false);
        }
        self.await_next_devices(now, id);
        self.close_round_if_over(now, id);
    }

    /// Sends a device its INVITE. `again`: it refused the profile that it was offered first.
    pub(super) fn invite(
        &mut self,
        now: Now,
        id: CallId,
        user: &Name,
        endpoint: &str,
        binding: &Binding,
        again: bool,
    ) {
        let way = self.calls.get(&id).and_then(|call| call.way);
        let formats = match way {
            Some(way) => self.formats_of_way(id, way),
            None => self.formats_for(id, &party_of(user)),
        };
        let session = self.new_session_id();
        let domain = self.config.domains.first().cloned().unwrap_or_default();
        let address = address_of(user, &domain).unwrap_or_else(|| NameAddr::new(binding.uri.clone()));
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(transport) = call.plan.local(endpoint) else {
            return;
        };
        let security = self.security_towards(way, user, binding);
        if security.is_in_vain() {
            self.refused_for_its_security(id);
            return;
        }
        // Whatever becomes of the INVITE, it is about this party.
        let peer = binding.peer();
        let insists = self.insists(security, binding, again);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let mut leg = Leg::new(Invite::Adopted, address.clone(), peer, endpoint, security);
        leg.insists = insists;
        leg.trunk = way.map(|way| self.trunks.get(way.trunk).name.clone());
        let mut session = LocalSession::new(session, transport.address);
        let audio = [leg.offered_audio(formats, transport)];
        let offer = Offer::from(sdp::write_offer(&audio, &mut session));
        let mut request = invite_request(call, &address, &domain, binding, &offer);
        self.call_in(id, &mut request);
        if let Some(way) = way {
            self.dress(now, id, way, &mut request);
        }
        let hops = match way {
            Some(_) => Hop::of_uri(&binding.uri).into_iter().collect(),
            None => binding.hops(),
        };
        let sent = self.stack.request_to(now.mono, request, hops);
        self.keep_other_profile(id, &leg, binding, again);
        let round = self.calls.get_mut(&id).and_then(|call| call.round.as_mut());
        let Some(round) = round else {
            return;
        };
        match sent {
            Ok(txn) => {
                leg.invite = Invite::Sent(txn);
                leg.user = way.is_none().then(|| user.clone());
                leg.session = Some(session);
                leg.exchange = Exchange::Ours { offer };
                round.branches.push(leg);
                self.by_client.insert(txn, Purpose::Branch(id));
            }
            Err(_) => round.refused(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    fn refused_for_its_security(&mut self, id: CallId) {
        let round = self.calls.get_mut(&id).and_then(|call| call.round.as_mut());
        if let Some(round) = round {
            round.refused(StatusCode::NOT_ACCEPTABLE_HERE);
        }
        self.counters.srtp_refusals += 1;
    }

    fn security_towards(&self, way: Option<TargetId>, user: &Name, binding: &Binding) -> Security {
        let trunk = way.map(|way| &self.trunks.get(way.trunk).config);
        let account = way.is_none().then_some(&**user);
        let is_safe = match way {
            Some(_) => is_safe_uri(&binding.uri),
            None => binding.is_safe(),
        };
        self.security.of(trunk, account, is_safe)
    }

    /// A device answered. Exactly one wins: the others, and one that crossed our CANCEL, are acknowledged and hung up
    /// and were never heard.
    pub(super) fn branch_answered(
        &mut self,
        now: Now,
        id: CallId,
        txn: ClientTxn,
        dialog: DialogKey,
        response: &Response,
    ) {
        self.by_client.remove(&txn);
        let Some(call) = self.calls.get_mut(&id) else {
            self.not_wanted(now, dialog, &Reason::new("SIP", 487, "Caller gone"));
            return;
        };
        let is_ringing = call.stage == Stage::Ringing;
        let leg = branch_of(call, txn);
        let Some(leg) = leg.filter(|leg| is_ringing && leg.state.is_pending()) else {
            self.not_wanted(now, dialog, &Reason::new("SIP", 200, "Call completed elsewhere"));
            return;
        };
        // RFC 3262 §5: the answer may have come in a reliable provisional response and not again. RFC 3311: or an offer of
        // its own came since, and what a 200 repeats of the first exchange is out of date.
        let is_later = matches!(leg.exchange, Exchange::Theirs { .. });
        let known = leg.media.clone().filter(|_| is_later || response.body.is_empty());
        let media = match known.map_or_else(|| read_answer(leg, &response.body), Ok) {
            Ok(media) => media,
            Err(problem) => {
                leg.state.on_ended();
                self.not_wanted(now, dialog, &Reason::new("SIP", 488, &problem));
                self.branch_refused(now, id, txn, StatusCode::NOT_ACCEPTABLE_HERE);
                return;
            }
        };
        leg.media = Some(media);
        let endpoint = leg.endpoint.clone();
        self.remember_profile(id, &endpoint);
        if let Some(way) = self.calls.get(&id).and_then(|call| call.way) {
            self.join_trunk(dialog, way.trunk);
        }
        if !self.win(now, id, txn, dialog) {
            self.not_wanted(now, dialog, &Reason::new("SIP", 487, "Answered too late"));
        }
    }

    /// An answer that nobody waits for any more. A party of another call that was to be brought here stays there.
    fn not_wanted(&mut self, now: Now, dialog: DialogKey, reason: &Reason) {
        if self.by_dialog.contains_key(&dialog) {
            self.stay(now, dialog);
        } else {
            self.hang_up(now, dialog, reason);
        }
    }

    /// The compare-and-set of an answer, and its effects.
    fn win(&mut self, now: Now, id: CallId, txn: ClientTxn, dialog: DialogKey) -> bool {
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        if call.summons.is_some() {
            return self.seat_first(now, id, txn, dialog);
        }
        let offer = call.round.as_ref().and_then(|round| round.offer);
        if let Some(offer) = offer {
            if self.domain.accept(now.mono, offer) == Race::Lost {
                return false;
            }
            if let Some(entry) = call.entry.take() {
                self.by_entry.remove(&entry);
            }
            call.position = None;
            call.served_by.clone_from(&call.queue);
        }
        if !call.stage.on_answered() {
            return false;
        }
        let Some(round) = call.round.as_mut() else {
            return false;
        };
        let Some(at) = round
            .branches
            .iter()
            .position(|leg| leg.invite == Invite::Sent(txn))
        else {
            return false;
        };
        let mut callee = round.branches.remove(at);
        callee.dialog = Some(dialog);
        callee.state.on_answered();
        callee.conversation = offer;
        callee.is_described = true;
        callee.joined_unix_us = unix_us(now.wall);
        let acknowledged = self.stack.ack(dialog, None).is_ok();
        if acknowledged {
            callee.state.on_acknowledged();
        }
        if let Some(media) = &callee.media {
            call.plan.put(&callee.endpoint, callee.endpoint_for(media));
        }
        call.withdraw_endpoints(|name| name == callee.endpoint);
        call.early = None;
        call.callee = Some(callee);
        self.follow_callee(id);
        self.record_if_wanted(id);
        self.moved_here(now, id);
        self.by_dialog.insert(dialog, (id, Side::Callee));
        self.cancel_round(
            now,
            id,
            &Reason::new("SIP", 200, "Call completed elsewhere"),
            StatusCode::OK,
        );
        self.transfer_done(now, id);
        self.settle(now, id);
        true
    }

    /// A caller who has no description of ours yet is given the codec its counterpart chose, if it offered that too.
    pub(super) fn follow_callee(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let callee = call.callee.as_ref().and_then(|leg| leg.media.clone());
        if let Some(media) = callee {
            self.follow(id, &media);
        }
    }

    /// As [`Controller::follow_callee`], for a phone that has not answered yet.
    pub(super) fn follow(&mut self, id: CallId, media: &sdp::NegotiatedMedia) {
        let (Some(call), Some(chosen)) = (self.calls.get_mut(&id), media.formats.first()) else {
            return;
        };
        let caller = &mut call.caller;
        let party = caller.party();
        let Exchange::Theirs { offer, selections } = &mut caller.exchange else {
            return;
        };
        // After a restart its offer is known without its keys.
        let is_kept = caller
            .media
            .as_ref()
            .and_then(|media| media.sdes.as_ref())
            .is_some_and(|sdes| !sdes.remote.has_key());
        if caller.is_described || is_kept || !self.policy.passes_through() {
            return;
        }
        let codecs = self.policy.beside(&party, Some(&chosen.codec));
        let Ok(chosen) = sdp::select(offer, &self.security.capabilities(codecs, caller.security)) else {
            return;
        };
        let Some(media) = audio_of(&chosen).cloned() else {
            return;
        };
        *selections = chosen;
        call.plan.put(&caller.endpoint, caller.endpoint_for(&media));
        caller.media = Some(media);
    }

    /// A device refused, could not be reached, or did not answer.
    pub(super) fn branch_refused(&mut self, now: Now, id: CallId, txn: ClientTxn, status: StatusCode) {
        self.by_client.remove(&txn);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(leg) = branch_of(call, txn) else {
            return;
        };
        leg.state.on_ended();
        let endpoint = leg.endpoint.clone();
        if let Some(round) = call.round.as_mut() {
            round.refused(status);
        }
        self.early_gone(now, id, &endpoint);
        // RFC 3261 §16.7 step 5: the person declines on all devices.
        if status.class() == 6 {
            self.cancel_branches(now, id, &Reason::new("SIP", status.code(), "Declined elsewhere"));
            if let Some(round) = self.calls.get_mut(&id).and_then(|call| call.round.as_mut()) {
                round.devices.clear();
            }
        }
        self.close_round_if_over(now, id);
    }

    pub(super) fn close_round_if_over(&mut self, now: Now, id: CallId) {
        let round = self
            .calls
            .get(&id)
            .filter(|call| call.stage == Stage::Ringing)
            .and_then(|call| call.round.as_ref());
        let Some(round) = round.filter(|round| round.is_over()) else {
            return;
        };
        let status = round.refusal.unwrap_or(StatusCode::TEMPORARILY_UNAVAILABLE);
        if !self.ring_next_devices(now, id) {
            self.round_over(now, id, status);
        }
    }

    fn round_over(&mut self, now: Now, id: CallId, status: StatusCode) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if !call.stage.on_round_over() {
            return;
        }
        let offer = call.round.as_ref().and_then(|round| round.offer);
        let moved = call.round.as_mut().and_then(|round| {
            let to = round.moved_to.take()?;
            Some((round.user.clone(), to))
        });
        self.close_round(now, id, status);
        match offer {
            Some(offer) => {
                self.by_offer.remove(&offer);
                let why = match status.code() {
                    486 | 600 => Decline::Busy,
                    408 | 480 | 500..=599 => Decline::Unreachable,
                    _ => Decline::Refused,
                };
                let _lost: Race<()> = self.domain.decline(now.mono, offer, why);
            }
            None if self.another_way(now, id, status) => return,
            None => {
                if moved.is_some_and(|(user, to)| self.follow_redirection(now, id, &user, &to)) {
                    return;
                }
                let reason = "nobody took the call";
                self.nobody_came(now, id, EndedBy::Callee, told_of_call(status), reason);
                return;
            }
        }
        self.send_media(now, id);
    }

    pub(super) fn ring_timeout(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.ring_until = None;
        if call.stage != Stage::Ringing {
            return;
        }
        let (status, reason) = (StatusCode::TEMPORARILY_UNAVAILABLE, "nobody answered in time");
        if call.round.as_ref().is_some_and(|round| round.moved_to.is_some()) {
            self.give_up_round(now, id, &Reason::new("SIP", 408, "Not answered in time"), status);
            return;
        }
        if call.comes_back() {
            self.cancel_round(now, id, &Reason::new("SIP", 408, "Not answered in time"), status);
            self.leave_way(id);
            if let Some(call) = self.calls.get_mut(&id) {
                call.stage.on_round_over();
            }
        }
        self.nobody_came(now, id, EndedBy::System, status, reason);
    }

    /// Nobody of this round is waited for any longer; it ends as if this had been the answer.
    pub(super) fn give_up_round(&mut self, now: Now, id: CallId, reason: &Reason, status: StatusCode) {
        self.cancel_branches(now, id, reason);
        self.round_over(now, id, status);
    }

    /// Stops every phone that still rings and closes the round.
    pub(super) fn cancel_round(&mut self, now: Now, id: CallId, reason: &Reason, status: StatusCode) {
        self.cancel_branches(now, id, reason);
        self.close_round(now, id, status);
    }

    pub(super) fn cancel_branches(&mut self, now: Now, id: CallId, reason: &Reason) {
        let Some(round) = self.calls.get_mut(&id).and_then(|call| call.round.as_mut()) else {
            return;
        };
        for leg in &mut round.branches {
            // A party of another call has no phone that rings: what it answers finds nobody.
            let is_here_already = leg.dialog.is_some();
            if let (Invite::Sent(txn), true, false) = (leg.invite, leg.state.on_cancel(), is_here_already) {
                // One with its final response on the way is hung up when that comes.
                let _late = self.stack.cancel(now.mono, txn, Some(reason));
            }
        }
    }

    /// Forgets the round; answers of its devices that still come find nobody. Recorded unless it was won.
    fn close_round(&mut self, now: Now, id: CallId, status: StatusCode) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let Some(until) = call.ring_until.take() {
            self.deadlines.remove(&(until, Due::Ring(id)));
        }
        if let Some(at) = call.next_devices_at.take() {
            self.deadlines.remove(&(at, Due::NextDevices(id)));
        }
        call.early = None;
        let Some(round) = call.round.take() else {
            return;
        };
        if call.newcomer.is_some() && call.stage != Stage::Ended {
            // Nothing rings that could be picked up.
            self.newcomer_gone(now, id, Some(StatusCode::CALL_DOES_NOT_EXIST));
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if !status.is_success() {
            let record = RecordKind::CallDeclined {
                call: call.name.clone(),
                user: round.user.to_string(),
                status: status.code(),
            };
            self.record(now, record);
        }
    }

    /// Acknowledges an answer nobody wants and ends its dialog.
    pub(super) fn hang_up(&mut self, now: Now, dialog: DialogKey, reason: &Reason) {
        // Already acknowledged and hung up: nothing to do.
        if let Ok(bye) = self.stack.ack_and_bye(now.mono, dialog, Some(reason)) {
            self.await_challenge(dialog, bye);
        }
    }
}

pub(super) fn branch_of(call: &mut Call, txn: ClientTxn) -> Option<&mut Leg> {
    let branches = &mut call.round.as_mut()?.branches;
    branches.iter_mut().find(|leg| leg.invite == Invite::Sent(txn))
}

/// What a caller is told of the refusal of who was called. What is between us and that hop is no news for the one before us,
/// and some statuses would make it act on them: 503 says that this whole server takes nothing (RFC 3261 §16.7 step 6 has
/// proxies tell 500), a redirection would lead it past us, a challenge would have it prove itself to a stranger.
pub(super) fn told(status: StatusCode) -> StatusCode {
    match status.code() {
        300..=399 | 487 => StatusCode::TEMPORARILY_UNAVAILABLE,
        401 | 407 => StatusCode::BAD_GATEWAY,
        503 => StatusCode::SERVER_INTERNAL_ERROR,
        _ => status,
    }
}

/// As [`told`], of an INVITE. What a phone says of the one that we wrote, and would have to say in a field beside, is not about
/// the caller's.
pub(super) fn told_of_call(status: StatusCode) -> StatusCode {
    match status.code() {
        415 => StatusCode::NOT_ACCEPTABLE_HERE,
        420..=422 => StatusCode::SERVER_INTERNAL_ERROR,
        _ => told(status),
    }
}

fn party_of(user: &Name) -> Party {
    Party {
        user: Some(user.clone()),
        trunk: None,
    }
}

/// Our address of a user.
pub(super) fn address_of(user: &str, domain: &str) -> Option<NameAddr> {
    let host = Host::parse(domain.to_owned().into())?;
    Some(NameAddr::new(Uri::sip(Some(user), &host, None)))
}

/// The INVITE to a device: what the caller says of itself, and nothing of the way it came.
fn invite_request(call: &Call, to: &NameAddr, domain: &str, binding: &Binding, offer: &Offer) -> Request {
    let mut request = Request::new(Method::Invite, &binding.uri);
    let headers = &mut request.headers;
    headers.push_value(HeaderName::From, &presented(call.shown(), domain));
    headers.push_value(HeaderName::To, to);
    if let Some(transfer) = &call.transfer {
        headers.push_value(HeaderName::ReferredBy, &transfer.referred_by);
    }
    let redirected = call.redirected.as_ref();
    if let Some(mut by) = redirected.and_then(|redirected| address_of(&redirected.by, domain)) {
        by.params.set("reason", Some(b"unconditional"));
        headers.push_value(HeaderName::Diversion, &by);
    }
    for hop in &binding.path {
        headers.push_value(HeaderName::Route, hop);
    }
    for (name, value) in [
        (HeaderName::MaxForwards, call.max_forwards.to_string()),
        (HeaderName::ContentType, "application/sdp".to_owned()),
    ] {
        // Neither text holds a line break.
        if let Ok(field) = Header::new(name, value.as_bytes()) {
            headers.push_field(field);
        }
    }
    request.body = offer.text();
    request
}

/// The caller's address with its name, and a tag of ours to come. An address of a machine is replaced by our domain: it
/// says where the caller is, not who.
pub(super) fn presented(from: &NameAddr, domain: &str) -> NameAddr {
    let is_machine = from.uri.host().is_some_and(|host| !matches!(host, Host::Name(_)));
    let user = from.uri.user_unescaped().unwrap_or_default();
    let ours = std::str::from_utf8(&user)
        .ok()
        .filter(|user| is_machine && !user.is_empty())
        .and_then(|user| address_of(user, domain));
    let address = ours.unwrap_or_else(|| NameAddr::new(from.uri.without_headers()));
    match from.display() {
        Some(name) => address.with_display(&text(&name)),
        None => address,
    }
}
