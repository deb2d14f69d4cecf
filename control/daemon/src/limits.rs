//! Every bound of the process, with its policy when full.

use std::time::Duration;

/// Inputs that may wait for the core thread. Full: a stream is read no further, a reply of a media host waits.
/// Datagrams wait in their sockets.
pub(crate) const INPUTS: usize = 8_192;
/// Inputs handled before their outputs are carried out: one write of the journal serves them all.
pub(crate) const INPUTS_PER_BATCH: usize = 256;
/// Timers that are due wait for this long at most, for a message or for others that are due then.
pub(crate) const TIMERS_EVERY: Duration = Duration::from_millis(10);
/// Datagrams read with one system call from one socket, before others get their turn.
pub(crate) const DATAGRAMS_PER_CALL: usize = 32;
/// As many are asked for while few come: making room for a call's worth costs more than to read one.
pub(crate) const DATAGRAMS_PER_CALL_FEW: usize = 6;
/// Largest datagram (RFC 3261 §18.1.1: the largest UDP allows).
pub(crate) const DATAGRAM_BYTES: usize = 65_535;
/// Kernel buffer asked for each UDP socket, bytes: a burst of registrations fits.
pub(crate) const UDP_BUFFER_BYTES: usize = 4 << 20;
/// Messages that may wait to be written to one connection. Full: the connection counts as broken.
pub(crate) const WRITES_PER_CONNECTION: usize = 256;
/// Bytes asked of a connection in one read.
pub(crate) const READ_BYTES: usize = 16 << 10;
/// How long a peer may take for the handshakes of TLS and WebSocket.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Read buffer of one WebSocket connection, bytes.
pub(crate) const WEBSOCKET_BUFFER_BYTES: usize = 4 << 10;
/// Sources remembered. Full: those at rest are forgotten, then all that are not silenced.
pub(crate) const SOURCES: usize = 65_536;
/// How far into a message a scanner's name is looked for.
pub(crate) const SCANNER_SEARCH_BYTES: usize = 2_048;
/// Names looked up at once; more wait.
pub(crate) const LOOKUPS: usize = 256;
/// How long a name may take to be looked up, all its records together.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(12);
/// Targets of one name; more are left out.
pub(crate) const TARGETS_PER_NAME: usize = 32;
/// Targets that failed and are remembered; full, all are forgotten.
pub(crate) const AVOIDED_TARGETS: usize = 4_096;
/// How long a peer may take to accept a connection, and one write.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Commands that may wait for one media host. Full: the command is said again later.
pub(crate) const COMMANDS_PER_HOST: usize = 4_096;
/// Commands sent in one message; media hosts refuse more than 1 024.
pub(crate) const COMMANDS_PER_MESSAGE: usize = 64;
/// How long a media host may take to say hello, or that it is healthy.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// First and longest pause between two attempts to reach a media host.
pub(crate) const RECONNECT_MIN: Duration = Duration::from_millis(100);
/// See [`RECONNECT_MIN`].
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// A media host whose connection broke is lost unless it is back with the same boot id within this time
/// (refused connections count at once).
pub(crate) const SUSPECT: Duration = Duration::from_secs(5);
/// How long the connection to a media host that was taken out, and has nothing of ours any more, stays for last words.
pub(crate) const HOST_FAREWELL: Duration = Duration::from_secs(5);
/// Requests to read the configuration again that may wait. More are refused with 503.
pub(crate) const RELOADS: usize = 4;
/// How long the core thread may take to go over to another configuration.
pub(crate) const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Call details kept for `/v1/cdrs`, and given by it at once; older ones stand in the journal only, and in the database.
pub(crate) const CDRS_KEPT: usize = 10_000;
/// Call details given by `/v1/cdrs` when nothing is said about it.
pub(crate) const DETAILS_USUAL: usize = 100;
/// Longest text that parties of past calls are looked for by, in characters. Longer: 400.
pub(crate) const PARTY_CHARS: usize = 100;
/// How much of a wrong value is shown to who sent it, in characters.
pub(crate) const SHOWN_CHARS: usize = 200;
/// Bytes of the journal that may wait for a disk that cannot be written. More: they are dropped, counted as failures.
pub(crate) const JOURNAL_UNWRITTEN_BYTES: usize = 16 << 20;
/// How long the core thread may take to answer a question.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// What goes on is told anew for `/v1/live` when it was told so long ago.
pub(crate) const SNAPSHOT_AGE: Duration = Duration::from_millis(500);
/// How long a media host may take to say who hears whom in a call.
pub(crate) const AUDIO_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls that media hosts are asked about at once; more wait, and are refused with 503 when that takes too long.
pub(crate) const AUDIO_QUESTIONS: usize = 4;
/// Bytes of a request over HTTP; more are refused with 413.
pub(crate) const REQUEST_BYTES: usize = 16 << 10;
/// A shorter token is refused at the start.
pub(crate) const TOKEN_BYTES_MIN: usize = 16;
/// Recordings that are accounted for and whose media host is to be told. Full: it is not told, and tells us again.
pub(crate) const ACKNOWLEDGEMENTS: usize = 4_096;
/// How often it is looked whether the records that they wait for are on the disk.
pub(crate) const ACKNOWLEDGE_EVERY: Duration = Duration::from_millis(100);
/// How long calls may take to end at shutdown.
pub(crate) const SHUTDOWN_CALLS: Duration = Duration::from_secs(3);
/// How long the last commands to media hosts may take to leave.
pub(crate) const SHUTDOWN_LAST_WORDS: Duration = Duration::from_millis(20);
/// Connections of the management address at once; more are closed unheard.
pub(crate) const HTTP_CONNECTIONS: usize = 256;
/// How long one of them may take to ask, and to read on in the answer.
pub(crate) const HTTP_PATIENCE: Duration = Duration::from_secs(30);
/// Files beside connections: the journal, the database, listeners, media hosts.
pub(crate) const SPARE_FILES: usize = 256;
/// How long the management listener may take to end.
pub(crate) const SHUTDOWN_CONNECTIONS: Duration = Duration::from_secs(1);
/// Records carried into the store in one transaction.
pub(crate) const STORE_BATCH: usize = 1_000;
/// How often the journal is looked at for new records. What comes in between is carried into the store in one transaction,
/// which writes each page of an index once.
pub(crate) const STORE_PAUSE: Duration = Duration::from_millis(500);
/// First and longest pause after a failure of the store.
pub(crate) const STORE_RETRY_MIN: Duration = Duration::from_millis(500);
/// See [`STORE_RETRY_MIN`].
pub(crate) const STORE_RETRY_MAX: Duration = Duration::from_secs(30);
/// Questions to the store at once; more wait, and are refused with 503 when that takes too long.
pub(crate) const STORE_QUESTIONS: usize = 4;
/// Calls begun within the time asked for up to which their place in the store is looked up first.
pub(crate) const STORE_WINDOW: i64 = 20_000;
/// How long a question to the store may take; then it is ended.
pub(crate) const STORE_QUERY: Duration = Duration::from_secs(5);
