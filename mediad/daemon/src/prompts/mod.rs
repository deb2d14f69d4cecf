//! The prompt directory: short files decoded once and kept, long ones read while they play.

mod reading;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::BufReader,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use media_engine::{
    command::{Prompt, PromptSound, SampleStream},
    host::{Library, StreamError},
    spec::Name,
};
use sound::{Sound, SoundError};

pub(crate) use self::reading::Reading;
use crate::limits;

/// The files of a directory, as the host thread sees them.
#[derive(Debug)]
pub(crate) struct Prompts {
    /// Empty: there are none.
    directory: PathBuf,
    /// What is known of the files that were asked for lately.
    known: BTreeMap<Name, Known>,
    kept: BTreeMap<(Name, u32), Kept>,
    kept_bytes: usize,
    turn: u64,
    reading: Reading,
}

/// The head of a file.
#[derive(Debug, Clone, Copy)]
struct Known {
    version: u64,
    native_hz: u32,
    duration_ms: u64,
    used: u64,
}

/// A prompt at one rate.
#[derive(Debug)]
struct Kept {
    prompt: Arc<Prompt>,
    used: u64,
}

impl Prompts {
    pub(crate) fn new(directory: PathBuf, reading: Reading) -> Self {
        Self {
            directory,
            known: BTreeMap::new(),
            kept: BTreeMap::new(),
            kept_bytes: 0,
            turn: 0,
            reading,
        }
    }

    fn head(&mut self, name: &Name) -> Result<Known, String> {
        self.turn += 1;
        let (path, version) = version(&self.directory, name)?;
        let used = self.turn;
        if let Some(known) = self.known.get_mut(name).filter(|known| known.version == version) {
            known.used = used;
            return Ok(*known);
        }
        let sound = open(&path).map_err(|error| error.to_string())?;
        let known = Known {
            version,
            native_hz: sound.rate_hz(),
            duration_ms: sound.duration_ms(),
            used,
        };
        self.known.insert(name.clone(), known);
        if self.known.len() > limits::PROMPTS_KNOWN_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.known.remove(&oldest);
            }
        }
        Ok(known)
    }

    /// Forgets what was not used for longest and is not playing, until there is room for `bytes`; false if there cannot
    /// be.
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.kept_bytes + bytes > limits::PROMPT_CACHE_BYTES_MAX {
            let idle = self
                .kept
                .iter()
                .filter(|(_, kept)| Arc::strong_count(&kept.prompt) == 1);
            let Some(oldest) = idle.min_by_key(|(_, kept)| kept.used) else {
                return false;
            };
            let oldest = oldest.0.clone();
            self.forget(&oldest);
        }
        true
    }

    fn forget(&mut self, key: &(Name, u32)) {
        if let Some(gone) = self.kept.remove(key) {
            self.kept_bytes -= bytes(&gone.prompt);
        }
    }
}

impl Library for Prompts {
    fn find(&mut self, name: &Name) -> Result<(u64, u32), String> {
        self.head(name).map(|known| (known.version, known.native_hz))
    }

    fn load(&mut self, name: &Name, rate_hz: u32) -> Result<Arc<Prompt>, String> {
        let head = self.head(name)?;
        let key = (name.clone(), rate_hz);
        if let Some(kept) = self.kept.get_mut(&key) {
            if kept.prompt.version == head.version {
                kept.used = self.turn;
                return Ok(kept.prompt.clone());
            }
            self.forget(&key);
        }
        let prompt = |sound| {
            Arc::new(Prompt {
                name: name.clone(),
                version: head.version,
                native_hz: head.native_hz,
                sound,
            })
        };
        let wanted = (head.duration_ms * u64::from(rate_hz) / 500) as usize;
        if head.duration_ms > limits::PROMPT_WHOLE_MS_MAX || !self.make_room(wanted) {
            return Ok(prompt(PromptSound::Streamed));
        }
        let pcm = read_whole(&self.directory.join(&**name), rate_hz).map_err(|error| error.to_string())?;
        let prompt = prompt(PromptSound::Whole { rate_hz, pcm });
        self.kept_bytes += bytes(&prompt);
        let kept = Kept {
            prompt: prompt.clone(),
            used: self.turn,
        };
        self.kept.insert(key, kept);
        Ok(prompt)
    }

    fn stream(
        &mut self,
        name: &Name,
        rate_hz: u32,
        start_ms: u32,
    ) -> Result<Box<dyn SampleStream>, StreamError> {
        let broken = |error: &dyn std::error::Error| StreamError::Broken(error.to_string());
        let sound = open(&self.directory.join(&**name)).map_err(|error| broken(&error))?;
        let reader = sound.reader(rate_hz).map_err(|error| broken(&error))?;
        let start = u64::from(start_ms) * u64::from(rate_hz) / 1_000;
        let stream = self
            .reading
            .begin(reader, start)
            .map_err(|error| broken(&error))?;
        match stream {
            Some(stream) => Ok(Box::new(stream)),
            None => {
                let max = limits::STREAMS_MAX;
                Err(StreamError::Full(format!(
                    "is too long to be kept in memory, and {max} files are being read already; share one player by \
                     shared_group, or play files of up to {} s",
                    limits::PROMPT_WHOLE_MS_MAX / 1_000
                )))
            }
        }
    }
}

/// Where a file is, and what changes whenever it does.
fn version(directory: &Path, name: &str) -> Result<(PathBuf, u64), String> {
    if directory.as_os_str().is_empty() {
        return Err("cannot be played: this host has no prompts; set media.prompts to a directory".into());
    }
    let path = directory.join(name);
    let found = fs::metadata(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let directory = directory.display();
            format!("is not in the prompt directory {directory}; copy it there or upload it with Files.Put")
        }
        _ => format!("cannot be read: {error}"),
    })?;
    if !found.is_file() {
        return Err("is no file; name one below it".into());
    }
    let mut version = DefaultHasher::new();
    // A replaced file is another one, also with the size and the time of the old.
    (found.len(), found.modified().ok(), found.ino()).hash(&mut version);
    Ok((path, version.finish()))
}

fn open(path: &Path) -> Result<Sound<BufReader<File>>, SoundError> {
    Sound::open(BufReader::new(File::open(path)?))
}

fn read_whole(path: &Path, rate_hz: u32) -> Result<Box<[i16]>, SoundError> {
    let sound = open(path)?;
    let expected = sound.duration_ms() * u64::from(rate_hz) / 1_000 + 1;
    let mut reader = sound.reader(rate_hz)?;
    let mut pcm = Vec::with_capacity(expected as usize);
    let mut piece = [0; 4_096];
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(pcm.into()),
            count => pcm.extend_from_slice(&piece[..count]),
        }
    }
}

fn bytes(prompt: &Prompt) -> usize {
    match &prompt.sound {
        PromptSound::Whole { pcm, .. } => size_of_val(&pcm[..]),
        PromptSound::Streamed => 0,
    }
}

#[cfg(test)]
mod tests;
