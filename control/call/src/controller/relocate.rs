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
    domain::Race,
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
            self.lose_conference(now, id, reason);
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
        let offer = call.round.as_ref().and_then(|round| round.offer);
        let rings = matches!(call.stage, Stage::Offering | Stage::Ringing);
        if rings {
            call.stage.on_round_over();
            let reason = Reason::new("SIP", 487, "Media host lost");
            self.cancel_round(now, id, &reason, StatusCode::REQUEST_TERMINATED);
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.withdraw_endpoints(None);
        call.early = None;
        if call.entry.is_none() {
            // It goes where it was going once it has a place.
            call.stage.on_displaced();
        }
        if let Some(offer) = offer {
            self.by_offer.remove(&offer);
            let _lost: Race<()> = self.domain.take_back(now.mono, offer);
        }
    }

    /// Its turn to get a place.
    pub(super) fn replace(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.plan.is_lost()) else {
            return;
        };
        let (Some(displaced), former) = (call.displaced.clone(), call.plan.host().clone()) else {
            return;
        };
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
                let again =
                    (now.mono + LOOK_AGAIN).min(displaced.until.max(now.mono + Duration::from_millis(1)));
                self.deadlines.insert((again, Due::Replace(id)));
            }
            return;
        };
        self.pool.give_back(&former);
        call.refused_by.clear();
        call.displaced = None;
        if let Some(recorded) = &mut call.recorded {
            // What another host, or another life of it, writes is a file of its own.
            recorded.segment += 1;
        }
        call.plan.place(host.clone(), host == former);
        self.counters.calls_replaced += 1;
        self.send_media(now, id);
    }

    /// Tells parties whose address at the media host is another one than they were told.
    pub(super) fn tell_moved(&mut self, now: Now, id: CallId) {
        for side in [Side::Caller, Side::Callee] {
            self.tell_moved_party(now, id, side);
        }
    }

    fn tell_moved_party(&mut self, now: Now, id: CallId, side: Side) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(leg) = call.leg(side) else { return };
        let (endpoint, dialog) = (leg.endpoint.clone(), leg.dialog);
        if !call.plan.has_moved(&endpoint) {
            return;
        }
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
        let has_moved = self.calls.get(&id).is_some_and(|call| {
            let leg = call.leg(side);
            leg.is_some_and(|leg| call.plan.has_moved(&leg.endpoint))
        });
        if has_moved {
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
        if !call.plan.has_moved(&endpoint) {
            return;
        }
        let status = response.status;
        if status.is_success() {
            call.plan.follow(&endpoint);
        } else if status == StatusCode::REQUEST_PENDING {
            // Two offers crossed. RFC 3261 §14.1 says when ours may go again: `glare_over` is told.
        } else if matches!(status.code(), 500 | 503) {
            self.deadlines.insert((now.mono + TELL_AGAIN, Due::Tell(id)));
        } else {
            let reason = "a party does not follow to another media host";
            self.end(now, id, EndedBy::System, status, reason);
        }
    }
}
