//! Far too few receive buffers slow a backend down; they do not lose datagrams or let it spin.

use super::*;

on_each!(four_buffers_for_sixty_four_sockets, one_buffer);

fn run(choice: IoChoice, buffers: usize, sockets: usize, each: usize) {
    let mut net = backend(
        choice,
        &Config {
            rx_buffers: buffers,
            ..config()
        },
    );
    let addrs: Vec<_> = (0..sockets).map(|_| register(&mut net, "127.0.0.1").1).collect();
    let client = local("127.0.0.1");
    for addr in &addrs {
        for _ in 0..each {
            client.send_to(b"x", addr).unwrap();
        }
    }
    let total = sockets * each;
    let mut given = 0;
    let mut swallow = On(|_: Datagram<'_>, _: &mut dyn Transmit| {});
    poll_until(&mut net, &mut swallow, |_, wake| {
        given += wake.datagrams;
        given == total
    });
    let stats = net.stats();
    let bound = (2 * total + 2 * sockets) as u64;
    assert!(
        stats.rx_rearms <= bound,
        "{} re-arms for {total} datagrams",
        stats.rx_rearms
    );
    assert!(
        stats.rx_no_buffers <= bound,
        "{} times without a buffer",
        stats.rx_no_buffers
    );
    if choice == IoChoice::Uring {
        assert!(
            stats.rx_no_buffers > 0,
            "the ring was never empty: this test shows nothing"
        );
    }
    // All sockets are armed again: the next datagram wakes a blocked poll.
    client.send_to(b"y", addrs[0]).unwrap();
    assert_eq!(net.poll(None, &mut swallow).unwrap().datagrams, 1);
}

fn four_buffers_for_sixty_four_sockets(choice: IoChoice) {
    run(choice, 4, 64, 20);
}

fn one_buffer(choice: IoChoice) {
    run(choice, 1, 3, 10);
}
