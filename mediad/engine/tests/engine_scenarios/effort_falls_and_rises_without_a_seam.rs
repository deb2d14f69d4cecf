//! Encoders of Opus that run are told to make another effort: whoever listens hears the same, on the same line.

use codecs::{CodecKind, opus::PacketInfo};
use media_engine::{command::Command, spec::Codec};

use crate::{
    tones::{Ear, LOUD, Voice, talk},
    world::{Graph, Party, SESSION, Sent, World, edge, format, pcmu, room, rtp_socket},
};

const KINDS: &[(u8, CodecKind)] = &[(0, CodecKind::Pcmu), (111, CodecKind::Opus)];
const TONES: [f64; 3] = [440.0, 700.0, 1_100.0];

/// A has PCMU and speaks with B, who has Opus.
fn call() -> Graph {
    let parties = vec![
        Party::new("a", 0).with_formats(vec![pcmu()]),
        Party::new("b", 1).with_formats(vec![format(111, Codec::Opus, 48_000)]),
    ];
    Graph::of(parties, &[("a", "b"), ("b", "a")])
}

/// Three with Opus who hear each other, each by an encoder of its own, and a fourth who shares one with nobody who speaks.
fn conference() -> Graph {
    let parties = ["a", "b", "c", "d"].iter().zip(0..);
    let opus = || vec![format(111, Codec::Opus, 48_000)];
    let parties = parties.map(|(id, number)| Party::new(id, number).with_formats(opus()));
    let mut graph = Graph::of(parties.collect(), &[]);
    graph.others.push(room("room", 16_000));
    for id in ["a", "b", "c"] {
        graph.edges.push(edge(id, "room"));
    }
    for id in ["a", "b", "c", "d"] {
        graph.edges.push(edge("room", id));
    }
    graph
}

fn voices(kinds: &[(u8, CodecKind)]) -> Vec<Voice> {
    let numbered = (0..).zip(kinds).zip(TONES);
    numbered
        .map(|((number, (payload_type, kind)), hz)| Voice::new(number, hz, *kind, *payload_type))
        .collect()
}

fn say(world: &mut World, voices: &mut [Voice], ms: u64) {
    talk(world, &mut voices.iter_mut().collect::<Vec<_>>(), ms);
}

fn opus_of(sent: &[Sent], number: u32) -> Vec<Vec<u8>> {
    let to = sent.iter().filter(|sent| sent.socket == rtp_socket(number));
    to.map(|sent| sent.payload().to_vec()).collect()
}

#[test]
fn a_transcoded_call_is_heard_at_its_level_whatever_the_effort() {
    let mut world = World::new();
    world.commit(SESSION, &call());
    let mut voices = voices(KINDS);
    let mut ear = Ear::default();
    say(&mut world, &mut voices, 600);
    for complexity in [5, 2, 0, 1, 10, 0, 5] {
        world.command(Command::OpusComplexity(complexity));
        say(&mut world, &mut voices, 600);
        let sent = world.sent_rtp();
        ear.hear(&sent, 1, KINDS);
        ear.hears(&format!("b, at {complexity},"), &TONES, &[(TONES[0], LOUD)]);
        let payloads = opus_of(&sent, 1);
        assert!(payloads.len() >= 29, "{} packets", payloads.len());
        for payload in payloads {
            PacketInfo::parse(&payload).expect("a packet of Opus");
        }
    }
    // No click at any change: nothing is steeper than the tone itself.
    let steepest = LOUD * (std::f64::consts::TAU * TONES[0] / 8_000.0).sin();
    ear.pcm.drain(..2_400);
    let heard = ear.steepest();
    assert!(heard < 1.3 * steepest, "{heard:.0} against {steepest:.0}");
}

#[test]
fn members_with_encoders_of_their_own_hear_all_others_whatever_the_effort() {
    let mut world = World::new();
    world.commit(SESSION, &conference());
    let mut voices = voices(&[(111, CodecKind::Opus); 3]);
    let mut ears: [Ear; 4] = Default::default();
    say(&mut world, &mut voices, 600);
    for complexity in [0, 5, 1, 3] {
        world.command(Command::OpusComplexity(complexity));
        say(&mut world, &mut voices, 800);
        let sent = world.sent_rtp();
        for (number, ear) in (0..).zip(&mut ears) {
            ear.hear(&sent, number, KINDS);
            // Encoded twice, each time as speech.
            let levels = ear.levels(&TONES);
            for (speaker, hz) in TONES.iter().enumerate() {
                let level = levels[&(*hz as u32)] / LOUD;
                let right = match speaker == number as usize {
                    true => level < 0.1,
                    false => (0.7..1.3).contains(&level),
                };
                assert!(right, "{number}, at {complexity}, hears {hz} Hz at {level:.2}");
            }
        }
    }
}

/// What B is sent, before and after what `told` tells in between.
fn transcoded(told: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut world = World::new();
    world.commit(SESSION, &call());
    let mut voices = voices(KINDS);
    say(&mut world, &mut voices, 400);
    let before = opus_of(&world.sent_rtp(), 1);
    for complexity in told {
        world.command(Command::OpusComplexity(*complexity));
    }
    say(&mut world, &mut voices, 400);
    (before, opus_of(&world.sent_rtp(), 1))
}

#[test]
fn it_reaches_encoders_that_run_and_what_it_was_is_no_change() {
    let (before, after) = transcoded(&[]);
    assert_eq!(transcoded(&[0, 5]), (before.clone(), after.clone()), "as it was");
    let (same, other) = transcoded(&[0]);
    assert_eq!(same, before);
    assert_ne!(other, after, "encoded with less effort");
}

#[test]
fn an_encoder_that_is_made_later_begins_with_the_effort_of_its_worker() {
    let begun = |told_first: bool| {
        let mut world = World::new();
        let tell = |world: &mut World| world.command(Command::OpusComplexity(0));
        if told_first {
            tell(&mut world);
        }
        world.commit(SESSION, &call());
        if !told_first {
            tell(&mut world);
        }
        let mut voices = voices(KINDS);
        say(&mut world, &mut voices, 400);
        opus_of(&world.sent_rtp(), 1)
    };
    assert_eq!(begun(true), begun(false));
    assert_ne!(begun(true), transcoded(&[]).0);
}

#[test]
fn less_effort_is_taken_for_less_work() {
    let mut world = World::new();
    world.commit(SESSION, &call());
    let mut voices = voices(KINDS);
    let mut work = |world: &mut World| {
        let before = world.engine.totals().opus_ns;
        say(world, &mut voices, 1_000);
        world.engine.totals().opus_ns - before
    };
    let with_much = work(&mut world);
    world.command(Command::OpusComplexity(0));
    let with_little = work(&mut world);
    assert!(
        with_little > 0 && with_little * 4 < with_much * 3,
        "{with_little} after {with_much}"
    );
}
