//! The Files service: prompts and recordings of this host.

use proto::mediad::v1::{self as pb, files_server};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{Context, status};
use crate::{
    files::{Range, Store},
    limits,
};

/// Serves `mediad.v1.Files`.
#[derive(Debug)]
pub(super) struct Files(pub(super) Context);

impl Files {
    /// Runs `work` where it may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, pb::Error> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.0.store.clone();
        let done = spawn_blocking(move || work(&store)).await;
        done.map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| status(&error))
    }

    async fn receive(&self, mut parts: Streaming<pb::PutRequest>) -> Result<pb::PutReply, Status> {
        let first = parts.message().await?;
        let first =
            first.ok_or_else(|| Status::invalid_argument("the upload is empty; give its name first"))?;
        let pb::PutRequest { name, data } = first;
        let mut upload = self
            .run(move |store| {
                let mut upload = store.put(&name)?;
                upload.write(&data)?;
                Ok(upload)
            })
            .await?;
        while let Some(part) = parts.next().await {
            let part = part?;
            if !part.name.is_empty() {
                return Err(Status::invalid_argument(
                    "the name stands in the first message of an upload only",
                ));
            }
            upload = self
                .run(move |_| upload.write(&part.data).map(|()| upload))
                .await?;
        }
        self.run(move |_| upload.finish()).await
    }
}

#[tonic::async_trait]
impl files_server::Files for Files {
    type FetchStream = ReceiverStream<Result<pb::FetchReply, Status>>;

    async fn put(
        &self,
        request: Request<Streaming<pb::PutRequest>>,
    ) -> Result<Response<pb::PutReply>, Status> {
        let received = self.receive(request.into_inner()).await;
        self.0.tally.call("Files/Put", received)
    }

    async fn list(
        &self,
        request: Request<pb::FileListRequest>,
    ) -> Result<Response<pb::FileListReply>, Status> {
        let request = request.into_inner();
        let listed = self.run(move |store| store.list(&request)).await;
        self.0.tally.call("Files/List", listed)
    }

    async fn delete(
        &self,
        request: Request<pb::FileDeleteRequest>,
    ) -> Result<Response<pb::FileDeleteReply>, Status> {
        let request = request.into_inner();
        let deleted = self.run(move |store| store.delete(&request)).await;
        self.0
            .tally
            .call("Files/Delete", deleted.map(|()| pb::FileDeleteReply {}))
    }

    async fn fetch(&self, request: Request<pb::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let request = request.into_inner();
        let opened = self.run(move |store| store.fetch(&request)).await;
        self.0.tally.call("Files/Fetch", opened.map(stream))
    }

    async fn acknowledge(
        &self,
        request: Request<pb::AcknowledgeRequest>,
    ) -> Result<Response<pb::AcknowledgeReply>, Status> {
        let request = request.into_inner();
        let done = self.run(move |store| store.acknowledge(&request)).await;
        self.0
            .tally
            .call("Files/Acknowledge", done.map(|()| pb::AcknowledgeReply {}))
    }
}

/// Reads on as fast as the caller takes it.
fn stream(mut range: Range) -> ReceiverStream<Result<pb::FetchReply, Status>> {
    let (tx, rx) = mpsc::channel(limits::FETCH_PARTS_AHEAD);
    spawn_blocking(move || {
        // An empty part tells the size of an empty file.
        if range.offset == range.end {
            let part = pb::FetchReply {
                data: Vec::new(),
                offset: range.offset,
                total_bytes: range.total,
            };
            let _ = tx.blocking_send(Ok(part));
            return;
        }
        loop {
            let part = match range.next() {
                Ok(Some(part)) => Ok(part),
                Ok(None) => return,
                Err(error) => Err(status(&error)),
            };
            let failed = part.is_err();
            // The caller may have gone away.
            if tx.blocking_send(part).is_err() || failed {
                return;
            }
        }
    });
    ReceiverStream::new(rx)
}
