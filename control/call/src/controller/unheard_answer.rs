//! Answers that nobody may have heard: the process before recorded them, and died before they left or while they were
//! repeated. A party that had a provisional answer repeats nothing, and one that had none repeats its INVITE: both are told
//! the answer again, until its ACK comes.

use sdp::{Description, LocalTransport, MediaKind};
use sip::stack::{DialogKey, InvitedRecord};

use super::{
    Controller, Now,
    calling::{answer_leg, with_description},
};
use crate::{
    call::{CallId, Side},
    leg::{Exchange, Leg, LegState},
    saved::{SavedInvited, SavedLeg},
};

impl Controller {
    /// Takes up with a restored party where it was left: with our answer if it may lack that, with its own request if that
    /// has no answer, else by asking whether it is there.
    pub(super) fn take_up(&mut self, now: Now, id: CallId, dialog: DialogKey, saved: &SavedLeg) {
        // Who offers anew has the answer to its first offer.
        let invited = saved.invited.as_ref().filter(|_| saved.reoffer.is_none());
        let invited = invited.and_then(SavedInvited::restore);
        let is_told = invited.is_some_and(|invited| self.answer_again(now, dialog, invited));
        if !is_told {
            // Who hung up while we were away had nobody to tell: its 481 says so now.
            self.ask_whether_there(now, id, dialog);
        }
        if let Some(left) = &saved.reoffer {
            self.hear_left(now, left);
        }
    }

    /// Tells the party what it was told, at once or when the media host has told our keys: until then its INVITE is taken
    /// over without an answer, so that a repetition of it begins no other call. False: that is not known.
    fn answer_again(&mut self, now: Now, dialog: DialogKey, invited: InvitedRecord) -> bool {
        let leg = self.leg_of_dialog(dialog);
        if leg.is_none_or(|leg| matches!(leg.exchange, Exchange::None)) {
            return false;
        }
        let Ok(txn) = self.stack.adopt_unacknowledged(now.mono, dialog, &invited) else {
            return false;
        };
        if let Some(leg) = self.leg_of_dialog(dialog) {
            leg.state = LegState::Answered;
            leg.arrived = Some((invited.request, invited.flow));
            leg.unheard = Some(txn);
        }
        self.answer_unheard(now, dialog);
        true
    }

    /// Answers a party that waits for the answer of the process before, if there is all that belongs into it.
    pub(super) fn answer_unheard(&mut self, now: Now, dialog: DialogKey) {
        let local = self.local_of(dialog);
        let Some(security) = self.leg_of_dialog(dialog).map(|leg| leg.security) else {
            return;
        };
        let offers_keys = !self.security.offered(security).is_empty();
        let Some(leg) = self.leg_of_dialog(dialog) else {
            return;
        };
        let description = match &leg.exchange {
            Exchange::Theirs { .. } => local.and_then(|local| answer_leg(leg, &local, 0)),
            Exchange::Ours { offer } if !offers_keys => Some((**offer).clone()),
            Exchange::Ours { .. } => local.and_then(|local| offer_with_keys(leg, local)),
            Exchange::None => None,
        };
        if let (Some(description), Some(txn)) = (description, leg.unheard) {
            (leg.unheard, leg.is_told_again) = (None, true);
            self.respond(now, txn, with_description(&description));
        }
    }

    /// An ACK came. To what was told again a phone says it as well when its call is over: it is asked, now that it has the
    /// answer.
    pub(super) fn heard_again(&mut self, now: Now, id: CallId, dialog: DialogKey) {
        let leg = self.leg_of_dialog(dialog);
        if leg.is_some_and(|leg| std::mem::take(&mut leg.is_told_again)) {
            self.ask_whether_there(now, id, dialog);
        }
    }

    /// Where the party in this dialog is to send its audio, and our keys once the media host has told them.
    fn local_of(&self, dialog: DialogKey) -> Option<LocalTransport> {
        let (id, side) = self.by_dialog.get(&dialog)?;
        if *side == Side::Member {
            let member = self.members.get(id)?;
            let conference = self.conferences.get(&member.conference)?;
            return conference.plan.local(&member.leg.endpoint);
        }
        let call = self.calls.get(id)?;
        call.plan.local(&call.leg(*side)?.endpoint)
    }
}

/// Our offer as it was kept, which is without keys, with those that the media host has for it: the same ones, whose counts go
/// on there, so that nothing is sent twice under one number of a key. `None`: it has not told them yet.
fn offer_with_keys(leg: &mut Leg, local: LocalTransport) -> Option<Description> {
    let Exchange::Ours { offer } = &leg.exchange else {
        return None;
    };
    let is_audio = |line: &&sdp::Media| line.kind == MediaKind::Audio && !line.is_rejected();
    let line = offer
        .media()
        .iter()
        .find(is_audio)
        .filter(|_| !local.sdes.is_empty())?;
    let formats = line.formats.clone();
    let lines = leg.lines_again(leg.offered_audio(formats, local));
    let offer = sdp::write_offer(&lines, leg.session.as_mut()?);
    leg.exchange = Exchange::Ours {
        offer: offer.clone().into(),
    };
    Some(offer)
}
