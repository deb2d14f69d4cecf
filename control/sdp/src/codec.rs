//! Codecs and payload types.

use std::borrow::Cow;

/// A codec as an rtpmap names it. Copied often: names and parameters that we know cost nothing then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codec {
    /// The encoding name, as written.
    pub name: Cow<'static, str>,
    /// RTP clock rate in hertz. G.722 says 8000 (RFC 3551 §4.5.2), Opus always 48000 (RFC 7587).
    pub clock_hz: u32,
    /// Channels, 1 when not written.
    pub channels: u8,
    /// The fmtp parameters, as written.
    pub fmtp: Option<Cow<'static, str>>,
}

impl Codec {
    /// A codec of one channel without parameters.
    pub fn new(name: impl Into<Cow<'static, str>>, clock_hz: u32) -> Self {
        Self {
            name: name.into(),
            clock_hz,
            channels: 1,
            fmtp: None,
        }
    }

    /// G.711 µ-law.
    pub fn pcmu() -> Self {
        Self::new("PCMU", 8_000)
    }

    /// G.711 A-law.
    pub fn pcma() -> Self {
        Self::new("PCMA", 8_000)
    }

    /// G.722.
    pub fn g722() -> Self {
        Self::new("G722", 8_000)
    }

    /// Opus with the given parameters.
    pub fn opus(fmtp: Option<&'static str>) -> Self {
        Self {
            channels: 2,
            fmtp: fmtp.map(Cow::Borrowed),
            ..Self::new("opus", 48_000)
        }
    }

    /// Telephone-events 0 to 16 (RFC 4733) at a clock rate.
    pub fn telephone_event(clock_hz: u32) -> Self {
        Self {
            fmtp: Some("0-16".into()),
            ..Self::new("telephone-event", clock_hz)
        }
    }

    /// True for telephone-event.
    pub fn is_telephone_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("telephone-event")
    }

    /// Comfort noise (RFC 3389) at a clock rate.
    pub fn comfort_noise(clock_hz: u32) -> Self {
        Self::new("CN", clock_hz)
    }

    /// Comfort noise, which is no codec to talk with.
    pub fn is_comfort_noise(&self) -> bool {
        self.name.eq_ignore_ascii_case("CN")
    }

    /// Same name without case, same clock rate and channels; parameters do not count.
    pub fn matches(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            && self.clock_hz == other.clock_hz
            && self.channels == other.channels
    }

    /// The value of an rtpmap: `opus/48000/2`.
    pub(crate) fn encoding(&self) -> String {
        let clock_hz = self.clock_hz.to_string();
        match self.channels {
            1 => [&*self.name, "/", &clock_hz].concat(),
            channels => [&*self.name, "/", &clock_hz, "/", &channels.to_string()].concat(),
        }
    }

    /// The payload type RFC 3551 table 4 fixes for this codec.
    pub fn static_payload_type(&self) -> Option<u8> {
        STATIC
            .iter()
            .find(|(_, name, clock, channels)| {
                self.name.eq_ignore_ascii_case(name) && self.clock_hz == *clock && self.channels == *channels
            })
            .map(|(payload_type, ..)| *payload_type)
    }

    /// What a payload type means without an rtpmap.
    pub fn from_static(payload_type: u8) -> Option<Self> {
        let (_, name, clock_hz, channels) = STATIC.iter().find(|entry| entry.0 == payload_type)?;
        Some(Self {
            channels: *channels,
            ..Self::new(*name, *clock_hz)
        })
    }
}

/// RFC 3551 tables 4 and 5: payload type, name, clock rate, channels.
const STATIC: &[(u8, &str, u32, u8)] = &[
    (0, "PCMU", 8_000, 1),
    (3, "GSM", 8_000, 1),
    (4, "G723", 8_000, 1),
    (5, "DVI4", 8_000, 1),
    (6, "DVI4", 16_000, 1),
    (7, "LPC", 8_000, 1),
    (8, "PCMA", 8_000, 1),
    (9, "G722", 8_000, 1),
    (10, "L16", 44_100, 2),
    (11, "L16", 44_100, 1),
    (12, "QCELP", 8_000, 1),
    (13, "CN", 8_000, 1),
    (15, "G728", 8_000, 1),
    (16, "DVI4", 11_025, 1),
    (17, "DVI4", 22_050, 1),
    (18, "G729", 8_000, 1),
    (26, "JPEG", 90_000, 1),
    (31, "H261", 90_000, 1),
    (34, "H263", 90_000, 1),
];

/// A name or parameters as a description has them.
pub(crate) fn spelled(text: &str) -> Cow<'static, str> {
    let known = SPELLINGS.iter().find(|known| **known == text).copied();
    known.map_or_else(|| Cow::Owned(text.to_owned()), Cow::Borrowed)
}

/// What nearly every description is made of.
const SPELLINGS: &[&str] = &[
    "PCMU",
    "PCMA",
    "G722",
    "opus",
    "telephone-event",
    "CN",
    "G729",
    "0-15",
    "0-16",
];

/// A codec with its payload type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// 0 to 127.
    pub payload_type: u8,
    /// The codec.
    pub codec: Codec,
}

/// Gives each codec a payload type for an offer: the one it had in `previous` (RFC 3264 §8.3.2: a number keeps its
/// meaning for the whole session), else its static one, else a free dynamic one.
///
/// A codec for which no dynamic number is left is not offered.
pub fn assign_payload_types(codecs: &[Codec], previous: &[Format]) -> Vec<Format> {
    let mut used: Vec<u8> = previous.iter().map(|format| format.payload_type).collect();
    let mut formats = Vec::with_capacity(codecs.len());
    for codec in codecs {
        let kept = previous
            .iter()
            .find(|format| format.codec.matches(codec))
            .map(|format| format.payload_type);
        let fixed = || {
            codec
                .static_payload_type()
                .filter(|payload_type| !used.contains(payload_type))
        };
        // 101 is what nearly everybody uses for telephone-events, and some gateways insist on it.
        let customary = || (codec.is_telephone_event() && !used.contains(&101)).then_some(101);
        let free = || (96..=127).find(|payload_type| !used.contains(payload_type) && *payload_type != 101);
        let Some(payload_type) = kept.or_else(fixed).or_else(customary).or_else(free) else {
            continue;
        };
        used.push(payload_type);
        formats.push(Format {
            payload_type,
            codec: codec.clone(),
        });
    }
    formats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_types_are_static_kept_or_free() {
        let codecs = [
            Codec::opus(None),
            Codec::pcma(),
            Codec::telephone_event(48_000),
            Codec::telephone_event(8_000),
        ];
        let numbers = |formats: &[Format]| formats.iter().map(|f| f.payload_type).collect::<Vec<_>>();
        let first = assign_payload_types(&codecs, &[]);
        assert_eq!(numbers(&first), [96, 8, 101, 97]);
        let previous = [
            Format {
                payload_type: 111,
                codec: Codec::opus(None),
            },
            Format {
                payload_type: 96,
                codec: Codec::g722(),
            },
        ];
        assert_eq!(
            numbers(&assign_payload_types(&codecs, &previous)),
            [111, 8, 101, 97]
        );
    }
}
