//! Sizes and times of a backend.

use crate::{NetError, Steering, limits};
use std::time::Duration;

/// Sizes and times of one backend. All memory is taken when it opens.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sockets at most.
    pub max_sockets: usize,
    /// Bytes of the longest datagram, received or sent.
    pub max_datagram: usize,
    /// io_uring: receive buffers, a power of two up to 32 768; at least twice the packets of a tick.
    pub rx_buffers: usize,
    /// epoll: datagrams read from a ready socket by one call.
    pub rx_batch: usize,
    /// Transmit slots, flushed when full.
    pub tx_slots: usize,
    /// Datagrams in one drain at most; bounds how late a deadline can be.
    pub drain_max: usize,
    /// How long a datagram may wait so that many can be handled in one wake-up; zero: never tick.
    pub latency_budget: Duration,
    /// The same for a worker that is busy; at least as long.
    pub latency_budget_busy: Duration,
    /// After a stall, datagrams that waited longer than this are dropped; `None`: never.
    pub max_age: Option<Duration>,
    /// From which delay on [`crate::NetStats::late`] counts; `None`: it counts nothing.
    pub late_after: Option<Duration>,
    /// Shared backend: the program that all backends opened with clones of this configuration share.
    pub steering: Steering,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_sockets: limits::SOCKETS_DEFAULT,
            max_datagram: limits::DATAGRAM_DEFAULT,
            rx_buffers: limits::RX_BUFFERS_DEFAULT,
            rx_batch: limits::RX_BATCH_DEFAULT,
            tx_slots: limits::TX_SLOTS_DEFAULT,
            drain_max: limits::DRAIN_DEFAULT,
            latency_budget: limits::BUDGET_DEFAULT,
            latency_budget_busy: limits::BUDGET_BUSY_DEFAULT,
            max_age: Some(limits::AGE_DEFAULT),
            late_after: Some(limits::LATE_DEFAULT),
            steering: Steering::default(),
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// [`NetError::Config`] names the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), NetError> {
        let within = |field, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(NetError::Config {
                    field,
                    value: value as u64,
                    min: min as u64,
                    max: max as u64,
                })
            }
        };
        within("max_sockets", self.max_sockets, 1, 1 << 20)?;
        within("max_datagram", self.max_datagram, 16, limits::DATAGRAM_MAX)?;
        within("rx_buffers", self.rx_buffers, 1, limits::RX_BUFFERS_MAX)?;
        within("rx_batch", self.rx_batch, 1, 1_024)?;
        within("tx_slots", self.tx_slots, 1, limits::TX_SLOTS_MAX)?;
        within("drain_max", self.drain_max, 1, 1 << 20)?;
        let us = |budget: Duration| budget.as_micros() as usize;
        let (budget, budget_max) = (us(self.latency_budget), us(limits::BUDGET_MAX));
        within("latency_budget_us", budget, 0, budget_max)?;
        within(
            "latency_budget_busy_us",
            us(self.latency_budget_busy),
            budget,
            budget_max,
        )?;
        if !self.rx_buffers.is_power_of_two() {
            return Err(NetError::PowerOfTwo {
                field: "rx_buffers",
                value: self.rx_buffers as u64,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_each_bad_value_is_named() {
        Config::default().check().unwrap();
        let bad = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(bad(|c| c.max_sockets = 0).contains("max_sockets"));
        assert!(bad(|c| c.max_datagram = 70_000).contains("70000"));
        assert!(bad(|c| c.rx_buffers = 1000).contains("power of two"));
        assert!(bad(|c| c.latency_budget = Duration::from_millis(3)).contains("latency_budget_us"));
        assert!(
            bad(|c| c.latency_budget_busy = Duration::from_micros(100)).contains("latency_budget_busy_us")
        );
        assert!(bad(|c| c.tx_slots = 0).contains("tx_slots"));
    }
}
