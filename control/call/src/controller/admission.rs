//! Who may enter a conference: a room with a PIN keeps each member outside until it has typed it, by telephone-events
//! or INFO.

use std::time::Duration;

use sip::message::StatusCode;

use super::{Controller, Due, Now};
use crate::{call::CallId, conference::Gate, domain::Name, journal::EndedBy};

impl Controller {
    /// Closed when the room has a PIN.
    pub(super) fn gate_of(&self, room: &Name) -> Option<Gate> {
        let pin = self.config.conferences.pins.get(&**room);
        pin.map(|_| Gate::default())
    }

    /// A member of a room with a PIN was answered: it has so long to type.
    pub(super) fn begin_gate(&mut self, now: Now, id: CallId) {
        let patience = Duration::from_secs(self.config.conferences.pin_timeout_s);
        let Some(gate) = self.members.get_mut(&id).and_then(|member| member.gate.as_mut()) else {
            return;
        };
        let until = now.mono + patience;
        if let Some(before) = gate.until.replace(until) {
            self.deadlines.remove(&(before, Due::Gate(id)));
        }
        self.deadlines.insert((until, Due::Gate(id)));
    }

    /// A member typed a digit.
    pub(super) fn member_digit(&mut self, now: Now, id: CallId, digit: &str) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let conference = member.conference;
        let room = self.conferences.get(&conference).map(|it| &it.room);
        let pin = room.and_then(|room| self.config.conferences.pins.get(&**room));
        let (Some(gate), Some(pin)) = (&mut member.gate, pin) else {
            return;
        };
        if digit != "#" {
            gate.typed.push_str(digit);
        }
        let is_whole = digit == "#" || gate.typed.len() >= pin.len();
        if !is_whole {
            self.begin_gate(now, id);
            // Who types is asked no more.
            self.send_conference(now, conference);
        } else if gate.typed == *pin {
            self.open_gate(now, id);
        } else {
            self.wrong_pin(now, id);
        }
    }

    /// Nothing was typed for too long.
    pub(super) fn gate_overdue(&mut self, now: Now, id: CallId) {
        let waits = self.members.get(&id).and_then(|member| member.gate.as_ref());
        if waits
            .and_then(|gate| gate.until)
            .is_some_and(|until| until <= now.mono)
        {
            self.wrong_pin(now, id);
        }
    }

    pub(super) fn open_gate(&mut self, now: Now, id: CallId) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let (gate, conference) = (member.gate.take(), member.conference);
        if let Some(until) = gate.and_then(|gate| gate.until) {
            self.deadlines.remove(&(until, Due::Gate(id)));
        }
        self.send_conference(now, conference);
        self.announce_join(now, id);
    }

    /// It may try again, so often.
    fn wrong_pin(&mut self, now: Now, id: CallId) {
        let tries_max = self.config.conferences.pin_tries_max;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let (Some(gate), conference) = (&mut member.gate, member.conference) else {
            return;
        };
        let tries = gate.tries + 1;
        let until = gate.until;
        *gate = Gate {
            tries,
            ..Gate::default()
        };
        if let Some(until) = until {
            self.deadlines.remove(&(until, Due::Gate(id)));
        }
        if tries >= tries_max {
            let (status, reason) = (StatusCode::FORBIDDEN, "no right PIN was typed");
            self.member_leaves(now, id, EndedBy::System, status, reason);
        } else {
            self.begin_gate(now, id);
            // Asks again.
            self.send_conference(now, conference);
        }
    }
}
