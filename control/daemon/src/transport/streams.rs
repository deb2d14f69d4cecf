//! Connections: a table of them, and a task each, which reads, cuts messages, and writes what the core thread queues.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use sip::{
    message::FramerRole,
    stack::{Flow, FlowId, Target, Transport},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Handle,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::{
    Counters, connection,
    guard::{self, Guard, Verdict},
    tls::{self, Identities},
    websocket,
};
use crate::{
    config::{Config, Signalling, Websocket},
    core::{Input, Inputs},
    limits,
};

/// Connections are numbered from here; numbers below are UDP sockets.
pub(super) const FIRST_ID: u64 = 1 << 32;

/// Every connection, by number and by peer.
#[derive(Clone)]
pub(super) struct Streams {
    shared: Arc<Shared>,
}

/// What the tasks share.
pub(super) struct Shared {
    table: Mutex<Table>,
    next_id: AtomicU64,
    runtime: Handle,
    inputs: Inputs,
    counters: Arc<Counters>,
    guard: Arc<Guard>,
    identities: Arc<Identities>,
    terms: Arc<Terms>,
}

/// What holds for all connections. It can change while they live.
#[derive(Debug)]
pub(crate) struct Terms {
    current: RwLock<Arc<(Signalling, Websocket)>>,
}

impl Terms {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            current: RwLock::new(Arc::new((config.signalling.clone(), config.websocket.clone()))),
        }
    }

    /// These from now on. Connections that are more than allowed stay.
    pub(crate) fn reload(&self, config: &Config) {
        let new = Arc::new((config.signalling.clone(), config.websocket.clone()));
        *self.current.write().expect("nobody panics while holding it") = new;
    }

    fn now(&self) -> Arc<(Signalling, Websocket)> {
        Arc::clone(&self.current.read().expect("nobody panics while holding it"))
    }
}

#[derive(Default)]
struct Table {
    by_id: BTreeMap<u64, Entry>,
    /// The newest connection of a peer: what is sent to its address goes there (RFC 3261 §18.1.1, RFC 5923).
    by_peer: BTreeMap<Peer, u64>,
    /// By [`guard::key`].
    per_source: BTreeMap<IpAddr, usize>,
}

/// Whom a connection leads to. One that we checked a name of serves that name only, and nobody has a name unchecked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Peer {
    transport: Transport,
    remote: SocketAddr,
    name: Option<Bytes>,
}

struct Entry {
    peer: Peer,
    writes: mpsc::Sender<Bytes>,
}

/// A place in the table, given back when it is dropped.
struct Place {
    shared: Arc<Shared>,
    id: u64,
    writes: mpsc::Receiver<Bytes>,
}

impl Streams {
    pub(super) fn new(
        inputs: Inputs,
        counters: Arc<Counters>,
        guard: Arc<Guard>,
        identities: Arc<Identities>,
        terms: Arc<Terms>,
    ) -> Self {
        let shared = Shared {
            table: Mutex::default(),
            next_id: AtomicU64::new(FIRST_ID),
            runtime: Handle::current(),
            inputs,
            counters,
            guard,
            identities,
            terms,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Queues a message on a connection, or opens one. False: it cannot be sent.
    pub(super) fn send(&self, target: &Target, bytes: Bytes) -> bool {
        let queue = {
            let table = self.shared.table();
            let id = match target {
                Target::Flow(flow) => Some(flow.id.0),
                Target::Address { .. } => table.by_peer.get(&Peer::of(target)).copied(),
            };
            // The number of a connection that a process before this one had may be another phone's by now.
            let is_theirs = |entry: &&Entry| entry.peer.remote == target.remote();
            id.and_then(|id| table.by_id.get(&id))
                .filter(is_theirs)
                .map(|entry| entry.writes.clone())
        };
        match (queue, target) {
            // A peer that does not read: its queue is bounded.
            (Some(queue), _) => queue.try_send(bytes).is_ok(),
            (None, Target::Flow(_)) => false,
            (None, Target::Address { transport, .. }) => match transport {
                Transport::Tcp | Transport::Tls => self.open(target.clone(), bytes),
                // Browsers connect to us, never the other way (RFC 7118 §5).
                Transport::Udp | Transport::Ws | Transport::Wss => false,
            },
        }
    }

    /// Closes every connection from there.
    pub(super) fn close(&self, source: IpAddr) {
        let mut table = self.shared.table();
        let of_source = |entry: &Entry| guard::key(entry.peer.remote.ip()) == guard::key(source);
        let gone: Vec<u64> = table
            .by_id
            .iter()
            .filter(|(_, entry)| of_source(entry))
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            // Without its queue a connection ends.
            table.remove(id, &self.shared.counters);
        }
    }

    pub(super) fn accepted(&self, transport: Transport, stream: TcpStream, remote: SocketAddr) {
        let shared = &self.shared;
        let peer = Peer {
            transport,
            remote,
            name: None,
        };
        let counters = shared.counters.of(transport);
        if shared.guard.refuses(std::time::Instant::now(), remote.ip()) {
            return;
        }
        let Some(place) = shared.register(peer) else {
            counters.refused.fetch_add(1, Relaxed);
            return;
        };
        counters.accepted.fetch_add(1, Relaxed);
        tokio::spawn(async move { place.serve_accepted(transport, stream, remote).await });
    }

    fn open(&self, target: Target, first: Bytes) -> bool {
        let shared = &self.shared;
        let peer = Peer::of(&target);
        let counters = shared.counters.of(peer.transport);
        let Some(place) = shared.register(peer) else {
            counters.refused.fetch_add(1, Relaxed);
            return false;
        };
        let table = shared.table();
        let queued = table
            .by_id
            .get(&place.id)
            .map(|entry| entry.writes.try_send(first));
        debug_assert!(
            queued.is_some_and(|queued| queued.is_ok()),
            "a new queue has room"
        );
        drop(table);
        let inputs = shared.inputs.clone();
        shared.runtime.spawn(async move {
            place.serve_opened(&target).await;
            // What waits for an answer from there goes to its next target.
            let _ = inputs.deliver(Input::TransportError(target)).await;
        });
        true
    }
}

impl Peer {
    fn of(target: &Target) -> Self {
        let (transport, remote) = (target.transport(), target.remote());
        let name = match target {
            Target::Address {
                transport: Transport::Tls | Transport::Wss,
                server_name,
                ..
            } => server_name.clone(),
            Target::Address { .. } | Target::Flow(_) => None,
        };
        Self {
            transport,
            remote,
            name,
        }
    }
}

impl Table {
    fn remove(&mut self, id: u64, counters: &Counters) {
        let Some(entry) = self.by_id.remove(&id) else {
            return;
        };
        if self.by_peer.get(&entry.peer) == Some(&id) {
            self.by_peer.remove(&entry.peer);
        }
        let source = guard::key(entry.peer.remote.ip());
        if let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
        counters
            .of(entry.peer.transport)
            .connections
            .fetch_sub(1, Relaxed);
    }
}

impl Shared {
    /// Takes a place; `None` when there are too many connections.
    fn register(self: &Arc<Self>, peer: Peer) -> Option<Place> {
        let terms = self.terms.now();
        let (most, most_of_source) = (terms.0.tcp_connections, terms.0.tcp_connections_per_source);
        let mut table = self.table();
        let source = guard::key(peer.remote.ip());
        let of_source = table.per_source.get(&source).copied().unwrap_or_default();
        if table.by_id.len() >= most || of_source >= most_of_source {
            return None;
        }
        let id = self.next_id.fetch_add(1, Relaxed);
        let (writes, queue) = mpsc::channel(limits::WRITES_PER_CONNECTION);
        self.counters.of(peer.transport).connections.fetch_add(1, Relaxed);
        table.by_peer.insert(peer.clone(), id);
        table.by_id.insert(id, Entry { peer, writes });
        *table.per_source.entry(source).or_default() += 1;
        Some(Place {
            shared: Arc::clone(self),
            id,
            writes: queue,
        })
    }

    pub(super) fn message_timeout(&self) -> Duration {
        self.terms.now().0.message_timeout()
    }

    pub(super) fn idle(&self) -> Duration {
        self.terms.now().0.idle()
    }

    pub(super) fn keepalive(&self) -> Duration {
        self.terms.now().0.keepalive()
    }

    /// Gives a message to the core thread, at the pace its source may have.
    ///
    /// # Errors
    /// The source is silenced, or the core thread is gone: the connection ends.
    pub(super) async fn deliver(&self, flow: Flow, bytes: Bytes) -> io::Result<()> {
        loop {
            match self
                .guard
                .admit(std::time::Instant::now(), flow.remote.ip(), &bytes)
            {
                Verdict::Pass => return self.pass(Input::Message(flow, bytes)).await,
                Verdict::Wait(time) => sleep(time).await,
                Verdict::Silence => return Err(io::Error::other("its source is silenced")),
            }
        }
    }

    /// Gives anything else to the core thread.
    ///
    /// # Errors
    /// The core thread is gone.
    pub(super) async fn pass(&self, input: Input) -> io::Result<()> {
        let delivered = self.inputs.deliver(input).await;
        delivered.map_err(|_| io::Error::other("the core thread is gone"))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nobody panics while holding the table")
    }
}

impl Place {
    /// A connection that came in: TLS and WebSocket handshakes first, in bounded time.
    async fn serve_accepted(mut self, transport: Transport, stream: TcpStream, remote: SocketAddr) {
        let served = self.accept(transport, stream, remote).await;
        self.note(transport, remote, served);
    }

    async fn accept(
        &mut self,
        transport: Transport,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> io::Result<()> {
        let flow = self.flow(transport, &stream, remote)?;
        stream.set_nodelay(true)?;
        let deadline = Instant::now() + limits::HANDSHAKE_TIMEOUT;
        match transport {
            Transport::Udp | Transport::Tcp => self.exchange(stream, flow, FramerRole::Acceptor).await,
            Transport::Ws => self.websocket(stream, flow, deadline).await,
            Transport::Tls | Transport::Wss => {
                let acceptor = self.shared.identities.acceptor();
                let acceptor = acceptor.ok_or_else(|| io::Error::other("no certificate"))?;
                let accepted = tokio::time::timeout_at(deadline, acceptor.accept(stream)).await;
                let stream = match accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(stream) => stream,
                    Err(error) => {
                        self.shared
                            .counters
                            .of(transport)
                            .handshakes_failed
                            .fetch_add(1, Relaxed);
                        return Err(error);
                    }
                };
                if transport == Transport::Tls {
                    self.exchange(stream, flow, FramerRole::Acceptor).await
                } else {
                    self.websocket(stream, flow, deadline).await
                }
            }
        }
    }

    async fn websocket<S>(&mut self, stream: S, flow: Flow, deadline: Instant) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let terms = self.shared.terms.now();
        let accepted = tokio::time::timeout_at(deadline, websocket::accept(stream, &terms.1)).await;
        drop(terms);
        let socket = match accepted {
            Ok(Ok(socket)) => socket,
            refused => {
                self.shared
                    .counters
                    .of(flow.transport)
                    .handshakes_failed
                    .fetch_add(1, Relaxed);
                return match refused {
                    Ok(Err(error)) => Err(io::Error::other(error)),
                    Ok(Ok(_)) | Err(_) => Err(io::ErrorKind::TimedOut.into()),
                };
            }
        };
        let ended = websocket::exchange(&self.shared, socket, flow, &mut self.writes).await;
        self.gone(flow).await;
        ended
    }

    /// A connection of ours.
    async fn serve_opened(mut self, target: &Target) {
        let (transport, remote) = (target.transport(), target.remote());
        let served = match timeout(limits::CONNECT_TIMEOUT, TcpStream::connect(remote)).await {
            Ok(Ok(stream)) => {
                self.shared.counters.of(transport).opened.fetch_add(1, Relaxed);
                self.converse(target, stream).await
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        self.note(transport, remote, served);
    }

    async fn converse(&mut self, target: &Target, stream: TcpStream) -> io::Result<()> {
        let (transport, remote) = (target.transport(), target.remote());
        let flow = self.flow(transport, &stream, remote)?;
        stream.set_nodelay(true)?;
        if transport != Transport::Tls {
            return self.exchange(stream, flow, FramerRole::Initiator).await;
        }
        let name = match target {
            Target::Address { server_name, .. } => server_name.as_deref(),
            Target::Flow(_) => None,
        };
        let name =
            tls::expected_name(name, remote.ip()).ok_or_else(|| io::Error::other("no name for TLS"))?;
        let connecting = self.shared.identities.connector().connect(name, stream);
        let connected = timeout(limits::HANDSHAKE_TIMEOUT, connecting).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => self.exchange(stream, flow, FramerRole::Initiator).await,
            Err(error) => {
                self.shared
                    .counters
                    .of(transport)
                    .handshakes_failed
                    .fetch_add(1, Relaxed);
                tracing::warn!(%remote, %error, "a TLS peer is not believed, or does not believe us");
                Err(error)
            }
        }
    }

    async fn exchange<S>(&mut self, stream: S, flow: Flow, role: FramerRole) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ended = connection::exchange(&self.shared, stream, flow, role, &mut self.writes).await;
        self.gone(flow).await;
        ended
    }

    /// Out of the table first, so that nothing is queued where nobody writes; then the core thread hears of it.
    async fn gone(&self, flow: Flow) {
        self.shared.table().remove(self.id, &self.shared.counters);
        let gone = Input::TransportError(Target::Flow(flow));
        let _ = self.shared.inputs.deliver(gone).await;
    }

    fn flow(&self, transport: Transport, stream: &TcpStream, remote: SocketAddr) -> io::Result<Flow> {
        Ok(Flow {
            transport,
            local: stream.local_addr()?,
            remote,
            id: FlowId(self.id),
        })
    }

    fn note(&self, transport: Transport, remote: SocketAddr, served: io::Result<()>) {
        if let Err(error) = served {
            self.shared.counters.of(transport).broken.fetch_add(1, Relaxed);
            tracing::debug!(transport = transport.uri_token(), %remote, %error, "connection broken");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.table().remove(self.id, &self.shared.counters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine has all addresses of its network, and may send from each: as of messages, so of connections.
    #[test]
    fn connections_of_one_ipv6_network_are_of_one_source() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut config = Config::default();
            config.signalling.tcp_connections_per_source = 2;
            let (inputs, _core) = Inputs::new();
            let streams = Streams::new(
                inputs,
                Arc::default(),
                Arc::new(Guard::new(config.sources.clone())),
                Arc::new(Identities::read(&config.tls).unwrap()),
                Arc::new(Terms::new(&config)),
            );
            let place = |remote: &str| {
                let remote = remote.parse().unwrap();
                let (transport, name) = (Transport::Tcp, None);
                streams.shared.register(Peer {
                    transport,
                    remote,
                    name,
                })
            };
            let of_network = [place("[2001:db8::1]:5060"), place("[2001:db8::ffff:2]:5060")];
            assert!(of_network.iter().all(Option::is_some));
            assert!(place("[2001:db8::3]:5060").is_none());
            let of_others = [
                place("[2001:db8:0:1::1]:5060"),
                place("[::ffff:192.0.2.1]:5060"),
                place("192.0.2.1:5061"),
            ];
            assert!(of_others.iter().all(Option::is_some));
            assert!(
                place("192.0.2.1:5062").is_none(),
                "one address, however it is written"
            );
            streams.close("2001:db8::9".parse().unwrap());
            let again = [place("[2001:db8::3]:5060"), place("[2001:db8::4]:5060")];
            assert!(again.iter().all(Option::is_some), "all of the network are closed");
            drop((of_network, of_others, again));
            let table = streams.shared.table();
            assert!(table.by_id.is_empty() && table.per_source.is_empty());
        });
    }
}
