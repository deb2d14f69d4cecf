//! A flood of one port keeps no other waiting: the first may be read to its end, but those who flood on have a queue of
//! their own.

use super::*;

on_each!(others_get_their_turn);

fn others_get_their_turn(choice: IoChoice) {
    let mut net = backend(
        choice,
        &Config {
            drain_max: 64,
            ..config()
        },
    );
    let (_, flooded) = register(&mut net, "127.0.0.1");
    let (other, quiet) = register(&mut net, "127.0.0.1");
    let client = local("127.0.0.1");
    let flood = || {
        for _ in 0..10_000 {
            client.send_to(&[0; 172], flooded).unwrap();
        }
    };
    flood();
    let mut wake = Wake {
        more: true,
        ..Wake::default()
    };
    while wake.more || wake.datagrams > 0 {
        wake = net
            .poll(
                Some(Instant::now()),
                &mut On(|_: Datagram<'_>, _: &mut dyn Transmit| {}),
            )
            .unwrap();
    }
    flood();
    client.send_to(b"me too", quiet).unwrap();
    let mut heard = false;
    for _ in 0..2 {
        let mut listen =
            On(|d: Datagram<'_>, _: &mut dyn Transmit| heard |= d.socket == other && d.data == b"me too");
        net.poll(Some(Instant::now()), &mut listen).unwrap();
    }
    assert!(heard, "{:?}", net.stats());
}
