//! UDP sockets of the generator: batched send, batched receive with the kernel's arrival time.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrIn, bind,
    recvmmsg, sendmmsg, setsockopt, socket, sockopt,
};

use super::stamp::SLOT_BYTES;

/// Datagrams per system call.
pub(super) const BATCH: usize = 32;
/// Longer datagrams are cut: nothing the generator judges is longer.
const RX_BYTES: usize = 256;
/// A second of packets at the highest rates: the sink itself must not lose any.
const RX_BUFFER_BYTES: usize = 64 << 20;

/// A bound UDP socket with the buffers of its batches.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    address: SocketAddrV4,
    tx: TxBatch,
    rx: Box<[[u8; RX_BYTES]; BATCH]>,
    rx_headers: MultiHeaders<SockaddrIn>,
}

#[derive(Debug)]
struct TxBatch {
    headers: MultiHeaders<SockaddrIn>,
    packets: Box<[[u8; SLOT_BYTES]; BATCH]>,
    lengths: [usize; BATCH],
    addresses: [Option<SockaddrIn>; BATCH],
    count: usize,
}

/// A datagram as the sink sees it.
#[derive(Debug)]
pub(super) struct Received<'a> {
    /// The datagram's bytes (at most 256 are kept).
    pub bytes: &'a mut [u8],
    /// UDP port it came from.
    pub from_port: u16,
    /// Kernel's arrival time (`SO_TIMESTAMPNS`), nanoseconds since the epoch; 0 if the kernel gave none.
    pub at_ns: u64,
}

impl Socket {
    /// Binds `address` and asks for arrival times and a deep receive buffer.
    ///
    /// # Errors
    /// The address is in use or not local.
    pub(super) fn bind(address: SocketAddrV4) -> anyhow::Result<Socket> {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            None,
        )
        .context("a UDP socket")?;
        // Beyond net.core.rmem_max needs CAP_NET_ADMIN; without it the kernel caps the ordinary option.
        if setsockopt(&fd, sockopt::RcvBufForce, &RX_BUFFER_BYTES).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &RX_BUFFER_BYTES).context("receive buffer")?;
        }
        setsockopt(&fd, sockopt::ReceiveTimestampns, &true).context("SO_TIMESTAMPNS")?;
        bind(fd.as_raw_fd(), &SockaddrIn::from(address)).with_context(|| format!("bind {address}"))?;
        let cmsg = nix::cmsg_space!(nix::sys::time::TimeSpec);
        Ok(Socket {
            fd,
            address,
            tx: TxBatch {
                headers: MultiHeaders::preallocate(BATCH, None),
                packets: Box::new([[0; SLOT_BYTES]; BATCH]),
                lengths: [0; BATCH],
                addresses: [None; BATCH],
                count: 0,
            },
            rx: Box::new([[0; RX_BYTES]; BATCH]),
            rx_headers: MultiHeaders::preallocate(BATCH, Some(cmsg)),
        })
    }

    /// The bound address.
    #[must_use]
    pub(super) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// The next free packet of the batch; send with [`Socket::flush`] when [`Socket::is_full`].
    #[inline]
    pub(super) fn stage(&mut self, to: SockaddrIn, length: usize) -> &mut [u8; SLOT_BYTES] {
        let slot = self.tx.count;
        self.tx.count += 1;
        self.tx.addresses[slot] = Some(to);
        self.tx.lengths[slot] = length;
        &mut self.tx.packets[slot]
    }

    /// No room for another packet.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.tx.count == BATCH
    }

    /// Sends what is staged; returns how many the kernel refused.
    ///
    /// # Errors
    /// Anything but a full queue or a refusal reported from an earlier datagram.
    pub(super) fn flush(&mut self) -> anyhow::Result<usize> {
        let count = std::mem::take(&mut self.tx.count);
        let mut done = 0;
        let mut refused = 0;
        while done < count {
            match self.tx.send(self.fd.as_raw_fd(), done, count) {
                Ok(sent) => done += sent,
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ECONNREFUSED | Errno::EPERM) => {
                    done += 1;
                    refused += 1;
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).with_context(|| format!("send from {}", self.address)),
            }
        }
        Ok(refused)
    }

    /// Receives one batch without blocking and hands each datagram to `sink`; returns how many there were.
    ///
    /// # Errors
    /// Anything but an empty socket.
    pub(super) fn receive(&mut self, mut sink: impl FnMut(Received<'_>)) -> anyhow::Result<usize> {
        let mut slices = self.rx.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let results = recvmmsg(
            self.fd.as_raw_fd(),
            &mut self.rx_headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        );
        let messages = match results {
            Ok(messages) => messages,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(0),
            Err(errno) => return Err(errno).with_context(|| format!("receive on {}", self.address)),
        };
        let mut count = 0;
        // What the messages say of lengths and senders is taken out before their bytes are handed on to be written to.
        let mut told = [(0_usize, 0_u16, 0_u64); BATCH];
        for (message, told) in messages.zip(&mut told) {
            count += 1;
            let at_ns = match message.cmsgs().ok().and_then(|mut all| all.next()) {
                Some(ControlMessageOwned::ScmTimestampns(at)) => {
                    at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64
                }
                _ => 0,
            };
            let from_port = message.address.map_or(0, |from| from.port());
            *told = (message.bytes, from_port, at_ns);
        }
        for (buffer, (length, from_port, at_ns)) in self.rx.iter_mut().zip(told).take(count) {
            sink(Received {
                bytes: &mut buffer[..length.min(RX_BYTES)],
                from_port,
                at_ns,
            });
        }
        Ok(count)
    }
}

impl TxBatch {
    fn send(&mut self, fd: i32, from: usize, to: usize) -> nix::Result<usize> {
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            std::array::from_fn(|i| [IoSlice::new(&self.packets[i][..self.lengths[i]])]);
        let sent = sendmmsg(
            fd,
            &mut self.headers,
            &slices[from..to],
            &self.addresses[from..to],
            [],
            MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(sent.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_batch_arrives_whole_in_order_and_with_arrival_times() {
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let address = |s: &Socket| {
            let bound: SockaddrIn = nix::sys::socket::getsockname(s.fd.as_raw_fd()).unwrap();
            SocketAddrV4::from(bound)
        };
        let (mut tx, mut rx) = (Socket::bind(any).unwrap(), Socket::bind(any).unwrap());
        let (from, to) = (address(&tx), address(&rx));
        for round in 0..2u8 {
            for i in 0..BATCH {
                tx.stage(to.into(), 10 + i)[0] = round * 100 + i as u8;
            }
            assert!(tx.is_full());
            assert_eq!(tx.flush().unwrap(), 0);
            let mut seen = Vec::new();
            while seen.len() < BATCH {
                rx.receive(|datagram| {
                    assert!(datagram.at_ns > 1_600_000_000_000_000_000, "no arrival time");
                    assert_eq!(datagram.from_port, from.port());
                    seen.push((datagram.bytes[0], datagram.bytes.len()));
                })
                .unwrap();
            }
            let sent: Vec<_> = (0..BATCH).map(|i| (round * 100 + i as u8, 10 + i)).collect();
            assert_eq!(seen, sent);
        }
    }
}
