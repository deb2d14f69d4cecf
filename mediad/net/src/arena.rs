//! The transmit slots that both backends fill and flush.

use crate::addr::RawAddr;
use std::os::fd::RawFd;

/// Fixed slots of payload and destination; heap memory that never moves, so the kernel may be pointed at it.
pub(crate) struct Arena {
    bytes: Box<[u8]>,
    meta: Box<[Meta]>,
    stride: usize,
    slot_len: usize,
    used: usize,
    open: bool,
}

/// Destination of one slot.
#[derive(Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) addr: RawAddr,
    pub(crate) addr_len: u32,
    pub(crate) len: u32,
    pub(crate) fd: RawFd,
}

/// Distance between buffers: an odd number of cache lines, so that the headers of neighbouring packets do
/// not compete for the same few cache sets.
pub(crate) fn stride(len: usize) -> usize {
    (len.div_ceil(64) | 1) * 64
}

impl Arena {
    pub(crate) fn new(slots: usize, slot_len: usize) -> Self {
        let stride = stride(slot_len);
        let blank = Meta {
            addr: RawAddr::default(),
            addr_len: 0,
            len: 0,
            fd: -1,
        };
        Arena {
            bytes: vec![0; slots * stride].into_boxed_slice(),
            meta: vec![blank; slots].into_boxed_slice(),
            stride,
            slot_len,
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
        let start = self.used * self.stride;
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
        meta.fd = fd;
        self.used += 1;
        index
    }

    pub(crate) fn queued(&self) -> &[Meta] {
        &self.meta[..self.used]
    }

    /// Payload of slot `index`.
    pub(crate) fn payload(&self, index: usize) -> &[u8] {
        let start = index * self.stride;
        &self.bytes[start..start + self.meta[index].len as usize]
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
        let mut arena = Arena::new(2, 100);
        for n in 0..2u8 {
            arena.slot()[..3].copy_from_slice(&[n; 3]);
            arena.close(3);
            arena.push(3, 7, "127.0.0.1:9".parse().unwrap());
        }
        assert!(arena.is_full());
        assert_eq!(
            (arena.payload(0), arena.payload(1)),
            (&[0u8; 3][..], &[1u8; 3][..])
        );
        arena.clear();
        assert!(arena.queued().is_empty());
    }

    #[test]
    #[should_panic(expected = "commit without a slot")]
    fn a_commit_needs_a_slot() {
        Arena::new(1, 100).close(1);
    }

    #[test]
    fn strides_are_odd_cache_lines() {
        assert_eq!((stride(2048), stride(64), stride(65)), (2112, 64, 192));
    }
}
