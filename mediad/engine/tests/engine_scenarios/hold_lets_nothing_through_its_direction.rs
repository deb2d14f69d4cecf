use crate::world::{Graph, SESSION, Speaker, World, peer, rtp_socket};
use media_engine::{
    command::{DropReason, PlanKind},
    spec::Direction,
};

/// Packets that reach b from a, and a from b, with `a` set to `direction`.
fn flows(direction: Direction) -> ((usize, usize), u64) {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").direction = direction;
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
    for _ in 0..10 {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
        world.receive(rtp_socket(1), peer(1), &b.packet(&[2]));
    }
    let sent = world.sent_rtp();
    let to = |number| sent.iter().filter(|sent| sent.to == peer(number)).count();
    let drops = world.drops("t-a", DropReason::Direction);
    ((to(1), to(0)), drops)
}

#[test]
fn each_direction_passes_what_it_says() {
    assert_eq!(flows(Direction::SendRecv), ((10, 10), 0));
    assert_eq!(flows(Direction::SendOnly), ((0, 10), 10));
    assert_eq!(flows(Direction::RecvOnly), ((10, 0), 0));
    assert_eq!(flows(Direction::Inactive), ((0, 0), 10));
}

#[test]
fn resuming_continues_the_line() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    let mut b = Speaker::new(0xB);
    for _ in 0..10 {
        world.receive(rtp_socket(1), peer(1), &b.packet(&[2]));
        world.pass_ms(20);
    }
    let before = world.sent_rtp().last().expect("a heard b").header();
    graph.party("a").direction = Direction::Inactive;
    world.commit(SESSION, &graph);
    let plans = world.report(SESSION).expect("the session is there").plans;
    assert!(
        plans
            .iter()
            .all(|plan| plan.kind == PlanKind::Silent && plan.sources.is_empty())
    );
    for _ in 0..500 {
        world.receive(rtp_socket(1), peer(1), &b.packet(&[2]));
        world.pass_ms(20);
    }
    assert_eq!(world.sent_rtp(), []);
    graph.party("a").direction = Direction::SendRecv;
    world.commit(SESSION, &graph);
    world.receive(rtp_socket(1), peer(1), &b.packet(&[2]));
    let after = world.sent_rtp()[0].header();
    assert_eq!(after.ssrc, before.ssrc);
    assert_eq!(
        after.sequence,
        before.sequence.wrapping_add(1),
        "hold is not a loss"
    );
    assert_eq!(
        after.timestamp.diff(before.timestamp),
        501 * 160,
        "the media clock ran on"
    );
    assert!(after.marker);
}

#[test]
fn a_muted_edge_keeps_its_place_and_carries_nothing() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.edges[0].muted = true;
    world.commit(SESSION, &graph);
    world.receive(rtp_socket(0), peer(0), &Speaker::new(0xA).packet(&[1]));
    assert_eq!(world.sent_rtp(), []);
    assert_eq!(world.engine.totals().drops, [0; DropReason::COUNT]);
    assert_eq!(world.endpoint("a").ingress.packets, 1);
}

/// A peer that goes on sending while it is held, or sends what was not agreed on in between, loses nothing.
#[test]
fn packets_that_nobody_is_to_hear_are_not_told_as_lost() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    for held in [false, true, false] {
        graph.party("a").direction = match held {
            true => Direction::SendOnly,
            false => Direction::SendRecv,
        };
        world.commit(SESSION, &graph);
        for n in 0..300 {
            // Comfort noise that nobody asked for.
            a.payload_type = if n % 10 == 9 { 13 } else { 0 };
            world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
            world.pass_ms(20);
        }
    }
    let ingress = world.endpoint("a").ingress;
    assert_eq!((ingress.packets, ingress.lost), (540, 0));
    assert_eq!(world.drops("t-a", DropReason::PayloadType), 60);
    assert_eq!(world.drops("t-a", DropReason::Direction), 300);
    // One that really is lost is told.
    a.packet(&[1]);
    a.payload_type = 0;
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    assert_eq!(world.endpoint("a").ingress.lost, 1);
}
