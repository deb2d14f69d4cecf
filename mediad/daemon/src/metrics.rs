//! The Prometheus text exposition (format 0.0.4), written by hand: every figure already stands in a counter.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::Ordering::Relaxed,
};

use media_engine::command::DropReason;
use media_net::Histogram;
use proto::mediad::v1 as pb;

use crate::{
    counters::{Figures, Lateness, TX_DROP_REASONS, WAKE_REASONS},
    grpc::Tally,
    recordings::Counters,
};

/// The whole page. `requests` is (waiting, capacity) of the host thread's queue, `reloads` (done, failed).
pub(crate) fn page(
    status: &pb::StatusReply,
    workers: &[Figures],
    tally: &Tally,
    requests: (usize, usize),
    reloads: (u64, u64),
    recordings: &Counters,
) -> String {
    let mut page = Page(String::with_capacity(16 << 10));
    host(&mut page, status);
    reloaded(&mut page, reloads);
    queues(&mut page, status, requests);
    interfaces(&mut page, &status.interfaces);
    packets(&mut page, workers);
    threads(&mut page, status, workers);
    rounds(&mut page, workers);
    times(&mut page, workers);
    recorded(&mut page, recordings);
    calls(&mut page, tally);
    page.0
}

fn host(page: &mut Page, status: &pb::StatusReply) {
    page.family(
        "mediad_info",
        "gauge",
        "Version, boot id and socket backend of this process.",
    );
    let backend = status.backend.rsplit("using ").next().unwrap_or_default();
    let labels = [
        ("version", status.version.as_str()),
        ("boot_id", &status.boot_id),
        ("backend", backend),
    ];
    page.sample("mediad_info", &labels, 1);
    page.single(
        "mediad_start_time_seconds",
        "gauge",
        "When the process started, Unix time.",
        status.started_unix_us / 1_000_000,
    );
    let draining = u8::from(status.state() == pb::HostState::Draining);
    page.single(
        "mediad_draining",
        "gauge",
        "1 while no new sessions are taken.",
        draining,
    );
    page.single(
        "mediad_sessions",
        "gauge",
        "Sessions in service.",
        status.sessions,
    );
    page.single(
        "mediad_sessions_max",
        "gauge",
        "Sessions at most (limits.sessions_max).",
        status.sessions_max,
    );
    page.single(
        "mediad_endpoints",
        "gauge",
        "Endpoints of all sessions.",
        status.endpoints,
    );
    page.single(
        "mediad_load",
        "gauge",
        "Share of the busiest worker's time, 0 to 1.",
        status.load,
    );
}

fn reloaded(page: &mut Page, (ok, failed): (u64, u64)) {
    let name = "mediad_reloads_total";
    page.family(name, "counter", "Reloads of the configuration, by result.");
    page.sample(name, &[("result", "ok")], ok);
    page.sample(name, &[("result", "failed")], failed);
}

fn queues(page: &mut Page, status: &pb::StatusReply, (waiting, capacity): (usize, usize)) {
    page.single(
        "mediad_events_total",
        "counter",
        "Events numbered since the start.",
        status.event_next.saturating_sub(1),
    );
    let kept = status.event_next.saturating_sub(status.event_oldest);
    page.single(
        "mediad_events_kept",
        "gauge",
        "Events a watcher can resume from.",
        kept,
    );
    page.single(
        "mediad_requests_waiting",
        "gauge",
        "Requests waiting for the host thread.",
        waiting,
    );
    page.single(
        "mediad_requests_max",
        "gauge",
        "Requests that may wait (limits.requests).",
        capacity,
    );
    page.single(
        "mediad_controllers",
        "gauge",
        "Controllers with a lease.",
        status.controllers.len(),
    );
}

fn interfaces(page: &mut Page, interfaces: &[pb::InterfaceStatus]) {
    page.family(
        "mediad_port_pairs",
        "gauge",
        "RTP/RTCP port pairs of an interface by state.",
    );
    for interface in interfaces {
        let states = [
            ("used", interface.ports_used),
            ("quarantined", interface.ports_quarantined),
            ("free", interface.ports_free),
        ];
        for (state, count) in states {
            page.sample(
                "mediad_port_pairs",
                &[("interface", &interface.name), ("state", state)],
                count,
            );
        }
    }
}

fn packets(page: &mut Page, workers: &[Figures]) {
    for (name, help, of) in [
        (
            "mediad_packets_total",
            "Datagrams by direction.",
            [|f: &Figures| f.rx_packets, |f: &Figures| f.tx_packets],
        ),
        (
            "mediad_bytes_total",
            "UDP payload bytes by direction.",
            [|f: &Figures| f.rx_bytes, |f: &Figures| f.tx_bytes],
        ),
    ] {
        page.family(name, "counter", help);
        for (worker, figures) in numbered(workers) {
            page.sample(name, &[("worker", &worker), ("direction", "rx")], of[0](figures));
            page.sample(name, &[("worker", &worker), ("direction", "tx")], of[1](figures));
        }
    }
    page.family(
        "mediad_drops_total",
        "counter",
        "Datagrams dropped on arrival, by reason.",
    );
    for (worker, figures) in numbered(workers) {
        for (reason, count) in DropReason::ALL.iter().zip(figures.drops) {
            page.sample(
                "mediad_drops_total",
                &[("worker", &worker), ("reason", reason.label())],
                count,
            );
        }
    }
    page.family(
        "mediad_tx_drops_total",
        "counter",
        "Datagrams the kernel did not send, by reason.",
    );
    for (worker, figures) in numbered(workers) {
        for (reason, count) in TX_DROP_REASONS.iter().zip(figures.tx_drops) {
            page.sample(
                "mediad_tx_drops_total",
                &[("worker", &worker), ("reason", reason)],
                count,
            );
        }
    }
    page.per_worker(
        "mediad_rx_errors_total",
        "counter",
        "Errors met while receiving.",
        workers,
        |f| f.rx_errors,
    );
}

fn threads(page: &mut Page, status: &pb::StatusReply, workers: &[Figures]) {
    page.family(
        "mediad_worker_cpu_seconds_total",
        "counter",
        "CPU time of a worker.",
    );
    for (worker, figures) in numbered(workers) {
        page.sample(
            "mediad_worker_cpu_seconds_total",
            &[("worker", &worker)],
            figures.cpu_ns as f64 / 1e9,
        );
    }
    page.family(
        "mediad_worker_busy",
        "gauge",
        "Share of the last second a worker spent working, 0 to 1.",
    );
    page.family(
        "mediad_worker_busy_max",
        "gauge",
        "Up to which share of its time a worker takes new sessions (limits.busy_percent_max, and less after it was late with less).",
    );
    page.family("mediad_worker_sessions", "gauge", "Sessions of a worker.");
    page.family(
        "mediad_mailbox_used",
        "gauge",
        "Commands waiting in a worker's mailbox.",
    );
    page.family(
        "mediad_mailbox_size",
        "gauge",
        "Commands that fit into a worker's mailbox (limits.mailbox).",
    );
    page.family(
        "mediad_opus_complexity",
        "gauge",
        "Effort of a worker's Opus encoders, 0-10; load lowers it (opus.complexity, opus.complexity_min).",
    );
    for told in &status.workers {
        let worker = told.worker.to_string();
        let labels = [("worker", worker.as_str())];
        page.sample("mediad_worker_busy", &labels, told.busy);
        page.sample("mediad_worker_busy_max", &labels, told.busy_max);
        page.sample("mediad_worker_sessions", &labels, told.sessions);
        page.sample("mediad_opus_complexity", &labels, told.opus_complexity);
        page.sample("mediad_mailbox_used", &labels, told.mailbox_used);
        page.sample("mediad_mailbox_size", &labels, told.mailbox_size);
    }
}

fn rounds(page: &mut Page, workers: &[Figures]) {
    page.family(
        "mediad_wakeups_total",
        "counter",
        "Ends of a worker's sleep, by reason.",
    );
    for (worker, figures) in numbered(workers) {
        for (reason, count) in WAKE_REASONS.iter().zip(figures.wakes) {
            page.sample(
                "mediad_wakeups_total",
                &[("worker", &worker), ("reason", reason)],
                count,
            );
        }
    }
    page.per_worker(
        "mediad_drains_total",
        "counter",
        "Rounds of reading all sockets.",
        workers,
        |f| f.drains,
    );
    page.per_worker(
        "mediad_drains_cut_total",
        "counter",
        "Rounds cut at io.drain_max.",
        workers,
        |f| f.drains_cut,
    );
    page.per_worker("mediad_sockets", "gauge", "Sockets registered.", workers, |f| {
        f.sockets
    });
    page.per_worker(
        "mediad_events_lost_total",
        "counter",
        "Events lost under load.",
        workers,
        |f| f.events_lost,
    );
    page.per_worker(
        "mediad_register_failures_total",
        "counter",
        "Sockets the kernel refused.",
        workers,
        |f| f.register_failures,
    );
    page.per_worker(
        "mediad_late_prompt_ticks_total",
        "counter",
        "Ticks of 20 ms in which a player was silent because its file had not been read in time.",
        workers,
        |f| f.late_prompt_ticks,
    );
}

/// How workers keep their time.
fn times(page: &mut Page, workers: &[Figures]) {
    page.family(
        "mediad_tick_seconds",
        "gauge",
        "How long a worker's ticks are (io.latency_budget_us, io.latency_budget_busy_us); 0: each packet wakes it.",
    );
    for (worker, figures) in numbered(workers) {
        let labels = [("worker", worker.as_str())];
        page.sample("mediad_tick_seconds", &labels, figures.tick_ns as f64 / 1e9);
    }
    let late = "mediad_worker_late_seconds_total";
    page.family(
        late,
        "counter",
        "Time in which what came to a worker had to wait for more than limits.late_ms_max.",
    );
    for (worker, figures) in numbered(workers) {
        page.sample(late, &[("worker", &worker)], figures.late_ns as f64 / 1e9);
    }
    let tick = "How much later than its tick a worker woke.";
    page.histogram("mediad_tick_lateness_seconds", tick, workers, |f| {
        &f.tick_lateness
    });
    let deadline = "How much later than a deadline a worker began.";
    page.histogram("mediad_deadline_lateness_seconds", deadline, workers, |f| {
        &f.deadline_lateness
    });
}

fn recorded(page: &mut Page, counters: &Counters) {
    page.single(
        "mediad_recordings",
        "gauge",
        "Recordings under way, or ended and not sealed yet.",
        counters.open.load(Relaxed),
    );
    let ended = "mediad_recordings_ended_total";
    page.family(ended, "counter", "Recordings that ended, by how.");
    let with_problem = counters.with_problem.load(Relaxed);
    page.sample(ended, &[("how", "finalised")], counters.finalised.load(Relaxed));
    page.sample(ended, &[("how", "repaired")], counters.repaired.load(Relaxed));
    page.single(
        "mediad_recordings_with_problem_total",
        "counter",
        "Recordings that ended early or lack something.",
        with_problem,
    );
    page.single(
        "mediad_recording_bytes_total",
        "counter",
        "Bytes of audio files written.",
        counters.bytes.load(Relaxed),
    );
    page.single(
        "mediad_recording_lost_total",
        "counter",
        "Packets and frames not recorded because the disk did not keep up.",
        counters.lost.load(Relaxed),
    );
    page.single(
        "mediad_recording_errors_total",
        "counter",
        "Writes of recordings that failed.",
        counters.errors.load(Relaxed),
    );
}

fn calls(page: &mut Page, tally: &Tally) {
    page.family(
        "mediad_grpc_calls_total",
        "counter",
        "gRPC calls by method and code; streams when they open.",
    );
    for (method, code, count) in tally.calls() {
        page.sample(
            "mediad_grpc_calls_total",
            &[("method", method), ("code", code)],
            count,
        );
    }
    page.family(
        "mediad_commands_total",
        "counter",
        "Commands of control streams by kind and code.",
    );
    for (kind, code, count) in tally.commands() {
        page.sample(
            "mediad_commands_total",
            &[("command", kind), ("code", code)],
            count,
        );
    }
}

fn numbered(workers: &[Figures]) -> impl Iterator<Item = (String, &Figures)> {
    workers
        .iter()
        .enumerate()
        .map(|(worker, figures)| (worker.to_string(), figures))
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            self.line(format_args!("{open}{label}=\"{text}\""));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{close} {value}\n"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn per_worker(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        workers: &[Figures],
        of: fn(&Figures) -> u64,
    ) {
        self.family(name, kind, help);
        for (worker, figures) in numbered(workers) {
            self.sample(name, &[("worker", &worker)], of(figures));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, workers: &[Figures], of: fn(&Figures) -> &Lateness) {
        self.family(name, "histogram", help);
        for (worker, figures) in numbered(workers) {
            let lateness = of(figures);
            let mut sum = 0;
            for (index, count) in lateness.buckets[..Histogram::BUCKETS - 1].iter().enumerate() {
                sum += count;
                let bound = ((1u64 << index) as f64 / 1e6).to_string();
                self.sample(
                    &format!("{name}_bucket"),
                    &[("worker", &worker), ("le", &bound)],
                    sum,
                );
            }
            self.sample(
                &format!("{name}_bucket"),
                &[("worker", &worker), ("le", "+Inf")],
                lateness.count(),
            );
            self.sample(
                &format!("{name}_sum"),
                &[("worker", &worker)],
                lateness.sum_ns as f64 / 1e9,
            );
            self.sample(&format!("{name}_count"), &[("worker", &worker)], lateness.count());
        }
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a String does not fail");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sample_page() -> String {
        let mut figures = Figures {
            rx_packets: 7,
            cpu_ns: 1_500_000_000,
            tick_ns: 250_000,
            late_ns: 500_000_000,
            ..Figures::default()
        };
        figures.drops[1] = 3;
        figures.tick_lateness.buckets[2] = 4;
        figures.tick_lateness.buckets[21] = 1;
        let status = pb::StatusReply {
            version: "1\"2".into(),
            interfaces: vec![pb::InterfaceStatus {
                name: "inside".into(),
                ports_free: 9,
                ..Default::default()
            }],
            workers: vec![pb::WorkerStatus {
                mailbox_size: 64,
                opus_complexity: 3,
                busy_max: 0.75,
                ..Default::default()
            }],
            event_next: 5,
            ..Default::default()
        };
        page(
            &status,
            &[figures],
            &Tally::default(),
            (0, 16),
            (2, 1),
            &Counters::default(),
        )
    }

    #[test]
    fn figures_stand_on_the_page() {
        let page = sample_page();
        for line in [
            "mediad_packets_total{worker=\"0\",direction=\"rx\"} 7",
            "mediad_drops_total{worker=\"0\",reason=\"wrong_source\"} 3",
            "mediad_worker_cpu_seconds_total{worker=\"0\"} 1.5",
            "mediad_opus_complexity{worker=\"0\"} 3",
            "mediad_tick_seconds{worker=\"0\"} 0.00025",
            "mediad_worker_late_seconds_total{worker=\"0\"} 0.5",
            "mediad_worker_busy_max{worker=\"0\"} 0.75",
            "mediad_port_pairs{interface=\"inside\",state=\"free\"} 9",
            "mediad_tick_lateness_seconds_bucket{worker=\"0\",le=\"0.000004\"} 4",
            "mediad_tick_lateness_seconds_bucket{worker=\"0\",le=\"+Inf\"} 5",
            "mediad_tick_lateness_seconds_count{worker=\"0\"} 5",
            "mediad_events_total 4",
            "mediad_reloads_total{result=\"ok\"} 2",
            "mediad_reloads_total{result=\"failed\"} 1",
            "mediad_info{version=\"1\\\"2\",boot_id=\"\",backend=\"\"} 1",
        ] {
            assert!(
                page.lines().any(|have| have == line),
                "{line} is missing in\n{page}"
            );
        }
    }

    #[test]
    fn every_family_is_declared_once_and_every_sample_belongs_to_one() {
        let page = sample_page();
        let declared: Vec<&str> = page
            .lines()
            .filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        assert_eq!(declared.len(), declared.iter().collect::<BTreeSet<_>>().len());
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(declared.contains(&name) || declared.contains(&family), "{line}");
        }
    }
}
