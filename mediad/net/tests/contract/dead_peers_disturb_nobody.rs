//! Peers whose port is closed (ICMP port unreachable) cost counters, never a poll, a socket or another flow.

use super::*;

on_each!(refused_both_ways);

fn refused_both_ways(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let dead = local("127.0.0.1").local_addr().unwrap();
    // Only connected sockets are told of ICMP errors.
    let connected: Vec<_> = (0..10)
        .map(|_| {
            let socket = local("127.0.0.1");
            socket.connect(dead).unwrap();
            net.register(socket).unwrap()
        })
        .collect();
    let (plain, _) = register(&mut net, "127.0.0.1");
    let (_, alive) = register(&mut net, "127.0.0.1");
    let client = local("127.0.0.1");
    for round in 0..20u8 {
        client.send_to(&[round], alive).unwrap();
        let mut sent = false;
        poll_until(
            &mut net,
            &mut On(|d: Datagram<'_>, tx: &mut dyn Transmit| {
                for id in connected.iter().chain([&plain]) {
                    reply(tx, b"anyone?", *id, dead);
                }
                echo(d, tx);
                sent = true;
            }),
            |_, wake| wake.datagrams == 1,
        );
        let mut buf = [0; 8];
        assert_eq!(client.recv(&mut buf).unwrap(), 1);
        assert_eq!(buf[0], round);
    }
    send_now(&mut net, |_| {});
    let refused = net.stats().rx_errors.refused + net.stats().tx_drops.refused;
    assert!(refused >= 10, "the errors are counted: {:?}", net.stats());
    assert_eq!(net.stats().tx_drops.total(), net.stats().tx_drops.refused);
    // A peer that comes to life is heard on the same socket.
    let born = bind::udp(dead, &bind::Options::default()).unwrap();
    let first = net.unregister(connected[0]).unwrap();
    let to = first.local_addr().unwrap();
    net.register(first).unwrap();
    born.send_to(b"here", to).unwrap();
    let mut heard = false;
    poll_until(
        &mut net,
        &mut On(|d: Datagram<'_>, _: &mut dyn Transmit| heard = d.data == b"here" && d.from == dead),
        |_, wake| wake.datagrams == 1,
    );
    assert!(heard);
}
