//! A decoder of Opus predicts from what it heard before: whoever encodes for a listener next must not be heard through
//! another encoder's past, which is loud.

use codecs::CodecKind;
use media_engine::{
    command::PlanKind,
    spec::{Codec, NodeKind, PayloadFormat, PlaySource},
};

use crate::{
    tones::{Ear, Voice, talk},
    world::{Graph, Party, SESSION, World, format, pcmu, player, prompt, room},
};

const KINDS: &[(u8, CodecKind)] = &[(0, CodecKind::Pcmu), (111, CodecKind::Opus)];
/// What the listener's decoder remembers, and what it hears after it.
const LOUD: f64 = 14_000.0;
const QUIET: f64 = 1_500.0;

fn opus() -> PayloadFormat {
    format(111, Codec::Opus, 48_000)
}

/// Three in a room, of whom the first two have Opus.
fn conference(room_hz: u32) -> Graph {
    let parties = vec![
        Party::new("a", 0).with_formats(vec![opus()]),
        Party::new("b", 1).with_formats(vec![opus()]),
        Party::new("c", 2).with_formats(vec![pcmu()]),
    ];
    let mut graph = Graph::of(parties, &[]);
    graph.others.push(room("room", room_hz));
    graph.hear(&["a", "b", "c"].map(|id| [(id, "room"), ("room", id)]).concat());
    graph
}

/// Every part of `pcm` of 50 ms is as loud as a sine of `amplitude`.
fn is_even(pcm: &[i16], amplitude: f64, place: &str) {
    for (at, part) in pcm.chunks_exact(400).enumerate() {
        let level = (2.0 * codecs::level::energy(part) as f64 / 400.0).sqrt() / amplitude;
        assert!(
            (0.7..1.3).contains(&level),
            "{place}: {level:.2} of its level {} ms on",
            at * 50
        );
    }
}

fn voices() -> [Voice; 3] {
    [
        Voice::new(0, 900.0, CodecKind::Opus, 111),
        Voice::new(1, 425.0, CodecKind::Opus, 111),
        Voice::pcmu(2, 620.0),
    ]
}

#[test]
fn a_room_that_changes_its_rate_is_not_louder_for_it() {
    for speaks in [false, true] {
        for (before, after) in [(16_000, 8_000), (8_000, 16_000)] {
            let mut world = World::new();
            world.commit(SESSION, &conference(before));
            let [mut a, mut b, mut c] = voices();
            (a.silent, c.silent, b.loud) = (!speaks, true, LOUD);
            let mut ear = Ear::default();
            talk(&mut world, &mut [&mut a, &mut b, &mut c], 800);
            world.commit(SESSION, &conference(after));
            (b.silent, c.silent, c.loud) = (true, false, QUIET);
            ear.hear(&world.sent_rtp(), 0, KINDS);
            // What waited for its turn is still loud.
            talk(&mut world, &mut [&mut a, &mut b, &mut c], 160);
            ear.hear(&world.sent_rtp(), 0, KINDS);
            ear.pcm.clear();
            talk(&mut world, &mut [&mut a, &mut b, &mut c], 800);
            ear.hear(&world.sent_rtp(), 0, KINDS);
            is_even(&ear.pcm, QUIET, &format!("{before} to {after}, speaks: {speaks}"));
        }
    }
}

#[test]
fn who_speaks_through_edits_hears_the_others_evenly() {
    let mut world = World::new();
    let mut graph = conference(8_000);
    world.commit(SESSION, &graph);
    let [mut a, mut b, mut c] = voices();
    (b.silent, c.loud) = (true, QUIET);
    let mut ear = Ear::default();
    talk(&mut world, &mut [&mut a, &mut b, &mut c], 400);
    ear.hear(&world.sent_rtp(), 0, KINDS);
    ear.pcm.clear();
    for edit in 0..10 {
        // B, who says nothing, comes and goes.
        let members = if edit % 2 == 0 {
            &["a", "c"][..]
        } else {
            &["a", "b", "c"]
        };
        let ways = members.iter().map(|id| [(*id, "room"), ("room", *id)]);
        graph.hear(&ways.collect::<Vec<_>>().concat());
        world.commit(SESSION, &graph);
        talk(&mut world, &mut [&mut a, &mut b, &mut c], 200);
        ear.hear(&world.sent_rtp(), 0, KINDS);
    }
    is_even(&ear.pcm, QUIET, "edits");
}

#[test]
fn who_begins_to_speak_hears_tones_that_go_on_at_their_level() {
    // Of which a decoder that remembers another encoder makes twelve times as much.
    const HZ: [f64; 3] = [820.0, 1_120.0, 1_520.0];
    let parties = (0..).zip(["a", "b", "c", "d"]).map(|(number, id)| {
        let format = if id == "b" { opus() } else { pcmu() };
        Party::new(id, number).with_formats(vec![format])
    });
    let mut graph = Graph::of(parties.collect(), &[]);
    graph.others.push(room("room", 8_000));
    let ways = ["a", "b", "c", "d"].map(|id| [(id, "room"), ("room", id)]);
    graph.hear(&ways.concat());
    let mut loudest = Vec::new();
    for wait in 0..20 {
        let mut world = World::new();
        world.commit(SESSION, &graph);
        let mut b = Voice::new(1, 620.0, CodecKind::Opus, 111);
        let [mut a, mut c, mut d] = [(0, HZ[0]), (2, HZ[1]), (3, HZ[2])].map(|(at, hz)| Voice::pcmu(at, hz));
        for voice in [&mut a, &mut b, &mut c, &mut d] {
            voice.loud = 2_000.0;
        }
        let mut ear = Ear::default();
        // Alone with what is encoded for all, then with an encoder of its own, then again with that for all.
        for (silent, ms) in [(true, 1_600 + 20 * wait), (false, 1_000), (true, 2_400)] {
            b.silent = silent;
            talk(&mut world, &mut [&mut a, &mut b, &mut c, &mut d], ms);
            ear.hear(&world.sent_rtp(), 1, KINDS);
        }
        let levels = ear.pcm[6_000..].chunks_exact(400).map(|part| {
            let energy = codecs::level::energy(part) as f64 / 400.0;
            (2.0 * energy / HZ.len() as f64).sqrt() / 2_000.0
        });
        loudest.push(levels.fold(0.0, f64::max));
    }
    assert!(loudest.iter().all(|level| *level < 1.1), "{loudest:.2?}");
}

#[test]
fn who_comes_to_shared_music_does_not_hear_it_through_what_was_before() {
    for (speaks, ptime_ms) in [(false, 20), (true, 20), (false, 40), (true, 40)] {
        comes_to_shared_music(speaks, ptime_ms);
    }
}

/// Out of a room to shared music and back; who speaks has an encoder of its own before and after it.
fn comes_to_shared_music(speaks: bool, ptime_ms: u8) {
    let sine = |amplitude: f64| {
        let mut sine = codecs::tone::Oscillator::new(620.0, 8_000);
        let sample = |_| (f64::from(sine.next_value()) * amplitude) as i16;
        (0..80_000).map(sample).collect::<Vec<_>>()
    };
    let mut world = World::new();
    world.prompts = vec![prompt("music", 8_000, sine(QUIET))];
    let mut music = player("music", &[PlaySource::Prompt("music".into())]);
    if let NodeKind::Player(player) = &mut music.kind {
        player.shared_group = Some("moh".into());
        player.repeat = None;
    }
    // Somebody else listens to it already.
    let other = Party::new("o", 5).with_formats(vec![opus()]);
    let mut holding = Graph::of(vec![other], &[("music", "o")]);
    holding.others.push(music.clone());
    world.commit(media_engine::command::SessionKey(77), &holding);
    let mut graph = conference(8_000);
    graph.others.push(music);
    graph.party("a").ptime_ms = ptime_ms;
    world.commit(SESSION, &graph);
    let [mut a, mut b, mut c] = voices();
    (a.silent, c.silent, b.loud) = (!speaks, true, LOUD);
    let mut ear = Ear::default();
    talk(&mut world, &mut [&mut a, &mut b, &mut c], 800);
    ear.hear(&world.sent_rtp(), 0, KINDS);
    graph.hear(&[("music", "a")]);
    world.commit(SESSION, &graph);
    b.silent = true;
    talk(&mut world, &mut [&mut a, &mut b, &mut c], 60);
    ear.hear(&world.sent_rtp(), 0, KINDS);
    ear.pcm.clear();
    talk(&mut world, &mut [&mut a, &mut b, &mut c], 1_000);
    ear.hear(&world.sent_rtp(), 0, KINDS);
    // It begins at nothing in the middle of the stream, and may take a while to be even; it must not be loud.
    let loudest = ear.loudest(620.0) / QUIET;
    assert!(loudest < 1.5, "{loudest:.2} of its level");
    is_even(
        &ear.pcm[4_000..],
        QUIET,
        &format!("music, speaks: {speaks}, {ptime_ms} ms"),
    );
    // Back in the room, after music that its encoder did not encode.
    graph.hear(&["a", "b", "c"].map(|id| [(id, "room"), ("room", id)]).concat());
    world.commit(SESSION, &graph);
    (c.silent, c.loud) = (false, QUIET / 2.0);
    talk(&mut world, &mut [&mut a, &mut b, &mut c], 160);
    ear.hear(&world.sent_rtp(), 0, KINDS);
    ear.pcm.clear();
    talk(&mut world, &mut [&mut a, &mut b, &mut c], 600);
    ear.hear(&world.sent_rtp(), 0, KINDS);
    is_even(
        &ear.pcm,
        QUIET / 2.0,
        &format!("the room, speaks: {speaks}, {ptime_ms} ms"),
    );
}

/// Who hears a loud mix, and then the packets of a soft speaker as they come, hears them as loud as they are.
#[test]
fn who_is_relayed_to_after_a_mix_does_not_hear_that_through_it() {
    for room_hz in [8_000, 16_000] {
        for speaks in [false, true] {
            let mut world = World::new();
            let ids = ["a", "b", "c"];
            let parties = ids.iter().zip(0..);
            let parties = parties.map(|(id, number)| Party::new(id, number).with_formats(vec![opus()]));
            let mut graph = Graph::of(parties.collect(), &[]);
            graph.others.push(room("room", room_hz));
            let ways = ids.map(|id| [(id, "room"), ("room", id)]).concat();
            graph.hear(&ways);
            world.commit(SESSION, &graph);
            let [mut a, mut b, _] = voices();
            let mut c = Voice::new(2, 620.0, CodecKind::Opus, 111);
            (a.silent, b.loud, c.loud) = (!speaks, LOUD, QUIET);
            let mut ear = Ear::default();
            talk(&mut world, &mut [&mut a, &mut b, &mut c], 800);
            ear.hear(&world.sent_rtp(), 0, KINDS);
            graph.hear(&[("c", "a"), ("a", "c")]);
            world.commit(SESSION, &graph);
            b.silent = true;
            talk(&mut world, &mut [&mut a, &mut b, &mut c], 80);
            ear.hear(&world.sent_rtp(), 0, KINDS);
            ear.pcm.clear();
            talk(&mut world, &mut [&mut a, &mut b, &mut c], 800);
            ear.hear(&world.sent_rtp(), 0, KINDS);
            let plans = world.report(SESSION).expect("there").plans;
            let relayed = plans.iter().filter(|plan| plan.kind == PlanKind::Relay).count();
            assert_eq!(relayed, 2, "{plans:?}");
            is_even(
                &ear.pcm,
                QUIET,
                &format!("relayed, {room_hz} Hz, speaks: {speaks}"),
            );
        }
    }
}
