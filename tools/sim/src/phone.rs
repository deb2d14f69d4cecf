//! Simulated phones. Each frame a phone sends says who speaks and which frame it is, in a form that survives a change of
//! G.711 law, so that a listener knows exactly what it hears.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    sync::LazyLock,
    time::{Duration, Instant},
};

use codecs::g711::{ALAW_TO_ULAW, ULAW_TO_ALAW};
use netem::Rng;
use rtp::{
    demux::{Kind, classify},
    event::{EventReceiver, EventSender, TelephoneEvent},
    header::{RtpHeader, RtpReader},
    rtcp::RtcpWriter,
    units::{PayloadType, RtpTimestamp, Ssrc},
};

use crate::{
    cipher::{Sdes, Sealer},
    model::Sound,
};

/// Time between two packets.
pub const PTIME: Duration = Duration::from_millis(20);
/// Marks of speakers from here on belong to nobody in any graph.
pub const STRANGERS: u8 = 200;
/// Volume of digits that the host itself sends; phones mark theirs with their own number.
pub const HOST_VOLUME: u8 = 60;

/// Sixteen bytes of each law that translate into each other without loss: one per nibble.
static NIBBLES: LazyLock<[(u8, u8); 16]> = LazyLock::new(|| {
    let mut pairs = (0..=255u8)
        .map(|ulaw| (ulaw, ULAW_TO_ALAW[usize::from(ulaw)]))
        .filter(|(ulaw, alaw)| ALAW_TO_ULAW[usize::from(*alaw)] == *ulaw)
        .step_by(11);
    std::array::from_fn(|_| {
        pairs
            .next()
            .expect("most bytes of a law come back from the other unchanged")
    })
});

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Who speaks.
    pub speaker: u8,
    /// Counts the runs of one SSRC and sequence.
    pub stream: u8,
    /// Counts the packets of the speaker, digits included.
    pub frame: u32,
    /// The timestamp it was sent with.
    pub timestamp: u32,
}

impl Mark {
    fn nibbles(self) -> [u8; 20] {
        let value = u128::from(self.speaker) << 64
            | u128::from(self.stream) << 56
            | u128::from(self.frame & 0xff_ffff) << 32
            | u128::from(self.timestamp);
        let sum = value
            .to_be_bytes()
            .into_iter()
            .fold(0x5a_u8, |sum, byte| sum.rotate_left(3) ^ byte);
        let value = value << 8 | u128::from(sum);
        std::array::from_fn(|at| (value >> (76 - 4 * at)) as u8 & 15)
    }

    /// As a payload.
    pub fn payload(self, sound: Sound) -> Vec<u8> {
        let byte = |nibble: u8| {
            let (ulaw, alaw) = NIBBLES[usize::from(nibble)];
            if sound == Sound::Alaw { alaw } else { ulaw }
        };
        self.nibbles().into_iter().map(byte).collect()
    }

    /// From a payload; `None` if it is not one of a phone in this law.
    pub fn read(payload: &[u8], sound: Sound) -> Option<Self> {
        let nibble = |byte: &u8| {
            NIBBLES
                .iter()
                .position(|(ulaw, alaw)| byte == if sound == Sound::Alaw { alaw } else { ulaw })
        };
        let nibbles: Vec<usize> = payload.iter().map(nibble).collect::<Option<_>>()?;
        let value = nibbles
            .iter()
            .fold(0u128, |value, nibble| value << 4 | *nibble as u128)
            >> 8;
        let mark = Self {
            speaker: (value >> 64) as u8,
            stream: (value >> 56) as u8,
            frame: (value >> 32) as u32 & 0xff_ffff,
            timestamp: value as u32,
        };
        (mark.payload(sound) == payload).then_some(mark)
    }
}

/// A digit that was dialled.
#[derive(Debug, Clone)]
pub struct Dialled {
    /// RFC 4733 event number.
    pub event: u8,
    /// It has to be seen: nothing that excuses a loss happened around it.
    pub certain: bool,
    /// Packets of it that reached the host before any of a later digit.
    pub arrived: u32,
}

/// Where a phone sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// RTP.
    pub rtp: SocketAddr,
    /// RTCP; `None`: it is off.
    pub rtcp: Option<SocketAddr>,
}

/// One simulated phone.
#[derive(Debug)]
pub struct Phone {
    /// Its number, also its mark.
    pub id: usize,
    /// Its own address.
    pub rtp: SocketAddr,
    /// Where others see it: its own, or its NAT's.
    pub outside: SocketAddr,
    /// Behind a NAT.
    pub natted: bool,
    /// Where it sends.
    pub server: Option<Server>,
    /// Life and transport it serves.
    pub leg: Option<(usize, String)>,
    /// Sends audio.
    pub sending: bool,
    /// What it encrypts with.
    pub sealer: Option<Sealer>,
    /// Encrypted digits that it sent, by SSRC and number: what they are does not show on the wire.
    pub sealed_digits: BTreeMap<(u32, u16), u8>,
    /// What it sends.
    pub sound: Sound,
    /// Payload type it uses, right or wrong.
    pub payload_type: u8,
    /// Payload type for digits.
    pub digit_type: Option<u8>,
    /// Counts the runs of one SSRC and sequence.
    pub stream: u8,
    /// Its SSRC.
    pub ssrc: u32,
    /// Next sequence number.
    pub sequence: u16,
    /// Next timestamp.
    pub timestamp: u32,
    /// Next frame.
    pub frame: u32,
    /// When it sends again.
    pub next_at: Instant,
    /// When it sends RTCP again.
    pub rtcp_at: Instant,
    /// When it hangs up after its leg went away.
    pub hangs_up_at: Option<Instant>,
    /// The latest moment at which something happened that excuses a loss of its packets.
    pub disturbed_at: Instant,
    /// Strangers send to its port until then.
    pub attacked_until: Instant,
    /// When a packet of it last reached the host.
    pub arrived_at: Option<Instant>,
    /// It sent on this leg.
    pub sent_on_leg: bool,
    /// Digit being sent.
    pub dialling: Option<EventSender>,
    /// Digits dialled on this leg.
    pub dialled: Vec<Dialled>,
    /// How many of them the host has told of.
    pub told: usize,
    /// Makes digits of the packets the host itself sends.
    pub receiver: EventReceiver,
    /// Digits heard from the host itself.
    pub host_digits: Vec<u8>,
    /// Frames heard since somebody began to listen closely.
    pub heard: Vec<Mark>,
    /// Frames sent since somebody began to listen closely.
    pub spoken: Vec<u32>,
    /// The payload types it sent, each with the first of its frames.
    pub types: Vec<(u32, u8)>,
}

/// A datagram a phone sends: source, destination, bytes.
pub type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

impl Phone {
    /// A phone that is on hook.
    pub fn new(id: usize, rtp: SocketAddr, outside: SocketAddr, now: Instant, rng: &mut Rng) -> Self {
        Self {
            id,
            rtp,
            outside,
            natted: rtp.ip() != outside.ip(),
            server: None,
            leg: None,
            sending: true,
            sealer: None,
            sealed_digits: BTreeMap::new(),
            sound: Sound::Ulaw,
            payload_type: 0,
            digit_type: None,
            stream: 0,
            ssrc: rng.next_u64() as u32,
            // Close to the wrap, more often than not.
            sequence: 65_500 + rng.below(36) as u16,
            timestamp: any_timestamp(rng),
            frame: 0,
            next_at: now + Duration::from_micros(rng.below(20_000)),
            rtcp_at: now + Duration::from_millis(rng.below(3_000)),
            hangs_up_at: None,
            disturbed_at: now,
            attacked_until: now,
            arrived_at: None,
            sent_on_leg: false,
            dialling: None,
            dialled: Vec::new(),
            told: 0,
            receiver: EventReceiver::default(),
            host_digits: Vec::new(),
            heard: Vec::new(),
            spoken: Vec::new(),
            types: Vec::new(),
        }
    }

    /// Answers a new leg.
    pub fn attach(&mut self, now: Instant, leg: (usize, String), server: Server) {
        self.leg = Some(leg);
        self.server = Some(server);
        self.hangs_up_at = None;
        self.disturbed_at = now;
        self.arrived_at = None;
        self.sent_on_leg = false;
        self.dialling = None;
        self.forget_digits();
        self.receiver = EventReceiver::default();
    }

    /// Encrypts as its leg asks for from now on. True if that is not as before.
    pub fn encrypt(&mut self, now: Instant, sdes: Option<Sdes>, rng: &mut Rng) -> bool {
        let Some(sdes) = sdes else {
            return self.sealer.take().is_some();
        };
        if self.sealer.as_ref().is_some_and(|sealer| sealer.has_key_of(sdes)) {
            return false;
        }
        let was_plain = self.sealer.replace(Sealer::new(sdes)).is_none();
        if was_plain {
            self.jump(now, rng);
        }
        true
    }

    /// What goes on the wire in the place of a packet.
    fn seal(&mut self, packet: Vec<u8>) -> Option<Vec<u8>> {
        let Some(sealer) = &mut self.sealer else {
            return Some(packet);
        };
        let sealed = sealer.seal(&packet);
        if let (Kind::Rtp, Ok(plain)) = (classify(&packet), RtpReader::parse(&packet))
            && let (4, Ok(event)) = (plain.payload().len(), TelephoneEvent::parse(plain.payload()))
        {
            let header = plain.header();
            self.sealed_digits
                .insert((header.ssrc.0, header.sequence), event.event);
        }
        sealed
    }

    /// Begins a new stream: another SSRC, sequence and timestamp.
    pub fn restart(&mut self, now: Instant, rng: &mut Rng) {
        self.ssrc = rng.next_u64() as u32;
        self.jump(now, rng);
    }

    /// Goes on with the same SSRC at another sequence number and timestamp.
    ///
    /// One that encrypts takes another SSRC, and a low number: a key's packets are counted, and a count that jumps, or that
    /// goes around before anybody has heard of it, is lost (RFC 3711 §3.3.1).
    pub fn jump(&mut self, now: Instant, rng: &mut Rng) {
        self.stream = self.stream.wrapping_add(1);
        self.sequence = match self.sealer {
            None => self.sequence.wrapping_add(5_000 + rng.below(50_000) as u16),
            Some(_) => rng.below(20_000) as u16,
        };
        if self.sealer.is_some() {
            self.ssrc = rng.next_u64() as u32;
        }
        self.timestamp = any_timestamp(rng);
        self.disturbed_at = now;
        self.dialling = None;
        self.uncertain();
    }

    /// The leg is gone, and whatever key is down.
    pub fn forget_digits(&mut self) {
        self.dialling = None;
        self.heard_anew();
    }

    /// Another node hears the phone now: digits may get lost in between, or be told of by both.
    pub fn heard_anew(&mut self) {
        self.told = self.told.min(self.dialled.len().saturating_sub(2));
        for digit in &mut self.dialled {
            digit.certain = false;
        }
    }

    /// What is being dialled may get lost.
    pub fn uncertain(&mut self) {
        if let Some(last) = self.dialled.last_mut() {
            last.certain = false;
        }
    }

    /// Presses a key.
    pub fn dial(&mut self, event: u8, certain: bool, length_ms: u32) {
        self.dialling = Some(EventSender::new(
            event,
            self.id as u8,
            RtpTimestamp(self.timestamp),
            length_ms * 8,
            160,
        ));
        self.dialled.push(Dialled {
            event,
            certain,
            arrived: 0,
        });
    }

    /// What is due now.
    pub fn send(&mut self, now: Instant, packets: &mut Vec<Datagram>) {
        let mut plain = Vec::new();
        self.speak(now, &mut plain);
        for (from, to, packet) in plain {
            packets.extend(self.seal(packet).map(|packet| (from, to, packet)));
        }
    }

    fn speak(&mut self, now: Instant, packets: &mut Vec<Datagram>) {
        if self.hangs_up_at.is_some_and(|at| at <= now) {
            self.hangs_up_at = None;
            self.server = None;
        }
        if self.next_at <= now {
            self.next_at += PTIME;
            self.send_frame(packets);
        }
        if self.rtcp_at <= now {
            self.rtcp_at += Duration::from_millis(2_600);
            self.send_report(packets);
        }
    }

    fn send_frame(&mut self, packets: &mut Vec<Datagram>) {
        let Some(server) = self.server.filter(|_| self.sending) else {
            self.timestamp = self.timestamp.wrapping_add(160);
            return;
        };
        let mut header = RtpHeader {
            marker: false,
            payload_type: PayloadType::from_low_bits(self.payload_type),
            sequence: self.sequence,
            timestamp: RtpTimestamp(self.timestamp),
            ssrc: Ssrc(self.ssrc),
        };
        let digit = self.dialling.as_mut().and_then(|sender| sender.poll_packet());
        let payload = match (digit, self.digit_type) {
            (Some(packet), Some(digit_type)) => {
                header.payload_type = PayloadType::from_low_bits(digit_type);
                header.timestamp = packet.timestamp;
                header.marker = packet.marker;
                packet.payload.to_bytes().to_vec()
            }
            _ => {
                self.dialling = None;
                self.spoken.push(self.frame);
                let timestamp = self.timestamp;
                let mark = Mark {
                    speaker: self.id as u8,
                    stream: self.stream,
                    frame: self.frame,
                    timestamp,
                };
                mark.payload(self.sound)
            }
        };
        let sent = header.payload_type.value();
        if self.types.last().is_none_or(|(_, latest)| *latest != sent) {
            self.types.push((self.frame, sent));
        }
        self.frame += 1;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        self.sent_on_leg = true;
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(&payload);
        packets.push((self.rtp, server.rtp, bytes));
    }

    /// How many of `frames` it sent with a payload type that is none of `agreed`.
    pub fn others(&self, frames: Range<u32>, agreed: &[u8]) -> u64 {
        let ends = self.types.iter().skip(1).map(|(from, _)| *from);
        let runs = self.types.iter().zip(ends.chain([u32::MAX]));
        let others = runs.filter(|((_, sent), _)| !agreed.contains(sent));
        let within = |((from, _), end): (&(u32, u8), u32)| {
            end.min(frames.end).saturating_sub((*from).max(frames.start))
        };
        others.map(within).map(u64::from).sum()
    }

    fn send_report(&self, packets: &mut Vec<Datagram>) {
        let Some(to) = self
            .server
            .and_then(|server| server.rtcp)
            .filter(|_| self.sending)
        else {
            return;
        };
        let muxed = self.server.is_some_and(|server| server.rtp == to);
        let from = if muxed {
            self.rtp
        } else {
            SocketAddr::new(self.rtp.ip(), self.rtp.port() + 1)
        };
        let mut buffer = [0; 256];
        let mut writer = RtcpWriter::new(&mut buffer);
        let written = writer
            .receiver_report(Ssrc(self.ssrc), &[])
            .and_then(|()| writer.sdes_cname(Ssrc(self.ssrc), format!("phone-{}", self.id).as_bytes()));
        if written.is_ok() {
            packets.push((from, to, writer.finish().to_vec()));
        }
    }

    /// When [`Self::send`] wants to be called.
    pub fn due(&self) -> Instant {
        self.next_at.min(self.rtcp_at)
    }
}

/// Where a stream begins: half of them go around within ten seconds.
pub(crate) fn any_timestamp(rng: &mut Rng) -> u32 {
    match rng.below(2) {
        0 => u32::MAX - rng.below(80_000) as u32,
        _ => rng.next_u64() as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_both_laws_and_no_damage() {
        let mark = Mark {
            speaker: 37,
            stream: 255,
            frame: 0xab_cdef,
            timestamp: 0xdead_beef,
        };
        let ulaw = mark.payload(Sound::Ulaw);
        let alaw: Vec<u8> = ulaw.iter().map(|byte| ULAW_TO_ALAW[usize::from(*byte)]).collect();
        assert_eq!(alaw, mark.payload(Sound::Alaw));
        assert_eq!(Mark::read(&ulaw, Sound::Ulaw), Some(mark));
        assert_eq!(Mark::read(&alaw, Sound::Alaw), Some(mark));
        assert_eq!(Mark::read(&ulaw, Sound::Alaw), None);
        assert_eq!(Mark::read(&ulaw[1..], Sound::Ulaw), None);
        let mut damaged = ulaw.clone();
        damaged.swap(2, 19);
        assert_eq!(Mark::read(&damaged, Sound::Ulaw), None);
    }
}
