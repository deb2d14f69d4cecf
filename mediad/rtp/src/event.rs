//! Telephone-events: DTMF digits and other events as RTP payload, received once each and sent by the book.

use std::fmt;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::header::RtpHeader;
use crate::receive::MAX_MISORDER;
use crate::units::RtpTimestamp;

/// Length of one event block, in bytes.
pub const EVENT_BYTES: usize = 4;
/// Blocks accepted in one packet (RFC 4733 §2.5.1.5 sets no bound; no sender needs more).
pub const BLOCKS_PER_PACKET_MAX: usize = 8;
/// Copies of the final packet (RFC 4733 §2.5.1.4: a total of three).
pub const END_PACKETS: u8 = 3;
/// Longest duration one segment can express, in ticks (RFC 4733 §2.5.1.3).
pub const SEGMENT_TICKS_MAX: u16 = u16::MAX;
/// Longest interval between updates: one second at 48 kHz fits, and so a segment is never skipped.
const PTIME_TICKS_MAX: u32 = 48_000;
/// Silence after which an event counts as ended although no end packet came: four lost updates of a sender
/// with 50 ms between updates, the longest interval in common use.
pub const DEFAULT_EVENT_TIMEOUT: Duration = Duration::from_millis(200);

/// Why a payload is not a telephone-event. The peer's fault: count and drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum EventError {
    /// Fewer than four bytes.
    #[error("telephone-event payload shorter than 4 bytes")]
    TooShort,
    /// Not a whole number of four-byte blocks.
    #[error("telephone-event payload is not a multiple of 4 bytes")]
    Unaligned,
    /// More than [`BLOCKS_PER_PACKET_MAX`] blocks.
    #[error("telephone-event payload has more than {BLOCKS_PER_PACKET_MAX} blocks")]
    TooManyBlocks,
}

/// A DTMF key, or flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digit {
    /// 0
    D0,
    /// 1
    D1,
    /// 2
    D2,
    /// 3
    D3,
    /// 4
    D4,
    /// 5
    D5,
    /// 6
    D6,
    /// 7
    D7,
    /// 8
    D8,
    /// 9
    D9,
    /// *
    Star,
    /// #
    Pound,
    /// A
    A,
    /// B
    B,
    /// C
    C,
    /// D
    D,
    /// Hook flash, event 16.
    Flash,
}

impl Digit {
    /// All digits in the order of their event codes.
    pub const ALL: [Self; 17] = [
        Self::D0,
        Self::D1,
        Self::D2,
        Self::D3,
        Self::D4,
        Self::D5,
        Self::D6,
        Self::D7,
        Self::D8,
        Self::D9,
        Self::Star,
        Self::Pound,
        Self::A,
        Self::B,
        Self::C,
        Self::D,
        Self::Flash,
    ];

    /// The digit of an event code, 0 to 16.
    ///
    /// # Source
    /// RFC 4733 §3.2, table 3; flash: RFC 2833 §3.10 and the IANA registry's event 16.
    pub const fn from_event(event: u8) -> Option<Self> {
        if (event as usize) < Self::ALL.len() {
            Some(Self::ALL[event as usize])
        } else {
            None
        }
    }

    /// The event code, 0 to 16.
    pub const fn event(self) -> u8 {
        self as u8
    }

    /// The digit of `0-9 * # A-D a-d`, and `!` for flash.
    pub const fn from_char(character: char) -> Option<Self> {
        let event = match character {
            '0'..='9' => character as u8 - b'0',
            '*' => 10,
            '#' => 11,
            'A'..='D' => character as u8 - b'A' + 12,
            'a'..='d' => character as u8 - b'a' + 12,
            '!' => 16,
            _ => return None,
        };
        Self::from_event(event)
    }

    /// The character of the digit; `!` for flash.
    pub const fn to_char(self) -> char {
        b"0123456789*#ABCD!"[self as usize] as char
    }
}

impl fmt::Display for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_char())
    }
}

/// One four-byte event block.
///
/// # Source
/// RFC 4733 §2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TelephoneEvent {
    /// Event code; see [`Digit::from_event`].
    pub event: u8,
    /// E bit: the event is over.
    pub end: bool,
    /// R bit: must be sent as zero and ignored on reception; kept so that a relay is exact.
    pub reserved: bool,
    /// Level as a positive number of -dBm0, 0 (loudest) to 63.
    pub volume: u8,
    /// Ticks since the start of the segment.
    pub duration: u16,
}

impl TelephoneEvent {
    /// The first block of a payload.
    ///
    /// # Errors
    /// [`EventError::TooShort`] if there is none.
    #[inline]
    pub const fn parse(payload: &[u8]) -> Result<Self, EventError> {
        match payload.first_chunk::<EVENT_BYTES>() {
            Some(block) => Ok(Self::from_bytes(*block)),
            None => Err(EventError::TooShort),
        }
    }

    /// All blocks of a payload (RFC 4733 §2.5.1.5).
    ///
    /// # Errors
    /// See [`EventError`]; drop the packet.
    pub fn blocks(payload: &[u8]) -> Result<impl ExactSizeIterator<Item = Self> + '_, EventError> {
        let (blocks, rest) = payload.as_chunks::<EVENT_BYTES>();
        if blocks.is_empty() {
            return Err(EventError::TooShort);
        }
        if !rest.is_empty() {
            return Err(EventError::Unaligned);
        }
        if blocks.len() > BLOCKS_PER_PACKET_MAX {
            return Err(EventError::TooManyBlocks);
        }
        Ok(blocks.iter().map(|block| Self::from_bytes(*block)))
    }

    /// From the four bytes on the wire.
    #[inline]
    pub const fn from_bytes(block: [u8; EVENT_BYTES]) -> Self {
        let [event, flags, high, low] = block;
        Self {
            event,
            end: flags & 0x80 != 0,
            reserved: flags & 0x40 != 0,
            volume: flags & 0x3f,
            duration: u16::from_be_bytes([high, low]),
        }
    }

    /// The four bytes on the wire; a volume beyond 63 is written as 63.
    #[inline]
    pub const fn to_bytes(self) -> [u8; EVENT_BYTES] {
        let volume = if self.volume > 63 { 63 } else { self.volume };
        let [high, low] = self.duration.to_be_bytes();
        [
            self.event,
            (self.end as u8) << 7 | (self.reserved as u8) << 6 | volume,
            high,
            low,
        ]
    }

    /// The digit, if the event is one.
    #[inline]
    pub const fn digit(&self) -> Option<Digit> {
        Digit::from_event(self.event)
    }
}

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
        /// How long it lasted in ticks, over all segments, as far as packets told.
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

    fn end_if(&mut self, end: bool, observe: &mut impl FnMut(Observation)) {
        if end {
            self.ended = true;
            observe(self.ended(EndCause::EndPacket));
        }
    }

    fn ended(&self, cause: EndCause) -> Observation {
        Observation::Ended {
            event: self.event,
            timestamp: self.began,
            duration: self.ticks(),
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
    NextSegment,
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
    timeout: Duration,
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

    /// An event ends by itself after `timeout` without a packet.
    pub const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            current: None,
            newest: None,
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

    /// When to call [`on_timeout`](Self::on_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.current
            .as_ref()
            .filter(|current| !current.ended)
            .map(|current| current.deadline)
    }

    /// End the event whose packets ceased, if its time has come.
    pub fn on_timeout(&mut self, now: Instant, mut observe: impl FnMut(Observation)) {
        if let Some(current) = &mut self.current
            && !current.ended
            && now >= current.deadline
        {
            current.ended = true;
            observe(current.ended(EndCause::TimedOut));
        }
    }

    /// End a running event because its source went away, and forget it.
    pub fn finish(&mut self, mut observe: impl FnMut(Observation)) {
        self.newest = None;
        if let Some(current) = self.current.take()
            && !current.ended
        {
            observe(current.ended(EndCause::Superseded));
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
        let deadline = now + self.timeout;
        if let Some(current) = &mut self.current {
            match Self::relation(current, start, place, block) {
                Relation::Stale => return,
                Relation::Update => {
                    // An update that was overtaken must not shorten the event.
                    current.segment_ticks = current.segment_ticks.max(block.duration);
                    current.deadline = deadline;
                    return current.end_if(block.end, observe);
                }
                Relation::NextSegment => {
                    let ahead = start.diff(current.segment).unsigned_abs();
                    current.earlier_ticks = current.earlier_ticks.saturating_add(ahead);
                    current.segment = start;
                    current.segment_ticks = block.duration;
                    current.deadline = deadline;
                    return current.end_if(block.end, observe);
                }
                Relation::New if !current.ended => observe(current.ended(EndCause::Superseded)),
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
        current.end_if(block.end, observe);
    }

    fn relation(current: &Current, start: RtpTimestamp, place: Place, block: TelephoneEvent) -> Relation {
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
        let contiguous = ahead == i32::from(SEGMENT_TICKS_MAX) || ahead == i32::from(current.segment_ticks);
        if contiguous && ahead > 0 && !place.marker && !current.ended && block.event == current.event {
            return Relation::NextSegment;
        }
        Relation::New
    }
}

/// A packet to send; the caller adds payload type, sequence number and SSRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventPacket {
    /// Marker bit: set on the first packet of the event only.
    pub marker: bool,
    /// Timestamp: the start of the event, or of its segment.
    pub timestamp: RtpTimestamp,
    /// The payload.
    pub payload: TelephoneEvent,
}

/// Sends one event: call [`poll_packet`](Self::poll_packet) once per ptime until it returns `None`.
///
/// # Source
/// RFC 4733 §2.5.1.
#[derive(Debug, Clone)]
pub struct EventSender {
    event: u8,
    volume: u8,
    first: bool,
    ends_left: u8,
    ptime_ticks: u32,
    segment: RtpTimestamp,
    /// Ticks in the segments before this one.
    earlier_ticks: u32,
    /// Ticks since the start of the event; a full segment is told before the rest of the ptime it ended in.
    elapsed_ticks: u32,
    /// Total length in ticks; `None` while the key is held.
    length: Option<u32>,
}

impl EventSender {
    /// An event of `length` ticks that starts at `timestamp`, with an update every `ptime_ticks`.
    ///
    /// # Units
    /// Ticks of the clock negotiated for telephone-event; `volume` in -dBm0, 0 to 63.
    pub const fn new(event: u8, volume: u8, timestamp: RtpTimestamp, length: u32, ptime_ticks: u32) -> Self {
        Self {
            event,
            volume,
            first: true,
            ends_left: END_PACKETS,
            // A ptime of zero would never reach the end.
            ptime_ticks: match ptime_ticks {
                0 => 1,
                ticks if ticks > PTIME_TICKS_MAX => PTIME_TICKS_MAX,
                ticks => ticks,
            },
            segment: timestamp,
            earlier_ticks: 0,
            elapsed_ticks: 0,
            length: Some(length),
        }
    }

    /// As [`new`](Self::new) for a key that is held until [`release`](Self::release).
    pub const fn held(event: u8, volume: u8, timestamp: RtpTimestamp, ptime_ticks: u32) -> Self {
        Self {
            length: None,
            ..Self::new(event, volume, timestamp, 0, ptime_ticks)
        }
    }

    /// End a held event with the next packet; without effect on one that has its length.
    pub const fn release(&mut self) {
        if self.length.is_none() {
            self.length = Some(self.elapsed_ticks.saturating_add(self.ptime_ticks));
        }
    }

    /// Length of the event as told so far, in ticks. After the last packet: how far the media clock has
    /// moved past the start of the event, apart from the repeated end packets.
    pub const fn told_ticks(&self) -> u32 {
        self.earlier_ticks + self.segment_ticks() as u32
    }

    const fn segment_ticks(&self) -> u16 {
        let ticks = self.elapsed_ticks - self.earlier_ticks;
        if ticks > SEGMENT_TICKS_MAX as u32 {
            SEGMENT_TICKS_MAX
        } else {
            ticks as u16
        }
    }

    /// Whether the end has been sent at least once: audio or the next event may follow.
    pub const fn is_ended(&self) -> bool {
        self.ends_left < END_PACKETS
    }

    /// The packet for this ptime; `None` when all end packets are out.
    #[inline]
    pub fn poll_packet(&mut self) -> Option<EventPacket> {
        if self.ends_left == 0 {
            return None;
        }
        if !self.is_ended() {
            self.advance();
        }
        let end = self.length.is_some_and(|length| self.told_ticks() >= length);
        if end {
            self.ends_left -= 1;
        }
        let marker = std::mem::take(&mut self.first);
        let payload = TelephoneEvent {
            event: self.event,
            end,
            reserved: false,
            volume: self.volume,
            duration: self.segment_ticks(),
        };
        Some(EventPacket {
            marker,
            timestamp: self.segment,
            payload,
        })
    }

    fn advance(&mut self) {
        if self.segment_ticks() == SEGMENT_TICKS_MAX {
            // RFC 4733 §2.5.1.3: the full segment was told without E; the next one starts at its end.
            self.segment = self.segment.wrapping_add(u32::from(SEGMENT_TICKS_MAX));
            self.earlier_ticks += u32::from(SEGMENT_TICKS_MAX);
        }
        let limit = self.length.unwrap_or(u32::MAX);
        self.elapsed_ticks = self.elapsed_ticks.saturating_add(self.ptime_ticks).min(limit);
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
    fn the_fields_lie_where_rfc_4733_draws_them() {
        // RFC 4733 §2.3, figure 1.
        let event = TelephoneEvent::parse(&[1, 0x80 | 20, 0x06, 0x40]).unwrap();
        assert_eq!(
            (event.event, event.end, event.volume, event.duration),
            (1, true, 20, 1600)
        );
        assert_eq!(event.digit(), Some(Digit::D1));
        assert_eq!(event.to_bytes(), [1, 0x94, 0x06, 0x40]);
    }

    #[test]
    fn digits_have_the_codes_and_characters_of_the_registry() {
        for (event, character) in "0123456789*#ABCD!".chars().enumerate() {
            let digit = Digit::from_event(event as u8).unwrap();
            assert_eq!((digit.event(), digit.to_char()), (event as u8, character));
            assert_eq!(Digit::from_char(character), Some(digit));
        }
        assert_eq!(Digit::from_char('b'), Some(Digit::B));
        assert_eq!(Digit::from_event(17), None);
        assert_eq!(Digit::from_char('E'), None);
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

    fn send_all(mut sender: EventSender) -> Vec<EventPacket> {
        std::iter::from_fn(|| sender.poll_packet()).collect()
    }

    #[test]
    fn a_digit_is_sent_with_one_marker_and_three_ends() {
        let packets = send_all(EventSender::new(5, 10, T0, 800, 160));
        let durations: Vec<_> = packets.iter().map(|packet| packet.payload.duration).collect();
        assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
        let ends: Vec<_> = packets.iter().map(|packet| packet.payload.end).collect();
        assert_eq!(ends, [false, false, false, false, true, true, true]);
        assert!(
            packets
                .iter()
                .enumerate()
                .all(|(n, packet)| packet.marker == (n == 0))
        );
        assert!(packets.iter().all(|packet| packet.timestamp == T0));
    }

    #[test]
    fn a_length_that_is_no_multiple_of_the_ptime_is_kept() {
        let packets = send_all(EventSender::new(5, 10, T0, 400, 160));
        let told: Vec<_> = packets
            .iter()
            .map(|packet| (packet.payload.duration, packet.payload.end))
            .collect();
        assert_eq!(
            told,
            [(160, false), (320, false), (400, true), (400, true), (400, true)]
        );
        assert_eq!(send_all(EventSender::new(5, 10, T0, 0, 160)).len(), 3);
        assert_eq!(send_all(EventSender::new(5, 10, T0, 1, 0)).len(), 3);
    }

    #[test]
    fn a_held_key_ends_after_its_release() {
        let mut sender = EventSender::held(5, 10, T0, 160);
        for n in 1..=10 {
            let packet = sender.poll_packet().unwrap();
            assert_eq!((packet.payload.duration, packet.payload.end), (160 * n, false));
        }
        sender.release();
        sender.release();
        assert!(!sender.is_ended());
        let packet = sender.poll_packet().unwrap();
        assert_eq!((packet.payload.duration, packet.payload.end), (1760, true));
        assert!(sender.is_ended());
        assert_eq!(sender.told_ticks(), 1760);
        assert_eq!(send_all(sender).len(), 2);
    }

    #[test]
    fn a_long_event_is_sent_in_segments_that_add_up() {
        let length = 2 * 0xffff + 1000;
        let packets = send_all(EventSender::new(5, 10, T0, length, 160));
        let full: Vec<_> = packets
            .iter()
            .filter(|packet| packet.payload.duration == 0xffff)
            .collect();
        assert_eq!(full.len(), 2);
        assert!(full.iter().all(|packet| !packet.payload.end));
        let segments: std::collections::BTreeSet<_> =
            packets.iter().map(|packet| packet.timestamp.diff(T0)).collect();
        assert_eq!(segments.into_iter().collect::<Vec<_>>(), [0, 0xffff, 2 * 0xffff]);
        assert_eq!(packets.iter().filter(|packet| packet.marker).count(), 1);
        assert_eq!(packets.last().unwrap().payload.duration, 1000);
        // Told in real time: one packet per ptime, and a full segment does not cost one.
        assert_eq!(packets.len(), (length as usize).div_ceil(160) + 2);
    }

    #[test]
    fn the_longest_event_ends() {
        let packets = EventSender::new(5, 10, T0, u32::MAX, 48_000);
        let mut packets = packets;
        let mut last = None;
        while let Some(packet) = packets.poll_packet() {
            last = Some(packet.payload);
        }
        assert!(last.is_some_and(|payload| payload.end));
        assert_eq!(packets.told_ticks(), u32::MAX);
    }
}
