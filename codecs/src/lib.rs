//! Samples to payload bytes and back, and the maths on samples that a media engine needs.
//!
//! This crate **owns** the codecs (G.711, G.722, L16, Opus through libopus), concealment of lost
//! frames, resampling, tones and DTMF, mixing kernels, level measurement, comfort noise, noise suppression and
//! gain control. It must **never know**
//! a packet, a clock, a socket or a file: everything takes slices and returns counts.
//!
//! Samples are `i16`, mono, one slice per frame, in buffers of the caller. Nothing allocates after
//! construction, so every call here may stand on the packet path; the one exception is
//! [`resample::file`], which converts whole files.
//!
//! ```
//! use codecs::{CodecKind, Decoder, Encoder, opus};
//!
//! let mut encoder = Encoder::new(CodecKind::Pcma, 8_000, &opus::Settings::default())?;
//! let mut decoder = Decoder::new(CodecKind::Pcma, 8_000)?;
//! let (mut payload, mut heard) = ([0_u8; 160], [0_i16; 160]);
//! let bytes = encoder.encode(&[1_000; 160], &mut payload)?;
//! let samples = decoder.decode(&payload[..bytes], &mut heard)?;
//! assert_eq!((bytes, samples, heard[0]), (160, 160, 1_008));
//! decoder.conceal(&mut heard); // the next frame was lost
//! # Ok::<(), codecs::CodecError>(())
//! ```
#![forbid(unsafe_code)]

mod codec;
pub mod comfort_noise;
pub mod dtmf;
pub mod fuzzing;
pub mod g711;
pub mod g722;
pub mod gain_control;
pub mod goertzel;
pub mod l16;
pub mod level;
pub mod mix;
pub mod noise;
pub mod opus;
pub mod plc;
pub mod resample;
#[cfg(test)]
mod test_signal;
pub mod tone;
pub mod vad;

pub use codec::{CodecError, CodecKind, Decoder, Encoder};
