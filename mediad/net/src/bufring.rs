//! The provided-buffer ring: receive buffers that the kernel takes by itself and user space gives back.

use crate::arena::stride;
use crate::sys::Block;
use crate::{Config, NetError};
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use std::sync::atomic::{AtomicU16, Ordering};

/// All receive buffers of one io_uring.
pub(crate) struct BufRing {
    /// The ring itself, shared with the kernel.
    ring: Block,
    bytes: Block,
    entries: usize,
    stride: usize,
    len: usize,
    tail: u16,
    /// Buffers that completions handed to us and that did not go back yet.
    held: usize,
}

impl BufRing {
    /// The one buffer group of a ring.
    pub(crate) const GROUP: u16 = 0;

    /// Allocates `config.rx_buffers` buffers of `len` bytes.
    pub(crate) fn new(config: &Config, len: usize) -> Self {
        let (entries, stride) = (config.rx_buffers, stride(len));
        BufRing {
            ring: Block::new(entries * size_of::<BufRingEntry>()),
            bytes: Block::new(entries * stride),
            entries,
            stride,
            len,
            tail: 0,
            held: entries,
        }
    }

    /// Shows the ring to the kernel and fills it.
    pub(crate) fn register(&mut self, submitter: &Submitter<'_>) -> Result<(), NetError> {
        let address = self.ring.at(0) as u64;
        // SAFETY: the memory holds `entries` entries, is page-aligned, and outlives the io_uring: the owner drops
        // the io_uring first, and leaks this memory when it cannot be sure that the kernel is done with it.
        unsafe { submitter.register_buf_ring_with_flags(address, self.entries as u16, Self::GROUP, 0) }
            .map_err(|source| NetError::Io {
                op: "io_uring_register(PBUF_RING)",
                source,
            })?;
        for id in 0..self.entries {
            self.give_back(id as u16);
        }
        Ok(())
    }

    /// A completion handed over a buffer.
    pub(crate) fn take(&mut self) {
        self.held += 1;
    }

    /// Buffers that the kernel can still fill.
    pub(crate) fn free(&self) -> usize {
        self.entries - self.held
    }

    /// The bytes of buffer `id`, which a completion named and which did not go back yet.
    pub(crate) fn bytes(&mut self, id: u16) -> &mut [u8] {
        self.bytes.slice_mut(usize::from(id) * self.stride, self.len)
    }

    /// Lets the kernel fill buffer `id` again.
    pub(crate) fn give_back(&mut self, id: u16) {
        let address = self.bytes.at(usize::from(id) * self.stride) as u64;
        let slot = usize::from(self.tail) & (self.entries - 1);
        let entry: *mut BufRingEntry = self.ring.at(slot * size_of::<BufRingEntry>()).cast();
        // SAFETY: inside the ring and aligned (16 bytes from a page boundary); the kernel reads entries only up
        // to the tail, which does not cover this one yet.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.len as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.held -= 1;
        let first: *const BufRingEntry = self.ring.at(0).cast();
        // SAFETY: the tail lies in the unused field of the first entry, inside the ring.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the address is valid, aligned to two bytes, and both sides access it atomically only.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the kernel must see the entry before it sees the tail.
        tail.store(self.tail, Ordering::Release);
    }

    /// Gives up the memory for good, for a kernel that may still write to it.
    pub(crate) fn leak(&mut self) {
        self.ring.leak();
        self.bytes.leak();
    }
}
