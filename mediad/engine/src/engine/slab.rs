//! Storage with generational keys that never moves what it holds: growing by whole chunks keeps a command that
//! creates one more session from copying thousands of others while packets wait.

const CHUNK_BITS: u32 = 6;
const CHUNK: usize = 1 << CHUNK_BITS;

/// A place in a slab and the life it belongs to. A key of a value that was removed finds nothing, even when its
/// place is in use again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Finds nothing, ever.
    pub(crate) const NONE: Self = Self {
        index: u32::MAX,
        generation: u32::MAX,
    };

    /// Dense number of the place, for tables beside the slab.
    pub(crate) const fn index(self) -> u32 {
        self.index
    }

    /// Both halves, for hashing.
    pub(crate) const fn bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }
}

/// The generation in front, where it shares a cache line with what is read first.
#[derive(Debug)]
#[repr(C)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: Vec<u32>,
    count: usize,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            count: 0,
        }
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        if self.free.is_empty() {
            self.grow();
        }
        let index = self.free.pop().expect("grow() leaves free places");
        let slot = &mut self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK];
        slot.value = Some(value);
        self.count += 1;
        Key {
            index,
            generation: slot.generation,
        }
    }

    fn grow(&mut self) {
        let first = (self.chunks.len() * CHUNK) as u32;
        self.chunks.push(
            (0..CHUNK)
                .map(|_| Slot {
                    generation: 0,
                    value: None,
                })
                .collect(),
        );
        // Lowest index on top, so that a small slab stays in few cache lines.
        self.free.extend((first..first + CHUNK as u32).rev());
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self
            .chunks
            .get((key.index >> CHUNK_BITS) as usize)?
            .get(key.index as usize % CHUNK)?;
        if slot.generation == key.generation {
            slot.value.as_ref()
        } else {
            None
        }
    }

    /// Where the value of `key` lies, if it lives: nothing of it is read.
    #[inline]
    pub(crate) fn address(&self, key: Key) -> Option<*const u8> {
        let chunk = self.chunks.get((key.index >> CHUNK_BITS) as usize)?;
        Some(std::ptr::from_ref(chunk.get(key.index as usize % CHUNK)?).cast())
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self
            .chunks
            .get_mut((key.index >> CHUNK_BITS) as usize)?
            .get_mut(key.index as usize % CHUNK)?;
        if slot.generation == key.generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// The value in place `index`, with its key.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let slot = self
            .chunks
            .get_mut((index >> CHUNK_BITS) as usize)?
            .get_mut(index as usize % CHUNK)?;
        let key = Key {
            index,
            generation: slot.generation,
        };
        slot.value.as_mut().map(|value| (key, value))
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self
            .chunks
            .get_mut((key.index >> CHUNK_BITS) as usize)?
            .get_mut(key.index as usize % CHUNK)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        self.count -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_dies_with_its_value() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.index(), first.index(), "the place is used again");
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
        assert_eq!(slab.count(), 1);
    }

    #[test]
    fn grows_past_a_chunk() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..200).map(|n| slab.insert(n)).collect();
        assert!(keys.iter().enumerate().all(|(n, key)| slab.get(*key) == Some(&n)));
        assert_eq!(slab.at_mut(199).map(|(key, n)| (key, *n)), Some((keys[199], 199)));
        assert_eq!(slab.at_mut(100_000), None);
    }
}
