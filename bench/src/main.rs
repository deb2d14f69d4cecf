//! The bench's command line.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bench::load::{self, Attack, Hostility, LoadSpec, Payload};
use bench::machine::{self, Facts};
use bench::peer::Media;
use bench::report::{Results, SweepPoint};
use bench::scenario::{Lab, Plan, Which, mix, relay, sip, transcode};
use bench::yardstick::Yardstick;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load generator and benchmarks: mediad and rtpengine side by side.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the relay: CPU, delay, memory, G.711 conversion, session set-up.
    Relay(RelayArgs),
    /// Measure controller and media host together: registrations, calls with audio, memory.
    Sip(SipArgs),
    /// Measure rooms: members, talkers, what a room costs beside a relay, idle rooms.
    Mix(MixArgs),
    /// Measure conversion: RTP to SRTP and back, PCMU to Opus and back.
    Transcode(TranscodeArgs),
    /// Drive one server with a given load and print what the sink saw.
    Load(LoadArgs),
    /// Draw the pictures of a result again.
    Plot {
        /// A file under bench/results.
        json: PathBuf,
        /// Where the pictures go; default: beside the file.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Servers {
    /// The mediad program; default: the one built beside this program.
    #[arg(long)]
    mediad: Option<PathBuf>,
    /// A setting of mediad, section.key=value; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The rtpengine program.
    #[arg(long, default_value = "rtpengine")]
    rtpengine: PathBuf,
    /// Sockets per side of the generator.
    #[arg(long, default_value_t = 1)]
    sockets: u16,
    /// Stay in the machine's network instead of an own one with nothing but loopback.
    #[arg(long)]
    shared_network: bool,
    /// Let both cores halt when they have nothing to do: what a machine that is not tuned does.
    #[arg(long)]
    halting: bool,
}

/// What every scenario is told.
#[derive(Args)]
struct Run {
    #[command(flatten)]
    servers: Servers,
    /// Rounds; default: 5 beside a peer, 3 alone.
    #[arg(long)]
    rounds: Option<u32>,
    /// One short round, to see that everything works; its figures mean little.
    #[arg(long)]
    quick: bool,
    /// Where results go.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    out: PathBuf,
}

impl Run {
    /// Takes the machine into the state that measuring wants; the plan for it, and the facts so far.
    fn prepare(
        &self,
        only: Vec<String>,
        rounds: u32,
        ours: bool,
        peer: bool,
    ) -> anyhow::Result<(Plan, Facts)> {
        let mut facts = Facts::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")));
        facts.conditions = prepare(&self.servers)?;
        let rounds = self.rounds.unwrap_or(rounds);
        let plan = Plan {
            rounds: if self.quick { 1 } else { rounds },
            quick: self.quick,
            only,
            ..plan(&self.servers, ours, peer)?
        };
        Ok((plan, facts))
    }
}

#[derive(Args)]
struct RelayArgs {
    #[command(flatten)]
    run: Run,
    /// Only these steps.
    #[arg(long, value_delimiter = ',', value_parser = relay::STEPS)]
    only: Vec<String>,
    /// Measure one server alone.
    #[arg(long, value_enum)]
    alone: Option<Target>,
}

#[derive(Args)]
struct TranscodeArgs {
    #[command(flatten)]
    run: Run,
    /// Only these steps.
    #[arg(long, value_delimiter = ',', value_parser = transcode::STEPS)]
    only: Vec<String>,
    /// Measure one server alone.
    #[arg(long, value_enum)]
    alone: Option<Target>,
}

#[derive(Args)]
struct SipArgs {
    #[command(flatten)]
    run: Run,
    /// The controld program; default: the one built beside this program.
    #[arg(long)]
    controld: Option<PathBuf>,
    /// Only these steps.
    #[arg(long, value_delimiter = ',', value_parser = sip::STEPS)]
    only: Vec<String>,
}

#[derive(Args)]
struct MixArgs {
    #[command(flatten)]
    run: Run,
    /// Only these steps.
    #[arg(long, value_delimiter = ',', value_parser = mix::STEPS)]
    only: Vec<String>,
}

#[derive(Args)]
struct LoadArgs {
    #[command(flatten)]
    servers: Servers,
    /// Which server.
    #[arg(long, value_enum, default_value = "mediad")]
    target: Target,
    /// Latency budget of mediad, microseconds.
    #[arg(long)]
    budget_us: Option<u64>,
    /// Calls.
    #[arg(long, default_value_t = 100)]
    calls: u32,
    /// Packets per second of each direction of a call.
    #[arg(long, default_value_t = 50)]
    flow_pps: u32,
    /// Counted seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// What the legs say.
    #[arg(long, value_enum, default_value = "stamp")]
    payload: Say,
    /// PCMA on leg B: the server converts.
    #[arg(long)]
    convert: bool,
    /// Legs send RTCP sender reports.
    #[arg(long)]
    rtcp: bool,
    /// Legs send telephone-events.
    #[arg(long)]
    events: bool,
    /// Hostile traffic at the ports of the first calls.
    #[arg(long, value_enum)]
    attack: Option<Hostile>,
    /// Datagrams per second of hostile traffic; 0: as many as possible.
    #[arg(long, default_value_t = 0)]
    attack_pps: u64,
    /// How many calls are attacked.
    #[arg(long, default_value_t = 1)]
    attacked: usize,
    /// Order and phases of the flows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Our media host.
    Mediad,
    /// The peer.
    Rtpengine,
    /// No server: the machine and the generator alone.
    Direct,
}

#[derive(Clone, Copy, ValueEnum)]
enum Say {
    /// Who, which and when, as plain bytes.
    Stamp,
    /// The same in the signs of G.711 samples.
    Sign,
    /// A tone per leg.
    Tone,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hostile {
    /// Random bytes.
    Garbage,
    /// RTP and RTCP cut short.
    Truncated,
    /// Well-formed RTP of a stranger.
    Spoof,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Relay(args) => compare(&args.run, args.only, args.alone, relay::run),
        Command::Transcode(args) => compare(&args.run, args.only, args.alone, transcode::run),
        Command::Sip(args) => sip_command(args),
        Command::Mix(args) => mix_command(args),
        Command::Load(args) => load_command(&args),
        Command::Plot { json, out } => plot_command(&json, out),
    }
}

/// Takes the machine into the state that measuring wants; returns the conditions for the record.
fn prepare(servers: &Servers) -> anyhow::Result<Vec<String>> {
    let mut conditions = Vec::new();
    if servers.shared_network {
        conditions.push("in the machine's own network namespace".to_owned());
    } else if let Err(error) = machine::enter_own_network() {
        conditions.push(format!("in the machine's own network namespace ({error:#})"));
    } else {
        conditions.push("in a network namespace of its own, loopback only".to_owned());
    }
    machine::pin_this_thread(machine::GENERATOR_CORE)?;
    let fifo = if machine::may_raise() {
        "under SCHED_FIFO"
    } else {
        "without SCHED_FIFO (not permitted)"
    };
    conditions.push(format!("server on core 0, generator and sink on core 1, {fifo}"));
    conditions.push(if servers.halting {
        "both cores halt when they have nothing to do".to_owned()
    } else if machine::keep_awake(&[machine::SERVER_CORE, machine::GENERATOR_CORE]) {
        "both cores kept from halting, as idle=poll does".to_owned()
    } else {
        "both cores halt when they have nothing to do (SCHED_IDLE not permitted)".to_owned()
    });
    conditions.push(format!("open files limit {}", machine::raise_open_files()));
    conditions.push(format!("generator: {} socket(s) per side", servers.sockets));
    conditions.push(format!("yardstick: {}", Yardstick::measure()?));
    for condition in &conditions {
        eprintln!("{condition}");
    }
    Ok(conditions)
}

fn plan(servers: &Servers, ours: bool, peer: bool) -> anyhow::Result<Plan> {
    let mediad = match &servers.mediad {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("mediad"),
    };
    if ours {
        anyhow::ensure!(
            mediad.exists(),
            "{} is missing; build it (cargo build --release -p mediad), name it with --mediad, or measure the peer \
             with --alone rtpengine",
            mediad.display()
        );
    }
    Ok(Plan {
        mediad: ours.then_some(mediad),
        rtpengine: peer.then(|| servers.rtpengine.clone()),
        rounds: 1,
        quick: false,
        only: Vec::new(),
        settings: servers.settings.clone(),
        sockets_per_side: servers.sockets,
        dir: scratch()?,
    })
}

/// A directory of this run alone, for what the servers write: configurations, logs, a journal. Gone after a good run; it
/// stays for whoever wants to know why a step failed.
fn scratch() -> anyhow::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    eprintln!("configurations and logs of the servers in {}", dir.display());
    Ok(dir)
}

fn compare(
    run: &Run,
    only: Vec<String>,
    alone: Option<Target>,
    scenario: fn(Plan, Facts) -> anyhow::Result<Results>,
) -> anyhow::Result<()> {
    let (ours, peer) = (alone != Some(Target::Rtpengine), alone != Some(Target::Mediad));
    let (plan, facts) = run.prepare(only, 5, ours, peer)?;
    let scratch = plan.dir.clone();
    conclude(&scenario(plan, facts)?, run, &scratch)
}

fn sip_command(args: SipArgs) -> anyhow::Result<()> {
    let controld = match args.controld {
        Some(program) => program,
        None => std::env::current_exe()?.with_file_name("controld"),
    };
    anyhow::ensure!(
        controld.exists(),
        "{} is missing; build it (cargo build --release -p controld) or name it with --controld",
        controld.display()
    );
    let (plan, facts) = args.run.prepare(args.only, 3, true, false)?;
    let scratch = plan.dir.clone();
    conclude(&sip::run(plan, controld, facts)?, &args.run, &scratch)
}

fn mix_command(args: MixArgs) -> anyhow::Result<()> {
    let (plan, facts) = args.run.prepare(args.only, 3, true, false)?;
    let scratch = plan.dir.clone();
    conclude(&mix::run(plan, facts)?, &args.run, &scratch)
}

/// Prints the figures and, unless the run was a quick one, keeps them. What the servers wrote into `scratch` is of no use
/// any more.
fn conclude(results: &Results, run: &Run, scratch: &std::path::Path) -> anyhow::Result<()> {
    for figure in &results.figures {
        println!("{}", figure.line());
        if !figure.remarks.is_empty() {
            println!("  {}", figure.remark());
        }
    }
    std::fs::remove_dir_all(scratch).with_context(|| scratch.display().to_string())?;
    anyhow::ensure!(
        !results.figures.is_empty() || !results.sweep.is_empty(),
        "nothing was measured: no step held, see above"
    );
    if run.quick {
        eprintln!("a quick run keeps no results");
        return Ok(());
    }
    keep(results, &run.out)
}

fn keep(results: &Results, out: &std::path::Path) -> anyhow::Result<()> {
    let json = results.write(out)?;
    results.write_page(out, &json)?;
    eprintln!("kept {}", json.display());
    if !results.sweep.is_empty() {
        for file in bench::plot::draw(&results.sweep, out, &results.scenario)? {
            eprintln!("drew {}", file.display());
        }
    }
    Ok(())
}

fn load_command(args: &LoadArgs) -> anyhow::Result<()> {
    prepare(&args.servers)?;
    let mut lab = Lab::new(plan(
        &args.servers,
        args.target == Target::Mediad,
        args.target == Target::Rtpengine,
    )?)?;
    let payload = match (args.payload, args.convert) {
        (Say::Tone, _) => Payload::Tone,
        (Say::Stamp, false) => Payload::Stamp,
        (Say::Sign, _) | (Say::Stamp, true) => Payload::SignStamp,
    };
    let spec = LoadSpec {
        payload,
        flow_pps: args.flow_pps,
        window: Duration::try_from_secs_f64(args.seconds)?,
        seed: args.seed,
        rtcp: args.rtcp,
        events: args.events,
        ..LoadSpec::new(Vec::new())
    };
    let which = match args.target {
        Target::Mediad => Which::Ours {
            budget_us: args.budget_us,
        },
        Target::Rtpengine => Which::Peer,
        Target::Direct => {
            let report = lab.direct("load", args.calls, &spec)?;
            println!("{}", serde_json::to_string_pretty(&report)?);
            return Ok(());
        }
    };
    let media = match (args.convert, args.events) {
        (true, false) => Media::PcmuPcma,
        (false, true) => Media::RelayEvents,
        (false, false) => Media::Relay,
        (true, true) => anyhow::bail!("--convert and --events exclude each other"),
    };
    let mut server = lab.start(which)?;
    let calls = lab.create(server.as_mut(), 0..args.calls, media)?;
    let attack = args.attack.map(|kind| attack(kind, args, &calls));
    let report = lab.load(
        "load",
        server.as_ref(),
        LoadSpec {
            calls,
            codecs: media.codecs(),
            attack,
            ..spec
        },
    )?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    if report.hostile_sent > 0 {
        println!(
            "loss of the calls not under attack: {:.3} %",
            report.loss_elsewhere() * 100.0
        );
    }
    server.delete(0..args.calls)
}

/// Hostile traffic at the first calls, from an address that none of them uses.
fn attack(kind: Hostile, args: &LoadArgs, calls: &[load::Call]) -> Attack {
    Attack {
        kind: match kind {
            Hostile::Garbage => Hostility::Garbage,
            Hostile::Truncated => Hostility::Truncated,
            Hostile::Spoof => Hostility::Spoof,
        },
        targets: calls
            .iter()
            .take(args.attacked)
            .flat_map(|call| [call.a, call.b])
            .collect(),
        from: SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 66), 19_666),
        rate_pps: args.attack_pps,
    }
}

fn plot_command(json: &std::path::Path, out: Option<PathBuf>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(json).with_context(|| json.display().to_string())?;
    let mut results: serde_json::Value = serde_json::from_str(&text).context("not a result file")?;
    let sweep: Vec<SweepPoint> =
        serde_json::from_value(results["sweep"].take()).context("no sweep in this file")?;
    let scenario = results["scenario"].as_str().context("no scenario in this file")?;
    let beside = json
        .parent()
        .map(std::path::Path::to_path_buf)
        .unwrap_or_default();
    for file in bench::plot::draw(&sweep, &out.unwrap_or(beside), scenario)? {
        println!("{}", file.display());
    }
    Ok(())
}
