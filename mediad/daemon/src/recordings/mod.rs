//! Recordings on disk. The host thread opens their files before an edit is committed, the `recorder` thread writes what the
//! workers hand over, the `archive` thread seals what has ended: repairs, checksums, tells the host. None of them is a worker, and
//! no worker ever waits for them.

mod age;
mod archive;
pub(crate) mod shelf;
pub(crate) mod sidecar;
mod writer;

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use media_engine::{
    host::RecordingWant,
    recording::{Recording, RecordingFeed, Settings, ring, ring_bytes},
};

pub(crate) use self::age::{RECIPIENTS_MAX, Recipient};
use self::{
    age::Encryptor,
    archive::Archive,
    shelf::{Place, Shelf},
    sidecar::{Encryption, Sidecar},
    writer::Writer,
};
use crate::{config, limits, requests::HostLine};

/// Counters, for metrics and for the end of the process.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Recordings whose end has not been told yet.
    pub(crate) open: AtomicUsize,
    /// Bytes written.
    pub(crate) bytes: AtomicU64,
    /// Packets and frames that were not recorded because the disk did not keep up.
    pub(crate) lost: AtomicU64,
    /// Writes that failed.
    pub(crate) errors: AtomicU64,
    /// Recordings that ended, as they should and for another reason.
    pub(crate) finalised: AtomicU64,
    pub(crate) repaired: AtomicU64,
    pub(crate) with_problem: AtomicU64,
}

/// What the host thread and the Files service use; cheap to clone. Without a directory everything is refused.
#[derive(Debug, Clone)]
pub(crate) struct Recordings {
    shared: Option<Arc<Shared>>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Shared {
    shelf: Shelf,
    config: config::Recordings,
    /// Who can read what is recorded; nobody: everybody.
    recipients: Arc<[Recipient]>,
    writer: mpsc::Sender<writer::Order>,
    archive: mpsc::Sender<archive::Order>,
}

/// A recording whose file is open and whose edit is not committed yet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) recording: Recording,
    pub(crate) place: Place,
    pub(crate) file: File,
    pub(crate) file_bytes: u64,
    pub(crate) sidecar: Sidecar,
    /// If it is encrypted.
    pub(crate) encryptor: Option<Encryptor>,
}

/// Its threads, to be waited for.
#[derive(Debug, Default)]
pub(crate) struct Threads(Vec<thread::JoinHandle<()>>);

impl Threads {
    /// Waits until they are done or `longest` has passed; what was not sealed is repaired at the next start.
    pub(crate) fn join(self, longest: Duration) {
        let until = Instant::now() + longest;
        for thread in self.0 {
            while !thread.is_finished() && Instant::now() < until {
                thread::park_timeout(Duration::from_millis(5));
            }
            if thread.is_finished() {
                let _ = thread.join();
            } else {
                tracing::warn!("recordings were not sealed in time; the next start does it");
            }
        }
    }
}

impl Recordings {
    /// Starts the threads, which first look after what an earlier life left.
    ///
    /// # Errors
    /// The directory cannot be used, or a thread cannot be started.
    pub(crate) fn start(config: &config::Recordings, line: HostLine) -> Result<(Self, Threads), String> {
        let counters = Arc::new(Counters::default());
        if config.directory.as_os_str().is_empty() {
            return Ok((
                Self {
                    shared: None,
                    counters,
                },
                Threads::default(),
            ));
        }
        let recipients = config.recipients()?;
        let shelf = Shelf::open(&config.directory).map_err(|why| format!("recordings.directory: {why}"))?;
        let (archive, archived) = mpsc::channel();
        let (writer, written) = mpsc::channel();
        let archiving = Archive::new(shelf.clone(), line, Arc::clone(&counters), archived);
        let writing = Writer::new(
            shelf.clone(),
            config.free_bytes_min,
            Arc::clone(&counters),
            written,
            archive.clone(),
            Arc::clone(&recipients),
        );
        // Marked before anything new can be opened: only what was there before is repaired.
        let left = shelf
            .marked()
            .map_err(|error| format!("recordings.directory: {}: {error}", config.directory.display()))?;
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.into()).spawn(run);
            thread.map_err(|error| format!("{name} thread: {error}"))
        };
        let threads = Threads(vec![
            spawn("recorder", Box::new(move || writing.run()))?,
            spawn("archive", Box::new(move || archiving.run(left)))?,
        ]);
        let shared = Shared {
            shelf,
            config: config.clone(),
            recipients,
            writer,
            archive,
        };
        Ok((
            Self {
                shared: Some(Arc::new(shared)),
                counters,
            },
            threads,
        ))
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn shelf(&self) -> Option<&Shelf> {
        self.shared.as_ref().map(|shared| &shared.shelf)
    }

    /// Makes the files of a recording and the way to them.
    ///
    /// # Errors
    /// What is in the way, as the end of a sentence that begins with the recording.
    pub(crate) fn open(&self, want: &RecordingWant) -> Result<(Opened, RecordingFeed), String> {
        let Some(shared) = &self.shared else {
            return Err(
                "cannot be made: this host keeps no recordings (recordings.directory is not set)".into(),
            );
        };
        let config = &shared.config;
        if self.counters.open.load(Relaxed) >= limits::RECORDINGS_MAX {
            let max = limits::RECORDINGS_MAX;
            return Err(format!("is one too many: {max} are being made; use another host"));
        }
        let directory = shared.shelf.directory();
        let free = shared.shelf.free_bytes().map_err(|error| {
            format!(
                "cannot be made: {}: {error}; {}",
                directory.display(),
                shelf::remedy(&error)
            )
        })?;
        if free < config.free_bytes_min {
            return Err(format!(
                "cannot be made: {free} bytes are free in {}, and recordings.free_bytes_min is {}; free some space or use \
                 another host",
                directory.display(),
                config.free_bytes_min
            ));
        }
        let rate_hz = file_rate_hz(want.rate_hz, config.sample_rate_hz);
        let place = shared.shelf.place(&want.spec.recording, want.spec.segment);
        let is_encrypted = !shared.recipients.is_empty();
        let extension = sidecar::Format::of(want.spec.format).extension(is_encrypted);
        let file = format!("{}.{extension}", place.stem);
        let encryption = is_encrypted.then(|| Encryption::new(&config.recipients, &file));
        let sidecar = Sidecar {
            encryption,
            ..Sidecar::new(want, rate_hz, file, SystemTime::now())
        };
        let settings = Settings {
            duration_max: Duration::from_millis(config.duration_ms_max),
            size_bytes_max: config.size_bytes_max,
            serial: sidecar.started_unix_us as u32,
            comments: comments(&sidecar),
            ..Settings::new(want.spec.format, rate_hz)
        };
        let (feed, intake) = ring(ring_bytes(want.rate_hz.unwrap_or(rate_hz)), Instant::now());
        let mut start = Vec::new();
        let recording = Recording::new(settings, intake, &mut start)
            .map_err(|error| format!("cannot be made: {error}"))?;
        let encryptor = match is_encrypted {
            true => Some(shared.encrypt(&recording, &mut start)?),
            false => None,
        };
        let file = place.create(&sidecar, &start)?;
        let opened = Opened {
            recording,
            place,
            file,
            file_bytes: start.len() as u64,
            sidecar,
            encryptor,
        };
        Ok((opened, feed))
    }

    /// The edit is committed: whatever comes is written.
    pub(crate) fn begin(&self, opened: Opened) {
        if let Some(shared) = &self.shared {
            self.counters.open.fetch_add(1, Relaxed);
            // The thread lives as long as this does.
            let _ = shared.writer.send(writer::Order::Begin(Box::new(opened)));
        }
    }

    /// A controller is back: it is told again of what it did not acknowledge.
    pub(crate) fn repeat(&self, controller: &str) {
        if let Some(shared) = &self.shared {
            let _ = shared.archive.send(archive::Order::Repeat(controller.into()));
        }
    }

    /// Everything that ended has been told.
    pub(crate) fn is_idle(&self) -> bool {
        self.counters.open.load(Relaxed) == 0
    }

    /// The process ends: what still runs is ended too.
    pub(crate) fn stop(&self) {
        if let Some(shared) = &self.shared {
            let _ = shared.writer.send(writer::Order::Stop);
        }
    }
}

impl Opened {
    /// The edit did not come about.
    pub(crate) fn discard(self) {
        self.place.discard(self.sidecar.extension());
    }
}

impl Shared {
    /// Encrypts the `start` of a file, and what follows.
    fn encrypt(&self, recording: &Recording, start: &mut Vec<u8>) -> Result<Encryptor, String> {
        let plain = std::mem::take(start);
        // What is sealed cannot be changed any more: a WAV says from the beginning that it goes on to its end.
        let content = recording.header(u64::MAX).map_or(plain, Vec::from);
        let begun = Encryptor::new(&self.recipients, start)
            .and_then(|mut encryptor| encryptor.push(&content, start).map(|()| encryptor));
        begun.map_err(|_| "cannot be encrypted: the system gives no random bytes".into())
    }
}

/// The rate of a file for what is heard at `heard_hz`. Without anybody to hear yet it is made for whoever comes.
fn file_rate_hz(heard_hz: Option<u32>, most_hz: u32) -> u32 {
    match heard_hz.unwrap_or(most_hz).min(most_hz) {
        ..=8_000 => 8_000,
        8_001..=16_000 => 16_000,
        16_001.. => 48_000,
    }
}

/// What stands in an Ogg file itself.
fn comments(sidecar: &Sidecar) -> Vec<(Box<str>, Box<str>)> {
    [
        ("RECORDING", sidecar.recording.as_str()),
        ("SEGMENT", &sidecar.segment.to_string()),
        ("CALL", &sidecar.call),
        ("DATE", &sidecar.started),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.into(), value.into()))
    .collect()
}
