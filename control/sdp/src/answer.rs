//! Answering an offer (RFC 3264 §6).

use crate::attribute::{CryptoSuite, Direction, Setup};
use crate::codec::{Codec, Format};
use crate::description::{Description, Media, MediaKind, Profile};
use crate::negotiated::{
    LocalSession, LocalTransport, NegotiatedDtls, NegotiatedFormat, NegotiatedMedia, NegotiatedSdes,
    NegotiationError, attribute, format_attributes, has_way, media_line,
};

/// The clock rate of telephone-events that is taken beside any audio.
pub(crate) const EVENTS_HZ: u32 = 8_000;

/// Whose order of codecs counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecOrder {
    /// The offer's (RFC 3264 §6.1: SHOULD).
    Theirs,
    /// Ours: a policy such as "G.711 inside".
    Ours,
}

/// What our side can do.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// Audio codecs, preferred first, with telephone-event, and comfort noise, once per clock rate; telephone-event at 8 kHz is
    /// taken beside any of them. Their fmtp is written in answers.
    pub codecs: Vec<Codec>,
    /// Whose order counts.
    pub order: CodecOrder,
    /// Suites we can do by SDES.
    pub sdes: Vec<CryptoSuite>,
    /// We can do DTLS-SRTP.
    pub dtls: bool,
    /// We can multiplex RTCP.
    pub rtcp_mux: bool,
    /// Take crypto lines on a plain RTP/AVP line too (RFC 8643).
    pub opportunistic: bool,
    /// Take audio that is not encrypted.
    pub plain: bool,
    /// Pass media other than audio on as it is: video, T.38.
    pub opaque: bool,
}

impl Capabilities {
    /// These codecs in the offer's order, every common way of keying, RTCP multiplexing, audio only.
    pub fn new(codecs: Vec<Codec>) -> Self {
        Self {
            codecs,
            order: CodecOrder::Theirs,
            sdes: vec![
                CryptoSuite::AeadAes256Gcm,
                CryptoSuite::AeadAes128Gcm,
                CryptoSuite::AesCm256HmacSha1_80,
                CryptoSuite::AesCm128HmacSha1_80,
                CryptoSuite::AesCm128HmacSha1_32,
            ],
            dtls: true,
            rtcp_mux: true,
            opportunistic: true,
            plain: true,
            opaque: false,
        }
    }
}

/// What becomes of one media line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The audio of the call.
    Audio(Box<NegotiatedMedia>),
    /// Another media, to be passed on untouched.
    Opaque,
    /// Refused: answered with port 0.
    Rejected,
}

/// Our part of the answer to one media line; goes with the [`Selection`] of the same index.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// For [`Selection::Audio`].
    Audio(&'a LocalTransport),
    /// For [`Selection::Opaque`]: the line to write, as the other side answered it.
    Opaque(&'a sdp_types::Media),
    /// Port 0; also for a media that was selected but is not wanted after all.
    Rejected,
}

/// Chooses what to do with each media line of an offer: the first audio line that fits, the rest by policy.
///
/// # Errors
/// [`NegotiationError::NoCommonMedia`], or [`NegotiationError::NoCommonEncryption`] or
/// [`NegotiationError::EncryptionRequired`] where only the keying stood in the way: answer 488.
pub fn select(offer: &Description, capabilities: &Capabilities) -> Result<Vec<Selection>, NegotiationError> {
    let mut has_audio = false;
    let mut has_opaque = false;
    let mut misfit = NegotiationError::NoCommonMedia;
    let mut selections = Vec::with_capacity(offer.media().len());
    for (index, media) in offer.media().iter().enumerate() {
        let selection = match media.kind {
            _ if media.is_rejected() => Selection::Rejected,
            MediaKind::Audio if !has_audio => match select_audio(index, media, capabilities) {
                Ok(audio) => {
                    has_audio = true;
                    Selection::Audio(Box::new(audio))
                }
                Err(why) => {
                    // What a person can mend is told before what is in nobody's power.
                    if misfit == NegotiationError::NoCommonMedia {
                        misfit = why;
                    }
                    Selection::Rejected
                }
            },
            MediaKind::Audio => Selection::Rejected,
            MediaKind::Video | MediaKind::Image | MediaKind::Other(_) if capabilities.opaque => {
                has_opaque = true;
                Selection::Opaque
            }
            MediaKind::Video | MediaKind::Image | MediaKind::Other(_) => Selection::Rejected,
        };
        selections.push(selection);
    }
    // An offer whose lines are all switched off (port 0) asks for nothing and is no failure.
    let asks = offer.media().iter().any(|media| !media.is_rejected());
    if asks && !has_audio && !has_opaque {
        Err(misfit)
    } else {
        Ok(selections)
    }
}

fn select_audio(
    index: usize,
    media: &Media,
    capabilities: &Capabilities,
) -> Result<NegotiatedMedia, NegotiationError> {
    let Profile::Rtp { secure, .. } = media.profile else {
        return Err(NegotiationError::NoCommonMedia);
    };
    let formats = select_formats(&media.formats, &capabilities.codecs, capabilities.order);
    if formats.is_empty() {
        return Err(NegotiationError::NoCommonMedia);
    }
    let dtls = capabilities.dtls.then(|| select_dtls(media)).flatten();
    let sdes = match (&dtls, secure || capabilities.opportunistic) {
        (None, true) => select_sdes(media, &capabilities.sdes),
        (Some(_), _) | (None, false) => None,
    };
    let is_encrypted = dtls.is_some() || sdes.is_some();
    if secure && !is_encrypted {
        return Err(NegotiationError::NoCommonEncryption);
    }
    if !is_encrypted && !capabilities.plain {
        return Err(NegotiationError::EncryptionRequired);
    }
    let remote = media.rtp_address();
    // A held peer has no address and needs none.
    if !has_way(remote, media.ice.as_ref()) && !media.is_address_hold() {
        return Err(NegotiationError::NoCommonMedia);
    }
    let rtcp_mux = media.rtcp_mux && capabilities.rtcp_mux;
    Ok(NegotiatedMedia {
        index,
        secure,
        remote,
        remote_rtcp: if rtcp_mux { remote } else { media.rtcp_address() },
        rtcp_mux,
        formats,
        ptime_ms: ptime(media),
        direction: our_direction(media),
        sdes,
        dtls,
        ice: media.ice.clone(),
        mid: media.mid.clone(),
    })
}

/// The peer's direction seen from us. RFC 3264 §8.4: to a peer that gives no address nothing is sent.
pub(crate) fn our_direction(media: &Media) -> Direction {
    let direction = media.direction.reversed();
    Direction::new(
        direction.sends() && !media.is_address_hold(),
        direction.receives(),
    )
}

/// Milliseconds per packet towards the peer: what it asks for, within what it can take.
pub(crate) fn ptime(media: &Media) -> u16 {
    let wanted = media.ptime_ms.unwrap_or(20);
    wanted.min(media.max_ptime_ms.unwrap_or(wanted)).max(1)
}

/// One audio codec, with telephone-event and comfort noise beside it: with a single codec in the answer, neither side switches
/// in the middle of a call.
pub(crate) fn select_formats(
    offered: &[Format],
    codecs: &[Codec],
    order: CodecOrder,
) -> Vec<NegotiatedFormat> {
    let is_audio = |codec: &Codec| !codec.is_telephone_event() && !codec.is_comfort_noise();
    let has = |codec: &Codec| codecs.iter().any(|own| own.matches(codec));
    let theirs = || {
        offered
            .iter()
            .find(|format| is_audio(&format.codec) && has(&format.codec))
    };
    let ours = || {
        let own = codecs.iter().filter(|codec| is_audio(codec));
        own.filter_map(|codec| offered.iter().find(|format| format.codec.matches(codec)))
            .next()
    };
    let chosen = match order {
        CodecOrder::Theirs => theirs(),
        CodecOrder::Ours => ours(),
    };
    let Some(audio) = chosen else { return Vec::new() };
    let beside = |is_it: fn(&Codec) -> bool, clock_hz: u32| {
        let fits = |codec: &Codec| is_it(codec) && codec.clock_hz == clock_hz && has(codec);
        offered.iter().find(|format| fits(&format.codec))
    };
    let clock_hz = audio.codec.clock_hz;
    // RFC 4733 §2.5.1.1: on the clock of the audio. Many who have Opus know events at 8 kHz alone.
    let events = [clock_hz, EVENTS_HZ]
        .into_iter()
        .find_map(|hz| beside(Codec::is_telephone_event, hz));
    // RFC 3389 §4: on the clock of the audio.
    let noise = beside(Codec::is_comfort_noise, clock_hz);
    std::iter::once(audio)
        .chain(events)
        .chain(noise)
        .map(|format| negotiated(format, codecs))
        .collect()
}

/// A format that was offered, or answered, and that `codecs` has, with the same number both ways.
pub(crate) fn negotiated(format: &Format, codecs: &[Codec]) -> NegotiatedFormat {
    NegotiatedFormat {
        tx_payload_type: format.payload_type,
        rx_payload_type: format.payload_type,
        codec: format.codec.clone(),
        local_fmtp: codecs
            .iter()
            .find(|own| own.matches(&format.codec))
            .and_then(|own| own.fmtp.clone()),
    }
}

fn select_dtls(media: &Media) -> Option<NegotiatedDtls> {
    if media.fingerprints.is_empty() {
        return None;
    }
    // RFC 8842 §5.3: an answerer to actpass should be active; to active it must be passive.
    let is_client = match media.setup {
        Some(Setup::Active) => false,
        Some(Setup::Passive | Setup::ActPass) | None => true,
        Some(Setup::HoldConn) => return None,
    };
    Some(NegotiatedDtls {
        fingerprints: media.fingerprints.clone(),
        is_client,
    })
}

/// RFC 4568 §5.1.2: the first line, in the offer's order, that we can do.
fn select_sdes(media: &Media, suites: &[CryptoSuite]) -> Option<NegotiatedSdes> {
    let usable = |crypto: &&crate::Crypto| crypto.is_plain() && suites.contains(&crypto.suite);
    let remote = media.crypto.iter().find(usable)?.clone();
    Some(NegotiatedSdes {
        local_tag: remote.tag,
        remote,
    })
}

/// Writes the answer: one line for each of the offer's, in its order.
///
/// A line without an entry in `answers`, or whose entry does not go with its selection, is refused with port 0.
///
/// # Errors
/// [`NegotiationError::LocalKeyMissing`]: the transport has no key for the encryption that was chosen.
pub fn write_answer(
    offer: &Description,
    selections: &[Selection],
    answers: &[Answer<'_>],
    session: &mut LocalSession,
) -> Result<Description, NegotiationError> {
    let mut medias = Vec::with_capacity(offer.media().len());
    let offered = offer.bundle();
    let mut bundled = Vec::new();
    let mut is_lite = false;
    for (index, media) in offer.media().iter().enumerate() {
        let line = match (selections.get(index), answers.get(index)) {
            (Some(Selection::Audio(audio)), Some(Answer::Audio(local))) => {
                if let Some(mid) = media.mid.as_deref().filter(|mid| offered.contains(mid)) {
                    bundled.push(mid);
                }
                is_lite |= local.ice.as_ref().is_some_and(|local| local.ice.lite);
                audio_line(media, audio, local)?
            }
            (Some(Selection::Opaque), Some(Answer::Opaque(line))) => (*line).clone(),
            _ => rejected_line(media, &offer.session().medias[index].fmt),
        };
        medias.push(line);
    }
    let mut attributes = Vec::new();
    if !bundled.is_empty() {
        attributes.push(attribute("group", Some(format!("BUNDLE {}", bundled.join(" ")))));
    }
    if is_lite {
        attributes.push(attribute("ice-lite", None));
    }
    Ok(session.describe(medias, attributes))
}

fn audio_line(
    media: &Media,
    audio: &NegotiatedMedia,
    local: &LocalTransport,
) -> Result<sdp_types::Media, NegotiationError> {
    let missing = NegotiationError::LocalKeyMissing(audio.index);
    let own_key = |sdes: &NegotiatedSdes| local.key_for(sdes.remote.tag, sdes.remote.suite);
    let keys: Vec<_> = audio.sdes.as_ref().and_then(own_key).into_iter().collect();
    if (audio.sdes.is_some() && keys.is_empty()) || (audio.dtls.is_some() && local.dtls.is_none()) {
        return Err(missing);
    }
    let is_client = audio.dtls.as_ref().is_some_and(|dtls| dtls.is_client);
    let setup = if is_client { Setup::Active } else { Setup::Passive };
    let formats: Vec<Format> = audio.formats.iter().map(answered_format).collect();
    let numbers: Vec<String> = formats
        .iter()
        .map(|format| format.payload_type.to_string())
        .collect();
    let mut line = media_line(&media.kind, local.port, &media.proto, numbers.join(" "));
    line.connections.push(local.connection());
    let attributes = &mut line.attributes;
    if let Some(mid) = &media.mid {
        attributes.push(attribute("mid", Some(mid.clone())));
    }
    format_attributes(&formats, attributes);
    if let Some(ptime) = local.ptime_ms {
        attributes.push(attribute("ptime", Some(ptime.to_string())));
    }
    if audio.rtcp_mux {
        attributes.push(attribute("rtcp-mux", None));
    } else if let Some(port) = local.rtcp_port {
        attributes.push(attribute("rtcp", Some(port.to_string())));
    }
    local.security_attributes(&keys, setup, attributes);
    // RFC 3264 §6.1: an answer may only narrow what the offer allows.
    attributes.push(attribute(answer_direction(media, local.direction).as_str(), None));
    Ok(line)
}

/// Our direction in the answer. A peer that holds by address is not told that we send.
fn answer_direction(media: &Media, wish: Direction) -> Direction {
    our_direction(media).and(wish)
}

/// The format as the answer writes it: the offer's number and spelling, the parameters of our decoder.
fn answered_format(format: &NegotiatedFormat) -> Format {
    let codec = Codec {
        fmtp: format.local_fmtp.clone(),
        ..format.codec.clone()
    };
    Format {
        payload_type: format.rx_payload_type,
        codec,
    }
}

/// RFC 3264 §6: port 0, the offer's kind, transport and formats; a line that was offered is never left out.
pub(crate) fn rejected_line(media: &Media, formats: &str) -> sdp_types::Media {
    let mut line = media_line(&media.kind, 0, &media.proto, formats.to_owned());
    if let Some(mid) = &media.mid {
        line.attributes.push(attribute("mid", Some(mid.clone())));
    }
    line
}
