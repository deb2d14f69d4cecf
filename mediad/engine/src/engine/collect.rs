//! Digits gathered for a controller that asked for several at once.

use std::time::{Duration, Instant};

use crate::{
    command::{CollectEnd, CollectWish, CollectedDigits},
    spec::Name,
};

/// A collection that is going on. Digits do not allocate.
#[derive(Debug)]
pub(crate) struct Collecting {
    request: Name,
    wish: CollectWish,
    /// Given away with the result.
    digits: Box<CollectedDigits>,
    due: Option<Instant>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) request: Name,
    pub(crate) digits: Box<CollectedDigits>,
    pub(crate) end: CollectEnd,
}

impl Collecting {
    pub(crate) fn new(request: Name, wish: CollectWish, now: Instant) -> Self {
        Self {
            request,
            due: wait(now, wish.first_digit_ms),
            wish,
            digits: Box::default(),
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A digit began; the reason when it was the last.
    pub(crate) fn on_digit(&mut self, now: Instant, event: u8) -> Option<CollectEnd> {
        if event > 15 {
            // The hook is no digit.
            return None;
        }
        self.due = wait(now, self.wish.inter_digit_ms);
        if self.wish.terminators & 1 << event != 0 {
            let enough = self.digits.events().len() >= usize::from(self.wish.digits_min);
            return enough.then_some(CollectEnd::Terminator);
        }
        self.digits.push(event);
        let full = self.digits.events().len() >= usize::from(self.wish.digits_max);
        full.then_some(CollectEnd::Complete)
    }

    /// Time passed; the reason when it was too long.
    pub(crate) fn on_timeout(&self, now: Instant) -> Option<CollectEnd> {
        self.due.filter(|due| *due <= now)?;
        let count = self.digits.events().len();
        let enough = self.wish.digits_min > 0 && count >= usize::from(self.wish.digits_min);
        Some(if enough {
            CollectEnd::Complete
        } else {
            CollectEnd::Timeout
        })
    }

    pub(crate) fn end(self, end: CollectEnd) -> Collected {
        Collected {
            request: self.request,
            digits: self.digits,
            end,
        }
    }
}

/// 0 waits for ever.
fn wait(now: Instant, ms: u32) -> Option<Instant> {
    (ms > 0).then(|| now + Duration::from_millis(ms.into()))
}
