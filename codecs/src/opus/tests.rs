use super::*;
use crate::goertzel::amplitude;
use crate::test_signal::{noise, speech_like, tone};

/// Encodes 20 ms frames and returns the packets.
fn packets(rate: u32, settings: &Settings, pcm: &[i16]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(rate, settings).unwrap();
    let mut payload = [0; 1_500];
    pcm.chunks_exact(rate as usize / 50)
        .map(|frame| {
            let bytes = encoder.encode(frame, &mut payload).unwrap();
            payload[..bytes].to_vec()
        })
        .collect()
}

fn energy_ratio(a: &[i16], b: &[i16]) -> f64 {
    crate::level::energy(a) as f64 / crate::level::energy(b) as f64
}

#[test]
fn every_rate_decodes_to_every_rate() {
    for from in [8_000, 16_000, 24_000, 48_000] {
        let sent = packets(
            from,
            &Settings::default(),
            &tone(from, 1_000.0, 8_000.0, from as usize / 2),
        );
        for to in [8_000, 12_000, 16_000, 24_000, 48_000] {
            let mut decoder = Decoder::new(to).unwrap();
            let mut heard = vec![0; to as usize / 2];
            for (packet, frame) in sent.iter().zip(heard.chunks_exact_mut(to as usize / 50)) {
                assert_eq!(decoder.decode(packet, frame), Ok(to as usize / 50));
            }
            let level = amplitude(&heard[heard.len() / 2..], 1_000.0, to);
            assert!((6_000.0..10_000.0).contains(&level), "{from} to {to}: {level}");
        }
    }
}

#[test]
fn a_lost_frame_is_recovered_from_the_next_packet() {
    let settings = Settings {
        inband_fec: true,
        packet_loss_percent: 20,
        ..Settings::default()
    };
    let sent = speech_like(16_000, 32_000, 11);
    let sent = packets(16_000, &settings, &sent);
    let (mut recovered_frames, mut with_fec, mut without) = (0, 0.0, 0.0);
    for lost in 20..90 {
        let mut frames = [[0; 320]; 3];
        let mut decoders = [(); 3].map(|()| Decoder::new(16_000).unwrap());
        for packet in &sent[..lost] {
            for (decoder, frame) in decoders.iter_mut().zip(&mut frames) {
                decoder.decode(packet, frame).unwrap();
            }
        }
        let before = crate::level::energy(&frames[0]);
        decoders[0].decode(&sent[lost], &mut frames[0]).unwrap();
        let restored = decoders[1].recover(&sent[lost + 1], &mut frames[1]);
        decoders[2].conceal(&mut frames[2]);
        assert_eq!(restored, PacketInfo::parse(&sent[lost + 1]).unwrap().has_fec);
        if restored && before > 0 {
            recovered_frames += 1;
            let error = |n: usize| -> f64 {
                frames[0]
                    .iter()
                    .zip(&frames[n])
                    .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                    .sum()
            };
            with_fec += error(1);
            without += error(2);
        }
    }
    assert!(recovered_frames > 30, "FEC in {recovered_frames} packets of 70");
    assert!(
        with_fec * 1.5 < without,
        "error power with FEC {with_fec:.0}, concealed {without:.0}"
    );
}

#[test]
fn without_a_loss_hint_there_is_no_copy() {
    let settings = Settings {
        inband_fec: true,
        ..Settings::default()
    };
    let sent = packets(16_000, &settings, &speech_like(16_000, 16_000, 12));
    assert!(
        sent.iter()
            .all(|packet| !PacketInfo::parse(packet).unwrap().has_fec)
    );
    let mut decoder = Decoder::new(16_000).unwrap();
    assert!(!decoder.recover(&sent[3], &mut [0; 320]));
}

#[test]
fn dtx_goes_quiet_in_silence_and_the_decoder_stays_in_time() {
    let settings = Settings {
        dtx: true,
        ..Settings::default()
    };
    let mut signal = speech_like(16_000, 16_000, 13);
    signal.extend([0; 48_000]);
    let sent = packets(16_000, &settings, &signal);
    let quiet = sent[75..].iter().filter(|packet| packet.is_empty()).count();
    assert!(
        quiet > 80,
        "{quiet} of {} packets of silence were not sent",
        sent.len() - 75
    );
    // Each silence is announced: what is not sent follows a packet that says so, or another that is not sent.
    let announced = |pair: &[Vec<u8>]| !pair[1].is_empty() || pair[0].len() <= DTX_BYTES_MAX;
    assert!(sent.windows(2).all(announced));
    let spoken = sent[..50].iter().filter(|packet| packet.is_empty()).count();
    assert!(spoken < 10, "{spoken} of 50 packets of speech were not sent");
    let always = packets(16_000, &Settings::default(), &signal);
    assert!(always.iter().all(|packet| !packet.is_empty()));
}

#[test]
fn concealment_continues_and_fades() {
    let sent = packets(8_000, &Settings::default(), &tone(8_000, 300.0, 9_000.0, 8_000));
    let mut decoder = Decoder::new(8_000).unwrap();
    let (mut good, mut made_up) = ([0; 160], [0; 160]);
    for packet in &sent {
        decoder.decode(packet, &mut good).unwrap();
    }
    decoder.conceal(&mut made_up);
    let kept = energy_ratio(&made_up, &good);
    // A bare tone counts as unvoiced, which libopus lowers by about 5 dB at once.
    assert!(kept > 0.2, "kept {kept:.3} of the energy");
    let step = (i32::from(made_up[0]) - i32::from(good[159])).abs();
    assert!(step < 4_000, "step {step}");
    for _ in 0..50 {
        decoder.conceal(&mut made_up);
    }
    assert!(energy_ratio(&made_up, &good) < 0.01);
}

#[test]
fn odd_lengths_of_loss_are_filled() {
    let mut decoder = Decoder::new(8_000).unwrap();
    for length in [0, 1, 19, 20, 21, 480, 960, 961, 3_000] {
        let mut made_up = vec![77; length];
        decoder.conceal(&mut made_up);
        assert!(
            made_up.iter().all(|&s| s == 0),
            "nothing was ever heard, so {length} samples of silence"
        );
    }
}

#[test]
fn bit_rate_and_constant_size_are_obeyed() {
    let signal = speech_like(16_000, 64_000, 14);
    for bitrate_bps in [12_000, 24_000, 40_000] {
        let settings = Settings {
            bitrate_bps,
            ..Settings::default()
        };
        let sent = packets(16_000, &settings, &signal);
        let bps = sent.iter().map(Vec::len).sum::<usize>() as f64 * 8.0 / 4.0;
        assert!(
            (0.5..1.3).contains(&(bps / f64::from(bitrate_bps))),
            "asked {bitrate_bps}, got {bps}"
        );
    }
    let settings = Settings {
        vbr: false,
        ..Settings::default()
    };
    assert!(
        packets(16_000, &settings, &signal)
            .iter()
            .all(|packet| packet.len() == 60)
    );
}

#[test]
fn settings_change_while_encoding() {
    let signal = speech_like(16_000, 16_000, 15);
    let mut encoder = Encoder::new(
        16_000,
        &Settings {
            inband_fec: true,
            ..Settings::default()
        },
    )
    .unwrap();
    let mut payload = [0; 1_500];
    encoder.set_packet_loss(200);
    encoder.set_bitrate(32_000);
    let with_fec = signal
        .chunks_exact(320)
        .filter(|frame| {
            let bytes = encoder.encode(frame, &mut payload).unwrap();
            PacketInfo::parse(&payload[..bytes]).unwrap().has_fec
        })
        .count();
    assert!(with_fec > 10, "{with_fec}");
    assert!(encoder.delay_samples() > 0);
}

#[test]
fn packet_times_that_exist_and_those_that_do_not() {
    let mut encoder = Encoder::new(8_000, &Settings::default()).unwrap();
    let mut decoder = Decoder::new(8_000).unwrap();
    let (mut payload, mut heard) = ([0; 4_000], [0; 960]);
    for ms in [5, 10, 20, 40, 60, 80, 100, 120] {
        let bytes = encoder.encode(&vec![0; 8 * ms], &mut payload).unwrap();
        assert_eq!(
            PacketInfo::parse(&payload[..bytes]).unwrap().samples(8_000),
            8 * ms
        );
        assert_eq!(decoder.decode(&payload[..bytes], &mut heard), Ok(8 * ms));
    }
    for samples in [0, 1, 159, 240, 1_000] {
        assert_eq!(
            encoder.encode(&vec![0; samples], &mut payload),
            Err(CodecError::FrameSamples { samples }),
        );
    }
}

#[test]
fn faults_are_errors() {
    assert_eq!(
        Encoder::new(44_100, &Settings::default()).unwrap_err(),
        CodecError::SampleRate { hz: 44_100 }
    );
    assert_eq!(
        Decoder::new(11_025).unwrap_err(),
        CodecError::SampleRate { hz: 11_025 }
    );
    let too_much = Settings {
        complexity: 11,
        ..Settings::default()
    };
    assert!(matches!(
        Encoder::new(8_000, &too_much).unwrap_err(),
        CodecError::Opus { .. }
    ));

    let mut encoder = Encoder::new(8_000, &Settings::default()).unwrap();
    assert!(matches!(
        encoder.encode(&[0; 160], &mut []),
        Err(CodecError::OutputTooSmall { .. })
    ));
    let mut payload = [0; 1_500];
    let bytes = encoder.encode(&[0; 160], &mut payload).unwrap();
    let mut decoder = Decoder::new(8_000).unwrap();
    assert_eq!(
        decoder.decode(&payload[..bytes], &mut [0; 159]),
        Err(CodecError::OutputTooSmall {
            needed: 160,
            available: 159
        })
    );
    assert_eq!(
        decoder.decode(&[], &mut [0; 160]),
        Err(CodecError::MalformedPayload)
    );
}

#[test]
fn corrupted_and_random_packets_never_panic_and_the_stream_goes_on() {
    let signal = speech_like(16_000, 32_000, 16);
    let sent = packets(
        16_000,
        &Settings {
            inband_fec: true,
            packet_loss_percent: 10,
            ..Settings::default()
        },
        &signal,
    );
    let mut decoder = Decoder::new(16_000).unwrap();
    let mut heard = [0; 1_920];
    let flips = noise(sent.len() * 3, 32_767, 17);
    for (packet, flips) in sent.iter().zip(flips.chunks_exact(3)) {
        let mut broken = packet.clone();
        for &flip in flips {
            let at = usize::from(flip.unsigned_abs()) % broken.len();
            broken[at] ^= flip as u8;
        }
        if decoder.decode(&broken, &mut heard).is_err() {
            decoder.conceal(&mut heard[..320]);
        }
        decoder.recover(&broken, &mut heard[..320]);
    }
    for packet in &sent {
        assert_eq!(decoder.decode(packet, &mut heard), Ok(320));
    }
}

#[test]
fn coders_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Encoder>();
    is_send::<Decoder>();
}

/// The level of each packet of what `decoder` makes of 600 ms of a tone.
fn levels_of(
    encoder: &mut Encoder,
    decoder: &mut Decoder,
    (hz, amplitude): (f64, f64),
    ptime_ms: u32,
) -> Vec<f64> {
    let mut tone = crate::tone::Oscillator::new(hz, encoder.sample_rate_hz());
    let samples = encoder.sample_rate_hz() / 1_000 * ptime_ms;
    let (mut payload, mut decoded) = ([0; 1_500], [0; 960]);
    let packet = |_| {
        let pcm: Vec<i16> = (0..samples)
            .map(|_| (f64::from(tone.next_value()) * amplitude) as i16)
            .collect();
        let bytes = encoder.encode(&pcm, &mut payload).expect("a frame");
        let got = decoder.decode(&payload[..bytes], &mut decoded).expect("a packet");
        (2.0 * crate::level::energy(&decoded[..got]) as f64 / got as f64).sqrt() / amplitude
    };
    (0..600 / ptime_ms).map(packet).collect()
}

#[test]
fn an_encoder_that_starts_anew_is_heard_at_its_level_whatever_the_decoder_remembers() {
    let speech = Settings {
        inband_fec: true,
        dtx: true,
        packet_loss_percent: 20,
        ..Settings::default()
    };
    for rate in [8_000, 16_000, 48_000] {
        for (settings, ptime_ms) in [
            (Settings::default(), 20),
            (speech, 20),
            (Settings::default(), 10),
            (Settings::default(), 40),
            (speech, 60),
        ] {
            for (before, hz) in [(425.0, 620.0), (1_000.0, 620.0), (520.0, 920.0)] {
                let mut first = Encoder::new(rate, &settings).expect("a rate of Opus");
                let mut second = Encoder::new(rate, &settings).expect("a rate of Opus");
                let mut decoder = Decoder::new(16_000).expect("a rate of Opus");
                levels_of(&mut first, &mut decoder, (before, 16_000.0), ptime_ms);
                second.start_anew();
                let levels = levels_of(&mut second, &mut decoder, (hz, 2_000.0), ptime_ms);
                // The first 5 ms fade over from what was louder by 18 dB.
                assert!(levels[0] < 6.0, "{levels:?}");
                assert!(
                    levels[1..].iter().all(|level| (0.85..1.15).contains(level)),
                    "{rate} Hz, {ptime_ms} ms, {before} before {hz}: {levels:?}"
                );
            }
        }
    }
}

#[test]
fn only_the_packet_that_starts_anew_is_of_the_transform_codec() {
    let mut encoder = Encoder::new(8_000, &Settings::default()).expect("a rate of Opus");
    let mode_of = |encoder: &mut Encoder| {
        let mut payload = [0; 1_500];
        let bytes = encoder.encode(&[0; 160], &mut payload).expect("a frame");
        PacketInfo::parse(&payload[..bytes]).expect("a packet").mode
    };
    assert_eq!(mode_of(&mut encoder), Mode::Silk);
    encoder.start_anew();
    assert_eq!(mode_of(&mut encoder), Mode::Celt);
    assert_eq!(mode_of(&mut encoder), Mode::Silk);
    encoder.refresh();
    assert_eq!(mode_of(&mut encoder), Mode::Silk);
    assert_eq!(mode_of(&mut encoder), Mode::Celt);
    assert_eq!(mode_of(&mut encoder), Mode::Silk);
}

#[test]
fn an_encoder_that_is_refreshed_goes_on_for_one_decoder_and_begins_for_another() {
    for rate in [8_000, 16_000, 48_000] {
        let settings = Settings::default();
        let mut other = Encoder::new(rate, &settings).expect("a rate of Opus");
        let mut encoder = Encoder::new(rate, &settings).expect("a rate of Opus");
        let (mut stays, mut comes) = (
            Decoder::new(8_000).expect("a rate of Opus"),
            Decoder::new(8_000).expect("a rate of Opus"),
        );
        levels_of(&mut other, &mut comes, (1_000.0, 16_000.0), 20);
        let mut sine = crate::tone::Oscillator::new(620.0, rate);
        let (mut payload, mut heard) = ([0; 1_500], [vec![], vec![]]);
        for packet in 0..60 {
            if packet == 30 {
                encoder.refresh();
            }
            let pcm: Vec<i16> = (0..rate / 50)
                .map(|_| (f64::from(sine.next_value()) * 2_000.0) as i16)
                .collect();
            let bytes = encoder.encode(&pcm, &mut payload).expect("a frame");
            let mut frame = [0; 160];
            for (at, decoder) in [&mut stays, &mut comes].into_iter().enumerate() {
                if at == 0 || packet >= 30 {
                    decoder.decode(&payload[..bytes], &mut frame).expect("a packet");
                    heard[at].extend(frame);
                }
            }
        }
        let level = |part: &[i16]| energy_ratio(part, &tone(8_000, 620.0, 2_000.0, part.len())).sqrt();
        let [stays, comes] = heard;
        let steepest = |pcm: &[i16]| {
            pcm.windows(2)
                .map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs())
                .max()
        };
        assert!(
            stays[800..]
                .chunks_exact(160)
                .all(|part| (0.85..1.15).contains(&level(part))),
            "{rate} Hz: a seam"
        );
        let own = (2_000.0 * std::f64::consts::TAU * 620.0 / 8_000.0) as i32;
        assert!(steepest(&stays[800..]) < Some(own * 6 / 5), "{rate} Hz: a click");
        // Its first packet fades from what was louder by 18 dB.
        let loud = comes[320..].chunks_exact(160).map(level).fold(0.0, f64::max);
        assert!(loud < 1.5, "{rate} Hz: {loud:.2} of its level");
    }
}

/// What an encoder is heard like that has spoken to others before, behind another one that was loud: as it is, and behind one
/// packet of an encoder that starts anew.
#[test]
fn packets_of_another_are_heard_at_their_level_behind_one_that_starts_anew() {
    let mut loudest = [0.0_f64; 2];
    for rate in [8_000, 16_000, 48_000] {
        for (before, hz) in [(425.0, 620.0), (1_000.0, 620.0), (520.0, 920.0)] {
            for (anew, loudest) in [false, true].into_iter().zip(&mut loudest) {
                let new = || Encoder::new(rate, &Settings::default()).expect("a rate of Opus");
                let (mut mix, mut source, mut last) = (new(), new(), new());
                let decoders = || Decoder::new(16_000).expect("a rate of Opus");
                let (mut listener, mut others) = (decoders(), decoders());
                levels_of(&mut source, &mut others, (hz, 2_000.0), 20);
                levels_of(&mut mix, &mut listener, (before, 16_000.0), 20);
                if anew {
                    last.start_anew();
                    let pcm = tone(rate, before, 16_000.0, rate as usize / 50);
                    let mut payload = [0; 1_500];
                    let bytes = last.encode(&pcm, &mut payload).expect("20 ms are a frame");
                    listener
                        .decode(&payload[..bytes], &mut [0; 320])
                        .expect("it was just encoded");
                }
                let levels = levels_of(&mut source, &mut listener, (hz, 2_000.0), 20);
                // The first packet fades over from what was louder by 18 dB.
                *loudest = levels[1..].iter().copied().fold(*loudest, f64::max);
            }
        }
    }
    assert!(loudest[0] > 4.0, "nothing is to be mended: {loudest:?}");
    assert!(loudest[1] < 1.25, "{loudest:?}");
}

/// Tones through an encoder that everybody heard from the beginning, but for one packet, or from its middle on.
#[test]
fn who_missed_a_packet_or_came_late_hears_the_next_tone_at_its_level() {
    const LOUD: f64 = 2_000.0;
    // The second one with up to twenty times its level where the encoder reckons with no loss.
    for (first, second) in [(720.0, 520.0), (620.0, 520.0), (820.0, 520.0), (425.0, 620.0)] {
        for complexity in [0, 5, 8] {
            let settings = Settings {
                complexity,
                ..Settings::asked("")
            };
            let (change, missed) = (100, 57);
            let mut pcm = tone(8_000, first, LOUD, change * 160);
            pcm.extend(tone(8_000, second, LOUD, 60 * 160));
            let sent = packets(8_000, &settings, &pcm);
            let [mut loses, mut comes] = [(); 2].map(|()| Decoder::new(8_000).expect("a rate of Opus"));
            let mut loudest = 0.0_f64;
            for (at, packet) in sent.iter().enumerate() {
                let mut heard = [[0; 160]; 2];
                match at == missed {
                    true => loses.conceal(&mut heard[0]),
                    false => drop(loses.decode(packet, &mut heard[0]).expect("a packet")),
                }
                if at > missed {
                    comes.decode(packet, &mut heard[1]).expect("a packet");
                }
                // Two packets after the change are of both tones.
                for pcm in heard.iter().filter(|_| at > change + 1) {
                    let level = (2.0 * crate::level::energy(pcm) as f64 / 160.0).sqrt() / LOUD;
                    loudest = loudest.max(level);
                }
            }
            assert!(
                loudest < 1.25,
                "{first} and then {second} Hz, effort {complexity}: {loudest:.1} of its level"
            );
        }
    }
}
