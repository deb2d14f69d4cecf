//! Calls that a machine asks for: the first party is rung, and once it answers it is brought to the second.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits;

/// Whom to call, and whom it is brought to then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Originate {
    /// The first party: an account, or a number that the dialplan leads out.
    pub from: String,
    /// The second: an account, a queue, a room, or a number.
    pub to: String,
    /// The number that parties reached over trunks are shown. Without it they see the other party.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<String>,
    /// What the first party's phone shows beside the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Ask the first party's phone to answer by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_answer: bool,
    /// The first party's phones ring this long, in seconds; 1 to 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_timeout_s: Option<u64>,
    /// The asker's own name for the call; it stands in the detail record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// A call that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Originated {
    /// Our name for it.
    pub call: String,
    /// It was asked for before, by the same key.
    pub is_repeated: bool,
}

/// Why no call was made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OriginateError {
    /// A value cannot be used: the asker mends it.
    #[error("{field}: {value:?} {problem}; {remedy}")]
    Invalid {
        /// Which one.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What is wrong.
        problem: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Nobody is there at the moment: the asker may try later.
    #[error("{field}: {value:?} has no phone registered; try again when it has")]
    Unreachable {
        /// `from` or `to`.
        field: &'static str,
        /// Who.
        value: String,
    },
    /// The key belongs to another request.
    #[error("Idempotency-Key: it was used for another request, which made call {call}; use a key once")]
    KeyUsed {
        /// The call of that request.
        call: String,
    },
    /// As many calls as are allowed: try again after the time.
    #[error("{count} {what}, the limit; try again later")]
    TooMany {
        /// How many.
        count: usize,
        /// Of what.
        what: &'static str,
    },
    /// Too many in this second: try again after the time.
    #[error("{per_s} calls a second, the limit of {key}; try again in {} ms", wait.as_millis())]
    TooFast {
        /// How many may be.
        per_s: u32,
        /// The setting.
        key: &'static str,
        /// When one more may.
        wait: Duration,
    },
    /// No media host is up.
    #[error("no media host takes calls at the moment; try again later")]
    NoMediaHost,
    /// The process ends its calls.
    #[error("the controller is stopping; try again when it is back")]
    Stopping,
}

impl Originate {
    /// Checks what can be checked by looking at it.
    ///
    /// # Errors
    /// [`OriginateError::Invalid`].
    pub(crate) fn check(&self) -> Result<(), OriginateError> {
        text("from", &self.from, true)?;
        text("to", &self.to, true)?;
        for (field, value) in [
            ("caller_id", &self.caller_id),
            ("display_name", &self.display_name),
            ("reference", &self.reference),
        ] {
            text(field, value.as_deref().unwrap_or_default(), false)?;
        }
        match self.ring_timeout_s {
            Some(seconds) if !(1..=300).contains(&seconds) => Err(OriginateError::Invalid {
                field: "ring_timeout_s",
                value: seconds.to_string(),
                problem: "is no time to ring",
                remedy: "give 1 to 300 seconds, or leave it out",
            }),
            _ => Ok(()),
        }
    }
}

// As the remedy says.
const _: () = assert!(limits::REQUEST_TEXT_BYTES_MAX == 255);

fn text(field: &'static str, value: &str, must_be: bool) -> Result<(), OriginateError> {
    let (problem, remedy) = if must_be && value.trim().is_empty() {
        ("is nobody", "give an account or a number")
    } else if value.len() > limits::REQUEST_TEXT_BYTES_MAX {
        ("is too long", "give at most 255 bytes")
    } else if value.chars().any(char::is_control) {
        ("holds a control character", "leave it out")
    } else {
        return Ok(());
    };
    Err(OriginateError::Invalid {
        field,
        value: value.chars().take(40).collect(),
        problem,
        remedy,
    })
}

/// Requests that are known by a key, so that one that is repeated makes no second call.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    kept: BTreeMap<String, Kept>,
    /// Oldest first.
    order: VecDeque<(u64, String)>,
}

/// A request that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) call: String,
    pub(crate) request: Originate,
    pub(crate) asked_unix_us: u64,
}

impl Keys {
    /// The request of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Kept> {
        self.kept.get(key)
    }

    /// Remembers it.
    pub(crate) fn put(&mut self, key: &str, kept: Kept) {
        let asked = kept.asked_unix_us;
        if self.kept.insert(key.to_owned(), kept).is_none() {
            self.order.push_back((asked, key.to_owned()));
        }
        while self.kept.len() > limits::KEYS_MAX {
            self.drop_oldest();
        }
    }

    /// Forgets those asked for before.
    pub(crate) fn expire(&mut self, before_unix_us: u64) {
        while self
            .order
            .front()
            .is_some_and(|(asked, _)| *asked < before_unix_us)
        {
            self.drop_oldest();
        }
    }

    /// Everything remembered, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Kept)> {
        self.order
            .iter()
            .filter_map(|(_, key)| Some((key.as_str(), self.kept.get(key)?)))
    }

    fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.kept.remove(&key);
        }
    }
}

/// The moment before which nothing is remembered any more.
pub(crate) fn horizon(wall: SystemTime, kept_s: u64) -> u64 {
    crate::controller::unix_us(wall).saturating_sub(kept_s.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(from: &str, to: &str) -> Originate {
        Originate {
            from: from.to_owned(),
            to: to.to_owned(),
            ..Originate::default()
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_remedy() {
        assert_eq!(request("alice", "bob").check(), Ok(()));
        let refusal = |request: Originate| request.check().unwrap_err().to_string();
        assert_eq!(
            refusal(request(" ", "bob")),
            "from: \" \" is nobody; give an account or a number"
        );
        let long = "7".repeat(256);
        assert!(refusal(request("alice", &long)).starts_with("to: \"7777"));
        let hostile = Originate {
            display_name: Some("a\r\nVia: x".to_owned()),
            ..request("alice", "bob")
        };
        assert!(refusal(hostile).contains("display_name: \"a\\r\\nVia: x\" holds a control character"));
        for seconds in [0, 301] {
            let hasty = Originate {
                ring_timeout_s: Some(seconds),
                ..request("alice", "bob")
            };
            assert!(refusal(hasty).contains("give 1 to 300 seconds"));
        }
    }

    #[test]
    fn keys_are_forgotten_by_age_and_by_number() {
        let mut keys = Keys::default();
        let kept = |at: u64| Kept {
            call: format!("{at}-x"),
            request: request("alice", "bob"),
            asked_unix_us: at,
        };
        for at in 0..limits::KEYS_MAX as u64 + 5 {
            keys.put(&format!("k{at}"), kept(at));
        }
        assert_eq!(keys.iter().count(), limits::KEYS_MAX);
        assert!(keys.get("k4").is_none() && keys.get("k5").is_some());
        keys.expire(10_000);
        assert!(keys.get("k9999").is_none() && keys.get("k10000").is_some());
        // Said again, as after a restart, it keeps its place.
        keys.put("k10000", kept(10_000));
        assert_eq!(keys.iter().next().map(|(key, _)| key), Some("k10000"));
        assert_eq!(keys.iter().count(), 5);
    }
}
