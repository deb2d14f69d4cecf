//! Whether the audio of a party is encrypted: SRTP with keys that go in descriptions (RFC 4568).
//!
//! Whoever reads the signalling reads the keys. So we never offer keys of ours on a hop that is not encrypted itself,
//! and answer with them there only when the other side gave its own the same way.

use std::{collections::BTreeMap, fmt};

use proto::mediad::v1 as pb;
use sdp::{Capabilities, Codec, CodecOrder, CryptoSuite};
use serde::{Deserialize, Serialize};
use sip::{
    stack::{Hop, Transport},
    uri::Uri,
};

use crate::{
    config::{Config, ConfigError, invalid},
    trunk::Trunk,
};

/// Whether audio is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// Never. Who offers nothing else is refused.
    Off,
    /// When the other side can. The default: phones that encrypt are served without a setting, and none that does not
    /// is turned away.
    #[default]
    Optional,
    /// Always. Who cannot is refused.
    Required,
}

impl fmt::Display for Srtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

/// What that means for one party, reached the way it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(crate) struct Security {
    pub(crate) srtp: Srtp,
    /// Nobody on the way reads our keys.
    pub(crate) keys_are_safe: bool,
}

impl Security {
    /// Keys are to be exchanged, and everybody on the way would read them.
    pub(crate) fn is_in_vain(self) -> bool {
        self.srtp == Srtp::Required && !self.keys_are_safe
    }

    /// An offer of ours has keys.
    fn offers_keys(self) -> bool {
        self.srtp != Srtp::Off && self.keys_are_safe
    }
}

/// The settings, for every party.
#[derive(Debug, Clone)]
pub(crate) struct SecurityPolicy {
    srtp: Srtp,
    accounts: BTreeMap<String, Srtp>,
    suites: Vec<CryptoSuite>,
    in_clear: bool,
}

impl SecurityPolicy {
    pub(crate) fn new(config: &Config) -> Self {
        let accounts = config.accounts.iter();
        let suites = config.media.srtp_suites.iter();
        Self {
            srtp: config.media.srtp,
            accounts: accounts
                .filter_map(|account| Some((account.user.clone(), account.srtp?)))
                .collect(),
            suites: suites.filter_map(|name| suite_named(name)).collect(),
            in_clear: config.media.srtp_keys_in_clear,
        }
    }

    /// For a party: what its trunk says, else its account, else all. `is_safe`: its signalling is encrypted.
    pub(crate) fn of(&self, trunk: Option<&Trunk>, user: Option<&str>, is_safe: bool) -> Security {
        let of_account = user.and_then(|user| self.accounts.get(user).copied());
        Security {
            srtp: trunk
                .and_then(|trunk| trunk.srtp)
                .or(of_account)
                .unwrap_or(self.srtp),
            keys_are_safe: is_safe || self.in_clear,
        }
    }

    /// Suites that a first offer to a party has keys for.
    pub(crate) fn offered(&self, security: Security) -> &[CryptoSuite] {
        if security.offers_keys() { &self.suites } else { &[] }
    }

    /// Suites that a further offer has keys for, to a party that it may have exchanged keys with before.
    pub(crate) fn offered_again(&self, security: Security, is_encrypted: bool) -> &[CryptoSuite] {
        if is_encrypted {
            &self.suites
        } else {
            self.offered(security)
        }
    }

    /// What our media hosts can do for a party, in our order of codecs.
    pub(crate) fn capabilities(&self, codecs: Vec<Codec>, security: Security) -> Capabilities {
        let takes_keys = security.srtp != Srtp::Off;
        Capabilities {
            order: CodecOrder::Ours,
            sdes: if takes_keys {
                self.suites.clone()
            } else {
                Vec::new()
            },
            dtls: false,
            rtcp_mux: false,
            opportunistic: takes_keys,
            plain: security.srtp != Srtp::Required,
            ..Capabilities::new(codecs)
        }
    }
}

/// Every suite, preferred first. GCM first: it is stronger and costs a host with AES instructions less. The one with
/// the short tag last: a forgery passes once in 2^32.
pub(crate) const SUITES: [CryptoSuite; 5] = [
    CryptoSuite::AeadAes256Gcm,
    CryptoSuite::AeadAes128Gcm,
    CryptoSuite::AesCm256HmacSha1_80,
    CryptoSuite::AesCm128HmacSha1_80,
    CryptoSuite::AesCm128HmacSha1_32,
];

fn suite_named(name: &str) -> Option<CryptoSuite> {
    CryptoSuite::from_name(name).filter(|suite| SUITES.contains(suite))
}

/// The media hosts' name of a suite; `None` when they do not have it.
pub(crate) fn to_wire(suite: CryptoSuite) -> Option<pb::SrtpSuite> {
    match suite {
        CryptoSuite::AesCm128HmacSha1_80 => Some(pb::SrtpSuite::AesCm128HmacSha180),
        CryptoSuite::AesCm128HmacSha1_32 => Some(pb::SrtpSuite::AesCm128HmacSha132),
        CryptoSuite::AesCm256HmacSha1_80 => Some(pb::SrtpSuite::Aes256CmHmacSha180),
        CryptoSuite::AeadAes128Gcm => Some(pb::SrtpSuite::AeadAes128Gcm),
        CryptoSuite::AeadAes256Gcm => Some(pb::SrtpSuite::AeadAes256Gcm),
        CryptoSuite::F8_128HmacSha1_80
        | CryptoSuite::AesCm192HmacSha1_80
        | CryptoSuite::AesCm192HmacSha1_32
        | CryptoSuite::AesCm256HmacSha1_32
        | CryptoSuite::SeedCtr128HmacSha1_80
        | CryptoSuite::Seed128Ccm80
        | CryptoSuite::Seed128Gcm96 => None,
    }
}

/// As [`to_wire`], read.
pub(crate) fn from_wire(suite: pb::SrtpSuite) -> Option<CryptoSuite> {
    SUITES.into_iter().find(|own| to_wire(*own) == Some(suite))
}

/// Nobody between us and the next hop can read what is sent there.
pub(crate) fn is_safe(transport: Transport) -> bool {
    matches!(transport, Transport::Tls | Transport::Wss)
}

/// As [`is_safe`], for a hop that may be a name yet.
pub(crate) fn is_safe_hop(hop: &Hop) -> bool {
    match hop {
        Hop::Target(target) => is_safe(target.transport()),
        Hop::Name(name) => name.secure || name.transport.is_some_and(is_safe),
    }
}

/// As [`is_safe`], for an address that requests go to.
pub(crate) fn is_safe_uri(uri: &Uri) -> bool {
    Hop::of_uri(uri).is_some_and(|hop| is_safe_hop(&hop))
}

/// Mistakes in the settings: what must be encrypted must have a way for its keys.
pub(crate) fn check(config: &Config) -> Result<(), ConfigError> {
    let media = &config.media;
    if let Some(name) = media.srtp_suites.iter().find(|name| suite_named(name).is_none()) {
        let (problem, remedy) = (
            "unknown suite, or one that media hosts do not have",
            "use AEAD_AES_256_GCM, AEAD_AES_128_GCM, AES_256_CM_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_80 or AES_CM_128_HMAC_SHA1_32",
        );
        return Err(invalid("media.srtp_suites", name, problem, remedy));
    }
    if media.srtp_suites.is_empty() {
        return Err(ConfigError::Empty {
            key: "media.srtp_suites",
            remedy: "name at least AES_CM_128_HMAC_SHA1_80, or set media.srtp = \"off\"",
        });
    }
    if media.srtp_keys_in_clear {
        return Ok(());
    }
    let problem = "the keys would go in clear";
    let has_tls = config
        .listeners
        .iter()
        .any(|listener| is_safe(listener.transport));
    let all = std::iter::once(("media.srtp".to_owned(), Some(media.srtp)));
    let accounts = config.accounts.iter();
    let accounts = accounts.map(|account| (format!("accounts.{}.srtp", account.user), account.srtp));
    let required = all
        .chain(accounts)
        .find(|(_, srtp)| *srtp == Some(Srtp::Required));
    if let Some((key, _)) = required.filter(|_| !has_tls) {
        let remedy = "add a TLS or WSS listener; or, behind a proxy that ends TLS, set media.srtp_keys_in_clear = true";
        return Err(invalid(&key, "required", problem, remedy));
    }
    for trunk in &config.trunks {
        let clear = trunk.targets.iter().find(|target| !is_safe_uri(&target.uri));
        let is_required = trunk.srtp.unwrap_or(media.srtp) == Srtp::Required;
        if let Some(target) = clear.filter(|_| is_required) {
            let key = format!("trunks.{}.targets", trunk.name);
            let value = String::from_utf8_lossy(target.uri.as_bytes()).into_owned();
            let remedy = "append ;transport=tls, or set srtp = \"optional\" for this trunk; over a network that you trust, set media.srtp_keys_in_clear = true";
            return Err(invalid(&key, &value, problem, remedy));
        }
    }
    Ok(())
}

/// What is allowed and should not stay unseen.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let accounts = config.accounts.iter().filter_map(|account| account.srtp);
    let trunks = config.trunks.iter().filter_map(|trunk| trunk.srtp);
    let mut all = std::iter::once(config.media.srtp).chain(accounts).chain(trunks);
    let has_keys = all.any(|srtp| srtp != Srtp::Off);
    let mut listeners = config.listeners.iter();
    let clear = listeners.find(|listener| !is_safe(listener.transport));
    let Some(clear) = clear.filter(|_| has_keys && config.media.srtp_keys_in_clear) else {
        return Vec::new();
    };
    let (transport, local) = (clear.transport.uri_token(), clear.local);
    vec![format!(
        "media.srtp_keys_in_clear: SRTP keys go over {transport} at {local} too, where everybody on the way reads them; \
         set it to false unless a proxy in front of us speaks TLS to phones",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> SecurityPolicy {
        SecurityPolicy::new(&toml::from_str(text).unwrap())
    }

    #[test]
    fn a_trunk_goes_before_its_account_and_that_before_all() {
        let policy = policy(
            "media.srtp = \"off\"\naccounts = [{ user = \"a\", password = \"x\", srtp = \"required\" }]",
        );
        let trunk: Trunk = toml::from_str("name = \"t\"\nsrtp = \"optional\"").unwrap();
        let silent: Trunk = toml::from_str("name = \"t\"").unwrap();
        let of = |trunk, user| policy.of(trunk, user, false).srtp;
        assert_eq!(of(None, None), Srtp::Off);
        assert_eq!(of(None, Some("a")), Srtp::Required);
        assert_eq!(of(None, Some("b")), Srtp::Off);
        assert_eq!(of(Some(&trunk), Some("a")), Srtp::Optional);
        assert_eq!(of(Some(&silent), Some("a")), Srtp::Required);
    }

    #[test]
    fn keys_of_ours_are_offered_where_nobody_reads_them() {
        let offered = |text: &str, is_safe| {
            let policy = policy(text);
            policy.offered(policy.of(None, None, is_safe)).len()
        };
        assert_eq!(offered("", true), 5);
        assert_eq!(offered("", false), 0);
        assert_eq!(offered("media.srtp_keys_in_clear = true", false), 5);
        assert_eq!(offered("media.srtp = \"off\"", true), 0);
        assert_eq!(
            offered("media.srtp_suites = [\"aes_cm_128_hmac_sha1_80\"]", true),
            1
        );
    }

    #[test]
    fn keys_that_everybody_reads_are_refused_or_warned_of() {
        let base = "domains = [\"a\"]\nmedia.hosts = [{ name = \"m\", address = \"http://127.0.0.1:7\" }]\n";
        let config = |more: &str| -> Config { toml::from_str(&format!("{base}{more}")).unwrap() };
        let udp = "listeners = [{ transport = \"udp\", local = \"127.0.0.1:5060\" }]\n";
        let both = "listeners = [{ transport = \"udp\", local = \"127.0.0.1:5060\" }, { transport = \"tls\", local = \"127.0.0.1:5061\" }]\n";
        let refusal = |more: String| config(&more).check().unwrap_err().to_string();
        assert!(refusal(format!("{udp}media.srtp = \"required\"")).contains("add a TLS or WSS listener"));
        let account = "accounts = [{ user = \"a\", password = \"x\", srtp = \"required\" }]";
        assert!(refusal(format!("{udp}{account}")).starts_with("accounts.a.srtp = \"required\""));
        let trunk =
            "trunks = [{ name = \"t\", srtp = \"required\", targets = [{ uri = \"sip:192.0.2.1\" }] }]";
        assert!(refusal(format!("{both}{trunk}")).starts_with("trunks.t.targets = \"sip:192.0.2.1\""));
        assert!(
            refusal("media.srtp_suites = [\"F8_128_HMAC_SHA1_80\"]\n".to_owned() + udp).contains("F8_128")
        );
        assert!(refusal("media.srtp_suites = []\n".to_owned() + udp).contains("media.srtp_suites is empty"));

        let fine = config(&format!("{both}media.srtp = \"required\""));
        assert_eq!((fine.check(), fine.warnings()), (Ok(()), Vec::new()));
        let safe = trunk.replace("192.0.2.1", "192.0.2.1;transport=tls");
        assert_eq!(config(&format!("{both}{safe}")).check(), Ok(()));
        let allowed = config(&format!(
            "{udp}media.srtp = \"required\"\nmedia.srtp_keys_in_clear = true"
        ));
        assert_eq!(allowed.check(), Ok(()));
        assert!(allowed.warnings()[0].contains("udp at 127.0.0.1:5060"));
        let off = config(&format!(
            "{udp}media.srtp = \"off\"\nmedia.srtp_keys_in_clear = true"
        ));
        assert_eq!(off.warnings(), Vec::<String>::new());
    }
}
