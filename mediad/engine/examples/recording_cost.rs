//! What recording costs the file thread: `cargo run --release -p media-engine --example recording_cost -- DIRECTORY`.
//!
//! A thousand stereo recordings of G.711 calls at once, WAV, for twenty seconds of virtual time: packets into the rings, the rings
//! emptied every 150 ms, decoded, placed, and written to real files in DIRECTORY once a second each. The thread's own time, the
//! copies into the rings included. The last line is how many recordings one core would carry.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement reads clocks and writes files"
)]

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use codecs::{CodecKind, mix::UNITY};
use media_engine::{
    recording::{Placing, Recording, RecordingFeed, Settings, Workbench, ring, ring_bytes},
    spec::RecordingFormat,
};

const RECORDINGS: usize = 1_000;
const SECONDS: u64 = 20;
const FRAME: Duration = Duration::from_millis(20);
/// Turns of the file thread, in frames.
const TURN_FRAMES: u64 = 7;
const WRITE_FRAMES: u64 = 50;

struct Desk {
    feed: RecordingFeed,
    recording: Recording,
    file: File,
    file_bytes: u64,
    waiting: Vec<u8>,
}

fn main() {
    let directory = std::env::args().nth(1).expect("a directory for the files");
    let start = Instant::now();
    let mut bench = Workbench::default();
    let mut desks: Vec<Desk> = (0..RECORDINGS)
        .map(|n| open(Path::new(&directory), n, start))
        .collect();
    let payload = [0x9a; 160];
    let (mut feeding, mut writing) = (0, 0);
    for frame in 0..SECONDS * 50 {
        let at = start + FRAME * frame as u32;
        let before = cpu_ns();
        for desk in &desks {
            for leg in 0..2 {
                let placing = Placing {
                    leg,
                    right: leg == 1,
                    gain: UNITY,
                };
                let place = (u64::from(leg) + 1, frame, frame as u32 * 160);
                desk.feed.packet(placing, at, place, CodecKind::Pcmu, &payload);
            }
        }
        let fed = cpu_ns();
        feeding += fed - before;
        if frame % TURN_FRAMES == 0 {
            for (n, desk) in desks.iter_mut().enumerate() {
                desk.recording.turn(at, &mut bench, &mut desk.waiting);
                // Each once a second, spread over it.
                if (frame / TURN_FRAMES + n as u64).is_multiple_of(WRITE_FRAMES / TURN_FRAMES) {
                    desk.file
                        .write_all_at(&desk.waiting, desk.file_bytes)
                        .expect("the disk takes it");
                    desk.file_bytes += desk.waiting.len() as u64;
                    desk.waiting.clear();
                }
            }
            writing += cpu_ns() - fed;
        }
    }
    let lost: u64 = desks.iter().map(|desk| desk.recording.report().lost()).sum();
    let per_second = |ns: u64| ns as f64 / 1e3 / (SECONDS as f64 * RECORDINGS as f64);
    println!("{RECORDINGS} stereo recordings of G.711, {SECONDS} s, {lost} packets lost");
    println!(
        "worker:      {:7.1} us of CPU for each second of a recording",
        per_second(feeding)
    );
    println!(
        "file thread: {:7.1} us of CPU for each second of a recording",
        per_second(writing)
    );
    println!("stereo_recordings (one core): {:.0}", 1e6 / per_second(writing));
}

fn open(directory: &Path, n: usize, start: Instant) -> Desk {
    let (feed, intake) = ring(ring_bytes(8_000), start);
    let mut waiting = Vec::new();
    let settings = Settings::new(RecordingFormat::WavStereo, 8_000);
    let recording = Recording::new(settings, intake, &mut waiting).expect("a rate it runs at");
    feed.begin(start);
    let path = directory.join(format!("cost-{n:04}.wav"));
    Desk {
        feed,
        recording,
        file: File::create(path).expect("the directory is there"),
        file_bytes: 0,
        waiting,
    }
}

/// CPU of this thread so far, by the kernel's count.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    let first = text.split(' ').next().expect("it has three figures");
    first.parse().expect("a figure")
}
