//! Recordings that this host cannot read itself: age opens them with either key and with no other, whole, after a kill with
//! what was written before it, and neither the audio nor the call differs.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use proto::mediad::v1 as pb;

use crate::{
    recording::{
        LEFT_HZ, RIGHT_HZ, Recorded, files, finalised, recorder, shelf, sidecar, start, stop, watch,
        watch_from_start,
    },
    support::{PATIENCE, share},
};

/// A private key in a file, and its public key.
fn key(directory: &Path, name: &str) -> (PathBuf, String) {
    let made = Command::new("age-keygen").output();
    let made = made.unwrap_or_else(|error| panic!("age-keygen: {error}; install it: apt-get install age"));
    let path = directory.join(name);
    std::fs::write(&path, &made.stdout).unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: "));
    (path, public.unwrap().to_owned())
}

/// What age makes of a file: what it could open, and whether it is whole.
fn open(key: &Path, file: &Path) -> (Vec<u8>, bool) {
    let output = Command::new("age")
        .args(["--decrypt", "--identity"])
        .args([key, file])
        .output()
        .unwrap();
    (output.stdout, output.status.success())
}

/// Left and right of a stereo WAV of 8 kHz that goes on to its end.
fn sides(file: &[u8]) -> (Vec<i16>, Vec<i16>) {
    assert_eq!(
        (&file[..4], &file[8..16], file[22]),
        (&b"RIFF"[..], &b"WAVEfmt "[..], 2)
    );
    let told = u32::from_le_bytes(file[40..44].try_into().unwrap());
    assert!(
        told as usize > file.len(),
        "its length was not known when it began"
    );
    let side = |at: usize| {
        let frames = file[44..].as_chunks::<4>().0.iter();
        frames
            .map(|frame| i16::from_le_bytes([frame[at], frame[at + 1]]))
            .collect()
    };
    (side(0), side(2))
}

fn holds_both(left: &[i16], right: &[i16]) {
    let middle = 4_000..left.len() - 1_600;
    assert!(share(&left[middle.clone()], LEFT_HZ) > 0.4 && share(&left[middle.clone()], RIGHT_HZ) < 0.01);
    assert!(share(&right[middle.clone()], RIGHT_HZ) > 0.4 && share(&right[middle], LEFT_HZ) < 0.01);
}

struct Encrypted {
    directory: PathBuf,
    settings: Vec<String>,
    keys: [PathBuf; 2],
    publics: [String; 2],
    stranger: PathBuf,
}

impl Encrypted {
    fn new(name: &str) -> Self {
        let (directory, mut settings) = shelf(name);
        let keys = directory.join(".keys");
        std::fs::create_dir_all(&keys).unwrap();
        let [(first, one), (second, two), (stranger, _)] = ["a", "b", "c"].map(|name| key(&keys, name));
        settings.push(format!("recordings.recipients=['{one}', '{two}']"));
        Self {
            directory,
            settings,
            keys: [first, second],
            publics: [one, two],
            stranger,
        }
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

#[tokio::test]
async fn either_key_opens_them_and_no_other() {
    let world = Encrypted::new("encrypted");
    let daemon = start(&world.settings);
    let mut media = daemon.media().await;
    let mut events = watch(&mut media).await;
    let mut call = Recorded::begin(&mut media, "s", recorder("s", 0, pb::RecordingFormat::WavStereo)).await;
    // More than a chunk: 64 KiB are two seconds.
    call.talk(125);
    media.apply(stop("s")).await.unwrap();
    let told = finalised(&mut events).await;
    call.assert_relayed();
    let audio = world.directory.join("s.0.wav.age");
    assert_eq!(
        (Path::new(&told.path), told.problem.as_str()),
        (audio.as_path(), "")
    );
    let bytes = std::fs::read(&audio).unwrap();
    assert_eq!(told.size_bytes, bytes.len() as u64);
    assert!(!bytes.windows(8).any(|eight| eight == b"WAVEfmt "));

    let described: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.directory.join("s.0.json")).unwrap()).unwrap();
    assert_eq!(
        (&described["file"], &described["sha256"]),
        (&"s.0.wav.age".into(), &told.sha256.clone().into())
    );
    assert_eq!(described["encryption"]["sealed"], true);
    assert_eq!(
        described["encryption"]["recipients"],
        serde_json::json!(world.publics)
    );
    let [first, second] = world.keys.each_ref().map(|key| open(key, &audio));
    assert!(first == second && first.1, "whole, for both");
    let (left, right) = sides(&first.0);
    assert_eq!(told.duration_ms, left.len() as u64 / 8);
    assert!(left.len() >= 16_000);
    holds_both(&left, &right);
    assert_eq!(open(&world.stranger, &audio), (Vec::new(), false));

    // Listed, fetched and deleted as any other.
    let mut files = files(&daemon).await;
    let list = pb::FileListRequest {
        kind: pb::FileKind::Recording.into(),
        ..Default::default()
    };
    let listed = files.list(list).await.unwrap().into_inner().files;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].name.as_str(), listed[0].duration_ms),
        ("s.0.wav.age", told.duration_ms)
    );
    let delete = pb::FileDeleteRequest {
        kind: pb::FileKind::Recording.into(),
        name: listed[0].name.clone(),
    };
    files.delete(delete).await.unwrap();
    let left = std::fs::read_dir(&world.directory).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".keys", ".pending"]);
    drop(daemon);
}

#[tokio::test]
async fn what_was_written_before_a_kill_can_be_read() {
    let world = Encrypted::new("encrypted-killed");
    let mut daemon = start(&world.settings);
    let mut media = daemon.media().await;
    let mut call = Recorded::begin(&mut media, "s", recorder("s", 0, pb::RecordingFormat::WavStereo)).await;
    let audio = world.directory.join("s.0.wav.age");
    // A whole chunk, and then something of the next that was kept.
    let kept = world.directory.join(".s.0.tail");
    let is_there = || {
        let tail = std::fs::read(&kept).unwrap_or_default();
        tail.first_chunk() == Some(&1_u64.to_be_bytes())
    };
    let began = std::time::Instant::now();
    while !is_there() {
        assert!(
            began.elapsed() < PATIENCE,
            "the end is kept while the call goes on"
        );
        call.talk(25);
    }
    daemon.kill();
    drop(daemon);
    // As a kill in the middle of a write would leave it.
    let mut torn = std::fs::read(&audio).unwrap();
    torn.extend([7; 1_000]);
    std::fs::write(&audio, torn).unwrap();

    let daemon = start(&world.settings);
    let told = finalised(&mut watch_from_start(&daemon).await).await;
    assert_eq!((told.repaired, told.problem.as_str()), (true, ""));
    assert_eq!(told.size_bytes, std::fs::metadata(&audio).unwrap().len());
    let described = sidecar(&world.directory.join("s.0.wav"));
    assert_eq!(
        (&described["state"], &described["encryption"]["sealed"]),
        (&"repaired".into(), &false.into())
    );
    assert_eq!(described["encryption"]["tail"], "s.0.tail.age");
    assert!(!kept.exists());
    let (mut content, is_whole) = open(&world.keys[0], &audio);
    assert!(
        !is_whole && content.len() == 64 << 10,
        "age says that the end is missing"
    );
    let (tail, is_whole) = open(&world.keys[1], &world.directory.join("s.0.tail.age"));
    assert!(is_whole && !tail.is_empty());
    content.extend(tail);
    let (left, right) = sides(&content);
    assert_eq!(told.duration_ms, left.len() as u64 / 8);
    holds_both(&left, &right);

    // The tail is fetched by its name.
    let fetch = pb::FetchRequest {
        kind: pb::FileKind::Recording.into(),
        name: "s.0.tail.age".into(),
        ..Default::default()
    };
    let mut parts = files(&daemon).await.fetch(fetch).await.unwrap().into_inner();
    let mut fetched = Vec::new();
    let fetching = async {
        while let Some(part) = parts.message().await.unwrap() {
            fetched.extend(part.data);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), fetching)
        .await
        .unwrap();
    assert_eq!(
        fetched,
        std::fs::read(world.directory.join("s.0.tail.age")).unwrap()
    );
    drop(daemon);
}
