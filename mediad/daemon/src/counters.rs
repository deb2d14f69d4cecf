//! What a worker lets others see of itself: relaxed atomics, written by its thread, read by metrics and status.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use media_engine::command::DropReason;
use media_net::{Histogram, NetStats};

/// Reasons why a sleep ended, in the order of [`Figures::wakes`].
pub(crate) const WAKE_REASONS: [&str; 6] =
    ["datagram", "command", "deadline", "tick", "spurious", "no_sleep"];

/// Reasons why the kernel did not send, in the order of [`Figures::tx_drops`].
pub(crate) const TX_DROP_REASONS: [&str; 10] = [
    "no_slot",
    "no_socket",
    "would_block",
    "no_buffers",
    "refused",
    "not_permitted",
    "too_long",
    "unreachable",
    "bad_address",
    "other",
];

/// Figures of one worker at one moment; all but the sockets and the tick count up since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) rx_errors: u64,
    /// By [`DropReason`].
    pub(crate) drops: [u64; DropReason::COUNT],
    /// By [`TX_DROP_REASONS`].
    pub(crate) tx_drops: [u64; TX_DROP_REASONS.len()],
    /// By [`WAKE_REASONS`].
    pub(crate) wakes: [u64; WAKE_REASONS.len()],
    pub(crate) drains: u64,
    pub(crate) drains_cut: u64,
    pub(crate) sockets: u64,
    /// How long its ticks are; 0: each event wakes it.
    pub(crate) tick_ns: u64,
    /// Time that these figures are about.
    pub(crate) uptime_ns: u64,
    pub(crate) cpu_ns: u64,
    /// Of it, what edits took: commands and their sockets.
    pub(crate) edits_ns: u64,
    /// See [`media_engine::engine::Totals::opus_ns`].
    pub(crate) opus_ns: u64,
    pub(crate) events_lost: u64,
    pub(crate) register_failures: u64,
    pub(crate) late_prompt_ticks: u64,
    /// See [`NetStats::late`].
    pub(crate) late_ns: u64,
    pub(crate) tick_lateness: Lateness,
    pub(crate) deadline_lateness: Lateness,
}

impl Figures {
    /// Everything that arrived or was to be sent, and was not.
    pub(crate) fn drops_total(&self) -> u64 {
        self.drops.iter().sum::<u64>() + self.tx_drops.iter().sum::<u64>()
    }
}

/// Durations by power-of-two bucket, as [`Histogram`] has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lateness {
    pub(crate) buckets: [u64; Histogram::BUCKETS],
    pub(crate) sum_ns: u64,
}

impl Lateness {
    /// What was recorded since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets;
        buckets
            .iter_mut()
            .zip(earlier.buckets)
            .for_each(|(now, then)| *now = now.saturating_sub(then));
        Self {
            buckets,
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Upper bound of the bucket that holds quantile `q`, us; 0 when nothing was recorded.
    pub(crate) fn quantile_us(&self, q: f64) -> u64 {
        let count = self.count();
        let histogram = Histogram {
            buckets: self.buckets,
            count,
            sum_ns: self.sum_ns,
            max_ns: 0,
        };
        histogram.quantile_us(q)
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let mut buckets = self.buckets;
        buckets
            .iter_mut()
            .zip(other.buckets)
            .for_each(|(sum, more)| *sum += more);
        Self {
            buckets,
            sum_ns: self.sum_ns + other.sum_ns,
        }
    }
}

impl From<&Histogram> for Lateness {
    fn from(histogram: &Histogram) -> Self {
        Self {
            buckets: histogram.buckets,
            sum_ns: histogram.sum_ns,
        }
    }
}

/// The published side of [`Figures`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    scalars: [AtomicU64; 17],
    drops: [AtomicU64; DropReason::COUNT],
    tx_drops: [AtomicU64; TX_DROP_REASONS.len()],
    wakes: [AtomicU64; WAKE_REASONS.len()],
    tick: PublishedLateness,
    deadline: PublishedLateness,
    /// See [`Counters::owe`].
    owed: AtomicBool,
}

#[derive(Debug, Default)]
struct PublishedLateness {
    buckets: [AtomicU64; Histogram::BUCKETS],
    sum_ns: AtomicU64,
}

impl Counters {
    /// Makes `figures` visible; a reader may see some of the old ones beside them.
    pub(crate) fn publish(&self, figures: &Figures) {
        let scalars = [
            figures.rx_packets,
            figures.rx_bytes,
            figures.tx_packets,
            figures.tx_bytes,
            figures.rx_errors,
            figures.drains,
            figures.drains_cut,
            figures.sockets,
            figures.cpu_ns,
            figures.edits_ns,
            figures.events_lost,
            figures.register_failures,
            figures.late_prompt_ticks,
            figures.uptime_ns,
            figures.opus_ns,
            figures.tick_ns,
            figures.late_ns,
        ];
        store(&self.scalars, &scalars);
        store(&self.drops, &figures.drops);
        store(&self.tx_drops, &figures.tx_drops);
        store(&self.wakes, &figures.wakes);
        self.tick.publish(&figures.tick_lateness);
        self.deadline.publish(&figures.deadline_lateness);
        self.owed.store(false, Relaxed);
    }

    /// The worker did something, and publishes it within [`crate::limits::PUBLISH_EVERY`].
    pub(crate) fn owe(&self) {
        self.owed.store(true, Relaxed);
    }

    /// It has something to publish.
    pub(crate) fn owes(&self) -> bool {
        self.owed.load(Relaxed)
    }

    /// Events lost, as published last.
    pub(crate) fn events_lost(&self) -> u64 {
        self.scalars[10].load(Relaxed)
    }

    /// What was published last.
    pub(crate) fn read(&self) -> Figures {
        let [
            rx_packets,
            rx_bytes,
            tx_packets,
            tx_bytes,
            rx_errors,
            drains,
            drains_cut,
            sockets,
            cpu_ns,
            edits_ns,
            events_lost,
            register_failures,
            late_prompt_ticks,
            uptime_ns,
            opus_ns,
            tick_ns,
            late_ns,
        ] = load(&self.scalars);
        Figures {
            rx_packets,
            rx_bytes,
            tx_packets,
            tx_bytes,
            rx_errors,
            drops: load(&self.drops),
            tx_drops: load(&self.tx_drops),
            wakes: load(&self.wakes),
            drains,
            drains_cut,
            sockets,
            tick_ns,
            uptime_ns,
            cpu_ns,
            edits_ns,
            opus_ns,
            events_lost,
            register_failures,
            late_prompt_ticks,
            late_ns,
            tick_lateness: self.tick.read(),
            deadline_lateness: self.deadline.read(),
        }
    }
}

impl PublishedLateness {
    fn publish(&self, lateness: &Lateness) {
        store(&self.buckets, &lateness.buckets);
        self.sum_ns.store(lateness.sum_ns, Relaxed);
    }

    fn read(&self) -> Lateness {
        Lateness {
            buckets: load(&self.buckets),
            sum_ns: self.sum_ns.load(Relaxed),
        }
    }
}

fn store<const N: usize>(to: &[AtomicU64; N], from: &[u64; N]) {
    to.iter()
        .zip(from)
        .for_each(|(to, from)| to.store(*from, Relaxed));
}

fn load<const N: usize>(from: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|at| from[at].load(Relaxed))
}

/// The backend's share of [`Figures`].
pub(crate) fn from_net(net: &NetStats) -> Figures {
    let wakes = net.wakes;
    let tx = net.tx_drops;
    let errors = net.rx_errors;
    Figures {
        rx_packets: net.rx_datagrams,
        rx_bytes: net.rx_bytes,
        tx_packets: net.tx_datagrams,
        tx_bytes: net.tx_bytes,
        rx_errors: errors.refused + errors.bad_address + errors.other + net.rx_overrun,
        tx_drops: [
            tx.no_slot,
            tx.no_socket,
            tx.would_block,
            tx.no_buffers,
            tx.refused,
            tx.not_permitted,
            tx.too_long,
            tx.unreachable,
            tx.bad_address,
            tx.other,
        ],
        wakes: [
            wakes.datagrams,
            wakes.waker,
            wakes.deadline,
            wakes.tick,
            wakes.spurious,
            wakes.no_sleep,
        ],
        drains: net.drains,
        drains_cut: net.drains_cut,
        tick_ns: net.tick.as_nanos() as u64,
        late_ns: net.late.as_nanos() as u64,
        tick_lateness: Lateness::from(&net.tick_lateness),
        deadline_lateness: Lateness::from(&net.deadline_lateness),
        ..Figures::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let mut figures = Figures {
            rx_packets: 1,
            register_failures: 11,
            late_prompt_ticks: 12,
            uptime_ns: 13,
            opus_ns: 14,
            tick_ns: 15,
            late_ns: 16,
            sockets: 8,
            ..Figures::default()
        };
        figures.drops[3] = 7;
        figures.tx_drops[9] = 5;
        figures.wakes[5] = 4;
        figures.tick_lateness.buckets[21] = 2;
        figures.deadline_lateness.sum_ns = 9;
        let counters = Counters::default();
        figures.events_lost = 6;
        counters.owe();
        assert!(counters.owes());
        counters.publish(&figures);
        assert!(!counters.owes());
        assert_eq!((counters.read(), counters.events_lost()), (figures.clone(), 6));
        assert_eq!(figures.drops_total(), 12);
    }

    #[test]
    fn lateness_over_a_span_is_the_difference() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_micros(900));
        let before = Lateness::from(&histogram);
        (0..99).for_each(|_| histogram.record(Duration::from_micros(3)));
        let span = Lateness::from(&histogram).since(&before);
        assert_eq!(
            (span.count(), span.quantile_us(0.5), span.quantile_us(0.99)),
            (99, 4, 4)
        );
        assert_eq!(before.plus(&span), Lateness::from(&histogram));
        assert_eq!(Lateness::default().quantile_us(0.99), 0);
    }
}
