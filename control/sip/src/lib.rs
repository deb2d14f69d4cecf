//! Sans-IO SIP.
//!
//! Owns: messages (lazy byte parser, typed headers on demand, builder, stream framing), the answers a stack owes
//! before an application sees a request, digest authentication, transactions and dialogs.
//! Must never know: sockets, clocks, DNS, threads, media, SDP, calls. Time and secrets come in as arguments.
//!
//! ```
//! use bytes::Bytes;
//! use sip::{limits::Limits, message::{self, Message, Response, StatusCode}};
//!
//! let datagram = Bytes::from_static(b"OPTIONS sip:a@example.com SIP/2.0\r\n\
//!     Via: SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bKx;rport\r\nMax-Forwards: 70\r\n\
//!     From: \"Joe \\\"x\\\" <y>\" <sip:a@h>;tag=1\r\nTo: <sip:a@example.com>\r\n\
//!     Call-ID: 1@h\r\nCSeq: 1 OPTIONS\r\n\r\n");
//! let Ok(Message::Request(request)) = message::parse_datagram(datagram, &Limits::DEFAULT) else { panic!() };
//! assert_eq!(request.headers.from().unwrap().uri.to_string(), "sip:a@h");
//! let response = Response::to_request(&request, StatusCode::OK);
//! assert!(response.to_bytes().starts_with(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP [2001:db8::9]"));
//! ```
#![forbid(unsafe_code)]

pub mod auth;
pub mod check;
pub mod dialog;
#[doc(hidden)]
pub mod fuzzing;
pub mod header;
mod id_map;
pub mod limits;
pub mod message;
pub mod stack;
mod text;
pub mod transaction;
pub mod uri;
