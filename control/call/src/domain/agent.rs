//! One agent: away, ready, rung, talking, wrapping up.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Decline, Name, OfferId};
use crate::limits;

/// What an agent is told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Queues it serves.
    pub queues: Vec<Name>,
    /// Calls at once, ringing ones included.
    pub calls_max: u32,
    /// Rest after each call.
    pub wrap_up: Duration,
    /// After this many offers in a row without an answer the agent is paused; 0: never.
    pub misses_max: u32,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            calls_max: 1,
            wrap_up: Duration::from_secs(2),
            misses_max: 3,
        }
    }
}

/// What an agent is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentState {
    /// Not logged in, or its phone is not registered.
    Away,
    /// Logged in and not taking calls, with the reason.
    Paused(Name),
    /// Waiting for a call.
    Ready,
    /// Its phone rings.
    Reserved,
    /// With a caller.
    Talking,
    /// In a call that came by no queue, or on its way into one.
    Engaged,
    /// Resting after a call.
    WrapUp,
}

/// What an agent was told to be and what it did, beside what it is doing: for who goes on from a record of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// Takes calls.
    pub ready: bool,
    /// Is paused, with the reason.
    pub paused: Option<String>,
    /// Conversations had.
    pub served: u64,
    /// Offers not answered in time, and how many in a row.
    pub missed: u64,
    /// See `missed`.
    pub missed_in_a_row: u32,
    /// Offers declined.
    pub declined: u64,
}

/// An agent as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// What it is doing.
    pub state: AgentState,
    /// Since when.
    pub since: Instant,
    /// Conversations had.
    pub served: u64,
    /// Offers not answered in time.
    pub missed: u64,
    /// Offers declined.
    pub declined: u64,
    /// For records.
    pub standing: Standing,
}

#[derive(Debug)]
pub(super) struct Agent {
    config: AgentConfig,
    /// It was taken out, or all its queues were: it goes when it has nothing to do.
    pub(super) is_leaving: bool,
    presence: Presence,
    /// Offers that ring and conversations.
    ringing: Vec<OfferId>,
    talking: Vec<OfferId>,
    /// Calls that came by no queue.
    engaged: u32,
    /// No offers before this.
    wrap_up_until: Option<Instant>,
    since: Instant,
    /// When the last call ended, or it became ready.
    idle_since: Instant,
    served: u64,
    missed: u64,
    missed_in_a_row: u32,
    declined: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Presence {
    Away,
    Paused(Name),
    Ready,
}

impl Agent {
    pub(super) fn new(now: Instant, config: AgentConfig) -> Self {
        Self {
            config,
            is_leaving: false,
            presence: Presence::Away,
            ringing: Vec::new(),
            talking: Vec::new(),
            engaged: 0,
            wrap_up_until: None,
            since: now,
            idle_since: now,
            served: 0,
            missed: 0,
            missed_in_a_row: 0,
            declined: 0,
        }
    }

    pub(super) fn configure(&mut self, config: AgentConfig) {
        self.config = config;
    }

    /// It serves no queue any more.
    pub(super) fn dismiss(&mut self) {
        self.config.queues.clear();
        self.is_leaving = true;
    }

    pub(super) fn queues(&self) -> &[Name] {
        &self.config.queues
    }

    pub(super) fn serves(&self, queue: &Name) -> bool {
        self.config.queues.contains(queue)
    }

    /// In no call, and rung for none.
    pub(super) fn is_free(&self) -> bool {
        self.busy() == 0
    }

    fn busy(&self) -> usize {
        self.ringing.len() + self.talking.len() + self.engaged as usize
    }

    pub(super) fn wraps_up_until(&self) -> Option<Instant> {
        self.wrap_up_until
    }

    /// Takes calls. Gives the end of the wrap-up that this ends.
    pub(super) fn set_ready(&mut self, now: Instant) -> Option<Instant> {
        if self.presence != Presence::Ready {
            self.idle_since = now;
            self.missed_in_a_row = 0;
        }
        self.presence = Presence::Ready;
        self.since = now;
        self.wrap_up_until.take()
    }

    pub(super) fn set_away(&mut self, now: Instant, pause: Option<&str>) {
        self.presence = pause.map_or(Presence::Away, |reason| Presence::Paused(reason.into()));
        self.since = now;
    }

    /// May be offered a caller of `queue`.
    pub(super) fn can_take(&self, queue: &Name) -> bool {
        self.presence == Presence::Ready
            && self.wrap_up_until.is_none()
            && self.busy() < self.config.calls_max.min(limits::AGENT_CALLS_MAX) as usize
            && self.serves(queue)
    }

    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since
    }

    pub(super) fn reserve(&mut self, now: Instant, offer: OfferId) {
        self.ringing.push(offer);
        self.since = now;
    }

    pub(super) fn unreserve(&mut self, now: Instant, offer: OfferId) {
        self.ringing.retain(|ringing| *ringing != offer);
        self.since = now;
    }

    pub(super) fn answered(&mut self, now: Instant, offer: OfferId) {
        self.ringing.retain(|ringing| *ringing != offer);
        self.talking.push(offer);
        self.missed_in_a_row = 0;
        self.since = now;
    }

    /// A call that came by no queue begins.
    pub(super) fn engage(&mut self, now: Instant) {
        self.engaged += 1;
        self.since = now;
    }

    /// It is over.
    pub(super) fn disengage(&mut self, now: Instant) {
        self.engaged = self.engaged.saturating_sub(1);
        (self.since, self.idle_since) = (now, now);
    }

    /// Ends a conversation. Gives the end of the wrap-up that begins.
    pub(super) fn released(&mut self, now: Instant, offer: OfferId) -> Option<Instant> {
        self.talking.retain(|talking| *talking != offer);
        self.served += 1;
        self.since = now;
        self.idle_since = now;
        if self.config.wrap_up.is_zero() || !self.talking.is_empty() {
            return None;
        }
        let until = now + self.config.wrap_up;
        self.wrap_up_until = Some(until);
        Some(until)
    }

    pub(super) fn wrapped_up(&mut self, now: Instant) {
        if self.wrap_up_until.is_some_and(|until| until <= now) {
            self.wrap_up_until = None;
            self.since = now;
        }
    }

    /// Did not answer in time. After too many in a row it is paused, so that callers do not ring an empty chair.
    pub(super) fn missed(&mut self, now: Instant) {
        self.missed += 1;
        self.missed_in_a_row += 1;
        if self.config.misses_max > 0 && self.missed_in_a_row >= self.config.misses_max {
            self.set_away(now, Some("not answering"));
        }
    }

    pub(super) fn declined(&mut self, now: Instant, why: Decline) {
        match why {
            Decline::Unreachable => self.missed(now),
            Decline::Busy | Decline::Refused => self.declined += 1,
        }
    }

    pub(super) fn view(&self) -> AgentView {
        let state = if !self.talking.is_empty() {
            AgentState::Talking
        } else if !self.ringing.is_empty() {
            AgentState::Reserved
        } else if self.engaged > 0 {
            AgentState::Engaged
        } else if self.wrap_up_until.is_some() {
            AgentState::WrapUp
        } else {
            match &self.presence {
                Presence::Away => AgentState::Away,
                Presence::Paused(reason) => AgentState::Paused(reason.clone()),
                Presence::Ready => AgentState::Ready,
            }
        };
        AgentView {
            state,
            since: self.since,
            served: self.served,
            missed: self.missed,
            declined: self.declined,
            standing: self.standing(),
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            ready: self.presence == Presence::Ready,
            paused: match &self.presence {
                Presence::Paused(reason) => Some(reason.to_string()),
                Presence::Away | Presence::Ready => None,
            },
            served: self.served,
            missed: self.missed,
            missed_in_a_row: self.missed_in_a_row,
            declined: self.declined,
        }
    }

    /// As it was.
    pub(super) fn restore(&mut self, standing: &Standing) {
        self.presence = match (&standing.paused, standing.ready) {
            (Some(reason), _) => Presence::Paused(reason.as_str().into()),
            (None, true) => Presence::Ready,
            (None, false) => Presence::Away,
        };
        self.served = standing.served;
        self.missed = standing.missed;
        self.missed_in_a_row = standing.missed_in_a_row;
        self.declined = standing.declined;
    }

    /// It was in this conversation already.
    pub(super) fn restore_talk(&mut self, now: Instant, offer: OfferId) {
        self.talking.push(offer);
        self.since = now;
    }
}
