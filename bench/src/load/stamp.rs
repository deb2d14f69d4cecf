//! What a generated packet carries, so that the sink can tell whose it is, which one it is and when it left.
//!
//! Two encodings of the same 20 bytes. [`Encoding::Raw`] puts them at the start of the payload: right when the
//! server relays payloads untouched. [`Encoding::Sign`] spells them one bit per sample in the *sign* of a G.711
//! sample: the sign bit survives µ-law to A-law conversion in either direction, so delay, loss and strangers are
//! measured exactly through a transcoder as well.

/// Bytes of audio in a packet: 20 ms of G.711.
pub const PAYLOAD_BYTES: usize = 160;
/// Bytes of the fixed RTP header.
pub const HEADER_BYTES: usize = 12;
/// Bytes of a whole generated datagram.
pub const PACKET_BYTES: usize = HEADER_BYTES + PAYLOAD_BYTES;
/// What SRTP adds to it.
pub const TRAILER_BYTES: usize = 10;
/// Room for a packet of any kind.
pub const SLOT_BYTES: usize = PACKET_BYTES + TRAILER_BYTES;

const MAGIC: u32 = 0x5254_5042;
const STAMP_BYTES: usize = 20;
/// A G.711 sample of medium level; bit 7 is its sign in both laws.
const LEVEL: u8 = 0x1f;

/// Who sent a packet, which one it is, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The sending flow: the load run's tag in the upper 16 bits, the flow's index in the lower.
    pub flow: u32,
    /// Counts the packets of this flow from 0.
    pub seq: u32,
    /// Wall clock when the packet was handed to the kernel, nanoseconds since the epoch.
    pub sent_ns: u64,
}

/// How a stamp is written into the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Plain bytes at the start of the payload.
    Raw,
    /// One bit per sample, in the sign: survives G.711 transcoding.
    Sign,
}

impl Stamp {
    /// Writes the stamp into `payload`, which must hold [`PAYLOAD_BYTES`].
    #[inline]
    pub fn write(&self, encoding: Encoding, payload: &mut [u8; PAYLOAD_BYTES]) {
        let bytes = self.to_bytes();
        match encoding {
            Encoding::Raw => payload[..STAMP_BYTES].copy_from_slice(&bytes),
            Encoding::Sign => {
                for (byte, samples) in bytes.iter().zip(payload.chunks_exact_mut(8)) {
                    samples.copy_from_slice(&spread(*byte));
                }
            }
        }
    }

    /// Reads a stamp back; `None` when `payload` does not carry one.
    #[inline]
    #[must_use]
    pub fn read(encoding: Encoding, payload: &[u8]) -> Option<Stamp> {
        let mut bytes = [0u8; STAMP_BYTES];
        match encoding {
            Encoding::Raw => bytes.copy_from_slice(payload.get(..STAMP_BYTES)?),
            Encoding::Sign => {
                let samples = payload.get(..PAYLOAD_BYTES)?;
                for (byte, eight) in bytes.iter_mut().zip(samples.chunks_exact(8)) {
                    *byte = gather(eight);
                }
            }
        }
        Stamp::from_bytes(&bytes)
    }

    fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0u8; STAMP_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.flow.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.seq.to_be_bytes());
        bytes[12..].copy_from_slice(&self.sent_ns.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; STAMP_BYTES]) -> Option<Stamp> {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if word(0) != MAGIC {
            return None;
        }
        Some(Stamp {
            flow: word(4),
            seq: word(8),
            sent_ns: u64::from(word(12)) << 32 | u64::from(word(16)),
        })
    }
}

/// One sample per bit, most significant first.
#[inline]
fn spread(byte: u8) -> [u8; 8] {
    let mut samples = [LEVEL; 8];
    for (i, sample) in samples.iter_mut().enumerate() {
        *sample |= (byte << i) & 0x80;
    }
    samples
}

/// The inverse of [`spread`]: reads only the signs.
#[inline]
fn gather(samples: &[u8]) -> u8 {
    samples.iter().fold(0, |byte, sample| byte << 1 | sample >> 7)
}

/// Writes the fixed header of a generated packet (RFC 3550 §5.1).
#[inline]
pub fn write_header(packet: &mut [u8], payload_type: u8, marker: bool, seq: u16, timestamp: u32, ssrc: u32) {
    packet[0] = 0x80;
    packet[1] = payload_type | u8::from(marker) << 7;
    packet[2..4].copy_from_slice(&seq.to_be_bytes());
    packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

/// The header fields the sink looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number as the server wrote it.
    pub seq: u16,
    /// Where the payload starts.
    pub payload_at: usize,
}

/// Reads the header; `None` when `packet` is not RTP version 2 or is cut short.
#[inline]
#[must_use]
pub fn read_header(packet: &[u8]) -> Option<Header> {
    if packet.len() < HEADER_BYTES || packet[0] >> 6 != 2 {
        return None;
    }
    let mut payload_at = HEADER_BYTES + 4 * usize::from(packet[0] & 0x0f);
    if packet[0] & 0x10 != 0 {
        let length = packet.get(payload_at + 2..payload_at + 4)?;
        payload_at += 4 + 4 * usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
    if payload_at > packet.len() {
        return None;
    }
    Some(Header {
        payload_type: packet[1] & 0x7f,
        seq: u16::from_be_bytes([packet[2], packet[3]]),
        payload_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tone::{alaw_from_ulaw, ulaw_from_alaw};

    const STAMP: Stamp = Stamp {
        flow: 0x0007_1234,
        seq: 99_000,
        sent_ns: 0x1122_3344_5566_7788,
    };

    #[test]
    fn both_encodings_read_back_what_they_wrote() {
        for encoding in [Encoding::Raw, Encoding::Sign] {
            let mut payload = [0xffu8; PAYLOAD_BYTES];
            STAMP.write(encoding, &mut payload);
            assert_eq!(Stamp::read(encoding, &payload), Some(STAMP));
            assert_eq!(
                Stamp::read(encoding, &payload[..19]),
                None,
                "a truncated payload carries none"
            );
            payload.fill(0xff);
            assert_eq!(Stamp::read(encoding, &payload), None, "silence carries none");
        }
    }

    #[test]
    fn a_sign_stamp_survives_both_g711_conversions() {
        let mut payload = [0u8; PAYLOAD_BYTES];
        STAMP.write(Encoding::Sign, &mut payload);
        let to_alaw: Vec<u8> = payload.iter().map(|s| alaw_from_ulaw(*s)).collect();
        assert_ne!(to_alaw, payload);
        assert_eq!(Stamp::read(Encoding::Sign, &to_alaw), Some(STAMP));
        let to_ulaw: Vec<u8> = payload.iter().map(|s| ulaw_from_alaw(*s)).collect();
        assert_eq!(Stamp::read(Encoding::Sign, &to_ulaw), Some(STAMP));
    }

    #[test]
    fn header_reader_skips_csrc_and_extension_and_refuses_truncation() {
        let mut packet = [0u8; 40];
        write_header(&mut packet, 8, true, 7, 160, 1);
        assert_eq!(
            read_header(&packet),
            Some(Header {
                payload_type: 8,
                seq: 7,
                payload_at: 12
            })
        );
        packet[0] = 0x92; // two CSRCs and an extension of one word
        packet[22..24].copy_from_slice(&1u16.to_be_bytes());
        assert_eq!(read_header(&packet).map(|h| h.payload_at), Some(28));
        assert_eq!(read_header(&packet[..21]), None);
        assert_eq!(read_header(&packet[..27]), None);
        assert_eq!(read_header(&[0x40; 40]), None);
    }
}
