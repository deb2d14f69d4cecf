//! G.711 and Opus, G.722 and G.711: each is heard by the other, at its level, on one line, with the ptime asked for.

use codecs::CodecKind;
use media_engine::{
    command::PlanKind,
    spec::{Codec, DigitPolicy},
};

use crate::{
    tones::{Ear, LOUD, Voice, talk},
    world::{Graph, Party, SESSION, Sent, World, events, format, pcma, peer, rtp_socket},
};

const KINDS: &[(u8, CodecKind)] = &[
    (0, CodecKind::Pcmu),
    (8, CodecKind::Pcma),
    (9, CodecKind::G722),
    (111, CodecKind::Opus),
];

#[test]
fn opus_and_g711_hear_each_other() {
    let mut world = World::new();
    let mut opus = format(111, Codec::Opus, 48_000);
    opus.channels = 2;
    let mut graph = Graph::call();
    graph.endpoints[0] = Party::new("a", 0).with_formats(vec![opus]);
    graph.endpoints[1] = Party::new("b", 1).with_formats(vec![pcma()]);
    world.commit(SESSION, &graph);
    let mut a = Voice::new(0, 440.0, CodecKind::Opus, 111);
    let mut b = Voice::new(1, 1_100.0, CodecKind::Pcma, 8);
    talk(&mut world, &mut [&mut a, &mut b], 1_000);
    let sent = world.sent_rtp();
    for (number, own, other) in [(0, 440, 1_100), (1, 1_100, 440)] {
        let mut ear = Ear::default();
        ear.hear(&sent, number, KINDS);
        let levels = ear.levels(&[440.0, 1_100.0]);
        assert!(
            (LOUD * 0.7..LOUD * 1.3).contains(&levels[&other]),
            "{number} hears {levels:?}"
        );
        assert!(levels[&own] < 100.0, "{number} hears itself: {levels:?}");
    }
    let plans: Vec<_> = world
        .report(SESSION)
        .expect("there")
        .plans
        .iter()
        .map(|plan| plan.kind)
        .collect();
    assert_eq!(plans, [PlanKind::Transcode; 2]);
}

#[test]
fn the_packet_time_is_the_listeners() {
    for (ptime_ms, packets) in [(10, 2.0), (20, 1.0), (30, 2.0 / 3.0), (40, 0.5), (60, 1.0 / 3.0)] {
        let mut world = World::new();
        let mut graph = Graph::call();
        graph.endpoints[0] = Party::new("a", 0).with_formats(vec![format(9, Codec::G722, 8_000)]);
        graph.party("b").ptime_ms = ptime_ms;
        world.commit(SESSION, &graph);
        let mut a = Voice::new(0, 440.0, CodecKind::G722, 9);
        talk(&mut world, &mut [&mut a], 1_800);
        let sent: Vec<_> = world
            .sent_rtp()
            .into_iter()
            .filter(|sent| sent.socket == rtp_socket(1))
            .collect();
        assert!(
            sent.iter()
                .all(|sent| sent.payload().len() == 8 * usize::from(ptime_ms))
        );
        let expected = 90.0 * packets;
        assert!(
            (sent.len() as f64 - expected).abs() <= 3.0,
            "{} packets of {ptime_ms} ms",
            sent.len()
        );
        let mut ear = Ear::default();
        ear.hear(&sent, 1, KINDS);
        ear.hears("b", &[440.0, 700.0], &[(440.0, LOUD)]);
    }
}

/// RFC 4733 event numbers that `number` was sent, in order.
fn digits_sent(sent: &[Sent], number: u32) -> Vec<u8> {
    let events = sent
        .iter()
        .filter(|sent| sent.socket == rtp_socket(number) && sent.header().payload_type.value() == 101);
    let mut seen: Vec<(u32, u8)> = events
        .map(|sent| (sent.header().timestamp.0, sent.payload()[0]))
        .collect();
    seen.dedup();
    seen.into_iter().map(|(_, event)| event).collect()
}

#[test]
fn digits_pass_a_plan_that_decodes_once_unless_the_edge_blocks_them() {
    for block in [false, true] {
        let mut world = World::new();
        let mut graph = Graph::call();
        graph.endpoints[0] =
            Party::new("a", 0).with_formats(vec![format(9, Codec::G722, 8_000), events(101)]);
        graph.edges[0].digits = if block {
            DigitPolicy::Block
        } else {
            DigitPolicy::Pass
        };
        world.commit(SESSION, &graph);
        let mut a = Voice::new(0, 440.0, CodecKind::G722, 9);
        talk(&mut world, &mut [&mut a], 400);
        world.sent();
        for pressed in [5, 11] {
            for (end, duration) in [(0, 160), (0, 320), (0x80, 480), (0x80, 480), (0x80, 480)] {
                let event = [pressed, end | 10, (duration >> 8) as u8, duration as u8];
                let packet = a.event(&event);
                world.receive(rtp_socket(0), peer(0), &packet);
                world.pass_ms(20);
            }
            a.event_ended(480);
            talk(&mut world, &mut [&mut a], 200);
        }
        talk(&mut world, &mut [&mut a], 400);
        let sent = world.sent_rtp();
        let expected: &[u8] = if block { &[] } else { &[5, 11] };
        assert_eq!(digits_sent(&sent, 1), expected);
        let numbers: Vec<u16> = sent
            .iter()
            .filter(|sent| sent.socket == rtp_socket(1))
            .map(|sent| sent.header().sequence)
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)),
            "one line"
        );
    }
}
