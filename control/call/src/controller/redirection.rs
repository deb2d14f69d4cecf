//! A phone that sends its calls elsewhere (RFC 3261 §8.1.3.4): the call goes there when nobody else of that user takes it.

use sip::{header::Contact, message::Response, stack::ClientTxn, uri::Uri};

use super::{Controller, Now};
use crate::{
    call::{CallId, Redirected},
    domain::Name,
    leg::{Invite, Leg},
    limits,
    routing::Destination,
};

impl Controller {
    /// A phone answered with a redirection. Agents take a queue's calls or decline them, and a carrier's network is not ours
    /// to be sent through.
    pub(super) fn note_redirection(&mut self, id: CallId, txn: ClientTxn, response: &Response) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let is_free = call.way.is_none() && call.summons.is_none();
        let round = call
            .round
            .as_mut()
            .filter(|round| is_free && round.offer.is_none());
        let is_of_it = |leg: &Leg| leg.invite == Invite::Sent(txn);
        let Some(round) = round.filter(|round| round.branches.iter().any(is_of_it)) else {
            return;
        };
        let contacts = response.headers.contacts().unwrap_or_default();
        let wanted = contacts
            .iter()
            .filter_map(Contact::address)
            .max_by_key(|it| it.q());
        if let Some(wanted) = wanted {
            round.moved_to.get_or_insert(wanted.uri.clone());
        }
    }

    /// Sends the call where `user` wants its calls, with the rights of that user, and not for ever. False when that leads
    /// nowhere, or into a room.
    pub(super) fn follow_redirection(&mut self, now: Now, id: CallId, user: &Name, to: &Uri) -> bool {
        let destination = self.destination_of(to, None, Some(user));
        let instance = self.device_of(to);
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        let count = call.redirected.as_ref().map_or(0, |redirected| redirected.count) + 1;
        let destination = match destination {
            Ok(Destination::Room(_)) | Err(_) => return false,
            Ok(to) => to,
        };
        if count > limits::REDIRECTIONS_MAX {
            return false;
        }
        let by = user.clone();
        call.redirected = Some(Redirected { by, count });
        (call.destination, call.instance) = (destination, instance);
        self.proceed(now, id);
        self.send_media(now, id);
        true
    }
}
