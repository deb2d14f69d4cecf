//! Recordings: from what a worker heard to the bytes of a file, sans-IO.
//!
//! A worker writes packets and mixes into a [`ring`]; whoever owns the file takes them out with [`Recording::turn`],
//! every 100 to 200 ms, and writes what it gives. A [`Recording`] holds its audio back for [`DELAY`], so that packets that
//! are late or out of order still find their place, then it is final.
//!
//! All legs are on one timeline, which is the host's clock since the recording began. Two sources that were heard at
//! the same time are at the same time in the file, however their own clocks run.
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use media_engine::{
//!     recording::{Recording, Settings, Workbench, ring},
//!     spec::RecordingFormat,
//! };
//!
//! # fn now() -> Instant { #[allow(clippy::disallowed_methods)] Instant::now() }
//! let start = now();
//! let (feed, intake) = ring(65_536, start);
//! let mut file = Vec::new();
//! let settings = Settings::new(RecordingFormat::WavMono, 8_000);
//! let mut recording = Recording::new(settings, intake, &mut file).unwrap();
//! feed.begin(start);
//! feed.close(start + Duration::from_secs(1));
//! let end = recording.turn(start + Duration::from_secs(1), &mut Workbench::default(), &mut file);
//! assert!(end.is_some());
//! assert_eq!(file.len(), 44 + 16_000, "a second of silence");
//! ```

mod background;
mod leg;
mod ogg;
mod ring;
mod stretch;
mod timeline;
mod wav;

use std::time::{Duration, Instant};

use codecs::{CodecError, opus};

pub use self::{
    leg::LegReport,
    ogg::{Mending, PAGE_BYTES_MAX},
    ring::{Intake, Placing, Position, Record, RecordingFeed, ring, ring_bytes},
    timeline::{Span, Workbench},
    wav::{HEADER_BYTES, repaired},
};
use self::{ogg::OggWriter, timeline::Timeline};
use crate::spec::RecordingFormat;

/// How long audio waits for what comes late.
pub const DELAY: Duration = Duration::from_millis(1_000);
/// What an Ogg Opus recording takes, for each channel.
const OPUS_BITS_PER_SECOND: u32 = 24_000;
/// Effort of the encoder, 0 to 10.
const OPUS_COMPLEXITY: u8 = 5;

/// What is recorded, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What is written.
    pub format: RecordingFormat,
    /// Sampling rate of the file: 8 000, 16 000 or 48 000 Hz.
    pub rate_hz: u32,
    /// Ends by itself after this long, unless the recorder asked for less.
    pub duration_max: Duration,
    /// Ends by itself at this size, unless the recorder asked for less.
    pub size_bytes_max: u64,
    /// Number of an Ogg stream, unlike that of other files.
    pub serial: u32,
    /// Names and values for the comments of an Ogg file.
    pub comments: Vec<(Box<str>, Box<str>)>,
}

impl Settings {
    /// Without limits and comments.
    pub fn new(format: RecordingFormat, rate_hz: u32) -> Self {
        Self {
            format,
            rate_hz,
            duration_max: Duration::MAX,
            size_bytes_max: u64::MAX,
            serial: 1,
            comments: Vec::new(),
        }
    }
}

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its recorder or its session is gone.
    Asked,
    /// It is as long as it may be, in ms.
    Duration(u64),
    /// It is as large as it may be, in bytes.
    Size(u64),
}

/// What a recording came to so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Sampling rate of the file.
    pub rate_hz: u32,
    /// Samples of each channel that are final.
    pub samples: u64,
    /// Who is heard.
    pub legs: Vec<LegReport>,
    /// When nobody was to be heard.
    pub pauses: Vec<Span>,
    /// Where the file thread did not keep up.
    pub gaps: Vec<Span>,
}

impl Report {
    /// Length of the file.
    pub fn duration_ms(&self) -> u64 {
        self.samples * 1_000 / u64::from(self.rate_hz)
    }

    /// Packets and frames that the file thread did not keep up with.
    pub fn lost(&self) -> u64 {
        self.gaps.iter().map(|gap| gap.lost).sum()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Recording {
    settings: Settings,
    /// The bounds of the settings, or those of the recorder where it has narrower ones.
    duration_max: Duration,
    size_bytes_max: u64,
    intake: Intake,
    timeline: Timeline,
    sink: Sink,
    /// Bytes given out.
    bytes: u64,
}

#[derive(Debug)]
enum Sink {
    Wav { channels: u16 },
    Ogg(Box<OggSink>),
}

#[derive(Debug)]
struct OggSink {
    encoder: opus::Encoder,
    writer: OggWriter,
    /// Samples of the next frame, interleaved.
    frame: Vec<i16>,
    frame_samples: usize,
}

impl Recording {
    /// A recording of what comes by `intake`; the first bytes of its file go to `out`.
    ///
    /// # Errors
    /// A rate that the format does not have.
    pub fn new(settings: Settings, intake: Intake, out: &mut Vec<u8>) -> Result<Self, CodecError> {
        let before = out.len();
        let stereo = settings.format.is_stereo();
        let sink = match settings.format {
            RecordingFormat::WavMono | RecordingFormat::WavStereo => {
                let channels = 1 + u16::from(stereo);
                out.extend(wav::header(settings.rate_hz, channels, 0));
                Sink::Wav { channels }
            }
            RecordingFormat::OggMono | RecordingFormat::OggStereo => {
                Sink::Ogg(Box::new(OggSink::new(&settings, out)?))
            }
        };
        Ok(Self {
            duration_max: settings.duration_max,
            size_bytes_max: settings.size_bytes_max,
            timeline: Timeline::new(settings.rate_hz, stereo),
            settings,
            intake,
            sink,
            bytes: (out.len() - before) as u64,
        })
    }

    /// Takes what the worker wrote and gives the bytes that follow in the file. `Some` when the recording has come to its
    /// end; the file is then complete, but for the header of a WAV ([`Self::header`]).
    pub fn turn(&mut self, now: Instant, bench: &mut Workbench, out: &mut Vec<u8>) -> Option<Ended> {
        let timeline = &mut self.timeline;
        let (duration_max, size_max) = (&mut self.duration_max, &mut self.size_bytes_max);
        let settings = &self.settings;
        let closed = self.intake.drain(|record| match record {
            Record::Limits(duration_ms, bytes) => {
                *duration_max = settings.duration_max.min(Duration::from_millis(duration_ms));
                *size_max = settings.size_bytes_max.min(bytes);
            }
            other => timeline.take(other),
        });
        let until = closed.unwrap_or_else(|| self.intake.since_base(now.checked_sub(DELAY).unwrap_or(now)));
        let before = out.len();
        let limit = self.samples_max();
        let sink = &mut self.sink;
        self.timeline
            .advance(until, limit, bench, &mut |pcm| sink.write(pcm, out));
        self.bytes += (out.len() - before) as u64;
        let written = self.timeline.written();
        let full = match &self.sink {
            // Another page and the one that is being filled.
            Sink::Ogg(ogg) => {
                self.bytes + 2 * ogg.writer.waiting_bytes() as u64 + 1_024 > self.size_bytes_max
            }
            Sink::Wav { .. } => false,
        };
        let ended = if closed.is_some() && written < limit {
            Ended::Asked
        } else if written >= self.duration_samples() {
            Ended::Duration(self.duration_max.as_millis() as u64)
        } else if written >= limit || full {
            Ended::Size(self.size_bytes_max)
        } else {
            return None;
        };
        self.end(out);
        Some(ended)
    }

    /// Ends before its time: what was given out is all there is, but for the end of an Ogg stream.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.intake.abandon();
        let before = out.len();
        if let Sink::Ogg(ogg) = &mut self.sink {
            ogg.finish(
                self.timeline.written() * 48_000 / u64::from(self.settings.rate_hz),
                out,
            );
        }
        self.bytes += (out.len() - before) as u64;
    }

    /// What the file should begin with when `file_bytes` of it are written; `None` if that never changes.
    pub fn header(&self, file_bytes: u64) -> Option<[u8; HEADER_BYTES]> {
        match &self.sink {
            Sink::Wav { channels } => {
                let data = file_bytes.saturating_sub(HEADER_BYTES as u64);
                let frame = u64::from(*channels) * 2;
                Some(wav::header(
                    self.settings.rate_hz,
                    *channels,
                    data / frame * frame,
                ))
            }
            Sink::Ogg(_) => None,
        }
    }

    /// What it came to so far.
    pub fn report(&self) -> Report {
        Report {
            rate_hz: self.settings.rate_hz,
            samples: self.timeline.written(),
            legs: self.timeline.legs().cloned().collect(),
            pauses: self.timeline.pauses().to_vec(),
            gaps: self.timeline.gaps().to_vec(),
        }
    }

    fn duration_samples(&self) -> u64 {
        let samples = self.duration_max.as_secs_f64() * f64::from(self.settings.rate_hz);
        samples.min(i64::MAX as f64) as u64
    }

    /// Samples that the bounds allow.
    fn samples_max(&self) -> u64 {
        let by_size = match &self.sink {
            Sink::Wav { channels } => {
                // The format counts its bytes in 32 bits.
                let bytes = self.size_bytes_max.min(u64::from(u32::MAX) - 64);
                bytes.saturating_sub(HEADER_BYTES as u64) / (u64::from(*channels) * 2)
            }
            Sink::Ogg(_) => u64::MAX,
        };
        self.duration_samples().min(by_size)
    }
}

impl Sink {
    fn write(&mut self, pcm: &[i16], out: &mut Vec<u8>) {
        match self {
            Self::Wav { .. } => {
                let start = out.len();
                out.resize(start + pcm.len() * 2, 0);
                for (bytes, sample) in out[start..].as_chunks_mut::<2>().0.iter_mut().zip(pcm) {
                    *bytes = sample.to_le_bytes();
                }
            }
            Self::Ogg(ogg) => ogg.write(pcm, out),
        }
    }
}

impl OggSink {
    fn new(settings: &Settings, out: &mut Vec<u8>) -> Result<Self, CodecError> {
        let stereo = settings.format.is_stereo();
        let channels = 1 + u8::from(stereo);
        let opus = opus::Settings {
            complexity: OPUS_COMPLEXITY,
            bitrate_bps: OPUS_BITS_PER_SECOND * u32::from(channels),
            ..opus::Settings::default()
        };
        let mut encoder = if stereo {
            opus::Encoder::stereo(settings.rate_hz, &opus)?
        } else {
            opus::Encoder::new(settings.rate_hz, &opus)?
        };
        let lead_in = ogg::lead_in(&mut encoder);
        let comments: Vec<(&str, &str)> = settings.comments.iter().map(|(n, v)| (&**n, &**v)).collect();
        let writer = OggWriter::new(
            settings.serial,
            channels,
            settings.rate_hz,
            lead_in,
            &comments,
            out,
        );
        let frame_samples = (settings.rate_hz / 1_000 * ogg::FRAME_MS) as usize * usize::from(channels);
        Ok(Self {
            encoder,
            writer,
            frame: Vec::with_capacity(frame_samples),
            frame_samples,
        })
    }

    fn write(&mut self, mut pcm: &[i16], out: &mut Vec<u8>) {
        while !pcm.is_empty() {
            let room = (self.frame_samples - self.frame.len()).min(pcm.len());
            let (now, later) = pcm.split_at(room);
            self.frame.extend_from_slice(now);
            pcm = later;
            if self.frame.len() == self.frame_samples {
                self.encode(out);
            }
        }
    }

    fn encode(&mut self, out: &mut Vec<u8>) {
        let mut payload = [0; opus::FRAME_BYTES_MAX];
        // A frame of the right length is never refused; if it were, its time passes as an empty frame.
        let bytes = self.encoder.encode(&self.frame, &mut payload).unwrap_or(0);
        let payload = if bytes == 0 {
            &[0x08][..]
        } else {
            &payload[..bytes]
        };
        self.writer.packet(payload, out);
        self.frame.clear();
    }

    /// Encodes what is left, and what the encoder still holds back; `samples` of 48 kHz are heard.
    fn finish(&mut self, samples: u64, out: &mut Vec<u8>) {
        while !self.writer.holds(samples) {
            self.frame.resize(self.frame_samples, 0);
            self.encode(out);
        }
        self.writer.finish(samples, out);
    }
}
