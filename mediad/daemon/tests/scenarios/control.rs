//! A controller's stream, as a test holds it.

use proto::mediad::v1::{self as pb, media_client::MediaClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::support::PATIENCE;

/// Said hello and open; drops without a goodbye.
pub(crate) struct Stream {
    requests: mpsc::Sender<pb::ControlRequest>,
    replies: Streaming<pb::ControlReply>,
    pub(crate) hello: pb::HelloReply,
}

impl Stream {
    pub(crate) async fn open(media: &mut MediaClient<Channel>, controller: &str, lease_ms: u32) -> Self {
        let (requests, stream) = mpsc::channel(16);
        let hello = pb::Hello {
            controller: controller.into(),
            lease_ms,
        };
        requests
            .send(pb::ControlRequest {
                hello: Some(hello),
                commands: Vec::new(),
            })
            .await
            .unwrap();
        let mut replies = media
            .control(ReceiverStream::new(stream))
            .await
            .unwrap()
            .into_inner();
        let hello = replies.message().await.unwrap().unwrap().hello.unwrap();
        Self {
            requests,
            replies,
            hello,
        }
    }

    pub(crate) async fn send(&self, commands: Vec<pb::Command>) {
        self.requests
            .send(pb::ControlRequest {
                hello: None,
                commands,
            })
            .await
            .unwrap();
    }

    pub(crate) async fn replies(&mut self) -> Vec<pb::CommandReply> {
        let reply = tokio::time::timeout(PATIENCE, self.replies.message())
            .await
            .unwrap();
        reply.unwrap().unwrap().replies
    }
}
