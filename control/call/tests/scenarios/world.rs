//! A controller, phones and a media host in virtual time, joined by a network that only delays.

#[path = "hosts.rs"]
mod hosts;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::Bytes;
use call_control::{
    CallStage, Config, ConfigError, Controller, HostId, MediaInput, Now, Output, Record, RecordKind,
    cdr::CallDetail,
    domain::{AgentState, Standing},
    originate::{OriginateError, Originated},
};
use proto::mediad::v1 as pb;
use serde_json::Value;
use sip::stack::{Flow, FlowId, Identity, Lookup, StackConfig, Target, Transport};

use crate::{
    media_host::MediaHost,
    phone::{Behaviour, Phone},
};

pub const SERVER: &str = "10.0.0.1:5060";

pub fn server() -> SocketAddr {
    SERVER.parse().unwrap()
}

enum Packet {
    ToServer(SocketAddr, Bytes),
    ToPhone(Target, Bytes),
    /// By which process of the controller, beside.
    ToMedia(HostId, pb::Command, u8),
    FromMedia(HostId, pb::CommandReply),
}

pub struct World {
    pub now: Instant,
    pub start: Instant,
    /// Somebody set the wall clock by this much, in seconds.
    pub clock_set_s: i64,
    pub controller: Controller,
    pub phones: Vec<Phone>,
    pub media: MediaHost,
    /// The host `m2`, if there is one.
    pub other_media: Option<MediaHost>,
    /// How often the controller was killed: each one's randomness is its own.
    restarts: u8,
    /// How many connections phones have opened instead of others.
    connections: u16,
    pub records: Vec<Record>,
    /// Another controller, which is told every record and nothing else.
    shadow: Controller,
    /// What name servers know.
    pub names: BTreeMap<&'static str, SocketAddr>,
    /// `ms from>to first line`
    pub trace: Vec<String>,
    /// Media hosts that were let go.
    pub drained: Vec<HostId>,
    /// Recordings that the media host was told to be accounted for.
    pub acknowledged: Vec<(String, u32)>,
    /// Names that were asked for.
    pub lookups: Vec<Lookup>,
    /// Messages whose first line starts so vanish, as often as the number says.
    pub swallow: Vec<(&'static str, usize)>,
    /// BYEs to and from phones that did not arrive, by Call-ID: they are sent again.
    lost_byes: BTreeMap<String, SocketAddr>,
    /// A phone before which a proxy asks for a password in every dialog.
    pub guarded: Option<usize>,
    wire: BTreeMap<(Instant, u64), Packet>,
    order: u64,
}

/// Two agents, a user who is none, one queue; strangers may call.
pub fn config() -> Config {
    toml::from_str(
        r#"
        domains = ["example.com", "10.0.0.1"]
        allow_anonymous_calls = true
        owner_token = "n1"
        listeners = [{ transport = "udp", local = "0.0.0.0:5060", advertised = "10.0.0.1:5060" }]
        accounts = [
            { user = "alice", password = "wonder" },
            { user = "bob", password = "builder" },
            { user = "carol", password = "singer" },
        ]
        queues = [{ name = "support", agents = ["alice", "bob"] }]
        media.hosts = [{ name = "m1", address = "http://10.0.0.2:7000" }]
        media.codecs = ["PCMU", "PCMA"]
        calls.answer_before_music = false
        "#,
    )
    .unwrap()
}

#[allow(
    clippy::disallowed_methods,
    reason = "an arbitrary beginning; only differences count"
)]
fn beginning() -> Instant {
    Instant::now() + Duration::from_secs(1_000)
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: Config) -> Self {
        let start = beginning();
        let now = Now {
            mono: start,
            wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        };
        let shadow = Controller::new(config.clone(), [3; 32], now).unwrap();
        let controller = Controller::new(config, [7; 32], now).unwrap();
        let mut world = Self {
            now: start,
            start,
            clock_set_s: 0,
            controller,
            phones: Vec::new(),
            media: MediaHost::new(),
            other_media: None,
            restarts: 0,
            connections: 0,
            records: Vec::new(),
            shadow,
            names: BTreeMap::new(),
            trace: Vec::new(),
            drained: Vec::new(),
            acknowledged: Vec::new(),
            lookups: Vec::new(),
            swallow: Vec::new(),
            lost_byes: BTreeMap::new(),
            guarded: None,
            wire: BTreeMap::new(),
            order: 0,
        };
        let at = world.clocks();
        world.controller.handle_media(
            at,
            MediaInput::HostUp {
                host: "m1".into(),
                boot_id: world.media.boot_id(),
            },
        );
        world
    }

    /// Both clocks.
    pub fn clocks(&self) -> Now {
        let passed = self.now - self.start;
        Now {
            mono: self.now,
            wall: UNIX_EPOCH + Duration::from_secs((1_800_000_000 + self.clock_set_s) as u64) + passed,
        }
    }

    /// A phone of `name`, not registered.
    pub fn phone(&mut self, name: &'static str) -> usize {
        self.phone_with(name, |_| {})
    }

    /// A phone with another stack.
    pub fn phone_with(&mut self, name: &'static str, edit: impl Fn(&mut StackConfig)) -> usize {
        let index = self.phones.len();
        self.phones.push(Phone::new(name, index, edit));
        index
    }

    /// A phone that signals over connections that it opens, as browsers do.
    pub fn browser(&mut self, name: &'static str) -> usize {
        self.phone_with(name, |config| {
            let address = config.identities[0].local;
            config.identities = vec![Identity::new(Transport::Ws, address, address)];
        })
    }

    /// The connection of a phone breaks, with all that is on its way, and the phone has another one.
    pub fn reconnect(&mut self, phone: usize, is_noticed: bool) {
        let old = self.phones[phone].address;
        let flow = flow(self.phones[phone].transport, server(), old);
        let is_of_it = |packet: &Packet| match packet {
            Packet::ToServer(from, _) => *from == old,
            Packet::ToPhone(target, _) => target.remote() == old,
            Packet::ToMedia(..) | Packet::FromMedia(..) => false,
        };
        for (at, packet) in std::mem::take(&mut self.wire) {
            match &packet {
                Packet::ToServer(_, bytes) | Packet::ToPhone(_, bytes) if is_of_it(&packet) => {
                    self.note_bye(old, bytes, false);
                }
                _ => drop(self.wire.insert(at, packet)),
            }
        }
        self.connections += 1;
        self.phones[phone].address.set_port(50_000 + self.connections);
        self.trace.push(format!(
            "------- {} has another connection",
            self.phones[phone].name
        ));
        if is_noticed {
            let at = self.clocks();
            self.controller.handle_transport_error(at, &Target::Flow(flow));
        }
    }

    /// A registered phone.
    pub fn registered(&mut self, name: &'static str, password: &'static str) -> usize {
        let index = self.phone(name);
        self.registers(index, password);
        index
    }

    /// A phone registers, and succeeds.
    pub fn registers(&mut self, phone: usize, password: &'static str) {
        self.phones[phone].register(self.now, password, 300);
        self.run_ms(100);
        assert_eq!(self.phones[phone].registered, Some(200), "{}", self.story());
    }

    pub fn behave(&mut self, phone: usize, behaviour: Behaviour) {
        self.phones[phone].behaviour = behaviour;
    }

    pub fn call(&mut self, phone: usize, to: &str) {
        let now = self.now;
        self.phones[phone].call(now, to, true);
    }

    fn put(&mut self, after_ms: u64, packet: Packet) {
        self.order += 1;
        self.wire
            .insert((self.now + Duration::from_millis(after_ms), self.order), packet);
    }

    fn note(&mut self, from: &str, to: &str, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let first = text.lines().next().unwrap_or_default().to_owned();
        let ms = (self.now - self.start).as_millis();
        self.trace.push(format!("{ms:>7} {from}>{to} {first}"));
        for (prefix, left) in &mut self.swallow {
            if *left > 0 && first.starts_with(*prefix) {
                *left -= 1;
                return false;
            }
        }
        true
    }

    fn name_of(&self, address: SocketAddr) -> &'static str {
        self.phones
            .iter()
            .find(|phone| phone.address == address)
            .map_or("?", |phone| phone.name)
    }

    /// Moves what anybody wants to send onto the wire.
    fn pump(&mut self) {
        while let Some(output) = self.controller.poll_output() {
            match output {
                Output::Record(record) => {
                    if let Some(last) = self.records.last() {
                        assert!(last.sequence < record.sequence, "records count up");
                    }
                    let json = serde_json::to_string(&record).unwrap();
                    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record, "{json}");
                    let ms = (self.now - self.start).as_millis();
                    self.trace.push(format!("{ms:>7} journal {:?}", record.kind));
                    self.shadow.replay(record.clone());
                    self.records.push(record);
                }
                Output::Transmit(transmit) => {
                    let to = transmit.target.remote();
                    let passes = self.note("server", self.name_of(to), &transmit.bytes);
                    self.note_bye(to, &transmit.bytes, passes);
                    if passes {
                        self.put(5, Packet::ToPhone(transmit.target, transmit.bytes));
                    }
                }
                Output::Lookup(lookup) => {
                    let host = std::str::from_utf8(&lookup.name.host).unwrap();
                    let found = self.names.get(host);
                    let targets = found.map(|address| Target::address(Transport::Udp, *address));
                    let at = self.clocks();
                    self.controller
                        .handle_lookup(at, lookup.id, targets.into_iter().collect());
                    self.lookups.push(lookup);
                }
                Output::Acknowledge { recording, .. } => {
                    self.acknowledged.push((recording.recording, recording.segment));
                }
                Output::HostDrained(host) => {
                    self.trace.push(format!("------- {host} is let go"));
                    self.drained.push(host);
                }
                Output::Unreachable(_) | Output::WrongPassword(_) => {}
                Output::Media { host, command } => self.send_media(host, command),
            }
        }
        for index in 0..self.phones.len() {
            let now = self.now;
            self.phones[index].work(now);
            while let Some(transmit) = self.phones[index].stack.poll_transmit() {
                let (from, name) = (self.phones[index].address, self.phones[index].name);
                let bytes = self.phones[index].written(&transmit.bytes);
                let passes = self.note(name, "server", &bytes);
                self.note_bye(from, &bytes, passes);
                if passes {
                    self.put(5, Packet::ToServer(from, bytes));
                }
            }
        }
    }

    pub fn run_ms(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        loop {
            self.pump();
            let wire = self.wire.first_key_value().map(|((due, _), _)| *due);
            let phones = self.phones.iter().filter_map(Phone::poll_timeout).min();
            let due = [wire, phones, self.controller.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let Some(due) = due.filter(|due| *due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            self.step();
        }
        self.now = until;
        self.pump();
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= now) {
            let packet = entry.remove();
            self.deliver(packet);
            self.pump();
        }
        let at = self.clocks();
        // Over a connection a transaction is over as soon as it is answered (RFC 3261 timer J): what answers it because its
        // time is up has a timer of no length behind it.
        for _ in 0..2 {
            if self.controller.poll_timeout().is_some_and(|due| due <= now) {
                self.controller.handle_timeout(at);
            }
        }
        let again = self.controller.poll_timeout();
        assert!(
            again.is_none_or(|due| due > now),
            "the timer would spin\n{}",
            self.story()
        );
        for phone in &mut self.phones {
            if phone.stack.poll_timeout().is_some_and(|due| due <= now) {
                phone.stack.handle_timeout(now);
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let (at, now) = (self.clocks(), self.now);
        match packet {
            Packet::ToServer(from, bytes) => {
                let of_it = self.phones.iter().find(|phone| phone.address == from);
                let transport = of_it.map_or(Transport::Udp, |phone| phone.transport);
                self.controller
                    .handle_message(at, flow(transport, server(), from), bytes);
            }
            Packet::ToPhone(target, bytes) => {
                let to = target.remote();
                let guarded = self.guarded.map(|phone| self.phones[phone].address);
                if let Some(challenge) = challenge(&bytes).filter(|_| guarded == Some(to)) {
                    self.note(self.name_of(to), "server", &challenge);
                    self.put(5, Packet::ToServer(to, challenge));
                    return;
                }
                if self.phones.iter().any(|phone| phone.address == to && phone.dead) {
                    self.note_bye(to, &bytes, false);
                } else if let Some(phone) = self.phones.iter_mut().find(|phone| phone.address == to) {
                    phone.receives(&bytes);
                    phone
                        .stack
                        .handle_message(now, flow(phone.transport, to, server()), bytes);
                } else {
                    // A phone that has another connection by now.
                    let is_closed = self.phones.iter().any(|phone| phone.address.ip() == to.ip());
                    let nobody = Target::address(Transport::Udp, to);
                    let target = if is_closed { target } else { nobody };
                    self.controller.handle_transport_error(at, &target);
                }
            }
            Packet::ToMedia(host, command, by) => self.media_works(&host, command, by == self.restarts),
            Packet::FromMedia(host, reply) => {
                let replies = vec![reply];
                self.controller
                    .handle_media(at, MediaInput::Replies { host, replies });
            }
        }
    }

    /// The controller is killed: what it had not sent is lost. Another one goes on from the journal.
    pub fn restart(&mut self) {
        self.restart_from(self.records.len());
    }

    /// As [`World::restart`], and only so many records reached the disk.
    pub fn restart_from(&mut self, records: usize) {
        let config = self.controller.config().clone();
        self.restart_as(config, records);
    }

    /// As [`World::restart`], after a time without a process, in which somebody set the wall clock, by so many seconds from
    /// what it should be.
    pub fn restart_later(&mut self, after_ms: u64, clock_set_s: i64) {
        self.wire
            .retain(|_, packet| !matches!(packet, Packet::ToServer(..) | Packet::FromMedia(..)));
        self.now += Duration::from_millis(after_ms);
        self.clock_set_s = clock_set_s;
        self.restart();
    }

    /// As [`World::restart`], with another configuration.
    pub fn restart_with(&mut self, config: Config) {
        self.restart_as(config, self.records.len());
    }

    /// As [`World::restart`], and no media host is there.
    pub fn restart_alone(&mut self) {
        let config = self.controller.config().clone();
        self.begin_anew(config, self.records.len());
    }

    fn restart_as(&mut self, config: Config, records: usize) {
        self.begin_anew(config, records);
        self.host_goes_on("m1");
        self.host_is_up("m1");
    }

    fn begin_anew(&mut self, config: Config, records: usize) {
        let at = self.clocks();
        self.trace.push("------- restart".to_owned());
        self.records.truncate(records);
        self.restarts = self.restarts.wrapping_add(1);
        let mut controller = Controller::new(config, [8_u8.wrapping_add(self.restarts); 32], at).unwrap();
        for record in &self.records {
            controller.replay(record.clone());
        }
        controller.resume(at);
        self.controller = controller;
        self.wire
            .retain(|_, packet| !matches!(packet, Packet::FromMedia(..)));
        self.hosts_await_the_next();
    }

    /// Another configuration while calls go on. A media host that was let go and is put back is connected to anew.
    pub fn reconfigure(&mut self, config: Config) {
        self.try_reconfigure(config).unwrap();
    }

    /// As [`World::reconfigure`], and whether it was taken.
    pub fn try_reconfigure(&mut self, config: Config) -> Result<(), ConfigError> {
        self.pump();
        self.trace.push("------- another configuration".to_owned());
        let at = self.clocks();
        let hosts: Vec<HostId> = config.media.hosts.iter().map(|host| host.name.clone()).collect();
        self.controller.reconfigure(at, config)?;
        let drained = std::mem::take(&mut self.drained).into_iter();
        let (back, drained): (Vec<HostId>, _) = drained.partition(|host| hosts.contains(host));
        self.drained = drained;
        for host in back {
            self.host_is_connected_to(&host);
        }
        Ok(())
    }

    pub fn hang_up(&mut self, phone: usize) {
        let now = self.now;
        self.phones[phone].hang_up(now);
    }

    /// Who is heard by whom: from the address each phone sends to by its SDP, through the graph the media host has, to
    /// the phone that has the address it sends to.
    pub fn heard(&self) -> BTreeSet<(&'static str, &'static str)> {
        let named =
            |(speaker, listener): (usize, usize)| (self.phones[speaker].name, self.phones[listener].name);
        self.heard_phones().into_iter().map(named).collect()
    }

    /// As [`World::heard`], by number.
    pub fn heard_phones(&self) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for (index, speaker) in self.phones.iter().enumerate() {
            let Some(sends_to) = speaker.sends_to() else {
                continue;
            };
            let (under, _) = speaker.ciphers();
            let hosts = self.hosts();
            for (address, cipher) in hosts.flat_map(|(_, host)| host.listeners(sends_to, under.as_ref())) {
                let hears =
                    |(_, phone): &(usize, &Phone)| phone.media == address && phone.ciphers().1 == cipher;
                let listeners = self.phones.iter().enumerate().filter(hears);
                pairs.extend(listeners.map(|(listener, _)| (index, listener)));
            }
        }
        pairs
    }

    /// A BYE to or from a phone arrives, or not.
    fn note_bye(&mut self, phone: SocketAddr, message: &[u8], arrives: bool) {
        let text = String::from_utf8_lossy(message);
        let call_id = text.lines().find_map(|line| line.strip_prefix("Call-ID: "));
        let Some(call_id) = call_id.filter(|_| text.starts_with("BYE ")) else {
            return;
        };
        if arrives {
            self.lost_byes.remove(call_id);
        } else {
            self.lost_byes.insert(call_id.to_owned(), phone);
        }
    }

    /// That its call is over is on its way to the phone, or to us.
    pub fn is_being_hung_up(&self, phone: usize) -> bool {
        let address = self.phones[phone].address;
        let is_bye = |packet: &Packet| match packet {
            Packet::ToPhone(target, bytes) => target.remote() == address && bytes.starts_with(b"BYE "),
            Packet::ToServer(..) | Packet::ToMedia(..) | Packet::FromMedia(..) => false,
        };
        self.lost_byes.values().any(|lost| *lost == address) || self.wire.values().any(is_bye)
    }

    /// What players play to a phone.
    pub fn played_to(&self, phone: usize) -> Vec<String> {
        let phone = &self.phones[phone];
        if phone.remote.is_none() {
            return Vec::new();
        }
        self.media.played_to(phone.media)
    }

    /// Asks for a call as a machine does. `more` are fields beside the parties.
    pub fn originate(&mut self, from: &str, to: &str, more: &str) -> String {
        self.ask(from, to, more, None).unwrap().call
    }

    /// As [`World::originate`], with a key, and what is said to it.
    pub fn ask(
        &mut self,
        from: &str,
        to: &str,
        more: &str,
        key: Option<&str>,
    ) -> Result<Originated, OriginateError> {
        let text = format!(r#"{{"from": "{from}", "to": "{to}"{more}}}"#);
        let request = serde_json::from_str(&text).unwrap();
        let at = self.clocks();
        self.controller.originate(at, request, key)
    }

    /// Ends a call as an operator does.
    pub fn end(&mut self, call: &str) -> bool {
        let at = self.clocks();
        self.controller.end_call(at, call, "ended by an operator")
    }

    /// How far the only call is.
    pub fn stage(&self) -> CallStage {
        let live = self.controller.live(self.clocks());
        assert_eq!(live.calls.len(), 1, "{}", self.story());
        live.calls[0].stage
    }

    /// Somebody presses keys, by telephone-events, as the media host tells of them.
    pub fn press(&mut self, phone: usize, keys: &str) {
        for key in keys.chars() {
            let sends_to = self.phones[phone].sends_to().unwrap();
            let (host, session, node) = self.endpoint_at(sends_to).unwrap();
            let ended = pb::DigitEnded {
                digit: key.to_string(),
                duration_ms: 100,
                ..pb::DigitEnded::default()
            };
            self.media_tells(host, session, node, pb::event::Kind::DigitEnded(ended));
            self.run_ms(200);
        }
    }

    /// What is played once to a phone is over.
    pub fn question_ends(&mut self, phone: usize) {
        let (session, node) = self.media.player_to(self.phones[phone].media).unwrap();
        let finished = pb::PlayFinished {
            reason: pb::PlayFinishReason::End.into(),
        };
        self.media_tells("m1", session, node, pb::event::Kind::PlayFinished(finished));
        self.run_ms(10);
    }

    fn media_tells(&mut self, host: &str, session: String, node: String, kind: pb::event::Kind) {
        let event = Box::new(pb::Event {
            session,
            node,
            kind: Some(kind),
            ..pb::Event::default()
        });
        let (at, host) = (self.clocks(), host.into());
        self.controller
            .handle_media(at, MediaInput::Event { host, event });
    }

    /// What asks a phone to type.
    pub fn questions_to(&self, phone: usize) -> Vec<String> {
        self.media.asked(self.phones[phone].media)
    }

    pub fn agent(&self, name: &str) -> AgentState {
        let live = self.controller.live(self.clocks());
        live.agents
            .into_iter()
            .find(|agent| agent.name == name)
            .unwrap()
            .state
    }

    pub fn details(&self) -> Vec<CallDetail> {
        let details = self.records.iter().filter_map(|record| match &record.kind {
            RecordKind::CallDetail(detail) => Some((**detail).clone()),
            _ => None,
        });
        details.collect()
    }

    pub fn detail(&self) -> CallDetail {
        let details = self.details();
        assert_eq!(details.len(), 1, "{}", self.story());
        details[0].clone()
    }

    /// Kinds of records, without those of registrations and media hosts.
    pub fn kinds(&self) -> Vec<String> {
        let mut kinds = VecDeque::new();
        for record in &self.records {
            let text = match &record.kind {
                RecordKind::CallStarted { .. } => "started".to_owned(),
                RecordKind::CallRinging { user, .. } => format!("ringing {user}"),
                RecordKind::CallDeclined { user, status, .. } => format!("declined {user} {status}"),
                RecordKind::CallAnswered { user, .. } => format!("answered {user}"),
                RecordKind::CallChose { choice, .. } => {
                    format!("chose {} {} {}", choice.menu, choice.keys, choice.to)
                }
                RecordKind::CallEnded { status, .. } => format!("ended {status}"),
                RecordKind::CallDetail(_) => "detail".to_owned(),
                RecordKind::AgentState { agent, state, .. } => format!("{agent} {state}"),
                _ => continue,
            };
            kinds.push_back(text);
        }
        kinds.into()
    }

    /// Everything sent and recorded, in order.
    pub fn story(&self) -> String {
        self.trace.join("\n")
    }

    /// The first line of the story that holds this text.
    pub fn at(&self, text: &str) -> usize {
        let found = self.trace.iter().position(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text}\n{}", self.story()))
    }

    /// How often a line of the trace holds this text.
    pub fn count(&self, text: &str) -> usize {
        self.trace.iter().filter(|line| line.contains(text)).count()
    }

    /// What still stands: by the records that were written until now, and by those that a new segment would begin with.
    pub fn standing(&mut self) -> [BTreeMap<String, Value>; 2] {
        let (config, at) = (self.controller.config().clone(), self.clocks());
        let mut fresh = Controller::new(config, [4; 32], at).unwrap();
        let mut passing = BTreeSet::new();
        for record in self.controller.standing(at) {
            if let RecordKind::CallState(state) = &record.kind
                && ["preparing", "offering"].contains(&json(&record.kind)["stage"].as_str().unwrap())
            {
                passing.insert(state.call().to_owned());
            }
            fresh.replay(record);
        }
        [&self.shadow, &fresh].map(|controller| {
            let kinds = controller.replayed().into_iter();
            let named = kinds.filter_map(|kind| Some((name_of(&kind, &passing)?, json(&kind))));
            named.collect()
        })
    }

    /// Every call that began has ended with one detail, and nothing of any is left, though the process was killed when it
    /// had written `kept` records.
    pub fn assert_each_call_has_one_detail(&self, kept: usize) {
        let story = format!("killed after {kept}\n{}", self.story());
        let started = self.records.iter().filter_map(|record| match &record.kind {
            RecordKind::CallStarted { call, .. } => Some(call.clone()),
            _ => None,
        });
        let details: Vec<String> = self.details().into_iter().map(|detail| detail.call).collect();
        let ended: BTreeSet<String> = details.iter().cloned().collect();
        assert_eq!(details.len(), ended.len(), "two details, {story}");
        assert_eq!(started.collect::<BTreeSet<_>>(), ended, "{story}");
        let counters = self.controller.counters();
        let left = (
            counters.calls,
            counters.conferences,
            counters.offers,
            counters.waiting,
        );
        assert_eq!(left, (0, 0, 0, 0), "{story}");
        assert_eq!(self.media.sessions.len(), 0, "{story}");
    }

    /// Lets every timer run out and checks that nothing is left anywhere and that the records agree.
    pub fn assert_nothing_left(&mut self) {
        self.run_ms(300_000);
        let counters = self.controller.counters();
        let other_sessions = self.other_media.as_ref().map_or(0, |host| host.sessions.len());
        let left = (
            counters.calls,
            counters.offers,
            counters.media_pending,
            self.media.sessions.len() + other_sessions,
        );
        assert_eq!(
            left,
            (0, 0, 0, 0),
            "calls, offers, commands, sessions\n{}",
            self.story()
        );
        assert_eq!(counters.conferences, 0, "{}", self.story());
        let left = (
            counters.offers_of_calls,
            (counters.waiting, counters.places_of_calls),
            counters.requests_pending,
            counters.parties,
        );
        assert_eq!(
            left,
            (0, (0, 0), 0, 0),
            "offers, places, requests, parties\n{}",
            self.story()
        );
        assert_eq!(counters.messages, 0, "{}", self.story());
        let sip = counters.sip;
        let left = (sip.dialogs, sip.client_transactions, sip.server_transactions);
        assert_eq!(left, (0, 0, 0), "dialogs, transactions\n{}", self.story());
        let live = self.controller.live(self.clocks());
        assert!(
            live.hosts.iter().all(|host| host.sessions == 0),
            "{:?}",
            live.hosts
        );
        assert!(
            live.queues.iter().all(|queue| queue.waiting == 0),
            "{:?}",
            live.queues
        );
        let busy = |state: &AgentState| {
            matches!(
                state,
                AgentState::Reserved | AgentState::Talking | AgentState::WrapUp
            )
        };
        assert!(
            live.agents.iter().all(|agent| !busy(&agent.state)),
            "{:?}",
            live.agents
        );
        let count = |what: &str| self.kinds().iter().filter(|kind| kind.starts_with(what)).count();
        assert_eq!(
            (count("started"), count("started")),
            (count("ended"), count("detail")),
            "{}",
            self.story()
        );
        let trunks = self.controller.trunks_live();
        assert!(trunks.iter().all(|trunk| trunk.calls == 0), "{}", self.story());
        assert_eq!(self.heard(), BTreeSet::new());
    }
}

/// What a proxy says to a request within a dialog that proves nothing.
fn challenge(request: &Bytes) -> Option<Bytes> {
    let text = std::str::from_utf8(request).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let method = lines.next()?.split(' ').next()?;
    let of = |name: &str| {
        head.lines()
            .filter(|line| line.starts_with(name))
            .collect::<Vec<_>>()
    };
    let is_within = of("To:").iter().any(|to| to.contains(";tag="));
    let is_asked = [
        "INVITE", "UPDATE", "INFO", "BYE", "OPTIONS", "NOTIFY", "PRACK", "MESSAGE",
    ]
    .contains(&method);
    if !is_within || !is_asked || head.contains("Proxy-Authorization:") {
        return None;
    }
    let mut answer = vec!["SIP/2.0 407 Proxy Authentication Required"];
    for name in ["Via:", "From:", "To:", "Call-ID:", "CSeq:"] {
        answer.extend(of(name));
    }
    answer.push("Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n2\", algorithm=MD5, qop=\"auth\"");
    answer.push("Content-Length: 0\r\n\r\n");
    Some(answer.join("\r\n").into())
}

/// A record without what a process notes for itself: the margin of sequence numbers covers them.
fn json(kind: &RecordKind) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for counter in ["local_cseq", "remote_cseq"] {
                    fields.remove(counter);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(kind).unwrap();
    strip(&mut value);
    value
}

/// What a record is about. `None`: it is not compared, as a call that is on its way to a state that lasts, and an agent
/// that never was anything.
fn name_of(kind: &RecordKind, passing: &BTreeSet<String>) -> Option<String> {
    let call = |name: &str| (!passing.contains(name)).then(|| format!("call {name}"));
    match kind {
        RecordKind::CallState(state) => call(state.call()),
        RecordKind::MemberState(state) => call(state.call()),
        RecordKind::CallEnded { call: name, .. } => call(name),
        RecordKind::CallOriginated { key, .. } => Some(format!("key {key:?}")),
        RecordKind::InviteWaits { tag, .. } => Some(format!("invite {tag}")),
        RecordKind::AgentState {
            agent,
            state,
            standing,
        } => (state != "away" || *standing != Standing::default()).then(|| format!("agent {agent}")),
        RecordKind::Registered {
            user,
            contact,
            reg_id,
            ..
        } => Some(format!("device {user} {contact} {reg_id:?}")),
        other => panic!("nothing that stands: {other:?}"),
    }
}

fn flow(transport: Transport, local: SocketAddr, remote: SocketAddr) -> Flow {
    // Of connections each has its own, which here its port tells.
    let id = match (transport, remote.ip()) {
        (Transport::Udp, _) | (_, IpAddr::V6(_)) => 0,
        (_, IpAddr::V4(ip)) => u64::from(u32::from(ip)) << 16 | u64::from(remote.port()),
    };
    Flow {
        transport,
        local,
        remote,
        id: FlowId(id),
    }
}
