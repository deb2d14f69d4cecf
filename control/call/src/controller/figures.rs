//! What a media host counted of a member whose endpoint left a session that goes on: it tells so on its own, and the detail
//! record waits for that, but not for long.

use std::time::Duration;

use proto::mediad::v1 as pb;

use super::{Controller, Due, Now};
use crate::{call::CallId, conference::Member};

/// A record goes without figures after so long: the event was lost, or the media host is.
const FIGURES_WAIT: Duration = Duration::from_secs(10);

impl Controller {
    /// `member` left, and its endpoint is taken out.
    pub(super) fn await_figures(&mut self, now: Now, conference: CallId, mut member: Member) {
        let (Some(id), Some(conference)) = (
            CallId::of_name(&member.name),
            self.conferences.get_mut(&conference),
        ) else {
            return;
        };
        member.check_at = now.mono + FIGURES_WAIT;
        self.deadlines.insert((member.check_at, Due::Check(id)));
        conference.last.push(member);
    }

    /// The media host took an endpoint out of a conference.
    pub(super) fn figures_came(&mut self, now: Now, conference: CallId, removed: &pb::EndpointRemoved) {
        let (Some(found), Some(stats)) = (self.conferences.get_mut(&conference), &removed.stats) else {
            return;
        };
        let is_it = |member: &Member| member.leg.endpoint == stats.node;
        if let Some(at) = found.last.iter().position(is_it) {
            let member = found.last.remove(at);
            self.member_detail(now, conference, &member, std::slice::from_ref(stats));
        }
    }

    /// A call that is no member any more has waited long enough, if it is one that waits.
    pub(super) fn figures_are_late(&mut self, now: Now, id: CallId) {
        let is_it = |member: &Member| CallId::of_name(&member.name) == Some(id);
        let waits = self.conferences.iter_mut().find_map(|(conference, found)| {
            let at = found.last.iter().position(is_it)?;
            Some((*conference, found.last.remove(at)))
        });
        if let Some((conference, member)) = waits {
            self.member_detail(now, conference, &member, &[]);
        }
    }
}
