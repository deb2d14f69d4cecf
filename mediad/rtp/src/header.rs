//! The RTP header: read it, edit it in place, write a new one.

use std::ops::Range;

use thiserror::Error;

use crate::units::{PayloadType, RtpTimestamp, Ssrc};

/// Length of the header without CSRCs and extension, in bytes.
pub const FIXED_HEADER_BYTES: usize = 12;

/// Why a datagram is not an RTP packet. All are the peer's fault: count and drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum RtpError {
    /// Fewer than the 12 bytes of the fixed header.
    #[error("RTP packet shorter than its 12-byte header")]
    TooShort,
    /// Version is not 2.
    #[error("RTP version is not 2")]
    BadVersion,
    /// The CSRC list runs past the end.
    #[error("RTP CSRC list runs past the packet")]
    CsrcOverrun,
    /// The header extension runs past the end.
    #[error("RTP header extension runs past the packet")]
    ExtensionOverrun,
    /// The padding count is zero or larger than the payload.
    #[error("RTP padding count does not fit the packet")]
    BadPadding,
}

/// Where the parts of a checked packet lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    header_len: usize,
    payload_end: usize,
}

/// Whether the padding count at the end can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Padding {
    Clear,
    Encrypted,
}

#[inline]
fn layout(bytes: &[u8], padding: Padding) -> Result<Layout, RtpError> {
    let Some(fixed) = bytes.first_chunk::<FIXED_HEADER_BYTES>() else {
        return Err(RtpError::TooShort);
    };
    if fixed[0] >> 6 != 2 {
        return Err(RtpError::BadVersion);
    }
    let mut header_len = FIXED_HEADER_BYTES + 4 * usize::from(fixed[0] & 0x0f);
    if bytes.len() < header_len {
        return Err(RtpError::CsrcOverrun);
    }
    if fixed[0] & 0x10 != 0 {
        let Some(&[_, _, high, low]) = bytes[header_len..].first_chunk() else {
            return Err(RtpError::ExtensionOverrun);
        };
        header_len += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        if bytes.len() < header_len {
            return Err(RtpError::ExtensionOverrun);
        }
    }
    let mut payload_end = bytes.len();
    if fixed[0] & 0x20 != 0 && padding == Padding::Clear {
        // RFC 3550 §5.1: the last octet counts the padding octets, including itself.
        let count = usize::from(bytes[bytes.len() - 1]);
        if count == 0 || count > bytes.len() - header_len {
            return Err(RtpError::BadPadding);
        }
        payload_end -= count;
    }
    Ok(Layout {
        header_len,
        payload_end,
    })
}

/// Profile word and place of a header extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionRange {
    /// The 16 bits "defined by profile", for example 0xBEDE (RFC 8285 §4.2).
    pub profile: u16,
    /// Range of the extension's data in the packet, without its four-byte preamble.
    pub data: Range<usize>,
}

#[inline]
fn extension_of(
    fixed: &[u8; FIXED_HEADER_BYTES],
    after_fixed: &[u8],
    header_len: usize,
) -> Option<ExtensionRange> {
    if fixed[0] & 0x10 == 0 {
        return None;
    }
    let preamble = 4 * usize::from(fixed[0] & 0x0f);
    let profile = u16::from_be_bytes([after_fixed[preamble], after_fixed[preamble + 1]]);
    Some(ExtensionRange {
        profile,
        data: FIXED_HEADER_BYTES + preamble + 4..header_len,
    })
}

#[inline]
fn header_of(fixed: &[u8; FIXED_HEADER_BYTES]) -> RtpHeader {
    RtpHeader {
        marker: fixed[1] & 0x80 != 0,
        payload_type: PayloadType::from_low_bits(fixed[1]),
        sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
        timestamp: RtpTimestamp(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
        ssrc: Ssrc(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
    }
}

/// The fields of the fixed header that differ from packet to packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RtpHeader {
    /// Marker bit: for audio, the first packet of a talk spurt or of a telephone-event.
    pub marker: bool,
    /// Payload type.
    pub payload_type: PayloadType,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in ticks of the payload format's clock.
    pub timestamp: RtpTimestamp,
    /// Synchronisation source.
    pub ssrc: Ssrc,
}

impl RtpHeader {
    /// Write a 12-byte header (version 2, no padding, extension or CSRC) to the front of `out`; returns 12.
    ///
    /// # Panics
    /// If `out` is shorter than [`FIXED_HEADER_BYTES`]: send slots are sized once, at start.
    #[inline]
    pub fn write_to(&self, out: &mut [u8]) -> usize {
        let Some(fixed) = out.first_chunk_mut::<FIXED_HEADER_BYTES>() else {
            panic!("an RTP header needs {FIXED_HEADER_BYTES} bytes, the buffer is shorter");
        };
        *fixed = self.to_bytes();
        FIXED_HEADER_BYTES
    }

    /// The 12 bytes of the header.
    #[inline]
    pub fn to_bytes(&self) -> [u8; FIXED_HEADER_BYTES] {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.0.to_be_bytes();
        let [i0, i1, i2, i3] = self.ssrc.0.to_be_bytes();
        let second = u8::from(self.marker) << 7 | self.payload_type.value();
        [0x80, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3]
    }
}

/// A checked RTP packet for reading.
#[derive(Debug, Clone, Copy)]
pub struct RtpReader<'a> {
    fixed: &'a [u8; FIXED_HEADER_BYTES],
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> RtpReader<'a> {
    /// Check version, CSRC list, extension and padding of `bytes` once.
    ///
    /// # Errors
    /// See [`RtpError`]: count by reason and drop.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpError> {
        Self::checked(bytes, Padding::Clear)
    }

    /// As [`parse`](Self::parse) for an SRTP packet: its padding count is encrypted (RFC 3711 §3.1), so the
    /// payload is everything after the header, authentication tag included.
    ///
    /// # Errors
    /// See [`RtpError`]; never [`RtpError::BadPadding`].
    #[inline]
    pub fn parse_encrypted(bytes: &'a [u8]) -> Result<Self, RtpError> {
        Self::checked(bytes, Padding::Encrypted)
    }

    #[inline]
    fn checked(bytes: &'a [u8], padding: Padding) -> Result<Self, RtpError> {
        let layout = layout(bytes, padding)?;
        let fixed = bytes.first_chunk().ok_or(RtpError::TooShort)?;
        Ok(Self { fixed, bytes, layout })
    }

    /// Marker, payload type, sequence, timestamp and SSRC at once.
    #[inline]
    pub fn header(&self) -> RtpHeader {
        header_of(self.fixed)
    }

    /// Marker bit.
    #[inline]
    pub fn marker(&self) -> bool {
        self.fixed[1] & 0x80 != 0
    }

    /// Payload type.
    #[inline]
    pub fn payload_type(&self) -> PayloadType {
        PayloadType::from_low_bits(self.fixed[1])
    }

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u16 {
        self.header().sequence
    }

    /// Timestamp.
    #[inline]
    pub fn timestamp(&self) -> RtpTimestamp {
        self.header().timestamp
    }

    /// Synchronisation source.
    #[inline]
    pub fn ssrc(&self) -> Ssrc {
        self.header().ssrc
    }

    /// Number of contributing sources, 0 to 15.
    #[inline]
    pub fn csrc_count(&self) -> usize {
        usize::from(self.fixed[0] & 0x0f)
    }

    /// The contributing sources in order.
    pub fn csrcs(&self) -> impl ExactSizeIterator<Item = Ssrc> + 'a {
        let list = &self.bytes[FIXED_HEADER_BYTES..FIXED_HEADER_BYTES + 4 * self.csrc_count()];
        list.chunks_exact(4)
            .map(|word| Ssrc(u32::from_be_bytes([word[0], word[1], word[2], word[3]])))
    }

    /// Whether there is a header extension.
    #[inline]
    pub fn has_extension(&self) -> bool {
        self.fixed[0] & 0x10 != 0
    }

    /// Profile and place of the header extension.
    pub fn extension(&self) -> Option<ExtensionRange> {
        extension_of(
            self.fixed,
            &self.bytes[FIXED_HEADER_BYTES..],
            self.layout.header_len,
        )
    }

    /// Whether the padding bit is set.
    #[inline]
    pub fn has_padding(&self) -> bool {
        self.fixed[0] & 0x20 != 0
    }

    /// Padding bytes behind the payload; 0 for an encrypted packet.
    #[inline]
    pub fn padding_len(&self) -> usize {
        self.bytes.len() - self.layout.payload_end
    }

    /// Header with CSRCs and extension, in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.layout.header_len
    }

    /// Payload without padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.layout.header_len..self.layout.payload_end]
    }

    /// The whole packet.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// A checked RTP packet for editing in place.
///
/// The fixed header is held as an array, so getters and setters need no further bounds check. The setters
/// change their field and nothing else; lengths never change, so a parsed view stays valid.
#[derive(Debug)]
pub struct RtpView<'a> {
    fixed: &'a mut [u8; FIXED_HEADER_BYTES],
    rest: &'a mut [u8],
    layout: Layout,
}

impl<'a> RtpView<'a> {
    /// Check version, CSRC list, extension and padding of `bytes` once.
    ///
    /// # Errors
    /// See [`RtpError`]: count by reason and drop.
    #[inline]
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, RtpError> {
        Self::checked(bytes, Padding::Clear)
    }

    /// As [`parse`](Self::parse) for an SRTP packet; see [`RtpReader::parse_encrypted`].
    ///
    /// # Errors
    /// See [`RtpError`]; never [`RtpError::BadPadding`].
    #[inline]
    pub fn parse_encrypted(bytes: &'a mut [u8]) -> Result<Self, RtpError> {
        Self::checked(bytes, Padding::Encrypted)
    }

    #[inline]
    fn checked(bytes: &'a mut [u8], padding: Padding) -> Result<Self, RtpError> {
        let layout = layout(bytes, padding)?;
        let (fixed, rest) = bytes.split_first_chunk_mut().ok_or(RtpError::TooShort)?;
        Ok(Self { fixed, rest, layout })
    }

    /// Marker, payload type, sequence, timestamp and SSRC at once.
    #[inline]
    pub fn header(&self) -> RtpHeader {
        header_of(self.fixed)
    }

    /// Overwrite marker, payload type, sequence, timestamp and SSRC at once.
    #[inline]
    pub fn set_header(&mut self, header: &RtpHeader) {
        self.fixed[1..].copy_from_slice(&header.to_bytes()[1..]);
    }

    /// Marker bit.
    #[inline]
    pub fn marker(&self) -> bool {
        self.fixed[1] & 0x80 != 0
    }

    /// Set the marker bit.
    #[inline]
    pub fn set_marker(&mut self, marker: bool) {
        self.fixed[1] = self.fixed[1] & 0x7f | u8::from(marker) << 7;
    }

    /// Payload type.
    #[inline]
    pub fn payload_type(&self) -> PayloadType {
        PayloadType::from_low_bits(self.fixed[1])
    }

    /// Set the payload type.
    #[inline]
    pub fn set_payload_type(&mut self, payload_type: PayloadType) {
        self.fixed[1] = self.fixed[1] & 0x80 | payload_type.value();
    }

    /// Sequence number.
    #[inline]
    pub fn sequence(&self) -> u16 {
        self.header().sequence
    }

    /// Set the sequence number.
    #[inline]
    pub fn set_sequence(&mut self, sequence: u16) {
        self.fixed[2..4].copy_from_slice(&sequence.to_be_bytes());
    }

    /// Timestamp.
    #[inline]
    pub fn timestamp(&self) -> RtpTimestamp {
        self.header().timestamp
    }

    /// Set the timestamp.
    #[inline]
    pub fn set_timestamp(&mut self, timestamp: RtpTimestamp) {
        self.fixed[4..8].copy_from_slice(&timestamp.0.to_be_bytes());
    }

    /// Synchronisation source.
    #[inline]
    pub fn ssrc(&self) -> Ssrc {
        self.header().ssrc
    }

    /// Set the synchronisation source.
    #[inline]
    pub fn set_ssrc(&mut self, ssrc: Ssrc) {
        self.fixed[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
    }

    /// Number of contributing sources, 0 to 15.
    #[inline]
    pub fn csrc_count(&self) -> usize {
        usize::from(self.fixed[0] & 0x0f)
    }

    /// Whether there is a header extension.
    #[inline]
    pub fn has_extension(&self) -> bool {
        self.fixed[0] & 0x10 != 0
    }

    /// Profile and place of the header extension.
    pub fn extension(&self) -> Option<ExtensionRange> {
        extension_of(self.fixed, self.rest, self.layout.header_len)
    }

    /// Whether the padding bit is set.
    #[inline]
    pub fn has_padding(&self) -> bool {
        self.fixed[0] & 0x20 != 0
    }

    /// Padding bytes behind the payload; 0 for an encrypted packet.
    #[inline]
    pub fn padding_len(&self) -> usize {
        self.len() - self.layout.payload_end
    }

    /// Header with CSRCs and extension, in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.layout.header_len
    }

    /// The whole packet, in bytes; at least 12.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a checked packet is never empty")]
    pub fn len(&self) -> usize {
        FIXED_HEADER_BYTES + self.rest.len()
    }

    /// Payload without padding.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.rest[self.layout.header_len - FIXED_HEADER_BYTES..self.layout.payload_end - FIXED_HEADER_BYTES]
    }

    /// Payload without padding, for editing in place.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.rest
            [self.layout.header_len - FIXED_HEADER_BYTES..self.layout.payload_end - FIXED_HEADER_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two CSRCs, a one-word extension, four bytes of payload, four of padding.
    const FULL: [u8; 36] = [
        0xb2, 0xe0, 0x12, 0x34, 0, 0, 0, 160, 1, 2, 3, 4, // fixed header: marker, payload type 96
        0, 0, 0, 5, 0, 0, 0, 6, // CSRCs
        0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0, // extension
        10, 11, 12, 13, // payload
        0, 0, 0, 4, // padding
    ];

    #[test]
    fn every_part_of_a_full_packet_is_found() {
        let reader = RtpReader::parse(&FULL).unwrap();
        assert!(reader.marker());
        assert_eq!(reader.payload_type().value(), 96);
        assert_eq!(reader.sequence(), 0x1234);
        assert_eq!(reader.timestamp(), RtpTimestamp(160));
        assert_eq!(reader.ssrc(), Ssrc(0x0102_0304));
        assert!(reader.csrcs().eq([Ssrc(5), Ssrc(6)]));
        assert_eq!(
            reader.extension(),
            Some(ExtensionRange {
                profile: 0xbede,
                data: 24..28
            })
        );
        assert_eq!(reader.header_len(), 28);
        assert_eq!(reader.payload(), [10, 11, 12, 13]);
        assert_eq!(reader.padding_len(), 4);
    }

    #[test]
    fn every_truncation_of_a_full_packet_has_its_reason() {
        for length in 0..FULL.len() {
            let expected = match length {
                0..12 => RtpError::TooShort,
                12..20 => RtpError::CsrcOverrun,
                20..28 => RtpError::ExtensionOverrun,
                // The last byte is now a byte of the header, of the payload, or a zero of the padding.
                _ => RtpError::BadPadding,
            };
            assert_eq!(
                RtpReader::parse(&FULL[..length]).unwrap_err(),
                expected,
                "length {length}"
            );
        }
    }

    #[test]
    fn padding_must_fit_the_payload() {
        for (count, expected) in [(0, false), (1, true), (8, true), (9, false), (255, false)] {
            let mut packet = FULL;
            packet[35] = count;
            assert_eq!(RtpReader::parse(&packet).is_ok(), expected, "count {count}");
            assert_eq!(RtpReader::parse_encrypted(&packet).unwrap().payload().len(), 8);
            assert_eq!(RtpView::parse_encrypted(&mut packet).unwrap().padding_len(), 0);
        }
    }

    #[test]
    fn other_versions_are_refused() {
        for version in [0x00, 0x40, 0xc0] {
            let mut packet = FULL;
            packet[0] = packet[0] & 0x3f | version;
            assert_eq!(RtpReader::parse(&packet).unwrap_err(), RtpError::BadVersion);
        }
    }

    #[test]
    fn an_extension_of_the_largest_length_does_not_overrun() {
        let mut packet = [0u8; 60];
        packet[0] = 0x90;
        packet[14..16].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(RtpReader::parse(&packet).unwrap_err(), RtpError::ExtensionOverrun);
        packet[14..16].copy_from_slice(&[0, 0]);
        let reader = RtpReader::parse(&packet).unwrap();
        assert_eq!(
            reader.extension(),
            Some(ExtensionRange {
                profile: 0,
                data: 16..16
            })
        );
        assert_eq!(reader.payload().len(), 44);
    }

    #[test]
    fn an_empty_payload_is_valid() {
        let mut packet = [0u8; 12];
        packet[0] = 0x80;
        assert_eq!(RtpReader::parse(&packet).unwrap().payload(), []);
        assert_eq!(RtpView::parse(&mut packet).unwrap().payload_mut(), []);
    }

    #[test]
    fn the_payload_is_edited_in_place() {
        let mut packet = FULL;
        RtpView::parse(&mut packet).unwrap().payload_mut().fill(0xd5);
        assert_eq!(packet[28..32], [0xd5; 4]);
        assert_eq!(packet[..28], FULL[..28]);
        assert_eq!(packet[32..], FULL[32..]);
    }

    #[test]
    #[should_panic(expected = "needs 12 bytes")]
    fn writing_into_too_small_a_buffer_is_our_own_bug() {
        let header = RtpReader::parse(&FULL).unwrap().header();
        header.write_to(&mut [0; 11]);
    }
}
