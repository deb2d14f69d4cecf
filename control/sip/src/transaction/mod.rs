//! Transactions (RFC 3261 §17 with RFC 6026): four state machines, the timer queue that drives them, and the keys
//! that find them.
//!
//! A machine is a small value with one `on_<event>` method per event. It does nothing itself: each method returns the
//! [`Actions`] its owner ([`crate::stack::Stack`]) carries out.

mod invite_client;
mod invite_server;
mod matching;
mod non_invite_client;
mod non_invite_server;
mod timer_queue;

pub use invite_client::{InviteClient, InviteClientState};
pub use invite_server::{InviteServer, InviteServerState};
pub use matching::{MergeKey, ServerKey};
pub use non_invite_client::{NonInviteClient, NonInviteClientState};
pub use non_invite_server::{NonInviteServer, NonInviteServerState};
pub use timer_queue::{TimerKey, TimerQueue};

use std::time::Duration;

/// The base values of the timers (RFC 3261 §17.1.1.1, table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Estimated round trip; retransmissions start with it.
    pub t1: Duration,
    /// Longest retransmission interval of non-INVITE requests and of responses.
    pub t2: Duration,
    /// Longest time a message stays in the network.
    pub t4: Duration,
}

impl Timing {
    /// 500 ms, 4 s, 5 s.
    pub const DEFAULT: Self = Self {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
    };

    /// 64·T1: how long a transaction waits for the other side.
    pub fn give_up(&self) -> Duration {
        self.t1 * 64
    }

    /// Timer D, which RFC 3261 §17.1.1.2 wants to be at least 32 s whatever T1 is.
    pub fn linger(&self) -> Duration {
        self.give_up().max(Duration::from_secs(32))
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a machine needs to know of its transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The timer values.
    pub timing: Timing,
    /// TCP, TLS, WS, WSS: nothing is retransmitted, and nothing lingers for retransmissions.
    pub reliable: bool,
}

impl Path {
    /// The time to wait for retransmissions: none on a reliable transport.
    fn absorb(&self, unreliable: Duration) -> Duration {
        if self.reliable { Duration::ZERO } else { unreliable }
    }
}

/// The timers of RFC 3261 table 4 and RFC 6026 §8.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// INVITE request retransmission.
    A,
    /// INVITE transaction time-out.
    B,
    /// Wait for retransmissions of a final response to INVITE.
    D,
    /// Non-INVITE request retransmission.
    E,
    /// Non-INVITE transaction time-out.
    F,
    /// Final response to INVITE: retransmission.
    G,
    /// Wait for the ACK.
    H,
    /// Wait for retransmissions of the ACK.
    I,
    /// Wait for retransmissions of a non-INVITE request.
    J,
    /// Wait for retransmissions of a non-INVITE response.
    K,
    /// Wait for retransmissions of an INVITE that was accepted.
    L,
    /// Wait for retransmissions of a 2xx, and for 2xx of other forks.
    M,
    /// RFC 3261 §17.2.1: an INVITE that is not answered within 200 ms gets a 100.
    Trying,
}

/// What a machine asks of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the request, or the last response, (again).
    Send,
    /// Send the ACK of a final response that is no 2xx (again).
    SendAck,
    /// Make a 100 and answer with it.
    SendTrying,
    /// Give the message to the transaction user.
    Deliver,
    /// Tell the transaction user that nobody answered in time (for a server: that no ACK came).
    TimedOut,
    /// Tell the transaction user that the message could not be sent.
    TransportFailed,
    /// (Re)start a timer.
    Start(Timer, Duration),
    /// Stop a timer, if it runs.
    Stop(Timer),
    /// The transaction is over; forget it.
    End,
}

/// Up to [`Actions::CAPACITY`] actions in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions {
    list: [Option<Action>; Self::CAPACITY],
}

impl Actions {
    /// More than any step of any machine needs.
    pub const CAPACITY: usize = 5;

    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn of(actions: &[Action]) -> Self {
        let mut list = [None; Self::CAPACITY];
        for (slot, action) in list.iter_mut().zip(actions) {
            *slot = Some(*action);
        }
        Self { list }
    }

    /// The actions in order.
    pub fn iter(&self) -> impl Iterator<Item = Action> + use<> {
        self.list.into_iter().flatten()
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list[0].is_none()
    }
}
