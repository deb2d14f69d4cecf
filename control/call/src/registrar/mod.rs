//! Accounts, digest authentication, and where users' devices are.

mod binding;
mod gruu;
mod keepalive;
mod reconfigure;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sip::{
    auth::{Algorithm, AttemptError, DigestServer, Ha1, HashKind, NonceKey, ServerConfig, Verification},
    header::{Contact, NameAddr},
    message::{HeaderName, Request, Response, StatusCode},
    stack::{Flow, FlowId, Transport},
};

use crate::{
    config::{Account, Config, ConfigError, Registration},
    controller::{Now, unix_us},
    domain::Name,
    journal::RecordKind,
    limits,
    routing::Routing,
};
pub(crate) use binding::{Binding, address_of, source_of};
use binding::{Identity, PREFERENCE_MAX};
use gruu::TempGruus;

#[derive(Debug)]
pub(crate) struct StoredAccount {
    md5: Ha1,
    sha256: Ha1,
    sha512_256: Ha1,
    /// Offered to its phones; empty: all.
    algorithms: Vec<Algorithm>,
    devices_max: usize,
}

/// What became of a REGISTER.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) response: Response,
    pub(crate) records: Vec<RecordKind>,
    /// The user whose bindings may have changed.
    pub(crate) user: Option<Name>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Registrar {
    digest: DigestServer,
    accounts: BTreeMap<Name, StoredAccount>,
    /// Stands in for accounts that do not exist, so that the time taken tells nothing.
    nobody: StoredAccount,
    bounds: Registration,
    bindings: BTreeMap<Name, Vec<Binding>>,
    /// The device behind each temporary address, by its user part (RFC 5627).
    temporary: BTreeMap<String, (Name, Bytes)>,
    /// When this began: the age of nonces is told by the clock that nobody sets.
    began: Now,
    /// Of the addresses that devices are given.
    domain: String,
    deadlines: BTreeSet<(Instant, Name, u64)>,
    /// Users whose registrations came over a connection.
    by_connection: BTreeSet<(FlowId, Name)>,
    /// Who is asked next whether it is still there.
    pings: BTreeSet<(Instant, Name, u64)>,
    /// Whose answer is awaited.
    pinged: BTreeMap<u64, Name>,
    last_id: u64,
}

impl Registrar {
    pub(crate) fn new(
        config: &Config,
        now: Now,
        nonce_key: [u8; 32],
        random: &str,
    ) -> Result<Self, ConfigError> {
        let realm = config.realm();
        let digest = ServerConfig {
            algorithms: config.digest_algorithms(),
            require_same_uri: !config.digest_any_uri,
            ..ServerConfig::new(realm)
        };
        let mut accounts = BTreeMap::new();
        for account in &config.accounts {
            accounts.insert(account.user.as_str().into(), store(account, realm)?);
        }
        let nobody = Account {
            user: random.to_owned(),
            password: Some(random.to_owned()),
            ha1_md5: None,
            ha1_sha256: None,
            ha1_sha512_256: None,
            digest: Vec::new(),
            devices_max: 1,
            codecs: Vec::new(),
            srtp: None,
        };
        Ok(Self {
            digest: DigestServer::new(digest, NonceKey(nonce_key), unix_us(now.wall)),
            accounts,
            nobody: store(&nobody, realm)?,
            bounds: config.registration,
            bindings: BTreeMap::new(),
            temporary: BTreeMap::new(),
            began: now,
            domain: config.domains.first().cloned().unwrap_or_default(),
            deadlines: BTreeSet::new(),
            by_connection: BTreeSet::new(),
            pings: BTreeSet::new(),
            pinged: BTreeMap::new(),
            last_id: 0,
        })
    }

    /// The account of this name.
    pub(crate) fn account(&self, user: &str) -> Option<Name> {
        self.accounts.get_key_value(user).map(|(name, _)| name.clone())
    }

    pub(crate) fn bindings(&self, user: &str) -> &[Binding] {
        self.bindings.get(user).map_or(&[], Vec::as_slice)
    }

    /// One of the user's phones registered over this flow, which is there.
    pub(crate) fn is_reached_over(&self, user: &str, flow: Flow) -> bool {
        let mut bindings = self.bindings(user).iter();
        bindings.any(|binding| binding.flow == flow && binding.has_flow)
    }

    /// What rings when a user is called: each device by its newest flow, its other flows behind it (RFC 5626 §5.3).
    pub(crate) fn devices(&self, user: &str) -> Vec<Binding> {
        let mut devices: Vec<Binding> = Vec::new();
        for binding in self.bindings(user).iter().rev() {
            let same =
                |device: &&mut Binding| binding.reg_id.is_some() && device.instance == binding.instance;
            match devices.iter_mut().find(same) {
                // Another proxy needs another Route, which one request cannot have: such a flow takes over once
                // this one is known to have failed.
                Some(device) if device.path == binding.path => device.others.extend(binding.own_hops()),
                Some(_) => {}
                None => devices.push(binding.clone()),
            }
        }
        devices.reverse();
        devices.sort_by_key(|device| std::cmp::Reverse(device.preference));
        devices
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Name, &Binding)> {
        self.bindings
            .iter()
            .flat_map(|(user, bindings)| bindings.iter().map(move |binding| (user, binding)))
    }

    /// Who sent a request, or the response that asks for proof or refuses it. The flag says that a wrong password was
    /// given.
    pub(crate) fn authenticate(&mut self, now: Now, request: &Request) -> Result<Name, (Response, bool)> {
        let passed = now.mono.saturating_duration_since(self.began.mono);
        let wall = unix_us(self.began.wall + passed) / 1_000_000;
        let Ok(credentials) = request.headers.authorization() else {
            return Err((Response::new(StatusCode::BAD_REQUEST), false));
        };
        let attempt = match self.digest.read_attempt(&credentials) {
            Ok(attempt) => attempt,
            Err(AttemptError::Parameter(name)) => {
                let mut response = Response::new(StatusCode::BAD_REQUEST);
                response.set_reason(&format!("Bad or missing {name} in Authorization"));
                return Err((response, false));
            }
            Err(_) => return Err((self.challenge(wall, false, request), false)),
        };
        let user = std::str::from_utf8(&attempt.username).ok();
        let found = user.and_then(|user| self.accounts.get_key_value(user));
        let account = found.map_or(&self.nobody, |(_, account)| account);
        let ha1 = match attempt.hash {
            HashKind::Md5 => &account.md5,
            HashKind::Sha256 => &account.sha256,
            HashKind::Sha512_256 => &account.sha512_256,
        };
        let verified = self.digest.verify(wall, request, &attempt, ha1);
        match (found.map(|(name, _)| name.clone()), verified) {
            (Some(user), Verification::Accepted) => Ok(user),
            (Some(_), Verification::Stale) => Err((self.challenge(wall, true, request), false)),
            (Some(_), Verification::OtherUri) => {
                let mut response = Response::new(StatusCode::BAD_REQUEST);
                response.set_reason("Authorization is for another URI");
                Err((response, false))
            }
            (None, _) | (Some(_), Verification::Rejected) => {
                Err((self.challenge(wall, false, request), true))
            }
        }
    }

    /// By the algorithms that are for the account it says it is of.
    fn challenge(&mut self, wall: u64, stale: bool, request: &Request) -> Response {
        let mut response = Response::new(StatusCode::UNAUTHORIZED);
        let from = request.headers.from().ok();
        let user = from.and_then(|from| from.uri.user_unescaped().map(|user| user.into_owned()));
        let user = user.and_then(|user| String::from_utf8(user).ok());
        let account = user.and_then(|user| self.accounts.get(user.as_str()));
        let challenges = match account.filter(|account| !account.algorithms.is_empty()) {
            Some(account) => self.digest.challenges_by(wall, stale, &account.algorithms),
            None => self.digest.challenges(wall, stale),
        };
        for challenge in challenges {
            response
                .headers
                .push_value(HeaderName::WwwAuthenticate, &challenge);
        }
        response
    }

    /// A REGISTER of an authenticated user (RFC 3261 §10.3). `random` is a secret of its own.
    pub(crate) fn register(
        &mut self,
        now: Now,
        user: &Name,
        request: &Request,
        flow: Flow,
        (routing, random): (&Routing, String),
    ) -> Registered {
        let refuse = |status| Registered {
            response: Response::new(status),
            records: Vec::new(),
            user: None,
        };
        let headers = &request.headers;
        let (Ok(uri), Ok(to), Ok(contacts)) = (request.uri(), headers.to(), headers.contacts()) else {
            return refuse(StatusCode::BAD_REQUEST);
        };
        if !routing.is_ours(&uri) || !routing.is_ours(&to.uri) {
            return refuse(StatusCode::NOT_FOUND);
        }
        if to
            .uri
            .user_unescaped()
            .is_none_or(|name| *name != *user.as_bytes())
        {
            return refuse(StatusCode::FORBIDDEN);
        }
        let wanted = match self.read_contacts(request, &contacts, routing) {
            Ok(wanted) => wanted,
            Err(response) => {
                return Registered {
                    response,
                    ..refuse(StatusCode::BAD_REQUEST)
                };
            }
        };
        let outbound = uses_flows(request, &contacts);
        if outbound && !first_hop_keeps_flows(request) {
            return refuse(StatusCode::FIRST_HOP_LACKS_OUTBOUND_SUPPORT);
        }
        match self.change(now, user, request, (flow, random, outbound), wanted) {
            Ok(records) => Registered {
                response: self.accepted(now, user, request, outbound),
                records,
                user: Some(user.clone()),
            },
            Err(status) => refuse(status),
        }
    }

    /// Carries out what the Contacts ask for: all of it, or nothing.
    fn change(
        &mut self,
        now: Now,
        user: &Name,
        request: &Request,
        (flow, random, outbound): (Flow, String, bool),
        wanted: Wanted,
    ) -> Result<Vec<RecordKind>, StatusCode> {
        let overtaken = StatusCode::SERVER_INTERNAL_ERROR;
        let mut records = Vec::new();
        match wanted {
            Wanted::Nothing => {}
            Wanted::RemoveAll => {
                if self.is_out_of_order(user, request, |_| true) {
                    return Err(overtaken);
                }
                self.remove_where(user, &mut records, |_| true);
            }
            Wanted::Put(wanted) => {
                let contact =
                    |(address, seconds): (NameAddr, u32)| (Identity::of(&address, outbound), seconds);
                let wanted: Vec<_> = wanted.into_iter().map(contact).collect();
                // RFC 5626 §6: a flow has one Contact.
                let flows = wanted.iter().filter(|(contact, _)| contact.reg_id.is_some());
                if flows.count() > 1 {
                    return Err(StatusCode::BAD_REQUEST);
                }
                let concerned =
                    |binding: &Binding| wanted.iter().any(|(contact, _)| binding.is_same(contact));
                if self.is_out_of_order(user, request, concerned) {
                    return Err(overtaken);
                }
                self.put(now, user, request, (flow, random), wanted, &mut records);
            }
        }
        Ok(records)
    }

    fn read_contacts(
        &self,
        request: &Request,
        contacts: &[Contact],
        routing: &Routing,
    ) -> Result<Wanted, Response> {
        let bad = || Response::new(StatusCode::BAD_REQUEST);
        let mut addresses = contacts.iter().filter_map(Contact::address);
        if addresses.any(|address| leads_here(address, routing)) {
            return Err(Response::new(StatusCode::FORBIDDEN));
        }
        let headers = &request.headers;
        let asked = headers.expires().map_err(|_| bad())?;
        if contacts.iter().any(|contact| matches!(contact, Contact::Star)) {
            // RFC 3261 §10.3 step 6.
            return if contacts.len() == 1 && asked == Some(0) {
                Ok(Wanted::RemoveAll)
            } else {
                Err(bad())
            };
        }
        let paths = headers.paths().map_err(|_| bad())?;
        if paths.len() > limits::PATH_COUNT_MAX || contacts.len() > limits::BINDINGS_PER_USER_MAX {
            return Err(bad());
        }
        let mut wanted = Vec::with_capacity(contacts.len());
        for address in contacts.iter().filter_map(Contact::address) {
            let expires = address
                .expires()
                .or(asked)
                .unwrap_or(self.bounds.expires_default_s);
            if expires > 0 && expires < self.bounds.expires_min_s {
                let mut response = Response::new(StatusCode::INTERVAL_TOO_BRIEF);
                let least = self.bounds.expires_min_s.to_string();
                let _digits = response.headers.set(HeaderName::MinExpires, least);
                return Err(response);
            }
            if address.uri.as_bytes().len() > limits::CONTACT_BYTES_MAX || !address.uri.is_sip() {
                return Err(bad());
            }
            wanted.push((address.clone(), expires.min(self.bounds.expires_max_s)));
        }
        if wanted.is_empty() {
            Ok(Wanted::Nothing)
        } else {
            Ok(Wanted::Put(wanted))
        }
    }

    /// RFC 3261 §10.3 steps 6 and 7: a request that was overtaken by a later one of the same device changes nothing.
    fn is_out_of_order(&self, user: &str, request: &Request, concerned: impl Fn(&Binding) -> bool) -> bool {
        let (Ok(call_id), Ok(cseq)) = (request.headers.call_id(), request.headers.cseq()) else {
            return true;
        };
        let overtaken = |binding: &Binding| binding.call_id == call_id && binding.cseq >= cseq.number;
        let mut bindings = self.bindings(user).iter();
        bindings.any(|binding| concerned(binding) && overtaken(binding))
    }

    fn put(
        &mut self,
        now: Now,
        user: &Name,
        request: &Request,
        (flow, random): (Flow, String),
        wanted: Vec<(Identity, u32)>,
        records: &mut Vec<RecordKind>,
    ) {
        let headers = &request.headers;
        let agent = String::from_utf8_lossy(headers.get(HeaderName::UserAgent).unwrap_or_default());
        let path = headers.paths().unwrap_or_default();
        let call_id = headers.call_id().unwrap_or_default();
        let knows_gruu = knows_gruu(request);
        for (contact, seconds) in wanted {
            if seconds == 0 {
                self.remove_where(user, records, |binding| binding.is_same(&contact));
                continue;
            }
            let uri = contact.uri.without_headers();
            let mut gruus = None;
            for replaced in self.drop_quietly(user, |binding| binding.is_same(&contact)) {
                // RFC 5627 §5.1: those of another Call-ID are good no more.
                if replaced.instance == contact.instance && replaced.call_id == call_id {
                    gruus.clone_from(&replaced.gruus);
                }
                // A record of the same Contact, as it is written, and flow takes the old one's place by itself.
                if replaced.uri.as_bytes() != uri.as_bytes() || replaced.reg_id != contact.reg_id {
                    records.push(unregistered(user, &replaced, false));
                }
            }
            let most = self.accounts.get(user).map_or(1, |account| account.devices_max);
            // The device that was heard longest ago makes room: most likely it is this one before it restarted.
            while self.bindings(user).len() >= most {
                let oldest = self
                    .bindings(user)
                    .iter()
                    .min_by_key(|binding| binding.expires)
                    .map(|binding| binding.id);
                self.remove_where(user, records, |binding| Some(binding.id) == oldest);
            }
            if knows_gruu && contact.instance.is_some() {
                gruus.get_or_insert_with(|| TempGruus::new(random.clone())).count += 1;
            }
            let binding = Binding {
                id: 0,
                uri,
                instance: contact.instance,
                reg_id: contact.reg_id,
                preference: contact.preference,
                gruus,
                call_id: call_id.clone(),
                cseq: headers.cseq().map_or(0, |cseq| cseq.number),
                expires: now.mono + Duration::from_secs(seconds.into()),
                path: path.clone(),
                flow,
                has_flow: true,
                agent: agent.clone().into_owned(),
                missed: 0,
                others: Vec::new(),
            };
            records.push(binding.record(user, now));
            self.insert(now, user, binding);
        }
    }

    fn insert(&mut self, now: Now, user: &Name, mut binding: Binding) {
        self.last_id += 1;
        binding.id = self.last_id;
        self.deadlines.insert((binding.expires, user.clone(), binding.id));
        if binding.has_flow && binding.flow.transport != Transport::Udp {
            self.by_connection.insert((binding.flow.id, user.clone()));
        }
        self.plan_ping(now.mono, user, &binding);
        if let (Some(gruus), Some(instance)) = (&binding.gruus, &binding.instance) {
            let device = (user.clone(), instance.clone());
            self.temporary
                .extend(gruus.users().map(|user| (user, device.clone())));
        }
        self.bindings.entry(user.clone()).or_default().push(binding);
    }

    /// A device that was registered before this process began. Gives its user; `None` when it is registered no more, or
    /// cannot be reached now.
    pub(crate) fn restore(&mut self, now: Now, at_unix_us: u64, kind: &RecordKind) -> Option<Name> {
        let (user, binding) = Binding::of_record(at_unix_us, kind, now)?;
        let account = self.accounts.get(&user)?;
        if self.bindings(&user).len() >= account.devices_max || binding.own_hops().is_empty() {
            return None;
        }
        self.insert(now, &user, binding);
        Some(user)
    }

    /// A connection is gone. Devices that only it led to are registered no more: their next flow, if they have one,
    /// takes over. Gives the users who lost one.
    pub(crate) fn connection_gone(&mut self, flow: Flow, records: &mut Vec<RecordKind>) -> Vec<Name> {
        let first = (flow.id, Name::from(""));
        let of_flow = self
            .by_connection
            .range(first..)
            .take_while(|(id, _)| *id == flow.id);
        let users: Vec<Name> = of_flow.map(|(_, user)| user.clone()).collect();
        for user in &users {
            self.by_connection.remove(&(flow.id, user.clone()));
            for binding in self.bindings.get_mut(user).into_iter().flatten() {
                binding.has_flow &= binding.flow.id != flow.id || binding.flow.transport == Transport::Udp;
            }
            for binding in self.drop_quietly(user, |binding| binding.own_hops().is_empty()) {
                records.push(unregistered(user, &binding, true));
            }
        }
        users
    }

    fn accepted(&self, now: Now, user: &str, request: &Request, outbound: bool) -> Response {
        let mut response = Response::new(StatusCode::OK);
        let gives_gruus = knows_gruu(request);
        for binding in self.bindings(user) {
            let left = binding.expires.saturating_duration_since(now.mono).as_secs();
            let mut contact = NameAddr::new(binding.uri.clone());
            if let Some(instance) = &binding.instance {
                let quoted = [b"\"", &instance[..], b"\""].concat();
                contact.params.set("+sip.instance", Some(&quoted));
            }
            if let Some((public, temporary)) = self.gruus_of(user, binding).filter(|_| gives_gruus) {
                let quoted = |uri: &str| format!("\"{uri}\"");
                contact.params.set("pub-gruu", Some(quoted(&public).as_bytes()));
                if let Some(temporary) = temporary {
                    contact
                        .params
                        .set("temp-gruu", Some(quoted(&temporary).as_bytes()));
                }
            }
            if let Some(reg_id) = binding.reg_id {
                contact.params.set("reg-id", Some(reg_id.to_string().as_bytes()));
            }
            if binding.preference != PREFERENCE_MAX {
                let q = f32::from(binding.preference) / f32::from(PREFERENCE_MAX);
                contact.params.set("q", Some(q.to_string().as_bytes()));
            }
            contact.params.set("expires", Some(left.to_string().as_bytes()));
            response.headers.push_value(HeaderName::Contact, &contact);
        }
        if outbound {
            // RFC 5626 §6: so that the phone knows that its flows are kept apart; §4.4: and how often to show life.
            let _token = response.headers.set(HeaderName::Require, "outbound");
            if self.bounds.flow_timer_s > 0 {
                let seconds = self.bounds.flow_timer_s.to_string();
                let _digits = response.headers.set(HeaderName::FlowTimer, seconds);
            }
        }
        // RFC 3327 §5.3.
        for hop in request.headers.paths().unwrap_or_default() {
            response.headers.push_value(HeaderName::Path, &hop);
        }
        let seconds = i64::try_from(unix_us(now.wall) / 1_000_000).unwrap_or_default();
        let _date = response
            .headers
            .set(HeaderName::Date, sip::header::format_date(seconds));
        response
    }

    fn drop_quietly(&mut self, user: &Name, gone: impl Fn(&Binding) -> bool) -> Vec<Binding> {
        let Some(bindings) = self.bindings.get_mut(user) else {
            return Vec::new();
        };
        let removed: Vec<Binding> = bindings.extract_if(.., |binding| gone(binding)).collect();
        if bindings.is_empty() {
            self.bindings.remove(user);
        }
        for binding in &removed {
            self.deadlines
                .remove(&(binding.expires, user.clone(), binding.id));
            self.pinged.remove(&binding.id);
            for user in binding.gruus.iter().flat_map(TempGruus::users) {
                self.temporary.remove(&user);
            }
        }
        removed
    }

    fn remove_where(&mut self, user: &Name, records: &mut Vec<RecordKind>, gone: impl Fn(&Binding) -> bool) {
        for binding in self.drop_quietly(user, gone) {
            records.push(unregistered(user, &binding, false));
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let next = [self.deadlines.first(), self.pings.first()];
        next.into_iter().flatten().map(|(at, ..)| *at).min()
    }

    /// Drops bindings that were not refreshed; gives the users that lost one.
    pub(crate) fn handle_timeout(&mut self, now: Instant, records: &mut Vec<RecordKind>) -> Vec<Name> {
        let mut users = Vec::new();
        while let Some((_, user, id)) = self.deadlines.first().filter(|(at, ..)| *at <= now).cloned() {
            for binding in self.drop_quietly(&user, |binding| binding.id == id) {
                records.push(unregistered(&user, &binding, true));
            }
            users.push(user);
        }
        users
    }
}

enum Wanted {
    Nothing,
    RemoveAll,
    Put(Vec<(NameAddr, u32)>),
}

fn unregistered(user: &Name, binding: &Binding, expired: bool) -> RecordKind {
    RecordKind::Unregistered {
        user: user.to_string(),
        contact: String::from_utf8_lossy(binding.uri.as_bytes()).into_owned(),
        reg_id: binding.reg_id,
        expired,
    }
}

/// RFC 5626 §6: a registration with instance and flow number, from a phone that says that it knows outbound flows.
fn uses_flows(request: &Request, contacts: &[Contact]) -> bool {
    let knows = |tags: Result<sip::header::OptionTags, _>| tags.is_ok_and(|tags| tags.contains("outbound"));
    let names_flow = |address: &NameAddr| address.instance().is_some() && address.reg_id().is_some();
    let headers = &request.headers;
    contacts.iter().filter_map(Contact::address).any(names_flow)
        && (knows(headers.supported()) || knows(headers.require()))
}

/// RFC 5627 §5.1: a way to a device cannot be an address that we lead there.
fn leads_here(contact: &NameAddr, routing: &Routing) -> bool {
    contact.uri.params().contains("gr") && routing.is_ours(&contact.uri)
}

/// RFC 5627 §5.2: only who knows such addresses is given any.
fn knows_gruu(request: &Request) -> bool {
    let knows = |tags: Result<sip::header::OptionTags, _>| tags.is_ok_and(|tags| tags.contains("gruu"));
    knows(request.headers.supported()) || knows(request.headers.require())
}

/// RFC 5626 §6: the phone's own connection ends here, or at a proxy that says that it keeps flows.
fn first_hop_keeps_flows(request: &Request) -> bool {
    let headers = &request.headers;
    let is_direct = headers.vias().is_ok_and(|vias| vias.len() == 1);
    let keeps = |hop: &NameAddr| hop.uri.params().contains("ob");
    is_direct || headers.paths().is_ok_and(|path| path.iter().any(keeps))
}

/// What proves a user's password: the hashes that are given, the others made from the password.
///
/// # Errors
/// A hash in the configuration is none.
fn store(account: &Account, realm: &str) -> Result<StoredAccount, ConfigError> {
    let (user, password) = (&account.user, account.password.as_deref().unwrap_or_default());
    let made = |kind| Ha1::from_password(kind, user.as_bytes(), realm.as_bytes(), password.as_bytes());
    let [md5, sha256, sha512_256] = given_hashes(account)?;
    Ok(StoredAccount {
        md5: md5.unwrap_or_else(|| made(HashKind::Md5)),
        sha256: sha256.unwrap_or_else(|| made(HashKind::Sha256)),
        sha512_256: sha512_256.unwrap_or_else(|| made(HashKind::Sha512_256)),
        algorithms: account.digest_algorithms(),
        devices_max: account.devices_max,
    })
}

/// The hashes that the configuration gives in place of a password: by MD5, SHA-256 and SHA-512-256.
///
/// # Errors
/// One of them is none.
pub(crate) fn given_hashes(account: &Account) -> Result<[Option<Ha1>; 3], ConfigError> {
    let read = |kind, given: &Option<String>, key| {
        let Some(hex) = given else { return Ok(None) };
        let hash = Ha1::from_hex(kind, hex).ok_or_else(|| ConfigError::Invalid {
            key: format!("accounts.{}.{key}", account.user),
            value: hex.clone(),
            problem: "is not a hexadecimal hash of the right length",
            remedy: "give the hash of user:realm:password",
        })?;
        Ok(Some(hash))
    };
    Ok([
        read(HashKind::Md5, &account.ha1_md5, "ha1_md5")?,
        read(HashKind::Sha256, &account.ha1_sha256, "ha1_sha256")?,
        read(HashKind::Sha512_256, &account.ha1_sha512_256, "ha1_sha512_256")?,
    ])
}
