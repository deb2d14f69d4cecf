//! The wall clock, which people and time servers set.

use std::time::Duration;

use super::{Controller, Now};

/// Less is no matter to whoever reads the journal.
const SET: Duration = Duration::from_secs(5);

impl Controller {
    /// The journal tells by the wall clock when registrations end, and a restart finds out by it which have: when it was
    /// set, they are told again.
    pub(super) fn note_clock(&mut self, now: Now) {
        let awaited = self.clock.wall + now.mono.saturating_duration_since(self.clock.mono);
        let apart = now.wall.duration_since(awaited);
        if apart.unwrap_or_else(|error| error.duration()) < SET {
            return;
        }
        self.clock = now;
        let kinds = self.registrations_standing(now).collect();
        self.record_all(now, kinds);
    }
}
