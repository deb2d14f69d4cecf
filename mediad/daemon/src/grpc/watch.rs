//! Events, numbered and resumable. Each watcher pulls from the host's ring at its own speed: one that is too slow
//! falls out of the ring and gets a reset and a snapshot; it never costs memory.

use media_engine::{
    api::{self, Wanted},
    host::Events,
};
use proto::mediad::v1::{self as pb, watch_reply::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{Context, status};
use crate::{
    limits,
    requests::{EventsAfter, Request as Ask},
};

/// Starts a watcher.
///
/// # Errors
/// Too many watch already.
pub(super) fn open(
    context: Context,
    request: pb::WatchRequest,
) -> Result<ReceiverStream<Result<pb::WatchReply, Status>>, Status> {
    let permit = context.watchers.clone().try_acquire_owned().map_err(|_| {
        status(&pb::Error {
            code: Code::ResourceExhausted as i32,
            message: format!(
                "{} Watch calls are open, the limit (limits.watchers)",
                context.watchers_max
            ),
            subject: String::new(),
        })
    })?;
    let (replies, stream) = mpsc::channel(limits::WATCH_BUFFER);
    tokio::spawn(async move {
        let mut watcher = Watcher {
            context: context.clone(),
            wanted: api::wanted(&request),
            after: request.after,
            replies,
        };
        let closed = watcher.replies.clone();
        tokio::select! {
            end = watcher.run(request.boot_id) => if let End::Refused(error) = end {
                let _ = closed.send(Err(status(&error))).await;
            },
            () = closed.closed() => {}
            () = context.ended() => {}
        }
        drop(permit);
    });
    Ok(ReceiverStream::new(stream))
}

struct Watcher {
    context: Context,
    wanted: Wanted,
    /// Number of the last event told.
    after: u64,
    replies: mpsc::Sender<Result<pb::WatchReply, Status>>,
}

/// Why a watcher ends.
enum End {
    /// The caller is gone.
    Closed,
    /// The host is gone or does not answer.
    Refused(pb::Error),
}

impl From<pb::Error> for End {
    fn from(error: pb::Error) -> Self {
        Self::Refused(error)
    }
}

impl Watcher {
    async fn run(&mut self, boot_id: String) -> End {
        match self.follow(boot_id).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn follow(&mut self, boot_id: String) -> Result<std::convert::Infallible, End> {
        let own = self.context.line.boot_id().to_owned();
        if boot_id.is_empty() {
            self.after = *self.context.latest.borrow();
            self.tell(Kind::Start(pb::WatchStart {
                boot_id: own.clone(),
                after: self.after,
            }))
            .await?;
            self.snapshot().await?;
        } else {
            match self.events(boot_id, false).await? {
                Events::Lost(reason) => self.reset(reason).await?,
                Events::After(events, last) => {
                    self.tell(Kind::Start(pb::WatchStart {
                        boot_id: own.clone(),
                        after: self.after,
                    }))
                    .await?;
                    self.tell_events(&events, last).await?;
                }
            }
        }
        if let Some(controller) = &self.wanted.controller {
            // What was told before this watcher's place in the ring was fixed, nobody may have heard.
            self.context.store.recordings.repeat(controller);
        }
        loop {
            match self.events(own.clone(), true).await? {
                Events::Lost(reason) => self.reset(reason).await?,
                Events::After(events, last) if events.is_empty() => {
                    self.after = last;
                    self.tell(Kind::Mark(pb::WatchMark { sequence: last })).await?;
                }
                Events::After(events, last) => self.tell_events(&events, last).await?,
            }
        }
    }

    async fn events(&self, boot_id: String, patient: bool) -> Result<Events, pb::Error> {
        let (after, wanted) = (self.after, self.wanted.clone());
        self.context
            .line
            .ask(|reply| {
                Ask::Events(EventsAfter {
                    boot_id,
                    after,
                    wanted,
                    patient,
                    reply,
                })
            })
            .await
    }

    async fn tell_events(&mut self, events: &[media_engine::host::Event], last: u64) -> Result<(), End> {
        for event in events {
            self.tell(Kind::Event(api::event(event))).await?;
        }
        self.after = last;
        Ok(())
    }

    async fn reset(&mut self, reason: String) -> Result<(), End> {
        self.after = *self.context.latest.borrow();
        let boot_id = self.context.line.boot_id().to_owned();
        self.tell(Kind::Reset(pb::WatchReset { boot_id, reason })).await?;
        self.snapshot().await
    }

    /// Tells every session. Events after the number taken before follow: what a snapshot already shows may be told
    /// again, nothing is missed.
    async fn snapshot(&mut self) -> Result<(), End> {
        let mut after = String::new();
        loop {
            let list = pb::ListRequest {
                controller: self.wanted.controller.clone().unwrap_or_default(),
                limit: limits::SNAPSHOT_PAGE,
                after,
            };
            let page = self.context.line.ask(|reply| Ask::List(list, reply)).await?;
            for names in page.sessions.chunks(limits::SNAPSHOT_PARALLEL) {
                self.tell_sessions(names).await?;
            }
            if page.next.is_empty() {
                break;
            }
            after = page.next;
        }
        self.tell(Kind::SnapshotEnd(pb::WatchSnapshotEnd { sequence: self.after }))
            .await
    }

    async fn tell_sessions(&self, sessions: &[pb::SessionSummary]) -> Result<(), End> {
        let line = &self.context.line;
        let asked: Vec<_> = sessions
            .iter()
            .map(|session| {
                let (line, name) = (line.clone(), session.session.clone());
                tokio::spawn(async move { line.ask_or_refuse(|answer| Ask::Describe(name, answer)).await })
            })
            .collect();
        for answer in asked {
            match answer.await {
                Ok(Ok(description)) => self.tell(Kind::Snapshot(description)).await?,
                // It ended in between; its end is an event that follows.
                Ok(Err(error)) if error.code == Code::NotFound as i32 => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(End::Closed),
            }
        }
        Ok(())
    }

    async fn tell(&self, kind: Kind) -> Result<(), End> {
        self.replies
            .send(Ok(pb::WatchReply { kind: Some(kind) }))
            .await
            .map_err(|_| End::Closed)
    }
}
