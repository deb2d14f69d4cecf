//! A peer that is heard through noise, too softly or too loudly is made better for all who hear it, if its endpoint asks for
//! that: decoded then, on the same line, and a relay again when it asks no more.

use codecs::{CodecKind, Encoder, gain_control::GainSettings, goertzel, level, opus};
use media_engine::{
    command::{DigitSource, PlanKind},
    spec::{Codec, InbandDigits, PolishSpec},
};

use crate::{
    keypad::{Form, Keypad, told},
    tones::{Ear, Voice, talk},
    world::{Graph, Party, SESSION, Speaker, World, edge, format, pcmu, peer, room, rtp_socket},
};

const KINDS: &[(u8, CodecKind)] = &[(0, CodecKind::Pcmu), (9, CodecKind::G722)];
const HZ: f64 = 500.0;

fn even() -> PolishSpec {
    PolishSpec {
        gain: Some(GainSettings {
            target_dbov: -20.0,
            gain_db_max: 20.0,
        }),
        ..PolishSpec::default()
    }
}

fn quiet() -> PolishSpec {
    PolishSpec {
        suppress_noise: true,
        ..PolishSpec::default()
    }
}

fn plan_of(world: &mut World, node: &str) -> PlanKind {
    let report = world.report(SESSION).expect("there");
    let found = report.plans.iter().find(|plan| &*plan.node == node);
    found.expect("it has one").kind
}

#[test]
fn soft_and_loud_speakers_come_to_one_level_and_back_to_their_own() {
    for (loud, polished) in [(700.0, 4_633.0), (18_000.0, 4_633.0), (200.0, 2_000.0)] {
        let mut world = World::new();
        let mut graph = Graph::call();
        world.commit(SESSION, &graph);
        let mut a = Voice::pcmu(0, HZ);
        let mut ear = Ear::default();
        // Two ticks of silence show where the floor is.
        a.silent = true;
        talk(&mut world, &mut [&mut a], 200);
        a.silent = false;
        a.loud = loud;
        for (polish, kind, expected) in [
            (PolishSpec::default(), PlanKind::Relay, loud),
            (even(), PlanKind::Transcode, polished),
            (PolishSpec::default(), PlanKind::Relay, loud),
        ] {
            graph.party("a").polish = polish;
            world.commit(SESSION, &graph);
            if polish != PolishSpec::default() {
                a.silent = true;
                talk(&mut world, &mut [&mut a], 200);
                a.silent = false;
            }
            talk(&mut world, &mut [&mut a], 1_400);
            ear.hear(&world.sent_rtp(), 1, KINDS);
            assert_eq!(plan_of(&mut world, "b"), kind);
            let heard = ear.levels(&[HZ])[&(HZ as u32)];
            let off = 20.0 * (heard / expected).log10();
            assert!(off.abs() < 2.0, "{loud}: {heard:.0}, {off:.1} dB off {expected}");
        }
    }
}

#[test]
fn noise_of_one_is_suppressed_for_everybody_in_a_room() {
    let mut world = World::new();
    let parties = vec![Party::new("a", 0), Party::new("b", 1), Party::new("c", 2)];
    let mut graph = Graph::of(parties, &[]);
    graph.party("c").receive = vec![format(9, Codec::G722, 8_000)];
    graph.party("c").send = vec![format(9, Codec::G722, 8_000)];
    graph.others.push(room("room", 16_000));
    graph.edges = ["a", "b", "c"]
        .into_iter()
        .flat_map(|member| [edge(member, "room"), edge("room", member)])
        .collect();
    let mut speaker = Speaker::new(0xA);
    let mut encoder = Encoder::new(CodecKind::Pcmu, 8_000, &opus::Settings::default()).expect("a rate");
    let mut state = 1_u32;
    let mut hiss = |world: &mut World, ms: u32| {
        for _ in 0..ms / 20 {
            let pcm: Vec<i16> = (0..160)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 20) as i16 - 2_048
                })
                .collect();
            let mut payload = [0; 160];
            encoder.encode(&pcm, &mut payload).expect("a frame");
            let packet = speaker.packet(&payload);
            world.receive(rtp_socket(0), peer(0), &packet);
            world.pass_ms(20);
        }
    };
    let mut levels = Vec::new();
    for polish in [PolishSpec::default(), quiet()] {
        graph.party("a").polish = polish;
        world.commit(SESSION, &graph);
        hiss(&mut world, 2_000);
        drop(world.sent_rtp());
        hiss(&mut world, 1_000);
        let sent = world.sent_rtp();
        levels.push([1, 2].map(|number| {
            let mut ear = Ear::default();
            ear.hear(&sent, number, KINDS);
            level::dbov(&ear.pcm)
        }));
    }
    for (before, after) in levels[0].iter().zip(levels[1]) {
        assert!(before - after > 12.0, "from {before:.1} to {after:.1} dBov");
    }
}

#[test]
fn digits_in_the_audio_are_told_as_if_nothing_were_done_to_it() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").receive = vec![pcmu()];
    graph.party("a").inband_digits = InbandDigits::On;
    graph.party("a").polish = PolishSpec {
        suppress_noise: true,
        ..even()
    };
    world.commit(SESSION, &graph);
    let mut a = Keypad::pcmu(0);
    a.talk(&mut world, 200);
    for key in "159D*0#22".chars() {
        a.press(&mut world, key, Form::Tone);
    }
    a.talk(&mut world, 400);
    let keys: String = told(&mut world)
        .into_iter()
        .filter(|(_, source, _)| *source == DigitSource::Inband)
        .map(|(key, ..)| key)
        .collect();
    assert_eq!(keys, "159D*0#22");
}

#[test]
fn nothing_of_a_clamped_digit_is_left_where_noise_is_suppressed() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").receive = vec![pcmu()];
    graph.party("a").polish = quiet();
    graph.edges[0].digits = media_engine::spec::DigitPolicy::Clamp;
    assert_eq!((&*graph.edges[0].from, &*graph.edges[0].to), ("a", "b"));
    world.commit(SESSION, &graph);
    let mut a = Keypad::pcmu(0);
    a.talk(&mut world, 400);
    a.press(&mut world, '5', Form::Tone);
    a.talk(&mut world, 400);
    let mut ear = Ear::default();
    ear.hear(&world.sent_rtp(), 1, KINDS);
    let loudest = ear
        .pcm
        .chunks_exact(80)
        .map(|part| goertzel::amplitude(part, 1_336.0, 8_000))
        .fold(0.0, f64::max);
    assert!(loudest < 600.0, "{loudest}");
}
