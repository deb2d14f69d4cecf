//! A host out of ports says which range, how many are in use and how many rest; what was tried leaves no trace.

use proto::mediad::v1 as pb;
use tonic::Code;

use crate::support::{Daemon, call, error, free_ports, owner};

#[tokio::test]
async fn and_come_back_after_quarantine() {
    // Three pairs: room for one call and a half.
    let port_min = free_ports(6);
    let daemon = Daemon::start_on(port_min, 6, &["media.quarantine_ms=300"]);
    let mut media = daemon.media().await;
    media.apply(call("one", None, None)).await.unwrap();
    let full = media.apply(call("two", None, None)).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    let error = error(&full);
    assert!(error.subject.starts_with("transport:t"), "{}", error.subject);
    let range = format!("{port_min}-{}", port_min + 5);
    for part in [range.as_str(), "\"lo\"", "3 pairs in use", "0 in quarantine"] {
        assert!(error.message.contains(part), "{part:?} in {:?}", error.message);
    }
    let free = |status: pb::StatusReply| {
        (
            status.interfaces[0].ports_free,
            status.interfaces[0].ports_quarantined,
        )
    };
    let mut host = daemon.host().await;
    let status = host.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(free(status), (1, 0), "the half that was had is given back");

    media
        .delete(pb::DeleteRequest {
            session: "one".into(),
            owner: owner(1),
        })
        .await
        .unwrap();
    let resting = media.apply(call("two", None, None)).await.unwrap_err();
    assert!(
        resting.message().contains("2 in quarantine"),
        "{}",
        resting.message()
    );
    let since = std::time::Instant::now();
    while let Err(status) = media.apply(call("two", None, None)).await {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(since.elapsed() < crate::support::PATIENCE, "{}", status.message());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn and_ports_of_other_programs_are_passed_over() {
    let port_min = free_ports(6);
    let other = std::net::UdpSocket::bind(("127.0.0.1", port_min + 2)).unwrap();
    let daemon = Daemon::start_on(port_min, 6, &[]);
    let reply = daemon
        .media()
        .await
        .apply(call("one", None, None))
        .await
        .unwrap()
        .into_inner();
    let mut got: Vec<u16> = crate::support::ports(&reply)
        .iter()
        .map(std::net::SocketAddr::port)
        .collect();
    got.sort_unstable();
    assert_eq!(got, [port_min, port_min + 4]);
    drop(other);
}
