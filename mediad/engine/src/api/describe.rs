//! Replies: the engine's own types in the contract's words.

use std::time::SystemTime;

use proto::mediad::v1 as pb;

use super::{address, audio, recording, unix_us};
use crate::{
    command::{
        CollectEnd, CollectedDigits, DigitSource, DropReason, EndpointReport, EventKind, PlanKind,
        PlanReport, PlayEnd, SessionReport, SourceState, StreamReport, TransportReport,
    },
    explain::{Code, Finding, Severity},
    host::{
        Applied, ControllerState, Described, EndReason, Event, Happening, HostStatus, InterfaceState,
        LocalAddress, LocalKey, Summary, TapReport, WorkerState,
    },
    spec::{
        Codec, DigitPolicy, Direction, EdgeSpec, EndpointSpec, Family, InbandDigits, Name, NodeKind,
        NodeSpec, PayloadFormat, RemoteKey, RtcpMode, Security, SessionOptions, SourcePolicy, Suite,
        TransportKind, TransportSpec, UdpSpec,
    },
    tap::TapFigures,
};

/// The reply to an Apply.
pub fn applied(boot_id: &str, applied: &Applied) -> pb::ApplyReply {
    pb::ApplyReply {
        boot_id: boot_id.into(),
        revision: applied.revision,
        transports: applied
            .locals
            .iter()
            .map(|local| pb::TransportState {
                local_sdes: local_keys(applied, &local.transport),
                ..transport_state(local)
            })
            .collect(),
        endpoints: applied
            .streams
            .iter()
            .map(|stream| pb::EndpointState {
                id: stream.node.to_string(),
                ssrc: stream.ssrc.0,
                cname: stream.cname.to_string(),
            })
            .collect(),
    }
}

/// The one place where local keys leave the host.
fn local_keys(applied: &Applied, transport: &Name) -> Vec<pb::SdesKey> {
    let told = |local: &LocalKey| pb::SdesKey {
        suite: suite(local.key.suite()).into(),
        key_salt: local.key.key_salt().to_vec(),
        tag: local.tag,
    };
    let of_it = applied.keys.iter().find(|(id, _)| id == transport);
    of_it.map_or_else(Vec::new, |(_, keys)| keys.iter().map(told).collect())
}

/// Where a transport is reached.
pub fn transport_state(local: &LocalAddress) -> pb::TransportState {
    pb::TransportState {
        id: local.transport.to_string(),
        local: Some(address(local.rtp)),
        local_rtcp: local.rtcp.map(address),
        ..pb::TransportState::default()
    }
}

/// A line in a list of sessions.
pub fn summary(summary: &Summary) -> pb::SessionSummary {
    pb::SessionSummary {
        session: summary.name.to_string(),
        owner: Some(pb::Owner {
            controller: summary.owner.controller.to_string(),
            epoch: summary.owner.epoch,
        }),
        revision: summary.revision,
        created_unix_us: unix_us(summary.created),
        worker: summary.worker as u32,
        endpoints: summary.endpoints as u32,
        edges: summary.edges as u32,
        labels: summary
            .labels
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
        orphaned: summary.orphaned,
    }
}

/// Everything known of a session, without keys.
pub fn description(described: &Described) -> pb::SessionDescription {
    let Described { spec, report, .. } = described;
    pb::SessionDescription {
        summary: Some(summary(&described.summary)),
        transports: spec.transports.iter().map(|t| transport(t)).collect(),
        nodes: spec.nodes.iter().map(|n| node(n)).collect(),
        edges: spec.edges.iter().map(edge).collect(),
        local: described.locals.iter().map(transport_state).collect(),
        transport_stats: report.transports.iter().map(transport_stats).collect(),
        endpoint_stats: report.endpoints.iter().map(endpoint_stats).collect(),
        plans: report.plans.iter().map(plan).collect(),
        taps: described.taps.iter().map(tap_stats).collect(),
        options: Some(options(&spec.options, &described.summary)),
    }
}

/// The last statistics of a session that is gone.
pub fn ended(report: &SessionReport) -> pb::DeleteReply {
    pb::DeleteReply {
        endpoints: report.endpoints.iter().map(endpoint_stats).collect(),
    }
}

/// A numbered event.
pub fn event(event: &Event) -> pb::Event {
    pb::Event {
        sequence: event.sequence,
        time_unix_us: unix_us(event.at),
        session: event.session.to_string(),
        node: event.subject.as_ref().map(|s| s.to_string()).unwrap_or_default(),
        kind: event_kind(&event.kind),
    }
}

/// Why somebody hears nothing.
pub fn findings(findings: &[Finding]) -> pb::ExplainReply {
    let finding = |finding: &Finding| pb::Finding {
        severity: severity(finding.severity).into(),
        code: finding_code(finding.code).into(),
        subject: finding.subject.clone(),
        text: finding.text.clone(),
        since_unix_us: finding.since.map_or(0, unix_us),
    };
    pb::ExplainReply {
        findings: findings.iter().map(finding).collect(),
    }
}

/// The host's part of a status; workers' figures, load, version and backend are the daemon's to fill in.
pub fn status(boot_id: &str, status: &HostStatus) -> pb::StatusReply {
    let state = if status.draining {
        pb::HostState::Draining
    } else {
        pb::HostState::Serving
    };
    pb::StatusReply {
        boot_id: boot_id.into(),
        started_unix_us: unix_us(status.started),
        state: state.into(),
        sessions: status.sessions as u32,
        sessions_max: status.sessions_max as u32,
        endpoints: status.endpoints as u32,
        workers: status.workers.iter().enumerate().map(worker_status).collect(),
        interfaces: status.interfaces.iter().map(interface_status).collect(),
        controllers: status.controllers.iter().map(controller_status).collect(),
        event_next: status.event_next,
        event_oldest: status.event_oldest,
        ..pb::StatusReply::default()
    }
}

fn worker_status((worker, state): (usize, &WorkerState)) -> pb::WorkerStatus {
    pb::WorkerStatus {
        worker: worker as u32,
        sessions: state.sessions as u32,
        endpoints: state.endpoints as u32,
        opus_complexity: state.opus_complexity.into(),
        busy_max: state.busy_max.into(),
        late: state.late.into(),
        ..pb::WorkerStatus::default()
    }
}

fn interface_status(state: &InterfaceState) -> pb::InterfaceStatus {
    pb::InterfaceStatus {
        name: state.name.to_string(),
        addresses: state.addresses.iter().map(ToString::to_string).collect(),
        advertised: state.advertised.iter().map(ToString::to_string).collect(),
        port_min: state.port_min.into(),
        port_max: state.port_max.into(),
        ports_used: state.used as u32,
        ports_quarantined: (state.quarantined + state.foreign) as u32,
        ports_free: state.free as u32,
    }
}

fn controller_status(state: &ControllerState) -> pb::ControllerStatus {
    pb::ControllerStatus {
        controller: state.controller.to_string(),
        sessions: state.sessions as u32,
        lease_left_ms: state.left.as_millis() as u64,
        connected: state.connected,
    }
}

fn transport(spec: &TransportSpec) -> pb::Transport {
    let kind = match &spec.kind {
        TransportKind::Udp(spec) => pb::transport::Kind::Udp(udp(spec)),
        TransportKind::Link(spec) => pb::transport::Kind::Link(pb::LinkTransport {
            peer_session: spec.peer_session.to_string(),
            peer_transport: spec.peer_transport.to_string(),
        }),
    };
    pb::Transport {
        id: spec.id.to_string(),
        kind: Some(kind),
    }
}

fn udp(spec: &UdpSpec) -> pb::UdpTransport {
    let family = match spec.family {
        None => pb::AddressFamily::Unspecified,
        Some(Family::V4) => pb::AddressFamily::Ipv4,
        Some(Family::V6) => pb::AddressFamily::Ipv6,
    };
    let rtcp = match spec.rtcp {
        RtcpMode::Separate => pb::RtcpMode::Separate,
        RtcpMode::Mux => pb::RtcpMode::Mux,
        RtcpMode::Off => pb::RtcpMode::Off,
    };
    let source = match spec.source {
        SourcePolicy::Learn => pb::SourcePolicy::Learn,
        SourcePolicy::Signalled => pb::SourcePolicy::Signalled,
        SourcePolicy::Immediate => pb::SourcePolicy::Immediate,
    };
    pb::UdpTransport {
        interface: spec.interface.to_string(),
        family: family.into(),
        rtcp: rtcp.into(),
        requested_port: spec.requested_port.unwrap_or(0).into(),
        remote: spec.remote.map(address),
        remote_rtcp: spec.remote_rtcp.map(address),
        source: source.into(),
        dscp: spec.dscp.map(u32::from),
        security: spec.security.as_ref().map(security),
        ice: None,
    }
}

/// What is asked for, without the peer's key.
fn security(security: &Security) -> pb::udp_transport::Security {
    let Security::Sdes(sdes) = security;
    let remote = |remote: &RemoteKey| pb::SdesKey {
        suite: suite(remote.key.suite()).into(),
        key_salt: Vec::new(),
        tag: remote.tag,
    };
    pb::udp_transport::Security::Sdes(pb::SdesSecurity {
        suites: sdes.suites.iter().map(|s| suite(*s).into()).collect(),
        remote: sdes.remote.as_ref().map(remote),
        key_generation: sdes.key_generation,
        send_generation: (sdes.send_generation != sdes.key_generation).then_some(sdes.send_generation),
    })
}

fn suite(suite: Suite) -> pb::SrtpSuite {
    match suite {
        Suite::AesCm128HmacSha1_80 => pb::SrtpSuite::AesCm128HmacSha180,
        Suite::AesCm128HmacSha1_32 => pb::SrtpSuite::AesCm128HmacSha132,
        Suite::Aes256CmHmacSha1_80 => pb::SrtpSuite::Aes256CmHmacSha180,
        Suite::AeadAes128Gcm => pb::SrtpSuite::AeadAes128Gcm,
        Suite::AeadAes256Gcm => pb::SrtpSuite::AeadAes256Gcm,
    }
}

fn node(spec: &NodeSpec) -> pb::Node {
    let kind = match &spec.kind {
        NodeKind::Endpoint(spec) => pb::node::Kind::Endpoint(endpoint(spec)),
        NodeKind::Room(spec) => pb::node::Kind::Room(pb::Room {
            sample_rate_hz: spec.sample_rate_hz,
            top_talkers: spec.top_talkers.map_or(0, u32::from),
            talk_events: spec.talk_events,
        }),
        NodeKind::Player(spec) => pb::node::Kind::Player(audio::described(spec)),
        NodeKind::Tap(spec) => pb::node::Kind::Tap(pb::Tap {
            sample_rate_hz: spec.sample_rate_hz,
        }),
        NodeKind::Recorder(spec) => pb::node::Kind::Recorder(recording::described(spec)),
    };
    pb::Node {
        id: spec.id.to_string(),
        kind: Some(kind),
    }
}

fn endpoint(spec: &EndpointSpec) -> pb::Endpoint {
    let direction = match spec.direction {
        Direction::SendRecv => pb::Direction::Sendrecv,
        Direction::SendOnly => pb::Direction::Sendonly,
        Direction::RecvOnly => pb::Direction::Recvonly,
        Direction::Inactive => pb::Direction::Inactive,
    };
    pb::Endpoint {
        transport: spec.transport.to_string(),
        formats: spec.receive.iter().map(format).collect(),
        send_formats: spec.send.iter().map(format).collect(),
        ptime_ms: spec.ptime_ms.into(),
        direction: direction.into(),
        ssrc: spec.ssrc.map_or(0, |ssrc| ssrc.0),
        cname: spec.cname.as_ref().map(|c| c.to_string()).unwrap_or_default(),
        jitter_ms_max: spec.jitter_ms_max.into(),
        detect_talk: spec.detect_talk,
        inband_digits: match spec.inband_digits {
            InbandDigits::Auto => pb::InbandDigits::Auto,
            InbandDigits::On => pb::InbandDigits::On,
            InbandDigits::Off => pb::InbandDigits::Off,
        }
        .into(),
        suppress_noise: spec.polish.suppress_noise,
        suppress_silence: spec.suppress_silence,
        gain_control: spec.polish.gain.map(|gain| pb::GainControl {
            target_dbov: Some(gain.target_dbov.into()),
            gain_db_max: Some(gain.gain_db_max.into()),
        }),
    }
}

fn format(format: &PayloadFormat) -> pb::PayloadFormat {
    pb::PayloadFormat {
        payload_type: format.payload_type.value().into(),
        codec: codec(Some(format.codec)).into(),
        clock_rate_hz: format.clock.hz(),
        channels: format.channels.into(),
        fmtp: format.fmtp.to_string(),
    }
}

fn codec(codec: Option<Codec>) -> pb::Codec {
    match codec {
        None => pb::Codec::Unspecified,
        Some(Codec::Pcmu) => pb::Codec::Pcmu,
        Some(Codec::Pcma) => pb::Codec::Pcma,
        Some(Codec::G722) => pb::Codec::G722,
        Some(Codec::Opus) => pb::Codec::Opus,
        Some(Codec::L16) => pb::Codec::L16,
        Some(Codec::TelephoneEvent) => pb::Codec::TelephoneEvent,
        Some(Codec::ComfortNoise) => pb::Codec::ComfortNoise,
        Some(Codec::Opaque) => pb::Codec::Opaque,
    }
}

fn edge(spec: &EdgeSpec) -> pb::Edge {
    let dtmf = match spec.digits {
        DigitPolicy::Pass => pb::DtmfPolicy::Pass,
        DigitPolicy::Convert => pb::DtmfPolicy::Convert,
        DigitPolicy::Block => pb::DtmfPolicy::Block,
        DigitPolicy::Clamp => pb::DtmfPolicy::Clamp,
    };
    pb::Edge {
        from: spec.from.to_string(),
        to: spec.to.to_string(),
        gain_db: spec.gain_db,
        muted: spec.muted,
        dtmf: dtmf.into(),
        channel: spec.right.into(),
    }
}

fn options(options: &SessionOptions, summary: &Summary) -> pb::SessionOptions {
    let ms = |duration: std::time::Duration| duration.as_millis().try_into().unwrap_or(u32::MAX);
    pb::SessionOptions {
        media_timeout_ms: ms(options.media_timeout),
        orphan_ms_max: ms(options.orphan_max),
        relearn_after_ms: ms(options.relearn_after),
        labels: summary
            .labels
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
    }
}

fn transport_stats(report: &TransportReport) -> pb::TransportStats {
    let source = match report.source {
        SourceState::Signalled => pb::SourceState::Signalled,
        SourceState::Probation => pb::SourceState::Probation,
        SourceState::Locked => pb::SourceState::Locked,
    };
    let drops = DropReason::ALL
        .iter()
        .zip(report.drops)
        .filter(|(_, packets)| *packets > 0);
    pb::TransportStats {
        transport: report.transport.to_string(),
        remote: report.remote.map(address),
        remote_rtcp: report.remote_rtcp.map(address),
        source: source.into(),
        learned_unix_us: time(report.learned_at),
        relearned_count: report.relearned,
        rx_packets: report.rx_packets,
        rx_bytes: report.rx_bytes,
        tx_packets: report.tx_packets,
        tx_bytes: report.tx_bytes,
        drops: drops
            .map(|(why, packets)| pb::DropCount {
                reason: drop_reason(*why).into(),
                packets,
            })
            .collect(),
        refused: report.refused.map(address),
        linked: report.linked,
    }
}

fn tap_stats(report: &TapReport) -> pb::TapStats {
    let TapFigures {
        attached,
        heard,
        lost,
        played,
        waiting,
    } = report.figures;
    pb::TapStats {
        node: report.node.to_string(),
        attached,
        heard_samples: heard,
        lost_samples: lost,
        played_samples: played,
        waiting_ms: (waiting * 1_000 / u64::from(report.sample_rate_hz)) as u32,
    }
}

fn drop_reason(reason: DropReason) -> pb::DropReason {
    match reason {
        DropReason::Malformed => pb::DropReason::Malformed,
        DropReason::WrongSource => pb::DropReason::WrongSource,
        DropReason::PayloadType => pb::DropReason::PayloadType,
        DropReason::Direction => pb::DropReason::Direction,
        DropReason::Replay => pb::DropReason::Replay,
        DropReason::Authentication => pb::DropReason::Authentication,
        DropReason::Stale => pb::DropReason::Stale,
        DropReason::EgressFull => pb::DropReason::EgressFull,
        DropReason::NoEndpoint => pb::DropReason::NoEndpoint,
        DropReason::Probation => pb::DropReason::Probation,
        DropReason::UnexpectedProtocol => pb::DropReason::UnexpectedProtocol,
    }
}

fn endpoint_stats(report: &EndpointReport) -> pb::EndpointStats {
    pb::EndpointStats {
        node: report.node.to_string(),
        ingress: Some(stream_stats(&report.ingress)),
        egress: Some(stream_stats(&report.egress)),
        round_trip_ms: report.round_trip_ms.unwrap_or(0.0).into(),
        mos_ingress: report.quality.ingress.unwrap_or(0.0),
        mos_egress: report.quality.egress.unwrap_or(0.0),
        mos_ingress_mean: report.quality.ingress_mean.unwrap_or(0.0),
        mos_ingress_min: report.quality.ingress_min.unwrap_or(0.0),
        digits_count: report.digits,
        first_rx_unix_us: time(report.first_rx),
        last_rx_unix_us: time(report.last_rx),
        level_dbov: report.level_dbov.map(f64::from),
        talking: report.talking,
    }
}

fn stream_stats(report: &StreamReport) -> pb::StreamStats {
    pb::StreamStats {
        ssrc: report.ssrc.map_or(0, |ssrc| ssrc.0),
        payload_type: report.payload_type.map_or(0, |pt| pt.value().into()),
        codec: codec(report.codec).into(),
        packets: report.packets,
        bytes: report.bytes,
        lost: report.lost,
        duplicates: report.duplicates,
        reordered: report.reordered,
        jitter_ms: report.jitter_ms.into(),
        jitter_ms_max: report.jitter_ms_max.into(),
        ssrc_changes: report.ssrc_changes,
    }
}

fn time(at: Option<SystemTime>) -> u64 {
    at.map_or(0, unix_us)
}

fn plan(report: &PlanReport) -> pb::PlanDescription {
    let kind = match report.kind {
        PlanKind::Silent => pb::PlanKind::Silent,
        PlanKind::Relay => pb::PlanKind::Relay,
        PlanKind::Rewrite => pb::PlanKind::Rewrite,
        PlanKind::Transcode => pb::PlanKind::Transcode,
        PlanKind::Mix => pb::PlanKind::Mix,
    };
    pb::PlanDescription {
        node: report.node.to_string(),
        kind: kind.into(),
        sources: report.sources.iter().map(ToString::to_string).collect(),
    }
}

fn event_kind(kind: &Happening) -> Option<pb::event::Kind> {
    use pb::event::Kind;
    Some(match kind {
        Happening::Engine(kind) => return engine_event_kind(kind),
        Happening::SessionEnded(reason) => {
            let reason = match reason {
                EndReason::Deleted | EndReason::Removed => pb::SessionEndReason::Deleted,
                EndReason::Orphaned => pb::SessionEndReason::Orphaned,
                EndReason::OrphanCap => pb::SessionEndReason::OrphanCap,
            };
            Kind::SessionEnded(pb::SessionEnded {
                reason: reason.into(),
            })
        }
        Happening::RecordingFinalised(outcome) => Kind::RecordingFinalised(recording::finalised(outcome)),
        Happening::OwnerChanged { controller, epoch } => Kind::OwnerChanged(pb::OwnerChanged {
            controller: controller.to_string(),
            epoch: *epoch,
        }),
    })
}

fn engine_event_kind(kind: &EventKind) -> Option<pb::event::Kind> {
    use pb::event::Kind;
    Some(match kind {
        EventKind::DigitStarted { event, source } => Kind::DigitStarted(pb::DigitStarted {
            digit: digit(*event),
            source: digit_source(*source).into(),
        }),
        EventKind::DigitEnded {
            event,
            source,
            duration_ms,
            inferred,
            // For those that it is passed on to.
            volume: _,
        } => Kind::DigitEnded(pb::DigitEnded {
            digit: digit(*event),
            duration_ms: *duration_ms,
            source: digit_source(*source).into(),
            inferred: *inferred,
        }),
        EventKind::MediaStarted {
            ssrc,
            payload_type,
            codec: heard,
            from,
            resumed,
        } => Kind::MediaStarted(pb::MediaStarted {
            ssrc: ssrc.0,
            payload_type: payload_type.value().into(),
            codec: codec(Some(*heard)).into(),
            from: Some(address(*from)),
            resumed: *resumed,
        }),
        EventKind::MediaTimeout {
            silent_ms,
            never_started,
        } => Kind::MediaTimeout(pb::MediaTimeout {
            silent_ms: *silent_ms,
            never_started: *never_started,
        }),
        EventKind::SourceLearned {
            address: learned,
            previous,
            rtcp,
        } => Kind::SourceLearned(pb::SourceLearned {
            address: Some(address(*learned)),
            previous: previous.map(address),
            rtcp: *rtcp,
        }),
        EventKind::PeerBye { reason } => Kind::PeerBye(pb::PeerBye {
            reason: reason.to_string(),
        }),
        EventKind::QualityChanged { mos, previous } => Kind::QualityChanged(pb::QualityChanged {
            mos: f64::from(*mos) / 100.0,
            previous_mos: f64::from(*previous) / 100.0,
        }),
        EventKind::DigitsCollected { request, digits, end } => collected(request, digits, *end),
        EventKind::PlayFinished(end) => played(*end),
        EventKind::TalkStarted => Kind::TalkStarted(pb::TalkStarted {}),
        EventKind::TalkStopped { duration_ms } => Kind::TalkStopped(pb::TalkStopped {
            duration_ms: *duration_ms,
        }),
        // Between engine and host only.
        EventKind::EndpointRemoved(report) => Kind::EndpointRemoved(pb::EndpointRemoved {
            stats: Some(endpoint_stats(report)),
        }),
        EventKind::Silent => return None,
    })
}

fn collected(request: &str, digits: &CollectedDigits, end: CollectEnd) -> pb::event::Kind {
    let reason = match end {
        CollectEnd::Complete => pb::CollectEndReason::Complete,
        CollectEnd::Terminator => pb::CollectEndReason::Terminator,
        CollectEnd::Timeout => pb::CollectEndReason::Timeout,
        CollectEnd::Cancelled => pb::CollectEndReason::Cancelled,
    };
    pb::event::Kind::DigitsCollected(pb::DigitsCollected {
        request: request.into(),
        digits: digits.events().iter().map(|event| digit(*event)).collect(),
        reason: reason.into(),
    })
}

fn played(end: PlayEnd) -> pb::event::Kind {
    let reason = match end {
        PlayEnd::End => pb::PlayFinishReason::End,
        PlayEnd::BargeIn => pb::PlayFinishReason::BargeIn,
        PlayEnd::Removed => pb::PlayFinishReason::Removed,
        PlayEnd::Error => pb::PlayFinishReason::Error,
    };
    pb::event::Kind::PlayFinished(pb::PlayFinished {
        reason: reason.into(),
    })
}

fn digit_source(source: DigitSource) -> pb::DigitSource {
    match source {
        DigitSource::TelephoneEvent => pb::DigitSource::TelephoneEvent,
        DigitSource::Inband => pb::DigitSource::Inband,
    }
}

/// RFC 4733 §3.2.
fn digit(event: u8) -> String {
    match event {
        0..=9 => char::from(b'0' + event).to_string(),
        10 => "*".into(),
        11 => "#".into(),
        12..=15 => char::from(b'A' + event - 12).to_string(),
        16 => "flash".into(),
        other => other.to_string(),
    }
}

fn severity(severity: Severity) -> pb::Severity {
    match severity {
        Severity::Ok => pb::Severity::Ok,
        Severity::Notice => pb::Severity::Notice,
        Severity::Warning => pb::Severity::Warning,
        Severity::Problem => pb::Severity::Problem,
    }
}

fn finding_code(code: Code) -> pb::FindingCode {
    match code {
        Code::Flowing => pb::FindingCode::Flowing,
        Code::NoEdge => pb::FindingCode::NoEdge,
        Code::Muted => pb::FindingCode::Muted,
        Code::NoPacketsEver => pb::FindingCode::NoPacketsEver,
        Code::PacketsStopped => pb::FindingCode::PacketsStopped,
        Code::WrongSource => pb::FindingCode::WrongSource,
        Code::PayloadType => pb::FindingCode::PayloadType,
        Code::Authentication => pb::FindingCode::Authentication,
        Code::NoCommonCodec => pb::FindingCode::NoCommonCodec,
        Code::NoDestination => pb::FindingCode::NoDestination,
        Code::Direction => pb::FindingCode::Direction,
        Code::Loss => pb::FindingCode::Loss,
        Code::Malformed => pb::FindingCode::Malformed,
        Code::Probation => pb::FindingCode::Probation,
        Code::PeerReceivesNothing => pb::FindingCode::PeerReceivesNothing,
        Code::NotFound => pb::FindingCode::NotFound,
        Code::LinkOpen => pb::FindingCode::LinkOpen,
    }
}
