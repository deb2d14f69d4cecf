//! What the gRPC tasks ask of the host thread, and how.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use media_engine::{
    api::{self, Wanted},
    host::{Events, RecordingOutcome, TapPlace, Tuning},
    spec::Name,
};
use proto::mediad::v1 as pb;
use tokio::sync::oneshot;

use crate::doorbell::Doorbell;

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, pb::Error>>;

/// How commands came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a controller's stream.
    Stream,
    /// By a call of its own, as tools make it.
    Call,
}

/// One request to the host thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// A batch, carried out in order; all replies come together, in order.
    Commands(Vec<pb::Command>, Way, oneshot::Sender<Vec<pb::CommandReply>>),
    /// A controller opened its stream.
    Hello(pb::Hello, Answer<pb::HelloReply>),
    /// Its stream is gone.
    Goodbye(String),
    /// A lease without a stream.
    Renew(pb::RenewRequest, Answer<pb::RenewReply>),
    /// A page of sessions.
    List(pb::ListRequest, oneshot::Sender<pb::ListReply>),
    /// One session.
    Describe(String, Answer<pb::SessionDescription>),
    /// Who hears whom, and why not.
    Explain(pb::ExplainRequest, Answer<pb::ExplainReply>),
    /// The rings of a tap, by session and node.
    Tap(String, String, Answer<TapPlace>),
    /// The host as a whole.
    Status(oneshot::Sender<pb::StatusReply>),
    /// Stop or go on taking sessions.
    Drain(bool, oneshot::Sender<pb::DrainReply>),
    /// Asks every worker for a sign of life; gives those that did not answer the last time.
    Pulse(oneshot::Sender<Vec<usize>>),
    /// Go on under other settings.
    Tune(Tuning, oneshot::Sender<()>),
    /// Events after a number.
    Events(EventsAfter),
    /// A recording has ended.
    RecordingFinalised {
        /// Who owned its session when its file was made.
        controller: Name,
        /// Its session.
        session: Name,
        /// Its recorder.
        node: Name,
        /// What it came to.
        outcome: Box<RecordingOutcome>,
    },
    /// The process ends: end every session, stop the workers.
    Stop,
}

/// Who asks for events.
#[derive(Debug)]
pub(crate) struct EventsAfter {
    /// Boot id the number belongs to.
    pub(crate) boot_id: String,
    /// Last number seen.
    pub(crate) after: u64,
    /// Which.
    pub(crate) wanted: Wanted,
    /// Answer when there are any, and now and then when there are none; otherwise at once.
    pub(crate) patient: bool,
    /// Where they go.
    pub(crate) reply: oneshot::Sender<Events>,
}

/// The gRPC side's way to the host thread; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct HostLine {
    queue: Arc<ArrayQueue<Request>>,
    doorbell: Arc<Doorbell>,
    boot_id: Arc<str>,
}

impl HostLine {
    /// A line that holds at most `capacity` requests.
    pub(crate) fn new(capacity: usize, doorbell: Arc<Doorbell>, boot_id: &str) -> Self {
        Self {
            queue: Arc::new(ArrayQueue::new(capacity)),
            doorbell,
            boot_id: boot_id.into(),
        }
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Puts a request in; full: gives it back and nothing happens.
    pub(crate) fn send(&self, request: Request) -> Result<(), Request> {
        self.queue.push(request)?;
        self.doorbell.ring();
        Ok(())
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when the line is full, UNAVAILABLE when the host thread is gone.
    pub(crate) async fn ask<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, pb::Error> {
        let (reply, answer) = oneshot::channel();
        self.send(make(reply)).map_err(|_| self.full())?;
        answer.await.map_err(|_| stopped())
    }

    /// As [`HostLine::ask`], for requests that can be refused.
    ///
    /// # Errors
    /// As [`HostLine::ask`], and the host's refusal.
    pub(crate) async fn ask_or_refuse<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, pb::Error> {
        self.ask(make).await?
    }

    /// Why a request could not be put in.
    pub(crate) fn full(&self) -> pb::Error {
        pb::Error {
            code: tonic::Code::ResourceExhausted as i32,
            message: format!(
                "the host has {} requests waiting, its limit (limits.requests); nothing was done, try again",
                self.queue.capacity()
            ),
            subject: String::new(),
        }
    }

    /// The host thread's end.
    pub(crate) fn pop(&self) -> Option<Request> {
        self.queue.pop()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.queue.capacity()
    }
}

/// The host thread went away before it answered.
pub(crate) fn stopped() -> pb::Error {
    pb::Error {
        code: tonic::Code::Unavailable as i32,
        message: "the media host is shutting down; use another host".into(),
        subject: String::new(),
    }
}

/// A refusal as the contract has it.
pub(crate) fn refused(refusal: &media_engine::refusal::Refusal) -> pb::Error {
    api::error(refusal)
}
