//! Whoever acts on an old view of a session, or after another took it over, is told so and changes nothing.

use proto::mediad::v1 as pb;
use tonic::Code;

use crate::support::{Daemon, call, error, owner};

fn muted(epoch: u64, if_revision: Option<u64>) -> pb::ApplyRequest {
    let edge = pb::Edge {
        from: "a".into(),
        to: "b".into(),
        muted: true,
        ..Default::default()
    };
    pb::ApplyRequest {
        session: "s".into(),
        owner: owner(epoch),
        if_revision,
        put_edges: vec![edge],
        ..Default::default()
    }
}

#[tokio::test]
async fn and_name_both_numbers() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let fresh = pb::ApplyRequest {
        if_revision: Some(0),
        ..call("s", None, None)
    };
    assert_eq!(media.apply(fresh.clone()).await.unwrap().into_inner().revision, 1);

    let twice = media.apply(fresh).await.unwrap_err();
    assert_eq!(
        (twice.code(), error(&twice).subject.as_str()),
        (Code::FailedPrecondition, "session:s")
    );
    assert_eq!(
        media
            .apply(muted(1, Some(1)))
            .await
            .unwrap()
            .into_inner()
            .revision,
        2
    );
    let stale = media.apply(muted(1, Some(1))).await.unwrap_err();
    assert_eq!(stale.code(), Code::FailedPrecondition);
    assert!(
        stale.message().contains("revision 2") && stale.message().contains('1'),
        "{}",
        stale.message()
    );
    // Nothing changed, nothing counted.
    assert_eq!(
        media
            .apply(muted(1, Some(2)))
            .await
            .unwrap()
            .into_inner()
            .revision,
        2
    );

    let new_owner = Some(pb::Owner {
        controller: "heir".into(),
        epoch: 2,
    });
    let adopted = media
        .adopt(pb::AdoptRequest {
            session: "s".into(),
            owner: new_owner.clone(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(adopted.revision, 2);
    let description = adopted.description.unwrap();
    assert_eq!(description.summary.unwrap().owner, new_owner);
    assert_eq!(description.edges.iter().filter(|edge| edge.muted).count(), 1);

    for stale in [
        media.apply(muted(1, None)).await.map(drop).unwrap_err(),
        media
            .delete(pb::DeleteRequest {
                session: "s".into(),
                owner: owner(1),
            })
            .await
            .map(drop)
            .unwrap_err(),
        media
            .adopt(pb::AdoptRequest {
                session: "s".into(),
                owner: owner(2),
            })
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert_eq!(stale.code(), Code::FailedPrecondition, "{}", stale.message());
        assert_eq!(error(&stale).subject, "session:s");
    }
    media
        .delete(pb::DeleteRequest {
            session: "s".into(),
            owner: new_owner,
        })
        .await
        .unwrap();
    let gone = media
        .describe(pb::DescribeRequest { session: "s".into() })
        .await
        .unwrap_err();
    assert_eq!(
        (gone.code(), error(&gone).subject.as_str()),
        (Code::NotFound, "session:s")
    );
}
