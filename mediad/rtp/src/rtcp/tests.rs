//! Unit tests of the whole module: valid, truncated, hostile.

use std::time::Duration;

use super::*;
use crate::time::NtpTimestamp;
use crate::units::{RtpTimestamp, Ssrc};

const BLOCK: ReportBlock = ReportBlock {
    ssrc: Ssrc(0x1111_2222),
    fraction_lost: 64,
    cumulative_lost: -3,
    highest_sequence: 0x0001_ffff,
    jitter: 17,
    last_sr: 0xaabb_ccdd,
    delay_since_last_sr: 0x1_0000,
};

const INFO: SenderInfo = SenderInfo {
    ntp: NtpTimestamp(0x1234_5678_9abc_def0),
    rtp: RtpTimestamp(160),
    packet_count: 9,
    octet_count: 1440,
};

/// SR with one block, SDES, BYE with a reason.
fn compound(buffer: &mut [u8]) -> &mut [u8] {
    let mut writer = RtcpWriter::new(buffer);
    writer.sender_report(Ssrc(7), &INFO, &[BLOCK]).unwrap();
    writer.sdes_cname(Ssrc(7), b"host-1").unwrap();
    writer.bye(&[Ssrc(7)], b"done").unwrap();
    writer.finish()
}

#[test]
fn a_written_compound_reads_back() {
    let mut buffer = [0xee; 200];
    let bytes = compound(&mut buffer);
    assert_eq!(bytes.len(), 52 + 20 + 16);
    let mut packets = Compound::parse(bytes).unwrap().packets();
    let Some(Packet::SenderReport(report)) = packets.next() else {
        panic!("no SR")
    };
    assert_eq!((report.ssrc, report.info), (Ssrc(7), INFO));
    assert!(report.reports.eq([BLOCK]));
    let Some(Packet::SourceDescription(sdes)) = packets.next() else {
        panic!("no SDES")
    };
    assert_eq!(sdes.cname(Ssrc(7)), Some(&b"host-1"[..]));
    assert_eq!(sdes.cname(Ssrc(8)), None);
    let Some(Packet::Bye(bye)) = packets.next() else {
        panic!("no BYE")
    };
    assert!(bye.sources().eq([Ssrc(7)]));
    assert_eq!(bye.reason(), Some(&b"done"[..]));
    assert!(packets.next().is_none());
}

#[test]
fn every_truncation_is_refused() {
    let mut buffer = [0; 200];
    let bytes = compound(&mut buffer);
    for length in 0..bytes.len() {
        let whole_packets = matches!(length, 52 | 72);
        assert_eq!(
            Compound::parse(&bytes[..length]).is_ok(),
            whole_packets,
            "length {length}"
        );
    }
}

#[test]
fn a_compound_begins_with_a_report_unless_reduced_size_was_agreed() {
    let mut buffer = [0; 12];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.picture_loss(Ssrc(1), Ssrc(2)).unwrap();
    let bytes = writer.finish();
    assert_eq!(*bytes, [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
    let error = Compound::parse(bytes).unwrap_err();
    assert_eq!(error, RtcpError::FirstNotReport { packet_type: 206 });
    let mut packets = Compound::parse_reduced_size(bytes).unwrap().packets();
    let Some(Packet::PayloadFeedback(feedback)) = packets.next() else {
        panic!("no PSFB")
    };
    assert_eq!(
        (feedback.format, feedback.sender(), feedback.media()),
        (Feedback::PLI, Ssrc(1), Ssrc(2))
    );
    assert!(feedback.control_information().is_empty());
}

#[test]
fn malformed_packets_have_their_reason() {
    let cases: [(&[u8], RtcpError); 14] = [
        (&[], RtcpError::TooShort { packet_type: 0 }),
        (&[0x80, 201, 0], RtcpError::TooShort { packet_type: 0 }),
        (&[0x40, 201, 0, 1, 0, 0, 0, 1], RtcpError::BadVersion),
        (&[0x80, 201, 0, 0], RtcpError::TooShort { packet_type: 201 }),
        (
            &[0x81, 201, 0, 1, 0, 0, 0, 1],
            RtcpError::TooShort { packet_type: 201 },
        ),
        (
            &[0x80, 200, 0, 1, 0, 0, 0, 1],
            RtcpError::TooShort { packet_type: 200 },
        ),
        (
            &[0x80, 201, 0, 2, 0, 0, 0, 1],
            RtcpError::LengthOverrun { packet_type: 201 },
        ),
        (
            &[0x80, 201, 0xff, 0xff, 0, 0, 0, 1],
            RtcpError::LengthOverrun { packet_type: 201 },
        ),
        // Trailing bytes that are no packet.
        (
            &[0x80, 201, 0, 1, 0, 0, 0, 1, 0x80],
            RtcpError::TooShort { packet_type: 0 },
        ),
        // Padding: not last, zero, not a multiple of four, longer than the packet.
        (
            &[0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0x80, 203, 0, 0],
            RtcpError::PaddingNotLast,
        ),
        (&[0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0], RtcpError::BadPadding),
        (&[0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3], RtcpError::BadPadding),
        (&[0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 12], RtcpError::BadPadding),
        // Padding that leaves too little of the report.
        (
            &[0xa0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 8],
            RtcpError::TooShort { packet_type: 201 },
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(Compound::parse(bytes).unwrap_err(), error, "{bytes:?}");
    }
}

#[test]
fn malformed_bodies_have_their_reason() {
    let too_short = |packet_type| RtcpError::TooShort { packet_type };
    let cases: [(&[u8], RtcpError); 10] = [
        // SDES: no chunk, item without length, item past the end, fewer chunks than announced.
        (&[0x81, 202, 0, 0], RtcpError::BadSdes),
        (&[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 1, 65, 66], RtcpError::BadSdes),
        (&[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 255, 65, 0], RtcpError::BadSdes),
        (&[0x82, 202, 0, 2, 0, 0, 0, 1, 1, 1, 65, 0], RtcpError::BadSdes),
        // BYE: fewer sources than announced, reason past the end.
        (&[0x82, 203, 0, 1, 0, 0, 0, 1], too_short(203)),
        (&[0x81, 203, 0, 2, 0, 0, 0, 1, 4, 65, 66, 67], too_short(203)),
        // APP and feedback without their fixed part.
        (&[0x80, 204, 0, 1, 0, 0, 0, 1], too_short(204)),
        (&[0x81, 205, 0, 1, 0, 0, 0, 1], too_short(205)),
        // XR: no author, block past the end.
        (&[0x80, 207, 0, 0], too_short(207)),
        (&[0x80, 207, 0, 2, 0, 0, 0, 1, 7, 0, 0, 1], RtcpError::BadXr),
    ];
    for (bytes, error) in cases {
        assert_eq!(
            Compound::parse_reduced_size(bytes).unwrap_err(),
            error,
            "{bytes:?}"
        );
    }
}

#[test]
fn nacks_name_every_missing_packet() {
    let bytes = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0x80, 0x01];
    let mut packets = Compound::parse_reduced_size(&bytes).unwrap().packets();
    let Some(Packet::TransportFeedback(feedback)) = packets.next() else {
        panic!("no RTPFB")
    };
    assert_eq!(feedback.format, Feedback::NACK);
    assert!(feedback.nacked().eq([0xffff, 0, 15]));
}

#[test]
fn sdes_items_of_several_chunks_are_found() {
    #[rustfmt::skip]
    let bytes = [
        0x82, 202, 0, 6,
        0, 0, 0, 1, 1, 3, b'a', b'b', b'c', 0, 0, 0,
        0, 0, 0, 2, 6, 1, b't', 1, 1, b'c', 0, 0,
    ];
    let mut packets = Compound::parse_reduced_size(&bytes).unwrap().packets();
    let Some(Packet::SourceDescription(sdes)) = packets.next() else {
        panic!("no SDES")
    };
    assert_eq!(sdes.chunks().count(), 2);
    assert_eq!(sdes.cname(Ssrc(1)), Some(&b"abc"[..]));
    assert_eq!(sdes.cname(Ssrc(2)), Some(&b"c"[..]));
    let second = sdes.chunks().nth(1).unwrap();
    let kinds: Vec<_> = second.items().map(|item| item.kind).collect();
    assert_eq!(kinds, [SdesKind::Tool, SdesKind::Cname]);
    for number in 0..=255 {
        assert_eq!(u8::from(SdesKind::from(number)), number);
    }
}

#[test]
fn a_list_without_null_octets_may_end_the_packet() {
    let bytes = [0x81, 202, 0, 2, 0, 0, 0, 1, 1, 2, b'a', b'b'];
    let mut packets = Compound::parse_reduced_size(&bytes).unwrap().packets();
    let Some(Packet::SourceDescription(sdes)) = packets.next() else {
        panic!("no SDES")
    };
    assert_eq!(sdes.cname(Ssrc(1)), Some(&b"ab"[..]));
}

#[test]
fn app_and_unknown_packets_are_handed_over() {
    let bytes = [
        0x85, 204, 0, 3, 0, 0, 0, 9, b'n', b'a', b'm', b'e', 1, 2, 3, 4, 0x80, 208, 0, 1, 5, 6, 7, 8,
    ];
    let mut packets = Compound::parse_reduced_size(&bytes).unwrap().packets();
    let Some(Packet::App(app)) = packets.next() else {
        panic!("no APP")
    };
    assert_eq!(
        (app.subtype, app.ssrc(), app.name(), app.data()),
        (5, Ssrc(9), *b"name", &[1, 2, 3, 4][..])
    );
    let Some(Packet::Unknown(unknown)) = packets.next() else {
        panic!("nothing unknown")
    };
    assert_eq!(
        (unknown.packet_type, unknown.count, unknown.body),
        (208, 0, &[5, 6, 7, 8][..])
    );
}

#[test]
fn voip_metrics_are_read_field_by_field() {
    let mut bytes = [0; 8 + 4 + 4 + VoipMetrics::BYTES];
    bytes[..8].copy_from_slice(&[0x80, 207, 0, 11, 0, 0, 0, 1]);
    // An unknown empty block first, then the metrics, whose bytes count up.
    bytes[8..12].copy_from_slice(&[99, 0, 0, 0]);
    bytes[12..16].copy_from_slice(&[7, 0, 0, 8]);
    for (n, byte) in bytes[16..].iter_mut().enumerate() {
        *byte = n as u8;
    }
    bytes[16 + 17] = 0xc0;
    let mut packets = Compound::parse_reduced_size(&bytes).unwrap().packets();
    let Some(Packet::ExtendedReport(report)) = packets.next() else {
        panic!("no XR")
    };
    assert_eq!(report.ssrc(), Ssrc(1));
    assert_eq!(report.blocks().count(), 2);
    let metrics = report.blocks().find_map(|block| block.voip_metrics()).unwrap();
    assert_eq!(metrics.ssrc, Ssrc(0x0001_0203));
    assert_eq!((metrics.loss_rate, metrics.gap_density), (4, 7));
    assert_eq!(
        (metrics.burst_duration_ms, metrics.gap_duration_ms),
        (0x0809, 0x0a0b)
    );
    assert_eq!(
        (metrics.round_trip_ms, metrics.end_system_delay_ms),
        (0x0c0d, 0x0e0f)
    );
    assert_eq!((metrics.signal_level, metrics.noise_level), (16, -64));
    assert_eq!(
        (metrics.r_factor, metrics.mos_lq_x10, metrics.mos_cq_x10),
        (20, 22, 23)
    );
    assert_eq!(metrics.jitter_buffer_abs_max_ms, 0x1e1f);
    let short = XrBlock {
        block_type: XrBlock::VOIP_METRICS,
        type_specific: 0,
        data: &[0; 28],
    };
    assert_eq!(short.voip_metrics(), None);
}

#[test]
fn a_full_buffer_keeps_what_it_holds() {
    let mut buffer = [0; 20];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.receiver_report(Ssrc(1), &[]).unwrap();
    let error = writer.sdes_cname(Ssrc(1), b"too-long").unwrap_err();
    assert_eq!(
        error,
        NoSpace {
            needed: 20,
            available: 12
        }
    );
    assert_eq!(writer.len(), 8);
    writer.bye(&[Ssrc(1)], b"").unwrap();
    assert_eq!(writer.finish().len(), 16);
}

#[test]
fn what_does_not_fit_a_packet_is_cut_off() {
    let mut buffer = [0; 2048];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.receiver_report(Ssrc(1), &[BLOCK; 40]).unwrap();
    writer.sdes_cname(Ssrc(1), &[b'c'; 300]).unwrap();
    writer.bye(&[Ssrc(1); 40], &[b'r'; 300]).unwrap();
    let mut packets = Compound::parse(writer.finish()).unwrap().packets();
    assert!(matches!(packets.next(), Some(Packet::ReceiverReport(report)) if report.reports.len() == 31));
    assert!(
        matches!(packets.next(), Some(Packet::SourceDescription(sdes)) if sdes.cname(Ssrc(1)).unwrap().len() == 255)
    );
    let Some(Packet::Bye(bye)) = packets.next() else {
        panic!("no BYE")
    };
    assert_eq!(
        (bye.sources().len(), bye.reason().map(<[u8]>::len)),
        (31, Some(255))
    );
}

#[test]
fn cumulative_loss_keeps_its_sign_in_24_bits() {
    for (lost, expected) in [
        (0, 0),
        (-1, -1),
        (0x7f_ffff, 0x7f_ffff),
        (-0x80_0000, -0x80_0000),
        (i32::MAX, 0x7f_ffff),
        (i32::MIN, -0x80_0000),
    ] {
        let block = ReportBlock {
            cumulative_lost: lost,
            ..BLOCK
        };
        assert_eq!(ReportBlock::read(&block.to_bytes()).cumulative_lost, expected);
        assert_eq!(ReportBlock::read(&block.to_bytes()).fraction_lost, 64);
    }
}

#[test]
fn the_round_trip_of_rfc_3550_figure_2() {
    // RFC 3550 §6.4.1, figure 2: A 0xb710:8000, LSR 0xb705:2000, DLSR 0x0005:4000, result 6.125 s.
    let now = NtpTimestamp(0xb710_8000 << 16);
    let block = ReportBlock {
        last_sr: 0xb705_2000,
        delay_since_last_sr: 0x0005_4000,
        ..BLOCK
    };
    assert_eq!(round_trip_time(now, &block), Some(Duration::from_millis(6125)));
    assert_eq!(round_trip_time(now, &ReportBlock { last_sr: 0, ..block }), None);
    assert_eq!(
        round_trip_time(
            now,
            &ReportBlock {
                delay_since_last_sr: 0x000b_6001,
                ..block
            }
        ),
        None
    );
    assert_eq!(
        round_trip_time(
            now,
            &ReportBlock {
                last_sr: 0xb710_8001,
                ..block
            }
        ),
        None
    );
}

#[test]
fn a_call_reports_every_five_seconds_spread_by_half() {
    let inputs = IntervalInputs {
        members: 2,
        senders: 2,
        we_sent: true,
        rtcp_bandwidth: 400,
        average_size: 120,
        initial: false,
        reduced_minimum_kbps: None,
    };
    let seconds = |inputs: &IntervalInputs, random| transmission_interval(inputs, random).as_secs_f64();
    let compensation = std::f64::consts::E - 1.5;
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    close(seconds(&inputs, 0), 2.5 / compensation);
    close(seconds(&inputs, u32::MAX), 7.5 / compensation);
    close(
        seconds(
            &IntervalInputs {
                initial: true,
                ..inputs
            },
            0,
        ),
        1.25 / compensation,
    );
    // 360 / 64 is more than 5 s and therefore no reduction.
    close(
        seconds(
            &IntervalInputs {
                reduced_minimum_kbps: Some(64),
                ..inputs
            },
            0,
        ),
        2.5 / compensation,
    );
    close(
        seconds(
            &IntervalInputs {
                reduced_minimum_kbps: Some(144),
                ..inputs
            },
            0,
        ),
        1.25 / compensation,
    );
    // 1000 members, 100 of them senders: senders share a quarter, listeners the rest.
    let large = IntervalInputs {
        members: 1000,
        senders: 100,
        ..inputs
    };
    close(seconds(&large, 0), 120.0 * 100.0 / 100.0 / 2.0 / compensation);
    close(
        seconds(
            &IntervalInputs {
                we_sent: false,
                ..large
            },
            0,
        ),
        120.0 * 900.0 / 300.0 / 2.0 / compensation,
    );
    let absurd = IntervalInputs {
        members: u32::MAX,
        average_size: u32::MAX,
        rtcp_bandwidth: 0,
        ..large
    };
    assert!(transmission_interval(&absurd, u32::MAX) > Duration::from_secs(1 << 40));
}
