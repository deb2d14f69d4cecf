//! The servers under test behind one trait.

pub mod bencode;
pub mod controld;
pub mod mediad;
mod ng;
pub mod process;
pub mod rtpengine;

use std::ops::Range;

use serde::Serialize;

use crate::load::{Call, Codec, Sides};
use crate::machine::Observed;

/// What a call asks of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Media {
    /// PCMU on both legs: packets are passed on.
    Relay,
    /// PCMU and telephone-events on both legs.
    RelayEvents,
    /// PCMU on leg A, PCMA on leg B.
    PcmuPcma,
    /// PCMU on leg A, Opus on leg B.
    PcmuOpus,
    /// PCMU on both legs, SRTP (AES_CM_128_HMAC_SHA1_80) on leg B.
    RelaySrtp,
}

impl Media {
    /// What each side sends.
    #[must_use]
    pub fn codecs(self) -> [Codec; 2] {
        match self {
            Media::Relay | Media::RelayEvents | Media::RelaySrtp => [Codec::Pcmu, Codec::Pcmu],
            Media::PcmuPcma => [Codec::Pcmu, Codec::Pcma],
            Media::PcmuOpus => [Codec::Pcmu, Codec::Opus],
        }
    }

    /// Leg B's own SRTP key and salt in the call numbered `id`, if it has one.
    #[must_use]
    pub fn key(self, id: u32) -> Option<[u8; 30]> {
        let byte = |at: usize| (id >> (8 * (at % 4))) as u8 ^ at as u8;
        (self == Media::RelaySrtp).then(|| std::array::from_fn(byte))
    }
}

/// What setting calls up and tearing them down cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Churn {
    /// Calls set up and torn down.
    pub calls: u32,
    /// Wall time, seconds.
    pub seconds: f64,
    /// CPU of the server, seconds.
    pub server_cpu_seconds: f64,
}

impl Churn {
    /// Server CPU per call, microseconds.
    #[must_use]
    pub fn cpu_us_per_call(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / f64::from(self.calls.max(1))
    }

    /// Calls set up and torn down per second.
    #[must_use]
    pub fn calls_per_second(&self) -> f64 {
        f64::from(self.calls) / self.seconds
    }
}

/// A running server: calls come and go, its process is watched from outside. Dropping it ends the process.
pub trait Server {
    /// Short name for lines and plots.
    fn name(&self) -> &'static str;

    /// Its process.
    fn process(&self) -> Observed;

    /// Sets up the calls numbered `ids`; the leg addresses of call n are those of `sides` at index n.
    ///
    /// # Errors
    /// The server refuses, is gone, or answers nonsense.
    fn create(&mut self, ids: Range<u32>, media: Media, sides: &Sides) -> anyhow::Result<Vec<Call>>;

    /// Tears the calls down.
    ///
    /// # Errors
    /// As for [`Server::create`].
    fn delete(&mut self, ids: Range<u32>) -> anyhow::Result<()>;

    /// Sets up and tears down `count` calls one after the other, [`IN_FLIGHT`] at a time.
    ///
    /// # Errors
    /// As for [`Server::create`].
    fn churn(&mut self, count: u32, sides: &Sides) -> anyhow::Result<Churn>;
}

/// Calls being set up at the same time.
pub const IN_FLIGHT: usize = 16;
