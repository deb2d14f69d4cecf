//! Random bytes, and valid packets with some bytes changed, through the fuzz entry points.

use proptest::prelude::*;
use rtp::event::TelephoneEvent;
use rtp::fuzzing::{fuzz_event, fuzz_rtcp, fuzz_rtp};
use rtp::header::{RtpHeader, RtpReader};
use rtp::rtcp::{Compound, ReportBlock, RtcpWriter, SenderInfo};
use rtp::time::NtpTimestamp;
use rtp::units::{PayloadType, RtpTimestamp, Ssrc};

/// Sets `bytes[index]` for each change that lies inside.
fn mutate(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(index, value) in changes {
        if let Some(byte) = bytes.get_mut(index) {
            *byte = value;
        }
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((0usize..200, any::<u8>()), 0..4)
}

fn compound() -> Vec<u8> {
    let block = ReportBlock {
        ssrc: Ssrc(2),
        fraction_lost: 1,
        cumulative_lost: 5,
        highest_sequence: 99,
        jitter: 3,
        last_sr: 4,
        delay_since_last_sr: 5,
    };
    let info = SenderInfo {
        ntp: NtpTimestamp(1 << 40),
        rtp: RtpTimestamp(160),
        packet_count: 2,
        octet_count: 320,
    };
    let mut buffer = [0; 200];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.sender_report(Ssrc(1), &info, &[block]).expect("fits");
    writer.sdes_cname(Ssrc(1), b"name").expect("fits");
    writer.picture_loss(Ssrc(1), Ssrc(2)).expect("fits");
    writer.bye(&[Ssrc(1)], b"over").expect("fits");
    writer.finish().to_vec()
}

proptest! {
    #[test]
    fn random_rtp(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_rtp(&bytes);
    }

    #[test]
    fn random_behind_a_valid_first_byte(first in 0x80u8..0xc0, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_rtp(&[&[first], &bytes[..]].concat());
    }

    #[test]
    fn changed_rtp(changes in changes(), length in 0usize..172) {
        let header = RtpHeader {
            marker: true,
            payload_type: PayloadType::PCMU,
            sequence: 1,
            timestamp: RtpTimestamp(2),
            ssrc: Ssrc(3),
        };
        let mut packet = vec![0; 172];
        header.write_to(&mut packet);
        fuzz_rtp(&mutate(packet, &changes)[..length]);
    }

    #[test]
    fn random_rtcp(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_rtcp(&bytes);
    }

    #[test]
    fn random_bodies_of_every_rtcp_type(
        packets in prop::collection::vec((0u8..32, 199u8..210, prop::collection::vec(any::<u32>(), 0..20)), 1..5),
    ) {
        let mut bytes = Vec::new();
        for (count, packet_type, words) in packets {
            bytes.extend([0x80 | count, packet_type]);
            bytes.extend((words.len() as u16).to_be_bytes());
            bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        }
        fuzz_rtcp(&bytes);
    }

    #[test]
    fn changed_rtcp(changes in changes(), cut in 0usize..8) {
        let bytes = mutate(compound(), &changes);
        fuzz_rtcp(&bytes[..bytes.len() - cut]);
    }

    #[test]
    fn random_event_scripts(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
        fuzz_event(&bytes);
    }

    #[test]
    fn likely_event_scripts(
        packets in prop::collection::vec((0u8..120, any::<bool>(), -2i32..3, 4u8..7, any::<bool>(), 0u16..5), 0..80),
    ) {
        let mut script = Vec::new();
        for (ms, marker, step, event, end, duration) in packets {
            let [_, s0, s1, s2] = (step * 160).to_be_bytes();
            let block = TelephoneEvent { event, end, reserved: false, volume: 10, duration: duration * 160 };
            script.extend([ms, u8::from(marker), s0, s1, s2]);
            script.extend(block.to_bytes());
        }
        fuzz_event(&script);
    }

    #[test]
    fn a_telephone_event_reads_back(bytes: [u8; 4]) {
        prop_assert_eq!(TelephoneEvent::from_bytes(bytes).to_bytes(), bytes);
    }
}

#[test]
fn the_seeds_of_the_changed_packets_are_valid() {
    let bytes = compound();
    assert_eq!(Compound::parse(&bytes).expect("valid").packets().count(), 4);
    assert!(RtpReader::parse(&[0x80; 172]).is_ok());
}
