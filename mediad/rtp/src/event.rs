//! Telephone-events: DTMF digits and other events as RTP payload, received once each and sent by the book.

mod receive;
mod send;

use std::fmt;

use thiserror::Error;

use crate::units::ClockRate;

pub use self::{
    receive::{DEFAULT_EVENT_TIMEOUT, EndCause, EventReceiver, Observation},
    send::{END_PACKETS, EventPacket, EventSender},
};

/// Length of one event block, in bytes.
pub const EVENT_BYTES: usize = 4;
/// Blocks accepted in one packet (RFC 4733 §2.5.1.5 sets no bound; no sender needs more).
pub const BLOCKS_PER_PACKET_MAX: usize = 8;
/// Longest duration one segment can express, in ticks (RFC 4733 §2.5.1.3).
pub const SEGMENT_TICKS_MAX: u16 = u16::MAX;

/// Ticks of the clock of the audio while that of the events beside it makes one: 6 for telephone-event/8000 beside opus/48000; 1
/// where that is no whole number.
pub const fn scale(events: ClockRate, audio: ClockRate) -> u32 {
    match audio.hz() % events.hz() {
        0 => audio.hz() / events.hz(),
        _ => 1,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
