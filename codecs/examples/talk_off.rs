//! Counts the digits that the in-band detector finds in speech, where there are none.
//!
//! `espeak-ng -f text.txt --stdout | cargo run --release -p codecs --example talk_off`: reads a WAV file of
//! 16-bit mono from standard input, as espeak-ng writes it.
use codecs::dtmf::{Detector, DtmfEvent};
use codecs::level;
use std::io::Read;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let header = bytes
        .first_chunk::<44>()
        .ok_or("no WAV header on standard input")?;
    let rate = u32::from_le_bytes([header[24], header[25], header[26], header[27]]);
    let pcm: Vec<i16> = bytes[44..]
        .chunks_exact(2)
        .map(|b| i16::from_le_bytes([b[0], b[1]]))
        .collect();
    let pcm = codecs::resample::file::convert(&pcm, rate, 8_000)?;
    for boost_db in [0.0, 6.0, 12.0] {
        let mut gain = codecs::mix::Gain::new(codecs::mix::gain_from_db(boost_db));
        let (mut detector, mut found) = (Detector::new(), String::new());
        let mut loudest = f64::NEG_INFINITY;
        for frame in pcm.chunks(160) {
            let mut frame = frame.to_vec();
            gain.apply(&mut frame);
            loudest = loudest.max(level::dbov(&frame));
            detector.process(&frame, |event| {
                if let DtmfEvent::Started(digit) = event {
                    found.push(digit.as_char());
                }
            });
        }
        let seconds = pcm.len() as f64 / 8_000.0;
        println!(
            "{seconds:.0} s, up to {loudest:.1} dBov: {} false digits {found}",
            found.len()
        );
    }
    Ok(())
}
