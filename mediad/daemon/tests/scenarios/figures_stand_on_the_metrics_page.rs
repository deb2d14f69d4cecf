//! The metrics page says what the packets, ports and calls of a known conversation add up to.

use proto::mediad::v1 as pb;
use tonic::Code;

use crate::support::{Daemon, PATIENCE, Party, call, converse, ports};

/// The value of a sample, labels and all.
fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines()
        .find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

#[tokio::test]
async fn of_a_known_conversation() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let reply = media
        .apply(call("s", Some(alice.addr()), Some(bob.addr())))
        .await
        .unwrap()
        .into_inner();
    let twice = pb::ApplyRequest {
        if_revision: Some(0),
        ..call("s", None, None)
    };
    assert_eq!(
        media.apply(twice).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    let at = ports(&reply);
    converse((&mut alice, at[0]), (&mut bob, at[1]), 25);
    alice.socket.send_to(b"not rtp", at[0]).unwrap();

    // A worker publishes within a quarter of a second.
    let wanted = [
        ("mediad_sessions", 1.0),
        ("mediad_endpoints", 2.0),
        ("mediad_port_pairs{interface=\"lo\",state=\"used\"}", 2.0),
        ("mediad_sockets{worker=\"0\"}", 4.0),
        ("mediad_drops_total{worker=\"0\",reason=\"malformed\"}", 1.0),
        ("mediad_grpc_calls_total{method=\"Media/Apply\",code=\"OK\"}", 1.0),
        (
            "mediad_grpc_calls_total{method=\"Media/Apply\",code=\"FAILED_PRECONDITION\"}",
            1.0,
        ),
        ("mediad_packets_total{worker=\"0\",direction=\"rx\"}", 51.0),
        ("mediad_mailbox_size{worker=\"0\"}", 4_096.0),
        ("mediad_draining", 0.0),
    ];
    let since = std::time::Instant::now();
    let missing = |page: &str| {
        wanted
            .iter()
            .find(|(sample, figure)| value(page, sample) != Some(*figure))
            .copied()
    };
    let mut page = daemon.page("/metrics").1;
    while let Some((sample, figure)) = missing(&page) {
        assert!(
            since.elapsed() < PATIENCE,
            "{sample} is {:?}, not {figure}",
            value(&page, sample)
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        page = daemon.page("/metrics").1;
    }
    assert!(value(&page, "mediad_packets_total{worker=\"0\",direction=\"tx\"}") >= Some(50.0));
    assert!(value(&page, "mediad_worker_cpu_seconds_total{worker=\"0\"}") > Some(0.0));
    let wakes: f64 = ["datagram", "command", "deadline", "tick"]
        .iter()
        .filter_map(|reason| {
            value(
                &page,
                &format!("mediad_wakeups_total{{worker=\"0\",reason=\"{reason}\"}}"),
            )
        })
        .sum();
    assert!(wakes > 10.0, "{wakes}");
    assert!(daemon.page("/nonsense").0.contains("404"));
}
