//! Extended reports.

use super::{RtcpError, half, word};
use crate::units::Ssrc;

/// Header of a report block, in bytes.
const BLOCK_HEADER_BYTES: usize = 4;

/// XR: report blocks of several kinds, checked.
///
/// # Source
/// RFC 3611 §2, §3.
#[derive(Debug, Clone, Copy)]
pub struct ExtendedReport<'a> {
    body: &'a [u8],
}

impl<'a> ExtendedReport<'a> {
    /// `body` holds at least the author's SSRC.
    pub(super) fn check(body: &'a [u8]) -> Result<Self, RtcpError> {
        let mut rest = &body[4..];
        while !rest.is_empty() {
            (_, rest) = XrBlock::split(rest).ok_or(RtcpError::BadXr)?;
        }
        Ok(Self { body })
    }

    /// Its author.
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(word(self.body, 0))
    }

    /// The blocks in order.
    pub fn blocks(&self) -> impl Iterator<Item = XrBlock<'a>> + use<'a> {
        let mut rest = &self.body[4..];
        std::iter::from_fn(move || {
            let (block, after) = XrBlock::split(rest)?;
            rest = after;
            Some(block)
        })
    }
}

/// One block of an extended report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XrBlock<'a> {
    /// Block type.
    pub block_type: u8,
    /// Meaning depends on the type.
    pub type_specific: u8,
    /// Contents behind the four-byte block header.
    pub data: &'a [u8],
}

impl<'a> XrBlock<'a> {
    /// Block type of [`VoipMetrics`].
    pub const VOIP_METRICS: u8 = 7;

    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[block_type, type_specific, high, low], rest) =
            bytes.split_first_chunk::<BLOCK_HEADER_BYTES>()?;
        let (data, rest) = rest.split_at_checked(4 * usize::from(u16::from_be_bytes([high, low])))?;
        Some((
            Self {
                block_type,
                type_specific,
                data,
            },
            rest,
        ))
    }

    /// The VoIP metrics in it, if it is such a block of the right length.
    pub fn voip_metrics(&self) -> Option<VoipMetrics> {
        if self.block_type != Self::VOIP_METRICS {
            return None;
        }
        VoipMetrics::read(self.data)
    }
}

/// How a call sounds at its receiver.
///
/// # Source
/// RFC 3611 §4.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VoipMetrics {
    /// The source this is about.
    pub ssrc: Ssrc,
    /// Lost in the network, in 1/256.
    pub loss_rate: u8,
    /// Discarded by the jitter buffer, in 1/256.
    pub discard_rate: u8,
    /// Loss and discard within bursts, in 1/256.
    pub burst_density: u8,
    /// Loss and discard within gaps, in 1/256.
    pub gap_density: u8,
    /// Mean length of a burst in ms.
    pub burst_duration_ms: u16,
    /// Mean length of a gap in ms.
    pub gap_duration_ms: u16,
    /// Last round trip in ms; 0 if unknown.
    pub round_trip_ms: u16,
    /// Delay in the end system in ms; 0 if unknown.
    pub end_system_delay_ms: u16,
    /// dBm0, two's complement; 127 if unknown.
    pub signal_level: i8,
    /// dBm0, two's complement; 127 if unknown.
    pub noise_level: i8,
    /// Residual echo return loss in dB; 127 if unknown.
    pub echo_return_loss: u8,
    /// Fewest packets of a gap (Gmin), recommended 16.
    pub gap_threshold: u8,
    /// R factor 0 to 100; 127 if unknown.
    pub r_factor: u8,
    /// R factor of an external segment; 127 if unknown.
    pub external_r_factor: u8,
    /// Listening quality, MOS × 10; 127 if unknown.
    pub mos_lq_x10: u8,
    /// Conversational quality, MOS × 10; 127 if unknown.
    pub mos_cq_x10: u8,
    /// Concealment, jitter buffer kind and rate.
    pub receiver_configuration: u8,
    /// Jitter buffer: current nominal delay in ms.
    pub jitter_buffer_nominal_ms: u16,
    /// Jitter buffer: current maximum in ms.
    pub jitter_buffer_max_ms: u16,
    /// Jitter buffer: absolute maximum in ms.
    pub jitter_buffer_abs_max_ms: u16,
}

impl VoipMetrics {
    /// Length behind the block header.
    pub const BYTES: usize = 32;

    fn read(data: &[u8]) -> Option<Self> {
        if data.len() != Self::BYTES {
            return None;
        }
        Some(Self {
            ssrc: Ssrc(word(data, 0)),
            loss_rate: data[4],
            discard_rate: data[5],
            burst_density: data[6],
            gap_density: data[7],
            burst_duration_ms: half(data, 8),
            gap_duration_ms: half(data, 10),
            round_trip_ms: half(data, 12),
            end_system_delay_ms: half(data, 14),
            signal_level: data[16] as i8,
            noise_level: data[17] as i8,
            echo_return_loss: data[18],
            gap_threshold: data[19],
            r_factor: data[20],
            external_r_factor: data[21],
            mos_lq_x10: data[22],
            mos_cq_x10: data[23],
            receiver_configuration: data[24],
            jitter_buffer_nominal_ms: half(data, 26),
            jitter_buffer_max_ms: half(data, 28),
            jitter_buffer_abs_max_ms: half(data, 30),
        })
    }
}
