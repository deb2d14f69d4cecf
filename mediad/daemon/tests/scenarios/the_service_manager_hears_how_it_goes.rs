//! sd_notify(3): ready once calls are answered, alive while everybody makes progress, reloading, stopping.

use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use proto::mediad::v1 as pb;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Daemon, PATIENCE, scratch};

/// The next word that is not a sign of life.
fn next(heard: &UnixDatagram) -> String {
    loop {
        let word = any(heard);
        if word != "WATCHDOG=1" {
            return word;
        }
    }
}

fn any(heard: &UnixDatagram) -> String {
    let mut buffer = [0; 512];
    let len = heard.recv(&mut buffer).expect("a word comes in time");
    String::from_utf8(buffer[..len].to_vec()).unwrap()
}

fn service_manager(name: &str) -> (UnixDatagram, std::path::PathBuf) {
    let path = scratch(name).join("notify");
    let _ = std::fs::remove_file(&path);
    let heard = UnixDatagram::bind(&path).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    (heard, path)
}

#[tokio::test]
async fn from_ready_to_stopping() {
    let (heard, path) = service_manager("notify");
    let mut daemon = Daemon::start_as(&["workers.count=2"], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    });
    assert_eq!(any(&heard), "READY=1", "before the first sign of life");
    let answer = daemon.host().await.status(pb::StatusRequest {}).await.unwrap();
    assert_eq!(answer.into_inner().workers.len(), 2);
    // Two idle workers, the host thread and the main thread all gave a sign, several times over.
    let since = Instant::now();
    for _ in 0..5 {
        assert_eq!(any(&heard), "WATCHDOG=1");
    }
    assert!(
        since.elapsed() >= Duration::from_millis(300),
        "at the pace that was asked for"
    );

    daemon.send("HUP");
    let reloading = next(&heard);
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(next(&heard), "STATUS=");
    assert_eq!(next(&heard), "READY=1");

    assert_eq!(daemon.signal("TERM"), Some(0));
    assert_eq!(next(&heard), "STOPPING=1");
}

#[test]
fn from_the_moment_it_is_ready_a_signal_ends_it_in_order() {
    for _ in 0..10 {
        for signal in [Signal::TERM, Signal::INT] {
            let mut daemon = Daemon::start(&[]);
            let pid = Pid::from_raw(daemon.pid().cast_signed()).unwrap();
            kill_process(pid, signal).unwrap();
            assert_eq!(daemon.exit_code(), Some(0), "after {signal:?}");
        }
    }
}

#[test]
fn a_process_that_stands_still_gives_no_sign() {
    let (heard, path) = service_manager("notify-still");
    let daemon = Daemon::start_as(&[], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "150000");
    });
    assert_eq!(any(&heard), "READY=1");
    assert_eq!(any(&heard), "WATCHDOG=1");
    daemon.send("STOP");
    // What was sent before the signal took effect may still wait; then there is silence for many periods.
    heard.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    let mut buffer = [0; 512];
    let late = std::iter::from_fn(|| heard.recv(&mut buffer).ok())
        .take(3)
        .count();
    daemon.send("CONT");
    assert!(late < 3, "signs of life from a stopped process");
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(next_sign(&heard), "WATCHDOG=1", "and on it goes");
}

/// Skips the word on what stood still.
fn next_sign(heard: &UnixDatagram) -> String {
    loop {
        let word = any(heard);
        if !word.starts_with("STATUS=") {
            return word;
        }
    }
}
