//! Telephone-events towards a listener who counts otherwise than who sends them: whose events, or whose audio, have another
//! clock.
//!
//! RFC 4733 §2.5.1.1 has events on the clock of the audio; many who have Opus know telephone-event/8000 alone. Some of them
//! count timestamps with the audio there, others with the events. So of their timestamps counts only which are the same: an
//! event begins where the line stands when its first packet comes. Its length is told on the clock of the listener's events,
//! in segments of that clock (§2.5.1.3).

use rtp::{
    event::{BLOCKS_PER_PACKET_MAX, EVENT_BYTES, SEGMENT_TICKS_MAX, TelephoneEvent, scale},
    units::{ClockRate, RtpTimestamp},
};

use super::{
    line::{Arrival, Line, StreamId},
    plan::{Mapping, Op},
};

/// Where a packet stands in its event: the timestamp with which that began, and its length so far on the sender's clock.
pub(crate) type Place = (RtpTimestamp, u32);

/// A packet of an event as the listener is to get it.
#[derive(Debug)]
pub(crate) struct Retold {
    pub(crate) arrival: Arrival,
    blocks: [[u8; EVENT_BYTES]; BLOCKS_PER_PACKET_MAX],
    count: usize,
}

impl Retold {
    pub(crate) fn payload(&self) -> &[u8] {
        self.blocks[..self.count].as_flattened()
    }

    fn push(&mut self, block: TelephoneEvent) {
        if let Some(free) = self.blocks.get_mut(self.count) {
            *free = block.to_bytes();
            self.count += 1;
        }
    }
}

/// Whether packets of events cannot go to `line` as they came.
pub(crate) fn is_needed(mapping: Mapping, arrival: &Arrival, line: &Line) -> bool {
    let is_aside = arrival.stream == StreamId::ASIDE || arrival.clock != line.clock();
    mapping.op == Op::Rescale || mapping.op == Op::Forward && is_aside
}

/// A packet for a listener whose events count on the clock `to`, beside audio on `audio`. `None` if it is not to get it: nobody
/// can read it, or it was overtaken by what came after its event or segment.
pub(crate) fn retell(
    arrival: &Arrival,
    payload: &[u8],
    place: Option<Place>,
    (to, audio): (ClockRate, ClockRate),
) -> Option<Retold> {
    let blocks = TelephoneEvent::blocks(payload).ok()?;
    let mut retold = Retold {
        arrival: *arrival,
        blocks: [[0; EVENT_BYTES]; BLOCKS_PER_PACKET_MAX],
        count: 0,
    };
    let segment_ticks = u32::from(SEGMENT_TICKS_MAX);
    let one = blocks.len() == 1;
    for block in blocks {
        let (ticks, before) = if one {
            let (began, ticks) = place?;
            let ticks = arrival.clock.convert(ticks, to);
            let before = ticks.saturating_sub(1) / segment_ticks * segment_ticks;
            retold.arrival.timestamp = began;
            retold.arrival.segment = before.wrapping_mul(scale(to, audio));
            (ticks, before)
        } else {
            // Several short ones at once (RFC 4733 §2.5.1.5).
            (arrival.clock.convert(block.duration.into(), to), 0)
        };
        let duration = (ticks - before).min(segment_ticks) as u16;
        retold.push(TelephoneEvent { duration, ..block });
    }
    Some(retold)
}
