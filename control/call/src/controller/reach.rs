//! Whether somebody can be reached: names of next hops, connections that go, keepalives, and sources that guess.

use sip::{
    header::NameAddr,
    message::{HeaderName, Method, Request, Response, StatusCode},
    stack::{ClientTxn, Flow, LookupId, Target, Transport},
    uri::{Host, Uri},
};

use super::{Controller, Now, Output, Purpose};
use crate::registrar::Binding;

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
        if let Some(flow) = self.wrong_passwords.pop_front() {
            return Some(Output::WrongPassword(flow));
        }
        if let Some(target) = self.stack.poll_failed_target() {
            return Some(Output::Unreachable(target));
        }
        self.stack.poll_lookup().map(Output::Lookup)
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
