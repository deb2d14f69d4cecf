//! Comfort noise (RFC 3389): a silence that a peer describes is passed on, or heard as noise of that level and spectrum, and
//! never concealed or counted as loss; and what is encoded for a peer that wants it so is described while it is silence.

use codecs::{CodecKind, Encoder, comfort_noise::Sid, level, opus};
use media_engine::{
    command::EventKind,
    explain::{Code, Severity},
    spec::{Codec, NodeKind, PayloadFormat},
};

use crate::{
    tones::{Ear, LOUD, Voice, talk},
    world::{
        Graph, Party, SESSION, Sent, World, edge, events, format, pcma, pcmu, peer, room, rtcp_socket,
        rtp_socket,
    },
};

const KINDS: &[(u8, CodecKind)] = &[
    (0, CodecKind::Pcmu),
    (8, CodecKind::Pcma),
    (9, CodecKind::G722),
    (111, CodecKind::Opus),
];
const HZ: f64 = 440.0;

fn cn(payload_type: u8) -> PayloadFormat {
    format(payload_type, Codec::ComfortNoise, 8_000)
}

fn opus_format(fmtp: &str) -> PayloadFormat {
    PayloadFormat {
        channels: 2,
        fmtp: fmtp.into(),
        ..format(111, Codec::Opus, 48_000)
    }
}

fn party(id: &'static str, number: u32, formats: &[PayloadFormat]) -> Party {
    Party::new(id, number).with_formats(formats.to_vec())
}

/// What one party was sent: payload type, number and timestamp since the first, marker.
fn line(sent: &[Sent], number: u32) -> Vec<(u8, u16, i32, bool)> {
    let of: Vec<_> = sent
        .iter()
        .filter(|sent| sent.socket == rtp_socket(number))
        .collect();
    let first = of.first().expect("something was sent").header();
    let place = |sent: &&Sent| {
        let header = sent.header();
        (
            header.payload_type.value(),
            header.sequence.wrapping_sub(first.sequence),
            header.timestamp.diff(first.timestamp),
            header.marker,
        )
    };
    of.iter().map(place).collect()
}

fn dbov_at_end(pcm: &[i16], ms: usize) -> f64 {
    level::dbov(&pcm[pcm.len() - 8 * ms..])
}

/// A is silent for `ms`; `each` 20 ms that pass.
fn quiet(world: &mut World, voice: &mut Voice, ms: u32) {
    voice.rest(ms);
    world.pass_ms(ms.into());
}

#[test]
fn a_relay_passes_it_on_to_those_who_take_it_and_leaves_no_gap_for_the_others() {
    let mut world = World::new();
    let parties = vec![
        party("a", 0, &[pcmu(), cn(13)]),
        party("b", 1, &[pcma(), cn(99)]),
        party("c", 2, &[pcmu()]),
    ];
    world.commit(SESSION, &Graph::of(parties, &[("a", "b"), ("a", "c")]));
    let mut a = Voice::pcmu(0, HZ);
    talk(&mut world, &mut [&mut a], 60);
    a.describe(&mut world, 13, &[60, 127]);
    quiet(&mut world, &mut a, 400);
    a.describe(&mut world, 13, &[50]);
    quiet(&mut world, &mut a, 7_600);
    talk(&mut world, &mut [&mut a], 40);
    let sent = world.sent_rtp();
    let spoken = 3 * 160;
    let again = spoken + 8_000 * 8;
    assert_eq!(
        line(&sent, 1),
        [
            (8, 0, 0, true),
            (8, 1, 160, false),
            (8, 2, 320, false),
            (99, 3, spoken, false),
            (99, 4, spoken + 3_200, false),
            (8, 5, again, true),
            (8, 6, again + 160, false),
        ]
    );
    assert_eq!(
        line(&sent, 2),
        [
            (0, 0, 0, true),
            (0, 1, 160, false),
            (0, 2, 320, false),
            (0, 3, again, true),
            (0, 4, again + 160, false),
        ]
    );
    let descriptions = sent
        .iter()
        .filter(|sent| sent.header().payload_type.value() == 99);
    assert_eq!(
        descriptions.map(Sent::payload).collect::<Vec<_>>(),
        [&[60, 127][..], &[50]]
    );
    let [speaker, listener] = ["a", "b"].map(|id| world.endpoint(id));
    assert_eq!(speaker.ingress.lost, 0);
    assert_eq!(speaker.ingress.codec, Some(Codec::Pcmu));
    assert_eq!(listener.egress.codec, Some(Codec::Pcma));
}

/// A new listener does not wait in dead silence until the peer speaks, or tells its silence again.
#[test]
fn who_comes_to_hear_a_peer_that_is_silent_is_told_so() {
    let mut world = World::new();
    let parties = vec![
        party("a", 0, &[pcmu(), cn(13)]),
        party("b", 1, &[pcma(), cn(99)]),
        party("c", 2, &[pcmu()]),
    ];
    let mut graph = Graph::of(parties, &[]);
    world.commit(SESSION, &graph);
    let mut a = Voice::pcmu(0, HZ);
    talk(&mut world, &mut [&mut a], 60);
    a.describe(&mut world, 13, &[60, 127]);
    quiet(&mut world, &mut a, 400);
    assert_eq!(world.sent_rtp(), []);
    graph.hear(&[("a", "b"), ("a", "c")]);
    world.commit(SESSION, &graph);
    // Another edit says nothing new.
    graph.hear(&[("a", "b"), ("a", "c"), ("b", "a")]);
    world.commit(SESSION, &graph);
    quiet(&mut world, &mut a, 1_000);
    talk(&mut world, &mut [&mut a], 40);
    let sent = world.sent_rtp();
    let told = [(99, 0, 0, false), (8, 1, 8_000, true), (8, 2, 8_160, false)];
    assert_eq!(line(&sent, 1), told);
    assert_eq!(line(&sent, 2), [(0, 0, 0, true), (0, 1, 160, false)]);
    let description = sent.iter().find(|sent| sent.header().payload_type.value() == 99);
    assert_eq!(description.map(Sent::payload), Some(&[60, 127][..]));
}

#[test]
fn while_it_lasts_the_codec_that_is_told_is_that_of_speech() {
    let mut world = World::new();
    let parties = vec![party("a", 0, &[pcmu(), cn(13)]), party("b", 1, &[pcma(), cn(13)])];
    world.commit(SESSION, &Graph::of(parties, &[("a", "b")]));
    let mut a = Voice::pcmu(0, HZ);
    talk(&mut world, &mut [&mut a], 60);
    a.describe(&mut world, 13, &[60]);
    assert_eq!(world.endpoint("a").ingress.codec, Some(Codec::Pcmu));
    assert_eq!(world.endpoint("b").egress.codec, Some(Codec::Pcma));
}

/// What the end of speech left in a resampler is not heard when speech begins again, behind a silence that was described or
/// a key. B and C have G.722.
#[test]
fn nothing_of_the_speech_before_is_heard_behind_it() {
    for keys in [false, true] {
        let mut world = World::new();
        let wide = [format(9, Codec::G722, 8_000), events(101)];
        let parties = vec![
            party("a", 0, &[pcmu(), events(101), cn(13)]),
            party("b", 1, &wide),
            party("c", 2, &wide),
        ];
        world.commit(SESSION, &Graph::of(parties, &[("a", "b"), ("c", "b")]));
        let (mut a, mut ear) = (Voice::pcmu(0, HZ), Ear::of_a_line_that_pauses(1_000));
        let send = |world: &mut World, packet: &[u8]| {
            world.receive(rtp_socket(0), peer(0), packet);
            world.pass_ms(20);
        };
        for _ in 0..30 {
            // A value of the law that is loud.
            send(&mut world, &a.packet_of(&[0x85; 160]));
        }
        if keys {
            for update in 1..=20_u16 {
                let [high, low] = (160 * update).to_be_bytes();
                let end = if update < 18 { 10 } else { 0x8a };
                send(&mut world, &a.event(&[5, end, high, low]));
            }
            a.event_ended(20 * 160);
        } else {
            a.describe(&mut world, 13, &[80]);
            quiet(&mut world, &mut a, 400);
        }
        world.sent_rtp();
        for _ in 0..20 {
            send(&mut world, &a.packet_of(&[0xFF; 160]));
        }
        let mut sent = world.sent_rtp();
        sent.retain(|sent| sent.header().payload_type.value() == 9);
        ear.hear(&sent, 1, KINDS);
        let loudest = ear.pcm.iter().map(|sample| sample.unsigned_abs()).max();
        assert!(loudest < Some(200), "keys: {keys}, {loudest:?}");
    }
}

/// A speaks, describes, and speaks again; B hears G.722.
#[test]
fn what_is_decoded_is_heard_as_described_until_speech_goes_on() {
    for (level_told, k) in [(45_u8, -0.8_f32), (55, 0.4), (40, 0.0)] {
        let mut world = World::new();
        let mut parties = vec![
            party("a", 0, &[pcmu(), cn(13)]),
            party("b", 1, &[format(9, Codec::G722, 8_000)]),
        ];
        parties[0].detect_talk = true;
        world.commit(SESSION, &Graph::of(parties, &[("a", "b")]));
        let (mut a, mut ear) = (Voice::pcmu(0, HZ), Ear::default());
        talk(&mut world, &mut [&mut a], 600);
        let mut payload = [0; codecs::comfort_noise::SID_BYTES_MAX];
        let bytes = Sid::new(level_told, &[k]).write(&mut payload);
        a.describe(&mut world, 13, &payload[..bytes]);
        // Once, and nothing more: some phones do no more than that.
        quiet(&mut world, &mut a, 3_000);
        ear.hear(&world.sent_rtp(), 1, KINDS);
        let heard = dbov_at_end(&ear.pcm, 2_500);
        assert!(
            (heard + f64::from(level_told)).abs() < 2.0,
            "{heard:.1}, not -{level_told} dBov"
        );
        for part in ear.pcm[ear.pcm.len() - 20_000..].chunks(800) {
            let heard = level::dbov(part);
            assert!(
                (heard + f64::from(level_told)).abs() < 4.0,
                "{heard:.1} in one tenth"
            );
        }
        // The ear takes every second sample of 16 kHz; what is above 4 kHz is nothing but little.
        let noise = &ear.pcm[ear.pcm.len() - 16_000..];
        let products = noise.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1]));
        let neighbours = products.sum::<f64>() / level::energy(noise) as f64;
        assert!((neighbours + f64::from(k)).abs() < 0.25, "{neighbours} for {k}");
        ear.hears("b", &[HZ], &[]);
        talk(&mut world, &mut [&mut a], 600);
        ear.hear(&world.sent_rtp(), 1, KINDS);
        ear.hears("b", &[HZ], &[(HZ, LOUD)]);
        let report = world.endpoint("a");
        assert_eq!(report.ingress.lost, 0);
        let told: Vec<_> = world.event_kinds();
        let [started, stopped] = [0, 1].map(|stop| {
            let is = |kind: &&EventKind| match kind {
                EventKind::TalkStarted => stop == 0,
                EventKind::TalkStopped { .. } => stop == 1,
                _ => false,
            };
            told.iter().filter(is).count()
        });
        assert_eq!((started, stopped), (2, 1), "noise is no talk: {told:?}");
    }
}

/// A is relayed to B and describes its silence; in the middle of it B's plan comes to decode.
#[test]
fn a_silence_that_was_described_to_a_relay_goes_on_behind_a_mix() {
    for (after_ms, key, heard_dbov) in [
        (300, false, Some(45.0)),
        (30_000, false, Some(45.0)),
        // Digits are no speech.
        (300, true, Some(45.0)),
        // Nobody knows any more.
        (59_500, false, None),
    ] {
        let mut world = World::new();
        let mut graph = Graph::of(
            vec![
                party("a", 0, &[pcmu(), events(101), cn(13)]),
                party("b", 1, &[pcmu(), events(101), cn(13)]),
                party("c", 2, &[pcmu()]),
            ],
            &[("a", "b")],
        );
        graph.options.media_timeout = std::time::Duration::from_secs(300);
        world.commit(SESSION, &graph);
        let (mut a, mut ear) = (Voice::pcmu(0, HZ), Ear::default());
        talk(&mut world, &mut [&mut a], 600);
        // An earlier one, which is over.
        a.describe(&mut world, 13, &[30]);
        quiet(&mut world, &mut a, 200);
        talk(&mut world, &mut [&mut a], 200);
        a.describe(&mut world, 13, &[45, 127]);
        quiet(&mut world, &mut a, after_ms);
        if key {
            let packets: Vec<_> = (0..3).map(|_| a.event(&[5, 0x80 | 10, 0, 160])).collect();
            for packet in packets {
                world.receive(rtp_socket(0), peer(0), &packet);
                quiet(&mut world, &mut a, 20);
            }
        }
        drop(world.sent_rtp());
        // C joins, and says nothing.
        graph.edges.push(edge("c", "b"));
        world.commit(SESSION, &graph);
        quiet(&mut world, &mut a, 3_000);
        ear.hear(&world.sent_rtp(), 1, KINDS);
        match heard_dbov {
            Some(level) => {
                let heard = dbov_at_end(&ear.pcm, 1_500);
                assert!((heard + level).abs() < 2.0, "{heard:.1} dBov after {after_ms} ms");
            }
            None => assert!(dbov_at_end(&ear.pcm, 400) < -80.0, "it has ended"),
        }
        // Speech ends it, and what was described before that is not heard again.
        talk(&mut world, &mut [&mut a], 600);
        let mut ear = Ear::default();
        ear.hear(&world.sent_rtp(), 1, KINDS);
        ear.hears("b", &[HZ], &[(HZ, LOUD)]);
        graph.edges.pop();
        world.commit(SESSION, &graph);
        talk(&mut world, &mut [&mut a], 200);
        graph.edges.push(edge("c", "b"));
        world.commit(SESSION, &graph);
        quiet(&mut world, &mut a, 1_000);
        let mut ear = Ear::default();
        ear.hear(&world.sent_rtp(), 1, KINDS);
        assert!(dbov_at_end(&ear.pcm, 500) < -80.0, "it was not described");
    }
}

#[test]
fn what_is_described_anew_glides_there_and_ends_when_nothing_comes_for_a_minute() {
    let mut world = World::new();
    let parties = vec![
        party("a", 0, &[pcmu(), cn(13)]),
        party("b", 1, &[format(9, Codec::G722, 8_000)]),
    ];
    let mut graph = Graph::of(parties, &[("a", "b")]);
    graph.options.media_timeout = std::time::Duration::from_secs(300);
    world.commit(SESSION, &graph);
    let (mut a, mut ear) = (Voice::pcmu(0, HZ), Ear::default());
    talk(&mut world, &mut [&mut a], 100);
    for level_told in [60_u8, 45, 127, 50] {
        a.describe(&mut world, 13, &[level_told]);
        quiet(&mut world, &mut a, 1_000);
        ear.hear(&world.sent_rtp(), 1, KINDS);
        let heard = dbov_at_end(&ear.pcm, 500);
        let off = heard + f64::from(level_told.min(80));
        assert!(
            off < 2.0 && (level_told == 127 || off > -2.0),
            "{heard:.1} for {level_told}"
        );
    }
    quiet(&mut world, &mut a, 55_000);
    ear.hear(&world.sent_rtp(), 1, KINDS);
    assert!((dbov_at_end(&ear.pcm, 500) + 50.0).abs() < 2.0);
    quiet(&mut world, &mut a, 10_000);
    ear.hear(&world.sent_rtp(), 1, KINDS);
    assert!(dbov_at_end(&ear.pcm, 500) < -80.0);
    let wake = world.engine.poll_timeout().map(|(_, wake)| wake);
    assert_ne!(wake, Some(media_engine::engine::Wake::Tick), "the tick rests");
    // Speech goes on as if nothing had been.
    talk(&mut world, &mut [&mut a], 600);
    let mut ear = Ear::default();
    ear.hear(&world.sent_rtp(), 1, KINDS);
    ear.hears("b", &[HZ], &[(HZ, LOUD)]);
}

/// While it is silent the peer's reports show that it is there.
#[test]
fn who_is_silent_and_reports_has_not_gone() {
    for (describes, reports) in [(true, true), (true, false), (false, true)] {
        let mut world = World::new();
        let parties = vec![party("a", 0, &[pcmu(), cn(13)]), party("b", 1, &[pcmu(), cn(13)])];
        let mut graph = Graph::of(parties, &[("a", "b")]);
        graph.party("b").direction = media_engine::spec::Direction::SendOnly;
        world.commit(SESSION, &graph);
        let mut a = Voice::pcmu(0, HZ);
        talk(&mut world, &mut [&mut a], 100);
        if describes {
            a.describe(&mut world, 13, &[60]);
        }
        for _ in 0..10 {
            quiet(&mut world, &mut a, 5_000);
            if reports {
                let mut buffer = [0; 64];
                let mut writer = rtp::rtcp::RtcpWriter::new(&mut buffer);
                let ssrc = rtp::units::Ssrc(0x5000);
                writer.receiver_report(ssrc, &[]).expect("there is room");
                writer.sdes_cname(ssrc, b"a").expect("there is room");
                let report = writer.finish().to_vec();
                let from = peer(0);
                let from = std::net::SocketAddr::new(from.ip(), from.port() + 1);
                world.receive(rtcp_socket(0), from, &report);
            }
        }
        let kinds = world.event_kinds();
        let timed_out = kinds
            .iter()
            .any(|kind| matches!(kind, EventKind::MediaTimeout { .. }));
        assert_eq!(
            timed_out,
            !(describes && reports),
            "{describes} {reports}: {kinds:?}"
        );
    }
}

/// Who describes its silence is not taken for one that is gone, until the noise ends.
#[test]
fn who_is_silent_is_explained_as_such() {
    let mut world = World::new();
    let parties = vec![party("a", 0, &[pcmu(), cn(13)]), party("b", 1, &[pcmu(), cn(13)])];
    let graph = Graph::of(parties, &[("a", "b")]);
    world.commit(SESSION, &graph);
    let mut a = Voice::pcmu(0, HZ);
    talk(&mut world, &mut [&mut a], 100);
    a.describe(&mut world, 13, &[60]);
    for (wait_ms, code, severity) in [
        (20_000, Code::Flowing, Severity::Notice),
        (50_000, Code::PacketsStopped, Severity::Problem),
    ] {
        quiet(&mut world, &mut a, wait_ms);
        let findings = world.explain(&graph, "a", "b");
        let of_a = findings
            .iter()
            .find(|finding| finding.subject == "node:a")
            .expect("something is told of it");
        assert_eq!((of_a.code, of_a.severity), (code, severity), "{}", of_a.text);
    }
}

#[test]
fn malformed_descriptions_are_silence_and_harm_nobody() {
    let mut world = World::new();
    let parties = vec![
        party("a", 0, &[pcmu(), cn(13)]),
        party("b", 1, &[format(9, Codec::G722, 8_000)]),
    ];
    world.commit(SESSION, &Graph::of(parties, &[("a", "b")]));
    let (mut a, mut ear) = (Voice::pcmu(0, HZ), Ear::default());
    talk(&mut world, &mut [&mut a], 200);
    for payload in [&[][..], &[0xff; 200], &[10, 255, 255], &[127]] {
        a.describe(&mut world, 13, payload);
        quiet(&mut world, &mut a, 400);
    }
    // Loud as they claimed to be, nobody was deafened.
    ear.hear(&world.sent_rtp(), 1, KINDS);
    assert!(dbov_at_end(&ear.pcm, 60) < -40.0);
    talk(&mut world, &mut [&mut a], 600);
    ear.hear(&world.sent_rtp(), 1, KINDS);
    ear.hears("b", &[HZ], &[(HZ, LOUD)]);
}

/// Four in a room, three of whom describe their silence: of their backgrounds one is heard, and whoever speaks is.
#[test]
fn in_a_room_one_background_is_heard_and_nobody_who_is_silent_takes_a_place() {
    for top in [None, Some(1)] {
        let mut world = World::new();
        let ids = ["a", "b", "c", "d"];
        let parties = ids
            .iter()
            .zip(0..)
            .map(|(id, number)| party(id, number, &[pcmu(), cn(13)]));
        let mut graph = Graph::of(parties.collect(), &[]);
        let mut members = room("room", 8_000);
        if let NodeKind::Room(room) = &mut members.kind {
            (room.top_talkers, room.talk_events) = (top, true);
        }
        graph.others.push(members);
        graph.edges = ids
            .iter()
            .flat_map(|id| [edge(id, "room"), edge("room", id)])
            .collect();
        world.commit(SESSION, &graph);
        let mut voices: Vec<Voice> = (0..4)
            .map(|n| Voice::pcmu(n, 300.0 + 130.0 * f64::from(n)))
            .collect();
        let (speaker, others) = voices.split_at_mut(1);
        for voice in others.iter_mut() {
            talk(&mut world, &mut [voice], 40);
            // Louder than some speak.
            voice.describe(&mut world, 13, &[40]);
        }
        world.pass_ms(1_000);
        drop(world.sent_rtp());
        world.pass_ms(1_000);
        let sent = world.sent_rtp();
        if top.is_none() {
            let mut ear = Ear::default();
            ear.hear(&sent, 0, KINDS);
            let heard = level::dbov(&ear.pcm);
            assert!((heard + 40.0).abs() < 1.5, "{heard:.1} dBov of three backgrounds");
        }
        drop(world.events());
        speaker[0].loud = 600.0;
        talk(&mut world, &mut [&mut speaker[0]], 1_000);
        let sent = world.sent_rtp();
        for number in 1..4 {
            let mut ear = Ear::default();
            ear.hear(&sent, number, KINDS);
            let heard = ear.levels(&[300.0])[&300];
            assert!(
                (480.0..720.0).contains(&heard),
                "{number} hears {heard:.0}, top {top:?}"
            );
        }
        let talkers = world
            .events()
            .into_iter()
            .filter(|event| event.kind == EventKind::TalkStarted);
        let talkers: Vec<String> = talkers
            .map(|event| event.subject.expect("a node").to_string())
            .collect();
        assert_eq!(talkers, ["a"]);
    }
}

/// What of a second of `hz` and three of `noise_dbov` a suppressed line carries.
#[test]
fn what_is_encoded_is_described_while_it_is_silence_where_that_was_agreed() {
    let g722 = format(9, Codec::G722, 8_000);
    for (formats, suppress, described) in [
        (vec![pcmu(), cn(99)], true, true),
        (vec![pcmu(), cn(99)], false, false),
        (vec![pcmu()], true, false),
        (vec![pcmu(), format(98, Codec::ComfortNoise, 16_000)], true, false),
    ] {
        let mut world = World::new();
        let mut parties = vec![
            party("a", 0, std::slice::from_ref(&g722)),
            party("b", 1, &formats),
        ];
        parties[1].suppress_silence = suppress;
        world.commit(SESSION, &Graph::of(parties, &[("a", "b")]));
        let mut a = Voice::new(0, HZ, CodecKind::G722, 9);
        talk(&mut world, &mut [&mut a], 1_000);
        a.silent = true;
        talk(&mut world, &mut [&mut a], 5_000);
        a.silent = false;
        talk(&mut world, &mut [&mut a], 1_000);
        let sent = world.sent_rtp();
        let line = line(&sent, 1);
        for pair in line.windows(2) {
            assert_eq!(pair[1].1, pair[0].1.wrapping_add(1), "a number is missing");
        }
        let descriptions: Vec<_> = line
            .iter()
            .filter(|(payload_type, ..)| *payload_type == 99)
            .collect();
        if !described {
            assert!(line.len() >= 345, "{} packets", line.len());
            assert_eq!(descriptions.len(), 0);
            continue;
        }
        // A second, the hangover, and a second.
        let spoken = line.len() - descriptions.len();
        assert!((105..=120).contains(&spoken), "{spoken} packets of speech");
        assert!((2..=4).contains(&descriptions.len()), "{descriptions:?}");
        assert!(descriptions.iter().all(|(.., marker)| !marker));
        let back = line
            .iter()
            .position(|(.., ts, marker)| *marker && *ts > 0)
            .expect("a talk spurt begins");
        assert_eq!(line[back - 1].0, 99, "right behind a silence");
        assert!(
            (47_000..49_500).contains(&line[back].2),
            "6 s in: {}",
            line[back].2
        );
        assert_eq!(line.iter().filter(|(.., marker)| *marker).count(), 2);
        // Nothing of the tone is cut off.
        let mut decoder = codecs::Decoder::new(CodecKind::Pcmu, 8_000).expect("a rate");
        let mut pcm = [0; 160];
        let packets: Vec<_> = sent.iter().filter(|sent| sent.socket == rtp_socket(1)).collect();
        decoder
            .decode(packets[back].payload(), &mut pcm)
            .expect("a payload");
        assert!(level::dbov(&pcm) > -30.0, "its first packet is speech");
        let silence = Sid::parse(packets[back - 1].payload()).expect("a description");
        assert!(silence.level_dbov() > 65, "{silence:?}");
    }
}

#[test]
fn a_described_silence_is_described_again_behind_a_mix() {
    let mut world = World::new();
    let ids = ["a", "b", "c"];
    let parties = ids
        .iter()
        .zip(0..)
        .map(|(id, number)| party(id, number, &[pcmu(), cn(13)]));
    let mut graph = Graph::of(parties.collect(), &[]);
    graph.party("c").suppress_silence = true;
    graph.others.push(room("room", 8_000));
    graph.edges = ids
        .iter()
        .flat_map(|id| [edge(id, "room"), edge("room", id)])
        .collect();
    world.commit(SESSION, &graph);
    let mut a = Voice::pcmu(0, HZ);
    talk(&mut world, &mut [&mut a], 1_000);
    a.describe(&mut world, 13, &[48, 30]);
    quiet(&mut world, &mut a, 3_000);
    let sent = world.sent_rtp();
    let to_c: Vec<_> = sent.iter().filter(|sent| sent.socket == rtp_socket(2)).collect();
    let last = to_c.last().expect("something was sent");
    assert_eq!(last.header().payload_type.value(), 13);
    let sid = Sid::parse(last.payload()).expect("a description");
    assert!(sid.level_dbov().abs_diff(48) <= 2, "{sid:?}");
    assert!(sid.reflection()[0] < -0.5, "{sid:?}");
    assert!(to_c.len() < 80, "{} packets for 4 s", to_c.len());
    // B asked for everything, and got it.
    let to_b = sent.iter().filter(|sent| sent.socket == rtp_socket(1)).count();
    assert!(to_b >= 190, "{to_b}");
}

/// Silence of Opus becomes comfort noise, and the other way round.
#[test]
fn silence_of_opus_and_comfort_noise_are_one() {
    let mut world = World::new();
    let mut parties = vec![
        party("a", 0, &[opus_format("useinbandfec=1;usedtx=1")]),
        party("b", 1, &[pcmu(), cn(13)]),
    ];
    for party in &mut parties {
        party.suppress_silence = true;
    }
    world.commit(SESSION, &Graph::of(parties, &[("a", "b"), ("b", "a")]));
    let mut encoder = Encoder::new(CodecKind::Opus, 8_000, &opus::Settings::default()).expect("a rate");
    let mut a = Voice::new(0, HZ, CodecKind::Opus, 111);
    let mut b = Voice::pcmu(1, 620.0);
    // Background of some -52 dBov, in which words are spoken.
    let (mut noise, mut seed) = (Vec::new(), 1_u32);
    let mut background = |pcm: &mut Vec<i16>| {
        pcm.clear();
        pcm.extend((0..160).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as i16 - 128
        }));
    };
    let mut payload = [0; 1_500];
    for n in 0..400 {
        background(&mut noise);
        if n < 50 {
            let tone = |at: usize| (at as f64 * 0.35).sin() * 6_000.0;
            noise
                .iter_mut()
                .enumerate()
                .for_each(|(at, s)| *s += tone(n * 160 + at) as i16);
        }
        let bytes = encoder.encode(&noise, &mut payload).expect("a frame");
        // Silence: every 400 ms a packet of what it is like, and one that says that nothing follows.
        let sent = match n {
            0..50 => bytes,
            _ if n % 20 == 10 => bytes,
            _ if n % 20 == 11 => 1,
            _ => 0,
        };
        match sent {
            0 => a.rest(20),
            _ => {
                let datagram = a.packet_of(&payload[..sent]);
                world.receive(rtp_socket(0), peer(0), &datagram);
            }
        }
        world.pass_ms(20);
    }
    let sent = world.sent_rtp();
    let to_b: Vec<_> = sent.iter().filter(|sent| sent.socket == rtp_socket(1)).collect();
    let descriptions: Vec<_> = to_b
        .iter()
        .filter(|sent| sent.header().payload_type.value() == 13)
        .map(|sent| Sid::parse(sent.payload()).expect("a description").level_dbov())
        .collect();
    let last = *descriptions.last().expect("it is silence");
    assert!((46..=62).contains(&last), "{descriptions:?}");
    // Described, and not described again and again.
    assert!(descriptions.len() < 30, "{descriptions:?}");
    assert!(to_b.len() < 200, "{} packets", to_b.len());
    assert_eq!(world.endpoint("a").ingress.lost, 0);
    // The other way: B describes its silence, and little goes to A.
    talk(&mut world, &mut [&mut b], 600);
    b.describe(&mut world, 13, &[60]);
    world.pass_ms(600);
    drop(world.sent_rtp());
    quiet(&mut world, &mut b, 4_000);
    let to_a = world
        .sent_rtp()
        .into_iter()
        .filter(|sent| sent.socket == rtp_socket(0));
    let to_a = to_a.count();
    assert!((5..=60).contains(&to_a), "{to_a} packets for 4 s of silence");
}
