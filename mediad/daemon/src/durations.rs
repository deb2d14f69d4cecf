//! How long prompts are: looked up in each file once, and again when it has changed.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use sound::Sound;

use crate::limits;

/// See the module. Clones know the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations(Arc<Mutex<BTreeMap<PathBuf, Known>>>);

/// A file as it was when its length was looked up.
#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: u64,
    modified: Option<SystemTime>,
    ms: u64,
}

impl Durations {
    /// The length of the file at `path`, which is as `found`; 0 for what cannot be played. May read all of an MP3 that does
    /// not tell its length, once.
    pub(crate) fn of(&self, path: &Path, found: &Metadata) -> u64 {
        let (bytes, modified) = (found.len(), found.modified().ok());
        let is_as_known = |known: &&Known| (known.bytes, known.modified) == (bytes, modified);
        let known = self.lock().get(path).filter(is_as_known).map(|known| known.ms);
        known.unwrap_or_else(|| {
            // Not under the lock: others go on looking up what is known.
            let opened = File::open(path).ok().and_then(|file| Sound::open(file).ok());
            let ms = opened.map_or(0, |sound| sound.duration_ms());
            let mut all = self.lock();
            if all.len() >= limits::DURATIONS_MAX {
                all.clear();
            }
            all.insert(path.to_owned(), Known { bytes, modified, ms });
            ms
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    const MP3: &[u8] = include_bytes!("../../sound/corpus/sound/ok-cbr.mp3");
    const BARE_MP3: &[u8] = include_bytes!("../../sound/corpus/sound/ok-bare.mp3");
    const OGG: &[u8] = include_bytes!("../../sound/corpus/sound/ok-short.ogg");
    const WAV: &[u8] = include_bytes!("../../sound/corpus/sound/ok-pcm16.wav");

    #[test]
    fn each_format_has_its_length_which_is_looked_up_again_only_when_the_file_changes() {
        let directory = std::env::temp_dir().join(format!("mediad-durations-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("prompt");
        let durations = Durations::default();
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let put = |data: &[u8], after_s: u64| {
            fs::write(&path, data).expect("it is written");
            let file = File::options().write(true).open(&path).expect("it is there");
            file.set_modified(moment + Duration::from_secs(after_s))
                .expect("a time");
            durations.of(&path, &fs::metadata(&path).expect("it is there"))
        };
        assert_eq!(put(MP3, 0), 1_000);
        assert!((1_000..1_320).contains(&put(BARE_MP3, 1)));
        let of_ogg = put(OGG, 2);
        let sound = Sound::open(std::io::Cursor::new(OGG)).expect("it is playable");
        assert!(of_ogg > 0 && of_ogg == sound.duration_ms(), "{of_ogg}");
        assert!(put(WAV, 3) > 0);
        assert_eq!(put(b"no sound at all", 4), 0);
        // As large and as old as what is known: it is not looked at. Nor what is not there any more.
        assert_eq!(put(&[0; 15], 4), 0);
        let before = put(MP3, 5);
        assert_eq!(put(&vec![0; MP3.len()], 5), before);
        assert_eq!(put(&vec![0; MP3.len()], 6), 0, "it is newer");
        fs::remove_dir_all(&directory).expect("it goes away");
    }
}
