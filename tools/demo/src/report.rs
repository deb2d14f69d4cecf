//! What a phone reports at its end: one JSON line that the demonstration reads, and a table for people.

use serde::{Deserialize, Serialize};

use crate::{
    log,
    talk::{FRAME_SAMPLES, Heard, STRETCH},
};

/// What a phone did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PhoneReport {
    /// Its name.
    pub name: String,
    /// Its calls, in order.
    pub calls: Vec<CallReport>,
    /// What went wrong, if anything.
    pub failure: Option<String>,
}

/// One call as one phone saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// User part of the other's address.
    pub peer: String,
    /// The SIP Call-ID on this phone's side.
    pub call_id: String,
    /// The codec that was agreed.
    pub codec: String,
    /// From the INVITE to the answer, ms.
    pub set_up_ms: f64,
    /// From the answer to the end, ms.
    pub talk_ms: u64,
    /// Who hung up: this phone, or the other side.
    pub hung_up: bool,
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received.
    pub received: u64,
    /// RTP packets lost on the way to us.
    pub lost: i64,
    /// Datagrams that were not this call's audio.
    pub strange: u64,
    /// Changes of the sender's SSRC.
    pub ssrc_changes: u64,
    /// Interarrival jitter, ms.
    pub jitter_ms: f64,
    /// Longest pause between two packets, ms.
    pub gap_max_ms: f64,
    /// Mean opinion score of what was heard.
    pub mos: f32,
    /// The tone this phone sent, Hz.
    pub own_hz: f64,
    /// Tones listened for and their level after the music, dB below a full-scale sine.
    pub levels: Vec<(f64, f64)>,
    /// RTP packets of the music that was heard before somebody spoke.
    pub music_packets: u64,
    /// RTP packets sent until that somebody spoke: nobody heard them.
    pub waited_packets: u64,
    /// Its level, dB below a full-scale sine; -100 when there was none.
    pub music_db: f64,
}

impl CallReport {
    /// Takes over what was heard. `music`: the tone of the music that may come first.
    pub fn hear(&mut self, heard: &Heard, tones: &[f64], music: Option<f64>) {
        let end = music.map_or(0, |hz| heard.music_samples(hz));
        let first = end / FRAME_SAMPLES;
        self.music_packets = first as u64;
        let waited = heard.sent_by_then.get(first).filter(|_| end > 0);
        self.waited_packets = waited.copied().unwrap_or_default();
        self.music_db = music.map_or(-100.0, |hz| heard.level_db_until(end, hz));
        // Music and speech may share one stretch.
        let begin = if end == 0 { 0 } else { end + STRETCH };
        self.sent = heard.sent;
        self.received = heard.received;
        self.lost = heard.lost;
        self.strange = heard.strange;
        self.ssrc_changes = heard.ssrc_changes;
        self.jitter_ms = heard.jitter.as_secs_f64() * 1e3;
        self.gap_max_ms = heard.gap_max.as_secs_f64() * 1e3;
        self.mos = heard.mos();
        let level = |&hz: &f64| (hz, heard.level_db_from(begin, hz));
        self.levels = tones.iter().map(level).collect();
    }

    /// Level of a tone that was listened for; -100 for others.
    pub fn level_db(&self, hz: f64) -> f64 {
        let found = self.levels.iter().find(|(tone, _)| *tone == hz);
        found.map_or(-100.0, |(_, level)| *level)
    }

    /// One line for a person.
    pub fn summary(&self) -> String {
        format!(
            "{} with {} for {:.1} s: RTP sent {} received {} lost {}, jitter {:.2} ms, longest gap {:.0} ms, MOS {:.2}",
            self.codec,
            self.peer,
            self.talk_ms as f64 / 1e3,
            self.sent,
            self.received,
            self.lost,
            self.jitter_ms,
            self.gap_max_ms,
            self.mos,
        )
    }
}

impl PhoneReport {
    /// Writes the line that the demonstration reads.
    pub fn print(&self) {
        if let Ok(json) = serde_json::to_string(self) {
            println!("{}{json}", log::RESULT);
        }
    }

    /// Reads such a line; `None` for all others.
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix(log::RESULT)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_line() {
        let report = PhoneReport {
            name: "alice".into(),
            calls: vec![CallReport {
                peer: "customer".into(),
                levels: vec![(440.0, -12.25)],
                ..CallReport::default()
            }],
            failure: None,
        };
        let line = format!("{}{}", log::RESULT, serde_json::to_string(&report).unwrap());
        assert_eq!(PhoneReport::read(&line), Some(report.clone()));
        assert_eq!(PhoneReport::read("INFO alice: hello"), None);
        assert_eq!(
            (report.calls[0].level_db(440.0), report.calls[0].level_db(1.0)),
            (-12.25, -100.0)
        );
    }
}
