//! Parameters after a semicolon.

use bytes::Bytes;
use memchr::memchr;
use std::borrow::Cow;

use super::{Problem, scan, scan::Cursor};
use crate::limits::PARAM_COUNT_MAX;

/// The parameters of a header value or URI: `;name`, `;name=value`, `;name="value"`, in order.
///
/// Names compare without case; of a repeated name the first counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params {
    /// Empty, or text that starts with `;`, already checked.
    text: Bytes,
}

impl Params {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads parameters to the end of the value.
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Problem> {
        cursor.skip_space();
        let start = cursor.at();
        let mut end = start;
        let mut count = 0;
        while cursor.eat(b';') {
            count += 1;
            if count > PARAM_COUNT_MAX {
                return Err("too many parameters");
            }
            cursor.token("empty or malformed parameter name")?;
            end = cursor.at();
            if cursor.eat(b'=') {
                if cursor.peek() == Some(b'"') {
                    cursor.quoted()?;
                } else if cursor.take_while(scan::is_value_byte).is_empty() {
                    return Err("empty parameter value");
                }
                end = cursor.at();
            }
        }
        if !cursor.is_end() {
            return Err("unexpected text after the parameters");
        }
        let mut text = cursor.since(start);
        text.truncate(end - start);
        Ok(Self { text })
    }

    /// Parameters of a URI, whose syntax was checked by the URI parser: no spaces, no quotes.
    pub(crate) fn from_uri(text: Bytes) -> Self {
        Self { text }
    }

    /// Parameters as we write them, each behind its `;`.
    pub(crate) fn written(text: Vec<u8>) -> Self {
        Self { text: text.into() }
    }

    /// The parameters as they stand in the message, with their leading `;`.
    pub fn as_bytes(&self) -> &Bytes {
        &self.text
    }

    /// True without parameters.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Names and values in order. A value is as it stands in the message, quotes included.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.pieces().map(|(_, name, value)| (name, value))
    }

    /// True when the parameter is present, with or without a value.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The value of a parameter; `None` when it is absent or has no value.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.find(name).and_then(|(_, value)| value)
    }

    /// The value without quotes and escapes.
    pub fn unquoted(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.get(name).map(scan::unquote)
    }

    /// The value, sharing the message's memory.
    pub fn value_bytes(&self, name: &str) -> Option<Bytes> {
        self.get(name).map(|value| self.text.slice_ref(value))
    }

    /// Sets a parameter at its place, or at the end. A value that is no token and no host is written quoted.
    ///
    /// # Panics
    /// When `name` is not a token: parameter names come from our code, not from a peer.
    pub fn set(&mut self, name: &str, value: Option<&[u8]>) {
        assert!(
            scan::is_token(name.as_bytes()),
            "parameter name {name:?} is not a token"
        );
        self.rewrite(name, |text| {
            text.push(b';');
            text.extend_from_slice(name.as_bytes());
            if let Some(value) = value {
                text.push(b'=');
                write_value(text, value);
            }
        });
    }

    /// Removes a parameter; true when it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let present = self.contains(name);
        if present {
            self.rewrite(name, |_| {});
        }
        present
    }

    /// Without the parameters of this name, and with what `write` writes where the first of them was, or at the end.
    fn rewrite(&mut self, name: &str, write: impl Fn(&mut Vec<u8>)) {
        let mut text = Vec::with_capacity(self.text.len() + 48);
        let mut placed = false;
        for (old, old_name, _) in self.pieces() {
            if !old_name.eq_ignore_ascii_case(name.as_bytes()) {
                text.extend_from_slice(old);
            } else if !placed {
                write(&mut text);
                placed = true;
            }
        }
        if !placed {
            write(&mut text);
        }
        self.text = text.into();
    }

    fn find(&self, name: &str) -> Option<(&[u8], Option<&[u8]>)> {
        self.iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
    }

    fn pieces(&self) -> impl Iterator<Item = (&[u8], &[u8], Option<&[u8]>)> {
        pieces(&self.text)
    }
}

/// As it is where that is possible, else quoted.
fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    let is_quoted = scan::quoted_length(value) == Some(value.len());
    let is_plain = !value.is_empty() && value.iter().all(|&byte| scan::is_value_byte(byte));
    let has_break = value.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    if (is_plain || is_quoted) && !has_break {
        out.extend_from_slice(value);
    } else {
        scan::write_quoted(out, value);
    }
}

/// Each parameter of a text that begins with the first `;`: its whole text from `;`, name, value.
pub(super) fn pieces(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], Option<&[u8]>)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let after = rest.strip_prefix(b";")?;
        let (inner, next) = after.split_at(scan::before_semicolon(after));
        let piece = &rest[..1 + inner.len()];
        rest = next;
        let (name, value) = match memchr(b'=', inner) {
            Some(at) => (scan::trim(&inner[..at]), Some(scan::trim(&inner[at + 1..]))),
            None => (scan::trim(inner), None),
        };
        Some((piece, name, value))
    })
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.text.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Result<Params, Problem> {
        Params::parse(&mut Cursor::new(&Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn values_are_found_by_name_in_any_case() {
        let params = parse(" ; Tag = a1 ;lr;x=\"a;b\\\"c\" ;received=2001:db8::9:255;tag=second").unwrap();
        assert_eq!(params.get("tag"), Some(&b"a1"[..]));
        assert!(params.contains("LR"));
        assert_eq!(params.get("lr"), None);
        assert_eq!(params.unquoted("x").as_deref(), Some(&b"a;b\"c"[..]));
        assert_eq!(params.get("received"), Some(&b"2001:db8::9:255"[..]));
        assert_eq!(params.iter().count(), 5);
    }

    #[test]
    fn malformed_parameters_are_refused() {
        for text in [";;", ";", ";a=", ";a=\"x", ";a b", ";a=b c", "x", ";a,b"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let many = ";a".repeat(PARAM_COUNT_MAX + 1);
        assert!(Params::parse(&mut Cursor::new(&Bytes::from(many))).is_err());
    }

    #[test]
    fn setting_keeps_the_place_and_quotes_what_needs_it() {
        let mut params = parse(";a=1 ;b;c=3").unwrap();
        params.set("B", Some(b"x y"));
        params.set("d", Some(b"a\r\nb"));
        params.remove("a");
        assert_eq!(&params.as_bytes()[..], b";B=\"x y\";c=3;d=\"a  b\"");
        assert!(!params.remove("zz"));
    }
}
