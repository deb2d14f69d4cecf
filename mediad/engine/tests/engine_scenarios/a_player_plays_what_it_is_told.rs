//! Lists, places, pauses, files that are read late: every sample in its turn, and the end told once with its reason.
#![expect(
    clippy::disallowed_types,
    reason = "a stream is another thread's, whose part the test plays"
)]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use codecs::CodecKind;
use media_engine::{
    command::{Command, EventKind, PlayEnd, PromptSound, SampleStream, StreamRead, StreamState},
    spec::{BargeIn, CallProgress, Codec, Country, NodeKind, NodeSpec, PlayItem, PlaySource, PlayerSpec},
};

use crate::{
    tones::{Ear, LOUD, Voice, talk},
    world::{Graph, SESSION, Sent, World, format, player, prompt, rtp_socket},
};

/// A world in which b takes samples as they are and hears the player p.
fn world(rate_hz: u32, player: NodeSpec) -> (World, Graph) {
    let mut graph = Graph::call();
    graph.party("b").send = vec![format(8, Codec::L16, rate_hz)];
    graph.others.push(player);
    graph.hear(&[("p", "b")]);
    (World::new(), graph)
}

/// Samples that count up, none of which is so small that it counts as silence.
fn counting(from: i16, samples: i16) -> Vec<i16> {
    (from..from + samples).collect()
}

fn named(name: &str) -> PlaySource {
    PlaySource::Prompt(name.into())
}

fn spec(graph: &mut Graph) -> &mut PlayerSpec {
    match &mut graph.others[0].kind {
        NodeKind::Player(player) => player,
        other => panic!("{other:?} is no player"),
    }
}

/// What b was sent.
fn samples(sent: &[Sent]) -> Vec<i16> {
    let to_b = sent.iter().filter(|sent| sent.socket == rtp_socket(1));
    let bytes: Vec<u8> = to_b.flat_map(|sent| sent.payload().to_vec()).collect();
    bytes
        .chunks_exact(2)
        .map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
        .collect()
}

fn finished(end: PlayEnd) -> EventKind {
    EventKind::PlayFinished(end)
}

#[test]
fn items_follow_each_other_sample_by_sample_as_often_as_asked() {
    let mut list = player("p", &[named("a"), PlaySource::Silence(7), named("b")]);
    if let NodeKind::Player(player) = &mut list.kind {
        player.repeat = Some(2);
        player.items[2].start_ms = 10;
    }
    let (mut world, graph) = world(8_000, list);
    world.prompts = vec![
        prompt("a", 8_000, counting(1_000, 333)),
        prompt("b", 8_000, counting(5_000, 500)),
    ];
    world.commit(SESSION, &graph);
    world.pass_ms(400);
    let once: Vec<i16> = [counting(1_000, 333), vec![0; 56], counting(5_080, 420)].concat();
    let heard = samples(&world.sent_rtp());
    let expected = [&once[..], &once[..]].concat();
    assert_eq!(heard[..expected.len()], expected);
    assert!(heard[expected.len()..].iter().all(|sample| *sample == 0));
    assert_eq!(world.event_kinds(), [finished(PlayEnd::End)]);
}

#[test]
fn a_tone_that_ends_is_followed_by_the_next_item_and_by_the_end() {
    let join = PlaySource::Tone(Country::Us, CallProgress::Join);
    let (mut world, graph) = world(8_000, player("p", &[join.clone(), named("a"), join]));
    world.prompts = vec![prompt("a", 8_000, counting(1_000, 333))];
    world.commit(SESSION, &graph);
    world.pass_ms(900);
    let heard = samples(&world.sent_rtp());
    // 120 ms, 30 of silence, 180.
    let tone = 330 * 8;
    assert_eq!(heard[tone..tone + 333], counting(1_000, 333));
    for start in [0, tone + 333] {
        let part = |from_ms: usize, to_ms: usize| &heard[start + 8 * from_ms..start + 8 * to_ms];
        let level = codecs::level::amplitude_of_dbm0(-21.0);
        for (part, hz, other) in [(part(5, 115), 523.3, 784.0), (part(155, 325), 784.0, 523.3)] {
            let found = codecs::goertzel::amplitude(part, hz, 8_000) / level;
            assert!((0.9..1.1).contains(&found), "{hz} Hz: {found}");
            assert!(codecs::goertzel::amplitude(part, other, 8_000) / level < 0.15);
        }
    }
    assert!(heard[2 * tone + 333..].iter().all(|sample| *sample == 0));
    assert_eq!(world.event_kinds(), [finished(PlayEnd::End)]);
}

#[test]
fn a_prompt_of_48_khz_is_heard_as_it_is_where_that_is_heard() {
    let (mut world, graph) = world(48_000, player("p", &[named("a")]));
    world.prompts = vec![prompt("a", 48_000, counting(1_000, 5_000))];
    world.commit(SESSION, &graph);
    world.pass_ms(200);
    assert_eq!(samples(&world.sent_rtp())[..5_000], counting(1_000, 5_000));
}

#[test]
fn a_pause_a_gain_and_one_item_more_keep_the_place() {
    let (mut world, mut graph) = world(8_000, player("p", &[named("a")]));
    world.prompts = vec![
        prompt("a", 8_000, counting(1_000, 1_600)),
        prompt("b", 8_000, counting(9_000, 160)),
    ];
    world.commit(SESSION, &graph);
    world.pass_ms(60);
    spec(&mut graph).paused = true;
    world.commit(SESSION, &graph);
    world.pass_ms(10_000);
    let before = samples(&world.sent_rtp());
    spec(&mut graph).paused = false;
    let mut items = spec(&mut graph).items.to_vec();
    items.push(PlayItem {
        source: named("b"),
        start_ms: 0,
    });
    spec(&mut graph).items = items.into();
    world.commit(SESSION, &graph);
    world.pass_ms(1_000);
    let heard = [before, samples(&world.sent_rtp())].concat();
    let heard: Vec<i16> = heard.into_iter().filter(|sample| *sample != 0).collect();
    assert_eq!(heard, [counting(1_000, 1_600), counting(9_000, 160)].concat());
    assert_eq!(world.event_kinds(), [finished(PlayEnd::End)]);

    // What is added to a list that is over is played, and nothing of it twice.
    let mut items = spec(&mut graph).items.to_vec();
    items.push(items[1].clone());
    spec(&mut graph).items = items.into();
    spec(&mut graph).gain_db = -6.0206;
    world.commit(SESSION, &graph);
    world.pass_ms(1_000);
    let heard = samples(&world.sent_rtp());
    let heard: Vec<i16> = heard.into_iter().filter(|sample| *sample != 0).collect();
    assert_eq!(heard.len(), 160);
    // The gain moves there within two ticks.
    assert!(
        heard.is_sorted_by(|a, b| a > b) && heard[159] < 4_600,
        "{heard:?}"
    );
    assert_eq!(world.event_kinds(), [finished(PlayEnd::End)]);
}

#[test]
fn nobody_listens_and_the_place_is_kept() {
    let (mut world, mut graph) = world(8_000, player("p", &[named("a")]));
    world.prompts = vec![prompt("a", 8_000, counting(1_000, 1_600))];
    world.commit(SESSION, &graph);
    world.pass_ms(60);
    graph.hear(&[("a", "b")]);
    graph.party("a").receive = vec![format(8, Codec::L16, 8_000)];
    world.commit(SESSION, &graph);
    world.pass_ms(5_000);
    graph.hear(&[("p", "b")]);
    world.commit(SESSION, &graph);
    world.pass_ms(300);
    let heard: Vec<i16> = samples(&world.sent_rtp())
        .into_iter()
        .filter(|s| *s != 0)
        .collect();
    // It fades for a tick, and goes on behind that.
    assert_eq!(heard[..480], counting(1_000, 480));
    let gone = heard.len() - 960;
    assert!(heard[480..gone].is_sorted_by(|a, b| a > b));
    assert_eq!(heard[gone..], counting(1_640, 960));
}

fn seek(world: &mut World, item: usize, position_ms: u32) {
    world.command(Command::Seek {
        session: SESSION,
        node: "p".into(),
        item,
        position_ms,
    });
}

#[test]
fn seek_moves_revives_and_flush_ends() {
    let (mut world, mut graph) = world(8_000, player("p", &[named("a"), named("b")]));
    world.prompts = vec![
        prompt("a", 8_000, counting(1_000, 8_000)),
        prompt("b", 8_000, counting(20_000, 800)),
    ];
    world.commit(SESSION, &graph);
    world.pass_ms(60);
    world.sent();
    seek(&mut world, 1, 30);
    world.pass_ms(40);
    let heard = samples(&world.sent_rtp());
    assert_eq!(heard, counting(20_240, heard.len() as i16));
    world.pass_ms(200);
    assert_eq!(world.event_kinds(), [finished(PlayEnd::End)]);
    world.pass_ms(5_000);
    world.sent();

    seek(&mut world, 0, 500);
    world.pass_ms(45);
    let heard = samples(&world.sent_rtp());
    assert!(heard.len() >= 320);
    assert_eq!(heard, counting(5_000, heard.len() as i16));
    world.command(Command::Flush(SESSION, "p".into()));
    world.command(Command::Flush(SESSION, "p".into()));
    assert_eq!(world.event_kinds(), [finished(PlayEnd::Removed)]);
    world.sent();
    world.pass_ms(100);
    assert!(samples(&world.sent_rtp()).iter().all(|sample| *sample == 0));

    // Taken away while it plays; and something else to play.
    seek(&mut world, 0, 0);
    spec(&mut graph).items = Box::new([PlayItem {
        source: named("b"),
        start_ms: 0,
    }]);
    world.commit(SESSION, &graph);
    assert_eq!(world.event_kinds(), [finished(PlayEnd::Removed)]);
    world.pass_ms(40);
    graph.others.clear();
    graph.hear(&[("a", "b")]);
    graph.party("a").receive = vec![format(8, Codec::L16, 8_000)];
    world.commit(SESSION, &graph);
    assert_eq!(world.event_kinds(), [finished(PlayEnd::Removed)]);
}

/// A file that is read as somebody else decides.
#[derive(Debug, Clone)]
struct File(Arc<Mutex<Script>>);

#[derive(Debug)]
struct Script {
    rate_hz: u32,
    /// At hand.
    ready: VecDeque<i16>,
    /// When nothing is.
    then: StreamState,
    sought: Vec<u64>,
}

impl SampleStream for File {
    fn rate_hz(&self) -> u32 {
        self.0.lock().expect("one thread").rate_hz
    }

    fn read(&mut self, pcm: &mut [i16]) -> StreamRead {
        let mut script = self.0.lock().expect("one thread");
        let samples = pcm.len().min(script.ready.len());
        for sample in &mut pcm[..samples] {
            *sample = script.ready.pop_front().expect("as many");
        }
        let state = match samples < pcm.len() {
            true => script.then,
            false => StreamState::Ready,
        };
        StreamRead { samples, state }
    }

    fn seek(&mut self, sample: u64) {
        self.0.lock().expect("one thread").sought.push(sample);
    }
}

#[test]
fn a_file_that_is_late_leaves_silence_and_loses_nothing() {
    let (mut world, graph) = world(8_000, player("p", &[named("long"), PlaySource::Silence(20)]));
    let mut long = prompt("long", 8_000, Vec::new());
    Arc::get_mut(&mut long).expect("its own").sound = PromptSound::Streamed;
    world.prompts = vec![long];
    let file = File(Arc::new(Mutex::new(Script {
        rate_hz: 8_000,
        ready: counting(1_000, 400).into(),
        then: StreamState::Late,
        sought: Vec::new(),
    })));
    world.streams = vec![("p", 0, Box::new(file.clone()))];
    world.commit(SESSION, &graph);
    world.pass_ms(200);
    let late = world.engine.totals().late_prompt_ticks;
    assert!((5..=9).contains(&late), "{late}");
    file.0.lock().expect("one thread").ready = counting(1_400, 300).into();
    file.0.lock().expect("one thread").then = StreamState::End;
    world.pass_ms(200);
    let heard = samples(&world.sent_rtp());
    let sounds: Vec<i16> = heard.iter().copied().filter(|sample| *sample != 0).collect();
    assert_eq!(sounds, counting(1_000, 700));
    assert_eq!(heard[..400], counting(1_000, 400));
    assert!(heard[400..1_200].iter().all(|sample| *sample == 0));
    assert_eq!(world.event_kinds(), [finished(PlayEnd::End)]);
    assert_eq!(world.engine.totals().late_prompt_ticks, late);

    // From the place that is asked for, on the file's own grid; and it cannot be read any further.
    seek(&mut world, 0, 250);
    assert_eq!(file.0.lock().expect("one thread").sought, [2_000]);
    file.0.lock().expect("one thread").then = StreamState::Broken;
    world.pass_ms(60);
    assert_eq!(world.event_kinds(), [finished(PlayEnd::Error)]);
}

#[test]
fn a_digit_interrupts_the_player_that_asks_for_it() {
    let mut world = World::new();
    let mut graph = Graph::call();
    for (id, interrupted) in [("p", true), ("q", false)] {
        let mut node = player(id, &[PlaySource::Silence(60_000)]);
        if let NodeKind::Player(player) = &mut node.kind {
            player.barge_in = interrupted.then(|| BargeIn {
                node: "a".into(),
                on_digit: true,
                on_speech: false,
            });
        }
        graph.others.push(node);
    }
    graph.hear(&[("p", "a"), ("q", "a"), ("a", "b")]);
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Voice::pcmu(0, 700.0), Voice::pcmu(1, 1_100.0));
    talk(&mut world, &mut [&mut a, &mut b], 200);
    world.events();
    // Not the one who was named.
    let digit = b.event(&[5, 10, 0, 160]);
    world.receive(rtp_socket(1), crate::world::peer(1), &digit);
    let told = world.events();
    assert!(
        told.iter()
            .all(|event| !matches!(event.kind, EventKind::PlayFinished(_))),
        "{told:?}"
    );
    let digit = a.event(&[5, 10, 0, 160]);
    world.receive(rtp_socket(0), crate::world::peer(0), &digit);
    let ends: Vec<_> = world
        .events()
        .into_iter()
        .filter(|event| matches!(event.kind, EventKind::PlayFinished(_)))
        .map(|event| (event.subject, event.kind))
        .collect();
    assert_eq!(ends, [(Some("p".into()), finished(PlayEnd::BargeIn))]);
}

#[test]
fn prompts_at_every_rate_are_heard_by_every_codec() {
    for (native, rate) in [
        (8_000, 8_000),
        (16_000, 16_000),
        (48_000, 48_000),
        (48_000, 8_000),
    ] {
        for (codec, kind) in [
            (format(8, Codec::Pcma, 8_000), CodecKind::Pcma),
            (format(8, Codec::G722, 8_000), CodecKind::G722),
            (format(8, Codec::Opus, 48_000), CodecKind::Opus),
        ] {
            let mut sine = codecs::tone::Oscillator::new(600.0, rate);
            let sine = (0..rate)
                .map(|_| (f64::from(sine.next_value()) * LOUD) as i16)
                .collect();
            let mut prompt = prompt("a", rate, sine);
            Arc::get_mut(&mut prompt).expect("its own").native_hz = native;
            let mut world = World::new();
            world.prompts = vec![prompt];
            let mut graph = Graph::call();
            graph.party("b").send = vec![codec];
            graph.others.push(player("p", &[named("a")]));
            graph.hear(&[("p", "b")]);
            world.commit(SESSION, &graph);
            world.pass_ms(960);
            let mut ear = Ear::default();
            ear.hear(&world.sent_rtp(), 1, &[(8, kind)]);
            ear.hears("b", &[600.0, 1_200.0], &[(600.0, LOUD)]);
        }
    }
}

/// What is converted to the rate of the mix while it plays, as a long file is whose session changed its rate.
#[test]
fn an_edit_is_not_heard_in_what_plays_at_another_rate() {
    let (mut world, mut graph) = world(8_000, player("p", &[named("a")]));
    let mut sine = codecs::tone::Oscillator::new(600.0, 16_000);
    let pcm = (0..32_000)
        .map(|_| (f64::from(sine.next_value()) * 10_000.0) as i16)
        .collect();
    world.prompts = vec![prompt("a", 16_000, pcm)];
    world.commit(SESSION, &graph);
    for n in 0..5 {
        world.pass_ms(205);
        graph.party("b").detect_talk = n % 2 == 0;
        world.commit(SESSION, &graph);
    }
    world.pass_ms(200);
    let heard = samples(&world.sent_rtp());
    // Without its beginning.
    let steps = heard[400..].windows(2);
    let steps = steps.map(|pair| i32::from(pair[1]) - i32::from(pair[0]));
    let steepest = steps.map(i32::abs).max().expect("some");
    let own = 20_000.0 * (std::f64::consts::PI * 600.0 / 8_000.0).sin();
    assert!(
        f64::from(steepest) < 1.05 * own,
        "a step of {steepest}, the tone's own are {own:.0}"
    );
}
