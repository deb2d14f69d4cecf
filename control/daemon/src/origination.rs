//! `POST /v1/calls`: a machine asks for a call.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use call_control::{limits::REQUEST_TEXT_BYTES_MAX, originate::Originate};
use serde_json::json;

use crate::{core::Question, live, management::Pages, problem::Problem, token::Writer};

/// What a repetition of a request is known by.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// 201 with the call, or 200 when the key is known and the call is there already.
pub(crate) async fn originate(
    _: Writer,
    State(pages): State<Pages>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let key = key_of(&headers)?;
    let request = request_of(&headers, body)?;
    let asked = pages
        .inputs
        .ask(|to| Question::Originate(Box::new(request), key, to))
        .await;
    let made = asked.ok_or_else(Problem::silent)??;
    let name = made.call.clone();
    let found = pages.inputs.ask(|to| Question::Call(name, to)).await.flatten();
    // One from before the newest that are kept in memory is told of by its name.
    let body = found.map_or_else(|| json!({ "call": made.call }), |found| live::found(&found));
    let status = match made.is_repeated {
        true => StatusCode::OK,
        false => StatusCode::CREATED,
    };
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/calls/{}", made.call)) {
        headers.insert(header::LOCATION, place);
    }
    if made.is_repeated {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let refuse = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail).in_field("Idempotency-Key");
    let mut all = headers.get_all(KEY).iter();
    let Some(key) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(refuse("Idempotency-Key: is there twice; send one".to_owned()));
    }
    let key = key.to_str().unwrap_or_default().trim();
    if key.is_empty() || key.len() > REQUEST_TEXT_BYTES_MAX {
        let detail = format!(
            "Idempotency-Key: {:?} cannot be used; send 1 to {REQUEST_TEXT_BYTES_MAX} visible characters, such as a UUID",
            key.chars().take(40).collect::<String>()
        );
        return Err(refuse(detail));
    }
    Ok(Some(key.to_owned()))
}

fn request_of(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Originate, Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let media_type = kind.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let detail = format!("Content-Type: {kind:?} is not known here; send application/json");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).in_field("Content-Type"));
    }
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| {
        let status = match error.classify() {
            // It is JSON, and not what is asked for.
            serde_json::error::Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::BAD_REQUEST,
        };
        let detail = format!("the body: {error}; /v1/openapi.json describes it (Originate)");
        Problem::new(status, detail)
    })
}
