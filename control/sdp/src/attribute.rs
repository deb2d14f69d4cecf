//! Typed attributes.

use std::fmt;
use std::net::IpAddr;

use crate::base64;

/// Which way media flows, from the side that says it (RFC 8866 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// Only from the speaker.
    SendOnly,
    /// Only to the speaker.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// From what each way may do.
    pub fn new(send: bool, receive: bool) -> Self {
        match (send, receive) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// True when the speaker sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// True when the speaker receives.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flow seen from the other side.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self::new(self.receives(), self.sends())
    }

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];
        all.into_iter().find(|direction| direction.as_str() == name)
    }
}

/// Who opens the DTLS connection (RFC 4145, RFC 8842 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// The speaker is the DTLS client.
    Active,
    /// The speaker is the DTLS server.
    Passive,
    /// Either; in offers.
    ActPass,
    /// No connection for now.
    HoldConn,
}

impl Setup {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
            Self::HoldConn => "holdconn",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Active, Self::Passive, Self::ActPass, Self::HoldConn];
        all.into_iter()
            .find(|setup| setup.as_str().eq_ignore_ascii_case(text.trim()))
    }
}

/// A certificate fingerprint (RFC 8122).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// `sha-256` and others, in lower case.
    pub hash: String,
    /// The digest.
    pub digest: Vec<u8>,
}

impl Fingerprint {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (hash, digest) = text.trim().split_once(' ')?;
        let byte = |pair: &str| {
            (pair.len() == 2)
                .then(|| u8::from_str_radix(pair, 16).ok())
                .flatten()
        };
        let digest: Option<Vec<u8>> = digest.trim().split(':').map(byte).collect();
        let digest = digest.filter(|digest| (16..=64).contains(&digest.len()))?;
        Some(Self {
            hash: hash.to_ascii_lowercase(),
            digest,
        })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hash)?;
        for (index, byte) in self.digest.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

macro_rules! suites {
    ($($(#[$doc:meta])* $variant:ident $name:literal $length:literal;)*) => {
        /// An SDES crypto suite: the registry of RFC 4568, RFC 5669, RFC 6188 and RFC 7714.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CryptoSuite { $($(#[$doc])* $variant,)* }

        impl CryptoSuite {
            /// The registered name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The suite of a name, in whatever case.
            pub fn from_name(text: &str) -> Option<Self> {
                [$(Self::$variant,)*].into_iter().find(|suite| suite.as_str().eq_ignore_ascii_case(text))
            }

            /// Bytes of master key and master salt together.
            pub fn key_length(self) -> usize {
                match self { $(Self::$variant => $length,)* }
            }
        }
    };
}

suites! {
    /// RFC 4568.
    AesCm128HmacSha1_80 "AES_CM_128_HMAC_SHA1_80" 30;
    /// RFC 4568.
    AesCm128HmacSha1_32 "AES_CM_128_HMAC_SHA1_32" 30;
    /// RFC 4568.
    F8_128HmacSha1_80 "F8_128_HMAC_SHA1_80" 30;
    /// RFC 6188.
    AesCm192HmacSha1_80 "AES_192_CM_HMAC_SHA1_80" 38;
    /// RFC 6188.
    AesCm192HmacSha1_32 "AES_192_CM_HMAC_SHA1_32" 38;
    /// RFC 6188.
    AesCm256HmacSha1_80 "AES_256_CM_HMAC_SHA1_80" 46;
    /// RFC 6188.
    AesCm256HmacSha1_32 "AES_256_CM_HMAC_SHA1_32" 46;
    /// RFC 7714.
    AeadAes128Gcm "AEAD_AES_128_GCM" 28;
    /// RFC 7714.
    AeadAes256Gcm "AEAD_AES_256_GCM" 44;
    /// RFC 5669.
    SeedCtr128HmacSha1_80 "SEED_CTR_128_HMAC_SHA1_80" 30;
    /// RFC 5669.
    Seed128Ccm80 "SEED_128_CCM_80" 28;
    /// RFC 5669.
    Seed128Gcm96 "SEED_128_GCM_96" 28;
}

/// One a=crypto line (RFC 4568). The key is not printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// The line's number; an answer repeats the one it chose.
    pub tag: u32,
    /// The suite.
    pub suite: CryptoSuite,
    /// Master key and salt of the side that writes the line: [`CryptoSuite::key_length`] bytes.
    pub key: Vec<u8>,
    /// `UNENCRYPTED_SRTP` and others, as written. A line with one we do not know must not be chosen
    /// (RFC 4568 §6.3.7), except those that start with `-`.
    pub session_params: Vec<String>,
    /// The key has a master key identifier, which every packet would then carry.
    pub has_mki: bool,
}

impl Crypto {
    /// A line of our own; `None` when the key has not the suite's length.
    pub fn new(tag: u32, suite: CryptoSuite, key: Vec<u8>) -> Option<Self> {
        let fits = key.len() == suite.key_length();
        fits.then(|| Self {
            tag,
            suite,
            key,
            session_params: Vec::new(),
            has_mki: false,
        })
    }

    /// A line whose key is known to somebody else only.
    pub fn without_key(tag: u32, suite: CryptoSuite) -> Self {
        Self {
            tag,
            suite,
            key: Vec::new(),
            session_params: Vec::new(),
            has_mki: false,
        }
    }

    /// The key is known here.
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// True when nothing in the line asks for more than plain use of the suite.
    pub fn is_plain(&self) -> bool {
        // RFC 4568 §6.3.7: optional ones start with `-`; §6.3.6: WSH is a hint.
        let is_harmless = |param: &String| param.starts_with('-') || param.starts_with("WSH=");
        !self.has_mki && self.session_params.iter().all(is_harmless)
    }

    /// `None` for unknown suites and malformed lines: they are passed over, like lines of another method.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let tag = words.next()?;
        // RFC 4568 §9.1: one to nine digits; a sign would pass for a number.
        let is_number = (1..=9).contains(&tag.len()) && tag.bytes().all(|digit| digit.is_ascii_digit());
        let tag = is_number.then(|| tag.parse().ok()).flatten()?;
        let suite = CryptoSuite::from_name(words.next()?)?;
        // Several keys mean a key rotation by MKI; the first one counts, and `has_mki` says the rest.
        let first = words.next()?.split(';').next()?;
        let inline = first
            .get(..7)
            .filter(|method| method.eq_ignore_ascii_case("inline:"))
            .map(|_| &first[7..])?;
        let mut parts = inline.split('|');
        let key = base64::decode(parts.next()?)?;
        if key.len() != suite.key_length() {
            return None;
        }
        let has_mki = parts.any(|part| part.contains(':'));
        let session_params = words.map(str::to_owned).collect();
        Some(Self {
            tag,
            suite,
            key,
            session_params,
            has_mki,
        })
    }
}

impl fmt::Display for Crypto {
    /// The attribute's value, key included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} inline:{}",
            self.tag,
            self.suite.as_str(),
            base64::encode(&self.key)
        )
    }
}

impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crypto({} {} …)", self.tag, self.suite.as_str())
    }
}

/// a=rtcp (RFC 3605): where RTCP goes when it is not the port after RTP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtcpAddress {
    /// The port.
    pub port: u16,
    /// The address, when it differs from the media's.
    pub address: Option<IpAddr>,
}

impl RtcpAddress {
    /// `None` for what is no place to send to, as port 0, or the 0.0.0.0 of browsers that do not know theirs yet.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
        let is_place = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
        let address = match words.nth(2) {
            Some(address) => Some(address.parse().ok().filter(is_place)?),
            None => None,
        };
        Some(Self { port, address })
    }
}

/// One ICE candidate (RFC 8839 §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// 1 to 32 characters that are equal for candidates of one base.
    pub foundation: String,
    /// 1 for RTP, 2 for RTCP.
    pub component: u16,
    /// `udp` or `tcp`, in lower case.
    pub transport: String,
    /// Larger is better.
    pub priority: u32,
    /// An address, or an mDNS name (`….local`) that hides one.
    pub address: String,
    /// The port.
    pub port: u16,
    /// `host`, `srflx`, `prflx`, `relay`.
    pub kind: String,
    /// `raddr` and `rport`.
    pub related: Option<(String, u16)>,
    /// `tcptype`, `generation`, `network-cost` and others: names and values in turn, as written.
    pub extensions: Vec<String>,
}

impl Candidate {
    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        // Some write the attribute's name twice: `a=candidate:candidate:1 …`.
        let text = text.strip_prefix("candidate:").unwrap_or(text);
        let mut words = text.split_ascii_whitespace();
        let mut word = || words.next();
        let foundation = word()?.to_owned();
        let component = word()?.parse().ok()?;
        let transport = word()?.to_ascii_lowercase();
        let priority = word()?.parse().ok()?;
        let address = word()?.to_owned();
        let port = word()?.parse().ok()?;
        if foundation.len() > 32 || address.len() > 255 || word()? != "typ" {
            return None;
        }
        let kind = word()?.to_owned();
        let rest: Vec<&str> = words.collect();
        let value = |name: &str| {
            let mut pairs = rest.chunks_exact(2);
            pairs.find(|pair| pair[0] == name).map(|pair| pair[1])
        };
        let related_port = value("rport").and_then(|port| port.parse().ok());
        let related = value("raddr").map(str::to_owned).zip(related_port);
        let pairs = rest
            .chunks(2)
            .filter(|pair| !matches!(pair[0], "raddr" | "rport"));
        let extensions = pairs.flatten().map(|&word| word.to_owned()).collect();
        Some(Self {
            foundation,
            component,
            transport,
            priority,
            address,
            port,
            kind,
            related,
            extensions,
        })
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            foundation,
            component,
            transport,
            priority,
            address,
            port,
            kind,
            ..
        } = self;
        write!(
            f,
            "{foundation} {component} {transport} {priority} {address} {port} typ {kind}"
        )?;
        if let Some((address, port)) = &self.related {
            write!(f, " raddr {address} rport {port}")?;
        }
        self.extensions.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

/// ICE credentials and candidates of one media (RFC 8839).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ice {
    /// 4 to 256 characters.
    pub ufrag: String,
    /// 22 to 256 characters.
    pub pwd: String,
    /// In order; may be empty with trickle ICE.
    pub candidates: Vec<Candidate>,
    /// The speaker only answers checks.
    pub lite: bool,
    /// More candidates may come (`ice-options:trickle` without `end-of-candidates`).
    pub trickle: bool,
}
