//! What an operator may set, where it comes from, and what is refused.
//!
//! Precedence, highest first: flags (`--set KEY=VALUE` and the short forms), environment
//! (`CONTROLD_MANAGEMENT__LISTEN=…`: section and key joined by two underscores), the file, the defaults below. A value
//! that cannot be used is refused with its key and place; nothing is silently ignored.

mod change;
mod transport;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use call_control::trunk::{Dialplan, Trunk};
use call_control::{
    config::{Account, Agents, Calls, Listener, Media, Queue, Registration},
    menu::Menu,
    services::{Conferences, Music, Originating, Recording},
};
use serde::Deserialize;
use sip::stack::Transport;
use thiserror::Error;

use crate::{token::Token, transport::tls::Identities};

pub(crate) use change::Fixed;
pub(crate) use transport::{CertificateFiles, ClientCertificates, Dns, Signalling, Sources, Tls, Websocket};

/// Prefix of the environment variables that override the file.
pub(crate) const ENV_PREFIX: &str = "CONTROLD_";

/// The longest time of the configuration, about 100 years.
const TIME_MAX_S: i64 = 3_155_760_000;

/// Everything that can be configured. Field documentation with units stands in `controld.toml`, the sample.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) signalling: Signalling,
    pub(crate) tls: Tls,
    pub(crate) websocket: Websocket,
    pub(crate) sources: Sources,
    pub(crate) dns: Dns,
    pub(crate) management: Management,
    pub(crate) media: Media,
    pub(crate) media_client: MediaClient,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) registration: Registration,
    pub(crate) calls: Calls,
    pub(crate) agents: Agents,
    pub(crate) music: Music,
    pub(crate) conferences: Conferences,
    pub(crate) recording: Recording,
    pub(crate) originate: Originating,
    pub(crate) accounts: Vec<Account>,
    pub(crate) queues: Vec<Queue>,
    pub(crate) menus: Vec<Menu>,
    pub(crate) trunks: Vec<Trunk>,
    pub(crate) dialplan: Dialplan,
    pub(crate) log: Log,
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Management {
    pub(crate) listen: SocketAddr,
    pub(crate) token_file: PathBuf,
    pub(crate) token: String,
}

/// How media hosts are talked to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MediaClient {
    pub(crate) controller: String,
    pub(crate) lease_ms: u32,
    pub(crate) tls: Option<MediaTls>,
}

/// Certificates towards media hosts; PEM files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MediaTls {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The append-only log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Journal {
    pub(crate) path: PathBuf,
    pub(crate) sync_ms: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) segments_kept: usize,
}

/// The database that call details and statistics are projected into.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Management {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8711)),
            token_file: PathBuf::new(),
            token: String::new(),
        }
    }
}

impl Default for MediaClient {
    fn default() -> Self {
        Self {
            controller: "controld".into(),
            lease_ms: 30_000,
            tls: None,
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            path: "controld.journal".into(),
            sync_ms: 200,
            segment_bytes: 64 << 20,
            segments_kept: 16,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            path: "controld.db".into(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".into(),
        }
    }
}

/// Why a configuration cannot be used. Every message names the value, its place and the remedy.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The file is not TOML, or holds a key or value that is not known.
    #[error("configuration file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// With line and column.
        source: Box<toml::de::Error>,
    },
    /// A flag or environment variable names an unknown key or holds an unusable value.
    #[error("{place}: {message}")]
    Override {
        /// The variable or flag as given.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A value is out of range or contradicts another.
    #[error("{key}: {message}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Certificate(String),
    /// The token of the HTTP listener cannot be used.
    #[error("{0}")]
    Token(String),
    /// What the controller itself refuses.
    #[error(transparent)]
    Controller(#[from] call_control::ConfigError),
}

/// One value that overrides the file.
#[derive(Debug, Clone)]
pub(crate) struct Override {
    /// `section.key`.
    pub(crate) key: String,
    /// TOML, or a bare string.
    pub(crate) value: String,
    /// How the operator wrote it, for messages.
    pub(crate) place: String,
}

impl Override {
    /// From `KEY=VALUE` of a `--set` flag.
    pub(crate) fn parse_flag(text: &str) -> Result<Self, ConfigError> {
        let (key, value) = text.split_once('=').ok_or_else(|| ConfigError::Override {
            place: format!("--set {text}"),
            message: "is not KEY=VALUE, for instance --set log.level=debug".into(),
        })?;
        Ok(Self {
            key: key.trim().into(),
            value: value.trim().into(),
            place: format!("--set {}", key.trim()),
        })
    }

    /// From an environment variable with [`ENV_PREFIX`]; `None` for those that are not keys.
    pub(crate) fn parse_env(name: &str, value: &str) -> Option<Self> {
        let rest = name.strip_prefix(ENV_PREFIX)?;
        if rest == "CONFIG" {
            return None;
        }
        Some(Self {
            key: rest.to_ascii_lowercase().replace("__", "."),
            value: value.into(),
            // Never the value: it may be a password.
            place: format!("environment variable {name}"),
        })
    }

    fn wrong(&self, message: String) -> ConfigError {
        ConfigError::Override {
            place: self.place.clone(),
            message,
        }
    }

    /// The value as TOML; what is not TOML is a string.
    fn toml(&self) -> toml::Value {
        format!("v = {}", self.value)
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| (table.len() == 1).then(|| table.remove("v")).flatten())
            .unwrap_or_else(|| toml::Value::String(self.value.clone()))
    }
}

impl Config {
    /// Reads the file, lays the overrides over it in the order given, and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`]: the operator corrects what it names.
    pub(crate) fn load(file: Option<&Path>, overrides: &[Override]) -> Result<Self, ConfigError> {
        let text = match file {
            None => String::new(),
            Some(path) => fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.to_path_buf(),
                source,
            })?,
        };
        let in_file = |source: toml::de::Error| ConfigError::File {
            path: file.unwrap_or(Path::new("")).to_path_buf(),
            source: Box::new(source),
        };
        // Once typed, so that an error names its line; once as a table, to lay values over.
        let mut config: Self = toml::from_str(&text).map_err(in_file)?;
        let mut table: toml::Table = text.parse().map_err(in_file)?;
        for one in overrides {
            config = overlay(&mut table, one)?;
        }
        check_times("", &table)?;
        config.check()?;
        Ok(config)
    }

    /// Reads the files that the configuration names, so that a missing one is told before anything starts.
    ///
    /// # Errors
    /// Names the setting and the file.
    pub(crate) fn check_files(&self) -> Result<(), ConfigError> {
        Identities::read(&self.tls)
            .map(drop)
            .map_err(ConfigError::Certificate)?;
        Token::read(&self.management)
            .map(drop)
            .map_err(ConfigError::Token)
    }

    /// What the core is told, reachable at these sockets.
    pub(crate) fn controller(&self, bound: &[(Transport, SocketAddr)]) -> call_control::Config {
        let listener = |&(transport, local): &(Transport, SocketAddr)| Listener {
            transport,
            local,
            advertised: Some(SocketAddr::new(self.advertised(local.ip()), local.port())),
        };
        let signalling = &self.signalling;
        call_control::Config {
            domains: signalling.domains.iter().map(|name| in_uri(name)).collect(),
            realm: signalling.realm.clone(),
            digest: signalling.digest.clone(),
            digest_any_uri: signalling.digest_any_uri,
            controller: self.media_client.controller.clone(),
            owner_token: signalling.owner_token.clone(),
            listeners: bound.iter().map(listener).collect(),
            accounts: self.accounts.clone(),
            queues: self.queues.clone(),
            menus: self.menus.clone(),
            trunks: self.trunks.clone(),
            dialplan: self.dialplan.clone(),
            trusted: signalling.trusted.clone(),
            allow_anonymous_calls: signalling.allow_anonymous_calls,
            registration: self.registration,
            media: self.media.clone(),
            calls: self.calls,
            agents: self.agents,
            music: self.music.clone(),
            conferences: self.conferences.clone(),
            recording: self.recording,
            originate: self.originate,
        }
    }

    /// Every address to bind.
    pub(crate) fn listeners(&self) -> Vec<(Transport, SocketAddr)> {
        let signalling = &self.signalling;
        let all = [
            (Transport::Udp, &signalling.udp),
            (Transport::Tcp, &signalling.tcp),
            (Transport::Tls, &signalling.tls),
            (Transport::Ws, &signalling.ws),
            (Transport::Wss, &signalling.wss),
        ];
        let of_kind = |(transport, addrs): (Transport, &Vec<SocketAddr>)| {
            addrs.iter().map(|addr| (transport, *addr)).collect::<Vec<_>>()
        };
        all.into_iter().flat_map(of_kind).collect()
    }

    /// The address others reach us at when we listen on `local`: told by the operator, the domain when it is an
    /// address of that family, or the address this machine would send from.
    fn advertised(&self, local: IpAddr) -> IpAddr {
        if let Some(told) = self
            .signalling
            .advertise
            .filter(|told| told.is_ipv4() == local.is_ipv4())
        {
            return told;
        }
        if !local.is_unspecified() {
            return local;
        }
        let domains = self.signalling.domains.iter();
        let literal = domains
            .filter_map(|domain| domain.trim_matches(['[', ']']).parse::<IpAddr>().ok())
            .find(|ip| ip.is_ipv4() == local.is_ipv4());
        literal.or_else(|| route_source(local)).unwrap_or(local)
    }

    /// Checks every value, and those that depend on each other.
    ///
    /// # Errors
    /// [`ConfigError`]: the operator corrects what it names.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !["error", "warn", "info", "debug", "trace"].contains(&self.log.level.as_str()) {
            let message = format!(
                "\"{}\" is not one of error, warn, info, debug, trace",
                self.log.level
            );
            return Err(value("log.level", message));
        }
        let listeners = self.listeners();
        if listeners.is_empty() {
            return Err(value(
                "signalling.udp",
                "and .tcp, .tls, .ws, .wss are empty; name at least one address such as \"0.0.0.0:5060\""
                    .into(),
            ));
        }
        if let Some((_, local)) = listeners
            .iter()
            .find(|(_, local)| self.advertised(local.ip()).is_unspecified())
        {
            let message = format!(
                "is missing, and {local} cannot be told to a peer; give the address phones can reach"
            );
            return Err(value("signalling.advertise", message));
        }
        within(
            "media_client.lease_ms",
            self.media_client.lease_ms.into(),
            1_000,
            3_600_000,
        )?;
        within("journal.sync_ms", self.journal.sync_ms, 1, 60_000)?;
        within(
            "journal.segment_bytes",
            self.journal.segment_bytes,
            1 << 16,
            1 << 32,
        )?;
        within(
            "journal.segments_kept",
            self.journal.segments_kept as u64,
            2,
            10_000,
        )?;
        self.signalling.check(&self.tls)?;
        self.sources.check()?;
        self.dns.check()?;
        self.check_hosts()?;
        self.controller(&listeners).check()?;
        Ok(())
    }

    fn check_hosts(&self) -> Result<(), ConfigError> {
        for host in &self.media.hosts {
            let key = format!("media.hosts.{}", host.name);
            let Some((scheme, rest)) = host.address.split_once("://") else {
                let message = format!("\"{}\" is no URL; write http://ADDRESS:PORT", host.address);
                return Err(value(&key, message));
            };
            if scheme == "https" && self.media_client.tls.is_none() {
                let message = "https needs media_client.tls.ca, .cert and .key (mutual TLS)".into();
                return Err(value(&key, message));
            }
            let is_loopback = rest
                .parse::<SocketAddr>()
                .map_or(rest.starts_with("localhost:"), |addr| addr.ip().is_loopback());
            if scheme != "https" && !is_loopback {
                let message = format!(
                    "\"{}\" is not a loopback address, where plaintext is allowed; use https and media_client.tls",
                    host.address
                );
                return Err(value(&key, message));
            }
        }
        Ok(())
    }
}

/// The address this machine would send from to somewhere far away; nothing is sent.
fn route_source(local: IpAddr) -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): routed like any other, owned by nobody.
    let (any, far) = if local.is_ipv4() {
        ("0.0.0.0:0", "192.0.2.1:5060")
    } else {
        ("[::]:0", "[2001:db8::1]:5060")
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(far).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified()).then_some(source)
}

/// Sets one key in the table and types the whole again.
fn overlay(table: &mut toml::Table, one: &Override) -> Result<Config, ConfigError> {
    put(table, one, one.toml())?;
    let failed = match Config::deserialize(table.clone()) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    // A password or a token may look like a number.
    put(table, one, toml::Value::String(one.value.clone()))?;
    Config::deserialize(table.clone()).map_err(|_| one.wrong(failed.message().to_owned()))
}

fn put(table: &mut toml::Table, one: &Override, value: toml::Value) -> Result<(), ConfigError> {
    let mut parts: Vec<&str> = one.key.split('.').collect();
    let last = parts
        .pop()
        .filter(|last| !last.is_empty())
        .ok_or_else(|| one.wrong("names no key".into()))?;
    let mut at = table;
    for part in parts {
        let entry = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = entry
            .as_table_mut()
            .ok_or_else(|| one.wrong(format!("`{part}` is not a section")))?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

fn value(key: &str, message: String) -> ConfigError {
    ConfigError::Value {
        key: key.into(),
        message,
    }
}

fn within(key: &str, have: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&have) {
        return Ok(());
    }
    Err(value(key, format!("{have} is not between {min} and {max}")))
}

fn is_time(key: &str) -> bool {
    key.ends_with("_s") && !key.ends_with("_per_s")
}

/// Every time, in seconds, wherever it is: what is added to now must be a time again.
fn check_times(section: &str, table: &toml::Table) -> Result<(), ConfigError> {
    for (key, have) in table {
        let key = match section {
            "" => key.clone(),
            _ => format!("{section}.{key}"),
        };
        match have {
            toml::Value::Integer(have) if is_time(&key) && *have > TIME_MAX_S => {
                return Err(value(&key, format!("{have} s are more than 100 years")));
            }
            toml::Value::Table(table) => check_times(&key, table)?,
            toml::Value::Array(items) => {
                let mut tables = items.iter().filter_map(toml::Value::as_table);
                tables.try_for_each(|table| check_times(&key, table))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A host as URIs have it: IPv6 addresses in brackets.
fn in_uri(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "media.hosts=[{name='a', address='http://127.0.0.1:8700'}]";

    fn load(overrides: &[&str]) -> Result<Config, ConfigError> {
        let overrides: Vec<_> = overrides
            .iter()
            .map(|text| Override::parse_flag(text).unwrap())
            .collect();
        Config::load(None, &overrides)
    }

    fn refusal(overrides: &[&str]) -> String {
        load(overrides).unwrap_err().to_string()
    }

    #[test]
    fn the_sample_states_the_defaults() {
        let sample = include_str!("../controld.toml");
        // Every line that is a setting stands commented out as `#key = value` or `#[section]`; prose as `# …`.
        let settings: String = sample
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
            .map(|line| format!("{line}\n"))
            .collect();
        let mut told: Config = toml::from_str(&settings).unwrap();
        // Examples, for which there is no default.
        let examples = [
            told.accounts.len(),
            told.queues.len(),
            told.menus.len(),
            told.media.hosts.len(),
            told.tls.certificates.len(),
        ];
        assert_eq!(examples, [1; 5]);
        told.tls.certificates = Vec::new();
        assert!(told.media_client.tls.is_some() && told.signalling.advertise.is_some());
        (told.accounts, told.queues, told.menus, told.media.hosts) = Default::default();
        (told.trunks, told.dialplan) = Default::default();
        (told.media_client.tls, told.signalling.advertise) = (None, None);
        assert_eq!(told, Config::default());
    }

    #[test]
    fn an_ipv6_address_may_be_a_domain_with_or_without_brackets() {
        for written in ["::1", "[::1]"] {
            let domain = format!("signalling.domains=['{written}']");
            let listeners = ["signalling.udp=['[::]:5060']", "signalling.tcp=[]"];
            let config = load(&[HOST, &domain, listeners[0], listeners[1]]).unwrap();
            let bound = [(Transport::Udp, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5060)))];
            let told = config.controller(&bound);
            assert_eq!(told.domains, ["[::1]"]);
            let advertised = told.listeners[0].advertised.unwrap().ip();
            assert_eq!(advertised, IpAddr::from(Ipv6Addr::LOCALHOST));
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_mistakes_are_named() {
        let env = Override::parse_env("CONTROLD_LOG__LEVEL", "warn").unwrap();
        let flag = Override::parse_flag("log.level=debug").unwrap();
        let host = Override::parse_flag(HOST).unwrap();
        let config = Config::load(None, &[env, flag, host]).unwrap();
        assert_eq!(config.log.level, "debug");
        let token = Override::parse_env("CONTROLD_MANAGEMENT__TOKEN", "1234567890123456").unwrap();
        let host = Override::parse_flag(HOST).unwrap();
        let config = Config::load(None, &[token, host]).unwrap();
        assert_eq!(
            config.management.token, "1234567890123456",
            "though it looks like a number"
        );
        assert!(refusal(&[]).contains("media.hosts is empty"));
        assert!(refusal(&[HOST, "log.level=loud"]).contains("\"loud\" is not one of"));
        assert!(refusal(&[HOST, "signalling.udpp=1"]).contains("unknown field"));
        assert!(refusal(&[HOST, "signalling.udp=[]", "signalling.tcp=[]"]).contains("are empty"));
        let far = "media.hosts=[{name='a', address='http://192.0.2.7:8700'}]";
        assert!(refusal(&[far]).contains("not a loopback address"));
        for never in [
            "calls.ring_timeout_s=9223372036854775807",
            "queues=[{name='support', agents=[], timeout_s=9223372036854775807}]",
            "trunks=[{name='carrier', targets=[], probe_s=9223372036854775807}]",
        ] {
            let told = refusal(&[HOST, never]);
            assert!(
                told.contains("_s: 9223372036854775807 s are more than 100 years"),
                "{told}"
            );
        }
        let none = "signalling.tcp_connections_per_source=0";
        assert!(refusal(&[HOST, none]).contains("tcp_connections_per_source: 0 is not between 1"));
    }

    #[test]
    fn an_unspecified_address_is_told_as_one_that_can_be_reached() {
        let advertised = |overrides: &[&str]| {
            let config = load(&[&[HOST], overrides].concat()).unwrap();
            let bound = config.listeners();
            config.controller(&bound).listeners[0].advertised().to_string()
        };
        assert_eq!(advertised(&[]), "127.0.0.1:5060");
        assert_eq!(advertised(&["signalling.advertise=192.0.2.5"]), "192.0.2.5:5060");
        let own = "signalling.udp=['192.0.2.6:5062']";
        assert_eq!(advertised(&[own]), "192.0.2.6:5062");
    }
}
