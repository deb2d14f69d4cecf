//! The two clocks a core is given, and the NTP format of the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970), RFC 5905 §6.
const NTP_UNIX_OFFSET_S: u64 = 2_208_988_800;

/// The monotonic and the wall clock, read together by the shell and passed into every core call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic clock: every interval and deadline.
    pub mono: Instant,
    /// Wall clock: NTP timestamps and anything a person reads.
    pub wall: SystemTime,
}

impl Now {
    /// Both clocks `duration` later; for tests and simulations.
    pub fn after(self, duration: Duration) -> Self {
        Self {
            mono: self.mono + duration,
            wall: self.wall + duration,
        }
    }
}

/// 64-bit NTP timestamp: seconds since 1900 in the upper half, fraction in the lower, modulo 2³² s.
///
/// # Source
/// RFC 3550 §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NtpTimestamp(pub u64);

impl NtpTimestamp {
    /// From the wall clock; a clock before 1970 counts as 1970.
    pub fn from_wall(wall: SystemTime) -> Self {
        let unix = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = unix.as_secs().wrapping_add(NTP_UNIX_OFFSET_S) << 32;
        let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
        Self(seconds | fraction)
    }

    /// The middle 32 bits: 16.16 fixed-point seconds, as LSR carries them (RFC 3550 §6.4.1).
    #[inline]
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// `duration` in units of 1/65536 s, as DLSR carries it (RFC 3550 §6.4.1); saturates.
pub fn to_short_ntp(duration: Duration) -> u32 {
    let units = (duration.as_secs() << 16) + ((u64::from(duration.subsec_nanos()) << 16) / 1_000_000_000);
    if duration.as_secs() > u64::from(u16::MAX) {
        u32::MAX
    } else {
        units as u32
    }
}

/// A 16.16 fixed-point number of seconds as a duration.
pub fn from_short_ntp(units: u32) -> Duration {
    let nanos = (u64::from(units & 0xffff) * 1_000_000_000) >> 16;
    Duration::new(u64::from(units >> 16), nanos as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_epoch_is_1970_in_ntp() {
        let ntp = NtpTimestamp::from_wall(UNIX_EPOCH + Duration::from_millis(500));
        assert_eq!(ntp.0, 2_208_988_800u64 << 32 | 0x8000_0000);
        assert_eq!(ntp.middle(), 0x7e80_8000);
        let before = NtpTimestamp::from_wall(UNIX_EPOCH - Duration::from_secs(9));
        assert_eq!(before.0, 2_208_988_800u64 << 32);
    }

    #[test]
    fn ntp_era_wraps_in_2036() {
        let wall = UNIX_EPOCH + Duration::from_secs((1u64 << 32) - NTP_UNIX_OFFSET_S);
        assert_eq!(NtpTimestamp::from_wall(wall).0, 0);
    }

    #[test]
    fn short_format_saturates_and_round_trips() {
        assert_eq!(to_short_ntp(Duration::from_millis(1500)), 0x1_8000);
        assert_eq!(from_short_ntp(0x1_8000), Duration::from_millis(1500));
        assert_eq!(to_short_ntp(Duration::from_secs(65_536)), u32::MAX);
        assert_eq!(to_short_ntp(Duration::from_secs(u64::MAX)), u32::MAX);
    }
}
