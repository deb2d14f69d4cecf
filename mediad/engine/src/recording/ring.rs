//! What a worker hands to the file thread: a bounded ring of records between one writer and one reader, made once and
//! never locked.
//!
//! The writer is the worker that carries the session; writing copies and never waits. A ring that is full loses what
//! does not fit, and says so in its next record: a disk that is too slow costs recorded audio only. Records are kept
//! in words that are atomic each, so that a reader that broke the rules would read nonsense and nothing worse.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use codecs::CodecKind;

use crate::limits;

/// Words of a record before its payload.
const HEAD_WORDS: usize = 6;
/// Words that audio leaves free, so that what is about the recording itself still fits.
const RESERVE_WORDS: usize = 256;
/// The largest payload: what fits a datagram.
const PAYLOAD_BYTES_MAX: usize = 2_048;

const KIND_LEG: u64 = 1;
const KIND_PACKET: u64 = 2;
const KIND_FRAME: u64 = 3;
const KIND_PAUSE: u64 = 4;
const KIND_RESUME: u64 = 5;
const KIND_LOST: u64 = 6;
const KIND_BEGIN: u64 = 7;
const KIND_LIMITS: u64 = 8;
const KIND_NOISE: u64 = 9;
const KIND_EVENT: u64 = 10;

/// The words of a ring and where its two ends are.
struct Ring {
    words: Box<[AtomicU64]>,
    /// Words written since the start.
    written: AtomicU64,
    /// Words read since the start.
    read: AtomicU64,
    /// The word that is first in `words`: moved up by the writer when all is read, so that a reader who keeps up costs
    /// neither side more than a few lines of cache.
    origin: AtomicU64,
    /// Nothing is to be written: paused, or nobody reads any more.
    paused: AtomicBool,
    abandoned: AtomicBool,
    /// When the writer closed it, in ns since `base`, plus 1.
    closed: AtomicU64,
    /// Records lost since the last one that fitted, and when the first and the last of them were.
    lost: [AtomicU64; 3],
    base: Instant,
}

/// The writer's end. Its clones write to the same ring, from one thread.
#[derive(Clone)]
pub struct RecordingFeed(Arc<Ring>);

/// The reader's end.
pub struct Intake {
    ring: Arc<Ring>,
    payload: Box<[u8]>,
}

/// How the writer places audio in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placing {
    /// Number of the leg in this recording.
    pub leg: u16,
    /// Channel of a stereo recording.
    pub right: bool,
    /// As of [`codecs::mix::gain_from_db`].
    pub gain: i32,
}

/// Where a packet stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// When it came, in ns since the ring's base.
    pub at_ns: u64,
    /// Its stream: another one has other numbers and timestamps.
    pub stream: u64,
    /// Extended sequence number.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
}

/// One record, as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// The recording starts here, in ns since the ring's base.
    Begin(u64),
    /// A leg's name.
    Leg(u16, &'a str),
    /// Longest duration in ms and largest size in bytes from now on.
    Limits(u64, u64),
    /// A packet of an endpoint.
    Packet(Placing, Position, CodecKind, &'a [u8]),
    /// A silence of an endpoint begins or goes on: a description of its noise (RFC 3389) on a clock in Hz.
    Noise(Placing, Position, u32, &'a [u8]),
    /// A telephone-event of an endpoint, which has no sound.
    Event(Placing, Position),
    /// A frame of a mix: samples at a rate, low byte first. Its sequence is the time of its tick in ms, its timestamp that
    /// in 1/48 ms.
    Frame(Placing, Position, u32, &'a [u8]),
    /// Nothing is heard from here on.
    Pause(u64),
    /// It is again.
    Resume(u64),
    /// The ring was full: so many records were lost between these two times.
    Lost(u64, u64, u64),
}

/// A ring of about `bytes`, and both of its ends. Times in it count from `base`.
pub fn ring(bytes: usize, base: Instant) -> (RecordingFeed, Intake) {
    let words = (bytes / 8).next_power_of_two().max(4 * RESERVE_WORDS);
    let ring = Arc::new(Ring {
        words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        written: AtomicU64::new(0),
        read: AtomicU64::new(0),
        origin: AtomicU64::new(0),
        paused: AtomicBool::new(false),
        abandoned: AtomicBool::new(false),
        closed: AtomicU64::new(0),
        lost: [const { AtomicU64::new(0) }; 3],
        base,
    });
    let intake = Intake {
        ring: Arc::clone(&ring),
        payload: vec![0; PAYLOAD_BYTES_MAX].into_boxed_slice(),
    };
    (RecordingFeed(ring), intake)
}

impl RecordingFeed {
    /// The recording starts.
    pub fn begin(&self, now: Instant) {
        self.write([KIND_BEGIN, self.since_base(now), 0, 0, 0, 0], &[], 0);
    }

    /// Tells a leg's name.
    pub fn leg(&self, leg: u16, name: &str) {
        self.write(
            [KIND_LEG | u64::from(leg) << 16, 0, 0, 0, 0, 0],
            name.as_bytes(),
            0,
        );
    }

    /// Tells the longest duration in ms and the largest size in bytes.
    pub fn limits(&self, duration_ms: u64, bytes: u64) {
        self.write([KIND_LIMITS, duration_ms, bytes, 0, 0, 0], &[], 0);
    }

    /// Writes a packet, unless paused.
    #[inline]
    pub fn packet(
        &self,
        placing: Placing,
        at: Instant,
        numbers: (u64, u64, u32),
        kind: CodecKind,
        payload: &[u8],
    ) {
        let (code, rate_hz) = code_of(kind);
        let Some(position) = self.position(at, numbers) else {
            return;
        };
        self.audio(KIND_PACKET | code << 40, placing, position, rate_hz, payload);
    }

    /// Writes the description of a silence, unless paused.
    pub fn noise(
        &self,
        placing: Placing,
        at: Instant,
        numbers: (u64, u64, u32),
        clock_hz: u32,
        payload: &[u8],
    ) {
        let Some(position) = self.position(at, numbers) else {
            return;
        };
        self.audio(KIND_NOISE, placing, position, clock_hz, payload);
    }

    /// Writes that a telephone-event came, unless paused.
    pub fn event(&self, placing: Placing, at: Instant, numbers: (u64, u64, u32)) {
        let Some(position) = self.position(at, numbers) else {
            return;
        };
        self.audio(KIND_EVENT, placing, position, 0, &[]);
    }

    /// Writes a frame of a mix at `rate_hz`, unless paused.
    pub fn frame(&self, placing: Placing, at: Instant, millis: u64, rate_hz: u32, pcm: &[i16]) {
        if self.is_deaf() {
            return;
        }
        let position = Position {
            at_ns: self.since_base(at),
            stream: 0,
            sequence: millis,
            timestamp: millis.wrapping_mul(48) as u32,
        };
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let bytes = payload.len().min(pcm.len() * 2);
        for (to, sample) in payload.chunks_exact_mut(2).zip(pcm) {
            to.copy_from_slice(&sample.to_le_bytes());
        }
        self.audio(KIND_FRAME, placing, position, rate_hz, &payload[..bytes]);
    }

    /// Nothing passes from here on, or everything does again.
    pub fn pause(&self, now: Instant, paused: bool) {
        if self.0.paused.swap(paused, Ordering::Relaxed) != paused {
            let kind = if paused { KIND_PAUSE } else { KIND_RESUME };
            self.write([kind, self.since_base(now), 0, 0, 0, 0], &[], 0);
        }
    }

    /// The recording ends here. What is written later is not read.
    pub fn close(&self, now: Instant) {
        self.0.closed.store(self.since_base(now) + 1, Ordering::Release);
    }

    /// What is read for each record.
    pub(crate) fn state(&self) -> (*const u8, usize) {
        (std::ptr::from_ref(&*self.0).cast(), size_of::<Ring>())
    }

    /// Where the next record is written: for hints.
    pub fn next(&self) -> *const u8 {
        let ring = &*self.0;
        let start = ring.written.load(Ordering::Relaxed);
        let at = match ring.read.load(Ordering::Relaxed) == start {
            true => 0,
            false => ring.index(start),
        };
        ring.words.as_ptr().wrapping_add(at).cast()
    }

    fn is_deaf(&self) -> bool {
        self.0.paused.load(Ordering::Relaxed) || self.0.abandoned.load(Ordering::Relaxed)
    }

    /// `None` while paused.
    fn position(&self, at: Instant, (stream, sequence, timestamp): (u64, u64, u32)) -> Option<Position> {
        (!self.is_deaf()).then(|| Position {
            at_ns: self.since_base(at),
            stream,
            sequence,
            timestamp,
        })
    }

    fn since_base(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.0.base).as_nanos() as u64
    }

    fn audio(&self, kind: u64, placing: Placing, position: Position, rate_hz: u32, payload: &[u8]) {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return;
        }
        let [count, from, to] = &self.0.lost;
        let lost = count.load(Ordering::Relaxed);
        if lost > 0 {
            let (from, to) = (from.load(Ordering::Relaxed), to.load(Ordering::Relaxed));
            // Only together with what comes after it: a loss that goes on is told once.
            let reserve = RESERVE_WORDS + HEAD_WORDS + payload.len().div_ceil(8);
            if !self.write([KIND_LOST, from, to, lost, 0, 0], &[], reserve) {
                return self.lose(position.at_ns);
            }
            count.store(0, Ordering::Relaxed);
        }
        let head = [
            kind | u64::from(placing.leg) << 16 | u64::from(placing.right) << 48,
            position.at_ns,
            position.sequence,
            position.stream,
            u64::from(position.timestamp) | u64::from(rate_hz) << 32,
            u64::from(placing.gain as u32),
        ];
        if !self.write(head, payload, RESERVE_WORDS) {
            self.lose(position.at_ns);
        }
    }

    fn lose(&self, at_ns: u64) {
        let [count, from, to] = &self.0.lost;
        let lost = count.load(Ordering::Relaxed);
        if lost == 0 {
            from.store(at_ns, Ordering::Relaxed);
        }
        to.store(at_ns, Ordering::Relaxed);
        count.store(lost + 1, Ordering::Relaxed);
    }

    /// Writes one record if it leaves `reserve` words free. The payload's length goes into the upper half of the head's
    /// last word.
    #[inline]
    fn write(&self, mut head: [u64; HEAD_WORDS], payload: &[u8], reserve: usize) -> bool {
        let ring = &*self.0;
        let needed = HEAD_WORDS + payload.len().div_ceil(8);
        let start = ring.written.load(Ordering::Relaxed);
        let used = start.wrapping_sub(ring.read.load(Ordering::Acquire)) as usize;
        if used + needed + reserve > ring.words.len() {
            return false;
        }
        if used == 0 {
            // The reader looks for this only once it knows of more words.
            ring.origin.store(start, Ordering::Relaxed);
        }
        head[HEAD_WORDS - 1] |= (payload.len() as u64) << 32;
        match ring.part(start, needed) {
            (all, []) => put(all.iter(), head, payload),
            (first, then) => put(first.iter().chain(then), head, payload),
        }
        ring.written.store(start + needed as u64, Ordering::Release);
        true
    }
}

impl Ring {
    fn index(&self, at: u64) -> usize {
        at.wrapping_sub(self.origin.load(Ordering::Relaxed)) as usize & (self.words.len() - 1)
    }

    /// The words from `at` on, in two parts where the ring ends between them.
    fn part(&self, at: u64, count: usize) -> (&[AtomicU64], &[AtomicU64]) {
        let words = &*self.words;
        let from = self.index(at);
        let first = count.min(words.len() - from);
        (&words[from..from + first], &words[..count - first])
    }
}

fn put<'a>(mut to: impl Iterator<Item = &'a AtomicU64>, head: [u64; HEAD_WORDS], payload: &[u8]) {
    let (whole, rest) = payload.as_chunks::<8>();
    for (word, to) in head.into_iter().zip(&mut to) {
        to.store(word, Ordering::Relaxed);
    }
    for (chunk, to) in whole.iter().zip(&mut to) {
        to.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    if let Some(to) = to.next().filter(|_| !rest.is_empty()) {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        to.store(u64::from_le_bytes(last), Ordering::Relaxed);
    }
}

fn take<'a>(mut from: impl Iterator<Item = &'a AtomicU64>, payload: &mut [u8]) {
    let (whole, rest) = payload.as_chunks_mut::<8>();
    for (chunk, from) in whole.iter_mut().zip(&mut from) {
        *chunk = from.load(Ordering::Relaxed).to_le_bytes();
    }
    if let Some(from) = from.next() {
        rest.copy_from_slice(&from.load(Ordering::Relaxed).to_le_bytes()[..rest.len()]);
    }
}

impl Intake {
    /// Takes out all that is there and gives it to `each`. Gives the time of the end, once it was closed and all was read.
    pub fn drain(&mut self, mut each: impl FnMut(Record<'_>)) -> Option<u64> {
        // Looked at first: what was written before it is then seen below.
        let closed = self.ring.closed.load(Ordering::Acquire);
        let written = self.ring.written.load(Ordering::Acquire);
        let mut at = self.ring.read.load(Ordering::Relaxed);
        while at < written {
            at = self.read_one(at, written, &mut each);
            self.ring.read.store(at, Ordering::Release);
        }
        let ended = closed.checked_sub(1)?;
        let [count, from, to] = &self.ring.lost;
        let lost = count.swap(0, Ordering::Relaxed);
        if lost > 0 {
            each(Record::Lost(
                from.load(Ordering::Relaxed),
                to.load(Ordering::Relaxed),
                lost,
            ));
        }
        Some(ended)
    }

    /// Nobody reads any more: the writer may spare itself the work.
    pub fn abandon(&self) {
        self.ring.abandoned.store(true, Ordering::Relaxed);
    }

    /// Nanoseconds of `at` since the ring's base.
    pub fn since_base(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.ring.base).as_nanos() as u64
    }

    fn read_one(&mut self, at: u64, written: u64, each: &mut impl FnMut(Record<'_>)) -> u64 {
        let (begin, then) = self.ring.part(at, HEAD_WORDS);
        let mut head = begin.iter().chain(then);
        let [first, at_ns, sequence, stream, timing, last] =
            std::array::from_fn(|_| head.next().map_or(0, |word| word.load(Ordering::Relaxed)));
        let bytes = (last >> 32) as usize;
        let next = at + (HEAD_WORDS + bytes.div_ceil(8)) as u64;
        let Some(payload) = self.payload.get_mut(..bytes).filter(|_| next <= written) else {
            // Not written by a `RecordingFeed` that kept to one thread: nothing after it can be trusted.
            return written;
        };
        match self.ring.part(at + HEAD_WORDS as u64, bytes.div_ceil(8)) {
            (all, []) => take(all.iter(), payload),
            (first, then) => take(first.iter().chain(then), payload),
        }
        let placing = Placing {
            leg: (first >> 16) as u16,
            right: first >> 48 & 1 == 1,
            gain: last as u32 as i32,
        };
        let position = Position {
            at_ns,
            stream,
            sequence,
            timestamp: timing as u32,
        };
        let rate_hz = (timing >> 32) as u32;
        match first & 0xff {
            KIND_LEG => each(Record::Leg(
                placing.leg,
                str::from_utf8(payload).unwrap_or_default(),
            )),
            KIND_PACKET => {
                if let Some(kind) = kind_of(first >> 40 & 0xff, rate_hz) {
                    each(Record::Packet(placing, position, kind, payload));
                }
            }
            KIND_NOISE => each(Record::Noise(placing, position, rate_hz, payload)),
            KIND_EVENT => each(Record::Event(placing, position)),
            KIND_FRAME => each(Record::Frame(placing, position, rate_hz, payload)),
            KIND_PAUSE => each(Record::Pause(at_ns)),
            KIND_RESUME => each(Record::Resume(at_ns)),
            KIND_LOST => each(Record::Lost(at_ns, sequence, stream)),
            KIND_BEGIN => each(Record::Begin(at_ns)),
            KIND_LIMITS => each(Record::Limits(at_ns, sequence)),
            _ => {}
        }
        next
    }
}

/// Bytes of a ring for a recording of sources at `rate_hz`.
pub fn ring_bytes(rate_hz: u32) -> usize {
    if rate_hz <= 8_000 {
        limits::RECORDING_RING_BYTES_NARROW
    } else {
        limits::RECORDING_RING_BYTES_WIDE
    }
}

fn code_of(kind: CodecKind) -> (u64, u32) {
    match kind {
        CodecKind::Pcmu => (0, 0),
        CodecKind::Pcma => (1, 0),
        CodecKind::G722 => (2, 0),
        CodecKind::Opus => (3, 0),
        CodecKind::L16 { sample_rate_hz } => (4, sample_rate_hz),
    }
}

fn kind_of(code: u64, sample_rate_hz: u32) -> Option<CodecKind> {
    match code {
        0 => Some(CodecKind::Pcmu),
        1 => Some(CodecKind::Pcma),
        2 => Some(CodecKind::G722),
        3 => Some(CodecKind::Opus),
        4 => Some(CodecKind::L16 { sample_rate_hz }),
        _ => None,
    }
}

impl std::fmt::Debug for RecordingFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecordingFeed({} words)", self.0.words.len())
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Intake({} words)", self.ring.words.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn base() -> Instant {
        Instant::now()
    }

    const LEFT: Placing = Placing {
        leg: 3,
        right: false,
        gain: -5,
    };

    fn drained(intake: &mut Intake) -> (Vec<String>, Option<u64>) {
        let mut records = Vec::new();
        let end = intake.drain(|record| records.push(format!("{record:?}")));
        (records, end)
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let start = base();
        let (feed, mut intake) = ring(16_384, start);
        let at = start + std::time::Duration::from_millis(20);
        feed.begin(start);
        feed.leg(3, "caller");
        let kind = CodecKind::L16 {
            sample_rate_hz: 48_000,
        };
        feed.packet(
            LEFT,
            at,
            (9, 70_000, u32::MAX),
            kind,
            &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        );
        feed.frame(LEFT, at, 5, 8_000, &[-2, 513]);
        feed.pause(at, true);
        feed.pause(at, true);
        feed.packet(LEFT, at, (9, 70_001, 0), kind, &[1]);
        feed.pause(at, false);
        feed.close(at);
        let position = |stream, sequence, timestamp| Position {
            at_ns: 20_000_000,
            stream,
            sequence,
            timestamp,
        };
        let wanted = [
            Record::Begin(0),
            Record::Leg(3, "caller"),
            Record::Packet(
                LEFT,
                position(9, 70_000, u32::MAX),
                kind,
                &[1, 2, 3, 4, 5, 6, 7, 8, 9],
            ),
            Record::Frame(LEFT, position(0, 5, 240), 8_000, &[254, 255, 1, 2]),
            Record::Pause(20_000_000),
            Record::Resume(20_000_000),
        ]
        .map(|record| format!("{record:?}"));
        assert_eq!(drained(&mut intake), (wanted.to_vec(), Some(20_000_000)));
    }

    #[test]
    fn a_full_ring_loses_the_newest_and_says_how_many() {
        let start = base();
        let (feed, mut intake) = ring(8_192, start);
        let write = |count: u64| {
            for n in 0..count {
                let at = start + std::time::Duration::from_nanos(n);
                feed.packet(LEFT, at, (1, n, 0), CodecKind::Pcmu, &[0; 160]);
            }
        };
        write(100);
        feed.pause(start, true);
        feed.pause(start, false);
        let (records, _) = drained(&mut intake);
        let fitted = records.len() - 2;
        assert!((10..100).contains(&fitted), "{fitted} fitted");
        assert!(records[fitted].starts_with("Pause") && records[fitted + 1].starts_with("Resume"));
        write(1);
        let (records, end) = drained(&mut intake);
        assert_eq!(
            records[0],
            format!("{:?}", Record::Lost(fitted as u64, 99, 100 - fitted as u64))
        );
        assert!(records[1].starts_with("Packet"));
        assert_eq!(end, None);
        // Lost at the very end is told as well.
        write(100);
        feed.close(start);
        let (records, end) = drained(&mut intake);
        assert!(
            records.last().is_some_and(|last| last.starts_with("Lost")),
            "{records:?}"
        );
        assert_eq!(end, Some(0));
    }

    #[test]
    fn who_keeps_up_uses_the_beginning_alone() {
        let start = base();
        let (feed, mut intake) = ring(8_192, start);
        let first: *const u8 = intake.ring.words.as_ptr().cast();
        for n in 0..1_000_u64 {
            for (records, sequence) in [2 * n, 2 * n + 1].into_iter().enumerate() {
                assert_eq!(feed.next(), first.wrapping_add(records * 8 * (HEAD_WORDS + 20)));
                feed.packet(LEFT, start, (1, sequence, 0), CodecKind::Pcma, &[7; 160]);
            }
            assert_eq!(drained(&mut intake).0.len(), 2);
        }
        let used = intake
            .ring
            .words
            .iter()
            .rposition(|word| word.load(Ordering::Relaxed) != 0);
        assert_eq!(used, Some(2 * (HEAD_WORDS + 20) - 1));
    }

    #[test]
    fn two_threads_pass_a_million_words_on_in_order() {
        let start = base();
        let (feed, mut intake) = ring(8_192, start);
        let writer = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 0..20_000_u64 {
                    let payload = n.to_le_bytes().repeat(1 + (n % 20) as usize);
                    feed.packet(LEFT, start, (1, n, n as u32), CodecKind::Pcma, &payload);
                }
                feed.close(start);
            });
            let (mut next, mut lost) = (0, 0);
            while intake
                .drain(|record| match record {
                    Record::Packet(_, position, _, payload) => {
                        assert!(position.sequence >= next);
                        next = position.sequence + 1;
                        assert!(
                            payload
                                .chunks(8)
                                .all(|chunk| chunk == position.sequence.to_le_bytes())
                        );
                    }
                    Record::Lost(_, _, count) => lost += count,
                    other => panic!("{other:?}"),
                })
                .is_none()
            {
                std::thread::yield_now();
            }
            writer.join().expect("the writer ends");
            lost
        });
        assert!(writer < 20_000);
    }
}
