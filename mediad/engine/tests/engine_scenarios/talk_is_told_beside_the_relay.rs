//! Who is watched is told to talk, at the right level and length, while its listeners get its packets as they come.

use media_engine::command::{EventKind, PlanKind};

use crate::{
    tones::{LOUD, Voice, talk},
    world::{Graph, Party, SESSION, World, edge, room, rtp_socket},
};

const TONE: f64 = 440.0;

/// `ms` of packets, speaking or silent.
fn packets(world: &mut World, voice: &mut Voice, silent: bool, ms: u64) {
    voice.silent = silent;
    talk(world, &mut [voice], ms);
}

/// The talk events, each with who caused it.
fn told(world: &mut World) -> Vec<(String, EventKind)> {
    let events = world
        .events()
        .into_iter()
        .filter(|event| matches!(event.kind, EventKind::TalkStarted | EventKind::TalkStopped { .. }));
    events
        .map(|event| (event.subject.expect("a node").to_string(), event.kind))
        .collect()
}

fn durations(told: &[(String, EventKind)]) -> Vec<u64> {
    let duration = |(_, kind): &(String, EventKind)| match kind {
        EventKind::TalkStopped { duration_ms } => Some(*duration_ms),
        _ => None,
    };
    told.iter().filter_map(duration).collect()
}

/// A phone that is muted, or goes, may send nothing at all.
#[test]
fn of_whom_nothing_comes_any_more_no_level_is_left() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").detect_talk = true;
    world.commit(SESSION, &graph);
    let mut a = Voice::pcmu(0, TONE);
    packets(&mut world, &mut a, false, 1_000);
    assert!(world.endpoint("a").level_dbov.is_some_and(|level| level > -20.0));
    world.pass_ms(10_000);
    let report = world.endpoint("a");
    assert!(!report.talking);
    assert_eq!(report.level_dbov, Some(-127.0));
    packets(&mut world, &mut a, false, 1_000);
    assert!(world.endpoint("a").level_dbov.is_some_and(|level| level > -20.0));
}

#[test]
fn a_relayed_call_tells_who_talks_and_stays_a_relay() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").detect_talk = true;
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Voice::pcmu(0, TONE), Voice::pcmu(1, 700.0));
    packets(&mut world, &mut a, true, 500);
    assert_eq!(told(&mut world), []);
    packets(&mut world, &mut a, false, 1_000);
    let report = world.endpoint("a");
    let level = f64::from(report.level_dbov.expect("it is watched"));
    let expected = 20.0 * (LOUD / 32_768.0).log10() - 3.01;
    assert!((level - expected).abs() < 0.5, "{level} dBov, not {expected}");
    assert!(report.talking);
    packets(&mut world, &mut a, true, 600);
    let events = told(&mut world);
    let [
        (first, EventKind::TalkStarted),
        (second, EventKind::TalkStopped { duration_ms }),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!([&**first, &**second], ["a", "a"]);
    assert!((980..=1_060).contains(duration_ms), "{duration_ms} ms");
    let report = world.endpoint("a");
    assert!(!report.talking && report.level_dbov.is_some_and(|level| level < -25.0));
    // B is not watched, and all came through packet by packet, at once.
    packets(&mut world, &mut b, false, 500);
    assert_eq!(told(&mut world), []);
    assert_eq!(world.endpoint("b").level_dbov, None);
    let sent = world.sent_rtp();
    let of = |number| {
        sent.iter()
            .filter(|sent| sent.socket == rtp_socket(number))
            .count()
    };
    assert_eq!((of(1), of(0)), (105, 25));
    let plans = world.report(SESSION).expect("there").plans;
    assert!(plans.iter().all(|plan| plan.kind == PlanKind::Relay), "{plans:?}");
}

#[test]
fn a_source_that_goes_silent_has_stopped_and_the_tick_rests() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").detect_talk = true;
    world.commit(SESSION, &graph);
    let mut a = Voice::pcmu(0, TONE);
    for _ in 0..2 {
        packets(&mut world, &mut a, false, 400);
        // No packet any more, as when a telephone suppresses silence.
        world.pass_ms(3_000);
        let events = told(&mut world);
        let [duration_ms] = durations(&events)[..] else {
            panic!("{events:?}")
        };
        assert!((360..=520).contains(&duration_ms), "{duration_ms} ms");
        let wake = world.engine.poll_timeout().map(|(_, wake)| wake);
        assert_ne!(wake, Some(media_engine::engine::Wake::Tick), "it rests");
    }
}

#[test]
fn a_room_tells_who_talks_in_it_and_edits_do_not_disturb_that() {
    let mut world = World::new();
    let mut graph = Graph::of(
        vec![Party::new("a", 0), Party::new("b", 1), Party::new("c", 2)],
        &[],
    );
    let mut watched = room("room", 8_000);
    if let media_engine::spec::NodeKind::Room(room) = &mut watched.kind {
        room.talk_events = true;
    }
    graph.others.push(watched);
    for id in ["a", "b", "c"] {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    // C is muted: nobody hears it, and the room does not tell of it.
    graph.edges[4].muted = true;
    world.commit(SESSION, &graph);
    let mut voices = [
        Voice::pcmu(0, TONE),
        Voice::pcmu(1, 700.0),
        Voice::pcmu(2, 1_100.0),
    ];
    voices[1].silent = true;
    let [a, b, c] = &mut voices;
    for round in 0..3 {
        talk(&mut world, &mut [a, b, c], 300);
        // A gain, and back: A talks on.
        graph.edges[0].gain_db = if round == 0 { -6.0 } else { 0.0 };
        world.commit(SESSION, &graph);
    }
    a.silent = true;
    talk(&mut world, &mut [a, b, c], 600);
    let events = told(&mut world);
    assert!(events.iter().all(|(who, _)| who == "a"), "{events:?}");
    assert_eq!(events.len(), 2, "{events:?}");
    let [duration_ms] = durations(&events)[..] else {
        panic!("{events:?}")
    };
    assert!((880..=980).contains(&duration_ms), "{duration_ms} ms");
    // Watched by itself, C is told of as well, although nobody hears it.
    graph.party("c").detect_talk = true;
    world.commit(SESSION, &graph);
    talk(&mut world, &mut [a, b, c], 300);
    assert_eq!(told(&mut world), [("c".into(), EventKind::TalkStarted)]);
}
