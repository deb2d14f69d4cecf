//! State of one direction of one call: what was sent, and what its sink saw.

use std::rc::Rc;

use nix::sys::socket::SockaddrIn;

use super::stamp::Stamp;

/// The sending half.
#[derive(Debug)]
pub(super) struct TxFlow {
    pub(super) to: SockaddrIn,
    pub(super) to_rtcp: SockaddrIn,
    pub(super) socket_index: usize,
    pub(super) payload_type: u8,
    pub(super) ssrc: u32,
    /// Packets sent so far; the RTP sequence number is `first_seq + sent`.
    pub(super) sent: u32,
    pub(super) first_seq: u16,
    pub(super) first_timestamp: u32,
    pub(super) ticks: u32,
    /// Encrypts what is sent.
    pub(super) seal: Option<Box<srtp::Outbound>>,
    /// What Opus legs say, over and over.
    pub(super) frames: Rc<[Box<[u8]>]>,
}

/// How a received packet relates to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    InOrder,
    Reordered,
    Duplicate,
}

/// The receiving half of the same flow.
#[derive(Debug, Default)]
pub(super) struct RxFlow {
    highest: u32,
    /// Bit n: `highest - n` was seen.
    window: u64,
    /// Header sequence number of `highest`: the server's own line.
    header_seq: u16,
    /// The call is under attack: its packets are counted apart.
    pub(super) victim: bool,
    /// Bytes of audio kept for the tone's judge.
    pub(super) heard: Vec<u8>,
    /// Where each Opus packet in `heard` ends.
    pub(super) ends: Vec<usize>,
    /// Arrival of the packet before, in tone mode.
    pub(super) last_ns: u64,
    /// Decrypts what arrives.
    pub(super) open: Option<Box<srtp::Inbound>>,
}

impl RxFlow {
    pub(super) fn new(victim: bool, open: Option<Box<srtp::Inbound>>) -> RxFlow {
        RxFlow {
            victim,
            open,
            ..RxFlow::default()
        }
    }

    /// Books the packet `stamp.seq`, which came under `header_seq`; the flag says whether the server's sequence
    /// line moved as far as ours.
    #[inline]
    pub(super) fn book(&mut self, stamp: &Stamp, header_seq: u16) -> (Arrival, bool) {
        if self.window == 0 {
            (self.highest, self.window, self.header_seq) = (stamp.seq, 1, header_seq);
            return (Arrival::InOrder, true);
        }
        if stamp.seq > self.highest {
            let ahead = stamp.seq - self.highest;
            let in_line = header_seq.wrapping_sub(self.header_seq) == ahead as u16;
            self.window = if ahead < 64 { self.window << ahead | 1 } else { 1 };
            (self.highest, self.header_seq) = (stamp.seq, header_seq);
            return (Arrival::InOrder, in_line);
        }
        let behind = self.highest - stamp.seq;
        if behind < 64 && self.window >> behind & 1 == 1 {
            return (Arrival::Duplicate, true);
        }
        if behind < 64 {
            self.window |= 1 << behind;
        }
        let in_line = self.header_seq.wrapping_sub(header_seq) == behind as u16;
        (Arrival::Reordered, in_line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(flow: &mut RxFlow, seq: u32, header_seq: u16) -> (Arrival, bool) {
        flow.book(
            &Stamp {
                flow: 0,
                seq,
                sent_ns: 0,
            },
            header_seq,
        )
    }

    #[test]
    fn order_duplicates_and_a_broken_header_line_are_told_apart() {
        let mut flow = RxFlow::default();
        assert_eq!(book(&mut flow, 10, 65_530), (Arrival::InOrder, true));
        assert_eq!(book(&mut flow, 11, 65_531), (Arrival::InOrder, true));
        assert_eq!(book(&mut flow, 11, 65_531), (Arrival::Duplicate, true));
        assert_eq!(
            book(&mut flow, 20, 4),
            (Arrival::InOrder, true),
            "a gap keeps its place across the wrap"
        );
        assert_eq!(book(&mut flow, 15, 65_535), (Arrival::Reordered, true));
        assert_eq!(book(&mut flow, 15, 65_535), (Arrival::Duplicate, true));
        assert_eq!(
            book(&mut flow, 21, 6),
            (Arrival::InOrder, false),
            "the server skipped a number"
        );
        assert_eq!(book(&mut flow, 200, 185), (Arrival::InOrder, true));
    }
}
