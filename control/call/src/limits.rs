//! Every bound of call control, with its policy when full.

/// Callers waiting in one queue. More: the caller is told that the queue is full.
pub const QUEUE_ENTRIES_MAX: usize = 10_000;
/// Calls one agent may be asked to take at once. A larger limit is cut to this.
pub const AGENT_CALLS_MAX: u32 = 16;
