use crate::world::{
    Graph, Party, SESSION, Sent, Speaker, World, format, pcmu, peer, rtcp_socket, rtp_socket, ssrc,
};
use media_engine::{
    command::{Command, DropReason, EventKind, ReplyToken, SocketId},
    spec::{Codec, RtcpMode},
};
use rtp::{
    rtcp::{Compound, Packet, ReportBlock, RtcpWriter, SenderInfo},
    time::NtpTimestamp,
    units::{RtpTimestamp, Ssrc},
};
use std::{net::SocketAddr, time::Duration};

fn above(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}

/// Author, sender info, blocks, CNAME and BYE reason of a compound packet.
#[derive(Debug, Default)]
struct Read {
    author: Option<Ssrc>,
    info: Option<SenderInfo>,
    blocks: Vec<ReportBlock>,
    cname: Option<String>,
    bye: Option<String>,
}

fn read(sent: &Sent) -> Read {
    let mut read = Read::default();
    for packet in Compound::parse(&sent.bytes)
        .expect("the engine sends valid RTCP")
        .packets()
    {
        match packet {
            Packet::SenderReport(report) => {
                read.author = Some(report.ssrc);
                read.info = Some(report.info);
                read.blocks = report.reports.collect();
            }
            Packet::ReceiverReport(report) => {
                read.author = Some(report.ssrc);
                read.blocks = report.reports.collect();
            }
            Packet::SourceDescription(sdes) => {
                let author = read.author.expect("the report comes first");
                read.cname = sdes
                    .cname(author)
                    .map(|cname| String::from_utf8_lossy(cname).into());
            }
            Packet::Bye(bye) => {
                read.bye = bye.reason().map(|reason| String::from_utf8_lossy(reason).into());
            }
            other => panic!("the engine sends no {other:?}"),
        }
    }
    read
}

fn rtcp(world: &mut World) -> Vec<Sent> {
    world.sent().into_iter().filter(Sent::is_rtcp).collect()
}

fn report(author: u32, info: Option<SenderInfo>, blocks: &[ReportBlock]) -> Vec<u8> {
    let mut buffer = [0; 512];
    let mut writer = RtcpWriter::new(&mut buffer);
    match info {
        Some(info) => writer.sender_report(Ssrc(author), &info, blocks),
        None => writer.receiver_report(Ssrc(author), blocks),
    }
    .expect("there is room");
    writer.finish().to_vec()
}

fn block(number: u32, last_sr: u32, delay: u32) -> ReportBlock {
    ReportBlock {
        ssrc: ssrc(number),
        fraction_lost: 64,
        cumulative_lost: 25,
        highest_sequence: 100,
        jitter: 80,
        last_sr,
        delay_since_last_sr: delay,
    }
}

#[test]
fn a_sender_reports_what_it_sent_and_received() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let (mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
    let mut reports = Vec::new();
    for n in 0..600 {
        let packet = a.packet(&[1; 160]);
        if n % 4 != 0 {
            world.receive(rtp_socket(0), peer(0), &packet);
        }
        world.receive(rtp_socket(1), peer(1), &b.packet(&[1; 160]));
        world.pass_ms(20);
        reports.extend(rtcp(&mut world));
    }
    let to_a: Vec<_> = reports.iter().filter(|sent| sent.to == above(peer(0))).collect();
    let to_b: Vec<_> = reports.iter().filter(|sent| sent.to == above(peer(1))).collect();
    // Twelve seconds: the first after about 2.5 s, then about every 5 s, halved to one and a half.
    assert!((2..=6).contains(&to_a.len()), "{} reports", to_a.len());
    assert!((2..=6).contains(&to_b.len()), "{} reports", to_b.len());
    let last = read(to_a.last().expect("checked"));
    assert_eq!(to_a[0].socket, rtcp_socket(0));
    assert_eq!(last.author, Some(ssrc(0)));
    assert_eq!(last.cname.as_deref(), Some("a@host"));
    assert_eq!(last.bye, None);
    let [received] = last.blocks[..] else {
        panic!("one block")
    };
    assert_eq!(received.ssrc, Ssrc(0xA));
    assert_eq!(received.fraction_lost / 4, 64 / 4, "every fourth is lost");
    let info = last.info.expect("it sent");
    assert!(info.packet_count > 100 && info.octet_count == info.packet_count * 160);
    assert_eq!(
        world.endpoint("a").ingress.lost,
        149,
        "600 / 4 without the first, which nobody missed"
    );
    // Loss of a quarter is poor, and told once.
    let poor = world
        .event_kinds()
        .into_iter()
        .filter(|kind| matches!(kind, EventKind::QualityChanged { .. }));
    assert_eq!(poor.count(), 1);
    assert!(world.endpoint("a").quality.ingress.expect("evaluated") < 3.1);
    assert!(world.endpoint("b").quality.ingress.expect("evaluated") > 4.0);
}

/// Sends packets of 20 ms; of every fourth says `lost` whether it is lost.
fn speak(world: &mut World, a: &mut Speaker, packets: u32, lost: bool) {
    for n in 0..packets {
        let packet = a.packet(&[1; 160]);
        if !(lost && n % 4 == 3) {
            world.receive(rtp_socket(0), peer(0), &packet);
        }
        world.pass_ms(20);
    }
}

#[test]
fn the_quality_of_a_call_is_not_that_of_its_end() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    speak(&mut world, &mut a, 1000, false);
    speak(&mut world, &mut a, 1000, true);
    speak(&mut world, &mut a, 2000, false);
    let quality = world.endpoint("a").quality;
    let (last, mean, worst) = (quality.ingress, quality.ingress_mean, quality.ingress_min);
    assert!(last.expect("evaluated") > 4.0);
    assert!(worst.expect("evaluated") < 2.5, "{worst:?}");
    // A quarter of the time was bad.
    let bad = worst.expect("evaluated");
    let expected = 0.25 * bad + 0.75 * last.expect("evaluated");
    assert!(
        (mean.expect("evaluated") - expected).abs() < 0.15,
        "{mean:?} beside {expected}"
    );
}

#[test]
fn a_call_that_ends_before_its_first_report_is_judged_too() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    speak(&mut world, &mut a, 49, false);
    assert_eq!(
        world.endpoint("a").quality.ingress_mean,
        None,
        "too few to judge by"
    );
    speak(&mut world, &mut a, 11, false);
    let quality = world.endpoint("a").quality;
    assert_eq!(quality.ingress, None, "no report was due");
    assert!(quality.ingress_mean.expect("enough came") > 4.0);
    assert_eq!(quality.ingress_min, quality.ingress_mean);
}

#[test]
fn the_sender_report_names_the_media_clock_of_its_moment() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    let mut last = None;
    let report = loop {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1; 160]));
        let sent_at = world.now;
        last = world
            .sent_rtp()
            .pop()
            .map(|sent| (sent.header(), sent_at))
            .or(last);
        world.pass_ms(20);
        let found = rtcp(&mut world)
            .into_iter()
            .find(|sent| sent.to == above(peer(1)));
        if let Some(report) = found {
            break read(&report);
        }
    };
    let (header, at) = last.expect("b heard something");
    let info = report.info.expect("it sent");
    let elapsed_ns =
        (info.ntp.0.wrapping_sub(NtpTimestamp::from_wall(at.wall).0) as u128 * 1_000_000_000) >> 32;
    let ticks = (elapsed_ns * 8_000 / 1_000_000_000) as i32;
    assert!((info.rtp.diff(header.timestamp) - ticks).abs() <= 1);
}

#[test]
fn a_listener_sends_receiver_reports_and_rtcp_off_sends_none() {
    let mut world = World::new();
    let mut graph = Graph::of(vec![Party::new("a", 0), Party::new("b", 1)], &[("a", "b")]);
    graph.party("b").rtcp = RtcpMode::Off;
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    for _ in 0..500 {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1; 160]));
        world.pass_ms(20);
    }
    let sent = rtcp(&mut world);
    assert!(!sent.is_empty());
    for sent in &sent {
        assert_eq!(sent.to, above(peer(0)));
        let read = read(sent);
        assert!(read.info.is_none(), "a heard nobody");
        assert_eq!(read.blocks[0].fraction_lost, 0);
    }
    world.receive(rtp_socket(1), peer(1), &report(0xB, None, &[block(1, 0, 0)]));
    assert_eq!(world.drops("t-b", DropReason::UnexpectedProtocol), 1);
}

#[test]
fn the_peers_reports_give_loss_jitter_round_trip_and_its_score() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let (mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
    let mut last_sr = None;
    while last_sr.is_none() {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1; 160]));
        world.receive(rtp_socket(1), peer(1), &b.packet(&[1; 160]));
        world.pass_ms(20);
        let to_b = rtcp(&mut world)
            .into_iter()
            .find(|sent| sent.to == above(peer(1)));
        last_sr = to_b
            .and_then(|sent| read(&sent).info)
            .map(|info| info.ntp.middle());
    }
    // b answers half a second later, of which 100 ms are the network's. The report went out up to 20 ms before.
    world.pass_ms(500);
    let delay = (400 << 16) / 1000;
    world.receive(
        rtcp_socket(1),
        above(peer(1)),
        &report(0xB, None, &[block(1, last_sr.expect("sent"), delay)]),
    );
    let endpoint = world.endpoint("b");
    let round_trip = endpoint.round_trip_ms.expect("known");
    assert!((99.0..=121.0).contains(&round_trip), "{round_trip} ms");
    assert_eq!(endpoint.egress.lost, 25);
    assert_eq!(endpoint.egress.jitter_ms, 10.0);
    for _ in 0..500 {
        world.receive(rtp_socket(1), peer(1), &b.packet(&[1; 160]));
        world.pass_ms(20);
    }
    assert!(
        world.endpoint("b").quality.egress.expect("evaluated") < 3.1,
        "a quarter is lost on the way to b"
    );
}

#[test]
fn our_report_echoes_the_peers_sender_report() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1; 160]));
    let info = SenderInfo {
        ntp: NtpTimestamp(0x1234_5678_9abc_def0),
        rtp: RtpTimestamp(1),
        packet_count: 1,
        octet_count: 160,
    };
    world.receive(rtcp_socket(0), above(peer(0)), &report(0xA, Some(info), &[]));
    let heard_at = world.now.mono;
    let sent = loop {
        world.pass_ms(10);
        if let Some(sent) = rtcp(&mut world)
            .into_iter()
            .find(|sent| sent.to == above(peer(0)))
        {
            break sent;
        }
    };
    let block = read(&sent).blocks[0];
    assert_eq!(block.last_sr, 0x5678_9abc);
    let delay = Duration::from_secs_f64(f64::from(block.delay_since_last_sr) / 65_536.0);
    let passed = world.now.mono - heard_at;
    assert!(
        passed - delay <= Duration::from_millis(11),
        "{delay:?} of {passed:?}"
    );
}

#[test]
fn goodbye_is_said_at_the_end_with_the_reason_and_heard_from_the_peer_once() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1; 160]));
    let mut leaving = report(0xA, None, &[]);
    let mut buffer = [0; 64];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.bye(&[Ssrc(0xA)], b"phone down").expect("there is room");
    leaving.extend_from_slice(writer.finish());
    world.event_kinds();
    for _ in 0..3 {
        world.receive(rtcp_socket(0), above(peer(0)), &leaving);
    }
    assert_eq!(
        world.event_kinds(),
        [EventKind::PeerBye {
            reason: "phone down".into()
        }]
    );
    world.sent();
    world.command(Command::End(SESSION, ReplyToken(1)));
    let sent = rtcp(&mut world);
    // Only b got anything; RFC 3550 §6.3.7 forbids a BYE to a.
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, above(peer(1)));
    let read = read(&sent[0]);
    assert_eq!(
        (read.author, read.bye.as_deref()),
        (Some(ssrc(1)), Some("session ended"))
    );
}

#[test]
fn rtcp_is_taken_only_from_the_peers_host_and_its_port_is_learned() {
    let mut world = World::new();
    let mut graph = Graph::call();
    graph.party("b").rtcp = RtcpMode::Mux;
    world.commit(SESSION, &graph);
    world.receive(rtp_socket(0), peer(0), &Speaker::new(0xA).packet(&[1]));
    let stranger: SocketAddr = "198.51.100.1:4001".parse().expect("an address");
    let said = report(0xA, None, &[block(0, 0, 0)]);
    world.receive(rtcp_socket(0), stranger, &said);
    assert_eq!(world.drops("t-a", DropReason::WrongSource), 1);
    assert_eq!(world.endpoint("a").egress.lost, 0);
    // The same host from another port, as behind a NAT.
    let moved = SocketAddr::new(peer(0).ip(), 61_234);
    world.receive(rtcp_socket(0), moved, &said);
    assert_eq!(world.endpoint("a").egress.lost, 25);
    assert_eq!(world.transport("t-a").remote_rtcp, Some(moved));
    let learned = EventKind::SourceLearned {
        address: moved,
        previous: Some(above(peer(0))),
        rtcp: true,
    };
    assert!(world.event_kinds().contains(&learned));
    // While it is alive nobody else is it, not even on that host.
    world.receive(rtcp_socket(0), SocketAddr::new(peer(0).ip(), 61_235), &said);
    assert_eq!(world.drops("t-a", DropReason::WrongSource), 2);
    // Muxed: on RTP's socket, from RTP's source, and answered there.
    world.receive(rtp_socket(1), peer(1), &report(0xB, None, &[block(1, 0, 0)]));
    world.receive(rtp_socket(1), stranger, &report(0xB, None, &[block(1, 0, 0)]));
    assert_eq!(world.endpoint("b").egress.lost, 25);
    assert_eq!(world.drops("t-b", DropReason::WrongSource), 1);
    world.pass_ms(10_000);
    let to_b = rtcp(&mut world)
        .into_iter()
        .filter(|sent| sent.to == peer(1))
        .collect::<Vec<_>>();
    assert!(!to_b.is_empty() && to_b.iter().all(|sent| sent.socket == SocketId(2)));
}

/// While nobody knows where the peer is, and nothing comes of it, there is nothing to tell; from when that changes on reports come
/// as soon as of any other.
#[test]
fn reports_begin_when_the_peer_is_there() {
    for is_told in [true, false] {
        let mut world = World::new();
        let mut graph = Graph::call();
        graph.endpoints[1].remote = None;
        world.commit(SESSION, &graph);
        world.pass_ms(20_000);
        let early = rtcp(&mut world);
        assert!(early.iter().all(|sent| sent.to == above(peer(0))), "{early:?}");
        let mut b = Speaker::new(0xB);
        if is_told {
            graph.endpoints[1].remote = Some(peer(1));
            world.commit(SESSION, &graph);
        }
        let mut reports = Vec::new();
        for _ in 0..400 {
            if !is_told {
                world.receive(rtp_socket(1), peer(1), &b.packet(&[1; 160]));
            }
            world.pass_ms(20);
            reports.extend(rtcp(&mut world));
        }
        let to_b = reports.iter().filter(|sent| sent.to == above(peer(1))).count();
        assert!(to_b > 0, "none in 8 s, told: {is_told}");
    }
}

/// The next report to a.
fn next_to_a(world: &mut World) -> Read {
    loop {
        world.pass_ms(10);
        let mut sent = rtcp(world).into_iter();
        if let Some(sent) = sent.find(|sent| sent.to == above(peer(0))) {
            break read(&sent);
        }
    }
}

/// RFC 3550 §6.4.1: of a source that did not report yet nothing is echoed, whatever the one before it said.
#[test]
fn a_new_source_is_not_told_of_the_reports_of_another() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let info = |ntp| SenderInfo {
        ntp: NtpTimestamp(ntp),
        rtp: RtpTimestamp(1),
        packet_count: 1,
        octet_count: 160,
    };
    world.receive(rtp_socket(0), peer(0), &Speaker::new(0xA).packet(&[1; 160]));
    let said = report(0xA, Some(info(0x1234_5678_9abc_def0)), &[]);
    world.receive(rtcp_socket(0), above(peer(0)), &said);
    assert_eq!(next_to_a(&mut world).blocks[0].last_sr, 0x5678_9abc);

    world.receive(rtp_socket(0), peer(0), &Speaker::new(0xAA).packet(&[1; 160]));
    let block = next_to_a(&mut world).blocks[0];
    assert_eq!(block.ssrc, Ssrc(0xAA));
    assert_eq!((block.last_sr, block.delay_since_last_sr), (0, 0));

    let said = report(0xAA, Some(info(0x1234_0001_0002_def0)), &[]);
    world.receive(rtcp_socket(0), above(peer(0)), &said);
    assert_eq!(next_to_a(&mut world).blocks[0].last_sr, 0x0001_0002);
}

/// Opus and PCMU have other clocks: what was 10 ms with one is 10 ms with the other.
#[test]
fn the_largest_jitter_stays_what_it_was_when_the_codec_changes() {
    let opus = format(111, Codec::Opus, 48_000);
    for is_agreed_anew in [false, true] {
        let mut world = World::new();
        let mut graph = Graph::call();
        for party in &mut graph.endpoints {
            *party = party.clone().with_formats(vec![opus.clone(), pcmu()]);
        }
        world.commit(SESSION, &graph);
        let speaker = |ssrc| Speaker {
            payload_type: 111,
            step: 960,
            ..Speaker::new(ssrc)
        };
        let (mut a, mut b) = (speaker(0xA), speaker(0xB));
        let speak = |world: &mut World, waits: [u64; 2], speakers: [&mut Speaker; 2]| {
            let [a, b] = speakers;
            for n in 0..200 {
                world.pass_ms(waits[n % 2]);
                world.receive(rtp_socket(0), peer(0), &a.packet(&[8; 80]));
                world.receive(rtp_socket(1), peer(1), &b.packet(&[8; 80]));
            }
        };
        speak(&mut world, [10, 30], [&mut a, &mut b]);
        let said = ReportBlock {
            jitter: 480,
            ..block(0, 0, 0)
        };
        world.receive(rtcp_socket(0), above(peer(0)), &report(0xA, None, &[said]));
        let before = world.endpoint("a");
        assert!((9.0..=11.0).contains(&before.ingress.jitter_ms_max), "{before:?}");
        assert_eq!(before.egress.jitter_ms_max, 10.0);

        if is_agreed_anew {
            for party in &mut graph.endpoints {
                *party = party.clone().with_formats(vec![pcmu()]);
            }
            world.commit(SESSION, &graph);
        }
        for speaker in [&mut a, &mut b] {
            (speaker.payload_type, speaker.step) = (0, 160);
        }
        speak(&mut world, [20, 20], [&mut a, &mut b]);
        let after = world.endpoint("a");
        let grown = after.ingress.jitter_ms_max - before.ingress.jitter_ms_max;
        assert!(
            grown.abs() < 0.5,
            "{grown} ms more, agreed anew: {is_agreed_anew}"
        );
        assert!(after.ingress.jitter_ms < 1.0, "{} ms", after.ingress.jitter_ms);
        assert_eq!(after.egress.jitter_ms_max, 10.0);
    }
}

/// The clock on the wall may be set while a report is on its way.
#[test]
fn the_round_trip_is_what_passed_although_the_wall_clock_is_set() {
    for set_by in [5_i64, -5] {
        let mut world = World::new();
        world.commit(SESSION, &Graph::call());
        let mut b = Speaker::new(0xB);
        let info = loop {
            world.receive(rtp_socket(1), peer(1), &b.packet(&[1; 160]));
            world.pass_ms(20);
            let mut sent = rtcp(&mut world).into_iter();
            if let Some(sent) = sent.find(|sent| sent.to == above(peer(0))) {
                break read(&sent).info.expect("it sent");
            }
        };
        let shift = Duration::from_secs(set_by.unsigned_abs());
        world.now.wall = match set_by > 0 {
            true => world.now.wall + shift,
            false => world.now.wall - shift,
        };
        world.pass_ms(100);
        let answer = report(0xA, None, &[block(0, info.ntp.middle(), 0)]);
        world.receive(rtcp_socket(0), above(peer(0)), &answer);
        let round_trip = world.endpoint("a").round_trip_ms.expect("known");
        // The report went out up to 20 ms before.
        assert!(
            (99.0..=121.0).contains(&round_trip),
            "{round_trip} ms, set by {set_by} s"
        );
    }
}
