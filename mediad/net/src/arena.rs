//! The transmit slots that the backends fill and flush.

use crate::addr::RawAddr;
use std::os::fd::RawFd;

/// Fixed slots of payload and destination; heap memory that never moves, so the kernel may be pointed at it.
pub(crate) struct Arena {
    bytes: Box<[u8]>,
    meta: Box<[Meta]>,
    stride: usize,
    slot_len: usize,
    /// Free bytes in front of each slot, for headers of our own.
    headroom: usize,
    used: usize,
    open: bool,
}

/// Destination of one slot.
#[derive(Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) addr: RawAddr,
    pub(crate) addr_len: u32,
    pub(crate) len: u32,
    /// Bytes in front of the slot that belong to the packet.
    head: u32,
    pub(crate) fd: RawFd,
}

/// Distance between buffers: an odd number of cache lines, so that the headers of neighbouring packets do
/// not compete for the same few cache sets.
pub(crate) fn stride(len: usize) -> usize {
    (len.div_ceil(64) | 1) * 64
}

impl Arena {
    pub(crate) fn new(slots: usize, slot_len: usize, headroom: usize) -> Self {
        let stride = stride(headroom + slot_len);
        let blank = Meta {
            addr: RawAddr::default(),
            addr_len: 0,
            len: 0,
            head: 0,
            fd: -1,
        };
        Arena {
            bytes: vec![0; slots * stride].into_boxed_slice(),
            meta: vec![blank; slots].into_boxed_slice(),
            stride,
            slot_len,
            headroom,
            used: 0,
            open: false,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used == self.meta.len()
    }

    /// The next free slot; the caller has made sure that there is one.
    pub(crate) fn slot(&mut self) -> &mut [u8] {
        self.open = true;
        let start = self.used * self.stride + self.headroom;
        &mut self.bytes[start..start + self.slot_len]
    }

    /// Checks `len` against the open slot and closes it.
    pub(crate) fn close(&mut self, len: usize) {
        assert!(self.open, "commit without a slot");
        assert!(
            len <= self.slot_len,
            "commit of {len} bytes into a slot of {}",
            self.slot_len
        );
        self.open = false;
    }

    /// Keeps the slot just closed until [`Arena::clear`] and returns its index.
    pub(crate) fn push(&mut self, len: usize, fd: RawFd, to: std::net::SocketAddr) -> usize {
        let index = self.used;
        let meta = &mut self.meta[index];
        meta.addr_len = meta.addr.encode(to);
        meta.len = len as u32;
        meta.head = 0;
        meta.fd = fd;
        self.used += 1;
        index
    }

    pub(crate) fn queued(&self) -> &[Meta] {
        &self.meta[..self.used]
    }

    /// Lets the packet of slot `index` begin `head` bytes earlier, and gives all of it.
    pub(crate) fn prepend(&mut self, index: usize, head: usize) -> &mut [u8] {
        self.meta[index].head = head as u32;
        let (start, end) = self.range(index);
        &mut self.bytes[start..end]
    }

    /// The packet of slot `index`, with what was put in front.
    pub(crate) fn packet(&self, index: usize) -> &[u8] {
        let (start, end) = self.range(index);
        &self.bytes[start..end]
    }

    fn range(&self, index: usize) -> (usize, usize) {
        let (slot, meta) = (index * self.stride + self.headroom, &self.meta[index]);
        (slot - meta.head as usize, slot + meta.len as usize)
    }

    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_their_bytes_until_cleared() {
        let mut arena = Arena::new(2, 100, 28);
        for n in 0..2u8 {
            arena.slot()[..3].copy_from_slice(&[n; 3]);
            arena.close(3);
            arena.push(3, 7, "127.0.0.1:9".parse().unwrap());
        }
        assert!(arena.is_full());
        assert_eq!((arena.packet(0), arena.packet(1)), (&[0u8; 3][..], &[1u8; 3][..]));
        arena.prepend(1, 2)[..2].fill(9);
        assert_eq!(
            (arena.packet(0).len(), arena.packet(1)),
            (3, &[9, 9, 1, 1, 1][..])
        );
        arena.clear();
        assert!(arena.queued().is_empty());
    }

    #[test]
    #[should_panic(expected = "commit without a slot")]
    fn a_commit_needs_a_slot() {
        Arena::new(1, 100, 0).close(1);
    }

    #[test]
    fn strides_are_odd_cache_lines() {
        assert_eq!((stride(2048), stride(64), stride(65)), (2112, 64, 192));
    }
}
