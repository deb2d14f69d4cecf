//! A disk that takes no more ends the recording with what is there, and says so; the call goes on. Too little room, limits and a host
//! without a directory are told before or when they matter.

use std::process::Command;

use proto::mediad::v1 as pb;
use tonic::Code;

use crate::{
    recording::{LEFT_HZ, Recorded, finalised, recorder, shelf, sidecar, start, watch, wav, with_recorder},
    support::{Daemon, call, error, share},
};

#[tokio::test]
async fn what_was_written_before_plays() {
    let (directory, settings) = shelf("full");
    let daemon = start(&settings);
    let mut media = daemon.media().await;
    let mut events = watch(&mut media).await;
    // The kernel refuses to let any file grow beyond this, as a full disk would: some two seconds.
    let limited = Command::new("prlimit")
        .args([format!("--pid={}", daemon.pid()), "--fsize=65537".into()])
        .status();
    assert!(
        limited.is_ok_and(|status| status.success()),
        "prlimit (util-linux) is needed"
    );
    let mut call = Recorded::begin(&mut media, "s", recorder("s", 0, pb::RecordingFormat::WavStereo)).await;
    let mut ogg = Recorded::begin(&mut media, "o", recorder("o", 0, pb::RecordingFormat::OggOpus)).await;
    call.talk(250);
    let told = finalised(&mut events).await;
    assert_eq!((told.recording.as_str(), told.repaired), ("s", false));
    for part in ["writing", "s.0.wav", "File too large", "is kept"] {
        assert!(told.problem.contains(part), "{}", told.problem);
    }
    let audio = directory.join("s.0.wav");
    let (left, ..) = wav(&audio);
    assert!((15_000..=16_384).contains(&left.len()), "{} samples", left.len());
    assert!(share(&left[1_600..14_400], LEFT_HZ) > 0.9);
    let sidecar = sidecar(&audio);
    assert_eq!(
        (sidecar["state"].as_str(), sidecar["problem"].as_str()),
        (Some("finalised"), Some(&*told.problem))
    );
    assert_eq!(sidecar["sha256"].as_str(), Some(&*told.sha256));

    // Nobody heard anything of it, and the other recording is not touched.
    let heard = call.left.heard.len();
    call.talk(50);
    assert!(call.left.heard.len() >= heard + 49);
    call.assert_relayed();
    ogg.talk(10);
    media.apply(crate::recording::stop("o")).await.unwrap();
    let told = finalised(&mut events).await;
    assert_eq!((told.recording.as_str(), told.problem.as_str()), ("o", ""));
    let (_, page) = daemon.page("/metrics");
    assert!(page.contains("mediad_recording_errors_total 1\n"), "{page}");
    drop(daemon);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn a_limit_ends_it_and_too_little_room_refuses_it() {
    let (directory, mut settings) = shelf("limits");
    settings[1] = "recordings.free_bytes_min=1152921504606846976".into();
    let daemon = start(&settings);
    let request = || {
        with_recorder(
            call("s", None, None),
            recorder("s", 0, pb::RecordingFormat::WavStereo),
        )
    };
    let refused = daemon.media().await.apply(request()).await.unwrap_err();
    let refused = error(&refused);
    assert_eq!(refused.code, Code::FailedPrecondition as i32);
    for part in [
        "bytes are free in",
        "recordings.free_bytes_min",
        "free some space",
    ] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    assert_eq!(
        std::fs::read_dir(&directory).unwrap().count(),
        1,
        "nothing was made but .pending"
    );
    drop(daemon);

    let without = Daemon::start(&[]);
    let refused = without.media().await.apply(request()).await.unwrap_err();
    assert!(
        refused.message().contains("recordings.directory is not set"),
        "{}",
        refused.message()
    );
    drop(without);

    settings[1] = "recordings.free_bytes_min=1000".into();
    settings.push("recordings.duration_ms_max=5000".into());
    let daemon = start(&settings);
    let mut media = daemon.media().await;
    let mut events = watch(&mut media).await;
    let bounded = pb::Recorder {
        duration_ms_max: 1_000,
        ..recorder("s", 0, pb::RecordingFormat::WavStereo)
    };
    let mut talk = Recorded::begin(&mut media, "s", bounded).await;
    talk.talk(140);
    let told = finalised(&mut events).await;
    assert_eq!((told.duration_ms, told.size_bytes), (1_000, 32_044));
    assert!(
        told.problem.contains("longest duration, 1000 ms"),
        "{}",
        told.problem
    );
    drop(daemon);
    std::fs::remove_dir_all(&directory).unwrap();
}
