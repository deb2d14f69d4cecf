//! Waking the core thread, which sleeps on its runtime.

use std::pin::pin;

use tokio::sync::Notify;

/// Rung after something was put into the queue of the core thread, from its own tasks or from another thread. It stays
/// rung until it is heard or quieted; further rings in between cost next to nothing.
#[derive(Debug, Default)]
pub(crate) struct Bell(Notify);

impl Bell {
    /// What the caller wrote before, the sleeper sees after [`Bell::rung`] and [`Bell::quiet`].
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for a ring, also one from before.
    pub(crate) async fn rung(&self) {
        self.0.notified().await;
    }

    /// Before looking into the queue: what was rung for until now is about to be seen.
    pub(crate) fn quiet(&self) {
        pin!(self.0.notified()).as_mut().enable();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_rung(bell: &Bell) -> bool {
        bell.rung().now_or_never().is_some()
    }

    #[test]
    fn it_is_heard_once_and_not_when_it_was_quieted() {
        let bell = Bell::default();
        assert!(!is_rung(&bell));
        bell.ring();
        bell.ring();
        assert!(is_rung(&bell));
        assert!(!is_rung(&bell), "two rings, one thing to do");
        bell.ring();
        bell.quiet();
        assert!(!is_rung(&bell));
        bell.ring();
        assert!(is_rung(&bell));
    }

    #[tokio::test]
    async fn it_wakes_who_sleeps_from_another_thread() {
        let bell = std::sync::Arc::new(Bell::default());
        let ringer = std::sync::Arc::clone(&bell);
        let thread = std::thread::spawn(move || ringer.ring());
        bell.rung().await;
        thread.join().unwrap();
    }
}
