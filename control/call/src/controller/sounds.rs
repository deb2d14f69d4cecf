//! What a conference hears of who comes and goes.

use std::time::Duration;

use super::{Controller, Due, Now};
use crate::{call::CallId, conference::Sound, limits};

/// A sound whose end is not told is over by then.
const SOUND_MAX: Duration = Duration::from_secs(10);

impl Controller {
    /// Somebody is in.
    pub(super) fn announce_join(&mut self, now: Now, member: CallId) {
        let conference = self.members.get(&member).map(|member| member.conference);
        let settings = &self.config.conferences;
        let (prompt, tone) = (settings.join_prompt.clone(), settings.join_tone.then_some("join"));
        if let Some(conference) = conference {
            self.announce(now, conference, prompt, tone);
        }
    }

    /// Somebody who was in is gone, and others stay.
    pub(super) fn announce_leave(&mut self, now: Now, conference: CallId) {
        let settings = &self.config.conferences;
        let (prompt, tone) = (
            settings.leave_prompt.clone(),
            settings.leave_tone.then_some("leave"),
        );
        self.announce(now, conference, prompt, tone);
    }

    fn announce(&mut self, now: Now, id: CallId, mut prompt: String, tone: Option<&'static str>) {
        let Some(conference) = self.conferences.get_mut(&id) else {
            return;
        };
        let is_heard = conference.members.len() > 1;
        let has_room = conference.sounds.len() < limits::SOUNDS_PER_CONFERENCE_MAX;
        if conference.lacks_sounds {
            prompt.clear();
        }
        if prompt.is_empty() && tone.is_none() || !is_heard || !has_room {
            return;
        }
        conference.sounds_made += 1;
        conference.sounds.push(Sound {
            node: format!("sound-{}", conference.sounds_made),
            prompt,
            tone,
            until: now.mono + SOUND_MAX,
        });
        self.deadlines.insert((now.mono + SOUND_MAX, Due::Sound(id)));
        self.send_conference(now, id);
    }

    /// The media host has played it.
    pub(super) fn sound_finished(&mut self, now: Now, id: CallId, node: &str) {
        if let Some(conference) = self.conferences.get_mut(&id) {
            conference.sounds.retain(|sound| sound.node != node);
            self.send_conference(now, id);
        }
    }

    pub(super) fn sounds_overdue(&mut self, now: Now, id: CallId) {
        if let Some(conference) = self.conferences.get_mut(&id) {
            conference.sounds.retain(|sound| sound.until > now.mono);
            self.send_conference(now, id);
        }
    }

    /// The media host does not have it. True: the conference goes on with tones, or without.
    pub(super) fn sound_refused(&mut self, now: Now, id: CallId, subject: &str) -> bool {
        let conference = self.conferences.get_mut(&id);
        let Some(conference) =
            conference.filter(|it| subject.starts_with("node:sound-") && !it.sounds.is_empty())
        else {
            return false;
        };
        conference.sounds.retain_mut(|sound| {
            sound.prompt.clear();
            sound.tone.is_some()
        });
        conference.lacks_sounds = true;
        self.counters.prompts_missing += 1;
        self.send_conference(now, id);
        true
    }
}
