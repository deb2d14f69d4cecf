//! Parties that are brought into a conference by REFER (RFC 4579): a party of a call sends the other one there, or a
//! member asks the room to call somebody.

use bytes::Bytes;
use sip::{
    dialog::DialogId,
    message::{Request, Response, StatusCode},
    stack::{DialogKey, ServerTxn},
    uri::Uri,
};

use super::{
    Controller, Now,
    calling::text,
    transfer::{is_settled, replaces_in},
    unix_us,
};
use crate::{
    call::{CallId, Side, Stage},
    conference::MemberStage,
    domain::Name,
    journal::{EndedBy, RecordKind},
    originate::Originate,
    routing::Destination,
    trunk::Origin,
};

/// Where NOTIFYs about a REFER go: its dialog, and the number that tells it from others there.
pub(crate) type Notify = (DialogKey, Option<u32>);

/// What a member wants of its room.
enum Wish {
    /// Call somebody. The text is what was asked for.
    Invite(Destination, String, Option<Bytes>),
    /// Bring the party it talks to in another call, where it sits here, in its own stead.
    Bring(CallId, Side),
}

impl Controller {
    /// The party that is not `side` goes on in a room. `instead`: a member that leaves the room for it.
    pub(super) fn transfer_to_room(
        &mut self,
        now: Now,
        (id, side): (CallId, Side),
        notify: Option<Notify>,
        room: &Name,
        instead: Option<CallId>,
    ) {
        if !self.stand_aside(id, side, notify, room.to_string()) {
            return;
        }
        self.tell_transferor(now, id, StatusCode::TRYING);
        let member = match self.move_to_room(now, id, room) {
            Ok(member) => member,
            Err(refusal) => {
                self.transfer_failed(now, id, refusal.status);
                return;
            }
        };
        if let Some(instead) = instead {
            // Who vouches for it has typed the PIN.
            let is_admitted = self
                .members
                .get(&instead)
                .is_some_and(|member| member.gate.is_none());
            let newcomer = self
                .member_named(&member)
                .and_then(|id| self.members.get_mut(&id));
            if let Some(newcomer) = newcomer.filter(|_| is_admitted) {
                newcomer.gate = None;
            }
        }
        // The room has it: who brought it need not wait.
        self.transfer_done(now, id);
        let reason = format!("went on as call {member} in {room}");
        self.end(now, id, EndedBy::System, StatusCode::OK, &reason);
        if let Some(instead) = instead {
            let reason = format!("another party came in its stead as call {member}");
            self.member_leaves(now, instead, EndedBy::System, StatusCode::OK, &reason);
        }
    }

    /// A REFER of a member: the room is to bring somebody in.
    pub(super) fn member_refers(&mut self, now: Now, id: CallId, txn: ServerTxn, request: &Request) {
        let wish = match self.read_wish(id, request) {
            Ok(wish) => wish,
            Err(status) => {
                self.respond(now, txn, Response::new(status));
                return;
            }
        };
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let notify = member.leg.subscribe_refer(request);
        let room = self.conferences[&member.conference].room.clone();
        self.respond(now, txn, Response::new(StatusCode::ACCEPTED));
        match wish {
            Ok(Wish::Bring(call, side)) => self.transfer_to_room(now, (call, side), notify, &room, Some(id)),
            Ok(Wish::Invite(party, from, instance)) => {
                self.notify(now, notify, StatusCode::TRYING);
                if let Err(status) = self.invite_to_room(now, id, (party, from, instance), &room, notify) {
                    self.notify(now, notify, status);
                }
            }
            Err(status) => self.notify(now, notify, status),
        }
    }

    /// The inner error is the target's, of which NOTIFY tells: RFC 5057 §5.1 has it that some statuses to a request in a
    /// dialog end that.
    fn read_wish(&self, id: CallId, request: &Request) -> Result<Result<Wish, StatusCode>, StatusCode> {
        let member = self.members.get(&id).ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
        self.may_transfer(&member.leg)?;
        if member.stage != MemberStage::Joined || member.gate.is_some() {
            return Err(StatusCode::REQUEST_PENDING);
        }
        let target = request.headers.refer_to().ok().flatten();
        let uri = target.ok_or(StatusCode::BAD_REQUEST)?.uri;
        let params = uri.params();
        let method = params.get("method");
        if method.is_some_and(|method| !method.eq_ignore_ascii_case(b"INVITE")) {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        if let Some(replaces) = replaces_in(&uri)? {
            let named = self.stack.find_dialog(&DialogId::of_replaces(&replaces));
            let named = named.and_then(|dialog| self.by_dialog.get(&dialog)).copied();
            let talks = named.filter(|(call, side)| {
                let call = self.calls.get(call).filter(|call| call.stage == Stage::Talking);
                let is_its_own = |leg: &crate::leg::Leg| leg.user == member.leg.user;
                call.is_some_and(|call| is_settled(call) && call.leg(*side).is_some_and(is_its_own))
            });
            let (call, side) = match talks {
                Some(found) => found,
                None => return Ok(Err(StatusCode::CALL_DOES_NOT_EXIST)),
            };
            return Ok(Ok(Wish::Bring(call, side)));
        }
        Ok(self.whom_to_invite(&uri, member.leg.user.as_ref()))
    }

    fn whom_to_invite(&self, uri: &Uri, by: Option<&Name>) -> Result<Wish, StatusCode> {
        let dialled = text(&uri.user_unescaped().unwrap_or_default());
        match self.routing.route(uri, &self.registrar) {
            Ok(Destination::User(user)) => {
                let name = user.to_string();
                Ok(Wish::Invite(Destination::User(user), name, self.device_of(uri)))
            }
            Ok(Destination::Out(number)) => {
                let name = number.to_string();
                Ok(Wish::Invite(Destination::Out(number), name, None))
            }
            // A room or a queue is nobody who could come.
            Ok(Destination::Queue(_) | Destination::Room(_)) => Err(StatusCode::FORBIDDEN),
            Err(status) => {
                let number = self.trunks.dialled(&dialled);
                let origin = by.map_or(Origin::Stranger, |user| Origin::Account(user));
                if self.trunks.ways(&number, origin).is_empty() {
                    return Err(status);
                }
                Ok(Wish::Invite(
                    Destination::Out(number.as_str().into()),
                    number,
                    None,
                ))
            }
        }
    }

    fn invite_to_room(
        &mut self,
        now: Now,
        by: CallId,
        (party, from, instance): (Destination, String, Option<Bytes>),
        room: &Name,
        notify: Option<Notify>,
    ) -> Result<(), StatusCode> {
        if self.calls.len() + self.members.len() >= self.config.calls.count_max {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let host = self.pool.take().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        let by = self
            .members
            .get(&by)
            .map(|member| text(member.from.uri.as_bytes()));
        let request = Originate {
            from,
            to: room.to_string(),
            reference: by.map(|by| format!("invited by {by}")),
            ..Originate::default()
        };
        let second = Destination::Room(room.clone());
        let call = self.summon(now, &request, (party, second), host);
        if let Some(call) = CallId::of_name(&call).and_then(|id| self.calls.get_mut(&id)) {
            (call.invited_for, call.instance) = (notify, instance);
        }
        let record = RecordKind::CallOriginated {
            call,
            key: None,
            request: Box::new(request),
            asked_unix_us: unix_us(now.wall),
        };
        self.record(now, record);
        Ok(())
    }

    /// Who asked for somebody to be called into its room is told how that ended.
    pub(super) fn tell_inviter(&mut self, now: Now, id: CallId, status: StatusCode) {
        let notify = self.calls.get_mut(&id).and_then(|call| call.invited_for.take());
        self.notify(now, notify, status);
    }
}
