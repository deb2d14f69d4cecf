//! Waking the host thread: many ring, one sleeps.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

/// Rung after something was put into a queue of the host thread. Rings in between two looks cost one atomic swap.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    rung: AtomicBool,
    sleeper: OnceLock<Thread>,
}

impl Doorbell {
    /// The calling thread is the one that sleeps. Rings from before are heard at its first [`Doorbell::wait`].
    pub(crate) fn attach(&self) {
        let _ = self.sleeper.set(thread::current());
    }

    /// What the caller wrote before, the sleeper sees after.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(sleeper) = self.sleeper.get()
        {
            sleeper.unpark();
        }
    }

    /// Sleeps until rung or for `longest`. Look into the queues after it, never before only.
    pub(crate) fn wait(&self, longest: Duration) {
        if !self.rung.load(Ordering::Acquire) {
            thread::park_timeout(longest);
        }
        self.rung.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::*;

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Doorbell::default();
        bell.attach();
        bell.ring();
        let before = Instant::now();
        bell.wait(Duration::from_secs(60));
        assert!(before.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_ring_ends_the_wait() {
        let bell = Arc::new(Doorbell::default());
        bell.attach();
        let ringer = Arc::clone(&bell);
        let thread = thread::spawn(move || ringer.ring());
        let before = Instant::now();
        bell.wait(Duration::from_secs(60));
        thread.join().unwrap();
        assert!(before.elapsed() < Duration::from_secs(30));
    }
}
