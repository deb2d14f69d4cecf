//! Every seed of `corpus/` runs through its fuzz entry point and is opened or refused as its name says.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::path::Path;

#[test]
fn sounds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/sound");
    let mut counts = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let opened = sound::fuzzing::fuzz_sound(&std::fs::read(&path).unwrap());
        assert_eq!(opened, name.starts_with("ok-"), "{name}");
        counts = if opened {
            (counts.0 + 1, counts.1)
        } else {
            (counts.0, counts.1 + 1)
        };
    }
    assert!(counts.0 >= 11 && counts.1 >= 9, "{counts:?}");
}
