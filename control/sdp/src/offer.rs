//! Making an offer and reading its answer (RFC 3264 §5, §7, §8).

use crate::answer::{CodecOrder, EVENTS_HZ, negotiated, our_direction, ptime, rejected_line, select_formats};
use crate::attribute::Setup;
use crate::codec::{Codec, Format};
use crate::description::{Description, Media, MediaKind, Profile};
use crate::negotiated::{
    LocalSession, LocalTransport, NegotiatedDtls, NegotiatedFormat, NegotiatedMedia, NegotiatedSdes,
    NegotiationError, attribute, format_attributes, media_line,
};

/// One media line of an offer.
#[derive(Debug, Clone)]
pub enum OfferedMedia {
    /// Audio of ours.
    Audio {
        /// Formats, preferred first: see [`assign_payload_types`](crate::assign_payload_types).
        formats: Vec<Format>,
        /// Where we receive.
        transport: LocalTransport,
        /// Offer RTP and RTCP on one port.
        rtcp_mux: bool,
        /// The identification tag, with DTLS and BUNDLE.
        mid: Option<String>,
    },
    /// A line passed on untouched, or one that keeps the place of a media that is off: a later offer never has
    /// fewer lines (RFC 3264 §8).
    Opaque(sdp_types::Media),
}

/// Writes an offer. Late offers (in a 200 to an INVITE without description) and re-offers are written the same way.
pub fn write_offer(medias: &[OfferedMedia], session: &mut LocalSession) -> Description {
    let mut attributes = Vec::new();
    let mids: Vec<&str> = medias.iter().filter_map(bundled_mid).collect();
    if !mids.is_empty() {
        attributes.push(attribute("group", Some(format!("BUNDLE {}", mids.join(" ")))));
    }
    let is_lite = |media: &OfferedMedia| match media {
        OfferedMedia::Audio { transport, .. } => transport.ice.as_ref().is_some_and(|local| local.ice.lite),
        OfferedMedia::Opaque(_) => false,
    };
    if medias.iter().any(is_lite) {
        attributes.push(attribute("ice-lite", None));
    }
    let lines = medias.iter().map(line).collect();
    session.describe(lines, attributes)
}

/// The lines of an offer that follows another description: `audio` in the place that ours has there, and the others, which
/// keep their places switched off (RFC 3264 §8: a later offer never has fewer lines, nor others in their places).
pub fn offer_again(before: &Description, place: usize, audio: OfferedMedia) -> Vec<OfferedMedia> {
    let mut audio = Some(audio);
    let lines = before.media().iter().zip(&before.session().medias).enumerate();
    let mut again: Vec<OfferedMedia> = lines
        .map(|(index, (media, line))| match audio.take_if(|_| index == place) {
            Some(audio) => audio,
            None => OfferedMedia::Opaque(rejected_line(media, &line.fmt)),
        })
        .collect();
    again.extend(audio);
    again
}

fn bundled_mid(media: &OfferedMedia) -> Option<&str> {
    match media {
        OfferedMedia::Audio { mid, transport, .. } if transport.dtls.is_some() => mid.as_deref(),
        OfferedMedia::Audio { .. } | OfferedMedia::Opaque(_) => None,
    }
}

fn line(media: &OfferedMedia) -> sdp_types::Media {
    let (formats, transport, rtcp_mux, mid) = match media {
        OfferedMedia::Opaque(line) => return line.clone(),
        OfferedMedia::Audio {
            formats,
            transport,
            rtcp_mux,
            mid,
        } => (formats, transport, *rtcp_mux, mid),
    };
    let has_keys = !transport.sdes.is_empty();
    let proto = match (&transport.dtls, has_keys && !transport.opportunistic) {
        (Some(_), _) => "UDP/TLS/RTP/SAVPF",
        (None, true) => "RTP/SAVP",
        (None, false) => "RTP/AVP",
    };
    let numbers: Vec<String> = formats
        .iter()
        .map(|format| format.payload_type.to_string())
        .collect();
    let mut line = media_line(&MediaKind::Audio, transport.port, proto, numbers.join(" "));
    line.connections.push(transport.connection());
    let attributes = &mut line.attributes;
    if let Some(mid) = mid {
        attributes.push(attribute("mid", Some(mid.clone())));
    }
    format_attributes(formats, attributes);
    if let Some(ptime) = transport.ptime_ms {
        attributes.push(attribute("ptime", Some(ptime.to_string())));
    }
    if rtcp_mux {
        attributes.push(attribute("rtcp-mux", None));
    }
    if let Some(port) = transport.rtcp_port {
        attributes.push(attribute("rtcp", Some(port.to_string())));
    }
    transport.security_attributes(&transport.sdes, Setup::ActPass, attributes);
    attributes.push(attribute(transport.direction.as_str(), None));
    line
}

/// Reads the answer to an offer of ours: for each media line what was agreed, `None` for those refused and those
/// that are not audio.
///
/// # Errors
/// [`NegotiationError`]: the answer breaks RFC 3264, or leaves no audio; the session cannot go on.
pub fn apply_answer(
    offer: &Description,
    answer: &Description,
) -> Result<Vec<Option<NegotiatedMedia>>, NegotiationError> {
    let (offered, answered) = (offer.media().len(), answer.media().len());
    if offered != answered {
        return Err(NegotiationError::MediaCount { offered, answered });
    }
    let mut agreed = Vec::with_capacity(offered);
    for (index, (ours, theirs)) in offer.media().iter().zip(answer.media()).enumerate() {
        if ours.kind != theirs.kind {
            return Err(NegotiationError::MediaKind(index));
        }
        let is_audio = ours.kind == MediaKind::Audio && !ours.is_rejected() && !theirs.is_rejected();
        agreed.push(is_audio.then(|| agree(index, ours, theirs)).flatten());
    }
    let wanted = offer
        .media()
        .iter()
        .any(|media| media.kind == MediaKind::Audio && !media.is_rejected());
    if wanted && agreed.iter().all(Option::is_none) {
        return Err(NegotiationError::NoCommonMedia);
    }
    Ok(agreed)
}

fn agree(index: usize, ours: &Media, theirs: &Media) -> Option<NegotiatedMedia> {
    let formats = agree_formats(ours, theirs);
    if formats.is_empty() {
        return None;
    }
    let sdes = agree_sdes(ours, theirs);
    let dtls = agree_dtls(ours, theirs);
    // We offered encryption and nothing else: an answer without it is no agreement (RFC 4568 §5.1.3). Nor is one that
    // wants it where it does not say with which key.
    let is_secure = |media: &Media| matches!(media.profile, Profile::Rtp { secure: true, .. });
    let secure = is_secure(ours);
    if (secure || is_secure(theirs)) && sdes.is_none() && dtls.is_none() {
        return None;
    }
    let remote = theirs.rtp_address();
    if !crate::negotiated::has_way(remote, theirs.ice.as_ref()) && !theirs.is_address_hold() {
        return None;
    }
    let rtcp_mux = ours.rtcp_mux && theirs.rtcp_mux;
    Some(NegotiatedMedia {
        index,
        secure,
        remote,
        remote_rtcp: if rtcp_mux { remote } else { theirs.rtcp_address() },
        rtcp_mux,
        formats,
        ptime_ms: ptime(theirs),
        // Whatever the answer says, nothing flows that we did not offer.
        direction: our_direction(theirs).and(ours.direction),
        sdes,
        dtls,
        ice: theirs.ice.clone(),
        mid: ours.mid.clone(),
    })
}

/// The answer's first audio codec that we offered, and what it has beside it. RFC 3264 §7: we send with the answer's number and
/// receive with ours.
fn agree_formats(ours: &Media, theirs: &Media) -> Vec<NegotiatedFormat> {
    let codecs: Vec<Codec> = ours.formats.iter().map(|format| format.codec.clone()).collect();
    let mut formats = select_formats(&theirs.formats, &codecs, CodecOrder::Theirs);
    // Who answers with telephone-events on two clocks may send either.
    let more = |format: &&Format| {
        let codec = &format.codec;
        codec.is_telephone_event()
            && codec.clock_hz == EVENTS_HZ
            && codecs.iter().any(|own| own.matches(codec))
            && !formats.iter().any(|agreed| agreed.codec.matches(codec))
    };
    let more = theirs.formats.iter().find(more).filter(|_| !formats.is_empty());
    formats.extend(more.map(|format| negotiated(format, &codecs)));
    for format in &mut formats {
        let own = ours.formats.iter().find(|own| own.codec.matches(&format.codec));
        format.rx_payload_type = own.map_or(format.tx_payload_type, |own| own.payload_type);
    }
    formats
}

/// RFC 4568 §5.1.3: the answer has one line, with the tag and the suite of one of ours.
fn agree_sdes(ours: &Media, theirs: &Media) -> Option<NegotiatedSdes> {
    let matches = |theirs: &&crate::Crypto| {
        let own = ours.crypto.iter().find(|own| own.tag == theirs.tag);
        theirs.is_plain() && own.is_some_and(|own| own.suite == theirs.suite)
    };
    let remote = theirs.crypto.iter().find(matches)?.clone();
    Some(NegotiatedSdes {
        local_tag: remote.tag,
        remote,
    })
}

fn agree_dtls(ours: &Media, theirs: &Media) -> Option<NegotiatedDtls> {
    if ours.fingerprints.is_empty() || theirs.fingerprints.is_empty() {
        return None;
    }
    // RFC 8842 §5.3: the answer says active or passive; actpass is not allowed in it and read as active, which is
    // also what silence means (RFC 4145 §4).
    let is_client = match theirs.setup {
        Some(Setup::Passive) => true,
        Some(Setup::Active | Setup::ActPass) | None => false,
        Some(Setup::HoldConn) => return None,
    };
    Some(NegotiatedDtls {
        fingerprints: theirs.fingerprints.clone(),
        is_client,
    })
}
