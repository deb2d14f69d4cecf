//! What an operator may set, where it comes from, and what is refused.
//!
//! Precedence, highest first: flags (`--set KEY=VALUE` and the short forms), environment
//! (`MEDIAD_IO__BACKEND=mmsg`: section and key joined by two underscores), the file, the defaults below. A value that
//! cannot be used is refused with its key and place; nothing is silently ignored.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use media_engine::host::EffortRange;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    limits,
    recordings::{RECIPIENTS_MAX, Recipient},
};

/// Prefix of the environment variables that override the file.
pub(crate) const ENV_PREFIX: &str = "MEDIAD_";

/// Everything that can be configured. Field documentation with units stands in `mediad.toml`, the sample.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) control: Control,
    pub(crate) metrics: Metrics,
    pub(crate) media: Media,
    pub(crate) recordings: Recordings,
    pub(crate) sessions: Sessions,
    pub(crate) workers: Workers,
    pub(crate) opus: Opus,
    pub(crate) io: Io,
    pub(crate) limits: Limits,
    pub(crate) events: Events,
    pub(crate) log: Log,
}

/// The gRPC listener.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Control {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<Tls>,
}

/// Certificates of the gRPC listener; PEM files.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: PathBuf,
}

/// The management listener.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Metrics {
    pub(crate) listen: SocketAddr,
}

/// Where media is received and sent.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Media {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) quarantine_ms: u64,
    pub(crate) scout_ms: u64,
    pub(crate) prompts: PathBuf,
}

/// Where recordings go and what bounds them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Recordings {
    pub(crate) directory: PathBuf,
    pub(crate) sample_rate_hz: u32,
    pub(crate) duration_ms_max: u64,
    pub(crate) size_bytes_max: u64,
    pub(crate) free_bytes_min: u64,
    pub(crate) recipients: Vec<String>,
}

/// One named media interface.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) advertise: Vec<IpAddr>,
    pub(crate) port_min: u16,
    pub(crate) port_max: u16,
    pub(crate) dscp: u8,
}

/// Ownership and time-outs of sessions that do not set their own.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sessions {
    pub(crate) lease_ms: u32,
    pub(crate) media_timeout_ms: u32,
    pub(crate) orphan_ms_max: u32,
    pub(crate) relearn_after_ms: u32,
}

/// The media threads.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Workers {
    pub(crate) count: usize,
    pub(crate) pin: bool,
    pub(crate) cpus: Vec<usize>,
    pub(crate) realtime_priority: u8,
}

/// How Opus is encoded.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Opus {
    pub(crate) complexity: u8,
    pub(crate) complexity_min: u8,
}

/// Which socket backend, and how it is sized.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Io {
    pub(crate) backend: IoBackend,
    pub(crate) latency_budget_us: u64,
    pub(crate) latency_budget_busy_us: u64,
    pub(crate) sockets_max: usize,
    pub(crate) rx_buffers: usize,
    pub(crate) rx_batch: usize,
    pub(crate) tx_slots: usize,
    pub(crate) drain_max: usize,
    pub(crate) datagram_max: usize,
    pub(crate) stale_ms: u64,
}

/// Choice of the socket backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IoBackend {
    /// The one that costs least of those that the kernel allows.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll with recvmmsg and sendmmsg.
    Mmsg,
    /// The same with sockets that all ports of a worker share, or nothing.
    Shared,
}

/// Bounds that depend on the machine.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) sessions_max: u32,
    pub(crate) busy_percent_max: u8,
    pub(crate) late_ms_max: u64,
    pub(crate) mailbox: usize,
    pub(crate) requests: usize,
    pub(crate) connections: usize,
    pub(crate) streams_per_connection: u32,
    pub(crate) watchers: usize,
}

/// The ring of events.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Events {
    pub(crate) ring_seconds: u64,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8700)),
            tls: None,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8701)),
        }
    }
}

impl Default for Media {
    fn default() -> Self {
        Self {
            interfaces: vec![Interface::default()],
            quarantine_ms: 30_000,
            scout_ms: 60,
            prompts: PathBuf::new(),
        }
    }
}

impl Default for Recordings {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            sample_rate_hz: 16_000,
            duration_ms_max: 12 * 3_600_000,
            size_bytes_max: 4_000_000_000,
            free_bytes_min: 256 << 20,
            recipients: Vec::new(),
        }
    }
}

impl Recordings {
    /// Who can read what is recorded.
    ///
    /// # Errors
    /// One is no public key; begins with the setting.
    pub(crate) fn recipients(&self) -> Result<Arc<[Recipient]>, String> {
        let count = self.recipients.len();
        if count > RECIPIENTS_MAX {
            return Err(format!(
                "recordings.recipients: {count} are too many; give at most {RECIPIENTS_MAX}"
            ));
        }
        let parse = |(at, text): (usize, &String)| {
            Recipient::parse(text).map_err(|why| {
                // Whatever it is, it may be a secret.
                let shown: String = text.chars().take(12).collect();
                format!("recordings.recipients: number {} ({shown}…) {why}", at + 1)
            })
        };
        self.recipients.iter().enumerate().map(parse).collect()
    }
}

impl Default for Interface {
    fn default() -> Self {
        Self {
            name: "default".into(),
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            advertise: Vec::new(),
            port_min: 16_384,
            port_max: 32_767,
            dscp: 46,
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            lease_ms: 30_000,
            media_timeout_ms: 30_000,
            orphan_ms_max: 6 * 3_600_000,
            relearn_after_ms: 3_000,
        }
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            count: 0,
            pin: true,
            cpus: Vec::new(),
            realtime_priority: 0,
        }
    }
}

impl Default for Opus {
    fn default() -> Self {
        let EffortRange { most, least } = EffortRange::default();
        Self {
            complexity: most,
            complexity_min: least,
        }
    }
}

impl Default for Io {
    fn default() -> Self {
        let net = media_net::Config::default();
        Self {
            backend: IoBackend::Auto,
            latency_budget_us: net.latency_budget.as_micros() as u64,
            latency_budget_busy_us: net.latency_budget_busy.as_micros() as u64,
            sockets_max: net.max_sockets,
            rx_buffers: net.rx_buffers,
            rx_batch: net.rx_batch,
            tx_slots: net.tx_slots,
            drain_max: net.drain_max,
            datagram_max: net.max_datagram,
            stale_ms: net.max_age.map_or(0, |age| age.as_millis() as u64),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 20_000,
            busy_percent_max: 90,
            late_ms_max: media_net::Config::default()
                .late_after
                .map_or(0, |after| after.as_millis() as u64),
            mailbox: 4_096,
            requests: 4_096,
            connections: 256,
            streams_per_connection: 256,
            watchers: 64,
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self { ring_seconds: 60 }
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
            message: "is not KEY=VALUE, for instance --set io.backend=mmsg".into(),
        })?;
        Ok(Self {
            key: key.trim().into(),
            value: value.trim().into(),
            place: format!("--set {text}"),
        })
    }

    /// From an environment variable with [`ENV_PREFIX`]; `None` for those that are not keys.
    pub(crate) fn parse_env(name: &str, value: &str) -> Option<Self> {
        let rest = name.strip_prefix(ENV_PREFIX)?;
        if rest == "CONFIG" {
            return None;
        }
        let key = rest.to_ascii_lowercase().replace("__", ".");
        Some(Self {
            key,
            value: value.into(),
            place: format!("environment variable {name}={value}"),
        })
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
        config.check()?;
        Ok(config)
    }

    /// How long what comes to a worker may wait.
    pub(crate) fn late_after(&self) -> Option<Duration> {
        (self.limits.late_ms_max > 0).then(|| Duration::from_millis(self.limits.late_ms_max))
    }

    /// Sizes of a worker's backend.
    pub(crate) fn net(&self) -> media_net::Config {
        media_net::Config {
            max_sockets: self.io.sockets_max,
            max_datagram: self.io.datagram_max,
            rx_buffers: self.io.rx_buffers,
            rx_batch: self.io.rx_batch,
            tx_slots: self.io.tx_slots,
            drain_max: self.io.drain_max,
            latency_budget: Duration::from_micros(self.io.latency_budget_us),
            latency_budget_busy: Duration::from_micros(self.io.latency_budget_busy_us),
            max_age: (self.io.stale_ms > 0).then(|| Duration::from_millis(self.io.stale_ms)),
            late_after: self.late_after(),
            steering: media_net::Steering::default(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.check_control()?;
        self.check_media()?;
        self.check_prompts()?;
        self.check_recordings()?;
        self.check_load()?;
        self.check_opus()?;
        self.check_sizes()?;
        self.net().check().map_err(|error| value("io", error.to_string()))
    }

    fn check_control(&self) -> Result<(), ConfigError> {
        let listen = self.control.listen;
        if self.control.tls.is_none() && !listen.ip().is_loopback() {
            return Err(value(
                "control.listen",
                format!(
                    "{listen} is not a loopback address, where plaintext is allowed; set control.tls.cert, \
                     control.tls.key and control.tls.client_ca (mutual TLS), or listen on 127.0.0.1 or [::1]"
                ),
            ));
        }
        if !["error", "warn", "info", "debug", "trace"].contains(&self.log.level.as_str()) {
            let message = format!(
                "\"{}\" is not one of error, warn, info, debug, trace",
                self.log.level
            );
            return Err(value("log.level", message));
        }
        Ok(())
    }

    fn check_media(&self) -> Result<(), ConfigError> {
        if self.media.interfaces.is_empty() {
            return Err(value(
                "media.interfaces",
                "is empty; name at least one [[media.interfaces]]".into(),
            ));
        }
        for (index, interface) in self.media.interfaces.iter().enumerate() {
            let key = |field: &str| format!("media.interfaces[{index}].{field}");
            if self.media.interfaces[..index]
                .iter()
                .any(|other| other.name == interface.name)
            {
                return Err(value(
                    &key("name"),
                    format!("\"{}\" is used twice", interface.name),
                ));
            }
            interface
                .check()
                .map_err(|(field, message)| value(&key(field), message))?;
        }
        Ok(())
    }

    fn check_prompts(&self) -> Result<(), ConfigError> {
        let prompts = &self.media.prompts;
        if prompts.as_os_str().is_empty() || prompts.is_dir() {
            return Ok(());
        }
        let message = format!("{} is no directory; make it, or name another", prompts.display());
        Err(value("media.prompts", message))
    }

    fn check_recordings(&self) -> Result<(), ConfigError> {
        let Recordings {
            directory,
            sample_rate_hz,
            duration_ms_max,
            size_bytes_max,
            ..
        } = &self.recordings;
        if !directory.as_os_str().is_empty() && !directory.is_dir() {
            let message = format!(
                "{} is no directory; make it, or name another",
                directory.display()
            );
            return Err(value("recordings.directory", message));
        }
        if ![8_000, 16_000, 48_000].contains(sample_rate_hz) {
            let message = format!("{sample_rate_hz} must be 8000, 16000 or 48000");
            return Err(value("recordings.sample_rate_hz", message));
        }
        if let Err(message) = self.recordings.recipients() {
            let message = message.trim_start_matches("recordings.recipients: ").to_owned();
            return Err(value("recordings.recipients", message));
        }
        within(
            "recordings.duration_ms_max",
            *duration_ms_max,
            1_000,
            7 * 86_400_000,
        )?;
        within("recordings.size_bytes_max", *size_bytes_max, 100_000, 1 << 40)
    }

    fn check_load(&self) -> Result<(), ConfigError> {
        let busy = u64::from(self.limits.busy_percent_max);
        within("limits.busy_percent_max", busy, 1, 100)?;
        within("limits.late_ms_max", self.limits.late_ms_max, 0, 10_000)
    }

    fn check_opus(&self) -> Result<(), ConfigError> {
        let Opus {
            complexity,
            complexity_min,
        } = self.opus;
        within("opus.complexity", complexity.into(), 0, EffortRange::TOP.into())?;
        if complexity_min > complexity {
            let message = format!(
                "{complexity_min} is above opus.complexity ({complexity}), which load lowers; give at most that, or the \
                 same for an effort that load does not change"
            );
            return Err(value("opus.complexity_min", message));
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        within("media.quarantine_ms", self.media.quarantine_ms, 0, 3_600_000)?;
        within("media.scout_ms", self.media.scout_ms, 0, 10_000)?;
        within(
            "workers.count",
            self.workers.count as u64,
            0,
            limits::WORKERS_MAX as u64,
        )?;
        within(
            "workers.realtime_priority",
            u64::from(self.workers.realtime_priority),
            0,
            99,
        )?;
        within(
            "limits.sessions_max",
            u64::from(self.limits.sessions_max),
            1,
            1_000_000,
        )?;
        within("limits.mailbox", self.limits.mailbox as u64, 1, 1 << 20)?;
        within("limits.requests", self.limits.requests as u64, 1, 1 << 20)?;
        within("limits.connections", self.limits.connections as u64, 1, 65_536)?;
        within(
            "limits.streams_per_connection",
            u64::from(self.limits.streams_per_connection),
            1,
            65_536,
        )?;
        within("limits.watchers", self.limits.watchers as u64, 1, 65_536)?;
        within("events.ring_seconds", self.events.ring_seconds, 1, 3_600)?;
        within(
            "sessions.lease_ms",
            u64::from(self.sessions.lease_ms),
            100,
            86_400_000,
        )?;
        within(
            "sessions.media_timeout_ms",
            u64::from(self.sessions.media_timeout_ms),
            100,
            86_400_000,
        )?;
        within(
            "sessions.orphan_ms_max",
            u64::from(self.sessions.orphan_ms_max),
            100,
            7 * 86_400_000,
        )?;
        within(
            "sessions.relearn_after_ms",
            u64::from(self.sessions.relearn_after_ms),
            100,
            3_600_000,
        )?;
        let cpus = self.workers.cpus.len();
        if cpus > 0 && self.workers.count > 0 && cpus != self.workers.count {
            let message = format!(
                "names {cpus} CPUs, workers.count is {}; make them agree",
                self.workers.count
            );
            return Err(value("workers.cpus", message));
        }
        Ok(())
    }
}

impl Interface {
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.name.is_empty() || self.name.len() > 64 {
            return Err(("name", format!("\"{}\" must have 1 to 64 bytes", self.name)));
        }
        if self.addresses.is_empty() {
            return Err((
                "addresses",
                "is empty; give the addresses to bind, without port".into(),
            ));
        }
        if let Some(any) = self
            .addresses
            .iter()
            .find(|a| a.is_unspecified() || a.is_multicast())
        {
            let message = format!("{any} cannot be told to a peer; give the machine's own address");
            return Err(("addresses", message));
        }
        if !self.advertise.is_empty() && self.advertise.len() != self.addresses.len() {
            let message = format!(
                "has {} entries, addresses has {}; give one for each address, or none",
                self.advertise.len(),
                self.addresses.len()
            );
            return Err(("advertise", message));
        }
        if self.port_min < 1024 || self.port_min >= self.port_max {
            let message = format!(
                "{} must be at least 1024 and below port_max ({})",
                self.port_min, self.port_max
            );
            return Err(("port_min", message));
        }
        if self.dscp > 63 {
            return Err(("dscp", format!("{} is not 0 to 63", self.dscp)));
        }
        Ok(())
    }
}

/// Sets one key in the table and types the whole again.
fn overlay(table: &mut toml::Table, one: &Override) -> Result<Config, ConfigError> {
    let wrong = |message: String| ConfigError::Override {
        place: one.place.clone(),
        message,
    };
    let mut parts: Vec<&str> = one.key.split('.').collect();
    let last = parts
        .pop()
        .filter(|last| !last.is_empty())
        .ok_or_else(|| wrong("names no key".into()))?;
    if parts.is_empty() {
        return Err(wrong(format!(
            "`{last}` is not a key; keys are section.key, such as io.backend"
        )));
    }
    let mut at = &mut *table;
    for part in parts {
        let entry = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = entry
            .as_table_mut()
            .ok_or_else(|| wrong(format!("`{part}` is not a section")))?;
    }
    at.insert(last.to_owned(), one.toml());
    Config::deserialize(table.clone()).map_err(|error| wrong(error.message().to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Override {
        Override::parse_flag(text).unwrap()
    }

    fn refusal(overrides: &[&str]) -> String {
        let overrides: Vec<_> = overrides.iter().map(|text| set(text)).collect();
        Config::load(None, &overrides).unwrap_err().to_string()
    }

    #[test]
    fn the_sample_documents_every_default() {
        let sample = include_str!("../mediad.toml");
        // Every line that is a setting stands commented out as `#key = value` or `#[section]`; prose as `# …`.
        let settings: String = sample
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or("")
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut documented: Config = toml::from_str(&settings).unwrap();
        assert!(
            documented.control.tls.take().is_some(),
            "the sample shows the TLS section"
        );
        assert_eq!(documented, Config::default());
        let documented: toml::Table = settings.parse().unwrap();
        for key in leaves(&toml::Table::try_from(Config::default()).unwrap()) {
            assert!(
                leaves(&documented).contains(&key),
                "{key} is missing from the sample"
            );
        }
    }

    fn leaves(table: &toml::Table) -> Vec<String> {
        let inner = |key: &str, value: &toml::Value| match value {
            toml::Value::Table(table) => leaves(table),
            toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => items
                .iter()
                .filter_map(toml::Value::as_table)
                .flat_map(leaves)
                .collect(),
            _ => vec![key.to_owned()],
        };
        let join = |key: &String, leaf: String| {
            if *key == leaf {
                leaf
            } else {
                format!("{key}.{leaf}")
            }
        };
        table
            .iter()
            .flat_map(|(key, value)| inner(key, value).into_iter().map(move |leaf| join(key, leaf)))
            .collect()
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let file = std::env::temp_dir().join(format!("mediad-config-{}.toml", std::process::id()));
        fs::write(
            &file,
            "[io]\nlatency_budget_us = 100\nbackend = \"mmsg\"\n[workers]\ncount = 3\n",
        )
        .unwrap();
        let env = Override::parse_env("MEDIAD_IO__LATENCY_BUDGET_US", "200").unwrap();
        let config = Config::load(Some(&file), &[env.clone(), set("io.latency_budget_us=300")]).unwrap();
        assert_eq!((config.io.latency_budget_us, config.workers.count), (300, 3));
        assert_eq!(config.io.backend, IoBackend::Mmsg);
        assert_eq!(
            Config::load(Some(&file), &[env]).unwrap().io.latency_budget_us,
            200
        );
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn an_unknown_key_in_the_file_is_named_with_its_line() {
        let file = std::env::temp_dir().join(format!("mediad-unknown-{}.toml", std::process::id()));
        fs::write(&file, "[io]\nbackend = \"mmsg\"\nlatency = 5\n").unwrap();
        let message = Config::load(Some(&file), &[]).unwrap_err().to_string();
        fs::remove_file(&file).unwrap();
        for part in ["latency", "line 3", "mediad-unknown-"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn overrides_are_typed_and_named() {
        let config = Config::load(
            None,
            &[
                set("control.listen=127.0.0.1:0"),
                set("workers.cpus=[1]"),
                set("log.level=debug"),
            ],
        );
        let config = config.unwrap();
        assert_eq!(
            (config.control.listen.port(), &config.workers.cpus[..]),
            (0, &[1][..])
        );
        assert!(refusal(&["io.latency=1"]).contains("--set io.latency=1: unknown field `latency`"));
        assert!(refusal(&["io.backend=kqueue"]).contains("kqueue"));
        assert!(refusal(&["backend=mmsg"]).contains("section.key"));
        assert!(Override::parse_flag("io.backend").is_err());
        assert!(Override::parse_env("MEDIAD_CONFIG", "x").is_none());
        assert!(Override::parse_env("PATH", "x").is_none());
    }

    #[test]
    fn values_that_cannot_work_name_their_remedy() {
        assert!(refusal(&["control.listen=0.0.0.0:8700"]).contains("control.tls.cert"));
        assert!(refusal(&["recordings.directory=/no/such/place"]).contains("/no/such/place is no directory"));
        let secret = refusal(&["recordings.recipients=['AGE-SECRET-KEY-1QYQSZQGP']"]);
        assert!(secret.contains("recordings.recipients: number 1 (AGE-SECRET-K…) is a private key"));
        assert!(!secret.contains("QYQSZ"), "{secret}");
        let wrong = refusal(&["recordings.recipients=['age1qqq']"]);
        assert!(
            wrong.contains("(age1qqq…) is no age recipient; give a public key"),
            "{wrong}"
        );
        assert!(refusal(&["recordings.sample_rate_hz=44100"]).contains("must be 8000, 16000 or 48000"));
        assert!(refusal(&["media.prompts=/no/such/place"]).contains("/no/such/place is no directory"));
        assert!(refusal(&["media.interfaces=[]"]).contains("[[media.interfaces]]"));
        let two = "media.interfaces=[{name='a'}, {name='a'}]";
        assert!(refusal(&[two]).contains("media.interfaces[1].name: \"a\" is used twice"));
        assert!(
            refusal(&["media.interfaces=[{addresses=['0.0.0.0']}]"]).contains("cannot be told to a peer")
        );
        assert!(
            refusal(&["media.interfaces=[{port_min=9000,port_max=8000}]"]).contains("below port_max (8000)")
        );
        assert!(refusal(&["media.interfaces=[{dscp=64}]"]).contains("dscp"));
        assert!(refusal(&["io.latency_budget_us=9000"]).contains("latency_budget_us is 9000"));
        assert!(refusal(&["workers.count=2", "workers.cpus=[0]"]).contains("make them agree"));
        assert!(refusal(&["log.level=loud"]).contains("loud"));
        assert!(refusal(&["opus.complexity=11"]).contains("opus.complexity: 11"));
        let above = refusal(&["opus.complexity=3", "opus.complexity_min=4"]);
        assert!(
            above.contains("opus.complexity_min: 4 is above opus.complexity (3)"),
            "{above}"
        );
    }
}
