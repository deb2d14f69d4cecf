//! Recordings of calls: begun with the answer of an agent or by an operator, finished by the media host after the end.

use proto::mediad::v1 as pb;

use super::{Controller, Due, Now};
use crate::{
    call::{Call, CallId, Recorded, Stage},
    cdr::RecordingDetail,
    journal::RecordKind,
    pool::HostId,
};

impl Controller {
    /// An agent answered a call of a queue whose calls are recorded.
    pub(super) fn record_if_wanted(&mut self, id: CallId) {
        let queue = self.calls.get(&id).and_then(|call| call.queue.as_ref());
        let is_wanted = self.queue_named(queue).is_some_and(|queue| queue.record);
        let format = self.config.recording.format;
        let Some(call) = self.calls.get_mut(&id).filter(|_| is_wanted) else {
            return;
        };
        call.recorded.get_or_insert_with(|| Recorded::new(format));
    }

    /// Begins to record a call that is not yet. False when there is no such call, or nobody talks in it.
    pub fn record_call(&mut self, now: Now, call: &str) -> bool {
        let format = self.config.recording.format;
        self.edit_recording(now, call, |call| {
            let recorded = call.recorded.get_or_insert_with(|| Recorded::new(format));
            if recorded.is_finished() {
                recorded.segment += 1;
            }
        })
    }

    /// Masks the audio of a recording from now on, or ends that. False when the call is not recorded.
    pub fn pause_recording(&mut self, now: Now, call: &str, paused: bool) -> bool {
        let is_recorded = |call: &Call| {
            let recorded = call.recorded.as_ref();
            recorded.is_some_and(|recorded| !recorded.is_finished())
        };
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
        self.recording_missing(now, id, problem);
        self.send_media(now, id);
    }

    /// There is no file where there should be one.
    fn recording_missing(&mut self, now: Now, id: CallId, problem: &str) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(recorded) = call.recorded.as_mut() else {
            return;
        };
        let file = RecordingDetail {
            host: call.plan.host().to_string(),
            segment: recorded.segment,
            problem: problem.to_owned(),
            ..RecordingDetail::default()
        };
        recorded.files.push(file.clone());
        let call = call.name.clone();
        self.counters.recordings_missing += 1;
        self.record(now, RecordKind::Recorded { call, file });
    }

    /// The media host has finished a file. It says so again after a restart of either, until somebody acknowledges it:
    /// which is done when the record of it is on the disk.
    pub(super) fn recording_finished(&mut self, now: Now, host: &HostId, done: &pb::RecordingFinalised) {
        let Some(id) = CallId::of_name(&done.recording) else {
            // None of ours.
            return;
        };
        let file = RecordingDetail {
            host: host.to_string(),
            segment: done.segment,
            path: done.path.clone(),
            duration_ms: done.duration_ms,
            size_bytes: done.size_bytes,
            sha256: done.sha256.clone(),
            repaired: done.repaired,
            problem: done.problem.clone(),
        };
        let call = done.recording.clone();
        self.record(
            now,
            RecordKind::Recorded {
                call,
                file: file.clone(),
            },
        );
        let acknowledgement = pb::AcknowledgeRequest {
            recording: done.recording.clone(),
            segment: done.segment,
        };
        self.acknowledgements.push_back((host.clone(), acknowledgement));
        let call = self.calls.get_mut(&id);
        let Some(recorded) = call
            .filter(|call| call.name == done.recording)
            .and_then(|call| call.recorded.as_mut())
        else {
            return;
        };
        recorded.files.retain(|known| known.segment != file.segment);
        recorded.files.push(file);
        if !recorded.is_finished() {
            return;
        }
        if let Some(counted) = recorded.counted.take() {
            self.deadlines.retain(|(_, due)| *due != Due::Recording(id));
            self.finish(now, id, &counted);
        }
    }

    /// True when a call that is over has to wait for its recording, and until it had.
    pub(super) fn awaits_recording(&mut self, now: Now, id: CallId, stats: &[pb::EndpointStats]) -> bool {
        let wait = self.config.recording.wait();
        let recorded = self.calls.get_mut(&id).and_then(|call| call.recorded.as_mut());
        let Some(recorded) = recorded.filter(|recorded| !recorded.is_finished()) else {
            return false;
        };
        if recorded.counted.is_none() {
            recorded.counted = Some(stats.to_vec());
            self.deadlines.insert((now.mono + wait, Due::Recording(id)));
        }
        true
    }

    /// The file does not come: the call is told of without it. Should it come yet, its record adds it.
    pub(super) fn recording_overdue(&mut self, now: Now, id: CallId) {
        let recorded = self.calls.get_mut(&id).and_then(|call| call.recorded.as_mut());
        let Some(recorded) = recorded else { return };
        let Some(counted) = recorded.counted.take() else {
            return;
        };
        let problem = format!(
            "the media host did not tell of it within {} s after the call",
            self.config.recording.wait_s
        );
        self.recording_missing(now, id, &problem);
        self.finish(now, id, &counted);
    }
}
