//! What an offer/answer exchange comes to, and what our side brings to it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sdp_types::{Attribute, Connection, Origin, Session, Time};

use crate::attribute::{Candidate, Crypto, CryptoSuite, Direction, Fingerprint, Ice, Setup};
use crate::codec::{Codec, Format};
use crate::description::{Description, MediaKind};

/// Why no session comes about: answer 488 (or end the call, when the answer is at fault).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// No audio line has a codec and a security scheme that we have too.
    #[error("no audio with a common codec and transport")]
    NoCommonMedia,
    /// The offer's audio is encrypted in ways that we do not take.
    #[error("no audio with a common way to encrypt it")]
    NoCommonEncryption,
    /// The offer's audio is not encrypted, or in ways that we do not take, and must be.
    #[error("audio must be encrypted")]
    EncryptionRequired,
    /// An answer must have the offer's media lines, in order.
    #[error("answer has {answered} media lines, offer had {offered}")]
    MediaCount {
        /// Lines in the offer.
        offered: usize,
        /// Lines in the answer.
        answered: usize,
    },
    /// Our side brings no key of the chosen suite, or no certificate, to this media line: a mistake of the caller.
    #[error("no local key for the encryption chosen on media line {0}")]
    LocalKeyMissing(usize),
    /// The answer's line is of another kind than the offer's.
    #[error("media line {0} of the answer is of another kind")]
    MediaKind(usize),
}

/// A codec both sides take, with the payload type of each way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedFormat {
    /// What we send it as: the number in the peer's description.
    pub tx_payload_type: u8,
    /// What we receive it as: the number in ours.
    pub rx_payload_type: u8,
    /// The codec, with the peer's fmtp: what its decoder asks for.
    pub codec: Codec,
    /// Our fmtp: what our decoder asks for.
    pub local_fmtp: Option<Cow<'static, str>>,
}

/// SDES: the peer's key, and which line was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedSdes {
    /// The chosen line; its key decrypts what we receive.
    pub remote: Crypto,
    /// Index of our line when we offered; an answerer writes its own with the tag of `remote`.
    pub local_tag: u32,
}

/// DTLS: what the peer's certificate must hash to, and who begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedDtls {
    /// The certificate must match one of them.
    pub fingerprints: Vec<Fingerprint>,
    /// True when we are the DTLS client.
    pub is_client: bool,
}

/// One audio media as agreed: what a media host needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedMedia {
    /// Its place among the media lines.
    pub index: usize,
    /// The line's profile is RTP/SAVP or RTP/SAVPF: what is said on it later must be encrypted too.
    pub secure: bool,
    /// Where to send RTP; `None` while the peer holds by address.
    pub remote: Option<SocketAddr>,
    /// Where to send RTCP; RTP's address with `rtcp_mux`.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTP and RTCP share a port.
    pub rtcp_mux: bool,
    /// The audio codec first, then telephone-event at its clock rate, or else at 8 kHz, then comfort noise at its clock rate,
    /// if both have them. Of an answer to ours telephone-event at both rates.
    pub formats: Vec<NegotiatedFormat>,
    /// Milliseconds per packet the peer wants; 20 when it says nothing.
    pub ptime_ms: u16,
    /// Seen from us: `SendOnly` means that we send.
    pub direction: Direction,
    /// SRTP keyed by SDES.
    pub sdes: Option<NegotiatedSdes>,
    /// SRTP keyed by DTLS.
    pub dtls: Option<NegotiatedDtls>,
    /// The peer's ICE credentials and candidates.
    pub ice: Option<Ice>,
    /// The identification tag.
    pub mid: Option<String>,
}

/// Our DTLS identity for one media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalDtls {
    /// Our certificate's. The role is written by whoever makes the description: actpass in offers, active or
    /// passive in answers (RFC 8842 §5).
    pub fingerprint: Fingerprint,
}

/// Our ICE credentials and candidates for one media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalIce {
    /// Credentials and candidates; `lite` is written at session level.
    pub ice: Ice,
}

/// What the media host gave us for one media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTransport {
    /// The address to write.
    pub address: IpAddr,
    /// The RTP port.
    pub port: u16,
    /// The RTCP port when it is not the next one and not multiplexed.
    pub rtcp_port: Option<u16>,
    /// Our wish: hold a peer with `SendOnly` (music) or `Inactive`.
    pub direction: Direction,
    /// Our SDES keys: every suite in an offer; for an answer the one of the chosen suite.
    pub sdes: Vec<Crypto>,
    /// Offer them on RTP/AVP, so that a peer that cannot encrypt answers without (RFC 8643).
    pub opportunistic: bool,
    /// Our DTLS identity.
    pub dtls: Option<LocalDtls>,
    /// Our ICE side.
    pub ice: Option<LocalIce>,
    /// ptime to write, in milliseconds.
    pub ptime_ms: Option<u16>,
}

impl LocalTransport {
    /// Plain RTP, both ways.
    pub fn plain(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            port,
            rtcp_port: None,
            direction: Direction::SendRecv,
            sdes: Vec::new(),
            opportunistic: false,
            dtls: None,
            ice: None,
            ptime_ms: None,
        }
    }

    pub(crate) fn security_attributes(&self, sdes: &[Crypto], setup: Setup, attributes: &mut Vec<Attribute>) {
        for crypto in sdes {
            attributes.push(attribute("crypto", Some(crypto.to_string())));
        }
        if let Some(dtls) = &self.dtls {
            attributes.push(attribute("fingerprint", Some(dtls.fingerprint.to_string())));
            attributes.push(attribute("setup", Some(setup.as_str().to_owned())));
        }
        if let Some(LocalIce { ice }) = &self.ice {
            attributes.push(attribute("ice-ufrag", Some(ice.ufrag.clone())));
            attributes.push(attribute("ice-pwd", Some(ice.pwd.clone())));
            for candidate in &ice.candidates {
                attributes.push(attribute("candidate", Some(candidate.to_string())));
            }
            if !ice.trickle {
                attributes.push(attribute("end-of-candidates", None));
            }
        }
    }

    pub(crate) fn connection(&self) -> Connection {
        Connection::from_ip_addr(self.address)
    }

    /// Our key for a suite, under the tag of the peer's line.
    pub(crate) fn key_for(&self, tag: u32, suite: CryptoSuite) -> Option<Crypto> {
        let own = self.sdes.iter().find(|crypto| crypto.suite == suite)?;
        Crypto::new(tag, suite, own.key.clone())
    }
}

/// Our o= line across the offers and answers of one dialog.
#[derive(Debug, Clone)]
pub struct LocalSession {
    id: u64,
    version: u64,
    address: IpAddr,
    /// What was written last, to know whether the version must change.
    last: Option<Arc<Session>>,
}

impl LocalSession {
    /// A new session. The id should be random; it stays below 2^63 for peers that read it signed.
    pub fn new(id: u64, address: IpAddr) -> Self {
        Self {
            id: id >> 1,
            version: 0,
            address,
            last: None,
        }
    }

    /// A session taken over from a journal: the next description has a version above `version`.
    pub fn adopt(id: u64, version: u64, address: IpAddr) -> Self {
        Self {
            id,
            version,
            address,
            last: None,
        }
    }

    /// The id and the version written last.
    pub fn origin(&self) -> (u64, u64) {
        (self.id, self.version)
    }

    /// Wraps media lines; RFC 3264 §8: the version goes up by one whenever anything differs from the last one.
    pub(crate) fn describe(
        &mut self,
        mut medias: Vec<sdp_types::Media>,
        attributes: Vec<Attribute>,
    ) -> Description {
        let connection = Connection::from_ip_addr(self.address);
        // RFC 8866 §5.7: what holds for the session is said once. Simple phones count a c= as a stream.
        for media in &mut medias {
            media.connections.retain(|own| *own != connection);
        }
        let mut session = Session {
            origin: Origin::with_ip_addr(self.id, self.version, self.address),
            session_name: "-".to_owned(),
            session_description: None,
            uri: None,
            emails: Vec::new(),
            phones: Vec::new(),
            connection: Some(connection),
            bandwidths: Vec::new(),
            times: vec![Time {
                start_time: 0,
                stop_time: 0,
                repeats: Vec::new(),
            }],
            time_zones: Vec::new(),
            key: None,
            attributes,
            medias,
        };
        if let Some(last) = self.last.as_ref().filter(|last| ***last == session) {
            return Description::from_session(Arc::clone(last));
        }
        self.version += 1;
        session.origin.sess_version = self.version;
        let session = Arc::new(session);
        self.last = Some(Arc::clone(&session));
        Description::from_session(session)
    }
}

pub(crate) fn attribute(name: &str, value: Option<String>) -> Attribute {
    Attribute {
        attribute: name.to_owned(),
        value,
    }
}

pub(crate) fn format_attributes(formats: &[Format], attributes: &mut Vec<Attribute>) {
    for Format { payload_type, codec } in formats {
        let number = payload_type.to_string();
        let numbered = |text: &str| Some([number.as_str(), " ", text].concat());
        attributes.push(attribute("rtpmap", numbered(&codec.encoding())));
        if let Some(fmtp) = &codec.fmtp {
            attributes.push(attribute("fmtp", numbered(fmtp)));
        }
    }
}

/// A media line with its number and transport; attributes follow.
pub(crate) fn media_line(kind: &MediaKind, port: u16, proto: &str, fmt: String) -> sdp_types::Media {
    let media = match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
        MediaKind::Image => "image",
        MediaKind::Other(other) => other,
    };
    sdp_types::Media {
        media: media.to_owned(),
        port,
        num_ports: None,
        proto: proto.to_owned(),
        fmt,
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}

/// The usable candidates are the peer's business; this only says whether there is a way at all.
pub(crate) fn has_way(remote: Option<SocketAddr>, ice: Option<&Ice>) -> bool {
    remote.is_some() || ice.is_some_and(|ice| ice.trickle || ice.candidates.iter().any(Candidate::is_usable))
}

impl Candidate {
    fn is_usable(&self) -> bool {
        self.transport == "udp" && self.component == 1
    }
}
