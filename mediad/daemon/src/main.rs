//! The media host: relays RTP for many sessions, driven over gRPC.
//!
//! Owns the process: configuration, threads, sockets, gRPC, metrics, logs and signals. What to do with a packet is
//! the engine's business (`media-engine`), how it is read and sent the backend's (`media-net`). It must never know
//! SIP or SDP. Threads: `media-N` workers carry media and wait for nobody; `host` owns sessions, ports and leases;
//! `recorder` writes recordings and `archive` seals them;
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
mod durations;
mod exchange;
mod files;
mod grpc;
mod hosting;
mod limits;
mod liveness;
mod management;
mod metrics;
mod notify;
mod process;
mod prompts;
mod recordings;
mod reload;
mod requests;
mod seats;
mod sockets;
mod team;
mod watchers;
mod worker;

use std::{env, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, ConfigError, LogFormat, Override},
    reload::{SetLog, Source},
};

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
    all sessions and the process, SIGHUP reads the configuration again. When it is ready, one line `ready control=ADDR metrics=ADDR boot_id=ID` goes to \
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
    /// Socket backend, auto, shared, uring or mmsg: io.backend.
    #[arg(long, value_name = "BACKEND")]
    io: Option<String>,
    /// Number of worker threads: workers.count.
    #[arg(long, value_name = "COUNT")]
    workers: Option<usize>,
}

impl Args {
    /// The file, then what overrides it.
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), &self.overrides()?)
    }

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
    let config = match args.load() {
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
    let set_log = start_log(&config);
    let load = Box::new(move || args.load().map_err(|error| error.to_string()));
    match process::run(config, Source { load, set_log }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Starts the log; gives the way to another level.
fn start_log(config: &Config) -> SetLog {
    // Whoever cannot write, for want of room, is not to say so there: that panics.
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let log_filter = filter(config);
    match config.log.format {
        LogFormat::Text => {
            let log = log.with_ansi(false).with_target(false);
            let log = log.with_env_filter(log_filter).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |config| handle.reload(filter(config)).map_err(|error| error.to_string()))
        }
        LogFormat::Json => {
            let log = log.json().with_env_filter(log_filter).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |config| handle.reload(filter(config)).map_err(|error| error.to_string()))
        }
    }
}

fn filter(config: &Config) -> EnvFilter {
    EnvFilter::new(format!("{},h2=warn,hyper=warn,tower=warn", config.log.level))
}
