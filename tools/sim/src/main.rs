//! Runs worlds from the command line: `sim --seed 1 --steps 400 --runs 1000`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use sim::{Failure, Run, Summary, run, sound};

/// Simulates the media side from seeds and says what must not be.
#[derive(Debug, Parser)]
struct Arguments {
    /// First seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Random actions of a run; fewer find how early a failure begins.
    #[arg(long, default_value_t = 200)]
    steps: u32,
    /// Runs, each with the next seed.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Print every action.
    #[arg(long)]
    verbose: bool,
    /// Worlds that are listened to rather than those of relayed packets; a step is an edit.
    #[arg(long)]
    sound: bool,
    /// Go on after a failure and count them.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let failed = if arguments.sound {
        listen(&arguments)
    } else {
        simulate(&arguments)
    };
    match failed {
        Some(0) => ExitCode::SUCCESS,
        Some(_) | None => ExitCode::FAILURE,
    }
}

/// Runs all worlds; how many failed, or `None` after the first where that is the end.
fn all(arguments: &Arguments, mut world: impl FnMut(u64) -> Result<(), Box<Failure>>) -> Option<u64> {
    let mut failed = 0;
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.runs) {
        match world(seed) {
            Ok(()) => {}
            Err(failure) if arguments.keep_going => {
                failed += 1;
                println!(
                    "seed {} step {}: {}",
                    failure.seed, failure.step, failure.violation
                );
            }
            Err(failure) => {
                println!("{failure}");
                return None;
            }
        }
    }
    Some(failed)
}

fn simulate(arguments: &Arguments) -> Option<u64> {
    let mut sum = Summary::default();
    let failed = all(arguments, |seed| {
        let done = run(Run {
            seed,
            steps: arguments.steps,
            verbose: arguments.verbose,
            ..Run::default()
        })?;
        sum.edits += done.edits;
        sum.refused += done.refused;
        sum.heard += done.heard;
        sum.digits += done.digits;
        sum.dropped += done.dropped;
        Ok(())
    })?;
    println!(
        "{} worlds from seed {}: {failed} failed; {} edits, {} refusals, {} packets heard, {} digits, {} datagrams dropped",
        arguments.runs, arguments.seed, sum.edits, sum.refused, sum.heard, sum.digits, sum.dropped
    );
    Some(failed)
}

fn listen(arguments: &Arguments) -> Option<u64> {
    let mut sum = sound::Summary::default();
    let failed = all(arguments, |seed| {
        let done = sound::run(sound::Run {
            seed,
            edits: arguments.steps,
            verbose: arguments.verbose,
            fault: None,
        })?;
        sum.edits += done.edits;
        sum.tones += done.tones;
        sum.exact += done.exact;
        sum.packets += done.packets;
        sum.sealed += done.sealed;
        sum.rollovers += done.rollovers;
        Ok(())
    })?;
    println!(
        "{} worlds from seed {}: {failed} failed; {} edits, {} tones, {} followed through an edit, {} packets, {} of them encrypted, {} rollovers",
        arguments.runs,
        arguments.seed,
        sum.edits,
        sum.tones,
        sum.exact,
        sum.packets,
        sum.sealed,
        sum.rollovers
    );
    Some(failed)
}
