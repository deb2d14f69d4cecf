//! Each kind of mistake has its own clear status, names what is at fault, and changes nothing.

use proto::mediad::v1::{self as pb, node, transport};
use tonic::Code;

use crate::support::{Daemon, call, edge, endpoint, error, owner, udp};

type Mistake = fn(&mut pb::ApplyRequest);

fn udp_of(request: &mut pb::ApplyRequest) -> &mut pb::UdpTransport {
    let Some(transport::Kind::Udp(udp)) = &mut request.put_transports[0].kind else {
        panic!("udp")
    };
    udp
}

fn endpoint_of(request: &mut pb::ApplyRequest) -> &mut pb::Endpoint {
    let Some(node::Kind::Endpoint(endpoint)) = &mut request.put_nodes[0].kind else {
        panic!("endpoint")
    };
    endpoint
}

fn node_of(id: &str, kind: node::Kind) -> pb::Node {
    pb::Node {
        id: id.into(),
        kind: Some(kind),
    }
}

/// What is wrong, the code, the subject, and words the message must have.
const MISTAKES: &[(Mistake, Code, &str, &str)] = &[
    (|r| r.session.clear(), Code::InvalidArgument, "", "session id"),
    (
        |r| r.session = "s".repeat(200),
        Code::InvalidArgument,
        "",
        "128 bytes",
    ),
    (
        |r| r.owner = None,
        Code::InvalidArgument,
        "session:s",
        "owner.controller",
    ),
    (
        |r| r.put_nodes[0].kind = None,
        Code::InvalidArgument,
        "node:a",
        "kind",
    ),
    (
        |r| r.put_transports[0].kind = None,
        Code::InvalidArgument,
        "transport:ta",
        "kind",
    ),
    (
        |r| r.put_nodes.push(endpoint("a", "ta")),
        Code::InvalidArgument,
        "node:a",
        "twice",
    ),
    (
        |r| r.put_edges.push(edge("a", "b")),
        Code::InvalidArgument,
        "edge:a>b",
        "twice",
    ),
    (
        |r| r.put_edges.push(edge("a", "nobody")),
        Code::InvalidArgument,
        "edge:a>nobody",
        "\"nobody\"",
    ),
    (
        |r| r.put_edges.push(edge("a", "a")),
        Code::InvalidArgument,
        "edge:a>a",
        "hear itself",
    ),
    (
        |r| endpoint_of(r).transport = "t9".into(),
        Code::InvalidArgument,
        "node:a",
        "\"t9\"",
    ),
    (
        |r| endpoint_of(r).transport = "tb".into(),
        Code::InvalidArgument,
        "node:b",
        "\"tb\"",
    ),
    (
        |r| endpoint_of(r).formats.clear(),
        Code::InvalidArgument,
        "node:a",
        "formats",
    ),
    (
        |r| endpoint_of(r).formats[0].payload_type = 200,
        Code::InvalidArgument,
        "node:a",
        "200",
    ),
    (
        |r| endpoint_of(r).formats[1].payload_type = 0,
        Code::InvalidArgument,
        "node:a",
        "payload type 0",
    ),
    (
        |r| drop(endpoint_of(r).formats.remove(0)),
        Code::InvalidArgument,
        "node:a",
        "no audio format",
    ),
    (
        |r| endpoint_of(r).ptime_ms = 500,
        Code::InvalidArgument,
        "node:a",
        "500",
    ),
    (
        |r| udp_of(r).interface = "outside".into(),
        Code::InvalidArgument,
        "transport:ta",
        "lo",
    ),
    (
        |r| {
            udp_of(r).remote = Some(pb::Address {
                ip: "x".into(),
                port: 4,
            })
        },
        Code::InvalidArgument,
        "transport:ta",
        "\"x",
    ),
    (
        |r| udp_of(r).remote.as_mut().unwrap().port = 0,
        Code::InvalidArgument,
        "transport:ta",
        "remote",
    ),
    (
        |r| udp_of(r).dscp = Some(64),
        Code::InvalidArgument,
        "transport:ta",
        "64",
    ),
    (
        |r| udp_of(r).family = pb::AddressFamily::Ipv6.into(),
        Code::InvalidArgument,
        "transport:ta",
        "IPv6",
    ),
    (
        |r| udp_of(r).requested_port = 80,
        Code::ResourceExhausted,
        "transport:ta",
        "80",
    ),
    (
        |r| udp_of(r).ice = Some(pb::IceConfig::default()),
        Code::Unimplemented,
        "transport:ta",
        "ICE",
    ),
    (
        |r| udp_of(r).security = Some(pb::udp_transport::Security::Dtls(pb::DtlsSecurity::default())),
        Code::Unimplemented,
        "transport:ta",
        "DTLS",
    ),
    (
        |r| {
            r.put_nodes
                .push(node_of("r", node::Kind::Recorder(pb::Recorder::default())))
        },
        Code::InvalidArgument,
        "",
        "recording id",
    ),
    (
        |r| {
            let tap = pb::Tap {
                sample_rate_hz: 44_100,
            };
            r.put_nodes.push(node_of("t", node::Kind::Tap(tap)));
        },
        Code::InvalidArgument,
        "node:t",
        "sample_rate_hz is 44100",
    ),
    (
        |r| r.remove_nodes.push("ghost".into()),
        Code::NotFound,
        "node:ghost",
        "does not exist",
    ),
    (
        |r| r.remove_transports.push("ghost".into()),
        Code::NotFound,
        "transport:ghost",
        "does not exist",
    ),
];

#[tokio::test]
async fn on_creation_and_on_edits() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let good = call("s", Some("127.0.0.1:4000".parse().unwrap()), None);
    for exists in [false, true] {
        if exists {
            media.apply(good.clone()).await.unwrap();
        }
        let before = media.list(pb::ListRequest::default()).await.unwrap().into_inner();
        for (index, (mistake, code, subject, words)) in MISTAKES.iter().enumerate() {
            if exists && *words == "80" {
                // A transport that exists keeps its port; the wish for one is of its creation.
                continue;
            }
            let mut bad = good.clone();
            mistake(&mut bad);
            let status = media
                .apply(bad)
                .await
                .expect_err(&format!("mistake {index} ({words}) is taken"));
            let error = error(&status);
            assert_eq!(error.subject, *subject, "mistake {index}: {}", error.message);
            if exists && error.message.contains("cannot change") {
                // Of a transport that exists, even a good value of these would be refused.
                assert_eq!(status.code(), Code::InvalidArgument, "mistake {index}");
                continue;
            }
            assert_eq!(status.code(), *code, "mistake {index}: {}", error.message);
            let message = error.message.to_lowercase();
            assert!(
                message.contains(&words.to_lowercase()),
                "mistake {index}: {words:?} in {:?}",
                error.message
            );
        }
        assert_eq!(
            media.list(pb::ListRequest::default()).await.unwrap().into_inner(),
            before
        );
    }
    let status = daemon
        .host()
        .await
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let lo = &status.interfaces[0];
    assert_eq!(
        (lo.ports_used, lo.ports_free, status.sessions),
        (2, 30, 1),
        "no port stays taken"
    );
}

#[tokio::test]
async fn what_rides_on_a_transport_keeps_it() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    media.apply(call("s", None, None)).await.unwrap();
    let edit = |change: fn(&mut pb::ApplyRequest)| {
        let mut request = pb::ApplyRequest {
            session: "s".into(),
            owner: owner(1),
            ..Default::default()
        };
        change(&mut request);
        request
    };
    let status = media
        .apply(edit(|r| r.remove_transports.push("ta".into())))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), error(&status).subject.as_str()),
        (Code::InvalidArgument, "transport:ta")
    );
    let status = media
        .apply(edit(|r| {
            let mut muxed = udp("ta", None);
            let Some(transport::Kind::Udp(udp)) = &mut muxed.kind else {
                panic!("udp")
            };
            udp.rtcp = pb::RtcpMode::Mux.into();
            r.put_transports.push(muxed);
        }))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), error(&status).subject.as_str()),
        (Code::InvalidArgument, "transport:ta")
    );
    let taken = media
        .apply(edit(|r| {
            r.remove_edges.push(pb::EdgeKey {
                from: "b".into(),
                to: "a".into(),
            })
        }))
        .await;
    assert_eq!(
        taken.unwrap().into_inner().revision,
        2,
        "a good edit still goes through"
    );
}
