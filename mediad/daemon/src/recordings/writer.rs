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

use super::{Counters, Opened, archive, shelf::Shelf};
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
    running: Vec<Running>,
    bench: Workbench,
}

struct Running {
    opened: Opened,
    /// Bytes to be written.
    waiting: Vec<u8>,
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
    ) -> Self {
        Self {
            shelf,
            free_bytes_min,
            counters,
            orders,
            archive,
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
            let ended = self.running[at].turn(&mut self.bench, &self.counters, reason);
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
    fn turn(&mut self, bench: &mut Workbench, counters: &Counters, reason: Option<&str>) -> Option<String> {
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
        let due = self.waiting.len() >= WRITE_BYTES || now >= self.written_at + WRITE_EVERY;
        if (due || problem.is_some()) && !self.waiting.is_empty() {
            self.written_at = now;
            if let Err(error) = self.write(counters) {
                counters.errors.fetch_add(1, Relaxed);
                self.opened.recording.end(&mut Vec::new());
                let path = self.path();
                return Some(format!(
                    "writing {path} failed: {error}; what was written before is kept"
                ));
            }
        }
        if problem.is_none() && now >= self.kept_at + KEEP_EVERY {
            self.kept_at = now;
            self.keep(counters);
        }
        problem
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
        result
    }

    /// What is on disk plays and is described as it stands, should the process die.
    fn keep(&mut self, counters: &Counters) {
        if let Some(header) = self.opened.recording.header(self.opened.file_bytes) {
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
        if told(&before) != told(&self.opened.sidecar)
            && let Err(error) = self.opened.place.write(&self.opened.sidecar, false)
        {
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
        let extension = self.opened.sidecar.format.extension();
        self.opened.place.audio(extension).display().to_string()
    }
}
