//! "Why does B not hear A?": follows the audio from the speaker's network to the listener's and names what stops it.

use std::time::{Duration, SystemTime};

use crate::{
    command::{DropReason, EndpointReport, PlanKind, SourceState, TransportReport},
    host::Described,
    limits,
    refusal::Refusal,
    spec::{Codec, EndpointSpec, LinkSpec, Name, NodeKind, SdesSpec, SourcePolicy},
};

/// One thing found on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What.
    pub code: Code,
    /// `node:a`, `edge:a>b` or `transport:t`.
    pub subject: String,
    /// A sentence with the figures, and what to do.
    pub text: String,
    /// Since when; `None`: always, or not known.
    pub since: Option<SystemTime>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// All is well.
    Ok,
    /// Worth knowing.
    Notice,
    /// Audio is degraded.
    Warning,
    /// No audio.
    Problem,
}

/// What was found. See `FindingCode` in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the contract's and are explained there")]
pub enum Code {
    Flowing,
    NoEdge,
    Muted,
    NoPacketsEver,
    PacketsStopped,
    WrongSource,
    PayloadType,
    Authentication,
    NoCommonCodec,
    NoDestination,
    Direction,
    Loss,
    Malformed,
    Probation,
    PeerReceivesNothing,
    NotFound,
    LinkOpen,
}

/// A stream is flowing if its last packet is at most this old.
const ALIVE: Duration = Duration::from_secs(1);
/// A silence that was described is heard as noise for so long.
const NOISE: Duration = Duration::from_millis(limits::COMFORT_NOISE_MS_MAX as u64);
/// Loss worth a warning, in percent.
const LOSS_PERCENT: f64 = 2.0;
/// A reason for refusing packets is told unless another was so many times as frequent.
const RARE: u64 = 10;

/// Findings for the pair given, or for every edge and every endpoint nobody hears.
///
/// # Errors
/// A node named is not in the session.
pub fn explain(
    described: &Described,
    from: Option<&Name>,
    to: Option<&Name>,
    now: SystemTime,
) -> Result<Vec<Finding>, Refusal> {
    let session = Explained { described, now };
    for name in from.into_iter().chain(to) {
        if described.spec.node(name).is_none() {
            return Err(Refusal::UnknownNode {
                session: described.summary.name.clone(),
                node: name.clone(),
            });
        }
    }
    let mut findings = Vec::new();
    if let (Some(from), Some(to)) = (from, to) {
        session.pair(from, to, &mut findings);
        return Ok(findings);
    }
    let concerned = |edge: &&crate::spec::EdgeSpec| {
        from.is_none_or(|from| *from == edge.from) && to.is_none_or(|to| *to == edge.to)
    };
    for edge in described.spec.edges.iter().filter(concerned) {
        session.pair(&edge.from, &edge.to, &mut findings);
    }
    for node in &described.spec.nodes {
        let asked = from.or(to).is_none_or(|asked| *asked == node.id);
        if asked
            && !described
                .spec
                .edges
                .iter()
                .any(|edge| edge.from == node.id || edge.to == node.id)
        {
            findings.push(Finding {
                severity: Severity::Notice,
                code: Code::NoEdge,
                subject: format!("node:{}", node.id),
                text: format!(
                    "{:?} hears nobody and is heard by nobody: no edge touches it",
                    node.id
                ),
                since: None,
            });
        }
    }
    Ok(findings)
}

/// The reasons that tell why a speaker is not heard; the others happen to speakers who are.
fn says_why(reason: DropReason) -> bool {
    match reason {
        DropReason::WrongSource
        | DropReason::Probation
        | DropReason::PayloadType
        | DropReason::Authentication
        | DropReason::Malformed
        | DropReason::UnexpectedProtocol => true,
        DropReason::Direction
        | DropReason::Replay
        | DropReason::Stale
        | DropReason::EgressFull
        | DropReason::NoEndpoint => false,
    }
}

struct Explained<'a> {
    described: &'a Described,
    now: SystemTime,
}

/// One end of an edge: what was asked, and what is.
struct End<'a> {
    id: &'a Name,
    spec: &'a EndpointSpec,
    transport: &'a TransportReport,
    policy: SourcePolicy,
    link: Option<&'a LinkSpec>,
    sdes: Option<&'a SdesSpec>,
    streams: &'a EndpointReport,
}

impl End<'_> {
    /// It is protected and the peer's key is not known yet.
    fn is_keyless(&self) -> bool {
        self.sdes.is_some_and(|sdes| sdes.remote.is_none())
    }
}

/// Why nothing that came was what the peer's key makes.
fn unauthentic(speaker: &End<'_>, count: u64) -> String {
    let id = speaker.id;
    match speaker.sdes.map(|sdes| &sdes.remote) {
        Some(Some(remote)) => format!(
            "{count} packets failed authentication with the {} key that {id:?} signalled (tag {}): it encrypts with another one, or not at all",
            remote.key.suite().name(),
            remote.tag,
        ),
        Some(None) | None => {
            format!("{count} packets came before the key of {id:?} was known: put it in sdes.remote")
        }
    }
}

/// What moved on a way that nothing is wrong with.
fn carried(from: &Name, to: &Name, speaker: Option<&End<'_>>, listener: Option<&End<'_>>) -> String {
    let came = speaker.map(|speaker| format!("{} packets came in", speaker.streams.ingress.packets));
    let went = listener.map(|listener| {
        let remote = listener.transport.remote.map(|at| at.to_string());
        let link = listener
            .link
            .map(|link| format!("session {:?}", link.peer_session));
        let to = remote.or(link).unwrap_or_else(|| "nowhere".into());
        format!("{} packets went out to {to}", listener.streams.egress.packets)
    });
    let counts: Vec<_> = came.into_iter().chain(went).collect();
    format!("{from:?} is heard by {to:?}: {}", counts.join(", "))
}

impl Explained<'_> {
    /// Everything that stops or harms `from` on its way to `to`; one finding says so when nothing does.
    fn pair(&self, from: &Name, to: &Name, findings: &mut Vec<Finding>) {
        let subject = format!("edge:{from}>{to}");
        let before = findings.len();
        let mut add = |severity, code, subject: String, text: String, since| {
            findings.push(Finding {
                severity,
                code,
                subject,
                text,
                since,
            });
        };
        match self.described.spec.edge(from, to) {
            None => {
                let text = format!("{to:?} is not asked to hear {from:?}: put the edge {from} > {to}");
                return add(Severity::Problem, Code::NoEdge, subject, text, None);
            }
            Some(edge) if edge.muted => {
                add(
                    Severity::Problem,
                    Code::Muted,
                    subject.clone(),
                    "the edge is muted: put it unmuted".into(),
                    None,
                );
            }
            Some(_) => {}
        }
        // Rooms and players have no network of their own: only the other end can be in the way.
        let (speaker, listener) = (self.end(from), self.end(to));
        if [(from, &speaker), (to, &listener)]
            .iter()
            .any(|(id, end)| end.is_none() && self.is_endpoint(id))
        {
            let text = "the worker has not taken this edit in yet: ask again".into();
            return add(Severity::Notice, Code::NotFound, subject, text, None);
        }
        if let Some(speaker) = &speaker {
            self.ingress(speaker, findings);
        }
        if let (Some(speaker), Some(listener)) = (&speaker, &listener) {
            self.codec(speaker, listener, &subject, findings);
        }
        if let Some(listener) = &listener {
            self.egress(listener, findings);
        }
        if findings[before..]
            .iter()
            .all(|finding| finding.severity < Severity::Problem)
        {
            let text = carried(from, to, speaker.as_ref(), listener.as_ref());
            let since = speaker.as_ref().and_then(|speaker| speaker.streams.first_rx);
            findings.push(Finding {
                severity: Severity::Ok,
                code: Code::Flowing,
                subject,
                text,
                since,
            });
        }
    }

    fn end<'a>(&'a self, id: &'a Name) -> Option<End<'a>> {
        let Described { spec, report, .. } = self.described;
        let NodeKind::Endpoint(endpoint) = &spec.node(id)?.kind else {
            return None;
        };
        let transport = spec.transport(&endpoint.transport)?;
        Some(End {
            id,
            spec: endpoint,
            policy: transport.udp().map_or(SourcePolicy::Signalled, |udp| udp.source),
            link: transport.link(),
            sdes: transport.sdes(),
            transport: report
                .transports
                .iter()
                .find(|t| t.transport == endpoint.transport)?,
            streams: report.endpoints.iter().find(|e| e.node == *id)?,
        })
    }

    fn is_endpoint(&self, id: &Name) -> bool {
        let node = self.described.spec.node(id);
        node.is_some_and(|node| matches!(node.kind, NodeKind::Endpoint(_)))
    }

    fn local(&self, end: &End<'_>) -> String {
        let local = self
            .described
            .locals
            .iter()
            .find(|l| l.transport == end.spec.transport);
        local.map_or_else(|| "its port".into(), |l| l.rtp.to_string())
    }

    /// From the speaker's network to its decoder.
    fn ingress(&self, speaker: &End<'_>, findings: &mut Vec<Finding>) {
        let node = format!("node:{}", speaker.id);
        let id = speaker.id;
        if !speaker.spec.direction.receives() {
            let text = format!(
                "{id:?} is {:?}: nothing it sends is taken",
                speaker.spec.direction
            );
            findings.push(Finding {
                severity: Severity::Problem,
                code: Code::Direction,
                subject: node,
                text,
                since: None,
            });
            return;
        }
        if let Some(finding) = self.open_link(speaker) {
            findings.push(finding);
            return;
        }
        if let Some(finding) = self.silence(speaker) {
            findings.push(finding);
            return;
        }
        let alive = speaker
            .streams
            .last_rx
            .is_some_and(|last| self.age(last) <= ALIVE);
        if alive {
            self.ingress_quality(speaker, findings);
            return;
        }
        let before = findings.len();
        self.refused(speaker, findings);
        if findings.len() > before {
            return;
        }
        let (code, text, since) = match speaker.streams.last_rx {
            None if speaker.link.is_some() => {
                let text = format!(
                    "nothing ever came through the link that {id:?} rides on: at its other end nobody is heard by it, or nobody speaks",
                );
                (Code::NoPacketsEver, text, None)
            }
            None => {
                let text = format!(
                    "nothing ever arrived from {id:?} on {}: check the address in the SDP sent to it, firewalls, and that it sends at all",
                    self.local(speaker),
                );
                (Code::NoPacketsEver, text, None)
            }
            Some(last) => {
                let text = format!(
                    "{id:?} stopped sending {:.1} s ago, after {} packets",
                    self.age(last).as_secs_f64(),
                    speaker.streams.ingress.packets,
                );
                (Code::PacketsStopped, text, Some(last))
            }
        };
        findings.push(Finding {
            severity: Severity::Problem,
            code,
            subject: node,
            text,
            since,
        });
    }

    /// It sends nothing because it described its silence.
    fn silence(&self, speaker: &End<'_>) -> Option<Finding> {
        let since = speaker.streams.last_rx.filter(|_| speaker.streams.silent)?;
        let age = self.age(since);
        (age <= NOISE).then(|| Finding {
            severity: Severity::Notice,
            code: Code::Flowing,
            subject: format!("node:{}", speaker.id),
            text: format!(
                "{:?} told {:.1} s ago how silent it is: until it speaks, noise like that is heard of it",
                speaker.id,
                age.as_secs_f64(),
            ),
            since: Some(since),
        })
    }

    /// Datagrams come, but every one is refused: why, the most frequent reason first. What was wrong at first may be
    /// mended, and something else wrong now.
    fn refused(&self, speaker: &End<'_>, findings: &mut Vec<Finding>) {
        let drops = &speaker.transport.drops_since_rx;
        let count = |why: DropReason| drops[why as usize];
        let mut reasons: Vec<DropReason> = DropReason::ALL
            .into_iter()
            .filter(|why| count(*why) > 0 && says_why(*why))
            .collect();
        reasons.sort_by_key(|why| std::cmp::Reverse(count(*why)));
        let most = reasons.first().map_or(0, |why| count(*why));
        let weighs = |why: &&DropReason| count(**why) >= most / RARE;
        let known = reasons.iter().filter(weighs);
        findings.extend(known.filter_map(|why| self.refused_for(speaker, *why, count(*why))));
    }

    fn refused_for(&self, speaker: &End<'_>, why: DropReason, count: u64) -> Option<Finding> {
        let refused = speaker
            .transport
            .refused
            .map_or("another address".into(), |at| at.to_string());
        let (code, text) = match why {
            DropReason::WrongSource => {
                let expected = speaker
                    .transport
                    .remote
                    .map_or("nothing".into(), |at| at.to_string());
                let remedy = match speaker.policy {
                    SourcePolicy::Signalled => "allow learning, or correct the address in its SDP",
                    SourcePolicy::Learn | SourcePolicy::Immediate => {
                        "the locked source has to fall silent first"
                    }
                };
                (
                    Code::WrongSource,
                    format!("{count} packets came from {refused} instead of {expected}: {remedy}"),
                )
            }
            DropReason::Probation => (
                Code::Probation,
                format!(
                    "packets come from {refused}, {count} so far, but not yet enough in a row to trust it"
                ),
            ),
            DropReason::PayloadType => {
                let known: Vec<_> = speaker
                    .spec
                    .receive
                    .iter()
                    .map(|f| f.payload_type.to_string())
                    .collect();
                let text = format!(
                    "{count} packets had a payload type that was not negotiated; known: {}",
                    known.join(", ")
                );
                (Code::PayloadType, text)
            }
            DropReason::Malformed | DropReason::UnexpectedProtocol => (
                Code::Malformed,
                format!(
                    "{count} datagrams were not plain RTP (SRTP, DTLS or STUN where plain RTP was negotiated?)"
                ),
            ),
            DropReason::Authentication => (Code::Authentication, unauthentic(speaker, count)),
            DropReason::Direction
            | DropReason::Replay
            | DropReason::Stale
            | DropReason::EgressFull
            | DropReason::NoEndpoint => return None,
        };
        let subject = format!("transport:{}", speaker.spec.transport);
        Some(Finding {
            severity: Severity::Problem,
            code,
            subject,
            text,
            since: None,
        })
    }

    fn ingress_quality(&self, speaker: &End<'_>, findings: &mut Vec<Finding>) {
        let ingress = &speaker.streams.ingress;
        let expected = ingress.packets as f64 + ingress.lost.max(0) as f64;
        let percent = 100.0 * ingress.lost.max(0) as f64 / expected.max(1.0);
        if percent >= LOSS_PERCENT {
            findings.push(Finding {
                severity: Severity::Warning,
                code: Code::Loss,
                subject: format!("node:{}", speaker.id),
                text: format!(
                    "{percent:.1} % of what {:?} sends is lost before it gets here",
                    speaker.id
                ),
                since: None,
            });
        }
        if speaker.transport.relearned > 0 {
            findings.push(Finding {
                severity: Severity::Notice,
                code: Code::WrongSource,
                subject: format!("transport:{}", speaker.spec.transport),
                text: format!(
                    "the source of {:?} changed {} times",
                    speaker.id, speaker.transport.relearned
                ),
                since: speaker.transport.learned_at,
            });
        }
    }

    /// What the speaker sends now, the listener cannot get without decoding, and its plan does not decode.
    fn codec(&self, speaker: &End<'_>, listener: &End<'_>, subject: &str, findings: &mut Vec<Finding>) {
        let plan = self
            .described
            .report
            .plans
            .iter()
            .find(|plan| plan.node == *listener.id);
        if plan.is_some_and(|plan| matches!(plan.kind, PlanKind::Transcode | PlanKind::Mix)) {
            return;
        }
        let heard = speaker.streams.ingress.payload_type;
        let Some(from) = speaker
            .spec
            .receive
            .iter()
            .find(|f| Some(f.payload_type) == heard)
        else {
            return;
        };
        let law = |codec| matches!(codec, Codec::Pcmu | Codec::Pcma);
        let carried = listener.spec.send.iter().any(|to| {
            to.clock == from.clock
                && (law(to.codec) && law(from.codec)
                    || to.codec == from.codec && to.channels == from.channels)
        });
        if !carried {
            findings.push(Finding {
                severity: Severity::Problem,
                code: Code::NoCommonCodec,
                subject: subject.into(),
                text: format!(
                    "{:?} sends {:?}, which {:?} does not take: negotiate a common format",
                    speaker.id, from.codec, listener.id
                ),
                since: None,
            });
        }
    }

    /// From the encoder to the listener's network.
    fn egress(&self, listener: &End<'_>, findings: &mut Vec<Finding>) {
        let id = listener.id;
        let node = format!("node:{id}");
        let problem = |code, text| Finding {
            severity: Severity::Problem,
            code,
            subject: node.clone(),
            text,
            since: None,
        };
        if !listener.spec.direction.sends() {
            let text = format!("{id:?} is {:?}: nothing is sent to it", listener.spec.direction);
            findings.push(problem(Code::Direction, text));
            return;
        }
        if listener.is_keyless() {
            let text = format!("nothing is sent to {id:?} until its key is known: put it in sdes.remote");
            findings.push(problem(Code::Authentication, text));
            return;
        }
        if let Some(finding) = self.open_link(listener) {
            findings.push(finding);
            return;
        }
        if listener.link.is_some() {
            return;
        }
        if listener.transport.remote.is_none() {
            let text = format!(
                "where to send to {id:?} is not known: signal its address, or let it send first so that it is learned on {}",
                self.local(listener),
            );
            findings.push(problem(Code::NoDestination, text));
            return;
        }
        let egress = &listener.streams.egress;
        if egress.packets >= 100 && egress.lost >= egress.packets as i64 * 9 / 10 {
            let text = format!(
                "{id:?} reports by RTCP that it receives nothing of what is sent to it: firewall or NAT on its side"
            );
            findings.push(problem(Code::PeerReceivesNothing, text));
        } else if listener.transport.source == SourceState::Signalled && listener.streams.last_rx.is_none() {
            findings.push(Finding {
                severity: Severity::Notice,
                code: Code::NoPacketsEver,
                subject: node.clone(),
                text: format!(
                    "{id:?} never sent anything: the signalled address is used and may be wrong behind a NAT"
                ),
                since: None,
            });
        }
    }

    /// The other end of a link is not there, or names another one.
    fn open_link(&self, end: &End<'_>) -> Option<Finding> {
        let link = end.link.filter(|_| !end.transport.linked)?;
        let text = format!(
            "the link is open: session {:?} is not there, or its transport {:?} does not name session {:?}, transport {:?}",
            link.peer_session, link.peer_transport, self.described.summary.name, end.spec.transport,
        );
        Some(Finding {
            severity: Severity::Problem,
            code: Code::LinkOpen,
            subject: format!("transport:{}", end.spec.transport),
            text,
            since: None,
        })
    }

    fn age(&self, at: SystemTime) -> Duration {
        self.now.duration_since(at).unwrap_or_default()
    }
}
