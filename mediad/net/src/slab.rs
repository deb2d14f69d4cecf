//! The table of registered sockets.

use crate::{NetError, SocketId, sys};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};

/// Dense table with reuse; memory for `max` entries is taken at once. `S` is the backend's state per socket.
pub(crate) struct Slab<S> {
    entries: Vec<Option<Entry<S>>>,
    free: Vec<u32>,
    max: usize,
}

pub(crate) struct Entry<S> {
    pub(crate) socket: UdpSocket,
    pub(crate) state: S,
}

impl<S> Slab<S> {
    pub(crate) fn new(max: usize) -> Self {
        Slab {
            entries: Vec::with_capacity(max),
            free: Vec::with_capacity(max),
            max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, socket: UdpSocket, state: S) -> Result<SocketId, NetError> {
        let entry = Some(Entry { socket, state });
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = entry;
            return Ok(SocketId(index));
        }
        if self.entries.len() == self.max {
            return Err(NetError::Full { max: self.max });
        }
        self.entries.push(entry);
        Ok(SocketId(self.entries.len() as u32 - 1))
    }

    pub(crate) fn remove(&mut self, id: SocketId) -> Option<Entry<S>> {
        let entry = self.entries.get_mut(id.index())?.take()?;
        self.free.push(id.0);
        Some(entry)
    }

    pub(crate) fn entry_mut(&mut self, id: SocketId) -> Option<&mut Entry<S>> {
        self.entries.get_mut(id.index())?.as_mut()
    }

    pub(crate) fn state(&self, id: SocketId) -> Option<&S> {
        Some(&self.entries.get(id.index())?.as_ref()?.state)
    }

    /// A hint: what is known of `id` is used soon.
    pub(crate) fn prefetch(&self, id: SocketId) {
        if let Some(entry) = self.entries.get(id.index()) {
            let start = std::ptr::from_ref(entry).cast::<u8>();
            (0..size_of_val(entry))
                .step_by(64)
                .for_each(|at| sys::prefetch(start.wrapping_add(at)));
        }
    }

    pub(crate) fn each(&mut self, mut visit: impl FnMut(&mut Entry<S>)) {
        self.entries.iter_mut().flatten().for_each(&mut visit);
    }

    pub(crate) fn fd(&self, id: SocketId) -> Option<RawFd> {
        Some(self.entries.get(id.index())?.as_ref()?.socket.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn ids_are_dense_reused_and_bounded() {
        let mut slab = Slab::new(2);
        let a = slab.insert(socket(), ()).unwrap();
        let b = slab.insert(socket(), ()).unwrap();
        assert_eq!((a, b), (SocketId(0), SocketId(1)));
        assert!(matches!(
            slab.insert(socket(), ()),
            Err(NetError::Full { max: 2 })
        ));
        assert!(slab.remove(a).is_some());
        assert!(slab.remove(a).is_none());
        assert!(slab.remove(SocketId(9)).is_none());
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.insert(socket(), ()).unwrap(), a);
        assert!(slab.fd(a).is_some());
    }
}
