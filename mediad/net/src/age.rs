//! Dropping by age after a stall.
//!
//! A datagram that sat in a socket for longer than [`crate::Config::max_age`] is of no use to a listener, and working
//! through a stall's worth of them keeps the worker late. The kernel knows the age exactly (`SO_TIMESTAMPNS`), but
//! telling it with every datagram costs up to 0.2 us of about 3 (two interleaved rounds of the `relay` example: 0.05 and
//! 0.22 us with io_uring, 0 and 0.11 us with epoll), for something that is needed once in a long while.
//! So a socket of our own, never read, keeps the kernel stamping arrivals, and the option is switched on for the real
//! sockets only when something can be old: the time since the last complete drain exceeds `max_age`. The stamps of
//! datagrams that are waiting already are then told as well. A complete drain switches it off again, so this happens
//! at most once per `max_age`. An overload that cuts every drain short is a stall like any other: the oldest go first.
//!
//! A blocked worker is different: its last drain was complete and it slept because nothing came. What arrives while
//! it is woken but gets no processor is not told apart from fresh datagrams; in tick mode, where loads are high, it is.

use crate::pace::Sleep;
use crate::slab::Slab;
use crate::{NetError, NetStats, bind, sys};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

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
    /// datagrams are stale in this drain, 0 when none can be. `before` is when the sleep was planned.
    pub(crate) fn look<S>(
        &mut self,
        slept: Sleep,
        before: Instant,
        sockets: &mut Slab<S>,
        stats: &mut NetStats,
    ) -> u64 {
        let Some(max) = self.max else { return 0 };
        let received_from = match slept {
            Sleep::Block(_) | Sleep::No => before,
            Sleep::Tick(_) => Instant::now(),
        };
        if received_from.saturating_duration_since(self.last_complete) > max {
            self.stamp(true, sockets, stats);
        }
        if self.stamping {
            sys::wall_ns().saturating_sub(max.as_nanos() as u64)
        } else {
            0
        }
    }

    /// The drain that began at `now` is over.
    pub(crate) fn drained<S>(
        &mut self,
        now: Instant,
        more: bool,
        sockets: &mut Slab<S>,
        stats: &mut NetStats,
    ) {
        if !more {
            self.last_complete = now;
            self.stamp(false, sockets, stats);
        }
    }

    /// Stamps are on: sockets that are registered now need it, too.
    pub(crate) fn is_stamping(&self) -> bool {
        self.stamping
    }

    fn stamp<S>(&mut self, on: bool, sockets: &mut Slab<S>, stats: &mut NetStats) {
        if self.stamping == on {
            return;
        }
        self.stamping = on;
        stats.stalls += u64::from(on);
        sockets.each(|entry| {
            stats.syscalls += 1;
            // A refusal leaves datagrams without a stamp, which count as fresh.
            let _ = sys::stamp_datagrams(entry.socket.as_raw_fd(), on);
        });
    }
}
