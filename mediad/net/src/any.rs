//! Choosing a backend at start and saying why.

use crate::mmsg::Mmsg;
use crate::uring::{Uring, unavailable};
use crate::{
    Backend, Config, Datagram, Handler, NetError, NetStats, SocketId, Transmit, Wake, Waker, bind, steering,
};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Which backend the operator wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// The one that costs least of those that work here.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll with `recvmmsg` and `sendmmsg`.
    Mmsg,
    /// The same with sockets that many ports share, or nothing.
    Shared,
}

/// Which backend was opened and why, one line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Its name.
    pub backend: &'static str,
    /// Why this one.
    pub why: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; using {}", self.why, self.backend)
    }
}

/// The backend that [`open`] chose; dispatch is static inside [`Backend::poll`].
#[allow(
    clippy::large_enum_variant,
    reason = "one per thread, never moved after the start"
)]
pub enum AnyBackend {
    /// epoll, with or without shared sockets.
    Mmsg(Mmsg),
    /// io_uring.
    Uring(Uring),
}

/// Opens a backend on this thread, which must be the one that polls it.
///
/// `Auto` takes shared sockets where the process may have them, else io_uring where it works, else epoll. "Works" means that
/// a datagram sent through it to itself arrives.
/// Measured with the `relay` example (2 shared cores, Linux 6.18, loopback, SCHED_FIFO, interleaved runs of 2 s, 2 to 4
/// of each, medians, some of a slightly earlier revision; absolute values are this machine's, the ratios are what counts):
///
/// | load, tick | io_uring: CPU a packet, p50 / p99 added | epoll |
/// |---|---|---|
/// | 100 kpps, 2 000 sockets, 500 us | 2.9 us, 0.23 / 1.0 to 1.4 ms | 3.3 us, 0.24 / 2.5 to 4.2 ms |
/// | 115 kpps, 2 300 sockets, 250 us (1 of each) | 3.5 us, 0.12 / 2.8 ms | 3.8 us, 0.12 / 4.9 ms |
/// | 300 kpps, 5 200 sockets, 500 us | 2.6 us, 0.4 / 7 to 12 ms | 3.1 us, 0.6 to 1.5 / 41 to 54 ms |
///
/// io_uring costs a tenth to a sixth less CPU and has the shorter tails; it takes 10 MB a worker, mostly receive
/// buffers, where epoll takes 1 MB (with 1 024 buffers: 3.3 MB, the same CPU, and re-arms after a stall).
///
/// Shared sockets against io_uring, on a machine of half the speed (12 interleaved runs of 1 s, 100 kpps, 2 000 sockets,
/// 500 us): 7.1 us of CPU a packet (6.6 to 8.0) against 8.5 (8.2 to 9.3). All of it is the sending: with the lane but
/// without the raw socket, 8.8. Other ways to send raw (IPPROTO_UDP, so that the kernel caches the route): no difference.
///
/// # Errors
/// [`NetError::Unavailable`] when the choice cannot work here; [`NetError::Config`] and [`NetError::Limit`] for
/// sizes that cannot be had.
pub fn open(choice: IoChoice, config: &Config) -> Result<(AnyBackend, Reason), NetError> {
    let mmsg = |why: String| {
        let backend = AnyBackend::Mmsg(Mmsg::open(config)?);
        Ok((
            backend,
            Reason {
                backend: "epoll+sendmmsg",
                why,
            },
        ))
    };
    let uring = |backend, why: &str| {
        (
            AnyBackend::Uring(backend),
            Reason {
                backend: "io_uring",
                why: why.to_owned(),
            },
        )
    };
    let shared = |backend, why: &str| {
        let reason = Reason {
            backend: "sk_lookup+sendmmsg",
            why: why.to_owned(),
        };
        (AnyBackend::Mmsg(backend), reason)
    };
    match choice {
        IoChoice::Mmsg => mmsg("asked for".to_owned()),
        IoChoice::Uring => Ok(uring(open_uring(config)?, "asked for")),
        IoChoice::Shared => Ok(shared(open_shared(config)?, "asked for")),
        IoChoice::Auto => {
            let no_sharing = match open_shared(config) {
                Ok(backend) => return Ok(shared(backend, "ports can be shared here")),
                Err(NetError::Unavailable { backend, reason }) => format!("{backend}: {reason}"),
                Err(other) => return Err(other),
            };
            match open_uring(config) {
                Ok(backend) => Ok(uring(backend, &no_sharing)),
                Err(NetError::Unavailable { backend, reason }) => {
                    mmsg(format!("{no_sharing}; {backend}: {reason}"))
                }
                Err(other) => Err(other),
            }
        }
    }
}

/// Opens the backend with shared sockets and sends one datagram through them.
fn open_shared(config: &Config) -> Result<Mmsg, NetError> {
    let mut backend = Mmsg::open_shared(config)?;
    probe(&mut backend).map_err(steering::unavailable)?;
    if backend.through_lanes() == 0 {
        return Err(steering::unavailable(
            "a datagram sent to itself was not steered".to_owned(),
        ));
    }
    backend.reset_stats();
    Ok(backend)
}

/// Opens io_uring and sends one datagram through it: no list of operations tells whether multishot receives,
/// the buffer ring and sends with an address really work here.
fn open_uring(config: &Config) -> Result<Uring, NetError> {
    let mut backend = Uring::open(config)?;
    probe(&mut backend).map_err(unavailable)?;
    backend.reset_stats();
    Ok(backend)
}

/// A datagram that `backend` sends to itself arrives.
fn probe(backend: &mut impl Backend) -> Result<(), String> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let text = |error: NetError| error.to_string();
    let socket = bind::udp(addr, &bind::Options::default()).map_err(text)?;
    let addr = socket.local_addr().map_err(|error| error.to_string())?;
    let id = backend.register(socket).map_err(text)?;
    let mut probe = Probe {
        id,
        addr,
        sent: false,
        received: false,
    };
    let give_up = Instant::now() + PROBE_TIME;
    while !probe.received && Instant::now() < give_up {
        let deadline = if probe.sent { give_up } else { Instant::now() };
        backend.poll(Some(deadline), &mut probe).map_err(text)?;
    }
    backend.unregister(id);
    if !probe.received {
        let (rx, tx) = (backend.stats().rx_errors, backend.stats().tx_drops);
        return Err(format!(
            "a datagram sent to itself did not arrive ({rx:?}, {tx:?})"
        ));
    }
    Ok(())
}

/// How long the probe's datagram may take on loopback.
const PROBE_TIME: Duration = Duration::from_secs(1);

const PROBE_BYTES: &[u8] = b"media-net probe";

struct Probe {
    id: SocketId,
    addr: SocketAddr,
    sent: bool,
    received: bool,
}

impl Handler for Probe {
    fn datagram<T: Transmit>(&mut self, datagram: Datagram<'_>, _tx: &mut T) {
        self.received |= datagram.from == self.addr && datagram.data == PROBE_BYTES;
    }

    fn end<T: Transmit>(&mut self, tx: &mut T) {
        if !self.sent
            && let Some(slot) = tx.slot()
        {
            slot[..PROBE_BYTES.len()].copy_from_slice(PROBE_BYTES);
            tx.commit(PROBE_BYTES.len(), self.id, self.addr);
            self.sent = true;
        }
    }
}

macro_rules! each {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            AnyBackend::Mmsg($backend) => $call,
            AnyBackend::Uring($backend) => $call,
        }
    };
}

impl Backend for AnyBackend {
    fn register(&mut self, socket: UdpSocket) -> Result<SocketId, NetError> {
        each!(self, backend => backend.register(socket))
    }

    fn unregister(&mut self, id: SocketId) -> Option<UdpSocket> {
        each!(self, backend => backend.unregister(id))
    }

    fn waker(&self) -> Waker {
        each!(self, backend => backend.waker())
    }

    fn poll<H: Handler>(&mut self, deadline: Option<Instant>, handler: &mut H) -> Result<Wake, NetError> {
        each!(self, backend => backend.poll(deadline, handler))
    }

    fn stats(&self) -> &NetStats {
        each!(self, backend => backend.stats())
    }

    fn socket_count(&self) -> usize {
        each!(self, backend => backend.socket_count())
    }
}
