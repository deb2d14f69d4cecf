//! How a call sounds: the E-model's rating and mean opinion score from loss and delay.

use std::time::Duration;

/// How a codec suffers, on the narrowband scale of the E-model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CodecImpairment {
    /// Equipment impairment factor without loss (Ie).
    pub ie: f32,
    /// Packet-loss robustness factor (Bpl).
    pub bpl: f32,
}

impl CodecImpairment {
    /// PCMU and PCMA at a receiver that repeats or mutes lost packets.
    ///
    /// # Source
    /// ITU-T G.113 (2007) Appendix I: Ie 0, Bpl 4.3 without packet-loss concealment.
    pub const G711: Self = Self { ie: 0.0, bpl: 4.3 };
    /// PCMU and PCMA at a receiver that conceals lost packets.
    ///
    /// # Source
    /// ITU-T G.113 (2007) Appendix I: Ie 0, Bpl 25.1 with the concealment of G.711 Appendix I, random loss.
    pub const G711_CONCEALED: Self = Self { ie: 0.0, bpl: 25.1 };
    /// G.722 at 64 kbit/s. An assumption, not a published figure: the narrowband scale ends at G.711, which
    /// G.722 is not worse than, so it takes the figures of concealed G.711; its gain in bandwidth is not seen.
    pub const G722: Self = Self { ie: 0.0, bpl: 25.1 };
    /// Opus.
    ///
    /// # Source
    /// M. Alahmadi, "Opus codec E-model" (2021, published as `Opus_emodel.js`): narrowband, constant bit rate,
    /// 11 kbit/s, the highest rate given on the narrowband scale: Ie 2.03, Bpl 15.95 under random loss.
    pub const OPUS: Self = Self { ie: 2.03, bpl: 15.95 };
}

/// What the rating depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualityInputs {
    /// The codec at the listener.
    pub codec: CodecImpairment,
    /// Share of packets lost or discarded as too late, 0 to 1.
    pub loss: f32,
    /// Burst ratio: 1 for random loss, above for bursts (ITU-T G.107 clause 7.5). Below 1 counts as 1.
    pub burst_ratio: f32,
    /// Mouth to ear, one way: network, packetisation, jitter buffer.
    pub delay: Duration,
}

/// Basic signal-to-noise ratio Ro with all parameters at their defaults (ITU-T G.107 (2015) clause 7.2).
const RO: f64 = 15.0 - 1.5 * (SLR + NO);
/// Simultaneous impairment Is with all parameters at their defaults (clause 7.3).
const IS: f64 = 1.413_568;
/// Power addition of the noise sources in dBm0p, defaults (formula 7-3).
const NO: f64 = -61.179_214;
/// Send, receive and talker-echo loudness ratings, weighted echo path loss: defaults of table 3.
const SLR: f64 = 8.0;
const RLR: f64 = 2.0;
const TELR: f64 = 65.0;
const WEPL: f64 = 110.0;
/// Impairment of a codec of which nothing arrives (formula 7-29).
const IE_MAX: f64 = 95.0;

/// Transmission rating R, 0 (unusable) to 93.2 (the best a narrowband call can be).
///
/// Everything that a media server does not see (levels, noise, echo) has its default.
///
/// # Source
/// ITU-T G.107 (2015), with the default parameters of table 3.
pub fn r_factor(inputs: &QualityInputs) -> f32 {
    let rating = RO - IS - delay_impairment(inputs.delay) - effective_equipment_impairment(inputs);
    rating.clamp(0.0, 100.0) as f32
}

/// Mean opinion score of conversational quality, 1.0 to 4.5; at most 4.41 in practice.
///
/// ```
/// use std::time::Duration;
/// use rtp::quality::{CodecImpairment, QualityInputs, mos};
///
/// let good = QualityInputs {
///     codec: CodecImpairment::G711,
///     loss: 0.0,
///     burst_ratio: 1.0,
///     delay: Duration::from_millis(40),
/// };
/// assert!(mos(&good) > 4.3);
/// assert!(mos(&QualityInputs { loss: 0.05, ..good }) < 2.7);
/// ```
///
/// # Source
/// ITU-T G.107 (2015) Annex B, formula B-4.
pub fn mos(inputs: &QualityInputs) -> f32 {
    let rating = f64::from(r_factor(inputs));
    let score = 1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6;
    // The polynomial dips below 1 for ratings under 6.5.
    score.clamp(1.0, 4.5) as f32
}

/// Id: talker echo, listener echo and absolute delay (clause 7.4), echo and absolute delay taken as equal.
fn delay_impairment(delay: Duration) -> f64 {
    let one_way_ms = delay.as_secs_f64() * 1000.0;
    let loop_ms = 2.0 * one_way_ms;

    let talker_echo = if one_way_ms < 1.0 {
        0.0
    } else {
        let terv = TELR - 40.0 * ((1.0 + one_way_ms / 10.0) / (1.0 + one_way_ms / 150.0)).log10()
            + 6.0 * (-0.3 * one_way_ms * one_way_ms).exp();
        let roe = -1.5 * (NO - RLR);
        let re = 80.0 + 2.5 * (terv - 14.0);
        let half = (roe - re) / 2.0;
        (half + (half * half + 100.0).sqrt() - 1.0) * (1.0 - (-one_way_ms).exp())
    };

    let rle = 10.5 * (WEPL + 7.0) * (loop_ms + 1.0).powf(-0.25);
    let half = (RO - rle) / 2.0;
    let listener_echo = half + (half * half + 169.0).sqrt();

    let absolute = if one_way_ms <= 100.0 {
        0.0
    } else {
        let x = (one_way_ms / 100.0).log2();
        let sixth_root = |value: f64| (1.0 + value.powi(6)).powf(1.0 / 6.0);
        25.0 * (sixth_root(x) - 3.0 * sixth_root(x / 3.0) + 2.0)
    };
    talker_echo + listener_echo + absolute
}

/// Ie,eff (formula 7-29).
fn effective_equipment_impairment(inputs: &QualityInputs) -> f64 {
    let ie = f64::from(inputs.codec.ie);
    // A share of nothing received is 0/0; that says nothing about loss.
    let loss = if inputs.loss.is_nan() {
        0.0
    } else {
        inputs.loss.clamp(0.0, 1.0)
    };
    let loss_percent = f64::from(loss) * 100.0;
    if loss_percent == 0.0 {
        return ie;
    }
    let burst_ratio = f64::from(inputs.burst_ratio.max(1.0));
    ie + (IE_MAX - ie) * loss_percent / (loss_percent / burst_ratio + f64::from(inputs.codec.bpl))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERFECT: QualityInputs = QualityInputs {
        codec: CodecImpairment::G711,
        loss: 0.0,
        burst_ratio: 1.0,
        delay: Duration::ZERO,
    };

    #[test]
    fn defaults_give_the_rating_g_107_states() {
        // ITU-T G.107 clause 7.7: with all parameters at their defaults R = 93.2; MOS 4.41 (Annex B).
        assert!((r_factor(&PERFECT) - 93.2).abs() < 0.05, "{}", r_factor(&PERFECT));
        assert!((mos(&PERFECT) - 4.41).abs() < 0.005, "{}", mos(&PERFECT));
    }

    #[test]
    fn loss_follows_formula_7_29() {
        // 1 % random loss: Ie,eff = 95 × 1 / (1 + 4.3) = 17.92; concealed 95 / 26.1 = 3.64.
        let lossy = QualityInputs {
            loss: 0.01,
            ..PERFECT
        };
        assert!((r_factor(&PERFECT) - r_factor(&lossy) - 17.925).abs() < 0.01);
        let concealed = QualityInputs {
            codec: CodecImpairment::G711_CONCEALED,
            ..lossy
        };
        assert!((r_factor(&PERFECT) - r_factor(&concealed) - 3.640).abs() < 0.01);
        let bursty = QualityInputs {
            burst_ratio: 2.0,
            ..lossy
        };
        assert!(r_factor(&bursty) < r_factor(&lossy));
    }

    #[test]
    fn delay_beyond_a_few_hundred_milliseconds_costs() {
        let at = |ms| {
            r_factor(&QualityInputs {
                delay: Duration::from_millis(ms),
                ..PERFECT
            })
        };
        // By hand from formulas 7-19 to 7-26 at T = 100: Idte 1.97, Idle 0.72, Idd 0.
        assert!((at(0) - at(100) - 2.54).abs() < 0.1, "{}", at(0) - at(100));
        assert!(at(400) < 75.0 && at(400) > 55.0, "{}", at(400));
    }

    #[test]
    fn contradictory_input_stays_in_range() {
        for loss in [f32::NAN, f32::INFINITY, -1.0, 5.0] {
            let inputs = QualityInputs {
                loss,
                burst_ratio: f32::NAN,
                delay: Duration::MAX,
                ..PERFECT
            };
            assert!((1.0..=4.5).contains(&mos(&inputs)), "loss {loss}");
        }
        assert_eq!(mos(&QualityInputs { loss: 1.0, ..PERFECT }), 1.0);
    }

    proptest! {
        #[test]
        fn more_loss_and_more_delay_never_sound_better(loss in 0f32..0.5, more in 0f32..0.5, ms in 0u64..1000) {
            let inputs = QualityInputs { loss, delay: Duration::from_millis(ms), ..PERFECT };
            let worse = QualityInputs { loss: loss + more, ..inputs };
            prop_assert!(r_factor(&worse) <= r_factor(&inputs));
            let slower = QualityInputs { delay: inputs.delay + Duration::from_millis(100), ..inputs };
            prop_assert!(r_factor(&slower) <= r_factor(&inputs));
        }
    }
}
