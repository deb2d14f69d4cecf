//! `GET /v1/cdrs`: calls that are over, as the journal has the newest, or as the database finds those that are wanted.

use axum::{
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use call_control::{cdr::CallDetail, journal::EndedBy};
use serde::Deserialize;

use crate::{
    core::{CallFound, Question},
    limits,
    management::{Pages, query},
    problem::Problem,
    rfc3339,
    store::{DetailQuery, Store as _, ended_by},
};

/// Behind the question mark, as it is written there; every field narrows.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    limit: Option<String>,
    before: Option<String>,
    party: Option<String>,
    from: Option<String>,
    to: Option<String>,
    since_unix_us: Option<String>,
    until_unix_us: Option<String>,
    queue: Option<String>,
    answered_by: Option<String>,
    call: Option<String>,
    status: Option<String>,
    ended_by: Option<String>,
}

impl Wanted {
    fn read(self) -> Result<(DetailQuery, Option<String>), Problem> {
        let from = self.from.map(|text| time("from", &text)).transpose()?;
        let to = self.to.map(|text| time("to", &text)).transpose()?;
        let since = self.since_unix_us.map(|text| micros("since_unix_us", &text));
        let until = self.until_unix_us.map(|text| micros("until_unix_us", &text));
        let (since, until) = (since.transpose()?.max(from), until.transpose()?);
        let query = DetailQuery {
            limit: self
                .limit
                .map_or(Ok(limits::DETAILS_USUAL), |text| limit(&text))?,
            since_unix_us: since,
            until_unix_us: until.into_iter().chain(to).min(),
            queue: self.queue,
            answered_by: self.answered_by,
            call: self.call,
            status: self.status.map(|text| status(&text)).transpose()?,
            ended_by: self.ended_by.map(|text| side(&text)).transpose()?,
            party: self.party.map(party).transpose()?,
            before: None,
        };
        Ok((query, self.before))
    }
}

fn bad(field: &str, value: &str, remedy: &str) -> Problem {
    let shown: String = value.chars().take(limits::SHOWN_CHARS).collect();
    let detail = format!("{field} {shown:?} in the query of /v1/cdrs {remedy}");
    Problem::new(StatusCode::BAD_REQUEST, detail).in_field(field)
}

fn limit(text: &str) -> Result<usize, Problem> {
    let most = limits::CDRS_KEPT;
    let count = text.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| {
        let remedy =
            format!("is no number from 1 to {most}; go on with before={{call}} where one answer ends");
        bad("limit", text, &remedy)
    })
}

fn time(field: &str, text: &str) -> Result<i64, Problem> {
    rfc3339::parse(text).ok_or_else(|| {
        let remedy = "is no time; write one as in RFC 3339, 2026-11-30T14:05:00Z or 2026-11-30T15:05:00%2B01:00 \
                      (who called, or was called, is found by party)";
        bad(field, text, remedy)
    })
}

fn micros(field: &str, text: &str) -> Result<i64, Problem> {
    let remedy = "is no whole number of microseconds since the Unix epoch; from and to take times as people write them";
    text.parse().map_err(|_| bad(field, text, remedy))
}

fn status(text: &str) -> Result<u16, Problem> {
    let status = text.parse().ok().filter(|status| (100..700).contains(status));
    status.ok_or_else(|| {
        bad(
            "status",
            text,
            "is no SIP status; write one from 100 to 699, 200 for calls that were answered",
        )
    })
}

fn side(text: &str) -> Result<EndedBy, Problem> {
    let mut sides = [EndedBy::Caller, EndedBy::Callee, EndedBy::System].into_iter();
    let side = sides.find(|side| ended_by(*side) == text);
    side.ok_or_else(|| bad("ended_by", text, "ends no call; write caller, callee or system"))
}

fn party(text: String) -> Result<String, Problem> {
    let remedy = |what: &str| format!("{what}; write part of an address, number or name, or leave party out");
    if text.trim().is_empty() {
        return Err(bad("party", &text, &remedy("is empty")));
    }
    let most = limits::PARTY_CHARS;
    if text.chars().nth(most).is_some() {
        return Err(bad(
            "party",
            &text,
            &remedy(&format!("is longer than {most} characters")),
        ));
    }
    match text.trim().chars().any(char::is_control) {
        true => Err(bad("party", &text, &remedy("holds what no address has"))),
        false => Ok(text),
    }
}

/// Call details, newest first: as the journal has them, or as the database finds them when they are to be narrowed.
pub(crate) async fn page(State(pages): State<Pages>, uri: Uri) -> Result<Response, Problem> {
    let (query, before) = query::<Wanted>(&uri)?.read()?;
    let text = match (before, query.is_narrow()) {
        (None, false) => newest(&pages, query.limit).await?,
        (before, _) => found(&pages, query, before).await?,
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// The core thread gives texts, which are read and written elsewhere: there may be thousands.
async fn newest(pages: &Pages, limit: usize) -> Result<Vec<u8>, Problem> {
    let kept = pages.inputs.ask(|to| Question::Details(limit, to)).await;
    let kept = kept.ok_or_else(Problem::silent)?;
    let written = tokio::task::spawn_blocking(move || {
        let details: Vec<CallDetail> = kept.iter().filter_map(|text| text.read()).collect();
        serde_json::to_vec(&details)
    });
    let written = written.await.ok().and_then(Result::ok);
    written.ok_or_else(|| Problem::unavailable("the call details cannot be written"))
}

/// `before`: the call in front of those that are wanted.
async fn found(pages: &Pages, mut query: DetailQuery, before: Option<String>) -> Result<Vec<u8>, Problem> {
    let name = before.clone();
    let asked = pages.store.ask(move |store| {
        if let Some(name) = name {
            query.before = store.record_of(&name)?;
            if query.before.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(serde_json::to_vec(&store.details(&query)?)?))
    });
    match asked.await? {
        Some(text) => Ok(text),
        None => Err(unknown(pages, before.unwrap_or_default()).await),
    }
}

async fn unknown(pages: &Pages, before: String) -> Problem {
    let name = before.clone();
    let asked = pages.inputs.ask(|to| Question::Call(name, to)).await;
    match asked.flatten() {
        Some(CallFound::Over(_)) => Problem::unavailable(format!(
            "call {before:?} is over and the database has not heard of it yet; ask again in a second"
        )),
        _ => bad(
            "before",
            &before,
            "is no call that is over; write the name of the last call of the answer before, as its call tells it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<DetailQuery, String> {
        let uri = format!("/v1/cdrs?{query}").parse().unwrap();
        let wanted = super::query::<Wanted>(&uri).map_err(|problem| format!("{problem:?}"))?;
        let read = wanted.read().map_err(|problem| format!("{problem:?}"))?;
        Ok(read.0)
    }

    #[test]
    fn of_two_bounds_the_narrower_one_counts() {
        let wanted =
            read("from=1970-01-01T00:00:02Z&since_unix_us=1000000&to=1970-01-01T01:00:05%2B01:00").unwrap();
        assert_eq!(
            (wanted.since_unix_us, wanted.until_unix_us),
            (Some(2_000_000), Some(5_000_000))
        );
        let wanted =
            read("from=1970-01-01T00:00:02Z&since_unix_us=3000000&until_unix_us=4&to=1970-01-01T00:00:05Z");
        let wanted = wanted.unwrap();
        assert_eq!(
            (wanted.since_unix_us, wanted.until_unix_us),
            (Some(3_000_000), Some(4))
        );
    }

    #[test]
    fn a_length_alone_narrows_nothing() {
        assert!(!read("").unwrap().is_narrow() && !read("limit=7").unwrap().is_narrow());
        for narrow in [
            "party=x",
            "status=200",
            "ended_by=caller",
            "queue=q",
            "from=1970-01-01T00:00:02Z",
        ] {
            assert!(read(narrow).unwrap().is_narrow(), "{narrow}");
        }
    }
}
