//! Audio between a tap and the program attached to it: a ring of samples each way, shared by a worker's engine and whoever
//! serves the program. Neither side ever waits for the other: the engine writes what the tap hears over the oldest, and a
//! program that was too slow for that is told how much it missed; the program writes no more than there is room for.
//!
//! ```
//! use media_engine::tap::{Program, TapPort};
//!
//! let port = TapPort::new(16_000);
//! let mut program = Program::attach(&port).expect("nobody else is");
//! assert!(Program::attach(&port).is_none());
//! assert_eq!(program.speak(&[0; 320]), 320);
//! assert_eq!(program.hear(&mut [0; 320]), None, "no tick has passed");
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI16, AtomicU64, Ordering, fence},
};

use crate::limits;

/// The rings between a tap and its program, and what each side says of itself.
#[derive(Debug)]
pub struct TapPort {
    sample_rate_hz: u32,
    heard: Ring,
    spoken: Ring,
    /// What was spoken before is not to be played.
    flushed: AtomicU64,
    attached: AtomicBool,
    /// Somebody else wants to be attached.
    evicted: AtomicBool,
    /// The tap is gone, or runs at another rate.
    closed: AtomicBool,
    /// Something happened since the program looked.
    news: AtomicBool,
    /// Samples lost by slow programs.
    lost: AtomicU64,
}

/// Counters of a tap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TapFigures {
    /// A program is attached.
    pub attached: bool,
    /// Samples it was offered.
    pub heard: u64,
    /// Of them, those it was too slow for.
    pub lost: u64,
    /// Samples of the program that were played.
    pub played: u64,
    /// Samples of the program that wait.
    pub waiting: u64,
}

impl TapPort {
    /// The rings of a tap at `sample_rate_hz`.
    pub fn new(sample_rate_hz: u32) -> Arc<Self> {
        let samples = |ms: u32| (sample_rate_hz / 1_000 * ms) as usize;
        Arc::new(Self {
            sample_rate_hz,
            heard: Ring::new(samples(limits::TAP_HEARD_MS)),
            spoken: Ring::new(samples(limits::TAP_SPOKEN_MS)),
            flushed: AtomicU64::new(0),
            attached: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            news: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        })
    }

    /// The rate towards the program.
    pub fn sample_rate_hz(&self) -> u32 {
        self.sample_rate_hz
    }

    /// Asks the program that is attached to leave.
    pub fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.news.store(true, Ordering::Release);
    }

    /// Throws away what the program has spoken and was not played.
    pub fn flush(&self) {
        self.flushed.fetch_max(self.spoken.written(), Ordering::AcqRel);
        self.news.store(true, Ordering::Release);
    }

    /// The tap is gone.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.news.store(true, Ordering::Release);
    }

    /// Whether something happened that the program should look at, since the last call.
    pub fn take_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::AcqRel)
    }

    /// A program is attached.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// Counters.
    pub fn figures(&self) -> TapFigures {
        let (played, written) = (self.spoken.read_to(), self.spoken.written());
        TapFigures {
            attached: self.is_attached(),
            heard: self.heard.written(),
            lost: self.lost.load(Ordering::Relaxed),
            played,
            waiting: written.saturating_sub(played.max(self.flushed.load(Ordering::Acquire))),
        }
    }

    /// The engine's: what the tap hears in this tick.
    pub(crate) fn write(&self, pcm: &[i16]) {
        self.heard.write(pcm);
        self.news.store(true, Ordering::Release);
    }

    /// The engine's: how many samples of the program wait to be played.
    pub(crate) fn waiting(&self) -> usize {
        let from = self.spoken.read_to().max(self.flushed.load(Ordering::Acquire));
        self.spoken.written().saturating_sub(from) as usize
    }

    /// The engine's: the next samples of the program; how many there were.
    pub(crate) fn play(&self, room: &mut [i16]) -> usize {
        let from = self.spoken.read_to().max(self.flushed.load(Ordering::Acquire));
        let count = (self.spoken.written().saturating_sub(from) as usize).min(room.len());
        self.spoken.copy(from, &mut room[..count]);
        let end = from + count as u64;
        if end != self.spoken.read_to() {
            self.spoken.read.store(end, Ordering::Release);
            self.news.store(true, Ordering::Release);
        }
        count
    }
}

/// What a program hears next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Of the first sample, since the program was attached.
    pub position: u64,
    /// Samples lost before it, because the program was too slow.
    pub lost: u64,
}

/// The program's side of a tap; when it is dropped, the program is detached, and what it has spoken is still played.
#[derive(Debug)]
pub struct Program {
    port: Arc<TapPort>,
    /// Where the program's position 0 is.
    heard_from: u64,
    heard_to: u64,
}

impl Program {
    /// Attaches to `port`; `None` while another program is.
    pub fn attach(port: &Arc<TapPort>) -> Option<Self> {
        let free = port
            .attached
            .compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire);
        free.ok()?;
        port.evicted.store(false, Ordering::Release);
        let at = port.heard.written();
        Some(Self {
            port: port.clone(),
            heard_from: at,
            heard_to: at,
        })
    }

    /// Somebody else wants to be attached.
    pub fn is_evicted(&self) -> bool {
        self.port.evicted.load(Ordering::Acquire)
    }

    /// The tap is gone.
    pub fn is_closed(&self) -> bool {
        self.port.closed.load(Ordering::Acquire)
    }

    /// Fills `pcm` with what the tap heard next; `None` while there is less than that.
    pub fn hear(&mut self, pcm: &mut [i16]) -> Option<Heard> {
        let (count, size) = (pcm.len() as u64, self.port.heard.samples.len() as u64);
        let mut lost = 0;
        loop {
            let written = self.port.heard.written();
            let oldest = written.saturating_sub(size);
            if self.heard_to < oldest {
                // Some way into what is still there, or the engine would be over it again at once.
                let next = oldest + count.max(size / 8);
                lost += next - self.heard_to;
                self.heard_to = next;
            }
            if written < self.heard_to + count {
                return None;
            }
            self.port.heard.copy(self.heard_to, pcm);
            fence(Ordering::Acquire);
            if self.port.heard.reserved.load(Ordering::Relaxed) <= self.heard_to + size {
                break;
            }
        }
        let position = self.heard_to - self.heard_from;
        self.heard_to += count;
        self.port.lost.fetch_add(lost, Ordering::Relaxed);
        Some(Heard { position, lost })
    }

    /// Speaks `pcm` after what waits; gives how many samples there was room for.
    pub fn speak(&mut self, pcm: &[i16]) -> usize {
        let spoken = &self.port.spoken;
        let waiting = spoken.written() - spoken.read_to();
        let room = spoken.samples.len().saturating_sub(waiting as usize);
        let count = room.min(pcm.len());
        spoken.write(&pcm[..count]);
        count
    }

    /// Samples spoken so far, whoever spoke them.
    pub fn spoken(&self) -> u64 {
        self.port.spoken.written()
    }

    /// Up to which of them all was played or thrown away.
    pub fn played(&self) -> u64 {
        let played = self.port.spoken.read_to();
        played.max(self.port.flushed.load(Ordering::Acquire))
    }

    /// Throws away what waits.
    pub fn flush(&mut self) {
        self.port.flush();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.port.attached.store(false, Ordering::Release);
    }
}

/// Samples from one writer to one reader. Positions count for ever.
#[derive(Debug)]
struct Ring {
    samples: Box<[AtomicI16]>,
    /// Places before this one are written, or are just being written over.
    reserved: AtomicU64,
    written: AtomicU64,
    /// Where the reader says it is.
    read: AtomicU64,
}

impl Ring {
    fn new(samples: usize) -> Self {
        Self {
            samples: (0..samples).map(|_| AtomicI16::new(0)).collect(),
            reserved: AtomicU64::new(0),
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
        }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn read_to(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }

    /// The writer's. A reader who looks at the same places meanwhile sees by `reserved` that they were written over.
    fn write(&self, pcm: &[i16]) {
        let at = self.written.load(Ordering::Relaxed);
        let end = at + pcm.len() as u64;
        self.reserved.store(end, Ordering::Relaxed);
        fence(Ordering::Release);
        let (first, second) = self.places(at, pcm.len());
        for (place, sample) in first.iter().chain(second).zip(pcm) {
            place.store(*sample, Ordering::Relaxed);
        }
        self.written.store(end, Ordering::Release);
    }

    fn copy(&self, from: u64, pcm: &mut [i16]) {
        let (first, second) = self.places(from, pcm.len());
        for (sample, place) in pcm.iter_mut().zip(first.iter().chain(second)) {
            *sample = place.load(Ordering::Relaxed);
        }
    }

    /// The places from position `at`, in their order.
    fn places(&self, at: u64, count: usize) -> (&[AtomicI16], &[AtomicI16]) {
        let start = (at % self.samples.len() as u64) as usize;
        let end = (start + count).min(self.samples.len());
        let rest = (count - (end - start)).min(start);
        (&self.samples[start..end], &self.samples[..rest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(from: u64, count: usize) -> Vec<i16> {
        (from..).take(count).map(|n| n as i16).collect()
    }

    #[test]
    fn a_program_hears_everything_in_order_from_when_it_was_attached() {
        let port = TapPort::new(8_000);
        port.write(&ramp(0, 160));
        let mut program = Program::attach(&port).expect("free");
        let mut pcm = [0; 160];
        assert_eq!(program.hear(&mut pcm), None);
        for n in 0..100u64 {
            port.write(&ramp(160 * n, 160));
            let heard = program.hear(&mut pcm).expect("a frame is there");
            assert_eq!((heard.position, heard.lost), (160 * n, 0));
            assert_eq!(pcm[..], ramp(160 * n, 160)[..]);
        }
        assert!(port.take_news() && !port.take_news());
    }

    #[test]
    fn a_slow_program_loses_the_oldest_and_knows_how_much() {
        let port = TapPort::new(8_000);
        let mut program = Program::attach(&port).expect("free");
        let size = 8 * u64::from(limits::TAP_HEARD_MS);
        for n in 0..size / 160 + 50 {
            port.write(&ramp(160 * n, 160));
        }
        let mut pcm = [0; 160];
        let heard = program.hear(&mut pcm).expect("the newest are there");
        assert!(
            heard.lost >= 50 * 160 && heard.lost <= 50 * 160 + size / 4,
            "{heard:?}"
        );
        assert_eq!(heard.position, heard.lost);
        assert_eq!(pcm[..], ramp(heard.position, 160)[..]);
        assert_eq!(port.figures().lost, heard.lost);
        let after = program.hear(&mut pcm).expect("more is there");
        assert_eq!((after.position, after.lost), (heard.position + 160, 0));
    }

    #[test]
    fn what_is_spoken_is_played_once_and_no_more_than_fits_is_taken() {
        let port = TapPort::new(8_000);
        let mut program = Program::attach(&port).expect("free");
        let size = 8 * limits::TAP_SPOKEN_MS as usize;
        let mut spoken = 0;
        while program.speak(&ramp(spoken, 160)) == 160 {
            spoken += 160;
        }
        assert_eq!(spoken as usize, size / 160 * 160);
        let mut room = [0; 100];
        let mut played = 0;
        loop {
            let count = port.play(&mut room);
            assert_eq!(room[..count], ramp(played, count)[..]);
            played += count as u64;
            if count < 100 {
                break;
            }
        }
        assert_eq!(program.played(), program.spoken());
        assert_eq!(port.figures().waiting, 0);
    }

    #[test]
    fn a_flush_throws_away_what_waits_and_nothing_after() {
        let port = TapPort::new(8_000);
        let mut program = Program::attach(&port).expect("free");
        program.speak(&[1; 800]);
        let mut room = [0; 160];
        assert_eq!(port.play(&mut room), 160);
        program.flush();
        assert_eq!(program.played(), 800);
        program.speak(&[2; 80]);
        assert_eq!((port.play(&mut room), room[0]), (80, 2));
        assert_eq!(port.play(&mut room), 0);
    }

    #[test]
    fn one_program_at_a_time_and_the_next_when_it_left() {
        let port = TapPort::new(8_000);
        let first = Program::attach(&port).expect("free");
        assert!(Program::attach(&port).is_none());
        port.evict();
        assert!(first.is_evicted());
        drop(first);
        let second = Program::attach(&port).expect("free again");
        assert!(!second.is_evicted() && !second.is_closed());
        port.close();
        assert!(second.is_closed());
    }

    /// A reader that is overtaken while it reads never takes what is half written for sound.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "two threads are what is tested")]
    fn the_two_sides_may_be_on_two_threads() {
        let port = TapPort::new(8_000);
        let mut program = Program::attach(&port).expect("free");
        let writer = port.clone();
        let total = 20_000 * 160;
        let thread = std::thread::spawn(move || {
            for n in 0..20_000u64 {
                writer.write(&ramp(160 * n, 160));
            }
        });
        let (mut pcm, mut told) = ([0; 160], 0);
        while told < total {
            let finished = thread.is_finished();
            match program.hear(&mut pcm) {
                Some(heard) => {
                    assert_eq!(heard.position, told + heard.lost);
                    assert_eq!(pcm[..], ramp(heard.position, 160)[..]);
                    told = heard.position + 160;
                }
                None if finished => break,
                None => std::thread::yield_now(),
            }
        }
        thread.join().expect("the writer does not panic");
        assert!(told > 0);
    }
}
