//! The client's side: choosing a challenge and answering it.

use bytes::Bytes;

use super::digest::{Algorithm, DigestInput, Ha1, HashKind, Qop, digest_response};
use crate::header::{Challenge, Credentials};
use crate::message::Request;

/// A challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientChallenge {
    /// The realm: which account to use.
    pub realm: Bytes,
    /// Which hash of the account is needed.
    pub hash: HashKind,
    /// The credentials sent before were right, only the nonce was old: answer without asking anybody.
    pub stale: bool,
    algorithm: Algorithm,
    nonce: Bytes,
    opaque: Option<Bytes>,
    qop: Option<Qop>,
}

/// The first challenge of a realm that we can answer: servers put their preferred algorithm first (RFC 8760 §2.4).
///
/// Fields of a 401 or 407 that are broken, of another scheme or algorithm, are passed over.
pub fn choose_challenge(challenges: &[Challenge]) -> Option<ClientChallenge> {
    challenges.iter().find_map(read)
}

fn read(challenge: &Challenge) -> Option<ClientChallenge> {
    if !challenge.is_digest() {
        return None;
    }
    let text = |name| challenge.get(name).map(|value| Bytes::copy_from_slice(&value));
    let algorithm = match challenge.get("algorithm") {
        Some(name) => Algorithm::from_bytes(&name)?,
        None => Algorithm::MD5,
    };
    let qop = match challenge.get("qop").filter(|qop| !qop.is_empty()) {
        Some(offered) => {
            let known: Vec<Qop> = offered
                .split(|&byte| byte == b',')
                .filter_map(|q| Qop::from_bytes(q.trim_ascii()))
                .collect();
            // auth when offered: auth-int breaks wherever a middlebox touches the body.
            Some(if known.contains(&Qop::Auth) {
                Qop::Auth
            } else {
                *known.first()?
            })
        }
        None => None,
    };
    Some(ClientChallenge {
        realm: text("realm")?,
        hash: algorithm.hash,
        stale: challenge
            .get("stale")
            .is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")),
        algorithm,
        nonce: text("nonce")?,
        opaque: text("opaque"),
        qop,
    })
}

/// A challenge with an account: answers as many requests as the server lets its nonce last.
#[derive(Debug, Clone)]
pub struct ClientSession {
    challenge: ClientChallenge,
    username: Bytes,
    ha1: Ha1,
    cnonce: Bytes,
    nonce_count: u32,
}

impl ClientSession {
    /// Begins with a challenge. `cnonce` is random text from the caller, a token of at least 16 characters.
    ///
    /// `None` when `ha1` was not made with [`ClientChallenge::hash`].
    pub fn new(challenge: ClientChallenge, username: &str, ha1: Ha1, cnonce: &str) -> Option<Self> {
        if ha1.hash() != challenge.hash {
            return None;
        }
        let (username, cnonce) = (Bytes::from(username.to_owned()), Bytes::from(cnonce.to_owned()));
        Some(Self {
            challenge,
            username,
            ha1,
            cnonce,
            nonce_count: 0,
        })
    }

    /// The challenge it answers.
    pub fn challenge(&self) -> &ClientChallenge {
        &self.challenge
    }

    /// Credentials for one request: its Authorization or Proxy-Authorization. Call it again for every request, also
    /// for one sent again: each needs a count of its own.
    pub fn credentials(&mut self, request: &Request) -> Credentials {
        self.nonce_count = self.nonce_count.saturating_add(1);
        let nonce_count = format!("{:08x}", self.nonce_count);
        let challenge = &self.challenge;
        let has_qop = challenge.qop.is_some();
        let input = DigestInput {
            algorithm: challenge.algorithm,
            method: &request.method,
            uri: request.uri_text(),
            nonce: &challenge.nonce,
            cnonce: &self.cnonce,
            nonce_count: nonce_count.as_bytes(),
            qop: challenge.qop,
            body: &request.body,
        };
        let response = digest_response(&self.ha1, &input);
        let mut value = Credentials::digest();
        value.push_quoted("username", &self.username);
        value.push_quoted("realm", &challenge.realm);
        value.push_quoted("nonce", &challenge.nonce);
        value.push_quoted("uri", request.uri_text());
        value.push_quoted("response", response.as_bytes());
        value.push_token("algorithm", challenge.algorithm.as_str().as_bytes());
        if let Some(opaque) = &challenge.opaque {
            value.push_quoted("opaque", opaque);
        }
        if has_qop || challenge.algorithm.session {
            value.push_quoted("cnonce", &self.cnonce);
        }
        if let Some(qop) = challenge.qop {
            value.push_token("qop", qop.as_str().as_bytes());
            value.push_token("nc", nonce_count.as_bytes());
        }
        value
    }
}
