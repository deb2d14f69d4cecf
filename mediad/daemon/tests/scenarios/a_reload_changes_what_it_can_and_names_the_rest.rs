//! SIGHUP: what can change while calls go on does, what cannot is named, and a file that is wrong changes nothing.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proto::mediad::v1 as pb;
use tonic::Code;

use crate::support::{Daemon, PATIENCE, Party, call, converse, error, ports, scratch};

struct Place {
    config: PathBuf,
    log: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let place = scratch(name);
        Self {
            config: place.join("mediad.toml"),
            log: place.join("log"),
        }
    }

    fn start(&self, config: &str) -> Daemon {
        fs::write(&self.config, config).unwrap();
        Daemon::start_as(&[], |command| {
            command.arg("--config").arg(&self.config);
            command.stderr(File::create(&self.log).unwrap());
        })
    }

    /// Another file, SIGHUP, and the log once it says this.
    fn reload(&self, daemon: &Daemon, config: &str, said: &str) -> String {
        let before = fs::read_to_string(&self.log).unwrap().len();
        fs::write(&self.config, config).unwrap();
        daemon.send("HUP");
        wait_for(&self.log, before, said)
    }
}

fn wait_for(log: &Path, from: usize, said: &str) -> String {
    let since = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap().split_off(from);
        if text.contains(said) {
            return text;
        }
        assert!(since.elapsed() < PATIENCE, "{said:?} is not in the log:\n{text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn counted(daemon: &Daemon, ok: u32, failed: u32) {
    let page = daemon.page("/metrics").1;
    for (result, count) in [("ok", ok), ("failed", failed)] {
        let line = format!("mediad_reloads_total{{result=\"{result}\"}} {count}\n");
        assert!(page.contains(&line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn while_a_call_goes_on() {
    let place = Place::new("reload");
    let daemon = place.start("[limits]\nsessions_max = 2\n[media]\nquarantine_ms = 60000\n");
    let mut media = daemon.media().await;
    let (mut a, mut b) = (Party::new(440.0), Party::new(1_000.0));
    let applied = media
        .apply(call("one", Some(a.addr()), Some(b.addr())))
        .await
        .unwrap();
    let at = ports(&applied.into_inner());
    converse((&mut a, at[0]), (&mut b, at[1]), 10);

    let wanted = "[limits]\nsessions_max = 1\nmailbox = 64\n[media]\nquarantine_ms = 0\n\
                  [sessions]\nmedia_timeout_ms = 7000\n[opus]\ncomplexity = 3\n[io]\nlatency_budget_us = 500\n[log]\nlevel = \"debug\"\n";
    let log = place.reload(&daemon, wanted, "limits.mailbox changed");
    for said in [
        "limits.mailbox changed from 4096 to 64: takes effect at the next start",
        "io.latency_budget_us changed from 250 to 500: takes effect at the next start",
        "limits.sessions_max changed from 2 to 1",
        "log.level changed from \"info\" to \"debug\"",
        "opus.complexity changed from 5 to 3",
    ] {
        wait_for(&place.log, 0, said);
    }
    assert!(!log.contains("sessions_max changed from 2 to 1: takes"), "{log}");
    assert!(
        !log.contains("opus.complexity changed from 5 to 3: takes"),
        "{log}"
    );
    counted(&daemon, 1, 0);

    let status = daemon
        .host()
        .await
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.sessions, status.sessions_max), (1, 1));
    assert_eq!(status.workers[0].mailbox_size, 4_096, "not before the next start");
    assert_eq!(status.workers[0].opus_complexity, 3);
    let refused = media.apply(call("two", None, None)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(error(&refused).message.contains('1'), "{refused:?}");
    converse((&mut a, at[0]), (&mut b, at[1]), 40);
    assert_eq!((a.heard.len(), b.heard.len()), (50, 50), "the call went on");
    assert!(a.share(1_000.0) > 0.9 && b.share(440.0) > 0.9);

    let owner = crate::support::owner(1);
    let session = "one".to_owned();
    media.delete(pb::DeleteRequest { session, owner }).await.unwrap();
    let status = daemon
        .host()
        .await
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let rest = &status.interfaces[0];
    assert_eq!(rest.ports_used, 0);
    media.apply(call("three", None, None)).await.unwrap();
    let status = daemon
        .host()
        .await
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        status.interfaces[0].ports_quarantined, 0,
        "the new quarantine is none"
    );
    let session = "three".to_owned();
    let described = media
        .describe(pb::DescribeRequest { session })
        .await
        .unwrap()
        .into_inner();
    let options = described.description.unwrap().options.unwrap();
    assert_eq!(options.media_timeout_ms, 7_000);
}

#[tokio::test]
async fn but_a_file_that_is_wrong_changes_nothing_and_is_explained() {
    let place = Place::new("reload-wrong");
    let daemon = place.start("[limits]\nsessions_max = 2\n");
    for (wrong, said) in [
        ("[limits]\nsessions_max = 5\nsessions = 1\n", "line 3"),
        (
            "[limits]\nsessions_max = 5\n[log]\nlevel = \"loud\"\n",
            "\"loud\" is not one of",
        ),
        ("[limits\n", "line 1"),
    ] {
        let log = place.reload(&daemon, wrong, said);
        assert!(log.contains("not reloaded and nothing changed"), "{log}");
    }
    counted(&daemon, 0, 3);
    let status = daemon
        .host()
        .await
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.sessions_max, 2);
    place.reload(
        &daemon,
        "[limits]\nsessions_max = 3\n",
        "sessions_max changed from 2 to 3",
    );
    let status = daemon
        .host()
        .await
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.sessions_max, 3);
    counted(&daemon, 1, 3);
}
