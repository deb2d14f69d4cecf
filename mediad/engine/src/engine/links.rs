//! Links: transports whose packets go to another session of the host and never to a socket.
//!
//! To the plans a link is a socket that only this engine knows: they write their packets to it as to any other. [`Exits`]
//! keeps those aside; once the engine has done what it was called for they are given to the sessions at the far ends, whose
//! own packets through links go the next round. After [`limits::LINK_HOPS_MAX`] rounds the rest is dropped: the host refuses
//! links that form a circle, but edits on two workers do not happen at one moment.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
};

use rtp::{header::RtpReader, time::Now};

use super::{Egress, Engine, slab::Key};
use crate::{
    command::{DropReason, LinkId, LinkPacket, LinkPeer, SocketId},
    limits,
};

/// Socket numbers from here on are links; no backend has that many sockets.
const FIRST: u32 = 1 << 31;

/// Where packets through a link are sent: the address means nothing and is never looked at.
pub(crate) const THROUGH: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// Whether a socket is a link.
pub(crate) fn is_link(socket: SocketId) -> bool {
    socket != SocketId::NONE && socket.0 >= FIRST
}

/// The ends of links that this engine has.
#[derive(Debug, Default)]
pub(crate) struct Links {
    places: BTreeMap<LinkId, usize>,
    /// By number of the socket that stands for it.
    ends: Vec<Option<End>>,
    /// On their way to other workers.
    away: Packets<Away>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    link: LinkId,
    transport: Key,
    peer: Option<LinkPeer>,
}

#[derive(Debug, Clone, Copy)]
struct Away {
    worker: usize,
    from: LinkId,
    link: LinkId,
    hops: u8,
}

impl Links {
    /// The number of a socket for a new link.
    pub(crate) fn reserve(&mut self) -> SocketId {
        self.away.reserve();
        let free = self.ends.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.ends.push(None);
            self.ends.len() - 1
        });
        SocketId(FIRST + place as u32)
    }

    /// `transport` rides on `socket`, which was reserved.
    pub(crate) fn open(&mut self, socket: SocketId, link: LinkId, transport: Key) {
        let place = (socket.0 - FIRST) as usize;
        self.ends[place] = Some(End {
            link,
            transport,
            peer: None,
        });
        self.places.insert(link, place);
    }

    /// The transport is gone.
    pub(crate) fn close(&mut self, socket: SocketId) {
        if let Some(end) = self
            .ends
            .get_mut((socket.0 - FIRST) as usize)
            .and_then(Option::take)
        {
            self.places.remove(&end.link);
        }
    }

    /// The other end came or went; gives the transport of this one.
    pub(crate) fn join(&mut self, link: LinkId, peer: Option<LinkPeer>) -> Option<Key> {
        let end = self.ends.get_mut(*self.places.get(&link)?)?.as_mut()?;
        end.peer = peer;
        Some(end.transport)
    }

    fn transport(&self, link: LinkId) -> Option<Key> {
        self.ends.get(*self.places.get(&link)?)?.map(|end| end.transport)
    }
}

/// Packets one behind the other: filled, then read through, then empty again. Never grows once it is reserved.
#[derive(Debug)]
struct Packets<T> {
    heads: Vec<(T, usize)>,
    bytes: Vec<u8>,
    /// The next to read, and where its bytes begin.
    next: (usize, usize),
}

impl<T> Default for Packets<T> {
    fn default() -> Self {
        Self {
            heads: Vec::new(),
            bytes: Vec::new(),
            next: (0, 0),
        }
    }
}

impl<T: Copy> Packets<T> {
    /// Takes its space, once. May allocate.
    fn reserve(&mut self) {
        if self.heads.capacity() == 0 {
            self.heads.reserve_exact(limits::LINK_PACKETS_MAX);
            self.bytes.reserve_exact(limits::LINK_BYTES_MAX);
        }
    }

    fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    fn count(&self) -> usize {
        self.heads.len() - self.next.0
    }

    /// False when there is no room.
    fn push(&mut self, head: T, data: &[u8]) -> bool {
        let fits = self.heads.len() < self.heads.capacity()
            && data.len() <= self.bytes.capacity() - self.bytes.len();
        if fits {
            self.bytes.extend_from_slice(data);
            self.heads.push((head, self.bytes.len()));
        }
        fits
    }

    /// The next packet; after the last one it is empty again.
    fn pop(&mut self) -> Option<(T, &[u8])> {
        let (at, start) = self.next;
        let Some((head, end)) = self.heads.get(at).copied() else {
            self.clear();
            return None;
        };
        self.next = (at + 1, end);
        Some((head, &self.bytes[start..end]))
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
        self.next = (0, 0);
    }
}

/// Packets that plans wrote to links: one round is filled while the one before is given out.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    filling: Packets<u32>,
    spare: Packets<u32>,
    /// Found no room.
    lost: u64,
}

impl Rounds {
    /// Takes its space, once. May allocate.
    pub(crate) fn reserve(&mut self) {
        self.filling.reserve();
        self.spare.reserve();
    }
}

/// The way out of the engine: sockets lead to the backend, links into a queue.
pub(crate) struct Exits<'a, E> {
    tx: &'a mut E,
    rounds: Option<Box<Rounds>>,
}

impl<E: Egress> Egress for Exits<'_, E> {
    #[inline]
    fn slot(&mut self) -> Option<&mut [u8]> {
        self.tx.slot()
    }

    #[inline]
    fn commit(&mut self, len: usize, socket: SocketId, to: SocketAddr) {
        if socket.0 < FIRST {
            self.tx.commit(len, socket, to);
        } else {
            self.keep(len, socket);
        }
    }

    #[inline]
    fn prefetch_socket(&self, socket: SocketId) {
        if socket.0 < FIRST {
            self.tx.prefetch_socket(socket);
        }
    }

    #[inline]
    fn prefetch(&self, address: *const u8) {
        self.tx.prefetch(address);
    }
}

impl<E: Egress> Exits<'_, E> {
    /// Until it is committed the slot stays the same: it is read again and left free.
    #[inline(never)]
    fn keep(&mut self, len: usize, socket: SocketId) {
        let Some(rounds) = &mut self.rounds else { return };
        let written = self.tx.slot().and_then(|slot| slot.get(..len));
        let kept = written.is_some_and(|packet| rounds.filling.push(socket.0 - FIRST, packet));
        rounds.lost += u64::from(!kept);
    }

    /// The packets of the round that ended, and a new round begins; `None`: nothing went through a link.
    fn turn(&mut self) -> Option<Packets<u32>> {
        let rounds = self.rounds.as_mut().filter(|rounds| !rounds.filling.is_empty())?;
        let spare = std::mem::take(&mut rounds.spare);
        Some(std::mem::replace(&mut rounds.filling, spare))
    }

    fn give_back(&mut self, packets: Packets<u32>) {
        if let Some(rounds) = &mut self.rounds {
            rounds.spare = packets;
        }
    }
}

impl Engine {
    /// What everything is sent through from here until [`Self::close_exits`].
    #[inline]
    pub(super) fn open_exits<'a, E: Egress>(&mut self, tx: &'a mut E) -> Exits<'a, E> {
        Exits {
            tx,
            rounds: self.rounds.take(),
        }
    }

    #[inline]
    pub(super) fn close_exits<E: Egress>(&mut self, exits: Exits<'_, E>) {
        self.rounds = exits.rounds;
    }

    /// Gives packets that were sent through links to the sessions at the far ends, round by round.
    #[inline]
    pub(super) fn carry<E: Egress>(&mut self, now: Now, exits: &mut Exits<'_, E>, hops: u8) {
        if exits
            .rounds
            .as_ref()
            .is_some_and(|rounds| !rounds.filling.is_empty())
        {
            self.carry_rounds(now, exits, hops);
        }
    }

    #[inline(never)]
    fn carry_rounds<E: Egress>(&mut self, now: Now, exits: &mut Exits<'_, E>, hops: u8) {
        for hop in hops..limits::LINK_HOPS_MAX {
            let Some(mut packets) = exits.turn() else { break };
            while let Some((place, data)) = packets.pop() {
                self.pass(now, place, hop + 1, data, exits);
            }
            exits.give_back(packets);
        }
        // What is still there goes in a circle.
        if let Some(mut packets) = exits.turn() {
            self.totals.drops[DropReason::Replay as usize] += packets.count() as u64;
            packets.clear();
            exits.give_back(packets);
        }
        if let Some(rounds) = &mut exits.rounds {
            self.totals.drops[DropReason::EgressFull as usize] += std::mem::take(&mut rounds.lost);
        }
    }

    fn pass<E: Egress>(&mut self, now: Now, place: u32, hops: u8, data: &[u8], exits: &mut Exits<'_, E>) {
        let end = self.links.ends.get(place as usize).copied().flatten();
        let Some((end, peer)) = end.and_then(|end| Some((end, end.peer?))) else {
            return;
        };
        let Some(worker) = peer.worker else {
            return self.arrive(now, peer.link, data, exits);
        };
        let head = Away {
            worker,
            from: end.link,
            link: peer.link,
            hops,
        };
        if !self.links.away.push(head, data) {
            self.lose(end.transport);
        }
    }

    /// A packet found no room on its way through a link.
    fn lose(&mut self, transport: Key) {
        self.totals.drops[DropReason::EgressFull as usize] += 1;
        if let Some(transport) = self.transports.get_mut(transport) {
            transport.count(DropReason::EgressFull);
        }
    }

    /// A packet came out of the end `link`.
    fn arrive<E: Egress>(&mut self, now: Now, link: LinkId, data: &[u8], exits: &mut Exits<'_, E>) {
        let Some(key) = self.links.transport(link) else {
            // An end that was there a moment ago.
            self.totals.drops[DropReason::NoEndpoint as usize] += 1;
            return;
        };
        let outcome = self.on_linked(now, key, data, exits);
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        transport.rx_packets += 1;
        transport.rx_bytes += data.len() as u64;
        match outcome {
            Ok(()) => transport.take(),
            Err(reason) => {
                self.totals.drops[reason as usize] += 1;
                transport.count(reason);
            }
        }
    }

    /// As RTP from a socket, without a source to check: only a session of this host can have sent it.
    fn on_linked<E: Egress>(
        &mut self,
        now: Now,
        transport: Key,
        data: &[u8],
        exits: &mut Exits<'_, E>,
    ) -> Result<(), DropReason> {
        let packet = RtpReader::parse(data).map_err(|_| DropReason::Malformed)?;
        let header = packet.header();
        let key = self
            .transports
            .get(transport)
            .and_then(|transport| transport.endpoint)
            .ok_or(DropReason::NoEndpoint)?;
        let endpoint = self.endpoints.get(key).ok_or(DropReason::NoEndpoint)?;
        let format = endpoint.ingress.format_of(header.payload_type);
        self.on_accepted(now, key, None, &header, format, packet.payload(), exits)
    }

    /// The other end of `link` came or went.
    pub(super) fn join(&mut self, link: LinkId, peer: Option<LinkPeer>) {
        let Some(transport) = self.links.join(link, peer) else {
            return;
        };
        let Some(transport) = self.transports.get_mut(transport) else {
            return;
        };
        transport.linked = peer.is_some();
        let destination = transport.destination();
        if let Some(endpoint) = transport.endpoint.and_then(|key| self.endpoints.get_mut(key)) {
            endpoint.egress.destination = destination;
        }
    }

    /// A packet that goes to an end on another worker: give it to that engine's [`handle_link`](Self::handle_link), and
    /// say [`lose_link`](Self::lose_link) if that cannot be done. Until they are taken they wait, up to a bound.
    pub fn poll_link(&mut self) -> Option<LinkPacket<'_>> {
        let (head, data) = self.links.away.pop()?;
        Some(LinkPacket {
            worker: head.worker,
            from: head.from,
            link: head.link,
            hops: head.hops,
            data,
        })
    }

    /// The way to the other worker was full: the packet from the end `from` is dropped, and counted there.
    pub fn lose_link(&mut self, from: LinkId) {
        if let Some(transport) = self.links.transport(from) {
            self.lose(transport);
        }
    }

    /// Take in a packet from an end on another worker. Never allocates.
    pub fn handle_link(&mut self, now: Now, packet: &LinkPacket<'_>, tx: &mut impl Egress) {
        let mut exits = self.open_exits(tx);
        self.arrive(now, packet.link, packet.data, &mut exits);
        self.carry(now, &mut exits, packet.hops);
        self.close_exits(exits);
    }
}
