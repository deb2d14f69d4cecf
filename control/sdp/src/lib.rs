//! Session descriptions (RFC 8866) and offer/answer (RFC 3264), sans-IO.
//!
//! Owns: reading a description into typed media, choosing codecs and security, writing offers and answers.
//! Must never know: SIP, sockets, media packets, which port is free. Ports, keys and credentials come in as arguments.
//!
//! ```
//! use sdp::{Answer, Capabilities, Codec, Description, LocalSession, LocalTransport, Selection, select, write_answer};
//!
//! let offer = Description::parse(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
//!     m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n").unwrap();
//! let capabilities = Capabilities::new(vec![Codec::pcmu(), Codec::pcma(), Codec::telephone_event(8000)]);
//! let selections = select(&offer, &capabilities).unwrap();
//! let Selection::Audio(audio) = &selections[0] else { panic!() };
//! assert_eq!((&*audio.formats[0].codec.name, audio.remote.unwrap().port()), ("PCMA", 4000));
//! let local = LocalTransport::plain("192.0.2.9".parse().unwrap(), 6000);
//! let mut session = LocalSession::new(7, "192.0.2.9".parse().unwrap());
//! let answer = write_answer(&offer, &selections, &[Answer::Audio(&local)], &mut session).unwrap();
//! assert!(answer.to_string().contains("m=audio 6000 RTP/AVP 8 101\r\n"));
//! ```
#![forbid(unsafe_code)]

mod answer;
mod attribute;
mod base64;
mod codec;
mod description;
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
mod negotiated;
mod offer;
mod text;

pub use answer::{Answer, Capabilities, CodecOrder, Selection, select, write_answer};
pub use attribute::{Candidate, Crypto, CryptoSuite, Direction, Fingerprint, Ice, RtcpAddress, Setup};
pub use codec::{Codec, Format, assign_payload_types};
pub use description::{Description, Media, MediaKind, Profile, SdpError};
pub use negotiated::{
    LocalDtls, LocalIce, LocalSession, LocalTransport, NegotiatedDtls, NegotiatedFormat, NegotiatedMedia,
    NegotiatedSdes, NegotiationError,
};
pub use offer::{OfferedMedia, apply_answer, offer_again, write_offer};
