//! Recordings on their timeline: clicks of both parties stay where they were heard, whatever clocks, networks and streams do.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test needs one instant and may fail where it stands"
)]

use std::time::{Duration, Instant};

use codecs::{CodecKind, Decoder, Encoder, goertzel, level, mix, mix::UNITY, opus, tone::Oscillator};
use media_engine::{
    limits::COMFORT_NOISE_MS_MAX,
    recording::{DELAY, Ended, Placing, Recording, RecordingFeed, Report, Settings, Workbench, ring},
    spec::RecordingFormat,
};
use proptest::prelude::*;

const LEFT: Placing = Placing {
    leg: 0,
    right: false,
    gain: UNITY,
};
const RIGHT: Placing = Placing {
    leg: 1,
    right: true,
    gain: UNITY,
};
/// How long a packet takes to the host at least.
const WAY: Duration = Duration::from_millis(30);
const FRAME: Duration = Duration::from_millis(20);

/// A packet under way: when it arrives, its place in the stream, its payload.
type Sent = (Duration, (u64, u64, u32), Vec<u8>);

/// A recording, its file, and the time.
struct Desk {
    start: Instant,
    now: Duration,
    feed: RecordingFeed,
    recording: Recording,
    bench: Workbench,
    file: Vec<u8>,
    ended: Option<Ended>,
    turned: Duration,
}

impl Desk {
    fn new(settings: Settings) -> Self {
        let start = Instant::now();
        let (feed, intake) = ring(256 << 10, start);
        let mut file = Vec::new();
        let recording = Recording::new(settings, intake, &mut file).unwrap();
        feed.begin(start);
        Self {
            start,
            now: Duration::ZERO,
            feed,
            recording,
            bench: Workbench::default(),
            file,
            ended: None,
            turned: Duration::ZERO,
        }
    }

    fn wav_stereo() -> Self {
        Self::new(Settings::new(RecordingFormat::WavStereo, 8_000))
    }

    fn packet(
        &mut self,
        placing: Placing,
        at: Duration,
        place: (u64, u64, u32),
        kind: CodecKind,
        payload: &[u8],
    ) {
        self.reach(at);
        self.feed.packet(placing, self.start + at, place, kind, payload);
    }

    /// Lets the file thread have its turns up to `at`.
    fn reach(&mut self, at: Duration) {
        self.now = self.now.max(at);
        while self.turned + Duration::from_millis(150) <= self.now {
            self.turned += Duration::from_millis(150);
            self.turn(self.turned);
        }
    }

    fn turn(&mut self, at: Duration) {
        if self.ended.is_none() {
            self.ended = self
                .recording
                .turn(self.start + at, &mut self.bench, &mut self.file);
        }
    }

    /// Ends the recording after `length`; left and right, or the same twice.
    fn finish(mut self, length: Duration) -> (Vec<i16>, Vec<i16>, Report) {
        self.reach(length);
        self.feed.close(self.start + length);
        self.turn(length);
        assert!(self.ended.is_some());
        let samples: Vec<i16> = self.file[44..]
            .as_chunks::<2>()
            .0
            .iter()
            .map(|bytes| i16::from_le_bytes(*bytes))
            .collect();
        let report = self.recording.report();
        let stereo = self.file[22] == 2;
        if !stereo {
            return (samples.clone(), samples, report);
        }
        let (pairs, _) = samples.as_chunks::<2>();
        let side = |side: usize| pairs.iter().map(|pair| pair[side]).collect();
        (side(0), side(1), report)
    }
}

/// A party that clicks once a second of true time, on a clock of its own.
struct Party {
    placing: Placing,
    /// Its clock runs so much faster than the host's, in parts of a million.
    ppm: f64,
    stream: u64,
    sequence: u64,
    timestamp: u32,
    /// Packets sent so far.
    count: u64,
}

impl Party {
    fn new(placing: Placing, ppm: f64) -> Self {
        Self {
            placing,
            ppm,
            stream: 1 + u64::from(placing.leg),
            sequence: 65_500,
            timestamp: u32::MAX - 3_000,
            count: 0,
        }
    }

    /// When the packet `count` begins, in true time.
    fn begins(&self, count: u64) -> Duration {
        Duration::from_secs_f64(count as f64 * 0.02 / (1.0 + self.ppm / 1e6))
    }

    /// The next packet: when it begins in true time, where it stands, and its payload. It clicks in the first sample after
    /// every full second.
    fn next(&mut self) -> (Duration, (u64, u64, u32), Vec<u8>) {
        let (from, to) = (
            self.begins(self.count).as_secs_f64(),
            self.begins(self.count + 1).as_secs_f64(),
        );
        let mut pcm = [0; 160];
        let second = from.ceil();
        if second < to {
            let at = ((second - from) / (to - from) * 160.0) as usize;
            pcm[at.min(159)] = 20_000;
        }
        let mut payload = vec![0; 160];
        codecs::g711::encode_ulaw(&pcm, &mut payload);
        let place = (self.stream, self.sequence, self.timestamp);
        self.skip();
        (Duration::from_secs_f64(from), place, payload)
    }

    /// The time of one packet passes.
    fn skip(&mut self) {
        self.count += 1;
        self.sequence += 1;
        self.timestamp = self.timestamp.wrapping_add(160);
    }
}

/// Where the clicks are, in ms after the full second that they belong to; `None` where there is none within 200 ms.
fn clicks(pcm: &[i16], seconds: std::ops::Range<usize>) -> Vec<Option<f64>> {
    let find = |second: usize| {
        let from = second * 8_000;
        let piece = pcm.get(from..(from + 1_600).min(pcm.len()))?;
        // Stretched clicks are lower and wider; what is made up is not so loud.
        let (at, peak) = piece
            .iter()
            .enumerate()
            .max_by_key(|(_, sample)| sample.unsigned_abs())?;
        (peak.unsigned_abs() > 5_000).then(|| at as f64 / 8.0)
    };
    seconds.map(find).collect()
}

/// Clicks are as late as packets are: one frame and the way.
const EXPECTED_MS: f64 = 50.0;

fn assert_in_place(pcm: &[i16], seconds: std::ops::Range<usize>, within_ms: f64, missing_max: usize) {
    let found = clicks(pcm, seconds.clone());
    let missing = found.iter().filter(|click| click.is_none()).count();
    assert!(
        missing <= missing_max,
        "{missing} clicks are missing, the first {:?}",
        found.iter().position(Option::is_none)
    );
    for (second, click) in seconds.zip(found) {
        if let Some(click) = click {
            assert!(
                (click - EXPECTED_MS).abs() <= within_ms,
                "the click of second {second} is at {click} ms, not at {EXPECTED_MS}"
            );
        }
    }
}

/// A little generator, for delays and losses.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn each_party_is_heard_in_its_channel_at_its_level_from_its_first_sample_on() {
    let mut desk = Desk::wav_stereo();
    let mut tones = [Oscillator::new(440.0, 8_000), Oscillator::new(1_000.0, 8_000)];
    for count in 0..250_u64 {
        let at = FRAME * count as u32;
        for (placing, tone) in [LEFT, RIGHT].into_iter().zip(&mut tones) {
            let pcm: Vec<i16> = (0..160).map(|_| (tone.next_value() * 8_000.0) as i16).collect();
            let mut payload = vec![0; 160];
            codecs::g711::encode_alaw(&pcm, &mut payload);
            // The right one joins a second later.
            if placing == LEFT || count >= 50 {
                let place = (9, count, count as u32 * 160);
                desk.packet(placing, at, place, CodecKind::Pcma, &payload);
            }
        }
    }
    let (left, right, report) = desk.finish(Duration::from_secs(5));
    assert_eq!((left.len(), right.len()), (40_000, 40_000));
    for (pcm, own, other) in [(&left, 440.0, 1_000.0), (&right, 1_000.0, 440.0)] {
        let pcm = &pcm[16_000..32_000];
        let level = goertzel::amplitude(pcm, own, 8_000);
        assert!((level / 8_000.0 - 1.0).abs() < 0.02, "{level} at {own} Hz");
        assert!(goertzel::amplitude(pcm, other, 8_000) < 20.0);
    }
    let first = |pcm: &[i16]| pcm.iter().position(|sample| sample.unsigned_abs() > 500).unwrap();
    assert!(first(&left) < 5, "{}", first(&left));
    assert!((8_000..8_005).contains(&first(&right)), "{}", first(&right));
    assert_eq!(report.legs[0].first_sample, Some(0));
    assert_eq!(report.legs[1].first_sample, Some(8_000));
    assert_eq!((report.legs[0].concealed_samples, report.legs[0].late), (0, 0));
}

#[test]
fn clocks_that_drift_apart_for_an_hour_leave_both_legs_in_step() {
    let mut desk = Desk::wav_stereo();
    let mut parties = [Party::new(LEFT, 200.0), Party::new(RIGHT, -200.0)];
    let mut chance = Chance(3);
    let hour = Duration::from_secs(3_600);
    loop {
        // Whoever is next.
        let first = usize::from(parties[1].begins(parties[1].count) < parties[0].begins(parties[0].count));
        let party = &mut parties[first];
        let (from, place, payload) = party.next();
        if from > hour - Duration::from_secs(1) {
            break;
        }
        // Most packets are quick, some take up to 15 ms more.
        let jitter = Duration::from_micros(chance.below(4) / 3 * chance.below(15_000));
        let at = from + FRAME + WAY + jitter;
        desk.packet(party.placing, at, place, CodecKind::Pcmu, &payload);
    }
    let (left, right, report) = desk.finish(hour);
    assert_eq!(left.len(), 3_600 * 8_000);
    assert_in_place(&left, 1..3_590, 3.0, 0);
    assert_in_place(&right, 1..3_590, 3.0, 0);
    for leg in &report.legs {
        assert_eq!(
            (leg.restarts, leg.concealed_samples, leg.late),
            (0, 0, 0),
            "{leg:?}"
        );
    }
}

#[test]
fn the_tone_of_a_drifting_party_stays_clean() {
    let mut desk = Desk::new(Settings::new(RecordingFormat::WavMono, 8_000));
    let mut tone = Oscillator::new(1_000.0, 8_000);
    for count in 0..3_000_u64 {
        let pcm: Vec<i16> = (0..160).map(|_| (tone.next_value() * 8_000.0) as i16).collect();
        let mut payload = vec![0; 320];
        codecs::l16::encode(&pcm, &mut payload);
        let at = Duration::from_secs_f64(count as f64 * 0.02 * 1.000_2);
        let kind = CodecKind::L16 {
            sample_rate_hz: 8_000,
        };
        desk.packet(LEFT, at, (1, count, count as u32 * 160), kind, &payload);
    }
    let (pcm, ..) = desk.finish(Duration::from_secs(60));
    // The largest step between two samples of such a tone, and a little for the curves between them.
    let step = 8_000.0 * std::f64::consts::TAU / 8.0 * 1.1;
    let largest = pcm[8_000..440_000]
        .windows(2)
        .map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs())
        .max();
    assert!(f64::from(largest.unwrap()) < step, "{largest:?} against {step}");
    // A frame that is a sample longer turns the phase by an eighth, and by no more.
    for (at, piece) in pcm[80_000..440_000].chunks(800).enumerate() {
        let purity = goertzel::purity(piece, 1_000.0, 8_000);
        assert!(purity > 0.8, "{purity} in tenth {at}");
    }
}

#[test]
fn a_silence_that_is_described_sounds_so_and_is_no_loss() {
    for file_hz in [8_000, 16_000] {
        let mut desk = Desk::new(Settings::new(RecordingFormat::WavStereo, file_hz));
        let mut party = Party::new(LEFT, 0.0);
        for n in 0..400 {
            let (from, place, payload) = party.next();
            let at = from + FRAME + WAY;
            match n {
                // Three seconds of silence, described twice.
                150 | 220 => {
                    desk.reach(at);
                    desk.feed.noise(LEFT, desk.start + at, place, 8_000, &[40, 127]);
                }
                151..300 => party.sequence -= 1,
                _ => desk.packet(LEFT, at, place, CodecKind::Pcmu, &payload),
            }
        }
        let (left, right, report) = desk.finish(Duration::from_secs(8));
        let rate = file_hz as usize;
        for tenth in 32..59 {
            let piece = &left[tenth * rate / 10..][..rate / 10];
            let heard = level::dbov(piece);
            assert!((heard + 40.0).abs() < 2.5, "{heard:.1} dBov in tenth {tenth}");
        }
        assert!(mix::is_silent(&right, 0));
        let [leg] = &report.legs[..] else {
            panic!("{report:?}")
        };
        assert_eq!((leg.concealed_samples, leg.restarts, leg.late), (0, 0, 0));
        let narrow: Vec<i16> = left.iter().step_by(rate / 8_000).copied().collect();
        if file_hz == 8_000 {
            assert_in_place(&narrow, 0..3, 1.0, 0);
            assert_in_place(&narrow, 6..8, 1.0, 0);
        }
    }
}

/// What the end of speech left in a resampler is not heard when speech begins again.
#[test]
fn nothing_of_the_speech_before_a_described_silence_is_heard_behind_it() {
    let mut desk = Desk::new(Settings::new(RecordingFormat::WavStereo, 16_000));
    for count in 0..150_u64 {
        let at = FRAME * (count as u32 + 1) + WAY;
        let place = (9, count.min(50) + count.saturating_sub(99), count as u32 * 160);
        match count {
            // Loud, whatever its law makes of it.
            0..50 => desk.packet(LEFT, at, place, CodecKind::Pcmu, &[0x85; 160]),
            50 => {
                desk.reach(at);
                desk.feed.noise(LEFT, desk.start + at, place, 8_000, &[80]);
            }
            51..100 => {}
            _ => desk.packet(LEFT, at, place, CodecKind::Pcmu, &[0xFF; 160]),
        }
    }
    let (left, ..) = desk.finish(Duration::from_secs(3));
    let loudest = |pcm: &[i16]| pcm.iter().map(|sample| sample.unsigned_abs()).max();
    assert!(loudest(&left[..16_000]) > Some(10_000));
    assert!(
        loudest(&left[24_000..]) < Some(100),
        "{:?}",
        loudest(&left[24_000..])
    );
}

#[test]
fn a_silence_that_is_described_once_sounds_so_for_as_long_as_it_does_live() {
    for file_hz in [8_000, 16_000] {
        let mut desk = Desk::new(Settings::new(RecordingFormat::WavStereo, file_hz));
        let mut party = Party::new(LEFT, 0.0);
        let (from, place, _) = party.next();
        let at = from + FRAME + WAY;
        desk.reach(at);
        desk.feed.noise(LEFT, desk.start + at, place, 8_000, &[40, 127]);
        let (left, ..) = desk.finish(Duration::from_secs(62));
        let last = left.iter().rposition(|sample| *sample != 0).unwrap_or(0) * 1_000 / file_hz as usize;
        let until = at.as_millis() as usize + COMFORT_NOISE_MS_MAX as usize;
        assert!((until - 2..=until + 1).contains(&last), "{last} ms, not {until}");
    }
}

/// A second of speech, a key, and speech again; what it may look like on its way, and what is lost of sound then.
#[test]
fn a_key_is_no_loss_and_nothing_is_made_up_for_it() {
    for (name, key, beside, lost, concealed) in [
        ("a key", 50..58, false, &[][..], 0),
        ("a short one", 50..52, false, &[], 0),
        ("one that is held", 50..150, false, &[], 0),
        ("two of its packets are lost", 50..58, false, &[53, 57], 0),
        (
            "all of its packets but one are",
            50..58,
            false,
            &[50, 51, 52, 53, 54, 56, 57],
            0,
        ),
        ("sound goes on beside it", 50..58, true, &[], 0),
        ("and two packets of that are lost", 50..58, true, &[53, 55], 320),
        ("sound is lost elsewhere", 50..58, false, &[30, 70], 320),
    ] {
        let mut desk = Desk::wav_stereo();
        let mut party = Party::new(LEFT, 0.0);
        let mut tone = Oscillator::new(440.0, 8_000);
        for n in 0..300 {
            let (from, (stream, sequence, timestamp), mut payload) = party.next();
            let at = from + FRAME + WAY;
            let pcm: Vec<i16> = (0..160).map(|_| (tone.next_value() * 6_000.0) as i16).collect();
            codecs::g711::encode_ulaw(&pcm, &mut payload);
            let is_event = key.contains(&n);
            if is_event && (beside || !lost.contains(&n)) {
                desk.reach(at);
                let start = timestamp.wrapping_sub((n - key.start) as u32 * 160);
                desk.feed.event(LEFT, desk.start + at, (stream, sequence, start));
            }
            let mut place = (stream, sequence, timestamp);
            if is_event && beside {
                // Its numbers are between those of the events.
                party.sequence += 1;
                place.1 += 1;
            }
            if (!is_event || beside) && !lost.contains(&n) {
                desk.packet(LEFT, at, place, CodecKind::Pcmu, &payload);
            }
        }
        let (left, _, report) = desk.finish(Duration::from_secs(7));
        let leg = &report.legs[0];
        assert_eq!(
            (leg.concealed_samples, leg.restarts, leg.late),
            (concealed, 0, 0),
            "{name}"
        );
        assert_eq!(left.len(), 7 * 8_000, "{name}");
        for n in 0..300 {
            let from = (EXPECTED_MS as usize + 20 * n) * 8;
            let heard = goertzel::amplitude(&left[from..from + 160], 440.0, 8_000);
            let sounds = beside || !key.contains(&n);
            // What is made up glides into what follows.
            let is_made_up = lost.contains(&n) || n > 0 && lost.contains(&(n - 1));
            match (sounds, is_made_up) {
                (true, false) => assert!((heard - 6_000.0).abs() < 600.0, "{name}: {heard:.0} in {n}"),
                (true, true) => {}
                (false, _) => assert!(
                    mix::is_silent(&left[from..from + 160], 0),
                    "{name}: {heard:.0} in {n}"
                ),
            }
        }
    }
}

#[test]
fn losses_and_disorder_move_nothing() {
    let mut desk = Desk::wav_stereo();
    let mut party = Party::new(LEFT, 0.0);
    let mut chance = Chance(8);
    let mut on_the_way: Vec<Sent> = Vec::new();
    let mut lost = 0;
    for _ in 0..3_000 {
        let (from, place, payload) = party.next();
        if chance.below(20) == 0 {
            lost += 1;
            continue;
        }
        let jitter = Duration::from_millis(chance.below(10) / 9 * chance.below(300));
        on_the_way.push((from + FRAME + WAY + jitter, place, payload));
    }
    on_the_way.sort_by_key(|packet| packet.0);
    for (at, place, payload) in on_the_way {
        desk.packet(LEFT, at, place, CodecKind::Pcmu, &payload);
    }
    let (left, right, report) = desk.finish(Duration::from_secs(61));
    // One click in twenty is lost with its packet.
    assert_in_place(&left, 1..60, 0.5, 9);
    assert!(right.iter().all(|sample| *sample == 0));
    let leg = &report.legs[0];
    assert_eq!((leg.packets, leg.late), (3_000 - lost, 0));
    let concealed = leg.concealed_samples / 160;
    assert!(
        concealed > lost * 9 / 10 && concealed <= lost,
        "{concealed} of {lost}"
    );
}

#[test]
fn another_ssrc_a_jump_and_a_silence_leave_the_rest_in_place() {
    let mut desk = Desk::wav_stereo();
    let mut party = Party::new(RIGHT, 0.0);
    while party.count < 3_000 {
        match party.count {
            // Another SSRC, with numbers of its own.
            500 => (party.stream, party.sequence, party.timestamp) = (77, 9, 123_456),
            // The same one, but the timestamp jumps forward, and later back, by hours.
            1_000 => party.timestamp = party.timestamp.wrapping_add(100_000_000),
            1_300 => party.timestamp = party.timestamp.wrapping_sub(200_000_000),
            // Silence suppression: time passes, numbers do not.
            1_500..=1_720 => {
                party.sequence -= 1;
                party.skip();
                continue;
            }
            // The same by who stops the clock as well.
            2_000..=2_220 => {
                (party.sequence, party.timestamp) = (party.sequence - 1, party.timestamp.wrapping_sub(160));
                party.skip();
                continue;
            }
            _ => {}
        }
        let (from, place, payload) = party.next();
        desk.packet(RIGHT, from + FRAME + WAY, place, CodecKind::Pcmu, &payload);
    }
    let (left, right, report) = desk.finish(Duration::from_secs(61));
    assert!(left.iter().all(|sample| *sample == 0));
    let found = clicks(&right, 1..60);
    for (second, click) in (1..60).zip(found) {
        let silent = (30..=34).contains(&second) || (40..=44).contains(&second);
        match click {
            Some(at) => assert!(
                !silent && (at - EXPECTED_MS).abs() < 1.0,
                "second {second}: {at} ms"
            ),
            None => assert!(silent, "the click of second {second} is missing"),
        }
    }
    // In silences there is silence.
    assert!(
        right[31 * 8_000..34 * 8_000]
            .iter()
            .all(|sample| sample.unsigned_abs() < 10)
    );
    assert_eq!(report.legs[1].restarts, 4, "{:?}", report.legs[1]);
}

#[test]
fn a_pause_is_silent_to_the_sample_and_the_time_goes_on() {
    let mut desk = Desk::new(Settings::new(RecordingFormat::WavMono, 8_000));
    let (from, to) = (Duration::from_millis(2_003), Duration::from_millis(4_507));
    let mut tone = Oscillator::new(440.0, 8_000);
    let mut paused = false;
    for count in 0..350_u64 {
        let at = FRAME * count as u32;
        let now = (from..to).contains(&at);
        if now != paused {
            paused = now;
            desk.reach(at);
            let when = if paused { from } else { to };
            desk.feed.pause(desk.start + when, paused);
        }
        let pcm: Vec<i16> = (0..160).map(|_| (tone.next_value() * 8_000.0) as i16).collect();
        let mut payload = vec![0; 160];
        codecs::g711::encode_ulaw(&pcm, &mut payload);
        desk.packet(
            LEFT,
            at,
            (1, count, count as u32 * 160),
            CodecKind::Pcmu,
            &payload,
        );
    }
    let (pcm, _, report) = desk.finish(Duration::from_secs(7));
    assert_eq!(pcm.len(), 56_000);
    let (first, last) = (2_003 * 8, 4_507 * 8);
    assert!(pcm[first..last].iter().all(|sample| *sample == 0));
    for side in [&pcm[8_000..first], &pcm[last + 160..55_000]] {
        assert!(goertzel::purity(side, 440.0, 8_000) > 0.99);
    }
    let pauses: Vec<_> = report.pauses.iter().map(|pause| (pause.from, pause.to)).collect();
    assert_eq!(pauses, [(first as u64, Some(last as u64))]);
}

#[test]
fn gains_and_rates_are_those_asked_for() {
    let settings = Settings::new(RecordingFormat::WavMono, 16_000);
    let mut desk = Desk::new(settings);
    let half = Placing {
        gain: UNITY / 2,
        ..LEFT
    };
    let mut tones = [Oscillator::new(440.0, 8_000), Oscillator::new(3_000.0, 16_000)];
    let mut opus = Encoder::new(CodecKind::Opus, 16_000, &opus::Settings::default()).unwrap();
    for count in 0..200_u64 {
        let at = FRAME * count as u32;
        let low: Vec<i16> = (0..160)
            .map(|_| (tones[0].next_value() * 8_000.0) as i16)
            .collect();
        let high: Vec<i16> = (0..320)
            .map(|_| (tones[1].next_value() * 8_000.0) as i16)
            .collect();
        let mut payload = [0; 1_500];
        codecs::g711::encode_ulaw(&low, &mut payload);
        desk.packet(
            half,
            at,
            (1, count, count as u32 * 160),
            CodecKind::Pcmu,
            &payload[..160],
        );
        let bytes = opus.encode(&high, &mut payload).unwrap();
        desk.packet(
            RIGHT,
            at,
            (1, count, count as u32 * 960),
            CodecKind::Opus,
            &payload[..bytes],
        );
        desk.feed.frame(
            Placing { leg: 2, ..half },
            desk.start + at,
            count * 20,
            8_000,
            &[4_000; 160],
        );
    }
    let (pcm, ..) = desk.finish(Duration::from_secs(4));
    let middle = &pcm[16_000..48_000];
    let level = |hz| goertzel::amplitude(middle, hz, 16_000);
    assert!((level(440.0) / 4_000.0 - 1.0).abs() < 0.02, "{}", level(440.0));
    assert!(
        (level(3_000.0) / 8_000.0 - 1.0).abs() < 0.15,
        "{}",
        level(3_000.0)
    );
    let mean = middle.iter().map(|sample| i64::from(*sample)).sum::<i64>() / middle.len() as i64;
    assert!(
        (1_950..2_050).contains(&mean),
        "{mean}: the mix, at half its level"
    );
}

#[test]
fn nothing_is_cut_wherever_the_file_thread_has_its_turns() {
    for (hz, rate_hz) in [(8_000, 8_000), (16_000, 8_000), (8_000, 16_000), (48_000, 16_000)] {
        for (late_ms, lost) in (0..20).flat_map(|ms| [(ms, false), (ms, true)]) {
            let mut desk = Desk::new(Settings::new(RecordingFormat::WavMono, rate_hz));
            let kind = CodecKind::L16 { sample_rate_hz: hz };
            let mut tone = Oscillator::new(1_000.0, hz);
            for count in 0..100_u64 {
                let pcm: Vec<i16> = (0..hz / 50)
                    .map(|_| (tone.next_value() * 8_000.0) as i16)
                    .collect();
                let mut payload = vec![0; 2 * pcm.len()];
                codecs::l16::encode(&pcm, &mut payload);
                let at = FRAME * count as u32 + Duration::from_millis(late_ms);
                let place = (1, count, count as u32 * hz / 50);
                if !(lost && count % 9 == 8) {
                    desk.packet(LEFT, at, place, kind, &payload);
                }
            }
            let (pcm, _, report) = desk.finish(Duration::from_secs(2));
            let heard = &pcm[rate_hz as usize / 10..rate_hz as usize / 10 * 19];
            let least = heard
                .chunks(rate_hz as usize / 200)
                .map(|piece| goertzel::amplitude(piece, 1_000.0, rate_hz))
                .fold(f64::INFINITY, f64::min);
            let enough = if lost { 5_000.0 } else { 7_800.0 };
            assert!(
                least > enough,
                "{hz} Hz at {rate_hz} Hz, {late_ms} ms late: {least}, lost: {:?}",
                report.legs[0].concealed_samples
            );
        }
    }
}

#[test]
fn a_click_is_in_its_place_at_every_rate() {
    for (kind, rate_hz) in [
        (CodecKind::Pcmu, 8_000),
        (CodecKind::Pcmu, 16_000),
        (CodecKind::G722, 16_000),
        (CodecKind::G722, 8_000),
        (
            CodecKind::L16 {
                sample_rate_hz: 48_000,
            },
            16_000,
        ),
    ] {
        let mut desk = Desk::new(Settings::new(RecordingFormat::WavMono, rate_hz));
        let hz = kind.sample_rate_hz();
        let mut encoder = Encoder::new(kind, hz, &opus::Settings::default()).unwrap();
        for count in 0..100_u64 {
            let mut pcm = vec![0; hz as usize / 50];
            if count == 50 {
                // Two ms of a burst.
                for (n, sample) in pcm[..hz as usize / 500].iter_mut().enumerate() {
                    *sample = if (n * 1_000 / hz as usize).is_multiple_of(2) {
                        12_000
                    } else {
                        -12_000
                    };
                }
            }
            let mut payload = [0; 2_000];
            let bytes = encoder.encode(&pcm, &mut payload).unwrap();
            let place = (1, count, count as u32 * kind.ptime_ticks(20));
            desk.packet(LEFT, FRAME * count as u32, place, kind, &payload[..bytes]);
        }
        let (pcm, ..) = desk.finish(Duration::from_secs(2));
        let first = pcm
            .iter()
            .position(|sample| sample.unsigned_abs() > 4_000)
            .unwrap();
        let ms = first as f64 * 1_000.0 / f64::from(rate_hz);
        // G.722 itself trails by 1.4 ms.
        assert!(
            (999.5..1_002.0).contains(&ms),
            "{kind:?} at {rate_hz} Hz: {ms} ms"
        );
    }
}

#[test]
fn an_ogg_file_holds_every_sample_and_both_channels() {
    let mut desk = Desk::new(Settings::new(RecordingFormat::OggStereo, 16_000));
    let mut tones = [Oscillator::new(440.0, 8_000), Oscillator::new(1_000.0, 8_000)];
    for count in 0..250_u64 {
        for (placing, tone) in [LEFT, RIGHT].into_iter().zip(&mut tones) {
            let pcm: Vec<i16> = (0..160).map(|_| (tone.next_value() * 8_000.0) as i16).collect();
            let mut payload = vec![0; 160];
            codecs::g711::encode_ulaw(&pcm, &mut payload);
            desk.packet(
                placing,
                FRAME * count as u32,
                (9, count, count as u32 * 160),
                CodecKind::Pcmu,
                &payload,
            );
        }
    }
    let end = Duration::from_millis(5_010);
    desk.reach(end);
    desk.feed.close(desk.start + end);
    desk.turn(end);
    let mut mending = media_engine::recording::Mending::default();
    assert_eq!(mending.take(&desk.file), desk.file.len(), "whole pages only");
    let (bytes, _, ms) = mending.finish().unwrap();
    assert_eq!((bytes, ms), (desk.file.len() as u64, 5_010));
    // Both channels, mixed by a decoder of one: both tones are there.
    let mut decoder = Decoder::new(CodecKind::Opus, 16_000).unwrap();
    let mut heard = Vec::new();
    for packet in ogg_packets(&desk.file).iter().skip(2) {
        let mut pcm = [0; 960];
        let samples = decoder.decode(packet, &mut pcm).unwrap();
        heard.extend_from_slice(&pcm[..samples]);
    }
    assert!(heard.len() >= 80_160 + 104);
    let level = |hz| goertzel::amplitude(&heard[16_000..64_000], hz, 16_000);
    for hz in [440.0, 1_000.0] {
        assert!((level(hz) / 4_000.0 - 1.0).abs() < 0.2, "{hz} Hz: {}", level(hz));
    }
}

/// The packets of all pages.
fn ogg_packets(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut packets, mut packet, mut at) = (Vec::new(), Vec::new(), 0);
    while at < file.len() {
        let count = usize::from(file[at + 26]);
        let segments = &file[at + 27..at + 27 + count];
        at += 27 + count;
        for &bytes in segments {
            packet.extend_from_slice(&file[at..at + usize::from(bytes)]);
            at += usize::from(bytes);
            if bytes < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
    }
    packets
}

#[test]
fn limits_end_it_with_what_fits() {
    let talk = |settings: Settings, limits: Option<(u64, u64)>| {
        let mut desk = Desk::new(settings);
        if let Some((ms, bytes)) = limits {
            desk.feed.limits(ms, bytes);
        }
        let mut party = Party::new(LEFT, 0.0);
        let mut chance = Chance(5);
        for _ in 0..600 {
            let (from, place, mut payload) = party.next();
            payload.fill_with(|| chance.below(256) as u8);
            desk.packet(LEFT, from + FRAME + WAY, place, CodecKind::Pcmu, &payload);
        }
        (desk.ended, desk.file.len())
    };
    let bounded = Settings {
        duration_max: Duration::from_secs(5),
        ..Settings::new(RecordingFormat::WavMono, 8_000)
    };
    assert_eq!(
        talk(bounded.clone(), None),
        (Some(Ended::Duration(5_000)), 44 + 80_000)
    );
    assert_eq!(
        talk(bounded.clone(), Some((2_000, u64::MAX))),
        (Some(Ended::Duration(2_000)), 44 + 32_000)
    );
    assert_eq!(
        talk(bounded.clone(), Some((9_000, 10_045))),
        (Some(Ended::Size(10_045)), 10_044)
    );
    let ogg = Settings::new(RecordingFormat::OggMono, 8_000);
    let (ended, bytes) = talk(ogg, Some((u64::MAX, 20_000)));
    assert_eq!(ended, Some(Ended::Size(20_000)));
    assert!((10_000..=20_000).contains(&bytes), "{bytes}");
}

#[test]
fn what_the_file_thread_misses_is_a_gap_and_the_rest_is_in_place() {
    let start = Instant::now();
    let (feed, intake) = ring(64 << 10, start);
    let mut file = Vec::new();
    let mut recording =
        Recording::new(Settings::new(RecordingFormat::WavMono, 8_000), intake, &mut file).unwrap();
    feed.begin(start);
    let mut party = Party::new(LEFT, 0.0);
    let mut bench = Workbench::default();
    for count in 0..1_500_u64 {
        let (from, place, payload) = party.next();
        let at = from + FRAME + WAY;
        feed.packet(LEFT, start + at, place, CodecKind::Pcmu, &payload);
        // The disk stands still from the fifth second to the twentieth.
        if count % 8 == 0 && !(250..1_000).contains(&count) {
            recording.turn(start + at, &mut bench, &mut file);
        }
    }
    let end = Duration::from_secs(31);
    feed.close(start + end);
    assert_eq!(
        recording.turn(start + end, &mut bench, &mut file),
        Some(Ended::Asked)
    );
    let report = recording.report();
    let pcm: Vec<i16> = file[44..]
        .as_chunks::<2>()
        .0
        .iter()
        .map(|bytes| i16::from_le_bytes(*bytes))
        .collect();
    assert_eq!(pcm.len(), 248_000);
    let [gap] = report.gaps[..] else {
        panic!("{:?}", report.gaps)
    };
    assert_eq!(report.lost(), gap.lost);
    assert_eq!(report.legs[0].packets + gap.lost, 1_500);
    let (from, to) = ((gap.from / 8_000) as usize, (gap.to.unwrap() / 8_000) as usize);
    assert!(from > 5 && to == 20, "{gap:?}");
    assert_in_place(&pcm, 1..from, 0.5, 0);
    assert_in_place(&pcm, to + 1..30, 0.5, 0);
    assert!(
        pcm[(from + 2) * 8_000..to * 8_000]
            .iter()
            .all(|sample| sample.unsigned_abs() < 10)
    );
}

#[derive(Debug, Clone, Copy)]
enum Mishap {
    Lose(u8),
    Delay(u16),
    OtherSsrc(u32),
    Jump(u32),
    Silence(u8),
    Pause(u8),
    Garbage(u8),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        (1_u8..10).prop_map(Mishap::Lose),
        (0_u16..600).prop_map(Mishap::Delay),
        any::<u32>().prop_map(Mishap::OtherSsrc),
        any::<u32>().prop_map(Mishap::Jump),
        (1_u8..200).prop_map(Mishap::Silence),
        (1_u8..200).prop_map(Mishap::Pause),
        any::<u8>().prop_map(Mishap::Garbage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, the file is as long as the recording was, nothing is heard twice or out of its channel, and once all is
    /// well again clicks are in their place.
    #[test]
    fn whatever_happens_the_time_is_kept(mishaps in proptest::collection::vec((10_u64..150, mishap()), 0..12)) {
        let mut desk = Desk::wav_stereo();
        let mut party = Party::new(LEFT, 0.0);
        let mut packets: Vec<Sent> = Vec::new();
        let mut pauses = Vec::new();
        for (after, mishap) in mishaps {
            let mut delay = Duration::ZERO;
            let well = |party: &mut Party, packets: &mut Vec<_>, count, delay| for _ in 0..count {
                let (from, place, payload) = party.next();
                packets.push((from + FRAME + WAY + delay, place, payload));
            };
            well(&mut party, &mut packets, after, Duration::ZERO);
            match mishap {
                Mishap::Lose(count) => (0..count).for_each(|_| party.skip()),
                Mishap::Delay(ms) => delay = Duration::from_millis(ms.into()),
                Mishap::OtherSsrc(timestamp) => {
                    (party.stream, party.sequence, party.timestamp) = (party.stream + 1, timestamp.into(), timestamp);
                }
                Mishap::Jump(ticks) => party.timestamp = party.timestamp.wrapping_add(ticks),
                Mishap::Silence(count) => for _ in 0..count {
                    party.sequence -= 1;
                    party.skip();
                },
                Mishap::Pause(count) => {
                    let from = party.begins(party.count) + FRAME + WAY;
                    let to = party.begins(party.count + u64::from(count)) + FRAME + WAY;
                    pauses.push((from, to));
                    well(&mut party, &mut packets, u64::from(count), Duration::ZERO);
                }
                Mishap::Garbage(length) => {
                    let (from, place, _) = party.next();
                    packets.push((from + FRAME + WAY, place, vec![0x55; length.into()]));
                }
            }
            well(&mut party, &mut packets, 3, delay);
        }
        // Then eight seconds without a mishap: the window of the least delay, and some more.
        let well_from = party.count;
        for _ in 0..400 {
            let (from, place, payload) = party.next();
            packets.push((from + FRAME + WAY, place, payload));
        }
        packets.sort_by_key(|packet| packet.0);
        let mut pauses_left = pauses.clone().into_iter().peekable();
        let mut resume = None;
        for (at, place, payload) in packets {
            if let Some(to) = resume.filter(|to| *to <= at) {
                desk.reach(to);
                desk.feed.pause(desk.start + to, false);
                resume = None;
            }
            if let Some((from, to)) = pauses_left.next_if(|(from, _)| *from <= at) {
                desk.reach(from);
                desk.feed.pause(desk.start + from, true);
                resume = Some(to);
            }
            desk.packet(LEFT, at, place, CodecKind::Pcmu, &payload);
        }
        let length = party.begins(party.count) + DELAY;
        let (left, right, report) = desk.finish(length);
        prop_assert_eq!(left.len(), (length.as_secs_f64() * 8_000.0).round() as usize);
        prop_assert!(right.iter().all(|sample| *sample == 0));
        for (from, to) in pauses {
            let sample = |at: Duration| (at.as_secs_f64() * 8_000.0).round() as usize;
            prop_assert!(left[sample(from)..sample(to)].iter().all(|sample| *sample == 0));
        }
        let seconds = (well_from / 50 + 6) as usize..(party.count / 50) as usize;
        for (second, click) in seconds.clone().zip(clicks(&left, seconds)) {
            let Some(at) = click else {
                return Err(TestCaseError::fail(format!("the click of second {second} is missing: {report:?}")));
            };
            prop_assert!((at - EXPECTED_MS).abs() < 3.0, "second {}: {} ms", second, at);
        }
        let loud = left.iter().filter(|sample| sample.unsigned_abs() > 15_000).count();
        prop_assert!(loud as u64 <= party.count / 50 + 1, "{loud} clicks in {} s", party.count / 50);
    }
}
