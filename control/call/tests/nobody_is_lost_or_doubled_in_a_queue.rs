//! Whatever crosses whatever: one caller has at most one agent, one agent at most its limit, and nobody stays for ever.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test needs one instant and may fail where it stands"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use call_control::domain::{
    AgentConfig, AgentState, Decline, Domain, EntryId, Leave, Name, OfferId, Output, QueueConfig, Race,
    TALK_LEASE,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Enqueue {
        queue: u8,
        priority: u8,
    },
    Leave {
        pick: u8,
        gives_up: bool,
    },
    SetAside {
        pick: u8,
    },
    PutBack {
        pick: u8,
    },
    Accept {
        pick: u8,
    },
    Decline {
        pick: u8,
        why: u8,
    },
    Release {
        pick: u8,
    },
    Ready {
        agent: u8,
    },
    Away {
        agent: u8,
        pause: bool,
    },
    Wait {
        ms: u16,
    },
    /// Queues and agents are others: a bit each says which are there, and one that the agents have other limits.
    Reconfigure {
        what: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..2, 0u8..3).prop_map(|(queue, priority)| Step::Enqueue { queue, priority }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(pick, gives_up)| Step::Leave { pick, gives_up }),
        1 => any::<u8>().prop_map(|pick| Step::SetAside { pick }),
        1 => any::<u8>().prop_map(|pick| Step::PutBack { pick }),
        4 => any::<u8>().prop_map(|pick| Step::Accept { pick }),
        2 => (any::<u8>(), 0u8..3).prop_map(|(pick, why)| Step::Decline { pick, why }),
        3 => any::<u8>().prop_map(|pick| Step::Release { pick }),
        3 => (0u8..3).prop_map(|agent| Step::Ready { agent }),
        1 => (0u8..3, any::<bool>()).prop_map(|(agent, pause)| Step::Away { agent, pause }),
        3 => (0u16..15_000).prop_map(|ms| Step::Wait { ms }),
        2 => any::<u8>().prop_map(|what| Step::Reconfigure { what }),
    ]
}

/// What the owner of the calls believes. Offers and entries are kept when they are over, so that steps cross each other.
#[derive(Default)]
struct Owner {
    ever: Vec<EntryId>,
    waiting: BTreeSet<EntryId>,
    aside: BTreeSet<EntryId>,
    offers_ever: Vec<OfferId>,
    ringing: BTreeMap<OfferId, (EntryId, Name)>,
    talking: BTreeMap<OfferId, (EntryId, Name)>,
    /// Queues that take callers.
    queues: BTreeSet<String>,
    limits: BTreeMap<String, usize>,
    /// Nothing was ever taken out: with it go its counts.
    is_whole: bool,
}

impl Owner {
    fn take(&mut self, domain: &mut Domain) -> Result<(), TestCaseError> {
        while let Some(output) = domain.poll_output() {
            match output {
                Output::Offer {
                    offer, entry, agent, ..
                } => {
                    prop_assert!(
                        self.waiting.contains(&entry),
                        "an offer for a caller who is not waiting"
                    );
                    prop_assert!(!self.aside.contains(&entry), "an offer for one who is set aside");
                    prop_assert!(
                        self.ringing.values().all(|(other, _)| *other != entry),
                        "two rung for one caller"
                    );
                    let load = self
                        .ringing
                        .values()
                        .chain(self.talking.values())
                        .filter(|(_, a)| *a == agent)
                        .count();
                    let limit = self.limits.get(&*agent).copied();
                    prop_assert!(
                        limit.is_some_and(|limit| load < limit),
                        "{agent} is asked beyond its limit"
                    );
                    self.ringing.insert(offer, (entry, agent));
                    self.offers_ever.push(offer);
                }
                Output::Withdraw { offer, .. } => {
                    prop_assert!(
                        self.ringing.remove(&offer).is_some(),
                        "withdrew what does not ring"
                    );
                }
                Output::Overdue { entry } => {
                    prop_assert!(self.waiting.remove(&entry), "overdue without waiting")
                }
                Output::Position { entry, position } => {
                    prop_assert!(self.waiting.contains(&entry) && position >= 1);
                }
            }
        }
        Ok(())
    }
}

/// Three agents and two queues; see [`Step::Reconfigure`].
fn reconfigure(domain: &mut Domain, owner: &mut Owner, now: Instant, what: u8) {
    let has = |bit: u8| what & (1 << bit) != 0;
    let small = QueueConfig {
        entries_max: 3,
        timeout: Duration::from_secs(if has(5) { 20 } else { 60 }),
        ..QueueConfig::default()
    };
    let queues = [("q0", QueueConfig::default()), ("q1", small)];
    let queues = queues.into_iter().zip(0..).filter(|(_, bit)| has(*bit));
    let queues: BTreeMap<Name, QueueConfig> = queues.map(|((name, it), _)| (name.into(), it)).collect();
    let mut agents = BTreeMap::new();
    owner.limits.clear();
    for (at, served) in [vec!["q0"], vec!["q0", "q1"], vec!["q1"]].into_iter().enumerate() {
        let calls_max = if at == 2 && !has(5) { 2 } else { 1 };
        let name = format!("agent{at}");
        let config = AgentConfig {
            // Those of queues that are gone too: they are served until they are empty.
            queues: served.into_iter().map(Name::from).collect(),
            calls_max,
            ..AgentConfig::default()
        };
        if has(2 + at as u8) {
            owner.limits.insert(name.clone(), calls_max as usize);
            agents.insert(Name::from(name), config);
        }
    }
    owner.queues = queues.keys().map(ToString::to_string).collect();
    owner.is_whole &= queues.len() == 2 && agents.len() == 3;
    domain.reconfigure(now, queues, agents);
}

fn pick<T: Copy>(from: &[T], at: u8) -> Option<T> {
    (!from.is_empty()).then(|| from[usize::from(at) % from.len()])
}

proptest! {
    #[test]
    fn steps_may_cross(steps in prop::collection::vec(step(), 1..120)) {
        let mut now = Instant::now();
        let mut domain = Domain::default();
        let mut owner = Owner {
            is_whole: true,
            ..Owner::default()
        };
        reconfigure(&mut domain, &mut owner, now, 0b1_1111);
        for step in steps {
            carry_out(&mut domain, &mut owner, &mut now, &step)?;
            owner.take(&mut domain)?;
            agree(&domain, &owner)?;
        }
        // With everybody gone silent, nothing is stuck: after the longest deadline all is over.
        for _ in 0..200 {
            now += Duration::from_secs(5);
            domain.handle_timeout(now);
            owner.take(&mut domain)?;
        }
        prop_assert!(Duration::from_secs(1000) > TALK_LEASE);
        prop_assert!(owner.waiting.is_empty() && owner.ringing.is_empty());
        for (name, agent) in domain.agents() {
            prop_assert!(!matches!(agent.state, AgentState::Talking | AgentState::Reserved | AgentState::WrapUp), "{name} is stuck");
        }
        prop_assert_eq!(domain.poll_timeout(), None, "nothing is left to wait for");
        for (name, _) in domain.queues() {
            prop_assert!(owner.queues.contains(&**name), "{name} was taken out, and is there");
        }
    }
}

fn carry_out(
    domain: &mut Domain,
    owner: &mut Owner,
    now: &mut Instant,
    step: &Step,
) -> Result<(), TestCaseError> {
    match step {
        Step::Enqueue { queue, priority } => {
            let full = domain
                .queues()
                .any(|(name, view)| **name == *"q1" && view.waiting >= 3);
            match domain.enqueue(*now, &format!("q{queue}"), u32::from(*priority)) {
                Ok(entry) => {
                    owner.ever.push(entry);
                    owner.waiting.insert(entry);
                }
                Err(_) => {
                    let is_gone = !owner.queues.contains(&format!("q{queue}"));
                    prop_assert!(is_gone || (*queue == 1 && full), "refused for no reason");
                }
            }
        }
        Step::Leave { pick: at, gives_up } => {
            let Some(entry) = pick(&owner.ever, *at) else {
                return Ok(());
            };
            let why = if *gives_up {
                Leave::GaveUp
            } else {
                Leave::TurnedAway
            };
            let won = domain.leave(*now, entry, why) == Race::Won(());
            // Withdrawals come out later; the entry counts as waiting until then for nobody.
            prop_assert_eq!(won, owner.waiting.remove(&entry));
        }
        Step::SetAside { pick: at } => {
            let Some(entry) = pick(&owner.ever, *at) else {
                return Ok(());
            };
            domain.set_aside(*now, entry);
            // The owner stops its phones by itself.
            owner.ringing.retain(|_, (rung_for, _)| *rung_for != entry);
            owner.aside.insert(entry);
        }
        Step::PutBack { pick: at } => {
            let Some(entry) = pick(&owner.ever, *at) else {
                return Ok(());
            };
            owner.aside.remove(&entry);
            domain.put_back(*now, entry);
        }
        Step::Accept { pick: at } => {
            let Some(offer) = pick(&owner.offers_ever, *at) else {
                return Ok(());
            };
            match domain.accept(*now, offer) {
                Race::Won(entry) => {
                    let rung = owner
                        .ringing
                        .remove(&offer)
                        .expect("only what rings can be answered");
                    prop_assert_eq!(rung.0, entry);
                    prop_assert!(owner.waiting.remove(&entry), "a caller is answered once");
                    owner.talking.insert(offer, rung);
                }
                Race::Lost => prop_assert!(!owner.ringing.contains_key(&offer)),
            }
        }
        Step::Decline { pick: at, why } => {
            let Some(offer) = pick(&owner.offers_ever, *at) else {
                return Ok(());
            };
            let why = [Decline::Busy, Decline::Refused, Decline::Unreachable][usize::from(*why)];
            let won = domain.decline(*now, offer, why) == Race::Won(());
            prop_assert_eq!(won, owner.ringing.remove(&offer).is_some());
        }
        Step::Release { pick: at } => {
            let Some(offer) = pick(&owner.offers_ever, *at) else {
                return Ok(());
            };
            let won = domain.release(*now, offer) == Race::Won(());
            prop_assert_eq!(won, owner.talking.remove(&offer).is_some());
        }
        // It may be gone.
        Step::Ready { agent } => drop(domain.agent_ready(*now, &format!("agent{agent}"))),
        Step::Away { agent, pause } => {
            drop(domain.agent_away(*now, &format!("agent{agent}"), pause.then_some("lunch")));
        }
        Step::Reconfigure { what } => reconfigure(domain, owner, *now, *what),
        Step::Wait { ms } => {
            *now += Duration::from_millis(u64::from(*ms));
            let talking: Vec<OfferId> = owner.talking.keys().copied().collect();
            for offer in talking {
                prop_assert_eq!(domain.still_talking(*now, offer), Race::Won(()));
            }
            domain.handle_timeout(*now);
        }
    }
    Ok(())
}

/// The domain's own view says the same as the one of the owner of the calls.
fn agree(domain: &Domain, owner: &Owner) -> Result<(), TestCaseError> {
    let waiting: usize = domain.queues().map(|(_, view)| view.waiting).sum();
    prop_assert_eq!(waiting, owner.waiting.len());
    if !owner.is_whole {
        return Ok(());
    }
    let answered: u64 = domain.queues().map(|(_, view)| view.answered).sum();
    let served: u64 = domain.agents().map(|(_, view)| view.served).sum();
    prop_assert_eq!(answered, served + owner.talking.len() as u64, "counters agree");
    let all: u64 = domain
        .queues()
        .map(|(_, view)| view.answered + view.abandoned + view.overdue + view.turned_away)
        .sum();
    prop_assert_eq!(
        all + waiting as u64,
        owner.ever.len() as u64,
        "every caller is accounted for once"
    );
    Ok(())
}
