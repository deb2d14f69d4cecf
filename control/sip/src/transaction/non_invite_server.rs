//! The non-INVITE server transaction (RFC 3261 §17.2.2).

use super::{Action, Actions, Path, Timer};

/// States of RFC 3261 figure 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonInviteServerState {
    /// No response yet.
    Trying,
    /// A provisional response was sent.
    Proceeding,
    /// The final response was sent.
    Completed,
    /// Over.
    Terminated,
}

/// The machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonInviteServer {
    state: NonInviteServerState,
}

impl NonInviteServer {
    /// Begins with a received request.
    ///
    /// Timer F runs here too, though the RFC has none: after 64·T1 the client has given up, and a user that never
    /// answers must not hold the transaction for ever.
    pub fn start(path: &Path) -> (Self, Actions) {
        let machine = Self {
            state: NonInviteServerState::Trying,
        };
        let guard = Action::Start(Timer::F, path.timing.give_up());
        (machine, Actions::of(&[Action::Deliver, guard]))
    }

    /// The state.
    pub fn state(&self) -> NonInviteServerState {
        self.state
    }

    /// The request came again.
    pub fn on_retransmission(&self) -> Actions {
        match self.state {
            NonInviteServerState::Trying | NonInviteServerState::Terminated => Actions::none(),
            NonInviteServerState::Proceeding | NonInviteServerState::Completed => {
                Actions::of(&[Action::Send])
            }
        }
    }

    /// The user sends a 1xx.
    pub fn on_send_provisional(&mut self) -> Actions {
        match self.state {
            NonInviteServerState::Trying | NonInviteServerState::Proceeding => {
                self.state = NonInviteServerState::Proceeding;
                Actions::of(&[Action::Send])
            }
            NonInviteServerState::Completed | NonInviteServerState::Terminated => Actions::none(),
        }
    }

    /// The user sends a final response.
    pub fn on_send_final(&mut self, path: &Path) -> Actions {
        match self.state {
            NonInviteServerState::Trying | NonInviteServerState::Proceeding => {
                self.state = NonInviteServerState::Completed;
                let wait = Action::Start(Timer::J, path.absorb(path.timing.give_up()));
                Actions::of(&[Action::Stop(Timer::F), Action::Send, wait])
            }
            NonInviteServerState::Completed | NonInviteServerState::Terminated => Actions::none(),
        }
    }

    /// A timer fired.
    pub fn on_timer(&mut self, timer: Timer) -> Actions {
        match (self.state, timer) {
            (NonInviteServerState::Trying | NonInviteServerState::Proceeding, Timer::F) => {
                self.state = NonInviteServerState::Terminated;
                Actions::of(&[Action::TimedOut, Action::End])
            }
            (NonInviteServerState::Completed, Timer::J) => {
                self.state = NonInviteServerState::Terminated;
                Actions::of(&[Action::End])
            }
            (
                NonInviteServerState::Trying
                | NonInviteServerState::Proceeding
                | NonInviteServerState::Completed
                | NonInviteServerState::Terminated,
                _,
            ) => Actions::none(),
        }
    }
}
