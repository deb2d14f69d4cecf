//! The daemon as a whole: a real process on loopback, driven over gRPC, with real RTP and tones that prove who hears
//! whom. One scenario a file, named as a sentence.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests own processes, sockets and clocks"
)]

mod support;

mod a_call_is_relayed_both_ways;
