//! L16: uncompressed samples in network byte order (RFC 3551 §4.5.11).

/// Writes as many samples as fit, big-endian; returns the bytes written.
pub fn encode(pcm: &[i16], payload: &mut [u8]) -> usize {
    for (bytes, sample) in payload.chunks_exact_mut(2).zip(pcm) {
        bytes.copy_from_slice(&sample.to_be_bytes());
    }
    2 * pcm.len().min(payload.len() / 2)
}

/// Reads as many whole samples as both slices hold; returns the samples read.
pub fn decode(payload: &[u8], pcm: &mut [i16]) -> usize {
    for (sample, bytes) in pcm.iter_mut().zip(payload.chunks_exact(2)) {
        *sample = i16::from_be_bytes([bytes[0], bytes[1]]);
    }
    pcm.len().min(payload.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_byte_order_and_partial_buffers() {
        let mut payload = [0; 5];
        assert_eq!(encode(&[0x0102, -2, 7], &mut payload), 4);
        assert_eq!(payload, [1, 2, 0xFF, 0xFE, 0]);
        let mut pcm = [9; 3];
        assert_eq!(decode(&payload, &mut pcm), 2);
        assert_eq!(pcm, [0x0102, -2, 9]);
    }
}
