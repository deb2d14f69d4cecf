//! Recorders, from the contract and back.

use std::time::Duration;

use proto::mediad::v1 as pb;

use super::request::{id, known};
use crate::{
    host::RecordingOutcome,
    limits,
    refusal::Refusal,
    spec::{RecorderSpec, RecordingFormat},
};

/// A recorder with every value checked; whether its file can be made is the host's to find out.
pub(super) fn recorder(subject: &str, given: &pb::Recorder) -> Result<RecorderSpec, Refusal> {
    let call = match &*given.call {
        "" => "".into(),
        call => id("call", call, limits::SESSION_ID_BYTES_MAX)?,
    };
    Ok(RecorderSpec {
        recording: id("recording", &given.recording, limits::SESSION_ID_BYTES_MAX)?,
        call,
        segment: given.segment,
        format: match known(subject, "format", given.format)? {
            pb::RecordingFormat::Unspecified | pb::RecordingFormat::WavMono => RecordingFormat::WavMono,
            pb::RecordingFormat::WavStereo => RecordingFormat::WavStereo,
            pb::RecordingFormat::OggOpus => RecordingFormat::OggMono,
            pb::RecordingFormat::OggOpusStereo => RecordingFormat::OggStereo,
        },
        paused: given.paused,
        duration_max: (given.duration_ms_max > 0).then(|| Duration::from_millis(given.duration_ms_max)),
        size_bytes_max: (given.size_bytes_max > 0).then_some(given.size_bytes_max),
    })
}

/// A recorder in the contract's words.
pub(super) fn described(spec: &RecorderSpec) -> pb::Recorder {
    let format = match spec.format {
        RecordingFormat::WavMono => pb::RecordingFormat::WavMono,
        RecordingFormat::WavStereo => pb::RecordingFormat::WavStereo,
        RecordingFormat::OggMono => pb::RecordingFormat::OggOpus,
        RecordingFormat::OggStereo => pb::RecordingFormat::OggOpusStereo,
    };
    pb::Recorder {
        recording: spec.recording.to_string(),
        call: spec.call.to_string(),
        segment: spec.segment,
        format: format.into(),
        paused: spec.paused,
        duration_ms_max: spec.duration_max.map_or(0, |max| max.as_millis() as u64),
        size_bytes_max: spec.size_bytes_max.unwrap_or(0),
    }
}

/// The end of a recording in the contract's words.
pub(super) fn finalised(outcome: &RecordingOutcome) -> pb::RecordingFinalised {
    pb::RecordingFinalised {
        recording: outcome.recording.to_string(),
        segment: outcome.segment,
        path: outcome.path.to_string(),
        duration_ms: outcome.duration_ms,
        size_bytes: outcome.size_bytes,
        sha256: outcome.sha256.to_string(),
        repaired: outcome.repaired,
        problem: outcome.problem.to_string(),
    }
}
