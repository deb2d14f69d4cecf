//! Sessions as the host knows them: graph, owner, ports; not a packet.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{
    EndReason, LocalAddress,
    acts::ActReplies,
    keys::TransportKeys,
    prompts::{self, Given},
    taps::TapReport,
};
use crate::{
    command::{EndpointStream, SessionKey, SessionReport, TapRings},
    graph::Owner,
    refusal::Refusal,
    spec::{Name, PlayerSpec, SessionSpec},
};

#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: SessionKey,
    pub(super) name: Name,
    pub(super) worker: usize,
    pub(super) owner: Owner,
    pub(super) revision: u64,
    pub(super) created: SystemTime,
    pub(super) spec: Arc<SessionSpec>,
    /// In the order of the spec's transports.
    pub(super) local: Vec<Local>,
    /// Of the transports that have some, in the order of the spec.
    pub(super) keys: Vec<TransportKeys>,
    /// In the order of the spec's endpoints.
    pub(super) streams: Vec<EndpointStream>,
    /// What its players play.
    pub(super) prompts: Vec<Given>,
    /// The rings of its taps.
    pub(super) taps: Vec<TapRings>,
    pub(super) cname: Name,
    pub(super) labels: Box<[(Box<str>, Box<str>)]>,
    pub(super) acts: ActReplies,
    /// Since when the owner's lease has been expired.
    pub(super) orphaned_at: Option<Instant>,
}

/// The port of one transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) transport: Name,
    /// Indices into the configuration.
    pub(super) interface: usize,
    pub(super) address: usize,
    pub(super) rtp_port: u16,
    /// RTCP's port: the next one, the same, or none.
    pub(super) rtcp_port: Option<u16>,
}

/// A line in a list of sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The caller's name of it.
    pub name: Name,
    /// Who owns it.
    pub owner: Owner,
    /// Counts up with every edit.
    pub revision: u64,
    /// When it was created.
    pub created: SystemTime,
    /// Where it lives.
    pub worker: usize,
    /// Its endpoints.
    pub endpoints: usize,
    /// Its edges.
    pub edges: usize,
    /// The caller's labels.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Its owner's lease has expired.
    pub orphaned: bool,
}

/// Everything known of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// The line in a list.
    pub summary: Summary,
    /// The graph in force.
    pub spec: Arc<SessionSpec>,
    /// Local addresses, in the order of the spec's transports.
    pub locals: Vec<LocalAddress>,
    /// Its taps.
    pub taps: Vec<TapReport>,
    /// What its worker says.
    pub report: SessionReport,
}

impl Session {
    pub(super) fn summary(&self) -> Summary {
        Summary {
            name: self.name.clone(),
            owner: self.owner.clone(),
            revision: self.revision,
            created: self.created,
            worker: self.worker,
            endpoints: self.spec.endpoint_count(),
            edges: self.spec.edges.len(),
            labels: self.labels.clone(),
            orphaned: self.orphaned_at.is_some(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    names: BTreeMap<Name, SessionKey>,
    by_key: BTreeMap<SessionKey, Session>,
    /// Ended here, not yet let go by their worker.
    ending: BTreeMap<SessionKey, (Session, EndReason)>,
    /// When orphans end whatever happens.
    caps: BTreeSet<(Instant, SessionKey)>,
    /// Shared players of the sessions in service: on which worker, and by how many.
    shared: Vec<(usize, PlayerSpec, usize)>,
}

impl Sessions {
    /// Sessions in service.
    pub(super) fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Sessions in service and those not yet let go.
    pub(super) fn count_with_ending(&self) -> usize {
        self.by_key.len() + self.ending.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Session> {
        self.by_key.get(self.names.get(name)?)
    }

    pub(super) fn by_name(&self, name: &Name) -> Result<&Session, Refusal> {
        self.find(name)
            .ok_or_else(|| Refusal::UnknownSession(name.clone()))
    }

    pub(super) fn by_name_mut(&mut self, name: &Name) -> Result<&mut Session, Refusal> {
        let key = self
            .names
            .get(name)
            .ok_or_else(|| Refusal::UnknownSession(name.clone()))?;
        Ok(self.by_key.get_mut(key).expect("every name has its session"))
    }

    pub(super) fn by_key(&self, key: SessionKey) -> Option<&Session> {
        self.by_key.get(&key)
    }

    /// A session in service on `worker` plays the same as `player`.
    pub(super) fn is_shared(&self, worker: usize, player: &PlayerSpec) -> bool {
        let mut shared = self.shared.iter();
        shared.any(|(on, other, _)| *on == worker && player.shares_with(other))
    }

    fn count_shared(&mut self, worker: usize, spec: &SessionSpec) {
        for player in prompts::shared(spec) {
            let same =
                |(on, other, _): &&mut (usize, PlayerSpec, usize)| *on == worker && player.shares_with(other);
            match self.shared.iter_mut().find(same) {
                Some((_, _, count)) => *count += 1,
                None => self.shared.push((worker, player.clone(), 1)),
            }
        }
    }

    fn uncount_shared(&mut self, worker: usize, spec: &SessionSpec) {
        for player in prompts::shared(spec) {
            for (on, other, count) in &mut self.shared {
                if *on == worker && player.shares_with(other) {
                    *count -= 1;
                }
            }
        }
        self.shared.retain(|(_, _, count)| *count > 0);
    }

    pub(super) fn insert(&mut self, session: Session) {
        self.count_shared(session.worker, &session.spec);
        self.names.insert(session.name.clone(), session.key);
        self.by_key.insert(session.key, session);
    }

    /// Sessions by name, from the one after `name`.
    pub(super) fn after<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Session> {
        self.names
            .range::<str, _>((Bound::Excluded(name), Bound::Unbounded))
            .filter_map(|(_, key)| self.by_key.get(key))
    }

    pub(super) fn owns_any(&self, controller: &str) -> bool {
        self.by_key
            .values()
            .any(|session| *session.owner.controller == *controller)
    }

    pub(super) fn owned_count(&self, controller: &str) -> usize {
        self.by_key
            .values()
            .filter(|session| *session.owner.controller == *controller)
            .count()
    }

    /// Frees the name; the rest waits for the worker. Gives the worker.
    pub(super) fn begin_end(&mut self, key: SessionKey, reason: EndReason) -> Option<usize> {
        let session = self.by_key.remove(&key)?;
        self.names.remove(&session.name);
        self.drop_cap(&session);
        let worker = session.worker;
        self.uncount_shared(worker, &session.spec);
        self.ending.insert(key, (session, reason));
        Some(worker)
    }

    pub(super) fn remove_ending(&mut self, key: SessionKey) -> Option<(Session, EndReason)> {
        self.ending.remove(&key)
    }

    /// Marks the controller's sessions as orphans. Gives those that were not yet.
    pub(super) fn orphan(&mut self, now: Instant, controller: &Name) -> Vec<(usize, SessionKey)> {
        let mut orphaned = Vec::new();
        for session in self
            .by_key
            .values_mut()
            .filter(|s| s.owner.controller == *controller)
        {
            if session.orphaned_at.is_none() {
                session.orphaned_at = Some(now);
                self.caps
                    .insert((now + session.spec.options.orphan_max, session.key));
                orphaned.push((session.worker, session.key));
            }
        }
        orphaned
    }

    /// The controller is back. Gives its sessions that were orphans.
    pub(super) fn unorphan(&mut self, controller: &Name) -> Vec<(usize, SessionKey)> {
        let mut owned = Vec::new();
        for session in self
            .by_key
            .values_mut()
            .filter(|s| s.owner.controller == *controller)
        {
            if let Some(at) = session.orphaned_at.take() {
                self.caps
                    .remove(&(at + session.spec.options.orphan_max, session.key));
                owned.push((session.worker, session.key));
            }
        }
        owned
    }

    pub(super) fn next_cap(&self) -> Option<Instant> {
        self.caps.first().map(|(at, _)| *at)
    }

    pub(super) fn pop_capped(&mut self, now: Instant) -> Option<SessionKey> {
        let (at, key) = *self.caps.first()?;
        (at <= now).then(|| {
            self.caps.remove(&(at, key));
            key
        })
    }

    /// Changes the options of a session in `edit`, keeping its cap in step.
    pub(super) fn edit(&mut self, key: SessionKey, edit: impl FnOnce(&mut Session)) {
        let session = self
            .by_key
            .get_mut(&key)
            .expect("only sessions that exist are edited");
        let before = session
            .orphaned_at
            .map(|at| (at + session.spec.options.orphan_max, key));
        let spec_before = session.spec.clone();
        edit(session);
        let (worker, spec_after) = (session.worker, session.spec.clone());
        let after = session
            .orphaned_at
            .map(|at| (at + session.spec.options.orphan_max, key));
        if let Some(before) = before {
            self.caps.remove(&before);
        }
        self.caps.extend(after);
        self.count_shared(worker, &spec_after);
        self.uncount_shared(worker, &spec_before);
    }

    fn drop_cap(&mut self, session: &Session) {
        if let Some(at) = session.orphaned_at {
            self.caps
                .remove(&(at + session.spec.options.orphan_max, session.key));
        }
    }
}
