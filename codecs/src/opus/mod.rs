//! Opus through libopus 1.6, always mono.
//!
//! The safe wrapper `opusic-c` does all that is needed: it allocates only in the constructors and codes
//! into the caller's slices, so this crate stays free of `unsafe`.
//!
//! The RTP clock is 48 kHz whatever the sampling rate (RFC 7587 §4.1). Encoder and decoder are created at
//! the rate of the *other* side: facing G.711 that is 8 kHz, which halves the price of encoding and needs
//! no resampler; every stream decodes to every rate.
//!
//! # Source
//! RFC 6716 (codec), RFC 7587 (payload format).

mod packet;
mod parameters;
#[cfg(test)]
mod tests;

pub use packet::{Bandwidth, Mode, PacketInfo};

use crate::CodecError;
use opusic_c::{
    Application as SysApplication, Bandwidth as SysBandwidth, Bitrate, Channels, ErrorCode, InbandFec,
    SampleRate,
};

/// The RTP clock of Opus (RFC 7587 §4.1).
pub const CLOCK_HZ: u32 = 48_000;
/// The longest packet: 120 ms (RFC 6716 §3.2.5, R5).
pub const PACKET_MS_MAX: u32 = 120;
/// The largest frame of a packet (RFC 6716 §3.2.1); packets of up to 20 ms need no more.
pub const FRAME_BYTES_MAX: usize = 1_275;
/// The most effort an encoder can make.
pub const COMPLEXITY_MAX: u8 = 10;
/// Up to this many bytes say "nothing to hear": discontinuous transmission need not send them.
const DTX_BYTES_MAX: usize = 2;
/// The longest frame of all bandwidths; those of up to 8 kHz of sound may be of 60 ms (RFC 6716 §2.1.4).
const FRAME_MS_MAX: usize = 20;
/// Whoever encodes for a network reckons with the loss of so many packets in 100 at least, whatever is told: where an encoder
/// reckons with none it predicts a steady tone from what was before with all it has, and a decoder that missed one packet, or
/// came in the middle, makes up to twenty times as much of the next tone. Speech is as it was sent after 60 ms instead of 160,
/// for 2 to 4 % more bytes.
pub const NETWORK_LOSS_PERCENT: u8 = 2;
/// From this bit rate on libopus takes the transform codec whatever it hears, with all that effort and packet time take off.
const ANEW_BPS: u32 = 96_000;

/// The peer transmits discontinuously and says with this packet that there is nothing to hear (RFC 7587 §3.1.3).
#[must_use]
pub fn is_dtx(packet: &[u8]) -> bool {
    packet.len() <= DTX_BYTES_MAX
}

/// What the encoder optimises for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Application {
    /// Speech; the default.
    #[default]
    Voip,
    /// Music, or whatever should come out as it went in.
    Audio,
    /// Least delay, without the speech modes (and so without in-band FEC).
    LowDelay,
}

/// How to encode; see [`Settings::asked`] for what a peer may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What to optimise for.
    pub application: Application,
    /// Effort, 0 to 10.
    pub complexity: u8,
    /// Target in bit/s, 6 000 to 510 000.
    pub bitrate_bps: u32,
    /// Packets of varying size. Constant size hides the content of encrypted speech, at a price.
    pub vbr: bool,
    /// Send a coarse copy of each frame in the next packet. Takes effect only while loss is told.
    pub inband_fec: bool,
    /// Send nothing in silence.
    pub dtx: bool,
    /// Loss that is told, in percent: how much of the bit rate FEC may take.
    pub packet_loss_percent: u8,
    /// Loss to reckon with when less is told, or none: the more, the less is predicted from packets before. See
    /// [`NETWORK_LOSS_PERCENT`].
    pub packet_loss_percent_min: u8,
    /// The rate that the peer plays at, in Hz: what only a higher one could carry is not sent.
    pub playback_rate_hz: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            application: Application::Voip,
            complexity: 5,
            bitrate_bps: 24_000,
            vbr: true,
            inband_fec: false,
            dtx: false,
            packet_loss_percent: 0,
            packet_loss_percent_min: 0,
            playback_rate_hz: CLOCK_HZ,
        }
    }
}

/// Encoder of one stream.
pub struct Encoder {
    inner: opusic_c::Encoder,
    sample_rate_hz: u32,
    bitrate_bps: u32,
    dtx: bool,
    /// The latest packet said that there is nothing to hear.
    quiet: bool,
    inband_fec: bool,
    packet_loss_percent: u8,
    packet_loss_percent_min: u8,
    /// So many packets are to be of the transform codec.
    transform_packets: u8,
    /// The widest bandwidth that the peer can use …
    widest: SysBandwidth,
    /// … and whether packets are longer than a frame of all bandwidths can be, samples of all channels: then it is not used.
    is_long: bool,
    frame_samples_max: usize,
}

/// Decoder of one stream.
pub struct Decoder {
    inner: opusic_c::Decoder,
    sample_rate_hz: u32,
}

impl Encoder {
    /// An encoder of samples at 8, 12, 16, 24 or 48 kHz.
    ///
    /// # Errors
    /// [`CodecError::SampleRate`] for another rate, [`CodecError::Opus`] for settings out of range.
    pub fn new(sample_rate_hz: u32, settings: &Settings) -> Result<Self, CodecError> {
        Self::with_channels(Channels::Mono, sample_rate_hz, settings)
    }

    /// An encoder of two channels, whose samples are interleaved.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn stereo(sample_rate_hz: u32, settings: &Settings) -> Result<Self, CodecError> {
        Self::with_channels(Channels::Stereo, sample_rate_hz, settings)
    }

    fn with_channels(
        channels: Channels,
        sample_rate_hz: u32,
        settings: &Settings,
    ) -> Result<Self, CodecError> {
        let application = match settings.application {
            Application::Voip => SysApplication::Voip,
            Application::Audio => SysApplication::Audio,
            Application::LowDelay => SysApplication::LowDelay,
        };
        let rate = sample_rate(sample_rate_hz)?;
        let channel_count = match channels {
            Channels::Mono => 1,
            Channels::Stereo => 2,
        };
        let mut inner = opusic_c::Encoder::new(channels, rate, application).map_err(fault)?;
        inner.set_complexity(settings.complexity).map_err(fault)?;
        inner
            .set_bitrate(Bitrate::Value(settings.bitrate_bps))
            .map_err(fault)?;
        inner.set_vbr(settings.vbr).map_err(fault)?;
        inner.set_dtx(settings.dtx).map_err(fault)?;
        let widest = widest(settings.playback_rate_hz);
        inner.set_max_bandwidth(widest).map_err(fault)?;
        let mut encoder = Self {
            inner,
            sample_rate_hz,
            bitrate_bps: settings.bitrate_bps,
            dtx: settings.dtx,
            quiet: false,
            inband_fec: settings.inband_fec,
            packet_loss_percent: settings.packet_loss_percent,
            packet_loss_percent_min: settings.packet_loss_percent_min,
            transform_packets: 0,
            widest,
            is_long: false,
            frame_samples_max: sample_rate_hz as usize / 1_000 * FRAME_MS_MAX * channel_count,
        };
        encoder.expect_loss(settings.packet_loss_percent)?;
        Ok(encoder)
    }

    fn expect_loss(&mut self, percent: u8) -> Result<(), CodecError> {
        self.packet_loss_percent = percent;
        // Nobody needs copies of what nobody loses.
        let fec = match self.inband_fec && percent > 0 {
            true => InbandFec::Mode1,
            false => InbandFec::Off,
        };
        self.inner.set_inband_fec(fec).map_err(fault)?;
        self.inner.set_packet_loss(self.expected_loss()).map_err(fault)
    }

    fn expected_loss(&self) -> u8 {
        self.packet_loss_percent.max(self.packet_loss_percent_min)
    }

    /// Whoever decodes heard another encoder until now: the next packet makes its decoder forget that.
    ///
    /// The speech modes predict from what was decoded before, and a decoder that remembers something else turns the
    /// prediction into a sound of its own, up to ten times as loud, which takes a second to die away. A packet of the
    /// transform codec without a past lets the decoder's speech part begin at zero (RFC 6716 §4.5.2), where this encoder
    /// begins too, and fades over to it. It has some 240 bytes.
    pub fn start_anew(&mut self) {
        let reset = self.inner.reset();
        debug_assert!(reset.is_ok(), "libopus has no reason to refuse");
        self.transform_packets = 1;
    }

    /// Nobody heard what was encoded since [`Self::start_anew`]: the next packet makes decoders forget as well, and begins with
    /// what this encoder knows of the sound before it.
    pub fn start_again(&mut self) {
        self.transform_packets = self.transform_packets.max(1);
    }

    /// As [`Self::start_anew`] where some decoders heard this very encoder: for them it goes on without a seam, and the others
    /// forget what they remember with the second packet.
    pub fn refresh(&mut self) {
        // From speech to transform the change is made in a packet of speech.
        self.transform_packets = self.transform_packets.max(2);
    }

    /// Sets what decides about the mode: for a packet that starts anew, or as it was asked for.
    fn prefer_transform(&mut self, prefer: bool) -> Result<(), CodecError> {
        let (bitrate_bps, dtx, loss) = match prefer {
            true => (self.bitrate_bps.max(ANEW_BPS), false, 0),
            false => (self.bitrate_bps, self.dtx, self.expected_loss()),
        };
        let bitrate = Bitrate::Value(bitrate_bps);
        self.inner.set_bitrate(bitrate).map_err(fault)?;
        self.inner.set_dtx(dtx).map_err(fault)?;
        // Nothing is told by the packet before, which may have been heard by nobody.
        self.inner.set_prediction_disabled(prefer).map_err(fault)?;
        self.inner.set_packet_loss(loss).map_err(fault)
    }

    /// Packets that are longer than [`FRAME_MS_MAX`] carry up to 8 kHz of sound, so that they are of one frame. For what is above
    /// libopus makes frames of 20 ms of them and gives none of these more bits than the average: tones then come out up to five
    /// times as loud as they went in.
    fn keep_to_one_frame(&mut self, samples: usize) -> Result<(), CodecError> {
        let is_long = samples > self.frame_samples_max;
        if is_long == self.is_long {
            return Ok(());
        }
        self.is_long = is_long;
        let widest = match (is_long, self.widest) {
            (true, SysBandwidth::Superwide | SysBandwidth::Full) => SysBandwidth::Wide,
            (_, widest) => widest,
        };
        self.inner.set_max_bandwidth(widest).map_err(fault)
    }

    /// Encodes one packet; returns its bytes, or 0 when DTX has nothing to send. The first packet of a silence is to be sent:
    /// it tells the decoder that what comes no more is no loss.
    ///
    /// # Shape
    /// 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms of samples, of each channel.
    ///
    /// # Errors
    /// [`CodecError::FrameSamples`] for another length, [`CodecError::OutputTooSmall`] when `payload` is.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> Result<usize, CodecError> {
        if payload.is_empty() {
            return Err(CodecError::OutputTooSmall {
                needed: 1,
                available: 0,
            });
        }
        self.keep_to_one_frame(pcm.len())?;
        let transform = self.transform_packets > 0;
        if transform {
            self.prefer_transform(true)?;
        }
        let encoded = self.inner.encode_to_slice(bytemuck::cast_slice(pcm), payload);
        if transform {
            self.transform_packets -= u8::from(encoded.is_ok());
            self.prefer_transform(false)?;
        }
        let says_nothing = |bytes| !transform && self.dtx && bytes <= DTX_BYTES_MAX;
        let was_quiet = std::mem::replace(&mut self.quiet, encoded.is_ok_and(says_nothing));
        match encoded {
            Ok(_) if self.quiet && was_quiet => Ok(0),
            Ok(bytes) => Ok(bytes),
            Err(ErrorCode::BadArg) => Err(CodecError::FrameSamples { samples: pcm.len() }),
            Err(ErrorCode::BufferTooSmall) => Err(CodecError::OutputTooSmall {
                needed: FRAME_BYTES_MAX,
                available: payload.len(),
            }),
            Err(other) => Err(fault(other)),
        }
    }

    /// Changes the loss that the peer reports (RTCP), 0 to 100; larger values count as 100.
    pub fn set_packet_loss(&mut self, percent: u8) {
        let set = self.expect_loss(percent.min(100));
        debug_assert!(set.is_ok(), "0 to 100 is the documented range");
    }

    /// Changes the target bit rate; libopus clamps it to what the rate and frame size allow.
    pub fn set_bitrate(&mut self, bits_per_second: u32) {
        self.bitrate_bps = bits_per_second.clamp(500, 512_000);
        let set = self.inner.set_bitrate(Bitrate::Value(self.bitrate_bps));
        debug_assert!(set.is_ok(), "500 to 512 000 is the documented range");
    }

    /// Changes the effort from the next packet on, 0 to 10; larger values count as 10. The stream goes on without a seam.
    pub fn set_complexity(&mut self, complexity: u8) {
        let set = self.inner.set_complexity(complexity.min(COMPLEXITY_MAX));
        debug_assert!(set.is_ok(), "0 to 10 is the documented range");
    }

    /// The sampling rate this encoder takes.
    #[must_use]
    pub fn sample_rate_hz(&self) -> u32 {
        self.sample_rate_hz
    }

    /// Samples by which the decoded signal trails the encoded one.
    #[must_use]
    pub fn delay_samples(&mut self) -> usize {
        self.inner.get_look_ahead().map_or(0, |samples| samples as usize)
    }
}

/// Time that one machine takes to encode speech, ns for each sample, by complexity: `examples/effort`.
const SAMPLE_NS: [u64; COMPLEXITY_MAX as usize + 1] = [150, 160, 270, 320, 375, 390, 455, 455, 530, 530, 600];

/// Time to encode so many samples, ns, with an effort of 0 to 10; more counts as 10. It is that of one machine: for weighing
/// efforts, and amounts of work, against each other.
#[must_use]
pub fn encoding_ns(samples: usize, complexity: u8) -> u64 {
    samples as u64 * SAMPLE_NS[usize::from(complexity.min(COMPLEXITY_MAX))]
}

/// The widest bandwidth that a playback rate in Hz can use (RFC 7587 §6.1, `maxplaybackrate`).
fn widest(playback_rate_hz: u32) -> SysBandwidth {
    match playback_rate_hz {
        0..12_000 => SysBandwidth::Narrow,
        12_000..16_000 => SysBandwidth::Medium,
        16_000..24_000 => SysBandwidth::Wide,
        24_000..48_000 => SysBandwidth::Superwide,
        _ => SysBandwidth::Full,
    }
}

impl Decoder {
    /// A decoder to 8, 12, 16, 24 or 48 kHz.
    ///
    /// # Errors
    /// [`CodecError::SampleRate`] for another rate.
    pub fn new(sample_rate_hz: u32) -> Result<Self, CodecError> {
        let inner = opusic_c::Decoder::new(Channels::Mono, sample_rate(sample_rate_hz)?).map_err(fault)?;
        Ok(Self {
            inner,
            sample_rate_hz,
        })
    }

    /// Decodes one packet; returns the samples written. Stereo is mixed down.
    ///
    /// # Errors
    /// [`CodecError::MalformedPayload`] for bytes that are no packet, [`CodecError::OutputTooSmall`] when
    /// the packet is longer than `pcm`. The stream can go on after either.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        // libopus takes an empty payload for a loss; from a peer it is a fault.
        let needed = PacketInfo::parse(payload)?.samples(self.sample_rate_hz);
        if needed > pcm.len() {
            return Err(CodecError::OutputTooSmall {
                needed,
                available: pcm.len(),
            });
        }
        self.inner
            .decode_to_slice(payload, bytemuck::cast_slice_mut(pcm), false)
            .map_err(fault)
    }

    /// Makes up lost samples as libopus does.
    ///
    /// # Shape
    /// A multiple of 2.5 ms; a remainder is filled with silence.
    pub fn conceal(&mut self, pcm: &mut [i16]) {
        self.make_up(&[], pcm);
    }

    /// Restores the lost samples just before `next`, from the copy that FEC put there; what `next` does
    /// not hold is concealed. Returns whether there was such a copy. Decode `next` itself afterwards.
    ///
    /// # Shape
    /// As [`Decoder::conceal`]: the whole loss up to `next`.
    pub fn recover(&mut self, next: &[u8], pcm: &mut [i16]) -> bool {
        let has_copy = PacketInfo::parse(next).is_ok_and(|info| info.has_fec);
        self.make_up(if has_copy { next } else { &[] }, pcm);
        has_copy
    }

    fn make_up(&mut self, source: &[u8], pcm: &mut [i16]) {
        let step = self.sample_rate_hz as usize / 400;
        // libopus conceals at most 120 ms in one call.
        let longest = step * 48;
        let whole = pcm.len() / step * step;
        let (head, tail) = pcm[..whole].split_at_mut(whole - whole.min(longest));
        for piece in head.chunks_mut(longest) {
            self.make_up_piece(&[], piece);
        }
        if !tail.is_empty() {
            self.make_up_piece(source, tail);
        }
        pcm[whole..].fill(0);
    }

    fn make_up_piece(&mut self, source: &[u8], pcm: &mut [i16]) {
        let decoded = self
            .inner
            .decode_to_slice(source, bytemuck::cast_slice_mut(pcm), true)
            .unwrap_or(0);
        pcm[decoded..].fill(0);
    }

    /// The sampling rate this decoder gives.
    #[must_use]
    pub fn sample_rate_hz(&self) -> u32 {
        self.sample_rate_hz
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("opus::Encoder")
            .field("sample_rate_hz", &self.sample_rate_hz)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("opus::Decoder")
            .field("sample_rate_hz", &self.sample_rate_hz)
            .finish_non_exhaustive()
    }
}

fn sample_rate(hz: u32) -> Result<SampleRate, CodecError> {
    match hz {
        8_000 => Ok(SampleRate::Hz8000),
        12_000 => Ok(SampleRate::Hz12000),
        16_000 => Ok(SampleRate::Hz16000),
        24_000 => Ok(SampleRate::Hz24000),
        48_000 => Ok(SampleRate::Hz48000),
        _ => Err(CodecError::SampleRate { hz }),
    }
}

fn fault(code: ErrorCode) -> CodecError {
    match code {
        ErrorCode::InvalidPacket => CodecError::MalformedPayload,
        other => CodecError::Opus {
            reason: other.message(),
        },
    }
}
