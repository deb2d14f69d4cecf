//! Asking devices whether they are still there: an OPTIONS now and then keeps a NAT open, and tells when nobody is
//! behind it any more.

use std::time::{Duration, Instant};

use super::{Binding, Registrar, unregistered};
use crate::{config::Keepalive, domain::Name, journal::RecordKind};

impl Registrar {
    /// Devices to be asked now.
    pub(crate) fn due_pings(&mut self, now: Instant) -> Vec<Binding> {
        let mut due = Vec::new();
        while let Some((at, user, id)) = self.pings.pop_first() {
            if at > now {
                self.pings.insert((at, user, id));
                break;
            }
            let found = self
                .bindings(&user)
                .iter()
                .find(|binding| binding.id == id)
                .cloned();
            // Gone or refreshed in the meantime: the new one has its own turn.
            if let Some(binding) = found {
                self.pinged.insert(id, user);
                due.push(binding);
            }
        }
        due
    }

    /// A device answered, whatever it said.
    pub(crate) fn ping_answered(&mut self, now: Instant, id: u64) {
        let Some(user) = self.pinged.remove(&id) else {
            return;
        };
        self.ask_again(now, &user, id, 0);
    }

    /// A device did not answer. Gives its user when it is registered no more.
    pub(crate) fn ping_missed(
        &mut self,
        now: Instant,
        id: u64,
        records: &mut Vec<RecordKind>,
    ) -> Option<Name> {
        let user = self.pinged.remove(&id)?;
        let missed = self
            .bindings(&user)
            .iter()
            .find(|binding| binding.id == id)?
            .missed
            + 1;
        if missed < self.bounds.keepalive_failures_max {
            self.ask_again(now, &user, id, missed);
            return None;
        }
        for binding in self.drop_quietly(&user, |binding| binding.id == id) {
            records.push(unregistered(&user, &binding, true));
        }
        Some(user)
    }

    fn ask_again(&mut self, now: Instant, user: &Name, id: u64, missed: u32) {
        let bindings = self.bindings.get_mut(user);
        let found = bindings.and_then(|bindings| bindings.iter_mut().find(|binding| binding.id == id));
        let Some(binding) = found else { return };
        binding.missed = missed;
        let binding = binding.clone();
        self.plan_ping(now, user, &binding);
    }

    /// Every device's turn, as the settings are now. One whose answer is awaited gets it with that.
    pub(super) fn plan_pings(&mut self, now: Instant) {
        self.pings.clear();
        let all: Vec<(Name, Binding)> = self.all().map(|(user, it)| (user.clone(), it.clone())).collect();
        for (user, binding) in all {
            if !self.pinged.contains_key(&binding.id) {
                self.plan_ping(now, &user, &binding);
            }
        }
    }

    pub(super) fn plan_ping(&mut self, now: Instant, user: &Name, binding: &Binding) {
        let wanted = match self.bounds.keepalive {
            Keepalive::Off => false,
            Keepalive::Nat => binding.is_behind_nat(),
            Keepalive::All => true,
        };
        if !wanted {
            return;
        }
        let interval = Duration::from_secs(self.bounds.keepalive_interval_s);
        // Devices that registered together, or were restored together, are not asked together.
        let spread = u32::try_from(binding.id % 64).unwrap_or_default();
        let after = interval - interval / 2 * spread / 64;
        self.pings.insert((now + after, user.clone(), binding.id));
    }
}

impl Binding {
    /// Its number, by which the answer to a question is told.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}
