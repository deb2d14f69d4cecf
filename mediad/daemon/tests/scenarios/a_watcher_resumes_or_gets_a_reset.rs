//! Events are numbered: who saw number n goes on after n, or is told that it cannot and gets a snapshot.

use proto::mediad::v1::{self as pb, event, watch_reply::Kind};

use crate::control::Stream;
use crate::support::{Daemon, Party, call, converse, next, next_event, owner, ports};

fn after(boot_id: &str, after: u64) -> pb::WatchRequest {
    pb::WatchRequest {
        boot_id: boot_id.into(),
        after,
        ..Default::default()
    }
}

#[tokio::test]
async fn by_number() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let reply = media
        .apply(call("s", Some(alice.addr()), Some(bob.addr())))
        .await
        .unwrap()
        .into_inner();

    // Afresh: a snapshot, then what happens from now on.
    let mut watch = media
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    let Kind::Start(start) = next(&mut watch).await else {
        panic!("a start")
    };
    assert_eq!(start.boot_id, daemon.boot_id);
    let Kind::Snapshot(session) = next(&mut watch).await else {
        panic!("a snapshot")
    };
    assert_eq!(session.summary.unwrap().session, "s");
    let Kind::SnapshotEnd(end) = next(&mut watch).await else {
        panic!("the snapshot's end")
    };
    assert_eq!(end.sequence, start.after);
    let at = ports(&reply);
    converse((&mut alice, at[0]), (&mut bob, at[1]), 10);
    let started = next_event(&mut watch, |kind| matches!(kind, event::Kind::MediaStarted(_))).await;
    let Some(event::Kind::MediaStarted(media_started)) = &started.kind else {
        panic!("media started")
    };
    assert_eq!(
        (started.session.as_str(), media_started.codec()),
        ("s", pb::Codec::Pcmu)
    );
    assert!(started.sequence > start.after);

    // The watcher is gone when the session ends, and hears of it when it resumes.
    drop(watch);
    media
        .delete(pb::DeleteRequest {
            session: "s".into(),
            owner: owner(1),
        })
        .await
        .unwrap();
    let mut watch = media
        .watch(after(&daemon.boot_id, started.sequence))
        .await
        .unwrap()
        .into_inner();
    let Kind::Start(resumed) = next(&mut watch).await else {
        panic!("it can go on")
    };
    assert_eq!(resumed.after, started.sequence);
    let mut last = started.sequence;
    loop {
        let Kind::Event(event) = next(&mut watch).await else {
            panic!("an event")
        };
        assert_eq!(event.sequence, last + 1, "each number once, in order");
        last = event.sequence;
        if let Some(event::Kind::SessionEnded(ended)) = event.kind {
            assert_eq!(ended.reason(), pb::SessionEndReason::Deleted);
            break;
        }
    }

    // Another boot id, or a number that never was: a reset and a snapshot, and the stream goes on.
    for request in [after("another life", 3), after(&daemon.boot_id, last + 1_000)] {
        let mut watch = media.watch(request).await.unwrap().into_inner();
        let Kind::Reset(reset) = next(&mut watch).await else {
            panic!("a reset")
        };
        assert_eq!(reset.boot_id, daemon.boot_id);
        assert!(!reset.reason.is_empty());
        assert!(matches!(next(&mut watch).await, Kind::SnapshotEnd(end) if end.sequence >= last));
    }
}

#[tokio::test]
async fn after_falling_out_of_the_ring() {
    let daemon = Daemon::start(&["events.ring_seconds=1"]);
    let mut media = daemon.media().await;
    for session in ["one", "two"] {
        media.apply(call(session, None, None)).await.unwrap();
        media
            .delete(pb::DeleteRequest {
                session: session.into(),
                owner: owner(1),
            })
            .await
            .unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    // An event pushes the old ones out.
    media.apply(call("three", None, None)).await.unwrap();
    media
        .delete(pb::DeleteRequest {
            session: "three".into(),
            owner: owner(1),
        })
        .await
        .unwrap();
    let mut watch = media.watch(after(&daemon.boot_id, 0)).await.unwrap().into_inner();
    let Kind::Reset(reset) = next(&mut watch).await else {
        panic!("a reset")
    };
    assert!(reset.reason.contains("no longer kept"), "{}", reset.reason);
}

#[tokio::test]
async fn of_one_controller_only() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let theirs = Some(pb::Owner {
        controller: "others".into(),
        epoch: 1,
    });
    let request = pb::WatchRequest {
        controller: "others".into(),
        ..Default::default()
    };
    let mut watch = media.watch(request).await.unwrap().into_inner();
    assert!(matches!(next(&mut watch).await, Kind::Start(_)));
    assert!(matches!(next(&mut watch).await, Kind::SnapshotEnd(_)));
    media.apply(call("ours", None, None)).await.unwrap();
    media
        .delete(pb::DeleteRequest {
            session: "ours".into(),
            owner: owner(1),
        })
        .await
        .unwrap();
    media
        .apply(pb::ApplyRequest {
            owner: theirs.clone(),
            ..call("theirs", None, None)
        })
        .await
        .unwrap();
    media
        .delete(pb::DeleteRequest {
            session: "theirs".into(),
            owner: theirs,
        })
        .await
        .unwrap();
    let ended = next_event(&mut watch, |kind| matches!(kind, event::Kind::SessionEnded(_))).await;
    assert_eq!(ended.session, "theirs");
}

#[tokio::test]
async fn of_some_kinds_only() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let request = pb::WatchRequest {
        only: vec![pb::EventKind::SessionEnded.into()],
        ..Default::default()
    };
    let mut watch = media.watch(request).await.unwrap().into_inner();
    let Kind::Start(start) = next(&mut watch).await else {
        panic!("a start")
    };
    assert!(matches!(next(&mut watch).await, Kind::SnapshotEnd(_)));
    let reply = media
        .apply(call("s", Some(alice.addr()), Some(bob.addr())))
        .await
        .unwrap()
        .into_inner();
    let at = ports(&reply);
    converse((&mut alice, at[0]), (&mut bob, at[1]), 10);
    // Audio started on both sides, which it did not ask for; but it learns how far the numbers have come.
    let Kind::Mark(mark) = next(&mut watch).await else {
        panic!("a mark")
    };
    assert!(mark.sequence > start.after);
    media
        .delete(pb::DeleteRequest {
            session: "s".into(),
            owner: owner(1),
        })
        .await
        .unwrap();
    let event = loop {
        match next(&mut watch).await {
            Kind::Event(event) => break event,
            kind => assert!(matches!(kind, Kind::Mark(_)), "{kind:?}"),
        }
    };
    assert!(matches!(event.kind, Some(event::Kind::SessionEnded(_))));
}

/// Who deletes by its stream has the reply; of a deletion in its name by anybody else it is told.
#[tokio::test]
async fn of_sessions_that_it_did_not_delete_itself() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let mut stream = Stream::open(&mut media, &owner(1).unwrap().controller, 0).await;
    let request = pb::WatchRequest {
        only: vec![pb::EventKind::SessionLost.into()],
        ..Default::default()
    };
    let mut watch = media.watch(request).await.unwrap().into_inner();
    for session in ["by its stream", "by a tool"] {
        media.apply(call(session, None, None)).await.unwrap();
    }
    let delete = |session: &str| pb::DeleteRequest {
        session: session.into(),
        owner: owner(1),
    };
    let command = pb::Command {
        id: 7,
        kind: Some(pb::command::Kind::Delete(delete("by its stream"))),
    };
    stream.send(vec![command]).await;
    let replies = stream.replies().await;
    assert!(
        matches!(replies[0].result, Some(pb::command_reply::Result::Delete(_))),
        "{replies:?}"
    );
    media.delete(delete("by a tool")).await.unwrap();
    // The other would have come before it.
    let lost = next_event(&mut watch, |_| true).await;
    assert_eq!(lost.session, "by a tool");
}
