//! Commands to the media hosts, and what comes back.

use proto::mediad::v1 as pb;

use super::{Controller, Due, Now, Pending, SessionFound};
use crate::{
    call::{CallId, Side, Stage},
    journal::{EndedBy, RecordKind},
    leg::Leg,
    media::Applied,
    pool::HostId,
    scene::scene,
};
use sip::{header::Reason, message::StatusCode, stack::Waiting};
use std::time::Duration;

/// Who may make a new offer while a call stands or waits.
pub(super) const REOFFERING: [Side; 3] = [Side::Caller, Side::Callee, Side::Transferor];

impl Controller {
    /// Sends the next command of a call's plan, if one is due.
    pub(super) fn send_media(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let takes_info = |leg: Option<&Leg>| leg.is_some_and(|leg| self.takes_info(leg).is_some());
        let takes_info = [Some(&call.caller), call.callee.as_ref()].map(takes_info);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        for (leg, takes_info) in [Some(&mut call.caller), call.callee.as_mut()]
            .into_iter()
            .zip(takes_info)
        {
            if let Some(leg) = leg {
                leg.takes_info = takes_info;
            }
        }
        // As `queue_named`, which would take the call with it.
        let mut queues = self.config.queues.iter().chain(&self.retired);
        let queue = queues.find(|queue| Some(queue.name.as_str()) == call.queue.as_deref());
        let scene = scene(call, &self.config, queue);
        call.plan.set_scene(scene);
        let Some(kind) = call.plan.next_command() else {
            if call.plan.is_gone() {
                self.finish(now, id, &[]);
            }
            return;
        };
        let host = call.plan.host().clone();
        self.command(now, host, Some(id), kind);
    }

    /// As [`Controller::send_media`], and goes on at once if the host has everything already.
    pub(super) fn settle(&mut self, now: Now, id: CallId) {
        self.send_media(now, id);
        if self.calls.get(&id).is_some_and(|call| call.plan.is_settled()) {
            self.media_settled(now, id);
        }
    }

    pub(super) fn command(&mut self, now: Now, host: HostId, call: Option<CallId>, kind: pb::command::Kind) {
        self.last_command += 1;
        let id = self.last_command;
        let until = now.mono + Duration::from_secs(self.config.media.reply_timeout_s);
        let since = now.mono;
        self.pending.insert(id, Pending { call, since, until });
        self.deadlines.insert((until, Due::Reply(id)));
        self.counters.media_commands += 1;
        let kind = Some(kind);
        self.commands.push_back((host, pb::Command { id, kind }));
    }

    pub(super) fn owner(&self, epoch: u64) -> pb::Owner {
        pb::Owner {
            controller: self.config.controller.clone(),
            epoch,
        }
    }

    /// A host says which sessions of ours it has: those of calls from before a restart are taken over, those that
    /// no call knows are deleted, and calls whose session it does not have get another.
    pub(super) fn sessions_found(&mut self, now: Now, host: &HostId, sessions: Vec<SessionFound>) {
        self.pool.greeted(host);
        for found in sessions {
            let id = CallId::of_name(&found.session).unwrap_or(CallId(0));
            let conference = self.conferences.get_mut(&id).map(|it| &mut it.plan);
            let plan = conference.or_else(|| self.calls.get_mut(&id).map(|call| &mut call.plan));
            match plan.filter(|plan| plan.is_at(&found.session, host)) {
                Some(plan) if plan.is_away() || plan.is_lost() => {
                    if plan.is_lost() {
                        // It was only out of reach, and its parties may have talked all the time.
                        plan.regain();
                    }
                    let adopt = plan.adopt(found.epoch);
                    self.command(now, host.clone(), Some(id), adopt);
                }
                // Its call is over: what waits for its recording does not need it, and that is finished by this.
                Some(plan) if plan.is_gone() => {
                    self.delete_stray(now, host.clone(), found.session, found.epoch);
                }
                Some(plan) => plan.hear_of(found.epoch),
                None => self.delete_stray(now, host.clone(), found.session, found.epoch),
            }
        }
        let calls = self.calls.iter().map(|(id, call)| (*id, &call.plan));
        let conferences = self.conferences.iter().map(|(id, it)| (*id, &it.plan));
        let awaited = calls
            .chain(conferences)
            .filter(|(_, plan)| plan.host() == host && plan.is_away());
        let missing: Vec<(CallId, bool)> = awaited.map(|(id, plan)| (id, plan.is_unborn())).collect();
        let reason = "the media host does not have the session any more";
        for (id, is_unborn) in missing {
            if is_unborn {
                self.unborn(now, id);
            } else if self.conferences.contains_key(&id) {
                self.displace_conference(now, id, reason);
            } else {
                self.displace(now, id, reason);
            }
        }
    }

    pub(super) fn media_reply(&mut self, now: Now, reply: pb::CommandReply) {
        // One that came after its time was given up already.
        let Some(pending) = self.pending.remove(&reply.id) else {
            return;
        };
        self.deadlines.remove(&(pending.until, Due::Reply(reply.id)));
        let wait = now.mono.saturating_duration_since(pending.since);
        self.stack.waited(now.mono, Waiting::Replies, wait);
        if matches!(reply.result, Some(pb::command_reply::Result::Error(_)) | None) {
            self.counters.media_errors += 1;
        }
        let Some(id) = pending.call else { return };
        if let Some(pb::command_reply::Result::Adopt(adopted)) = &reply.result {
            let description = adopted.description.as_ref();
            self.heard_meanwhile(id, description.map_or(&[], |it| &it.endpoint_stats));
        }
        let Some(call) = self.calls.get_mut(&id) else {
            self.conference_reply(now, id, reply.result);
            return;
        };
        match call.plan.on_reply(reply.result) {
            Applied::Settled => self.media_settled(now, id),
            Applied::Behind => self.send_media(now, id),
            Applied::Contested => self.take_over(now, id),
            Applied::Refused { subject, message } => self.media_refused(now, id, &subject, &message),
            Applied::Deleted(stats) => self.finish(now, id, &stats),
            Applied::Lost => self.displace(now, id, "the media host does not hand the session over"),
        }
    }

    /// A session is taken over: whoever was silent may have been heard while nobody was told.
    fn heard_meanwhile(&mut self, id: CallId, heard: &[pb::EndpointStats]) {
        let last_rx = |leg: &Leg| {
            let stats = heard.iter().find(|stats| stats.node == leg.endpoint);
            stats.map_or(0, |stats| stats.last_rx_unix_us)
        };
        if let Some(call) = self.calls.get_mut(&id) {
            for leg in std::iter::once(&mut call.caller).chain(&mut call.callee) {
                leg.was_heard(last_rx(leg));
            }
        }
        let members = self
            .conferences
            .get(&id)
            .map(|conference| conference.members.clone());
        for member in members.into_iter().flatten() {
            if let Some(member) = self.members.get_mut(&member) {
                member.leg.was_heard(last_rx(&member.leg));
            }
        }
    }

    /// The host has what the call wants: go on.
    fn media_settled(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let stage = call.stage;
        let unheard = |side| call.leg(side).filter(|leg| leg.unheard.is_some())?.dialog;
        let unheard = [Side::Caller, Side::Callee].map(unheard);
        if call.displaced.is_some()
            && let Some(call) = self.calls.get_mut(&id)
        {
            call.displaced = None;
        }
        if let Some(entry) = self.calls.get(&id).and_then(|call| call.entry) {
            self.domain.put_back(now.mono, entry);
        }
        self.tell_moved(now, id);
        for dialog in unheard.into_iter().flatten() {
            self.answer_unheard(now, dialog);
        }
        match stage {
            Stage::Preparing => self.prepared(now, id),
            Stage::Offering => self.send_invites(now, id),
            Stage::Connecting => self.connect(now, id),
            Stage::AwaitingAnswer => self.joined(now, id),
            Stage::Talking => self.seat_newcomer(now, id),
            Stage::Ringing => self.seat_pick_up(now, id),
            Stage::Waiting | Stage::Ended => {}
        }
        for side in REOFFERING {
            self.answer_reoffer(now, id, side);
        }
        self.answer_early_offers(now, id);
    }

    pub(super) fn media_refused(&mut self, now: Now, id: CallId, subject: &str, message: &str) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if subject == "node:music" && !call.lacks_prompt && call.stage != Stage::Ended {
            // Better another music than none.
            call.lacks_prompt = true;
            self.counters.prompts_missing += 1;
            self.send_media(now, id);
            return;
        }
        if self.question_refused(now, id, subject) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let is_recorded = call
            .recorded
            .as_ref()
            .is_some_and(|recorded| !recorded.is_finished());
        if subject == "node:recording" && is_recorded && call.stage != Stage::Ended {
            self.recording_refused(now, id, message);
            return;
        }
        let stage = call.stage;
        // What was taken over cannot be brought into order, and what no host has cannot be left as it is.
        let is_joined = call.newcomer.is_some();
        let is_unruly = call.plan.is_found() || !call.plan.may_exist();
        let is_of_queue = call.round.as_ref().is_some_and(|round| round.offer.is_some());
        let comes_back = call.comes_back() && !is_of_queue;
        match stage {
            Stage::Ended => self.send_media(now, id),
            // Without who picks it up it rings on.
            Stage::Talking | Stage::Ringing if !is_unruly && (stage == Stage::Talking || is_joined) => {
                self.refuse_reoffers(now, id);
                if let Some(call) = self.calls.get_mut(&id) {
                    call.plan.revert();
                }
                self.newcomer_gone(now, id, Some(StatusCode::SERVICE_UNAVAILABLE));
                self.send_media(now, id);
            }
            Stage::Offering if !is_unruly && comes_back => self.no_room_for_round(now, id),
            Stage::Preparing
            | Stage::Waiting
            | Stage::Offering
            | Stage::Ringing
            | Stage::Connecting
            | Stage::AwaitingAnswer
            | Stage::Talking => {
                if self.try_another_host(now, id) || self.replace_later(now, id) {
                    return;
                }
                // Should something else be wrong, it is refused again without them.
                if !is_unruly && self.refuse_reoffers(now, id) {
                    self.send_media(now, id);
                    return;
                }
                let reason = format!("media: {message}");
                self.end(now, id, EndedBy::System, StatusCode::SERVICE_UNAVAILABLE, &reason);
            }
        }
    }

    /// The media host has no room for who is to be rung, or moved here: who has the call back then has it back.
    fn no_room_for_round(&mut self, now: Now, id: CallId) {
        self.refuse_reoffers(now, id);
        let status = StatusCode::SERVICE_UNAVAILABLE;
        self.cancel_round(now, id, &Reason::new("SIP", 503, "No room"), status);
        self.leave_way(id);
        if let Some(call) = self.calls.get_mut(&id) {
            call.stage.on_round_over();
            call.withdraw_endpoints(|_| false);
        }
        let reason = "the media host has no room for who is called";
        self.nobody_came(now, id, EndedBy::System, status, reason);
    }

    /// A host that refuses a new call may be full or draining: another one may take it. True when one was found.
    pub(super) fn try_another_host(&mut self, now: Now, id: CallId) -> bool {
        let call = self.calls.get_mut(&id);
        let Some(call) = call.filter(|call| !call.plan.may_exist() || call.plan.is_unborn()) else {
            return false;
        };
        let refused = call.plan.host().clone();
        call.refused_by.insert(refused.clone());
        let Some(host) = self.pool.take_but(&call.refused_by) else {
            return false;
        };
        self.pool.give_back(&refused);
        call.plan.move_to(host);
        self.send_media(now, id);
        true
    }

    pub(super) fn host_up(&mut self, now: Now, host: &HostId, boot_id: &str) {
        if self.pool.up(host, boot_id) {
            self.lose_sessions(now, host, "the media host was restarted");
        }
        self.record(
            now,
            RecordKind::MediaHost {
                host: host.to_string(),
                boot_id: boot_id.to_owned(),
                reason: String::new(),
            },
        );
        self.open_door(now);
    }

    pub(super) fn host_down(&mut self, now: Now, host: &HostId, reason: &str) {
        if !self.pool.down(host) {
            return;
        }
        self.record(
            now,
            RecordKind::MediaHost {
                host: host.to_string(),
                boot_id: String::new(),
                reason: reason.to_owned(),
            },
        );
        self.hope_for_host(now);
        self.lose_sessions(now, host, &format!("the media host is lost: {reason}"));
    }

    /// What is on hosts that have not come back after our restart gets another place. Should they come yet, it is taken over
    /// there if it has none.
    pub(super) fn hosts_overdue(&mut self, now: Now) {
        for host in self.pool.awaited() {
            self.lose_sessions(
                now,
                &host,
                "the media host was not there after the controller's restart",
            );
        }
    }

    pub(super) fn media_event(&mut self, now: Now, host: &HostId, event: &pb::Event) {
        if let Some(pb::event::Kind::RecordingFinalised(done)) = &event.kind {
            self.recording_finished(now, host, done);
            return;
        }
        let Some(id) = CallId::of_name(&event.session) else {
            return;
        };
        let conference = self.conferences.get(&id);
        if conference.is_some_and(|it| it.plan.is_at(&event.session, host)) {
            self.conference_event(now, id, event);
            return;
        }
        // Not what a host tells late that had the call before it was lost.
        let call = self.calls.get_mut(&id);
        let Some(call) = call.filter(|call| call.plan.is_at(&event.session, host)) else {
            return;
        };
        let leg = if call.caller.endpoint == event.node {
            Some(&mut call.caller)
        } else {
            call.callee.as_mut().filter(|leg| leg.endpoint == event.node)
        };
        match (&event.kind, leg) {
            (Some(pb::event::Kind::MediaStarted(_)), Some(leg)) => leg.is_silent = false,
            (Some(pb::event::Kind::MediaTimeout(_)), Some(leg)) => {
                leg.fell_silent(event.time_unix_us);
                let asked = leg.dialog.filter(|_| leg.is_missed());
                let both = [Some(&call.caller), call.callee.as_ref()];
                let both = both.iter().all(|leg| leg.is_some_and(Leg::is_missed));
                if both && call.stage == Stage::Talking {
                    self.end(
                        now,
                        id,
                        EndedBy::System,
                        StatusCode::OK,
                        "neither party sends audio any more",
                    );
                } else if let Some(dialog) = asked {
                    self.ask_whether_there(now, id, dialog);
                }
            }
            (Some(pb::event::Kind::DigitEnded(digit)), Some(leg)) => {
                let from = leg.endpoint.clone();
                match call.caller.endpoint == from && self.chooses(id, Side::Caller) {
                    true => self.keys_pressed(now, id, &digit.digit),
                    false => self.pass_digit_by_info(now, id, &from, digit),
                }
            }
            (Some(pb::event::Kind::PlayFinished(_)), _) => self.question_finished(now, id, &event.node),
            (Some(pb::event::Kind::SessionEnded(_)), _) if call.stage != Stage::Ended => {
                call.plan.give_up();
                let reason = "the media host ended the session";
                self.end(now, id, EndedBy::System, StatusCode::SERVICE_UNAVAILABLE, reason);
            }
            _ => {}
        }
    }
}
