//! Units of an RTP stream as types, so that ticks, samples, milliseconds and sequence numbers never mix.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Synchronisation source identifier.
///
/// # Source
/// RFC 3550 §3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ssrc(pub u32);

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// RTP payload type, 0 to 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadType(u8);

impl PayloadType {
    /// G.711 µ-law (RFC 3551 §6).
    pub const PCMU: Self = Self(0);
    /// G.711 A-law (RFC 3551 §6).
    pub const PCMA: Self = Self(8);
    /// G.722 at 64 kbit/s (RFC 3551 §6).
    pub const G722: Self = Self(9);
    /// Comfort noise at 8 kHz (RFC 3389 §4).
    pub const COMFORT_NOISE: Self = Self(13);

    /// `None` if `value` needs more than seven bits.
    #[inline]
    pub const fn new(value: u8) -> Option<Self> {
        if value < 128 { Some(Self(value)) } else { None }
    }

    /// The payload type in the low seven bits of `byte`; the marker bit above it is ignored.
    #[inline]
    pub const fn from_low_bits(byte: u8) -> Self {
        Self(byte & 0x7f)
    }

    /// The number, 0 to 127.
    #[inline]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// RTP timestamp: ticks of the payload format's clock, modulo 2³².
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RtpTimestamp(pub u32);

impl RtpTimestamp {
    /// The timestamp `ticks` later.
    #[inline]
    pub const fn wrapping_add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// The timestamp `ticks` earlier.
    #[inline]
    pub const fn wrapping_sub(self, ticks: u32) -> Self {
        Self(self.0.wrapping_sub(ticks))
    }

    /// Ticks from `earlier` to `self`, negative if `self` is the earlier one (shortest way round).
    #[inline]
    pub const fn diff(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// Sequence number without wrap-around: the low 16 bits are the number on the wire.
///
/// [`crate::receive::ReceiveStats`] starts its line in cycle 1, so that packets from before the first
/// one seen have a number too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ExtendedSeq(pub u64);

impl ExtendedSeq {
    /// The 16 bits on the wire.
    #[inline]
    pub const fn wire(self) -> u16 {
        self.0 as u16
    }

    /// The number `count` packets later.
    #[inline]
    pub const fn wrapping_add(self, count: u64) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Packets from `earlier` to `self`, negative if `self` is the earlier one.
    #[inline]
    pub const fn diff(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }

    /// The extended number nearest to `self` whose wire form is `sequence`; never below zero.
    #[inline]
    pub const fn nearest(self, sequence: u16) -> Self {
        let delta = sequence.wrapping_sub(self.wire()) as i16;
        match self.0.checked_add_signed(delta as i64) {
            Some(extended) => Self(extended),
            None => Self(sequence as u64),
        }
    }
}

/// RTP clock rate in hertz.
///
/// G.722 has an RTP clock of 8 000 although it samples at 16 000 (RFC 3551 §4.5.2); use one `ClockRate`
/// for the clock and another for the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClockRate(NonZeroU32);

impl ClockRate {
    /// 8 kHz: G.711, G.722, telephone-event beside them.
    pub const HZ_8000: Self = Self(NonZeroU32::new(8_000).expect("8000 is not zero"));
    /// 16 kHz.
    pub const HZ_16000: Self = Self(NonZeroU32::new(16_000).expect("16000 is not zero"));
    /// 48 kHz: Opus always.
    pub const HZ_48000: Self = Self(NonZeroU32::new(48_000).expect("48000 is not zero"));

    /// `None` for zero.
    pub const fn new(hz: u32) -> Option<Self> {
        match NonZeroU32::new(hz) {
            Some(hz) => Some(Self(hz)),
            None => None,
        }
    }

    /// Hertz.
    #[inline]
    pub const fn hz(self) -> u32 {
        self.0.get()
    }

    /// What `ticks` of this clock are on another one, rounded down; saturates at `u32::MAX`.
    #[inline]
    pub const fn convert(self, ticks: u32, to: Self) -> u32 {
        let ticks = ticks as u64 * to.hz() as u64 / self.hz() as u64;
        if ticks < u32::MAX as u64 {
            ticks as u32
        } else {
            u32::MAX
        }
    }

    /// Ticks in `duration`, rounded to the nearest; saturates at `u64::MAX`.
    #[inline]
    pub const fn ticks(self, duration: Duration) -> u64 {
        let hz = self.0.get() as u64;
        let whole = duration.as_secs().saturating_mul(hz);
        // subsec_nanos < 10⁹ and hz < 2³², so the product stays below 2⁶².
        let part =
            (duration.subsec_nanos() as u64 * hz + NANOS_PER_SECOND as u64 / 2) / NANOS_PER_SECOND as u64;
        whole.saturating_add(part)
    }

    /// Duration of `ticks`, rounded down to the nanosecond.
    #[inline]
    pub const fn duration(self, ticks: u64) -> Duration {
        let hz = self.0.get() as u64;
        // The remainder is below 2³², so the product stays below 2⁶².
        let nanos = (ticks % hz) * NANOS_PER_SECOND as u64 / hz;
        Duration::new(ticks / hz, nanos as u32)
    }
}

/// Packet time: how much media one packet carries, in whole milliseconds, 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ptime(u16);

impl Ptime {
    /// 10 ms.
    pub const MS_10: Self = Self(10);
    /// 20 ms, the default of nearly every peer.
    pub const MS_20: Self = Self(20);
    /// 30 ms.
    pub const MS_30: Self = Self(30);
    /// 60 ms.
    pub const MS_60: Self = Self(60);

    /// `None` outside 1 to 1000 ms.
    pub const fn new(ms: u16) -> Option<Self> {
        if ms >= 1 && ms <= 1000 {
            Some(Self(ms))
        } else {
            None
        }
    }

    /// Milliseconds.
    #[inline]
    pub const fn ms(self) -> u16 {
        self.0
    }

    /// The same as a duration.
    #[inline]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }

    /// Ticks of `clock` per packet, rounded down; saturates at `u32::MAX`.
    #[inline]
    pub const fn ticks(self, clock: ClockRate) -> u32 {
        let ticks = clock.hz() as u64 * self.0 as u64 / 1000;
        if ticks > u32::MAX as u64 {
            u32::MAX
        } else {
            ticks as u32
        }
    }

    /// Samples per channel and packet at `sample_rate`.
    #[inline]
    pub const fn samples(self, sample_rate: ClockRate) -> Samples {
        Samples(self.ticks(sample_rate))
    }
}

/// A count of audio samples per channel. The crate counts samples and never sees one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Samples(pub u32);

impl Samples {
    /// Ticks of `clock` that this many samples at `sample_rate` last, rounded down, modulo 2³².
    #[inline]
    pub const fn ticks(self, sample_rate: ClockRate, clock: ClockRate) -> u32 {
        (self.0 as u64 * clock.hz() as u64 / sample_rate.hz() as u64) as u32
    }

    /// How long this many samples at `sample_rate` last.
    #[inline]
    pub const fn duration(self, sample_rate: ClockRate) -> Duration {
        sample_rate.duration(self.0 as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn payload_type_refuses_the_eighth_bit() {
        assert_eq!(PayloadType::new(127).map(PayloadType::value), Some(127));
        assert_eq!(PayloadType::new(128), None);
        assert_eq!(PayloadType::from_low_bits(0x80 | 101).value(), 101);
    }

    #[test]
    fn timestamp_difference_crosses_the_wrap() {
        let before = RtpTimestamp(u32::MAX - 79);
        let after = before.wrapping_add(160);
        assert_eq!(after, RtpTimestamp(80));
        assert_eq!(after.diff(before), 160);
        assert_eq!(before.diff(after), -160);
        assert_eq!(after.wrapping_sub(160), before);
    }

    #[test]
    fn nearest_extended_sequence_crosses_the_wrap_both_ways() {
        assert_eq!(ExtendedSeq(0x1_fffe).nearest(1), ExtendedSeq(0x2_0001));
        assert_eq!(ExtendedSeq(0x2_0001).nearest(0xfffe), ExtendedSeq(0x1_fffe));
        assert_eq!(ExtendedSeq(3).nearest(0xfff0), ExtendedSeq(0xfff0));
    }

    #[test]
    fn g722_clock_and_samples_differ() {
        let samples = Ptime::MS_20.samples(ClockRate::HZ_16000);
        assert_eq!(samples, Samples(320));
        assert_eq!(samples.ticks(ClockRate::HZ_16000, ClockRate::HZ_8000), 160);
        assert_eq!(samples.duration(ClockRate::HZ_16000), Duration::from_millis(20));
    }

    #[test]
    fn extreme_values_saturate() {
        let fastest = ClockRate::new(u32::MAX).unwrap();
        assert_eq!(fastest.ticks(Duration::MAX), u64::MAX);
        assert_eq!(Ptime::new(1000).unwrap().ticks(fastest), u32::MAX);
        assert_eq!(ClockRate::new(0), None);
        assert_eq!(Ptime::new(0), None);
        assert_eq!(Ptime::new(1001), None);
    }

    proptest! {
        #[test]
        fn ticks_survive_the_way_through_duration(hz in 1u32..=192_000, ticks in 0u64..1 << 40) {
            let clock = ClockRate::new(hz).unwrap();
            prop_assert_eq!(clock.ticks(clock.duration(ticks)), ticks);
        }

        #[test]
        fn nearest_is_within_half_a_cycle(from in 0x1_0000u64..1 << 48, sequence: u16) {
            let found = ExtendedSeq(from).nearest(sequence);
            prop_assert_eq!(found.wire(), sequence);
            prop_assert!(found.diff(ExtendedSeq(from)).abs() <= 0x8000);
        }
    }
}
