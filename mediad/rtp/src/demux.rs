//! What a datagram is, by its first two bytes.

/// Protocol of a datagram on a multiplexed media port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// STUN (first byte 0 to 3).
    Stun,
    /// DTLS record (20 to 63).
    Dtls,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP.
    Rtcp,
    /// ZRTP (16 to 19).
    Zrtp,
    /// TURN channel data (64 to 79).
    TurnChannel,
    /// Anything else, also empty datagrams and one-byte keep-alives.
    Unknown,
}

/// Classify `datagram`. Only a hint which parser to ask: nothing beyond two bytes is looked at.
///
/// # Source
/// RFC 7983 §7 for the first byte; RFC 5761 §4 for RTP against RTCP: with the marker bit, RTCP packet types
/// 192 to 223 are payload types 64 to 95, which RTP must not use beside RTCP.
#[inline]
pub const fn classify(datagram: &[u8]) -> Kind {
    let [first, second, ..] = datagram else {
        return Kind::Unknown;
    };
    match *first {
        0..=3 => Kind::Stun,
        16..=19 => Kind::Zrtp,
        20..=63 => Kind::Dtls,
        64..=79 => Kind::TurnChannel,
        128..=191 => match *second {
            192..=223 => Kind::Rtcp,
            _ => Kind::Rtp,
        },
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_byte_has_the_kind_of_rfc_7983() {
        for first in 0..=255u8 {
            let expected = match first {
                0..=3 => Kind::Stun,
                4..=15 | 80..=127 | 192..=255 => Kind::Unknown,
                16..=19 => Kind::Zrtp,
                20..=63 => Kind::Dtls,
                64..=79 => Kind::TurnChannel,
                128..=191 => Kind::Rtp,
            };
            assert_eq!(classify(&[first, 0]), expected, "first byte {first}");
        }
    }

    #[test]
    fn rtcp_packet_types_are_not_rtp() {
        for packet_type in [192u8, 200, 201, 202, 203, 204, 205, 206, 207, 223] {
            assert_eq!(classify(&[0x80, packet_type]), Kind::Rtcp);
        }
        // PCMU with marker, telephone-event with marker, the payload types either side of the range.
        for second in [0x80u8, 0x80 | 101, 191, 224, 72] {
            assert_eq!(classify(&[0x80, second]), Kind::Rtp);
        }
    }

    #[test]
    fn too_short_is_unknown() {
        assert_eq!(classify(&[]), Kind::Unknown);
        assert_eq!(classify(&[0x80]), Kind::Unknown);
        assert_eq!(classify(&[0]), Kind::Unknown);
    }
}
