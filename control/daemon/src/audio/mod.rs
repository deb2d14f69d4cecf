//! `GET /v1/calls/{call}/audio`: who hears whom in a call, and if not, why.
//!
//! The core thread says on which media host the call's session is and whose endpoints are in it; the host is asked from
//! here, so that no call waits for it. What it answers is told in the names of the parties by [`report`].

mod remedy;
mod report;

use std::{sync::Arc, time::SystemTime};

use axum::http::StatusCode;
use call_control::{CallAudio, HostId};
use futures_util::future::try_join_all;
use proto::mediad::v1::{self as pb, media_client::MediaClient};
use serde_json::Value;
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Code, Status, transport::Channel};

use self::report::{Direction, People};
use crate::{limits, media::Hosts, problem::Problem};

/// The way to ask media hosts about audio: so many questions at once.
#[derive(Clone)]
pub(crate) struct Ear {
    hosts: Hosts,
    places: Arc<Semaphore>,
}

impl Ear {
    pub(crate) fn new(hosts: &Hosts) -> Self {
        Self {
            hosts: hosts.clone(),
            places: Arc::new(Semaphore::new(limits::AUDIO_QUESTIONS)),
        }
    }
}

/// What the media host says, in names of people.
///
/// # Errors
/// 409 when there is no audio yet, or no more; 503 when there is no connection to the host, or too much is asked at once; 504
/// when it does not answer.
pub(crate) async fn explain(ear: &Ear, call: &str, audio: CallAudio) -> Result<Value, Problem> {
    let Some((host, session)) = audio.at.clone() else {
        return Err(no_audio(call));
    };
    let client = ear.hosts.questions(&host).ok_or_else(|| unconnected(&host))?;
    // Who waits for a place has not asked the host, which is not to be named for it.
    let place = timeout(limits::AUDIO_TIMEOUT, ear.places.acquire()).await;
    let _place = place.map_err(|_| crowded())?;
    match timeout(limits::AUDIO_TIMEOUT, ask(client, &session, &audio)).await {
        Ok(Ok((people, directions))) => Ok(report::report(
            call,
            &host,
            &people,
            &directions,
            SystemTime::now(),
        )),
        Ok(Err(status)) if status.code() == Code::NotFound => Err(no_audio(call)),
        Ok(Err(status)) => Err(Problem::unavailable(format!(
            "media host {host} does not say who hears whom: {}; see its log",
            status.message()
        ))),
        Err(_) => Err(silent(&host)),
    }
}

/// How the session is first, then what is to be said about each pair.
async fn ask(
    mut client: MediaClient<Channel>,
    session: &str,
    audio: &CallAudio,
) -> Result<(People, Vec<Direction>), Status> {
    let request = pb::DescribeRequest {
        session: session.to_owned(),
    };
    let described = client.describe(request).await?.into_inner();
    let people = People::new(audio, described.description.unwrap_or_default());
    let explained = people.pairs().into_iter().map(|(from, to)| {
        let mut client = client.clone();
        let request = pb::ExplainRequest {
            session: session.to_owned(),
            from: from.clone(),
            to: to.clone(),
        };
        async move {
            let findings = client.explain(request).await?.into_inner().findings;
            Ok::<_, Status>(Direction { from, to, findings })
        }
    });
    let directions = try_join_all(explained).await?;
    Ok((people, directions))
}

fn no_audio(call: &str) -> Problem {
    let detail = format!("call {call:?} has no audio yet, or no more; ask again when it is further");
    Problem::new(StatusCode::CONFLICT, detail)
}

fn unconnected(host: &HostId) -> Problem {
    Problem::unavailable(format!(
        "there is no connection to media host {host}, which has the call's audio; /v1/hosts tells when it is back"
    ))
}

fn crowded() -> Problem {
    Problem::unavailable(format!(
        "{} questions about audio are with media hosts already, and none of them is answered; ask again in a second",
        limits::AUDIO_QUESTIONS
    ))
}

fn silent(host: &HostId) -> Problem {
    let detail = format!(
        "media host {host}, which has the call's audio, did not answer within {} s; look whether mediad still runs \
         there, and at its load (mctl status)",
        limits::AUDIO_TIMEOUT.as_secs()
    );
    Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
}
