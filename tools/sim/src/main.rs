//! Runs worlds from the command line: `sim --seed 1 --steps 400 --runs 1000`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use sim::{Run, Summary, run, sound};

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
    if arguments.sound {
        return listen(&arguments);
    }
    let mut sum = Summary::default();
    let mut failed = 0;
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.runs) {
        let config = Run {
            seed,
            steps: arguments.steps,
            verbose: arguments.verbose,
            ..Run::default()
        };
        match run(config) {
            Ok(done) => {
                sum.edits += done.edits;
                sum.refused += done.refused;
                sum.heard += done.heard;
                sum.digits += done.digits;
                sum.dropped += done.dropped;
            }
            Err(failure) if arguments.keep_going => {
                failed += 1;
                println!(
                    "seed {} step {}: {}",
                    failure.seed, failure.step, failure.violation
                );
            }
            Err(failure) => {
                println!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{} worlds from seed {}: {failed} failed; {} edits, {} refusals, {} packets heard, {} digits, {} datagrams dropped",
        arguments.runs, arguments.seed, sum.edits, sum.refused, sum.heard, sum.digits, sum.dropped
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn listen(arguments: &Arguments) -> ExitCode {
    let mut sum = sound::Summary::default();
    let mut failed = 0;
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.runs) {
        let config = sound::Run {
            seed,
            edits: arguments.steps,
            verbose: arguments.verbose,
            fault: None,
        };
        match sound::run(config) {
            Ok(done) => {
                sum.edits += done.edits;
                sum.tones += done.tones;
                sum.exact += done.exact;
                sum.packets += done.packets;
            }
            Err(failure) if arguments.keep_going => {
                failed += 1;
                println!(
                    "seed {} edit {}: {}",
                    failure.seed, failure.step, failure.violation
                );
            }
            Err(failure) => {
                println!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{} worlds from seed {}: {failed} failed; {} edits, {} tones, {} followed through an edit, {} packets",
        arguments.runs, arguments.seed, sum.edits, sum.tones, sum.exact, sum.packets
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
