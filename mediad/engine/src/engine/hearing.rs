//! Digits a peer sends, told once each, and no faster than a person or an honest machine dials.
//!
//! A peer may send a telephone-event and the tone of one key press. Which of them comes first is told, the other is not.

use std::time::{Duration, Instant};

use codecs::dtmf::{self, DtmfEvent};
use rtp::{
    event::{Digit, EndCause, EventReceiver, Observation, TelephoneEvent},
    header::RtpHeader,
    time::Now,
    units::{ClockRate, RtpTimestamp, Ssrc},
};

use super::{endpoint::SSRC_OVERLAP, retelling::Place};
use crate::{
    command::{DigitSource, EventKind},
    limits,
};

/// Highest event number that is a DTMF key or flash (RFC 4733 §3.2).
const DIGIT_EVENT_MAX: u8 = 16;
/// What comes in the other form up to so long after a digit was over is the same key press: tones are found behind a jitter
/// buffer.
const SAME_PRESS: Duration = Duration::from_millis(400);

/// What one endpoint hears of its peer's digits.
#[derive(Debug)]
pub(crate) struct Hearing {
    receiver: EventReceiver,
    /// Of the latest telephone-event, if there was one.
    ssrc: Ssrc,
    /// The one before, and when it was left, if it was.
    left_ssrc: Ssrc,
    left_at: Option<Instant>,
    telling: Telling,
}

/// What is told, and was. Small, for every endpoint has one.
#[derive(Debug)]
struct Telling {
    /// How many events the peer caused since then, so that it cannot fill the queue that all share.
    since: Option<Instant>,
    used: u16,
    count: u32,
    /// Clock of the latest event; unset before any.
    clock: Option<ClockRate>,
    latest: Option<Press>,
    /// The start of the running event was told, so its end will be.
    event: bool,
    /// What its first packet told of its level, in -dBm0.
    volume: u8,
    /// The tone that sounds, if it was told.
    tone: Option<u8>,
}

/// What is told of a tone that is over.
struct Over {
    duration_ms: u32,
    inferred: bool,
    volume: Option<u8>,
}

/// A key press that was told.
#[derive(Debug)]
struct Press {
    /// When it began, or once it is over ended.
    at: Instant,
    event: u8,
    source: DigitSource,
    is_over: bool,
    /// It came in the other form as well.
    doubled: bool,
}

impl Hearing {
    pub(crate) fn new() -> Self {
        Self {
            receiver: EventReceiver::default(),
            ssrc: Ssrc(0),
            left_ssrc: Ssrc(0),
            left_at: None,
            telling: Telling {
                since: None,
                used: 0,
                count: 0,
                clock: None,
                latest: None,
                event: false,
                volume: 0,
                tone: None,
            },
        }
    }

    /// Digits told so far.
    pub(crate) fn count(&self) -> u32 {
        self.telling.count
    }

    /// The number of the telephone-event that is being sent, if its start was told.
    pub(crate) fn event(&self) -> Option<u32> {
        self.telling.event.then_some(self.telling.count)
    }

    /// When to call [`on_timeout`](Self::on_timeout).
    pub(crate) fn due(&self) -> Option<Instant> {
        self.receiver.poll_timeout()
    }

    /// Take in a telephone-event packet on `clock`, beside audio on another one or the same. One that is malformed shows
    /// nothing.
    pub(crate) fn on_packet(
        &mut self,
        now: Now,
        header: &RtpHeader,
        (clock, audio): (ClockRate, ClockRate),
        payload: &[u8],
        tell: &mut dyn FnMut(EventKind),
    ) {
        if self.ssrc != header.ssrc {
            let just_left = |at: Instant| now.mono.saturating_duration_since(at) < SSRC_OVERLAP;
            if self.left_ssrc == header.ssrc && self.left_at.is_some_and(just_left) {
                return;
            }
            let before = std::mem::replace(&mut self.ssrc, header.ssrc);
            if self.telling.clock.is_some() {
                (self.left_ssrc, self.left_at) = (before, Some(now.mono));
            }
            self.finish(now, tell);
        }
        let telling = &mut self.telling;
        telling.clock = Some(clock);
        self.receiver.set_clocks(clock, audio);
        let observe = |observation| telling.observe(now, observation, tell);
        // What cannot be read is still passed on as it came: a relay does not judge payloads.
        let _ = self.receiver.on_packet(now.mono, header, payload, observe);
    }

    /// Where a packet that was just taken stands in its event; see [`EventReceiver::place_of`].
    pub(crate) fn place_of(&self, timestamp: RtpTimestamp, payload: &[u8]) -> Option<Place> {
        let block = TelephoneEvent::parse(payload).ok()?;
        self.receiver.place_of(timestamp, block.duration)
    }

    /// End a digit whose packets ceased.
    pub(crate) fn on_timeout(&mut self, now: Now, tell: &mut dyn FnMut(EventKind)) {
        let Self {
            receiver, telling, ..
        } = self;
        receiver.on_timeout(now.mono, |observation| telling.observe(now, observation, tell));
    }

    /// End a digit whose source went away.
    pub(crate) fn finish(&mut self, now: Now, tell: &mut dyn FnMut(EventKind)) {
        let Self {
            receiver, telling, ..
        } = self;
        receiver.finish(|observation| telling.observe(now, observation, tell));
    }

    /// Take in what was found in the audio.
    pub(crate) fn on_tone(&mut self, now: Now, found: DtmfEvent, tell: &mut dyn FnMut(EventKind)) {
        let source = DigitSource::Inband;
        match found {
            DtmfEvent::Started(digit) => {
                let Some(event) = event_of(digit) else { return };
                if self.telling.begins(now, event, source) {
                    self.telling.tone = Some(event);
                    tell(EventKind::DigitStarted { event, source });
                }
            }
            DtmfEvent::Ended {
                duration_ms,
                level_dbm0,
                ..
            } => {
                let over = Over {
                    duration_ms,
                    inferred: false,
                    volume: Some(level_dbm0.min(0).unsigned_abs()),
                };
                self.end_tone(now, over, tell);
            }
        }
    }

    /// A tone sounds that was told.
    pub(crate) fn has_tone(&self) -> bool {
        self.telling.tone.is_some()
    }

    /// Nobody looks for tones any more: one that sounds has ended.
    pub(crate) fn lose_tone(&mut self, now: Now, tell: &mut dyn FnMut(EventKind)) {
        let is_it = |press: &&Press| !press.is_over && press.source == DigitSource::Inband;
        let since = self.telling.latest.as_ref().filter(is_it).map(|press| press.at);
        let lasted = since.map_or(Duration::ZERO, |since| now.mono.saturating_duration_since(since));
        let lasted = u32::try_from(lasted.as_millis()).unwrap_or(u32::MAX);
        let over = Over {
            duration_ms: lasted,
            inferred: true,
            volume: None,
        };
        self.end_tone(now, over, tell);
    }

    fn end_tone(&mut self, now: Now, over: Over, tell: &mut dyn FnMut(EventKind)) {
        let source = DigitSource::Inband;
        if let Some(event) = self.telling.tone.take() {
            self.telling.ends(now, source);
            let Over {
                duration_ms,
                inferred,
                volume,
            } = over;
            tell(EventKind::DigitEnded {
                event,
                source,
                duration_ms,
                inferred,
                volume,
            });
        }
    }

    /// Whether the peer may cause one more event now; for others than digits.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        self.telling.take(now)
    }
}

impl Telling {
    fn observe(&mut self, now: Now, observation: Observation, tell: &mut dyn FnMut(EventKind)) {
        let source = DigitSource::TelephoneEvent;
        match observation {
            Observation::Started { event, volume, .. } if event <= DIGIT_EVENT_MAX => {
                self.volume = volume;
                self.event = self.begins(now, event, source);
                if self.event {
                    tell(EventKind::DigitStarted { event, source });
                }
            }
            Observation::Ended {
                event,
                duration,
                cause,
                ..
            } if event <= DIGIT_EVENT_MAX => {
                if std::mem::take(&mut self.event) {
                    self.ends(now, source);
                    let length = self.clock.map(|clock| clock.duration(duration.into()));
                    let duration_ms =
                        u32::try_from(length.unwrap_or_default().as_millis()).unwrap_or(u32::MAX);
                    tell(EventKind::DigitEnded {
                        event,
                        source,
                        duration_ms,
                        inferred: cause != EndCause::EndPacket,
                        volume: Some(self.volume),
                    });
                }
            }
            Observation::Started { .. } | Observation::Ended { .. } => {}
        }
    }

    /// A digit began; false if it is not to be told.
    fn begins(&mut self, now: Now, event: u8, source: DigitSource) -> bool {
        let at = now.mono;
        let lasts = |press: &Press| !press.is_over || at.saturating_duration_since(press.at) < SAME_PRESS;
        if let Some(press) = &mut self.latest
            && press.event == event
            && press.source != source
            && !press.doubled
            && lasts(press)
        {
            press.doubled = true;
            return false;
        }
        if !self.take(now.mono) {
            return false;
        }
        self.count = self.count.saturating_add(1);
        self.latest = Some(Press {
            at,
            event,
            source,
            is_over: false,
            doubled: false,
        });
        true
    }

    /// Whether the peer may cause one more event.
    fn take(&mut self, now: Instant) -> bool {
        let fresh = self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1));
        if fresh {
            self.since = Some(now);
            self.used = 0;
        }
        self.used = self.used.saturating_add(1);
        u32::from(self.used) <= limits::PEER_EVENTS_PER_SECOND_MAX
    }

    fn ends(&mut self, now: Now, source: DigitSource) {
        let running = self
            .latest
            .as_mut()
            .filter(|press| press.source == source && !press.is_over);
        if let Some(press) = running {
            (press.at, press.is_over) = (now.mono, true);
        }
    }
}

/// The number of RFC 4733 §3.2.
fn event_of(digit: dtmf::Digit) -> Option<u8> {
    Digit::from_char(digit.as_char()).map(Digit::event)
}

/// The tone of an event, if it has one.
pub(crate) fn tone_of(event: u8) -> Option<dtmf::Digit> {
    Digit::from_event(event).and_then(|digit| dtmf::Digit::from_char(digit.to_char()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn one_key_press_in_both_forms_is_told_once_although_the_wall_clock_is_set() {
        for set_by in [-3_600_i64, 3_600] {
            let start = Now {
                mono: Instant::now(),
                wall: std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
            };
            let mut telling = Hearing::new().telling;
            assert!(telling.begins(start, 5, DigitSource::TelephoneEvent));
            let mut now = start.after(Duration::from_millis(100));
            telling.ends(now, DigitSource::TelephoneEvent);
            now = now.after(Duration::from_millis(40));
            let shift = Duration::from_secs(set_by.unsigned_abs());
            now.wall = if set_by < 0 {
                now.wall - shift
            } else {
                now.wall + shift
            };
            assert!(!telling.begins(now, 5, DigitSource::Inband), "the same press");
            now = now.after(Duration::from_millis(600));
            assert!(telling.begins(now, 5, DigitSource::Inband), "another one");
        }
    }
}
