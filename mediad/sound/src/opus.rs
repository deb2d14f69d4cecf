//! Ogg Opus: the header, the packets, and the place in them.
//!
//! # Source
//! RFC 7845. Of files that hold several streams one after another the first is played.

use std::io::{Read, Seek};

use codecs::opus::{CLOCK_HZ, Decoder, PACKET_MS_MAX};

use crate::{
    SoundError,
    ogg::{Page, Pages},
};

/// Packets longer than this are no Opus: a hundred and twenty milliseconds at the highest rate, twice over.
const PACKET_BYTES_MAX: usize = 61_440;
/// RFC 7845 §4.6: decoding begins this long before the place that is sought.
const PREROLL: u64 = 3_840;
/// Pages of other streams, or without a packet's end, before the first of ours.
const STRAY_PAGES_MAX: usize = 1_000;

/// An Ogg Opus file.
#[derive(Debug)]
pub(crate) struct Opus<R> {
    pages: Pages<R>,
    serial: u32,
    /// Where the first page of sound begins.
    start: u64,
    pre_skip: u64,
    /// To multiply with; `None`: as it is.
    gain: Option<f32>,
    /// All of it at 48 kHz, without what is skipped.
    samples_48k: u64,
    decoder: Decoder,
    /// Packets whose end was found, of the page read last.
    packets: std::collections::VecDeque<Vec<u8>>,
    /// The beginning of a packet that goes on.
    partial: Vec<u8>,
    /// The next packet's beginning is missing.
    orphan: bool,
    pcm: Vec<i16>,
    /// Decoded samples to throw away, at the decoder's rate.
    skip: u64,
    /// Samples to come, at the decoder's rate.
    left: u64,
    ended: bool,
}

impl<R: Read + Seek> Opus<R> {
    pub(crate) fn open(file: R) -> Result<Self, SoundError> {
        let mut pages = Pages::new(file);
        let first = pages.read()?.ok_or(SoundError::CutOff)?;
        let head = pages.pieces().next().map(|(head, _)| head.to_vec());
        let head = Head::read(&head.unwrap_or_default())?;
        // The tags: one packet, perhaps over several pages. RFC 7845 §5.2: it ends the page on which it ends.
        let mut strays = 0;
        loop {
            let page = pages.read()?.ok_or(SoundError::CutOff)?;
            let tags_end = pages.pieces().any(|(_, ends)| ends);
            if page.serial == first.serial && tags_end {
                break;
            }
            strays += 1;
            if strays > STRAY_PAGES_MAX {
                return Err(SoundError::Damaged { at: page.at });
            }
        }
        let start = pages.at();
        let last = pages.last_granule(first.serial)?.unwrap_or(0);
        let samples_48k = last.saturating_sub(head.pre_skip);
        if samples_48k == 0 {
            return Err(SoundError::NoSamples);
        }
        pages.seek(start);
        let mut opus = Self {
            pages,
            serial: first.serial,
            start,
            pre_skip: head.pre_skip,
            gain: head.gain,
            samples_48k,
            decoder: decoder(CLOCK_HZ),
            packets: Default::default(),
            partial: Vec::new(),
            orphan: false,
            pcm: Vec::new(),
            skip: 0,
            left: 0,
            ended: false,
        };
        opus.decode_at(CLOCK_HZ);
        Ok(opus)
    }

    pub(crate) fn samples_48k(&self) -> u64 {
        self.samples_48k
    }

    /// Decodes to `rate_hz` if Opus can, from the beginning on; gives the rate.
    pub(crate) fn decode_at(&mut self, rate_hz: u32) -> u32 {
        let rate_hz = match rate_hz {
            8_000 | 12_000 | 16_000 | 24_000 => rate_hz,
            _ => CLOCK_HZ,
        };
        self.decoder = decoder(rate_hz);
        self.pcm = vec![0; (rate_hz / 1_000 * PACKET_MS_MAX) as usize];
        self.begin(self.start, 0, 0);
        rate_hz
    }

    /// Adds the samples of the next packet; false at the end.
    pub(crate) fn read(&mut self, out: &mut Vec<i16>) -> Result<bool, SoundError> {
        while self.left > 0 {
            let Some(packet) = self.packets.pop_front() else {
                if self.ended || !self.turn_page()? {
                    return Ok(false);
                }
                continue;
            };
            let at = self.pages.at();
            let damaged = |_| SoundError::Damaged { at };
            let samples = self.decoder.decode(&packet, &mut self.pcm).map_err(damaged)?;
            let skipped = self.skip.min(samples as u64);
            self.skip -= skipped;
            let wanted = (samples as u64 - skipped).min(self.left);
            self.left -= wanted;
            if wanted == 0 {
                continue;
            }
            let pcm = &mut self.pcm[skipped as usize..][..wanted as usize];
            if let Some(gain) = self.gain {
                // `as` saturates.
                pcm.iter_mut()
                    .for_each(|sample| *sample = (f32::from(*sample) * gain).round() as i16);
            }
            out.extend_from_slice(pcm);
            return Ok(true);
        }
        Ok(false)
    }

    /// Goes on at this sample of the decoder's rate.
    pub(crate) fn seek(&mut self, sample: u64) -> Result<(), SoundError> {
        let step = u64::from(CLOCK_HZ / self.decoder.sample_rate_hz());
        let target = (sample.saturating_mul(step)).min(self.samples_48k) + self.pre_skip;
        // The last page that begins, with a packet of its own, far enough before.
        let (mut from, mut position) = (self.start, 0);
        let mut before = 0;
        self.pages.seek(self.start);
        while let Some(page) = self.pages.skim()? {
            if page.serial != self.serial {
                continue;
            }
            if before + PREROLL > target {
                break;
            }
            if !page.continued {
                (from, position) = (page.at, before);
            }
            before = page.granule.unwrap_or(before);
        }
        self.decoder = decoder(self.decoder.sample_rate_hz());
        self.begin(from, position, target.saturating_sub(self.pre_skip));
        Ok(())
    }

    /// Goes on with the page at `from`, whose first sample is at `position`; what is before `target` is not given.
    fn begin(&mut self, from: u64, position: u64, target: u64) {
        let step = u64::from(CLOCK_HZ / self.decoder.sample_rate_hz());
        self.pages.seek(from);
        self.packets.clear();
        self.partial.clear();
        self.orphan = true;
        self.ended = false;
        self.skip = (target + self.pre_skip).saturating_sub(position) / step;
        self.left = self.samples_48k.saturating_sub(target) / step;
    }

    /// Takes the packets of the next page of the stream; false at the end.
    fn turn_page(&mut self) -> Result<bool, SoundError> {
        for _ in 0..STRAY_PAGES_MAX {
            let Some(page) = self.pages.read()? else {
                self.ended = true;
                return Ok(false);
            };
            if page.serial == self.serial {
                self.take(page)?;
                self.ended = page.last;
                return Ok(true);
            }
        }
        Err(SoundError::Damaged { at: self.pages.at() })
    }

    fn take(&mut self, page: Page) -> Result<(), SoundError> {
        if !page.continued {
            self.partial.clear();
            self.orphan = false;
        }
        for (piece, ends) in self.pages.pieces() {
            self.partial.extend_from_slice(piece);
            if self.partial.len() > PACKET_BYTES_MAX {
                return Err(SoundError::Damaged { at: page.at });
            }
            if ends {
                let packet = std::mem::take(&mut self.partial);
                if !std::mem::take(&mut self.orphan) {
                    self.packets.push_back(packet);
                }
            }
        }
        Ok(())
    }
}

fn decoder(rate_hz: u32) -> Decoder {
    Decoder::new(rate_hz).expect("one of Opus's rates")
}

/// What the identification header says.
struct Head {
    pre_skip: u64,
    gain: Option<f32>,
}

impl Head {
    fn read(packet: &[u8]) -> Result<Self, SoundError> {
        let Some(rest) = packet.strip_prefix(b"OpusHead") else {
            return Err(SoundError::NotOpus);
        };
        let &[version, _, skip_a, skip_b, _, _, _, _, gain_a, gain_b, family, ..] = rest else {
            return Err(SoundError::CutOff);
        };
        // RFC 7845 §5.1: the upper half of the version says whether it can be read at all.
        if version >> 4 != 0 {
            return Err(SoundError::NotOpus);
        }
        if family != 0 {
            return Err(SoundError::Mapping { family });
        }
        let gain_db = f32::from(i16::from_le_bytes([gain_a, gain_b])) / 256.0;
        Ok(Self {
            pre_skip: u16::from_le_bytes([skip_a, skip_b]).into(),
            gain: (gain_db != 0.0).then(|| 10_f32.powf(gain_db / 20.0)),
        })
    }
}
