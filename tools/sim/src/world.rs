//! Time, the agenda, and who is told what: everything of one run.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use media_engine::command::{EventKind, SessionKey};
use netem::{Delivery, Nat, NatKind, Netem, Rng};
use rtp::{
    demux::{Kind, classify},
    event::TelephoneEvent,
    header::RtpReader,
    time::Now,
};

use crate::{
    check::Judge,
    cipher::{HostKeys, Opened, Place},
    model::{Graph, Model},
    phone::{Phone, STRANGERS},
    sabotage::Sabotage,
    server::{MEDIA_TIMEOUT, Outcome, Server, addresses},
    watch::Watch,
};

/// Phones of a world.
const PHONES: usize = 12;
/// Actions a failure shows.
const TRACE: usize = 30;
/// Turns at one moment before time is said to stand still.
const TURNS_MAX: u32 = 20_000;

/// Something that happens later by itself.
#[derive(Debug)]
pub enum Later {
    /// A stranger sends a datagram.
    Send(SocketAddr, SocketAddr, Vec<u8>),
    /// A worker's send side takes packets again.
    Uncongest(usize),
    /// A phone can reach the host again.
    Heal(usize),
}

/// One run.
#[derive(Debug)]
pub struct World {
    /// Virtual time.
    pub now: Now,
    /// The run's only source of chance, beside the network's own.
    pub rng: Rng,
    /// The network.
    pub net: Netem,
    /// The process under test.
    pub server: Server,
    /// Its users.
    pub phones: Vec<Phone>,
    /// What was asked for.
    pub model: Model,
    /// What the host encrypts with.
    pub host_keys: HostKeys,
    /// Who says what is wrong.
    pub judge: Judge,
    /// A controller's view of the events.
    pub watch: Watch,
    /// Which of the two controllers is connected.
    pub connected: [bool; 2],
    /// The latest actions.
    pub trace: VecDeque<String>,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
    /// Print actions as they happen.
    pub verbose: bool,
    /// Edits that the host took.
    pub edits: u64,
    /// Edits that had to be refused.
    pub refused: u64,
    started: Instant,
    agenda: BTreeMap<(Instant, u64), Later>,
    next_entry: u64,
}

/// The one reading of a clock; everything else is virtual.
#[expect(
    clippy::disallowed_methods,
    reason = "a base to count from; only differences matter"
)]
pub(crate) fn base() -> Instant {
    Instant::now()
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let mut rng = Rng::new(seed);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let now = Now { mono: base(), wall };
        let mut net = Netem::new(rng.next_u64());
        let workers = 2 + rng.below(2) as usize;
        let server = Server::new(now, 1, workers, &mut rng);
        let phones = (0..PHONES)
            .map(|id| phone(id, now.mono, &mut net, &mut rng))
            .collect();
        let watch = Watch::new(now.mono, &server.host);
        Self {
            now,
            rng,
            net,
            server,
            phones,
            model: Model::default(),
            host_keys: HostKeys::default(),
            judge: Judge::default(),
            watch,
            connected: [false; 2],
            trace: VecDeque::new(),
            sabotage,
            verbose: false,
            edits: 0,
            refused: 0,
            started: now.mono,
            agenda: BTreeMap::new(),
            next_entry: 0,
        }
    }

    /// Notes an action.
    pub fn log(&mut self, what: impl Into<String>) {
        let line = format!(
            "{:9.3} s  {}",
            (self.now.mono - self.started).as_secs_f64(),
            what.into()
        );
        if self.verbose {
            println!("{line}");
        }
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    /// True with a probability in percent.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    /// One of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len() as u64) as usize]
    }

    /// Puts something on the agenda.
    pub fn later(&mut self, after: Duration, what: Later) {
        self.agenda.insert((self.now.mono + after, self.next_entry), what);
        self.next_entry += 1;
    }

    /// Something happened to a phone or its leg that excuses a loss.
    pub fn disturb(&mut self, phone: usize) {
        self.phones[phone].disturbed_at = self.now.mono;
        self.phones[phone].uncertain();
    }

    /// Lets time pass.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now.mono + duration;
        let mut turns = 0;
        while self.judge.violation.is_none() {
            let phones = self.phones.iter().map(Phone::due).min();
            let agenda = self.agenda.keys().next().map(|(at, _)| *at);
            let due = [self.net.poll_timeout(), self.server.due(), phones, agenda]
                .into_iter()
                .flatten()
                .min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            turns = if due > self.now.mono { 0 } else { turns + 1 };
            if turns > TURNS_MAX {
                self.judge
                    .object(|| "time stands still: somebody always wants to be called now".into());
            }
            self.set_time(due);
            self.turn();
        }
        self.set_time(end);
    }

    fn set_time(&mut self, at: Instant) {
        self.now = self.now.after(at.saturating_duration_since(self.now.mono));
    }

    fn turn(&mut self) {
        let now = self.now;
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= now.mono
        {
            match entry.remove() {
                Later::Send(from, to, bytes) => self.net.send(now.mono, from, to, &bytes),
                Later::Uncongest(worker) => self.server.congest(worker, false),
                Later::Heal(phone) => self.heal(phone),
            }
        }
        let mut packets = Vec::new();
        for phone in self.phones.iter_mut().filter(|phone| phone.due() <= now.mono) {
            phone.send(now.mono, &mut packets);
        }
        for (from, to, bytes) in packets {
            self.net.send(now.mono, from, to, &bytes);
        }
        let mut outcomes = Vec::new();
        self.server.turn(now, &mut outcomes, &mut self.rng);
        self.take(outcomes);
        while let Some(delivery) = self.net.poll(now.mono) {
            self.deliver(delivery);
        }
    }

    /// The addresses a phone's packets come from, as its host and as the world sees it.
    pub fn heal(&mut self, phone: usize) {
        let ip = self.phones[phone].rtp.ip();
        let outside = self.phones[phone].outside.ip();
        for server in addresses() {
            for (a, b) in [(ip, server), (server, ip), (outside, server), (server, outside)] {
                self.net.heal(a, b);
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let Delivery {
            sent_at,
            from,
            to,
            bytes,
            ..
        } = delivery;
        if addresses().contains(&to.ip()) {
            self.note_arrival(from, to, &bytes);
            let mut outcomes = Vec::new();
            self.server
                .receive(self.now, to, from, bytes, &mut outcomes, &mut self.rng);
            self.take(outcomes);
        } else if let Some(at) = self.phones.iter().position(|phone| phone.rtp == to) {
            match self.open(from, sent_at, &bytes, Place::Arriving) {
                Opened::Plain(bytes) => self.judge.received(
                    &self.model,
                    &mut self.phones,
                    at,
                    (from, sent_at, self.now.mono, &bytes),
                ),
                Opened::Again => {}
                Opened::Never => self
                    .judge
                    .object(|| format!("phone {at} cannot open what it gets from {from}")),
            }
        }
    }

    /// What a packet says that left `local` at some time, if its leg was encrypted then.
    fn open(&mut self, local: SocketAddr, sent_at: Instant, bytes: &[u8], place: Place) -> Opened {
        let plain = || Opened::Plain(bytes.to_vec());
        let Some(binding) = self.model.binding(local, sent_at) else {
            return plain();
        };
        let (life, transport) = (binding.life, binding.transport.clone());
        // At the moment of an edit the leg may be either what it was or what it is to be.
        let wishes: Vec<bool> = (self.model.lives[life].at(sent_at))
            .filter_map(|graph| graph.transports.get(&transport))
            .map(|wish| wish.sdes.is_some())
            .collect();
        if !wishes.contains(&true) {
            return plain();
        }
        match self
            .host_keys
            .open(self.now.mono, (life, transport), bytes, place)
        {
            Opened::Never if wishes.contains(&false) => plain(),
            opened => opened,
        }
    }

    /// A phone's packet reached the host: what it proves.
    fn note_arrival(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(phone) = self
            .phones
            .iter_mut()
            .find(|phone| phone.outside.ip() == from.ip())
        else {
            return;
        };
        if classify(bytes) != Kind::Rtp {
            return;
        }
        if phone.server.is_some_and(|server| server.rtp == to) {
            phone.arrived_at = Some(self.now.mono);
        }
        let Ok(packet) = RtpReader::parse(bytes) else {
            return;
        };
        let header = packet.header();
        if phone.sealer.is_some() {
            let digit = phone
                .sealed_digits
                .get(&(header.ssrc.0, header.sequence))
                .copied();
            if let Some(event) = digit {
                phone.digit_arrived(event);
            }
            return;
        }
        // By its form: what it was sent to, and under which number, may have changed on the way.
        if packet.payload().len() != 4 {
            return;
        }
        let Ok(event) = TelephoneEvent::parse(packet.payload()) else {
            return;
        };
        phone.digit_arrived(event.event);
    }

    /// Tells the judge and the network what the host did.
    pub fn take(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome {
                Outcome::Sent(local, to, bytes) => self.sent(local, to, bytes),
                Outcome::InForce(life, graph) => self.in_force(life, &graph),
                Outcome::Gone(key) => self.gone(key),
                Outcome::Event(event) => {
                    let is_digit = matches!(
                        event.kind,
                        EventKind::DigitStarted { .. } | EventKind::DigitEnded { .. }
                    );
                    if !(is_digit && self.sabotage.as_mut().is_some_and(Sabotage::loses_digit)) {
                        self.judge.event(&self.model, &mut self.phones, &event);
                    }
                }
                Outcome::Reaped(key) => self.reaped(key),
            }
        }
    }

    fn sent(&mut self, local: SocketAddr, to: SocketAddr, wire: Vec<u8>) {
        let bytes = match self.open(local, self.now.mono, &wire, Place::Leaving) {
            Opened::Plain(bytes) => bytes,
            Opened::Again => {
                return self
                    .judge
                    .object(|| format!("{local} uses one number of a key twice"));
            }
            Opened::Never => {
                return self
                    .judge
                    .object(|| format!("{local} sends to {to} what no key opens that was told"));
            }
        };
        let others: Vec<SocketAddr> = self.phones.iter().map(|phone| phone.outside).collect();
        let copies = match &mut self.sabotage {
            Some(sabotage) if classify(&bytes) == Kind::Rtp => sabotage.spoil(to, bytes.clone(), &others),
            _ => vec![(to, bytes.clone())],
        };
        for (to, copy) in copies {
            self.judge
                .emitted(self.now.mono, &self.model, &self.phones, (local, to, &copy));
            let sent = if copy == bytes { &wire } else { &copy };
            self.net.send(self.now.mono, local, to, sent);
        }
    }

    fn in_force(&mut self, at: usize, graph: &Rc<Graph>) {
        let seen = match &mut self.sabotage {
            Some(sabotage) => Rc::new(sabotage.misread(graph)),
            None => graph.clone(),
        };
        let before = self.model.lives[at].now().cloned();
        self.model.lives[at].in_force.push((self.now.mono, Some(seen)));
        for phone in 0..self.phones.len() {
            let Some((life, transport)) = self.phones[phone].leg.clone() else {
                continue;
            };
            if life != at {
                continue;
            }
            let part = |graph: &Graph| {
                (
                    graph.transports.get(&transport).cloned(),
                    graph
                        .node_on(&transport)
                        .map(|(id, node)| (id.clone(), node.clone())),
                )
            };
            let after = part(graph);
            if before.as_deref().is_none_or(|before| part(before) != after) {
                self.disturb(phone);
                self.phones[phone].heard_anew();
            }
            let had = |graph: &Rc<Graph>| {
                graph
                    .transports
                    .get(&transport)
                    .is_some_and(|wish| wish.phone == phone)
            };
            if before.as_ref().is_some_and(had) && !had(graph) {
                self.release(phone);
            }
        }
    }

    fn gone(&mut self, key: SessionKey) {
        let Some(at) = self.model.by_key(key) else { return };
        self.model.lives[at].in_force.push((self.now.mono, None));
        for phone in 0..self.phones.len() {
            if self.phones[phone]
                .leg
                .as_ref()
                .is_some_and(|(life, _)| *life == at)
            {
                self.release(phone);
            }
        }
    }

    /// A phone's leg is gone; it notices soon, not at once.
    pub fn release(&mut self, phone: usize) {
        let notices = Duration::from_millis(self.rng.below(3_000));
        let phone = &mut self.phones[phone];
        phone.leg = None;
        phone.forget_digits();
        phone.hangs_up_at = Some(self.now.mono + notices);
    }

    /// The host ended a session by itself: only one that nobody owns and nobody speaks in.
    fn reaped(&mut self, key: SessionKey) {
        let Some(at) = self.model.by_key(key) else {
            return self
                .judge
                .object(|| format!("the host ends {key:?}, which does not exist"));
        };
        let name = self.model.lives[at].name.clone();
        self.log(format!("the host reaps {name}"));
        self.model.lives[at].ended = true;
        let (now, window) = (self.now.mono, MEDIA_TIMEOUT - Duration::from_millis(300));
        let Some(graph) = self.model.lives[at].now().cloned() else {
            return;
        };
        for phone in self
            .phones
            .iter()
            .filter(|phone| phone.leg.as_ref().is_some_and(|(life, _)| *life == at))
        {
            let receives = graph
                .node_of(phone.id)
                .is_some_and(|(_, node)| node.direction.receives);
            let steady = now - phone.disturbed_at > window;
            let signalled_wrong = !self.is_trusted(&graph, phone.id);
            if receives
                && steady
                && !signalled_wrong
                && phone.arrived_at.is_some_and(|heard| now - heard < window)
                && phone.speaks(&graph)
            {
                let id = phone.id;
                return self
                    .judge
                    .object(|| format!("{name} is reaped although phone {id} speaks in it"));
            }
        }
    }

    /// Whether the host should come to accept what a phone sends.
    pub fn is_trusted(&self, graph: &Graph, phone: usize) -> bool {
        use crate::model::Policy;
        let Some((_, node)) = graph.node_of(phone) else {
            return false;
        };
        let transport = &graph.transports[&node.transport];
        transport.policy != Policy::Signalled || transport.remote == Some(self.phones[phone].outside)
    }

    /// Whether a phone's stream has been accepted for a while, so that nothing excuses a loss inside the host.
    pub fn is_settled(&self, phone: usize) -> bool {
        let phone = &self.phones[phone];
        let recent = phone
            .arrived_at
            .is_some_and(|heard| self.now.mono - heard < Duration::from_millis(60));
        recent
            && self.now.mono - phone.disturbed_at
                > crate::server::RELEARN_AFTER + Duration::from_millis(1_500)
    }
}

impl Phone {
    /// A packet of a digit has reached the host, before any of a later one.
    fn digit_arrived(&mut self, event: u8) {
        let dialled = &mut self.dialled;
        if let Some(at) = dialled.iter().rposition(|digit| digit.event == event)
            && dialled[at + 1..].iter().all(|later| later.arrived == 0)
        {
            dialled[at].arrived += 1;
        }
    }

    /// It sends what its node takes.
    pub fn speaks(&self, graph: &Graph) -> bool {
        let Some((_, node)) = graph.node_of(self.id) else {
            return false;
        };
        self.sending && self.payload_type == self.sound.payload_type() && node.sounds.contains(&self.sound)
    }
}

fn phone(id: usize, now: Instant, net: &mut Netem, rng: &mut Rng) -> Phone {
    assert!(
        id < usize::from(STRANGERS),
        "marks from {STRANGERS} on are strangers'"
    );
    let port = 4_000 + 2 * rng.below(100) as u16;
    let host = id as u8 + 10;
    let public: IpAddr = [198, 51, 100, host].into();
    let (rtp, outside) = match id % 4 {
        0 | 1 => (public, public),
        2 => {
            let inside: IpAddr = [10, 1, host, 2].into();
            let outside: IpAddr = [203, 0, 113, host].into();
            let kinds = [NatKind::FullCone, NatKind::PortRestricted, NatKind::Symmetric];
            net.add_nat(Nat {
                kind: kinds[rng.below(3) as usize],
                inside: [inside].into(),
                outside,
                mapping_ttl: Duration::from_secs(600),
            });
            (inside, outside)
        }
        _ => {
            let v6: IpAddr = [0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(host)].into();
            (v6, v6)
        }
    };
    Phone::new(
        id,
        SocketAddr::new(rtp, port),
        SocketAddr::new(outside, port),
        now,
        rng,
    )
}
