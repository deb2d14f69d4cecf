//! Recorders hear endpoints, rooms and players; what the call's parties hear is the same packet for packet, also when nobody
//! takes out what was recorded.

use std::time::{Duration, Instant};

use codecs::{CodecKind, goertzel, level};
use media_engine::{
    command::{PlanKind, RecorderFeed},
    recording::{Intake, Recording, Report, Settings, Workbench, ring},
    spec::{
        CallProgress, Codec, Country, DigitPolicy, NodeKind, NodeSpec, PlaySource, RecorderSpec,
        RecordingFormat,
    },
};

use crate::{
    keypad::{Keypad, VOICE_HZ},
    tones::{Ear, LOUD, Voice, talk},
    world::{Graph, SESSION, World, edge, events, format, player, room, rtp_socket},
};

const A_HZ: f64 = 700.0;
const B_HZ: f64 = 1_100.0;

fn recorder(format: RecordingFormat, paused: bool) -> NodeSpec {
    NodeSpec {
        id: "rec".into(),
        kind: NodeKind::Recorder(RecorderSpec {
            recording: "r".into(),
            call: "".into(),
            segment: 0,
            format,
            paused,
            duration_max: None,
            size_bytes_max: None,
        }),
    }
}

/// Gives the recorder of the next commit its ring.
fn opened(world: &mut World, bytes: usize) -> Intake {
    let (feed, intake) = ring(bytes, world.now.mono);
    world.recordings.push(RecorderFeed {
        node: "rec".into(),
        feed,
    });
    intake
}

/// Everything that was recorded: left, right and what is told of it.
fn recorded(intake: Intake, format: RecordingFormat, now: Instant) -> (Vec<i16>, Vec<i16>, Report) {
    let mut file = Vec::new();
    let settings = Settings::new(format, 8_000);
    let mut recording = Recording::new(settings, intake, &mut file).expect("a rate it runs at");
    let ended = recording.turn(now, &mut Workbench::default(), &mut file);
    assert!(
        ended.is_some(),
        "the recorder is gone, so the recording has ended"
    );
    let samples: Vec<i16> = file[44..]
        .as_chunks::<2>()
        .0
        .iter()
        .map(|b| i16::from_le_bytes(*b))
        .collect();
    let report = recording.report();
    if !format.is_stereo() {
        return (samples.clone(), samples, report);
    }
    let pairs = samples.as_chunks::<2>().0;
    let side = |at: usize| pairs.iter().map(|pair| pair[at]).collect();
    (side(0), side(1), report)
}

#[test]
fn the_ring_is_asked_for_before_the_packet_comes() {
    let mut world = World::new();
    let _intake = opened(&mut world, 65_536);
    let feed = world.recordings[0].feed.clone();
    world.commit(SESSION, &call_recorded(RecordingFormat::WavStereo));
    let mut voice = Voice::pcmu(0, A_HZ);
    for _ in 0..3 {
        world.wire.lines.borrow_mut().clear();
        world.engine.prefetch([rtp_socket(0)].into_iter(), &world.wire);
        let next = feed.next();
        assert!(world.wire.lines.borrow().contains(&next.addr()));
        talk(&mut world, &mut [&mut voice], 20);
        assert_ne!(feed.next(), next, "it was written there");
    }
}

fn assert_tone(pcm: &[i16], hz: f64, level: f64) {
    let heard = goertzel::amplitude(pcm, hz, 8_000);
    assert!(
        (heard - level).abs() <= LOUD * 0.06,
        "{heard} at {hz} Hz, not {level}"
    );
}

fn call_recorded(format: RecordingFormat) -> Graph {
    let mut graph = Graph::call();
    graph.others.push(recorder(format, false));
    graph.edges.push(edge("a", "rec"));
    graph.edges.push(edge("b", "rec"));
    graph.edges.last_mut().expect("pushed").right = true;
    graph
}

#[test]
fn each_party_in_its_channel_beside_a_relay() {
    let mut world = World::new();
    let intake = opened(&mut world, 256 << 10);
    let mut graph = call_recorded(RecordingFormat::WavStereo);
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Voice::pcmu(0, A_HZ), Voice::pcmu(1, B_HZ));
    talk(&mut world, &mut [&mut a, &mut b], 2_000);
    assert_eq!(world.sent_rtp().len(), 200);
    let plans = world.report(SESSION).expect("there").plans;
    assert!(
        plans
            .iter()
            .filter(|plan| &*plan.node != "rec")
            .all(|plan| plan.kind == PlanKind::Relay)
    );

    // A muted edge is silent, a paused recorder too; a gain is heard.
    graph
        .edges
        .iter_mut()
        .find(|e| &*e.from == "a" && &*e.to == "rec")
        .expect("there")
        .muted = true;
    graph
        .edges
        .iter_mut()
        .find(|e| &*e.from == "b" && &*e.to == "rec")
        .expect("there")
        .gain_db = -6.0206;
    world.commit(SESSION, &graph);
    talk(&mut world, &mut [&mut a, &mut b], 1_000);
    *graph.others.last_mut().expect("there") = recorder(RecordingFormat::WavStereo, true);
    world.commit(SESSION, &graph);
    talk(&mut world, &mut [&mut a, &mut b], 1_000);

    graph.others.clear();
    graph.edges.retain(|edge| &*edge.to != "rec");
    world.commit(SESSION, &graph);
    assert_eq!(world.sent_rtp().len(), 200);
    let (left, right, report) = recorded(intake, RecordingFormat::WavStereo, world.now.mono);
    assert!((31_900..=32_200).contains(&left.len()), "{} samples", left.len());
    assert_tone(&left[1_600..14_400], A_HZ, LOUD);
    assert_tone(&left[1_600..14_400], B_HZ, 0.0);
    assert_tone(&right[1_600..14_400], B_HZ, LOUD);
    assert_tone(&left[17_600..23_200], A_HZ, 0.0);
    assert_tone(&right[17_600..23_200], B_HZ, LOUD / 2.0);
    assert!(
        left[24_400..]
            .iter()
            .chain(&right[24_400..])
            .all(|sample| *sample == 0)
    );
    let names: Vec<_> = report
        .legs
        .iter()
        .map(|leg| (leg.node.as_str(), leg.right))
        .collect();
    assert_eq!(names, [("a", false), ("b", true)]);
    assert_eq!((report.pauses.len(), report.gaps.len()), (1, 0));
}

/// A speaks, presses a key in the place of sound, and speaks again: that is what is heard and recorded, and nothing is made
/// up meanwhile.
#[test]
fn a_key_between_words_is_silence_and_no_loss() {
    for key_ms in [40, 100, 400] {
        let mut world = World::new();
        let intake = opened(&mut world, 256 << 10);
        let mut graph = call_recorded(RecordingFormat::WavStereo);
        // B decodes, as all in rooms do.
        graph.party("b").send = vec![format(9, Codec::G722, 8_000), events(101)];
        graph.edges[0].digits = DigitPolicy::Block;
        world.commit(SESSION, &graph);
        let mut a = Keypad::pcmu(0);
        for _ in 0..3 {
            a.talk(&mut world, 1_000);
            a.hold(&mut world, '5', key_ms);
        }
        world.pass_ms(100);
        graph.others.clear();
        graph.edges.retain(|edge| &*edge.to != "rec");
        world.commit(SESSION, &graph);
        let (left, _, report) = recorded(intake, RecordingFormat::WavStereo, world.now.mono);
        let spoken = 3_000 + 3 * key_ms as usize;
        assert!(
            left.len().abs_diff((spoken + 100) * 8) <= 80,
            "{} samples",
            left.len()
        );
        assert_eq!(report.legs[0].concealed_samples, 0, "{key_ms} ms");
        assert_eq!((report.legs[0].restarts, report.legs[0].late), (0, 0));
        let key = key_ms as usize * 8;
        for from in [8_000, 16_000 + key] {
            assert_tone(&left[from - 1_600..from], VOICE_HZ, LOUD);
            assert!(
                left[from..from + key].iter().all(|sample| *sample == 0),
                "{key_ms} ms"
            );
            assert_tone(&left[from + key..from + key + 1_600], VOICE_HZ, LOUD);
        }
        // Of what is decoded for B no more sounds than was spoken.
        let mut ear = Ear::of_a_line_that_pauses(key_ms as i32 + 120);
        ear.hear(&world.sent_rtp(), 1, &[(9, CodecKind::G722)]);
        let sounding = ear
            .pcm
            .chunks_exact(40)
            .filter(|pcm| level::dbov(pcm) > -40.0)
            .count()
            * 5;
        assert!(
            sounding.abs_diff(3_000) <= 30,
            "{sounding} ms of 3 s, a key of {key_ms} ms"
        );
    }
}

/// As while a customer types the number of a card: packets, then frames of what is decoded, then packets again.
#[test]
fn a_party_whose_digits_are_taken_out_for_a_while_is_heard_all_the_time() {
    let mut world = World::new();
    let intake = opened(&mut world, 256 << 10);
    let mut graph = call_recorded(RecordingFormat::WavStereo);
    let mut a = Voice::pcmu(0, A_HZ);
    for digits in [DigitPolicy::Pass, DigitPolicy::Clamp].repeat(2) {
        graph.edges[2].digits = digits;
        world.commit(SESSION, &graph);
        talk(&mut world, &mut [&mut a], 1_000);
    }
    graph.others.clear();
    graph.edges.truncate(2);
    world.commit(SESSION, &graph);
    let (left, _, report) = recorded(intake, RecordingFormat::WavStereo, world.now.mono);
    for second in left.chunks_exact(8_000) {
        assert_tone(&second[1_600..7_200], A_HZ, LOUD);
    }
    let leg = &report.legs[0];
    assert_eq!((leg.late, leg.concealed_samples), (0, 0));
}

#[test]
fn a_room_and_a_player_are_mixed_for_it() {
    let mut world = World::new();
    let intake = opened(&mut world, 256 << 10);
    let mut graph = Graph::call();
    graph.edges.clear();
    graph.others = vec![
        room("room", 8_000),
        player("p", &[PlaySource::Tone(Country::De, CallProgress::Dial)]),
        recorder(RecordingFormat::WavStereo, false),
    ];
    for id in ["a", "b"] {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    graph.edges.extend([edge("room", "rec"), edge("p", "rec")]);
    graph.edges.last_mut().expect("pushed").right = true;
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Voice::pcmu(0, A_HZ), Voice::pcmu(1, B_HZ));
    talk(&mut world, &mut [&mut a, &mut b], 2_000);
    // A room of two goes on as a relay.
    let report = world.report(SESSION).expect("there");
    assert!(
        report
            .plans
            .iter()
            .filter(|plan| ["a", "b"].contains(&&*plan.node))
            .all(|plan| plan.kind == PlanKind::Relay)
    );
    graph.others.pop();
    graph.edges.retain(|edge| &*edge.to != "rec");
    world.commit(SESSION, &graph);
    let (left, right, _) = recorded(intake, RecordingFormat::WavStereo, world.now.mono);
    let middle = 4_000..15_200;
    assert_tone(&left[middle.clone()], A_HZ, LOUD);
    assert_tone(&left[middle.clone()], B_HZ, LOUD);
    let dial = codecs::level::amplitude_of_dbm0(-13.0);
    assert_tone(&right[middle.clone()], 425.0, dial);
    assert_tone(&right[middle], A_HZ, 0.0);
}

/// The recording begins in the middle of a silence that the peer described, and is told so.
#[test]
fn a_silence_that_goes_on_is_heard_from_the_beginning() {
    let mut world = World::new();
    let mut graph = Graph::call();
    let noise = || format(13, Codec::ComfortNoise, 8_000);
    graph.party("a").receive.push(noise());
    graph.party("b").send.push(noise());
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Voice::pcmu(0, A_HZ), Voice::pcmu(1, B_HZ));
    talk(&mut world, &mut [&mut a, &mut b], 400);
    a.describe(&mut world, 13, &[30]);
    let listen = |world: &mut World, a: &mut Voice, b: &mut Voice, ms: u64| {
        a.rest(ms as u32);
        talk(world, &mut [b], ms);
    };
    listen(&mut world, &mut a, &mut b, 700);

    let intake = opened(&mut world, 256 << 10);
    let mut recorded_graph = call_recorded(RecordingFormat::WavStereo);
    recorded_graph.endpoints = graph.endpoints.clone();
    world.commit(SESSION, &recorded_graph);
    listen(&mut world, &mut a, &mut b, 600);
    talk(&mut world, &mut [&mut a, &mut b], 1_000);
    world.commit(SESSION, &graph);
    let (left, right, report) = recorded(intake, RecordingFormat::WavStereo, world.now.mono);
    let told = level::dbov(&left[80..4_700]);
    assert!((-33.0..-27.0).contains(&told), "a silence of {told} dBov");
    let speech = 4_800 + 400..left.len() - 400;
    assert_tone(&left[speech], A_HZ, LOUD);
    assert_tone(&right[400..left.len() - 400], B_HZ, LOUD);
    let leg = report
        .legs
        .iter()
        .find(|leg| leg.node == "a")
        .expect("it is a leg");
    assert_eq!((leg.concealed_samples, leg.late, leg.restarts), (0, 0, 0));
}

#[test]
fn a_recording_that_nobody_takes_out_costs_itself_only() {
    let (mut plain, mut world) = (World::new(), World::new());
    let intake = opened(&mut world, 8 << 10);
    plain.commit(SESSION, &Graph::call());
    let graph = call_recorded(RecordingFormat::WavMono);
    world.commit(SESSION, &graph);
    for world in [&mut plain, &mut world] {
        let (mut a, mut b) = (Voice::pcmu(0, A_HZ), Voice::pcmu(1, B_HZ));
        talk(world, &mut [&mut a, &mut b], 3_000);
    }
    let (expected, sent) = (plain.sent_rtp(), world.sent_rtp());
    assert_eq!(expected.len(), 300);
    assert!(
        expected
            .iter()
            .zip(&sent)
            .all(|(a, b)| a.bytes[12..] == b.bytes[12..] && a.to == b.to)
    );
    assert_eq!(expected.len(), sent.len());
    world.pass(Duration::from_millis(5));
    let mut graph = graph;
    graph.others.clear();
    graph.edges.retain(|edge| &*edge.to != "rec");
    world.commit(SESSION, &graph);
    let (pcm, _, report) = recorded(intake, RecordingFormat::WavMono, world.now.mono);
    assert!(
        pcm.len() >= 23_900,
        "{} samples: it is as long as it was",
        pcm.len()
    );
    assert_eq!(report.gaps.len(), 1);
    assert_eq!(
        report.lost() + report.legs.iter().map(|leg| leg.packets).sum::<u64>(),
        300
    );
}
