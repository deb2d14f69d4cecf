//! What is going on, as JSON.

use std::time::UNIX_EPOCH;

use call_control::{
    CallStage, Live, RecordingLive, TrunkLive,
    domain::AgentState,
    trunk::{Health, Registration},
};
use serde_json::{Value, json};

use crate::{
    core::CallFound,
    reload::{History, Reloaded},
};

pub(crate) fn agents(live: &Live) -> Value {
    let agent = |agent: &call_control::AgentLive| {
        json!({
            "name": agent.name,
            "state": agent_state(&agent.state),
            "paused_for": paused_for(&agent.state),
            "since_ms": agent.since_ms,
            "served": agent.served,
            "missed": agent.missed,
            "declined": agent.declined,
        })
    };
    live.agents.iter().map(agent).collect()
}

pub(crate) fn queues(live: &Live) -> Value {
    let queue = |queue: &call_control::QueueLive| {
        json!({
            "name": queue.name,
            "waiting": queue.waiting,
            "answered": queue.answered,
            "abandoned": queue.abandoned,
            "overdue": queue.overdue,
            "turned_away": queue.turned_away,
            "waited_ms": queue.waited_ms,
        })
    };
    live.queues.iter().map(queue).collect()
}

pub(crate) fn calls(live: &Live) -> Value {
    live.calls.iter().map(call).collect()
}

pub(crate) fn call(call: &call_control::CallLive) -> Value {
    json!({
        "call": call.call,
        "from": call.from,
        "from_name": call.from_name,
        "to": call.to,
        "queue": call.queue,
        "queued_ms": call.queued_ms,
        "position": call.position,
        "user": call.user,
        "menu": call.menu,
        "stage": stage(call.stage),
        "age_ms": call.age_ms,
        "host": call.host,
        "origin": call.origin,
        "recording": call.recording.map(recording),
    })
}

/// One call, as the page of its own shows it: while it lasts, and its detail afterwards.
pub(crate) fn found(found: &CallFound) -> Value {
    match found {
        CallFound::Live(live) => call(live),
        CallFound::Member(room, member) => json!({
            "call": member.call,
            "from": member.from,
            "from_name": member.from_name,
            "to": room,
            "user": member.user,
            "stage": "talking",
            "age_ms": member.age_ms,
        }),
        CallFound::Over(detail) => json!({
            "call": detail.call,
            "from": detail.from,
            "to": detail.to,
            "queue": detail.queue,
            "stage": "ended",
            "origin": detail.origin,
            "detail": detail,
        }),
    }
}

pub(crate) fn conferences(live: &Live) -> Value {
    let member = |member: &call_control::MemberLive| {
        json!({
            "call": member.call,
            "from": member.from,
            "from_name": member.from_name,
            "user": member.user,
            "muted": member.muted,
            "on_hold": member.on_hold,
            "codec": member.codec,
            "age_ms": member.age_ms,
        })
    };
    let conference = |conference: &call_control::ConferenceLive| {
        json!({
            "room": conference.room,
            "host": conference.host,
            "age_ms": conference.age_ms,
            "members": conference.members.iter().map(member).collect::<Value>(),
        })
    };
    live.conferences.iter().map(conference).collect()
}

pub(crate) fn registrations(live: &Live) -> Value {
    let registration = |registration: &call_control::RegistrationLive| {
        json!({
            "user": registration.user,
            "contact": registration.contact,
            "source": registration.source,
            "agent": registration.agent,
            "expires_s": registration.expires_s,
        })
    };
    live.registrations.iter().map(registration).collect()
}

pub(crate) fn hosts(live: &Live) -> Value {
    let host = |host: &call_control::HostView| {
        json!({
            "host": host.host.as_str(),
            "up": host.boot_id.is_some(),
            "boot_id": host.boot_id,
            "sessions": host.sessions,
            "draining": host.is_draining,
        })
    };
    live.hosts.iter().map(host).collect()
}

pub(crate) fn trunks(trunks: &[TrunkLive]) -> Value {
    let health = |health: Health| match health {
        Health::Unknown => "unknown",
        Health::Up => "up",
        Health::Down => "down",
    };
    let trunk = |trunk: &TrunkLive| {
        let targets = trunk.targets.iter();
        let targets: Vec<Value> = targets
            .map(|(uri, state)| json!({ "uri": uri, "state": health(*state) }))
            .collect();
        json!({
            "name": trunk.name,
            "calls": trunk.calls,
            "tx_calls": trunk.tx_calls,
            "rx_calls": trunk.rx_calls,
            "tx_failures": trunk.tx_failures,
            "refused": trunk.refused,
            "registration": match trunk.registration {
                Registration::Off => json!("off"),
                Registration::Trying => json!("trying"),
                Registration::Registered => json!("registered"),
                Registration::Refused(status) => json!(status),
            },
            "targets": targets,
        })
    };
    trunks.iter().map(trunk).collect()
}

/// What a reload did.
pub(crate) fn reloaded(done: &Reloaded) -> Value {
    json!({ "verdict": "applied", "changed": done.changed, "needs_restart": done.needs_restart })
}

/// The reloads there were, and the last of them.
pub(crate) fn reloads(history: &History) -> Value {
    let last = history.last.as_ref().map(|(at, done)| {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut last = match done {
            Some(done) => reloaded(done),
            None => json!({ "verdict": "refused" }),
        };
        last["at_unix_s"] = since.as_secs().into();
        last
    });
    json!({ "applied": history.applied, "refused": history.refused, "last": last })
}

fn stage(stage: CallStage) -> &'static str {
    match stage {
        CallStage::Preparing => "preparing",
        CallStage::Calling => "calling",
        CallStage::Waiting => "waiting",
        CallStage::Ringing => "ringing",
        CallStage::Connecting => "connecting",
        CallStage::Talking => "talking",
        CallStage::Ending => "ending",
    }
}

fn recording(recording: RecordingLive) -> &'static str {
    match recording {
        RecordingLive::Recording => "recording",
        RecordingLive::Masked => "masked",
        RecordingLive::Finished => "finished",
    }
}

fn agent_state(state: &AgentState) -> &'static str {
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

fn paused_for(state: &AgentState) -> Option<String> {
    match state {
        AgentState::Paused(reason) => Some(reason.to_string()),
        AgentState::Away
        | AgentState::Ready
        | AgentState::Reserved
        | AgentState::Talking
        | AgentState::Engaged
        | AgentState::WrapUp => None,
    }
}
