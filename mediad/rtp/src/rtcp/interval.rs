//! When to send the next RTCP packet.

use std::time::Duration;

/// Minimum interval between RTCP packets of one participant (RFC 3550 §6.2).
pub const MINIMUM_INTERVAL: Duration = Duration::from_secs(5);

/// Senders get this share of the RTCP bandwidth as long as they are fewer than it says (RFC 3550 §6.2).
const SENDER_SHARE: f64 = 0.25;
/// e − 3/2: makes up for timer reconsideration, which converges below the intended average (RFC 3550 A.7).
const COMPENSATION: f64 = std::f64::consts::E - 1.5;

/// What the interval depends on.
///
/// # Source
/// RFC 3550 §6.3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntervalInputs {
    /// Members of the session, ourselves included; 2 for a call.
    pub members: u32,
    /// Those of them who sent RTP lately.
    pub senders: u32,
    /// Whether we are one of them.
    pub we_sent: bool,
    /// RTCP bandwidth of the session in bytes per second: 5 % of the session's bandwidth.
    pub rtcp_bandwidth: u32,
    /// Average size of a compound packet with IP and UDP headers, in bytes.
    pub average_size: u32,
    /// Whether we have not sent RTCP yet.
    pub initial: bool,
    /// `Some(session bandwidth in kbit/s)` replaces the minimum of 5 s by 360 s divided by it (RFC 3550 §6.2).
    pub reduced_minimum_kbps: Option<u32>,
}

/// Time until the next RTCP packet. `random` is a uniformly random number; it spreads the interval over
/// [0.5, 1.5] of its mean so that participants do not synchronise.
///
/// # Source
/// RFC 3550 §6.2, §6.3.1, A.7.
pub fn transmission_interval(inputs: &IntervalInputs, random: u32) -> Duration {
    let mut minimum_s = match inputs.reduced_minimum_kbps {
        // RFC 3550 §6.2: a reduced minimum larger than 5 s is not a reduction.
        Some(kbps) => (360.0 / f64::from(kbps.max(1))).min(MINIMUM_INTERVAL.as_secs_f64()),
        None => MINIMUM_INTERVAL.as_secs_f64(),
    };
    if inputs.initial {
        minimum_s /= 2.0;
    }
    let members = f64::from(inputs.members.max(1));
    let senders = f64::from(inputs.senders);
    let mut bandwidth = f64::from(inputs.rtcp_bandwidth.max(1));
    let mut competitors = members;
    if senders > 0.0 && senders <= members * SENDER_SHARE {
        if inputs.we_sent {
            bandwidth *= SENDER_SHARE;
            competitors = senders;
        } else {
            bandwidth *= 1.0 - SENDER_SHARE;
            competitors -= senders;
        }
    }
    let mean_s = (f64::from(inputs.average_size) * competitors / bandwidth).max(minimum_s);
    let spread = f64::from(random) / f64::from(u32::MAX) + 0.5;
    // Largest possible: 2³² × 2³² × 1.5 / (1.2 × 0.25) s, which is beyond what a Duration holds.
    Duration::try_from_secs_f64(mean_s * spread / COMPENSATION).unwrap_or(Duration::MAX)
}
