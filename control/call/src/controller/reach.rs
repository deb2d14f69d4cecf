//! Whether somebody can be reached: names of next hops, connections that go, keepalives, and sources that guess.

use sip::{
    header::NameAddr,
    message::{HeaderName, Method, Request, Response, StatusCode},
    stack::{ClientTxn, DialogKey, DialogRequest, Flow, Hop, LookupId, Target, Transport},
    uri::{Host, Uri},
};

use super::{Controller, Now, Output, Purpose, within_dialog::REFRESH_AGAIN};
use crate::{
    call::{CallId, Side},
    domain::Name,
    registrar::Binding,
};

impl Controller {
    /// The targets of a name, best first; none when it leads nowhere. Answers [`Output::Lookup`].
    pub fn handle_lookup(&mut self, now: Now, id: LookupId, targets: Vec<Target>) {
        self.stack.handle_lookup(now.mono, id, targets);
        self.advance(now);
    }

    /// Sending to `target` failed, or its connection is gone.
    pub fn handle_transport_error(&mut self, now: Now, target: &Target) {
        self.stack.handle_transport_error(now.mono, target);
        if let Target::Flow(flow) = target
            && flow.transport != Transport::Udp
        {
            let mut records = Vec::new();
            let users = self.registrar.connection_gone(*flow, &mut records);
            self.record_all(now, records);
            for user in users {
                self.presence_changed(now, &user);
            }
        }
        self.advance(now);
    }

    /// What the shell is asked or told besides sending.
    pub(super) fn poll_reach(&mut self) -> Option<Output> {
        if let Some((host, recording)) = self.acknowledgements.pop_front() {
            return Some(Output::Acknowledge { host, recording });
        }
        if let Some(host) = self.drained.pop_front() {
            return Some(Output::HostDrained(host));
        }
        if let Some(flow) = self.wrong_passwords.pop_front() {
            return Some(Output::WrongPassword(flow));
        }
        if let Some(target) = self.stack.poll_failed_target() {
            return Some(Output::Unreachable(target));
        }
        self.stack.poll_lookup().map(Output::Lookup)
    }

    /// A user's phone registered from elsewhere, or over another connection, than before: its calls go on there. To one behind
    /// a NAT, and to a browser, no other way leads; and one whose Contact is an address of ours is where it says now.
    pub(super) fn follow_phone(&mut self, user: &Name, flow: Flow) {
        let sides = [Side::Caller, Side::Callee, Side::Transferor, Side::Newcomer];
        let of_calls = self
            .calls
            .values()
            .flat_map(|call| sides.into_iter().filter_map(|side| call.leg(side)));
        let legs = of_calls.chain(self.members.values().map(|member| &member.leg));
        let dialogs = legs
            .filter(|leg| leg.user.as_ref() == Some(user))
            .filter_map(|leg| leg.dialog);
        for dialog in dialogs.collect::<Vec<_>>() {
            if !self.follow_device(dialog) && self.has_lost_its_way(dialog, user, flow) {
                self.stack.move_dialog(dialog, flow);
                self.save_again(dialog);
            }
        }
    }

    /// RFC 5627 §3.1: a device gave the address that we gave it as its Contact. Where that leads only its registration says:
    /// from outside it would be back here. True when it did and is registered.
    pub(super) fn follow_device(&mut self, dialog: DialogKey) -> bool {
        let peer = self.stack.dialog(dialog).map(|dialog| &dialog.remote_target);
        let device = peer
            .filter(|uri| self.routing.is_ours(uri))
            .and_then(|uri| self.registrar.gruu(uri));
        let Some(Ok((user, instance))) = device else {
            return false;
        };
        // Of several flows of a device the newest.
        let mut bindings = self.registrar.bindings(&user).iter().rev();
        let Some(binding) = bindings.find(|binding| binding.is_instance(&instance)) else {
            return false;
        };
        let target = binding.hops().into_iter().find_map(|hop| match hop {
            Hop::Target(target) => Some(target),
            Hop::Name(_) => None,
        });
        self.stack.set_registered(dialog, binding.uri.clone(), target);
        true
    }

    /// Asks a party whether it is there: it ended its call while nobody could be told, or sends no audio any more.
    pub(super) fn ask_whether_there(&mut self, now: Now, id: CallId, dialog: DialogKey) {
        let probe = DialogRequest::new(Method::Options);
        if let Ok(txn) = self.stack.dialog_request(now.mono, dialog, probe) {
            self.by_client.insert(txn, Purpose::Alive(id));
        }
    }

    /// A party did not say that it is there. RFC 4028 §10: then it is gone. One whose connection is broken has until the end
    /// of its session to come back with another.
    pub(super) fn unheard(&mut self, now: Now, dialog: DialogKey, status: StatusCode) {
        let target = self.stack.dialog(dialog).map(|dialog| dialog.target.clone());
        let is_cut = matches!(target, Some(Target::Flow(flow)) if flow.transport != Transport::Udp);
        if is_cut && status == StatusCode::SERVICE_UNAVAILABLE {
            self.refresh_later(now, dialog, REFRESH_AGAIN);
        } else {
            self.lost(now, dialog, "a party does not answer any more");
        }
    }

    /// The dialog's connection is none of the user's phones any more, and the new one is of the same phone: it gave the same
    /// Contact, or is where the other was.
    fn has_lost_its_way(&self, dialog: DialogKey, user: &Name, flow: Flow) -> bool {
        let Some(dialog) = self.stack.dialog(dialog) else {
            return false;
        };
        let Target::Flow(old) = dialog.target else {
            return false;
        };
        let bindings = self.registrar.bindings(user);
        let of_phone = bindings.iter().filter(|binding| binding.flow == flow);
        let is_same = |binding: &Binding| binding.uri.matches(&dialog.remote_target);
        let is_of_phone = old.remote.ip() == flow.remote.ip() || of_phone.into_iter().any(is_same);
        let is_connection = flow.transport != Transport::Udp && old.transport == flow.transport;
        is_connection && is_of_phone && !self.registrar.is_reached_over(user, old)
    }

    /// Somebody gave a wrong password.
    pub(super) fn wrong_password(&mut self, flow: Flow) {
        self.counters.authentication_failures += 1;
        self.wrong_passwords.push_back(flow);
    }

    /// Asks devices whose turn it is whether they are still there.
    pub(super) fn ping_devices(&mut self, now: Now) {
        for binding in self.registrar.due_pings(now.mono) {
            let request = self.ping(&binding);
            match self.stack.request_to(now.mono, request, binding.hops()) {
                Ok(txn) => drop(self.by_client.insert(txn, Purpose::Ping(binding.id()))),
                // Too much to do, or no way there: counts as no answer.
                Err(_) => self.ping_missed(now, binding.id()),
            }
        }
    }

    /// RFC 3261 §11: any answer shows that somebody is there.
    pub(super) fn pinged(&mut self, now: Now, txn: ClientTxn, id: u64, response: &Response) {
        if !response.status.is_final() {
            return;
        }
        self.by_client.remove(&txn);
        // A proxy answers these for a device that it cannot reach (RFC 5626 §5.3.2).
        let unreached = [
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::FLOW_FAILED,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if unreached.contains(&response.status) {
            self.ping_missed(now, id);
        } else {
            self.registrar.ping_answered(now.mono, id);
        }
    }

    pub(super) fn ping_missed(&mut self, now: Now, id: u64) {
        self.counters.keepalives_missed += 1;
        let mut records = Vec::new();
        let user = self.registrar.ping_missed(now.mono, id, &mut records);
        self.record_all(now, records);
        if let Some(user) = user {
            self.presence_changed(now, &user);
        }
    }

    fn ping(&mut self, binding: &Binding) -> Request {
        let mut request = Request::new(Method::Options, &binding.uri);
        let domain = self.config.domains.first().cloned().unwrap_or_default();
        let own = Host::parse(domain.into()).map(|host| Uri::sip(None, &host, None));
        let own = NameAddr::new(own.unwrap_or_else(|| binding.uri.clone()));
        let headers = &mut request.headers;
        headers.push_value(HeaderName::From, &own);
        headers.push_value(HeaderName::To, &NameAddr::new(binding.uri.clone()));
        for hop in &binding.path {
            headers.push_value(HeaderName::Route, hop);
        }
        request
    }
}
