//! Sender to receiver over loss, duplication and overtaking: each digit of which one packet arrives is seen
//! started once and ended once, in order.

#![allow(
    clippy::disallowed_methods,
    reason = "an origin to count from; nothing depends on its value"
)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rtp::event::{Digit, EventPacket, EventReceiver, EventSender, Observation};
use rtp::header::RtpHeader;
use rtp::units::{PayloadType, RtpTimestamp, Ssrc};

const PTIME_TICKS: u32 = 160;
const PTIME: Duration = Duration::from_millis(20);

/// What the network does with one packet.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lost,
    Delivered,
    Duplicated,
    /// Arrives behind the packet that follows it.
    Overtaken,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::Lost),
        4 => Just(Fate::Delivered),
        1 => Just(Fate::Duplicated),
        1 => Just(Fate::Overtaken),
    ]
}

/// A packet of the digit of an index, with its number.
type Numbered = (usize, u16, EventPacket);

/// Digits of `lengths` ticks one after the other, 40 ms apart, from a number and a timestamp shortly before the wrap.
fn send(digits: &[(u8, u32)]) -> Vec<Numbered> {
    let mut packets = Vec::new();
    let mut sequence = u16::MAX - 20;
    let mut timestamp = RtpTimestamp(u32::MAX - 1000);
    for (index, &(event, length)) in digits.iter().enumerate() {
        let mut sender = EventSender::new(event, 10, timestamp, length, PTIME_TICKS);
        while let Some(packet) = sender.poll_packet() {
            packets.push((index, sequence, packet));
            sequence = sequence.wrapping_add(1);
        }
        timestamp = timestamp.wrapping_add(length.next_multiple_of(PTIME_TICKS) + 4 * PTIME_TICKS);
    }
    packets
}

fn deliver(packets: &[Numbered], fates: &[Fate]) -> Vec<Numbered> {
    let mut arrived = Vec::new();
    let mut held = None;
    for (&packet, fate) in packets.iter().zip(fates.iter().cycle()) {
        match fate {
            Fate::Lost => continue,
            Fate::Overtaken if held.is_none() => {
                held = Some(packet);
                continue;
            }
            Fate::Delivered | Fate::Overtaken => arrived.push(packet),
            Fate::Duplicated => arrived.extend([packet, packet]),
        }
        arrived.extend(held.take());
    }
    arrived.extend(held);
    arrived
}

fn observe(arrived: &[Numbered]) -> Vec<Observation> {
    let mut receiver = EventReceiver::default();
    let mut seen = Vec::new();
    let mut now = Instant::now();
    for (_, sequence, packet) in arrived {
        now += PTIME;
        receiver.on_timeout(now, |one| seen.push(one));
        let payload = packet.payload.to_bytes();
        let header = RtpHeader {
            marker: packet.marker,
            payload_type: PayloadType::from_low_bits(101),
            sequence: *sequence,
            timestamp: packet.timestamp,
            ssrc: Ssrc(1),
        };
        receiver
            .on_packet(now, &header, &payload, |one| seen.push(one))
            .expect("the sender writes valid payloads");
    }
    if let Some(deadline) = receiver.poll_timeout() {
        receiver.on_timeout(deadline, |one| seen.push(one));
    }
    assert_eq!(receiver.poll_timeout(), None);
    seen
}

proptest! {
    #[test]
    fn whatever_the_network_does(
        digits in prop::collection::vec((0u8..17, 1u32..3000), 1..8),
        fates in prop::collection::vec(fate(), 1..60),
    ) {
        let arrived = deliver(&send(&digits), &fates);
        let seen = observe(&arrived);
        // Digits in the order in which a first packet of each arrived; one overtaken entirely by the next
        // digit is late, and the receiver never goes back.
        let mut expected = Vec::new();
        for (index, ..) in arrived {
            if expected.last().is_none_or(|last| *last < index) {
                expected.push(index);
            }
        }
        let expected: Vec<_> = expected.iter().map(|index| digits[*index].0).collect();
        prop_assert_eq!(seen.len(), 2 * expected.len());
        for (pair, digit) in seen.chunks_exact(2).zip(expected) {
            let &[Observation::Started { event, timestamp, .. }, ended] = pair else { panic!("{pair:?}") };
            let Observation::Ended { event: ended_event, timestamp: ended_timestamp, .. } = ended else {
                panic!("{pair:?}")
            };
            prop_assert_eq!((event, timestamp), (digit, ended_timestamp));
            prop_assert_eq!(ended_event, digit);
            prop_assert!(Digit::from_event(event).is_some());
        }
    }
}

#[test]
fn a_key_held_for_half_a_minute_is_one_digit_although_half_of_its_packets_are_lost() {
    let packets = send(&[(5, 240_000)]);
    let seen = observe(&deliver(&packets, &[Fate::Delivered, Fate::Lost]));
    let &[
        Observation::Started { event: 5, .. },
        Observation::Ended {
            event: 5, duration, ..
        },
    ] = &seen[..]
    else {
        panic!("{seen:?}")
    };
    assert_eq!(duration, 240_000);
}
