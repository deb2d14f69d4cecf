//! The `archive` thread: makes whole what has ended, and tells the host of it until somebody acknowledges.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::Receiver},
    thread,
    time::Duration,
};

use media_engine::{
    host::RecordingOutcome,
    recording::{HEADER_BYTES, Mending, PAGE_BYTES_MAX, repaired},
};
use sha2::{Digest as _, Sha256};

use super::{
    Counters, age,
    shelf::{Place, Shelf, hex},
    sidecar::{Encryption, Sidecar, State},
};
use crate::requests::{HostLine, Request};

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// A recording has ended.
    Seal(Place, Box<Sidecar>),
    /// Tell this controller again of what it did not acknowledge.
    Repeat(String),
    /// End, after everything before.
    Stop,
}

/// See the module.
pub(super) struct Archive {
    shelf: Shelf,
    line: HostLine,
    counters: Arc<Counters>,
    orders: Receiver<Order>,
}

impl Archive {
    pub(super) fn new(
        shelf: Shelf,
        line: HostLine,
        counters: Arc<Counters>,
        orders: Receiver<Order>,
    ) -> Self {
        Self {
            shelf,
            line,
            counters,
            orders,
        }
    }

    /// Looks after what an earlier life `left`, then seals what ends, until nobody is left to tell it.
    pub(super) fn run(self, left: Vec<Place>) {
        for place in left {
            self.take_up(&place);
        }
        while let Ok(order) = self.orders.recv() {
            match order {
                Order::Seal(place, sidecar) => {
                    self.seal(&place, *sidecar, State::Finalised);
                    self.counters.finalised.fetch_add(1, Relaxed);
                    self.counters.open.fetch_sub(1, Relaxed);
                }
                Order::Repeat(controller) => self.repeat(&controller),
                Order::Stop => return,
            }
        }
    }

    /// A recording of an earlier life: repaired if it was being written, told if it was not acknowledged.
    fn take_up(&self, place: &Place) {
        let sidecar = match place.read() {
            Ok(sidecar) => sidecar,
            Err(why) if place.has_audio() => {
                // Its mark stays: somebody may mend it.
                self.counters.errors.fetch_add(1, Relaxed);
                tracing::error!(why, "a recording was left whose sidecar cannot be understood");
                return;
            }
            Err(why) => {
                // The host died while it made the files, before the one for audio.
                tracing::warn!(why, "a recording that never began was left; its mark is removed");
                let _ = fs::remove_file(place.sidecar());
                let _ = fs::remove_file(place.mark());
                return;
            }
        };
        match sidecar.state {
            State::Recording => {
                self.counters.repaired.fetch_add(1, Relaxed);
                tracing::warn!(
                    recording = sidecar.recording,
                    segment = sidecar.segment,
                    "repairing a recording"
                );
                self.seal(place, sidecar, State::Repaired);
            }
            State::Finalised | State::Repaired if sidecar.acknowledged => {
                let _ = fs::remove_file(place.mark());
            }
            State::Finalised | State::Repaired => self.tell(place, &sidecar),
        }
    }

    fn repeat(&self, controller: &str) {
        for place in self.shelf.marked().unwrap_or_default() {
            match place.read() {
                Ok(sidecar) if sidecar.state != State::Recording && sidecar.controller == controller => {
                    self.tell(&place, &sidecar);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Makes file and sidecar whole, and tells the host.
    fn seal(&self, place: &Place, mut sidecar: Sidecar, state: State) {
        let path = place.audio(sidecar.extension());
        sidecar.state = state;
        let is_wav = sidecar.format.is_wav();
        let mended = match &mut sidecar.encryption {
            None => mend(&path, is_wav),
            Some(encryption) => {
                // How long it is was written down while it was recorded.
                let mended = mend_encrypted(place, &path, &sidecar.file, encryption);
                mended.map(|(size_bytes, sha256)| (size_bytes, sidecar.duration_ms, sha256))
            }
        };
        match mended {
            Ok((size_bytes, duration_ms, sha256)) => {
                sidecar.size_bytes = size_bytes;
                sidecar.duration_ms = duration_ms;
                sidecar.sha256 = sha256;
            }
            Err(error) => {
                self.counters.errors.fetch_add(1, Relaxed);
                let found = format!("sealing {} failed: {error}", path.display());
                sidecar.problem = [sidecar.problem.as_str(), &found]
                    .into_iter()
                    .filter(|text| !text.is_empty())
                    .collect::<Vec<_>>()
                    .join("; ");
            }
        }
        if !sidecar.problem.is_empty() {
            self.counters.with_problem.fetch_add(1, Relaxed);
            tracing::warn!(path = %path.display(), problem = sidecar.problem, "a recording has a problem");
        }
        if let Err(error) = place.write(&sidecar, true) {
            self.counters.errors.fetch_add(1, Relaxed);
            tracing::error!(path = %place.sidecar().display(), %error, "the sidecar was not written");
        }
        self.tell(place, &sidecar);
    }

    fn tell(&self, place: &Place, sidecar: &Sidecar) {
        let outcome = RecordingOutcome {
            recording: sidecar.recording.as_str().into(),
            segment: sidecar.segment,
            path: place.audio(sidecar.extension()).display().to_string().into(),
            duration_ms: sidecar.duration_ms,
            size_bytes: sidecar.size_bytes,
            sha256: sidecar.sha256.as_str().into(),
            repaired: sidecar.state == State::Repaired,
            problem: sidecar.problem.as_str().into(),
        };
        let mut request = Request::RecordingFinalised {
            controller: sidecar.controller.as_str().into(),
            session: sidecar.session.as_str().into(),
            node: sidecar.node.as_str().into(),
            outcome: Box::new(outcome),
        };
        // A full line empties in milliseconds; without a host thread there is nobody to be told.
        for _ in 0..1_000 {
            match self.line.send(request) {
                Ok(()) => return,
                Err(back) => request = back,
            }
            thread::sleep(Duration::from_millis(5));
        }
        tracing::warn!("the host thread takes no requests; a recording's end is told at the next start");
    }
}

/// Cuts a file to what is whole, makes its end or header right, and puts it on the disk for good: its size, its length in
/// ms, and its checksum.
fn mend(path: &Path, is_wav: bool) -> io::Result<(u64, u64, String)> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let (size_bytes, duration_ms) = if is_wav {
        mend_wav(&file)?
    } else {
        mend_ogg(&file)?
    };
    let sha256 = checksum(&mut file)?;
    file.sync_all()?;
    Ok((size_bytes, duration_ms, sha256))
}

/// As [`mend`], of a file that nobody here can read: it is cut to whole chunks, unless it was ended, and what was kept of
/// its end becomes a file beside it, if it has anything to add.
fn mend_encrypted(
    place: &Place,
    path: &Path,
    name: &str,
    encryption: &mut Encryption,
) -> io::Result<(u64, String)> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = file.metadata()?.len();
    let draft = place.draft_of_tail();
    if encryption.sealed {
        let _ = fs::remove_file(&draft);
    } else {
        let mut head = vec![0; age::HEADER_BYTES_MAX.min(bytes as usize)];
        file.read_exact_at(&mut head, 0)?;
        let (whole, chunks) = age::whole_chunks(&head, bytes).ok_or_else(foreign)?;
        file.set_len(whole)?;
        let kept = fs::read(&draft).unwrap_or_default();
        if let Some((number, tail)) = kept.split_first_chunk()
            && u64::from_be_bytes(*number) == chunks
        {
            place.replace(&place.tail(), tail, true)?;
            encryption.has_tail(name, &place.tail_name());
        }
        let _ = fs::remove_file(&draft);
    }
    let sha256 = checksum(&mut file)?;
    file.sync_all()?;
    Ok((file.metadata()?.len(), sha256))
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file is not as it was written")
}

fn mend_wav(file: &File) -> io::Result<(u64, u64)> {
    let mut start = [0; HEADER_BYTES];
    file.read_exact_at(&mut start, 0)?;
    let bytes = file.metadata()?.len();
    let (whole, header, ms) = repaired(&start, bytes).ok_or_else(foreign)?;
    if whole != bytes {
        file.set_len(whole)?;
    }
    if header != start {
        file.write_all_at(&header, 0)?;
    }
    Ok((whole, ms))
}

fn mend_ogg(file: &File) -> io::Result<(u64, u64)> {
    let mut mending = Mending::default();
    let mut buffer = vec![0; 4 * PAGE_BYTES_MAX];
    let (mut held, mut read) = (0, 0);
    loop {
        let count = file.read_at(&mut buffer[held..], read)?;
        read += count as u64;
        held += count;
        let taken = mending.take(&buffer[..held]);
        buffer.copy_within(taken..held, 0);
        held -= taken;
        // At the end, or at something that is no page of ours.
        if count == 0 || held >= PAGE_BYTES_MAX {
            break;
        }
    }
    let (whole, last, ms) = mending.finish().ok_or_else(foreign)?;
    if whole != file.metadata()?.len() {
        file.set_len(whole)?;
    }
    file.write_all_at(&last, whole - last.len() as u64)?;
    Ok((whole, ms))
}

fn checksum(file: &mut File) -> io::Result<String> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&sum.finalize())),
            count => sum.update(&buffer[..count]),
        }
    }
}
