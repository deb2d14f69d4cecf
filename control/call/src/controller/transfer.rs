//! Transfers: one party asks, by REFER, that the other be brought to somebody else; or somebody takes a party's place by
//! INVITE with Replaces.
//!
//! The party that is transferred keeps its session, its dialog and its description. The one that asked stands aside
//! until it is known how it ends: it leaves when the target is here, and comes back when the target is not.

use bytes::Bytes;
use sdp::{LocalSession, assign_payload_types};
use sip::{
    dialog::DialogId,
    header::{NameAddr, Reason, Replaces},
    message::{HeaderName, Method, Request, Response, StatusCode},
    stack::{ClientTxn, Content, DialogKey, DialogRequest, Flow, ServerTxn},
    uri::Uri,
};
use std::{collections::BTreeMap, time::Duration};

use super::{
    Controller, Due, Notify, Now, Purpose,
    calling::{answer_of, text, with_description},
    invitation::Act,
    rounds::{address_of, presented},
    unix_us,
};
use crate::{
    call::{Call, CallId, Newcomer, Past, Round, Side, Stage, Transfer},
    conference::MemberStage,
    domain::{Leave, Name, Race},
    journal::{EndedBy, RecordKind},
    leg::{Exchange, Invite, Leg, LegState},
    media::Endpoint,
    routing::Destination,
    services::Transfers,
};

/// Who hangs up this soon after its transfer failed did not know that it had: it believes to have left.
const PARTING: Duration = Duration::from_secs(1);
/// How long a party may take to answer the re-INVITE that moves it.
const MOVE_MAX: Duration = Duration::from_secs(32);

/// What a REFER asks for.
enum Order {
    /// Bring the other to whoever is at this address.
    Blind(Destination, String, Option<Bytes>),
    /// Bring together the others of two calls; of this one, the one who asked sits here.
    Attended(CallId, Side),
    /// Bring the other to a room, in the stead of a member who is there if one is named.
    Room(Name, Option<CallId>),
    /// Nobody can be reached that way.
    Vain(StatusCode),
}

impl Controller {
    /// A REFER in a call.
    pub(super) fn referred(&mut self, now: Now, id: CallId, side: Side, txn: ServerTxn, request: &Request) {
        let order = match self.read_order(id, side, request) {
            Ok(order) => order,
            Err(status) => {
                self.respond(now, txn, Response::new(status));
                return;
            }
        };
        let leg = self.calls.get_mut(&id).and_then(|call| call.leg_mut(side));
        let notify = leg.and_then(|leg| leg.subscribe_refer(request));
        self.respond(now, txn, Response::new(StatusCode::ACCEPTED));
        match order {
            Order::Blind(destination, to, instance) => {
                self.transfer_blind(now, (id, side), notify, (destination, instance), to);
            }
            Order::Room(room, instead) => self.transfer_to_room(now, (id, side), notify, &room, instead),
            Order::Attended(other, seat) => self.transfer_attended(now, (id, side), (other, seat), notify),
            Order::Vain(status) => self.notify(now, notify, status),
        }
    }

    fn read_order(&self, id: CallId, side: Side, request: &Request) -> Result<Order, StatusCode> {
        let call = self.calls.get(&id).ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
        let leg = call.leg(side).ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
        self.may_transfer(leg)?;
        if !self.is_settled(id) || !matches!(side, Side::Caller | Side::Callee) {
            return Err(StatusCode::REQUEST_PENDING);
        }
        let target = request.headers.refer_to().ok().flatten();
        let uri = target.ok_or(StatusCode::BAD_REQUEST)?.uri;
        // RFC 5057 §5.1: 404, 480 or 481 to a request in a dialog would end it. Where the target cannot be reached the
        // REFER is accepted, and fails.
        match Act::of(&uri) {
            Ok(Act::Invite) => {}
            // Nobody is removed from a call of two but by hanging up.
            Ok(Act::Remove) => return Ok(Order::Vain(StatusCode::NOT_IMPLEMENTED)),
            Err(status) => return Ok(Order::Vain(status)),
        }
        let order = match replaces_in(&uri)? {
            Some(replaces) => self.named_call(id, leg, &replaces),
            None => {
                // Numbers lead out for who asks, as if it called them itself.
                let destination = self.destination_of(&uri, None, leg.user.as_ref());
                destination.map(|destination| match destination {
                    Destination::Room(room) => Order::Room(room, None),
                    destination => Order::Blind(destination, dialled(&uri), self.device_of(&uri)),
                })
            }
        };
        Ok(order.unwrap_or_else(Order::Vain))
    }

    /// The call that a Refer-To names by one of its dialogs.
    fn named_call(&self, id: CallId, by: &Leg, replaces: &Replaces) -> Result<Order, StatusCode> {
        let named = self.stack.find_dialog(&DialogId::of_replaces(replaces));
        let named = named.and_then(|dialog| self.by_dialog.get(&dialog));
        let (other, seat) = *named.ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
        if let Some(member) = self.members.get(&other).filter(|_| seat == Side::Member) {
            // Its own place in a room, which the other is to have.
            let is_its_own = member.leg.user == by.user && member.stage == MemberStage::Joined;
            let conference = self.conferences.get(&member.conference).filter(|_| is_its_own);
            let room = conference.map(|conference| conference.room.clone());
            let room = room.ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
            return Ok(Order::Room(room, Some(other)));
        }
        let found = self.calls.get(&other).filter(|_| other != id);
        let found = found.ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
        match (found.stage, seat) {
            (Stage::Talking, Side::Caller | Side::Callee) if self.is_settled(other) => {
                Ok(Order::Attended(other, seat))
            }
            // It did not wait for the answer of whom it called: the other waits in its stead.
            (Stage::Ringing | Stage::Offering | Stage::Waiting, Side::Caller) if found.transfer.is_none() => {
                Ok(Order::Attended(other, seat))
            }
            _ => Err(StatusCode::REQUEST_PENDING),
        }
    }

    /// Both talk, and nobody is on the way in or out. Looks at every call: for what is asked rarely.
    pub(super) fn is_settled(&self, id: CallId) -> bool {
        let moves_away = |call: &Call| {
            let from = call.transfer.as_ref().and_then(|transfer| transfer.from);
            from.is_some_and(|(from, _)| from == id)
        };
        let call = self.calls.get(&id);
        call.is_some_and(|call| {
            call.stage == Stage::Talking && call.transfer.is_none() && call.newcomer.is_none()
        }) && !self.calls.values().any(moves_away)
    }

    pub(super) fn may_transfer(&self, leg: &Leg) -> Result<(), StatusCode> {
        self.may_refer(leg.user.as_ref())
    }

    pub(super) fn may_refer(&self, user: Option<&Name>) -> Result<(), StatusCode> {
        let may = match self.config.calls.transfers {
            // One that was taken out has a call to finish, and no more.
            Transfers::Users => user.is_some_and(|user| self.registrar.account(user).is_some()),
            Transfers::All => true,
            Transfers::None => false,
        };
        may.then_some(()).ok_or(StatusCode::FORBIDDEN)
    }

    fn transfer_blind(
        &mut self,
        now: Now,
        (id, side): (CallId, Side),
        notify: Option<Notify>,
        (destination, instance): (Destination, Option<Bytes>),
        to: String,
    ) {
        if !self.stand_aside(id, side, notify, to) {
            return;
        }
        self.tell_transferor(now, id, StatusCode::TRYING);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.destination = destination;
        (call.instance, call.redirected) = (instance, None);
        self.proceed(now, id);
        self.send_media(now, id);
    }

    /// Who asked leaves its place, which is the callee's from now on. False when it cannot.
    pub(super) fn stand_aside(&mut self, id: CallId, side: Side, notify: Option<Notify>, to: String) -> bool {
        let domain = self.config.domains.first().cloned().unwrap_or_default();
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        if call.callee.is_none() || !call.stage.on_transfer() {
            return false;
        }
        if side == Side::Caller {
            let callee = call.callee.as_mut().expect("looked at above");
            std::mem::swap(&mut call.caller, callee);
            std::mem::swap(&mut call.caller_way, &mut call.way);
            call.is_turned = !call.is_turned;
        }
        let leg = call.callee.take().expect("looked at above");
        let referred_by = leg.user.as_ref().and_then(|user| address_of(user, &domain));
        for (dialog, side) in [(call.caller.dialog, Side::Caller), (leg.dialog, Side::Transferor)] {
            self.by_dialog.extend(dialog.map(|dialog| (dialog, (id, side))));
        }
        call.transfer = Some(Transfer {
            referred_by: referred_by.unwrap_or_else(|| presented(&leg.address, &domain)),
            leg,
            notify,
            told: None,
            to,
            from: None,
            way: call.way.take(),
            last_way: call.last_way,
        });
        true
    }

    /// Two calls of one party become one. The call that began first lives on; the party of the other is moved to it by
    /// a re-INVITE, so that who waited longest notices nothing.
    fn transfer_attended(
        &mut self,
        now: Now,
        asked: (CallId, Side),
        named: (CallId, Side),
        notify: Option<Notify>,
    ) {
        let (kept, moved) = if asked.0 < named.0 {
            (asked, named)
        } else {
            (named, asked)
        };
        let Some(source) = self.calls.get(&moved.0) else {
            return;
        };
        if source.stage != Stage::Talking
            || self
                .calls
                .get(&kept.0)
                .is_none_or(|call| call.stage != Stage::Talking)
        {
            self.transfer_ringing(now, asked, named.0, notify);
            return;
        }
        let from = other_of(moved.1);
        let Some(guest) = source.leg(from) else { return };
        let (party, peer, address) = (guest.party(), guest.peer, guest.address.clone());
        let suites = self
            .security
            .offered_again(guest.security, guest.suite().is_some())
            .to_vec();
        let name = guest
            .user
            .clone()
            .unwrap_or_else(|| text(&guest.address.uri.user_unescaped().unwrap_or_default()).into());
        let to = text(address.uri.as_bytes());
        if !self.stand_aside(kept.0, kept.1, notify, to) {
            return;
        }
        self.tell_transferor(now, kept.0, StatusCode::TRYING);
        let formats = self.formats_for(kept.0, &party);
        if let Some(source) = self.calls.get_mut(&moved.0) {
            source.goes_to = Some(kept.0);
        }
        let Some(call) = self.calls.get_mut(&kept.0) else {
            return;
        };
        call.transfer.as_mut().expect("it stood aside").from = Some((moved.0, from));
        call.stage.on_offer();
        call.rounds += 1;
        call.withdraw_endpoints(|_| false);
        let endpoint = format!("callee-{}", call.rounds);
        call.plan
            .put(&endpoint, Endpoint::offered(&formats, peer, &suites));
        call.offered.push(endpoint);
        call.destination = Destination::User(name.clone());
        call.round = Some(Round {
            user: name,
            offer: None,
            devices: Vec::new(),
            branches: Vec::new(),
            others: BTreeMap::new(),
            refusal: None,
            moved_to: None,
        });
        self.send_media(now, kept.0);
    }

    /// Who asked did not wait until the one it called answered: its own call ends, and the other is brought there.
    fn transfer_ringing(
        &mut self,
        now: Now,
        (id, side): (CallId, Side),
        other: CallId,
        notify: Option<Notify>,
    ) {
        let Some(call) = self.calls.get(&other) else {
            return;
        };
        let (destination, to) = (call.destination.clone(), call.to.clone());
        let instance = call.instance.clone();
        let entry = self.calls.get_mut(&other).and_then(|call| call.entry.take());
        if let Some(entry) = entry {
            // Whom it brings there waits in its stead: nobody gave up.
            self.by_entry.remove(&entry);
            let _lost: Race<()> = self.domain.leave(now.mono, entry, Leave::TurnedAway);
        }
        let (status, reason) = (
            StatusCode::REQUEST_TERMINATED,
            "the caller transferred another call to it",
        );
        self.end(now, other, EndedBy::Caller, status, reason);
        self.transfer_blind(now, (id, side), notify, (destination, instance), to);
    }

    /// The endpoint is there: the party of the other call is asked to send its audio to it.
    pub(super) fn send_move(&mut self, now: Now, id: CallId) {
        let Some((from, seat)) = self.move_of(id) else {
            return;
        };
        let session = self.new_session_id();
        let guest = self.calls.get(&from).and_then(|call| call.leg(seat));
        let party = guest.map(Leg::party).unwrap_or_default();
        let formats = self.formats_for(id, &party);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if !call.stage.on_offer_ready() && call.stage != Stage::Ringing {
            return;
        }
        if call.ring_until.is_none() {
            let until = now.mono + MOVE_MAX;
            call.ring_until = Some(until);
            self.deadlines.insert((until, Due::Ring(id)));
        }
        let endpoint = call.offered.last().cloned().unwrap_or_default();
        let transport = call.plan.local(&endpoint);
        let sent = match (
            transport,
            self.calls.get_mut(&from).and_then(|call| call.leg_mut(seat)),
        ) {
            (Some(transport), Some(guest)) => {
                let codecs: Vec<sdp::Codec> = formats.into_iter().map(|format| format.codec).collect();
                let known = guest.media.iter().flat_map(|media| &media.formats);
                let known: Vec<sdp::Format> = known.map(format_of).collect();
                let address = transport.address;
                let formats = assign_payload_types(&codecs, &known);
                let lines = guest.lines_again(guest.offered_audio(formats, transport));
                let session = guest
                    .session
                    .get_or_insert_with(|| LocalSession::new(session, address));
                let offer = sdp::write_offer(&lines, session);
                let (address, security) = (guest.address.clone(), guest.security);
                let mut leg = Leg::new(guest.invite, address, guest.peer, &endpoint, security);
                (leg.dialog, leg.user) = (guest.dialog, guest.user.clone());
                leg.trunk = guest.trunk.clone();
                (leg.session, leg.exchange) = (
                    guest.session.clone(),
                    Exchange::Ours {
                        offer: offer.clone().into(),
                    },
                );
                guest.dialog.map(|dialog| (dialog, offer, leg))
            }
            _ => None,
        };
        self.ask_to_move(now, id, sent);
    }

    fn ask_to_move(&mut self, now: Now, id: CallId, sent: Option<(DialogKey, sdp::Description, Leg)>) {
        let sent = sent.and_then(|(dialog, offer, leg)| {
            let invite = DialogRequest::new(Method::Invite).with_content(Content::sdp(offer.to_string()));
            let txn = self.stack.dialog_request(now.mono, dialog, invite).ok()?;
            Some((txn, leg))
        });
        let Some(round) = self.calls.get_mut(&id).and_then(|call| call.round.as_mut()) else {
            return;
        };
        match sent {
            Some((txn, mut leg)) => {
                leg.invite = Invite::Sent(txn);
                let endpoint = leg.endpoint.clone();
                round.branches.push(leg);
                self.by_client.insert(txn, Purpose::Branch(id));
                self.note_move(id, &endpoint);
            }
            // It hung up, or makes an offer of its own just now.
            None => round.refused(StatusCode::TEMPORARILY_UNAVAILABLE),
        }
        self.close_round_if_over(now, id);
    }

    /// For who goes on from the journal: the party may send its audio to this endpoint by then.
    fn note_move(&mut self, id: CallId, endpoint: &str) {
        let call = self.calls.get(&id);
        let to = call.and_then(|call| call.plan.addresses().get(endpoint).map(|(rtp, _)| *rtp));
        if let (Some(to), Some((from, seat))) = (to, self.move_of(id))
            && let Some(source) = self.calls.get_mut(&from)
            && let Some(guest) = source.leg(seat).map(|leg| leg.endpoint.clone())
        {
            source.plan.ask_away(&guest, to);
        }
    }

    /// The party does not go where it was asked to.
    pub(super) fn does_not_move(&mut self, dialog: Option<DialogKey>) {
        let seat = dialog.and_then(|dialog| self.by_dialog.get(&dialog).copied());
        if let Some((id, side)) = seat
            && let Some(call) = self.calls.get_mut(&id)
            && let Some(endpoint) = call.leg(side).map(|leg| leg.endpoint.clone())
        {
            call.plan.stays(&endpoint);
        }
    }

    /// A party makes an offer of its own while it is asked to move: it is asked again when that is over, unless that takes
    /// too long. False: this is no such party.
    pub(super) fn moves_later(&mut self, id: CallId, txn: ClientTxn) -> bool {
        if self.move_of(id).is_none() {
            return false;
        }
        let round = self.calls.get_mut(&id).and_then(|call| call.round.as_mut());
        if let Some(round) = round {
            round.branches.retain(|leg| leg.invite != Invite::Sent(txn));
        }
        true
    }

    /// The call that this party is being moved to, and waits for.
    pub(super) fn moved_from(&self, id: CallId, side: Side) -> Option<CallId> {
        let waits = |call: &Call| {
            let from = call.transfer.as_ref().and_then(|transfer| transfer.from);
            let asks = call
                .round
                .as_ref()
                .is_some_and(|round| !round.branches.is_empty());
            from == Some((id, side)) && call.stage == Stage::Ringing && !asks
        };
        let mut calls = self.calls.iter();
        calls.find(|(_, call)| waits(call)).map(|(id, _)| *id)
    }

    /// The call and seat that a party is being moved from.
    pub(super) fn move_of(&self, id: CallId) -> Option<(CallId, Side)> {
        self.calls.get(&id)?.transfer.as_ref()?.from
    }

    /// The party answered from its new place: it is gone from its old call, which has nobody left to talk to.
    pub(super) fn moved_here(&mut self, now: Now, id: CallId) {
        let Some((from, seat)) = self.move_of(id) else {
            return;
        };
        let left = unix_us(now.wall);
        let Some(source) = self.calls.get_mut(&from) else {
            return;
        };
        source.goes_to = None;
        let role = source.role(seat);
        let Some(guest) = source.leg_mut(seat) else { return };
        let (conversation, rx_trunk) = (guest.conversation.take(), guest.rx_trunk.take());
        let past = Past::of(guest, role, left);
        (guest.dialog, guest.state) = (None, LegState::Ended);
        source.past.push(past);
        let way = if seat == Side::Callee {
            source.callee = None;
            source.way.take()
        } else {
            source.caller_way.take()
        };
        if let Some(call) = self.calls.get_mut(&id) {
            call.reached_by(way);
            if let Some(leg) = call.callee.as_mut() {
                (leg.conversation, leg.rx_trunk) = (conversation, rx_trunk);
            }
        }
        self.by_offer.extend(conversation.map(|offer| (offer, id)));
        let name = self
            .calls
            .get(&id)
            .map_or_else(String::new, |call| call.name.clone());
        let reason = format!("transferred to call {name}");
        self.end(now, from, EndedBy::System, StatusCode::OK, &reason);
    }

    /// The target is here, or waits in its place: who asked leaves, and its agent is free.
    pub(super) fn transfer_done(&mut self, now: Now, id: CallId) {
        self.tell_transferor(now, id, StatusCode::OK);
        self.release(now, id, Side::Transferor);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(transfer) = call.transfer.take() else {
            return;
        };
        let record = RecordKind::CallTransferred {
            call: call.name.clone(),
            by: text(transfer.leg.address.uri.as_bytes()),
            to: transfer.to,
            status: StatusCode::OK.code(),
        };
        self.trunks.give_back_all(transfer.way);
        self.record(now, record);
        self.part(
            now,
            id,
            Side::Callee,
            transfer.leg,
            &Reason::new("SIP", 200, "Call transferred"),
        );
    }

    /// Nobody took the transferred party: who asked has it back, or, when it is gone, the queue it came by.
    pub(super) fn transfer_failed(&mut self, now: Now, id: CallId, status: StatusCode) {
        self.tell_transferor(now, id, status);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(transfer) = call.transfer.take() else {
            return;
        };
        call.withdraw_endpoints(|_| false);
        self.stays_behind(now, transfer.from);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let record = RecordKind::CallTransferred {
            call: call.name.clone(),
            by: text(transfer.leg.address.uri.as_bytes()),
            to: transfer.to,
            status: status.code(),
        };
        if transfer.leg.state.is_confirmed() && call.stage.on_returned() {
            let dialog = transfer.leg.dialog;
            self.by_dialog
                .extend(dialog.map(|dialog| (dialog, (id, Side::Callee))));
            call.callee = Some(transfer.leg);
            (call.way, call.last_way) = (transfer.way, transfer.last_way);
            call.returned = Some(now.mono);
            self.record(now, record);
            self.settle(now, id);
            return;
        }
        call.past.push(Past::of(
            &transfer.leg,
            call.role(Side::Callee),
            unix_us(now.wall),
        ));
        self.trunks.give_back_all(transfer.way);
        self.record(now, record);
        self.abandoned(now, id, status);
    }

    /// Who is left by who transferred it goes back to the queue it came by.
    pub(super) fn abandoned(&mut self, now: Now, id: CallId, status: StatusCode) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let Some(queue) = call.came_by().cloned() {
            call.destination = Destination::Queue(queue.clone());
            self.enqueue(now, id, &queue, 1);
        } else {
            let reason = "the transfer failed, and who asked for it is gone";
            self.end(now, id, EndedBy::System, status, reason);
        }
    }

    /// Who has a call back since a moment hung up: that crossed the news of the failure. False when it is no such.
    pub(super) fn transferor_left(&mut self, now: Now, id: CallId) -> bool {
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        let crossed = call
            .returned
            .is_some_and(|at| now.mono.saturating_duration_since(at) < PARTING);
        let is_free = call.transfer.is_none() && call.newcomer.is_none();
        if !crossed || call.came_by().is_none() || !is_free {
            return false;
        }
        if !call.stage.on_transfer() {
            return false;
        }
        self.release(now, id, Side::Callee);
        self.leave_way(id);
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        if let Some(mut leg) = call.callee.take() {
            leg.state.on_ended();
            self.part(
                now,
                id,
                Side::Callee,
                leg,
                &Reason::new("SIP", 200, "Call transferred"),
            );
        }
        self.abandoned(now, id, StatusCode::TEMPORARILY_UNAVAILABLE);
        true
    }

    /// The call ends while a transfer is under way, or somebody was about to take a place in it.
    pub(super) fn end_transfer(&mut self, now: Now, id: CallId, status: StatusCode) {
        let status = if status.is_success() {
            StatusCode::REQUEST_TERMINATED
        } else {
            status
        };
        self.tell_transferor(now, id, status);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let (transfer, newcomer) = (call.transfer.take(), call.newcomer.take());
        if let Some(transfer) = transfer {
            self.trunks.give_back_all(transfer.way);
            let reason = Reason::new("SIP", status.code(), "The transferred party is gone");
            self.part(now, id, Side::Callee, transfer.leg, &reason);
            self.stays_behind(now, transfer.from);
        }
        if let Some(Newcomer { leg, waits, .. }) = newcomer
            && let Invite::Received(txn) = leg.invite
        {
            self.by_dialog.retain(|dialog, _| leg.dialog != Some(*dialog));
            self.waits_no_more(now, waits);
            self.respond(now, txn, Response::new(StatusCode::CALL_DOES_NOT_EXIST));
        }
    }

    /// The party of this call that was to be moved stays. Should who talked to it have gone, nobody is there any more.
    fn stays_behind(&mut self, now: Now, from: Option<(CallId, Side)>) {
        let Some((id, seat)) = from else { return };
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.goes_to = None;
        let other = other_of(seat);
        let is_alone = call.leg(other).is_none_or(|leg| leg.state == LegState::Ended);
        if is_alone {
            let by = call.ended_by(other);
            let reason = "the transfer failed, and who asked for it is gone";
            self.end(now, id, by, StatusCode::OK, reason);
        }
    }

    /// Who asked hung up in the call from which the other party is asked to go: the transfer goes on. False when it is no such.
    pub(super) fn asker_left(&mut self, now: Now, id: CallId, side: Side) -> bool {
        let goes_to = self.calls.get(&id).and_then(|call| call.goes_to);
        let is_asker = goes_to.and_then(|to| self.move_of(to)) == Some((id, other_of(side)));
        if is_asker {
            self.steps_out(now, id, side);
        }
        is_asker
    }

    /// Who asked for a transfer hung up; it goes on.
    pub(super) fn transferor_gone(&mut self, now: Now, id: CallId) {
        self.steps_out(now, id, Side::Transferor);
    }

    fn steps_out(&mut self, now: Now, id: CallId, side: Side) {
        self.release(now, id, side);
        let leg = self.calls.get_mut(&id).and_then(|call| call.leg_mut(side));
        if let Some(leg) = leg {
            leg.state.on_ended();
            self.trunks.release(leg.rx_trunk.take(), None);
            if let Some(dialog) = leg.dialog.take() {
                self.by_dialog.remove(&dialog);
            }
        }
    }

    /// A party leaves the call, which goes on. Its endpoint stays until the end, for its counts.
    fn part(&mut self, now: Now, id: CallId, seat: Side, mut leg: Leg, reason: &Reason) {
        if let Some(call) = self.calls.get_mut(&id) {
            let past = Past::of(&leg, call.role(seat), unix_us(now.wall));
            call.past.push(past);
            call.plan.mute(&leg.endpoint);
        }
        self.trunks.release(leg.rx_trunk.take(), None);
        if let Some(reoffer) = leg.reoffer.take() {
            self.respond(now, reoffer.txn, Response::new(StatusCode::REQUEST_TERMINATED));
        }
        let Some(dialog) = leg.dialog else { return };
        self.by_dialog.remove(&dialog);
        if leg.state.is_confirmed() {
            let bye = DialogRequest::new(Method::Bye).with_value(HeaderName::Reason, reason);
            self.send_plain(now, dialog, bye);
        }
    }

    /// RFC 3515 §2.4.5: who asked is told how it goes, each thing once.
    pub(super) fn tell_transferor(&mut self, now: Now, id: CallId, status: StatusCode) {
        let transfer = self.calls.get_mut(&id).and_then(|call| call.transfer.as_mut());
        let Some(transfer) = transfer.filter(|transfer| transfer.told != Some(status)) else {
            return;
        };
        transfer.told = Some(status);
        let notify = transfer.notify;
        self.notify(now, notify, status);
    }

    pub(super) fn notify(&mut self, now: Now, to: Option<Notify>, status: StatusCode) {
        let Some((dialog, event_id)) = to else { return };
        let event = event_id.map_or_else(|| "refer".to_owned(), |cseq| format!("refer;id={cseq}"));
        let state = if status.is_final() {
            "terminated;reason=noresource"
        } else {
            "active;expires=180"
        };
        let line = format!("SIP/2.0 {} {}\r\n", status.code(), status.reason());
        let notify = DialogRequest::new(Method::Notify)
            .with_header("Event", event)
            .and_then(|request| request.with_header("Subscription-State", state))
            .map(|request| request.with_content(Content::new("message/sipfrag;version=2.0", line)));
        if let Ok(notify) = notify {
            // It may have hung up and not want to know.
            self.send_plain(now, dialog, notify);
        }
    }

    /// A party that was to be moved stays where it is: its audio goes back to the old place.
    pub(super) fn stay(&mut self, now: Now, dialog: DialogKey) {
        let _gone = self.stack.ack(dialog, None);
        self.reinvite_soon(now, dialog);
    }

    /// An INVITE that takes the place of a party (RFC 3891): call pick-up, and transfers that a phone does by itself.
    pub(super) fn receive_replacement(
        &mut self,
        now: Now,
        txn: ServerTxn,
        request: &Request,
        flow: Flow,
        dialogs: (DialogKey, DialogKey),
    ) {
        let (dialog, replaced) = dialogs;
        if let Err(refusal) = self.admit_replacement(now, txn, request, flow, dialog, replaced) {
            self.counters.calls_refused += 1;
            self.respond(now, txn, *refusal);
        }
    }

    fn admit_replacement(
        &mut self,
        now: Now,
        txn: ServerTxn,
        request: &Request,
        flow: Flow,
        dialog: DialogKey,
        replaced: DialogKey,
    ) -> Result<(), Box<Response>> {
        let refuse = |status| Box::new(Response::new(status));
        let user = self.authorise(now, request, flow)?;
        let from = request
            .headers
            .from()
            .map_err(|_| refuse(StatusCode::BAD_REQUEST))?;
        let security = self.security_of(None, user.as_ref(), flow);
        let peer = flow.remote.ip();
        let mut leg = Leg::new(Invite::Received(txn), from, peer, "", security);
        (leg.dialog, leg.user) = (Some(dialog), user);
        if let Some(id) = self.rings_in(replaced) {
            self.may_transfer(&leg).map_err(refuse)?;
            self.may_be_picked_up(id).map_err(refuse)?;
            let wanted = self.read_newcomer(id, request, &mut leg)?;
            self.pick_up(now, id, leg, wanted);
            return Ok(());
        }
        let found = self.by_dialog.get(&replaced).copied();
        let (id, seat) = found.ok_or_else(|| refuse(StatusCode::CALL_DOES_NOT_EXIST))?;
        if !self.is_settled(id) {
            return Err(refuse(StatusCode::CALL_DOES_NOT_EXIST));
        }
        self.may_transfer(&leg).map_err(refuse)?;
        let wanted = self.read_newcomer(id, request, &mut leg)?;
        let call = self.calls.get_mut(&id).expect("looked at above");
        call.plan.put(&leg.endpoint, wanted);
        call.newcomer = Some(Newcomer {
            leg,
            replaces: seat,
            waits: None,
        });
        self.by_dialog.insert(dialog, (id, Side::Newcomer));
        self.settle(now, id);
        Ok(())
    }

    /// The endpoint of who comes into a call, from its offer.
    fn read_newcomer(
        &mut self,
        id: CallId,
        request: &Request,
        leg: &mut Leg,
    ) -> Result<Endpoint, Box<Response>> {
        // There is no time to make an offer of ours.
        if request.body.is_empty() {
            return Err(Box::new(Response::new(StatusCode::NOT_ACCEPTABLE_HERE)));
        }
        // Who came in before has a name of that kind too, whether it left or not.
        let came = |call: &Call| {
            let there = [Side::Caller, Side::Callee].map(|side| call.leg(side));
            let there = there.into_iter().flatten();
            let newcomers = there.filter(|leg| leg.endpoint.starts_with("newcomer-"));
            call.past.len() + newcomers.count()
        };
        let number = self.calls.get(&id).map_or(0, came) + 1;
        leg.endpoint = format!("newcomer-{number}");
        self.read_first_offer(request, leg)
    }

    /// The newcomer's endpoint is there: it takes the place, and who had it leaves.
    pub(super) fn seat_newcomer(&mut self, now: Now, id: CallId) {
        let session = self.new_session_id();
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if call.stage != Stage::Talking || call.newcomer.is_none() || !call.plan.is_settled() {
            return;
        }
        let Some(answer) = answer_of(call, Side::Newcomer, session) else {
            self.newcomer_gone(now, id, Some(StatusCode::SERVER_INTERNAL_ERROR));
            return;
        };
        let Newcomer {
            mut leg,
            replaces,
            waits,
        } = call.newcomer.take().expect("looked at above");
        let Some(old) = call.leg_mut(replaces) else { return };
        leg.state.on_answered();
        (leg.is_described, leg.joined_unix_us) = (true, unix_us(now.wall));
        let Invite::Received(txn) = leg.invite else { return };
        if let Some(dialog) = leg.dialog {
            self.by_dialog.insert(dialog, (id, replaces));
        }
        let newcomer = text(leg.address.uri.as_bytes());
        let mut old = std::mem::replace(old, leg);
        let way = if replaces == Side::Caller {
            call.caller_way.take()
        } else {
            call.way.take()
        };
        self.trunks.give_back_all(way);
        let record = RecordKind::CallTransferred {
            call: call.name.clone(),
            by: text(old.address.uri.as_bytes()),
            to: newcomer,
            status: StatusCode::OK.code(),
        };
        self.record(now, record);
        self.waits_no_more(now, waits);
        self.respond(now, txn, with_description(&answer));
        if let Some(offer) = old.conversation.take() {
            self.by_offer.remove(&offer);
            let _lost: Race<()> = self.domain.release(now.mono, offer);
        }
        self.part(now, id, replaces, old, &Reason::new("SIP", 200, "Call replaced"));
        self.send_media(now, id);
    }

    /// It hung up before it had the place, or cannot have it.
    pub(super) fn newcomer_gone(&mut self, now: Now, id: CallId, status: Option<StatusCode>) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(Newcomer { leg, waits, .. }) = call.newcomer.take() else {
            return;
        };
        call.plan.remove(&leg.endpoint);
        self.waits_no_more(now, waits);
        if let Some(dialog) = leg.dialog {
            self.by_dialog.remove(&dialog);
        }
        if let (Some(status), Invite::Received(txn)) = (status, leg.invite) {
            self.respond(now, txn, Response::new(status));
        }
        self.send_media(now, id);
    }
}

/// Who talks to this party.
fn other_of(side: Side) -> Side {
    match side {
        Side::Caller => Side::Callee,
        Side::Callee | Side::Transferor | Side::Newcomer | Side::Member => Side::Caller,
    }
}

/// What a Refer-To says about a dialog to take the place of.
pub(super) fn replaces_in(uri: &Uri) -> Result<Option<Replaces>, StatusCode> {
    let found = uri
        .headers()
        .find(|(name, _)| name.eq_ignore_ascii_case(b"Replaces"));
    let Some((_, value)) = found else {
        return Ok(None);
    };
    let value = value.into_owned().into();
    let parsed = Replaces::parse(&value).map_err(|_| StatusCode::BAD_REQUEST)?;
    Ok(Some(parsed))
}

/// An address as records write it: without what was added for one use.
fn dialled(uri: &Uri) -> String {
    text(NameAddr::new(uri.without_headers()).uri.as_bytes())
}

fn format_of(format: &sdp::NegotiatedFormat) -> sdp::Format {
    sdp::Format {
        payload_type: format.rx_payload_type,
        codec: format.codec.clone(),
    }
}
