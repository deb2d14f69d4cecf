//! Digits a peer sends, told once each, and no faster than a person or an honest machine dials.

use std::time::{Duration, Instant};

use rtp::{
    event::{EndCause, EventReceiver, Observation},
    header::RtpHeader,
    time::Now,
    units::ClockRate,
};

use crate::{
    command::{DigitSource, EventKind},
    limits,
};

/// Highest event number that is a DTMF key or flash (RFC 4733 §3.2).
const DIGIT_EVENT_MAX: u8 = 16;

/// What one endpoint hears of its peer's telephone-events.
#[derive(Debug)]
pub(crate) struct Hearing {
    receiver: EventReceiver,
    allowance: Allowance,
    /// Clock of the latest event.
    clock: ClockRate,
    count: u32,
    /// The start of the running digit was told, so its end will be.
    told: bool,
}

impl Hearing {
    pub(crate) fn new() -> Self {
        Self {
            receiver: EventReceiver::default(),
            allowance: Allowance::default(),
            clock: ClockRate::HZ_8000,
            count: 0,
            told: false,
        }
    }

    /// Digits told so far.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// When to call [`on_timeout`](Self::on_timeout).
    pub(crate) fn due(&self) -> Option<Instant> {
        self.receiver.poll_timeout()
    }

    /// Take in a telephone-event packet. One that is malformed shows nothing.
    pub(crate) fn on_packet(
        &mut self,
        now: Now,
        header: &RtpHeader,
        clock: ClockRate,
        payload: &[u8],
        mut tell: impl FnMut(EventKind),
    ) {
        self.clock = clock;
        let Self {
            receiver,
            allowance,
            count,
            told,
            ..
        } = self;
        let observe = |observation| Self::observe(now, observation, clock, allowance, count, told, &mut tell);
        // What cannot be read is still passed on as it came: a relay does not judge payloads.
        let _ = receiver.on_packet(now.mono, header.timestamp, header.marker, payload, observe);
    }

    /// End a digit whose packets ceased.
    pub(crate) fn on_timeout(&mut self, now: Now, mut tell: impl FnMut(EventKind)) {
        let Self {
            receiver,
            allowance,
            count,
            told,
            clock,
        } = self;
        let observe =
            |observation| Self::observe(now, observation, *clock, allowance, count, told, &mut tell);
        receiver.on_timeout(now.mono, observe);
    }

    /// End a digit whose source went away.
    pub(crate) fn finish(&mut self, now: Now, mut tell: impl FnMut(EventKind)) {
        let Self {
            receiver,
            allowance,
            count,
            told,
            clock,
        } = self;
        let observe =
            |observation| Self::observe(now, observation, *clock, allowance, count, told, &mut tell);
        receiver.finish(observe);
    }

    /// Whether the peer may cause one more event now; for others than digits.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        self.allowance.take(now)
    }

    fn observe(
        now: Now,
        observation: Observation,
        clock: ClockRate,
        allowance: &mut Allowance,
        count: &mut u32,
        told: &mut bool,
        tell: &mut impl FnMut(EventKind),
    ) {
        match observation {
            Observation::Started { event, .. } if event <= DIGIT_EVENT_MAX => {
                *told = allowance.take(now.mono);
                if *told {
                    *count = count.saturating_add(1);
                    let source = DigitSource::TelephoneEvent;
                    tell(EventKind::DigitStarted { event, source });
                }
            }
            Observation::Ended {
                event,
                duration,
                cause,
                ..
            } if event <= DIGIT_EVENT_MAX => {
                if std::mem::take(told) {
                    let length = clock.duration(u64::from(duration));
                    let duration_ms = u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
                    tell(EventKind::DigitEnded {
                        event,
                        source: DigitSource::TelephoneEvent,
                        duration_ms,
                        inferred: cause != EndCause::EndPacket,
                    });
                }
            }
            Observation::Started { .. } | Observation::Ended { .. } => {}
        }
    }
}

/// How many events a peer may cause, so that one cannot fill the queue that all share.
#[derive(Debug, Default)]
struct Allowance {
    since: Option<Instant>,
    used: u32,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let fresh = self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1));
        if fresh {
            self.since = Some(now);
            self.used = 0;
        }
        self.used += 1;
        self.used <= limits::PEER_EVENTS_PER_SECOND_MAX
    }
}
