//! The media engine: who hears whom, made true packet by packet.
//!
//! Owns sessions, their graphs, the plans compiled from them, ports and leases. It is sans-IO: it takes datagrams,
//! commands and the time, and gives datagrams, events and replies; it opens no socket, reads no clock, starts no thread.
//! It must never know SIP or SDP, gRPC transport, or which socket backend carries its packets.
//!
//! Two cores meet here. [`host::Host`] is one per process: it validates edits, places sessions on workers, hands out
//! ports, holds leases and keeps the ring of events. [`engine::Engine`] is one per worker thread: it owns the packet
//! path. They share nothing but the messages in [`command`] and the immutable graph in [`spec`].
#![forbid(unsafe_code)]

pub mod api;
pub mod command;
pub mod engine;
pub mod explain;
pub mod graph;
pub mod host;
pub mod limits;
pub mod recording;
pub mod refusal;
pub mod spec;
pub mod tap;
