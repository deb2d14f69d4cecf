//! Segments: the files a journal consists of. One record a line, its CRC-32 before it, so that a damaged one is known.
//!
//! A segment begins with a line that says how many records after it repeat what stood when it was begun: whoever
//! reads the newest segment knows everything that is still going on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use call_control::{Record, RecordKind};

/// Ending of the files.
const ENDING: &str = "journal";
/// What the checksum takes: eight hexadecimal digits and a space.
const PREFIX_BYTES: usize = 9;

/// What a segment turned out to hold.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Records read.
    pub(crate) records: u64,
    /// Lines that are no record: damaged, or of a newer version.
    pub(crate) damaged: u64,
    /// Bytes up to the end of the last good line.
    pub(crate) good_bytes: u64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Number of the first and the last record.
    pub(crate) first: Option<u64>,
    /// See `first`.
    pub(crate) last: Option<u64>,
    /// Its beginning repeats all that stood, and nothing of that is missing.
    pub(crate) is_whole: bool,
}

/// The files of a journal, oldest first.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) && number_of(&path).is_some() {
            found.push(path);
        }
    }
    // Names are numbers of one width.
    found.sort();
    Ok(found)
}

/// The file whose first record has this number.
pub(crate) fn path_of(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.{ENDING}"))
}

/// The number of a file's first record.
pub(crate) fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// Adds a record's line; gives its text. `None` when it cannot be written as JSON; nothing is added then.
pub(crate) fn write_line<'a>(buffer: &'a mut Vec<u8>, record: &Record) -> Option<&'a [u8]> {
    let start = buffer.len();
    buffer.extend_from_slice(&[b' '; PREFIX_BYTES]);
    if serde_json::to_writer(Pieces(buffer), record).is_err() {
        buffer.truncate(start);
        return None;
    }
    let sum = crc32fast::hash(&buffer[start + PREFIX_BYTES..]);
    let mut prefix = &mut buffer[start..start + PREFIX_BYTES];
    // Eight digits fit.
    let _fits = write!(prefix, "{sum:08x}");
    buffer.push(b'\n');
    buffer[start + PREFIX_BYTES..].strip_suffix(b"\n")
}

/// Takes JSON as it is written: in pieces, most of which are one byte or two.
struct Pieces<'a>(&'a mut Vec<u8>);

impl io::Write for Pieces<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.write_all(piece)?;
        Ok(piece.len())
    }

    #[inline(always)]
    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        match *piece {
            [byte] => self.0.push(byte),
            [first, second] => self.0.extend_from_slice(&[first, second]),
            _ => self.0.extend_from_slice(piece),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The record of a line with its line end; `None` when it is damaged.
pub(crate) fn read_line(line: &[u8]) -> Option<Record> {
    read_text(text_of(line)?)
}

/// The record of a line's text.
pub(crate) fn read_text(text: &[u8]) -> Option<Record> {
    let Some(head) = head_of(text).filter(|head| head.kind == "call_detail") else {
        return serde_json::from_slice(text).ok();
    };
    // A record is read into pieces of any kind before its own kind is known. The longest is read as what it is, its head
    // being nothing to it.
    Some(Record {
        sequence: head.sequence,
        at_unix_us: head.at_unix_us,
        repeated: head.repeated,
        kind: RecordKind::CallDetail(serde_json::from_slice(text).ok()?),
    })
}

/// The text of a line with its line end; `None` when it is damaged.
pub(crate) fn text_of(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, text) = line.split_at_checked(PREFIX_BYTES)?;
    let sum = std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (sum == crc32fast::hash(text)).then_some(text)
}

/// What a record's text begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) sequence: u64,
    pub(crate) kind: &'a str,
    at_unix_us: u64,
    repeated: bool,
}

/// To pass over records without reading them whole; `None` for a text that does not begin as ours do.
pub(crate) fn head_of(text: &[u8]) -> Option<Head<'_>> {
    let (sequence, rest) = number(text.strip_prefix(b"{\"sequence\":")?)?;
    let (at_unix_us, rest) = number(rest.strip_prefix(b",\"at_unix_us\":")?)?;
    let said_again = rest.strip_prefix(b",\"repeated\":true");
    let kind = said_again.unwrap_or(rest).strip_prefix(b",\"kind\":\"")?;
    let end = memchr::memchr(b'"', kind)?;
    Some(Head {
        sequence,
        kind: std::str::from_utf8(&kind[..end]).ok()?,
        at_unix_us,
        repeated: said_again.is_some(),
    })
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let digits = std::str::from_utf8(&text[..end]).ok()?;
    Some((digits.parse().ok()?, &text[end..]))
}

/// Reads a segment from its beginning; `each` gets every record, in order.
pub(crate) fn scan(path: &Path, mut each: impl FnMut(Record)) -> io::Result<Scan> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let (mut scan, mut line) = (Scan::default(), Vec::new());
    let mut repeated = None;
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if count == 0 {
            break;
        }
        scan.bytes += count as u64;
        let Some(record) = read_line(&line) else {
            scan.damaged += 1;
            continue;
        };
        match (&record.kind, &mut repeated) {
            (RecordKind::Segment { standing: count }, _) if scan.records == 0 => repeated = Some(*count),
            (_, Some(left)) if record.repeated => *left = left.saturating_sub(1),
            _ => {}
        }
        scan.records += 1;
        scan.good_bytes = scan.bytes;
        scan.first = scan.first.or(Some(record.sequence));
        scan.last = Some(record.sequence);
        each(record);
    }
    scan.is_whole = repeated == Some(0);
    Ok(scan)
}

/// Cuts off what a killed process left behind the last whole record. Gives the bytes cut off.
pub(crate) fn repair_tail(path: &Path, scan: &Scan) -> io::Result<u64> {
    let torn = scan.bytes - scan.good_bytes;
    if torn > 0 {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(scan.good_bytes)?;
        file.sync_data()?;
    }
    Ok(torn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> Record {
        Record {
            sequence,
            at_unix_us: 5,
            repeated: false,
            kind: RecordKind::AgentState {
                agent: "alice".into(),
                state: "ready".into(),
                standing: call_control::domain::Standing::default(),
            },
        }
    }

    #[test]
    fn a_line_is_known_to_be_whole_and_right() {
        fn head(text: &[u8]) -> Option<(u64, &str)> {
            head_of(text).map(|head| (head.sequence, head.kind))
        }
        let mut line = Vec::new();
        assert!(write_line(&mut line, &record(7)).is_some());
        assert_eq!(read_line(&line), Some(record(7)));
        for cut in 0..line.len() {
            assert_eq!(read_line(&line[..cut]), None, "cut at {cut}");
        }
        for at in 0..line.len() {
            let mut damaged = line.clone();
            damaged[at] ^= 1;
            assert_ne!(read_line(&damaged), Some(record(7)), "a wrong bit in byte {at}");
        }
        let text = text_of(&line).unwrap();
        assert_eq!(head(text), Some((7, "agent_state")));
        for cut in 0..text.len() {
            let head = head(&text[..cut]);
            assert!(head.is_none_or(|head| head == (7, "agent_state")), "cut at {cut}");
        }
        let mut again = record(8);
        again.repeated = true;
        line.clear();
        write_line(&mut line, &again);
        assert_eq!(head(text_of(&line).unwrap()), Some((8, "agent_state")));
        assert_eq!(head_of(br#"{"sequence": 7}"#), None);
        assert_eq!(read_line(b"00000000 \n"), None);
        assert_eq!(read_line(b"\n"), None);
    }
}
