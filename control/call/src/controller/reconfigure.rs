//! Another configuration while calls go on: what differs is put into effect, part by part.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Controller, Now, live, patience};
use crate::{
    call::{Call, CallId, Stage},
    config::{self, Config, ConfigError, invalid},
    domain::{AgentConfig, AgentState, Name, QueueConfig, Standing},
    journal::RecordKind,
    media::CodecPolicy,
    pool::HostId,
    routing::Routing,
    security::SecurityPolicy,
    trunk::{Registration, Trunk, TrunkId},
};

impl Config {
    /// Checks that this one can take the place of `running` without a restart.
    ///
    /// # Errors
    /// What only a restart changes is not the same.
    pub fn check_change(&self, running: &Self) -> Result<(), ConfigError> {
        let fixed = [
            ("domains", self.domains != running.domains),
            ("realm", self.realm != running.realm),
            ("digest", self.digest != running.digest),
            ("controller", self.controller != running.controller),
            ("owner_token", self.owner_token != running.owner_token),
            ("listeners", self.listeners != running.listeners),
        ];
        match fixed.iter().find(|(_, differs)| *differs) {
            Some((key, _)) => Err(invalid(
                key,
                "",
                "cannot change while calls go on",
                "keep it, or restart",
            )),
            None => Ok(()),
        }
    }
}

impl Controller {
    /// Goes over to another configuration; calls, registrations and callers in queues go on.
    ///
    /// - Accounts: devices of one that is gone are registered no more, its calls go on. A new password counts from the next
    ///   request that has to prove itself.
    /// - Agents: one that is gone finishes its calls and is rung for no others.
    /// - Queues: one that is gone takes nobody more; who waits there is served, or waits too long, as before. A longer
    ///   time-out counts for those who wait, a shorter one for those who come.
    /// - Trunks: calls over one that is gone go on; our registration there ends.
    /// - Media hosts: what is on one that is gone stays there, [`Output::HostDrained`](super::Output::HostDrained) tells when
    ///   nothing is.
    /// - Codecs, encryption, header fields, recordings: as they are for calls that stand, new ones for those that come.
    ///
    /// # Errors
    /// The configuration cannot be used, or differs in what only a restart can change ([`Config::check_change`]). Then
    /// nothing changed.
    pub fn reconfigure(&mut self, now: Now, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        config.check_change(&self.config)?;
        if !self.trunks.has_room_for(&config.trunks) {
            let problem = "more trunks and targets were configured since the start than are remembered";
            return Err(invalid("trunks", "", problem, "restart"));
        }
        let mut records = Vec::new();
        let configs = (&self.config, &config);
        let unregistered = self.registrar.reconfigure(now.mono, configs, &mut records)?;
        // Nothing fails from here on.
        let old = std::mem::replace(&mut self.config, config);
        self.record_all(now, records);
        self.routing = Routing::new(&self.config);
        self.policy = CodecPolicy::new(&self.config);
        self.security = SecurityPolicy::new(&self.config);
        self.originate_rate.set(self.config.originate.calls_per_s);
        let hosts = self.config.media.hosts.iter();
        self.pool.reconfigure(hosts.map(|host| host.name.clone()));
        let patience = patience(&self.config);
        self.stack.set_patience(patience, patience);
        for user in unregistered {
            self.presence_changed(now, &user);
        }
        self.retire_queues(&old);
        self.change_agents(now);
        self.change_trunks(now);
        self.change_sounds(now, &old);
        self.advance(now);
        Ok(())
    }

    /// The settings of a queue, also of one that was taken out while somebody waits there.
    pub(super) fn queue_named(&self, name: Option<&Name>) -> Option<&config::Queue> {
        let mut known = self.config.queues.iter().chain(&self.retired);
        known.find(|queue| name.is_some_and(|name| **name == *queue.name))
    }

    /// Queues that are gone are remembered for as long as somebody waits there.
    fn retire_queues(&mut self, old: &Config) {
        self.retired.extend(old.queues.iter().cloned());
        let (queues, domain) = (&self.config.queues, &self.domain);
        self.retired.retain(|retired| {
            let is_configured = queues.iter().any(|queue| queue.name == retired.name);
            !is_configured && domain.is_waited_in(&retired.name)
        });
    }

    /// Tells the domain of queues and agents.
    pub(super) fn configure_domain(&mut self, now: Now) {
        let queue = |queue: &config::Queue| {
            let config = QueueConfig {
                ring_timeout: queue.ring_timeout(),
                timeout: queue.timeout(),
                entries_max: queue.entries_max,
            };
            (Name::from(queue.name.as_str()), config)
        };
        let queues: BTreeMap<Name, QueueConfig> = self.config.queues.iter().map(queue).collect();
        let mut served = self.config.queues_by_agent();
        for queue in &self.retired {
            let there = queue.agents.iter();
            for agent in there.filter(|agent| self.registrar.account(agent).is_some()) {
                served.entry(agent).or_default().push(&queue.name);
            }
        }
        let settings = self.config.agents;
        let agent = |(agent, queues): (&str, Vec<&str>)| {
            let config = AgentConfig {
                queues: queues.into_iter().map(Name::from).collect(),
                calls_max: settings.calls_max,
                wrap_up: Duration::from_secs(settings.wrap_up_s),
                misses_max: settings.misses_max,
            };
            (Name::from(agent), config)
        };
        let agents: BTreeMap<Name, AgentConfig> = served.into_iter().map(agent).collect();
        self.domain.reconfigure(now.mono, queues, agents);
    }

    fn change_agents(&mut self, now: Now) {
        let names = |controller: &Self| -> BTreeSet<Name> {
            let agents = controller.domain.agents();
            agents.map(|(name, _)| name.clone()).collect()
        };
        let before = names(self);
        self.configure_domain(now);
        let after = names(self);
        if !after.is_subset(&before) {
            // Somebody may be in a call that became an agent just now.
            self.calls.stir_all();
            self.members.stir_all();
            self.note_engaged(now);
        }
        for agent in &after {
            self.presence_changed(now, agent);
        }
    }

    /// An agent that was taken out has finished its last call: as one that never was there.
    pub(super) fn agent_gone(&mut self, now: Now, agent: &Name) {
        let known = self.agent_states.remove(agent);
        if known.is_some_and(|known| known != (AgentState::Away, Standing::default())) {
            let record = RecordKind::AgentState {
                agent: agent.to_string(),
                state: live::state_name(&AgentState::Away).to_owned(),
                standing: Standing::default(),
            };
            self.record(now, record);
        }
    }

    pub(super) fn host_drained(&mut self, now: Now, host: HostId) {
        let record = RecordKind::MediaHost {
            host: host.to_string(),
            boot_id: String::new(),
            reason: "it is not configured any more".to_owned(),
        };
        self.record(now, record);
        self.drained.push_back(host);
    }

    fn change_trunks(&mut self, now: Now) {
        let wanted = self.config.trunks.clone();
        let is_gone = |name: &Name| !wanted.iter().any(|trunk| *trunk.name == **name);
        let there = self.trunks.iter();
        let gone: Vec<TrunkId> = there
            .filter(|(_, trunk)| is_gone(&trunk.name))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            self.close_trunk(now, id);
        }
        let mut order = Vec::with_capacity(wanted.len());
        for trunk in &wanted {
            order.push(match self.trunks.ever_named(&trunk.name) {
                Some(id) => {
                    self.change_trunk(now, id, trunk);
                    id
                }
                None => {
                    let id = self.trunks.add(trunk);
                    self.start_trunk(now, id);
                    id
                }
            });
        }
        self.trunks.set_order(order, &self.config.dialplan);
    }

    /// It was taken out: nothing goes there any more but what is there.
    fn close_trunk(&mut self, now: Now, id: TrunkId) {
        if self.trunks.get(id).registration == Registration::Registered {
            self.end_registration(now, id);
        }
        self.trunks.get_mut(id).is_open = false;
        self.register_at(id, None);
        self.probe_all(id, |_| None);
        if self.trunks.get(id).registration != Registration::Registered {
            self.note_registration(now, id, Registration::Off);
        }
    }

    fn change_trunk(&mut self, now: Now, id: TrunkId, new: &Trunk) {
        let trunk = self.trunks.get(id);
        let (old, was_open) = (trunk.config.clone(), trunk.is_open);
        if was_open && old == *new {
            return;
        }
        let is_registered = trunk.registration == Registration::Registered;
        let registrar = trunk.targets.get(trunk.registrar).map(|target| &target.uri);
        let keeps_registrar = new.targets.iter().any(|target| Some(&target.uri) == registrar);
        let is_other = (&old.username, &old.domain) != (&new.username, &new.domain) || !keeps_registrar;
        if is_registered && was_open && (is_other || new.register_s == 0) {
            self.end_registration(now, id);
        }
        let trunk = self.trunks.get_mut(id);
        trunk.reconfigure(new);
        if is_other || old.password != new.password {
            trunk.session = None;
        }
        if is_other {
            (trunk.register_call_id, trunk.register_min_s) = (String::new(), 0);
        }
        let registers_anew = !was_open
            || is_other
            || old.password != new.password
            || old.register_s != new.register_s
            || trunk.register_at.is_none();
        if !trunk.wants_registration() {
            self.register_at(id, None);
        } else if registers_anew {
            trunk.register_failures = 0;
            self.note_registration(now, id, Registration::Trying);
            self.register_at(id, Some(now.mono));
        }
        let is_asked_as_before = was_open && old.probe_s == new.probe_s;
        self.probe_all(id, |at| at.filter(|_| is_asked_as_before).or(Some(now.mono)));
    }

    /// What those hear who wait, are on hold, or stand before a room with a PIN.
    fn change_sounds(&mut self, now: Now, old: &Config) {
        let of_queues = |config: &Config| -> Vec<(String, String)> {
            let queues = config.queues.iter();
            queues
                .map(|queue| (queue.name.clone(), queue.music.clone()))
                .collect()
        };
        if old.music != self.config.music || of_queues(old) != of_queues(&self.config) {
            let hears = |call: &Call| !matches!(call.stage, Stage::Preparing | Stage::Ended);
            let hear: Vec<CallId> = self
                .calls
                .iter()
                .filter(|(_, call)| hears(call))
                .map(|(id, _)| *id)
                .collect();
            for id in hear {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.lacks_prompt = false;
                }
                self.send_media(now, id);
            }
        }
        if old.conferences == self.config.conferences {
            return;
        }
        for conference in self.conferences.values_mut() {
            (conference.lacks_prompt, conference.lacks_sounds) = (false, false);
        }
        let waits = self.members.iter().filter(|(_, member)| member.gate.is_some());
        let waiting: Vec<(CallId, CallId)> = waits.map(|(id, member)| (*id, member.conference)).collect();
        for (member, conference) in waiting {
            let room = self.conferences.get(&conference).map(|it| it.room.clone());
            if room.is_some_and(|room| self.gate_of(&room).is_none()) {
                self.open_gate(now, member);
            }
        }
    }
}
