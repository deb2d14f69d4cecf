//! A SIP user agent on one UDP socket, for thousands of dialogs at once.

use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use sip::header::NameAddr;
use sip::message::{HeaderName, Method, Request};
use sip::stack::{Event, Flow, FlowId, Identity, Stack, StackConfig, Target, Transport};
use sip::uri::{Host, Uri};

use super::DOMAIN;

/// Datagrams taken in one turn, so that sending audio is not kept waiting.
const DATAGRAMS_PER_TURN: usize = 32;
/// Longest SIP message over UDP.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// See the module.
#[derive(Debug)]
pub struct UserAgent {
    socket: UdpSocket,
    local: SocketAddr,
    server: SocketAddr,
    buffer: Box<[u8]>,
    pub(super) stack: Stack,
}

impl UserAgent {
    /// Binds `local`; requests go to `server`.
    ///
    /// # Errors
    /// The port is taken.
    pub fn bind(local: SocketAddrV4, server: SocketAddrV4, seed: u8) -> anyhow::Result<UserAgent> {
        let socket = UdpSocket::bind(local).with_context(|| format!("bind {local} for SIP"))?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let mut config = StackConfig::new(vec![Identity::new(Transport::Udp, local, local)]);
        config.session_timer = None;
        Ok(UserAgent {
            socket,
            local,
            server: server.into(),
            buffer: vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice(),
            stack: Stack::new(config, [seed; 32]),
        })
    }

    /// Takes in what has come and runs the timers that are due; returns how many datagrams there were.
    ///
    /// # Errors
    /// The socket fails.
    pub(super) fn turn(&mut self, now: Instant) -> anyhow::Result<usize> {
        let mut count = 0;
        while count < DATAGRAMS_PER_TURN {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((length, remote)) => {
                    count += 1;
                    let flow = Flow {
                        transport: Transport::Udp,
                        local: self.local,
                        remote,
                        id: FlowId(0),
                    };
                    let bytes = Bytes::copy_from_slice(&self.buffer[..length]);
                    self.stack.handle_message(now, flow, bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // An earlier datagram met a closed port.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error).context("receive SIP"),
            }
        }
        if self.stack.poll_timeout().is_some_and(|due| due <= now) {
            self.stack.handle_timeout(now);
        }
        Ok(count)
    }

    /// What the stack has to tell, oldest first.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.stack.poll_event()
    }

    /// Sends what the stack wrote.
    ///
    /// # Errors
    /// The socket fails.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        while let Some(transmit) = self.stack.poll_transmit() {
            match self.socket.send_to(&transmit.bytes, transmit.target.remote()) {
                Ok(_) => {}
                // As good as lost on the way: the transaction repeats it.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
                Err(error) => return Err(error).context("send SIP"),
            }
        }
        Ok(())
    }

    /// A request of `from` about `to`, users of the server's domain; with a user, `to` is called as well.
    ///
    /// # Errors
    /// Never for the names of this bench.
    pub(super) fn draft(&self, method: Method, from: &str, to: &str) -> anyhow::Result<Request> {
        let host = Host::parse(Bytes::from_static(DOMAIN.as_bytes())).context("the domain")?;
        let address = |user: &str| Uri::sip(Some(user), &host, None);
        let uri = if method == Method::Register {
            Uri::sip(None, &host, None)
        } else {
            address(to)
        };
        let mut request = Request::new(method, &uri);
        let headers = &mut request.headers;
        headers.push_value(HeaderName::From, &NameAddr::new(address(from)));
        headers.push_value(HeaderName::To, &NameAddr::new(address(to)));
        Ok(request)
    }

    /// Where requests go.
    pub(super) fn target(&self) -> Target {
        Target::address(Transport::Udp, self.server)
    }

    /// Where `user` is reached.
    pub(super) fn contact(&self, user: &str) -> NameAddr {
        let host = Host::from(self.local.ip());
        NameAddr::new(Uri::sip(Some(user), &host, Some(self.local.port())))
    }
}
