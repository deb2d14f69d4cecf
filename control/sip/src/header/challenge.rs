//! WWW-Authenticate, Proxy-Authenticate, Authorization, Proxy-Authorization: scheme and parameters as sent.
//!
//! What the parameters mean is the business of [`crate::auth`].

use bytes::Bytes;
use std::borrow::Cow;

use super::{HeaderValue, Problem, scan, scan::Cursor};
use crate::limits::AUTH_PARAM_COUNT_MAX;

/// A challenge: one field of WWW-Authenticate or Proxy-Authenticate.
pub type Challenge = AuthValue;
/// Credentials: one field of Authorization or Proxy-Authorization.
pub type Credentials = AuthValue;

/// `scheme name=value, name="value", …`. Commas separate parameters, so such a field is never a list of values
/// (RFC 3261 §7.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthValue {
    /// `Digest`; compare without case.
    pub scheme: Bytes,
    params: Vec<(Bytes, Bytes)>,
}

impl AuthValue {
    /// A value of our own, without parameters.
    pub fn digest() -> Self {
        Self {
            scheme: Bytes::from_static(b"Digest"),
            params: Vec::new(),
        }
    }

    /// Reads a field's value. For schemes other than Digest only the scheme is read.
    ///
    /// Tolerates unquoted values that should be quoted and quoted values that should not, and stray commas.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let scheme = cursor.token("missing authentication scheme")?;
        let mut parsed = Self {
            scheme: cursor.slice_of(scheme),
            params: Vec::new(),
        };
        if !parsed.is_digest() {
            return Ok(parsed);
        }
        loop {
            while cursor.eat(b',') {}
            cursor.skip_space();
            if cursor.is_end() {
                return Ok(parsed);
            }
            let name = cursor.token("malformed parameter name")?;
            let name = cursor.slice_of(name);
            cursor.expect(b'=', "no = after a parameter name")?;
            let value = if cursor.peek() == Some(b'"') {
                cursor.quoted()?
            } else {
                cursor.take_while(|byte| byte != b',' && byte != b'"' && !scan::is_space(byte))
            };
            // Two values for one name let two readers see two different credentials.
            if parsed.raw(&name).is_some() {
                return Err("parameter given twice");
            }
            if parsed.params.len() == AUTH_PARAM_COUNT_MAX {
                return Err("too many parameters");
            }
            let value = cursor.slice_of(value);
            parsed.params.push((name, value));
            cursor.skip_space();
            if !cursor.is_end() && cursor.peek() != Some(b',') {
                return Err("no comma between parameters");
            }
        }
    }

    /// True for the Digest scheme.
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"Digest")
    }

    fn raw(&self, name: &[u8]) -> Option<&Bytes> {
        self.params
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// A parameter without quotes and escapes.
    pub fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.raw(name.as_bytes()).map(|value| scan::unquote(value))
    }

    /// Appends a parameter in quotes.
    pub fn push_quoted(&mut self, name: &'static str, value: &[u8]) {
        let mut quoted = Vec::with_capacity(value.len() + 2);
        scan::write_quoted(&mut quoted, value);
        self.params
            .push((Bytes::from_static(name.as_bytes()), quoted.into()));
    }

    /// Appends a parameter without quotes; it is quoted after all when it is no token.
    pub fn push_token(&mut self, name: &'static str, value: &[u8]) {
        if scan::is_token(value) {
            self.params
                .push((Bytes::from_static(name.as_bytes()), Bytes::copy_from_slice(value)));
        } else {
            self.push_quoted(name, value);
        }
    }
}

impl HeaderValue for AuthValue {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.scheme);
        for (index, (name, value)) in self.params.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b" " } else { b", " });
            out.extend_from_slice(name);
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
}
