//! Every bound of the crate, with its policy when full.

use std::time::Duration;

/// SSRCs of one direction of one transport. When another one comes, the one that was silent longest is forgotten: a
/// peer that takes a new SSRC with every change of its media is heard however often it does. Whoever recorded packets of a
/// forgotten SSRC could have them taken again: the peer's own sound of minutes ago.
pub const SSRCS_MAX: usize = 8;
/// Packets behind the newest that are still taken, once each. RFC 3711 §3.3.2 asks for 64 at least. Older ones are
/// refused as replays.
pub const WINDOW_PACKETS: u64 = 128;
/// How long packets under the key before a change are taken: from the moment one side learns of the new key until the
/// other's packets in flight and its answer have arrived.
pub const REKEY_OVERLAP: Duration = Duration::from_secs(10);
/// Rollover counters that are looked for when a peer is heard for the first time in the middle of its stream: a day of
/// packets of 20 ms, one counter for each packet. Beyond that it is heard when it takes another SSRC or key.
pub const ROLLOVERS_SEARCHED: u64 = 66;
/// Longest packet for which another key or rollover counter can be tried with AES-GCM, where a failed attempt spoils
/// the packet. Longer ones get one attempt.
pub const RETRY_BYTES_MAX: usize = 2_048;
