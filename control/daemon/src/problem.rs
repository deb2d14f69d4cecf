//! What is wrong with a request, as RFC 9457 writes it.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use call_control::originate::OriginateError;
use serde_json::{Value, json};

/// An answer that says why not: `application/problem+json`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    /// Where in the request, when one place is to blame.
    field: Option<String>,
    /// When to try again.
    retry_after: Option<Duration>,
    /// Something to ask for a token with.
    challenges: bool,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            field: None,
            retry_after: None,
            challenges: false,
        }
    }

    /// Nothing has this name.
    pub(crate) fn unknown(what: &str, name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("{what} {name:?} does not exist, or is over"),
        )
    }

    /// The process is alive and cannot say.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.retry_after(Duration::from_secs(1))
    }

    /// The core thread does not answer.
    pub(crate) fn silent() -> Self {
        Self::unavailable("the core thread does not answer")
    }

    /// The caller has to show a token.
    pub(crate) fn unauthorised(detail: &str) -> Self {
        Self {
            challenges: true,
            ..Self::new(StatusCode::UNAUTHORIZED, detail)
        }
    }

    pub(crate) fn in_field(mut self, field: &str) -> Self {
        self.field = Some(field.to_owned());
        self
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<OriginateError> for Problem {
    fn from(error: OriginateError) -> Self {
        let detail = error.to_string();
        match error {
            OriginateError::Invalid { field, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).in_field(field)
            }
            OriginateError::Unreachable { field, .. } => {
                Self::new(StatusCode::CONFLICT, detail).in_field(field)
            }
            OriginateError::KeyUsed { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).in_field("Idempotency-Key")
            }
            OriginateError::TooFast { wait, .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
            }
            OriginateError::TooMany { .. } | OriginateError::NoMediaHost | OriginateError::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(5))
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            // RFC 9457 §4.2.1: no more than the status says.
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(field), Value::Object(body)) = (self.field, &mut body) {
            body.insert("field".to_owned(), field.into());
        }
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, [(header::CONTENT_TYPE, kind)], body.to_string()).into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never before the time.
            let seconds = wait.as_millis().div_ceil(1_000).max(1) as u64;
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.challenges {
            let scheme = HeaderValue::from_static("Bearer realm=\"controld\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_too_fast_is_told_when_to_come_again() {
        let fast = |ms| {
            let error = OriginateError::TooFast {
                per_s: 10,
                key: "originate.calls_per_s",
                wait: Duration::from_millis(ms),
            };
            let response = Problem::from(error).into_response();
            let wait = response.headers()[header::RETRY_AFTER]
                .to_str()
                .unwrap()
                .to_owned();
            (response.status().as_u16(), wait)
        };
        assert_eq!(fast(1), (429, "1".to_owned()));
        assert_eq!(fast(1_001), (429, "2".to_owned()));
        let full = Problem::from(OriginateError::NoMediaHost).into_response();
        assert_eq!(full.status().as_u16(), 503);
        assert!(full.headers().contains_key(header::RETRY_AFTER));
    }
}
