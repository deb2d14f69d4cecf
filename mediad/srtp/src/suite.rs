//! The suites and the sizes that follow from them.

/// What a packet is encrypted and authenticated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// AES-128 in counter mode, HMAC-SHA1 cut to 80 bits (RFC 4568 §6.2.1).
    AesCm128HmacSha1_80,
    /// As above with 32 bits for RTP; RTCP keeps 80 (RFC 4568 §6.2.2).
    AesCm128HmacSha1_32,
    /// AES-256 in counter mode, HMAC-SHA1 cut to 80 bits (RFC 6188 §5).
    Aes256CmHmacSha1_80,
    /// AES-128 in Galois/counter mode, 128-bit tag (RFC 7714 §14.2).
    AeadAes128Gcm,
    /// AES-256 in Galois/counter mode, 128-bit tag (RFC 7714 §14.2).
    AeadAes256Gcm,
}

/// The most that protection adds to a packet: RTCP's index and an AES-GCM tag.
pub const TRAILER_BYTES_MAX: usize = Suite::AeadAes128Gcm.rtcp_trailer_bytes();

/// The word with the E bit and the SRTCP index.
pub(crate) const INDEX_BYTES: usize = 4;

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 5] = [
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
        Self::Aes256CmHmacSha1_80,
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
    ];

    /// The registered name, as in SDP.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::Aes256CmHmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Length of the master key.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 | Self::AeadAes128Gcm => 16,
            Self::Aes256CmHmacSha1_80 | Self::AeadAes256Gcm => 32,
        }
    }

    /// Length of the master salt.
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 | Self::Aes256CmHmacSha1_80 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }

    /// Length of master key and salt together, as SDES carries them.
    pub const fn key_salt_bytes(self) -> usize {
        self.key_bytes() + self.salt_bytes()
    }

    /// What protection adds to an RTP packet.
    pub const fn rtp_trailer_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::Aes256CmHmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 => 4,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// What protection adds to an RTCP packet.
    pub const fn rtcp_trailer_bytes(self) -> usize {
        INDEX_BYTES + self.rtcp_tag_bytes()
    }

    /// Length of RTCP's tag. RFC 4568 §6.2.2: 80 bits also where RTP has 32.
    pub(crate) const fn rtcp_tag_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 | Self::Aes256CmHmacSha1_80 => 10,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// A failed attempt to open a packet leaves it as it was.
    pub(crate) const fn is_checked_first(self) -> bool {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 | Self::Aes256CmHmacSha1_80 => true,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => false,
        }
    }
}
