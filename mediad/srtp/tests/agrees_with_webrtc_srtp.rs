//! Whatever we protect an independent implementation opens, and the other way round, for every suite, over rollovers,
//! reordering and losses, with header extensions, contributing sources and padding.

use std::time::Instant;

use proptest::prelude::*;
use srtp::{Inbound, MasterKey, Outbound, Suite, TRAILER_BYTES_MAX};
use webrtc_srtp::{context::Context, protection_profile::ProtectionProfile};

fn profile(suite: Suite) -> ProtectionProfile {
    match suite {
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        Suite::Aes256CmHmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    }
}

fn oracle(suite: Suite, key_salt: &[u8]) -> Context {
    let (key, salt) = key_salt.split_at(suite.key_bytes());
    Context::new(key, salt, profile(suite), None, None).expect("lengths are the suite's")
}

#[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
fn base() -> Instant {
    Instant::now()
}

/// A step of a line: how far the sequence moves, and what the packet looks like.
#[derive(Debug, Clone)]
struct Step {
    ahead: u16,
    csrcs: u8,
    extension_words: Option<u8>,
    padding: u8,
    payload: Vec<u8>,
    report: bool,
    late: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (
        prop_oneof![8 => Just(1_u16), 1 => 2..20_u16, 1 => 9_000..20_000_u16],
        0..=3_u8,
        proptest::option::of(0..4_u8),
        prop_oneof![3 => Just(0_u8), 1 => 1..9_u8],
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.2),
    )
        .prop_map(
            |(ahead, csrcs, extension_words, padding, payload, report, late)| Step {
                ahead,
                csrcs,
                extension_words,
                padding,
                payload,
                report,
                late,
            },
        )
}

fn rtp(step: &Step, sequence: u16, ssrc: u32) -> Vec<u8> {
    let first =
        0x80 | u8::from(step.padding > 0) << 5 | u8::from(step.extension_words.is_some()) << 4 | step.csrcs;
    let mut packet = vec![first, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([1, 2, 3, 4]);
    packet.extend(ssrc.to_be_bytes());
    for csrc in 0..step.csrcs {
        packet.extend([9, 9, 9, csrc]);
    }
    if let Some(words) = step.extension_words {
        // RFC 8285 one-byte form, nothing but padding: what both sides agree on.
        packet.extend([0xbe, 0xde, 0, words]);
        packet.extend(vec![0; 4 * usize::from(words)]);
    }
    packet.extend(&step.payload);
    if step.padding > 0 {
        packet.extend(vec![0; usize::from(step.padding) - 1]);
        packet.push(step.padding);
    }
    packet
}

fn rtcp(step: &Step, ssrc: u32) -> Vec<u8> {
    // A receiver report and an APP packet that carries the payload, cut to whole words.
    let words = step.payload.len() / 4;
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0x80, 204]);
    packet.extend((2 + words as u16).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(b"test");
    packet.extend(&step.payload[..4 * words]);
    packet
}

fn protect(out: &mut Outbound, clear: &[u8], is_rtcp: bool) -> Vec<u8> {
    let mut slot = [clear, &[0; TRAILER_BYTES_MAX]].concat();
    let len = match is_rtcp {
        true => out.protect_rtcp(&mut slot, clear.len()),
        false => out.protect_rtp(&mut slot, clear.len()),
    };
    slot.truncate(len.expect("each index once, and room"));
    slot
}

fn open(inn: &mut Inbound, packet: &[u8], is_rtcp: bool) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let len = match is_rtcp {
        true => inn.unprotect_rtcp(base(), &mut packet),
        false => inn.unprotect_rtp(base(), &mut packet),
    };
    packet.truncate(len.expect("the oracle's packets are authentic"));
    packet
}

/// What goes over the line: clear packets in the order in which they are sent.
fn line(steps: &[Step], start: u16, ssrc: u32) -> Vec<(Vec<u8>, bool)> {
    let mut sequence = start;
    let mut packets = Vec::new();
    for step in steps {
        sequence = sequence.wrapping_add(step.ahead);
        packets.push((rtp(step, sequence, ssrc), false));
        if step.report {
            packets.push((rtcp(step, ssrc), true));
        }
        let count = packets.len();
        if step.late && step.ahead == 1 && count > 1 {
            packets.swap(count - 2, count - 1);
        }
    }
    packets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn packets_of_both_are_the_same(
        at in 0..Suite::ALL.len(),
        material in proptest::collection::vec(any::<u8>(), 46),
        // Behind 2^15, so that both agree on what is before the first packet.
        start in 40_000..65_000_u16,
        ssrc in any::<u32>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let suite = Suite::ALL[at];
        let key_salt = &material[..suite.key_salt_bytes()];
        let key = MasterKey::new(suite, key_salt).expect("the suite's own length");
        let (mut out, mut inn) = (Outbound::new(&key), Inbound::new(&key));
        let (mut oracle_out, mut oracle_in) = (oracle(suite, key_salt), oracle(suite, key_salt));
        for (clear, is_rtcp) in line(&steps, start, ssrc) {
            let ours = protect(&mut out, &clear, is_rtcp);
            let (theirs, read) = match is_rtcp {
                true => (oracle_out.encrypt_rtcp(&clear), oracle_in.decrypt_rtcp(&ours)),
                false => (oracle_out.encrypt_rtp(&clear), oracle_in.decrypt_rtp(&ours)),
            };
            let theirs = theirs.expect("it encrypts");
            prop_assert_eq!(&read.expect("it is authentic to the oracle")[..], &clear[..]);
            prop_assert_eq!(&open(&mut inn, &theirs, is_rtcp), &clear);
            if !is_rtcp {
                // RTCP is counted from one there, from zero here (RFC 3711 §3.2.1); RTP must be the same to the bit.
                prop_assert_eq!(&theirs[..], &ours[..]);
            }
        }
    }
}
