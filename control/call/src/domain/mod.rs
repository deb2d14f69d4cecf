//! A routing domain: queues joined by the agents they share. One owner decides here who is offered which caller.
//!
//! The owner of a call speaks to the domain by messages, in one process as between nodes: [`Domain::enqueue`],
//! [`Domain::leave`], [`Domain::accept`], [`Domain::decline`], [`Domain::release`]; it is told
//! [`Output::Offer`], [`Output::Withdraw`] and [`Output::Overdue`].
//!
//! Every contested step is a compare-and-set on an [`OfferId`]: of an answer, a hang-up, a time-out and another agent's
//! answer that cross each other, one finds the state it expects and wins; the others are told that they lost and do
//! nothing. No state can outlive its deadline: a ringing offer times out, wrap-up ends, a conversation whose call's
//! owner fell silent is swept.

mod agent;
mod queue;
mod reconfigure;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;

use self::{agent::Agent, queue::Queue};
pub use self::{
    agent::{AgentConfig, AgentState, AgentView, Standing},
    queue::{QueueConfig, QueueView},
};
use crate::limits;

/// A queue's or agent's name.
pub type Name = Arc<str>;

/// A caller's stay in a queue. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// One attempt to bring an entry to an agent, and, once accepted, their conversation. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId(pub u64);

/// What the owner of the calls has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ring the agent for this caller; answer with [`Domain::accept`] or [`Domain::decline`] within `ring`.
    Offer {
        /// The attempt.
        offer: OfferId,
        /// The caller.
        entry: EntryId,
        /// Whom to ring.
        agent: Name,
        /// How long to let it ring; after that the offer is withdrawn from here.
        ring: Duration,
    },
    /// Stop ringing: the offer is no longer good.
    Withdraw {
        /// The attempt.
        offer: OfferId,
        /// Why.
        reason: WithdrawReason,
    },
    /// The caller waited as long as the queue allows and has left the queue.
    Overdue {
        /// The caller.
        entry: EntryId,
    },
    /// The caller's place changed; 1 is next.
    Position {
        /// The caller.
        entry: EntryId,
        /// Its place.
        position: usize,
    },
}

/// Why ringing stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithdrawReason {
    /// The agent did not answer in time.
    RingTimeout,
    /// The caller hung up or waited too long.
    CallerGone,
    /// The agent went away or was paused.
    AgentGone,
}

/// Why an agent did not take a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decline {
    /// 486, 600.
    Busy,
    /// 603 and other refusals by a person.
    Refused,
    /// The phone could not be reached.
    Unreachable,
}

/// Why a caller leaves a queue without having been served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It hung up.
    GaveUp,
    /// We ended its call: an operator did, its media host was lost, the process stops.
    TurnedAway,
}

/// What became of a step that somebody else may have made first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Race<T> {
    /// It was made; do its effects.
    Won(T),
    /// Something else happened before; undo, tell nobody.
    Lost,
}

/// Why a request makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DomainError {
    /// No such queue.
    #[error("queue {0:?} does not exist")]
    UnknownQueue(Name),
    /// No such agent.
    #[error("agent {0:?} does not exist")]
    UnknownAgent(Name),
    /// Too many wait already.
    #[error("queue {queue:?} is full: {max} callers are waiting")]
    QueueFull {
        /// Which queue.
        queue: Name,
        /// Its bound.
        max: usize,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Domain {
    queues: BTreeMap<Name, Queue>,
    agents: BTreeMap<Name, Agent>,
    entries: BTreeMap<EntryId, Entry>,
    offers: BTreeMap<OfferId, Offer>,
    deadlines: BTreeSet<(Instant, Deadline)>,
    outputs: VecDeque<Output>,
    /// Agents something happened to since [`Domain::poll_agent`] told of them.
    touched: BTreeSet<Name>,
    /// Queues or agents were taken out and are not gone yet.
    is_shrinking: bool,
    last_id: u64,
}

#[derive(Debug)]
struct Entry {
    queue: Name,
    since: Instant,
    /// As the queue's time-out stood when it came.
    deadline: Instant,
    priority: u32,
    state: EntryState,
    /// The agent it is, if it is one.
    caller: Option<Name>,
    /// Agents that were tried and when that ended, so that one who does not answer is not rung again at once.
    tried: BTreeMap<Name, Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryState {
    Waiting,
    Offered(OfferId),
    /// No agent could be connected to it just now.
    Aside,
}

#[derive(Debug)]
struct Offer {
    agent: Name,
    state: OfferState,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfferState {
    Ringing(EntryId),
    Talking,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Entry(EntryId),
    Offer(OfferId),
    WrapUp(Name),
    /// Somebody waits who may only now be offered to an agent that was tried before.
    Retry(Name),
}

/// Who goes first: priority, then the longest wait, then who came first.
type Rank = (Reverse<u32>, Instant, EntryId);

/// How long an agent that declined or did not answer is left alone by the same caller, from the end of the attempt.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A conversation must be confirmed this often by its call's owner ([`Domain::still_talking`]), or it is swept.
pub const TALK_LEASE: Duration = Duration::from_secs(120);

impl Domain {
    /// Adds a queue or changes its settings.
    pub fn put_queue(&mut self, name: &str, config: QueueConfig) {
        match self.queues.get_mut(name) {
            Some(queue) => queue.config = config,
            None => drop(self.queues.insert(name.into(), Queue::new(config))),
        }
    }

    /// Adds an agent, away at first, or changes its settings.
    pub fn put_agent(&mut self, now: Instant, name: &str, config: AgentConfig) {
        self.set_agent(now, name, config);
        self.match_up(now);
    }

    fn set_agent(&mut self, now: Instant, name: &str, config: AgentConfig) {
        match self.agents.get_mut(name) {
            Some(agent) => agent.configure(config),
            None => drop(self.agents.insert(name.into(), Agent::new(now, config))),
        }
        self.touched.insert(name.into());
    }

    /// The agent takes calls from now on. One in wrap-up ends it.
    ///
    /// # Errors
    /// No such agent.
    pub fn agent_ready(&mut self, now: Instant, name: &str) -> Result<(), DomainError> {
        let agent = self
            .agents
            .get_mut(name)
            .ok_or_else(|| DomainError::UnknownAgent(name.into()))?;
        self.touched.insert(name.into());
        if let Some(until) = agent.set_ready(now) {
            self.deadlines.remove(&(until, Deadline::WrapUp(name.into())));
        }
        self.match_up(now);
        Ok(())
    }

    /// The agent takes no further calls: paused (`Some(reason)`) or gone (`None`). Ringing stops; a conversation goes on.
    ///
    /// # Errors
    /// No such agent.
    pub fn agent_away(&mut self, now: Instant, name: &str, pause: Option<&str>) -> Result<(), DomainError> {
        let agent = self
            .agents
            .get_mut(name)
            .ok_or_else(|| DomainError::UnknownAgent(name.into()))?;
        agent.set_away(now, pause);
        self.touched.insert(name.into());
        let ringing: Vec<OfferId> = self
            .offers
            .iter()
            .filter(|(_, offer)| *offer.agent == *name && matches!(offer.state, OfferState::Ringing(_)))
            .map(|(id, _)| *id)
            .collect();
        for offer in ringing {
            self.withdraw(now, offer, WithdrawReason::AgentGone);
        }
        self.match_up(now);
        Ok(())
    }

    /// A caller joins a queue; higher `priority` goes first, then who waited longest. Above 0 it comes back, and is let in
    /// by a queue that takes nobody new.
    ///
    /// # Errors
    /// No such queue, or it is full.
    pub fn enqueue(&mut self, now: Instant, queue: &str, priority: u32) -> Result<EntryId, DomainError> {
        self.enqueue_from(now, queue, priority, None)
    }

    /// As [`Domain::enqueue`]; a caller who is an agent itself is never offered to itself.
    ///
    /// # Errors
    /// As [`Domain::enqueue`].
    pub fn enqueue_from(
        &mut self,
        now: Instant,
        queue: &str,
        priority: u32,
        caller: Option<Name>,
    ) -> Result<EntryId, DomainError> {
        let id = self.enter(now, queue, priority, caller)?;
        self.match_up(now);
        self.tell_positions(&Name::from(queue));
        Ok(id)
    }

    fn enter(
        &mut self,
        now: Instant,
        queue: &str,
        priority: u32,
        caller: Option<Name>,
    ) -> Result<EntryId, DomainError> {
        let found = self.queues.get_key_value(queue);
        let Some((name, found)) = found.filter(|(_, queue)| !queue.is_retired) else {
            return Err(DomainError::UnknownQueue(queue.into()));
        };
        let max = match priority {
            0 => found.config.entries_max.min(limits::QUEUE_ENTRIES_MAX),
            // Who comes back has been let in before, and would be hung up on.
            _ => limits::QUEUE_ENTRIES_MAX,
        };
        if found.waiting() >= max {
            return Err(DomainError::QueueFull {
                queue: name.clone(),
                max,
            });
        }
        let name = name.clone();
        let deadline = now + found.config.timeout;
        let id = EntryId(self.next_id());
        let (state, tried) = (EntryState::Waiting, BTreeMap::new());
        self.entries.insert(
            id,
            Entry {
                queue: name.clone(),
                since: now,
                deadline,
                priority,
                state,
                caller,
                tried,
            },
        );
        self.queues
            .get_mut(&name)
            .expect("found above")
            .join(id, priority);
        self.deadlines.insert((deadline, Deadline::Entry(id)));
        Ok(id)
    }

    /// The caller hung up, or was sent elsewhere. Ringing for it stops. [`Race::Lost`] if an agent has it already, or it
    /// was overdue.
    pub fn leave(&mut self, now: Instant, entry: EntryId, why: Leave) -> Race<()> {
        if !self.entries.contains_key(&entry) {
            return Race::Lost;
        }
        let queue = self.queues_mut(entry);
        match why {
            Leave::GaveUp => queue.abandoned += 1,
            Leave::TurnedAway => queue.turned_away += 1,
        }
        self.remove_entry(now, entry);
        self.match_up(now);
        Race::Won(())
    }

    /// The agent answered. [`Race::Won`] with the caller: connect the two. [`Race::Lost`]: hang the agent up again.
    pub fn accept(&mut self, now: Instant, offer: OfferId) -> Race<EntryId> {
        let Some(found) = self.offers.get(&offer) else {
            return Race::Lost;
        };
        let OfferState::Ringing(entry) = found.state else {
            return Race::Lost;
        };
        if self
            .entries
            .get(&entry)
            .is_none_or(|e| e.state != EntryState::Offered(offer))
        {
            return Race::Lost;
        }
        self.reschedule(offer, now + TALK_LEASE, OfferState::Talking);
        let agent = self.offers[&offer].agent.clone();
        self.agent_mut(&agent).answered(now, offer);
        let waited = self.entries[&entry].since;
        let queue = self.queues_mut(entry);
        queue.answered += 1;
        queue.waited += now.saturating_duration_since(waited);
        self.forget_entry(entry);
        self.forget_retired();
        Race::Won(entry)
    }

    /// The agent did not take the call. The caller keeps its place. [`Race::Lost`] if the offer was gone already.
    pub fn decline(&mut self, now: Instant, offer: OfferId, why: Decline) -> Race<()> {
        let ringing = self
            .offers
            .get(&offer)
            .is_some_and(|o| matches!(o.state, OfferState::Ringing(_)));
        if !ringing {
            return Race::Lost;
        }
        let agent = self.unring(now, offer);
        self.agent_mut(&agent).declined(now, why);
        self.match_up(now);
        Race::Won(())
    }

    /// No agent could be connected to the caller just now: it keeps its place and is offered to nobody until
    /// [`Domain::put_back`]. Ringing for it stops, for which nobody is to blame.
    pub fn set_aside(&mut self, now: Instant, entry: EntryId) {
        let Some(found) = self.entries.get_mut(&entry) else {
            return;
        };
        if let EntryState::Offered(offer) = std::mem::replace(&mut found.state, EntryState::Aside) {
            let gone = self.remove_offer(offer);
            // Made while others were set aside, it may not have been told of yet.
            let is_it = |output: &Output| matches!(output, Output::Offer { offer: it, .. } if *it == offer);
            self.outputs.retain(|output| !is_it(output));
            self.agent_mut(&gone.agent).unreserve(now, offer);
            self.match_up(now);
        }
    }

    /// A caller that was set aside is offered again, to whom it was offered before too.
    pub fn put_back(&mut self, now: Instant, entry: EntryId) {
        let found = self.entries.get_mut(&entry);
        if let Some(found) = found.filter(|found| found.state == EntryState::Aside) {
            found.state = EntryState::Waiting;
            self.match_up(now);
        }
    }

    /// An agent as a record has it. One that is not configured any more is passed over.
    pub fn restore_agent(&mut self, name: &str, standing: &Standing) {
        if let Some(agent) = self.agents.get_mut(name) {
            agent.restore(standing);
            self.touched.insert(name.into());
        }
    }

    /// A conversation that went on before this domain was made. `None`: there is no such agent.
    pub fn restore_talk(&mut self, now: Instant, agent: &str) -> Option<OfferId> {
        let (name, _) = self.agents.get_key_value(agent)?;
        let name = name.clone();
        let offer = OfferId(self.next_id());
        let deadline = now + TALK_LEASE;
        self.agent_mut(&name).restore_talk(now, offer);
        let state = OfferState::Talking;
        self.offers.insert(
            offer,
            Offer {
                agent: name,
                state,
                deadline,
            },
        );
        self.deadlines.insert((deadline, Deadline::Offer(offer)));
        Some(offer)
    }

    /// A caller who waits since then, from before this domain was made; call it in the order they came. It is set aside.
    ///
    /// # Errors
    /// No such queue.
    pub fn restore_entry(
        &mut self,
        now: Instant,
        queue: &str,
        since: Instant,
        priority: u32,
        caller: Option<Name>,
    ) -> Result<EntryId, DomainError> {
        let id = self.enter(now, queue, priority, caller)?;
        let timeout = self.queues_mut(id).config.timeout;
        let entry = self.entries.get_mut(&id).expect("it was put there just now");
        self.deadlines.remove(&(entry.deadline, Deadline::Entry(id)));
        entry.since = since;
        entry.state = EntryState::Aside;
        entry.deadline = since + timeout;
        self.deadlines.insert((entry.deadline, Deadline::Entry(id)));
        Ok(id)
    }

    /// Tells restored callers their places: once, when all are there.
    pub fn restored(&mut self) {
        let queues: Vec<Name> = self.queues.keys().cloned().collect();
        for queue in queues {
            self.tell_positions(&queue);
        }
    }

    /// Since when a caller waits, and its priority.
    pub fn place(&self, entry: EntryId) -> Option<(Instant, u32)> {
        self.entries
            .get(&entry)
            .map(|entry| (entry.since, entry.priority))
    }

    /// The conversation is over; the agent wraps up. [`Race::Lost`] if it was over already.
    pub fn release(&mut self, now: Instant, offer: OfferId) -> Race<()> {
        if self
            .offers
            .get(&offer)
            .is_none_or(|o| o.state != OfferState::Talking)
        {
            return Race::Lost;
        }
        let gone = self.remove_offer(offer);
        let agent = self.agent_mut(&gone.agent);
        // Who was rung already when another of its calls ended has not rested from that yet.
        let (before, until) = (agent.wraps_up_until(), agent.released(now, offer));
        if let Some(until) = until {
            if let Some(before) = before {
                self.deadlines
                    .remove(&(before, Deadline::WrapUp(gone.agent.clone())));
            }
            self.deadlines.insert((until, Deadline::WrapUp(gone.agent)));
        }
        self.match_up(now);
        Race::Won(())
    }

    /// An agent called somebody, was called, or was brought a call by a colleague: it has a call less to be offered. Nobody
    /// for those who are no agents.
    pub fn engage(&mut self, now: Instant, name: &str) {
        if let Some(agent) = self.agents.get_mut(name) {
            agent.engage(now);
            self.touched.insert(name.into());
        }
    }

    /// Such a call is over.
    pub fn disengage(&mut self, now: Instant, name: &str) {
        if let Some(agent) = self.agents.get_mut(name) {
            agent.disengage(now);
            self.touched.insert(name.into());
            self.match_up(now);
        }
    }

    /// The owner of the call confirms that the conversation goes on. [`Race::Lost`] if it was swept: hang up.
    pub fn still_talking(&mut self, now: Instant, offer: OfferId) -> Race<()> {
        if self
            .offers
            .get(&offer)
            .is_none_or(|o| o.state != OfferState::Talking)
        {
            return Race::Lost;
        }
        self.reschedule(offer, now + TALK_LEASE, OfferState::Talking);
        Race::Won(())
    }

    /// What to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Domain::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Carries out every deadline that has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, deadline)) = self.deadlines.pop_first() else {
                break;
            };
            match deadline {
                Deadline::Entry(entry) => self.entry_overdue(now, entry),
                Deadline::Offer(offer) => self.offer_overdue(now, offer),
                Deadline::WrapUp(agent) => self.agent_mut(&agent).wrapped_up(now),
                Deadline::Retry(_) => {}
            }
        }
        self.match_up(now);
    }

    /// An agent that something happened to since it was told of last, as it is now; its state may be the same again. It has
    /// none when it was taken out and is gone.
    pub fn poll_agent(&mut self) -> Option<(Name, Option<AgentView>)> {
        let name = self.touched.pop_first()?;
        let view = self.agents.get(&name).map(Agent::view);
        Some((name, view))
    }

    /// Offers that ring, and conversations.
    pub fn offer_count(&self) -> usize {
        self.offers.len()
    }

    /// Callers waiting, in all queues.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// When a caller who waits still, or is being offered, joined the queue.
    pub fn waits_since(&self, entry: EntryId) -> Option<Instant> {
        self.entries.get(&entry).map(|entry| entry.since)
    }

    /// The caller is waiting still, or being offered.
    pub fn is_waiting(&self, entry: EntryId) -> bool {
        self.entries.contains_key(&entry)
    }

    /// Serves queues.
    pub fn is_agent(&self, name: &str) -> bool {
        self.agents.contains_key(name)
    }

    /// An agent as it is.
    pub fn agent(&self, name: &str) -> Option<AgentView> {
        self.agents.get(name).map(Agent::view)
    }

    /// Every agent as it is.
    pub fn agents(&self) -> impl Iterator<Item = (&Name, AgentView)> {
        self.agents.iter().map(|(name, agent)| (name, agent.view()))
    }

    /// Every queue as it is.
    pub fn queues(&self) -> impl Iterator<Item = (&Name, QueueView)> {
        self.queues.iter().map(|(name, queue)| (name, queue.view()))
    }

    fn entry_overdue(&mut self, now: Instant, entry: EntryId) {
        if self.entries.contains_key(&entry) {
            self.queues_mut(entry).overdue += 1;
            self.remove_entry(now, entry);
            self.outputs.push_back(Output::Overdue { entry });
        }
    }

    fn offer_overdue(&mut self, now: Instant, offer: OfferId) {
        match self.offers.get(&offer).map(|o| o.state) {
            Some(OfferState::Ringing(_)) => {
                let agent = self.offers[&offer].agent.clone();
                self.withdraw(now, offer, WithdrawReason::RingTimeout);
                self.agent_mut(&agent).missed(now);
            }
            // The owner of the call fell silent: the agent must not stay busy for ever.
            Some(OfferState::Talking) => drop(self.release(now, offer)),
            None => {}
        }
    }

    /// Offers waiting callers to free agents until one of the two runs out.
    fn match_up(&mut self, now: Instant) {
        while let Some((entry, agent)) = self.best_pair(now) {
            self.offer(now, entry, &agent);
        }
        self.forget_retired();
        self.plan_retry(now);
    }

    /// Over all queues: the caller that should be served next and has an agent to serve it. A queue without a free
    /// agent is passed over whole, however many wait in it.
    fn best_pair(&self, now: Instant) -> Option<(EntryId, Name)> {
        let served = self
            .queues
            .iter()
            .filter(|(name, _)| self.agents.values().any(|agent| agent.can_take(name)));
        let first_of = |queue: &Queue| queue.in_order().find_map(|id| self.candidate(now, id));
        let best = served
            .filter_map(|(_, queue)| first_of(queue))
            .min_by_key(|(rank, _)| *rank);
        best.map(|((.., id), agent)| (id, agent))
    }

    /// A waiting caller with its rank among all queues and the agent for it.
    fn candidate(&self, now: Instant, id: EntryId) -> Option<(Rank, Name)> {
        let entry = self
            .entries
            .get(&id)
            .filter(|entry| entry.state == EntryState::Waiting)?;
        let agent = self.longest_idle(now, entry)?;
        Some(((Reverse(entry.priority), entry.since, id), agent))
    }

    fn longest_idle(&self, now: Instant, entry: &Entry) -> Option<Name> {
        let rested = |name: &Name| entry.tried.get(name).is_none_or(|at| *at + RETRY_AFTER <= now);
        self.agents
            .iter()
            .filter(|(name, agent)| {
                agent.can_take(&entry.queue) && rested(name) && entry.caller.as_ref() != Some(*name)
            })
            // Who was not tried yet, then who was tried longest ago, then who is idle longest.
            .min_by_key(|(name, agent)| (entry.tried.get(*name), agent.idle_since(), *name))
            .map(|(name, _)| name.clone())
    }

    fn offer(&mut self, now: Instant, entry: EntryId, agent: &Name) {
        let offer = OfferId(self.next_id());
        let waiting = self.entries.get_mut(&entry).expect("it was found waiting");
        waiting.state = EntryState::Offered(offer);
        let ring = self.queues[&waiting.queue].config.ring_timeout;
        self.agent_mut(agent).reserve(now, offer);
        let deadline = now + ring;
        self.offers.insert(
            offer,
            Offer {
                agent: agent.clone(),
                state: OfferState::Ringing(entry),
                deadline,
            },
        );
        self.deadlines.insert((deadline, Deadline::Offer(offer)));
        self.outputs.push_back(Output::Offer {
            offer,
            entry,
            agent: agent.clone(),
            ring,
        });
    }

    /// A caller waits whom only an agent could serve that was tried a moment ago: look again when it may be.
    fn plan_retry(&mut self, now: Instant) {
        let mut retries = Vec::new();
        for entry in self.entries.values().filter(|e| e.state == EntryState::Waiting) {
            for (name, at) in &entry.tried {
                let free = self
                    .agents
                    .get(name)
                    .is_some_and(|agent| agent.can_take(&entry.queue));
                if free && *at + RETRY_AFTER > now {
                    retries.push((*at + RETRY_AFTER, Deadline::Retry(name.clone())));
                }
            }
        }
        self.deadlines.extend(retries);
    }

    /// Ringing stops from here, and the owner of the call has to be told.
    fn withdraw(&mut self, now: Instant, offer: OfferId, reason: WithdrawReason) {
        self.unring(now, offer);
        self.outputs.push_back(Output::Withdraw { offer, reason });
    }

    /// Takes an offer that rings back: its caller waits again, at its place, and its agent is free. Gives the agent.
    fn unring(&mut self, now: Instant, offer: OfferId) -> Name {
        let gone = self.remove_offer(offer);
        self.agent_mut(&gone.agent).unreserve(now, offer);
        if let OfferState::Ringing(entry) = gone.state
            && let Some(entry) = self.entries.get_mut(&entry)
        {
            entry.state = EntryState::Waiting;
            // From now on, not from when it began to ring: ringing may take longer than the rest after it.
            entry.tried.insert(gone.agent.clone(), now);
        }
        gone.agent
    }

    fn remove_entry(&mut self, now: Instant, entry: EntryId) {
        if let EntryState::Offered(offer) = self.entries[&entry].state {
            self.withdraw(now, offer, WithdrawReason::CallerGone);
        }
        self.forget_entry(entry);
    }

    fn forget_entry(&mut self, id: EntryId) {
        let entry = self
            .entries
            .remove(&id)
            .expect("callers checked that it is there");
        let queue = self
            .queues
            .get_mut(&entry.queue)
            .expect("queues outlive their entries");
        queue.part(id, entry.priority);
        self.deadlines.remove(&(entry.deadline, Deadline::Entry(id)));
        self.tell_positions(&entry.queue);
    }

    fn tell_positions(&mut self, queue: &Name) {
        let Some(queue) = self.queues.get_mut(queue) else {
            return;
        };
        let outputs = &mut self.outputs;
        queue.changed_positions(|entry, position| outputs.push_back(Output::Position { entry, position }));
    }

    fn remove_offer(&mut self, id: OfferId) -> Offer {
        let offer = self.offers.remove(&id).expect("callers checked that it is there");
        self.deadlines.remove(&(offer.deadline, Deadline::Offer(id)));
        offer
    }

    fn reschedule(&mut self, id: OfferId, deadline: Instant, state: OfferState) {
        let offer = self
            .offers
            .get_mut(&id)
            .expect("callers checked that it is there");
        self.deadlines.remove(&(offer.deadline, Deadline::Offer(id)));
        offer.deadline = deadline;
        offer.state = state;
        self.deadlines.insert((deadline, Deadline::Offer(id)));
    }

    fn agent_mut(&mut self, name: &Name) -> &mut Agent {
        if !self.touched.contains(name) {
            self.touched.insert(name.clone());
        }
        self.agents
            .get_mut(name)
            .expect("agents outlive their offers and deadlines")
    }

    fn queues_mut(&mut self, entry: EntryId) -> &mut Queue {
        let name = &self.entries[&entry].queue;
        self.queues.get_mut(name).expect("queues outlive their entries")
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
