//! The outgoing RTP line of one listener: one unbroken run of sequence numbers and timestamps, whoever speaks.
//!
//! Within a source, sequence and timestamp are mapped by fixed offsets, so its losses and reordering stay visible to
//! the listener, whose jitter buffer and reports need them. Where the source changes, the line continues with the
//! next number and a timestamp that advanced by the time that passed.

use std::time::{Duration, Instant};

use rtp::units::{ClockRate, ExtendedSeq, RtpTimestamp};

/// A timestamp this far ahead of the time that passed is a jump, not silence suppression.
const JUMP_AHEAD_MAX: Duration = Duration::from_secs(5);
/// A timestamp this far back in a newer packet is a jump; video legitimately steps back by less.
const JUMP_BACK_MAX: Duration = Duration::from_secs(1);

/// One run of packets with one SSRC and one sequence: a new one begins when the peer changes its SSRC or restarts.
/// Unique in the engine; 0 is never given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamId(pub(crate) u64);

impl StreamId {
    pub(crate) const NONE: Self = Self(0);
}

/// A packet of a source, as a line needs to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) stream: StreamId,
    pub(crate) ext: ExtendedSeq,
    pub(crate) timestamp: RtpTimestamp,
    pub(crate) clock: ClockRate,
    pub(crate) marker: bool,
    /// A telephone-event: its timestamp is the start of the event, in every packet of it.
    pub(crate) event: bool,
}

/// What goes into the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) sequence: u16,
    pub(crate) timestamp: RtpTimestamp,
    pub(crate) marker: bool,
}

/// An event whose clock is not the audio's: where it began on its own clock and on the line.
#[derive(Debug, Clone, Copy)]
struct ForeignEvent {
    source: RtpTimestamp,
    line: RtpTimestamp,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Line {
    stream: StreamId,
    /// Outgoing = source + this, wrapping.
    sequence_offset: u64,
    /// Source numbers below belong to before the latest switch.
    floor: u64,
    /// Newest source number that was sent or withheld.
    top: u64,
    /// Highest number sent; before the first packet, the one before it.
    last_sequence: u64,
    /// When `last_timestamp` was reached.
    last_at: Option<Instant>,
    timestamp_offset: u32,
    /// Furthest timestamp sent.
    last_timestamp: RtpTimestamp,
    clock: ClockRate,
    /// Least advance at a switch.
    frame: Duration,
    foreign_event: Option<ForeignEvent>,
    marker_due: bool,
}

impl Line {
    /// A line that begins with a random number and timestamp (RFC 3550 §5.1).
    pub(crate) fn new(random: u64, clock: ClockRate, frame: Duration) -> Self {
        Self {
            stream: StreamId::NONE,
            sequence_offset: 0,
            floor: 0,
            top: 0,
            // In cycle 1, so that late packets from before the first have a number too.
            last_sequence: 0x1_0000 | random & 0x7fff,
            last_at: None,
            timestamp_offset: 0,
            last_timestamp: RtpTimestamp((random >> 32) as u32),
            clock,
            frame,
            foreign_event: None,
            marker_due: false,
        }
    }

    /// The frame length changed.
    pub(crate) fn set_frame(&mut self, frame: Duration) {
        self.frame = frame;
    }

    /// Whoever speaks next is a new source, even if it is the one from before.
    pub(crate) fn detach(&mut self) {
        self.stream = StreamId::NONE;
    }

    /// Whether anything was sent.
    pub(crate) fn is_started(&self) -> bool {
        self.last_at.is_some()
    }

    /// The clock of what was sent last.
    pub(crate) fn clock(&self) -> ClockRate {
        self.clock
    }

    /// Where the media clock of the line stands at `now`; for sender reports and own packets.
    pub(crate) fn timestamp_at(&self, now: Instant) -> RtpTimestamp {
        self.last_timestamp.wrapping_add(self.elapsed(now, self.clock))
    }

    /// Number and timestamp for a packet that is sent now; `None` if it is late from before a switch.
    #[inline]
    pub(crate) fn place(&mut self, now: Instant, packet: &Arrival) -> Option<Stamp> {
        let ext = packet.ext.0;
        if packet.stream != self.stream {
            self.join(now, packet);
        } else if ext < self.floor {
            return None;
        } else if ext > self.top {
            self.top = ext;
            if !packet.event {
                self.follow(now, packet);
            }
        }
        let sequence = ext.wrapping_add(self.sequence_offset);
        if sequence > self.last_sequence {
            self.last_sequence = sequence;
        }
        let timestamp = self.timestamp_of(now, packet);
        if self.last_at.is_none() || timestamp.diff(self.last_timestamp) > 0 {
            self.last_timestamp = timestamp;
            self.last_at = Some(now);
        }
        let marker = packet.marker || self.marker_due && !packet.event;
        if !packet.event {
            self.marker_due = false;
        }
        Some(Stamp {
            sequence: sequence as u16,
            timestamp,
            marker,
        })
    }

    /// A packet of the source that the listener is not to get: the line closes the gap, so that it does not look
    /// like a loss. What is late from before it can then no longer be told apart and is dropped.
    #[inline]
    pub(crate) fn withhold(&mut self, packet: &Arrival) {
        let ext = packet.ext.0;
        if packet.stream == self.stream && ext > self.top {
            self.sequence_offset = self.sequence_offset.wrapping_sub(1);
            self.top = ext;
            self.floor = ext + 1;
        }
    }

    /// The number for a packet of our own, such as a digit. The source's numbers move up by one.
    pub(crate) fn own(&mut self, now: Instant, timestamp: RtpTimestamp) -> u16 {
        self.last_sequence += 1;
        if self.stream != StreamId::NONE {
            // The source continues behind our packet whatever it lost meanwhile.
            self.sequence_offset = self.last_sequence.wrapping_sub(self.top);
            self.floor = self.top + 1;
        }
        if self.last_at.is_none() || timestamp.diff(self.last_timestamp) > 0 {
            self.last_timestamp = timestamp;
            self.last_at = Some(now);
        }
        self.last_sequence as u16
    }

    /// Fix the offsets for a new source.
    #[cold]
    fn join(&mut self, now: Instant, packet: &Arrival) {
        let ext = packet.ext.0;
        self.sequence_offset = (self.last_sequence + 1).wrapping_sub(ext);
        self.stream = packet.stream;
        self.top = ext;
        // Before anything was sent, what overtook the first packet cannot collide with anything.
        self.floor = if self.is_started() {
            ext
        } else {
            ext.saturating_sub(0x100)
        };
        self.anchor_timestamp(now, packet);
    }

    /// A newer packet of the same source: does its timestamp still follow?
    #[inline]
    fn follow(&mut self, now: Instant, packet: &Arrival) {
        let advance = packet
            .timestamp
            .wrapping_add(self.timestamp_offset)
            .diff(self.last_timestamp);
        // A second is far beyond any frame; the exact limits need the clock and matter only past it.
        if packet.clock == self.clock && advance.unsigned_abs() < self.clock.hz() {
            return;
        }
        let ahead_max = i64::from(self.elapsed(now, self.clock)) + ticks(self.clock, JUMP_AHEAD_MAX) as i64;
        let back_max = -(ticks(self.clock, JUMP_BACK_MAX) as i64);
        if packet.clock != self.clock || i64::from(advance) > ahead_max || i64::from(advance) < back_max {
            self.floor = packet.ext.0;
            self.anchor_timestamp(now, packet);
        }
    }

    fn anchor_timestamp(&mut self, now: Instant, packet: &Arrival) {
        let start = if self.is_started() {
            let frame = ticks(packet.clock, self.frame).max(1);
            self.last_timestamp
                .wrapping_add(self.elapsed(now, packet.clock).max(frame))
        } else {
            self.last_timestamp
        };
        self.clock = packet.clock;
        self.timestamp_offset = start.0.wrapping_sub(packet.timestamp.0);
        self.last_timestamp = start;
        self.last_at = Some(now);
        self.foreign_event = None;
        self.marker_due = true;
    }

    #[inline]
    fn timestamp_of(&mut self, now: Instant, packet: &Arrival) -> RtpTimestamp {
        if packet.event && packet.clock != self.clock {
            return self.foreign_event(now, packet);
        }
        packet.timestamp.wrapping_add(self.timestamp_offset)
    }

    /// RFC 4733 §2.1: the timestamp is where the event began, on the clock of the stream. Peers that send
    /// telephone-event/8000 beside opus/48000 count otherwise; the start is then where the line stood.
    fn foreign_event(&mut self, now: Instant, packet: &Arrival) -> RtpTimestamp {
        if let Some(known) = self.foreign_event
            && known.source == packet.timestamp
        {
            return known.line;
        }
        let line = self.timestamp_at(now);
        self.foreign_event = Some(ForeignEvent {
            source: packet.timestamp,
            line,
        });
        line
    }

    fn elapsed(&self, now: Instant, clock: ClockRate) -> u32 {
        self.last_at
            .map_or(0, |at| ticks(clock, now.saturating_duration_since(at)))
    }
}

/// Ticks modulo 2³², as timestamps count.
fn ticks(clock: ClockRate, duration: Duration) -> u32 {
    clock.ticks(duration) as u32
}
