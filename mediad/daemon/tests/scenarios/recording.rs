//! What the scenarios of recordings share: a call with a recorder, a conversation in real time, and what a file holds.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use proto::mediad::v1::{self as pb, event::Kind, files_client::FilesClient, media_client::MediaClient};
use tonic::{Streaming, transport::Channel};

use crate::support::{Daemon, Party, call, edge, next_event, owner, ports, scratch};

/// The two tones.
pub(crate) const LEFT_HZ: f64 = 440.0;
pub(crate) const RIGHT_HZ: f64 = 1_000.0;

/// A directory for recordings, and the settings of a host that keeps them there.
pub(crate) fn shelf(name: &str) -> (PathBuf, Vec<String>) {
    let directory = scratch(name);
    let settings = vec![
        format!("recordings.directory={}", directory.display()),
        "recordings.free_bytes_min=1000".into(),
    ];
    (directory, settings)
}

pub(crate) fn start(settings: &[String]) -> Daemon {
    Daemon::start(&settings.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A call of two parties, recorded left and right.
pub(crate) struct Recorded {
    pub(crate) left: Party,
    pub(crate) right: Party,
    pub(crate) at: Vec<std::net::SocketAddr>,
}

pub(crate) fn recorder(recording: &str, segment: u32, format: pb::RecordingFormat) -> pb::Recorder {
    pb::Recorder {
        recording: recording.into(),
        call: "call-7".into(),
        segment,
        format: format.into(),
        ..Default::default()
    }
}

pub(crate) fn node(recorder: pb::Recorder) -> pb::Node {
    pb::Node {
        id: "rec".into(),
        kind: Some(pb::node::Kind::Recorder(recorder)),
    }
}

/// Adds a recorder of both parties to a request.
pub(crate) fn with_recorder(mut request: pb::ApplyRequest, recorder: pb::Recorder) -> pb::ApplyRequest {
    request.put_nodes.push(node(recorder));
    request.put_edges.push(edge("a", "rec"));
    request.put_edges.push(pb::Edge {
        channel: 1,
        ..edge("b", "rec")
    });
    request
}

/// A change of the session's recorder alone.
pub(crate) fn change(session: &str, recorder: pb::Recorder) -> pb::ApplyRequest {
    pb::ApplyRequest {
        session: session.into(),
        owner: owner(1),
        put_nodes: vec![node(recorder)],
        ..Default::default()
    }
}

pub(crate) fn stop(session: &str) -> pb::ApplyRequest {
    pb::ApplyRequest {
        session: session.into(),
        owner: owner(1),
        remove_nodes: vec!["rec".into()],
        ..Default::default()
    }
}

impl Recorded {
    pub(crate) async fn begin(
        media: &mut MediaClient<Channel>,
        session: &str,
        recorder: pb::Recorder,
    ) -> Self {
        let (left, right) = (Party::new(LEFT_HZ), Party::new(RIGHT_HZ));
        let request = with_recorder(call(session, Some(left.addr()), Some(right.addr())), recorder);
        let reply = media.apply(request).await.unwrap().into_inner();
        Self {
            left,
            right,
            at: ports(&reply),
        }
    }

    /// Both talk for `packets` of 20 ms each, in time.
    pub(crate) fn talk(&mut self, packets: u32) {
        let start = Instant::now();
        for packet in 0..packets {
            let due = start + Duration::from_millis(20) * packet;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.left.say(self.at[0]);
            self.right.say(self.at[1]);
            self.left.listen();
            self.right.listen();
        }
    }

    /// Each heard the other, and nothing was held up or changed on the way.
    pub(crate) fn assert_relayed(&self) {
        assert!(self.left.share(RIGHT_HZ) > 0.98 && self.right.share(LEFT_HZ) > 0.98);
    }
}

/// The next end of a recording that is told.
pub(crate) async fn finalised(watch: &mut Streaming<pb::WatchReply>) -> pb::RecordingFinalised {
    let event = next_event(watch, |kind| matches!(kind, Kind::RecordingFinalised(_))).await;
    match event.kind {
        Some(Kind::RecordingFinalised(finalised)) => finalised,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn watch(media: &mut MediaClient<Channel>) -> Streaming<pb::WatchReply> {
    let request = pb::WatchRequest::default();
    media.watch(request).await.unwrap().into_inner()
}

/// A Watch from the host's first event on, that also sees what happened before it was opened.
pub(crate) async fn watch_from_start(daemon: &Daemon) -> Streaming<pb::WatchReply> {
    let request = pb::WatchRequest {
        boot_id: daemon.boot_id.clone(),
        after: 0,
        ..Default::default()
    };
    daemon.media().await.watch(request).await.unwrap().into_inner()
}

pub(crate) async fn files(daemon: &Daemon) -> FilesClient<Channel> {
    let channel = Channel::from_shared(format!("http://{}", daemon.control)).unwrap();
    FilesClient::new(channel.connect().await.unwrap())
}

/// Left and right of a WAV file whose header says `bytes` of samples; the header may say less than there is.
pub(crate) fn wav(path: &Path) -> (Vec<i16>, Vec<i16>, u32) {
    let file = std::fs::read(path).unwrap();
    assert_eq!(
        (&file[..4], &file[8..16], &file[36..40]),
        (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..])
    );
    assert_eq!(file[22], 2, "stereo");
    let told = u32::from_le_bytes(file[40..44].try_into().unwrap());
    let samples = &file[44..44 + told as usize];
    let (frames, rest) = samples.as_chunks::<4>();
    assert!(rest.is_empty(), "whole samples");
    let side = |at: usize| {
        frames
            .iter()
            .map(|frame| i16::from_le_bytes([frame[at], frame[at + 1]]))
            .collect()
    };
    (side(0), side(2), told)
}

/// The sidecar of an audio file.
pub(crate) fn sidecar(audio: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(audio.with_extension("json")).unwrap()).unwrap()
}
