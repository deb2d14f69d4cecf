//! What is kept by our own numbers.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

/// A map from numbers that we count up. Finished transactions stay for half a minute, so that maps of them are large: a
/// tree would be gone down for each question. Nobody goes by its order, which is the same in every process.
pub(crate) type IdMap<T> = HashMap<u64, T, BuildHasherDefault<IdHasher>>;

/// Spreads numbers that follow each other. No peer chooses them.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Odd, and half of its bits are ones: the golden ratio's. The map takes the place from the lowest bits of the
        // hash and a tag from the highest.
        let wide = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
