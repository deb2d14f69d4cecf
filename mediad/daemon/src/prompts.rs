//! The prompt directory: files for players, read on the host thread when an edit needs them.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use media_engine::host::PromptFile;

use crate::limits;

/// Reads the file called `name` in `directory`, unless it is the version that is `known`.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the name.
pub(crate) fn load(directory: &Path, name: &str, known: Option<u64>) -> Result<PromptFile, String> {
    if directory.as_os_str().is_empty() {
        return Err("cannot be played: this host has no prompts (media.prompts is not set)".into());
    }
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "is not in the prompt directory".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let path = directory.join(name);
    let found = fs::metadata(&path).map_err(failed)?;
    if !found.is_file() {
        return Err("is no file".into());
    }
    if found.len() > limits::PROMPT_BYTES_MAX {
        let max = limits::PROMPT_BYTES_MAX;
        return Err(format!("has {} bytes, at most {max} are read", found.len()));
    }
    let mut version = DefaultHasher::new();
    // A replaced file is another one, also with the size and the time of the old.
    (found.len(), found.modified().ok(), found.ino()).hash(&mut version);
    let version = version.finish();
    if known == Some(version) {
        return Ok(PromptFile::Same);
    }
    let bytes = fs::read(&path).map_err(failed)?;
    Ok(PromptFile::New { version, bytes })
}
