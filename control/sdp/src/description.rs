//! A description read into typed media.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use sdp_types::Session;

use crate::attribute::{Candidate, Crypto, Direction, Fingerprint, Ice, RtcpAddress, Setup};
use crate::codec::{Codec, Format, spelled};
use crate::limits::{
    CANDIDATE_COUNT_MAX, CRYPTO_COUNT_MAX, DESCRIPTION_BYTES_MAX, FINGERPRINT_COUNT_MAX, FORMAT_COUNT_MAX,
    LINE_BYTES_MAX, LINE_COUNT_MAX, MEDIA_COUNT_MAX,
};
use crate::text;

/// Why a description was refused: answer 400, or 488 where only the content is at fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Beyond a bound of [`crate::limits`], which the text names.
    #[error("description has too many {0}")]
    TooLarge(&'static str),
    /// Not a session description; the text names the line.
    #[error("malformed description: {0}")]
    Malformed(String),
}

/// The kind of a media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaKind {
    /// `audio`
    Audio,
    /// `video`
    Video,
    /// `image`: T.38.
    Image,
    /// Anything else.
    Other(String),
}

impl MediaKind {
    fn new(text: &str) -> Self {
        match text {
            "audio" => Self::Audio,
            "video" => Self::Video,
            "image" => Self::Image,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// The transport protocol of a media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// An RTP profile.
    Rtp {
        /// SAVP or SAVPF: the media is encrypted.
        secure: bool,
        /// AVPF or SAVPF: early RTCP feedback (RFC 4585).
        feedback: bool,
    },
    /// Anything else: `udptl`, `UDP/DTLS/SCTP`.
    Other,
}

impl Profile {
    fn new(proto: &str) -> Self {
        let rtp = match proto.split_at_checked("UDP/TLS/".len()) {
            Some((tls, rtp)) if tls.eq_ignore_ascii_case("UDP/TLS/") => rtp,
            _ => proto,
        };
        let known = [
            ("RTP/AVP", false, false),
            ("RTP/AVPF", false, true),
            ("RTP/SAVP", true, false),
            ("RTP/SAVPF", true, true),
        ];
        let found = known.iter().find(|(name, ..)| rtp.eq_ignore_ascii_case(name));
        found.map_or(Self::Other, |&(_, secure, feedback)| Self::Rtp {
            secure,
            feedback,
        })
    }
}

/// One media line with what it inherits from the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// The kind.
    pub kind: MediaKind,
    /// The transport protocol.
    pub profile: Profile,
    /// The transport protocol, as written.
    pub proto: String,
    /// The RTP port; 0 is a rejected or disabled media.
    pub port: u16,
    /// The media's address, else the session's. `None` for a hostname, a multicast group or none at all.
    pub address: Option<IpAddr>,
    /// Payload types with their codecs, in the order of the media line. Dynamic ones without rtpmap are left out.
    pub formats: Vec<Format>,
    /// ptime, in milliseconds.
    pub ptime_ms: Option<u16>,
    /// maxptime, in milliseconds.
    pub max_ptime_ms: Option<u16>,
    /// The direction, sendrecv when none is written.
    pub direction: Direction,
    /// a=rtcp.
    pub rtcp: Option<RtcpAddress>,
    /// a=rtcp-mux.
    pub rtcp_mux: bool,
    /// SDES lines of suites we know.
    pub crypto: Vec<Crypto>,
    /// DTLS certificate fingerprints.
    pub fingerprints: Vec<Fingerprint>,
    /// DTLS role.
    pub setup: Option<Setup>,
    /// ICE.
    pub ice: Option<Ice>,
    /// The identification tag (RFC 5888).
    pub mid: Option<String>,
}

impl Media {
    /// True with port 0 and thus refused or switched off.
    pub fn is_rejected(&self) -> bool {
        self.port == 0
    }

    /// True when its sender must not be sent anything: `c=0.0.0.0` or `::` (RFC 3264 §8.4, RFC 2543 hold).
    ///
    /// With ICE that address only says that candidates are yet to come (RFC 8839 §4.3.1).
    pub fn is_address_hold(&self) -> bool {
        self.ice.is_none() && self.address.is_some_and(|address| address.is_unspecified())
    }

    /// Where RTP goes; `None` while held, rejected or without a usable address.
    pub fn rtp_address(&self) -> Option<SocketAddr> {
        let address = self.address.filter(|address| !address.is_unspecified())?;
        (self.port != 0).then(|| SocketAddr::new(address, self.port))
    }

    /// Where RTCP goes without multiplexing: a=rtcp, else the next port (RFC 3550 §11). An address of the other family
    /// than RTP's counts as none: what sends there is one socket.
    pub fn rtcp_address(&self) -> Option<SocketAddr> {
        let rtp = self.rtp_address()?;
        let own = self
            .rtcp
            .map(|rtcp| SocketAddr::new(rtcp.address.unwrap_or(rtp.ip()), rtcp.port));
        let own = own.filter(|own| own.is_ipv4() == rtp.is_ipv4());
        own.or_else(|| Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?)))
    }
}

/// A session description: the text's lines, and its media typed.
///
/// `Debug` shows what was read, without the lines themselves: they may hold keys.
#[derive(Clone)]
pub struct Description {
    session: Arc<Session>,
    /// The media lines typed, once somebody looks: of most descriptions of our own nothing but the text is wanted.
    media: OnceLock<Vec<Media>>,
}

impl PartialEq for Description {
    fn eq(&self, other: &Self) -> bool {
        self.session == other.session
    }
}

impl Eq for Description {}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = &self.session.origin;
        f.debug_struct("Description")
            .field("session_id", &origin.sess_id)
            .field("version", &origin.sess_version)
            .field("media", &self.media())
            .finish_non_exhaustive()
    }
}

impl Description {
    /// Reads a description. Lines may end in LF; s= and t= may be missing; bytes that are not UTF-8 are taken as
    /// Latin-1; attributes we do not know are kept.
    ///
    /// # Errors
    /// [`SdpError`].
    pub fn parse(text: &[u8]) -> Result<Self, SdpError> {
        if text.len() > DESCRIPTION_BYTES_MAX {
            return Err(SdpError::TooLarge("bytes"));
        }
        let mut lines = 0;
        for line in text.split(|&byte| byte == b'\n') {
            lines += 1;
            if line.len() > LINE_BYTES_MAX {
                return Err(SdpError::TooLarge("bytes in a line"));
            }
        }
        if lines > LINE_COUNT_MAX {
            return Err(SdpError::TooLarge("lines"));
        }
        let utf8 = match std::str::from_utf8(text) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => text.iter().map(|&byte| char::from(byte)).collect(),
        };
        let clean = without_blank_ends(&utf8);
        let session =
            Session::parse(clean.as_bytes()).map_err(|error| SdpError::Malformed(error.to_string()))?;
        if session.medias.len() > MEDIA_COUNT_MAX {
            return Err(SdpError::TooLarge("media lines"));
        }
        Ok(Self::from_session(session.into()))
    }

    pub(crate) fn from_session(session: Arc<Session>) -> Self {
        Self {
            session,
            media: OnceLock::new(),
        }
    }

    /// The media lines in order, rejected ones included: an answer has one for each.
    pub fn media(&self) -> &[Media] {
        self.media.get_or_init(|| {
            let lines = self.session.medias.iter();
            lines.map(|media| typed(&self.session, media)).collect()
        })
    }

    /// Identification tags of the BUNDLE group (RFC 9143); empty without one.
    pub fn bundle(&self) -> Vec<&str> {
        let mut groups = Attributes(&self.session.attributes).values("group");
        let mids = groups.find_map(|group| group.strip_prefix("BUNDLE"));
        mids.unwrap_or_default().split_ascii_whitespace().collect()
    }

    /// The o= line's session id; it may exceed 64 bits.
    pub fn session_id(&self) -> &str {
        &self.session.origin.sess_id
    }

    /// The o= line's version.
    pub fn version(&self) -> u64 {
        self.session.origin.sess_version
    }

    /// The lines of the description as `sdp-types` reads them, for what is passed on untouched.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

impl Description {
    /// As it is sent.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(512);
        text::write(&self.session, &mut text);
        text
    }
}

impl std::fmt::Display for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

/// The text without blanks at the ends of lines, which some endpoints write and no field has but `s=` and `i=`.
fn without_blank_ends(text: &str) -> Cow<'_, str> {
    let is_free = |line: &str| line.starts_with("s=") || line.starts_with("i=");
    let has_blank_end = |line: &str| line.ends_with([' ', '\t']) && !is_free(line);
    if !text.lines().any(has_blank_end) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    for line in text.lines() {
        clean += match is_free(line) {
            true => line,
            false => line.trim_end_matches([' ', '\t']),
        };
        clean += "\r\n";
    }
    Cow::Owned(clean)
}

fn typed(session: &Session, media: &sdp_types::Media) -> Media {
    let own = Attributes(&media.attributes);
    let inherited = Attributes(&session.attributes);
    // RFC 8866 §5.7: the media's c= overrides the session's.
    let connection = media.connections.first().or(session.connection.as_ref());
    let address = connection
        .and_then(|c| c.try_address().ok())
        .map(|c| c.ip)
        .filter(|ip| !ip.is_multicast());
    let both = |name| own.value(name).or_else(|| inherited.value(name));
    let milliseconds = |name| {
        // `a=ptime:20.0` and `a=maxptime:0` exist.
        let text = own.value(name)?.split('.').next()?;
        text.trim().parse().ok().filter(|&ms: &u16| ms > 0)
    };
    let fingerprints = |from: Attributes<'_>| -> Vec<Fingerprint> {
        from.values("fingerprint")
            .filter_map(Fingerprint::parse)
            .take(FINGERPRINT_COUNT_MAX)
            .collect()
    };
    let own_fingerprints = fingerprints(own);
    Media {
        kind: MediaKind::new(&media.media),
        profile: Profile::new(&media.proto),
        proto: media.proto.clone(),
        port: media.port,
        address,
        formats: formats(media, own),
        ptime_ms: milliseconds("ptime"),
        max_ptime_ms: milliseconds("maxptime"),
        direction: own
            .direction()
            .or(inherited.direction())
            .unwrap_or(Direction::SendRecv),
        rtcp: own.value("rtcp").and_then(RtcpAddress::parse),
        rtcp_mux: own.has("rtcp-mux"),
        crypto: crypto(own),
        fingerprints: if own_fingerprints.is_empty() {
            fingerprints(inherited)
        } else {
            own_fingerprints
        },
        setup: both("setup").and_then(Setup::parse),
        ice: ice(own, inherited),
        mid: own.value("mid").map(str::to_owned),
    }
}

/// RFC 4568 §4.1: no tag twice; which of the two an answer means could not be told.
fn crypto(own: Attributes<'_>) -> Vec<Crypto> {
    let mut lines: Vec<Crypto> = Vec::new();
    for line in own
        .values("crypto")
        .filter_map(Crypto::parse)
        .take(CRYPTO_COUNT_MAX)
    {
        if lines.iter().all(|known| known.tag != line.tag) {
            lines.push(line);
        }
    }
    lines
}

fn ice(own: Attributes<'_>, inherited: Attributes<'_>) -> Option<Ice> {
    let both = |name| own.value(name).or_else(|| inherited.value(name)).map(str::trim);
    let in_bounds = |text: &&str, min| (min..=256).contains(&text.len());
    let ufrag = both("ice-ufrag").filter(|ufrag| in_bounds(ufrag, 4))?;
    let pwd = both("ice-pwd").filter(|pwd| in_bounds(pwd, 22))?;
    let options = both("ice-options").unwrap_or_default();
    let candidates = own
        .values("candidate")
        .filter_map(Candidate::parse)
        .take(CANDIDATE_COUNT_MAX)
        .collect();
    Some(Ice {
        ufrag: ufrag.to_owned(),
        pwd: pwd.to_owned(),
        candidates,
        lite: inherited.has("ice-lite"),
        trickle: options.split_ascii_whitespace().any(|option| option == "trickle")
            && !own.has("end-of-candidates"),
    })
}

fn formats(media: &sdp_types::Media, attributes: Attributes<'_>) -> Vec<Format> {
    if Profile::new(&media.proto) == Profile::Other {
        return Vec::new();
    }
    let numbers = media
        .fmt
        .split_ascii_whitespace()
        .filter_map(|number| number.parse().ok());
    let mut formats: Vec<Format> = Vec::new();
    for payload_type in numbers.filter(|number: &u8| *number < 128).take(FORMAT_COUNT_MAX) {
        if formats.iter().any(|format| format.payload_type == payload_type) {
            continue;
        }
        let of_type = |name| {
            attributes
                .values(name)
                .find_map(|value| after_number(value, payload_type))
        };
        let mapped = of_type("rtpmap")
            .and_then(codec)
            .or_else(|| Codec::from_static(payload_type));
        let Some(mut codec) = mapped else { continue };
        codec.fmtp = of_type("fmtp").map(spelled);
        formats.push(Format { payload_type, codec });
    }
    formats
}

/// The text after `<payload type> ` in an rtpmap or fmtp.
fn after_number(value: &str, payload_type: u8) -> Option<&str> {
    let (number, rest) = value.trim_start().split_once(' ')?;
    (number.parse() == Ok(payload_type)).then(|| rest.trim())
}

fn codec(encoding: &str) -> Option<Codec> {
    let mut parts = encoding.split('/');
    let name = parts.next().filter(|name| !name.is_empty())?;
    let clock_hz = parts
        .next()?
        .trim()
        .parse()
        .ok()
        .filter(|&clock: &u32| clock > 0)?;
    let channels = match parts.next() {
        Some(channels) => channels
            .trim()
            .parse()
            .ok()
            .filter(|&channels: &u8| channels > 0)?,
        None => 1,
    };
    Some(Codec {
        channels,
        ..Codec::new(spelled(name), clock_hz)
    })
}

#[derive(Clone, Copy)]
struct Attributes<'a>(&'a [sdp_types::Attribute]);

impl<'a> Attributes<'a> {
    fn has(self, name: &str) -> bool {
        self.0.iter().any(|attribute| attribute.attribute == name)
    }

    fn values(self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |a| a.attribute == name)
            .filter_map(|a| a.value.as_deref())
    }

    fn value(self, name: &'static str) -> Option<&'a str> {
        self.values(name).next()
    }

    fn direction(self) -> Option<Direction> {
        self.0
            .iter()
            .find_map(|attribute| Direction::from_name(&attribute.attribute))
    }
}
