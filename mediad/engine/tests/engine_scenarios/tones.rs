//! Parties that each speak a tone of their own, and what every listener hears of whom.

use std::{collections::BTreeMap, time::Duration};

use codecs::{CodecKind, Decoder, Encoder, goertzel, opus, tone::Oscillator};

use crate::world::{Sent, Speaker, World, peer, rtp_socket};

/// How loud the tones are, as the amplitude of a sine.
pub(crate) const LOUD: f64 = 6_000.0;
/// Everybody's sound is compared at this rate.
const HZ: u32 = 8_000;

/// A party that speaks a tone in packets of 20 ms.
pub(crate) struct Voice {
    number: u32,
    pub(crate) silent: bool,
    /// Amplitude.
    pub(crate) loud: f64,
    kind: CodecKind,
    encoder: Encoder,
    sine: Oscillator,
    speaker: Speaker,
}

impl Voice {
    pub(crate) fn new(number: u32, hz: f64, kind: CodecKind, payload_type: u8) -> Self {
        let rate = rate(kind);
        let mut speaker = Speaker::new(0x5000 + number);
        speaker.payload_type = payload_type;
        speaker.step = kind.ptime_ticks(20);
        Self {
            number,
            silent: false,
            loud: LOUD,
            kind,
            encoder: Encoder::new(kind, rate, &opus::Settings::default()).expect("a rate it runs at"),
            sine: Oscillator::new(hz, rate),
            speaker,
        }
    }

    pub(crate) fn pcmu(number: u32, hz: f64) -> Self {
        Self::new(number, hz, CodecKind::Pcmu, 0)
    }

    /// The next packet.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let samples = CodecKind::frame_samples(rate(self.kind), 20);
        let loud = if self.silent { 0.0 } else { self.loud };
        let pcm: Vec<i16> = (0..samples)
            .map(|_| (f64::from(self.sine.next_value()) * loud) as i16)
            .collect();
        let mut payload = vec![0; 1_500];
        let bytes = self.encoder.encode(&pcm, &mut payload).expect("a frame");
        self.speaker.packet(&payload[..bytes])
    }

    /// A telephone-event packet with payload type 101, in the place of sound.
    pub(crate) fn event(&mut self, payload: &[u8]) -> Vec<u8> {
        let (audio, step) = (self.speaker.payload_type, self.speaker.step);
        (self.speaker.payload_type, self.speaker.step) = (101, 0);
        let packet = self.speaker.packet(payload);
        (self.speaker.payload_type, self.speaker.step) = (audio, step);
        packet
    }

    /// Sound goes on `ticks` after the event began.
    pub(crate) fn event_ended(&mut self, ticks: u32) {
        self.speaker.timestamp = self.speaker.timestamp.wrapping_add(ticks);
    }

    /// Describes a silence that begins now, or goes on, by this payload.
    pub(crate) fn describe(&mut self, world: &mut World, payload_type: u8, payload: &[u8]) {
        let packet = self.description(payload_type, payload);
        world.receive(rtp_socket(self.number), peer(self.number), &packet);
    }

    /// The packet of that.
    pub(crate) fn description(&mut self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let (audio, step) = (self.speaker.payload_type, self.speaker.step);
        (self.speaker.payload_type, self.speaker.step) = (payload_type, 0);
        let packet = self.speaker.packet(payload);
        (self.speaker.payload_type, self.speaker.step) = (audio, step);
        packet
    }

    /// A packet of its line with this payload.
    pub(crate) fn packet_of(&mut self, payload: &[u8]) -> Vec<u8> {
        self.speaker.packet(payload)
    }

    /// Sends nothing for `ms`; its time goes on.
    pub(crate) fn rest(&mut self, ms: u32) {
        let ticks = self.speaker.step / 20 * ms;
        self.speaker.timestamp = self.speaker.timestamp.wrapping_add(ticks);
    }

    pub(crate) fn speak(&mut self, world: &mut World) {
        let packet = self.packet();
        world.receive(rtp_socket(self.number), peer(self.number), &packet);
    }
}

fn rate(kind: CodecKind) -> u32 {
    match kind {
        CodecKind::Opus => 8_000,
        other => other.sample_rate_hz(),
    }
}

/// Everybody speaks for `ms`, in packets of 20 ms that do not come all at once.
pub(crate) fn talk(world: &mut World, voices: &mut [&mut Voice], ms: u64) {
    for _ in 0..ms / 20 {
        let mut left = 20_000;
        for voice in voices.iter_mut() {
            voice.speak(world);
            world.pass(Duration::from_micros(700));
            left -= 700;
        }
        world.pass(Duration::from_micros(left));
    }
}

/// What one party was sent, decoded; its line is checked on the way.
#[derive(Default)]
pub(crate) struct Ear {
    pub(crate) pcm: Vec<i16>,
    /// The line may pause for so long, where that is more than three packets.
    pause_ms: i32,
    last: Option<(u16, u32)>,
    decoder: Option<(u8, Decoder)>,
}

/// Listens for party `number`: every packet follows the one before, in number and in time.
impl Ear {
    /// For a line that may pause for so long.
    pub(crate) fn of_a_line_that_pauses(pause_ms: i32) -> Self {
        Self {
            pause_ms,
            ..Self::default()
        }
    }

    pub(crate) fn hear(&mut self, sent: &[Sent], number: u32, kinds: &[(u8, CodecKind)]) {
        for sent in sent.iter().filter(|sent| sent.socket == rtp_socket(number)) {
            let header = sent.header();
            let payload_type = header.payload_type.value();
            let Some((_, kind)) = kinds.iter().find(|(known, _)| *known == payload_type) else {
                panic!("payload type {payload_type} was not negotiated");
            };
            let ticks = kind
                .payload_ticks(sent.payload())
                .expect("a payload of its codec");
            if let Some((sequence, end)) = self.last {
                assert_eq!(
                    header.sequence,
                    sequence.wrapping_add(1),
                    "a number is missing or comes twice"
                );
                let gap = header.timestamp.0.wrapping_sub(end).cast_signed();
                let ms = gap / (kind.clock_rate_hz() / 1_000) as i32;
                assert!(
                    gap >= 0 && ms <= self.pause_ms.max(60),
                    "the timestamp jumps by {gap} ticks, or {ms} ms"
                );
            }
            self.last = Some((header.sequence, header.timestamp.0.wrapping_add(ticks)));
            if self
                .decoder
                .as_ref()
                .is_none_or(|(known, _)| *known != payload_type)
            {
                self.decoder = Some((payload_type, Decoder::new(*kind, rate(*kind)).expect("a rate")));
            }
            let (_, decoder) = self.decoder.as_mut().expect("made above");
            let mut pcm = vec![0; 5_760];
            let samples = decoder
                .decode(sent.payload(), &mut pcm)
                .expect("a payload of its codec");
            // Half of the samples are enough for tones below 2 kHz.
            let step = (rate(*kind) / HZ) as usize;
            self.pcm.extend(pcm[..samples].iter().step_by(step));
        }
    }

    /// The amplitude of each tone over the last 400 ms.
    pub(crate) fn levels(&self, tones: &[f64]) -> BTreeMap<u32, f64> {
        let from = self.pcm.len().saturating_sub(3_200);
        let part = &self.pcm[from..];
        assert!(part.len() >= 1_600, "only {} samples were heard", part.len());
        tones
            .iter()
            .map(|hz| (*hz as u32, goertzel::amplitude(part, *hz, HZ)))
            .collect()
    }

    /// The amplitude of a tone where it is loudest, in parts of 100 ms.
    pub(crate) fn loudest(&self, hz: f64) -> f64 {
        let parts = self.pcm.chunks_exact(800);
        parts
            .map(|part| goertzel::amplitude(part, hz, HZ))
            .fold(0.0, f64::max)
    }

    /// The largest step from one sample to the next.
    pub(crate) fn steepest(&self) -> f64 {
        let step = |pair: &[i16]| (f64::from(pair[1]) - f64::from(pair[0])).abs();
        self.pcm.windows(2).map(step).fold(0.0, f64::max)
    }

    /// Exactly `expected` is heard of `tones`, each within a decibel of its amplitude.
    pub(crate) fn hears(&self, who: &str, tones: &[f64], expected: &[(f64, f64)]) {
        for (hz, level) in self.levels(tones) {
            match expected.iter().find(|(tone, _)| *tone as u32 == hz) {
                Some((_, wanted)) => {
                    let ratio = level / wanted;
                    assert!(
                        (0.85..1.15).contains(&ratio),
                        "{who} hears {hz} Hz at {level:.0}, not {wanted:.0}"
                    );
                }
                None => assert!(level < 60.0, "{who} hears {hz} Hz at {level:.0} and should not"),
            }
        }
    }
}
