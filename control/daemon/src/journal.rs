//! The journal file: one JSON object a line, appended; and what is projected from it.
//!
//! Until there is a database, call details are read back from here: at start the file is read once, then each
//! record is projected as it is written.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use call_control::{Record, RecordKind, cdr::CallDetail};

use crate::limits;

/// The open journal. The core thread writes; a thread of its own calls fsync.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
    /// Newest last.
    details: VecDeque<CallDetail>,
}

/// Seen by the thread that syncs, and by metrics.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    dirty: AtomicBool,
    stop: AtomicBool,
    pub(crate) records: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Journal {
    /// Opens or creates the file, reads what it tells, and starts syncing.
    ///
    /// # Errors
    /// Names the file and what to do.
    pub(crate) fn open(path: &Path, sync: Duration) -> Result<Self, String> {
        let failed = |error: io::Error| {
            format!(
                "journal {}: {error}; set journal.path to a file this process may write",
                path.display()
            )
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(failed)?;
        let details = read_details(&file).map_err(failed)?;
        end_last_line(&mut file).map_err(failed)?;
        let shared = Arc::new(Shared::default());
        let (synced, sharing) = (file.try_clone().map_err(failed)?, Arc::clone(&shared));
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || keep_synced(&synced, &sharing, sync))
            .map_err(failed)?;
        Ok(Self {
            file,
            buffer: Vec::new(),
            shared,
            details,
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Adds a record to the next [`Journal::write`].
    pub(crate) fn push(&mut self, record: &Record) {
        if serde_json::to_writer(&mut self.buffer, record).is_ok() {
            self.buffer.push(b'\n');
            self.shared.records.fetch_add(1, Relaxed);
        } else {
            // Our records hold nothing that JSON cannot; count it rather than end calls over it.
            self.shared.failures.fetch_add(1, Relaxed);
        }
        if let RecordKind::CallDetail(detail) = &record.kind {
            if self.details.len() == limits::CDRS_KEPT {
                self.details.pop_front();
            }
            self.details.push_back((**detail).clone());
        }
    }

    /// Writes what was pushed; it has returned before anything that the records are about leaves. A disk that fails
    /// does not end calls: what could not be written is tried again with the next record, up to a bound.
    pub(crate) fn write(&mut self) {
        const UNWRITTEN_BYTES_MAX: usize = 16 << 20;
        while !self.buffer.is_empty() {
            match self.file.write(&self.buffer) {
                Ok(written) => {
                    self.buffer.drain(..written);
                    self.shared.dirty.store(true, Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.shared.failures.fetch_add(1, Relaxed).is_multiple_of(1_000) {
                        let unwritten_bytes = self.buffer.len();
                        tracing::error!(%error, unwritten_bytes, "the journal cannot be written");
                    }
                    if self.buffer.len() > UNWRITTEN_BYTES_MAX {
                        self.buffer.clear();
                    }
                    return;
                }
            }
        }
    }

    /// The newest call details, newest first.
    pub(crate) fn details(&self, count: usize) -> Vec<CallDetail> {
        self.details.iter().rev().take(count).cloned().collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.write();
        self.shared.stop.store(true, Relaxed);
        if let Err(error) = self.file.sync_data() {
            tracing::error!(%error, "the journal cannot be synced");
        }
    }
}

fn keep_synced(file: &File, shared: &Shared, every: Duration) {
    while !shared.stop.load(Relaxed) {
        thread::sleep(every);
        if shared.dirty.swap(false, Relaxed)
            && let Err(error) = file.sync_data()
        {
            shared.failures.fetch_add(1, Relaxed);
            tracing::error!(%error, "the journal cannot be synced");
        }
    }
}

/// Lines that cannot be read (the last one of a killed process, or of a newer version) are passed over and counted.
fn read_details(file: &File) -> io::Result<VecDeque<CallDetail>> {
    let mut reader = BufReader::new(file);
    let (mut details, mut unreadable, mut line) = (VecDeque::new(), 0_u64, Vec::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match serde_json::from_slice::<Record>(&line) {
            Ok(record) => {
                if let RecordKind::CallDetail(detail) = record.kind {
                    if details.len() == limits::CDRS_KEPT {
                        details.pop_front();
                    }
                    details.push_back(*detail);
                }
            }
            Err(_) => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::warn!(lines = unreadable, "the journal has lines that cannot be read");
    }
    Ok(details)
}

/// A process that was killed may have left half a line: the next record must not continue it.
fn end_last_line(file: &mut File) -> io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64) -> Record {
        let detail = r#"{"sequence":1,"at_unix_us":5,"kind":"call_detail","call":"c1","sip_call_id":"x","from":"sip:a@h",
            "to":"sip:support@h","queue":"support","answered_by":"alice","rung":["alice"],"started_unix_us":1,
            "answered_unix_us":2,"ended_unix_us":3,"wait_ms":4,"talk_ms":5,"ended_by":"callee","status":200,"reason":"",
            "host":"a","caller_codec":"PCMU","callee_codec":"PCMU","caller_media":null,"callee_media":null}"#;
        let mut record: Record = serde_json::from_str(detail).unwrap();
        record.sequence = sequence;
        record
    }

    #[test]
    fn details_survive_a_restart_and_half_a_line() {
        let path = std::env::temp_dir().join(format!("controld-journal-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let sync = Duration::from_millis(5);
        let mut journal = Journal::open(&path, sync).unwrap();
        journal.push(&record(1));
        journal.write();
        assert_eq!(journal.details(9).len(), 1);
        drop(journal);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"sequence\":2,\"at_uni").unwrap();
        let mut journal = Journal::open(&path, sync).unwrap();
        assert_eq!(journal.details(9)[0].answered_by.as_deref(), Some("alice"));
        journal.push(&record(3));
        drop(journal);
        assert_eq!(Journal::open(&path, sync).unwrap().details(9).len(), 2);
        std::fs::remove_file(&path).unwrap();
    }
}
