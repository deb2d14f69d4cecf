//! WAV files whose header is right after every update, and can be made right from the file's length alone.

/// Bytes before the samples.
pub const HEADER_BYTES: usize = 44;

/// The header of a file with `data_bytes` of 16-bit samples.
pub(super) fn header(rate_hz: u32, channels: u16, data_bytes: u64) -> [u8; HEADER_BYTES] {
    let data = u32::try_from(data_bytes).unwrap_or(u32::MAX - HEADER_BYTES as u32);
    let frame = channels * 2;
    let mut header = [0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RIFF");
    put(4, &(data + HEADER_BYTES as u32 - 8).to_le_bytes());
    put(8, b"WAVEfmt ");
    put(16, &16_u32.to_le_bytes());
    put(20, &1_u16.to_le_bytes());
    put(22, &channels.to_le_bytes());
    put(24, &rate_hz.to_le_bytes());
    put(28, &(rate_hz * u32::from(frame)).to_le_bytes());
    put(32, &frame.to_le_bytes());
    put(34, &16_u16.to_le_bytes());
    put(36, b"data");
    put(40, &data.to_le_bytes());
    header
}

/// What a file should be cut to, its header, and its length in ms, from what is left of it after a crash; `None` if it is
/// none of ours.
pub fn repaired(start: &[u8], file_bytes: u64) -> Option<(u64, [u8; HEADER_BYTES], u64)> {
    let start = start.first_chunk::<HEADER_BYTES>()?;
    let channels = u16::from_le_bytes([start[22], start[23]]);
    let rate_hz = u32::from_le_bytes([start[24], start[25], start[26], start[27]]);
    let ours = header(rate_hz, channels.clamp(1, 2), 0);
    if start[..4] != ours[..4] || start[8..40] != ours[8..40] || rate_hz == 0 {
        return None;
    }
    let frame = u64::from(channels) * 2;
    let data = (file_bytes.checked_sub(HEADER_BYTES as u64)?) / frame * frame;
    let ms = data / frame * 1_000 / u64::from(rate_hz);
    Some((HEADER_BYTES as u64 + data, header(rate_hz, channels, data), ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_as_the_format_says() {
        let header = header(8_000, 2, 32_000);
        assert_eq!(&header[..4], b"RIFF");
        assert_eq!(header[4..8], 32_036_u32.to_le_bytes());
        assert_eq!(header[28..32], 32_000_u32.to_le_bytes());
        assert_eq!(header[40..], 32_000_u32.to_le_bytes());
    }

    #[test]
    fn what_a_crash_left_is_cut_to_whole_samples() {
        let start = header(16_000, 2, 0);
        let (bytes, repaired_header, ms) = repaired(&start, 44 + 64_003).expect("one of ours");
        assert_eq!((bytes, ms), (44 + 64_000, 1_000));
        assert_eq!(repaired_header, header(16_000, 2, 64_000));
        assert_eq!(repaired(&start[..40], 40), None);
        assert_eq!(repaired(&[0; 44], 100), None);
    }
}
