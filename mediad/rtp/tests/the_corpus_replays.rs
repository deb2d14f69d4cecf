//! Every seed of `corpus/` runs through its fuzz entry point and is accepted or refused as its name says.
//!
//! `valid-` is accepted, `reduced-` only as reduced-size RTCP, `refused-` not at all; event seeds are scripts, see
//! [`rtp::fuzzing::fuzz_event`].

use std::path::Path;

use rtp::fuzzing::{fuzz_event, fuzz_rtcp, fuzz_rtp};
use rtp::header::RtpReader;
use rtp::rtcp::Compound;

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

/// The part of a seed's name that says what must happen to it.
fn expectation(name: &str) -> &str {
    name.split('-').next().unwrap_or_default()
}

#[test]
fn rtp() {
    let seeds = seeds("rtp");
    assert!(seeds.len() >= 22, "{} seeds", seeds.len());
    for (name, bytes) in seeds {
        fuzz_rtp(&bytes);
        let accepted = match expectation(&name) {
            "valid" => true,
            "refused" => false,
            other => panic!("{name}: {other} is no expectation"),
        };
        assert_eq!(RtpReader::parse(&bytes).is_ok(), accepted, "{name}");
        for length in 0..bytes.len() {
            fuzz_rtp(&bytes[..length]);
        }
    }
}

#[test]
fn rtcp() {
    let seeds = seeds("rtcp");
    assert!(seeds.len() >= 32, "{} seeds", seeds.len());
    for (name, bytes) in seeds {
        fuzz_rtcp(&bytes);
        let (full, reduced) = match expectation(&name) {
            "valid" => (true, true),
            "reduced" => (false, true),
            "refused" => (false, false),
            other => panic!("{name}: {other} is no expectation"),
        };
        assert_eq!(Compound::parse(&bytes).is_ok(), full, "{name}");
        assert_eq!(Compound::parse_reduced_size(&bytes).is_ok(), reduced, "{name}");
        for length in 0..bytes.len() {
            fuzz_rtcp(&bytes[..length]);
        }
    }
}

#[test]
fn event() {
    let seeds = seeds("event");
    assert!(seeds.len() >= 13, "{} seeds", seeds.len());
    for (_, bytes) in seeds {
        fuzz_event(&bytes);
        for length in 0..bytes.len() {
            fuzz_event(&bytes[..length]);
        }
    }
}
