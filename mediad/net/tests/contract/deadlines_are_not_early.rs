//! A deadline ends the sleep, never early; lateness is recorded. How late is the machine's affair: only the
//! best of several sleeps is held to a bound, which a backend that rounds to a tick of the system would miss.

use super::*;

on_each!(short_deadlines, past_deadlines_do_not_sleep);

fn short_deadlines(choice: IoChoice) {
    let mut net = backend(choice, &config());
    register(&mut net, "127.0.0.1");
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let deadline = Instant::now() + Duration::from_micros(3_300);
        let wake = net.poll(Some(deadline), &mut On(echo)).unwrap();
        let now = Instant::now();
        assert!(wake.deadline && wake.datagrams == 0, "{wake:?}");
        assert!(now >= deadline, "early by {:?}", deadline - now);
        best = best.min(now - deadline);
    }
    assert!(best < Duration::from_millis(3), "at best {best:?} late");
    assert_eq!(net.stats().deadline_lateness.count, 20);
    assert_eq!(net.stats().wakes.deadline, 20);
}

fn past_deadlines_do_not_sleep(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let past = Instant::now();
    for _ in 0..100 {
        assert!(net.poll(Some(past), &mut On(echo)).unwrap().deadline);
    }
    assert_eq!(net.stats().wakes.no_sleep, 100);
}
