//! MP3 and FLAC, through `symphonia`: their samples in one channel, without what an encoder put before and behind them.
//!
//! The library is asked for frames one after another and guarded: whatever it makes of a file, a panic included, is an
//! error of that file. It sees no tags and no covers ([`Excerpt`]), so a reader's memory is a buffer and a frame.

use std::{
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
};

use symphonia::{
    core::{
        codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions},
        errors::Error,
        formats::{FormatOptions, FormatReader, SeekMode, SeekTo},
        io::{MediaSourceStream, MediaSourceStreamOptions},
        packet::Packet,
        units::Timestamp,
    },
    default::{
        codecs::{FlacDecoder, MpaDecoder},
        formats::{FlacReader, MpaReader},
    },
};

use crate::{CHANNELS_MAX, RATES_HZ, SoundError, SoundFile, excerpt::Excerpt};

/// Frames of MP3 decoded before the place that is sought: each may lean on up to 511 bytes before it, which at the
/// lowest rates are nine frames.
const LEAD_FRAMES: u64 = 10;
/// Samples of a frame of MP3 at most.
const FRAME_SAMPLES_MAX: u64 = 1_152;
/// Where a tag that tells the length stands in the first frame of MP3, at the latest.
const TAG_WITHIN: usize = 64;

/// An MP3 or FLAC file.
pub(crate) struct Packed {
    kind: Kind,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    rate_hz: u32,
    /// All of it, without what the encoder added.
    samples: u64,
    /// Samples before the first, which the encoder added.
    delay: u64,
    /// The next sample to give.
    at: u64,
    /// Frames whose errors are forgiven: what they lean on was not read.
    lenient: u64,
    decoded: Vec<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mp3,
    Flac,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed")
            .field("kind", &self.kind)
            .field("rate_hz", &self.rate_hz)
            .field("samples", &self.samples)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// What the file says of itself.
struct Head {
    rate_hz: u32,
    delay: u64,
    padding: u64,
    /// Its length, if it tells one.
    promised: Option<u64>,
}

impl Packed {
    /// An MP3 file whose frames begin at `start`.
    pub(crate) fn mp3<R: SoundFile>(file: R, start: u64) -> Result<Self, SoundError> {
        let mut audio = Excerpt::mp3(file, start)?;
        let mut first = [0; TAG_WITHIN];
        let count = audio.peek(&mut first)?;
        let tells_length = [b"Xing", b"Info", b"VBRI"]
            .iter()
            .any(|tag| first[..count].windows(4).any(|four| four == *tag));
        let opened = guarded(|| MpaReader::try_new(stream(audio), FormatOptions::default()));
        let format = opened.map_err(|error| error.or(SoundError::NotMp3))?;
        let (params, mut head) = head(&format)?;
        // The library estimates what a file does not tell.
        head.promised = head.promised.filter(|_| tells_length);
        let decoder = guarded(|| MpaDecoder::try_new(&params, &decoding()));
        let decoder = decoder.map_err(|error| error.or(SoundError::NotMp3))?;
        Self::measured(Kind::Mp3, Box::new(format), Box::new(decoder), &head)
    }

    /// A FLAC file whose mark stands at `start`.
    pub(crate) fn flac<R: SoundFile>(file: R, start: u64) -> Result<Self, SoundError> {
        let audio = Excerpt::flac(file, start)?;
        let opened = guarded(|| FlacReader::try_new(stream(audio), FormatOptions::default()));
        let format = opened.map_err(|error| error.of_head(SoundError::DamagedAfter { ms: 0 }))?;
        let (params, head) = head(&format)?;
        let decoder = guarded(|| FlacDecoder::try_new(&params, &decoding()));
        let decoder = decoder.map_err(|error| error.of_head(SoundError::DamagedAfter { ms: 0 }))?;
        Self::measured(Kind::Flac, Box::new(format), Box::new(decoder), &head)
    }

    /// Finds out how long it is, and that it is there as a whole.
    fn measured(
        kind: Kind,
        format: Box<dyn FormatReader>,
        decoder: Box<dyn AudioDecoder>,
        head: &Head,
    ) -> Result<Self, SoundError> {
        let mut packed = Self {
            kind,
            format,
            decoder,
            rate_hz: head.rate_hz,
            samples: head.promised.unwrap_or(u64::MAX),
            delay: head.delay,
            at: 0,
            lenient: 0,
            decoded: Vec::new(),
        };
        let found = match head.promised {
            Some(0) => return Err(SoundError::NoSamples),
            // Frames of FLAC carry their place: if the last one is there, so are those before it.
            Some(promised) if kind == Kind::Flac => packed.end_of_packet_at(promised - 1)?,
            _ => packed.walk_to_end()?,
        };
        if let Some(promised) = head.promised {
            // A frame more or less is how encoders count the one that tells the length.
            let slack = match kind {
                Kind::Mp3 => FRAME_SAMPLES_MAX + head.padding,
                Kind::Flac => 0,
            };
            if found + slack < promised {
                let ms = |samples: u64| samples.saturating_mul(1_000) / u64::from(head.rate_hz);
                return Err(SoundError::CutShort {
                    has_ms: ms(found),
                    promised_ms: ms(promised),
                });
            }
        }
        packed.samples = packed.samples.min(found);
        if packed.samples == 0 {
            return Err(SoundError::NoSamples);
        }
        packed.seek(0)?;
        Ok(packed)
    }

    pub(crate) fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// Adds the next samples; false at the end.
    pub(crate) fn read(&mut self, out: &mut Vec<i16>) -> Result<bool, SoundError> {
        while self.at < self.samples {
            let Some(packet) = self.next_packet()? else {
                // It became shorter while it was played.
                self.at = self.samples;
                return Ok(false);
            };
            let starts = packet.pts.get();
            if self.kind == Kind::Flac && starts > self.at as i64 {
                // Frames with a wrong checksum were left out.
                return Err(self.damaged());
            }
            self.decode(&packet)?;
            let channels = self.channels();
            let frames = (self.decoded.len() / channels) as u64;
            // Before the beginning lies what the encoder added, before the place sought what led up to it.
            let skip = (self.at as i64 - starts).max(0) as u64;
            let take = frames.saturating_sub(skip).min(self.samples - self.at);
            if take == 0 {
                continue;
            }
            let wanted = &self.decoded[skip as usize * channels..][..take as usize * channels];
            mix_down(wanted, channels, out);
            self.at += take;
            return Ok(true);
        }
        Ok(false)
    }

    /// Goes on at this sample.
    pub(crate) fn seek(&mut self, sample: u64) -> Result<(), SoundError> {
        self.at = sample.min(self.samples);
        if self.at == self.samples {
            return Ok(());
        }
        self.decoder.reset();
        match self.kind {
            Kind::Flac => {
                self.find(self.at)?;
                self.lenient = 0;
            }
            Kind::Mp3 => {
                let before = LEAD_FRAMES * FRAME_SAMPLES_MAX;
                self.go_to(self.at as i64 - (self.delay + before) as i64)?;
                self.lenient = LEAD_FRAMES;
            }
        }
        Ok(())
    }

    /// Puts the reader before the frame of FLAC that holds `sample`.
    fn find(&mut self, sample: u64) -> Result<(), SoundError> {
        if self.go_to(sample as i64).is_ok() {
            return Ok(());
        }
        // The library's search gives up where long frames end the file: then frame by frame from the beginning. Whoever
        // reads leaves out what lies before.
        self.go_to(0)
    }

    fn go_to(&mut self, place: i64) -> Result<(), SoundError> {
        let first = -(self.delay as i64);
        let to = SeekTo::Timestamp {
            ts: Timestamp::new(place.max(first)),
            track_id: 0,
        };
        let sought = guarded(|| self.format.seek(SeekMode::Accurate, to));
        match sought {
            Ok(_) => Ok(()),
            Err(error) => Err(error.or(self.damaged())),
        }
    }

    /// Where the packet with this sample ends, or the last before it.
    fn end_of_packet_at(&mut self, sample: u64) -> Result<u64, SoundError> {
        self.find(sample)?;
        let mut end = 0;
        while end <= sample {
            match self.next_packet()? {
                Some(packet) => end = packet_end(&packet),
                None => break,
            }
        }
        Ok(end)
    }

    /// Where the last packet ends.
    fn walk_to_end(&mut self) -> Result<u64, SoundError> {
        let mut end = 0;
        while let Some(packet) = self.next_packet()? {
            end = packet_end(&packet);
        }
        Ok(end)
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, SoundError> {
        match guarded(|| self.format.next_packet()) {
            Ok(packet) => Ok(packet),
            Err(Trouble::Library(Error::IoError(error))) if error.kind() == ErrorKind::UnexpectedEof => {
                Ok(None)
            }
            Err(error) => Err(error.or(self.damaged())),
        }
    }

    /// Decodes a packet; one that is forgiven is silence.
    fn decode(&mut self, packet: &Packet) -> Result<(), SoundError> {
        let decoded = guarded(|| {
            let buffer = self.decoder.decode(packet)?;
            buffer.copy_to_vec_interleaved(&mut self.decoded);
            Ok(())
        });
        match decoded {
            Ok(()) => self.lenient = self.lenient.saturating_sub(1),
            Err(Trouble::Library(_)) if self.lenient > 0 => {
                self.lenient -= 1;
                let frames = packet.block_dur().get().min(FRAME_SAMPLES_MAX) as usize;
                self.decoded.clear();
                self.decoded.resize(frames * self.channels(), 0.0);
            }
            Err(error) => return Err(error.or(self.damaged())),
        }
        Ok(())
    }

    fn channels(&self) -> usize {
        let channels = self.decoder.codec_params().channels.as_ref();
        channels.map_or(1, |channels| channels.count()).max(1)
    }

    fn damaged(&self) -> SoundError {
        SoundError::DamagedAfter {
            ms: self.at.saturating_mul(1_000) / u64::from(self.rate_hz),
        }
    }
}

fn packet_end(packet: &Packet) -> u64 {
    let end = packet.pts.get().saturating_add_unsigned(packet.block_dur().get());
    end.max(0) as u64
}

fn stream<R: SoundFile>(audio: Excerpt<R>) -> MediaSourceStream<'static> {
    MediaSourceStream::new(Box::new(audio), MediaSourceStreamOptions::default())
}

/// Trimming is ours: the library trims by lengths that it may only have estimated.
fn decoding() -> AudioDecoderOptions {
    AudioDecoderOptions::default().gapless(false)
}

fn head(format: &impl FormatReader) -> Result<(AudioCodecParameters, Head), SoundError> {
    let track = format.tracks().first().ok_or(SoundError::NoFormat)?;
    let params = track.codec_params.as_ref().and_then(|params| params.audio());
    let params = params.ok_or(SoundError::NoFormat)?;
    let channels = params.channels.as_ref().map_or(0, |channels| channels.count());
    if !(1..=usize::from(CHANNELS_MAX)).contains(&channels) {
        let channels = u16::try_from(channels).unwrap_or(u16::MAX);
        return Err(SoundError::Channels { channels });
    }
    let rate_hz = params.sample_rate.unwrap_or(0);
    if !RATES_HZ.contains(&rate_hz) {
        return Err(SoundError::SampleRate { hz: rate_hz });
    }
    let head = Head {
        rate_hz,
        delay: track.delay.unwrap_or(0).into(),
        padding: track.padding.unwrap_or(0).into(),
        promised: track.num_frames,
    };
    Ok((params.clone(), head))
}

/// Full scale is 1.
fn mix_down(samples: &[f32], channels: usize, out: &mut Vec<i16>) {
    let share = 32_768.0 / channels as f32;
    // `as` saturates, and makes 0 of what is no number.
    out.extend(
        samples
            .chunks_exact(channels)
            .map(|frame| (frame.iter().sum::<f32>() * share).round() as i16),
    );
}

/// What became of a call into the library.
enum Trouble {
    Library(Error),
    Panic,
}

impl Trouble {
    /// The file's own error where it has one, else `otherwise`.
    fn or(self, otherwise: SoundError) -> SoundError {
        match self {
            Self::Library(Error::IoError(error)) if error.kind() != ErrorKind::UnexpectedEof => {
                SoundError::Read(error)
            }
            Self::Library(_) | Self::Panic => otherwise,
        }
    }

    fn of_head(self, otherwise: SoundError) -> SoundError {
        match self {
            Self::Library(Error::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                SoundError::CutOff
            }
            trouble => trouble.or(otherwise),
        }
    }
}

/// A damaged file may break an assumption of the library: that ends the file's reading and nothing else.
fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Trouble> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Trouble::Library),
        Err(_) => Err(Trouble::Panic),
    }
}
