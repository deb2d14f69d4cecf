//! Every bound of the daemon that is not configured, with its policy when full.

use std::time::Duration;

/// Worker threads at most; refused by `--check-config`.
pub(crate) const WORKERS_MAX: usize = 256;

/// Commands a worker takes from its mailbox between two drains; the rest follows in the next.
pub(crate) const COMMANDS_PER_TURN: usize = 64;

/// Events a worker may hold for the host thread. Full: the newest are dropped and counted, watchers get a reset.
pub(crate) const EVENTS_PER_WORKER: usize = 8_192;

/// Replies a worker may hold for the host thread. Full: they stay in the engine until there is room.
pub(crate) const REPLIES_PER_WORKER: usize = 4_096;

/// Sockets on their way from a worker to be closed. Full: they stay registered until there is room.
pub(crate) const RELEASES_PER_WORKER: usize = 4_096;

/// Packets from other workers, through links, that a worker may have waiting: 20 ms of a thousand calls. Full: what is
/// more is dropped, and counted at the transport where it left.
pub(crate) const PARCELS_PER_WORKER: usize = 1_024;

/// Longest packet between workers; longer ones are dropped and counted. Nothing longer fits a datagram of Ethernet.
pub(crate) const PARCEL_BYTES: usize = 1_500;

/// How often a worker publishes its counters when it has nothing else to do.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_millis(250);
/// Share of that time which a worker that never sleeps runs at least: the kernel keeps 5 % from real-time threads.
pub(crate) const SATURATED: f32 = 0.9;

/// Requests the host thread handles before it looks at the workers again.
pub(crate) const REQUESTS_PER_TURN: usize = 64;

/// Commands in one message of a control stream. More: the message is refused.
pub(crate) const COMMANDS_PER_MESSAGE: usize = 1_024;

/// Messages of one control stream whose replies are outstanding. Full: the stream is read no further.
pub(crate) const MESSAGES_IN_FLIGHT: usize = 64;

/// Answers of workers that are awaited, all workers together. Reached: RESOURCE_EXHAUSTED. Not above
/// [`REPLIES_PER_WORKER`] and the engine's own bound, so that no answer can be lost.
pub(crate) const ANSWERS_AWAITED: usize = 4_096;
const _: () = assert!(ANSWERS_AWAITED <= REPLIES_PER_WORKER);
const _: () = assert!(ANSWERS_AWAITED <= media_engine::limits::ENGINE_REPLIES_MAX);

/// Ports tried for one transport when the kernel says that they are taken by other programs. Reached: UNAVAILABLE.
pub(crate) const BIND_ATTEMPTS: usize = 64;

/// Events in one answer to a watcher.
pub(crate) const EVENTS_PER_READ: usize = 256;

/// Messages buffered between a watcher's task and its connection. Full: the watcher falls behind in the ring.
pub(crate) const WATCH_BUFFER: usize = 64;

/// Replies on their way to a program at a tap. Half full: the program hears no more until it reads, and loses its audio.
pub(crate) const TAP_BUFFER: usize = 64;

/// Events that wait for a program at a tap. Those beyond are not told it.
pub(crate) const TAP_EVENTS: usize = 64;

/// Marks of a program that were not passed yet. More: its stream ends.
pub(crate) const TAP_MARKS: usize = 64;

/// Bytes of a mark. Longer: the stream ends.
pub(crate) const TAP_MARK_BYTES: usize = 64;

/// How long a program waits for the one before it to leave the tap. After that it is refused.
pub(crate) const TAP_TAKE_OVER: Duration = Duration::from_secs(2);

/// How often the task of a program that reads nothing looks whether the tap is still its own.
pub(crate) const TAP_LOOKS_UP: Duration = Duration::from_millis(100);

/// Sessions described at once for a snapshot.
pub(crate) const SNAPSHOT_PARALLEL: usize = 32;

/// Sessions listed at once for a snapshot.
pub(crate) const SNAPSHOT_PAGE: u32 = 1_000;

/// Bytes of one gRPC message. More: OUT_OF_RANGE by the transport.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Keep-alive pings of the gRPC connections, and how long their answer may take.
pub(crate) const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// See [`KEEPALIVE_EVERY`].
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer may take for its TLS handshake. Longer: the connection is closed.
pub(crate) const TLS_HANDSHAKE: Duration = Duration::from_secs(5);

/// How long the host thread may take to answer before the process calls itself ready, or to go on under a reloaded
/// configuration. Longer: the start, or the reload, fails.
pub(crate) const HOST_ANSWERS: Duration = Duration::from_secs(5);

/// A clean shutdown: how long sessions are given to say goodbye, and how long connections to close.
pub(crate) const SHUTDOWN_SESSIONS: Duration = Duration::from_millis(1_000);
/// See [`SHUTDOWN_SESSIONS`].
pub(crate) const SHUTDOWN_CONNECTIONS: Duration = Duration::from_millis(500);

/// Concurrent requests on the management address. Full: they wait.
pub(crate) const MANAGEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Open files kept free for what is neither a media socket nor a connection.
pub(crate) const SPARE_FILES: usize = 256;

/// Recordings at once. Those beyond are refused.
pub(crate) const RECORDINGS_MAX: usize = 4_096;

/// A recording's buffer that grew beyond this while the disk was slow is given back.
pub(crate) const RECORDING_BUFFER_BYTES_KEPT: usize = 256 << 10;

/// A clean shutdown: how long the files of recordings may take to be sealed. What is not sealed by then is repaired at the
/// next start.
pub(crate) const SHUTDOWN_RECORDINGS: Duration = Duration::from_secs(10);

/// Files in one answer to a list, at most.
pub(crate) const FILES_PER_PAGE: usize = 1_000;

/// Prompts whose length is remembered. With one more all are forgotten, and looked up anew.
pub(crate) const DURATIONS_MAX: usize = FILES_LISTED_MAX;

/// Prompts that are listed. Those beyond are not shown.
pub(crate) const FILES_LISTED_MAX: usize = 100_000;

/// Bytes of a file in one message, and how many messages are read ahead of the caller.
pub(crate) const FETCH_BYTES: usize = 64 << 10;
/// See [`FETCH_BYTES`].
pub(crate) const FETCH_PARTS_AHEAD: usize = 4;

/// Bytes of a prompt's file. Larger: the upload is refused.
pub(crate) const PROMPT_BYTES_MAX: u64 = 128 << 20;

/// Prompts up to this length are decoded once and kept; longer ones are read while they play.
pub(crate) const PROMPT_WHOLE_MS_MAX: u64 = 20_000;
/// Bytes of prompts that are kept decoded. Those not used for longest go first, those that play never: if nothing can go,
/// the next one is read while it plays.
pub(crate) const PROMPT_CACHE_BYTES_MAX: usize = 128 << 20;
/// Files whose head is remembered. The one not asked for longest is forgotten.
pub(crate) const PROMPTS_KNOWN_MAX: usize = 10_000;
/// Files that are read while they play, at once. More: the Apply is refused.
pub(crate) const STREAMS_MAX: usize = 1_000;
