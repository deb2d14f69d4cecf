//! Telephone-events that are sent: by the book, an update with each ptime and the end three times.

use super::{SEGMENT_TICKS_MAX, TelephoneEvent, scale};
use crate::units::{ClockRate, RtpTimestamp};

/// Copies of the final packet (RFC 4733 §2.5.1.4: a total of three).
pub const END_PACKETS: u8 = 3;
/// Longest interval between updates: one second at 48 kHz fits, and so a segment is never skipped.
const PTIME_TICKS_MAX: u32 = 48_000;

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
    /// Ticks of timestamps in one of durations.
    scale: u32,
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
            scale: 1,
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

    /// On the clock `events` beside audio on another one: timestamps stay on the clock of the audio, for they are those of one
    /// stream (RFC 3550 §5.1); durations are told on that of the events.
    #[must_use]
    pub const fn beside(mut self, events: ClockRate, audio: ClockRate) -> Self {
        self.scale = scale(events, audio);
        self
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
            let ticks = u32::from(SEGMENT_TICKS_MAX).wrapping_mul(self.scale);
            self.segment = self.segment.wrapping_add(ticks);
            self.earlier_ticks += u32::from(SEGMENT_TICKS_MAX);
        }
        let limit = self.length.unwrap_or(u32::MAX);
        self.elapsed_ticks = self.elapsed_ticks.saturating_add(self.ptime_ticks).min(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: RtpTimestamp = RtpTimestamp(4_294_967_000);

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
    fn beside_a_faster_clock_segments_are_as_far_apart_as_on_it() {
        let sender = EventSender::new(5, 10, T0, 0xffff + 1_000, 160);
        let packets = send_all(sender.beside(ClockRate::HZ_8000, ClockRate::HZ_48000));
        let last = packets.last().unwrap();
        assert_eq!(
            (last.timestamp.diff(T0), last.payload.duration),
            (6 * 0xffff, 1_000)
        );
        assert_eq!(packets[0].timestamp, T0);
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
