//! A network in memory and in virtual time: datagrams go in, and come out late, twice, out of order,
//! translated or not at all, all of it decided by one seed.
//!
//! Owns: links between hosts, partitions, NATs, and the datagrams on their way. Must never know what a
//! datagram means, what time it is (the caller says), or any chance but its own [`Rng`].
//!
//! A host is an IP address. A link is one direction from a host's own address to the address it sends to
//! (for a host behind a NAT: the NAT's outside address); pairs without one of their own use the default.
//!
//! After each [`Netem::send`], and whenever time reaches [`Netem::poll_timeout`], call [`Netem::poll`] until
//! it returns `None`.
//!
//! ```
//! use netem::{Link, Netem};
//! use std::time::{Duration, Instant};
//!
//! let (alice, bob) = ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:5000".parse().unwrap());
//! let now = Instant::now(); // any starting point; only differences count
//! let mut net = Netem::new(42);
//! net.set_default_link(Link { delay: Duration::from_millis(20), ..Link::default() });
//! net.send(now, alice, bob, b"hello");
//! assert!(net.poll(now).is_none());
//!
//! let due = net.poll_timeout().unwrap();
//! let delivery = net.poll(due).unwrap();
//! assert_eq!((due - now, delivery.from, &delivery.bytes[..]), (Duration::from_millis(20), alice, &b"hello"[..]));
//! ```
#![forbid(unsafe_code)]

pub mod limits;
mod link;
mod nat;
mod rng;

pub use link::{Link, Loss};
pub use nat::{Nat, NatKind};
pub use rng::Rng;

use link::{Carried, Wire};
use nat::Translator;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// The network. See the crate's documentation for how to drive it.
#[derive(Debug)]
pub struct Netem {
    rng: Rng,
    default_link: Link,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    wires: BTreeMap<(IpAddr, IpAddr), Wire>,
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    nats: Vec<Translator>,
    /// By time of arrival, then in the order sent.
    in_flight: BTreeMap<(Instant, u64), Delivery>,
    next_order: u64,
    counters: Counters,
}

/// A datagram at its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// When it was sent.
    pub sent_at: Instant,
    /// When it arrived.
    pub arrived_at: Instant,
    /// Its source as the receiver sees it, after translation.
    pub from: SocketAddr,
    /// The receiver's own address, also behind a NAT.
    pub to: SocketAddr,
    /// Its payload.
    pub bytes: Vec<u8>,
}

/// What became of the datagrams so far.
///
/// Once nothing is in flight, `sent + duplicated` equals `delivered` and all the losses together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of [`Netem::send`].
    pub sent: u64,
    /// Deliveries handed out.
    pub delivered: u64,
    /// Second copies made.
    pub duplicated: u64,
    /// Held back, so that others could overtake. Not a loss.
    pub held_back: u64,
    /// Lost by the link's [`Loss`].
    pub lost: u64,
    /// Dropped because the link's queue was full.
    pub queue_full: u64,
    /// Dropped by [`Netem::cut`].
    pub cut: u64,
    /// Dropped by a NAT, or sent to a private address from outside.
    pub filtered: u64,
    /// Dropped because [`limits::IN_FLIGHT_MAX`] were on their way.
    pub overflow: u64,
}

impl Netem {
    /// A network of perfect links, whose every later chance follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            default_link: Link::default(),
            links: BTreeMap::new(),
            wires: BTreeMap::new(),
            cuts: BTreeSet::new(),
            nats: Vec::new(),
            in_flight: BTreeMap::new(),
            next_order: 0,
            counters: Counters::default(),
        }
    }

    /// Sets the behaviour of all pairs of hosts that have no link of their own.
    pub fn set_default_link(&mut self, link: Link) {
        self.default_link = link;
    }

    /// Sets the behaviour from one host to another; datagrams on their way are not changed.
    pub fn set_link(&mut self, from: IpAddr, to: IpAddr, link: Link) {
        self.links.insert((from, to), link);
    }

    /// As [`Netem::set_link`], in both directions.
    pub fn set_link_both_ways(&mut self, a: IpAddr, b: IpAddr, link: Link) {
        self.set_link(a, b, link);
        self.set_link(b, a, link);
    }

    /// Drops everything sent from one host to another from now on, until [`Netem::heal`].
    pub fn cut(&mut self, from: IpAddr, to: IpAddr) {
        self.cuts.insert((from, to));
    }

    /// Cuts every pair of hosts of which one is in `a` and the other in `b`, in both directions.
    pub fn partition(&mut self, a: &[IpAddr], b: &[IpAddr]) {
        for &a in a {
            for &b in b {
                self.cut(a, b);
                self.cut(b, a);
            }
        }
    }

    /// Undoes [`Netem::cut`] for one direction.
    pub fn heal(&mut self, from: IpAddr, to: IpAddr) {
        self.cuts.remove(&(from, to));
    }

    /// Undoes every cut.
    pub fn heal_all(&mut self) {
        self.cuts.clear();
    }

    /// Puts hosts behind a NAT. Between themselves they keep speaking without it.
    ///
    /// # Panics
    /// If one of the hosts is behind another NAT already, or the outside address is taken by one.
    pub fn add_nat(&mut self, nat: Nat) {
        for other in &self.nats {
            assert!(
                other.outside() != nat.outside,
                "{} is another NAT's outside address",
                nat.outside
            );
            let twice = nat.inside.iter().find(|host| other.has_inside(**host));
            assert!(twice.is_none(), "{twice:?} is behind another NAT already");
        }
        let port_offset = (self.rng.next_u64() & 0xffff) as u16;
        self.nats.push(Translator::new(nat, port_offset));
    }

    /// Makes the NAT with this outside address forget its mappings and continue at the address `new`
    /// (which may be the same): the next datagram from inside has a new source.
    ///
    /// # Panics
    /// If there is no such NAT.
    pub fn rebind(&mut self, outside: IpAddr, new: IpAddr) {
        let nat = self.nats.iter_mut().find(|nat| nat.outside() == outside);
        nat.unwrap_or_else(|| panic!("no NAT has the outside address {outside}"))
            .rebind(new);
    }

    /// Sends a datagram from a host's own address. Its fate shows in [`Netem::poll`] and
    /// [`Netem::counters`].
    ///
    /// # Panics
    /// If the datagram is longer than [`limits::DATAGRAM_BYTES_MAX`].
    pub fn send(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        assert!(
            bytes.len() <= limits::DATAGRAM_BYTES_MAX,
            "{} bytes do not fit a datagram",
            bytes.len()
        );
        self.counters.sent += 1;
        let pair = (from.ip(), to.ip());
        if self.cuts.contains(&pair) {
            self.counters.cut += 1;
            return;
        }
        // The NAT stands at the sender's end: it opens a mapping even for what gets lost behind it.
        let Some(seen_from) = self.translate_source(now, from, to) else {
            self.counters.filtered += 1;
            return;
        };
        let link = self.links.get(&pair).unwrap_or(&self.default_link);
        match self
            .wires
            .entry(pair)
            .or_default()
            .carry(link, now, bytes.len(), &mut self.rng)
        {
            Carried::Lost => self.counters.lost += 1,
            Carried::QueueFull => self.counters.queue_full += 1,
            Carried::Arrives {
                at,
                copy_at,
                held_back,
            } => {
                self.counters.held_back += u64::from(held_back);
                self.enqueue(Delivery {
                    sent_at: now,
                    arrived_at: at,
                    from: seen_from,
                    to,
                    bytes: bytes.to_vec(),
                });
                if let Some(arrived_at) = copy_at {
                    self.counters.duplicated += 1;
                    self.enqueue(Delivery {
                        sent_at: now,
                        arrived_at,
                        from: seen_from,
                        to,
                        bytes: bytes.to_vec(),
                    });
                }
            }
        }
    }

    /// The next datagram that has arrived by `now`, in order of arrival.
    pub fn poll(&mut self, now: Instant) -> Option<Delivery> {
        loop {
            let entry = self.in_flight.first_entry()?;
            if entry.key().0 > now {
                return None;
            }
            let mut delivery = entry.remove();
            // The receiver's NAT decides when the datagram gets there, not when it was sent.
            let Some(to) = self.translate_destination(&delivery) else {
                self.counters.filtered += 1;
                continue;
            };
            delivery.to = to;
            self.counters.delivered += 1;
            return Some(delivery);
        }
    }

    /// When the next datagram arrives; `None` while nothing is on its way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// Datagrams on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What became of the datagrams so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn enqueue(&mut self, delivery: Delivery) {
        if self.in_flight.len() >= limits::IN_FLIGHT_MAX {
            self.counters.overflow += 1;
            return;
        }
        self.in_flight
            .insert((delivery.arrived_at, self.next_order), delivery);
        self.next_order += 1;
    }

    /// The source others see; `None` if the destination is private and not in the sender's own network.
    fn translate_source(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let behind = self.nats.iter().position(|nat| nat.has_inside(from.ip()));
        let towards = self.nats.iter().position(|nat| nat.has_inside(to.ip()));
        match (behind, towards) {
            (None, None) => Some(from),
            (Some(nat), None) => Some(self.nats[nat].outbound(now, from, to)),
            (behind, towards) => (behind == towards).then_some(from),
        }
    }

    /// The socket behind the address a datagram was sent to; `None` if a NAT filters it.
    fn translate_destination(&self, delivery: &Delivery) -> Option<SocketAddr> {
        match self.nats.iter().find(|nat| nat.outside() == delivery.to.ip()) {
            None => Some(delivery.to),
            Some(nat) => nat.inbound(delivery.arrived_at, delivery.from, delivery.to.port()),
        }
    }
}
