//! Carries the journal into a [`Store`], from a thread of its own.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use call_control::Record;

use super::{PROJECTED, Store, StoreError};
use crate::{
    journal::{self, segment},
    limits,
};

/// Reads the records of a journal in order, and goes on where it was when more were written.
#[derive(Debug)]
pub(crate) struct Tail {
    directory: PathBuf,
    /// The segment read from, and how far.
    at: Option<(PathBuf, u64)>,
    /// Records up to this are passed over.
    after: u64,
}

impl Tail {
    /// Begins after record number `after`.
    pub(crate) fn new(directory: &Path, after: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            at: None,
            after,
        }
    }

    /// The next records that a store makes something of, at most `most`; none when there are no more for now.
    pub(crate) fn read(&mut self, most: usize) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        loop {
            let Some((path, offset)) = self.at.clone().or_else(|| self.first().map(|path| (path, 0))) else {
                return Ok(records);
            };
            let end = self.read_segment(&path, offset, most, &mut records)?;
            self.at = Some((path.clone(), end));
            if records.len() >= most {
                return Ok(records);
            }
            // A segment that has a successor is complete.
            match self.next(&path) {
                Some(next) => {
                    let end = self.read_segment(&path, end, usize::MAX, &mut records)?;
                    debug_assert!(end >= offset, "files only grow");
                    self.at = Some((next, 0));
                }
                None => return Ok(records),
            }
        }
    }

    /// The newest segment that begins at or before what is wanted, or the oldest.
    fn first(&self) -> Option<PathBuf> {
        let mut segments = segment::list(&self.directory).ok()?;
        let begins_before =
            |path: &PathBuf| segment::number_of(path).is_some_and(|first| first <= self.after);
        let index = segments.iter().rposition(begins_before).unwrap_or(0);
        (index < segments.len()).then(|| segments.swap_remove(index))
    }

    fn next(&self, path: &Path) -> Option<PathBuf> {
        let segments = segment::list(&self.directory).ok()?;
        segments.into_iter().find(|other| other.as_path() > path)
    }

    /// Gives how far it came: the end of the last whole line that was taken.
    fn read_segment(
        &mut self,
        path: &Path,
        offset: u64,
        most: usize,
        into: &mut Vec<Record>,
    ) -> io::Result<u64> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let (mut reader, mut line, mut end) = (BufReader::new(file), Vec::new(), offset);
        while into.len() < most {
            line.clear();
            let count = reader.read_until(b'\n', &mut line)?;
            if count == 0 || line.last() != Some(&b'\n') {
                break;
            }
            end += count as u64;
            // A damaged line was reported when the journal was opened, and is by --verify-journal.
            let Some(text) = segment::text_of(&line) else {
                continue;
            };
            // Most of a journal are states of calls, which are long: the store learns nothing from them.
            if let Some(head) = segment::head_of(text)
                && !PROJECTED.contains(&head.kind)
            {
                self.after = self.after.max(head.sequence);
                continue;
            }
            let Some(record) = segment::read_text(text) else {
                continue;
            };
            if record.sequence > self.after {
                self.after = record.sequence;
                into.push(record);
            }
        }
        Ok(end)
    }
}

/// What is known of the projection, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Records projected since the start.
    pub(crate) records: AtomicU64,
    /// Attempts that failed.
    pub(crate) failures: AtomicU64,
    /// The store answers.
    pub(crate) is_up: AtomicBool,
    stop: AtomicBool,
}

/// The thread, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Projector {
    pub(crate) counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Projector {
    /// Starts it. `open` is called until it succeeds, and again after each failure.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn start<S: Store>(
        directory: &Path,
        journal: Arc<journal::Shared>,
        open: impl Fn() -> Result<S, StoreError> + Send + 'static,
    ) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        // Nothing may go before the store has said what it knows.
        journal.projected.store(0, Relaxed);
        let work = Work {
            directory: directory.to_owned(),
            journal,
            counters: Arc::clone(&counters),
        };
        let thread = thread::Builder::new()
            .name("projector".into())
            .spawn(move || work.run(open))?;
        Ok(Self {
            counters,
            thread: Some(thread),
        })
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        self.counters.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct Work {
    directory: PathBuf,
    journal: Arc<journal::Shared>,
    counters: Arc<Counters>,
}

impl Work {
    fn run<S: Store>(&self, open: impl Fn() -> Result<S, StoreError>) {
        let mut pause = limits::STORE_RETRY_MIN;
        while !self.is_over() {
            let error = match open().and_then(|store| self.keep_up(store)) {
                Ok(()) => return,
                Err(error) => error,
            };
            self.counters.is_up.store(false, Relaxed);
            if self.counters.failures.fetch_add(1, Relaxed).is_multiple_of(100) {
                tracing::error!(%error, "the store fails; calls go on, and it catches up from the journal");
            }
            self.wait(pause);
            pause = (pause * 2).min(limits::STORE_RETRY_MAX);
        }
    }

    /// Until the end, or the first failure.
    fn keep_up<S: Store>(&self, mut store: S) -> Result<(), StoreError> {
        let mut tail = Tail::new(&self.directory, store.cursor()?);
        self.journal.projected.store(tail.after, Relaxed);
        self.counters.is_up.store(true, Relaxed);
        loop {
            let over = self.is_over();
            let records = match tail.read(limits::STORE_BATCH) {
                Ok(records) => records,
                // The segment went away under us, for instance; the store knows where to go on.
                Err(error) => {
                    tracing::warn!(%error, "the journal cannot be read for the store");
                    self.wait(limits::STORE_RETRY_MIN);
                    tail = Tail::new(&self.directory, store.cursor()?);
                    Vec::new()
                }
            };
            if !records.is_empty() {
                store.project(&records)?;
                self.counters.records.fetch_add(records.len() as u64, Relaxed);
                self.journal.projected.store(tail.after, Relaxed);
            } else if over {
                return Ok(());
            } else {
                // What was passed over is no reason to keep its segment.
                self.journal.projected.store(tail.after, Relaxed);
                self.wait(limits::STORE_PAUSE);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.counters.stop.load(Relaxed)
    }

    /// The end does not wait for it.
    fn wait(&self, time: Duration) {
        if !self.is_over() {
            thread::park_timeout(time);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use call_control::RecordKind;

    use super::*;

    #[test]
    fn what_the_store_learns_nothing_from_is_passed_over() {
        let directory = std::env::temp_dir().join(format!("controld-tail-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut text = Vec::new();
        for sequence in 1..=6 {
            let kind = if sequence % 2 == 0 {
                let state = serde_json::json!({"kind": "agent_state", "agent": "a", "state": "ready"});
                serde_json::from_value(state).unwrap()
            } else {
                RecordKind::Segment { standing: 0 }
            };
            let record = Record {
                sequence,
                at_unix_us: 5,
                repeated: sequence > 4,
                kind,
            };
            segment::write_line(&mut text, &record);
        }
        fs::write(segment::path_of(&directory, 1), &text).unwrap();
        let read = |after, most| {
            let mut tail = Tail::new(&directory, after);
            let records = tail.read(most).unwrap();
            let numbers: Vec<u64> = records.iter().map(|record| record.sequence).collect();
            (numbers, tail.after)
        };
        assert_eq!(read(0, 9), (vec![2, 4, 6], 6));
        assert_eq!(read(2, 1), (vec![4], 4));
        assert_eq!(read(6, 9), (vec![], 6));
        fs::remove_dir_all(&directory).unwrap();
    }
}
