//! What must be true of a good call, and the table that shows it.

use std::time::Duration;

use anyhow::{Result, ensure};
use proto::mediad::v1 as pb;

use crate::{host::Finding, party::Heard};

/// The other's tone is sent at -12.2 dB and must arrive at that level.
const TONE_DB: f64 = -12.2;
const TONE_TOLERANCE_DB: f64 = 1.0;
/// One's own tone must not be louder than this.
const ABSENT_DB: f64 = -50.0;

/// All that was seen of the call.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) alice: Heard,
    pub(crate) bob: Heard,
    pub(crate) findings: Vec<Finding>,
    /// By node, as the host counted.
    pub(crate) stats: Vec<pb::EndpointStats>,
}

impl Verdict {
    /// The result as a table.
    pub(crate) fn print(&self) {
        println!();
        println!(
            "party  sent  heard  order  longest gap  other's tone     own tone        jitter   MOS   host rx/tx"
        );
        for (listener, talker) in self.pairs() {
            let stats = self.stats_of(listener.name).copied_or_default();
            println!(
                "{:<5}  {:>4}  {:>5}  {:<5}  {:>8.1} ms  {:>4} Hz {:>6.1} dB  {:>4} Hz {:>6.1} dB  {:>5.2} ms  {:<4}  {}/{}",
                listener.name,
                listener.sent,
                listener.received,
                if listener.out_of_order == 0 { "ok" } else { "BAD" },
                listener.gap_max.as_secs_f64() * 1e3,
                talker.hz,
                listener.level_db(talker.hz),
                listener.hz,
                listener.level_db(listener.hz),
                stats.jitter_ms,
                if stats.mos > 0.0 {
                    format!("{:.2}", stats.mos)
                } else {
                    "-".into()
                },
                stats.rx,
                stats.tx,
            );
        }
        println!();
    }

    /// Every promise, first broken first.
    pub(crate) fn judge(&self) -> Result<()> {
        for (listener, talker) in self.pairs() {
            let (name, other) = (listener.name, talker.name);
            ensure!(
                listener.received == talker.sent,
                "{name} heard {} packets, {other} sent {}",
                listener.received,
                talker.sent
            );
            ensure!(
                listener.out_of_order == 0,
                "{name} heard {} packets out of order",
                listener.out_of_order
            );
            ensure!(
                listener.strange == 0,
                "{name} got {} datagrams that are not the call's",
                listener.strange
            );
            let level = listener.level_db(talker.hz);
            ensure!(
                (level - TONE_DB).abs() <= TONE_TOLERANCE_DB,
                "{name} hears {other}'s {} Hz at {level:.1} dB, not at {TONE_DB} dB",
                talker.hz
            );
            let own = listener.level_db(listener.hz);
            ensure!(
                own <= ABSENT_DB,
                "{name} hears its own {} Hz at {own:.1} dB",
                listener.hz
            );
            ensure!(
                listener.gap_max < Duration::from_millis(500),
                "{name} heard nothing for {} ms",
                listener.gap_max.as_millis()
            );
            let told = self.stats_of(name).copied_or_default();
            ensure!(
                (told.rx, told.tx) == (listener.sent as u64, listener.received as u64),
                "the host counted {} in and {} out for {name}, who sent {} and heard {}",
                told.rx,
                told.tx,
                listener.sent,
                listener.received
            );
        }
        for finding in &self.findings {
            ensure!(!finding.is_trouble(), "the host explains: {finding}");
        }
        Ok(())
    }

    /// (listener, talker), both ways.
    fn pairs(&self) -> [(&Heard, &Heard); 2] {
        [(&self.alice, &self.bob), (&self.bob, &self.alice)]
    }

    fn stats_of(&self, node: &str) -> Told<'_> {
        Told(self.stats.iter().find(|stats| stats.node == node))
    }
}

/// The host's figures of one endpoint, if it has any.
struct Told<'a>(Option<&'a pb::EndpointStats>);

#[derive(Debug, Default)]
struct Figures {
    rx: u64,
    tx: u64,
    jitter_ms: f64,
    mos: f64,
}

impl Told<'_> {
    fn copied_or_default(&self) -> Figures {
        let Some(stats) = self.0 else {
            return Figures::default();
        };
        let (ingress, egress) = (
            stats.ingress.unwrap_or_default(),
            stats.egress.unwrap_or_default(),
        );
        Figures {
            rx: ingress.packets,
            tx: egress.packets,
            jitter_ms: ingress.jitter_ms,
            mos: stats.mos_ingress,
        }
    }
}
