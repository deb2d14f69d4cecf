//! Load generator, peers and scenarios that compare `mediad` with Debian's rtpengine, side by side on one machine.
//!
//! Owns: the paced RTP generator and its sink ([`load`]), phones that register and call ([`sip`]), the servers under test
//! ([`peer`]), clocks and memory of a process ([`machine`]), how fast the machine is ([`yardstick`]),
//! the scenarios that turn them into figures ([`scenario`]), what is kept of them ([`report`]) and the pictures ([`plot`]). It must never
//! know how a server works inside: it drives `mediad` over gRPC and rtpengine over its ng protocol, and sees only datagrams and `/proc`.
//!
//! ```no_run
//! use bench::load::{LoadSpec, Sides, run};
//! use bench::peer::{Media, Server, rtpengine};
//!
//! let mut sides = Sides::open([127, 0, 0, 1].into(), 20_000, 1)?;
//! let mut server = rtpengine::Rtpengine::start(&rtpengine::Options::default())?;
//! let calls = server.create(0..100, Media::Relay, &sides)?;
//! let report = run(&mut sides, &LoadSpec { server_clock: Some(server.process().clock()), ..LoadSpec::new(calls) })?;
//! println!("{}", report.line());
//! # anyhow::Ok(())
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a load generator owns clocks, sockets and threads"
)]
#![allow(
    clippy::module_name_repetitions,
    reason = "`report` exists per layer and its types carry the layer's name"
)]

pub mod load;
pub mod machine;
pub mod peer;
pub mod plot;
pub mod report;
pub mod scenario;
pub mod sip;
pub mod yardstick;
