//! Two in a room are a relay, three are a mix, two are a relay again: one line, every voice where it belongs.

use codecs::CodecKind;
use media_engine::command::PlanKind;

use crate::{
    tones::{Ear, LOUD, Voice, talk},
    world::{Graph, Party, SESSION, World, edge, format, pcma, room},
};
use media_engine::spec::{Codec, EdgeSpec};

const KINDS: &[(u8, CodecKind)] = &[
    (0, CodecKind::Pcmu),
    (8, CodecKind::Pcma),
    (9, CodecKind::G722),
    (111, CodecKind::Opus),
];
const TONES: [f64; 4] = [440.0, 700.0, 1_100.0, 1_500.0];

fn members(ids: &[&'static str]) -> Vec<EdgeSpec> {
    ids.iter()
        .flat_map(|id| [edge(id, "room"), edge("room", id)])
        .collect()
}

fn kinds(world: &mut World) -> Vec<PlanKind> {
    world
        .report(SESSION)
        .expect("there")
        .plans
        .iter()
        .map(|plan| plan.kind)
        .collect()
}

#[test]
fn a_third_party_turns_the_relay_into_a_mix_and_back() {
    let mut world = World::new();
    let mut graph = Graph::of(
        vec![Party::new("a", 0), Party::new("b", 1), Party::new("c", 2)],
        &[],
    );
    graph.others.push(room("room", 16_000));
    let mut voices = [
        Voice::pcmu(0, TONES[0]),
        Voice::pcmu(1, TONES[1]),
        Voice::pcmu(2, TONES[2]),
    ];
    let mut ears = [Ear::default(), Ear::default(), Ear::default()];
    for round in 0..6 {
        let three = round % 2 == 1;
        graph.edges = members(if three { &["a", "b", "c"] } else { &["a", "b"] });
        world.commit(SESSION, &graph);
        let [a, b, c] = &mut voices;
        talk(&mut world, &mut [a, b, c], 700);
        let sent = world.sent_rtp();
        for (number, ear) in ears.iter_mut().enumerate().take(if three { 3 } else { 2 }) {
            ear.hear(&sent, number as u32, KINDS);
            let others = (0..3usize).filter(|other| *other != number && (three || *other < 2));
            let expected: Vec<_> = others.map(|other| (TONES[other], LOUD)).collect();
            ear.hears(&format!("{number} in round {round}"), &TONES, &expected);
        }
        let kind = if three { PlanKind::Mix } else { PlanKind::Relay };
        assert_eq!(kinds(&mut world)[..2], [kind, kind]);
        if !three {
            // C left: its line may rest.
            ears[2] = Ear::default();
        }
    }
}

#[test]
fn members_of_different_codecs_hear_each_other_and_only_the_others() {
    let mut world = World::new();
    let opus = || {
        let mut opus = format(111, Codec::Opus, 48_000);
        opus.channels = 2;
        vec![opus]
    };
    let mut graph = Graph::of(
        vec![
            Party::new("a", 0),
            Party::new("b", 1).with_formats(vec![pcma()]),
            Party::new("c", 2).with_formats(vec![format(9, Codec::G722, 8_000)]),
            Party::new("d", 3).with_formats(opus()),
        ],
        &[],
    );
    graph.others.push(room("room", 16_000));
    graph.edges = members(&["a", "b", "c", "d"]);
    world.commit(SESSION, &graph);
    let mut a = Voice::pcmu(0, TONES[0]);
    let mut b = Voice::new(1, TONES[1], CodecKind::Pcma, 8);
    let mut c = Voice::new(2, TONES[2], CodecKind::G722, 9);
    let mut d = Voice::new(3, TONES[3], CodecKind::Opus, 111);
    talk(&mut world, &mut [&mut a, &mut b, &mut c, &mut d], 1_500);
    let sent = world.sent_rtp();
    for number in 0..3usize {
        let mut ear = Ear::default();
        ear.hear(&sent, number as u32, KINDS);
        let levels = ear.levels(&TONES);
        for (other, hz) in TONES.iter().enumerate() {
            let level = levels[&(*hz as u32)];
            // Opus at 24 kbit/s is not exact with tones.
            let heard = (LOUD * 0.6..LOUD * 1.4).contains(&level);
            let expected = other != number;
            assert_eq!(heard, expected, "{number} hears {hz} Hz at {level:.0}");
            assert!(expected || level < 300.0, "{number} hears itself at {level:.0}");
        }
    }
    let mut ear = Ear::default();
    ear.hear(&sent, 3, KINDS);
    let levels = ear.levels(&TONES);
    for hz in &TONES[..3] {
        assert!(levels[&(*hz as u32)] > LOUD * 0.3, "d hears {levels:?}");
    }
    assert!(levels[&1_500] < LOUD * 0.1, "d hears {levels:?}");
}

#[test]
fn gain_and_mute_hold_for_their_edge_alone() {
    let mut world = World::new();
    let mut graph = Graph::of(
        vec![
            Party::new("a", 0),
            Party::new("b", 1),
            Party::new("c", 2),
            Party::new("d", 3),
        ],
        &[],
    );
    graph.others.push(room("room", 8_000));
    graph.edges = members(&["a", "b", "c"]);
    // C is quieter in the room; D whispers to A alone, and B hears the room at half.
    graph
        .edges
        .iter_mut()
        .find(|e| *e.from == *"c")
        .expect("there")
        .gain_db = -6.0;
    graph
        .edges
        .iter_mut()
        .find(|e| *e.to == *"b")
        .expect("there")
        .gain_db = -12.0;
    graph.edges.push(edge("d", "a"));
    world.commit(SESSION, &graph);
    let mut voices: Vec<Voice> = (0..4).map(|n| Voice::pcmu(n, TONES[n as usize])).collect();
    let mut talking: Vec<&mut Voice> = voices.iter_mut().collect();
    talk(&mut world, &mut talking, 700);
    let sent = world.sent_rtp();
    let half = LOUD * 0.501;
    let quarter = LOUD * 0.251;
    let expected: [&[(f64, f64)]; 4] = [
        &[(TONES[1], LOUD), (TONES[2], half), (TONES[3], LOUD)],
        &[(TONES[0], quarter), (TONES[2], quarter / 2.0)],
        &[(TONES[0], LOUD), (TONES[1], LOUD)],
        &[],
    ];
    for (number, expected) in expected.iter().enumerate().take(3) {
        let mut ear = Ear::default();
        ear.hear(&sent, number as u32, KINDS);
        ear.hears(&number.to_string(), &TONES, expected);
    }
    assert!(
        sent.iter().all(|sent| sent.socket != crate::world::rtp_socket(3)),
        "nobody is heard by d"
    );
}

#[test]
fn losses_reordering_and_duplicates_are_made_good() {
    let mut world = World::new();
    let mut graph = Graph::of(
        vec![Party::new("a", 0), Party::new("b", 1), Party::new("c", 2)],
        &[],
    );
    graph.others.push(room("room", 8_000));
    graph.edges = members(&["a", "b", "c"]);
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Voice::pcmu(0, TONES[0]), Voice::pcmu(1, TONES[1]));
    let mut ear = Ear::default();
    let mut held: Option<Vec<u8>> = None;
    for n in 0..150u32 {
        let packet = a.packet();
        let socket = crate::world::rtp_socket(0);
        let from = crate::world::peer(0);
        match n % 15 {
            3 => {}
            7 => held = Some(packet),
            8 => {
                world.receive(socket, from, &packet);
                world.receive(socket, from, &held.take().expect("the one before"));
            }
            11 => {
                world.receive(socket, from, &packet);
                world.receive(socket, from, &packet);
            }
            _ => world.receive(socket, from, &packet),
        }
        b.speak(&mut world);
        world.pass_ms(20);
    }
    ear.hear(&world.sent_rtp(), 2, KINDS);
    let levels = ear.levels(&TONES);
    assert!(levels[&440] > LOUD * 0.85, "{levels:?}");
    assert!(levels[&700] > LOUD * 0.9, "{levels:?}");
    assert!(levels[&1_100] < 200.0, "{levels:?}");
}

/// Whoever has said nothing for long is not looked at until the next packet: all of what then comes is heard, as soon as of
/// somebody who never paused, whether the room was changed meanwhile or not.
#[test]
fn who_was_silent_for_long_is_heard_from_the_first_packet_on() {
    const PAUSES_MS: [u32; 5] = [400, 900, 1_100, 3_000, 20_000];
    for is_edited in [false, true] {
        let mut world = World::new();
        let parties = ["a", "b", "c", "d"].into_iter().zip(0..);
        let mut graph = Graph::of(parties.map(|(id, number)| Party::new(id, number)).collect(), &[]);
        graph.others.push(room("room", 8_000));
        graph.edges = members(&["a", "b", "c"]);
        world.commit(SESSION, &graph);
        let mut voices = [0, 1, 2].map(|number| Voice::pcmu(number, TONES[number as usize]));
        let mut ears = [0, 1, 2].map(|_| Ear::default());
        for (round, pause_ms) in PAUSES_MS.into_iter().enumerate() {
            let [a, b, c] = &mut voices;
            talk(&mut world, &mut [a, b, c], 500);
            let paused_ms = pause_ms / 2;
            talk(&mut world, &mut [a], paused_ms.into());
            if is_edited {
                let with_d = round % 2 == 0;
                graph.edges = members(if with_d {
                    &["a", "b", "c", "d"]
                } else {
                    &["a", "b", "c"]
                });
                world.commit(SESSION, &graph);
            }
            talk(&mut world, &mut [a], (pause_ms - paused_ms).into());
            b.rest(pause_ms);
            c.rest(pause_ms);
            let sent = world.sent_rtp();
            for (number, ear) in ears.iter_mut().enumerate() {
                ear.hear(&sent, number as u32, KINDS);
                ear.pcm.clear();
            }
            talk(&mut world, &mut [a, b, c], 300);
            let sent = world.sent_rtp();
            for (number, ear) in ears.iter_mut().enumerate() {
                ear.hear(&sent, number as u32, KINDS);
                let who = format!("{number} after {pause_ms} ms, edited: {is_edited}");
                let others = (0..3usize).filter(|other| *other != number);
                let expected: Vec<_> = others.map(|other| (TONES[other], LOUD)).collect();
                ear.hears(&who, &TONES, &expected);
                // No more of the beginning is missing than the packets wait for their turn.
                ear.pcm.truncate(8 * 240);
                ear.hears(&who, &TONES, &expected);
            }
        }
    }
}
