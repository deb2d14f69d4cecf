//! SIP sockets: what arrives goes to the core thread, what it sends goes out here.
//!
//! Datagrams are sent by the core thread itself: a socket takes one without waiting, and handing it to another thread
//! would cost more than sending it. Connections have a task each.

mod tcp;
mod udp;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use sip::stack::{Target, Transmit, Transport};
use tokio::sync::watch;

use crate::{
    config::Config,
    core::{Bound, Inputs},
};

/// What befell datagrams and connections.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) udp_received: AtomicU64,
    pub(crate) udp_sent: AtomicU64,
    pub(crate) udp_keepalives: AtomicU64,
    pub(crate) udp_strange: AtomicU64,
    pub(crate) udp_send_failures: AtomicU64,
    pub(crate) tcp_accepted: AtomicU64,
    pub(crate) tcp_opened: AtomicU64,
    pub(crate) tcp_refused: AtomicU64,
    pub(crate) tcp_broken: AtomicU64,
    pub(crate) tcp_connections: AtomicU64,
}

/// Everything that is bound; nothing is read yet.
pub(crate) struct Sockets {
    udp: Vec<udp::Socket>,
    tcp: Vec<tcp::Listener>,
}

/// The sending side.
pub(crate) struct Transports {
    udp: Vec<udp::Sender>,
    streams: tcp::Streams,
    counters: Arc<Counters>,
}

impl Sockets {
    /// Binds what the configuration names. Needs a tokio runtime.
    ///
    /// # Errors
    /// Names port, setting and remedy.
    pub(crate) fn bind(config: &Config) -> Result<Self, String> {
        let udp = config.signalling.udp.iter().map(|addr| {
            udp::Socket::bind(*addr).map_err(|error| bind_failed("udp", "signalling.udp", *addr, &error))
        });
        let tcp = config.signalling.tcp.iter().map(|addr| {
            tcp::Listener::bind(*addr).map_err(|error| bind_failed("tcp", "signalling.tcp", *addr, &error))
        });
        Ok(Self {
            udp: udp.collect::<Result<_, _>>()?,
            tcp: tcp.collect::<Result<_, _>>()?,
        })
    }

    /// The addresses bound, ports filled in.
    pub(crate) fn bound(&self) -> Bound {
        let udp = self.udp.iter().map(|socket| (Transport::Udp, socket.local()));
        let tcp = self.tcp.iter().map(|listener| (Transport::Tcp, listener.local()));
        udp.chain(tcp).collect()
    }

    /// Starts reading, until `ending` says so.
    ///
    /// # Errors
    /// A socket cannot be shared with the core thread.
    pub(crate) fn start(
        self,
        config: &Config,
        inputs: &Inputs,
        ending: &watch::Receiver<bool>,
    ) -> Result<Transports, String> {
        let counters = Arc::new(Counters::default());
        let senders = self
            .udp
            .iter()
            .enumerate()
            .map(|(index, socket)| socket.sender(index));
        let senders = senders
            .collect::<io::Result<_>>()
            .map_err(|error| format!("signalling.udp: {error}"))?;
        for (index, socket) in self.udp.into_iter().enumerate() {
            let reading = socket.read(index, inputs.clone(), Arc::clone(&counters));
            tokio::spawn(until(ending.clone(), reading));
        }
        let streams = tcp::Streams::new(config, inputs.clone(), Arc::clone(&counters));
        for listener in self.tcp {
            tokio::spawn(until(ending.clone(), listener.accept(streams.clone())));
        }
        Ok(Transports {
            udp: senders,
            streams,
            counters,
        })
    }
}

impl Transports {
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Sends, or tries the fallback. False: neither can be reached.
    pub(crate) fn send(&self, transmit: &Transmit) -> bool {
        let fallback = transmit.fallback.as_ref();
        [Some(&transmit.target), fallback]
            .into_iter()
            .flatten()
            .any(|target| self.send_to(target, transmit))
    }

    fn send_to(&self, target: &Target, transmit: &Transmit) -> bool {
        match target.transport() {
            Transport::Udp => {
                let fits = |sender: &&udp::Sender| sender.fits(target);
                let Some(sender) = self.udp.iter().find(fits) else {
                    return false;
                };
                let sent = sender.send(&transmit.bytes, target.remote());
                let counter = if sent {
                    &self.counters.udp_sent
                } else {
                    &self.counters.udp_send_failures
                };
                counter.fetch_add(1, Relaxed);
                sent
            }
            Transport::Tcp => self.streams.send(target, transmit.bytes.clone()),
            // Configuration offers no listener of these kinds yet, so nothing of ours leads there.
            Transport::Tls | Transport::Ws | Transport::Wss => false,
        }
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
