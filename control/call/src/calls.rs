//! The calls there are, and which of them may have changed since they were last recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    ops::Index,
};

use crate::{
    call::{Call, CallId},
    conference::Member,
};

/// Calls of two.
pub(crate) type Calls = Table<Call>;
/// Calls into conferences.
pub(crate) type Members = Table<Member>;

/// A table of calls. Whoever takes a call to change it leaves a mark, so that its state is recorded before anything
/// about it leaves.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// Large, so that a tree of them would do nothing but move them about.
    calls: BTreeMap<CallId, Box<T>>,
    touched: BTreeSet<CallId>,
    /// A digest of each call's state as last recorded.
    recorded: BTreeMap<CallId, u64>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            calls: BTreeMap::new(),
            touched: BTreeSet::new(),
            recorded: BTreeMap::new(),
        }
    }
}

impl<T> Table<T> {
    pub(crate) fn get(&self, id: &CallId) -> Option<&T> {
        self.calls.get(id).map(|call| &**call)
    }

    pub(crate) fn get_mut(&mut self, id: &CallId) -> Option<&mut T> {
        let call = self.calls.get_mut(id)?;
        self.touched.insert(*id);
        Some(call)
    }

    pub(crate) fn insert(&mut self, id: CallId, call: Box<T>) {
        self.touched.insert(id);
        self.calls.insert(id, call);
    }

    pub(crate) fn remove(&mut self, id: &CallId) -> Option<Box<T>> {
        self.recorded.remove(id);
        let call = self.calls.remove(id)?;
        self.touched.insert(*id);
        Some(call)
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&CallId, &T)> {
        self.calls.iter().map(|(id, call)| (id, &**call))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.calls.values().map(|call| &**call)
    }

    /// Those that may have changed, or are gone.
    pub(crate) fn touched(&self) -> impl Iterator<Item = CallId> {
        self.touched.iter().copied()
    }

    /// True when the call's state is another than the last time.
    pub(crate) fn is_news(&mut self, id: CallId, state: &(impl Hash + ?Sized)) -> bool {
        let mut digest = Digest(0);
        state.hash(&mut digest);
        self.recorded.insert(id, digest.0) != Some(digest.0)
    }

    /// The next call that may have changed, or is gone.
    pub(crate) fn pop_touched(&mut self) -> Option<CallId> {
        self.touched.pop_first()
    }
}

/// Tells the states of one call apart, some kilobytes each, several times as fast as the standard library's hash: eight
/// bytes at a time, each mixed in by a multiplication. A peer that found two states alike would have its own call go on
/// from the older one after a restart.
struct Digest(u64);

impl Digest {
    fn mix(&mut self, word: u64) {
        // Odd, and half of its bits are ones: the golden ratio's.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let wide = u128::from(self.0 ^ word) * u128::from(FACTOR);
        self.0 = (wide as u64).rotate_left(5) ^ (wide >> 64) as u64;
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        // The rest with its length, so that zeros count.
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = rest.len() as u8;
        self.mix(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<T> Index<&CallId> for Table<T> {
    type Output = T;

    fn index(&self, id: &CallId) -> &T {
        &self.calls[id]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_differ_anywhere_are_news() {
        let mut table: Table<()> = Table::default();
        let id = CallId(1);
        let text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n";
        assert!(table.is_news(id, &(text, Some(0_u16), 7_u8)));
        assert!(!table.is_news(id, &(text, Some(0_u16), 7_u8)));
        for at in 0..text.len() {
            let mut other = text.as_bytes().to_vec();
            other[at] ^= 1;
            assert!(table.is_news(id, &(&*other, Some(0_u16), 7_u8)), "byte {at}");
        }
        assert!(table.is_news(id, &(text, None::<u16>, 7_u8)));
        assert!(table.is_news(id, &(text, Some(1_u16), 7_u8)));
        for zeros in 0..20 {
            assert!(table.is_news(id, &[0_u8; 20][..zeros]), "{zeros} zeros");
        }
    }
}
