//! What was asked for: two sessions, who is in them, who hears whom; and the naive sum of that.

use std::collections::{BTreeMap, BTreeSet};

use codecs::CodecKind;
use netem::Rng;
use proto::mediad::v1 as pb;

use super::{format, party};
use crate::{cipher::Sdes, request::owner_of};

/// The sessions.
pub(super) const SESSIONS: [&str; 2] = ["x", "y"];
/// Parties; the first three are in the first session.
pub(super) const PARTIES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// It is sent packets of 40 ms in wide worlds.
const LONG: &str = "b";
/// What programs at taps say.
pub(super) const TAP_HZ: [f64; 2] = [1_920.0, 2_220.0];
/// Everybody's tone. 20 ms of those of parties are no whole number of periods, so that a phase tells a frame that is heard
/// twice.
pub(super) const VOICES: [(&str, f64); 9] = [
    ("a", 520.0),
    ("b", 620.0),
    ("c", 720.0),
    ("d", 820.0),
    ("e", 920.0),
    ("tap-x", TAP_HZ[0]),
    ("tap-y", TAP_HZ[1]),
    // Dial tone of the United Kingdom and of Germany.
    ("player-x", 350.0),
    ("player-y", 425.0),
];
const TONES: [&str; 2] = ["dial-uk", "dial-de"];

/// Voices, and how loud each is heard.
pub(super) type Heard = BTreeMap<String, f64>;

/// What the codecs on the way leave of tones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clarity {
    /// All as it was.
    Plain,
    /// Streams of several rates are on one timeline, and pulled to it.
    Wide,
    /// Opus is on the way, or so many times, which is made for speech: of tones at once it takes some off the quieter ones, and
    /// adds noise.
    Speech(u32),
    /// The same, and a decoder of it may just have come upon a stream in its middle: at 8 kHz what repeats itself is told by the
    /// period before, of which that knows nothing, so that the level of a tone swings by half for a second.
    Begun,
}

/// The session whose voice this is.
pub(super) fn session_of(voice: &str) -> usize {
    match voice {
        "a" | "b" | "c" | "tap-x" | "player-x" => 0,
        _ => 1,
    }
}

/// It is somebody at a phone.
pub(super) fn is_party(voice: &str) -> bool {
    PARTIES.contains(&voice)
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Edge {
    gain_db: f64,
    muted: bool,
    right: bool,
}

#[derive(Debug, Clone, Default)]
struct Part {
    present: BTreeSet<&'static str>,
    edges: BTreeMap<(&'static str, &'static str), Edge>,
    /// The segment that is recorded.
    recording: Option<u32>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Score {
    pub(super) codecs: Vec<CodecKind>,
    /// What each party's leg is encrypted with, if it is.
    pub(super) sdes: Vec<Option<Sdes>>,
    link: CodecKind,
    exact: bool,
    tap_hz: u32,
    room_hz: u32,
    parts: [Part; 2],
    segments: u32,
}

impl Score {
    pub(super) fn new(exact: bool, rng: &mut Rng) -> Self {
        let plain = [CodecKind::Pcmu, CodecKind::Pcma];
        let all = [
            CodecKind::Pcmu,
            CodecKind::Pcma,
            CodecKind::G722,
            CodecKind::Opus,
            CodecKind::L16 {
                sample_rate_hz: 16_000,
            },
        ];
        let mut codec = || match exact {
            true => plain[rng.below(2) as usize],
            false => all[rng.below(5) as usize],
        };
        let codecs = PARTIES.iter().map(|_| codec()).collect();
        let link = codec();
        let sdes = PARTIES.iter().map(|_| encryption(rng)).collect();
        let rate = |wide: u32| if exact { 8_000 } else { wide };
        Self {
            codecs,
            sdes,
            link,
            exact,
            tap_hz: rate([8_000, 16_000, 24_000, 48_000][rng.below(4) as usize]),
            room_hz: rate([8_000, 16_000, 48_000][rng.below(3) as usize]),
            parts: [Part::of(&PARTIES[..3]), Part::of(&PARTIES[3..])],
            segments: 0,
        }
    }

    /// Another graph for a session; gives who came back into it.
    pub(super) fn edit(&mut self, session: usize, rng: &mut Rng) -> Vec<usize> {
        let mut one_in = |bound: u64| rng.below(bound) == 0;
        let parties = if session == 0 {
            &PARTIES[..3]
        } else {
            &PARTIES[3..]
        };
        let before = std::mem::take(&mut self.parts[session]);
        let mut part = Part {
            recording: before.recording,
            ..Part::default()
        };
        // Who is gone comes back soon.
        let stays = |id: &&'static str, one_in: &mut dyn FnMut(u64) -> bool| match before.present.contains(id)
        {
            true => !one_in(12),
            false => one_in(2),
        };
        part.present = parties
            .iter()
            .filter(|id| stays(id, &mut one_in))
            .copied()
            .collect();
        match part.recording {
            Some(_) if one_in(6) => part.recording = None,
            None if one_in(3) => {
                part.recording = Some(self.segments);
                self.segments += 1;
            }
            Some(_) | None => {}
        }
        let pairs = pairs(&part, &mut one_in);
        let edges = pairs.into_iter().map(|pair| {
            let edge = Edge {
                gain_db: if one_in(8) { -6.0 } else { 0.0 },
                muted: one_in(10),
                right: pair.1 == "rec" && one_in(2),
            };
            (pair, edge)
        });
        part.edges = edges.collect();
        let came = part.present.difference(&before.present);
        let came: Vec<usize> = came
            .filter_map(|id| PARTIES.iter().position(|party| party == id))
            .collect();
        for party in (0..PARTIES.len()).filter(|party| part.present.contains(PARTIES[*party])) {
            match &mut self.sdes[party] {
                sdes if came.contains(&party) => *sdes = encryption(rng),
                Some(sdes) if rng.below(4) == 0 => sdes.change(rng),
                Some(_) | None => {}
            }
        }
        self.parts[session] = part;
        came
    }

    pub(super) fn is_present(&self, party: usize) -> bool {
        self.parts
            .iter()
            .any(|part| part.present.contains(PARTIES[party]))
    }

    pub(super) fn stop_recording(&mut self, session: usize) {
        self.parts[session].recording = None;
        self.parts[session].edges.retain(|(_, to), _| *to != "rec");
    }

    /// The id of what is recorded.
    pub(super) fn recording(&self, session: usize) -> Option<String> {
        Some(format!("r{}", self.parts[session].recording?))
    }

    /// What a party hears.
    pub(super) fn heard_by(&self, party: usize) -> Heard {
        let id = PARTIES[party];
        self.heard(session_of(id), id)
    }

    /// How clear `listener` may expect what it hears, when a session was just `edited`.
    pub(super) fn clarity(&self, session: usize, listener: &str, heard: &Heard, edited: usize) -> Clarity {
        let codec_of = |id: &str| {
            PARTIES
                .iter()
                .position(|party| *party == id)
                .map(|at| self.codecs[at])
        };
        let is_opus = |id: &str| codec_of(id) == Some(CodecKind::Opus);
        let through_link = heard.keys().any(|voice| session_of(voice) != session);
        let ways = [
            is_opus(listener),
            heard.keys().any(|voice| is_opus(voice)),
            through_link && self.link == CodecKind::Opus,
        ];
        let opus = ways.into_iter().map(u32::from).sum();
        match opus {
            0 if self.exact => Clarity::Plain,
            0 => Clarity::Wide,
            _ if session == edited || through_link => Clarity::Begun,
            _ => Clarity::Speech(opus),
        }
    }

    /// Whether a stream of `heard` may be pulled to its place: its delay changes when the session behind the link mixes what it
    /// forwarded before. A buffer does that by up to 0.5 % of its pace, a recording by up to 1.5 %.
    pub(super) fn is_pulled(session: usize, heard: &Heard) -> bool {
        heard.keys().any(|voice| session_of(voice) != session)
    }

    /// What a node hears: the sum over all ways of their gains.
    pub(super) fn heard(&self, session: usize, listener: &str) -> Heard {
        self.sum(session, listener, |_| true)
    }

    /// What a recorder hears left and right.
    pub(super) fn recorded(&self, session: usize) -> [Heard; 2] {
        [false, true].map(|right| self.sum(session, "rec", |edge| edge.right == right))
    }

    fn sum(&self, session: usize, listener: &str, counts: impl Fn(&Edge) -> bool) -> Heard {
        let part = &self.parts[session];
        let into = |to: &str| {
            let to = to.to_owned();
            let ways = part.edges.iter();
            ways.filter(move |((_, listener), edge)| **listener == *to && !edge.muted)
        };
        let mut heard = Heard::new();
        let mut add = |node: &str, gain: f64| {
            for (voice, own) in self.voices_of(session, node) {
                *heard.entry(voice).or_default() += own * gain;
            }
        };
        for ((from, _), way) in into(listener).filter(|(_, edge)| counts(edge)) {
            if *from == "room" {
                for ((member, _), edge) in into("room").filter(|((member, _), _)| *member != listener) {
                    add(member, gain(way) * gain(edge));
                }
            } else {
                add(from, gain(way));
            }
        }
        heard
    }

    /// What comes from a node: its own voice, or whatever the other end of the link is told.
    fn voices_of(&self, session: usize, node: &str) -> Heard {
        match node {
            "link" => self.heard(1 - session, "link"),
            "tap" | "player" => [(format!("{node}-{}", SESSIONS[session]), 1.0)].into(),
            party => [(party.to_owned(), 1.0)].into(),
        }
    }

    /// The whole session.
    pub(super) fn request(&self, session: usize) -> pb::ApplyRequest {
        let part = &self.parts[session];
        let parties = || {
            PARTIES
                .iter()
                .enumerate()
                .filter(|(_, id)| part.present.contains(**id))
        };
        let link = pb::LinkTransport {
            peer_session: SESSIONS[1 - session].into(),
            peer_transport: "t-link".into(),
        };
        let mut transports: Vec<_> = parties().map(|(at, id)| udp(id, at, self.sdes[at])).collect();
        transports.push(pb::Transport {
            id: "t-link".into(),
            kind: Some(pb::transport::Kind::Link(link)),
        });
        let mut nodes: Vec<_> = parties()
            .map(|(at, id)| self.endpoint(id, self.codecs[at]))
            .collect();
        nodes.push(self.endpoint("link", self.link));
        nodes.push(node(
            "room",
            pb::node::Kind::Room(pb::Room {
                sample_rate_hz: self.room_hz,
                ..pb::Room::default()
            }),
        ));
        nodes.push(node(
            "tap",
            pb::node::Kind::Tap(pb::Tap {
                sample_rate_hz: self.tap_hz,
            }),
        ));
        nodes.push(node(
            "player",
            pb::node::Kind::Player(pb::Player {
                items: vec![pb::PlayItem {
                    source: Some(pb::play_item::Source::Tone(TONES[session].into())),
                    start_ms: 0,
                }],
                repeat: Some(0),
                ..pb::Player::default()
            }),
        ));
        nodes.extend(self.recording(session).map(|recording| {
            node(
                "rec",
                pb::node::Kind::Recorder(pb::Recorder {
                    recording,
                    format: pb::RecordingFormat::WavStereo.into(),
                    ..pb::Recorder::default()
                }),
            )
        }));
        pb::ApplyRequest {
            session: SESSIONS[session].into(),
            owner: Some(owner_of(&("sim".into(), 1))),
            replace: true,
            put_transports: transports,
            put_nodes: nodes,
            put_edges: part
                .edges
                .iter()
                .map(|((from, to), edge)| edge.put(from, to))
                .collect(),
            ..pb::ApplyRequest::default()
        }
    }

    fn endpoint(&self, id: &str, codec: CodecKind) -> pb::Node {
        let endpoint = pb::Endpoint {
            transport: format!("t-{id}"),
            formats: vec![format(codec)],
            // Told apart by how often packets come, which in exact worlds must not matter.
            ptime_ms: if self.exact || id != LONG { 20 } else { 40 },
            ..pb::Endpoint::default()
        };
        node(id, pb::node::Kind::Endpoint(endpoint))
    }

    /// A session in a line.
    pub(super) fn text(&self, session: usize) -> String {
        let part = &self.parts[session];
        let edge = |((from, to), edge): (&(&str, &str), &Edge)| {
            let gain = if edge.gain_db == 0.0 {
                String::new()
            } else {
                format!(" {} dB", edge.gain_db)
            };
            format!("{from}>{to}{gain}{}", if edge.muted { " muted" } else { "" })
        };
        let edges: Vec<String> = part.edges.iter().map(edge).collect();
        let leg = |(id, (codec, sdes)): (&&str, (&CodecKind, &Option<Sdes>))| match sdes {
            Some(sdes) => format!("{id} {codec:?} {:?}", sdes.suite()),
            None => format!("{id} {codec:?}"),
        };
        let legs = PARTIES.iter().zip(self.codecs.iter().zip(&self.sdes));
        let codecs: Vec<String> = legs
            .filter(|(id, _)| part.present.contains(**id))
            .map(leg)
            .collect();
        format!(
            "[{}; link {:?}; {} Hz] {}",
            codecs.join(", "),
            self.link,
            self.room_hz,
            edges.join(", ")
        )
    }
}

/// Now a call, now a conference, now anything; with the others, or among themselves.
fn pairs(part: &Part, one_in: &mut dyn FnMut(u64) -> bool) -> BTreeSet<(&'static str, &'static str)> {
    let mut pairs = BTreeSet::new();
    let is_room = !one_in(4);
    let mut everybody: Vec<&'static str> = part.present.iter().copied().collect();
    if one_in(2) {
        everybody.push("link");
    }
    if one_in(5) {
        everybody.push("tap");
    }
    if is_room {
        for id in everybody.iter().filter(|_| !one_in(6)) {
            pairs.extend([(*id, "room"), ("room", *id)]);
        }
    }
    for from in &everybody {
        for to in &everybody {
            if from != to && one_in(if is_room { 12 } else { 3 }) {
                pairs.insert((*from, *to));
            }
        }
        if one_in(8) {
            pairs.insert(("player", *from));
        }
        if part.recording.is_some() && *from != "tap" && one_in(2) {
            pairs.insert((*from, "rec"));
        }
    }
    pairs
}

impl Part {
    fn of(parties: &[&'static str]) -> Self {
        Self {
            present: parties.iter().copied().collect(),
            ..Self::default()
        }
    }
}

impl Edge {
    fn put(self, from: &str, to: &str) -> pb::Edge {
        pb::Edge {
            from: from.into(),
            to: to.into(),
            gain_db: self.gain_db,
            muted: self.muted,
            channel: self.right.into(),
            ..pb::Edge::default()
        }
    }
}

/// Of a leg that is new.
fn encryption(rng: &mut Rng) -> Option<Sdes> {
    (rng.below(2) == 0).then(|| Sdes::any(rng))
}

fn gain(edge: &Edge) -> f64 {
    10_f64.powf(edge.gain_db / 20.0)
}

fn node(id: &str, kind: pb::node::Kind) -> pb::Node {
    pb::Node {
        id: id.into(),
        kind: Some(kind),
    }
}

fn udp(id: &str, party: usize, sdes: Option<Sdes>) -> pb::Transport {
    let at = party::address(party);
    let udp = pb::UdpTransport {
        interface: "outside".into(),
        rtcp: pb::RtcpMode::Off.into(),
        remote: Some(pb::Address {
            ip: at.ip().to_string(),
            port: at.port().into(),
        }),
        source: pb::SourcePolicy::Signalled.into(),
        security: sdes.map(Sdes::security),
        ..pb::UdpTransport::default()
    };
    pb::Transport {
        id: format!("t-{id}"),
        kind: Some(pb::transport::Kind::Udp(udp)),
    }
}
