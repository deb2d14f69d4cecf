//! When the way to a media host breaks for a moment: commands without answer leave it open what the host has. That is
//! asked, by taking the session over under the next epoch, and then everything is said again.

use std::time::{Duration, Instant};

use proto::mediad::v1 as pb;

use super::{Controller, Due, Now};
use crate::{
    call::{CallId, Stage},
    media::MediaPlan,
    pool::HostId,
};

/// How often a host that can be spoken to is asked again.
const RETRY_EVERY: Duration = Duration::from_millis(500);

impl Controller {
    /// These commands were not answered, and will not be.
    pub(super) fn unanswered(&mut self, now: Now, commands: Vec<u64>) {
        for command in commands {
            let Some(pending) = self.pending.remove(&command) else {
                continue;
            };
            self.deadlines.remove(&(pending.until, Due::Reply(command)));
            self.counters.media_errors += 1;
            if let Some(id) = pending.call {
                self.interrupted(now, id, now.mono, "the connection to the media host broke");
            }
        }
    }

    /// The reply to a command did not come in time.
    pub(super) fn reply_overdue(&mut self, now: Now, command: u64) {
        let Some(pending) = self.pending.remove(&command) else {
            return;
        };
        self.counters.media_errors += 1;
        let seconds = self.config.media.reply_timeout_s;
        let message = format!("the media host did not answer within {seconds} s");
        let sent = pending.until.checked_sub(Duration::from_secs(seconds));
        if let Some(id) = pending.call {
            self.interrupted(now, id, sent.unwrap_or(now.mono), &message);
        }
    }

    fn interrupted(&mut self, now: Now, id: CallId, since: Instant, reason: &str) {
        let Some(plan) = self.plan_mut(id) else { return };
        plan.interrupt(since);
        if plan.unsure_since().is_none() {
            // The host was lost meanwhile, or the session given up.
            return;
        }
        let is_unborn = plan.is_unborn();
        self.counters.media_retries += 1;
        if !is_unborn || !self.try_another(now, id) {
            self.try_again_later(now, id, reason);
        }
    }

    /// The next try, or the end of patience.
    fn try_again_later(&mut self, now: Now, id: CallId, reason: &str) {
        let patience = Duration::from_secs(self.config.media.retry_within_s);
        let since = self.plan_mut(id).and_then(|plan| plan.unsure_since());
        let Some(since) = since else { return };
        self.deadlines.insert((now.mono + RETRY_EVERY, Due::Retry(id)));
        if now.mono.saturating_duration_since(since) < patience {
            return;
        }
        let is_over = self.calls.get(&id).is_some_and(|call| call.stage == Stage::Ended)
            || (self.conferences.get(&id)).is_some_and(|conference| conference.members.is_empty());
        if is_over {
            self.forget_session(now, id);
        } else if self.conferences.contains_key(&id) {
            self.conference_refused(now, id, reason);
        } else {
            self.media_refused(now, id, "", reason);
        }
    }

    /// Time to ask the host what it has. While it cannot be spoken to, its return or its loss is awaited.
    pub(super) fn retry(&mut self, now: Now, id: CallId) {
        let Some(plan) = self.plan_mut(id).filter(|plan| plan.unsure_since().is_some()) else {
            return;
        };
        let host = plan.host().clone();
        if !self.pool.is_present(&host) {
            self.try_again_later(now, id, "the media host cannot be reached");
            return;
        }
        self.take_over(now, id);
    }

    /// The host may have the session, and says what it has when it hands it over.
    pub(super) fn take_over(&mut self, now: Now, id: CallId) {
        if let Some(plan) = self.plan_mut(id) {
            let (host, adopt) = (plan.host().clone(), plan.adopt(plan.epoch()));
            self.command(now, host, Some(id), adopt);
        }
    }

    /// The host says that it does not have a session of which nobody knew whether it has it.
    pub(super) fn unborn(&mut self, now: Now, id: CallId) {
        if let Some(plan) = self.plan_mut(id) {
            plan.begin_again();
        }
        self.send_media(now, id);
        self.send_conference(now, id);
    }

    /// Another host may take what this one never had for certain.
    fn try_another(&mut self, now: Now, id: CallId) -> bool {
        let Some(plan) = self.plan_mut(id) else {
            return false;
        };
        let (host, session, epoch) = (plan.host().clone(), plan.session().to_owned(), plan.epoch());
        let moved = if self.conferences.contains_key(&id) {
            self.move_new_conference(now, id)
        } else {
            let is_new = self
                .calls
                .get(&id)
                .is_some_and(|call| call.stage == Stage::Preparing);
            is_new && self.try_another_host(now, id)
        };
        if moved {
            self.delete_stray(now, host, session, epoch);
        }
        moved
    }

    /// A conference that no host has yet goes to another one.
    fn move_new_conference(&mut self, now: Now, id: CallId) -> bool {
        let Some(conference) = self.conferences.get_mut(&id) else {
            return false;
        };
        let former = conference.plan.host().clone();
        let Some(host) = self.pool.take_but(&[former.clone()].into()) else {
            return false;
        };
        self.pool.give_back(&former);
        conference.plan.move_to(host);
        self.save_conference(now, id);
        self.send_conference(now, id);
        true
    }

    /// It is over, and the host says nothing of it.
    fn forget_session(&mut self, now: Now, id: CallId) {
        let Some(plan) = self.plan_mut(id) else { return };
        let (host, session, epoch) = (plan.host().clone(), plan.session().to_owned(), plan.epoch());
        plan.give_up();
        self.delete_stray(now, host, session, epoch);
        self.send_media(now, id);
        self.send_conference(now, id);
    }

    /// Should the host have it: nobody wants it. One that cannot be reached is told when it is back.
    pub(super) fn delete_stray(&mut self, now: Now, host: HostId, session: String, epoch: u64) {
        let owner = Some(self.owner(epoch));
        let delete = pb::command::Kind::Delete(pb::DeleteRequest { session, owner });
        self.command(now, host, None, delete);
    }

    fn plan_mut(&mut self, id: CallId) -> Option<&mut MediaPlan> {
        if let Some(conference) = self.conferences.get_mut(&id) {
            return Some(&mut conference.plan);
        }
        self.calls.get_mut(&id).map(|call| &mut call.plan)
    }
}
