//! The file thread for players: reads long prompts ahead of when they are played, into rings that workers empty.
//!
//! A ring is two queues of blocks, full and free; neither side ever waits for the other. A worker that finds nothing plays
//! silence and asks again in its next tick. A seek is a number that the worker leaves for the thread: blocks of the
//! place before carry another number and are passed over.

use std::{
    collections::VecDeque,
    fs::File,
    io::BufReader,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_queue::ArrayQueue;
use media_engine::command::{SampleStream, StreamRead, StreamState};
use sound::{Reader, SoundError};

use crate::limits;

/// Length of a block, ms.
const BLOCK_MS: u32 = 100;
/// Blocks of a ring: two seconds.
const BLOCKS: usize = 20;
/// Blocks read before the edit that needs them is carried out.
const PRIMED: usize = 3;
/// How often rings are looked after: workers do not call the thread, for that would be a system call on their tick.
const ROUND: Duration = Duration::from_millis(40);

/// The thread that reads.
#[derive(Debug)]
pub(crate) struct Reading {
    desk: Arc<Desk>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Where new streams are left for the thread.
#[derive(Debug, Default)]
struct Desk {
    arrivals: Mutex<VecDeque<Feeder>>,
    count: AtomicUsize,
    closed: AtomicBool,
}

/// What worker and thread share of one stream.
#[derive(Debug)]
struct Ring {
    full: ArrayQueue<Block>,
    free: ArrayQueue<Block>,
    /// Where to go on: number of the seek in the upper 16 bits, sample in the lower 48.
    wanted: AtomicU64,
}

const SAMPLE_BITS: u32 = 48;

#[derive(Debug)]
struct Block {
    /// Number of the seek that it follows.
    turn: u16,
    pcm: Box<[i16]>,
    samples: usize,
    /// After these samples.
    state: StreamState,
}

/// The reader's end of a stream.
#[derive(Debug)]
struct Feeder {
    ring: Arc<Ring>,
    reader: Reader<BufReader<File>>,
    start: u64,
    turn: u16,
    broken: bool,
    /// The player does not know that yet: there was no free block.
    untold: bool,
}

/// The player's end of a stream.
#[derive(Debug)]
pub(crate) struct Stream {
    ring: Arc<Ring>,
    rate_hz: u32,
    turn: u16,
    block: Option<Block>,
    /// Samples of it that were taken.
    taken: usize,
    broken: bool,
}

impl Reading {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has none to give.
    pub(crate) fn start() -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let own = Arc::clone(&desk);
        let thread = thread::Builder::new()
            .name("prompts".into())
            .spawn(move || run(&own))?;
        Ok(Self {
            desk,
            thread: Some(thread),
        })
    }

    /// Reads `reader` for a player, from sample `start` on, also each time it comes round; `None` when too many are
    /// read already.
    ///
    /// # Errors
    /// The file cannot be read where it begins.
    pub(super) fn begin(
        &mut self,
        mut reader: Reader<BufReader<File>>,
        start: u64,
    ) -> Result<Option<Stream>, SoundError> {
        if self.desk.count.load(Ordering::Relaxed) >= limits::STREAMS_MAX {
            return Ok(None);
        }
        let rate_hz = reader.rate_hz();
        let block = || Block {
            turn: 0,
            pcm: vec![0; (rate_hz / 1_000 * BLOCK_MS) as usize].into_boxed_slice(),
            samples: 0,
            state: StreamState::Ready,
        };
        let ring = Arc::new(Ring {
            full: ArrayQueue::new(BLOCKS),
            free: ArrayQueue::new(BLOCKS),
            wanted: AtomicU64::new(start),
        });
        for _ in 0..BLOCKS {
            drop(ring.free.push(block()));
        }
        if start > 0 {
            reader.seek(start)?;
        }
        let mut feeder = Feeder {
            ring: Arc::clone(&ring),
            reader,
            start,
            turn: 0,
            broken: false,
            untold: false,
        };
        feeder.fill(PRIMED)?;
        self.desk.count.fetch_add(1, Ordering::Relaxed);
        lock(&self.desk.arrivals).push_back(feeder);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        Ok(Some(Stream {
            ring,
            rate_hz,
            turn: 0,
            block: None,
            taken: 0,
            broken: false,
        }))
    }
}

#[cfg(test)]
impl Reading {
    /// Files that are read now.
    pub(super) fn count(&self) -> usize {
        self.desk.count.load(Ordering::Relaxed)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.desk.closed.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of its own was reported where it happened.
            drop(thread.join());
        }
    }
}

fn lock(arrivals: &Mutex<VecDeque<Feeder>>) -> std::sync::MutexGuard<'_, VecDeque<Feeder>> {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(desk: &Desk) {
    let mut feeders: Vec<Feeder> = Vec::new();
    while !desk.closed.load(Ordering::Relaxed) {
        feeders.extend(lock(&desk.arrivals).drain(..));
        // Whose player is gone is held by nobody else.
        let before = feeders.len();
        feeders.retain(|feeder| Arc::strong_count(&feeder.ring) > 1);
        desk.count.fetch_sub(before - feeders.len(), Ordering::Relaxed);
        for feeder in &mut feeders {
            feeder.serve();
        }
        if feeders.is_empty() {
            thread::park();
        } else {
            thread::park_timeout(ROUND);
        }
    }
}

impl Feeder {
    /// Fills what is free, from where the player wants to go on.
    fn serve(&mut self) {
        let wanted = self.ring.wanted.load(Ordering::Acquire);
        let turn = (wanted >> SAMPLE_BITS) as u16;
        let mut sought = Ok(());
        if turn != self.turn {
            self.turn = turn;
            (self.broken, self.untold) = (false, false);
            while let Some(stale) = self.ring.full.pop() {
                drop(self.ring.free.push(stale));
            }
            sought = self.reader.seek(wanted & ((1 << SAMPLE_BITS) - 1));
        }
        if let Err(error) = sought.and_then(|()| self.fill(BLOCKS)) {
            tracing::warn!(%error, "a prompt cannot be read any further");
            self.break_off();
        } else if self.untold {
            self.break_off();
        }
    }

    fn fill(&mut self, blocks: usize) -> Result<(), SoundError> {
        for _ in 0..blocks {
            if self.broken {
                return Ok(());
            }
            let Some(mut block) = self.ring.free.pop() else {
                return Ok(());
            };
            block.turn = self.turn;
            let read = self.reader.read(&mut block.pcm);
            block.samples = *read.as_ref().unwrap_or(&0);
            block.state = match block.samples == block.pcm.len() {
                true => StreamState::Ready,
                false => StreamState::End,
            };
            if let Err(error) = read {
                drop(self.ring.free.push(block));
                return Err(error);
            }
            let ended = block.state == StreamState::End;
            // There are as many places as blocks.
            drop(self.ring.full.push(block));
            if ended {
                self.reader.seek(self.start)?;
            }
        }
        Ok(())
    }

    /// The player is told in its turn: as soon as it has heard one of the blocks, if all are full.
    fn break_off(&mut self) {
        self.broken = true;
        let block = self.ring.free.pop();
        self.untold = block.is_none();
        if let Some(mut block) = block {
            (block.turn, block.samples, block.state) = (self.turn, 0, StreamState::Broken);
            drop(self.ring.full.push(block));
        }
    }
}

impl SampleStream for Stream {
    fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn read(&mut self, pcm: &mut [i16]) -> StreamRead {
        let mut samples = 0;
        let state = loop {
            if self.broken {
                break StreamState::Broken;
            }
            let Some(block) = self.block.take().or_else(|| self.ring.full.pop()) else {
                break StreamState::Late;
            };
            if block.turn != self.turn {
                drop(self.ring.free.push(block));
                continue;
            }
            let left = &block.pcm[self.taken..block.samples];
            let count = left.len().min(pcm.len() - samples);
            pcm[samples..samples + count].copy_from_slice(&left[..count]);
            samples += count;
            self.taken += count;
            if self.taken < block.samples {
                self.block = Some(block);
                break StreamState::Ready;
            }
            self.taken = 0;
            let state = block.state;
            drop(self.ring.free.push(block));
            match state {
                StreamState::Ready | StreamState::Late if samples < pcm.len() => {}
                StreamState::Ready | StreamState::Late => break StreamState::Ready,
                StreamState::End => break StreamState::End,
                StreamState::Broken => self.broken = true,
            }
        };
        StreamRead { samples, state }
    }

    fn seek(&mut self, sample: u64) {
        self.turn = self.turn.wrapping_add(1);
        self.broken = false;
        self.taken = 0;
        if let Some(stale) = self.block.take() {
            drop(self.ring.free.push(stale));
        }
        let sample = sample.min((1 << SAMPLE_BITS) - 1);
        let wanted = u64::from(self.turn) << SAMPLE_BITS | sample;
        self.ring.wanted.store(wanted, Ordering::Release);
    }
}
