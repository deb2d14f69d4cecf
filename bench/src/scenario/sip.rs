//! The SIP scenario: registrations with digest, calls with audio through controller and media host, memory.
//!
//! No peer runs here: what Debian packages beside us either keeps no call state (proxies) or carries no media.

use std::time::Duration;

use serde_json::{Value, json};

use super::Plan;
use crate::machine::{Facts, Observed};
use crate::peer::Server as _;
use crate::peer::controld::{self, Controld};
use crate::peer::mediad::{self, Mediad};
use crate::report::{Figure, Results};
use crate::sip::{CallLoad, CallReport, Phones, RegisterReport, UserAgent, register};

/// Its steps.
pub const STEPS: [&str; 5] = ["register", "plain", "rate", "memory", "signalling"];

/// First UDP port of the phones.
const PHONES_PORT: u16 = 21_000;
const SIP_PORT: u16 = 5_060;
const MANAGEMENT_PORT: u16 = 22_250;
/// Registered users.
const ACCOUNTS: usize = 1_000;
/// Registrations under way at once.
const REGISTER_IN_FLIGHT: usize = 32;
/// For how long they are counted, after a first second. Both stacks keep each over UDP for a while, and have room for some
/// 40 000 a second in this time; for longer it is the server's transactions, kept for 32 s, that bound them.
const REGISTER_SECONDS: u64 = 2;
/// From answer to hang-up.
const HOLD: Duration = Duration::from_secs(2);
/// Where the search for the highest rate begins, and its step.
const RATE_START: f64 = 400.0;
const RATE_STEP: f64 = 1.1;
const RATE_MAX: f64 = 1_600.0;
/// A rate at which nothing is near its limit: set-up times are stated for it.
const RATE_PLAIN: f64 = 100.0;
/// Rates below and above it, up to the lowest one that is asked of us: what caches have lost from one call to the next is
/// paid anew for each.
const RATES_BESIDE: [(f64, &str); 3] = [
    (25.0, "controld_cpu_ms_per_call_at_25"),
    (200.0, "controld_cpu_ms_per_call_at_200"),
    (RATE_START, "controld_cpu_ms_per_call_at_400"),
];
/// A rate holds only when less of the audio is lost.
const LOSS_MAX: f64 = 0.001;
/// Calls per second for memory: few enough for the rate to be held.
const RATE_MEMORY: f64 = 1_000.0;
/// First, so that there is room for as many at once as there will be.
const MEMORY_SETTLES: Duration = Duration::from_secs(60);
/// Of calls that are over controld keeps finished transactions, for 64 times T1 (RFC 3261 timer J, RFC 6026 timers L and M:
/// 32 s), and the newest 10 000 details. Memory is compared when the former have gone.
const MEMORY_FORGETS: Duration = Duration::from_secs(40);
/// Calls after that, until the next rest, and after how many of them memory is read each time.
const MEMORY_CALLS: (u32, u32) = (100_000, 10_000);
/// Rests after the first. What an allocator holds on to differs from one rest to the next by more than a leak of a few bytes
/// a call would show in one.
const MEMORY_RESTS: u32 = 3;
/// Calls for the highest rate of signalling.
const SIGNALLING_CALLS: u32 = 30_000;
/// For memory: the media host keeps its events for so short a time that their room is full long before it is read first.
const SHORT_EVENTS: &str = "events.ring_seconds=5";

/// Runs the scenario.
///
/// # Errors
/// A server fails or a registration is refused. Calls that fail are part of the result.
pub fn run(plan: Plan, controld: std::path::PathBuf, mut facts: Facts) -> anyhow::Result<Results> {
    let rounds = plan.rounds.max(1);
    let mut lab = SipLab {
        plan,
        controld,
        figures: Vec::new(),
        raw: Vec::new(),
    };
    facts.conditions.push(format!(
        "controld and mediad together on core 0; registrations: {REGISTER_IN_FLIGHT} under way at once, each with a fresh \
         challenge (SHA-256), {ACCOUNTS} accounts, UDP, counted for {REGISTER_SECONDS} s"
    ));
    facts.conditions.push(format!(
        "`b2bua_calls_per_s`: {} s hold, PCMU both ways, 180 and 200 from the callee; the highest rate, in steps of {} %, at \
         which no call fails and less than {} % of the audio is lost",
        HOLD.as_secs(),
        ((RATE_STEP - 1.0) * 100.0).round(),
        LOSS_MAX * 100.0
    ));
    facts.conditions.push(format!(
        "`controld_cpu_ms_per_call`: without audio, as many calls as can be; with audio `_busy`: at the highest rate, `_at_25`, \
         `_at_100`, `_at_200` and `_at_400`: at those, while some of the core is idle; memory: {MEMORY_RESTS} times {} calls at {RATE_MEMORY} calls/s without \
         audio, read {} s after the last of each, against as long after {} s of such calls, mediad with {SHORT_EVENTS}",
        MEMORY_CALLS.0,
        MEMORY_FORGETS.as_secs(),
        MEMORY_SETTLES.as_secs()
    ));
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        lab.round(round == 0)?;
    }
    Ok(Results {
        scenario: "sip".into(),
        facts,
        rounds,
        figures: lab.figures,
        sweep: Vec::new(),
        raw: lab.raw,
    })
}

struct SipLab {
    plan: Plan,
    controld: std::path::PathBuf,
    figures: Vec<Figure>,
    raw: Vec<Value>,
}

/// Both servers, fresh.
struct Site {
    mediad: Mediad,
    controld: Controld,
}

impl SipLab {
    fn start(&self) -> anyhow::Result<Site> {
        self.start_with(&[])
    }

    /// With settings of a step for the media host, which those of the plan overrule.
    fn start_with(&self, settings: &[String]) -> anyhow::Result<Site> {
        let options = mediad::Options {
            program: self.plan.mediad.clone().unwrap_or_else(|| "mediad".into()),
            settings: [settings, &self.plan.settings].concat(),
            dir: self.plan.dir.clone(),
            ..mediad::Options::default()
        };
        let media_port = options.control_port;
        let mediad = Mediad::start(&options)?;
        let controld = Controld::start(controld::Options {
            program: self.controld.clone(),
            sip_port: SIP_PORT,
            management_port: MANAGEMENT_PORT,
            media_port,
            accounts: ACCOUNTS,
            dir: self.plan.dir.clone(),
        })?;
        Ok(Site { mediad, controld })
    }

    fn wants(&self, step: &str) -> bool {
        self.plan.wants(step)
    }

    fn round(&mut self, with_memory: bool) -> anyhow::Result<()> {
        if self.wants("register") {
            self.registrations()?;
        }
        if self.wants("plain") {
            self.plain_calls()?;
        }
        if self.wants("rate") {
            self.highest_rate()?;
        }
        if with_memory && self.wants("memory") {
            self.memory()?;
        }
        if self.wants("signalling") {
            self.signalling_rate()?;
        }
        Ok(())
    }

    fn registrations(&mut self) -> anyhow::Result<()> {
        let site = self.start()?;
        let server = site.controld.sip();
        let own = std::net::SocketAddrV4::new(*server.ip(), PHONES_PORT);
        let mut agent = UserAgent::bind(own, server, 3)?;
        let window = if self.plan.quick { 1 } else { REGISTER_SECONDS };
        let times = (Duration::from_secs(1), Duration::from_secs(window));
        let process = site.controld.process();
        let report: RegisterReport = register(&mut agent, ACCOUNTS, REGISTER_IN_FLIGHT, times, process)?;
        eprintln!(
            "  register: {:.0}/s, {:.1} us of CPU each, {} failed",
            report.per_second(),
            report.cpu_us(),
            report.failed
        );
        anyhow::ensure!(report.failed == 0, "{} registrations failed", report.failed);
        self.book("register_per_s", "1/s", report.per_second());
        self.book("register_cpu_us", "us", report.cpu_us());
        self.raw.push(json!({ "step": "register", "report": report }));
        Ok(())
    }

    fn phones(&self, site: &Site) -> anyhow::Result<Phones> {
        Phones::open(
            PHONES_PORT,
            site.controld.sip(),
            ACCOUNTS,
            site.controld.process(),
        )
    }

    fn calls(
        &mut self,
        step: &str,
        site: &Site,
        phones: &mut Phones,
        load: CallLoad,
    ) -> anyhow::Result<CallReport> {
        let servers = [site.controld.process(), site.mediad.process()];
        let report = phones.run(load, &servers)?;
        eprintln!("  {step}: {}", report.line());
        self.raw.push(json!({ "step": step, "report": report }));
        Ok(report)
    }

    /// Calls well below any limit: what one costs.
    fn plain_calls(&mut self) -> anyhow::Result<()> {
        let report = self.plain_calls_at(RATE_PLAIN)?;
        self.book("controld_cpu_ms_per_call_at_100", "ms", report.cpu_ms(0));
        self.book("call_set_up_p50_ms", "ms", report.set_up_us.p50 / 1e3);
        self.book("call_set_up_p99_ms", "ms", report.set_up_us.p99 / 1e3);
        for (rate, figure) in RATES_BESIDE {
            let report = self.plain_calls_at(rate)?;
            self.book(figure, "ms", report.cpu_ms(0));
        }
        Ok(())
    }

    fn plain_calls_at(&mut self, rate: f64) -> anyhow::Result<CallReport> {
        let site = self.start()?;
        let mut phones = self.phones(&site)?;
        let seconds = if self.plan.quick { 2.0 } else { 6.0 };
        let step = format!("plain {rate:.0}");
        let report = self.calls(&step, &site, &mut phones, with_audio(rate, seconds))?;
        anyhow::ensure!(report.failures() == 0, "plain calls failed: {:?}", report.failed);
        Ok(report)
    }

    fn highest_rate(&mut self) -> anyhow::Result<()> {
        let site = self.start()?;
        let mut phones = self.phones(&site)?;
        let seconds = if self.plan.quick { 2.0 } else { 6.0 };
        let (mut best, mut best_cpu_ms, mut rate) = (0.0, None, RATE_START);
        let mut falling = false;
        while (RATE_START / 8.0..=RATE_MAX).contains(&rate) {
            let report = self.calls(
                &format!("rate {rate:.0}"),
                &site,
                &mut phones,
                with_audio(rate, seconds),
            )?;
            let holds = report.failures() == 0
                && report.audio.loss() < LOSS_MAX
                && report.audio.foreign + report.audio.silent_sides == 0
                && report.per_second() > 0.98 * rate;
            if holds {
                best = rate;
                best_cpu_ms = Some(report.cpu_ms(0));
                if falling {
                    break;
                }
                rate *= RATE_STEP;
            } else if best > 0.0 {
                break;
            } else {
                falling = true;
                rate /= RATE_STEP;
            }
        }
        self.book("b2bua_calls_per_s", "1/s", best);
        if let Some(cpu_ms) = best_cpu_ms {
            self.book("controld_cpu_ms_per_call_busy", "ms", cpu_ms);
        }
        Ok(())
    }

    /// Does memory grow with the calls there have been?
    fn memory(&mut self) -> anyhow::Result<()> {
        let site = self.start_with(&[SHORT_EVENTS.to_owned()])?;
        let mut phones = self.phones(&site)?;
        let (rate, settles, forgets, (all, step)) = if self.plan.quick {
            let second = Duration::from_secs(1);
            (RATE_PLAIN, second, second, (400, 100))
        } else {
            (RATE_MEMORY, MEMORY_SETTLES, MEMORY_FORGETS, MEMORY_CALLS)
        };
        let at_rate = |calls| signalling(calls, Some(rate));
        let processes = [site.controld.process(), site.mediad.process()];
        let at_rest = || {
            std::thread::sleep(forgets);
            rss_kb(&processes)
        };
        let first = at_rate((rate * settles.as_secs_f64()) as u32);
        let warm = self.calls("memory, settling", &site, &mut phones, first)?;
        anyhow::ensure!(warm.failures() == 0, "calls failed: {:?}", warm.failed);
        let (mut rests, mut busy) = (vec![at_rest()?], Vec::new());
        for _ in 0..MEMORY_RESTS {
            for _ in 0..all / step {
                let report = self.calls("memory", &site, &mut phones, at_rate(step))?;
                anyhow::ensure!(report.failures() == 0, "calls failed: {:?}", report.failed);
                busy.push(rss_kb(&processes)?);
            }
            rests.push(at_rest()?);
        }
        for (n, process) in ["controld", "mediad"].into_iter().enumerate() {
            let grown = rests[rests.len() - 1][n] - rests[0][n];
            let calls = f64::from(all) * f64::from(MEMORY_RESTS);
            self.book(
                &format!("{process}_grown_kb_100k_calls"),
                "kB",
                grown * 100_000.0 / calls,
            );
        }
        self.raw
            .push(json!({ "step": "memory", "rss_kb": rests, "busy_rss_kb": busy }));
        Ok(())
    }

    /// As many calls without audio as can be.
    fn signalling_rate(&mut self) -> anyhow::Result<()> {
        let site = self.start()?;
        let mut phones = self.phones(&site)?;
        let calls = if self.plan.quick { 1_000 } else { SIGNALLING_CALLS };
        let report = self.calls("signalling", &site, &mut phones, signalling(calls, None))?;
        anyhow::ensure!(report.failures() == 0, "calls failed: {:?}", report.failed);
        self.book("signalling_calls_per_s", "1/s", report.per_second());
        self.book("controld_cpu_ms_per_call", "ms", report.cpu_ms(0));
        Ok(())
    }

    fn book(&mut self, name: &str, unit: &str, value: f64) {
        let at = self.figures.iter().position(|figure| figure.name == name);
        let at = at.unwrap_or_else(|| {
            self.figures.push(Figure::new(name, unit));
            self.figures.len() - 1
        });
        self.figures[at].ours.push(value);
    }
}

/// Calls without audio that are hung up at once: at a rate, or as many as can be.
fn signalling(calls: u32, per_second: Option<f64>) -> CallLoad {
    CallLoad {
        calls,
        per_second,
        open_max: 100,
        hold: Duration::ZERO,
        audio: false,
        warm_calls: 0,
    }
}

/// Resident memory of each process, kB.
fn rss_kb(processes: &[Observed]) -> anyhow::Result<Vec<f64>> {
    let readings = processes.iter().map(|process| Ok(process.rss_kb()? as f64));
    readings.collect()
}

/// `seconds` of calls at `rate` beyond the time it takes until as many are open as ever will be.
fn with_audio(rate: f64, seconds: f64) -> CallLoad {
    let warm_calls = (rate * (HOLD.as_secs_f64() + 0.5)) as u32;
    CallLoad {
        calls: warm_calls + (rate * seconds) as u32,
        per_second: Some(rate),
        open_max: 20_000,
        hold: HOLD,
        audio: true,
        warm_calls,
    }
}
