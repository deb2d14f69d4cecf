//! Digits we send to a peer as telephone-events, on its line and in the place of audio.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rtp::{
    event::{EventPacket, EventSender},
    units::{ClockRate, RtpTimestamp},
};

use crate::{command::SendDigit, limits};

/// Digits that wait, and the one being sent.
#[derive(Debug)]
pub(crate) struct Dialling {
    queue: VecDeque<SendDigit>,
    sending: Option<EventSender>,
    /// Silence after the digit being sent.
    gap: Duration,
    /// When the next packet, or after a gap the next digit, is due; `None` when all is sent.
    due: Option<Instant>,
    wish: Wish,
}

/// How the peer takes telephone-events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) payload_type: u8,
    pub(crate) clock: ClockRate,
    /// Between packets of one event.
    pub(crate) interval: Duration,
}

/// Digits of other parties that wait for one listener. More are pressed by nobody who wants to be understood.
const DIGITS_PASSED_MAX: usize = 8;

/// What is due now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this.
    Packet(EventPacket),
    /// A pause: audio flows.
    Pause,
    /// All digits are sent.
    Done,
}

impl Dialling {
    pub(crate) fn new(wish: Wish) -> Self {
        Self {
            queue: VecDeque::new(),
            sending: None,
            gap: Duration::ZERO,
            due: None,
            wish,
        }
    }

    /// The peer takes telephone-events otherwise: the payload type from now on, the rest from the next digit on.
    pub(crate) fn retarget(&mut self, wish: Wish) {
        self.wish = wish;
    }

    /// Nothing more is sent.
    pub(crate) fn stop(&mut self) {
        self.queue.clear();
        self.sending = None;
        self.due = None;
    }

    /// Adds digits behind those that wait; beyond the bound they are not sent.
    pub(crate) fn push(&mut self, now: Instant, digits: &[SendDigit]) {
        let room = limits::DIGITS_QUEUED_MAX.saturating_sub(self.queue.len());
        self.queue.extend(digits.iter().take(room));
        self.due.get_or_insert(now);
    }

    /// Makes room for digits that are passed on, which must not allocate.
    pub(crate) fn reserve(&mut self) {
        self.queue.reserve(DIGITS_PASSED_MAX);
    }

    /// Adds a digit that somebody else pressed, if there is room.
    pub(crate) fn pass(&mut self, now: Instant, digit: SendDigit) {
        if self.queue.len() < DIGITS_PASSED_MAX {
            self.queue.push_back(digit);
            self.due.get_or_insert(now);
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn payload_type(&self) -> u8 {
        self.wish.payload_type
    }

    /// What to do at `now`, when something is due. `line_now` is where the line's media clock stands.
    pub(crate) fn step(&mut self, now: Instant, line_now: RtpTimestamp) -> Step {
        if let Some(sender) = &mut self.sending {
            if let Some(packet) = sender.poll_packet() {
                self.due = Some(pace(self.due, self.wish.interval, now));
                return Step::Packet(packet);
            }
            self.sending = None;
            if !self.gap.is_zero() {
                self.due = Some(now + self.gap);
                return Step::Pause;
            }
        }
        let Some(digit) = self.queue.pop_front() else {
            self.due = None;
            return Step::Done;
        };
        self.gap = Duration::from_millis(u64::from(digit.gap_ms));
        let length = Duration::from_millis(u64::from(digit.duration_ms));
        let Some(event) = digit.event else {
            self.due = Some(now + length + self.gap);
            return Step::Pause;
        };
        let ticks = |duration| u32::try_from(self.wish.clock.ticks(duration)).unwrap_or(u32::MAX);
        let mut sender = EventSender::new(
            event,
            digit.volume,
            line_now,
            ticks(length),
            ticks(self.wish.interval),
        );
        let first = sender.poll_packet();
        self.sending = Some(sender);
        self.due = Some(now + self.wish.interval);
        first.map_or(Step::Pause, Step::Packet)
    }
}

/// The next of evenly spaced moments; after a stall they start anew instead of coming in a burst.
fn pace(due: Option<Instant>, interval: Duration, now: Instant) -> Instant {
    let next = due.unwrap_or(now) + interval;
    if next > now { next } else { now + interval }
}
