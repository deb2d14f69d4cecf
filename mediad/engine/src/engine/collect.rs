//! Digits gathered for a controller that asked for several at once.

use std::time::{Duration, Instant};

use crate::{
    command::{CollectEnd, CollectWish, CollectedDigits},
    spec::Name,
};

/// Where an endpoint gathers. It stays when a collection ends, for the packet that ends it must not free anything.
#[derive(Debug, Default)]
pub(crate) struct Collecting(Option<Running>);

/// A collection that is going on.
#[derive(Debug)]
struct Running {
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
    /// Begins a collection. May allocate.
    pub(crate) fn begin(&mut self, request: Name, wish: CollectWish, now: Instant) {
        self.0 = Some(Running {
            request,
            due: wait(now, wish.first_digit_ms),
            wish,
            digits: Box::default(),
        });
    }

    /// A collection is going on.
    pub(crate) fn is_active(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.as_ref()?.due
    }

    /// A digit began; the reason when it was the last.
    pub(crate) fn on_digit(&mut self, now: Instant, event: u8) -> Option<CollectEnd> {
        let running = self.0.as_mut()?;
        if event > 15 {
            // The hook is no digit.
            return None;
        }
        running.due = wait(now, running.wish.inter_digit_ms);
        if running.wish.terminators & 1 << event != 0 {
            return running.is_enough().then_some(CollectEnd::Terminator);
        }
        running.digits.push(event);
        let full = running.count() >= usize::from(running.wish.digits_max);
        full.then_some(CollectEnd::Complete)
    }

    /// Time passed; the reason when it was too long.
    pub(crate) fn on_timeout(&self, now: Instant) -> Option<CollectEnd> {
        let running = self.0.as_ref()?;
        running.due.filter(|due| *due <= now)?;
        Some(match running.wish.digits_min > 0 && running.is_enough() {
            true => CollectEnd::Complete,
            false => CollectEnd::Timeout,
        })
    }

    /// Ends what is going on.
    pub(crate) fn end(&mut self, end: CollectEnd) -> Option<Collected> {
        let Running { request, digits, .. } = self.0.take()?;
        Some(Collected { request, digits, end })
    }
}

impl Running {
    fn count(&self) -> usize {
        self.digits.events().len()
    }

    fn is_enough(&self) -> bool {
        self.count() >= usize::from(self.wish.digits_min)
    }
}

/// 0 waits for ever.
fn wait(now: Instant, ms: u32) -> Option<Instant> {
    (ms > 0).then(|| now + Duration::from_millis(ms.into()))
}
