//! The part of a file that is audio: what stands around it (tags, covers, padding) is never read, whatever its size.
//!
//! # Source
//! ID3v2.4 §3.1 (id3.org), ID3v1, APEv2; RFC 9639 §8 (FLAC metadata blocks).

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

use crate::{SoundError, SoundFile, read_some};

/// Tags one after another before the audio. More are no sound file.
const TAGS_MAX: usize = 16;
/// Metadata blocks of a FLAC file. More are no sound file.
const BLOCKS_MAX: usize = 1_000;
/// RFC 9639 §8.2.
const STREAMINFO_BYTES: usize = 34;
/// Length of an ID3v1 tag, and of an APEv2 header or footer.
const ID3V1_BYTES: u64 = 128;
const APE_BYTES: u64 = 32;

/// Where the audio of `file` begins behind ID3v2 tags.
pub(crate) fn audio_start(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    let mut at = 0;
    for _ in 0..TAGS_MAX {
        let mut head = [0; 10];
        file.seek(SeekFrom::Start(at))?;
        if read_some(file, &mut head)? < head.len() || &head[..3] != b"ID3" {
            break;
        }
        let [.., flags, a, b, c, d] = head;
        // Seven bits of each byte, so that no byte looks like the start of a frame.
        let length = [a, b, c, d]
            .iter()
            .fold(0, |length, byte| length << 7 | u64::from(byte & 0x7f));
        let footer = if flags & 0x10 == 0 { 0 } else { 10 };
        at += 10 + length + footer;
    }
    Ok(at)
}

/// Where it ends before ID3v1 and APE tags.
fn audio_end(file: &mut (impl Read + Seek), start: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?.max(start);
    let mut mark = [0; APE_BYTES as usize];
    if end - start >= ID3V1_BYTES {
        file.seek(SeekFrom::Start(end - ID3V1_BYTES))?;
        if read_some(file, &mut mark[..3])? == 3 && &mark[..3] == b"TAG" {
            end -= ID3V1_BYTES;
        }
    }
    if end - start >= APE_BYTES {
        file.seek(SeekFrom::Start(end - APE_BYTES))?;
        if read_some(file, &mut mark)? == mark.len() && &mark[..8] == b"APETAGEX" {
            let length = u32::from_le_bytes([mark[12], mark[13], mark[14], mark[15]]);
            let header = if mark[23] & 0x80 == 0 { 0 } else { APE_BYTES };
            end = end.saturating_sub(u64::from(length) + header).max(start);
        }
    }
    Ok(end)
}

/// The audio of a file as its decoder sees it: a head of our own, and then a part of the file.
#[derive(Debug)]
pub(crate) struct Excerpt<R> {
    file: R,
    head: Vec<u8>,
    /// The part of the file.
    start: u64,
    end: u64,
    /// The next byte, counted from the beginning of the head.
    at: u64,
}

impl<R: SoundFile> Excerpt<R> {
    /// The frames of an MP3 file.
    pub(crate) fn mp3(mut file: R, start: u64) -> Result<Self, SoundError> {
        let end = audio_end(&mut file, start)?;
        Ok(Self::new(file, Vec::new(), start, end))
    }

    /// The frames of a FLAC file, behind the one block that says what they are.
    pub(crate) fn flac(mut file: R, start: u64) -> Result<Self, SoundError> {
        let mut head = b"fLaC\x80\0\0".to_vec();
        head.push(STREAMINFO_BYTES as u8);
        let mut at = start + 4;
        for block in 0..BLOCKS_MAX {
            let mut mark = [0; 4];
            file.seek(SeekFrom::Start(at))?;
            if read_some(&mut file, &mut mark)? < mark.len() {
                return Err(SoundError::CutOff);
            }
            let length = u32::from_be_bytes([0, mark[1], mark[2], mark[3]]);
            if block == 0 {
                // RFC 9639 §8.2: the streaminfo block MUST be the first.
                if mark[0] & 0x7f != 0 || length as usize != STREAMINFO_BYTES {
                    return Err(SoundError::Damaged { at });
                }
                let mut info = [0; STREAMINFO_BYTES];
                if read_some(&mut file, &mut info)? < info.len() {
                    return Err(SoundError::CutOff);
                }
                head.extend(info);
            }
            at += 4 + u64::from(length);
            if mark[0] & 0x80 != 0 {
                let end = audio_end(&mut file, at)?;
                return Ok(Self::new(file, head, at, end));
            }
        }
        Err(SoundError::Damaged { at })
    }

    fn new(file: R, head: Vec<u8>, start: u64, end: u64) -> Self {
        Self {
            file,
            head,
            start,
            end,
            at: 0,
        }
    }

    /// The first bytes, as many as there are; the next read begins again.
    pub(crate) fn peek(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.rewind()?;
        let count = read_some(self, room)?;
        self.rewind()?;
        Ok(count)
    }

    fn length(&self) -> u64 {
        self.head.len() as u64 + self.end - self.start
    }
}

impl<R: SoundFile> Read for Excerpt<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let head = self.head.len() as u64;
        let count = if self.at < head {
            (&self.head[self.at as usize..]).read(room)?
        } else {
            let left = self.length().saturating_sub(self.at);
            let count = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.file.seek(SeekFrom::Start(self.start + self.at - head))?;
            self.file.read(&mut room[..count])?
        };
        self.at += count as u64;
        Ok(count)
    }
}

impl<R: SoundFile> Seek for Excerpt<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.length(), by),
            SeekFrom::Current(by) => (self.at, by),
        };
        let at = from.checked_add_signed(by);
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

impl<R: SoundFile> MediaSource for Excerpt<R> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length())
    }
}
