//! Two parties, two tones: each hears exactly the other, on one unbroken stream, whatever carries the packets.

use proto::mediad::v1 as pb;

use crate::support::{Daemon, Party, call, converse, may_share, owner, ports};

const PACKETS: usize = 100;

async fn relayed(backend: &str) {
    let daemon = Daemon::start(&[&format!("io.backend={backend}")]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let reply = media
        .apply(call("call", Some(alice.addr()), Some(bob.addr())))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((reply.revision, &reply.boot_id), (1, &daemon.boot_id));
    let at = ports(&reply);
    assert!(
        at.iter().all(|local| local.port() % 2 == 0),
        "RTP ports are even: {at:?}"
    );

    converse((&mut alice, at[0]), (&mut bob, at[1]), PACKETS);

    for (listener, own, other, ssrc) in [
        (&alice, 440.0, 1_000.0, reply.endpoints[0].ssrc),
        (&bob, 1_000.0, 440.0, reply.endpoints[1].ssrc),
    ] {
        assert_eq!(listener.heard.len(), PACKETS, "every packet arrives once");
        assert!(
            listener.share(other) > 0.98,
            "hears {other} Hz: {}",
            listener.share(other)
        );
        assert!(
            listener.share(own) < 0.001,
            "does not hear itself: {}",
            listener.share(own)
        );
        let first = listener.heard[0].0.sequence;
        for (index, (header, _)) in listener.heard.iter().enumerate() {
            assert_eq!(
                header.sequence,
                first.wrapping_add(index as u16),
                "in order, without a gap"
            );
            assert_eq!(header.ssrc.0, ssrc, "the SSRC that was announced");
        }
    }

    let deleted = media
        .delete(pb::DeleteRequest {
            session: "call".into(),
            owner: owner(1),
        })
        .await
        .unwrap();
    let stats = deleted.into_inner().endpoints;
    assert_eq!(
        stats.iter().map(|e| e.node.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    for endpoint in &stats {
        let (ingress, egress) = (
            endpoint.ingress.as_ref().unwrap(),
            endpoint.egress.as_ref().unwrap(),
        );
        assert_eq!((ingress.packets, ingress.lost), (PACKETS as u64, 0));
        assert_eq!(egress.packets, PACKETS as u64);
    }
}

#[tokio::test]
async fn over_epoll() {
    relayed("mmsg").await;
}

#[tokio::test]
async fn over_io_uring() {
    relayed("uring").await;
}

#[tokio::test]
async fn over_shared_sockets() {
    if may_share() {
        relayed("shared").await;
    }
}
