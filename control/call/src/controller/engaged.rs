//! Agents in calls that came by no queue: they called somebody, were called, had a call brought by a colleague, or are in
//! a conference. The domain offers them as much less.

use super::{Controller, Now};
use crate::{
    call::{Call, CallId, Side, Stage},
    conference::MemberStage,
    domain::Name,
    leg::{Invite, Leg, LegState},
};

impl Controller {
    /// Tells the domain who is engaged since the last time, and who no more. False when there is nothing to tell.
    pub(super) fn note_engaged(&mut self, now: Now) -> bool {
        let (mut begun, mut over) = (Vec::new(), Vec::new());
        while let Some(id) = self.calls.pop_stirred().or_else(|| self.members.pop_stirred()) {
            let engaged = self.engaged_in(id);
            if self.engaged.get(&id).map_or(&[][..], Vec::as_slice) == engaged {
                continue;
            }
            let before = match engaged.is_empty() {
                true => self.engaged.remove(&id),
                false => self.engaged.insert(id, engaged.clone()),
            };
            begun.extend(engaged);
            over.extend(before.unwrap_or_default());
        }
        // Who goes on is not free for a moment between two calls.
        begun.retain(|name| match over.iter().position(|other| other == name) {
            Some(at) => {
                over.swap_remove(at);
                false
            }
            None => true,
        });
        for name in &begun {
            self.domain.engage(now.mono, name);
        }
        for name in &over {
            self.domain.disengage(now.mono, name);
        }
        !begun.is_empty() || !over.is_empty()
    }

    fn engaged_in(&self, id: CallId) -> Vec<Name> {
        let of_call = self.calls.get(&id).map(engaged_in_call);
        let member = self.members.get(&id);
        let member = member.filter(|member| member.stage != MemberStage::Left);
        let of_member = member.and_then(|member| member.leg.user.clone());
        let users = of_call.into_iter().flatten().chain(of_member);
        users.filter(|user| self.domain.is_agent(user)).collect()
    }
}

fn engaged_in_call(call: &Call) -> impl Iterator<Item = Name> {
    let sides = [Side::Caller, Side::Callee, Side::Transferor, Side::Newcomer];
    let legs = sides.into_iter().filter_map(|side| call.leg(side));
    let there = legs.filter(|leg| is_engaged(leg));
    let there = there.filter_map(|leg| leg.user.clone());
    // Whose phones ring, unless a queue has them ring, or they are elsewhere and only move here.
    let from = call.transfer.as_ref().and_then(|transfer| transfer.from);
    let round = call.round.as_ref();
    let round = round.filter(|round| round.offer.is_none() && call.way.is_none() && from.is_none());
    let rung = round.map(|round| round.user.clone());
    let all = there.chain(rung);
    let is_over = call.stage == Stage::Ended;
    all.filter(move |_| !is_over)
}

/// It is there, and no queue knows it.
fn is_engaged(leg: &Leg) -> bool {
    leg.conversation.is_none() && leg.state != LegState::Ended && leg.invite != Invite::Due
}
