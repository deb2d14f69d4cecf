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
            return self.on_late(behind);
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

    fn on_late(&mut self, behind: u16) -> SeqVerdict {
        let word = &mut self.seen[usize::from(behind / 64)];
        let bit = 1u64 << (behind % 64);
        if *word & bit != 0 {
            self.duplicates = self.duplicates.saturating_add(1);
            return SeqVerdict::Duplicate;
        }
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
