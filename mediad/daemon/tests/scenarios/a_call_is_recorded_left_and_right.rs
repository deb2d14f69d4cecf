//! A call is recorded beside its relay: each party in its channel, a pause masked, the sidecar there from the first moment, the file
//! fetched by ranges, listed, acknowledged and deleted over the Files service.

use std::path::Path;

use proto::mediad::v1 as pb;
use tonic::Code;

use crate::{
    recording::{
        LEFT_HZ, RIGHT_HZ, Recorded, change, files, finalised, recorder, shelf, sidecar, start, stop, watch,
        wav, with_recorder,
    },
    support::{Daemon, PATIENCE, call, error, may_share, owner, share},
};

#[tokio::test]
async fn over_epoll() {
    recorded("mmsg").await;
}

#[tokio::test]
async fn over_io_uring() {
    recorded("uring").await;
}

#[tokio::test]
async fn over_shared_sockets() {
    if may_share() {
        recorded("shared").await;
    }
}

async fn recorded(backend: &str) {
    let (directory, mut settings) = shelf(&format!("recorded-{backend}"));
    settings.push(format!("io.backend={backend}"));
    let daemon = start(&settings);
    let mut media = daemon.media().await;
    let mut events = watch(&mut media).await;
    let stereo = recorder("call 7/a", 0, pb::RecordingFormat::WavStereo);
    let mut call = Recorded::begin(&mut media, "s", stereo.clone()).await;

    // The sidecar is there before any audio.
    let audio = directory.join("call%207%2Fa.0.wav");
    let before = sidecar(&audio);
    assert_eq!(
        (&before["state"], &before["call"]),
        (&"recording".into(), &"call-7".into())
    );
    assert_eq!(
        (&before["recording"], &before["session"]),
        (&"call 7/a".into(), &"s".into())
    );

    call.talk(75);
    let paused = pb::Recorder {
        paused: true,
        ..stereo.clone()
    };
    media.apply(change("s", paused)).await.unwrap();
    call.talk(50);
    media.apply(change("s", stereo.clone())).await.unwrap();
    call.talk(75);

    // The same segment again is refused, and the call goes on.
    let again = with_recorder(self::call("other", None, None), stereo.clone());
    let refused = error(&media.apply(again).await.unwrap_err());
    assert_eq!(
        (refused.code, refused.subject.as_str()),
        (Code::FailedPrecondition as i32, "node:rec")
    );
    for part in ["call 7/a", "segment 0", "exists already", "next segment number"] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    assert_eq!(
        std::fs::read_dir(&directory).unwrap().count(),
        3,
        "audio, sidecar, .pending"
    );

    media.apply(stop("s")).await.unwrap();
    let told = finalised(&mut events).await;
    assert_eq!(
        (told.recording.as_str(), told.segment, told.repaired),
        ("call 7/a", 0, false)
    );
    assert_eq!(
        (Path::new(&told.path), told.problem.as_str()),
        (audio.as_path(), "")
    );
    call.assert_relayed();
    check_audio(&audio, &told);
    check_files(&daemon, &told).await;

    // The next segment of the same recording, in Ogg Opus, on the same node.
    let edit = pb::ApplyRequest {
        session: "s".into(),
        owner: owner(1),
        ..Default::default()
    };
    let request = with_recorder(edit, recorder("call 7/a", 1, pb::RecordingFormat::OggOpusStereo));
    media.apply(request).await.unwrap();
    call.talk(50);
    let end = pb::DeleteRequest {
        session: "s".into(),
        owner: owner(1),
    };
    media.delete(end).await.unwrap();
    let told = finalised(&mut events).await;
    assert_eq!((told.segment, told.problem.as_str()), (1, ""));
    assert!(
        told.path.ends_with(".1.opus") && (900..8_000).contains(&told.duration_ms),
        "{told:?}"
    );
    // It is counted right after it was told.
    let since = std::time::Instant::now();
    let page = loop {
        let (_, page) = daemon.page("/metrics");
        if page.lines().any(|line| line == "mediad_recordings 0") || since.elapsed() > PATIENCE {
            break page;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    for line in [
        "mediad_recordings 0",
        "mediad_recordings_ended_total{how=\"finalised\"} 2",
        "mediad_recording_lost_total 0",
        "mediad_recording_errors_total 0",
    ] {
        assert!(
            page.lines().any(|have| have == line),
            "{line} is missing in\n{page}"
        );
    }
    drop(daemon);
    std::fs::remove_dir_all(&directory).unwrap();
}

fn check_audio(audio: &Path, told: &pb::RecordingFinalised) {
    let (left, right, _) = wav(audio);
    assert!(left.len() >= 8_000 * 39 / 10, "{} samples", left.len());
    assert_eq!(told.duration_ms, left.len() as u64 / 8);
    assert_eq!(told.size_bytes, 44 + left.len() as u64 * 4);
    let sidecar = sidecar(audio);
    assert_eq!(sidecar["state"], "finalised");
    assert_eq!(
        (&sidecar["sha256"], &sidecar["duration_ms"]),
        (&told.sha256.clone().into(), &told.duration_ms.into())
    );
    assert_eq!(
        (
            sidecar["legs"][0]["node"].as_str(),
            sidecar["legs"][1]["node"].as_str()
        ),
        (Some("a"), Some("b"))
    );
    assert_eq!(
        (&sidecar["legs"][0]["channel"], &sidecar["legs"][1]["channel"]),
        (&0.into(), &1.into())
    );
    assert_eq!(sidecar["gaps"].as_array().unwrap().len(), 0);
    let pause = &sidecar["pauses"][0];
    let sample = |field: &str| pause[field].as_u64().unwrap() as usize * 8;
    let (from, to) = (sample("from_ms"), sample("to_ms"));
    assert!(to - from >= 7_200, "{pause}");
    assert!(
        left[from + 8..to - 8]
            .iter()
            .chain(&right[from + 8..to - 8])
            .all(|sample| *sample == 0)
    );
    for (pcm, own, other) in [(&left, LEFT_HZ, RIGHT_HZ), (&right, RIGHT_HZ, LEFT_HZ)] {
        for piece in [&pcm[2_400..from - 800], &pcm[to + 800..pcm.len() - 2_400]] {
            let (heard, foreign) = (share(piece, own), share(piece, other));
            assert!(
                heard > 0.9 && foreign < 0.01,
                "{heard} of its own, {foreign} of the other"
            );
            let peak = piece.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
            assert!((7_500..8_500).contains(&peak), "at its level: {peak}");
        }
    }
}

async fn check_files(daemon: &Daemon, told: &pb::RecordingFinalised) {
    let mut files = files(daemon).await;
    let recordings = pb::FileListRequest {
        kind: pb::FileKind::Recording.into(),
        ..Default::default()
    };
    let list = files.list(recordings.clone()).await.unwrap().into_inner();
    assert_eq!((list.files.len(), list.next.as_str()), (1, ""));
    let name = list.files[0].name.clone();
    assert_eq!(
        (list.files[0].duration_ms, list.files[0].size_bytes),
        (told.duration_ms, told.size_bytes)
    );

    let fetch = |name: &str, offset, length| pb::FetchRequest {
        kind: pb::FileKind::Recording.into(),
        name: name.into(),
        offset,
        length,
    };
    let mut whole = Vec::new();
    let mut parts = files.fetch(fetch(&told.path, 0, 0)).await.unwrap().into_inner();
    while let Some(part) = parts.message().await.unwrap() {
        assert_eq!(
            (part.offset, part.total_bytes),
            (whole.len() as u64, told.size_bytes)
        );
        whole.extend(part.data);
    }
    assert_eq!(whole, std::fs::read(&told.path).unwrap());
    let mut range = files.fetch(fetch(&name, 40, 8)).await.unwrap().into_inner();
    let part = range.message().await.unwrap().unwrap();
    assert_eq!(part.data, whole[40..48]);
    assert!(range.message().await.unwrap().is_none());
    for (name, offset, code) in [
        ("../../etc/passwd.wav", 0, Code::NotFound),
        ("gone.0.wav", 0, Code::NotFound),
        (name.as_str(), told.size_bytes + 1, Code::OutOfRange),
    ] {
        assert_eq!(
            files.fetch(fetch(name, offset, 0)).await.unwrap_err().code(),
            code,
            "{name}"
        );
    }

    let acknowledge = |segment| pb::AcknowledgeRequest {
        recording: told.recording.clone(),
        segment,
    };
    files.acknowledge(acknowledge(0)).await.unwrap();
    files.acknowledge(acknowledge(0)).await.unwrap();
    assert_eq!(
        files.acknowledge(acknowledge(9)).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(sidecar(Path::new(&told.path))["acknowledged"], true);
    let delete = pb::FileDeleteRequest {
        kind: pb::FileKind::Recording.into(),
        name,
    };
    files.delete(delete.clone()).await.unwrap();
    assert_eq!(files.delete(delete).await.unwrap_err().code(), Code::NotFound);
    assert!(
        files
            .list(recordings)
            .await
            .unwrap()
            .into_inner()
            .files
            .is_empty()
    );
}
