//! Datagrams.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use bytes::Bytes;
use sip::stack::{Flow, FlowId, Target, Transport};
use socket2::{Domain, Protocol, Type};

use super::{
    Counters,
    guard::{Guard, Verdict},
    stun,
};
use crate::{
    core::{Input, Inputs},
    limits,
};

/// A bound socket.
pub(super) struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
}

/// Its sending half, for the core thread.
pub(super) struct Sender {
    socket: UdpSocket,
    local: SocketAddr,
}

impl Socket {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            // Both families on one port need two sockets, each with addresses of its own kind.
            socket.set_only_v6(true)?;
        }
        // The kernel cuts them to what it allows.
        let _ = socket.set_recv_buffer_size(limits::UDP_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(limits::UDP_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn sender(&self) -> io::Result<Sender> {
        Ok(Sender {
            socket: self.socket.try_clone()?,
            local: self.local,
        })
    }

    /// Reads until the core thread is gone.
    pub(super) async fn read(self, inputs: Inputs, counters: Arc<Counters>, guard: Arc<Guard>) {
        let local = self.local;
        let socket = match tokio::net::UdpSocket::from_std(self.socket) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%local, %error, "cannot read datagrams"),
        };
        let mut buffer = vec![0; limits::DATAGRAM_BYTES];
        while socket.readable().await.is_ok() {
            for _ in 0..limits::DATAGRAMS_PER_TURN {
                let (length, remote) = match socket.try_recv_from(&mut buffer) {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The kernel's report about a datagram sent earlier: the transaction's timers tell.
                    Err(_) => continue,
                };
                counters.udp_received.fetch_add(1, Relaxed);
                let datagram = &buffer[..length];
                match kind_of(datagram) {
                    Kind::Keepalive => drop(counters.udp_keepalives.fetch_add(1, Relaxed)),
                    Kind::Strange => match stun::answer(datagram, remote) {
                        Some(answer) if !guard.refuses(Instant::now(), remote.ip()) => {
                            counters.udp_stun.fetch_add(1, Relaxed);
                            // Lost is lost: the phone asks again.
                            let _ = socket.try_send_to(&answer, remote);
                        }
                        _ => drop(counters.udp_strange.fetch_add(1, Relaxed)),
                    },
                    Kind::Sip => {
                        if guard.admit(Instant::now(), remote.ip(), datagram) != Verdict::Pass {
                            continue;
                        }
                        let flow = Flow {
                            transport: Transport::Udp,
                            local,
                            remote,
                            id: FLOW,
                        };
                        let input = Input::Message(flow, Bytes::copy_from_slice(datagram));
                        if inputs.offer(input).is_err() {
                            return;
                        }
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Sender {
    /// This socket can send there.
    pub(super) fn fits(&self, target: &Target) -> bool {
        match target {
            // By its address: a flow may be one that another process journalled.
            Target::Flow(flow) => flow.local == self.local,
            Target::Address { remote, .. } => remote.is_ipv4() == self.local.is_ipv4(),
        }
    }

    /// False: the kernel refused. A full buffer counts as sent: what is lost on UDP is sent again.
    pub(super) fn send(&self, datagram: &[u8], remote: SocketAddr) -> bool {
        match self.socket.send_to(datagram, remote) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
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

    #[test]
    fn a_taken_port_is_named() {
        let taken = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Socket::bind(taken.local()).err().unwrap();
        let text = super::super::bind_failed("udp", "signalling.udp", taken.local(), &error);
        let port = taken.local().port();
        let expected =
            format!("port {port} (udp, 127.0.0.1) is in use; set signalling.udp or stop the other process");
        assert_eq!(text, expected);
    }
}
