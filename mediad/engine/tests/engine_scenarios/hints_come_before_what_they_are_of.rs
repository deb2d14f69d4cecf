use std::iter::once;

use media_engine::command::SocketId;

use crate::world::{Graph, Party, SESSION, Speaker, World, peer, rtp_socket};

fn hinted(world: &World) -> Vec<SocketId> {
    std::mem::take(&mut *world.wire.hinted.borrow_mut())
}

#[test]
fn of_sockets_that_packets_leave_by() {
    let mut world = World::new();
    let parties = vec![Party::new("a", 0), Party::new("b", 1)];
    world.commit(SESSION, &Graph::of(parties, &[("a", "b"), ("b", "a")]));
    world
        .engine
        .prefetch([rtp_socket(0), rtp_socket(1)].into_iter(), &world.wire);
    assert_eq!(hinted(&world), [rtp_socket(1), rtp_socket(0)]);
    let nobody = SocketId(4_000_000);
    world.engine.prefetch(once(nobody), &world.wire);
    assert_eq!(hinted(&world), []);
}

#[test]
fn of_listeners_a_few_packets_ahead() {
    const LISTENERS: u32 = 30;
    let mut world = World::new();
    let names: Vec<&'static str> = (0..LISTENERS).map(|n| &*format!("l{n:03}").leak()).collect();
    let mut parties = vec![Party::new("speaker", 0)];
    parties.extend((1..).zip(&names).map(|(number, id)| Party::new(id, number)));
    let edges: Vec<_> = names.iter().map(|name| ("speaker", *name)).collect();
    world.commit(SESSION, &Graph::of(parties, &edges));
    world.receive(rtp_socket(0), peer(0), &Speaker::new(0xA).packet(&[0x80; 160]));
    let sent = world.sent_rtp();
    assert_eq!(sent.len(), LISTENERS as usize);
    let sent: Vec<SocketId> = sent.iter().map(|packet| packet.socket).collect();
    // The first by the datagram itself, the others by the packets before them.
    let hinted = hinted(&world);
    assert_eq!(hinted[0], sent[0]);
    assert_eq!(hinted[1..], sent[4..]);
}
