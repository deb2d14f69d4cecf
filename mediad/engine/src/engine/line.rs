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
/// So many packets that were sent before the first one that came are taken behind it. One bit.
const EARLIER_MAX: u64 = 0x100;

/// One run of packets with one SSRC and one sequence: a new one begins when the peer changes its SSRC or restarts.
/// Unique in the engine; 0 is never given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u64);

impl StreamId {
    pub(crate) const NONE: Self = Self(0);
    /// What we encode ourselves.
    const OWN: Self = Self(u64::MAX);
    /// Telephone-events beside a stream, whose numbers say nothing.
    pub(crate) const ASIDE: Self = Self(u64::MAX - 1);
}

/// A packet of a source, as a line needs to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) stream: StreamId,
    pub(crate) ext: ExtendedSeq,
    pub(crate) timestamp: RtpTimestamp,
    pub(crate) clock: ClockRate,
    pub(crate) marker: bool,
    /// Behind the newest of its stream.
    pub(crate) late: bool,
    /// A telephone-event: its timestamp is the start of the event, in every packet of it.
    pub(crate) event: bool,
    /// How far behind that its segment begins, on the clock of the line; for an event that is told again on another clock.
    pub(crate) segment: u32,
    /// Comfort noise: a silence begins, or goes on.
    pub(crate) silence: bool,
}

/// What goes into the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) sequence: u16,
    pub(crate) timestamp: RtpTimestamp,
    pub(crate) marker: bool,
}

/// A packet of what we encode ourselves, as a line needs to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stride {
    pub(crate) clock: ClockRate,
    /// Its length.
    pub(crate) ticks: u32,
    /// Length of what was left out before it.
    pub(crate) missed: u32,
}

/// What we encode goes on where it was unless it paused for longer.
const STRIDE_PAUSE: Duration = Duration::from_millis(200);

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
    frame_ms: u8,
    foreign_event: Option<ForeignEvent>,
    /// Where sound that we sent in the place of a source ends, if that matters still.
    own_end: RtpTimestamp,
    covers: bool,
    marker_due: bool,
    /// Numbers up to the first are taken, although nothing was sent yet.
    resumed: bool,
}

impl Line {
    /// A line that begins with a random number and timestamp (RFC 3550 §5.1).
    pub(crate) fn new(random: u64, clock: ClockRate, frame_ms: u8) -> Self {
        Self {
            stream: StreamId::NONE,
            sequence_offset: 0,
            floor: 0,
            top: 0,
            // In cycle 1, so that late packets from before the first have a number too, and so far into it that nobody who
            // decrypts takes them for a rollover.
            last_sequence: 0x1_0000 | random & 0x7fff | EARLIER_MAX,
            last_at: None,
            timestamp_offset: 0,
            last_timestamp: RtpTimestamp((random >> 32) as u32),
            clock,
            frame_ms,
            foreign_event: None,
            own_end: RtpTimestamp(0),
            covers: false,
            marker_due: false,
            resumed: false,
        }
    }

    /// A line that did not begin yet goes on behind `sequence`, which was sent with its SSRC before it was there.
    pub(crate) fn resume(&mut self, sequence: u16) {
        if !self.is_started() {
            self.last_sequence = 0x1_0000 | u64::from(sequence);
            self.resumed = true;
        }
    }

    /// The stream it forwards, the newest number of that, and when it was sent.
    pub(crate) fn forwarded(&self) -> Option<(StreamId, ExtendedSeq, Instant)> {
        let forwards = self.stream != StreamId::NONE && self.stream != StreamId::OWN;
        let at = self.last_at.filter(|_| forwards)?;
        Some((self.stream, ExtendedSeq(self.top), at))
    }

    /// The frame length changed.
    pub(crate) fn set_frame(&mut self, frame_ms: u8) {
        self.frame_ms = frame_ms;
    }

    /// Its ticks on a clock.
    fn frame(&self, clock: ClockRate) -> u32 {
        ticks(clock, Duration::from_millis(self.frame_ms.into()))
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

    /// Where sound begins that takes the place of what would be sent next.
    pub(crate) fn timestamp_after(&self, now: Instant) -> RtpTimestamp {
        let passed = if self.is_started() {
            self.elapsed(now, self.clock).max(self.least_advance(self.clock))
        } else {
            0
        };
        self.last_timestamp.wrapping_add(passed)
    }

    /// How far behind the latest timestamp what comes next begins at least.
    fn least_advance(&self, clock: ClockRate) -> u32 {
        let own = self.own_end.diff(self.last_timestamp);
        match self.covers && own > 0 && clock == self.clock {
            true => own.unsigned_abs(),
            false => self.frame(clock).max(1),
        }
    }

    /// What we sent last is so long, which is not what its packets have.
    pub(crate) fn end_after(&mut self, length: u32) {
        self.own_end = self.last_timestamp.wrapping_add(length);
        self.covers = true;
    }

    /// Something of ours was sent in the place of this packet.
    #[inline]
    pub(crate) fn is_covered(&self, packet: &Arrival) -> bool {
        self.covers && self.ends_behind(packet)
    }

    #[cold]
    fn ends_behind(&self, packet: &Arrival) -> bool {
        let ahead = self
            .own_end
            .diff(packet.timestamp.wrapping_add(self.timestamp_offset));
        let near = ticks(self.clock, JUMP_BACK_MAX).cast_signed();
        packet.stream == self.stream && !packet.event && (1..near).contains(&ahead)
    }

    /// Number and timestamp for a packet that is sent now; `None` if it is late from before a switch.
    #[inline]
    pub(crate) fn place(&mut self, now: Instant, packet: &Arrival) -> Option<Stamp> {
        let ext = packet.ext.0;
        if packet.stream != self.stream {
            if packet.stream == StreamId::ASIDE {
                return Some(self.place_aside(now, packet));
            }
            if packet.late {
                // From before the switch: a source that comes back begins with its newest.
                return None;
            }
            self.join(now, packet);
        } else if ext < self.floor {
            return None;
        } else if ext > self.top {
            self.top = ext;
            if !packet.event {
                self.follow(now, packet);
            }
        }
        self.covers = false;
        let sequence = ext.wrapping_add(self.sequence_offset);
        if sequence > self.last_sequence {
            self.last_sequence = sequence;
        }
        let timestamp = self.timestamp_of(now, packet);
        if self.last_at.is_none() || timestamp.diff(self.last_timestamp) > 0 {
            self.last_timestamp = timestamp;
            self.last_at = Some(now);
        }
        // RFC 3551 §4.1: the marker bit says that a talk spurt begins, so comfort noise has none.
        let marker = match packet.silence {
            true => false,
            false => packet.marker || self.marker_due && !packet.event,
        };
        if !packet.event {
            self.marker_due = packet.silence;
        }
        Some(Stamp {
            sequence: sequence as u16,
            timestamp,
            marker,
        })
    }

    /// A telephone-event beside the stream takes the next number, as one of our own would, and the timestamp of where it began.
    #[cold]
    fn place_aside(&mut self, now: Instant, packet: &Arrival) -> Stamp {
        let timestamp = self.foreign_event(now, packet).wrapping_add(packet.segment);
        Stamp {
            sequence: self.own(now, timestamp),
            timestamp,
            marker: packet.marker,
        }
    }

    /// A packet of the source that the listener is not to get: the line closes the gap, so that it does not look
    /// like a loss. What is late from before it can then no longer be told apart and is dropped.
    #[inline]
    pub(crate) fn withhold(&mut self, packet: &Arrival) {
        if self.pass_over(packet.stream, packet.ext) {
            self.marker_due |= packet.silence;
        }
    }

    /// As [`withhold`](Self::withhold), for a packet of which only the number counts. True if there was a gap to close.
    pub(crate) fn pass_over(&mut self, stream: StreamId, ext: ExtendedSeq) -> bool {
        let closes = stream == self.stream && ext.0 > self.top;
        if closes {
            self.sequence_offset = self.sequence_offset.wrapping_sub(1);
            self.top = ext.0;
            self.floor = ext.0 + 1;
        }
        closes
    }

    /// The number for a packet of our own, such as a digit. The source's numbers move up by one.
    pub(crate) fn own(&mut self, now: Instant, timestamp: RtpTimestamp) -> u16 {
        self.last_sequence += 1;
        if self.stream != StreamId::NONE {
            // The source continues behind our packet whatever it lost meanwhile.
            self.sequence_offset = self.last_sequence.wrapping_sub(self.top);
            self.floor = self.top + 1;
        }
        // Where we encode, its time passes with that of what is left out for it.
        let passes = self.stream == StreamId::OWN;
        if self.last_at.is_none() || !passes && timestamp.diff(self.last_timestamp) > 0 {
            self.last_timestamp = timestamp;
            self.last_at = Some(now);
        }
        self.last_sequence as u16
    }

    /// As [`own`](Self::own), for sound of this length.
    pub(crate) fn own_sound(&mut self, now: Instant, timestamp: RtpTimestamp, length: u32) -> u16 {
        self.own_end = timestamp.wrapping_add(length);
        self.covers = true;
        self.own(now, timestamp)
    }

    /// Number and timestamp for the next packet of what we encode. They advance by the length of the sound, not by when
    /// it is sent.
    #[inline]
    pub(crate) fn stride(&mut self, now: Instant, stride: Stride) -> Stamp {
        let marker = self.advance(now, stride);
        if std::mem::take(&mut self.covers) && self.own_end.diff(self.last_timestamp) > 0 {
            self.last_timestamp = self.own_end;
        }
        self.last_sequence += 1;
        Stamp {
            sequence: self.last_sequence as u16,
            timestamp: self.last_timestamp,
            marker: marker | std::mem::take(&mut self.marker_due),
        }
    }

    /// As [`stride`](Self::stride), for a packet that describes a silence: what comes after it begins a talk spurt.
    pub(crate) fn stride_silent(&mut self, now: Instant, stride: Stride) -> Stamp {
        let stamp = self.stride(now, stride);
        self.marker_due = true;
        Stamp {
            marker: false,
            ..stamp
        }
    }

    /// A packet of what we encode is not sent: its time passes all the same.
    pub(crate) fn lapse(&mut self, now: Instant, stride: Stride) {
        if self.is_started() {
            self.advance(now, stride);
        }
    }

    /// Moves on by a packet of ours; true if a new run begins with it.
    fn advance(&mut self, now: Instant, stride: Stride) -> bool {
        let Stride {
            clock,
            ticks: length,
            missed,
        } = stride;
        let pause = u64::from(length) + u64::from(missed) + u64::from(ticks(clock, STRIDE_PAUSE));
        let elapsed = self.elapsed(now, clock);
        let follows = self.stream == StreamId::OWN && clock == self.clock && u64::from(elapsed) < pause;
        if follows {
            self.last_timestamp = self.last_timestamp.wrapping_add(length + missed);
        } else if self.is_started() {
            self.last_timestamp = self.last_timestamp.wrapping_add(elapsed.max(length));
        }
        self.stream = StreamId::OWN;
        self.clock = clock;
        self.last_at = Some(now);
        !follows
    }

    /// Fix the offsets for a new source.
    #[cold]
    fn join(&mut self, now: Instant, packet: &Arrival) {
        let ext = packet.ext.0;
        self.sequence_offset = (self.last_sequence + 1).wrapping_sub(ext);
        self.stream = packet.stream;
        self.foreign_event = None;
        self.top = ext;
        // Before anything was sent, what overtook the first packet cannot collide with anything.
        self.floor = if self.is_started() || self.resumed {
            ext
        } else {
            ext.saturating_sub(EARLIER_MAX)
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
        // An event says nothing of the clock of the audio beside it.
        let clock = if packet.event { self.clock } else { packet.clock };
        let start = if self.is_started() {
            let passed = self.elapsed(now, clock).max(self.least_advance(clock));
            self.last_timestamp.wrapping_add(passed)
        } else {
            self.last_timestamp
        };
        self.clock = clock;
        self.timestamp_offset = start.0.wrapping_sub(packet.timestamp.0);
        self.last_timestamp = start;
        self.last_at = Some(now);
        self.marker_due = true;
    }

    #[inline]
    fn timestamp_of(&mut self, now: Instant, packet: &Arrival) -> RtpTimestamp {
        let own = packet.timestamp.wrapping_add(self.timestamp_offset);
        match packet.event {
            false => own,
            true if packet.clock == self.clock => own.wrapping_add(packet.segment),
            true => self.foreign_event(now, packet).wrapping_add(packet.segment),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    fn arrival(stream: u64, ext: u64, timestamp: u32) -> Arrival {
        Arrival {
            stream: StreamId(stream),
            ext: ExtendedSeq(ext),
            timestamp: RtpTimestamp(timestamp),
            clock: ClockRate::HZ_8000,
            marker: false,
            late: false,
            event: false,
            segment: 0,
            silence: false,
        }
    }

    fn line() -> Line {
        Line::new(0x1234_0000_0064, ClockRate::HZ_8000, 20)
    }

    #[test]
    fn what_the_first_packet_overtook_is_no_rollover() {
        for random in [0, 5, 0xff, 0x7fff, u64::MAX] {
            let (start, mut line) = (base(), Line::new(random, ClockRate::HZ_8000, 20));
            let first = line.place(start, &arrival(1, 70_000, 80_000)).expect("the first");
            for back in 1..=EARLIER_MAX {
                let late = Arrival {
                    late: true,
                    ..arrival(1, 70_000 - back, 80_000 - 160 * back as u32)
                };
                let stamp = line.place(start, &late).expect("nothing was sent before");
                assert_eq!(u64::from(stamp.sequence) + back, u64::from(first.sequence));
            }
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Op {
        /// Packets of a stream: the next, or one of the latest again if it was not used yet.
        Place { stream: u64, back: u64 },
        /// The same, but the listener is not to get it.
        Withhold { stream: u64, back: u64 },
        /// A packet of our own.
        Own,
        /// The source of this stream loses packets.
        Lose { stream: u64, count: u64 },
        /// The plan changed.
        Detach,
    }

    fn op() -> impl Strategy<Value = Op> {
        let stream = 1..4u64;
        let back = prop_oneof![3 => Just(0u64), 1 => 1..5u64];
        prop_oneof![
            6 => (stream.clone(), back.clone()).prop_map(|(stream, back)| Op::Place { stream, back }),
            2 => (stream.clone(), back).prop_map(|(stream, back)| Op::Withhold { stream, back }),
            1 => Just(Op::Own),
            1 => (stream, 1..9u64).prop_map(|(stream, count)| Op::Lose { stream, count }),
            1 => Just(Op::Detach),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_numbers_are_unique_and_keep_the_order_of_their_source(
            ops in proptest::collection::vec(op(), 1..200),
        ) {
            let start = base();
            let mut line = line();
            let mut next: BTreeMap<u64, u64> = (1..4).map(|stream| (stream, 70_000 * stream)).collect();
            let mut used = BTreeSet::new();
            let mut newest = 0x1_0000 | 0x64u64;
            let mut sent: BTreeMap<u64, Option<(u64, u64)>> = BTreeMap::new();
            for (n, op) in ops.into_iter().enumerate() {
                let now = start + Duration::from_millis(20 * n as u64);
                let mut take = |stream: u64, back: u64| {
                    let head = next.get_mut(&stream).expect("a stream");
                    let ext = *head - back;
                    *head = (*head).max(ext + 1);
                    let packet = Arrival { late: back > 0, ..arrival(stream, ext, (ext * 160) as u32) };
                    used.insert((stream, ext)).then_some(packet)
                };
                let (number, of) = match op {
                    Op::Place { stream, back } => {
                        let Some(packet) = take(stream, back) else { continue };
                        let Some(stamp) = line.place(now, &packet) else { continue };
                        (stamp.sequence, Some((stream, packet.ext.0)))
                    }
                    Op::Withhold { stream, back } => {
                        if let Some(packet) = take(stream, back) {
                            line.withhold(&packet);
                        }
                        continue;
                    }
                    Op::Own => (line.own(now, line.timestamp_at(now)), None),
                    Op::Lose { stream, count } => {
                        *next.get_mut(&stream).expect("a stream") += count;
                        continue;
                    }
                    Op::Detach => {
                        line.detach();
                        continue;
                    }
                };
                let ext = ExtendedSeq(newest).nearest(number).0;
                newest = newest.max(ext);
                prop_assert!(sent.insert(ext, of).is_none(), "{ext} was sent twice");
            }
            // Read in order, each source's packets are in order.
            let mut last: BTreeMap<u64, u64> = BTreeMap::new();
            for (stream, ext) in sent.values().flatten() {
                let before = last.insert(*stream, *ext);
                prop_assert!(before.is_none_or(|before| before < *ext), "stream {stream} goes back to {ext}");
            }
        }
    }

    #[test]
    fn a_withheld_packet_leaves_no_gap_and_what_it_overtook_is_late() {
        let now = base();
        let mut line = line();
        let first = line.place(now, &arrival(1, 100, 0)).expect("the first");
        line.withhold(&arrival(1, 102, 320));
        assert_eq!(line.place(now, &arrival(1, 101, 160)), None);
        let next = line.place(now, &arrival(1, 103, 480)).expect("the next");
        // 101 is missing to the listener, 102 is not.
        assert_eq!(next.sequence.wrapping_sub(first.sequence), 2);
        assert_eq!(next.timestamp.diff(first.timestamp), 480);
    }

    #[test]
    fn a_source_that_returns_does_not_begin_with_a_late_packet() {
        let now = base();
        let mut line = line();
        let first = line.place(now, &arrival(1, 100, 0)).expect("the first");
        line.place(now, &arrival(2, 7, 0)).expect("a switch");
        let late = Arrival {
            late: true,
            ..arrival(1, 98, 0)
        };
        assert_eq!(line.place(now, &late), None);
        let third = line.place(now, &arrival(1, 101, 160)).expect("a switch back");
        assert_eq!(third.sequence.wrapping_sub(first.sequence), 2);
    }

    #[test]
    fn events_on_a_clock_of_their_own_keep_one_timestamp_each() {
        let start = base();
        let at = |ms| start + Duration::from_millis(ms);
        let mut line = Line::new(1, ClockRate::HZ_48000, 20);
        let audio = |ext: u64, ms: u32| Arrival {
            clock: ClockRate::HZ_48000,
            ..arrival(1, ext, ms * 48)
        };
        let event = |ext: u64, ms: u32| Arrival {
            event: true,
            ..arrival(1, ext, ms * 8)
        };
        let zero = line.place(at(0), &audio(1, 0)).expect("placed").timestamp;
        let mut starts = Vec::new();
        for (ext, begun, now) in [
            (2, 20, 20),
            (3, 20, 40),
            (4, 20, 60),
            (6, 100, 100),
            (7, 100, 120),
        ] {
            starts.push(
                line.place(at(now), &event(ext, begun))
                    .expect("placed")
                    .timestamp
                    .diff(zero),
            );
            if ext == 4 {
                let audio = line.place(at(80), &audio(5, 80)).expect("placed");
                assert_eq!(audio.timestamp.diff(zero), 80 * 48);
            }
        }
        assert_eq!(starts, [960, 960, 960, 4800, 4800]);
    }
}
