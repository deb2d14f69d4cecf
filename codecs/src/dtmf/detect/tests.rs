use super::*;
use crate::dtmf::DtmfGenerator;
use crate::test_signal::{noise, speech_like};
use std::f64::consts::TAU;

/// A pair of tones in dBm0 each, off by a part of their frequency.
struct Pair {
    digit: Digit,
    low_dbm0: f64,
    high_dbm0: f64,
    low_off: f64,
    high_off: f64,
}

impl Pair {
    fn of(digit: Digit) -> Self {
        Self {
            digit,
            low_dbm0: -10.0,
            high_dbm0: -10.0,
            low_off: 0.0,
            high_off: 0.0,
        }
    }

    fn samples(&self, count: usize, phase: f64) -> Vec<i16> {
        let (low, high) = self.digit.frequencies_hz();
        let (a, b) = (
            amplitude_of_dbm0(self.low_dbm0),
            amplitude_of_dbm0(self.high_dbm0),
        );
        (0..count)
            .map(|n| {
                let t = n as f64 / 8_000.0;
                let sum = a * (TAU * (low * (1.0 + self.low_off) * t + phase)).sin()
                    + b * (TAU * (high * (1.0 + self.high_off) * t + phase * 3.7)).sin();
                sum.round().clamp(-32_768.0, 32_767.0) as i16
            })
            .collect()
    }
}

fn listen(pcm: &[i16]) -> Vec<DtmfEvent> {
    let (mut detector, mut events) = (Detector::new(), Vec::new());
    for frame in pcm.chunks(160) {
        detector.process(frame, |event| events.push(event));
    }
    events
}

fn digits(pcm: &[i16]) -> String {
    listen(pcm)
        .iter()
        .filter_map(|event| match event {
            DtmfEvent::Started(digit) => Some(digit.as_char()),
            DtmfEvent::Ended { .. } => None,
        })
        .collect()
}

/// Silence, the signal at every place within a hop, silence: what is found at each place.
fn at_every_place(signal: impl Fn(f64) -> Vec<i16>) -> Vec<String> {
    (0..HOP)
        .step_by(3)
        .map(|offset| {
            let mut pcm = vec![0; 400 + offset];
            pcm.extend(signal(offset as f64 * 0.137));
            pcm.extend([0; 800]);
            digits(&pcm)
        })
        .collect()
}

fn found_always(digit: Digit, signal: impl Fn(f64) -> Vec<i16>) -> bool {
    at_every_place(signal)
        .iter()
        .all(|found| *found == digit.as_char().to_string())
}

fn found_never(signal: impl Fn(f64) -> Vec<i16>) -> bool {
    at_every_place(signal).iter().all(String::is_empty)
}

#[test]
fn tones_of_40_ms_are_digits_and_of_23_ms_are_not() {
    for digit in Digit::all() {
        let pair = Pair::of(digit);
        assert!(
            found_always(digit, |phase| pair.samples(320, phase)),
            "{digit:?}: 40 ms"
        );
        assert!(found_never(|phase| pair.samples(184, phase)), "{digit:?}: 23 ms");
    }
}

#[test]
fn frequencies_off_by_one_and_a_half_percent_pass_and_by_three_and_a_half_do_not() {
    for digit in Digit::all() {
        for (low_off, high_off) in [(0.015, 0.015), (-0.015, -0.015), (0.015, -0.015), (-0.015, 0.015)] {
            let pair = Pair {
                low_off,
                high_off,
                ..Pair::of(digit)
            };
            assert!(
                found_always(digit, |phase| pair.samples(400, phase)),
                "{digit:?} off {low_off} {high_off}"
            );
        }
        for (low_off, high_off) in [
            (0.035, 0.0),
            (-0.035, 0.0),
            (0.0, 0.035),
            (0.0, -0.035),
            (0.05, 0.05),
        ] {
            let pair = Pair {
                low_off,
                high_off,
                ..Pair::of(digit)
            };
            assert!(
                found_never(|phase| pair.samples(800, phase)),
                "{digit:?} off {low_off} {high_off}"
            );
        }
    }
}

#[test]
fn levels_from_minus_25_to_0_dbm_pass_and_faint_tones_do_not() {
    for digit in Digit::all() {
        for dbm0 in [-25.0, -15.0, -3.0] {
            for off in [0.015, 0.0, -0.015] {
                let pair = Pair {
                    low_dbm0: dbm0,
                    high_dbm0: dbm0,
                    low_off: off,
                    high_off: off,
                    digit,
                };
                assert!(
                    found_always(digit, |phase| pair.samples(400, phase)),
                    "{digit:?} at {dbm0}, off {off}"
                );
            }
        }
        // Loud enough to clip, as a G.711 gateway would.
        let loud = Pair {
            low_dbm0: 0.0,
            high_dbm0: 0.0,
            ..Pair::of(digit)
        };
        assert!(
            found_always(digit, |phase| loud.samples(400, phase)),
            "{digit:?} at 0 dBm0"
        );
        let faint = Pair {
            low_dbm0: -35.0,
            high_dbm0: -35.0,
            ..Pair::of(digit)
        };
        assert!(
            found_never(|phase| faint.samples(800, phase)),
            "{digit:?} at -35 dBm0"
        );
    }
}

#[test]
fn twist_of_4_db_up_and_8_db_down_passes_and_much_more_does_not() {
    for digit in Digit::all() {
        for (high_above_low, passes) in [(4.0, true), (-8.0, true), (8.0, false), (-13.0, false)] {
            let pair = Pair {
                high_dbm0: -12.0 + high_above_low,
                low_dbm0: -12.0,
                ..Pair::of(digit)
            };
            let as_wanted = if passes {
                found_always(digit, |phase| pair.samples(400, phase))
            } else {
                found_never(|phase| pair.samples(800, phase))
            };
            assert!(as_wanted, "{digit:?} twisted by {high_above_low} dB");
        }
    }
}

#[test]
fn an_interruption_of_10_ms_is_bridged_and_a_pause_of_40_ms_is_not() {
    for digit in Digit::all() {
        let pair = Pair::of(digit);
        let with_gap = |gap: usize| {
            let pair = &pair;
            move |phase: f64| {
                let mut pcm = pair.samples(400, phase);
                pcm.extend(vec![0; gap]);
                pcm.extend(pair.samples(400, phase + 0.3));
                pcm
            }
        };
        assert!(found_always(digit, with_gap(80)), "{digit:?}: split by 10 ms");
        let twice = digit.as_char().to_string().repeat(2);
        assert!(
            at_every_place(with_gap(320)).iter().all(|found| *found == twice),
            "{digit:?}: joined over 40 ms"
        );
    }
}

#[test]
fn a_number_is_read_in_order_through_noise_and_both_laws() {
    let number = "0123456789*#ABCD11223399##";
    let mut generator = DtmfGenerator::new(8_000);
    for (on_ms, pause_ms) in [(40, 40), (50, 50), (100, 100), (65, 45)] {
        let mut pcm = vec![0; 333];
        for key in number.chars() {
            generator.start(Digit::from_char(key).unwrap(), on_ms, pause_ms);
            let mut sound = vec![0; (on_ms + pause_ms) as usize * 8];
            generator.generate(&mut sound);
            pcm.extend(sound);
        }
        pcm.extend([0; 800]);
        assert_eq!(digits(&pcm), number, "clean, {on_ms}/{pause_ms} ms");
        // The digits are at -9 and -7 dBm0; noise 18 dB below their sum.
        for seed in 0..5 {
            let noisy: Vec<i16> = pcm
                .iter()
                .zip(noise(pcm.len(), 3_600, seed))
                .map(|(&a, b)| a.saturating_add(b))
                .collect();
            assert_eq!(digits(&noisy), number, "noise {seed}, {on_ms}/{pause_ms} ms");
        }
        let mut payload = vec![0; pcm.len()];
        crate::g711::encode_ulaw(&pcm, &mut payload);
        crate::g711::transcode_in_place(&mut payload, &crate::g711::ULAW_TO_ALAW);
        let mut heard = vec![0; pcm.len()];
        crate::g711::decode_alaw(&payload, &mut heard);
        assert_eq!(digits(&heard), number, "through both laws");
    }
}

#[test]
fn durations_are_reported() {
    for ms in [60_usize, 100, 250, 1_000] {
        let mut pcm = vec![0; 411];
        pcm.extend(Pair::of(Digit::from_char('5').unwrap()).samples(ms * 8, 0.2));
        pcm.extend([0; 800]);
        let events = listen(&pcm);
        let [DtmfEvent::Started(_), DtmfEvent::Ended { duration_ms, .. }] = events[..] else {
            panic!("{ms} ms: {events:?}");
        };
        assert!(
            duration_ms.abs_diff(ms as u32) <= 10,
            "{ms} ms reported as {duration_ms}"
        );
    }
}

#[test]
fn the_level_is_told_as_the_mean_of_both_wherever_a_digit_begins_and_however_far_it_is_off() {
    for digit in Digit::all() {
        for (low_dbm0, high_dbm0) in [(-4.0, -2.0), (-11.0, -9.0), (-16.0, -20.0), (-25.0, -23.0)] {
            for off in [-0.014, 0.0, 0.014] {
                for (before, ms) in [(400, 45), (413, 60), (427, 300)] {
                    let pair = Pair {
                        digit,
                        low_dbm0,
                        high_dbm0,
                        low_off: off,
                        high_off: off,
                    };
                    let mut pcm = vec![0; before];
                    pcm.extend(pair.samples(ms * 8, 0.3));
                    pcm.extend([0; 800]);
                    let events = listen(&pcm);
                    let [DtmfEvent::Started(_), DtmfEvent::Ended { level_dbm0, .. }] = events[..] else {
                        panic!("{digit:?} of {ms} ms: {events:?}");
                    };
                    let wanted = (low_dbm0 + high_dbm0) / 2.0;
                    assert!(
                        (f64::from(level_dbm0) - wanted).abs() <= 1.0,
                        "{digit:?} at {wanted} dBm0, off by {off}: {level_dbm0}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_digit_that_changes_without_a_pause_is_two() {
    let mut pcm = Pair::of(Digit::from_char('1').unwrap()).samples(800, 0.0);
    pcm.extend(Pair::of(Digit::from_char('9').unwrap()).samples(800, 0.0));
    pcm.extend([0; 800]);
    assert_eq!(digits(&pcm), "19");
}

#[test]
fn speech_music_and_noise_are_no_digits() {
    for seed in 0..12 {
        let speech = speech_like(8_000, 40_000, seed);
        assert_eq!(digits(&speech), "", "speech {seed}");
        assert_eq!(digits(&noise(40_000, 20_000, seed)), "", "noise {seed}");
        // Every row and column frequency with its second harmonic, as a voice or an instrument has.
        let rich: Vec<i16> = Digit::all()
            .flat_map(|digit| {
                let (low, high) = digit.frequencies_hz();
                (0..1_600).map(move |n| {
                    let t = n as f64 / 8_000.0;
                    let tone = |hz: f64, a: f64| a * (TAU * hz * t).sin();
                    (tone(low, 4_000.0)
                        + tone(2.0 * low, 4_000.0)
                        + tone(high, 4_000.0)
                        + tone(2.0 * high, 4_000.0)) as i16
                })
            })
            .collect();
        assert_eq!(digits(&rich), "");
    }
    for hz in (300..3_400).step_by(17) {
        let single = crate::test_signal::tone(8_000, f64::from(hz), 15_000.0, 1_600);
        assert_eq!(digits(&single), "", "a single tone at {hz} Hz");
    }
}

#[test]
fn two_formants_on_the_frequencies_of_a_digit_are_no_digit() {
    // The third and seventh harmonic of a high voice stand on 697 and 1633 Hz, the others 12 dB below.
    let voice: Vec<i16> = (0..8_000)
        .map(|n| {
            let t = TAU * 233.0 * f64::from(n) / 8_000.0;
            let harmonic =
                |k: i32| if k == 3 || k == 7 { 6_000.0 } else { 1_500.0 } * (t * f64::from(k)).sin();
            (1..=10).map(harmonic).sum::<f64>() as i16
        })
        .collect();
    assert_eq!(digits(&voice), "");
}

#[test]
fn call_progress_tones_are_no_digits() {
    use crate::tone::{CallProgress, Country, ToneGenerator};
    for country in Country::ALL {
        for tone in [
            CallProgress::Dial,
            CallProgress::Ringback,
            CallProgress::Busy,
            CallProgress::Congestion,
            CallProgress::Waiting,
            CallProgress::Melody,
        ] {
            let mut pcm = vec![0; 32_000];
            ToneGenerator::call_progress(country, tone, 8_000).generate(&mut pcm);
            assert_eq!(digits(&pcm), "", "{country:?} {tone:?}");
        }
    }
}

#[test]
fn any_cut_of_the_signal_gives_the_same_events() {
    let mut pcm = noise(500, 50, 3);
    pcm.extend(Pair::of(Digit::from_char('7').unwrap()).samples(700, 0.4));
    pcm.extend(noise(1_000, 50, 4));
    let whole = listen(&pcm);
    assert_eq!(whole.len(), 2);
    for cut in [1, 39, 80, 240, 5_000] {
        let (mut detector, mut events) = (Detector::new(), Vec::new());
        pcm.chunks(cut)
            .for_each(|piece| detector.process(piece, |event| events.push(event)));
        assert_eq!(events, whole, "in pieces of {cut}");
    }
}

#[test]
fn reset_forgets_a_digit() {
    let mut detector = Detector::new();
    detector.process(
        &Pair::of(Digit::from_char('4').unwrap()).samples(800, 0.0),
        |_| {},
    );
    assert_eq!(detector.sounding().map(Digit::as_char), Some('4'));
    detector.reset();
    assert_eq!(detector.sounding(), None);
    detector.process(&[0; 1_600], |event| panic!("{event:?} after a reset"));
}
