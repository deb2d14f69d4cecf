//! New calls while no media host is up: at the start, and after the last one was lost. They wait a moment for one, for a
//! call that is refused is lost, and a proxy in front takes every such refusal for a failure of ours.
//!
//! And every first INVITE whose sender has our 100: it repeats it no more, so that who goes on after this process knows of it
//! from the journal alone.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use sip::{
    message::{HeaderName, Request, Response, StatusCode},
    stack::{DialogKey, Flow, ServerTxn},
};

use super::{Controller, Due, Now, restore::text_without_keys, sip_events::CANCELLED, unix_us};
use crate::{
    call::{CallId, Newcomer, Side, Stage},
    conference::MemberStage,
    journal::{EndedBy, RecordKind},
    leg::Leg,
    limits,
    saved::SavedInvited,
};

/// Whose INVITE has waited for longer when this process begins is taken to have given up.
const PATIENCE: Duration = Duration::from_secs(32);

/// First INVITEs that wait.
#[derive(Debug, Default)]
pub(super) struct Doorstep {
    invites: VecDeque<Waiting>,
    /// A media host may be up by then.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    txn: ServerTxn,
    request: Request,
    flow: Flow,
    dialog: DialogKey,
    /// Ours.
    tag: String,
}

impl Waiting {
    fn record(&self) -> RecordKind {
        let text = text_without_keys(&self.request);
        RecordKind::InviteWaits {
            tag: self.tag.clone(),
            invite: Box::new(SavedInvited::of(text, self.flow, self.tag.clone().into())),
        }
    }
}

impl Controller {
    /// There was none yet, or the last one was lost just now.
    pub(super) fn hope_for_host(&mut self, now: Now) {
        if self.pool.is_any_up() {
            return;
        }
        let until = now.mono + Duration::from_secs(self.config.media.wait_for_host_s);
        self.doorstep.until = Some(until);
        self.deadlines.insert((until, Due::Doorstep));
    }

    /// True: it waits, and its sender knows from the stack that it has come.
    pub(super) fn waits_for_host(
        &mut self,
        now: Now,
        txn: ServerTxn,
        request: &Request,
        flow: Flow,
        dialog: DialogKey,
    ) -> bool {
        let doorstep = &self.doorstep;
        let has_hope = doorstep.until.is_some_and(|until| now.mono < until) && !self.pool.is_any_up();
        if !has_hope || self.is_stopping || doorstep.invites.len() >= limits::INVITES_WAITING_MAX {
            return false;
        }
        let Some(known) = self.stack.dialog(dialog) else {
            return false;
        };
        let waiting = Waiting {
            txn,
            request: request.clone(),
            flow,
            dialog,
            tag: String::from_utf8_lossy(&known.id.local_tag).into_owned(),
        };
        self.record(now, waiting.record());
        self.doorstep.invites.push_back(waiting);
        true
    }

    /// A media host is up, or nobody waits for one any more.
    pub(super) fn open_door(&mut self, now: Now) {
        for waiting in std::mem::take(&mut self.doorstep.invites) {
            self.receive_invite(now, waiting.txn, &waiting.request, waiting.flow, waiting.dialog);
            self.repeats_no_more(now, waiting.dialog);
            self.left_door(now, waiting.tag);
        }
    }

    /// The sender of this INVITE has our 100. Of a call that is on its way the journal knows all that is needed.
    pub(super) fn repeats_no_more(&mut self, now: Now, dialog: DialogKey) {
        let (name, leg) = match self.by_dialog.get(&dialog) {
            Some((id, Side::Caller)) => match self.calls.get(id) {
                Some(call) if call.stage == Stage::Preparing => (&call.name, &call.caller),
                _ => return,
            },
            Some((id, Side::Newcomer)) => {
                self.newcomer_waits(now, *id);
                return;
            }
            Some((id, Side::Member)) => match self.members.get(id) {
                Some(member) if member.stage == MemberStage::Preparing => (&member.name, &member.leg),
                _ => return,
            },
            _ => return,
        };
        if let Some(record) = self.invited_record(name, leg) {
            self.record(now, record);
        }
    }

    /// As [`Controller::repeats_no_more`], of who is to take another's place.
    fn newcomer_waits(&mut self, now: Now, id: CallId) {
        let newcomer = self.calls.get(&id).and_then(|call| call.newcomer.as_ref());
        let Some((tag, record)) = newcomer.and_then(|newcomer| self.newcomer_record(newcomer)) else {
            return;
        };
        self.record(now, record);
        let newcomer = self.calls.get_mut(&id).and_then(|call| call.newcomer.as_mut());
        if let Some(newcomer) = newcomer {
            newcomer.waits = Some(tag);
        }
    }

    fn newcomer_record(&self, newcomer: &Newcomer) -> Option<(String, RecordKind)> {
        let (text, flow) = newcomer.leg.arrived.as_ref()?;
        let tag = self.stack.dialog(newcomer.leg.dialog?)?.id.local_tag.clone();
        let name = String::from_utf8_lossy(&tag).into_owned();
        let record = RecordKind::InviteWaits {
            tag: name.clone(),
            invite: Box::new(SavedInvited::of(text.clone(), *flow, tag)),
        };
        Some((name, record))
    }

    /// Who was to take another's place has an answer.
    pub(super) fn waits_no_more(&mut self, now: Now, waits: Option<String>) {
        if let Some(tag) = waits {
            self.record(now, RecordKind::InviteLeft { tag });
        }
    }

    /// Those of whom the journal was told that they are to take another's place.
    fn newcomers(&self) -> impl Iterator<Item = &Newcomer> {
        let newcomers = self.calls.values().filter_map(|call| call.newcomer.as_ref());
        newcomers.filter(|newcomer| newcomer.waits.is_some())
    }

    /// What a process after this one needs to answer this caller.
    pub(super) fn invited_record(&self, call: &str, leg: &Leg) -> Option<RecordKind> {
        let (text, flow) = leg.arrived.as_ref().filter(|_| leg.state.is_pending())?;
        let tag = self.stack.dialog(leg.dialog?)?.id.local_tag.clone();
        Some(RecordKind::CallInvited {
            call: call.to_owned(),
            invite: Box::new(SavedInvited::of(text.clone(), *flow, tag)),
        })
    }

    /// Who waited gave up.
    pub(super) fn leaves_door(&mut self, now: Now, dialog: DialogKey) {
        let invites = &mut self.doorstep.invites;
        let place = invites.iter().position(|waiting| waiting.dialog == dialog);
        if let Some(waiting) = place.and_then(|place| invites.remove(place)) {
            let how = (EndedBy::Caller, StatusCode::REQUEST_TERMINATED);
            self.begun_ends(now, &waiting.request, how, CANCELLED);
            self.left_door(now, waiting.tag);
        }
    }

    fn left_door(&mut self, now: Now, tag: String) {
        if self.doorstep.invites.iter().all(|waiting| waiting.tag != tag) {
            self.record(now, RecordKind::InviteLeft { tag });
        }
    }

    /// Who waits, said again at the beginning of a new segment.
    pub(super) fn doorstep_standing(&self) -> impl Iterator<Item = RecordKind> {
        let newcomers = self.newcomers().filter_map(|it| self.newcomer_record(it));
        let waiting = self.doorstep.invites.iter().map(Waiting::record);
        waiting.chain(newcomers.map(|(_, record)| record))
    }

    /// Who waited when the process before was killed is received as if it came now.
    pub(super) fn restore_doorstep(
        &mut self,
        now: Now,
        mut waiting: Vec<(u64, SavedInvited)>,
        tags: impl Iterator<Item = String>,
    ) {
        waiting.sort_by_key(|(since, _)| *since);
        for (since_unix_us, invite) in waiting {
            let waited = unix_us(now.wall).saturating_sub(since_unix_us);
            if Duration::from_micros(waited) <= PATIENCE {
                self.receive_again(now, &invite);
            }
        }
        let newcomers = self.newcomers().filter_map(|it| it.waits.clone());
        let wait_again: BTreeSet<String> = newcomers.collect();
        for tag in tags.filter(|tag| !wait_again.contains(tag)) {
            self.left_door(now, tag);
        }
    }

    fn receive_again(&mut self, now: Now, invite: &SavedInvited) {
        let Some(record) = invite.restore() else { return };
        let Ok((txn, dialog, request)) = self.stack.adopt_invited(now.mono, &record) else {
            return;
        };
        // Its offer had keys, which no journal holds.
        if request.body.is_empty() && request.headers.contains(HeaderName::ContentType) {
            let mut response = Response::new(StatusCode::SERVER_INTERNAL_ERROR);
            let _digits = response.headers.set(HeaderName::RetryAfter, "1");
            self.refuse_invite(now, txn, &request, response);
            return;
        }
        match self.stack.check_replaces(&request) {
            Ok(Some(replaced)) => {
                self.receive_replacement(now, txn, &request, record.flow, (dialog, replaced));
                self.keep_invite(dialog, &request, record.flow);
            }
            Ok(None) => self.receive_invite(now, txn, &request, record.flow, dialog),
            Err(status) => self.refuse_invite(now, txn, &request, Response::new(status)),
        }
        self.repeats_no_more(now, dialog);
    }
}
