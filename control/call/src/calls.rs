//! The calls there are, and which of them may have changed since they were last recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    ops::Index,
};

use crate::{
    call::{Call, CallId},
    conference::Member,
    saved::{CallDigests, MemberDigests},
};

/// Calls of two.
pub(crate) type Calls = Table<Call, CallDigests>;
/// Calls into conferences.
pub(crate) type Members = Table<Member, MemberDigests>;

/// A table of calls. Whoever takes a call to change it leaves a mark, so that its state is recorded before anything
/// about it leaves.
#[derive(Debug)]
pub(crate) struct Table<T, D> {
    /// Large, so that a tree of them would do nothing but move them about.
    calls: BTreeMap<CallId, Box<T>>,
    touched: BTreeSet<CallId>,
    /// The same, for who looks after each input.
    stirred: BTreeSet<CallId>,
    /// Digests of each call's state as last recorded.
    recorded: BTreeMap<CallId, Box<D>>,
}

impl<T, D> Default for Table<T, D> {
    fn default() -> Self {
        Self {
            calls: BTreeMap::new(),
            touched: BTreeSet::new(),
            stirred: BTreeSet::new(),
            recorded: BTreeMap::new(),
        }
    }
}

impl<T, D> Table<T, D> {
    pub(crate) fn get(&self, id: &CallId) -> Option<&T> {
        self.calls.get(id).map(|call| &**call)
    }

    pub(crate) fn get_mut(&mut self, id: &CallId) -> Option<&mut T> {
        let call = self.calls.get_mut(id)?;
        self.touched.insert(*id);
        self.stirred.insert(*id);
        Some(call)
    }

    pub(crate) fn insert(&mut self, id: CallId, call: Box<T>) {
        self.touch(id);
        self.calls.insert(id, call);
    }

    fn touch(&mut self, id: CallId) {
        self.touched.insert(id);
        self.stirred.insert(id);
    }

    pub(crate) fn remove(&mut self, id: &CallId) -> Option<Box<T>> {
        self.recorded.remove(id);
        let call = self.calls.remove(id)?;
        self.touch(*id);
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

    /// The next call that may have changed, or is gone, since it was given the last time.
    pub(crate) fn pop_stirred(&mut self) -> Option<CallId> {
        self.stirred.pop_first()
    }

    /// Every call is looked after as if it may have changed, though its state did not.
    pub(crate) fn stir_all(&mut self) {
        self.stirred.extend(self.calls.keys());
    }

    /// Digests of the call's state as last recorded; `None`: it was not, or that record is not to be built upon.
    pub(crate) fn recorded(&mut self, id: CallId) -> Option<&mut D> {
        self.recorded.get_mut(&id).map(|digests| &mut **digests)
    }

    /// The state with these digests is being recorded.
    pub(crate) fn set_recorded(&mut self, id: CallId, digests: D) {
        self.recorded.insert(id, Box::new(digests));
    }

    /// States are recorded again whether they changed or not, each when its call is looked at next.
    pub(crate) fn forget_recorded(&mut self) {
        self.recorded.clear();
    }

    /// The next call that may have changed, or is gone.
    pub(crate) fn pop_touched(&mut self) -> Option<CallId> {
        self.touched.pop_first()
    }
}

/// See [`Digest`].
pub(crate) fn digest(state: &(impl Hash + ?Sized)) -> u64 {
    let mut digest = Digest(0);
    state.hash(&mut digest);
    digest.0
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

impl<T, D> Index<&CallId> for Table<T, D> {
    type Output = T;

    fn index(&self, id: &CallId) -> &T {
        &self.calls[id]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_differ_anywhere_are_told_apart() {
        let text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n";
        let of = |bytes: &[u8], number: Option<u16>| digest(&(bytes, number, 7_u8));
        let known = of(text.as_bytes(), Some(0));
        assert_eq!(known, of(text.as_bytes(), Some(0)));
        for at in 0..text.len() {
            let mut other = text.as_bytes().to_vec();
            other[at] ^= 1;
            assert_ne!(known, of(&other, Some(0)), "byte {at}");
        }
        assert_ne!(known, of(text.as_bytes(), None));
        assert_ne!(known, of(text.as_bytes(), Some(1)));
        let zeros = (0..20).map(|count| digest(&[0_u8; 20][..count]));
        assert_eq!(zeros.collect::<BTreeSet<_>>().len(), 20);
    }
}
