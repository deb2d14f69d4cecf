//! Entry points for fuzzers and the corpus replay: parse anything, and check what was read against itself.
//!
//! Each function panics if and only if the crate contradicts itself.

use std::time::{Duration, Instant};

use crate::demux::{Kind, classify};
use crate::event::{EventReceiver, Observation, TelephoneEvent};
use crate::header::{FIXED_HEADER_BYTES, RtpHeader, RtpReader, RtpView};
use crate::rtcp::{Compound, Packet, RtcpError, RtcpWriter};
use crate::units::{ClockRate, PayloadType, RtpTimestamp, Ssrc};

/// Longest input looked at: a UDP datagram.
const INPUT_BYTES_MAX: usize = 65_535;

/// Read `data` as RTP; edit it in place and back again.
pub fn fuzz_rtp(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let mut copy = data.to_vec();
    let reader = match (RtpReader::parse(data), RtpView::parse(&mut copy)) {
        (Ok(reader), Ok(_)) => reader,
        (Err(reader), Err(view)) => return assert_eq!(reader, view),
        (reader, view) => panic!("reader {reader:?} and view {view:?} disagree"),
    };
    assert!(RtpReader::parse_encrypted(data).is_ok());
    assert!(matches!(classify(data), Kind::Rtp | Kind::Rtcp));

    let view = RtpView::parse(&mut copy).expect("it parsed a moment ago");
    assert_eq!(view.header(), reader.header());
    assert_eq!(view.payload(), reader.payload());
    assert_eq!(view.extension(), reader.extension());
    assert_eq!(view.header_len(), reader.header_len());
    assert_eq!(
        reader.header_len() + reader.payload().len() + reader.padding_len(),
        data.len()
    );
    assert_eq!(reader.csrcs().len(), reader.csrc_count());
    assert_eq!(reader.has_extension(), reader.extension().is_some());
    if let Some(extension) = reader.extension() {
        assert_eq!(extension.data.end, reader.header_len());
        assert!(extension.data.start >= FIXED_HEADER_BYTES + 4 * reader.csrc_count() + 4);
    }
    edit_and_restore(data, &mut copy);
}

fn edit_and_restore(original: &[u8], copy: &mut [u8]) {
    let header = RtpReader::parse(original).expect("the caller parsed it").header();
    let mut view = RtpView::parse(copy).expect("the caller parsed it");
    view.set_marker(!header.marker);
    view.set_payload_type(PayloadType::from_low_bits(!header.payload_type.value()));
    view.set_sequence(!header.sequence);
    view.set_timestamp(RtpTimestamp(!header.timestamp.0));
    view.set_ssrc(Ssrc(!header.ssrc.0));
    let edited = view.header();
    assert_eq!(edited.sequence, !header.sequence);
    // Every bit behind the first byte was inverted, nothing else.
    assert_eq!(copy[0], original[0]);
    assert!(
        copy[1..FIXED_HEADER_BYTES]
            .iter()
            .zip(&original[1..])
            .all(|(new, old)| *new == !*old)
    );
    assert_eq!(copy[FIXED_HEADER_BYTES..], original[FIXED_HEADER_BYTES..]);
    RtpView::parse(copy)
        .expect("lengths did not change")
        .set_header(&header);
    assert_eq!(copy, original);
}

/// Read `data` as RTCP, full and reduced-size; write again what the writer can write.
pub fn fuzz_rtcp(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let reduced = Compound::parse_reduced_size(data);
    match (Compound::parse(data), &reduced) {
        (Ok(_), Ok(_)) | (Err(RtcpError::FirstNotReport { .. }), _) => {}
        (Err(full), Err(reduced)) => assert_eq!(full, *reduced),
        (full, reduced) => panic!("full {full:?} and reduced-size {reduced:?} disagree"),
    }
    let Ok(compound) = reduced else { return };
    let mut headers = 0;
    for packet in compound.packets() {
        headers += 1;
        rewrite(&packet);
        walk(&packet);
    }
    assert!(headers * 4 <= data.len());
    assert_eq!(headers, count_packets(data), "iteration stopped early");
}

/// Counts packets by their length fields alone.
fn count_packets(mut data: &[u8]) -> usize {
    let mut count = 0;
    while let Some(&[_, _, high, low]) = data.first_chunk() {
        data = &data[4 + 4 * usize::from(u16::from_be_bytes([high, low]))..];
        count += 1;
    }
    count
}

/// Write the packet, read it back, write it again: both writings must be the same.
fn rewrite(packet: &Packet<'_>) {
    let mut first = [0; 2048];
    let Some(first_len) = write(packet, &mut first) else {
        return;
    };
    let again = Compound::parse_reduced_size(&first[..first_len]).expect("own writing parses");
    let again = again.packets().next().expect("one packet was written");
    let mut second = [0; 2048];
    assert_eq!(write(&again, &mut second), Some(first_len));
    assert_eq!(first, second);
}

fn write(packet: &Packet<'_>, out: &mut [u8]) -> Option<usize> {
    let mut writer = RtcpWriter::new(out);
    match packet {
        Packet::SenderReport(report) => {
            let blocks: Vec<_> = report.reports.collect();
            writer.sender_report(report.ssrc, &report.info, &blocks).ok()?;
        }
        Packet::ReceiverReport(report) => {
            let blocks: Vec<_> = report.reports.collect();
            writer.receiver_report(report.ssrc, &blocks).ok()?;
        }
        Packet::SourceDescription(sdes) => {
            let chunk = sdes.chunks().next()?;
            writer.sdes_cname(chunk.ssrc, sdes.cname(chunk.ssrc)?).ok()?;
        }
        Packet::Bye(bye) => {
            let sources: Vec<_> = bye.sources().collect();
            writer.bye(&sources, bye.reason().unwrap_or_default()).ok()?;
        }
        Packet::PayloadFeedback(feedback) => writer.picture_loss(feedback.sender(), feedback.media()).ok()?,
        Packet::App(_) | Packet::TransportFeedback(_) | Packet::ExtendedReport(_) | Packet::Unknown(_) => {
            return None;
        }
    }
    Some(writer.len())
}

/// Touch everything that can be read.
fn walk(packet: &Packet<'_>) {
    match packet {
        Packet::SenderReport(report) => assert!(report.reports.len() <= 31),
        Packet::ReceiverReport(report) => assert!(report.reports.len() <= 31),
        Packet::SourceDescription(sdes) => {
            for chunk in sdes.chunks() {
                assert!(
                    chunk
                        .items()
                        .all(|item| item.value.len() <= 255 && u8::from(item.kind) != 0)
                );
            }
        }
        Packet::Bye(bye) => assert!(bye.sources().len() <= 31),
        Packet::App(app) => assert!(app.data().len().is_multiple_of(4) && app.name().len() == 4),
        Packet::TransportFeedback(feedback) | Packet::PayloadFeedback(feedback) => {
            let entries = feedback.control_information().len() / 4;
            assert!(feedback.nacked().count() <= 17 * entries);
        }
        Packet::ExtendedReport(report) => {
            let total: usize = report.blocks().map(|block| 4 + block.data.len()).sum();
            assert!(report.blocks().filter_map(|block| block.voip_metrics()).count() * 36 <= total);
        }
        Packet::Unknown(unknown) => assert!(unknown.body.len().is_multiple_of(4)),
    }
}

/// Read `data` as one telephone-event payload, and as a script of packets for a receiver: nine bytes each
/// (milliseconds since the last; marker, clock of the audio and step of the number; timestamp step; payload).
pub fn fuzz_event(data: &[u8]) {
    if let Ok(block) = TelephoneEvent::parse(data) {
        assert_eq!(block.to_bytes(), data[..4]);
    }
    let (packets, _) = data.as_chunks::<9>();
    let mut receiver = EventReceiver::default();
    // The receiver only compares moments with each other, so any origin will do.
    let mut now = fuzz_epoch();
    let (mut sequence, mut timestamp) = (0_u16, RtpTimestamp(0));
    let mut running: Option<(u8, RtpTimestamp)> = None;
    let mut check = |observation| match observation {
        Observation::Started { event, timestamp, .. } => {
            assert_eq!(
                running.replace((event, timestamp)),
                None,
                "started inside another event"
            );
        }
        Observation::Ended { event, timestamp, .. } => {
            assert_eq!(
                running.take(),
                Some((event, timestamp)),
                "ended what had not started"
            );
        }
    };
    for [ms, marker, step @ .., p0, p1, p2, p3] in packets {
        now += Duration::from_millis(u64::from(*ms));
        let [s0, s1, s2] = *step;
        // Signed 24 bits, so that timestamps go back as well.
        let step = i32::from_be_bytes([s0, s1, s2, 0]) >> 8;
        timestamp = timestamp.wrapping_add(step as u32);
        // The next number, or one of a few before and after it.
        sequence = sequence.wrapping_add_signed(1 + i16::from((*marker).cast_signed() >> 4));
        let header = RtpHeader {
            marker: marker & 1 != 0,
            payload_type: PayloadType::from_low_bits(101),
            sequence,
            timestamp,
            ssrc: Ssrc(0),
        };
        let audio = match marker & 2 {
            0 => ClockRate::HZ_8000,
            _ => ClockRate::HZ_48000,
        };
        receiver.set_clocks(ClockRate::HZ_8000, audio);
        let outcome = receiver.on_packet(now, &header, &[*p0, *p1, *p2, *p3], &mut check);
        assert_eq!(outcome, Ok(()));
        receiver.place_of(timestamp, u16::from_be_bytes([*p2, *p3]));
        if let Some(deadline) = receiver.poll_timeout() {
            assert!(deadline > now);
        }
    }
    receiver.finish(&mut check);
    assert_eq!(receiver.poll_timeout(), None);
    assert_eq!(running, None, "an event did not end");
}

#[expect(
    clippy::disallowed_methods,
    reason = "an origin to count from; nothing depends on its value"
)]
fn fuzz_epoch() -> Instant {
    Instant::now()
}
