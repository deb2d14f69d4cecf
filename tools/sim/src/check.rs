//! The judge: looks at every packet and event and says what the model does not allow.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use media_engine::command::{EngineEvent, EventKind};
use rtp::{
    demux::{Kind, classify},
    event::{Observation, TelephoneEvent},
    header::{RtpHeader, RtpReader},
    rtcp::{Compound, Packet},
};

use crate::{
    model::{Graph, Life, Model, Node, Sound},
    phone::{HOST_VOLUME, Mark, Phone},
};

/// Entries a line remembers, to find late packets' places.
const LINE_MEMORY: usize = 512;

/// How long after it was asked for a digit may still be on its way out.
const TONE_LATE_MAX: Duration = Duration::from_secs(2);

/// What a packet towards a listener carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Audio(Mark),
    /// A telephone-event of a phone.
    Digit(u8),
    /// A telephone-event of the host.
    Own,
    /// A digit as a tone that the host makes for who takes no telephone-events.
    Tone,
}

/// The newest audio of a line.
#[derive(Debug, Clone, Copy)]
struct Newest {
    mark: Mark,
    sequence: u64,
    timestamp: u32,
    edits: usize,
}

/// One listener's RTP line as it leaves the host.
#[derive(Debug)]
struct Line {
    top: u64,
    entries: BTreeMap<u64, Heard>,
    frames: BTreeSet<(u8, u32)>,
    newest: Option<Newest>,
    digits_since: bool,
    own_since: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Judge {
    /// The first thing that must not be.
    pub violation: Option<String>,
    /// Audio packets judged at a phone.
    pub heard: u64,
    /// Digits matched.
    pub digits: u64,
    /// Packets sent by the host to each node since somebody began to listen closely: life, listener, speaker.
    pub flowed: BTreeMap<(usize, String, u8), u32>,
    /// A send side was full until then: what it withheld does not show.
    pub congested_until: Option<Instant>,
    lines: BTreeMap<(usize, String, u32), Line>,
    /// Since when and until when digits are under way in each life.
    under_way: BTreeMap<usize, (Instant, Instant)>,
    open_digits: BTreeMap<(usize, String), u8>,
}

impl Judge {
    /// Notes a violation; the first one counts.
    pub fn object(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// Digits of `length` are asked for, or dialled, in a life: they come one after another.
    pub fn expect_digits(&mut self, life: usize, now: Instant, length: Duration) {
        let (since, until) = self.under_way.entry(life).or_insert((now, now));
        if now > *until + TONE_LATE_MAX {
            *since = now;
        }
        *until = now.max(*until) + length;
    }

    /// Since when digits are under way that may sound in a life.
    fn digits_since(&self, life: usize, at: Instant) -> Option<Instant> {
        let (since, until) = self.under_way.get(&life)?;
        (at <= *until + TONE_LATE_MAX).then_some(*since)
    }

    fn note(&mut self, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.object(|| what);
        }
    }

    /// A datagram leaves the host.
    pub fn emitted(
        &mut self,
        now: Instant,
        model: &Model,
        phones: &[Phone],
        packet: (SocketAddr, SocketAddr, &[u8]),
    ) {
        let outcome = self.judge_emitted(now, model, phones, packet);
        self.note(outcome);
    }

    fn judge_emitted(
        &mut self,
        now: Instant,
        model: &Model,
        phones: &[Phone],
        (local, to, bytes): (SocketAddr, SocketAddr, &[u8]),
    ) -> Result<(), String> {
        let binding = model
            .binding(local, now)
            .ok_or_else(|| format!("{local} sends although it was never bound"))?;
        let life = &model.lives[binding.life];
        let place = format!("{}/{}", life.name, binding.transport);
        let graph = life
            .now()
            .ok_or_else(|| format!("{place} sends after the session ended"))?;
        if classify(bytes) == Kind::Rtcp {
            return check_report(bytes, &place, life.ssrc.values().flatten());
        }
        if binding.rtcp {
            return Err(format!("{place}: RTP leaves from the port of RTCP"));
        }
        let transport = graph
            .transports
            .get(&binding.transport)
            .ok_or_else(|| format!("{place} sends but is not in the graph"))?;
        let (name, node) = graph
            .node_on(&binding.transport)
            .ok_or_else(|| format!("{place} sends without a node"))?;
        let phone = &phones[transport.phone];
        if to.ip() != phone.outside.ip() && Some(to) != transport.remote {
            return Err(format!(
                "{place}: a packet goes to {to}, which is neither the phone {} nor what was signalled",
                phone.outside
            ));
        }
        let packet = RtpReader::parse(bytes).map_err(|error| format!("{place}: not RTP: {error}"))?;
        let header = packet.header();
        if !life
            .ssrc
            .get(name)
            .is_some_and(|promised| promised.contains(&header.ssrc.0))
        {
            return Err(format!(
                "{place}: SSRC {} was not promised for {name}",
                header.ssrc.0
            ));
        }
        if !node.direction.sends {
            return Err(format!("{place}: {name} is sent to against its direction"));
        }
        if node.digits != Some(header.payload_type.value()) && is_host_digit(packet.payload()) {
            return Err(format!(
                "{place}: payload type {} of a digit was not agreed",
                header.payload_type
            ));
        }
        let digits = self.digits_since(binding.life, now);
        let at = |what| format!("{place}: {what}");
        let heard = read(&header, packet.payload(), node, digits.is_some()).map_err(at)?;
        check_hearing(graph, earlier(life, digits, now), name, heard).map_err(at)?;
        if let Heard::Audio(mark) = heard {
            *self
                .flowed
                .entry((binding.life, name.clone(), mark.speaker))
                .or_default() += 1;
        }
        let congested = self
            .congested_until
            .is_some_and(|until| now <= until + Duration::from_secs(1));
        let exact = !congested && shows_all(graph, name, heard);
        let line = self
            .lines
            .entry((binding.life, name.clone(), header.ssrc.0))
            .or_insert_with(|| Line::new(&header));
        line.take(&header, heard, life.in_force.len(), exact, (graph, phones))
            .map_err(|what| format!("{place}: line to {name}: {what}"))
    }

    /// A datagram reaches a phone.
    pub fn received(
        &mut self,
        model: &Model,
        phones: &mut [Phone],
        at: usize,
        packet: (SocketAddr, Instant, Instant, &[u8]),
    ) {
        let outcome = self.judge_received(model, phones, at, packet);
        self.note(outcome);
    }

    fn judge_received(
        &mut self,
        model: &Model,
        phones: &mut [Phone],
        at: usize,
        (from, sent_at, now, bytes): (SocketAddr, Instant, Instant, &[u8]),
    ) -> Result<(), String> {
        // Strangers' datagrams reach phones too; those of the host come from addresses it bound.
        let Some(binding) = model.binding(from, sent_at) else {
            return Ok(());
        };
        if classify(bytes) != Kind::Rtp {
            return Ok(());
        }
        let life = &model.lives[binding.life];
        let place = format!("phone {at} hears {}/{}", life.name, binding.transport);
        let packet = RtpReader::parse(bytes).map_err(|error| format!("{place}: {error}"))?;
        let mut why = format!("{place}, which had no graph when it sent");
        let digits = self.digits_since(binding.life, sent_at);
        for graph in life.at(sent_at) {
            match judge_heard(
                graph,
                earlier(life, digits, sent_at),
                (&binding.transport, at),
                &packet,
                digits.is_some(),
            ) {
                Ok(heard) => {
                    self.heard += 1;
                    return take_heard(&mut phones[at], now, heard, &packet);
                }
                Err(what) => why = format!("{place}: {what}"),
            }
        }
        Err(why)
    }

    /// An engine raised an event.
    pub fn event(&mut self, model: &Model, phones: &mut [Phone], event: &EngineEvent) {
        let outcome = self.judge_event(model, phones, event);
        self.note(outcome);
    }

    fn judge_event(
        &mut self,
        model: &Model,
        phones: &mut [Phone],
        event: &EngineEvent,
    ) -> Result<(), String> {
        let (code, started) = match &event.kind {
            EventKind::DigitStarted { event, .. } => (*event, true),
            EventKind::DigitEnded { event, .. } => (*event, false),
            EventKind::MediaStarted { .. }
            | EventKind::MediaTimeout { .. }
            | EventKind::SourceLearned { .. }
            | EventKind::PeerBye { .. }
            | EventKind::QualityChanged { .. }
            | EventKind::PlayFinished(_)
            | EventKind::DigitsCollected { .. }
            | EventKind::TalkStarted
            | EventKind::TalkStopped { .. }
            | EventKind::EndpointRemoved(_)
            | EventKind::Silent => return Ok(()),
        };
        let at = model
            .by_key(event.session)
            .ok_or_else(|| format!("an event of an unknown session: {event:?}"))?;
        let node = event.subject.as_deref().ok_or("a digit of no node")?;
        let key = (at, node.to_owned());
        let place = format!("{}/{node}", model.lives[at].name);
        if !started {
            let open = self.open_digits.remove(&key);
            self.digits += 1;
            return if open == Some(code) {
                Ok(())
            } else {
                Err(format!("{place}: digit {code} ended, open was {open:?}"))
            };
        }
        if let Some(open) = self.open_digits.insert(key, code) {
            return Err(format!("{place}: digit {code} started before {open} ended"));
        }
        let graph = model.lives[at]
            .now()
            .ok_or_else(|| format!("{place}: a digit after the end"))?;
        let phone = graph
            .phone_of(node)
            .ok_or_else(|| format!("{place}: a digit of a node that is not there"))?;
        let phone = &mut phones[phone];
        let waiting = phone.dialled.get(phone.told..).unwrap_or_default();
        let Some(found) = waiting
            .iter()
            .position(|digit| digit.event == code && digit.arrived > 0)
        else {
            return Err(format!(
                "{place}: digit {code} was not dialled, or told of already"
            ));
        };
        if let Some(missed) = waiting[..found]
            .iter()
            .find(|digit| digit.certain && digit.arrived > 0)
        {
            return Err(format!(
                "{place}: digit {} arrived and was not told of, {code} was",
                missed.event
            ));
        }
        phone.told += found + 1;
        Ok(())
    }

    /// Nothing is on its way any more: no digit may be open, none that is certain untold.
    pub fn all_told(&mut self, phones: &[Phone]) {
        if let Some(((life, node), digit)) = self.open_digits.iter().next() {
            let what = format!("digit {digit} of life {life}, node {node} never ended");
            self.object(|| what);
        }
        for phone in phones {
            let untold = phone.dialled.get(phone.told..).unwrap_or_default();
            if let Some(digit) = untold.iter().find(|digit| digit.certain && digit.arrived > 0) {
                let (id, event, arrived) = (phone.id, digit.event, digit.arrived);
                self.object(|| {
                    format!("digit {event} of phone {id}: {arrived} packets arrived and none was told of")
                });
            }
        }
    }

    /// The process died, and what was open with it.
    pub fn restarted(&mut self) {
        self.open_digits.clear();
    }
}

/// What was not agreed on leaves no gap, unless it is lost on its way, or overtaken.
fn fits(gap: u64, frames: u64, passed_over: u64) -> bool {
    (frames.saturating_sub(passed_over)..=frames).contains(&gap)
}

impl Line {
    fn new(first: &RtpHeader) -> Self {
        Self {
            // Room below for what the first packet overtook.
            top: 0x1_0000 + u64::from(first.sequence) - 1,
            entries: BTreeMap::new(),
            frames: BTreeSet::new(),
            newest: None,
            digits_since: false,
            own_since: false,
        }
    }

    /// How many frames the speaker sent since the newest one in types that were not agreed on.
    fn passed_over(&self, graph: &Graph, phones: &[Phone], heard: Heard) -> u64 {
        let (Heard::Audio(mark), Some(last)) = (heard, &self.newest) else {
            return 0;
        };
        let speaker = usize::from(mark.speaker);
        let (Some(phone), Some((_, node))) = (phones.get(speaker), graph.node_of(speaker)) else {
            return 0;
        };
        let sounds = node.sounds.iter().map(|sound| sound.payload_type());
        let agreed: Vec<u8> = sounds.chain(node.digits).collect();
        phone.others(last.mark.frame + 1..mark.frame, &agreed)
    }

    /// `exact`: nothing that was agreed on is withheld from the listener.
    fn take(
        &mut self,
        header: &RtpHeader,
        heard: Heard,
        edits: usize,
        exact: bool,
        (graph, phones): (&Graph, &[Phone]),
    ) -> Result<(), String> {
        let passed_over = self.passed_over(graph, phones, heard);
        let ahead = header.sequence.wrapping_sub(self.top as u16) as i16;
        let sequence = self.top.wrapping_add_signed(i64::from(ahead));
        if let Some(before) = self.entries.insert(sequence, heard) {
            return Err(format!("sequence {sequence} carries {heard:?} after {before:?}"));
        }
        if let Heard::Audio(mark) = heard {
            if !self.frames.insert((mark.speaker, mark.frame)) {
                return Err(format!("frame {mark:?} is sent twice"));
            }
            self.check_order(sequence, mark)?;
        }
        if ahead > 0 {
            self.advance(sequence, header.timestamp.0, heard, edits, (exact, passed_over))?;
        }
        while self.entries.len() > LINE_MEMORY {
            self.entries.pop_first();
        }
        while self.frames.len() > 4 * LINE_MEMORY {
            self.frames.pop_first();
        }
        Ok(())
    }

    /// Of one stream, a later frame has a higher number.
    fn check_order(&self, sequence: u64, mark: Mark) -> Result<(), String> {
        let same = |heard: &Heard| match heard {
            Heard::Audio(other) if (other.speaker, other.stream) == (mark.speaker, mark.stream) => {
                Some(other.frame)
            }
            Heard::Audio(_) | Heard::Digit(_) | Heard::Own | Heard::Tone => None,
        };
        let before = self
            .entries
            .range(..sequence)
            .next_back()
            .and_then(|(_, heard)| same(heard));
        let after = self
            .entries
            .range(sequence + 1..)
            .next()
            .and_then(|(_, heard)| same(heard));
        if before.is_some_and(|before| before >= mark.frame) || after.is_some_and(|after| after <= mark.frame)
        {
            return Err(format!(
                "frame {} stands between {before:?} and {after:?}",
                mark.frame
            ));
        }
        Ok(())
    }

    fn advance(
        &mut self,
        sequence: u64,
        timestamp: u32,
        heard: Heard,
        edits: usize,
        (exact, passed_over): (bool, u64),
    ) -> Result<(), String> {
        let step = sequence - self.top;
        self.top = sequence;
        let mark = match heard {
            Heard::Audio(mark) => mark,
            Heard::Digit(_) => {
                self.digits_since = true;
                return Ok(());
            }
            Heard::Own | Heard::Tone => {
                self.own_since = true;
                return if step == 1 {
                    Ok(())
                } else {
                    Err(format!("the host's digit leaves a gap of {step}"))
                };
            }
        };
        let (digits, own) = (
            std::mem::take(&mut self.digits_since),
            std::mem::take(&mut self.own_since),
        );
        let Some(last) = self.newest.replace(Newest {
            mark,
            sequence,
            timestamp,
            edits,
        }) else {
            return Ok(());
        };
        let (gap, forward) = (sequence - last.sequence, timestamp.wrapping_sub(last.timestamp));
        if forward as i32 <= 0 {
            return Err(format!(
                "timestamp {timestamp} follows {} ({:?} after {:?})",
                last.timestamp, mark, last.mark
            ));
        }
        if (mark.speaker, mark.stream) != (last.mark.speaker, last.mark.stream) {
            // Two jumps that the host was deaf to can add up to what looks like a loss.
            let jumped = mark.speaker == last.mark.speaker && mark.stream.wrapping_sub(last.mark.stream) > 1;
            let joined = step == 1 || digits || jumped;
            return if joined {
                Ok(())
            } else {
                Err(format!("a gap of {step} where {mark:?} follows {:?}", last.mark))
            };
        }
        let frames = u64::from(mark.frame.wrapping_sub(last.mark.frame));
        if edits == last.edits && !own && forward != mark.timestamp.wrapping_sub(last.mark.timestamp) {
            return Err(format!(
                "timestamp moved {forward} from {:?} to {mark:?}",
                last.mark
            ));
        }
        if exact && edits == last.edits && !digits && !own && !fits(gap, frames, passed_over) {
            return Err(format!("numbers moved {gap} from {:?} to {mark:?}", last.mark));
        }
        if !own && gap > frames {
            return Err(format!(
                "a gap of {gap} where the source has {frames}, from {:?} to {mark:?}",
                last.mark
            ));
        }
        Ok(())
    }
}

/// A packet of a tone: what no phone speaks is of another length.
const TONE_BYTES: usize = 160;

/// The four bytes of a digit that the host itself sends.
fn is_host_digit(payload: &[u8]) -> bool {
    payload.len() == 4 && TelephoneEvent::parse(payload).is_ok_and(|event| event.volume == HOST_VOLUME)
}

/// What a packet carries, in the formats the listener agreed to; `tones` may be digits that are under way.
fn read(header: &RtpHeader, payload: &[u8], listener: &Node, tones: bool) -> Result<Heard, String> {
    let number = header.payload_type.value();
    if listener.digits == Some(number) {
        let event =
            TelephoneEvent::parse(payload).map_err(|error| format!("a digit that is none: {error}"))?;
        return Ok(if event.volume == HOST_VOLUME {
            Heard::Own
        } else {
            Heard::Digit(event.volume)
        });
    }
    // Judged where it leaves the host.
    if is_host_digit(payload) {
        return Ok(Heard::Own);
    }
    let sound = listener
        .sounds
        .iter()
        .find(|sound| sound.payload_type() == number);
    let sound = *sound.ok_or_else(|| format!("payload type {number} was not agreed with the listener"))?;
    let mark = Mark::read(payload, sound);
    if mark.is_none() && tones && listener.digits.is_none() && payload.len() == TONE_BYTES {
        return Ok(Heard::Tone);
    }
    let mark = mark.ok_or_else(|| format!("a payload of {sound:?} that no phone spoke: {payload:02x?}"))?;
    Ok(Heard::Audio(mark))
}

/// The graphs of a life in force between `since`, if it is set, and `until`.
fn earlier(life: &Life, since: Option<Instant>, until: Instant) -> impl Iterator<Item = &Rc<Graph>> {
    let between = since.map(|since| life.between(since, until));
    between.into_iter().flatten()
}

/// May the listener hear this? A digit that the host makes anew comes when those before it were sent: it was pressed under
/// one of the graphs `before`.
fn check_hearing<'a>(
    graph: &Graph,
    mut before: impl Iterator<Item = &'a Rc<Graph>>,
    listener: &str,
    heard: Heard,
) -> Result<(), String> {
    let now = check_speaker(graph, listener, heard);
    let is_digit = matches!(heard, Heard::Digit(_));
    match now.is_err() && is_digit && before.any(|graph| check_speaker(graph, listener, heard).is_ok()) {
        true => Ok(()),
        false => now,
    }
}

/// The heart of it: may the listener hear this under one graph?
fn check_speaker(graph: &Graph, listener: &str, heard: Heard) -> Result<(), String> {
    let (speaker, is_digit) = match heard {
        Heard::Own | Heard::Tone => return Ok(()),
        Heard::Audio(mark) => (mark.speaker, false),
        Heard::Digit(speaker) => (speaker, true),
    };
    let Some((name, _)) = graph.node_of(usize::from(speaker)) else {
        return Err(format!("{listener} hears the stranger {speaker}"));
    };
    if !graph.may_hear(name, listener) {
        return Err(format!(
            "{listener} hears {name} (phone {speaker}), whom the graph does not let it hear"
        ));
    }
    let blocked = graph
        .edges
        .get(&(name.clone(), listener.to_owned()))
        .is_some_and(|edge| edge.block_digits);
    if is_digit && blocked {
        return Err(format!(
            "{listener} gets a digit of {name}, which its edge blocks"
        ));
    }
    Ok(())
}

/// Every packet of the speaker shows in the listener's numbers.
fn shows_all(graph: &Graph, listener: &str, heard: Heard) -> bool {
    let Heard::Audio(mark) = heard else { return false };
    let Some((name, speaker)) = graph.node_of(usize::from(mark.speaker)) else {
        return false;
    };
    let blocked = graph
        .edges
        .get(&(name.clone(), listener.to_owned()))
        .is_some_and(|edge| edge.block_digits);
    let takes = graph
        .nodes
        .get(listener)
        .is_some_and(|node| node.digits.is_some());
    let all_sounds = graph.nodes.get(listener).is_some_and(|node| {
        speaker
            .sounds
            .iter()
            .all(|sound| sound.towards(&node.sounds).is_some())
    });
    all_sounds && (speaker.digits.is_none() || takes && !blocked)
}

fn judge_heard<'a>(
    graph: &Graph,
    before: impl Iterator<Item = &'a Rc<Graph>>,
    (transport, phone): (&str, usize),
    packet: &RtpReader<'_>,
    tones: bool,
) -> Result<Heard, String> {
    let owner = graph.transports.get(transport).map(|transport| transport.phone);
    if owner != Some(phone) {
        return Err(format!("that is the leg of phone {owner:?}"));
    }
    let (name, node) = graph.node_on(transport).ok_or("no node is on it")?;
    let heard = read(&packet.header(), packet.payload(), node, tones)?;
    check_hearing(graph, before, name, heard)?;
    Ok(heard)
}

fn take_heard(phone: &mut Phone, now: Instant, heard: Heard, packet: &RtpReader<'_>) -> Result<(), String> {
    match heard {
        Heard::Audio(mark) => phone.heard.push(mark),
        Heard::Digit(_) | Heard::Tone => {}
        Heard::Own => {
            let digits = &mut phone.host_digits;
            let taken = phone
                .receiver
                .on_packet(now, &packet.header(), packet.payload(), |seen| {
                    if let Observation::Started { event, .. } = seen {
                        digits.push(event);
                    }
                });
            taken.map_err(|error| format!("the host sent a digit that is none: {error}"))?;
        }
    }
    Ok(())
}

fn check_report<'a>(
    bytes: &[u8],
    place: &str,
    mut promised: impl Iterator<Item = &'a u32>,
) -> Result<(), String> {
    let compound = Compound::parse(bytes).map_err(|error| format!("{place}: RTCP that is none: {error}"))?;
    let author = compound.packets().find_map(|packet| match packet {
        Packet::SenderReport(report) => Some(report.ssrc),
        Packet::ReceiverReport(report) => Some(report.ssrc),
        _ => None,
    });
    let author = author.ok_or_else(|| format!("{place}: RTCP without a report in front"))?;
    if promised.any(|ssrc| *ssrc == author.0) {
        return Ok(());
    }
    Err(format!(
        "{place}: RTCP of SSRC {author:?}, which was not promised"
    ))
}

impl Sound {
    /// The sound with a payload type.
    pub fn from_payload_type(number: u8) -> Option<Self> {
        [Self::Ulaw, Self::Alaw, Self::G722]
            .into_iter()
            .find(|sound| sound.payload_type() == number)
    }
}
