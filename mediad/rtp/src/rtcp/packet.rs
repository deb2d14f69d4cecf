//! The compound and its packets, borrowed from the datagram.

use super::report::{ReceiverReport, ReportBlock, ReportBlocks, SenderInfo, SenderReport};
use super::sdes::Sdes;
use super::xr::ExtendedReport;
use super::{RtcpError, half, packet_type, word};
use crate::units::Ssrc;

/// Common header, in bytes.
const HEADER_BYTES: usize = 4;

/// A datagram whose packets have all been checked: iterating cannot fail.
#[derive(Debug, Clone, Copy)]
pub struct Compound<'a> {
    bytes: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Check a compound packet: it begins with SR or RR, lengths add up exactly, padding only at the end,
    /// every packet holds what its header announces.
    ///
    /// A missing SDES CNAME (RFC 3550 §6.1 demands one) is tolerated, as widespread peers send none.
    ///
    /// # Errors
    /// See [`RtcpError`]: count by reason and drop the datagram.
    ///
    /// # Source
    /// RFC 3550 §6.1 and A.2.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtcpError> {
        let Some(first) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(RtcpError::TooShort { packet_type: 0 });
        };
        if first[0] >> 6 == 2 && first[1] != packet_type::SR && first[1] != packet_type::RR {
            return Err(RtcpError::FirstNotReport {
                packet_type: first[1],
            });
        }
        Self::parse_reduced_size(bytes)
    }

    /// As [`parse`](Self::parse), and the datagram may begin with any packet type: reduced-size RTCP, to be
    /// used only where it was negotiated (`a=rtcp-rsize`).
    ///
    /// # Errors
    /// See [`RtcpError`]; never [`RtcpError::FirstNotReport`].
    ///
    /// # Source
    /// RFC 5506 §3.
    pub fn parse_reduced_size(bytes: &'a [u8]) -> Result<Self, RtcpError> {
        let mut rest = bytes;
        loop {
            let (raw, after) = RawPacket::split(rest)?;
            Packet::decode(raw)?;
            if after.is_empty() {
                return Ok(Self { bytes });
            }
            if raw.padded {
                return Err(RtcpError::PaddingNotLast);
            }
            rest = after;
        }
    }

    /// The packets in order.
    pub fn packets(&self) -> Packets<'a> {
        Packets { rest: self.bytes }
    }

    /// The whole datagram.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> IntoIterator for Compound<'a> {
    type Item = Packet<'a>;
    type IntoIter = Packets<'a>;

    fn into_iter(self) -> Packets<'a> {
        self.packets()
    }
}

/// Iterator over the packets of a [`Compound`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        // `Compound` has checked every packet, so an error here only means the end of the datagram.
        let (raw, rest) = RawPacket::split(self.rest).ok()?;
        self.rest = rest;
        Packet::decode(raw).ok()
    }
}

/// One packet of a compound.
#[derive(Debug, Clone, Copy)]
pub enum Packet<'a> {
    /// SR, packet type 200.
    SenderReport(SenderReport<'a>),
    /// RR, 201.
    ReceiverReport(ReceiverReport<'a>),
    /// SDES, 202.
    SourceDescription(Sdes<'a>),
    /// BYE, 203.
    Bye(Bye<'a>),
    /// APP, 204.
    App(App<'a>),
    /// RTPFB, 205.
    TransportFeedback(Feedback<'a>),
    /// PSFB, 206.
    PayloadFeedback(Feedback<'a>),
    /// XR, 207.
    ExtendedReport(ExtendedReport<'a>),
    /// Any other type; to be ignored (RFC 3550 §6.1).
    Unknown(Unknown<'a>),
}

/// A packet cut out of the datagram, its padding removed.
#[derive(Clone, Copy)]
struct RawPacket<'a> {
    packet_type: u8,
    count: u8,
    padded: bool,
    /// Everything behind the four-byte header.
    body: &'a [u8],
}

impl<'a> RawPacket<'a> {
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), RtcpError> {
        let Some(&[first, packet_type, high, low]) = bytes.first_chunk() else {
            return Err(RtcpError::TooShort { packet_type: 0 });
        };
        if first >> 6 != 2 {
            return Err(RtcpError::BadVersion);
        }
        let length = HEADER_BYTES + 4 * usize::from(u16::from_be_bytes([high, low]));
        let Some((packet, rest)) = bytes.split_at_checked(length) else {
            return Err(RtcpError::LengthOverrun { packet_type });
        };
        let padded = first & 0x20 != 0;
        let mut body = &packet[HEADER_BYTES..];
        if padded {
            // RFC 3550 §6.4.1: the last octet counts the padding, itself included, in multiples of four.
            let count = usize::from(packet[packet.len() - 1]);
            if count == 0 || !count.is_multiple_of(4) || count > body.len() {
                return Err(RtcpError::BadPadding);
            }
            body = &body[..body.len() - count];
        }
        Ok((
            Self {
                packet_type,
                count: first & 0x1f,
                padded,
                body,
            },
            rest,
        ))
    }

    fn at_least(&self, bytes: usize) -> Result<(), RtcpError> {
        if self.body.len() < bytes {
            return Err(RtcpError::TooShort {
                packet_type: self.packet_type,
            });
        }
        Ok(())
    }
}

impl<'a> Packet<'a> {
    fn decode(raw: RawPacket<'a>) -> Result<Self, RtcpError> {
        let count = usize::from(raw.count);
        Ok(match raw.packet_type {
            packet_type::SR => {
                let blocks_at = 4 + SenderInfo::BYTES;
                let blocks_end = blocks_at + count * ReportBlock::BYTES;
                raw.at_least(blocks_end)?;
                Self::SenderReport(SenderReport {
                    ssrc: Ssrc(word(raw.body, 0)),
                    info: SenderInfo::read(&raw.body[4..blocks_at]),
                    reports: ReportBlocks::new(&raw.body[blocks_at..blocks_end]),
                })
            }
            packet_type::RR => {
                let blocks_end = 4 + count * ReportBlock::BYTES;
                raw.at_least(blocks_end)?;
                Self::ReceiverReport(ReceiverReport {
                    ssrc: Ssrc(word(raw.body, 0)),
                    reports: ReportBlocks::new(&raw.body[4..blocks_end]),
                })
            }
            packet_type::SDES => Self::SourceDescription(Sdes::check(raw.body, raw.count)?),
            packet_type::BYE => Self::Bye(Bye::check(raw)?),
            packet_type::APP => {
                raw.at_least(8)?;
                Self::App(App {
                    subtype: raw.count,
                    body: raw.body,
                })
            }
            packet_type::RTPFB | packet_type::PSFB => {
                raw.at_least(8)?;
                let feedback = Feedback {
                    format: raw.count,
                    body: raw.body,
                };
                if raw.packet_type == packet_type::RTPFB {
                    Self::TransportFeedback(feedback)
                } else {
                    Self::PayloadFeedback(feedback)
                }
            }
            packet_type::XR => {
                raw.at_least(4)?;
                Self::ExtendedReport(ExtendedReport::check(raw.body)?)
            }
            packet_type => Self::Unknown(Unknown {
                packet_type,
                count: raw.count,
                body: raw.body,
            }),
        })
    }
}

/// Sources that leave, and why.
///
/// # Source
/// RFC 3550 §6.6.
#[derive(Debug, Clone, Copy)]
pub struct Bye<'a> {
    sources: &'a [u8],
    reason: Option<&'a [u8]>,
}

impl<'a> Bye<'a> {
    fn check(raw: RawPacket<'a>) -> Result<Self, RtcpError> {
        let too_short = RtcpError::TooShort {
            packet_type: raw.packet_type,
        };
        let (sources, rest) = raw
            .body
            .split_at_checked(4 * usize::from(raw.count))
            .ok_or(too_short)?;
        let reason = match rest.split_first() {
            Some((&length, text)) => Some(text.get(..usize::from(length)).ok_or(too_short)?),
            None => None,
        };
        Ok(Self { sources, reason })
    }

    /// The sources that leave; may be empty.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = Ssrc> + 'a {
        self.sources.chunks_exact(4).map(|source| Ssrc(word(source, 0)))
    }

    /// The reason for leaving, as the peer wrote it; meant to be UTF-8, not checked.
    pub fn reason(&self) -> Option<&'a [u8]> {
        self.reason
    }
}

/// Application-defined packet.
///
/// # Source
/// RFC 3550 §6.7.
#[derive(Debug, Clone, Copy)]
pub struct App<'a> {
    /// Subtype, 0 to 31.
    pub subtype: u8,
    body: &'a [u8],
}

impl<'a> App<'a> {
    /// Who sent it.
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(word(self.body, 0))
    }

    /// Four ASCII characters, not checked.
    pub fn name(&self) -> [u8; 4] {
        word(self.body, 4).to_be_bytes()
    }

    /// Application-dependent data.
    pub fn data(&self) -> &'a [u8] {
        &self.body[8..]
    }
}

/// Feedback on a media stream.
///
/// # Source
/// RFC 4585 §6.1.
#[derive(Debug, Clone, Copy)]
pub struct Feedback<'a> {
    /// Feedback message type, 0 to 31; its meaning depends on the packet type.
    pub format: u8,
    body: &'a [u8],
}

impl<'a> Feedback<'a> {
    /// Generic NACK, as transport feedback (RFC 4585 §6.2.1).
    pub const NACK: u8 = 1;
    /// Picture loss indication, as payload feedback (RFC 4585 §6.3.1).
    pub const PLI: u8 = 1;

    /// Who sent it.
    pub fn sender(&self) -> Ssrc {
        Ssrc(word(self.body, 0))
    }

    /// The stream it is about.
    pub fn media(&self) -> Ssrc {
        Ssrc(word(self.body, 4))
    }

    /// Feedback control information.
    pub fn control_information(&self) -> &'a [u8] {
        &self.body[8..]
    }

    /// The sequence numbers a generic NACK asks for. Only for transport feedback of format
    /// [`NACK`](Self::NACK).
    pub fn nacked(&self) -> impl Iterator<Item = u16> + 'a {
        self.control_information().chunks_exact(4).flat_map(|entry| {
            let (first, mask) = (half(entry, 0), half(entry, 2));
            let following = (0..16u16).filter(move |bit| mask & (1 << bit) != 0);
            std::iter::once(first).chain(following.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}

/// A packet of a type this crate does not read.
#[derive(Debug, Clone, Copy)]
pub struct Unknown<'a> {
    /// Packet type.
    pub packet_type: u8,
    /// The five bits behind the padding bit.
    pub count: u8,
    /// Everything behind the four-byte header, without padding.
    pub body: &'a [u8],
}
