//! The non-INVITE client transaction (RFC 3261 §17.1.2).

use std::time::Duration;

use super::{Action, Actions, Path, Timer};

/// States of RFC 3261 figure 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonInviteClientState {
    /// No response yet.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// A final response came.
    Completed,
    /// Over.
    Terminated,
}

/// The machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonInviteClient {
    state: NonInviteClientState,
    interval: Duration,
}

impl NonInviteClient {
    /// Begins: the request is sent.
    pub fn start(path: &Path) -> (Self, Actions) {
        let timing = path.timing;
        let machine = Self {
            state: NonInviteClientState::Trying,
            interval: timing.t1,
        };
        let timeout = Action::Start(Timer::F, timing.give_up());
        let actions = if path.reliable {
            Actions::of(&[Action::Send, timeout])
        } else {
            Actions::of(&[Action::Send, Action::Start(Timer::E, timing.t1), timeout])
        };
        (machine, actions)
    }

    /// The state.
    pub fn state(&self) -> NonInviteClientState {
        self.state
    }

    /// A 1xx.
    pub fn on_provisional(&mut self) -> Actions {
        match self.state {
            NonInviteClientState::Trying => {
                self.state = NonInviteClientState::Proceeding;
                Actions::of(&[Action::Deliver])
            }
            NonInviteClientState::Proceeding => Actions::of(&[Action::Deliver]),
            NonInviteClientState::Completed | NonInviteClientState::Terminated => Actions::none(),
        }
    }

    /// A final response.
    pub fn on_final(&mut self, path: &Path) -> Actions {
        match self.state {
            NonInviteClientState::Trying | NonInviteClientState::Proceeding => {
                self.state = NonInviteClientState::Completed;
                Actions::of(&[
                    Action::Stop(Timer::E),
                    Action::Stop(Timer::F),
                    Action::Deliver,
                    Action::Start(Timer::K, path.absorb(path.timing.t4)),
                ])
            }
            NonInviteClientState::Completed | NonInviteClientState::Terminated => Actions::none(),
        }
    }

    /// A timer fired.
    pub fn on_timer(&mut self, timer: Timer, path: &Path) -> Actions {
        match (self.state, timer) {
            (NonInviteClientState::Trying, Timer::E) => {
                self.interval = (self.interval * 2).min(path.timing.t2);
                Actions::of(&[Action::Send, Action::Start(Timer::E, self.interval)])
            }
            // RFC 3261 §17.1.2.2: in Proceeding always T2.
            (NonInviteClientState::Proceeding, Timer::E) => {
                self.interval = path.timing.t2;
                Actions::of(&[Action::Send, Action::Start(Timer::E, self.interval)])
            }
            (NonInviteClientState::Trying | NonInviteClientState::Proceeding, Timer::F) => {
                self.state = NonInviteClientState::Terminated;
                Actions::of(&[Action::TimedOut, Action::End])
            }
            (NonInviteClientState::Completed, Timer::K) => {
                self.state = NonInviteClientState::Terminated;
                Actions::of(&[Action::End])
            }
            (
                NonInviteClientState::Trying
                | NonInviteClientState::Proceeding
                | NonInviteClientState::Completed
                | NonInviteClientState::Terminated,
                _,
            ) => Actions::none(),
        }
    }

    /// The transport could not send.
    pub fn on_transport_error(&mut self) -> Actions {
        match self.state {
            NonInviteClientState::Trying | NonInviteClientState::Proceeding => {
                self.state = NonInviteClientState::Terminated;
                Actions::of(&[Action::TransportFailed, Action::End])
            }
            NonInviteClientState::Completed | NonInviteClientState::Terminated => Actions::none(),
        }
    }
}
