//! A room of the loudest few: who is heard, who takes whose place, and that nothing clicks when they do.

use codecs::CodecKind;
use media_engine::spec::NodeKind;

use crate::{
    tones::{Ear, LOUD, Voice, talk},
    world::{Graph, Party, SESSION, World, edge, room},
};

const KINDS: &[(u8, CodecKind)] = &[(0, CodecKind::Pcmu), (9, CodecKind::G722)];
const TONES: [f64; 5] = [440.0, 620.0, 810.0, 1_100.0, 1_500.0];
const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Six members, the last of whom only listens; two are heard.
fn graph(top: Option<u16>) -> Graph {
    let parties = (0..)
        .zip(IDS)
        .map(|(number, id)| Party::new(id, number))
        .collect();
    let mut graph = Graph::of(parties, &[]);
    let mut loudest = room("room", 8_000);
    if let NodeKind::Room(room) = &mut loudest.kind {
        room.top_talkers = top;
    }
    graph.others.push(loudest);
    for id in IDS {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    graph
}

fn voices(loud: [f64; 5]) -> Vec<Voice> {
    let voice = |(number, (hz, loud)): (u32, (&f64, f64))| {
        let mut voice = Voice::pcmu(number, *hz);
        voice.loud = loud;
        voice
    };
    (0..).zip(TONES.iter().zip(loud)).map(voice).collect()
}

fn say(world: &mut World, voices: &mut [Voice], ms: u64) {
    talk(world, &mut voices.iter_mut().collect::<Vec<_>>(), ms);
}

fn heard(world: &mut World, number: u32) -> Ear {
    let mut ear = Ear::default();
    ear.hear(&world.sent_rtp(), number, KINDS);
    ear
}

#[test]
fn the_two_loudest_are_heard_by_all_and_not_by_themselves() {
    let mut world = World::new();
    world.commit(SESSION, &graph(Some(2)));
    let mut voices = voices([LOUD, 900.0, 600.0, LOUD, 300.0]);
    say(&mut world, &mut voices, 800);
    let sent = world.sent_rtp();
    for number in 0..6u32 {
        let mut ear = Ear::default();
        ear.hear(&sent, number, KINDS);
        let expected: Vec<_> = [0u32, 3]
            .into_iter()
            .filter(|talker| *talker != number)
            .map(|talker| (TONES[talker as usize], LOUD))
            .collect();
        ear.hears(IDS[number as usize], &TONES, &expected);
    }
}

#[test]
fn a_place_is_kept_through_a_pause_and_lost_to_the_louder() {
    let mut world = World::new();
    world.commit(SESSION, &graph(Some(2)));
    let mut voices = voices([LOUD, LOUD, 400.0, 0.0, 0.0]);
    say(&mut world, &mut voices, 600);
    // A pauses between two words: C, who is quiet, is not let in.
    for _ in 0..4 {
        voices[0].loud = 0.0;
        say(&mut world, &mut voices, 160);
        voices[0].loud = LOUD;
        say(&mut world, &mut voices, 460);
    }
    let ear = heard(&mut world, 5);
    ear.hears("f", &TONES, &[(TONES[0], LOUD), (TONES[1], LOUD)]);
    assert!(
        ear.loudest(TONES[2]) < 60.0,
        "C was heard at {:.0}",
        ear.loudest(TONES[2])
    );
    // D is no louder than they are: it waits.
    voices[3].loud = LOUD;
    say(&mut world, &mut voices, 1_000);
    heard(&mut world, 5).hears("f", &TONES, &[(TONES[0], LOUD), (TONES[1], LOUD)]);
    // B stops: D is heard at once.
    voices[1].loud = 0.0;
    say(&mut world, &mut voices, 700);
    heard(&mut world, 5).hears("f", &TONES, &[(TONES[0], LOUD), (TONES[3], LOUD)]);
}

#[test]
fn nothing_clicks_when_talkers_edges_and_gains_change() {
    let mut world = World::new();
    let mut graph = graph(Some(1));
    world.commit(SESSION, &graph);
    let mut voices = voices([1_500.0, 0.0, 0.0, 0.0, 0.0]);
    say(&mut world, &mut voices, 600);
    for round in 0..12 {
        // Back and forth, each eight times as loud as the one before was.
        let (up, down) = if round % 2 == 0 { (3, 0) } else { (0, 3) };
        voices[up].loud = LOUD;
        say(&mut world, &mut voices, 300);
        voices[down].loud = 700.0;
        voices[up].loud = 700.0;
        say(&mut world, &mut voices, 200);
        match round {
            2 => graph.edges[0].gain_db = -6.0,
            4 => graph.edges[0].muted = true,
            5 => graph.edges[0].muted = false,
            7 => graph.edges.retain(|edge| *edge.from != *"d"),
            8 => graph.edges.push(edge("d", "room")),
            10 => {
                graph.edges.retain(|edge| *edge.from != *"d");
                graph.endpoints.retain(|party| party.id != "d");
                graph.edges.retain(|edge| *edge.to != *"d");
            }
            _ => continue,
        }
        world.commit(SESSION, &graph);
    }
    // The tones' own steps, both at once, and what a voice's own jump from one level to the next adds.
    let own = 2.0 * LOUD * (std::f64::consts::PI * TONES[3] / 8_000.0).sin() * 1.35;
    let ear = heard(&mut world, 5);
    let steepest = ear.steepest();
    assert!(steepest < own, "a step of {steepest}, more than {own:.0}");
    assert!(ear.pcm.len() > 40_000);
}

#[test]
fn a_mute_and_a_gain_in_the_middle_of_a_word_are_ramps() {
    for kind in ["mute", "gain", "leave", "whisper"] {
        let mut world = World::new();
        let mut graph = graph(None);
        graph.edges.push(edge("b", "f"));
        world.commit(SESSION, &graph);
        let mut voices = voices([4_000.0, 4_000.0, 0.0, 0.0, 0.0]);
        // At full height when it is cut: a tone whose period is not that of a frame.
        say(&mut world, &mut voices, 615);
        match kind {
            "mute" => graph.edges[0].muted = true,
            "gain" => graph.edges[0].gain_db = -60.0,
            "leave" => {
                graph.endpoints.retain(|party| party.id != "a");
                graph.edges.retain(|edge| *edge.from != *"a" && *edge.to != *"a");
            }
            _ => graph.edges.retain(|edge| *edge.from != *"b" || *edge.to != *"f"),
        }
        world.commit(SESSION, &graph);
        let mut left = voices.split_off(1);
        if kind != "leave" {
            left.insert(0, voices.remove(0));
        }
        say(&mut world, &mut left, 600);
        let ear = heard(&mut world, 5);
        let b = if kind == "whisper" { 4_000.0 } else { 8_000.0 };
        let a = if kind == "whisper" { 4_000.0 } else { 0.0 };
        let expected: Vec<_> = [(TONES[0], a), (TONES[1], b)]
            .into_iter()
            .filter(|(_, level)| *level > 0.0)
            .collect();
        ear.hears(kind, &TONES, &expected);
        let step = |hz: f64, loud: f64| 2.0 * loud * (std::f64::consts::PI * hz / 8_000.0).sin();
        let own = step(TONES[0], 4_000.0) + step(TONES[1], 8_000.0);
        assert!(
            ear.steepest() < own * 1.05,
            "{kind}: a step of {}, more than {own:.0}",
            ear.steepest()
        );
    }
}

/// A supervisor hears both sides of a call; the agent hears the supervisor, the customer does not.
#[test]
fn a_whisper_reaches_the_agent_only() {
    let mut world = World::new();
    let parties = vec![
        Party::new("agent", 0),
        Party::new("customer", 1),
        Party::new("supervisor", 2),
    ];
    let mut graph = Graph::of(
        parties,
        &[
            ("agent", "customer"),
            ("agent", "supervisor"),
            ("customer", "agent"),
            ("customer", "supervisor"),
            ("supervisor", "agent"),
        ],
    );
    world.commit(SESSION, &graph);
    let mut voices = voices([LOUD, LOUD, LOUD, 0.0, 0.0]);
    voices.truncate(3);
    let [agent, customer, supervisor] = [TONES[0], TONES[1], TONES[2]].map(|hz| (hz, LOUD));
    for whispers in [true, false, true] {
        graph.edges[4].muted = !whispers;
        world.commit(SESSION, &graph);
        say(&mut world, &mut voices, 800);
        let sent = world.sent_rtp();
        let expected: [&[(f64, f64)]; 3] = [
            if whispers {
                &[customer, supervisor]
            } else {
                &[customer]
            },
            &[agent],
            &[agent, customer],
        ];
        for (number, expected) in (0..).zip(expected) {
            let mut ear = Ear::default();
            ear.hear(&sent, number, KINDS);
            ear.hears(&format!("{number}, whispering: {whispers}"), &TONES, expected);
        }
    }
}

/// In a codec with a memory a member gets a mix of its own while it speaks, and the shared one when it does not.
#[test]
fn speaking_up_and_falling_silent_is_no_click_to_the_speaker() {
    let mut world = World::new();
    let g722 = || vec![crate::world::format(9, media_engine::spec::Codec::G722, 8_000)];
    let mut graph = Graph::of(
        vec![
            Party::new("a", 0).with_formats(g722()),
            Party::new("b", 1).with_formats(g722()),
            Party::new("c", 2).with_formats(g722()),
        ],
        &[],
    );
    graph.others.push(room("room", 16_000));
    for id in ["a", "b", "c"] {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    world.commit(SESSION, &graph);
    let mut a = Voice::new(0, TONES[0], CodecKind::G722, 9);
    let mut b = Voice::new(1, TONES[1], CodecKind::G722, 9);
    talk(&mut world, &mut [&mut a, &mut b], 400);
    world.sent();
    let mut ear = Ear::default();
    for round in 0..4 {
        b.silent = round % 2 == 0;
        talk(&mut world, &mut [&mut a, &mut b], 1_600);
        ear.hear(&world.sent_rtp(), 1, KINDS);
    }
    ear.hears("b", &TONES[..2], &[(TONES[0], LOUD)]);
    let own = 2.0 * LOUD * (std::f64::consts::PI * TONES[0] / 8_000.0).sin();
    assert!(
        ear.steepest() < own * 1.15,
        "a step of {} of {own:.0}",
        ear.steepest()
    );
}
