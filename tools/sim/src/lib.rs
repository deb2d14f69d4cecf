//! The whole media side from one seed: the real [`Host`](media_engine::host::Host) and
//! [`Engine`](media_engine::engine::Engine)s, simulated phones and controllers, a bad network, and a judge that knows only
//! who should hear whom.
//!
//! Owns virtual time and everything that happens in it. The judge must never use code of what it judges: [`model`] and
//! [`check`] know packets and requests, no plan and no spec. A run with the same seed does the same, packet by packet.
//!
//! ```
//! use sim::{Run, run};
//!
//! let done = run(Run { seed: 7, steps: 20, ..Run::default() }).expect("the engine lets nobody hear a stranger");
//! assert!(done.heard > 0);
//! ```
//!
//! Where things are: [`world`] time and agenda, [`server`] the process under test, [`phone`] and [`network`] its
//! surroundings, [`cipher`] what encrypted legs are encrypted with, [`controller`] random edits, [`model`] what was asked for, [`check`] and [`quiet`] the judge, [`watch`] the
//! events, [`sabotage`] the proof that the judge can fail; [`sound`] worlds that are listened to, in which packets are decoded,
//! mixed, recorded, tapped and passed through links.
#![forbid(unsafe_code)]

pub mod check;
pub mod cipher;
pub mod controller;
pub mod model;
pub mod network;
pub mod phone;
pub mod quiet;
mod request;
pub mod sabotage;
pub mod server;
pub mod sound;
pub mod watch;
pub mod world;

use std::{fmt, panic::AssertUnwindSafe, time::Duration};

use crate::{sabotage::Sabotage, world::World};

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Everything follows from it.
    pub seed: u64,
    /// Random actions.
    pub steps: u32,
    /// Actions between two quiet moments.
    pub quiet_every: u32,
    /// Print actions.
    pub verbose: bool,
    /// A fault put in on purpose.
    pub sabotage: Option<Sabotage>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 200,
            quiet_every: 50,
            verbose: false,
            sabotage: None,
        }
    }
}

/// What a run without violation saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Edits taken.
    pub edits: u64,
    /// Mistakes refused.
    pub refused: u64,
    /// Audio packets judged at phones.
    pub heard: u64,
    /// Digits told from start to end.
    pub digits: u64,
    /// Datagrams the engines dropped, for whatever reason.
    pub dropped: u64,
}

/// The first thing that must not be.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In a world of [`sound`].
    pub sound: bool,
    /// To see it again.
    pub seed: u64,
    /// As it was run.
    pub steps: u32,
    /// After how many actions.
    pub step: u32,
    /// What is wrong.
    pub violation: String,
    /// The latest actions, oldest first.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {} step {}: {}", self.seed, self.step, self.violation)?;
        write!(
            f,
            "replay: cargo run -p sim -- {}--seed {} --steps {} --verbose",
            if self.sound { "--sound " } else { "" },
            self.seed,
            self.steps
        )
    }
}

/// Runs one world to its end.
///
/// # Errors
/// The first violation, or a panic in the code under test.
pub fn run(config: Run) -> Result<Summary, Box<Failure>> {
    let mut world = World::new(config.seed, config.sabotage);
    world.verbose = config.verbose;
    let mut step = 0;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| drive(&mut world, &config, &mut step)));
    if let Err(panic) = outcome {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        world.judge.violation = Some(format!("panic: {}", said.unwrap_or_default()));
    }
    if let Some(violation) = world.judge.violation {
        let trace = world.trace.into_iter().collect();
        return Err(Box::new(Failure {
            sound: false,
            seed: config.seed,
            steps: config.steps,
            step,
            violation,
            trace,
        }));
    }
    Ok(Summary {
        edits: world.edits,
        refused: world.refused,
        heard: world.judge.heard,
        digits: world.judge.digits,
        dropped: world.server.drops().iter().sum(),
    })
}

fn drive(world: &mut World, config: &Run, step: &mut u32) {
    while *step < config.steps {
        world.step();
        *step += 1;
        if step.is_multiple_of(config.quiet_every) && world.judge.violation.is_none() {
            world.settle();
        }
        if world.judge.violation.is_some() {
            return;
        }
    }
    world.settle();
    if world.judge.violation.is_none() {
        world.tear_down();
    }
}

impl World {
    /// One random action, and some time.
    fn step(&mut self) {
        match self.rng.below(1_000) {
            0..=449 => self.act(),
            450..=519 => self.blunder(),
            520..=639 => self.weather(),
            640..=839 => self.phone_act(),
            840..=889 => self.attack(),
            890..=919 => self.flap(),
            920..=924 => self.restart_host(),
            925..=934 => self.long_pause(),
            _ => self.poll_events(),
        }
        // Often at once, mostly a few packets later.
        let pause = match self.rng.below(10) {
            0..=2 => 0,
            3..=8 => self.rng.below(80),
            _ => self.rng.below(1_500),
        };
        self.pass(Duration::from_millis(pause));
    }

    /// Long enough for leases and the memory of events to end.
    fn long_pause(&mut self) {
        self.log("a long pause");
        let pause = self.rng.below(25_000);
        self.pass(Duration::from_millis(pause));
    }
}
