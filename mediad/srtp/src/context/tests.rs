use std::time::Instant;

use super::*;
use crate::{
    fuzzing::hex,
    key::SessionKeys,
    limits::{ROLLOVERS_SEARCHED, SSRCS_MAX, WINDOW_PACKETS},
    suite::TRAILER_BYTES_MAX,
};

#[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
fn base() -> Instant {
    Instant::now()
}

fn key(suite: Suite, fill: u8) -> MasterKey {
    MasterKey::new(suite, &vec![fill; suite.key_salt_bytes()]).expect("the suite's own length")
}

fn rtp(sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 160]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0x55; 160]);
    packet
}

fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet.extend(b"and what follows");
    packet
}

fn protect_rtp(context: &mut Outbound, clear: &[u8]) -> Result<Vec<u8>, ProtectError> {
    let mut slot = [clear, &[0; TRAILER_BYTES_MAX]].concat();
    let len = context.protect_rtp(&mut slot, clear.len())?;
    slot.truncate(len);
    Ok(slot)
}

fn protect_rtcp(context: &mut Outbound, clear: &[u8]) -> Vec<u8> {
    let mut slot = [clear, &[0; TRAILER_BYTES_MAX]].concat();
    let len = context
        .protect_rtcp(&mut slot, clear.len())
        .expect("room and index");
    slot.truncate(len);
    slot
}

fn take_rtp(context: &mut Inbound, now: Instant, packet: &[u8]) -> Result<Vec<u8>, UnprotectError> {
    let mut packet = packet.to_vec();
    let len = context.unprotect_rtp(now, &mut packet)?;
    packet.truncate(len);
    Ok(packet)
}

fn take_rtcp(context: &mut Inbound, now: Instant, packet: &[u8]) -> Result<Vec<u8>, UnprotectError> {
    let mut packet = packet.to_vec();
    let len = context.unprotect_rtcp(now, &mut packet)?;
    packet.truncate(len);
    Ok(packet)
}

/// Both directions with session keys, for vectors that do not derive them.
fn with_session_keys(suite: Suite, cipher: &str, salt: &str) -> (Outbound, Inbound) {
    let make = || {
        let mut keys = SessionKeys::default();
        let (cipher, salt) = (hex(cipher), hex(salt));
        keys.cipher[..cipher.len()].copy_from_slice(&cipher);
        keys.salt[..salt.len()].copy_from_slice(&salt);
        Transforms::from_session_keys(suite, &keys)
    };
    let outbound = Outbound {
        transforms: make(),
        streams: Streams::default(),
    };
    let current = Receiver {
        transforms: make(),
        streams: Streams::default(),
        unfound: 0,
    };
    (
        outbound,
        Inbound {
            current,
            previous: Previous::None,
        },
    )
}

#[test]
fn the_keystream_is_that_of_rfc_3711_appendix_b_2() {
    let (mut outbound, _) = with_session_keys(
        Suite::AesCm128HmacSha1_80,
        "2B7E151628AED2A6ABF7158809CF4F3C",
        "F0F1F2F3F4F5F6F7F8F9FAFBFCFD",
    );
    // SSRC 0, sequence 0, rollover 0; zeros show the keystream.
    let mut clear = vec![0; 12 + 16 * 0xff02];
    clear[0] = 0x80;
    let packet = protect_rtp(&mut outbound, &clear).expect("sent");
    for (block, keystream) in [
        (0x0000, "E03EAD0935C95E80E166B16DD92B4EB4"),
        (0x0001, "D23513162B02D0F72A43A2FE4A5F97AB"),
        (0x0002, "41E95B3BB0A2E8DD477901E4FCA894C0"),
        (0xfeff, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
        (0xff00, "362B7C3C6773516318A077D7FC5073AE"),
        (0xff01, "6A2CC3787889374FBEB4C81B17BA6C44"),
    ] {
        let at = 12 + 16 * block;
        assert_eq!(packet[at..at + 16], hex(keystream), "block {block:#x}");
    }
}

const GCM_KEY_128: &str = "000102030405060708090a0b0c0d0e0f";
const GCM_KEY_256: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// "Quid pro quo".
const GCM_SALT: &str = "517569642070726f2071756f";

#[test]
fn aes_gcm_of_rtp_is_that_of_rfc_7714_section_16() {
    let clear = hex("8040f17b8041f8d35501a0b2
        47616c6c696120657374206f6d6e697320646976697361 20696e20706172746573207472 6573");
    for (suite, cipher, tagged) in [
        (
            Suite::AeadAes128Gcm,
            GCM_KEY_128,
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b
             36de3adf8833899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            Suite::AeadAes256Gcm,
            GCM_KEY_256,
            "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f
             1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ] {
        let (mut outbound, mut inbound) = with_session_keys(suite, cipher, GCM_SALT);
        assert_eq!(protect_rtp(&mut outbound, &clear), Ok(hex(tagged)), "{suite:?}");
        assert_eq!(
            take_rtp(&mut inbound, base(), &hex(tagged)),
            Ok(clear.clone()),
            "{suite:?}"
        );
    }
}

#[test]
fn aes_gcm_of_rtcp_is_that_of_rfc_7714_section_17() {
    let clear = hex("81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61
        deadbeefdeadbeefdeadbeefdeadbeefdeadbeef");
    for (suite, cipher, tagged) in [
        // 17.1
        (
            Suite::AeadAes128Gcm,
            GCM_KEY_128,
            "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b46
             86303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        ),
        // 17.2
        (
            Suite::AeadAes256Gcm,
            GCM_KEY_256,
            "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658
             c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
        ),
        // 17.3: the E bit is clear.
        (
            Suite::AeadAes128Gcm,
            GCM_KEY_128,
            "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeef
             deadbeefdeadbeef841dd9683dd78ec92ae58790125f62b3000005d4",
        ),
    ] {
        let (mut outbound, mut inbound) = with_session_keys(suite, cipher, GCM_SALT);
        let tagged = hex(tagged);
        assert_eq!(
            take_rtcp(&mut inbound, base(), &tagged),
            Ok(clear.clone()),
            "{suite:?}"
        );
        let mut forged = tagged.clone();
        forged[20] ^= 1;
        let (_, mut inbound) = with_session_keys(suite, cipher, GCM_SALT);
        assert_eq!(
            take_rtcp(&mut inbound, base(), &forged),
            Err(UnprotectError::Authentication)
        );
        // The vector's index; what is sent is encrypted.
        if tagged[tagged.len() - 4] & 0x80 != 0 {
            outbound.streams.entry(0x4d61_7273).rtcp.insert(0x5d3);
            assert_eq!(protect_rtcp(&mut outbound, &clear), tagged, "{suite:?}");
        }
    }
}

#[test]
fn unencrypted_rtcp_is_taken_when_it_is_authentic() {
    let suite = Suite::AesCm128HmacSha1_80;
    let (outbound, mut inbound) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
    let clear = rtcp(7);
    let mut packet = [&clear[..], &[0, 0, 0, 5], &[0; 10]].concat();
    outbound.transforms.tag_rtcp_for_tests(&mut packet);
    assert_eq!(take_rtcp(&mut inbound, base(), &packet), Ok(clear));
    packet[9] ^= 1;
    let index = packet.len() - 11;
    packet[index] = 6;
    assert_eq!(
        take_rtcp(&mut inbound, base(), &packet),
        Err(UnprotectError::Authentication)
    );
}

#[test]
fn every_suite_carries_rtp_and_rtcp_of_any_length() {
    let now = base();
    for suite in Suite::ALL {
        let (mut out, mut inn) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
        for len in [12, 13, 28, 172, 1_400] {
            let mut clear = rtp(len as u16, 7);
            clear.resize(len, 0xaa);
            let packet = protect_rtp(&mut out, &clear).expect("sent");
            assert_eq!(packet.len(), len + suite.rtp_trailer_bytes());
            assert_eq!(packet[..12], clear[..12], "the header stays readable");
            assert!(
                len < 28 || packet[12..len] != clear[12..],
                "{suite:?}: nothing is readable"
            );
            assert_eq!(take_rtp(&mut inn, now, &packet), Ok(clear), "{suite:?} {len}");
        }
        for len in [8, 9, 24, 120] {
            let mut clear = rtcp(7);
            clear.resize(len, 0xaa);
            let packet = protect_rtcp(&mut out, &clear);
            assert_eq!(packet.len(), len + suite.rtcp_trailer_bytes());
            assert_eq!(take_rtcp(&mut inn, now, &packet), Ok(clear), "{suite:?} {len}");
        }
    }
}

#[test]
fn a_line_goes_on_over_rollovers_reordered_and_with_losses() {
    let now = base();
    for suite in Suite::ALL {
        let (mut out, mut inn) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
        let mut taken = 0;
        // Three rollovers; of ten, one is lost and two change places.
        let mut sent = Vec::new();
        for number in 0_u32..3 * 65_536 + 99 {
            let sequence = number as u16;
            if sequence.wrapping_add(200) >= 400 {
                // So that half a cycle never passes unheard.
                if sequence.is_multiple_of(10_000) {
                    let packet = protect_rtp(&mut out, &rtp(sequence, 7)).expect("counts up");
                    assert!(take_rtp(&mut inn, now, &packet).is_ok(), "{suite:?} {number}");
                }
                continue;
            }
            sent.push(protect_rtp(&mut out, &rtp(sequence, 7)).expect("counts up"));
            if sent.len() == 10 {
                sent.swap(2, 7);
                for (at, packet) in sent.drain(..).enumerate().filter(|(at, _)| *at != 4) {
                    let opened = take_rtp(&mut inn, now, &packet);
                    assert!(opened.is_ok(), "{suite:?} {number} {at}: {opened:?}");
                    taken += 1;
                }
            }
        }
        assert!(taken > 1_000, "{taken}");
    }
}

/// A call that another host carried before, or one that goes back to the key before an offer that was turned down: the
/// peer's key and SSRC are what they were, and nobody tells how often its sequence rolled over.
#[test]
fn a_stream_is_found_in_its_middle() {
    let now = base();
    for suite in Suite::ALL {
        for rollovers in [1, 3, ROLLOVERS_SEARCHED] {
            let (mut out, mut inn) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
            let first = 0xf000;
            out.streams.entry(7).rtp.insert(rollovers << 16 | (first - 1));
            let heard = (0..500_u16).find(|number| {
                let clear = rtp(first as u16 + number, 7);
                let packet = protect_rtp(&mut out, &clear).expect("counts up");
                take_rtp(&mut inn, now, &packet) == Ok(clear)
            });
            let heard = heard.unwrap_or_else(|| panic!("{suite:?}: never found after {rollovers}"));
            assert!(
                u64::from(heard) < ROLLOVERS_SEARCHED,
                "{suite:?}: {heard} packets were lost"
            );
            let again = protect_rtp(&mut out, &rtp(first as u16 + heard + 1, 7)).expect("counts up");
            assert!(
                take_rtp(&mut inn, now, &again).is_ok(),
                "and is heard from then on"
            );
            assert_eq!(take_rtp(&mut inn, now, &again), Err(UnprotectError::Replay));
        }
    }
}

#[test]
fn packets_from_before_a_rollover_may_be_late() {
    let now = base();
    let suite = Suite::AesCm128HmacSha1_80;
    let (mut out, mut inn) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
    let packets: Vec<_> = [65_000, 65_534, 65_535, 0, 1]
        .map(|sequence| protect_rtp(&mut out, &rtp(sequence, 7)).expect("counts up"))
        .into();
    for at in [0, 1, 4, 2, 3] {
        assert!(take_rtp(&mut inn, now, &packets[at]).is_ok(), "{at}");
    }
    for packet in &packets[1..] {
        assert_eq!(take_rtp(&mut inn, now, packet), Err(UnprotectError::Replay));
    }
}

#[test]
fn nothing_is_taken_twice() {
    let now = base();
    for suite in Suite::ALL {
        let (mut out, mut inn) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
        let first = protect_rtp(&mut out, &rtp(100, 7)).expect("sent");
        let second = protect_rtp(&mut out, &rtp(101, 7)).expect("sent");
        assert!(take_rtp(&mut inn, now, &second).is_ok());
        assert!(take_rtp(&mut inn, now, &first).is_ok());
        for packet in [&first, &second] {
            assert_eq!(take_rtp(&mut inn, now, packet), Err(UnprotectError::Replay));
        }
        let far = protect_rtp(&mut out, &rtp(101 + WINDOW_PACKETS as u16, 7)).expect("sent");
        assert!(take_rtp(&mut inn, now, &far).is_ok());
        assert_eq!(
            take_rtp(&mut inn, now, &first),
            Err(UnprotectError::Replay),
            "too old"
        );

        let report = protect_rtcp(&mut out, &rtcp(7));
        assert!(take_rtcp(&mut inn, now, &report).is_ok());
        assert_eq!(take_rtcp(&mut inn, now, &report), Err(UnprotectError::Replay));
        assert!(take_rtcp(&mut inn, now, &protect_rtcp(&mut out, &rtcp(7))).is_ok());
    }
}

#[test]
fn no_index_is_used_twice() {
    for suite in Suite::ALL {
        let mut out = Outbound::new(&key(suite, 1));
        assert!(protect_rtp(&mut out, &rtp(500, 7)).is_ok());
        assert_eq!(protect_rtp(&mut out, &rtp(500, 7)), Err(ProtectError::Reused));
        assert!(
            protect_rtp(&mut out, &rtp(499, 7)).is_ok(),
            "a late one is another one"
        );
        assert!(
            protect_rtp(&mut out, &rtp(500, 8)).is_ok(),
            "so is one of another SSRC"
        );
        assert!(protect_rtp(&mut out, &rtp(800, 7)).is_ok());
        assert_eq!(
            protect_rtp(&mut out, &rtp(501, 7)),
            Err(ProtectError::Reused),
            "perhaps"
        );
    }
}

#[test]
fn forged_packets_teach_nothing() {
    let now = base();
    for suite in Suite::ALL {
        let (mut out, mut inn) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
        let packet = protect_rtp(&mut out, &rtp(10, 7)).expect("sent");
        let mut stranger = Outbound::new(&key(suite, 2));
        for sequence in [11, 200, 40_000] {
            let forged = protect_rtp(&mut stranger, &rtp(sequence, 7)).expect("sent");
            assert_eq!(
                take_rtp(&mut inn, now, &forged),
                Err(UnprotectError::Authentication)
            );
        }
        for bit in 0..packet.len() * 8 {
            let mut turned = packet.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(take_rtp(&mut inn, now, &turned).is_err(), "{suite:?} bit {bit}");
        }
        assert!(take_rtp(&mut inn, now, &packet).is_ok());
        let report = protect_rtcp(&mut out, &rtcp(7));
        for bit in 0..report.len() * 8 {
            let mut turned = report.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(take_rtcp(&mut inn, now, &turned).is_err(), "{suite:?} bit {bit}");
        }
        assert!(take_rtcp(&mut inn, now, &report).is_ok());
    }
}

#[test]
fn what_is_cut_off_is_refused() {
    let now = base();
    for suite in Suite::ALL {
        let (mut out, mut inn) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
        let packet = protect_rtp(&mut out, &rtp(10, 7)).expect("sent");
        let report = protect_rtcp(&mut out, &rtcp(7));
        for len in 0..packet.len() {
            assert!(
                take_rtp(&mut inn, now, &packet[..len]).is_err(),
                "{suite:?} {len}"
            );
        }
        for len in 0..report.len() {
            assert!(
                take_rtcp(&mut inn, now, &report[..len]).is_err(),
                "{suite:?} {len}"
            );
        }
        let clear = rtp(11, 7);
        let mut slot = clear.clone();
        for room in 0..suite.rtp_trailer_bytes() {
            slot.resize(clear.len() + room, 0);
            assert_eq!(out.protect_rtp(&mut slot, clear.len()), Err(ProtectError::NoRoom));
        }
        slot.truncate(clear.len());
        assert_eq!(slot, clear);
        assert_eq!(out.protect_rtp(&mut slot, 11), Err(ProtectError::Malformed));
        assert_eq!(out.protect_rtp(&mut slot, 9_999), Err(ProtectError::Malformed));
    }
}

#[test]
fn after_a_change_of_the_key_the_old_one_counts_for_a_while() {
    let now = base();
    for (old, new) in [
        (Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_80),
        (Suite::AesCm128HmacSha1_80, Suite::AeadAes256Gcm),
        (Suite::AeadAes128Gcm, Suite::AeadAes128Gcm),
        (Suite::AeadAes256Gcm, Suite::AesCm128HmacSha1_32),
    ] {
        let mut before = Outbound::new(&key(old, 1));
        let mut after = Outbound::new(&key(new, 2));
        let mut inn = Inbound::new(&key(old, 1));
        let late: Vec<_> = (0..4)
            .map(|sequence| protect_rtp(&mut before, &rtp(sequence, 7)).expect("sent"))
            .collect();
        assert!(take_rtp(&mut inn, now, &late[0]).is_ok());
        inn.rekey(now, &key(new, 2));
        assert_eq!(inn.suite(), new);
        assert!(take_rtp(&mut inn, now, &late[1]).is_ok());
        let first = protect_rtp(&mut after, &rtp(4, 7)).expect("sent");
        assert!(take_rtp(&mut inn, now, &first).is_ok());
        assert!(
            take_rtp(&mut inn, now, &late[2]).is_ok(),
            "late, under the old key"
        );
        assert_eq!(take_rtp(&mut inn, now, &late[2]), Err(UnprotectError::Replay));
        assert!(take_rtcp(&mut inn, now, &protect_rtcp(&mut before, &rtcp(7))).is_ok());
        assert!(take_rtcp(&mut inn, now, &protect_rtcp(&mut after, &rtcp(7))).is_ok());

        let over = now + REKEY_OVERLAP;
        assert_eq!(
            take_rtp(&mut inn, over, &late[3]),
            Err(UnprotectError::Authentication),
            "its time is over"
        );
        // Overwritten once, and not looked at by any packet after that.
        assert!(matches!(inn.previous, Previous::Wiped(_)));
        let next = protect_rtp(&mut after, &rtp(5, 7)).expect("sent");
        assert!(take_rtp(&mut inn, over, &next).is_ok());
        let next = protect_rtp(&mut after, &rtp(6, 7)).expect("sent");
        assert!(take_rtp(&mut inn, over + 9 * REKEY_OVERLAP, &next).is_ok());
    }
}

#[test]
fn a_new_key_may_begin_with_any_rollover_counter() {
    let now = base();
    for suite in [Suite::AesCm128HmacSha1_80, Suite::AeadAes128Gcm] {
        for keeps_count in [true, false] {
            let mut before = Outbound::new(&key(suite, 1));
            let mut inn = Inbound::new(&key(suite, 1));
            for sequence in [40_000, 1_000, 33_000, 9] {
                let packet = protect_rtp(&mut before, &rtp(sequence, 7)).expect("counts up");
                assert!(take_rtp(&mut inn, now, &packet).is_ok());
            }
            inn.rekey(now, &key(suite, 2));
            let mut after = Outbound::new(&key(suite, 2));
            if keeps_count {
                after.streams.entry(7).rtp.insert(2 << 16 | 9);
            }
            for sequence in [10, 12, 11] {
                let packet = protect_rtp(&mut after, &rtp(sequence, 7)).expect("counts up");
                assert!(
                    take_rtp(&mut inn, now, &packet).is_ok(),
                    "{suite:?} {keeps_count}"
                );
            }
        }
    }
}

#[test]
fn the_first_packet_may_come_after_the_first_rollover() {
    let now = base();
    for suite in Suite::ALL {
        let (mut out, mut inn) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
        for sequence in [65_500, 3] {
            protect_rtp(&mut out, &rtp(sequence, 7)).expect("sent, not received");
        }
        for sequence in [4, 6, 5] {
            let packet = protect_rtp(&mut out, &rtp(sequence, 7)).expect("sent");
            assert!(take_rtp(&mut inn, now, &packet).is_ok(), "{suite:?} {sequence}");
        }
    }
}

#[test]
fn a_peer_may_change_its_ssrc_as_often_as_it_likes() {
    let now = base();
    let suite = Suite::AeadAes128Gcm;
    let (mut out, mut inn) = (Outbound::new(&key(suite, 1)), Inbound::new(&key(suite, 1)));
    for ssrc in 0..4 * SSRCS_MAX as u32 {
        for sequence in [65_535, 0] {
            let packet = protect_rtp(&mut out, &rtp(sequence, ssrc)).expect("sent");
            assert!(take_rtp(&mut inn, now, &packet).is_ok(), "{ssrc} {sequence}");
            assert_eq!(take_rtp(&mut inn, now, &packet), Err(UnprotectError::Replay));
        }
    }
}

#[test]
fn a_key_ends_before_its_indices_repeat() {
    let suite = Suite::AesCm128HmacSha1_80;
    let mut out = Outbound::new(&key(suite, 1));
    out.streams.entry(7).rtp.insert(RTP_INDEX_END - 2);
    assert!(protect_rtp(&mut out, &rtp(65_535, 7)).is_ok());
    assert_eq!(protect_rtp(&mut out, &rtp(0, 7)), Err(ProtectError::Exhausted));
    out.streams.entry(7).rtcp.insert(RTCP_INDEX_END - 1);
    let mut slot = [&rtcp(7)[..], &[0; TRAILER_BYTES_MAX]].concat();
    let len = rtcp(7).len();
    assert_eq!(out.protect_rtcp(&mut slot, len), Err(ProtectError::Exhausted));
}

#[test]
fn contexts_do_not_show_their_keys_and_are_small() {
    let out = Outbound::new(&key(Suite::AesCm128HmacSha1_80, 0xab));
    let inn = Inbound::new(&key(Suite::AeadAes128Gcm, 0xab));
    for shown in [format!("{out:?}"), format!("{inn:?}")] {
        assert!(shown.contains("secret") && !shown.contains("171"), "{shown}");
    }
    let bytes = size_of::<Outbound>() + size_of::<Inbound>();
    assert!(bytes < 6_000, "{bytes}");
}
