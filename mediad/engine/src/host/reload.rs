//! What of a host's configuration can change while sessions live.

use std::time::Duration;

use super::{EffortRange, Host};

/// The settings of [`super::HostConfig`] that do not touch what exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Sessions at once; those above a lower bound go on, new ones are refused.
    pub sessions_max: usize,
    /// See [`super::HostConfig::busy_percent_max`].
    pub busy_percent_max: u8,
    /// See [`super::HostConfig::effort`].
    pub effort: EffortRange,
    /// How long a port rests that is released from now on. A shorter rest may still wait for ports that were released
    /// before it: never too short, at worst the former length.
    pub quarantine: Duration,
    /// Lease of a controller that is new and does not ask for one.
    pub lease: Duration,
    /// Of sessions created from now on; see [`crate::spec::SessionOptions::media_timeout`].
    pub media_timeout: Duration,
    /// Of sessions created from now on; see [`crate::spec::SessionOptions::orphan_max`].
    pub orphan_max: Duration,
    /// Of sessions created from now on; see [`crate::spec::SessionOptions::relearn_after`].
    pub relearn_after: Duration,
}

impl Host {
    /// Goes on under other settings; sessions, leases and resting ports keep what they were given.
    pub fn tune(&mut self, tuning: Tuning) {
        let Tuning {
            sessions_max,
            busy_percent_max,
            effort,
            quarantine,
            lease,
            media_timeout,
            orphan_max,
            relearn_after,
        } = tuning;
        self.config.sessions_max = sessions_max;
        self.config.busy_percent_max = busy_percent_max;
        self.config.effort = effort;
        self.config.quarantine = quarantine;
        self.config.lease = lease;
        self.config.media_timeout = media_timeout;
        self.config.orphan_max = orphan_max;
        self.config.relearn_after = relearn_after;
        self.leases.set_default(lease);
        for ports in self.ports.iter_mut().flatten() {
            ports.set_quarantine(quarantine);
        }
        for worker in 0..self.workers.len() {
            let governor = &mut self.workers[worker].governor;
            let (from, to) = (governor.effort(), governor.set_range(effort));
            self.make_effort(worker, from, to);
        }
    }
}
