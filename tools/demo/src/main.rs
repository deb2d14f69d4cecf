//! The demonstration: a call centre on one machine.
//!
//! Starts `mediad` and `controld` on loopback, registers agents, lets customers call `sip:support@127.0.0.1`, and
//! judges: each customer waited with music and was served, both sides heard the other's tone and nobody else's, each
//! recording holds both, every call is accounted for, nothing is left over. Ends with `demo: OK` and exit code 0, or says what failed and why.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool: it owns processes, sockets and clocks"
)]

mod flow;
mod http;
mod people;
mod servers;
mod sound;
mod verdict;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use demo::log;

use crate::{
    people::{Cast, Crowd},
    servers::Servers,
    verdict::Verdict,
};

/// Two agents register, a customer calls, both hear each other; or many of each.
#[derive(Debug, Clone, Parser)]
#[command(name = "demo", version, about)]
struct Args {
    /// How many agents register: alice, bob, charlie, diana, agent5 …
    #[arg(long, default_value_t = 2)]
    agents: usize,
    /// How many customers call, all at once.
    #[arg(long, default_value_t = 1)]
    calls: usize,
    /// Agents hang up after this many seconds. Default: 12, or 4 when several customers call.
    #[arg(long, value_name = "SECONDS")]
    call_duration: Option<f64>,
    /// Customers give up when nobody has answered after this many seconds.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    wait_time: f64,
    /// SIP port of the server, UDP and TCP.
    #[arg(long, default_value_t = 5060, value_name = "PORT")]
    server_port: u16,
    /// SIP port of the first agent; the others follow. Audio is a thousand above.
    #[arg(long, default_value_t = 5071, value_name = "PORT")]
    agent_port: u16,
    /// SIP port of the first customer; the others follow. Audio is two thousand above.
    #[arg(long, default_value_t = 5080, value_name = "PORT")]
    customer_port: u16,
    /// Where logs go. Default: a new directory for temporary files.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Directory of the programs mediad, controld, agent and customer. Default: this program's.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Socket backend of the media host: auto, uring or mmsg.
    #[arg(long, default_value = "auto", value_name = "BACKEND")]
    io: String,
}

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
        (1..=60).contains(&args.agents),
        "--agents {}: must be 1 to 60",
        args.agents
    );
    ensure!(
        (1..=500).contains(&args.calls),
        "--calls {}: must be 1 to 500",
        args.calls
    );
    let run_dir = run_dir(args)?;
    println!("logs: {}", run_dir.display());
    let cast = Cast::new(args)?;
    cast.check_ports(args.server_port)?;
    let begin = Instant::now();
    let played = play(args, &cast, &run_dir, begin);
    flow::write(&run_dir, &cast).context("call_flow.log")?;
    println!("call flow: {}", run_dir.join("call_flow.log").display());
    let verdict = played?;
    verdict.print();
    println!("took {:.1} s", begin.elapsed().as_secs_f64());
    verdict.judge()
}

/// The whole play, from the first process to the last.
fn play(args: &Args, cast: &Cast, run_dir: &std::path::Path, begin: Instant) -> Result<Verdict> {
    let mut servers = Servers::start(args, cast, run_dir)?;
    println!(
        "mediad and controld are ready: SIP 0.0.0.0:{}, http://{}/v1/calls",
        args.server_port, servers.http
    );
    let mut crowd = Crowd::new(cast, run_dir, servers.programs.clone(), begin);
    crowd.register_agents()?;
    let customers = crowd.call(Duration::from_secs_f64(args.wait_time))?;
    let details = http::details(servers.http, cast.customers.len());
    let left = http::left_over(servers.http, servers.media_http);
    let agents = crowd.dismiss_agents()?;
    servers.stop()?;
    Ok(Verdict {
        cast: cast.clone(),
        customers,
        agents,
        details: details?,
        recordings: run_dir.join("recordings"),
        left: left?,
    })
}

fn run_dir(args: &Args) -> Result<PathBuf> {
    let stamp = log::timestamp(SystemTime::now()).replace([':', '.'], "-");
    let dir = args
        .run_dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("demo-{stamp}")));
    fs::create_dir_all(&dir).with_context(|| format!("{}: give another with --run-dir", dir.display()))?;
    Ok(dir)
}
