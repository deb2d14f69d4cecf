//! Reliable provisional responses (RFC 3262).

use std::collections::VecDeque;

use crate::limits::RELIABLE_QUEUE_MAX;
use crate::message::Response;

/// The UAS side of one INVITE: one unacknowledged response at a time, the rest wait in order.
#[derive(Debug, Clone, Default)]
pub struct ReliableSender {
    last_rseq: u32,
    unacknowledged: Option<u32>,
    waiting: VecDeque<Response>,
    held_final: Option<Box<Response>>,
}

impl ReliableSender {
    /// A response our user wants to send reliably. Gives it back with its RSeq when it may go now; `Ok(None)` when it
    /// waits for its turn.
    ///
    /// # Errors
    /// The queue is full; the response comes back.
    pub fn push(
        &mut self,
        response: Response,
        first_rseq: impl FnOnce() -> u32,
    ) -> Result<Option<(u32, Response)>, Box<Response>> {
        if self.unacknowledged.is_some() {
            if self.waiting.len() == RELIABLE_QUEUE_MAX {
                return Err(Box::new(response));
            }
            self.waiting.push_back(response);
            return Ok(None);
        }
        // RFC 3262 §3: the first number from 1 to 2^31 - 1, then one more each time.
        self.last_rseq = if self.last_rseq == 0 {
            first_rseq().clamp(1, 0x7fff_ffff)
        } else {
            self.last_rseq + 1
        };
        self.unacknowledged = Some(self.last_rseq);
        Ok(Some((self.last_rseq, response)))
    }

    /// A PRACK came; true when it acknowledges the outstanding response.
    pub fn acknowledge(&mut self, rseq: u32) -> bool {
        let matches = self.unacknowledged == Some(rseq);
        if matches {
            self.unacknowledged = None;
        }
        matches
    }

    /// The response to send next, once nothing is outstanding.
    pub fn next_waiting(&mut self) -> Option<Response> {
        if self.unacknowledged.is_some() {
            return None;
        }
        self.waiting.pop_front()
    }

    /// The RSeq that waits for its PRACK.
    pub fn outstanding(&self) -> Option<u32> {
        self.unacknowledged
    }

    /// RFC 3262 §3: a 2xx waits until what was sent reliably is acknowledged.
    pub fn hold_final(&mut self, response: Response) {
        self.held_final = Some(Box::new(response));
    }

    /// The 2xx that waited.
    pub fn take_final(&mut self) -> Option<Response> {
        self.held_final.take().map(|response| *response)
    }

    /// True when a 2xx waits.
    pub fn holds_final(&self) -> bool {
        self.held_final.is_some()
    }
}

/// What to do with a reliable provisional response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionalOrder {
    /// The next one: deliver and acknowledge.
    Next,
    /// A repetition; its PRACK is under way.
    Repeated,
    /// One before it is missing; it will be repeated (RFC 3262 §4: neither acknowledged nor processed).
    OutOfOrder,
}

/// The UAC side of one dialog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReliableReceiver {
    /// The number of the INVITE that was answered so last, and of the answer.
    last: Option<(u32, u32)>,
}

impl ReliableReceiver {
    /// A reliable provisional response came, to the INVITE with this CSeq number. RFC 3262 §7.1: each INVITE has numbers of
    /// its own.
    pub fn on_provisional(&mut self, invite: u32, rseq: u32) -> ProvisionalOrder {
        match self.last {
            Some((of, last)) if of == invite && rseq <= last => ProvisionalOrder::Repeated,
            Some((of, last)) if of == invite && rseq > last + 1 => ProvisionalOrder::OutOfOrder,
            Some(_) | None => {
                self.last = Some((invite, rseq));
                ProvisionalOrder::Next
            }
        }
    }
}
