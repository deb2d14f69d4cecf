//! Writes RTCP packets one behind the other into a buffer.

use thiserror::Error;

use super::packet::Feedback;
use super::packet_type;
use super::report::{ReportBlock, SenderInfo};
use super::sdes::SdesKind;
use crate::units::Ssrc;

/// Report blocks or sources that fit the five-bit count.
const COUNT_MAX: usize = 31;
/// Longest SDES value and BYE reason.
const TEXT_BYTES_MAX: usize = 255;

/// The buffer ends before the packet does; nothing of the packet was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[error("RTCP packet needs {needed} bytes, the buffer has {available} left")]
pub struct NoSpace {
    /// Bytes of the packet.
    pub needed: usize,
    /// Bytes left.
    pub available: usize,
}

/// Builds a compound packet in a buffer; nothing is allocated.
///
/// The caller keeps the order of RFC 3550 §6.1: a report first, then SDES, then the rest, BYE last. More than
/// 31 report blocks or sources, or texts of more than 255 bytes, do not fit one packet and are cut off.
///
/// ```
/// use rtp::rtcp::RtcpWriter;
/// use rtp::units::Ssrc;
///
/// let mut buffer = [0; 64];
/// let mut writer = RtcpWriter::new(&mut buffer);
/// writer.receiver_report(Ssrc(7), &[])?;
/// writer.sdes_cname(Ssrc(7), b"a1b2")?;
/// writer.bye(&[Ssrc(7)], b"")?;
/// assert_eq!(writer.finish().len(), 8 + 16 + 8);
/// # Ok::<(), rtp::rtcp::NoSpace>(())
/// ```
#[derive(Debug)]
pub struct RtcpWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> RtcpWriter<'a> {
    /// Write to the front of `buffer`.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The compound packet.
    pub fn finish(self) -> &'a mut [u8] {
        &mut self.buffer[..self.len]
    }

    /// Append an SR.
    ///
    /// # Errors
    /// [`NoSpace`]; nothing was written.
    pub fn sender_report(
        &mut self,
        ssrc: Ssrc,
        info: &SenderInfo,
        reports: &[ReportBlock],
    ) -> Result<(), NoSpace> {
        let reports = &reports[..reports.len().min(COUNT_MAX)];
        let body_len = 4 + SenderInfo::BYTES + reports.len() * ReportBlock::BYTES;
        let body = self.packet(packet_type::SR, reports.len() as u8, body_len)?;
        body[..4].copy_from_slice(&ssrc.0.to_be_bytes());
        body[4..4 + SenderInfo::BYTES].copy_from_slice(&info.to_bytes());
        write_reports(&mut body[4 + SenderInfo::BYTES..], reports);
        Ok(())
    }

    /// Append an RR.
    ///
    /// # Errors
    /// [`NoSpace`]; nothing was written.
    pub fn receiver_report(&mut self, ssrc: Ssrc, reports: &[ReportBlock]) -> Result<(), NoSpace> {
        let reports = &reports[..reports.len().min(COUNT_MAX)];
        let body_len = 4 + reports.len() * ReportBlock::BYTES;
        let body = self.packet(packet_type::RR, reports.len() as u8, body_len)?;
        body[..4].copy_from_slice(&ssrc.0.to_be_bytes());
        write_reports(&mut body[4..], reports);
        Ok(())
    }

    /// Append an SDES with one chunk that holds the CNAME.
    ///
    /// # Errors
    /// [`NoSpace`]; nothing was written.
    pub fn sdes_cname(&mut self, ssrc: Ssrc, cname: &[u8]) -> Result<(), NoSpace> {
        let cname = &cname[..cname.len().min(TEXT_BYTES_MAX)];
        // SSRC, kind and length, text, at least one null octet (RFC 3550 §6.5).
        let body_len = 4 + (2 + cname.len() + 1).next_multiple_of(4);
        let body = self.packet(packet_type::SDES, 1, body_len)?;
        body[..4].copy_from_slice(&ssrc.0.to_be_bytes());
        body[4] = SdesKind::Cname.into();
        body[5] = cname.len() as u8;
        body[6..6 + cname.len()].copy_from_slice(cname);
        Ok(())
    }

    /// Append a BYE; an empty `reason` is left out.
    ///
    /// # Errors
    /// [`NoSpace`]; nothing was written.
    pub fn bye(&mut self, sources: &[Ssrc], reason: &[u8]) -> Result<(), NoSpace> {
        let sources = &sources[..sources.len().min(COUNT_MAX)];
        let reason = &reason[..reason.len().min(TEXT_BYTES_MAX)];
        let text_len = if reason.is_empty() {
            0
        } else {
            (1 + reason.len()).next_multiple_of(4)
        };
        let body = self.packet(
            packet_type::BYE,
            sources.len() as u8,
            4 * sources.len() + text_len,
        )?;
        let (list, text) = body.split_at_mut(4 * sources.len());
        for (slot, source) in list.chunks_exact_mut(4).zip(sources) {
            slot.copy_from_slice(&source.0.to_be_bytes());
        }
        if let Some((length, text)) = text.split_first_mut() {
            *length = reason.len() as u8;
            text[..reason.len()].copy_from_slice(reason);
        }
        Ok(())
    }

    /// Append a picture loss indication.
    ///
    /// # Errors
    /// [`NoSpace`]; nothing was written.
    ///
    /// # Source
    /// RFC 4585 §6.3.1.
    pub fn picture_loss(&mut self, sender: Ssrc, media: Ssrc) -> Result<(), NoSpace> {
        let body = self.packet(packet_type::PSFB, Feedback::PLI, 8)?;
        body[..4].copy_from_slice(&sender.0.to_be_bytes());
        body[4..].copy_from_slice(&media.0.to_be_bytes());
        Ok(())
    }

    /// Append the header of a packet and return its zeroed body, a multiple of four bytes long.
    fn packet(&mut self, packet_type: u8, count: u8, body_len: usize) -> Result<&mut [u8], NoSpace> {
        let free = &mut self.buffer[self.len..];
        let needed = 4 + body_len;
        let available = free.len();
        let Some(packet) = free.get_mut(..needed) else {
            return Err(NoSpace { needed, available });
        };
        let (header, body) = packet.split_at_mut(4);
        header[0] = 0x80 | count;
        header[1] = packet_type;
        // At most 4 + 20 + 31 × 24 bytes, so the length in words fits.
        header[2..].copy_from_slice(&((body_len / 4) as u16).to_be_bytes());
        body.fill(0);
        self.len += needed;
        Ok(body)
    }
}

fn write_reports(out: &mut [u8], reports: &[ReportBlock]) {
    for (slot, report) in out.chunks_exact_mut(ReportBlock::BYTES).zip(reports) {
        slot.copy_from_slice(&report.to_bytes());
    }
}
