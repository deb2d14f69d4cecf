//! The waker ends a sleep from any thread; wakes are merged, never lost, and order what came before them.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

on_each!(from_another_thread, before_the_poll, ping_pong);

fn nothing() -> impl Handler {
    On(|_: Datagram<'_>, _: &mut dyn Transmit| panic!("no datagram was sent"))
}

fn from_another_thread(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let waker = net.waker();
    let thread = std::thread::spawn(move || waker.wake());
    assert!(
        net.poll(None, &mut nothing()).unwrap().woken,
        "an endless sleep ends"
    );
    thread.join().unwrap();
}

fn before_the_poll(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let waker = net.waker();
    for _ in 0..1_000 {
        waker.wake();
    }
    assert!(net.poll(None, &mut nothing()).unwrap().woken);
    let wake = net
        .poll(Some(Instant::now() + Duration::from_millis(5)), &mut nothing())
        .unwrap();
    assert!(!wake.woken && wake.deadline, "a thousand wakes are one: {wake:?}");
    waker.wake();
    assert!(
        net.poll(None, &mut nothing()).unwrap().woken,
        "and the next one counts again"
    );
}

/// Each side waits for the other's number: a lost wake would stop them for ever.
fn ping_pong(choice: IoChoice) {
    const ROUNDS: u32 = 2_000;
    let mut net = backend(choice, &config());
    let waker = net.waker();
    let (ping, pong) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let thread = {
        let (ping, pong) = (ping.clone(), pong.clone());
        std::thread::spawn(move || {
            for round in 1..=ROUNDS {
                ping.store(round, Ordering::Relaxed);
                waker.wake();
                while pong.load(Ordering::Acquire) != round {
                    std::thread::yield_now();
                }
            }
        })
    };
    let mut seen = 0;
    while seen < ROUNDS {
        let wake = net.poll(Some(Instant::now() + PATIENCE), &mut nothing()).unwrap();
        assert!(!wake.deadline, "a wake was lost after round {seen}");
        if wake.woken && ping.load(Ordering::Relaxed) > seen {
            seen = ping.load(Ordering::Relaxed);
            pong.store(seen, Ordering::Release);
        }
    }
    thread.join().unwrap();
}
