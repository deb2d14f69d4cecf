//! Memory is asked for before it is needed.
//!
//! What thousands of sessions are made of does not fit into the cache of a core, and each step of a packet finds in what it reads
//! where the next one reads: so packet after packet waits for the memory several times. Where it is known what comes next, each
//! step is asked for for many of them before any takes the step after it, and they wait together.

use std::ops::Range;

use super::{
    Egress, Engine,
    endpoint::Endpoint,
    slab::{Key, Slab},
    transport::Transport,
};
use crate::command::SocketId;

/// Bytes of a line of nearly all caches.
const LINE: usize = 64;

/// Where one has its turn after the other, these that many places on are asked for: what is read first the farthest ahead.
pub(super) const FARTHEST: usize = 12;
pub(super) const FAR: usize = 8;
pub(super) const NEAR: usize = 4;

/// Bytes `range` from `start` on.
pub(super) fn prefetch(tx: &impl Egress, start: *const u8, range: Range<usize>) {
    for at in range.step_by(LINE) {
        tx.prefetch(start.wrapping_add(at));
    }
}

/// All of `value`.
pub(super) fn prefetch_all<T: ?Sized>(tx: &impl Egress, value: &T) {
    prefetch(tx, std::ptr::from_ref(value).cast(), 0..size_of_val(value));
}

/// The beginning of what is long: once it is read there the hardware finds the rest.
pub(super) fn prefetch_first<T>(tx: &impl Egress, value: &T) {
    const FIRST: usize = 8 * LINE;
    prefetch(tx, std::ptr::from_ref(value).cast(), 0..FIRST.min(size_of::<T>()));
}

/// An endpoint that a packet is sent to after some others …
fn prefetch_far(tx: &impl Egress, endpoints: &Slab<Endpoint>, key: Key) {
    if let Some(at) = endpoints.address(key) {
        tx.prefetch(at);
        prefetch(tx, at, Endpoint::SENDING);
    }
}

/// … and when it has come near.
fn prefetch_near(tx: &impl Egress, endpoints: &Slab<Endpoint>, key: Key) {
    if let Some(endpoint) = endpoints.get(key) {
        endpoint.egress.prefetch(tx);
    }
}

/// Those that a packet is sent to after the next one: `after` says who has the turn after so many others.
pub(super) fn prefetch_listeners(
    tx: &impl Egress,
    endpoints: &Slab<Endpoint>,
    after: impl Fn(usize) -> Option<Key>,
) {
    if let Some(far) = after(FAR) {
        prefetch_far(tx, endpoints, far);
    }
    if let Some(near) = after(NEAR) {
        prefetch_near(tx, endpoints, near);
    }
}

impl Engine {
    /// A hint: the next datagrams are of these sockets.
    pub fn prefetch(&self, sockets: impl Iterator<Item = SocketId> + Clone, tx: &impl Egress) {
        let flows = || {
            sockets
                .clone()
                .filter_map(|socket| self.flows.get(socket.0 as usize))
        };
        flows().for_each(|flow| prefetch_all(tx, flow));
        let transports = || flows().flatten().map(|flow| flow.transport);
        transports()
            .filter_map(|key| self.transports.address(key))
            .for_each(|at| prefetch(tx, at, Transport::RECEIVING));
        let transports = || transports().filter_map(|key| self.transports.get(key));
        let sources = || transports().filter_map(|transport| transport.endpoint);
        sources()
            .filter_map(|key| self.endpoints.address(key))
            .for_each(|at| prefetch(tx, at, Endpoint::RECEIVING));
        transports().for_each(|transport| transport.prefetch(tx));
        let sources = || sources().filter_map(|key| self.endpoints.get(key));
        sources().for_each(|source| source.ingress.prefetch(tx));
        let branches = || sources().flat_map(|source| &source.ingress.branches);
        branches().for_each(|branch| branch.prefetch_far(tx));
        let listeners = || sources().filter_map(|source| source.ingress.hops.first());
        listeners().for_each(|key| prefetch_far(tx, &self.endpoints, *key));
        branches().for_each(|branch| branch.prefetch_near(tx));
        listeners().for_each(|key| prefetch_near(tx, &self.endpoints, *key));
    }
}
