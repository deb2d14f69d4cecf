//! The media hosts: which are up, and which gets the next call.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
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
    /// It was taken out of the configuration and gets nothing new; it is gone with its last session.
    pub is_draining: bool,
}

/// The hosts, by name.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    hosts: BTreeMap<HostId, Host>,
    /// Taken out, and nothing of ours is left there.
    drained: VecDeque<HostId>,
}

#[derive(Debug, Default)]
struct Host {
    boot_id: Option<String>,
    /// What it was when it was given up.
    lost_boot_id: Option<String>,
    /// It has sessions from before our restart, and was not heard of since.
    is_awaited: bool,
    /// It is back from there, as it was, and has not said yet which sessions it has.
    is_greeting: bool,
    /// The way to it broke, and it is not given up yet.
    is_away: bool,
    /// It was taken out: what is there goes on.
    is_draining: bool,
    sessions: usize,
}

impl Host {
    fn is_up(&self) -> bool {
        self.boot_id.is_some()
    }

    fn is_present(&self) -> bool {
        self.is_up() && !self.is_away
    }

    /// New sessions may come there.
    fn is_open(&self) -> bool {
        self.is_present() && !self.is_draining
    }
}

impl Pool {
    pub(crate) fn new(hosts: impl IntoIterator<Item = HostId>) -> Self {
        let hosts = hosts.into_iter().map(|id| (id, Host::default())).collect();
        Self {
            hosts,
            drained: VecDeque::new(),
        }
    }

    /// These hosts from now on. What is on others goes on there, and nothing new comes.
    pub(crate) fn reconfigure(&mut self, hosts: impl IntoIterator<Item = HostId>) {
        let wanted: BTreeSet<HostId> = hosts.into_iter().collect();
        for (id, host) in &mut self.hosts {
            host.is_draining = !wanted.contains(id);
        }
        for id in wanted {
            self.hosts.entry(id).or_default();
        }
        self.drain();
    }

    fn drain(&mut self) {
        let drained = self
            .hosts
            .extract_if(.., |_, host| host.is_draining && host.sessions == 0);
        self.drained.extend(drained.map(|(id, _)| id));
    }

    /// A host that was taken out, and on which nothing of ours is left.
    pub(crate) fn pop_drained(&mut self) -> Option<HostId> {
        self.drained.pop_front()
    }

    /// It answers. True when it is another start of it than before: sessions of the other one are gone.
    pub(crate) fn up(&mut self, id: &HostId, boot_id: &str) -> bool {
        let Some(host) = self.hosts.get_mut(id) else {
            return false;
        };
        let restarted = host.boot_id.as_deref().is_some_and(|known| known != boot_id);
        let is_back = host.lost_boot_id.take().as_deref() == Some(boot_id);
        host.is_greeting = is_back || std::mem::take(&mut host.is_awaited);
        host.boot_id = Some(boot_id.to_owned());
        host.is_away = false;
        restarted
    }

    /// It said which sessions it has.
    pub(crate) fn greeted(&mut self, id: &HostId) {
        if let Some(host) = self.hosts.get_mut(id) {
            host.is_greeting = false;
        }
    }

    /// It was lost and is back, and may have its sessions still: it is about to say so.
    pub(crate) fn is_greeting(&self, id: &HostId) -> bool {
        self.hosts.get(id).is_some_and(|host| host.is_greeting)
    }

    /// The way to it broke.
    pub(crate) fn away(&mut self, id: &HostId) {
        if let Some(host) = self.hosts.get_mut(id) {
            host.is_away = true;
        }
    }

    /// Commands reach it.
    pub(crate) fn is_present(&self, id: &HostId) -> bool {
        self.hosts.get(id).is_some_and(Host::is_present)
    }

    /// It is lost. True when it was up.
    pub(crate) fn down(&mut self, id: &HostId) -> bool {
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.is_up()) else {
            return false;
        };
        host.lost_boot_id = host.boot_id.take();
        host.is_greeting = false;
        true
    }

    /// There is one that new sessions may come to, though it may have to be reached anew.
    pub(crate) fn is_any_up(&self) -> bool {
        self.hosts.values().any(|host| host.is_up() && !host.is_draining)
    }

    /// Takes a place on the host with the fewest sessions: of those that can be spoken to, if there are such.
    pub(crate) fn take(&mut self) -> Option<HostId> {
        self.take_but(&BTreeSet::new())
            .or_else(|| self.take_where(|_, host| host.is_up() && !host.is_draining))
    }

    /// Takes a place on a host that can be spoken to, and is none of these.
    pub(crate) fn take_but(&mut self, not: &BTreeSet<HostId>) -> Option<HostId> {
        self.take_where(|id, host| host.is_open() && !not.contains(id))
    }

    fn take_where(&mut self, usable: impl Fn(&HostId, &Host) -> bool) -> Option<HostId> {
        let usable = self.hosts.iter_mut().filter(|(id, host)| usable(id, host));
        let (id, host) = usable.min_by_key(|(_, host)| host.sessions)?;
        host.sessions += 1;
        Some(id.clone())
    }

    /// As [`Pool::take`], and this one if it is up.
    pub(crate) fn take_preferring(&mut self, id: &HostId) -> Option<HostId> {
        match self.hosts.get_mut(id).filter(|host| host.is_open()) {
            Some(host) => {
                host.sessions += 1;
                Some(id.clone())
            }
            None => self.take(),
        }
    }

    /// A session from before a restart is there. False: this host is not configured any more.
    pub(crate) fn adopt(&mut self, id: &HostId) -> bool {
        let Some(host) = self.hosts.get_mut(id) else {
            return false;
        };
        host.sessions += 1;
        host.is_awaited = true;
        true
    }

    /// Those with sessions from before a restart that were not heard of since.
    pub(crate) fn awaited(&self) -> Vec<HostId> {
        let awaited = self.hosts.iter().filter(|(_, host)| host.is_awaited);
        awaited.map(|(id, _)| id.clone()).collect()
    }

    /// Gives a place back.
    pub(crate) fn give_back(&mut self, id: &HostId) {
        if let Some(host) = self.hosts.get_mut(id) {
            host.sessions = host.sessions.saturating_sub(1);
            if host.is_draining && host.sessions == 0 {
                self.drain();
            }
        }
    }

    pub(crate) fn views(&self) -> Vec<HostView> {
        let view = |(id, host): (&HostId, &Host)| HostView {
            host: id.clone(),
            boot_id: host.boot_id.clone(),
            sessions: host.sessions,
            is_draining: host.is_draining,
        };
        self.hosts.iter().map(view).collect()
    }
}
