//! Entry points for fuzzers and the corpus replay: decode anything, and check what came out against itself.
//!
//! Each function panics if and only if the crate contradicts itself.

use crate::opus::{Decoder, PacketInfo};
use crate::{
    CodecKind,
    comfort_noise::{NoiseGenerator, SID_BYTES_MAX, Sid},
    g722, mix,
};

/// Longest input looked at: a UDP datagram.
const INPUT_BYTES_MAX: usize = 65_535;
/// 120 ms at 48 kHz.
const SAMPLES_MAX: usize = 5_760;

/// Takes `data` for an Opus packet: inspects it, decodes it at two rates, uses it to restore the packet
/// before it, and conceals one after it.
pub fn fuzz_opus(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let info = PacketInfo::parse(data);
    let ticks = CodecKind::Opus.payload_ticks(data);
    assert_eq!(ticks, info.map(|info| info.ticks()));
    for rate in [8_000, 48_000] {
        let mut decoder = Decoder::new(rate).expect("libopus decodes at 8 and 48 kHz");
        let mut pcm = [0; SAMPLES_MAX];
        let restored = decoder.recover(data, &mut pcm[..rate as usize / 50]);
        assert_eq!(restored, info.is_ok_and(|info| info.has_fec));
        let decoded = decoder.decode(data, &mut pcm);
        match info {
            Ok(info) => assert_eq!(decoded, Ok(info.samples(rate)), "{info:?}"),
            Err(error) => assert_eq!(decoded, Err(error)),
        }
        decoder.conceal(&mut pcm[..rate as usize / 50]);
    }
}

/// Decodes `data` as G.722, whole and in pieces, which must agree, and encodes what came out.
pub fn fuzz_g722(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let mut whole = vec![0; 2 * data.len()];
    assert_eq!(g722::Decoder::new().decode(data, &mut whole), whole.len());
    let mut decoder = g722::Decoder::new();
    let mut pieces = vec![0; 2 * data.len()];
    let length = 1 + data.first().map_or(0, |&byte| usize::from(byte));
    for (bytes, pcm) in data.chunks(length).zip(pieces.chunks_mut(2 * length)) {
        decoder.decode(bytes, pcm);
    }
    assert_eq!(whole, pieces);
    let mut again = vec![0; data.len()];
    assert_eq!(g722::Encoder::new().encode(&whole, &mut again), data.len());
}

/// Takes `data` for a description of noise: reads it, writes it again, which must read the same, and makes noise of it that
/// stays within bounds.
pub fn fuzz_comfort_noise(data: &[u8]) {
    let Ok(sid) = Sid::parse(data) else {
        assert!(data.is_empty());
        return;
    };
    let mut written = [0; SID_BYTES_MAX];
    let bytes = sid.write(&mut written);
    assert!(bytes <= data.len());
    assert_eq!(Sid::parse(&written[..bytes]), Ok(sid));
    assert_eq!(Sid::new(sid.level_dbov(), &sid.reflection()[..sid.order()]), sid);
    let mut generator = NoiseGenerator::new(1);
    let mut pcm = [0; 320];
    generator.begin(&sid);
    generator.generate(&mut pcm);
    generator.go_on(&Sid::white(90));
    for _ in 0..20 {
        generator.generate(&mut pcm);
    }
    assert!(mix::peak(&pcm) < 200, "it does not come to rest: {pcm:?}");
}
