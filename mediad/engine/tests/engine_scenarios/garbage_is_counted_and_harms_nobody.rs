use crate::world::{Graph, SESSION, Speaker, World, events, pcmu, peer, rtcp_socket, rtp_socket, ssrc};
use proptest::prelude::*;
use rtp::rtcp::{ReportBlock, RtcpWriter};

fn valid_rtcp() -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut writer = RtcpWriter::new(&mut buffer);
    let block = ReportBlock {
        ssrc: ssrc(0),
        fraction_lost: 1,
        cumulative_lost: 2,
        highest_sequence: 3,
        jitter: 4,
        last_sr: 5,
        delay_since_last_sr: 6,
    };
    writer
        .receiver_report(rtp::units::Ssrc(0xA), &[block])
        .expect("there is room");
    writer
        .sdes_cname(rtp::units::Ssrc(0xA), b"a@peer")
        .expect("there is room");
    writer
        .bye(&[rtp::units::Ssrc(0xA)], b"bye")
        .expect("there is room");
    writer.finish().to_vec()
}

fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let mutated = |valid: Vec<u8>| {
        let len = valid.len();
        (
            Just(valid),
            proptest::collection::vec((0..len, any::<u8>()), 0..6),
            0..=len,
        )
            .prop_map(|(mut bytes, changes, cut)| {
                changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
                bytes.truncate(cut);
                bytes
            })
    };
    let mut event = Speaker::new(0xA);
    event.payload_type = 101;
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        mutated(Speaker::new(0xA).packet(&[0xFF; 40])),
        mutated(event.packet(&[1, 0x8A, 0, 160])),
        mutated(valid_rtcp()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_datagram_is_relayed_or_counted(
        storm in proptest::collection::vec((datagram(), 0..2u32, any::<bool>(), 0..3u32), 1..200),
        seed: u64,
    ) {
        let mut world = World::seeded(seed);
        let mut graph = Graph::call();
        graph.party("b").send = vec![pcmu(), events(97)];
        world.commit(SESSION, &graph);
        for (datagram, number, rtcp, from) in &storm {
            let socket = if *rtcp { rtcp_socket(*number) } else { rtp_socket(*number) };
            world.receive(socket, peer(*from), datagram);
            world.pass_ms(3);
        }
        let report = world.report(SESSION).expect("the session is there");
        let totals = *world.engine.totals();
        prop_assert_eq!(totals.rx_packets, storm.len() as u64);
        let dropped: u64 = totals.drops.iter().sum();
        let taken: u64 = report.endpoints.iter().map(|endpoint| endpoint.ingress.packets).sum();
        prop_assert!(dropped + taken <= totals.rx_packets, "RTCP that was taken is neither");
        let by_transport: u64 = report.transports.iter().flat_map(|transport| transport.drops).sum();
        prop_assert_eq!(by_transport, dropped);
        let received: u64 = report.transports.iter().map(|transport| transport.rx_packets).sum();
        prop_assert_eq!(received, totals.rx_packets);
        let sent: u64 = report.transports.iter().map(|transport| transport.tx_packets).sum();
        prop_assert_eq!(sent, world.sent().len() as u64);
    }
}

#[test]
fn a_flood_at_one_call_does_not_touch_another() {
    let mut world = World::new();
    let other = media_engine::command::SessionKey(2);
    world.commit(SESSION, &Graph::call());
    let mut graph = Graph::call();
    for (party, number) in graph.endpoints.iter_mut().zip(10..) {
        party.number = number;
        party.remote = Some(peer(number));
    }
    world.commit(other, &graph);
    let mut speaker = Speaker::new(0xA);
    for n in 0..100u16 {
        for k in 0..100u16 {
            let garbage = vec![0x80 ^ k as u8, n as u8, k as u8, 7, 7];
            world.receive(rtp_socket(0), peer(u32::from(k)), &garbage);
            world.receive(rtcp_socket(0), peer(u32::from(k)), &garbage);
        }
        world.receive(rtp_socket(10), peer(10), &speaker.packet(&[1; 160]));
        world.pass_ms(20);
    }
    let heard = world.sent_rtp().iter().filter(|sent| sent.to == peer(11)).count();
    assert_eq!(heard, 100);
    let report = world.report(other).expect("the session is there");
    assert_eq!(report.transports[0].drops.iter().sum::<u64>(), 0);
    let flooded = world.report(SESSION).expect("the session is there");
    assert_eq!(flooded.transports[0].drops.iter().sum::<u64>(), 20_000);
}
