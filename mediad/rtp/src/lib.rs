//! RTP and RTCP bytes and the arithmetic of streams.
#![forbid(unsafe_code)]

pub mod demux;
pub mod header;
pub mod time;
pub mod units;
