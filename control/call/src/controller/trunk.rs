//! Trunks over SIP: registrations that are kept, targets that are asked whether they are there, challenges answered.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use sip::{
    auth::{ClientChallenge, ClientSession, Ha1, choose_challenge},
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
/// For how long a target is left alone at most, whatever it asks for.
const REST_MAX: Duration = Duration::from_secs(300);
/// How often a request is sent with credentials: a nonce may have become old in the meantime.
const PROOFS_MAX: u8 = 2;
/// To how many on its way a request proves itself: proxies, and who is called.
const CHALLENGERS_MAX: usize = 3;
/// First and longest pause after a registration that failed.
const REGISTER_AGAIN_MIN: Duration = Duration::from_secs(5);
const REGISTER_AGAIN_MAX: Duration = Duration::from_secs(300);

/// What a request was sent with, and for whom.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    /// Where it stands: for a proxy, or for who is called.
    name: HeaderName,
    session: ClientSession,
    /// How often the request was sent with one for this realm.
    count: u8,
}

impl Proof {
    fn is_for(&self, name: HeaderName, realm: &[u8]) -> bool {
        self.name == name && self.session.challenge().realm == realm
    }
}

impl Controller {
    /// Registers with every trunk that wants it, and asks every target whether it is there.
    pub(super) fn start_trunks(&mut self, now: Now) {
        let all: Vec<TrunkId> = self.trunks.iter().map(|(id, _)| id).collect();
        for id in all {
            self.start_trunk(now, id);
        }
    }

    pub(super) fn start_trunk(&mut self, now: Now, id: TrunkId) {
        if self.trunks.get(id).wants_registration() {
            self.register_at(id, Some(now.mono));
        }
        self.probe_all(id, |_| Some(now.mono));
    }

    /// Registers with a trunk then, and not when it was meant to before.
    pub(super) fn register_at(&mut self, id: TrunkId, at: Option<Instant>) {
        let before = std::mem::replace(&mut self.trunks.get_mut(id).register_at, at);
        if let Some(before) = before {
            self.deadlines.remove(&(before, Due::Register(id)));
        }
        self.deadlines.extend(at.map(|at| (at, Due::Register(id))));
    }

    /// Asks each target then whether it is there: those that are to be asked, of which this says when they were to be.
    pub(super) fn probe_all(&mut self, id: TrunkId, at: impl Fn(Option<Instant>) -> Option<Instant>) {
        let trunk = self.trunks.get(id);
        let asks = trunk.is_open && trunk.config.probe_s > 0;
        let targets: Vec<(usize, Option<Instant>)> = trunk
            .targets
            .iter()
            .map(|target| target.place.and_then(|_| at(target.probe_at)))
            .enumerate()
            .collect();
        for (target, at) in targets {
            self.probe_at(TargetId { trunk: id, target }, at.filter(|_| asks));
        }
    }

    fn probe_at(&mut self, id: TargetId, at: Option<Instant>) {
        let target = &mut self.trunks.get_mut(id.trunk).targets[id.target];
        if let Some(before) = std::mem::replace(&mut target.probe_at, at) {
            self.deadlines.remove(&(before, Due::Probe(id)));
        }
        self.deadlines.extend(at.map(|at| (at, Due::Probe(id))));
    }

    pub(super) fn register_with(&mut self, now: Now, id: TrunkId) {
        let trunk = self.trunks.get_mut(id);
        trunk.register_at = None;
        let seconds = trunk.register_s();
        if !self.is_stopping && trunk.wants_registration() {
            self.send_register(now, id, seconds);
        }
    }

    /// Ends our registrations, so that nobody sends calls to who is gone.
    pub(super) fn unregister(&mut self, now: Now) {
        let trunks = self.trunks.iter();
        let registered = trunks.filter(|(_, trunk)| trunk.registration == Registration::Registered);
        let registered: Vec<TrunkId> = registered.map(|(id, _)| id).collect();
        for id in registered {
            self.end_registration(now, id);
        }
    }

    /// Ends our registration with a trunk, under the name that it was made with.
    pub(super) fn end_registration(&mut self, now: Now, id: TrunkId) {
        let trunk = self.trunks.get_mut(id);
        trunk.former = (trunk.config.username.clone(), trunk.config.password.clone());
        self.send_register(now, id, 0);
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
        let purpose = match seconds {
            0 => Purpose::Farewell(id),
            _ => Purpose::Registration(id),
        };
        match sent {
            Some(Ok(txn)) => drop(self.by_client.insert(txn, purpose)),
            Some(Err(_)) | None if seconds == 0 => self.registration_ended(now, id),
            Some(Err(_)) | None => self.registration_failed(now, id, StatusCode::SERVICE_UNAVAILABLE, None),
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
            // RFC 3261 §10.2.4: it went with the next number.
            self.trunks.get_mut(id).register_cseq += 1;
            self.by_client.insert(again, Purpose::Registration(id));
            return;
        }
        let least = response.headers.get(HeaderName::MinExpires);
        let least = least.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse::<u32>().ok());
        if let (StatusCode::INTERVAL_TOO_BRIEF, Some(least)) = (status, least) {
            let trunk = self.trunks.get_mut(id);
            if least > trunk.register_s() {
                trunk.register_min_s = least;
                self.register_at(id, Some(now.mono));
                return;
            }
        }
        let target = TargetId {
            trunk: id,
            target: self.trunks.get(id).registrar,
        };
        if !status.is_success() {
            self.asked_to_wait(now, target, response);
            self.registration_failed(now, id, status, wait_of(response));
            return;
        }
        if self.is_stopping || !self.trunks.get(id).wants_registration() {
            // It came about when it was not wanted any more.
            self.end_registration(now, id);
            return;
        }
        let asked = self.trunks.get(id).register_s();
        let trunk = self.trunks.get(id);
        let contact = self.contact_towards(&trunk.targets[trunk.registrar].uri, &trunk.config.username);
        let granted = granted(response, &contact.uri).unwrap_or(asked).max(10);
        let trunk = self.trunks.get_mut(id);
        trunk.register_failures = 0;
        self.note_registration(now, id, Registration::Registered);
        self.target_answered(now, target);
        // Early enough for a second try.
        let again = Duration::from_secs(u64::from(granted) * 4 / 5);
        self.register_at(id, Some(now.mono + again));
    }

    /// A registration that was to end has, or nobody says whether it has: it lapses.
    pub(super) fn farewell_answered(&mut self, now: Now, id: TrunkId, txn: ClientTxn, response: &Response) {
        if !response.status.is_final() {
            return;
        }
        let again = self.answer_challenge(now, id, txn, response);
        self.by_client.remove(&txn);
        match again {
            Some(again) => {
                self.trunks.get_mut(id).register_cseq += 1;
                self.by_client.insert(again, Purpose::Farewell(id));
            }
            None => self.registration_ended(now, id),
        }
    }

    pub(super) fn registration_ended(&mut self, now: Now, id: TrunkId) {
        if self.is_stopping || !self.trunks.get(id).wants_registration() {
            self.note_registration(now, id, Registration::Off);
        }
    }

    /// The next target is tried, after a pause that grows; `wait`: for how long the one that failed wants to be left
    /// alone.
    pub(super) fn registration_failed(
        &mut self,
        now: Now,
        id: TrunkId,
        status: StatusCode,
        wait: Option<Duration>,
    ) {
        if self.is_stopping || !self.trunks.get(id).wants_registration() {
            self.note_registration(now, id, Registration::Off);
            return;
        }
        let trunk = self.trunks.get_mut(id);
        let (failed, count) = (trunk.registrar, trunk.open_targets().count());
        let (next, is_round_over) = trunk.next_registrar();
        trunk.registrar = next;
        trunk.session = None;
        trunk.register_failures += 1;
        let rounds = (trunk.register_failures - 1) / u32::try_from(count.max(1)).unwrap_or(1);
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
        let pause = if is_round_over {
            pause.max(wait.unwrap_or_default())
        } else {
            Duration::ZERO
        };
        self.register_at(id, Some(now.mono + pause));
    }

    pub(super) fn note_registration(&mut self, now: Now, id: TrunkId, next: Registration) {
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
        self.probe_at(id, Some(again));
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

    /// RFC 3261 §21.5.4: a target that cannot now may say for how long.
    pub(super) fn asked_to_wait(&mut self, now: Now, id: TargetId, response: &Response) {
        if let Some(wait) = wait_of(response) {
            self.trunks.get_mut(id.trunk).targets[id.target].rests_until = Some(now.mono + wait);
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

    /// Sends a request again with our credentials, when that is what a 401 or 407 asks for and we have them; once for each
    /// realm, and once more when only the nonce was old.
    pub(super) fn answer_challenge(
        &mut self,
        now: Now,
        id: TrunkId,
        txn: ClientTxn,
        response: &Response,
    ) -> Option<ClientTxn> {
        let (name, challenges) = match response.status {
            StatusCode::UNAUTHORIZED => (HeaderName::Authorization, response.headers.www_authenticate()),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => (
                HeaderName::ProxyAuthorization,
                response.headers.proxy_authenticate(),
            ),
            _ => return None,
        };
        let challenges = challenges.ok()?;
        let mut proofs = self.tried.get(&txn).cloned().unwrap_or_default();
        let mut readable = challenges
            .iter()
            .filter_map(|challenge| choose_challenge(std::slice::from_ref(challenge)));
        let challenge = readable.find(|challenge| may_be_proved(&proofs, name, challenge))?;
        let cnonce = self.stack.random_token();
        let is_farewell = self.by_client.get(&txn) == Some(&Purpose::Farewell(id));
        let trunk = self.trunks.get(id);
        let (username, password) = match is_farewell {
            true => trunk.former.clone(),
            false => (trunk.config.username.clone(), trunk.config.password.clone()),
        };
        if username.is_empty() {
            return None;
        }
        let (hash, realm) = (challenge.hash, challenge.realm.clone());
        let ha1 = Ha1::from_password(hash, username.as_bytes(), &realm, password.as_bytes());
        let session = ClientSession::new(challenge, &username, ha1, &cnonce)?;
        match proofs.iter_mut().find(|proof| proof.is_for(name, &realm)) {
            Some(proof) => (proof.session, proof.count) = (session, proof.count + 1),
            None => proofs.push(Proof {
                name,
                session,
                count: 1,
            }),
        }
        let again = self
            .stack
            .retry(now.mono, txn, |request| write_proofs(request, &mut proofs));
        let again = again.ok()?;
        let own = proofs
            .iter()
            .rfind(|proof| proof.name == HeaderName::Authorization);
        if let Some(own) = own.filter(|_| !is_farewell) {
            self.trunks.get_mut(id).session = Some(own.session.clone());
        }
        self.tried.insert(again, proofs);
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
            Some(
                Purpose::Refresh(..)
                | Purpose::Alive(_)
                | Purpose::Branch(_)
                | Purpose::Carried(_)
                | Purpose::Informed(_),
            ) => of_dialog,
            // Each is answered in its own way.
            Some(
                Purpose::Registration(_)
                | Purpose::Farewell(_)
                | Purpose::Probe(_)
                | Purpose::Ping(_)
                | Purpose::Message(_),
            ) => None,
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

/// For how long a 503 asks to be left alone. One that does not say counts as a 500.
fn wait_of(response: &Response) -> Option<Duration> {
    let is_unavailable = response.status == StatusCode::SERVICE_UNAVAILABLE;
    let wait = response.headers.retry_after().ok().flatten();
    let wait = wait.filter(|_| is_unavailable)?;
    Some(Duration::from_secs(wait.seconds.into()).min(REST_MAX))
}

/// Whoever asks has no proof yet, or one with a nonce that was old.
fn may_be_proved(proofs: &[Proof], name: HeaderName, challenge: &ClientChallenge) -> bool {
    match proofs.iter().find(|proof| proof.is_for(name, &challenge.realm)) {
        Some(proof) => challenge.stale && proof.count < PROOFS_MAX,
        None => proofs.len() < CHALLENGERS_MAX,
    }
}

/// RFC 3261 §22.3: those on the way each find their own, told apart by the realm.
fn write_proofs(request: &mut Request, proofs: &mut [Proof]) {
    for proof in proofs.iter() {
        request.headers.remove(proof.name);
    }
    for proof in proofs {
        let credentials = proof.session.credentials(request);
        request.headers.push_value(proof.name, &credentials);
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

/// How long a registration of this Contact was granted for. RFC 3261 §10.2.4: others of the same name are told too. When a
/// hop in between wrote ours anew, it may be any of them.
fn granted(response: &Response, own: &Uri) -> Option<u32> {
    let headers = &response.headers;
    let contacts = headers.contacts().ok()?;
    let addresses = || contacts.iter().filter_map(|contact| contact.address());
    let of_contact = match addresses().find(|address| address.uri.matches(own)) {
        Some(address) => address.expires(),
        None => addresses().filter_map(|address| address.expires()).min(),
    };
    of_contact.or_else(|| headers.expires().ok().flatten())
}
