//! Every datagram comes back from the port it was sent to, on IPv4 and IPv6, whatever its bytes are.

use super::*;

on_each!(
    five_hundred_sockets,
    ipv6,
    dual_stack_peers_are_mapped,
    any_bytes_of_any_length,
    a_full_table_refuses
);

fn five_hundred_sockets(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let ports: Vec<_> = (0..500).map(|_| register(&mut net, "127.0.0.1")).collect();
    assert_eq!(net.socket_count(), 500);
    let client = local("127.0.0.1");
    for group in ports.chunks(100) {
        for (id, addr) in group {
            client.send_to(&id.0.to_be_bytes(), addr).unwrap();
        }
        let mut seen = 0;
        poll_until(&mut net, &mut On(echo), |_, wake| {
            seen += wake.datagrams;
            seen == group.len()
        });
        let mut buf = [0; 64];
        for _ in group {
            let (len, from) = client.recv_from(&mut buf).unwrap();
            let id = u32::from_be_bytes(buf[..len].try_into().unwrap());
            assert_eq!(
                ports[id as usize].1, from,
                "the echo leaves from the socket it arrived on"
            );
        }
    }
    assert_eq!((net.stats().rx_datagrams, net.stats().tx_datagrams), (500, 500));
    assert_eq!(net.stats().tx_drops.total(), 0);
}

fn ipv6(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let (_, addr) = register(&mut net, "[::1]");
    let client = local("[::1]");
    client.send_to(b"six", addr).unwrap();
    let me = client.local_addr().unwrap();
    poll_until(
        &mut net,
        &mut On(|d: Datagram<'_>, tx: &mut dyn Transmit| {
            assert_eq!(d.from, me);
            echo(d, tx);
        }),
        |_, wake| wake.datagrams == 1,
    );
    let mut buf = [0; 8];
    assert_eq!(client.recv_from(&mut buf).unwrap(), (3, addr));
}

fn dual_stack_peers_are_mapped(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let options = bind::Options {
        v6only: false,
        ..bind::Options::default()
    };
    let socket = bind::udp("[::]:0".parse().unwrap(), &options).unwrap();
    let port = socket.local_addr().unwrap().port();
    net.register(socket).unwrap();
    let client = local("127.0.0.1");
    client.send_to(b"four", ("127.0.0.1", port)).unwrap();
    poll_until(
        &mut net,
        &mut On(|d: Datagram<'_>, tx: &mut dyn Transmit| {
            assert!(matches!(d.from, SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some()));
            echo(d, tx);
        }),
        |_, wake| wake.datagrams == 1,
    );
    let mut buf = [0; 8];
    assert_eq!(client.recv_from(&mut buf).unwrap().0, 4);
}

fn any_bytes_of_any_length(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let (_, addr) = register(&mut net, "127.0.0.1");
    let client = local("127.0.0.1");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for length in (0..64).chain([171, 172, 1_400, 2_047, 2_048]) {
        let sent: Vec<u8> = (0..length).map(|_| noise() as u8).collect();
        client.send_to(&sent, addr).unwrap();
        poll_until(
            &mut net,
            &mut On(|d: Datagram<'_>, tx: &mut dyn Transmit| {
                assert_eq!(d.data, sent);
                assert!(!d.truncated);
                echo(d, tx);
            }),
            |_, wake| wake.datagrams == 1,
        );
        let mut buf = [0; 4_096];
        let len = client.recv(&mut buf).unwrap();
        assert_eq!(buf[..len], sent);
    }
}

fn a_full_table_refuses(choice: IoChoice) {
    let mut net = backend(
        choice,
        &Config {
            max_sockets: 2,
            ..config()
        },
    );
    register(&mut net, "127.0.0.1");
    let (second, _) = register(&mut net, "127.0.0.1");
    let error = net.register(local("127.0.0.1")).unwrap_err();
    assert!(error.to_string().contains("2 sockets are registered"), "{error}");
    assert!(net.unregister(second).is_some());
    assert!(net.unregister(second).is_none());
    register(&mut net, "127.0.0.1");
}
