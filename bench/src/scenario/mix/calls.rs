//! Many small sessions at once: calls that are recorded left and right, and callers who wait with music.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use proto::mediad::v1 as api;
use serde_json::Value;

use super::{G711, HEARD_MIN, LOSS_MAX, LOUD, MixLab, TONES_HZ, UNHEARD_MAX, endpoint, level_of, transport};
use crate::load::members::{Member, MembersReport};
use crate::peer::mediad::Mediad;

/// Calls that are recorded, in this order, until they are too many.
const RECORDED_CALLS: [usize; 9] = [500, 600, 700, 800, 900, 1_000, 1_500, 2_000, 2_500];
const HELD_CALLERS: usize = 2_000;
const RATE_HZ: u32 = 8_000;
/// Before the samples of a recording.
const WAV_HEADER_BYTES: usize = 44;
/// So long the files of all recordings may take to be sealed.
const SEALED_WITHIN: Duration = Duration::from_secs(120);
/// Above what else the server does on its core, so that a long turn of the recorder holds no packet up.
const WORKER_PRIORITY: &str = "workers.realtime_priority=15";
/// Leaves room for the files of recordings under the usual limit of open files.
const SOCKETS: &str = "io.sockets_max=8192";

impl MixLab {
    /// The most calls of which nothing is lost while all are recorded in stereo.
    pub(super) fn recordings(&mut self) -> anyhow::Result<()> {
        let tried = if self.quick {
            &RECORDED_CALLS[..1]
        } else {
            &RECORDED_CALLS[..]
        };
        let mut held: Option<(usize, MembersReport)> = None;
        for calls in tried {
            let outcome = self.undisturbed(|mix| {
                let shelf = mix.directory("recordings")?;
                let outcome = mix.record(*calls, &shelf);
                fs::remove_dir_all(&shelf).with_context(|| shelf.display().to_string())?;
                outcome
            });
            match outcome? {
                Some(report) => held = Some((*calls, report)),
                None => break,
            }
        }
        let (calls, report) = held.with_context(|| format!("not even {} recordings", tried[0]))?;
        self.book("stereo_recordings", "calls", calls as f64);
        self.remark("core", report.core);
        self.remark("late p99 ms", report.late_us.p99 / 1e3);
        Ok(())
    }

    /// `None` if that many are too many.
    fn record(&mut self, calls: usize, shelf: &Path) -> anyhow::Result<Option<MembersReport>> {
        let server = self.lab.start_mediad_with(&[
            format!("recordings.directory={}", shelf.display()),
            WORKER_PRIORITY.into(),
            SOCKETS.into(),
        ])?;
        let mut members = Vec::new();
        for call in 0..calls {
            let locals = server
                .apply(&format!("call-{call}"), self.recorded_call(call))
                .with_context(|| format!("recording {call} of {calls}"))?;
            members.extend((0..).zip(["a", "b"]).map(|(tone, id)| Member {
                at: locals[id],
                says: Some(tone),
                hears: true,
                kept: false,
            }));
        }
        let window = self.window();
        let report = self.load_for(&format!("recordings {calls}"), &server, members, G711, window)?;
        for call in 0..calls {
            server.end(&format!("call-{call}"))?;
        }
        let began = Instant::now();
        let mut lost = 0;
        for call in 0..calls {
            match lost_in(shelf, call, began)? {
                Ok(missing) => lost += missing,
                Err(problem) => {
                    eprintln!("{calls} recordings: call {call}: {problem}");
                    return Ok(None);
                }
            }
        }
        if lost > 0 || report.loss() >= LOSS_MAX {
            eprintln!("{calls} recordings: {lost} packets were not recorded");
            return Ok(None);
        }
        for call in [0, calls / 2, calls - 1] {
            judge(&shelf.join(format!("call-{call}.0.wav")), window)?;
        }
        Ok(Some(report))
    }

    /// Two who hear each other, caller left, agent right.
    fn recorded_call(&self, call: usize) -> api::ApplyRequest {
        let recorder = api::Recorder {
            recording: format!("call-{call}"),
            call: format!("call-{call}"),
            format: api::RecordingFormat::WavStereo.into(),
            ..api::Recorder::default()
        };
        let mut request = self.parties(&["a", "b"]);
        request.put_nodes.push(api::Node {
            id: "rec".into(),
            kind: Some(api::node::Kind::Recorder(recorder)),
        });
        request.put_edges = [("a", "b", 0), ("b", "a", 0), ("a", "rec", 0), ("b", "rec", 1)]
            .map(|(from, to, channel)| api::Edge {
                from: from.into(),
                to: to.into(),
                channel,
                ..api::Edge::default()
            })
            .into();
        request
    }

    /// CPU of callers who each wait in a session of their own, send silence and hear the one music.
    pub(super) fn held(&mut self) -> anyhow::Result<()> {
        let prompts = self.directory("prompts")?;
        let music: Vec<i16> = (0..2 * RATE_HZ)
            .map(|n| (f64::from(n) * TONES_HZ[0] / f64::from(RATE_HZ) * std::f64::consts::TAU).sin())
            .map(|level| (level * LOUD) as i16)
            .collect();
        fs::write(prompts.join("music.wav"), wav(&music))?;
        let setting = format!("media.prompts={}", prompts.display());
        let callers = if self.quick {
            HELD_CALLERS / 10
        } else {
            HELD_CALLERS
        };
        let report = self.undisturbed(|mix| {
            let server = mix.lab.start_mediad_with(std::slice::from_ref(&setting))?;
            let report = mix.hold(&server, callers)?;
            Ok((report.loss() < LOSS_MAX).then_some(report))
        });
        fs::remove_dir_all(&prompts).with_context(|| prompts.display().to_string())?;
        let Some(report) = report? else {
            eprintln!("{callers} held callers are too many");
            return Ok(());
        };
        for payloads in report.heard.values() {
            let payload = payloads.concat();
            let mut heard = vec![0; payload.len()];
            codecs::g711::decode_ulaw(&payload, &mut heard);
            let level = level_of(&heard, TONES_HZ[0], RATE_HZ);
            anyhow::ensure!(
                level > HEARD_MIN,
                "a held caller hears the music at {level:.0} of {LOUD}"
            );
        }
        self.book("held_callers_2000_core", "core", report.core);
        self.remark("late p99 ms", report.late_us.p99 / 1e3);
        Ok(())
    }

    fn hold(&mut self, server: &Mediad, callers: usize) -> anyhow::Result<MembersReport> {
        let mut members = Vec::new();
        for caller in 0..callers {
            let mut request = self.parties(&["a"]);
            request.put_nodes.push(api::Node {
                id: "music".into(),
                kind: Some(api::node::Kind::Player(api::Player {
                    items: vec![api::PlayItem {
                        source: Some(api::play_item::Source::Prompt("music.wav".into())),
                        start_ms: 0,
                    }],
                    repeat: Some(0),
                    shared_group: "music".into(),
                    ..api::Player::default()
                })),
            });
            request.put_edges.push(api::Edge {
                from: "music".into(),
                to: "a".into(),
                ..api::Edge::default()
            });
            let locals = server
                .apply(&format!("held-{caller}"), request)
                .with_context(|| format!("caller {caller}"))?;
            members.push(Member {
                at: locals["a"],
                says: Some(TONES_HZ.len()),
                hears: true,
                kept: [0, callers - 1].contains(&caller),
            });
        }
        self.load(&format!("held {callers}"), server, members, G711)
    }

    fn parties(&self, ids: &[&str]) -> api::ApplyRequest {
        let to = self.hall.address();
        api::ApplyRequest {
            put_transports: ids.iter().map(|id| transport(id, to)).collect(),
            put_nodes: ids.iter().map(|id| endpoint(id, G711)).collect(),
            ..api::ApplyRequest::default()
        }
    }

    /// An empty directory of this run.
    fn directory(&self, what: &str) -> anyhow::Result<PathBuf> {
        let path = self.lab.directory().join(what);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// Waits for a recording to be sealed; gives how many packets are missing in it, or what else went wrong with it.
fn lost_in(shelf: &Path, call: usize, began: Instant) -> anyhow::Result<Result<u64, String>> {
    let path = shelf.join(format!("call-{call}.0.json"));
    loop {
        let sidecar: Value =
            serde_json::from_slice(&fs::read(&path).with_context(|| path.display().to_string())?)?;
        if sidecar["state"] == "finalised" {
            let problem = sidecar["problem"].as_str().unwrap_or_default();
            if !problem.is_empty() {
                return Ok(Err(problem.into()));
            }
            let gaps = sidecar["gaps"].as_array().context("no gaps in a sidecar")?;
            return Ok(Ok(gaps.iter().filter_map(|gap| gap["lost"].as_u64()).sum()));
        }
        anyhow::ensure!(
            began.elapsed() < SEALED_WITHIN,
            "{} is never finalised",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Each party is in its channel and there alone.
fn judge(path: &Path, window: Duration) -> anyhow::Result<()> {
    let file = fs::read(path).with_context(|| path.display().to_string())?;
    let samples: Vec<[i16; 2]> = file[WAV_HEADER_BYTES..]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|[a, b, c, d]| [i16::from_le_bytes([*a, *b]), i16::from_le_bytes([*c, *d])])
        .collect();
    let spoken = window.as_millis() as usize * (RATE_HZ / 1_000) as usize;
    anyhow::ensure!(
        samples.len() >= spoken,
        "{}: {} samples of {spoken}",
        path.display(),
        samples.len()
    );
    // The last half second before the callers fell silent; a second of silence may follow.
    let end = samples
        .iter()
        .rposition(|both| both[0].unsigned_abs() > 1_000)
        .context("nothing recorded")?;
    let settled = &samples[end.saturating_sub(RATE_HZ as usize / 2)..end];
    for channel in 0..2 {
        let heard: Vec<i16> = settled.iter().map(|both| both[channel]).collect();
        for (tone, hz) in TONES_HZ.iter().enumerate() {
            let level = level_of(&heard, *hz, RATE_HZ);
            let right = if tone == channel {
                level > LOUD * 0.8
            } else {
                level < UNHEARD_MAX
            };
            anyhow::ensure!(
                right,
                "{}: channel {channel} has {hz} Hz at {level:.0} of {LOUD}",
                path.display()
            );
        }
    }
    Ok(())
}

/// A mono file of 16-bit samples.
fn wav(samples: &[i16]) -> Vec<u8> {
    let bytes = 2 * samples.len() as u32;
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((36 + bytes).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend([1, 0, 1, 0]);
    file.extend(RATE_HZ.to_le_bytes());
    file.extend((2 * RATE_HZ).to_le_bytes());
    file.extend([2, 0, 16, 0]);
    file.extend(b"data");
    file.extend(bytes.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}
