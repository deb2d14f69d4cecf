//! Dropping by age after a stall.
//!
//! A datagram that sat in a socket for longer than [`crate::Config::max_age`] is of no use to a listener, and working
//! through a stall's worth of them keeps the worker late. The kernel knows the age exactly (`SO_TIMESTAMPNS`), but
//! telling it with every datagram costs up to 0.2 us of about 3 (two interleaved rounds of the `relay` example: 0.05 and
//! 0.22 us with io_uring, 0 and 0.11 us with epoll), for something that is needed once in a long while.
//! So a socket of our own keeps the kernel stamping arrivals, and the option is switched on for the real
//! sockets only when something can be old: the time since the last complete drain exceeds `max_age`. The stamps of
//! datagrams that are waiting already are then told as well. A complete drain switches it off again, so this happens
//! at most once per `max_age`. An overload that cuts every drain short is a stall like any other: the oldest go first.
//!
//! A blocked worker is different: its last drain was complete and it slept because nothing came. What arrives while
//! it is woken but gets no processor is not told apart from fresh datagrams; in tick mode, where loads are high, it is.

use crate::pace::Sleep;
use crate::{NetError, NetStats, bind, sys};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// How often to look whether stamping has begun, and how long to wait in between.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// The kernel begins to stamp arrivals a moment after it was asked to; until then it tells the time of the receive call. Sends
/// itself datagrams until one was stamped before it was received; that none is after a while is no reason not to start.
fn until_stamped(guard: &UdpSocket) {
    let Ok(addr) = guard.local_addr() else { return };
    for _ in 0..LOOKS {
        if guard.send_to(&[0], addr).is_err() {
            return;
        }
        // On loopback it has arrived now.
        let arrived = sys::wall_ns();
        if sys::receive_stamp(guard.as_raw_fd()).is_some_and(|stamp| stamp <= arrived) {
            return;
        }
        sys::sleep(BETWEEN_LOOKS);
    }
}

/// Knows whether datagrams can be too old, and makes the kernel tell their age when they can.
pub(crate) struct Age {
    max: Option<Duration>,
    /// When the last drain began that left nothing behind.
    last_complete: Instant,
    stamping: bool,
    /// Keeps the kernel's stamping of arrivals switched on.
    _guard: Option<UdpSocket>,
}

impl Age {
    pub(crate) fn open(max: Option<Duration>, now: Instant) -> Result<Self, NetError> {
        let guard = max
            .map(|_| {
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let socket = bind::udp(addr, &bind::Options::default())?;
                sys::stamp_datagrams(socket.as_raw_fd(), true)?;
                until_stamped(&socket);
                Ok::<_, NetError>(socket)
            })
            .transpose()?;
        Ok(Age {
            max,
            last_complete: now,
            stamping: false,
            _guard: guard,
        })
    }

    /// Looks after the sleep and before anything is received. Returns the wall-clock time (ns) before which
    /// datagrams are stale in this drain, 0 when none can be. `before` is when the sleep was planned; `each` visits the
    /// sockets that are read.
    pub(crate) fn look(
        &mut self,
        slept: Sleep,
        before: Instant,
        stats: &mut NetStats,
        each: impl FnOnce(&mut dyn FnMut(RawFd)),
    ) -> u64 {
        let Some(max) = self.max else { return 0 };
        let received_from = match slept {
            Sleep::Block(_) | Sleep::No => before,
            Sleep::Tick(_) => Instant::now(),
        };
        if received_from.saturating_duration_since(self.last_complete) > max {
            self.stamp(true, stats, each);
        }
        if self.stamping {
            sys::wall_ns().saturating_sub(max.as_nanos() as u64)
        } else {
            0
        }
    }

    /// The drain that began at `now` is over.
    pub(crate) fn drained(
        &mut self,
        now: Instant,
        more: bool,
        stats: &mut NetStats,
        each: impl FnOnce(&mut dyn FnMut(RawFd)),
    ) {
        if !more {
            self.last_complete = now;
            self.stamp(false, stats, each);
        }
    }

    /// Stamps are on: sockets that are registered now need it, too.
    pub(crate) fn is_stamping(&self) -> bool {
        self.stamping
    }

    fn stamp(&mut self, on: bool, stats: &mut NetStats, each: impl FnOnce(&mut dyn FnMut(RawFd))) {
        if self.stamping == on {
            return;
        }
        self.stamping = on;
        stats.stalls += u64::from(on);
        each(&mut |fd| {
            stats.syscalls += 1;
            // A refusal leaves datagrams without a stamp, which count as fresh.
            let _ = sys::stamp_datagrams(fd, on);
        });
    }
}
