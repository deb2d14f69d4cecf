//! One direction between two hosts: what it does to a datagram.

use crate::rng::Rng;
use std::time::{Duration, Instant};

/// The behaviour of one direction between two hosts; [`Link::default`] is a perfect wire.
///
/// ```
/// use netem::{Link, Loss};
/// use std::time::Duration;
/// let mobile = Link {
///     delay: Duration::from_millis(40),
///     jitter: Duration::from_millis(15),
///     loss: Loss::bursts(0.02, 3.0),
///     ..Link::default()
/// };
/// assert!((mobile.loss.mean() - 0.02).abs() < 1e-9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Time every datagram takes. Default 0.
    pub delay: Duration,
    /// Further time, uniform in `0..=jitter`, without changing the order. Default 0.
    pub jitter: Duration,
    /// What gets lost. Default nothing.
    pub loss: Loss,
    /// Probability that a datagram arrives twice; the copy takes its own jitter. Default 0.
    pub duplicate: f64,
    /// Probability that a datagram is held back and those behind it overtake. Default 0.
    pub reorder: f64,
    /// How long a held-back datagram waits in addition. Default 30 ms.
    pub reorder_delay: Duration,
    /// Bits per second of payload that the link carries; `None` is unlimited. Default `None`.
    pub rate_bps: Option<u64>,
    /// Payload bytes that may wait for a limited link; what comes on top is dropped. Default 65 536.
    pub queue_bytes: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Loss::None,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(30),
            rate_bps: None,
            queue_bytes: 65_536,
        }
    }
}

/// How datagrams get lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Not at all.
    None,
    /// Each by itself with this probability.
    Bernoulli(f64),
    /// Gilbert's model: a good state that loses nothing, a bad state that loses everything, and before
    /// each datagram a chance to change. Losses come in bursts of mean length `1 / leave`.
    Gilbert {
        /// Probability of going from good to bad.
        enter: f64,
        /// Probability of going from bad to good; above 0.
        leave: f64,
    },
}

impl Loss {
    /// Gilbert's model for a mean loss (0 to below 1) and a mean burst length in datagrams (1 or more).
    ///
    /// # Panics
    /// If no such model exists: a loss so high with bursts so short that `enter` would exceed 1.
    pub fn bursts(mean: f64, burst_length: f64) -> Self {
        assert!((0.0..1.0).contains(&mean), "a mean loss of {mean} is not in 0..1");
        assert!(
            burst_length >= 1.0,
            "a burst of {burst_length} datagrams is shorter than one"
        );
        let leave = 1.0 / burst_length;
        let enter = leave * mean / (1.0 - mean);
        assert!(
            enter <= 1.0,
            "a mean loss of {mean} needs bursts longer than {burst_length}"
        );
        Self::Gilbert { enter, leave }
    }

    /// The share of datagrams lost in the long run, 0 to 1.
    pub fn mean(&self) -> f64 {
        match *self {
            Self::None => 0.0,
            Self::Bernoulli(probability) => probability,
            Self::Gilbert { enter, leave } => enter / (enter + leave),
        }
    }
}

/// What a link remembers of the datagrams before.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    in_burst: bool,
    /// When the last bit of what is queued has left.
    busy_until: Option<Instant>,
    /// Arrival of the last datagram that was not held back; later ones do not overtake it.
    last_arrival: Option<Instant>,
}

/// What a wire does with one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// It arrives then, with perhaps a second copy, perhaps held back.
    Arrives {
        at: Instant,
        copy_at: Option<Instant>,
        held_back: bool,
    },
    /// Lost on the way.
    Lost,
    /// The link's queue was full.
    QueueFull,
}

impl Wire {
    pub(crate) fn carry(&mut self, link: &Link, now: Instant, bytes: usize, rng: &mut Rng) -> Carried {
        let Some(sent_at) = self.serialise(link, now, bytes as u64) else {
            return Carried::QueueFull;
        };
        if self.loses(link.loss, rng) {
            return Carried::Lost;
        }
        let held_back = rng.chance(link.reorder);
        let mut at = sent_at + link.delay + jitter(link, rng);
        if held_back {
            at += link.reorder_delay;
        } else {
            at = self.last_arrival.map_or(at, |last| at.max(last));
            self.last_arrival = Some(at);
        }
        let copy_at = rng.chance(link.duplicate).then(|| at + jitter(link, rng));
        Carried::Arrives {
            at,
            copy_at,
            held_back,
        }
    }

    /// When the datagram's last bit leaves, or `None` if the queue has no room for it.
    fn serialise(&mut self, link: &Link, now: Instant, bytes: u64) -> Option<Instant> {
        let Some(rate) = link.rate_bps else {
            return Some(now);
        };
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        let queued_bytes = (start - now).as_nanos() * u128::from(rate) / 8_000_000_000;
        if queued_bytes + u128::from(bytes) > u128::from(link.queue_bytes) {
            return None;
        }
        let nanos = u128::from(bytes) * 8_000_000_000 / u128::from(rate);
        let left =
            start + Duration::from_nanos(u64::try_from(nanos).expect("a datagram takes below 500 years"));
        self.busy_until = Some(left);
        Some(left)
    }

    fn loses(&mut self, loss: Loss, rng: &mut Rng) -> bool {
        match loss {
            Loss::None => false,
            Loss::Bernoulli(probability) => rng.chance(probability),
            Loss::Gilbert { enter, leave } => {
                self.in_burst = if self.in_burst {
                    !rng.chance(leave)
                } else {
                    rng.chance(enter)
                };
                self.in_burst
            }
        }
    }
}

fn jitter(link: &Link, rng: &mut Rng) -> Duration {
    let nanos = u64::try_from(link.jitter.as_nanos()).expect("jitter below 500 years");
    if nanos == 0 {
        Duration::ZERO
    } else {
        Duration::from_nanos(rng.below(nanos + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_have_the_mean_asked_for() {
        for (mean, burst) in [(0.01, 1.0), (0.05, 4.0), (0.4, 10.0)] {
            assert!((Loss::bursts(mean, burst).mean() - mean).abs() < 1e-12);
        }
    }

    #[test]
    #[should_panic(expected = "needs bursts longer")]
    fn an_impossible_burst_model_is_refused() {
        Loss::bursts(0.9, 1.0);
    }
}
