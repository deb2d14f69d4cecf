//! Counters of one backend: plain integers, written by its thread only.

use std::time::Duration;

/// Durations in power-of-two buckets; recording is a few instructions and never allocates.
///
/// # Units
/// Bucket 0 holds less than 1 us, bucket *i* holds 2^(i-1) to below 2^i us, the last one everything beyond.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Values per bucket.
    pub buckets: [u64; Histogram::BUCKETS],
    /// Values recorded.
    pub count: u64,
    /// Their sum, in nanoseconds.
    pub sum_ns: u64,
    /// The greatest, in nanoseconds.
    pub max_ns: u64,
}

impl Histogram {
    /// Buckets: the last begins at about one second.
    pub const BUCKETS: usize = 22;

    /// Records one value.
    pub fn record(&mut self, value: Duration) {
        let ns = value.as_nanos() as u64;
        let us = ns / 1_000;
        let bucket = (u64::BITS - us.leading_zeros()) as usize;
        self.buckets[bucket.min(Self::BUCKETS - 1)] += 1;
        self.count += 1;
        self.sum_ns += ns;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Upper bound, in microseconds, of the bucket that holds quantile `q` (0 to 1); 0 when empty.
    pub fn quantile_us(&self, q: f64) -> u64 {
        let wanted = (self.count as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (index, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= wanted && seen > 0 {
                return 1 << index;
            }
        }
        0
    }
}

/// Why sleeps ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WakeCounts {
    /// Blocked, and a datagram came.
    pub datagrams: u64,
    /// Blocked, and the waker was used.
    pub waker: u64,
    /// Blocked until the deadline.
    pub deadline: u64,
    /// Slept until a tick, whatever was found then.
    pub tick: u64,
    /// Blocked, and nothing was found: a signal, or a datagram with a bad checksum.
    pub spurious: u64,
    /// Polls that did not sleep: the deadline had passed or the drain before was cut short.
    pub no_sleep: u64,
}

/// Datagrams that a handler wrote and the kernel did not send, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TxDrops {
    /// No slot: the kernel did not accept what was queued before.
    pub no_slot: u64,
    /// The socket id is not registered.
    pub no_socket: u64,
    /// EAGAIN: the socket's send buffer is full.
    pub would_block: u64,
    /// ENOBUFS or ENOMEM: the device queue or memory is exhausted.
    pub no_buffers: u64,
    /// ECONNREFUSED: an earlier packet met a closed port.
    pub refused: u64,
    /// EPERM or EACCES: a firewall, or a broadcast address.
    pub not_permitted: u64,
    /// EMSGSIZE.
    pub too_long: u64,
    /// ENETUNREACH, EHOSTUNREACH, ENETDOWN, EADDRNOTAVAIL.
    pub unreachable: u64,
    /// EINVAL, EAFNOSUPPORT, EDESTADDRREQ: an address the socket cannot send to.
    pub bad_address: u64,
    /// Anything else.
    pub other: u64,
}

impl TxDrops {
    /// Sum of all reasons.
    pub fn total(&self) -> u64 {
        let TxDrops {
            no_slot,
            no_socket,
            would_block,
            no_buffers,
            refused,
            not_permitted,
            too_long,
            unreachable,
            bad_address,
            other,
        } = *self;
        no_slot
            + no_socket
            + would_block
            + no_buffers
            + refused
            + not_permitted
            + too_long
            + unreachable
            + bad_address
            + other
    }

    /// Counts one failed send.
    pub(crate) fn count(&mut self, errno: i32) {
        let field = match errno {
            libc::EAGAIN => &mut self.would_block,
            libc::ENOBUFS | libc::ENOMEM => &mut self.no_buffers,
            libc::ECONNREFUSED => &mut self.refused,
            libc::EPERM | libc::EACCES => &mut self.not_permitted,
            libc::EMSGSIZE => &mut self.too_long,
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL => {
                &mut self.unreachable
            }
            libc::EINVAL | libc::EAFNOSUPPORT | libc::EDESTADDRREQ => &mut self.bad_address,
            _ => &mut self.other,
        };
        *field += 1;
    }
}

/// Errors met while receiving, by reason. None of them ends anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RxErrors {
    /// ECONNREFUSED: ICMP says that a peer's port is closed (connected sockets only).
    pub refused: u64,
    /// The sender's address is neither IPv4 nor IPv6, or absent.
    pub bad_address: u64,
    /// Anything else.
    pub other: u64,
}

impl RxErrors {
    pub(crate) fn count(&mut self, errno: i32) {
        match errno {
            libc::ECONNREFUSED => self.refused += 1,
            _ => self.other += 1,
        }
    }
}

/// Counters of one backend since it was opened.
#[derive(Debug, Clone, Default)]
pub struct NetStats {
    /// Datagrams given to the handler.
    pub rx_datagrams: u64,
    /// Their payload bytes.
    pub rx_bytes: u64,
    /// Those of them that were truncated.
    pub rx_truncated: u64,
    /// Datagrams dropped because they had waited longer than [`crate::Config::max_age`].
    pub rx_stale: u64,
    /// Times that more than that passed since everything readable had been read.
    pub stalls: u64,
    /// Shared backend: datagrams for a port that was unregistered meanwhile.
    pub rx_unclaimed: u64,
    /// Shared backend: datagrams that the kernel dropped because this worker left too many waiting, as of the last stall.
    pub rx_overrun: u64,
    /// Errors met while receiving.
    pub rx_errors: RxErrors,
    /// io_uring: times a socket found the buffer ring empty.
    pub rx_no_buffers: u64,
    /// io_uring: multishot receives armed again.
    pub rx_rearms: u64,
    /// Datagrams queued by the handler; those not sent are in `tx_drops`.
    pub tx_datagrams: u64,
    /// Their payload bytes.
    pub tx_bytes: u64,
    /// Datagrams not sent.
    pub tx_drops: TxDrops,
    /// System calls made by `poll`, `register` and `unregister`.
    pub syscalls: u64,
    /// Drains, one per poll.
    pub drains: u64,
    /// Drains that ended at [`crate::Config::drain_max`].
    pub drains_cut: u64,
    /// Why sleeps ended.
    pub wakes: WakeCounts,
    /// Changes between blocking and ticking, both ways.
    pub mode_switches: u64,
    /// How long ticks are at present; zero: each event wakes the thread.
    pub tick: Duration,
    /// Time spent in tick mode.
    pub tick_time: Duration,
    /// How much later than its tick the thread woke.
    pub tick_lateness: Histogram,
    /// How much later than the deadline the drain began, for polls that had one and reached it.
    pub deadline_lateness: Histogram,
    /// Time in which what came, a datagram while ticking or the time of a timer, had to wait longer than
    /// [`crate::Config::late_after`]. Of time, not of wake-ups: who is away for long wakes rarely.
    pub late: Duration,
}

impl NetStats {
    /// Counts a datagram given to the handler.
    pub(crate) fn received(&mut self, bytes: usize, truncated: bool) {
        self.rx_datagrams += 1;
        self.rx_bytes += bytes as u64;
        self.rx_truncated += u64::from(truncated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_are_powers_of_two_of_microseconds() {
        let mut h = Histogram::default();
        for us in [0, 1, 2, 3, 4, 250, 5_000_000] {
            h.record(Duration::from_micros(us));
        }
        assert_eq!(&h.buckets[..4], &[1, 1, 2, 1]);
        assert_eq!(h.buckets[8], 1);
        assert_eq!(h.buckets[Histogram::BUCKETS - 1], 1);
        assert_eq!((h.count, h.max_ns), (7, 5_000_000_000));
        assert_eq!(h.quantile_us(0.5), 4);
        assert_eq!(Histogram::default().quantile_us(0.5), 0);
    }

    #[test]
    fn send_errors_are_told_apart() {
        let mut drops = TxDrops::default();
        for errno in [
            libc::EAGAIN,
            libc::ENOBUFS,
            libc::ECONNREFUSED,
            libc::EPERM,
            libc::EMSGSIZE,
            libc::EIO,
        ] {
            drops.count(errno);
        }
        let one_each = TxDrops {
            would_block: 1,
            no_buffers: 1,
            refused: 1,
            not_permitted: 1,
            too_long: 1,
            other: 1,
            ..TxDrops::default()
        };
        assert_eq!(drops, one_each);
        assert_eq!(drops.total(), 6);
    }
}
