//! Worlds that are always the same, and a few that change with each release.

use sim::{Run, run};

fn worlds(seeds: impl Iterator<Item = u64>) {
    let (mut heard, mut digits, mut refused) = (0, 0, 0);
    for seed in seeds {
        let done = run(Run {
            seed,
            ..Run::default()
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
        heard += done.heard;
        digits += done.digits;
        refused += done.refused;
    }
    assert!(
        heard > 1_000 && digits > 10 && refused > 10,
        "worlds in which little happens prove little"
    );
}

#[test]
fn the_fixed_seeds() {
    worlds(1..=25);
}

#[test]
fn seeds_of_this_release() {
    // FNV-1a: the same for everybody who has this version, other ones with the next.
    let hash = env!("CARGO_PKG_VERSION")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    worlds((0..6).map(|nth| hash.wrapping_add(nth)));
}
