//! A small SIP phone for demonstrations and tests: signalling by `sip`, descriptions by `sdp`, audio by `rtp` and
//! `codecs`. It sends a tone and measures the tones it hears.
//!
//! Owns: sockets, threads and clocks of one phone ([`phone`]), what its flags hold ([`flags`]), what it says and hears
//! ([`talk`]), its log ([`log`]) and the result it reports ([`report`]). Must never know how the controller or the media
//! host work: it meets them only over SIP, RTP and HTTP.
//!
//! ```no_run
//! use demo::phone::{Identity, Phone, Settings};
//!
//! # fn main() -> anyhow::Result<()> {
//! let mut phone = Phone::new(Settings::new("alice", "127.0.0.1:5060".parse()?, 5071, 6071..=6171), 440.0)?;
//! phone.register(&Identity { user: "alice".into(), password: "secret".into() }, 300)?;
//! while let Some(call) = phone.next_call()? {
//!     println!("{} talked to us, {} packets", call.peer, call.heard.received);
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool: it owns processes, sockets and clocks"
)]

pub mod flags;
pub mod log;
pub mod phone;
pub mod report;
pub mod stop;
pub mod talk;
