//! WAV: PCM of 8 to 32 bits, float, A-law and µ-law, up to eight channels; RF64 for what is longer than 4 GB.
//!
//! # Source
//! RFC 2361 (format tags), EBU Tech 3306 (RF64).

use std::io::{Read, Seek, SeekFrom};

use codecs::g711;

use crate::{CHANNELS_MAX, RATES_HZ, SoundError, read_some};

/// Format tags (RFC 2361).
const PCM: u16 = 1;
const FLOAT: u16 = 3;
const ALAW: u16 = 6;
const ULAW: u16 = 7;
const EXTENSIBLE: u16 = 0xfffe;

/// A format chunk is never longer than this; what follows is not looked at.
const FORMAT_BYTES_MAX: u64 = 40;
/// Chunks before the samples. More are no sound file.
const CHUNKS_MAX: usize = 1_000;
/// Frames read at a time.
const PIECE_FRAMES: u64 = 2_048;

/// A WAV file.
#[derive(Debug)]
pub(crate) struct Wav<R> {
    file: R,
    format: Format,
    /// Where the samples begin.
    start: u64,
    frames: u64,
    /// The next frame.
    at: u64,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Format {
    sample: Sample,
    channels: u16,
    rate_hz: u32,
}

/// How one sample is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sample {
    /// Unsigned, as ever.
    Pcm8,
    Pcm16,
    Pcm24,
    Pcm32,
    Float32,
    Float64,
    Alaw,
    Ulaw,
}

impl<R: Read + Seek> Wav<R> {
    pub(crate) fn open(mut file: R) -> Result<Self, SoundError> {
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(8))?;
        let mut kind = [0; 4];
        if read_some(&mut file, &mut kind)? < 4 {
            return Err(SoundError::CutOff);
        }
        if &kind != b"WAVE" {
            return Err(SoundError::Unknown);
        }
        let (mut at, mut format, mut long) = (12, None, None);
        for _ in 0..CHUNKS_MAX {
            let mut head = [0; 8];
            file.seek(SeekFrom::Start(at))?;
            if read_some(&mut file, &mut head)? < 8 {
                break;
            }
            let length = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
            let body = at + 8;
            match &head[..4] {
                b"fmt " => format = Some(Format::read(&chunk(&mut file, length.min(FORMAT_BYTES_MAX))?)?),
                // The sizes that do not fit 32 bits: of the file, then of the samples.
                b"ds64" => long = chunk(&mut file, length.min(16))?.get(8..16).map(le_u64),
                b"data" => {
                    let format = format.ok_or(SoundError::NoFormat)?;
                    let length = match (length, long) {
                        (0xffff_ffff, Some(long)) => long,
                        // Writers that were killed leave 0 or more than there is.
                        (0, _) => u64::MAX,
                        (length, _) => length,
                    };
                    let frames = length.min(end.saturating_sub(body)) / format.frame_bytes();
                    if frames == 0 {
                        return Err(SoundError::NoSamples);
                    }
                    file.seek(SeekFrom::Start(body))?;
                    return Ok(Self {
                        file,
                        format,
                        start: body,
                        frames,
                        at: 0,
                        bytes: Vec::new(),
                    });
                }
                _ => {}
            }
            // Chunks begin at even places.
            at = body + length + length % 2;
        }
        Err(SoundError::NoSamples)
    }

    pub(crate) fn rate_hz(&self) -> u32 {
        self.format.rate_hz
    }

    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Adds the next samples; false at the end.
    pub(crate) fn read(&mut self, out: &mut Vec<i16>) -> Result<bool, SoundError> {
        let frames = PIECE_FRAMES.min(self.frames - self.at);
        if frames == 0 {
            return Ok(false);
        }
        self.bytes
            .resize((frames * self.format.frame_bytes()) as usize, 0);
        let read = read_some(&mut self.file, &mut self.bytes)?;
        self.at += frames;
        if read < self.bytes.len() {
            // It became shorter while it was played.
            self.at = self.frames;
        }
        self.format.mix_down(&self.bytes[..read], out);
        Ok(true)
    }

    pub(crate) fn seek(&mut self, frame: u64) -> Result<(), SoundError> {
        self.at = frame.min(self.frames);
        self.file
            .seek(SeekFrom::Start(self.start + self.at * self.format.frame_bytes()))?;
        Ok(())
    }
}

fn chunk(file: &mut impl Read, length: u64) -> Result<Vec<u8>, SoundError> {
    let mut bytes = vec![0; length as usize];
    if read_some(file, &mut bytes)? < bytes.len() {
        return Err(SoundError::CutOff);
    }
    Ok(bytes)
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl Format {
    fn read(chunk: &[u8]) -> Result<Self, SoundError> {
        let short = |at: usize| Some(u16::from_le_bytes([*chunk.get(at)?, *chunk.get(at + 1)?]));
        let fields = (|| {
            let (tag, channels, bits) = (short(0)?, short(2)?, short(14)?);
            let rate_hz = u32::from(short(4)?) | u32::from(short(6)?) << 16;
            let tag = if tag == EXTENSIBLE { short(24)? } else { tag };
            Some((tag, channels, rate_hz, bits))
        })();
        let (tag, channels, rate_hz, bits) = fields.ok_or(SoundError::CutOff)?;
        let sample = match (tag, bits) {
            (PCM, 8) => Sample::Pcm8,
            (PCM, 16) => Sample::Pcm16,
            (PCM, 24) => Sample::Pcm24,
            (PCM, 32) => Sample::Pcm32,
            (FLOAT, 32) => Sample::Float32,
            (FLOAT, 64) => Sample::Float64,
            (ALAW, 8) => Sample::Alaw,
            (ULAW, 8) => Sample::Ulaw,
            _ => return Err(SoundError::Format { tag, bits }),
        };
        if !(1..=CHANNELS_MAX).contains(&channels) {
            return Err(SoundError::Channels { channels });
        }
        if !RATES_HZ.contains(&rate_hz) {
            return Err(SoundError::SampleRate { hz: rate_hz });
        }
        Ok(Self {
            sample,
            channels,
            rate_hz,
        })
    }

    fn frame_bytes(self) -> u64 {
        (self.sample.bytes() * usize::from(self.channels)) as u64
    }

    /// Whole frames of `bytes`, their channels averaged.
    fn mix_down(self, bytes: &[u8], out: &mut Vec<i16>) {
        let frames = bytes.chunks_exact(self.frame_bytes() as usize);
        if self.channels == 1 && self.sample == Sample::Pcm16 {
            out.extend(frames.map(|sample| i16::from_le_bytes([sample[0], sample[1]])));
            return;
        }
        let share = 1.0 / f32::from(self.channels);
        out.extend(frames.map(|frame| {
            let samples = frame.chunks_exact(self.sample.bytes());
            let sum: f32 = samples.map(|sample| self.sample.value(sample)).sum();
            // `as` saturates, and makes 0 of what is no number.
            (sum * share).round() as i16
        }));
    }
}

impl Sample {
    fn bytes(self) -> usize {
        match self {
            Self::Pcm8 | Self::Alaw | Self::Ulaw => 1,
            Self::Pcm16 => 2,
            Self::Pcm24 => 3,
            Self::Pcm32 | Self::Float32 => 4,
            Self::Float64 => 8,
        }
    }

    /// In steps of 16 bits.
    #[inline]
    fn value(self, bytes: &[u8]) -> f32 {
        match *bytes {
            [byte] => match self {
                Self::Alaw => f32::from(g711::ALAW_TO_PCM[usize::from(byte)]),
                Self::Ulaw => f32::from(g711::ULAW_TO_PCM[usize::from(byte)]),
                _ => (f32::from(byte) - 128.0) * 256.0,
            },
            [a, b] => f32::from(i16::from_le_bytes([a, b])),
            [a, b, c] => i32::from_le_bytes([0, a, b, c]) as f32 / 65_536.0,
            [a, b, c, d] if self == Self::Float32 => f32::from_le_bytes([a, b, c, d]) * 32_768.0,
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]) as f32 / 65_536.0,
            [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32 * 32_768.0,
            _ => 0.0,
        }
    }
}
