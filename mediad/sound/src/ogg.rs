//! Ogg: pages, and the packets in them.
//!
//! # Source
//! RFC 3533.

use std::io::{Read, Seek, SeekFrom};

use crate::{SoundError, crc::crc, read_some};

/// What is before the segment table.
const HEAD_BYTES: usize = 27;
/// Offset of the checksum, which is counted as zeros.
const CRC_AT: usize = 22;
/// The longest page.
pub(crate) const PAGE_BYTES_MAX: u64 = 65_307;

/// The head of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// Where it begins.
    pub(crate) at: u64,
    /// Its first packet began on an earlier page.
    pub(crate) continued: bool,
    /// The last of its stream.
    pub(crate) last: bool,
    /// Position at the end of the last packet that ends on it; `None` when none does.
    pub(crate) granule: Option<u64>,
    pub(crate) serial: u32,
    body_bytes: u64,
    head_bytes: u64,
}

impl Page {
    /// Where the next one begins.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.head_bytes + self.body_bytes
    }
}

/// Reads pages one after another.
#[derive(Debug)]
pub(crate) struct Pages<R> {
    file: R,
    /// Where the next page begins.
    next: u64,
    segments: Vec<u8>,
    body: Vec<u8>,
}

impl<R: Read + Seek> Pages<R> {
    pub(crate) fn new(file: R) -> Self {
        Self {
            file,
            next: 0,
            segments: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn seek(&mut self, at: u64) {
        self.next = at;
    }

    /// Where the next page begins.
    pub(crate) fn at(&self) -> u64 {
        self.next
    }

    pub(crate) fn file_bytes(&mut self) -> Result<u64, SoundError> {
        Ok(self.file.seek(SeekFrom::End(0))?)
    }

    /// The head of the next page, its body left out; `None` at the end of the file.
    pub(crate) fn skim(&mut self) -> Result<Option<Page>, SoundError> {
        let mut head = [0; HEAD_BYTES];
        let page = self.head(&mut head)?;
        if let Some(page) = &page {
            self.next = page.end();
        }
        Ok(page)
    }

    /// The next page, whole and checked; `None` at the end of the file, also where it was cut off.
    pub(crate) fn read(&mut self) -> Result<Option<Page>, SoundError> {
        let mut head = [0; HEAD_BYTES];
        let Some(page) = self.head(&mut head)? else {
            return Ok(None);
        };
        self.body.resize(page.body_bytes as usize, 0);
        if read_some(&mut self.file, &mut self.body)? < self.body.len() {
            return Ok(None);
        }
        let given = u32::from_le_bytes([head[22], head[23], head[24], head[25]]);
        head[CRC_AT..CRC_AT + 4].fill(0);
        let found = crc(crc(crc(0, &head), &self.segments), &self.body);
        if given != found {
            return Err(SoundError::Damaged { at: page.at });
        }
        self.next = page.end();
        Ok(Some(page))
    }

    /// The pieces of packets on the page that was read last, and whether each ends there.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let (mut segment, mut start) = (0, 0);
        std::iter::from_fn(move || {
            if segment >= self.segments.len() {
                return None;
            }
            let from = start;
            let mut ends = false;
            while let Some(&length) = self.segments.get(segment).filter(|_| !ends) {
                segment += 1;
                start += usize::from(length);
                // Lacing values: 255 goes on, anything less ends the packet.
                ends = length < 255;
            }
            Some((&self.body[from..start], ends))
        })
    }

    fn head(&mut self, head: &mut [u8; HEAD_BYTES]) -> Result<Option<Page>, SoundError> {
        let at = self.next;
        self.file.seek(SeekFrom::Start(at))?;
        if read_some(&mut self.file, head)? < HEAD_BYTES {
            return Ok(None);
        }
        if &head[..4] != b"OggS" || head[4] != 0 {
            return Err(SoundError::Damaged { at });
        }
        self.segments.resize(usize::from(head[26]), 0);
        if read_some(&mut self.file, &mut self.segments)? < self.segments.len() {
            return Ok(None);
        }
        let granule = u64::from_le_bytes([
            head[6], head[7], head[8], head[9], head[10], head[11], head[12], head[13],
        ]);
        Ok(Some(Page {
            at,
            continued: head[5] & 1 != 0,
            last: head[5] & 4 != 0,
            granule: (granule != u64::MAX).then_some(granule),
            serial: u32::from_le_bytes([head[14], head[15], head[16], head[17]]),
            body_bytes: self.segments.iter().map(|length| u64::from(*length)).sum(),
            head_bytes: (HEAD_BYTES + self.segments.len()) as u64,
        }))
    }

    /// The last position told by a page of the stream `serial`.
    pub(crate) fn last_granule(&mut self, serial: u32) -> Result<Option<u64>, SoundError> {
        let end = self.file_bytes()?;
        // The tail holds at least one whole page, unless other streams fill it: then everything is gone through.
        for from in [end.saturating_sub(2 * PAGE_BYTES_MAX), 0] {
            self.file.seek(SeekFrom::Start(from))?;
            let mut tail = Vec::new();
            if from > 0 {
                (&mut self.file).take(end - from).read_to_end(&mut tail)?;
            }
            let found = match from {
                0 => self.walk_to_last(serial)?,
                _ => last_in(&tail, serial),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn walk_to_last(&mut self, serial: u32) -> Result<Option<u64>, SoundError> {
        let (before, end) = (self.next, self.file_bytes()?);
        self.next = 0;
        let mut last = None;
        while let Some(page) = self.skim()? {
            if page.end() > end {
                break;
            }
            if page.serial == serial {
                last = page.granule.or(last);
            }
        }
        self.next = before;
        Ok(last)
    }
}

/// The last position in the pages of `serial` that lie whole in `tail`.
fn last_in(tail: &[u8], serial: u32) -> Option<u64> {
    let starts = (0..tail.len().saturating_sub(HEAD_BYTES)).rev();
    starts
        .filter(|at| tail[*at..].starts_with(b"OggS"))
        .find_map(|at| {
            let mut pages = Pages::new(std::io::Cursor::new(&tail[at..]));
            let page = pages.read().ok()??;
            page.granule.filter(|_| page.serial == serial)
        })
}
