//! MP3 and FLAC become the samples that were put in, from the beginning and from any place, whatever tags surround them; what
//! is cut off, damaged or something else says so, and nothing makes the reader panic.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::Cursor;

use codecs::{goertzel::amplitude, tone::Oscillator};
use proptest::prelude::*;
use sound::{Reader, Sound, SoundError};

/// See the corpus's note.
const CBR: &[u8] = include_bytes!("../corpus/sound/ok-cbr.mp3");
const VBR: &[u8] = include_bytes!("../corpus/sound/ok-vbr.mp3");
const BARE: &[u8] = include_bytes!("../corpus/sound/ok-bare.mp3");

fn open(file: &[u8]) -> Result<Sound<Cursor<Vec<u8>>>, SoundError> {
    Sound::open(Cursor::new(file.to_vec()))
}

/// All of a file, read in pieces that fit nothing.
fn read(file: &[u8], rate_hz: u32) -> Result<Vec<i16>, SoundError> {
    rest(&mut open(file)?.reader(rate_hz)?)
}

fn rest(reader: &mut Reader<Cursor<Vec<u8>>>) -> Result<Vec<i16>, SoundError> {
    let (mut all, mut piece) = (Vec::new(), [0; 333]);
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(all),
            count => all.extend_from_slice(&piece[..count]),
        }
    }
}

fn tone(hz: f64, rate_hz: u32, samples: usize) -> Vec<i16> {
    let mut sine = Oscillator::new(hz, rate_hz);
    (0..samples)
        .map(|_| (sine.next_value() * 10_000.0) as i16)
        .collect()
}

/// A checksum of FLAC (RFC 9639 §9.1.8, §9.3), bit by bit: polynomial and width as given.
fn checksum(bytes: &[u8], polynomial: u32, width: u32) -> u32 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << (width - 8), |crc, _| {
            let out = crc >> (width - 1) & 1;
            ((crc << 1) ^ (out * polynomial)) & ((1 << width) - 1)
        })
    })
}

const BLOCK: usize = 1_152;

/// A FLAC file (RFC 9639) of 16 bits, every sample as it is; a block whose samples are all the same is one number. The
/// metadata ends with a picture of `picture` bytes, and `promised` samples are told.
fn flac(channels: &[&[i16]], rate_hz: u32, picture: usize, promised: u64) -> Vec<u8> {
    let mut file = b"fLaC\0\0\0\x22".to_vec();
    file.extend([(BLOCK >> 8) as u8, BLOCK as u8, (BLOCK >> 8) as u8, BLOCK as u8]);
    file.extend([0; 6]);
    let packed = u64::from(rate_hz) << 44 | (channels.len() as u64 - 1) << 41 | 15 << 36 | promised;
    file.extend(packed.to_be_bytes());
    file.extend([0; 16]);
    file.push(0x86);
    file.extend(&(picture as u32).to_be_bytes()[1..]);
    file.extend(std::iter::repeat_n(0xff, picture));
    for (number, start) in (0..channels[0].len()).step_by(BLOCK).enumerate() {
        let block = BLOCK.min(channels[0].len() - start);
        // Size of the block in 16 bits, rate and width as the file's head says.
        let mut frame = vec![0xff, 0xf8, 0x70, (channels.len() as u8 - 1) << 4];
        let number = char::from_u32(number as u32).unwrap();
        frame.extend(number.encode_utf8(&mut [0; 4]).bytes());
        frame.extend((block as u16 - 1).to_be_bytes());
        frame.push(checksum(&frame, 0x07, 8) as u8);
        for channel in channels {
            let samples = &channel[start..start + block];
            let same = samples.iter().all(|sample| *sample == samples[0]);
            frame.push(if same { 0 } else { 2 });
            let count = if same { 1 } else { block };
            frame.extend(samples[..count].iter().flat_map(|sample| sample.to_be_bytes()));
        }
        let crc = checksum(&frame, 0x8005, 16) as u16;
        frame.extend(crc.to_be_bytes());
        file.extend(frame);
    }
    file
}

fn id3(bytes: usize) -> Vec<u8> {
    let mut tag = b"ID3\x04\0\0".to_vec();
    tag.extend([21, 14, 7, 0].map(|shift| (bytes >> shift) as u8 & 0x7f));
    // What looks like a frame inside a tag is none.
    tag.extend([0xff, 0xfb, 0x90, 0x64].iter().cycle().take(bytes));
    tag
}

/// The tone is there at its level, and nothing else is as loud as a hundredth of it.
fn is_tone(heard: &[i16], hz: f64, rate_hz: u32, level: f64) {
    let middle = &heard[heard.len() / 4..heard.len() / 4 * 3];
    let found = amplitude(middle, hz, rate_hz) / level;
    // LAME makes what it writes a twentieth quieter.
    assert!((0.94..1.03).contains(&found), "{found}");
    for other in [hz * 0.7, hz * 1.6, hz * 2.0, hz * 3.1] {
        let found = amplitude(middle, other, rate_hz) / level;
        assert!(found < 0.01, "{other} Hz: {found}");
    }
}

#[test]
fn flac_is_lossless_and_its_channels_are_averaged() {
    let left = tone(600.0, 44_100, 30_001);
    let right = vec![1_000; 30_001];
    let mono = flac(&[&left], 44_100, 0, 30_001);
    let sound = open(&mono).unwrap();
    assert_eq!((sound.rate_hz(), sound.samples()), (44_100, 30_001));
    assert_eq!(read(&mono, 44_100).unwrap(), left);
    let both = read(&flac(&[&left, &right], 44_100, 0, 30_001), 44_100).unwrap();
    let expected = |sample: &i16| ((f32::from(*sample) + 1_000.0) / 2.0).round() as i16;
    assert!(both.iter().zip(&left).all(|(heard, put)| *heard == expected(put)));
    // Without a length in its head it is counted.
    let unknown = flac(&[&left], 44_100, 0, 0);
    assert_eq!(open(&unknown).unwrap().samples(), 30_001);
    assert_eq!(read(&unknown, 44_100).unwrap(), left);
    let other = read(&mono, 16_000).unwrap();
    assert_eq!(other.len() as u64, (30_001_u64 * 16_000).div_ceil(44_100));
    is_tone(&other, 600.0, 16_000, 10_000.0);
}

#[test]
fn mp3_keeps_length_tone_and_level_without_what_the_encoder_added() {
    for (file, rate_hz, level) in [(CBR, 44_100, 7_500.0), (VBR, 22_050, 10_000.0)] {
        let sound = open(file).unwrap();
        assert_eq!(
            (sound.rate_hz(), sound.samples()),
            (rate_hz, u64::from(rate_hz)),
            "a second, neither delay nor padding"
        );
        for to in [8_000, 16_000, 48_000] {
            let heard = read(file, to).unwrap();
            assert_eq!(heard.len(), to as usize);
            is_tone(&heard, 600.0, to, level);
            // From the first sample on: the tone starts at once, at a crossing of zero.
            let first = amplitude(&heard[..to as usize / 20], 600.0, to) / level;
            assert!((0.85..1.1).contains(&first), "{first}");
        }
    }
    // Nobody told its length: it is counted, with what the encoder added.
    let sound = open(BARE).unwrap();
    assert_eq!(sound.rate_hz(), 8_000);
    assert!((8_000..10_500).contains(&sound.samples()), "{}", sound.samples());
    let heard = read(BARE, 8_000).unwrap();
    assert_eq!(heard.len() as u64, sound.samples());
    is_tone(&heard, 600.0, 8_000, 10_000.0);
}

#[test]
fn tags_and_covers_of_any_size_are_not_audio() {
    let left = tone(600.0, 44_100, 30_000);
    let mut ape = b"APETAGEX\xd0\x07\0\0\x40\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    ape.splice(0..0, std::iter::repeat_n(0xff, 32));
    ape.extend([0; 8]);
    let mut id3v1 = b"TAG".to_vec();
    id3v1.resize(128, 0xff);
    let plain = read(VBR, 8_000).unwrap();
    for before in [id3(10), id3(2_000_000), [id3(40), id3(5)].concat()] {
        let file = [&before, VBR, &ape, &id3v1].concat();
        assert_eq!(read(&file, 8_000).unwrap(), plain);
        let file = [&before, &flac(&[&left], 44_100, 3_000_000, 30_000)[..]].concat();
        assert_eq!(read(&file, 44_100).unwrap(), left);
    }
}

#[test]
fn a_place_that_is_sought_is_the_place_that_is_heard() {
    let pcm = tone(440.0, 22_050, 60_000);
    let files = [
        (flac(&[&pcm], 22_050, 0, 60_000), "FLAC"),
        (flac(&[&pcm], 22_050, 0, 0), "FLAC without a length"),
        (CBR.to_vec(), "CBR"),
        (VBR.to_vec(), "VBR"),
        (BARE.to_vec(), "MP3 without a length"),
    ];
    for (file, what) in files {
        let whole = read(&file, 8_000).unwrap();
        let mut reader = open(&file).unwrap().reader(8_000).unwrap();
        for place in [7_000, 0, 1, 4_321, 7_990] {
            reader.seek(place).unwrap();
            let heard = rest(&mut reader).unwrap();
            assert_eq!(heard.len(), whole.len() - place as usize, "{what} from {place}");
            let settled = 240.min(heard.len())..heard.len().min(4_000);
            let off = heard[settled.clone()]
                .iter()
                .zip(&whole[place as usize..][settled])
                .map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs())
                .max();
            assert!(off < Some(100), "{what} from {place}: {off:?}");
        }
        reader.seek(1_000_000).unwrap();
        assert_eq!(rest(&mut reader).unwrap(), []);
        reader.seek(0).unwrap();
        assert_eq!(rest(&mut reader).unwrap().len(), whole.len());
    }
}

#[test]
fn what_is_cut_off_damaged_or_something_else_says_so() {
    let pcm = tone(440.0, 22_050, 60_000);
    let whole = flac(&[&pcm], 22_050, 0, 60_000);
    let cut = |file: &[u8], at: usize| file[..at].to_vec();
    let mut no_info = whole.clone();
    no_info[4] = 1;
    let layer_ii = [0xff, 0xfd, 0x90, 0x64].repeat(300);
    for (bytes, why) in [
        (cut(&whole, whole.len() / 2), "of 2721 ms; copy it again"),
        (cut(&whole, whole.len() - 100), "of 2721 ms; copy it again"),
        (cut(&whole, 30), "cut off in its header"),
        (cut(&whole, 42), "cut off in its header"),
        (no_info, "damaged at byte 4"),
        (flac(&[&pcm], 2_000, 0, 60_000), "sampled at 2000 Hz"),
        (flac(&[&[]], 8_000, 0, 0), "cut off"),
        (cut(VBR, VBR.len() / 2), "of 1000 ms; copy it again"),
        (cut(CBR, CBR.len() / 2), "of 1000 ms; copy it again"),
        ([&id3(30)[..], b"but no music"].concat(), "no whole frame of MP3"),
        ([&id3(30)[..], &[0; 5_000]].concat(), "no whole frame of MP3"),
        (id3(30), "none of WAV"),
        (layer_ii, "none of WAV, Ogg Opus, MP3 and FLAC"),
        (b"\0\0\0\x20ftypM4A ".to_vec(), "none of WAV"),
    ] {
        let error = read(&bytes, 8_000).unwrap_err().to_string();
        assert!(error.contains(why), "{error}, not {why}");
    }
    let mut damaged = whole.clone();
    let middle = whole.len() / 2;
    damaged[middle..middle + 8].fill(0x55);
    let error = read(&damaged, 22_050).unwrap_err();
    let SoundError::DamagedAfter { ms } = error else {
        panic!("{error}");
    };
    assert!((1_200..1_400).contains(&ms), "{ms}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever follows a beginning that is right, the answer is samples or an error.
    #[test]
    fn no_bytes_make_the_reader_panic(
        kind in 0..5_usize,
        keep in 0.0..1.0_f64,
        garbage in proptest::collection::vec(any::<u8>(), 0..2_000),
        places in proptest::collection::vec((0.0..1.0_f64, any::<u8>()), 0..20),
    ) {
        let pcm = tone(440.0, 22_050, 6_000);
        let file = match kind {
            0 => flac(&[&pcm, &pcm], 22_050, 0, 6_000),
            1 => flac(&[&pcm], 22_050, 50, 0),
            2 => VBR.to_vec(),
            3 => BARE.to_vec(),
            _ => CBR.to_vec(),
        };
        let mut file = file[..(file.len() as f64 * keep) as usize].to_vec();
        file.extend(garbage);
        let length = file.len() as f64;
        for (place, value) in places {
            if let Some(byte) = file.get_mut((length * place) as usize) {
                *byte = value;
            }
        }
        sound::fuzzing::fuzz_sound(&file);
    }
}
