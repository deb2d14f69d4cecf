//! What a media host says of a session, told in the names of those who are in it.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use call_control::{AudioParty, AudioRole, CallAudio, HostId};
use proto::mediad::v1::{self as pb, FindingCode, Severity, node::Kind};
use serde_json::{Value, json};

use super::remedy::{Place, reason, remedy};

/// Somebody, or something, that speaks or hears in a call.
#[derive(Debug, Default)]
pub(super) struct Party {
    /// The node.
    id: String,
    role: &'static str,
    /// As sentences have it.
    pub(super) name: String,
    display_name: Option<String>,
    pub(super) is_on_hold: bool,
    pub(super) is_muted: bool,
    /// Where the media host receives what it sends.
    pub(super) sends_to: Option<String>,
    /// Where the media host sends what it hears.
    pub(super) receives_at: Option<String>,
    stats: Option<pb::EndpointStats>,
}

/// What was found on the way from one node to another.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) findings: Vec<pb::Finding>,
}

/// Everybody in a session, and how it stands.
#[derive(Debug)]
pub(super) struct People {
    /// Those who were asked for first, then what they hear.
    parties: Vec<Party>,
    /// By (from, to).
    pairs: Vec<(String, String)>,
    /// How each listener is served.
    plans: BTreeMap<String, pb::PlanKind>,
}

impl People {
    pub(super) fn new(audio: &CallAudio, described: pb::SessionDescription) -> Self {
        let parties = audio.parties.iter().filter(|party| party.has_media);
        let mut parties: Vec<Party> = parties.map(|party| person(party, &described)).collect();
        let is_person = |id: &str| audio.parties.iter().any(|party| party.node == id);
        let touched = |edge: &&pb::Edge| is_person(&edge.from) || is_person(&edge.to);
        let edges: Vec<&pb::Edge> = described.edges.iter().filter(touched).collect();
        // The room of a member that is muted and holds is still its room.
        let room = audio.parties.iter().find_map(|party| match &party.role {
            AudioRole::Member { room } => Some(room.as_str()),
            AudioRole::Caller | AudioRole::Callee => None,
        });
        let things = described.nodes.iter().filter(|node| {
            let is_touched = edges
                .iter()
                .any(|edge| edge.from == node.id || edge.to == node.id);
            !is_person(&node.id) && (is_touched || matches!(node.kind, Some(Kind::Room(_))))
        });
        parties.extend(things.filter_map(|node| thing(node, room)));
        let is_known = |id: &str| {
            parties.iter().any(|party| party.id == id) && described.nodes.iter().any(|node| node.id == id)
        };
        let mut pairs = conversation(audio, &parties);
        pairs.extend(edges.iter().map(|edge| (edge.from.clone(), edge.to.clone())));
        pairs.retain(|(from, to)| is_known(from) && is_known(to));
        let mut seen = Vec::new();
        pairs.retain(|pair| {
            !seen.contains(pair) && {
                seen.push(pair.clone());
                true
            }
        });
        let plans = described.plans.iter();
        Self {
            parties,
            pairs,
            plans: plans.map(|plan| (plan.node.clone(), plan.kind())).collect(),
        }
    }

    /// Who is to be heard by whom, by node.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        self.pairs.clone()
    }

    fn party(&self, id: &str) -> Option<&Party> {
        self.parties.iter().find(|party| party.id == id)
    }

    /// A sentence of the media host's, which quotes nodes, with the names of whom they are.
    fn in_names(&self, text: &str) -> String {
        let mut told = String::new();
        let mut pieces = text.split('"').peekable();
        // The first piece stands before a quotation, the next in one, and so on.
        while let Some(before) = pieces.next() {
            told.push_str(before);
            let Some(quoted) = pieces.next() else { break };
            match self.party(quoted) {
                Some(party) if pieces.peek().is_some() => told.push_str(&party.name),
                _ => {
                    told.push('"');
                    told.push_str(quoted);
                    told.push_str(if pieces.peek().is_some() { "\"" } else { "" });
                }
            }
        }
        told
    }
}

/// Two who talk are to hear each other, and a member of a conference its room, whatever the graph says.
fn conversation(audio: &CallAudio, parties: &[Party]) -> Vec<(String, String)> {
    let both = |a: &str, b: &str| vec![(a.to_owned(), b.to_owned()), (b.to_owned(), a.to_owned())];
    let people: Vec<&AudioParty> = audio.parties.iter().filter(|party| party.has_media).collect();
    match people[..] {
        [a, b] => both(&a.node, &b.node),
        [member] if matches!(member.role, AudioRole::Member { .. }) => {
            let room = parties.iter().find(|party| party.role == "room");
            room.map_or_else(Vec::new, |room| both(&member.node, &room.id))
        }
        _ => Vec::new(),
    }
}

fn person(party: &AudioParty, described: &pb::SessionDescription) -> Party {
    let local = described.local.iter().find(|local| local.id == party.node);
    let transport = described.transport_stats.iter();
    let transport = transport.into_iter().find(|stats| stats.transport == party.node);
    let stats = described
        .endpoint_stats
        .iter()
        .find(|stats| stats.node == party.node);
    Party {
        id: party.node.clone(),
        role: match party.role {
            AudioRole::Caller => "caller",
            AudioRole::Callee => "callee",
            AudioRole::Member { .. } => "member",
        },
        name: party.name.clone(),
        display_name: party.display_name.clone(),
        is_on_hold: party.on_hold,
        is_muted: party.muted,
        sends_to: local.and_then(|local| local.local.as_ref()).map(address),
        receives_at: transport.and_then(|stats| stats.remote.as_ref()).map(address),
        stats: stats.cloned(),
    }
}

/// What is no person and is heard or hears; recorders only listen in.
fn thing(node: &pb::Node, room: Option<&str>) -> Option<Party> {
    let (role, name) = match node.kind.as_ref()? {
        Kind::Room(_) => ("room", format!("room {}", room.unwrap_or(&node.id))),
        Kind::Player(_) if node.id == "music" => ("music", "the music".to_owned()),
        Kind::Player(_) if node.id == "ringback" => ("ringback", "the ringback tone".to_owned()),
        Kind::Player(_) => ("announcement", "the announcement".to_owned()),
        _ => return None,
    };
    Some(Party {
        id: node.id.clone(),
        role,
        name,
        ..Party::default()
    })
}

/// The answer as a whole.
pub(super) fn report(
    call: &str,
    host: &HostId,
    people: &People,
    directions: &[Direction],
    now: SystemTime,
) -> Value {
    let directions: Vec<Value> = directions
        .iter()
        .filter_map(|direction| told(people, direction, now))
        .collect();
    let note = directions
        .is_empty()
        .then_some("nobody hears anybody yet: the call is not so far");
    json!({
        "call": call,
        "host": host.as_str(),
        "parties": people.parties.iter().map(party).collect::<Value>(),
        "directions": directions,
        "note": note,
    })
}

fn party(party: &Party) -> Value {
    json!({
        "id": party.id,
        "role": party.role,
        "name": party.name,
        "display_name": party.display_name,
        "on_hold": party.is_on_hold,
        "muted": party.is_muted,
        "sends_to": party.sends_to,
        "receives_at": party.receives_at,
    })
}

fn told(people: &People, direction: &Direction, now: SystemTime) -> Option<Value> {
    let (from, to) = (people.party(&direction.from)?, people.party(&direction.to)?);
    let worst = worst(&direction.findings);
    let heard = heard(worst);
    let verdict = match heard {
        "yes" => format!("{} hears {}", to.name, from.name),
        "badly" => format!("{} hears {} badly", to.name, from.name),
        "no" => format!("{} does not hear {}", to.name, from.name),
        _ => format!("whether {} hears {} is not known yet", to.name, from.name),
    };
    let is_wrong = heard != "yes";
    let code = worst.map_or(FindingCode::Unspecified, pb::Finding::code);
    let place = worst.map_or(Place::At, |worst| place(&worst.subject, from, to));
    let by_call = reason(code, place, from, to);
    let concerns = by_call.as_ref().map(|(_, party)| *party).or(match place {
        Place::Before => Some(from),
        Place::After => Some(to),
        Place::At => None,
    });
    let text = worst.map(|worst| people.in_names(&worst.text));
    let plan = people.plans.get(&to.id).copied();
    Some(json!({
        "from": from.id,
        "to": to.id,
        "heard": heard,
        "verdict": verdict,
        "reason": by_call.map(|(text, _)| text).or(text),
        "stops": (heard == "no").then(|| place.name()),
        "concerns": concerns.filter(|_| is_wrong).map(|party| &party.id),
        "remedy": is_wrong.then(|| remedy(code, from, to)),
        "received": from.stats.as_ref().map(|stats| received(stats, now)),
        "sent": to.stats.as_ref().map(sent),
        "carried_by": plan.map(|plan| name(plan.as_str_name(), "PLAN_KIND_")),
        "findings": direction.findings.iter().map(|found| finding(people, found)).collect::<Value>(),
    }))
}

/// The first of the worst; of what is fine, that audio flows.
fn worst(findings: &[pb::Finding]) -> Option<&pb::Finding> {
    let flowing = |finding: &&pb::Finding| finding.severity() == Severity::Ok;
    let severe = |finding: &&pb::Finding| finding.severity() >= Severity::Warning;
    let mut sorted: Vec<&pb::Finding> = findings.iter().filter(severe).collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    let other = || findings.iter().find(flowing).or_else(|| findings.first());
    sorted.first().copied().or_else(other)
}

fn heard(worst: Option<&pb::Finding>) -> &'static str {
    match worst.map(pb::Finding::severity) {
        Some(Severity::Problem) => "no",
        Some(Severity::Warning) => "badly",
        Some(Severity::Ok) => "yes",
        Some(Severity::Notice | Severity::Unspecified) | None => "unknown",
    }
}

/// A subject is a node, the transport of the same name, or an edge.
fn place(subject: &str, from: &Party, to: &Party) -> Place {
    match subject.split_once(':') {
        Some(("node" | "transport", id)) if id == from.id => Place::Before,
        Some(("node" | "transport", id)) if id == to.id => Place::After,
        _ => Place::At,
    }
}

/// What the media host has of the speaker.
fn received(stats: &pb::EndpointStats, now: SystemTime) -> Value {
    let stream = stats.ingress.unwrap_or_default();
    let now_us = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    let last = (stats.last_rx_unix_us > 0).then(|| now_us.saturating_sub(stats.last_rx_unix_us) / 1_000);
    let mut figures = figures(&stream);
    figures["jitter_ms"] = json!(rounded(stream.jitter_ms));
    figures["last_ms"] = json!(last);
    figures["mos"] = json!((stats.mos_ingress > 0.0).then(|| rounded(stats.mos_ingress)));
    figures
}

/// What went to the listener; losses are what it told.
fn sent(stats: &pb::EndpointStats) -> Value {
    let stream = stats.egress.unwrap_or_default();
    let mut figures = figures(&stream);
    figures["mos"] = json!((stats.mos_egress > 0.0).then(|| rounded(stats.mos_egress)));
    figures
}

fn figures(stream: &pb::StreamStats) -> Value {
    let codec = match stream.codec() {
        pb::Codec::Unspecified => None,
        codec => Some(name(codec.as_str_name(), "CODEC_").to_uppercase()),
    };
    json!({ "codec": codec, "packets": stream.packets, "lost": stream.lost.max(0) })
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn finding(people: &People, finding: &pb::Finding) -> Value {
    json!({
        "severity": name(finding.severity().as_str_name(), "SEVERITY_"),
        "code": name(finding.code().as_str_name(), "FINDING_CODE_"),
        "text": people.in_names(&finding.text),
        "since_unix_us": (finding.since_unix_us > 0).then_some(finding.since_unix_us),
    })
}

fn address(address: &pb::Address) -> String {
    match address.ip.contains(':') {
        true => format!("[{}]:{}", address.ip, address.port),
        false => format!("{}:{}", address.ip, address.port),
    }
}

/// As JSON has it: without the prefix that the contract's names have.
fn name(value: &str, prefix: &str) -> String {
    value.strip_prefix(prefix).unwrap_or(value).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two parties whose names are chosen to be in the way, and what the host found on the way from the first.
    fn found(on_hold: bool, code: FindingCode, severity: Severity, subject: &str, text: &str) -> Value {
        let party = |node: &str, name: &str, on_hold| AudioParty {
            node: node.to_owned(),
            role: AudioRole::Caller,
            name: name.to_owned(),
            display_name: None,
            has_media: true,
            on_hold,
            muted: false,
        };
        let audio = CallAudio {
            at: None,
            parties: vec![party("a", "b", false), party("b", "<b>\"a\"", on_hold)],
        };
        let node = |id: &str| pb::Node {
            id: id.to_owned(),
            kind: Some(Kind::Endpoint(pb::Endpoint::default())),
        };
        let described = pb::SessionDescription {
            nodes: vec![node("a"), node("b")],
            ..pb::SessionDescription::default()
        };
        let people = People::new(&audio, described);
        let both = [("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned())];
        assert_eq!(people.pairs(), both);
        let direction = Direction {
            from: "a".to_owned(),
            to: "b".to_owned(),
            findings: vec![pb::Finding {
                severity: severity.into(),
                code: code.into(),
                subject: subject.to_owned(),
                text: text.to_owned(),
                since_unix_us: 0,
            }],
        };
        let told = report("7", &"m".into(), &people, &[direction], SystemTime::now());
        told["directions"][0].clone()
    }

    #[test]
    fn names_stand_in_place_of_nodes_and_are_not_read_again() {
        let (problem, stopped) = (Severity::Problem, FindingCode::PacketsStopped);
        let text = "\"a\" stopped; \"b\" and \"c\" did not, \"a";
        let told = found(false, stopped, problem, "node:a", text);
        assert_eq!(told["reason"], "b stopped; <b>\"a\" and \"c\" did not, \"a");
        assert_eq!(
            (&told["stops"], &told["concerns"]),
            (&"before_host".into(), &"a".into())
        );
    }

    #[test]
    fn a_party_that_holds_is_the_reason_and_has_to_end_it() {
        let problem = Severity::Problem;
        for (code, subject) in [
            (FindingCode::NoEdge, "edge:a>b"),
            (FindingCode::Direction, "node:b"),
        ] {
            let told = found(true, code, problem, subject, "put the edge");
            assert_eq!(told["reason"], "<b>\"a\" has put the call on hold");
            assert_eq!(told["remedy"], "<b>\"a\" has to take the call off hold");
            assert_eq!(told["concerns"], "b");
        }
    }

    #[test]
    fn what_is_only_worth_knowing_is_no_verdict() {
        let told = found(
            false,
            FindingCode::NotFound,
            Severity::Notice,
            "edge:a>b",
            "ask again",
        );
        assert_eq!(
            (&told["heard"], &told["stops"]),
            (&"unknown".into(), &Value::Null)
        );
        assert_eq!(told["remedy"], "ask again in a second");
        let told = found(
            false,
            FindingCode::Loss,
            Severity::Warning,
            "node:a",
            "5.0 % is lost",
        );
        assert_eq!(
            (&told["heard"], &told["concerns"]),
            (&"badly".into(), &"a".into())
        );
    }
}
