//! A peer whose clock is not ours: an hour later it is heard as late as at the start, and without a click.

use std::time::Duration;

use codecs::{CodecKind, Decoder};

use crate::{
    tones::{LOUD, Voice},
    world::{Graph, Party, SESSION, World, peer, rtp_socket},
};

const TONE: f64 = 997.0;
const HOUR: u64 = 3_600;

/// A and B do not share a codec, so that A is decoded; A's clock is off by `ppm`, and each packet comes up to `jitter_us`
/// late. Runs for `seconds`.
struct Drifting {
    world: World,
    voice: Voice,
    decoder: Decoder,
    ppm: i64,
    jitter_us: u64,
    /// Packets of A so far.
    sent: u64,
    random: u64,
    last: Option<i16>,
    steepest: i32,
    made: usize,
}

impl Drifting {
    fn new(ppm: i64, jitter_us: u64) -> Self {
        let mut world = World::new();
        let graph = Graph::of(
            vec![
                Party::new("a", 0).with_formats(vec![crate::world::format(
                    97,
                    media_engine::spec::Codec::L16,
                    8_000,
                )]),
                Party::new("b", 1).with_formats(vec![crate::world::format(
                    98,
                    media_engine::spec::Codec::L16,
                    16_000,
                )]),
            ],
            &[("a", "b")],
        );
        world.commit(SESSION, &graph);
        let kind = CodecKind::L16 {
            sample_rate_hz: 8_000,
        };
        Self {
            world,
            voice: Voice::new(0, TONE, kind, 97),
            decoder: Decoder::new(
                CodecKind::L16 {
                    sample_rate_hz: 16_000,
                },
                16_000,
            )
            .expect("a rate"),
            ppm,
            jitter_us,
            sent: 0,
            random: 1,
            last: None,
            steepest: 0,
            made: 0,
        }
    }

    fn run(&mut self, seconds: u64) {
        let begun = self.world.now.mono;
        let first = self.sent;
        for n in 1..=seconds * 50 {
            // A clock that is fast sends sooner.
            let at_us = (n as i64 * 20_000 * (1_000_000 - self.ppm) / 1_000_000) as u64;
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let late_us = (self.random >> 33) % (self.jitter_us + 1);
            let at = begun + Duration::from_micros(at_us + late_us);
            if at > self.world.now.mono {
                self.world.pass(at - self.world.now.mono);
            }
            let packet = self.voice.packet();
            self.world.receive(rtp_socket(0), peer(0), &packet);
            self.sent = first + n;
            self.listen();
        }
    }

    fn listen(&mut self) {
        for sent in self.world.sent_rtp() {
            let mut pcm = [0; 5_760];
            let samples = self.decoder.decode(sent.payload(), &mut pcm).expect("L16");
            self.made += samples;
            for sample in &pcm[..samples] {
                let step = self
                    .last
                    .map_or(0, |last| (i32::from(*sample) - i32::from(last)).abs());
                self.steepest = self.steepest.max(step);
                self.last = Some(*sample);
            }
        }
    }

    /// How long a click of A takes to B, in ms: silence, and then the time to the first packet that is not.
    fn delay_ms(&mut self) -> f64 {
        self.voice.silent = true;
        self.run(1);
        self.voice.silent = false;
        let packet = self.voice.packet();
        let spoken = self.world.now.mono;
        self.world.receive(rtp_socket(0), peer(0), &packet);
        self.world.sent();
        for ms in 0..400u32 {
            self.world.pass(Duration::from_millis(1));
            // The stream goes on meanwhile.
            if ms % 20 == 19 {
                let packet = self.voice.packet();
                self.world.receive(rtp_socket(0), peer(0), &packet);
            }
            for sent in self.world.sent_rtp() {
                let mut pcm = [0; 5_760];
                let samples = self.decoder.decode(sent.payload(), &mut pcm).expect("L16");
                if let Some(at) = pcm[..samples]
                    .iter()
                    .position(|sample| sample.unsigned_abs() > 1_000)
                {
                    let waited = self.world.now.mono - spoken;
                    return waited.as_secs_f64() * 1_000.0 + at as f64 / 16.0;
                }
            }
        }
        panic!("nothing came");
    }
}

fn drift(seconds: u64, ppm: i64, jitter_us: u64) {
    let mut drifting = Drifting::new(ppm, jitter_us);
    drifting.run(30);
    drifting.steepest = 0;
    let before = drifting.delay_ms();
    drifting.last = None;
    drifting.run(1);
    drifting.steepest = 0;
    drifting.made = 0;
    drifting.run(seconds);
    // Between two samples of 16 kHz.
    let own = 2.0 * LOUD * (std::f64::consts::PI * TONE / 16_000.0).sin();
    let steepest = f64::from(drifting.steepest);
    assert!(
        steepest <= 1.1 * own,
        "{ppm} ppm: a step of {steepest}, the tone's own are {own:.0}"
    );
    let after = drifting.delay_ms();
    assert!(
        (after - before).abs() <= 20.0,
        "{ppm} ppm: {before:.1} ms at first, {after:.1} ms at the end"
    );
    assert!(after < 80.0, "{ppm} ppm: {after:.1} ms");
}

#[test]
fn an_hour_with_a_clock_that_is_fast() {
    drift(HOUR, 200, 0);
}

#[test]
fn an_hour_with_a_clock_that_is_slow() {
    drift(HOUR, -200, 0);
}

#[test]
fn a_slow_clock_and_a_network_that_jitters() {
    drift(HOUR / 4, -200, 8_000);
}

#[test]
fn a_clock_as_ours() {
    drift(HOUR / 4, 0, 3_000);
}
