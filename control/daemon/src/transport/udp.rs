//! Datagrams. The core thread itself reads and writes them: another thread in between would wake it once more for each.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    sync::atomic::Ordering::Relaxed,
    task::Context,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use nix::{
    errno::Errno,
    sys::socket::{
        ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
    },
    sys::time::TimeSpec,
};
use sip::stack::{Flow, FlowId, Target, Transport, distance};
use socket2::{Domain, Protocol, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Counters,
    guard::{Guard, Verdict},
    stun,
};
use crate::limits;

/// A bound socket that the core thread waits for.
pub(super) struct Socket {
    socket: AsyncFd<UdpSocket>,
    local: SocketAddr,
    /// Datagrams that the kernel dropped because nobody read in time, as it said last.
    overflowed: u32,
    /// How many to ask for.
    portion: usize,
}

/// Room for the datagrams of one system call, shared by all sockets.
pub(crate) struct Inbox {
    buffers: Vec<Vec<u8>>,
    told: Vec<Told>,
}

/// What the kernel says of a datagram.
struct Told {
    length: usize,
    remote: Option<SocketAddr>,
    /// Drops of the socket until now.
    overflowed: Option<u32>,
    /// When it came.
    came: Option<SystemTime>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buffers: vec![vec![0; limits::DATAGRAM_BYTES]; limits::DATAGRAMS_PER_CALL],
            told: Vec::with_capacity(limits::DATAGRAMS_PER_CALL),
        }
    }
}

/// A socket for datagrams at this address.
pub(super) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        // Both families on one port need two sockets, each with addresses of its own kind.
        socket.set_only_v6(true)?;
    }
    // The kernel cuts them to what it allows.
    let _ = socket.set_recv_buffer_size(limits::UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(limits::UDP_BUFFER_BYTES);
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(UdpSocket::from(socket))
}

impl Socket {
    /// Needs the runtime of the thread that reads it. Reading only: asked also whether there is room to send, the kernel
    /// would wake the thread after each datagram sent.
    #[expect(
        deprecated,
        reason = "what follows it is unsafe and asks that the descriptor stays open and the same: it is this socket's own"
    )]
    pub(super) fn watch(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self {
            local: socket.local_addr()?,
            socket: AsyncFd::with_interest(socket, Interest::READABLE)?,
            overflowed: 0,
            portion: limits::DATAGRAMS_PER_CALL_FEW,
        })
    }

    /// Something may be there to read; if not, the context is woken when there is.
    pub(super) fn poll_ready(&self, context: &mut Context<'_>) -> bool {
        self.socket.poll_read_ready(context).is_ready()
    }

    #[cfg(test)]
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// This socket can send there.
    pub(super) fn fits(&self, target: &Target) -> bool {
        match target {
            // By its address: a flow may be one that another process journalled.
            Target::Flow(flow) => flow.local == self.local,
            Target::Address { remote, .. } => remote.is_ipv4() == self.local.is_ipv4(),
        }
    }

    /// See [`distance`].
    pub(super) fn distance(&self, target: &Target) -> (bool, bool, u32) {
        distance(self.local.ip(), target.remote().ip())
    }

    /// False: the kernel refused. A full buffer counts as sent: what is lost on UDP is sent again.
    pub(super) fn send(&self, datagram: &[u8], remote: SocketAddr) -> bool {
        match self.socket.get_ref().send_to(datagram, remote) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Takes what one system call gives, if it is ready; messages that the guard lets pass end in `arrived`. Gives how
    /// long the first of them had waited for it.
    pub(super) fn receive(
        &mut self,
        inbox: &mut Inbox,
        counters: &Counters,
        guard: &Guard,
        arrived: &mut Vec<(Flow, Bytes)>,
    ) -> Option<Duration> {
        // An edge tells of datagrams: the socket counts as ready until it gives less than it was asked for.
        let portion = self.portion;
        let filled = self
            .socket
            .try_io(Interest::READABLE, |socket| fill(socket, inbox, portion));
        self.portion = match inbox.told.len() {
            few if few < limits::DATAGRAMS_PER_CALL_FEW => limits::DATAGRAMS_PER_CALL_FEW,
            _ => limits::DATAGRAMS_PER_CALL,
        };
        if let Err(error) = filled
            && error.kind() != io::ErrorKind::WouldBlock
        {
            tracing::debug!(local = %self.local, %error, "cannot read datagrams");
        }
        let now = SystemTime::now();
        let first = inbox.told.first().and_then(|told| told.came);
        // A clock that was set in between tells nothing.
        let waited = first.and_then(|came| now.duration_since(came).ok());
        for (buffer, told) in inbox.buffers.iter().zip(inbox.told.drain(..)) {
            if let Some(now) = told.overflowed {
                let new = now.wrapping_sub(std::mem::replace(&mut self.overflowed, now));
                counters.udp_overflowed.fetch_add(new.into(), Relaxed);
            }
            counters.udp_received.fetch_add(1, Relaxed);
            let Some(remote) = told.remote else { continue };
            self.sort(&buffer[..told.length], remote, counters, guard, arrived);
        }
        waited
    }

    fn sort(
        &self,
        datagram: &[u8],
        remote: SocketAddr,
        counters: &Counters,
        guard: &Guard,
        arrived: &mut Vec<(Flow, Bytes)>,
    ) {
        match kind_of(datagram) {
            Kind::Keepalive => drop(counters.udp_keepalives.fetch_add(1, Relaxed)),
            Kind::Strange => match stun::answer(datagram, remote) {
                Some(answer) if !guard.refuses(Instant::now(), remote.ip()) => {
                    counters.udp_stun.fetch_add(1, Relaxed);
                    // Lost is lost: the phone asks again.
                    let _ = self.send(&answer, remote);
                }
                _ => drop(counters.udp_strange.fetch_add(1, Relaxed)),
            },
            Kind::Sip if guard.admit(Instant::now(), remote.ip(), datagram) == Verdict::Pass => {
                let flow = Flow {
                    transport: Transport::Udp,
                    local: self.local,
                    remote,
                    id: FLOW,
                };
                arrived.push((flow, Bytes::copy_from_slice(datagram)));
            }
            Kind::Sip => {}
        }
    }
}

/// One system call for so many. `WouldBlock`: there was no more than this.
fn fill(socket: &UdpSocket, inbox: &mut Inbox, portion: usize) -> io::Result<()> {
    let mut slices: Vec<_> = inbox.buffers[..portion]
        .iter_mut()
        .map(|buffer| [IoSliceMut::new(buffer)])
        .collect();
    let fd = socket.as_raw_fd();
    // Made anew: the kernel writes lengths into them and nix does not set those back, which would cut the next address
    // and the count of drops.
    let room = nix::cmsg_space!(u32, TimeSpec);
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(portion, Some(room));
    match recvmmsg(fd, &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
        Ok(messages) => inbox.told.extend(messages.map(|message| {
            let (mut overflowed, mut came) = (None, None);
            for one in message.cmsgs().into_iter().flatten() {
                match one {
                    ControlMessageOwned::RxqOvfl(count) => overflowed = Some(count),
                    ControlMessageOwned::ScmTimestampns(at) => came = UNIX_EPOCH.checked_add(at.into()),
                    _ => {}
                }
            }
            Told {
                length: message.bytes,
                remote: message.address.as_ref().and_then(address_of),
                overflowed,
                came,
            }
        })),
        // The kernel reports about a datagram sent earlier: the transaction's timers tell. More may be there.
        Err(Errno::EINTR | Errno::ECONNREFUSED) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    if inbox.told.len() < portion {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
}

/// Of every UDP flow: its socket is known by its address, and connections are numbered from
/// [`streams::FIRST_ID`](super::streams::FIRST_ID).
const FLOW: FlowId = FlowId(0);

#[derive(Debug, PartialEq)]
enum Kind {
    Sip,
    /// Line ends or zeros, or nothing: what phones send to keep a NAT open.
    Keepalive,
    /// STUN, DTLS, RTP: nothing whose first byte could begin a SIP message.
    Strange,
}

fn kind_of(datagram: &[u8]) -> Kind {
    if datagram
        .iter()
        .all(|byte| matches!(byte, b'\r' | b'\n' | 0 | b' '))
    {
        return Kind::Keepalive;
    }
    match datagram[0] {
        b' '..=b'~' | b'\r' | b'\n' | b'\t' => Kind::Sip,
        _ => Kind::Strange,
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn keepalives_and_other_protocols_are_told_from_sip() {
        assert_eq!(kind_of(b"OPTIONS sip:a SIP/2.0\r\n"), Kind::Sip);
        assert_eq!(kind_of(b"\r\nOPTIONS"), Kind::Sip);
        for keepalive in [&b""[..], b"\r\n\r\n", b"\0\0\0\0"] {
            assert_eq!(kind_of(keepalive), Kind::Keepalive);
        }
        // A STUN binding request, an RTP packet.
        assert_eq!(kind_of(&[0, 1, 0, 0, 0x21, 0x12]), Kind::Strange);
        assert_eq!(kind_of(&[0x80, 0, 1, 2]), Kind::Strange);
    }

    fn socket_at(local: &str) -> Socket {
        Socket::watch(bind(local.parse().unwrap()).unwrap()).unwrap()
    }

    /// What arrives next at a socket.
    async fn received(socket: &mut Socket, inbox: &mut Inbox, counters: &Counters) -> Vec<(Flow, Bytes)> {
        let guard = Guard::new(crate::config::Config::default().sources);
        let mut arrived = Vec::new();
        while arrived.is_empty() {
            let ready = |context: &mut Context<'_>| match socket.poll_ready(context) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
            timeout(Duration::from_secs(20), poll_fn(ready))
                .await
                .expect("something arrives");
            socket.receive(inbox, counters, &guard, &mut arrived);
        }
        arrived
    }

    const MESSAGE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\n\r\n";

    #[tokio::test]
    async fn one_inbox_reads_addresses_of_both_families_whole() {
        let (mut inbox, counters) = (Inbox::default(), Counters::default());
        for _ in 0..3 {
            for local in ["127.0.0.1:0", "[::1]:0"] {
                let mut socket = socket_at(local);
                let sender = UdpSocket::bind(local).unwrap();
                sender.send_to(MESSAGE, socket.local()).unwrap();
                let arrived = received(&mut socket, &mut inbox, &counters).await;
                assert_eq!(arrived[0].0.remote, sender.local_addr().unwrap());
            }
        }
    }

    /// Nothing that arrived stays behind, whatever a system call takes.
    #[tokio::test]
    async fn more_than_one_portion_is_read_to_its_end() {
        let (mut inbox, counters) = (Inbox::default(), Counters::default());
        let mut socket = socket_at("127.0.0.1:0");
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for portions in [1, 2, 3] {
            let sent = portions * limits::DATAGRAMS_PER_CALL;
            for _ in 0..sent {
                sender.send_to(MESSAGE, socket.local()).unwrap();
            }
            let mut count = 0;
            while count < sent {
                count += received(&mut socket, &mut inbox, &counters).await.len();
            }
        }
    }

    #[tokio::test]
    async fn what_the_kernel_drops_is_counted_whatever_was_read_before() {
        let (mut inbox, counters) = (Inbox::default(), Counters::default());
        let mut socket = socket_at("127.0.0.1:0");
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(MESSAGE, socket.local()).unwrap();
        received(&mut socket, &mut inbox, &counters).await;
        assert_eq!(counters.udp_overflowed.load(Relaxed), 0);
        // More than any buffer that we ask for takes.
        let large = vec![b' '; 60_000];
        for _ in 0..4 * limits::UDP_BUFFER_BYTES / large.len() {
            sender.send_to(&large, socket.local()).unwrap();
        }
        // It is told with what arrives after the drops, which the spaces before it do not.
        while counters.udp_overflowed.load(Relaxed) == 0 {
            sender.send_to(MESSAGE, socket.local()).unwrap();
            received(&mut socket, &mut inbox, &counters).await;
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let local = taken.local_addr().unwrap();
        let error = bind(local).err().unwrap();
        let text = super::super::bind_failed("udp", "signalling.udp", local, &error);
        let port = local.port();
        let expected =
            format!("port {port} (udp, 127.0.0.1) is in use; set signalling.udp or stop the other process");
        assert_eq!(text, expected);
    }
}
