//! What a peer asks of those who encode for it: the `fmtp` of its format.

use super::{NETWORK_LOSS_PERCENT, Settings};

/// Bounds of `maxaveragebitrate` in bit/s (RFC 7587 §6.1).
const BITRATES_BPS: std::ops::RangeInclusive<u32> = 6_000..=510_000;

/// Bounds of `maxplaybackrate` in Hz: what the codec knows.
const PLAYBACK_RATES_HZ: std::ops::RangeInclusive<u32> = 8_000..=48_000;

impl Settings {
    /// The default, for a network that loses some packets, within what the peer's `fmtp` allows and with what it prefers
    /// (RFC 7587 §6.1): `maxaveragebitrate`, `maxplaybackrate`, `cbr` and `useinbandfec`. The copies of forward error
    /// correction are sent only while loss is told ([`super::Encoder::set_packet_loss`]). `usedtx` is for those to read who
    /// decide what is silence. What is unknown or out of range is not heeded.
    #[must_use]
    pub fn asked(fmtp: &str) -> Self {
        let mut settings = Self {
            packet_loss_percent_min: NETWORK_LOSS_PERCENT,
            ..Self::default()
        };
        let parameters = fmtp.split(';').filter_map(|parameter| parameter.split_once('='));
        for (name, value) in parameters.map(|(name, value)| (name.trim(), value.trim())) {
            let number = |bounds: &std::ops::RangeInclusive<u32>| {
                value.parse().ok().filter(|number| bounds.contains(number))
            };
            if name.eq_ignore_ascii_case("maxaveragebitrate") {
                let most = number(&BITRATES_BPS).unwrap_or(settings.bitrate_bps);
                settings.bitrate_bps = settings.bitrate_bps.min(most);
            } else if name.eq_ignore_ascii_case("maxplaybackrate") {
                settings.playback_rate_hz = number(&PLAYBACK_RATES_HZ).unwrap_or(settings.playback_rate_hz);
            } else if name.eq_ignore_ascii_case("cbr") {
                settings.vbr = value != "1";
            } else if name.eq_ignore_ascii_case("useinbandfec") {
                settings.inband_fec = value == "1";
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        opus::{Bandwidth, Encoder, PacketInfo},
        test_signal::speech_like,
    };

    #[test]
    fn what_is_asked_is_heeded_and_what_makes_no_sense_is_not() {
        let default = Settings {
            packet_loss_percent_min: NETWORK_LOSS_PERCENT,
            ..Settings::default()
        };
        for nothing in [
            "",
            "minptime=10",
            "maxaveragebitrate=5999; maxplaybackrate=fast",
            "cbr;=;useinbandfec=2",
        ] {
            assert_eq!(Settings::asked(nothing), default, "{nothing}");
        }
        // More than the default is allowed, not wanted.
        assert_eq!(Settings::asked("maxaveragebitrate=64000"), default);
        let all = "maxaveragebitrate=12000; MaxPlaybackRate=8000;cbr=1 ;useinbandfec=1;stereo=1";
        let expected = Settings {
            bitrate_bps: 12_000,
            playback_rate_hz: 8_000,
            vbr: false,
            inband_fec: true,
            ..default
        };
        assert_eq!(Settings::asked(all), expected);
    }

    /// Bytes of each packet of 4 s of speech at 16 kHz, and the structure of the last.
    fn encoded(fmtp: &str) -> (Vec<usize>, PacketInfo) {
        let mut encoder = Encoder::new(16_000, &Settings::asked(fmtp)).unwrap();
        let mut payload = [0; 1_500];
        let mut sizes = Vec::new();
        for frame in speech_like(16_000, 64_000, 5).chunks_exact(320) {
            sizes.push(encoder.encode(frame, &mut payload).unwrap());
        }
        let last = sizes.last().copied().unwrap();
        (sizes, PacketInfo::parse(&payload[..last]).unwrap())
    }

    #[test]
    fn packets_are_as_they_were_asked_for() {
        let (plain, info) = encoded("");
        assert_eq!(info.bandwidth, Bandwidth::Wide);
        let total = |sizes: &[usize]| sizes.iter().sum::<usize>();
        let (small, _) = encoded("maxaveragebitrate=12000");
        assert!(
            total(&small) * 10 < total(&plain) * 7,
            "{} of {}",
            total(&small),
            total(&plain)
        );
        let (constant, _) = encoded("cbr=1");
        assert!(constant.iter().all(|size| *size == constant[0]), "{constant:?}");
        let (_, info) = encoded("maxplaybackrate=8000");
        assert_eq!(info.bandwidth, Bandwidth::Narrow);
    }
}
