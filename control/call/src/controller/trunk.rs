//! Trunks over SIP: registrations that are kept, targets that are asked whether they are there, challenges answered.

use std::{net::IpAddr, time::Duration};

use sip::{
    auth::{ClientSession, Ha1, choose_challenge},
    header::NameAddr,
    message::{HeaderName, Method, Request, Response, StatusCode},
    stack::{ClientTxn, DialogKey, DialogRequest, Hop, StackError, Target, Transport, distance},
    uri::{Host, Uri},
};

use super::{Controller, Due, Now, Purpose};
use crate::{
    config::Listener,
    journal::RecordKind,
    trunk::{Health, Registration, TargetId, TrunkId},
};

/// Unanswered in a row: then it counts as down.
const MISSES_MAX: u32 = 2;
/// First and longest pause after a registration that failed.
const REGISTER_AGAIN_MIN: Duration = Duration::from_secs(5);
const REGISTER_AGAIN_MAX: Duration = Duration::from_secs(300);

impl Controller {
    /// Registers with every trunk that wants it, and asks every target whether it is there.
    pub(super) fn start_trunks(&mut self, now: Now) {
        let mut due = Vec::new();
        for (id, trunk) in self.trunks.iter() {
            if trunk.config.register_s > 0 {
                due.push(Due::Register(id));
            }
            if trunk.config.probe_s > 0 {
                let targets = 0..trunk.targets.len();
                due.extend(targets.map(|target| Due::Probe(TargetId { trunk: id, target })));
            }
        }
        self.deadlines.extend(due.into_iter().map(|due| (now.mono, due)));
    }

    pub(super) fn register_with(&mut self, now: Now, id: TrunkId) {
        if self.is_stopping {
            return;
        }
        let seconds = self.trunks.get(id).config.register_s;
        self.send_register(now, id, seconds);
    }

    /// Ends our registrations, so that nobody sends calls to who is gone.
    pub(super) fn unregister(&mut self, now: Now) {
        let trunks = self.trunks.iter();
        let registered = trunks.filter(|(_, trunk)| trunk.registration == Registration::Registered);
        let registered: Vec<TrunkId> = registered.map(|(id, _)| id).collect();
        for id in registered {
            self.send_register(now, id, 0);
        }
    }

    fn send_register(&mut self, now: Now, id: TrunkId, seconds: u32) {
        let trunk = self.trunks.get_mut(id);
        if trunk.register_call_id.is_empty() {
            trunk.register_call_id = self.stack.random_token();
        }
        trunk.register_cseq += 1;
        let index = trunk.registrar;
        let target = trunk.targets[index].uri.clone();
        let host = host_towards(&trunk.config.domain, &target);
        let own = Uri::sip(Some(&trunk.config.username), &host, None);
        let (call_id, cseq) = (trunk.register_call_id.clone(), trunk.register_cseq);
        let contact = self.contact_towards(&target, &self.trunks.get(id).config.username);
        let mut request = Request::new(Method::Register, &Uri::sip(None, &host, None));
        let headers = &mut request.headers;
        headers.push_value(HeaderName::From, &NameAddr::new(own.clone()));
        headers.push_value(HeaderName::To, &NameAddr::new(own));
        headers.push_value(HeaderName::Contact, &contact);
        for (name, value) in [
            (HeaderName::CallId, call_id),
            (HeaderName::CSeq, format!("{cseq} REGISTER")),
            (HeaderName::Expires, seconds.to_string()),
        ] {
            // None of them holds a line break.
            let _fine = headers.set(name, value);
        }
        self.authenticate_ahead(id, &mut request);
        let sent = self.send_to(now, &target, request);
        match sent {
            Some(Ok(txn)) => drop(self.by_client.insert(txn, Purpose::Registration(id))),
            Some(Err(_)) | None => self.registration_failed(now, id, StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Sends to where a URI leads: an address, or a name that is looked up first. `None`: it leads nowhere.
    fn send_to(&mut self, now: Now, uri: &Uri, request: Request) -> Option<Result<ClientTxn, StackError>> {
        let hop = Hop::of_uri(uri)?;
        Some(self.stack.request_to(now.mono, request, vec![hop]))
    }

    /// A nonce that was good is used until the other side wants another.
    fn authenticate_ahead(&mut self, id: TrunkId, request: &mut Request) {
        if let Some(session) = &mut self.trunks.get_mut(id).session {
            let credentials = session.credentials(request);
            request.headers.set_value(HeaderName::Authorization, &credentials);
        }
    }

    pub(super) fn registration_answered(
        &mut self,
        now: Now,
        id: TrunkId,
        txn: ClientTxn,
        response: &Response,
    ) {
        let status = response.status;
        if !status.is_final() {
            return;
        }
        self.by_client.remove(&txn);
        if let Some(again) = self.answer_challenge(now, id, txn, response) {
            self.by_client.insert(again, Purpose::Registration(id));
            return;
        }
        let least = response.headers.get(HeaderName::MinExpires);
        let least = least.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse::<u32>().ok());
        if let (StatusCode::INTERVAL_TOO_BRIEF, Some(least)) = (status, least) {
            let trunk = self.trunks.get_mut(id);
            if least > trunk.config.register_s {
                trunk.config.register_s = least;
                self.deadlines.insert((now.mono, Due::Register(id)));
                return;
            }
        }
        if self.is_stopping {
            self.note_registration(now, id, Registration::Off);
            return;
        }
        if !status.is_success() {
            self.registration_failed(now, id, status);
            return;
        }
        let asked = self.trunks.get(id).config.register_s;
        let granted = granted(response).unwrap_or(asked).max(10);
        let trunk = self.trunks.get_mut(id);
        trunk.register_failures = 0;
        let target = TargetId {
            trunk: id,
            target: trunk.registrar,
        };
        self.note_registration(now, id, Registration::Registered);
        self.target_answered(now, target);
        // Early enough for a second try.
        let again = Duration::from_secs(u64::from(granted) * 4 / 5);
        self.deadlines.insert((now.mono + again, Due::Register(id)));
    }

    /// The next target is tried, after a pause that grows.
    pub(super) fn registration_failed(&mut self, now: Now, id: TrunkId, status: StatusCode) {
        if self.is_stopping {
            return;
        }
        let trunk = self.trunks.get_mut(id);
        let (failed, count) = (trunk.registrar, trunk.targets.len());
        trunk.registrar = (failed + 1) % count.max(1);
        trunk.session = None;
        trunk.register_failures += 1;
        let rounds = (trunk.register_failures - 1) / u32::try_from(count.max(1)).unwrap_or(1);
        let is_round_over = trunk.registrar == 0;
        let pause = REGISTER_AGAIN_MIN * 2_u32.saturating_pow(rounds.min(10));
        let pause = pause.min(REGISTER_AGAIN_MAX);
        self.note_registration(now, id, Registration::Refused(status.code()));
        let unreachable = [StatusCode::REQUEST_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
        if unreachable {
            let target = TargetId {
                trunk: id,
                target: failed,
            };
            self.target_missed(now, target);
        }
        let pause = if is_round_over { pause } else { Duration::ZERO };
        self.deadlines.insert((now.mono + pause, Due::Register(id)));
    }

    fn note_registration(&mut self, now: Now, id: TrunkId, next: Registration) {
        let trunk = self.trunks.get_mut(id);
        if trunk.registration == next {
            return;
        }
        trunk.registration = next.clone();
        let record = RecordKind::TrunkRegistration {
            trunk: trunk.name.to_string(),
            status: match next {
                Registration::Registered => 200,
                Registration::Refused(status) => status,
                Registration::Off | Registration::Trying => 0,
            },
        };
        self.record(now, record);
    }

    /// Asks a target whether it is there.
    pub(super) fn probe(&mut self, now: Now, id: TargetId) {
        let trunk = self.trunks.get(id.trunk);
        let again = now.mono + Duration::from_secs(trunk.config.probe_s);
        let uri = trunk.targets[id.target].uri.clone();
        self.deadlines.insert((again, Due::Probe(id)));
        let mut request = Request::new(Method::Options, &uri);
        let own = self.config.domains.first().cloned().unwrap_or_default();
        let own = Host::parse(own.into()).map(|host| Uri::sip(None, &host, None));
        let own = own.unwrap_or_else(|| uri.clone());
        request.headers.push_value(HeaderName::From, &NameAddr::new(own));
        request
            .headers
            .push_value(HeaderName::To, &NameAddr::new(uri.clone()));
        let sent = self.send_to(now, &uri, request);
        match sent {
            Some(Ok(txn)) => drop(self.by_client.insert(txn, Purpose::Probe(id))),
            Some(Err(_)) | None => self.target_missed(now, id),
        }
    }

    pub(super) fn probe_answered(&mut self, now: Now, id: TargetId, txn: ClientTxn, response: &Response) {
        if !response.status.is_final() {
            return;
        }
        self.by_client.remove(&txn);
        // Whatever it says, it is there; but not one that says it cannot.
        if [StatusCode::REQUEST_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status) {
            self.target_missed(now, id);
        } else {
            self.target_answered(now, id);
        }
    }

    /// It is there.
    pub(super) fn target_answered(&mut self, now: Now, id: TargetId) {
        let target = &mut self.trunks.get_mut(id.trunk).targets[id.target];
        target.missed = 0;
        if target.health != Health::Up {
            target.health = Health::Up;
            self.note_health(now, id);
        }
    }

    /// It did not answer.
    pub(super) fn target_missed(&mut self, now: Now, id: TargetId) {
        let trunk = self.trunks.get_mut(id.trunk);
        let target = &mut trunk.targets[id.target];
        target.missed += 1;
        if target.missed >= MISSES_MAX && target.health != Health::Down {
            target.health = Health::Down;
            self.note_health(now, id);
        }
    }

    fn note_health(&mut self, now: Now, id: TargetId) {
        let trunk = self.trunks.get(id.trunk);
        let target = &trunk.targets[id.target];
        let record = RecordKind::TrunkTarget {
            trunk: trunk.name.to_string(),
            target: String::from_utf8_lossy(target.uri.as_bytes()).into_owned(),
            up: target.health == Health::Up,
        };
        self.record(now, record);
    }

    /// Sends a request again with our credentials, when that is what a 401 or 407 asks for and we have them; once, and
    /// once more when only the nonce was old.
    pub(super) fn answer_challenge(
        &mut self,
        now: Now,
        id: TrunkId,
        txn: ClientTxn,
        response: &Response,
    ) -> Option<ClientTxn> {
        let challenges = match response.status {
            StatusCode::UNAUTHORIZED => response.headers.www_authenticate(),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => response.headers.proxy_authenticate(),
            _ => return None,
        };
        let challenge = choose_challenge(&challenges.ok()?)?;
        let cnonce = self.stack.random_token();
        let trunk = self.trunks.get_mut(id);
        let (username, password) = (trunk.config.username.clone(), trunk.config.password.clone());
        // Proved already, and refused.
        let has_tried = self.tried.contains(&txn);
        if username.is_empty() || (has_tried && !challenge.stale) {
            return None;
        }
        let ha1 = Ha1::from_password(
            challenge.hash,
            username.as_bytes(),
            &challenge.realm,
            password.as_bytes(),
        );
        let mut session = ClientSession::new(challenge, &username, ha1, &cnonce)?;
        let again = self
            .stack
            .retry_with_credentials(now.mono, txn, response, &mut session)
            .ok()?;
        self.trunks.get_mut(id).session = Some(session);
        self.tried.insert(again);
        Some(again)
    }

    /// A request of ours in a trunk's dialog was answered by a challenge. True when it went again, with credentials.
    pub(super) fn challenged_within(
        &mut self,
        now: Now,
        txn: ClientTxn,
        response: &Response,
        dialog: Option<DialogKey>,
    ) -> bool {
        let of_dialog = dialog.and_then(|dialog| self.trunk_dialogs.get(&dialog).copied());
        let purpose = self.by_client.get(&txn).copied();
        let trunk = match purpose {
            Some(Purpose::Plain(trunk)) => Some(trunk),
            Some(Purpose::Refresh(..) | Purpose::Alive(_) | Purpose::Branch(_)) => of_dialog,
            Some(Purpose::Registration(_) | Purpose::Probe(_) | Purpose::Ping(_)) => None,
            // A PRACK, which the stack sends by itself.
            None => of_dialog,
        };
        let again = trunk.and_then(|trunk| self.answer_challenge(now, trunk, txn, response));
        let purpose = purpose.or(trunk.map(Purpose::Plain));
        if let (Some(again), Some(purpose)) = (again, purpose) {
            self.by_client.remove(&txn);
            self.by_client.insert(again, purpose);
            if let Purpose::Branch(id) = purpose {
                self.replace_branch(id, txn, again);
            }
            return true;
        }
        false
    }

    /// The dialog is one with a trunk: what asks for a password in it gets it, and the trunk's rules hold.
    pub(super) fn join_trunk(&mut self, dialog: DialogKey, trunk: TrunkId) {
        self.trunk_dialogs.insert(dialog, trunk);
        if self.trunks.get(trunk).config.headers.hides_software() {
            self.stack.leave_unnamed(dialog);
        }
    }

    /// Sends a request in a dialog whose answer is nobody's business; but a trunk may ask for the password first. A dialog
    /// that is gone wants nothing.
    pub(super) fn send_plain(&mut self, now: Now, dialog: DialogKey, request: DialogRequest) {
        if let Ok(txn) = self.stack.dialog_request(now.mono, dialog, request) {
            self.await_challenge(dialog, txn);
        }
    }

    /// What this request is answered with is looked at, should its dialog be a trunk's.
    pub(super) fn await_challenge(&mut self, dialog: DialogKey, txn: ClientTxn) {
        if let Some(trunk) = self.trunk_dialogs.get(&dialog) {
            self.by_client.insert(txn, Purpose::Plain(*trunk));
        }
    }

    /// The socket that a target's transport leads through, and its address as far as that is known. One listener at least is
    /// checked for.
    fn listener_towards(&self, target: &Uri) -> &Listener {
        let (transport, remote) = match Hop::of_uri(target) {
            Some(Hop::Target(target)) => (Some(target.transport()), Some(target.remote().ip())),
            Some(Hop::Name(name)) => (name.transport.or(name.secure.then_some(Transport::Tls)), None),
            None => (None, None),
        };
        let transport = transport.unwrap_or(Transport::Udp);
        let listeners = &self.config.listeners;
        let fitting = listeners
            .iter()
            .filter(|listener| listener.transport == transport);
        let rank = |listener: &&Listener| {
            remote.map(|remote| {
                let local = listener.local.ip();
                (local.is_ipv4() != remote.is_ipv4(), distance(local, remote))
            })
        };
        fitting.min_by_key(rank).unwrap_or(&listeners[0])
    }

    /// An address of the family in which a target is reached, as far as that is known without asking.
    pub(super) fn family_of(&self, way: TargetId) -> IpAddr {
        let target = &self.trunks.get(way.trunk).targets[way.target].uri;
        self.listener_towards(target).advertised().ip()
    }

    /// Our Contact for a trunk: the socket that its transport leads through.
    fn contact_towards(&self, target: &Uri, user: &str) -> NameAddr {
        let listener = self.listener_towards(target);
        let address = listener.advertised();
        let mut uri = Uri::sip(Some(user), &Host::from(address.ip()), Some(address.port()));
        if listener.transport != Transport::Udp {
            uri = uri.with_param("transport", Some(listener.transport.uri_token()));
        }
        NameAddr::new(uri)
    }
}

/// The host part of addresses written towards a trunk.
pub(super) fn host_towards(domain: &str, target: &Uri) -> Host {
    let named = Some(domain).filter(|domain| !domain.is_empty());
    named
        .and_then(|domain| Host::parse(domain.to_owned().into()))
        .or_else(|| target.host().cloned())
        .unwrap_or_else(|| Host::from(std::net::IpAddr::from([127, 0, 0, 1])))
}

/// Where a trunk's URI leads.
pub(super) fn target_of(uri: &Uri) -> Option<Target> {
    crate::registrar::address_of(uri)
}

/// How long a registration was granted for.
fn granted(response: &Response) -> Option<u32> {
    let headers = &response.headers;
    let contacts = headers.contacts().ok()?;
    let of_contact = contacts
        .iter()
        .filter_map(|contact| contact.address()?.expires())
        .max();
    of_contact.or_else(|| headers.expires().ok().flatten())
}
