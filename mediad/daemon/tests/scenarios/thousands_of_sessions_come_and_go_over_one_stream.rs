//! Thousands of sessions are created and ended over one control stream, pipelined in batches: each command is
//! answered once and in order, every port comes back, nothing is left over.

use std::time::Instant;

use proto::mediad::v1::{self as pb, command::Kind, command_reply::Result as Done};

use crate::{
    control::Stream,
    support::{CONTROLLER, Daemon, call, owner},
};

const BATCHES: u64 = 40;
const PAIRS_PER_BATCH: u64 = 50;
/// Batches on their way at once; a session's ports are free when its worker let go of them.
const WINDOW: u64 = 3;

fn batch(number: u64) -> Vec<pb::Command> {
    let pair = |index: u64| {
        let id = (number * PAIRS_PER_BATCH + index) * 2;
        let session = format!("s{id}");
        let delete = pb::DeleteRequest {
            session: session.clone(),
            owner: owner(1),
        };
        [
            pb::Command {
                id,
                kind: Some(Kind::Apply(call(&session, None, None))),
            },
            pb::Command {
                id: id + 1,
                kind: Some(Kind::Delete(delete)),
            },
        ]
    };
    (0..PAIRS_PER_BATCH).flat_map(pair).collect()
}

#[tokio::test]
async fn and_leave_nothing() {
    let daemon = Daemon::start_on(
        crate::support::free_ports(1_000),
        1_000,
        &["media.quarantine_ms=0"],
    );
    let mut media = daemon.media().await;
    let mut stream = Stream::open(&mut media, CONTROLLER, 0).await;
    let before = Instant::now();
    let mut next = 0;
    for number in 0..BATCHES + WINDOW {
        if number < BATCHES {
            stream.send(batch(number)).await;
        }
        if number < WINDOW {
            continue;
        }
        for reply in stream.replies().await {
            assert_eq!(reply.id, next, "in order");
            match (next % 2, reply.result.unwrap()) {
                (0, Done::Apply(applied)) => assert_eq!(applied.transports.len(), 2),
                (1, Done::Delete(deleted)) => assert_eq!(deleted.endpoints.len(), 2),
                (_, other) => panic!("command {next}: {other:?}"),
            }
            next += 1;
        }
    }
    let sessions = BATCHES * PAIRS_PER_BATCH;
    assert_eq!(next, sessions * 2);
    let rate = sessions as f64 / before.elapsed().as_secs_f64();
    println!("{sessions} sessions created and ended, {rate:.0} a second");
    let status = daemon
        .host()
        .await
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.sessions, status.endpoints, status.interfaces[0].ports_used),
        (0, 0, 0)
    );
    assert_eq!(status.event_next, sessions + 1, "one event each: its end");
    drop(stream);
}
