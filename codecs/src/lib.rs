//! Samples to payload bytes and back, and the maths on samples that a media engine needs.
//!
//! This crate **owns** the codecs (G.711, G.722, L16, Opus through libopus), concealment of lost
//! frames, resampling, tones and DTMF, mixing kernels, and level measurement. It must **never know**
//! a packet, a clock, a socket or a file: everything takes slices and returns counts.
//!
//! Samples are `i16`, mono, one slice per frame, in buffers of the caller. Nothing allocates after
//! construction, so every call here may stand on the packet path; the one exception says so in its
//! name ([`resample::file`]).
#![forbid(unsafe_code)]

pub mod g711;
pub mod g722;
pub mod l16;
pub mod level;
#[cfg(test)]
mod test_signal;
