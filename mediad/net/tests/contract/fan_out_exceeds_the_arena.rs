//! One datagram makes five thousand: the arena is flushed as often as it takes, and every copy arrives once.

use super::*;

on_each!(one_to_five_thousand);

fn one_to_five_thousand(choice: IoChoice) {
    let mut net = backend(
        choice,
        &Config {
            tx_slots: 7,
            ..config()
        },
    );
    let (id, addr) = register(&mut net, "127.0.0.1");
    let (other, _) = register(&mut net, "127.0.0.1");
    let sinks: Vec<_> = (0..50).map(|_| local("127.0.0.1")).collect();
    let targets: Vec<_> = sinks.iter().map(|sink| sink.local_addr().unwrap()).collect();
    sinks[0].send_to(b"go", addr).unwrap();
    poll_until(
        &mut net,
        &mut On(|_: Datagram<'_>, tx: &mut dyn Transmit| {
            for n in 0..5_000u32 {
                // Runs of one socket as well as changes of socket.
                let from = if n % 5 == 0 { other } else { id };
                reply(tx, &n.to_be_bytes(), from, targets[n as usize % targets.len()]);
            }
        }),
        |_, wake| wake.datagrams == 1,
    );
    assert_eq!(net.stats().tx_datagrams, 5_000);
    assert_eq!(net.stats().tx_drops.total(), 0, "{:?}", net.stats().tx_drops);
    for (index, sink) in sinks.iter().enumerate() {
        let mut seen: Vec<u32> = (0..100)
            .map(|_| {
                let mut buf = [0; 8];
                let len = sink.recv(&mut buf).unwrap();
                u32::from_be_bytes(buf[..len].try_into().unwrap())
            })
            .collect();
        seen.sort_unstable();
        let expected: Vec<u32> = (0..100).map(|k| k * 50 + index as u32).collect();
        assert_eq!(seen, expected);
        sink.set_nonblocking(true).unwrap();
        assert!(sink.recv(&mut [0; 8]).is_err(), "nothing arrives twice");
    }
}
