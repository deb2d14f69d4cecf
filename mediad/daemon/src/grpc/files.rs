//! The Files service: in the contract, not carried out yet.

use proto::mediad::v1::{self as pb, files_server};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Context, unimplemented};

/// Refuses `mediad.v1.Files`, naming the call.
#[derive(Debug)]
pub(super) struct Files(pub(super) Context);

impl Files {
    fn refuse<T>(&self, method: &str) -> Result<Response<T>, Status> {
        self.0.tally.call(
            method,
            Err(unimplemented(&method.replace('/', "."), String::new())),
        )
    }
}

#[tonic::async_trait]
impl files_server::Files for Files {
    type FetchStream = ReceiverStream<Result<pb::FetchReply, Status>>;

    async fn put(&self, _: Request<Streaming<pb::PutRequest>>) -> Result<Response<pb::PutReply>, Status> {
        self.refuse("Files/Put")
    }

    async fn list(&self, _: Request<pb::FileListRequest>) -> Result<Response<pb::FileListReply>, Status> {
        self.refuse("Files/List")
    }

    async fn delete(
        &self,
        _: Request<pb::FileDeleteRequest>,
    ) -> Result<Response<pb::FileDeleteReply>, Status> {
        self.refuse("Files/Delete")
    }

    async fn fetch(&self, _: Request<pb::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        self.refuse("Files/Fetch")
    }

    async fn acknowledge(
        &self,
        _: Request<pb::AcknowledgeRequest>,
    ) -> Result<Response<pb::AcknowledgeReply>, Status> {
        self.refuse("Files/Acknowledge")
    }
}
