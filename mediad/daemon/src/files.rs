//! The Files service on disk: prompts that come and go, recordings that are listed, read and acknowledged. Everything here
//! blocks, and runs on threads of its own.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::UNIX_EPOCH,
};

use proto::mediad::v1 as pb;
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::{
    durations::Durations,
    limits,
    recordings::{
        Recordings,
        shelf::{Place, TAIL, hex},
        sidecar::{EXTENSIONS, Sidecar, State},
    },
};

/// Folders below each other in the prompt directory that are looked into.
const DEPTH_MAX: usize = 8;

/// The two directories.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// Empty: there are no prompts.
    pub(crate) prompts: PathBuf,
    pub(crate) recordings: Recordings,
    pub(crate) durations: Durations,
}

/// An upload under way: written beside its place, moved there when it is whole.
#[derive(Debug)]
pub(crate) struct Upload {
    place: PathBuf,
    draft: PathBuf,
    file: Option<File>,
    sum: Sha256,
    bytes: u64,
}

/// A part of a file to be read.
#[derive(Debug)]
pub(crate) struct Range {
    file: File,
    pub(crate) offset: u64,
    pub(crate) end: u64,
    pub(crate) total: u64,
}

type Result<T> = std::result::Result<T, pb::Error>;

impl Store {
    /// Begins an upload of the prompt called `name`.
    ///
    /// # Errors
    /// The name is no relative path of plain parts, or the file cannot be made.
    pub(crate) fn put(&self, name: &str) -> Result<Upload> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let directory = self.prompt_directory()?;
        if !is_uploadable(name) {
            return Err(refused(
                Code::InvalidArgument,
                format!(
                    "prompt {name:?}: must be a relative path of parts of A-Z a-z 0-9 . _ - that do not begin with a dot, \
                     at most {} bytes, such as \"en/welcome.wav\"",
                    media_engine::limits::PROMPT_NAME_BYTES_MAX
                ),
            ));
        }
        let place = directory.join(name);
        let parent = place.parent().unwrap_or(directory);
        let number = NUMBER.fetch_add(1, Relaxed);
        let draft = parent.join(format!(".upload-{}-{number}", std::process::id()));
        let file = fs::create_dir_all(parent)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&draft))
            .map_err(|error| failed(&place, &error))?;
        Ok(Upload {
            place,
            draft,
            file: Some(file),
            sum: Sha256::new(),
            bytes: 0,
        })
    }

    /// A page of files, sorted by name.
    ///
    /// # Errors
    /// The directory is not configured or cannot be read.
    pub(crate) fn list(&self, request: &pb::FileListRequest) -> Result<pb::FileListReply> {
        let limit = match request.limit {
            0 => limits::FILES_PER_PAGE,
            limit => (limit as usize).min(limits::FILES_PER_PAGE),
        };
        let kind = self.kind(request.kind)?;
        let mut names = match kind {
            pb::FileKind::Prompt => {
                let mut names = Vec::new();
                let directory = self.prompt_directory()?;
                walk(directory, "", 0, &mut names).map_err(|error| failed(directory, &error))?;
                names.sort_unstable();
                names
            }
            pb::FileKind::Recording | pb::FileKind::Unspecified => {
                let shelf = self.shelf()?;
                shelf
                    .audio_files()
                    .map_err(|error| failed(shelf.directory(), &error))?
            }
        };
        names.retain(|name| name.starts_with(&request.prefix) && *name > request.after);
        let more = names.len() > limit;
        names.truncate(limit);
        let next = names.last().filter(|_| more).cloned().unwrap_or_default();
        // What went away meanwhile is left out.
        let files = names
            .into_iter()
            .filter_map(|name| self.info(kind, name))
            .collect();
        Ok(pb::FileListReply { files, next })
    }

    /// Deletes a prompt, or a recording that has ended, with its sidecar.
    ///
    /// # Errors
    /// It is not there, or is still being recorded.
    pub(crate) fn delete(&self, request: &pb::FileDeleteRequest) -> Result<()> {
        match self.kind(request.kind)? {
            pb::FileKind::Prompt => {
                let path = self.prompt(&request.name)?;
                fs::remove_file(&path).map_err(|error| failed(&path, &error))
            }
            pb::FileKind::Recording | pb::FileKind::Unspecified => {
                let (place, path) = self.recording(&request.name)?;
                let sidecar = place.read();
                if sidecar
                    .as_ref()
                    .is_ok_and(|sidecar| sidecar.state == State::Recording)
                {
                    return Err(refused(
                        Code::FailedPrecondition,
                        format!("{} is being recorded; remove its recorder first", request.name),
                    ));
                }
                fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
                for path in [place.tail(), place.sidecar(), place.mark()] {
                    match fs::remove_file(&path) {
                        Err(error) if error.kind() != ErrorKind::NotFound => {
                            return Err(failed(&path, &error));
                        }
                        Ok(()) | Err(_) => {}
                    }
                }
                Ok(())
            }
        }
    }

    /// A part of a file.
    ///
    /// # Errors
    /// It is not there, or the part begins beyond its end.
    pub(crate) fn fetch(&self, request: &pb::FetchRequest) -> Result<Range> {
        let path = match self.kind(request.kind)? {
            pb::FileKind::Prompt => self.prompt(&request.name)?,
            pb::FileKind::Recording | pb::FileKind::Unspecified => self.recording_part(&request.name)?,
        };
        let file = File::open(&path).map_err(|error| failed(&path, &error))?;
        let total = file.metadata().map_err(|error| failed(&path, &error))?.len();
        if request.offset > total {
            return Err(refused(
                Code::OutOfRange,
                format!(
                    "{}: offset {} is beyond its {total} bytes",
                    request.name, request.offset
                ),
            ));
        }
        let end = match request.length {
            0 => total,
            length => total.min(request.offset.saturating_add(length)),
        };
        Ok(Range {
            file,
            offset: request.offset,
            end,
            total,
        })
    }

    /// The end of a recording is told no more.
    ///
    /// # Errors
    /// There is no such recording, or it has not ended.
    pub(crate) fn acknowledge(&self, request: &pb::AcknowledgeRequest) -> Result<()> {
        let place = self.shelf()?.place(&request.recording, request.segment);
        let about = || format!("recording {:?} segment {}", request.recording, request.segment);
        let mut sidecar = place
            .read()
            .map_err(|_| refused(Code::NotFound, format!("{} is not on this host", about())))?;
        if sidecar.state == State::Recording {
            return Err(refused(
                Code::FailedPrecondition,
                format!(
                    "{} has not ended; acknowledge it after RecordingFinalised",
                    about()
                ),
            ));
        }
        if !sidecar.acknowledged {
            sidecar.acknowledged = true;
            place
                .write(&sidecar, true)
                .map_err(|error| failed(&place.sidecar(), &error))?;
        }
        match fs::remove_file(place.mark()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&place.mark(), &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn kind(&self, kind: i32) -> Result<pb::FileKind> {
        match pb::FileKind::try_from(kind) {
            Ok(kind @ (pb::FileKind::Prompt | pb::FileKind::Recording)) => Ok(kind),
            Ok(pb::FileKind::Unspecified) | Err(_) => Err(refused(
                Code::InvalidArgument,
                format!("kind is {kind}; give FILE_KIND_PROMPT or FILE_KIND_RECORDING"),
            )),
        }
    }

    fn prompt_directory(&self) -> Result<&Path> {
        if self.prompts.as_os_str().is_empty() {
            let message = "this host has no prompts (media.prompts is not set)";
            return Err(refused(Code::FailedPrecondition, message.into()));
        }
        Ok(&self.prompts)
    }

    fn shelf(&self) -> Result<&crate::recordings::shelf::Shelf> {
        self.recordings.shelf().ok_or_else(|| {
            let message = "this host keeps no recordings (recordings.directory is not set)";
            refused(Code::FailedPrecondition, message.into())
        })
    }

    /// The path of a prompt that may have come by other ways than an upload.
    fn prompt(&self, name: &str) -> Result<PathBuf> {
        let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\0', '\\']);
        if !name.split('/').all(plain) {
            return Err(refused(
                Code::NotFound,
                format!("prompt {name:?} is not in the prompt directory"),
            ));
        }
        Ok(self.prompt_directory()?.join(name))
    }

    fn recording(&self, name: &str) -> Result<(Place, PathBuf)> {
        let found = self.shelf()?.of_file(name).filter(|(_, path)| path.is_file());
        found.ok_or_else(|| {
            refused(
                Code::NotFound,
                format!("recording {name:?} is not in the recordings directory"),
            )
        })
    }

    /// The audio of a recording, or its sidecar.
    fn recording_part(&self, name: &str) -> Result<PathBuf> {
        let (stem, is_tail) = match (name.strip_suffix(".json"), name.strip_suffix(TAIL)) {
            (Some(stem), _) => (stem, false),
            (None, Some(stem)) => (stem, true),
            (None, None) => return self.recording(name).map(|(_, path)| path),
        };
        let mut audio = EXTENSIONS
            .iter()
            .map(|extension| self.recording(&format!("{stem}.{extension}")));
        let (place, _) = match audio.find(Result::is_ok) {
            Some(found) => found?,
            None => self.recording(name)?,
        };
        Ok(if is_tail { place.tail() } else { place.sidecar() })
    }

    fn info(&self, kind: pb::FileKind, name: String) -> Option<pb::FileInfo> {
        let (found, duration_ms) = match kind {
            pb::FileKind::Prompt => {
                let path = self.prompts.join(&name);
                let found = fs::metadata(&path).ok()?;
                let ms = self.durations.of(&path, &found);
                (found, ms)
            }
            pb::FileKind::Recording | pb::FileKind::Unspecified => {
                let (place, path) = self.recordings.shelf()?.of_file(&name)?;
                let ms = place.read().map_or(0, |sidecar: Sidecar| sidecar.duration_ms);
                (fs::metadata(path).ok()?, ms)
            }
        };
        let modified = found
            .modified()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Some(pb::FileInfo {
            kind: kind.into(),
            name,
            size_bytes: found.len(),
            modified_unix_us: modified.map_or(0, |since| since.as_micros() as u64),
            duration_ms,
        })
    }
}

impl Upload {
    /// Adds the next bytes.
    ///
    /// # Errors
    /// There are too many, or they cannot be written.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<()> {
        self.bytes += data.len() as u64;
        if self.bytes > limits::PROMPT_BYTES_MAX {
            return Err(refused(
                Code::ResourceExhausted,
                format!(
                    "prompt {}: more than {} bytes; send it in a shorter or smaller format",
                    self.place.display(),
                    limits::PROMPT_BYTES_MAX
                ),
            ));
        }
        self.sum.update(data);
        let file = self.file.as_mut().expect("open until it is finished");
        file.write_all(data).map_err(|error| failed(&self.place, &error))
    }

    /// Puts it in its place, over what was there.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn finish(mut self) -> Result<pb::PutReply> {
        let file = self.file.take().expect("open until it is finished");
        file.sync_all()
            .and_then(|()| fs::rename(&self.draft, &self.place))
            .map_err(|error| failed(&self.place, &error))?;
        Ok(pb::PutReply {
            size_bytes: self.bytes,
            sha256: hex(&std::mem::take(&mut self.sum).finalize()),
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Renamed when it was finished; left over when it was not.
        let _ = fs::remove_file(&self.draft);
    }
}

impl Range {
    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn next(&mut self) -> Result<Option<pb::FetchReply>> {
        let left = self.end - self.offset;
        if left == 0 {
            return Ok(None);
        }
        let mut data = vec![0; (left as usize).min(limits::FETCH_BYTES)];
        let count = self
            .file
            .read_at(&mut data, self.offset)
            .map_err(|error| refused(Code::Internal, error.to_string()))?;
        if count == 0 {
            // It became shorter while it was read.
            self.end = self.offset;
            return Ok(None);
        }
        data.truncate(count);
        let reply = pb::FetchReply {
            data,
            offset: self.offset,
            total_bytes: self.total,
        };
        self.offset += count as u64;
        Ok(Some(reply))
    }
}

/// A relative path of plain parts, none of them hidden.
fn is_uploadable(name: &str) -> bool {
    let plain = |part: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(known)
    };
    name.len() <= media_engine::limits::PROMPT_NAME_BYTES_MAX
        && name.split('/').count() <= DEPTH_MAX
        && name.split('/').all(plain)
}

/// Adds every file below `directory` by its relative name.
fn walk(directory: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') || names.len() >= limits::FILES_LISTED_MAX {
            continue;
        }
        let kind = fs::metadata(entry.path())?;
        if kind.is_file() {
            names.push(format!("{prefix}{name}"));
        } else if kind.is_dir() && depth < DEPTH_MAX {
            walk(&entry.path(), &format!("{prefix}{name}/"), depth + 1, names)?;
        }
    }
    Ok(())
}

fn refused(code: Code, message: String) -> pb::Error {
    pb::Error {
        code: code as i32,
        message,
        subject: String::new(),
    }
}

fn failed(path: &Path, error: &io::Error) -> pb::Error {
    let code = match error.kind() {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Code::ResourceExhausted
        }
        _ => Code::Internal,
    };
    refused(code, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_uploads_stay_below_the_directory() {
        for good in ["welcome.wav", "en/welcome.wav", "a_b-c.d/E1"] {
            assert!(is_uploadable(good), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a//b",
            ".hidden",
            "a/.b",
            "ü.wav",
            "a b",
            "x\0",
            "a/",
        ] {
            assert!(!is_uploadable(bad), "{bad:?}");
        }
        assert!(!is_uploadable(&"a".repeat(256)));
    }
}
