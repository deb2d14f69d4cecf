//! Character classes and the cursor that every header parser walks with.

use bytes::Bytes;
use memchr::{memchr, memchr2, memchr3};

use super::Problem;

const TOKEN: u8 = 1;
const SPACE: u8 = 2;
const VALUE: u8 = 4;

const CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        // RFC 3261 §25.1, token.
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
            )
        {
            table[index] |= TOKEN;
        }
        // Folded lines are unfolded when a message is parsed; CR and LF count as space for values that
        // reach a parser by another way.
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            table[index] |= SPACE;
        }
        // A parameter value in practice: a token, a host, a bracketed or bare IPv6 address (RFC 5118 §4.5), a URI or any
        // other run without separators that would end it.
        if byte > 0x20 && !matches!(byte, b';' | b',' | b'"' | b'<' | b'>' | 0x7f) {
            table[index] |= VALUE;
        }
        index += 1;
    }
    table
};

pub(crate) fn is_token_byte(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TOKEN != 0
}

pub(crate) fn is_space(byte: u8) -> bool {
    CLASS[usize::from(byte)] & SPACE != 0
}

pub(crate) fn is_value_byte(byte: u8) -> bool {
    CLASS[usize::from(byte)] & VALUE != 0
}

pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// Digits only, as the RFC's `1*DIGIT`: no sign, no space. `None` when empty, not digits, or above `u64`.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// As [`decimal`] for values the RFC bounds to 32 bits.
pub(crate) fn decimal_u32(text: &[u8]) -> Option<u32> {
    decimal(text).and_then(|value| u32::try_from(value).ok())
}

/// Walks one header value and cuts slices from it.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    text: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a Bytes) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(crate) fn is_end(&self) -> bool {
        self.at >= self.text.len()
    }

    pub(crate) fn bump(&mut self, count: usize) {
        self.at = (self.at + count).min(self.text.len());
    }

    pub(crate) fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// Takes `byte` with optional space on both sides.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
            self.skip_space();
        }
        found
    }

    pub(crate) fn expect(&mut self, byte: u8, problem: Problem) -> Result<(), Problem> {
        if self.eat(byte) { Ok(()) } else { Err(problem) }
    }

    /// Takes the longest run of bytes that satisfy `keep`; may be empty.
    pub(crate) fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|&byte| !keep(byte));
        let (taken, _) = rest.split_at(length.unwrap_or(rest.len()));
        self.at += taken.len();
        taken
    }

    pub(crate) fn token(&mut self, problem: Problem) -> Result<&'a [u8], Problem> {
        let token = self.take_while(is_token_byte);
        if token.is_empty() { Err(problem) } else { Ok(token) }
    }

    /// Takes a quoted string; the cursor stands on its opening quote. Returns it with its quotes.
    pub(crate) fn quoted(&mut self) -> Result<&'a [u8], Problem> {
        let length = quoted_length(self.rest()).ok_or("unterminated quoted string")?;
        let start = self.at;
        self.at += length;
        Ok(&self.text[start..self.at])
    }

    /// The bytes from `start` to the cursor, sharing the value's memory.
    pub(crate) fn since(&self, start: usize) -> Bytes {
        self.text.slice(start..self.at)
    }

    pub(crate) fn slice_of(&self, part: &'a [u8]) -> Bytes {
        self.text.slice_ref(part)
    }
}

/// Length of the quoted string that `text` begins with, quotes included. Quoted pairs are honoured, so that
/// `"a \" b"` is one string.
pub(crate) fn quoted_length(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// Length of what stands before the first semicolon outside of quoted strings.
pub(crate) fn before_semicolon(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr2(b';', b'"', &text[at..]) {
        at += found;
        if text[at] == b';' {
            return at;
        }
        // Without a closing quote it is a byte as any other.
        at += quoted_length(&text[at..]).unwrap_or(1);
    }
    text.len()
}

/// Length of what stands before the first comma that is neither in a quoted string nor in `<…>`.
fn before_comma(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr3(b',', b'"', b'<', &text[at..]) {
        at += found;
        let rest = &text[at..];
        at += match rest[0] {
            b',' => return at,
            // Without a closing quote the rest is one broken element, which its parser will refuse.
            b'"' => quoted_length(rest).unwrap_or(rest.len()),
            _ => memchr(b'>', rest).unwrap_or(rest.len()),
        };
    }
    text.len()
}

/// The content of a quoted string without quotes and escapes; other text is returned as it is.
pub(crate) fn unquote(text: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = text else {
        return text.into();
    };
    if !inner.contains(&b'\\') {
        return inner.into();
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
        } else if let Some(&escaped) = bytes.next() {
            plain.push(escaped);
        }
    }
    plain.into()
}

/// Appends `text` as a quoted string. CR and LF cannot be quoted (RFC 3261 §25.1) and become spaces.
pub(crate) fn write_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\r' | b'\n' => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Splits a value at its top-level commas: not inside quoted strings, not inside `<…>`.
pub(crate) struct Elements<'a> {
    text: &'a Bytes,
    at: usize,
    done: bool,
}

impl<'a> Elements<'a> {
    pub(crate) fn new(text: &'a Bytes) -> Self {
        Self {
            text,
            at: 0,
            done: false,
        }
    }
}

impl Iterator for Elements<'_> {
    type Item = Bytes;

    /// The next element, trimmed; an empty one where two commas meet.
    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let rest = &self.text[self.at..];
        let (element, behind) = rest.split_at(before_comma(rest));
        self.done = behind.is_empty();
        self.at += element.len() + 1;
        Some(self.text.slice_ref(trim(element)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &'static str) -> Vec<Bytes> {
        Elements::new(&Bytes::from_static(text.as_bytes())).collect()
    }

    #[test]
    fn elements_respect_quotes_and_brackets() {
        assert_eq!(
            elements(r#"a , "b, \"c,\"" <sip:d,e@f>;g , h"#),
            ["a", r#""b, \"c,\"" <sip:d,e@f>;g"#, "h"]
        );
        assert_eq!(elements("a,,b,"), ["a", "", "b", ""]);
        assert_eq!(elements(""), [""]);
        assert_eq!(elements("\"open, end"), ["\"open, end"]);
        assert_eq!(elements("<open, end"), ["<open, end"]);
    }

    #[test]
    fn quoted_strings_round_trip_through_escapes() {
        let mut out = Vec::new();
        write_quoted(&mut out, b"a\"b\\c\r\nd");
        assert_eq!(out, b"\"a\\\"b\\\\c  d\"");
        assert_eq!(&unquote(&out)[..], b"a\"b\\c  d");
        assert_eq!(quoted_length(b"\"abc\\\""), None);
        assert_eq!(quoted_length(b"\"abc\" d"), Some(5));
    }

    #[test]
    fn decimals_have_no_sign_and_do_not_wrap() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"18446744073709551616"), None);
        assert_eq!(decimal_u32(b"4294967296"), None);
        assert_eq!(decimal(b"-1"), None);
        assert_eq!(decimal(b""), None);
    }
}
