//! The INVITE server transaction (RFC 3261 §17.2.1 as changed by RFC 6026 §7.1).

use std::time::Duration;

use super::{Action, Actions, Path, Timer};

/// States of RFC 6026 figure 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteServerState {
    /// No final response yet.
    Proceeding,
    /// A final response other than 2xx was sent; it is repeated until the ACK comes.
    Completed,
    /// The ACK came.
    Confirmed,
    /// A 2xx was sent; its repetition is the dialog's business.
    Accepted,
    /// Over.
    Terminated,
}

/// The machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteServer {
    state: InviteServerState,
    has_response: bool,
    interval: Duration,
}

/// RFC 3261 §17.2.1: how long the user may stay silent before a 100 is sent for it.
const TRYING_AFTER: Duration = Duration::from_millis(200);

impl InviteServer {
    /// Begins with a received INVITE.
    pub fn start(path: &Path) -> (Self, Actions) {
        let machine = Self {
            state: InviteServerState::Proceeding,
            has_response: false,
            interval: path.timing.t1,
        };
        let actions = Actions::of(&[Action::Deliver, Action::Start(Timer::Trying, TRYING_AFTER)]);
        (machine, actions)
    }

    /// The state.
    pub fn state(&self) -> InviteServerState {
        self.state
    }

    /// The INVITE came again.
    pub fn on_retransmission(&mut self) -> Actions {
        match self.state {
            InviteServerState::Proceeding if !self.has_response => {
                // It waited at least T1 for us: no reason to let it wait longer.
                self.has_response = true;
                Actions::of(&[Action::Stop(Timer::Trying), Action::SendTrying])
            }
            InviteServerState::Proceeding | InviteServerState::Completed => Actions::of(&[Action::Send]),
            // RFC 6026 §7.1: absorbed; the dialog repeats the 2xx by its own timer.
            InviteServerState::Accepted | InviteServerState::Confirmed | InviteServerState::Terminated => {
                Actions::none()
            }
        }
    }

    /// The user sends a 1xx.
    pub fn on_send_provisional(&mut self) -> Actions {
        match self.state {
            InviteServerState::Proceeding => {
                self.has_response = true;
                Actions::of(&[Action::Stop(Timer::Trying), Action::Send])
            }
            InviteServerState::Completed
            | InviteServerState::Confirmed
            | InviteServerState::Accepted
            | InviteServerState::Terminated => Actions::none(),
        }
    }

    /// The user sends a 2xx.
    pub fn on_send_success(&mut self, path: &Path) -> Actions {
        match self.state {
            InviteServerState::Proceeding => {
                self.state = InviteServerState::Accepted;
                Actions::of(&[
                    Action::Stop(Timer::Trying),
                    Action::Send,
                    Action::Start(Timer::L, path.timing.give_up()),
                ])
            }
            InviteServerState::Completed
            | InviteServerState::Confirmed
            | InviteServerState::Accepted
            | InviteServerState::Terminated => Actions::none(),
        }
    }

    /// The user sends a final response from 300 to 699.
    pub fn on_send_failure(&mut self, path: &Path) -> Actions {
        match self.state {
            InviteServerState::Proceeding => {
                self.state = InviteServerState::Completed;
                let wait = Action::Start(Timer::H, path.timing.give_up());
                if path.reliable {
                    Actions::of(&[Action::Stop(Timer::Trying), Action::Send, wait])
                } else {
                    let repeat = Action::Start(Timer::G, path.timing.t1);
                    Actions::of(&[Action::Stop(Timer::Trying), Action::Send, repeat, wait])
                }
            }
            InviteServerState::Completed
            | InviteServerState::Confirmed
            | InviteServerState::Accepted
            | InviteServerState::Terminated => Actions::none(),
        }
    }

    /// An ACK that matches this transaction. In Accepted it belongs to the dialog (RFC 6026 §7.1: passed on).
    pub fn on_ack(&mut self, path: &Path) -> Actions {
        match self.state {
            InviteServerState::Completed => {
                self.state = InviteServerState::Confirmed;
                let wait = Action::Start(Timer::I, path.absorb(path.timing.t4));
                Actions::of(&[Action::Stop(Timer::G), Action::Stop(Timer::H), wait])
            }
            InviteServerState::Accepted => Actions::of(&[Action::Deliver]),
            InviteServerState::Proceeding | InviteServerState::Confirmed | InviteServerState::Terminated => {
                Actions::none()
            }
        }
    }

    /// A timer fired.
    pub fn on_timer(&mut self, timer: Timer, path: &Path) -> Actions {
        match (self.state, timer) {
            (InviteServerState::Proceeding, Timer::Trying) if !self.has_response => {
                self.has_response = true;
                Actions::of(&[Action::SendTrying])
            }
            (InviteServerState::Completed, Timer::G) => {
                self.interval = (self.interval * 2).min(path.timing.t2);
                Actions::of(&[Action::Send, Action::Start(Timer::G, self.interval)])
            }
            (InviteServerState::Completed, Timer::H) => {
                self.state = InviteServerState::Terminated;
                Actions::of(&[Action::Stop(Timer::G), Action::TimedOut, Action::End])
            }
            (InviteServerState::Confirmed, Timer::I) | (InviteServerState::Accepted, Timer::L) => {
                self.state = InviteServerState::Terminated;
                Actions::of(&[Action::End])
            }
            (
                InviteServerState::Proceeding
                | InviteServerState::Completed
                | InviteServerState::Confirmed
                | InviteServerState::Accepted
                | InviteServerState::Terminated,
                _,
            ) => Actions::none(),
        }
    }
}
