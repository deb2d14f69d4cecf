//! A daemon to drive, parties that talk and listen, and the requests they need.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use proto::mediad::v1::{
    self as pb, host_client::HostClient, media_client::MediaClient, node, transport, watch_reply::Kind,
};
use rtp::{
    header::RtpHeader,
    units::{PayloadType, RtpTimestamp, Ssrc},
};
use tonic::{Status, Streaming, transport::Channel};

/// Shared sockets are for the privileged; others are told that these tests did not run.
pub(crate) fn may_share() -> bool {
    let missing = media_net::missing_capabilities();
    if !missing.is_empty() {
        eprintln!("NOT RUN: shared sockets need {}", missing.join(", "));
    }
    missing.is_empty()
}

/// Longest wait for anything; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Name of the controller in requests made here.
pub(crate) const CONTROLLER: &str = "tests";

/// RTP ports a daemon gets unless its test says otherwise.
const PORTS: u16 = 64;

/// A running mediad; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) control: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) boot_id: String,
}

impl Daemon {
    /// Starts one with these settings beside a range of ports of its own, and waits until it is ready.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::start_on(free_ports(PORTS), PORTS, settings)
    }

    /// As [`Daemon::start`], with a last word on how the program is called.
    pub(crate) fn start_as(settings: &[&str], call: impl FnOnce(&mut Command)) -> Self {
        Self::start_with(free_ports(PORTS), PORTS, settings, call)
    }

    /// As [`Daemon::start`], with ports from `port_min`.
    pub(crate) fn start_on(port_min: u16, count: u16, settings: &[&str]) -> Self {
        Self::start_with(port_min, count, settings, |_| {})
    }

    fn start_with(port_min: u16, count: u16, settings: &[&str], call: impl FnOnce(&mut Command)) -> Self {
        let interfaces = format!(
            "media.interfaces=[{{name='lo', port_min={port_min}, port_max={}}}]",
            port_min + count - 1
        );
        let mut command = mediad();
        command.args([
            "--control",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--set",
            &interfaces,
        ]);
        for setting in [
            "workers.pin=false",
            "workers.count=1",
            "media.scout_ms=0",
            "io.sockets_max=2048",
            // The machine may run other tests at the same time: a late packet is not a lost one here.
            "io.stale_ms=2000",
            "limits.late_ms_max=0",
        ]
        .iter()
        .chain(settings)
        {
            command.args(["--set", setting]);
        }
        call(&mut command);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let word = |key: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(key));
            found
                .unwrap_or_else(|| panic!("mediad did not become ready: {line:?}"))
                .to_owned()
        };
        Self {
            control: word("control=").parse().unwrap(),
            metrics: word("metrics=").parse().unwrap(),
            boot_id: word("boot_id="),
            child,
        }
    }

    pub(crate) async fn media(&self) -> MediaClient<Channel> {
        MediaClient::new(channel(self.control).await)
    }

    pub(crate) async fn host(&self) -> HostClient<Channel> {
        HostClient::new(channel(self.control).await)
    }

    /// The body and status line of a page on the management address.
    pub(crate) fn page(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: mediad\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// kill -9: the kernel ends it wherever it is.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub(crate) fn send(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Sends a signal by name and waits for the exit code.
    pub(crate) fn signal(&mut self, name: &str) -> Option<i32> {
        self.send(name);
        self.exit_code()
    }

    /// Waits for the exit code; there is none if a signal ended it.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(since.elapsed() < PATIENCE, "mediad did not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, without settings of the machine it is tested on.
pub(crate) fn mediad() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mediad"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MEDIAD_")) {
        command.env_remove(name);
    }
    command
}

async fn channel(addr: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{addr}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// A range of ports that nobody uses, below the kernel's ephemeral ones.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let slots = 6_000 / count;
    let of_process = (std::process::id() % u32::from(slots)) as u16 * 7;
    for _ in 0..slots {
        let slot = (of_process + NEXT.fetch_add(1, Ordering::Relaxed)) % slots;
        let first = 10_000 + slot * count;
        if (first..first + count).all(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return first;
        }
    }
    panic!("no {count} free ports in a row between 10000 and 16000");
}

/// A directory for files of one test.
pub(crate) fn scratch(name: &str) -> std::path::PathBuf {
    let path =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

/// One phone: says its tone, remembers what it hears.
pub(crate) struct Party {
    pub(crate) socket: UdpSocket,
    pub(crate) hz: f64,
    ssrc: Ssrc,
    sequence: u16,
    timestamp: RtpTimestamp,
    phase: u32,
    pub(crate) sent: usize,
    /// Payloads in the order of arrival, with their headers.
    pub(crate) heard: Vec<(RtpHeader, Vec<u8>)>,
}

impl Party {
    pub(crate) fn new(hz: f64) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), hz)
    }

    pub(crate) fn at(ip: IpAddr, hz: f64) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let ssrc = Ssrc(u32::from(socket.local_addr().unwrap().port()) << 8);
        Self {
            socket,
            hz,
            ssrc,
            sequence: 65_530,
            timestamp: RtpTimestamp(u32::MAX - 400),
            phase: 0,
            sent: 0,
            heard: Vec::new(),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// One 20 ms packet of the tone in PCMU.
    pub(crate) fn say(&mut self, to: SocketAddr) {
        let mut pcm = [0i16; 160];
        for sample in &mut pcm {
            let angle = std::f64::consts::TAU * self.hz * f64::from(self.phase) / 8_000.0;
            *sample = (8_000.0 * angle.sin()) as i16;
            self.phase += 1;
        }
        let mut packet = [0u8; 172];
        let header = RtpHeader {
            marker: self.sent == 0,
            payload_type: PayloadType::PCMU,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        header.write_to(&mut packet);
        codecs::g711::encode_ulaw(&pcm, &mut packet[12..]);
        // A closed port at the other end shows up as an error on the next send; that is for the listener to notice.
        let _ = self.socket.send_to(&packet, to);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        self.sent += 1;
    }

    /// From now on nothing is taken but from there: a media host of another test may still send to who had this port before.
    pub(crate) fn hear_only(&mut self, from: SocketAddr) {
        self.socket.connect(from).unwrap();
        self.listen();
        self.heard.clear();
    }

    /// Takes what has arrived.
    pub(crate) fn listen(&mut self) {
        let mut buffer = [0; 2_048];
        while let Ok((len, _)) = self.socket.recv_from(&mut buffer) {
            let view = rtp::header::RtpReader::parse(&buffer[..len]).unwrap();
            self.heard.push((view.header(), view.payload().to_vec()));
        }
    }

    /// What was heard as samples.
    pub(crate) fn samples(&self) -> Vec<i16> {
        let mut pcm = Vec::new();
        for (_, payload) in &self.heard {
            let at = pcm.len();
            pcm.resize(at + payload.len(), 0);
            codecs::g711::decode_ulaw(payload, &mut pcm[at..]);
        }
        pcm
    }

    /// Share of the heard energy at `hz`: near 1 when it is all there is, near 0 when it is absent.
    pub(crate) fn share(&self, hz: f64) -> f64 {
        share(&self.samples(), hz)
    }
}

/// Share of the energy of `samples` that is at `hz`, by Goertzel over stretches of 100 ms.
pub(crate) fn share(samples: &[i16], hz: f64) -> f64 {
    let (mut at_hz, mut all) = (0.0, 0.0);
    for stretch in samples.chunks_exact(800) {
        let coefficient = 2.0 * (std::f64::consts::TAU * hz / 8_000.0).cos();
        let (mut s1, mut s2) = (0.0, 0.0);
        for sample in stretch {
            let s0 = f64::from(*sample) + coefficient * s1 - s2;
            (s2, s1) = (s1, s0);
            all += f64::from(*sample).powi(2);
        }
        at_hz += (s1 * s1 + s2 * s2 - coefficient * s1 * s2) * 2.0 / 800.0;
    }
    if all == 0.0 { 0.0 } else { at_hz / all }
}

/// Both talk at once, `packets` each at 4 ms a packet (a relay does not care), and listen until all has arrived.
pub(crate) fn converse(a: (&mut Party, SocketAddr), b: (&mut Party, SocketAddr), packets: usize) {
    let (a, a_port) = a;
    let (b, b_port) = b;
    let expected = (a.heard.len() + packets, b.heard.len() + packets);
    for _ in 0..packets {
        a.say(a_port);
        b.say(b_port);
        thread::sleep(Duration::from_millis(4));
        a.listen();
        b.listen();
    }
    let since = Instant::now();
    while (a.heard.len() < expected.0 || b.heard.len() < expected.1)
        && since.elapsed() < Duration::from_millis(500)
    {
        thread::sleep(Duration::from_millis(2));
        a.listen();
        b.listen();
    }
}

pub(crate) fn owner(epoch: u64) -> Option<pb::Owner> {
    Some(pb::Owner {
        controller: CONTROLLER.into(),
        epoch,
    })
}

pub(crate) fn address(addr: SocketAddr) -> pb::Address {
    pb::Address {
        ip: addr.ip().to_string(),
        port: addr.port().into(),
    }
}

pub(crate) fn socket_addr(address: &pb::Address) -> SocketAddr {
    SocketAddr::new(address.ip.parse().unwrap(), u16::try_from(address.port).unwrap())
}

/// A UDP transport called `id` towards `remote`.
pub(crate) fn udp(id: &str, remote: Option<SocketAddr>) -> pb::Transport {
    let udp = pb::UdpTransport {
        remote: remote.map(address),
        ..Default::default()
    };
    pb::Transport {
        id: id.into(),
        kind: Some(transport::Kind::Udp(udp)),
    }
}

/// A PCMU endpoint called `id` on `transport`.
pub(crate) fn endpoint(id: &str, transport: &str) -> pb::Node {
    let pcmu = pb::PayloadFormat {
        payload_type: 0,
        codec: pb::Codec::Pcmu.into(),
        ..Default::default()
    };
    let events = pb::PayloadFormat {
        payload_type: 101,
        codec: pb::Codec::TelephoneEvent.into(),
        ..Default::default()
    };
    let endpoint = pb::Endpoint {
        transport: transport.into(),
        formats: vec![pcmu, events],
        ..Default::default()
    };
    pb::Node {
        id: id.into(),
        kind: Some(node::Kind::Endpoint(endpoint)),
    }
}

pub(crate) fn edge(from: &str, to: &str) -> pb::Edge {
    pb::Edge {
        from: from.into(),
        to: to.into(),
        ..Default::default()
    }
}

/// Endpoints "a" and "b" on transports "ta" and "tb" that hear each other.
pub(crate) fn call(session: &str, a: Option<SocketAddr>, b: Option<SocketAddr>) -> pb::ApplyRequest {
    pb::ApplyRequest {
        session: session.into(),
        owner: owner(1),
        put_transports: vec![udp("ta", a), udp("tb", b)],
        put_nodes: vec![endpoint("a", "ta"), endpoint("b", "tb")],
        put_edges: vec![edge("a", "b"), edge("b", "a")],
        ..Default::default()
    }
}

/// Where the host receives RTP on each transport of a reply, in order.
pub(crate) fn ports(reply: &pb::ApplyReply) -> Vec<SocketAddr> {
    reply
        .transports
        .iter()
        .map(|transport| socket_addr(transport.local.as_ref().unwrap()))
        .collect()
}

/// The contract's error in a status.
pub(crate) fn error(status: &Status) -> pb::Error {
    let error: pb::Error = prost::Message::decode(status.details()).unwrap();
    assert_eq!(
        (error.code, error.message.as_str()),
        (status.code() as i32, status.message())
    );
    error
}

/// The next message of a Watch, in bounded time.
pub(crate) async fn next(watch: &mut Streaming<pb::WatchReply>) -> Kind {
    let message = tokio::time::timeout(PATIENCE, watch.message())
        .await
        .expect("an event comes in time");
    message.unwrap().expect("the stream goes on").kind.unwrap()
}

/// The next event that is not about media starting or sources learned.
pub(crate) async fn next_event(
    watch: &mut Streaming<pb::WatchReply>,
    wanted: fn(&pb::event::Kind) -> bool,
) -> pb::Event {
    loop {
        if let Kind::Event(event) = next(watch).await
            && wanted(event.kind.as_ref().unwrap())
        {
            return event;
        }
    }
}
