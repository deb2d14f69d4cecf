//! The INVITE client transaction (RFC 3261 §17.1.1 as changed by RFC 6026 §7.2).

use std::time::Duration;

use super::{Action, Actions, Path, Timer};

/// States of RFC 6026 figure 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteClientState {
    /// No response yet.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// A final response other than 2xx came and is being acknowledged.
    Completed,
    /// A 2xx came; more of them are let through.
    Accepted,
    /// Over.
    Terminated,
}

/// The machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteClient {
    state: InviteClientState,
    interval: Duration,
}

impl InviteClient {
    /// Begins: the request is sent.
    pub fn start(path: &Path) -> (Self, Actions) {
        let timing = path.timing;
        let machine = Self {
            state: InviteClientState::Calling,
            interval: timing.t1,
        };
        let timeout = Action::Start(Timer::B, timing.give_up());
        let actions = if path.reliable {
            Actions::of(&[Action::Send, timeout])
        } else {
            Actions::of(&[Action::Send, Action::Start(Timer::A, timing.t1), timeout])
        };
        (machine, actions)
    }

    /// A transaction known from elsewhere (a restart): no request is sent, a provisional response is taken as seen.
    pub fn adopted(path: &Path) -> Self {
        Self {
            state: InviteClientState::Proceeding,
            interval: path.timing.t1,
        }
    }

    /// The state.
    pub fn state(&self) -> InviteClientState {
        self.state
    }

    /// A 1xx.
    pub fn on_provisional(&mut self) -> Actions {
        match self.state {
            InviteClientState::Calling => {
                self.state = InviteClientState::Proceeding;
                // RFC 3261 §17.1.1.2: no retransmission, and no timer B, once somebody answers.
                Actions::of(&[Action::Stop(Timer::A), Action::Stop(Timer::B), Action::Deliver])
            }
            InviteClientState::Proceeding => Actions::of(&[Action::Deliver]),
            InviteClientState::Completed | InviteClientState::Accepted | InviteClientState::Terminated => {
                Actions::none()
            }
        }
    }

    /// A 2xx.
    pub fn on_success(&mut self, path: &Path) -> Actions {
        match self.state {
            InviteClientState::Calling | InviteClientState::Proceeding => {
                self.state = InviteClientState::Accepted;
                Actions::of(&[
                    Action::Stop(Timer::A),
                    Action::Stop(Timer::B),
                    Action::Deliver,
                    Action::Start(Timer::M, path.timing.give_up()),
                ])
            }
            // RFC 6026 §7.2: retransmissions and other forks go to the user, which ACKs them.
            InviteClientState::Accepted => Actions::of(&[Action::Deliver]),
            InviteClientState::Completed | InviteClientState::Terminated => Actions::none(),
        }
    }

    /// A final response from 300 to 699.
    pub fn on_failure(&mut self, path: &Path) -> Actions {
        match self.state {
            InviteClientState::Calling | InviteClientState::Proceeding => {
                self.state = InviteClientState::Completed;
                Actions::of(&[
                    Action::Stop(Timer::A),
                    Action::Stop(Timer::B),
                    Action::SendAck,
                    Action::Deliver,
                    Action::Start(Timer::D, path.absorb(path.timing.linger())),
                ])
            }
            InviteClientState::Completed => Actions::of(&[Action::SendAck]),
            InviteClientState::Accepted | InviteClientState::Terminated => Actions::none(),
        }
    }

    /// A timer fired.
    pub fn on_timer(&mut self, timer: Timer) -> Actions {
        match (self.state, timer) {
            (InviteClientState::Calling, Timer::A) => {
                self.interval *= 2;
                Actions::of(&[Action::Send, Action::Start(Timer::A, self.interval)])
            }
            (InviteClientState::Calling, Timer::B) => self.end(&[Action::TimedOut]),
            (InviteClientState::Completed, Timer::D) | (InviteClientState::Accepted, Timer::M) => {
                self.end(&[])
            }
            (
                InviteClientState::Calling
                | InviteClientState::Proceeding
                | InviteClientState::Completed
                | InviteClientState::Accepted
                | InviteClientState::Terminated,
                _,
            ) => Actions::none(),
        }
    }

    /// The transport could not send.
    pub fn on_transport_error(&mut self) -> Actions {
        match self.state {
            // RFC 6026 §7.2: also in Completed, where it was the ACK that failed.
            InviteClientState::Calling | InviteClientState::Proceeding => {
                self.end(&[Action::TransportFailed])
            }
            InviteClientState::Completed => self.end(&[]),
            // The ACK of a 2xx is the user's; what arrives later can still be answered.
            InviteClientState::Accepted | InviteClientState::Terminated => Actions::none(),
        }
    }

    /// The owner gives up (no final response long after a CANCEL).
    pub fn on_abandon(&mut self) -> Actions {
        match self.state {
            InviteClientState::Calling | InviteClientState::Proceeding => self.end(&[Action::TimedOut]),
            InviteClientState::Completed | InviteClientState::Accepted | InviteClientState::Terminated => {
                Actions::none()
            }
        }
    }

    fn end(&mut self, first: &[Action]) -> Actions {
        self.state = InviteClientState::Terminated;
        match first {
            [action] => Actions::of(&[*action, Action::End]),
            _ => Actions::of(&[Action::End]),
        }
    }
}
