//! The newest call details, kept for who asks soon.

use std::{collections::VecDeque, sync::Arc};

use call_control::cdr::{CallDetail, RecordingDetail};

use crate::limits;

/// Newest last.
#[derive(Debug, Default)]
pub(super) struct Details(VecDeque<Kept>);

#[derive(Debug)]
struct Kept {
    call: Box<str>,
    text: DetailText,
}

/// A call detail as the text that the journal got, JSON: it holds two dozen strings, and that many small pieces of memory,
/// kept for half a minute among what lives for a moment, would slow down every allocation of the core thread. Who wants
/// many of them reads them elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct DetailText(Arc<[u8]>);

impl DetailText {
    pub(crate) fn read(&self) -> Option<CallDetail> {
        serde_json::from_slice(&self.0).ok()
    }
}

impl Details {
    /// `text` is JSON that holds the detail's fields; the oldest goes when there are too many.
    pub(super) fn keep(&mut self, call: &str, text: &[u8]) {
        if self.0.len() == limits::CDRS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Kept {
            call: call.into(),
            text: DetailText(text.into()),
        });
    }

    /// A recording that was finished after its call was told of.
    pub(super) fn complete(&mut self, call: &str, file: &RecordingDetail) {
        let kept = self.0.iter_mut().rev().find(|kept| *kept.call == *call);
        let Some((kept, mut detail)) = kept.and_then(|kept| kept.text.read().map(|detail| (kept, detail)))
        else {
            return;
        };
        detail.take_recording(file.clone());
        if let Ok(text) = serde_json::to_vec(&detail) {
            kept.text = DetailText(text.into());
        }
    }

    /// The detail of a call.
    pub(super) fn find(&self, call: &str) -> Option<CallDetail> {
        let kept = self.0.iter().rev().find(|kept| *kept.call == *call);
        kept.and_then(|kept| kept.text.read())
    }

    /// So many, newest first.
    pub(super) fn newest(&self, count: usize) -> Vec<DetailText> {
        self.0
            .iter()
            .rev()
            .take(count)
            .map(|kept| kept.text.clone())
            .collect()
    }
}

impl FromIterator<CallDetail> for Details {
    fn from_iter<I: IntoIterator<Item = CallDetail>>(oldest_first: I) -> Self {
        let mut details = Self::default();
        for detail in oldest_first {
            if let Ok(text) = serde_json::to_vec(&detail) {
                details.keep(&detail.call, &text);
            }
        }
        details
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(call: &str) -> CallDetail {
        let text = serde_json::json!({
            "call": call, "sip_call_id": "x", "from": "sip:a@h", "to": "sip:b@h", "queue": null, "answered_by": "b",
            "rung": ["b"], "started_unix_us": 1, "answered_unix_us": 2, "ended_unix_us": 3, "wait_ms": 4, "talk_ms": 5,
            "ended_by": "callee", "status": 200, "reason": "", "host": "m", "caller_codec": "PCMU",
            "callee_codec": "PCMU", "caller_media": null, "callee_media": null,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_is_kept_is_found_and_completed() {
        let mut details: Details = ["c1", "c2", "c3"].map(detail).into_iter().collect();
        let file = RecordingDetail {
            segment: 1,
            path: "c2-1.wav".into(),
            ..RecordingDetail::default()
        };
        details.complete("c2", &file);
        details.complete("gone", &file);
        let mut second = detail("c2");
        second.take_recording(file);
        assert_eq!(details.find("c2").as_ref(), Some(&second));
        let newest: Vec<_> = details.newest(2).iter().filter_map(DetailText::read).collect();
        assert_eq!(newest, [detail("c3"), second]);
        assert_eq!(details.find("gone"), None);
    }

    #[test]
    fn the_oldest_goes() {
        let mut details = Details::default();
        let text = serde_json::to_vec(&detail("c")).unwrap();
        for number in 0..=limits::CDRS_KEPT {
            details.keep(&number.to_string(), &text);
        }
        assert_eq!(details.0.len(), limits::CDRS_KEPT);
        assert!(details.find("0").is_none() && details.find("1").is_some());
    }
}
