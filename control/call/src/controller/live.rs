//! What is going on, for people and dashboards.

use std::time::{Duration, Instant};

use sip::header::NameAddr;

use super::{
    AgentLive, CallLive, CallStage, Controller, Counters, Live, MemberLive, Now, QueueLive, RecordingLive,
    RegistrationLive,
};
use crate::{
    call::{Call, Recorded, Stage},
    domain::{AgentState, Standing},
    registrar::source_of,
    routing::Destination,
};

impl Controller {
    /// A call that goes on, by our name for it.
    pub fn call_live(&self, now: Now, name: &str) -> Option<CallLive> {
        let call = self.calls.values().find(|call| call.name == name)?;
        Some(self.live_of(now, call))
    }

    /// A member of a conference, by our name for its call, and its room.
    pub fn member_live(&self, now: Now, name: &str) -> Option<(String, MemberLive)> {
        let mut all = self.conferences_live(now).into_iter();
        all.find_map(|conference| {
            let member = conference
                .members
                .into_iter()
                .find(|member| member.call == name)?;
            Some((conference.room, member))
        })
    }

    /// What is going on.
    pub fn live(&self, now: Now) -> Live {
        let agents = self.domain.agents().map(|(name, view)| AgentLive {
            name: name.to_string(),
            since_ms: ms_since(now, view.since),
            state: view.state,
            served: view.served,
            missed: view.missed,
            declined: view.declined,
        });
        let queues = self.domain.queues().map(|(name, view)| QueueLive {
            name: name.to_string(),
            waiting: view.waiting,
            answered: view.answered,
            abandoned: view.abandoned,
            overdue: view.overdue,
            turned_away: view.turned_away,
            waited_ms: ms(view.waited),
        });
        let registrations = self.registrar.all().map(|(user, binding)| RegistrationLive {
            user: user.to_string(),
            contact: String::from_utf8_lossy(binding.uri.as_bytes()).into_owned(),
            source: source_of(binding.flow),
            agent: binding.agent.clone(),
            expires_s: binding.expires.saturating_duration_since(now.mono).as_secs(),
        });
        Live {
            agents: agents.collect(),
            queues: queues.collect(),
            calls: self.calls.values().map(|call| self.live_of(now, call)).collect(),
            conferences: self.conferences_live(now),
            registrations: registrations.collect(),
            hosts: self.pool.views(),
        }
    }

    fn live_of(&self, now: Now, call: &Call) -> CallLive {
        let rung = call.round.as_ref().map(|round| &round.user);
        let answered = call.callee.as_ref().and_then(|leg| leg.user.as_ref());
        let joined = call.entry.and_then(|entry| self.domain.waits_since(entry));
        CallLive {
            call: call.name.clone(),
            from: String::from_utf8_lossy(call.from.uri.as_bytes()).into_owned(),
            from_name: display_name(&call.from),
            to: call.to.clone(),
            queue: call.queue.as_ref().map(ToString::to_string),
            queued_ms: joined.map(|since| ms_since(now, since)),
            position: call.position,
            menu: match &call.destination {
                Destination::Menu(menu) => Some(menu.to_string()),
                _ => None,
            },
            user: answered.or(rung).map(|user| user.to_string()),
            stage: stage(call),
            age_ms: ms_since(now, call.started),
            host: call.plan.host().to_string(),
            origin: call.origin.clone(),
            recording: call.recorded.as_ref().map(recording),
        }
    }

    /// Counters and table sizes.
    pub fn counters(&self) -> Counters {
        Counters {
            calls: self.calls.len() + self.members.len(),
            conferences: self.conferences.len(),
            bindings: self.registrar.all().count(),
            media_pending: self.pending.len(),
            offers: self.domain.offer_count(),
            offers_of_calls: self.by_offer.len(),
            waiting: self.domain.entry_count(),
            places_of_calls: self.by_entry.len(),
            requests_pending: self.by_client.len(),
            messages: self.messages.len(),
            parties: self.by_dialog.len(),
            sip: self.stack.stats(),
            ..self.counters
        }
    }
}

/// What a party calls itself. Its bytes are anybody's.
pub(super) fn display_name(address: &NameAddr) -> Option<String> {
    let name = address.display()?;
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    (!name.is_empty()).then_some(name)
}

fn stage(call: &Call) -> CallStage {
    match call.stage {
        Stage::Preparing => CallStage::Preparing,
        Stage::Offering | Stage::Ringing if call.summons.is_some() => CallStage::Calling,
        Stage::Waiting | Stage::Offering => CallStage::Waiting,
        Stage::Ringing => CallStage::Ringing,
        Stage::Connecting | Stage::AwaitingAnswer => CallStage::Connecting,
        Stage::Talking => CallStage::Talking,
        Stage::Ended => CallStage::Ending,
    }
}

fn recording(recorded: &Recorded) -> RecordingLive {
    if recorded.is_finished() {
        RecordingLive::Finished
    } else if recorded.is_paused {
        RecordingLive::Masked
    } else {
        RecordingLive::Recording
    }
}

/// An agent's state as records and APIs spell it.
pub(super) fn state_name(state: &AgentState) -> &'static str {
    match state {
        AgentState::Away => "away",
        AgentState::Paused(_) => "paused",
        AgentState::Ready => "ready",
        AgentState::Reserved => "reserved",
        AgentState::Talking => "talking",
        AgentState::Engaged => "engaged",
        AgentState::WrapUp => "wrap_up",
    }
}

/// The state of that name; `None` for one that is not known.
pub(super) fn state_named(name: &str, standing: &Standing) -> Option<AgentState> {
    Some(match name {
        "away" => AgentState::Away,
        "paused" => AgentState::Paused(standing.paused.as_deref().unwrap_or_default().into()),
        "ready" => AgentState::Ready,
        "reserved" => AgentState::Reserved,
        "talking" => AgentState::Talking,
        "engaged" => AgentState::Engaged,
        "wrap_up" => AgentState::WrapUp,
        _ => return None,
    })
}

fn ms_since(now: Now, then: Instant) -> u64 {
    ms(now.mono.saturating_duration_since(then))
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
