//! Going on after a restart: the journal is folded into what still stood, and what stood is made so again.
//!
//! [`Controller::replay`] takes the records, [`Controller::resume`] acts on them, once, before anything else comes in.
//! [`Controller::standing`] says it all again at the beginning of a new segment, so that older ones need not be read.
//!
//! A call's state is recorded whenever it has changed, before anything about the change leaves: the marks of
//! [`Calls`](crate::calls::Calls) tell which calls may have. It is told as a whole first, and then by what changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sdp::{Description, LocalSession, Selection};
use sip::{
    header::{NameAddr, Reason},
    limits::SEQUENCE_MARK,
    message::{Method, Request, StatusCode},
    stack::{DialogKey, DialogRequest, Flow},
};

use super::{CHECK_EVERY, Controller, Due, Now, live, unix_us};
use crate::{
    call::{Call, CallId, End, Past as Left, Side, Stage, Transfer},
    cdr::{CallOrigin, OriginKind},
    domain::{Name, Standing},
    journal::{EndedBy, Record, RecordKind},
    leg::{Exchange, Invite, Leg, LegState, Offer},
    media::{Endpoint, MediaPlan},
    originate::{Kept, Originate},
    pool::HostId,
    routing::Destination,
    saved::{
        CallChange, MemberChange, Octets, Part as _, SavedAgreed, SavedCall, SavedConference,
        SavedDestination, SavedDialog, SavedEnd, SavedExchange, SavedInvite, SavedInvited, SavedLeg,
        SavedMedia, SavedMember, SavedPast, SavedPlace, SavedRecorded, SavedSelection, SavedSummons, written,
    },
    trunk::TargetId,
};

/// Added to our sequence numbers: requests that were sent after a dialog was recorded. It is recorded when half are.
const CSEQ_MARGIN: u32 = 2 * SEQUENCE_MARK;
/// Media hosts that were there before a restart are back by then, or lost.
const HOSTS_WITHIN: Duration = Duration::from_secs(5);
/// Of a session from before the restart.
pub(super) const HOST_UNKNOWN: &str = "the media host is not configured any more";

/// What stood at the end of the journal.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// [`RecordKind::Registered`] of each device, by account, Contact and flow.
    pub(super) registrations: BTreeMap<(String, String, Option<u32>), (u64, RecordKind)>,
    agents: BTreeMap<String, PastAgent>,
    calls: BTreeMap<String, PastCall>,
    keys: Vec<(String, Kept)>,
    conferences: BTreeMap<String, SavedConference>,
    /// First INVITEs that waited for a media host, and since when, by our tag.
    doorstep: BTreeMap<String, (u64, SavedInvited)>,
}

#[derive(Debug)]
struct PastAgent {
    state: String,
    standing: Standing,
}

#[derive(Debug, Default)]
pub(super) struct PastCall {
    /// When it began, and its [`RecordKind::CallStarted`].
    pub(super) started: Option<(u64, RecordKind)>,
    /// When its caller was last known to repeat the INVITE no more, and that.
    invited: Option<(u64, Box<SavedInvited>)>,
    /// A machine asked for it.
    pub(super) origin: CallOrigin,
    state: Option<Box<SavedCall>>,
    /// Of one into a conference.
    member: Option<Box<SavedMember>>,
    pub(super) end: Option<SavedEnd>,
}

impl PastCall {
    /// When it came to the queue in which it waits.
    fn waits_since(&self) -> Option<u64> {
        let place = self.state.as_ref()?.place.as_ref()?;
        Some(place.since_unix_us)
    }

    /// The INVITE of a caller who waits, and of whose call nothing else is known.
    fn left_waiting(&mut self) -> Option<(u64, SavedInvited)> {
        let is_known = self.state.is_some() || self.member.is_some() || self.end.is_some();
        let (since, invite) = self.invited.take().filter(|_| !is_known)?;
        Some((since, *invite))
    }
}

impl Kept {
    fn record(&self, key: &str) -> RecordKind {
        RecordKind::CallOriginated {
            call: self.call.clone(),
            key: Some(key.to_owned()),
            request: Box::new(self.request.clone()),
            asked_unix_us: self.asked_unix_us,
        }
    }
}

impl Past {
    fn fold(&mut self, at_unix_us: u64, kind: RecordKind) {
        match kind {
            RecordKind::Registered {
                ref user,
                ref contact,
                reg_id,
                ..
            } => {
                let device = (user.clone(), contact.clone(), reg_id);
                self.registrations.insert(device, (at_unix_us, kind));
            }
            RecordKind::Unregistered {
                user,
                contact,
                reg_id,
                ..
            } => {
                self.registrations.remove(&(user, contact, reg_id));
            }
            RecordKind::AgentState {
                agent,
                state,
                standing,
            } => {
                self.agents.insert(agent, PastAgent { state, standing });
            }
            RecordKind::InviteWaits { tag, invite } => drop(self.doorstep.insert(tag, (at_unix_us, *invite))),
            RecordKind::InviteLeft { tag } => drop(self.doorstep.remove(&tag)),
            RecordKind::CallStarted { ref call, .. } => {
                let call = call.clone();
                self.call(&call).started = Some((at_unix_us, kind));
            }
            RecordKind::CallInvited { call, invite } => self.call(&call).invited = Some((at_unix_us, invite)),
            RecordKind::CallState(state) => {
                let call = state.call.clone();
                self.call(&call).state = Some(state);
            }
            RecordKind::CallChange { call, change } => self.fold_change(&call, *change),
            RecordKind::MemberState(member) => {
                let call = member.call.clone();
                self.call(&call).member = Some(member);
            }
            RecordKind::MemberChange { call, change } => self.fold_member_change(&call, *change),
            RecordKind::ConferenceState(conference) => {
                self.conferences.insert(conference.session.clone(), *conference);
            }
            RecordKind::CallEnded {
                call,
                by,
                status,
                reason,
            } => {
                self.call(&call).end = Some(SavedEnd {
                    by,
                    status,
                    reason,
                    at_unix_us,
                });
            }
            RecordKind::CallOriginated {
                call,
                key,
                request,
                asked_unix_us,
            } => self.fold_request(call, key, *request, asked_unix_us),
            RecordKind::CallDetail(detail) => drop(self.calls.remove(&detail.call)),
            // They tell people what the states tell us.
            _ => {}
        }
    }

    /// Without the state that it is about it says nothing.
    fn fold_change(&mut self, call: &str, change: CallChange) {
        if let Some(state) = self.calls.get_mut(call).and_then(|past| past.state.as_mut()) {
            state.apply(change);
        }
    }

    fn fold_member_change(&mut self, call: &str, change: MemberChange) {
        if let Some(member) = self.calls.get_mut(call).and_then(|past| past.member.as_mut()) {
            member.apply(change);
        }
    }

    fn fold_request(&mut self, call: String, key: Option<String>, request: Originate, asked_unix_us: u64) {
        // Said again, it may be about a call that is over.
        if let Some(known) = self.calls.get_mut(&call) {
            known.origin = CallOrigin {
                kind: OriginKind::Api,
                reference: request.reference.clone(),
            };
        }
        let kept = Kept {
            call,
            request,
            asked_unix_us,
        };
        self.keys.extend(key.map(|key| (key, kept)));
    }

    fn call(&mut self, name: &str) -> &mut PastCall {
        self.calls.entry(name.to_owned()).or_default()
    }
}

impl Controller {
    /// One record of the journal of the process before this one, oldest first; then [`Controller::resume`].
    pub fn replay(&mut self, record: Record) {
        self.last_record = self.last_record.max(record.sequence);
        self.past.fold(record.at_unix_us, record.kind);
    }

    /// What was replayed, as far as it still stands: what [`Controller::resume`] would go on from. For checks.
    pub fn replayed(&self) -> Vec<RecordKind> {
        let past = &self.past;
        let agents = past.agents.iter().map(|(agent, past)| RecordKind::AgentState {
            agent: agent.clone(),
            state: past.state.clone(),
            standing: past.standing.clone(),
        });
        let calls = past.calls.iter().filter_map(|(call, past)| {
            let state = past.state.clone();
            let ended = state.as_ref().and_then(|state| state.ended.clone());
            let member = past.member.clone();
            let left = member.as_ref().and_then(|member| member.ended.clone());
            match past.end.clone().or(ended).or(left) {
                Some(end) => Some(RecordKind::CallEnded {
                    call: call.clone(),
                    by: end.by,
                    status: end.status,
                    reason: end.reason,
                }),
                None => state
                    .map(RecordKind::CallState)
                    .or(member.map(RecordKind::MemberState)),
            }
        });
        let keys = past.keys.iter().map(|(key, kept)| kept.record(key));
        let registrations = past.registrations.values().map(|(_, kind)| kind.clone());
        let invites = past.doorstep.iter();
        let invites = invites.map(|(tag, (_, invite))| RecordKind::InviteWaits {
            tag: tag.clone(),
            invite: Box::new(invite.clone()),
        });
        let of_calls = calls.chain(keys).chain(invites);
        registrations.chain(agents).chain(of_calls).collect()
    }

    /// Goes on from what was replayed. Before any other input.
    pub fn resume(&mut self, now: Now) {
        let mut past = std::mem::take(&mut self.past);
        let registrations = std::mem::take(&mut past.registrations);
        let registered = self.restore_registrations(now, registrations.into_values().collect());
        for (key, kept) in past.keys {
            self.keys.put(&key, kept);
        }
        let names = past.calls.keys().chain(past.conferences.keys());
        let numbers = names.filter_map(|name| CallId::of_name(name));
        self.last_call = numbers.map(|id| id.0).max().unwrap_or(0).max(self.last_call);
        for (name, agent) in &past.agents {
            self.domain.restore_agent(name, &agent.standing);
        }
        let mut waiting: Vec<(u64, SavedInvited)> = past.doorstep.values().cloned().collect();
        waiting.extend(past.calls.values_mut().filter_map(PastCall::left_waiting));
        // Places in queues must be taken in the order they were: of two calls the one that began last may wait for longer.
        let mut calls: Vec<(String, PastCall)> = past.calls.into_iter().collect();
        calls.sort_by_key(|(name, past)| (past.waits_since(), CallId::of_name(name)));
        let mut members = BTreeMap::new();
        for (name, mut call) in calls {
            match call.member.take() {
                Some(member) => drop(members.insert(name, (member, call))),
                None => self.restore(now, &name, call),
            }
        }
        self.restore_members(now, &past.conferences, members);
        self.note_engaged(now);
        for (name, agent) in past.agents {
            // What it is now, if it is not what it was, becomes a record of its own.
            if let Some(state) = live::state_named(&agent.state, &agent.standing) {
                self.agent_states
                    .insert(name.as_str().into(), (state, agent.standing));
            }
            let user = Name::from(name.as_str());
            self.presence_changed(now, &user);
        }
        for user in registered {
            self.presence_changed(now, &user);
        }
        self.domain.restored();
        if !self.pool.awaited().is_empty() {
            self.deadlines.insert((now.mono + HOSTS_WITHIN, Due::Hosts));
        }
        // Reading the journal took its time.
        self.hope_for_host(now);
        self.restore_doorstep(now, waiting, past.doorstep.into_keys());
        self.advance(now);
    }

    fn restore_members(
        &mut self,
        now: Now,
        conferences: &BTreeMap<String, SavedConference>,
        members: BTreeMap<String, (Box<SavedMember>, PastCall)>,
    ) {
        let mut rest = BTreeMap::new();
        let members = members.into_iter().map(|(name, (member, past))| {
            let end = past.end.clone();
            rest.insert(name.clone(), past);
            (name, (member, end))
        });
        let members = members.collect();
        // One whose conference is not known: the journal was cut in between.
        for name in self.restore_conferences(now, conferences, members) {
            if let Some(past) = rest.remove(&name) {
                self.bury_started(now, past);
            }
        }
    }

    /// Records were lost: those that follow do not build upon them.
    pub fn records_lost(&mut self) {
        self.calls.forget_recorded();
        self.members.forget_recorded();
    }

    /// The beginning of a new segment: everything that still stands, said again.
    pub fn standing(&mut self, now: Now) -> Vec<Record> {
        // What follows builds upon neither the segment before nor on one that may not come about.
        self.records_lost();
        let mut kinds: Vec<RecordKind> = self.registrations_standing(now).collect();
        let agents = self.domain.agents().map(|(name, view)| RecordKind::AgentState {
            agent: name.to_string(),
            state: live::state_name(&view.state).to_owned(),
            standing: view.standing,
        });
        kinds.extend(agents);
        let ids: Vec<CallId> = self.calls.iter().map(|(id, _)| *id).collect();
        let calls = ids.into_iter().filter_map(|id| self.saved_call(id));
        kinds.extend(calls.map(|state| RecordKind::CallState(Box::new(state))));
        kinds.extend(self.keys.iter().map(|(key, kept)| kept.record(key)));
        kinds.extend(self.conferences_standing());
        kinds.extend(self.begun_standing());
        kinds.extend(self.doorstep_standing());
        let begin = RecordKind::Segment {
            standing: kinds.len() as u64,
        };
        let mut records = Vec::with_capacity(kinds.len() + 1);
        for kind in std::iter::once(begin).chain(kinds) {
            self.last_record += 1;
            records.push(Record {
                sequence: self.last_record,
                at_unix_us: unix_us(now.wall),
                repeated: !matches!(kind, RecordKind::Segment { .. }),
                kind,
            });
        }
        records
    }

    pub(super) fn registrations_standing(&self, now: Now) -> impl Iterator<Item = RecordKind> {
        let all = self.registrar.all();
        all.map(move |(user, binding)| binding.record(user, now))
    }

    /// Devices that can still be reached are registered as before. Gives their users.
    fn restore_registrations(
        &mut self,
        now: Now,
        mut registrations: Vec<(u64, RecordKind)>,
    ) -> BTreeSet<Name> {
        // The one that was heard last comes last, as when they registered.
        registrations.sort_by_key(|(_, kind)| match kind {
            RecordKind::Registered { expires_unix_us, .. } => *expires_unix_us,
            _ => 0,
        });
        let mut users = BTreeSet::new();
        for (at_unix_us, kind) in &registrations {
            users.extend(self.registrar.restore(now, *at_unix_us, kind));
        }
        users
    }

    /// Keeps what is needed to answer this party from another process.
    pub(super) fn keep_invite(&mut self, dialog: DialogKey, request: &Request, flow: Flow) {
        if let Some(leg) = self.leg_of_dialog(dialog) {
            leg.arrived = Some((text_without_keys(request), flow));
        }
    }

    /// The party in this dialog, of a call or of a conference.
    pub(super) fn leg_of_dialog(&mut self, dialog: DialogKey) -> Option<&mut Leg> {
        match *self.by_dialog.get(&dialog)? {
            (id, Side::Member) => self.members.get_mut(&id).map(|member| &mut member.leg),
            (id, side) => self.calls.get_mut(&id).and_then(|call| call.leg_mut(side)),
        }
    }

    /// As [`Controller::keep_invite`], of a request with a new offer, if that waits for its answer now.
    pub(super) fn keep_reoffer(&mut self, dialog: DialogKey, request: &Request, flow: Flow) {
        let has_offer = matches!(request.method, Method::Invite | Method::Update) && !request.body.is_empty();
        if !has_offer {
            return;
        }
        let reoffer = self.leg_of_dialog(dialog).and_then(|leg| leg.reoffer.as_mut());
        if let Some(reoffer) = reoffer.filter(|reoffer| reoffer.arrived.is_none()) {
            reoffer.arrived = Some((text_without_keys(request), flow));
        }
    }

    /// The process before this one did not answer this request.
    pub(super) fn hear_left(&mut self, now: Now, left: &SavedInvited) {
        let Some(record) = left.restore() else { return };
        // A journal that holds something else is no reason not to go on.
        let _heard = if left.lacks_body() {
            self.stack.refuse_left(record.flow, record.request)
        } else {
            self.stack.receive_left(now.mono, record.flow, record.request)
        };
    }

    /// Records the state of every call that changed. Called when nothing more follows from the inputs.
    pub(super) fn save_touched(&mut self, now: Now) {
        while let Some(id) = self.calls.pop_touched() {
            let lasting = self.calls.get(&id).is_some_and(|call| call.stage.is_lasting());
            let Some(state) = lasting.then(|| self.saved_call(id)).flatten() else {
                continue;
            };
            let Some(told) = self.calls.recorded(id) else {
                self.calls.set_recorded(id, state.digest());
                self.record(now, RecordKind::CallState(Box::new(state)));
                continue;
            };
            if let Some(change) = state.change(told) {
                let (call, change) = (self.calls[&id].name.clone(), Box::new(change));
                self.record(now, RecordKind::CallChange { call, change });
            }
        }
    }

    /// The record that tells the dialog's numbers is out of date: another follows.
    pub(super) fn save_again(&mut self, dialog: DialogKey) {
        // What was handed out to be changed is recorded again.
        let _marked = self.leg_of_dialog(dialog);
    }

    fn saved_call(&self, id: CallId) -> Option<SavedCall> {
        let call = self.calls.get(&id)?;
        let ringing = call.round.iter().flat_map(|round| &round.branches);
        let ringing = ringing.filter_map(|leg| match leg.invite {
            // A party of another call has no phone that rings.
            Invite::Sent(txn) if leg.state.is_pending() && leg.dialog.is_none() => {
                self.stack.export_invite(txn)
            }
            _ => None,
        });
        let unasked = unasked(call);
        let transfer = call.transfer.as_ref().filter(|_| unasked.is_none());
        let aside = [
            transfer.map(|it| &it.leg),
            call.newcomer.as_ref().map(|it| &it.leg),
        ];
        let others = aside.into_iter().flatten().filter_map(|leg| {
            let dialog = leg.dialog.filter(|_| leg.state.is_confirmed())?;
            Some(SavedDialog::of(self.stack.export(dialog)?))
        });
        let way = |way: TargetId| self.named_way(way);
        let by_transfer = transfer.and_then(|transfer| transfer.leg.user.as_ref());
        // Where a menu leads it has no say.
        let is_asked = matches!(call.destination, Destination::Menu(_));
        let by_redirection = call.redirected.as_ref().filter(|_| !is_asked);
        let by_redirection = by_redirection.map(|redirected| &redirected.by);
        let behalf = by_redirection.or(by_transfer).or(call.behalf.as_ref());
        let callee = call.callee.as_ref().or(unasked.map(|it| &it.leg));
        let (tx_way, last_way) = unasked.map_or((call.way, call.last_way), |it| (it.way, it.last_way));
        Some(SavedCall {
            call: call.name.clone(),
            stage: unasked.map_or(call.stage, |_| Stage::Talking),
            destination: SavedDestination::of(&call.destination),
            queue: call.queue.as_deref().map(str::to_owned),
            served_by: call.served_by.as_deref().map(str::to_owned),
            from: Octets(written(&call.from)),
            to: call.to.clone(),
            sip_call_id: call.sip_call_id.clone(),
            max_forwards: call.max_forwards,
            caller: self.saved_leg(&call.caller),
            callee: callee.map(|leg| self.saved_leg(leg)),
            ringing: ringing.map(|record| SavedInvite::of(&record)).collect(),
            others: others.collect(),
            past: call.past.iter().map(saved_past).collect(),
            is_turned: call.is_turned,
            queued_turned: call.queued_turned,
            recorded: call.recorded.as_ref().map(SavedRecorded::of),
            rounds: call.rounds,
            rung: call.rung.clone(),
            rx_trunk: call.rx_trunk.map(|id| self.trunks.get(id).name.to_string()),
            way: tx_way.map(way),
            last_way: last_way.map(way),
            caller_way: call.caller_way.map(way),
            behalf: behalf.map(ToString::to_string),
            origin: call.origin.clone(),
            summons: call.summons.as_ref().map(SavedSummons::of),
            caller_id: call.caller_id.clone(),
            instance: call.instance.clone().map(Octets),
            menu: call.menu.as_deref().map(SavedSelection::of),
            choices: call.choices.clone(),
            place: self.saved_place(call),
            media: saved_media(&call.plan),
            started_unix_us: call.started_unix_us,
            answered_unix_us: call.answered_unix_us,
            ended: call.ended.as_ref().map(|(_, end)| SavedEnd::of(end)),
        })
    }

    fn saved_place(&self, call: &Call) -> Option<SavedPlace> {
        let (since, priority) = self.domain.place(call.entry?)?;
        // A call is enqueued when it is prepared: its age in the queue is told by the call's clock.
        let after = since.saturating_duration_since(call.started);
        Some(SavedPlace {
            since_unix_us: call.started_unix_us + micros(after),
            priority,
        })
    }

    pub(super) fn saved_leg(&self, leg: &Leg) -> SavedLeg {
        let dialog = leg.dialog.and_then(|dialog| self.stack.dialog(dialog));
        let is_confirmed = leg.state.is_confirmed();
        let reoffer = leg.reoffer.as_ref();
        let (media, exchange) = reoffer.map_or((&leg.media, &leg.exchange), |reoffer| {
            (&reoffer.media, &reoffer.exchange)
        });
        let reoffer = reoffer.and_then(|reoffer| reoffer.arrived.as_ref());
        let invited = leg.arrived.as_ref().filter(|_| leg.state.is_open()).zip(dialog);
        SavedLeg {
            // Whose ACK has not come is told by its INVITE, which is kept until then.
            state: if is_confirmed {
                LegState::Talking
            } else {
                leg.state
            },
            address: Octets(written(&leg.address)),
            user: leg.user.as_deref().map(str::to_owned),
            peer: leg.peer,
            endpoint: leg.endpoint.clone(),
            security: leg.security,
            dialog: leg
                .dialog
                .filter(|_| is_confirmed)
                .and_then(|dialog| self.stack.export(dialog))
                .map(SavedDialog::of),
            invited: invited.map(|((request, flow), dialog)| {
                SavedInvited::of(request.clone(), *flow, dialog.id.local_tag.clone())
            }),
            reoffer: reoffer.map(|(request, flow)| SavedInvited::of(request.clone(), *flow, Bytes::new())),
            exchange: match exchange {
                Exchange::None => SavedExchange::None,
                Exchange::Theirs { offer, .. } => SavedExchange::Theirs(Octets(offer.kept())),
                Exchange::Ours { offer } => SavedExchange::Ours(Octets(offer.kept())),
            },
            media: media.as_ref().map(SavedAgreed::of),
            session: leg.session.as_ref().map(LocalSession::origin),
            is_described: leg.is_described,
            is_silent: leg.is_silent,
            silent_unix_us: leg.is_silent.then_some(leg.silent_unix_us),
            converses: leg.conversation.is_some(),
            rx_trunk: leg.rx_trunk.map(|id| self.trunks.get(id).name.to_string()),
            joined_unix_us: leg.joined_unix_us,
        }
    }

    /// Goes on with a call, or writes its end.
    fn restore(&mut self, now: Now, name: &str, past: PastCall) {
        let id = CallId::of_name(name).unwrap_or(CallId(0));
        let Some(state) = past.state else {
            self.await_invite(now, past);
            return;
        };
        let Some(call) = self.call_of(now, &state) else {
            self.bury_started(now, PastCall { state: None, ..past });
            return;
        };
        self.counters.calls_started += 1;
        let has_host = self.pool.adopt(call.plan.host());
        self.trunks.adopt(call.caller.rx_trunk, call.caller_way);
        let from_of_callee = call.callee.as_ref().and_then(|callee| callee.rx_trunk);
        self.trunks.adopt(from_of_callee, call.way);
        self.deadlines.insert((call.check_at, Due::Check(id)));
        self.calls.insert(id, call);
        if let Some(end) = past.end.or(state.ended.clone()) {
            self.bury(now, id, &end);
            return;
        }
        self.adopt_parties(now, id, &state);
        if !has_host {
            self.displace(now, id, HOST_UNKNOWN);
        }
    }

    /// Writes the end of a call that is over, without what the media host counted.
    fn bury(&mut self, now: Now, id: CallId, end: &SavedEnd) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.stage = Stage::Ended;
        call.plan.give_up();
        let end = End {
            by: end.by,
            status: StatusCode::new(end.status).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR),
            reason: end.reason.clone(),
            at_unix_us: end.at_unix_us,
        };
        call.ended = Some((then(now, end.at_unix_us), end));
        self.counters.calls_ended += 1;
        self.leave_trunks(id);
        self.finish(now, id, &[]);
    }

    /// The call as it was, without its dialogs and without a place in the domain.
    fn call_of(&self, now: Now, saved: &SavedCall) -> Option<Box<Call>> {
        let media = &self.config.media;
        let host = HostId::from(saved.media.host.as_str());
        let mut plan = MediaPlan::new(&saved.call, &self.config.controller, media, host);
        let media = &saved.media;
        plan.restore(media.epoch, media.local.clone(), media.told.clone());
        let local = |endpoint: &str| saved.media.local.get(endpoint).map(|(rtp, _)| rtp.ip());
        let party = |saved: &SavedLeg| {
            let mut leg = leg_of(saved, local(&saved.endpoint))?;
            let rx_trunk = saved.rx_trunk.as_deref();
            leg.rx_trunk = rx_trunk.and_then(|name| self.trunks.by_name(name));
            Some(leg)
        };
        let caller = party(&saved.caller)?;
        let callee = match &saved.callee {
            Some(leg) => Some(party(leg)?),
            None => None,
        };
        let summons = match &saved.summons {
            Some(summons) => Some(summons.restore()?),
            None => None,
        };
        // Who is to be called has no endpoint yet.
        let caller_is_here = Some(&caller).filter(|_| summons.is_none());
        for leg in caller_is_here.into_iter().chain(&callee) {
            plan.put(&leg.endpoint, self.endpoint_of(leg));
        }
        let format = self.config.recording.format;
        let destination = saved.destination.restore();
        let times = (then(now, saved.started_unix_us), saved.started_unix_us);
        let mut call = Call::new(saved.call.clone(), destination, caller, plan, times);
        call.stage = saved.stage;
        call.queue = saved.queue.as_deref().map(Name::from);
        call.served_by = saved.served_by.as_deref().map(Name::from);
        call.from = NameAddr::parse(&saved.from.0).ok()?;
        call.to.clone_from(&saved.to);
        call.sip_call_id.clone_from(&saved.sip_call_id);
        call.max_forwards = saved.max_forwards;
        call.rounds = saved.rounds;
        call.callee = callee;
        call.past = saved.past.iter().filter_map(left_of).collect();
        call.is_turned = saved.is_turned;
        call.queued_turned = saved.queued_turned;
        call.recorded = saved.recorded.as_ref().map(|recorded| recorded.restore(format));
        call.behalf = saved.behalf.as_deref().map(Name::from);
        call.origin = saved.origin.clone();
        call.summons = summons;
        let menu = saved.menu.as_ref();
        call.menu = menu.and_then(|menu| menu.restore(&self.config.menus));
        call.choices.clone_from(&saved.choices);
        call.caller_id.clone_from(&saved.caller_id);
        call.instance = saved.instance.as_ref().map(|instance| instance.0.clone());
        call.answered = saved.answered_unix_us.map(|at| then(now, at));
        call.answered_unix_us = saved.answered_unix_us;
        call.check_at = now.mono + CHECK_EVERY;
        call.rung.clone_from(&saved.rung);
        call.rx_trunk = saved
            .rx_trunk
            .as_deref()
            .and_then(|name| self.trunks.by_name(name));
        let rings = matches!(saved.stage, Stage::Waiting | Stage::Ringing);
        // One that rang is sent out again.
        let way = |(name, target): &(String, usize)| self.way_named(name, *target);
        call.way = saved.way.as_ref().filter(|_| !rings).and_then(way);
        let last_way = saved.last_way.as_ref().filter(|_| !rings).and_then(way);
        call.last_way = last_way.or(call.way);
        call.caller_way = saved.caller_way.as_ref().and_then(way);
        Some(call)
    }

    /// A restored party's endpoint, as agreed or as it was offered.
    pub(super) fn endpoint_of(&self, leg: &Leg) -> Endpoint {
        match &leg.media {
            Some(media) => leg.endpoint_for(media),
            None => {
                let formats = sdp::assign_payload_types(&self.policy.offered(&leg.party(), None, false), &[]);
                Endpoint::offered(&formats, leg.peer, self.security.offered(leg.security))
            }
        }
    }

    pub(super) fn named_way(&self, way: TargetId) -> (String, usize) {
        (self.trunks.get(way.trunk).name.to_string(), way.target)
    }

    pub(super) fn way_named(&self, trunk: &str, target: usize) -> Option<TargetId> {
        let trunk = self.trunks.by_name(trunk)?;
        let is_there = self.trunks.get(trunk).targets.len() > target;
        is_there.then_some(TargetId { trunk, target })
    }

    /// Its dialogs, its agent and its place in the queue; phones that rang stop, and are rung again.
    fn adopt_parties(&mut self, now: Now, id: CallId, saved: &SavedCall) {
        for invite in saved.ringing.iter().map(SavedInvite::restore) {
            if let Ok(txn) = self.stack.adopt_invite(now.mono, &invite) {
                let reason = Reason::new("SIP", 487, "Controller restarted");
                let _late = self.stack.cancel(now.mono, txn, Some(&reason));
            }
        }
        for other in &saved.others {
            if let Some(dialog) = self.adopt_dialog(now, other) {
                let _gone = self
                    .stack
                    .dialog_request(now.mono, dialog, DialogRequest::new(Method::Bye));
            }
        }
        let both = [
            (
                Side::Caller,
                Some(&saved.caller).filter(|_| saved.summons.is_none()),
            ),
            (Side::Callee, saved.callee.as_ref()),
        ];
        let mut is_whole = true;
        for (side, leg) in both.into_iter().filter_map(|(side, leg)| Some((side, leg?))) {
            is_whole &= self.adopt_party(now, id, side, leg);
        }
        // Its answer is to come in the ACK, which only our offer brings about.
        let caller = self.calls.get(&id).map(|call| call.caller.state);
        is_whole &= saved.stage != Stage::AwaitingAnswer || caller == Some(LegState::Answered);
        self.adopt_place(now, id, saved);
        if !is_whole {
            let reason = "a party could not be taken over from before the restart";
            self.end(
                now,
                id,
                EndedBy::System,
                StatusCode::SERVER_INTERNAL_ERROR,
                reason,
            );
        }
    }

    /// A dialog of the process before this one.
    pub(super) fn adopt_dialog(&mut self, now: Now, saved: &SavedDialog) -> Option<DialogKey> {
        let record = saved.restore();
        let dialog = self.stack.adopt(now.mono, &record, CSEQ_MARGIN).ok()?;
        self.follow_device(dialog);
        Some(dialog)
    }

    fn adopt_party(&mut self, now: Now, id: CallId, side: Side, saved: &SavedLeg) -> bool {
        let conversation = saved
            .user
            .as_deref()
            .filter(|_| saved.converses)
            .and_then(|agent| self.domain.restore_talk(now.mono, agent));
        if let Some(offer) = conversation {
            self.by_offer.insert(offer, id);
        }
        let invited = saved.invited.as_ref().and_then(SavedInvited::restore);
        let adopted = match (&saved.dialog, invited) {
            (Some(record), _) => self.adopt_dialog(now, record).map(|key| (key, None)),
            (None, Some(record)) => self
                .stack
                .adopt_invited(now.mono, &record)
                .ok()
                .map(|(txn, key, _)| (key, Some((txn, record)))),
            (None, None) => None,
        };
        let leg = self.calls.get_mut(&id).and_then(|call| call.leg_mut(side));
        let (Some((dialog, invited)), Some(leg)) = (adopted, leg) else {
            return false;
        };
        leg.conversation = conversation;
        leg.dialog = Some(dialog);
        if let Some((txn, record)) = invited {
            leg.invite = Invite::Received(txn);
            leg.arrived = Some((record.request, record.flow));
        }
        let is_confirmed = leg.state.is_confirmed();
        let (is_stranger, rx_trunk) = (leg.user.is_none(), leg.rx_trunk);
        self.by_dialog.insert(dialog, (id, side));
        let way = self.calls.get(&id).and_then(|call| match side {
            Side::Caller => call.caller_way,
            Side::Callee => call.way.or(call.last_way),
            Side::Transferor | Side::Newcomer | Side::Member => None,
        });
        let trunk = rx_trunk.or(way.map(|way| way.trunk));
        if let Some(trunk) = trunk.filter(|_| is_stranger) {
            self.join_trunk(dialog, trunk);
        }
        if is_confirmed {
            self.take_up(now, id, dialog, saved);
        }
        true
    }

    fn adopt_place(&mut self, now: Now, id: CallId, saved: &SavedCall) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let waits = matches!(call.stage, Stage::Waiting | Stage::Offering | Stage::Ringing);
        if !waits {
            return;
        }
        match (&saved.place, call.queue.clone()) {
            (Some(place), Some(queue)) => {
                call.stage = Stage::Waiting;
                let caller = call.caller.user.clone();
                let since = then(now, place.since_unix_us);
                let entry = self
                    .domain
                    .restore_entry(now.mono, &queue, since, place.priority, caller);
                match entry {
                    Ok(entry) => {
                        call.entry = Some(entry);
                        self.by_entry.insert(entry, id);
                    }
                    // The configuration may be another one: nobody would ever come.
                    Err(error) => {
                        let (status, reason) = (StatusCode::TEMPORARILY_UNAVAILABLE, error.to_string());
                        self.end(now, id, EndedBy::System, status, &reason);
                    }
                }
            }
            // Once the media host has it again it goes where it was going.
            _ => call.stage = Stage::Preparing,
        }
    }
}

/// A transfer that is to bring the party of another call here, which still talks to who asked for it there. By who goes on
/// from the journal it was never asked for: both calls are what they were.
fn unasked(call: &Call) -> Option<&Transfer> {
    let is_open = matches!(call.stage, Stage::Offering | Stage::Ringing);
    let transfer = call.transfer.as_ref().filter(|_| is_open)?;
    (transfer.from.is_some() && transfer.leg.state.is_confirmed()).then_some(transfer)
}

fn saved_past(left: &Left) -> SavedPast {
    SavedPast {
        was_caller: left.side == Side::Caller,
        address: Octets(written(&left.address)),
        user: left.user.as_deref().map(str::to_owned),
        endpoint: left.endpoint.clone(),
        codec: left.codec.clone(),
        srtp: left.srtp.clone(),
        joined_unix_us: left.joined_unix_us,
        left_unix_us: left.left_unix_us,
    }
}

fn saved_media(plan: &MediaPlan) -> SavedMedia {
    SavedMedia {
        host: plan.host().as_str().to_owned(),
        epoch: plan.epoch(),
        local: plan.addresses().clone(),
        told: plan.told_elsewhere(),
    }
}

pub(super) fn text_without_keys(request: &Request) -> Bytes {
    let mut request = request.clone();
    if request.body.windows(9).any(|text| text == b"a=crypto:") {
        request.body = Bytes::new();
    }
    request.to_bytes()
}

/// A party as it was, without its dialog.
pub(super) fn leg_of(saved: &SavedLeg, local: Option<std::net::IpAddr>) -> Option<Leg> {
    let address = NameAddr::parse(&saved.address.0).ok()?;
    let mut leg = Leg::new(
        Invite::Adopted,
        address,
        saved.peer,
        &saved.endpoint,
        saved.security,
    );
    leg.state = saved.state;
    leg.user = saved.user.as_deref().map(Name::from);
    leg.media = saved.media.as_ref().map(SavedAgreed::restore);
    leg.exchange = match &saved.exchange {
        SavedExchange::None => Exchange::None,
        SavedExchange::Ours(offer) => Exchange::Ours {
            offer: Description::parse(&offer.0).ok()?.into(),
        },
        SavedExchange::Theirs(offer) => {
            let offer = Offer::from(Description::parse(&offer.0).ok()?);
            let chosen = |index| {
                let media = leg.media.as_ref().filter(|media| media.index == index);
                media.map_or(Selection::Rejected, |media| {
                    Selection::Audio(Box::new(media.clone()))
                })
            };
            let selections = (0..offer.media().len()).map(chosen).collect();
            Exchange::Theirs { offer, selections }
        }
    };
    leg.session = saved
        .session
        .zip(local)
        .map(|((id, version), address)| LocalSession::adopt(id, version, address));
    leg.is_described = saved.is_described;
    leg.is_silent = saved.is_silent;
    leg.silent_unix_us = saved.silent_unix_us.unwrap_or_default();
    leg.joined_unix_us = saved.joined_unix_us;
    Some(leg)
}

/// A party that had left already.
fn left_of(past: &SavedPast) -> Option<Left> {
    Some(Left {
        side: if past.was_caller {
            Side::Caller
        } else {
            Side::Callee
        },
        address: NameAddr::parse(&past.address.0).ok()?,
        user: past.user.as_deref().map(Name::from),
        endpoint: past.endpoint.clone(),
        codec: past.codec.clone(),
        srtp: past.srtp.clone(),
        joined_unix_us: past.joined_unix_us,
        left_unix_us: past.left_unix_us,
    })
}

/// A moment of the past by the clock that waits.
pub(super) fn then(now: Now, unix_us_then: u64) -> Instant {
    let ago = Duration::from_micros(unix_us(now.wall).saturating_sub(unix_us_then));
    // Before the machine started there are no such moments.
    now.mono.checked_sub(ago).unwrap_or(now.mono)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
