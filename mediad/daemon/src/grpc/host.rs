//! The Host service.

use proto::mediad::v1::{self as pb, host_server};
use tonic::{Request, Response, Status};

use super::{Context, status};
use crate::requests::Request as Ask;

/// Serves `mediad.v1.Host`.
#[derive(Debug)]
pub(super) struct Host(pub(super) Context);

#[tonic::async_trait]
impl host_server::Host for Host {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        let told = self.0.line.ask(Ask::Status).await;
        self.0.tally.call("Host/Status", told.map_err(|e| status(&e)))
    }

    async fn drain(&self, request: Request<pb::DrainRequest>) -> Result<Response<pb::DrainReply>, Status> {
        let drained = self
            .0
            .line
            .ask(|reply| Ask::Drain(request.into_inner().drain, reply))
            .await;
        self.0.tally.call("Host/Drain", drained.map_err(|e| status(&e)))
    }
}
