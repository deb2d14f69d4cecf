//! Every seed of `corpus/srtp`, and every cut of it, runs through the fuzzer's entry point.

use std::path::Path;

use proptest::prelude::*;
use srtp::fuzzing::fuzz_srtp;

#[test]
fn seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/srtp");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let bytes = std::fs::read(entry.expect("readable folder").path()).expect("readable seed");
        for len in 0..=bytes.len() {
            fuzz_srtp(&bytes[..len]);
        }
        count += 1;
    }
    assert!(count >= 10, "{count} seeds");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_script(script in proptest::collection::vec(any::<u8>(), 0..600)) {
        fuzz_srtp(&script);
    }
}
