//! `GET /v1/live`: all that goes on, in one answer for pages that ask each second.
//!
//! However many of them there are, the core thread is asked twice a second at most.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::Mutex;

use crate::{core::Question, limits, live, management::Pages, problem::Problem};

/// The last answer. Who asks while another one does waits for the same.
#[derive(Clone, Default)]
pub(crate) struct Snapshot(Arc<Mutex<Option<(Instant, Bytes)>>>);

impl Snapshot {
    /// Something is about to be changed: who did it looks at once, and is to see it.
    pub(crate) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

pub(crate) async fn page(State(pages): State<Pages>) -> Result<Response, Problem> {
    let mut last = pages.snapshot.0.lock().await;
    let text = match &*last {
        Some((at, text)) if is_fresh(at.elapsed()) => text.clone(),
        _ => {
            let text = take(&pages).await?;
            *last = Some((Instant::now(), text.clone()));
            text
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn is_fresh(age: Duration) -> bool {
    age < limits::SNAPSHOT_AGE
}

async fn take(pages: &Pages) -> Result<Bytes, Problem> {
    let live = pages
        .inputs
        .ask(Question::Live)
        .await
        .ok_or_else(Problem::silent)?;
    let trunks = pages
        .inputs
        .ask(Question::Trunks)
        .await
        .ok_or_else(Problem::silent)?;
    let silenced = pages.guard.silenced(Instant::now());
    let all = json!({
        "queues": live::queues(&live),
        "agents": live::agents(&live),
        "calls": live::calls(&live),
        "conferences": live::conferences(&live),
        "hosts": live::hosts(&live),
        "trunks": live::trunks(&trunks),
        "registrations": live.registrations.len(),
        "sources": silenced.len(),
    });
    Ok(all.to_string().into())
}
