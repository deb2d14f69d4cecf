//! The socket half of an RTP worker thread.
//!
//! This crate owns UDP sockets, packet buffers, wake-ups and the pacing of one worker thread. It must never
//! know what a packet means: no RTP, no engine, no session. It depends on nothing else in the workspace and
//! is the one place of the media server where `unsafe` is allowed. Linux only.
//!
//! A worker opens a [`Backend`] **on its own thread** (backends are not `Send`), registers the sockets that
//! other threads have bound with [`bind`], and calls [`Backend::poll`] for ever. Each `poll` sleeps until
//! there is work (see [`pace`] for how), then runs one *drain*: [`Handler::begin`] with the time read once,
//! [`Handler::datagram`] for everything that is readable, [`Handler::end`]; what the handler wrote into
//! [`Transmit`] slots has been handed to the kernel when `poll` returns. No packet is allocated, locked or formatted for.
//!
//! ```
//! use media_net::{open, bind, Backend, Config, Datagram, Handler, IoChoice, Transmit};
//! use std::time::Instant;
//!
//! struct Echo;
//! impl Handler for Echo {
//!     fn datagram<T: Transmit>(&mut self, d: Datagram<'_>, tx: &mut T) {
//!         if let Some(slot) = tx.slot() {
//!             slot[..d.data.len()].copy_from_slice(d.data);
//!             tx.commit(d.data.len(), d.socket, d.from);
//!         }
//!     }
//! }
//! let (mut net, reason) = open(IoChoice::Auto, &Config { max_sockets: 16, ..Config::default() })?;
//! println!("{reason}");
//! let id = net.register(bind::udp("127.0.0.1:0".parse().unwrap(), &bind::Options::default())?)?;
//! net.poll(Some(Instant::now()), &mut Echo)?;
//! assert!(net.unregister(id).is_some());
//! # Ok::<(), media_net::NetError>(())
//! ```
//!
//! # Three backends, one contract
//! [`uring::Uring`] (io_uring, multishot receive), [`mmsg::Mmsg`] (epoll, `recvmmsg`, `sendmmsg`) and the same with sockets
//! that many ports share ([`mmsg::Mmsg::open_shared`]: BPF `sk_lookup` steers what arrives on all ports into one socket, a
//! raw socket sends) pass the same tests. The last costs least and needs privileges; containers often forbid io_uring as
//! well, so none is a second choice. [`open`] picks one and says why.
//!
//! # Where a later tier fits
//! Forwarding in the kernel (tc BPF) of flows whose peers are latched takes packets away before the socket and leaves
//! everything here as it is.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate is the socket shell: it owns sockets, the monotonic clock and the system calls"
)]

mod addr;
mod age;
mod any;
mod arena;
pub mod bind;
mod bpf;
mod bufring;
mod config;
mod error;
mod header;
pub mod limits;
pub mod mmsg;
pub mod pace;
mod shared;
mod slab;
mod stats;
mod steering;
mod sys;
pub mod uring;
mod waker;

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

pub use any::{AnyBackend, IoChoice, Reason, open};
pub use config::Config;
pub use error::NetError;
pub use stats::{Histogram, NetStats, RxErrors, TxDrops, WakeCounts};
pub use steering::Steering;
pub use sys::{ensure_files, missing_capabilities, prefetch};
pub use waker::Waker;

/// Index of a registered socket: dense, chosen by the backend, and reused after
/// [`Backend::unregister`], so it may index a table of the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

impl SocketId {
    /// The id as an index into a table of the caller's.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One received datagram, borrowed from the backend's buffer for the duration of the call.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// The socket it was sent to.
    pub socket: SocketId,
    /// Who sent it. IPv4 peers of a dual-stack socket appear as IPv4-mapped IPv6 addresses.
    pub from: SocketAddr,
    /// The payload, writable so that it can be decrypted in place.
    pub data: &'a mut [u8],
    /// The datagram was longer than [`Config::max_datagram`] and its tail is lost.
    pub truncated: bool,
}

/// Where a handler writes packets. Implemented by each backend, which flushes a full arena by itself.
pub trait Transmit {
    /// A free slot of at least [`Config::max_datagram`] bytes holding arbitrary old bytes, or `None` when the
    /// kernel takes no more at present (counted as [`TxDrops::no_slot`]; drop the packet). Asking again
    /// without a commit gives the same slot again.
    fn slot(&mut self) -> Option<&mut [u8]>;

    /// Queues the first `len` bytes of the slot just returned, from `socket` to `to`. What the kernel refuses
    /// is counted by reason in [`NetStats::tx_drops`] and never an error.
    ///
    /// # Panics
    /// When no slot was asked for since the last commit, or `len` exceeds it.
    fn commit(&mut self, len: usize, socket: SocketId, to: SocketAddr);

    /// A hint: a packet is committed from `socket` soon.
    fn prefetch(&self, socket: SocketId) {
        let _ = socket;
    }
}

/// What the worker does with input. All calls of one drain come from one [`Backend::poll`], in this order.
///
/// Every `poll` makes exactly one drain, also when it was a deadline or the waker that ended the sleep: timers
/// and commands that send packets do so from [`Handler::end`] (or from `begin`, for what needs no sending).
pub trait Handler {
    /// A drain begins; `now` was read once, after the sleep, and is the time of all its datagrams.
    fn begin(&mut self, now: Instant) {
        let _ = now;
    }
    /// A hint: the next datagrams are of these sockets, in this order. Given where many are read at once.
    fn prefetch<T: Transmit>(&mut self, sockets: &[Option<SocketId>], tx: &mut T) {
        let _ = (sockets, tx);
    }
    /// One datagram arrived.
    fn datagram<T: Transmit>(&mut self, datagram: Datagram<'_>, tx: &mut T);
    /// Everything readable was read (or [`Config::drain_max`] was reached; the rest follows in the next drain).
    /// What timers ask for belongs here: [`pace`] looks at the time it takes.
    fn end<T: Transmit>(&mut self, tx: &mut T) {
        let _ = tx;
    }
}

/// What one [`Backend::poll`] found. Several reasons can hold at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wake {
    /// Datagrams given to the handler.
    pub datagrams: usize,
    /// The [`Waker`] was used since the last poll that said so.
    pub woken: bool,
    /// The deadline had passed when the drain began.
    pub deadline: bool,
    /// The drain stopped at [`Config::drain_max`]; the next poll will not sleep.
    pub more: bool,
}

/// A set of UDP sockets driven by one thread.
pub trait Backend {
    /// Takes over a bound socket. It need not be in non-blocking mode.
    ///
    /// # Errors
    /// [`NetError::Full`] beyond [`Config::max_sockets`]; [`NetError::Io`] when the kernel refuses. The socket is closed.
    fn register(&mut self, socket: UdpSocket) -> Result<SocketId, NetError>;

    /// Gives the socket back, or `None` when the id is not registered. Datagrams of this socket are no
    /// longer delivered, no kernel reference is left, and the port is free as soon as the socket is dropped.
    fn unregister(&mut self, id: SocketId) -> Option<UdpSocket>;

    /// A handle with which any thread ends the sleep of [`Backend::poll`].
    fn waker(&self) -> Waker;

    /// Sleeps until there is work or `deadline` (`None`: no deadline; one in the past: no sleep), then runs one
    /// drain. In tick mode the sleep ends with the tick: deadline (a past one, too) and waker are at most one
    /// tick late; see [`pace`].
    ///
    /// # Errors
    /// Only when the kernel refuses the wait itself; nothing a peer does is an error. The caller should stop the worker.
    fn poll<H: Handler>(&mut self, deadline: Option<Instant>, handler: &mut H) -> Result<Wake, NetError>;

    /// Counters since the backend was opened.
    fn stats(&self) -> &NetStats;

    /// Registered sockets.
    fn socket_count(&self) -> usize;
}
