//! A phone for which encryption is optional is offered keys on a line that may be answered without (RFC 8643). One that
//! insists on RTP/SAVP refuses that, and is asked again in its way, once, before anybody is told that it refused.

use sip::{message::StatusCode, stack::ClientTxn};

use super::{Controller, Now, calling::text, rounds::branch_of};
use crate::{
    call::{CallId, OtherProfile, Stage},
    leg::Leg,
    limits,
    registrar::Binding,
    security::{Security, Srtp},
};

impl Controller {
    /// Whether a device is offered RTP/SAVP though it need not encrypt: it wanted that the last time, or refused the other.
    pub(super) fn insists(&self, security: Security, binding: &Binding, again: bool) -> bool {
        let both_will_do = security.srtp == Srtp::Optional && security.keys_are_safe;
        both_will_do && self.insistent.contains(&text(binding.uri.as_bytes())) != again
    }

    /// The other profile stays to be tried with this device.
    pub(super) fn keep_other_profile(&mut self, id: CallId, leg: &Leg, binding: &Binding, again: bool) {
        let both_will_do = leg.security.srtp == Srtp::Optional && leg.security.keys_are_safe;
        let round = self.calls.get_mut(&id).and_then(|call| call.round.as_mut());
        if let Some(round) = round.filter(|_| both_will_do) {
            let other = OtherProfile {
                binding: binding.clone(),
                is_tried: again,
            };
            round.others.insert(leg.endpoint.clone(), other);
        }
    }

    /// A device refused what it was offered. True when it is asked again with the other profile.
    pub(super) fn try_other_profile(
        &mut self,
        now: Now,
        id: CallId,
        txn: ClientTxn,
        status: StatusCode,
    ) -> bool {
        // What RFC 3261 §13.3.1.3 has for a description that will not do, and what phones say in its place.
        if !matches!(status.code(), 415 | 488 | 606) {
            return false;
        }
        let call = self
            .calls
            .get_mut(&id)
            .filter(|call| call.stage == Stage::Ringing);
        let Some(call) = call else { return false };
        let leg = branch_of(call, txn).filter(|leg| leg.state.is_pending());
        let Some(endpoint) = leg.map(|leg| leg.endpoint.clone()) else {
            return false;
        };
        let Some(round) = call.round.as_mut() else {
            return false;
        };
        let other = round.others.get(&endpoint).filter(|other| !other.is_tried);
        let Some(binding) = other.map(|other| other.binding.clone()) else {
            return false;
        };
        let user = round.user.clone();
        round.branches.retain(|leg| leg.endpoint != endpoint);
        self.by_client.remove(&txn);
        self.early_gone(now, id, &endpoint);
        self.counters.srtp_second_offers += 1;
        self.invite(now, id, &user, &endpoint, &binding, true);
        self.close_round_if_over(now, id);
        true
    }

    /// A device answered: the profile it took is the one it gets first from now on.
    pub(super) fn remember_profile(&mut self, id: CallId, endpoint: &str) {
        let round = self.calls.get(&id).and_then(|call| call.round.as_ref());
        let Some(round) = round else { return };
        let other = round.others.get(endpoint).filter(|other| other.is_tried);
        let leg = round.branches.iter().find(|leg| leg.endpoint == endpoint);
        let (Some(other), Some(leg)) = (other, leg) else {
            return;
        };
        let contact = text(other.binding.uri.as_bytes());
        if !leg.insists {
            self.insistent.remove(&contact);
            return;
        }
        if self.insistent.len() >= limits::INSISTENT_DEVICES_MAX {
            // Forgetting costs each of them one more INVITE.
            self.insistent.clear();
        }
        self.insistent.insert(contact);
    }
}
