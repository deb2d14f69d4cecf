//! What a tick costs: `cargo run --release -p media-engine --example mix_cost`.
//!
//! One session of a thousand G.711 endpoints, as a room in which some of them speak and all send packets, and as the
//! listeners of one player; then a thousand rooms in which nobody sends. The wire is a buffer. CPU by the thread's own
//! time, the packets that come in included.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement reads clocks"
)]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use media_engine::{
    command::{Command, Commit, EndpointStream, SessionKey, SocketId, TransportSockets},
    engine::{Egress, Engine, EngineConfig},
    spec::{
        CallProgress, Codec, Country, DigitPolicy, Direction, EdgeSpec, EndpointSpec, InbandDigits, Name,
        NodeKind, NodeSpec, PayloadFormat, PlayItem, PlaySource, PlayerSpec, PolishSpec, RoomSpec, RtcpMode,
        SessionOptions, SessionSpec, SourcePolicy, TransportKind, TransportSpec, UdpSpec,
    },
};
use rtp::{
    time::Now,
    units::{ClockRate, PayloadType, Ssrc},
};

const MEMBERS: u32 = 1_000;
const TICKS: u32 = 1_000;

struct Buffer {
    slot: [u8; 2048],
    sent: u64,
}

impl Egress for Buffer {
    fn slot(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.slot)
    }

    fn commit(&mut self, _len: usize, _socket: SocketId, _to: SocketAddr) {
        self.sent += 1;
    }
}

fn name(n: u32) -> Name {
    format!("{n:05}").into()
}

fn peer(n: u32) -> SocketAddr {
    SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 20_000))
}

/// `members` endpoints whose sockets begin at `first`, and one more node that they hear; into it too if it is a room.
fn session(key: u64, first: u32, members: u32, hub: NodeKind) -> Commit {
    let format = PayloadFormat {
        payload_type: PayloadType::PCMU,
        codec: Codec::Pcmu,
        clock: ClockRate::HZ_8000,
        channels: 1,
        fmtp: "".into(),
    };
    let transport = |n: u32| TransportSpec {
        id: name(n),
        kind: TransportKind::Udp(UdpSpec {
            interface: "media".into(),
            family: None,
            rtcp: RtcpMode::Off,
            requested_port: None,
            remote: Some(peer(n)),
            remote_rtcp: None,
            source: SourcePolicy::Signalled,
            dscp: None,
            security: None,
        }),
    };
    let endpoint = |n: u32| NodeSpec {
        id: name(n),
        kind: NodeKind::Endpoint(EndpointSpec {
            transport: name(n),
            receive: [format.clone()].into(),
            send: [format.clone()].into(),
            ptime_ms: 20,
            direction: Direction::SendRecv,
            ssrc: None,
            cname: None,
            jitter_ms_max: 120,
            detect_talk: false,
            inband_digits: InbandDigits::Off,
            polish: PolishSpec::default(),
            suppress_silence: false,
        }),
    };
    let edge = |from: &Name, to: &Name| EdgeSpec {
        from: from.clone(),
        to: to.clone(),
        gain_db: 0.0,
        muted: false,
        digits: DigitPolicy::Pass,
        right: false,
    };
    let id: Name = "hub".into();
    let is_room = matches!(hub, NodeKind::Room(_));
    let speakers = (0..members).filter(|_| is_room).map(|n| edge(&name(n), &id));
    let mut edges: Vec<EdgeSpec> = speakers
        .chain((0..members).map(|n| edge(&id, &name(n))))
        .collect();
    edges.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    let mut nodes: Vec<Arc<NodeSpec>> = (0..members).map(|n| Arc::new(endpoint(n))).collect();
    nodes.push(Arc::new(NodeSpec { id, kind: hub }));
    Commit {
        session: SessionKey(key),
        name: "s".into(),
        spec: Arc::new(SessionSpec {
            transports: (0..members).map(|n| Arc::new(transport(n))).collect(),
            nodes,
            edges,
            options: SessionOptions {
                media_timeout: Duration::from_secs(3_600),
                orphan_max: Duration::from_secs(3_600),
                relearn_after: Duration::from_secs(3),
            },
        }),
        sockets: (0..members)
            .map(|n| TransportSockets {
                transport: name(n),
                rtp: SocketId(first + n),
                rtcp: None,
            })
            .collect(),
        streams: (0..members)
            .map(|n| EndpointStream {
                node: name(n),
                ssrc: Ssrc(first + n),
                cname: "host".into(),
            })
            .collect(),
        links: Vec::new(),
        prompts: Vec::new(),
        recordings: Vec::new(),
        taps: Vec::new(),
        keys: Vec::new(),
    }
}

/// CPU time of this thread, from the scheduler's own account.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has schedstat");
    let nanos = stat.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.expect("its first number is CPU ns"))
}

/// Runs with packets from `senders` members, the first `speakers` of whom are heard.
fn measure(what: &str, commits: Vec<Commit>, senders: u32, speakers: u32) {
    let mut engine = Engine::new(EngineConfig::default(), 1);
    let mut now = Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    };
    let mut wire = Buffer {
        slot: [0; 2048],
        sent: 0,
    };
    let begun = cpu();
    for commit in commits {
        engine.handle_command(now, Command::Commit(Box::new(commit)), &mut wire);
    }
    let commit_ms = (cpu() - begun).as_secs_f64() * 1_000.0;
    let mut spent = Duration::ZERO;
    for tick in 0..TICKS + 100 {
        if tick == 100 {
            spent = cpu();
            wire.sent = 0;
        }
        for n in 0..senders {
            let mut datagram = [0xff_u8; 172];
            if n < speakers {
                datagram[12..].fill(0x30);
            }
            datagram[..2].copy_from_slice(&[0x80, 0]);
            datagram[2..4].copy_from_slice(&(tick as u16).to_be_bytes());
            datagram[4..8].copy_from_slice(&(tick * 160).to_be_bytes());
            datagram[8..12].copy_from_slice(&n.to_be_bytes());
            engine.handle_datagram(now, SocketId(n), peer(n), &mut datagram, &mut wire);
        }
        now = now.after(Duration::from_millis(20));
        engine.handle_timeout(now, &mut wire);
        while engine.poll_event().is_some() {}
    }
    let spent = (cpu() - spent).as_secs_f64();
    println!(
        "{what}: {:.0} us CPU per tick ({:.2} % of a core), {:.0} packets out per tick, commit {commit_ms:.1} ms",
        spent * 1e6 / f64::from(TICKS),
        spent / f64::from(TICKS) / 0.02 * 100.0,
        wire.sent as f64 / f64::from(TICKS),
    );
}

fn main() {
    let room = || {
        NodeKind::Room(RoomSpec {
            sample_rate_hz: 16_000,
            top_talkers: None,
            talk_events: false,
        })
    };
    let tone = PlayItem {
        source: PlaySource::Tone(Country::Us, CallProgress::Dial),
        start_ms: 0,
    };
    let player = NodeKind::Player(PlayerSpec {
        items: [tone].into(),
        repeat: Some(1),
        gain_db: 0.0,
        paused: false,
        barge_in: None,
        shared_group: None,
    });
    for _ in 0..2 {
        measure(
            "room of 1000, 1 speaks, all send",
            vec![session(1, 0, MEMBERS, room())],
            MEMBERS,
            1,
        );
        measure(
            "room of 1000, 3 speak, all send",
            vec![session(1, 0, MEMBERS, room())],
            MEMBERS,
            3,
        );
        measure(
            "room of 1000, all speak",
            vec![session(1, 0, MEMBERS, room())],
            MEMBERS,
            MEMBERS,
        );
        measure(
            "room of 1000, 1 sends",
            vec![session(1, 0, MEMBERS, room())],
            1,
            1,
        );
        measure(
            "player heard by 1000",
            vec![session(1, 0, MEMBERS, player.clone())],
            0,
            0,
        );
    }
    let idle = (0..1_000)
        .map(|n| session(u64::from(n), 3 * n, 3, room()))
        .collect();
    measure("1000 rooms of three, nobody sends", idle, 0, 0);
}
