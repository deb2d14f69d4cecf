//! The digest itself.

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use std::fmt;
use subtle::ConstantTimeEq;

use crate::message::Method;

/// A hash function of RFC 8760.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HashKind {
    /// MD5: for peers that know nothing else.
    Md5,
    /// SHA-256: mandatory in RFC 8760.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
}

/// The `algorithm` of a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm {
    /// The hash.
    pub hash: HashKind,
    /// The `-sess` variant, whose A1 holds the first nonce and cnonce.
    pub session: bool,
}

impl Algorithm {
    /// `MD5`
    pub const MD5: Self = Self {
        hash: HashKind::Md5,
        session: false,
    };
    /// `SHA-256`
    pub const SHA256: Self = Self {
        hash: HashKind::Sha256,
        session: false,
    };
    /// `SHA-512-256`
    pub const SHA512_256: Self = Self {
        hash: HashKind::Sha512_256,
        session: false,
    };

    /// Reads a name without case; `None` when unknown.
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        let (base, session) = match name.len().checked_sub(5).map(|at| name.split_at(at)) {
            Some((base, suffix)) if suffix.eq_ignore_ascii_case(b"-sess") => (base, true),
            _ => (name, false),
        };
        let known = [Self::MD5, Self::SHA256, Self::SHA512_256];
        let plain = known
            .into_iter()
            .find(|known| known.as_str().as_bytes().eq_ignore_ascii_case(base))?;
        Some(Self { session, ..plain })
    }

    /// The name as RFC 8760 writes it.
    pub fn as_str(self) -> &'static str {
        match (self.hash, self.session) {
            (HashKind::Md5, false) => "MD5",
            (HashKind::Md5, true) => "MD5-sess",
            (HashKind::Sha256, false) => "SHA-256",
            (HashKind::Sha256, true) => "SHA-256-sess",
            (HashKind::Sha512_256, false) => "SHA-512-256",
            (HashKind::Sha512_256, true) => "SHA-512-256-sess",
        }
    }
}

/// Lower-case hexadecimal of a hash: 32 or 64 characters. `==` takes the same time wherever the texts differ.
#[derive(Clone, Copy)]
pub struct Hex {
    text: [u8; 64],
    length: usize,
}

impl Hex {
    fn of(hash: &[u8]) -> Self {
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(hash) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        Self {
            text,
            length: hash.len() * 2,
        }
    }

    /// The characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// Compares with what a peer sent, without case, in constant time for a given length.
    pub fn matches(&self, text: &[u8]) -> bool {
        let lower = text.to_ascii_lowercase();
        self.as_bytes().ct_eq(&lower).into()
    }
}

impl PartialEq for Hex {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl Eq for Hex {}

/// H(username ":" realm ":" password): what is stored for an account, one per hash. Not printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    hash: HashKind,
    hex: Hex,
}

impl Ha1 {
    /// From a password, when an account is made.
    pub fn from_password(hash: HashKind, username: &[u8], realm: &[u8], password: &[u8]) -> Self {
        Self {
            hash,
            hex: hash_of(hash, &[username, b":", realm, b":", password]),
        }
    }

    /// From storage; `None` unless it is hexadecimal of the hash's length.
    pub fn from_hex(hash: HashKind, text: &str) -> Option<Self> {
        let length = match hash {
            HashKind::Md5 => 32,
            HashKind::Sha256 | HashKind::Sha512_256 => 64,
        };
        if text.len() != length || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hex = Hex {
            text: [0; 64],
            length,
        };
        hex.text[..length].copy_from_slice(text.to_ascii_lowercase().as_bytes());
        Some(Self { hash, hex })
    }

    /// The hash it was made with.
    pub fn hash(&self) -> HashKind {
        self.hash
    }

    /// For storage. As good as the password in its realm: keep it secret.
    pub fn to_hex(&self) -> String {
        String::from_utf8_lossy(self.hex.as_bytes()).into_owned()
    }
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ha1({:?}, …)", self.hash)
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hex(…)")
    }
}

/// Quality of protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qop {
    /// Method and URI are protected.
    Auth,
    /// The body too.
    AuthInt,
}

impl Qop {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }

    pub(super) fn from_bytes(text: &[u8]) -> Option<Self> {
        [Self::Auth, Self::AuthInt]
            .into_iter()
            .find(|qop| text.eq_ignore_ascii_case(qop.as_str().as_bytes()))
    }
}

/// What a digest is computed over. All text is as sent, unquoted: the URI above all.
#[derive(Debug, Clone, Copy)]
pub struct DigestInput<'a> {
    /// The algorithm; its hash must be the [`Ha1`]'s.
    pub algorithm: Algorithm,
    /// The method of the request.
    pub method: &'a Method,
    /// The `uri` parameter.
    pub uri: &'a [u8],
    /// The `nonce` parameter.
    pub nonce: &'a [u8],
    /// The `cnonce` parameter; empty without qop.
    pub cnonce: &'a [u8],
    /// The `nc` parameter as eight hexadecimal digits; empty without qop.
    pub nonce_count: &'a [u8],
    /// `None` is the legacy form of RFC 2069.
    pub qop: Option<Qop>,
    /// The message body, for auth-int.
    pub body: &'a [u8],
}

/// The `response` parameter (RFC 7616 §3.4.1).
pub fn digest_response(ha1: &Ha1, input: &DigestInput<'_>) -> Hex {
    let hash = ha1.hash;
    let a1 = if input.algorithm.session {
        // RFC 7616 §3.4.2: H( H(user:realm:password) ":" nonce ":" cnonce ).
        hash_of(hash, &[ha1.hex.as_bytes(), b":", input.nonce, b":", input.cnonce])
    } else {
        ha1.hex
    };
    let method = input.method.as_bytes();
    let a2 = match input.qop {
        Some(Qop::AuthInt) => {
            let body = hash_of(hash, &[input.body]);
            hash_of(hash, &[method, b":", input.uri, b":", body.as_bytes()])
        }
        Some(Qop::Auth) | None => hash_of(hash, &[method, b":", input.uri]),
    };
    match input.qop {
        Some(qop) => {
            let (nc, cnonce, qop) = (input.nonce_count, input.cnonce, qop.as_str().as_bytes());
            let parts = [
                a1.as_bytes(),
                b":",
                input.nonce,
                b":",
                nc,
                b":",
                cnonce,
                b":",
                qop,
                b":",
                a2.as_bytes(),
            ];
            hash_of(hash, &parts)
        }
        None => hash_of(hash, &[a1.as_bytes(), b":", input.nonce, b":", a2.as_bytes()]),
    }
}

fn hash_of(hash: HashKind, parts: &[&[u8]]) -> Hex {
    fn run<D: Digest>(parts: &[&[u8]]) -> Hex {
        let mut digest = D::new();
        for part in parts {
            digest.update(part);
        }
        Hex::of(&digest.finalize())
    }
    match hash {
        HashKind::Md5 => run::<Md5>(parts),
        HashKind::Sha256 => run::<Sha256>(parts),
        HashKind::Sha512_256 => run::<Sha512_256>(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(hex: Hex) -> String {
        String::from_utf8(hex.as_bytes().to_vec()).unwrap()
    }

    /// RFC 2617 §3.5.
    #[test]
    fn the_example_of_rfc_2617_holds() {
        let ha1 = Ha1::from_password(HashKind::Md5, b"Mufasa", b"testrealm@host.com", b"Circle Of Life");
        let input = DigestInput {
            algorithm: Algorithm::MD5,
            method: &Method::from_bytes(b"GET").unwrap(),
            uri: b"/dir/index.html",
            nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            cnonce: b"0a4f113b",
            nonce_count: b"00000001",
            qop: Some(Qop::Auth),
            body: b"",
        };
        assert_eq!(
            text(digest_response(&ha1, &input)),
            "6629fae49393a05397450978507c4ef1"
        );
        // The same example without qop, as RFC 2069 computes it.
        let legacy = DigestInput {
            qop: None,
            cnonce: b"",
            nonce_count: b"",
            ..input
        };
        assert_eq!(
            text(digest_response(&ha1, &legacy)),
            "670fd8c2df070c60b045671b8b24ff02"
        );
    }

    /// RFC 7616 §3.9.1.
    #[test]
    fn the_examples_of_rfc_7616_hold() {
        let cases = [
            (Algorithm::MD5, "8ca523f5e9506fed4657c9700eebdbec"),
            (
                Algorithm::SHA256,
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ];
        for (algorithm, expected) in cases {
            let ha1 = Ha1::from_password(
                algorithm.hash,
                b"Mufasa",
                b"http-auth@example.org",
                b"Circle of Life",
            );
            let input = DigestInput {
                algorithm,
                method: &Method::from_bytes(b"GET").unwrap(),
                uri: b"/dir/index.html",
                nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
                nonce_count: b"00000001",
                qop: Some(Qop::Auth),
                body: b"",
            };
            assert_eq!(text(digest_response(&ha1, &input)), expected);
        }
    }

    /// FIPS 180-4 example for SHA-512/256.
    #[test]
    fn sha_512_256_is_not_truncated_sha_512() {
        let expected = "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23";
        assert_eq!(text(hash_of(HashKind::Sha512_256, &[b"abc"])), expected);
    }

    #[test]
    fn algorithm_names_are_those_of_rfc_8760() {
        for name in [
            "MD5",
            "md5-SESS",
            "SHA-256",
            "SHA-256-sess",
            "SHA-512-256",
            "SHA-512-256-sess",
        ] {
            let algorithm = Algorithm::from_bytes(name.as_bytes()).unwrap();
            assert!(algorithm.as_str().eq_ignore_ascii_case(name));
        }
        for name in ["SHA256", "", "-sess", "SHA-1", "AKAv1-MD5"] {
            assert_eq!(Algorithm::from_bytes(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn stored_hashes_are_checked_and_never_printed() {
        let ha1 = Ha1::from_password(HashKind::Sha256, b"a", b"r", b"p");
        assert_eq!(
            Ha1::from_hex(HashKind::Sha256, &ha1.to_hex().to_uppercase()),
            Some(ha1.clone())
        );
        assert_eq!(Ha1::from_hex(HashKind::Md5, &ha1.to_hex()), None);
        assert_eq!(Ha1::from_hex(HashKind::Md5, &"g".repeat(32)), None);
        assert!(!format!("{ha1:?}").contains(&ha1.to_hex()));
    }
}
