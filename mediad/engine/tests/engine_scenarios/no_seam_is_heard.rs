//! What an edit must not do to what is heard: not twice, not cut, not clicked; and a stream that comes back is not refused.

use std::time::Duration;

use codecs::CodecKind;
use media_engine::{
    command::PlanKind,
    spec::{Codec, Suite},
};

use crate::{
    cipher::Cipher,
    tones::{Ear, LOUD, Voice, talk},
    world::{Graph, Party, SESSION, Speaker, World, format, pcma, pcmu, peer, room, rtp_socket},
};

const KINDS: &[(u8, CodecKind)] = &[(0, CodecKind::Pcmu), (8, CodecKind::Pcma), (111, CodecKind::Opus)];

fn linear() -> media_engine::spec::PayloadFormat {
    format(96, Codec::L16, 8_000)
}

/// Says the numbers from 1 on, one in each sample, so that every sample is known again.
struct Counter {
    speaker: Speaker,
    next: i16,
}

impl Counter {
    fn speak(&mut self, world: &mut World) {
        let samples: Vec<u8> = (0..160)
            .flat_map(|_| {
                let sample = self.next;
                self.next = self.next % 16_000 + 1;
                sample.to_be_bytes()
            })
            .collect();
        let packet = self.speaker.packet(&samples);
        world.receive(rtp_socket(0), peer(0), &packet);
    }
}

/// Through `graphs`, what `b` hears of `a`, and the longest time between two packets in ms.
fn count_through(graphs: &[Graph], shift_ms: u64) -> (Vec<i16>, u64) {
    let mut world = World::new();
    let mut speaker = Speaker::new(0x5000);
    speaker.payload_type = 96;
    let mut counter = Counter { speaker, next: 1 };
    let (mut heard, mut ms, mut last, mut longest) = (Vec::new(), 0, None, 0);
    for graph in graphs {
        for frame in 0..25 {
            counter.speak(&mut world);
            for half in 0..20 {
                if frame == 0 && half == shift_ms {
                    world.commit(SESSION, graph);
                }
                world.pass_ms(1);
                ms += 1;
                for sent in world.sent_rtp() {
                    if sent.socket == rtp_socket(1) {
                        longest = longest.max(ms - last.unwrap_or(ms));
                        last = Some(ms);
                        let samples = sent.payload().as_chunks::<2>().0;
                        heard.extend(samples.iter().map(|bytes| i16::from_be_bytes(*bytes)));
                    }
                }
            }
        }
    }
    (heard, longest)
}

fn counting_graphs(decoded_before: bool) -> Vec<Graph> {
    let parties = vec![
        Party::new("a", 0).with_formats(vec![linear()]),
        Party::new("b", 1).with_formats(vec![linear()]),
        Party::new("c", 2).with_formats(vec![pcmu()]),
    ];
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::of(parties.clone(), edges);
        if decoded_before {
            graph.hear(&[edges, &[("a", "c")]].concat());
        }
        graph
    };
    // Relay, mix, relay, mix, relay; `c` says nothing.
    let (relay, mix) = (graph(&[("a", "b")]), graph(&[("a", "b"), ("c", "b")]));
    vec![relay.clone(), mix.clone(), relay.clone(), mix, relay]
}

#[test]
fn every_sample_is_heard_once_and_in_order_whatever_the_plan() {
    for decoded_before in [false, true] {
        for shift_ms in 0..20 {
            let (heard, longest) = count_through(&counting_graphs(decoded_before), shift_ms);
            let heard: Vec<i16> = heard.into_iter().filter(|sample| *sample != 0).collect();
            let place = format!("decoded before: {decoded_before}, {shift_ms} ms after a packet");
            assert!(heard.len() > 16_000, "{place}: {} samples", heard.len());
            let wrong = heard.windows(2).position(|pair| pair[1] != pair[0] % 16_000 + 1);
            assert_eq!(
                wrong.map(|at| (at, heard[at], heard[at + 1])),
                None,
                "{place}: one number after another"
            );
            assert!(longest <= 60, "{place}: {longest} ms without a packet");
        }
    }
}

#[test]
fn who_leaves_when_a_mix_becomes_a_relay_fades() {
    for shift_ms in 0..20 {
        let mut world = World::new();
        let formats = [pcmu(), pcma(), pcmu()];
        let parties: Vec<Party> = (0..)
            .zip(["a", "b", "c"].into_iter().zip(formats))
            .map(|(number, (id, format))| Party::new(id, number).with_formats(vec![format]))
            .collect();
        let mut graph = Graph::of(parties, &[("a", "b"), ("c", "b")]);
        world.commit(SESSION, &graph);
        let (mut a, mut c) = (Voice::pcmu(0, 440.0), Voice::pcmu(2, 620.0));
        a.silent = true;
        let mut ear = Ear::default();
        talk(&mut world, &mut [&mut a, &mut c], 400);
        ear.hear(&world.sent_rtp(), 1, KINDS);
        a.speak(&mut world);
        c.speak(&mut world);
        world.pass_ms(shift_ms);
        ear.pcm.drain(..800);
        graph.hear(&[("a", "b")]);
        world.commit(SESSION, &graph);
        world.pass_ms(20 - shift_ms);
        talk(&mut world, &mut [&mut a, &mut c], 400);
        ear.hear(&world.sent_rtp(), 1, KINDS);
        let plans = world.report(SESSION).expect("there").plans;
        let plan = plans.iter().find(|plan| &*plan.node == "b").expect("there").kind;
        assert_eq!(plan, PlanKind::Rewrite);
        let own = LOUD * std::f64::consts::TAU * 620.0 / 8_000.0;
        assert!(
            ear.steepest() < own * 1.1,
            "{shift_ms} ms after a packet: a step of {:.0}, the tone's own is {own:.0}",
            ear.steepest()
        );
        let end = ear.pcm.len() - 800;
        assert!(ear.pcm[end..].iter().all(|sample| sample.unsigned_abs() <= 8));
    }
}

#[test]
fn a_stream_that_is_played_slower_is_forwarded_again_from_where_it_was_heard() {
    let parties = (0..).zip(["a", "b", "c"]);
    let parties = parties.map(|(number, id)| Party::new(id, number).with_formats(vec![pcmu()]));
    let mut graph = Graph::of(parties.collect(), &[("a", "b"), ("c", "b")]);
    let mix = graph.clone();
    graph.hear(&[("a", "b")]);
    let mut longest = 0;
    for packets in (600..1_500).step_by(7) {
        let mut world = World::new();
        world.commit(SESSION, &mix);
        let mut a = Voice::pcmu(0, 440.0);
        let mut ear = Ear::default();
        let mut talk = |world: &mut World, packets: u32| {
            for _ in 0..packets {
                a.speak(world);
                // By a clock that is slow.
                world.pass(Duration::from_micros(20_020));
            }
        };
        talk(&mut world, packets);
        world.commit(SESSION, &graph);
        talk(&mut world, 20);
        let sent = world.sent_rtp();
        ear.hear(&sent, 1, KINDS);
        let to_b = sent.iter().filter(|sent| sent.socket == rtp_socket(1));
        longest = longest.max(to_b.map(|sent| sent.payload().len()).max().unwrap_or(0));
    }
    // What of it was decoded and not heard is sent at once.
    assert!(longest > 160, "{longest} samples at most");
}

#[test]
fn a_hand_over_between_encoders_of_opus_is_not_heard() {
    let opus = format(111, Codec::Opus, 48_000);
    let parties = (0..).zip(["a", "b", "c"]);
    let parties = parties.map(|(number, id)| Party::new(id, number).with_formats(vec![opus.clone()]));
    let mut graph = Graph::of(parties.collect(), &[]);
    graph.others.push(room("room", 8_000));
    let ways = ["a", "b", "c"].map(|id| [(id, "room"), ("room", id)]);
    graph.hear(&ways.concat());
    let mut world = World::new();
    world.commit(SESSION, &graph);
    let voice = |number, hz| Voice::new(number, hz, CodecKind::Opus, 111);
    let (mut a, mut b, mut c) = (voice(0, 440.0), voice(1, 900.0), voice(2, 700.0));
    (b.silent, c.silent) = (true, true);
    let (mut at_b, mut at_c) = (Ear::default(), Ear::default());
    // Alone with the shared encoder; one of its own while it speaks; back to the shared one.
    for (silent, ms) in [
        (true, 1_600),
        (false, 600),
        (true, 2_000),
        (false, 600),
        (true, 2_000),
    ] {
        b.silent = silent;
        talk(&mut world, &mut [&mut a, &mut b, &mut c], ms);
        let sent = world.sent_rtp();
        at_b.hear(&sent, 1, KINDS);
        at_c.hear(&sent, 2, KINDS);
    }
    // Its own voice is nothing to B: it hears A, as evenly as if nothing was handed over.
    let settled = &at_b.pcm[4_000..];
    let own = LOUD * std::f64::consts::TAU * 440.0 / 8_000.0;
    let step = |pair: &[i16]| (f64::from(pair[1]) - f64::from(pair[0])).abs();
    let steepest = settled.windows(2).map(step).fold(0.0, f64::max);
    assert!(
        steepest < own * 1.2,
        "a step of {steepest:.0}, the tone's own is {own:.0}"
    );
    for (at, part) in settled.chunks_exact(400).enumerate() {
        let level = codecs::goertzel::amplitude(part, 440.0, 8_000) / LOUD;
        assert!(
            (0.85..1.15).contains(&level),
            "{:.2} of its level {} ms on",
            level,
            at * 50
        );
    }
    assert!(at_c.loudest(900.0) > LOUD * 0.8, "C heard B speak");
}

#[test]
fn an_endpoint_that_comes_back_under_its_ssrc_and_key_is_sent_to_at_once() {
    for suite in [Suite::AesCm128HmacSha1_80, Suite::AeadAes128Gcm] {
        // What it was sent before, in packets: the numbers it begins with are spread over all.
        for packets in [10, 1_000] {
            let mut world = World::new();
            let mut graph = Graph::call();
            let mut phone = Cipher::new(graph.party("b"), suite);
            world.commit(SESSION, &graph);
            let mut a = Voice::pcmu(0, 440.0);
            talk(&mut world, &mut [&mut a], packets * 20);
            let sent = world.sent();
            let before = phone.read(&world, &sent);
            let last = before.last().expect("it is sent to").header();
            for _ in 0..5 {
                graph.party("b").away = true;
                world.commit(SESSION, &graph);
                world.pass(Duration::from_millis(300));
                graph.party("b").away = false;
                world.commit(SESSION, &graph);
                talk(&mut world, &mut [&mut a], 200);
            }
            let sent = world.sent();
            let after = phone.read(&world, &sent);
            let after: Vec<_> = after.iter().filter(|sent| !sent.is_rtcp()).collect();
            assert_eq!(after.len(), 50, "{suite:?} after {packets}");
            let numbers: Vec<u16> = after.iter().map(|sent| sent.header().sequence).collect();
            let expected: Vec<u16> = (1..=50).map(|n| last.sequence.wrapping_add(n)).collect();
            assert_eq!(numbers, expected, "the numbers go on");
            assert!(after.iter().all(|sent| sent.header().ssrc == last.ssrc));
        }
    }
}
