//! Sender and receiver reports.

use std::time::Duration;

use super::word;
use crate::time::{NtpTimestamp, from_short_ntp};
use crate::units::{RtpTimestamp, Ssrc};

/// What a sender says about its own stream.
///
/// # Source
/// RFC 3550 §6.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenderInfo {
    /// Wall clock when the report was sent.
    pub ntp: NtpTimestamp,
    /// The same moment on the media clock.
    pub rtp: RtpTimestamp,
    /// RTP packets sent so far.
    pub packet_count: u32,
    /// Payload bytes sent so far, without headers and padding.
    pub octet_count: u32,
}

impl SenderInfo {
    pub(super) const BYTES: usize = 20;

    pub(super) fn read(bytes: &[u8]) -> Self {
        Self {
            ntp: NtpTimestamp(u64::from(word(bytes, 0)) << 32 | u64::from(word(bytes, 4))),
            rtp: RtpTimestamp(word(bytes, 8)),
            packet_count: word(bytes, 12),
            octet_count: word(bytes, 16),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(&self.ntp.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.rtp.0.to_be_bytes());
        out[12..16].copy_from_slice(&self.packet_count.to_be_bytes());
        out[16..].copy_from_slice(&self.octet_count.to_be_bytes());
        out
    }
}

/// What a receiver says about one source.
///
/// # Source
/// RFC 3550 §6.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReportBlock {
    /// The source this is about.
    pub ssrc: Ssrc,
    /// Lost since the previous report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning; 24 bits, negative when duplicates outnumber losses.
    pub cumulative_lost: i32,
    /// Highest sequence number received, below the count of cycles.
    pub highest_sequence: u32,
    /// Interarrival jitter in ticks.
    pub jitter: u32,
    /// LSR: middle 32 bits of the NTP timestamp of the last sender report; 0 if there was none.
    pub last_sr: u32,
    /// DLSR: time since that report arrived, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    /// Length on the wire.
    pub const BYTES: usize = 24;

    pub(super) fn read(bytes: &[u8]) -> Self {
        Self {
            ssrc: Ssrc(word(bytes, 0)),
            fraction_lost: bytes[4],
            // The arithmetic shift extends the sign of the 24 bits.
            cumulative_lost: (word(bytes, 4) << 8) as i32 >> 8,
            highest_sequence: word(bytes, 8),
            jitter: word(bytes, 12),
            last_sr: word(bytes, 16),
            delay_since_last_sr: word(bytes, 20),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        let words = [
            self.ssrc.0,
            u32::from(self.fraction_lost) << 24 | lost,
            self.highest_sequence,
            self.jitter,
            self.last_sr,
            self.delay_since_last_sr,
        ];
        let mut out = [0; Self::BYTES];
        for (slot, word) in out.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_be_bytes());
        }
        out
    }
}

/// Round trip between the sender of a report and `block`'s author, when the block arrived at `now`.
///
/// `None` if the author has not heard a report yet, and if the figures contradict each other (clocks that
/// were set, or invented values): such a block says nothing.
///
/// # Source
/// RFC 3550 §6.4.1: A − LSR − DLSR.
pub fn round_trip_time(now: NtpTimestamp, block: &ReportBlock) -> Option<Duration> {
    if block.last_sr == 0 {
        return None;
    }
    let elapsed = now.middle().wrapping_sub(block.last_sr);
    // Half the range of the 16.16 format: beyond nine hours the clock has been set back.
    if elapsed > i32::MAX as u32 {
        return None;
    }
    elapsed.checked_sub(block.delay_since_last_sr).map(from_short_ntp)
}

/// Iterator over the report blocks of a report.
#[derive(Debug, Clone, Copy)]
pub struct ReportBlocks<'a> {
    bytes: &'a [u8],
}

impl<'a> ReportBlocks<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.bytes.split_at_checked(ReportBlock::BYTES)?;
        self.bytes = rest;
        Some(ReportBlock::read(block))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.bytes.len() / ReportBlock::BYTES;
        (count, Some(count))
    }
}

impl ExactSizeIterator for ReportBlocks<'_> {}

/// SR: what its author sent and received.
#[derive(Debug, Clone, Copy)]
pub struct SenderReport<'a> {
    /// Its author.
    pub ssrc: Ssrc,
    /// What it sent.
    pub info: SenderInfo,
    /// What it received. A profile-specific extension behind the blocks is ignored.
    pub reports: ReportBlocks<'a>,
}

/// RR: what its author received.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverReport<'a> {
    /// Its author.
    pub ssrc: Ssrc,
    /// What it received. A profile-specific extension behind the blocks is ignored.
    pub reports: ReportBlocks<'a>,
}
