//! WAV files: the music is written, recordings are read.

use std::{f64::consts::TAU, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use demo::talk::{self, AMPLITUDE, RATE_HZ};
use sha2::{Digest as _, Sha256};

/// One second of a tone, as loud as what phones say, which repeats without a seam: 16-bit PCM, one channel.
pub(crate) fn write_tone(path: &Path, hz: f64) -> Result<()> {
    let samples =
        (0..RATE_HZ).map(|at| (AMPLITUDE * (TAU * hz * f64::from(at) / f64::from(RATE_HZ)).sin()) as i16);
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let length = u32::try_from(data.len())?;
    let mut file = Vec::with_capacity(44 + data.len());
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    for half in [1_u16, 1] {
        file.extend(half.to_le_bytes());
    }
    file.extend(RATE_HZ.to_le_bytes());
    file.extend((RATE_HZ * 2).to_le_bytes());
    for half in [2_u16, 16] {
        file.extend(half.to_le_bytes());
    }
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(data);
    fs::write(path, file).with_context(|| path.display().to_string())
}

/// A stereo recording.
#[derive(Debug)]
pub(crate) struct Recording {
    channels: [Vec<i16>; 2],
    rate_hz: u32,
    /// Of the file, in hexadecimal.
    pub(crate) sha256: String,
}

impl Recording {
    /// Reads a WAV file of two channels of 16-bit PCM.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = fs::read(path).with_context(|| path.display().to_string())?;
        Self::parse(&file).with_context(|| path.display().to_string())
    }

    fn parse(file: &[u8]) -> Result<Self> {
        ensure!(
            file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WAVE"),
            "is no WAV file"
        );
        let (mut rate_hz, mut samples) = (0, None);
        let mut rest = &file[12..];
        while let Some((head, after)) = rest.split_at_checked(8) {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let chunk = after.get(..length).context("is cut off")?;
            match &head[..4] {
                b"fmt " => {
                    ensure!(
                        chunk.len() >= 16 && chunk[2..4] == [2, 0] && chunk[14..16] == [16, 0],
                        "is not of two channels of 16 bits"
                    );
                    rate_hz = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
                }
                b"data" => samples = Some(chunk),
                _ => {}
            }
            rest = after.get(length + length % 2..).unwrap_or_default();
        }
        let samples = samples.context("has no data")?;
        let channel = |at: usize| {
            let frames = samples.chunks_exact(4);
            frames
                .map(|frame| i16::from_le_bytes([frame[at], frame[at + 1]]))
                .collect()
        };
        ensure!(rate_hz > 0, "has no format");
        let digest = Sha256::digest(file);
        Ok(Self {
            channels: [channel(0), channel(2)],
            rate_hz,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.channels[0].len() as f64 / f64::from(self.rate_hz)
    }

    /// Level of a tone in a channel, dB below a full-scale sine.
    pub(crate) fn level_db(&self, channel: usize, hz: f64) -> f64 {
        talk::level_db(&self.channels[channel], hz, self.rate_hz)
    }
}
