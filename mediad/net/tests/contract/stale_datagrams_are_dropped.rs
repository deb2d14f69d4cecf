//! After a stall only what is still of use is delivered; the rest is dropped by age and counted.

use super::*;

on_each!(
    old_ones_go_new_ones_stay,
    without_a_limit_all_stay,
    in_cut_drains_as_well,
    sockets_that_come_during_a_stall
);

fn stall(choice: IoChoice, max_age: Option<Duration>) -> (Vec<u8>, AnyBackend) {
    let mut net = backend(choice, &Config { max_age, ..config() });
    let (_, first) = register(&mut net, "127.0.0.1");
    let (_, second) = register(&mut net, "127.0.0.1");
    let client = local("127.0.0.1");
    for _ in 0..10 {
        client.send_to(b"o", first).unwrap();
    }
    // The sleep is the stall itself: this thread is the worker.
    std::thread::sleep(Duration::from_millis(250));
    for addr in [first, first, first, second, second] {
        client.send_to(b"n", addr).unwrap();
    }
    let mut seen = Vec::new();
    let mut record = On(|d: Datagram<'_>, _: &mut dyn Transmit| seen.push(d.data[0]));
    net.poll(None, &mut record).unwrap();
    (seen, net)
}

fn old_ones_go_new_ones_stay(choice: IoChoice) {
    let (seen, net) = stall(choice, Some(Duration::from_millis(200)));
    assert_eq!(seen, b"nnnnn");
    assert_eq!((net.stats().rx_stale, net.stats().rx_datagrams), (10, 5));
}

fn without_a_limit_all_stay(choice: IoChoice) {
    let (seen, net) = stall(choice, None);
    assert_eq!(seen.len(), 15);
    assert_eq!(net.stats().rx_stale, 0);
}

/// The bound of a drain must not let the rest of a stall's backlog through as fresh.
fn in_cut_drains_as_well(choice: IoChoice) {
    let max_age = Some(Duration::from_millis(100));
    let mut net = backend(
        choice,
        &Config {
            max_age,
            drain_max: 8,
            rx_batch: 4,
            ..config()
        },
    );
    let (_, addr) = register(&mut net, "127.0.0.1");
    let client = local("127.0.0.1");
    net.poll(Some(Instant::now()), &mut On(echo)).unwrap();
    for _ in 0..100 {
        client.send_to(b"o", addr).unwrap();
    }
    std::thread::sleep(Duration::from_millis(150));
    client.send_to(b"n", addr).unwrap();
    let mut seen = Vec::new();
    poll_until(
        &mut net,
        &mut On(|d: Datagram<'_>, _: &mut dyn Transmit| seen.push(d.data[0])),
        |_, wake| wake.datagrams == 1,
    );
    assert_eq!(seen, b"n");
    assert_eq!((net.stats().rx_stale, net.stats().stalls), (100, 1));
    // The stall is over: nothing is dropped or even looked at.
    client.send_to(b"x", addr).unwrap();
    poll_until(&mut net, &mut On(echo), |_, wake| wake.datagrams == 1);
    assert_eq!((net.stats().rx_stale, net.stats().stalls), (100, 1));
}

/// A socket that was bound and fed while the worker was away is no exception.
fn sockets_that_come_during_a_stall(choice: IoChoice) {
    let max_age = Some(Duration::from_millis(100));
    let mut net = backend(
        choice,
        &Config {
            max_age,
            drain_max: 2,
            rx_batch: 1,
            ..config()
        },
    );
    let (_, addr) = register(&mut net, "127.0.0.1");
    let late = local("127.0.0.1");
    let client = local("127.0.0.1");
    for to in [addr, addr, addr, addr, late.local_addr().unwrap()] {
        client.send_to(b"o", to).unwrap();
    }
    std::thread::sleep(Duration::from_millis(150));
    let mut nothing = On(|_: Datagram<'_>, _: &mut dyn Transmit| panic!("all are old"));
    assert!(net.poll(None, &mut nothing).unwrap().more);
    net.register(late).unwrap();
    while net.stats().rx_stale < 5 {
        net.poll(Some(Instant::now() + PATIENCE), &mut nothing).unwrap();
    }
    assert_eq!(net.stats().stalls, 1);
}
