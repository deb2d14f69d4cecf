//! Network address translation as seen from both of its sides.

use crate::limits::{NAT_MAPPINGS_MAX, NAT_PEERS_MAX, NAT_PORT_MAX, NAT_PORT_MIN};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How a NAT maps and filters, in the classic names.
///
/// # Source
/// RFC 4787 §4.1 and §5 describe the same as pairs of mapping and filtering behaviour, given with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// Endpoint-independent mapping and filtering: anyone may send to a mapping.
    FullCone,
    /// Endpoint-independent mapping, address and port-dependent filtering: only those who were sent to.
    PortRestricted,
    /// Address and port-dependent mapping and filtering: another port towards each destination.
    Symmetric,
}

/// A NAT: hosts inside, one address outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// Its behaviour.
    pub kind: NatKind,
    /// The addresses of the hosts behind it.
    pub inside: BTreeSet<IpAddr>,
    /// The address it shows to the world.
    pub outside: IpAddr,
    /// A mapping that sends nothing for this long is forgotten. RFC 4787 §4.3 asks for 2 minutes at least;
    /// real ones take 30 s.
    pub mapping_ttl: Duration,
}

/// A mapping belongs to an inside socket, and with a symmetric NAT to one destination as well.
type Key = (SocketAddr, Option<SocketAddr>);

#[derive(Debug)]
struct Mapping {
    port: u16,
    last_used: Instant,
    /// Those who were sent to, oldest first.
    peers: VecDeque<SocketAddr>,
}

/// A NAT at work.
#[derive(Debug)]
pub(crate) struct Translator {
    nat: Nat,
    next_port: u16,
    mappings: BTreeMap<Key, Mapping>,
    by_port: BTreeMap<u16, Key>,
}

impl Translator {
    /// `port_offset` moves the first external port, so that two NATs, or two runs, differ.
    pub(crate) fn new(nat: Nat, port_offset: u16) -> Self {
        let span = NAT_PORT_MAX - NAT_PORT_MIN;
        let next_port = NAT_PORT_MIN + port_offset % span;
        Self {
            nat,
            next_port,
            mappings: BTreeMap::new(),
            by_port: BTreeMap::new(),
        }
    }

    pub(crate) fn outside(&self) -> IpAddr {
        self.nat.outside
    }

    pub(crate) fn has_inside(&self, host: IpAddr) -> bool {
        self.nat.inside.contains(&host)
    }

    /// Forgets every mapping; the next datagram of each host gets a new port, and the address `outside`.
    pub(crate) fn rebind(&mut self, outside: IpAddr) {
        self.nat.outside = outside;
        self.mappings.clear();
        self.by_port.clear();
    }

    /// The source that `to` sees when `from`, inside, sends to it.
    pub(crate) fn outbound(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let key = match self.nat.kind {
            NatKind::FullCone | NatKind::PortRestricted => (from, None),
            NatKind::Symmetric => (from, Some(to)),
        };
        let expired = self
            .mappings
            .get(&key)
            .is_some_and(|mapping| self.is_expired(mapping, now));
        if expired {
            self.forget(key);
        }
        if !self.mappings.contains_key(&key) {
            self.map(now, key);
        }
        let mapping = self.mappings.get_mut(&key).expect("mapped just above");
        mapping.last_used = now;
        if !mapping.peers.contains(&to) {
            if mapping.peers.len() == NAT_PEERS_MAX {
                mapping.peers.pop_front();
            }
            mapping.peers.push_back(to);
        }
        SocketAddr::new(self.nat.outside, mapping.port)
    }

    /// The inside socket that gets what `from` sent to the external `port`; `None` if it is filtered.
    pub(crate) fn inbound(&self, now: Instant, from: SocketAddr, port: u16) -> Option<SocketAddr> {
        let key = self.by_port.get(&port)?;
        let mapping = &self.mappings[key];
        if self.is_expired(mapping, now) {
            return None;
        }
        let admitted = match self.nat.kind {
            NatKind::FullCone => true,
            NatKind::PortRestricted | NatKind::Symmetric => mapping.peers.contains(&from),
        };
        admitted.then_some(key.0)
    }

    fn is_expired(&self, mapping: &Mapping, now: Instant) -> bool {
        now.saturating_duration_since(mapping.last_used) >= self.nat.mapping_ttl
    }

    fn map(&mut self, now: Instant, key: Key) {
        if self.mappings.len() == NAT_MAPPINGS_MAX {
            let oldest = self.mappings.iter().min_by_key(|(_, mapping)| mapping.last_used);
            let oldest = *oldest.expect("the table is full, so not empty").0;
            self.forget(oldest);
        }
        // There are more ports than mappings, so this ends.
        while self.by_port.contains_key(&self.next_port) {
            self.advance_port();
        }
        let port = self.next_port;
        self.advance_port();
        self.by_port.insert(port, key);
        self.mappings.insert(
            key,
            Mapping {
                port,
                last_used: now,
                peers: VecDeque::new(),
            },
        );
    }

    fn advance_port(&mut self) {
        self.next_port = if self.next_port == NAT_PORT_MAX {
            NAT_PORT_MIN
        } else {
            self.next_port + 1
        };
    }

    fn forget(&mut self, key: Key) {
        if let Some(mapping) = self.mappings.remove(&key) {
            self.by_port.remove(&mapping.port);
        }
    }
}
