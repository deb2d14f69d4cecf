//! A telephone-event from a peer becomes an event; digits sent by an act reach the peer, once for each request id.

use std::time::Duration;

use proto::mediad::v1::{self as pb, act_request::Act, event};
use rtp::{
    header::RtpHeader,
    units::{PayloadType, RtpTimestamp, Ssrc},
};

use crate::support::{Daemon, PATIENCE, Party, call, converse, may_share, next_event, owner, ports};

fn act(request: &str, digits: &str) -> pb::ActRequest {
    let send = pb::SendDigits {
        digits: digits.into(),
        duration_ms: 60,
        gap_ms: 40,
        volume: None,
    };
    pb::ActRequest {
        session: "s".into(),
        owner: owner(1),
        node: "b".into(),
        request: request.into(),
        act: Some(Act::SendDigits(send)),
    }
}

/// Event numbers of the telephone-events heard, one for each timestamp.
fn events_heard(party: &Party) -> Vec<u8> {
    let events = party
        .heard
        .iter()
        .filter(|(header, _)| header.payload_type.value() == 101);
    let mut seen: Vec<(u32, u8)> = events
        .map(|(header, payload)| (header.timestamp.0, payload[0]))
        .collect();
    seen.dedup();
    seen.into_iter().map(|(_, event)| event).collect()
}

async fn dialled(backend: &str) {
    let backend = format!("io.backend={backend}");
    let daemon = Daemon::start(&[&backend]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let reply = media
        .apply(call("s", Some(alice.addr()), Some(bob.addr())))
        .await
        .unwrap()
        .into_inner();
    let at = ports(&reply);
    converse((&mut alice, at[0]), (&mut bob, at[1]), 5);
    let mut watch = media
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();

    // Alice presses 7 for 80 ms: RFC 4733 §2.5.1.2, updates and three end packets.
    let header = |index: u16| RtpHeader {
        marker: index == 0,
        payload_type: PayloadType::new(101).unwrap(),
        sequence: 40_000 + index,
        timestamp: RtpTimestamp(77_000),
        ssrc: Ssrc(0x00a1_1ce5),
    };
    for (index, (end, duration)) in [
        (0, 160),
        (0, 320),
        (0, 480),
        (0x80, 640),
        (0x80, 640),
        (0x80, 640),
    ]
    .into_iter()
    .enumerate()
    {
        let mut packet = [0; 16];
        header(index as u16).write_to(&mut packet);
        let duration = u16::to_be_bytes(duration);
        packet[12..].copy_from_slice(&[7, end | 10, duration[0], duration[1]]);
        alice.socket.send_to(&packet, at[0]).unwrap();
    }
    let ended = next_event(&mut watch, |kind| matches!(kind, event::Kind::DigitEnded(_))).await;
    let Some(event::Kind::DigitEnded(digit)) = &ended.kind else {
        panic!("a digit")
    };
    assert_eq!(
        (ended.node.as_str(), digit.digit.as_str(), digit.duration_ms),
        ("a", "7", 80)
    );
    assert!(!digit.inferred);

    // The host dials 5 # towards Bob; the repeat of the same request does nothing more.
    bob.listen();
    bob.heard.clear();
    media.act(act("dial-1", "5#")).await.unwrap();
    media.act(act("dial-1", "5#")).await.unwrap();
    let since = std::time::Instant::now();
    while events_heard(&bob).len() < 2 {
        assert!(since.elapsed() < PATIENCE, "heard {:?}", events_heard(&bob));
        tokio::time::sleep(Duration::from_millis(5)).await;
        bob.listen();
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    bob.listen();
    assert_eq!(events_heard(&bob), [5, 11], "once each, in order");

    let unknown = media
        .act(pb::ActRequest {
            node: "nobody".into(),
            ..act("dial-2", "1")
        })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let letter = media.act(act("dial-3", "x")).await.unwrap_err();
    assert_eq!(letter.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn over_epoll() {
    dialled("mmsg").await;
}

#[tokio::test]
async fn over_io_uring() {
    dialled("uring").await;
}

#[tokio::test]
async fn over_shared_sockets() {
    if may_share() {
        dialled("shared").await;
    }
}
