//! Sound files to samples: WAV of every usual kind, Ogg Opus, MP3 and FLAC; piece by piece, at the rate asked for, in one
//! channel.
//!
//! This crate **owns** the containers and the way from their contents to mono `i16`. It must **never know** where a
//! file lies, a packet or a thread: it reads from whatever reads and seeks, and never takes more of it into memory than
//! a piece. A file is anybody's: whatever is in it, the answer is samples or a [`SoundError`].
//!
//! ```
//! use sound::Sound;
//! use std::io::Cursor;
//!
//! let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x04\0\0\0".to_vec();
//! file.extend([1, 0, 2, 0]);
//! let sound = Sound::open(Cursor::new(file))?;
//! assert_eq!((sound.rate_hz(), sound.samples()), (8_000, 2));
//! let mut reader = sound.reader(8_000)?;
//! let mut pcm = [0; 160];
//! assert_eq!(reader.read(&mut pcm)?, 2);
//! assert_eq!(pcm[..2], [1, 2]);
//! assert_eq!(reader.read(&mut pcm)?, 0); // the end
//! # Ok::<(), sound::SoundError>(())
//! ```
#![forbid(unsafe_code)]

mod crc;
mod excerpt;
pub mod fuzzing;
mod ogg;
mod opus;
mod packed;
mod wav;

use std::io::{self, Read, Seek, SeekFrom};

use codecs::resample::file::Converter;

/// Why a file cannot be played: each is the end of a sentence that begins with the file's name.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// None of the formats that are read, whatever its name says.
    #[error("is none of WAV, Ogg Opus, MP3 and FLAC; convert it, for instance to WAV with 16-bit PCM")]
    Unknown,
    /// MPEG audio that is no MP3.
    #[error("has no whole frame of MP3 (MPEG audio layer III); copy or convert it again")]
    NotMp3,
    /// It ends before its samples begin.
    #[error("is cut off in its header; copy it again")]
    CutOff,
    /// A WAV file without a format before its samples.
    #[error("has no format before its samples; convert it anew")]
    NoFormat,
    /// No samples at all.
    #[error("has no samples; record or convert it anew")]
    NoSamples,
    /// A WAV format that is not read.
    #[error(
        "has WAV format {tag} with {bits} bits; use PCM of 8, 16, 24 or 32 bits, float of 32 or 64, A-law or mu-law"
    )]
    Format {
        /// Its tag (RFC 2361).
        tag: u16,
        /// Bits of a sample.
        bits: u16,
    },
    /// More channels than any recording has, or none.
    #[error("has {channels} channels; use 1 to {CHANNELS_MAX}")]
    Channels {
        /// How many.
        channels: u16,
    },
    /// No sensible sampling rate.
    #[error("is sampled at {hz} Hz; use 4000 to 192000")]
    SampleRate {
        /// What it says.
        hz: u32,
    },
    /// An Ogg file of something else.
    #[error("is an Ogg file without Opus; convert it to Ogg Opus or WAV")]
    NotOpus,
    /// Opus for surround sound.
    #[error("is Ogg Opus with channel mapping {family}; use mono or stereo")]
    Mapping {
        /// Channel mapping family (RFC 7845 §5.1.1).
        family: u8,
    },
    /// What is at this place makes no sense.
    #[error("is damaged at byte {at}; copy or convert it again")]
    Damaged {
        /// How far into the file.
        at: u64,
    },
    /// What comes after this much of it makes no sense.
    #[error("is damaged {ms} ms after its beginning; copy or convert it again")]
    DamagedAfter {
        /// How much can be played.
        ms: u64,
    },
    /// It ends before its own head says.
    #[error("ends after {has_ms} of {promised_ms} ms; copy it again")]
    CutShort {
        /// What is there.
        has_ms: u64,
        /// What it says.
        promised_ms: u64,
    },
    /// A rate that nobody plays at.
    #[error("cannot be played: {0}")]
    Conversion(#[from] codecs::resample::file::FileError),
}

/// Channels of a file that are mixed to one.
pub const CHANNELS_MAX: u16 = 8;
/// Sampling rates of files that tell theirs.
const RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=192_000;

/// What a sound is read from.
pub trait SoundFile: Read + Seek + Send + Sync + 'static {}

impl<R: Read + Seek + Send + Sync + 'static> SoundFile for R {}

/// A file that was found to be playable, before its first sample.
#[derive(Debug)]
pub struct Sound<R>(Source<R>);

#[derive(Debug)]
enum Source<R> {
    Wav(wav::Wav<R>),
    Opus(Box<opus::Opus<R>>),
    Packed(Box<packed::Packed>),
}

impl<R: SoundFile> Sound<R> {
    /// Looks at the head of a file.
    ///
    /// # Errors
    /// It cannot be read or is nothing that can be played.
    pub fn open(mut file: R) -> Result<Self, SoundError> {
        let mut magic = [0; 4];
        let start = excerpt::audio_start(&mut file)?;
        file.seek(SeekFrom::Start(start))?;
        match read_some(&mut file, &mut magic)? {
            4 => {}
            _ => return Err(SoundError::Unknown),
        }
        let packed = |packed| Ok(Self(Source::Packed(Box::new(packed))));
        match &magic {
            b"RIFF" | b"RF64" if start == 0 => Ok(Self(Source::Wav(wav::Wav::open(file)?))),
            b"OggS" if start == 0 => Ok(Self(Source::Opus(Box::new(opus::Opus::open(file)?)))),
            b"fLaC" => packed(packed::Packed::flac(file, start)?),
            // Eleven bits set, and layer III; or whatever stands behind a tag that only MP3 has.
            [0xff, second, ..] if second & 0xe6 == 0xe2 => packed(packed::Packed::mp3(file, start)?),
            _ if start > 0 => packed(packed::Packed::mp3(file, start)?),
            _ => Err(SoundError::Unknown),
        }
    }

    /// The rate at which nothing of it is lost.
    pub fn rate_hz(&self) -> u32 {
        match &self.0 {
            Source::Wav(wav) => wav.rate_hz(),
            Source::Opus(_) => codecs::opus::CLOCK_HZ,
            Source::Packed(packed) => packed.rate_hz(),
        }
    }

    /// Its length in samples at [`Self::rate_hz`].
    pub fn samples(&self) -> u64 {
        match &self.0 {
            Source::Wav(wav) => wav.frames(),
            Source::Opus(opus) => opus.samples_48k(),
            Source::Packed(packed) => packed.samples(),
        }
    }

    /// Its length in ms.
    pub fn duration_ms(&self) -> u64 {
        self.samples().saturating_mul(1_000) / u64::from(self.rate_hz())
    }

    /// Its samples at `rate_hz`, from the first one on.
    ///
    /// # Errors
    /// A rate that nothing is converted to.
    pub fn reader(self, rate_hz: u32) -> Result<Reader<R>, SoundError> {
        let mut source = self.0;
        // Opus decodes to what is asked for, where it can.
        let own_hz = match &mut source {
            Source::Wav(wav) => wav.rate_hz(),
            Source::Opus(opus) => opus.decode_at(rate_hz),
            Source::Packed(packed) => packed.rate_hz(),
        };
        Ok(Reader {
            source,
            own_hz,
            rate_hz,
            converter: Converter::new(own_hz, rate_hz)?,
            raw: Vec::new(),
            ready: Vec::new(),
            taken: 0,
            skip: 0,
            ended: false,
        })
    }
}

/// Gives samples one after another.
#[derive(Debug)]
pub struct Reader<R> {
    source: Source<R>,
    own_hz: u32,
    rate_hz: u32,
    converter: Converter,
    /// A piece as the file gives it.
    raw: Vec<i16>,
    /// Converted, and given up to `taken`.
    ready: Vec<i16>,
    taken: usize,
    /// Converted samples that are not wanted: they lie before the place that was sought.
    skip: usize,
    ended: bool,
}

impl<R: SoundFile> Reader<R> {
    /// The rate of what is given.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Writes the next samples and returns how many: fewer than there is room for only at the end, 0 after it.
    ///
    /// # Errors
    /// The file cannot be read or is damaged at that place.
    pub fn read(&mut self, pcm: &mut [i16]) -> Result<usize, SoundError> {
        let mut written = 0;
        while written < pcm.len() {
            if self.taken == self.ready.len() && !self.refill()? {
                break;
            }
            let left = &self.ready[self.taken..];
            let count = left.len().min(pcm.len() - written);
            pcm[written..written + count].copy_from_slice(&left[..count]);
            self.taken += count;
            written += count;
        }
        Ok(written)
    }

    /// Goes on at this sample, counted at the rate of what is given; beyond the end is the end.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn seek(&mut self, sample: u64) -> Result<(), SoundError> {
        self.converter.reset();
        self.ready.clear();
        self.taken = 0;
        self.ended = false;
        // A converter steps over whole numbers of both rates: from such a place the grids agree.
        let (own, rate) = (u64::from(self.own_hz), u64::from(self.rate_hz));
        let common = greatest_common_divisor(own, rate);
        let steps = sample / (rate / common);
        match &mut self.source {
            Source::Wav(wav) => wav.seek(steps * (own / common))?,
            Source::Opus(opus) => opus.seek(steps * (own / common))?,
            Source::Packed(packed) => packed.seek(steps * (own / common))?,
        }
        self.skip = usize::try_from(sample - steps * (rate / common)).unwrap_or(usize::MAX);
        Ok(())
    }

    /// Makes the next samples ready; false at the end.
    fn refill(&mut self) -> Result<bool, SoundError> {
        self.ready.clear();
        self.taken = 0;
        while self.ready.is_empty() {
            if self.ended {
                return Ok(false);
            }
            self.raw.clear();
            let more = match &mut self.source {
                Source::Wav(wav) => wav.read(&mut self.raw)?,
                Source::Opus(opus) => opus.read(&mut self.raw)?,
                Source::Packed(packed) => packed.read(&mut self.raw)?,
            };
            if more {
                self.converter.push(&self.raw, &mut self.ready);
            } else {
                self.converter.finish(&mut self.ready);
                self.ended = true;
            }
            let skipped = self.skip.min(self.ready.len());
            self.ready.drain(..skipped);
            self.skip -= skipped;
        }
        Ok(true)
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Reads until `room` is full or the file ends.
fn read_some(file: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match file.read(&mut room[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
