//! The RTP load generator: one thread that paces thousands of calls and is also their sink.
//!
//! One thread on a core of its own, under `SCHED_FIFO` when permitted, spins over three steps: send what is due
//! (`sendmmsg`), receive what has come (`recvmmsg`), look at the clock. Arrival times come from the kernel, so
//! a sink that is busy sending does not blur the delay it measures.
//!
//! A server under test tells legs apart by the port they send *to*, and the sink tells them apart by the port
//! the server sends *from*. So a whole side of all calls shares one socket: two sockets for thousands of calls, and
//! batches that really are batches. [`Sides::open`] can spread a side over more sockets to show what they cost.

mod attack;
mod flow;
mod live;
pub mod members;
mod pace;
mod report;
mod run;
mod sides;
pub mod stamp;
pub mod tone;

mod socket;

pub use attack::{Attack, Hostility};
pub use live::{AudioReport, LiveAudio};
pub(crate) use report::nanosecond_histogram;
pub use report::{LoadReport, Quantiles};
pub use run::run;
pub use sides::Sides;

use std::net::SocketAddrV4;
use std::time::Duration;

use nix::time::ClockId;

/// One call as the generator drives it: where each leg sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The server's address for leg A: A's packets go there, and A hears from there.
    pub a: SocketAddrV4,
    /// The server's address for leg B.
    pub b: SocketAddrV4,
    /// Leg B speaks SRTP, AES_CM_128_HMAC_SHA1_80.
    pub srtp: Option<SrtpKeys>,
}

/// Master key and salt for each direction of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SrtpKeys {
    /// What the leg sends with.
    pub to_server: [u8; 30],
    /// What the server sends with.
    pub from_server: [u8; 30],
}

/// What the legs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A stamp in plain bytes, for servers that relay payloads untouched.
    Stamp,
    /// A stamp in the signs of G.711 samples, for servers that convert between µ-law and A-law.
    SignStamp,
    /// A tone of its own per leg, judged by Goertzel at the partner.
    Tone,
}

/// What each side of a call sends and expects: RTP payload types and the law the tone is heard in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// PCMU, payload type 0.
    Pcmu,
    /// PCMA, payload type 8.
    Pcma,
    /// Opus at 8 kHz, complexity 5, 24 kbit/s, payload type 96. Says tones only: a stamp does not survive.
    Opus,
}

impl Codec {
    /// Payload type: static (RFC 3551 §6), or ours.
    #[must_use]
    pub fn payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
            Codec::Opus => 96,
        }
    }

    /// RTP ticks of a packet.
    #[must_use]
    pub fn ticks(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma => 160,
            // RFC 7587 §4.1: always 48 kHz.
            Codec::Opus => 960,
        }
    }
}

/// One run of load.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// The calls; each adds two flows.
    pub calls: Vec<Call>,
    /// Codec of side A and of side B.
    pub codecs: [Codec; 2],
    /// What the legs say.
    pub payload: Payload,
    /// Packets per second of one flow; audio stands for 20 ms whatever the rate.
    pub flow_pps: u32,
    /// Load before counting begins.
    pub warm: Duration,
    /// Length of the counted window.
    pub window: Duration,
    /// Order and phases of the flows.
    pub seed: u64,
    /// Each leg sends an RTCP sender report with a receiver block every 5 s.
    pub rtcp: bool,
    /// Each leg sends one telephone-event digit every 5 s in place of audio (payload type 101).
    pub events: bool,
    /// Hostile traffic beside the calls.
    pub attack: Option<Attack>,
    /// No server: the sides send to each other, for the delay of the machine and the generator alone.
    pub direct: bool,
    /// CPU clock of the server, read at both ends of the window.
    pub server_clock: Option<ClockId>,
}

impl LoadSpec {
    /// Plain stamped PCMU at 50 packets/s per flow, half a second of warming, two seconds counted.
    #[must_use]
    pub fn new(calls: Vec<Call>) -> LoadSpec {
        LoadSpec {
            calls,
            codecs: [Codec::Pcmu, Codec::Pcmu],
            payload: Payload::Stamp,
            flow_pps: 50,
            warm: Duration::from_millis(500),
            window: Duration::from_secs(2),
            seed: 1,
            rtcp: false,
            events: false,
            attack: None,
            direct: false,
            server_clock: None,
        }
    }
}
