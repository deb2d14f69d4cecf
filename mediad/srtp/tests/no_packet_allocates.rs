//! Protecting, unprotecting, refusing and trying an older key leave the heap alone.

use std::time::Instant;

use srtp::{Inbound, MasterKey, Outbound, Suite, TRAILER_BYTES_MAX};

#[global_allocator]
static ALLOCATOR: noalloc::CountingAllocator = noalloc::CountingAllocator;

#[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
fn base() -> Instant {
    Instant::now()
}

fn key(suite: Suite, fill: u8) -> MasterKey {
    MasterKey::new(suite, &[fill; 64][..suite.key_salt_bytes()]).expect("the suite's own length")
}

const PACKET: [u8; 12] = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 7];

#[test]
fn no_packet_allocates() {
    let now = base();
    for suite in Suite::ALL {
        let mut old = Outbound::new(&key(suite, 1));
        let mut new = Outbound::new(&key(suite, 2));
        let mut stranger = Outbound::new(&key(suite, 3));
        let mut us = Inbound::new(&key(suite, 1));
        us.rekey(now, &key(suite, 2));
        let mut slot = [0; 172 + TRAILER_BYTES_MAX];
        noalloc::assert_none("SRTP", || {
            for sequence in 0..1_000_u16 {
                for (sender, is_ours) in [(&mut old, true), (&mut new, true), (&mut stranger, false)] {
                    slot[..12].copy_from_slice(&PACKET);
                    // Sixteen SSRCs in turn: more than are remembered.
                    slot[11] = (sequence / 64) as u8;
                    slot[2..4].copy_from_slice(&sequence.to_be_bytes());
                    let len = sender.protect_rtp(&mut slot, 172).expect("each once");
                    assert_eq!(us.unprotect_rtp(now, &mut slot[..len]).is_ok(), is_ours);
                    slot[..8].copy_from_slice(&REPORT);
                    let len = sender.protect_rtcp(&mut slot, 100).expect("an index is left");
                    assert_eq!(us.unprotect_rtcp(now, &mut slot[..len]).is_ok(), is_ours);
                }
            }
            let over = now + 2 * srtp::limits::REKEY_OVERLAP;
            assert!(us.unprotect_rtp(over, &mut slot).is_err());
        });
    }
}
