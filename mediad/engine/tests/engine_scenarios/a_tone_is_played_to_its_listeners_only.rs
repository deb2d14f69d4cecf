//! Ringback before the answer, then the call: one line, and only who is to hear the tone hears it.

use codecs::CodecKind;
use media_engine::{
    command::{EventKind, PlanKind, PlayEnd},
    spec::{CallProgress, Codec, Country, NodeKind, PlaySource},
};

use crate::{
    tones::{Ear, LOUD, Voice, talk},
    world::{Graph, SESSION, World, format, pcma, player, prompt},
};

const KINDS: &[(u8, CodecKind)] = &[(0, CodecKind::Pcmu), (8, CodecKind::Pcma)];
/// Ringback of Germany: 425 Hz at -13 dBm0 for a second.
const RINGBACK: PlaySource = PlaySource::Tone(Country::De, CallProgress::Ringback);
const RING_HZ: f64 = 425.0;

fn ring_level() -> f64 {
    codecs::level::amplitude_of_dbm0(-13.0)
}

#[test]
fn ringback_gives_way_to_the_call_on_one_line() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.others.push(player("ring", &[RINGBACK]));
    graph.hear(&[("ring", "a")]);
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Voice::pcmu(0, 700.0), Voice::pcmu(1, 1_100.0));
    let (mut ear_a, mut ear_b) = (Ear::default(), Ear::default());
    let tones = [RING_HZ, 700.0, 1_100.0];

    talk(&mut world, &mut [&mut a, &mut b], 600);
    let sent = world.sent_rtp();
    ear_a.hear(&sent, 0, KINDS);
    ear_a.hears("a", &tones, &[(RING_HZ, ring_level())]);
    assert!(
        sent.iter().all(|sent| sent.socket == crate::world::rtp_socket(0)),
        "only a hears anything"
    );
    let report = world.report(SESSION).expect("the session is there");
    assert_eq!(report.plans[0].kind, PlanKind::Mix);
    assert_eq!(*report.plans[0].sources[0], *"ring");

    graph.hear(&[("a", "b"), ("b", "a")]);
    world.commit(SESSION, &graph);
    talk(&mut world, &mut [&mut a, &mut b], 600);
    let sent = world.sent_rtp();
    ear_a.hear(&sent, 0, KINDS);
    ear_b.hear(&sent, 1, KINDS);
    ear_a.hears("a", &tones, &[(1_100.0, LOUD)]);
    ear_b.hears("b", &tones, &[(700.0, LOUD)]);
    assert_eq!(
        world.report(SESSION).expect("there").plans[0].kind,
        PlanKind::Relay
    );

    // And back: the player goes on where it was, 400 ms before its pause.
    graph.hear(&[("ring", "a"), ("ring", "b")]);
    graph.party("b").send = vec![pcma()];
    world.commit(SESSION, &graph);
    talk(&mut world, &mut [&mut a, &mut b], 360);
    let sent = world.sent_rtp();
    for (number, ear) in [(0, &mut ear_a), (1, &mut ear_b)] {
        ear.hear(&sent, number, KINDS);
        ear.pcm.drain(..ear.pcm.len() - 2_400);
        ear.hears("each", &tones, &[(RING_HZ, ring_level())]);
    }
}

#[test]
fn a_prompt_is_heard_by_every_codec_and_ends_on_time() {
    let mut sine = codecs::tone::Oscillator::new(600.0, 16_000);
    let sine: Vec<i16> = (0..16_000)
        .map(|_| (f64::from(sine.next_value()) * LOUD) as i16)
        .collect();
    for (codec, kind, hz) in [
        (pcma(), CodecKind::Pcma, 8_000),
        (format(8, Codec::G722, 8_000), CodecKind::G722, 16_000),
        (
            format(8, Codec::L16, 48_000),
            CodecKind::L16 {
                sample_rate_hz: 48_000,
            },
            48_000,
        ),
    ] {
        let mut world = World::new();
        world.prompts = vec![prompt("hello.wav", 16_000, sine.clone())];
        let mut graph = Graph::call();
        graph.party("b").send = vec![codec];
        graph
            .others
            .push(player("p", &[PlaySource::Prompt("hello.wav".into())]));
        graph.hear(&[("p", "b")]);
        world.commit(SESSION, &graph);
        world.pass_ms(960);
        assert_eq!(world.event_kinds(), [], "{hz} Hz");
        let mut ear = Ear::default();
        ear.hear(&world.sent_rtp(), 1, &[(8, kind)]);
        ear.hears("b", &[600.0, 1_200.0], &[(600.0, LOUD)]);
        world.pass_ms(100);
        assert_eq!(
            world.event_kinds(),
            [EventKind::PlayFinished(PlayEnd::End)],
            "{hz} Hz"
        );
    }
}

#[test]
fn a_player_ends_once_and_one_that_is_paused_goes_on_where_it_was() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph
        .others
        .push(player("p", &[PlaySource::Silence(500), PlaySource::Silence(300)]));
    graph.hear(&[("p", "a"), ("p", "b")]);
    world.commit(SESSION, &graph);
    world.pass_ms(400);
    assert!(!world.sent_rtp().is_empty());
    let change = |graph: &mut Graph, paused: bool| {
        if let NodeKind::Player(player) = &mut graph.others[0].kind {
            player.paused = paused;
        }
    };
    change(&mut graph, true);
    world.commit(SESSION, &graph);
    world.pass_ms(5_000);
    assert_eq!(world.event_kinds(), []);
    world.sent();
    world.pass_ms(5_000);
    assert_eq!(
        world.sent_rtp(),
        [],
        "nobody plays and nobody speaks: nothing is sent"
    );
    change(&mut graph, false);
    world.commit(SESSION, &graph);
    world.pass_ms(380);
    assert_eq!(world.event_kinds(), []);
    world.pass_ms(60);
    assert_eq!(world.event_kinds(), [EventKind::PlayFinished(PlayEnd::End)]);
    world.pass_ms(5_000);
    assert_eq!(world.event_kinds(), []);
    assert!(
        world
            .engine
            .poll_timeout()
            .is_some_and(|(_, wake)| wake != media_engine::engine::Wake::Tick)
    );
}
