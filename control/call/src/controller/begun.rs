//! Calls of which nothing is recorded but that they began when the controller was killed. Their callers had no answer, so
//! they repeat their INVITEs: then such a call goes on under its name. One that nobody asks for again ends.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sip::message::{Request, StatusCode};

use super::{
    Controller, Due, Now,
    calling::text,
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
        if let Some((name, at_unix_us)) = self.begun_by(sip_call_id, caller)
            && let Some(id) = CallId::of_name(&name)
        {
            let at = (then(now, at_unix_us), at_unix_us);
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

    /// The call that an INVITE with this Call-ID, by this caller, had begun, and when.
    fn begun_by(&self, sip_call_id: &str, caller: &str) -> Option<(String, u64)> {
        match self.begun.0.get(sip_call_id)?.started.as_ref()? {
            (at_unix_us, RecordKind::CallStarted { call, from, .. }) if from == caller => {
                Some((call.clone(), *at_unix_us))
            }
            _ => None,
        }
    }

    /// The INVITE of a call that had only begun came again, and nothing came of it.
    pub(super) fn begun_ends(
        &mut self,
        now: Now,
        invite: &Request,
        (by, status): (EndedBy, StatusCode),
        reason: &str,
    ) {
        let call_id = invite.headers.call_id().unwrap_or_default();
        let call_id = String::from_utf8_lossy(&call_id);
        let Ok(from) = invite.headers.from() else { return };
        let Some((call, _)) = self.begun_by(&call_id, &text(from.uri.as_bytes())) else {
            return;
        };
        if let Some(mut past) = self.begun.0.remove(&*call_id) {
            past.end = Some(self.record_end(now, &call, by, status.code(), reason));
            self.bury_started(now, past);
        }
    }

    fn record_end(&mut self, now: Now, call: &str, by: EndedBy, status: u16, reason: &str) -> SavedEnd {
        self.record(
            now,
            RecordKind::CallEnded {
                call: call.to_owned(),
                by,
                status,
                reason: reason.to_owned(),
            },
        );
        SavedEnd {
            by,
            status,
            reason: reason.to_owned(),
            at_unix_us: unix_us(now.wall),
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
                let reason = "the controller was restarted before the call was set up";
                self.record_end(now, &call, EndedBy::System, 500, reason)
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
