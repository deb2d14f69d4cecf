//! The detail record of a call.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{journal::EndedBy, menu::Choice};

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
    /// What it chose in menus, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// What asked for the call.
    #[serde(default)]
    pub origin: CallOrigin,
    /// The trunk that the caller came from, or was reached by.
    #[serde(default)]
    pub caller_trunk: Option<String>,
    /// The trunk that it was sent to last.
    #[serde(default)]
    pub callee_trunk: Option<String>,
    /// Its recording: one file, and one more for each time the call moved to another media host.
    #[serde(default)]
    pub recordings: Vec<RecordingDetail>,
    /// Everybody who was in the call, in the order they came: two, and more when it was transferred.
    #[serde(default)]
    pub legs: Vec<LegDetail>,
}

impl CallDetail {
    /// Notes a file of the recording. One that was told of before, or was missed, is told of anew.
    pub fn take_recording(&mut self, file: RecordingDetail) {
        let known = self
            .recordings
            .iter_mut()
            .find(|known| known.segment == file.segment);
        match known {
            Some(known) => *known = file,
            None => self.recordings.push(file),
        }
    }
}

/// What asked for a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallOrigin {
    /// How.
    pub kind: OriginKind,
    /// What a machine that asked calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// How a call was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginKind {
    /// By an INVITE.
    #[default]
    Sip,
    /// By a machine: both parties were called.
    Api,
}

/// A file of a recording, or that there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordingDetail {
    /// The media host that has it.
    pub host: String,
    /// Counts the media hosts the call was on, from 1.
    pub segment: u32,
    /// Where the host has it, below its directory of recordings; empty when there is none.
    pub path: String,
    /// Its length.
    pub duration_ms: u64,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The host was killed while it wrote, and mended it.
    pub repaired: bool,
    /// What is wrong with it, for people; empty when nothing is.
    pub problem: String,
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
    /// Listening quality of all that we received, 1.0 to 4.5 (ITU-T G.107); `None` when unknown, as after less than a second.
    #[serde(default, deserialize_with = "known")]
    pub mos: Option<f64>,
    /// In the worst few seconds of it.
    #[serde(default)]
    pub mos_min: Option<f64>,
}

/// Records written before had 0 for what is unknown.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Option::deserialize(deserializer)?.filter(|mos: &f64| *mos > 0.0))
}

#[cfg(test)]
mod tests {
    use super::MediaDetail;

    #[test]
    fn what_older_records_did_not_know_is_unknown() {
        let read = |mos: &str| -> MediaDetail {
            let text = format!(r#"{{"rx_packets":1,"tx_packets":1,"lost":0,"jitter_ms":0.5{mos}}}"#);
            serde_json::from_str(&text).expect("a record")
        };
        assert_eq!(read(r#","mos":0.0"#).mos, None);
        assert_eq!(read(r#","mos":4.4"#).mos, Some(4.4));
        let new = MediaDetail {
            mos: None,
            mos_min: Some(3.5),
            ..read("")
        };
        assert_eq!(
            serde_json::from_str::<MediaDetail>(&serde_json::to_string(&new).unwrap()).unwrap(),
            new
        );
    }
}
