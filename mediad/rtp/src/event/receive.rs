//! Telephone-events that are received: each told once, whatever the network did to its packets.

use std::time::{Duration, Instant};

use super::{EventError, SEGMENT_TICKS_MAX, TelephoneEvent, scale};
use crate::{
    header::RtpHeader,
    receive::MAX_MISORDER,
    units::{ClockRate, RtpTimestamp},
};

/// Silence after which an event counts as ended although no end packet came: four lost updates of a sender
/// with 50 ms between updates, the longest interval in common use.
pub const DEFAULT_EVENT_TIMEOUT: Duration = Duration::from_millis(200);

/// Time between two updates of most senders, and the longest of any: a tenth of a second, and some.
const UPDATE_USUAL: Duration = Duration::from_millis(50);
const UPDATE_MAX: Duration = Duration::from_millis(110);
/// What follows sooner was held up together with what was before it.
const UPDATE_MIN: Duration = Duration::from_millis(5);
/// So long after an event nothing of it comes any more: the numbers of packets come round, after five minutes of packets of 5 ms, and
/// what follows is not to be taken for late.
const OVER_FOR: Duration = Duration::from_secs(30);
/// Updates one behind the other that each tell far more than the time that passed: no network that catches up has as many of
/// them that are not held up together.
const UPDATES_AHEAD: u8 = 3;

/// How the end of an event became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCause {
    /// An end packet arrived.
    EndPacket,
    /// The next event began; all end packets of this one were lost.
    Superseded,
    /// No packet for the time-out; all end packets were lost.
    TimedOut,
}

/// What happened on a stream of telephone-events. For every event one `Started`, then one `Ended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Observation {
    /// An event began.
    Started {
        /// Event code.
        event: u8,
        /// -dBm0.
        volume: u8,
        /// When it began, on the sender's media clock.
        timestamp: RtpTimestamp,
    },
    /// It is over.
    Ended {
        /// Event code.
        event: u8,
        /// The `timestamp` of its `Started`.
        timestamp: RtpTimestamp,
        /// How long it lasted in ticks of the clock of events, over all segments, as far as packets told.
        duration: u32,
        /// How its end became known.
        cause: EndCause,
    },
}

/// The event heard last.
#[derive(Debug, Clone, Copy)]
struct Current {
    event: u8,
    ended: bool,
    began: RtpTimestamp,
    segment: RtpTimestamp,
    segment_ticks: u16,
    /// Ticks in the segments before this one.
    earlier_ticks: u32,
    deadline: Instant,
}

impl Current {
    fn ticks(&self) -> u32 {
        self.earlier_ticks.saturating_add(u32::from(self.segment_ticks))
    }

    fn end_if(&mut self, end: bool, unit: u32, observe: &mut impl FnMut(Observation)) {
        if end {
            self.ended = true;
            observe(self.ended(EndCause::EndPacket, unit));
        }
    }

    fn ended(&self, cause: EndCause, unit: u32) -> Observation {
        Observation::Ended {
            event: self.event,
            timestamp: self.began,
            duration: self.ticks() / unit,
            cause,
        }
    }
}

/// What a header says of where its packet belongs, beside the timestamp.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Behind the newest.
    late: bool,
    marker: bool,
}

/// How a block relates to the event heard last.
enum Relation {
    Update,
    /// The next segment, behind one of so many ticks.
    NextSegment(u32),
    Stale,
    New,
}

/// Turns packets into exactly one start and one end per event, in order.
///
/// Tolerates lost starts, lost ends, duplicates, repeated ends, reordering, events of several segments and senders whose
/// timestamp stands still from one key to the next.
/// Packets must come from one source; call [`finish`](Self::finish) and start over when the SSRC changes.
///
/// # Source
/// RFC 4733 §2.5.1.3 (segments), §2.5.1.5 (several events in a packet), §2.5.2 (reception).
#[derive(Debug, Clone)]
pub struct EventReceiver {
    /// In ms. Small, for every endpoint has one.
    timeout_ms: u16,
    events: ClockRate,
    /// Ticks of the clock of the audio in one of `events`.
    scale: u16,
    /// Durations turned out to count on the clock of the audio.
    counts_audio: bool,
    /// So many updates, the latest ones, told of more time than had passed.
    ahead: u8,
    current: Option<Current>,
    /// Number of the newest packet.
    newest: Option<u16>,
}

impl Default for EventReceiver {
    fn default() -> Self {
        Self::new(DEFAULT_EVENT_TIMEOUT)
    }
}

impl EventReceiver {
    /// Timestamps at most this far before the current event belong to late packets (4 s at 8 kHz, 0.7 s at
    /// 48 kHz); further behind, the sender has jumped and the event is new.
    const STALE_TICKS_MAX: i32 = 32_000;

    /// An event ends by itself after `timeout` without a packet; whole milliseconds, 65 s at most.
    pub const fn new(timeout: Duration) -> Self {
        let ms = timeout.as_millis();
        Self {
            timeout_ms: if ms < u16::MAX as u128 {
                ms as u16
            } else {
                u16::MAX
            },
            events: ClockRate::HZ_8000,
            scale: 1,
            counts_audio: false,
            ahead: 0,
            current: None,
            newest: None,
        }
    }

    /// Packets are on the clock `events` from now on, beside audio on another one or the same; 8 kHz both before.
    ///
    /// What is named telephone-event/8000 beside opus/48000 counts its timestamps with the audio, or by itself, and its durations
    /// at 8 kHz, or (baresip) with the audio too: which of them is found out from how much is told at once.
    pub fn set_clocks(&mut self, events: ClockRate, audio: ClockRate) {
        let scale = u16::try_from(scale(events, audio)).unwrap_or(1);
        if (self.events, self.scale) != (events, scale) {
            (self.events, self.scale) = (events, scale);
            self.counts_audio = false;
        }
    }

    /// Take a telephone-event packet with this header; `observe` is called for each observation, in order.
    ///
    /// # Errors
    /// See [`EventError`]; nothing was observed.
    pub fn on_packet(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        payload: &[u8],
        mut observe: impl FnMut(Observation),
    ) -> Result<(), EventError> {
        let blocks = TelephoneEvent::blocks(payload)?;
        self.on_timeout(now, &mut observe);
        self.forget_past(now);
        let place = Place {
            late: self.is_late(header.sequence),
            marker: header.marker,
        };
        let mut start = header.timestamp;
        for block in blocks {
            self.on_block(now, start, place, block, &mut observe);
            // RFC 4733 §2.5.1.5: each further event begins where the one before it ended.
            start = start.wrapping_add(u32::from(block.duration));
        }
        Ok(())
    }

    /// Where a packet with `timestamp`, whose only block has this `duration`, stands in the latest event: the timestamp with
    /// which that began, and its length so far over all segments, in ticks of the clock of events. To be asked when the packet was
    /// taken; `None` for one of an earlier event or segment.
    pub fn place_of(&self, timestamp: RtpTimestamp, duration: u16) -> Option<(RtpTimestamp, u32)> {
        let current = self.current.filter(|current| current.segment == timestamp)?;
        let ticks = current.earlier_ticks.saturating_add(duration.into());
        Some((current.began, ticks / self.unit()))
    }

    /// What durations count, in ticks of the clock of events.
    const fn unit(&self) -> u32 {
        if self.counts_audio { self.scale as u32 } else { 1 }
    }

    /// When to call [`on_timeout`](Self::on_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.current
            .as_ref()
            .filter(|current| !current.ended)
            .map(|current| current.deadline)
    }

    /// End the event whose packets ceased, if its time has come.
    pub fn on_timeout(&mut self, now: Instant, mut observe: impl FnMut(Observation)) {
        let unit = self.unit();
        if let Some(current) = &mut self.current
            && !current.ended
            && now >= current.deadline
        {
            current.ended = true;
            observe(current.ended(EndCause::TimedOut, unit));
        }
    }

    /// What has been over for long says nothing of what comes.
    fn forget_past(&mut self, now: Instant) {
        let over_for = |current: &Current| now.saturating_duration_since(current.deadline);
        if self
            .current
            .as_ref()
            .is_some_and(|current| over_for(current) >= OVER_FOR)
        {
            self.current = None;
            self.newest = None;
        }
    }

    /// End a running event because its source went away, and forget it.
    pub fn finish(&mut self, mut observe: impl FnMut(Observation)) {
        let unit = self.unit();
        self.newest = None;
        self.counts_audio = false;
        if let Some(current) = self.current.take()
            && !current.ended
        {
            observe(current.ended(EndCause::Superseded, unit));
        }
    }

    /// Looks at how much the first packet of an event tells, or another one, `passed` after the one before it and beyond that.
    /// More than anybody waits between updates, and far more than the time that passed, is told on the clock of the audio; and so is
    /// more than most wait, if that goes on.
    fn judge_unit(&mut self, passed: Option<Duration>, told: u16) {
        let told = self.events.duration(told.into());
        if self.scale < 3 || told.is_zero() {
            return;
        }
        match passed {
            None if told <= UPDATE_USUAL => self.counts_audio = false,
            None => self.counts_audio |= told > UPDATE_MAX,
            Some(passed) => {
                let is_ahead = told > 3 * passed;
                let counts = is_ahead && told > UPDATE_USUAL && passed >= UPDATE_MIN;
                self.ahead = if counts { self.ahead.saturating_add(1) } else { 0 };
                self.counts_audio |= is_ahead && told > UPDATE_MAX || self.ahead >= UPDATES_AHEAD;
            }
        }
    }

    /// It was overtaken, or comes again.
    fn is_late(&mut self, sequence: u16) -> bool {
        let behind = |newest: u16| newest.wrapping_sub(sequence) <= MAX_MISORDER;
        let late = self.newest.is_some_and(behind);
        if !late {
            self.newest = Some(sequence);
        }
        late
    }

    fn on_block(
        &mut self,
        now: Instant,
        start: RtpTimestamp,
        place: Place,
        block: TelephoneEvent,
        observe: &mut impl FnMut(Observation),
    ) {
        let deadline = now + Duration::from_millis(self.timeout_ms.into());
        let relation = self
            .current
            .map(|current| Self::relation(&current, start, place, block, self.scale.into()));
        if !place.late && !block.end {
            match (&self.current, &relation) {
                (Some(current), Some(Relation::Update)) => {
                    let passed = deadline.saturating_duration_since(current.deadline);
                    self.judge_unit(Some(passed), block.duration.saturating_sub(current.segment_ticks));
                }
                _ if place.marker => self.judge_unit(None, block.duration),
                _ => {}
            }
        }
        let unit = self.unit();
        if let (Some(current), Some(relation)) = (&mut self.current, relation) {
            match relation {
                Relation::Stale => return,
                Relation::Update => {
                    // An update that was overtaken must not shorten the event.
                    current.segment_ticks = current.segment_ticks.max(block.duration);
                    current.deadline = deadline;
                    return current.end_if(block.end, unit, observe);
                }
                Relation::NextSegment(ticks) => {
                    current.earlier_ticks = current.earlier_ticks.saturating_add(ticks);
                    current.segment = start;
                    current.segment_ticks = block.duration;
                    current.deadline = deadline;
                    return current.end_if(block.end, unit, observe);
                }
                Relation::New if !current.ended => observe(current.ended(EndCause::Superseded, unit)),
                Relation::New => {}
            }
        }
        let current = self.current.insert(Current {
            event: block.event,
            ended: false,
            began: start,
            segment: start,
            segment_ticks: block.duration,
            earlier_ticks: 0,
            deadline,
        });
        observe(Observation::Started {
            event: block.event,
            volume: block.volume,
            timestamp: start,
        });
        current.end_if(block.end, unit, observe);
    }

    fn relation(
        current: &Current,
        start: RtpTimestamp,
        place: Place,
        block: TelephoneEvent,
        scale: u32,
    ) -> Relation {
        let ahead = start.diff(current.segment);
        // Whose timestamp stands still, or goes back a little, from one key to the next shows the next one by its marker.
        let is_begun = place.marker && !place.late && current.ended && !block.end;
        let is_same = ahead == 0 && block.event == current.event;
        if is_same && !current.ended {
            return Relation::Update;
        }
        // Of this event, of an earlier segment of it, or of an event before it.
        let is_before = ahead < 0 && start.diff(current.began) >= -Self::STALE_TICKS_MAX;
        if (is_same || is_before) && !is_begun || place.late {
            return Relation::Stale;
        }
        // RFC 4733 §2.5.1.3: the next segment starts where the last one ended, without the marker. The
        // packet that carried the full duration may be lost. Contiguous shorter segments come from senders
        // that advance the timestamp with every update; that is one key press as well.
        let is_behind = |ticks: &u16| {
            let ticks = i64::from(*ticks);
            [ticks, ticks * i64::from(scale)].contains(&i64::from(ahead))
        };
        let segment = [SEGMENT_TICKS_MAX, current.segment_ticks]
            .into_iter()
            .find(is_behind);
        match segment {
            Some(ticks) if ahead > 0 && !place.marker && !current.ended && block.event == current.event => {
                Relation::NextSegment(ticks.into())
            }
            Some(_) | None => Relation::New,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{PayloadType, Ssrc};
    use Observation::{Ended, Started};

    const UPDATE: TelephoneEvent = TelephoneEvent {
        event: 5,
        end: false,
        reserved: false,
        volume: 10,
        duration: 160,
    };
    const T0: RtpTimestamp = RtpTimestamp(4_294_967_000);

    #[expect(
        clippy::disallowed_methods,
        reason = "an origin to count from; nothing depends on its value"
    )]
    fn epoch() -> Instant {
        Instant::now()
    }

    fn update(duration: u16) -> TelephoneEvent {
        TelephoneEvent { duration, ..UPDATE }
    }

    fn end(duration: u16) -> TelephoneEvent {
        TelephoneEvent {
            end: true,
            ..update(duration)
        }
    }

    fn started(event: u8, timestamp: RtpTimestamp) -> Observation {
        Started {
            event,
            volume: 10,
            timestamp,
        }
    }

    fn ended(event: u8, timestamp: RtpTimestamp, duration: u32, cause: EndCause) -> Observation {
        Ended {
            event,
            timestamp,
            duration,
            cause,
        }
    }

    fn header(sequence: u16, timestamp: RtpTimestamp, marker: bool) -> RtpHeader {
        RtpHeader {
            marker,
            payload_type: PayloadType::from_low_bits(101),
            sequence,
            timestamp,
            ssrc: Ssrc(1),
        }
    }

    /// Feeds packets 20 ms apart, as they were sent, and returns what was observed.
    fn observe(packets: &[(RtpTimestamp, bool, TelephoneEvent)]) -> Vec<Observation> {
        let order: Vec<usize> = (0..packets.len()).collect();
        observe_in(&order, packets)
    }

    /// As [`observe`], in another order.
    fn observe_in(order: &[usize], packets: &[(RtpTimestamp, bool, TelephoneEvent)]) -> Vec<Observation> {
        let mut receiver = EventReceiver::default();
        let mut seen = Vec::new();
        let mut now = epoch();
        for at in order {
            let (timestamp, marker, payload) = packets[*at];
            now += Duration::from_millis(20);
            // Around the end of the numbers.
            let header = header(65_533_u16.wrapping_add(*at as u16), timestamp, marker);
            receiver
                .on_packet(now, &header, &payload.to_bytes(), |one| seen.push(one))
                .unwrap();
        }
        seen
    }

    fn one_digit(duration: u32) -> [Observation; 2] {
        [started(5, T0), ended(5, T0, duration, EndCause::EndPacket)]
    }

    #[test]
    fn payloads_of_a_wrong_size_are_refused() {
        let mut receiver = EventReceiver::default();
        for (length, error) in [
            (0, EventError::TooShort),
            (3, EventError::TooShort),
            (5, EventError::Unaligned),
            (36, EventError::TooManyBlocks),
            (1400, EventError::TooManyBlocks),
        ] {
            let outcome = receiver.on_packet(epoch(), &header(1, T0, true), &[0; 1400][..length], |one| {
                panic!("{one:?}")
            });
            assert_eq!(outcome, Err(error), "length {length}");
        }
        assert_eq!(receiver.poll_timeout(), None);
    }

    #[test]
    fn an_event_with_three_ends_is_seen_once() {
        let packets = [
            (T0, true, update(160)),
            (T0, false, update(320)),
            (T0, false, end(480)),
            (T0, false, end(480)),
            (T0, false, end(480)),
        ];
        assert_eq!(observe(&packets), one_digit(480));
    }

    #[test]
    fn a_single_end_packet_is_a_whole_event() {
        assert_eq!(observe(&[(T0, false, end(800))]), one_digit(800));
        assert_eq!(
            observe(&[(T0, true, end(800)), (T0, false, end(800))]),
            one_digit(800)
        );
    }

    #[test]
    fn updates_after_the_end_and_duplicated_starts_do_not_start_again() {
        let packets = [
            (T0, true, update(160)),
            (T0, true, update(160)),
            (T0, false, update(320)),
            (T0, false, end(480)),
            (T0, false, end(480)),
        ];
        assert_eq!(observe_in(&[0, 1, 3, 2, 0, 4], &packets), one_digit(480));
        // And one that was sent late, without the marker.
        let packets = [
            (T0, true, update(160)),
            (T0, false, end(480)),
            (T0, false, update(320)),
        ];
        assert_eq!(observe(&packets), one_digit(480));
    }

    #[test]
    fn an_overtaken_update_does_not_shorten_the_event() {
        let packets = [
            (T0, true, update(480)),
            (T0, false, update(160)),
            (T0, false, end(160)),
        ];
        assert_eq!(observe(&packets), one_digit(480));
    }

    #[test]
    fn the_same_digit_twice_is_two_events() {
        let t1 = T0.wrapping_add(1600);
        let packets = [
            (T0, true, end(800)),
            (T0, false, end(800)),
            (t1, true, update(160)),
            (t1, false, end(800)),
        ];
        let second = [started(5, t1), ended(5, t1, 800, EndCause::EndPacket)];
        assert_eq!(observe(&packets), [one_digit(800), second].concat());
    }

    #[test]
    fn a_new_event_ends_one_whose_ends_were_lost() {
        let t1 = T0.wrapping_add(1600);
        let packets = [
            (T0, true, update(160)),
            (T0, false, update(320)),
            (t1, true, end(800)),
            (T0, false, end(480)),
        ];
        let expected = [
            started(5, T0),
            ended(5, T0, 320, EndCause::Superseded),
            started(5, t1),
            ended(5, t1, 800, EndCause::EndPacket),
        ];
        assert_eq!(
            observe(&packets),
            expected,
            "the late end of the first event says nothing"
        );
    }

    #[test]
    fn another_digit_at_the_same_timestamp_is_another_event() {
        let other = TelephoneEvent {
            event: 6,
            ..update(160)
        };
        let expected = [
            started(5, T0),
            ended(5, T0, 160, EndCause::Superseded),
            started(6, T0),
        ];
        assert_eq!(observe(&[(T0, true, update(160)), (T0, true, other)]), expected);
    }

    #[test]
    fn keys_are_told_apart_although_the_timestamp_stands_still_or_goes_back() {
        for t1 in [T0, T0.wrapping_sub(800)] {
            for event in [5, 6] {
                let key = |update: TelephoneEvent| TelephoneEvent { event, ..update };
                let packets = [
                    (T0, true, update(160)),
                    (T0, false, end(480)),
                    (T0, false, end(480)),
                    (t1, true, key(update(160))),
                    (t1, false, key(update(320))),
                    (t1, false, key(end(480))),
                ];
                let second = [started(event, t1), ended(event, t1, 480, EndCause::EndPacket)];
                let both = [&one_digit(480)[..], &second].concat();
                assert_eq!(observe(&packets), both);
                // What belongs to the first key and comes behind the second says nothing.
                assert_eq!(
                    observe_in(&[0, 1, 3, 2, 0, 4, 5, 1, 3], &packets),
                    both,
                    "{event} at {t1:?}"
                );
            }
        }
    }

    #[test]
    fn a_long_event_in_segments_is_one_event() {
        let t1 = T0.wrapping_add(0xffff);
        let t2 = t1.wrapping_add(0xffff);
        let packets = [
            (T0, true, update(160)),
            (T0, false, update(0xffff)),
            (t1, false, update(160)),
            // The full update of the second segment is lost.
            (t2, false, update(320)),
            (t1, false, update(160)),
            (t2, false, end(480)),
            (t2, false, end(480)),
        ];
        assert_eq!(observe(&packets), one_digit(2 * 0xffff + 480));
    }

    #[test]
    fn beside_a_faster_clock_segments_follow_by_either_count() {
        // telephone-event/8000 beside opus/48000: timestamps that count with the audio, or with the events.
        for scale in [1, 6] {
            let mut receiver = EventReceiver::default();
            receiver.set_clocks(ClockRate::HZ_8000, ClockRate::HZ_48000);
            let (mut seen, mut now) = (Vec::new(), epoch());
            let at = |segment: u32| T0.wrapping_add(segment * 0xffff * scale);
            let packets = [
                (at(0), update(160), Some((T0, 160))),
                (at(0), update(320), Some((T0, 320))),
                // The full update is lost.
                (at(1), update(160), Some((T0, 0xffff + 160))),
                (at(0), update(400), None),
                (at(1), end(480), Some((T0, 0xffff + 480))),
                (at(1), end(480), Some((T0, 0xffff + 480))),
            ];
            for (number, (timestamp, payload, place)) in (1..).zip(packets) {
                now += Duration::from_millis(20);
                let header = header(number, timestamp, number == 1);
                receiver
                    .on_packet(now, &header, &payload.to_bytes(), |one| seen.push(one))
                    .unwrap();
                assert_eq!(receiver.place_of(timestamp, payload.duration), place);
            }
            assert_eq!(seen, one_digit(0xffff + 480), "{scale}");
        }
    }

    /// Updates with an interval, whose durations count so many ticks in a millisecond: the length of the key that is told.
    fn length_beside_opus(interval: u32, per_ms: u32, lost: &[u32], delays: &[u64]) -> Vec<u32> {
        let mut receiver = EventReceiver::default();
        receiver.set_clocks(ClockRate::HZ_8000, ClockRate::HZ_48000);
        let (mut lengths, start) = (Vec::new(), epoch());
        for key in 0..2 {
            for number in (1..=6).filter(|number| !lost.contains(number)) {
                let duration = (interval * number * per_ms) as u16;
                let payload = if number < 6 {
                    update(duration)
                } else {
                    end(duration)
                };
                let timestamp = T0.wrapping_add(key * 48_000);
                let header = header((10 * key + number) as u16, timestamp, number == 1);
                let sent = u64::from(key * 1_000 + interval * number);
                let delay = delays.get(number as usize - 1).copied().unwrap_or(0);
                let now = start + Duration::from_millis(sent + delay);
                let observe = |one| {
                    if let Ended { duration, .. } = one {
                        lengths.push(duration);
                    }
                };
                receiver
                    .on_packet(now, &header, &payload.to_bytes(), observe)
                    .unwrap();
            }
        }
        lengths
    }

    #[test]
    fn beside_a_faster_clock_durations_are_understood_by_either_count() {
        for interval in [20, 30, 40, 50, 60] {
            let length = 6 * interval * 8;
            for per_ms in [8, 48] {
                let told = |lost: &[u32], delays: &[u64]| length_beside_opus(interval, per_ms, lost, delays);
                assert_eq!(told(&[], &[]), [length; 2], "{interval} ms, {per_ms} ticks");
                assert_eq!(told(&[], &[15, 0, 10, 0, 12, 0]), [length; 2], "uneven");
                assert_eq!(told(&[1], &[]), [length; 2], "the first is lost");
                assert_eq!(told(&[2, 3], &[]), [length; 2], "two are lost");
                // All that was sent during a stall comes at once.
                let stall: Vec<u64> = (1..=6).map(|number| u64::from(interval * (6 - number))).collect();
                assert_eq!(told(&[], &stall), [length; 2], "at once");
                // Or one behind the other.
                let catches_up: Vec<u64> = (1..=6).map(|number| 10 * number + (number - 1)).rev().collect();
                assert_eq!(
                    told(&[], &catches_up),
                    [length; 2],
                    "{interval} ms, {per_ms} ticks, slowly"
                );
            }
        }
    }

    #[test]
    fn beside_a_faster_clock_durations_of_short_intervals_are_understood_too() {
        for per_ms in [8, 48] {
            let told = |lost: &[u32], delays: &[u64]| length_beside_opus(10, per_ms, lost, delays);
            for lost in [&[][..], &[1], &[2], &[2, 3]] {
                assert_eq!(told(lost, &[]), [480; 2], "{per_ms} ticks, lost: {lost:?}");
            }
            assert_eq!(told(&[], &[3, 0, 2, 0, 1, 3]), [480; 2], "{per_ms} ticks, uneven");
        }
    }

    #[test]
    fn a_marker_begins_an_event_even_at_a_segment_boundary() {
        let t1 = T0.wrapping_add(0xffff);
        let packets = [(T0, true, update(0xffff)), (t1, true, update(160))];
        let expected = [
            started(5, T0),
            ended(5, T0, 0xffff, EndCause::Superseded),
            started(5, t1),
        ];
        assert_eq!(observe(&packets), expected);
    }

    #[test]
    fn a_sender_that_moves_the_timestamp_with_every_update_presses_one_key() {
        let at = |n: u32| T0.wrapping_add(160 * n);
        let packets = [
            (at(0), true, update(160)),
            (at(1), false, update(160)),
            (at(2), false, update(160)),
            (at(3), false, end(160)),
        ];
        assert_eq!(observe(&packets), one_digit(640));
    }

    #[test]
    fn several_events_in_one_packet_follow_each_other() {
        // RFC 4733 §2.5.1.5.
        let six = TelephoneEvent { event: 6, ..end(400) };
        let payload = [end(800).to_bytes(), six.to_bytes()].concat();
        let mut receiver = EventReceiver::default();
        let mut seen = Vec::new();
        for _ in 0..2 {
            receiver
                .on_packet(epoch(), &header(1, T0, true), &payload, |one| seen.push(one))
                .unwrap();
        }
        let t1 = T0.wrapping_add(800);
        let second = [started(6, t1), ended(6, t1, 400, EndCause::EndPacket)];
        assert_eq!(seen, [one_digit(800), second].concat());
    }

    #[test]
    fn a_sender_whose_clock_jumped_back_is_heard() {
        let back = T0.wrapping_sub(1_000_000);
        let packets = [(T0, true, end(800)), (back, true, end(800))];
        let second = [started(5, back), ended(5, back, 800, EndCause::EndPacket)];
        assert_eq!(observe(&packets), [one_digit(800), second].concat());
    }

    #[test]
    fn an_event_without_end_times_out_once() {
        let mut receiver = EventReceiver::new(Duration::from_millis(100));
        let mut seen = Vec::new();
        let start = epoch();
        receiver
            .on_packet(start, &header(1, T0, true), &update(160).to_bytes(), |one| {
                seen.push(one)
            })
            .unwrap();
        let later = start + Duration::from_millis(60);
        receiver
            .on_packet(later, &header(2, T0, false), &update(640).to_bytes(), |one| {
                seen.push(one)
            })
            .unwrap();
        let deadline = receiver.poll_timeout().unwrap();
        assert_eq!(deadline, later + Duration::from_millis(100));
        receiver.on_timeout(deadline - Duration::from_nanos(1), |one| {
            panic!("too early: {one:?}")
        });
        receiver.on_timeout(deadline, |one| seen.push(one));
        assert_eq!(receiver.poll_timeout(), None);
        receiver.on_timeout(deadline, |one| panic!("twice: {one:?}"));
        // An end that comes after all says nothing new.
        receiver
            .on_packet(deadline, &header(3, T0, false), &end(800).to_bytes(), |one| {
                panic!("again: {one:?}")
            })
            .unwrap();
        assert_eq!(seen, [started(5, T0), ended(5, T0, 640, EndCause::TimedOut)]);
    }

    #[test]
    fn a_source_that_goes_away_ends_its_event() {
        let mut receiver = EventReceiver::default();
        let mut seen = Vec::new();
        receiver
            .on_packet(epoch(), &header(1, T0, true), &update(160).to_bytes(), |one| {
                seen.push(one)
            })
            .unwrap();
        receiver.finish(|one| seen.push(one));
        receiver.finish(|one| panic!("twice: {one:?}"));
        assert_eq!(seen, [started(5, T0), ended(5, T0, 160, EndCause::Superseded)]);
    }

    /// A call goes on, and numbers come round after 22 minutes of packets of 20 ms.
    #[test]
    fn a_key_long_after_another_is_heard_whatever_its_numbers() {
        for packets in [65_440_u32, 65_500, 65_536, 65_538] {
            let mut receiver = EventReceiver::default();
            let mut seen = Vec::new();
            let start = epoch();
            for first in [0, packets] {
                let at = T0.wrapping_add(160 * first);
                for (n, payload) in [update(160), update(320), end(480)].iter().enumerate() {
                    let n = n as u32;
                    let now = start + Duration::from_millis(20) * (first + n);
                    let header = header((first + n) as u16, at, n == 0);
                    receiver
                        .on_packet(now, &header, &payload.to_bytes(), |one| seen.push(one))
                        .unwrap();
                }
            }
            let later = T0.wrapping_add(160 * packets);
            let second = [started(5, later), ended(5, later, 480, EndCause::EndPacket)];
            assert_eq!(seen, [one_digit(480), second].concat(), "{packets} packets later");
        }
    }
}
