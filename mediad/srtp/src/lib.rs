//! SRTP and SRTCP in place: one context for each direction of a transport.
//!
//! Owns: the suites and their sizes ([`Suite`]), master keys ([`MasterKey`]), the key derivation, the transforms, the
//! estimate of the rollover counter, and the windows that keep a packet from being taken, or an index from being used,
//! twice ([`Outbound`], [`Inbound`]).
//!
//! Must never know: SDP, DTLS, a socket, a session, where keys come from. It reads no clock and draws no randomness.
//!
//! Protecting and unprotecting allocate nothing and work in the caller's buffer. Keys are overwritten when they are
//! dropped and never shown; what a processor keeps of them in registers and what a packet's own computation leaves on the
//! stack is outside what a library can reach.
//!
//! ```
//! use std::time::Instant;
//! use srtp::{Inbound, MasterKey, Outbound, Suite};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example")]
//! let now = Instant::now();
//! let key = MasterKey::new(Suite::AesCm128HmacSha1_80, &[7; 30])?;
//! let (mut alice, mut bob) = (Outbound::new(&key), Inbound::new(&key));
//!
//! // PCMU, sequence 1, SSRC 7; behind the packet is room for what protection adds.
//! let mut slot = [0_u8; 12 + 4 + srtp::TRAILER_BYTES_MAX];
//! slot[..16].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7, b'f', b'o', b'u', b'r']);
//! let len = alice.protect_rtp(&mut slot, 16)?;
//! assert_ne!(&slot[12..16], b"four");
//!
//! let len = bob.unprotect_rtp(now, &mut slot[..len])?;
//! assert_eq!(&slot[12..len], b"four");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Source
//! RFC 3711 (SRTP), RFC 6188 (AES-256), RFC 7714 (AES-GCM), RFC 4568 §6.2 (sizes of the suites).
#![forbid(unsafe_code)]

mod context;
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod key;
pub mod limits;
mod streams;
mod suite;
mod transform;

pub use self::{
    context::{Inbound, Outbound, ProtectError, UnprotectError},
    key::{KeyLength, MasterKey},
    suite::{Suite, TRAILER_BYTES_MAX},
};
