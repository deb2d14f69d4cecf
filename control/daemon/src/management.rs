//! The management address: metrics, health, what is going on as JSON and as a page, and what is to be done, over plain
//! HTTP.
//!
//! Everybody who reaches the address may look; who changes something shows the [token](crate::token). Every error is
//! RFC 9457 problem details, but that nothing is ready, which probes and people read as text; [`openapi`] describes the
//! whole, and a test compares it with [`routes`].

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State},
    handler::Handler,
    http::{StatusCode, Uri, header, request::Parts},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post},
};
use call_control::Live;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    audio::{self, Ear},
    core::{Action, CallFound, Inputs, Question},
    details, journal, limits, live, metrics, openapi, origination, page,
    problem::Problem,
    reload::Reloads,
    snapshot::{self, Snapshot},
    store::{DetailQuery, Sqlite, Store as _, StoreError, projector},
    token::{Token, Writer},
    transport::{self, guard::Guard},
    visit::Door,
};

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) reloads: Reloads,
    pub(crate) inputs: Inputs,
    pub(crate) transport: Arc<transport::Counters>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) journal: Arc<journal::Shared>,
    pub(crate) store: StorePages,
    pub(crate) token: Token,
    pub(crate) ear: Ear,
    pub(crate) snapshot: Snapshot,
    /// Calls are being ended.
    pub(crate) stopping: watch::Receiver<bool>,
    /// They are; connections close.
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
    let add = |router: Router<Pages>, route: Route| {
        tracing::trace!(method = route.method, path = route.path, "served");
        router.route(route.path, route.handler)
    };
    let router = routes().into_iter().fold(Router::new(), add);
    let router = page::serve(router)
        .fallback(async |uri: Uri| Problem::unknown("page", uri.path()))
        .method_not_allowed_fallback(async || {
            let detail = "this page knows other methods; /v1/openapi.json lists them";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(DefaultBodyLimit::max(limits::REQUEST_BYTES))
        .layer(map_response(page::guarded))
        .with_state(pages);
    axum::serve(Door::new(listener), router)
        .with_graceful_shutdown(async move {
            // The sender gone is an end too.
            let _ = ending.wait_for(|ending| *ending).await;
        })
        .await
        .map_err(|error| format!("management listener: {error}"))
}

/// A page, and what may be done with it.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    handler: MethodRouter<Pages>,
}

fn read<H: Handler<T, Pages>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route {
        method: "get",
        path,
        handler: get(handler),
    }
}

fn create<H: Handler<T, Pages>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route {
        method: "post",
        path,
        handler: post(handler),
    }
}

fn remove<H: Handler<T, Pages>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route {
        method: "delete",
        path,
        handler: delete(handler),
    }
}

/// Everything that is served beside the [page] for people.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        read("/metrics", metrics_page),
        read("/healthz", health),
        read("/readyz", readiness),
        read("/v1/openapi.json", openapi::page),
        read("/v1/live", snapshot::page),
        read("/v1/agents", |pages| live_page(pages, live::agents)),
        create("/v1/agents/{agent}/ready", agent_ready),
        create("/v1/agents/{agent}/pause", agent_pause),
        read("/v1/queues", |pages| live_page(pages, live::queues)),
        read("/v1/calls", |pages| live_page(pages, live::calls)),
        create("/v1/calls", origination::originate),
        read("/v1/calls/{call}", call_page),
        remove("/v1/calls/{call}", end_call),
        read("/v1/calls/{call}/audio", audio_page),
        create("/v1/calls/{call}/recording", |writer, pages, path| {
            record(writer, pages, path, None)
        }),
        create("/v1/calls/{call}/recording/pause", |writer, pages, path| {
            record(writer, pages, path, Some(true))
        }),
        remove("/v1/calls/{call}/recording/pause", |writer, pages, path| {
            record(writer, pages, path, Some(false))
        }),
        read("/v1/conferences", |pages| live_page(pages, live::conferences)),
        create("/v1/conferences/members/{call}/mute", |writer, pages, path| {
            mute(writer, pages, path, true)
        }),
        remove("/v1/conferences/members/{call}/mute", |writer, pages, path| {
            mute(writer, pages, path, false)
        }),
        read("/v1/registrations", |pages| live_page(pages, live::registrations)),
        read("/v1/hosts", |pages| live_page(pages, live::hosts)),
        read("/v1/trunks", trunks_page),
        read("/v1/cdrs", details::page),
        read("/v1/statistics/queues", queue_hours_page),
        read("/v1/statistics/agents", agent_spells_page),
        read("/v1/reload", last_reload),
        create("/v1/reload", reload),
        read("/v1/sources", sources_page),
        remove("/v1/sources/{source}", forgive_source),
    ]
}

/// What the path names: a call, an agent, a source.
struct Named(String);

impl FromRequestParts<Pages> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pages: &Pages) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, pages).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejection) => Err(Problem::new(rejection.status(), rejection.body_text())),
        }
    }
}

/// What stands behind the question mark.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    Query::try_from_uri(uri)
        .map(|Query(query)| query)
        .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))
}

async fn live_page(State(pages): State<Pages>, part: fn(&Live) -> Value) -> Response {
    match pages.inputs.ask(Question::Live).await {
        Some(live) => Json(part(&live)).into_response(),
        None => Problem::silent().into_response(),
    }
}

async fn trunks_page(State(pages): State<Pages>) -> Response {
    match pages.inputs.ask(Question::Trunks).await {
        Some(trunks) => Json(live::trunks(&trunks)).into_response(),
        None => Problem::silent().into_response(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Why {
    /// For people; in the agent's state.
    reason: String,
}

/// An agent takes calls from now on; rest after a call, or a pause, ends.
async fn agent_ready(
    _: Writer,
    State(pages): State<Pages>,
    Named(agent): Named,
) -> Result<StatusCode, Problem> {
    act(&pages, Action::Ready(agent)).await
}

async fn agent_pause(
    _: Writer,
    State(pages): State<Pages>,
    Named(agent): Named,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    let why: Why = query(&uri)?;
    act(&pages, Action::Pause(agent, why.reason)).await
}

/// 204 when it was done; 404 with the reason when there is no such thing.
async fn act(pages: &Pages, action: Action) -> Result<StatusCode, Problem> {
    match pages.inputs.ask(|to| Question::Do(action, to)).await {
        Some(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Some(Err(reason)) => Err(Problem::new(StatusCode::NOT_FOUND, reason)),
        None => Err(Problem::silent()),
    }
}

/// A call while it lasts, and its detail afterwards.
async fn call_page(State(pages): State<Pages>, Named(call): Named) -> Result<Json<Value>, Problem> {
    let name = call.clone();
    let asked = pages.inputs.ask(|to| Question::Call(name, to)).await;
    if let Some(found) = asked.ok_or_else(Problem::silent)? {
        return Ok(Json(live::found(&found)));
    }
    // An old one the store knows; without a store nobody does.
    let query = DetailQuery::of(&call);
    let stored = match pages.store.path {
        Some(_) => pages.store.ask(move |store| store.details(&query)).await?,
        None => Vec::new(),
    };
    let detail = stored.into_iter().next();
    let found = detail.map(|detail| CallFound::Over(Box::new(detail)));
    found
        .map(|found| Json(live::found(&found)))
        .ok_or_else(|| Problem::unknown("call", &call))
}

/// Who hears whom in a call that goes on, and if not, why.
async fn audio_page(State(pages): State<Pages>, Named(call): Named) -> Result<Json<Value>, Problem> {
    let name = call.clone();
    let asked = pages.inputs.ask(|to| Question::Audio(name, to)).await;
    let found = asked.ok_or_else(Problem::silent)?;
    let found = found.ok_or_else(|| Problem::unknown("call", &call))?;
    audio::explain(&pages.ear, &call, found).await.map(Json)
}

/// The way to the store, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct StorePages {
    pub(crate) path: Option<PathBuf>,
    pub(crate) counters: Option<Arc<projector::Counters>>,
    places: Arc<Semaphore>,
}

impl StorePages {
    pub(crate) fn new(path: Option<PathBuf>, counters: Option<Arc<projector::Counters>>) -> Self {
        Self {
            path,
            counters,
            places: Arc::new(Semaphore::new(limits::STORE_QUESTIONS)),
        }
    }

    /// Asks the store from a thread that may wait for it; so many threads at most, each for so long.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Sqlite) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some(path) = self.path.clone() else {
            let detail = "there is no database; set store.path";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        };
        let place = timeout(limits::STORE_QUERY, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(Problem::unavailable(format!(
                "{} questions are with the database already, and none of them is answered; ask again in a second",
                limits::STORE_QUESTIONS
            )));
        };
        let asked = tokio::task::spawn_blocking(move || {
            // Until the question is over indeed, whoever waits for its answer.
            let _place = place;
            let mut store = Sqlite::open(&path)?;
            store.give_up_at(Instant::now() + limits::STORE_QUERY)?;
            question(&mut store)
        });
        match timeout(limits::STORE_QUERY, asked).await {
            Ok(Ok(Ok(found))) => Ok(found),
            Ok(Ok(Err(error))) if !error.is_of_time() => Err(Problem::unavailable(error.to_string())),
            Ok(_) | Err(_) => Err(Problem::unavailable(format!(
                "the database does not answer within {} s; ask for less, of calls by from and to",
                limits::STORE_QUERY.as_secs()
            ))),
        }
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

async fn queue_hours_page(State(pages): State<Pages>, uri: Uri) -> Result<Json<Value>, Problem> {
    let since = query::<Since>(&uri)?.unix();
    let hour = since.saturating_sub(since.rem_euclid(3_600));
    let hours = pages.store.ask(move |store| store.queue_hours(hour)).await?;
    Ok(Json(json!(hours)))
}

async fn agent_spells_page(State(pages): State<Pages>, uri: Uri) -> Result<Json<Value>, Problem> {
    let since = query::<Since>(&uri)?.unix().saturating_mul(1_000_000);
    let spells = pages.store.ask(move |store| store.agent_spells(since)).await?;
    Ok(Json(json!(spells)))
}

/// When the configuration was read again last, and what that changed.
async fn last_reload(State(pages): State<Pages>) -> Json<Value> {
    Json(live::reloads(&pages.reloads.history()))
}

/// Reads the configuration again, as SIGHUP does. 422 with file, key, value and remedy when it cannot be used.
async fn reload(_: Writer, State(pages): State<Pages>) -> Result<Json<Value>, Problem> {
    match pages.reloads.ask().await {
        Some(Ok(done)) => Ok(Json(live::reloaded(&done))),
        Some(Err(error)) => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error)),
        None => Err(Problem::unavailable("no reload is taken at the moment")),
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
async fn forgive_source(
    _: Writer,
    State(pages): State<Pages>,
    Named(source): Named,
) -> Result<StatusCode, Problem> {
    let source: IpAddr = source.parse().map_err(|_| {
        let detail = format!("source {source:?} is no address; /v1/sources lists those that are silenced");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    if pages.guard.forgive(Instant::now(), source) {
        tracing::info!(%source, "a source is forgiven");
        Ok(StatusCode::NO_CONTENT)
    } else {
        let detail = format!("source {source} is not silenced");
        Err(Problem::new(StatusCode::NOT_FOUND, detail))
    }
}

async fn metrics_page(State(pages): State<Pages>) -> Response {
    let Some(counters) = pages.inputs.ask(Question::Counters).await else {
        return Problem::silent().into_response();
    };
    let Some(live) = pages.inputs.ask(Question::Live).await else {
        return Problem::silent().into_response();
    };
    let text = metrics::page(&metrics::Sources {
        counters: &counters,
        live: &live,
        inputs: pages.inputs.counters(),
        transport: &pages.transport,
        guard: &pages.guard,
        reloads: &pages.reloads.history(),
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
async fn mute(
    _: Writer,
    State(pages): State<Pages>,
    Named(call): Named,
    muted: bool,
) -> Result<StatusCode, Problem> {
    let name = call.clone();
    let done = pages.inputs.ask(|to| Question::Mute(name, muted, to)).await;
    answer(done, "member", &call)
}

/// Ends a call, whatever it is doing, or puts a member out of a conference.
async fn end_call(_: Writer, State(pages): State<Pages>, Named(call): Named) -> Result<StatusCode, Problem> {
    let name = call.clone();
    let done = pages.inputs.ask(|to| Question::End(name, to)).await;
    answer(done, "call", &call)
}

/// Begins to record a call; masks what is said from now on (card numbers); ends that.
async fn record(
    _: Writer,
    State(pages): State<Pages>,
    Named(call): Named,
    paused: Option<bool>,
) -> Result<StatusCode, Problem> {
    let name = call.clone();
    let done = pages.inputs.ask(|to| Question::Record(name, paused, to)).await;
    answer(done, "recording or talking call", &call)
}

fn answer(done: Option<bool>, what: &str, name: &str) -> Result<StatusCode, Problem> {
    match done {
        Some(true) => Ok(StatusCode::NO_CONTENT),
        Some(false) => Err(Problem::unknown(what, name)),
        None => Err(Problem::silent()),
    }
}

/// Alive: the core thread answers.
async fn health(State(pages): State<Pages>) -> Response {
    match pages.inputs.ask(Question::Counters).await {
        Some(_) => (StatusCode::OK, "ok\n").into_response(),
        None => Problem::silent().into_response(),
    }
}

/// Ready: a media host is up, so calls can be taken.
async fn readiness(State(pages): State<Pages>) -> Response {
    if *pages.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match pages.inputs.ask(Question::Live).await {
        Some(live) if live.hosts.iter().any(|host| host.boot_id.is_some()) => {
            (StatusCode::OK, "ready\n").into_response()
        }
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "no media host is up\n").into_response(),
        None => Problem::silent().into_response(),
    }
}
