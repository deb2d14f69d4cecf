//! The sockets of the two sides of all calls.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Context;

use super::Call;
use super::socket::Socket;

/// Sockets of side A and side B, RTP and RTCP.
#[derive(Debug)]
pub struct Sides {
    /// RTP: side A's sockets first, then as many of side B.
    pub(super) rtp: Vec<Socket>,
    /// RTCP, in the same order: one port above each RTP socket.
    pub(super) rtcp: Vec<Socket>,
    per_side: usize,
}

impl Sides {
    /// Binds `per_side` RTP sockets for each side, with an RTCP socket above each, from `first_port` (even) on.
    ///
    /// # Errors
    /// A port is in use.
    pub fn open(ip: Ipv4Addr, first_port: u16, per_side: u16) -> anyhow::Result<Sides> {
        let per_side = per_side.max(1);
        let port = |i: u16| {
            first_port
                .checked_add(2 * i)
                .context("generator ports beyond 65535")
        };
        let mut sides = Sides {
            rtp: Vec::new(),
            rtcp: Vec::new(),
            per_side: usize::from(per_side),
        };
        for i in 0..2 * per_side {
            sides.rtp.push(Socket::bind(SocketAddrV4::new(ip, port(i)?))?);
            sides
                .rtcp
                .push(Socket::bind(SocketAddrV4::new(ip, port(i)? + 1))?);
        }
        Ok(sides)
    }

    /// The socket that serves one leg of a call.
    pub(super) fn socket_index(&self, call_index: usize, side: usize) -> usize {
        side * self.per_side + call_index % self.per_side
    }

    /// Calls that lead each side straight to the other, without a server; see [`super::LoadSpec::direct`].
    #[must_use]
    pub fn direct(&self, count: usize) -> Vec<Call> {
        (0..count)
            .map(|index| Call {
                a: self.address(index, 1),
                b: self.address(index, 0),
                srtp: None,
            })
            .collect()
    }

    /// RTP address of one leg of a call, to be signalled to the server. Side 0 is A.
    #[must_use]
    pub fn address(&self, call_index: usize, side: usize) -> SocketAddrV4 {
        self.rtp[self.socket_index(call_index, side)].address()
    }
}
