//! Losing its controller does not end a call. The controller comes back to find its sessions; if it stays away, a
//! session ends once its lease has run out and nobody talks.

use std::time::{Duration, Instant};

use proto::mediad::v1::{self as pb, command::Kind, command_reply::Result as Done, event};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    control::Stream,
    support::{CONTROLLER, Daemon, Party, call, converse, next, next_event, owner, ports},
};

fn command(id: u64, kind: Kind) -> pb::Command {
    pb::Command { id, kind: Some(kind) }
}

fn delete(id: u64, session: &str) -> pb::Command {
    command(
        id,
        Kind::Delete(pb::DeleteRequest {
            session: session.into(),
            owner: owner(1),
        }),
    )
}

#[tokio::test]
async fn and_batches_are_answered_in_order() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let mut stream = Stream::open(&mut media, CONTROLLER, 0).await;
    assert_eq!(
        (stream.hello.boot_id.as_str(), stream.hello.lease_ms),
        (daemon.boot_id.as_str(), 30_000)
    );
    // A delete is answered by a worker, an apply at once: the replies keep the order of the commands all the same.
    stream
        .send(vec![
            command(1, Kind::Apply(call("s", None, None))),
            delete(2, "s"),
            delete(3, "s"),
            command(4, Kind::Apply(call("s", None, None))),
            pb::Command { id: 5, kind: None },
        ])
        .await;
    stream.send(vec![delete(6, "s")]).await;
    let first = stream.replies().await;
    assert_eq!(
        first.iter().map(|reply| reply.id).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    let codes: Vec<i32> = first
        .iter()
        .map(|reply| match reply.result.as_ref().unwrap() {
            Done::Error(error) => error.code,
            Done::Apply(_) | Done::Act(_) | Done::Delete(_) | Done::Adopt(_) => 0,
        })
        .collect();
    assert_eq!(
        codes,
        [0, 0, Code::NotFound as i32, 0, Code::InvalidArgument as i32]
    );
    assert!(matches!(stream.replies().await[0].result, Some(Done::Delete(_))));
}

#[tokio::test]
async fn and_media_never_stops() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let mut stream = Stream::open(&mut media, CONTROLLER, 60_000).await;
    stream
        .send(vec![command(
            1,
            Kind::Apply(call("s", Some(alice.addr()), Some(bob.addr()))),
        )])
        .await;
    let Some(Done::Apply(reply)) = stream.replies().await.remove(0).result else {
        panic!("applied")
    };
    let mut watch = media
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    let pb::watch_reply::Kind::Start(start) = next(&mut watch).await else {
        panic!("a start")
    };

    // In mid-batch and without a goodbye.
    stream
        .send(vec![command(2, Kind::Apply(call("t", None, None)))])
        .await;
    drop(stream);
    drop(watch);
    let at = ports(&reply);
    converse((&mut alice, at[0]), (&mut bob, at[1]), 50);
    assert_eq!((alice.heard.len(), bob.heard.len()), (50, 50));
    assert!(alice.share(1_000.0) > 0.98 && bob.share(440.0) > 0.98);

    let stream = Stream::open(&mut media, CONTROLLER, 60_000).await;
    assert!(
        stream.hello.sessions.iter().any(|session| session.session == "s"),
        "it finds its session"
    );
    let request = pb::WatchRequest {
        boot_id: start.boot_id,
        after: start.after,
        ..Default::default()
    };
    let mut watch = media.watch(request).await.unwrap().into_inner();
    let started = next_event(&mut watch, |kind| matches!(kind, event::Kind::MediaStarted(_))).await;
    assert_eq!(started.session, "s", "and what happened meanwhile");
}

#[tokio::test]
async fn or_stays_away_and_silent_sessions_end() {
    let daemon = Daemon::start(&["sessions.media_timeout_ms=300"]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let mut stream = Stream::open(&mut media, CONTROLLER, 200).await;
    stream
        .send(vec![
            command(
                1,
                Kind::Apply(call("talking", Some(alice.addr()), Some(bob.addr()))),
            ),
            command(2, Kind::Apply(call("silent", None, None))),
        ])
        .await;
    let Some(Done::Apply(talking)) = stream.replies().await.remove(0).result else {
        panic!("applied")
    };
    let mut watch = media
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    drop(stream);

    let at = ports(&talking);
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(900) {
        converse((&mut alice, at[0]), (&mut bob, at[1]), 5);
    }
    let ended = next_event(&mut watch, |kind| matches!(kind, event::Kind::SessionEnded(_))).await;
    let Some(event::Kind::SessionEnded(why)) = ended.kind else {
        panic!("ended")
    };
    assert_eq!(
        (ended.session.as_str(), why.reason()),
        ("silent", pb::SessionEndReason::Orphaned)
    );
    let list = media.list(pb::ListRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.sessions.len(), 1, "who talks goes on");
    assert!(list.sessions[0].orphaned);
    // Nobody talks any more.
    let ended = next_event(&mut watch, |kind| matches!(kind, event::Kind::SessionEnded(_))).await;
    assert_eq!(ended.session, "talking");
}

#[tokio::test]
async fn and_a_stream_without_hello_is_refused() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (requests, stream) = mpsc::channel(1);
    requests
        .send(pb::ControlRequest {
            hello: None,
            commands: vec![delete(1, "s")],
        })
        .await
        .unwrap();
    let refused = media.control(ReceiverStream::new(stream)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("hello is missing"),
        "{}",
        refused.message()
    );
}
