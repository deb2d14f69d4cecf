//! Conferences go on after a restart, as calls do: each member is recorded whenever it has changed, and the conference
//! is put together again from those that were in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use sip::{header::NameAddr, message::StatusCode, stack::DialogKey};

use super::{
    CHECK_EVERY, Controller, Due, Now,
    calling::text,
    restore::{HOST_UNKNOWN, leg_of, then},
};
use crate::{
    call::{CallId, End, Side},
    conference::{Conference, Member, MemberStage},
    domain::Name,
    journal::{EndedBy, RecordKind},
    leg::LegState,
    media::MediaPlan,
    pool::HostId,
    saved::{Octets, Part as _, SavedConference, SavedEnd, SavedMember, written},
};

/// A member as the journal left it, and its end if that was written.
pub(super) type PastMember = (Box<SavedMember>, Option<SavedEnd>);

impl Controller {
    /// Records the state of every member that changed.
    pub(super) fn save_touched_members(&mut self, now: Now) {
        while let Some(id) = self.members.pop_touched() {
            let member = self.members.get(&id).filter(|member| is_lasting(member));
            let Some(state) = member.and_then(|member| self.saved_member(member)) else {
                continue;
            };
            let Some(told) = self.members.recorded(id) else {
                self.members.set_recorded(id, state.digest());
                self.record(now, RecordKind::MemberState(Box::new(state)));
                continue;
            };
            let call = state.call.clone();
            if let Some(change) = state.change(told) {
                let change = Box::new(change);
                self.record(now, RecordKind::MemberChange { call, change });
            }
        }
    }

    fn saved_member(&self, member: &Member) -> Option<SavedMember> {
        let conference = self.conferences.get(&member.conference)?;
        let local = conference.plan.addresses().get(&member.leg.endpoint);
        Some(SavedMember {
            call: member.name.clone(),
            conference: conference.plan.session().to_owned(),
            from: Octets(written(&member.from)),
            to: member.to.clone(),
            sip_call_id: member.sip_call_id.clone(),
            leg: self.saved_leg(&member.leg),
            rx_trunk: member.rx_trunk.map(|id| self.trunks.get(id).name.to_string()),
            way: member.way.map(|way| self.named_way(way)),
            local: local.copied(),
            told: conference.plan.told_elsewhere().remove(&member.leg.endpoint),
            is_joined: member.answered.is_some(),
            is_muted: member.is_muted,
            is_admitted: member.gate.is_none(),
            started_unix_us: member.started_unix_us,
            answered_unix_us: member.answered.map(|(_, at)| at),
            ended: member.ended.as_ref().map(|(_, end)| SavedEnd::of(end)),
        })
    }

    /// Records where a conference is.
    pub(super) fn save_conference(&mut self, now: Now, id: CallId) {
        if let Some(conference) = self.conferences.get(&id) {
            let state = saved_conference(conference);
            self.record(now, RecordKind::ConferenceState(Box::new(state)));
        }
    }

    /// Every conference and member, said again at the beginning of a segment.
    pub(super) fn conferences_standing(&self) -> Vec<RecordKind> {
        let conferences = self.conferences.values();
        let last = conferences.clone().flat_map(|conference| &conference.last);
        let conferences =
            conferences.map(|conference| RecordKind::ConferenceState(Box::new(saved_conference(conference))));
        let begun = self.members.values();
        let begun = begun.filter(|member| member.stage == MemberStage::Preparing);
        let begun = begun.flat_map(|member| {
            let invited = self.invited_record(&member.name, &member.leg);
            self.member_started(member).into_iter().chain(invited)
        });
        let members = self.members.values().filter(|member| is_lasting(member));
        let members = members.chain(last).filter_map(|member| self.saved_member(member));
        let members = members.map(|state| RecordKind::MemberState(Box::new(state)));
        conferences.chain(begun).chain(members).collect()
    }

    pub(super) fn note_member_started(&mut self, now: Now, member: &Member) {
        if let Some(started) = self.member_started(member) {
            self.record(now, started);
        }
    }

    fn member_started(&self, member: &Member) -> Option<RecordKind> {
        let conference = self.conferences.get(&member.conference)?;
        Some(RecordKind::CallStarted {
            call: member.name.clone(),
            sip_call_id: member.sip_call_id.clone(),
            from: text(member.from.uri.as_bytes()),
            to: member.to.clone(),
            queue: None,
            host: conference.plan.host().to_string(),
        })
    }

    /// Puts conferences together again from those who were in them. Gives the names of members that cannot go on.
    pub(super) fn restore_conferences(
        &mut self,
        now: Now,
        conferences: &BTreeMap<String, SavedConference>,
        members: BTreeMap<String, PastMember>,
    ) -> Vec<String> {
        let mut lost = Vec::new();
        let mut by_conference: BTreeMap<String, Vec<PastMember>> = BTreeMap::new();
        for (name, member) in members {
            if conferences.contains_key(&member.0.conference) {
                let of_it = by_conference.entry(member.0.conference.clone()).or_default();
                of_it.push(member);
            } else {
                lost.push(name);
            }
        }
        for (session, members) in by_conference {
            lost.extend(self.restore_conference(now, &conferences[&session], members));
        }
        lost
    }

    fn restore_conference(
        &mut self,
        now: Now,
        saved: &SavedConference,
        members: Vec<PastMember>,
    ) -> Vec<String> {
        let id = CallId::of_name(&saved.session).unwrap_or(CallId(0));
        let host = HostId::from(saved.host.as_str());
        let media = &self.config.media;
        let mut plan = MediaPlan::new(&saved.session, &self.config.controller, media, host);
        let addresses: BTreeMap<String, (SocketAddr, Option<u16>)> = members
            .iter()
            .filter_map(|(member, _)| Some((member.leg.endpoint.clone(), member.local?)))
            .collect();
        let told = members
            .iter()
            .filter_map(|(member, _)| Some((member.leg.endpoint.clone(), member.told?)));
        plan.restore(saved.epoch, addresses, told.collect());
        let room = Name::from(saved.room.as_str());
        let has_host = self.pool.adopt(plan.host());
        self.rooms.insert(room.clone(), id);
        let conference = Conference {
            room,
            plan,
            mix: self.config.conferences.node(),
            members: BTreeSet::new(),
            displaced: None,
            last: Vec::new(),
            lacks_prompt: false,
            sounds: Vec::new(),
            sounds_made: 0,
            lacks_sounds: false,
            started: then(now, saved.started_unix_us),
            started_unix_us: saved.started_unix_us,
        };
        self.conferences.insert(id, conference);
        // All are in before the first can leave: the last one takes the room with it.
        let (mut back, mut lost) = (Vec::new(), Vec::new());
        for (saved, end) in members {
            match self.restore_member(now, id, &saved) {
                Some(member) => back.push((member, end.or(saved.ended))),
                None => lost.push(saved.call),
            }
        }
        if back.is_empty() {
            self.end_conference(
                now,
                id,
                "nobody of it could be taken over from before the restart",
            );
            self.rooms.retain(|_, conference| *conference != id);
        }
        for (member, end) in back {
            self.go_on_or_leave(now, member, end);
        }
        if !has_host {
            self.displace_conference(now, id, HOST_UNKNOWN);
        }
        lost
    }

    /// Seats a member with its dialog.
    fn restore_member(&mut self, now: Now, conference: CallId, saved: &SavedMember) -> Option<CallId> {
        let id = CallId::of_name(&saved.call)?;
        let from = NameAddr::parse(&saved.from.0).ok()?;
        let mut leg = leg_of(&saved.leg, saved.local.map(|(rtp, _)| rtp.ip()))?;
        let endpoint = self.endpoint_of(&leg);
        let rx_trunk = saved.rx_trunk.as_deref();
        let rx_trunk = rx_trunk.and_then(|name| self.trunks.by_name(name));
        let way = saved.way.as_ref();
        let way = way.and_then(|(name, target)| self.way_named(name, *target));
        let dialog = saved.leg.dialog.as_ref();
        leg.dialog = dialog.and_then(|record| self.adopt_dialog(now, record));
        if let Some(dialog) = leg.dialog {
            self.by_dialog.insert(dialog, (id, Side::Member));
            if let Some(trunk) = rx_trunk.or(way.map(|way| way.trunk)) {
                self.join_trunk(dialog, trunk);
            }
        }
        let room = self.conferences.get(&conference)?.room.clone();
        let gate = self.gate_of(&room).filter(|_| !saved.is_admitted);
        let found = self.conferences.get_mut(&conference)?;
        found.plan.put(&leg.endpoint, endpoint);
        found.members.insert(id);
        self.counters.calls_started += 1;
        self.trunks.adopt(rx_trunk, way);
        let check_at = now.mono + CHECK_EVERY;
        self.deadlines.insert((check_at, Due::Check(id)));
        let answered = saved.answered_unix_us.map(|at| (then(now, at), at));
        let dialog = leg.dialog;
        let member = Member {
            name: saved.call.clone(),
            stage: if saved.is_joined {
                MemberStage::Joined
            } else {
                MemberStage::AwaitingAnswer
            },
            conference,
            from,
            to: saved.to.clone(),
            sip_call_id: saved.sip_call_id.clone(),
            leg,
            rx_trunk,
            way,
            is_muted: saved.is_muted,
            gate,
            started: then(now, saved.started_unix_us),
            started_unix_us: saved.started_unix_us,
            answered,
            ended: None,
            check_at,
        };
        self.members.insert(id, Box::new(member));
        if let Some(dialog) = dialog {
            self.take_up(now, id, dialog, &saved.leg);
        }
        Some(id)
    }

    fn go_on_or_leave(&mut self, now: Now, id: CallId, end: Option<SavedEnd>) {
        let Some(member) = self.members.get(&id) else {
            return;
        };
        let is_heard = member.stage == MemberStage::Joined || member.leg.state == LegState::Answered;
        let is_whole = is_heard && member.leg.dialog.is_some();
        let (is_joined, brought_in) = (member.stage == MemberStage::Joined, brought_in(member));
        match (end, brought_in) {
            (Some(end), _) => {
                let end = End {
                    by: end.by,
                    status: StatusCode::new(end.status).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR),
                    reason: end.reason,
                    at_unix_us: end.at_unix_us,
                };
                self.member_ends(now, id, (then(now, end.at_unix_us), end));
            }
            (None, _) if is_whole && is_joined => self.begin_gate(now, id),
            (None, _) if is_whole => {}
            // It may not have followed yet.
            (None, Some(dialog)) => self.reinvite_soon(now, dialog),
            (None, None) => {
                let reason = "a party could not be taken over from before the restart";
                let status = StatusCode::SERVER_INTERNAL_ERROR;
                self.member_leaves(now, id, EndedBy::System, status, reason);
            }
        }
    }
}

/// It has our answer, or comes from a call of two; who has none yet is told by nobody.
fn is_lasting(member: &Member) -> bool {
    match member.stage {
        MemberStage::Preparing => member.leg.state.is_confirmed(),
        MemberStage::Joined | MemberStage::AwaitingAnswer => true,
        MemberStage::Left => false,
    }
}

/// The dialog of a member that talked to somebody before, and is asked to send its audio to the room.
fn brought_in(member: &Member) -> Option<DialogKey> {
    let is_asked = member.stage == MemberStage::AwaitingAnswer && member.leg.media.is_some();
    member.leg.dialog.filter(|_| is_asked)
}

fn saved_conference(conference: &Conference) -> SavedConference {
    SavedConference {
        session: conference.plan.session().to_owned(),
        room: conference.room.to_string(),
        host: conference.plan.host().to_string(),
        epoch: conference.plan.epoch(),
        started_unix_us: conference.started_unix_us,
    }
}
