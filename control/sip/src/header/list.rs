//! Values that are lists of tokens, and media types.

use bytes::Bytes;

use super::{HeaderValue, Params, Problem, scan, scan::Cursor};
use crate::limits::LIST_ELEMENT_COUNT_MAX;

/// Option tags, methods or event packages: tokens separated by commas (Require, Supported, Proxy-Require,
/// Unsupported, Allow, Allow-Events), over all lines of the field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionTags {
    tags: Vec<Bytes>,
}

impl OptionTags {
    /// A list of our own.
    pub fn new(tags: &[&'static str]) -> Self {
        Self {
            tags: tags
                .iter()
                .map(|tag| Bytes::from_static(tag.as_bytes()))
                .collect(),
        }
    }

    /// Appends the tokens of one line; empty elements are stepped over, as `Supported:` may be empty.
    pub(super) fn extend(&mut self, value: &Bytes) -> Result<(), Problem> {
        if self.tags.is_empty() {
            let commas = value.iter().filter(|byte| **byte == b',').count();
            self.tags
                .reserve_exact(commas.min(LIST_ELEMENT_COUNT_MAX - 1) + 1);
        }
        // No token holds what a comma could be quoted by.
        let tags = value.split(|byte| *byte == b',').map(scan::trim);
        for tag in tags.filter(|tag| !tag.is_empty()) {
            if !scan::is_token(tag) {
                return Err("not a list of tokens");
            }
            if self.tags.len() == LIST_ELEMENT_COUNT_MAX {
                return Err("too many values");
            }
            self.tags.push(value.slice_ref(tag));
        }
        Ok(())
    }

    /// Appends a tag.
    pub fn push(&mut self, tag: Bytes) {
        self.tags.push(tag);
    }

    /// True when the tag is listed; tokens compare without case (RFC 3261 §7.3.1).
    pub fn contains(&self, tag: &str) -> bool {
        self.tags
            .iter()
            .any(|found| found.eq_ignore_ascii_case(tag.as_bytes()))
    }

    /// The tags in order.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.tags.iter()
    }

    /// True without tags.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }
}

impl HeaderValue for OptionTags {
    fn write(&self, out: &mut Vec<u8>) {
        for (index, tag) in self.tags.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(tag);
        }
    }
}

/// `type/subtype;params` of Content-Type and Accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    /// `application`, or `*` in Accept.
    pub kind: Bytes,
    /// `sdp`, or `*` in Accept.
    pub subtype: Bytes,
    /// `boundary`, `charset`, `q` and others.
    pub params: Params,
}

impl MediaType {
    /// Reads one value.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(value: &Bytes) -> Result<Self, Problem> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        let kind = cursor.token("missing media type")?;
        cursor.expect(b'/', "no / in the media type")?;
        let subtype = cursor.token("missing media subtype")?;
        let (kind, subtype) = (cursor.slice_of(kind), cursor.slice_of(subtype));
        let params = Params::parse(&mut cursor)?;
        Ok(Self {
            kind,
            subtype,
            params,
        })
    }

    /// True for this type and subtype, compared without case.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes())
            && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    /// True when, as a value of Accept, it covers the type: `*/*`, `application/*` or the type itself.
    pub fn covers(&self, kind: &str, subtype: &str) -> bool {
        let matches =
            |pattern: &[u8], text: &str| pattern == b"*" || pattern.eq_ignore_ascii_case(text.as_bytes());
        matches(&self.kind, kind) && matches(&self.subtype, subtype)
    }
}

impl HeaderValue for MediaType {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kind);
        out.push(b'/');
        out.extend_from_slice(&self.subtype);
        out.extend_from_slice(self.params.as_bytes());
    }
}
