//! Neither datagrams nor time-outs touch the heap.

#[path = "engine_scenarios/world.rs"]
#[expect(dead_code, reason = "shared with the scenarios")]
mod world;

#[path = "engine_scenarios/cipher.rs"]
#[expect(dead_code, reason = "shared with the scenarios")]
mod cipher;

#[path = "engine_scenarios/tones.rs"]
#[expect(dead_code, reason = "shared with the scenarios")]
mod tones;

#[path = "engine_scenarios/keypad.rs"]
#[expect(dead_code, reason = "shared with the scenarios")]
mod keypad;

use cipher::Cipher;
use codecs::CodecKind;
use keypad::Keypad;
use media_engine::{
    command::{
        CollectWish, Command, EventKind, LinkId, LinkPacket, LinkPeer, RecorderFeed, SendDigit, SessionKey,
        SocketId, TapRings,
    },
    engine::Egress,
    recording::{Intake, Record, ring},
    spec::{
        BargeIn, CallProgress, Codec, Country, DigitPolicy, GainSettings, InbandDigits, NodeKind, NodeSpec,
        PayloadFormat, PlaySource, PolishSpec, RecorderSpec, RecordingFormat, Suite, TapSpec,
    },
    tap::{Program, TapPort},
};
use rtp::{
    rtcp::{ReportBlock, RtcpWriter, SenderInfo},
    time::NtpTimestamp,
    units::{RtpTimestamp, Ssrc},
};
use std::net::SocketAddr;
use tones::Voice;
use world::{
    Graph, Party, SESSION, Speaker, World, edge, events, format, pcma, pcmu, peer, player, room, rtcp_socket,
    rtp_socket, ssrc,
};

#[global_allocator]
static ALLOCATOR: noalloc::CountingAllocator = noalloc::CountingAllocator;

/// A wire that keeps nothing.
struct Sink([u8; 2048], u64);

impl Egress for Sink {
    fn slot(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.0)
    }

    fn commit(&mut self, _len: usize, _socket: SocketId, _to: SocketAddr) {
        self.1 += 1;
    }
}

fn rtcp(number: u32, author: Ssrc, leaves: bool) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut writer = RtcpWriter::new(&mut buffer);
    let info = SenderInfo {
        ntp: NtpTimestamp(1 << 40),
        rtp: RtpTimestamp(1),
        packet_count: 1,
        octet_count: 1,
    };
    let block = ReportBlock {
        ssrc: ssrc(number),
        fraction_lost: 3,
        cumulative_lost: 4,
        highest_sequence: 5,
        jitter: 6,
        last_sr: 7,
        delay_since_last_sr: 8,
    };
    writer
        .sender_report(author, &info, &[block])
        .expect("there is room");
    if leaves {
        writer.bye(&[author], b"going home").expect("there is room");
    }
    writer.finish().to_vec()
}

#[test]
fn relay_rewrite_learning_digits_and_rtcp_do_not_allocate() {
    let mut world = World::new();
    let mut graph = Graph::of(
        vec![Party::new("a", 0), Party::new("b", 1), Party::new("c", 2)],
        &[("a", "b"), ("b", "a"), ("a", "c")],
    );
    graph.party("c").send = vec![pcma()];
    graph.party("a").remote = None;
    graph.party("b").receive.push(pcma());
    graph.party("b").detect_talk = true;
    let intake = recorded(&mut world, &mut graph, &["a", "b"], 64 << 10);
    world.commit(SESSION, &graph);
    let digits = [SendDigit {
        event: Some(5),
        duration_ms: 100,
        gap_ms: 60,
        volume: 10,
    }; 3];
    world.command(Command::SendDigits(SESSION, "b".into(), digits.into()));

    let mut sink = Sink([0; 2048], 0);
    let (mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
    let mut beside = Speaker::new(0xD);
    beside.payload_type = 101;
    let mut datagrams = Vec::new();
    for n in 0..500u32 {
        if n == 200 {
            a = Speaker::new(0xA2);
        }
        a.payload_type = match n % 50 {
            46.. => 101,
            30 => 77,
            _ => 0,
        };
        if n % 50 == 20 {
            datagrams.push((rtp_socket(0), peer(0), beside.packet(&[6, 10, 0, 160])));
        }
        datagrams.push((rtp_socket(0), peer(0), a.packet(&[5, 10, 0, 160])));
        datagrams.push((rtp_socket(1), peer(1), b.packet(&[2; 160])));
        datagrams.push((rtp_socket(1), peer(n + 7), b.packet(&[2; 160])));
        datagrams.push((rtcp_socket(1), peer(1), rtcp(1, Ssrc(0xB), n > 400)));
        datagrams.push((rtcp_socket(0), peer(0), rtcp(0, Ssrc(0xA), false)));
        datagrams.push((rtp_socket(0), peer(0), vec![0x80, n as u8, 3]));
        datagrams.push((rtp_socket(0), peer(0), vec![n as u8; 40]));
    }
    let World { engine, now, .. } = &mut world;
    noalloc::assert_none("the packet path", || {
        for (n, (socket, from, data)) in datagrams.iter_mut().enumerate() {
            *now = now.after(std::time::Duration::from_micros(2_900));
            engine.prefetch(std::iter::once(*socket), &sink);
            engine.handle_datagram(*now, *socket, *from, data, &mut sink);
            if n % 4 == 0 {
                engine.handle_timeout(*now, &mut sink);
            }
        }
        // Silence: time-outs, reports and what else comes by itself.
        for _ in 0..6_000 {
            *now = now.after(std::time::Duration::from_millis(10));
            engine.handle_timeout(*now, &mut sink);
        }
    });
    assert!(sink.1 > 1_000, "{} packets went out", sink.1);
    let [packets, ..] = taken(intake);
    assert!(
        packets > 200,
        "{packets} packets were recorded until the ring was full"
    );
    let kinds = world.event_kinds();
    let has = |name: &str| kinds.iter().any(|kind| format!("{kind:?}").starts_with(name));
    for name in [
        "MediaStarted",
        "SourceLearned",
        "DigitStarted",
        "DigitEnded",
        "PeerBye",
        "MediaTimeout",
    ] {
        assert!(has(name), "{name} was part of it");
    }
}

/// A recorder that hears `speakers`.
fn recorded(world: &mut World, graph: &mut Graph, speakers: &[&str], bytes: usize) -> Intake {
    let (feed, intake) = ring(bytes, world.now.mono);
    world.recordings.push(RecorderFeed {
        node: "rec".into(),
        feed,
    });
    graph.others.push(NodeSpec {
        id: "rec".into(),
        kind: NodeKind::Recorder(RecorderSpec {
            recording: "r".into(),
            call: "".into(),
            segment: 0,
            format: RecordingFormat::WavStereo,
            paused: false,
            duration_max: None,
            size_bytes_max: None,
        }),
    });
    graph
        .edges
        .extend(speakers.iter().map(|speaker| edge(speaker, "rec")));
    intake
}

/// Packets, frames and losses in a ring.
fn taken(mut intake: Intake) -> [u64; 3] {
    let mut counts = [0; 3];
    intake.drain(|record| match record {
        Record::Packet(..) => counts[0] += 1,
        Record::Frame(..) => counts[1] += 1,
        Record::Lost(_, _, count) => counts[2] += count,
        _ => {}
    });
    counts
}

/// A room of every codec, with losses, digits and a player; then nobody speaks until the tick rests, and again.
#[test]
fn decoding_mixing_and_playing_do_not_allocate() {
    let mut world = World::new();
    let mut opus = format(111, Codec::Opus, 48_000);
    opus.channels = 2;
    let formats = [
        vec![pcmu(), events(101)],
        vec![pcma(), events(101)],
        vec![format(9, Codec::G722, 8_000)],
        vec![opus],
        vec![format(97, Codec::L16, 16_000)],
    ];
    let parties = ["a", "b", "c", "d", "e"].iter().zip(0..).zip(formats);
    let mut graph = Graph::of(
        parties
            .map(|((id, number), formats)| Party::new(id, number).with_formats(formats))
            .collect(),
        &[],
    );
    graph.party("b").ptime_ms = 30;
    graph.party("a").detect_talk = true;
    for id in ["a", "d"] {
        graph.party(id).polish = PolishSpec {
            suppress_noise: true,
            gain: Some(GainSettings {
                target_dbov: -20.0,
                gain_db_max: 20.0,
            }),
        };
    }
    graph.others.push(room("room", 48_000));
    let tone = PlaySource::Tone(Country::Us, CallProgress::Busy);
    graph.others.push(player("p", &[PlaySource::Silence(40), tone]));
    for id in ["a", "b", "c", "d", "e"] {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    graph.others.push(NodeSpec {
        id: "tap".into(),
        kind: NodeKind::Tap(TapSpec {
            sample_rate_hz: 24_000,
        }),
    });
    graph.edges.extend([edge("tap", "room"), edge("room", "tap")]);
    let port = TapPort::new(24_000);
    let mut program = Program::attach(&port).expect("free");
    world.taps.push(TapRings {
        node: "tap".into(),
        port,
    });
    graph.edges.push(edge("p", "a"));
    graph.edges.last_mut().expect("pushed").gain_db = -3.0;
    let intake = recorded(&mut world, &mut graph, &["b", "d", "room", "p"], 4 << 20);
    world.commit(SESSION, &graph);

    let kinds = [
        (0, CodecKind::Pcmu),
        (8, CodecKind::Pcma),
        (9, CodecKind::G722),
        (111, CodecKind::Opus),
        (
            97,
            CodecKind::L16 {
                sample_rate_hz: 16_000,
            },
        ),
    ];
    let mut voices: Vec<Voice> = (0u32..)
        .zip(kinds)
        .map(|(n, (payload_type, kind))| Voice::new(n, 300.0 + 200.0 * f64::from(n), kind, payload_type))
        .collect();
    let mut datagrams = Vec::new();
    for n in 0..150u32 {
        if n % 30 == 7 {
            let packet = voices[0].event(&[5, 0x8a, 3, 0x20]);
            datagrams.push((n, rtp_socket(0), peer(0), packet));
            voices[0].event_ended(800);
        }
        for (number, voice) in (0u32..).zip(&mut voices) {
            let packet = voice.packet();
            if (n + number) % 11 != 0 {
                datagrams.push((n, rtp_socket(number), peer(number), packet));
            }
        }
    }
    let mut sink = Sink([0; 2048], 0);
    let mut heard = 0;
    let World { engine, now, .. } = &mut world;
    noalloc::assert_none("the tick", || {
        for (at, (n, socket, from, data)) in datagrams.iter_mut().enumerate() {
            // In the middle nobody speaks for so long that sources begin anew.
            let pause = if *n == 75 && at % 4 == 0 { 500 } else { 0 };
            *now = now.after(std::time::Duration::from_micros(4_400 + 1_000 * pause));
            engine.handle_datagram(*now, *socket, *from, data, &mut sink);
            engine.handle_timeout(*now, &mut sink);
            if at % 40 == 0 {
                // Of encoders that run.
                let complexity = (at / 40 % 11) as u8;
                engine.handle_command(*now, Command::OpusComplexity(complexity), &mut sink);
            }
            if at % 5 == 0 {
                program.speak(&[500; 480]);
                heard += usize::from(program.hear(&mut [0; 480]).is_some());
            }
        }
        drop(program);
        for _ in 0..500 {
            *now = now.after(std::time::Duration::from_millis(10));
            engine.handle_timeout(*now, &mut sink);
        }
    });
    assert!(sink.1 > 1_000, "{} packets went out", sink.1);
    assert!(heard > 100, "the program heard {heard} frames");
    let [packets, frames, lost] = taken(intake);
    assert!(
        packets > 200 && frames > 100 && lost == 0,
        "{packets} packets and {frames} frames were recorded"
    );
    let digits = world
        .event_kinds()
        .iter()
        .filter(|kind| matches!(kind, EventKind::DigitEnded { .. }))
        .count();
    assert_eq!(digits, 5);
}

/// A relay and a mix over links within the engine, and a link to another one.
#[test]
fn links_do_not_allocate() {
    let mut world = World::new();
    let mut here = Graph::of(
        vec![
            Party::new("a", 0),
            Party::linked("l", 10, 1),
            Party::linked("m", 12, 3),
        ],
        &[("a", "l"), ("l", "a"), ("a", "m"), ("m", "l")],
    );
    here.edges[2].gain_db = -6.0;
    world.commit(SESSION, &here);
    let there = Graph::of(
        vec![Party::new("b", 1), Party::linked("k", 11, 2)],
        &[("b", "k"), ("k", "b")],
    );
    world.commit(SessionKey(2), &there);
    for (end, other, worker) in [(1, 2, None), (2, 1, None), (3, 9, Some(1))] {
        let link = LinkId(other);
        let peer = LinkPeer { link, worker };
        world.command(Command::Link(LinkId(end), Some(peer)));
    }
    let (mut a, mut b, mut far) = (
        Voice::pcmu(0, 440.0),
        Voice::pcmu(1, 700.0),
        Voice::pcmu(9, 900.0),
    );
    let packets: Vec<_> = (0..200).map(|_| (a.packet(), b.packet(), far.packet())).collect();
    let peers = [peer(0), peer(1)];
    let mut sink = Sink([0; 2048], 0);
    let mut away = 0;
    let World { engine, now, .. } = &mut world;
    noalloc::assert_none("links", || {
        for (from_a, from_b, from_far) in &packets {
            *now = now.after(std::time::Duration::from_millis(20));
            let mut data = [0; 172];
            for (number, packet) in [(0, from_a), (1, from_b)] {
                data.copy_from_slice(packet);
                let from = peers[number as usize];
                engine.handle_datagram(*now, rtp_socket(number), from, &mut data, &mut sink);
            }
            let packet = LinkPacket {
                worker: 0,
                from: LinkId(9),
                link: LinkId(3),
                hops: 1,
                data: from_far,
            };
            engine.handle_link(*now, &packet, &mut sink);
            engine.handle_timeout(*now, &mut sink);
            while engine.poll_link().is_some() {
                away += 1;
            }
        }
    });
    assert!(away > 190 && sink.1 > 390, "{away} away, {} sent", sink.1);
}

/// Five of different codecs in a room where two are heard, who take turns; one's clock is fast, and it is followed.
#[test]
fn choosing_talkers_and_following_clocks_do_not_allocate() {
    let mut world = World::new();
    let g722 = || vec![format(9, Codec::G722, 8_000)];
    let ids = ["a", "b", "c", "d", "e"];
    let parties = ids.iter().zip(0..).map(|(id, number)| Party::new(id, number));
    let mut graph = Graph::of(parties.collect(), &[]);
    graph.party("b").receive = g722();
    graph.party("b").send = g722();
    let mut loudest = room("room", 16_000);
    if let NodeKind::Room(room) = &mut loudest.kind {
        (room.top_talkers, room.talk_events) = (Some(2), true);
    }
    graph.others.push(loudest);
    for id in ids {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    world.commit(SESSION, &graph);
    let mut voices: Vec<Voice> = (0..5)
        .map(|n| Voice::pcmu(n, 300.0 + 200.0 * f64::from(n)))
        .collect();
    voices[1] = Voice::new(1, 500.0, CodecKind::G722, 9);
    let mut datagrams = Vec::new();
    for n in 0..1_500u32 {
        for (number, voice) in (0u32..).zip(&mut voices) {
            voice.loud = if n / 60 % 5 == number { 9_000.0 } else { 700.0 };
            datagrams.push((rtp_socket(number), peer(number), voice.packet()));
        }
    }
    let edited = Graph {
        edges: graph.edges[2..].to_vec(),
        ..graph.clone()
    };
    let mut sink = Sink([0; 2048], 0);
    for (half, graph) in [(0, &graph), (1, &edited)] {
        world.commit(SESSION, graph);
        let half = &mut datagrams[3_750 * half..3_750 * (half + 1)];
        let World { engine, now, .. } = &mut world;
        noalloc::assert_none("a room of the loudest", || {
            for (socket, from, data) in half {
                // 19.9 ms for what lasts 20.
                *now = now.after(std::time::Duration::from_micros(3_980));
                engine.handle_datagram(*now, *socket, *from, data, &mut sink);
                engine.handle_timeout(*now, &mut sink);
            }
        });
    }
    assert!(sink.1 > 6_000, "{} packets went out", sink.1);
}

/// Silence that is described: relayed and not, decoded at two rates, mixed, recorded, and described again for who wants that.
#[test]
fn silence_that_is_described_does_not_allocate() {
    let mut sent = Vec::new();
    for (rate_hz, suppressed) in [(8_000, false), (8_000, true), (16_000, true)] {
        let mut world = World::new();
        let noise = || format(13, Codec::ComfortNoise, 8_000);
        let opus = PayloadFormat {
            channels: 2,
            fmtp: "usedtx=1".into(),
            ..format(111, Codec::Opus, 48_000)
        };
        let parties = vec![
            Party::new("a", 0).with_formats(vec![pcmu(), noise()]),
            Party::new("b", 1).with_formats(vec![pcma(), noise()]),
            Party::new("c", 2).with_formats(vec![format(9, Codec::G722, 8_000), noise()]),
            Party::new("d", 3).with_formats(vec![opus]),
            Party::new("e", 4).with_formats(vec![pcmu()]),
        ];
        let mut graph = Graph::of(parties, &[("a", "e")]);
        for party in &mut graph.endpoints {
            party.suppress_silence = suppressed;
            party.detect_talk = true;
        }
        graph.others.push(room("room", rate_hz));
        for id in ["a", "b", "c", "d"] {
            graph.edges.extend([edge(id, "room"), edge("room", id)]);
        }
        let intake = recorded(&mut world, &mut graph, &["a", "b"], 1 << 20);
        world.commit(SESSION, &graph);
        let mut voices = [
            Voice::pcmu(0, 440.0),
            Voice::new(1, 550.0, CodecKind::Pcma, 8),
            Voice::new(2, 660.0, CodecKind::G722, 9),
            Voice::new(3, 770.0, CodecKind::Opus, 111),
        ];
        let mut datagrams = Vec::new();
        for n in 0..600_u32 {
            for (number, voice) in (0..).zip(&mut voices) {
                let (speaks, describes) = match (n + 7 * number) % 100 {
                    0..30 => (true, false),
                    30 | 60 => (false, number < 3),
                    _ => (false, false),
                };
                let packet = match (speaks, describes) {
                    (true, _) => voice.packet(),
                    (false, true) => voice.description(13, &[40 + n as u8 % 20, 30, 140, 120]),
                    // Opus says so itself.
                    (false, false) if number == 3 => voice.packet_of(&[0x08]),
                    (false, false) => vec![],
                };
                if !speaks && number < 3 {
                    voice.rest(20);
                }
                datagrams.push((rtp_socket(number), peer(number), packet));
            }
        }
        let mut sink = Sink([0; 2048], 0);
        let World { engine, now, .. } = &mut world;
        noalloc::assert_none("silence that is described", || {
            for (socket, from, data) in &mut datagrams {
                *now = now.after(std::time::Duration::from_millis(5));
                if !data.is_empty() {
                    engine.handle_datagram(*now, *socket, *from, data, &mut sink);
                }
                engine.handle_timeout(*now, &mut sink);
            }
            for _ in 0..500 {
                *now = now.after(std::time::Duration::from_millis(10));
                engine.handle_timeout(*now, &mut sink);
            }
        });
        sent.push(sink.1);
        let [packets, ..] = taken(intake);
        assert!(packets > 300, "{packets} packets were recorded");
    }
    assert!(
        sent.iter().skip(1).all(|less| *less < sent[0] * 9 / 10),
        "{sent:?} packets went out"
    );
}

/// Relays between plain RTP and two suites, and a room of the same, with reports and digits, forgeries and replays.
#[test]
fn encrypting_and_decrypting_do_not_allocate() {
    for with_room in [false, true] {
        let mut world = World::new();
        let mut graph = Graph::of(
            vec![Party::new("a", 0), Party::new("b", 1), Party::new("c", 2)],
            &[],
        );
        let mut b = Cipher::new(graph.party("b"), Suite::AesCm128HmacSha1_80);
        let mut c = Cipher::new(graph.party("c"), Suite::AeadAes128Gcm);
        if with_room {
            graph.others.push(room("room", 8_000));
            for id in ["a", "b", "c"] {
                graph.edges.extend([edge(id, "room"), edge("room", id)]);
            }
        } else {
            graph.hear(&[("a", "b"), ("b", "c"), ("c", "a")]);
        }
        world.commit(SESSION, &graph);
        // The peer's key changes: packets under the old one still come.
        let late: Vec<_> = {
            let mut speaker = Speaker::new(0xB);
            (0..50).map(|_| b.rtp(&speaker.packet(&[2; 160]))).collect()
        };
        graph.party("b").sdes = Some(cipher::sdes(Suite::AesCm128HmacSha1_80, Some(50)));
        b.tx = srtp::Outbound::new(&cipher::key(Suite::AesCm128HmacSha1_80, 50));
        world.commit(SESSION, &graph);
        let digit = SendDigit {
            event: Some(5),
            duration_ms: 100,
            gap_ms: 60,
            volume: 10,
        };
        world.command(Command::SendDigits(SESSION, "b".into(), [digit].into()));

        let mut speakers = [0xA, 0xB2, 0xC].map(Speaker::new);
        let mut datagrams = Vec::new();
        for n in 0..300_usize {
            let [packet_a, packet_b, packet_c] = speakers.each_mut().map(|speaker| speaker.packet(&[3; 160]));
            datagrams.push((rtp_socket(0), peer(0), packet_a));
            datagrams.push((rtp_socket(1), peer(1), b.rtp(&packet_b)));
            datagrams.push((rtp_socket(2), peer(2), c.rtp(&packet_c)));
            datagrams.push((rtp_socket(2), peer(2), packet_c));
            datagrams.push((rtcp_socket(1), peer(1), b.rtcp(&rtcp(1, Ssrc(0xB2), false))));
            let old = late.get(n).cloned();
            datagrams.extend(old.map(|old| (rtp_socket(1), peer(1), old)));
        }
        let mut sink = Sink([0; 2048], 0);
        let World { engine, now, .. } = &mut world;
        noalloc::assert_none("SRTP", || {
            for (socket, from, data) in &mut datagrams {
                *now = now.after(std::time::Duration::from_micros(3_900));
                engine.handle_datagram(*now, *socket, *from, data, &mut sink);
                engine.handle_timeout(*now, &mut sink);
            }
        });
        assert!(sink.1 > 600, "{} packets went out", sink.1);
    }
}

/// Keys pressed in the audio, as events, and as both, towards listeners who take them in either form or not at all, in
/// relays and mixes, at every rate; they are gathered, they and speech stop players, and a shared one plays on.
#[test]
fn digits_in_every_form_and_players_do_not_allocate() {
    for rate_hz in [8_000, 16_000, 48_000] {
        let mut world = World::new();
        let mut graph = digits_and_players(rate_hz);
        world.prompts = vec![world::prompt("music", 8_000, vec![700; 4_000])];
        world.commit(SESSION, &graph);
        let wish = CollectWish {
            digits_min: 0,
            digits_max: 64,
            terminators: 0,
            first_digit_ms: 60_000,
            inter_digit_ms: 1_500,
        };
        for (node, request) in [("a", "one"), ("b", "two")] {
            world.command(Command::Collect {
                session: SESSION,
                node: node.into(),
                request: request.into(),
                wish,
            });
        }
        let digit = SendDigit {
            event: Some(5),
            duration_ms: 100,
            gap_ms: 60,
            volume: 10,
        };
        world.command(Command::SendDigits(SESSION, "c".into(), [digit; 3].into()));
        let datagrams = keys_of_three();
        // The players begin anew in the middle, to be stopped again.
        let half = datagrams.len() / 2;
        let mut sink = Sink([0; 2048], 0);
        let mut rest = datagrams;
        let second = rest.split_off(half);
        let peers = [0, 1, 2].map(peer);
        for mut part in [rest, second] {
            let World { engine, now, .. } = &mut world;
            noalloc::assert_none("digits", || {
                for (number, packet) in &mut part {
                    *now = now.after(std::time::Duration::from_micros(6_600));
                    let from = peers[*number as usize];
                    engine.handle_datagram(*now, rtp_socket(*number), from, packet, &mut sink);
                    engine.handle_timeout(*now, &mut sink);
                }
                for _ in 0..300 {
                    *now = now.after(std::time::Duration::from_millis(10));
                    engine.handle_timeout(*now, &mut sink);
                }
            });
            let kinds = world.event_kinds();
            let has = |name: &str| kinds.iter().any(|kind| format!("{kind:?}").contains(name));
            for name in ["Inband", "TelephoneEvent", "BargeIn", "DigitsCollected"] {
                assert!(
                    has(name) || name == "DigitsCollected",
                    "{name} was part of it: {kinds:?}"
                );
            }
            graph
                .others
                .retain(|node| &*node.id != "stopped" && &*node.id != "hushed");
            world.commit(SESSION, &graph);
            graph.others.extend(stopped());
            world.commit(SESSION, &graph);
        }
        assert!(sink.1 > 1_000, "{} packets went out", sink.1);
    }
}

/// Two players: a digit of `a` stops one, speech of `b` the other.
fn stopped() -> [NodeSpec; 2] {
    let tone = PlaySource::Tone(Country::Us, CallProgress::Ringback);
    [("stopped", "a", true), ("hushed", "b", false)].map(|(id, node, on_digit)| {
        let mut player = player(id, std::slice::from_ref(&tone));
        if let NodeKind::Player(player) = &mut player.kind {
            player.barge_in = Some(BargeIn {
                node: node.into(),
                on_digit,
                on_speech: !on_digit,
            });
        }
        player
    })
}

fn digits_and_players(rate_hz: u32) -> Graph {
    let plain = || vec![pcmu()];
    let wide = || vec![format(97, Codec::L16, rate_hz), events(101)];
    let mut graph = Graph::of(
        vec![
            Party::new("a", 0).with_formats(plain()),
            Party::new("b", 1),
            Party::new("c", 2).with_formats(plain()),
            Party::new("d", 3).with_formats(wide()),
            Party::new("e", 4).with_formats(vec![pcma()]),
        ],
        &[("b", "e"), ("a", "d"), ("c", "d")],
    );
    graph.edges[1].digits = DigitPolicy::Convert;
    graph.edges[2].digits = DigitPolicy::Clamp;
    graph.party("b").inband_digits = InbandDigits::On;
    graph.others.push(room("room", rate_hz));
    for id in ["a", "b", "c"] {
        graph.edges.extend([edge(id, "room"), edge("room", id)]);
    }
    graph.edges[6].digits = DigitPolicy::Clamp;
    let mut music = player("music", &[PlaySource::Prompt("music".into())]);
    if let NodeKind::Player(music) = &mut music.kind {
        (music.shared_group, music.repeat) = (Some("moh".into()), None);
    }
    graph.others.push(music);
    graph.others.extend(stopped());
    graph.edges.extend([
        edge("music", "c"),
        edge("stopped", "room"),
        edge("hushed", "room"),
    ]);
    graph
}

/// Packets of `a`, `b` and `c`, in turn: keys in each form, and voices between them.
fn keys_of_three() -> Vec<(u32, Vec<u8>)> {
    let mut phones = [0, 1, 2].map(Keypad::pcmu);
    let mut packets = Vec::new();
    for n in 0..600_u32 {
        for (number, phone) in (0..).zip(&mut phones) {
            if n % 40 == 10 + number {
                phone.queue_tone('7', 100, 60);
            }
            phone.loud = if n % 100 < 50 { 0.0 } else { 6_000.0 };
            if number == 1 && n % 70 == 0 {
                packets.extend(phone.events('5').into_iter().map(|packet| (number, packet)));
            }
            packets.push((number, phone.packet()));
        }
    }
    packets
}
