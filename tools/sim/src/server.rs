//! The simulated `mediad` process: the real host and the real engines, with mailboxes that take their time and sockets that are
//! entries in a table. What the daemon does with threads and system calls, this does in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use media_engine::{
    api,
    command::{
        Command, Commit, DropReason, EngineEvent, LinkId, LinkPacket, Reply, ReplyToken, SessionKey,
        SessionReport, SocketId, TransportSockets,
    },
    engine::{Egress, Engine, EngineConfig},
    host::{EffortRange, Host, HostConfig, Interface, InterfaceAddress, PortWant},
    recording::{Intake, ring, ring_bytes},
    refusal::Refusal,
};
use netem::Rng;
use proto::mediad::v1 as pb;
use rtp::{
    demux::{Kind, classify},
    time::Now,
};

use crate::{cipher::Secrets, model::Graph};

/// How long a released port rests; short, so that ports are used again within a run.
pub const QUARANTINE: Duration = Duration::from_secs(5);
/// How long the host keeps events.
pub const EVENTS_KEEP: Duration = Duration::from_secs(20);
/// Lease of a controller.
pub const LEASE: Duration = Duration::from_secs(3);
/// See the contract's session options.
pub const MEDIA_TIMEOUT: Duration = Duration::from_secs(8);
/// See the contract's session options.
pub const RELEARN_AFTER: Duration = Duration::from_secs(1);
/// First and last port of every interface: few, so that they run out.
pub const PORTS: (u16, u16) = (40_000, 40_047);
/// Datagrams that wait in a socket nobody reads yet.
const SOCKET_QUEUE: usize = 64;
/// Ports tried for one transport, as in the daemon.
const BIND_ATTEMPTS: usize = 32;

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// An edit: the command, the sockets that come with it, and what the model makes of it.
    Commit(Box<Commit>, Vec<PortWant>, usize, Rc<Graph>),
    /// Anything else.
    Command(Command),
}

/// What a worker tells the host.
#[derive(Debug)]
enum Up {
    Event(EngineEvent),
    Reply(ReplyToken),
    Closed(SocketAddr),
}

/// What happened in a worker, for the judge.
#[derive(Debug)]
pub enum Outcome {
    /// A datagram left from a local address.
    Sent(SocketAddr, SocketAddr, Vec<u8>),
    /// A graph is in force.
    InForce(usize, Rc<Graph>),
    /// A session is gone from its worker.
    Gone(SessionKey),
    /// An engine raised an event.
    Event(EngineEvent),
    /// The host ends a session by itself.
    Reaped(SessionKey),
}

/// Datagrams counted at one socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Given to the engine.
    pub rx: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Of them, those that look like RTCP.
    pub rx_rtcp: u64,
    /// Taken from the engine.
    pub tx: u64,
    /// Their bytes.
    pub tx_bytes: u64,
}

#[derive(Debug)]
enum Open {
    /// Bound, on its way to the worker.
    Waiting(Vec<(SocketAddr, Vec<u8>)>),
    /// Read by a worker.
    Read(usize, SocketId),
    /// Given up by the worker.
    Closing,
}

/// The engine's send side.
#[derive(Debug)]
struct Wire {
    slot: Vec<u8>,
    sent: Vec<(SocketId, SocketAddr, Vec<u8>)>,
    full: bool,
}

impl Egress for Wire {
    fn slot(&mut self) -> Option<&mut [u8]> {
        (!self.full).then_some(&mut self.slot[..])
    }

    fn commit(&mut self, len: usize, socket: SocketId, to: SocketAddr) {
        self.sent.push((socket, to, self.slot[..len].to_vec()));
    }
}

#[derive(Debug)]
struct Worker {
    engine: Engine,
    wire: Wire,
    /// Packets through links to other workers: worker, from, to, hops, bytes.
    away: Vec<(usize, LinkId, LinkId, u8, Vec<u8>)>,
    mailbox: VecDeque<(Instant, Message)>,
    uplink: VecDeque<(Instant, Up)>,
    /// By socket id; freed ids are used again at once, as the backends do.
    sockets: Vec<Option<SocketAddr>>,
    total: Tally,
    events: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Server {
    /// The host.
    pub host: Host,
    /// Counts its lives.
    pub boot: u32,
    /// The longest a message to or from a worker takes.
    pub lag: Duration,
    /// Ports that other programs hold.
    pub foreign: BTreeSet<u16>,
    /// Counted by socket, since it was bound.
    pub tallies: BTreeMap<SocketAddr, Tally>,
    /// Ways to the recordings that were begun and nobody took yet, by recording.
    pub recordings: BTreeMap<String, Intake>,
    workers: Vec<Worker>,
    sockets: BTreeMap<SocketAddr, Open>,
    /// Closed ports on which datagrams arrived, and when.
    noisy: BTreeMap<SocketAddr, Instant>,
    pending: BTreeMap<ReplyToken, SessionKey>,
    next_token: u64,
}

/// What an edit came to.
#[derive(Debug)]
pub struct Applied {
    /// What the caller is told.
    pub reply: pb::ApplyReply,
    /// Bound for it.
    pub wants: Vec<PortWant>,
    /// For the worker; `None`: nothing changed.
    pub commit: Option<Box<Commit>>,
    /// Which worker.
    pub worker: usize,
}

/// The local addresses of the host.
pub fn addresses() -> [IpAddr; 3] {
    [
        [192, 0, 2, 1].into(),
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
        [10, 9, 0, 1].into(),
    ]
}

fn config(workers: usize) -> HostConfig {
    let [outside, outside6, inside] = addresses().map(|ip| InterfaceAddress {
        bind: ip,
        advertise: ip,
    });
    let interface = |name: &str, addresses| Interface {
        name: name.into(),
        addresses,
        port_min: PORTS.0,
        port_max: PORTS.1,
        dscp: 46,
    };
    HostConfig {
        interfaces: vec![
            interface("outside", vec![outside, outside6]),
            interface("inside", vec![inside]),
        ],
        workers,
        sessions_max: 6,
        busy_percent_max: 90,
        late_after: None,
        effort: EffortRange::default(),
        quarantine: QUARANTINE,
        events_keep: EVENTS_KEEP,
        lease: LEASE,
        media_timeout: MEDIA_TIMEOUT,
        orphan_max: Duration::from_secs(60),
        relearn_after: RELEARN_AFTER,
    }
}

impl Server {
    /// A process that just started.
    pub fn new(now: Now, boot: u32, workers: usize, rng: &mut Rng) -> Self {
        let seed = rng.next_u64();
        let host = Host::new(config(workers), &format!("boot-{boot}"), seed, now);
        let secrets = Box::new(Secrets(Rng::new(!seed)));
        let worker = |_| Worker {
            engine: Engine::new(EngineConfig::default(), rng.next_u64()),
            wire: Wire {
                slot: vec![0; 1500],
                sent: Vec::new(),
                full: false,
            },
            away: Vec::new(),
            mailbox: VecDeque::new(),
            uplink: VecDeque::new(),
            sockets: Vec::new(),
            total: Tally::default(),
            events: 0,
        };
        Self {
            workers: (0..workers).map(worker).collect(),
            host: host
                .expect("the configuration above is valid")
                .with_secrets(secrets),
            boot,
            lag: Duration::ZERO,
            foreign: BTreeSet::new(),
            tallies: BTreeMap::new(),
            recordings: BTreeMap::new(),
            sockets: BTreeMap::new(),
            noisy: BTreeMap::new(),
            pending: BTreeMap::new(),
            next_token: 1,
        }
    }

    /// `kill -9`, and the next process.
    pub fn restart(&mut self, now: Now, rng: &mut Rng) {
        let foreign = std::mem::take(&mut self.foreign);
        *self = Self::new(now, self.boot + 1, self.workers.len(), rng);
        self.foreign = foreign;
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Makes a worker's send side take nothing, or take packets again.
    pub fn congest(&mut self, worker: usize, full: bool) {
        self.workers[worker].wire.full = full;
    }

    /// Prepare, bind, commit: what the daemon's host thread does with an Apply.
    ///
    /// # Errors
    /// The host's refusal; nothing has happened.
    pub fn apply(&mut self, now: Now, request: &pb::ApplyRequest) -> Result<Applied, Refusal> {
        let patch = api::apply(request)?;
        let mut prepared = self.host.prepare(now, patch)?;
        let recordings = &mut self.recordings;
        self.host.open_recordings(&mut prepared, |want| {
            let (feed, intake) = ring(ring_bytes(want.rate_hz.unwrap_or(8_000)), now.mono);
            recordings.insert(want.spec.recording.to_string(), intake);
            Ok(feed)
        })?;
        let (mut good, mut attempts) = (0, 0);
        while let Some(want) = prepared.wants().get(good) {
            if !self.is_taken(now, want) {
                good += 1;
                continue;
            }
            attempts += 1;
            let again = if attempts > BIND_ATTEMPTS {
                let reason = "too many ports are held by others".to_owned();
                Err(Refusal::Socket {
                    transport: want.transport.clone(),
                    reason,
                })
            } else {
                self.host.rebind(now, &mut prepared, good)
            };
            if let Err(refusal) = again {
                self.host.abort(now, prepared);
                return Err(refusal);
            }
        }
        let wants = prepared.wants().to_vec();
        for at in wants
            .iter()
            .flat_map(|want| [Some(want.rtp), want.rtcp])
            .flatten()
        {
            self.sockets.insert(at, Open::Waiting(Vec::new()));
            self.tallies.insert(at, Tally::default());
        }
        let committed = self.host.commit(now, prepared);
        let reply = api::applied(self.host.boot_id(), &committed.applied);
        Ok(Applied {
            reply,
            wants,
            commit: committed.commit,
            worker: committed.worker,
        })
    }

    fn is_taken(&self, now: Now, want: &PortWant) -> bool {
        let bound = |at: &SocketAddr| self.sockets.contains_key(at);
        let noisy = self
            .noisy
            .get(&want.rtp)
            .is_some_and(|heard| now.mono - *heard < QUARANTINE);
        self.foreign.contains(&want.rtp.port())
            || bound(&want.rtp)
            || want.rtcp.as_ref().is_some_and(bound)
            || noisy && !want.requested
    }

    /// Puts a message into a worker's mailbox.
    pub fn post(&mut self, now: Instant, worker: usize, message: Message, rng: &mut Rng) {
        let at = now + delay(self.lag, rng);
        let mailbox = &mut self.workers[worker].mailbox;
        let at = mailbox.back().map_or(at, |(last, _)| at.max(*last));
        mailbox.push_back((at, message));
    }

    /// Orders the end of a session and remembers to tell the host.
    pub fn post_end(&mut self, now: Instant, worker: usize, key: SessionKey, rng: &mut Rng) {
        self.next_token += 1;
        let token = ReplyToken(self.next_token);
        self.pending.insert(token, key);
        self.post(now, worker, Message::Command(Command::End(key, token)), rng);
    }

    /// A datagram reached a local address.
    pub fn receive(
        &mut self,
        now: Now,
        at: SocketAddr,
        from: SocketAddr,
        bytes: Vec<u8>,
        out: &mut Vec<Outcome>,
        rng: &mut Rng,
    ) {
        match self.sockets.get_mut(&at) {
            Some(Open::Waiting(queue)) if queue.len() < SOCKET_QUEUE => queue.push((from, bytes)),
            Some(Open::Waiting(_) | Open::Closing) => {}
            Some(Open::Read(worker, id)) => {
                let (worker, id) = (*worker, *id);
                self.hand_in(now, worker, id, at, from, bytes);
                self.collect(now, worker, out, rng);
            }
            None => {
                self.noisy.insert(at, now.mono);
            }
        }
    }

    fn hand_in(
        &mut self,
        now: Now,
        worker: usize,
        id: SocketId,
        at: SocketAddr,
        from: SocketAddr,
        mut bytes: Vec<u8>,
    ) {
        let Worker {
            engine, wire, total, ..
        } = &mut self.workers[worker];
        for tally in [total, self.tallies.entry(at).or_default()] {
            tally.rx += 1;
            tally.rx_bytes += bytes.len() as u64;
            tally.rx_rtcp += u64::from(classify(&bytes) == Kind::Rtcp);
        }
        engine.prefetch(std::iter::once(id), wire);
        engine.handle_datagram(now, id, from, &mut bytes, wire);
    }

    /// Takes what a worker's engine has to say.
    fn collect(&mut self, now: Now, worker: usize, out: &mut Vec<Outcome>, rng: &mut Rng) {
        let lag = self.lag;
        let Worker {
            engine,
            wire,
            away,
            uplink,
            sockets,
            total,
            events,
            ..
        } = &mut self.workers[worker];
        for (socket, to, bytes) in wire.sent.drain(..) {
            let from = sockets[socket.0 as usize].expect("engines send from sockets they have");
            for tally in [&mut *total, self.tallies.entry(from).or_default()] {
                tally.tx += 1;
                tally.tx_bytes += bytes.len() as u64;
            }
            out.push(Outcome::Sent(from, to, bytes));
        }
        let mut up = |what| {
            let at = now.mono + delay(lag, rng);
            let at = uplink.back().map_or(at, |(last, _)| at.max(*last));
            uplink.push_back((at, what));
        };
        while let Some(packet) = engine.poll_link() {
            let LinkPacket {
                worker,
                from,
                link,
                hops,
                data,
            } = packet;
            away.push((worker, from, link, hops, data.to_vec()));
        }
        while let Some(event) = engine.poll_event() {
            *events += 1;
            out.push(Outcome::Event(event.clone()));
            up(Up::Event(event));
        }
        while let Some((token, _)) = engine.poll_reply() {
            up(Up::Reply(token));
        }
        while let Some(id) = engine.poll_release() {
            let at = sockets[id.0 as usize].take().expect("a socket is released once");
            self.sockets.insert(at, Open::Closing);
            up(Up::Closed(at));
        }
        for (to, from, link, hops, data) in std::mem::take(&mut self.workers[worker].away) {
            let packet = LinkPacket {
                worker: to,
                from,
                link,
                hops,
                data: &data,
            };
            let Worker { engine, wire, .. } = &mut self.workers[to];
            engine.handle_link(now, &packet, wire);
            self.collect(now, to, out, rng);
        }
    }

    /// When [`Self::turn`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        let workers = self.workers.iter().flat_map(|worker| {
            let mail = worker.mailbox.front().map(|(at, _)| *at);
            let up = worker.uplink.front().map(|(at, _)| *at);
            [mail, up, worker.engine.poll_timeout().map(|(at, _)| at)]
        });
        workers.chain([self.host.poll_timeout()]).flatten().min()
    }

    /// Everything that is due now.
    pub fn turn(&mut self, now: Now, out: &mut Vec<Outcome>, rng: &mut Rng) {
        if self.host.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.host.handle_timeout(now);
        }
        for worker in 0..self.workers.len() {
            self.take_uplink(now, worker);
            self.take_mail(now, worker, out, rng);
            let Worker { engine, wire, .. } = &mut self.workers[worker];
            if engine.poll_timeout().is_some_and(|(at, _)| at <= now.mono) {
                engine.handle_timeout(now, wire);
                self.collect(now, worker, out, rng);
            }
        }
        self.pass_orders(now, out, rng);
    }

    /// Carries the host's own orders to the workers.
    pub fn pass_orders(&mut self, now: Now, out: &mut Vec<Outcome>, rng: &mut Rng) {
        while let Some((worker, command)) = self.host.poll_order() {
            if let Command::End(key, _) = command {
                out.push(Outcome::Reaped(key));
                self.post_end(now.mono, worker, key, rng);
            } else {
                self.post(now.mono, worker, Message::Command(command), rng);
            }
        }
    }

    fn take_uplink(&mut self, now: Now, worker: usize) {
        while let Some((_, up)) = pop_due(&mut self.workers[worker].uplink, now.mono) {
            match up {
                Up::Event(event) => self.host.engine_event(now, event),
                Up::Reply(token) => {
                    if let Some(key) = self.pending.remove(&token) {
                        self.host.ended(now, key);
                    }
                }
                Up::Closed(at) => drop(self.sockets.remove(&at)),
            }
        }
    }

    fn take_mail(&mut self, now: Now, worker: usize, out: &mut Vec<Outcome>, rng: &mut Rng) {
        while let Some((_, message)) = pop_due(&mut self.workers[worker].mailbox, now.mono) {
            match message {
                Message::Commit(mut commit, wants, life, graph) => {
                    let mut waiting = Vec::new();
                    for want in &wants {
                        let rtp = self.register(worker, want.rtp, &mut waiting);
                        let rtcp = want.rtcp.map(|at| self.register(worker, at, &mut waiting));
                        commit.sockets.push(TransportSockets {
                            transport: want.transport.clone(),
                            rtp,
                            rtcp,
                        });
                    }
                    let Worker { engine, wire, .. } = &mut self.workers[worker];
                    engine.handle_command(now, Command::Commit(commit), wire);
                    self.collect(now, worker, out, rng);
                    out.push(Outcome::InForce(life, graph));
                    for (id, at, from, bytes) in waiting {
                        self.hand_in(now, worker, id, at, from, bytes);
                    }
                    self.collect(now, worker, out, rng);
                }
                Message::Command(command) => {
                    let end = if let Command::End(key, _) = &command {
                        Some(*key)
                    } else {
                        None
                    };
                    let Worker { engine, wire, .. } = &mut self.workers[worker];
                    engine.handle_command(now, command, wire);
                    self.collect(now, worker, out, rng);
                    out.extend(end.map(Outcome::Gone));
                }
            }
        }
    }

    fn register(
        &mut self,
        worker: usize,
        at: SocketAddr,
        waiting: &mut Vec<(SocketId, SocketAddr, SocketAddr, Vec<u8>)>,
    ) -> SocketId {
        let sockets = &mut self.workers[worker].sockets;
        let free = sockets.iter().position(Option::is_none).unwrap_or(sockets.len());
        if free == sockets.len() {
            sockets.push(None);
        }
        sockets[free] = Some(at);
        let id = SocketId(free as u32);
        if let Some(Open::Waiting(queue)) = self.sockets.insert(at, Open::Read(worker, id)) {
            waiting.extend(queue.into_iter().map(|(from, bytes)| (id, at, from, bytes)));
        }
        id
    }

    /// Whether nothing is on its way between host and workers.
    pub fn is_idle(&self) -> bool {
        self.workers
            .iter()
            .all(|worker| worker.mailbox.is_empty() && worker.uplink.is_empty())
    }

    /// A session's state, asked at once.
    pub fn report(&mut self, now: Now, worker: usize, key: SessionKey) -> Option<SessionReport> {
        let Worker { engine, wire, .. } = &mut self.workers[worker];
        engine.handle_command(now, Command::Report(key, ReplyToken(0)), wire);
        match engine.poll_reply() {
            Some((ReplyToken(0), Reply::Report(report))) => report.map(|report| *report),
            _ => None,
        }
    }

    /// What differs between the engines' own totals and what was handed in and out.
    pub fn miscounted(&self) -> Option<String> {
        self.workers.iter().enumerate().find_map(|(at, worker)| {
            let (totals, total) = (worker.engine.totals(), worker.total);
            let theirs = (
                totals.rx_packets,
                totals.rx_bytes,
                totals.tx_packets,
                totals.tx_bytes,
            );
            let ours = (total.rx, total.rx_bytes, total.tx, total.tx_bytes);
            (theirs != ours)
                .then(|| format!("worker {at} counts (rx, bytes, tx, bytes) {theirs:?}, the wire {ours:?}"))
        })
    }

    /// What is left when nothing should be.
    pub fn left_over(&self, now: Now) -> Option<String> {
        let status = self.host.status(now);
        let used: usize = status.interfaces.iter().map(|interface| interface.used).sum();
        if status.sessions + status.endpoints + used > 0
            || status
                .workers
                .iter()
                .any(|worker| (worker.sessions, worker.endpoints) != (0, 0))
        {
            return Some(format!("the host still has {status:?}"));
        }
        if let Some(at) = self.sockets.keys().next() {
            return Some(format!("socket {at} is still bound"));
        }
        self.workers.iter().enumerate().find_map(|(at, worker)| {
            let totals = worker.engine.totals();
            let counts = (
                totals.sessions,
                totals.endpoints,
                totals.sockets,
                worker.engine.poll_timeout(),
            );
            (counts != (0, 0, 0, None))
                .then(|| format!("worker {at} still has (sessions, endpoints, sockets, timer) {counts:?}"))
        })
    }

    /// Drops by reason that every engine counted, together.
    pub fn drops(&self) -> [u64; DropReason::COUNT] {
        let mut sum = [0; DropReason::COUNT];
        for worker in &self.workers {
            for (sum, count) in sum.iter_mut().zip(worker.engine.totals().drops) {
                *sum += count;
            }
        }
        sum
    }
}

fn pop_due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant) -> Option<(Instant, T)> {
    if queue.front()?.0 > now {
        return None;
    }
    queue.pop_front()
}

fn delay(max: Duration, rng: &mut Rng) -> Duration {
    Duration::from_micros(rng.below(max.as_micros() as u64 + 1))
}
