//! RTP and RTCP bytes and the arithmetic of streams.
#![forbid(unsafe_code)]

pub mod demux;
pub mod event;
pub mod header;
pub mod receive;
pub mod rtcp;
pub mod time;
pub mod units;
