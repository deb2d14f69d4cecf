//! What is made of the journal for people who ask later: call details, agents' sessions, queue statistics.
//!
//! A [`Store`] holds projections, and beside them the number of the last record that is in them; both change together,
//! so that every record counts exactly once, whatever is killed when. The [projector] reads the journal's files and
//! never the process's memory: a store that is slow or gone is behind, and calls do not notice.

mod keys;
pub(crate) mod projector;
mod sqlite;
pub(crate) mod verify;

use call_control::{Record, cdr::CallDetail, journal::EndedBy};
use serde::Serialize;
use thiserror::Error;

pub(crate) use keys::ended_by;
pub(crate) use sqlite::Sqlite;

/// Why a store did not do what it was asked.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// The engine says no.
    #[error("database: {0}")]
    Engine(#[from] rusqlite::Error),
    /// What it holds cannot be read.
    #[error("database: a call detail cannot be read: {0}")]
    Content(#[from] serde_json::Error),
    /// It was written by a newer version.
    #[error("database: schema {found}, and this version knows {known}; use the controld that wrote it")]
    Schema {
        /// What it says.
        found: i64,
        /// What we know.
        known: i64,
    },
}

impl StoreError {
    /// It was ended because it took too long.
    pub(crate) fn is_of_time(&self) -> bool {
        let Self::Engine(error) = self else {
            return false;
        };
        error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
    }
}

/// Which call details are wanted; every field narrows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DetailQuery {
    /// At most so many.
    pub(crate) limit: usize,
    /// Started at or after, microseconds since the Unix epoch.
    pub(crate) since_unix_us: Option<i64>,
    /// Started before.
    pub(crate) until_unix_us: Option<i64>,
    /// Went to this queue.
    pub(crate) queue: Option<String>,
    /// Was answered by this user.
    pub(crate) answered_by: Option<String>,
    /// Our name for the call.
    pub(crate) call: Option<String>,
    /// The SIP status the caller got.
    pub(crate) status: Option<u16>,
    /// Who ended it.
    pub(crate) ended_by: Option<EndedBy>,
    /// Stands, in letters however large, in an address or name of somebody who was in it, or where it went.
    pub(crate) party: Option<String>,
    /// Told of in a record before this one.
    pub(crate) before: Option<i64>,
}

impl DetailQuery {
    /// Of one call.
    pub(crate) fn of(call: &str) -> Self {
        Self {
            limit: 1,
            call: Some(call.to_owned()),
            ..Self::default()
        }
    }

    /// Anything narrows it, beside its length.
    pub(crate) fn is_narrow(&self) -> bool {
        *self
            != Self {
                limit: self.limit,
                ..Self::default()
            }
    }
}

/// How a queue fared in an hour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct QueueHour {
    /// The hour's beginning, seconds since the Unix epoch.
    pub(crate) hour_unix: i64,
    /// The queue.
    pub(crate) queue: String,
    /// Callers that came and are gone, or reached an agent.
    pub(crate) offered: i64,
    /// Reached an agent.
    pub(crate) answered: i64,
    /// Hung up while waiting.
    pub(crate) abandoned: i64,
    /// Sent away: waited too long, or an error.
    pub(crate) turned_away: i64,
    /// Sum of the waits of those who reached an agent, in milliseconds.
    pub(crate) waited_ms: i64,
    /// The longest of them.
    pub(crate) waited_ms_max: i64,
    /// Sum of the conversations, in milliseconds.
    pub(crate) talked_ms: i64,
}

/// How long an agent was in one state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct AgentSpell {
    /// The record that began it.
    pub(crate) record: i64,
    /// The agent.
    pub(crate) agent: String,
    /// `away`, `paused`, `ready`, `reserved`, `talking`, `engaged`, `wrap_up`.
    pub(crate) state: String,
    /// When it began, microseconds since the Unix epoch.
    pub(crate) began_unix_us: i64,
    /// When it ended; `None` while it lasts.
    pub(crate) ended_unix_us: Option<i64>,
}

/// The kinds of records that stores make something of, by their names in the journal; what is of another kind does not
/// get to them.
pub(crate) const PROJECTED: [&str; 3] = ["call_detail", "recorded", "agent_state"];

/// Projections of the journal. The embedded default is [`Sqlite`].
pub(crate) trait Store {
    /// The number of the last record that is in the projections; 0 at first.
    fn cursor(&mut self) -> Result<u64, StoreError>;

    /// Takes records into the projections, all or none. Those up to the cursor are passed over, and so are those of kinds
    /// that are not [`PROJECTED`].
    fn project(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// The record that told of a call's end, if there is one.
    fn record_of(&self, call: &str) -> Result<Option<i64>, StoreError>;

    /// Call details, newest first: in the order of their records.
    fn details(&mut self, query: &DetailQuery) -> Result<Vec<CallDetail>, StoreError>;

    /// Statistics of queues from an hour on (seconds since the Unix epoch), oldest first.
    fn queue_hours(&mut self, since_unix: i64) -> Result<Vec<QueueHour>, StoreError>;

    /// Spells of agents that ended at or after this time, or last, oldest first.
    fn agent_spells(&mut self, since_unix_us: i64) -> Result<Vec<AgentSpell>, StoreError>;
}
