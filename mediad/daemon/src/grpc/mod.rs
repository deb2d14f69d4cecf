//! The gRPC side: turns calls into requests to the host thread and back. Runs on its own tokio runtime.

mod connection;
mod control;
mod files;
mod host;
mod media;
mod tally;
mod tap;
pub(crate) mod tls;
mod watch;

use std::{net::SocketAddr, sync::Arc};

use prost::Message as _;
use proto::mediad::v1::{
    self as pb, files_server::FilesServer, host_server::HostServer, media_server::MediaServer,
};
use tokio::{net::TcpListener, sync::watch as tokio_watch};
use tonic::{Code, Status, transport::Server};

pub(crate) use self::{connection::Greeting, tally::Tally};
use crate::{config::Limits, files::Store, limits, requests::HostLine, seats::Seats};

/// What every service shares.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) line: HostLine,
    /// Number of the latest event.
    pub(crate) latest: tokio_watch::Receiver<u64>,
    /// Becomes true when the process ends: long calls end.
    pub(crate) ending: tokio_watch::Receiver<bool>,
    pub(crate) tally: Arc<Tally>,
    /// Programs at taps.
    pub(crate) seats: Arc<Seats>,
    pub(crate) watchers: Arc<tokio::sync::Semaphore>,
    pub(crate) watchers_max: usize,
    pub(crate) store: Store,
}

impl Context {
    /// The state of a process that just began. `latest` and `ending` are told through `told`.
    pub(crate) fn new(
        bounds: &Limits,
        line: HostLine,
        told: (tokio_watch::Receiver<u64>, tokio_watch::Receiver<bool>),
        seats: Arc<Seats>,
        store: Store,
    ) -> Self {
        let (latest, ending) = told;
        Self {
            line,
            latest,
            ending,
            tally: Arc::new(Tally::default()),
            seats,
            watchers: Arc::new(tokio::sync::Semaphore::new(bounds.watchers)),
            watchers_max: bounds.watchers,
            store,
        }
    }

    /// Resolves when the process ends.
    pub(crate) async fn ended(&self) {
        // An error means that the sender is gone: the process ends too.
        let _ = self.ending.clone().wait_for(|ending| *ending).await;
    }
}

/// Binds the control listener.
///
/// # Errors
/// Names address, setting and remedy.
pub(crate) async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    crate::management::bind("control.listen", addr).await
}

/// Serves until the process ends.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(
    bounds: &Limits,
    listener: TcpListener,
    greeting: Greeting,
    context: Context,
) -> Result<(), String> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<MediaServer<media::Media>>().await;
    reporter.set_serving::<HostServer<host::Host>>().await;
    reporter.set_serving::<FilesServer<files::Files>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| format!("reflection: {error}"))?;

    let mut server = Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(bounds.streams_per_connection)
        .concurrency_limit_per_connection(bounds.streams_per_connection as usize);
    let media =
        MediaServer::new(media::Media(context.clone())).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let router = server
        .add_service(health)
        .add_service(reflection)
        .add_service(media)
        .add_service(HostServer::new(host::Host(context.clone())))
        .add_service(FilesServer::new(files::Files(context.clone())));
    let incoming = connection::accept(listener, bounds.connections, greeting);
    let ending = async move { context.ended().await };
    router
        .serve_with_incoming_shutdown(incoming, ending)
        .await
        .map_err(|error| format!("control listener: {error}"))
}

/// The contract's error as a gRPC status, with itself as details.
pub(crate) fn status(error: &pb::Error) -> Status {
    Status::with_details(
        Code::from_i32(error.code),
        error.message.clone(),
        error.encode_to_vec().into(),
    )
}
