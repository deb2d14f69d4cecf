//! The SIP load generator: phones that register, and callers and callees whose calls carry audio.
//!
//! One thread plays all of them. Signalling goes through the project's own `sip` stack, so every call is a real one
//! with retransmissions and dialogs; audio is stamped and judged packet by packet, as it is for the relay.

mod calls;
mod register;
mod ua;

pub use calls::{CallLoad, CallReport, Phones};
pub use register::{RegisterReport, register};
pub use ua::UserAgent;

/// User part of the `n`-th account.
#[must_use]
pub fn user(n: usize) -> String {
    format!("u{n}")
}

/// Password of the `n`-th account.
#[must_use]
pub fn password(n: usize) -> String {
    format!("secret-{n}")
}

/// The domain that the controller under test serves.
pub const DOMAIN: &str = "127.0.0.1";
