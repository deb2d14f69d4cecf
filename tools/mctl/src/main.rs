//! Operator's command line for a media host: look, explain, and now and then intervene.
//!
//! Owns how things look to a person: tables, and `--json` for programs. It knows the contract (`proto`) and nothing
//! of the host's inside. Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 the host cannot be reached;
//! 4 `explain` found a problem.
//!
//! ```text
//! mctl status
//! mctl top
//! mctl explain call-1
//! mctl apply - < call.yaml
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool: it owns files, clocks and sockets"
)]

mod files;
mod graph;
mod look;
mod reflect;
mod remote;
mod table;
mod top;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::remote::{Failure, Remote, Tls};

/// Look at a media host and intervene.
#[derive(Debug, Parser)]
#[command(
    name = "mctl",
    version,
    about,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, \
    3 host unreachable, 4 explain found a problem."
)]
struct Args {
    /// The host's control address.
    #[arg(
        long,
        env = "MCTL_HOST",
        default_value = "127.0.0.1:8700",
        global = true,
        value_name = "ADDR"
    )]
    host: String,
    /// Print JSON (field names of the contract) instead of tables.
    #[arg(long, global = true)]
    json: bool,
    /// Controller to act as.
    #[arg(
        long,
        env = "MCTL_CONTROLLER",
        default_value = "mctl",
        global = true,
        value_name = "NAME"
    )]
    controller: String,
    /// Epoch to act under; 0 is that of a session that was never adopted.
    #[arg(long, default_value_t = 0, global = true, value_name = "NUMBER")]
    epoch: u64,
    /// CA certificate of the host (PEM); with --cert and --key the connection is mutual TLS.
    #[arg(long, env = "MCTL_CA", global = true, value_name = "FILE", requires_all = ["cert", "key"])]
    ca: Option<PathBuf>,
    /// Own certificate (PEM).
    #[arg(long, env = "MCTL_CERT", global = true, value_name = "FILE", requires = "ca")]
    cert: Option<PathBuf>,
    /// Own key (PEM).
    #[arg(long, env = "MCTL_KEY", global = true, value_name = "FILE", requires = "ca")]
    key: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The host: load, workers, ports, controllers.
    Status,
    /// The sessions on the host.
    List {
        /// Only those of this controller.
        #[arg(long, value_name = "NAME")]
        of: Option<String>,
    },
    /// One session: graph, addresses, streams, plans.
    Describe {
        /// Session id.
        session: String,
    },
    /// Why a node does not hear another.
    Explain {
        /// Session id.
        session: String,
        /// Speaker.
        #[arg(requires = "to")]
        from: Option<String>,
        /// Listener.
        to: Option<String>,
    },
    /// Events as they happen, until interrupted.
    Watch {
        /// Only of this controller's sessions.
        #[arg(long, value_name = "NAME")]
        of: Option<String>,
        /// Go on after this event, as BOOT_ID:NUMBER.
        #[arg(long, value_name = "BOOT_ID:NUMBER")]
        after: Option<String>,
        /// End after this many events.
        #[arg(long, value_name = "COUNT")]
        count: Option<u64>,
    },
    /// Packet rates of the host, or of one session's endpoints.
    Stats {
        /// Session id; none: the host's workers.
        session: Option<String>,
        /// Once instead of every second.
        #[arg(long)]
        once: bool,
        /// Seconds between two lines.
        #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
        every: f64,
    },
    /// The host as it lives: load, rates and sessions, by keys.
    Top {
        /// Seconds between two looks.
        #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = top::interval)]
        interval: Duration,
        /// Print one frame as text; so does an output that is no terminal.
        #[arg(long)]
        once: bool,
    },
    /// Stop taking new sessions.
    Drain,
    /// Take new sessions again.
    Undrain,
    /// Change a session's graph, or create it, from a file.
    #[command(after_long_help = graph::HELP)]
    Apply {
        /// YAML or JSON; `-` is standard input.
        file: PathBuf,
    },
    /// End a session.
    Delete {
        /// Session id.
        session: String,
    },
    /// The host's prompts and recordings: list, put, get, delete.
    Files {
        /// What to do.
        #[command(subcommand)]
        act: files::Act,
    },
    /// The host's recordings, or the acknowledgement of one.
    Recordings {
        /// What to do; none: list them.
        #[command(subcommand)]
        act: Option<files::RecordingAct>,
    },
    /// Do something once to a node.
    Act {
        /// Session id.
        session: String,
        /// Node id.
        node: String,
        /// What to do.
        #[command(subcommand)]
        act: Act,
    },
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Send digits to the endpoint's peer.
    Digits {
        /// 0-9 * # A-D, a comma is a pause of half a second.
        digits: String,
        /// Length of each digit.
        #[arg(long, default_value_t = 0, value_name = "MS")]
        duration_ms: u32,
        /// Silence between digits.
        #[arg(long, default_value_t = 0, value_name = "MS")]
        gap_ms: u32,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::Local(format!("tokio runtime: {error}"))),
    };
    match runtime.block_on(run(args)) {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("mctl: {failure}");
    ExitCode::from(failure.exit_code())
}

async fn run(args: Args) -> Result<ExitCode, Failure> {
    // What is wrong with a file is said before anybody is called.
    let patch = match &args.command {
        Command::Apply { file } => Some(graph::read(file, &args.controller, args.epoch)?),
        _ => None,
    };
    if args.json && matches!(args.command, Command::Top { .. }) {
        let message = "top is for people; use --json with status, list or describe";
        return Err(Failure::Local(message.into()));
    }
    let tls = args
        .ca
        .zip(args.cert)
        .zip(args.key)
        .map(|((ca, cert), key)| Tls { ca, cert, key });
    let mut remote = Remote::connect(&args.host, tls, args.controller, args.epoch).await?;
    let show = look::Show { json: args.json };
    match args.command {
        Command::Status => show.status(&remote.status().await?),
        Command::List { of } => show.list(&remote.list(of.unwrap_or_default()).await?),
        Command::Describe { session } => show.describe(&remote.describe(session).await?),
        Command::Explain { session, from, to } => {
            let reply = remote
                .explain(session, from.unwrap_or_default(), to.unwrap_or_default())
                .await?;
            return Ok(show.explain(&reply));
        }
        Command::Watch { of, after, count } => {
            let stream = remote.watch(of.unwrap_or_default(), after.as_deref()).await?;
            show.watch(stream, count).await?;
        }
        Command::Stats { session, once, every } => show.stats(&mut remote, session, once, every).await?,
        Command::Top { interval, once } => top::run(remote, &args.host, interval, once).await?,
        Command::Drain => show.drained(&remote.drain(true).await?),
        Command::Undrain => show.drained(&remote.drain(false).await?),
        Command::Apply { .. } => {
            let patch = patch.expect("read above for this command");
            show.applied(&remote.apply(patch).await?);
        }
        Command::Files { act } => files::run(remote.files(), show, act).await?,
        Command::Recordings { act } => files::recordings(remote.files(), show, act).await?,
        Command::Delete { session } => show.deleted(&session, &remote.delete(session.clone()).await?),
        Command::Act {
            session,
            node,
            act:
                Act::Digits {
                    digits,
                    duration_ms,
                    gap_ms,
                },
        } => {
            show.acted(
                &remote
                    .send_digits(session, node, digits, duration_ms, gap_ms)
                    .await?,
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
