//! What cannot be sent is counted by reason and stops nothing.

use super::*;

on_each!(each_reason_once);

fn each_reason_once(choice: IoChoice) {
    let mut net = backend(
        choice,
        &Config {
            max_datagram: 65_535,
            rx_buffers: 16,
            ..config()
        },
    );
    let (id, _) = register(&mut net, "127.0.0.1");
    let sink = local("127.0.0.1");
    let good = sink.local_addr().unwrap();
    send_now(&mut net, |tx| {
        let len = tx.slot().unwrap().len();
        assert_eq!(len, 65_535);
        // More than a UDP datagram can carry.
        tx.commit(len, id, good);
        reply(tx, b"a", id, "255.255.255.255:9".parse().unwrap());
        reply(tx, b"b", id, "[::1]:9".parse().unwrap());
        reply(tx, b"c", SocketId(77), good);
        reply(tx, b"fine", id, good);
    });
    send_now(&mut net, |_| {});
    let drops = net.stats().tx_drops;
    assert_eq!(
        (drops.too_long, drops.not_permitted, drops.no_socket),
        (1, 1, 1),
        "{drops:?}"
    );
    assert_eq!((drops.bad_address, drops.total()), (1, 4), "{drops:?}");
    let mut buf = [0; 8];
    assert_eq!(sink.recv(&mut buf).unwrap(), 4);
    assert_eq!(&buf[..4], b"fine");
}
