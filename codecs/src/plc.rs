//! Concealment of lost frames for codecs that bring none: G.711, G.722 and L16.
//!
//! The last pitch period is repeated, in phase, and fades to silence between 10 ms and 60 ms; the first
//! samples after the loss are overlap-added with what the repetition would have said. Unlike the
//! recommendation's method it adds no delay: instead of holding back the last quarter period to smooth
//! the beginning, it lets the step between the two ends of a period die away over a quarter period.
//!
//! # Source
//! After the ideas of ITU-T G.711 Appendix I (09/1999); own design and code.

/// Pitch range of Appendix I: 66.7 Hz to 200 Hz.
const PITCH_MS_MIN: usize = 5;
const PITCH_MS_MAX: usize = 15;
/// Length of the piece of history that is compared with the past.
const CORRELATION_MS: usize = 20;
/// Whole history: the comparison, moved back by the longest period.
const HISTORY_MS: usize = CORRELATION_MS + PITCH_MS_MAX;
/// Concealment at full level, then a linear fade that ends in silence.
const HOLD_MS: usize = 10;
const SILENT_AFTER_MS: usize = 60;
/// Overlap at the first frame after a loss: this, and more the longer the loss was.
const OVERLAP_MS_MIN: usize = 4;
const OVERLAP_MS_MAX: usize = 10;

/// Concealment state of one stream.
///
/// Every decoded frame goes through [`Plc::good`]; every lost one is made by [`Plc::conceal`].
#[derive(Debug, Clone)]
pub struct Plc {
    samples_per_ms: usize,
    /// The last samples heard, in a ring: a frame touches no more memory than its own length.
    history: Box<[i16]>,
    /// Where its oldest sample is.
    oldest: usize,
    /// One pitch period whose end runs smoothly into its beginning.
    period: Box<[i16]>,
    period_samples: usize,
    /// Samples concealed since the last good frame; 0 while frames arrive.
    concealed: usize,
}

impl Plc {
    /// Concealment at a sampling rate, which is rounded down to whole kilohertz.
    ///
    /// # Panics
    /// Below 1 000 Hz.
    #[must_use]
    pub fn new(sample_rate_hz: u32) -> Self {
        let samples_per_ms = (sample_rate_hz / 1_000) as usize;
        assert!(samples_per_ms > 0, "a sampling rate of {sample_rate_hz} Hz");
        Self {
            samples_per_ms,
            history: vec![0; HISTORY_MS * samples_per_ms].into_boxed_slice(),
            oldest: 0,
            period: vec![0; PITCH_MS_MAX * samples_per_ms].into_boxed_slice(),
            period_samples: PITCH_MS_MIN * samples_per_ms,
            concealed: 0,
        }
    }

    /// Takes note of a decoded frame; after a loss, joins its beginning to the concealment.
    pub fn good(&mut self, pcm: &mut [i16]) {
        if self.concealed > 0 {
            let extra = OVERLAP_MS_MIN + self.concealed / (10 * self.samples_per_ms) * 4;
            let overlap = (extra.min(OVERLAP_MS_MAX) * self.samples_per_ms).min(pcm.len());
            for (n, sample) in pcm[..overlap].iter_mut().enumerate() {
                let fading = i64::from(self.sample_at(self.concealed + n));
                let weight = (n + 1) as i64;
                let rest = overlap as i64 + 1 - weight;
                *sample = ((i64::from(*sample) * weight + fading * rest) / (weight + rest)) as i16;
            }
            self.concealed = 0;
        }
        self.remember(pcm);
    }

    /// Makes up the next lost samples.
    pub fn conceal(&mut self, out: &mut [i16]) {
        if self.concealed == 0 {
            self.find_period();
        }
        for (n, sample) in out.iter_mut().enumerate() {
            *sample = self.sample_at(self.concealed + n);
        }
        self.concealed += out.len();
        self.remember(out);
    }

    /// The concealment `position` samples after the last good one.
    fn sample_at(&self, position: usize) -> i16 {
        let hold = HOLD_MS * self.samples_per_ms;
        let end = SILENT_AFTER_MS * self.samples_per_ms;
        if position >= end {
            return 0;
        }
        let sample = i32::from(self.period[position % self.period_samples]);
        if position < hold {
            return sample as i16;
        }
        (sample * (end - position) as i32 / (end - hold) as i32) as i16
    }

    fn remember(&mut self, pcm: &[i16]) {
        let kept = self.history.len();
        let pcm = &pcm[pcm.len().saturating_sub(kept)..];
        let to_end = &mut self.history[self.oldest..];
        let (first, then) = pcm.split_at(pcm.len().min(to_end.len()));
        to_end[..first.len()].copy_from_slice(first);
        self.history[..then.len()].copy_from_slice(then);
        self.oldest = (self.oldest + pcm.len()) % kept;
    }

    /// Finds the pitch period at the end of the history and prepares its repetition.
    fn find_period(&mut self) {
        self.history.rotate_left(self.oldest);
        self.oldest = 0;
        let lag = self.best_lag();
        self.period_samples = lag;
        let newest = self.history.len();
        let period = &mut self.period[..lag];
        period.copy_from_slice(&self.history[newest - lag..]);
        // The repetition begins where the period began, one step away from where the signal stands; that
        // step dies away over a quarter period, here and at each further repetition.
        let step = i32::from(self.history[newest - 1]) - i32::from(self.history[newest - 1 - lag]);
        let fade = (lag / 4) as i32;
        for (n, sample) in period[..lag / 4].iter_mut().enumerate() {
            let shifted = i32::from(*sample) + step * (fade - n as i32) / fade;
            *sample = shifted.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        }
    }

    /// The lag with the largest normalised cross-correlation: first on every second lag and a thinned
    /// signal, then around the best of those on all samples.
    fn best_lag(&self) -> usize {
        let shortest = PITCH_MS_MIN * self.samples_per_ms;
        let longest = PITCH_MS_MAX * self.samples_per_ms - 1;
        // About 4 kHz is enough to find the pitch.
        let stride = (self.samples_per_ms / 4).max(1);
        let coarse = (shortest..=longest)
            .step_by(stride)
            .map(|lag| (lag, self.similarity(lag, stride)))
            .fold(
                (shortest, f32::MIN),
                |best, next| if next.1 > best.1 { next } else { best },
            )
            .0;
        let (from, to) = ((coarse - stride).max(shortest), (coarse + stride).min(longest));
        (from..=to)
            .map(|lag| (lag, self.similarity(lag, 1)))
            .fold(
                (coarse, f32::MIN),
                |best, next| if next.1 > best.1 { next } else { best },
            )
            .0
    }

    fn similarity(&self, lag: usize, stride: usize) -> f32 {
        let newest = self.history.len();
        let recent = newest - CORRELATION_MS * self.samples_per_ms;
        let now = self.history[recent..].iter().step_by(stride);
        let past = self.history[recent - lag..newest - lag].iter().step_by(stride);
        let (mut product, mut power) = (0_i64, 0_i64);
        for (&a, &b) in now.zip(past) {
            product += i64::from(i32::from(a) * i32::from(b));
            power += i64::from(i32::from(b) * i32::from(b));
        }
        if power == 0 {
            f32::MIN
        } else {
            product as f32 / (power as f32).sqrt()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_signal::{noise, speech_like, tone};

    /// Plays `sent` in 20 ms frames and loses those whose index `lost` names.
    fn play(rate: u32, sent: &[i16], lost: impl Fn(usize) -> bool) -> Vec<i16> {
        let mut plc = Plc::new(rate);
        let mut heard = sent.to_vec();
        for (index, frame) in heard.chunks_mut(rate as usize / 50).enumerate() {
            if lost(index) {
                plc.conceal(frame)
            } else {
                plc.good(frame)
            }
        }
        heard
    }

    fn steepest(pcm: &[i16]) -> i32 {
        pcm.windows(2)
            .map(|w| (i32::from(w[1]) - i32::from(w[0])).abs())
            .max()
            .unwrap()
    }

    fn error_power(a: &[i16], b: &[i16]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(i32::from(a) - i32::from(b)).powi(2))
            .sum()
    }

    #[test]
    fn a_tone_goes_on_without_a_step() {
        for rate in [8_000, 16_000, 48_000] {
            for hz in [110.0, 133.3, 187.0, 400.0] {
                let sent = tone(rate, hz, 10_000.0, rate as usize);
                let heard = play(rate, &sent, |index| index % 7 == 3);
                let (was, is) = (steepest(&sent), steepest(&heard));
                assert!(
                    is <= was * 13 / 10 + 16,
                    "{rate} Hz, tone {hz}: step {is}, the tone's own {was}"
                );
            }
        }
    }

    #[test]
    fn speech_with_losses_is_nearer_to_speech_than_with_gaps() {
        for rate in [8_000, 16_000] {
            let sent = speech_like(rate, rate as usize * 2, 5);
            let lost = |index: usize| index % 9 == 4;
            let heard = play(rate, &sent, lost);
            let mut gaps = sent.clone();
            for (index, frame) in gaps.chunks_mut(rate as usize / 50).enumerate() {
                if lost(index) {
                    frame.fill(0);
                }
            }
            let gain_db = 10.0 * (error_power(&sent, &gaps) / error_power(&sent, &heard)).log10();
            assert!(
                gain_db > 1.0,
                "{rate} Hz: only {gain_db:.2} dB better than silence"
            );
            // The loudness of a lost frame is about that of its neighbours.
            let frame = rate as usize / 50;
            let power = |from: usize| error_power(&heard[from * frame..(from + 1) * frame], &vec![0; frame]);
            let (before, lost, after) = (power(12), power(13), power(14));
            assert!(
                lost > before.min(after) / 8.0,
                "{rate} Hz: {before:.0} {lost:.0} {after:.0}"
            );
        }
    }

    #[test]
    fn long_losses_fade_to_silence_and_recover() {
        let sent = tone(8_000, 200.0, 12_000.0, 8_000);
        let heard = play(8_000, &sent, |index| (10..20).contains(&index));
        let peak = |from: usize, to: usize| heard[from..to].iter().map(|s| s.abs()).max().unwrap();
        assert!(peak(1_600, 1_680) > 11_000);
        assert!(peak(1_840, 1_920) < 7_500);
        assert_eq!(peak(2_080, 3_200), 0);
        // The overlap is over after 10 ms.
        assert_eq!(heard[3_280..], sent[3_280..]);
        assert!(steepest(&heard) <= steepest(&sent) * 13 / 10);
    }

    #[test]
    fn good_frames_pass_untouched_and_silence_stays_silent() {
        let mut frame = noise(160, 32_767, 6);
        let sent = frame.clone();
        let mut plc = Plc::new(8_000);
        plc.good(&mut frame);
        assert_eq!(frame, sent);

        let mut plc = Plc::new(8_000);
        plc.conceal(&mut frame);
        assert_eq!(frame, vec![0; 160]);
    }

    #[test]
    fn extreme_and_odd_frames_do_not_overflow() {
        let mut plc = Plc::new(8_000);
        let mut square: Vec<i16> = (0..480)
            .map(|n| if n / 31 % 2 == 0 { i16::MAX } else { i16::MIN })
            .collect();
        plc.good(&mut square);
        for length in [1, 7, 0, 333, 160] {
            plc.conceal(&mut square[..length]);
        }
        plc.good(&mut square[..3]);
        plc.good(&mut []);
    }
}
