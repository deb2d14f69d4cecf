//! What a packet says about itself before it is decoded.

use crate::CodecError;

/// Which of the codec's layers made the packet (RFC 6716 §3.1, Table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Linear prediction: speech.
    Silk,
    /// Both layers.
    Hybrid,
    /// Transform: music and low delay.
    Celt,
}

/// Audio bandwidth (RFC 6716 §2, Table 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bandwidth {
    /// 4 kHz.
    Narrow,
    /// 6 kHz.
    Medium,
    /// 8 kHz.
    Wide,
    /// 12 kHz.
    SuperWide,
    /// 20 kHz.
    Full,
}

/// The table of contents of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketInfo {
    /// The layers in use.
    pub mode: Mode,
    /// The audio bandwidth.
    pub bandwidth: Bandwidth,
    /// 1 or 2.
    pub channels: u8,
    /// Frames in the packet, 1 to 48.
    pub frames: u8,
    /// Duration of each frame on the 48 kHz RTP clock.
    pub frame_ticks: u32,
    /// The packet holds a coarse copy of the audio before it (RFC 6716 §4.2.4, LBRR).
    pub has_fec: bool,
}

impl PacketInfo {
    /// Reads the structure of a packet and checks it against the rules of RFC 6716 §3.4.
    ///
    /// # Errors
    /// [`CodecError::MalformedPayload`] for a packet that no decoder may accept.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let (&toc, rest) = payload.split_first().ok_or(CodecError::MalformedPayload)?;
        let (mode, bandwidth, frame_ticks) = configuration(toc >> 3);
        let (frames, first) = match toc & 3 {
            0 => (1, rest),
            1 if rest.len().is_multiple_of(2) => (2, &rest[..rest.len() / 2]),
            1 => return Err(CodecError::MalformedPayload),
            2 => (2, two_frames(rest)?),
            _ => many_frames(rest)?,
        };
        // R2: no frame is larger than 1275 bytes.
        let largest = if toc & 3 == 2 {
            first.len().max(rest_of_two(rest, first))
        } else {
            first.len()
        };
        // R5: at most 120 ms.
        if largest > super::FRAME_BYTES_MAX || u32::from(frames) * frame_ticks > 5_760 {
            return Err(CodecError::MalformedPayload);
        }
        let channels = if toc & 4 == 0 { 1 } else { 2 };
        let has_fec = mode != Mode::Celt && has_lbrr(first, frame_ticks, channels);
        Ok(Self {
            mode,
            bandwidth,
            channels,
            frames,
            frame_ticks,
            has_fec,
        })
    }

    /// Duration on the 48 kHz RTP clock.
    #[must_use]
    pub fn ticks(&self) -> u32 {
        u32::from(self.frames) * self.frame_ticks
    }

    /// Duration in samples at a sampling rate.
    #[must_use]
    pub fn samples(&self, sample_rate_hz: u32) -> usize {
        (u64::from(self.ticks()) * u64::from(sample_rate_hz) / u64::from(super::CLOCK_HZ)) as usize
    }
}

/// RFC 6716 §3.1, Table 2.
fn configuration(number: u8) -> (Mode, Bandwidth, u32) {
    use Bandwidth::{Full, Medium, Narrow, SuperWide, Wide};
    const SILK_TICKS: [u32; 4] = [480, 960, 1_920, 2_880];
    const CELT_TICKS: [u32; 4] = [120, 240, 480, 960];
    let size = usize::from(number & 3);
    match number {
        0..=11 => {
            let bandwidth = [Narrow, Medium, Wide][usize::from(number / 4)];
            (Mode::Silk, bandwidth, SILK_TICKS[size])
        }
        12..=15 => {
            let bandwidth = if number < 14 { SuperWide } else { Full };
            (Mode::Hybrid, bandwidth, SILK_TICKS[size & 1])
        }
        _ => {
            let bandwidth = [Narrow, Wide, SuperWide, Full][usize::from(number / 4 - 4) & 3];
            (Mode::Celt, bandwidth, CELT_TICKS[size])
        }
    }
}

/// RFC 6716 §3.2.1: a length in one or two bytes, and what follows it.
fn length(bytes: &[u8]) -> Result<(usize, &[u8]), CodecError> {
    match bytes {
        [one @ 0..=251, rest @ ..] => Ok((usize::from(*one), rest)),
        [one, two, rest @ ..] => Ok((usize::from(*two) * 4 + usize::from(*one), rest)),
        _ => Err(CodecError::MalformedPayload),
    }
}

/// RFC 6716 §3.2.4: two frames of different length; returns the first.
fn two_frames(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (first, rest) = length(bytes)?;
    rest.get(..first).ok_or(CodecError::MalformedPayload)
}

/// How long the second of two frames is, given the first.
fn rest_of_two(bytes: &[u8], first: &[u8]) -> usize {
    length(bytes).map_or(0, |(_, rest)| rest.len() - first.len())
}

/// RFC 6716 §3.2.5: a count of frames, padding, and lengths of the frames or none; returns the count and
/// the first frame.
fn many_frames(bytes: &[u8]) -> Result<(u8, &[u8]), CodecError> {
    let (&count, mut rest) = bytes.split_first().ok_or(CodecError::MalformedPayload)?;
    let frames = count & 0x3F;
    // R5 has the upper bound; a packet of no frames is none.
    if frames == 0 {
        return Err(CodecError::MalformedPayload);
    }
    if count & 0x40 != 0 {
        rest = without_padding(rest)?;
    }
    if count & 0x80 == 0 {
        // R6: constant bit rate, equal parts.
        let each = rest.len() / usize::from(frames);
        if each * usize::from(frames) != rest.len() {
            return Err(CodecError::MalformedPayload);
        }
        return Ok((frames, &rest[..each]));
    }
    // R7: all lengths but the last are given, and the frames must fit.
    let (mut sum, mut first_bytes) = (0, None);
    for _ in 1..frames {
        let (bytes, after) = length(rest)?;
        first_bytes.get_or_insert(bytes);
        sum += bytes;
        rest = after;
    }
    let last = rest.len().checked_sub(sum).ok_or(CodecError::MalformedPayload)?;
    if last > super::FRAME_BYTES_MAX {
        return Err(CodecError::MalformedPayload);
    }
    Ok((frames, &rest[..first_bytes.unwrap_or(last)]))
}

/// Cuts the padding off the end, whose length stands at the beginning.
fn without_padding(mut bytes: &[u8]) -> Result<&[u8], CodecError> {
    let mut padding = 0;
    loop {
        let (&byte, rest) = bytes.split_first().ok_or(CodecError::MalformedPayload)?;
        bytes = rest;
        if byte < 255 {
            padding += usize::from(byte);
            break;
        }
        padding += 254;
    }
    let kept = bytes
        .len()
        .checked_sub(padding)
        .ok_or(CodecError::MalformedPayload)?;
    Ok(&bytes[..kept])
}

/// RFC 6716 §4.2.3: each channel's header is one voice activity bit per 20 ms and then the LBRR bit, all
/// of even probability and so readable without the range decoder.
fn has_lbrr(frame: &[u8], frame_ticks: u32, channels: u8) -> bool {
    let Some(&first) = frame.first() else { return false };
    let silk_frames = (frame_ticks / 960).max(1);
    let mid = first >> (7 - silk_frames) & 1;
    let side = if channels == 2 {
        first >> (6 - 2 * silk_frames) & 1
    } else {
        0
    };
    (mid | side) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_signal::noise;

    #[test]
    fn agrees_with_libopus_on_frames_and_duration() {
        // Every table of contents, with bodies from plausible to hostile.
        let bytes: Vec<u8> = noise(4_096, 32_767, 9).iter().map(|&s| (s >> 4) as u8).collect();
        let mut accepted = 0;
        for toc in 0..=255_u8 {
            let mut decoder =
                opusic_c::Decoder::new(opusic_c::Channels::Mono, opusic_c::SampleRate::Hz48000).unwrap();
            for (index, body) in bytes.chunks(23).enumerate() {
                let mut packet = vec![toc];
                packet.extend_from_slice(&body[..body.len().min(index % 23)]);
                let ours = PacketInfo::parse(&packet);
                let theirs = decoder.decode_to_slice(&packet, &mut [0; 5_760], false);
                match (ours, theirs) {
                    (Ok(info), Ok(samples)) => {
                        accepted += 1;
                        assert_eq!(info.samples(48_000), samples, "{packet:?}");
                        assert_eq!(
                            opusic_c::utils::get_nb_frames(&packet),
                            Ok(usize::from(info.frames))
                        );
                    }
                    (Err(_), Err(_)) => {}
                    (ours, theirs) => panic!("{packet:?}: {ours:?} but libopus says {theirs:?}"),
                }
            }
        }
        assert!(accepted > 1_000, "only {accepted} packets were valid");
    }

    #[test]
    fn hostile_structures() {
        for packet in [
            &[][..],
            &[0x09, 1],          // two equal frames in an odd number of bytes
            &[0x0A],             // two frames, no length
            &[0x0A, 9, 1],       // first frame longer than the packet
            &[0x0A, 252],        // second byte of the length missing
            &[0x0B],             // no frame count
            &[0x0B, 0],          // no frames
            &[0x0B, 0x41],       // no padding length
            &[0x0B, 0x41, 255],  // padding length unfinished
            &[0x0B, 0x41, 9, 1], // more padding than bytes
            &[0x0B, 0x02, 1],    // two frames of equal size from one byte
            &[0x0B, 0x82, 9, 1], // first frame longer than the packet
            &[0x0B, 0x3F],       // 63 frames of 20 ms
            &[0x1B, 0x03],       // three frames of 60 ms: 180 ms
        ] {
            assert_eq!(
                PacketInfo::parse(packet),
                Err(CodecError::MalformedPayload),
                "{packet:?}"
            );
        }
        assert!(PacketInfo::parse(&[0x08; 1_276]).is_ok());
        assert!(PacketInfo::parse(&[0x08; 1_277]).is_err());
    }

    #[test]
    fn reads_the_table_of_contents() {
        let info = PacketInfo::parse(&[12 << 3 | 4, 0]).unwrap();
        assert_eq!(
            (info.mode, info.bandwidth, info.channels),
            (Mode::Hybrid, Bandwidth::SuperWide, 2)
        );
        assert_eq!((info.ticks(), info.samples(8_000)), (480, 80));
        let info = PacketInfo::parse(&[31 << 3 | 3, 0x06]).unwrap();
        assert_eq!(
            (info.mode, info.bandwidth, info.frames),
            (Mode::Celt, Bandwidth::Full, 6)
        );
        assert_eq!((info.ticks(), info.has_fec), (5_760, false));
    }
}
