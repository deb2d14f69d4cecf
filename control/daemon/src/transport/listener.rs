//! Listeners of connections.

use std::{io, net::SocketAddr, time::Duration};

use sip::stack::Transport;
use tokio::net::TcpListener;

use super::streams::Streams;

/// A bound listener.
pub(super) struct Listener {
    listener: TcpListener,
    transport: Transport,
    local: SocketAddr,
}

impl Listener {
    pub(super) fn bind(transport: Transport, addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(addr),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections of an earlier life in TIME_WAIT must not keep us from starting.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(1_024)?;
        let listener = TcpListener::from_std(socket.into())?;
        let local = listener.local_addr()?;
        Ok(Self {
            listener,
            transport,
            local,
        })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    pub(super) async fn accept(self, streams: Streams) {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => streams.accepted(self.transport, stream, remote),
                Err(error) => {
                    // No descriptors left, mostly: waiting is all that helps.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
