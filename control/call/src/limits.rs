//! Every bound of call control, with its policy when full.

use std::time::Duration;

/// Callers waiting in one queue. More: the caller is told that the queue is full.
pub const QUEUE_ENTRIES_MAX: usize = 10_000;
/// Calls one agent may be asked to take at once. A larger limit is cut to this.
pub const AGENT_CALLS_MAX: u32 = 16;
/// Devices registered for one user. A larger `devices_max` is refused at start; one device more than allowed
/// replaces the one that was heard longest ago.
pub const BINDINGS_PER_USER_MAX: usize = 32;
/// Contact URIs longer than this are refused with 400: they are kept and repeated.
pub const CONTACT_BYTES_MAX: usize = 1_024;
/// Temporary addresses of a device (RFC 5627) that are good at once; the oldest gives way.
pub const TEMPORARY_GRUUS_MAX: u32 = 64;
/// Path values of one registration; more are refused with 400.
pub const PATH_COUNT_MAX: usize = 8;
/// How often one call is sent elsewhere by those who are called; after that the redirection is a refusal.
pub const REDIRECTIONS_MAX: u32 = 5;
/// Requests for calls that are remembered by their key. Full: the oldest is forgotten, and a repetition of it makes a
/// call of its own.
pub const KEYS_MAX: usize = 10_000;
/// Bytes of a key, and of each text in a request for a call; longer ones are refused.
pub const REQUEST_TEXT_BYTES_MAX: usize = 255;
/// Devices of which we remember that they refuse encryption as something optional. Full: all are forgotten, which costs
/// each of them one INVITE more.
pub const INSISTENT_DEVICES_MAX: usize = 4_096;
/// Keys of one choice in a menu.
pub const MENU_KEYS_MAX: usize = 16;
/// Choices of one call in menus; one more ends it.
pub const MENU_CHOICES_MAX: usize = 64;
/// A question that the media host does not tell the end of is over by then.
pub const MENU_QUESTION_MAX: Duration = Duration::from_secs(300);
/// Sounds of who comes and goes in one conference at once; more are not made.
pub const SOUNDS_PER_CONFERENCE_MAX: usize = 4;
/// Trunks and targets that there were since the start. More: a configuration with others is refused until a restart.
pub const TRUNK_PLACES_MAX: usize = 65_536;
/// New calls that wait for a media host while none is up. More get 503.
pub const INVITES_WAITING_MAX: usize = 1_024;
/// Messages on their way outside of calls. More get 503.
pub const MESSAGES_MAX: usize = 4_096;
/// Bytes of a message's body; a longer one gets 413. It is kept until it is answered, and by each transaction.
pub const MESSAGE_BODY_BYTES_MAX: usize = 16 * 1_024;
/// How often in a row a session that is to be made is found at its media host and taken over. Once more: it is refused.
pub const CONTESTS_MAX: u32 = 3;
