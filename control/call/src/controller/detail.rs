//! The detail record of a call that is over.

use proto::mediad::v1 as pb;

use super::{calling::text, live::ms};
use crate::{
    call::{Call, Past, Side},
    cdr::{CallDetail, CallOrigin, LegDetail, MediaDetail, OriginKind},
    saved::SavedEnd,
    trunk::{TrunkId, Trunks},
};

/// Everything about a call, with what the media host counted.
pub(super) fn detail(call: &Call, stats: &[pb::EndpointStats], trunks: &Trunks) -> CallDetail {
    let ended = call.ended.as_ref();
    let (ended, end) = ended.expect("a call is finished only after it ended");
    let (ended, end) = (*ended, end.clone());
    let mut parties = parties(call, end.at_unix_us);
    let media = |party: &Past| {
        let of_it = stats.iter().find(|stats| stats.node == party.endpoint);
        of_it.map(media_detail)
    };
    // Who called came first, who was brought to it last is who answered in the end.
    let caller = parties.iter().find(|party| party.side == Side::Caller).cloned();
    let callee = parties.iter().rfind(|party| party.side == Side::Callee).cloned();
    let (caller, callee) = (caller.as_ref(), callee.as_ref());
    parties.sort_by_key(|party| party.joined_unix_us);
    let trunk = |id: Option<TrunkId>| id.map(|id| trunks.get(id).name.to_string());
    // Who called by SIP came by a trunk; whom a machine had called was reached by one.
    let caller_way = call.caller_way.filter(|_| call.origin.kind == OriginKind::Api);
    let legs = parties.iter().map(|party| LegDetail {
        called: party.side == Side::Callee,
        address: text(party.address.uri.as_bytes()),
        user: party.user.as_deref().map(str::to_owned),
        joined_unix_us: party.joined_unix_us,
        left_unix_us: party.left_unix_us,
        codec: party.codec.clone(),
        srtp: party.srtp.clone(),
        media: media(party),
    });
    CallDetail {
        call: call.name.clone(),
        sip_call_id: call.sip_call_id.clone(),
        from: text(call.from.uri.as_bytes()),
        to: call.to.clone(),
        queue: call.queue.as_deref().map(str::to_owned),
        room: None,
        answered_by: callee
            .filter(|_| call.answered.is_some())
            .and_then(|party| party.user.as_ref())
            .map(ToString::to_string),
        rung: call.rung.clone(),
        started_unix_us: call.started_unix_us,
        answered_unix_us: call.answered_unix_us,
        ended_unix_us: end.at_unix_us,
        wait_ms: ms(call
            .answered
            .unwrap_or(ended)
            .saturating_duration_since(call.started)),
        talk_ms: call
            .answered
            .map_or(0, |answered| ms(ended.saturating_duration_since(answered))),
        ended_by: end.by,
        status: end.status.code(),
        reason: end.reason,
        host: call.plan.host().as_str().to_owned(),
        caller_codec: caller.map_or_else(String::new, |party| party.codec.clone()),
        callee_codec: callee.map_or_else(String::new, |party| party.codec.clone()),
        caller_media: caller.and_then(media),
        callee_media: callee.and_then(media),
        choices: call.choices.clone(),
        origin: call.origin.clone(),
        caller_trunk: trunk(call.rx_trunk.or(caller_way.map(|way| way.trunk))),
        callee_trunk: trunk(call.last_way.map(|way| way.trunk)),
        recordings: call
            .recorded
            .as_ref()
            .map_or_else(Vec::new, |recorded| recorded.files.clone()),
        legs: legs.collect(),
    }
}

/// A call of which little is known: the process that had it was killed before it was set up.
pub(super) fn bare(
    (call, sip_call_id): (&str, &str),
    (from, to): (&str, &str),
    queue: Option<String>,
    host: &str,
    started_unix_us: u64,
    end: &SavedEnd,
) -> CallDetail {
    CallDetail {
        call: call.to_owned(),
        sip_call_id: sip_call_id.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        queue,
        room: None,
        answered_by: None,
        rung: Vec::new(),
        started_unix_us,
        answered_unix_us: None,
        ended_unix_us: end.at_unix_us,
        wait_ms: end.at_unix_us.saturating_sub(started_unix_us) / 1_000,
        talk_ms: 0,
        ended_by: end.by,
        status: end.status,
        reason: end.reason.clone(),
        host: host.to_owned(),
        caller_codec: String::new(),
        callee_codec: String::new(),
        caller_media: None,
        callee_media: None,
        choices: Vec::new(),
        origin: CallOrigin::default(),
        caller_trunk: None,
        callee_trunk: None,
        recordings: Vec::new(),
        legs: Vec::new(),
    }
}

/// Everybody who was in the call, in the order they left, whatever a clock that was set says of when they came.
fn parties(call: &Call, ended_unix_us: u64) -> Vec<Past> {
    let mut parties = call.past.clone();
    for side in [Side::Caller, Side::Callee] {
        let leg = call.leg(side).filter(|leg| !is_past(leg.endpoint.as_str(), call));
        parties.extend(leg.map(|leg| Past::of(leg, call.role(side), ended_unix_us)));
    }
    parties
}

/// A caller that was moved to another call is among those who left already.
fn is_past(endpoint: &str, call: &Call) -> bool {
    call.past.iter().any(|past| past.endpoint == endpoint)
}

pub(super) fn media_detail(stats: &pb::EndpointStats) -> MediaDetail {
    let ingress = stats.ingress.as_ref();
    MediaDetail {
        rx_packets: ingress.map_or(0, |ingress| ingress.packets),
        tx_packets: stats.egress.as_ref().map_or(0, |egress| egress.packets),
        lost: ingress.map_or(0, |ingress| ingress.lost),
        jitter_ms: ingress.map_or(0.0, |ingress| ingress.jitter_ms),
        mos: known(stats.mos_ingress_mean),
        mos_min: known(stats.mos_ingress_min),
    }
}

/// A media host says 0 for what it does not know.
fn known(mos: f64) -> Option<f64> {
    (mos > 0.0).then_some(mos)
}
