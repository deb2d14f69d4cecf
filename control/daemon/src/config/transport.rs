//! The settings of sockets, certificates, name servers, and what one source may do.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;

use super::{ConfigError, value, within};

/// The SIP listeners and who we are on them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Signalling {
    pub(crate) domains: Vec<String>,
    pub(crate) realm: String,
    pub(crate) digest: Vec<String>,
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
            exempt: vec![
                Network(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
                Network(std::net::Ipv6Addr::LOCALHOST.into(), 128),
            ],
        }
    }
}

impl Sources {
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

/// Addresses with a common beginning: `192.0.2.0/24`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Network(pub(crate) IpAddr, pub(crate) u8);

impl Network {
    /// True when the address is one of them.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip.to_canonical() {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, true),
            IpAddr::V6(ip) => (ip.to_bits(), false),
        };
        let ((own, own_family), (other, family)) = (bits(self.0), bits(ip));
        let differing = (own ^ other).leading_zeros();
        own_family == family && differing >= u32::from(self.1)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (&*text, None),
        };
        let wrong = || format!("\"{text}\" is no network; write 192.0.2.0/24, 2001:db8::/32 or an address");
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|prefix| *prefix <= most)
                .ok_or_else(wrong)?,
            None => most,
        };
        Ok(Self(ip, prefix))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_and_nobody_else() {
        let network = |text: &str| Network::try_from(text.to_owned());
        let holds = |net: &str, ip: &str| network(net).unwrap().contains(ip.parse().unwrap());
        assert!(holds("192.0.2.0/24", "192.0.2.200") && !holds("192.0.2.0/24", "192.0.3.1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("0.0.0.0/0", "203.0.113.1") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:7::1") && holds("127.0.0.0/8", "::ffff:127.0.0.1"));
        for wrong in ["192.0.2.0/33", "host", "192.0.2.0/-1", ""] {
            assert!(network(wrong).unwrap_err().contains("is no network"), "{wrong}");
        }
    }
}
