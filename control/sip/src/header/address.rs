//! Addresses: From, To, Contact, Route and their kin.

use bytes::Bytes;
use std::borrow::Cow;

use super::{HeaderValue, Params, Problem, scan, scan::Cursor};
use crate::uri::Uri;

/// `"display" <uri>;params` or `uri;params` (RFC 3261 §20.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name as it stands in the message, quotes included; empty when there is none.
    display: Bytes,
    /// The address.
    pub uri: Uri,
    /// The header's parameters (not the URI's).
    pub params: Params,
}

impl NameAddr {
    /// An address without display name.
    pub fn new(uri: Uri) -> Self {
        Self {
            display: Bytes::new(),
            uri,
            params: Params::new(),
        }
    }

    /// Sets the display name; it is quoted and escaped when written.
    #[must_use]
    pub fn with_display(mut self, name: &str) -> Self {
        let mut quoted = Vec::with_capacity(name.len() + 2);
        scan::write_quoted(&mut quoted, name.as_bytes());
        self.display = quoted.into();
        self
    }

    /// Sets the `tag` parameter.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.params.set("tag", Some(tag.as_bytes()));
        self
    }

    /// Reads one value (not a comma-separated line).
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let start = cursor.at();
        let display = if cursor.peek() == Some(b'"') {
            // Quoted pairs are honoured: `"Joe \"x\" <y>" <sip:a@h>` is the address sip:a@h.
            let display = cursor.quoted()?;
            cursor.skip_space();
            if cursor.peek() != Some(b'<') {
                return Err("no <URI> after the display name");
            }
            cursor.slice_of(display)
        } else {
            let bracket = cursor.rest().iter().position(|&byte| matches!(byte, b'<' | b'"'));
            match bracket.map(|at| (at, cursor.rest()[at])) {
                Some((at, b'<')) => {
                    let words = scan::trim(&cursor.rest()[..at]);
                    check_display_words(words)?;
                    cursor.bump(at);
                    cursor.slice_of(words)
                }
                // A quote later on belongs to a header parameter of an address without brackets.
                Some(_) | None => return Self::parse_bare(value, start),
            }
        };
        cursor.bump(1);
        let uri = cursor.take_while(|byte| byte != b'>');
        if cursor.peek() != Some(b'>') {
            return Err("no > after the URI");
        }
        let uri = parse_uri(cursor.slice_of(uri))?;
        cursor.bump(1);
        let params = Params::parse(&mut cursor)?;
        Ok(Self { display, uri, params })
    }

    /// RFC 3261 §20.10: without brackets, what follows `;` belongs to the header, and a URI that holds a comma,
    /// question mark or semicolon must have brackets.
    fn parse_bare(value: &Bytes, start: usize) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.bump(start);
        let uri = cursor.take_while(|byte| byte != b';' && !scan::is_space(byte));
        if uri.iter().any(|byte| matches!(byte, b'?' | b',')) {
            return Err("a URI with ? or , must stand in < >");
        }
        let uri = parse_uri(cursor.slice_of(uri))?;
        let params = Params::parse(&mut cursor)?;
        Ok(Self {
            display: Bytes::new(),
            uri,
            params,
        })
    }

    /// The display name without quotes and escapes; `None` when there is none. Any bytes: often UTF-8, sometimes
    /// Latin-1.
    pub fn display(&self) -> Option<Cow<'_, [u8]>> {
        (!self.display.is_empty()).then(|| scan::unquote(&self.display))
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&[u8]> {
        self.params.get("tag")
    }
}

/// The `tag` of a value that [`NameAddr::parse`] takes, found without reading the URI.
pub(super) fn tag_in(value: &[u8]) -> Option<&[u8]> {
    let value = scan::trim(value);
    let after_display = &value[scan::quoted_length(value).unwrap_or(0)..];
    let mark = after_display.iter().position(|&byte| matches!(byte, b'<' | b'"'));
    let params = match mark.map(|at| after_display.split_at(at)) {
        Some((_, address @ [b'<', ..])) => {
            let end = address.iter().position(|&byte| byte == b'>')?;
            &address[end + 1..]
        }
        Some(_) | None => &value[value.iter().position(|&byte| byte == b';')?..],
    };
    let mut params = super::params::pieces(scan::trim(params));
    let tag = params.find(|(_, name, _)| name.eq_ignore_ascii_case(b"tag"));
    tag.and_then(|(_, _, value)| value)
}

impl HeaderValue for NameAddr {
    fn write(&self, out: &mut Vec<u8>) {
        if !self.display.is_empty() {
            out.extend_from_slice(&self.display);
            out.push(b' ');
        }
        out.push(b'<');
        out.extend_from_slice(self.uri.as_bytes());
        out.push(b'>');
        out.extend_from_slice(self.params.as_bytes());
    }
}

/// A Contact value: an address, or `*` (every binding, in a REGISTER that removes them).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// `*`
    Star,
    /// An address with `expires`, `q`, `+sip.instance`, `reg-id`.
    Address(NameAddr),
}

impl Contact {
    /// Reads one value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        if scan::trim(value) == b"*" {
            return Ok(Self::Star);
        }
        let address = NameAddr::parse(value)?;
        if address.params.get("q").is_some_and(|q| parse_q(q).is_none()) {
            return Err("q is not a number from 0 to 1");
        }
        Ok(Self::Address(address))
    }

    /// The address, unless it is `*`.
    pub fn address(&self) -> Option<&NameAddr> {
        match self {
            Self::Star => None,
            Self::Address(address) => Some(address),
        }
    }
}

impl NameAddr {
    /// `expires` in seconds. RFC 3261 §10.2.1.1: a malformed value counts as 3600; too large a one as the largest.
    pub fn expires(&self) -> Option<u32> {
        self.params.get("expires").map(|text| {
            if text.iter().all(u8::is_ascii_digit) {
                scan::decimal_u32(text).unwrap_or(u32::MAX)
            } else {
                3600
            }
        })
    }

    /// `q` in thousandths; 1000 when absent (RFC 3261 §16.6 treats equal ones alike).
    pub fn q(&self) -> u16 {
        self.params.get("q").and_then(parse_q).unwrap_or(1000)
    }

    /// `+sip.instance` without quotes: `<urn:uuid:…>` (RFC 5626).
    pub fn instance(&self) -> Option<Cow<'_, [u8]>> {
        self.params.unquoted("+sip.instance")
    }

    /// `reg-id` (RFC 5626 §4.2): from 1.
    pub fn reg_id(&self) -> Option<u32> {
        self.params
            .get("reg-id")
            .and_then(scan::decimal_u32)
            .filter(|&id| id > 0)
    }
}

/// RFC 3261 §25.1 qvalue: `0`, `0.5`, `0.123`, `1`, `1.000`, and `.5`, which phones send.
fn parse_q(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) || text.is_empty() {
        return None;
    }
    let thousandths = fraction
        .iter()
        .chain(b"000")
        .take(3)
        .fold(0, |sum, d| sum * 10 + u16::from(d - b'0'));
    match whole {
        b"" | b"0" if !(whole.is_empty() && fraction.is_empty()) => Some(thousandths),
        b"1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// RFC 3261 §25.1: an unquoted display name is tokens and spaces. Bytes above 0x7F (UTF-8 or Latin-1 names without
/// quotes) change no structure and are let through; `,` `;` `:` `@` could hide a second address and are not.
fn check_display_words(words: &[u8]) -> Result<(), Problem> {
    let is_word = |byte: u8| scan::is_token_byte(byte) || scan::is_space(byte) || byte >= 0x80;
    // Harmless punctuation that phones leave unquoted: `Bob (work) & Co [2]`.
    let is_tolerated = |byte: u8| b"()&[]{}#$^|/?=".contains(&byte);
    if words.iter().all(|&byte| is_word(byte) || is_tolerated(byte)) {
        Ok(())
    } else {
        Err("display name needs quotes")
    }
}

fn parse_uri(text: Bytes) -> Result<Uri, Problem> {
    use crate::uri::UriError;
    Uri::parse(text).map_err(|error| match error {
        UriError::Scheme => "no URI scheme",
        UriError::Character => "illegal character in URI",
        UriError::Escape => "bad escape in URI",
        UriError::Host => "bad host in URI",
        UriError::Port => "bad port in URI",
        UriError::User => "empty user in URI",
        UriError::Params => "bad parameters in URI",
        UriError::Number => "bad telephone number",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_found_as_by_reading_all() {
        for (value, tag) in [
            ("<sip:a@h>;tag=1", Some("1")),
            (
                "\"x <y>;tag=0\" <sip:a@h;tag=2> ; x=\"a;tag=3\" ;TAG = 4;tag=5",
                Some("4"),
            ),
            ("Bob <sip:a@h>", None),
            ("<sip:a@h>;tag", None),
            (" sip:a@h;x=\"<\";tag=6 ", Some("6")),
            ("sip:a@h", None),
            ("<sip:a@h>;tagg=7;x=tag", None),
        ] {
            let whole = NameAddr::parse(&Bytes::from_static(value.as_bytes())).unwrap();
            assert_eq!(whole.tag(), tag.map(str::as_bytes), "{value}");
            assert_eq!(tag_in(value.as_bytes()), whole.tag(), "{value}");
        }
        for broken in ["", "\"", "<", ";", "\"a\"", "<;tag=1", "a;tag"] {
            assert_eq!(tag_in(broken.as_bytes()), None, "{broken}");
        }
    }
}
