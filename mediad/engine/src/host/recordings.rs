//! Recorders: the files an edit needs, opened by the caller before it is committed.

use std::sync::Arc;

use rtp::time::Now;

use super::{Happening, Host, Prepared};
use crate::{
    command::RecorderFeed,
    engine::plan,
    recording::RecordingFeed,
    refusal::Refusal,
    spec::{Name, NodeKind, NodeSpec, RecorderSpec, SessionSpec},
};

/// A file to open for a recorder.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingWant {
    /// The session's name.
    pub session: Name,
    /// Its owner.
    pub controller: Name,
    /// Its labels.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// The recorder.
    pub node: Name,
    /// What it asks for.
    pub spec: RecorderSpec,
    /// The highest sampling rate of what it hears first; `None` when nobody speaks yet.
    pub rate_hz: Option<u32>,
}

/// What a recording came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingOutcome {
    /// The caller's id of it.
    pub recording: Name,
    /// Its segment.
    pub segment: u32,
    /// Its audio file on this host.
    pub path: Box<str>,
    /// Length.
    pub duration_ms: u64,
    /// Size.
    pub size_bytes: u64,
    /// Checksum of the audio file, in hexadecimal digits.
    pub sha256: Box<str>,
    /// The file was repaired after the host died.
    pub repaired: bool,
    /// Why it ended early, or what is missing; empty when all went well.
    pub problem: Box<str>,
}

impl Host {
    /// A recording has ended, in this life or an earlier one: an event for the owner of its session, or for `controller`, who
    /// owned it when the file was made, if the session is no more.
    pub fn recording_finalised(
        &mut self,
        now: Now,
        controller: Name,
        session: Name,
        node: Name,
        outcome: Box<RecordingOutcome>,
    ) {
        let owner = self
            .sessions
            .find(&session)
            .map(|entry| entry.owner.controller.clone());
        let kind = Happening::RecordingFinalised(outcome);
        let controller = owner.unwrap_or(controller);
        self.events
            .push(now.mono, now.wall, controller, session, Some(node), kind);
    }

    /// Opens the files of an edit's recorders. `open` makes the file and gives the way to whoever writes it; its error ends
    /// a sentence that begins with the recording. To be called between [`Host::prepare`] and [`Host::commit`].
    ///
    /// # Errors
    /// A file cannot be made; give the edit to [`Host::abort`] and take back what was opened before.
    pub fn open_recordings(
        &mut self,
        prepared: &mut Prepared,
        mut open: impl FnMut(&RecordingWant) -> Result<RecordingFeed, String>,
    ) -> Result<(), Refusal> {
        let spec = prepared.spec().clone();
        let current = prepared.session().and_then(|key| self.sessions.by_key(key));
        let patch = prepared.patch();
        let labels: Box<[_]> = match (&patch.options, current) {
            (Some(options), _) => options.labels.as_slice().into(),
            (None, Some(session)) => session.labels.clone(),
            (None, None) => Box::default(),
        };
        let mut given = Vec::new();
        for (node, recorder) in wanted(current.map(|session| &*session.spec), &spec) {
            let want = RecordingWant {
                session: patch.session.clone(),
                controller: patch.owner.controller.clone(),
                labels: labels.clone(),
                node: node.id.clone(),
                spec: recorder.clone(),
                rate_hz: plan::recorded_rate(&spec, &node.id),
            };
            let feed = open(&want).map_err(|reason| Refusal::Recording {
                node: node.id.clone(),
                recording: recorder.recording.clone(),
                segment: recorder.segment,
                reason,
            })?;
            given.push(RecorderFeed {
                node: node.id.clone(),
                feed,
            });
        }
        prepared.give_recordings(given);
        Ok(())
    }
}

/// The recorders of `spec` that write to another file than the one they had in `before`, if any.
pub(super) fn wanted<'a>(
    before: Option<&'a SessionSpec>,
    spec: &'a SessionSpec,
) -> impl Iterator<Item = (&'a Arc<NodeSpec>, &'a RecorderSpec)> {
    spec.nodes.iter().filter_map(move |node| {
        let NodeKind::Recorder(recorder) = &node.kind else {
            return None;
        };
        let had = before.and_then(|before| before.node(&node.id));
        let goes_on = had.is_some_and(|had| match &had.kind {
            NodeKind::Recorder(had) => had.is_same_file(recorder),
            NodeKind::Endpoint(_) | NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_) => false,
        });
        (!goes_on).then_some((node, recorder))
    })
}
