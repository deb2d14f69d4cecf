//! Stacks joined by a network in virtual time, all of it decided by one seed.

use bytes::Bytes;
use sip::header::NameAddr;
use sip::message::{HeaderName, Method, Request, Response, StatusCode};
use sip::stack::{Content, Event, Flow, FlowId, Identity, ServerTxn, Stack, StackConfig, Target, Transport};
use sip::uri::Uri;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What the network does to a message, in percent and milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub loss: u64,
    pub duplication: u64,
    pub delay_ms: u64,
    pub jitter_ms: u64,
}

impl Weather {
    pub const FINE: Self = Self {
        loss: 0,
        duplication: 0,
        delay_ms: 10,
        jitter_ms: 0,
    };
    pub const STORM: Self = Self {
        loss: 20,
        duplication: 10,
        delay_ms: 10,
        jitter_ms: 120,
    };
}

pub struct End {
    pub stack: Stack,
    pub address: SocketAddr,
    pub events: VecDeque<Event>,
}

pub struct World {
    pub now: Instant,
    pub start: Instant,
    pub ends: Vec<End>,
    pub weather: Weather,
    pub transport: Transport,
    /// `ms from>to first-line`, as sent.
    pub trace: Vec<String>,
    /// Messages whose first line starts so vanish, as often as the number says.
    pub swallow: Vec<(&'static str, usize)>,
    on_wire: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Bytes)>,
    order: u64,
    random: u64,
}

pub const ALICE: usize = 0;
pub const BOB: usize = 1;

pub fn address(index: usize) -> SocketAddr {
    SocketAddr::new([192, 0, 2, index as u8 + 1].into(), 5060)
}

pub fn config(index: usize, transport: Transport) -> StackConfig {
    let identity = Identity::new(transport, address(index), address(index));
    let mut config = StackConfig::new(vec![identity]);
    config.owner = Some(("owner".into(), format!("node{index}")));
    config
}

impl World {
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self::with_configs(seed, weather, Transport::Udp, |_| {})
    }

    pub fn over(seed: u64, transport: Transport) -> Self {
        Self::with_configs(seed, Weather::FINE, transport, |_| {})
    }

    pub fn with_configs(
        seed: u64,
        weather: Weather,
        transport: Transport,
        edit: impl Fn(&mut StackConfig),
    ) -> Self {
        let end = |index: usize| {
            let mut config = config(index, transport);
            edit(&mut config);
            let mut secret = [index as u8; 32];
            secret[..8].copy_from_slice(&seed.to_be_bytes());
            End {
                stack: Stack::new(config, secret),
                address: address(index),
                events: VecDeque::new(),
            }
        };
        let start = first_instant();
        Self {
            now: start,
            start,
            ends: (0..3).map(end).collect(),
            weather,
            transport,
            trace: Vec::new(),
            swallow: Vec::new(),
            on_wire: BTreeMap::new(),
            order: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn chance(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    /// Moves what the stacks want to send onto the wire, and their events to their users.
    pub fn pump(&mut self) {
        for index in 0..self.ends.len() {
            while let Some(transmit) = self.ends[index].stack.poll_transmit() {
                let (from, to) = (self.ends[index].address, transmit.target.remote());
                self.send(from, to, transmit.bytes);
            }
            while let Some(event) = self.ends[index].stack.poll_event() {
                self.ends[index].events.push_back(event);
            }
        }
    }

    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let first = text.lines().next().unwrap_or_default();
        let ms = self.now.duration_since(self.start).as_millis();
        let name = |address: SocketAddr| match address.ip().to_string().chars().last() {
            Some('1') => 'A',
            Some('2') => 'B',
            _ => 'C',
        };
        let short = first
            .strip_suffix(" SIP/2.0")
            .map_or(first, |line| line.split(' ').next().unwrap());
        let method = text
            .lines()
            .find_map(|line| line.strip_prefix("CSeq: "))
            .unwrap_or_default();
        self.trace
            .push(format!("{ms:>6} {}>{} {short} [{method}]", name(from), name(to)));
        for (prefix, left) in &mut self.swallow {
            if *left > 0 && first.starts_with(*prefix) {
                *left -= 1;
                return;
            }
        }
        let copies = if self.chance(100) < self.weather.duplication {
            2
        } else {
            1
        };
        for _ in 0..copies {
            if self.chance(100) < self.weather.loss {
                continue;
            }
            let delay = self.weather.delay_ms + self.chance(self.weather.jitter_ms + 1);
            self.order += 1;
            let due = self.now + Duration::from_millis(delay);
            self.on_wire.insert((due, self.order), (from, to, bytes.clone()));
        }
    }

    pub fn flow(&self, at: usize, from: SocketAddr) -> Flow {
        Flow {
            transport: self.transport,
            local: self.ends[at].address,
            remote: from,
            id: FlowId(0),
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let timers = self.ends.iter().filter_map(|end| end.stack.poll_timeout()).min();
        let wire = self.on_wire.first_key_value().map(|((due, _), _)| *due);
        [timers, wire].into_iter().flatten().min()
    }

    /// Lets time run; `user` acts on every event as it comes. Events it does not want stay in the end's queue.
    pub fn run_with(&mut self, time: Duration, mut user: impl FnMut(&mut Self, usize, Event)) {
        let until = self.now + time;
        loop {
            self.pump();
            while let Some(index) = (0..self.ends.len()).find(|&index| !self.ends[index].events.is_empty()) {
                let event = self.ends[index].events.pop_front().unwrap();
                user(self, index, event);
                self.pump();
            }
            if !self.advance(until) {
                break;
            }
        }
        self.now = until;
    }

    /// Lets time run; events pile up in the ends.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        self.pump();
        while self.advance(until) {
            self.pump();
        }
        self.now = until;
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    fn advance(&mut self, until: Instant) -> bool {
        let Some(due) = self.next_due().filter(|&due| due <= until) else {
            return false;
        };
        self.now = self.now.max(due);
        let now = self.now;
        while let Some(entry) = self.on_wire.first_entry().filter(|entry| entry.key().0 <= now) {
            let (from, to, bytes) = entry.remove();
            let Some(index) = self.ends.iter().position(|end| end.address == to) else {
                continue;
            };
            let flow = self.flow(index, from);
            self.ends[index].stack.handle_message(now, flow, bytes);
        }
        for end in &mut self.ends {
            if end.stack.poll_timeout().is_some_and(|due| due <= now) {
                end.stack.handle_timeout(now);
            }
        }
        true
    }

    pub fn target(&self, index: usize) -> Target {
        Target::address(self.transport, address(index))
    }

    pub fn invite(&self, from: usize, to: usize) -> Request {
        let mut invite = self.request_to(Method::Invite, from, to);
        invite
            .headers
            .push(HeaderName::ContentType, "application/sdp")
            .unwrap();
        invite.body = Bytes::from_static(b"v=0\r\n");
        invite
    }

    pub fn request_to(&self, method: Method, from: usize, to: usize) -> Request {
        let uri = |index: usize| Uri::sip(Some("user"), &address(index).ip().into(), None);
        let mut request = Request::new(method, &uri(to));
        request
            .headers
            .push_value(HeaderName::From, &NameAddr::new(uri(from)));
        request
            .headers
            .push_value(HeaderName::To, &NameAddr::new(uri(to)));
        request
    }

    pub fn respond(&mut self, index: usize, txn: ServerTxn, status: StatusCode) {
        let now = self.now;
        let mut response = Response::new(status);
        if status.is_success() {
            response
                .headers
                .push(HeaderName::ContentType, "application/sdp")
                .unwrap();
            response.body = Bytes::from_static(b"v=0\r\n");
        }
        let _gone = self.ends[index].stack.respond(now, txn, response);
    }

    /// The next event of an end.
    pub fn event(&mut self, index: usize) -> Event {
        self.pump();
        let trace = self.trace.join("\n");
        self.ends[index]
            .events
            .pop_front()
            .unwrap_or_else(|| panic!("no event at {index}\n{trace}"))
    }

    pub fn assert_no_event(&mut self, index: usize) {
        self.pump();
        let event = self.ends[index].events.front();
        assert!(event.is_none(), "{event:?}\n{}", self.trace.join("\n"));
    }

    /// Lets every timer run out and checks that nothing is left.
    pub fn assert_nothing_left(&mut self) {
        self.run(Duration::from_secs(2000));
        for (index, end) in self.ends.iter().enumerate() {
            let stats = end.stack.stats();
            let left = (
                stats.client_transactions + stats.lookups,
                stats.server_transactions,
                stats.dialogs,
                stats.keys,
                stats.timers,
            );
            assert_eq!(left, (0, 0, 0, 0, 0), "end {index}\n{}", self.trace.join("\n"));
        }
    }

    /// How often a line of the trace holds this text.
    pub fn count(&self, text: &str) -> usize {
        self.trace.iter().filter(|line| line.contains(text)).count()
    }

    /// Milliseconds at which lines with this text were sent.
    pub fn times(&self, text: &str) -> Vec<u64> {
        let lines = self.trace.iter().filter(|line| line.contains(text));
        lines
            .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
            .collect()
    }
}

pub fn sdp() -> Option<Content> {
    Some(Content::sdp("v=0\r\n"))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a starting point for virtual time; only differences count"
)]
pub fn first_instant() -> Instant {
    Instant::now()
}
