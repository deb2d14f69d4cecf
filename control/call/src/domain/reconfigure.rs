//! Other queues and agents while callers wait and agents talk.
//!
//! Nobody who waits, rings or talks is given up for it. A queue that is taken out takes no new callers, and is served by
//! its agents until the last one has left it; an agent that is taken out finishes its calls. Then they are gone.

use std::{collections::BTreeMap, time::Instant};

use super::{AgentConfig, Deadline, Domain, Name, OfferId, OfferState, QueueConfig, WithdrawReason};

impl Domain {
    /// These queues and agents from now on. An agent of a queue that is taken out serves it until it is empty when its
    /// settings still name that. A longer time-out counts for those who wait too, a shorter one for those who come.
    pub fn reconfigure(
        &mut self,
        now: Instant,
        queues: BTreeMap<Name, QueueConfig>,
        agents: BTreeMap<Name, AgentConfig>,
    ) {
        for (name, queue) in &mut self.queues {
            queue.is_retired = !queues.contains_key(name);
        }
        for (name, config) in queues {
            self.put_queue(&name, config);
        }
        for (name, agent) in &mut self.agents {
            if !agents.contains_key(name) {
                agent.dismiss();
                self.touched.insert(name.clone());
            }
        }
        for (name, mut config) in agents {
            config.queues.retain(|queue| self.queues.contains_key(queue));
            let serves = |queue: &Name| self.queues.get(queue).is_some_and(|queue| !queue.is_retired);
            let is_leaving = !config.queues.iter().any(serves);
            self.set_agent(now, &name, config);
            self.agent_mut(&name).is_leaving = is_leaving;
        }
        self.is_shrinking = true;
        self.wait_longer();
        self.withdraw_unserved(now);
        self.match_up(now);
    }

    /// Callers who came when their queue's time-out was shorter wait as long as the others.
    fn wait_longer(&mut self) {
        for (id, entry) in &mut self.entries {
            let deadline = entry.since + self.queues[&entry.queue].config.timeout;
            if deadline > entry.deadline {
                self.deadlines.remove(&(entry.deadline, Deadline::Entry(*id)));
                entry.deadline = deadline;
                self.deadlines.insert((deadline, Deadline::Entry(*id)));
            }
        }
    }

    /// Phones of agents that do not serve the caller's queue any more stop ringing.
    fn withdraw_unserved(&mut self, now: Instant) {
        let ringing = self.offers.iter().filter_map(|(id, offer)| match offer.state {
            OfferState::Ringing(entry) => Some((*id, self.entries.get(&entry)?, &offer.agent)),
            OfferState::Talking => None,
        });
        let unserved = ringing.filter(|(_, entry, agent)| !self.agents[*agent].serves(&entry.queue));
        let unserved: Vec<OfferId> = unserved.map(|(id, ..)| id).collect();
        for offer in unserved {
            self.withdraw(now, offer, WithdrawReason::AgentGone);
        }
    }

    /// Callers wait in this queue.
    pub fn is_waited_in(&self, queue: &str) -> bool {
        self.queues.get(queue).is_some_and(|queue| queue.waiting() > 0)
    }

    /// Forgets queues that were taken out and are empty, then agents that serve none and have no call.
    pub(super) fn forget_retired(&mut self) {
        if !self.is_shrinking {
            return;
        }
        self.queues
            .retain(|_, queue| !queue.is_retired || queue.waiting() > 0);
        let queues = &self.queues;
        let is_over = |name: &Name| !queues.contains_key(name);
        let gone: Vec<Name> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.is_leaving && agent.is_free() && agent.queues().iter().all(is_over))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(until) = self.agents.remove(&name).and_then(|agent| agent.wraps_up_until()) {
                self.deadlines.remove(&(until, Deadline::WrapUp(name.clone())));
            }
            self.touched.insert(name);
        }
        let is_retired = self.queues.values().any(|queue| queue.is_retired);
        self.is_shrinking = is_retired || self.agents.values().any(|agent| agent.is_leaving);
    }
}
