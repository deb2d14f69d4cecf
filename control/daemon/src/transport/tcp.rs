//! Connections: one task each, which reads, cuts messages, and writes what the core thread queues.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use sip::{
    limits::Limits,
    message::{Frame, FramerRole, StreamFramer},
    stack::{Flow, FlowId, Target, Transport},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::Counters;
use crate::{
    config::Config,
    core::{Gone, Input, Inputs},
    limits,
};

/// Connections are numbered from here; numbers below are UDP sockets.
pub(super) const FIRST_ID: u64 = 1 << 32;

/// A bound listener.
pub(super) struct Listener {
    listener: TcpListener,
    local: SocketAddr,
}

/// Every connection, by number and by peer.
#[derive(Clone)]
pub(super) struct Streams {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    next_id: AtomicU64,
    runtime: Handle,
    inputs: Inputs,
    counters: Arc<Counters>,
    idle: Duration,
    connections_max: usize,
    per_source_max: usize,
}

#[derive(Default)]
struct Table {
    by_id: BTreeMap<u64, Entry>,
    /// The newest connection of a peer: what is sent to its address goes there (RFC 3261 §18.1.1, RFC 5923).
    by_remote: BTreeMap<SocketAddr, u64>,
    per_source: BTreeMap<IpAddr, usize>,
}

struct Entry {
    remote: SocketAddr,
    writes: mpsc::Sender<Bytes>,
}

impl Listener {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(addr),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections of an earlier life in TIME_WAIT must not keep us from starting.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(1_024)?;
        let listener = TcpListener::from_std(socket.into())?;
        let local = listener.local_addr()?;
        Ok(Self { listener, local })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) async fn accept(self, streams: Streams) {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => streams.accepted(stream, remote),
                Err(error) => {
                    // No descriptors left, mostly: waiting is all that helps.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Streams {
    pub(super) fn new(config: &Config, inputs: Inputs, counters: Arc<Counters>) -> Self {
        let shared = Shared {
            table: Mutex::default(),
            next_id: AtomicU64::new(FIRST_ID),
            runtime: Handle::current(),
            inputs,
            counters,
            idle: config.tcp_idle(),
            connections_max: config.signalling.tcp_connections,
            per_source_max: config.signalling.tcp_connections_per_source,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Queues a message on a connection, or opens one. False: it cannot be sent.
    pub(super) fn send(&self, target: &Target, bytes: Bytes) -> bool {
        let remote = target.remote();
        let queue = {
            let table = self.table();
            let id = match target {
                Target::Flow(flow) => Some(flow.id.0),
                Target::Address { .. } => table.by_remote.get(&remote).copied(),
            };
            id.and_then(|id| table.by_id.get(&id))
                .map(|entry| entry.writes.clone())
        };
        match (queue, target) {
            // A peer that does not read: its queue is bounded.
            (Some(queue), _) => queue.try_send(bytes).is_ok(),
            (None, Target::Flow(_)) => false,
            (None, Target::Address { .. }) => self.open(target.clone(), remote, bytes),
        }
    }

    fn accepted(&self, stream: TcpStream, remote: SocketAddr) {
        let Some((id, writes)) = self.register(remote) else {
            self.shared.counters.tcp_refused.fetch_add(1, Relaxed);
            return;
        };
        self.shared.counters.tcp_accepted.fetch_add(1, Relaxed);
        let streams = self.clone();
        tokio::spawn(async move {
            streams
                .serve(stream, remote, id, FramerRole::Acceptor, writes)
                .await
        });
    }

    fn open(&self, target: Target, remote: SocketAddr, first: Bytes) -> bool {
        let Some((id, writes)) = self.register(remote) else {
            self.shared.counters.tcp_refused.fetch_add(1, Relaxed);
            return false;
        };
        let queued = self
            .table()
            .by_id
            .get(&id)
            .map(|entry| entry.writes.try_send(first));
        debug_assert!(
            queued.is_some_and(|queued| queued.is_ok()),
            "a new queue has room"
        );
        let streams = self.clone();
        self.shared.runtime.spawn(async move {
            match timeout(limits::CONNECT_TIMEOUT, TcpStream::connect(remote)).await {
                Ok(Ok(stream)) => {
                    streams.shared.counters.tcp_opened.fetch_add(1, Relaxed);
                    streams
                        .serve(stream, remote, id, FramerRole::Initiator, writes)
                        .await;
                }
                Ok(Err(_)) | Err(_) => {
                    streams.shared.counters.tcp_broken.fetch_add(1, Relaxed);
                    streams.remove(id);
                }
            }
            // What waits for an answer from there goes to its next target.
            let _ = streams.shared.inputs.deliver(Input::TransportError(target)).await;
        });
        true
    }

    /// Takes a number; `None` when there are too many connections.
    fn register(&self, remote: SocketAddr) -> Option<(u64, mpsc::Receiver<Bytes>)> {
        let mut table = self.table();
        let of_source = table.per_source.get(&remote.ip()).copied().unwrap_or_default();
        if table.by_id.len() >= self.shared.connections_max || of_source >= self.shared.per_source_max {
            return None;
        }
        let id = self.shared.next_id.fetch_add(1, Relaxed);
        let (writes, queue) = mpsc::channel(limits::WRITES_PER_CONNECTION);
        table.by_id.insert(id, Entry { remote, writes });
        table.by_remote.insert(remote, id);
        *table.per_source.entry(remote.ip()).or_default() += 1;
        self.shared.counters.tcp_connections.fetch_add(1, Relaxed);
        Some((id, queue))
    }

    fn remove(&self, id: u64) {
        let mut table = self.table();
        let Some(entry) = table.by_id.remove(&id) else {
            return;
        };
        if table.by_remote.get(&entry.remote) == Some(&id) {
            table.by_remote.remove(&entry.remote);
        }
        if let Some(count) = table.per_source.get_mut(&entry.remote.ip()) {
            *count -= 1;
            if *count == 0 {
                table.per_source.remove(&entry.remote.ip());
            }
        }
        self.shared.counters.tcp_connections.fetch_sub(1, Relaxed);
    }

    async fn serve(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        id: u64,
        role: FramerRole,
        writes: mpsc::Receiver<Bytes>,
    ) {
        let local = stream.local_addr();
        let ended = match local {
            Ok(local) => {
                let flow = Flow {
                    transport: Transport::Tcp,
                    local,
                    remote,
                    id: FlowId(id),
                };
                let ended = self.exchange(stream, flow, role, writes).await;
                self.remove(id);
                let gone = Input::TransportError(Target::Flow(flow));
                let _ = self.shared.inputs.deliver(gone).await;
                ended
            }
            Err(error) => {
                self.remove(id);
                Err(error)
            }
        };
        if let Err(error) = ended {
            self.shared.counters.tcp_broken.fetch_add(1, Relaxed);
            tracing::debug!(%remote, %error, "connection broken");
        }
    }

    /// Until the peer closes, the connection is idle for too long, or something breaks.
    async fn exchange(
        &self,
        stream: TcpStream,
        flow: Flow,
        role: FramerRole,
        mut writes: mpsc::Receiver<Bytes>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.into_split();
        let mut framer = StreamFramer::new(role, Limits::DEFAULT);
        let mut buffer = vec![0; limits::READ_BYTES];
        let mut idle_at = Instant::now() + self.shared.idle;
        loop {
            tokio::select! {
                read = reader.read(&mut buffer) => {
                    let length = read?;
                    if length == 0 {
                        return Ok(());
                    }
                    framer.push(&buffer[..length]);
                    let (pings, ended) = self.take_frames(&mut framer, flow).await?;
                    for _ in 0..pings {
                        write(&mut writer, b"\r\n").await?;
                    }
                    if ended {
                        // The answer the malformed message is owed, if any, is queued by the core thread.
                        if let Ok(Some(answer)) = timeout(Duration::from_millis(200), writes.recv()).await {
                            write(&mut writer, &answer).await?;
                        }
                        return Err(io::Error::other("the stream cannot be cut into messages"));
                    }
                }
                bytes = writes.recv() => {
                    let Some(bytes) = bytes else { return Ok(()) };
                    write(&mut writer, &bytes).await?;
                }
                () = sleep_until(idle_at) => return Ok(()),
            }
            idle_at = Instant::now() + self.shared.idle;
        }
    }

    /// Gives whole messages to the core thread. How many pings to answer, and whether the stream is broken.
    async fn take_frames(&self, framer: &mut StreamFramer, flow: Flow) -> io::Result<(usize, bool)> {
        let gone = |_: Gone| io::Error::other("the core thread is gone");
        let mut pings = 0;
        loop {
            match framer.next_frame() {
                Ok(None) => return Ok((pings, false)),
                Ok(Some(Frame::Ping)) => pings += 1,
                Ok(Some(Frame::Pong)) => {}
                Ok(Some(Frame::Message(bytes))) => {
                    let input = Input::Message(flow, bytes);
                    self.shared.inputs.deliver(input).await.map_err(gone)?;
                }
                Err(error) => {
                    let input = Input::Malformed(flow, error);
                    self.shared.inputs.deliver(input).await.map_err(gone)?;
                    return Ok((pings, true));
                }
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared
            .table
            .lock()
            .expect("nobody panics while holding the table")
    }
}

/// A peer that takes nothing for a while is gone.
async fn write(writer: &mut tokio::net::tcp::OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    match timeout(limits::CONNECT_TIMEOUT, writer.write_all(bytes)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
