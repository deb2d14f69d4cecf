//! A deep socket queue is read completely and in order, and a drain has a bound.

use super::*;

on_each!(all_arrive_in_order, drains_are_bounded);

fn fill(addr: SocketAddr, count: u32) {
    let client = local("127.0.0.1");
    for n in 0..count {
        client.send_to(&n.to_be_bytes(), addr).unwrap();
    }
}

fn all_arrive_in_order(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let (_, addr) = register(&mut net, "127.0.0.1");
    fill(addr, 200);
    let mut next = 0u32;
    let wake = net
        .poll(
            None,
            &mut On(|d: Datagram<'_>, _: &mut dyn Transmit| {
                assert_eq!(d.data, next.to_be_bytes());
                next += 1;
            }),
        )
        .unwrap();
    assert_eq!(wake.datagrams, 200, "one drain reads everything");
    assert!(!wake.more);
}

struct Count {
    datagrams: usize,
    begins: usize,
    ends: usize,
}

impl Handler for Count {
    fn begin(&mut self, _: Instant) {
        self.begins += 1;
    }
    fn datagram<T: Transmit>(&mut self, _: Datagram<'_>, _: &mut T) {
        self.datagrams += 1;
    }
    fn end<T: Transmit>(&mut self, _: &mut T) {
        self.ends += 1;
    }
}

fn drains_are_bounded(choice: IoChoice) {
    let mut net = backend(
        choice,
        &Config {
            drain_max: 16,
            rx_batch: 4,
            ..config()
        },
    );
    let (_, addr) = register(&mut net, "127.0.0.1");
    fill(addr, 200);
    let mut count = Count {
        datagrams: 0,
        begins: 0,
        ends: 0,
    };
    poll_until(&mut net, &mut count, |count, wake| {
        assert!(wake.datagrams <= 16, "{wake:?}");
        count.datagrams == 200
    });
    assert!(count.ends >= 200 / 16, "deadlines get their turn in between");
    assert_eq!(count.begins, count.ends);
    assert!(net.stats().drains_cut >= 12);
}
