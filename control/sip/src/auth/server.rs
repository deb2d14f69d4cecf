//! The server's side: challenges and their verification.

use bytes::Bytes;

use super::digest::{Algorithm, DigestInput, Ha1, HashKind, Qop, digest_response};
use super::nonce::{NonceCounts, NonceKey, NonceUse};
use crate::header::{Challenge, Credentials, scan};
use crate::message::Request;
use crate::uri::Uri;

/// How a server authenticates.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The realm of its accounts.
    pub realm: String,
    /// Accepted algorithms, preferred first (RFC 8760 §2.4). Each gets a challenge of its own.
    pub algorithms: Vec<Algorithm>,
    /// Offer `auth-int` beside `auth`.
    pub offer_auth_int: bool,
    /// Accept answers without qop, each nonce once (RFC 2069 clients).
    pub accept_without_qop: bool,
    /// Refuse credentials whose `uri` is not the Request-URI. Off only behind proxies that rewrite it.
    pub require_same_uri: bool,
    /// How long a nonce can be used, in seconds.
    pub nonce_lifetime_s: u64,
}

impl ServerConfig {
    /// SHA-256 then MD5, nonces for five minutes.
    pub fn new(realm: impl Into<String>) -> Self {
        Self {
            realm: realm.into(),
            algorithms: vec![Algorithm::SHA256, Algorithm::MD5],
            offer_auth_int: false,
            accept_without_qop: true,
            require_same_uri: true,
            nonce_lifetime_s: 300,
        }
    }
}

/// A digest server for one realm.
///
/// Nonces are not stored when issued, so a flood of requests costs no memory; only the counts of nonces that were
/// answered correctly are remembered, within a bound.
#[derive(Debug)]
pub struct DigestServer {
    config: ServerConfig,
    key: NonceKey,
    serial: u64,
    counts: NonceCounts,
}

/// Credentials as read, before the account is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Who claims to call.
    pub username: Bytes,
    /// Which [`Ha1`] of the account is needed.
    pub hash: HashKind,
    algorithm: Algorithm,
    nonce: Bytes,
    uri: Bytes,
    cnonce: Bytes,
    nonce_count_text: Bytes,
    nonce_count: u32,
    qop: Option<Qop>,
    response: Bytes,
}

/// Why credentials cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// Another scheme, or none for our realm: challenge.
    #[error("no Digest credentials for this realm")]
    NotForUs,
    /// The algorithm is unknown or not offered: challenge.
    #[error("algorithm not offered")]
    Algorithm,
    /// A parameter is missing or malformed: answer 400 naming it.
    #[error("bad or missing {0}")]
    Parameter(&'static str),
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// The caller knows the password.
    Accepted,
    /// It does, but the nonce is used up, or was used with this count before: challenge with `stale=true`.
    Stale,
    /// It does, and proves it for another URI than it asks for: answer 400 (RFC 7616 §3.4.6).
    OtherUri,
    /// Wrong password: challenge or 403.
    Rejected,
}

impl DigestServer {
    /// A server. `first_serial` makes its nonces differ from those of other processes with the same key.
    pub fn new(config: ServerConfig, key: NonceKey, first_serial: u64) -> Self {
        let counts = NonceCounts::new(config.nonce_lifetime_s);
        Self {
            config,
            key,
            serial: first_serial,
            counts,
        }
    }

    /// From now on; see [`ServerConfig::require_same_uri`].
    pub fn require_same_uri(&mut self, required: bool) {
        self.config.require_same_uri = required;
    }

    /// The challenges for a 401 or 407, one per algorithm, preferred first: one header field each, in this order.
    ///
    /// `now` is the wall clock in Unix seconds.
    pub fn challenges(&mut self, now: u64, stale: bool) -> Vec<Challenge> {
        let all = self.config.algorithms.clone();
        self.challenges_by(now, stale, &all)
    }

    /// As [`DigestServer::challenges`], by some of the accepted algorithms: some clients fail at one that they do not know.
    pub fn challenges_by(&mut self, now: u64, stale: bool, algorithms: &[Algorithm]) -> Vec<Challenge> {
        self.serial = self.serial.wrapping_add(1);
        let nonce = self.key.issue(&self.config.realm, now, self.serial);
        let qop = if self.config.offer_auth_int {
            "auth,auth-int"
        } else {
            "auth"
        };
        let one = |algorithm: &Algorithm| {
            let mut challenge = Challenge::digest();
            challenge.push_quoted("realm", self.config.realm.as_bytes());
            challenge.push_quoted("nonce", nonce.as_bytes());
            challenge.push_token("algorithm", algorithm.as_str().as_bytes());
            challenge.push_quoted("qop", qop.as_bytes());
            if stale {
                challenge.push_token("stale", b"true");
            }
            challenge
        };
        algorithms.iter().map(one).collect()
    }

    /// Finds the credentials for our realm among the fields of a request and reads them.
    ///
    /// # Errors
    /// [`AttemptError`]: challenge, or 400 for [`AttemptError::Parameter`].
    pub fn read_attempt(&self, credentials: &[Credentials]) -> Result<Attempt, AttemptError> {
        let realm = self.config.realm.as_bytes();
        let ours =
            |value: &&Credentials| value.is_digest() && value.get("realm").is_some_and(|r| *r == *realm);
        let value = credentials.iter().find(ours).ok_or(AttemptError::NotForUs)?;
        let algorithm = match value.get("algorithm") {
            Some(name) => Algorithm::from_bytes(&name).ok_or(AttemptError::Algorithm)?,
            // RFC 7616 §3.3: MD5 when absent.
            None => Algorithm::MD5,
        };
        if !self.config.algorithms.contains(&algorithm) {
            return Err(AttemptError::Algorithm);
        }
        let text = |name: &'static str| {
            let value = value.get(name).filter(|value| !value.is_empty());
            value
                .map(|value| Bytes::copy_from_slice(&value))
                .ok_or(AttemptError::Parameter(name))
        };
        let qop = match value.get("qop") {
            Some(qop) => Some(Qop::from_bytes(&qop).ok_or(AttemptError::Parameter("qop"))?),
            None => None,
        };
        if (qop.is_none() && !self.config.accept_without_qop)
            || (qop == Some(Qop::AuthInt) && !self.config.offer_auth_int)
        {
            return Err(AttemptError::Parameter("qop"));
        }
        let (cnonce, nonce_count_text) = match qop {
            Some(_) => (text("cnonce")?, text("nc")?),
            // A -sess algorithm needs the cnonce even so.
            None if algorithm.session => (text("cnonce")?, Bytes::new()),
            None => (Bytes::new(), Bytes::new()),
        };
        let nonce_count = match qop {
            Some(_) => nonce_count(&nonce_count_text).ok_or(AttemptError::Parameter("nc"))?,
            None => 1,
        };
        Ok(Attempt {
            username: text("username")?,
            hash: algorithm.hash,
            algorithm,
            nonce: text("nonce")?,
            uri: text("uri")?,
            cnonce,
            nonce_count_text,
            nonce_count,
            qop,
            response: text("response")?,
        })
    }

    /// Verifies an attempt against the account's hash. For an unknown user give any [`Ha1`] of the right hash (of
    /// random text) and reject whatever comes out, so that the time taken tells nothing.
    ///
    /// `now` is the wall clock in Unix seconds.
    pub fn verify(&mut self, now: u64, request: &Request, attempt: &Attempt, ha1: &Ha1) -> Verification {
        let input = DigestInput {
            algorithm: attempt.algorithm,
            method: &request.method,
            uri: &attempt.uri,
            nonce: &attempt.nonce,
            cnonce: &attempt.cnonce,
            nonce_count: &attempt.nonce_count_text,
            qop: attempt.qop,
            body: &request.body,
        };
        let is_right = ha1.hash() == attempt.hash && digest_response(ha1, &input).matches(&attempt.response);
        let id = self.key.verify(&self.config.realm, &attempt.nonce);
        // Stale is said only to who knows the password: anybody else learns nothing from it.
        if !is_right {
            return Verification::Rejected;
        }
        if self.config.require_same_uri && !is_same_uri(request, &attempt.uri) {
            return Verification::OtherUri;
        }
        // A well-computed answer to a nonce that is not ours: an earlier process's, before the key changed.
        let Some(id) = id else { return Verification::Stale };
        match self.counts.note(id, attempt.nonce_count, now) {
            NonceUse::Fresh => Verification::Accepted,
            // Who repeats a count guesses no password: a client that does not count, or without qop cannot, a proxy that
            // sends a request by another way. A stranger who has heard it gets no further.
            NonceUse::Stale | NonceUse::Replayed => Verification::Stale,
        }
    }
}

/// RFC 7616 §3.4: exactly eight hexadecimal digits; fewer are let through, they are hashed as sent.
fn nonce_count(text: &[u8]) -> Option<u32> {
    let is_hex = !text.is_empty() && text.len() <= 8 && text.iter().all(u8::is_ascii_hexdigit);
    let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default();
    is_hex.then(|| text.iter().fold(0, |sum, byte| sum << 4 | digit(byte)))
}

fn is_same_uri(request: &Request, uri: &Bytes) -> bool {
    if scan::trim(uri) == &request.uri_text()[..] {
        return true;
    }
    match (request.uri(), Uri::parse(uri.clone())) {
        (Ok(asked), Ok(signed)) => asked.matches(&signed),
        _ => false,
    }
}
