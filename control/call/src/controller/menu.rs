//! Callers in menus: asked, heard, led on, and asked again when nobody takes them.

use std::{sync::Arc, time::Duration};

use sip::message::StatusCode;

use super::{Controller, Due, Now};
use crate::{
    call::{Call, CallId, Side, Stage},
    domain::Name,
    journal::{EndedBy, RecordKind},
    limits,
    menu::{Choice, Keys, Selection},
    routing::Destination,
};

/// Why a question brought nothing, as the call's detail says it should there be no other.
type Failure<'a> = (EndedBy, StatusCode, &'a str);

const NOTHING_CHOSEN: Failure<'_> = (
    EndedBy::System,
    StatusCode::TEMPORARILY_UNAVAILABLE,
    "nothing was chosen in the menu",
);

impl Controller {
    /// The caller is answered, and asked; also one that is on another media host now, or was there before a restart.
    pub(super) fn enter_menu(&mut self, now: Now, id: CallId, name: &Name) {
        let menu = self
            .config
            .menus
            .iter()
            .find(|menu| *menu.name == **name)
            .cloned();
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let was_there = call.menu.as_ref().is_some_and(|it| *it.menu.name == **name);
        match menu {
            _ if was_there => {}
            Some(menu) => {
                let asked = call.menu.take().map_or(0, |before| before.asked);
                let mut selection = Selection::new(Arc::new(menu));
                selection.asked = asked;
                call.menu = Some(Box::new(selection));
            }
            None => {
                let reason = "the menu is not configured any more";
                self.end(
                    now,
                    id,
                    EndedBy::System,
                    StatusCode::TEMPORARILY_UNAVAILABLE,
                    reason,
                );
                return;
            }
        }
        self.ask(now, id);
        self.answer_early(now, id);
    }

    /// Asks anew.
    fn ask(&mut self, now: Now, id: CallId) {
        let selection = self.calls.get_mut(&id).and_then(|call| call.menu.as_mut());
        let Some(selection) = selection else { return };
        selection.asked += 1;
        selection.typed.clear();
        let patience = match selection.has_end() {
            true => limits::MENU_QUESTION_MAX,
            false => Duration::from_secs(selection.menu.timeout_s),
        };
        self.wait_for_key(now, id, Some(patience));
    }

    /// Waits so long for a key, or for none any more.
    fn wait_for_key(&mut self, now: Now, id: CallId, patience: Option<Duration>) {
        let selection = self.calls.get_mut(&id).and_then(|call| call.menu.as_mut());
        let Some(selection) = selection else { return };
        let until = patience.map(|patience| now.mono + patience);
        if let Some(before) = std::mem::replace(&mut selection.until, until) {
            self.deadlines.remove(&(before, Due::Menu(id)));
        }
        self.deadlines.extend(until.map(|until| (until, Due::Menu(id))));
    }

    /// The caller, which has heard a question and may press keys; `None` for others.
    fn chooser(&mut self, id: CallId) -> Option<&mut Call> {
        let call = self.calls.get_mut(&id)?;
        let is_asked = matches!(call.destination, Destination::Menu(_)) && call.menu.is_some();
        (is_asked && call.stage == Stage::Waiting).then_some(call)
    }

    /// Whether the keys of this party are for a menu.
    pub(super) fn chooses(&mut self, id: CallId, side: Side) -> bool {
        side == Side::Caller && self.chooser(id).is_some()
    }

    /// The question was heard to its end.
    pub(super) fn question_finished(&mut self, now: Now, id: CallId, player: &str) {
        let selection = self.chooser(id).and_then(|call| call.menu.as_ref());
        let Some(selection) = selection.filter(|it| it.question() == player && it.typed.is_empty()) else {
            return;
        };
        let patience = Duration::from_secs(selection.menu.timeout_s);
        self.wait_for_key(now, id, Some(patience));
    }

    /// The media host cannot play the question. False when that is not what it refused.
    pub(super) fn question_refused(&mut self, now: Now, id: CallId, subject: &str) -> bool {
        let selection = self.chooser(id).and_then(|call| call.menu.as_mut());
        let Some(selection) = selection.filter(|it| subject == format!("node:{}", it.question())) else {
            return false;
        };
        if !selection.has_end() {
            return false;
        }
        // Perhaps it is the correction alone that it does not have.
        match selection.is_corrected && !selection.menu.invalid_prompt.is_empty() {
            true => selection.is_corrected = false,
            false => selection.lacks_prompt = true,
        }
        self.counters.prompts_missing += 1;
        self.ask(now, id);
        self.send_media(now, id);
        true
    }

    /// The caller pressed keys.
    pub(super) fn keys_pressed(&mut self, now: Now, id: CallId, keys: &str) {
        for key in keys.chars() {
            let Some(call) = self.chooser(id) else { return };
            let Some(selection) = call.menu.as_mut() else {
                return;
            };
            let is_over = selection.menu.ends(key);
            if !is_over {
                selection.typed.push(key);
            }
            self.read_keys(now, id, is_over);
        }
    }

    /// No key came for too long.
    pub(super) fn menu_overdue(&mut self, now: Now, id: CallId) {
        let selection = self.chooser(id).and_then(|call| call.menu.as_ref());
        let is_over = selection.is_some_and(|it| it.until.is_some_and(|until| until <= now.mono));
        if is_over {
            self.read_keys(now, id, true);
        }
    }

    fn read_keys(&mut self, now: Now, id: CallId, is_over: bool) {
        let selection = self.chooser(id).and_then(|call| call.menu.as_mut());
        let Some(selection) = selection else { return };
        let menu = Arc::clone(&selection.menu);
        match menu.read(&selection.typed, is_over) {
            Keys::Whole(target) => {
                let keys = std::mem::take(&mut selection.typed);
                selection.is_corrected = false;
                self.lead_on(now, id, keys, target);
            }
            Keys::Begun => {
                self.wait_for_key(now, id, Some(Duration::from_secs(menu.next_key_s)));
                self.send_media(now, id);
            }
            Keys::Wrong => {
                selection.is_corrected = !selection.typed.is_empty();
                self.ask_again(now, id, NOTHING_CHOSEN);
            }
        }
    }

    /// Brings the caller to where it chose to go. Who may call out is the operator, who wrote the menu.
    fn lead_on(&mut self, now: Now, id: CallId, keys: String, target: &str) {
        self.wait_for_key(now, id, None);
        let Some(call) = self.chooser(id) else { return };
        let Destination::Menu(menu) = &call.destination else {
            return;
        };
        let choice = Choice {
            menu: menu.to_string(),
            keys,
            to: target.to_owned(),
        };
        let record = RecordKind::CallChose {
            call: call.name.clone(),
            choice: choice.clone(),
        };
        call.choices.push(choice);
        let is_lost = call.choices.len() > limits::MENU_CHOICES_MAX;
        self.counters.menu_choices += 1;
        self.record(now, record);
        if is_lost {
            let reason = "menus led it in a circle";
            self.end(now, id, EndedBy::System, StatusCode::LOOP_DETECTED, reason);
            return;
        }
        match self.destination_for_operator(target) {
            Ok(destination) => {
                let Some(call) = self.calls.get_mut(&id) else {
                    return;
                };
                call.destination = destination;
                (call.instance, call.redirected) = (None, None);
                self.proceed(now, id);
                self.send_media(now, id);
            }
            Err(status) => {
                let reason = format!("\"{target}\", which was chosen in the menu, cannot be reached");
                self.ask_again(now, id, (EndedBy::System, status, &reason));
            }
        }
    }

    /// Nothing came of the question, or nobody took who had chosen: it is asked again, or brought to where who chooses
    /// nothing goes.
    pub(super) fn ask_again(&mut self, now: Now, id: CallId, (by, status, reason): Failure<'_>) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.withdraw_endpoints(|_| false);
        let is_free = call.stage == Stage::Waiting;
        let Some(selection) = call.menu.as_mut().filter(|_| is_free) else {
            self.end(now, id, by, status, reason);
            return;
        };
        let menu = Arc::clone(&selection.menu);
        selection.tries += 1;
        // It waits in no queue any more.
        call.queue.clone_from(&call.served_by);
        call.destination = Destination::Menu(menu.name.as_str().into());
        if selection.tries < menu.tries_max {
            self.ask(now, id);
            self.send_media(now, id);
        } else if selection.is_given_up || menu.otherwise.is_empty() {
            self.counters.menu_failures += 1;
            self.end(now, id, by, status, reason);
        } else {
            selection.is_given_up = true;
            self.lead_on(now, id, String::new(), &menu.otherwise);
        }
    }
}
