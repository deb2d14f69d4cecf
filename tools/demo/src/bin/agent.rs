//! An agent's phone: registers, answers by itself, hangs up after a while, and reports.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use demo::{
    phone::{Identity, Phone, Settings},
    report::PhoneReport,
    stop::Stop,
};

/// An agent's phone: registers, answers by itself, hangs up after a while. Ends with SIGINT or SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "agent", version, about)]
struct Args {
    /// Account, and name in the log.
    #[arg(long, default_value = "alice", value_parser = demo::flags::user_part)]
    name: String,
    /// The SIP server: IP, or IP:PORT.
    #[arg(long, default_value = "127.0.0.1:5060", value_name = "ADDR", value_parser = demo::flags::server_address)]
    server: SocketAddr,
    /// Host part of addresses. Default: the server's address.
    #[arg(long)]
    domain: Option<String>,
    /// SIP port of this phone.
    #[arg(long, default_value_t = 5071)]
    port: u16,
    /// Ports for audio, FIRST-LAST. Default: a hundred from 1 000 above the SIP port.
    #[arg(long, value_name = "RANGE")]
    media_ports: Option<String>,
    /// Hang up after this many seconds.
    #[arg(long, default_value_t = 12.0, value_name = "SECONDS")]
    call_duration: f64,
    /// Ring this long before answering, in seconds.
    #[arg(long, default_value_t = 0.2, value_name = "SECONDS")]
    ring: f64,
    /// Password of the account. Default: NAME-secret, as in the demonstration.
    #[arg(long, env = "AGENT_PASSWORD")]
    password: Option<String>,
    /// How long a registration lasts.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    expires: u32,
    /// The tone this phone sends; a multiple of 10.
    #[arg(long, default_value_t = 440.0, value_name = "HZ")]
    tone: f64,
    /// Tones to measure in what is heard.
    #[arg(long, value_delimiter = ',', value_name = "HZ,…")]
    listen_for: Vec<f64>,
    /// Log SIP messages.
    #[arg(long)]
    verbose: bool,
    /// Report as one line of JSON at the end.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut report = PhoneReport {
        name: args.name.clone(),
        ..PhoneReport::default()
    };
    let done = serve(&args, &mut report);
    if let Err(error) = &done {
        eprintln!("{}: {error:#}", args.name);
        report.failure = Some(format!("{error:#}"));
    }
    if args.json {
        report.print();
    }
    if done.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn serve(args: &Args, report: &mut PhoneReport) -> Result<()> {
    let ports = match &args.media_ports {
        Some(text) => demo::flags::port_range(text)?,
        None => args.port + 1_000..=args.port + 1_100,
    };
    let mut settings = Settings::new(&args.name, args.server, args.port, ports);
    if let Some(domain) = &args.domain {
        settings.domain.clone_from(domain);
    }
    settings.call_duration = Duration::try_from_secs_f64(args.call_duration).context("--call-duration")?;
    settings.tones.clone_from(&args.listen_for);
    settings.ring = Duration::try_from_secs_f64(args.ring).context("--ring")?;
    settings.verbose = args.verbose;
    let stop = Stop::on_signals()?;
    let mut phone = Phone::new(settings, args.tone)?.until(stop);
    let identity = Identity {
        user: args.name.clone(),
        password: args
            .password
            .clone()
            .unwrap_or_else(|| format!("{}-secret", args.name)),
    };
    phone.register(&identity, args.expires)?;
    while let Some(call) = phone.next_call()? {
        report.calls.push(call.report);
    }
    phone.unregister()?;
    phone.log().info(format!("served {} call(s)", report.calls.len()));
    Ok(())
}
