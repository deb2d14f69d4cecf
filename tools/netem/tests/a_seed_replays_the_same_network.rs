//! The same seed and the same datagrams give the same deliveries, byte for byte and nanosecond for
//! nanosecond; another seed gives others.

use netem::{Delivery, Link, Loss, Netem};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

fn run(seed: u64, start: Instant) -> Vec<(Duration, Delivery)> {
    let alice: SocketAddr = "10.0.0.1:4000".parse().expect("an address");
    let bob: SocketAddr = "10.0.0.2:5000".parse().expect("an address");
    let mut net = Netem::new(seed);
    net.set_default_link(Link {
        delay: Duration::from_millis(25),
        jitter: Duration::from_millis(40),
        loss: Loss::bursts(0.05, 3.0),
        duplicate: 0.02,
        reorder: 0.03,
        ..Link::default()
    });
    let mut seen = Vec::new();
    for index in 0..2_000_u32 {
        let now = start + Duration::from_millis(20) * index;
        net.send(now, alice, bob, &index.to_be_bytes());
        net.send(now, bob, alice, &index.to_be_bytes());
        while let Some(delivery) = net.poll(now) {
            seen.push((delivery.arrived_at - start, delivery));
        }
    }
    seen
}

#[test]
fn a_seed_replays_the_same_network() {
    #[allow(
        clippy::disallowed_methods,
        reason = "the origin of virtual time; only differences count"
    )]
    let start = Instant::now();
    let first = run(1, start);
    assert!(
        first.len() > 3_000,
        "{} deliveries are too few to compare",
        first.len()
    );
    assert!(first == run(1, start), "the same seed gave another run");
    assert!(first != run(2, start), "another seed gave the same run");
}
