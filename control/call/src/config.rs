//! What a controller is told: domains, accounts, queues, media hosts and policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;
use sip::{
    auth::{Algorithm, HashKind},
    stack::Transport,
};
use thiserror::Error;

use crate::{
    limits,
    menu::{self, Menu},
    pool::HostId,
    registrar,
    security::{self, Srtp},
    services::{Conferences, Music, Originating, Recording, Transfers},
    trunk::{self, Dialplan, Trunk},
};

/// The settings of a [`Controller`](crate::Controller), as they stand in the file. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Names and addresses that calls and registrations for us are addressed to: the host part of a request. The
    /// first is the one we write. At least one.
    pub domains: Vec<String>,
    /// The realm of digest authentication. Empty (default): the first domain.
    pub realm: String,
    /// Algorithms of digest authentication offered to phones, preferred first: `SHA-512-256`, `SHA-256`, `MD5`. Default: the latter two. Some
    /// older phones read one challenge only, or fail at an algorithm they do not know: for them `MD5` alone.
    pub digest: Vec<String>,
    /// A proof for another address than is asked for is taken too: behind proxies that rewrite the Request-URI, and of phones
    /// that sign something else. Who hears a proof on its way may use it for another number then. Default: it is refused by
    /// 400.
    pub digest_any_uri: bool,
    /// The controller's name towards media hosts; the same across restarts.
    pub controller: String,
    /// An opaque token in our Contact by which a cluster finds a dialog's owner. Empty (default): none.
    pub owner_token: String,
    /// Sockets we are reached at.
    pub listeners: Vec<Listener>,
    /// Who may register, and call.
    pub accounts: Vec<Account>,
    /// Waiting lines. A queue is dialled by its name.
    pub queues: Vec<Queue>,
    /// Questions that lead callers on by the keys they press. A menu is dialled by its name.
    pub menus: Vec<Menu>,
    /// Other networks that calls come from and go to.
    pub trunks: Vec<Trunk>,
    /// What dialled numbers mean.
    pub dialplan: Dialplan,
    /// Addresses whose calls are never challenged: carriers and proxies.
    pub trusted: Vec<IpAddr>,
    /// Callers that do not claim to be one of our accounts may call without a password. Default: no.
    pub allow_anonymous_calls: bool,
    /// Registrations.
    pub registration: Registration,
    /// Media hosts and codecs.
    pub media: Media,
    /// Calls.
    pub calls: Calls,
    /// Agents.
    pub agents: Agents,
    /// Music and tones.
    pub music: Music,
    /// Meetings.
    pub conferences: Conferences,
    /// Recordings.
    pub recording: Recording,
    /// Calls that machines ask for.
    pub originate: Originating,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            realm: String::new(),
            digest: vec!["SHA-256".to_owned(), "MD5".to_owned()],
            digest_any_uri: false,
            controller: "controld".to_owned(),
            owner_token: String::new(),
            listeners: Vec::new(),
            accounts: Vec::new(),
            queues: Vec::new(),
            menus: Vec::new(),
            trunks: Vec::new(),
            dialplan: Dialplan::default(),
            trusted: Vec::new(),
            allow_anonymous_calls: false,
            registration: Registration::default(),
            media: Media::default(),
            calls: Calls::default(),
            agents: Agents::default(),
            music: Music::default(),
            conferences: Conferences::default(),
            recording: Recording::default(),
            originate: Originating::default(),
        }
    }
}

/// One socket that SIP comes in at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `udp`, `tcp`, `tls`, `ws` or `wss`.
    #[serde(deserialize_with = "transport")]
    pub transport: Transport,
    /// The address to bind; may be unspecified (`0.0.0.0`).
    pub local: SocketAddr,
    /// The address others reach it at, for Via and Contact. Default: `local`; needed when that is unspecified.
    #[serde(default)]
    pub advertised: Option<SocketAddr>,
}

/// Somebody who may register.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The user part of the address, and the digest user name.
    pub user: String,
    /// The password; give this, or the hash for each algorithm that its phones are offered.
    #[serde(default)]
    pub password: Option<String>,
    /// H(user:realm:password) by MD5, in hexadecimal.
    #[serde(default)]
    pub ha1_md5: Option<String>,
    /// The same by SHA-256.
    #[serde(default)]
    pub ha1_sha256: Option<String>,
    /// The same by SHA-512-256.
    #[serde(default)]
    pub ha1_sha512_256: Option<String>,
    /// The algorithms that its phones are offered, some of `digest`. Empty (default): all of them.
    #[serde(default)]
    pub digest: Vec<String>,
    /// Devices registered at once. Default 5.
    #[serde(default = "devices_max")]
    pub devices_max: usize,
    /// Codecs of its phones, preferred first. Empty (default): `media.codecs_inside`.
    #[serde(default)]
    pub codecs: Vec<String>,
    /// Whether the audio of its phones is encrypted. Default: as `media.srtp` says.
    #[serde(default)]
    pub srtp: Option<Srtp>,
}

impl Account {
    /// See [`Account::digest`].
    pub(crate) fn digest_algorithms(&self) -> Vec<Algorithm> {
        algorithms_of(&self.digest)
    }
}

fn algorithms_of(names: &[String]) -> Vec<Algorithm> {
    names.iter().filter_map(|name| algorithm(name)).collect()
}

fn devices_max() -> usize {
    5
}

/// A waiting line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// What callers dial.
    pub name: String,
    /// Accounts that serve it.
    pub agents: Vec<String>,
    /// An agent's phone rings this long. Default 10.
    #[serde(default = "ring_timeout")]
    pub ring_timeout_s: u64,
    /// A caller waits this long. Default 60.
    #[serde(default = "queue_timeout")]
    pub timeout_s: u64,
    /// What a caller who waited too long is told: 480 (default) or 503.
    #[serde(default = "timeout_status")]
    pub timeout_status: u16,
    /// Callers waiting at once; who comes back from a transfer that failed is let in above that. Default 1 000.
    #[serde(default = "entries_max")]
    pub entries_max: usize,
    /// The prompt its callers hear while they wait. Empty (default): that of `music`.
    #[serde(default)]
    pub music: String,
    /// Its calls are recorded from the answer of an agent on. Default: no.
    #[serde(default)]
    pub record: bool,
}

fn ring_timeout() -> u64 {
    10
}
fn queue_timeout() -> u64 {
    60
}
fn timeout_status() -> u16 {
    480
}
fn entries_max() -> usize {
    1_000
}

/// Bounds of registrations, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registration {
    /// Shorter ones are refused with 423.
    pub expires_min_s: u32,
    /// Longer ones are cut to this.
    pub expires_max_s: u32,
    /// Given when the phone does not ask for a time.
    pub expires_default_s: u32,
    /// Which devices are asked by OPTIONS whether they are still there.
    pub keepalive: Keepalive,
    /// How often they are asked.
    pub keepalive_interval_s: u64,
    /// After this many questions in a row without answer a device is registered no more.
    pub keepalive_failures_max: u32,
    /// Within this time phones with outbound flows must show life (Flow-Timer, RFC 5626 §4.4); 0: they are not told.
    pub flow_timer_s: u32,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            expires_min_s: 60,
            expires_max_s: 3_600,
            expires_default_s: 300,
            keepalive: Keepalive::Nat,
            keepalive_interval_s: 30,
            keepalive_failures_max: 3,
            flow_timer_s: 120,
        }
    }
}

/// Which devices are asked whether they are still there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keepalive {
    /// None.
    Off,
    /// Those that registered over UDP from behind a NAT.
    #[default]
    Nat,
    /// All.
    All,
}

/// Media hosts and what may be spoken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// Hosts that carry the audio. At least one.
    pub hosts: Vec<MediaHost>,
    /// Codecs that parties may use, preferred first: `PCMU`, `PCMA`, `G722`, `opus`. Default: all, in this order. A
    /// media host translates between the parties of a call where they have none in common.
    pub codecs: Vec<String>,
    /// The same for phones of accounts, such as G.711 inside and anything outside. Empty (default): `codecs`.
    pub codecs_inside: Vec<String>,
    /// A party is offered, or given, what its counterpart speaks before its own preference, so that nothing has to be
    /// translated. Default: yes.
    pub pass_through: bool,
    /// Whether audio is encrypted by SRTP with keys in SDP (RFC 4568), unless an account or a trunk says else: `off`,
    /// `optional` (default) or `required`. Optional: what is offered is taken, and phones reached over TLS or WSS are
    /// offered it, so that those that encrypt do and none is turned away.
    pub srtp: Srtp,
    /// Suites, preferred first. Default: `AEAD_AES_256_GCM`, `AEAD_AES_128_GCM`, `AES_256_CM_HMAC_SHA1_80`,
    /// `AES_CM_128_HMAC_SHA1_80`, `AES_CM_128_HMAC_SHA1_32`.
    pub srtp_suites: Vec<String>,
    /// Offer and require keys also over signalling that is not encrypted, where everybody on the way reads them: for a
    /// proxy in front of us that speaks TLS to phones. Default: no.
    pub srtp_keys_in_clear: bool,
    /// Key presses that are tones in the audio of a party without telephone-events become telephone-events for a
    /// counterpart that has them, and are not heard; its sound is 40 ms later for that and the media host has to decode
    /// it. Default: yes.
    pub convert_digits: bool,
    /// Whether silence may be described rather than sent (comfort noise, RFC 3389): `off`, `accept` (default) or `offer`.
    /// What a party offers is accepted, and then offered to its counterpart too; `offer` offers it to everybody beside G.711
    /// and G.722. A few old phones fail at an offer that has it.
    pub comfort_noise: ComfortNoise,
    /// What media hosts encode for a party is not sent while it is silence, where comfort noise was agreed with it, or it
    /// asked for Opus with `usedtx=1`. Default: no.
    pub suppress_silence: bool,
    /// Name of the media hosts' interface towards phones. Empty (default): their first one.
    pub interface: String,
    /// A media host must answer a command within this time. Default 5.
    pub reply_timeout_s: u64,
    /// What became of a command without answer, because the connection to the media host broke, is found out, and it is
    /// said again, within this time; then what it was for fails. Default 10.
    pub retry_within_s: u64,
    /// Calls of a lost media host get another place, or the restarted host, within this time, or end. Default 10.
    pub replace_within_s: u64,
    /// New calls wait so long for a media host when none is up, after the start or after the last one was lost; later ones
    /// are refused at once. 0: all are. Default 5.
    pub wait_for_host_s: u64,
    /// So many of them each second. Default 50.
    pub replaced_per_s: u32,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            codecs: ["PCMU", "PCMA", "G722", "opus"].map(str::to_owned).into(),
            codecs_inside: Vec::new(),
            pass_through: true,
            srtp: Srtp::default(),
            srtp_suites: security::SUITES.map(|suite| suite.as_str().to_owned()).into(),
            srtp_keys_in_clear: false,
            convert_digits: true,
            comfort_noise: ComfortNoise::default(),
            suppress_silence: false,
            interface: String::new(),
            reply_timeout_s: 5,
            retry_within_s: 10,
            replace_within_s: 10,
            wait_for_host_s: 5,
            replaced_per_s: 50,
        }
    }
}

/// Whether silence may be described rather than sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComfortNoise {
    /// Never.
    Off,
    /// To and by those who offer it, and their counterparts.
    #[default]
    Accept,
    /// It is offered to everybody.
    Offer,
}

/// One media host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediaHost {
    /// Its name here.
    pub name: HostId,
    /// Where its API listens, such as `http://127.0.0.1:7000`. The core never looks at it.
    pub address: String,
}

/// Calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calls {
    /// A called user's phones ring this long. Default 60.
    pub ring_timeout_s: u64,
    /// Devices that the user prefers less (q of their registration) ring when those it prefers more rang this long, or
    /// all refused. Default 15.
    pub next_devices_s: u64,
    /// No call is longer. Default 4 h.
    pub duration_max_s: u64,
    /// Calls at once; above: 503. Default 10 000.
    pub count_max: usize,
    /// Answer callers of a queue before they reach an agent, so that they hear music. Default: yes. Otherwise their
    /// phones ring on, and nobody pays until an agent answers.
    pub answer_before_music: bool,
    /// Who may transfer calls: `users` (default), `all` or `none`.
    pub transfers: Transfers,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            ring_timeout_s: 60,
            next_devices_s: 15,
            duration_max_s: 4 * 3_600,
            count_max: 10_000,
            answer_before_music: true,
            transfers: Transfers::Users,
        }
    }
}

/// Agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agents {
    /// Rest after each call. Default 2.
    pub wrap_up_s: u64,
    /// Calls of one agent at once. Default 1.
    pub calls_max: u32,
    /// After this many calls in a row that were not answered an agent is paused; 0: never. Default 3.
    pub misses_max: u32,
    /// An agent takes calls while its phone is registered. Default: yes. Otherwise only
    /// [`Controller::agent_ready`](crate::Controller::agent_ready) makes it.
    pub ready_when_registered: bool,
}

impl Default for Agents {
    fn default() -> Self {
        Self {
            wrap_up_s: 2,
            calls_max: 1,
            misses_max: 3,
            ready_when_registered: true,
        }
    }
}

/// What is wrong with a configuration: the key, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A list that must not be empty is.
    #[error("{key} is empty; {remedy}")]
    Empty {
        /// The key.
        key: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A value cannot be used.
    #[error("{key} = {value:?}: {problem}; {remedy}")]
    Invalid {
        /// The key.
        key: String,
        /// What stands there.
        value: String,
        /// What is wrong.
        problem: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The same name twice.
    #[error("{key} holds {name:?} twice; remove one or give it another name")]
    Twice {
        /// The key.
        key: &'static str,
        /// The name.
        name: String,
    },
}

impl Config {
    /// The realm of digest authentication.
    pub fn realm(&self) -> &str {
        if self.realm.is_empty() {
            self.domains.first().map_or("", String::as_str)
        } else {
            &self.realm
        }
    }

    /// Checks everything that does not need a socket.
    ///
    /// # Errors
    /// The first mistake found, with its key and the remedy.
    pub fn check(&self) -> Result<(), ConfigError> {
        let empty = |key, remedy| Err(ConfigError::Empty { key, remedy });
        if self.domains.is_empty() {
            return empty(
                "domains",
                "name the host part that callers dial, such as 127.0.0.1",
            );
        }
        if self.listeners.is_empty() {
            return empty(
                "listeners",
                "add one, such as { transport = \"udp\", local = \"0.0.0.0:5060\" }",
            );
        }
        if self.media.hosts.is_empty() {
            return empty(
                "media.hosts",
                "add one, such as { name = \"a\", address = \"http://127.0.0.1:7000\" }",
            );
        }
        if self.controller.is_empty() || self.controller.len() > 128 {
            return Err(invalid(
                "controller",
                &self.controller,
                "must have 1 to 128 bytes",
                "choose a short name",
            ));
        }
        self.check_listeners()?;
        self.check_digest()?;
        self.check_accounts()?;
        self.check_queues()?;
        self.check_media()?;
        self.conferences.check()?;
        menu::check(self)?;
        security::check(self)?;
        let accounts = self.accounts.iter().map(|account| account.user.as_str());
        trunk::config::check(&self.trunks, &self.dialplan, &accounts.collect())?;
        let bounds = &self.registration;
        if bounds.expires_min_s > bounds.expires_default_s || bounds.expires_default_s > bounds.expires_max_s
        {
            let value = format!(
                "{} {} {}",
                bounds.expires_min_s, bounds.expires_default_s, bounds.expires_max_s
            );
            let problem = "expires_min_s, expires_default_s and expires_max_s must not fall";
            return Err(invalid("registration", &value, problem, "put them in order"));
        }
        if bounds.keepalive_interval_s < 5 || bounds.keepalive_failures_max == 0 {
            let value = format!(
                "{} {}",
                bounds.keepalive_interval_s, bounds.keepalive_failures_max
            );
            let problem = "keepalive_interval_s must be at least 5 and keepalive_failures_max at least 1";
            return Err(invalid(
                "registration",
                &value,
                problem,
                "raise them, or set keepalive = \"off\"",
            ));
        }
        Ok(())
    }

    /// What is allowed and should not stay unseen: to be logged at the start.
    pub fn warnings(&self) -> Vec<String> {
        security::warnings(self)
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        for (index, listener) in self.listeners.iter().enumerate() {
            if listener.advertised().ip().is_unspecified() {
                let key = format!("listeners[{index}].advertised");
                let value = listener.advertised().to_string();
                let problem = "others cannot reach an unspecified address";
                return Err(invalid(
                    &key,
                    &value,
                    problem,
                    "give the address that phones can reach",
                ));
            }
        }
        Ok(())
    }

    fn check_digest(&self) -> Result<(), ConfigError> {
        if self.digest.is_empty() {
            return Err(ConfigError::Empty {
                key: "digest",
                remedy: "name some of SHA-512-256, SHA-256, MD5",
            });
        }
        match self.digest.iter().find(|name| algorithm(name).is_none()) {
            Some(name) => Err(invalid(
                "digest",
                name,
                "unknown algorithm",
                "use SHA-512-256, SHA-256 or MD5",
            )),
            None => Ok(()),
        }
    }

    /// The algorithms of digest authentication, preferred first.
    pub(crate) fn digest_algorithms(&self) -> Vec<Algorithm> {
        algorithms_of(&self.digest)
    }

    fn check_accounts(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        for account in &self.accounts {
            if !seen.insert(&account.user) {
                return Err(ConfigError::Twice {
                    key: "accounts",
                    name: account.user.clone(),
                });
            }
            let key = format!("accounts.{}", account.user);
            if let Some(other) = account.digest.iter().find(|name| !self.digest.contains(name)) {
                return Err(invalid(
                    &format!("{key}.digest"),
                    other,
                    "not in signalling.digest",
                    "use some of those, or add it there",
                ));
            }
            let algorithms = match account.digest.is_empty() {
                true => self.digest_algorithms(),
                false => account.digest_algorithms(),
            };
            // Passwords are hashed once, by the registrar: here that would be for nothing.
            let [md5, sha256, sha512_256] = registrar::given_hashes(account)?;
            let has_hash = |algorithm: &Algorithm| match algorithm.hash {
                HashKind::Md5 => md5.is_some(),
                HashKind::Sha256 => sha256.is_some(),
                HashKind::Sha512_256 => sha512_256.is_some(),
            };
            if account.password.is_none() && !algorithms.iter().all(has_hash) {
                return Err(invalid(
                    &key,
                    "",
                    "no password",
                    "give password, or ha1_md5, ha1_sha256, ha1_sha512_256 for each algorithm in digest",
                ));
            }
            if account.devices_max == 0 || account.devices_max > limits::BINDINGS_PER_USER_MAX {
                let value = account.devices_max.to_string();
                return Err(invalid(
                    &format!("{key}.devices_max"),
                    &value,
                    "out of range",
                    "use 1 to 32",
                ));
            }
        }
        Ok(())
    }

    fn check_queues(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        let accounts: BTreeSet<&String> = self.accounts.iter().map(|account| &account.user).collect();
        let is_account = |user: &String| accounts.contains(user);
        for queue in &self.queues {
            if !seen.insert(&queue.name) || is_account(&queue.name) {
                return Err(ConfigError::Twice {
                    key: "accounts and queues",
                    name: queue.name.clone(),
                });
            }
            if let Some(stranger) = queue.agents.iter().find(|agent| !is_account(agent)) {
                let key = format!("queues.{}.agents", queue.name);
                return Err(invalid(&key, stranger, "is no account", "add it to accounts"));
            }
            if ![480, 503].contains(&queue.timeout_status) {
                let key = format!("queues.{}.timeout_status", queue.name);
                return Err(invalid(
                    &key,
                    &queue.timeout_status.to_string(),
                    "unknown",
                    "use 480 or 503",
                ));
            }
        }
        Ok(())
    }

    fn check_media(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        for host in &self.media.hosts {
            if !seen.insert(&host.name) {
                return Err(ConfigError::Twice {
                    key: "media.hosts",
                    name: host.name.to_string(),
                });
            }
        }
        if self.media.codecs.is_empty() {
            return Err(ConfigError::Empty {
                key: "media.codecs",
                remedy: "name at least PCMU or PCMA",
            });
        }
        check_codecs("media.codecs", &self.media.codecs)?;
        check_codecs("media.codecs_inside", &self.media.codecs_inside)?;
        for account in &self.accounts {
            check_codecs(&format!("accounts.{}.codecs", account.user), &account.codecs)?;
        }
        for trunk in &self.trunks {
            check_codecs(&format!("trunks.{}.codecs", trunk.name), &trunk.codecs)?;
        }
        Ok(())
    }

    /// Queues each agent serves, by agent.
    pub(crate) fn queues_by_agent(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut served: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for queue in &self.queues {
            for agent in &queue.agents {
                served.entry(agent).or_default().push(&queue.name);
            }
        }
        served
    }
}

impl Listener {
    /// The address others reach it at.
    pub fn advertised(&self) -> SocketAddr {
        self.advertised.unwrap_or(self.local)
    }
}

impl Queue {
    pub(crate) fn ring_timeout(&self) -> Duration {
        Duration::from_secs(self.ring_timeout_s)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }
}

/// Plain algorithms only: accounts are kept as hashes that know no session.
fn algorithm(name: &str) -> Option<Algorithm> {
    Algorithm::from_bytes(name.as_bytes()).filter(|found| !found.session)
}

fn check_codecs(key: &str, names: &[String]) -> Result<(), ConfigError> {
    let unknown = names
        .iter()
        .find(|name| crate::media::codec_named(name).is_none());
    match unknown {
        Some(name) => Err(invalid(
            key,
            name,
            "unknown codec",
            "use PCMU, PCMA, G722 or opus",
        )),
        None => Ok(()),
    }
}

pub(crate) fn invalid(key: &str, value: &str, problem: &'static str, remedy: &'static str) -> ConfigError {
    ConfigError::Invalid {
        key: key.to_owned(),
        value: value.to_owned(),
        problem,
        remedy,
    }
}

fn transport<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Transport, D::Error> {
    let text = String::deserialize(from)?;
    Transport::from_bytes(text.as_bytes())
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not one of udp, tcp, tls, ws, wss")))
}
