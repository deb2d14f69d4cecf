//! The journal on disk: a directory of [segments](segment), appended by the core thread.
//!
//! A segment that has grown large is followed by a new one, which begins with everything that still stands; so a start
//! reads one segment, and old ones may go. What is reported about calls is projected from here.

mod details;
pub(crate) mod segment;

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread,
    time::Duration,
};

use call_control::{
    Record, RecordKind,
    cdr::{CallDetail, RecordingDetail},
};

use crate::{config, limits};
pub(crate) use details::DetailText;
use details::Details;

/// The open journal. The core thread writes; a thread of its own calls fsync.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    file: File,
    /// Bytes in the file.
    bytes: u64,
    segment_bytes: u64,
    /// A segment of this size is followed by another: one that was due and could not be begun is so later.
    full_bytes: u64,
    segments_kept: usize,
    buffer: Vec<u8>,
    /// Records were given up: what is written says no more what stands.
    has_gap: bool,
    /// And the disk takes records again.
    can_mend: bool,
    shared: Arc<Shared>,
    details: Details,
    /// Held as long as the journal is open.
    _lock: File,
}

/// Seen by the thread that syncs, by projections and by metrics.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    dirty: AtomicBool,
    stop: AtomicBool,
    /// What is synced: the segment in use, and before it those that were followed since the last time.
    files: Mutex<Vec<File>>,
    /// Counts writes, and those that are on the disk to stay.
    written: AtomicU64,
    synced: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Records up to this number are projected; segments with later ones are kept. `u64::MAX` without a projection.
    pub(crate) projected: AtomicU64,
}

impl Journal {
    /// Opens or creates the directory, repairs the tail, and starts syncing. `replay` gets the records that tell what
    /// still stands, oldest first.
    ///
    /// # Errors
    /// Names the place and what to do.
    pub(crate) fn open(settings: &config::Journal, replay: impl FnMut(Record)) -> Result<Self, String> {
        let failed = |error: io::Error| {
            format!(
                "journal {}: {error}; set journal.path to a directory this process may write",
                settings.path.display()
            )
        };
        let directory = settings.path.clone();
        fs::create_dir_all(&directory).map_err(failed)?;
        let lock = lock(&directory)?;
        let past = read_past(&directory, replay).map_err(failed)?;
        let path = past.last.unwrap_or_else(|| segment::path_of(&directory, 0));
        let file = append_to(&path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let shared = Arc::new(Shared::default());
        shared.projected.store(u64::MAX, Relaxed);
        let synced = file.try_clone().map_err(failed)?;
        shared
            .files
            .lock()
            .expect("nobody panics while holding it")
            .push(synced);
        let (sharing, every) = (Arc::clone(&shared), Duration::from_millis(settings.sync_ms));
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || keep_synced(&sharing, every))
            .map_err(failed)?;
        Ok(Self {
            directory,
            file,
            bytes,
            segment_bytes: settings.segment_bytes,
            full_bytes: settings.segment_bytes,
            segments_kept: settings.segments_kept,
            buffer: Vec::new(),
            has_gap: false,
            can_mend: false,
            shared,
            details: past.details,
            _lock: lock,
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Adds a record to the next [`Journal::write`].
    pub(crate) fn push(&mut self, record: &Record) {
        if self.has_gap && self.buffer.is_empty() {
            // Behind half a line that was written before the disk was full.
            self.buffer.push(b'\n');
        }
        let Some(text) = segment::write_line(&mut self.buffer, record) else {
            // Our records hold nothing that JSON cannot; count it rather than end calls over it.
            self.shared.failures.fetch_add(1, Relaxed);
            return;
        };
        self.shared.records.fetch_add(1, Relaxed);
        match &record.kind {
            RecordKind::CallDetail(detail) => self.details.keep(&detail.call, text),
            RecordKind::Recorded { call, file } => self.details.complete(call, file),
            _ => {}
        }
    }

    /// What is pushed now is on the disk to stay when [`Journal::synced_mark`] has come to this.
    pub(crate) fn next_mark(&self) -> u64 {
        self.shared.written.load(Relaxed) + 1
    }

    /// See [`Journal::next_mark`].
    pub(crate) fn synced_mark(&self) -> u64 {
        self.shared.synced.load(Relaxed)
    }

    /// Writes what was pushed; it has returned before anything that the records are about leaves. A disk that fails
    /// does not end calls: what could not be written is tried again with the next record, up to a bound. False when
    /// records were given up for that.
    pub(crate) fn write(&mut self) -> bool {
        while !self.buffer.is_empty() {
            match self.file.write(&self.buffer) {
                Ok(written) => {
                    self.buffer.drain(..written);
                    self.bytes += written as u64;
                    if self.buffer.is_empty() {
                        self.shared.written.fetch_add(1, Relaxed);
                        self.can_mend = self.has_gap;
                    }
                    self.shared.dirty.store(true, Release);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.shared.failures.fetch_add(1, Relaxed).is_multiple_of(1_000) {
                        let unwritten_bytes = self.buffer.len();
                        tracing::error!(%error, unwritten_bytes, "the journal cannot be written");
                    }
                    let is_too_much = self.buffer.len() > limits::JOURNAL_UNWRITTEN_BYTES;
                    if is_too_much {
                        self.buffer.clear();
                        self.has_gap = true;
                    }
                    return !is_too_much;
                }
            }
        }
        true
    }

    /// The segment is full, or does not say what stands: [`Journal::turn`] is due.
    pub(crate) fn is_full(&self) -> bool {
        (self.bytes >= self.full_bytes || self.can_mend) && self.buffer.is_empty()
    }

    /// Begins a new segment with these records, which repeat everything that stands; drops the oldest segments that
    /// are not needed. A failure leaves the old segment in use.
    pub(crate) fn turn(&mut self, standing: &[Record]) {
        let Some(first) = standing.first() else {
            return;
        };
        let mut text = Vec::with_capacity(standing.len() * 512);
        for record in standing {
            segment::write_line(&mut text, record);
        }
        let path = segment::path_of(&self.directory, first.sequence);
        match begin(&path, &text) {
            Ok((file, synced)) => {
                self.file = file;
                self.bytes = text.len() as u64;
                self.full_bytes = self.segment_bytes;
                (self.has_gap, self.can_mend) = (false, false);
                let mut files = self.shared.files.lock().expect("nobody panics while holding it");
                files.push(synced);
                drop(files);
                self.shared.dirty.store(true, Release);
                self.shared.records.fetch_add(standing.len() as u64, Relaxed);
            }
            Err(error) => {
                self.shared.failures.fetch_add(1, Relaxed);
                tracing::error!(%error, path = %path.display(), "a new journal segment cannot be begun");
                // Not again at once.
                self.can_mend = false;
                self.full_bytes = self.full_bytes.saturating_mul(2);
                return;
            }
        }
        self.drop_oldest();
    }

    /// A segment goes when there are more than are to be kept and it is projected; and in any case when there are four
    /// times as many: a database that is gone must not fill the disk.
    fn drop_oldest(&self) {
        let Ok(segments) = segment::list(&self.directory) else {
            return;
        };
        let projected = self.shared.projected.load(Relaxed);
        for (index, pair) in segments.windows(2).enumerate() {
            let left = segments.len() - index;
            // All of it is before the next one's first.
            let is_projected = segment::number_of(&pair[1]).is_some_and(|next| next <= projected);
            let goes = left > self.segments_kept && (is_projected || left > self.segments_kept * 4);
            if !goes {
                break;
            }
            if let Err(error) = fs::remove_file(&pair[0]) {
                tracing::warn!(%error, path = %pair[0].display(), "an old journal segment cannot be removed");
            }
        }
    }

    /// The detail of a call, if it is among the newest.
    pub(crate) fn detail(&self, call: &str) -> Option<CallDetail> {
        self.details.find(call)
    }

    /// The newest call details, newest first.
    pub(crate) fn details(&self, count: usize) -> Vec<DetailText> {
        self.details.newest(count)
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

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// The new file under its name only once all of `text` is in it. What could not be finished is taken away: the disk may be
/// full, and the segment in use needs it.
fn begin(path: &Path, text: &[u8]) -> io::Result<(File, File)> {
    let unfinished = path.with_extension("unfinished");
    let begun = write_whole(&unfinished, text).and_then(|files| {
        fs::rename(&unfinished, path)?;
        Ok(files)
    });
    if begun.is_err() {
        let _gone = fs::remove_file(&unfinished);
    }
    begun
}

/// A file with this text, and once more, to be synced.
fn write_whole(path: &Path, text: &[u8]) -> io::Result<(File, File)> {
    let _gone = fs::remove_file(path);
    let mut file = append_to(path)?;
    file.write_all(text)?;
    let synced = file.try_clone()?;
    Ok((file, synced))
}

/// Two processes in one journal would each take the other's calls for their own.
fn lock(directory: &Path) -> Result<File, String> {
    let path = directory.join("lock");
    let failed = |problem: &str| {
        format!(
            "journal {}: {problem}; stop the other controld, or give this one a journal.path of its own",
            directory.display()
        )
    };
    let file = File::create(&path).map_err(|error| failed(&error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(failed("another process uses it")),
        Err(fs::TryLockError::Error(error)) => Err(failed(&error.to_string())),
    }
}

struct Past {
    last: Option<PathBuf>,
    details: Details,
}

/// Repairs the tail, replays from the newest segment whose beginning is whole, and collects the newest call details.
fn read_past(directory: &Path, mut replay: impl FnMut(Record)) -> io::Result<Past> {
    let segments = segment::list(directory)?;
    let mut details: Vec<CallDetail> = Vec::new();
    let mut recordings: Vec<(String, RecordingDetail)> = Vec::new();
    let (mut whole, mut damaged) = (0, 0);
    let mut is_known = false;
    for (index, path) in segments.iter().enumerate().rev() {
        let (mut newer, mut newer_recordings) =
            (std::mem::take(&mut details), std::mem::take(&mut recordings));
        let scan = segment::scan(path, |record| match record.kind {
            RecordKind::CallDetail(detail) => details.push(*detail),
            RecordKind::Recorded { call, file } => recordings.push((call, file)),
            _ => {}
        })?;
        details.append(&mut newer);
        recordings.append(&mut newer_recordings);
        damaged += scan.damaged;
        if index + 1 == segments.len() {
            let torn_bytes = segment::repair_tail(path, &scan)?;
            if torn_bytes > 0 {
                tracing::warn!(torn_bytes, path = %path.display(), "the journal's torn tail is cut off");
            }
        }
        if !is_known && (scan.is_whole || index == 0) {
            (whole, is_known) = (index, true);
        }
        // Older details are the store's business.
        if is_known && (details.len() >= limits::CDRS_KEPT || index + 4 <= segments.len()) {
            break;
        }
    }
    if damaged > 0 {
        tracing::warn!(lines = damaged, "the journal has lines that cannot be read");
    }
    let surplus = details.len().saturating_sub(limits::CDRS_KEPT);
    details.drain(..surplus);
    let places: HashMap<String, usize> = (0..)
        .zip(&details)
        .map(|(at, detail)| (detail.call.clone(), at))
        .collect();
    for (call, file) in recordings {
        if let Some(detail) = places.get(&call).and_then(|at| details.get_mut(*at)) {
            detail.take_recording(file);
        }
    }
    for path in segments.iter().skip(whole) {
        segment::scan(path, &mut replay)?;
    }
    Ok(Past {
        last: segments.last().cloned(),
        details: details.into_iter().collect(),
    })
}

fn keep_synced(shared: &Shared, every: Duration) {
    while !shared.stop.load(Relaxed) {
        thread::sleep(every);
        if !shared.dirty.swap(false, Acquire) {
            continue;
        }
        let written = shared.written.load(Relaxed);
        match sync(shared) {
            Ok(()) => shared.synced.store(written, Relaxed),
            Err(error) => {
                shared.failures.fetch_add(1, Relaxed);
                // It is still to be done.
                shared.dirty.store(true, Relaxed);
                tracing::error!(%error, "the journal cannot be synced");
            }
        }
    }
}

/// Forces to the disk what was written to the segment in use and to those before it, which are done with then.
fn sync(shared: &Shared) -> io::Result<()> {
    let files = shared.files.lock().expect("nobody panics while holding it");
    let open: Vec<File> = files.iter().map(File::try_clone).collect::<Result<_, _>>()?;
    drop(files);
    for file in &open {
        file.sync_data()?;
    }
    let mut files = shared.files.lock().expect("nobody panics while holding it");
    files.drain(..open.len() - 1);
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

    fn standing(first: u64, states: &[&str]) -> Vec<Record> {
        let begin = RecordKind::Segment {
            standing: states.len() as u64,
        };
        let states = states.iter().map(|state| RecordKind::AgentState {
            agent: "alice".into(),
            state: (*state).into(),
            standing: call_control::domain::Standing::default(),
        });
        let kinds = std::iter::once(begin).chain(states);
        let numbered = kinds.enumerate().map(|(index, kind)| Record {
            sequence: first + index as u64,
            at_unix_us: 5,
            repeated: index > 0,
            kind,
        });
        numbered.collect()
    }

    struct Place(config::Journal);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("controld-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(config::Journal {
                path,
                sync_ms: 5,
                segments_kept: 2,
                ..config::Journal::default()
            })
        }

        fn open(&self) -> (Journal, Vec<u64>) {
            let mut replayed = Vec::new();
            let journal = Journal::open(&self.0, |record| replayed.push(record.sequence)).unwrap();
            (journal, replayed)
        }

        fn files(&self) -> Vec<PathBuf> {
            segment::list(&self.0.path).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.path);
        }
    }

    #[test]
    fn what_was_written_is_replayed_and_a_torn_tail_is_cut_off() {
        let place = Place::new("torn");
        let (mut journal, replayed) = place.open();
        assert_eq!(replayed.len(), 0);
        journal.push(&record(1));
        journal.write();
        assert_eq!(journal.details(9).len(), 1);
        drop(journal);
        let path = place.files().remove(0);
        let mut torn = append_to(&path).unwrap();
        torn.write_all(b"01234567 {\"sequence\":2,\"at_uni").unwrap();
        let (mut journal, replayed) = place.open();
        assert_eq!(replayed, [1]);
        assert_eq!(
            journal.details(9)[0].read().unwrap().answered_by.as_deref(),
            Some("alice")
        );
        journal.push(&record(3));
        drop(journal);
        let (journal, replayed) = place.open();
        assert_eq!((replayed, journal.details(9).len()), (vec![1, 3], 2));
    }

    /// What stands is said again as soon as the disk takes anything: otherwise calls that ended meanwhile would come back.
    #[test]
    fn after_a_full_disk_a_new_segment_says_what_stands() {
        let place = Place::new("full");
        let (mut journal, _) = place.open();
        journal.push(&record(1));
        assert!(journal.write());
        let full = File::options().write(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut journal.file, full);
        let mut number = 2;
        while journal.write() {
            assert!(!journal.is_full(), "nothing can be begun yet");
            for _ in 0..1_000 {
                journal.push(&record(number));
                number += 1;
            }
        }
        journal.file = file;
        assert!(!journal.is_full(), "the disk may be full still");
        // Half of a line that was written.
        journal.file.write_all(b"01234567 {\"sequence\":2,").unwrap();
        journal.push(&record(number));
        assert!(journal.write() && journal.is_full());
        journal.turn(&standing(number + 1, &["ready"]));
        assert!(!journal.is_full());
        drop(journal);
        let (_, replayed) = place.open();
        assert_eq!(replayed, [number + 1, number + 2]);
        let mut first = Vec::new();
        segment::scan(&place.files()[0], |record| first.push(record.sequence)).unwrap();
        assert_eq!(first, [1, number], "what came behind half a line is whole");
    }

    /// Details are read in a way of their own.
    #[test]
    fn a_call_detail_is_read_as_it_was_written() {
        for repeated in [false, true] {
            let mut detail = record(7);
            detail.repeated = repeated;
            let mut line = Vec::new();
            assert!(segment::write_line(&mut line, &detail).is_some());
            assert_eq!(segment::read_line(&line), Some(detail.clone()));
            let plainly: Record = serde_json::from_slice(segment::text_of(&line).unwrap()).unwrap();
            assert_eq!(plainly, detail);
        }
    }

    #[test]
    fn a_new_segment_is_enough_to_start_from() {
        let place = Place::new("turns");
        let (mut journal, _) = place.open();
        for turn in 0..6 {
            journal.push(&record(turn * 10 + 1));
            journal.write();
            journal.turn(&standing(turn * 10 + 2, &["ready", "talking"]));
        }
        assert_eq!(place.files().len(), 2, "older ones are dropped");
        journal.push(&record(99));
        drop(journal);
        let (journal, replayed) = place.open();
        assert_eq!(replayed, [52, 53, 54, 99]);
        assert_eq!(journal.details(9).len(), 2, "details of kept segments");
        drop(journal);

        // A beginning that is not whole is no place to start from.
        let newest = place.files().pop().unwrap();
        let text = fs::read_to_string(&newest).unwrap();
        fs::write(
            &newest,
            text.lines()
                .take(2)
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )
        .unwrap();
        let (_, replayed) = place.open();
        assert_eq!(replayed, [42, 43, 44, 51, 52, 53]);
    }

    /// What was begun of it is no use, and the disk may be full.
    #[test]
    fn segments_are_turned_as_before_after_some_that_could_not_be() {
        let mut place = Place::new("unturned");
        place.0.segment_bytes = 1_000;
        let (mut journal, _) = place.open();
        let mut number = 1;
        let mut fill = |journal: &mut Journal| {
            let begin = journal.bytes;
            while !journal.is_full() {
                journal.push(&record(number));
                journal.write();
                number += 1;
            }
            (journal.bytes - begin, number)
        };
        for _ in 0..8 {
            let (_, next) = fill(&mut journal);
            let in_the_way = segment::path_of(&place.0.path, next);
            fs::create_dir(&in_the_way).unwrap();
            journal.turn(&standing(next, &["ready"]));
            fs::remove_dir(&in_the_way).unwrap();
            assert_eq!(fs::read_dir(&place.0.path).unwrap().count(), 2, "it and the lock");
            assert!(!journal.is_full(), "not again at once");
        }
        let (_, next) = fill(&mut journal);
        journal.turn(&standing(next, &["ready"]));
        assert_eq!(place.files().len(), 2);
        let (grown, _) = fill(&mut journal);
        assert!(grown < 2_000, "{grown} bytes of one more");
    }

    #[test]
    fn what_is_not_projected_is_kept_for_longer() {
        let place = Place::new("unprojected");
        let (mut journal, _) = place.open();
        journal.shared.projected.store(0, Relaxed);
        for turn in 0..20 {
            journal.turn(&standing(turn * 10 + 2, &["ready"]));
        }
        assert_eq!(place.files().len(), 8, "four times as many");
        journal.shared.projected.store(u64::MAX, Relaxed);
        journal.turn(&standing(500, &["ready"]));
        assert_eq!(place.files().len(), 2);
    }

    #[test]
    fn a_journal_has_one_process() {
        let place = Place::new("locked");
        let (_journal, _) = place.open();
        let refused = Journal::open(&place.0, |_| {}).unwrap_err();
        assert!(refused.contains("another process uses it"), "{refused}");
    }
}
