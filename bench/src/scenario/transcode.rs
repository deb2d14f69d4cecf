//! The conversion scenario: RTP to SRTP and back, PCMU to Opus and back.

use std::time::Duration;

use super::capacity::search;
use super::{Lab, Plan, Which};
use crate::load::{LoadSpec, Payload};
use crate::machine::Facts;
use crate::peer::Media;
use crate::report::{Figure, Results};

/// Its steps.
pub const STEPS: [&str; 3] = ["srtp", "srtp_memory", "pcmu_opus"];

/// More than one core encrypts.
const CALLS_SATURATED: u32 = 2_600;
/// Memory is the slope between these.
const CALLS_MEMORY: (u32, u32) = (500, 1_500);
/// Packets per second of one flow while memory is read.
const MEMORY_FLOW_PPS: u32 = 5;
/// Beyond this share of packets that are missing a server is past its limit. They are counted at the listener and not one by
/// one, so that each end of the window may add or lose one of a flow's.
const LOSS_MAX: f64 = 0.005;
/// Beyond this a server is past its limit: how much later than 20 ms after the one before a packet comes, 99 %.
const GAP_LATE_P99_US_MAX: f64 = 5_000.0;
/// The search begins here.
const START_OURS: u32 = 200;
const START_PEER: u32 = 40;
const STEP: f64 = 1.05;

/// Runs the scenario.
///
/// # Errors
/// A server fails, or its audio is wrong before anything is measured.
pub fn run(plan: Plan, facts: Facts) -> anyhow::Result<Results> {
    let (rounds, quick) = (plan.rounds.max(1), plan.quick);
    let lab = Lab::new(plan)?;
    let mut facts = facts;
    facts.servers = lab.versions()?;
    facts.conditions.push(format!(
        "`srtp_cpu_us_saturated`: AES_CM_128_HMAC_SHA1_80 on one leg, {} packets/s offered",
        CALLS_SATURATED * 100,
    ));
    facts.conditions.push(format!(
        "`pcmu_opus_calls`: Opus at 8 kHz, 24 kbit/s, by mediad with complexity 5 and, as it gets busy, less down to 0, by rtpengine \
         with its own settings; after 4 s less than {} % missing, and 99 % of packets less than {} ms late against the one before",
        LOSS_MAX * 100.0,
        GAP_LATE_P99_US_MAX / 1e3,
    ));
    let mut transcode = Transcode {
        figures: [
            ("srtp_cpu_us_saturated", "us"),
            ("srtp_rss_kb_per_call", "kB"),
            ("pcmu_opus_calls", "calls"),
        ]
        .map(|(name, unit)| Figure::new(name, unit)),
        limits: [None; 2],
        quick,
        lab,
    };
    transcode.check()?;
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        transcode.round(round)?;
    }
    let measured = |figure: &Figure| !figure.ours.is_empty() || !figure.peer.is_empty();
    Ok(Results {
        scenario: "transcode".into(),
        facts,
        rounds,
        figures: transcode.figures.into_iter().filter(measured).collect(),
        sweep: Vec::new(),
        raw: transcode.lab.raw,
    })
}

/// Measures one thing on one server.
type Step = fn(&mut Transcode, Which) -> anyhow::Result<()>;

struct Transcode {
    lab: Lab,
    quick: bool,
    /// SRTP's cost, its memory, calls with Opus.
    figures: [Figure; 3],
    /// Where the search of each server ended, ours first.
    limits: [Option<u32>; 2],
}

impl Transcode {
    /// Everybody hears whom they should, before anything is measured.
    fn check(&mut self) -> anyhow::Result<()> {
        for which in [Which::OURS, Which::Peer] {
            for (step, media) in [("srtp", Media::RelaySrtp), ("pcmu_opus", Media::PcmuOpus)] {
                if self.lab.has(which) && self.lab.wants(step) {
                    self.lab.check_audio_of(which, media, CHECK_CALLS)?;
                }
            }
        }
        Ok(())
    }

    /// Every step on ours, then the peer, or the other way round in every second round.
    fn round(&mut self, round: u32) -> anyhow::Result<()> {
        let mut order = [Which::OURS, Which::Peer];
        if round % 2 == 1 {
            order.reverse();
        }
        let steps: [(&str, Step); 3] = [
            ("srtp", Self::srtp),
            ("srtp_memory", Self::memory),
            ("pcmu_opus", Self::opus),
        ];
        for (name, step) in steps {
            for which in order {
                if self.lab.has(which) && self.lab.wants(name) {
                    step(self, which)?;
                }
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

    fn srtp(&mut self, which: Which) -> anyhow::Result<()> {
        let spec = self.spec();
        let report = self
            .lab
            .measure("srtp", which, Media::RelaySrtp, CALLS_SATURATED, &spec)?;
        anyhow::ensure!(
            report.unauthentic * 1_000 < report.arrived,
            "{which:?}: {} packets were not authentic",
            report.unauthentic
        );
        self.book(0, which, report.cpu_us_per_packet());
        self.remark(0, which, "kpps delivered", report.arrived_pps() / 1e3);
        self.remark(0, which, "loss %", report.loss() * 100.0);
        self.remark(0, which, "core", report.server_core_share());
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
        let mut calls = self.lab.create(server.as_mut(), 0..few, Media::RelaySrtp)?;
        let first = LoadSpec {
            calls: calls.clone(),
            ..spec.clone()
        };
        self.lab.load("srtp_memory", server.as_ref(), first)?;
        let before = server.process().rss_kb()?;
        let more = self.lab.create(server.as_mut(), few..many, Media::RelaySrtp)?;
        calls = more;
        self.lab
            .load("srtp_memory", server.as_ref(), LoadSpec { calls, ..spec })?;
        let after = server.process().rss_kb()?;
        let slope = after.saturating_sub(before) as f64 / f64::from(many - few);
        self.book(1, which, slope);
        Ok(())
    }

    fn opus(&mut self, which: Which) -> anyhow::Result<()> {
        let place = usize::from(!which.is_ours());
        let start = if which.is_ours() { START_OURS } else { START_PEER };
        let step = if self.quick { 1.3 } else { STEP };
        let spec = LoadSpec {
            payload: Payload::Tone,
            // All calls come at once: mediad needs a moment to find how much effort it has time for.
            warm: Duration::from_millis(if self.quick { 500 } else { 4_000 }),
            ..self.spec()
        };
        let (lab, mut last_fit) = (&mut self.lab, None);
        let found = search(self.limits[place], start, step, |calls| {
            let report = lab.measure("pcmu_opus", which, Media::PcmuOpus, calls, &spec)?;
            let fits = report.loss() < LOSS_MAX && report.gap_late_us.p99 < GAP_LATE_P99_US_MAX;
            if fits {
                last_fit = Some(report);
            }
            Ok(fits)
        })?;
        self.limits[place] = Some(found.max(1));
        self.book(2, which, f64::from(found));
        if let Some(report) = last_fit {
            self.remark(2, which, "gap late p99 ms", report.gap_late_us.p99 / 1e3);
            self.remark(2, which, "core", report.server_core_share());
        }
        Ok(())
    }

    fn book(&mut self, at: usize, which: Which, value: f64) {
        let figure = &mut self.figures[at];
        match which.is_ours() {
            true => figure.ours.push(value),
            false => figure.peer.push(value),
        }
    }

    /// Something to be read beside a figure, on either side.
    fn remark(&mut self, at: usize, which: Which, what: &str, value: f64) {
        let side = if which.is_ours() { "ours" } else { "peer" };
        let remarks = &mut self.figures[at].remarks;
        remarks.entry(format!("{side} {what}")).or_default().push(value);
    }
}

/// Calls of the audio check: fewer than the weaker server carries with Opus.
const CHECK_CALLS: u32 = 20;
