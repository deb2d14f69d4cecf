//! Packet indices: what a 16-bit sequence number stands for, and which were seen.

use crate::limits::WINDOW_PACKETS;

/// Packets under one master key: 2^48 (RFC 3711 §9.2).
pub(crate) const RTP_INDEX_END: u64 = 1 << 48;
/// RTCP packets under one master key: 2^31.
pub(crate) const RTCP_INDEX_END: u64 = 1 << 31;

/// The newest index and which of those shortly behind it were seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    newest: u64,
    /// Bit n: the index n behind the newest was seen. Zero before the first.
    seen: u128,
}

impl Window {
    /// The newest index; `None` before the first.
    #[inline]
    pub(crate) fn newest(&self) -> Option<u64> {
        (self.seen != 0).then_some(self.newest)
    }

    /// It was not seen and is not too old to know.
    #[inline]
    pub(crate) fn is_new(&self, index: u64) -> bool {
        if self.seen == 0 || index > self.newest {
            return true;
        }
        let age = self.newest - index;
        age < WINDOW_PACKETS && self.seen >> age & 1 == 0
    }

    /// Remember an index that [`is_new`](Self::is_new).
    #[inline]
    pub(crate) fn insert(&mut self, index: u64) {
        if self.seen == 0 {
            (self.newest, self.seen) = (index, 1);
        } else if index > self.newest {
            let shift = index - self.newest;
            let kept = if shift < WINDOW_PACKETS {
                self.seen << shift
            } else {
                0
            };
            (self.newest, self.seen) = (index, kept | 1);
        } else {
            self.seen |= 1 << (self.newest - index);
        }
    }
}

/// The index that `sequence` most likely stands for, given the newest one.
///
/// # Source
/// RFC 3711 appendix A. Before the first rollover nothing lies behind: there a far number is ahead.
#[inline]
pub(crate) fn estimate(newest: u64, sequence: u16) -> u64 {
    let (rollovers, reached) = (newest >> 16, newest as u16);
    let rollovers = if reached < 0x8000 {
        let is_before = i32::from(sequence) - i32::from(reached) > 0x8000;
        if is_before {
            rollovers.saturating_sub(1)
        } else {
            rollovers
        }
    } else {
        let is_after = reached - 0x8000 > sequence;
        if is_after { rollovers + 1 } else { rollovers }
    };
    rollovers << 16 | u64::from(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_means_what_is_nearest() {
        for (newest, sequence, index) in [
            (0, 1, 1),
            (0xffff, 0, 0x1_0000),
            (0x1_0000, 0xffff, 0xffff),
            (0x1_7fff, 0xffff, 0x1_ffff),
            (0x1_7ffe, 0xffff, 0xffff),
            (0x1_8000, 0, 0x1_0000),
            (0x1_8001, 0, 0x2_0000),
            (5, 0xfff0, 0xfff0),
            (0xffff_ffff_ffff, 3, 0x1_0000_0000_0003),
        ] {
            assert_eq!(
                estimate(newest, sequence),
                index,
                "{sequence:#x} after {newest:#x}"
            );
        }
    }

    #[test]
    fn each_index_is_new_once_and_what_is_too_old_is_never() {
        let mut window = Window::default();
        assert_eq!(window.newest(), None);
        for index in [1_000, 1_001, 1_005, 1_003, 1_130, 1_010] {
            assert!(window.is_new(index), "{index}");
            window.insert(index);
            assert!(!window.is_new(index), "{index}");
        }
        assert_eq!(window.newest(), Some(1_130));
        assert!(window.is_new(1_004), "within the window and not seen");
        assert!(!window.is_new(1_005), "seen");
        assert!(!window.is_new(1_002), "128 behind");
        window.insert(5_000);
        assert!(!window.is_new(1_131));
        assert!(window.is_new(4_999));
    }
}
