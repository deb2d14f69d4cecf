//! A log on a full disk, or beyond a limit on the size of files, is lost; nothing else is.

use std::fs::OpenOptions;

use proto::mediad::v1 as pb;

use crate::{
    recording::{Recorded, finalised, recorder, shelf, watch},
    support::Daemon,
};

#[tokio::test]
async fn from_the_first_line_to_the_last() {
    for format in ["text", "json"] {
        let (directory, settings) = shelf("log");
        let format = format!("log.format={format}");
        let settings: Vec<&str> = settings.iter().map(String::as_str).chain([&*format]).collect();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut daemon = Daemon::start_as(&settings, |command| {
            command.stderr(full);
        });
        let mut media = daemon.media().await;
        let mut events = watch(&mut media).await;
        // The recording's thread and those of the host have something to say of this.
        let bounded = pb::Recorder {
            duration_ms_max: 200,
            ..recorder("s", 0, pb::RecordingFormat::WavStereo)
        };
        let mut call = Recorded::begin(&mut media, "s", bounded).await;
        call.talk(80);
        let told = finalised(&mut events).await;
        assert!(told.problem.contains("longest duration"), "{}", told.problem);
        daemon
            .host()
            .await
            .drain(pb::DrainRequest { drain: true })
            .await
            .unwrap();
        call.talk(10);
        call.assert_relayed();
        assert!(daemon.page("/healthz").0.contains("200"));
        assert_eq!(daemon.signal("TERM"), Some(0));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
