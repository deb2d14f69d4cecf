//! Typed header values, read on demand.
//!
//! Values share the message's memory and keep the text they were read from, so that writing one back changes
//! nothing that was not edited.

mod access;
mod address;
mod challenge;
mod date;
mod list;
mod number;
mod params;
pub(crate) mod scan;
mod session;
mod via;

pub use address::{Contact, NameAddr};
pub use challenge::{AuthValue, Challenge, Credentials};
pub use date::{days_from_civil, format_date};
pub use list::{MediaType, OptionTags};
pub use number::{CSeq, RAck, RetryAfter, SessionExpires};
pub use params::Params;
pub use session::{Event, Reason, Refresher, Replaces, SubscriptionState, Warning};
pub use via::{MAGIC_COOKIE, SentBy, Via};

use crate::message::HeaderName;

/// What is wrong with a value, in words fit for a 400's reason phrase.
pub type Problem = &'static str;

/// A header field that is missing or cannot be read. Its text is the reason phrase of a 400: `Via: bad port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{header}: {problem}")]
pub struct HeaderError {
    /// The field.
    pub header: HeaderName,
    /// What is wrong with it.
    pub problem: Problem,
}

/// A value that can be written as a header field.
pub trait HeaderValue {
    /// Appends the value's text.
    fn write(&self, out: &mut Vec<u8>);
}
