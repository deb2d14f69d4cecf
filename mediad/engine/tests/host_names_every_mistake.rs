//! Each kind of mistake in an Apply has its own status, names what is at fault, and leaves nothing behind.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test needs one instant and may fail where it stands"
)]

use std::{
    fmt::Write as _,
    time::{Duration, Instant, SystemTime},
};

use media_engine::{
    api,
    host::{Host, HostConfig, Interface, InterfaceAddress},
};
use proto::mediad::v1::{self as pb, play_item::Source};
use rtp::time::Now;

fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

fn host() -> Host {
    let local = "127.0.0.1".parse().unwrap();
    let interface = Interface {
        name: "lan".into(),
        addresses: vec![InterfaceAddress {
            bind: local,
            advertise: local,
        }],
        port_min: 10_000,
        port_max: 10_007,
        dscp: 46,
    };
    let config = HostConfig {
        interfaces: vec![interface],
        sessions_max: 3,
        ..HostConfig::default()
    };
    Host::new(config, "boot-1", 0, now()).unwrap()
}

fn transport(id: &str) -> pb::Transport {
    let udp = pb::UdpTransport::default();
    pb::Transport {
        id: id.into(),
        kind: Some(pb::transport::Kind::Udp(udp)),
    }
}

fn with_udp(id: &str, change: impl FnOnce(&mut pb::UdpTransport)) -> pb::Transport {
    let mut udp = pb::UdpTransport::default();
    change(&mut udp);
    pb::Transport {
        id: id.into(),
        kind: Some(pb::transport::Kind::Udp(udp)),
    }
}

fn with_sdes(change: impl FnOnce(&mut pb::SdesSecurity)) -> pb::Transport {
    let mut sdes = pb::SdesSecurity::default();
    change(&mut sdes);
    with_udp("ta", |udp| {
        udp.security = Some(pb::udp_transport::Security::Sdes(sdes));
    })
}

fn pcmu() -> pb::PayloadFormat {
    pb::PayloadFormat {
        payload_type: 0,
        codec: pb::Codec::Pcmu.into(),
        ..Default::default()
    }
}

fn with_endpoint(id: &str, transport: &str, change: impl FnOnce(&mut pb::Endpoint)) -> pb::Node {
    let mut endpoint = pb::Endpoint {
        transport: transport.into(),
        formats: vec![pcmu()],
        ..Default::default()
    };
    change(&mut endpoint);
    pb::Node {
        id: id.into(),
        kind: Some(pb::node::Kind::Endpoint(endpoint)),
    }
}

fn endpoint(id: &str, transport: &str) -> pb::Node {
    with_endpoint(id, transport, |_| {})
}

fn edge(from: &str, to: &str) -> pb::Edge {
    pb::Edge {
        from: from.into(),
        to: to.into(),
        ..Default::default()
    }
}

/// A good call of two parties, for the mistakes to be made in.
fn call(session: &str) -> pb::ApplyRequest {
    pb::ApplyRequest {
        session: session.into(),
        owner: Some(pb::Owner {
            controller: "c1".into(),
            epoch: 1,
        }),
        put_transports: vec![transport("ta"), transport("tb")],
        put_nodes: vec![endpoint("a", "ta"), endpoint("b", "tb")],
        put_edges: vec![edge("a", "b"), edge("b", "a")],
        ..Default::default()
    }
}

fn apply(host: &mut Host, request: &pb::ApplyRequest) -> Result<u64, pb::Error> {
    let patch = api::apply(request).map_err(|refusal| api::error(&refusal))?;
    let prepared = host
        .prepare(now(), patch)
        .map_err(|refusal| api::error(&refusal))?;
    Ok(host.commit(now(), prepared).applied.revision)
}

fn opaque() -> pb::PayloadFormat {
    pb::PayloadFormat {
        payload_type: 97,
        codec: pb::Codec::Opaque.into(),
        ..Default::default()
    }
}

fn room(room: pb::Room) -> pb::Node {
    pb::Node {
        id: "room".into(),
        kind: Some(pb::node::Kind::Room(room)),
    }
}

fn player(change: impl FnOnce(&mut pb::Player)) -> pb::Node {
    let mut player = pb::Player::default();
    change(&mut player);
    pb::Node {
        id: "player".into(),
        kind: Some(pb::node::Kind::Player(player)),
    }
}

fn recorder(change: impl FnOnce(&mut pb::Recorder)) -> pb::Node {
    let mut recorder = pb::Recorder {
        recording: "rec-1".into(),
        ..Default::default()
    };
    change(&mut recorder);
    pb::Node {
        id: "recorder".into(),
        kind: Some(pb::node::Kind::Recorder(recorder)),
    }
}

fn item(source: Source) -> pb::PlayItem {
    pb::PlayItem {
        source: Some(source),
        start_ms: 0,
    }
}

type Mistake = (&'static str, fn(&mut pb::ApplyRequest));

#[rustfmt::skip]
const MISTAKES_OF_VALUES: &[Mistake] = &[
    ("no session id", |r| r.session.clear()),
    ("a session id with a newline", |r| r.session = "a\nb".into()),
    ("a session id of 129 bytes", |r| r.session = "x".repeat(129)),
    ("no owner", |r| r.owner = None),
    ("a transport without a kind", |r| r.put_transports[0].kind = None),
    ("a link to nobody", |r| r.put_transports[0].kind = Some(pb::transport::Kind::Link(Default::default()))),
    ("links in a circle", |r| for (n, other) in ["tb", "ta"].iter().enumerate() {
        let peer_session = r.session.clone();
        let link = pb::LinkTransport { peer_session, peer_transport: (*other).into() };
        r.put_transports[n].kind = Some(pb::transport::Kind::Link(link));
    }),
    ("SDES without suites", |r| r.put_transports[0] = with_sdes(|_| {})),
    ("a suite of the future", |r| r.put_transports[0] = with_sdes(|s| s.suites = vec![99])),
    ("a suite twice", |r| r.put_transports[0] = with_sdes(|s| s.suites = vec![1, 1])),
    ("a key of the wrong length", |r| r.put_transports[0] = with_sdes(|s| { s.suites = vec![1]; s.remote = Some(pb::SdesKey { suite: 1, key_salt: vec![7; 29], tag: 1 }) })),
    ("a key of another suite", |r| r.put_transports[0] = with_sdes(|s| { s.suites = vec![1]; s.remote = Some(pb::SdesKey { suite: 4, key_salt: vec![7; 28], tag: 1 }) })),
    ("a key without a tag", |r| r.put_transports[0] = with_sdes(|s| { s.suites = vec![1]; s.remote = Some(pb::SdesKey { suite: 1, key_salt: vec![7; 30], tag: 0 }) })),
    ("a key without a source of randomness", |r| r.put_transports[0] = with_sdes(|s| s.suites = vec![1])),
    ("DTLS", |r| r.put_transports[0] = with_udp("ta", |u| u.security = Some(pb::udp_transport::Security::Dtls(Default::default())))),
    ("ICE", |r| r.put_transports[0] = with_udp("ta", |u| u.ice = Some(Default::default()))),
    ("a host name as address", |r| r.put_transports[0] = with_udp("ta", |u| u.remote = Some(pb::Address { ip: "phone.example".into(), port: 4000 }))),
    ("port 0 as remote", |r| r.put_transports[0] = with_udp("ta", |u| u.remote = Some(pb::Address { ip: "192.0.2.1".into(), port: 0 }))),
    ("a multicast remote", |r| r.put_transports[0] = with_udp("ta", |u| u.remote = Some(pb::Address { ip: "224.0.0.1".into(), port: 4000 }))),
    ("an IPv6 remote on IPv4", |r| r.put_transports[0] = with_udp("ta", |u| { u.family = pb::AddressFamily::Ipv4.into(); u.remote = Some(pb::Address { ip: "::1".into(), port: 4000 }) })),
    ("a family the interface lacks", |r| r.put_transports[0] = with_udp("ta", |u| u.family = pb::AddressFamily::Ipv6.into())),
    ("an unknown interface", |r| r.put_transports[0] = with_udp("ta", |u| u.interface = "wan".into())),
    ("DSCP 64", |r| r.put_transports[0] = with_udp("ta", |u| u.dscp = Some(64))),
    ("an enum value of the future", |r| r.put_transports[0] = with_udp("ta", |u| u.rtcp = 99)),
    ("an odd requested port", |r| r.put_transports[0] = with_udp("ta", |u| u.requested_port = 10_001)),
    ("a requested port out of range", |r| r.put_transports[0] = with_udp("ta", |u| u.requested_port = 20_000)),
    ("the same transport twice", |r| r.put_transports.push(transport("ta"))),
    ("the same node twice", |r| r.put_nodes.push(endpoint("a", "ta"))),
    ("the same edge twice", |r| r.put_edges.push(edge("a", "b"))),
    ("a node without a kind", |r| r.put_nodes[0].kind = None),
    ("a room at 11 kHz", |r| r.put_nodes.push(room(pb::Room { sample_rate_hz: 11_025, ..Default::default() }))),
    ("a room of the loudest 65", |r| r.put_nodes.push(room(pb::Room { top_talkers: 65, ..Default::default() }))),
    ("a room in a room", |r| { r.put_nodes.push(room(Default::default())); r.put_nodes.push(pb::Node { id: "room2".into(), ..room(Default::default()) }); r.put_edges.push(edge("room", "room2")) }),
    ("a room for what nobody decodes", |r| { r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats[0] = opaque()); r.put_edges = vec![edge("a", "room")]; r.put_nodes.push(room(Default::default())) }),
    ("a room for who takes nothing encoded", |r| { r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats[0] = opaque()); r.put_edges = vec![edge("room", "a")]; r.put_nodes.push(room(Default::default())) }),
    ("a player of nothing", |r| r.put_nodes.push(player(|_| {}))),
    ("a player of an empty item", |r| r.put_nodes.push(player(|p| p.items.push(Default::default())))),
    ("an unknown tone", |r| r.put_nodes.push(player(|p| p.items.push(item(Source::Tone("ringback-mars".into())))))),
    ("an item after a tone", |r| r.put_nodes.push(player(|p| p.items = vec![item(Source::Tone("busy-uk".into())), item(Source::SilenceMs(10))]))),
    ("silence of no length", |r| r.put_nodes.push(player(|p| p.items.push(item(Source::SilenceMs(0)))))),
    ("65 items", |r| r.put_nodes.push(player(|p| p.items = vec![item(Source::SilenceMs(10)); 65]))),
    ("a player at 40 dB", |r| r.put_nodes.push(player(|p| { p.items.push(item(Source::SilenceMs(10))); p.gain_db = 40.0 }))),
    ("barge-in", |r| r.put_nodes.push(player(|p| { p.items.push(item(Source::SilenceMs(10))); p.barge_in = Some(Default::default()) }))),
    ("barge-in by nobody there", |r| r.put_nodes.push(player(|p| { p.items.push(item(Source::SilenceMs(10))); p.barge_in = Some(pb::BargeIn { node: "x".into(), on_digit: true, on_speech: false }) }))),
    ("barge-in on what is shared", |r| r.put_nodes.push(player(|p| { p.shared_group = "moh".into(); p.barge_in = Some(pb::BargeIn { node: "a".into(), on_digit: true, on_speech: false }) }))),
    ("a prompt outside", |r| r.put_nodes.push(player(|p| p.items.push(item(Source::Prompt("../secret.wav".into())))))),
    ("a player that hears", |r| { r.put_nodes.push(player(|p| p.items.push(item(Source::SilenceMs(10))))); r.put_edges.push(edge("a", "player")) }),
    ("a recorder of nothing", |r| r.put_nodes.push(recorder(|p| p.recording.clear()))),
    ("a recording of an unknown format", |r| r.put_nodes.push(recorder(|p| p.format = 9))),
    ("a recorder that speaks", |r| { r.put_nodes.push(recorder(|_| {})); r.put_edges.push(edge("recorder", "a")) }),
    ("a third channel", |r| { r.put_nodes.push(recorder(|_| {})); r.put_edges.push(pb::Edge { channel: 2, ..edge("a", "recorder") }) }),
    ("a recording of what nobody decodes", |r| { r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats[0] = opaque()); r.put_edges = vec![edge("a", "recorder")]; r.put_nodes.push(recorder(|_| {})) }),
    ("a tap at 44.1 kHz", |r| r.put_nodes[0].kind = Some(pb::node::Kind::Tap(pb::Tap { sample_rate_hz: 44_100 }))),
    ("an endpoint on no transport", |r| r.put_nodes[0] = endpoint("a", "")),
    ("an endpoint on an unknown transport", |r| r.put_nodes[0] = endpoint("a", "tx")),
    ("two endpoints on one transport", |r| r.put_nodes[1] = endpoint("b", "ta")),
    ("no formats", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats.clear())),
    ("a format without a codec", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats[0].codec = 0)),
    ("payload type 72", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats[0].payload_type = 72)),
    ("payload type 128", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats[0].payload_type = 128)),
    ("a payload type twice", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats.push(pb::PayloadFormat { codec: pb::Codec::Pcma.into(), ..pcmu() }))),
    ("PCMU at 16 kHz", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats[0].clock_rate_hz = 16_000)),
    ("only telephone-event", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats[0].codec = pb::Codec::TelephoneEvent.into())),
    ("ptime 5", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.ptime_ms = 5)),
    ("a jitter bound of 600 ms", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.jitter_ms_max = 600)),
    ("an edge from nowhere", |r| r.put_edges.push(edge("ghost", "a"))),
    ("an edge to nowhere", |r| r.put_edges.push(edge("a", "ghost"))),
    ("a node that hears itself", |r| r.put_edges.push(edge("a", "a"))),
    ("a gain of 30 dB", |r| r.put_edges[0].gain_db = 30.0),
    ("a gain that is not a number", |r| r.put_edges[0].gain_db = f64::NAN),
    ("a gain on what nobody decodes", |r| { for n in [("a", "ta"), ("b", "tb")].iter().enumerate() { r.put_nodes[n.0] = with_endpoint(n.1.0, n.1.1, |e| e.formats[0] = opaque()) } r.put_edges[0].gain_db = -3.0 }),
    ("no common codec", |r| r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats[0] = opaque())),
    ("hearing two at once of whom one cannot be decoded", |r| {
        r.put_nodes[0] = with_endpoint("a", "ta", |e| e.formats.push(opaque()));
        r.put_transports.push(transport("tc"));
        r.put_nodes.push(with_endpoint("c", "tc", |e| e.formats[0] = opaque()));
        r.put_edges.push(edge("c", "a"))
    }),
    ("removing a node that is not there", |r| r.remove_nodes.push("ghost".into())),
    ("removing a transport that is not there", |r| r.remove_transports.push("ghost".into())),
    ("removing an edge that is not there", |r| r.remove_edges.push(pb::EdgeKey { from: "a".into(), to: "b".into() })),
    ("more ports than there are", |r| for n in 0..5 { r.put_transports.push(transport(&format!("t{n}"))) }),
    ("nine labels", |r| r.options = Some(pb::SessionOptions { labels: (0..9).map(|n| (n.to_string(), String::new())).collect(), ..Default::default() })),
    ("a revision of a session that does not exist", |r| r.if_revision = Some(4)),
];

#[test]
fn a_mistake_in_a_new_session_leaves_nothing() {
    let mut told = String::new();
    for (name, mistake) in MISTAKES_OF_VALUES {
        let mut host = host();
        let mut request = call("s");
        mistake(&mut request);
        let error = apply(&mut host, &request).expect_err(name);
        writeln!(
            told,
            "{name}\n  {} [{}] {}",
            error.code, error.subject, error.message
        )
        .unwrap();

        let status = host.status(now());
        assert_eq!(
            (status.sessions, status.interfaces[0].used),
            (0, 0),
            "{name} left something"
        );
        assert_eq!(
            apply(&mut host, &call("s")),
            Ok(1),
            "{name} is in the way of a good request"
        );
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_mistake_in_an_edit_leaves_the_session_as_it_was() {
    type Edit = fn(&mut pb::ApplyRequest);
    #[rustfmt::skip]
    let mistakes: &[(&str, Edit)] = &[
        ("the session exists already", |r| r.if_revision = Some(0)),
        ("an old revision", |r| r.if_revision = Some(7)),
        ("somebody else's session", |r| r.owner = Some(pb::Owner { controller: "c2".into(), epoch: 1 })),
        ("an epoch that was never announced", |r| r.owner = Some(pb::Owner { controller: "c1".into(), epoch: 2 })),
        ("a transport in use", |r| r.remove_transports.push("ta".into())),
        ("another RTCP mode", |r| r.put_transports.push(with_udp("ta", |u| u.rtcp = pb::RtcpMode::Mux.into()))),
        ("another family", |r| r.put_transports.push(with_udp("ta", |u| u.family = pb::AddressFamily::Ipv4.into()))),
        ("another interface", |r| r.put_transports.push(with_udp("ta", |u| u.interface = "lan".into()))),
        ("another DSCP", |r| r.put_transports.push(with_udp("ta", |u| u.dscp = Some(0)))),
    ];
    let mut told = String::new();
    for (name, mistake) in mistakes {
        let mut host = host();
        apply(&mut host, &call("s")).unwrap();
        let before = host.list(None, "", 10);
        let mut edit = pb::ApplyRequest {
            session: "s".into(),
            owner: call("s").owner,
            ..Default::default()
        };
        mistake(&mut edit);
        let error = apply(&mut host, &edit).expect_err(name);
        writeln!(
            told,
            "{name}\n  {} [{}] {}",
            error.code, error.subject, error.message
        )
        .unwrap();
        assert_eq!(host.list(None, "", 10), before, "{name} changed the session");
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_full_or_draining_host_refuses_new_sessions_and_keeps_the_old() {
    let mut host = host();
    let bare = |name: &str| pb::ApplyRequest {
        session: name.into(),
        owner: call(name).owner,
        put_transports: vec![transport("t")],
        ..Default::default()
    };
    for name in ["s1", "s2", "s3"] {
        apply(&mut host, &bare(name)).unwrap();
    }
    let full = apply(&mut host, &bare("s4")).unwrap_err();
    assert_eq!(
        (full.code, full.subject.as_str()),
        (8, "session:s4"),
        "{}",
        full.message
    );
    assert!(full.message.contains("3 sessions"), "{}", full.message);

    host.drain(true);
    let draining = apply(&mut host, &bare("s5")).unwrap_err();
    assert_eq!(
        (draining.code, draining.subject.as_str()),
        (14, "session:s5"),
        "{}",
        draining.message
    );
    for part in ["\"s5\"", "draining", "another host", "undrain"] {
        assert!(draining.message.contains(part), "{}", draining.message);
    }
    assert_eq!(
        apply(
            &mut host,
            &pb::ApplyRequest {
                put_nodes: vec![endpoint("a", "t")],
                ..bare("s1")
            }
        ),
        Ok(2)
    );
    assert_eq!(
        apply(&mut host, &bare("s1")),
        Ok(2),
        "an edit that changes nothing keeps the revision"
    );
}
