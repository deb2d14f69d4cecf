//! The media host: relays RTP for many sessions, driven over gRPC.
//!
//! Owns the process: configuration, threads, sockets, gRPC, metrics, logs and signals. What to do with a packet is
//! the engine's business (`media-engine`), how it is read and sent the backend's (`media-net`). It must never know
//! SIP or SDP. Threads: `media-N` workers carry media and wait for nobody; `host` owns sessions, ports and leases;
//! the main thread runs gRPC and metrics on tokio.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the process shell: it owns the clocks, the sockets, the threads and the random seed"
)]

mod config;
mod counters;
mod cpus;
mod doorbell;
mod grpc;
mod hosting;
mod limits;
mod management;
mod metrics;
mod process;
mod requests;
mod sockets;
mod team;
mod worker;

use std::{env, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::config::{Config, ConfigError, LogFormat, Override};

/// The configuration cannot be used (EX_CONFIG of sysexits.h).
const EXIT_CONFIG: u8 = 78;
/// Something else stopped the process.
const EXIT_FAILURE: u8 = 1;

/// Media host: relays RTP between endpoints, driven over gRPC.
#[derive(Debug, Parser)]
#[command(
    name = "mediad",
    version,
    about,
    after_help = "Every setting is described in mediad.toml, the sample \
    configuration. Precedence: flags, environment (MEDIAD_IO__BACKEND=mmsg), file, defaults. SIGTERM and SIGINT end \
    all sessions and the process. When it is ready, one line `ready control=ADDR metrics=ADDR boot_id=ID` goes to \
    standard output; logs go to standard error."
)]
struct Args {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "MEDIAD_CONFIG")]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong, and end.
    #[arg(long)]
    check_config: bool,
    /// Override one setting, for instance io.latency_budget_us=500; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Address of the gRPC listener: control.listen.
    #[arg(long, value_name = "ADDR")]
    control: Option<SocketAddr>,
    /// Address of the metrics listener: metrics.listen.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Socket backend, auto, uring or mmsg: io.backend.
    #[arg(long, value_name = "BACKEND")]
    io: Option<String>,
    /// Number of worker threads: workers.count.
    #[arg(long, value_name = "COUNT")]
    workers: Option<usize>,
}

impl Args {
    /// Environment first, then flags: later ones win.
    fn overrides(&self) -> Result<Vec<Override>, ConfigError> {
        let mut overrides: Vec<Override> = env::vars_os()
            .filter_map(|(name, value)| Override::parse_env(name.to_str()?, value.to_str()?))
            .collect();
        overrides.sort_by(|a, b| a.key.cmp(&b.key));
        for text in &self.set {
            overrides.push(Override::parse_flag(text)?);
        }
        let short = [
            (
                "--control",
                "control.listen",
                self.control.map(|addr| addr.to_string()),
            ),
            (
                "--metrics",
                "metrics.listen",
                self.metrics.map(|addr| addr.to_string()),
            ),
            ("--io", "io.backend", self.io.clone()),
            (
                "--workers",
                "workers.count",
                self.workers.map(|count| count.to_string()),
            ),
        ];
        for (flag, key, value) in short {
            let Some(value) = value else { continue };
            overrides.push(Override {
                key: key.into(),
                place: format!("{flag} {value}"),
                value,
            });
        }
        Ok(overrides)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let loaded = args
        .overrides()
        .and_then(|overrides| Config::load(args.config.as_deref(), &overrides));
    let config = match loaded {
        Ok(config) => config,
        Err(error) => {
            eprintln!("mediad: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if args.check_config {
        return match process::check(&config) {
            Ok(()) => {
                println!("configuration is usable");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("mediad: {error}");
                ExitCode::from(EXIT_CONFIG)
            }
        };
    }
    start_log(&config);
    match process::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn start_log(config: &Config) {
    let filter =
        tracing_subscriber::EnvFilter::new(format!("{},h2=warn,hyper=warn,tower=warn", config.log.level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => log.with_ansi(false).with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
