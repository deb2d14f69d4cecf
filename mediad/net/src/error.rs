//! What can go wrong while setting up; nothing a peer does is here.

use std::io;
use std::net::SocketAddr;

/// Why a socket or a backend could not be set up, or the wait itself failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The address is taken by another socket.
    #[error("udp {addr} is in use; choose another port or stop the other process")]
    InUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// A socket could not be created, set up or bound.
    #[error("udp {addr}: {what}: {source}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The step that failed.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// RTP ports come in pairs, the RTP port even (RFC 3550 §11).
    #[error("udp {addr}: an RTP/RTCP pair needs an even port between 2 and 65534")]
    OddPort {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// A process limit is too low for the configured sizes.
    #[error("{limit} is {have} but {need} are needed; {remedy}")]
    Limit {
        /// Name of the limit.
        limit: &'static str,
        /// Its value.
        have: u64,
        /// What the configuration needs.
        need: u64,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// A configured value is out of range.
    #[error("{field} is {value}, allowed is {min} to {max}")]
    Config {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// Least allowed value.
        min: u64,
        /// Greatest allowed value.
        max: u64,
    },
    /// A configured size must be a power of two.
    #[error("{field} is {value}, it must be a power of two")]
    PowerOfTwo {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The backend cannot work on this machine.
    #[error("{backend}: {reason}")]
    Unavailable {
        /// Which backend.
        backend: &'static str,
        /// Why, for a person.
        reason: String,
    },
    /// The table of sockets is full.
    #[error("{max} sockets are registered already; raise max_sockets")]
    Full {
        /// The configured size.
        max: usize,
    },
    /// A system call failed.
    #[error("{op}: {source}")]
    Io {
        /// The call.
        op: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl NetError {
    pub(crate) fn last(op: &'static str) -> Self {
        NetError::Io {
            op,
            source: io::Error::last_os_error(),
        }
    }
}
