//! Worlds that are listened to: every party has a tone of its own, and through random edits of two sessions that a link
//! joins each listener hears exactly the tones that the edges say, at their levels, on a line that never breaks.
//!
//! The judge knows edges and tones. In the *exact* worlds nothing is resampled or compressed beyond G.711, so that a tone's
//! phase tells where in its source a listener is: there each frame of a source has to be heard once and in order, whatever
//! becomes of the plan. Half of the legs are encrypted, with keys that change and numbers that go around.

mod graph;
mod party;

use std::{
    collections::VecDeque,
    f64::consts::TAU,
    panic::AssertUnwindSafe,
    time::{Duration, Instant, SystemTime},
};

use codecs::{goertzel, tone::Oscillator};
use media_engine::{
    command::Command,
    recording::{HEADER_BYTES, Recording, Settings, Workbench},
    spec::RecordingFormat,
    tap::Program,
};
use netem::Rng;
use proto::mediad::v1 as pb;
use rtp::time::Now;

use self::{
    graph::{Clarity, Heard, PARTIES, SESSIONS, Score, TAP_HZ, VOICES, is_party},
    party::{Ear, LOUD, Voice, next_sample},
};
use crate::{
    Failure,
    cipher::{HostKeys, Opened, Place},
    model,
    server::{Message, Outcome, Server},
};

/// From one edit to the next. What fades has faded, and what is measured is steady.
const ROUND_MS: u64 = 800;
/// Levels are measured over so much at the end of a round, in which all tones have a whole number of periods between them. A
/// decoder of Opus that comes upon a stream in its middle may be wrong about pure tones for the first 400 ms.
const MEASURED_MS: u64 = 400;
/// By how much of its frequency a tone may be sharp or flat while a stream is pulled to its place.
const PULL_MAX: f64 = 0.015;
/// Nobody who hears something in packets of 20 ms has to wait longer for one; in wide worlds some are of 40 ms.
const GAP_MS_MAX: u64 = 60;
const GAP_MS_MAX_WIDE: u64 = GAP_MS_MAX + 20;
/// Actions a failure shows.
const TRACE: usize = 12;

/// What to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Everything follows from it.
    pub seed: u64,
    /// Edits.
    pub edits: u32,
    /// Print them.
    pub verbose: bool,
    /// A fault put in on purpose.
    pub fault: Option<Fault>,
}

/// What goes wrong between the engine and the judge: the proof that the judge can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 20 ms are heard twice.
    Repeated,
    /// 20 ms are never heard.
    Skipped,
    /// A packet is late by 80 ms.
    Held,
    /// Somebody is a little too loud.
    Loud,
    /// Somebody hears one who was muted.
    Stranger,
    /// A packet that should be encrypted is not.
    Clear,
    /// Phones that encrypt forget how often their numbers went around.
    Forgotten,
}

/// What a run without violation listened to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Edits taken.
    pub edits: u64,
    /// Tones that were heard as they should, and those that were absent as they should.
    pub tones: u64,
    /// Of them, those whose frames were heard once and in order across an edit.
    pub exact: u64,
    /// Packets that reached phones.
    pub packets: u64,
    /// Of them, those that were encrypted.
    pub sealed: u64,
    /// How often the numbers of phones that encrypt went around.
    pub rollovers: u64,
}

/// Runs one world to its end.
///
/// # Errors
/// The first violation, or a panic in the code under test.
pub fn run(config: Run) -> Result<Summary, Box<Failure>> {
    let mut world = World::new(config);
    let mut edit = 0;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        while edit < config.edits {
            world.round(edit)?;
            edit += 1;
        }
        world.finish()
    }));
    let violation = match outcome {
        Ok(Ok(())) => return Ok(world.summary),
        Ok(Err(violation)) => violation,
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            format!("panic: {}", said.unwrap_or_default())
        }
    };
    Err(Box::new(Failure {
        sound: true,
        seed: config.seed,
        steps: config.edits,
        step: edit,
        violation,
        trace: world.trace.into(),
    }))
}

/// A program at a tap: it says its tone and keeps what it hears.
struct Robot {
    program: Program,
    rate_hz: u32,
    tone: Oscillator,
    heard: Vec<i16>,
}

/// What should be in the left channel of a recording and in the right, and how well it should be heard.
type Sides = [(Measure, Heard); 2];

/// How levels are measured, and how exact they have to be.
#[derive(Debug, Clone, Copy)]
struct Measure {
    clarity: Clarity,
    /// A stream is on its way to its place on a timeline: it is a little sharp or flat until it is there, and its level shows
    /// only in short pieces.
    pulled: bool,
}

/// A recording under way.
struct Tape {
    recording: Recording,
    file: Vec<u8>,
    began: Instant,
    /// The steady end of each round: from and to in ms, what is left and what right.
    rounds: Vec<(u64, u64, Sides)>,
}

struct World {
    now: Now,
    rng: Rng,
    server: Server,
    workers: usize,
    exact: bool,
    /// The session that was edited last.
    edited: usize,
    score: Score,
    voices: Vec<Voice>,
    /// What the host encrypts with.
    host_keys: HostKeys,
    ears: Vec<Ear>,
    robots: [Robot; 2],
    /// When programs speak and hear next: in real time, whatever the rounds are.
    robots_at: Instant,
    tapes: [Option<Tape>; 2],
    bench: Workbench,
    fault: Option<Fault>,
    verbose: bool,
    trace: VecDeque<String>,
    summary: Summary,
    started: Instant,
}

/// The one reading of a clock; everything else is virtual.
#[expect(
    clippy::disallowed_methods,
    reason = "a base to count from; only differences matter"
)]
fn base() -> Instant {
    Instant::now()
}

impl World {
    fn new(config: Run) -> Self {
        let mut rng = Rng::new(config.seed);
        let now = Now {
            mono: base(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
        };
        let exact = config.seed.is_multiple_of(2);
        let workers = 1 + rng.below(2) as usize;
        let server = Server::new(now, 1, workers, &mut rng);
        let score = Score::new(exact, &mut rng);
        let voices = (0..PARTIES.len())
            .map(|party| Voice::new(party, score.codecs[party], now.mono, &mut rng))
            .collect();
        let mut world = Self {
            now,
            server,
            workers,
            exact,
            edited: 0,
            voices,
            host_keys: HostKeys::default(),
            ears: (0..PARTIES.len()).map(|_| Ear::new(exact)).collect(),
            robots: std::array::from_fn(|_| Robot::nobody()),
            robots_at: now.mono,
            tapes: [None, None],
            bench: Workbench::default(),
            fault: config.fault,
            verbose: config.verbose,
            trace: VecDeque::new(),
            summary: Summary::default(),
            started: now.mono,
            score,
            rng,
        };
        for voice in &mut world.voices {
            voice.forgets = config.fault == Some(Fault::Forgotten);
        }
        // Both ends of the link are there before anybody speaks.
        for session in 0..SESSIONS.len() {
            world.apply(session).expect("a graph without edges");
        }
        for (session, robot) in world.robots.iter_mut().enumerate() {
            let place = world.server.host.tap(&SESSIONS[session].into(), &"tap".into());
            *robot = Robot::attach(&place.expect("both have a tap").port, TAP_HZ[session]);
        }
        world
    }

    fn log(&mut self, what: String) {
        let line = format!("{:8.3} s  {what}", (self.now.mono - self.started).as_secs_f64());
        if self.verbose {
            println!("{line}");
        }
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    /// One edit of one session, and what is heard after it.
    fn round(&mut self, edit: u32) -> Result<(), String> {
        let session = self.rng.below(2) as usize;
        self.edited = session;
        let before: Vec<Heard> = (0..PARTIES.len())
            .map(|party| self.score.heard_by(party))
            .collect();
        let returned = self.score.edit(session, &mut self.rng);
        for party in returned {
            // Another port, another stream.
            self.ears[party] = Ear::new(self.exact);
        }
        if self.rng.below(3) == 0 {
            self.server.lag = Duration::from_millis(self.rng.below(4));
        }
        self.apply(session)?;
        if !self.exact && self.rng.below(4) == 0 {
            self.change_effort();
        }
        self.log(format!(
            "edit {edit}: {} is {}",
            SESSIONS[session],
            self.score.text(session)
        ));
        let after: Vec<Heard> = (0..PARTIES.len())
            .map(|party| self.score.heard_by(party))
            .collect();
        for (party, ear) in self.ears.iter_mut().enumerate() {
            let goes_on = !before[party].is_empty() && !after[party].is_empty();
            ear.edited(goes_on);
        }
        self.pass(ROUND_MS, &after)?;
        self.listen(&before, &after)
    }

    /// A worker is told to make more or less of an effort with Opus, as when it is busy or is not any more.
    fn change_effort(&mut self) {
        let worker = self.rng.below(self.workers as u64) as usize;
        let complexity = self.rng.below(11) as u8;
        self.log(format!("worker {worker} encodes with complexity {complexity}"));
        let message = Message::Command(Command::OpusComplexity(complexity));
        self.server.post(self.now.mono, worker, message, &mut self.rng);
    }

    fn apply(&mut self, session: usize) -> Result<(), String> {
        let request = self.score.request(session);
        let applied = self.server.apply(self.now, &request);
        let applied = applied.map_err(|refusal| format!("a good edit was refused: {refusal}"))?;
        self.summary.edits += 1;
        for state in &applied.reply.transports {
            let party = PARTIES.iter().position(|party| format!("t-{party}") == state.id);
            if let (Some(party), Some(local)) = (party, &state.local) {
                let sdes = self.score.sdes[party];
                if self.voices[party].server.is_none() {
                    self.voices[party].encrypt(sdes);
                }
                self.voices[party].server = Some(crate::request::socket_address(local));
                if let (Some(sdes), Some(told)) = (sdes, state.local_sdes.first()) {
                    let leg = (session, state.id.clone());
                    self.host_keys.told(leg, sdes.suite(), &told.key_salt);
                }
            }
        }
        for (party, voice) in self.voices.iter_mut().enumerate() {
            if !self.score.is_present(party) {
                voice.hang_up();
            }
        }
        let recording = self.score.recording(session);
        let intake = recording.and_then(|recording| self.server.recordings.remove(&recording));
        if let Some(intake) = intake {
            let mut file = Vec::new();
            let settings = Settings::new(RecordingFormat::WavStereo, 8_000);
            let recording = Recording::new(settings, intake, &mut file).map_err(|error| error.to_string())?;
            let ended = self.tapes[session].replace(Tape {
                recording,
                file,
                began: self.now.mono,
                rounds: Vec::new(),
            });
            self.play_back(ended)?;
        }
        if let Some(commit) = applied.commit {
            let message = Message::Commit(
                commit,
                applied.wants,
                session,
                std::rc::Rc::new(model::Graph::default()),
            );
            self.server
                .post(self.now.mono, applied.worker, message, &mut self.rng);
        }
        Ok(())
    }

    /// Lets time pass in which all speak and listen.
    fn pass(&mut self, ms: u64, expected: &[Heard]) -> Result<(), String> {
        let end = self.now.mono + Duration::from_millis(ms);
        loop {
            let voices = self.voices.iter().map(|voice| voice.next_at);
            let due = voices.chain([self.robots_at, end]).chain(self.server.due()).min();
            let due = due.expect("the end is one").max(self.now.mono);
            self.now = self.now.after(due - self.now.mono);
            let mut out = Vec::new();
            self.server.turn(self.now, &mut out, &mut self.rng);
            if out.iter().any(|outcome| matches!(outcome, Outcome::InForce(..))) {
                self.change_keys();
            }
            for party in 0..self.voices.len() {
                while let Some((to, bytes)) = self.voices[party].speak(self.now.mono) {
                    let from = party::address(party);
                    self.server
                        .receive(self.now, to, from, bytes, &mut out, &mut self.rng);
                }
            }
            for outcome in out {
                if let Outcome::Sent(_, to, bytes) = outcome {
                    self.deliver(to, &bytes, expected)?;
                }
            }
            if self.robots_at <= self.now.mono {
                self.robots_at += Duration::from_millis(20);
                for (robot, name) in self.robots.iter_mut().zip(SESSIONS) {
                    robot
                        .turn()
                        .map_err(|what| format!("the tap of {name}: {what}"))?;
                }
                for tape in self.tapes.iter_mut().flatten() {
                    tape.recording
                        .turn(self.now.mono, &mut self.bench, &mut tape.file);
                }
            }
            if self.now.mono >= end {
                break;
            }
        }
        for (party, ear) in self.ears.iter().enumerate() {
            ear.silence(self.now.mono, !expected[party].is_empty())
                .map_err(|what| format!("{}: {what}", PARTIES[party]))?;
        }
        Ok(())
    }

    /// What was edited is in force: phones encrypt as was agreed. Those whose edit is on its way wait for it.
    fn change_keys(&mut self) {
        for (voice, sdes) in self.voices.iter_mut().zip(&self.score.sdes) {
            if voice.server.is_some() {
                voice.encrypt(*sdes);
            }
        }
    }

    /// What a packet to a party says, and nothing else can be made of it.
    fn open(&mut self, party: usize, bytes: &[u8]) -> Result<Vec<u8>, String> {
        if self.score.sdes[party].is_none() {
            return Ok(bytes.to_vec());
        }
        let id = PARTIES[party];
        self.summary.sealed += 1;
        // The header is never encrypted.
        let is_clear = self.fault == Some(Fault::Clear) && self.summary.sealed > 200;
        let clear = is_clear.then(|| [&bytes[..12], &[0xff; 160]].concat());
        let bytes = clear.as_deref().unwrap_or(bytes);
        let leg = (graph::session_of(id), format!("t-{id}"));
        match self.host_keys.open(self.now.mono, leg, bytes, Place::Leaving) {
            Opened::Plain(plain) => Ok(plain),
            Opened::Again => Err(format!("{id}: one number of a key is used twice")),
            Opened::Never => Err(format!(
                "{id}: what comes was encrypted with no key that was told"
            )),
        }
    }

    fn deliver(&mut self, to: std::net::SocketAddr, bytes: &[u8], expected: &[Heard]) -> Result<(), String> {
        let party = (0..PARTIES.len()).find(|party| party::address(*party) == to);
        let party = party.ok_or_else(|| format!("a packet goes to {to}, where nobody is"))?;
        self.summary.packets += 1;
        let bytes = &self.open(party, bytes)?[..];
        let codec = self.score.codecs[party];
        let mut now = self.now.mono;
        let mut copies = 1;
        if self.fault.is_some() && self.summary.packets == 400 {
            match self.fault {
                Some(Fault::Repeated) => copies = 2,
                Some(Fault::Skipped) => copies = 0,
                Some(Fault::Held) => now += Duration::from_millis(80),
                Some(Fault::Loud | Fault::Stranger | Fault::Clear | Fault::Forgotten) | None => {}
            }
        }
        let heard = match copies {
            1 => self.ears[party].hear(now, bytes, codec, !expected[party].is_empty()),
            _ => self.ears[party].misheard(now, bytes, codec, copies),
        };
        heard.map_err(|what| format!("{}: {what}", PARTIES[party]))
    }

    /// The end of a round: does everybody hear whom they should, where they should be in what was said?
    fn listen(&mut self, before: &[Heard], after: &[Heard]) -> Result<(), String> {
        for party in 0..PARTIES.len() {
            let mut wanted = after[party].clone();
            match self.fault {
                Some(Fault::Loud) => wanted.values_mut().for_each(|gain| *gain *= 0.7),
                Some(Fault::Stranger) => drop(wanted.pop_first()),
                Some(Fault::Repeated | Fault::Skipped | Fault::Held | Fault::Clear | Fault::Forgotten)
                | None => {}
            }
            if after[party].is_empty() {
                continue;
            }
            let place = PARTIES[party];
            let measure = self.measure(graph::session_of(place), place, &wanted);
            let ear = &mut self.ears[party];
            self.summary.tones += check_levels(place, ear.latest(MEASURED_MS), 8_000, &wanted, measure)?;
            if self.exact {
                let stays = |voice: &&String| {
                    before[party].contains_key(*voice)
                        && is_party(voice)
                        && graph::session_of(voice) == graph::session_of(place)
                };
                let staying: Vec<&String> = after[party].keys().filter(stays).collect();
                self.summary.exact += ear.follow(&staying).map_err(|what| format!("{place}: {what}"))?;
            }
        }
        for (session, name) in SESSIONS.iter().enumerate() {
            let robot = &self.robots[session];
            let from = robot
                .heard
                .len()
                .saturating_sub((robot.rate_hz as u64 * MEASURED_MS / 1_000) as usize);
            let (heard, place) = (&robot.heard[from..], format!("the tap of {name}"));
            let wanted = self.score.heard(session, "tap");
            let measure = self.measure(session, "tap", &wanted);
            self.summary.tones += check_levels(&place, heard, robot.rate_hz, &wanted, measure)?;
            self.robots[session].heard.clear();
            let recorded = self.score.recorded(session);
            let sides = recorded.map(|heard| (self.measure(session, "rec", &heard), heard));
            if let Some(tape) = &mut self.tapes[session] {
                let end = (self.now.mono - tape.began).as_millis() as u64;
                tape.rounds.push((end - 50 - MEASURED_MS, end - 50, sides));
            }
        }
        Ok(())
    }

    fn measure(&self, session: usize, listener: &str, heard: &Heard) -> Measure {
        let clarity = self.score.clarity(session, listener, heard, self.edited);
        let pulled = Score::is_pulled(session, heard);
        Measure { clarity, pulled }
    }

    /// All recordings end and are listened to.
    fn finish(&mut self) -> Result<(), String> {
        for session in 0..SESSIONS.len() {
            self.score.stop_recording(session);
            self.apply(session)?;
        }
        let after: Vec<Heard> = (0..PARTIES.len())
            .map(|party| self.score.heard_by(party))
            .collect();
        self.pass(100, &after)?;
        for tape in std::mem::take(&mut self.tapes) {
            self.play_back(tape)?;
        }
        self.summary.rollovers = self.voices.iter().map(|voice| voice.rollovers).sum();
        Ok(())
    }

    fn play_back(&mut self, tape: Option<Tape>) -> Result<(), String> {
        let Some(mut tape) = tape else { return Ok(()) };
        let later = self.now.mono + Duration::from_secs(3);
        tape.recording.turn(later, &mut self.bench, &mut tape.file);
        let lost = tape.recording.report().lost();
        if lost > 0 {
            return Err(format!("{lost} packets were not recorded"));
        }
        let frames = tape.file[HEADER_BYTES..].as_chunks::<4>().0;
        for (from, to, sides) in &tape.rounds {
            for (side, (measure, wanted)) in sides.iter().enumerate() {
                let pcm: Vec<i16> = (frames.iter().skip(*from as usize * 8))
                    .take((to - from) as usize * 8)
                    .map(|frame| i16::from_le_bytes([frame[2 * side], frame[2 * side + 1]]))
                    .collect();
                let place = format!("side {side} of a recording, {from} to {to} ms of it");
                self.summary.tones += check_levels(&place, &pcm, 8_000, wanted, *measure)?;
            }
        }
        Ok(())
    }
}

impl Robot {
    fn nobody() -> Self {
        Self::attach(&media_engine::tap::TapPort::new(8_000), TAP_HZ[0])
    }

    fn attach(port: &std::sync::Arc<media_engine::tap::TapPort>, hz: f64) -> Self {
        let rate_hz = port.sample_rate_hz();
        Self {
            program: Program::attach(port).expect("nobody else is there"),
            rate_hz,
            tone: Oscillator::new(hz, rate_hz),
            heard: Vec::new(),
        }
    }

    /// It says its next 20 ms, for which there has to be room, and takes what the tap heard, which has to be all of it.
    fn turn(&mut self) -> Result<(), String> {
        let samples = self.rate_hz as usize / 50;
        let frame: Vec<i16> = (0..samples).map(|_| next_sample(&mut self.tone)).collect();
        let taken = self.program.speak(&frame);
        if taken < samples {
            let waiting = self.program.spoken() - self.program.played();
            return Err(format!("{waiting} samples wait that were not played in time"));
        }
        let mut frame = vec![0; samples];
        while let Some(heard) = self.program.hear(&mut frame) {
            if heard.lost > 0 {
                return Err(format!("its program lost {} samples", heard.lost));
            }
            self.heard.extend(&frame);
        }
        Ok(())
    }
}

impl Measure {
    /// How loud a tone is, as a share of what it was spoken with. What is on its way to its place is looked for in short
    /// pieces; tones of players, which are close to each other, in all of it.
    fn level(self, pcm: &[i16], voice: &str, hz: f64, rate_hz: u32) -> f64 {
        if !self.pulled {
            return goertzel::amplitude(pcm, hz, rate_hz) / LOUD;
        }
        let piece = match voice.starts_with("player") {
            true => pcm.len(),
            false => (rate_hz / 10) as usize,
        };
        let pieces = pcm.chunks_exact(piece);
        let count = pieces.len() as f64;
        let levels = pieces.map(|piece| loudest_near(piece, hz, rate_hz) / LOUD);
        levels.sum::<f64>() / count
    }
}

/// The amplitude of the loudest tone that may be the one at `hz`, a little sharp or flat. Those 80 Hz away, in 100 ms, do not
/// disturb it.
fn loudest_near(pcm: &[i16], hz: f64, rate_hz: u32) -> f64 {
    let turn = TAU / pcm.len() as f64;
    let window = |at: usize| 0.5 - 0.5 * (turn * at as f64).cos();
    let shaped: Vec<i16> = (pcm.iter().enumerate())
        .map(|(at, sample)| (f64::from(*sample) * window(at)).round() as i16)
        .collect();
    // A quarter of what frequencies are told apart by.
    let step = f64::from(rate_hz) / pcm.len() as f64 / 4.0;
    let most = (hz * PULL_MAX / step).ceil() as i32;
    let near = (-most..=most).map(|steps| hz + step * f64::from(steps));
    // The window takes half of it.
    let levels = near.map(|hz| 2.0 * goertzel::amplitude(&shaped, hz, rate_hz));
    levels.fold(0.0, f64::max)
}

/// Exactly the tones of `wanted` are in `pcm`, at their levels; gives how many were looked at.
fn check_levels(
    place: &str,
    pcm: &[i16],
    rate_hz: u32,
    wanted: &Heard,
    measure: Measure,
) -> Result<u64, String> {
    if pcm.len() < (rate_hz / 5) as usize {
        return match wanted.is_empty() {
            true => Ok(0),
            false => Err(format!("{place} heard only {} samples", pcm.len())),
        };
    }
    // The noise of codecs is as loud as what they carry is: four voices, and more where there are more.
    let power: f64 = wanted.values().map(|gain| gain * gain).sum();
    let loud = (power.sqrt() / 2.0).max(1.0);
    let (low, high, noise) = match measure.clarity {
        Clarity::Plain if !measure.pulled => (0.85, 1.15, 0.03),
        Clarity::Plain | Clarity::Wide => (0.8, 1.2, 0.15),
        Clarity::Speech(1) => (0.55, 1.35, 0.2 * loud),
        Clarity::Speech(_) => (0.4, 1.35, 0.2 * loud),
        Clarity::Begun => (0.4, 1.8, 0.25 * loud),
    };
    let is_speech = match measure.clarity {
        Clarity::Plain | Clarity::Wide => false,
        Clarity::Speech(_) | Clarity::Begun => true,
    };
    for (voice, hz) in VOICES {
        let level = measure.level(pcm, voice, hz, rate_hz);
        let gain = wanted.get(voice).copied().unwrap_or(0.0);
        // A player is as loud as two and a half of the others: an encoder that makes no effort leaves a third of what is five
        // times below it. It spends half as much again as its bit rate on what begins at once, and while it makes up for that
        // in the next two seconds it leaves half of what is beside a player.
        let is_beside = is_speech && wanted.keys().any(|voice| voice.starts_with("player"));
        let low = match is_beside {
            true if gain < 0.6 => low / 2.0,
            true => f64::min(low, 0.4),
            false => low,
        };
        // The player's level is the tone's own.
        let right = match (gain > 0.0, voice.starts_with("player")) {
            (false, _) => level < noise,
            (true, true) => level > 0.1,
            (true, false) => (low..high).contains(&(level / gain)),
        };
        if !right {
            // What fades, or has just begun, looks otherwise than what is steady.
            let part = (rate_hz / 10) as usize;
            let course = pcm.chunks_exact(part).map(|part| {
                let level = goertzel::amplitude(part, hz, rate_hz) / LOUD;
                format!(" {level:.2}")
            });
            return Err(format!(
                "{place} hears {voice} at {level:.2} of its level, not {gain:.2}; each tenth of a second:{}",
                course.collect::<String>()
            ));
        }
    }
    Ok(VOICES.len() as u64)
}

/// The contract's name of a format.
fn format(codec: codecs::CodecKind) -> pb::PayloadFormat {
    let (payload_type, codec, clock_rate_hz, channels) = match codec {
        codecs::CodecKind::Pcmu => (0, pb::Codec::Pcmu, 8_000, 1),
        codecs::CodecKind::Pcma => (8, pb::Codec::Pcma, 8_000, 1),
        codecs::CodecKind::G722 => (9, pb::Codec::G722, 8_000, 1),
        codecs::CodecKind::Opus => (111, pb::Codec::Opus, 48_000, 2),
        codecs::CodecKind::L16 { sample_rate_hz } => (96, pb::Codec::L16, sample_rate_hz, 1),
    };
    pb::PayloadFormat {
        payload_type,
        codec: codec.into(),
        clock_rate_hz,
        channels,
        ..pb::PayloadFormat::default()
    }
}
