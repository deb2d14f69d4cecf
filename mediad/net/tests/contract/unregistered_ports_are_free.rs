//! An unregistered socket leaves nothing behind: no datagrams under its old id, and a port that binds at once.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

on_each!(
    under_traffic,
    after_the_backend_is_gone,
    at_once_after_registering,
    a_successor_gets_nothing,
);

fn bind_again(addr: SocketAddr) -> UdpSocket {
    bind::udp(addr, &bind::Options::default()).expect("the port is free at once")
}

fn under_traffic(choice: IoChoice) {
    let mut net = backend(
        choice,
        &Config {
            rx_buffers: 64,
            ..config()
        },
    );
    let (noise_id, noise_addr) = register(&mut net, "127.0.0.1");
    let mut socket = local("127.0.0.1");
    let addr = socket.local_addr().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let stop = stop.clone();
        let client = local("127.0.0.1");
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for to in [addr, noise_addr] {
                    // A closed port in between answers with an ICMP error that does not matter here.
                    let _ = client.send_to(&to.port().to_be_bytes(), to);
                }
                std::thread::yield_now();
            }
        })
    };
    for _ in 0..30 {
        let id = net.register(socket).unwrap();
        let mut seen = 0;
        let mut check = On(|d: Datagram<'_>, _: &mut dyn Transmit| {
            let port = if d.socket == noise_id {
                noise_addr.port()
            } else {
                addr.port()
            };
            assert!(
                d.socket == noise_id || d.socket == id,
                "only registered sockets deliver"
            );
            assert_eq!(d.data, port.to_be_bytes());
            seen += usize::from(d.socket == id);
        });
        for _ in 0..2 {
            net.poll(Some(Instant::now() + PATIENCE), &mut check).unwrap();
        }
        drop(net.unregister(id).unwrap());
        socket = bind_again(addr);
        // The id goes to another port: what was under way for the old one must not appear under it.
        let (reused, _) = register(&mut net, "127.0.0.1");
        assert_eq!(reused, id);
        let mut nothing = On(|d: Datagram<'_>, _: &mut dyn Transmit| assert_ne!(d.socket, reused));
        net.poll(Some(Instant::now()), &mut nothing).unwrap();
        net.unregister(reused).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
}

fn after_the_backend_is_gone(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let addrs: Vec<_> = (0..100).map(|_| register(&mut net, "127.0.0.1").1).collect();
    let client = local("127.0.0.1");
    for addr in &addrs {
        client.send_to(b"x", addr).unwrap();
    }
    net.poll(Some(Instant::now()), &mut On(echo)).unwrap();
    drop(net);
    for addr in addrs {
        bind_again(addr);
    }
}

fn at_once_after_registering(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let (id, addr) = register(&mut net, "127.0.0.1");
    let socket = net.unregister(id).unwrap();
    assert_eq!(socket.local_addr().unwrap(), addr, "the socket itself comes back");
    local("127.0.0.1").send_to(b"mine", addr).unwrap();
    let mut buf = [0; 8];
    assert_eq!(socket.recv(&mut buf).unwrap(), 4, "and nobody else reads from it");
}

/// Datagrams that the backend holds already when their socket goes must not appear under its reused id.
fn a_successor_gets_nothing(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let (id, addr) = register(&mut net, "127.0.0.1");
    for _ in 0..3 {
        local("127.0.0.1").send_to(b"late", addr).unwrap();
    }
    drop(net.unregister(id).unwrap());
    let (successor, addr) = register(&mut net, "127.0.0.1");
    assert_eq!(successor, id);
    local("127.0.0.1").send_to(b"mine", addr).unwrap();
    let mut seen = Vec::new();
    let mut record = On(|d: Datagram<'_>, _: &mut dyn Transmit| seen.push(d.data.to_vec()));
    poll_until(&mut net, &mut record, |_, wake| wake.datagrams > 0);
    assert_eq!(seen, [b"mine"]);
}
