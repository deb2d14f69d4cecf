use crate::world::{Graph, SESSION, Speaker, World, peer, rtp_socket};
use media_engine::{
    command::{DropReason, EventKind, SourceState},
    explain::{Code, Severity},
    spec::SourcePolicy,
};

use std::net::SocketAddr;

fn stranger(n: u16) -> SocketAddr {
    format!("198.51.100.{}:{}", n % 250, 5000 + n / 250)
        .parse()
        .expect("an address")
}

#[test]
fn four_packets_in_sequence_from_one_source_are_believed() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let nat: SocketAddr = "203.0.113.9:61000".parse().expect("an address");
    let mut a = Speaker::new(0xA);
    for n in 0..4u8 {
        assert_eq!(world.sent_rtp(), []);
        world.receive(rtp_socket(0), nat, &a.packet(&[n]));
        world.pass_ms(20);
    }
    assert_eq!(world.sent_rtp().len(), 1, "the fourth packet goes through");
    assert_eq!(world.drops("t-a", DropReason::Probation), 3);
    let report = world.transport("t-a");
    assert_eq!((report.remote, report.source), (Some(nat), SourceState::Locked));
    assert_eq!(
        report.remote_rtcp,
        Some("203.0.113.9:61001".parse().expect("an address"))
    );
    let learned = EventKind::SourceLearned {
        address: nat,
        previous: Some(peer(0)),
        rtcp: false,
    };
    assert!(world.event_kinds().contains(&learned));
    // What goes to `a` goes to the learned address.
    world.receive(rtp_socket(1), peer(1), &Speaker::new(0xB).packet(&[1]));
    assert_eq!(world.sent_rtp()[0].to, nat);
}

/// What was wrong for long and what is wrong now are both told.
#[test]
fn all_that_packets_are_refused_for_is_explained() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").source = SourcePolicy::Signalled;
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    a.payload_type = 77;
    for (from, packets) in [(peer(0), 300), (stranger(1), 60)] {
        for _ in 0..packets {
            world.receive(rtp_socket(0), from, &a.packet(&[1]));
            world.pass_ms(20);
        }
        a.payload_type = 0;
    }
    // What happens to everybody now and then says nothing.
    world.receive(rtp_socket(0), peer(0), &[0x80; 5]);
    let findings = world.explain(&graph, "a", "b");
    let problems: Vec<Code> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Problem)
        .map(|finding| finding.code)
        .collect();
    assert_eq!(problems, [Code::PayloadType, Code::WrongSource], "{findings:?}");
}

#[test]
fn the_signalled_source_is_believed_at_once() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    world.receive(rtp_socket(0), peer(0), &Speaker::new(0xA).packet(&[1]));
    assert_eq!(world.sent_rtp().len(), 1);
    assert_eq!(world.transport("t-a").source, SourceState::Locked);
    let events = world.event_kinds();
    assert!(
        !events
            .iter()
            .any(|kind| matches!(kind, EventKind::SourceLearned { .. })),
        "nothing was learned"
    );
}

#[test]
fn a_live_source_is_not_disturbed_by_strangers() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    let mut spoofer = Speaker::new(0xBAD);
    for n in 0..200 {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
        for k in 0..20 {
            world.receive(
                rtp_socket(0),
                stranger(n * 20 + k),
                &Speaker::new(0xA).packet(&[9]),
            );
            world.receive(rtp_socket(0), stranger(1), &spoofer.packet(&[9]));
        }
        world.pass_ms(20);
    }
    let sent = world.sent_rtp();
    assert_eq!(sent.len(), 200);
    assert!(sent.iter().all(|sent| sent.payload() == [1]));
    assert_eq!(world.drops("t-a", DropReason::WrongSource), 200 * 40);
    assert_eq!(world.transport("t-a").remote, Some(peer(0)));
    assert_eq!(world.transport("t-a").refused, Some(stranger(1)));
    assert_eq!(world.endpoint("a").ingress.lost, 0);
}

#[test]
fn a_silent_source_may_be_replaced_after_a_while_and_not_before() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    world.receive(rtp_socket(0), peer(0), &Speaker::new(0xA).packet(&[1]));
    let mut moved = Speaker::new(0xA2);
    let elsewhere = stranger(7);
    for _ in 0..149 {
        world.pass_ms(20);
        world.receive(rtp_socket(0), elsewhere, &moved.packet(&[2]));
    }
    assert_eq!(world.drops("t-a", DropReason::WrongSource), 149);
    for _ in 0..5 {
        world.pass_ms(20);
        world.receive(rtp_socket(0), elsewhere, &moved.packet(&[2]));
    }
    let report = world.transport("t-a");
    assert_eq!(report.remote, Some(elsewhere));
    assert_eq!(report.drops[DropReason::Probation as usize], 3);
    let learned = EventKind::SourceLearned {
        address: elsewhere,
        previous: Some(peer(0)),
        rtcp: false,
    };
    assert!(world.event_kinds().contains(&learned));
    // The old source is now a stranger.
    world.receive(rtp_socket(0), peer(0), &Speaker::new(0xA).packet(&[1]));
    assert_eq!(world.drops("t-a", DropReason::WrongSource), 150);
}

#[test]
fn a_flood_of_strangers_cannot_keep_the_peer_from_being_learned() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").remote = None;
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    let behind_nat: SocketAddr = "203.0.113.9:61000".parse().expect("an address");
    let mut noise = 1u32;
    let mut rounds = 0;
    while world.transport("t-a").remote.is_none() {
        rounds += 1;
        assert!(rounds < 50, "a second of flood and the peer is still not heard");
        // 50 000 packets a second, each from another address with another SSRC.
        for _ in 0..1000 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let from = SocketAddr::from((noise.to_be_bytes(), 1024 + (noise >> 20) as u16));
            let mut spoofed = Speaker::new(noise);
            spoofed.sequence = noise as u16;
            world.receive(rtp_socket(0), from, &spoofed.packet(&[9]));
        }
        world.receive(rtp_socket(0), behind_nat, &a.packet(&[1]));
        world.pass_ms(20);
    }
    assert_eq!(world.transport("t-a").remote, Some(behind_nat));
}

#[test]
fn interleaved_or_jumping_packets_are_not_a_source() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").remote = None;
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    for _ in 0..40 {
        world.receive(rtp_socket(0), stranger(1), &a.packet(&[1]));
        a.sequence = a.sequence.wrapping_add(7);
    }
    for n in 0..40 {
        // In sequence, but each time from another port.
        world.receive(rtp_socket(0), stranger(n * 250), &a.packet(&[1]));
    }
    assert_eq!(world.transport("t-a").source, SourceState::Probation);
    assert_eq!(world.drops("t-a", DropReason::Probation), 80);
}

#[test]
fn signalled_accepts_only_what_was_signalled_and_immediate_the_first() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("a").source = SourcePolicy::Signalled;
    graph.party("b").source = SourcePolicy::Immediate;
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
    for _ in 0..20 {
        world.receive(rtp_socket(0), stranger(1), &a.packet(&[1]));
    }
    assert_eq!(world.drops("t-a", DropReason::WrongSource), 20);
    assert_eq!(world.sent_rtp(), []);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    assert_eq!(world.sent_rtp().len(), 1);
    world.receive(rtp_socket(1), stranger(2), &b.packet(&[1]));
    assert_eq!(world.sent_rtp().len(), 1);
    assert_eq!(world.transport("t-b").remote, Some(stranger(2)));
}

#[test]
fn a_changed_signalled_address_ends_the_lock() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    graph.party("a").remote = Some(peer(50));
    world.commit(SESSION, &graph);
    assert_eq!(world.transport("t-a").remote, Some(peer(50)));
    world.receive(rtp_socket(0), peer(50), &a.packet(&[1]));
    assert_eq!(world.sent_rtp().len(), 2);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    assert_eq!(world.drops("t-a", DropReason::WrongSource), 1);
}

/// When media moves, packets from where it was go on for a moment and are learned again. Whoever was signalled is heard,
/// and heard by, at once all the same.
#[test]
fn the_newly_signalled_source_takes_the_place_of_the_one_before() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    let (mut before, mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xA2), Speaker::new(0xB));
    world.receive(rtp_socket(0), peer(0), &before.packet(&[1]));
    graph.party("a").remote = Some(peer(50));
    world.commit(SESSION, &graph);
    for n in 0..40 {
        world.receive(rtp_socket(0), peer(0), &before.packet(&[1]));
        let remote = world.transport("t-a").remote;
        // For half a second it may be what was on its way, then it is probed like any other.
        let back = n >= 25 + 3;
        assert_eq!(remote, Some(if back { peer(0) } else { peer(50) }), "packet {n}");
        world.pass_ms(20);
    }
    assert_eq!(world.sent_rtp().len(), 1 + 25 + 12, "and heard meanwhile");
    world.sent();
    for n in 0..50 {
        world.receive(rtp_socket(0), peer(50), &a.packet(&[2]));
        world.receive(rtp_socket(0), peer(0), &before.packet(&[1]));
        world.receive(rtp_socket(0), stranger(1), &Speaker::new(0xBAD).packet(&[9]));
        world.receive(rtp_socket(1), peer(1), &b.packet(&[3]));
        let sent: Vec<_> = world
            .sent_rtp()
            .into_iter()
            .map(|sent| (sent.to, sent.payload()[0]))
            .collect();
        assert_eq!(sent, [(peer(1), 2), (peer(50), 3)], "packet {n}");
        world.pass_ms(20);
    }
    assert_eq!(world.drops("t-a", DropReason::WrongSource), 100);
    assert_eq!(world.transport("t-a").remote, Some(peer(50)));
}

/// Who moves to where it only listens, or has nothing to say yet, is not taken to be where its last packets came from.
#[test]
fn who_moved_and_is_silent_there_is_sent_to_where_it_is() {
    for late_ms in [100, 700, 5_000] {
        let mut world = World::new();
        let mut graph = Graph::call();
        world.commit(SESSION, &graph);
        let (mut before, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
        world.receive(rtp_socket(0), peer(0), &before.packet(&[1]));
        graph.party("a").remote = Some(peer(50));
        world.commit(SESSION, &graph);
        // What was on its way, or a phone that is slow to fall silent.
        for _ in 0..late_ms / 20 {
            world.receive(rtp_socket(0), peer(0), &before.packet(&[1]));
            world.pass_ms(20);
        }
        world.event_kinds();
        let fell_back = late_ms > 500;
        world.sent();
        for n in 0..200 {
            world.receive(rtp_socket(1), peer(1), &b.packet(&[3]));
            let to = world.sent_rtp()[0].to;
            // Three seconds without a packet from there, and a turn of the timer.
            match (fell_back, n) {
                (true, 0..148) => assert_eq!(to, peer(0), "{late_ms} ms, packet {n}"),
                (true, 148..152) => {}
                (true, _) | (false, _) => assert_eq!(to, peer(50), "{late_ms} ms, packet {n}"),
            }
            world.pass_ms(20);
        }
        let moved = EventKind::SourceLearned {
            address: peer(50),
            previous: Some(peer(0)),
            rtcp: false,
        };
        assert_eq!(world.event_kinds().contains(&moved), fell_back);
        assert_eq!(world.transport("t-a").source, SourceState::Signalled);
    }
}

/// A hold that takes the address away and gives it again: the peer behind NAT is where it was.
#[test]
fn an_address_that_is_given_again_after_a_hold_is_no_move() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
    let nat = stranger(3);
    for _ in 0..5 {
        world.receive(rtp_socket(0), nat, &a.packet(&[1]));
        world.pass_ms(20);
    }
    for remote in [None, Some(peer(0))] {
        graph.party("a").remote = remote;
        world.commit(SESSION, &graph);
        world.sent();
        world.receive(rtp_socket(1), peer(1), &b.packet(&[3]));
        assert_eq!(world.sent_rtp()[0].to, nat);
    }
}
