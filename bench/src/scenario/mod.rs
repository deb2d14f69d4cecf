//! Scenarios: what is run on which server, in which order, and which figure comes of it.

mod capacity;
pub mod mix;
pub mod relay;
pub mod sip;
pub mod transcode;

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::load::{self, Call, LoadReport, LoadSpec, Sides};
use crate::machine::Observed;
use crate::peer::mediad::{self, Mediad};
use crate::peer::rtpengine::{self, Rtpengine};
use crate::peer::{Media, Server};

/// First UDP port of the generator's own sockets.
const GENERATOR_PORT: u16 = 20_000;
/// Calls of the audio check before anything is measured.
const CHECK_CALLS: u32 = 60;

/// What a scenario needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Our server; `None` measures the peer alone.
    pub mediad: Option<PathBuf>,
    /// The peer; `None` measures ours alone.
    pub rtpengine: Option<PathBuf>,
    /// Rounds; each measures every server once.
    pub rounds: u32,
    /// One short round, to see that everything works.
    pub quick: bool,
    /// Steps wanted; empty means all.
    pub only: Vec<String>,
    /// Further settings of `mediad`, `section.key=value`.
    pub settings: Vec<String>,
    /// Sockets per side of the generator.
    pub sockets_per_side: u16,
    /// Where logs of the servers go.
    pub dir: PathBuf,
}

impl Plan {
    /// Whether a step is wanted.
    #[must_use]
    pub fn wants(&self, step: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| one == step)
    }
}

/// Which server, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// `mediad` with this latency budget, or its default.
    Ours {
        /// `io.latency_budget_us`.
        budget_us: Option<u64>,
    },
    /// rtpengine.
    Peer,
}

impl Which {
    /// Ours with the default budget.
    pub const OURS: Which = Which::Ours { budget_us: None };

    fn is_ours(self) -> bool {
        matches!(self, Which::Ours { .. })
    }
}

/// The bench at work: the generator's sockets, the plan, and every report so far.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    sides: Sides,
    raw: Vec<Value>,
}

impl Lab {
    /// Opens the generator's sockets.
    ///
    /// # Errors
    /// A port is taken.
    pub fn new(plan: Plan) -> anyhow::Result<Lab> {
        let sides = Sides::open(Ipv4Addr::LOCALHOST, GENERATOR_PORT, plan.sockets_per_side)?;
        Ok(Lab {
            plan,
            sides,
            raw: Vec::new(),
        })
    }

    /// Whether `which` is part of the plan.
    #[must_use]
    pub fn has(&self, which: Which) -> bool {
        if which.is_ours() {
            self.plan.mediad.is_some()
        } else {
            self.plan.rtpengine.is_some()
        }
    }

    /// Whether a step is wanted.
    #[must_use]
    pub fn wants(&self, step: &str) -> bool {
        self.plan.wants(step)
    }

    /// Starts a fresh server.
    ///
    /// # Errors
    /// It is not part of the plan or does not come up.
    pub fn start(&self, which: Which) -> anyhow::Result<Box<dyn Server>> {
        match which {
            Which::Ours { budget_us } => Ok(Box::new(self.start_mediad(budget_us)?)),
            Which::Peer => {
                let program = self
                    .plan
                    .rtpengine
                    .clone()
                    .context("rtpengine is not part of this plan")?;
                let dir = self.plan.dir.clone();
                Ok(Box::new(Rtpengine::start(&rtpengine::Options {
                    program,
                    dir,
                    ..Default::default()
                })?))
            }
        }
    }

    pub(crate) fn start_mediad(&self, latency_budget_us: Option<u64>) -> anyhow::Result<Mediad> {
        let options = self.mediad()?;
        Mediad::start(&mediad::Options {
            latency_budget_us,
            ..options
        })
    }

    /// With settings of a step, which those of the plan overrule.
    pub(crate) fn start_mediad_with(&self, settings: &[String]) -> anyhow::Result<Mediad> {
        let options = self.mediad()?;
        Mediad::start(&mediad::Options {
            settings: [settings, &options.settings].concat(),
            ..options
        })
    }

    fn mediad(&self) -> anyhow::Result<mediad::Options> {
        let program = self.plan.mediad.clone();
        Ok(mediad::Options {
            program: program.context("mediad is not part of this plan")?,
            settings: self.plan.settings.clone(),
            dir: self.plan.dir.clone(),
            ..Default::default()
        })
    }

    /// Where a step may keep files.
    pub(crate) fn directory(&self) -> &Path {
        &self.plan.dir
    }

    /// Versions of the servers, as they name themselves.
    ///
    /// # Errors
    /// One does not start.
    pub fn versions(&self) -> anyhow::Result<Vec<String>> {
        let mut versions = Vec::new();
        if self.has(Which::OURS) {
            versions.push(self.start_mediad(None)?.describe()?);
        }
        if let Some(program) = &self.plan.rtpengine {
            let version = crate::machine::output(&program.to_string_lossy(), &["--version"]);
            versions.push(format!("rtpengine {}", version.trim_start_matches("Version: ")));
        }
        Ok(versions)
    }

    /// Sets `count` calls up on a fresh server and loads them.
    ///
    /// # Errors
    /// The server fails.
    pub fn measure(
        &mut self,
        step: &str,
        which: Which,
        media: Media,
        count: u32,
        spec: &LoadSpec,
    ) -> anyhow::Result<LoadReport> {
        let mut server = self.start(which)?;
        let calls = server.create(0..count, media, &self.sides)?;
        self.load(
            step,
            server.as_ref(),
            LoadSpec {
                calls,
                codecs: media.codecs(),
                ..spec.clone()
            },
        )
    }

    /// Sets calls up on a server that runs.
    ///
    /// # Errors
    /// The server refuses.
    pub fn create(
        &mut self,
        server: &mut dyn Server,
        ids: Range<u32>,
        media: Media,
    ) -> anyhow::Result<Vec<Call>> {
        server.create(ids, media, &self.sides)
    }

    /// Loads calls that are already set up.
    ///
    /// # Errors
    /// The server or the generator fails.
    pub fn load(&mut self, step: &str, server: &dyn Server, spec: LoadSpec) -> anyhow::Result<LoadReport> {
        let process: Observed = server.process();
        let report = load::run(
            &mut self.sides,
            &LoadSpec {
                server_clock: Some(process.clock()),
                ..spec
            },
        )
        .with_context(|| format!("{} in {step}", server.name()))?;
        self.note(step, server.name(), &report);
        let threads: Vec<_> = process.threads()?.into_iter().take(4).collect();
        self.raw
            .push(json!({ "step": step, "server": server.name(), "report": report, "threads": threads }));
        Ok(report)
    }

    /// The machine alone: the sides send to each other at the same rate.
    ///
    /// # Errors
    /// The generator fails.
    pub fn direct(&mut self, step: &str, count: u32, spec: &LoadSpec) -> anyhow::Result<LoadReport> {
        let calls = self.sides.direct(count as usize);
        let report = load::run(
            &mut self.sides,
            &LoadSpec {
                calls,
                direct: true,
                ..spec.clone()
            },
        )?;
        self.note(step, "direct", &report);
        self.raw
            .push(json!({ "step": step, "server": "direct", "report": report }));
        Ok(report)
    }

    /// Proves by tones that every leg hears its partner and nobody else, before anything is measured.
    ///
    /// # Errors
    /// A leg heard something else or nothing.
    pub fn check_audio(&mut self, which: Which, media: Media) -> anyhow::Result<()> {
        self.check_audio_of(which, media, CHECK_CALLS)
    }

    /// As [`check_audio`](Self::check_audio), with fewer calls or more.
    ///
    /// # Errors
    /// A leg heard something else or nothing.
    pub fn check_audio_of(&mut self, which: Which, media: Media, calls: u32) -> anyhow::Result<()> {
        let spec = LoadSpec {
            payload: load::Payload::Tone,
            ..LoadSpec::new(Vec::new())
        };
        let report = self.measure("audio", which, media, calls, &spec)?;
        anyhow::ensure!(
            report.tones_right == 2 * calls as usize && report.foreign + report.unknown_source == 0,
            "{which:?}, {media:?}: of {} legs {} heard their partner, {} something else, {} nothing; {} strange packets",
            2 * calls,
            report.tones_right,
            report.tones_wrong,
            report.tones_silent,
            report.foreign + report.unknown_source,
        );
        Ok(())
    }

    fn note(&self, step: &str, server: &str, report: &LoadReport) {
        eprintln!("{step:>10} {server:>10}: {}", report.line());
    }
}
