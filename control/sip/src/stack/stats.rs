//! Counters.

use crate::message::Method;

/// Methods counted apart; the last is every other one.
pub const METHOD_NAMES: [&str; 15] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "OPTIONS",
    "PRACK",
    "UPDATE",
    "INFO",
    "REFER",
    "SUBSCRIBE",
    "NOTIFY",
    "MESSAGE",
    "PUBLISH",
    "other",
];

/// Counts by method, in the order of [`METHOD_NAMES`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerMethod(pub [u64; METHOD_NAMES.len()]);

impl PerMethod {
    pub(crate) fn count(&mut self, method: &Method) {
        let index = match method {
            Method::Invite => 0,
            Method::Ack => 1,
            Method::Bye => 2,
            Method::Cancel => 3,
            Method::Register => 4,
            Method::Options => 5,
            Method::Prack => 6,
            Method::Update => 7,
            Method::Info => 8,
            Method::Refer => 9,
            Method::Subscribe => 10,
            Method::Notify => 11,
            Method::Message => 12,
            Method::Publish => 13,
            Method::Other(_) => 14,
        };
        self.0[index] += 1;
    }
}

/// What a stack has seen since it was made, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests received, retransmissions left out.
    pub requests_received: PerMethod,
    /// Requests sent, retransmissions left out.
    pub requests_sent: PerMethod,
    /// Responses received by class (index 0 is 1xx), before matching.
    pub responses_received: [u64; 6],
    /// Responses sent by class (index 0 is 1xx), retransmissions left out.
    pub responses_sent: [u64; 6],
    /// Requests that came again and were absorbed.
    pub retransmissions_received: u64,
    /// Messages we sent again because a timer fired.
    pub retransmissions_sent: u64,
    /// Messages that could not be parsed.
    pub malformed: u64,
    /// Responses and ACKs that belong to nothing here.
    pub strays: u64,
    /// Requests refused before the user saw them: syntax, extensions, unknown dialog, sequence, glare.
    pub refused: u64,
    /// Requests refused because a table was full, and new calls because messages waited for too long.
    pub overloaded: u64,
    /// Client transactions that ended without a final response.
    pub timeouts: u64,
    /// Requests sent over TCP because they are too large for a datagram.
    pub too_large_for_udp: u64,
    /// Client transactions now.
    pub client_transactions: usize,
    /// Requests that wait for a name server now.
    pub lookups: usize,
    /// Server transactions now.
    pub server_transactions: usize,
    /// Dialogs now.
    pub dialogs: usize,
    /// Branches, identities of dialogs and what else these are found by in messages of peers, now.
    pub keys: usize,
    /// Timers now.
    pub timers: usize,
}
