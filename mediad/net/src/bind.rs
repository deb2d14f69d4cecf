//! Binding UDP sockets for media. Runs on the threads that prepare a session, not on the worker.
//!
//! Cost: `socket` and `bind`, one `setsockopt` for each option that is set (and for `v6only` with IPv6). A
//! pair costs twice that. Nothing else is asked of the kernel: backends need no non-blocking mode.

use crate::NetError;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// What a media socket is set up with. `None` leaves the system's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Differentiated services code point, 0 to 63; 46 (expedited forwarding) is usual for voice.
    pub dscp: Option<u8>,
    /// Receive buffer in bytes; the kernel doubles it and caps it at `net.core.rmem_max`.
    pub rcvbuf: Option<usize>,
    /// Send buffer in bytes; capped at `net.core.wmem_max`.
    pub sndbuf: Option<usize>,
    /// IPv6 sockets take no IPv4-mapped peers.
    pub v6only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            dscp: None,
            rcvbuf: None,
            sndbuf: None,
            v6only: true,
        }
    }
}

/// Binds one UDP socket; port 0 lets the kernel choose.
///
/// # Errors
/// [`NetError::InUse`] when the port is taken (try the next one), [`NetError::Bind`] otherwise; both name the address.
pub fn udp(addr: SocketAddr, options: &Options) -> Result<UdpSocket, NetError> {
    let fail = |what| move |source| NetError::Bind { addr, what, source };
    let socket =
        Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP)).map_err(fail("socket"))?;
    if addr.is_ipv6() {
        socket.set_only_v6(options.v6only).map_err(fail("IPV6_V6ONLY"))?;
    }
    if let Some(dscp) = options.dscp {
        // RFC 2474 §3: the code point is the upper six bits of the octet; the lower two are ECN's.
        let class = u32::from(dscp.min(63)) << 2;
        match addr.ip() {
            IpAddr::V4(_) => socket.set_tos_v4(class).map_err(fail("IP_TOS"))?,
            IpAddr::V6(_) => set_traffic_class(&socket, class).map_err(fail("IPV6_TCLASS"))?,
        }
    }
    if let Some(bytes) = options.rcvbuf {
        socket.set_recv_buffer_size(bytes).map_err(fail("SO_RCVBUF"))?;
    }
    if let Some(bytes) = options.sndbuf {
        socket.set_send_buffer_size(bytes).map_err(fail("SO_SNDBUF"))?;
    }
    socket.bind(&addr.into()).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => NetError::InUse { addr },
        _ => NetError::Bind {
            addr,
            what: "bind",
            source,
        },
    })?;
    Ok(socket.into())
}

/// Binds an RTP socket on the even port `port` and its RTCP socket on the next one (RFC 3550 §11).
///
/// # Errors
/// [`NetError::OddPort`] for an odd port or zero; otherwise as [`udp`]. Nothing stays bound.
pub fn pair(ip: IpAddr, port: u16, options: &Options) -> Result<(UdpSocket, UdpSocket), NetError> {
    let addr = SocketAddr::new(ip, port);
    if port == 0 || !port.is_multiple_of(2) {
        return Err(NetError::OddPort { addr });
    }
    let rtp = udp(addr, options)?;
    let rtcp = udp(SocketAddr::new(ip, port + 1), options)?;
    Ok((rtp, rtcp))
}

fn set_traffic_class(socket: &Socket, class: u32) -> io::Result<()> {
    let value = class as libc::c_int;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option value is a c_int that lives across the call, and `len` is its size.
    let rc = unsafe {
        let value = (&raw const value).cast();
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_TCLASS,
            value,
            len,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[test]
    fn options_reach_the_socket() {
        let options = Options {
            dscp: Some(46),
            rcvbuf: Some(65_536),
            sndbuf: Some(32_768),
            v6only: true,
        };
        let socket = udp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let seen = SockRef::from(&socket);
        assert_eq!(seen.tos_v4().unwrap(), 0xb8);
        assert_eq!(
            seen.recv_buffer_size().unwrap(),
            2 * 65_536,
            "the kernel doubles it"
        );
        assert_eq!(seen.send_buffer_size().unwrap(), 2 * 32_768);
        let socket = udp("[::1]:0".parse().unwrap(), &options).unwrap();
        assert!(SockRef::from(&socket).only_v6().unwrap());
        assert_eq!(SockRef::from(&socket).tclass_v6().unwrap(), 0xb8);
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = udp("127.0.0.1:0".parse().unwrap(), &Options::default()).unwrap();
        let addr = first.local_addr().unwrap();
        let error = udp(addr, &Options::default()).unwrap_err();
        assert!(matches!(error, NetError::InUse { addr: taken } if taken == addr));
        assert!(error.to_string().contains(&addr.to_string()));
        let error = udp("192.0.2.1:4000".parse().unwrap(), &Options::default()).unwrap_err();
        assert!(error.to_string().contains("192.0.2.1:4000: bind"), "{error}");
    }

    #[test]
    fn pairs_are_even_and_odd_and_all_or_nothing() {
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(matches!(
            pair(ip, 0, &Options::default()),
            Err(NetError::OddPort { .. })
        ));
        assert!(matches!(
            pair(ip, 30_001, &Options::default()),
            Err(NetError::OddPort { .. })
        ));
        let (port, (rtp, rtcp)) = (20_100..30_000)
            .step_by(2)
            .find_map(|port| Some((port, pair(ip, port, &Options::default()).ok()?)))
            .expect("some pair is free");
        assert_eq!(
            (
                rtp.local_addr().unwrap().port(),
                rtcp.local_addr().unwrap().port()
            ),
            (port, port + 1)
        );
        drop(rtp);
        assert!(
            matches!(pair(ip, port, &Options::default()), Err(NetError::InUse { .. })),
            "rtcp is taken"
        );
        drop(rtcp);
        pair(ip, port, &Options::default()).unwrap();
    }
}
