//! WAV files: 16-bit PCM, A-law and µ-law, one or two channels, any sampling rate.

use codecs::g711;

/// What a file holds, mixed down to one channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wav {
    pub(super) rate_hz: u32,
    pub(super) pcm: Vec<i16>,
}

/// Format tags (RFC 2361).
const PCM: u16 = 1;
const ALAW: u16 = 6;
const ULAW: u16 = 7;
const EXTENSIBLE: u16 = 0xfffe;

/// Reads a file.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the file's name.
pub(super) fn read(bytes: &[u8]) -> Result<Wav, String> {
    let riff = bytes.get(..4) == Some(b"RIFF") && bytes.get(8..12) == Some(b"WAVE");
    if !riff {
        return Err("is no WAV file".into());
    }
    let mut format = None;
    let mut rest = &bytes[12..];
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        // Writers that were killed leave a length of 0 or more than there is.
        let data = &body[..length.min(body.len())];
        match &head[..4] {
            b"fmt " => format = Some(Format::read(data)?),
            b"data" => {
                let format = format.ok_or("has no format before its samples")?;
                return Ok(format.samples(data));
            }
            _ => {}
        }
        // Chunks begin at even places.
        rest = body.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    Err("has no samples".into())
}

#[derive(Debug, Clone, Copy)]
struct Format {
    tag: u16,
    channels: usize,
    rate_hz: u32,
}

impl Format {
    fn read(chunk: &[u8]) -> Result<Self, String> {
        let short = |at: usize| Some(u16::from_le_bytes([*chunk.get(at)?, *chunk.get(at + 1)?]));
        let fields = (|| {
            let (tag, channels, bits) = (short(0)?, short(2)?, short(14)?);
            let rate_hz = u32::from(short(4)?) | u32::from(short(6)?) << 16;
            let tag = if tag == EXTENSIBLE { short(24)? } else { tag };
            Some((tag, channels, rate_hz, bits))
        })();
        let (tag, channels, rate_hz, bits) = fields.ok_or("has a format that is cut off")?;
        if !matches!((tag, bits), (PCM, 16) | (ALAW | ULAW, 8)) {
            return Err(format!(
                "has format {tag} with {bits} bits; use 16-bit PCM, A-law or mu-law"
            ));
        }
        if !matches!(channels, 1 | 2) {
            return Err(format!("has {channels} channels; use one or two"));
        }
        if !(4_000..=192_000).contains(&rate_hz) {
            return Err(format!("is sampled at {rate_hz} Hz; use 4000 to 192000"));
        }
        Ok(Self {
            tag,
            channels: channels.into(),
            rate_hz,
        })
    }

    fn samples(self, data: &[u8]) -> Wav {
        let mut pcm: Vec<i16> = match self.tag {
            PCM => data
                .chunks_exact(2)
                .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                .collect(),
            law => {
                let mut pcm = vec![0; data.len()];
                match law {
                    ALAW => g711::decode_alaw(data, &mut pcm),
                    _ => g711::decode_ulaw(data, &mut pcm),
                };
                pcm
            }
        };
        if self.channels == 2 {
            let middle = |pair: &[i16]| ((i32::from(pair[0]) + i32::from(pair[1])) / 2) as i16;
            pcm = pcm.chunks_exact(2).map(middle).collect();
        }
        Wav {
            rate_hz: self.rate_hz,
            pcm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tag: u16, channels: u16, rate_hz: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        file.extend(tag.to_le_bytes());
        file.extend(channels.to_le_bytes());
        file.extend(rate_hz.to_le_bytes());
        file.extend([0; 6]);
        file.extend(bits.to_le_bytes());
        file.extend(b"data");
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn every_format_is_read_and_two_channels_become_one() {
        let pcm: Vec<u8> = [100_i16, 300, -5, -7]
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .collect();
        let mono = read(&file(1, 1, 44_100, 16, &pcm)).unwrap();
        assert_eq!((mono.rate_hz, &mono.pcm[..]), (44_100, &[100, 300, -5, -7][..]));
        assert_eq!(read(&file(1, 2, 8_000, 16, &pcm)).unwrap().pcm, [200, -6]);
        assert_eq!(read(&file(6, 1, 8_000, 8, &[0xd5, 0x55])).unwrap().pcm, [8, -8]);
        assert_eq!(
            read(&file(7, 1, 8_000, 8, &[0xff, 0x00])).unwrap().pcm,
            [0, -32_124]
        );
        // The length says more than there is.
        let mut cut = file(1, 1, 8_000, 16, &pcm);
        cut.truncate(cut.len() - 3);
        assert_eq!(read(&cut).unwrap().pcm, [100, 300]);
    }

    #[test]
    fn what_cannot_be_played_says_why() {
        for (bytes, why) in [
            (b"ID3 music".to_vec(), "no WAV"),
            (file(3, 1, 8_000, 32, &[]), "format 3 with 32 bits"),
            (file(1, 6, 8_000, 16, &[]), "6 channels"),
            (file(1, 1, 1, 16, &[]), "1 Hz"),
            (b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0\x01\0".to_vec(), "cut off"),
            (b"RIFF\0\0\0\0WAVEdata\x02\0\0\0\x01\0".to_vec(), "no format"),
            (b"RIFF\0\0\0\0WAVE".to_vec(), "no samples"),
            (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff".to_vec(), "no samples"),
        ] {
            let error = read(&bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
