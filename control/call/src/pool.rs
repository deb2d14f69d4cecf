//! The media hosts: which are up, and which gets the next call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::Deserialize;

/// A media host's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "String")]
pub struct HostId(Arc<str>);

impl HostId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for HostId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for HostId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A media host as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// Its name.
    pub host: HostId,
    /// Its boot id; `None` while it is down.
    pub boot_id: Option<String>,
    /// Our sessions on it.
    pub sessions: usize,
}

/// The hosts, by name.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    hosts: BTreeMap<HostId, Host>,
}

#[derive(Debug, Default)]
struct Host {
    boot_id: Option<String>,
    sessions: usize,
}

impl Pool {
    pub(crate) fn new(hosts: impl IntoIterator<Item = HostId>) -> Self {
        let hosts = hosts.into_iter().map(|id| (id, Host::default())).collect();
        Self { hosts }
    }

    /// It answers. True when it is another start of it than before: sessions of the other one are gone.
    pub(crate) fn up(&mut self, id: &HostId, boot_id: &str) -> bool {
        let Some(host) = self.hosts.get_mut(id) else {
            return false;
        };
        let restarted = host.boot_id.as_deref().is_some_and(|known| known != boot_id);
        host.boot_id = Some(boot_id.to_owned());
        restarted
    }

    /// It is lost. True when it was up.
    pub(crate) fn down(&mut self, id: &HostId) -> bool {
        self.hosts
            .get_mut(id)
            .is_some_and(|host| host.boot_id.take().is_some())
    }

    /// Takes a place on the host with the fewest sessions.
    pub(crate) fn take(&mut self) -> Option<HostId> {
        self.take_but(&BTreeSet::new())
    }

    /// As [`Pool::take`], without these.
    pub(crate) fn take_but(&mut self, not: &BTreeSet<HostId>) -> Option<HostId> {
        let usable = |(id, host): &(&HostId, &mut Host)| host.boot_id.is_some() && !not.contains(*id);
        let up = self.hosts.iter_mut().filter(usable);
        let (id, host) = up.min_by_key(|(_, host)| host.sessions)?;
        host.sessions += 1;
        Some(id.clone())
    }

    /// As [`Pool::take`], and this one if it is up.
    pub(crate) fn take_preferring(&mut self, id: &HostId) -> Option<HostId> {
        match self.hosts.get_mut(id).filter(|host| host.boot_id.is_some()) {
            Some(host) => {
                host.sessions += 1;
                Some(id.clone())
            }
            None => self.take(),
        }
    }

    /// A session from before a restart is there.
    pub(crate) fn adopt(&mut self, id: &HostId) {
        if let Some(host) = self.hosts.get_mut(id) {
            host.sessions += 1;
        }
    }

    /// Gives a place back.
    pub(crate) fn give_back(&mut self, id: &HostId) {
        if let Some(host) = self.hosts.get_mut(id) {
            host.sessions = host.sessions.saturating_sub(1);
        }
    }

    pub(crate) fn views(&self) -> Vec<HostView> {
        let view = |(id, host): (&HostId, &Host)| HostView {
            host: id.clone(),
            boot_id: host.boot_id.clone(),
            sessions: host.sessions,
        };
        self.hosts.iter().map(view).collect()
    }
}
