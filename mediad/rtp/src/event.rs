//! Telephone-events: DTMF digits and other events as RTP payload, received once each and sent by the book.

use std::fmt;
use std::time::{Duration, Instant};

use thiserror::Error;

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

/// How a block relates to the event heard last.
enum Relation {
    Update,
    NextSegment,
    Stale,
    New,
}

/// Turns packets into exactly one start and one end per event, in order.
///
/// Tolerates lost starts, lost ends, duplicates, repeated ends, reordering and events of several segments.
/// Packets must come from one source; call [`finish`](Self::finish) and start over when the SSRC changes.
///
/// # Source
/// RFC 4733 §2.5.1.3 (segments), §2.5.1.5 (several events in a packet), §2.5.2 (reception).
#[derive(Debug, Clone)]
pub struct EventReceiver {
    timeout: Duration,
    current: Option<Current>,
}

impl Default for EventReceiver {
    fn default() -> Self {
        Self::new(DEFAULT_EVENT_TIMEOUT)
    }
}

impl EventReceiver {
    /// Timestamps at most this far behind the current event belong to late packets (4 s at 8 kHz, 0.7 s at
    /// 48 kHz); further behind, the sender has jumped and the event is new.
    const STALE_TICKS_MAX: u32 = 32_000;

    /// An event ends by itself after `timeout` without a packet.
    pub const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            current: None,
        }
    }

    /// Take a telephone-event packet; `observe` is called for each observation, in order.
    ///
    /// # Errors
    /// See [`EventError`]; nothing was observed.
    pub fn on_packet(
        &mut self,
        now: Instant,
        timestamp: RtpTimestamp,
        marker: bool,
        payload: &[u8],
        mut observe: impl FnMut(Observation),
    ) -> Result<(), EventError> {
        let blocks = TelephoneEvent::blocks(payload)?;
        self.on_timeout(now, &mut observe);
        let mut start = timestamp;
        for block in blocks {
            self.on_block(now, start, marker, block, &mut observe);
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
        if let Some(current) = self.current.take()
            && !current.ended
        {
            observe(current.ended(EndCause::Superseded));
        }
    }

    fn on_block(
        &mut self,
        now: Instant,
        start: RtpTimestamp,
        marker: bool,
        block: TelephoneEvent,
        observe: &mut impl FnMut(Observation),
    ) {
        let deadline = now + self.timeout;
        if let Some(current) = &mut self.current {
            match Self::relation(current, start, marker, block) {
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

    fn relation(current: &Current, start: RtpTimestamp, marker: bool, block: TelephoneEvent) -> Relation {
        let ahead = start.diff(current.segment);
        if ahead == 0 && block.event == current.event {
            return if current.ended {
                Relation::Stale
            } else {
                Relation::Update
            };
        }
        if ahead < 0 && ahead.unsigned_abs() <= Self::STALE_TICKS_MAX {
            return Relation::Stale;
        }
        // RFC 4733 §2.5.1.3: the next segment starts where the last one ended, without the marker. The
        // packet that carried the full duration may be lost. Contiguous shorter segments come from senders
        // that advance the timestamp with every update; that is one key press as well.
        let contiguous = ahead == i32::from(SEGMENT_TICKS_MAX) || ahead == i32::from(current.segment_ticks);
        if contiguous && ahead > 0 && !marker && !current.ended && block.event == current.event {
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
