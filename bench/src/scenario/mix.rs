//! The mix scenario: how many a room holds, what a room costs beside a relay, and what rooms cost that nobody speaks in; how many
//! calls are recorded at once, and what callers cost who wait.
//!
//! A room holds so many when all its listeners get their packets in time and the ones that are listened to hear exactly the
//! speakers they should. No peer runs here: rtpengine mixes no rooms.

mod calls;

use std::f64::consts::TAU;
use std::time::Duration;

use anyhow::Context;
use codecs::{CodecKind, Decoder, Encoder, goertzel, opus};
use proto::mediad::v1 as api;
use serde_json::{Value, json};

use super::{Lab, Plan};
use crate::load::members::{Hall, Member, MembersReport, MembersSpec, Speech};
use crate::machine::Facts;
use crate::peer::Server as _;
use crate::peer::mediad::Mediad;
use crate::report::{Figure, Results};

/// Its steps.
pub const STEPS: [&str; 7] = [
    "idle",
    "held",
    "recordings",
    "fanout",
    "g711",
    "opus_members",
    "opus_top3",
];

/// The port that all members share.
const HALL_PORT: u16 = 21_000;
/// Members of the rooms that are tried, in this order, until one is too many.
const G711_MEMBERS: [usize; 11] = [
    1_000, 1_200, 1_400, 1_600, 1_800, 2_000, 2_500, 3_000, 3_400, 3_800, 4_000,
];
const OPUS_MEMBERS: [usize; 9] = [60, 80, 100, 120, 130, 140, 160, 180, 200];
const OPUS_TOP3_MEMBERS: [usize; 5] = [500, 1_000, 1_500, 2_000, 3_000];
const FANOUT_LISTENERS: usize = 1_000;
const IDLE_ROOMS: usize = 1_000;
/// By then each endpoint of a new room was looked at once for what it has to report.
const SETTLES: Duration = Duration::from_secs(5);
/// A room holds when less is lost …
const LOSS_MAX: f64 = 0.005;
/// How often a step is tried whose generator was held back.
const ATTEMPTS: u32 = 3;
/// … and of a hundred packets 99 come no later than this after the one before, beyond 20 ms.
const LATE_P99_US_MAX: f64 = 10_000.0;
/// Periods of 20 ms are whole for these.
const TONES_HZ: [f64; 3] = [450.0, 750.0, 1_150.0];
const LOUD: f64 = 6_000.0;
/// Heard, and not heard, as an amplitude.
const HEARD_MIN: f64 = LOUD * 0.15;
const UNHEARD_MAX: f64 = LOUD * 0.06;

/// Runs the scenario.
///
/// # Errors
/// The server fails, or somebody hears what they should not.
pub fn run(plan: Plan, mut facts: Facts) -> anyhow::Result<Results> {
    let (rounds, quick) = (plan.rounds.max(1), plan.quick);
    let lab = Lab::new(plan)?;
    facts.servers = lab.versions()?;
    facts.conditions.push(format!(
        "rooms: the largest tried at which less than {} % is lost, p99 of the time between two packets of a listener is below \
         {} ms, and members hear the speakers they should, each at its level, and nobody else; 20 ms packets",
        LOSS_MAX * 100.0,
        20.0 + LATE_P99_US_MAX / 1e3,
    ));
    facts.conditions.push(
        "`room_g711_members`: three speak, all others send silence; `room_opus_members`: 16 kHz, all speak, each gets an encoding \
         of its own, with complexity 5 and, as mediad gets busy, less down to 0, looked at after 4 s; `room_opus_top3_members`: three speak, all others send an empty frame each 400 ms, as discontinuous \
         transmission does"
            .into(),
    );
    facts.conditions.push(
        "`stereo_recordings`: calls of two with PCMU, all speaking, relayed and recorded left and right in WAV, at which no packet \
         is missing in any file; worker and file threads share the one core. `held_callers_2000_core`: each in a session of \
         its own, sending silence, hearing music on hold"
            .into(),
    );
    let mut mix = MixLab {
        hall: Hall::open(HALL_PORT)?,
        lab,
        quick,
        held_back: false,
        figures: Vec::new(),
        raw: Vec::new(),
    };
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        mix.round()?;
    }
    Ok(Results {
        scenario: "mix".into(),
        facts,
        rounds,
        figures: mix.figures,
        sweep: Vec::new(),
        raw: mix.raw,
    })
}

/// Measures one thing.
type Step = fn(&mut MixLab) -> anyhow::Result<()>;

struct MixLab {
    lab: Lab,
    hall: Hall,
    quick: bool,
    /// The generator was, in the step under way.
    held_back: bool,
    figures: Vec<Figure>,
    raw: Vec<Value>,
}

/// What members of a room speak, and the room they are in.
#[derive(Clone, Copy)]
struct Kind {
    step: &'static str,
    codec: CodecKind,
    top_talkers: u32,
    /// Members that speak a tone; all if `None`.
    speakers: Option<usize>,
}

const G711: Kind = Kind {
    step: "g711",
    codec: CodecKind::Pcmu,
    top_talkers: 0,
    speakers: Some(3),
};
const OPUS: Kind = Kind {
    step: "opus_members",
    codec: CodecKind::Opus,
    top_talkers: 0,
    speakers: None,
};
const OPUS_TOP3: Kind = Kind {
    step: "opus_top3",
    codec: CodecKind::Opus,
    top_talkers: 3,
    speakers: Some(3),
};

impl MixLab {
    fn round(&mut self) -> anyhow::Result<()> {
        let steps: [(&str, Step); 7] = [
            ("idle", MixLab::idle),
            ("held", MixLab::held),
            ("recordings", MixLab::recordings),
            ("fanout", MixLab::fanout),
            (G711.step, |mix| {
                mix.capacity("room_g711_members", G711, &G711_MEMBERS)
            }),
            (OPUS.step, |mix| {
                mix.capacity("room_opus_members", OPUS, &OPUS_MEMBERS)
            }),
            (OPUS_TOP3.step, |mix| {
                mix.capacity("room_opus_top3_members", OPUS_TOP3, &OPUS_TOP3_MEMBERS)
            }),
        ];
        for (name, step) in steps {
            if self.lab.wants(name) {
                step(self)?;
            }
        }
        Ok(())
    }

    /// Long enough for hundreds of ticks: all listeners of a room get their packet in the same one.
    fn window(&self) -> Duration {
        Duration::from_millis(if self.quick { 600 } else { 8_000 })
    }

    /// CPU of rooms of three in which nobody speaks.
    fn idle(&mut self) -> anyhow::Result<()> {
        let server = self.lab.start_mediad(None)?;
        for room in 0..IDLE_ROOMS {
            server.apply(&format!("idle-{room}"), self.session(G711, 3, true))?;
        }
        std::thread::sleep(SETTLES);
        let window = self.window();
        let before = server.process().cpu_ns()?;
        std::thread::sleep(window);
        let used = (server.process().cpu_ns()? - before) as f64 / window.as_nanos() as f64;
        self.book("idle_rooms_cpu_percent", "%", used * 100.0);
        Ok(())
    }

    /// One speaker to a thousand: by the relay, and in a room in which all may speak.
    fn fanout(&mut self) -> anyhow::Result<()> {
        let mut cores = Vec::new();
        for is_room in [false, true] {
            let name = if is_room { "room" } else { "relay" };
            let report = self.undisturbed(|mix| {
                let server = mix.lab.start_mediad(None)?;
                let request = mix.session(G711, FANOUT_LISTENERS + 1, is_room);
                let mut members = members(&server.apply("fanout", request)?)?;
                members[0].says = Some(0);
                members[0].hears = false;
                let report = mix.load(name, &server, members, G711)?;
                Ok((report.loss() < LOSS_MAX).then_some(report))
            })?;
            let report = report.with_context(|| format!("{name} to {FANOUT_LISTENERS}: too much is lost"))?;
            cores.push(report.core);
        }
        self.book("room_1000_vs_fanout_ratio", "1", cores[1] / cores[0]);
        self.remark("relay core", cores[0]);
        self.remark("room core", cores[1]);
        Ok(())
    }

    /// The largest room of `tried` that holds.
    fn capacity(&mut self, figure: &'static str, kind: Kind, tried: &[usize]) -> anyhow::Result<()> {
        let tried = if self.quick { &tried[..1] } else { tried };
        let mut held: Option<(usize, MembersReport)> = None;
        for count in tried {
            match self.undisturbed(|mix| mix.room(kind, *count))? {
                Some(report) => held = Some((*count, report)),
                None => break,
            }
        }
        let (count, report) =
            held.with_context(|| format!("{}: not even {} members", kind.step, tried[0]))?;
        self.book(figure, "members", count as f64);
        self.remark("core", report.core);
        self.remark("late p99 ms", report.late_us.p99 / 1e3);
        Ok(())
    }

    /// What a step found; `None`, too much, only when the generator was not held back meanwhile.
    fn undisturbed<T>(
        &mut self,
        mut step: impl FnMut(&mut Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<Option<T>> {
        for attempt in 1..=ATTEMPTS {
            self.held_back = false;
            let found = step(self)?;
            if found.is_some() || !self.held_back || attempt == ATTEMPTS {
                return Ok(found);
            }
            eprintln!("the generator was held back: once more");
        }
        Ok(None)
    }

    /// A room of `count`; `None` if that many are too many.
    fn room(&mut self, kind: Kind, count: usize) -> anyhow::Result<Option<MembersReport>> {
        let server = self.lab.start_mediad(None)?;
        let request = self.session(kind, count, true);
        let mut members = members(
            &server
                .apply("room", request)
                .with_context(|| format!("{count} members"))?,
        )?;
        let speakers = kind.speakers.unwrap_or(count);
        for (number, member) in members.iter_mut().enumerate() {
            member.says = Some(if number < speakers { number % 3 } else { 3 });
            // Two speakers, and one who is none where there are such.
            member.kept = [0, 1, count - 1].contains(&number);
        }
        let report = self.load(&format!("{} {count}", kind.step), &server, members, kind)?;
        if report.loss() >= LOSS_MAX || report.late_us.p99 >= LATE_P99_US_MAX {
            return Ok(None);
        }
        if let Err(wrong) = judge(&report, kind, count) {
            eprintln!("{wrong:#}");
            return Ok(None);
        }
        Ok(Some(report))
    }

    fn load(
        &mut self,
        step: &str,
        server: &Mediad,
        members: Vec<Member>,
        kind: Kind,
    ) -> anyhow::Result<MembersReport> {
        self.load_for(step, server, members, kind, self.window())
    }

    fn load_for(
        &mut self,
        step: &str,
        server: &Mediad,
        members: Vec<Member>,
        kind: Kind,
        window: Duration,
    ) -> anyhow::Result<MembersReport> {
        let warm = match (self.quick, kind.codec) {
            (true, _) => Duration::from_millis(400),
            // Everybody speaks at once: mediad needs a moment to find how much effort it has time for.
            (false, CodecKind::Opus) => Duration::from_secs(4),
            (false, _) => Duration::from_secs(1),
        };
        let report = self.hall.run(&MembersSpec {
            members,
            speeches: speeches(kind)?,
            warm,
            window,
            server_clock: server.process().clock(),
        })?;
        eprintln!(
            "{step:>20}: {:.1} % lost, late p50 {:.1} p99 {:.1} ms, core {:.2}, {} packets/s to the server",
            report.loss() * 100.0,
            report.late_us.p50 / 1e3,
            report.late_us.p99 / 1e3,
            report.core,
            report.sent as f64 / window.as_secs_f64(),
        );
        self.held_back |= report.forgiven_ms > 0.0;
        self.raw.push(json!({ "step": step, "report": report }));
        Ok(report)
    }

    /// `count` members of one room, or all of them listeners of the first.
    fn session(&self, kind: Kind, count: usize, is_room: bool) -> api::ApplyRequest {
        let to = self.hall.address();
        let edge = |from: &str, to: &str| api::Edge {
            from: from.into(),
            to: to.into(),
            ..api::Edge::default()
        };
        let mut request = api::ApplyRequest::default();
        for number in 0..count {
            let id = id(number);
            request.put_transports.push(transport(&id, to));
            request.put_nodes.push(endpoint(&id, kind));
            match (is_room, number) {
                (true, _) => request.put_edges.extend([edge(&id, ROOM), edge(ROOM, &id)]),
                (false, 0) => {}
                (false, _) => request.put_edges.push(edge(&self::id(0), &id)),
            }
        }
        if is_room {
            let sample_rate_hz = if kind.codec == CodecKind::Opus {
                16_000
            } else {
                8_000
            };
            request.put_nodes.push(api::Node {
                id: ROOM.into(),
                kind: Some(api::node::Kind::Room(api::Room {
                    sample_rate_hz,
                    top_talkers: kind.top_talkers,
                    ..api::Room::default()
                })),
            });
        }
        request
    }

    fn book(&mut self, name: &str, unit: &str, value: f64) {
        if self.figures.iter().all(|figure| figure.name != name) {
            self.figures.push(Figure::new(name, unit));
        }
        let at = self.figures.iter().position(|figure| figure.name == name);
        let at = at.expect("pushed above");
        self.figures[at].ours.push(value);
        // Remarks go to the latest that was booked.
        let latest = self.figures.remove(at);
        self.figures.push(latest);
    }

    /// Something to be read beside the figure that was booked last.
    fn remark(&mut self, what: &str, value: f64) {
        if let Some(figure) = self.figures.last_mut() {
            figure.remarks.entry(what.into()).or_default().push(value);
        }
    }
}

const ROOM: &str = "room";

/// In the order of the server's replies, whatever that is, members are told apart by these.
fn id(number: usize) -> String {
    format!("m{number:05}")
}

fn transport(id: &str, to: std::net::SocketAddrV4) -> api::Transport {
    api::Transport {
        id: id.into(),
        kind: Some(api::transport::Kind::Udp(api::UdpTransport {
            remote: Some(api::Address {
                ip: to.ip().to_string(),
                port: to.port().into(),
            }),
            rtcp: api::RtcpMode::Off.into(),
            source: api::SourcePolicy::Signalled.into(),
            ..api::UdpTransport::default()
        })),
    }
}

fn endpoint(id: &str, kind: Kind) -> api::Node {
    let format = match kind.codec {
        CodecKind::Opus => api::PayloadFormat {
            payload_type: 96,
            codec: api::Codec::Opus.into(),
            channels: 2,
            ..api::PayloadFormat::default()
        },
        _ => api::PayloadFormat {
            payload_type: 0,
            codec: api::Codec::Pcmu.into(),
            ..api::PayloadFormat::default()
        },
    };
    api::Node {
        id: id.into(),
        kind: Some(api::node::Kind::Endpoint(api::Endpoint {
            transport: id.into(),
            formats: vec![format],
            ..api::Endpoint::default()
        })),
    }
}

/// Everybody of a session, in the order of their numbers; nobody says anything yet.
fn members(
    locals: &std::collections::BTreeMap<String, std::net::SocketAddrV4>,
) -> anyhow::Result<Vec<Member>> {
    (0..locals.len())
        .map(|number| {
            Ok(Member {
                at: *locals.get(&id(number)).context("a member without a transport")?,
                says: None,
                hears: true,
                kept: false,
            })
        })
        .collect()
}

/// Three tones, and what those send who do not speak.
fn speeches(kind: Kind) -> anyhow::Result<Vec<Speech>> {
    let rate = rate(kind.codec);
    let (payload_type, ticks) = match kind.codec {
        CodecKind::Opus => (96, 960),
        _ => (0, 160),
    };
    let speech = |frames, every| Speech {
        frames,
        payload_type,
        ticks,
        every,
    };
    let mut speeches = Vec::new();
    for hz in TONES_HZ {
        let mut encoder = Encoder::new(kind.codec, rate, &opus::Settings::default())?;
        let samples = CodecKind::frame_samples(rate, 20);
        let frame = |n: usize| {
            let at = |k: usize| (TAU * hz * (n * samples + k) as f64 / f64::from(rate)).sin() * LOUD;
            let pcm: Vec<i16> = (0..samples).map(|k| at(k) as i16).collect();
            let mut payload = vec![0; 1_500];
            let bytes = encoder.encode(&pcm, &mut payload)?;
            payload.truncate(bytes);
            anyhow::Ok(payload)
        };
        speeches.push(speech((0..50).map(frame).collect::<Result<_, _>>()?, 1));
    }
    speeches.push(match kind.codec {
        // Wideband SILK, 20 ms, mono, and nothing in it.
        CodecKind::Opus => speech(vec![vec![9 << 3]], 20),
        _ => speech(vec![vec![0xff; 160]], 1),
    });
    Ok(speeches)
}

fn rate(codec: CodecKind) -> u32 {
    match codec {
        CodecKind::Opus => 16_000,
        other => other.sample_rate_hz(),
    }
}

/// The mean level of a tone in pieces of 40 ms. Over a longer one a tone would be lost that is played half a percent
/// faster or slower, as the jitter buffer may; all tones have a whole number of periods in a piece.
fn level_of(pcm: &[i16], hz: f64, sample_rate_hz: u32) -> f64 {
    let pieces = pcm.chunks_exact(sample_rate_hz as usize / 25);
    let count = pieces.len().max(1) as f64;
    pieces
        .map(|piece| goertzel::amplitude(piece, hz, sample_rate_hz))
        .sum::<f64>()
        / count
}

/// Who was listened to heard the others of the three tones.
fn judge(report: &MembersReport, kind: Kind, count: usize) -> anyhow::Result<()> {
    for (number, payloads) in &report.heard {
        let mut decoder = Decoder::new(kind.codec, rate(kind.codec))?;
        let (mut pcm, mut frame) = (Vec::new(), vec![0; 5_760]);
        for payload in payloads {
            let samples = decoder.decode(payload, &mut frame)?;
            pcm.extend_from_slice(&frame[..samples]);
        }
        let settled = &pcm[pcm.len() / 2..];
        for (tone, hz) in TONES_HZ.iter().enumerate() {
            let level = level_of(settled, *hz, rate(kind.codec));
            // Where all speak, a third of them speak each tone, and what is heard was turned down: nothing to be judged by level.
            let right = match kind.speakers {
                None => level > UNHEARD_MAX,
                Some(_) if tone == *number => level < UNHEARD_MAX,
                Some(_) => level > HEARD_MIN,
            };
            anyhow::ensure!(
                right,
                "{} with {count}: member {number} hears {hz} Hz at {level:.0} of {LOUD}",
                kind.step
            );
        }
    }
    Ok(())
}
