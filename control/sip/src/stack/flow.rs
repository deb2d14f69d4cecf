//! Where messages come from and go to.

use bytes::Bytes;
use std::net::SocketAddr;

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
