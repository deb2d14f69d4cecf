//! Packets from one worker to another, for links whose ends live on different cores. A packet is copied into the other
//! worker's inbox and the worker woken: it is there before that worker sleeps again. A full inbox takes no more, and the
//! packet is lost and counted where it left.

use std::sync::OnceLock;

use crossbeam_queue::ArrayQueue;
use media_engine::command::{LinkId, LinkPacket};
use media_net::Waker;

use crate::limits;

/// The inboxes of all workers. Lock-free.
#[derive(Debug)]
pub(crate) struct Exchange {
    desks: Box<[Desk]>,
}

#[derive(Debug)]
struct Desk {
    inbox: ArrayQueue<Parcel>,
    waker: OnceLock<Waker>,
}

/// A packet on its way.
#[derive(Debug)]
pub(crate) struct Parcel {
    from: LinkId,
    link: LinkId,
    hops: u8,
    len: u16,
    data: [u8; limits::PARCEL_BYTES],
}

impl Parcel {
    /// `None`: it does not fit.
    fn of(packet: &LinkPacket<'_>) -> Option<Self> {
        let mut data = [0; limits::PARCEL_BYTES];
        data.get_mut(..packet.data.len())?.copy_from_slice(packet.data);
        Some(Self {
            from: packet.from,
            link: packet.link,
            hops: packet.hops,
            len: packet.data.len() as u16,
            data,
        })
    }

    /// The packet, for the engine of `worker`.
    pub(crate) fn packet(&self, worker: usize) -> LinkPacket<'_> {
        LinkPacket {
            worker,
            from: self.from,
            link: self.link,
            hops: self.hops,
            data: &self.data[..usize::from(self.len)],
        }
    }
}

impl Exchange {
    /// An exchange for so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        // One worker has nobody to exchange with.
        let places = if workers > 1 {
            limits::PARCELS_PER_WORKER
        } else {
            1
        };
        let desk = |_| Desk {
            inbox: ArrayQueue::new(places),
            waker: OnceLock::new(),
        };
        Self {
            desks: (0..workers).map(desk).collect(),
        }
    }

    /// How many workers there are.
    pub(crate) fn count(&self) -> usize {
        self.desks.len()
    }

    /// How `worker` is woken.
    pub(crate) fn attach(&self, worker: usize, waker: Waker) {
        let _ = self.desks[worker].waker.set(waker);
    }

    /// Puts a packet into the inbox of its worker, who is to be woken; false if it cannot be done.
    pub(crate) fn put(&self, packet: &LinkPacket<'_>) -> bool {
        let desk = self.desks.get(packet.worker);
        let parcel = Parcel::of(packet);
        desk.zip(parcel)
            .is_some_and(|(desk, parcel)| desk.inbox.push(parcel).is_ok())
    }

    /// Wakes a worker who has something in its inbox.
    pub(crate) fn wake(&self, worker: usize) {
        if let Some(waker) = self.desks[worker].waker.get() {
            waker.wake();
        }
    }

    /// The next packet for `worker`.
    pub(crate) fn take(&self, worker: usize) -> Option<Parcel> {
        self.desks[worker].inbox.pop()
    }

    /// Nothing waits for `worker`.
    pub(crate) fn is_empty(&self, worker: usize) -> bool {
        self.desks[worker].inbox.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(worker: usize, data: &[u8]) -> LinkPacket<'_> {
        LinkPacket {
            worker,
            from: LinkId(1),
            link: LinkId(2),
            hops: 3,
            data,
        }
    }

    #[test]
    fn packets_come_out_as_they_went_in_and_a_full_inbox_says_so() {
        let exchange = Exchange::new(2);
        let mut taken = 0;
        while exchange.put(&packet(1, &[taken as u8; 160])) {
            taken += 1;
        }
        assert_eq!(taken, limits::PARCELS_PER_WORKER);
        assert!(exchange.is_empty(0) && !exchange.is_empty(1));
        for n in 0..taken {
            let parcel = exchange.take(1).expect("as many as went in");
            assert_eq!(parcel.packet(1), packet(1, &[n as u8; 160]));
        }
        assert!(exchange.take(1).is_none());
    }

    #[test]
    fn what_is_longer_than_a_parcel_is_not_taken() {
        let exchange = Exchange::new(2);
        assert!(exchange.put(&packet(1, &[0; limits::PARCEL_BYTES])));
        assert!(!exchange.put(&packet(1, &[0; limits::PARCEL_BYTES + 1])));
    }
}
