//! Calls on real sockets go through relay, transcoding and mixing while a hundred others load the same workers: everybody hears
//! exactly whom they should, on lines that never break. And a host that has no time left takes no new calls until it has.
//!
//! Nothing here depends on when a packet comes: the machine may be busy with other things.

use std::{
    collections::VecDeque,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use codecs::goertzel;
use proto::mediad::v1 as pb;
use tonic::{Code, transport::Channel};

use crate::support::{
    Daemon, PATIENCE, Party, call, edge, endpoint, error, free_ports, may_share, owner, ports, udp,
};

type Media = pb::media_client::MediaClient<Channel>;

const TONES: [f64; 3] = [440.0, 700.0, 1_000.0];
/// Of the tones that parties speak.
const LOUD: f64 = 8_000.0;
const PORTS: u16 = 1_000;

/// Calls that nobody listens to closely: packets for all of them from one socket, and what comes back.
struct Load {
    calls: usize,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<u64>>,
}

impl Load {
    /// `calls` that change the law, so that they cost a little.
    async fn begin(media: &mut Media, calls: usize, transcoded: bool) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let here = socket.local_addr().unwrap();
        let mut at = Vec::new();
        for number in 0..calls {
            let mut request = call(&format!("load-{number}"), Some(here), Some(here));
            if transcoded {
                request.put_nodes[1] = opus("b", "tb");
            }
            let since = Instant::now();
            // To make so many encoders may be as much as a host with a low limit takes at once.
            let made = loop {
                match media.apply(request.clone()).await {
                    Ok(made) => break made,
                    Err(status) if status.code() == Code::ResourceExhausted && since.elapsed() < PATIENCE => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Err(status) => panic!("{status}"),
                }
            };
            at.push(ports(&made.into_inner())[0]);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || send_to_all(&socket, &at, &stopped));
        Self {
            calls,
            stop,
            thread: Some(thread),
        }
    }

    /// Gives how many packets came back.
    async fn end(mut self, media: &mut Media) -> u64 {
        self.stop.store(true, Relaxed);
        let heard = self.thread.take().unwrap().join().unwrap();
        for number in 0..self.calls {
            let session = format!("load-{number}");
            let request = pb::DeleteRequest {
                session,
                owner: owner(1),
            };
            media.delete(request).await.unwrap();
        }
        heard
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn send_to_all(socket: &UdpSocket, at: &[SocketAddr], stop: &AtomicBool) -> u64 {
    let mut packet = [0x55_u8; 172];
    packet[..2].copy_from_slice(&[0x80, 0]);
    let (mut sequence, mut heard, mut buffer) = (0_u32, 0, [0; 2_048]);
    let mut due = Instant::now();
    while !stop.load(Relaxed) {
        for (number, to) in at.iter().enumerate() {
            packet[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
            packet[4..8].copy_from_slice(&(sequence * 160).to_be_bytes());
            packet[8..12].copy_from_slice(&(number as u32 + 1).to_be_bytes());
            let _ = socket.send_to(&packet, to);
        }
        sequence += 1;
        due += Duration::from_millis(20);
        while socket.recv_from(&mut buffer).is_ok() {
            heard += 1;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    heard
}

fn opus(id: &str, transport: &str) -> pb::Node {
    let format = pb::PayloadFormat {
        payload_type: 111,
        codec: pb::Codec::Opus.into(),
        channels: 2,
        ..Default::default()
    };
    with_format(id, transport, format)
}

fn alaw(id: &str, transport: &str) -> pb::Node {
    let format = pb::PayloadFormat {
        payload_type: 8,
        codec: pb::Codec::Pcma.into(),
        ..Default::default()
    };
    with_format(id, transport, format)
}

fn with_format(id: &str, transport: &str, format: pb::PayloadFormat) -> pb::Node {
    let endpoint = pb::Endpoint {
        transport: transport.into(),
        formats: vec![format],
        ..Default::default()
    };
    pb::Node {
        id: id.into(),
        kind: Some(pb::node::Kind::Endpoint(endpoint)),
    }
}

/// Three parties of one session; the third listens in A-law and says nothing.
struct Checked {
    session: String,
    parties: Vec<Party>,
    at: Vec<SocketAddr>,
    /// How much each had heard at each of the latest turns.
    heard: VecDeque<Vec<usize>>,
}

/// Turns of 20 ms in which a tone is measured.
const MEASURED: usize = 20;
const IDS: [&str; 3] = ["a", "b", "c"];

impl Checked {
    async fn begin(media: &mut Media, session: &str) -> Self {
        let parties: Vec<Party> = TONES.into_iter().map(Party::new).collect();
        let transports = IDS.iter().zip(&parties);
        let room = pb::Node {
            id: "room".into(),
            kind: Some(pb::node::Kind::Room(pb::Room {
                sample_rate_hz: 8_000,
                ..Default::default()
            })),
        };
        let request = pb::ApplyRequest {
            session: session.into(),
            owner: owner(1),
            put_transports: transports
                .map(|(id, party)| udp(&format!("t{id}"), Some(party.addr())))
                .collect(),
            put_nodes: vec![endpoint("a", "ta"), endpoint("b", "tb"), alaw("c", "tc"), room],
            ..Default::default()
        };
        let at = ports(&media.apply(request).await.unwrap().into_inner());
        let mut parties = parties;
        for (party, at) in parties.iter_mut().zip(&at) {
            party.hear_only(*at);
        }
        Self {
            session: session.into(),
            parties,
            at,
            heard: VecDeque::new(),
        }
    }

    /// Who hears whom from now on; rooms are spelled as they are in the graph.
    async fn hear(&self, media: &mut Media, edges: &[(&str, &str)]) {
        let everybody = ["a", "b", "c", "room"];
        let all = everybody.iter().flat_map(|from| everybody.map(|to| (*from, to)));
        let request = pb::DescribeRequest {
            session: self.session.clone(),
        };
        let reply = media.describe(request).await.unwrap().into_inner();
        let there: Vec<(String, String)> = reply
            .description
            .unwrap()
            .edges
            .into_iter()
            .map(|e| (e.from, e.to))
            .collect();
        let gone = all.filter(|(from, to)| {
            there.contains(&((*from).to_owned(), (*to).to_owned())) && !edges.contains(&(*from, *to))
        });
        let request = pb::ApplyRequest {
            session: self.session.clone(),
            owner: owner(1),
            put_edges: edges.iter().map(|(from, to)| edge(from, to)).collect(),
            remove_edges: gone
                .map(|(from, to)| pb::EdgeKey {
                    from: from.into(),
                    to: to.into(),
                })
                .collect(),
            ..Default::default()
        };
        media.apply(request).await.unwrap();
    }

    fn turn(&mut self) {
        for (party, at) in self.parties.iter_mut().zip(&self.at).take(2) {
            party.say(*at);
        }
        self.parties.iter_mut().for_each(Party::listen);
        self.heard
            .push_back(self.parties.iter().map(|party| party.heard.len()).collect());
        if self.heard.len() > MEASURED {
            self.heard.pop_front();
        }
    }

    /// Whether everybody hears, in the latest 400 ms, exactly the tones that `edges` let them.
    fn wrong(&self, edges: &[(&str, &str)]) -> Option<String> {
        for (number, id) in IDS.iter().enumerate() {
            let heard = self.latest(number);
            for (speaker, hz) in [("a", TONES[0]), ("b", TONES[1])] {
                let in_room =
                    edges.contains(&(speaker, "room")) && edges.contains(&("room", id)) && speaker != *id;
                let wanted = in_room || edges.contains(&(speaker, id));
                let level = match heard.len() {
                    1_600.. => goertzel::amplitude(&heard, hz, 8_000) / LOUD,
                    _ => 0.0,
                };
                if wanted != (level > 0.5) || !wanted && level > 0.1 {
                    return Some(format!(
                        "{}: {id} hears {speaker} at {level:.2}; asked was {wanted}",
                        self.session
                    ));
                }
            }
        }
        None
    }

    /// What a party heard in the latest turns.
    fn latest(&self, number: usize) -> Vec<i16> {
        let mut heard = Vec::new();
        let from = self.heard.front().map_or(0, |heard| heard[number]);
        for (_, payload) in &self.parties[number].heard[from..] {
            let mut pcm = vec![0; payload.len()];
            match number {
                2 => codecs::g711::decode_alaw(payload, &mut pcm),
                _ => codecs::g711::decode_ulaw(payload, &mut pcm),
            };
            heard.extend(pcm);
        }
        heard
    }

    /// Every line that was heard: one SSRC, number after number, time running forward.
    fn check_lines(&self) {
        for (party, id) in self.parties.iter().zip(IDS) {
            let place = format!("{}: towards {id}", self.session);
            for pair in party.heard.windows(2) {
                let (before, after) = (pair[0].0, pair[1].0);
                assert_eq!(before.ssrc, after.ssrc, "{place}");
                assert_eq!(after.sequence, before.sequence.wrapping_add(1), "{place}");
                let forward = after.timestamp.0.wrapping_sub(before.timestamp.0).cast_signed();
                assert!(
                    forward > 0,
                    "{place}: {:?} after {:?}",
                    after.timestamp,
                    before.timestamp
                );
            }
        }
    }
}

/// From one to the next: relay, conference, whisper, nothing, listening in, and back.
const STEPS: [&[(&str, &str)]; 7] = [
    &[("a", "b"), ("b", "a")],
    &[
        ("a", "room"),
        ("b", "room"),
        ("c", "room"),
        ("room", "a"),
        ("room", "b"),
        ("room", "c"),
    ],
    &[("a", "b"), ("b", "a"), ("a", "c")],
    &[("a", "b"), ("a", "c"), ("b", "c")],
    &[],
    &[
        ("a", "room"),
        ("b", "room"),
        ("room", "c"),
        ("b", "a"),
        ("a", "b"),
    ],
    &[("a", "b"), ("b", "a")],
];

#[tokio::test]
async fn over_epoll() {
    edited("mmsg").await;
}

#[tokio::test]
async fn over_io_uring() {
    edited("uring").await;
}

#[tokio::test]
async fn over_shared_sockets() {
    if may_share() {
        edited("shared").await;
    }
}

async fn edited(backend: &str) {
    let daemon = Daemon::start_on(
        free_ports(PORTS),
        PORTS,
        &[&format!("io.backend={backend}"), "workers.count=2"],
    );
    let mut media = daemon.media().await;
    let load = Load::begin(&mut media, 100, false).await;
    let mut checked = Vec::new();
    for number in 0..4 {
        checked.push(Checked::begin(&mut media, &format!("checked-{number}")).await);
    }
    for round in 0..STEPS.len() + 3 {
        let edges = |number: usize| STEPS[(round + number) % STEPS.len()];
        for (number, one) in checked.iter().enumerate() {
            one.hear(&mut media, edges(number)).await;
        }
        let (mut due, since) = (Instant::now(), Instant::now());
        for turn in 0.. {
            checked.iter_mut().for_each(Checked::turn);
            due += Duration::from_millis(20);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if turn < 25 {
                continue;
            }
            let mut each = checked.iter().enumerate();
            match each.find_map(|(number, one)| one.wrong(edges(number))) {
                None => break,
                Some(wrong) => assert!(since.elapsed() < PATIENCE, "round {round}: {wrong}"),
            }
        }
    }
    for one in &checked {
        one.check_lines();
    }
    assert!(load.end(&mut media).await > 1_000, "the load was carried");
}

#[tokio::test]
async fn a_loaded_host_takes_no_new_calls_and_recovers_when_the_load_goes() {
    // Of a share that these calls need on any machine, so that it matters little what else runs here.
    let daemon = Daemon::start_on(free_ports(PORTS), PORTS, &["limits.busy_percent_max=5"]);
    let mut media = daemon.media().await;
    let mut one = Checked::begin(&mut media, "checked").await;
    one.hear(&mut media, STEPS[0]).await;
    let load = Load::begin(&mut media, 100, true).await;
    let since = Instant::now();
    let refused = loop {
        one.turn();
        match media.apply(call("one-more", None, None)).await {
            Err(status) => break error(&status),
            Ok(_) => assert!(since.elapsed() < PATIENCE, "it takes everything"),
        }
        let request = pb::DeleteRequest {
            session: "one-more".into(),
            owner: owner(1),
        };
        media.delete(request).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(refused.code, Code::ResourceExhausted as i32);
    for part in [
        "the host is busy",
        "up to 5 %",
        "limits.busy_percent_max",
        "another host",
    ] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    // Before it refused, its encoders made less effort.
    let status = daemon.host().await.status(pb::StatusRequest {}).await.unwrap();
    assert!(status.into_inner().workers[0].opus_complexity < 5);
    // What is there is edited all the same, and heard.
    one.hear(&mut media, STEPS[1]).await;
    let since = Instant::now();
    for turn in 0.. {
        one.turn();
        tokio::time::sleep(Duration::from_millis(20)).await;
        match one.wrong(STEPS[1]).filter(|_| turn >= MEASURED) {
            None if turn >= MEASURED => break,
            wrong => assert!(since.elapsed() < PATIENCE, "{wrong:?}"),
        }
    }
    one.check_lines();
    assert!(load.end(&mut media).await > 0, "the load was carried");
    let since = Instant::now();
    while let Err(status) = media.apply(call("one-more", None, None)).await {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(since.elapsed() < PATIENCE, "still: {}", status.message());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
