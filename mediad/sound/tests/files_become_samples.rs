//! WAV of every kind and Ogg Opus become the samples that were put in, from the beginning and from any place, and what is
//! broken says how.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::io::Cursor;

use codecs::{
    goertzel::amplitude,
    opus::{Encoder, Settings},
    tone::Oscillator,
};
use sound::{Sound, SoundError};

/// A WAV file with a format as given, and a chunk before the samples that nobody asks for.
fn wav(tag: u16, channels: u16, rate_hz: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
    file.extend(tag.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(rate_hz.to_le_bytes());
    file.extend([0; 6]);
    file.extend(bits.to_le_bytes());
    file.extend(b"data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

fn bytes<const N: usize>(samples: &[[u8; N]]) -> Vec<u8> {
    samples.iter().flatten().copied().collect()
}

fn tone(hz: f64, rate_hz: u32, ms: u32) -> Vec<i16> {
    let mut sine = Oscillator::new(hz, rate_hz);
    (0..rate_hz / 1_000 * ms)
        .map(|_| (sine.next_value() * 10_000.0) as i16)
        .collect()
}

/// All of a file, read in pieces that fit nothing.
fn read(file: &[u8], rate_hz: u32) -> Result<Vec<i16>, SoundError> {
    let mut reader = Sound::open(Cursor::new(file.to_vec()))?.reader(rate_hz)?;
    rest(&mut reader)
}

fn rest(reader: &mut sound::Reader<Cursor<Vec<u8>>>) -> Result<Vec<i16>, SoundError> {
    let (mut all, mut piece) = (Vec::new(), [0; 333]);
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(all),
            count => all.extend_from_slice(&piece[..count]),
        }
    }
}

/// RFC 3533 §6, bit by bit.
fn checksum(page: &[u8]) -> u32 {
    page.iter().fold(0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}

fn page(flags: u8, granule: u64, sequence: u32, lacing: &[u8], body: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(granule.to_le_bytes());
    page.extend(7u32.to_le_bytes());
    page.extend(sequence.to_le_bytes());
    page.extend([0; 4]);
    page.push(lacing.len() as u8);
    page.extend(lacing);
    page.extend(body);
    let crc = checksum(&page);
    page[22..26].copy_from_slice(&crc.to_le_bytes());
    page
}

fn lacing(packet: &[u8]) -> Vec<u8> {
    let mut lacing = vec![255; packet.len() / 255];
    lacing.push((packet.len() % 255) as u8);
    lacing
}

const PRE_SKIP: u64 = 312;

fn head(family: u8, gain: i16) -> Vec<u8> {
    let mut head = b"OpusHead\x01\x01".to_vec();
    head.extend((PRE_SKIP as u16).to_le_bytes());
    head.extend(48_000u32.to_le_bytes());
    head.extend(gain.to_le_bytes());
    head.push(family);
    head
}

/// An Ogg Opus file of `pcm` at 48 kHz, `packets` of 20 ms on each page.
fn ogg(pcm: &[i16], packets: usize, gain: i16) -> Vec<u8> {
    let head = head(0, gain);
    let mut file = page(2, 0, 0, &lacing(&head), &head);
    let tags = b"OpusTags\x04\0\0\0test\0\0\0\0";
    file.extend(page(0, 0, 1, &lacing(tags), tags));
    let settings = Settings {
        bitrate_bps: 64_000,
        application: codecs::opus::Application::Audio,
        ..Settings::default()
    };
    let mut encoder = Encoder::new(48_000, &settings).unwrap();
    let mut padded = pcm.to_vec();
    padded.resize((pcm.len() + PRE_SKIP as usize).next_multiple_of(960), 0);
    let encoded: Vec<Vec<u8>> = padded
        .chunks(960)
        .map(|frame| {
            let mut packet = vec![0; 1_500];
            let bytes = encoder.encode(frame, &mut packet).unwrap();
            packet.truncate(bytes);
            packet
        })
        .collect();
    let pages = encoded.chunks(packets);
    let count = pages.len();
    for (at, packets_of_page) in pages.enumerate() {
        let lacing: Vec<u8> = packets_of_page.iter().flat_map(|packet| lacing(packet)).collect();
        let end = ((at * packets + packets_of_page.len()) * 960) as u64;
        let last = at + 1 == count;
        let granule = if last { pcm.len() as u64 + PRE_SKIP } else { end };
        let flags = if last { 4 } else { 0 };
        file.extend(page(
            flags,
            granule,
            at as u32 + 2,
            &lacing,
            &packets_of_page.concat(),
        ));
    }
    file
}

#[test]
fn every_kind_of_sample_is_the_number_it_stands_for() {
    let cases: [(u16, u16, Vec<u8>); 8] = [
        (1, 8, vec![0x80, 0xc0, 0x00]),
        (1, 16, bytes(&[0i16, 16_384, -32_768].map(i16::to_le_bytes))),
        (1, 24, bytes(&[[0, 0, 0], [0, 0, 0x40], [0, 0, 0x80]])),
        (1, 32, bytes(&[0i32, 1 << 30, i32::MIN].map(i32::to_le_bytes))),
        (3, 32, bytes(&[0.0f32, 0.5, -1.0].map(f32::to_le_bytes))),
        (3, 64, bytes(&[0.0f64, 0.5, -7.0].map(f64::to_le_bytes))),
        (
            3,
            32,
            bytes(&[f32::NAN, 0.5, f32::NEG_INFINITY].map(f32::to_le_bytes)),
        ),
        (0xfffe, 16, bytes(&[0i16, 16_384, -32_768].map(i16::to_le_bytes))),
    ];
    for (tag, bits, data) in cases {
        let file = match tag {
            0xfffe => {
                // The true format stands in the extension.
                let mut file = b"RIFF\0\0\0\0WAVEfmt \x28\0\0\0\xfe\xff\x01\0\x40\x1f\0\0".to_vec();
                file.extend([0; 6]);
                file.extend(bits.to_le_bytes());
                file.extend([22, 0, 16, 0, 0, 0, 0, 0, 1, 0]);
                file.extend([0; 14]);
                file.extend(b"data\xff\xff\xff\xff");
                file.extend(data);
                file
            }
            tag => wav(tag, 1, 8_000, bits, &data),
        };
        assert_eq!(read(&file, 8_000).unwrap(), [0, 16_384, -32_768], "{tag} {bits}");
    }
    assert_eq!(read(&wav(6, 1, 8_000, 8, &[0xd5, 0x55]), 8_000).unwrap(), [8, -8]);
    assert_eq!(
        read(&wav(7, 1, 8_000, 8, &[0xff, 0x00]), 8_000).unwrap(),
        [0, -32_124]
    );
    let channels = bytes(&[100i16, 300, -40, -5, -7, 0].map(i16::to_le_bytes));
    assert_eq!(
        read(&wav(1, 2, 8_000, 16, &channels), 8_000).unwrap(),
        [200, -23, -4]
    );
    assert_eq!(read(&wav(1, 3, 8_000, 16, &channels), 8_000).unwrap(), [120, -4]);
}

#[test]
fn lengths_that_lie_give_what_there_is() {
    let samples = bytes(&[1i16, 2, 3].map(i16::to_le_bytes));
    let mut cut = wav(1, 1, 8_000, 16, &samples);
    cut.truncate(cut.len() - 3);
    assert_eq!(read(&cut, 8_000).unwrap(), [1]);
    let mut killed = wav(1, 1, 8_000, 16, &samples);
    let length = killed.len() - samples.len() - 4;
    killed[length..length + 4].fill(0);
    assert_eq!(read(&killed, 8_000).unwrap(), [1, 2, 3]);
    // RF64: the length stands elsewhere.
    let mut long = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
    long.extend([0; 8]);
    long.extend(4u64.to_le_bytes());
    long.extend([0; 12]);
    long.extend(&wav(1, 1, 8_000, 16, &samples)[12..]);
    let length = long.len() - samples.len() - 4;
    long[length..length + 4].fill(0xff);
    assert_eq!(read(&long, 8_000).unwrap(), [1, 2]);
}

#[test]
fn every_rate_keeps_duration_and_tone() {
    for from in [8_000, 11_025, 22_050, 44_100, 48_000, 96_000] {
        let pcm: Vec<u8> = tone(600.0, from, 1_000)
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .collect();
        let file = wav(1, 1, from, 16, &pcm);
        for to in [8_000, 16_000, 48_000] {
            let sound = Sound::open(Cursor::new(file.clone())).unwrap();
            assert_eq!(sound.rate_hz(), from);
            assert!(sound.duration_ms().abs_diff(1_000) <= 25);
            let heard = read(&file, to).unwrap();
            let expected = (pcm.len() as u64 / 2 * u64::from(to)).div_ceil(from.into());
            assert_eq!(heard.len() as u64, expected, "{from} to {to}");
            let middle = &heard[heard.len() / 4..heard.len() / 4 * 3];
            let level = amplitude(middle, 600.0, to) / 10_000.0;
            assert!((0.98..1.02).contains(&level), "{from} to {to}: {level}");
        }
    }
}

#[test]
fn a_place_that_is_sought_is_the_place_that_is_heard() {
    let pcm = tone(440.0, 44_100, 3_000);
    let data: Vec<u8> = pcm.iter().flat_map(|s| s.to_le_bytes()).collect();
    for (file, what) in [
        (wav(1, 1, 44_100, 16, &data), "WAV"),
        (
            ogg(&tone(440.0, 48_000, 3_000), 10, 0),
            "one page for each 200 ms",
        ),
        (ogg(&tone(440.0, 48_000, 3_000), 1, 0), "one page for each packet"),
    ] {
        let whole = read(&file, 8_000).unwrap();
        for place in [0, 1, 7_999, 16_000, 20_003] {
            let sound = Sound::open(Cursor::new(file.clone())).unwrap();
            let mut reader = sound.reader(8_000).unwrap();
            reader.read(&mut [0; 100]).unwrap();
            reader.seek(place).unwrap();
            let heard = rest(&mut reader).unwrap();
            assert_eq!(heard.len(), whole.len() - place as usize, "{what} from {place}");
            // What a filter or a decoder needs to settle in is at most 30 ms.
            let settled = 240..heard.len().min(4_000);
            let off = heard[settled.clone()]
                .iter()
                .zip(&whole[place as usize..][settled])
                .map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs())
                .max();
            assert!(off < Some(600), "{what} from {place}: {off:?}");
        }
        let sound = Sound::open(Cursor::new(file.clone())).unwrap();
        let mut reader = sound.reader(8_000).unwrap();
        reader.seek(1_000_000).unwrap();
        assert_eq!(rest(&mut reader).unwrap(), []);
        reader.seek(0).unwrap();
        assert_eq!(rest(&mut reader).unwrap().len(), whole.len());
    }
}

#[test]
fn opus_keeps_its_length_its_tone_and_its_gain() {
    let pcm = tone(1_000.0, 48_000, 1_230);
    for (gain, expected) in [(0, 1.0), (-6 * 256, 0.501)] {
        for packets in [1, 7, 50] {
            let file = ogg(&pcm, packets, gain);
            let sound = Sound::open(Cursor::new(file.clone())).unwrap();
            assert_eq!((sound.rate_hz(), sound.samples()), (48_000, pcm.len() as u64));
            for to in [8_000, 16_000, 48_000] {
                let heard = read(&file, to).unwrap();
                assert_eq!(heard.len(), pcm.len() / (48_000 / to as usize), "{to} Hz");
                let middle = &heard[heard.len() / 4..heard.len() / 4 * 3];
                let level = amplitude(middle, 1_000.0, to) / 10_000.0 / expected;
                assert!((0.9..1.1).contains(&level), "{to} Hz, gain {gain}: {level}");
            }
        }
    }
}

#[test]
fn a_file_that_was_cut_off_plays_its_whole_pages_and_a_damaged_one_says_where() {
    let file = ogg(&tone(1_000.0, 48_000, 2_000), 10, 0);
    let cut = &file[..file.len() - 500];
    let heard = read(cut, 48_000).unwrap();
    assert!((80_000..96_000).contains(&heard.len()), "{}", heard.len());

    let mut damaged = file.clone();
    let at = file.len() / 2;
    damaged[at] ^= 1;
    let mut reader = Sound::open(Cursor::new(damaged.clone()))
        .unwrap()
        .reader(48_000)
        .unwrap();
    let error = rest(&mut reader).unwrap_err();
    assert!(
        matches!(error, SoundError::Damaged { at: place } if place < at as u64),
        "{error}"
    );
}

#[test]
fn what_cannot_be_played_says_why_and_what_to_do() {
    let opus_head = |family| {
        let head = head(family, 0);
        page(2, 0, 0, &lacing(&head), &head)
    };
    for (bytes, why) in [
        (b"".to_vec(), "none of WAV, Ogg Opus, MP3 and FLAC"),
        (b"ID3 music".to_vec(), "convert it"),
        (wav(2, 1, 8_000, 4, &[1]), "format 2 with 4 bits; use PCM"),
        (wav(1, 9, 8_000, 16, &[1, 2]), "9 channels; use 1 to 8"),
        (wav(1, 1, 1, 16, &[1, 2]), "1 Hz; use"),
        (wav(1, 1, 8_000, 16, &[]), "no samples"),
        (b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0\x01\0".to_vec(), "cut off"),
        (b"RIFF\0\0\0\0WAVEdata\x02\0\0\0\x01\0".to_vec(), "no format"),
        (b"RIFF\0\0\0\0WAVE".to_vec(), "no samples"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff".to_vec(), "no samples"),
        (b"RIFF\0\0\0\0AVI ".to_vec(), "none of"),
        (b"OggS".to_vec(), "cut off"),
        (page(2, 0, 0, &[7], b"\x80theora"), "without Opus"),
        (opus_head(1), "channel mapping 1; use mono or stereo"),
        (opus_head(0), "cut off"),
    ] {
        let error = read(&bytes, 8_000).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
