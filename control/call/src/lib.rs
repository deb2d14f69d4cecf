//! Calls, queues and agents.
//!
//! Owns the state machines of a call centre and turns them into SIP actions and the wanted media graph: the
//! [`Controller`] with its registrar, routing, calls, media plan and journal, and the [`domain`] of queues and agents.
//! Sans-IO: time comes in as an argument, what is to be done comes out of `poll_*`. It must never know sockets, gRPC
//! transport, databases, or an RTP packet.
//!
//! ```
//! use std::time::Duration;
//! use call_control::domain::{Domain, Output, QueueConfig, AgentConfig};
//!
//! # #[allow(clippy::disallowed_methods)]
//! let now = std::time::Instant::now();
//! let mut domain = Domain::default();
//! domain.put_queue("support", QueueConfig::default());
//! domain.put_agent(now, "alice", AgentConfig { queues: vec!["support".into()], ..AgentConfig::default() });
//! domain.agent_ready(now, "alice").unwrap();
//! let entry = domain.enqueue(now, "support", 0).unwrap();
//! let Some(Output::Offer { entry: offered, agent, .. }) = domain.poll_output() else { panic!("alice is free") };
//! assert_eq!((offered, &*agent), (entry, "alice"));
//! ```
#![forbid(unsafe_code)]

pub mod cdr;
pub mod config;
pub mod domain;
pub mod journal;
pub mod limits;
pub mod menu;
pub mod originate;
pub mod services;

mod call;
mod calls;
mod conference;
mod controller;
mod leg;
mod media;
mod pool;
mod registrar;
mod routing;
mod saved;
mod scene;
mod security;
pub mod trunk;

pub use config::{Config, ConfigError};
pub use controller::{
    AgentLive, AudioParty, AudioRole, CallAudio, CallLive, CallStage, ConferenceLive, Controller, Counters,
    Live, MediaInput, MemberLive, Now, Output, QueueLive, RecordingLive, RegistrationLive, SessionFound,
    TrunkLive,
};
pub use journal::{Record, RecordKind};
pub use pool::{HostId, HostView};
pub use saved::{CallChange, MemberChange, SavedCall, SavedConference, SavedMember};
pub use security::Srtp;
