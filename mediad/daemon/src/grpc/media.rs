//! The Media service: unary calls; the long ones have files of their own.

use proto::mediad::v1::{self as pb, command::Kind, command_reply::Result as Done, media_server};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Context, control, status, tap, watch};
use crate::requests::{self, Request as Ask, Way};

/// Serves `mediad.v1.Media`.
#[derive(Debug)]
pub(super) struct Media(pub(super) Context);

impl Media {
    /// A command outside a control stream: a batch of one.
    async fn command(&self, kind: Kind) -> Result<Done, Status> {
        let commands = vec![pb::Command {
            id: 0,
            kind: Some(kind),
        }];
        let replies = self
            .0
            .line
            .ask(|reply| Ask::Commands(commands, Way::Call, reply))
            .await
            .map_err(|e| status(&e))?;
        match replies.into_iter().next().and_then(|reply| reply.result) {
            Some(Done::Error(error)) => Err(status(&error)),
            Some(done) => Ok(done),
            None => Err(status(&requests::stopped())),
        }
    }
}

/// The reply of the kind that was asked for.
macro_rules! expect {
    ($done:expr, $variant:ident) => {
        match $done {
            Ok(Done::$variant(reply)) => Ok(reply),
            Ok(_) => Err(Status::internal("the reply is of another kind than the command")),
            Err(status) => Err(status),
        }
    };
}

#[tonic::async_trait]
impl media_server::Media for Media {
    type ControlStream = ReceiverStream<Result<pb::ControlReply, Status>>;
    type WatchStream = ReceiverStream<Result<pb::WatchReply, Status>>;
    type TapStream = ReceiverStream<Result<pb::TapReply, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<pb::ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let opened = control::open(self.0.clone(), request.into_inner()).await;
        self.0.tally.call("Media/Control", opened)
    }

    async fn apply(&self, request: Request<pb::ApplyRequest>) -> Result<Response<pb::ApplyReply>, Status> {
        let done = self.command(Kind::Apply(request.into_inner())).await;
        self.0.tally.call("Media/Apply", expect!(done, Apply))
    }

    async fn act(&self, request: Request<pb::ActRequest>) -> Result<Response<pb::ActReply>, Status> {
        let done = self.command(Kind::Act(request.into_inner())).await;
        self.0.tally.call("Media/Act", expect!(done, Act))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteReply>, Status> {
        let done = self.command(Kind::Delete(request.into_inner())).await;
        self.0.tally.call("Media/Delete", expect!(done, Delete))
    }

    async fn adopt(&self, request: Request<pb::AdoptRequest>) -> Result<Response<pb::AdoptReply>, Status> {
        let done = self.command(Kind::Adopt(request.into_inner())).await;
        self.0.tally.call("Media/Adopt", expect!(done, Adopt))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::RenewReply>, Status> {
        let renewed = self
            .0
            .line
            .ask_or_refuse(|answer| Ask::Renew(request.into_inner(), answer))
            .await;
        self.0.tally.call("Media/Renew", renewed.map_err(|e| status(&e)))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListReply>, Status> {
        let listed = self
            .0
            .line
            .ask(|reply| Ask::List(request.into_inner(), reply))
            .await;
        self.0.tally.call("Media/List", listed.map_err(|e| status(&e)))
    }

    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::DescribeReply>, Status> {
        let session = request.into_inner().session;
        let described = self
            .0
            .line
            .ask_or_refuse(|answer| Ask::Describe(session, answer))
            .await;
        let reply = described.map(|description| pb::DescribeReply {
            description: Some(description),
        });
        self.0.tally.call("Media/Describe", reply.map_err(|e| status(&e)))
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainReply>, Status> {
        let explained = self
            .0
            .line
            .ask_or_refuse(|answer| Ask::Explain(request.into_inner(), answer))
            .await;
        self.0
            .tally
            .call("Media/Explain", explained.map_err(|e| status(&e)))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let opened = watch::open(self.0.clone(), request.into_inner());
        self.0.tally.call("Media/Watch", opened)
    }

    async fn tap(
        &self,
        request: Request<Streaming<pb::TapRequest>>,
    ) -> Result<Response<Self::TapStream>, Status> {
        let opened = tap::open(self.0.clone(), request.into_inner()).await;
        self.0.tally.call("Media/Tap", opened)
    }
}
