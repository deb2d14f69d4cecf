//! The SIP controller: registrar, calls and queues, driving media hosts over gRPC.
//!
//! Owns the process: configuration, sockets, the journal file, the connections to media hosts, HTTP, logs and signals.
//! What to do with a message is the business of `call-control`. It must never touch a media packet. Threads: `core`
//! owns the controller, reads datagrams and talks to media hosts; `journal` only calls fsync; `projector` carries the
//! journal into the database; the main thread runs connections and HTTP.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the process shell: it owns the clocks, the sockets, the threads and the random seed"
)]

mod audio;
mod bell;
mod config;
mod core;
mod details;
mod journal;
mod ladder;
mod limits;
mod live;
mod management;
mod media;
mod metrics;
mod openapi;
mod origination;
mod page;
mod problem;
mod process;
mod reload;
mod resolver;
mod rfc3339;
mod snapshot;
mod store;
mod token;
mod transport;
mod visit;

use std::{env, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::config::{Config, ConfigError, LogFormat, Override};

/// A call is some thousand small allocations, of which a finished transaction keeps some for half a minute: a heap that
/// falls to pieces costs more than all messages do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration cannot be used (EX_CONFIG of sysexits.h).
const EXIT_CONFIG: u8 = 78;
/// Something else stopped the process.
const EXIT_FAILURE: u8 = 1;

/// SIP controller: registrar, calls and queues, driving media hosts over gRPC.
#[derive(Debug, Parser)]
#[command(
    name = "controld",
    version,
    about,
    after_help = "Every setting is described in controld.toml, the sample configuration. Precedence: flags, \
    environment (CONTROLD_MANAGEMENT__LISTEN=127.0.0.1:8090), file, defaults. SIGTERM and SIGINT end all calls and the \
    process. When it is ready, one line `ready sip=udp:ADDR,tcp:ADDR management=ADDR` goes to standard output; logs go \
    to standard error."
)]
struct Args {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "CONTROLD_CONFIG")]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong, and end.
    #[arg(long)]
    check_config: bool,
    /// Read the whole journal, compare it with the database, say what does not agree, and end.
    #[arg(long)]
    verify_journal: bool,
    /// Override one setting, for instance log.level=debug; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Address of the HTTP listener: management.listen.
    #[arg(long, value_name = "ADDR")]
    management: Option<SocketAddr>,
    /// File of the journal: journal.path.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
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
        let journal = self.journal.as_ref().map(|path| path.display().to_string());
        let short = [
            (
                "--management",
                "management.listen",
                self.management.map(|addr| addr.to_string()),
            ),
            ("--journal", "journal.path", journal),
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
    let loaded = args.overrides().and_then(|overrides| {
        let config = Config::load(args.config.as_deref(), &overrides)?;
        config.check_files()?;
        Ok((config, overrides))
    });
    let (config, overrides) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("controld: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if args.check_config {
        println!("configuration is usable");
        return ExitCode::SUCCESS;
    }
    if args.verify_journal {
        return verify_journal(&config);
    }
    let level = start_log(&config);
    match process::run(config, reload::Source::new(args.config, overrides, level)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn verify_journal(config: &Config) -> ExitCode {
    match store::verify::verify(&config.journal, &config.store) {
        Ok(report) => {
            print!("{}", report.text());
            ExitCode::from(if report.faults.is_empty() { 0 } else { EXIT_FAILURE })
        }
        Err(error) => {
            eprintln!("controld: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Starts logging; gives what changes the level later.
fn start_log(config: &Config) -> reload::Level {
    // Whoever cannot write, for want of room, is not to say so there: that panics.
    let log = tracing_subscriber::fmt()
        .with_env_filter(reload::filter(&config.log.level))
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match config.log.format {
        LogFormat::Text => {
            let log = log.with_ansi(false).with_target(false).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| handle.reload(filter).is_ok())
        }
        LogFormat::Json => {
            let log = log.json().with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| handle.reload(filter).is_ok())
        }
    }
}
