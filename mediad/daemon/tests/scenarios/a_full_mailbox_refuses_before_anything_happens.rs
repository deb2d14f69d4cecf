//! Overload refuses new work with RESOURCE_EXHAUSTED; what was refused left nothing behind, what was taken works.

use proto::mediad::v1::{self as pb, command::Kind, command_reply::Result as Done};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::support::{CONTROLLER, Daemon, call, free_ports};

const COMMANDS: u16 = 100;

#[tokio::test]
async fn and_the_rest_goes_on() {
    // The worker is asleep while the host thread works through a batch: the second command finds no room, or if it woke
    // up in between, one of the others.
    let daemon = Daemon::start_on(free_ports(4 * COMMANDS), 4 * COMMANDS, &["limits.mailbox=1"]);
    let mut media = daemon.media().await;
    let hello = pb::Hello {
        controller: CONTROLLER.into(),
        lease_ms: 0,
    };
    let apply = |id: u64| pb::Command {
        id,
        kind: Some(Kind::Apply(call(&format!("s{id}"), None, None))),
    };
    let requests = vec![
        pb::ControlRequest {
            hello: Some(hello),
            commands: Vec::new(),
        },
        pb::ControlRequest {
            hello: None,
            commands: (0..COMMANDS.into()).map(apply).collect(),
        },
    ];
    let stream = tokio_stream::iter(requests).chain(tokio_stream::pending());
    let mut replies = media.control(stream).await.unwrap().into_inner();
    assert!(replies.message().await.unwrap().unwrap().hello.is_some());
    let replies = replies.message().await.unwrap().unwrap().replies;
    let (mut taken, mut refused) = (0, 0);
    for reply in &replies {
        match reply.result.as_ref().unwrap() {
            Done::Apply(_) => taken += 1,
            Done::Error(error) => {
                assert_eq!(error.code, Code::ResourceExhausted as i32);
                assert!(error.message.contains("worker 0"), "{}", error.message);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(taken >= 1 && refused >= 1, "{taken} taken, {refused} refused");
    let status = daemon
        .host()
        .await
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.sessions, status.interfaces[0].ports_used),
        (taken, taken * 2)
    );
    for session in &media
        .list(pb::ListRequest::default())
        .await
        .unwrap()
        .into_inner()
        .sessions
    {
        let request = pb::DescribeRequest {
            session: session.session.clone(),
        };
        let described = media
            .describe(request)
            .await
            .unwrap()
            .into_inner()
            .description
            .unwrap();
        assert_eq!(described.plans.len(), 2, "its worker has it");
    }
}
