//! Everything follows from the seed.

use sim::{Run, run};

#[test]
fn the_same_seed_sees_the_same_packets() {
    let see = |seed| {
        let done = run(Run {
            seed,
            ..Run::default()
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
        (done.edits, done.refused, done.heard, done.digits, done.dropped)
    };
    assert_eq!(see(5), see(5));
    assert_ne!(see(5), see(6));
}
