//! The management address: metrics, health, and what is going on as JSON, over plain HTTP.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use call_control::Live;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    core::{Inputs, Question},
    journal, limits, live, metrics, transport,
};

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) inputs: Inputs,
    pub(crate) transport: Arc<transport::Counters>,
    pub(crate) journal: Arc<journal::Shared>,
    pub(crate) ending: watch::Receiver<bool>,
}

/// Binds a TCP listener.
///
/// # Errors
/// Names address, setting and remedy.
pub(crate) async fn bind(setting: &str, addr: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let failed = |error| transport::bind_failed("tcp", setting, addr, &error);
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// Serves until the process ends.
///
/// # Errors
/// The listener failed.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) -> Result<(), String> {
    let mut ending = pages.ending.clone();
    let router = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/v1/agents", get(|pages| live_page(pages, live::agents)))
        .route("/v1/queues", get(|pages| live_page(pages, live::queues)))
        .route("/v1/calls", get(|pages| live_page(pages, live::calls)))
        .route(
            "/v1/registrations",
            get(|pages| live_page(pages, live::registrations)),
        )
        .route("/v1/hosts", get(|pages| live_page(pages, live::hosts)))
        .route("/v1/cdrs", get(details_page))
        .with_state(pages);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            // The sender gone is an end too.
            let _ = ending.wait_for(|ending| *ending).await;
        })
        .await
        .map_err(|error| format!("management listener: {error}"))
}

async fn live_page(State(pages): State<Pages>, part: fn(&Live) -> Value) -> Response {
    match pages.inputs.ask(Question::Live).await {
        Some(live) => Json(part(&live)).into_response(),
        None => silent(),
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DetailsQuery {
    limit: usize,
}

impl Default for DetailsQuery {
    fn default() -> Self {
        Self { limit: 100 }
    }
}

/// Call details, newest first, as the journal has them.
async fn details_page(State(pages): State<Pages>, Query(query): Query<DetailsQuery>) -> Response {
    let limit = query.limit.min(limits::CDRS_KEPT);
    match pages.inputs.ask(|to| Question::Details(limit, to)).await {
        Some(details) => Json(json!(details)).into_response(),
        None => silent(),
    }
}

async fn metrics_page(State(pages): State<Pages>) -> Response {
    let Some(counters) = pages.inputs.ask(Question::Counters).await else {
        return silent();
    };
    let Some(live) = pages.inputs.ask(Question::Live).await else {
        return silent();
    };
    let text = metrics::page(&metrics::Sources {
        counters: &counters,
        live: &live,
        inputs: pages.inputs.counters(),
        transport: &pages.transport,
        journal: &pages.journal,
    });
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

/// Alive: the core thread answers.
async fn health(State(pages): State<Pages>) -> Response {
    match pages.inputs.ask(Question::Counters).await {
        Some(_) => (StatusCode::OK, "ok\n").into_response(),
        None => silent(),
    }
}

/// Ready: a media host is up, so calls can be taken.
async fn readiness(State(pages): State<Pages>) -> Response {
    if *pages.ending.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match pages.inputs.ask(Question::Live).await {
        Some(live) if live.hosts.iter().any(|host| host.boot_id.is_some()) => {
            (StatusCode::OK, "ready\n").into_response()
        }
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "no media host is up\n").into_response(),
        None => silent(),
    }
}

fn silent() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the core thread does not answer\n",
    )
        .into_response()
}
