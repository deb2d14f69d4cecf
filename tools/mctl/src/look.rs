//! How replies look: tables for people, JSON for programs.

use std::{
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prost::Message;
use proto::mediad::v1::{self as pb, event, watch_reply};
use tonic::Streaming;

use crate::{
    reflect,
    remote::{Failure, Remote},
    table::{Table, say},
};

/// Exit code of `explain` when somebody hears nothing.
const EXIT_PROBLEM: u8 = 4;

/// How to show things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    pub(crate) json: bool,
}

impl Show {
    /// Prints JSON and says so, when that is wanted.
    pub(crate) fn as_json(self, name: &str, message: &impl Message) -> bool {
        if self.json {
            say(reflect::to_json(name, message));
        }
        self.json
    }

    pub(crate) fn status(self, status: &pb::StatusReply) {
        if self.as_json("StatusReply", status) {
            return;
        }
        let state = reflect::short("HostState", status.state);
        say(format_args!(
            "mediad {}  boot {}  up {}  {state}",
            status.version,
            status.boot_id,
            ago(status.started_unix_us)
        ));
        say(format_args!(
            "sessions {} of {}  endpoints {}  load {:.0} %  events {}",
            status.sessions,
            status.sessions_max,
            status.endpoints,
            status.load * 100.0,
            status.event_next.saturating_sub(1)
        ));
        say(format_args!("backend: {}\n", status.backend));
        workers(&status.workers);
        say("");
        interfaces(&status.interfaces);
        say("");
        let mut table = Table::new(&["controller", ">sessions", "lease"]);
        for controller in &status.controllers {
            let lease = match (controller.connected, controller.lease_left_ms) {
                (true, _) => "connected".to_owned(),
                (false, 0) => "expired".to_owned(),
                (false, ms) => format!("{:.1} s left", ms as f64 / 1e3),
            };
            table.row([
                controller.controller.clone(),
                controller.sessions.to_string(),
                lease,
            ]);
        }
        table.print("no controller has a lease");
    }

    pub(crate) fn list(self, list: &pb::ListReply) {
        if self.as_json("ListReply", list) {
            return;
        }
        let mut table = Table::new(&[
            "session",
            "owner",
            ">epoch",
            ">revision",
            ">endpoints",
            ">worker",
            "age",
            "labels",
        ]);
        for session in &list.sessions {
            let owner = session.owner.clone().unwrap_or_default();
            let orphaned = if session.orphaned { " (orphaned)" } else { "" };
            let labels: Vec<String> = session
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            table.row([
                session.session.clone(),
                format!("{}{orphaned}", owner.controller),
                owner.epoch.to_string(),
                session.revision.to_string(),
                session.endpoints.to_string(),
                session.worker.to_string(),
                ago(session.created_unix_us),
                labels.join(" "),
            ]);
        }
        table.print("no sessions");
    }

    pub(crate) fn describe(self, description: &pb::SessionDescription) {
        if self.as_json("SessionDescription", description) {
            return;
        }
        let summary = description.summary.clone().unwrap_or_default();
        let owner = summary.owner.clone().unwrap_or_default();
        let orphaned = if summary.orphaned { "  orphaned" } else { "" };
        say(format_args!(
            "session {}  owner {} epoch {}{orphaned}  revision {}  worker {}  age {}",
            summary.session,
            owner.controller,
            owner.epoch,
            summary.revision,
            summary.worker,
            ago(summary.created_unix_us)
        ));
        for (key, value) in &summary.labels {
            say(format_args!("  {key} = {value}"));
        }
        say("");
        transports(description);
        say("");
        streams(&description.endpoint_stats);
        say("");
        hearing(description);
        if !description.taps.is_empty() {
            say("");
            taps(&description.taps);
        }
    }

    pub(crate) fn explain(self, reply: &pb::ExplainReply) -> ExitCode {
        let problem = reply
            .findings
            .iter()
            .any(|finding| finding.severity() == pb::Severity::Problem);
        if !self.as_json("ExplainReply", reply) {
            for finding in &reply.findings {
                let mark = match finding.severity() {
                    pb::Severity::Ok => "ok     ",
                    pb::Severity::Notice => "notice ",
                    pb::Severity::Warning => "WARNING",
                    pb::Severity::Problem => "PROBLEM",
                    pb::Severity::Unspecified => "       ",
                };
                let since = if finding.since_unix_us == 0 {
                    String::new()
                } else {
                    format!(" (since {})", clock(finding.since_unix_us))
                };
                say(format_args!(
                    "{mark}  {:<16}  {}{since}",
                    finding.subject, finding.text
                ));
            }
        }
        if problem {
            ExitCode::from(EXIT_PROBLEM)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Prints events until the stream ends or `count` were printed.
    pub(crate) async fn watch(
        self,
        mut stream: Streaming<pb::WatchReply>,
        count: Option<u64>,
    ) -> Result<(), Failure> {
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0
            && let Some(reply) = stream.message().await?
        {
            if matches!(reply.kind, Some(watch_reply::Kind::Event(_))) {
                left -= 1;
            }
            if !self.as_json("WatchReply", &reply) {
                say(watch_line(&reply));
            }
        }
        if left == 0 {
            Ok(())
        } else {
            Err(Failure::Unreachable("the host ended the stream".into()))
        }
    }

    /// Packet rates, line by line.
    pub(crate) async fn stats(
        self,
        remote: &mut Remote,
        session: Option<String>,
        once: bool,
        every: f64,
    ) -> Result<(), Failure> {
        let pause = Duration::try_from_secs_f64(every.max(0.1))
            .map_err(|_| Failure::Local(format!("--every {every}: must be a number of seconds")))?;
        let mut before: Option<(Instant, Vec<Flow>)> = None;
        loop {
            let (flows, json) = match &session {
                Some(session) => {
                    let description = remote.describe(session.clone()).await?;
                    (
                        of_session(&description),
                        reflect::to_json("SessionDescription", &description),
                    )
                }
                None => {
                    let status = remote.status().await?;
                    (of_host(&status), reflect::to_json("StatusReply", &status))
                }
            };
            let now = Instant::now();
            if self.json {
                say(format_args!("{json}"));
            } else if once {
                totals(&flows);
            } else if let Some((then, earlier)) = &before {
                rates(&flows, earlier, now.duration_since(*then));
            }
            if once {
                return Ok(());
            }
            before = Some((now, flows));
            tokio::time::sleep(pause).await;
        }
    }

    pub(crate) fn drained(self, reply: &pb::DrainReply) {
        if !self.as_json("DrainReply", reply) {
            say(format_args!(
                "{}, {} sessions in service",
                reflect::short("HostState", reply.state),
                reply.sessions
            ));
        }
    }

    pub(crate) fn applied(self, reply: &pb::ApplyReply) {
        if self.as_json("ApplyReply", reply) {
            return;
        }
        say(format_args!("revision {}", reply.revision));
        let mut table = Table::new(&["transport", "rtp", "rtcp"]);
        for transport in &reply.transports {
            table.row([
                transport.id.clone(),
                address(transport.local.as_ref()),
                address(transport.local_rtcp.as_ref()),
            ]);
        }
        table.print("no transports");
    }

    pub(crate) fn deleted(self, session: &str, reply: &pb::DeleteReply) {
        if !self.as_json("DeleteReply", reply) {
            say(format_args!("session {session} ended"));
            streams(&reply.endpoints);
        }
    }

    /// One line of text, or the reply.
    pub(crate) fn said(self, name: &str, reply: &impl Message, text: impl std::fmt::Display) {
        if !self.as_json(name, reply) {
            say(text);
        }
    }

    pub(crate) fn acted(self, reply: &pb::ActReply) {
        if !self.as_json("ActReply", reply) {
            say(format_args!("done, request {}", reply.request));
        }
    }
}

fn workers(workers: &[pb::WorkerStatus]) {
    let mut table = Table::new(&[
        ">worker",
        ">cpu",
        ">busy",
        ">takes to",
        ">late",
        ">sessions",
        ">endpoints",
        ">sockets",
        ">rx",
        ">tx",
        ">drops",
        ">late p50 us",
        ">late p99 us",
        ">mailbox",
        ">opus effort",
    ]);
    for worker in workers {
        let cpu = if worker.cpu < 0 {
            "any".into()
        } else {
            worker.cpu.to_string()
        };
        table.row([
            worker.worker.to_string(),
            cpu,
            format!("{:.1} %", worker.busy * 100.0),
            format!("{:.0} %", worker.busy_max * 100.0),
            format!("{:.1} %", worker.late * 100.0),
            worker.sessions.to_string(),
            worker.endpoints.to_string(),
            worker.sockets.to_string(),
            worker.rx_packets.to_string(),
            worker.tx_packets.to_string(),
            worker.drops.to_string(),
            worker.lateness_p50_us.to_string(),
            worker.lateness_p99_us.to_string(),
            format!("{}/{}", worker.mailbox_used, worker.mailbox_size),
            worker.opus_complexity.to_string(),
        ]);
    }
    table.print("no workers");
}

fn interfaces(interfaces: &[pb::InterfaceStatus]) {
    let mut table = Table::new(&[
        "interface",
        "addresses",
        "advertised",
        "ports",
        ">used",
        ">resting",
        ">free pairs",
    ]);
    for interface in interfaces {
        table.row([
            interface.name.clone(),
            interface.addresses.join(" "),
            interface.advertised.join(" "),
            format!("{}-{}", interface.port_min, interface.port_max),
            interface.ports_used.to_string(),
            interface.ports_quarantined.to_string(),
            interface.ports_free.to_string(),
        ]);
    }
    table.print("no interfaces");
}

fn transports(description: &pb::SessionDescription) {
    let mut table = Table::new(&[
        "transport",
        "local",
        "remote",
        "source",
        ">rx",
        ">tx",
        "drops",
        "refused",
    ]);
    for stats in &description.transport_stats {
        let local = description.local.iter().find(|local| local.id == stats.transport);
        let drops: Vec<String> = stats
            .drops
            .iter()
            .filter(|drop| drop.packets > 0)
            .map(|drop| format!("{} {}", drop.packets, reflect::short("DropReason", drop.reason)))
            .collect();
        table.row([
            stats.transport.clone(),
            address(local.and_then(|local| local.local.as_ref())),
            match link(description, &stats.transport) {
                Some(link) => format!("{}/{}", link.peer_session, link.peer_transport),
                None => address(stats.remote.as_ref()),
            },
            match link(description, &stats.transport) {
                Some(_) if stats.linked => "linked".into(),
                Some(_) => "open".into(),
                None => reflect::short("SourceState", stats.source),
            },
            stats.rx_packets.to_string(),
            stats.tx_packets.to_string(),
            drops.join(", "),
            stats
                .refused
                .as_ref()
                .map(|refused| address(Some(refused)))
                .unwrap_or_default(),
        ]);
    }
    table.print("no transports");
}

/// The link that a transport is, if it is one.
fn link<'a>(description: &'a pb::SessionDescription, id: &str) -> Option<&'a pb::LinkTransport> {
    let transport = description.transports.iter().find(|transport| transport.id == id);
    match transport?.kind.as_ref()? {
        pb::transport::Kind::Link(link) => Some(link),
        pb::transport::Kind::Udp(_) => None,
    }
}

fn streams(endpoints: &[pb::EndpointStats]) {
    let mut table = Table::new(&[
        "endpoint",
        "",
        "codec",
        ">packets",
        ">lost",
        ">dup",
        ">late",
        ">jitter ms",
        ">max",
        ">mos",
        ">rtt ms",
        "last",
    ]);
    for endpoint in endpoints {
        let sides = [
            (
                "rx",
                &endpoint.ingress,
                endpoint.mos_ingress,
                endpoint.last_rx_unix_us,
            ),
            ("tx", &endpoint.egress, endpoint.mos_egress, 0),
        ];
        for (side, stream, mos, last) in sides {
            let stream = stream.unwrap_or_default();
            let rtt = if side == "tx" && endpoint.round_trip_ms > 0.0 {
                format!("{:.1}", endpoint.round_trip_ms)
            } else {
                String::new()
            };
            table.row([
                endpoint.node.clone(),
                side.into(),
                if stream.codec == 0 {
                    String::new()
                } else {
                    reflect::short("Codec", stream.codec)
                },
                stream.packets.to_string(),
                stream.lost.to_string(),
                stream.duplicates.to_string(),
                stream.reordered.to_string(),
                format!("{:.2}", stream.jitter_ms),
                format!("{:.2}", stream.jitter_ms_max),
                if mos > 0.0 {
                    format!("{mos:.2}")
                } else {
                    String::new()
                },
                rtt,
                if last == 0 {
                    String::new()
                } else {
                    format!("{} ago", ago(last))
                },
            ]);
        }
    }
    table.print("no endpoints");
}

/// Who hears whom: the wanted edges beside the plan that makes them true.
fn hearing(description: &pb::SessionDescription) {
    let mut table = Table::new(&["listener", "plan", "hears"]);
    for plan in &description.plans {
        let muted = |source: &String| {
            let edge = description
                .edges
                .iter()
                .find(|edge| edge.from == *source && edge.to == plan.node);
            if edge.is_some_and(|edge| edge.muted) {
                format!("{source} (muted)")
            } else {
                source.clone()
            }
        };
        let hears: Vec<String> = plan.sources.iter().map(muted).collect();
        table.row([
            plan.node.clone(),
            reflect::short("PlanKind", plan.kind),
            hears.join(", "),
        ]);
    }
    table.print("nobody listens");
}

/// What passed between taps and their programs.
fn taps(taps: &[pb::TapStats]) {
    let mut table = Table::new(&["tap", "program", ">heard", ">lost", ">played", ">waiting ms"]);
    for tap in taps {
        table.row([
            tap.node.clone(),
            if tap.attached { "attached" } else { "none" }.into(),
            tap.heard_samples.to_string(),
            tap.lost_samples.to_string(),
            tap.played_samples.to_string(),
            tap.waiting_ms.to_string(),
        ]);
    }
    table.print("no taps");
}

/// One counted thing in `stats`.
#[derive(Debug, Clone)]
struct Flow {
    name: String,
    rx_packets: u64,
    tx_packets: u64,
    /// Lost or dropped.
    missed: i64,
    note: String,
}

fn of_host(status: &pb::StatusReply) -> Vec<Flow> {
    let flow = |worker: &pb::WorkerStatus| Flow {
        name: format!("worker {}", worker.worker),
        rx_packets: worker.rx_packets,
        tx_packets: worker.tx_packets,
        missed: worker.drops as i64,
        note: format!(
            "busy {:.1} %  late p99 {} us",
            worker.busy * 100.0,
            worker.lateness_p99_us
        ),
    };
    status.workers.iter().map(flow).collect()
}

fn of_session(description: &pb::SessionDescription) -> Vec<Flow> {
    let flow = |endpoint: &pb::EndpointStats| {
        let (ingress, egress) = (
            endpoint.ingress.unwrap_or_default(),
            endpoint.egress.unwrap_or_default(),
        );
        Flow {
            name: endpoint.node.clone(),
            rx_packets: ingress.packets,
            tx_packets: egress.packets,
            missed: ingress.lost,
            note: format!(
                "jitter {:.2} ms  mos {:.2}",
                ingress.jitter_ms, endpoint.mos_ingress
            ),
        }
    };
    description.endpoint_stats.iter().map(flow).collect()
}

fn totals(flows: &[Flow]) {
    let mut table = Table::new(&["", ">rx packets", ">tx packets", ">missed", ""]);
    for flow in flows {
        let cells = [
            flow.rx_packets.to_string(),
            flow.tx_packets.to_string(),
            flow.missed.to_string(),
        ];
        table.row(
            [flow.name.clone()]
                .into_iter()
                .chain(cells)
                .chain([flow.note.clone()]),
        );
    }
    table.print("nothing to count");
}

fn rates(flows: &[Flow], earlier: &[Flow], span: Duration) {
    let mut table = Table::new(&["", ">rx /s", ">tx /s", ">missed /s", ""]);
    let per_second = |delta: f64| format!("{:.1}", delta / span.as_secs_f64());
    for flow in flows {
        let Some(then) = earlier.iter().find(|then| then.name == flow.name) else {
            continue;
        };
        table.row([
            flow.name.clone(),
            per_second(flow.rx_packets.saturating_sub(then.rx_packets) as f64),
            per_second(flow.tx_packets.saturating_sub(then.tx_packets) as f64),
            per_second((flow.missed - then.missed) as f64),
            flow.note.clone(),
        ]);
    }
    table.print("nothing to count");
}

fn watch_line(reply: &pb::WatchReply) -> String {
    use watch_reply::Kind;
    match &reply.kind {
        Some(Kind::Start(start)) => format!("-- {}:{}", start.boot_id, start.after),
        Some(Kind::Reset(reset)) => format!("-- reset, now {}: {}", reset.boot_id, reset.reason),
        Some(Kind::Snapshot(session)) => {
            let summary = session.summary.clone().unwrap_or_default();
            format!(
                "-- session {} revision {}, {} endpoints",
                summary.session, summary.revision, summary.endpoints
            )
        }
        Some(Kind::SnapshotEnd(end)) => format!("-- events after {} follow", end.sequence),
        Some(Kind::Event(event)) => event_line(event),
        Some(Kind::Mark(mark)) => format!("-- nothing up to {}", mark.sequence),
        None => "-- a message of a newer contract".into(),
    }
}

fn event_line(event: &pb::Event) -> String {
    let place = if event.node.is_empty() {
        event.session.clone()
    } else {
        format!("{}/{}", event.session, event.node)
    };
    let what = event
        .kind
        .as_ref()
        .map_or_else(|| "an event of a newer contract".into(), what);
    format!(
        "{:>6}  {}  {place:<24}  {what}",
        event.sequence,
        clock(event.time_unix_us)
    )
}

fn removed(gone: &pb::EndpointRemoved) -> String {
    let packets = |stream: Option<&pb::StreamStats>| stream.map_or(0, |stream| stream.packets);
    let stats = gone.stats.as_ref();
    format!(
        "removed: received {} packets, sent {}",
        packets(stats.and_then(|stats| stats.ingress.as_ref())),
        packets(stats.and_then(|stats| stats.egress.as_ref()))
    )
}

fn what(kind: &event::Kind) -> String {
    use event::Kind;
    match kind {
        Kind::DigitStarted(digit) => format!("digit {} began", digit.digit),
        Kind::DigitEnded(digit) => {
            let inferred = if digit.inferred { ", end inferred" } else { "" };
            format!("digit {} for {} ms{inferred}", digit.digit, digit.duration_ms)
        }
        Kind::MediaStarted(media) => {
            let codec = reflect::short("Codec", media.codec);
            format!(
                "media from {}, {codec}, payload type {}",
                address(media.from.as_ref()),
                media.payload_type
            )
        }
        Kind::MediaTimeout(timeout) if timeout.never_started => {
            format!("no media for {} ms, ever", timeout.silent_ms)
        }
        Kind::MediaTimeout(timeout) => format!("no media for {} ms", timeout.silent_ms),
        Kind::SourceLearned(learned) => {
            let which = if learned.rtcp { "rtcp" } else { "rtp" };
            let before = learned
                .previous
                .as_ref()
                .map(|p| format!(", before {}", address(Some(p))));
            format!(
                "{which} goes to {}{}",
                address(learned.address.as_ref()),
                before.unwrap_or_default()
            )
        }
        Kind::SessionEnded(ended) => format!("ended: {}", reflect::short("SessionEndReason", ended.reason)),
        Kind::PeerBye(bye) => format!("peer said bye: {}", bye.reason),
        Kind::QualityChanged(quality) => {
            format!("quality {:.2}, before {:.2}", quality.mos, quality.previous_mos)
        }
        Kind::TalkStarted(_) => "talks".into(),
        Kind::TalkStopped(talk) => format!("talked for {} ms", talk.duration_ms),
        Kind::EndpointRemoved(gone) => removed(gone),
        Kind::PlayFinished(play) => format!(
            "play finished: {}",
            reflect::short("PlayFinishReason", play.reason)
        ),
        Kind::RecordingFinalised(recording) => {
            let pb::RecordingFinalised {
                recording: name,
                segment,
                path,
                duration_ms,
                repaired,
                problem,
                ..
            } = recording;
            let repaired = if *repaired { ", repaired" } else { "" };
            let problem = if problem.is_empty() {
                String::new()
            } else {
                format!(": {problem}")
            };
            let seconds = *duration_ms as f64 / 1e3;
            format!("recording {name} segment {segment} is at {path}, {seconds:.1} s{repaired}{problem}")
        }
        Kind::DigitsCollected(collected) => format!("collected {}", collected.digits),
        Kind::OwnerChanged(owner) => format!("owned by {} under epoch {}", owner.controller, owner.epoch),
    }
}

pub(crate) fn address(address: Option<&pb::Address>) -> String {
    match address {
        None => "-".into(),
        Some(a) if a.ip.contains(':') => format!("[{}]:{}", a.ip, a.port),
        Some(a) => format!("{}:{}", a.ip, a.port),
    }
}

/// "3 min" since a time.
pub(crate) fn ago(unix_us: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros() as u64;
    span(now.saturating_sub(unix_us) / 1_000_000)
}

/// "3 min 2 s".
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// UTC time of day with milliseconds.
fn clock(unix_us: u64) -> String {
    let (seconds, ms) = (unix_us / 1_000_000 % 86_400, unix_us / 1_000 % 1_000);
    format!(
        "{:02}:{:02}:{:02}.{ms:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        assert_eq!((span(59), span(61)), ("59 s".into(), "1 min 1 s".into()));
        assert_eq!(
            (span(7_260), span(90_000)),
            ("2 h 1 min".into(), "1 d 1 h".into())
        );
        assert_eq!(clock(86_399_999_000), "23:59:59.999Z");
    }

    #[test]
    fn an_event_is_one_line() {
        let address = pb::Address {
            ip: "::1".into(),
            port: 7,
        };
        let learned = pb::SourceLearned {
            address: Some(address),
            previous: None,
            rtcp: false,
        };
        let event = pb::Event {
            sequence: 9,
            session: "s".into(),
            node: "a".into(),
            kind: Some(event::Kind::SourceLearned(learned)),
            ..Default::default()
        };
        let line = event_line(&event);
        assert!(
            line.contains("s/a") && line.ends_with("rtp goes to [::1]:7"),
            "{line}"
        );
    }
}
