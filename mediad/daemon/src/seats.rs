//! Programs attached to taps: who is to be woken when a worker wrote something for one of them.
//!
//! Workers ring the host thread's doorbell, and the host thread looks at the seats: no worker ever touches the runtime of
//! the gRPC side.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use media_engine::{command::SessionKey, spec::Name, tap::TapPort};
use proto::mediad::v1 as pb;
use tokio::sync::{Notify, mpsc};

use crate::limits;

/// Where programs sit.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    seats: Mutex<Taken>,
    /// Somebody sits: otherwise there is nothing to lock for.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Taken {
    by_number: BTreeMap<u64, Seat>,
    last: u64,
}

#[derive(Debug)]
struct Seat {
    port: Arc<TapPort>,
    session: SessionKey,
    node: Name,
    news: Arc<Notify>,
    events: mpsc::Sender<pb::Event>,
}

/// A program's seat; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Sitting {
    seats: Arc<Seats>,
    number: u64,
    /// Rings when there is something to hear, to acknowledge or to end for.
    pub(crate) news: Arc<Notify>,
    /// Events of those the tap hears.
    pub(crate) events: mpsc::Receiver<pb::Event>,
}

impl Drop for Sitting {
    fn drop(&mut self) {
        let mut seats = self.seats.lock();
        seats.by_number.remove(&self.number);
        self.seats
            .any
            .store(!seats.by_number.is_empty(), Ordering::Release);
    }
}

impl Seats {
    /// A seat for a program that attaches to `port`.
    pub(crate) fn sit(self: &Arc<Self>, session: SessionKey, node: Name, port: Arc<TapPort>) -> Sitting {
        let news = Arc::new(Notify::new());
        let (events, told) = mpsc::channel(limits::TAP_EVENTS);
        let seat = Seat {
            port,
            session,
            node,
            news: Arc::clone(&news),
            events,
        };
        let mut seats = self.lock();
        seats.last += 1;
        let number = seats.last;
        seats.by_number.insert(number, seat);
        self.any.store(true, Ordering::Release);
        Sitting {
            seats: Arc::clone(self),
            number,
            news,
            events: told,
        }
    }

    /// Wakes those for whom something happened.
    pub(crate) fn ring(&self) {
        if self.is_any() {
            for seat in self.lock().by_number.values() {
                if seat.port.take_news() {
                    seat.news.notify_one();
                }
            }
        }
    }

    /// Whether any program sits anywhere.
    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Tells programs at `taps` of an event. Whoever does not read loses it.
    pub(crate) fn tell(&self, session: SessionKey, taps: &[Name], event: &pb::Event) {
        for seat in self.lock().by_number.values() {
            if seat.session == session && taps.contains(&seat.node) {
                let _ = seat.events.try_send(event.clone());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
