//! The calls there are, and which of them may have changed since they were last recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
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
        self.touched.remove(id);
        self.recorded.remove(id);
        self.calls.remove(id)
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

    /// True when this digest of the call's state is another than before.
    pub(crate) fn is_news(&mut self, id: CallId, digest: u64) -> bool {
        self.recorded.insert(id, digest) != Some(digest)
    }

    /// The next call that may have changed.
    pub(crate) fn pop_touched(&mut self) -> Option<CallId> {
        self.touched.pop_first()
    }
}

impl<T> Index<&CallId> for Table<T> {
    type Output = T;

    fn index(&self, id: &CallId) -> &T {
        &self.calls[id]
    }
}
