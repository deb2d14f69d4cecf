//! kill -9 in the middle of a recording: the file plays as it is, the next start repairs and tells it, and every start tells it
//! again until somebody acknowledges; so does its controller's coming back. SIGTERM ends recordings in order.

use std::{path::Path, time::Duration};

use proto::mediad::v1 as pb;

use crate::{
    control::Stream,
    recording::{
        LEFT_HZ, RIGHT_HZ, Recorded, files, finalised, recorder, shelf, sidecar, start, stop, watch,
        watch_from_start, wav,
    },
    support::{CONTROLLER, Daemon, PATIENCE, share},
};

/// Waits until a file has `bytes`.
async fn grows(path: &Path, bytes: u64) {
    let grown = async {
        while !std::fs::metadata(path).is_ok_and(|found| found.len() >= bytes) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, grown)
        .await
        .expect("audio is written while the call goes on");
}

#[tokio::test]
async fn whatever_was_written_is_kept_and_told_until_acknowledged() {
    let (directory, settings) = shelf("killed");
    let mut daemon = start(&settings);
    let mut media = daemon.media().await;
    let mut wav_call =
        Recorded::begin(&mut media, "w", recorder("w", 3, pb::RecordingFormat::WavStereo)).await;
    let mut ogg_call = Recorded::begin(&mut media, "o", recorder("o", 0, pb::RecordingFormat::OggOpus)).await;
    for _ in 0..8 {
        wav_call.talk(25);
        ogg_call.talk(25);
    }
    let (audio, ogg) = (directory.join("w.3.wav"), directory.join("o.0.opus"));
    grows(&audio, 44 + 64_000).await;
    grows(&ogg, 1_000).await;
    daemon.kill();
    drop(daemon);

    // As it stands: a header that promises no more than there is.
    let (left, ..) = wav(&audio);
    let size = std::fs::metadata(&audio).unwrap().len();
    assert!(44 + left.len() as u64 * 4 <= size);
    assert_eq!(sidecar(&audio)["state"], "recording");
    // And as a kill in the middle of a write would leave it.
    let torn = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes.extend(b"OggS\0\0torn");
        std::fs::write(path, bytes).unwrap();
    };
    torn(&audio);
    torn(&ogg);

    for life in 0..2 {
        let mut daemon = start(&settings);
        let mut events = watch_from_start(&daemon).await;
        let mut told = [finalised(&mut events).await, finalised(&mut events).await];
        told.sort_by(|a, b| b.recording.cmp(&a.recording));
        let [w, o] = &told;
        assert_eq!(
            (w.recording.as_str(), w.segment, w.repaired),
            ("w", 3, true),
            "life {life}"
        );
        assert_eq!((o.recording.as_str(), o.segment, o.repaired), ("o", 0, true));
        let (left, right, told_bytes) = wav(&audio);
        assert_eq!(w.size_bytes, 44 + u64::from(told_bytes));
        assert_eq!(std::fs::metadata(&audio).unwrap().len(), w.size_bytes);
        assert_eq!(w.duration_ms, left.len() as u64 / 8);
        assert!(left.len() >= 16_000);
        let middle = 4_000..left.len() - 1_600;
        assert!(share(&left[middle.clone()], LEFT_HZ) > 0.4 && share(&left[middle.clone()], RIGHT_HZ) < 0.01);
        assert!(share(&right[middle], RIGHT_HZ) > 0.4);
        assert!(o.duration_ms >= 800, "{o:?}");
        let mut mending = media_engine::recording::Mending::default();
        let bytes = std::fs::read(&ogg).unwrap();
        assert_eq!(mending.take(&bytes), bytes.len(), "whole pages to the end");
        assert_eq!(
            (o.size_bytes, sidecar(&ogg)["state"].as_str()),
            (bytes.len() as u64, Some("repaired"))
        );
        if life == 1 {
            for told in &told {
                acknowledge(&daemon, told).await;
            }
        }
        assert_eq!(daemon.signal("TERM"), Some(0));
    }
    assert_eq!(std::fs::read_dir(directory.join(".pending")).unwrap().count(), 0);
    std::fs::remove_dir_all(&directory).unwrap();
}

async fn acknowledge(daemon: &Daemon, told: &pb::RecordingFinalised) {
    let request = pb::AcknowledgeRequest {
        recording: told.recording.clone(),
        segment: told.segment,
    };
    files(daemon).await.acknowledge(request).await.unwrap();
}

#[tokio::test]
async fn a_controller_that_comes_back_is_told_what_it_did_not_acknowledge() {
    let (directory, settings) = shelf("told-again");
    let daemon = start(&settings);
    let mut media = daemon.media().await;
    let mut events = watch(&mut media).await;
    for name in ["kept", "known"] {
        let mut call = Recorded::begin(
            &mut media,
            name,
            recorder(name, 0, pb::RecordingFormat::WavStereo),
        )
        .await;
        call.talk(5);
        media.apply(stop(name)).await.unwrap();
        assert_eq!(finalised(&mut events).await.recording, name);
    }
    // Nobody is told what is not theirs: what comes next is for the controller that recorded.
    let stranger = Stream::open(&mut media, "stranger", 0).await;
    let stream = Stream::open(&mut media, CONTROLLER, 0).await;
    let mut told = [finalised(&mut events).await, finalised(&mut events).await];
    told.sort_by(|a, b| a.recording.cmp(&b.recording));
    assert_eq!(
        told.each_ref().map(|one| one.recording.as_str()),
        ["kept", "known"]
    );
    acknowledge(&daemon, &told[1]).await;
    drop((stranger, stream));
    let stream = Stream::open(&mut media, CONTROLLER, 0).await;
    assert_eq!(finalised(&mut events).await, told[0]);
    acknowledge(&daemon, &told[0]).await;
    drop(stream);
    // Of both nothing more: the next that is told is a new one.
    let _stream = Stream::open(&mut media, CONTROLLER, 0).await;
    let mut call = Recorded::begin(
        &mut media,
        "new",
        recorder("new", 0, pb::RecordingFormat::WavStereo),
    )
    .await;
    call.talk(5);
    media.apply(stop("new")).await.unwrap();
    assert_eq!(finalised(&mut events).await.recording, "new");
    drop(daemon);
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A controller that opens its stream first and watches then hears what was told in between.
#[tokio::test]
async fn so_is_one_that_begins_to_watch() {
    let (directory, settings) = shelf("told-late");
    let mut daemon = start(&settings);
    let mut media = daemon.media().await;
    let mut call = Recorded::begin(
        &mut media,
        "late",
        recorder("late", 1, pb::RecordingFormat::WavStereo),
    )
    .await;
    call.talk(25);
    daemon.kill();
    drop((daemon, media));

    let daemon = start(&settings);
    let mut media = daemon.media().await;
    let mut earlier = watch_from_start(&daemon).await;
    assert!(finalised(&mut earlier).await.repaired);
    let _stream = Stream::open(&mut media, CONTROLLER, 0).await;
    finalised(&mut earlier).await;
    let request = pb::WatchRequest {
        controller: CONTROLLER.into(),
        ..Default::default()
    };
    let mut events = media.watch(request).await.unwrap().into_inner();
    let told = finalised(&mut events).await;
    assert_eq!((told.recording.as_str(), told.segment), ("late", 1));
    drop(daemon);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn a_host_that_is_shut_down_seals_what_it_records() {
    let (directory, settings) = shelf("shut-down");
    let mut daemon = start(&settings);
    let mut media = daemon.media().await;
    let mut call = Recorded::begin(&mut media, "s", recorder("s", 0, pb::RecordingFormat::WavStereo)).await;
    call.talk(60);
    drop(media);
    assert_eq!(daemon.signal("TERM"), Some(0));
    drop(daemon);
    let audio = directory.join("s.0.wav");
    let (left, ..) = wav(&audio);
    assert!(left.len() >= 9_000, "{} samples: to the very end", left.len());
    assert!(share(&left[800..8_000], LEFT_HZ) > 0.9);
    let sealed = sidecar(&audio);
    assert_eq!(
        (sealed["state"].as_str(), sealed["problem"].as_str()),
        (Some("finalised"), Some(""))
    );
    assert_eq!(sealed["size_bytes"], std::fs::metadata(&audio).unwrap().len());

    let daemon = start(&settings);
    let told = finalised(&mut watch_from_start(&daemon).await).await;
    assert_eq!(
        (told.repaired, told.sha256.as_str()),
        (false, sealed["sha256"].as_str().unwrap())
    );
    drop(daemon);
    std::fs::remove_dir_all(&directory).unwrap();
}
