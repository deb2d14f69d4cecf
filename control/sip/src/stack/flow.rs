//! Where messages come from and go to.

use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// RFC 3261 §18.
    Udp,
    /// RFC 3261 §18.
    Tcp,
    /// RFC 3261 §26.2.1.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS (RFC 7118).
    Wss,
}

impl Transport {
    /// The token in a Via.
    pub fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// The value of a URI's `transport` parameter; WSS is `ws` in a `sips:` URI, and `wss` in the wild.
    pub fn uri_token(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Reads either token, in any case.
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        let all = [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss];
        all.into_iter()
            .find(|transport| text.eq_ignore_ascii_case(transport.via_token().as_bytes()))
    }

    /// True when nothing gets lost on the way (all but UDP).
    pub fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// The port that is meant when none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

/// The caller's name for a socket or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

/// A way to one peer: a connection, or a UDP socket with the peer's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The protocol.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Which socket (UDP) or connection.
    pub id: FlowId,
}

/// Where a message is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Over this socket or connection and nowhere else.
    Flow(Flow),
    /// To an address; an existing connection to it may be used.
    Address {
        /// The protocol.
        transport: Transport,
        /// The peer's address.
        remote: SocketAddr,
        /// The name its certificate must have (TLS, WSS), and the WebSocket host.
        server_name: Option<Bytes>,
    },
}

impl Target {
    /// An address without a name to check.
    pub fn address(transport: Transport, remote: SocketAddr) -> Self {
        Self::Address {
            transport,
            remote,
            server_name: None,
        }
    }

    /// The protocol.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Flow(flow) => flow.transport,
            Self::Address { transport, .. } => *transport,
        }
    }

    /// The peer's address.
    pub fn remote(&self) -> SocketAddr {
        match self {
            Self::Flow(flow) => flow.remote,
            Self::Address { remote, .. } => *remote,
        }
    }
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub target: Target,
    /// Where to when `target` is a connection that is gone (RFC 3261 §18.2.2: responses; RFC 5923 otherwise).
    pub fallback: Option<Target>,
    /// The message.
    pub bytes: Bytes,
}

/// How ill a socket at `local` suits to reach `remote`, where nothing else says which of ours to take: the least is the
/// best. What stays on this machine goes by its loopback, what stays in a private network by an address there, and of
/// several by the one that has most in common with the other. The kernel chooses for who listens on all addresses.
pub fn distance(local: IpAddr, remote: IpAddr) -> (bool, bool, u32) {
    let (local, remote) = (local.to_canonical(), remote.to_canonical());
    if local.is_unspecified() {
        return (false, false, 0);
    }
    let differing_bits = match (local, remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => 32 - (local.to_bits() ^ remote.to_bits()).leading_zeros(),
        (IpAddr::V6(local), IpAddr::V6(remote)) => 128 - (local.to_bits() ^ remote.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 128,
    };
    let is_private = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    (
        local.is_loopback() != remote.is_loopback(),
        is_private(local) != is_private(remote),
        differing_bits,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_several_addresses_sends_from_one_that_leads_there() {
        let own = [
            "127.0.0.1",
            "10.8.0.1",
            "10.9.0.1",
            "192.0.2.1",
            "::1",
            "2001:db8::1",
        ];
        let own = own.map(|ip| ip.parse::<IpAddr>().unwrap());
        for (remote, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("10.9.0.7", "10.9.0.1"),
            ("10.8.255.7", "10.8.0.1"),
            ("198.51.100.7", "192.0.2.1"),
            ("::1", "::1"),
            ("2001:db8:5::7", "2001:db8::1"),
            ("::ffff:10.9.0.7", "10.9.0.1"),
        ] {
            let remote: IpAddr = remote.parse().unwrap();
            let of_family = |ip: &&IpAddr| ip.is_ipv4() == remote.to_canonical().is_ipv4();
            let best = own
                .iter()
                .filter(of_family)
                .min_by_key(|ip| distance(**ip, remote));
            assert_eq!(best, expected.parse().ok().as_ref(), "{remote}");
        }
        let any = "0.0.0.0".parse().unwrap();
        assert_eq!(distance(any, own[3]), (false, false, 0));
    }
}
