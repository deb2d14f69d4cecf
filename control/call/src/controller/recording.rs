//! Recordings of calls: begun with the answer of an agent or by an operator, finished by the media host after the end.

use proto::mediad::v1 as pb;

use super::{Controller, Due, Now};
use crate::{
    call::{Call, CallId, Stage},
    journal::RecordKind,
};

impl Controller {
    /// An agent answered a call of a queue whose calls are recorded.
    pub(super) fn record_if_wanted(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let queue = call.queue.as_deref();
        let queue = self
            .config
            .queues
            .iter()
            .find(|found| Some(found.name.as_str()) == queue);
        if queue.is_some_and(|queue| queue.record) {
            call.recorded.get_or_insert_default();
        }
    }

    /// Begins to record a call that is not yet. False when there is no such call, or nobody talks in it.
    pub fn record_call(&mut self, now: Now, call: &str) -> bool {
        self.edit_recording(now, call, |call| {
            call.recorded.get_or_insert_default();
        })
    }

    /// Masks the audio of a recording from now on, or ends that. False when the call is not recorded.
    pub fn pause_recording(&mut self, now: Now, call: &str, paused: bool) -> bool {
        let is_recorded = |call: &Call| call.recorded.is_some();
        let found = CallId::of_name(call).and_then(|id| self.calls.get(&id));
        found.is_some_and(is_recorded)
            && self.edit_recording(now, call, |call| {
                if let Some(recorded) = &mut call.recorded {
                    recorded.is_paused = paused;
                }
            })
    }

    fn edit_recording(&mut self, now: Now, name: &str, edit: impl Fn(&mut Call)) -> bool {
        let Some(id) = CallId::of_name(name) else {
            return false;
        };
        let call = self.calls.get_mut(&id);
        let Some(call) =
            call.filter(|call| call.name == name && call.answered.is_some() && call.stage != Stage::Ended)
        else {
            return false;
        };
        edit(call);
        self.send_media(now, id);
        self.advance(now);
        true
    }

    /// The media host cannot record it: better a call without recording than none.
    pub(super) fn recording_refused(&mut self, now: Now, id: CallId, problem: &str) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.recorded = None;
        let record = RecordKind::Recorded {
            call: call.name.clone(),
            path: String::new(),
            duration_ms: 0,
            problem: problem.to_owned(),
        };
        self.record(now, record);
        self.send_media(now, id);
    }

    /// The media host has finished a file. It says so again after a restart, until somebody acknowledges it.
    pub(super) fn recording_finished(&mut self, now: Now, done: &pb::RecordingFinalised) {
        let record = RecordKind::Recorded {
            call: done.recording.clone(),
            path: done.path.clone(),
            duration_ms: done.duration_ms,
            problem: done.problem.clone(),
        };
        let id = CallId::of_name(&done.recording);
        let call = id.and_then(|id| self.calls.get_mut(&id));
        let Some(recorded) = call
            .filter(|call| call.name == done.recording)
            .and_then(|call| call.recorded.as_mut())
        else {
            return;
        };
        recorded.path = Some(done.path.clone());
        let counted = recorded.counted.take();
        self.record(now, record);
        if let (Some(id), Some(counted)) = (id, counted) {
            self.deadlines.retain(|(_, due)| *due != Due::Recording(id));
            self.finish(now, id, &counted);
        }
    }

    /// True when a call that is over has to wait for its recording, and until it had.
    pub(super) fn awaits_recording(&mut self, now: Now, id: CallId, stats: &[pb::EndpointStats]) -> bool {
        let wait = self.config.recording.wait();
        let recorded = self.calls.get_mut(&id).and_then(|call| call.recorded.as_mut());
        let Some(recorded) = recorded.filter(|recorded| recorded.path.is_none()) else {
            return false;
        };
        if recorded.counted.is_none() {
            recorded.counted = Some(stats.to_vec());
            self.deadlines.insert((now.mono + wait, Due::Recording(id)));
        }
        true
    }

    /// The file does not come: the call is told of without it.
    pub(super) fn recording_overdue(&mut self, now: Now, id: CallId) {
        let recorded = self.calls.get_mut(&id).and_then(|call| call.recorded.take());
        if let Some(counted) = recorded.and_then(|recorded| recorded.counted) {
            self.finish(now, id, &counted);
        }
    }
}
