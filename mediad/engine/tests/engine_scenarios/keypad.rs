//! A party that speaks a tone and presses keys, in the audio and as telephone-events.

use std::{collections::VecDeque, time::Duration};

use codecs::{CodecKind, Encoder, dtmf, opus, tone::Oscillator};
use media_engine::command::{DigitSource, EventKind};
use rtp::{
    event::{Digit, TelephoneEvent},
    header::RtpHeader,
    units::{PayloadType, RtpTimestamp},
};

use crate::world::{Sent, Speaker, World, peer, rtp, rtp_socket};

/// What it speaks between two keys.
pub(crate) const VOICE_HZ: f64 = 500.0;
/// Telephone-events come as this.
pub(crate) const EVENTS: u8 = 101;

/// How a key is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Tone,
    Event,
    Both,
}

pub(crate) struct Keypad {
    number: u32,
    encoder: Encoder,
    rate_hz: u32,
    voice: Oscillator,
    /// Amplitude of the voice.
    pub(crate) loud: f32,
    /// Level of keys in -dBm0, in either form.
    pub(crate) volume: u8,
    generator: dtmf::DtmfGenerator,
    /// Sound that was not sent yet.
    pcm: VecDeque<i16>,
    speaker: Speaker,
}

impl Keypad {
    pub(crate) fn new(number: u32, kind: CodecKind, payload_type: u8) -> Self {
        let rate_hz = match kind {
            CodecKind::Opus => 8_000,
            other => other.sample_rate_hz(),
        };
        let mut speaker = Speaker::new(0x7000 + number);
        speaker.payload_type = payload_type;
        speaker.step = kind.ptime_ticks(20);
        Self {
            number,
            encoder: Encoder::new(kind, rate_hz, &opus::Settings::default()).expect("a rate it runs at"),
            rate_hz,
            voice: Oscillator::new(VOICE_HZ, rate_hz),
            loud: 6_000.0,
            volume: 8,
            generator: dtmf::DtmfGenerator::new(rate_hz),
            pcm: VecDeque::new(),
            speaker,
        }
    }

    pub(crate) fn pcmu(number: u32) -> Self {
        Self::new(number, CodecKind::Pcmu, 0)
    }

    /// The packet of the next 20 ms: what waits of tones, and voice.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let samples = CodecKind::frame_samples(self.rate_hz, 20);
        while self.pcm.len() < samples {
            self.pcm.push_back((self.voice.next_value() * self.loud) as i16);
        }
        let pcm: Vec<i16> = self.pcm.drain(..samples).collect();
        let mut payload = vec![0; 1_500];
        let bytes = self.encoder.encode(&pcm, &mut payload).expect("a frame");
        self.speaker.packet(&payload[..bytes])
    }

    /// Speaks for `ms`.
    pub(crate) fn talk(&mut self, world: &mut World, ms: u64) {
        for _ in 0..ms / 20 {
            let packet = self.packet();
            world.receive(rtp_socket(self.number), peer(self.number), &packet);
            world.pass_ms(20);
        }
    }

    /// This goes before the voice from now on.
    pub(crate) fn queue_sound(&mut self, pcm: &[i16]) {
        self.pcm.extend(pcm);
    }

    /// The tone of a key, and a pause behind it, go before the voice from now on.
    pub(crate) fn queue_tone(&mut self, key: char, ms: u32, pause_ms: u32) {
        let digit = dtmf::Digit::from_char(key).expect("a key");
        let mean = -f64::from(self.volume);
        self.generator
            .start_at(digit, ms, pause_ms, (mean - 1.0, mean + 1.0));
        let mut tone = vec![0; (self.rate_hz / 1_000 * (ms + pause_ms)) as usize];
        self.generator.generate(&mut tone);
        self.pcm.extend(tone);
    }

    /// Presses a key for 100 ms and pauses for 60.
    pub(crate) fn press(&mut self, world: &mut World, key: char, form: Form) {
        let start = self.speaker.timestamp;
        let mut events = Vec::new();
        match form {
            Form::Event => events = self.events(key),
            Form::Tone | Form::Both => self.queue_tone(key, 100, 60),
        }
        for n in 0..8_usize {
            let (socket, from) = (rtp_socket(self.number), peer(self.number));
            if let Some(event) = events.get(n) {
                world.receive(socket, from, event);
            }
            if form == Form::Event {
                self.speaker.timestamp = self.speaker.timestamp.wrapping_add(self.speaker.step);
            } else {
                if form == Form::Both && n < 7 {
                    let n = n as u16 + 1;
                    let block = self.block(key, n >= 5, 160 * n.min(5));
                    let event = self.event(start, n == 1, block);
                    world.receive(socket, from, &event);
                }
                let packet = self.packet();
                world.receive(socket, from, &packet);
            }
            world.pass(Duration::from_millis(20));
        }
    }

    /// Holds a key down for `ms`, in the place of sound, which goes on at once.
    pub(crate) fn hold(&mut self, world: &mut World, key: char, ms: u64) {
        let (start, packets) = (self.speaker.timestamp, ms / 20);
        for n in 1..=packets {
            let end = n == packets;
            let block = self.block(key, end, 160 * n as u16);
            // RFC 4733 §2.5.1.4: the end three times.
            for _ in 0..if end { 3 } else { 1 } {
                let event = self.event(start, n == 1, block);
                world.receive(rtp_socket(self.number), peer(self.number), &event);
            }
            self.speaker.timestamp = self.speaker.timestamp.wrapping_add(self.speaker.step);
            world.pass_ms(20);
        }
    }

    /// The packets of a key of 100 ms as telephone-event, beside the audio.
    pub(crate) fn events(&mut self, key: char) -> Vec<Vec<u8>> {
        let start = self.speaker.timestamp;
        let mut event = |n: u16| {
            let block = self.block(key, n >= 5, 160 * n.min(5));
            self.event(start, n == 1, block)
        };
        (1..=7).map(&mut event).collect()
    }

    fn block(&self, key: char, end: bool, duration: u16) -> TelephoneEvent {
        TelephoneEvent {
            event: Digit::from_char(key).expect("a key").event(),
            end,
            reserved: false,
            volume: self.volume,
            duration,
        }
    }

    fn event(&mut self, start: u32, first: bool, block: TelephoneEvent) -> Vec<u8> {
        let header = RtpHeader {
            payload_type: PayloadType::from_low_bits(EVENTS),
            timestamp: RtpTimestamp(start),
            ..self.speaker.header(first)
        };
        self.speaker.sequence = self.speaker.sequence.wrapping_add(1);
        rtp(&header, &block.to_bytes())
    }
}

/// Digits told since the last call: key, how it was heard, and how long it lasted. Every one has begun and ended.
pub(crate) fn told(world: &mut World) -> Vec<(char, DigitSource, u32)> {
    let mut begun = None;
    let mut told = Vec::new();
    for kind in world.event_kinds() {
        match kind {
            EventKind::DigitStarted { event, source } => {
                assert_eq!(begun.replace((event, source)), None, "two digits at once");
            }
            EventKind::DigitEnded {
                event,
                source,
                duration_ms,
                ..
            } => {
                assert_eq!(begun.take(), Some((event, source)), "what ended has begun");
                let key = Digit::from_event(event).expect("a digit").to_char();
                told.push((key, source, duration_ms));
            }
            _ => {}
        }
    }
    assert_eq!(begun, None, "a digit goes on");
    told
}

/// The keys of the telephone-events among packets to party `number`: each with its packets, ends, and length in ticks.
pub(crate) fn events_to(sent: &[Sent], number: u32) -> Vec<(char, usize, usize, u16)> {
    let mut presses: Vec<(u32, char, usize, usize, u16)> = Vec::new();
    let of_party = sent.iter().filter(|sent| sent.socket == rtp_socket(number));
    for sent in of_party.filter(|sent| sent.header().payload_type.value() == EVENTS) {
        let block = TelephoneEvent::parse(sent.payload()).expect("an event");
        let key = Digit::from_event(block.event).expect("a digit").to_char();
        let start = sent.header().timestamp.0;
        if presses.last().is_none_or(|(at, ..)| *at != start) {
            presses.push((start, key, 0, 0, 0));
        }
        let press = presses.last_mut().expect("pushed");
        press.2 += 1;
        press.3 += usize::from(block.end);
        press.4 = press.4.max(block.duration);
    }
    presses
        .into_iter()
        .map(|(_, key, packets, ends, ticks)| (key, packets, ends, ticks))
        .collect()
}

/// The volumes that the telephone-events among packets to party `number` tell.
pub(crate) fn volumes_to(sent: &[Sent], number: u32) -> Vec<u8> {
    let of_party = sent.iter().filter(|sent| sent.socket == rtp_socket(number));
    let events = of_party.filter(|sent| sent.header().payload_type.value() == EVENTS);
    let mut volumes: Vec<u8> = events
        .map(|sent| TelephoneEvent::parse(sent.payload()).expect("an event").volume)
        .collect();
    volumes.dedup();
    volumes
}

/// The keys whose tones are in `pcm` at 8 kHz, as a detector of their own finds them.
pub(crate) fn tones_in(pcm: &[i16]) -> String {
    let mut keys = String::new();
    let mut detector = dtmf::Detector::new();
    detector.process(pcm, |event| {
        if let dtmf::DtmfEvent::Started(digit) = event {
            keys.push(digit.as_char());
        }
    });
    keys
}
