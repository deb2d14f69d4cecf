use codecs::tone::{CallProgress, Country};

use crate::world::{
    Graph, Party, SESSION, Sent, Speaker, World, events, format, pcmu, peer, player, rtp, rtp_socket,
};
use media_engine::command::{Command, DigitSource, DropReason, EventKind, SendDigit};
use media_engine::spec::{Codec, DigitPolicy, PlaySource};
use rtp::{event::TelephoneEvent, header::RtpHeader};

/// The packets of one key press of 100 ms: five updates and three ends, all with the timestamp of the start.
fn press(speaker: &mut Speaker, event: u8) -> Vec<Vec<u8>> {
    let start = speaker.timestamp;
    let packets = (1..=7u16).map(|n| {
        let block = TelephoneEvent {
            event,
            end: n >= 5,
            reserved: false,
            volume: 10,
            duration: 160 * n.min(5),
        };
        let header = RtpHeader {
            payload_type: rtp::units::PayloadType::from_low_bits(101),
            timestamp: rtp::units::RtpTimestamp(start),
            ..speaker.header(n == 1)
        };
        speaker.sequence = speaker.sequence.wrapping_add(1);
        speaker.timestamp = speaker.timestamp.wrapping_add(160);
        rtp(&header, &block.to_bytes())
    });
    packets.collect()
}

fn digits(world: &mut World) -> Vec<EventKind> {
    let is_digit = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::DigitStarted { .. } | EventKind::DigitEnded { .. }
        )
    };
    world.event_kinds().into_iter().filter(is_digit).collect()
}

fn whole(event: u8) -> [EventKind; 2] {
    [
        EventKind::DigitStarted {
            event,
            source: DigitSource::TelephoneEvent,
        },
        EventKind::DigitEnded {
            event,
            source: DigitSource::TelephoneEvent,
            duration_ms: 100,
            inferred: false,
            volume: Some(10),
        },
    ]
}

#[test]
fn every_digit_is_told_once_and_in_order_and_forwarded_packet_by_packet() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("b").send = vec![pcmu(), events(96)];
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    let mut expected = Vec::new();
    for event in [1, 2, 2, 11, 16] {
        let packets = press(&mut a, event);
        expected.extend(whole(event));
        // Two lost, of which one is an end; one twice.
        for n in [0, 1, 3, 4, 4, 6] {
            world.receive(rtp_socket(0), peer(0), &packets[n]);
            world.pass_ms(20);
        }
        world.receive(rtp_socket(0), peer(0), &a.packet(&[0xFF; 160]));
    }
    assert_eq!(digits(&mut world), expected);
    assert_eq!(world.endpoint("a").digits, 5);
    let sent = world.sent_rtp();
    assert_eq!(sent.len(), 5 * 6);
    for press in sent.chunks(6) {
        let start = press[0].header();
        assert!(start.marker);
        assert!(
            press[..5]
                .iter()
                .all(|sent| sent.header().payload_type.value() == 96)
        );
        assert!(
            press[..5]
                .iter()
                .all(|sent| sent.header().timestamp == start.timestamp)
        );
        assert_eq!(press[5].header().payload_type.value(), 0);
        let numbers: Vec<_> = press
            .iter()
            .map(|sent| sent.header().sequence.wrapping_sub(start.sequence))
            .collect();
        assert_eq!(
            numbers,
            [0, 1, 3, 4, 6, 7],
            "losses stay visible, doubles are gone"
        );
    }
}

#[test]
fn a_digit_whose_ends_are_lost_is_ended_by_time() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    for packet in &press(&mut a, 7)[..3] {
        world.receive(rtp_socket(0), peer(0), packet);
        world.pass_ms(20);
    }
    assert_eq!(
        digits(&mut world),
        [EventKind::DigitStarted {
            event: 7,
            source: DigitSource::TelephoneEvent
        }]
    );
    world.pass_ms(250);
    let ended = EventKind::DigitEnded {
        event: 7,
        source: DigitSource::TelephoneEvent,
        duration_ms: 60,
        inferred: true,
        volume: Some(10),
    };
    assert_eq!(digits(&mut world), [ended]);
}

/// It begins with another key, so that nothing of its audio says which of the two SSRCs is the old one.
#[test]
fn what_was_overtaken_by_a_restart_of_the_phone_is_not_told_again() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[0xFF; 160]));
    let (before, after) = (press(&mut a, 2), press(&mut Speaker::new(0xB), 3));
    let packets = [&before[..4], &after[..2], &before[4..6], &after[2..]].concat();
    for packet in &packets {
        world.receive(rtp_socket(0), peer(0), packet);
        world.pass_ms(20);
    }
    let ended = EventKind::DigitEnded {
        event: 2,
        source: DigitSource::TelephoneEvent,
        duration_ms: 80,
        inferred: true,
        volume: Some(10),
    };
    let [begun, _] = whole(2);
    let [next, next_ended] = whole(3);
    assert_eq!(digits(&mut world), [begun, ended, next, next_ended]);
}

/// Zero is an SSRC like any other, also as the second one.
#[test]
fn keys_under_any_two_ssrcs_are_told() {
    for [first, second] in [[0xA, 0], [0, 0xA], [0xA, 0xB]] {
        let mut world = World::new();
        world.commit(SESSION, &Graph::call());
        world.receive(rtp_socket(0), peer(0), &Speaker::new(0xC).packet(&[0xFF; 160]));
        let before = press(&mut Speaker::new(first), 2);
        for packet in before[..2].iter().chain(&press(&mut Speaker::new(second), 3)) {
            world.receive(rtp_socket(0), peer(0), packet);
            world.pass_ms(20);
        }
        let told = digits(&mut world);
        assert_eq!(told[..1], whole(2)[..1], "{first} and {second}");
        assert_eq!(told[2..], whole(3), "{first} and {second}");
    }
}

#[test]
fn blocked_digits_are_heard_and_not_passed_on() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.edges[0].digits = DigitPolicy::Block;
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[0xFF; 160]));
    for packet in press(&mut a, 3) {
        world.receive(rtp_socket(0), peer(0), &packet);
    }
    world.receive(rtp_socket(0), peer(0), &a.packet(&[0xFF; 160]));
    assert_eq!(digits(&mut world), whole(3));
    let sent = world.sent_rtp();
    assert_eq!(sent.len(), 2);
    assert_eq!(
        sent[1].header().sequence.wrapping_sub(sent[0].header().sequence),
        1
    );
    assert_eq!(
        sent[1].header().timestamp.diff(sent[0].header().timestamp),
        8 * 160
    );
}

#[test]
fn a_malformed_event_is_passed_on_and_shows_nothing() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    a.payload_type = 101;
    for payload in [&[][..], &[1], &[1, 2, 3], &[1, 2, 3, 4, 5]] {
        world.receive(rtp_socket(0), peer(0), &a.packet(payload));
    }
    assert_eq!(digits(&mut world), []);
    assert_eq!(world.sent_rtp().len(), 4);
}

#[test]
fn digits_we_send_take_the_place_of_audio_on_the_same_line() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("b").send = vec![pcmu(), events(97)];
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    let mut line: Vec<Sent> = Vec::new();
    let talk = |world: &mut World, a: &mut Speaker, line: &mut Vec<Sent>, packets: u32| {
        for _ in 0..packets {
            world.receive(rtp_socket(0), peer(0), &a.packet(&[0xFF; 160]));
            world.pass_ms(20);
            line.extend(world.sent_rtp().into_iter().filter(|sent| sent.to == peer(1)));
        }
    };
    talk(&mut world, &mut a, &mut line, 10);
    let digit = |event| SendDigit {
        event: Some(event),
        duration_ms: 100,
        gap_ms: 60,
        volume: 12,
    };
    let pause = SendDigit {
        event: None,
        duration_ms: 200,
        gap_ms: 0,
        volume: 0,
    };
    let dial = [digit(4), pause, digit(11)];
    world.command(Command::SendDigits(SESSION, "b".into(), dial.into()));
    talk(&mut world, &mut a, &mut line, 60);

    for pair in line.windows(2) {
        let (earlier, later) = (pair[0].header(), pair[1].header());
        assert_eq!(
            later.sequence.wrapping_sub(earlier.sequence),
            1,
            "one number after the other"
        );
        assert!(later.timestamp.diff(earlier.timestamp) >= 0);
        assert_eq!(later.ssrc, earlier.ssrc);
    }
    let is_event = |sent: &&Sent| sent.header().payload_type.value() == 97;
    let sent: Vec<_> = line.iter().filter(is_event).collect();
    let blocks: Vec<_> = sent
        .iter()
        .map(|sent| TelephoneEvent::parse(sent.payload()).expect("a block"))
        .collect();
    for (event, range) in [(4, 0..7), (11, 7..14)] {
        let blocks = &blocks[range.clone()];
        assert!(
            blocks
                .iter()
                .all(|block| block.event == event && block.volume == 12)
        );
        assert_eq!(
            blocks
                .iter()
                .filter(|block| block.end && block.duration == 800)
                .count(),
            3
        );
        assert_eq!(blocks.iter().filter(|block| !block.end).count(), 4);
        let starts: Vec<_> = sent[range].iter().map(|sent| sent.header()).collect();
        assert!(
            starts
                .iter()
                .all(|header| header.timestamp == starts[0].timestamp)
        );
        assert_eq!(starts.iter().filter(|header| header.marker).count(), 1);
        assert!(starts[0].marker);
    }
    assert_eq!(blocks.len(), 14);
    // No audio between the first and the last packet of a digit.
    let kinds: String = line
        .iter()
        .map(|sent| if is_event(&sent) { 'e' } else { '.' })
        .collect();
    assert_eq!(kinds.matches("eeeeeee").count(), 2, "{kinds}");
    assert_eq!(
        kinds.split('.').filter(|run| !run.is_empty()).count(),
        2,
        "{kinds}"
    );
    assert_eq!(world.engine.totals().drops, [0; DropReason::COUNT]);
}

#[test]
fn digits_are_sent_also_to_who_hears_nobody_and_not_to_who_takes_none() {
    let mut world = World::new();
    let video = format(96, Codec::Opaque, 90_000);
    let parties = vec![Party::new("a", 0), Party::new("b", 1).with_formats(vec![video])];
    world.commit(SESSION, &Graph::of(parties, &[]));
    let digit = SendDigit {
        event: Some(1),
        duration_ms: 40,
        gap_ms: 0,
        volume: 10,
    };
    for node in ["a", "b", "nobody"] {
        world.command(Command::SendDigits(SESSION, node.into(), [digit; 2].into()));
    }
    world.pass_ms(1_000);
    let sent = world.sent_rtp();
    assert_eq!(sent.len(), 2 * 4);
    assert!(sent.iter().all(|sent| sent.to == peer(0)));
    assert_eq!(
        sent[4].header().sequence.wrapping_sub(sent[0].header().sequence),
        4
    );
    let between = sent[4].header().timestamp.diff(sent[0].header().timestamp);
    assert!(
        (480..=960).contains(&between),
        "{between} ticks: the second begins after the first"
    );
}

#[test]
fn a_peer_that_floods_digits_is_told_within_bounds_and_in_pairs() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    for n in 0..1_000u32 {
        for packet in press(&mut a, (n % 10) as u8) {
            world.receive(rtp_socket(0), peer(0), &packet);
        }
    }
    let told = digits(&mut world);
    assert_eq!(
        told.len(),
        2 * media_engine::limits::PEER_EVENTS_PER_SECOND_MAX as usize
    );
    for pair in told.chunks(2) {
        assert!(matches!(pair[0], EventKind::DigitStarted { .. }));
        assert!(matches!(pair[1], EventKind::DigitEnded { .. }));
    }
    assert_eq!(world.engine.lost_events(), 0);
    world.pass_ms(1_000);
    for packet in press(&mut a, 3) {
        world.receive(rtp_socket(0), peer(0), &packet);
    }
    assert_eq!(digits(&mut world), whole(3));
}

/// Whoever has the beginning of a digit in packets is not sent it once more when the edit that ends them comes in its middle.
#[test]
fn a_key_that_is_held_over_an_edit_is_passed_on_once() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.endpoints.push(Party::new("c", 2));
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    a.step = 160;
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1; 160]));
    world.pass_ms(20);
    let mut sent = Vec::new();
    for event in [5, 6] {
        for (n, packet) in press(&mut a, event).iter().enumerate() {
            if (event, n) == (5, 3) {
                // b hears a and c from now on.
                graph.hear(&[("a", "b"), ("b", "a"), ("c", "b")]);
                world.commit(SESSION, &graph);
            }
            world.receive(rtp_socket(0), peer(0), packet);
            world.pass_ms(20);
            sent.extend(world.sent_rtp());
        }
        world.pass_ms(500);
        sent.extend(world.sent_rtp());
    }
    let digits: Vec<(u8, bool)> = sent
        .iter()
        .filter(|sent| sent.socket == rtp_socket(1) && sent.header().payload_type.value() == 101)
        .map(|sent| (sent.payload()[0], sent.header().marker))
        .collect();
    let begun = digits.iter().filter(|(_, begins)| *begins);
    let begun: Vec<u8> = begun.map(|(event, _)| *event).collect();
    assert_eq!(begun, [5, 6], "{digits:?}");
    assert_eq!(digits.iter().filter(|(event, _)| *event == 5).count(), 3);
}

/// A gateway that sends its digits under an SSRC of their own, in the place of audio or beside it: nothing of the audio is
/// lost for them, and each is told and passed on once.
#[test]
fn digits_under_an_ssrc_of_their_own_leave_the_audio_alone() {
    for beside in [false, true] {
        let mut world = World::new();
        world.commit(SESSION, &Graph::call());
        let (mut a, mut keys) = (Speaker::new(0xA), Speaker::new(0xD));
        let (mut spoken, mut expected) = (0, Vec::new());
        let mut talk = |world: &mut World, packets: u8, spoken: &mut u8| {
            for _ in 0..packets {
                *spoken += 1;
                world.receive(rtp_socket(0), peer(0), &a.packet(&[*spoken; 160]));
                if packets > 1 {
                    world.pass_ms(20);
                }
            }
        };
        talk(&mut world, 10, &mut spoken);
        for event in [4, 4, 2] {
            for packet in press(&mut keys, event) {
                world.receive(rtp_socket(0), peer(0), &packet);
                if beside {
                    talk(&mut world, 1, &mut spoken);
                }
                world.pass_ms(20);
            }
            expected.extend(whole(event));
            talk(&mut world, 3, &mut spoken);
            keys.timestamp = keys.timestamp.wrapping_add(480);
        }
        assert_eq!(digits(&mut world), expected);
        let ingress = world.endpoint("a").ingress;
        assert_eq!((ingress.ssrc_changes, ingress.lost), (0, 0));
        let sent = world.sent_rtp();
        let is_event = |sent: &&Sent| sent.header().payload_type.value() == 101;
        let audio: Vec<u8> = sent
            .iter()
            .filter(|sent| !is_event(sent))
            .map(|sent| sent.payload()[0])
            .collect();
        assert_eq!(audio, (1..=spoken).collect::<Vec<_>>());
        for pair in sent.windows(2) {
            let (before, after) = (pair[0].header(), pair[1].header());
            assert_eq!(after.sequence, before.sequence.wrapping_add(1));
            assert_eq!(after.ssrc, before.ssrc);
        }
        let events: Vec<&Sent> = sent.iter().filter(is_event).collect();
        let starts: Vec<u32> = events.iter().map(|sent| sent.header().timestamp.0).collect();
        let mut different = starts.clone();
        different.dedup();
        assert_eq!((starts.len(), different.len()), (21, 3), "{starts:?}");
        assert!(
            different
                .windows(2)
                .all(|pair| pair[1].wrapping_sub(pair[0]) < 8_000)
        );
        assert!(events.chunks(7).all(|press| press[0].header().marker));
    }
}

/// What ends with music, such as a hold, leaves its mix behind, which writes digits no more: also where no audio comes
/// before them.
#[test]
fn digits_after_music_are_passed_on_once() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[0xFF; 160]));
    let music = PlaySource::Tone(Country::De, CallProgress::Dial);
    graph.others.push(player("music", &[music]));
    graph.hear(&[("music", "b"), ("b", "a")]);
    world.commit(SESSION, &graph);
    world.pass_ms(400);
    graph.others.clear();
    graph.hear(&[("a", "b"), ("b", "a")]);
    world.commit(SESSION, &graph);
    world.pass_ms(400);
    world.sent_rtp();
    for event in [1, 2] {
        for packet in press(&mut a, event) {
            world.receive(rtp_socket(0), peer(0), &packet);
            world.pass_ms(20);
        }
    }
    world.pass_ms(1_000);
    let pressed: Vec<u8> = world.sent_rtp().iter().map(|sent| sent.payload()[0]).collect();
    assert_eq!(pressed, [[1; 7], [2; 7]].concat());
}
