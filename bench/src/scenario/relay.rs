//! The relay scenario: CPU per packet, added delay, memory per call, G.711 conversion, session set-up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::capacity::{CALLS_MAX, CapacitySearch, DELAY_P99_US_MAX, LOSS_MAX};
use super::{Lab, Plan, Which};
use crate::load::{LoadReport, LoadSpec};
use crate::machine::Facts;
use crate::peer::Media;
use crate::report::{Figure, Results, SweepPoint, median};

/// Its steps.
pub const STEPS: [&str; 7] = [
    "100kpps",
    "saturated",
    "delay",
    "memory",
    "setup",
    "pcmu_pcma",
    "sweep",
];

/// 100 packets/s per call.
const CALLS_100_KPPS: u32 = 1_000;
/// More than one core relays.
const CALLS_SATURATED: u32 = 2_600;
const CALLS_DELAY: u32 = 1_150;
/// Memory is the slope between these.
const CALLS_MEMORY: (u32, u32) = (1_000, 4_000);
/// Packets per second of one flow while memory is read: all calls carry media, no core is full.
const MEMORY_FLOW_PPS: u32 = 5;
const CHURN_CALLS: u32 = 4_000;
const SWEEP: [u32; 9] = [100, 250, 500, 750, 1_000, 1_250, 1_600, 2_000, 2_400];
/// A sweep is a picture, not a figure: three rounds draw it.
const SWEEP_ROUNDS: u32 = 3;
/// The latency budget at which DESIGN's figure for 100 k packets/s is stated.
const WORKING_BUDGET_US: u64 = 500;

/// Runs the scenario.
///
/// # Errors
/// A server fails, or its audio is wrong before anything is measured.
pub fn run(plan: Plan, facts: Facts) -> anyhow::Result<Results> {
    let (rounds, quick) = (plan.rounds.max(1), plan.quick);
    let mut lab = Lab::new(plan)?;
    let mut facts = facts;
    facts.servers = lab.versions()?;
    facts.conditions.push(format!(
        "`pcmu_pcma_calls`: less than {} % lost and p99 below {} ms; {CALLS_MAX} is the generator's own limit",
        LOSS_MAX * 100.0,
        DELAY_P99_US_MAX / 1e3,
    ));
    facts.conditions.push(format!(
        "`relay_cpu_us_saturated`: {} packets/s offered; `relay_cpu_us_100kpps`: mediad with a latency budget of \
         {WORKING_BUDGET_US} us, elsewhere its default",
        CALLS_SATURATED * 100,
    ));
    for which in [Which::OURS, Which::Peer]
        .into_iter()
        .filter(|which| lab.has(*which))
        .collect::<Vec<_>>()
    {
        for media in [Media::Relay, Media::PcmuPcma] {
            lab.check_audio(which, media)?;
        }
    }
    let mut relay = Relay::new(lab, quick);
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        relay.round(round)?;
    }
    let sweep = relay.sweep_medians();
    let figures = relay.finished_figures();
    Ok(Results {
        scenario: "relay".into(),
        facts,
        rounds,
        figures,
        sweep,
        raw: relay.lab.raw,
    })
}

/// Measures one thing on one server.
type Step = fn(&mut Relay, Which) -> anyhow::Result<()>;

struct Relay {
    lab: Lab,
    quick: bool,
    figures: BTreeMap<&'static str, Figure>,
    /// Order of appearance.
    names: Vec<&'static str>,
    searches: [CapacitySearch; 2],
    sweep: Vec<SweepPoint>,
}

impl Relay {
    fn new(lab: Lab, quick: bool) -> Relay {
        Relay {
            lab,
            quick,
            figures: BTreeMap::new(),
            names: Vec::new(),
            searches: [
                CapacitySearch::new(Which::OURS, 1_000),
                CapacitySearch::new(Which::Peer, 200),
            ],
            sweep: Vec::new(),
        }
    }

    /// Every step on ours, then the peer, or the other way round in every second round.
    fn round(&mut self, round: u32) -> anyhow::Result<()> {
        let mut order = [Which::OURS, Which::Peer];
        if round % 2 == 1 {
            order.reverse();
        }
        let order: Vec<Which> = order.into_iter().filter(|which| self.lab.has(*which)).collect();
        let steps: [(&str, Step); 6] = [
            ("100kpps", Relay::working_load),
            ("saturated", Relay::saturated),
            ("delay", Relay::delay),
            ("memory", Relay::memory),
            ("setup", Relay::setup),
            ("pcmu_pcma", Relay::conversion),
        ];
        for (name, step) in steps {
            if self.lab.wants(name) {
                for which in &order {
                    step(self, *which)?;
                }
            }
        }
        if self.lab.wants("sweep") && round < SWEEP_ROUNDS {
            self.sweep_direct()?;
            for which in order {
                self.sweep(which)?;
            }
        }
        Ok(())
    }

    fn spec(&self) -> LoadSpec {
        let (warm, window) = if self.quick { (300, 500) } else { (700, 2_000) };
        LoadSpec {
            warm: Duration::from_millis(warm),
            window: Duration::from_millis(window),
            ..LoadSpec::new(Vec::new())
        }
    }

    fn working_load(&mut self, which: Which) -> anyhow::Result<()> {
        let budgeted = match which {
            Which::Ours { .. } => Which::Ours {
                budget_us: Some(WORKING_BUDGET_US),
            },
            Which::Peer => Which::Peer,
        };
        let report = self
            .lab
            .measure("100kpps", budgeted, Media::Relay, CALLS_100_KPPS, &self.spec())?;
        self.book("relay_cpu_us_100kpps", "us", which, report.cpu_us_per_packet());
        self.remark("relay_cpu_us_100kpps", which, "p99 ms", report.delay_us.p99 / 1e3);
        Ok(())
    }

    fn saturated(&mut self, which: Which) -> anyhow::Result<()> {
        let report = self
            .lab
            .measure("saturated", which, Media::Relay, CALLS_SATURATED, &self.spec())?;
        self.book("relay_cpu_us_saturated", "us", which, report.cpu_us_per_packet());
        self.remark(
            "relay_cpu_us_saturated",
            which,
            "kpps delivered",
            report.arrived_pps() / 1e3,
        );
        self.remark("relay_cpu_us_saturated", which, "loss %", report.loss() * 100.0);
        self.remark(
            "relay_cpu_us_saturated",
            which,
            "core",
            report.server_core_share(),
        );
        Ok(())
    }

    fn delay(&mut self, which: Which) -> anyhow::Result<()> {
        let spec = self.spec();
        let direct = self.lab.direct("delay", CALLS_DELAY, &spec)?;
        let report = self
            .lab
            .measure("delay", which, Media::Relay, CALLS_DELAY, &spec)?;
        let (p50, p99) = added_ms(&report, &direct);
        self.book("relay_added_p50_ms_1150", "ms", which, p50);
        self.book("relay_added_p99_ms_1150", "ms", which, p99);
        self.book("relay_cpu_us_1150", "us", which, report.cpu_us_per_packet());
        self.remark(
            "relay_added_p99_ms_1150",
            which,
            "cpu us/packet",
            report.cpu_us_per_packet(),
        );
        self.remark(
            "relay_added_p99_ms_1150",
            which,
            "p99.9 ms",
            report.delay_us.p999 / 1e3,
        );
        Ok(())
    }

    fn memory(&mut self, which: Which) -> anyhow::Result<()> {
        let mut server = self.lab.start(which)?;
        let spec = LoadSpec {
            flow_pps: MEMORY_FLOW_PPS,
            warm: Duration::from_millis(500),
            ..self.spec()
        };
        let (few, many) = CALLS_MEMORY;
        let mut calls = server.create(0..few, Media::Relay, &self.lab.sides)?;
        self.lab.load(
            "memory",
            server.as_ref(),
            LoadSpec {
                calls: calls.clone(),
                ..spec.clone()
            },
        )?;
        let before = server.process().rss_kb()?;
        calls.extend(server.create(few..many, Media::Relay, &self.lab.sides)?);
        let report = self
            .lab
            .load("memory", server.as_ref(), LoadSpec { calls, ..spec })?;
        anyhow::ensure!(
            report.loss() < 0.01,
            "{} lost media while memory was read",
            server.name()
        );
        let after = server.process().rss_kb()?;
        let slope = after.saturating_sub(before) as f64 / f64::from(many - few);
        self.book("relay_rss_kb_per_call", "kB", which, slope);
        self.remark(
            "relay_rss_kb_per_call",
            which,
            "MB at 4000",
            after as f64 / 1024.0,
        );
        Ok(())
    }

    fn setup(&mut self, which: Which) -> anyhow::Result<()> {
        let mut server = self.lab.start(which)?;
        let idle = Duration::from_millis(if self.quick { 300 } else { 1_500 });
        let before = server.process().cpu_ns()?;
        std::thread::sleep(idle);
        let share = (server.process().cpu_ns()? - before) as f64 / idle.as_nanos() as f64;
        self.book("idle_cpu_percent", "%", which, share * 100.0);
        let count = if self.quick { CHURN_CALLS / 4 } else { CHURN_CALLS };
        // What the first calls cost once only (memory, caches) is not theirs.
        server.churn(count / 4, &self.lab.sides)?;
        let churn = server.churn(count, &self.lab.sides)?;
        self.book("session_setup_cpu_us", "us", which, churn.cpu_us_per_call());
        self.book("session_setup_per_s", "1/s", which, churn.calls_per_second());
        Ok(())
    }

    fn conversion(&mut self, which: Which) -> anyhow::Result<()> {
        let search = &mut self.searches[usize::from(which == Which::Peer)];
        let calls = search.round(&mut self.lab, self.quick)?;
        self.book("pcmu_pcma_calls", "calls", which, f64::from(calls));
        Ok(())
    }

    fn sweep_direct(&mut self) -> anyhow::Result<()> {
        let spec = LoadSpec {
            window: Duration::from_millis(500),
            warm: Duration::from_millis(200),
            ..self.spec()
        };
        for calls in SWEEP {
            let report = self.lab.direct("sweep", calls, &spec)?;
            self.sweep.push(point(
                "direct",
                calls,
                &report,
                (report.delay_us.p50 / 1e3, report.delay_us.p99 / 1e3),
            ));
        }
        Ok(())
    }

    /// One process, more and more calls.
    fn sweep(&mut self, which: Which) -> anyhow::Result<()> {
        let spec = LoadSpec {
            window: self.spec().window * 3 / 4,
            ..self.spec()
        };
        let mut server = self.lab.start(which)?;
        let mut calls = Vec::new();
        for count in SWEEP {
            calls.extend(server.create(calls.len() as u32..count, Media::Relay, &self.lab.sides)?);
            let report = self.lab.load(
                "sweep",
                server.as_ref(),
                LoadSpec {
                    calls: calls.clone(),
                    ..spec.clone()
                },
            )?;
            let direct = self
                .sweep
                .iter()
                .rfind(|one| one.server == "direct" && one.calls == count);
            let machine_ms = direct.map_or(0.0, |one| one.added_p50_ms);
            let added = |us: f64| (us / 1e3 - machine_ms).max(0.0);
            let added = (added(report.delay_us.p50), added(report.delay_us.p99));
            self.sweep.push(point(server.name(), count, &report, added));
        }
        Ok(())
    }

    fn book(&mut self, name: &'static str, unit: &str, which: Which, value: f64) {
        let figure = self.figures.entry(name).or_insert_with(|| {
            self.names.push(name);
            Figure::new(name, unit)
        });
        if which.is_ours() {
            figure.ours.push(value)
        } else {
            figure.peer.push(value)
        }
    }

    /// Something to be read beside a figure, on either side.
    fn remark(&mut self, name: &'static str, which: Which, what: &str, value: f64) {
        let side = if which.is_ours() { "ours" } else { "peer" };
        let figure = self.figures.get_mut(name).expect("a remark follows its figure");
        let label = format!("{side} {what}");
        figure.remarks.entry(label).or_default().push(value);
    }

    fn finished_figures(&mut self) -> Vec<Figure> {
        self.names
            .iter()
            .filter_map(|name| self.figures.remove(name))
            .collect()
    }

    /// Medians of each point over the rounds.
    fn sweep_medians(&self) -> Vec<SweepPoint> {
        let mut points: BTreeMap<(&str, u32), Vec<&SweepPoint>> = BTreeMap::new();
        for one in &self.sweep {
            points.entry((&one.server, one.calls)).or_default().push(one);
        }
        let middle = |all: &[&SweepPoint], of: fn(&SweepPoint) -> f64| {
            median(&all.iter().map(|one| of(one)).collect::<Vec<_>>()).unwrap_or_default()
        };
        points
            .into_iter()
            .map(|((server, calls), all)| SweepPoint {
                server: server.to_owned(),
                calls,
                pps: middle(&all, |one| one.pps),
                added_p50_ms: middle(&all, |one| one.added_p50_ms),
                added_p99_ms: middle(&all, |one| one.added_p99_ms),
                cpu_us: middle(&all, |one| one.cpu_us),
                core: middle(&all, |one| one.core),
                loss: middle(&all, |one| one.loss),
            })
            .collect()
    }
}

/// Delay a server adds: what its packets took without the median of the machine alone.
fn added_ms(report: &LoadReport, direct: &LoadReport) -> (f64, f64) {
    let added = |us: f64| ((us - direct.delay_us.p50) / 1e3).max(0.0);
    (added(report.delay_us.p50), added(report.delay_us.p99))
}

fn point(
    server: &str,
    calls: u32,
    report: &LoadReport,
    (added_p50_ms, added_p99_ms): (f64, f64),
) -> SweepPoint {
    SweepPoint {
        server: server.to_owned(),
        calls,
        pps: report.arrived_pps(),
        added_p50_ms,
        added_p99_ms,
        cpu_us: report.cpu_us_per_packet(),
        core: report.server_core_share(),
        loss: report.loss(),
    }
}
