//! The corpus, random bytes and mutated descriptions through the fuzz entry point, and round trips.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sdp::Description;
use sdp::fuzzing::fuzz_description;

fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/description");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_replays() {
    let corpus = corpus();
    assert!(corpus.len() >= 18, "{}", corpus.len());
    corpus.iter().for_each(|data| fuzz_description(data));
}

#[test]
fn what_is_beyond_a_bound_is_refused() {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n";
    for text in [
        format!("{head}{}", "a=x\r\n".repeat(2_000)),
        format!("{head}{}", "m=audio 1 RTP/AVP 0\r\n".repeat(33)),
        format!("{head}a={}\r\n", "x".repeat(3_000)),
        format!(
            "{head}{}",
            "a=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(900)
        ),
    ] {
        assert!(Description::parse(text.as_bytes()).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes(data in proptest::collection::vec(any::<u8>(), 0..512)) {
        fuzz_description(&data);
    }

    #[test]
    fn mutated_descriptions(
        index in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..8),
    ) {
        let corpus = corpus();
        let mut data = index.get(&corpus).clone();
        for (at, byte, kind) in edits {
            if data.is_empty() {
                break;
            }
            let at = at.index(data.len());
            match kind {
                0 => data[at] = byte,
                1 => data.insert(at, byte),
                _ => drop(data.remove(at)),
            }
        }
        fuzz_description(&data);
    }
}
