//! Measures what a tap hears: its level each second, the tones asked for, and how long a pip takes to come back.
//!
//! ```text
//! tap-measure --session call-1 --tap bot --tone 440 --tone 1100 --seconds 10
//! tap-measure --session call-1 --tap bot --echo        # somebody at the other end says back what it hears
//! ```
//!
//! With `--echo` it sends a pip of 60 ms every second and looks for it in what it hears. The time told runs on the clock of
//! samples heard: from when the host took the pip in hand to when it was heard again.
#![forbid(unsafe_code)]

use clap::Parser;
use tap::{Heard, Line, Place, amplitude, level_db};

/// Measure what a tap hears.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    #[command(flatten)]
    place: Place,
    /// Tones to look for, Hz.
    #[arg(long)]
    tone: Vec<f64>,
    /// Send pips and tell how long they take to come back.
    #[arg(long)]
    echo: bool,
    /// For how long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// The pip, in Hz and as an amplitude.
const PIP_HZ: f64 = 1_300.0;
const PIP_LOUD: f64 = 8_000.0;
const PIP_MS: u32 = 60;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut line = Line::open(&args.place.host, &args.place.session, &args.place.tap).await?;
    let hz = line.sample_rate_hz();
    println!("measuring {} at {hz} Hz", args.place);
    let mut meter = Meter::new(hz);
    let mut second = Vec::new();
    let mut told = 0;
    while told < args.seconds {
        let Some(heard) = line.next().await? else { break };
        match heard {
            Heard::Audio { position, pcm } => {
                if args.echo {
                    meter.look(position, &pcm);
                    if meter.is_due(position) && line.speak(&meter.pip).await? {
                        meter.sent = Some(position + pcm.len() as u64);
                        line.mark("pip").await?;
                    }
                }
                second.extend(pcm);
            }
            Heard::Lost(samples) => eprintln!("{samples} samples were lost: this program is too slow"),
            Heard::Talks(node, talks) => println!("{node} {}", if talks { "talks" } else { "is silent" }),
            Heard::Played(_) => {}
        }
        if second.len() >= hz as usize {
            told += 1;
            report(&args, &meter, &second);
            second.clear();
        }
    }
    meter.conclude(args.echo);
    Ok(())
}

fn report(args: &Args, meter: &Meter, second: &[i16]) {
    let tones: Vec<String> = args
        .tone
        .iter()
        .map(|tone| format!("{tone} Hz {:.0}", amplitude(second, *tone, meter.sample_rate_hz)))
        .collect();
    let round = meter.rounds_ms.last().map(|ms| format!("round trip {ms:.0} ms"));
    let parts: Vec<String> = [format!("{:.1} dBFS", level_db(second))]
        .into_iter()
        .chain(tones)
        .chain(round)
        .collect();
    println!("{}", parts.join("  "));
}

/// Sends pips and waits for them.
struct Meter {
    sample_rate_hz: u32,
    pip: Vec<i16>,
    /// Where the latest pip went out, while it was not heard again.
    sent: Option<u64>,
    last_sent: u64,
    missed: u32,
    rounds_ms: Vec<f64>,
}

impl Meter {
    fn new(sample_rate_hz: u32) -> Self {
        let step = std::f64::consts::TAU * PIP_HZ / f64::from(sample_rate_hz);
        let samples = sample_rate_hz / 1_000 * PIP_MS;
        Self {
            sample_rate_hz,
            pip: (0..samples)
                .map(|n| (PIP_LOUD * (step * f64::from(n)).sin()) as i16)
                .collect(),
            sent: None,
            last_sent: 0,
            missed: 0,
            rounds_ms: Vec::new(),
        }
    }

    /// A second has passed since the latest pip: one that did not come back by then is missed.
    fn is_due(&mut self, position: u64) -> bool {
        if position < self.last_sent + u64::from(self.sample_rate_hz) {
            return false;
        }
        self.missed += u32::from(self.sent.take().is_some());
        self.last_sent = position;
        true
    }

    /// Looks for the pip, in stretches of 5 ms.
    fn look(&mut self, position: u64, pcm: &[i16]) {
        let Some(sent) = self.sent else { return };
        let stretch = (self.sample_rate_hz / 200) as usize;
        let loud = |part: &[i16]| amplitude(part, PIP_HZ, self.sample_rate_hz) > PIP_LOUD / 8.0;
        if let Some(at) = pcm.chunks(stretch).position(loud) {
            let samples = position + (at * stretch) as u64 - sent.min(position);
            self.rounds_ms
                .push(samples as f64 * 1_000.0 / f64::from(self.sample_rate_hz));
            self.sent = None;
        }
    }

    fn conclude(mut self, echo: bool) {
        if !echo {
            return;
        }
        self.rounds_ms.sort_by(f64::total_cmp);
        match (
            self.rounds_ms.first(),
            self.rounds_ms.get(self.rounds_ms.len() / 2),
            self.rounds_ms.last(),
        ) {
            (Some(least), Some(median), Some(most)) => println!(
                "{} pips came back after {least:.0} to {most:.0} ms, median {median:.0}; {} did not",
                self.rounds_ms.len(),
                self.missed
            ),
            (_, _, _) => println!("no pip came back; is anybody at the other end saying back what it hears?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pip_that_comes_back_is_timed() {
        let mut meter = Meter::new(16_000);
        assert!(meter.is_due(16_000));
        meter.sent = Some(16_320);
        meter.look(16_320, &[0; 320]);
        assert!(meter.rounds_ms.is_empty());
        let pip = meter.pip.clone();
        meter.look(16_320 + 640, &pip[..320]);
        assert_eq!(meter.rounds_ms, [40.0]);
        assert!(meter.sent.is_none() && meter.missed == 0);
        // The next one is lost.
        assert!(meter.is_due(32_000));
        meter.sent = Some(32_320);
        assert!(!meter.is_due(40_000));
        assert!(meter.is_due(48_000) && meter.missed == 1);
    }
}
