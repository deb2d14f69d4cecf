//! The management address: metrics, health, and what is going on as JSON, over plain HTTP.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use call_control::Live;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    core::{Action, Inputs, Question},
    journal, limits, live, metrics,
    store::{DetailQuery, Sqlite, Store as _, StoreError, projector},
    transport::{self, guard::Guard},
};

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) inputs: Inputs,
    pub(crate) transport: Arc<transport::Counters>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) journal: Arc<journal::Shared>,
    pub(crate) store: StorePages,
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
        .route("/v1/calls/{call}", delete(end_call))
        .route(
            "/v1/calls/{call}/recording",
            post(|pages, path| record(pages, path, None)),
        )
        .route(
            "/v1/calls/{call}/recording/pause",
            post(|pages, path| record(pages, path, Some(true)))
                .delete(|pages, path| record(pages, path, Some(false))),
        )
        .route(
            "/v1/conferences",
            get(|pages| live_page(pages, live::conferences)),
        )
        .route(
            "/v1/conferences/members/{call}/mute",
            post(|pages, path| mute(pages, path, true)).delete(|pages, path| mute(pages, path, false)),
        )
        .route(
            "/v1/registrations",
            get(|pages| live_page(pages, live::registrations)),
        )
        .route("/v1/hosts", get(|pages| live_page(pages, live::hosts)))
        .route("/v1/agents/{agent}/ready", post(agent_ready))
        .route("/v1/agents/{agent}/pause", post(agent_pause))
        .route("/v1/trunks", get(trunks_page))
        .route("/v1/cdrs", get(details_page))
        .route("/v1/statistics/queues", get(queue_hours_page))
        .route("/v1/statistics/agents", get(agent_spells_page))
        .route("/v1/sources", get(sources_page))
        .route("/v1/sources/{source}", delete(forgive_source))
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

async fn trunks_page(State(pages): State<Pages>) -> Response {
    match pages.inputs.ask(Question::Trunks).await {
        Some(trunks) => Json(live::trunks(&trunks)).into_response(),
        None => silent(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Why {
    /// For people; in the agent's state.
    reason: String,
}

async fn agent_ready(State(pages): State<Pages>, Path(agent): Path<String>) -> Response {
    act(&pages, Action::Ready(agent)).await
}

async fn agent_pause(
    State(pages): State<Pages>,
    Path(agent): Path<String>,
    Query(why): Query<Why>,
) -> Response {
    act(&pages, Action::Pause(agent, why.reason)).await
}

/// 204 when it was done; 404 with the reason when there is no such thing.
async fn act(pages: &Pages, action: Action) -> Response {
    match pages.inputs.ask(|to| Question::Do(action, to)).await {
        Some(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Some(Err(reason)) => (StatusCode::NOT_FOUND, format!("{reason}\n")).into_response(),
        None => silent(),
    }
}

/// The way to the store, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct StorePages {
    pub(crate) path: Option<PathBuf>,
    pub(crate) counters: Option<Arc<projector::Counters>>,
}

impl StorePages {
    /// Asks the store from a thread that may wait for it.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Sqlite) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Response> {
        let refuse = |reason: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
        let Some(path) = self.path.clone() else {
            return Err(refuse("there is no database; set store.path"));
        };
        let asked = tokio::task::spawn_blocking(move || question(&mut Sqlite::open(&path)?));
        match tokio::time::timeout(limits::STORE_QUERY, asked).await {
            Ok(Ok(Ok(found))) => Ok(found),
            Ok(Ok(Err(error))) => Err(refuse(&error.to_string())),
            Ok(Err(_)) | Err(_) => Err(refuse("the database does not answer in time")),
        }
    }
}

/// Call details, newest first: as the journal has them, or as the store finds them when they are to be narrowed.
async fn details_page(State(pages): State<Pages>, Query(mut query): Query<DetailQuery>) -> Response {
    let limit = query.limit.unwrap_or(100).min(limits::CDRS_KEPT);
    if query.is_narrow() {
        query.limit = Some(limit);
        return match pages.store.ask(move |store| store.details(&query)).await {
            Ok(details) => Json(json!(details)).into_response(),
            Err(refusal) => refusal,
        };
    }
    match pages.inputs.ask(|to| Question::Details(limit, to)).await {
        Some(details) => Json(json!(details)).into_response(),
        None => silent(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Since {
    /// Seconds since the Unix epoch. Default: the last 24 hours.
    since_unix: Option<i64>,
}

impl Since {
    fn unix(&self) -> i64 {
        self.since_unix.unwrap_or_else(|| {
            let day_ago = SystemTime::now() - Duration::from_secs(24 * 3_600);
            let since = day_ago.duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_secs().cast_signed()
        })
    }
}

async fn queue_hours_page(State(pages): State<Pages>, Query(since): Query<Since>) -> Response {
    let since = since.unix();
    match pages
        .store
        .ask(move |store| store.queue_hours(since - since.rem_euclid(3_600)))
        .await
    {
        Ok(hours) => Json(json!(hours)).into_response(),
        Err(refusal) => refusal,
    }
}

async fn agent_spells_page(State(pages): State<Pages>, Query(since): Query<Since>) -> Response {
    let since = since.unix().saturating_mul(1_000_000);
    match pages.store.ask(move |store| store.agent_spells(since)).await {
        Ok(spells) => Json(json!(spells)).into_response(),
        Err(refusal) => refusal,
    }
}

/// Sources that meet silence, and why.
async fn sources_page(State(pages): State<Pages>) -> Json<Value> {
    let silenced = pages.guard.silenced(Instant::now());
    let source = silenced.iter().map(|silenced| {
        json!({
            "source": silenced.source.to_string(),
            "offence": silenced.offence.name(),
            "left_s": silenced.left.as_secs(),
            "refused": silenced.refused,
        })
    });
    Json(source.collect())
}

/// Hears a source again.
async fn forgive_source(State(pages): State<Pages>, Path(source): Path<IpAddr>) -> Response {
    if pages.guard.forgive(Instant::now(), source) {
        tracing::info!(%source, "a source is forgiven");
        (StatusCode::OK, "heard again\n").into_response()
    } else {
        (StatusCode::NOT_FOUND, "this source is not silenced\n").into_response()
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
        guard: &pages.guard,
        journal: &pages.journal,
        store: pages.store.counters.as_deref(),
    });
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

/// A member of a conference is heard no more (POST), or again (DELETE).
async fn mute(State(pages): State<Pages>, Path(call): Path<String>, muted: bool) -> Response {
    done(
        pages.inputs.ask(|to| Question::Mute(call, muted, to)).await,
        "member",
    )
}

/// Ends a call, or puts a member out of a conference.
async fn end_call(State(pages): State<Pages>, Path(call): Path<String>) -> Response {
    done(pages.inputs.ask(|to| Question::End(call, to)).await, "call")
}

/// Begins to record a call; masks what is said from now on (card numbers); ends that.
async fn record(State(pages): State<Pages>, Path(call): Path<String>, paused: Option<bool>) -> Response {
    let asked = pages.inputs.ask(|to| Question::Record(call, paused, to));
    done(asked.await, "recording")
}

fn done(answer: Option<bool>, what: &str) -> Response {
    match answer {
        Some(true) => StatusCode::NO_CONTENT.into_response(),
        Some(false) => (StatusCode::NOT_FOUND, format!("there is no such {what}\n")).into_response(),
        None => silent(),
    }
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
