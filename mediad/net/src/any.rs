//! Choosing a backend at start and saying why.

use crate::mmsg::Mmsg;
use crate::{Backend, Config, Handler, NetError, NetStats, SocketId, Wake, Waker};
use std::fmt;
use std::net::UdpSocket;
use std::time::Instant;

/// Which backend the operator wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// The best one that works here.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll with `recvmmsg` and `sendmmsg`.
    Mmsg,
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
    /// epoll.
    Mmsg(Mmsg),
}

/// Opens a backend on this thread, which must be the one that polls it.
///
/// # Errors
/// [`NetError::Unavailable`] when the choice cannot work here; [`NetError::Config`] and [`NetError::Limit`] for
/// sizes that cannot be had.
pub fn open(choice: IoChoice, config: &Config) -> Result<(AnyBackend, Reason), NetError> {
    let why = match choice {
        IoChoice::Mmsg => "asked for".to_owned(),
        IoChoice::Auto => "preferred".to_owned(),
        IoChoice::Uring => {
            return Err(NetError::Unavailable {
                backend: "io_uring",
                reason: "not built yet".to_owned(),
            });
        }
    };
    let backend = AnyBackend::Mmsg(Mmsg::open(config)?);
    Ok((
        backend,
        Reason {
            backend: "epoll+sendmmsg",
            why,
        },
    ))
}

macro_rules! each {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            AnyBackend::Mmsg($backend) => $call,
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
