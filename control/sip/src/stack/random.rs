//! Unguessable numbers from one seed.

use sha2::{Digest, Sha256};

use crate::text::hexadecimal;

/// A counter hashed with a secret seed: RFC 3261 §19.3 wants tags that cannot be guessed, and a replay needs the same
/// ones again.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    seed: [u8; 32],
    counter: u64,
    spare: [u64; 4],
    left: usize,
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            counter: 0,
            spare: [0; 4],
            left: 0,
        }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        if self.left == 0 {
            self.counter += 1;
            let hash = Sha256::new_with_prefix(self.seed)
                .chain_update(self.counter.to_be_bytes())
                .finalize();
            for (number, bytes) in self.spare.iter_mut().zip(hash.chunks_exact(8)) {
                *number = bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            }
            self.left = self.spare.len();
        }
        self.left -= 1;
        self.spare[self.left]
    }

    /// From 0 to `end`, both included.
    pub(crate) fn up_to(&mut self, end: u64) -> u64 {
        // The bias is below 2^-40 for the small ranges used here.
        self.next_u64() % (end + 1)
    }

    /// 16 hexadecimal digits.
    pub(crate) fn token(&mut self) -> String {
        hexadecimal(self.next_u64())
    }

    /// A number that nobody can guess, always the same one.
    pub(crate) fn secret(&self) -> u64 {
        let hash = Sha256::new_with_prefix(self.seed)
            .chain_update(b"index")
            .finalize();
        hash[..8].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    }

    /// The same token for the same text: the To tag of a response that keeps no state (RFC 3261 §8.2.7).
    pub(crate) fn token_for(&self, text: &[u8]) -> String {
        let hash = Sha256::new_with_prefix(self.seed)
            .chain_update(b"stateless")
            .chain_update(text)
            .finalize();
        hexadecimal(hash[..8].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }
}
