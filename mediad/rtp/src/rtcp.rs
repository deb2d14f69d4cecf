//! RTCP: read compound packets in place, write them into a buffer, and when to send them.

mod interval;
mod packet;
mod report;
mod sdes;
#[cfg(test)]
mod tests;
mod writer;
mod xr;

use thiserror::Error;

pub use interval::{IntervalInputs, MINIMUM_INTERVAL, transmission_interval};
pub use packet::{App, Bye, Compound, Feedback, Packet, Packets, Unknown};
pub use report::{ReceiverReport, ReportBlock, ReportBlocks, SenderInfo, SenderReport, round_trip_time};
pub use sdes::{Chunk, Sdes, SdesItem, SdesKind};
pub use writer::{NoSpace, RtcpWriter};
pub use xr::{ExtendedReport, VoipMetrics, XrBlock};

/// RTCP packet types.
///
/// # Source
/// RFC 3550 §12.1, RFC 4585 §6.1, RFC 3611 §2.
pub mod packet_type {
    /// Sender report.
    pub const SR: u8 = 200;
    /// Receiver report.
    pub const RR: u8 = 201;
    /// Source description.
    pub const SDES: u8 = 202;
    /// Goodbye.
    pub const BYE: u8 = 203;
    /// Application-defined.
    pub const APP: u8 = 204;
    /// Transport-layer feedback.
    pub const RTPFB: u8 = 205;
    /// Payload-specific feedback.
    pub const PSFB: u8 = 206;
    /// Extended report.
    pub const XR: u8 = 207;
}

/// Why a datagram is not a valid RTCP compound. All are the peer's fault: count and drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// No room for a header, or a packet shorter than its type and count demand.
    #[error("RTCP packet type {packet_type} is too short for its contents")]
    TooShort {
        /// Its type; 0 if there was no room for a header.
        packet_type: u8,
    },
    /// Version is not 2.
    #[error("RTCP version is not 2")]
    BadVersion,
    /// A compound must begin with a sender or receiver report (RFC 3550 §6.1).
    #[error("RTCP compound begins with packet type {packet_type}, not with a report")]
    FirstNotReport {
        /// The type it begins with.
        packet_type: u8,
    },
    /// A length field points past the datagram.
    #[error("RTCP packet type {packet_type} runs past the datagram")]
    LengthOverrun {
        /// Its type.
        packet_type: u8,
    },
    /// Padding anywhere but at the last packet (RFC 3550 §6.4.1).
    #[error("RTCP padding before the last packet of the compound")]
    PaddingNotLast,
    /// The padding count is zero, not a multiple of four, or larger than the packet.
    #[error("RTCP padding count does not fit the packet")]
    BadPadding,
    /// A source-description chunk is cut off or not terminated.
    #[error("RTCP source description is malformed")]
    BadSdes,
    /// An extended-report block runs past its packet.
    #[error("RTCP extended-report block runs past its packet")]
    BadXr,
}

/// Big-endian word at `offset`; the callers have checked the length.
#[inline]
fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes([
        bytes[offset],
        bytes[offset + 1],
        bytes[offset + 2],
        bytes[offset + 3],
    ])
}

/// Big-endian half word at `offset`; the callers have checked the length.
#[inline]
fn half(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}
