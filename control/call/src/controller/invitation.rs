//! Parties that are brought into a conference and out of it by REFER (RFC 4579): a party of a call sends the other one
//! there; a member, or outside of dialogs whoever may, asks the room to call somebody or to let somebody go.

use bytes::Bytes;
use sip::{
    dialog::DialogId,
    message::{Request, Response, StatusCode},
    stack::{DialogKey, Flow, ServerTxn, StackError},
    uri::Uri,
};

use super::{Controller, Now, calling::text, transfer::replaces_in, unix_us};
use crate::{
    call::{CallId, Side},
    conference::MemberStage,
    domain::Name,
    journal::{EndedBy, RecordKind},
    originate::Originate,
    routing::Destination,
    trunk::Origin,
};

/// Where NOTIFYs about a REFER go: its dialog, and the number that tells it from others there.
pub(crate) type Notify = (DialogKey, Option<u32>);

/// What somebody wants of a room.
enum Wish {
    /// Call somebody. The text is what was asked for; the account answers for it.
    Invite(Destination, String, Option<Bytes>, Option<Name>),
    /// Let these members go.
    Remove(Vec<CallId>),
    /// Bring the party it talks to in another call, where it sits here, in its own stead.
    Bring(CallId, Side),
}

/// What a Refer-To asks for (RFC 3515 §2.1): what its `method` says, which is INVITE without one.
pub(super) enum Act {
    Invite,
    Remove,
}

impl Act {
    pub(super) fn of(uri: &Uri) -> Result<Self, StatusCode> {
        let params = uri.params();
        let is = |name: &[u8]| {
            params
                .get("method")
                .map(|method| method.eq_ignore_ascii_case(name))
        };
        match (is(b"INVITE"), is(b"BYE")) {
            (None | Some(true), _) => Ok(Self::Invite),
            (_, Some(true)) => Ok(Self::Remove),
            _ => Err(StatusCode::NOT_IMPLEMENTED),
        }
    }
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
        let by = text(member.from.uri.as_bytes());
        let room = self.conferences[&member.conference].room.clone();
        self.respond(now, txn, Response::new(StatusCode::ACCEPTED));
        match wish {
            Ok(Wish::Bring(call, side)) => self.transfer_to_room(now, (call, side), notify, &room, Some(id)),
            Ok(wish) => self.grant(now, &room, &by, wish, notify),
            Err(status) => self.notify(now, notify, status),
        }
    }

    /// A REFER outside of dialogs. What is wrong with it is its answer: there is no dialog that this could end.
    pub(super) fn referred_outside(&mut self, now: Now, txn: ServerTxn, request: &Request, flow: Flow) {
        let (room, by, wish) = match self.read_wish_outside(now, request, flow) {
            Ok(read) => read,
            Err(refusal) => {
                self.respond(now, txn, *refusal);
                return;
            }
        };
        let subscription = match self.stack.subscribe_referrer(now.mono, txn, request) {
            Ok(subscription) => subscription,
            Err(error) => {
                let status = match error {
                    StackError::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
                    // It says not where NOTIFYs are to go.
                    _ => StatusCode::BAD_REQUEST,
                };
                self.respond(now, txn, Response::new(status));
                return;
            }
        };
        if let Some(dialog) = subscription {
            self.stack.add_contact_param(dialog, "isfocus");
        }
        self.respond(now, txn, Response::new(StatusCode::ACCEPTED));
        self.grant(now, &room, &by, wish, subscription.map(|dialog| (dialog, None)));
    }

    /// The room, who asks, and for what.
    fn read_wish_outside(
        &mut self,
        now: Now,
        request: &Request,
        flow: Flow,
    ) -> Result<(Name, String, Wish), Box<Response>> {
        let refuse = |status| Box::new(Response::new(status));
        let uri = request.uri().map_err(|_| refuse(StatusCode::BAD_REQUEST))?;
        let room = match self.routing.route(&uri, &self.registrar) {
            Ok(Destination::Room(room)) => room,
            // A phone is asked to call somebody within its calls only; a queue or a menu calls nobody.
            Ok(Destination::User(_) | Destination::Queue(_) | Destination::Menu(_) | Destination::Out(_)) => {
                return Err(refuse(StatusCode::METHOD_NOT_ALLOWED));
            }
            Err(status) => return Err(refuse(status)),
        };
        let user = self.authorise(now, request, flow)?;
        // A carrier's own account is nobody in a room.
        let user = user.filter(|user| self.trunks.of_account(user).is_none());
        // A stranger has no say outside of calls, whoever may transfer in them.
        let user = user.ok_or_else(|| refuse(StatusCode::FORBIDDEN))?;
        self.may_refer(Some(&user)).map_err(refuse)?;
        let target = request.headers.refer_to().ok().flatten();
        let target = target.ok_or_else(|| refuse(StatusCode::BAD_REQUEST))?.uri;
        let from = request.headers.from();
        let by = from.map_err(|_| refuse(StatusCode::BAD_REQUEST))?.uri;
        let is_in = self.is_in_room(&room, &user);
        let wish = match Act::of(&target).map_err(refuse)? {
            Act::Invite if !is_in && self.gate_of(&room).is_some() => {
                // Its PIN says who may be there.
                return Err(refuse(StatusCode::FORBIDDEN));
            }
            Act::Invite => self.whom_to_invite(&target, Some(&user)).map_err(refuse)?,
            Act::Remove => {
                let members = self.members_at(&room, &target);
                let are_its_own = |id: &CallId| {
                    let member = self.members.get(id);
                    member.is_some_and(|member| member.leg.user.as_ref() == Some(&user))
                };
                if members.is_empty() {
                    return Err(refuse(StatusCode::NOT_FOUND));
                }
                if !is_in && !members.iter().all(are_its_own) {
                    return Err(refuse(StatusCode::FORBIDDEN));
                }
                Wish::Remove(members)
            }
        };
        Ok((room, text(by.as_bytes()), wish))
    }

    /// An account of ours that is in the room, and not before its gate.
    fn is_in_room(&self, room: &Name, user: &Name) -> bool {
        let conference = self.rooms.get(room).and_then(|id| self.conferences.get(id));
        let members = conference.into_iter().flat_map(|conference| &conference.members);
        let mut members = members.filter_map(|id| self.members.get(id));
        members.any(|member| {
            let is_in = member.stage == MemberStage::Joined && member.gate.is_none();
            is_in && member.leg.user.as_ref() == Some(user)
        })
    }

    /// The members that an address means: all of an account, or who called from there, or the device that is reached there.
    fn members_at(&self, room: &Name, uri: &Uri) -> Vec<CallId> {
        let uri = uri.without_headers().without_param("method");
        let device = self.registrar.gruu(&uri).is_some();
        let account = uri
            .user_unescaped()
            .filter(|_| self.routing.is_ours(&uri) && !device);
        let account = account.and_then(|user| self.registrar.account(std::str::from_utf8(&user).ok()?));
        let conference = self.rooms.get(room).and_then(|id| self.conferences.get(id));
        let members = conference.into_iter().flat_map(|conference| &conference.members);
        let is_meant = |id: &&CallId| {
            let Some(member) = self.members.get(id) else {
                return false;
            };
            let dialog = member.leg.dialog.and_then(|dialog| self.stack.dialog(dialog));
            let reached = dialog.is_some_and(|dialog| dialog.remote_target.matches(&uri));
            let is_of_account = account.is_some() && member.leg.user == account;
            is_of_account || reached || (account.is_none() && member.from.uri.matches(&uri))
        };
        members.filter(is_meant).copied().collect()
    }

    /// Who is told by NOTIFY how it goes.
    fn grant(&mut self, now: Now, room: &Name, by: &str, wish: Wish, notify: Option<Notify>) {
        self.notify(now, notify, StatusCode::TRYING);
        match wish {
            Wish::Invite(party, from, instance, behalf) => {
                let whom = (party, from, instance, behalf);
                let asked = self.invite_to_room(now, by, whom, room, notify);
                if let Err(status) = asked {
                    self.notify(now, notify, status);
                }
            }
            Wish::Remove(members) => {
                let reason = format!("{by} had it removed from {room}");
                for member in members {
                    self.member_leaves(now, member, EndedBy::System, StatusCode::OK, &reason);
                }
                self.notify(now, notify, StatusCode::OK);
            }
            // Only who is in the room itself can ask for that.
            Wish::Bring(..) => self.notify(now, notify, StatusCode::CALL_DOES_NOT_EXIST),
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
        match Act::of(&uri) {
            Ok(Act::Invite) => {}
            Ok(Act::Remove) => {
                let room = &self.conferences[&member.conference].room;
                let members = self.members_at(room, &uri);
                let found = (!members.is_empty()).then_some(Wish::Remove(members));
                return Ok(found.ok_or(StatusCode::NOT_FOUND));
            }
            Err(status) => return Ok(Err(status)),
        }
        if let Some(replaces) = replaces_in(&uri)? {
            let named = self.stack.find_dialog(&DialogId::of_replaces(&replaces));
            let named = named.and_then(|dialog| self.by_dialog.get(&dialog)).copied();
            let talks = named.filter(|(call, side)| {
                let is_its_own = |leg: &crate::leg::Leg| leg.user == member.leg.user;
                let leg = self.calls.get(call).and_then(|call| call.leg(*side));
                leg.is_some_and(is_its_own) && self.is_settled(*call)
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
                let device = self.device_of(uri);
                Ok(Wish::Invite(Destination::User(user), name, device, by.cloned()))
            }
            Ok(Destination::Out(number)) => {
                let name = number.to_string();
                Ok(Wish::Invite(Destination::Out(number), name, None, by.cloned()))
            }
            // A room, a queue or a menu is nobody who could come.
            Ok(Destination::Queue(_) | Destination::Menu(_) | Destination::Room(_)) => {
                Err(StatusCode::FORBIDDEN)
            }
            Err(status) => {
                let number = self.trunks.dialled(&dialled);
                let origin = by.map_or(Origin::Stranger, |user| Origin::Account(user));
                if !self.trunks.leads_out(&number, origin) {
                    return Err(status);
                }
                Ok(Wish::Invite(
                    Destination::Out(number.as_str().into()),
                    number,
                    None,
                    by.cloned(),
                ))
            }
        }
    }

    fn invite_to_room(
        &mut self,
        now: Now,
        by: &str,
        (party, from, instance, behalf): (Destination, String, Option<Bytes>, Option<Name>),
        room: &Name,
        notify: Option<Notify>,
    ) -> Result<(), StatusCode> {
        if self.calls.len() + self.members.len() >= self.config.calls.count_max {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let host = self.pool.take().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        let request = Originate {
            from,
            to: room.to_string(),
            reference: Some(format!("invited by {by}")),
            ..Originate::default()
        };
        let second = Destination::Room(room.clone());
        let call = self.summon(now, &request, (party, second), host);
        if let Some(call) = CallId::of_name(&call).and_then(|id| self.calls.get_mut(&id)) {
            (call.invited_for, call.instance) = (notify, instance);
            // Nobody calls out by way of a room who may not.
            call.behalf = behalf;
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
