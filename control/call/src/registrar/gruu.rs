//! Addresses that lead to one device of a user and to no other (RFC 5627): a public one, which names the device, and
//! temporary ones, which tell nobody whose they are.

use bytes::Bytes;
use sip::{
    auth::{Ha1, HashKind},
    message::StatusCode,
    uri::{Uri, unescape},
};

use super::{Binding, Registrar};
use crate::{domain::Name, limits};

/// How the user part of a temporary one begins.
const TEMPORARY: &str = "tgruu.";

/// The temporary ones of a device: one more with each REGISTER. All are good for as long as it stays registered under
/// the same Call-ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TempGruus {
    /// What they are made of; told to nobody.
    pub(super) secret: String,
    pub(super) count: u32,
}

impl TempGruus {
    pub(super) fn new(secret: String) -> Self {
        Self { secret, count: 0 }
    }

    fn user(&self, number: u32) -> String {
        // A hash of a secret and a number: nobody can tell that two of them belong together.
        let number = number.to_string();
        let hash = Ha1::from_password(
            HashKind::Sha256,
            self.secret.as_bytes(),
            number.as_bytes(),
            b"gruu",
        );
        format!("{TEMPORARY}{}", &hash.to_hex()[..32])
    }

    fn newest(&self) -> String {
        self.user(self.count)
    }

    /// The user parts of all that are good.
    pub(super) fn users(&self) -> impl Iterator<Item = String> {
        let first = self.count.saturating_sub(limits::TEMPORARY_GRUUS_MAX) + 1;
        (first..=self.count).map(|number| self.user(number))
    }
}

impl Registrar {
    /// The device that an address leads to: its user, and what it calls itself. `None`: it is no such address.
    ///
    /// # Errors
    /// 404: nobody's, or one whose time is over; 480: the device is not registered.
    pub(crate) fn gruu(&self, uri: &Uri) -> Option<Result<(Name, Bytes), StatusCode>> {
        let params = uri.params();
        if !params.contains("gr") {
            return None;
        }
        let user = uri.user_unescaped().unwrap_or_default();
        let user = String::from_utf8_lossy(&user).into_owned();
        let Some(named) = params.get("gr") else {
            let found = self.temporary.get(&user).cloned();
            return Some(found.ok_or(StatusCode::NOT_FOUND));
        };
        let named = unescape(named);
        let Some(user) = self.account(&user) else {
            return Some(Err(StatusCode::NOT_FOUND));
        };
        let instances = self
            .bindings(&user)
            .iter()
            .filter_map(|binding| binding.instance.clone());
        let mut same = instances.filter(|instance| bare(instance).eq_ignore_ascii_case(&named));
        let found = same.next().ok_or(StatusCode::TEMPORARILY_UNAVAILABLE);
        Some(found.map(|instance| (user, instance)))
    }

    /// What a device is told: its public address, and a new temporary one.
    pub(super) fn gruus_of(&self, user: &str, binding: &Binding) -> Option<(String, Option<String>)> {
        let instance = binding.instance.as_ref()?;
        let domain = &self.domain;
        let public = format!(
            "sip:{}@{domain};gr={}",
            escaped(user.as_bytes()),
            escaped(bare(instance))
        );
        let temporary = binding.gruus.as_ref();
        let temporary = temporary.map(|gruus| format!("sip:{}@{domain};gr", gruus.newest()));
        Some((public, temporary))
    }
}

/// An instance without its angle brackets.
fn bare(instance: &[u8]) -> &[u8] {
    let inner = instance
        .strip_prefix(b"<")
        .and_then(|rest| rest.strip_suffix(b">"));
    inner.unwrap_or(instance)
}

/// As a user part, or a parameter's value, has it (RFC 3261 §25.1).
fn escaped(text: &[u8]) -> String {
    let mut out = String::new();
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'():+".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}
