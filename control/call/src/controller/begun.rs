//! Calls of which nothing is recorded but that they began when the controller was killed. Their callers had no answer, so
//! they repeat their INVITEs: then such a call goes on under its name. One that nobody asks for again ends.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Controller, Due, Now,
    detail::bare,
    restore::{PastCall, then},
    unix_us,
};
use crate::{
    call::CallId,
    cdr::OriginKind,
    journal::{EndedBy, RecordKind},
    saved::SavedEnd,
};

/// An INVITE without any answer is repeated for so long (RFC 3261 §17.1.1.2, timer B).
const REPEATED_FOR: Duration = Duration::from_secs(32);

/// By Call-ID.
#[derive(Debug, Default)]
pub(super) struct Begun(BTreeMap<String, PastCall>);

/// A call that an INVITE begins.
pub(super) struct Beginning {
    pub(super) id: CallId,
    pub(super) name: String,
    /// When, by both clocks.
    pub(super) at: (Instant, u64),
    /// By the process before.
    pub(super) is_recorded: bool,
}

impl Controller {
    /// Waits for the INVITE of this call to come again, or ends it if that cannot be.
    pub(super) fn await_invite(&mut self, now: Now, past: PastCall) {
        let call_id = match &past.started {
            Some((_, RecordKind::CallStarted { sip_call_id, .. })) => sip_call_id.clone(),
            _ => return,
        };
        let is_invited = !call_id.is_empty() && past.origin.kind != OriginKind::Api;
        if past.end.is_some() || !is_invited || self.begun.0.contains_key(&call_id) {
            self.bury_started(now, past);
            return;
        }
        self.begun.0.insert(call_id, past);
        self.deadlines.insert((now.mono + REPEATED_FOR, Due::Begun));
    }

    /// Nobody repeats an INVITE any more.
    pub(super) fn bury_begun(&mut self, now: Now) {
        for past in std::mem::take(&mut self.begun.0).into_values() {
            self.bury_started(now, past);
        }
    }

    /// What an INVITE with this Call-ID, by this caller, begins, or had begun.
    pub(super) fn beginning(&mut self, now: Now, sip_call_id: &str, caller: &str) -> Beginning {
        let begun = self
            .begun
            .0
            .get(sip_call_id)
            .and_then(|past| past.started.as_ref());
        if let Some((at_unix_us, RecordKind::CallStarted { call, from, .. })) = begun
            && from == caller
            && let Some(id) = CallId::of_name(call)
        {
            let (name, at) = (call.clone(), (then(now, *at_unix_us), *at_unix_us));
            self.begun.0.remove(sip_call_id);
            return Beginning {
                id,
                name,
                at,
                is_recorded: true,
            };
        }
        self.last_call += 1;
        let id = CallId(self.last_call);
        Beginning {
            id,
            name: id.name(&self.stack.random_token()),
            at: (now.mono, unix_us(now.wall)),
            is_recorded: false,
        }
    }

    /// Their beginnings, said again at the beginning of a new segment.
    pub(super) fn begun_standing(&self) -> impl Iterator<Item = RecordKind> {
        let started = self.begun.0.values().filter_map(|past| past.started.as_ref());
        started.map(|(_, record)| record.clone())
    }

    /// A call of which nothing is known but that it began: it ends, with what is known.
    pub(super) fn bury_started(&mut self, now: Now, past: PastCall) {
        let Some((
            at_unix_us,
            RecordKind::CallStarted {
                call,
                sip_call_id,
                from,
                to,
                queue,
                host,
            },
        )) = past.started
        else {
            return;
        };
        let end = match past.end {
            Some(end) => end,
            None => {
                let by = EndedBy::System;
                let (status, reason) = (500, "the controller was restarted before the call was set up");
                let record = RecordKind::CallEnded {
                    call: call.clone(),
                    by,
                    status,
                    reason: reason.to_owned(),
                };
                self.record(now, record);
                SavedEnd {
                    by,
                    status,
                    reason: reason.to_owned(),
                    at_unix_us: unix_us(now.wall),
                }
            }
        };
        let mut detail = bare(
            (&call, &sip_call_id),
            (&from, &to),
            queue,
            &host,
            at_unix_us,
            &end,
        );
        detail.origin = past.origin;
        self.record(now, RecordKind::CallDetail(Box::new(detail)));
    }
}
