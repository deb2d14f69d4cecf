//! Ending the sleep of a worker from another thread.

use crate::NetError;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
struct Shared {
    /// Set by the first wake, cleared by the worker: wakes in between cost one atomic operation.
    pending: AtomicBool,
    event: File,
}

/// Ends the sleep of one backend's `poll`. Cheap to clone; any number of wakes before the worker looks are one.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// `flags`: EFD_NONBLOCK for a reader that polls, 0 for an io_uring read that waits.
    pub(crate) fn new(flags: i32) -> Result<Self, NetError> {
        // SAFETY: eventfd takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | flags) };
        if fd < 0 {
            return Err(NetError::last("eventfd"));
        }
        // SAFETY: `fd` was just returned by the kernel and has no other owner.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Waker(Arc::new(Shared {
            pending: AtomicBool::new(false),
            event: File::from(event),
        })))
    }

    /// Makes the worker's current or next `poll` return with `woken` (within one tick in tick mode). What the
    /// caller wrote before, the worker sees after.
    pub fn wake(&self) {
        if !self.0.pending.swap(true, Ordering::AcqRel) {
            // The counter cannot overflow: one write per reset. An error would mean a closed descriptor, which
            // `self` rules out.
            let _ = (&self.0.event).write(&1u64.to_ne_bytes());
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }

    /// Takes the event out of the descriptor, then lets new wakes write again.
    pub(crate) fn drain(&self) {
        let mut count = [0; 8];
        let _ = (&self.0.event).read(&mut count);
        self.reset();
    }

    /// Lets new wakes write again, when the descriptor was read by other means. A wake between that read and
    /// this call writes nothing, but what it announces is visible to the worker's look that follows.
    pub(crate) fn reset(&self) {
        self.0.pending.swap(false, Ordering::AcqRel);
    }
}
