//! A customer's phone: calls, talks, hangs up after a while or is hung up on, and reports.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use demo::{
    flags::port_range,
    phone::{Phone, Settings},
    report::PhoneReport,
    stop::Stop,
};

/// A customer's phone: calls once, talks, and reports RTP statistics.
#[derive(Debug, Parser)]
#[command(name = "customer", version, about)]
struct Args {
    /// User part of the caller's address, and name in the log.
    #[arg(long, default_value = "customer", value_parser = demo::flags::user_part)]
    name: String,
    /// The SIP server: IP, or IP:PORT.
    #[arg(long, default_value = "127.0.0.1:5060", value_name = "ADDR", value_parser = demo::flags::server_address)]
    server: SocketAddr,
    /// Host part of addresses. Default: the server's address.
    #[arg(long)]
    domain: Option<String>,
    /// Whom to call: the user part.
    #[arg(long, default_value = "support", value_parser = demo::flags::user_part)]
    to: String,
    /// SIP port of this phone.
    #[arg(long, default_value_t = 5080)]
    port: u16,
    /// Ports for audio, FIRST-LAST. Default: a hundred from 2 000 above the SIP port.
    #[arg(long, value_name = "RANGE")]
    media_ports: Option<String>,
    /// Hang up after this many seconds, unless the other side does.
    #[arg(long, default_value_t = 15.0, value_name = "SECONDS")]
    call_duration: f64,
    /// Give up when nobody has answered after this many seconds.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    wait_time: f64,
    /// The tone this phone sends; a multiple of 10.
    #[arg(long, default_value_t = 1_000.0, value_name = "HZ")]
    tone: f64,
    /// Tones to measure in what is heard.
    #[arg(long, value_delimiter = ',', value_name = "HZ,…")]
    listen_for: Vec<f64>,
    /// The tone of the music that is heard while nobody speaks yet; a multiple of 10.
    #[arg(long, value_name = "HZ")]
    music: Option<f64>,
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
    let done = call(&args, &mut report);
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

fn call(args: &Args, report: &mut PhoneReport) -> Result<()> {
    let ports = match &args.media_ports {
        Some(text) => port_range(text)?,
        None => args.port + 2_000..=args.port + 2_100,
    };
    let mut settings = Settings::new(&args.name, args.server, args.port, ports.clone());
    if let Some(domain) = &args.domain {
        settings.domain.clone_from(domain);
    }
    settings.call_duration = Duration::try_from_secs_f64(args.call_duration).context("--call-duration")?;
    settings.tones.clone_from(&args.listen_for);
    settings.music = args.music;
    settings.verbose = args.verbose;
    let wait = Duration::try_from_secs_f64(args.wait_time).context("--wait-time")?;
    let mut phone = Phone::new(settings, args.tone)?.until(Stop::on_signals()?);
    let call = phone.call(&args.to, wait)?;
    let received = call.report.received;
    report.calls.push(call.report);
    ensure!(
        received > 0,
        "no media: the call was answered, and not one RTP packet came to {} ({}-{}); is the way there open? \
         `mctl explain` at the media host tells what it sends and why not",
        phone.own_address(),
        ports.start(),
        ports.end()
    );
    Ok(())
}
