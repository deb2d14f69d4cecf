//! Two phones with Opus. That of `a` knows telephone-events at 8 kHz alone, as many do, that of `b` at 48 kHz.

use crate::world::{Graph, Party, SESSION, Sent, Speaker, World, events, format, peer, rtp, rtp_socket};
use media_engine::{
    command::{Command, EventKind, SendDigit},
    spec::{Codec, PayloadFormat},
};
use rtp::{
    event::{EndCause, EventReceiver, EventSender, Observation, TelephoneEvent},
    header::RtpHeader,
    units::{ClockRate, PayloadType, RtpTimestamp},
};

const OPUS: u8 = 111;
const HZ_8000: ClockRate = ClockRate::HZ_8000;
const HZ_48000: ClockRate = ClockRate::HZ_48000;

fn opus() -> PayloadFormat {
    PayloadFormat {
        channels: 2,
        ..format(OPUS, Codec::Opus, 48_000)
    }
}

fn world() -> (World, Graph) {
    let a = Party::new("a", 0).with_formats(vec![opus(), events(101)]);
    let at_48_khz = format(110, Codec::TelephoneEvent, 48_000);
    let b = Party::new("b", 1).with_formats(vec![opus(), at_48_khz]);
    let graph = Graph::of(vec![a, b], &[("a", "b"), ("b", "a")]);
    let mut world = World::new();
    world.commit(SESSION, &graph);
    (world, graph)
}

/// Somebody who talks and presses keys.
struct Phone {
    number: u32,
    speaker: Speaker,
    events: u8,
    counts: Count,
    /// Timestamps of its events, where they count by themselves.
    own: u32,
}

/// How its events count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Timestamps and durations on the clock of the audio: what RFC 4733 has, and what baresip sends as telephone-event/8000.
    Audio,
    /// Timestamps with the audio, durations at 8 kHz.
    Durations,
    /// All at 8 kHz, the timestamps from a beginning of their own.
    Own,
}

const COUNTS: [Count; 3] = [Count::Audio, Count::Durations, Count::Own];

impl Phone {
    fn a(counts: Count) -> Self {
        Self {
            number: 0,
            speaker: Speaker {
                payload_type: OPUS,
                step: 960,
                ..Speaker::new(0xA)
            },
            events: 101,
            counts,
            own: 77,
        }
    }

    fn b() -> Self {
        Self {
            number: 1,
            speaker: Speaker {
                payload_type: OPUS,
                step: 960,
                ..Speaker::new(0xB)
            },
            events: 110,
            counts: Count::Audio,
            own: 77,
        }
    }

    fn talk(&mut self, world: &mut World, packets: u32) {
        for _ in 0..packets {
            let packet = self.speaker.packet(&[0xFC; 40]);
            world.receive(rtp_socket(self.number), peer(self.number), &packet);
            world.pass_ms(20);
            self.own += 160;
        }
    }

    /// The packets of a key, one for each 20 ms.
    fn press(&mut self, event: u8, ms: u32) -> Vec<Vec<u8>> {
        let (start, per_ms, audio) = match self.counts {
            Count::Audio => (self.speaker.timestamp, 48, HZ_48000),
            Count::Durations => (self.speaker.timestamp, 8, HZ_48000),
            Count::Own => (self.own, 8, HZ_8000),
        };
        let clock = ClockRate::new(per_ms * 1_000).expect("not zero");
        let (length, update) = (ms * per_ms, 20 * per_ms);
        let sender = EventSender::new(event, 10, RtpTimestamp(start), length, update);
        let mut sender = sender.beside(clock, audio);
        let packets = std::iter::from_fn(|| {
            let packet = sender.poll_packet()?;
            let header = RtpHeader {
                payload_type: PayloadType::from_low_bits(self.events),
                timestamp: packet.timestamp,
                ..self.speaker.header(packet.marker)
            };
            self.speaker.sequence = self.speaker.sequence.wrapping_add(1);
            self.speaker.timestamp = self.speaker.timestamp.wrapping_add(960);
            self.own += 160;
            Some(rtp(&header, &packet.payload.to_bytes()))
        });
        packets.collect()
    }

    fn send(&self, world: &mut World, packets: &[Vec<u8>]) {
        for packet in packets {
            world.receive(rtp_socket(self.number), peer(self.number), packet);
            world.pass_ms(20);
        }
    }
}

/// The keys that a phone makes of what it is sent: event, length in ticks, and where it begins.
fn keys(sent: &[Sent], payload_type: u8, clock: ClockRate) -> Vec<(u8, u32, RtpTimestamp)> {
    let mut receiver = EventReceiver::default();
    receiver.set_clocks(clock, HZ_48000);
    let mut keys = Vec::new();
    let now = World::new().now.mono;
    for sent in sent
        .iter()
        .filter(|sent| sent.header().payload_type.value() == payload_type)
    {
        let observe = |observation| {
            if let Observation::Ended {
                event,
                timestamp,
                duration,
                cause,
            } = observation
            {
                assert_eq!(cause, EndCause::EndPacket);
                keys.push((event, duration, timestamp));
            }
        };
        receiver
            .on_packet(now, &sent.header(), sent.payload(), observe)
            .expect("an event");
    }
    assert_eq!(receiver.poll_timeout(), None, "all have ended");
    keys
}

/// How long the keys were that the host told of.
fn told(world: &mut World) -> Vec<(u8, u32)> {
    let ended = |kind| match kind {
        EventKind::DigitEnded {
            event,
            duration_ms,
            inferred: false,
            ..
        } => Some((event, duration_ms)),
        _ => None,
    };
    world.event_kinds().into_iter().filter_map(ended).collect()
}

/// Numbers without a gap, timestamps that never go back, and audio where time has it.
fn assert_one_line(sent: &[Sent]) {
    let first = sent[0].header();
    let mut audio = None;
    for (at, pair) in sent.windows(2).enumerate() {
        let (earlier, later) = (pair[0].header(), pair[1].header());
        assert_eq!(later.sequence.wrapping_sub(earlier.sequence), 1);
        assert!(later.timestamp.diff(earlier.timestamp) >= 0, "packet {at}");
        if later.payload_type.value() == OPUS {
            let expected = 960 * (at as i32 + 1);
            audio = Some(later.timestamp.diff(first.timestamp) - expected);
            assert_eq!(audio, Some(0), "packet {at}");
        }
    }
    assert!(audio.is_some());
}

#[test]
fn a_relay_tells_their_length_on_the_clock_of_the_listener() {
    for counts in COUNTS {
        let (mut world, _) = world();
        let (mut a, mut b) = (Phone::a(counts), Phone::b());
        a.talk(&mut world, 5);
        b.talk(&mut world, 5);
        world.sent_rtp();
        for (speaker, towards, clock) in [(&mut a, 110, HZ_48000), (&mut b, 101, HZ_8000)] {
            let per_ms = clock.hz() / 1_000;
            speaker.talk(&mut world, 5);
            for event in [5, 5, 7] {
                let press = speaker.press(event, 100);
                speaker.send(&mut world, &press);
                speaker.talk(&mut world, 5);
            }
            assert_eq!(told(&mut world), [(5, 100), (5, 100), (7, 100)]);
            let sent = world.sent_rtp();
            assert_eq!(sent.len(), 5 + 3 * (7 + 5));
            assert_one_line(&sent);
            let begin = |number: u32| sent[0].header().timestamp.wrapping_add(960 * number);
            let expected = [(5, 5), (5, 17), (7, 29)].map(|(event, at)| (event, 100 * per_ms, begin(at)));
            assert_eq!(keys(&sent, towards, clock), expected, "{counts:?}");
            let first = TelephoneEvent::parse(sent[5].payload()).expect("an event");
            assert_eq!(u32::from(first.duration), 20 * per_ms);
            assert!(sent[5].header().marker && !sent[6].header().marker);
        }
    }
}

#[test]
fn a_key_that_is_held_is_told_in_the_segments_of_the_listener() {
    for counts in COUNTS {
        let (mut world, _) = world();
        let (mut a, mut b) = (Phone::a(counts), Phone::b());
        a.talk(&mut world, 5);
        b.talk(&mut world, 5);
        world.sent_rtp();
        // 1.4 s at 48 kHz and 8.2 s at 8 kHz are the most that a packet can tell.
        for ms in [3_000, 9_000] {
            for (speaker, towards, clock) in [(&mut a, 110, HZ_48000), (&mut b, 101, HZ_8000)] {
                let per_ms = clock.hz() / 1_000;
                speaker.talk(&mut world, 5);
                let press = speaker.press(3, ms);
                speaker.send(&mut world, &press);
                speaker.talk(&mut world, 5);
                assert_eq!(told(&mut world), [(3, ms)], "{counts:?}");
                let sent = world.sent_rtp();
                assert_eq!(sent.len(), press.len() + 10);
                let begin = sent[0].header().timestamp.wrapping_add(5 * 960);
                assert_eq!(
                    keys(&sent, towards, clock),
                    [(3, ms * per_ms, begin)],
                    "{counts:?}"
                );
                assert!(sent[press.len() + 5].header().timestamp.diff(begin) >= (ms * 48) as i32);
            }
        }
    }
}

#[test]
fn what_was_overtaken_by_the_next_key_is_no_key() {
    for counts in COUNTS {
        let (mut world, _) = world();
        let mut a = Phone::a(counts);
        a.talk(&mut world, 5);
        let (first, second) = (a.press(1, 100), a.press(2, 100));
        let packets = [&first[..6], &second[..2], &first[6..], &second[2..]].concat();
        a.send(&mut world, &packets);
        a.talk(&mut world, 5);
        assert_eq!(told(&mut world), [(1, 100), (2, 100)]);
        let sent = world.sent_rtp();
        let keys = keys(&sent, 110, HZ_48000);
        let lengths: Vec<_> = keys.iter().map(|(event, ticks, _)| (*event, *ticks)).collect();
        assert_eq!(lengths, [(1, 4_800), (2, 4_800)], "{counts:?}");
    }
}

/// Two who both count so: the lengths stay, and each key has one beginning.
#[test]
fn events_at_8_khz_go_from_phone_to_phone() {
    for counts in COUNTS {
        let (mut world, mut graph) = world();
        graph.party("b").send = vec![opus(), events(96)];
        world.commit(SESSION, &graph);
        let mut a = Phone::a(counts);
        a.talk(&mut world, 5);
        let (first, second) = (a.press(1, 100), a.press(2, 9_000));
        let packets = [&first[..6], &second[..2], &first[6..], &second[2..]].concat();
        a.send(&mut world, &packets);
        a.talk(&mut world, 5);
        assert_eq!(told(&mut world), [(1, 100), (2, 9_000)]);
        let keys = keys(&world.sent_rtp(), 96, HZ_8000);
        let lengths: Vec<_> = keys.iter().map(|(event, ticks, _)| (*event, *ticks)).collect();
        assert_eq!(lengths, [(1, 800), (2, 72_000)], "{counts:?}");
    }
}

#[test]
fn a_key_before_any_audio_has_one_beginning() {
    for counts in COUNTS {
        let (mut world, _) = world();
        let mut a = Phone::a(counts);
        let press = a.press(4, 100);
        a.send(&mut world, &press[..2]);
        a.talk(&mut world, 1);
        a.send(&mut world, &press[2..]);
        a.talk(&mut world, 5);
        let sent = world.sent_rtp();
        let begin = sent[0].header().timestamp;
        assert_eq!(keys(&sent, 110, HZ_48000), [(4, 4_800, begin)], "{counts:?}");
        let end = sent[sent.len() - 1].header().timestamp;
        assert!((0..960 * 20).contains(&end.diff(begin)), "{}", end.diff(begin));
    }
}

#[test]
fn what_we_send_begins_on_the_line_and_lasts_on_the_clock_of_events() {
    let (mut world, _) = world();
    let mut b = Phone::b();
    b.talk(&mut world, 5);
    world.sent_rtp();
    let digit = |event, duration_ms| SendDigit {
        event: Some(event),
        duration_ms,
        gap_ms: 100,
        volume: 10,
    };
    let digits = [digit(9, 100), digit(9, 9_000)];
    world.command(Command::SendDigits(SESSION, "a".into(), digits.into()));
    b.talk(&mut world, 480);
    let sent: Vec<_> = world
        .sent_rtp()
        .into_iter()
        .filter(|sent| sent.to == peer(0))
        .collect();
    let keys = keys(&sent, 101, HZ_8000);
    assert_eq!((keys[0].1, keys[1].1), (800, 72_000));
    assert_eq!(keys.len(), 2);
    for pair in sent.windows(2) {
        assert!(pair[1].header().timestamp.diff(pair[0].header().timestamp) >= 0);
    }
    let passed = keys[1].2.diff(keys[0].2);
    assert!(
        (48 * 200..48 * 300).contains(&passed),
        "{passed} ticks from key to key"
    );
}
