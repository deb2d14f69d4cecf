//! When a media host is lost: its calls keep their dialogs, get their session again on the restarted or another host,
//! and parties whose address there is another one are told by re-INVITE. A few at a time: the other hosts have calls.

use std::time::{Duration, Instant};

use sip::{
    header::Reason,
    message::{Response, StatusCode},
    stack::DialogKey,
};

use super::{Controller, Due, Now, Purpose};
use crate::{
    call::{CallId, Side, Stage},
    conference::MemberStage,
    journal::EndedBy,
    pool::HostId,
};

/// How often a call that has no place is looked after.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// After a re-INVITE that could not be sent or was refused for the moment.
const TELL_AGAIN: Duration = Duration::from_secs(2);

/// Calls that lost their session.
#[derive(Debug, Default)]
pub(super) struct Displaced {
    /// The next one's turn.
    turn: Option<Instant>,
}

/// A call without a place.
#[derive(Debug, Clone)]
pub(crate) struct Displacement {
    /// Why.
    pub(crate) reason: String,
    /// It ends when it has none by then.
    pub(crate) until: Instant,
}

impl Controller {
    /// The host has none of its sessions any more.
    pub(super) fn lose_sessions(&mut self, now: Now, host: &HostId, reason: &str) {
        let of_host = self.calls.iter().filter(|(_, call)| call.plan.host() == host);
        let lost: Vec<CallId> = of_host.map(|(id, _)| *id).collect();
        for id in lost {
            self.displace(now, id, reason);
        }
        let of_host = self
            .conferences
            .iter()
            .filter(|(_, conference)| conference.plan.host() == host);
        let lost: Vec<CallId> = of_host.map(|(id, _)| *id).collect();
        for id in lost {
            self.displace_conference(now, id, reason);
        }
    }

    /// The call's session is gone. One that is over needs none; the others get another, in their turn.
    pub(super) fn displace(&mut self, now: Now, id: CallId, reason: &str) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if call.stage == Stage::Ended {
            call.plan.give_up();
            self.send_media(now, id);
            return;
        }
        if call.plan.is_lost() {
            return;
        }
        call.plan.lose();
        let patience = Duration::from_secs(self.config.media.replace_within_s);
        call.displaced = Some(Displacement {
            reason: reason.to_owned(),
            until: now.mono + patience,
        });
        self.stop_ringing(now, id);
        self.take_turn(now, id);
    }

    /// The conference's session is gone. One that all have left needs none.
    pub(super) fn displace_conference(&mut self, now: Now, id: CallId, reason: &str) {
        let Some(conference) = self.conferences.get_mut(&id) else {
            return;
        };
        if conference.members.is_empty() {
            conference.plan.give_up();
            self.send_conference(now, id);
            return;
        }
        if conference.plan.is_lost() {
            return;
        }
        conference.plan.lose();
        // What was being played to all is over.
        conference.sounds.clear();
        let patience = Duration::from_secs(self.config.media.replace_within_s);
        conference.displaced = Some(Displacement {
            reason: reason.to_owned(),
            until: now.mono + patience,
        });
        self.take_turn(now, id);
    }

    fn take_turn(&mut self, now: Now, id: CallId) {
        let rate = self.config.media.replaced_per_s.max(1);
        let turn = self.displaced.turn.map_or(now.mono, |turn| turn.max(now.mono));
        self.displaced.turn = Some(turn + Duration::from_secs(1) / rate);
        self.deadlines.insert((turn, Due::Replace(id)));
    }

    /// What rings was offered a port that is gone: it stops, and is rung again when there is another.
    fn stop_ringing(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let (offer, entry) = (call.round.as_ref().and_then(|round| round.offer), call.entry);
        let rings = matches!(call.stage, Stage::Offering | Stage::Ringing);
        if rings {
            call.stage.on_round_over();
            let reason = Reason::new("SIP", 487, "Media host lost");
            self.cancel_round(now, id, &reason, StatusCode::REQUEST_TERMINATED);
            self.leave_way(id);
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.withdraw_endpoints(|_| false);
        call.early = None;
        if call.entry.is_none() {
            // It goes where it was going once it has a place.
            call.stage.on_displaced();
        }
        if let Some(offer) = offer {
            self.by_offer.remove(&offer);
        }
        if let Some(entry) = entry {
            // No agent is rung for who could not be heard.
            self.domain.set_aside(now.mono, entry);
        }
    }

    /// Its turn to get a place.
    pub(super) fn replace(&mut self, now: Now, id: CallId) {
        if self.conferences.contains_key(&id) {
            self.replace_conference(now, id);
            return;
        }
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.plan.is_lost()) else {
            return;
        };
        let (Some(displaced), former) = (call.displaced.clone(), call.plan.host().clone()) else {
            return;
        };
        if self.pool.is_greeting(&former) && now.mono < displaced.until {
            self.look_again(now, id, displaced.until);
            return;
        }
        let Some(host) = self.pool.take_preferring(&former) else {
            if now.mono >= displaced.until {
                call.plan.give_up();
                self.pool.give_back(&former);
                self.end(
                    now,
                    id,
                    EndedBy::System,
                    StatusCode::SERVICE_UNAVAILABLE,
                    &displaced.reason,
                );
                self.send_media(now, id);
            } else {
                self.look_again(now, id, displaced.until);
            }
            return;
        };
        self.pool.give_back(&former);
        call.refused_by.clear();
        if let Some(recorded) = &mut call.recorded {
            // What another host, or another life of it, writes is a file of its own.
            recorded.segment += 1;
        }
        // It tells of who is silent there, and not of who is not.
        for leg in std::iter::once(&mut call.caller).chain(&mut call.callee) {
            leg.is_silent = false;
        }
        // And may have what that one had not.
        call.lacks_prompt = false;
        if let Some(selection) = &mut call.menu {
            selection.lacks_prompt = false;
        }
        call.plan.place(host.clone(), host == former);
        self.counters.calls_replaced += 1;
        self.send_media(now, id);
    }

    /// The hosts that are there do not take a call that was displaced. False when it has waited long enough.
    pub(super) fn replace_later(&mut self, now: Now, id: CallId) -> bool {
        let call = self.calls.get_mut(&id).filter(|call| !call.plan.may_exist());
        let displaced = call.and_then(|call| Some((call.displaced.clone()?, call)));
        let Some((displaced, call)) = displaced.filter(|(displaced, _)| now.mono < displaced.until) else {
            return false;
        };
        call.plan.lose();
        self.look_again(now, id, displaced.until);
        true
    }

    /// As [`Controller::replace_later`], for a conference.
    pub(super) fn replace_conference_later(&mut self, now: Now, id: CallId) -> bool {
        let conference = self.conferences.get_mut(&id).filter(|it| !it.plan.may_exist());
        let displaced = conference.and_then(|conference| Some((conference.displaced.clone()?, conference)));
        let Some((displaced, conference)) = displaced else {
            return false;
        };
        if now.mono < displaced.until {
            conference.plan.lose();
            self.look_again(now, id, displaced.until);
        } else {
            self.end_conference(now, id, &displaced.reason);
        }
        true
    }

    fn look_again(&mut self, now: Now, id: CallId, until: Instant) {
        let again = (now.mono + LOOK_AGAIN).min(until.max(now.mono + Duration::from_millis(1)));
        self.deadlines.insert((again, Due::Replace(id)));
    }

    fn replace_conference(&mut self, now: Now, id: CallId) {
        let conference = self.conferences.get_mut(&id);
        let Some(conference) = conference.filter(|conference| conference.plan.is_lost()) else {
            return;
        };
        let (Some(displaced), former) = (conference.displaced.clone(), conference.plan.host().clone()) else {
            return;
        };
        if self.pool.is_greeting(&former) && now.mono < displaced.until {
            self.look_again(now, id, displaced.until);
            return;
        }
        let Some(host) = self.pool.take_preferring(&former) else {
            if now.mono >= displaced.until {
                self.end_conference(now, id, &displaced.reason);
            } else {
                self.look_again(now, id, displaced.until);
            }
            return;
        };
        self.pool.give_back(&former);
        (conference.lacks_prompt, conference.lacks_sounds) = (false, false);
        conference.plan.place(host.clone(), host == former);
        self.counters.calls_replaced += conference.members.len() as u64;
        self.save_conference(now, id);
        self.send_conference(now, id);
    }

    /// Tells members whose address at the media host is another one than they were told.
    pub(super) fn tell_members_moved(&mut self, now: Now, id: CallId) {
        let Some(conference) = self.conferences.get(&id).filter(|it| it.plan.is_settled()) else {
            return;
        };
        let members: Vec<CallId> = conference.members.iter().copied().collect();
        for member in members {
            self.tell_moved_member(now, member);
        }
    }

    /// True when the member has another address than it knows.
    fn has_member_moved(&self, id: CallId) -> bool {
        self.members.get(&id).is_some_and(|member| {
            let conference = self.conferences.get(&member.conference);
            conference.is_some_and(|it| it.plan.has_moved(&member.leg.endpoint))
        })
    }

    pub(super) fn tell_moved_member(&mut self, now: Now, id: CallId) {
        if !self.has_member_moved(id) {
            return;
        }
        // Taken to be changed: its record has the address.
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if !member.leg.is_described || !member.leg.state.is_confirmed() {
            // It is told by its answer.
            self.member_follows(id);
            return;
        }
        let asked = Purpose::Refresh(id, Side::Member);
        let is_told = self.by_client.values().any(|purpose| *purpose == asked);
        let Some(dialog) = member.leg.dialog.filter(|_| !is_told) else {
            return;
        };
        if !self.reinvite(now, dialog) {
            self.deadlines.insert((now.mono + TELL_AGAIN, Due::Tell(id)));
        }
    }

    /// It was sent an offer that says where the media host is.
    pub(super) fn member_is_asked(&mut self, id: CallId) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        if let Some(conference) = self.conferences.get_mut(&member.conference) {
            conference.plan.ask(&member.leg.endpoint);
        }
    }

    /// It agreed to such an offer. Should the room have moved again meanwhile, it gets another.
    pub(super) fn member_agrees(&mut self, now: Now, id: CallId) {
        // Taken to be changed: its record has the address.
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if let Some(conference) = self.conferences.get_mut(&member.conference) {
            conference.plan.follow_offer(&member.leg.endpoint);
        }
        self.tell_moved_member(now, id);
    }

    /// It knows where the media host is.
    fn member_follows(&mut self, id: CallId) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        if let Some(conference) = self.conferences.get_mut(&member.conference) {
            conference.plan.follow(&member.leg.endpoint);
        }
    }

    /// What became of telling, if it was that and it did not succeed.
    pub(super) fn moved_member_refused(&mut self, now: Now, id: CallId, status: StatusCode) -> bool {
        if status.is_success() || !status.is_final() || !self.has_member_moved(id) {
            return false;
        }
        if status == StatusCode::REQUEST_PENDING {
            // RFC 3261 §14.1 says when ours may go again: `glare_over` is told.
        } else if matches!(status.code(), 500 | 503) {
            self.deadlines.insert((now.mono + TELL_AGAIN, Due::Tell(id)));
        } else {
            let reason = "a party does not follow to another media host";
            self.member_leaves(now, id, EndedBy::System, status, reason);
        }
        true
    }

    /// Tells parties whose address at the media host is another one than they were told.
    pub(super) fn tell_moved(&mut self, now: Now, id: CallId) {
        self.tell_moved_member(now, id);
        for side in [Side::Caller, Side::Callee] {
            self.tell_moved_party(now, id, side);
        }
    }

    /// True when the party has another address than it knows.
    fn has_party_moved(&self, id: CallId, side: Side) -> bool {
        self.calls.get(&id).is_some_and(|call| {
            let leg = call.leg(side);
            leg.is_some_and(|leg| call.plan.has_moved(&leg.endpoint))
        })
    }

    fn tell_moved_party(&mut self, now: Now, id: CallId, side: Side) {
        if !self.has_party_moved(id, side) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(leg) = call.leg(side) else { return };
        let (endpoint, dialog) = (leg.endpoint.clone(), leg.dialog);
        let knows = leg.is_described && leg.state.is_confirmed();
        // Who was not answered yet is told by its answer, and then asked for a key that can be followed from its start.
        let is_asked = leg.suite().is_some() && call.plan.lacks_key(&endpoint);
        if !knows && !is_asked {
            call.plan.follow(&endpoint);
            return;
        }
        let is_told = self
            .by_client
            .values()
            .any(|purpose| *purpose == Purpose::Refresh(id, side));
        let Some(dialog) = dialog.filter(|_| !is_told) else {
            return;
        };
        if !self.reinvite(now, dialog) {
            self.deadlines.insert((now.mono + TELL_AGAIN, Due::Tell(id)));
        }
    }

    /// An offer of ours crossed one of the party's, and may go again now: what it was for is still to be told.
    pub(super) fn glare_over(&mut self, now: Now, dialog: DialogKey) {
        let Some((id, side)) = self.by_dialog.get(&dialog).copied() else {
            return;
        };
        if let Some(call) = self.moved_from(id, side) {
            self.send_move(now, call);
            return;
        }
        let member = self.members.get(&id).filter(|_| side == Side::Member);
        if member.is_some_and(|member| member.stage == MemberStage::AwaitingAnswer) {
            self.reinvite_soon(now, dialog);
            return;
        }
        if side == Side::Member && self.has_member_moved(id) {
            self.tell_moved_member(now, id);
            return;
        }
        if self.has_party_moved(id, side) {
            self.tell_moved(now, id);
        } else {
            self.refresh_session(now, dialog);
        }
    }

    /// What became of telling.
    pub(super) fn moved_party_answered(&mut self, now: Now, id: CallId, side: Side, response: &Response) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(endpoint) = call.leg(side).map(|leg| leg.endpoint.clone()) else {
            return;
        };
        let status = response.status;
        if status.is_success() {
            call.plan.follow_offer(&endpoint);
            // The media host may have been lost since it was asked.
            self.tell_moved_party(now, id, side);
            return;
        }
        if !call.plan.has_moved(&endpoint) {
            return;
        }
        if status == StatusCode::REQUEST_PENDING {
            // Two offers crossed. RFC 3261 §14.1 says when ours may go again: `glare_over` is told.
        } else if matches!(status.code(), 500 | 503) {
            self.deadlines.insert((now.mono + TELL_AGAIN, Due::Tell(id)));
        } else {
            let reason = "a party does not follow to another media host";
            self.end(now, id, EndedBy::System, status, reason);
        }
    }
}
