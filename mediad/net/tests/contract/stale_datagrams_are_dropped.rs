//! After a stall only what is still of use is delivered; the rest is dropped by age and counted.

use super::*;

on_both!(old_ones_go_new_ones_stay, without_a_limit_all_stay);

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
