//! Leases of controllers: a session whose controller's lease expired is an orphan, not yet dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{limits, refusal::Refusal, spec::Name};

/// Longest lease granted.
const LEASE_MAX: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Leases {
    default: Duration,
    by_controller: BTreeMap<Name, Lease>,
    /// Leases that run out, soonest first.
    expiring: BTreeSet<(Instant, Name)>,
}

#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) duration: Duration,
    pub(super) state: LeaseState,
    /// Streams open now; a controller may have two for a moment when it reconnects.
    streams: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseState {
    /// A stream is open.
    Connected,
    /// Runs out then.
    Until(Instant),
    /// Has run out.
    Expired,
}

impl Leases {
    pub(super) fn new(default: Duration) -> Self {
        Self {
            default,
            by_controller: BTreeMap::new(),
            expiring: BTreeSet::new(),
        }
    }

    /// The lease of controllers that are new and do not ask for one.
    pub(super) fn set_default(&mut self, default: Duration) {
        self.default = default;
    }

    /// A stream was opened. Gives the lease granted and whether it had run out.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        controller: &Name,
        duration: Option<Duration>,
    ) -> Result<(Duration, bool), Refusal> {
        let granted = self.renew(now, controller, duration)?;
        let lease = self.by_controller.get_mut(controller).expect("renew made it");
        lease.streams += 1;
        self.set(controller, LeaseState::Connected);
        Ok(granted)
    }

    /// A stream is gone.
    pub(super) fn disconnect(&mut self, now: Instant, controller: &Name) {
        let Some(lease) = self.by_controller.get_mut(controller) else {
            return;
        };
        lease.streams = lease.streams.saturating_sub(1);
        if lease.streams == 0 {
            let until = LeaseState::Until(now + lease.duration);
            self.set(controller, until);
        }
    }

    /// The controller is alive. `duration` changes its lease. Gives the lease granted and whether it had run out.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        controller: &Name,
        duration: Option<Duration>,
    ) -> Result<(Duration, bool), Refusal> {
        if !self.by_controller.contains_key(controller) {
            if self.by_controller.len() >= limits::CONTROLLERS_MAX {
                return Err(Refusal::TooMany {
                    subject: String::new(),
                    what: "controllers",
                    count: self.by_controller.len() + 1,
                    max: limits::CONTROLLERS_MAX,
                });
            }
            let lease = Lease {
                duration: self.default,
                state: LeaseState::Until(now),
                streams: 0,
            };
            self.by_controller.insert(controller.clone(), lease);
        }
        let lease = self
            .by_controller
            .get_mut(controller)
            .expect("inserted above when it was missing");
        if let Some(duration) = duration {
            lease.duration = duration.min(LEASE_MAX);
        }
        let granted = lease.duration;
        let was_expired = lease.state == LeaseState::Expired;
        if lease.streams == 0 {
            self.set(controller, LeaseState::Until(now + granted));
        }
        Ok((granted, was_expired))
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiring.first().map(|(at, _)| *at)
    }

    /// The next controller whose lease has run out by now.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Name> {
        let (at, controller) = self.expiring.first()?;
        if *at > now {
            return None;
        }
        let controller = controller.clone();
        self.set(&controller, LeaseState::Expired);
        Some(controller)
    }

    /// Forgets controllers whose lease has run out and that own nothing.
    pub(super) fn forget_idle(&mut self, owns_any: impl Fn(&str) -> bool) {
        self.by_controller
            .retain(|name, lease| lease.state != LeaseState::Expired || owns_any(name));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &Lease)> {
        self.by_controller.iter()
    }

    fn set(&mut self, controller: &Name, state: LeaseState) {
        let Some(lease) = self.by_controller.get_mut(controller) else {
            return;
        };
        if let LeaseState::Until(at) = lease.state {
            self.expiring.remove(&(at, controller.clone()));
        }
        if let LeaseState::Until(at) = state {
            self.expiring.insert((at, controller.clone()));
        }
        lease.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn start() -> Instant {
        #[allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from")]
        Instant::now()
    }

    #[test]
    fn a_lease_runs_only_while_no_stream_is_open() {
        let now = start();
        let name: Name = "c1".into();
        let mut leases = Leases::new(LEASE);
        assert_eq!(leases.connect(now, &name, None), Ok((LEASE, false)));
        assert_eq!(leases.connect(now, &name, None), Ok((LEASE, false)));
        assert_eq!(leases.next_expiry(), None);
        leases.disconnect(now, &name);
        assert_eq!(leases.next_expiry(), None, "the second stream is still open");
        leases.disconnect(now, &name);
        assert_eq!(leases.next_expiry(), Some(now + LEASE));
        assert_eq!(leases.pop_expired(now + LEASE / 2), None);
        assert_eq!(leases.pop_expired(now + LEASE), Some(name.clone()));
        assert_eq!(leases.pop_expired(now + LEASE), None);
        assert_eq!(leases.renew(now + LEASE * 2, &name, None), Ok((LEASE, true)));
    }

    #[test]
    fn renewing_moves_the_end_and_changes_the_length() {
        let now = start();
        let name: Name = "c1".into();
        let mut leases = Leases::new(LEASE);
        leases.renew(now, &name, None).unwrap();
        leases
            .renew(now + LEASE / 2, &name, Some(Duration::from_secs(5)))
            .unwrap();
        assert_eq!(
            leases.next_expiry(),
            Some(now + LEASE / 2 + Duration::from_secs(5))
        );
        assert_eq!(
            leases.renew(now, &name, Some(Duration::from_secs(86_400))),
            Ok((LEASE_MAX, false))
        );
    }

    #[test]
    fn controllers_are_bounded_and_idle_ones_forgotten() {
        let now = start();
        let mut leases = Leases::new(LEASE);
        for number in 0..limits::CONTROLLERS_MAX {
            leases.renew(now, &format!("c{number}").into(), None).unwrap();
        }
        assert!(matches!(
            leases.renew(now, &"one more".into(), None),
            Err(Refusal::TooMany { .. })
        ));
        while leases.pop_expired(now + LEASE).is_some() {}
        leases.forget_idle(|name| name == "c7");
        assert_eq!(leases.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["c7"]);
    }
}
