//! Every seed of `corpus/` runs through its fuzz entry point; Opus seeds are accepted or refused as their
//! names say.

use codecs::fuzzing::{fuzz_comfort_noise, fuzz_g722, fuzz_opus};
use codecs::opus::PacketInfo;
use std::path::Path;

/// Name and contents of every seed in `corpus/<folder>`.
fn seeds(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let mut seeds: Vec<_> = std::fs::read_dir(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| {
            let path = entry.expect("readable folder").path();
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("readable seed"))
        })
        .collect();
    seeds.sort();
    seeds
}

#[test]
fn opus() {
    let seeds = seeds("opus");
    assert!(seeds.len() >= 20, "{} seeds", seeds.len());
    for (name, bytes) in seeds {
        let accepted = name.starts_with("valid-");
        assert!(
            accepted || name.starts_with("refused-"),
            "{name} does not say what must happen to it"
        );
        assert_eq!(PacketInfo::parse(&bytes).is_ok(), accepted, "{name}");
        fuzz_opus(&bytes);
        for length in (0..bytes.len()).step_by(7) {
            fuzz_opus(&bytes[..length]);
        }
    }
}

#[test]
fn g722() {
    let seeds = seeds("g722");
    assert!(seeds.len() >= 4, "{} seeds", seeds.len());
    for (_, bytes) in seeds {
        fuzz_g722(&bytes);
    }
}

#[test]
fn comfort_noise() {
    let seeds = seeds("comfort_noise");
    assert!(seeds.len() >= 6, "{} seeds", seeds.len());
    for (_, bytes) in seeds {
        for length in 0..=bytes.len() {
            fuzz_comfort_noise(&bytes[..length]);
        }
    }
}
