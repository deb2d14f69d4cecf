//! The demonstration: two RTP parties talk through a media host and prove it by their tones.
//!
//! Starts `mediad` on loopback with ports of its own, asks it over gRPC for a session in which Alice and Bob hear each
//! other, lets both talk for a few seconds, and judges: each heard the other's tone and not its own, every packet
//! arrived once and in order. Ends with `demo: OK` and exit code 0, or says what failed and why.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool: it owns processes, sockets and clocks"
)]

mod host;
mod party;
mod verdict;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use crate::{
    host::MediaHost,
    party::{Heard, Party},
    verdict::Verdict,
};

/// Two RTP parties talk through a media host and prove it by their tones.
#[derive(Debug, Parser)]
#[command(name = "demo", version, about)]
struct Args {
    /// How long they talk.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u64,
    /// The media host's program. Default: mediad beside this one.
    #[arg(long, value_name = "FILE")]
    mediad: Option<PathBuf>,
    /// Socket backend of the media host: auto, uring or mmsg.
    #[arg(long, default_value = "auto", value_name = "BACKEND")]
    io: String,
}

const ALICE_HZ: f64 = 440.0;
const BOB_HZ: f64 = 1_000.0;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => {
            println!("demo: OK");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("demo: FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    ensure!(
        (1..=600).contains(&args.seconds),
        "--seconds {}: must be 1 to 600",
        args.seconds
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("tokio runtime")?;
    let mut host = MediaHost::start(args.mediad.as_deref(), &args.io)?;
    println!(
        "mediad is ready: control {}, metrics http://{}/metrics",
        host.control, host.metrics
    );
    let verdict = runtime.block_on(call(&host, Duration::from_secs(args.seconds)));
    let ended = host.stop();
    let verdict = verdict?;
    ended?;
    verdict.print();
    verdict.judge()
}

/// One call from its creation to its end.
async fn call(host: &MediaHost, length: Duration) -> Result<Verdict> {
    let alice = Party::new("alice", ALICE_HZ)?;
    let bob = Party::new("bob", BOB_HZ)?;
    let mut control = host.connect().await?;
    let session = control.create(&[&alice, &bob]).await?;
    println!(
        "session {} is set up in {:.1} ms:",
        session.name,
        session.set_up.as_secs_f64() * 1e3
    );
    for (party, port) in [&alice, &bob].into_iter().zip(&session.ports) {
        println!(
            "  {:<5} at {} talks to {port}, a tone of {} Hz",
            party.name,
            party.addr(),
            party.hz
        );
    }
    println!("they talk for {} s …", length.as_secs());
    let [alice, bob] = talk([alice, bob], [session.ports[0], session.ports[1]], length)?;
    println!("what the host says of it (Explain):");
    let findings = control.explain(&session.name).await?;
    for finding in &findings {
        println!("  {finding}");
    }
    let stats = control.end(&session.name).await?;
    Ok(Verdict {
        alice,
        bob,
        findings,
        stats,
    })
}

/// Both talk at once, each from a thread of its own.
fn talk(parties: [Party; 2], ports: [std::net::SocketAddr; 2], length: Duration) -> Result<[Heard; 2]> {
    let [alice, bob] = parties;
    let [alice_port, bob_port] = ports;
    let alice = std::thread::spawn(move || alice.talk(alice_port, length));
    let bob = std::thread::spawn(move || bob.talk(bob_port, length));
    let joined = |thread: std::thread::JoinHandle<Result<Heard>>, name| {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("{name}'s thread panicked"))?
    };
    Ok([joined(alice, "alice")?, joined(bob, "bob")?])
}
