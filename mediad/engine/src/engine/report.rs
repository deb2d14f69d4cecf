//! What an engine knows about a session, for the host.

use std::collections::BTreeMap;

use rtp::{time::Now, units::PayloadType};

use super::{Engine, endpoint::Endpoint, observer::Talk, participant::lost, slab::Key};
use crate::{
    command::{EndpointReport, PlanKind, PlanReport, SessionReport, StreamReport},
    spec::{Name, NodeKind, SessionSpec},
};

impl Engine {
    pub(super) fn report(&self, now: Now, key: Key) -> Option<Box<SessionReport>> {
        let session = self.sessions.get(key)?;
        let transports = session.transports.iter().filter_map(|key| {
            let transport = self.transports.get(*key)?;
            let endpoint = transport.endpoint.and_then(|key| self.endpoints.get(key));
            Some(transport.report(endpoint.map_or((0, 0), |e| e.egress.sent_by_transport())))
        });
        let endpoints = session
            .endpoints
            .iter()
            .filter_map(|key| self.endpoints.get(*key));
        let talks: BTreeMap<&Name, &Talk> = session
            .mixer
            .iter()
            .flat_map(|mixer| &mixer.sources)
            .filter_map(|source| Some((&source.node.id, source.observer.as_deref()?.talk()?)))
            .collect();
        let heard = match session.mixer {
            Some(_) => heard_by(&session.spec),
            None => BTreeMap::new(),
        };
        let plans = session
            .spec
            .nodes
            .iter()
            .zip(&session.plans)
            .filter(|(node, _)| matches!(node.kind, NodeKind::Endpoint(_)))
            .map(|(node, (kind, source))| PlanReport {
                node: node.id.clone(),
                kind: *kind,
                sources: match source.and_then(|at| session.spec.nodes.get(at as usize)) {
                    Some(source) => vec![source.id.clone()],
                    None if *kind == PlanKind::Silent => Vec::new(),
                    None => heard.get(&node.id).cloned().unwrap_or_default(),
                },
            });
        Some(Box::new(SessionReport {
            session: session.handle,
            transports: transports.collect(),
            endpoints: endpoints
                .map(|endpoint| {
                    let talk = talks.get(&endpoint.node.id).copied();
                    endpoint_report(endpoint, talk, now)
                })
                .collect(),
            plans: plans.collect(),
        }))
    }
}

/// Where the edges to each node come from; a room stands for those in it.
fn heard_by(spec: &SessionSpec) -> BTreeMap<&Name, Vec<Name>> {
    let mut heard: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for edge in spec.edges.iter().filter(|edge| !edge.muted) {
        heard.entry(&edge.to).or_default().push(edge.from.clone());
    }
    heard
}

pub(super) fn endpoint_report(endpoint: &Endpoint, talk: Option<&Talk>, now: Now) -> EndpointReport {
    let Endpoint {
        ingress,
        egress,
        participant,
        ..
    } = endpoint;
    let format = ingress.current_format().filter(|_| ingress.packets > 0);
    let ms = |ticks: u32| format.map_or(0.0, |f| f.clock.duration(u64::from(ticks)).as_secs_f32() * 1000.0);
    let payload_type = PayloadType::from_low_bits;
    let sent = egress.packets > 0;
    let sent_format = endpoint
        .spec()
        .send
        .iter()
        .find(|f| f.payload_type.value() == egress.payload_type);
    let heard = participant.heard();
    let line_ms = |ticks: u32| egress.line.clock().duration(u64::from(ticks)).as_secs_f32() * 1000.0;
    EndpointReport {
        node: endpoint.node.id.clone(),
        ingress: StreamReport {
            ssrc: ingress.ssrc,
            payload_type: format.map(|format| payload_type(format.payload_type)),
            codec: format.map(|format| format.codec),
            packets: ingress.packets,
            bytes: ingress.bytes,
            lost: lost(ingress),
            duplicates: u64::from(ingress.past.duplicates) + u64::from(ingress.stats.duplicates()),
            reordered: u64::from(ingress.past.reordered) + u64::from(ingress.stats.reordered()),
            jitter_ms: ms(ingress.stats.jitter_ticks()),
            jitter_ms_max: ms(ingress.jitter_ticks_max),
            ssrc_changes: ingress.past.ssrc_changes,
        },
        egress: StreamReport {
            ssrc: Some(egress.ssrc),
            payload_type: sent.then(|| payload_type(egress.payload_type)),
            codec: sent_format.filter(|_| sent).map(|format| format.codec),
            packets: egress.packets,
            bytes: egress.bytes,
            lost: heard.map_or(0, |block| i64::from(block.cumulative_lost)),
            jitter_ms: heard.map_or(0.0, |block| line_ms(block.jitter)),
            jitter_ms_max: participant.heard_jitter_max().as_secs_f32() * 1000.0,
            ..StreamReport::default()
        },
        round_trip_ms: participant.round_trip_ms(),
        quality: participant.quality(ingress),
        digits: u64::from(endpoint.hearing.count()),
        first_rx: ingress.first_rx.get(),
        last_rx: ingress
            .last_rx
            .map(|last| now.wall - now.mono.saturating_duration_since(last)),
        timed_out: ingress.timed_out,
        silent: ingress.silent,
        level_dbov: talk.map(Talk::level_dbov),
        talking: talk.is_some_and(Talk::is_talking),
    }
}
