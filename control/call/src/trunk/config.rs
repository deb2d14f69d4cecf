//! Settings of trunks and of the dialplan.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bytes::Bytes;
use serde::Deserialize;
use sip::{
    message::{Header, HeaderName},
    stack::Hop,
    uri::Uri,
};

use super::numbers::{Pattern, Rewrite};
use crate::{
    config::{ConfigError, invalid},
    security::Srtp,
};

/// Another network that calls come from and go to: a carrier, a PBX, a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// Its name here.
    pub name: String,
    /// Where its calls go. May be empty for one that only calls us.
    #[serde(default)]
    pub targets: Vec<Destination>,
    /// Our name towards it, when it asks for a password, and for REGISTER.
    #[serde(default)]
    pub username: String,
    /// The password.
    #[serde(default)]
    pub password: String,
    /// Host part of the addresses we write towards it. Empty (default): the host of the target.
    #[serde(default)]
    pub domain: String,
    /// Register there, for this long, in seconds; 0 (default): do not.
    #[serde(default)]
    pub register_s: u32,
    /// Where its calls come from: addresses, or networks such as `192.0.2.0/24`. They are not challenged.
    #[serde(default)]
    pub sources: Vec<Network>,
    /// The account of ours by whose password its calls are known, from whatever address. Empty (default): none.
    #[serde(default)]
    pub account: String,
    /// Calls at once, both ways; 0 (default): no limit.
    #[serde(default)]
    pub calls_max: usize,
    /// Calls to it that may begin in a second; 0 (default): no limit.
    #[serde(default)]
    pub tx_calls_per_s: u32,
    /// Calls from it that may begin in a second; 0 (default): no limit.
    #[serde(default)]
    pub rx_calls_per_s: u32,
    /// A target that says nothing for this long, in seconds, is passed over for the next. Default 4.
    #[serde(default = "setup_timeout_s")]
    pub setup_timeout_s: u64,
    /// Its phones ring for this long, in seconds. Default 120.
    #[serde(default = "ring_timeout_s")]
    pub ring_timeout_s: u64,
    /// Ask each target by OPTIONS this often whether it is there, in seconds; 0: never. Default 30.
    #[serde(default = "probe_s")]
    pub probe_s: u64,
    /// How called numbers are written towards it.
    #[serde(default)]
    pub tx_called: Vec<Rewrite>,
    /// How callers' numbers are written towards it.
    #[serde(default)]
    pub tx_caller: Vec<Rewrite>,
    /// What its called numbers are here: an account, a queue, or what the dialplan knows.
    #[serde(default)]
    pub rx_called: Vec<Rewrite>,
    /// What its callers' numbers are here.
    #[serde(default)]
    pub rx_caller: Vec<Rewrite>,
    /// Calls from it may go out again over other trunks. Default: no, so that nobody calls abroad at our cost.
    #[serde(default)]
    pub transit: bool,
    /// Header fields of calls to it.
    #[serde(default)]
    pub headers: HeaderRules,
    /// What is told of the caller.
    #[serde(default)]
    pub identity: Identity,
    /// Codecs spoken with it, preferred first. Empty (default): `media.codecs`.
    #[serde(default)]
    pub codecs: Vec<String>,
    /// Whether audio is encrypted. Default: as `media.srtp` says.
    #[serde(default)]
    pub srtp: Option<Srtp>,
}

fn setup_timeout_s() -> u64 {
    4
}
fn ring_timeout_s() -> u64 {
    120
}
fn probe_s() -> u64 {
    30
}

/// One way to a trunk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Such as `sip:192.0.2.10:5060;transport=tcp`, or with a name that is looked up (RFC 3263).
    #[serde(deserialize_with = "uri")]
    pub uri: Uri,
    /// Smaller ones first; of equal ones the one with fewer calls. Default 0.
    #[serde(default)]
    pub priority: u16,
}

/// Header fields of calls to a trunk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderRules {
    /// Fields of the caller's INVITE that are passed on; a name that ends in `*` stands for all that begin so.
    pub copy: Vec<String>,
    /// Fields that are written, over what was there.
    pub set: BTreeMap<String, String>,
    /// Fields that do not leave. Without `User-Agent` no request of the call says what software this is.
    pub remove: Vec<String>,
}

impl HeaderRules {
    pub(crate) fn hides_software(&self) -> bool {
        let is_it = |name: &String| HeaderName::UserAgent.as_str().eq_ignore_ascii_case(name);
        self.remove.iter().any(is_it)
    }
}

/// What a trunk is told of the caller (RFC 3325, RFC 3323, RFC 5806).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// We assert who calls (P-Asserted-Identity), also when the caller wants to be anonymous to the called. Only
    /// towards networks that are trusted with it.
    pub assert: bool,
    /// What it asserts is believed: its calls have that caller. Otherwise From says who calls.
    pub believe: bool,
    /// A call that came in by another number says so (Diversion).
    pub diversion: bool,
}

/// Whom a dialled number leads to, when it is no account, queue or conference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Numbers it is for.
    pub pattern: Pattern,
    /// Trunks, the first choice first; the next ones when it fails or is full.
    pub trunks: Vec<String>,
    /// Routes with a smaller number go first; of equal ones the pattern that says more. Default 0.
    #[serde(default)]
    pub priority: u16,
    /// Only these accounts may use it. Empty (default): all.
    #[serde(default)]
    pub accounts: Vec<String>,
}

/// What dialled numbers mean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dialplan {
    /// How what is dialled here is changed before anything looks at it: short codes, national numbers to E.164.
    pub rewrite: Vec<Rewrite>,
    /// Where numbers lead.
    pub routes: Vec<Route>,
    /// Calls that may begin in a second, whoever calls; 0 (default): no limit. More get 503 with Retry-After.
    pub calls_per_s: u32,
}

/// An address, or all that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Holds this address.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.bits);
                let kept = |address: u32| address.checked_shr(shift).unwrap_or(0);
                kept(own.to_bits()) == kept(other.to_bits())
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.bits);
                let kept = |address: u128| address.checked_shr(shift).unwrap_or(0);
                kept(own.to_bits()) == kept(other.to_bits())
            }
            _ => false,
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address or network; write 192.0.2.1 or 192.0.2.0/24");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.as_str(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(wrong)?,
            None => most,
        };
        Ok(Self { address, bits })
    }
}

fn uri<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Uri, D::Error> {
    let text = String::deserialize(from)?;
    let uri = Uri::parse(Bytes::from(text.clone())).ok().filter(Uri::is_sip);
    uri.filter(|uri| uri.host().is_some())
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no SIP URI; write sip:192.0.2.10:5060")))
}

/// Fields that make a dialog or describe a body: no rule may touch them.
const STRUCTURAL: [HeaderName; 12] = [
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::Route,
    HeaderName::RecordRoute,
    HeaderName::MaxForwards,
    HeaderName::ContentType,
    HeaderName::ContentLength,
    HeaderName::Require,
];

pub(crate) fn is_structural(name: &str) -> bool {
    STRUCTURAL
        .iter()
        .any(|structural| structural.as_str().eq_ignore_ascii_case(name))
}

/// Checks trunks and dialplan against each other.
pub(crate) fn check(
    trunks: &[Trunk],
    dialplan: &Dialplan,
    accounts: &BTreeSet<&str>,
) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for trunk in trunks {
        if trunk.name.is_empty() || !names.insert(trunk.name.as_str()) {
            return Err(ConfigError::Twice {
                key: "trunks",
                name: trunk.name.clone(),
            });
        }
        check_trunk(trunk, accounts)?;
        check_headers(trunk)?;
    }
    for route in &dialplan.routes {
        let key = format!("dialplan.routes.{}", route.pattern.text());
        if route.trunks.is_empty() {
            return Err(invalid(&key, "", "leads to no trunk", "give trunks"));
        }
        if let Some(stranger) = route.trunks.iter().find(|name| !names.contains(name.as_str())) {
            return Err(invalid(&key, stranger, "is no trunk", "add it to trunks"));
        }
        let stranger = route
            .accounts
            .iter()
            .find(|name| !accounts.contains(name.as_str()));
        if let Some(stranger) = stranger {
            return Err(invalid(&key, stranger, "is no account", "add it to accounts"));
        }
    }
    Ok(())
}

fn check_trunk(trunk: &Trunk, accounts: &BTreeSet<&str>) -> Result<(), ConfigError> {
    let key = |field: &str| format!("trunks.{}.{field}", trunk.name);
    if trunk.targets.is_empty() && trunk.sources.is_empty() && trunk.account.is_empty() {
        let problem = "calls neither go there nor come from there";
        return Err(invalid(
            &key("targets"),
            "",
            problem,
            "give targets, sources or account",
        ));
    }
    if trunk.register_s > 0 && (trunk.username.is_empty() || trunk.targets.is_empty()) {
        let value = trunk.register_s.to_string();
        let problem = "needs a name and somewhere to register";
        return Err(invalid(
            &key("register_s"),
            &value,
            problem,
            "give username and targets",
        ));
    }
    let lost = trunk
        .targets
        .iter()
        .find(|target| Hop::of_uri(&target.uri).is_none());
    if let Some(lost) = lost {
        let value = String::from_utf8_lossy(lost.uri.as_bytes());
        let remedy = "give an address or a name, such as sip:carrier.example.net";
        return Err(invalid(&key("targets"), &value, "leads nowhere", remedy));
    }
    if !trunk.account.is_empty() && !accounts.contains(trunk.account.as_str()) {
        return Err(invalid(
            &key("account"),
            &trunk.account,
            "is no account",
            "add it to accounts",
        ));
    }
    Ok(())
}

fn check_headers(trunk: &Trunk) -> Result<(), ConfigError> {
    let key = format!("trunks.{}.headers", trunk.name);
    let rules = &trunk.headers;
    let mut named = rules.copy.iter().chain(rules.set.keys()).chain(&rules.remove);
    if let Some(name) = named.find(|name| is_structural(name)) {
        return Err(invalid(
            &key,
            name,
            "belongs to the dialog",
            "remove it from the rules",
        ));
    }
    let is_always_there = |name: &&String| {
        let always = [
            HeaderName::Allow,
            HeaderName::Supported,
            HeaderName::SessionExpires,
            HeaderName::MinSe,
        ];
        always.iter().any(|it| it.as_str().eq_ignore_ascii_case(name))
    };
    if let Some(name) = rules.remove.iter().find(is_always_there) {
        return Err(invalid(
            &format!("{key}.remove"),
            name,
            "says what this end can do, in every call",
            "set it to what the trunk is to read, or remove it from the rules",
        ));
    }
    if let Some(line) = rules.set.values().find(|value| value.contains(['\r', '\n'])) {
        return Err(invalid(&key, line, "holds a line break", "write one line"));
    }
    let is_unwritable =
        |(name, value): &(&String, &String)| Header::new(name.as_str(), value.as_bytes()).is_err();
    if let Some((name, _)) = rules.set.iter().find(is_unwritable) {
        let remedy = "use letters, digits and hyphens, as in X-Site";
        return Err(invalid(
            &format!("{key}.set"),
            name,
            "is no name of a field",
            remedy,
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_alike() {
        for (network, yes, no) in [
            ("192.0.2.0/24", "192.0.2.77", "192.0.3.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::1"),
        ] {
            let network = Network::try_from(network.to_owned()).unwrap();
            assert!(network.holds(yes.parse().unwrap()), "{network:?} {yes}");
            assert!(!network.holds(no.parse().unwrap()), "{network:?} {no}");
        }
        assert!(
            Network::try_from("0.0.0.0/0".to_owned())
                .unwrap()
                .holds([1, 2, 3, 4].into())
        );
        for wrong in ["", "192.0.2.0/33", "x", "192.0.2.0/"] {
            assert!(Network::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
