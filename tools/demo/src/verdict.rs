//! What must be true of good calls, and the table that shows it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use demo::{
    report::{CallReport, PhoneReport},
    talk::TONE_DB,
};
use serde_json::Value;

use crate::{
    people::{Cast, MUSIC_HZ, Person},
    sound::Recording,
};

/// The other's tone must arrive at the level it was sent with.
const TONE_TOLERANCE_DB: f64 = 1.0;
/// Everybody else's tone must not be louder than this. G.711 puts its own noise at about -50 dB.
const ABSENT_DB: f64 = -40.0;
/// As for phones, and a moment of silence at the beginning counts.
const RECORDED_TOLERANCE_DB: f64 = 2.0;
/// The last packets of the music may share a stretch of 100 ms with the first of the agent.
const MIXED_MAX: u64 = 5;
/// Packets one side may have sent before the other could hear: half a second.
const UNHEARD_MAX: u64 = 25;

/// All that was seen.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) cast: Cast,
    /// In the cast's order.
    pub(crate) customers: Vec<PhoneReport>,
    pub(crate) agents: Vec<PhoneReport>,
    /// The controller's call details.
    pub(crate) details: Vec<Value>,
    /// Where the media host's recordings are.
    pub(crate) recordings: PathBuf,
    /// What is not cleaned up.
    pub(crate) left: Vec<String>,
}

/// One call from all sides.
struct Story<'a> {
    customer: &'a Person,
    agent: &'a Person,
    asked: &'a CallReport,
    served: &'a CallReport,
    detail: &'a Value,
    recordings: &'a Path,
}

impl Verdict {
    /// The result as a table, and who served how many.
    pub(crate) fn print(&self) {
        println!();
        println!(
            "{:<11} {:<9} {:>7} {:>16} {:>7} {:<5} {:>11} {:>11} {:>18} {:>18} {:>9}  {:<20} recording: left, right",
            "customer",
            "served by",
            "set-up",
            "music",
            "talk",
            "codec",
            "sent/heard",
            "agent's",
            "customer hears",
            "agent hears",
            "MOS c/a",
            "CDR"
        );
        for (index, customer) in self.cast.customers.iter().enumerate() {
            match self.story(index) {
                Ok(story) => story.print(),
                Err(error) => println!("{:<11} {error:#}", customer.name),
            }
        }
        println!();
        for agent in &self.agents {
            println!("{} served {} call(s)", agent.name, agent.calls.len());
        }
    }

    /// Every promise, first broken first.
    pub(crate) fn judge(&self) -> Result<()> {
        for index in 0..self.cast.customers.len() {
            self.story(index)?.judge(&self.cast)?;
        }
        for agent in &self.agents {
            if let Some(failure) = &agent.failure {
                bail!("{}: {failure}", agent.name);
            }
        }
        let (calls, details) = (self.cast.customers.len(), self.details.len());
        ensure!(
            details == calls,
            "{calls} calls and {details} call detail records"
        );
        let served: usize = self.agents.iter().map(|agent| agent.calls.len()).sum();
        ensure!(served == calls, "{calls} calls, and the agents served {served}");
        ensure!(self.left.is_empty(), "left over: {}", self.left.join("; "));
        Ok(())
    }

    /// Brings together what customer, agent and controller tell of one call.
    fn story(&self, index: usize) -> Result<Story<'_>> {
        let (customer, report) = (&self.cast.customers[index], &self.customers[index]);
        if let Some(failure) = &report.failure {
            bail!("{}: {failure}", customer.name);
        }
        let asked = report.calls.first().context("no call was made")?;
        let detail = self
            .details
            .iter()
            .find(|detail| detail["sip_call_id"] == asked.call_id.as_str());
        let detail = detail.with_context(|| format!("{}: no call detail record", customer.name))?;
        let answered_by = detail["answered_by"].as_str().unwrap_or_default();
        let place = self
            .cast
            .agents
            .iter()
            .position(|agent| agent.name == answered_by);
        let place = place
            .with_context(|| format!("{}: the record says \"{answered_by}\" answered", customer.name))?;
        let served = self.agents[place]
            .calls
            .iter()
            .find(|call| call.peer == customer.name);
        Ok(Story {
            customer,
            agent: &self.cast.agents[place],
            asked,
            served: served.with_context(|| format!("{answered_by} does not know of {}", customer.name))?,
            detail,
            recordings: &self.recordings,
        })
    }
}

impl Story<'_> {
    /// As long as the record says that they talked.
    fn talked_s(&self) -> f64 {
        self.detail["talk_ms"].as_f64().unwrap_or_default() / 1e3
    }

    fn print(&self) {
        let hears = |call: &CallReport, hz: f64| format!("{hz} Hz {:.1} dB", call.level_db(hz));
        let packets = |call: &CallReport| format!("{}/{}", call.sent, call.received);
        let record = format!(
            "{} {} {:.1} s",
            self.detail["status"],
            self.detail["ended_by"].as_str().unwrap_or("?"),
            self.talked_s()
        );
        let asked = self.asked;
        let music = format!(
            "{:.1} s {:.1} dB",
            asked.music_packets as f64 / 50.0,
            asked.music_db
        );
        println!(
            "{:<11} {:<9} {:>4.0} ms {:>16} {:>5.1} s {:<5} {:>11} {:>11} {:>18} {:>18} {:>9}  {:<20} {}",
            self.customer.name,
            self.agent.name,
            asked.set_up_ms,
            music,
            self.talked_s(),
            self.asked.codec,
            packets(self.asked),
            packets(self.served),
            hears(self.asked, self.agent.hz),
            hears(self.served, self.customer.hz),
            format!("{:.2}/{:.2}", self.asked.mos, self.served.mos),
            record,
            self.recording(),
        );
    }

    /// What its recording holds, and where it is.
    fn recording(&self) -> String {
        let (caller, callee) = (self.customer.hz, self.agent.hz);
        match self.listen_again() {
            Ok((path, recording)) => format!(
                "{caller} Hz {:.1} dB, {callee} Hz {:.1} dB, {:.1} s: {}",
                recording.level_db(0, caller),
                recording.level_db(1, callee),
                recording.seconds(),
                path.display()
            ),
            Err(error) => format!("{error:#}"),
        }
    }

    /// The recording that the call's record names, with the checksum that stands there.
    fn listen_again(&self) -> Result<(PathBuf, Recording)> {
        let file = &self.detail["recordings"][0];
        let path = file["path"].as_str().filter(|path| !path.is_empty());
        let path = path.with_context(|| {
            let problem = file["problem"].as_str().unwrap_or("the record names none");
            format!("no recording: {problem}")
        })?;
        let path = self.recordings.join(path);
        let recording = Recording::read(&path)?;
        ensure!(
            file["sha256"] == recording.sha256.as_str(),
            "{}: its checksum is {}, and the record says {}",
            path.display(),
            recording.sha256,
            file["sha256"]
        );
        Ok((path, recording))
    }

    /// The customer left, its agent right, each alone, and all of the conversation.
    fn judge_recording(&self) -> Result<()> {
        let (path, recording) = self.listen_again()?;
        let place = path.display();
        for (channel, speaker, other) in [(0, self.customer, self.agent), (1, self.agent, self.customer)] {
            let level = recording.level_db(channel, speaker.hz);
            ensure!(
                (level - TONE_DB).abs() <= RECORDED_TOLERANCE_DB,
                "{place}: {}'s {} Hz is at {level:.1} dB, not at {TONE_DB} dB",
                speaker.name,
                speaker.hz
            );
            let level = recording.level_db(channel, other.hz);
            ensure!(
                level <= ABSENT_DB,
                "{place}: {} is heard in {}'s channel at {level:.1} dB",
                other.name,
                speaker.name
            );
        }
        let talked = self.talked_s();
        ensure!(
            (recording.seconds() - talked).abs() <= 1.5,
            "{place}: is {:.1} s long, and they talked for {talked:.1} s",
            recording.seconds()
        );
        Ok(())
    }

    fn judge(&self, cast: &Cast) -> Result<()> {
        let (customer, agent) = (self.customer, self.agent);
        hears(self.asked, customer, self.served, agent, cast)?;
        hears(self.served, agent, self.asked, customer, cast)?;
        let name = &customer.name;
        ensure!(
            self.asked.music_packets > 0 && (self.asked.music_db - TONE_DB).abs() <= TONE_TOLERANCE_DB,
            "{name} heard no music ({MUSIC_HZ} Hz) while it waited"
        );
        self.judge_recording()?;
        ensure!(
            self.served.hung_up && !self.asked.hung_up,
            "{name}: the agent should have hung up"
        );
        let detail = self.detail;
        ensure!(
            detail["status"] == 200 && detail["queue"] == "support" && detail["ended_by"] == "callee",
            "{name}: its record tells another story: {detail}"
        );
        let counted = detail["caller_media"]["rx_packets"].as_u64().unwrap_or_default();
        ensure!(
            counted.abs_diff(self.asked.sent) <= UNHEARD_MAX,
            "{name} sent {} packets, and the record says {counted}",
            self.asked.sent
        );
        Ok(())
    }
}

/// One way of a call: the listener heard the talker and nobody else.
fn hears(
    heard: &CallReport,
    listener: &Person,
    said: &CallReport,
    talker: &Person,
    cast: &Cast,
) -> Result<()> {
    let (name, other) = (&listener.name, &talker.name);
    ensure!(heard.received > 0, "no media: {name} heard nothing from {other}");
    // Who waits hears music, and what it says meanwhile is heard by nobody.
    let (from_it, to_it) = (
        heard.received.saturating_sub(heard.music_packets),
        said.sent.saturating_sub(said.waited_packets),
    );
    ensure!(
        from_it + UNHEARD_MAX >= to_it && from_it <= said.sent + MIXED_MAX,
        "{name} heard {from_it} packets, {other} sent {to_it}",
    );
    ensure!(
        heard.lost.unsigned_abs() * 100 <= heard.received,
        "{name} lost {} of {} packets",
        heard.lost,
        heard.received
    );
    ensure!(
        heard.strange == 0,
        "{name} got {} datagrams that are not its call's",
        heard.strange
    );
    ensure!(
        heard.ssrc_changes == 0,
        "{name}'s stream changed its source {} times",
        heard.ssrc_changes
    );
    ensure!(
        heard.gap_max_ms < 500.0,
        "{name} heard nothing for {:.0} ms",
        heard.gap_max_ms
    );
    let level = heard.level_db(talker.hz);
    ensure!(
        (level - TONE_DB).abs() <= TONE_TOLERANCE_DB,
        "{name} hears {other}'s {} Hz at {level:.1} dB, not at {TONE_DB} dB",
        talker.hz
    );
    for person in cast.everybody().filter(|person| person.hz != talker.hz) {
        let level = heard.level_db(person.hz);
        ensure!(
            level <= ABSENT_DB,
            "{name} hears {} ({} Hz) at {level:.1} dB",
            person.name,
            person.hz
        );
    }
    let music = heard.level_db(MUSIC_HZ);
    ensure!(
        music <= ABSENT_DB,
        "{name} hears the music at {music:.1} dB while {other} speaks"
    );
    Ok(())
}
