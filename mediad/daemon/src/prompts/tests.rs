use std::time::{Duration, Instant};

use media_engine::command::StreamState;

use super::*;

/// A WAV file of 8 kHz whose samples count up from `first`.
fn wav(first: i16, samples: usize) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend(8_000u32.to_le_bytes());
    file.extend([0; 6]);
    file.extend(16u16.to_le_bytes());
    file.extend(b"data");
    file.extend((2 * samples as u32).to_le_bytes());
    file.extend((0..samples).flat_map(|n| first.wrapping_add(n as i16).to_le_bytes()));
    file
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mediad-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn prompts(&self) -> Prompts {
        Prompts::new(self.0.clone(), Reading::start().unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn pcm(prompt: &Prompt) -> &[i16] {
    match &prompt.sound {
        PromptSound::Whole { pcm, .. } => pcm,
        PromptSound::Streamed => panic!("a short prompt is kept whole"),
    }
}

#[test]
fn a_short_file_is_decoded_once_at_each_rate_and_again_when_it_is_replaced() {
    let scratch = Scratch::new("whole");
    scratch.put("a.wav", &wav(100, 800));
    let mut prompts = scratch.prompts();
    let name: Name = "a.wav".into();
    let first = prompts.load(&name, 8_000).unwrap();
    assert_eq!((pcm(&first).len(), pcm(&first)[5]), (800, 105));
    assert!(Arc::ptr_eq(&first, &prompts.load(&name, 8_000).unwrap()));
    assert_eq!(pcm(&prompts.load(&name, 48_000).unwrap()).len(), 4_800);
    assert_eq!(prompts.find(&name).unwrap().1, 8_000);
    // Another length, for file systems whose clock is coarse.
    scratch.put("a.wav", &wav(500, 801));
    let second = prompts.load(&name, 8_000).unwrap();
    assert_eq!((pcm(&second)[5], pcm(&first)[5]), (505, 105));
    assert_ne!(second.version, first.version);
}

#[test]
fn what_cannot_be_played_says_which_way_out_there_is() {
    let scratch = Scratch::new("broken");
    scratch.put("song.mp3", b"ID3\x04\0\0\0\0\0\x04tags, and no music");
    fs::create_dir_all(scratch.0.join("en")).unwrap();
    let mut prompts = scratch.prompts();
    for (name, why) in [
        ("gone.wav", "copy it there or upload it"),
        ("song.mp3", "no whole frame of MP3"),
        ("en", "no file"),
    ] {
        let error = prompts.find(&name.into()).unwrap_err();
        assert!(error.contains(why), "{name} {error}");
    }
    let mut nowhere = Prompts::new(PathBuf::new(), Reading::start().unwrap());
    assert!(
        nowhere
            .find(&"a.wav".into())
            .unwrap_err()
            .contains("set media.prompts")
    );
}

#[test]
fn the_cache_forgets_what_was_not_used_for_longest_and_never_what_plays() {
    let scratch = Scratch::new("cache");
    let samples = 8 * limits::PROMPT_WHOLE_MS_MAX as usize;
    let names: Vec<Name> = (0..3).map(|n| format!("{n}.wav").into()).collect();
    for name in &names {
        scratch.put(name, &wav(0, samples));
    }
    let mut prompts = scratch.prompts();
    let playing = prompts.load(&names[0], 8_000).unwrap();
    drop(prompts.load(&names[1], 8_000).unwrap());
    // As if the cache were nearly full of others.
    prompts.kept_bytes = limits::PROMPT_CACHE_BYTES_MAX + 1;
    let third = prompts.load(&names[2], 8_000).unwrap();
    assert!(
        third.sound == PromptSound::Streamed,
        "no room, so it is read while it plays"
    );
    let kept: Vec<_> = prompts.kept.keys().map(|(name, _)| name.clone()).collect();
    assert_eq!(kept, [names[0].clone()], "the one that plays");
    assert_eq!(pcm(&playing).len(), samples);
}

/// Reads until `wanted` samples came or the stream ends; waits for the thread, and counts how often.
fn read(stream: &mut dyn SampleStream, wanted: usize) -> (Vec<i16>, StreamState) {
    let until = Instant::now() + Duration::from_secs(30);
    let (mut all, mut tick) = (Vec::new(), [0; 160]);
    while all.len() < wanted {
        let room = tick.len().min(wanted - all.len());
        let read = stream.read(&mut tick[..room]);
        all.extend_from_slice(&tick[..read.samples]);
        match read.state {
            StreamState::Ready => {}
            StreamState::Late => {
                assert!(Instant::now() < until, "the file thread gives nothing");
                thread_yield();
            }
            StreamState::End | StreamState::Broken => return (all, read.state),
        }
    }
    (all, StreamState::Ready)
}

fn thread_yield() {
    std::thread::sleep(Duration::from_millis(1));
}

fn counts(samples: &[i16], from: usize) -> bool {
    let counts = |(n, sample): (usize, &i16)| *sample == (from + n) as i16;
    samples.iter().enumerate().all(counts)
}

#[test]
fn a_long_file_is_streamed_in_order_round_and_round_and_from_any_place() {
    let scratch = Scratch::new("stream");
    let samples = 8 * (limits::PROMPT_WHOLE_MS_MAX as usize + 1_000);
    scratch.put("long.wav", &wav(0, samples));
    let mut prompts = scratch.prompts();
    let name: Name = "long.wav".into();
    assert!(prompts.load(&name, 8_000).unwrap().sound == PromptSound::Streamed);
    let mut stream = prompts.stream(&name, 8_000, 1_000).unwrap();
    assert_eq!(
        stream.read(&mut [0; 160]).state,
        StreamState::Ready,
        "there from the start"
    );
    stream.seek(8_000);
    for _ in 0..2 {
        let (heard, state) = read(&mut *stream, usize::MAX);
        assert_eq!((heard.len(), state), (samples - 8_000, StreamState::End));
        assert!(counts(&heard, 8_000));
    }
    for place in [40_000, 3, 100_000] {
        stream.seek(place as u64);
        let (heard, state) = read(&mut *stream, 4_000);
        assert_eq!(state, StreamState::Ready);
        assert!(counts(&heard, place), "from {place}");
    }
    drop(stream);
    let until = Instant::now() + Duration::from_secs(30);
    while prompts.reading.count() > 0 {
        assert!(Instant::now() < until, "a stream without a player is let go");
        thread_yield();
    }
}

#[test]
fn a_file_that_becomes_shorter_while_it_plays_ends_early() {
    let scratch = Scratch::new("shorter");
    let mut file = wav(0, 8 * (limits::PROMPT_WHOLE_MS_MAX as usize + 1_000));
    scratch.put("long.wav", &file);
    let mut prompts = scratch.prompts();
    let mut stream = prompts.stream(&"long.wav".into(), 8_000, 0).unwrap();
    let whole = file.len() / 2;
    file.truncate(whole);
    scratch.put("long.wav", &file);
    let (heard, state) = read(&mut *stream, usize::MAX);
    assert_eq!(state, StreamState::End);
    assert!(heard.len() < whole && counts(&heard, 0), "{}", heard.len());
}
