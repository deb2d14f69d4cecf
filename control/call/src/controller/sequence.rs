//! Devices that their user prefers less than others (RFC 3261 §20.10, q): they ring when those had their time.

use std::time::Duration;

use sip::header::Reason;

use super::{Controller, Due, Now};
use crate::call::{CallId, Stage};

impl Controller {
    /// Should devices be kept back, they ring after those that ring now.
    pub(super) fn await_next_devices(&mut self, now: Now, id: CallId) {
        let patience = Duration::from_secs(self.config.calls.next_devices_s);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let Some(at) = call.next_devices_at.take() {
            self.deadlines.remove(&(at, Due::NextDevices(id)));
        }
        if call.round.as_ref().is_some_and(|round| !round.devices.is_empty()) {
            let at = now.mono + patience;
            call.next_devices_at = Some(at);
            self.deadlines.insert((at, Due::NextDevices(id)));
        }
    }

    /// Those that ring had their time, or none of them rings any more: the next ones do. False when there are none.
    pub(super) fn ring_next_devices(&mut self, now: Now, id: CallId) -> bool {
        let call = self.calls.get_mut(&id);
        let Some(call) = call.filter(|call| call.stage == Stage::Ringing) else {
            return false;
        };
        let Some(round) = call.round.as_mut() else {
            return false;
        };
        let (user, devices) = (round.user.clone(), round.next_devices());
        if devices.is_empty() {
            return false;
        }
        self.cancel_branches(now, id, &Reason::new("SIP", 408, "Not answered in time"));
        for (endpoint, binding) in &devices {
            self.invite(now, id, &user, endpoint, binding, false);
        }
        self.await_next_devices(now, id);
        self.close_round_if_over(now, id);
        true
    }
}
