//! Source descriptions.

use super::{RtcpError, word};
use crate::units::Ssrc;

/// Kind of a source-description item.
///
/// # Source
/// RFC 3550 §6.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SdesKind {
    /// Canonical name.
    Cname,
    /// Name of the person.
    Name,
    /// Electronic mail.
    Email,
    /// Telephone number.
    Phone,
    /// Place.
    Location,
    /// Application.
    Tool,
    /// Note.
    Note,
    /// Private extension.
    Private,
    /// Any other number.
    Other(u8),
}

impl From<u8> for SdesKind {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Cname,
            2 => Self::Name,
            3 => Self::Email,
            4 => Self::Phone,
            5 => Self::Location,
            6 => Self::Tool,
            7 => Self::Note,
            8 => Self::Private,
            other => Self::Other(other),
        }
    }
}

impl From<SdesKind> for u8 {
    fn from(kind: SdesKind) -> Self {
        match kind {
            SdesKind::Cname => 1,
            SdesKind::Name => 2,
            SdesKind::Email => 3,
            SdesKind::Phone => 4,
            SdesKind::Location => 5,
            SdesKind::Tool => 6,
            SdesKind::Note => 7,
            SdesKind::Private => 8,
            SdesKind::Other(number) => number,
        }
    }
}

/// One item of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SdesItem<'a> {
    /// What it says.
    pub kind: SdesKind,
    /// At most 255 bytes; meant to be UTF-8, not checked.
    pub value: &'a [u8],
}

/// SDES: names of sources, checked.
#[derive(Debug, Clone, Copy)]
pub struct Sdes<'a> {
    body: &'a [u8],
    chunk_count: u8,
}

impl<'a> Sdes<'a> {
    pub(super) fn check(body: &'a [u8], chunk_count: u8) -> Result<Self, RtcpError> {
        let mut rest = body;
        for _ in 0..chunk_count {
            (_, rest) = Chunk::split(rest).ok_or(RtcpError::BadSdes)?;
        }
        Ok(Self { body, chunk_count })
    }

    /// The chunks, one per source.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk<'a>> + use<'a> {
        let mut rest = self.body;
        (0..self.chunk_count).map_while(move |_| {
            let (chunk, after) = Chunk::split(rest)?;
            rest = after;
            Some(chunk)
        })
    }

    /// The canonical name of `ssrc`.
    pub fn cname(&self, ssrc: Ssrc) -> Option<&'a [u8]> {
        let chunk = self.chunks().find(|chunk| chunk.ssrc == ssrc)?;
        chunk
            .items()
            .find(|item| item.kind == SdesKind::Cname)
            .map(|item| item.value)
    }
}

/// What is said about one source.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// The source.
    pub ssrc: Ssrc,
    items: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The chunk at the front of `bytes` and what follows it; `None` if it is malformed.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, list) = bytes.split_at_checked(4)?;
        let mut end = 0;
        // RFC 3550 §6.5: the list ends with one or more null octets, up to the next 32-bit boundary. Peers exist
        // that leave them out where the last item ends the packet; their report must not be lost for it.
        while end != list.len() && list[end] != 0 {
            end += 2 + usize::from(*list.get(end + 1)?);
            if end > list.len() {
                return None;
            }
        }
        if end == list.len() {
            return Some((
                Self {
                    ssrc: Ssrc(word(head, 0)),
                    items: list,
                },
                &[],
            ));
        }
        let after = list.get((end + 1).next_multiple_of(4)..)?;
        Some((
            Self {
                ssrc: Ssrc(word(head, 0)),
                items: &list[..end],
            },
            after,
        ))
    }

    /// The items in order.
    pub fn items(&self) -> impl Iterator<Item = SdesItem<'a>> + use<'a> {
        let mut rest = self.items;
        std::iter::from_fn(move || {
            let (&[kind, length], after) = rest.split_first_chunk()?;
            let (value, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            Some(SdesItem {
                kind: kind.into(),
                value,
            })
        })
    }
}
