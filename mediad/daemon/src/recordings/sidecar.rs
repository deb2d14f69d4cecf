//! The JSON file beside a recording: what it is from the first moment, what became of it at the end.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use media_engine::{host::RecordingWant, recording::Report, spec::RecordingFormat};
use serde::{Deserialize, Serialize};

/// How far a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It is being written, or was when the host died.
    Recording,
    /// It ended and its file is whole.
    Finalised,
    /// Its file was repaired after the host died.
    Repaired,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(crate) struct Sidecar {
    pub(crate) recording: String,
    pub(crate) segment: u32,
    pub(crate) call: String,
    pub(crate) state: State,
    /// The audio file, beside this one.
    pub(crate) file: String,
    pub(crate) format: Format,
    pub(crate) sample_rate_hz: u32,
    pub(crate) channels: u8,
    /// UTC, RFC 3339.
    pub(crate) started: String,
    pub(crate) started_unix_us: u64,
    pub(crate) session: String,
    pub(crate) node: String,
    pub(crate) controller: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) duration_ms: u64,
    pub(crate) size_bytes: u64,
    /// Of the audio file; empty until the end.
    pub(crate) sha256: String,
    /// Why it ended early, or is not whole; empty if all went well.
    pub(crate) problem: String,
    pub(crate) acknowledged: bool,
    pub(crate) legs: Vec<Leg>,
    /// Audio that the host failed to record.
    pub(crate) gaps: Vec<Stretch>,
    /// Audio that was not to be recorded.
    pub(crate) pauses: Vec<Stretch>,
    /// Unset: everyone who reads the file hears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<Encryption>,
}

/// How the audio file is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Encryption {
    pub(crate) format: String,
    /// Public keys of who can read it.
    pub(crate) recipients: Vec<String>,
    /// The file has its end. One without it is opened up to where the host died, and reported as cut off.
    pub(crate) sealed: bool,
    /// A second file, encrypted in the same way: what follows after the first, which has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tail: Option<String>,
    /// How to read it.
    pub(crate) hint: String,
}

/// What the audio file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    WavMono,
    WavStereo,
    OggOpusMono,
    OggOpusStereo,
}

/// Somebody who is heard.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(crate) struct Leg {
    pub(crate) node: String,
    /// 0 left, 1 right.
    pub(crate) channel: u8,
    /// Where its first sound is; unset when it never sent any.
    pub(crate) first_ms: Option<u64>,
    pub(crate) packets: u64,
    pub(crate) late_packets: u64,
    pub(crate) concealed_ms: u64,
    /// Times its stream began anew: another SSRC, a jump of its timestamps.
    pub(crate) restarts: u64,
}

/// A part of the recording.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Stretch {
    pub(crate) from_ms: u64,
    /// Unset: to the end.
    pub(crate) to_ms: Option<u64>,
    /// Packets and frames that were lost in it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) lost: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Format {
    pub(crate) fn of(format: RecordingFormat) -> Self {
        match format {
            RecordingFormat::WavMono => Self::WavMono,
            RecordingFormat::WavStereo => Self::WavStereo,
            RecordingFormat::OggMono => Self::OggOpusMono,
            RecordingFormat::OggStereo => Self::OggOpusStereo,
        }
    }

    pub(crate) fn is_wav(self) -> bool {
        matches!(self, Self::WavMono | Self::WavStereo)
    }

    /// The file name's end.
    pub(crate) fn extension(self, encrypted: bool) -> &'static str {
        match (self.is_wav(), encrypted) {
            (true, false) => "wav",
            (false, false) => "opus",
            (true, true) => "wav.age",
            (false, true) => "opus.age",
        }
    }
}

/// What [`Format::extension`] can be.
pub(crate) const EXTENSIONS: [&str; 4] = ["wav", "opus", "wav.age", "opus.age"];

impl Encryption {
    /// Of a file that begins now.
    pub(crate) fn new(recipients: &[String], file: &str) -> Self {
        let plain = file.trim_end_matches(".age");
        Self {
            format: super::age::VERSION.into(),
            recipients: recipients.to_vec(),
            sealed: false,
            tail: None,
            hint: format!("age --decrypt --identity KEYFILE {file} > {plain}"),
        }
    }

    /// The file has no end, and what should follow is in `tail`.
    pub(crate) fn has_tail(&mut self, file: &str, tail: &str) {
        let plain = file.trim_end_matches(".age");
        let open = "age --decrypt --identity KEYFILE";
        self.tail = Some(tail.into());
        self.hint =
            format!("({open} {file}; {open} {tail}) > {plain}; the first says that its end is missing");
    }
}

impl Sidecar {
    /// Of a recording that begins now.
    pub(crate) fn new(want: &RecordingWant, sample_rate_hz: u32, file: String, now: SystemTime) -> Self {
        let started_unix_us = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as u64);
        let labels = want
            .labels
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Self {
            recording: want.spec.recording.to_string(),
            segment: want.spec.segment,
            call: want.spec.call.to_string(),
            state: State::Recording,
            file,
            format: Format::of(want.spec.format),
            sample_rate_hz,
            channels: 1 + u8::from(want.spec.format.is_stereo()),
            started: rfc3339(started_unix_us),
            started_unix_us,
            session: want.session.to_string(),
            node: want.node.to_string(),
            controller: want.controller.to_string(),
            labels: labels.collect(),
            duration_ms: 0,
            size_bytes: 0,
            sha256: String::new(),
            problem: String::new(),
            acknowledged: false,
            legs: Vec::new(),
            gaps: Vec::new(),
            pauses: Vec::new(),
            encryption: None,
        }
    }

    /// The audio file's end.
    pub(crate) fn extension(&self) -> &'static str {
        self.format.extension(self.encryption.is_some())
    }

    /// Takes over what the recording came to so far.
    pub(crate) fn update(&mut self, report: &Report) {
        let ms = |samples: u64| samples * 1_000 / u64::from(report.rate_hz);
        let leg = |leg: &media_engine::recording::LegReport| Leg {
            node: leg.node.clone(),
            channel: u8::from(leg.right),
            first_ms: leg.first_sample.map(ms),
            packets: leg.packets,
            late_packets: leg.late,
            concealed_ms: ms(leg.concealed_samples),
            restarts: leg.restarts,
        };
        let stretch = |span: &media_engine::recording::Span| Stretch {
            from_ms: ms(span.from),
            to_ms: span.to.map(ms),
            lost: span.lost,
        };
        self.legs = report.legs.iter().map(leg).collect();
        self.gaps = report.gaps.iter().map(stretch).collect();
        self.pauses = report.pauses.iter().map(stretch).collect();
        self.duration_ms = report.duration_ms();
    }

    /// As the file holds it.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("strings and numbers are always JSON");
        text.push(b'\n');
        text
    }
}

/// UTC to the millisecond.
fn rfc3339(unix_us: u64) -> String {
    let (seconds, ms) = (unix_us / 1_000_000, unix_us / 1_000 % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of the year 0, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month, year) = (
        of_year - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
        year + era * 400 + u64::from(month >= 10),
    );
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_790_000_000_123_456), "2026-09-21T14:13:20.123Z");
        assert_eq!(rfc3339(4_102_444_799_999_000), "2099-12-31T23:59:59.999Z");
    }
}
