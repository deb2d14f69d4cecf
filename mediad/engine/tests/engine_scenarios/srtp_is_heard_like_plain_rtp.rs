//! Encryption on either side changes nothing of who hears whom: relays, mixes, digits and reports, over rollovers,
//! edits, holds and changes of keys.

use std::sync::Arc;

use codecs::CodecKind;
use media_engine::{
    command::{Command, DropReason, EventKind, PlanKind, SendDigit},
    spec::{Direction, SourcePolicy, Suite},
};
use rtp::rtcp::{Compound, Packet, RtcpWriter};
use srtp::{Inbound, Outbound};

use crate::{
    cipher::{Cipher, key, sdes},
    tones::{Ear, LOUD, Voice},
    world::{Graph, Party, SESSION, Sent, Speaker, World, edge, peer, room, rtcp_socket, rtp_socket},
};

const KINDS: &[(u8, CodecKind)] = &[(0, CodecKind::Pcmu)];
const TONES: [f64; 3] = [440.0, 700.0, 1_100.0];

fn plan_kinds(world: &mut World) -> Vec<PlanKind> {
    let report = world.report(SESSION).expect("the session is there");
    report.plans.iter().map(|plan| plan.kind).collect()
}

/// Each packet follows the one before.
fn assert_unbroken(sent: &[Sent]) {
    for pair in sent.windows(2) {
        let (before, after) = (pair[0].header(), pair[1].header());
        assert_eq!(after.sequence, before.sequence.wrapping_add(1));
        assert_eq!(after.ssrc, before.ssrc);
    }
}

#[test]
fn every_suite_is_joined_with_plain_rtp_and_with_another_suite() {
    for (a_suite, b_suite) in [
        (None, Some(Suite::AesCm128HmacSha1_80)),
        (None, Some(Suite::AesCm128HmacSha1_32)),
        (None, Some(Suite::Aes256CmHmacSha1_80)),
        (None, Some(Suite::AeadAes128Gcm)),
        (None, Some(Suite::AeadAes256Gcm)),
        (Some(Suite::AesCm128HmacSha1_80), Some(Suite::AeadAes256Gcm)),
        (Some(Suite::AeadAes128Gcm), Some(Suite::AeadAes128Gcm)),
    ] {
        let mut world = World::new();
        let mut graph = Graph::call();
        let mut a = a_suite.map(|suite| Cipher::new(graph.party("a"), suite));
        let mut b = b_suite
            .map(|suite| Cipher::new(graph.party("b"), suite))
            .expect("one is");
        world.commit(SESSION, &graph);
        assert_eq!(plan_kinds(&mut world), [PlanKind::Rewrite; 2]);
        let (mut from_a, mut from_b) = (Speaker::new(0xA), Speaker::new(0xB));
        let (mut heard_by_a, mut heard_by_b) = (Vec::new(), Vec::new());
        // More than a cycle of sequence numbers each way.
        for n in 0..70_000_u32 {
            if n == 35_000 {
                // The peer takes another SSRC: the line goes on.
                from_b = Speaker::new(0xBB);
            }
            let payload = [n as u8; 20];
            let packet = from_a.packet(&payload);
            match &mut a {
                Some(a) => a.speak(&mut world, &packet),
                None => world.receive(rtp_socket(0), peer(0), &packet),
            }
            b.speak(&mut world, &from_b.packet(&payload));
            let sent = world.sent();
            assert_eq!(sent.len(), 2);
            heard_by_b.extend(b.read(&world, &sent));
            match &mut a {
                Some(a) => heard_by_a.extend(a.read(&world, &sent)),
                None => heard_by_a.extend(sent.into_iter().filter(|sent| sent.socket == rtp_socket(0))),
            }
            for heard in [&mut heard_by_a, &mut heard_by_b] {
                assert_eq!(heard.last().expect("heard").payload(), payload);
                assert_unbroken(heard);
                heard.drain(..heard.len() - 1);
            }
        }
        assert_eq!(world.engine.totals().drops, [0; DropReason::COUNT]);
        let to_b = world.transport("t-b");
        let trailer = b.tx.suite().rtp_trailer_bytes() as u64;
        assert_eq!(
            to_b.tx_bytes,
            70_000 * (32 + trailer),
            "what is on the wire is counted"
        );
        assert_eq!(to_b.rx_bytes, 70_000 * (32 + trailer));
    }
}

#[test]
fn until_the_key_is_known_nothing_goes_and_nothing_comes() {
    let suite = Suite::AesCm128HmacSha1_80;
    let mut world = World::new();
    let mut graph = Graph::call();
    let mut b = Cipher::new(graph.party("b"), suite);
    let known = graph.party("b").sdes.replace(sdes(suite, None));
    let sending = graph.party("b").sending.take();
    world.commit(SESSION, &graph);
    let (mut from_a, mut from_b) = (Speaker::new(0xA), Speaker::new(0xB));
    for _ in 0..300 {
        world.receive(rtp_socket(0), peer(0), &from_a.packet(&[1; 160]));
        b.speak(&mut world, &from_b.packet(&[2; 160]));
        world.receive(rtp_socket(1), peer(1), &from_b.packet(&[3; 160]));
        world.pass_ms(20);
    }
    let sent = world.sent();
    assert!(
        sent.iter()
            .all(|sent| sent.is_rtcp() && sent.socket == rtcp_socket(0)),
        "only reports, and only to who is not encrypted"
    );
    assert_eq!(world.drops("t-b", DropReason::Authentication), 600);
    assert_eq!(world.endpoint("b").ingress.packets, 0);

    graph.party("b").sdes = known;
    graph.party("b").sending = sending;
    world.commit(SESSION, &graph);
    for _ in 0..10 {
        world.receive(rtp_socket(0), peer(0), &from_a.packet(&[1; 160]));
        b.speak(&mut world, &from_b.packet(&[2; 160]));
    }
    let sent = world.sent();
    assert_eq!(b.read(&world, &sent).len(), 10);
    assert_eq!(sent.len(), 20);
}

#[test]
fn one_authentic_packet_teaches_the_address_and_a_forged_one_nothing() {
    for policy in [SourcePolicy::Learn, SourcePolicy::Immediate] {
        let mut world = World::new();
        let mut graph = Graph::call();
        let mut b = Cipher::new(graph.party("b"), Suite::AeadAes128Gcm);
        graph.party("b").source = policy;
        world.commit(SESSION, &graph);
        let mut stranger = Outbound::new(&key(Suite::AeadAes128Gcm, 99));
        let mut forge = |packet: &[u8]| {
            let mut slot = [packet, &[0; 16]].concat();
            stranger.protect_rtp(&mut slot, packet.len()).expect("counts up");
            slot
        };
        let (mut from_b, mut from_x) = (Speaker::new(0xB), Speaker::new(0xB));
        for _ in 0..20 {
            world.receive(rtp_socket(1), peer(66), &forge(&from_x.packet(&[9; 160])));
            world.receive(rtp_socket(1), peer(66), &from_x.packet(&[9; 160]));
        }
        assert_eq!(world.events(), [], "nothing was learned");
        // Behind NAT: from elsewhere than signalled.
        let packet = b.rtp(&from_b.packet(&[2; 160]));
        world.receive(rtp_socket(1), peer(77), &packet);
        assert!(matches!(
            world.event_kinds()[..],
            [EventKind::SourceLearned { address, .. }, EventKind::MediaStarted { .. }] if address == peer(77)
        ));
        assert_eq!(world.sent_rtp().len(), 1, "a hears it at once");
        // From now on strangers are not worth a decryption.
        world.receive(rtp_socket(1), peer(66), &forge(&from_x.packet(&[9; 160])));
        assert_eq!(world.drops("t-b", DropReason::WrongSource), 1);
        assert_eq!(world.drops("t-b", DropReason::Authentication), 40);
        // A packet that was recorded and is sent again is refused, also from the peer's own address.
        world.receive(rtp_socket(1), peer(77), &packet);
        assert_eq!(world.drops("t-b", DropReason::Replay), 1);
        assert_eq!(world.sent_rtp(), []);
    }
}

/// Three in a room, one of them plain, with digits, reports and a hold.
#[test]
fn mixes_digits_reports_and_holds_are_encrypted_too() {
    let mut world = World::new();
    let mut graph = Graph::of(
        vec![Party::new("a", 0), Party::new("b", 1), Party::new("c", 2)],
        &[],
    );
    let mut ciphers = [
        Cipher::new(graph.party("b"), Suite::AesCm128HmacSha1_32),
        Cipher::new(graph.party("c"), Suite::AeadAes256Gcm),
    ];
    graph.others.push(room("room", 8_000));
    for id in ["a", "b", "c"] {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    world.commit(SESSION, &graph);
    assert_eq!(plan_kinds(&mut world), [PlanKind::Mix; 3]);
    let mut voices = [0, 1, 2].map(|n| Voice::pcmu(n, TONES[n as usize]));
    let mut ears = [Ear::default(), Ear::default(), Ear::default()];
    let mut reports = 0;
    let mut digits = 0;
    for round in 0..4 {
        match round {
            1 => graph.party("b").direction = Direction::RecvOnly,
            2 => graph.party("b").direction = Direction::SendRecv,
            3 => {
                let digit = SendDigit {
                    event: Some(5),
                    duration_ms: 100,
                    gap_ms: 60,
                    volume: 10,
                };
                world.command(Command::SendDigits(SESSION, "c".into(), [digit].into()));
            }
            _ => {}
        }
        world.commit(SESSION, &graph);
        for _ in 0..400 {
            let packets: Vec<_> = voices.iter_mut().map(Voice::packet).collect();
            world.receive(rtp_socket(0), peer(0), &packets[0]);
            for (cipher, packet) in ciphers.iter_mut().zip(&packets[1..]) {
                cipher.speak(&mut world, packet);
            }
            world.pass_ms(20);
        }
        let sent = world.sent();
        let plain: Vec<_> = sent
            .iter()
            .filter(|sent| sent.socket == rtp_socket(0))
            .cloned()
            .collect();
        ears[0].hear(&plain, 0, KINDS);
        for (n, cipher) in (1..).zip(&mut ciphers) {
            let read = cipher.read(&world, &sent);
            for report in read.iter().filter(|read| read.is_rtcp()) {
                let compound = Compound::parse(&report.bytes).expect("a compound packet");
                assert!(matches!(
                    compound.packets().next(),
                    Some(Packet::SenderReport(_) | Packet::ReceiverReport(_))
                ));
                reports += 1;
            }
            let rtp: Vec<_> = read.into_iter().filter(|read| !read.is_rtcp()).collect();
            let (audio, told): (Vec<Sent>, Vec<Sent>) = rtp
                .into_iter()
                .partition(|sent| sent.header().payload_type.value() != 101);
            digits += told.len();
            match (round, n) {
                // Held: nothing is sent to it.
                (1, 1) => assert_eq!(audio, []),
                (3, 2) => {}
                _ => ears[n].hear(&audio, n as u32, KINDS),
            }
        }
        if round == 0 {
            let expected = |n: usize| {
                let others = (0..3).filter(|other| *other != n);
                others.map(|other| (TONES[other], LOUD)).collect::<Vec<_>>()
            };
            for (n, ear) in ears.iter().enumerate() {
                ear.hears(&format!("{n}"), &TONES, &expected(n));
            }
        }
        // A new call would begin a new line here: after the hold it must not.
        if round == 1 {
            ears[1] = Ear::default();
        }
    }
    assert!(reports >= 8, "{reports} reports were read");
    assert!(digits >= 5, "{digits} packets of a digit were read");
    for reason in [
        DropReason::Authentication,
        DropReason::Replay,
        DropReason::EgressFull,
    ] {
        assert_eq!(world.engine.totals().drops[reason as usize], 0, "{reason:?}");
    }
}

#[test]
fn encrypted_reports_are_understood_and_forged_ones_are_not() {
    let mut world = World::new();
    let mut graph = Graph::call();
    let mut b = Cipher::new(graph.party("b"), Suite::AesCm128HmacSha1_32);
    world.commit(SESSION, &graph);
    let mut from_b = Speaker::new(0xB);
    b.speak(&mut world, &from_b.packet(&[1; 160]));
    let mut buffer = [0; 128];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.receiver_report(from_b.ssrc, &[]).expect("room");
    writer.bye(&[from_b.ssrc], b"going home").expect("room");
    let clear = writer.finish().to_vec();
    world.events();
    world.receive(rtcp_socket(1), peer(1), &clear);
    let mut protected = b.rtcp(&clear);
    let last = protected.len() - 1;
    protected[last] ^= 1;
    world.receive(rtcp_socket(1), peer(1), &protected);
    assert_eq!(world.events(), []);
    assert_eq!(world.drops("t-b", DropReason::Authentication), 2);
    world.receive(rtcp_socket(1), peer(1), &b.rtcp(&clear));
    let told = world.event_kinds();
    assert!(
        matches!(told.last(), Some(EventKind::PeerBye { reason }) if &**reason == "going home"),
        "{told:?}"
    );
}

#[test]
fn keys_change_without_a_gap() {
    let suite = Suite::AesCm128HmacSha1_80;
    let mut world = World::new();
    let mut graph = Graph::call();
    let mut b = Cipher::new(graph.party("b"), suite);
    world.commit(SESSION, &graph);
    let (mut from_a, mut from_b) = (Speaker::new(0xA), Speaker::new(0xB));
    let mut heard = Vec::new();
    for round in 0..6_u8 {
        let late = b.rtp(&from_b.packet(&[0xee; 160]));
        match round {
            // The peer's key alone.
            1 => graph.party("b").sdes = Some(sdes(suite, Some(101))),
            // Ours alone.
            2 => graph.party("b").sending = Some(Arc::new(key(suite, 102))),
            // Both, and the suite.
            3 => {
                graph.party("b").sdes = Some(sdes(Suite::AeadAes128Gcm, Some(103)));
                graph.party("b").sending = Some(Arc::new(key(Suite::AeadAes128Gcm, 104)));
            }
            // What has nothing to do with keys.
            4 => graph.party("b").direction = Direction::SendOnly,
            5 => graph.party("b").direction = Direction::SendRecv,
            _ => {}
        }
        world.commit(SESSION, &graph);
        match round {
            1 => b.tx = Outbound::new(&key(suite, 101)),
            2 => b.rx = Inbound::new(&key(suite, 102)),
            3 => {
                b.tx = Outbound::new(&key(Suite::AeadAes128Gcm, 103));
                b.rx = Inbound::new(&key(Suite::AeadAes128Gcm, 104));
            }
            _ => {}
        }
        // Sent before the change, arrives after it.
        world.receive(rtp_socket(1), peer(1), &late);
        for _ in 0..50 {
            world.receive(rtp_socket(0), peer(0), &from_a.packet(&[round; 160]));
            b.speak(&mut world, &from_b.packet(&[round; 160]));
            world.pass_ms(20);
        }
        let sent = world.sent_rtp();
        heard.extend(b.read(&world, &sent));
        let by_a = sent.iter().filter(|sent| sent.socket == rtp_socket(0)).count();
        assert_eq!(by_a, if round == 4 { 0 } else { 51 }, "round {round}");
    }
    assert_eq!(heard.len(), 300, "b hears everything");
    assert_unbroken(&heard);
    assert_eq!(world.drops("t-b", DropReason::Authentication), 0);
    assert_eq!(world.drops("t-b", DropReason::Replay), 0);
}

/// A NAT forgot its binding: the peer is heard, and hears, from its new address as soon as it is silent at the old one.
#[test]
fn who_has_the_key_is_followed_to_another_address_at_once() {
    let mut world = World::new();
    let mut graph = Graph::call();
    let mut b = Cipher::new(graph.party("b"), Suite::AesCm128HmacSha1_80);
    world.commit(SESSION, &graph);
    let (mut from_a, mut from_b) = (Speaker::new(0xA), Speaker::new(0xB));
    for _ in 0..10 {
        b.speak(&mut world, &from_b.packet(&[2; 160]));
        world.pass_ms(20);
    }
    world.sent();
    let mut heard = Vec::new();
    for _ in 0..20 {
        let packet = b.rtp(&from_b.packet(&[2; 160]));
        world.receive(rtp_socket(1), peer(70), &packet);
        world.receive(rtp_socket(0), peer(0), &from_a.packet(&[1; 160]));
        // Who copies what it saw, or makes something up, changes nothing.
        world.receive(rtp_socket(1), peer(66), &packet);
        world.receive(rtp_socket(1), peer(66), &from_b.clone().packet(&[9; 160]));
        heard.extend(world.sent_rtp());
        world.pass_ms(20);
    }
    let to_a = heard.iter().filter(|sent| sent.socket == rtp_socket(0)).count();
    assert!((11..=12).contains(&to_a), "after 200 ms: {to_a}");
    let to_b: Vec<_> = heard.iter().filter(|sent| sent.socket == rtp_socket(1)).collect();
    assert_eq!(to_b.len(), 20);
    assert!(to_b[10..].iter().all(|sent| sent.to == peer(70)));
    assert_eq!(
        world.transport("t-b").relearned,
        0,
        "it was signalled and then learned"
    );

    // While it sends, nobody takes its place, whatever he has.
    world.receive(rtp_socket(1), peer(71), &b.rtp(&from_b.packet(&[2; 160])));
    assert_eq!(world.transport("t-b").remote, Some(peer(70)));
}
