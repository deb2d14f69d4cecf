use crate::world::{Graph, SESSION, Speaker, World, peer, rtp_socket};
use media_engine::{
    command::{Command, EventKind},
    spec::Direction,
};

fn timeouts(world: &mut World) -> Vec<(Option<String>, u64, bool)> {
    let of = |event: media_engine::command::EngineEvent| match event.kind {
        EventKind::MediaTimeout {
            silent_ms,
            never_started,
        } => Some((
            event.subject.map(|name| name.to_string()),
            silent_ms,
            never_started,
        )),
        _ => None,
    };
    world.events().into_iter().filter_map(of).collect()
}

#[test]
fn each_receiving_endpoint_times_out_once_until_media_returns() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("b").direction = Direction::SendOnly;
    world.commit(SESSION, &graph);
    world.pass_ms(29_000);
    assert_eq!(timeouts(&mut world), []);
    world.pass_ms(60_000);
    let told = timeouts(&mut world);
    let [(Some(node), silent_ms, true)] = &told[..] else {
        panic!("one time-out of a, not {told:?}")
    };
    assert_eq!(node, "a");
    assert!((30_000..30_100).contains(silent_ms), "{silent_ms} ms");
    assert!(world.endpoint("a").timed_out);

    let mut a = Speaker::new(0xA);
    a.step = 8_000;
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    assert!(!world.endpoint("a").timed_out);
    assert!(matches!(
        world.event_kinds()[..],
        [EventKind::MediaStarted { resumed: true, .. }]
    ));
    for _ in 0..100 {
        world.pass_ms(1_000);
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    }
    assert_eq!(world.event_kinds(), []);
    world.pass_ms(31_000);
    assert_eq!(timeouts(&mut world).len(), 1);
}

#[test]
fn silence_counts_from_when_media_is_expected() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").direction = Direction::Inactive;
    graph.party("b").direction = Direction::Inactive;
    world.commit(SESSION, &graph);
    world.pass_ms(100_000);
    assert_eq!(timeouts(&mut world), []);
    graph.party("a").direction = Direction::SendRecv;
    world.commit(SESSION, &graph);
    world.pass_ms(29_900);
    assert_eq!(timeouts(&mut world), []);
    world.pass_ms(200);
    assert_eq!(timeouts(&mut world).len(), 1);
}

#[test]
fn an_orphan_is_silent_when_all_its_endpoints_are() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    world.command(Command::Orphaned(SESSION, true));
    for _ in 0..100 {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
        world.pass_ms(1_000);
    }
    let silent = |world: &mut World| {
        world
            .event_kinds()
            .into_iter()
            .filter(|kind| *kind == EventKind::Silent)
            .count()
    };
    assert_eq!(silent(&mut world), 0, "b is silent, a is not");
    world.pass_ms(28_000);
    assert_eq!(silent(&mut world), 0);
    world.pass_ms(2_000);
    assert_eq!(silent(&mut world), 1);
    world.pass_ms(100_000);
    assert_eq!(silent(&mut world), 0, "told once");
}

#[test]
fn an_adopted_session_is_not_silent() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    world.command(Command::Orphaned(SESSION, true));
    world.pass_ms(10_000);
    world.command(Command::Orphaned(SESSION, false));
    world.pass_ms(100_000);
    assert!(!world.event_kinds().contains(&EventKind::Silent));
    // Orphaned again after long silence: at once.
    world.command(Command::Orphaned(SESSION, true));
    assert_eq!(world.event_kinds(), [EventKind::Silent]);
}
