//! Every bound of the message layer, in one place.
//!
//! A peer that exceeds a bound gets the status named beside it; nothing here ever grows with traffic.

/// Bounds applied while a message is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Whole message, start line to end of body, in bytes. Above: 513 Message Too Large.
    pub message_bytes: usize,
    /// Start line, in bytes. Above: 414 Request-URI Too Long.
    pub start_line_bytes: usize,
    /// One header field with its continuation lines, in bytes. Above: 400.
    pub header_line_bytes: usize,
    /// Header fields in a message. Above: 400.
    pub header_count: usize,
    /// Via header values in a message, counted across lines. Above: 483 Too Many Hops.
    pub via_count: usize,
    /// Body, in bytes. Above: 413 Request Entity Too Large.
    pub body_bytes: usize,
}

impl Limits {
    /// The bounds used unless a deployment asks for tighter ones.
    pub const DEFAULT: Self = Self {
        message_bytes: 64 * 1024,
        start_line_bytes: 4 * 1024,
        header_line_bytes: 8 * 1024,
        header_count: 128,
        via_count: 32,
        body_bytes: 48 * 1024,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Elements in one comma-separated header value; the 65th makes the header invalid.
pub const LIST_ELEMENT_COUNT_MAX: usize = 64;
/// Parameters of one header value or URI; the 33rd makes it invalid.
pub const PARAM_COUNT_MAX: usize = 32;
/// Authentication parameters in one challenge or credentials value.
pub const AUTH_PARAM_COUNT_MAX: usize = 24;
/// Characters of a reason phrase we write, so that an error text cannot grow with hostile input.
pub const REASON_PHRASE_BYTES_MAX: usize = 128;
/// Nonce-count window of one nonce: how far below the highest seen count a late request may still come.
pub const NONCE_COUNT_WINDOW: u32 = 64;
/// Nonces whose counts are remembered at once; the oldest is forgotten first, and its next use is `stale`.
pub const NONCE_TRACKED_MAX: usize = 65_536;

const _: () = assert!(Limits::DEFAULT.body_bytes < Limits::DEFAULT.message_bytes);
const _: () = assert!(Limits::DEFAULT.start_line_bytes < Limits::DEFAULT.header_line_bytes);
const _: () = assert!(NONCE_COUNT_WINDOW == 64, "the window is one u64 bitmap");

/// After how many numbers of requests in a dialog its record is out of date.
pub const SEQUENCE_MARK: u32 = 50;

/// Bounds of a stack's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackLimits {
    /// Server transactions, those that only wait for retransmissions included. Above: 503 with Retry-After for new
    /// work; a quarter more is kept for dialogs and CANCEL.
    pub server_transactions: usize,
    /// Client transactions. Above: requests outside of dialogs are refused; a quarter more is kept for dialogs.
    pub client_transactions: usize,
    /// Dialogs. Above: 503 with Retry-After for a new INVITE.
    pub dialogs: usize,
}

impl StackLimits {
    /// Enough for 2 000 calls/s over UDP with 20 000 of them talking.
    pub const DEFAULT: Self = Self {
        server_transactions: 262_144,
        client_transactions: 262_144,
        dialogs: 65_536,
    };
}

/// Dialogs one INVITE of ours may make by forking; responses of further forks are dropped and counted.
pub const FORK_COUNT_MAX: usize = 16;
/// Names waiting to be taken by `Stack::poll_lookup`; above, a request fails and a dialog keeps its target.
pub const LOOKUP_COUNT_MAX: usize = 65_536;
/// Reliable provisional responses one INVITE may have waiting for their turn (RFC 3262 §3: one at a time).
pub const RELIABLE_QUEUE_MAX: usize = 8;
