//! Drain refuses new sessions and nothing else; SIGTERM ends the process cleanly and in time.

use std::time::Instant;

use proto::mediad::v1 as pb;
use tonic::Code;

use crate::support::{Daemon, Party, call, converse, ports};

#[tokio::test]
async fn until_told_otherwise() {
    let mut daemon = Daemon::start(&[]);
    let (mut media, mut host) = (daemon.media().await, daemon.host().await);
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let reply = media
        .apply(call("old", Some(alice.addr()), Some(bob.addr())))
        .await
        .unwrap()
        .into_inner();
    assert!(daemon.page("/readyz").0.contains("200"));

    let drained = host
        .drain(pb::DrainRequest { drain: true })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((drained.state(), drained.sessions), (pb::HostState::Draining, 1));
    let refused = media.apply(call("new", None, None)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("draining"), "{}", refused.message());
    let (head, body) = daemon.page("/readyz");
    assert!(head.contains("503") && body.contains("draining"), "{head} {body}");
    assert!(daemon.page("/healthz").0.contains("200"), "draining is healthy");

    let edit = pb::ApplyRequest {
        remove_edges: vec![pb::EdgeKey {
            from: "a".into(),
            to: "b".into(),
        }],
        put_transports: Vec::new(),
        put_nodes: Vec::new(),
        put_edges: Vec::new(),
        ..call("old", None, None)
    };
    assert_eq!(
        media.apply(edit).await.unwrap().into_inner().revision,
        2,
        "sessions in progress go on"
    );
    // The reply comes as soon as the edit is on its way; what the worker describes, it does.
    let ask = pb::DescribeRequest {
        session: "old".into(),
    };
    media.describe(ask).await.unwrap();
    let at = ports(&reply);
    converse((&mut alice, at[0]), (&mut bob, at[1]), 20);
    assert_eq!(
        (alice.heard.len(), bob.heard.len()),
        (20, 0),
        "and their edits are carried out"
    );

    host.drain(pb::DrainRequest { drain: false }).await.unwrap();
    media.apply(call("new", None, None)).await.unwrap();

    // An open stream does not hold up the end, and is told of it.
    let mut watch = media
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let before = Instant::now();
    assert_eq!(daemon.signal("TERM"), Some(0));
    assert!(before.elapsed().as_millis() < 3_000, "{:?}", before.elapsed());
}
