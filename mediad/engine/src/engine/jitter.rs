//! The jitter buffer of one source: packets in, in whatever order the network has them; frames out, one after another.
//!
//! It knows the media clock of the stream only: where playing stands on it, and how long before its turn each packet
//! arrived. Too late: the delay grows by what had to be made up. Early for long: it shrinks by a frame. Never above the
//! bound, whatever comes.

use std::time::{Duration, Instant};

use rtp::units::{ClockRate, ExtendedSeq, RtpTimestamp};

use super::{
    Egress,
    line::{Arrival, StreamId},
    prefetch::prefetch_all,
    tick::TICK_MS,
};

/// Longest packet that is taken.
pub(crate) const PACKET_MS_MAX: u32 = 120;
/// One for each bit of [`Jitter::taken`]: more than any bound of the delay needs.
const PLACES_MAX: usize = u64::BITS as usize;
/// After this long without packets the stream has paused: what comes next begins anew.
const PAUSE_MS: u32 = 100;
/// How long the first packet waits at least, so that its successors may be a little late.
const HOLD_MS: u32 = 10;
/// The delay is looked at after this many ticks.
const WINDOW: u16 = 100;
/// Outside of these the delay is corrected: the least time between a packet and the tick that needs it, and the shortest wait of
/// a window, since the first packet waits up to [`HOLD_MS`] and a tick. A pace that is not quite the stream's takes packets
/// up to a tick before their turn, so what is corrected is brought to more than a tick.
const SPARE_US_MIN: i32 = 3_000;
const WAIT_US_MAX: i32 = 32_000;
const WAIT_US_AIM: i32 = 25_000;
/// So close to the aim it is left alone again, until it leaves the bounds anew. A clock that drifts by 100 ppm or more
/// never comes so close.
const WAIT_US_NEAR: i32 = 1_000;
/// What is away from the aim is made up for within 10 s: a ppm for each 10 us.
const US_PER_PPM: i32 = 10;

/// A packet that waits, of the stream and on the clock that all are of. Small, so that few lines of memory are looked at.
#[derive(Debug, Clone, Copy)]
struct Entry {
    ext: ExtendedSeq,
    timestamp: RtpTimestamp,
    /// Length of sound in it, in the stream's clock.
    ticks: u32,
    bytes: u16,
    format: u8,
    marker: bool,
    late: bool,
    silence: bool,
}

/// What is to be played next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// This packet; give its place to [`Jitter::take`].
    Packet(usize),
    /// Lost, for so many ms at most; what follows is in this place, and right behind that if it `joins`.
    Lost { ms: u32, follower: usize, joins: bool },
    /// Nothing came in time.
    Late,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Jitter {
    /// Bound of the delay.
    ms_max: u32,
    entries: Box<[Entry]>,
    /// Those in use: a bit for each.
    taken: u64,
    bytes: Box<[u8]>,
    bytes_each: usize,
    stream: StreamId,
    clock: ClockRate,
    /// Where the next sample lies on the stream's clock.
    next: RtpTimestamp,
    /// Number of the latest packet that was played; none before it is any more.
    played: ExtendedSeq,
    playing: bool,
    /// Number of the latest telephone-event, which came in the place of sound.
    event: ExtendedSeq,
    /// When the first packet came that waits to be played.
    since: Option<Instant>,
    /// Time made up for packets that may still come; ticks of the clock.
    owed: u32,
    /// Nothing came for so long.
    late_ms: u32,
    /// When the latest tick was.
    ticked: Option<Instant>,
    /// Decoded and not yet played, in us.
    held_us: u32,
    /// Shortest wait of a packet in this window, in us.
    wait_us_min: i32,
    /// The least time between a packet and the tick that needs it.
    spare_us_min: i32,
    window: u16,
    /// How much faster than its own clock the stream is played.
    drift_ppm: i32,
}

impl Jitter {
    /// A buffer for packets of at most `bytes_per_ms`.
    pub(crate) fn new(ms_max: u16, bytes_per_ms: usize) -> Self {
        // Packets of 10 ms fill the bound, and some more; longer packets need fewer places.
        let places = (usize::from(ms_max) / 10 + 6).min(PLACES_MAX);
        let bytes_each = bytes_per_ms * 60;
        let free = Entry {
            ext: ExtendedSeq(0),
            timestamp: RtpTimestamp(0),
            ticks: 0,
            bytes: 0,
            format: 0,
            marker: false,
            late: false,
            silence: false,
        };
        Self {
            ms_max: u32::from(ms_max).max(2 * TICK_MS),
            entries: vec![free; places].into_boxed_slice(),
            taken: 0,
            bytes: vec![0; places * bytes_each].into_boxed_slice(),
            bytes_each,
            stream: StreamId::NONE,
            clock: ClockRate::HZ_8000,
            next: RtpTimestamp(0),
            played: ExtendedSeq(0),
            playing: false,
            event: ExtendedSeq(0),
            since: None,
            owed: 0,
            late_ms: 0,
            ticked: None,
            held_us: 0,
            wait_us_min: i32::MAX,
            spare_us_min: i32::MAX,
            window: 0,
            drift_ppm: 0,
        }
    }

    /// The shape that [`Jitter::new`] gives.
    pub(crate) fn shape_of(ms_max: u16, bytes_per_ms: usize) -> (u32, usize) {
        (u32::from(ms_max).max(2 * TICK_MS), bytes_per_ms * 60)
    }

    /// Bound of the delay and room for a packet: what it was made for.
    pub(crate) fn shape(&self) -> (u32, usize) {
        (self.ms_max, self.bytes_each)
    }

    /// Takes a packet of so many ticks of its clock in. What cannot be played any more is dropped.
    pub(crate) fn push(&mut self, now: Instant, arrival: &Arrival, format: u8, ticks: u32, payload: &[u8]) {
        if ticks == 0
            || payload.len() > self.bytes_each
            || ticks > self.ticks_of(arrival.clock, PACKET_MS_MAX)
        {
            return;
        }
        if arrival.stream != self.stream || arrival.clock != self.clock {
            if arrival.silence && arrival.stream == self.stream {
                // What describes the silence of another clock says nothing of this one.
                return;
            }
            self.begin(arrival);
        }
        if arrival.ext <= self.played {
            return;
        }
        let ahead = arrival.timestamp.diff(self.next);
        if self.playing {
            let far = self.ticks_of(self.clock, self.ms_max) as i32;
            if ahead < -(self.clock.hz() as i32) || ahead > far + self.clock.hz() as i32 {
                // A jump of the clock, or the first after a long pause.
                self.begin(arrival);
                self.since = Some(now);
            } else {
                if !arrival.silence {
                    self.note_wait(now, ahead);
                }
                if ahead + ticks.cast_signed() <= 0 {
                    return;
                }
                if ahead > far {
                    self.skip_to(arrival.timestamp.wrapping_sub(far.unsigned_abs()));
                }
            }
        } else if self.since.is_none() || ahead < 0 {
            self.next = arrival.timestamp;
            self.since.get_or_insert(now);
        }
        let place = self.free_place(arrival.timestamp);
        self.taken |= 1 << place;
        self.entries[place] = Entry {
            ext: arrival.ext,
            timestamp: arrival.timestamp,
            ticks,
            bytes: payload.len() as u16,
            format,
            marker: arrival.marker,
            late: arrival.late,
            silence: arrival.silence,
        };
        let start = place * self.bytes_each;
        self.bytes[start..start + payload.len()].copy_from_slice(payload);
    }

    /// A telephone-event came: who sends one need not send sound meanwhile (RFC 4733 §2.5.1.2).
    pub(crate) fn note_event(&mut self, arrival: &Arrival) {
        if arrival.stream == self.stream {
            self.event = self.event.max(arrival.ext);
        }
    }

    /// Nothing is to be heard between the latest packet that was played and the one in place `follower`, or whatever comes,
    /// since a telephone-event was.
    pub(crate) fn is_event_next(&self, follower: Option<usize>) -> bool {
        let until = follower.map(|place| self.entries[place].ext);
        self.event > self.played && until.is_none_or(|until| self.event < until)
    }

    /// A tick begins; whether there is anything to play.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        self.ticked = Some(now);
        if !self.playing {
            let hold = Duration::from_millis(HOLD_MS.into());
            self.playing = self
                .since
                .is_some_and(|since| now.saturating_duration_since(since) >= hold);
            self.late_ms = 0;
            self.held_us = 0;
            self.wait_us_min = i32::MAX;
            self.spare_us_min = i32::MAX;
            self.window = 0;
            self.drift_ppm = 0;
        } else {
            self.look_at_delay();
        }
        self.playing
    }

    /// Once in a window: does the delay stay where it is?
    fn look_at_delay(&mut self) {
        self.window += 1;
        if self.window < WINDOW {
            return;
        }
        self.window = 0;
        let wait_us = std::mem::replace(&mut self.wait_us_min, i32::MAX);
        let spare_us = std::mem::replace(&mut self.spare_us_min, i32::MAX);
        if wait_us == i32::MAX {
            return;
        }
        let away_us = wait_us - WAIT_US_AIM;
        let is_right = match self.drift_ppm {
            0 => spare_us >= SPARE_US_MIN && wait_us <= WAIT_US_MAX,
            _ => away_us.abs() < WAIT_US_NEAR,
        };
        self.drift_ppm = if is_right { 0 } else { away_us / US_PER_PPM };
    }

    /// How much faster than its own clock the stream is to be played; 0 where that is to be left alone.
    pub(crate) fn drift_ppm(&self) -> i32 {
        self.drift_ppm
    }

    /// After a tick: so much is decoded and was not played.
    pub(crate) fn note_held(&mut self, samples: u32, rate_hz: u32) {
        self.held_us = samples * 1_000 / (rate_hz / 1_000);
    }

    /// The peer said that it will be silent: unless something waits, what comes next begins anew. Whether it does.
    pub(crate) fn pause(&mut self) -> bool {
        if self.taken != 0 {
            return false;
        }
        self.playing = false;
        self.since = None;
        self.owed = 0;
        true
    }

    /// What comes next on the stream's clock.
    pub(crate) fn next(&mut self) -> Next {
        loop {
            let Some(place) = self.first() else {
                return Next::Late;
            };
            self.late_ms = 0;
            let ahead = self.entries[place].timestamp.diff(self.next);
            if ahead <= 0 {
                // It came after all: what was made up for it stays as delay.
                self.owed = 0;
                return Next::Packet(place);
            }
            let ahead = ahead.unsigned_abs();
            if self.owed == 0 {
                let ms = ahead.div_ceil((self.clock.hz() / 1_000).max(1));
                return Next::Lost {
                    ms: ms.min(TICK_MS),
                    follower: place,
                    joins: ms <= TICK_MS,
                };
            }
            // Lost, and made up for already.
            let settled = self.owed.min(ahead);
            self.next = self.next.wrapping_add(settled);
            self.owed -= settled;
        }
    }

    /// A hint: [`Self::next`] is called soon.
    pub(super) fn prefetch(&self, tx: &impl Egress) {
        // As long as payloads of G.711 mostly are: the length of each is not at hand yet.
        const PAYLOAD: usize = 160;
        for place in self.places() {
            prefetch_all(tx, &self.entries[place]);
            let start = place * self.bytes_each;
            prefetch_all(tx, &self.bytes[start..start + self.bytes_each.min(PAYLOAD)]);
        }
    }

    /// The packet in `place` is played: its format and payload.
    pub(crate) fn take(&mut self, place: usize) -> (u8, &[u8]) {
        let entry = &self.entries[place];
        self.next = entry.end();
        self.played = self.played.max(entry.ext);
        self.taken &= !(1 << place);
        self.peek(place)
    }

    /// The stream that is played, and the number of its latest packet that was.
    pub(crate) fn played(&self) -> (StreamId, ExtendedSeq) {
        (self.stream, self.played)
    }

    /// Format and payload of the packet in `place`, which stays.
    pub(crate) fn peek(&self, place: usize) -> (u8, &[u8]) {
        let entry = &self.entries[place];
        let start = place * self.bytes_each;
        (entry.format, &self.bytes[start..start + usize::from(entry.bytes)])
    }

    /// `ms` of a loss were made up.
    pub(crate) fn pass(&mut self, ms: u32) {
        self.next = self.next.wrapping_add(self.ticks_of(self.clock, ms));
    }

    /// `ms` were made up for packets that are late. False once that went on for so long that the stream paused.
    pub(crate) fn made_up(&mut self, ms: u32) -> bool {
        self.late_ms += ms;
        let ticks = self.ticks_of(self.clock, ms);
        // The delay may grow while it is below its bound; beyond that the packets are given up.
        if self.owed + ticks <= self.ticks_of(self.clock, self.ms_max - TICK_MS) {
            self.owed += ticks;
        } else {
            self.next = self.next.wrapping_add(ticks);
        }
        if self.late_ms >= PAUSE_MS {
            self.playing = false;
            self.since = None;
            self.owed = 0;
        }
        self.playing
    }

    /// Nothing waits and nothing plays.
    pub(crate) fn is_idle(&self) -> bool {
        !self.playing && self.since.is_none()
    }

    /// What waits, in the order of the stream.
    pub(crate) fn waiting(&self, mut each: impl FnMut(&Arrival, u8, &[u8])) {
        let ahead = |place: usize| self.entries[place].timestamp.diff(self.next);
        let mut after = i32::MIN;
        loop {
            let behind = self.places().filter(|place| ahead(*place) > after);
            let Some(place) = behind.min_by_key(|place| ahead(*place)) else {
                return;
            };
            after = ahead(place);
            let entry = &self.entries[place];
            let arrival = Arrival {
                stream: self.stream,
                ext: entry.ext,
                timestamp: entry.timestamp,
                clock: self.clock,
                marker: entry.marker,
                late: entry.late,
                event: false,
                segment: 0,
                silence: entry.silence,
            };
            each(&arrival, entry.format, self.peek(place).1);
        }
    }

    fn begin(&mut self, arrival: &Arrival) {
        self.taken = 0;
        if self.stream != arrival.stream {
            self.played = ExtendedSeq(0);
            self.event = ExtendedSeq(0);
        }
        self.stream = arrival.stream;
        self.clock = arrival.clock;
        self.next = arrival.timestamp;
        self.playing = false;
        self.since = None;
        self.owed = 0;
    }

    /// How long a packet will wait for its turn.
    fn note_wait(&mut self, now: Instant, ahead: i32) {
        let Some(ticked) = self.ticked else { return };
        let gone = now.saturating_duration_since(ticked).as_micros().min(1_000_000) as i64;
        // What was made up for packets that did not come delays those behind them too.
        let ahead = i64::from(ahead) + i64::from(self.owed.min(self.clock.hz()));
        let ahead_us = ahead * 1_000_000 / i64::from(self.clock.hz());
        let tick_us = i64::from(TICK_MS) * 1_000;
        let before_us = ahead_us + i64::from(self.held_us);
        let until = |us: i64| (us + tick_us - gone) as i32;
        self.wait_us_min = self.wait_us_min.min(until(before_us));
        // Its tick takes all of it, wherever in the tick it begins.
        let whole_us = before_us.div_euclid(tick_us) * tick_us;
        self.spare_us_min = self.spare_us_min.min(until(whole_us));
    }

    /// Gives up what lies before `timestamp`.
    fn skip_to(&mut self, timestamp: RtpTimestamp) {
        self.next = timestamp;
        self.owed = 0;
        let is_before = |place: &usize| self.entries[*place].end().diff(timestamp) <= 0;
        let before = self.places().filter(is_before);
        self.taken = before.fold(self.taken, |taken, place| taken & !(1 << place));
    }

    /// Those in use.
    fn places(&self) -> impl Iterator<Item = usize> {
        let mut left = self.taken;
        std::iter::from_fn(move || {
            let place = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (place < PLACES_MAX).then_some(place)
        })
    }

    fn first(&self) -> Option<usize> {
        self.places()
            .min_by_key(|place| self.entries[*place].timestamp.diff(self.next))
    }

    /// A place for a packet; the oldest one's if there is none. The lowest is taken, so that few are ever touched.
    fn free_place(&mut self, timestamp: RtpTimestamp) -> usize {
        let free = self.taken.trailing_ones() as usize;
        if free < self.entries.len() {
            return free;
        }
        let oldest = self.first().unwrap_or(0);
        let after = self.entries[oldest].end();
        if after.diff(self.next) > 0 && after.diff(timestamp) <= 0 {
            self.next = after;
        }
        oldest
    }

    fn ticks_of(&self, clock: ClockRate, ms: u32) -> u32 {
        (u64::from(clock.hz()) * u64::from(ms) / 1_000) as u32
    }
}

impl Entry {
    /// Where its sound ends on the stream's clock.
    fn end(&self) -> RtpTimestamp {
        self.timestamp.wrapping_add(self.ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    fn arrival(n: u32) -> Arrival {
        Arrival {
            stream: StreamId(1),
            ext: ExtendedSeq(u64::from(n) + 70_000),
            timestamp: RtpTimestamp(n.wrapping_mul(160).wrapping_sub(5_000)),
            clock: ClockRate::HZ_8000,
            marker: false,
            late: false,
            event: false,
            segment: 0,
            silence: false,
        }
    }

    /// One tick of 20 ms packets: which packet was played, or whether it was made up.
    fn play(jitter: &mut Jitter, now: Instant) -> Option<u8> {
        if !jitter.tick(now) {
            return None;
        }
        match jitter.next() {
            Next::Packet(place) => Some(jitter.take(place).1[0]),
            Next::Lost { ms, .. } => {
                jitter.pass(ms);
                Some(255)
            }
            Next::Late => {
                jitter.made_up(20);
                Some(255)
            }
        }
    }

    fn push(jitter: &mut Jitter, now: Instant, n: u32) {
        jitter.push(now, &arrival(n), 0, 160, &[n as u8; 160]);
    }

    #[test]
    fn reordered_packets_are_played_in_order_and_a_loss_is_made_up_once() {
        let start = base();
        let mut jitter = Jitter::new(120, 8);
        let mut heard = Vec::new();
        for tick in 0..12u32 {
            let now = start + Duration::from_millis(20 * u64::from(tick));
            let arrives: &[u32] = match tick {
                2 => &[],
                3 => &[3, 2],
                5 => &[],
                11 => &[],
                _ => &[tick],
            };
            for n in arrives {
                push(&mut jitter, now, *n);
            }
            heard.extend(play(&mut jitter, now + Duration::from_millis(15)));
        }
        // Two was late by a tick: made up, then played; five never came.
        assert_eq!(heard, [0, 1, 255, 2, 3, 4, 255, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn a_pause_ends_playing_and_the_next_word_waits_its_turn() {
        let start = base();
        let mut jitter = Jitter::new(120, 8);
        push(&mut jitter, start, 0);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(play(&mut jitter, at(5)), None, "it waits");
        assert_eq!(play(&mut jitter, at(25)), Some(0));
        for tick in 2..7 {
            assert_eq!(play(&mut jitter, at(5 + 20 * tick)), Some(255));
        }
        assert_eq!(play(&mut jitter, at(145)), None);
        assert!(jitter.is_idle());
        push(&mut jitter, at(400), 20);
        assert!(!jitter.is_idle());
        assert_eq!(play(&mut jitter, at(405)), None);
        assert_eq!(play(&mut jitter, at(425)), Some(20));
    }

    #[test]
    fn an_announced_silence_is_no_loss_and_speech_after_it_begins_anew() {
        let start = base();
        let at = |ms| start + Duration::from_millis(ms);
        let mut jitter = Jitter::new(120, 8);
        push(&mut jitter, at(0), 0);
        assert_eq!(play(&mut jitter, at(15)), Some(0));
        assert!(jitter.pause() && jitter.is_idle());
        assert_eq!(play(&mut jitter, at(35)), None, "nothing is made up");
        // 400 ms later, with the timestamps to match.
        push(&mut jitter, at(400), 20);
        push(&mut jitter, at(420), 21);
        assert_eq!(play(&mut jitter, at(415)), Some(20));
        assert!(!jitter.pause(), "what waits is played");
        assert_eq!(play(&mut jitter, at(435)), Some(21));
    }

    #[test]
    fn a_burst_keeps_its_order_within_the_bound() {
        let start = base();
        let at = |ms| start + Duration::from_millis(ms);
        let mut jitter = Jitter::new(100, 8);
        push(&mut jitter, at(0), 0);
        let mut heard: Vec<_> = (0..5)
            .filter_map(|n| play(&mut jitter, at(15 + 20 * n)))
            .collect();
        // The network stood still; then all that was held back comes at once, the newest first.
        for n in (1..12).rev() {
            push(&mut jitter, at(110), n);
        }
        heard.extend((6..20).filter_map(|n| play(&mut jitter, at(15 + 20 * n))));
        let played: Vec<u8> = heard.into_iter().filter(|n| *n != 255).collect();
        assert!(played.is_sorted_by(|a, b| a < b), "{played:?}");
        assert_eq!((played.first(), played.last()), (Some(&0), Some(&11)));
        // No more than the bound and what a tick may hold was left to be played.
        assert!(played.len() <= 1 + 6, "{played:?}");
    }

    #[test]
    fn delay_that_is_not_needed_is_noticed() {
        let start = base();
        let mut jitter = Jitter::new(200, 8);
        let at = |ms: u64| start + Duration::from_millis(ms);
        for n in 0..4 {
            push(&mut jitter, at(1), n);
        }
        for tick in 0..250u32 {
            push(&mut jitter, at(20 * u64::from(tick) + 2), tick + 4);
            play(&mut jitter, at(20 * u64::from(tick) + 15));
        }
        // Each packet waits some 93 ms where 25 are enough.
        assert!(
            (6_500..=7_000).contains(&jitter.drift_ppm()),
            "{}",
            jitter.drift_ppm()
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_is_played_twice_or_backwards(
            steps in proptest::collection::vec((0..30u32, 0..60u64, any::<bool>()), 1..300),
        ) {
            let start = base();
            let mut jitter = Jitter::new(60, 8);
            let (mut now, mut head) = (start, 0u32);
            let mut seen = std::collections::BTreeSet::new();
            let mut last = None;
            for (n, ms, ticks) in steps {
                now += Duration::from_millis(ms);
                if ticks {
                    if jitter.tick(now) {
                        match jitter.next() {
                            Next::Packet(place) => {
                                let (_, payload) = jitter.take(place);
                                let n = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
                                prop_assert!(last.is_none_or(|last| last < n), "{n} after {last:?}");
                                last = Some(n);
                            }
                            Next::Lost { ms, .. } => jitter.pass(ms),
                            Next::Late => { jitter.made_up(20); }
                        }
                    }
                } else {
                    head += n / 10;
                    let n = head + n % 10;
                    if seen.insert(n) {
                        let mut payload = [0; 160];
                        payload[..4].copy_from_slice(&n.to_be_bytes());
                        jitter.push(now, &arrival(n), 0, 160, &payload);
                    }
                }
            }
        }
    }
}
