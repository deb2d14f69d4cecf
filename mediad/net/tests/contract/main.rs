//! What every backend promises, tested on each of them. A scenario is one file.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "these tests drive real sockets, threads and clocks"
)]

use media_net::{
    AnyBackend, Backend, Config, Datagram, Handler, IoChoice, SocketId, Transmit, Wake, bind, open,
};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Runs a scenario on each backend.
macro_rules! on_each {
    ($($scenario:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $scenario() { if crate::uring_wanted() { super::$scenario(media_net::IoChoice::Uring) } })+
        }
        mod mmsg {
            $(#[test] fn $scenario() { super::$scenario(media_net::IoChoice::Mmsg) })+
        }
        mod shared {
            $(#[test] fn $scenario() { if crate::may_share() { super::$scenario(media_net::IoChoice::Shared) } })+
        }
    };
}

mod a_flooded_port_leaves_its_lane;
mod bad_sends_are_counted;
mod dead_peers_disturb_nobody;
mod deadlines_are_not_early;
mod echo_through_many_sockets;
mod fan_out_exceeds_the_arena;
mod hints_come_before_their_datagrams;
mod long_datagrams_are_flagged;
mod many_datagrams_wait_in_one_socket;
mod stale_datagrams_are_dropped;
mod ticking_begins_and_ends;
mod tiny_buffer_ring_makes_progress;
mod unregistered_ports_are_free;
mod wakes_are_not_lost;

/// A machine without io_uring fails these tests unless it says that it knows.
fn uring_wanted() -> bool {
    std::env::var_os("MEDIA_NET_NO_URING").is_none()
}

/// Shared sockets are for the privileged; others are told that these tests did not run.
fn may_share() -> bool {
    let missing = media_net::missing_capabilities();
    if !missing.is_empty() {
        eprintln!("NOT RUN: shared sockets need {}", missing.join(", "));
    }
    missing.is_empty()
}

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(10);

fn backend(choice: IoChoice, config: &Config) -> AnyBackend {
    match open(choice, config) {
        Ok((backend, _)) => backend,
        Err(error) => panic!("{error} (to test epoll only, set MEDIA_NET_NO_URING=1)"),
    }
}

/// Few sockets, and blocking only, so that a scenario sees each step.
fn config() -> Config {
    Config {
        max_sockets: 1_024,
        rx_buffers: 1_024,
        latency_budget: Duration::ZERO,
        ..Config::default()
    }
}

fn local(ip: &str) -> UdpSocket {
    let options = bind::Options {
        rcvbuf: Some(1 << 20),
        ..bind::Options::default()
    };
    let socket = bind::udp(format!("{ip}:0").parse().unwrap(), &options).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn register(backend: &mut AnyBackend, ip: &str) -> (SocketId, SocketAddr) {
    let socket = local(ip);
    let addr = socket.local_addr().unwrap();
    (backend.register(socket).unwrap(), addr)
}

/// A handler made of a function.
struct On<F>(F);

impl<F: FnMut(Datagram<'_>, &mut dyn Transmit)> Handler for On<F> {
    fn datagram<T: Transmit>(&mut self, datagram: Datagram<'_>, tx: &mut T) {
        (self.0)(datagram, tx);
    }
}

/// A handler that sends once, from `end`.
struct Send<F>(Option<F>);

impl<F: FnOnce(&mut dyn Transmit)> Handler for Send<F> {
    fn datagram<T: Transmit>(&mut self, _: Datagram<'_>, _: &mut T) {}
    fn end<T: Transmit>(&mut self, tx: &mut T) {
        if let Some(send) = self.0.take() {
            send(tx);
        }
    }
}

fn send_now(backend: &mut AnyBackend, send: impl FnOnce(&mut dyn Transmit)) {
    backend.poll(Some(Instant::now()), &mut Send(Some(send))).unwrap();
}

fn reply(tx: &mut dyn Transmit, data: &[u8], socket: SocketId, to: SocketAddr) {
    let slot = tx.slot().expect("the kernel takes everything here");
    slot[..data.len()].copy_from_slice(data);
    tx.commit(data.len(), socket, to);
}

fn echo(datagram: Datagram<'_>, tx: &mut dyn Transmit) {
    reply(tx, datagram.data, datagram.socket, datagram.from);
}

/// Polls until `done` says so.
fn poll_until<H: Handler>(
    backend: &mut AnyBackend,
    handler: &mut H,
    mut done: impl FnMut(&mut H, Wake) -> bool,
) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let wake = backend
            .poll(Some(Instant::now() + Duration::from_millis(50)), handler)
            .unwrap();
        if done(handler, wake) {
            return;
        }
        assert!(
            Instant::now() < give_up,
            "nothing more happens: {:?}",
            backend.stats()
        );
    }
}
