//! Requests: every value is checked by itself here; how values fit together is `graph`'s to say.

use std::{net::SocketAddr, sync::Arc};

use proto::mediad::v1 as pb;
use rtp::units::{ClockRate, PayloadType, Ssrc};

use super::{audio, recording};
use crate::{
    command::{CollectWish, CollectedDigits, SendDigit},
    graph::{OptionsPatch, Owner, Patch},
    host::{Act, ActKind},
    limits,
    refusal::Refusal,
    spec::{
        Codec, DigitPolicy, Direction, EdgeSpec, EndpointSpec, Family, GainSettings, InbandDigits, LinkSpec,
        MasterKey, Name, NodeKind, NodeSpec, PayloadFormat, PolishSpec, RemoteKey, RoomSpec, RtcpMode,
        SdesSpec, Security, SourcePolicy, Suite, TapSpec, TransportKind, TransportSpec, UdpSpec,
    },
};

/// An Apply as a patch.
///
/// # Errors
/// The first value that is missing, out of range or not carried out, naming what it belongs to.
pub fn apply(request: &pb::ApplyRequest) -> Result<Patch, Refusal> {
    let session = id("session", &request.session, limits::SESSION_ID_BYTES_MAX)?;
    Ok(Patch {
        owner: owner(&session, request.owner.as_ref())?,
        if_revision: request.if_revision,
        replace: request.replace,
        put_transports: request
            .put_transports
            .iter()
            .map(transport)
            .collect::<Result<_, _>>()?,
        remove_transports: node_ids("transport", &request.remove_transports)?,
        put_nodes: request.put_nodes.iter().map(node).collect::<Result<_, _>>()?,
        remove_nodes: node_ids("node", &request.remove_nodes)?,
        put_edges: request.put_edges.iter().map(edge).collect::<Result<_, _>>()?,
        remove_edges: request
            .remove_edges
            .iter()
            .map(edge_key)
            .collect::<Result<_, _>>()?,
        near: match &request.placement {
            Some(placement) if !placement.near_session.is_empty() => Some(id(
                "session",
                &placement.near_session,
                limits::SESSION_ID_BYTES_MAX,
            )?),
            _ => None,
        },
        options: request
            .options
            .as_ref()
            .map(|o| options(&session, o))
            .transpose()?,
        session,
    })
}

/// An Act with its digits spelled out.
///
/// # Errors
/// As [`apply`].
pub fn act(request: &pb::ActRequest) -> Result<Act, Refusal> {
    let session = id("session", &request.session, limits::SESSION_ID_BYTES_MAX)?;
    let node = id("node", &request.node, limits::NODE_ID_BYTES_MAX)?;
    let subject = format!("node:{node}");
    let kind = match &request.act {
        Some(pb::act_request::Act::SendDigits(digits)) => ActKind::SendDigits(send_digits(&subject, digits)?),
        Some(pb::act_request::Act::CollectDigits(digits)) => ActKind::Collect(collect(&subject, digits)?),
        Some(pb::act_request::Act::Seek(seek)) => ActKind::Seek {
            item: seek.item as usize,
            position_ms: seek.position_ms,
        },
        Some(pb::act_request::Act::Flush(_)) => ActKind::Flush,
        None => {
            return Err(Refusal::Missing {
                subject,
                field: "act",
            });
        }
    };
    Ok(Act {
        owner: owner(&session, request.owner.as_ref())?,
        session,
        node,
        request: id("request", &request.request, limits::NODE_ID_BYTES_MAX)?,
        kind,
    })
}

/// Session and owner of a Delete.
///
/// # Errors
/// As [`apply`].
pub fn delete(request: &pb::DeleteRequest) -> Result<(Name, Owner), Refusal> {
    let session = id("session", &request.session, limits::SESSION_ID_BYTES_MAX)?;
    let owner = owner(&session, request.owner.as_ref())?;
    Ok((session, owner))
}

/// Session and new owner of an Adopt.
///
/// # Errors
/// As [`apply`].
pub fn adopt(request: &pb::AdoptRequest) -> Result<(Name, Owner), Refusal> {
    let session = id("session", &request.session, limits::SESSION_ID_BYTES_MAX)?;
    let owner = owner(&session, request.owner.as_ref())?;
    Ok((session, owner))
}

/// Session, speaker and listener of an Explain; `None` is all.
///
/// # Errors
/// As [`apply`].
pub fn explain(request: &pb::ExplainRequest) -> Result<(Name, Option<Name>, Option<Name>), Refusal> {
    let end = |given: &str| match given {
        "" => Ok(None),
        given => id("node", given, limits::NODE_ID_BYTES_MAX).map(Some),
    };
    let session = id("session", &request.session, limits::SESSION_ID_BYTES_MAX)?;
    Ok((session, end(&request.from)?, end(&request.to)?))
}

pub(super) fn unimplemented<T>(subject: String, what: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Unimplemented { subject, what })
}

pub(super) fn id(what: &'static str, given: &str, bytes_max: usize) -> Result<Name, Refusal> {
    if given.is_empty() || given.len() > bytes_max || given.chars().any(char::is_control) {
        return Err(Refusal::BadId {
            what,
            id: given.chars().take(64).collect(),
            bytes_max,
        });
    }
    Ok(given.into())
}

fn node_ids(what: &'static str, given: &[String]) -> Result<Vec<Name>, Refusal> {
    given
        .iter()
        .map(|given| id(what, given, limits::NODE_ID_BYTES_MAX))
        .collect()
}

fn owner(session: &Name, given: Option<&pb::Owner>) -> Result<Owner, Refusal> {
    let given = given.filter(|owner| !owner.controller.is_empty());
    let given = given.ok_or_else(|| Refusal::Missing {
        subject: format!("session:{session}"),
        field: "owner.controller",
    })?;
    let controller = id("controller", &given.controller, limits::SESSION_ID_BYTES_MAX)?;
    Ok(Owner {
        controller,
        epoch: given.epoch.max(1),
    })
}

fn options(session: &Name, given: &pb::SessionOptions) -> Result<OptionsPatch, Refusal> {
    let subject = || format!("session:{session}");
    if given.labels.len() > limits::LABELS_MAX {
        let (count, max) = (given.labels.len(), limits::LABELS_MAX);
        return Err(Refusal::TooMany {
            subject: subject(),
            what: "labels",
            count,
            max,
        });
    }
    let too_long = |text: &String| text.len() > limits::LABEL_BYTES_MAX;
    if let Some((key, _)) = given
        .labels
        .iter()
        .find(|(key, value)| too_long(key) || too_long(value))
    {
        let value = key.chars().take(64).collect();
        return Err(Refusal::OutOfRange {
            subject: subject(),
            field: "options.labels",
            value,
            range: "128 bytes at most",
        });
    }
    let given_ms = |ms: u32| (ms != 0).then_some(ms);
    Ok(OptionsPatch {
        media_timeout_ms: given_ms(given.media_timeout_ms),
        orphan_ms_max: given_ms(given.orphan_ms_max),
        relearn_after_ms: given_ms(given.relearn_after_ms),
        labels: given
            .labels
            .iter()
            .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
            .collect(),
    })
}

fn transport(given: &pb::Transport) -> Result<Arc<TransportSpec>, Refusal> {
    let id = id("transport", &given.id, limits::NODE_ID_BYTES_MAX)?;
    let subject = format!("transport:{id}");
    let kind = match &given.kind {
        Some(pb::transport::Kind::Udp(given)) => TransportKind::Udp(udp(&subject, given)?),
        Some(pb::transport::Kind::Link(given)) => TransportKind::Link(link(&subject, given)?),
        None => {
            return Err(Refusal::Missing {
                subject,
                field: "kind",
            });
        }
    };
    Ok(Arc::new(TransportSpec { id, kind }))
}

fn link(subject: &str, given: &pb::LinkTransport) -> Result<LinkSpec, Refusal> {
    let named = |field, what, given: &str, bytes_max| match given {
        "" => Err(Refusal::Missing {
            subject: subject.into(),
            field,
        }),
        given => id(what, given, bytes_max),
    };
    Ok(LinkSpec {
        peer_session: named(
            "link.peer_session",
            "session",
            &given.peer_session,
            limits::SESSION_ID_BYTES_MAX,
        )?,
        peer_transport: named(
            "link.peer_transport",
            "transport",
            &given.peer_transport,
            limits::NODE_ID_BYTES_MAX,
        )?,
    })
}

fn udp(subject: &str, udp: &pb::UdpTransport) -> Result<UdpSpec, Refusal> {
    let security = match &udp.security {
        Some(pb::udp_transport::Security::Sdes(given)) => Some(Security::Sdes(sdes(subject, given)?)),
        Some(pb::udp_transport::Security::Dtls(_)) => return unimplemented(subject.into(), "SRTP by DTLS"),
        None => None,
    };
    if udp.ice.is_some() {
        return unimplemented(subject.into(), "ICE");
    }
    let requested_port = match udp.requested_port {
        0 => None,
        port => Some(number(
            subject,
            "requested_port",
            port,
            1..=65_534,
            "an even port from 1 to 65534, or 0 for any",
        )?),
    };
    Ok(UdpSpec {
        interface: match udp.interface.as_str() {
            "" => "".into(),
            name => id("interface", name, limits::NODE_ID_BYTES_MAX)?,
        },
        family: match known(subject, "family", udp.family)? {
            pb::AddressFamily::Unspecified => None,
            pb::AddressFamily::Ipv4 => Some(Family::V4),
            pb::AddressFamily::Ipv6 => Some(Family::V6),
        },
        rtcp: match known(subject, "rtcp", udp.rtcp)? {
            pb::RtcpMode::Unspecified | pb::RtcpMode::Separate => RtcpMode::Separate,
            pb::RtcpMode::Mux => RtcpMode::Mux,
            pb::RtcpMode::Off => RtcpMode::Off,
        },
        requested_port,
        remote: udp
            .remote
            .as_ref()
            .map(|at| socket_address(subject, "remote", at))
            .transpose()?,
        remote_rtcp: udp
            .remote_rtcp
            .as_ref()
            .map(|at| socket_address(subject, "remote_rtcp", at))
            .transpose()?,
        source: match known(subject, "source", udp.source)? {
            pb::SourcePolicy::Unspecified | pb::SourcePolicy::Learn => SourcePolicy::Learn,
            pb::SourcePolicy::Signalled => SourcePolicy::Signalled,
            pb::SourcePolicy::Immediate => SourcePolicy::Immediate,
        },
        dscp: udp
            .dscp
            .map(|dscp| number(subject, "dscp", dscp, 0..=63, "0 to 63"))
            .transpose()?,
        security,
    })
}

fn sdes(subject: &str, given: &pb::SdesSecurity) -> Result<SdesSpec, Refusal> {
    let mut suites = Vec::new();
    for given in &given.suites {
        let suite = suite(subject, "sdes.suites", *given)?;
        if suites.contains(&suite) {
            return out_of_range(subject, "sdes.suites", suite.name(), "named once each");
        }
        suites.push(suite);
    }
    if suites.is_empty() {
        return Err(Refusal::Missing {
            subject: subject.into(),
            field: "sdes.suites",
        });
    }
    let remote = given
        .remote
        .as_ref()
        .map(|given| remote_key(subject, given))
        .transpose()?;
    if let Some(remote) = &remote
        && !suites.contains(&remote.key.suite())
    {
        let suite = remote.key.suite().name();
        return out_of_range(subject, "sdes.remote.suite", suite, "one of sdes.suites");
    }
    Ok(SdesSpec {
        suites: suites.into(),
        remote,
        key_generation: given.key_generation,
        send_generation: given.send_generation.unwrap_or(given.key_generation),
    })
}

fn remote_key(subject: &str, given: &pb::SdesKey) -> Result<RemoteKey, Refusal> {
    let suite = suite(subject, "sdes.remote.suite", given.suite)?;
    // What is wrong with a key is told by its length alone.
    let key = MasterKey::new(suite, &given.key_salt).or_else(|_| {
        let range = match suite.key_salt_bytes() {
            28 => "28 for AEAD_AES_128_GCM",
            30 => "30 for AES_CM_128",
            44 => "44 for AEAD_AES_256_GCM",
            _ => "46 for AES_256_CM",
        };
        let bytes = given.key_salt.len();
        out_of_range(subject, "length of sdes.remote.key_salt in bytes", bytes, range)
    })?;
    let tags = 1..=999_999_999;
    let tag = number(subject, "sdes.remote.tag", given.tag, tags, "1 to 999999999")?;
    Ok(RemoteKey { key, tag })
}

fn suite(subject: &str, field: &'static str, given: i32) -> Result<Suite, Refusal> {
    match known(subject, field, given)? {
        pb::SrtpSuite::Unspecified => out_of_range(subject, field, "unset", "a suite"),
        pb::SrtpSuite::AesCm128HmacSha180 => Ok(Suite::AesCm128HmacSha1_80),
        pb::SrtpSuite::AesCm128HmacSha132 => Ok(Suite::AesCm128HmacSha1_32),
        pb::SrtpSuite::Aes256CmHmacSha180 => Ok(Suite::Aes256CmHmacSha1_80),
        pb::SrtpSuite::AeadAes128Gcm => Ok(Suite::AeadAes128Gcm),
        pb::SrtpSuite::AeadAes256Gcm => Ok(Suite::AeadAes256Gcm),
    }
}

fn socket_address(subject: &str, field: &'static str, given: &pb::Address) -> Result<SocketAddr, Refusal> {
    let bad = || Refusal::BadAddress {
        subject: subject.into(),
        field,
        value: format!("{}:{}", given.ip.chars().take(64).collect::<String>(), given.port),
    };
    let ip = given.ip.parse().map_err(|_| bad())?;
    let port = u16::try_from(given.port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(bad)?;
    let at = SocketAddr::new(ip, port);
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(bad());
    }
    Ok(at)
}

fn node(given: &pb::Node) -> Result<Arc<NodeSpec>, Refusal> {
    let id = id("node", &given.id, limits::NODE_ID_BYTES_MAX)?;
    let subject = format!("node:{id}");
    let kind = match &given.kind {
        Some(pb::node::Kind::Endpoint(given)) => NodeKind::Endpoint(endpoint(&subject, given)?),
        Some(pb::node::Kind::Room(given)) => NodeKind::Room(room(&subject, given)?),
        Some(pb::node::Kind::Player(given)) => NodeKind::Player(audio::player(&id, &subject, given)?),
        Some(pb::node::Kind::Recorder(given)) => NodeKind::Recorder(recording::recorder(&subject, given)?),
        Some(pb::node::Kind::Tap(given)) => NodeKind::Tap(tap(&subject, given)?),
        None => {
            return Err(Refusal::Missing {
                subject,
                field: "kind",
            });
        }
    };
    Ok(Arc::new(NodeSpec { id, kind }))
}

fn room(subject: &str, given: &pb::Room) -> Result<RoomSpec, Refusal> {
    let sample_rate_hz = match given.sample_rate_hz {
        0 => 16_000,
        hz @ (8_000 | 16_000 | 48_000) => hz,
        other => return out_of_range(subject, "sample_rate_hz", other, "8000, 16000 or 48000"),
    };
    Ok(RoomSpec {
        sample_rate_hz,
        top_talkers: match given.top_talkers {
            0 => None,
            top => Some(number(
                subject,
                "top_talkers",
                top,
                1..=limits::TOP_TALKERS_MAX,
                "1 to 64, or 0 for all",
            )?),
        },
        talk_events: given.talk_events,
    })
}

fn tap(subject: &str, given: &pb::Tap) -> Result<TapSpec, Refusal> {
    match given.sample_rate_hz {
        0 => Ok(TapSpec {
            sample_rate_hz: 16_000,
        }),
        sample_rate_hz @ (8_000 | 16_000 | 24_000 | 48_000) => Ok(TapSpec { sample_rate_hz }),
        other => out_of_range(subject, "sample_rate_hz", other, "8000, 16000, 24000 or 48000"),
    }
}

fn endpoint(subject: &str, given: &pb::Endpoint) -> Result<EndpointSpec, Refusal> {
    let receive = formats(subject, "formats", &given.formats)?;
    if receive.is_empty() {
        return Err(Refusal::Missing {
            subject: subject.into(),
            field: "formats",
        });
    }
    let send = match formats(subject, "send_formats", &given.send_formats)? {
        none if none.is_empty() => receive.clone(),
        some => some,
    };
    Ok(EndpointSpec {
        transport: id("transport", &given.transport, limits::NODE_ID_BYTES_MAX)?,
        receive,
        send,
        ptime_ms: match given.ptime_ms {
            0 => 20,
            ms => number(subject, "ptime_ms", ms, 10..=60, "10 to 60")?,
        },
        direction: match known(subject, "direction", given.direction)? {
            pb::Direction::Unspecified | pb::Direction::Sendrecv => Direction::SendRecv,
            pb::Direction::Sendonly => Direction::SendOnly,
            pb::Direction::Recvonly => Direction::RecvOnly,
            pb::Direction::Inactive => Direction::Inactive,
        },
        ssrc: (given.ssrc != 0).then_some(Ssrc(given.ssrc)),
        cname: match given.cname.as_str() {
            "" => None,
            cname => Some(id("cname", cname, limits::SESSION_ID_BYTES_MAX)?),
        },
        jitter_ms_max: match given.jitter_ms_max {
            0 => 120,
            ms => number(subject, "jitter_ms_max", ms, 20..=500, "20 to 500")?,
        },
        detect_talk: given.detect_talk,
        inband_digits: match known(subject, "inband_digits", given.inband_digits)? {
            pb::InbandDigits::Unspecified | pb::InbandDigits::Auto => InbandDigits::Auto,
            pb::InbandDigits::On => InbandDigits::On,
            pb::InbandDigits::Off => InbandDigits::Off,
        },
        polish: polish(subject, given)?,
        suppress_silence: given.suppress_silence,
    })
}

fn polish(subject: &str, given: &pb::Endpoint) -> Result<PolishSpec, Refusal> {
    let gain = |given: &pb::GainControl| {
        let within = |field, value: Option<f64>, usual: f64, range: std::ops::RangeInclusive<f64>, text| {
            let value = value.unwrap_or(usual);
            match range.contains(&value) {
                true => Ok(value as f32),
                false => out_of_range(subject, field, value, text),
            }
        };
        Ok(GainSettings {
            target_dbov: within(
                "gain_control.target_dbov",
                given.target_dbov,
                -20.0,
                -40.0..=-10.0,
                "-40 to -10",
            )?,
            gain_db_max: within(
                "gain_control.gain_db_max",
                given.gain_db_max,
                20.0,
                0.0..=30.0,
                "0 to 30",
            )?,
        })
    };
    Ok(PolishSpec {
        suppress_noise: given.suppress_noise,
        gain: given.gain_control.as_ref().map(gain).transpose()?,
    })
}

fn formats(
    subject: &str,
    field: &'static str,
    given: &[pb::PayloadFormat],
) -> Result<Arc<[PayloadFormat]>, Refusal> {
    if given.len() > limits::FORMATS_MAX {
        let (count, max) = (given.len(), limits::FORMATS_MAX);
        return Err(Refusal::TooMany {
            subject: subject.into(),
            what: field,
            count,
            max,
        });
    }
    given.iter().map(|given| format(subject, given)).collect()
}

fn format(subject: &str, given: &pb::PayloadFormat) -> Result<PayloadFormat, Refusal> {
    let codec = match known(subject, "codec", given.codec)? {
        pb::Codec::Unspecified => {
            return Err(Refusal::Missing {
                subject: subject.into(),
                field: "formats.codec",
            });
        }
        pb::Codec::Pcmu => Codec::Pcmu,
        pb::Codec::Pcma => Codec::Pcma,
        pb::Codec::G722 => Codec::G722,
        pb::Codec::Opus => Codec::Opus,
        pb::Codec::L16 => Codec::L16,
        pb::Codec::TelephoneEvent => Codec::TelephoneEvent,
        pb::Codec::ComfortNoise => Codec::ComfortNoise,
        pb::Codec::Opaque => Codec::Opaque,
    };
    let hz = match (given.clock_rate_hz, codec) {
        (0, Codec::Opus) => 48_000,
        (0, _) => 8_000,
        (hz, _) => number(subject, "clock_rate_hz", hz, 1_000..=192_000, "1000 to 192000")?,
    };
    let fixed = match codec {
        Codec::Opus => Some(48_000),
        Codec::Pcmu | Codec::Pcma | Codec::G722 => Some(8_000),
        Codec::L16 | Codec::TelephoneEvent | Codec::ComfortNoise | Codec::Opaque => None,
    };
    if fixed.is_some_and(|fixed| fixed != hz) {
        return out_of_range(
            subject,
            "clock_rate_hz",
            hz,
            "the codec's own RTP clock (RFC 3551, RFC 7587)",
        );
    }
    if given.fmtp.len() > limits::FMTP_BYTES_MAX {
        return out_of_range(subject, "fmtp", given.fmtp.len(), "512 bytes at most");
    }
    let payload_type = u8::try_from(given.payload_type).ok().and_then(PayloadType::new);
    // RFC 5761 §4: payload types 64-95 look like RTCP on a muxed port.
    let payload_type = payload_type.filter(|pt| !(64..=95).contains(&pt.value()));
    let Some(payload_type) = payload_type else {
        return out_of_range(
            subject,
            "payload_type",
            given.payload_type,
            "0 to 127 without 64 to 95",
        );
    };
    Ok(PayloadFormat {
        payload_type,
        codec,
        clock: ClockRate::new(hz).expect("at least 1000, checked above"),
        channels: match (given.channels, codec) {
            (0, Codec::Opus) => 2,
            (0, _) => 1,
            (channels, _) => number(subject, "channels", channels, 1..=8, "1 to 8")?,
        },
        fmtp: given.fmtp.as_str().into(),
    })
}

fn edge(given: &pb::Edge) -> Result<EdgeSpec, Refusal> {
    let (from, to) = (edge_end(&given.from)?, edge_end(&given.to)?);
    let subject = format!("edge:{from}>{to}");
    if !given.gain_db.is_finite() || !(-60.0..=20.0).contains(&given.gain_db) {
        return out_of_range(&subject, "gain_db", given.gain_db, "-60 to 20");
    }
    let digits = match known(&subject, "dtmf", given.dtmf)? {
        pb::DtmfPolicy::Unspecified | pb::DtmfPolicy::Pass => DigitPolicy::Pass,
        pb::DtmfPolicy::Block => DigitPolicy::Block,
        pb::DtmfPolicy::Convert => DigitPolicy::Convert,
        pb::DtmfPolicy::Clamp => DigitPolicy::Clamp,
    };
    Ok(EdgeSpec {
        from,
        to,
        gain_db: given.gain_db,
        muted: given.muted,
        digits,
        right: number::<u8>(&subject, "channel", given.channel, 0..=1, "0 (left) or 1 (right)")? == 1,
    })
}

fn edge_key(given: &pb::EdgeKey) -> Result<(Name, Name), Refusal> {
    Ok((edge_end(&given.from)?, edge_end(&given.to)?))
}

fn edge_end(given: &str) -> Result<Name, Refusal> {
    id("node", given, limits::NODE_ID_BYTES_MAX)
}

fn send_digits(subject: &str, given: &pb::SendDigits) -> Result<Box<[SendDigit]>, Refusal> {
    if given.digits.is_empty() {
        return Err(Refusal::Missing {
            subject: subject.into(),
            field: "send_digits.digits",
        });
    }
    if given.digits.chars().count() > limits::SEND_DIGITS_MAX {
        let (count, max) = (given.digits.chars().count(), limits::SEND_DIGITS_MAX);
        return Err(Refusal::TooMany {
            subject: subject.into(),
            what: "digits",
            count,
            max,
        });
    }
    let ms = |field, given, default| match given {
        0 => Ok(default),
        ms => number(subject, field, ms, 40..=10_000, "40 to 10000"),
    };
    let duration_ms = ms("send_digits.duration_ms", given.duration_ms, 100)?;
    let gap_ms = ms("send_digits.gap_ms", given.gap_ms, 60)?;
    let volume = number(
        subject,
        "send_digits.volume",
        given.volume.unwrap_or(10),
        0..=63,
        "0 to 63",
    )?;
    let digit = |digit: char| {
        if digit == ',' {
            return Ok(SendDigit {
                event: None,
                duration_ms: PAUSE_MS,
                gap_ms: 0,
                volume: 0,
            });
        }
        let event = event_number(digit);
        let Some(event) = event else {
            return out_of_range(
                subject,
                "send_digits.digits",
                digit,
                "0-9 * # A-D and , for a pause",
            );
        };
        Ok(SendDigit {
            event: Some(event),
            duration_ms,
            gap_ms,
            volume,
        })
    };
    given.digits.chars().map(digit).collect()
}

fn collect(subject: &str, given: &pb::CollectDigits) -> Result<CollectWish, Refusal> {
    let max = match given.digits_max {
        0 => CollectedDigits::MAX as u32,
        max => max,
    };
    if max as usize > CollectedDigits::MAX {
        return out_of_range(subject, "collect_digits.digits_max", max, "0 to 64; 0 is 64");
    }
    if given.digits_min > max {
        let allowed = "at most digits_max";
        return out_of_range(subject, "collect_digits.digits_min", given.digits_min, allowed);
    }
    let mut terminators = 0;
    for digit in given.terminators.chars() {
        let Some(event) = event_number(digit) else {
            let allowed = "digits of 0-9 * # A-D";
            return out_of_range(subject, "collect_digits.terminators", digit, allowed);
        };
        terminators |= 1 << event;
    }
    Ok(CollectWish {
        digits_min: given.digits_min as u8,
        digits_max: max as u8,
        terminators,
        first_digit_ms: given.first_digit_timeout_ms,
        inter_digit_ms: given.inter_digit_timeout_ms,
    })
}

/// Length of "," between digits.
const PAUSE_MS: u16 = 500;

/// RFC 4733 §3.2.
fn event_number(digit: char) -> Option<u8> {
    match digit {
        '0'..='9' => Some(digit as u8 - b'0'),
        '*' => Some(10),
        '#' => Some(11),
        'A'..='D' => Some(digit as u8 - b'A' + 12),
        'a'..='d' => Some(digit as u8 - b'a' + 12),
        _ => None,
    }
}

/// A number of the contract in its range, as the narrower type it is kept in.
fn number<T: TryFrom<u32>>(
    subject: &str,
    field: &'static str,
    value: u32,
    allowed: std::ops::RangeInclusive<u32>,
    range: &'static str,
) -> Result<T, Refusal> {
    let fits = allowed
        .contains(&value)
        .then(|| T::try_from(value).ok())
        .flatten();
    fits.map_or_else(|| out_of_range(subject, field, value, range), Ok)
}

pub(super) fn out_of_range<T>(
    subject: &str,
    field: &'static str,
    value: impl ToString,
    range: &'static str,
) -> Result<T, Refusal> {
    Err(Refusal::OutOfRange {
        subject: subject.into(),
        field,
        value: value.to_string(),
        range,
    })
}

/// An enum value of the contract that this version knows.
pub(super) fn known<T: TryFrom<i32>>(subject: &str, field: &'static str, value: i32) -> Result<T, Refusal> {
    T::try_from(value)
        .or_else(|_| out_of_range(subject, field, value, "a value of this version of the contract"))
}
