//! The recordings directory: names, sidecars, and which recordings nobody has acknowledged yet.
//!
//! A recording is `NAME.SEGMENT.wav` (or `.opus`, or either with `.age` behind it) with `NAME.SEGMENT.json` beside it. As
//! long as it is being written, or its end has not been acknowledged, there is a mark of the same name in `.pending`: what a
//! start has to look at is there, however many recordings there are.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::sidecar::{EXTENSIONS, Sidecar};

/// Longest name before it is cut and told apart by its checksum.
const NAME_BYTES_MAX: usize = 180;

/// How the name of an encrypted file's tail ends.
pub(crate) const TAIL: &str = ".tail.age";

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    directory: PathBuf,
}

/// The files of one recording.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) stem: String,
    directory: PathBuf,
}

impl Shelf {
    /// The directory, with its own folder in it.
    ///
    /// # Errors
    /// It is not there or cannot be written to; as the end of a sentence that begins with the setting.
    pub(crate) fn open(directory: &Path) -> Result<Self, String> {
        if !directory.is_dir() {
            return Err(format!(
                "{} is no directory; make it, or name another",
                directory.display()
            ));
        }
        let shelf = Self {
            directory: directory.to_owned(),
        };
        let probe = shelf.pending().join(".probe");
        let tried = fs::create_dir_all(shelf.pending())
            .and_then(|()| File::create(&probe).map(drop))
            .and_then(|()| fs::remove_file(&probe));
        tried.map_err(|error| {
            format!(
                "{}: {error}; give the user of this process the right to write there",
                directory.display()
            )
        })?;
        Ok(shelf)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn pending(&self) -> PathBuf {
        self.directory.join(".pending")
    }

    /// Where a recording is, or would be.
    pub(crate) fn place(&self, recording: &str, segment: u32) -> Place {
        self.at(format!("{}.{segment}", file_name(recording)))
    }

    fn at(&self, stem: String) -> Place {
        Place {
            stem,
            directory: self.directory.clone(),
        }
    }

    /// Every recording with a mark, in the order of their names.
    pub(crate) fn marked(&self) -> io::Result<Vec<Place>> {
        let mut stems = Vec::new();
        for entry in fs::read_dir(self.pending())? {
            if let Ok(name) = entry?.file_name().into_string() {
                stems.push(name);
            }
        }
        stems.sort_unstable();
        Ok(stems.into_iter().map(|stem| self.at(stem)).collect())
    }

    /// The names of all audio files, sorted.
    pub(crate) fn audio_files(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if !name.starts_with('.') && stem(&name).is_some() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The recording whose audio file has this name, or this path; `None` for a name that cannot be one.
    pub(crate) fn of_file(&self, name: &str) -> Option<(Place, PathBuf)> {
        let name = match Path::new(name).strip_prefix(&self.directory) {
            Ok(relative) => relative.to_str()?,
            Err(_) => name,
        };
        let stem = stem(name)?;
        let plain = !name.starts_with('.') && !name.contains(['/', '\0']);
        plain.then(|| (self.at(stem.to_owned()), self.directory.join(name)))
    }

    /// Bytes that are free for us.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.directory)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl Place {
    pub(crate) fn audio(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.stem))
    }

    pub(crate) fn sidecar(&self) -> PathBuf {
        self.directory.join(format!("{}.json", self.stem))
    }

    pub(crate) fn mark(&self) -> PathBuf {
        self.directory.join(".pending").join(&self.stem)
    }

    /// Whether there is an audio file of whatever kind.
    pub(crate) fn has_audio(&self) -> bool {
        EXTENSIONS.iter().any(|extension| self.audio(extension).exists())
    }

    /// Where the end of an encrypted file is kept until it is written there.
    pub(crate) fn draft_of_tail(&self) -> PathBuf {
        self.directory.join(format!(".{}.tail", self.stem))
    }

    /// The file name of the end that a crash left.
    pub(crate) fn tail_name(&self) -> String {
        format!("{}{TAIL}", self.stem)
    }

    pub(crate) fn tail(&self) -> PathBuf {
        self.directory.join(self.tail_name())
    }

    /// Puts `bytes` in place of a file, whole or not at all.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        let new = self.directory.join(format!(".{}.new", self.stem));
        let replaced = File::create(&new).and_then(|mut file| {
            file.write_all(bytes)?;
            if durable {
                file.sync_data()?;
            }
            fs::rename(&new, path)
        });
        replaced.inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Makes mark, sidecar and audio file, none of which may be there.
    ///
    /// # Errors
    /// What is there or cannot be made, as the end of a sentence; then none of them is made.
    pub(crate) fn create(&self, sidecar: &Sidecar, start: &[u8]) -> Result<File, String> {
        let new = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path)
        };
        let audio = self.audio(sidecar.extension());
        let mut others = EXTENSIONS.iter().map(|extension| self.audio(extension));
        let other = others.find(|other| *other != audio && other.exists());
        let steps: [(PathBuf, &[u8]); 3] = [
            (self.mark(), &[]),
            (self.sidecar(), &sidecar.to_json()),
            (audio, start),
        ];
        if let Some(other) = other {
            return Err(exists(&other));
        }
        let mut file = None;
        for (index, (path, bytes)) in steps.iter().enumerate() {
            let made = new(path).and_then(|mut file| file.write_all(bytes).map(|()| file));
            match made {
                Ok(made) => file = Some(made),
                Err(error) => {
                    let existed = error.kind() == ErrorKind::AlreadyExists;
                    let undo = if existed { index } else { index + 1 };
                    for (path, _) in &steps[..undo] {
                        let _ = fs::remove_file(path);
                    }
                    return Err(if existed {
                        exists(&self.sidecar())
                    } else {
                        format!("cannot be made: {}: {error}; {}", path.display(), remedy(&error))
                    });
                }
            }
        }
        file.ok_or_else(|| "cannot be made".into())
    }

    /// Takes everything back that [`Self::create`] made.
    pub(crate) fn discard(&self, extension: &str) {
        for path in [self.audio(extension), self.sidecar(), self.mark()] {
            let _ = fs::remove_file(path);
        }
    }

    /// What the sidecar says.
    ///
    /// # Errors
    /// It is not there or cannot be understood.
    pub(crate) fn read(&self) -> Result<Sidecar, String> {
        let path = self.sidecar();
        let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Replaces the sidecar. On a full disk the old one is written over where it is: a little less safe than to lose what is new.
    ///
    /// # Errors
    /// Neither was possible.
    pub(crate) fn write(&self, sidecar: &Sidecar, durable: bool) -> io::Result<()> {
        let text = sidecar.to_json();
        let path = self.sidecar();
        self.replace(&path, &text, durable).or_else(|_| {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.write_all_at(&text, 0)?;
            file.set_len(text.len() as u64)
        })
    }
}

/// What an audio file's name begins with.
fn stem(name: &str) -> Option<&str> {
    let mut stems = EXTENSIONS
        .iter()
        .filter_map(|end| name.strip_suffix(end)?.strip_suffix('.'));
    stems.next()
}

fn exists(path: &Path) -> String {
    format!(
        "exists already ({}); nothing is ever overwritten, give the next segment number",
        path.display()
    )
}

/// What helps against a failed write.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space or use another host",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "give the user of this process the right to write there"
        }
        ErrorKind::NotFound => "make the directory (recordings.directory) again",
        _ => "look at the disk, or use another host",
    }
}

/// A recording's id as a file name: letters, digits, dots, hyphens and underscores stay, the rest is written as %XX.
fn file_name(recording: &str) -> String {
    let mut name = String::new();
    for (at, byte) in recording.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || byte == b'.' && at > 0;
        if plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > NAME_BYTES_MAX {
        let sum = hex(&Sha256::digest(recording));
        name.truncate(NAME_BYTES_MAX - 18);
        name = format!("{name}~{}", &sum[..16]);
    }
    name
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_directory_and_apart() {
        assert_eq!(file_name("call-7_a.b"), "call-7_a.b");
        assert_eq!(file_name("../etc/x y"), "%2E.%2Fetc%2Fx%20y");
        let (long, other) = ("ü".repeat(63), format!("{}a", "ü".repeat(63)));
        assert!(file_name(&long).len() <= NAME_BYTES_MAX);
        assert_ne!(file_name(&long), file_name(&other));
    }
}
