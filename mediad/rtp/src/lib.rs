//! RTP and RTCP bytes, and the arithmetic of streams.
//!
//! Owns: the RTP header in place ([`header`]), telling protocols on one port apart ([`demux`]), what arrived
//! on a stream ([`receive`]), RTCP ([`rtcp`]), telephone-events ([`event`]), the E-model ([`quality`]) and the
//! units of all that ([`units`], [`time`]).
//!
//! Must never know: an audio sample, a codec's bits, a cipher, a socket, a session. It reads no clock; `now` is
//! an argument.
//!
//! Nothing here allocates: every type either borrows the caller's datagram or buffer, or is a struct of fixed
//! size, and the crate uses no collection, no `Box`, no `String` and formats nothing. (Only the hidden entry
//! points for fuzzers copy their input.)
//!
//! ```
//! use rtp::header::{RtpHeader, RtpView};
//! use rtp::units::{PayloadType, RtpTimestamp, Ssrc};
//!
//! let header = RtpHeader {
//!     marker: false,
//!     payload_type: PayloadType::PCMU,
//!     sequence: 1,
//!     timestamp: RtpTimestamp(160),
//!     ssrc: Ssrc(7),
//! };
//! let mut packet = [0xff; 172];
//! header.write_to(&mut packet);
//! let mut view = RtpView::parse(&mut packet)?;
//! view.set_sequence(0x4242);
//! view.set_payload_type(PayloadType::PCMA);
//! assert_eq!(view.header(), RtpHeader { sequence: 0x4242, payload_type: PayloadType::PCMA, ..header });
//! assert_eq!(view.payload().len(), 160);
//! # Ok::<(), rtp::header::RtpError>(())
//! ```
#![forbid(unsafe_code)]

pub mod demux;
pub mod event;
#[doc(hidden)]
pub mod fuzzing;
pub mod header;
pub mod quality;
pub mod receive;
pub mod rtcp;
pub mod time;
pub mod units;
