use crate::world::{Graph, SESSION, Speaker, World, peer, rtcp_socket, rtp_socket, ssrc};
use media_engine::{
    command::{DropReason, EventKind, PlanKind},
    spec::Direction,
};

#[test]
fn both_parties_hear_each_other_on_one_line_each() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let (mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
    let mut heard_by_b = Vec::new();
    let mut heard_by_a = Vec::new();
    for n in 0..100u8 {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[n; 160]));
        heard_by_b.extend(world.sent_rtp());
        world.receive(rtp_socket(1), peer(1), &b.packet(&[n ^ 0x80; 160]));
        heard_by_a.extend(world.sent_rtp());
        world.pass_ms(20);
    }
    for (heard, listener, flip) in [(&heard_by_b, 1, 0), (&heard_by_a, 0, 0x80u8)] {
        assert_eq!(heard.len(), 100);
        let first = heard[0].header();
        assert!(first.marker, "a line begins with the marker");
        for (n, sent) in heard.iter().enumerate() {
            let header = sent.header();
            assert_eq!((sent.socket, sent.to), (rtp_socket(listener), peer(listener)));
            assert_eq!(header.ssrc, ssrc(listener));
            assert_eq!(header.sequence, first.sequence.wrapping_add(n as u16));
            assert_eq!(header.timestamp, first.timestamp.wrapping_add(160 * n as u32));
            assert_eq!(header.marker, n == 0);
            assert_eq!(sent.payload(), [n as u8 ^ flip; 160]);
        }
    }
    let report = world.report(SESSION).expect("the session is there");
    assert!(
        report
            .plans
            .iter()
            .all(|plan| plan.kind == PlanKind::Relay && plan.sources.len() == 1)
    );
    assert_eq!(report.endpoints[0].ingress.packets, 100);
    assert_eq!(report.endpoints[0].egress.packets, 100);
    assert_eq!(report.endpoints[0].ingress.bytes, 16_000);
    assert_eq!(report.transports[0].rx_bytes, 17_200);
    assert_eq!(world.engine.totals().drops, [0; DropReason::COUNT]);
    let started = world.event_kinds();
    assert_eq!(started.len(), 2);
    assert!(
        started
            .iter()
            .all(|kind| matches!(kind, EventKind::MediaStarted { .. }))
    );
}

#[test]
fn losses_and_reordering_of_the_source_stay_visible() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    let packets: Vec<_> = (0..10u8).map(|n| a.packet(&[n])).collect();
    // 3 is lost, 5 and 6 change places, 7 comes twice.
    for n in [0, 1, 2, 4, 6, 5, 7, 7, 8, 9] {
        world.receive(rtp_socket(0), peer(0), &packets[n]);
    }
    let sent = world.sent_rtp();
    let first = sent[0].header().sequence;
    let order: Vec<_> = sent
        .iter()
        .map(|sent| sent.header().sequence.wrapping_sub(first))
        .collect();
    assert_eq!(order, [0, 1, 2, 4, 6, 5, 7, 8, 9]);
    let payloads: Vec<_> = sent.iter().map(|sent| sent.payload()[0]).collect();
    assert_eq!(payloads, [0, 1, 2, 4, 6, 5, 7, 8, 9]);
    assert_eq!(world.drops("t-a", DropReason::Replay), 1);
    let ingress = world.endpoint("a").ingress;
    assert_eq!((ingress.lost, ingress.reordered, ingress.duplicates), (1, 1, 1));
}

#[test]
fn header_extension_padding_and_csrcs_end_at_the_relay() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut packet = Speaker::new(0xA).packet(&[]);
    packet[0] |= 0x10 | 0x20 | 0x01;
    packet.extend_from_slice(&[1, 2, 3, 4]); // CSRC
    packet.extend_from_slice(&[0xBE, 0xDE, 0, 1, 9, 9, 9, 9]); // extension
    packet.extend_from_slice(b"audio");
    packet.extend_from_slice(&[0, 0, 3]); // padding
    world.receive(rtp_socket(0), peer(0), &packet);
    let sent = world.sent_rtp();
    assert_eq!(sent[0].bytes.len(), 12 + 5);
    assert_eq!(sent[0].payload(), b"audio");
    assert_eq!(sent[0].bytes[0], 0x80);
}

#[test]
fn a_full_send_side_is_counted_and_shows_as_a_loss() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[0]));
    world.wire.full = true;
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    world.wire.full = false;
    world.receive(rtp_socket(0), peer(0), &a.packet(&[2]));
    let sent = world.sent_rtp();
    assert_eq!(
        sent[1].header().sequence.wrapping_sub(sent[0].header().sequence),
        2
    );
    assert_eq!(world.drops("t-b", DropReason::EgressFull), 1);
    assert_eq!(world.engine.totals().drops[DropReason::EgressFull as usize], 1);
}

#[test]
fn what_is_not_rtp_is_counted_by_reason() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let rtp = Speaker::new(0xA).packet(&[0; 20]);
    world.receive(rtp_socket(0), peer(0), &[]);
    world.receive(rtp_socket(0), peer(0), &rtp[..11]);
    world.receive(rtp_socket(0), peer(0), &[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]);
    world.receive(rtp_socket(0), peer(0), &[22, 0xFE, 0xFD]);
    world.receive(rtcp_socket(0), peer(0), &rtp);
    let mut unknown = rtp.clone();
    unknown[1] = 99;
    world.receive(rtp_socket(0), peer(0), &unknown);
    world.receive(rtp_socket(40), peer(0), &rtp);
    assert_eq!(world.drops("t-a", DropReason::Malformed), 2);
    assert_eq!(world.drops("t-a", DropReason::UnexpectedProtocol), 3);
    assert_eq!(world.drops("t-a", DropReason::PayloadType), 1);
    assert_eq!(world.engine.totals().drops[DropReason::NoEndpoint as usize], 1);
    assert_eq!(world.transport("t-a").rx_packets, 6);
    assert!(world.sent().is_empty());
}

/// What was not agreed on, or came while the peer was on hold, is no loss to those who hear the rest.
#[test]
fn packets_that_nobody_is_to_hear_leave_no_gap() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    let mut say = |world: &mut World, payload_type: u8, packets: u8| {
        a.payload_type = payload_type;
        for n in 0..packets {
            world.receive(rtp_socket(0), peer(0), &a.packet(&[n; 160]));
            world.pass_ms(20);
        }
    };
    for _ in 0..5 {
        say(&mut world, 0, 10);
        say(&mut world, 77, 3);
    }
    say(&mut world, 0, 10);
    graph.party("a").direction = Direction::SendOnly;
    world.commit(SESSION, &graph);
    say(&mut world, 0, 10);
    graph.party("a").direction = Direction::SendRecv;
    world.commit(SESSION, &graph);
    say(&mut world, 0, 10);
    assert_eq!(world.drops("t-a", DropReason::PayloadType), 15);
    assert_eq!(world.drops("t-a", DropReason::Direction), 10);
    let sent = world.sent_rtp();
    assert_eq!(sent.len(), 70);
    for pair in sent.windows(2) {
        let (before, after) = (pair[0].header(), pair[1].header());
        assert_eq!(after.sequence, before.sequence.wrapping_add(1));
        assert!(
            after.timestamp.diff(before.timestamp) >= 160,
            "time passed all the same"
        );
    }
    assert_eq!(world.endpoint("a").ingress.lost, 0);
}
