//! SIP sockets: what arrives goes to the core thread, what it sends goes out here.
//!
//! Datagrams are read and written by the core thread itself: a socket takes one without waiting, and handing it to or
//! from another thread would cost more than the system call. Connections have a task each.

mod connection;
pub(crate) mod guard;
mod listener;
mod streams;
mod stun;
pub(crate) mod tls;
mod udp;
mod websocket;

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sip::stack::{Flow, Target, Transmit, Transport};
use tokio::{runtime::Handle, sync::watch, task::yield_now, time::timeout};

pub(crate) use self::{streams::Terms, udp::Inbox};
use crate::{
    bell::Bell,
    config::Config,
    core::{Bound, Inputs},
};
use guard::Guard;
use tls::Identities;

/// What befell datagrams and connections.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) udp_received: AtomicU64,
    pub(crate) udp_overflowed: AtomicU64,
    pub(crate) udp_sent: AtomicU64,
    pub(crate) udp_keepalives: AtomicU64,
    pub(crate) udp_stun: AtomicU64,
    pub(crate) udp_strange: AtomicU64,
    pub(crate) udp_send_failures: AtomicU64,
    pub(crate) tcp: Connections,
    pub(crate) tls: Connections,
    pub(crate) ws: Connections,
    pub(crate) wss: Connections,
}

/// What befell the connections of one kind.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) accepted: AtomicU64,
    pub(crate) opened: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) broken: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    /// Now.
    pub(crate) connections: AtomicU64,
}

impl Counters {
    /// Those of a kind of connection; datagrams have none.
    fn of(&self, transport: Transport) -> &Connections {
        match transport {
            Transport::Udp | Transport::Tcp => &self.tcp,
            Transport::Tls => &self.tls,
            Transport::Ws => &self.ws,
            Transport::Wss => &self.wss,
        }
    }
}

/// Everything that is bound; nothing is read yet.
pub(crate) struct Sockets {
    udp: Vec<UdpSocket>,
    listeners: Vec<listener::Listener>,
}

/// What the core thread sends through and reads from.
pub(crate) struct Transports {
    udp: Vec<udp::Socket>,
    streams: streams::Streams,
    counters: Arc<Counters>,
    guard: Arc<Guard>,
}

impl Sockets {
    /// Binds what the configuration names. Needs a tokio runtime.
    ///
    /// # Errors
    /// Names port, setting and remedy.
    pub(crate) fn bind(config: &Config) -> Result<Self, String> {
        let (mut udp, mut listeners) = (Vec::new(), Vec::new());
        for (transport, addr) in config.listeners() {
            let bound = match transport {
                Transport::Udp => udp::bind(addr).map(|socket| udp.push(socket)),
                _ => listener::Listener::bind(transport, addr).map(|listener| listeners.push(listener)),
            };
            let protocol = if transport == Transport::Udp { "udp" } else { "tcp" };
            let setting = format!("signalling.{}", transport.uri_token());
            bound.map_err(|error| bind_failed(protocol, &setting, addr, &error))?;
        }
        Ok(Self { udp, listeners })
    }

    /// The addresses bound, ports filled in.
    pub(crate) fn bound(&self) -> Bound {
        let udp = self.udp.iter().filter_map(|socket| socket.local_addr().ok());
        let udp = udp.map(|local| (Transport::Udp, local));
        let listeners = self.listeners.iter();
        let streams = listeners.map(|listener| (listener.transport(), listener.local()));
        udp.chain(streams).collect()
    }

    /// Starts taking connections, until `ending` says so. Datagrams are for the thread that runs `core`.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub(crate) fn start(
        self,
        core: &Handle,
        inputs: &Inputs,
        ending: &watch::Receiver<bool>,
        guard: &Arc<Guard>,
        identities: &Arc<Identities>,
        terms: &Arc<Terms>,
    ) -> io::Result<Transports> {
        let counters = Arc::new(Counters::default());
        let streams = streams::Streams::new(
            inputs.clone(),
            Arc::clone(&counters),
            Arc::clone(guard),
            Arc::clone(identities),
            Arc::clone(terms),
        );
        for listener in self.listeners {
            tokio::spawn(until(ending.clone(), listener.accept(streams.clone())));
        }
        let _on_core = core.enter();
        let udp = self.udp.into_iter().map(udp::Socket::watch);
        Ok(Transports {
            udp: udp.collect::<io::Result<_>>()?,
            streams,
            counters,
            guard: Arc::clone(guard),
        })
    }
}

impl Transports {
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Sleeps until a datagram is there or the bell is rung, `longest` at most. The tasks of this thread get their turn in
    /// any case.
    pub(crate) async fn wait(&self, bell: &Bell, longest: Duration) {
        if longest.is_zero() {
            return yield_now().await;
        }
        let mut rung = pin!(bell.rung());
        let something = poll_fn(|context| {
            let is_rung = rung.as_mut().poll(context).is_ready();
            // All of them are asked: each has to know whom to wake.
            let ready = self
                .udp
                .iter()
                .filter(|socket| socket.poll_ready(context))
                .count();
            if is_rung || ready > 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let mut something = pin!(timeout(longest, something));
        let at_once = poll_fn(|context| Poll::Ready(something.as_mut().poll(context).is_ready()));
        if at_once.await {
            yield_now().await;
        } else {
            // Time is up, or not: the caller looks at everything.
            let _ = something.await;
        }
    }

    /// Takes a portion of the datagrams that are there: the messages among them. Gives how long the oldest had waited.
    pub(crate) fn receive(
        &mut self,
        inbox: &mut Inbox,
        arrived: &mut Vec<(Flow, Bytes)>,
    ) -> Option<Duration> {
        let sockets = self.udp.iter_mut();
        let waits = sockets.filter_map(|socket| socket.receive(inbox, &self.counters, &self.guard, arrived));
        waits.max()
    }

    /// Sends, or tries the fallback. False: neither can be reached.
    pub(crate) fn send(&self, transmit: &Transmit) -> bool {
        let fallback = transmit.fallback.as_ref();
        [Some(&transmit.target), fallback]
            .into_iter()
            .flatten()
            .any(|target| self.send_to(target, transmit))
    }

    /// A wrong password came from there. Who guesses for too long is silenced, and loses its connections.
    pub(crate) fn wrong_password(&self, source: IpAddr) {
        if self.guard.wrong_password(Instant::now(), source) {
            self.streams.close(source);
        }
    }

    fn send_to(&self, target: &Target, transmit: &Transmit) -> bool {
        if target.transport() != Transport::Udp {
            return self.streams.send(target, transmit.bytes.clone());
        }
        // As the stack, which has written that address into the message.
        let fitting = self.udp.iter().filter(|socket| socket.fits(target));
        let Some(socket) = fitting.min_by_key(|socket| socket.distance(target)) else {
            return false;
        };
        let sent = socket.send(&transmit.bytes, target.remote());
        let counter = if sent {
            &self.counters.udp_sent
        } else {
            &self.counters.udp_send_failures
        };
        counter.fetch_add(1, Relaxed);
        sent
    }
}

/// Names the port, the setting and what to do.
pub(crate) fn bind_failed(protocol: &str, setting: &str, addr: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let (ip, port) = (addr.ip(), addr.port());
            format!("port {port} ({protocol}, {ip}) is in use; set {setting} or stop the other process")
        }
        _ => format!("{setting} = {addr}: {error}"),
    }
}

async fn until(mut ending: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = ending.wait_for(|ending| *ending) => {}
    }
}
