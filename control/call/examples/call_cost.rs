//! What a call costs a controller: one user calls another, who answers; then the caller hangs up.
//!
//! Prints how often the controller asks for memory. Instructions are counted from outside, over N and over 2 N calls, so
//! that the difference is what N calls cost; nothing but [`measured`] is looked at, which leaves out phones and media host:
//!
//! `cargo build --release -p call-control --example call_cost`
//! `valgrind --tool=callgrind --toggle-collect='*measured*' target/release/examples/call_cost 200`
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "it stops at the first surprise; the phones and the media host are shared with the scenarios"
)]

#[path = "../tests/scenarios/media_host.rs"]
mod media_host;
#[path = "../tests/scenarios/phone.rs"]
mod phone;
#[path = "../tests/scenarios/world.rs"]
mod world;

use std::{
    collections::VecDeque,
    time::{Duration, Instant, UNIX_EPOCH},
};

use call_control::{Config, Controller, MediaInput, Now, Output};
use noalloc::Counts;
use sip::stack::{Flow, FlowId, Transport};

use media_host::MediaHost;
use phone::{Behaviour, Phone};

#[global_allocator]
static ALLOCATOR: noalloc::CountingAllocator = noalloc::CountingAllocator;

/// A phone looks for what to do this often.
const TICK: Duration = Duration::from_millis(10);

struct Site {
    start: Instant,
    now: Instant,
    controller: Controller,
    phones: [Phone; 2],
    media: MediaHost,
    /// What the controller would have written to its journal.
    journal: Vec<u8>,
    allocations: u64,
}

/// The part that is measured, by its name.
#[inline(never)]
fn measured<T>(step: impl FnOnce() -> T) -> T {
    step()
}

impl Site {
    fn new() -> Self {
        let config = Config {
            trusted: [1, 2].map(|last| [10, 0, 1, last].into()).into_iter().collect(),
            ..world::config()
        };
        #[allow(clippy::disallowed_methods, reason = "an arbitrary beginning")]
        let start = Instant::now();
        let wall = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut site = Self {
            start,
            now: start,
            controller: Controller::new(config, [7; 32], Now { mono: start, wall }).unwrap(),
            phones: [("alice", 0), ("bob", 1)].map(|(name, index)| Phone::new(name, index, |_| {})),
            media: MediaHost::new(),
            journal: Vec::new(),
            allocations: 0,
        };
        let (host, boot_id) = ("m1".into(), "boot-1".into());
        site.tell(|controller, now| controller.handle_media(now, MediaInput::HostUp { host, boot_id }));
        for (phone, password) in [(0, "wonder"), (1, "builder")] {
            site.phones[phone].register(site.now, password, 3_600);
            site.run(10);
            assert_eq!(site.phones[phone].registered, Some(200));
        }
        site.phones[1].behaviour = Behaviour::Answer(50);
        site
    }

    /// The controller does something, and then what comes of it is taken from it.
    fn tell(&mut self, step: impl FnOnce(&mut Controller, Now)) {
        let wall = UNIX_EPOCH + Duration::from_secs(1_800_000_000) + (self.now - self.start);
        let now = Now { mono: self.now, wall };
        let (controller, journal) = (&mut self.controller, &mut self.journal);
        let mut outputs = VecDeque::with_capacity(64);
        let counts: Counts = noalloc::count(|| {
            measured(|| {
                step(controller, now);
                while let Some(output) = controller.poll_output() {
                    match output {
                        Output::Record(record) => serde_json::to_writer(&mut *journal, &record).unwrap(),
                        other => outputs.push_back(other),
                    }
                }
            });
        });
        self.allocations += counts.allocs + counts.reallocs;
        self.journal.clear();
        for output in outputs {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit(transmit) => {
                let to = transmit.target.remote();
                let phone = self.phones.iter_mut().find(|phone| phone.address == to).unwrap();
                let flow = flow(to, world::server());
                phone.stack.handle_message(self.now, flow, transmit.bytes);
            }
            Output::Media { host, command } => {
                let replies = self.media.handle(command).into_iter().collect();
                self.tell(|controller, now| {
                    controller.handle_media(now, MediaInput::Replies { host, replies })
                });
            }
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for index in 0..self.phones.len() {
                let phone = &mut self.phones[index];
                phone.stack.handle_timeout(self.now);
                phone.work(self.now);
                let from = phone.address;
                while let Some(transmit) = self.phones[index].stack.poll_transmit() {
                    let bytes = transmit.bytes;
                    let flow = flow(world::server(), from);
                    self.tell(|controller, now| controller.handle_message(now, flow, bytes));
                    self.phones[index].work(self.now);
                }
            }
            self.now += TICK;
            if self.controller.poll_timeout().is_some_and(|due| due <= self.now) {
                self.tell(Controller::handle_timeout);
            }
        }
    }

    fn call(&mut self) {
        self.phones[0].call(self.now, "bob", true);
        self.run(20);
        assert_eq!(self.controller.counters().calls, 1);
        self.phones[0].hang_up(self.now);
        self.run(20);
        assert_eq!(self.controller.counters().calls, 0);
    }
}

fn flow(local: std::net::SocketAddr, remote: std::net::SocketAddr) -> Flow {
    Flow {
        transport: Transport::Udp,
        local,
        remote,
        id: FlowId(1),
    }
}

fn main() {
    let calls: u32 = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(1_000);
    let mut site = Site::new();
    // As many as are remembered at once.
    for _ in 0..100 {
        site.call();
    }
    site.allocations = 0;
    for _ in 0..calls {
        site.call();
    }
    let each = site.allocations as f64 / f64::from(calls);
    println!("{calls} calls: {each:.1} allocations each");
}
