//! One encoder and one decoder for all codecs: enums, so that a stream costs no indirect call.

use crate::{g711, g722, l16, opus, plc::Plc};

/// Why a frame was not coded.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The caller's buffer cannot hold the frame; nothing was written.
    #[error("the output needs room for {needed}, it has {available}")]
    OutputTooSmall {
        /// Samples or bytes that the frame needs.
        needed: usize,
        /// Samples or bytes that there are.
        available: usize,
    },
    /// The peer's payload is not of this codec: count it and drop it.
    #[error("malformed payload")]
    MalformedPayload,
    /// The codec has no frame of this length.
    #[error("{samples} samples are no frame of this codec")]
    FrameSamples {
        /// The length that was asked for.
        samples: usize,
    },
    /// The codec does not run at this sampling rate.
    #[error("the codec does not run at {hz} Hz")]
    SampleRate {
        /// The rate that was asked for.
        hz: u32,
    },
    /// libopus refused for another reason.
    #[error("libopus: {reason}")]
    Opus {
        /// What libopus calls it.
        reason: &'static str,
    },
}

/// A codec, as far as it decides about clocks and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodecKind {
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s.
    G722,
    /// Opus, mono.
    Opus,
    /// Uncompressed, mono.
    L16 {
        /// Sampling rate and RTP clock.
        sample_rate_hz: u32,
    },
}

impl CodecKind {
    /// The RTP clock. For G.722 it is half the sampling rate, by an old mistake (RFC 3551 §4.5.2); for Opus
    /// it is 48 kHz always (RFC 7587 §4.1).
    #[must_use]
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
            Self::Opus => opus::CLOCK_HZ,
            Self::L16 { sample_rate_hz } => sample_rate_hz,
        }
    }

    /// The sampling rate at which nothing is lost. Opus also runs at others.
    #[must_use]
    pub const fn sample_rate_hz(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8_000,
            Self::G722 => 16_000,
            Self::Opus => 48_000,
            Self::L16 { sample_rate_hz } => sample_rate_hz,
        }
    }

    /// Whether encoder and decoder can be created at this sampling rate.
    #[must_use]
    pub const fn runs_at(self, sample_rate_hz: u32) -> bool {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => sample_rate_hz == self.sample_rate_hz(),
            Self::Opus => matches!(sample_rate_hz, 8_000 | 12_000 | 16_000 | 24_000 | 48_000),
            Self::L16 { sample_rate_hz: own } => sample_rate_hz == own && own >= 1_000,
        }
    }

    /// Whether one payload can hold this packet time: whole samples, and for Opus a duration of a single
    /// packet (RFC 6716 §2.1.4).
    #[must_use]
    pub const fn has_ptime(self, ptime_ms: u32) -> bool {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => ptime_ms > 0,
            Self::Opus => matches!(ptime_ms, 5 | 10 | 20 | 40 | 60 | 80 | 100 | 120),
            Self::L16 { sample_rate_hz } => ptime_ms > 0 && (sample_rate_hz * ptime_ms).is_multiple_of(1_000),
        }
    }

    /// Samples of a packet time at a sampling rate.
    #[must_use]
    pub const fn frame_samples(sample_rate_hz: u32, ptime_ms: u32) -> usize {
        (sample_rate_hz * ptime_ms / 1_000) as usize
    }

    /// RTP timestamp units of a packet time.
    #[must_use]
    pub const fn ptime_ticks(self, ptime_ms: u32) -> u32 {
        self.clock_rate_hz() * ptime_ms / 1_000
    }

    /// The most bytes that a payload of this packet time can have.
    #[must_use]
    pub const fn payload_bytes_max(self, ptime_ms: u32) -> usize {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8 * ptime_ms as usize,
            // Up to 20 ms one frame; beyond that, frames of 20 ms with two bytes of length each.
            Self::Opus => {
                let frames = ptime_ms.div_ceil(20) as usize;
                frames * (opus::FRAME_BYTES_MAX + 2) + 2
            }
            Self::L16 { sample_rate_hz } => 2 * Self::frame_samples(sample_rate_hz, ptime_ms),
        }
    }

    /// How long a received payload is, in RTP timestamp units, without decoding it.
    ///
    /// # Errors
    /// [`CodecError::MalformedPayload`] when it is empty or not of this codec.
    pub fn payload_ticks(self, payload: &[u8]) -> Result<u32, CodecError> {
        if payload.is_empty() {
            return Err(CodecError::MalformedPayload);
        }
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => Ok(payload.len() as u32),
            Self::Opus => Ok(opus::PacketInfo::parse(payload)?.ticks()),
            Self::L16 { .. } if payload.len().is_multiple_of(2) => Ok(payload.len() as u32 / 2),
            Self::L16 { .. } => Err(CodecError::MalformedPayload),
        }
    }
}

/// An encoder of one stream.
#[derive(Debug)]
pub enum Encoder {
    /// G.711 µ-law: no state.
    Pcmu,
    /// G.711 A-law: no state.
    Pcma,
    /// G.722.
    G722(g722::Encoder),
    /// Opus.
    Opus(opus::Encoder),
    /// L16: no state.
    L16,
}

impl Encoder {
    /// Takes over where `other` stands, so that the same decoder can be fed by this one from now on; false where that
    /// cannot be done, since the codec keeps its state to itself. Does not allocate.
    pub fn continue_from(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::G722(own), Self::G722(other)) => own.clone_from(other),
            (Self::Opus(_), _) => return false,
            (Self::Pcmu | Self::Pcma | Self::L16 | Self::G722(_), _) => {}
        }
        true
    }

    /// Whoever listens heard another encoder until now. Matters to Opus alone: see [`opus::Encoder::start_anew`]. Does not
    /// allocate.
    pub fn start_anew(&mut self) {
        match self {
            Self::Opus(encoder) => encoder.start_anew(),
            Self::Pcmu | Self::Pcma | Self::G722(_) | Self::L16 => {}
        }
    }

    /// Nobody heard what was encoded since [`Self::start_anew`]. Matters to Opus alone: see [`opus::Encoder::start_again`]. Does
    /// not allocate.
    pub fn start_again(&mut self) {
        match self {
            Self::Opus(encoder) => encoder.start_again(),
            Self::Pcmu | Self::Pcma | Self::G722(_) | Self::L16 => {}
        }
    }

    /// Some of those who listen heard another encoder until now. Matters to Opus alone: see [`opus::Encoder::refresh`]. Does
    /// not allocate.
    pub fn refresh(&mut self) {
        match self {
            Self::Opus(encoder) => encoder.refresh(),
            Self::Pcmu | Self::Pcma | Self::G722(_) | Self::L16 => {}
        }
    }

    /// An encoder that takes samples at `sample_rate_hz`; `settings` matter to Opus alone.
    ///
    /// # Errors
    /// [`CodecError::SampleRate`] where [`CodecKind::runs_at`] says no, [`CodecError::Opus`] for settings
    /// out of range.
    pub fn new(kind: CodecKind, sample_rate_hz: u32, settings: &opus::Settings) -> Result<Self, CodecError> {
        if !kind.runs_at(sample_rate_hz) {
            return Err(CodecError::SampleRate { hz: sample_rate_hz });
        }
        Ok(match kind {
            CodecKind::Pcmu => Self::Pcmu,
            CodecKind::Pcma => Self::Pcma,
            CodecKind::G722 => Self::G722(g722::Encoder::new()),
            CodecKind::Opus => Self::Opus(opus::Encoder::new(sample_rate_hz, settings)?),
            CodecKind::L16 { .. } => Self::L16,
        })
    }

    /// Encodes one frame into one payload; returns its bytes. 0 bytes: nothing needs to be sent (DTX).
    ///
    /// # Errors
    /// [`CodecError::OutputTooSmall`]; [`CodecError::FrameSamples`] for a length the codec does not have.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> Result<usize, CodecError> {
        let needed = match self {
            Self::Opus(encoder) => return encoder.encode(pcm, payload),
            Self::Pcmu | Self::Pcma => pcm.len(),
            Self::G722(_) if !pcm.len().is_multiple_of(2) => {
                return Err(CodecError::FrameSamples { samples: pcm.len() });
            }
            Self::G722(_) => pcm.len() / 2,
            Self::L16 => pcm.len() * 2,
        };
        let available = payload.len();
        let payload = payload
            .get_mut(..needed)
            .ok_or(CodecError::OutputTooSmall { needed, available })?;
        Ok(match self {
            Self::Pcmu => g711::encode_ulaw(pcm, payload),
            Self::Pcma => g711::encode_alaw(pcm, payload),
            Self::G722(encoder) => encoder.encode(pcm, payload),
            Self::L16 => l16::encode(pcm, payload),
            Self::Opus(_) => unreachable!("returned above"),
        })
    }

    /// Tells the encoder the loss that the peer reports, in percent. Only Opus can use it.
    pub fn set_packet_loss(&mut self, percent: u8) {
        if let Self::Opus(encoder) = self {
            encoder.set_packet_loss(percent);
        }
    }

    /// Changes the effort from the next payload on: see [`opus::Encoder::set_complexity`]. Matters to Opus alone. Does not
    /// allocate.
    pub fn set_complexity(&mut self, complexity: u8) {
        if let Self::Opus(encoder) = self {
            encoder.set_complexity(complexity);
        }
    }
}

/// A decoder of one stream, with its concealment.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "G.722 state in place: a box would cost each frame a miss"
)]
pub enum Decoder {
    /// G.711 µ-law.
    Pcmu(Plc),
    /// G.711 A-law.
    Pcma(Plc),
    /// G.722.
    G722(g722::Decoder, Plc),
    /// Opus, which conceals by itself.
    Opus(opus::Decoder),
    /// L16.
    L16(Plc),
}

impl Decoder {
    /// A decoder that gives samples at `sample_rate_hz`.
    ///
    /// # Errors
    /// [`CodecError::SampleRate`] where [`CodecKind::runs_at`] says no.
    pub fn new(kind: CodecKind, sample_rate_hz: u32) -> Result<Self, CodecError> {
        if !kind.runs_at(sample_rate_hz) {
            return Err(CodecError::SampleRate { hz: sample_rate_hz });
        }
        Ok(match kind {
            CodecKind::Pcmu => Self::Pcmu(Plc::new(sample_rate_hz)),
            CodecKind::Pcma => Self::Pcma(Plc::new(sample_rate_hz)),
            CodecKind::G722 => Self::G722(g722::Decoder::new(), Plc::new(sample_rate_hz)),
            CodecKind::Opus => Self::Opus(opus::Decoder::new(sample_rate_hz)?),
            CodecKind::L16 { .. } => Self::L16(Plc::new(sample_rate_hz)),
        })
    }

    /// Decodes one payload; returns the samples written to the beginning of `pcm`.
    ///
    /// # Errors
    /// [`CodecError::MalformedPayload`]: drop the packet and [`Decoder::conceal`] in its place.
    /// [`CodecError::OutputTooSmall`]: the payload is longer than `pcm`; nothing was decoded.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        if payload.is_empty() {
            return Err(CodecError::MalformedPayload);
        }
        let needed = match self {
            Self::Opus(decoder) => return decoder.decode(payload, pcm),
            Self::Pcmu(_) | Self::Pcma(_) => payload.len(),
            Self::G722(..) => payload.len() * 2,
            Self::L16(_) if !payload.len().is_multiple_of(2) => return Err(CodecError::MalformedPayload),
            Self::L16(_) => payload.len() / 2,
        };
        let available = pcm.len();
        let pcm = pcm
            .get_mut(..needed)
            .ok_or(CodecError::OutputTooSmall { needed, available })?;
        match self {
            Self::Pcmu(plc) => {
                g711::decode_ulaw(payload, pcm);
                plc.good(pcm);
            }
            Self::Pcma(plc) => {
                g711::decode_alaw(payload, pcm);
                plc.good(pcm);
            }
            Self::G722(decoder, plc) => {
                decoder.decode(payload, pcm);
                plc.good(pcm);
            }
            Self::L16(plc) => {
                l16::decode(payload, pcm);
                plc.good(pcm);
            }
            Self::Opus(_) => unreachable!("returned above"),
        }
        Ok(needed)
    }

    /// Makes up a lost frame of the length of `pcm`.
    pub fn conceal(&mut self, pcm: &mut [i16]) {
        match self {
            Self::Pcmu(plc) | Self::Pcma(plc) | Self::G722(_, plc) | Self::L16(plc) => plc.conceal(pcm),
            Self::Opus(decoder) => decoder.conceal(pcm),
        }
    }

    /// Restores a lost frame from the payload that follows it, if it carries FEC; conceals otherwise.
    /// Returns whether it was restored. Decode `next` itself afterwards.
    pub fn recover(&mut self, next: &[u8], pcm: &mut [i16]) -> bool {
        match self {
            Self::Opus(decoder) => decoder.recover(next, pcm),
            Self::Pcmu(_) | Self::Pcma(_) | Self::G722(..) | Self::L16(_) => {
                self.conceal(pcm);
                false
            }
        }
    }
}
