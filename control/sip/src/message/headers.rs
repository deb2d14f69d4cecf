//! The header section: fields in order, each kept as it came.

use bytes::Bytes;
use memchr::{memchr2, memchr3};

use super::name::{HeaderName, Name};
use crate::header::{HeaderValue, scan};
use crate::text::push_number;

/// One header field: its line without the line end, and where name and value lie in it.
///
/// The value never holds CR or LF: the parser unfolds continuation lines, the builder refuses them.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    line: Bytes,
    known: Option<HeaderName>,
    name_end: u32,
    value_start: u32,
}

/// A header name or value that cannot be written: the name is no token, or the value holds CR, LF or NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header name must be a token and a header value must not hold CR, LF or NUL")]
pub struct UnwritableHeader;

impl Header {
    /// A field from parts.
    ///
    /// # Errors
    /// [`UnwritableHeader`] when writing it would break the message apart (header injection).
    pub fn new<'a>(name: impl Into<Name<'a>>, value: &[u8]) -> Result<Self, UnwritableHeader> {
        let name = name.into();
        if !scan::is_token(name.as_bytes()) || memchr3(b'\r', b'\n', 0, value).is_some() {
            return Err(UnwritableHeader);
        }
        Ok(Self::from_checked(name, value))
    }

    /// A field from parts that hold no line break by construction; a stray one becomes a space.
    pub(crate) fn from_typed<'a>(name: impl Into<Name<'a>>, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        if memchr2(b'\r', b'\n', value).is_some() {
            let space = |byte: &u8| match byte {
                b'\r' | b'\n' => b' ',
                other => *other,
            };
            let spaced: Vec<u8> = value.iter().map(space).collect();
            return Self::from_checked(name.into(), &spaced);
        }
        Self::from_checked(name.into(), value)
    }

    fn from_checked(name: Name<'_>, value: &[u8]) -> Self {
        let text = name.as_bytes();
        let value = scan::trim(value);
        let line = [text, b": ", value].concat();
        let known = match name {
            Name::Known(name) => Some(name),
            Name::Other(_) => None,
        };
        let name_end = text.len() as u32;
        Self {
            line: line.into(),
            known,
            name_end,
            value_start: name_end + 2,
        }
    }

    /// From a whole line, already unfolded and without its line end. `None` without a colon or a token name.
    pub(crate) fn from_line(line: Bytes) -> Option<Self> {
        let name_end = line.iter().position(|&byte| !scan::is_token_byte(byte))?;
        let colon = name_end
            + line[name_end..]
                .iter()
                .position(|&byte| !matches!(byte, b' ' | b'\t'))?;
        if name_end == 0 || line[colon] != b':' {
            return None;
        }
        let rest = &line[colon + 1..];
        let lead = rest
            .iter()
            .position(|&byte| !scan::is_space(byte))
            .unwrap_or(rest.len());
        let value_start = colon + 1 + lead;
        let end = value_start + scan::trim(&line[value_start..]).len();
        let known = HeaderName::from_bytes(&line[..name_end]);
        let line = if end == line.len() {
            line
        } else {
            line.slice(..end)
        };
        Some(Self {
            line,
            known,
            name_end: name_end as u32,
            value_start: value_start as u32,
        })
    }

    /// The field's name; for a known one, whatever spelling or compact form stood in the message.
    pub fn name(&self) -> Name<'_> {
        self.known.map_or(Name::Other(self.name_text()), Name::Known)
    }

    /// The name as it stands in the message.
    pub fn name_text(&self) -> &[u8] {
        &self.line[..self.name_end as usize]
    }

    /// The value, unfolded, without the space around it.
    pub fn value(&self) -> &[u8] {
        &self.line[self.value_start as usize..]
    }

    /// The value, sharing the message's memory.
    pub fn value_bytes(&self) -> Bytes {
        self.line.slice(self.value_start as usize..)
    }

    /// The field as it will be written, without the line end.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    fn is(&self, name: Name<'_>) -> bool {
        match (name, self.known) {
            (Name::Known(name), Some(known)) => name == known,
            (Name::Other(text), None) => text.eq_ignore_ascii_case(self.name_text()),
            (Name::Known(_), None) | (Name::Other(_), Some(_)) => false,
        }
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.line.escape_ascii())
    }
}

/// The header fields of a message, in order. Fields that are not edited are written as they came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers {
    fields: Vec<Header>,
}

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_capacity(count: usize) -> Self {
        Self {
            fields: Vec::with_capacity(count),
        }
    }

    /// All fields in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.fields.iter()
    }

    /// Number of fields (lines, not comma-separated values).
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True without fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The value of the first field called `name`.
    pub fn get<'a>(&self, name: impl Into<Name<'a>>) -> Option<&[u8]> {
        self.field(name).map(Header::value)
    }

    /// The first field called `name`.
    pub fn field<'a>(&self, name: impl Into<Name<'a>>) -> Option<&Header> {
        let name = name.into();
        self.fields.iter().find(|field| field.is(name))
    }

    /// Every field called `name`, in order.
    pub fn fields<'a>(&self, name: impl Into<Name<'a>>) -> impl Iterator<Item = &Header> {
        let name = name.into();
        self.fields.iter().filter(move |field| field.is(name))
    }

    /// True when a field called `name` is present.
    pub fn contains<'a>(&self, name: impl Into<Name<'a>>) -> bool {
        self.field(name).is_some()
    }

    /// Number of fields called `name`.
    pub fn count<'a>(&self, name: impl Into<Name<'a>>) -> usize {
        self.fields(name).count()
    }

    /// Appends a field at the end.
    ///
    /// # Errors
    /// [`UnwritableHeader`]: nothing was appended.
    pub fn push<'a>(
        &mut self,
        name: impl Into<Name<'a>>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), UnwritableHeader> {
        self.fields.push(Header::new(name, value.as_ref())?);
        Ok(())
    }

    /// Appends a field at the end.
    pub fn push_field(&mut self, field: Header) {
        self.fields.push(field);
    }

    /// Inserts a field before the first one of the same name, or at the front when there is none: the place of a
    /// new Via, Record-Route, Route or Path.
    pub fn push_front(&mut self, field: Header) {
        let at = self
            .fields
            .iter()
            .position(|other| other.is(field.name()))
            .unwrap_or(0);
        self.fields.insert(at, field);
    }

    /// Puts `field` where the first field of its name stands and removes the others of that name; appends it when
    /// there is none.
    pub fn set_field(&mut self, field: Header) {
        let Some(at) = self.fields.iter().position(|other| other.is(field.name())) else {
            self.fields.push(field);
            return;
        };
        let mut index = 0;
        self.fields.retain(|other| {
            let keep = index <= at || !other.is(field.name());
            index += 1;
            keep
        });
        self.fields[at] = field;
    }

    /// As [`Headers::set_field`], from parts.
    ///
    /// # Errors
    /// [`UnwritableHeader`]: nothing was changed.
    pub fn set<'a>(
        &mut self,
        name: impl Into<Name<'a>>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), UnwritableHeader> {
        self.set_field(Header::new(name, value.as_ref())?);
        Ok(())
    }

    /// Removes every field called `name`; returns how many there were.
    pub fn remove<'a>(&mut self, name: impl Into<Name<'a>>) -> usize {
        let name = name.into();
        let before = self.fields.len();
        self.fields.retain(|field| !field.is(name));
        before - self.fields.len()
    }

    /// Removes the first comma-separated value called `name` and returns it; a line that held only that value goes
    /// away, the other lines stay as they are.
    pub fn pop_first_value<'a>(&mut self, name: impl Into<Name<'a>>) -> Option<Bytes> {
        let name = name.into();
        let at = self.fields.iter().position(|field| field.is(name))?;
        let value = self.fields[at].value_bytes();
        let first = scan::Elements::new(&value).next()?;
        let used = first.as_ptr() as usize - value.as_ptr() as usize + first.len();
        let rest = scan::trim(&value[used..]);
        match rest.strip_prefix(b",") {
            Some(rest) => {
                let spelled = self.fields[at].name_text().to_vec();
                let mut field = Header::from_checked(Name::Other(&spelled), rest);
                field.known = self.fields[at].known;
                self.fields[at] = field;
            }
            None => {
                self.fields.remove(at);
            }
        }
        Some(first)
    }

    /// Replaces the first comma-separated value called `name`, keeping what follows it on its line.
    /// Does nothing when there is none.
    pub(crate) fn replace_first_value(&mut self, name: HeaderName, value: &impl HeaderValue) {
        let Some(at) = self.fields.iter().position(|field| field.known == Some(name)) else {
            return;
        };
        let old = self.fields[at].value_bytes();
        let Some(first) = scan::Elements::new(&old).next() else {
            return;
        };
        let used = first.as_ptr() as usize - old.as_ptr() as usize + first.len();
        let mut text = Vec::with_capacity(old.len() + 48);
        value.write(&mut text);
        text.extend_from_slice(&old[used..]);
        self.fields[at] = Header::from_typed(name, text);
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, body_length: usize) {
        let mut length_written = false;
        for field in &self.fields {
            // The length is ours to state: a stale one would cut or stretch the body.
            if field.known == Some(HeaderName::ContentLength) {
                if !length_written && crate::header::scan::decimal(field.value()) == Some(body_length as u64)
                {
                    out.extend_from_slice(&field.line);
                    out.extend_from_slice(b"\r\n");
                    length_written = true;
                }
                continue;
            }
            out.extend_from_slice(&field.line);
            out.extend_from_slice(b"\r\n");
        }
        if !length_written {
            out.extend_from_slice(b"Content-Length: ");
            push_number(out, body_length as u64);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Bytes that [`Headers::write`] needs at most.
    pub(crate) fn written_length(&self) -> usize {
        self.fields
            .iter()
            .map(|field| field.line.len() + 2)
            .sum::<usize>()
            + 40
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = std::slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(headers: &Headers) -> Vec<String> {
        headers
            .iter()
            .map(|field| String::from_utf8_lossy(field.line()).into_owned())
            .collect()
    }

    #[test]
    fn line_breaks_and_bad_names_are_refused() {
        let mut headers = Headers::new();
        for value in ["a\r\nVia: x", "a\nb", "a\rb", "a\0b"] {
            assert_eq!(headers.push("X-A", value), Err(UnwritableHeader));
            assert_eq!(headers.set(HeaderName::Subject, value), Err(UnwritableHeader));
        }
        assert_eq!(headers.push("X A", "1"), Err(UnwritableHeader));
        assert_eq!(headers.push("", "1"), Err(UnwritableHeader));
        assert!(headers.is_empty());
    }

    #[test]
    fn editing_touches_only_the_named_field() {
        let mut headers = Headers::new();
        for line in [
            "v:  a , b",
            "X-Odd  :  kept\t",
            "Via: c",
            "Route: <sip:x,y@z>, <sip:w>",
        ] {
            headers.push_field(Header::from_line(Bytes::from_static(line.as_bytes())).unwrap());
        }
        assert_eq!(headers.pop_first_value("Via").as_deref(), Some(&b"a"[..]));
        assert_eq!(
            headers.pop_first_value("Route").as_deref(),
            Some(&b"<sip:x,y@z>"[..])
        );
        assert_eq!(
            lines(&headers),
            ["v: b", "X-Odd  :  kept", "Via: c", "Route: <sip:w>"]
        );
        assert_eq!(headers.pop_first_value("Via").as_deref(), Some(&b"b"[..]));
        assert_eq!(headers.pop_first_value("Via").as_deref(), Some(&b"c"[..]));
        assert_eq!(headers.pop_first_value("Via"), None);
        headers.push_front(Header::new("Via", b"new").unwrap());
        headers.push_front(Header::new("Route", b"<sip:q>").unwrap());
        assert_eq!(
            lines(&headers),
            ["Via: new", "X-Odd  :  kept", "Route: <sip:q>", "Route: <sip:w>"]
        );
        headers.set("Route", "<sip:one>").unwrap();
        assert_eq!(
            lines(&headers),
            ["Via: new", "X-Odd  :  kept", "Route: <sip:one>"]
        );
        assert_eq!(headers.remove("x-odd"), 1);
        assert_eq!(headers.len(), 2);
    }
}
