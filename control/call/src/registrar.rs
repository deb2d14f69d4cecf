//! Accounts, digest authentication, and where users' devices are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sip::{
    auth::{AttemptError, DigestServer, Ha1, HashKind, NonceKey, ServerConfig, Verification},
    header::{Contact, NameAddr},
    message::{HeaderName, Request, Response, StatusCode},
    stack::{Flow, Target, Transport},
    uri::Uri,
};

use crate::{
    config::{Account, Config, ConfigError, Registration},
    controller::{Now, unix_us},
    domain::Name,
    journal::RecordKind,
    limits,
    routing::Routing,
};

/// A registered device.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    id: u64,
    /// Its Contact: the Request-URI of what is sent to it.
    pub(crate) uri: Uri,
    instance: Option<(Bytes, Option<u32>)>,
    call_id: Bytes,
    cseq: u32,
    pub(crate) expires: Instant,
    /// Route values for what is sent to it (RFC 3327).
    pub(crate) path: Vec<NameAddr>,
    pub(crate) flow: Flow,
    /// User-Agent.
    pub(crate) agent: String,
}

impl Binding {
    /// A target of a trunk, which is called as a device is.
    pub(crate) fn of_trunk(now: Instant, uri: Uri, transport: Transport, remote: SocketAddr) -> Self {
        let any = if remote.is_ipv4() {
            IpAddr::from([0; 4])
        } else {
            IpAddr::from([0; 16])
        };
        Self {
            uri,
            flow: Flow {
                transport,
                local: SocketAddr::new(any, 0),
                remote,
                id: sip::stack::FlowId(0),
            },
            id: 0,
            instance: None,
            call_id: Bytes::new(),
            cseq: 0,
            expires: now,
            path: Vec::new(),
            agent: String::new(),
        }
    }

    /// Where its requests go, first choice first.
    pub(crate) fn targets(&self) -> Vec<Target> {
        if let Some(first) = self.path.first() {
            return vec![address_of(&first.uri).unwrap_or(Target::Flow(self.flow))];
        }
        // A connection, or the source address (RFC 3581 §4), is the only way back behind a NAT. Without one the phone
        // is also where it says (RFC 3261 §18.1.1): it may have closed the connection it registered over.
        let flow = Target::Flow(self.flow);
        let reached = address_of(&self.uri).filter(|target| target.remote().ip() == self.flow.remote.ip());
        match (self.flow.transport, reached) {
            (Transport::Udp, Some(target)) => vec![target],
            (Transport::Tcp, Some(target)) if target.transport() == Transport::Tcp => vec![flow, target],
            _ => vec![flow],
        }
    }

    /// Whom its requests reach first: the phone, or the proxy before it.
    pub(crate) fn peer(&self) -> IpAddr {
        let via = self.path.first().and_then(|first| address_of(&first.uri));
        via.map_or(self.flow.remote.ip(), |target| target.remote().ip())
    }
}

pub(crate) fn address_of(uri: &Uri) -> Option<Target> {
    let ip = uri.host()?.as_ip()?;
    let named = uri.transport().and_then(|name| Transport::from_bytes(&name));
    let transport = named.unwrap_or(Transport::Udp);
    let port = uri.port().unwrap_or(transport.default_port());
    Some(Target::address(transport, SocketAddr::new(ip, port)))
}

#[derive(Debug)]
struct StoredAccount {
    md5: Ha1,
    sha256: Ha1,
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
    deadlines: BTreeSet<(Instant, Name, u64)>,
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
            devices_max: 1,
            codecs: Vec::new(),
        };
        Ok(Self {
            digest: DigestServer::new(digest, NonceKey(nonce_key), unix_us(now.wall)),
            accounts,
            nobody: store(&nobody, realm)?,
            bounds: config.registration,
            bindings: BTreeMap::new(),
            deadlines: BTreeSet::new(),
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

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Name, &Binding)> {
        self.bindings
            .iter()
            .flat_map(|(user, bindings)| bindings.iter().map(move |binding| (user, binding)))
    }

    /// Who sent a request, or the response that asks for proof or refuses it. The flag says that a wrong password was
    /// given.
    pub(crate) fn authenticate(&mut self, now: Now, request: &Request) -> Result<Name, (Response, bool)> {
        let wall = unix_us(now.wall) / 1_000_000;
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
            Err(_) => return Err((self.challenge(wall, false), false)),
        };
        let user = std::str::from_utf8(&attempt.username).ok();
        let found = user.and_then(|user| self.accounts.get_key_value(user));
        let account = found.map_or(&self.nobody, |(_, account)| account);
        let ha1 = match attempt.hash {
            HashKind::Md5 => &account.md5,
            HashKind::Sha256 | HashKind::Sha512_256 => &account.sha256,
        };
        let verified = self.digest.verify(wall, request, &attempt, ha1);
        match (found.map(|(name, _)| name.clone()), verified) {
            (Some(user), Verification::Accepted) => Ok(user),
            (Some(_), Verification::Stale) => Err((self.challenge(wall, true), false)),
            (None, _) | (Some(_), Verification::Rejected) => Err((self.challenge(wall, false), true)),
        }
    }

    fn challenge(&mut self, wall: u64, stale: bool) -> Response {
        let mut response = Response::new(StatusCode::UNAUTHORIZED);
        for challenge in self.digest.challenges(wall, stale) {
            response
                .headers
                .push_value(HeaderName::WwwAuthenticate, &challenge);
        }
        response
    }

    /// A REGISTER of an authenticated user (RFC 3261 §10.3).
    pub(crate) fn register(
        &mut self,
        now: Now,
        user: &Name,
        request: &Request,
        flow: Flow,
        routing: &Routing,
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
        let wanted = match self.read_contacts(request, &contacts) {
            Ok(wanted) => wanted,
            Err(response) => {
                return Registered {
                    response,
                    ..refuse(StatusCode::BAD_REQUEST)
                };
            }
        };
        let mut records = Vec::new();
        match wanted {
            Wanted::Nothing => {}
            Wanted::RemoveAll => self.remove_where(user, &mut records, |_| true),
            Wanted::Put(wanted) => {
                if self.is_out_of_order(user, request, &wanted) {
                    return refuse(StatusCode::SERVER_INTERNAL_ERROR);
                }
                self.put(now, user, request, flow, wanted, &mut records);
            }
        }
        Registered {
            response: self.accepted(now, user, request),
            records,
            user: Some(user.clone()),
        }
    }

    fn read_contacts(&self, request: &Request, contacts: &[Contact]) -> Result<Wanted, Response> {
        let bad = || Response::new(StatusCode::BAD_REQUEST);
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

    /// RFC 3261 §10.3 step 7: a request that was overtaken by a later one of the same device changes nothing.
    fn is_out_of_order(&self, user: &str, request: &Request, wanted: &[(NameAddr, u32)]) -> bool {
        let (Ok(call_id), Ok(cseq)) = (request.headers.call_id(), request.headers.cseq()) else {
            return true;
        };
        let overtaken = |binding: &Binding| binding.call_id == call_id && binding.cseq >= cseq.number;
        let concerned = |binding: &&Binding| wanted.iter().any(|(address, _)| is_same(binding, address));
        self.bindings(user).iter().filter(concerned).any(overtaken)
    }

    fn put(
        &mut self,
        now: Now,
        user: &Name,
        request: &Request,
        flow: Flow,
        wanted: Vec<(NameAddr, u32)>,
        records: &mut Vec<RecordKind>,
    ) {
        let path = request.headers.paths().unwrap_or_default();
        let text = |name| String::from_utf8_lossy(request.headers.get(name).unwrap_or_default()).into_owned();
        for (address, seconds) in wanted {
            if seconds == 0 {
                self.remove_where(user, records, |binding| is_same(binding, &address));
                continue;
            }
            self.drop_quietly(user, |binding| is_same(binding, &address));
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
            self.last_id += 1;
            let expires = now.mono + Duration::from_secs(seconds.into());
            records.push(RecordKind::Registered {
                user: user.to_string(),
                contact: String::from_utf8_lossy(address.uri.as_bytes()).into_owned(),
                path: path
                    .iter()
                    .map(|hop| String::from_utf8_lossy(hop.uri.as_bytes()).into_owned())
                    .collect(),
                source: source_of(flow),
                expires_unix_us: unix_us(now.wall) + u64::from(seconds) * 1_000_000,
            });
            self.deadlines.insert((expires, user.clone(), self.last_id));
            let binding = Binding {
                id: self.last_id,
                instance: instance_of(&address),
                uri: address.uri.without_headers(),
                call_id: request.headers.call_id().unwrap_or_default(),
                cseq: request.headers.cseq().map_or(0, |cseq| cseq.number),
                expires,
                path: path.clone(),
                flow,
                agent: text(HeaderName::UserAgent),
            };
            self.bindings.entry(user.clone()).or_default().push(binding);
        }
    }

    fn accepted(&self, now: Now, user: &str, request: &Request) -> Response {
        let mut response = Response::new(StatusCode::OK);
        for binding in self.bindings(user) {
            let left = binding.expires.saturating_duration_since(now.mono).as_secs();
            let mut contact = NameAddr::new(binding.uri.clone());
            contact.params.set("expires", Some(left.to_string().as_bytes()));
            response.headers.push_value(HeaderName::Contact, &contact);
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
        }
        removed
    }

    fn remove_where(&mut self, user: &Name, records: &mut Vec<RecordKind>, gone: impl Fn(&Binding) -> bool) {
        for binding in self.drop_quietly(user, gone) {
            records.push(unregistered(user, &binding, false));
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, ..)| *at)
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
        expired,
    }
}

/// Transport and address, for people.
pub(crate) fn source_of(flow: Flow) -> String {
    format!("{}:{}", flow.transport.uri_token(), flow.remote)
}

/// RFC 5626 §6: a device that names its instance is the same one wherever it is.
fn instance_of(address: &NameAddr) -> Option<(Bytes, Option<u32>)> {
    let instance = address.instance()?;
    Some((Bytes::copy_from_slice(&instance), address.reg_id()))
}

fn is_same(binding: &Binding, address: &NameAddr) -> bool {
    let instance = instance_of(address);
    (instance.is_some() && binding.instance == instance) || binding.uri.matches(&address.uri)
}

fn store(account: &Account, realm: &str) -> Result<StoredAccount, ConfigError> {
    let hash = |kind, given: &Option<String>, key: &str| match (given, &account.password) {
        (Some(hex), _) => Ha1::from_hex(kind, hex).ok_or_else(|| ConfigError::Invalid {
            key: format!("accounts.{}.{key}", account.user),
            value: hex.clone(),
            problem: "is not a hexadecimal hash of the right length",
            remedy: "give the hash of user:realm:password",
        }),
        (None, password) => {
            let password = password.as_deref().unwrap_or_default();
            Ok(Ha1::from_password(
                kind,
                account.user.as_bytes(),
                realm.as_bytes(),
                password.as_bytes(),
            ))
        }
    };
    Ok(StoredAccount {
        md5: hash(HashKind::Md5, &account.ha1_md5, "ha1_md5")?,
        sha256: hash(HashKind::Sha256, &account.ha1_sha256, "ha1_sha256")?,
        devices_max: account.devices_max,
    })
}
