//! A parked agent meets customers of other sessions, on its own worker and on another one, and hears them on one line.

use std::time::Duration;

use proto::mediad::v1::{self as pb, event::Kind, transport, watch_reply};
use tonic::{Code, transport::Channel};

use crate::support::{
    Daemon, PATIENCE, Party, converse, edge, endpoint, error, may_share, next, next_event, owner, ports, udp,
};

type Media = pb::media_client::MediaClient<Channel>;

fn link(id: &str, session: &str, far: &str) -> pb::Transport {
    let link = pb::LinkTransport {
        peer_session: session.into(),
        peer_transport: far.into(),
    };
    pb::Transport {
        id: id.into(),
        kind: Some(transport::Kind::Link(link)),
    }
}

/// A phone and a link to `other`, who hear each other.
fn leg(session: &str, phone: &Party, other: &str) -> pb::ApplyRequest {
    pb::ApplyRequest {
        session: session.into(),
        owner: owner(1),
        put_transports: vec![udp("tp", Some(phone.addr())), link("line", other, "line")],
        put_nodes: vec![endpoint("phone", "tp"), endpoint("link", "line")],
        put_edges: vec![edge("phone", "link"), edge("link", "phone")],
        ..Default::default()
    }
}

async fn described(media: &mut Media, session: &str) -> pb::SessionDescription {
    let request = pb::DescribeRequest {
        session: session.into(),
    };
    let reply = media.describe(request).await.unwrap().into_inner();
    reply.description.unwrap()
}

/// Waits until the link of `session` is open, or no more: the edit of one worker reaches the other a moment later.
async fn link_is(open: bool, media: &mut Media, session: &str) {
    let becomes = async {
        while is_open(media, session).await != open {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let became = tokio::time::timeout(PATIENCE, becomes).await;
    became.unwrap_or_else(|_| panic!("the link of {session} stays as it was, not open: {open}"));
}

async fn is_open(media: &mut Media, session: &str) -> bool {
    let request = pb::ExplainRequest {
        session: session.into(),
        from: "link".into(),
        to: "phone".into(),
    };
    let findings = media.explain(request).await.unwrap().into_inner().findings;
    findings
        .iter()
        .any(|finding| finding.code() == pb::FindingCode::LinkOpen)
}

async fn delete(media: &mut Media, session: &str) {
    let request = pb::DeleteRequest {
        session: session.into(),
        owner: owner(1),
    };
    media.delete(request).await.unwrap();
}

fn line_of(description: &pb::SessionDescription) -> &pb::TransportStats {
    let mut stats = description.transport_stats.iter();
    stats.find(|stats| stats.transport == "line").unwrap()
}

async fn meets(backend: &str) {
    let daemon = Daemon::start(&[&format!("io.backend={backend}"), "workers.count=2"]);
    let mut media = daemon.media().await;
    let mut watch = media
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut agent = Party::new(440.0);
    let mut parked = leg("agent", &agent, "customer-0");
    parked.options = Some(pb::SessionOptions {
        media_timeout_ms: 1_000,
        ..Default::default()
    });
    let applied = media.apply(parked.clone()).await.unwrap().into_inner();
    assert_eq!(applied.transports.len(), 1, "a link has no address");
    let at_agent = ports(&applied)[0];
    link_is(true, &mut media, "agent").await;

    let mut passed = 0;
    for (n, near) in [(0, ""), (1, "agent")] {
        let name = format!("customer-{n}");
        // The agent's end is given its next peer before that is there.
        parked.put_transports = vec![link("line", &name, "line")];
        media.apply(parked.clone()).await.unwrap();
        let mut customer = Party::new(900.0 + 200.0 * f64::from(n));
        let mut request = leg(&name, &customer, "agent");
        request.placement = Some(pb::Placement {
            near_session: near.into(),
        });
        let at_customer = ports(&media.apply(request).await.unwrap().into_inner())[0];
        link_is(false, &mut media, "agent").await;
        let before = agent.heard.len();
        converse((&mut agent, at_agent), (&mut customer, at_customer), 60);
        assert_eq!((agent.heard.len() - before, customer.heard.len()), (60, 60));
        assert!(customer.share(440.0) > 0.98, "{}", customer.share(440.0));

        let (ours, theirs) = (
            described(&mut media, "agent").await,
            described(&mut media, &name).await,
        );
        let worker = |description: &pb::SessionDescription| description.summary.as_ref().unwrap().worker;
        assert_eq!(worker(&ours) == worker(&theirs), near == "agent");
        passed += 60;
        assert!(line_of(&ours).linked && line_of(&theirs).linked);
        assert_eq!(
            (line_of(&ours).rx_packets, line_of(&ours).tx_packets),
            (passed, passed)
        );
        assert_eq!(line_of(&theirs).rx_packets, 60);
        delete(&mut media, &name).await;
        link_is(true, &mut media, "agent").await;
    }
    let ssrc = agent.heard[0].0.ssrc;
    for two in agent.heard.windows(2) {
        assert_eq!((two[0].0.ssrc, two[1].0.ssrc), (ssrc, ssrc));
        assert_eq!(two[1].0.sequence, two[0].0.sequence.wrapping_add(1));
    }
    let samples = agent.samples();
    let (first, second) = samples.split_at(60 * 160);
    assert!(crate::support::share(first, 900.0) > 0.98);
    assert!(crate::support::share(second, 1_100.0) > 0.98);

    // The phone that falls silent is told of, the link that brings nothing is not.
    let silent = next_event(&mut watch, |kind| matches!(kind, Kind::MediaTimeout(_))).await;
    assert_eq!(
        (silent.session.as_str(), silent.node.as_str()),
        ("agent", "phone")
    );
    delete(&mut media, "agent").await;
    loop {
        match next(&mut watch).await {
            watch_reply::Kind::Event(pb::Event {
                kind: Some(Kind::SessionEnded(_)),
                session,
                ..
            }) if session == "agent" => break,
            watch_reply::Kind::Event(event) => assert_ne!(event.node, "link", "{event:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn over_io_uring() {
    meets("uring").await;
}

#[tokio::test]
async fn over_shared_sockets() {
    if may_share() {
        meets("shared").await;
    }
}

#[tokio::test]
async fn over_epoll() {
    meets("mmsg").await;
}

#[tokio::test]
async fn a_circle_is_refused_at_its_last_edge() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    // "one" hears "two" by link x and is heard by it by link y.
    let ends = |session: &str, other: &str, edges| pb::ApplyRequest {
        session: session.into(),
        owner: owner(1),
        put_transports: vec![link("x", other, "x"), link("y", other, "y")],
        put_nodes: vec![endpoint("ex", "x"), endpoint("ey", "y")],
        put_edges: edges,
        ..Default::default()
    };
    media
        .apply(ends("one", "two", vec![edge("ex", "ey")]))
        .await
        .unwrap();
    let refused = media
        .apply(ends("two", "one", vec![edge("ey", "ex")]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = error(&refused);
    assert!(refused.message.contains("would come back to it"), "{refused:?}");
    media.apply(ends("two", "one", vec![])).await.unwrap();
    assert!(described(&mut media, "two").await.edges.is_empty());
}
