//! What a session's sockets cost to set up and tear down: bind, register, unregister and close, per socket.
//!
//! ```text
//! cargo run --release -p media-net --example churn -- 2000
//! ```
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a measuring program: it owns clocks and sockets"
)]

use media_net::{Backend, Config, Datagram, Handler, IoChoice, Transmit, bind, open};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

struct Ignore;

impl Handler for Ignore {
    fn datagram<T: Transmit>(&mut self, _: Datagram<'_>, _: &mut T) {}
}

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(2_000, |n| n.parse().expect("a number"));
    for choice in [IoChoice::Mmsg, IoChoice::Uring, IoChoice::Mmsg, IoChoice::Uring] {
        let (mut net, reason) = open(choice, &Config::default()).expect("a backend opens");
        let options = bind::Options {
            dscp: Some(46),
            ..bind::Options::default()
        };
        let any: SocketAddr = "127.0.0.1:0".parse().expect("a literal");
        let each = |total: Duration| total.as_nanos() as f64 / 1_000.0 / count as f64;

        let start = Instant::now();
        let sockets: Vec<_> = (0..count)
            .map(|_| bind::udp(any, &options).expect("binds"))
            .collect();
        let bound = start.elapsed();
        let ids: Vec<_> = sockets
            .into_iter()
            .map(|s| net.register(s).expect("registers"))
            .collect();
        net.poll(Some(Instant::now()), &mut Ignore).expect("polls");
        let registered = start.elapsed();
        let sockets: Vec<_> = ids.into_iter().map(|id| net.unregister(id)).collect();
        let unregistered = start.elapsed();
        drop(sockets);
        let closed = start.elapsed();
        println!(
            "{reason}: bind {:.2} us  register {:.2}  unregister {:.2}  close {:.2}  (system calls after bind {:.2})",
            each(bound),
            each(registered - bound),
            each(unregistered - registered),
            each(closed - unregistered),
            net.stats().syscalls as f64 / count as f64,
        );
    }
}
