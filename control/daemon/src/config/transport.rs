//! The settings of sockets, certificates, name servers, and what one source may do.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use call_control::trunk::{Network, Trunk};
use serde::Deserialize;

use super::{ConfigError, value, within};

/// The SIP listeners and who we are on them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Signalling {
    pub(crate) domains: Vec<String>,
    pub(crate) realm: String,
    pub(crate) digest: Vec<String>,
    pub(crate) digest_any_uri: bool,
    pub(crate) udp: Vec<SocketAddr>,
    pub(crate) tcp: Vec<SocketAddr>,
    pub(crate) tls: Vec<SocketAddr>,
    pub(crate) ws: Vec<SocketAddr>,
    pub(crate) wss: Vec<SocketAddr>,
    pub(crate) advertise: Option<IpAddr>,
    pub(crate) owner_token: String,
    pub(crate) trusted: Vec<IpAddr>,
    pub(crate) allow_anonymous_calls: bool,
    pub(crate) tcp_connections: usize,
    pub(crate) tcp_connections_per_source: usize,
    pub(crate) tcp_message_s: u64,
    pub(crate) tcp_idle_s: u64,
    pub(crate) keepalive_s: u64,
}

impl Default for Signalling {
    fn default() -> Self {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060));
        Self {
            domains: vec!["127.0.0.1".into()],
            realm: String::new(),
            digest: call_control::Config::default().digest,
            digest_any_uri: false,
            udp: vec![any],
            tcp: vec![any],
            tls: Vec::new(),
            ws: Vec::new(),
            wss: Vec::new(),
            advertise: None,
            owner_token: String::new(),
            trusted: Vec::new(),
            allow_anonymous_calls: false,
            tcp_connections: 10_000,
            tcp_connections_per_source: 1_000,
            tcp_message_s: 30,
            tcp_idle_s: 900,
            keepalive_s: 30,
        }
    }
}

impl Signalling {
    /// How long a connection may stay silent.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.tcp_idle_s)
    }

    /// How long a connection may take to give its first message, and each one that it has begun.
    pub(crate) fn message_timeout(&self) -> Duration {
        Duration::from_secs(self.tcp_message_s)
    }

    /// How often we show a silent peer that we are there.
    pub(crate) fn keepalive(&self) -> Duration {
        Duration::from_secs(self.keepalive_s)
    }

    pub(super) fn check(&self, tls: &Tls) -> Result<(), ConfigError> {
        within("signalling.tcp_message_s", self.tcp_message_s, 1, 3_600)?;
        within("signalling.tcp_idle_s", self.tcp_idle_s, 1, 86_400)?;
        within("signalling.keepalive_s", self.keepalive_s, 1, 3_600)?;
        within(
            "signalling.tcp_connections",
            self.tcp_connections as u64,
            1,
            1_000_000,
        )?;
        within(
            "signalling.tcp_connections_per_source",
            self.tcp_connections_per_source as u64,
            1,
            1_000_000,
        )?;
        for (key, listeners) in [("signalling.tls", &self.tls), ("signalling.wss", &self.wss)] {
            if let (Some(listener), true) = (listeners.first(), tls.certificates.is_empty()) {
                let message =
                    format!("{listener} needs a certificate; add [[tls.certificates]] with cert and key");
                return Err(value(key, message));
            }
        }
        Ok(())
    }
}

/// Certificates of the TLS and WSS listeners, and whom we believe; PEM files.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) certificates: Vec<CertificateFiles>,
    pub(crate) client_certificates: ClientCertificates,
    pub(crate) client_ca: PathBuf,
    pub(crate) ca: PathBuf,
}

/// A certificate with its chain, and its key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Whether those who connect to us must show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientCertificates {
    /// Not asked for.
    #[default]
    None,
    /// Asked for; one that is shown must be good.
    Optional,
    /// Nobody comes in without.
    Required,
}

/// Which WebSocket handshakes are taken.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Websocket {
    pub(crate) paths: Vec<String>,
    pub(crate) origins: Vec<String>,
}

/// What one source may do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sources {
    pub(crate) messages_per_s: u32,
    pub(crate) messages_burst: u32,
    pub(crate) failures_max: u32,
    pub(crate) failures_within_s: u64,
    pub(crate) silence_s: u64,
    pub(crate) scanners: Vec<String>,
    pub(crate) exempt: Vec<Network>,
}

fn network(text: &str) -> Network {
    Network::try_from(text.to_owned()).expect("it is one")
}

impl Default for Sources {
    fn default() -> Self {
        let scanners = [
            "friendly-scanner",
            "friendly-request",
            "sipvicious",
            "sipcli",
            "sip-scan",
            "sundayddr",
            "iWar",
            "pplsip",
        ];
        Self {
            messages_per_s: 1_000,
            messages_burst: 5_000,
            failures_max: 10,
            failures_within_s: 60,
            silence_s: 600,
            scanners: scanners.map(str::to_owned).to_vec(),
            exempt: ["127.0.0.0/8", "::1/128"].map(network).to_vec(),
        }
    }
}

impl Sources {
    /// These trunks are known by where they send from, so they are exempt too: whoever can write a sender's address on a
    /// datagram could have a carrier silenced.
    pub(crate) fn but_for(&self, trunks: &[Trunk]) -> Self {
        let mut sources = self.clone();
        sources
            .exempt
            .extend(trunks.iter().flat_map(|trunk| &trunk.sources));
        sources
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("sources.silence_s", self.silence_s, 1, 7 * 86_400)?;
        within("sources.failures_within_s", self.failures_within_s, 1, 86_400)?;
        let burst = u64::from(self.messages_burst);
        within(
            "sources.messages_burst",
            burst,
            self.messages_per_s.into(),
            10_000_000,
        )?;
        if self.scanners.iter().any(|name| name.len() < 4) {
            let message = "holds a name of less than 4 characters, which phones could have too; write it out";
            return Err(value("sources.scanners", message.into()));
        }
        Ok(())
    }
}

/// Name servers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Dns {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) timeout_ms: u64,
    pub(crate) attempts: usize,
    pub(crate) avoid_s: u64,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout_ms: 2_000,
            attempts: 2,
            avoid_s: 30,
        }
    }
}

impl Dns {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("dns.timeout_ms", self.timeout_ms, 10, 10_000)?;
        within("dns.attempts", self.attempts as u64, 1, 10)
    }
}
