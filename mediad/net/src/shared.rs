//! One receive socket for all ports of a worker, and one send socket for each of its addresses.
//!
//! Each port keeps a socket of its own, which holds the port, gets what is not steered and sends what cannot go the short
//! way. What arrives is steered into the worker's *lanes*, one for each address family, where one `recvmmsg` takes
//! datagrams of many ports. What leaves goes with its own IP and UDP header through a raw socket, where one `sendmmsg`
//! takes datagrams of many ports. Connected and dual-stack sockets are left alone.
//!
//! A lane is first come, first served, so a flood of one port would keep all others waiting. A port that gets more than any
//! call sends is put out of the lane: its own socket fills then, and gets its turn as others do.

use crate::header::{self, Head};
use crate::slab::Slab;
use crate::steering::{Lane, Steering, unavailable, why};
use crate::{NetError, SocketId, bind, limits, sys};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

/// Lanes, steered ports and send sockets of one worker.
pub(crate) struct Shared {
    steering: Steering,
    lanes: Vec<(UdpSocket, Lane)>,
    /// The first registered socket of each port; others, on other addresses, follow by [`Steered::next`].
    by_port: Box<[Option<SocketId>]>,
    senders: Vec<(Ipv4Addr, Socket)>,
}

/// A socket whose datagrams arrive in a lane.
pub(crate) struct Steered {
    local: SocketAddr,
    next: Option<SocketId>,
    /// What its datagrams begin with; IPv6 sends from its own socket.
    pub(crate) head: Option<Head>,
    /// Still in the lane.
    in_lane: bool,
    /// Datagrams in the second that is counted, and which that is.
    count: (u32, u64),
}

impl Steered {
    /// Its own socket is read by itself.
    pub(crate) fn is_out(&self) -> bool {
        !self.in_lane
    }
}

impl Shared {
    /// Opens the lanes.
    ///
    /// # Errors
    /// [`NetError::Unavailable`] with a reason for a person.
    pub(crate) fn open(steering: &Steering) -> Result<Self, NetError> {
        let mut shared = Shared {
            steering: steering.clone(),
            lanes: Vec::new(),
            by_port: vec![None; 1 << 16].into_boxed_slice(),
            senders: Vec::new(),
        };
        shared.sender(Ipv4Addr::LOCALHOST)?;
        shared.lane(Ipv4Addr::LOCALHOST.into())?;
        match shared.lane(Ipv6Addr::LOCALHOST.into()) {
            // Without IPv6 there is nothing to steer.
            Err(NetError::Bind { .. }) | Ok(()) => Ok(shared),
            Err(error) => Err(error),
        }
    }

    /// Bound to loopback: nothing comes in but what is steered, or sent from this machine on purpose and then dropped.
    fn lane(&mut self, ip: IpAddr) -> Result<(), NetError> {
        let socket = bind::udp(SocketAddr::new(ip, 0), &bind::Options::default())?;
        let fd = socket.as_raw_fd();
        sys::force_receive_buffer(fd, limits::LANE_BYTES)
            .and_then(|()| sys::tell_destination(fd, ip.is_ipv6()))
            .map_err(|error| unavailable(why(&error)))?;
        let lane = self.steering.lane(fd)?;
        self.lanes.push((socket, lane));
        Ok(())
    }

    /// The lanes' descriptors, in the order in which [`Shared::steer`] knows them.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = RawFd> {
        self.lanes.iter().map(|(socket, _)| socket.as_raw_fd())
    }

    pub(crate) fn lane_fd(&self, lane: usize) -> Option<RawFd> {
        self.lanes.get(lane).map(|(socket, _)| socket.as_raw_fd())
    }

    /// The raw socket that sends from `ip`. Bound to it, so that the kernel's rules for routes by source hold.
    fn sender(&mut self, ip: Ipv4Addr) -> Result<RawFd, NetError> {
        if let Some((_, socket)) = self.senders.iter().find(|(bound, _)| *bound == ip) {
            return Ok(socket.as_raw_fd());
        }
        let open = || {
            // IPPROTO_RAW: headers are ours, and nothing is ever received.
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
            socket.bind(&SocketAddr::from((ip, 0)).into())?;
            Ok(socket)
        };
        let socket: Socket = open().map_err(|source| {
            let op = "socket(SOCK_RAW)";
            unavailable(why(&NetError::Io { op, source }))
        })?;
        sys::force_send_buffer(socket.as_raw_fd(), limits::SENDER_BYTES)
            .map_err(|error| unavailable(why(&error)))?;
        let fd = socket.as_raw_fd();
        self.senders.push((ip, socket));
        Ok(fd)
    }

    /// Steers the port of `socket`, known as `id`, into a lane; `None` when it is to be read by itself.
    pub(crate) fn steer(&mut self, id: SocketId, socket: &UdpSocket) -> Option<Steered> {
        let local = socket.local_addr().ok()?;
        let options = SockRef::from(socket);
        let is_plain = match local {
            SocketAddr::V4(_) => true,
            SocketAddr::V6(_) => options.only_v6().ok()?,
        };
        if !is_plain || local.ip().is_unspecified() || socket.peer_addr().is_ok() {
            return None;
        }
        let lane = self.lanes.get(usize::from(local.is_ipv6()))?.1;
        let head = match local {
            SocketAddr::V4(local) => Some(self.head(local, &options)?),
            SocketAddr::V6(_) => None,
        };
        self.steering.steer(local, lane).ok()?;
        let next = self.by_port[usize::from(local.port())].replace(id);
        Some(Steered {
            local,
            next,
            head,
            in_lane: true,
            count: (0, 0),
        })
    }

    fn head(&mut self, local: SocketAddrV4, options: &SockRef<'_>) -> Option<Head> {
        let sender = self.sender(*local.ip()).ok()?;
        let (class, ttl) = (options.tos_v4().ok()?, options.ttl_v4().ok()?);
        Some(Head::new(sender, local, class as u8, ttl as u8))
    }

    /// The port goes back to its socket.
    pub(crate) fn release(&mut self, id: SocketId, gone: &Steered, sockets: &mut Slab<Option<Steered>>) {
        self.steering.release(gone.local);
        let first = &mut self.by_port[usize::from(gone.local.port())];
        if *first == Some(id) {
            *first = gone.next;
            return;
        }
        let mut at = *first;
        while let Some(other) = at.and_then(|at| sockets.entry_mut(at)?.state.as_mut()) {
            if other.next == Some(id) {
                other.next = gone.next;
                return;
            }
            at = other.next;
        }
    }

    /// A hint: [`Self::receiver`] is asked for `local` soon …
    pub(crate) fn prefetch_port(&self, local: SocketAddr, _: &Slab<Option<Steered>>) {
        sys::prefetch(std::ptr::from_ref(&self.by_port[usize::from(local.port())]).cast());
    }

    /// … and the port's line has come.
    pub(crate) fn prefetch_socket(&self, local: SocketAddr, sockets: &Slab<Option<Steered>>) {
        if let Some(id) = self.by_port[usize::from(local.port())] {
            sockets.prefetch(id);
        }
    }

    /// Whose a datagram to `local` is, which comes in the given second of this backend's life. The first one beyond the
    /// bound puts the port out of the lane; what waits in it already is still given.
    pub(crate) fn receiver(
        &self,
        local: SocketAddr,
        second: u64,
        sockets: &mut Slab<Option<Steered>>,
    ) -> Option<SocketId> {
        let mut at = self.by_port[usize::from(local.port())];
        while let Some(id) = at {
            let steered = sockets.entry_mut(id)?.state.as_mut()?;
            if steered.local.ip() == local.ip() {
                let (count, of) = &mut steered.count;
                *count = if *of == second { *count + 1 } else { 1 };
                *of = second;
                if *count > limits::LANE_PORT_PER_S && steered.in_lane {
                    steered.in_lane = false;
                    self.steering.release(local);
                }
                return Some(id);
            }
            at = steered.next;
        }
        None
    }

    /// Datagrams that the kernel dropped because a lane was full.
    pub(crate) fn overrun(&self) -> u64 {
        self.lanes().map(sys::dropped).sum()
    }

    /// No port is steered any more.
    pub(crate) fn release_all(&self, sockets: &mut Slab<Option<Steered>>) {
        sockets.each(|entry| {
            if let Some(steered) = &entry.state {
                self.steering.release(steered.local);
            }
        });
    }
}

/// Whether a datagram of `len` bytes to `to` can go with a header of ours.
pub(crate) fn goes_raw(len: usize, to: SocketAddrV4) -> bool {
    len <= header::PAYLOAD_MAX && to.port() != 0
}
