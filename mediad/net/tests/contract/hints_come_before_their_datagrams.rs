//! What is told of the datagrams that follow is true: these, in this order, and none that is not given.

use super::*;

on_each!(in_their_order);

#[derive(Default)]
struct Order {
    hinted: std::collections::VecDeque<SocketId>,
    hints: usize,
    datagrams: usize,
}

impl Handler for Order {
    fn prefetch<T: Transmit>(&mut self, sockets: &[Option<SocketId>], tx: &mut T) {
        assert!(self.hinted.is_empty(), "the hints before came true");
        sockets.iter().flatten().for_each(|socket| tx.prefetch(*socket));
        tx.prefetch(SocketId(1_000_000));
        self.hinted.extend(sockets.iter().flatten());
        self.hints += 1;
    }

    fn datagram<T: Transmit>(&mut self, d: Datagram<'_>, _: &mut T) {
        if let Some(hinted) = self.hinted.pop_front() {
            assert_eq!(hinted, d.socket);
        } else {
            assert_eq!(self.hints, 0, "all are hinted at, or none");
        }
        self.datagrams += 1;
    }
}

fn in_their_order(choice: IoChoice) {
    let mut net = backend(choice, &config());
    let targets: Vec<SocketAddr> = (0..100).map(|_| register(&mut net, "127.0.0.1").1).collect();
    let client = local("127.0.0.1");
    for target in targets.iter().rev() {
        client.send_to(b"x", target).unwrap();
    }
    let mut order = Order::default();
    poll_until(&mut net, &mut order, |order, _| order.datagrams == 100);
    assert!(order.hinted.is_empty());
    let reads_many = choice == IoChoice::Shared;
    assert_eq!(order.hints > 0, reads_many, "{} hints", order.hints);
}
