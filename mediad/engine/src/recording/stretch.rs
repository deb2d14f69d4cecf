//! A frame made a few samples longer or shorter, so that nobody hears it.

/// Fills `out` with all of `pcm`, stretched or squeezed evenly. The ends stay where they are, so frames still join.
///
/// # Shape
/// Lengths that differ by a few percent at most.
pub(super) fn stretch(pcm: &[i16], out: &mut [i16]) {
    if pcm.is_empty() || out.is_empty() {
        return out.fill(0);
    }
    let last = pcm.len() - 1;
    let step = last as f32 / (out.len() - 1).max(1) as f32;
    let at = |index: isize| f32::from(pcm[index.clamp(0, last as isize) as usize]);
    for (n, sample) in out.iter_mut().enumerate() {
        let place = n as f32 * step;
        let whole = place.floor();
        let (index, part) = (whole as isize, place - whole);
        // Catmull-Rom: a curve through the neighbours.
        let [a, b, c, d] = [at(index - 1), at(index), at(index + 1), at(index + 2)];
        let curve = b + 0.5
            * part
            * (c - a + part * (2.0 * a - 5.0 * b + 4.0 * c - d + part * (3.0 * (b - c) + d - a)));
        *sample = curve.round().clamp(-32_768.0, 32_767.0) as i16;
    }
}

#[cfg(test)]
mod tests {
    use codecs::{goertzel, tone::Oscillator};

    use super::*;

    #[test]
    fn a_tone_stays_pure_and_as_loud() {
        let mut oscillator = Oscillator::new(1_000.0, 8_000);
        let pcm: Vec<i16> = (0..160)
            .map(|_| (oscillator.next_value() * 8_000.0) as i16)
            .collect();
        for samples in [155, 159, 160, 161, 165] {
            let mut out = vec![0; samples];
            stretch(&pcm, &mut out);
            let hz = 1_000.0 * 159.0 / (samples - 1) as f64;
            let level = goertzel::amplitude(&out, hz, 8_000);
            assert!((level / 8_000.0 - 1.0).abs() < 0.05, "{samples} samples: {level}");
            assert_eq!((out[0], out[samples - 1]), (pcm[0], pcm[159]));
        }
    }

    #[test]
    fn nothing_and_one_sample_do_no_harm() {
        stretch(&[], &mut [7; 3]);
        let mut out = [0; 1];
        stretch(&[5; 4], &mut out);
        assert_eq!(out, [5]);
    }
}
