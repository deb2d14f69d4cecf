//! Under load the worker sleeps by the clock, still hears its waker and its deadline, and blocks again when it is quiet.

use super::*;

on_each!(by_load);

/// Two sockets of one backend that answer each other for ever: as many wake-ups as the machine can do.
fn by_load(choice: IoChoice) {
    let budget = Duration::from_micros(500);
    let mut net = backend(
        choice,
        &Config {
            latency_budget: budget,
            ..config()
        },
    );
    let (a, a_addr) = register(&mut net, "127.0.0.1");
    let (b, b_addr) = register(&mut net, "127.0.0.1");
    send_now(&mut net, |tx| {
        for _ in 0..4 {
            reply(tx, b"ball", a, b_addr);
        }
    });
    let give_up = Instant::now() + PATIENCE;
    let bounce = |d: Datagram<'_>, tx: &mut dyn Transmit| {
        let to = if d.socket == a { b_addr } else { a_addr };
        reply(tx, d.data, if d.socket == a { a } else { b }, to);
    };
    while net.stats().wakes.tick < 50 {
        net.poll(Some(Instant::now() + PATIENCE), &mut On(bounce))
            .unwrap();
        assert!(Instant::now() < give_up, "no tick under load: {:?}", net.stats());
    }
    assert_eq!(net.stats().tick_lateness.count, net.stats().wakes.tick);
    assert!(net.stats().tick_time > Duration::ZERO);

    net.waker().wake();
    let deadline = Instant::now() + budget;
    let (mut woken, mut reached) = (false, false);
    for _ in 0..3 {
        let wake = net.poll(Some(deadline), &mut On(bounce)).unwrap();
        woken |= wake.woken;
        reached |= wake.deadline;
    }
    assert!(woken && reached, "both are seen on a tick");

    // The balls are dropped: quiet.
    while net.stats().mode_switches < 2 {
        let swallow = &mut On(|_: Datagram<'_>, _: &mut dyn Transmit| {});
        net.poll(Some(Instant::now() + Duration::from_millis(1)), swallow)
            .unwrap();
        assert!(Instant::now() < give_up, "still ticking: {:?}", net.stats());
    }
}
