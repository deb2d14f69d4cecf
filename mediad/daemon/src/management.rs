//! The management address: Prometheus metrics and health over plain HTTP.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use proto::mediad::v1 as pb;
use tokio::{net::TcpListener, time::timeout};

use crate::{
    grpc::{Context, Tally},
    limits, metrics,
    reload::Reloads,
    worker::Shared,
};

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) context: Context,
    pub(crate) workers: Arc<[Arc<Shared>]>,
    pub(crate) reloads: Arc<Reloads>,
}

/// Binds a TCP listener.
///
/// # Errors
/// Names address, setting and remedy.
pub(crate) async fn bind(setting: &str, addr: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            let (ip, port) = (addr.ip(), addr.port());
            format!("port {port} (tcp, {ip}) is in use; set {setting} or stop the other process")
        }
        _ => format!("{setting} = {addr}: {error}"),
    };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// Serves until the process ends.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) -> Result<(), String> {
    let context = pages.context.clone();
    let router = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .with_state(pages);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { context.ended().await })
        .await
        .map_err(|error| format!("management listener: {error}"))
}

async fn metrics_page(State(pages): State<Pages>) -> impl IntoResponse {
    let Some(status) = pages.status().await else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the host thread does not answer\n",
        )
            .into_response();
    };
    let figures: Vec<_> = pages
        .workers
        .iter()
        .map(|worker| worker.counters.read())
        .collect();
    let tally: &Tally = &pages.context.tally;
    let line = &pages.context.line;
    let requests = (line.waiting(), line.capacity());
    let text = metrics::page(
        &status,
        &figures,
        tally,
        requests,
        pages.reloads.counts(),
        pages.context.store.recordings.counters(),
    );
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

/// Alive: the host thread answers.
async fn health(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    match pages.status().await {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the host thread does not answer\n",
        ),
    }
}

/// Ready: takes new sessions.
async fn readiness(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    match pages.status().await {
        Some(status) if status.state() == pb::HostState::Serving => (StatusCode::OK, "ready\n"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the host thread does not answer\n",
        ),
    }
}

impl Pages {
    async fn status(&self) -> Option<pb::StatusReply> {
        let asked = self.context.line.ask(crate::requests::Request::Status);
        timeout(limits::MANAGEMENT_TIMEOUT, asked).await.ok()?.ok()
    }
}
