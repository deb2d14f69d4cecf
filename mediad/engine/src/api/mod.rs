//! The contract's messages to the engine's own types and back. The only module that knows `proto`.

mod audio;
mod describe;
mod recording;
mod request;
mod wanted;

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use proto::mediad::v1 as pb;

pub use self::{
    describe::{applied, description, ended, event, findings, status, summary, transport_state},
    request::{act, adopt, apply, delete, explain},
    wanted::{Wanted, wanted},
};
use crate::refusal::Refusal;

/// The contract's form of a refusal.
pub fn error(refusal: &Refusal) -> pb::Error {
    pb::Error {
        code: refusal.code() as i32,
        message: refusal.to_string(),
        subject: refusal.subject(),
    }
}

/// Microseconds since the Unix epoch; 0 for times before it.
fn unix_us(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

fn address(at: SocketAddr) -> pb::Address {
    pb::Address {
        ip: at.ip().to_string(),
        port: at.port().into(),
    }
}
