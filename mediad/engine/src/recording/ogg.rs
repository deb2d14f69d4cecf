//! Ogg Opus files (RFC 3533, RFC 7845): pages that stand by themselves, so that a file cut anywhere is played up to
//! there.

use codecs::opus;

/// Frames are of this length.
pub(super) const FRAME_MS: u32 = 20;
/// Opus counts in samples of 48 kHz whatever the rate.
const CLOCK_HZ: u64 = 48_000;
/// A page is ended after so many frames: a second.
const PAGE_FRAMES: u32 = 50;
/// A page holds at most so many segments of a packet.
const PAGE_SEGMENTS_MAX: usize = 255;
const PAGE_HEAD_BYTES: usize = 27;
const FLAG_FIRST: u8 = 2;
const FLAG_LAST: u8 = 4;

/// Writes one logical stream of Opus packets.
#[derive(Debug)]
pub(super) struct OggWriter {
    serial: u32,
    sequence: u32,
    /// Samples of 48 kHz at the end of what was added, the lead-in included.
    granule: u64,
    lead_in: u64,
    segments: Vec<u8>,
    body: Vec<u8>,
    frames: u32,
}

impl OggWriter {
    /// Begins a stream with the two header pages. `lead_in` is how many samples of 48 kHz a decoder leaves out.
    pub(super) fn new(
        serial: u32,
        channels: u8,
        rate_hz: u32,
        lead_in: u16,
        comments: &[(&str, &str)],
        out: &mut Vec<u8>,
    ) -> Self {
        let mut writer = Self {
            serial,
            sequence: 0,
            granule: 0,
            lead_in: lead_in.into(),
            segments: Vec::new(),
            body: Vec::new(),
            frames: 0,
        };
        // RFC 7845 §5.1.
        let mut head = b"OpusHead\x01".to_vec();
        head.push(channels);
        head.extend(lead_in.to_le_bytes());
        head.extend(rate_hz.to_le_bytes());
        head.extend([0, 0, 0]);
        writer.add(&head);
        writer.page(FLAG_FIRST, out);
        // RFC 7845 §5.2.
        let mut tags = b"OpusTags".to_vec();
        let text = |tags: &mut Vec<u8>, text: &str| {
            tags.extend((text.len() as u32).to_le_bytes());
            tags.extend(text.as_bytes());
        };
        text(&mut tags, "mediad");
        tags.extend((comments.len() as u32).to_le_bytes());
        for (name, value) in comments {
            text(&mut tags, &format!("{name}={value}"));
        }
        writer.add(&tags);
        writer.page(0, out);
        writer
    }

    /// Adds a packet of 20 ms; a page that is full goes out before it, so that the last one has a packet, which is what it may
    /// cut short (RFC 7845 §4.4).
    pub(super) fn packet(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let needed = payload.len() / 255 + 1;
        if self.frames >= PAGE_FRAMES || self.segments.len() + needed > PAGE_SEGMENTS_MAX {
            self.page(0, out);
        }
        self.add(payload);
        self.granule += CLOCK_HZ * u64::from(FRAME_MS) / 1_000;
        self.frames += 1;
    }

    /// Whether the packets so far are enough for `samples` of 48 kHz to be heard. RFC 7845 §4.4: none more than that.
    pub(super) fn holds(&self, samples: u64) -> bool {
        self.granule >= samples + self.lead_in
    }

    /// Ends the stream: `samples` of 48 kHz are heard of it.
    pub(super) fn finish(&mut self, samples: u64, out: &mut Vec<u8>) {
        self.granule = self.granule.min(samples + self.lead_in);
        self.page(FLAG_LAST, out);
    }

    /// Bytes that wait for their page.
    pub(super) fn waiting_bytes(&self) -> usize {
        PAGE_HEAD_BYTES + self.segments.len() + self.body.len()
    }

    fn add(&mut self, packet: &[u8]) {
        // RFC 3533 §5: full segments, and one below 255 that ends the packet.
        self.segments.extend(std::iter::repeat_n(255, packet.len() / 255));
        self.segments.push((packet.len() % 255) as u8);
        self.body.extend_from_slice(packet);
    }

    fn page(&mut self, flags: u8, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(b"OggS\0");
        out.push(flags);
        out.extend(self.granule.to_le_bytes());
        out.extend(self.serial.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        out.extend([0; 4]);
        out.push(self.segments.len() as u8);
        out.append(&mut self.segments);
        out.append(&mut self.body);
        sign(&mut out[start..]);
        self.sequence += 1;
        self.frames = 0;
    }
}

/// Puts the checksum of a page into it.
fn sign(page: &mut [u8]) {
    page[22..26].fill(0);
    let sum = checksum(page);
    page[22..26].copy_from_slice(&sum.to_le_bytes());
}

/// RFC 3533 §6: polynomial 0x04c11db7, no reflection, nothing before or after.
fn checksum(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut sum = (n as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                sum = sum << 1 ^ if sum & 0x8000_0000 == 0 { 0 } else { 0x04c1_1db7 };
                bit += 1;
            }
            table[n] = sum;
            n += 1;
        }
        table
    };
    let step = |sum: u32, byte: &u8| sum << 8 ^ TABLE[usize::from((sum >> 24) as u8 ^ byte)];
    bytes.iter().fold(0, step)
}

/// Walks over the pages of a file after a crash, as its bytes are read.
#[derive(Debug, Default)]
pub struct Mending {
    /// Bytes of whole pages.
    whole: u64,
    last: Vec<u8>,
    lead_in: u64,
    pages: u32,
}

impl Mending {
    /// Takes the next bytes of the file, which begin where a page does; how many of them are whole pages.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(len) = page_bytes(&bytes[at..]) {
            let page = &bytes[at..at + len];
            if self.pages == 0 {
                let lead_in = page
                    .get(PAGE_HEAD_BYTES + 1 + 10..)
                    .and_then(<[u8]>::first_chunk::<2>);
                self.lead_in = lead_in.map_or(0, |bytes| u16::from_le_bytes(*bytes).into());
            }
            self.pages += 1;
            self.last.clear();
            self.last.extend_from_slice(page);
            at += len;
        }
        self.whole += at as u64;
        at
    }

    /// What to cut the file to, its last page as it should be, and its length in ms; `None` if it is no stream of ours.
    pub fn finish(mut self) -> Option<(u64, Vec<u8>, u64)> {
        if self.pages < 2 {
            return None;
        }
        let granule = u64::from_le_bytes(*self.last.get(6..14)?.first_chunk()?);
        let ms = granule.saturating_sub(self.lead_in) * 1_000 / CLOCK_HZ;
        self.last[5] |= FLAG_LAST;
        sign(&mut self.last);
        Some((self.whole, self.last, ms))
    }
}

/// The length of the whole and sound page that `bytes` begin with.
fn page_bytes(bytes: &[u8]) -> Option<usize> {
    let count = usize::from(*bytes.get(26)?);
    let segments = bytes.get(PAGE_HEAD_BYTES..PAGE_HEAD_BYTES + count)?;
    let body: usize = segments.iter().map(|bytes| usize::from(*bytes)).sum();
    let len = PAGE_HEAD_BYTES + count + body;
    let page = bytes.get(..len).filter(|page| page.starts_with(b"OggS\0"))?;
    let mut copy = page.to_vec();
    sign(&mut copy);
    (copy == page).then_some(len)
}

/// The largest page: what must be at hand to tell whether one is whole.
pub const PAGE_BYTES_MAX: usize = PAGE_HEAD_BYTES + PAGE_SEGMENTS_MAX * 256;

/// The lead-in of an encoder, in samples of 48 kHz.
pub(super) fn lead_in(encoder: &mut opus::Encoder) -> u16 {
    let samples = encoder.delay_samples() as u64 * CLOCK_HZ / u64::from(encoder.sample_rate_hz());
    u16::try_from(samples).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(frames: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = OggWriter::new(7, 1, 8_000, 312, &[("TITLE", "a call")], &mut out);
        for n in 0..frames {
            writer.packet(&vec![n as u8; 40 + n * 7 % 300], &mut out);
        }
        writer.finish((frames as u64 - 1) * 960, &mut out);
        out
    }

    #[test]
    fn the_checksum_is_the_one_of_the_format() {
        // The check value of CRC-32/CKSUM, which has the same polynomial and order, before its last inversion.
        assert_eq!(checksum(b"123456789"), 0x89a1_897f);
    }

    #[test]
    fn the_last_page_cuts_short_a_packet_of_its_own() {
        for frames in 1..=2 * PAGE_FRAMES as usize + 1 {
            let file = stream(frames);
            let (mut at, mut granule, mut last) = (0, 0, &file[..]);
            while let Some(len) = page_bytes(&file[at..]) {
                last = &file[at..at + len];
                let ends = u64::from_le_bytes(*last[6..].first_chunk().expect("a head"));
                assert!(ends >= granule, "{frames} frames: back from {granule} to {ends}");
                (at, granule) = (at + len, ends);
            }
            assert_eq!((at, granule), (file.len(), (frames as u64 - 1) * 960 + 312));
            assert!(last[5] == FLAG_LAST && last[26] > 0, "{frames} frames");
        }
    }

    #[test]
    fn every_cut_is_mended_to_whole_pages() {
        let file = stream(175);
        for cut in [file.len(), file.len() - 1, file.len() / 2, 300] {
            let mut mending = Mending::default();
            let taken = mending.take(&file[..cut]);
            let (bytes, last, ms) = mending.finish().expect("the headers are there");
            assert_eq!(bytes, taken as u64);
            assert!(bytes <= cut as u64);
            assert_eq!(last[5] & FLAG_LAST, FLAG_LAST);
            let mut mended = file[..taken].to_vec();
            let at = taken - last.len();
            mended[at..].copy_from_slice(&last);
            let mut again = Mending::default();
            assert_eq!(again.take(&mended), taken, "its last page is sound again");
            assert!(ms <= 3_480 && (cut < file.len() || ms == 3_480), "{ms} ms");
        }
        let mut mending = Mending::default();
        mending.take(&file[..30]);
        assert!(mending.finish().is_none());
    }
}
