//! What peers wrote → our number for it.
//!
//! Finished transactions stay for half a minute, so there are tens of thousands of them, and all are cold. A tree of their
//! keys costs more to look into than the message to parse: each step fetches a key from somewhere else. This table holds
//! hashes, side by side. Whoever looks says whether a number with the hash is the one that is meant, so a hash that two
//! keys share does no harm; and nobody can make them share one, because hashes depend on a secret.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use hashbrown::HashTable;

/// Numbers by the hash of their keys. The keys stay with what the numbers stand for.
#[derive(Debug)]
pub(super) struct Index {
    secret: u64,
    /// Behind their hashes. Nobody goes by the order.
    numbers: HashTable<(u64, u64)>,
}

impl Index {
    /// An empty one; `secret` is not known to peers.
    pub(super) fn new(secret: u64) -> Self {
        let numbers = HashTable::new();
        Self { secret, numbers }
    }

    /// The number whose key is this one. `is_it` tells for a number whether it is.
    pub(super) fn find<K: Hash + ?Sized>(&self, key: &K, is_it: impl Fn(u64) -> bool) -> Option<u64> {
        let hash = self.hash(key);
        let found = self
            .numbers
            .find(hash, |(other, number)| *other == hash && is_it(*number));
        found.map(|(_, number)| *number)
    }

    pub(super) fn insert<K: Hash + ?Sized>(&mut self, key: &K, number: u64) {
        let hash = self.hash(key);
        self.numbers
            .insert_unique(hash, (hash, number), |(hash, _)| *hash);
    }

    pub(super) fn remove<K: Hash + ?Sized>(&mut self, key: &K, number: u64) {
        let is_it = |(_, other): &(u64, u64)| *other == number;
        if let Ok(found) = self.numbers.find_entry(self.hash(key), is_it) {
            found.remove();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret);
        key.hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its hash is its first letter's.
    #[derive(PartialEq)]
    struct Alike(&'static str);

    impl Hash for Alike {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            state.write_u8(self.0.as_bytes()[0]);
        }
    }

    #[test]
    fn keys_that_share_a_hash_are_told_apart() {
        let keys = ["aa", "ab", "b", "ac"].map(Alike);
        let mut index = Index::new(7);
        for (number, key) in (0..).zip(&keys) {
            index.insert(key, number);
        }
        let find = |index: &Index, key: &Alike| index.find(key, |number| keys[number as usize] == *key);
        for (number, key) in (0..).zip(&keys) {
            assert_eq!(find(&index, key), Some(number));
        }
        assert_eq!(find(&index, &Alike("ad")), None);
        index.remove(&keys[1], 1);
        let left = keys.each_ref().map(|key| find(&index, key));
        assert_eq!(left, [Some(0), None, Some(2), Some(3)]);
    }

    #[test]
    fn hashes_depend_on_the_secret() {
        let hash = |secret| Index::new(secret).hash("key");
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
