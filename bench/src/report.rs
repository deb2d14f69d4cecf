//! Figures: the lines printed, the JSON kept, the table for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::Facts;

/// One quantity, measured on both servers in the same rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Name as `SPECIFICATION.md` quotes it.
    pub name: String,
    /// Unit of both values.
    pub unit: String,
    /// Our value in each round.
    pub ours: Vec<f64>,
    /// The peer's value in each round.
    pub peer: Vec<f64>,
    /// What must be known to read it, per round: loss, CPU beside a delay.
    pub remarks: BTreeMap<String, Vec<f64>>,
}

impl Figure {
    /// An empty figure.
    #[must_use]
    pub fn new(name: &str, unit: &str) -> Figure {
        Figure {
            name: name.into(),
            unit: unit.into(),
            ours: Vec::new(),
            peer: Vec::new(),
            remarks: BTreeMap::new(),
        }
    }

    /// Median of our rounds; `None` without any.
    #[must_use]
    pub fn ours(&self) -> Option<f64> {
        median(&self.ours)
    }

    /// Median of the peer's rounds.
    #[must_use]
    pub fn peer(&self) -> Option<f64> {
        median(&self.peer)
    }

    /// Median of the ratios round by round: what moves both servers of a round alike does not move it.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self
            .ours
            .iter()
            .zip(&self.peer)
            .filter(|(_, peer)| **peer != 0.0)
            .map(|(ours, peer)| ours / peer)
            .collect();
        median(&ratios)
    }

    /// Medians of the remarks, for a table's last column.
    #[must_use]
    pub fn remark(&self) -> String {
        let one = |(what, values): (&String, &Vec<f64>)| Some(format!("{what} {}", number(median(values)?)));
        self.remarks.iter().filter_map(one).collect::<Vec<_>>().join(", ")
    }

    /// `figure <name> ours=<v> peer=<v> ratio=<ours/peer> unit=<u>`; a side that was not measured reads `none`.
    #[must_use]
    pub fn line(&self) -> String {
        let show = |value: Option<f64>| value.map_or("none".to_owned(), number);
        format!(
            "figure {} ours={} peer={} ratio={} unit={}",
            self.name,
            show(self.ours()),
            show(self.peer()),
            show(self.ratio()),
            self.unit
        )
    }
}

/// Four significant digits, without an exponent.
#[must_use]
pub fn number(value: f64) -> String {
    let magnitude = if value == 0.0 {
        0.0
    } else {
        value.abs().log10().floor()
    };
    let decimals = (3.0 - magnitude).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

/// Middle value, the mean of both middle values when their count is even.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[n / 2]),
        n => Some(f64::midpoint(sorted[n / 2 - 1], sorted[n / 2])),
    }
}

/// One point of a sweep over load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepPoint {
    /// Who was measured: `mediad`, `rtpengine` or `direct`.
    pub server: String,
    /// Calls under load.
    pub calls: u32,
    /// Packets per second delivered.
    pub pps: f64,
    /// One-way delay without the machine's own, median, milliseconds.
    pub added_p50_ms: f64,
    /// The same, 99 %.
    pub added_p99_ms: f64,
    /// Server CPU per packet delivered, microseconds.
    pub cpu_us: f64,
    /// Share of one core.
    pub core: f64,
    /// Share of packets lost.
    pub loss: f64,
}

/// A whole run, as kept in a file.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Scenario.
    pub scenario: String,
    /// The machine and the command.
    pub facts: Facts,
    /// Rounds of each figure.
    pub rounds: u32,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Delay and CPU over load, medians over the rounds.
    pub sweep: Vec<SweepPoint>,
    /// Every single report, for whoever doubts a median.
    pub raw: Vec<Value>,
}

impl Results {
    /// Writes `<scenario>-<date>.json` into `dir`; returns its path.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let date = self.facts.date.replace([':', '-'], "");
        let path = dir.join(format!("{}-{date}.json", self.scenario));
        fs::write(&path, serde_json::to_string_pretty(self)?).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// A table in Markdown: medians, spread, ratio.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from(if self.has_peer() {
            "| figure | unit | mediad | rtpengine | ratio | |\n|---|---|---|---|---|---|\n"
        } else {
            "| figure | unit | ours | |\n|---|---|---|---|\n"
        });
        for figure in &self.figures {
            let side = |values: &[f64]| match (median(values), spread(values)) {
                (Some(middle), Some((low, high))) => {
                    format!("**{}** ({}–{})", number(middle), number(low), number(high))
                }
                _ => "not measured".to_owned(),
            };
            let (ours, remark) = (side(&figure.ours), figure.remark());
            let Figure { name, unit, .. } = figure;
            let row = if self.has_peer() {
                let ratio = figure.ratio().map_or("—".to_owned(), number);
                format!(
                    "| `{name}` | {unit} | {ours} | {} | {ratio} | {remark} |\n",
                    side(&figure.peer)
                )
            } else {
                format!("| `{name}` | {unit} | {ours} | {remark} |\n")
            };
            text.push_str(&row);
        }
        text
    }

    fn has_peer(&self) -> bool {
        self.figures.iter().any(|figure| !figure.peer.is_empty())
    }

    /// Links to what `plot` draws of the sweep, if there was one.
    fn pictures(&self) -> String {
        if self.sweep.is_empty() {
            return String::new();
        }
        let name = &self.scenario;
        format!(
            "![Added delay over calls]({name}-delay.svg)\n![CPU per packet over load]({name}-cpu.svg)\n\n"
        )
    }

    /// The page `<scenario>.md` beside the JSON: the table, the machine, the pictures.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write_page(&self, dir: &Path, json: &Path) -> anyhow::Result<()> {
        let (facts, peer) = (&self.facts, self.has_peer());
        let list = |items: &[String]| items.iter().map(|item| format!("- {item}\n")).collect::<String>();
        let text = format!(
            "# `{scenario}`{beside}\n\n\
             Medians of {rounds} rounds, lowest and highest round in brackets{rounds_how}. Written by `{command}`; all values in `{json}`.\n\n{table}\n\
             {pictures}\
             - {cpu}, {cores} cores, {memory} MB; Linux {kernel}; load before the run {load}\n- commit {commit}, {date}\n\
             {servers}{conditions}",
            scenario = self.scenario,
            beside = if peer {
                ": mediad and rtpengine side by side"
            } else {
                ""
            },
            rounds_how = if peer {
                ", interleaved, ratio round by round"
            } else {
                ""
            },
            rounds = self.rounds,
            command = facts.command,
            json = json
                .file_name()
                .map(|name| name.to_string_lossy())
                .unwrap_or_default(),
            table = self.table(),
            pictures = self.pictures(),
            cpu = facts.cpu,
            cores = facts.cores,
            memory = facts.memory_mb,
            kernel = facts.kernel,
            load = facts.load,
            commit = facts.commit,
            date = facts.date,
            servers = list(&facts.servers),
            conditions = list(&facts.conditions),
        );
        let path = dir.join(format!("{}.md", self.scenario));
        fs::write(&path, text).with_context(|| path.display().to_string())
    }
}

fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_s_line_has_the_form_that_scripts_read() {
        let figure = Figure {
            ours: vec![2.0, 3.0, 2.5],
            peer: vec![4.0, 12.0, 5.0],
            ..Figure::new("relay_cpu_us_saturated", "us")
        };
        assert_eq!(
            figure.line(),
            "figure relay_cpu_us_saturated ours=2.500 peer=5.000 ratio=0.5000 unit=us"
        );
        assert_eq!(
            Figure::new("x", "us").line(),
            "figure x ours=none peer=none ratio=none unit=us"
        );
    }

    #[test]
    fn numbers_keep_four_digits_and_medians_the_middle() {
        let shown: Vec<String> = [0.0, 0.01234, 9.4, 229_000.0].into_iter().map(number).collect();
        assert_eq!(shown, ["0.000", "0.01234", "9.400", "229000"]);
        assert_eq!(
            (median(&[]), median(&[3.0, 1.0, 2.0]), median(&[1.0, 2.0])),
            (None, Some(2.0), Some(1.5))
        );
    }
}
