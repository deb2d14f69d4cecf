//! Every bound of the engine, with its policy when full.

// Host.

/// Transports of one session. More: the Apply is refused.
pub const SESSION_TRANSPORTS_MAX: usize = 4_096;
/// Nodes of one session. More: the Apply is refused.
pub const SESSION_NODES_MAX: usize = 4_096;
/// Edges of one session. More: the Apply is refused.
pub const SESSION_EDGES_MAX: usize = 16_384;
/// Bytes of a session, controller or recording id. Longer: the request is refused.
pub const SESSION_ID_BYTES_MAX: usize = 128;
/// Bytes of a node, transport or request id. Longer: the request is refused.
pub const NODE_ID_BYTES_MAX: usize = 64;
/// Formats of one endpoint and direction. More: the Apply is refused.
pub const FORMATS_MAX: usize = 16;
/// Bytes of a format's fmtp. Longer: the Apply is refused.
pub const FMTP_BYTES_MAX: usize = 512;
/// Labels of a session. More: the Apply is refused.
pub const LABELS_MAX: usize = 8;
/// Bytes of a label's key or value. Longer: the Apply is refused.
pub const LABEL_BYTES_MAX: usize = 128;
/// Ends of links on the host. More: the Apply is refused.
pub const LINKS_MAX: usize = 65_536;
/// Digits of one SendDigits. More: the act is refused.
pub const SEND_DIGITS_MAX: usize = 64;
/// Bytes of a prompt's name. Longer: the Apply is refused.
pub const PROMPT_NAME_BYTES_MAX: usize = 255;
/// Talkers of a room that mixes only the loudest. More: the Apply is refused.
pub const TOP_TALKERS_MAX: u32 = 64;
/// Items of one player. More: the Apply is refused.
pub const PLAY_ITEMS_MAX: usize = 64;
/// Bytes between the worker and the file thread for a recording of narrow-band sources: some three seconds of two legs.
/// When it is full, recorded audio is lost and counted.
pub const RECORDING_RING_BYTES_NARROW: usize = 64 << 10;
/// The same for a recording of wide-band sources.
pub const RECORDING_RING_BYTES_WIDE: usize = 256 << 10;
/// Legs of one recording. Those beyond are not recorded.
pub const RECORDING_LEGS_MAX: usize = 64;
/// Packets of one leg that wait for their time. The oldest goes, and is counted as late.
pub const RECORDING_PACKETS_WAITING_MAX: usize = 2_048;
/// Samples of a recording that are placed and not final, in ms. What is placed further ahead is cut.
pub const RECORDING_AHEAD_MS_MAX: usize = 400;
/// Pauses, and gaps, that are listed. More are joined to the last one.
pub const RECORDING_SPANS_MAX: usize = 1_000;
/// Replies to acts a session remembers. Older ones are forgotten: a repeat after that acts again.
pub const ACT_REPLIES_MAX: usize = 64;
/// Events the ring holds. Older ones are forgotten even before their time; who missed them gets a Reset.
pub const EVENT_RING_MAX: usize = 65_536;
/// Controllers with a lease. A controller whose lease expired and that owns nothing is forgotten first; then new ones
/// are refused.
pub const CONTROLLERS_MAX: usize = 1_024;

/// Up to this share of what a worker may be busy what was created since the latest measurement is not counted: there is room
/// for it.
pub const WORKER_BUSY_PROJECTED: f32 = 0.55;

// Engine, one per worker.

/// Events that wait for the host. The newest is lost and counted; the host tells watchers to start anew.
pub const ENGINE_EVENTS_MAX: usize = 4_096;
/// Replies that wait for the host, who takes them after each command. The newest is lost and counted.
pub const ENGINE_REPLIES_MAX: usize = 4_096;
/// Consecutive packets of one SSRC from one source before it is trusted.
pub const PROBATION_PACKETS: u8 = 4;
/// Sources under probation at once, in all transports of a worker. The least proven is forgotten.
pub const PROBATION_ENTRIES: usize = 8_192;
/// What a peer that moves sent before that comes within this time. What comes from there later is where it still is.
pub const MOVES_WITHIN: std::time::Duration = std::time::Duration::from_millis(500);
/// A locked source that has a key and was silent this long may be replaced by who has it too.
pub const AUTHENTIC_RELEARN_AFTER: std::time::Duration = std::time::Duration::from_millis(200);
/// A locked source of RTCP that was silent this long may be replaced: three of its intervals.
pub const RTCP_RELEARN_AFTER: std::time::Duration = std::time::Duration::from_secs(15);
/// Links that a packet may pass, one after another. Those that would pass more are dropped; the host refuses such chains.
pub const LINK_HOPS_MAX: u8 = 8;
/// Packets through links that wait within an engine: sent and not yet given to the session at the far end, or to its
/// worker. Those beyond are dropped and counted.
pub const LINK_PACKETS_MAX: usize = 4_096;
/// Their bytes. What is beyond is dropped and counted.
pub const LINK_BYTES_MAX: usize = 1 << 20;
/// What a tap heard and its program did not take yet. Older sound is written over, and the program told how much.
pub const TAP_HEARD_MS: u32 = 1_000;
/// What a program has spoken and was not played yet: twice what its credits allow, since what was flushed leaves with the
/// next tick. More is not taken.
pub const TAP_SPOKEN_MS: u32 = 2 * TAP_CREDITS * TAP_MESSAGE_MS_MAX;
/// Audio messages of a program that wait to be played. More: its stream ends.
pub const TAP_CREDITS: u32 = 10;
/// Length of one audio message of a program. Longer: its stream ends.
pub const TAP_MESSAGE_MS_MAX: u32 = 60;
/// A silence that a peer described is heard as noise for so long, unless it is described again. Then nothing is.
pub const COMFORT_NOISE_MS_MAX: u32 = 60_000;
/// The same where Opus told of it, which tells it again every 400 ms.
pub const OPUS_SILENCE_MS_MAX: u32 = 1_000;
/// Encoders of one shared player, for what its listeners ask for. Who asks for yet another gets an encoder of its own.
pub const SHARED_ENCODINGS_MAX: usize = 64;
/// Digits that wait to be sent to one peer. Those beyond are not sent.
pub const DIGITS_QUEUED_MAX: usize = 128;
/// Bytes of the reason of a BYE that are kept. The rest is cut.
pub const BYE_REASON_BYTES_MAX: usize = 64;
/// Digits and goodbyes of one peer that are told in a second: six times what the shortest digits allow. Those beyond
/// are not told, so that one peer cannot fill the queue of all.
pub const PEER_EVENTS_PER_SECOND_MAX: u32 = 75;
