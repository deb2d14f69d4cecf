//! What a run of load found.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Counts, delays and CPU of one counted window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoadReport {
    /// Calls under load.
    pub calls: usize,
    /// Length of the window, seconds.
    pub seconds: f64,
    /// Packets sent within the window.
    pub sent: u64,
    /// Packets that reached the sink within the window: the denominator of CPU per packet.
    pub arrived: u64,
    /// Packets sent within the window that reached the sink at any time, duplicates apart.
    pub delivered: u64,
    /// Packets that arrived behind a later one of their flow.
    pub reordered: u64,
    /// Packets seen twice.
    pub duplicates: u64,
    /// Packets whose stamp belongs to another flow than the port they came from, or to nobody: strangers heard.
    pub foreign: u64,
    /// RTP packets from a port of the server that belongs to none of the calls.
    pub unknown_source: u64,
    /// Packets of an earlier run that were still on their way.
    pub stale: u64,
    /// Steps of the server's sequence numbers that differ from ours.
    pub sequence_breaks: u64,
    /// Telephone-event packets sent, and those that arrived with their flow's digit.
    pub events_sent: u64,
    /// Telephone-event packets with the right digit.
    pub events_heard: u64,
    /// Telephone-event packets with another flow's digit.
    pub events_wrong: u64,
    /// RTCP datagrams from the server.
    pub rtcp_received: u64,
    /// Datagrams the kernel refused to send.
    pub refused: u64,
    /// Of `sent`: packets of the calls under attack.
    pub victims_sent: u64,
    /// Of `delivered`: packets of the calls under attack (telephone-events and tones apart).
    pub victims_delivered: u64,
    /// Hostile datagrams sent.
    pub hostile_sent: u64,
    /// Legs that heard their partner's tone clearly.
    pub tones_right: usize,
    /// Legs that heard something else.
    pub tones_wrong: usize,
    /// Legs that heard nothing.
    pub tones_silent: usize,
    /// One-way delay, microseconds.
    pub delay_us: Quantiles,
    /// By how much more than 20 ms a packet came after the one before, in tone mode, microseconds.
    pub gap_late_us: Quantiles,
    /// SRTP packets that were not authentic.
    pub unauthentic: u64,
    /// How late the generator itself sent, microseconds.
    pub lateness_us: Quantiles,
    /// Schedule given up because the generator was held back, milliseconds.
    pub forgiven_ms: f64,
    /// CPU the server used in the window, seconds.
    pub server_cpu_seconds: f64,
    /// The generator's thread runs under SCHED_FIFO.
    pub generator_fifo: bool,
}

impl LoadReport {
    /// Share of the window's packets that never arrived, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        if self.sent == 0 {
            0.0
        } else {
            self.sent.saturating_sub(self.delivered) as f64 / self.sent as f64
        }
    }

    /// The same for the calls that are not under attack: what the attack did to others.
    #[must_use]
    pub fn loss_elsewhere(&self) -> f64 {
        let sent = self.sent - self.victims_sent;
        let delivered = self.delivered.saturating_sub(self.victims_delivered);
        if sent == 0 {
            0.0
        } else {
            sent.saturating_sub(delivered) as f64 / sent as f64
        }
    }

    /// Packets per second that reached the sink.
    #[must_use]
    pub fn arrived_pps(&self) -> f64 {
        self.arrived as f64 / self.seconds
    }

    /// Server CPU per packet that reached the sink, microseconds.
    #[must_use]
    pub fn cpu_us_per_packet(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / self.arrived.max(1) as f64
    }

    /// Share of one core the server used, 1.0 is a full core.
    #[must_use]
    pub fn server_core_share(&self) -> f64 {
        self.server_cpu_seconds / self.seconds
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{} calls, {:.0} pps: cpu {:.2} us/pkt ({:.2} core), delay p50 {:.0} p99 {:.0} p99.9 {:.0} us, loss {:.3} %, \
             reordered {}, duplicate {}, foreign {}, sequence breaks {}, gap late p99 {:.0} us, late p99 {:.0} us, \
             forgiven {:.0} ms",
            self.calls,
            self.arrived_pps(),
            self.cpu_us_per_packet(),
            self.server_core_share(),
            self.delay_us.p50,
            self.delay_us.p99,
            self.delay_us.p999,
            self.loss() * 100.0,
            self.reordered,
            self.duplicates,
            self.foreign + self.unknown_source + self.unauthentic,
            self.sequence_breaks,
            self.gap_late_us.p99,
            self.lateness_us.p99,
            self.forgiven_ms,
        )
    }
}

/// Quantiles of a histogram of nanoseconds, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl Quantiles {
    pub(crate) fn of(nanoseconds: &Histogram<u64>) -> Quantiles {
        let us = |q: f64| nanoseconds.value_at_quantile(q) as f64 / 1e3;
        Quantiles {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: nanoseconds.max() as f64 / 1e3,
        }
    }
}

/// A histogram from 100 ns to 100 s that clamps what lies outside.
pub(crate) fn nanosecond_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 100_000_000_000, 3).expect("constant bounds are valid")
}
