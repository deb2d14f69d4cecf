//! The `recorder` thread: takes from every recording's ring what came, and writes it.

use std::{
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use media_engine::recording::{Ended, Workbench};
use ring::error::Unspecified;

use super::{
    Counters, Opened, Recipient,
    age::Encryptor,
    archive,
    shelf::{Place, Shelf},
};
use crate::limits;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Write this one too.
    Begin(Box<Opened>),
    /// End everything, then the thread.
    Stop,
}

/// How often all rings are emptied.
const TURN: Duration = Duration::from_millis(150);
/// So many bytes are written at once, or what there is after [`WRITE_EVERY`].
const WRITE_BYTES: usize = 32 << 10;
const WRITE_EVERY: Duration = Duration::from_millis(1_000);
/// How often a WAV's header is made right, the sidecar brought up to date, and the free space looked at.
const KEEP_EVERY: Duration = Duration::from_millis(2_000);

/// See the module.
pub(super) struct Writer {
    shelf: Shelf,
    free_bytes_min: u64,
    counters: Arc<Counters>,
    orders: Receiver<Order>,
    archive: Sender<archive::Order>,
    recipients: Arc<[Recipient]>,
    running: Vec<Running>,
    bench: Workbench,
}

struct Running {
    opened: Opened,
    /// Bytes to be written.
    waiting: Vec<u8>,
    /// Where they are encrypted.
    sealed: Vec<u8>,
    written_at: Instant,
    kept_at: Instant,
    lost: u64,
}

impl Writer {
    pub(super) fn new(
        shelf: Shelf,
        free_bytes_min: u64,
        counters: Arc<Counters>,
        orders: Receiver<Order>,
        archive: Sender<archive::Order>,
        recipients: Arc<[Recipient]>,
    ) -> Self {
        Self {
            shelf,
            free_bytes_min,
            counters,
            orders,
            archive,
            recipients,
            running: Vec::new(),
            bench: Workbench::default(),
        }
    }

    /// Runs until it is told to stop, or nobody is left to tell it.
    pub(super) fn run(mut self) {
        let mut looked_at = Instant::now();
        let mut next = Instant::now() + TURN;
        loop {
            let now = Instant::now();
            if now >= next {
                next = now + TURN;
                let look = now >= looked_at + KEEP_EVERY;
                if look {
                    looked_at = now;
                }
                let full = (look && self.is_nearly_full()).then(|| self.full_text());
                self.turn(full.as_deref());
                continue;
            }
            match self.orders.recv_timeout(next - now) {
                Ok(Order::Begin(opened)) => self.running.push(Running {
                    opened: *opened,
                    waiting: Vec::new(),
                    sealed: Vec::new(),
                    written_at: now,
                    kept_at: now,
                    lost: 0,
                }),
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        // Sessions have ended by now; what has not is ended here.
        self.turn(Some("the media host was shut down"));
        // The archive outlives this thread.
        let _ = self.archive.send(archive::Order::Stop);
    }

    /// One turn of every recording; with a reason, their last one.
    fn turn(&mut self, reason: Option<&str>) {
        let mut at = 0;
        while at < self.running.len() {
            let ended = self.running[at].turn(&mut self.bench, &self.counters, &self.recipients, reason);
            match ended {
                None => at += 1,
                Some(problem) => {
                    let running = self.running.swap_remove(at);
                    running.give(&self.archive, problem);
                }
            }
        }
    }

    /// Half of what new recordings need is the least for those that run.
    fn is_nearly_full(&self) -> bool {
        !self.running.is_empty()
            && self
                .shelf
                .free_bytes()
                .is_ok_and(|free| free < self.free_bytes_min / 2)
    }

    fn full_text(&self) -> String {
        format!(
            "the disk is nearly full: less than {} bytes are free in {} (half of recordings.free_bytes_min)",
            self.free_bytes_min / 2,
            self.shelf.directory().display()
        )
    }
}

impl Running {
    /// `Some` at the end, with what went wrong.
    fn turn(
        &mut self,
        bench: &mut Workbench,
        counters: &Counters,
        recipients: &[Recipient],
        reason: Option<&str>,
    ) -> Option<String> {
        let now = Instant::now();
        let ended = self.opened.recording.turn(now, bench, &mut self.waiting);
        let problem = match ended {
            None => reason.map(str::to_owned),
            Some(Ended::Asked) => Some(String::new()),
            Some(Ended::Duration(ms)) => Some(format!("it reached its longest duration, {ms} ms")),
            Some(Ended::Size(bytes)) => Some(format!("it reached its largest size, {bytes} bytes")),
        };
        if ended.is_none() && problem.is_some() {
            self.opened.recording.end(&mut self.waiting);
        }
        let is_last = problem.is_some();
        // What is described then has to be written before.
        let is_kept = !is_last && now >= self.kept_at + KEEP_EVERY;
        let due = self.waiting.len() >= WRITE_BYTES || now >= self.written_at + WRITE_EVERY || is_kept;
        if is_last || due && !self.waiting.is_empty() {
            self.written_at = now;
            let written = self.seal(is_last).and_then(|()| self.write(counters));
            if let Err(error) = written {
                counters.errors.fetch_add(1, Relaxed);
                self.opened.recording.end(&mut Vec::new());
                let path = self.path();
                return Some(format!(
                    "writing {path} failed: {error}; what was written before is kept"
                ));
            }
        }
        if let Some(encryption) = &mut self.opened.sidecar.encryption {
            encryption.sealed = is_last;
        }
        if is_kept {
            self.kept_at = now;
            self.keep(counters, recipients);
        }
        problem
    }

    /// Encrypts what waits, if it is to be: then what waits are whole chunks, or all that is left.
    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        let Some(encryptor) = &mut self.opened.encryptor else {
            return Ok(());
        };
        self.sealed.clear();
        encryptor
            .push(&self.waiting, &mut self.sealed)
            .and_then(|()| {
                if is_last {
                    encryptor.finish(&mut self.sealed)
                } else {
                    Ok(())
                }
            })
            .map_err(|Unspecified| io::Error::other("it cannot be encrypted any further"))?;
        std::mem::swap(&mut self.waiting, &mut self.sealed);
        Ok(())
    }

    /// Writes what waits; on an error the part that was written counts.
    fn write(&mut self, counters: &Counters) -> io::Result<()> {
        let Opened { file, file_bytes, .. } = &mut self.opened;
        let mut done = 0;
        let result = loop {
            if done == self.waiting.len() {
                break Ok(());
            }
            match file.write_at(&self.waiting[done..], *file_bytes) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    done += count;
                    *file_bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        counters.bytes.fetch_add(done as u64, Relaxed);
        self.waiting.clear();
        if self.waiting.capacity() > limits::RECORDING_BUFFER_BYTES_KEPT {
            self.waiting = Vec::new();
        }
        if self.sealed.capacity() > limits::RECORDING_BUFFER_BYTES_KEPT {
            self.sealed = Vec::new();
        }
        result
    }

    /// What is on disk plays and is described as it stands, should the process die.
    fn keep(&mut self, counters: &Counters, recipients: &[Recipient]) {
        if let Some(encryptor) = &self.opened.encryptor {
            // A failure shows in the next write of audio, or costs seconds should the process die.
            if let Err(error) = keep_tail(&self.opened.place, encryptor, recipients) {
                tracing::warn!(recording = self.path(), %error, "the end of an encrypted recording is not kept");
            }
        } else if let Some(header) = self.opened.recording.header(self.opened.file_bytes) {
            // A failure shows in the next write of audio, or is mended at the end.
            let _ = self.opened.file.write_all_at(&header, 0);
        }
        let report = self.opened.recording.report();
        self.count_lost(report.lost(), counters);
        let before = self.opened.sidecar.clone();
        self.opened.sidecar.update(&report);
        let told = |sidecar: &super::Sidecar| {
            let legs: Vec<_> = sidecar
                .legs
                .iter()
                .map(|leg| (leg.node.clone(), leg.channel))
                .collect();
            (legs, sidecar.gaps.clone(), sidecar.pauses.clone())
        };
        // Of an encrypted file the length is nowhere else.
        let is_due = self.opened.encryptor.is_some() || told(&before) != told(&self.opened.sidecar);
        if is_due && let Err(error) = self.opened.place.write(&self.opened.sidecar, false) {
            tracing::warn!(recording = self.path(), %error, "the sidecar is not up to date");
        }
    }

    fn count_lost(&mut self, lost: u64, counters: &Counters) {
        counters.lost.fetch_add(lost - self.lost, Relaxed);
        self.lost = lost;
    }

    /// Hands everything to the archive.
    fn give(mut self, archive: &Sender<archive::Order>, problem: String) {
        let report = self.opened.recording.report();
        self.opened.sidecar.update(&report);
        let lost = report.lost();
        let slow = (lost > 0).then(|| {
            format!("the disk was too slow: {lost} packets were not recorded, see the gaps in the sidecar")
        });
        let problems: Vec<String> = [Some(problem).filter(|text| !text.is_empty()), slow]
            .into_iter()
            .flatten()
            .collect();
        self.opened.sidecar.problem = problems.join("; ");
        let Opened { place, sidecar, .. } = self.opened;
        // The archive outlives this thread.
        let _ = archive.send(archive::Order::Seal(place, Box::new(sidecar)));
    }

    fn path(&self) -> String {
        let extension = self.opened.sidecar.extension();
        self.opened.place.audio(extension).display().to_string()
    }
}

/// What waits for its chunk to become whole is kept in a file of its own, under a key of its own, and never written twice
/// under one. Before it stands the number of that chunk: when the chunk is there, this file has nothing to add.
fn keep_tail(place: &Place, encryptor: &Encryptor, recipients: &[Recipient]) -> io::Result<()> {
    let (chunks, content) = encryptor.waiting();
    let mut tail = chunks.to_be_bytes().to_vec();
    Encryptor::new(recipients, &mut tail)
        .and_then(|mut sealing| {
            sealing.push(content, &mut tail)?;
            sealing.finish(&mut tail)
        })
        .map_err(|Unspecified| io::Error::other("the system gives no random bytes"))?;
    place.replace(&place.draft_of_tail(), &tail, false)
}
