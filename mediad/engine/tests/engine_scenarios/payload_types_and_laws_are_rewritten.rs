use crate::world::{Graph, Party, SESSION, Speaker, World, events, format, pcma, pcmu, peer, rtp_socket};
use codecs::g711;
use media_engine::{command::PlanKind, spec::Codec};

#[test]
fn mu_law_becomes_a_law_and_back() {
    let mut world = World::new();
    let parties = vec![
        Party::new("a", 0).with_formats(vec![pcmu()]),
        Party::new("b", 1).with_formats(vec![pcma()]),
    ];
    world.commit(SESSION, &Graph::of(parties, &[("a", "b"), ("b", "a")]));
    let every_byte: Vec<u8> = (0..=255).collect();
    let (mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
    b.payload_type = 8;
    world.receive(rtp_socket(0), peer(0), &a.packet(&every_byte));
    world.receive(rtp_socket(1), peer(1), &b.packet(&every_byte));
    let sent = world.sent_rtp();
    for (sent, payload_type, table) in [
        (&sent[0], 8, &g711::ULAW_TO_ALAW),
        (&sent[1], 0, &g711::ALAW_TO_ULAW),
    ] {
        assert_eq!(sent.header().payload_type.value(), payload_type);
        let expected: Vec<u8> = every_byte.iter().map(|byte| table[usize::from(*byte)]).collect();
        assert_eq!(sent.payload(), expected);
    }
    let report = world.report(SESSION).expect("the session is there");
    assert!(report.plans.iter().all(|plan| plan.kind == PlanKind::Rewrite));
    assert_eq!(report.endpoints[1].egress.codec, Some(Codec::Pcma));
}

#[test]
fn the_same_codec_under_another_number_is_only_renumbered() {
    let mut world = World::new();
    let opus = |payload_type| format(payload_type, Codec::Opus, 48_000);
    let event = |payload_type| format(payload_type, Codec::TelephoneEvent, 48_000);
    let parties = vec![
        Party::new("a", 0).with_formats(vec![opus(96), event(97)]),
        Party::new("b", 1).with_formats(vec![opus(111), event(110)]),
    ];
    world.commit(SESSION, &Graph::of(parties, &[("a", "b")]));
    let mut a = Speaker::new(0xA);
    (a.payload_type, a.step) = (96, 960);
    world.receive(rtp_socket(0), peer(0), &a.packet(b"opus"));
    a.payload_type = 97;
    world.receive(rtp_socket(0), peer(0), &a.packet(&[5, 10, 3, 192]));
    let sent = world.sent_rtp();
    assert_eq!(sent[0].header().payload_type.value(), 111);
    assert_eq!(sent[0].payload(), b"opus");
    assert_eq!(sent[1].header().payload_type.value(), 110);
    assert_eq!(sent[1].payload(), [5, 10, 3, 192]);
}

#[test]
fn what_the_listener_cannot_take_is_left_out_without_a_gap() {
    let mut world = World::new();
    let parties = vec![
        Party::new("a", 0).with_formats(vec![pcmu(), events(101), format(13, Codec::ComfortNoise, 8000)]),
        Party::new("b", 1).with_formats(vec![pcmu()]),
    ];
    world.commit(SESSION, &Graph::of(parties, &[("a", "b")]));
    let mut a = Speaker::new(0xA);
    for payload_type in [0, 101, 101, 0, 13, 0] {
        a.payload_type = payload_type;
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1, 10, 0, 160]));
    }
    let sent = world.sent_rtp();
    let first = sent[0].header();
    let line: Vec<_> = sent
        .iter()
        .map(|sent| {
            let header = sent.header();
            (
                header.sequence.wrapping_sub(first.sequence),
                header.timestamp.diff(first.timestamp),
            )
        })
        .collect();
    assert_eq!(line, [(0, 0), (1, 480), (2, 800)]);
}
