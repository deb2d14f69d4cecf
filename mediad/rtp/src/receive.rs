//! What arrived on one synchronisation source: sequence checks, loss, duplicates, reordering, jitter.

use std::time::{Duration, Instant};

use crate::rtcp::ReportBlock;
use crate::time::{Now, to_short_ntp};
use crate::units::{ClockRate, ExtendedSeq, RtpTimestamp, Ssrc};

/// A forward jump of this many packets or more is suspicious (RFC 3550 A.1).
pub const MAX_DROPOUT: u16 = 3000;
/// A packet up to this far behind the newest is late; further behind it is suspicious (RFC 3550 A.1).
pub const MAX_MISORDER: u16 = 100;
/// In-sequence packets before a source counts as valid (RFC 3550 A.1).
pub const MIN_SEQUENTIAL: u8 = 2;
/// So many packets one behind the other that were all seen before, and none that is new: the sender restarted a little behind
/// where it was. A network that repeats packets mixes them with new ones.
pub const REPEATED_RESTART: u8 = 8;

/// Transit-time jumps beyond this re-anchor the jitter estimate instead of entering it: the sender changed
/// its clock or its source, and a single such sample would hide the true jitter for minutes.
const TRANSIT_JUMP_MAX: Duration = Duration::from_secs(5);
/// Cycle in which the line of extended numbers starts; see [`ExtendedSeq`].
const FIRST_CYCLE: u64 = 1 << 16;
/// The 24 bits of "cumulative number of packets lost" are signed (RFC 3550 §6.4.1).
const CUMULATIVE_LOST_RANGE: std::ops::RangeInclusive<i32> = -0x80_0000..=0x7f_ffff;

/// What to do with one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeqVerdict {
    /// The newest packet so far: use it.
    Accepted {
        /// Its number on the unbroken line.
        ext: ExtendedSeq,
    },
    /// Behind the newest and not seen before: use it if it still helps.
    Late {
        /// Its number on the unbroken line.
        ext: ExtendedSeq,
    },
    /// Seen before, as far as the window of 128 packets can tell: drop.
    Duplicate,
    /// The source is not valid yet; the packet is not counted.
    Probation,
    /// The sender restarted its sequence; the statistics of RFC 3550 begin anew. Use the packet.
    Restarted {
        /// Its number: in a later cycle than every number before, so the line still only grows.
        ext: ExtendedSeq,
    },
    /// A jump that no second packet has confirmed yet: drop.
    BadSequence,
}

/// When and with which timestamp the last sender report of this source arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSr {
    /// Middle 32 bits of its NTP timestamp.
    pub ntp_middle: u32,
    /// When it arrived.
    pub arrival: Instant,
}

/// Statistics of one source, updated per packet without allocation; 96 bytes.
///
/// Totals ([`received`](Self::received), [`lost`](Self::lost) …) run over restarts of the sender;
/// [`report_block`](Self::report_block) starts over with it, as RFC 3550 A.1 wants.
///
/// # Source
/// RFC 3550 A.1 (sequence), A.3 (loss), A.8 (jitter).
#[derive(Debug, Clone)]
pub struct ReceiveStats {
    /// Bit n: the packet n behind `newest` was seen.
    seen: [u64; 2],
    /// 0 until a packet came.
    newest: u64,
    /// First number of the line, low 32 bits.
    base: u32,
    /// Arrival and timestamp of the newest packet that entered the jitter estimate.
    timed_arrival: Option<Instant>,
    timed_timestamp: RtpTimestamp,
    received: u32,
    expected_prior: u32,
    received_prior: u32,
    received_before: u32,
    lost_before: i32,
    /// In ticks, scaled by 16.
    jitter_q4: u32,
    duplicates: u32,
    late: u32,
    bad_sequence: u32,
    max_gap: u16,
    /// Where a jump must continue to count as a restart.
    resume_at: Option<u16>,
    /// Duplicates one behind the other since the newest packet, and where they go on.
    repeated: u8,
    repeats_at: u16,
    restarts: u8,
    probation: u8,
    probation_left: u8,
}

const _: () = assert!(size_of::<ReceiveStats>() <= 96);

impl Default for ReceiveStats {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveStats {
    /// For a source that nothing authenticates: valid after [`MIN_SEQUENTIAL`] packets in sequence.
    pub const fn new() -> Self {
        Self::with_probation(MIN_SEQUENTIAL)
    }

    /// Valid after `packets` in sequence; 0 and 1 accept the first packet, which suits SRTP.
    pub const fn with_probation(packets: u8) -> Self {
        let probation = if packets == 0 { 1 } else { packets };
        Self {
            seen: [0; 2],
            newest: 0,
            base: 0,
            timed_arrival: None,
            timed_timestamp: RtpTimestamp(0),
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            received_before: 0,
            lost_before: 0,
            jitter_q4: 0,
            duplicates: 0,
            late: 0,
            bad_sequence: 0,
            max_gap: 0,
            resume_at: None,
            repeated: 0,
            repeats_at: 0,
            restarts: 0,
            probation,
            probation_left: probation,
        }
    }

    /// Count an RTP packet. `clock` is the clock of the payload format.
    ///
    /// Packets whose timestamp does not follow the media clock, that is telephone-events, go to
    /// [`on_untimed_packet`](Self::on_untimed_packet).
    #[inline]
    pub fn on_packet(
        &mut self,
        seq: u16,
        rtp_ts: RtpTimestamp,
        arrival: Instant,
        clock: ClockRate,
    ) -> SeqVerdict {
        let verdict = self.on_untimed_packet(seq);
        match verdict {
            SeqVerdict::Accepted { .. } | SeqVerdict::Late { .. } => {
                self.update_jitter(rtp_ts, arrival, clock)
            }
            SeqVerdict::Restarted { .. } => {
                self.timed_arrival = Some(arrival);
                self.timed_timestamp = rtp_ts;
            }
            SeqVerdict::Duplicate | SeqVerdict::Probation | SeqVerdict::BadSequence => {}
        }
        verdict
    }

    /// Timestamps count on the clock `to` from here on and no longer on `from`, as where the codec changes within a stream. The jitter
    /// goes on from what it was; between a packet before and one after that there is none.
    pub fn change_clock(&mut self, from: ClockRate, to: ClockRate) {
        self.jitter_q4 = from.convert(self.jitter_q4, to);
        self.timed_arrival = None;
    }

    /// Count an RTP packet without letting its timestamp into the jitter: telephone-event packets repeat
    /// the timestamp of the start of their event (RFC 4733 §2.5.1.2), which is not jitter.
    #[inline]
    pub fn on_untimed_packet(&mut self, seq: u16) -> SeqVerdict {
        if self.probation_left > 0 {
            return self.on_probation(seq);
        }
        let ahead = seq.wrapping_sub(self.newest as u16);
        if ahead != 0 && ahead < MAX_DROPOUT {
            self.resume_at = None;
            self.repeated = 0;
            self.max_gap = self.max_gap.max(ahead - 1);
            self.newest += u64::from(ahead);
            self.shift_seen(ahead);
            self.received = self.received.wrapping_add(1);
            return SeqVerdict::Accepted {
                ext: ExtendedSeq(self.newest),
            };
        }
        let behind = ahead.wrapping_neg();
        if behind <= MAX_MISORDER {
            return self.on_late(seq, behind);
        }
        // RFC 3550 A.1: two sequential packets after a large jump mean that the other side restarted.
        if self.resume_at == Some(seq) {
            return self.restart(seq);
        }
        self.resume_at = Some(seq.wrapping_add(1));
        self.bad_sequence = self.bad_sequence.saturating_add(1);
        SeqVerdict::BadSequence
    }

    fn on_probation(&mut self, seq: u16) -> SeqVerdict {
        let in_sequence = self.newest == 0 || seq == (self.newest as u16).wrapping_add(1);
        if !in_sequence {
            self.probation_left = self.probation;
        }
        self.probation_left -= 1;
        self.newest = FIRST_CYCLE | u64::from(seq);
        if self.probation_left > 0 {
            return SeqVerdict::Probation;
        }
        self.begin_line(FIRST_CYCLE | u64::from(seq));
        SeqVerdict::Accepted {
            ext: ExtendedSeq(self.newest),
        }
    }

    fn on_late(&mut self, seq: u16, behind: u16) -> SeqVerdict {
        let goes_on = self.repeated > 0 && seq == self.repeats_at;
        self.repeats_at = seq.wrapping_add(1);
        let word = &mut self.seen[usize::from(behind / 64)];
        let bit = 1u64 << (behind % 64);
        if *word & bit != 0 {
            self.repeated = if goes_on { self.repeated + 1 } else { 1 };
            if self.repeated >= REPEATED_RESTART {
                return self.restart(seq);
            }
            self.duplicates = self.duplicates.saturating_add(1);
            return SeqVerdict::Duplicate;
        }
        // One that had been lost may be among those of a restart.
        self.repeated = if goes_on { self.repeated } else { 0 };
        *word |= bit;
        self.received = self.received.wrapping_add(1);
        self.late = self.late.saturating_add(1);
        // Cannot underflow: the line starts at 65 536 and `behind` is at most MAX_MISORDER.
        SeqVerdict::Late {
            ext: ExtendedSeq(self.newest - u64::from(behind)),
        }
    }

    fn restart(&mut self, seq: u16) -> SeqVerdict {
        self.lost_before = self.lost();
        self.received_before = self.received();
        self.restarts = self.restarts.saturating_add(1);
        self.begin_line(((self.newest >> 16) + 1) << 16 | u64::from(seq));
        SeqVerdict::Restarted {
            ext: ExtendedSeq(self.newest),
        }
    }

    fn begin_line(&mut self, first: u64) {
        self.newest = first;
        self.base = first as u32;
        self.seen = [1, 0];
        self.repeated = 0;
        self.received = 1;
        self.expected_prior = 0;
        self.received_prior = 0;
        self.resume_at = None;
    }

    #[inline]
    fn shift_seen(&mut self, count: u16) {
        let [low, high] = self.seen;
        self.seen = match count {
            1 => [low << 1 | 1, high << 1 | low >> 63],
            2..=63 => [low << count | 1, high << count | low >> (64 - count)],
            64..=127 => [1, low << (count - 64)],
            _ => [1, 0],
        };
    }

    #[inline]
    fn update_jitter(&mut self, timestamp: RtpTimestamp, arrival: Instant, clock: ClockRate) {
        let media_ticks = timestamp.0.wrapping_sub(self.timed_timestamp.0);
        self.timed_timestamp = timestamp;
        let Some(previous) = self.timed_arrival.replace(arrival) else {
            return;
        };
        let elapsed_ticks = match arrival.checked_duration_since(previous) {
            Some(later) => clock.ticks(later) as u32,
            None => (clock.ticks(previous.saturating_duration_since(arrival)) as u32).wrapping_neg(),
        };
        // RFC 3550 §6.4.1: D(i,j) = (Rj - Ri) - (Sj - Si), modulo the 32 bits of the timestamp.
        let deviation = (elapsed_ticks.wrapping_sub(media_ticks) as i32).unsigned_abs();
        if u64::from(deviation) > clock.ticks(TRANSIT_JUMP_MAX) {
            return;
        }
        // RFC 3550 A.8, the integer form with its rounding.
        let decay = self.jitter_q4.saturating_add(8) >> 4;
        self.jitter_q4 = self.jitter_q4.saturating_add(deviation).saturating_sub(decay);
    }

    /// Whether the source has passed its probation.
    #[inline]
    pub const fn is_valid(&self) -> bool {
        self.probation_left == 0
    }

    /// The newest number on the line, once the source is valid.
    pub const fn newest(&self) -> Option<ExtendedSeq> {
        if self.is_valid() {
            Some(ExtendedSeq(self.newest))
        } else {
            None
        }
    }

    /// Packets received since the source became valid, without duplicates.
    pub const fn received(&self) -> u32 {
        self.received_before.wrapping_add(self.received)
    }

    /// Packets that should have come, over restarts.
    pub const fn expected(&self) -> u32 {
        self.received().wrapping_add(self.lost() as u32)
    }

    /// Packets missing so far; a late packet reduces it again.
    pub const fn lost(&self) -> i32 {
        self.lost_before
            .wrapping_add(self.expected_in_line().wrapping_sub(self.received) as i32)
    }

    /// Packets dropped as duplicates.
    pub const fn duplicates(&self) -> u32 {
        self.duplicates
    }

    /// Packets that came behind a newer one.
    pub const fn reordered(&self) -> u32 {
        self.late
    }

    /// Packets dropped because of an unconfirmed jump.
    pub const fn bad_sequence(&self) -> u32 {
        self.bad_sequence
    }

    /// Restarts of the sender's sequence.
    pub const fn restarts(&self) -> u8 {
        self.restarts
    }

    /// Longest run of missing packets at the moment it was noticed.
    pub const fn max_gap(&self) -> u16 {
        self.max_gap
    }

    /// Interarrival jitter in ticks of the clock.
    pub const fn jitter_ticks(&self) -> u32 {
        self.jitter_q4 >> 4
    }

    /// Interarrival jitter as time.
    pub const fn jitter(&self, clock: ClockRate) -> Duration {
        clock.duration(self.jitter_ticks() as u64)
    }

    const fn expected_in_line(&self) -> u32 {
        if !self.is_valid() {
            return 0;
        }
        (self.newest as u32).wrapping_sub(self.base).wrapping_add(1)
    }

    /// The report block on this source, `None` before it is valid. Starts a new interval for the fraction
    /// lost, so call it once per RTCP packet that is really sent.
    ///
    /// # Source
    /// RFC 3550 §6.4.1 and A.3.
    pub fn report_block(&mut self, ssrc: Ssrc, last_sr: Option<LastSr>, now: Now) -> Option<ReportBlock> {
        if !self.is_valid() {
            return None;
        }
        let expected = self.expected_in_line();
        let expected_interval = expected.wrapping_sub(self.expected_prior);
        let received_interval = self.received.wrapping_sub(self.received_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_interval = i64::from(expected_interval) - i64::from(received_interval);
        let fraction_lost = match lost_interval {
            lost @ 1.. if expected_interval > 0 => {
                ((lost << 8) / i64::from(expected_interval)).min(255) as u8
            }
            _ => 0,
        };
        let cumulative = (expected.wrapping_sub(self.received) as i32)
            .clamp(*CUMULATIVE_LOST_RANGE.start(), *CUMULATIVE_LOST_RANGE.end());
        let (last_sr_middle, delay) = match last_sr {
            Some(sr) => (
                sr.ntp_middle,
                to_short_ntp(now.mono.saturating_duration_since(sr.arrival)),
            ),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost,
            cumulative_lost: cumulative,
            // The wire's cycle count starts at zero with each line.
            highest_sequence: (self.newest as u32).wrapping_sub(self.base & !0xffff),
            jitter: self.jitter_ticks(),
            last_sr: last_sr_middle,
            delay_since_last_sr: delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    const CLOCK: ClockRate = ClockRate::HZ_8000;
    const SSRC: Ssrc = Ssrc(7);

    #[expect(
        clippy::disallowed_methods,
        reason = "an origin to count from; nothing depends on its value"
    )]
    fn now() -> Now {
        Now {
            mono: Instant::now(),
            wall: UNIX_EPOCH,
        }
    }

    /// A valid source whose newest packet is `seq`.
    fn valid(seq: u16) -> ReceiveStats {
        let mut stats = ReceiveStats::with_probation(0);
        assert_eq!(stats.on_untimed_packet(seq), accepted(u64::from(seq)));
        stats
    }

    fn accepted(above_first_cycle: u64) -> SeqVerdict {
        SeqVerdict::Accepted {
            ext: ExtendedSeq(FIRST_CYCLE + above_first_cycle),
        }
    }

    /// A sender that restarts within what counts as late is not kept out until it is where it was.
    #[test]
    fn a_sender_that_restarts_a_little_behind_is_heard_again_after_some_repeats() {
        for back in [20, MAX_MISORDER] {
            let mut stats = valid(65_500);
            for n in 1..=60 {
                // One is lost, and comes with the restart.
                if n != 58 {
                    stats.on_untimed_packet(65_500_u16.wrapping_add(n));
                }
            }
            let lost = stats.lost();
            let first = 65_500_u16.wrapping_add(60 + 1).wrapping_sub(back);
            let verdicts: Vec<SeqVerdict> = (0..100)
                .map(|n| stats.on_untimed_packet(first.wrapping_add(n)))
                .collect();
            let restart = verdicts
                .iter()
                .position(|verdict| matches!(verdict, SeqVerdict::Restarted { .. }));
            // Of a source that has not sent that much yet, the first ones were never seen.
            let restart = restart.expect("it restarts");
            assert!(restart <= usize::from(back), "{back}: {verdicts:?}");
            if back <= 60 {
                assert!(restart <= usize::from(REPEATED_RESTART), "{back}: {verdicts:?}");
            }
            let after = &verdicts[restart + 1..];
            assert!(
                after
                    .iter()
                    .all(|verdict| matches!(verdict, SeqVerdict::Accepted { .. }))
            );
            assert_eq!(stats.restarts(), 1);
            assert!(stats.lost() <= lost, "{back}");
        }
    }

    #[test]
    fn a_network_that_repeats_packets_among_new_ones_restarts_nothing() {
        let mut stats = valid(100);
        for n in 1..=40_u16 {
            stats.on_untimed_packet(100 + n);
        }
        for n in 0..200_u16 {
            assert!(matches!(
                stats.on_untimed_packet(141 + n),
                SeqVerdict::Accepted { .. }
            ));
            assert_eq!(stats.on_untimed_packet(120 + n), SeqVerdict::Duplicate);
        }
        // A burst that comes twice.
        for n in 0..u16::from(REPEATED_RESTART) - 1 {
            assert_eq!(stats.on_untimed_packet(300 + n), SeqVerdict::Duplicate);
        }
        assert!(matches!(
            stats.on_untimed_packet(341),
            SeqVerdict::Accepted { .. }
        ));
        assert_eq!(stats.restarts(), 0);
    }

    #[test]
    fn a_source_is_valid_after_two_packets_in_sequence() {
        let mut stats = ReceiveStats::new();
        assert_eq!(stats.on_untimed_packet(100), SeqVerdict::Probation);
        assert_eq!(stats.on_untimed_packet(100), SeqVerdict::Probation);
        assert_eq!(stats.on_untimed_packet(300), SeqVerdict::Probation);
        assert_eq!((stats.newest(), stats.expected(), stats.lost()), (None, 0, 0));
        assert_eq!(stats.on_untimed_packet(301), accepted(301));
        assert_eq!((stats.received(), stats.expected(), stats.lost()), (1, 1, 0));
    }

    #[test]
    fn a_longer_probation_starts_over_after_a_gap() {
        let mut stats = ReceiveStats::with_probation(4);
        for seq in [0, 1, 2, 10, 11, 12] {
            assert_eq!(
                stats.on_untimed_packet(seq),
                SeqVerdict::Probation,
                "sequence {seq}"
            );
        }
        assert_eq!(stats.on_untimed_packet(13), accepted(13));
    }

    #[test]
    fn the_sequence_wraps_without_loss() {
        let mut stats = valid(65_534);
        assert_eq!(stats.on_untimed_packet(65_535), accepted(65_535));
        assert_eq!(stats.on_untimed_packet(0), accepted(65_536));
        assert_eq!(stats.on_untimed_packet(1), accepted(65_537));
        assert_eq!(stats.lost(), 0);
        let block = stats.report_block(SSRC, None, now()).unwrap();
        assert_eq!(block.highest_sequence, 0x1_0001);
    }

    #[test]
    fn a_late_packet_before_the_first_one_has_a_number() {
        let mut stats = valid(0);
        assert_eq!(
            stats.on_untimed_packet(65_535),
            SeqVerdict::Late {
                ext: ExtendedSeq(0xffff)
            }
        );
        assert_eq!(stats.lost(), -1);
    }

    #[test]
    fn gaps_late_packets_and_duplicates_are_told_apart() {
        let mut stats = valid(10);
        assert_eq!(stats.on_untimed_packet(14), accepted(14));
        assert_eq!((stats.lost(), stats.max_gap()), (3, 3));
        let late = SeqVerdict::Late {
            ext: ExtendedSeq(FIRST_CYCLE + 12),
        };
        assert_eq!(stats.on_untimed_packet(12), late);
        assert_eq!(stats.on_untimed_packet(12), SeqVerdict::Duplicate);
        assert_eq!(stats.on_untimed_packet(14), SeqVerdict::Duplicate);
        assert_eq!(stats.on_untimed_packet(10), SeqVerdict::Duplicate);
        assert_eq!((stats.received(), stats.lost()), (3, 2));
        assert_eq!((stats.reordered(), stats.duplicates()), (1, 3));
    }

    #[test]
    fn duplicates_are_found_over_the_whole_misorder_range() {
        for step in [1u16, 2, 63, 64, 65, 99, 100] {
            let mut stats = valid(1000);
            assert_eq!(
                stats.on_untimed_packet(1000 + step),
                accepted(1000 + u64::from(step))
            );
            assert_eq!(
                stats.on_untimed_packet(1000),
                SeqVerdict::Duplicate,
                "step {step}"
            );
        }
        let mut stats = valid(1000);
        for seq in 1001..1130 {
            stats.on_untimed_packet(seq);
        }
        for behind in 0..=MAX_MISORDER {
            assert_eq!(
                stats.on_untimed_packet(1129 - behind),
                SeqVerdict::Duplicate,
                "behind {behind}"
            );
        }
    }

    #[test]
    fn a_restart_needs_two_packets_and_keeps_the_totals() {
        let mut stats = valid(10);
        stats.on_untimed_packet(12);
        assert_eq!(stats.on_untimed_packet(40_000), SeqVerdict::BadSequence);
        // A stray packet alone changes nothing.
        assert_eq!(stats.on_untimed_packet(13), accepted(13));
        assert_eq!(stats.on_untimed_packet(40_001), SeqVerdict::BadSequence);
        let restarted = SeqVerdict::Restarted {
            ext: ExtendedSeq(2 * FIRST_CYCLE + 40_002),
        };
        assert_eq!(stats.on_untimed_packet(40_002), restarted);
        assert_eq!((stats.received(), stats.lost(), stats.restarts()), (4, 1, 1));
        assert_eq!((stats.expected(), stats.bad_sequence()), (5, 2));
        let block = stats.report_block(SSRC, None, now()).unwrap();
        assert_eq!((block.cumulative_lost, block.highest_sequence), (0, 40_002));
    }

    #[test]
    fn the_dropout_and_misorder_limits_are_those_of_rfc_3550() {
        assert_eq!(
            valid(0).on_untimed_packet(MAX_DROPOUT - 1),
            accepted(u64::from(MAX_DROPOUT) - 1)
        );
        assert_eq!(valid(0).on_untimed_packet(MAX_DROPOUT), SeqVerdict::BadSequence);
        let late = SeqVerdict::Late {
            ext: ExtendedSeq(FIRST_CYCLE + 400),
        };
        assert_eq!(valid(500).on_untimed_packet(500 - MAX_MISORDER), late);
        assert_eq!(
            valid(500).on_untimed_packet(500 - MAX_MISORDER - 1),
            SeqVerdict::BadSequence
        );
    }

    #[test]
    fn the_fraction_lost_is_of_the_interval() {
        let mut stats = valid(0);
        // 0 … 99 with every fourth missing.
        for seq in (1..100).filter(|seq| seq % 4 != 3) {
            stats.on_untimed_packet(seq);
        }
        stats.on_untimed_packet(100);
        let block = stats.report_block(SSRC, None, now()).unwrap();
        assert_eq!(
            (block.cumulative_lost, block.fraction_lost),
            (25, (25 * 256 / 101) as u8)
        );
        stats.on_untimed_packet(101);
        let block = stats.report_block(SSRC, None, now()).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (25, 0));
        // A late packet makes the interval's loss negative: RFC 3550 A.3 reports zero.
        stats.on_untimed_packet(99);
        let block = stats.report_block(SSRC, None, now()).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (24, 0));
    }

    #[test]
    fn total_loss_but_one_is_not_more_than_255() {
        let mut stats = valid(0);
        stats.report_block(SSRC, None, now());
        stats.on_untimed_packet(2999);
        let block = stats.report_block(SSRC, None, now()).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (2998, 255));
    }

    #[test]
    fn the_delay_since_the_last_sender_report_is_told() {
        let mut stats = valid(0);
        let now = now();
        let last_sr = LastSr {
            ntp_middle: 0x1234_5678,
            arrival: now.mono,
        };
        let block = stats
            .report_block(SSRC, Some(last_sr), now.after(Duration::from_millis(2500)))
            .unwrap();
        assert_eq!(
            (block.last_sr, block.delay_since_last_sr),
            (0x1234_5678, 0x2_8000)
        );
    }

    /// Sends `count` packets of 20 ms, arriving `offset_ms(n)` after their time.
    fn run(stats: &mut ReceiveStats, count: u16, offset_ms: impl Fn(u16) -> u64) {
        let start = now().mono;
        for n in 0..count {
            let arrival = start + Duration::from_millis(20 * u64::from(n) + offset_ms(n));
            stats.on_packet(
                n,
                RtpTimestamp(u32::MAX - 500).wrapping_add(160 * u32::from(n)),
                arrival,
                CLOCK,
            );
        }
    }

    #[test]
    fn a_steady_stream_has_no_jitter_even_where_the_timestamp_wraps() {
        let mut stats = ReceiveStats::new();
        run(&mut stats, 100, |_| 7);
        assert_eq!(stats.jitter_ticks(), 0);
    }

    #[test]
    fn jitter_converges_to_the_mean_deviation() {
        let mut stats = ReceiveStats::new();
        // Every packet deviates by 5 ms from the one before.
        run(&mut stats, 500, |n| u64::from(n % 2) * 5);
        assert!(
            (39..=40).contains(&stats.jitter_ticks()),
            "{}",
            stats.jitter_ticks()
        );
        assert!(stats.jitter(CLOCK) <= Duration::from_millis(5));
    }

    #[test]
    fn jitter_follows_the_integer_algorithm_of_rfc_3550_a_8() {
        let mut stats = ReceiveStats::with_probation(0);
        let start = now().mono;
        let (mut reference, mut transit_before) = (0u32, None);
        for n in 0..200u32 {
            let delay_ms = (n * 7919 % 31) as u64;
            let arrival = start + Duration::from_millis(20 * u64::from(n) + delay_ms);
            stats.on_packet(n as u16, RtpTimestamp(160 * n), arrival, CLOCK);
            let transit = (delay_ms * 8) as i32;
            if let Some(before) = transit_before.replace(transit) {
                reference = reference + transit.abs_diff(before) - ((reference + 8) >> 4);
            }
            assert_eq!(stats.jitter_ticks(), reference >> 4, "packet {n}");
        }
        assert!(reference > 0);
    }

    #[test]
    fn a_jump_of_the_media_clock_is_not_jitter() {
        let mut stats = ReceiveStats::with_probation(0);
        let start = now().mono;
        for n in 0..100u16 {
            let jump = if n < 50 { 0 } else { 0x7000_0000 };
            let arrival = start + Duration::from_millis(20 * u64::from(n));
            stats.on_packet(
                n,
                RtpTimestamp(jump).wrapping_add(160 * u32::from(n)),
                arrival,
                CLOCK,
            );
        }
        assert_eq!(stats.jitter_ticks(), 0);
    }

    #[test]
    fn events_between_audio_leave_the_jitter_alone() {
        let mut stats = ReceiveStats::with_probation(0);
        let start = now().mono;
        for n in 0..100u16 {
            if (20..30).contains(&n) {
                stats.on_untimed_packet(n);
                continue;
            }
            let arrival = start + Duration::from_millis(20 * u64::from(n));
            stats.on_packet(n, RtpTimestamp(160 * u32::from(n)), arrival, CLOCK);
        }
        assert_eq!((stats.received(), stats.jitter_ticks()), (100, 0));
    }

    #[test]
    fn arrivals_that_go_backwards_do_no_harm() {
        let mut stats = ReceiveStats::with_probation(0);
        let start = now().mono + Duration::from_secs(1);
        stats.on_packet(0, RtpTimestamp(0), start, CLOCK);
        stats.on_packet(1, RtpTimestamp(160), start - Duration::from_millis(20), CLOCK);
        // 40 ms early: a deviation of 320 ticks, one sixteenth of which counts.
        assert_eq!(stats.jitter_ticks(), 20);
    }
}
