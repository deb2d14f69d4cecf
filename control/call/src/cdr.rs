//! The detail record of a call.

use serde::{Deserialize, Serialize};

use crate::journal::EndedBy;

/// Everything that is told about a call when it is over. Times are in microseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallDetail {
    /// Our name for the call.
    pub call: String,
    /// The caller's SIP Call-ID.
    pub sip_call_id: String,
    /// The caller.
    pub from: String,
    /// What was dialled.
    pub to: String,
    /// The queue, if it went to one.
    pub queue: Option<String>,
    /// The conference room, if it went to one.
    #[serde(default)]
    pub room: Option<String>,
    /// Who answered.
    pub answered_by: Option<String>,
    /// Everybody whose phones rang, in order.
    pub rung: Vec<String>,
    /// When the INVITE came.
    pub started_unix_us: u64,
    /// When the two were connected.
    pub answered_unix_us: Option<u64>,
    /// When it was over.
    pub ended_unix_us: u64,
    /// From the INVITE to the answer, or to the end without one, in milliseconds.
    pub wait_ms: u64,
    /// From the answer to the end, in milliseconds.
    pub talk_ms: u64,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// The SIP status the caller got, 200 for an answered call.
    pub status: u16,
    /// Why it ended, for people.
    pub reason: String,
    /// The media host.
    pub host: String,
    /// The codec towards the caller, empty before one was agreed.
    pub caller_codec: String,
    /// The codec towards who answered.
    pub callee_codec: String,
    /// The caller's stream; `None` when the media host could not tell.
    pub caller_media: Option<MediaDetail>,
    /// The stream of who answered.
    pub callee_media: Option<MediaDetail>,
    /// Where its media host has the recording, if it was recorded.
    #[serde(default)]
    pub recording: Option<String>,
    /// Everybody who was in the call, in the order they came: two, and more when it was transferred.
    #[serde(default)]
    pub legs: Vec<LegDetail>,
}

/// A party of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LegDetail {
    /// It was called, or took the place of who was; otherwise it called, or took the place of who did.
    pub called: bool,
    /// Its address.
    pub address: String,
    /// The account, if it is one of ours.
    pub user: Option<String>,
    /// When it came into the call.
    pub joined_unix_us: u64,
    /// When it left.
    pub left_unix_us: u64,
    /// The codec towards it.
    pub codec: String,
    /// The SRTP suite towards it; empty when its audio was not encrypted.
    #[serde(default)]
    pub srtp: String,
    /// Its stream; `None` when the media host could not tell.
    pub media: Option<MediaDetail>,
}

/// One party's stream as the media host counted it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MediaDetail {
    /// RTP packets received from the party.
    pub rx_packets: u64,
    /// RTP packets sent to it.
    pub tx_packets: u64,
    /// Packets it sent that did not arrive.
    pub lost: i64,
    /// Interarrival jitter at the end, in milliseconds.
    pub jitter_ms: f64,
    /// Listening quality of what we received, 1.0 to 4.5; 0 when unknown.
    pub mos: f64,
}
