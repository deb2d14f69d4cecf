//! What the engine itself costs per relayed packet: `cargo run --release -p media-engine --example relay_cost`.
//!
//! 2 000 calls, one packet per party every 20 ms in an order that is shuffled once; the wire is a buffer. Prints CPU
//! nanoseconds per packet by the thread's own time, so that a busy machine matters less.
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
        Codec, DigitPolicy, Direction, EdgeSpec, EndpointSpec, InbandDigits, NodeKind, NodeSpec,
        PayloadFormat, PolishSpec, RtcpMode, SessionOptions, SessionSpec, SourcePolicy, TransportKind,
        TransportSpec, UdpSpec,
    },
};
use rtp::{
    time::Now,
    units::{ClockRate, PayloadType, Ssrc},
};

const CALLS: u32 = 2_000;
const ROUNDS: u32 = 500;
const ROUNDS_PER_FIGURE: u32 = 100;
const PAYLOAD: usize = 160;

struct Buffer {
    slots: Vec<[u8; 2048]>,
    next: usize,
    sent: u64,
}

impl Egress for Buffer {
    fn slot(&mut self) -> Option<&mut [u8]> {
        self.slots.get_mut(self.next).map(|slot| &mut slot[..])
    }

    fn commit(&mut self, _len: usize, _socket: SocketId, _to: SocketAddr) {
        self.next = (self.next + 1) % self.slots.len();
        self.sent += 1;
    }
}

fn peer(endpoint: u32) -> SocketAddr {
    SocketAddr::from((
        [10, 0, (endpoint >> 8) as u8, endpoint as u8],
        20_000 + (endpoint % 1000) as u16,
    ))
}

fn call(n: u32, codecs: [Codec; 2], inband_digits: InbandDigits) -> Commit {
    let ids = ["a", "b"];
    let format = |codec| PayloadFormat {
        payload_type: if codec == Codec::Pcmu {
            PayloadType::PCMU
        } else {
            PayloadType::PCMA
        },
        codec,
        clock: ClockRate::HZ_8000,
        channels: 1,
        fmtp: "".into(),
    };
    let transport = |side: usize| {
        Arc::new(TransportSpec {
            id: ids[side].into(),
            kind: TransportKind::Udp(UdpSpec {
                interface: "media".into(),
                family: None,
                rtcp: RtcpMode::Separate,
                requested_port: None,
                remote: Some(peer(2 * n + side as u32)),
                remote_rtcp: None,
                source: SourcePolicy::Learn,
                dscp: None,
                security: None,
            }),
        })
    };
    let node = |side: usize| {
        Arc::new(NodeSpec {
            id: ids[side].into(),
            kind: NodeKind::Endpoint(EndpointSpec {
                transport: ids[side].into(),
                receive: [format(codecs[side])].into(),
                send: [format(codecs[side])].into(),
                ptime_ms: 20,
                direction: Direction::SendRecv,
                ssrc: None,
                cname: None,
                jitter_ms_max: 200,
                detect_talk: false,
                inband_digits,
                polish: PolishSpec::default(),
                suppress_silence: false,
            }),
        })
    };
    let edge = |from: &str, to: &str| EdgeSpec {
        from: from.into(),
        to: to.into(),
        gain_db: 0.0,
        muted: false,
        digits: DigitPolicy::Pass,
        right: false,
    };
    Commit {
        session: SessionKey(u64::from(n)),
        name: "call".into(),
        spec: Arc::new(SessionSpec {
            transports: vec![transport(0), transport(1)],
            nodes: vec![node(0), node(1)],
            edges: vec![edge("a", "b"), edge("b", "a")],
            options: SessionOptions {
                media_timeout: Duration::from_secs(30),
                orphan_max: Duration::from_secs(3600),
                relearn_after: Duration::from_secs(3),
            },
        }),
        sockets: (0..2)
            .map(|side| TransportSockets {
                transport: ids[side as usize].into(),
                rtp: SocketId(4 * n + 2 * side),
                rtcp: Some(SocketId(4 * n + 2 * side + 1)),
            })
            .collect(),
        streams: (0..2)
            .map(|side| EndpointStream {
                node: ids[side as usize].into(),
                ssrc: Ssrc(4 * n + side),
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
    let nanos = stat
        .split(' ')
        .next()
        .and_then(|first| first.parse().ok())
        .expect("its first number is CPU ns");
    Duration::from_nanos(nanos)
}

fn measure(name: &str, codecs: [Codec; 2], inband_digits: InbandDigits) {
    let mut engine = Engine::new(EngineConfig::default(), 1);
    let mut now = Now {
        mono: Instant::now(),
        wall: SystemTime::now(),
    };
    let mut wire = Buffer {
        slots: vec![[0; 2048]; 256],
        next: 0,
        sent: 0,
    };
    for n in 0..CALLS {
        engine.handle_command(
            now,
            Command::Commit(Box::new(call(n, codecs, inband_digits))),
            &mut wire,
        );
    }
    let mut order: Vec<u32> = (0..2 * CALLS).collect();
    let mut random = 1u64;
    for at in (1..order.len()).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (random >> 33) as usize % (at + 1));
    }
    let mut datagram = [0u8; 12 + PAYLOAD];
    datagram[0] = 0x80;
    for (at, sample) in datagram[12..].iter_mut().enumerate() {
        *sample = (at * at) as u8;
    }
    let mut packets = 0u64;
    let mut best = f64::MAX;
    let mut begun = cpu();
    for round in 0..ROUNDS {
        for (at, &endpoint) in order.iter().enumerate() {
            datagram[1] = if codecs[endpoint as usize % 2] == Codec::Pcmu {
                0
            } else {
                8
            };
            datagram[2..4].copy_from_slice(&(round as u16).to_be_bytes());
            datagram[4..8].copy_from_slice(&(round * 160).to_be_bytes());
            datagram[8..12].copy_from_slice(&endpoint.to_be_bytes());
            let moment = now.after(Duration::from_micros(5 * at as u64));
            engine.handle_datagram(
                moment,
                SocketId(2 * endpoint),
                peer(endpoint),
                &mut datagram,
                &mut wire,
            );
        }
        now = now.after(Duration::from_millis(20));
        engine.handle_timeout(now, &mut wire);
        while engine.poll_event().is_some() {}
        packets += order.len() as u64;
        // The scheduler accounts at its ticks, so one round is too short to tell.
        if (round + 1) % ROUNDS_PER_FIGURE == 0 {
            let spent = (cpu() - begun).as_nanos() as f64;
            best = best.min(spent / (order.len() as u32 * ROUNDS_PER_FIGURE) as f64);
            begun = cpu();
        }
    }
    let totals = engine.totals();
    assert!(
        totals.drops.iter().all(|drops| *drops == 0),
        "every packet is relayed"
    );
    assert!(wire.sent >= packets);
    println!(
        "{name}: {best:.0} ns CPU per packet, {} endpoints, {packets} packets",
        totals.endpoints
    );
}

fn main() {
    for _ in 0..3 {
        let ulaw = [Codec::Pcmu, Codec::Pcmu];
        measure("relay  ", ulaw, InbandDigits::Off);
        measure("rewrite", [Codec::Pcmu, Codec::Pcma], InbandDigits::Off);
        // What is added is a tick of decoding and detection for each packet.
        measure("relay and tones", ulaw, InbandDigits::On);
    }
}
