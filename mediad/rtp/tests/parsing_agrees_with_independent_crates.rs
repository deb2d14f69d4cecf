//! Differential test against `rtp-types` and `rtcp-types`: whatever both accept, both read alike, and what we
//! accept they accept, apart from the differences named here.

use proptest::prelude::*;
use rtcp_types::{RtcpPacketParser, RtcpPacketParserExt};
use rtp::header::RtpReader;
use rtp::rtcp::{Compound, Packet};

fn compare_rtp(bytes: &[u8]) {
    let (ours, theirs) = match (RtpReader::parse(bytes), rtp_types::RtpPacket::parse(bytes)) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(_), Err(_)) => return,
        (ours, theirs) => panic!("ours {ours:?}, theirs {theirs:?}: {bytes:?}"),
    };
    assert_eq!(ours.marker(), theirs.marker_bit());
    assert_eq!(ours.payload_type().value(), theirs.payload_type());
    assert_eq!(ours.sequence(), theirs.sequence_number());
    assert_eq!(ours.timestamp().0, theirs.timestamp());
    assert_eq!(ours.ssrc().0, theirs.ssrc());
    assert!(ours.csrcs().map(|csrc| csrc.0).eq(theirs.csrc()));
    let extension = ours
        .extension()
        .map(|extension| (extension.profile, &bytes[extension.data]));
    assert_eq!(extension, theirs.extension());
    assert_eq!(ours.payload(), theirs.payload());
}

fn compare_rtcp(bytes: &[u8]) {
    let Ok(ours) = Compound::parse_reduced_size(bytes) else {
        return;
    };
    let mut rest = bytes;
    for packet in ours.packets() {
        let length = 4 + 4 * usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        compare_rtcp_packet(&packet, &rest[..length]);
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
}

fn compare_rtcp_packet(packet: &Packet<'_>, bytes: &[u8]) {
    match packet {
        Packet::SenderReport(ours) => {
            let Ok(theirs) = rtcp_types::SenderReport::parse(bytes) else {
                return;
            };
            assert_eq!(ours.ssrc.0, theirs.ssrc());
            assert_eq!(ours.info.ntp.0, theirs.ntp_timestamp());
            assert_eq!(ours.info.rtp.0, theirs.rtp_timestamp());
            assert_eq!(ours.info.packet_count, theirs.packet_count());
            assert_eq!(ours.info.octet_count, theirs.octet_count());
            assert_eq!(ours.reports.len(), theirs.report_blocks().count());
            for (ours, theirs) in ours.reports.zip(theirs.report_blocks()) {
                compare_blocks(&ours, &theirs);
            }
        }
        Packet::ReceiverReport(ours) => {
            let Ok(theirs) = rtcp_types::ReceiverReport::parse(bytes) else {
                return;
            };
            assert_eq!(ours.ssrc.0, theirs.ssrc());
            assert_eq!(ours.reports.len(), theirs.report_blocks().count());
            for (ours, theirs) in ours.reports.zip(theirs.report_blocks()) {
                compare_blocks(&ours, &theirs);
            }
        }
        Packet::Bye(ours) => {
            let Ok(theirs) = rtcp_types::Bye::parse(bytes) else {
                return;
            };
            assert!(ours.sources().map(|ssrc| ssrc.0).eq(theirs.ssrcs()));
            assert_eq!(
                ours.reason().unwrap_or_default(),
                theirs.reason().unwrap_or_default()
            );
        }
        Packet::App(ours) => {
            let Ok(theirs) = rtcp_types::App::parse(bytes) else {
                return;
            };
            assert_eq!((ours.ssrc().0, ours.subtype), (theirs.ssrc(), theirs.subtype()));
            assert_eq!((ours.name(), ours.data()), (theirs.name(), theirs.data()));
        }
        // Compared on well-formed packets only, below: they ignore the count of chunks, take the null octets
        // of a following SSRC for padding and split private items.
        Packet::SourceDescription(_) => {}
        // Not compared: they have no reader for these, or one per format.
        Packet::TransportFeedback(_)
        | Packet::PayloadFeedback(_)
        | Packet::ExtendedReport(_)
        | Packet::Unknown(_) => {}
    }
}

fn compare_blocks(ours: &rtp::rtcp::ReportBlock, theirs: &rtcp_types::ReportBlock<'_>) {
    assert_eq!(ours.ssrc.0, theirs.ssrc());
    assert_eq!(ours.fraction_lost, theirs.fraction_lost());
    // They read the signed 24 bits as unsigned.
    assert_eq!(ours.cumulative_lost as u32 & 0xff_ffff, theirs.cumulative_lost());
    assert_eq!(ours.highest_sequence, theirs.extended_sequence_number());
    assert_eq!(ours.jitter, theirs.interarrival_jitter());
    assert_eq!(ours.last_sr, theirs.last_sender_report_timestamp());
    assert_eq!(
        ours.delay_since_last_sr,
        theirs.delay_since_last_sender_report_timestamp()
    );
}

proptest! {
    // Cases are cheap, and a random compound is seldom valid.
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn rtp(first in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        compare_rtp(&[&[first], &bytes[..]].concat());
    }

    #[test]
    fn rtp_with_short_extensions_and_padding(
        first in 0x80u8..0xc0,
        bytes in prop::collection::vec(0u8..4, 11..120),
    ) {
        compare_rtp(&[&[first], &bytes[..]].concat());
    }

    #[test]
    fn rtcp(packets in prop::collection::vec((0u8..4, 200u8..208, prop::collection::vec(0u8..8, 0..100)), 1..4)) {
        let mut bytes = Vec::new();
        for (count, packet_type, mut body) in packets {
            body.resize(body.len().next_multiple_of(4), 0);
            bytes.extend([0x80 | count, packet_type]);
            bytes.extend((body.len() as u16 / 4).to_be_bytes());
            bytes.extend(body);
        }
        compare_rtcp(&bytes);
    }

    #[test]
    fn sdes(
        chunks in prop::collection::vec(
            (0x0100_0000u32.., prop::collection::vec((1u8..8, prop::collection::vec(any::<u8>(), 2..30)), 0..4)),
            0..5,
        ),
    ) {
        let mut body = Vec::new();
        for (ssrc, items) in &chunks {
            body.extend(ssrc.to_be_bytes());
            for (kind, value) in items {
                body.extend([*kind, value.len() as u8]);
                body.extend(value);
            }
            body.push(0);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = vec![0x80 | chunks.len() as u8, 202];
        bytes.extend((body.len() as u16 / 4).to_be_bytes());
        bytes.extend(body);

        let compound = Compound::parse_reduced_size(&bytes).expect("well-formed");
        let Some(Packet::SourceDescription(ours)) = compound.packets().next() else { panic!("no SDES") };
        let theirs = rtcp_types::Sdes::parse(&bytes).expect("well-formed");
        prop_assert_eq!(ours.chunks().count(), chunks.len());
        for ((ours, theirs), (ssrc, items)) in ours.chunks().zip(theirs.chunks()).zip(&chunks) {
            prop_assert_eq!((ours.ssrc.0, theirs.ssrc()), (*ssrc, *ssrc));
            let read: Vec<_> = ours.items().map(|item| (u8::from(item.kind), item.value.to_vec())).collect();
            prop_assert_eq!(&read, items);
            prop_assert!(theirs.items().map(|item| (item.type_(), item.value().to_vec())).eq(read));
        }
    }
}
